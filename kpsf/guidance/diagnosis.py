# Licensed under a 3-clause BSD style license - see LICENSE
"""What is wrong with a fit: in words and flags."""

from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import or_

import numpy as np

from .._kernels.goodness import cstat_z, fit_terms
from .._kernels.poisson import deviance
from .._validation import as_box, require_number
from ..flags import DiagnosisFlag
from ..stamps import fit_stamps
from .arguments import as_place
from .empty import empty_pixels
from .fitted import JUDGED, read_fit
from .locate import locate_source
from .sky import Sky, find_spikes, smoothed
from .words import counted, percent, pixels, with_error, wrapped

__all__ = ['Diagnosis', 'Problem', 'diagnose']

# In units of the FWHM: the box in which a star is judged, and how far apart two places are.
BOX, APART = JUDGED, 1.0
# What is less significant is chance, in standard deviations and as a gain of the deviance.
N_SIGMA, GAIN = 5.0, 25.0
# A refit that gains less was at the maximum.
LEAST_GAIN = 9.0
# Shares of the light and of the width that do not matter.
LEAST_INSIDE, LEAST_WIDTH = 0.9, 0.03
# Distance in units of the FWHM at which the edge of the data cuts off no more than wings.
LEAST_EDGE = 1.5
# Above this share of the highest pixel, more pixels than the PSF has there are saturated.
PLATEAU, LEAST_PLATEAU = 0.9, 3
# A neighbour is at least this share of the star's own light at its place.
LEAST_CONTRAST = 0.5
N_SHOWN = 5
# From which share of the excess of its size on a star is elongated.
LEAST_ELONGATION = 0.6
# Step of the second derivatives of a PSF, in units of the FWHM.
ELONGATION_STEP = 0.05
# How far from 1 the variance of pixels without stars may be.
LEAST_EXCESS = 0.1
# Of differences by the place of a star, in pixels.
STEP = 0.01
# What varies more than this has stars in it, or structure.
LARGEST_EXCESS = 10.0
# What makes a goodness of fit bad by itself.
EXPLAINS = (DiagnosisFlag.WRONG_MINIMUM | DiagnosisFlag.NOT_AT_MAXIMUM | DiagnosisFlag.NO_SOURCE
            | DiagnosisFlag.SATURATED | DiagnosisFlag.PSF_TOO_NARROW | DiagnosisFlag.PSF_TOO_WIDE
            | DiagnosisFlag.SPIKES)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a fit.

    Attributes
    ----------
    flag : DiagnosisFlag
        Which.
    text : str
        What was found, by how much, and what to do.
    significance : float
        In standard deviations, where that means something; NaN otherwise.
    """

    flag: DiagnosisFlag
    text: str
    significance: float = np.nan

    def __str__(self):
        """Return the name of the flag and the text."""
        return f'{self.flag.name}: {self.text}'


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a fit, made by `diagnose`; ``print`` shows it.

    Attributes
    ----------
    problems : tuple of Problem
        The worst first.
    x, y, flux : float
        The fit: position in pixels and total flux in electrons.
    gof_z : float
        Distance of the C-statistic from its expectation in standard
        deviations, see `~kpsf.goodness_of_fit`.
    flux_err : float
        Standard error of the flux in electrons as the fit gave it, NaN where
        it gave none.
    """

    problems: tuple
    x: float
    y: float
    flux: float
    gof_z: float
    flux_err: float = np.nan

    @property
    def flags(self):
        """All flags together, a `~kpsf.flags.DiagnosisFlag`."""
        return reduce(or_, (problem.flag for problem in self.problems), DiagnosisFlag(0))

    @property
    def is_trusted(self):
        """Whether nothing was found."""
        return not self.problems

    def __str__(self):
        """Return all problems, line by line."""
        head = (f'Fit at {pixels(self.x, self.y)} with a total flux of '
                f'{with_error(self.flux, self.flux_err)} e-, goodness of fit '
                f'{self.gof_z:+.1f} sigma')
        if self.is_trusted:
            return wrapped(f'{head}: nothing wrong was found.')
        return wrapped('\n'.join([f'{head}:', *(f'- {problem}' for problem in self.problems)]))


