# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars of a scene: where tables say, what the mean image shows, and what Gaia knows."""

import sys
from dataclasses import replace
from types import ModuleType

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table

from kpsf import read_tpf, simulate_tpf
from kpsf.scenes import find_stars, query_gaia
from kpsf.scenes.stars import GAIA_FLUX, _from_gaia, place_stars

X, Y, FLUX = np.array([5.0, 7.5]), np.array([5.0, 6.0]), np.array([2e5, 4e4])


@pytest.fixture(scope='module')
def tpf(tmp_path_factory):
    path = tmp_path_factory.mktemp('pixels') / 'two.fits'
    return read_tpf(simulate_tpf(path, stars=np.column_stack([FLUX, X, Y]), n_cadences=20,
                                 column=700, row=300, seed=1))


@pytest.fixture(scope='module')
def sky(tpf):
    return tpf.wcs.pixel_to_world(X, Y)


def degrees(sky):
    return {'ra': sky.ra.deg, 'dec': sky.dec.deg}


def assert_placed(stars, tpf):
    """Assert that stars are placed where they are."""
    _, x, y, _ = place_stars(stars, tpf)
    np.testing.assert_allclose(x, X, atol=1e-6)
    np.testing.assert_allclose(y, Y, atol=1e-6)


@pytest.mark.parametrize('make', [dict, Table, QTable, lambda table: Table(table).as_array()])
def test_stamp_and_detector_places_are_taken_from_every_kind_of_table(tpf, make):
    assert_placed(make({'x': X, 'y': Y}), tpf)
    assert_placed(make({'column': X + 700, 'row': Y + 300}), tpf)
    assert_placed(make({'x': X, 'y': Y, 'ra': X, 'dec': Y}), tpf)


def test_places_in_the_sky_go_through_the_wcs(tpf, sky):
    for stars in (degrees(sky), sky, sky.galactic,
                  QTable({'ra': sky.ra, 'dec': sky.dec}),
                  QTable({'ra': sky.ra.to(u.hourangle), 'dec': sky.dec.to(u.arcmin)}),
                  Table({'ra': Column(sky.ra.hour, unit='hourangle'),
                         'dec': Column(sky.dec.rad, unit='rad')})):
        assert_placed(stars, tpf)
    assert place_stars(sky[1], tpf)[1] == pytest.approx([7.5], abs=1e-6)


def test_the_wcs_holds_at_the_middle_of_the_motion(tmp_path):
    drift = np.column_stack([np.linspace(0.1, 0.5, 21), np.linspace(-0.7, 0.1, 21)])
    tpf = read_tpf(simulate_tpf(tmp_path / 'a.fits', stars=[(2e5, 5.0, 5.0)], drift=drift, seed=1))
    _, x, y, _ = place_stars(tpf.wcs.pixel_to_world([5.0], [5.0]), tpf)
    assert (x[0], y[0]) == pytest.approx((5.3, 4.7), abs=1e-5)


@pytest.mark.parametrize('name', [
    'kepler/kplr008462852-q08-first100.fits', 'tess/tess25155310-s01-first-cadences.fits.gz',
    'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz'])
def test_the_target_of_a_real_file_is_where_the_file_has_it(kpsf_data, name):
    tpf = read_tpf(kpsf_data / name)
    _, x, y, _ = place_stars({'ra': [tpf.meta['ra']], 'dec': [tpf.meta['dec']]}, tpf)
    expected = [np.median(place) for place in tpf.expected_positions()]
    assert (x[0], y[0]) == pytest.approx(expected, abs=0.02)


def test_names_and_fluxes_are_those_of_the_table_or_made_up(tpf):
    names, _, _, flux = place_stars({'x': X, 'y': Y}, tpf)
    assert names == ['star 1', 'star 2']
    assert np.isnan(flux).all()
    table = Table({'x': X, 'y': Y, 'name': [12, 7], 'flux': MaskedColumn(FLUX, mask=[0, 1])})
    names, _, _, flux = place_stars(table, tpf)
    assert names == ['12', '7']
    np.testing.assert_array_equal(flux, [2e5, np.nan])


def test_units_are_heeded(tpf):
    table = QTable({'x': X * u.pix, 'y': Y * u.pix, 'flux': FLUX * 60 * u.electron / u.min})
    assert_placed(table, tpf)
    np.testing.assert_allclose(place_stars(table, tpf)[3], FLUX)


