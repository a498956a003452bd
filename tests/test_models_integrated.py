# Licensed under a 3-clause BSD style license - see LICENSE
"""Tests of kpsf.models.integrated: the Gaussian in pixels, of any width, and fits with it."""

import pickle

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from kpsf import EllipticalGaussianPRF, EllipticalGaussianPSF, fit_stamps
from kpsf.models import integrated, stddev_to_precision

SEED = 20260302
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


def grid(n=9):
    """Centres x, y of (n, n) pixels around the origin."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    return x, y


def quadrature(x, y, a, b, c, n_panels):
    """Integrate by the definition: 20 x 20 points in each of (n_panels, n_panels) parts."""
    half = 0.5 / n_panels
    centres = np.linspace(-0.5 + half, 0.5 - half, n_panels)
    u_, weights = (centres[:, None] + half * NODES).ravel(), np.tile(half * WEIGHTS, n_panels)
    dx, dy = x[..., None, None] + u_[:, None], y[..., None, None] + u_
    values = np.exp(-(a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    return np.sqrt(a * c - b * b) / np.pi * np.einsum('...ij,i,j', values, weights, weights)


def normal_probability(x, y, a, b, c):
    """Integrate by scipy's distribution function at the pixel's corners."""
    covariance = np.linalg.inv([[2 * a, 2 * b], [2 * b, 2 * c]])
    at = multivariate_normal([0, 0], covariance).cdf
    return sum(sign * at(np.stack([x + i, y + j], axis=-1))
               for sign, i, j in ((1, 0.5, 0.5), (-1, 0.5, -0.5), (-1, -0.5, 0.5),
                                  (1, -0.5, -0.5)))


def random_shape(rng, low, high):
    """Return a, b, c of a random ellipse whose axes lie between two widths."""
    widths = np.exp(rng.uniform(np.log(low), np.log(high), 2))
    return stddev_to_precision(*widths, rng.uniform(-np.pi, np.pi)), widths.min()


def evaluate(x, y, shape):
    return EllipticalGaussianPRF.evaluate(x, y, 1.0, 0.0, 0.0, *shape)


@pytest.mark.parametrize(('low', 'high'), [(0.06, 0.1), (0.1, 0.5), (0.3, 3.0), (3.0, 300.0)])
def test_value_is_the_integral_over_the_pixel(low, high):
    rng = np.random.default_rng(SEED)
    for _ in range(100):
        shape, narrowest = random_shape(rng, low, high)
        x, y = grid() - rng.uniform(-0.5, 0.5, (2, 1, 1))
        expected = quadrature(x, y, *shape, n_panels=int(np.ceil(0.4 / narrowest)))
        assert_allclose(evaluate(x, y, shape), expected, rtol=0, atol=2e-10 * expected.max())


@pytest.mark.parametrize(('low', 'high'), [(1e-4, 0.01), (0.005, 0.1), (0.01, 3.0)])
def test_widths_far_below_a_pixel_are_exact_too(low, high):
    rng = np.random.default_rng(SEED)
    for _ in range(100):
        shape, _ = random_shape(rng, low, high)
        x, y = grid(3) - rng.uniform(-0.5, 0.5, (2, 1, 1))
        values = evaluate(x, y, shape)
        assert_allclose(values, normal_probability(x, y, *shape), rtol=0, atol=2e-9)
        assert (values >= 0).all()


def test_every_number_of_nodes_is_used_up_to_where_it_suffices():
    rng = np.random.default_rng(SEED)
    for limit in integrated.LARGEST_PIXELS:
        for correlation in (0.0, 0.5, -0.9, 0.99):
            c = 0.5 * limit**2 * (1 - 1e-9)
            b = correlation * c
            deviations = rng.normal(0, 1.5, (2, 200)) / limit
            x, y = deviations + rng.choice([0.0, 0.5, -0.5], (2, 200))
            expected = quadrature(x, y, c, b, c, n_panels=int(np.ceil(limit / 2)))
            assert_allclose(evaluate(x, y, (c, b, c)), expected, rtol=0,
                            atol=3e-10 * expected.max())


def test_wings_keep_their_digits():
    rng = np.random.default_rng(SEED)
    n_faint = 0
    for _ in range(100):
        shape, narrowest = random_shape(rng, 0.3, 2.0)
        x, y = grid(15) - rng.uniform(-0.5, 0.5, (2, 1, 1))
        expected = quadrature(x, y, *shape, n_panels=int(np.ceil(0.4 / narrowest)))
        seen = expected > 1e-12 * expected.max()
        n_faint += (expected[seen] < 1e-9).sum()
        assert_allclose(evaluate(x, y, shape)[seen], expected[seen], rtol=2e-5)
        assert (evaluate(x, y, shape) >= 0).all()
    assert n_faint > 500


@pytest.mark.parametrize('widths', [(0.001, 0.001), (0.02, 0.3), (0.1, 0.15), (0.4, 0.9),
                                    (1.3, 1.0), (2.0, 1.9)])
def test_pixels_sum_to_the_flux_at_every_phase(widths):
    x, y = grid(33)
    shape = stddev_to_precision(*widths, 0.6)
    for x_0 in np.linspace(-0.5, 0.5, 11):
        for y_0 in np.linspace(-0.5, 0.5, 7):
            total = EllipticalGaussianPRF.evaluate(x, y, 3.0, x_0, y_0, *shape).sum()
            assert_allclose(total, 3.0, rtol=1e-9)


@pytest.mark.parametrize('stddev', [1e-6, 0.01, 0.05])
def test_a_point_on_an_edge_or_a_corner_is_shared_between_the_pixels(stddev):
    x, y = grid(3)
    on_edge = EllipticalGaussianPRF.from_stddev(4.0, 0.5, 0.0, stddev, 0.02)
    assert_allclose(on_edge(x, y), [[0, 0, 0], [0, 2, 2], [0, 0, 0]], atol=1e-14)
    on_corner = EllipticalGaussianPRF.from_stddev(4.0, -0.5, 0.5, stddev, 0.02)
    assert_allclose(on_corner(x, y), [[0, 0, 0], [1, 1, 0], [1, 1, 0]], atol=1e-14)


@pytest.mark.parametrize('widths', [(0.03, 0.2), (0.4, 0.7), (1.5, 1.1)])
def test_upright_ellipses_are_those_of_photutils(widths):
    photutils_psf = pytest.importorskip('photutils.psf')
    fwhm = 2.0 * np.sqrt(2.0 * np.log(2.0))
    x, y = grid(11)
    ours = EllipticalGaussianPRF.from_stddev(50.0, 0.3, -0.2, *widths)
    theirs = photutils_psf.GaussianPRF(flux=50.0, x_0=0.3, y_0=-0.2, x_fwhm=fwhm * widths[0],
                                       y_fwhm=fwhm * widths[1])
    assert_allclose(ours(x, y), theirs(x, y), rtol=0, atol=50e-10)


def test_wide_gaussians_differ_from_their_samples_by_the_laplacian():
    # The pixel's variance of 1/12 adds to that of the optics.
    x, y = grid(41)
    shape = stddev_to_precision(6.0, 4.0, 0.3)
    wider = np.linalg.inv(np.linalg.inv([[2 * shape[0], 2 * shape[1]],
                                         [2 * shape[1], 2 * shape[2]]]) + np.eye(2) / 12) / 2
    sampled = EllipticalGaussianPSF.evaluate(x, y, 1.0, 0.0, 0.0, wider[0, 0], wider[0, 1],
                                             wider[1, 1])
    without = EllipticalGaussianPSF.evaluate(x, y, 1.0, 0.0, 0.0, *shape)
    values = evaluate(x, y, shape)
    assert_allclose(values, sampled, rtol=0, atol=1e-5 * values.max())
    assert np.abs(values - without).max() > 3e-3 * values.max()


def differences(x, y, params):
    """Yield the derivative by each parameter from four values around it."""
    _, _, _, a, b, c = params
    determinant = a * c - b * b
    scales = [1.0, np.sqrt(0.5 / a), np.sqrt(0.5 / c), determinant / c,
              determinant / np.sqrt(a * c), determinant / a]
    for i, scale in enumerate(scales):
        step = np.zeros(6)
        step[i] = 2e-3 * scale
        far, near = (EllipticalGaussianPRF.evaluate(x, y, *(params + factor * step))
                     - EllipticalGaussianPRF.evaluate(x, y, *(params - factor * step))
                     for factor in (2, 1))
        yield (8 * near - far) / (12 * step[i])


@pytest.mark.parametrize(('low', 'high'), [(0.02, 0.06), (0.06, 0.3), (0.3, 3.0), (3.0, 30.0)])
def test_derivatives_agree_with_differences(low, high):
    rng = np.random.default_rng(SEED)
    x, y = grid()
    for _ in range(40):
        # Near an edge, so that the narrowest have a derivative too.
        phase = np.array([0.5, -0.5]) + low * rng.uniform(-1, 1, 2)
        params = np.array([20.0, *phase, *random_shape(rng, low, high)[0]])
        analytic = EllipticalGaussianPRF.fit_deriv(x, y, *params)
        for derivative, numeric in zip(analytic, differences(x, y, params), strict=True):
            assert np.abs(numeric).max() > 0
            assert_allclose(derivative, numeric, rtol=0, atol=1e-6 * np.abs(numeric).max())


def test_rows_of_any_width_are_evaluated_as_if_alone():
    rng = np.random.default_rng(SEED)
    x, y = (values.ravel() for values in grid(7))
    params = np.array([[5.0, *rng.uniform(-0.5, 0.5, 2), *random_shape(rng, 0.01, 3.0)[0]]
                       for _ in range(60)])
    params[7, 4] = 10.0 * params[7, 3]
    columns = params.T[:, :, None]
    together = np.array([EllipticalGaussianPRF.evaluate(x, y, *columns),
                         *EllipticalGaussianPRF.fit_deriv(x, y, *columns)])
    assert np.isnan(together[:, 7]).all()
    for row in np.delete(np.arange(60), 7):
        alone = [EllipticalGaussianPRF.evaluate(x, y, *params[row]),
                 *EllipticalGaussianPRF.fit_deriv(x, y, *params[row])]
        assert_allclose(together[:, row], alone, rtol=1e-13, atol=1e-300)
        one_row = EllipticalGaussianPRF.evaluate(x, y, *columns[:, row:row + 1])
        assert_array_equal(together[0, row:row + 1], one_row)


def test_every_pixel_may_have_a_shape_of_its_own():
    rng = np.random.default_rng(SEED)
    shapes = np.array([random_shape(rng, 0.02, 2.0)[0] for _ in range(12)]).reshape(3, 4, 3)
    x, y = rng.uniform(-1, 1, (2, 3, 4))
    values = EllipticalGaussianPRF.evaluate(x, y, 2.0, 0.0, 0.0, *np.moveaxis(shapes, -1, 0))
    alone = [[EllipticalGaussianPRF.evaluate(x[i, j], y[i, j], 2.0, 0.0, 0.0, *shapes[i, j])
              for j in range(4)] for i in range(3)]
    assert_allclose(values, alone, rtol=1e-13)


def test_coordinates_broadcast_and_may_be_empty():
    prf = EllipticalGaussianPRF.from_stddev(9.0, 0.2, 0.1, 0.6, 0.8, 0.3)
    x, y = grid(5)
    assert_allclose(prf.evaluate(x[:1], y[:, :1], *prf.parameters), prf(x, y), rtol=1e-14)
    assert prf.evaluate(np.empty(0), np.empty(0), *prf.parameters).shape == (0,)
    columns = np.tile(prf.parameters, (3, 1)).T[:, :, None]
    assert prf.evaluate(np.empty(0), np.empty(0), *columns).shape == (3, 0)


def test_images_larger_than_a_block_are_complete():
    n = int(np.sqrt(integrated.BLOCK_SIZE))
    prf = EllipticalGaussianPRF.from_stddev(9.0, 0.2, 0.1, 5.0, 4.0, 0.3)
    x, y = grid(n)
    assert_allclose(prf(x, y).sum(), 9.0, rtol=1e-9)
    assert_allclose(prf(x.ravel(), y.ravel()), prf(x, y).ravel(), rtol=1e-13)


@pytest.mark.parametrize('shape', [(0.5, 0.6, 0.5), (-50.0, 0.0, -50.0), (1e200, 0.0, -1e200),
                                   (1e200, 1e200, 1e200), (np.nan, 0.0, 0.5)])
def test_a_step_outside_is_nan_and_silent(shape):
    x, y = grid(5)
    assert np.isnan(EllipticalGaussianPRF.evaluate(x, y, 1.0, 0.0, 0.0, *shape)).all()
    assert np.isnan(EllipticalGaussianPRF.fit_deriv(x, y, 1.0, 0.0, 0.0, *shape)).all()


def test_a_shape_that_is_not_positive_definite_is_refused():
    with pytest.raises(ValueError, match='needs a positive definite shape'):
        EllipticalGaussianPRF(1.0, 0.0, 0.0, 0.5, 0.5, 0.5)


def test_the_widths_are_those_before_integration():
    prf = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 1.3, 0.9, 0.2, name='star')
    assert type(prf) is EllipticalGaussianPRF
    assert prf.name == 'star'
    assert_allclose([prf.x_stddev, prf.y_stddev, prf.theta], [1.3, 0.9, 0.2])
    x, y = grid(21)
    image = prf(x, y)
    covariance = [[(image * i * j).sum() for i in (x, y)] for j in (x, y)]
    axes = np.linalg.eigvalsh(covariance)
    assert_allclose(axes, [0.9**2 + 1 / 12, 1.3**2 + 1 / 12], rtol=1e-5)


def test_the_bounding_box_is_half_a_pixel_wider():
    args = (1.0, 3.0, -2.0, 1.3, 0.9, 0.2)
    sampled = EllipticalGaussianPSF.from_stddev(*args, bbox_factor=3.0)
    prf = EllipticalGaussianPRF.from_stddev(*args, bbox_factor=3.0)
    expected = np.array(sampled.bounding_box.bounding_box()) + [-0.5, 0.5]
    assert_allclose(prf.bounding_box.bounding_box(), expected)


def test_a_pixel_is_one_unit_of_the_position():
    prf = EllipticalGaussianPRF.from_stddev(5.0 * u.Jy, 0.1 * u.arcsec, 0.2 * u.arcsec,
                                            0.01 * u.arcmin, 0.9 * u.arcsec, 20 * u.deg)
    plain = EllipticalGaussianPRF.from_stddev(5.0, 0.1, 0.2, 0.6, 0.9, np.deg2rad(20))
    x, y = grid(5)
    image = prf(x * u.arcsec, y / 60 * u.arcmin)
    assert image.unit == u.Jy
    assert_allclose(image.value, plain(x, y), rtol=1e-9)
    low, high = prf.bounding_box.bounding_box()[1]
    assert_allclose([low.to_value('arcsec'), high.to_value('arcsec')],
                    plain.bounding_box.bounding_box()[1])


def test_it_pickles_by_its_public_name():
    prf = EllipticalGaussianPRF(2.0, 0.1, 0.2, 0.4, 0.1, 0.6)
    assert type(pickle.loads(pickle.dumps(prf))) is EllipticalGaussianPRF


class Stars:
    """Simulated stamps of one integrated star at many positions, and what is true of them."""

    shape = (10, 11)

    def __init__(self, flux, background, n, seed, widths):
        rng = np.random.default_rng(seed)
        abc = stddev_to_precision(*widths, 0.4)
        y, x = np.mgrid[:self.shape[0], :self.shape[1]]
        x_0, y_0 = 5 + rng.uniform(-0.5, 0.5, n), 4.5 + rng.uniform(-0.5, 0.5, n)
        self.truth = np.array(np.broadcast_arrays(flux, x_0, y_0, *abc, background)).T
        mean = [flux * quadrature(x - i, y - j, *abc, n_panels=1) + background
                for i, j in zip(x_0, y_0, strict=True)]
        self.counts = rng.poisson(mean).astype(float)

    def pulls(self, fits):
        return (fits.params - self.truth) / fits.errors


def test_fits_recover_stars_with_calibrated_errors():
    stars = Stars(2e4, 10.0, 3000, SEED, widths=(0.55, 0.75))
    fits = fit_stamps(stars.counts, EllipticalGaussianPRF(1, 5, 4, 1.0, 0.0, 1.0), n_threads=1)
    assert fits.converged.all()
    assert not fits.flags.any()
    pulls = stars.pulls(fits)
    # The mean of 3000 pulls is known to 0.018, their deviation to 1.3 %.
    assert np.abs(pulls.mean(axis=0)).max() < 0.08
    assert_allclose(pulls.std(axis=0), 1, atol=0.06)
    assert abs(fits.gof_z.mean()) < 0.15


def test_only_the_integrated_gaussian_measures_undersampled_stars():
    stars = Stars(1e6, 10.0, 200, SEED, widths=(0.4, 0.5))
    right = fit_stamps(stars.counts, EllipticalGaussianPRF(), n_threads=1)
    wrong = fit_stamps(stars.counts, EllipticalGaussianPSF(), n_threads=1)
    assert abs(right.gof_z.mean()) < 0.3
    assert wrong.gof_z.mean() > 20
    scatter = [fits.params[:, 0].std() / 1e6 for fits in (right, wrong)]
    assert_allclose(scatter, [0.00095, 0.0096], rtol=0.2)
