# Licensed under a 3-clause BSD style license - see LICENSE
"""Weighted linear blocks: the amplitudes that dense least squares and the likelihood find, too."""

import numpy as np
import pytest
from scipy.optimize import minimize

from kpsf._kernels import linear
from kpsf._kernels.linear import fit_amplitudes, sandwich

N_CADENCES, SIDE = 12, 7
# Three stars of which two overlap, and a constant.
PLACES, AMPLITUDES = [(2.2, 3.1), (3.4, 3.3), (5.0, 1.2)], np.array([900.0, 400.0, 150.0, 20.0])


def images(dx=0.0):
    """Return three Gaussian stars at a flux of 1 and a constant (4, p)."""
    y, x = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    stars = [np.exp(-0.5 * ((x - a - dx)**2 + (y - b)**2) / 0.7**2) / (2 * np.pi * 0.7**2)
             for a, b in PLACES]
    return np.array([*stars, np.ones(SIDE * SIDE)])


def draw(design, amplitudes=AMPLITUDES, n=N_CADENCES, slope=1.0, floor=0.0, seed=1):
    """Return rates (n, p): Poisson counts times the rate of one, and read noise."""
    rng = np.random.default_rng(seed)
    mean = np.broadcast_to(amplitudes @ design, (n, design.shape[-1]))
    return rng.poisson(mean / slope) * slope + rng.normal(0.0, np.sqrt(floor), mean.shape)


def dense(data, design, variance, used=None, prior_mean=0.0, precision=0.0):
    """Return amplitudes (k,) and covariance (k, k) of one cadence, by the normal equations."""
    weight = np.diag((np.ones(data.size) if used is None else used) / variance)
    information = design @ weight @ design.T + precision
    right = design @ weight @ data + precision @ np.broadcast_to(prior_mean, len(design)) if (
        np.ndim(precision)) else design @ weight @ data
    return np.linalg.solve(information, right), np.linalg.inv(information)


def negative_log_likelihood(amplitudes, data, design):
    """Return what a maximum-likelihood fit minimises, and its derivatives."""
    mean = amplitudes @ design
    if (mean <= 0).any():
        return np.inf, np.zeros(len(amplitudes))
    return (mean - data * np.log(mean)).sum(), design @ (1.0 - data / mean)


def test_one_round_is_weighted_least_squares():
    design, known = images(), np.linspace(0.0, 3.0, SIDE * SIDE)
    data = draw(design) + known
    variance = np.random.default_rng(2).uniform(5.0, 50.0, data.shape)
    found = fit_amplitudes(data, design, known, 1.0, 4.0, variance=variance, n_rounds=1)
    for i in range(N_CADENCES):
        amplitudes, covariance = dense(data[i] - known, design, variance[i])
        np.testing.assert_allclose(found.amplitudes[i], amplitudes, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[i], covariance, rtol=1e-9)
        np.testing.assert_allclose(found.mean[i], known + amplitudes @ design, rtol=1e-9)
    np.testing.assert_allclose(found.variance, np.maximum(found.mean, 1.0) + 4.0, rtol=1e-12)


@pytest.mark.parametrize('seed', range(5))
def test_rounds_of_weights_end_at_the_maximum_of_the_poisson_likelihood(seed):
    # About three counts in the constant: weights of the data would be off by much.
    design = images()
    truth = np.array([200.0, 80.0, 50.0, 3.0])
    data = draw(design, truth, seed=seed)
    found = fit_amplitudes(data, design, 0.0, 1.0, 0.0, n_rounds=12)
    three = fit_amplitudes(data, design, 0.0, 1.0, 0.0)
    for i in range(N_CADENCES):
        best = minimize(negative_log_likelihood, truth, args=(data[i], design), jac=True,
                        method='BFGS', options={'gtol': 1e-7})
        error = np.sqrt(np.diag(found.covariance[i]))
        np.testing.assert_allclose(found.amplitudes[i], best.x, atol=1e-3 * error.min())
        # The usual number of rounds is off by much less than the noise.
        assert np.abs(three.amplitudes[i] - best.x).max() < 0.02 * error.max()