def diagnose(data, fit, *, psf=None, background=None, mask=None, read_variance=None, start=None,
             fit_shape=None, saturation=None, index=0, oversampling=None):
    """Say what is wrong with the fit of a star.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        Electrons with the background in, that were fitted: a stamp, or the
        image. Of a row of results of `~kpsf.PoissonPSFPhotometry`, the image
        as it was passed there, in its unit: gain, read noise, and a number
        that was subtracted as ``background``, are in ``meta`` of the table.
    fit : `~astropy.modeling.Model`, StampFits, `~astropy.table.Row` or dict
        A fitted model; what `fit_stamps` returned; or a row of the results of
        `~kpsf.PoissonPSFPhotometry` or photutils, with ``x_fit``, ``y_fit``,
        ``flux_fit`` and, if it was fitted, ``background_fit``. Of any fitter.
        The other stars of its group in the same table are known then, and
        where the fit began, from ``x_init`` and ``y_init``.
    psf : array_like, shape (ny, nx), or `~astropy.modeling.Model`, optional
        The PSF of a row of results, an image or a model.
    background : float or array_like, shape (ny, nx), optional
        What ``data`` contain beside the star and those of its group, in
        their unit, per pixel. By default that of the fit, or else it is
        measured. An image that `~kpsf.PoissonPSFPhotometry` was given as
        ``background`` is not in the data: add it to them, and pass it here.
    mask : array_like of bool, shape (ny, nx), optional
        True for pixels that were left out. StampFits know theirs.
    read_variance : float, optional
        Variance of the read noise in electrons squared. By default that of the
        table of a row, or else 0.
    start : (float, float), optional
        Position (x, y) in pixels at which the fit began. By default that of a
        row, if it has one.
    fit_shape : int or (int, int), optional
        Height and width of the box of pixels that were fitted, odd, as in
        photutils. By default that in ``meta`` of the table of a row, or else a
        box of five times the FWHM is judged.
        StampFits know theirs.
    saturation : float, optional
        Electrons at which pixels are full. By default, a plateau is looked
        for.
    index : int, optional
        Which stamp of StampFits, or row of a table.
    oversampling : int or (int, int), optional
        Samples per pixel of a PSF image, 1 by default.

    Returns
    -------
    Diagnosis
        Its ``problems`` are sentences with what to do, its ``flags`` their sum.

    Raises
    ------
    TypeError
        If the fit is of a kind that is not known.
    ValueError
        If it lacks something or is not finite, or data do not match.

    Notes
    -----
    Wrong minima are found by `locate_source` and a comparison of
    likelihoods. Widths and slopes are one step of a fit with one more
    parameter (Rao's score test [1]_): right where they are small.

    References
    ----------
    .. [1] Rao, C. R. 1948, Proc. Camb. Phil. Soc., 44, 50.

    Examples
    --------
    >>> import numpy as np
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import diagnose
    >>> psf = CircularGaussianPRF(fwhm=2.5)
    >>> y, x = np.mgrid[:41, :41]
    >>> mean = psf.evaluate(x, y, 5000.0, 23.4, 11.8, 2.5) + 20.0
    >>> counts = np.random.default_rng(1).poisson(mean)
    >>> lost = CircularGaussianPRF(flux=150.0, x_0=7.2, y_0=30.1, fwhm=2.5)
    >>> print(diagnose(counts, lost, start=(0.0, 0.0)).flags.name)
    WRONG_MINIMUM|FAR_FROM_START
    """
    if read_variance is not None:
        read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    start = as_place(start, 'start')
    shape = None if fit_shape is None else as_box(fit_shape, least=3)
    fitted = read_fit(data, fit, psf, background, mask, read_variance, index, oversampling, shape)
    if saturation is not None:
        saturation = require_number(saturation, 'saturation', 'pass electrons', positive=True)
    whole, fitted = fitted, fitted.cut()
    fitted, spikes = _without_spikes(fitted)
    found = list(_of_place(fitted, whole))
    if not found:
        found += _of_pixels(fitted, saturation)
        if not any(problem.flag == DiagnosisFlag.SATURATED for problem in found):
            found += _of_maximum(fitted)
    found += spikes
    z = _goodness(fitted)
    found += _of_noise(fitted, z, found)
    found += _of_meaning(fitted, fitted.start if start is None else start)
    return Diagnosis(tuple(found), *fitted.place, fitted.flux, z, fitted.flux_err)


def _without_spikes(fitted):
    """Return the fit without the pixels that no star can have made, and whether there are any."""
    sky = Sky(fitted.background, fitted.variance, 1.0)
    spikes = find_spikes(fitted.counts, ~fitted.used, sky, fitted.star, fitted.read_variance,
                         smoothed(fitted.counts, ~fitted.used, sky))
    n_near = np.count_nonzero(spikes & fitted.box(BOX))
    problems = [Problem(DiagnosisFlag.SPIKES, f'{counted(n_near, "pixel")} near the star higher '
                        'than any star makes them, hot or hit by a cosmic ray: mask them.')]
    return replace(fitted, used=fitted.used & ~spikes), problems if n_near else []


