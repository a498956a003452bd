# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as files: what was written is read back, by us and by others."""

import os
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.timeseries import TimeSeries

from kpsf import LightCurve, extract_light_curve, read_tpf, simulate_tpf
from kpsf.prf import KeplerPRF, TessPRF
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf


def simulate(path, **options):
    """Return simulated pixels."""
    options = {'n_cadences': 6, 'shape': (9, 10), 'seed': 4, **options}
    return read_tpf(simulate_tpf(path, **options))


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    """Return the pixels of twelve cadences."""
    return simulate(tmp_path_factory.mktemp('pixels') / 'few.fits', n_cadences=12, drift=0.2)


@pytest.fixture(scope='module')
def light_curve(few):
    return extract_light_curve(few)


def equal(first, second):
    """Say whether two light curves have the same columns, units, numbers and metadata."""
    same = first.colnames == second.colnames and first.meta == second.meta
    for name in first.colnames[1:]:
        values = [getattr(table[name], 'value', table[name]) for table in (first, second)]
        units = [getattr(table[name], 'unit', None) for table in (first, second)]
        same &= units[0] == units[1] and values[0].dtype == values[1].dtype
        np.testing.assert_array_equal(*values, err_msg=name)
    return same


@pytest.mark.parametrize('suffix', ['.fits', '.fits.gz', '.FITS', '.ecsv'])
@pytest.mark.parametrize('shape', ['shared', 'free'])
def test_what_was_written_is_read_back(tmp_path, few, suffix, shape):
    good = few.good_pixels & (np.arange(12) != 3)[:, None, None]
    found = extract_light_curve(replace(few, good_pixels=good), shape=shape)
    assert np.isnan(found['flux'][3])
    path = tmp_path / f'star{suffix}'
    found.write(path)
    back = LightCurve.read(path)
    assert isinstance(back, LightCurve)
    assert equal(found, back)
    # Text holds the days to 40 microseconds.
    tolerance = 0.0 if suffix != '.ecsv' else 4e-5
    assert abs((back['time'] - found['time']).sec).max() <= tolerance
    assert back['time'].scale == 'tdb'


@pytest.mark.parametrize('mission', ['Kepler', 'K2', 'TESS'])
def test_light_curves_of_all_missions_are_read_back(tmp_path, mission):
    pixels = simulate(tmp_path / 'pixels.fits', mission=mission)
    found = extract_light_curve(pixels)
    found.write(tmp_path / 'star.fits')
    assert equal(found, LightCurve.read(tmp_path / 'star.fits'))
    with fits.open(tmp_path / 'star.fits') as hdulist:
        header, table = hdulist[0].header, hdulist['LIGHTCURVE']
        assert header['OBJECT'] == found.meta['target']
        assert header['TICID' if mission == 'TESS' else 'KEPLERID'] == pixels.meta['target_id']
        assert table.header['BJDREFI'] == (2457000 if mission == 'TESS' else 2454833)
        assert table.header['TIMESYS'] == 'TDB'
        assert ('QUALITY' if mission == 'TESS' else 'SAP_QUALITY') in table.columns.names
        assert (table.columns['FLUX'].unit, table.columns['X'].unit) == ('e-/s', 'pixel')
        for name, corner in (('COLUMN', pixels.column), ('ROW', pixels.row)):
            assert header[name] == corner
            assert table.columns[name].unit == 'pixel'
            assert np.array_equal(table.data[name], found[name.lower()].value)


@pytest.mark.parametrize('suffix', ['.fits', '.ecsv'])
def test_files_of_old_versions_without_detector_positions_are_read(tmp_path, light_curve, suffix):
    path = tmp_path / f'old{suffix}'
    old = light_curve.copy()
    old.remove_columns(['column', 'row'])
    old.write(path)
    back = LightCurve.read(path)
    assert equal(old, back)
    assert not {'column', 'row'} & set(back.colnames)
    assert (back.meta['column'], back.meta['row']) == (500, 500)


