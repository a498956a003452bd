# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves of several stars: chosen by number or name, with covariances, kept in one file."""

import os

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.timeseries import TimeSeries

from kpsf import LightCurve, extract_light_curve, simulate_tpf
from kpsf.lightcurve import SceneLightCurves

NAMES = ['Gaia DR3 1', 'Gaia DR3 2', "Barnard's star"]
CORRELATION = np.array([[1.0, -0.5, 0.1], [-0.5, 1.0, -0.2], [0.1, -0.2, 1.0]])
N_CADENCES = 8


@pytest.fixture(scope='module')
def star(tmp_path_factory):
    path = simulate_tpf(tmp_path_factory.mktemp('pixels') / 'a.fits', n_cadences=N_CADENCES,
                        shape=(9, 10), seed=5)
    return extract_light_curve(path)


@pytest.fixture(scope='module')
def light_curves(star):
    """Return three stars, of which each is fainter than the one before."""
    found = []
    for number, name in enumerate(NAMES):
        part = star.copy()
        for column in ('flux', 'flux_err'):
            part[column] = part[column] / (1 + number)
        part['x'] = part['x'] + number * u.pix
        part.meta.update(star=name, star_ra=290.0 + number, n_stars=3)
        found.append(part)
    return found


@pytest.fixture(scope='module')
def covariance(light_curves):
    sigma = np.stack([part['flux_err'].value for part in light_curves], axis=1)
    return CORRELATION * sigma[:, :, None] * sigma[:, None, :]


@pytest.fixture
def scene(light_curves, covariance):
    return SceneLightCurves(light_curves, covariance, NAMES, {'target': 'NGC 6791'})


def same(first, second):
    """Say whether two light curves have the same columns and metadata."""
    assert first.colnames == second.colnames
    for name in first.colnames[1:]:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    return first.meta == second.meta and abs((first['time'] - second['time']).sec).max() == 0.0


def test_stars_are_chosen_by_number_and_by_name(scene, light_curves):
    assert len(scene) == 3
    assert scene.names == tuple(NAMES)
    for number, name in enumerate(NAMES):
        assert scene[number] is scene[name] is scene[np.int64(number)] is light_curves[number]
        assert scene[number - 3] is light_curves[number]
    assert [part is scene[number] for number, part in enumerate(scene)] == [True] * 3


def test_fluxes_of_all_stars_are_one_array(scene, light_curves):
    assert scene.flux.shape == scene.flux_err.shape == (N_CADENCES, 3)
    assert scene.flux.unit == scene.flux_err.unit == u.electron / u.s
    for number in range(3):
        np.testing.assert_array_equal(scene.flux[:, number], light_curves[number]['flux'])
        np.testing.assert_array_equal(scene.flux_err[:, number], light_curves[number]['flux_err'])


def test_correlations_are_covariances_over_standard_deviations(scene, covariance):
    np.testing.assert_array_equal(scene.covariance, covariance)
    np.testing.assert_allclose(scene.correlation(), np.broadcast_to(CORRELATION, (8, 3, 3)))


def test_correlations_of_what_has_no_variance_are_nan(light_curves, covariance):
    broken = covariance.copy()
    broken[2], broken[3, 1] = np.nan, 0.0
    broken[3, :, 1] = 0.0
    correlation = SceneLightCurves(light_curves, broken, NAMES).correlation()
    assert np.isnan(correlation[2]).all()
    assert np.isnan(correlation[3, 1]).all()
    assert np.isnan(correlation[3, :, 1]).all()
    assert correlation[3, 0, 2] == pytest.approx(0.1)


def test_covariances_may_have_a_unit(light_curves, covariance):
    in_minutes = u.Quantity(covariance * 3600, (u.electron / u.min) ** 2)
    found = SceneLightCurves(light_curves, in_minutes, NAMES).covariance
    np.testing.assert_allclose(found, covariance)
    with pytest.raises(u.UnitConversionError):
        SceneLightCurves(light_curves, covariance * u.pix, NAMES)