def _of_place(fitted, whole):
    """Yield whether there is a star where the fit ended, or a better place.

    In the whole image it is looked for only if there is none around the fit.
    """
    near = fitted.cut(BOX)
    if _has_source(near, _sources_in(near, n=1)):
        return
    fitted, sources = whole, _sources_in(whole)
    if _has_source(fitted, sources):
        return
    if not len(sources):
        if _own_significance(fitted) < N_SIGMA:
            yield Problem(DiagnosisFlag.NO_SOURCE, 'there is no significant source in the data: '
                          'the flux is noise; hold the position where the star should be.',
                          _own_significance(fitted))
        return
    best = sources[0]
    here, there = (fitted.words(*place) for place in (
        (fitted.x, fitted.y), (best['x'], best['y'])))
    gain = _deviance_at(fitted, fitted.x, fitted.y, fitted.flux, best) - _deviance_at(
        fitted, best['x'], best['y'], best['flux'], best)
    if gain > GAIN:
        yield Problem(
            DiagnosisFlag.WRONG_MINIMUM,
            f'no source is where the fit ended, {here}; at {there} with a flux of '
            f'{best["flux"]:.5g} e- the likelihood is better (the C-statistic lower by '
            f'{gain:.4g}): start there, as locate_source says.', float(best['significance']))


def _sources_in(fitted, n=None):
    """Return the table of significant sources, all or the strongest."""
    return locate_source(fitted.counts, fitted.star.model, mask=~fitted.used, n=n,
                         threshold=N_SIGMA, read_variance=fitted.read_variance)


def _has_source(fitted, sources):
    """Say whether one of the sources is where the fit ended."""
    distance = np.hypot(sources['x'] - fitted.x, sources['y'] - fitted.y)
    return np.any(distance <= max(APART * fitted.star.fwhm, 1.0))


def _own_significance(fitted):
    """Return flux over its error where the fit ended."""
    weight = np.where(fitted.used, fitted.image**2 / fitted.variance, 0.0).sum()
    return float(fitted.flux * np.sqrt(weight))


def _deviance_at(fitted, x, y, flux, source):
    """Return the C-statistic of one star in the boxes around the fit and another source."""
    near = fitted.box(BOX)
    columns, lines = fitted.grid
    half = 0.5 * BOX * fitted.star.fwhm
    near |= fitted.used & (np.abs(columns - source['x']) <= half) & (
        np.abs(lines - source['y']) <= half)
    mean = np.maximum(flux * fitted.star.image(*fitted.grid, x, y) + fitted.background, 0.0)
    return _cstat(fitted, mean, near)


def _cstat(fitted, mean, used):
    """Return the C-statistic of pixels, shifted by the read noise."""
    shift = fitted.read_variance
    counts, mean = fitted.counts[used] + shift, mean[used] + shift
    return float(deviance(np.maximum(counts, 0.0), np.maximum(mean, 1e-9)).sum())


def _of_pixels(fitted, saturation):
    """Yield what the pixels around the star tell of the model."""
    inside = float(fitted.image[fitted.seen].sum())
    if inside < LEAST_INSIDE:
        yield Problem(DiagnosisFlag.FLUX_OUTSIDE,
                      f'{percent(1.0 - inside)} of the light is outside of the fitted pixels: the '
                      'flux leans on the wings of the PSF; fit more pixels if there are any.')
    else:
        yield from _cut_off(fitted)
    full = _saturated(fitted, saturation)
    if full is not None:
        yield full
        return
    width = _width(fitted)
    if width is not None:
        yield width
    slope = _slope(fitted)
    if slope is not None:
        yield slope
    yield from _neighbours(fitted)


def _cut_off(fitted):
    """Yield whether the data end so near to the star that its wings are not seen."""
    ny, nx = fitted.counts.shape
    nearest = min(fitted.x + 0.5, nx - 0.5 - fitted.x, fitted.y + 0.5, ny - 0.5 - fitted.y)
    if nearest < LEAST_EDGE * fitted.star.fwhm:
        yield Problem(DiagnosisFlag.FLUX_OUTSIDE,
                      f'the data end {nearest / fitted.star.fwhm:.1f} FWHM from the star: what '
                      'light its wings have beyond is what the PSF says, not the pixels.')


