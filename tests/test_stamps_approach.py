# Licensed under a 3-clause BSD style license - see LICENSE
"""The approach to integrated Gaussians by sampled ones: closer, and to the same answer."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kpsf import EllipticalGaussianPRF, fit_stamps
from kpsf.stamps.approach import _widened, approach

TRUTH = (2000.0, 5.2, 4.9, 0.9, 0.7, 0.3)


def draw(n=300):
    """Return stamps of one star, and the model to fit."""
    star = EllipticalGaussianPRF.from_stddev(*TRUTH)
    y, x = np.mgrid[:10, :11]
    return np.random.default_rng(4).poisson(star(x, y) + 5.0, (n, 10, 11)), star


def fits(counts, star, **options):
    init = {'x_0': 5.0, 'y_0': 5.0, 'a': 0.5, 'b': 0.0, 'c': 0.5}
    return fit_stamps(counts, star, init=init, **options)


def test_the_answer_is_the_same_in_fewer_evaluations(monkeypatch):
    counts, star = draw()
    near = fits(counts, star)
    monkeypatch.setattr('kpsf.stamps.fit.approach', lambda problem, start: None)
    far = fits(counts, star)
    assert near.converged.all()
    assert near.n_iter.mean() < 0.7 * far.n_iter.mean()
    both = far.converged
    assert both.mean() > 0.98
    difference = np.abs(near.params - far.params) / far.errors
    # Each within the distance that its own end allows.
    allowed = np.sqrt(2 * near.edm) + np.sqrt(2 * far.edm) + 1e-4
    assert np.all(difference[both] < 3 * allowed[both, np.newaxis])


@pytest.mark.parametrize('options', [
    {'shared': ('a', 'b', 'c')}, {'fixed': ('b',)}, {'priors': {'a': (0.6, 0.01)}},
    {'bounds': {'a': (0.55, 0.7)}}])
def test_what_is_known_of_the_shape_is_respected(options):
    counts, star = draw(40)
    found = fits(counts, star, **options)
    a = found.params[:, 3]
    if 'shared' in options:
        assert np.ptp(a) == 0.0
    if 'fixed' in options:
        assert_array_equal(found.params[:, 4], 0.0)
    if 'priors' in options:
        assert np.std(a) < 0.02
    if 'bounds' in options:
        assert np.all((a >= 0.55) & (a <= 0.7))


def test_a_variance_more_and_less_is_the_same_shape():
    precision = np.array([[0.5, 0.9], [0.1, -0.2], [0.7, 0.6]])
    assert_allclose(_widened(_widened(precision, 1 / 12), -1 / 12), precision, rtol=1e-12)
    round_ = _widened(np.array([[0.5], [0.0], [0.5]]), 1.0)
    assert_allclose(round_[:, 0], [0.25, 0.0, 0.25], atol=1e-15)


def test_other_models_are_left_alone():
    class Nothing:
        model = object()

        class constraints:
            free = np.arange(7)

    start = np.ones((7, 3))
    approach(Nothing(), start)
    assert_array_equal(start, 1.0)
