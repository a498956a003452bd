# Licensed under a 3-clause BSD style license - see LICENSE
"""Simulated target pixel files: layout, truth and statistics."""

import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import Const2D, Gaussian2D
from astropy.table import Table

from kpsf import EllipticalGaussianPSF, read_tpf, simulate_tpf
from kpsf.simulate import tabby_like_dips

STARS = [(2.0e4, 4.2, 5.1), (5.0e3, 8.0, 2.5)]
PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.9, 0.8, 0.3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'star.fits'


def truth_of(path):
    return Table.read(path, hdu='TRUTH')


def expected_rate(truth, psf, shape):
    """Return the mean rates (n, ny, nx) that a truth table implies, background included."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    rate = np.tile(np.asarray(truth['BACKGROUND'])[:, None, None], (1, *shape))
    for cadence, row in enumerate(truth):
        for flux, x_0, y_0 in zip(*(np.atleast_1d(row[name]) for name in ('FLUX', 'X', 'Y'))):
            rate[cadence] += psf.evaluate(x, y, flux, x_0, y_0, psf.a, psf.b, psf.c)
    return rate


def test_electrons_have_the_mean_and_the_variance_of_the_truth(path):
    read_noise, shape, n = 80.0, (9, 11), 1500
    simulate_tpf(path, PSF, stars=STARS, shape=shape, n_cadences=n, seed=3, drift=0.2,
                 background=50.0, read_noise=read_noise)
    tpf = read_tpf(path)
    mean = tpf.noise.exposure * expected_rate(truth_of(path), PSF, shape)
    electrons = tpf.total_rate * tpf.noise.exposure
    variance = mean + 270 * read_noise**2
    pulls = (electrons - mean) / np.sqrt(variance)
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert pulls.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / pulls.size))
    # Pixel by pixel, too: a wrong PSF would cancel in the sum.
    assert np.abs(pulls.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs(pulls.var(axis=0) - 1).max() < 5 * np.sqrt(2 / n)


def test_low_counts_are_poisson(path):
    simulate_tpf(path, PSF, stars=[(0.0, 5, 5)], background=1e-3, read_noise=0.0, seed=1,
                 n_cadences=300)
    with fits.open(path) as hdulist:
        exposure = hdulist[1].header['INT_TIME'] * hdulist[1].header['NUM_FRM']
        counts = (hdulist[1].data['FLUX'].astype(float) + 1e-3) * exposure
    assert counts == pytest.approx(np.round(counts), abs=1e-4)
    none = np.mean(np.round(counts) == 0)
    expected = np.exp(-1e-3 * exposure)
    assert none == pytest.approx(expected, abs=4 * np.sqrt(expected / counts.size))


def test_uncertainties_are_those_of_the_noise(path):
    simulate_tpf(path, PSF, stars=STARS, n_cadences=20, read_noise=70.0, seed=2)
    tpf = read_tpf(path)
    assert tpf.noise.variance_slope == pytest.approx(1.0, rel=1e-5)
    assert tpf.read_variance == pytest.approx(270 * 70.0**2, rel=1e-4)
    variance = tpf.total_rate / tpf.noise.exposure + tpf.noise.read_variance_rate
    assert tpf.flux_err == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_the_sum_over_cadences_of_truth_and_pixels_agree(path):
    simulate_tpf(path, PSF, stars=STARS[:1], shape=(15, 15), n_cadences=50, seed=4)
    tpf = read_tpf(path)
    total = tpf.flux.sum(axis=(1, 2), dtype=float)
    error = np.sqrt((tpf.flux_err.astype(float)**2).sum(axis=(1, 2)))
    pulls = (total - STARS[0][0]) / error
    assert abs(pulls.mean()) < 4 / np.sqrt(50)


def test_the_truth_is_in_the_file(path):
    curve = np.linspace(1.0, 0.8, 8)
    drift = np.stack([np.linspace(0, 0.3, 8), np.linspace(0, -0.1, 8)], axis=1)
    background = np.linspace(100, 200, 8)
    simulate_tpf(path, PSF, stars=STARS, light_curve=curve, drift=drift, background=background,
                 seed=7)
    truth, tpf = truth_of(path), read_tpf(path)
    assert np.array_equal(truth['CADENCENO'], tpf.cadenceno)
    assert np.asarray(truth['TIME']) + 2454833 == pytest.approx(tpf.time.jd, abs=1e-9)
    assert truth['FLUX'][:, 0] == pytest.approx(2.0e4 * curve)
    assert truth['FLUX'][:, 1] == pytest.approx(5.0e3)
    assert truth['X'] == pytest.approx(drift[:, [0]] + [4.2, 8.0])
    assert truth['Y'] == pytest.approx(drift[:, [1]] + [5.1, 2.5])
    assert np.asarray(truth['BACKGROUND']) == pytest.approx(background)
    assert tpf.background[:, 0, 0] == pytest.approx(background)
    assert tpf.pos_corr == pytest.approx(drift - np.median(drift, axis=0), abs=1e-6)
    assert tpf.target_position == pytest.approx((4.2, 5.1))
    header = fits.getheader(path, 'TRUTH')
    assert (header['NSTARS'], header['SEED']) == (2, 7)
    assert header['PSFMODEL'] == 'EllipticalGaussianPSF'
    parameters = {header[f'PARNAM{i}']: header[f'PARVAL{i}'] for i in range(1, 7)}
    assert parameters == pytest.approx(dict(zip(PSF.param_names, PSF.parameters)))


def test_every_star_can_have_its_light_curve(path):
    curves = [np.linspace(1, 2, 5), np.linspace(3, 1, 5)]
    simulate_tpf(path, PSF, stars=STARS, light_curve=curves, seed=1)
    assert truth_of(path)['FLUX'] == pytest.approx(np.transpose(curves) * [2.0e4, 5.0e3])


@pytest.mark.parametrize('stars', [
    Table({'flux': [2.0e4, 5.0e3], 'x': [4.2, 8.0], 'y': [5.1, 2.5]}),
    {'y': [5.1, 2.5], 'x': [4.2, 8.0], 'flux': [2.0e4, 5.0e3]},
    np.array(STARS),
])
def test_stars_may_come_as_tables_or_rows(path, tmp_path, stars):
    simulate_tpf(path, stars=STARS, n_cadences=3, seed=1)
    other = simulate_tpf(tmp_path / 'other.fits', stars=stars, n_cadences=3, seed=1)
    assert np.array_equal(read_tpf(path).flux, read_tpf(other).flux)


def test_a_seed_repeats_the_file_and_another_does_not(path, tmp_path):
    files = [simulate_tpf(tmp_path / f'{i}.fits', n_cadences=3, seed=seed)
             for i, seed in enumerate([1, 1, 2, np.random.default_rng(1)])]
    first, same, other, generator = (read_tpf(file).flux for file in files)
    assert np.array_equal(first, same)
    assert np.array_equal(first, generator)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize('psf', [
    pytest.param(lambda: PSF, id='kpsf'),
    pytest.param(lambda: photutils_psf('CircularGaussianPRF', fwhm=2.0), id='photutils'),
    pytest.param(lambda: photutils_psf('GaussianPSF', x_fwhm=2.0, y_fwhm=1.8), id='elliptical'),
    pytest.param(lambda: compound_psf(), id='compound'),
    pytest.param(lambda: image_psf(), id='tabulated'),
])
def test_any_model_with_a_flux_and_a_position_serves(path, psf):
    psf = psf()
    before = psf.parameters.copy()
    simulate_tpf(path, psf, stars=[(1e6, 5.3, 4.8)], shape=(11, 11), background=100.0, seed=1,
                 n_cadences=4)
    assert np.array_equal(psf.parameters, before)
    image = read_tpf(path).flux.mean(axis=0, dtype=float)
    y, x = np.mgrid[:11, :11]
    assert image.sum() == pytest.approx(1e6, rel=0.01)
    assert (image * x).sum() / image.sum() == pytest.approx(5.3, abs=0.02)
    assert (image * y).sum() / image.sum() == pytest.approx(4.8, abs=0.02)


def photutils_psf(name, **values):
    import photutils.psf
    return getattr(photutils.psf, name)(**values)


def compound_psf():
    from photutils.psf import make_psf_model
    return make_psf_model(Gaussian2D(x_stddev=0.9, y_stddev=0.8), x_name='x_mean', y_name='y_mean')


def image_psf():
    from photutils.psf import ImagePSF
    y, x = np.mgrid[-20:21, -20:21] / 4.0
    return ImagePSF(PSF.evaluate(x, y, 1.0, 0.0, 0.0, PSF.a, PSF.b, PSF.c), oversampling=4)


@pytest.mark.parametrize(('mission', 'fast', 'extension', 'length'), [
    ('Kepler', False, 'TARGETTABLES', 29.424), ('Kepler', True, 'TARGETTABLES', 0.9808),
    ('K2', False, 'TARGETTABLES', 29.424), ('TESS', False, 'PIXELS', 2.0),
    ('TESS', True, 'PIXELS', 1 / 3)])
def test_the_layout_is_that_of_the_archive(path, mission, fast, extension, length):
    simulate_tpf(path, mission=mission, fast=fast, n_cadences=3, shape=(4, 6), seed=1)
    with fits.open(path, checksum=True) as hdulist:
        names = [hdu.name for hdu in hdulist]
        assert names == ['PRIMARY', extension, 'APERTURE', 'TRUTH']
        table, header = hdulist[1], hdulist[1].header
        assert table.columns['FLUX'].dim == '(6,4)'
        assert table.columns['FLUX'].format == '24E'
        assert table.columns['FLUX'].unit == 'e-/s'
        assert header['TTYPE5'] == 'FLUX'
        assert header['TIMEDEL'] * 1440 == pytest.approx(length, rel=1e-4)
        assert np.diff(table.data['TIME']) == pytest.approx(header['TIMEDEL'])
        assert {'TIME', 'TIMECORR', 'CADENCENO', 'RAW_CNTS', 'FLUX', 'FLUX_ERR', 'FLUX_BKG',
                'FLUX_BKG_ERR', 'QUALITY', 'POS_CORR1', 'POS_CORR2'} <= set(table.columns.names)
        assert ('COSMIC_RAYS' in table.columns.names) is (mission != 'TESS')
        assert hdulist['APERTURE'].data.shape == (4, 6)
        assert hdulist[0].header['SIMDATA'] is True


@pytest.mark.parametrize(('column', 'bit'), [(45, 32), (556, 32), (557, 64), (1200, 128),
                                             (2092, 256)])
def test_tess_apertures_say_which_output_reads_them(path, column, bit):
    simulate_tpf(path, mission='TESS', column=column, n_cadences=2, seed=1)
    aperture = fits.getdata(path, 'APERTURE')
    assert set(np.unique(aperture)) == {bit | 1, bit | 3}


def test_the_aperture_is_where_the_signal_to_noise_is_best(path):
    simulate_tpf(path, PSF, stars=[(3e3, 4.0, 5.0), (3e5, 8.5, 5.0)], seed=1, n_cadences=400)
    tpf = read_tpf(path)
    inside = tpf.pipeline_aperture
    assert inside[5, 4]
    assert not inside[5, 8]
    own = expected_rate(Table({'FLUX': [3e3], 'X': [4.0], 'Y': [5.0], 'BACKGROUND': [0.0]}),
                        PSF, (11, 11))[0]

    def signal_to_noise(mask):
        return own[mask].sum() / tpf.flux[:, mask].sum(axis=1, dtype=float).std()

    best = signal_to_noise(inside)
    for size in (0, 2):
        box = np.zeros((11, 11), bool)
        box[5 - size:6 + size, 4 - size:5 + size] = True
        assert signal_to_noise(box) < best


def test_the_header_magnitude_follows_the_flux(path):
    simulate_tpf(path, stars=[(2.141e5, 5, 5)], n_cadences=2, seed=1)
    assert read_tpf(path).meta['magnitude'] == pytest.approx(12.0)


def test_quality_bits_reach_the_reader(path):
    simulate_tpf(path, n_cadences=4, quality=[0, 16, 1, 0], seed=1)
    assert read_tpf(path).quality.tolist() == [0, 16, 0]


@pytest.mark.parametrize(('mission', 'turns'), [('Kepler', 1), ('TESS', 1), ('K2', 20)])
def test_an_amplitude_drifts_as_the_mission_does(path, mission, turns):
    simulate_tpf(path, mission=mission, n_cadences=241, drift=0.4, seed=1)
    x = np.asarray(truth_of(path)['X']).ravel()
    assert x.max() - x.min() == pytest.approx(0.8, rel=0.1)
    assert np.count_nonzero(np.diff(x) < 0) + 1 == pytest.approx(turns, abs=0.5)


def test_a_compressed_name_gives_a_compressed_file(tmp_path):
    path = simulate_tpf(tmp_path / 'star.fits.gz', n_cadences=2, seed=1)
    assert path.read_bytes()[:2] == b'\x1f\x8b'
    assert os.listdir(tmp_path) == ['star.fits.gz']


def test_the_path_that_was_written_is_returned(path):
    assert simulate_tpf(str(path), n_cadences=2) == path


def test_an_existing_file_is_kept_unless_asked(path):
    path.write_text('mine')
    with pytest.raises(FileExistsError, match='overwrite=True'):
        simulate_tpf(path, n_cadences=2)
    assert path.read_text() == 'mine'
    simulate_tpf(path, n_cadences=2, overwrite=True)
    assert read_tpf(path).n_cadences == 2


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'mission': 'HST'}, "one of 'K2', 'Kepler', 'TESS', but found 'HST'"),
    ({'shape': (0, 5)}, r'two integers > 0, \(ny, nx\), but found \(0, 5\)'),
    ({'shape': 11}, 'two integers > 0'),
    ({'n_cadences': 0}, 'n_cadences must be >= 1, but found 0'),
    ({'stars': [(1e4, 5.0)]}, 'rows of flux, x and y'),
    ({'stars': []}, 'rows of flux, x and y'),
    ({'stars': {'flux': [1.0, 2.0], 'x': [1.0], 'y': [1.0]}}, 'rows of flux, x and y'),
    ({'stars': [(np.nan, 5, 5)]}, 'stars must be finite'),
    ({'stars': [(-1.0, 5, 5)]}, 'Fluxes of stars must be >= 0'),
    ({'light_curve': [1, 1], 'n_cadences': 3}, r'shape \(3,\) or \(1, 3\), but has \(2,\)'),
    ({'light_curve': np.ones((3, 4))}, r'shape \(4,\) or \(1, 4\), but has \(3, 4\)'),
    ({'light_curve': [1, np.nan]}, 'light_curve must be finite'),
    ({'light_curve': [1, -1]}, 'light_curve must be >= 0'),
    ({'drift': np.zeros((3, 2)), 'n_cadences': 4}, r'have the shape \(4, 2\), but has \(3, 2\)'),
    ({'drift': np.nan}, 'drift must be finite'),
    ({'background': [1.0, 2.0]}, r'background must be a number or have the shape \(100,\)'),
    ({'background': -1.0}, 'background must be >= 0'),
    ({'quality': [0, 1]}, r'quality must be a number or have the shape \(100,\)'),
    ({'read_noise': -1.0}, 'read_noise must be >= 0, but found -1.0'),
    ({'read_noise': np.nan}, 'read_noise must be >= 0'),
    ({'psf': Gaussian2D()}, 'parameters flux, x_0, y_0, but found Gaussian2D with amplitude'),
    ({'psf': 'gaussian'}, 'but found str with none'),
    ({'psf': Const2D()}, 'but found Const2D'),
])
def test_wrong_arguments_say_what_is_needed_and_write_nothing(path, wrong, message):
    with pytest.raises(ValueError, match=message):
        simulate_tpf(path, **wrong)
    assert os.listdir(path.parent) == []


def test_a_psf_with_negative_wings_needs_background(path):
    from photutils.psf import ImagePSF
    wings = ImagePSF(np.where(np.hypot(*np.mgrid[-4:5, -4:5]) < 2, 0.1, -0.01))
    with pytest.raises(ValueError, match='Mean electrons must be >= 0.*more background'):
        simulate_tpf(path, wings, stars=[(1e4, 5, 5)], background=0.0, n_cadences=2)
    assert simulate_tpf(path, wings, stars=[(1e4, 5, 5)], background=500.0, n_cadences=2)


def test_a_full_disk_leaves_nothing_behind(path, monkeypatch):
    def writeto(self, name, **options):
        with open(name, 'wb') as file:
            file.write(b'SIMPLE')
        raise OSError('no space left on device')

    monkeypatch.setattr(fits.HDUList, 'writeto', writeto)
    with pytest.raises(OSError, match='no space left'):
        simulate_tpf(path, n_cadences=2)
    assert os.listdir(path.parent) == []


def test_tabby_like_dips_are_deep_and_asymmetric():
    time = np.linspace(100.0, 130.0, 3001)
    curve = tabby_like_dips(time)
    assert curve[0] == pytest.approx(1.0, abs=1e-3)
    assert curve.max() == pytest.approx(1.0, abs=1e-6)
    assert 0.77 < curve.min() < 0.80
    # The dip around 0.42 of the series starts slowly and ends suddenly.
    window = slice(600, 1600)
    deepest = np.argmin(curve[window])
    half = np.flatnonzero(curve[window] < 1 - 0.5 * (1 - curve[window].min()))
    assert deepest - half[0] > 2.5 * (half[-1] - deepest)


def test_dips_of_a_single_time_are_finite():
    assert np.isfinite(tabby_like_dips([5.0])).all()


@pytest.mark.filterwarnings('ignore')
def test_lightkurve_reads_the_file(path):
    lightkurve = pytest.importorskip('lightkurve')
    for mission in ('Kepler', 'K2', 'TESS'):
        simulate_tpf(path, mission=mission, n_cadences=5, seed=1, column=227, row=127,
                     overwrite=True)
        theirs, ours = lightkurve.read(path), read_tpf(path)
        assert theirs.mission == mission if mission != 'TESS' else theirs.sector == 1
        assert (theirs.column, theirs.row) == (ours.column, ours.row)
        assert np.array_equal(theirs.flux.value, ours.flux)
        assert np.array_equal(theirs.pipeline_mask, ours.pipeline_aperture)
        assert theirs.time.jd == pytest.approx(ours.time.jd, abs=1e-9)
        assert np.array_equal(read_tpf(theirs).electrons, ours.electrons)
        theirs.hdu.close()