@pytest.mark.parametrize('used', [None, 'some'])
def test_one_design_for_all_and_one_for_each_give_the_same(used):
    design = images()
    data = draw(design)
    used = used and np.random.default_rng(3).uniform(size=data.shape) < 0.8
    prior = np.array([800.0, 400.0, 100.0, 10.0]), np.diag([1e-4, 1e-4, 0.0, 0.0])
    for options in ({}, {'prior': prior}):
        one = fit_amplitudes(data, design, 1.0, 1.0, 4.0, used=used, **options)
        each = fit_amplitudes(data, np.repeat(design[np.newaxis], N_CADENCES, axis=0), 1.0, 1.0,
                              4.0, used=used, **options)
        for first, second in zip(one, each):
            np.testing.assert_allclose(first, second, rtol=1e-9)


def test_every_cadence_has_its_own_design():
    designs = np.array([images(0.05 * i) for i in range(N_CADENCES)])
    data = AMPLITUDES @ designs
    found = fit_amplitudes(data, designs, 0.0, 1.0, 4.0)
    np.testing.assert_allclose(found.amplitudes, np.tile(AMPLITUDES, (N_CADENCES, 1)), rtol=1e-9)
    still = fit_amplitudes(data, designs[0], 0.0, 1.0, 4.0)
    assert np.abs(still.amplitudes[-1] / AMPLITUDES - 1.0).max() > 0.05


def test_pixels_that_are_not_used_do_not_count():
    design = images()
    data = draw(design)
    used = np.random.default_rng(3).uniform(size=data.shape) < 0.7
    variance = np.full(data.shape, 30.0)
    spoilt = np.where(used, data, np.nan)
    found = fit_amplitudes(spoilt, design, 0.0, 1.0, 4.0, used=used, variance=variance,
                           n_rounds=1)
    for i in range(N_CADENCES):
        amplitudes, covariance = dense(data[i], design, variance[i], used[i])
        np.testing.assert_allclose(found.amplitudes[i], amplitudes, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[i], covariance, rtol=1e-9)
    # Nor do they in the first weights.
    both = [fit_amplitudes(values, design, 0.0, 1.0, 4.0, used=used)
            for values in (spoilt, np.where(used, data, 1e9))]
    np.testing.assert_array_equal(both[0].amplitudes, both[1].amplitudes)


@pytest.mark.parametrize('ndim', [(1, 2), (2, 2), (1, 'diagonal'), (2, 'diagonal'), (2, 3)])
def test_priors_of_every_shape_enter_as_data_do(ndim):
    design, rng = images(), np.random.default_rng(4)
    data = draw(design)
    mean = rng.uniform(0.0, 500.0, (N_CADENCES, 4))
    root = rng.normal(size=(N_CADENCES, 4, 4)) * 0.02
    precision = root @ root.transpose(0, 2, 1)
    if ndim[0] == 1:
        mean[:] = mean[0]
    if ndim[1] == 2:
        precision[:] = precision[0]
        given = precision[0]
    elif ndim[1] == 'diagonal':
        given = np.einsum('nkk->nk', precision).copy()
        precision = given[:, :, np.newaxis] * np.eye(4)
    else:
        given = precision
    found = fit_amplitudes(data, design, 0.0, 1.0, 4.0, variance=20.0, n_rounds=1,
                           prior=(mean[0] if ndim[0] == 1 else mean, given))
    for i in range(N_CADENCES):
        amplitudes, covariance = dense(data[i], design, np.full(SIDE * SIDE, 20.0), None, mean[i],
                                       precision[i])
        np.testing.assert_allclose(found.amplitudes[i], amplitudes, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[i], covariance, rtol=1e-9)


def test_a_diagonal_of_as_many_cadences_as_amplitudes_is_one_matrix():
    # (k, k) and (n, k) cannot be told apart where n = k: it is a matrix for all.
    design = images()
    data = draw(design, n=4)
    precision = np.diag([1e-3, 2e-3, 3e-3, 4e-3])
    found = fit_amplitudes(data, design, 0.0, 1.0, 4.0, prior=(np.zeros(4), precision),
                           variance=20.0, n_rounds=1)
    for i in range(4):
        expected = dense(data[i], design, np.full(SIDE * SIDE, 20.0), None, 0.0, precision)
        np.testing.assert_allclose(found.amplitudes[i], expected[0], rtol=1e-9)


