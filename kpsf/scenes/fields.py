# Licensed under a 3-clause BSD style license - see LICENSE
"""What all of a scene has in common: images of the background, and fields of motion."""

import numpy as np

__all__ = ['background_images', 'displacement_fields', 'scene_slopes', 'star_shifts']


def background_images(pixels, background):
    """Return the images (b, p) of the fitted background: none, a constant, or a plane."""
    ones = np.ones_like(pixels.x)
    if background == 'known':
        return np.zeros((0, ones.size))
    if background == 'fit':
        return ones[np.newaxis]
    return np.stack([ones, pixels.x - pixels.x.mean(), pixels.y - pixels.y.mean()])


def displacement_fields(reference, fields):
    """Return how far each star moves, (f, k, 2): shifts, and scale and roll about the middle.

    A star alone has neither scale nor roll.
    """
    x, y = reference.x - reference.x.mean(), reference.y - reference.y.mean()
    one, zero = np.ones_like(x), np.zeros_like(x)
    known = {'shift': [(one, zero), (zero, one)], 'scale': [(x, y)], 'roll': [(-y, x)]}
    return np.array([np.column_stack(pair) for name in fields for pair in known[name]
                     if name == 'shift' or len(x) > 1])


def star_shifts(motion, fields):
    """Return the shift of every star in every cadence (n, k, 2), given motion and fields."""
    return np.einsum('nf,fkd->nkd', motion, fields)


def scene_slopes(flux, by_x, by_y, fields):
    """Return what moves of all stars do to the image of the scene, (n, f, p).

    Parameters
    ----------
    flux : ndarray, shape (n, k)
    by_x, by_y : ndarray, shape (n, k, p)
        Derivatives of the stars' images.
    fields : ndarray, shape (f, k, 2)
    """
    return np.stack([((flux * field[:, 0])[:, np.newaxis] @ by_x
                      + (flux * field[:, 1])[:, np.newaxis] @ by_y)[:, 0] for field in fields],
                    axis=1)
