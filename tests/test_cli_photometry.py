# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf photometry`: what it measures, where its numbers come from, and how it fails."""

import hashlib
import os
import re
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from photutils.psf import CircularGaussianPRF

from kpsf import cli
from kpsf.cli.electrons import Electrons, find_electrons, unit_of
from kpsf.cli.stars import find_stars, group_stars
from kpsf.simulate import simulate_tpf

FWHM, GAIN, READ_NOISE = 2.5, 2.0, 4.0
X, Y = np.array([12.3, 30.1, 45.0]), np.array([10.2, 33.7, 14.4])
FLUX = np.array([4000.0, 9000.0, 2500.0])
CORRUPT = ('tabby-corrupted-at-header.fits', 'tabby-corrupted.fits')


def expected_counts(shape=(50, 60), flux=FLUX):
    y, x = np.mgrid[:shape[0], :shape[1]]
    psf = CircularGaussianPRF(fwhm=FWHM)
    return 40.0 + sum(psf.evaluate(x, y, *star, FWHM) for star in zip(flux, X, Y))


def celestial():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (150.0, 2.0), (30.0, 25.0), (-1e-4, 1e-4)
    return wcs


def write_image(path, data, header=None, **keywords):
    header = fits.Header() if header is None else header.copy()
    header.update(keywords)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    return path


