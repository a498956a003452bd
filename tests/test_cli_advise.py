# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf advise`: what it says of images and target pixel files, and how it fails."""

import os
import re
import shlex

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from photutils.psf import CircularGaussianPRF

from kpsf import cli, simulate_kepler_prf, simulate_tpf

FWHM, GAIN, READ_NOISE = 2.5, 2.0, 4.0
STARS = [(9000.0, 30.1, 33.7), (4000.0, 12.3, 10.2)]
TITLES = ['1. What the flux means', '2. Where the star is', '3. What to do with its position',
          '4. How large a box to fit', '5. Whether the fit can be trusted']


def expected_counts(shape=(50, 60)):
    y, x = np.mgrid[:shape[0], :shape[1]]
    psf = CircularGaussianPRF(fwhm=FWHM)
    return 40.0 + sum(psf.evaluate(x, y, *star, FWHM) for star in STARS)


def write_image(path, data, **keywords):
    fits.PrimaryHDU(data, fits.Header(keywords)).writeto(path, overwrite=True)
    return path


def write_psf(path, total=16.0, **keywords):
    """Write an oversampled image of the PSF."""
    y, x = np.mgrid[-40:41, -40:41] / 4.0
    image = CircularGaussianPRF(fwhm=FWHM).evaluate(x, y, 1.0, 0.0, 0.0, FWHM)
    return write_image(path, total * image / image.sum(), **keywords)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder beside an image of two stars, in adu, and a target pixel file."""
    rng = np.random.default_rng(5)
    mean = expected_counts()
    data = (rng.poisson(mean) + rng.normal(0.0, READ_NOISE, mean.shape)) / GAIN
    write_image(tmp_path / 'image.fits', data, BUNIT='adu', GAIN=GAIN, RDNOISE=READ_NOISE)
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    return tmp_path


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    """Return the path of a target pixel file of two stars, the target the fainter one."""
    path = tmp_path_factory.mktemp('pixels') / 'two.fits'
    return simulate_tpf(path, n_cadences=20, shape=(11, 12), seed=2, target=77,
                        stars=[(2.0e4, 3.3, 7.2), (6.0e4, 8.4, 3.1)])


def run(here, *arguments, psf=f'gaussian:{FWHM}', image='image.fits'):
    """Run the command; return its exit status."""
    psf = [] if psf is None else ['--psf', psf]
    return cli.main(['advise', *map(str, [here / image, *psf, *arguments])])


def titles(text):
    return [line for line in text.splitlines()[1:] if line[0] in '12345']


def fitted(text):
    """Return x, y and flux of the fit that is judged."""
    return [float(number) for number in re.search(
        r'Fit at \(([\d.-]+), ([\d.-]+)\) with a total flux of ([\d.e+]+) \+- \S+ e-',
        ' '.join(text.split())).groups()]


def the_error(capsys):
    line, = capsys.readouterr().err.splitlines()
    return line


def test_an_image_gets_all_of_the_guidance(here, capsys):
    assert run(here) == 0
    printed = capsys.readouterr()
    assert not printed.err
    assert re.match(r'.*image\.fits: 60 x 50 pixels; gain 2 e- per adu \(header GAIN\), read '
                    r'noise 4 e- \(header RDNOISE\)\n', printed.out)
    assert titles(printed.out) == TITLES
    assert '2 sources above 5 sigma' in printed.out
    x, y, flux = fitted(printed.out)
    assert (x, y) == (30.1, 33.7)
    assert flux == pytest.approx(9000.0, rel=0.06)
    assert 'nothing wrong was found' in ' '.join(printed.out.split())
    assert not os.listdir()


def test_the_star_that_is_meant_is_named_by_a_place(here, capsys):
    assert run(here, '--near', 12, 10) == 0
    text = capsys.readouterr().out
    x, y, flux = fitted(text)
    assert np.hypot(x - 12.3, y - 10.2) < 0.2
    assert flux == pytest.approx(4000.0, rel=0.1)
    assert 'a second source competes' not in text
    assert 'the first is meant, 0.4 pixels from (12.0, 10.0)' in text


def test_the_answer_and_the_next_command_are_the_last_lines(here, capsys, monkeypatch):
    assert run(here, '--near', 12, 10) == 0
    answer, following = capsys.readouterr().out.splitlines()[-2:]
    assert re.fullmatch(r'Answer: total flux \d+ \+- \d+ e- at \(12\.3, 10\.2\); trusted\.',
                        answer)
    assert re.fullmatch(rf'Next: kpsf photometry .*image\.fits --psf gaussian:{FWHM} --box \d+',
                        following)
    flux = float(answer.split()[3])
    assert cli.main(shlex.split(following.removeprefix('Next: kpsf '))) == 0
    table = Table.read('image-photometry.ecsv')
    row = table[np.argmin(np.hypot(table['x_fit'] - 12.3, table['y_fit'] - 10.2))]
    assert GAIN * row['flux_fit'] == pytest.approx(flux, rel=0.02)


def test_options_are_those_of_the_next_command(here, capsys):
    path = write_psf(here / 'my psf.fits', 1.0)
    write_image(here / 'mask.fits', np.zeros((50, 60)))
    assert run(here, '--oversampling', 4, '--gain', 2, '--read-noise', 4, '--mask',
               here / 'mask.fits', psf=path) == 0
    *_, following = capsys.readouterr().out.splitlines()
    assert "my psf.fits' --normalize --box" in following
    assert cli.main(shlex.split(following.removeprefix('Next: kpsf '))) == 0


def test_where_nothing_is_the_flux_at_the_place_is_the_answer(here, capsys):
    assert run(here, '--near', 50, 12, '--plot', 'none.png') == 0
    text = capsys.readouterr().out
    assert titles(text) == TITLES[:2]
    assert 'nothing is above 5 sigma within' in text
    answer = re.search(r'a star exactly at \(50\.0, 12\.0\) has ([\d-]+) \+- (\d+) e-',
                       ' '.join(text.split()))
    flux, error = map(float, answer.groups())
    assert abs(flux) < 4.0 * error
    assert '--init TABLE --centroid-prior 0.1' in text
    assert 'TABLE is a .csv file of two lines, x,y and 50,12' in text
    assert run(here, '--near', 50, 12, '--within', 100) == 0
    assert 'Answer: total flux' in capsys.readouterr().out


def test_without_a_psf_a_gaussian_is_fitted(here, capsys):
    assert run(here, psf=None) == 0
    text = capsys.readouterr().out
    assert 'no PSF was given: a Gaussian is fitted to the star' in text
    # That of the pixels is a little wider than the Gaussian.
    width = float(re.search(r'FWHM ([\d.]+) pixels', text).group(1))
    assert width == pytest.approx(np.hypot(FWHM, 2.3548 / 12**0.5), rel=0.05)
    assert fitted(text)[2] == pytest.approx(9000.0, rel=0.08)


@pytest.mark.parametrize(('total', 'meaning'), [
    (16.0, 'total flux'), (1.0, r'total flux x 16: the image is oversampled 4 times')])
@pytest.mark.parametrize('place', ['header', 'option'])
def test_a_psf_image_is_read_and_its_flux_explained(here, capsys, total, meaning, place):
    keywords, options = ({'OVERSAMP': 4}, []) if place == 'header' else (
        {}, ['--oversampling', 4])
    path = write_psf(here / 'psf.fits', total, **keywords)
    assert run(here, *options, psf=path) == 0
    text = capsys.readouterr().out
    assert re.search(rf'flux of ImagePSF is: {meaning}', text)
    assert fitted(text)[2] == pytest.approx(9000.0, rel=0.06)


def test_a_psf_in_an_extension_is_read(here, capsys):
    data, header = fits.getdata(write_psf(here / 'psf.fits', OVERSAMP=4), header=True)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, header, name='PSF')]).writeto(
        here / 'many.fits')
    assert run(here, psf=f'{here / "many.fits"}[PSF]') == 0
    assert fitted(capsys.readouterr().out)[2] == pytest.approx(9000.0, rel=0.06)


def test_options_have_precedence_over_the_header(here, capsys):
    assert run(here, '--gain', 1, '--read-noise', 2) == 0
    text = capsys.readouterr().out
    assert 'gain 1 e- per adu (--gain), read noise 2 e- (--read-noise)' in text
    assert fitted(text)[2] == pytest.approx(4500.0, rel=0.06)


def test_rates_are_multiplied_with_their_exposure(here, capsys):
    data = np.random.default_rng(5).poisson(expected_counts()) / 50.0
    write_image(here / 'rate.fits', data, BUNIT='electron/s')
    assert run(here, '--exposure', 50, image='rate.fits') == 0
    assert fitted(capsys.readouterr().out)[2] == pytest.approx(9000.0, rel=0.06)


def test_a_subtracted_background_is_put_back(here, capsys):
    data, header = fits.getdata(here / 'image.fits', header=True)
    fits.PrimaryHDU(data - 20.0, header).writeto(here / 'subtracted.fits')
    assert run(here, '--background-subtracted', 20, image='subtracted.fits') == 0
    text = capsys.readouterr().out
    assert 'with a known background' in text
    assert fitted(text)[2] == pytest.approx(9000.0, rel=0.06)
    assert 'nothing wrong was found' in ' '.join(text.split())


def test_what_is_known_of_the_position_matters(here, capsys):
    texts = []
    for known_to in (0.001, 0.5):
        assert run(here, '--known-to', known_to) == 0
        texts.append(capsys.readouterr().out.split('3. What to do')[1].split('4. How large')[0])
    assert texts[0] != texts[1]


def test_pixels_of_a_mask_are_left_out(here, capsys):
    bad = np.zeros((50, 60), dtype=np.int16)
    bad[25:43, 22:39] = 4
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(bad, name='DQ')]).writeto(here / 'mask.fits')
    assert run(here, '--mask', f'{here / "mask.fits"}[DQ]') == 0
    text = capsys.readouterr().out
    # The brighter star is masked.
    assert np.hypot(fitted(text)[0] - 12.3, fitted(text)[1] - 10.2) < 0.2
    assert '1 source above 5 sigma' in text


def test_an_extension_is_chosen(here, capsys):
    data, header = fits.getdata(here / 'image.fits', header=True)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((50, 60)), name='FLAT'),
                  fits.ImageHDU(data, header, name='SCI')]).writeto(here / 'many.fits')
    for extension in ('SCI', 2):
        assert run(here, '--extension', extension, image='many.fits') == 0
        assert fitted(capsys.readouterr().out)[2] == pytest.approx(9000.0, rel=0.06)


def test_an_image_without_a_source_says_so(here, capsys):
    data = np.random.default_rng(3).poisson(5.0, (50, 50)).astype(float)
    write_image(here / 'empty.fits', data, BUNIT='electron')
    assert run(here, '--plot', 'empty.png', image='empty.fits') == 0
    text = capsys.readouterr().out
    assert titles(text) == TITLES[:2]
    assert 'no source is significant' in text
    assert os.listdir() == ['empty.png']


@pytest.mark.parametrize('name', ['advice.png', 'advice.pdf', 'advice.svg'])
def test_a_figure_is_written_and_named(here, capsys, name):
    assert run(here, '--plot', name) == 0
    assert capsys.readouterr().out.endswith(f'\n-> {name}\n')
    start = {'png': b'\x89PNG', 'pdf': b'%PDF', 'svg': b'<?xml'}[name[-3:]]
    assert (here / 'work' / name).read_bytes().startswith(start)


def test_a_figure_is_not_overwritten_unless_asked(here, capsys):
    (here / 'work' / 'advice.png').write_text('mine')
    assert run(here, '--plot', 'advice.png') == 1
    printed = capsys.readouterr()
    line, = printed.err.splitlines()
    assert re.search(r'kpsf advise: error: .*advice\.png', line)
    assert not printed.out
    assert (here / 'work' / 'advice.png').read_text() == 'mine'
    assert run(here, '--plot', 'advice.png', '--overwrite') == 0
    assert (here / 'work' / 'advice.png').read_bytes().startswith(b'\x89PNG')


def test_the_target_of_a_target_pixel_file_is_meant(here, pixels, capsys):
    assert run(pixels.parent, image='two.fits', psf='gaussian:1.4') == 0
    printed = capsys.readouterr()
    assert not printed.err
    assert re.match(r'.*two\.fits: KIC 77 \(Kepler\), cadence \d+ of 12 x 11 pixels; '
                    r'1 e-/s is [\d.]+ e-\n', printed.out)
    assert titles(printed.out) == TITLES
    x, y, _ = fitted(printed.out)
    # The other star is brighter.
    assert np.hypot(x - 3.3, y - 7.2) < 0.15
    seconds = float(re.search(r'1 e-/s is ([\d.]+) e-', printed.out).group(1))
    assert fitted(printed.out)[2] == pytest.approx(2.0e4 * seconds, rel=0.15)
    assert re.search(r'\nNext: kpsf lightcurve .*two\.fits\n$', printed.out)
    assert run(pixels.parent, '--near', 8, 3, image='two.fits', psf='gaussian:1.4') == 0
    x, y, _ = fitted(capsys.readouterr().out)
    assert np.hypot(x - 8.4, y - 3.1) < 0.15


def test_the_psf_of_a_target_pixel_file_is_fitted(here, pixels, capsys):
    assert run(pixels.parent, '--plot', 'two.png', image='two.fits', psf=None) == 0
    text = capsys.readouterr().out
    assert 'no PSF was given' in text
    assert os.listdir() == ['two.png']


def test_the_prf_of_the_instrument_is_a_psf(here, capsys):
    simulate_kepler_prf(here / 'kplr07.4_2011265_prf.fits')
    header = {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4}
    simulate_tpf(here / 'one.fits', n_cadences=10, seed=2, header=header)
    assert run(here, '--prf-path', here, psf='prf', image='one.fits') == 0
    text = capsys.readouterr().out
    assert titles(text) == TITLES
    assert 'PRF' in text


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--psf', 'gaussian:0'], 'argument --psf: a number > 0 is needed'),
    (['--psf', 'gaussian'], 'gaussian:FWHM is needed'),
    (['--known-to', '0'], 'argument --known-to: a number > 0'),
    (['--near', '3'], 'argument --near: expected 2 arguments'),
    (['--near', '3', '4', '--within', '0'], 'argument --within: a number > 0'),
    (['--near', '3', 'x'], 'argument --near: invalid float'),
    (['--gain', '-1'], 'argument --gain: a number > 0'),
    (['--read-noise', 'nan'], 'argument --read-noise: a number >= 0'),
    (['--oversampling', '1.5'], 'argument --oversampling: an integer >= 1'),
    (['--plot', 'advice.gif'], r"--plot must end in one of \.png, \.pdf, \.svg, but it is "
                               r"'advice\.gif'"),
    (['--plot', 'none/advice.png'], 'there is no folder none: create it'),
    (['--nonsense'], 'unrecognized arguments: --nonsense'),
])
def test_wrong_options_are_refused_before_any_work(here, capsys, arguments, message):
    assert run(here, *arguments, psf=None) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(rf'^kpsf( advise)?: .*{message}', last)
    assert not os.listdir()


@pytest.mark.parametrize('near', [('nan', '3'), ('3', 'inf')])
def test_a_place_that_is_not_finite_is_named(here, capsys, near):
    assert run(here, '--near', *near) == 1
    assert 'near must be two finite numbers (x, y)' in the_error(capsys)


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('none.fits', None, r'A FITS image or target pixel file is needed, but there is no file'),
    ('text.fits', b'hello', r'text\.fits begins with .* and is no FITS file'),
    ('half.fits', 'half', r'half\.fits must be a complete FITS file, but it is truncated'),
    ('table.fits', 'table', r'table\.fits has only 0 PRIMARY \(no data\), 1  ?\(a table\)'),
])
def test_files_that_cannot_be_read_are_named(here, capsys, name, content, message):
    if content == 'table':
        fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(Table({'x': [1.0]}))]).writeto(
            here / name)
    elif content is not None:
        (here / name).write_bytes((here / 'image.fits').read_bytes()[:9000]
                                  if content == 'half' else content)
    assert run(here, image=name) == 1
    assert re.search(f'kpsf advise: error: .*{message}', the_error(capsys))
    assert not os.listdir()


@pytest.mark.parametrize(('keywords', 'message'), [
    ({}, 'The gain of an image without BUNIT is needed'),
    ({'BUNIT': 'adu'}, 'The gain of an image in adu is needed'),
    ({'BUNIT': 'MJy/sr'}, 'The gain of an image in MJy/sr is needed'),
    ({'BUNIT': 'electron/s'}, 'The exposure of an image in electron/s is needed'),
])
def test_a_missing_gain_is_never_guessed(here, capsys, keywords, message):
    write_image(here / 'plain.fits', expected_counts(), **keywords)
    assert run(here, image='plain.fits') == 1
    assert message in the_error(capsys)


def test_negative_electrons_ask_for_what_was_subtracted(here, capsys):
    data, header = fits.getdata(here / 'image.fits', header=True)
    header['RDNOISE'] = 0.5
    fits.PrimaryHDU(data - 20.0, header).writeto(here / 'subtracted.fits')
    assert run(here, image='subtracted.fits') == 1
    assert re.search('Electrons must be >= 0 up to read noise, .* add the background that was '
                     'subtracted', the_error(capsys))


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--mask', 'small.fits'], 'A mask must have the size of the image, 60 x 50, but .* 5 x 4'),
    (['--mask', 'none.fits'], r'A mask is needed, but there is no file none\.fits'),
    (['--psf', 'none.fits'], r'A PSF image is needed, but there is no file none\.fits'),
    (['--psf', 'small.fits'], 'The oversampling of a PSF image is needed'),
    (['--psf', 'prf'], '--psf prf is for a target pixel file, but .* is an image'),
    (['--extension', 'NONE'], 'has no extension NONE'),
])
def test_companions_that_do_not_fit_are_named(here, capsys, arguments, message):
    write_image('small.fits', np.ones((4, 5)))
    assert run(here, *arguments, psf=None) == 1
    assert re.search(f'kpsf advise: error: .*{message}', the_error(capsys))
    assert os.listdir() == ['small.fits']


@pytest.mark.parametrize('option', ['gain', 'read-noise', 'exposure', 'background-subtracted'])
def test_a_target_pixel_file_knows_its_noise(here, pixels, capsys, option):
    assert run(pixels.parent, f'--{option}', 2, image='two.fits') == 1
    assert re.search(rf'--{option} is for an image, but .*two\.fits is a target pixel file',
                     the_error(capsys))


def test_the_file_that_is_read_is_not_written(here, capsys):
    (here / 'image.fits').rename(here / 'image.png')
    before = (here / 'image.png').read_bytes()
    assert run(here, '--plot', here / 'image.png', '--overwrite', image='image.png') == 2
    assert (here / 'image.png').read_bytes() == before
    assert 'image.png would be read and written: choose another' in capsys.readouterr().err


def test_photons_of_fermi_get_advice(kpsf_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(kpsf_data / 'counts', '--gain', 1, psf='gaussian:2.7',
               image='fermi_counts.fits.gz') == 0
    text = capsys.readouterr().out
    assert titles(text) == TITLES
    x, y, _ = fitted(text)
    assert np.hypot(x - 369.4, y - 73.5) < 0.2


def test_kepler_62_is_near_the_edge_of_its_pixels(kpsf_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(kpsf_data / 'kepler', '--plot', 'k62.png', psf=None,
               image='kplr009002278-2010174085026_lpd-targ.fits.gz') == 0
    assert 'FLUX_OUTSIDE: ' in capsys.readouterr().out
    assert os.listdir() == ['k62.png']