def test_the_scene_says_what_is_in_it(scene, light_curves):
    assert repr(scene) == ("<SceneLightCurves NGC 6791: 3 stars (Gaia DR3 1, Gaia DR3 2, "
                           "Barnard's star), 8 cadences>")
    one = SceneLightCurves(light_curves[:1], np.ones((8, 1, 1)), 'only')
    assert repr(one) == '<SceneLightCurves KIC 100000001: 1 star (only), 8 cadences>'
    many = SceneLightCurves(light_curves * 3, np.ones((8, 9, 9)), list('abcdefghi'))
    assert '9 stars (a, b, c, d, e, ...), 8' in repr(many)


@pytest.mark.parametrize('suffix', ['.fits', '.fits.gz'])
def test_what_was_written_is_read_back(scene, tmp_path, suffix):
    scene.write(tmp_path / f'scene{suffix}')
    back = SceneLightCurves.read(tmp_path / f'scene{suffix}')
    assert back.names == scene.names
    assert back.meta == {'target': 'NGC 6791', 'mission': 'Kepler', 'n_stars': 3}
    np.testing.assert_array_equal(back.covariance, scene.covariance)
    assert back.covariance.dtype == float
    assert back.covariance.dtype.isnative
    for ours, theirs in zip(scene, back, strict=True):
        assert isinstance(theirs, LightCurve)
        assert same(ours, theirs)
        assert theirs['flux'].unit == u.electron / u.s


def test_every_star_is_an_extension_in_the_archives_layout(scene, tmp_path):
    scene.write(tmp_path / 'scene.fits')
    with fits.open(tmp_path / 'scene.fits', checksum=True) as hdulist:
        hdulist.verify('exception')
        assert [(hdu.name, hdu.ver) for hdu in hdulist[1:]] == [
            ('LIGHTCURVE', 1), ('LIGHTCURVE', 2), ('LIGHTCURVE', 3), ('COVARIANCE', 1)]
        assert hdulist[0].header['NSTARS'] == 3
        for number, name in enumerate(NAMES):
            hdu = hdulist['LIGHTCURVE', number + 1]
            assert (hdu.header['STARNAME'], hdu.header['STARRA']) == (name, 290.0 + number)
            np.testing.assert_array_equal(hdu.data['PSF_FLUX'], scene[number]['flux'].value)
        assert hdulist['COVARIANCE'].data.shape == (N_CADENCES, 3, 3)
        assert hdulist['COVARIANCE'].header['BUNIT'] == '(e-/s)**2'


def test_names_of_stars_without_metadata_are_read_back(star, tmp_path):
    scene = SceneLightCurves([star], np.ones((8, 1, 1)), ['a'])
    assert 'star' not in star.meta
    scene.write(tmp_path / 'scene.fits')
    back = SceneLightCurves.read(tmp_path / 'scene.fits')
    assert back.names == ('a',)
    assert back['a'].meta == {**star.meta, 'star': 'a'}


def test_each_star_of_a_file_is_a_light_curve_that_can_be_written(scene, tmp_path):
    scene.write(tmp_path / 'scene.fits')
    back = SceneLightCurves.read(tmp_path / 'scene.fits')
    back[1].write(tmp_path / 'one.fits')
    assert same(LightCurve.read(tmp_path / 'one.fits'), scene[1])


@pytest.mark.filterwarnings('ignore')
def test_others_read_the_first_star(scene, tmp_path):
    path = tmp_path / 'scene.fits'
    scene.write(path)
    series = TimeSeries.read(path, format='kepler.fits', unit_parse_strict='silent')
    np.testing.assert_array_equal(series['psf_flux'].value, scene[0]['flux'].value)
    lightkurve = pytest.importorskip('lightkurve')
    theirs = lightkurve.read(str(path))
    np.testing.assert_array_equal(theirs.flux.value, scene[0]['flux'].value)


def test_files_of_one_and_of_several_stars_are_told_apart(scene, star, tmp_path):
    scene.write(tmp_path / 'scene.fits')
    with pytest.raises(ValueError, match='those of several stars: use .*SceneLightCurves.read'):
        LightCurve.read(tmp_path / 'scene.fits')
    star.write(tmp_path / 'star.fits')
    with pytest.raises(ValueError, match='star.fits is another FITS file: use LightCurve.read'):
        SceneLightCurves.read(tmp_path / 'star.fits')
    with pytest.raises(FileNotFoundError, match='light curves of several stars is needed, but'):
        SceneLightCurves.read(tmp_path / 'none.fits')