def test_a_prior_mean_of_zero_pulls_to_zero_and_a_strong_one_holds():
    design = images()
    data = draw(design)
    weak, strong = (fit_amplitudes(data, design, 0.0, 1.0, 4.0, prior=(
        np.zeros(4), np.diag([precision, 0.0, 0.0, 0.0]))) for precision in (0.0, 1e6))
    assert (weak.amplitudes[:, 0] > 600.0).all()
    assert np.abs(strong.amplitudes[:, 0]).max() < 0.01
    # What the first star leaves goes to its neighbour.
    assert (strong.amplitudes[:, 1] > weak.amplitudes[:, 1] + 100.0).all()


def test_singular_rows_are_nan_in_their_row_only():
    design = images()
    design[2, design[2] < 1e-3] = 0.0
    data = draw(design)
    used = np.ones(data.shape, dtype=bool)
    # No pixel at all; fewer pixels than amplitudes; a star whose pixels are all gone.
    used[2], used[5], used[5, :3] = False, False, True
    used[8] = design[2] == 0.0
    found = fit_amplitudes(data, design, 0.0, 1.0, 4.0, used=used)
    bad = np.zeros(N_CADENCES, dtype=bool)
    bad[[2, 5, 8]] = True
    assert np.isnan(found.amplitudes[bad]).all()
    assert np.isnan(found.covariance[bad]).all()
    assert np.isfinite(found.mean).all()
    alone = fit_amplitudes(data[~bad], design, 0.0, 1.0, 4.0, used=used[~bad],
                           variance=linear._typical_variance(np.where(used, data, 0.0), used,
                                                             1.0, 4.0))
    np.testing.assert_allclose(found.amplitudes[~bad], alone.amplitudes, rtol=1e-12)


def test_images_that_are_the_same_cannot_be_told_apart():
    design = images()
    design[1] = design[0]
    found = fit_amplitudes(draw(design), design, 0.0, 1.0, 4.0)
    assert np.isnan(found.amplitudes).all()
    # A prior can.
    held = fit_amplitudes(draw(design), design, 0.0, 1.0, 4.0,
                          prior=(AMPLITUDES, np.diag([0.0, 1e-2, 0.0, 0.0])))
    assert np.isfinite(held.amplitudes).all()


def test_nan_data_spoil_their_row_only():
    design = images()
    data = draw(design)
    expected = fit_amplitudes(data, design, 0.0, 1.0, 4.0, variance=20.0)
    data[3, 10] = np.nan
    found = fit_amplitudes(data, design, 0.0, 1.0, 4.0, variance=20.0)
    assert np.isnan(found.amplitudes[3]).any()
    others = np.arange(N_CADENCES) != 3
    np.testing.assert_array_equal(found.amplitudes[others], expected.amplitudes[others])


@pytest.mark.parametrize(('slope', 'floor'), [(1.0, 0.0), (6e-4, 2.0)])
def test_a_mean_below_one_count_has_the_variance_of_one(slope, floor):
    design = np.ones((1, 9))
    data = np.array([[0.0] * 9, [-5.0 * slope] * 9, [0.4 * slope] * 9, [7.0 * slope] * 9])
    found = fit_amplitudes(data, design, 0.0, slope, floor)
    expected = slope * np.array([slope, slope, slope, 7.0 * slope]) + floor
    np.testing.assert_allclose(found.variance, np.repeat(expected[:, np.newaxis], 9, axis=1),
                               rtol=1e-12)
    np.testing.assert_allclose(found.covariance[:, 0, 0], expected / 9, rtol=1e-12)


@pytest.mark.parametrize('per_cadence', [False, True])
@pytest.mark.parametrize('block', [1, 500, 1_000_000])
def test_cadences_in_blocks_and_one_at_a_time_are_equal(monkeypatch, block, per_cadence):
    n = 60
    design = np.array([images(0.01 * i) for i in range(n)]) if per_cadence else images()
    rng = np.random.default_rng(5)
    data = rng.poisson(np.broadcast_to(AMPLITUDES @ images(), (n, SIDE * SIDE))) * 1.0
    used = rng.uniform(size=data.shape) < 0.9
    known, slope = rng.uniform(0.0, 2.0, data.shape), rng.uniform(0.9, 1.1, data.shape[1])
    precision = rng.uniform(0.0, 1e-3, (n, 4))
    monkeypatch.setattr(linear, '_BLOCK', block)
    found = fit_amplitudes(data, design, known, slope, 4.0, used=used, variance=25.0,
                           prior=(AMPLITUDES, precision))
    for i in (0, 7, n - 1):
        one = fit_amplitudes(data[[i]], design[[i]] if per_cadence else design, known[[i]], slope,
                             4.0, used=used[[i]], variance=25.0,
                             prior=(AMPLITUDES, precision[[i]]))
        for first, second in zip(found, one):
            np.testing.assert_allclose(first[i], second[0], rtol=1e-9)