@pytest.mark.parametrize('suffix', ['.fits', '.ecsv'])
@pytest.mark.parametrize('mission', ['Kepler', 'TESS'])
def test_what_a_prf_was_made_from_is_read_back(tmp_path, mission, suffix):
    pixels = simulate(tmp_path / 'pixels.fits', mission=mission)
    if mission == 'Kepler':
        paths, model = simulate_kepler_prf(tmp_path / 'kplr07.4_2011265_prf.fits'), KeplerPRF
    else:
        paths, model = simulate_tess_prf(tmp_path / 'prf'), TessPRF
    found = extract_light_curve(pixels, model.from_tpf(pixels, paths, force=True))
    found.write(tmp_path / f'star{suffix}')
    back = LightCurve.read(tmp_path / f'star{suffix}')
    assert equal(found, back)
    assert len([name for name in back.meta if name.startswith('prf_')]) == 8
    # Four of the 25 files are around the place, and only names say which, no folders.
    assert len(back.meta['prf_files'].split(', ')) == (1 if mission == 'Kepler' else 4)
    assert str(tmp_path) not in back.meta['prf_files']


@pytest.mark.parametrize('mission', ['Kepler', 'TESS'])
def test_astropy_reads_the_fits_file_as_a_time_series(tmp_path, mission):
    pixels = simulate(tmp_path / 'pixels.fits', mission=mission)
    found = extract_light_curve(pixels)
    found.write(tmp_path / 'star.fits')
    series = TimeSeries.read(tmp_path / 'star.fits', format='kepler.fits',
                             unit_parse_strict='silent')
    np.testing.assert_array_equal(series['flux'].value, found['flux'].value)
    assert series['flux'].unit == u.electron / u.s
    assert abs((series.time - found.time).sec).max() < 1e-4


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('mission', ['Kepler', 'TESS'])
def test_lightkurve_reads_the_fits_file(tmp_path, mission):
    lightkurve = pytest.importorskip('lightkurve')
    quality = np.where(np.arange(6) == 2, 64, 0)
    pixels = simulate(tmp_path / 'pixels.fits', mission=mission, quality=quality)
    found = extract_light_curve(pixels)
    found.write(tmp_path / 'star.fits')
    theirs = lightkurve.read(str(tmp_path / 'star.fits'))
    assert type(theirs).__name__ == f'{mission.title()}LightCurve'
    np.testing.assert_array_equal(theirs.flux.value, found['flux'].value)
    np.testing.assert_array_equal(theirs.flux_err.value, found['flux_err'].value)
    np.testing.assert_array_equal(theirs.quality, quality)
    assert theirs.flux.unit == u.electron / u.s
    assert abs(theirs.time.jd - found['time'].jd).max() < 1e-9
    assert theirs.meta['LABEL'] == found.meta['target']


def test_csv_holds_plain_numbers(tmp_path, light_curve):
    light_curve.write(tmp_path / 'star.csv')
    table = Table.read(tmp_path / 'star.csv')
    assert table.colnames == light_curve.colnames
    np.testing.assert_array_equal(table['flux'], light_curve['flux'].value)
    np.testing.assert_allclose(table['time'], light_curve['time'].jd, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match='star.csv is CSV, which has none: .* or write ECSV'):
        LightCurve.read(tmp_path / 'star.csv')


def test_parts_and_columns_of_ones_own_are_written_too(tmp_path, light_curve):
    part = light_curve[light_curve['cadenceno'] % 2 == 0]
    part['relative'] = (part['flux'] / np.median(part['flux'])).value
    part['wind'] = np.arange(len(part)) * u.km / u.s
    part.write(tmp_path / 'part.fits')
    assert equal(part, LightCurve.read(tmp_path / 'part.fits'))


def test_long_names_fit_into_the_header(tmp_path, few):
    renamed = replace(few, meta={**few.meta, 'filename': 'a-long-name' * 9 + '.fits'})
    found = extract_light_curve(renamed)
    found.write(tmp_path / 'star.fits')
    assert LightCurve.read(tmp_path / 'star.fits').meta['filename'] == found.meta['filename']