def _saturated(fitted, saturation):
    """Return whether pixels are full, None if not."""
    core = fitted.box(BOX)
    if not core.any():
        return None
    counts, mean = fitted.counts[core], fitted.mean[core]
    highest = counts.max()
    full = counts >= (PLATEAU * highest if saturation is None else saturation)
    n_full, expected = int(full.sum()), int(np.sum(mean >= PLATEAU * mean.max()))
    if saturation is None and (n_full < LEAST_PLATEAU or n_full < 2 * expected + 3
                               or _is_noise(counts, full, fitted.variance[core])):
        return None
    if not n_full:
        return None
    limit = (f'within {percent(1 - PLATEAU)} of the highest, where the PSF has {expected}'
             if saturation is None else f'at or above {saturation:.5g} e-')
    return Problem(DiagnosisFlag.SATURATED,
                   f'{counted(n_full, "pixel")} {limit}: saturated; the flux is too low, and no '
                   'PSF fits. Mask them, or sum the pixels in an aperture.')


def _is_noise(counts, full, variance):
    """Say whether a plateau is no more than the noise of a faint star."""
    return counts[full].max() - np.median(counts) < 20.0 * np.sqrt(np.median(variance[full]))


def _score_step(fitted, columns, used):
    """Return one step of a fit in more parameters, its standard errors and its significance.

    Parameters
    ----------
    columns : list of ndarray, shape (ny, nx)
        Derivatives of the mean by the further parameters.
    used : ndarray of bool, shape (ny, nx)

    Returns
    -------
    step, error : ndarray, shape (n,)
    significance : float
        Square root of the score statistic.
    """
    slopes = fitted.star.slopes(*fitted.grid, fitted.x, fitted.y)
    known = [fitted.image, *(fitted.flux * slope for slope in slopes)]
    known += [] if fitted.background_known else [np.ones_like(fitted.image)]
    variance = fitted.variance[used]
    derivatives = np.array([column[used] for column in (*known, *columns)])
    scale = np.sqrt((derivatives**2 / variance).sum(axis=1))
    derivatives /= np.where(scale > 0, scale, 1.0)[:, np.newaxis]
    residual = fitted.counts[used] - fitted.mean[used]
    covariance = np.linalg.pinv(derivatives / variance @ derivatives.T, rcond=1e-10,
                                hermitian=True)
    step = covariance @ (derivatives / variance @ residual)
    n = len(columns)
    own, of_step = step[-n:], covariance[-n:, -n:]
    significance = np.sqrt(max(own @ np.linalg.pinv(of_step) @ own, 0.0))
    with np.errstate(divide='ignore', invalid='ignore'):
        return (own / scale[-n:], np.sqrt(np.maximum(np.diag(of_step), 0.0)) / scale[-n:],
                float(significance))


def _width(fitted):
    """Return whether the PSF is too narrow or wide, None if not."""
    x, y = fitted.grid
    slopes = fitted.star.slopes(x, y, fitted.x, fitted.y)
    # By the logarithm of the width, at the same total flux.
    stretch = fitted.flux * ((x - fitted.x) * slopes[0] + (y - fitted.y) * slopes[1]
                             - 2.0 * fitted.image)
    used = fitted.seen
    if used.sum() < 8:
        return None
    (step,), (error,), _ = _score_step(fitted, [stretch], used)
    if not error > 0 or abs(step) < LEAST_WIDTH or abs(step) < N_SIGMA * error:
        return None
    flag = DiagnosisFlag.PSF_TOO_NARROW if step > 0 else DiagnosisFlag.PSF_TOO_WIDE
    share, which = percent(min(abs(step), 0.5)), 'wider' if step > 0 else 'narrower'
    what = _elongation(fitted, used) or ': free its width, or learn the PSF from stars'
    return Problem(flag, f'the star is about {share} {which} than the PSF{what}.',
                   float(abs(step) / error))