@pytest.mark.parametrize(('stars', 'error', 'message'), [
    ({'x': [5.0], 'z': [5.0]}, ValueError, 'x and y .* ra and dec .* but it has x, z: rename'),
    ({'x': [], 'y': []}, ValueError, 'at least one star, but the table is empty'),
    ({'x': [5.0, np.nan], 'y': [5.0, 5.0]}, ValueError, 'column x .* but 1 of 2 values are NaN'),
    (Table({'x': [5.0, 6.0], 'y': MaskedColumn([5.0, 5.0], mask=[0, 1])}), ValueError,
     'column y of stars must be finite, but 1 of 2'),
    ({'x': [5.0, 6.0], 'y': [5.0, 6.0], 'name': ['a', 'a']}, ValueError, 'must differ.* a, a: re'),
    ({'x': [5.0, 7.0, 5.0], 'y': [6.0, 6.0, 6.0]}, ValueError,
     r'star 1 and star 3 are both at \(5.00, 6.00\): leave one out'),
    ({'x': ['a'], 'y': ['b']}, TypeError, 'column x of stars must be numbers, but it is <U1'),
    ({'ra': ['19:22:40'], 'dec': ['+44:30:00']}, TypeError, 'strings like 19:22:40 with SkyCoord'),
    (QTable({'x': [5.0] * u.arcsec, 'y': [5.0] * u.arcsec}), ValueError,
     'column x of stars must be in pix, but it is in arcsec: convert it'),
    ({'ra': [110.0], 'dec': [-44.0]}, ValueError, 'leave out stars that are elsewhere in the sky'),
    (5, TypeError, 'must be a table, but they are int'),
    ('stars.csv', TypeError, 'must be a table, but they are str'),
    ([1.0, 2.0], TypeError, 'must be a table, but they are list')])
def test_wrong_tables_say_what_is_needed(tpf, stars, error, message):
    with pytest.raises(error, match=message):
        place_stars(stars, tpf)


def test_a_file_without_a_wcs_says_what_to_pass_instead(tpf, sky):
    blind = replace(tpf, wcs=None)
    assert_placed({'x': X, 'y': Y}, blind)
    with pytest.raises(ValueError, match='KIC 100000001 has none: pass their x and y, or column'):
        place_stars(sky, blind)
    with pytest.raises(ValueError, match='KIC 100000001 has none: pass a table of stars'):
        query_gaia(blind)


def test_stars_are_found_in_the_mean_image(tpf):
    stars = find_stars(tpf)
    assert stars['name'].tolist() == ['target', 'star 2']
    np.testing.assert_allclose(stars['x'], X, atol=0.1)
    np.testing.assert_allclose(stars['y'], Y, atol=0.1)
    np.testing.assert_allclose(np.asarray(stars['flux']), FLUX, rtol=0.1)
    assert (stars['significance'] > 10).all()
    assert place_stars(stars, tpf)[0] == ['target', 'star 2']


def test_the_target_comes_first_and_the_others_by_brightness(tmp_path):
    # The header has the target at the first star.
    path = simulate_tpf(tmp_path / 'a.fits', seed=1, n_cadences=10,
                        stars=[(2e4, 5.0, 5.0), (3e4, 2.0, 8.0), (2e5, 8.0, 2.0)])
    stars = find_stars(path)
    np.testing.assert_allclose(stars['x'], [5.0, 8.0, 2.0], atol=0.1)
    np.testing.assert_allclose(stars['y'], [5.0, 2.0, 8.0], atol=0.1)
    assert len(find_stars(path, n=1)) == 1
    assert len(find_stars(path, threshold=2e4)) == 1


def test_an_image_without_stars_says_what_to_do(tmp_path):
    path = simulate_tpf(tmp_path / 'a.fits', stars=[(0.0, 5.0, 5.0)], n_cadences=10, seed=1)
    with pytest.raises(ValueError, match='none above 10 sigma .* KIC 100000001: lower the thresh'):
        find_stars(path)


def gaia_table(tpf, **columns):
    """Return what the archive knows of a target, a faint and a moving star, in 2016."""
    sky = tpf.wcs.pixel_to_world([5.0, 5.3, 2.0], [5.0, 5.1, 8.0])
    return Table({'source_id': [11, 22, 33], 'ra': sky.ra.deg, 'dec': sky.dec.deg,
                  'ref_epoch': [2016.0] * 3,
                  'pmra': MaskedColumn([0.0, 0.0, 500.0], mask=[0, 1, 0]),
                  'pmdec': MaskedColumn([0.0, 0.0, -300.0], mask=[0, 1, 0]),
                  'phot_g_mean_mag': [13.0, 18.0, 11.0], **columns})


