# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtr

from kpsf import FitFlag, TabulatedPRF, fit_stamps
from kpsf.stamps.kernels import kernel_of

# weight, centre and width of three Gaussians like a Kepler PRF: a core, a coma, a wing.
PARTS = ((0.56, -0.05, 0.03, 0.50, 0.58), (0.30, 0.18, -0.14, 0.85, 0.72),
         (0.14, -0.20, 0.25, 0.95, 0.90))
SHAPE = (11, 11)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].astype(float)


def in_pixels(dx, dy):
    """Return the share of the flux in pixels at offsets from the star."""
    return sum(weight
               * (ndtr((dx - x + 0.5) / width) - ndtr((dx - x - 0.5) / width))
               * (ndtr((dy - y + 0.5) / height) - ndtr((dy - y - 0.5) / height))
               for weight, x, y, width, height in PARTS)


def make_prf(samples=50, pixels=11, **options):
    """Return the PRF as a table of the given resolution."""
    size = samples * pixels
    offset = (np.arange(size) - (size // 2 - 1)) / samples
    return TabulatedPRF(in_pixels(offset, offset[:, np.newaxis]), 1 / samples,
                        origin=(size // 2 - 1,) * 2, **options)


PRF = make_prf()


class Renamed(TabulatedPRF):
    """The same PRF, but with an evaluation of its own, which the kernel cannot know."""

    def evaluate(self, *args):
        return super().evaluate(*args)


def positions(n, rng, reach=0.5):
    """Return random positions about the middle of the stamps, two (n,)."""
    return 5.0 + rng.uniform(-reach, reach, (2, n))


def expected(flux, x, y, background):
    """Return expected counts (n, ny, nx) from the profile itself, not from its table."""
    return (np.reshape(flux, (-1, 1, 1)) * in_pixels(X - x[:, None, None], Y - y[:, None, None])
            + background)


def test_without_noise_flux_and_position_have_no_bias_at_any_phase():
    x, y = positions(500, np.random.default_rng(1))
    fits = fit_stamps(expected(1e9, x, y, 1e4), PRF)
    assert fits.converged.all()
    flux, x_0, y_0 = fits.params[:, :3].T
    assert np.abs(flux / 1e9 - 1).max() < 1e-7
    assert np.abs(x_0 - x).max() < 1e-6
    assert np.abs(y_0 - y).max() < 1e-6


@pytest.mark.parametrize(('flux', 'background'), [(4.8e8, 1e5), (1e4, 20.0), (1e3, 20.0)])
def test_pulls_have_mean_0_and_standard_deviation_1(flux, background):
    rng = np.random.default_rng(2)
    n = 5000
    x, y = positions(n, rng)
    fits = fit_stamps(rng.poisson(expected(flux, x, y, background)), PRF)
    assert fits.converged.all()
    assert not fits.flags.any()
    truth = np.column_stack([np.full(n, flux), x, y, np.full(n, background)])
    which = [fits.param_names.index(name) for name in ('flux', 'x_0', 'y_0', 'background')]
    pulls = (fits.params[:, which] - truth) / fits.errors[:, which]
    # 4 standard errors, and what a faint star's likelihood is short of a parabola.
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(n) + 0.02
    assert np.abs(pulls.std(axis=0) - 1).max() < 4 / np.sqrt(2 * n) + 0.01


@pytest.mark.parametrize('background', [0.5, 5.0, 200.0])
def test_every_star_of_signal_to_noise_10_converges(background):
    rng = np.random.default_rng(3)
    share = in_pixels(X - 5, Y - 5)
    fluxes = np.geomspace(20, 1e6, 4000)
    noise = 1 / np.sqrt((share ** 2 / (fluxes[:, None, None] * share + background)).sum((1, 2)))
    flux = fluxes[np.argmax(fluxes / noise >= 10)]
    x, y = positions(5000, rng)
    fits = fit_stamps(rng.poisson(expected(flux, x, y, background)), PRF)
    assert fits.converged.all()


def test_a_star_anywhere_in_a_stamp_is_found():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-0.4, 10.4, (2, 3000))
    fits = fit_stamps(rng.poisson(expected(2e4, x, y, 30.0)), PRF)
    assert fits.converged.all()
    assert_allclose(fits.params[:, 1], x, atol=0.12)
    assert_allclose(fits.params[:, 2], y, atol=0.12)


def test_the_kernel_and_broadcasting_find_the_same_minimum():
    rng = np.random.default_rng(5)
    x, y = positions(200, rng)
    counts = rng.poisson(expected(5e3, x, y, 10.0))
    kernel = fit_stamps(counts, PRF, covariance='observed')
    generic = fit_stamps(counts, Renamed(PRF.data, 0.02, origin=PRF.origin),
                         covariance='observed')
    assert_allclose(kernel.params, generic.params, rtol=1e-4, atol=1e-3)
    assert_allclose(kernel.deviance, generic.deviance, atol=1e-5)
    assert_allclose(kernel.errors, generic.errors, rtol=2e-3)


def test_read_noise_masks_known_backgrounds_and_shared_positions_work():
    rng = np.random.default_rng(6)
    n = 400
    x, y = np.full((2, n), [[5.2], [4.8]])
    known = 40 + 10 * np.sin(X)
    counts = rng.poisson(expected(3e3, x, y, known)) + rng.normal(0, 8, (n, *SHAPE))
    mask = rng.uniform(size=counts.shape) < 0.05
    counts[mask] = 1e6
    fits = fit_stamps(counts, PRF, background=known, read_variance=64.0, mask=mask,
                      shared=('x_0', 'y_0'))
    assert fits.converged.all()
    assert_allclose(fits.params[0, 1:3], [5.2, 4.8], atol=4 * fits.errors[0, 1])
    pulls = (fits.params[:, 0] - 3e3) / fits.errors[:, 0]
    assert abs(pulls.mean()) < 4 / np.sqrt(n)
    assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * n)
    assert_allclose(fits.gof_z.mean(), 0, atol=0.3)


def test_a_stamp_may_be_larger_than_the_support():
    shape = (21, 17)
    y, x = np.mgrid[:shape[0], :shape[1]].astype(float)
    rng = np.random.default_rng(7)
    counts = rng.poisson(1e4 * in_pixels(x - 8.3, y - 9.8) + 7.0, (200, *shape))
    fits = fit_stamps(counts, PRF)
    assert fits.converged.all()
    assert_allclose(fits.params[:, :3].mean(axis=0), [1e4, 8.3, 9.8], rtol=3e-3)
    assert_allclose(fits.flux_fraction, 1, rtol=1e-6)


class TestNegativeWings:
    """
    Images with samples below zero, as built of noisy stars.
    """

    @pytest.fixture(name='noisy')
    def fixture_noisy(self):
        offset = (np.arange(61) - 30) / 4
        image = in_pixels(offset, offset[:, np.newaxis])
        return TabulatedPRF(image + np.random.default_rng(0).normal(0, 3e-5, image.shape), 0.25)

    @pytest.fixture(name='counts')
    def fixture_counts(self):
        rng = np.random.default_rng(1)
        return lambda background: rng.poisson(
            expected(1e5, *positions(300, rng), background)).astype(float)

    @pytest.mark.parametrize('background', [0.0, 1.0, 5.0, 100.0])
    def test_fits_with_a_background_of_their_own_converge(self, noisy, counts, background):
        fits = fit_stamps(counts(background), noisy)
        assert noisy.data.min() < -1e-4
        assert fits.converged.all()
        assert abs(fits.params[:, 0].mean() / 1e5 - 1) < 0.01

    def test_a_known_background_below_the_wings_is_flagged(self, noisy, counts):
        fits = fit_stamps(counts(1.0), noisy, background=1.0)
        wrong = np.abs(fits.params[:, 0] / 1e5 - 1) > 0.05
        assert wrong.mean() > 0.5
        assert (fits.flags[wrong] & FitFlag.NOT_CONVERGED > 0).all()
        assert fit_stamps(counts(100.0), noisy, background=100.0).converged.all()


@pytest.mark.parametrize(('flux', 'background'), [(1e4, 30.0), (1e5, 300.0), (1e7, 300.0)])
def test_a_pixel_that_leaves_the_support_leaves_no_step(flux, background):
    rng = np.random.default_rng(10)
    offset = (np.arange(117) - 58) / 9
    image = in_pixels(offset / 1.3, offset[:, np.newaxis] / 1.3) + 2e-4
    prf = TabulatedPRF(image, 1 / 9)
    y, x = np.mgrid[:15, :15].astype(float)
    x_0, y_0 = 7.5 + rng.uniform(-0.02, 0.02, 400), rng.uniform(6.9, 7.1, 400)
    truth = prf.evaluate(x, y, flux, x_0[:, None, None], y_0[:, None, None], 1, 1, 0)
    for shared in ((), ('background',)):
        fits = fit_stamps(rng.poisson(truth + background), prf, shared=shared)
        assert fits.converged.all()
        pulls = (fits.params[:, :3] - np.column_stack([np.full(400, flux), x_0, y_0])
                 ) / fits.errors[:, :3]
        assert np.abs(pulls).max() < 5
        assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(400)


class TestScale:
    """
    Focus and roll: each pixel has a phase of its own.
    """

    def test_a_common_scale_and_angle_are_recovered(self):
        rng = np.random.default_rng(8)
        truth = make_prf(flux=2e6, x_scale=1.04, y_scale=0.97, theta=0.15)
        x, y = positions(60, rng, 0.2)
        image = truth.evaluate(X, Y, 2e6, x[:, None, None], y[:, None, None], 1.04, 0.97, 0.15)
        start = make_prf()
        for name in ('x_scale', 'y_scale', 'theta'):
            getattr(start, name).fixed = False
        fits = fit_stamps(rng.poisson(image + 50.0), start,
                          shared=('x_scale', 'y_scale', 'theta'))
        assert fits.converged.all()
        found, errors = fits.params[0, 3:6], fits.errors[0, 3:6]
        assert (errors < 1e-3).all()
        assert_allclose((found - [1.04, 0.97, 0.15]) / errors, 0, atol=4)

    @pytest.mark.parametrize('given', ['model', 'init'])
    def test_a_known_scale_is_kept(self, given):
        rng = np.random.default_rng(9)
        truth = make_prf(x_scale=1.1)
        counts = rng.poisson(truth.evaluate(X, Y, 1e6, 5.1, 4.8, 1.1, 1, 0) + 5.0, (20, *SHAPE))
        model, init = (truth, None) if given == 'model' else (PRF, {'x_scale': 1.1})
        fits = fit_stamps(counts, model, init=init)
        assert_allclose(fits.params[:, 0].mean(), 1e6, rtol=2e-3)
        assert (fits.gof_z < 5).all()
        wrong = fit_stamps(counts, PRF)
        assert (wrong.gof_z > 50).all()


def test_only_upright_tables_that_are_zero_outside_have_the_kernel():
    def kind(model, moving=(0, 1, 2), init=None):
        return kernel_of(model, SHAPE, moving, init or {}).kind

    assert kind(PRF) == 'tabulated'
    for other in (make_prf(samples=5, fill_value=1.0), make_prf(samples=5, theta=0.1),
                  make_prf(samples=5, x_scale=1.1), Renamed(PRF.data, 0.02)):
        assert kind(other) == 'general'
    assert kind(PRF, (0, 1, 2, 5)) == 'general'
    assert kind(PRF, init={'y_scale': np.array([1.0, 1.1])}) == 'general'
    assert kind(PRF, init={'y_scale': np.array([1.0, 1.0])}) == 'tabulated'
