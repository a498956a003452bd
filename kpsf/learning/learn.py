# Licensed under a 3-clause BSD style license - see LICENSE
"""`learn_psf`: one oversampled PRF from many stamps."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.modeling import Model
from astropy.table import Table

from .._kernels.spline import SplineTable
from .._validation import require_number, require_positive_integer
from ..models import TabulatedPRF, position_names, total_flux_name
from ..prf.calibration import detector_name
from ..prf.detector import detector_of
from ..tpf import TargetPixels, read_tpf
from .grid import PRFGrid
from .images import mean_images
from .places import hold_at_home, places_in, stars_of_stamps
from .results import LearnedPSF
from .solve import Equations, Tuning, solve_image
from .stars import fit_stars, residual_of, starlight
from .start import gaussian_start, sample_start

__all__ = ['learn_psf']

# Among these the evidence chooses; finer ones were not nearer to the truth.
OVERSAMPLINGS = (2, 3)
# Pixels along a side of the image.
LEAST_PIXELS, MOST_PIXELS = 9, 15
# Places in a pixel that are different, and how many of them it takes.
SAME_PHASE, LEAST_PHASES = 0.1, 3
# Change of the image, of its peak, that ends the iteration.
SMALL_CHANGE = 3e-4
# Rounds in which the tuning may change, and how far in each.
TUNED_ROUNDS, N_MOVES = 8, 3


def learn_psf(tpfs, stars=None, *, oversampling=None, n_pixels=None, start=None, saturation=None,
              max_iter=20, force=False):
    r"""Learn the PRF from the stars of many stamps of one detector channel.

    Where calibration files do not fit, for other focus or other places, or
    where there are none, the stars themselves tell how the PRF looks. Each
    shows it at the pixels' distances only: it takes stars, or a star that
    moves, at different places in their pixels [1]_.

    Parameters
    ----------
    tpfs : list, or one, of TargetPixels, str, path-like or what else `read_tpf` reads
        The pixels, all of one channel (camera and CCD of TESS).
    stars : `~astropy.table.Table` or mapping, optional
        All stars that are bright enough to matter, with columns ``x`` and
        ``y`` in pixels of the stamp and ``tpf``, the number of their file
        from 0 (not needed for one file); or with ``column`` and ``row`` on
        the detector. They are starting values. Default: the target of each
        file, where its header expects it.
    oversampling : int, optional
        Samples per pixel. By default 2 or 3, by the evidence: few stars do not
        tell more, and the spline between the samples is smooth.
    n_pixels : int, optional
        Pixels along a side of the image. By default what the stamps reach,
        9 to 15.
    start : `~astropy.modeling.Model`, optional
        What is known of the PRF before, for example a `~kpsf.KeplerPRF`. The
        result is as this where the pixels tell nothing. Default: the
        elliptical Gaussian, integrated over pixels, that is typical of the
        stars.
    saturation : float, optional
        Rate in e-/s from which on pixels are left out, with those beside
        them in their column. By default 1.6e5 for Kepler and 9e4 for TESS.
    max_iter : int, optional
        Largest number of iterations.
    force : bool, optional
        Whether to take stamps of different channels all the same.

    Returns
    -------
    LearnedPSF
        The PRF as a `~kpsf.TabulatedPRF` in ``model``, and what is known of
        it. ``save`` writes a calibration file.

    Raises
    ------
    TypeError
        If the start is no model, or pixels cannot be read from what was
        passed.
    ValueError
        If stamps are of different missions or channels, a star is not in its
        stamp, stars are at fewer than three different places in their
        pixels, or an option is out of range.
    OSError
        If a file cannot be opened.

    See Also
    --------
    kpsf.KeplerPRF, kpsf.TessPRF : The calibrated PRF.
    photutils.psf.EPSFBuilder : Another method, for isolated stars.

    Notes
    -----
    The cadences in which the stars of a file are at the same place, within
    0.05 pixel, make one mean image. Its pixels are

    .. math::

        d_p = \sum_s F_s \\, P(x_p - x_s, y_p - y_s) + b

    with a cubic B-spline P, in whose coefficients they are linear. These are
    solved for together with the changes of fluxes, positions and background
    that go with them (Gauss and Newton's method), under a Gaussian prior on
    the bends of the relative correction to the start. The strength of the
    prior, and the variance that the model lacks, are those of the largest
    evidence [2]_. Positions are relative to the start: corrections do not shift
    it. The pixels of every sub-pixel phase sum to 1.

    Neighbours that are not in ``stars`` end up in the wings of the PRF. What
    the wings and the background have in common is held to 10 % of the
    background of the file, if it has one; beyond the stamps, the wings are
    those of the start, and a Gaussian has none.

    References
    ----------
    .. [1] Anderson, J. & King, I. R. 2000, PASP, 112, 1360.
    .. [2] MacKay, D. J. C. 1992, Neural Computation, 4, 415.

    Examples
    --------
    >>> from kpsf import TabulatedPRF, learn_psf, simulate_tpf
    >>> paths = [simulate_tpf(f'{n}.fits', n_cadences=5, column=500 + 20 * n, seed=n,
    ...                       stars=[[2e4, 5 + 0.21 * n, 5.3 - 0.17 * n]],
    ...                       header={'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4})
    ...          for n in range(5)]
    >>> learned = learn_psf(paths, oversampling=3)
    >>> learned.residual < 0.01
    True
    >>> path = learned.save('learned_prf.fits')
    >>> TabulatedPRF.read(path).shape == learned.model.shape
    True
    """
    tpfs, names = _read(tpfs)
    if not force:
        _require_one_channel(tpfs, names)
    if saturation is not None:
        saturation = require_number(saturation, 'saturation', 'pass e-/s', positive=True)
    max_iter = require_positive_integer(max_iter, 'max_iter')
    sampled = OVERSAMPLINGS if oversampling is None else (
        require_positive_integer(oversampling, 'oversampling'),)
    if start is not None:
        _check_start(start)
    stamps = [mean_images(tpf, name, places_in(stars, tpfs, k), saturation)
              for k, (tpf, name) in enumerate(zip(tpfs, names))]
    fits = stars_of_stamps(stars, tpfs, stamps)
    _require_phases(fits)
    size = _size(n_pixels, stamps, fits)
    start = gaussian_start(stamps, fits, tpfs[0].mission) if start is None else start
    tried = [_learn(PRFGrid(sample_start(start, size * steps, steps), steps), stamps,
                    copy.deepcopy(fits), max_iter) for steps in sampled]
    best = max(tried, key=lambda state: state.evidence)
    return _result(best, stamps, tpfs, names)


def _read(tpfs):
    """Return the pixels and the names of their files."""
    if isinstance(tpfs, (TargetPixels, str, os.PathLike, fits.HDUList)) or hasattr(tpfs, 'hdu'):
        tpfs = [tpfs]
    sources = list(tpfs)
    if not sources:
        raise ValueError('tpfs must have at least one target pixel file, but it is empty: pass '
                         'some.')
    tpfs = [source if isinstance(source, TargetPixels) else read_tpf(source)
            for source in sources]
    names = tuple(Path(source).name if isinstance(source, (str, os.PathLike)) else tpf.target
                  for source, tpf in zip(sources, tpfs))
    return tpfs, names


def _require_one_channel(tpfs, names):
    """Raise unless all stamps are of one mission and channel, as far as they tell."""
    first = tpfs[0], detector_of(tpfs[0])
    for tpf, name in zip(tpfs[1:], names[1:]):
        detector = detector_of(tpf)
        if tpf.mission == first[0].mission and all(
                None in (value, first[1][key]) or value == first[1][key]
                for key, value in detector.items()):
            continue
        msg = (f'One PRF needs stamps of one mission and channel, but {names[0]} is of '
               f'{first[0].mission} {detector_name(first[1])} and {name} of {tpf.mission} '
               f'{detector_name(detector)}: leave it out, or pass force=True.')
        raise ValueError(msg)


def _check_start(start):
    """Raise unless the start is a model of a star."""
    if not isinstance(start, Model) or start.n_inputs != 2 or None in (
            total_flux_name(start), *position_names(start)):
        raise TypeError('start must be a two-dimensional model with a total flux and a position, '
                        f'but it is {type(start).__name__}: pass for example a KeplerPRF or '
                        'TabulatedPRF.')


def _require_phases(fits):
    """Raise unless the stars are at some different places in their pixels."""
    places = np.concatenate([fit.places[:, fit.is_fitted].reshape(-1, 2) for fit in fits])
    phases = np.unique(np.floor((places % 1.0) / SAME_PHASE), axis=0)
    if len(phases) < LEAST_PHASES:
        msg = (f'A PRF needs stars at {LEAST_PHASES} or more different places in their pixels, '
               f'but {len(fits)} stamps have {len(phases)}: pass more files of the channel.')
        raise ValueError(msg)


def _size(n_pixels, stamps, fits):
    """Return the number of pixels along a side of the image."""
    if n_pixels is not None:
        n_pixels = require_positive_integer(n_pixels, 'n_pixels')
        if n_pixels < 5:
            raise ValueError(f'n_pixels must be at least 5, but it is {n_pixels}: pass the pixels '
                             'along a side of the image, 11 for example.')
        return n_pixels
    reach = max(np.abs(pixels - place).max()
                for stamp, fit in zip(stamps, fits)
                for j, pixels in ((0, stamp.x), (1, stamp.y))
                for place in fit.expected[fit.is_fitted, j])
    return int(np.clip(2 * np.ceil(reach) + 1, LEAST_PIXELS, MOST_PIXELS))


@dataclass
class _State:
    """Where the iteration is."""

    grid: PRFGrid
    table: SplineTable
    fits: list
    start_residual: float
    tuning: Tuning
    evidence: float = -np.inf
    iterations: int = 0
    converged: bool = False


def _learn(grid, stamps, fits, max_iter):
    """Solve for image and stars in turns."""
    state = _State(grid, grid.start, fits, np.nan, Tuning())
    _fit_all(state, stamps)
    state.start_residual = _share(state, range(len(stamps)), stamps)
    u = np.zeros(grid.size**2)
    while state.iterations < max_iter and not state.converged:
        equations = Equations(grid, state.table, u, stamps, fits)
        n_moves = N_MOVES if state.iterations < TUNED_ROUNDS else 0
        u, state.evidence, tuning = solve_image(equations, state.tuning, n_moves)
        before, state.table = state.table, grid.table(u)
        change = np.abs(state.table.data - before.data).max() / before.data.max()
        state.converged = bool(change < SMALL_CHANGE and tuning == state.tuning)
        state.tuning = tuning
        state.iterations += 1
        _fit_all(state, stamps)
    return state


def _fit_all(state, stamps):
    """Fit the stars of all stamps; twice, as those beside a stamp are known only then."""
    for _ in range(2):
        for stamp, fit in zip(stamps, state.fits):
            fit_stars(state.table, stamp, fit, state.tuning.floor)
        hold_at_home(stamps, state.fits)


def _share(state, numbers, stamps):
    """Return the sum of absolute residuals as share of the light in some stamps."""
    left = light = 0.0
    for k in numbers:
        stamp, fit = stamps[k], state.fits[k]
        for image in range(stamp.n_images):
            seen = stamp.n_cadences[image] > 0
            parts = starlight(state.table, stamp, fit, image)
            left += np.abs(residual_of(stamp, fit, image, parts))[seen].sum() / stamp.exposure
            light += (stamp.values[image] - fit.levels[image])[seen].sum() / stamp.exposure
    return float(left / light)


def _result(state, stamps, tpfs, names):
    """Return what was found."""
    spacing = 1.0 / state.grid.steps
    model, start = (TabulatedPRF(table.data, spacing, origin=table.origin)
                    for table in (state.table, state.grid.start))
    return LearnedPSF(
        model, start, _share(state, range(len(stamps)), stamps), state.start_residual,
        n_stars=len({number for fit in state.fits for number in fit.numbers[fit.is_fitted]}),
        n_images=sum(stamp.n_images for stamp in stamps), iterations=state.iterations,
        converged=state.converged, evidence=state.evidence,
        smoothness=state.tuning.smoothness, floor=state.tuning.floor,
        table=_table(state, stamps), mission=tpfs[0].mission, detector=detector_of(tpfs[0]),
        files=names)


def _table(state, stamps):
    """Return one row per star and stamp."""
    rows = []
    for k, (stamp, fit) in enumerate(zip(stamps, state.fits)):
        residual = _share(state, [k], stamps)
        for j, number in enumerate(fit.numbers):
            column, row = fit.places[:, j].mean(axis=0)
            rows.append({'star': int(number), 'tpf': k, 'x': column - stamp.corner[0],
                         'y': row - stamp.corner[1], 'column': column, 'row': row,
                         'flux': fit.fluxes[:, j].mean() / stamp.exposure,
                         'n_images': stamp.n_images, 'is_fitted': bool(fit.is_fitted[j]),
                         'residual': residual})
    return Table(rows)
