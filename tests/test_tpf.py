# Licensed under a 3-clause BSD style license - see LICENSE
"""The reader of target pixel files, on small simulated files that are bent into every shape."""

import gc
import gzip
import hashlib
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import TargetPixels, read_tpf, simulate_tpf
from kpsf.tpf.missions import MISSIONS

SHAPE = (5, 6)
N_CADENCES = 12


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a file, changed by another function on its HDUList."""
    def write(change=None, name='star.fits', **options):
        options = {'n_cadences': N_CADENCES, 'shape': SHAPE, 'drift': 0.1, 'seed': 5, **options}
        path = simulate_tpf(tmp_path / name, overwrite=True, **options)
        if change is not None:
            with fits.open(path, mode='update') as hdulist:
                change(hdulist)
        return path
    return write


def without_columns(*names):
    """Return a change that removes columns."""
    def change(hdulist):
        for name in names:
            hdulist[1].columns.del_col(name)
    return change


def with_column(name, value, rows=slice(None)):
    """Return a change that overwrites values of a column."""
    def change(hdulist):
        hdulist[1].data[name][rows] = value
    return change


def with_header(extension, **values):
    """Return a change that sets keywords, or deletes those with the value None."""
    def change(hdulist):
        for key, value in values.items():
            if value is None:
                hdulist[extension].header.remove(key.removeprefix('_'), ignore_missing=True)
            else:
                hdulist[extension].header[key.removeprefix('_')] = value
    return change


def chain(*changes):
    def change(hdulist):
        for each in changes:
            each(hdulist)
    return change


@pytest.mark.parametrize(('mission', 'fast', 'exposure'), [
    ('Kepler', False, 1625.3468), ('Kepler', True, 54.1782), ('K2', False, 1625.3468),
    ('K2', True, 54.1782), ('TESS', False, 95.04), ('TESS', True, 19.8),
])
def test_every_mission_and_cadence_has_its_live_exposure(make, mission, fast, exposure):
    tpf = read_tpf(make(mission=mission, fast=fast))
    assert isinstance(tpf, TargetPixels)
    assert tpf.mission == mission
    assert tpf.noise.exposure == pytest.approx(exposure, abs=1e-3)
    assert (tpf.n_cadences, tpf.shape) == (N_CADENCES, SHAPE)


@pytest.mark.parametrize(('mission', 'target'), [
    ('Kepler', 'KIC 123'), ('K2', 'EPIC 123'), ('TESS', 'TIC 123')])
def test_the_target_has_the_name_of_its_catalogue(make, mission, target):
    tpf = read_tpf(make(mission=mission, target=123))
    assert tpf.target == target
    assert tpf.meta['target_id'] == 123
    assert repr(tpf) == f'<TargetPixels {target} ({mission}): 12 cadences of 5 x 6 pixels>'


def test_data_are_those_of_the_file_in_native_byte_order(make):
    path = make()
    tpf = read_tpf(path)
    with fits.open(path) as hdulist:
        data = hdulist[1].data
        assert np.array_equal(tpf.flux, data['FLUX'])
        assert np.array_equal(tpf.flux_err, data['FLUX_ERR'])
        assert np.array_equal(tpf.background, data['FLUX_BKG'])
        assert np.array_equal(tpf.cadenceno, data['CADENCENO'])
        assert np.array_equal(tpf.aperture, hdulist['APERTURE'].data)
    arrays = [value for value in vars(tpf).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 8
    assert all(array.dtype.isnative for array in arrays)
    assert not any(array.flags.writeable for array in arrays)


def test_electrons_are_rates_with_the_background_in_times_the_effective_exposure(make):
    tpf = read_tpf(make(background=300.0, read_noise=90.0))
    expected = (tpf.flux.astype(float) + tpf.background) * tpf.noise.effective_exposure
    assert tpf.electrons == pytest.approx(expected, rel=1e-12)
    assert tpf.electrons.dtype == np.float64
    assert tpf.background_electrons == pytest.approx(300.0 * tpf.noise.effective_exposure)
    assert tpf.read_variance == pytest.approx(270 * 90.0**2, rel=1e-3)


@pytest.mark.parametrize(('mission', 'day', 'first'), [
    ('Kepler', 2454833, 735.3636727), ('TESS', 2457000, 1325.2952598)])
def test_times_are_barycentric_julian_days_in_tdb(make, mission, day, first):
    tpf = read_tpf(make(mission=mission))
    assert tpf.time.scale == 'tdb'
    assert tpf.time.format == 'jd'
    assert tpf.time.shape == (N_CADENCES,)
    # Split so that a millisecond shows.
    assert (tpf.time[0].jd1 - day) + tpf.time[0].jd2 == pytest.approx(first, abs=1e-9)


def test_a_fraction_of_the_reference_day_counts(make):
    plain = read_tpf(make())
    shifted = read_tpf(make(with_header(1, BJDREFF=0.25)))
    assert (shifted.time - plain.time).to_value('day') == pytest.approx(0.25)


@pytest.mark.parametrize(('mission', 'day'), [('K2', 2454833), ('TESS', 2457000)])
def test_without_a_reference_day_that_of_the_mission_counts(make, mission, day):
    given = read_tpf(make(mission=mission))
    implied = read_tpf(make(with_header(1, BJDREFI=None, BJDREFF=None), mission=mission))
    assert np.array_equal(given.time.jd, implied.time.jd)


@pytest.mark.parametrize(('version', 'cadence', 'offset'), [
    ('3.0', 57138, [66.184, 66.184, 67.184]), ('4.0', 30000, [66.184] * 3),
    ('2.1', 60000, [67.184] * 3), ('5.0', 30000, [0.0] * 3), ('6.1', 30000, [0.0] * 3),
    ('', 30000, [0.0] * 3),
])
def test_times_of_early_kepler_files_are_moved_from_utc_to_tdb(make, version, cadence, offset):
    numbers = with_column('CADENCENO', cadence + np.arange(3))
    plain = read_tpf(make(numbers, n_cadences=3))
    tpf = read_tpf(make(chain(numbers, with_header(0, FILEVER=version)), n_cadences=3))
    assert (tpf.time - plain.time).to_value('s') == pytest.approx(offset, abs=1e-4)
    assert tpf.meta['time_offset'] == pytest.approx(np.median(offset))


def test_the_leap_second_has_its_own_number_in_short_cadence(make):
    change = chain(with_header(0, FILEVER='3.0'),
                   with_column('CADENCENO', 1702662 + np.arange(3)))
    plain = read_tpf(make(n_cadences=3, fast=True))
    tpf = read_tpf(make(change, n_cadences=3, fast=True))
    assert (tpf.time - plain.time).to_value('s') == pytest.approx([66.184, 66.184, 67.184],
                                                                  abs=1e-4)


@pytest.mark.parametrize(('mission', 'timecorr'), [('Kepler', np.nan), ('K2', 0), ('TESS', 0)])
def test_repaired_files_and_other_missions_keep_their_times(make, mission, timecorr):
    change = chain(with_header(0, FILEVER='3.0'), with_column('TIMECORR', timecorr))
    plain, tpf = read_tpf(make(mission=mission)), read_tpf(make(change, mission=mission))
    assert np.array_equal(tpf.time.jd, plain.time.jd)


@pytest.mark.parametrize('mission', ['Kepler', 'K2'])
def test_an_early_file_without_mission_keyword_is_recognised(make, mission):
    tpf = read_tpf(make(with_header(0, MISSION=None), mission=mission))
    assert tpf.mission == mission


def test_quality_names_stand_for_the_usual_bits():
    kepler = {'none': 0, 'default': 1130799, 'hard': 1664431, 'hardest': 2096639}
    tess = {'none': 0, 'default': 17087, 'hard': 24319, 'hardest': 65535}
    masks = {name: mission.quality_masks for name, mission in MISSIONS.items()}
    assert masks == {'Kepler': kepler, 'K2': kepler, 'TESS': tess}


@pytest.mark.parametrize(('mission', 'quality', 'kept'), [
    ('Kepler', 'none', [0, 16, 128, 2048, 32768, 1 << 20]),
    ('Kepler', 'default', [0, 16, 128, 2048, 32768]),
    ('K2', 'hard', [0, 16, 2048, 32768]),
    ('K2', 'hardest', [0]),
    ('Kepler', 128 | 16, [0, 2048, 32768, 1 << 20]),
    ('Kepler', np.int64(16), [0, 128, 2048, 32768, 1 << 20]),
    ('Kepler', 0, [0, 16, 128, 2048, 32768, 1 << 20]),
    ('TESS', 'default', [0, 2048, 32768, 1 << 20]),
    ('TESS', 'hard', [0, 32768, 1 << 20]),
    ('TESS', 'hardest', [0, 1 << 20]),
])
def test_cadences_with_unwanted_bits_are_dropped(make, mission, quality, kept):
    bits = [0, 16, 128, 2048, 32768, 1 << 20]
    path = make(mission=mission, n_cadences=6, quality=bits)
    tpf = read_tpf(path, quality=quality)
    assert tpf.quality.tolist() == kept
    assert tpf.meta['n_rejected'] == 6 - len(kept)
    assert tpf.meta['n_cadences_file'] == 6
    first = read_tpf(path, quality='none').cadenceno[0]
    assert (tpf.cadenceno - first).tolist() == [bits.index(bit) for bit in kept]
    assert len(tpf.time) == len(tpf.flux) == len(tpf.pos_corr) == len(kept)


def test_a_file_without_quality_keeps_all_cadences(make):
    tpf = read_tpf(make(without_columns('QUALITY')))
    assert tpf.n_cadences == N_CADENCES
    assert not tpf.quality.any()


@pytest.mark.parametrize(('quality', 'error'), [
    ('good', ValueError), (-1, ValueError), (None, TypeError), (True, TypeError),
    (1.0, TypeError), ([1], TypeError),
])
def test_an_unknown_quality_says_what_there_is(make, quality, error):
    with pytest.raises(error, match="one of 'none', 'default', 'hard', 'hardest' or an integer"):
        read_tpf(make(), quality=quality)


def test_cadences_without_a_time_are_dropped(make):
    tpf = read_tpf(make(with_column('TIME', np.nan, [2, 5])), quality='none')
    assert tpf.n_cadences == N_CADENCES - 2
    assert tpf.meta['n_without_time'] == 2
    assert np.isfinite(tpf.time.jd).all()


def test_rejecting_all_cadences_says_how_many_and_what_to_pass(make):
    change = chain(with_column('QUALITY', 1), with_column('TIME', np.nan, [3]))
    with pytest.raises(ValueError, match=r"passes quality='hard'.* of the 12 cadences of "
                                         r".*star\.fits the quality flags reject 12 and 1 have "
                                         r"no time: pass quality='none' or other bits"):
        read_tpf(make(change), quality='hard')


@pytest.mark.parametrize('change', [
    with_column('FLUX_BKG', np.nan), with_column('FLUX_BKG', 0.0), without_columns('FLUX_BKG')])
def test_an_unknown_background_is_zero_and_said_to_be_unknown(make, change):
    tpf = read_tpf(make(change))
    assert not tpf.has_background
    assert tpf.background.shape == tpf.flux.shape
    assert not tpf.background.any()
    assert tpf.good_pixels.all()
    assert np.array_equal(tpf.total_rate, tpf.flux)


def test_pixels_without_background_are_not_good_where_others_have_one(make):
    tpf = read_tpf(make(with_column('FLUX_BKG', np.nan, (slice(None), 1, 2))))
    assert tpf.has_background
    assert np.argwhere(~tpf.good_pixels[0]).tolist() == [[1, 2]]
    assert np.isnan(tpf.electrons[:, 1, 2]).all()


@pytest.mark.parametrize('change', [
    with_column('POS_CORR1', np.nan), without_columns('POS_CORR1', 'POS_CORR2'),
    chain(with_column('POS_CORR1', 0.0), with_column('POS_CORR2', 0.0))])
def test_an_unknown_motion_is_nan(make, change):
    tpf = read_tpf(make(change))
    assert not tpf.has_pos_corr
    assert tpf.pos_corr.shape == (N_CADENCES, 2)
    assert np.isnan(tpf.pos_corr).all()
    assert tpf.meta['pos_corr_median'] is None


def test_the_motion_is_relative_to_its_median_without_outliers(make):
    x, y = -1.5 + 0.1 * np.arange(N_CADENCES), np.full(N_CADENCES, -1.2)
    x[3], y[4], x[5] = -294.0, 7.0, np.nan
    tpf = read_tpf(make(chain(with_column('POS_CORR1', x), with_column('POS_CORR2', y))))
    assert tpf.has_pos_corr
    unknown = np.isnan(tpf.pos_corr)
    assert np.flatnonzero(unknown.any(axis=1)).tolist() == [3, 4, 5]
    assert unknown[[3, 4, 5]].all()
    good = [0, 1, 2, *range(6, N_CADENCES)]
    assert np.ptp(tpf.pos_corr[good, 0] - x[good]) == pytest.approx(0.0, abs=1e-6)
    assert abs(np.median(tpf.pos_corr[good, 0])) < 0.15
    assert tpf.pos_corr[good, 1] == pytest.approx(0.0, abs=1e-6)
    assert tpf.meta['pos_corr_median'][1] == pytest.approx(-1.2, abs=1e-6)


@pytest.mark.parametrize('change', [
    without_columns('FLUX_ERR'), with_column('FLUX_ERR', np.nan), with_column('FLUX_ERR', 0.0)])
def test_without_uncertainties_the_nominal_read_noise_is_assumed(make, change):
    path = make(change, read_noise=80.0)
    with pytest.warns(AstropyUserWarning, match='FLUX_ERR'):
        tpf = read_tpf(path)
    assert tpf.noise.variance_slope == 1.0
    assert tpf.read_variance == pytest.approx(270 * 80.0**2)
    assert tpf.flux_err.shape == tpf.flux.shape


@pytest.mark.parametrize(('column', 'read_noise'), [
    (45, 1.0), (556, 1.0), (557, 2.0), (1069, 3.0), (1581, 4.0), (2092, 4.0)])
def test_tess_read_noise_is_that_of_the_output_that_reads_the_column(make, column, read_noise):
    outputs = {'READNOIA': 1.0, 'READNOIB': 2.0, 'READNOIC': 3.0, 'READNOID': 4.0}
    tpf = read_tpf(make(with_header(1, **outputs), mission='TESS', column=column))
    assert tpf.meta['read_noise'] == read_noise


def make_cutout(hdulist):
    """Turn a simulated file into one as astrocut writes it."""
    primary, table, aperture = hdulist[0], hdulist[1], hdulist['APERTURE']
    primary.header.update(ORIGIN='STScI/MAST', CREATOR='astrocut', OBJECT='', TESSMAG=0.0)
    for hdu in (primary, table, aperture):
        hdu.header['TICID'] = fits.card.Undefined()
        hdu.header['OBJECT'] = ''
    for name in ('CADENCENO', 'FLUX_BKG', 'FLUX_BKG_ERR', 'POS_CORR1', 'POS_CORR2'):
        table.data[name][:] = 0
    aperture.data[:] = 1
    # 20.3 arcsec per pixel: 1.5 rows above the middle, which the reference pixel keeps.
    for hdu in (primary, table):
        hdu.header['DEC_OBJ'] = table.header['2CRVL5'] + 1.5 * 20.3 / 3600
    table.header['EXPOSURE'] = 1425.6 / 86400
    table.header['NREADOUT'], table.header['NUM_FRM'] = 720, 900


def test_a_cutout_of_full_frame_images_is_read(make):
    path = make(make_cutout, mission='TESS', stars=[(1.5e4, 2.5, 2.0)])
    tpf = read_tpf(path)
    assert tpf.mission == 'TESS'
    assert tpf.target == 'RA 90.00000, Dec -66.49154'
    assert tpf.meta['is_cutout']
    assert tpf.meta['magnitude'] is None
    assert not tpf.has_background
    assert not tpf.has_pos_corr
    assert tpf.cadenceno.tolist() == list(range(N_CADENCES))
    assert tpf.noise.exposure == pytest.approx(1425.6)
    assert tpf.target_position == pytest.approx((2.5, 3.5), abs=1e-3)
    with pytest.raises(ValueError, match='needs a pipeline aperture.*RA 90'):
        tpf.aperture_flux()


def test_a_cutout_that_names_no_position_is_centred(make):
    change = chain(make_cutout, with_header(0, RA_OBJ=''), with_header(1, RA_OBJ=''))
    tpf = read_tpf(make(change, mission='TESS', stars=[(1.5e4, 2.5, 2.0)]))
    assert tpf.target_position == pytest.approx((2.5, 2.0))
    assert tpf.target == 'unknown'


def test_a_cutout_without_sky_coordinates_falls_back_on_its_reference_pixel(make):
    change = chain(make_cutout, with_header('APERTURE', CTYPE1=None, CTYPE2=None))
    tpf = read_tpf(make(change, mission='TESS', stars=[(1.5e4, 2.5, 2.0)]))
    assert tpf.target_position == pytest.approx((2.5, 2.0))


@pytest.mark.parametrize(('missing', 'extra', 'exposure', 'origin'), [
    ((), {}, 1625.3468, 'INT_TIME * NUM_FRM'),
    (('INT_TIME',), {}, 1625.3468, 'TIMEDEL * DEADC'),
    (('NUM_FRM', 'TIMEDEL'), {}, 1625.3468, 'OBSMODE'),
    (('INT_TIME', 'DEADC'), {'OBSMODE': 'short cadence'}, 54.1782, 'OBSMODE'),
])
def test_the_exposure_comes_from_what_the_header_has(make, missing, extra, exposure, origin):
    change = chain(with_header(1, **dict.fromkeys(missing)), with_header(0, **extra))
    tpf = read_tpf(make(change))
    assert tpf.noise.exposure == pytest.approx(exposure, rel=1e-6)
    assert tpf.meta['exposure_from'] == origin


def test_the_exposure_of_a_cutout_may_stand_by_itself(make):
    change = chain(make_cutout, with_header(1, INT_TIME=None, DEADC=None))
    tpf = read_tpf(make(change, mission='TESS'))
    assert tpf.noise.exposure == pytest.approx(1425.6)
    assert tpf.meta['exposure_from'] == 'EXPOSURE'


def test_an_unknown_exposure_says_which_keywords_are_needed(make):
    change = with_header(1, INT_TIME='', TIMEDEL=0.0)
    with pytest.raises(ValueError, match='neither INT_TIME and NREADOUT nor TIMEDEL and DEADC'):
        read_tpf(make(change, mission='TESS'))


def test_detector_and_target_position_are_zero_based_pixel_centres(make):
    tpf = read_tpf(make(stars=[(1e5, 2.25, 1.5)], column=227, row=127))
    assert (tpf.column, tpf.row) == (227, 127)
    assert isinstance(tpf.column, int)
    assert tpf.target_position == pytest.approx((2.25, 1.5))
    assert tpf.meta['target_position_from'] == '1CRPX5, 2CRPX5'


def test_another_reference_pixel_moves_the_corner(make):
    tpf = read_tpf(make(with_header(1, _1CRP5P=3.0), column=227))
    assert tpf.column == 225


def test_a_file_without_detector_position_counts_from_zero_with_a_warning(make):
    path = make(with_header(1, _2CRV5P=None))
    with pytest.warns(AstropyUserWarning, match='has no keyword 2CRV5P'):
        tpf = read_tpf(path)
    assert (tpf.column, tpf.row) == (0, 0)


def test_a_file_without_target_position_takes_the_centre(make):
    tpf = read_tpf(make(with_header(1, _1CRPX5='')))
    assert tpf.target_position == (2.5, 2.0)
    assert tpf.meta['target_position_from'] == 'centre of the stamp'


def test_pixels_that_were_not_collected_are_not_good(make):
    def change(hdulist):
        hdulist['APERTURE'].data[0, 1] = 0
        hdulist['APERTURE'].data[3, 3] = 257
    tpf = read_tpf(make(change))
    assert np.argwhere(~tpf.good_pixels.all(axis=0)).tolist() == [[0, 1]]


def test_nan_pixels_and_cadences_stay_and_are_not_good(make):
    change = chain(with_column('FLUX', np.nan, 3), with_column('FLUX', np.nan, (4, 1, 1)))
    tpf = read_tpf(make(change))
    assert tpf.n_cadences == N_CADENCES
    assert not tpf.good_pixels[3].any()
    assert np.argwhere(~tpf.good_pixels[4]).tolist() == [[1, 1]]
    assert np.isnan(tpf.aperture_flux()[3])
    assert np.isfinite(tpf.noise.variance_slope)


def test_a_file_without_aperture_has_all_pixels_collected(make):
    def change(hdulist):
        del hdulist['APERTURE']
        del hdulist[0].header['NEXTEND']
    tpf = read_tpf(make(change))
    assert (tpf.aperture == 1).all()
    assert tpf.good_pixels.all()
    assert not tpf.pipeline_aperture.any()


def test_aperture_flux_sums_rates_over_the_optimal_pixels(make):
    tpf = read_tpf(make())
    inside = (tpf.aperture & 2) > 0
    assert 1 < inside.sum() < inside.size
    assert np.array_equal(tpf.pipeline_aperture, inside)
    expected = [cadence[inside].astype(float).sum() for cadence in tpf.flux]
    assert tpf.aperture_flux() == pytest.approx(expected, rel=1e-12)


def test_empty_and_undefined_keywords_are_none(make):
    change = chain(with_header(0, CHANNEL='', QUARTER=fits.card.Undefined(), KEPMAG='NaN',
                               KEPLERID='name', OBJECT='my star'),
                   with_header(1, KEPLERID='name', OBJECT=''))
    tpf = read_tpf(make(change))
    for name in ('channel', 'quarter', 'magnitude', 'target_id', 'sector', 'campaign'):
        assert tpf.meta[name] is None, name
    assert tpf.target == 'my star'


def test_identifiers_are_in_meta(make):
    path = make(magnitude=11.5, header={'CHANNEL': 56, 'MODULE': 16, 'OUTPUT': 4, 'QUARTER': 9})
    meta = read_tpf(path).meta
    expected = {'channel': 56, 'module': 16, 'output': 4, 'quarter': 9, 'magnitude': 11.5,
                'obsmode': 'long cadence', 'filename': str(path), 'n_reads': 270,
                'quality_mask': 1130799, 'background_subtracted': True, 'is_cutout': False}
    assert expected.items() <= meta.items()


def test_the_reader_fits_the_noise_that_the_file_has(make):
    tpf = read_tpf(make())
    variance = 1.3 * tpf.total_rate / tpf.noise.exposure + 1.7
    change = with_column('FLUX_ERR', np.sqrt(variance))
    noise = read_tpf(make(change)).noise
    assert noise.variance_slope == pytest.approx(1.3, rel=1e-4)
    assert noise.read_variance_rate == pytest.approx(1.7, rel=1e-4)


def test_the_noise_can_be_fitted_again(make):
    tpf = read_tpf(make())
    assert type(tpf.noise).from_tpf(tpf) == tpf.noise


def test_rates_below_zero_beyond_read_noise_are_kept_and_warned_about(make):
    plain = read_tpf(make(background=100.0))
    path = make(chain(with_column('FLUX', plain.flux - 150.0), without_columns('FLUX_BKG')),
                background=100.0)
    with pytest.warns(AstropyUserWarning, match='>= 0 up to read noise, but [0-9]+ of 360'):
        tpf = read_tpf(path)
    assert np.array_equal(tpf.flux, plain.flux - 150.0)
    assert tpf.electrons.min() < 0
    assert tpf.good_pixels.all()


def test_read_noise_may_make_faint_pixels_negative_without_a_warning(make):
    path = make(background=0.0, stars=[(50.0, 2.5, 2.0)], read_noise=90.0, n_cadences=100)
    tpf = read_tpf(path)
    assert tpf.electrons.min() < 0


def test_a_compressed_file_gives_the_same(make):
    plain, packed = read_tpf(make()), read_tpf(make(name='star.fits.gz'))
    assert np.array_equal(plain.electrons, packed.electrons)
    assert np.array_equal(plain.time.jd, packed.time.jd)


def test_an_open_hdulist_is_read_and_stays_open(make):
    path = make()
    with fits.open(path) as hdulist:
        tpf = read_tpf(hdulist)
        assert not hdulist._file.closed
        assert hdulist[1].data['FLUX'].shape == tpf.flux.shape
    assert tpf.meta['filename'] == str(path)
    assert np.array_equal(tpf.flux, read_tpf(path).flux)


def test_an_hdulist_in_memory_is_read(make):
    with fits.open(make()) as hdulist:
        copy = fits.HDUList([hdu.copy() for hdu in hdulist])
        tpf = read_tpf(copy)
    assert tpf.meta['filename'] == 'the HDUList'
    assert tpf.n_cadences == N_CADENCES


def test_an_object_like_lightkurves_is_read_without_its_quality_selection(make):
    class TargetPixelFile:
        def __init__(self, path):
            self.path = path
            self.hdu = fits.open(path)
            self.quality_mask = np.zeros(N_CADENCES, bool)

    path = make()
    wrapper = TargetPixelFile(path)
    tpf = read_tpf(wrapper)
    wrapper.hdu.close()
    assert tpf.n_cadences == N_CADENCES
    assert tpf.meta['filename'] == str(path)


def test_slices_of_lightkurves_objects_have_no_name_but_that_of_the_file(make):
    class Slice:
        def __init__(self, hdulist):
            # As lightkurve has it: no path, but the HDUs in its place.
            self.path = self.hdu = hdulist

    with fits.open(make()) as hdulist:
        tpf = read_tpf(Slice(fits.HDUList([hdu.copy() for hdu in hdulist])))
    assert tpf.meta['filename'] == 'the HDUList'


def test_the_checksum_is_that_of_the_file_where_the_pixels_are_from_one(make):
    path = make()
    assert read_tpf(path).meta['checksum'] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with fits.open(path) as hdulist:
        hdulist[1].data['FLUX'][:] += 1.0
        assert read_tpf(hdulist).meta['checksum'] is None


@pytest.mark.parametrize('kind', [str, Path, os.fspath])
def test_paths_of_any_kind_are_read(make, kind):
    assert read_tpf(kind(make())).n_cadences == N_CADENCES


@pytest.mark.parametrize('wrong', [None, 5, np.zeros(3), b'star.fits', ['star.fits']])
def test_something_else_than_a_file_says_what_is_needed(wrong):
    with pytest.raises(TypeError, match='needs a path, an open HDUList or a lightkurve'):
        read_tpf(wrong)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no file .*none\.fits: check the name'):
        read_tpf(tmp_path / 'none.fits')


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match='is needed, but .* is a folder: pass a file in it'):
        read_tpf(tmp_path)


@pytest.mark.parametrize('content', [b'', b'\x00' * 100, b'#!/bin/sh\n'])
def test_a_file_that_is_not_fits_is_named(tmp_path, content):
    path = tmp_path / 'star.fits'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'star\.fits (is empty|begins with .*) and is no FITS'):
        read_tpf(path)


@pytest.mark.parametrize('name', ['star.fits', 'star.fits.gz'])
@pytest.mark.parametrize('fraction', [0.001, 0.05, 0.2, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_a_truncated_file_is_damaged(make, name, fraction):
    path = make(name=name)
    content = path.read_bytes()
    path.write_bytes(content[:int(fraction * len(content))])
    with pytest.raises(ValueError, match=r'star\.fits(\.gz)? must be a complete FITS file.*'
                                         'truncated or damaged .*download it again'):
        read_tpf(path)


def test_damage_inside_a_compressed_file_is_found(make):
    path = make(name='star.fits.gz', n_cadences=100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match='truncated or damaged'):
        read_tpf(path)


def test_a_fits_file_without_pixels_lists_what_it_has(tmp_path):
    path = tmp_path / 'prf.fits'
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 3)), name='PRF')]).writeto(path)
    with pytest.raises(ValueError, match=r'columns TIME and FLUX.*extensions of .*prf\.fits are '
                                         'PRIMARY, PRF'):
        read_tpf(path)


def test_a_light_curve_is_no_target_pixel_file(tmp_path):
    path = tmp_path / 'light_curve.fits'
    primary = fits.PrimaryHDU()
    primary.header['TELESCOP'] = 'TESS'
    columns = [fits.Column(name, 'D', array=np.arange(5.0)) for name in ('TIME', 'FLUX')]
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(path)
    with pytest.raises(ValueError, match=r'needs images in the column FLUX.*shape \(\)'):
        read_tpf(path)


@pytest.mark.parametrize('unit', ['e-', 'count', 'adu/s'])
def test_pixels_in_other_units_are_refused(make, unit):
    with pytest.raises(ValueError, match=f"needs FLUX in e-/s, but that of .* is in '{unit}'"):
        read_tpf(make(with_header(1, TUNIT5=unit)))


@pytest.mark.parametrize('unit', ['electron / s', 'e/s', None])
def test_other_spellings_of_the_unit_are_accepted(make, unit):
    assert read_tpf(make(with_header(1, TUNIT5=unit))).n_cadences == N_CADENCES


@pytest.mark.parametrize('telescope', ['HST', None])
def test_another_telescope_is_refused(make, telescope):
    change = chain(with_header(0, TELESCOP=telescope), with_header(1, TELESCOP=telescope))
    with pytest.raises(ValueError, match="Kepler, K2 or TESS, but TELESCOP .* is '(HST|)'"):
        read_tpf(make(change))


def test_columns_of_different_shape_are_refused(make):
    def change(hdulist):
        table = hdulist[1]
        columns = [column for column in table.columns if column.name != 'FLUX_ERR']
        columns.append(fits.Column('FLUX_ERR', '4E', dim='(2,2)', unit='e-/s',
                                   array=np.ones((N_CADENCES, 2, 2))))
        hdulist[1] = fits.BinTableHDU.from_columns(columns, header=table.header)
    with pytest.raises(ValueError, match=r'FLUX_ERR must have the shape of FLUX, \(5, 6\), but'):
        read_tpf(make(change))


def open_files(folder):
    """Return the files below a folder that this process holds open."""
    links = Path('/proc/self/fd')
    found = []
    for link in links.iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:
            continue
    return [name for name in found if name.startswith(str(folder))]


@pytest.mark.skipif(not Path('/proc/self/fd').is_dir(), reason='needs /proc')
@pytest.mark.parametrize('name', ['star.fits', 'star.fits.gz'])
@pytest.mark.parametrize('fraction', [0.2, 0.9, 1.0])
def test_no_file_stays_open(make, tmp_path, name, fraction):
    path = make(name=name)
    content = path.read_bytes()
    path.write_bytes(content[:int(fraction * len(content))])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        if fraction < 1:
            with pytest.raises(ValueError):
                read_tpf(path)
        else:
            tpf = read_tpf(path)
            assert tpf.flux.base is None
        gc.collect()
    assert open_files(tmp_path) == []


def test_pixels_can_be_pickled_and_are_immutable(make):
    tpf = read_tpf(make())
    copy = pickle.loads(pickle.dumps(tpf))
    assert np.array_equal(copy.electrons, tpf.electrons)
    assert copy.noise == tpf.noise
    with pytest.raises(AttributeError):
        tpf.flux = None


def test_a_single_cadence_is_enough(make):
    tpf = read_tpf(make(n_cadences=1))
    assert tpf.n_cadences == 1
    assert tpf.cadenceno.shape == (1,)


def test_recompressed_files_need_no_gz_in_their_name(make, tmp_path):
    path = tmp_path / 'packed'
    with gzip.open(path, 'wb') as file:
        file.write(make().read_bytes())
    assert read_tpf(path).n_cadences == N_CADENCES
