# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as files: what was written is read back, by us and by others."""

import hashlib
import os
from dataclasses import replace
from datetime import date

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.timeseries import TimeSeries

from kpsf import LightCurve, __version__, extract_light_curve, read_tpf, simulate_tpf
from kpsf.lightcurve import SceneLightCurves
from kpsf.lightcurve.keywords import KEYWORDS
from kpsf.prf import KeplerPRF, TessPRF
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf
from kpsf.tpf.read import META_KEYWORDS


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
        assert (header['COLUMN'], header['ROW']) == (pixels.column, pixels.row)


@pytest.mark.parametrize(('mission', 'quality', 'days'), [
    ('Kepler', 'SAP_QUALITY', 'BJD - 2454833'), ('TESS', 'QUALITY', 'BJD - 2457000, days')])
def test_columns_are_named_and_shown_as_in_the_archives(tmp_path, mission, quality, days):
    found = extract_light_curve(simulate(tmp_path / 'pixels.fits', mission=mission))
    found.write(tmp_path / 'star.fits')
    expected = [
        ('TIME', days, 'D14.7', None), ('CADENCENO', None, 'I10', 'cadenceno'),
        ('PSF_FLUX', 'e-/s', 'E14.7', 'flux'), ('PSF_FLUX_ERR', 'e-/s', 'E14.7', 'flux_err'),
        ('PSF_BKG', 'e-/s', 'E14.7', 'background'),
        ('PSF_BKG_ERR', 'e-/s', 'E14.7', 'background_err'),
        ('PSF_CENTR1', 'pixel', 'F10.5', 'column'), ('PSF_CENTR1_ERR', 'pixel', 'E14.7', 'x_err'),
        ('PSF_CENTR2', 'pixel', 'F10.5', 'row'), ('PSF_CENTR2_ERR', 'pixel', 'E14.7', 'y_err'),
        ('CHI2', None, 'E14.7', 'cstat'), (quality, None, 'B16.16', 'quality')]
    with fits.open(tmp_path / 'star.fits') as hdulist:
        table = hdulist['LIGHTCURVE']
        assert [(column.name, column.unit, column.disp) for column in table.columns[:12]] == [
            entry[:3] for entry in expected]
        assert table.columns['PSF_FLAGS'].disp == 'I10'
        for name, _, _, own in [*expected[1:], ('FLUX', '', '', 'flux'),
                                ('FLUX_ERR', '', '', 'flux_err'), ('STAMP_X', '', '', 'x'),
                                ('STAMP_Y', '', '', 'y'), ('PSF_FLAGS', '', '', 'flags')]:
            values = getattr(found[own], 'value', found[own])
            np.testing.assert_array_equal(table.data[name], values, err_msg=name)
        place = table.columns.names.index('CHI2') + 1
        assert 'C-statistic' in table.header.comments[f'TTYPE{place}']