@pytest.mark.parametrize('per_cadence', [False, True])
def test_the_sandwich_is_the_covariance_without_excess_and_scales_with_it(per_cadence):
    design = images()
    data = draw(design)
    used = np.random.default_rng(3).uniform(size=data.shape) < 0.8
    given = np.repeat(design[np.newaxis], N_CADENCES, axis=0) if per_cadence else design
    found = fit_amplitudes(data, given, 0.0, 1.0, 4.0, used=used, n_rounds=10)
    np.testing.assert_allclose(sandwich(found, given, 1.0, used), found.covariance, rtol=1e-4)
    np.testing.assert_allclose(sandwich(found, given, np.full(SIDE * SIDE, 2.5), used),
                               2.5 * sandwich(found, given, 1.0, used), rtol=1e-12)
    unmasked = fit_amplitudes(data, given, 0.0, 1.0, 4.0, n_rounds=10)
    np.testing.assert_allclose(sandwich(unmasked, given, 1.0), unmasked.covariance, rtol=1e-4)


def test_excess_in_one_pixel_counts_by_its_weight():
    design = images()
    found = fit_amplitudes(draw(design), design, 0.0, 1.0, 4.0, n_rounds=10)
    excess = np.ones(SIDE * SIDE)
    excess[3 * SIDE + 2] = 9.0
    robust = sandwich(found, design, excess)
    for i in range(N_CADENCES):
        # How the amplitudes answer to the pixels; they scatter independently.
        answer = found.covariance[i] @ (design / found.variance[i])
        expected = answer @ np.diag(excess * found.variance[i]) @ answer.T
        np.testing.assert_allclose(robust[i], expected, rtol=1e-9)
    assert (robust[:, 0, 0] > 1.3 * found.covariance[:, 0, 0]).all()


@pytest.mark.parametrize(('slope', 'floor'), [(1.0, 0.0), (6e-4, 1e-3)])
def test_nothing_in_the_pixels_divides_by_nothing(slope, floor):
    design = images()
    found = fit_amplitudes(np.zeros((3, SIDE * SIDE)), design, 0.0, slope, floor)
    np.testing.assert_allclose(found.amplitudes, 0.0, atol=1e-12)
    assert np.isfinite(found.covariance).all()
    assert (found.variance > 0).all()


def test_no_cadences_give_no_rows():
    found = fit_amplitudes(np.zeros((0, SIDE * SIDE)), images(), 0.0, 1.0, 4.0, variance=1.0)
    assert found.amplitudes.shape == (0, 4)
    assert found.covariance.shape == (0, 4, 4)


@pytest.mark.parametrize(('amplitudes', 'slope', 'floor'), [
    (AMPLITUDES, 1.0, 9.0), ([60.0, 40.0, 20.0, 2.0], 1.0, 0.0),
    ([5e4, 2e4, 900.0, 80.0], 6e-4, 1.5)])
def test_amplitudes_scatter_as_their_covariances_say(amplitudes, slope, floor):
    design, truth = images(), np.array(amplitudes)
    data = draw(design, truth, n=4000, slope=slope, floor=floor, seed=7)
    found = fit_amplitudes(data, design, 0.0, slope, floor)
    rest = found.amplitudes - truth
    variance = np.einsum('nkk->nk', found.covariance)
    # Errors of few counts grow with the flux: those of each row would shift the mean.
    mean_pulls = rest.mean(axis=0) / np.sqrt(variance.mean(axis=0))
    assert np.abs(mean_pulls).max() < 4.0 / np.sqrt(4000)
    assert np.abs((rest / np.sqrt(variance)).std(axis=0) - 1.0).max() < 0.05
    # And together: the neighbours' errors belong to each other.
    typical = np.linalg.inv(found.covariance.mean(axis=0))
    chi2 = np.einsum('nj,jk,nk->n', rest, typical, rest)
    assert chi2.mean() == pytest.approx(4.0, rel=0.05)