def _elongation(fitted, used):
    """Return along which direction the star is longer than the PSF, empty if it is not.

    One step in the second moments of the light that the PSF is convolved with.
    """
    x, y = fitted.grid
    h = ELONGATION_STEP * fitted.star.fwhm
    along_x, along_y = (
        [slope / (2.0 * h) for slope in np.subtract(
            fitted.star.slopes(x, y, fitted.x + dx, fitted.y + dy),
            fitted.star.slopes(x, y, fitted.x - dx, fitted.y - dy))]
        for dx, dy in ((h, 0.0), (0.0, h)))
    (xx, xy), yy = along_x, along_y[1]
    step, error, _ = _score_step(fitted, [0.25 * fitted.flux * column for column in (
        xx + yy, xx - yy, 2.0 * xy)], used)
    size, length = step[0], float(np.hypot(step[1], step[2]))
    if not np.all(error > 0) or length < max(N_SIGMA * error[1:].max(), LEAST_ELONGATION * size,
                                             2.0 * LEAST_WIDTH * (fitted.star.fwhm / 2.3548)**2):
        return ''
    angle = np.degrees(0.5 * np.arctan2(step[2], step[1])) % 180.0
    return (f', and elongated along a line at {angle:.0f} degrees from x towards y: a trail, two '
            'stars, or a PSF that is not round? Use a PSF that is drawn out in the same way '
            '(tutorial "The flux of an asteroid"), or fit two stars')


def _slope(fitted):
    """Return whether the background slopes, None if not."""
    x, y = fitted.grid
    # Where the star is bright, errors of the PSF would be taken for a slope.
    sky = empty_pixels(fitted, fitted.box(2 * BOX))
    if sky is None:
        return None
    columns = [(x - fitted.x).astype(float), (y - fitted.y).astype(float)]
    shape = fitted.background - fitted.background[sky.pixels].mean()
    level = replace(fitted, background=shape + sky.level, background_known=False)
    step, error, significance = _score_step(level, columns, sky.pixels)
    if significance < N_SIGMA or not np.all(error > 0):
        return None
    return Problem(DiagnosisFlag.BACKGROUND_SLOPE,
                   f'the background rises by {step[0]:+.3g} e- per pixel along x and '
                   f'{step[1]:+.3g} along y: fit a smaller box, or pass a background that '
                   'slopes.', significance)


def _neighbours(fitted):
    """Yield the stars that the fit does not know of, the strongest first."""
    rest = locate_source(fitted.counts, fitted.star.model, mask=~fitted.used, n=None,
                         background=fitted.mean, read_variance=fitted.read_variance)
    own = fitted.star.unit.peak / fitted.star.integral
    apart = max(APART * fitted.star.fwhm, 1.0)
    distance = np.hypot(rest['x'] - fitted.x, rest['y'] - fitted.y)
    light = fitted.flux * fitted.star.image(rest['x'], rest['y'], fitted.x, fitted.y)
    near = distance <= BOX * fitted.star.fwhm
    # Where pixels vary more than photons do, chance reaches further.
    sky = fitted.empty
    excess = 1.0 if sky is None else min(max(sky.excess(fitted.read_variance)[0], 1.0),
                                         LARGEST_EXCESS)
    real = ((distance > apart) & (rest['flux'] * own > LEAST_CONTRAST * light) & near
            & (rest['significance'] > N_SIGMA * np.sqrt(excess)))
    if not real.any():
        return
    others = rest[real]
    shown = [f'{_share(other["flux"], fitted.flux)} at '
             f'{fitted.words(other["x"], other["y"])}' for other in others[:N_SHOWN]]
    more = f' and {len(others) - N_SHOWN} more' if len(others) > N_SHOWN else ''
    yield Problem(DiagnosisFlag.NEIGHBOUR,
                  f'{"other sources" if len(others) > 1 else "another source"} of '
                  f'{", ".join(shown)}{more}: fit them jointly, as a group, or mask them.',
                  float(others['significance'][0]))


def _share(flux, of):
    """Return a flux in words, as a share of another where that says something."""
    return f'{percent(flux / of)} of the flux' if 1e-4 < flux / max(of, 1e-9) < 1e2 else (
        f'{flux:.4g} e-')