def gaussian_image(size=41, oversampling=4, shift=0.0, fwhm=FWHM):
    place = (np.arange(size) - (size - 1) / 2) / oversampling - shift
    x, y = np.meshgrid(place, place)
    data = CircularGaussianPRF(fwhm=fwhm).evaluate(x, y, 1.0, 0.0, 0.0, fwhm)
    return data * oversampling**2 / data.sum()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with an image of three stars, in adu, and a table of them."""
    rng = np.random.default_rng(5)
    mean = expected_counts()
    data = (rng.poisson(mean) + rng.normal(0.0, READ_NOISE, mean.shape)) / GAIN
    write_image(tmp_path / 'image.fits', data, celestial().to_header(), BUNIT='adu', GAIN=GAIN,
                RDNOISE=READ_NOISE)
    Table({'x': X, 'y': Y}).write(tmp_path / 'stars.ecsv')
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    return tmp_path


def run(here, *arguments, psf=f'gaussian:{FWHM}', image='image.fits', stars=None):
    """Run the command; return its exit status."""
    stars = ['--init', here / 'stars.ecsv'] if stars is None else stars
    psf = [] if psf is None else ['--psf', psf]
    return cli.main(['photometry', *map(str, [here / image, *psf, *stars, *arguments])])


def require_recovered(table, gain=GAIN, flux=FLUX):
    pulls = (np.asarray(table['flux_fit'].value) - flux / gain) / table['flux_err'].value
    assert np.all(np.abs(pulls) < 4.0)
    assert np.all(table['flux_err'].value < 0.1 * flux / gain)
    np.testing.assert_allclose(table['x_fit'], X, atol=0.15)
    np.testing.assert_allclose(table['y_fit'], Y, atol=0.15)


def test_stars_of_a_table_are_measured_in_the_units_of_the_image(here, capsys):
    assert run(here) == 0
    table = QTable.read('image-photometry.ecsv')
    require_recovered(table)
    assert table['flux_fit'].unit == table['background_fit'].unit == u.adu
    np.testing.assert_allclose(table['background_fit'].value, 20.0, rtol=0.05)
    first, second = capsys.readouterr().out.splitlines()
    assert re.search(r'image\.fits: 3 stars to fit; gain 2 e- per adu \(header GAIN\), read noise '
                     r'4 e- \(header RDNOISE\); CircularGaussianPRF in boxes of 13 x 13 pixels, '
                     'background fitted; groups: closer than 10 pixels', first)
    assert re.search(r'image\.fits: 3 stars, 0 flagged, median S/N [\d.]+, goodness of fit '
                     r'[-+][\d.]+ \([-+][\d.]+ to [-+][\d.]+\) sigma -> image-photometry\.ecsv$',
                     second)


def test_the_table_tells_where_it_comes_from(here):
    assert run(here, '--centroid-prior', 0.5, '--saturation', 1e5) == 0
    meta = QTable.read('image-photometry.ecsv').meta
    assert {name: meta[name] for name in (
        'image', 'gain', 'read_noise', 'psf', 'fit_shape', 'background', 'centroid_prior',
        'saturation')} == {
            'image': 'image.fits', 'gain': GAIN, 'read_noise': READ_NOISE, 'psf': 'gaussian:2.5',
            'fit_shape': 13, 'background': 'fit', 'centroid_prior': 0.5, 'saturation': 1e5}
    assert meta['image_sha256'] == hashlib.sha256((here / 'image.fits').read_bytes()).hexdigest()
    assert {'kpsf_version', 'photutils_version', 'astropy_version'} <= set(meta)
    assert 'threshold' not in meta


@pytest.mark.parametrize('name', ['out.fits', 'out.fits.gz', 'out.csv', 'out.ecsv'])
def test_the_same_table_is_written_in_every_format(here, name):
    assert run(here, '-o', 'first.ecsv') == 0
    assert run(here, '-o', name) == 0
    first, other = QTable.read('first.ecsv'), QTable.read(name)
    assert other.colnames == first.colnames
    for column in first.colnames:
        # CSV has empty cells for NaN, which are masked when they are read.
        values = np.ma.filled(np.ma.asarray(Table(other)[column], dtype=float), np.nan)
        np.testing.assert_allclose(values, np.asarray(first[column]), rtol=1e-12)
    if '.fits' in name:
        assert other['flux_fit'].unit == u.adu
        assert other['ra'].unit == u.deg
        header = fits.getheader(name, 1)
        assert (header['GAIN'], header['IMAGE'], header['PSF']) == (2.0, 'image.fits',
                                                                    'gaussian:2.5')
        assert len(header['IMSHA256']) == 64


def test_electrons_are_a_unit_of_fits_tables(here, capsys):
    data = np.random.default_rng(6).poisson(expected_counts()).astype(float)
    write_image(here / 'electrons.fits', data, BUNIT='electron')
    assert run(here, '-o', 'stars.fits', image='electrons.fits') == 0
    assert not capsys.readouterr().err
    with fits.open('stars.fits') as hdulist:
        columns, table = hdulist[1].columns, Table(hdulist[1].data)
    assert columns['flux_fit'].unit == columns['background_err'].unit == 'electron'
    assert np.all(np.abs(table['flux_fit'] - FLUX) < 4 * table['flux_err'])


def test_stars_are_found(here):
    assert run(here, stars=['--threshold', 5]) == 0
    table = QTable.read('image-photometry.ecsv')
    assert len(table) == 3
    table = table[np.argsort(table['x_fit'])]
    require_recovered(table)
    assert table.meta['threshold'] == 5.0


def test_stars_are_found_around_masked_pixels_and_on_a_slope(here):
    rng = np.random.default_rng(2)
    slope = 1.0 + 2.0 * np.arange(120.0)
    y, x = np.mgrid[:100, :120]
    places = [(20.0, 20.0), (60.0, 70.0), (100.0, 40.0)]
    psf = CircularGaussianPRF(fwhm=FWHM)
    data = rng.poisson(slope + sum(psf.evaluate(x, y, 5000.0, *place, FWHM)
                                   for place in places)).astype(float)
    data[:, 80], data[50, 30] = np.nan, 1e6
    write_image(here / 'slope.fits', data, BUNIT='electron')
    assert run(here, '--saturation', 1e5, image='slope.fits', stars=['--threshold', 6]) == 0
    table = QTable.read('slope-photometry.ecsv')
    found = sorted(zip(table['x_fit'].round(), table['y_fit'].round()))
    assert found == places


def test_coordinates_are_given_and_taken(here):
    assert run(here) == 0
    table = QTable.read('image-photometry.ecsv')
    sky = celestial().pixel_to_world(table['x_fit'], table['y_fit'])
    np.testing.assert_allclose(table['ra'].to_value('deg'), sky.ra.deg, atol=1e-9)
    np.testing.assert_allclose(table['dec'].to_value('deg'), sky.dec.deg, atol=1e-9)
    true = celestial().pixel_to_world(X, Y)
    QTable({'id': [7, 8, 9], 'RA': true.ra.to('hourangle'), 'Dec': true.dec}).write(
        here / 'sky.ecsv')
    assert run(here, '-o', 'sky.ecsv', stars=['--init', here / 'sky.ecsv']) == 0
    sky = QTable.read('sky.ecsv')
    assert sky['id'].tolist() == [7, 8, 9]
    np.testing.assert_allclose(sky['x_init'], X, atol=1e-6)
    np.testing.assert_allclose(sky['flux_fit'].value, table['flux_fit'].value, rtol=1e-3)


def test_galactic_coordinates_become_right_ascension(here):
    wcs = celestial()
    wcs.wcs.ctype = 'GLON-CAR', 'GLAT-CAR'
    wcs.wcs.crval = 0.0, 0.0
    data = fits.getdata(here / 'image.fits')
    write_image(here / 'plane.fits', data, wcs.to_header(), BUNIT='adu', GAIN=GAIN, RDNOISE=4.0)
    assert run(here, image='plane.fits') == 0
    table = QTable.read('plane-photometry.ecsv')
    # The centre of the Galaxy.
    np.testing.assert_allclose(table['ra'].to_value('deg'), 266.405, atol=0.01)
    np.testing.assert_allclose(table['dec'].to_value('deg'), -28.936, atol=0.01)


@pytest.mark.parametrize(('name', 'columns'), [
    ('stars.csv', ('x_init', 'y_init')), ('stars.fits', ('X', 'Y')), ('stars.txt', ('x', 'y')),
    ('stars.ecsv', ('xcentroid', 'ycentroid')), ('stars.fits', ('x_fit', 'y_fit'))])
def test_tables_of_all_kinds_are_read(here, name, columns):
    table = Table({columns[0]: X, columns[1]: Y, 'flux': [1e9, -5.0, np.nan]})
    kind = {'format': 'ascii.commented_header'} if name.endswith('.txt') else {}
    table.write(here / name, overwrite=True, **kind)
    assert run(here, stars=['--init', here / name]) == 0
    # A column flux may be of another catalogue, and starts nothing.
    require_recovered(QTable.read('image-photometry.ecsv'))


def test_starting_fluxes_have_the_unit_of_the_image(here):
    QTable({'x': X, 'y': Y, 'flux_init': FLUX / GAIN * u.adu}).write(here / 'flux.ecsv')
    assert run(here, stars=['--init', here / 'flux.ecsv']) == 0
    np.testing.assert_allclose(QTable.read('image-photometry.ecsv')['flux_init'].value, FLUX / 2)


def test_wrong_units_of_starting_fluxes_are_named(here, capsys):
    QTable({'x': X, 'y': Y, 'flux_init': FLUX * u.mJy}).write(here / 'flux.ecsv')
    assert run(here, stars=['--init', here / 'flux.ecsv']) == 1
    assert 'flux_init must be in the unit of the image, adu' in capsys.readouterr().err


def test_positions_that_are_missing_are_flagged_and_the_rest_is_measured(here, capsys):
    Table({'x': np.ma.array([*X, 5.0, 500.0], mask=[0, 0, 0, 1, 0]),
           'y': [*Y, 5.0, 500.0]}).write(here / 'holes.ecsv')
    assert run(here, '--plot', 'a.png', stars=['--init', here / 'holes.ecsv']) == 0
    table = QTable.read('image-photometry.ecsv')
    require_recovered(table[:3])
    assert (np.asarray(table['flags'])[3:] > 0).all()
    assert ('5 stars, 2 flagged (n_pixels_fit_partial 2, no_covariance 2, no_overlap 1, '
            'non_finite_position 2, non_finite_flux 2), median' in capsys.readouterr().out)


def test_the_summary_says_that_a_psf_or_gain_is_not_right(here, capsys):
    assert run(here, psf='gaussian:4.0') == 0
    assert re.search(r'3 stars, 0 flagged, .* sigma; 3 stars above 5: the PSF or the noise is not '
                     r'right there, see kpsf advise -> image-photometry\.ecsv$',
                     capsys.readouterr().out)
    assert run(here, '--gain', 0.2, '--read-noise', 1, '--overwrite') == 0
    assert re.search(r' -[\d.]+\) sigma; the pixels scatter less than photons do: is the gain '
                     r'right[?] -> ', capsys.readouterr().out)


def test_one_star_is_one(here, capsys):
    Table({'x': X[:1], 'y': Y[:1]}).write(here / 'one.csv')
    assert run(here, stars=['--init', here / 'one.csv']) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.search('fits: 1 star to fit; ', first)
    assert re.search(r'fits: 1 star, 0 flagged, S/N [\d.]+, goodness of fit \S+ sigma -> ', second)


@pytest.mark.parametrize('name', ['image.fits.gz', 'many.fits'])
def test_compressed_images_and_extensions_are_read(here, name):
    data, header = fits.getdata(here / 'image.fits', header=True)
    if name == 'many.fits':
        # The gain is in the primary header, as in many archives.
        primary = fits.PrimaryHDU()
        primary.header.update({'GAIN': GAIN, 'RDNOISE': READ_NOISE})
        hdus = [primary, fits.ImageHDU(np.zeros((2, 50, 60)), name='CUBE'),
                fits.ImageHDU(data, celestial().to_header(), name='SCI'),
                fits.ImageHDU(np.ones((50, 60)), name='FLAT')]
        hdus[2].header['BUNIT'] = 'adu'
        fits.HDUList(hdus).writeto(here / name)
    else:
        fits.PrimaryHDU(data, header).writeto(here / name)
    assert run(here, image=name) == 0
    require_recovered(QTable.read(f'{name.split(".")[0]}-photometry.ecsv'))
    if name == 'many.fits':
        for extension in ('SCI', 2):
            assert run(here, '--extension', extension, '-o', f'{extension}.csv', image=name) == 0


@pytest.mark.parametrize(('extension', 'message'), [
    ('NONE', r'has no extension NONE, only 0 PRIMARY \(60 x 50 pixels\): choose'),
    (3, r'has no extension 3, only 0 PRIMARY'),
])
def test_extensions_that_are_not_there_are_named(here, capsys, extension, message):
    assert run(here, '--extension', extension) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_a_target_pixel_file_is_for_another_command(here, capsys):
    # Its only image is the aperture.
    simulate_tpf(here / 'targ.fits', n_cadences=3, seed=1)
    assert run(here, image='targ.fits') == 1
    line, = capsys.readouterr().err.splitlines()
    assert 'targ.fits is a target pixel file: use kpsf lightcurve' in line


def test_extensions_without_an_image_are_refused(here, capsys):
    table = fits.table_to_hdu(Table({'x': X}))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(here / 'table.fits')
    assert run(here, image='table.fits') == 1
    assert re.search(r'table\.fits has only 0 PRIMARY \(no data\), 1  ?\(a table\): pass another',
                     capsys.readouterr().err)
    assert run(here, '--extension', 1, image='table.fits') == 1
    assert 'extension 1 of' in capsys.readouterr().err


def test_masked_and_saturated_pixels_do_not_count(here):
    data = fits.getdata(here / 'image.fits').astype(float)
    level = np.sort(data.ravel())[-3]
    header = fits.getheader(here / 'image.fits')
    write_image(here / 'clipped.fits', np.minimum(data, level), header)
    assert run(here, '--saturation', level, image='clipped.fits') == 0
    table = QTable.read('clipped-photometry.ecsv')
    require_recovered(table)
    assert table['n_pixels_fit'][1] == 13 * 13 - 3
    bad = np.zeros(data.shape, dtype=np.int16)
    bad[10, 12] = bad[11, 12] = 4
    data[bad > 0] = 1e5
    write_image(here / 'bad.fits', data, header)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(bad, name='DQ')]).writeto(here / 'mask.fits')
    assert run(here, '--mask', f'{here / "mask.fits"}[DQ]', image='bad.fits') == 0
    table = QTable.read('bad-photometry.ecsv')
    require_recovered(table)
    assert table['n_pixels_fit'][0] == 13 * 13 - 2
    assert table.meta['mask'].endswith('mask.fits[DQ]')


@pytest.mark.parametrize('place', ['level', 'file'])
def test_a_subtracted_background_is_put_back(here, place):
    data, header = fits.getdata(here / 'image.fits', header=True)
    write_image(here / 'subtracted.fits', data - 20.0, header)
    write_image(here / 'level.fits', np.full(data.shape, 20.0))
    level = 20.0 if place == 'level' else here / 'level.fits'
    for stars in (None, ['--threshold', 5]):
        assert run(here, '--background-subtracted', level, '--overwrite', image='subtracted.fits',
                   stars=stars) == 0
        table = QTable.read('subtracted-photometry.ecsv')
        require_recovered(table[np.argsort(table['x_fit'])])
        assert np.isnan(table['background_fit'].value).all()
    assert table.meta['background'] == (20.0 if place == 'level' else str(level))


def test_negative_counts_ask_for_what_was_subtracted(here, capsys):
    data, header = fits.getdata(here / 'image.fits', header=True)
    write_image(here / 'subtracted.fits', data - 20.0, header, RDNOISE=0.5)
    assert run(here, image='subtracted.fits') == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search('pixels around the stars are negative .*: pass the background that was '
                     'subtracted as --background-subtracted, so that', line)
    assert run(here, '--background-subtracted', 3, image='subtracted.fits') == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search('check that --background-subtracted is .* as --read-noise', line)


def test_a_subtracted_background_is_noticed_beside_read_noise(here, capsys):
    data, header = fits.getdata(here / 'image.fits', header=True)
    write_image(here / 'subtracted.fits', data - 20.0, header)
    assert run(here, image='subtracted.fits') == 0
    line, = capsys.readouterr().err.splitlines()
    assert re.match('kpsf: warning: .*subtracted.fits: .* below -8 electrons, .* was a background '
                    'subtracted[?] Pass it as --background-subtracted, or .* as --read-noise',
                    line)


def test_options_reach_the_fits(here, capsys):
    assert run(here, '--box', 9, '--group-separation', 60, '--threads', 2, '--free-width') == 0
    table = QTable.read('image-photometry.ecsv')
    assert (table['group_size'] == 3).all()
    assert table.meta['fit_shape'] == 9
    np.testing.assert_allclose(table['fwhm_fit'], FWHM, rtol=0.1)
    assert run(here, '--group-separation', 0, '--overwrite') == 0
    assert (QTable.read('image-photometry.ecsv')['group_size'] == 1).all()
    assert 'groups: none' in capsys.readouterr().out
    Table({'x': X, 'y': Y, 'group_id': [4, 4, 5]}).write(here / 'grouped.ecsv')
    assert run(here, '--overwrite', stars=['--init', here / 'grouped.ecsv']) == 0
    assert QTable.read('image-photometry.ecsv')['group_id'].tolist() == [4, 4, 5]


def test_groups_are_as_wide_as_the_boxes_but_not_large():
    pair = Table({'x': [0.0, 9.0, 50.0, np.nan], 'y': [0.0, 0.0, 0.0, 0.0]})
    groups, separation = group_stars(pair, 2.5)
    assert (groups.tolist(), separation) == ([1, 1, 2, 3], 10.0)
    line = Table({'x': 6.0 * np.arange(100), 'y': np.zeros(100)})
    groups, separation = group_stars(line, 2.5)
    assert (len(set(groups.tolist())), separation) == (100, 5.0)
    assert group_stars(line, 2.5, 6.5)[1] == 6.5
    assert set(group_stars(line, 2.5, 6.5)[0]) == {1}
    assert len(set(group_stars(line, 2.5, 0.0)[0].tolist())) == 100


def test_a_figure_is_drawn(here):
    assert run(here, '--plot', 'stars.png') == 0
    assert Path('stars.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(os.listdir()) == ['image-photometry.ecsv', 'stars.png']


@pytest.mark.parametrize(('size', 'message'), [(41, ''), (40, '')])
def test_a_psf_image_measures_the_same(here, capsys, size, message):
    write_image(here / 'psf.fits', gaussian_image(size), OVERSAMP=4)
    assert run(here, psf=here / 'psf.fits') == 0
    table = QTable.read('image-photometry.ecsv')
    require_recovered(table)
    np.testing.assert_allclose(table.meta['fwhm'], FWHM, rtol=0.15)
    printed = capsys.readouterr()
    assert 'ImagePSF in boxes of' in printed.out
    assert not printed.err


def test_the_oversampling_is_given_where_the_header_is_silent(here, capsys):
    write_image(here / 'psf.fits', gaussian_image())
    assert run(here, psf=here / 'psf.fits') == 1
    assert ('header of' in (line := capsys.readouterr().err)
            and 'pass it as --oversampling, 1 if' in line)
    assert run(here, '--oversampling', 4, psf=here / 'psf.fits') == 0
    require_recovered(QTable.read('image-photometry.ecsv'))
    write_image(here / 'psf.fits', gaussian_image(), OVERSAMP=4, DET_SAMP=2)
    assert run(here, '--overwrite', psf=here / 'psf.fits') == 1
    assert 'OVERSAMP = 4 and DET_SAMP = 2' in capsys.readouterr().err


def test_a_psf_of_another_sum_is_told_of_and_scaled_only_when_asked(here, capsys):
    write_image(here / 'psf.fits', gaussian_image() / 16, OVERSAMP=4)
    assert run(here, psf=here / 'psf.fits') == 0
    line, = capsys.readouterr().err.splitlines()
    assert re.search(r'a flux of 1 of ImagePSF puts 0\.0625 into the pixels: the total flux is '
                     r'0\.0625 x the fitted one.*--normalize', line)
    table = QTable.read('image-photometry.ecsv')
    require_recovered(table, gain=GAIN / 16)
    assert run(here, '--normalize', '--overwrite', psf=here / 'psf.fits') == 0
    table = QTable.read('image-photometry.ecsv')
    require_recovered(table)
    assert table.meta['normalize'] is True
    assert not capsys.readouterr().err


def test_a_psf_image_whose_star_is_not_in_the_middle_is_told_of(here, capsys):
    # The star in the middle of a pixel of an image of even size.
    write_image(here / 'psf.fits', gaussian_image(40, shift=0.125), OVERSAMP=4)
    assert run(here, psf=here / 'psf.fits') == 0
    line, = capsys.readouterr().err.splitlines()
    assert re.search(r'core of .*psf\.fits is \(\+0\.1[23], \+0\.1[23]\) pixels away', line)


def write_grid(path, kind, widths=((2.0, 2.5), (3.0, 3.5))):
    """Write a grid of two by two PSFs, with the widths by row and column."""
    images = [gaussian_image(41, fwhm=width) for row in widths for width in row]
    if kind == 'stdpsf':
        keywords = {'NXPSFS': 2, 'NYPSFS': 2, 'IPSFX01': 1, 'IPSFX02': 101, 'JPSFY01': 1,
                    'JPSFY02': 101}
    else:
        keywords = {'OVERSAMP': 4} | {
            f'DET_YX{n}': str((y, x))
            for n, (y, x) in enumerate([(0.0, 0.0), (0.0, 100.0), (100.0, 0.0), (100.0, 100.0)])}
    write_image(path, np.array(images, dtype='f4'), **keywords)


@pytest.mark.parametrize('kind', ['stdpsf', 'webbpsf'])
def test_a_grid_of_psfs_has_each_in_its_place(here, capsys, kind):
    write_grid(here / 'grid.fits', kind)
    psf = cli.psf.make_psf(cli._parser().parse_args(
        ['photometry', 'i.fits', '--psf', str(here / 'grid.fits'), '--threshold', '5']))
    x, y = np.meshgrid(np.arange(90.0, 111.0), np.arange(-10.0, 11.0))
    # At the end of the first row.
    found = psf.evaluate(x, y, 1.0, 100.0, 0.0)
    expected = CircularGaussianPRF(fwhm=2.5).evaluate(x, y, 1.0, 100.0, 0.0, 2.5)
    assert np.abs(found - expected).max() < 0.02 * expected.max()
    write_grid(here / 'grid.fits', kind, ((FWHM, FWHM), (FWHM, FWHM)))
    assert run(here, psf=here / 'grid.fits') == 0
    require_recovered(QTable.read('image-photometry.ecsv'))
    assert 'GriddedPSFModel' in capsys.readouterr().out
    assert run(here, '--oversampling', 2, '--overwrite', psf=here / 'grid.fits') == 1
    assert '--oversampling is for a single PSF image' in capsys.readouterr().err


@pytest.mark.parametrize(('data', 'keywords', 'message'), [
    (None, {}, r'psf\.fits has only 0 PRIMARY \(no data\)'),
    (np.ones((3, 9)), {'OVERSAMP': 1}, 'of at least 4 x 4 finite pixels is needed, but in'),
    (np.where(np.eye(9) > 0, np.nan, 1.0), {'OVERSAMP': 1}, '9 of 81 are not'),
    (-np.ones((9, 9)), {'OVERSAMP': 1}, 'must have a positive sum, but in .* it is -81'),
    (np.ones((4, 9, 9)), {}, 'A grid of PSFs needs their places in the header'),
    (np.ones((4, 9, 9)), {'OVERSAMP': 1, 'DET_YX0': '(1, 2)'}, "DET_YX1 of .* is ''"),
    (np.ones((4, 9, 9)), {'NXPSFS': 2, 'NYPSFS': 2}, 'STScI is needed, but .* cannot be read'),
])
def test_files_that_are_no_psf_are_refused(here, capsys, data, keywords, message):
    write_image(here / 'psf.fits', data, **keywords)
    assert run(here, psf=here / 'psf.fits') == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not os.listdir()


def header(**keywords):
    return fits.Header(keywords)


@pytest.mark.parametrize(('keywords', 'options', 'expected'), [
    ({'BUNIT': 'electrons', 'GAIN': 7.0}, {}, (1.0, 0.0, 'BUNIT electrons')),
    ({'BUNIT': 'photon'}, {}, (1.0, 0.0, 'BUNIT photon')),
    ({'BUNIT': 'ADU', 'EGAIN': 1.5, 'READNOIS': 3.0}, {}, (1.5, 3.0, 'header EGAIN')),
    ({'BUNIT': 'counts', 'CCDGAIN': 1.5, 'GAIN': 1.5}, {}, (1.5, 0.0, 'header GAIN')),
    ({'GAIN': 1.5, 'HIERARCH READNOISE': 3.0}, {'gain': 2.0}, (2.0, 3.0, '--gain')),
    ({'BUNIT': 'adu', 'RDNOISE': 3.0}, {'gain': 2.0, 'read_noise': 0.0}, (2.0, 0.0, '--gain')),
    ({'ATODGAIN': 7.0}, {}, (7.0, 0.0, 'header ATODGAIN')),
    ({'BUNIT': 'ELECTRONS/S', 'EXPTIME': 100.0}, {}, (100.0, 0.0, 'x exposure 100 s .header EXP')),
    ({'BUNIT': 'e- s^-1'}, {'exposure': 50.0}, (50.0, 0.0, 'x exposure 50 s .--exposure')),
    ({'BUNIT': 'DN/sec', 'GAIN': 2.0, 'EXPTIME': 5.0}, {}, (10.0, 0.0, 'header GAIN')),
    ({'BUNIT': 'cps', 'EXPTIME': 5.0}, {'gain': 3.0}, (15.0, 0.0, '--gain')),
    ({}, {'gain': 2.0, 'exposure': 5.0}, (10.0, 0.0, 'exposure')),
    ({'BUNIT': 'MJy/sr'}, {'gain': 2.0}, (2.0, 0.0, '--gain')),
])
def test_electrons_come_from_options_or_the_header(keywords, options, expected):
    found = find_electrons(header(**keywords), **options)
    assert (found.gain, found.read_noise) == expected[:2]
    assert re.search(expected[2], found.origin)


@pytest.mark.parametrize(('keywords', 'options', 'message'), [
    ({}, {}, 'gain of an image without BUNIT is needed, but the header has none of GAIN, EGAIN'),
    ({'GAIN': 0.0}, {}, 'has none of GAIN, EGAIN'),
    ({'BUNIT': 'adu'}, {}, 'The gain of an image in adu is needed.*pass the electrons'),
    ({'GAIN': 2.0, 'EGAIN': 0.5}, {}, 'must be one number, but .* GAIN = 2 and EGAIN = 0.5: pass'),
    ({'BUNIT': 'MJy/sr', 'GAIN': 2.0}, {}, 'The gain of an image in MJy/sr is needed: pass'),
    ({'BUNIT': 'electron/s'}, {}, 'The exposure of an image in electron/s is needed, .* --expos'),
    ({'BUNIT': 'electron/s', 'EXPTIME': 3.0, 'EXPOSURE': 2.0}, {}, 'EXPTIME = 3 and EXPOSURE = 2'),
    ({'BUNIT': 'electron'}, {'exposure': 3.0}, '--exposure is for an image of rates, but BUNIT'),
    ({'GAIN': 1.0, 'RDNOISE': 3.0, 'READNOIS': 4.0}, {}, 'RDNOISE = 3 and READNOIS = 4: pass it'),
])
def test_electrons_are_never_guessed(keywords, options, message):
    with pytest.raises(ValueError, match=message):
        find_electrons(header(**keywords), **options)


@pytest.mark.parametrize(('bunit', 'unit'), [
    ('ADU', u.adu), ('e-/s', u.electron / u.s), ('counts', u.ct), ('MJy/sr', u.MJy / u.sr),
    ('cows', None), ('', None)])
def test_units_are_read_as_they_are_spelled(bunit, unit):
    assert unit_of(header(BUNIT=bunit)) == unit


def test_images_without_a_known_unit_have_plain_numbers(here):
    data = np.random.default_rng(5).poisson(expected_counts())
    write_image(here / 'counts.fits', data.astype('i4'), BUNIT='cows')
    assert run(here, '--gain', 1, image='counts.fits') == 0
    table = QTable.read('counts-photometry.ecsv')
    assert not hasattr(table['flux_fit'], 'to_value')
    assert 'ra' not in table.colnames
    pulls = (table['flux_fit'] - FLUX) / table['flux_err']
    assert np.abs(pulls).max() < 4


def test_existing_files_are_kept_without_overwrite(here, capsys, monkeypatch):
    for name in ('image-photometry.ecsv', 'old.png'):
        Path(name).write_text('before')
    assert run(here) == 1
    assert run(here, '-o', 'new.ecsv', '--plot', 'old.png') == 1
    first, second = capsys.readouterr().err.splitlines()
    assert 'image-photometry.ecsv exists already: choose another name or pass --over' in first
    assert 'old.png exists already' in second
    assert sorted(os.listdir()) == ['image-photometry.ecsv', 'old.png']
    assert run(here, '--overwrite') == 0
    assert len(QTable.read('image-photometry.ecsv')) == 3


def test_nothing_is_left_of_a_table_that_cannot_be_written(here, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(QTable, 'write', fail)
    assert run(here) == 1
    assert 'disk full' in capsys.readouterr().err
    assert not os.listdir()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--box', '8'], "argument --box: an odd integer is needed, but it is '8'"),
    (['--box', 'x'], 'argument --box: an integer >= 1 is needed'),
    (['--gain', '0'], "argument --gain: a number > 0 is needed, but it is '0'"),
    (['--gain', 'nan'], 'argument --gain: a number > 0 is needed'),
    (['--read-noise', '-1'], 'argument --read-noise: a number >= 0 is needed'),
    (['--background-subtracted', '-1'], 'argument --background-subtracted: a number >= 0'),
    (['--exposure', 'inf'], 'argument --exposure: a number > 0 is needed'),
    (['--threshold', '5'], 'argument --threshold: not allowed with argument --init'),
    (['--oversampling', '2'], r'--oversampling is for --psf with a FITS file: leave it out'),
    (['--normalize'], '--normalize is for --psf with a FITS file'),
    (['--psf-detector', '1'], '--psf-detector is for --psf with a FITS file'),
    (['-o', 'a.txt'], r"-o must end in one of \.ecsv, .*, but it is 'a\.txt'"),
    (['--plot', 'a.fits'], r'--plot must end in one of \.png'),
    (['-o', 'none/a.ecsv'], 'there is no folder none: create it'),
    (['--plot', 'none/a.png'], 'there is no folder none: create it'),
    (['--mask', '[1]'], "argument --mask: a file is needed, but it is '.1.'"),
    (['-o', '../stars.ecsv'], r'\.\./stars\.ecsv would be read and written: choose'),
    (['--threads', '0'], 'argument --threads: an integer >= 1'),
    (['--near', '3', '4'], '--near is for stars that are found: leave out --near or --init'),
    (['--near', '3'], 'argument --near: expected 2 arguments'),
])
def test_wrong_calls_are_one_line_and_nothing_is_done(here, capsys, monkeypatch, arguments,
                                                      message):
    def fail(*args, **kwargs):
        raise AssertionError('The work began.')

    monkeypatch.setattr(cli.photometry, 'read_image_file', fail)
    assert run(here, *arguments) == 2
    printed = capsys.readouterr()
    line, = printed.err.splitlines()
    assert re.match(f'kpsf photometry: {message}', line)
    assert not printed.out
    assert not os.listdir()


@pytest.mark.parametrize(('psf', 'stars', 'message'), [
    ('gaussian', None, 'argument --psf: gaussian:FWHM is needed, with the width in pixels'),
    ('gaussian:wide', None, "argument --psf: a number > 0 is needed, but it is 'wide'"),
    (None, None, 'the following arguments are required: --psf'),
    ('gaussian:2', ['--threshold', '0'], 'argument --threshold: a number > 0 is needed'),
])
def test_psf_and_stars_must_be_named(here, capsys, psf, stars, message):
    assert run(here, psf=psf, stars=stars) == 2
    assert re.match(f'kpsf photometry: {message}', capsys.readouterr().err)


def test_a_free_width_is_for_a_gaussian(here, capsys):
    assert run(here, '--free-width', psf='psf.fits') == 2
    assert '--free-width is for --psf with gaussian:FWHM' in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_noticed_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    assert run(here) == 2
    assert 'is read-only: choose another' in capsys.readouterr().err


@pytest.mark.parametrize(('table', 'message'), [
    (Table({'x': X, 'mag': Y}), r'needs the columns x and y, or ra and dec, but .* has x, mag'),
    (Table({'x': [], 'y': []}), 'A table of at least one star is needed'),
    (Table({'x': ['1.5', 'n/a'], 'y': [1.0, 2.0]}),
     "Column x must be in pixels, but in .*ecsv it is not all numbers, as 'n/a': correct"),
    (Table({'ra': ['10:20'], 'dec': ['5']}), "ra must be in degrees, but in .*, as '10:20'"),
    (Table({'ra': X, 'dec': Y}, units={'ra': 'm'}), 'ra must be in degrees, .* in m: convert'),
    (None, r'there is no file .*table\.ecsv: check the name'),
    (b'\x00\x01\x02 no table', r'table\.ecsv cannot be read \('),
])
def test_tables_that_do_not_serve_are_named(here, capsys, table, message):
    path = here / 'table.ecsv'
    if isinstance(table, Table):
        table.write(path)
    elif table is not None:
        path.write_bytes(table)
    assert run(here, stars=['--init', path]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search(f'kpsf photometry: error: .*{message}', line)
    assert not os.listdir()


def test_coordinates_need_those_of_the_image(here, capsys):
    write_image(here / 'plain.fits', expected_counts(), BUNIT='electron')
    Table({'ra': X, 'dec': Y}).write(here / 'sky.ecsv')
    assert run(here, image='plain.fits', stars=['--init', here / 'sky.ecsv']) == 1
    assert 'has ra and dec, but the image has no celestial coordinates' in capsys.readouterr().err


def test_an_image_with_broken_coordinates_is_measured_without_them(here, capsys):
    data = fits.getdata(here / 'image.fits')
    write_image(here / 'broken.fits', data, BUNIT='adu', GAIN=GAIN, RDNOISE=READ_NOISE,
                CTYPE1='RA---XYZ', CTYPE2='DEC--XYZ')
    assert run(here, image='broken.fits') == 0
    table = QTable.read('broken-photometry.ecsv')
    assert 'ra' not in table.colnames
    require_recovered(table)


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('none.fits', None, r'A FITS image is needed, but there is no file .*none\.fits'),
    ('text.fits', b'hello', r'text\.fits begins with .* and is no FITS file'),
    ('half.fits', 'half', r'half\.fits must be a complete FITS file, but it is truncated'),
])
def test_images_that_cannot_be_read_are_named(here, capsys, name, content, message):
    if content == 'half':
        content = (here / 'image.fits').read_bytes()[:9000]
    if content is not None:
        (here / name).write_bytes(content)
    assert run(here, image=name) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search(f'kpsf photometry: error: .*{message}', line)
    assert not os.listdir()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--mask', 'small.fits'], 'A mask must have the size of the image, 60 x 50, but .* 5 x 4'),
    (['--background-subtracted', 'small.fits'], 'A background must have the size of the image'),
    (['--mask', 'none.fits'], r'A mask is needed, but there is no file none\.fits'),
    (['--saturation', '0.001'], 'all 3000 of .* are masked or not finite: check --mask'),
])
def test_companions_that_do_not_fit_are_named(here, capsys, arguments, message):
    write_image('small.fits', np.ones((4, 5)))
    assert run(here, *arguments) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert os.listdir() == ['small.fits']


def test_an_image_without_stars_says_so(here, capsys):
    write_image(here / 'empty.fits', np.random.default_rng(3).poisson(5.0, (60, 60)),
                BUNIT='electron')
    assert run(here, image='empty.fits', stars=['--threshold', 8]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert 'No star is 8 standard deviations above the background: lower --threshold' in line
    assert not os.listdir()


def test_an_image_of_nothing_has_no_stars(here, capsys):
    # A single photon is none.
    data = np.zeros((60, 60))
    data[20, 20] = 1.0
    write_image(here / 'dark.fits', data, BUNIT='photon')
    assert run(here, image='dark.fits', stars=['--threshold', 5]) == 1
    assert 'No star is 5' in capsys.readouterr().err


@pytest.mark.parametrize('level', [0.01, 0.1, 1.0, 100.0])
def test_noise_is_as_rarely_a_star_at_few_counts_as_at_many(level):
    n_found, mask, psf = 0, np.zeros((200, 400), dtype=bool), CircularGaussianPRF(fwhm=2.7)
    for seed in range(3):
        data = np.random.default_rng(seed).poisson(level, mask.shape).astype(float)
        try:
            n_found += len(find_stars(data, mask, None, psf, 4.0, Electrons(1.0, 0.0, '')))
        except ValueError as error:
            assert 'No star is 4' in str(error)
    # Maxima of a Gaussian field above u, for a PSF of standard deviation s (Adler & Taylor 2007):
    # area / (2 s**2) / (2 pi)**1.5 * u * exp(-u**2 / 2).
    variance = (2.7 / 2.3548)**2 + 1 / 12
    expected = 3 * mask.size / (2 * variance) / (2 * np.pi)**1.5 * 4.0 * np.exp(-8.0)
    assert n_found < expected + 3.0 * np.sqrt(expected)


def test_stars_are_found_at_few_counts(here):
    rng = np.random.default_rng(7)
    data = rng.poisson(0.1 + (expected_counts(flux=[60.0, 40.0, 50.0]) - 40.0))
    write_image(here / 'faint.fits', data, BUNIT='photon')
    assert run(here, '--centroid-prior', 1, image='faint.fits', stars=['--threshold', 4]) == 0
    table = QTable.read('faint-photometry.ecsv')
    order = np.argsort(table['x_fit'])
    np.testing.assert_allclose(table['x_fit'][order], X, atol=0.8)
    np.testing.assert_allclose(table['y_fit'][order], Y, atol=0.8)


def test_the_star_nearest_to_a_place_is_measured(here, capsys):
    assert run(here, '--overwrite', '--near', 29, 35, stars=[]) == 0
    table = QTable.read('image-photometry.ecsv')
    assert len(table) == 1
    assert abs(table['flux_fit'][0].value - FLUX[1] / GAIN) < 4.0 * table['flux_err'][0].value
    assert table.meta['near'] == '29 35'
    assert re.search(r'image\.fits: flux 4\d\d\d[.\d]* \+- [\d.]+ adu at \(30\.\d+, 33\.\d+\); '
                     '1 star, 0 flagged', capsys.readouterr().out)


def test_neighbours_are_fitted_with_the_star_that_is_meant(here):
    y, x = np.mgrid[:50, :60]
    psf = CircularGaussianPRF(fwhm=FWHM)
    mean = expected_counts() + psf.evaluate(x, y, 90000.0, X[1] + 6.0, Y[1], FWHM)
    write_image(here / 'pair.fits', np.random.default_rng(3).poisson(mean), BUNIT='photon')
    assert run(here, '-o', 'pair.fits', '--near', 30, 34, image='pair.fits', stars=[]) == 0
    table = QTable.read('pair.fits')
    np.testing.assert_allclose(table['x_fit'], [X[1], X[1] + 6.0], atol=0.1)
    pulls = (table['flux_fit'].value - [FLUX[1], 90000.0]) / table['flux_err'].value
    assert np.all(np.abs(pulls) < 4.0)
    assert fits.getheader('pair.fits', 1)['NEAR'] == '30 34'


@pytest.mark.parametrize(('near', 'message'), [
    (['500', '10'], '--near must'), (['nan', '10'], '--near must be two finite numbers')])
def test_a_place_must_be_in_the_image(here, capsys, near, message):
    assert run(here, '--near', *near, stars=[]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert message in line
    assert not os.listdir()


def test_a_place_without_a_star_says_so(here, capsys):
    counts = np.random.default_rng(4).poisson(40.0, (50, 60))
    write_image(here / 'empty.fits', counts, BUNIT='electron')
    assert run(here, '--near', 20, 30, image='empty.fits', stars=[]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.search('No star.* of --near 20 30 is 5 standard deviations above the background.*: '
                     'correct the place, lower --threshold, or', line)
    assert not os.listdir()


def test_truncated_files_are_refused(kpsf_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in CORRUPT:
        assert run(kpsf_data / 'corrupt', image=name, stars=['--threshold', 5]) == 1
        line, = capsys.readouterr().err.splitlines()
        assert name in line
    assert not os.listdir()


def test_photons_of_fermi_are_found_and_fitted(kpsf_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(kpsf_data / 'counts', '--gain', 1, '--centroid-prior', 1, '--plot', 'fermi.png',
               image='fermi_counts.fits.gz', psf='gaussian:2.7', stars=[]) == 0
    table = QTable.read('fermi_counts-photometry.ecsv')
    assert 25 < len(table) < 50
    good = table[np.asarray(table['flags']) == 0]
    assert len(good) > 0.85 * len(table)
    # The Galaxy's diffuse light is no constant.
    assert abs(np.median(good['gof_z'])) < 2.0
    # The pulsar PSR J1709-4429.
    brightest = good[np.argmin(np.hypot(good['x_fit'] - 369.4, good['y_fit'] - 73.6))]
    assert brightest['flux_fit'] > 12 * brightest['flux_err']
    np.testing.assert_allclose(brightest['ra'].to_value('deg'), 257.43, atol=0.05)
    np.testing.assert_allclose(brightest['dec'].to_value('deg'), -44.49, atol=0.05)
