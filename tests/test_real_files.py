# Licensed under a 3-clause BSD style license - see LICENSE
"""The reader on real files of the archive, where KPSF_DATA names a folder of them."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from kpsf import extract_light_curve, read_tpf

TABBY = 'kepler/kplr008462852-q08-first100.fits'
KEPLER62 = 'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz'
K2_BULGE = 'k2/ktwo221312395-c91_lpd-targ.fits.gz'
TESS = 'tess/tess25155310-s01-first-cadences.fits.gz'
CUTOUT = 'tess/tess-s0001-4-2-pimen_6x6_astrocut.fits'
Q12 = [f'kepler_q12_ch04/kplr0126{number}-q12-500cadences.fits'
       for number in ('44714', '44769', '44774', '44778', '44822')]
SYNTHETIC = [f'k2/synthetic-k2-{kind}.targ.fits.gz' for kind in ('flat', 'sinusoid')]
GOOD = [TABBY, KEPLER62, *Q12, K2_BULGE, *SYNTHETIC, TESS, CUTOUT, 'corrupt/tpf-with-nans.fits']

# Slope and read variance in (e-/s)^2 by an independent straight-line fit to FLUX_ERR^2 that
# weights by its inverse; exposure in seconds; kept cadences.
NOISE = {
    TABBY: (1.283, 1.158, 1625.35, 99),
    KEPLER62: (1.109, 1.022, 1625.35, 4504),
    Q12[0]: (1.248, 2.038, 1625.35, 500),
    Q12[1]: (1.240, 2.041, 1625.35, 500),
    Q12[2]: (1.255, 2.028, 1625.35, 500),
    Q12[3]: (1.254, 2.032, 1625.35, 500),
    Q12[4]: (1.263, 2.016, 1625.35, 500),
    K2_BULGE: (1.311, 1.539, 1625.35, 1233),
    TESS: (1.061, 0.616, 95.04, 4),
    CUTOUT: (1.060, 0.038, 1425.6, 50),
}


@pytest.fixture(scope='module')
def read(kpsf_data):
    """Return a function that reads a file once and turns every warning into an error."""
    known = {}

    def get(name):
        if name not in known:
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                known[name] = read_tpf(kpsf_data / name)
        return known[name]
    return get


@pytest.mark.parametrize('name', GOOD)
def test_every_good_file_is_read_without_a_warning(read, name):
    tpf = read(name)
    n, (ny, nx) = tpf.n_cadences, tpf.shape
    for array in (tpf.flux, tpf.flux_err, tpf.background, tpf.good_pixels):
        assert array.shape == (n, ny, nx)
    for array in (tpf.time, tpf.cadenceno, tpf.quality):
        assert array.shape == (n,)
    assert np.all(np.diff(tpf.time.jd) > 0)
    assert np.all(np.diff(tpf.cadenceno) > 0)
    electrons = tpf.electrons[tpf.good_pixels]
    assert np.isfinite(electrons).all()
    assert electrons.min() >= -5 * np.sqrt(tpf.read_variance)


@pytest.mark.parametrize('name', list(NOISE))
def test_exposure_and_noise_are_as_measured_otherwise(read, name):
    slope, read_variance, exposure, n_cadences = NOISE[name]
    tpf = read(name)
    assert tpf.n_cadences == n_cadences
    assert tpf.noise.exposure == pytest.approx(exposure, abs=0.01)
    assert tpf.noise.variance_slope == pytest.approx(slope, rel=0.01)
    assert tpf.noise.read_variance_rate == pytest.approx(read_variance, rel=0.01, abs=1e-3)


@pytest.mark.parametrize('name', [TABBY, KEPLER62, *Q12, K2_BULGE, TESS])
def test_the_noise_model_describes_the_uncertainties_of_the_file(read, name):
    tpf = read(name)
    variance = tpf.noise.variance_slope * tpf.total_rate / tpf.noise.exposure
    variance += tpf.noise.read_variance_rate
    ratio = (tpf.flux_err**2 / variance)[tpf.good_pixels]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.005)
    assert np.percentile(np.abs(ratio - 1), 99) < 0.10


@pytest.mark.parametrize('name', [TABBY, Q12[0], Q12[3]])
def test_effective_electrons_scatter_as_their_mean_and_read_noise_say(read, name):
    tpf = read(name)
    electrons = tpf.electrons[:, tpf.good_pixels.all(axis=0)]
    # Stellar pixels follow the motion; the faintest third does so least. Flagged cadences have
    # other noise, such as cosmic rays.
    level = np.median(electrons, axis=0)
    faint = level < np.percentile(level, 33)
    steps = np.diff(electrons[tpf.quality == 0][:, faint], axis=0) / np.sqrt(2)
    scatter = 1.4826 * np.median(np.abs(steps), axis=0)
    expected = np.sqrt(level[faint] + tpf.read_variance)
    assert np.median(scatter / expected) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(('name', 'mission', 'target', 'column', 'row', 'position'), [
    (TABBY, 'Kepler', 'KIC 8462852', 227, 127, (4.959, 4.304)),
    (KEPLER62, 'Kepler', 'KIC 9002278', 290, 228, (3.026, 1.508)),
    (Q12[0], 'Kepler', 'KIC 12644714', 878, 232, (2.865, 2.383)),
    (Q12[1], 'Kepler', 'KIC 12644769', 858, 244, (3.951, 3.456)),
    (Q12[4], 'Kepler', 'KIC 12644822', 852, 272, (3.209, 1.973)),
    (K2_BULGE, 'K2', 'EPIC 221312395', 84, 52, (5.639, 4.946)),
    (TESS, 'TESS', 'TIC 25155310', 1619, 389, (5.130, 4.271)),
    (CUTOUT, 'TESS', 'RA 84.29119, Dec -80.46917', 1628, 257, (3.160, 2.823)),
    (SYNTHETIC[0], 'K2', 'simulated_flat_star', 22, 121, (3.0, 3.0)),
])
def test_targets_are_named_and_placed(read, name, mission, target, column, row, position):
    tpf = read(name)
    assert (tpf.mission, tpf.target) == (mission, target)
    assert (tpf.column, tpf.row) == (column, row)
    assert tpf.target_position == pytest.approx(position, abs=1e-3)


@pytest.mark.parametrize('name', [TABBY, KEPLER62, Q12[1], Q12[3], Q12[4], TESS])
def test_the_header_puts_the_target_where_its_light_is(read, name):
    tpf = read(name)
    y, x = np.nonzero(tpf.pipeline_aperture)
    flux = np.nanmedian(tpf.flux[:, y, x], axis=0)
    centroid = np.array([flux @ x, flux @ y]) / flux.sum()
    predicted = np.array(tpf.target_position) + tpf.meta['pos_corr_median']
    # The flux in a few pixels is pulled towards their middle.
    assert np.abs(centroid - predicted).max() < 0.35


@pytest.mark.parametrize(('name', 'has_background', 'has_motion'), [
    (TABBY, True, True), (KEPLER62, True, True), (Q12[2], True, True), (K2_BULGE, False, False),
    (SYNTHETIC[0], False, True), (TESS, True, True), (CUTOUT, False, False)])
def test_the_reader_knows_what_the_file_knows(read, name, has_background, has_motion):
    tpf = read(name)
    assert (tpf.has_background, tpf.has_pos_corr) == (has_background, has_motion)
    assert tpf.background.any() == has_background
    assert np.isfinite(tpf.pos_corr).any() == has_motion


@pytest.mark.parametrize('name', [TABBY, KEPLER62, *Q12, TESS])
def test_the_motion_is_centred_and_small(read, name):
    motion = read(name).pos_corr
    assert np.nanmedian(motion, axis=0) == pytest.approx(0.0, abs=2e-3)
    assert np.nanmax(np.abs(motion)) < 0.2


def test_the_outlying_motion_of_the_early_file_is_rejected(read, kpsf_data):
    tpf = read(KEPLER62)
    given = fits.getdata(kpsf_data / KEPLER62, 1)['POS_CORR1']
    assert np.nanmin(given) < -200
    assert np.nanmin(tpf.pos_corr) > -0.2


@pytest.mark.parametrize(('name', 'offset'), [(TABBY, 0.0), (KEPLER62, 66.184), (Q12[0], 0.0),
                                              (K2_BULGE, 0.0), (TESS, 0.0)])
def test_times_are_those_of_the_file_but_for_the_error_of_early_versions(read, kpsf_data, name,
                                                                         offset):
    tpf = read(name)
    with fits.open(kpsf_data / name) as hdulist:
        day = hdulist[1].header['BJDREFI']
        data = hdulist[1].data
        rows = np.isin(data['CADENCENO'], tpf.cadenceno)
        times = data['TIME'][rows]
    difference = ((tpf.time.jd1 - day) + tpf.time.jd2 - times) * 86400
    assert difference == pytest.approx(offset, abs=1e-4)
    assert tpf.time.scale == 'tdb'


def test_pixels_outside_the_collected_mask_are_not_good(read):
    tpf = read(Q12[1])
    assert np.count_nonzero(~tpf.good_pixels.any(axis=0)) == 13
    assert np.isnan(tpf.flux[~tpf.good_pixels]).all()


@pytest.mark.parametrize(('name', 'flux'), [(TABBY, 245_600), (KEPLER62, 43_300)])
def test_aperture_flux_is_that_of_the_pipeline(read, name, flux):
    assert np.nanmedian(read(name).aperture_flux()) == pytest.approx(flux, rel=0.01)


@pytest.mark.parametrize('name', [TABBY, KEPLER62, *Q12, TESS])
def test_aperture_flux_is_what_the_magnitude_says(read, kpsf_data, name):
    tpf = read(name)
    header = fits.getheader(kpsf_data / name, 1)
    flux, magnitude = (1.5e4, 10) if tpf.mission == 'TESS' else (2.141e5, 12)
    expected = flux * 10 ** (-0.4 * (tpf.meta['magnitude'] - magnitude))
    found = np.nanmedian(tpf.aperture_flux()) * header['CROWDSAP'] / header['FLFRCSAP']
    assert found == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize('quality', ['none', 'default', 'hard', 'hardest'])
@pytest.mark.parametrize('name', [TABBY, KEPLER62, K2_BULGE])
def test_stricter_qualities_keep_less(kpsf_data, name, quality):
    counts = [read_tpf(kpsf_data / name, quality=each).n_cadences
              for each in ('none', 'default', 'hard', 'hardest')]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[3]


def test_a_damaged_pixel_stays_nan(read):
    tpf = read('corrupt/tpf-with-nans.fits')
    assert np.argwhere(~tpf.good_pixels.all(axis=0)).tolist() == [[1, 1]]


@pytest.mark.parametrize('name', ['tabby-corrupted-at-header.fits', 'tabby-corrupted.fits',
                                  'tabby-corrupted-at-header2.fits'])
def test_damaged_files_say_so(kpsf_data, name):
    with pytest.raises(ValueError, match=f'{name} must be a complete FITS file.*download it'):
        read_tpf(kpsf_data / 'corrupt' / name)


@pytest.mark.parametrize('name', [
    'kepler_prf/kplr07.4_2011265_prf.fits', 'counts/fermi_counts.fits.gz',
    'tess_prf/start_s0001/cam4_ccd1'])
def test_calibration_files_and_images_are_no_target_pixel_files(kpsf_data, name):
    path = kpsf_data / name
    if path.is_dir():
        path = sorted(path.glob('*.fits'))[0]
    with pytest.raises(ValueError, match='needs a table with the columns TIME and FLUX, but'):
        read_tpf(path)


@pytest.mark.filterwarnings('ignore')
def test_lightkurve_agrees(kpsf_data, read):
    lightkurve = pytest.importorskip('lightkurve')
    for name in (TABBY, KEPLER62, Q12[0], K2_BULGE, TESS, CUTOUT):
        theirs, ours = lightkurve.read(kpsf_data / name), read(name)
        assert np.array_equal(theirs.flux.value, ours.flux, equal_nan=True)
        assert np.array_equal(read_tpf(theirs).electrons, ours.electrons, equal_nan=True)
        assert (theirs.column, theirs.row) == (ours.column, ours.row)
        offset = ours.meta['time_offset'] / 86400
        assert ours.time.jd - offset == pytest.approx(theirs.time.jd, abs=1e-8)
        theirs.hdu.close()


@pytest.mark.parametrize('name', SYNTHETIC)
def test_a_roll_leaves_no_jumps_in_the_flux(read, name):
    light_curve = extract_light_curve(read(name), psf='empirical')
    assert np.isfinite(light_curve['gof_z']).all()
    flux, error = light_curve['flux'].value, np.median(light_curve['flux_err'].value)
    around = np.lib.stride_tricks.sliding_window_view(flux, 9)
    deviation = flux[4:-4] - np.median(np.delete(around, 4, axis=1), axis=1)
    assert np.abs(deviation).max() < 5.0 * error