def _of_maximum(fitted):
    """Yield whether a fit from where this one ended goes elsewhere."""
    if fitted.is_stamp:
        return
    unit = fitted.star.unit
    reach = max(fitted.star.fwhm, 1.0)
    start = {unit.x: fitted.x, unit.y: fitted.y}
    used = fitted.seen
    # One fit of these pixels alone: the same for both.
    known = ({'background': fitted.background} if fitted.background_known else
             {'background': 'fit', 'known_background': fitted.companions})
    fits = fit_stamps(np.where(used, fitted.counts, np.nan)[np.newaxis], fitted.star.model,
                      read_variance=fitted.read_variance, fixed=unit.shape_names,
                      init=start, bounds={name: (value - reach, value + reach)
                                          for name, value in start.items()},
                      origin=np.zeros(2) if unit.is_grid else None, **known)
    if not fits.converged[0]:
        return
    row = dict(zip(fits.param_names, fits.params[0]))
    gain = _cstat(fitted, fitted.mean, used) - fits.deviance[0]
    shift = np.hypot(row[unit.x] - fitted.x, row[unit.y] - fitted.y)
    flux = row[unit.scale] * fitted.star.integral
    errors = dict(zip(fits.param_names, fits.errors[0]))
    there = fitted.words(row[unit.x], row[unit.y])
    matters = (abs(flux - fitted.flux) > errors[unit.scale] * fitted.star.integral
               or shift > max(errors[unit.x], errors[unit.y]))
    if gain > LEAST_GAIN and matters:
        yield Problem(
            DiagnosisFlag.NOT_AT_MAXIMUM,
            f'from here the Poisson likelihood leads to {there} and a flux of {flux:.5g} e- (the '
            f'C-statistic lower by {gain:.3g}): fit with PoissonLikelihoodFitter, or more '
            'iterations.', np.sqrt(gain))


def _goodness(fitted):
    """Return the distance of the C-statistic from its expectation in standard deviations."""
    used = fitted.seen
    if not used.any():
        return np.nan
    mean = np.maximum(fitted.mean + fitted.read_variance, 1e-9)[used]
    jacobian = _derivatives(fitted)[:, used]
    terms = fit_terms(mean[np.newaxis], jacobian[np.newaxis])
    return float(cstat_z(None, mean, len(jacobian), terms=terms,
                         statistic=_cstat(fitted, fitted.mean, used))[0])


def _derivatives(fitted):
    """Return the derivatives of the mean, (3, ny, nx), or 4 with a fitted background."""
    x, y, image = fitted.x, fitted.y, partial(fitted.star.image, *fitted.grid)
    slopes = [(image(x + dx, y + dy) - image(x - dx, y - dy)) / (2 * STEP)
              for dx, dy in ((STEP, 0.0), (0.0, STEP))]
    jacobian = [fitted.image, *(fitted.flux * slope for slope in slopes)]
    return np.array(jacobian if fitted.background_known
                    else [*jacobian, np.ones_like(fitted.image)])


def _of_noise(fitted, z, found):
    """Yield whether the pixels scatter as photons do, or more than what was found explains."""
    is_explained = bool(found)
    sky = fitted.empty
    if sky is not None:
        factor, significance = sky.excess(fitted.read_variance)
        # Stars and slopes that were found above are no noise.
        is_large = abs(significance) > N_SIGMA and abs(factor - 1.0) > LEAST_EXCESS
        if is_large and (factor < 1.0 or not is_explained):
            yield Problem(
                DiagnosisFlag.NOT_POISSON,
                f'the pixels without the star vary {factor:.3g} times as much as electrons do: '
                f'errors of faint stars are {np.sqrt(factor):.3g} times those given. Are the data '
                f'electrons (a gain of {1.0 / factor:.3g} would explain it), and is the read '
                'noise known?', abs(significance))
            return
    if z > N_SIGMA and not any(problem.flag & EXPLAINS for problem in found):
        what = _elongation(fitted, fitted.box(BOX))
        what = f'. The star is not like the PSF{what}' if what else ''
        yield Problem(DiagnosisFlag.MISFIT,
                      f'the C-statistic is {z:.1f} standard deviations above its expectation: the '
                      'PSF is not the whole story, and errors are too small (covariance='
                      f'"sandwich" helps){what}.', z)


def _of_meaning(fitted, start):
    """Yield what does not concern the fit itself: its start and its flux."""
    integral = fitted.star.integral
    if abs(integral - 1.0) > 0.01:
        name = fitted.star.unit.scale
        yield Problem(DiagnosisFlag.NOT_TOTAL_FLUX,
                      f'{name} of {type(fitted.star.model).__name__} is not the total flux: that '
                      f'is {integral:.4g} x {name}; see describe_normalization.')
    if start is None:
        return
    x, y = fitted.place
    away = float(np.hypot(x - start[0], y - start[1]))
    if away > max(APART * fitted.star.fwhm, 1.0):
        yield Problem(DiagnosisFlag.FAR_FROM_START,
                      f'the fit ended {away:.1f} pixels from its start {pixels(*start)}: is it '
                      'the star that is meant? Bound the position (xy_bounds of the photometry), '
                      'and fit stars that are near to each other jointly; where the start was a '
                      'guess, take that of locate_source.')