def test_the_header_tells_how_the_fluxes_were_made(tmp_path):
    path = simulate_tpf(tmp_path / 'pixels.fits', n_cadences=6, seed=4)
    pixels = read_tpf(path)
    extract_light_curve(path, shape='free', position='shared').write(tmp_path / 'star.fits')
    header = fits.getheader(tmp_path / 'star.fits')
    assert header['PROCVER'] == __version__
    assert header['PSFMODEL'] == 'EllipticalGaussianPSF'
    assert (header['PSFSHAPE'], header['PSFPOS']) == ('free', 'shared')
    assert header['EXPCAD'] == pixels.noise.exposure
    assert header['EXPEFF'] == pixels.noise.effective_exposure
    assert header['READVAR'] == pixels.read_variance
    assert header['TPFFILE'] == 'pixels.fits'
    assert header['TPFSHA'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert header['DATE'] == date.today().isoformat()


def test_headers_are_plain_ascii_cards(tmp_path, light_curve):
    named = light_curve.copy()
    named.meta['target'] = "Boyajian's star \u2605\n"
    named['gr\xf6\xdfe'] = np.arange(len(named))
    named.write(tmp_path / 'star.fits')
    with fits.open(tmp_path / 'star.fits') as hdulist:
        hdulist.verify('exception')
        text = ''.join(hdu.header.tostring() for hdu in hdulist)
        assert hdulist[0].header['OBJECT'] == "Boyajian's star \\u2605\\n"
    assert text.isascii()
    assert not {'HIERARCH', 'CONTINUE'} & {text[i:i + 8] for i in range(0, len(text), 80)}


ENTRIES = {'noise_excess': 1.31, 'error_over_scatter': 0.77, 'psf_residual': 0.05, 'n_modes': 3,
           'motion': 'POS_CORR', 'star': 'Gaia DR3 2081900940499099136', 'star_ra': 301.5643779,
           'star_dec': -44.456875, 'n_stars': 12, 'cosmic_rays': 5}


def test_every_entry_of_the_metadata_that_has_a_keyword_is_read_back(tmp_path, light_curve):
    told = light_curve.copy()
    told.meta.update(ENTRIES)
    told.write(tmp_path / 'star.fits')
    assert LightCurve.read(tmp_path / 'star.fits').meta == told.meta
    header = fits.getheader(tmp_path / 'star.fits')
    assert [header[key] for key in ('NEXCESS', 'ERRSCAT', 'PSFRESID', 'NMODES', 'MOTION',
                                    'STARNAME', 'STARRA', 'STARDEC', 'NSTARS', 'NCOSMIC')] == [
        *ENTRIES.values()]


def test_no_keyword_is_used_twice():
    keywords = [entry[1] for entry in [*KEYWORDS, *META_KEYWORDS[1:]]]
    assert len(set(keywords)) == len(keywords)
    assert max(map(len, keywords)) <= 8


def test_what_is_not_known_has_no_keyword(tmp_path, light_curve):
    unknown = light_curve.copy()
    unknown.meta.update(noise_excess=np.nan, star=None, n_modes=np.int64(2))
    unknown.write(tmp_path / 'star.fits')
    header = fits.getheader(tmp_path / 'star.fits')
    assert not {'NEXCESS', 'STARNAME'} & set(header)
    assert header['NMODES'] == 2


def test_missions_that_the_layout_does_not_have_are_told(tmp_path, light_curve):
    other = light_curve.copy()
    other.meta['mission'] = 'CoRoT'
    with pytest.raises(ValueError, match="one of the missions Kepler, K2, TESS, but .* 'CoRoT'"):
        other.write(tmp_path / 'star.fits')
    del other.meta['mission']
    other.write(tmp_path / 'star.fits')
    assert LightCurve.read(tmp_path / 'star.fits').meta['mission'] == 'Kepler'


def write_as_version_0_1_dev(light_curve, path):
    """Write a file as kpsf did when the columns had its own names in capitals."""
    light_curve.write(path)
    days = light_curve['time'].tdb
    table = Table({'TIME': (days.jd1 - 2454833.0) + days.jd2})
    for name in light_curve.colnames[1:]:
        table['SAP_QUALITY' if name == 'quality' else name.upper()] = light_curve[name].value
    hdu = fits.table_to_hdu(table, name='LIGHTCURVE')
    hdu.columns.change_unit('TIME', 'd')
    for name in light_curve.colnames[1:]:
        unit = getattr(light_curve[name], 'unit', None)
        if unit is not None:
            hdu.columns.change_unit(name.upper(), 'pixel' if unit == u.pix else 'e-/s')
    with fits.open(path, mode='update') as hdulist:
        hdulist['LIGHTCURVE'] = hdu
        del hdulist[0].header['NEXTEND']


@pytest.mark.parametrize('shape', ['shared', 'free'])
def test_files_of_the_old_layout_are_read(tmp_path, few, shape):
    found = extract_light_curve(few, shape=shape)
    path = tmp_path / 'old.fits'
    write_as_version_0_1_dev(found, path)
    with fits.open(path) as hdulist:
        assert hdulist['LIGHTCURVE'].columns.names[:4] == ['TIME', 'FLUX', 'FLUX_ERR', 'X']
    back = LightCurve.read(path)
    assert equal(found, back)
    assert abs((back['time'] - found['time']).sec).max() == 0.0


def test_what_others_do_to_the_table_is_read(tmp_path, light_curve):
    path = tmp_path / 'star.fits'
    light_curve.write(path)
    with fits.open(path) as hdulist:
        columns = hdulist['LIGHTCURVE'].columns
        columns.del_col('PSF_BKG_ERR')
        extra = fits.Column('DETRENDED', 'D', array=np.arange(12.0))
        changed = fits.BinTableHDU.from_columns(columns + fits.ColDefs([extra]),
                                                header=hdulist['LIGHTCURVE'].header)
        fits.HDUList([hdulist[0], changed]).writeto(tmp_path / 'changed.fits')
    back = LightCurve.read(tmp_path / 'changed.fits')
    assert back.colnames == [name for name in light_curve.colnames
                             if name != 'background_err'] + ['detrended']
    for name in ('flux', 'x', 'x_err', 'column', 'cstat', 'flags'):
        np.testing.assert_array_equal(back[name], light_curve[name])
    np.testing.assert_array_equal(back['detrended'], np.arange(12.0))


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
    np.testing.assert_array_equal(series['psf_flux'].value, found['flux'].value)
    assert series['flux'].unit == series['psf_flux'].unit == u.electron / u.s
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
    chosen = lightkurve.read(str(tmp_path / 'star.fits'), flux_column='psf_flux')
    np.testing.assert_array_equal(chosen.flux.value, found['flux'].value)
    np.testing.assert_array_equal(chosen.flux_err.value, found['flux_err'].value)
    np.testing.assert_array_equal(chosen.psf_centr1.value, found['column'].value)
    assert chosen.meta['FLUX_ORIGIN'] == 'psf_flux'


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


def test_columns_of_ones_own_keep_their_names_even_where_fits_has_them_already(tmp_path,
                                                                               light_curve):
    own = light_curve[['time', 'cadenceno', 'flux', 'flux_err']]
    names = ['chi2', 'psf_bkg', 'sap_flux', 'FLUX', 'Wind', 'wind', 'a=b', 'quality_2', 'QUALITY']
    for number, name in enumerate(names):
        own[name] = np.arange(len(own)) + number
    own.write(tmp_path / 'own.fits')
    assert equal(own, LightCurve.read(tmp_path / 'own.fits'))


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


@pytest.mark.parametrize('read', [LightCurve.read, SceneLightCurves.read])
def test_files_of_others_are_not_called_damaged(tmp_path, read):
    # lightkurve's to_fits promises two extensions and writes one.
    primary = fits.PrimaryHDU()
    primary.header.update({'CREATOR': 'lightkurve', 'NEXTEND': 2, 'MISSION': 'Kepler'})
    table = fits.table_to_hdu(QTable({'TIME': [1.0, 2.0]}))
    fits.HDUList([primary, table]).writeto(tmp_path / 'other.fits')
    with pytest.raises(ValueError, match='other.fits is another FITS file: use'):
        read(tmp_path / 'other.fits')


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
@pytest.mark.filterwarnings('ignore:A PSF needs pixels that are not full')
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