@pytest.mark.parametrize('n_missing', [2880, 2880 * 4])
def test_a_truncated_file_is_told(scene, tmp_path, n_missing):
    path = tmp_path / 'scene.fits'
    scene.write(path)
    path.write_bytes(path.read_bytes()[:-n_missing])
    with pytest.raises(ValueError, match='must be a complete FITS file'):
        SceneLightCurves.read(path)


def test_a_file_without_its_covariance_is_told(scene, tmp_path):
    path = tmp_path / 'scene.fits'
    scene.write(path)
    with fits.open(path, mode='update') as hdulist:
        del hdulist['COVARIANCE']
        hdulist[0].header['NEXTEND'] = 3
    with pytest.raises(ValueError, match='must be a complete FITS file.*COVARIANCE'):
        SceneLightCurves.read(path)


def test_existing_files_are_replaced_only_when_asked(scene, tmp_path):
    path = tmp_path / 'scene.fits'
    path.write_text('before')
    with pytest.raises(FileExistsError, match='exists already'):
        scene.write(path)
    assert path.read_text() == 'before'
    scene.write(path, overwrite=True)
    assert SceneLightCurves.read(path).names == scene.names


def test_a_write_that_fails_leaves_nothing(scene, tmp_path, monkeypatch):
    def write_half(self, path, *args, **kwargs):
        path.write_text('half')
        raise OSError('No space left on device')

    monkeypatch.setattr(fits.HDUList, 'writeto', write_half)
    with pytest.raises(OSError, match='No space left'):
        scene.write(tmp_path / 'scene.fits')
    assert not os.listdir(tmp_path)


def test_other_endings_and_mixed_missions_are_refused(scene, light_curves, covariance, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.fits or \.fits\.gz, but it is 'a\.ecsv'"):
        scene.write(tmp_path / 'a.ecsv')
    other = light_curves[1].copy()
    other.meta['mission'] = 'TESS'
    mixed = SceneLightCurves([light_curves[0], other, light_curves[2]], covariance, NAMES)
    with pytest.raises(ValueError, match='of one mission, but they are of Kepler, TESS'):
        mixed.write(tmp_path / 'a.fits')
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(('chosen', 'error', 'message'), [
    (3, IndexError, 'a number below 3, but it is 3'), (-4, IndexError, 'but it is -4'),
    ('Gaia DR3 3', KeyError, "one of the names Gaia DR3 1, .* but it is 'Gaia DR3 3'"),
    (slice(0, 2), TypeError, 'by its number or its name, but found slice'),
    (True, TypeError, 'found bool'), (1.0, TypeError, 'found float')])
def test_stars_that_are_not_there_say_which_are(scene, chosen, error, message):
    with pytest.raises(error, match=message):
        scene[chosen]


@pytest.mark.parametrize(('names', 'error', 'message'), [
    (NAMES[:2], ValueError, 'there are 2 names and 3 light curves'),
    (['a', 'b', 'a'], ValueError, r"different and not empty, but they are \['a', 'b', 'a'\]"),
    (['a', 'b', ' '], ValueError, 'not empty'), ([1, 2, 3], TypeError, 'must be strings'),
    ('a', ValueError, 'there are 1 names and 3')])
def test_wrong_names_say_what_is_needed(light_curves, covariance, names, error, message):
    with pytest.raises(error, match=message):
        SceneLightCurves(light_curves, covariance, names)


def test_what_does_not_belong_together_says_so(light_curves, covariance):
    with pytest.raises(ValueError, match=r'the shape \(8, 3, 3\), .* but it is \(8, 3\)'):
        SceneLightCurves(light_curves, covariance[:, 0], NAMES)
    with pytest.raises(ValueError, match='number 1 with 7 differs from the first with 8'):
        SceneLightCurves([light_curves[0], light_curves[1][1:]], covariance, NAMES[:2])
    with pytest.raises(ValueError, match='at least one star'):
        SceneLightCurves([], covariance, [])
    with pytest.raises(TypeError, match='one LightCurve per star, but found TimeSeries'):
        SceneLightCurves([TimeSeries(light_curves[0])], covariance, NAMES)
    with pytest.raises(TypeError, match='covariance must be an array of numbers'):
        SceneLightCurves(light_curves, 'unknown', NAMES)