def test_stars_of_gaia_are_where_they_were_at_the_time(tpf):
    found = _from_gaia(gaia_table(tpf), tpf, 20.0)
    # The brightest within 1.5 pixels of the target first, then by brightness.
    assert found['name'].tolist() == ['Gaia 11', 'Gaia 33', 'Gaia 22']
    np.testing.assert_allclose(found['magnitude'], [13.0, 11.0, 18.0])
    np.testing.assert_allclose(found['flux'],
                               GAIA_FLUX['Kepler'] * 10**(-0.4 * found['magnitude']))
    now = SkyCoord(found['ra'], found['dec'], unit='deg')
    then = tpf.wcs.pixel_to_world(2.0, 8.0)
    moved = SkyCoord(then.ra, then.dec, pm_ra_cosdec=500 * u.mas / u.yr, obstime='J2016',
                     pm_dec=-300 * u.mas / u.yr, distance=100 * u.pc)
    moved = moved.apply_space_motion(tpf.time.mean())
    assert now[1].separation(moved).to_value(u.mas) < 1.0
    assert now[1].separation(then).to_value(u.arcsec) > 2.0
    # A star whose motion is not known stays.
    assert now[2].separation(tpf.wcs.pixel_to_world(5.3, 5.1)).to_value(u.mas) < 0.01
    _, x, y, _ = place_stars(found, tpf)
    assert (x[0], y[0]) == pytest.approx((5.0, 5.0), abs=1e-6)


def test_faint_stars_and_those_without_a_magnitude_are_left_out(tpf):
    masked = gaia_table(tpf, phot_g_mean_mag=MaskedColumn([13.0, 18.0, 11.0], mask=[0, 0, 1]))
    assert _from_gaia(masked, tpf, 17.0)['name'].tolist() == ['Gaia 11']
    with pytest.raises(ValueError, match='none brighter than 10 here: raise magnitude_limit'):
        _from_gaia(masked, tpf, 10.0)
    capital = gaia_table(tpf)
    capital.rename_column('source_id', 'SOURCE_ID')
    assert _from_gaia(capital, tpf, 12.0)['name'].tolist() == ['Gaia 33']


class Archive:
    """Gaia's archive, asked for real elsewhere."""

    ROW_LIMIT = 50
    asked = []

    def __init__(self, show_server_messages=True):
        assert not show_server_messages

    def cone_search_async(self, coordinate, *, radius):
        assert self.ROW_LIMIT == -1
        self.asked.append((coordinate, radius))
        return self

    def get_results(self):
        return self.table


class Unreachable(Archive):
    def cone_search_async(self, coordinate, *, radius):
        raise OSError('no route to host')


@pytest.fixture
def archive(monkeypatch):
    """Return a function that puts an archive in the place of astroquery's."""
    def put(kind):
        module = ModuleType('astroquery.gaia')
        module.GaiaClass = kind
        package = ModuleType('astroquery')
        package.gaia = module
        monkeypatch.setitem(sys.modules, 'astroquery', package)
        monkeypatch.setitem(sys.modules, 'astroquery.gaia', module)
    return put


def test_gaia_is_asked_for_the_stamp_and_a_little_more(tpf, archive, monkeypatch):
    monkeypatch.setattr(Archive, 'table', gaia_table(tpf), raising=False)
    monkeypatch.setattr(Archive, 'asked', [])
    archive(Archive)
    found = query_gaia(tpf, magnitude_limit=15.0)
    assert found['name'].tolist() == ['Gaia 11', 'Gaia 33']
    query_gaia(tpf, radius=7 * u.arcsec)
    (centre, radius), (_, smaller) = Archive.asked
    assert centre.separation(tpf.wcs.pixel_to_world(5.0, 5.0)).arcsec < 0.01
    # Half the diagonal of eleven pixels is 7.8.
    assert radius.to_value(u.arcsec) == pytest.approx((7.78 + 2.0) * 3.98, rel=1e-3)
    assert smaller == 7 * u.arcsec


def test_an_archive_that_cannot_be_reached_says_what_to_pass_instead(tpf, archive):
    archive(Unreachable)
    with pytest.raises(ConnectionError, match='no route to host.: pass a table of stars .* or use '
                                              'find_stars'):
        query_gaia(tpf)


def test_without_astroquery_the_error_says_what_to_pass_instead(tpf, monkeypatch):
    monkeypatch.setitem(sys.modules, 'astroquery.gaia', None)
    with pytest.raises(ImportError, match='pip install astroquery, or pass a table of stars'):
        query_gaia(tpf)


def test_the_simulated_wcs_is_that_of_its_columns(tpf, tmp_path):
    # The sky in the header of the aperture and that of the pixel columns are one.
    path = simulate_tpf(tmp_path / 'a.fits', stars=[(2e5, 4.0, 6.0)], n_cadences=2, seed=1)
    header, aperture = fits.getheader(path, 1), fits.getheader(path, 2)
    n = next(i for i in range(1, 20) if header.get(f'TTYPE{i}') == 'FLUX')
    for axis in (1, 2):
        assert header[f'{axis}CRPX{n}'] == aperture[f'CRPIX{axis}']
        assert header[f'{axis}CRVL{n}'] == aperture[f'CRVAL{axis}']
        assert header[f'{axis}CDLT{n}'] == aperture[f'CDELT{axis}']
