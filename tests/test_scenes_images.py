# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of moving stars are those of the PSF at the places where the stars are."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import ndtr

from kpsf import EllipticalGaussianPSF, TabulatedPRF
from kpsf.guidance.information import Star
from kpsf.scenes.fields import displacement_fields
from kpsf.scenes.images import MovingImages
from kpsf.scenes.reference import Reference, typical_shifts

Y, X = (axis.ravel().astype(float) for axis in np.mgrid[:11, :12])
PIXELS = SimpleNamespace(x=X, y=Y)
GAUSSIAN = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.6, 0.4)


def tabulated():
    """Return the image of a pixel-integrated Gaussian, ten samples per pixel."""
    offset = (np.arange(150) - 74.5) / 10.0
    share = ndtr((offset + 0.5) / 0.7) - ndtr((offset - 0.5) / 0.7)
    return TabulatedPRF(np.outer(share, share), 0.1)


PSFS = {'gaussian': GAUSSIAN, 'tabulated': tabulated()}


def scene(psf, x=(5.2, 7.9), y=(4.8, 6.1)):
    """Return a reference of stars at these places."""
    k = len(x)
    return Reference(Star(psf), np.array(x), np.array(y), np.ones(k), np.zeros((k, X.size)),
                     np.zeros(X.size))


def shifts(n=120, size=1.5, k=2, seed=1):
    return np.random.default_rng(seed).uniform(-size, size, (n, k, 2))


def exact(reference, shift):
    """Return the images (n, k, p) one by one."""
    return np.array([[reference.star.image(X, Y, reference.x[j] + dx, reference.y[j] + dy)
                      for j, (dx, dy) in enumerate(row)] for row in shift])


@pytest.mark.parametrize('psf', PSFS)
def test_images_are_those_of_the_psf_there(psf):
    reference, shift = scene(PSFS[psf]), shifts()
    found, expected = MovingImages(reference, PIXELS)(shift), exact(reference, shift)
    assert found.shape == (120, 2, X.size)
    # A parabola lacks x**2 y and x y**2, at 0.05 pixel of a star of 0.6 up to 2e-4 of the peak.
    assert np.abs(found - expected).max() < 2e-4 * expected.max()
    assert np.sqrt(np.mean((found - expected)**2)) < 1e-5 * expected.max()
    assert np.abs(found.sum(axis=2) - expected.sum(axis=2)).max() < 2e-5


@pytest.mark.parametrize('psf', PSFS)
def test_stars_that_stay_are_exact(psf):
    reference = scene(PSFS[psf])
    found = MovingImages(reference, PIXELS)(np.zeros((3, 2, 2)))
    np.testing.assert_allclose(found, exact(reference, np.zeros((3, 2, 2))), atol=1e-15)


@pytest.mark.parametrize('psf', PSFS)
def test_slopes_are_the_derivatives_of_the_images(psf):
    reference, shift, step = scene(PSFS[psf]), shifts(40), 1e-4
    images, *slopes = MovingImages(reference, PIXELS)(shift, slopes=True)
    np.testing.assert_array_equal(images, MovingImages(reference, PIXELS)(shift))
    for axis, slope in enumerate(slopes):
        move = step * np.eye(2)[axis]
        expected = (exact(reference, shift + move) - exact(reference, shift - move)) / (2 * step)
        assert np.abs(slope - expected).max() < 0.01 * np.abs(expected).max()


def test_images_hardly_jump_between_nodes():
    reference = scene(GAUSSIAN)
    below, above = (np.full((1, 2, 2), 0.25 + side) for side in (-1e-9, 1e-9))
    jump = MovingImages(reference, PIXELS)(above) - MovingImages(reference, PIXELS)(below)
    assert 0.0 < np.abs(jump).max() < 4e-4 * exact(reference, below).max()


def test_stars_move_on_their_own():
    reference = scene(GAUSSIAN)
    shift = np.zeros((2, 2, 2))
    shift[1, 0] = 0.7, -0.4
    found = MovingImages(reference, PIXELS)(shift)
    np.testing.assert_array_equal(found[0, 1], found[1, 1])
    assert np.abs(found[1, 0] - found[0, 0]).max() > 0.1


def test_no_cadences_have_no_images():
    assert MovingImages(scene(GAUSSIAN), PIXELS)(np.zeros((0, 2, 2))).shape == (0, 2, X.size)


def test_fields_are_a_shift_a_scale_and_a_roll():
    reference = scene(GAUSSIAN, (2.0, 8.0, 5.0), (3.0, 3.0, 9.0))
    fields = displacement_fields(reference, ('shift', 'scale', 'roll'))
    assert fields.shape == (4, 3, 2)
    np.testing.assert_array_equal(fields[0], [[1.0, 0.0]] * 3)
    np.testing.assert_array_equal(fields[1], [[0.0, 1.0]] * 3)
    np.testing.assert_array_equal(fields[2], [[-3.0, -2.0], [3.0, -2.0], [0.0, 4.0]])
    # A roll is a quarter turn of the scale: both keep the middle where it is.
    np.testing.assert_array_equal(fields[3], fields[2] @ [[0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(fields[2:].sum(axis=1), 0.0, atol=1e-12)


def test_a_small_roll_and_scale_are_a_rotation_and_a_magnification():
    reference = scene(GAUSSIAN, (2.0, 8.0), (3.0, 7.0))
    fields = displacement_fields(reference, ('scale', 'roll'))
    places = np.column_stack([reference.x, reference.y])
    angle, factor = 1e-3, 1.002
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    expected = (places - places.mean(axis=0)) * factor @ turn + places.mean(axis=0)
    np.testing.assert_allclose(places + (factor - 1.0) * fields[0] + angle * fields[1], expected,
                               atol=2e-5)


def path(kind, n=400):
    """Return shifts (n, 2) of several kinds."""
    rng = np.random.default_rng(3)
    phase = np.linspace(-1.0, 1.0, n)
    return {'line': np.column_stack([phase, 0.5 * phase]),
            'bow': np.column_stack([0.6 * phase, 0.6 * phase**2]),
            'jitter': rng.normal(0.0, [0.3, 0.2], (n, 2)),
            'rest': np.zeros((n, 2)), 'one': rng.normal(size=(1, 2)),
            'two': rng.normal(0.0, 0.3, (2, 2))}[kind]


@pytest.mark.parametrize('kind', ['line', 'bow', 'jitter', 'rest', 'one', 'two'])
def test_a_few_shifts_have_the_moments_and_the_mean_image_of_all(kind):
    shift = path(kind)
    places, weights = typical_shifts(shift)
    assert len(places) <= 24
    assert weights.sum() == pytest.approx(1.0)
    mean = weights @ places
    np.testing.assert_allclose(mean, shift.mean(axis=0), atol=1e-12)
    spread = (places - mean).T @ (weights[:, np.newaxis] * (places - mean))
    np.testing.assert_allclose(spread, np.cov(shift.T, bias=True) if len(shift) > 1 else 0.0,
                               atol=1e-12)
    reference = scene(GAUSSIAN)
    found = np.tensordot(weights, exact(reference, np.repeat(places[:, np.newaxis], 2, axis=1)), 1)
    expected = exact(reference, np.repeat(shift[:, np.newaxis], 2, axis=1)).mean(axis=0)
    assert np.abs(found - expected).max() < 2e-3 * expected.max()