@pytest.mark.parametrize('name', ['star.txt', 'star', 'star.fits.bz2', 'fits'])
def test_unknown_endings_say_which_are_known(tmp_path, light_curve, name):
    for function in (light_curve.write, LightCurve.read):
        with pytest.raises(ValueError, match=r'must end in one of \.fits, .*QTable'):
            function(tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('suffix', ['.fits', '.ecsv', '.csv'])
def test_existing_files_are_replaced_only_when_asked(tmp_path, light_curve, suffix):
    path = tmp_path / f'star{suffix}'
    path.write_text('before')
    with pytest.raises(FileExistsError, match='exists already'):
        light_curve.write(path)
    assert path.read_text() == 'before'
    light_curve.write(path, overwrite=True)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(('suffix', 'writer'), [
    ('.fits', (fits.HDUList, 'writeto')), ('.ecsv', (QTable, 'write')),
    ('.csv', (Table, 'write'))])
def test_a_write_that_fails_leaves_nothing(tmp_path, light_curve, suffix, writer, monkeypatch):
    def write_half(self, path, *args, **kwargs):
        path.write_text('half')
        raise OSError('No space left on device')

    monkeypatch.setattr(*writer, write_half)
    with pytest.raises(OSError, match='No space left'):
        light_curve.write(tmp_path / f'star{suffix}')
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, light_curve, monkeypatch):
    with pytest.raises(OSError, match='there is no folder'):
        light_curve.write(tmp_path / 'none' / 'star.fits')
    monkeypatch.setattr(os, 'access', lambda *args: False)
    with pytest.raises(PermissionError, match='is read-only'):
        light_curve.write(tmp_path / 'star.fits')
    assert not os.listdir(tmp_path)


def test_other_files_are_no_light_curves_of_kpsf(tmp_path, light_curve):
    pixels = simulate_tpf(tmp_path / 'pixels.fits', n_cadences=3)
    with pytest.raises(ValueError, match='pixels.fits is another FITS file: use'):
        LightCurve.read(pixels)
    QTable({'a': [1, 2]}).write(tmp_path / 'table.ecsv')
    with pytest.raises(ValueError, match=r"table.ecsv is no such ECSV file \('time'\)"):
        LightCurve.read(tmp_path / 'table.ecsv')
    (tmp_path / 'text.ecsv').write_text('hello')
    with pytest.raises(ValueError, match='text.ecsv is no such ECSV file'):
        LightCurve.read(tmp_path / 'text.ecsv')
    for name in ('none.fits', 'none.ecsv'):
        with pytest.raises(FileNotFoundError, match='there is no file .*none'):
            LightCurve.read(tmp_path / name)


def test_a_truncated_light_curve_is_told(tmp_path, light_curve):
    path = tmp_path / 'star.fits'
    light_curve.write(path)
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(ValueError, match='must be a complete FITS file'):
        LightCurve.read(path)


@pytest.mark.parametrize('pattern', ['kepler/*.fits*', 'k2/*.fits*', 'tess/*.fits*'])
@pytest.mark.filterwarnings('ignore:The pixels should be those of one star')
def test_light_curves_of_real_files_are_read_back(kpsf_data, tmp_path, pattern):
    for path in kpsf_data.glob(pattern):
        found = extract_light_curve(path)
        found.write(tmp_path / f'{path.name}.fits')
        assert equal(found, LightCurve.read(tmp_path / f'{path.name}.fits'))
    assert os.listdir(tmp_path)


def test_names_that_fits_cannot_spell_do_not_stop_it(tmp_path):
    path = simulate_tpf(tmp_path / 'étoile.fits', n_cadences=5, seed=1)
    light_curve = extract_light_curve(path)
    light_curve.write(tmp_path / 'étoile-lc.fits')
    assert LightCurve.read(tmp_path / 'étoile-lc.fits').meta['filename'] == '\\xe9toile.fits'


def test_the_constant_of_the_series_is_kept_with_its_limit(tmp_path):
    light_curve = extract_light_curve(simulate_tpf(tmp_path / 'a.fits', n_cadences=20, seed=1))
    assert not light_curve.meta['background_offset_at_limit']
    light_curve.write(tmp_path / 'lc.fits')
    again = LightCurve.read(tmp_path / 'lc.fits')
    for name in ('background_offset', 'background_offset_err', 'background_offset_at_limit'):
        assert again.meta[name] == light_curve.meta[name]


def test_other_formats_of_astropy_are_written_by_astropy(tmp_path):
    light_curve = extract_light_curve(simulate_tpf(tmp_path / 'a.fits', n_cadences=5, seed=1))
    light_curve.write(tmp_path / 'lc.html', format='ascii.html')
    assert (tmp_path / 'lc.html').read_text().startswith('<html>')
