# Licensed under a 3-clause BSD style license - see LICENSE
"""What the flux of a PSF means: its normalisation, described and corrected."""

import warnings
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np
from astropy.modeling import Model
from astropy.nddata import NDData
from astropy.utils.exceptions import AstropyUserWarning

from ._kernels.spline import phase_sums
from ._validation import as_float_array, require_finite, require_positive_integer
from .models import TabulatedPRF, total_flux_name
from .models.unit import UnitPSF

__all__ = ['Normalization', 'amplitude_to_flux', 'as_psf_model', 'describe_normalization',
           'flux_to_amplitude', 'normalize_psf', 'warn_unless_total_flux']

# Further from 1 than this, an integral is no matter of rounding or faint wings.
TOLERANCE = 0.01
# Half width and step of the grid on which a model is summed, in units of its FWHM.
_REACH, _STEP = 20.0, 0.125
# Sub-pixel phases along each axis, and the FWHM in pixels above which they do not matter.
_N_PHASES, _SMOOTH = 4, 8.0
# Annuli of the profile that is continued beyond the edge, and the share of the radius they span.
_N_ANNULI, _INNER = 8, 0.6
# A power law that falls less steeply holds no finite light.
_LEAST_SLOPE = 2.1
_N_ANGLES = 720
# Grids that are halved until the sum changes by less than this, and the least share of the light
# of a round star of that peak and width that an integral must have.
_PRECISION, _N_HALVINGS, _LEAST_INTEGRAL = 1e-3, 3, 1e-3
# An oversampling that one would guess.
LARGEST_HINT = 50

_warned = WeakSet()


@dataclass(frozen=True)
class Normalization:
    """What the flux of a PSF means, as `describe_normalization` measured it.

    ``print`` shows all of it in words.

    Attributes
    ----------
    name : str
        Class of the PSF.
    parameter : str
        The parameter that is described: ``'flux'`` or ``'amplitude'``.
    oversampling : (int, int)
        Samples per pixel along y and x; 1 for a model without an image.
    sum : float
        Sum of the samples of an image; for other models the mean sum of the
        pixels, for a flux of 1. Of a grid of images, the mean.
    peak : float
        Largest value for a flux of 1: of the samples, or of the model.
    integral : float
        Sum of the pixels that a flux of 1 puts into the whole plane; for an
        image, into its extent.
    phase_spread : float
        Largest minus smallest sum of the pixels over sub-pixel positions,
        relative to their mean: by so much the flux depends on where in a
        pixel a star is.
    outside : float
        Share of the light beyond the edges of an image, by continuing its
        wings as a power law; 0 for models without an image, and NaN where the
        wings do not fall.
    centroid : (float, float)
        Offset (x, y) in pixels of the core's centre of light from the
        position. Fitted positions are off by its opposite.
    fwhm : float
        Full width at half maximum in pixels.
    """

    name: str
    parameter: str
    oversampling: tuple
    sum: float
    peak: float
    integral: float
    phase_spread: float
    outside: float
    centroid: tuple
    fwhm: float

    @property
    def is_total_flux(self):
        """Say whether the parameter is the total flux, to 1 per cent."""
        return abs(self.integral - 1.0) <= TOLERANCE

    @property
    def meaning(self):
        """Say in one sentence what the fitted parameter means."""
        if self.is_total_flux:
            return 'total flux'
        if abs(self.peak - 1.0) < 1e-3:
            return (f'peak amplitude x 1: the total flux is {self.integral:.6g} x '
                    f'{self.parameter}')
        factor = 1.0 / self.integral
        times = f'x {factor:.4g}' if factor >= 1 else f'/ {self.integral:.4g}'
        n_samples = int(np.prod(self.oversampling))
        if n_samples > 1:
            steps = ' x '.join(str(n) for n in sorted(set(self.oversampling)))
            return (f'total flux {times}: the image is oversampled {steps} times and sums to '
                    f'{self.sum:.4g}, not to {n_samples}')
        side = round(min(np.sqrt(self.sum), 1e3))
        hint = (f' (if it is oversampled {side} times, pass oversampling={side})'
                if 1 < side <= LARGEST_HINT and abs(self.sum / side**2 - 1.0) < 1e-3 else '')
        return f'total flux {times}: the PSF sums to {self.sum:.4g}, not to 1{hint}'

    def __str__(self):
        """Return all of it, line by line."""
        lines = [f'{self.parameter} of {self.name} is: {self.meaning}',
                 f'  sum {self.sum:.6g}, peak {self.peak:.6g}, integral {self.integral:.6g}, '
                 f'FWHM {self.fwhm:.3g} pixels',
                 f'  the sum of the pixels changes by {_percent(self.phase_spread)} with the '
                 'position in the pixel']
        if self.outside > 0.0005:
            lines.append(f'  about {_percent(self.outside)} of the light is beyond the edge of '
                         'the image, and not in the flux')
        elif np.isnan(self.outside):
            lines.append('  the wings do not fall towards the edge of the image: a background is '
                         'in it, or it is too small')
        if max(map(abs, self.centroid)) > 0.05:
            x, y = self.centroid
            lines.append(f'  its core is ({x:+.2f}, {y:+.2f}) pixels off the middle: fitted '
                         'positions are off by the opposite')
        return '\n'.join(lines)


def describe_normalization(psf, oversampling=None):
    r"""Measure what the flux of a PSF means.

    Parameters
    ----------
    psf : array_like, shape (ny, nx), `~astropy.nddata.NDData` or `~astropy.modeling.Model`
        An image of a star, or any model of astropy, photutils or kpsf with a
        position and a flux or amplitude.
    oversampling : int or (int, int), optional
        Samples per pixel of an image (along y and x), 1 by default. A model
        knows its own.

    Returns
    -------
    Normalization
        With ``meaning``, one sentence on what a fitted flux will be.

    Raises
    ------
    TypeError
        If it is neither an image nor a model.
    ValueError
        If the image has pixels that are not finite, no positive sum, or less
        than four pixels along an axis; if a model has no position or flux, or
        ``oversampling`` is no whole number or given with a model.

    Notes
    -----
    An image with the values :math:`p`, oversampled :math:`q` times along both
    axes, puts :math:`F \sum p / q^2` into the pixels for a flux :math:`F`:
    photutils' convention, in which ``flux`` is the total flux if the samples
    sum to :math:`q^2`.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import describe_normalization
    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> image = np.exp(-(x**2 + y**2) / 50)
    >>> print(describe_normalization(image).meaning)
    peak amplitude x 1: the total flux is 157.067 x flux
    >>> print(describe_normalization(image / image.sum(), oversampling=4).meaning)
    total flux x 16: the image is oversampled 4 times and sums to 1, not to 16
    """
    unit = UnitPSF(_as_model(psf, oversampling))
    return Normalization(
        name='the image' if not isinstance(psf, Model) else type(psf).__name__,
        parameter=unit.scale, oversampling=tuple(unit.steps[::-1]), centroid=unit.centroid,
        fwhm=unit.fwhm, **_measure(unit))


def normalize_psf(psf, oversampling=None):
    """Return a PSF whose flux is the total flux.

    The PSF that is passed is not changed, nor are arrays shared with it.

    Parameters
    ----------
    psf : array_like, shape (ny, nx), `~astropy.nddata.NDData` or `~astropy.modeling.Model`
        An image of a star, or a model with a position and a flux or
        amplitude.
    oversampling : int or (int, int), optional
        Samples per pixel of an image (along y and x), 1 by default.

    Returns
    -------
    ndarray, shape (ny, nx), or `~astropy.modeling.Model`
        Of an image, an image that sums to the samples per pixel, as
        `~photutils.psf.ImagePSF` wants it. Of a model made of images, the
        same with the images divided, each by its own sum. Of another model
        whose flux is the total flux already, a copy. Of the rest, the model
        times a new flux (`~photutils.psf.make_psf_model`), its own scale held.

    Raises
    ------
    TypeError, ValueError
        As for `describe_normalization`.

    Examples
    --------
    >>> from astropy.modeling.models import Gaussian2D
    >>> from kpsf import describe_normalization, normalize_psf
    >>> psf = normalize_psf(Gaussian2D(x_stddev=1.2, y_stddev=1.2))
    >>> print(describe_normalization(psf).meaning)
    total flux
    """
    model = _as_model(psf, oversampling)
    unit = UnitPSF(model)
    if not isinstance(psf, Model):
        return _normalized_images(unit)[0]
    if _is_known_to_be_total(model):
        return model.copy()
    if isinstance(model, TabulatedPRF):
        return _normalized_table(model)
    if unit.is_image:
        return _normalized_photutils(model, unit)
    integral = _of_function(unit)['integral']
    if total_flux_name(model) is not None and abs(integral - 1.0) < 1e-6:
        return model.copy()
    from photutils.psf import make_psf_model
    own = model.copy()
    scale = getattr(own, unit.scale)
    scale.value = 1.0 / integral
    return make_psf_model(own, x_name=unit.x, y_name=unit.y, normalize=False)


def amplitude_to_flux(amplitude, psf, oversampling=None):
    """Turn the height of a star into its total flux.

    Parameters
    ----------
    amplitude : float, array_like or `~astropy.units.Quantity`, of any shape
        Value of a star at its peak, above the background, in any unit.
    psf : array_like, shape (ny, nx), `~astropy.nddata.NDData` or `~astropy.modeling.Model`
        PSF of any normalisation.
    oversampling : int or (int, int), optional
        Samples per pixel of an image, 1 by default.

    Returns
    -------
    float, ndarray or `~astropy.units.Quantity`, of the same shape
        Sum of the pixels of the star, in the same unit.

    Raises
    ------
    TypeError, ValueError
        As for `describe_normalization`.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPSF
    >>> from kpsf.guidance import amplitude_to_flux
    >>> print(f'{amplitude_to_flux(22594.0, CircularGaussianPSF(fwhm=15.0)):.4g}')
    5.76e+06
    """
    return _times(amplitude, _area(psf, oversampling))


def flux_to_amplitude(flux, psf, oversampling=None):
    """Turn the total flux of a star into its height.

    Parameters
    ----------
    flux : float, array_like or `~astropy.units.Quantity`, of any shape
        Total flux, in any unit.
    psf : array_like, shape (ny, nx), `~astropy.nddata.NDData` or `~astropy.modeling.Model`
        PSF of any normalisation.
    oversampling : int or (int, int), optional
        Samples per pixel of an image, 1 by default.

    Returns
    -------
    float, ndarray or `~astropy.units.Quantity`, of the same shape
        Value of the star at its peak, for a star in the middle of a pixel, in
        the same unit.

    Raises
    ------
    TypeError, ValueError
        As for `describe_normalization`.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import flux_to_amplitude
    >>> print(f'{flux_to_amplitude(1000.0, CircularGaussianPRF(fwhm=2.0)):.1f}')
    197.1
    """
    return _times(flux, 1.0 / _area(psf, oversampling))


def as_psf_model(psf, oversampling=None):
    """Return any PSF as a model, and the total flux that a scale of 1 means.

    Parameters
    ----------
    psf : array_like, shape (ny, nx), `~astropy.nddata.NDData` or `~astropy.modeling.Model`
        An image, or a model, which is returned as it is.
    oversampling : int or (int, int), optional
        Samples per pixel of an image, 1 by default.

    Returns
    -------
    model : `~astropy.modeling.Model`
        Of an image, a `~photutils.psf.ImagePSF` whose flux is the total flux.
    integral : float
        Total flux over the scale of the model.

    Raises
    ------
    TypeError, ValueError
        As for `describe_normalization`.
    """
    model = _as_model(psf, oversampling)
    unit = UnitPSF(model)
    if not isinstance(psf, Model):
        from photutils.psf import ImagePSF
        return ImagePSF(_normalized_images(unit)[0], oversampling=unit.steps[::-1]), 1.0
    if _is_known_to_be_total(model):
        return model, 1.0
    return model, _measure(unit)['integral']


def warn_unless_total_flux(model):
    """Warn if the flux of a PSF is not the total flux, once for each model.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        Anything; models that are no PSF with a flux are let pass.

    Notes
    -----
    Models of which it is known, those by formula of photutils and kpsf, cost
    nothing; the images of others are summed.
    """
    is_psf = isinstance(model, Model) and len(model) == 1 and total_flux_name(model) is not None
    if not is_psf or _is_known_to_be_total(model) or model in _warned:
        return
    try:
        unit = UnitPSF(model)
        integral = _measure(unit)['integral']
    except (ArithmeticError, TypeError, ValueError):
        # Whatever else is wrong with it, the fit will say.
        return
    if abs(integral - 1.0) > TOLERANCE:
        _warned.add(model)
        warnings.warn(
            f'flux should be the total flux, but a flux of 1 of {type(model).__name__} puts '
            f'{integral:.4g} into the pixels: the total flux is {integral:.4g} x the fitted one. '
            'Pass kpsf.normalize_psf(psf) to make them equal (--normalize in the command).',
            AstropyUserWarning)


def _is_known_to_be_total(model):
    """Say whether a model's flux is its total flux by construction."""
    if isinstance(model, TabulatedPRF):
        return model.normalize is not None
    return total_flux_name(model) is not None and (
        type(model).__module__ in ('photutils.psf.functional_models',
                                   'kpsf.models.gaussian', 'kpsf.models.integrated'))


def _as_model(psf, oversampling):
    """Return a model; of an image one that takes it as it is."""
    if isinstance(psf, Model):
        if oversampling is not None:
            raise ValueError('oversampling is for an image, but the PSF is a model, '
                             f'{type(psf).__name__}, which knows its own: leave it out.')
        return psf
    image = _checked_image(psf)
    steps = np.ravel(1 if oversampling is None else oversampling)
    if steps.size not in (1, 2):
        raise ValueError(f'oversampling must be a whole number or a pair (y, x), but it is '
                         f'{oversampling!r}: pass one.')
    steps = [require_positive_integer(step, 'oversampling') for step in steps.tolist()]
    from photutils.psf import ImagePSF
    # photutils wants more samples than the interpolation has use for.
    if min(image.shape) < 4:
        raise ValueError(f'An image of a PSF must have at least 4 x 4 pixels, but it has '
                         f'{image.shape[1]} x {image.shape[0]}: pass a larger one.')
    return ImagePSF(image, oversampling=steps if len(steps) == 2 else steps[0])


def _checked_image(psf):
    """Return the image of a PSF as an array; raise unless it can be normalised."""
    image = getattr(psf, 'value', psf)
    if isinstance(psf, NDData):
        image = psf.data if psf.mask is None else np.ma.masked_array(psf.data, psf.mask)
    if psf is None or isinstance(psf, (type, str)) or callable(psf):
        found = psf.__name__ if isinstance(psf, type) else type(psf).__name__
        raise TypeError(f'A PSF must be an image or an astropy model, but it is {found}: pass an '
                        'array, or an instance of a model.')
    if np.iscomplexobj(image):
        raise TypeError('An image of a PSF must be real numbers, but they are complex: pass the '
                        'part that is meant.')
    image = as_float_array(image, 'An image of a PSF')
    if image.ndim != 2:
        raise ValueError(f'An image of a PSF must have two axes, but its shape is {image.shape}: '
                         'pass one image.')
    require_finite(image, 'An image of a PSF', 'fill the gaps by interpolation before')
    if not image.sum() > 0 or not image.max() > 0:
        raise ValueError(f'An image of a PSF must have a positive sum, but it is '
                         f'{image.sum():.6g}: subtract its background, not more, or pass another.')
    return image.copy()


def _measure(unit):
    """Return sum, peak, integral, phase_spread and outside of any PSF."""
    return _of_images(unit) if unit.is_image else _of_function(unit)


def _of_images(unit):
    """Return sum, peak, integral, phase_spread and outside of a model made of images."""
    n_samples = np.prod(unit.steps)
    sums = unit.images.sum(axis=(1, 2))
    if not np.all(sums > 0):
        raise ValueError('An image of a PSF must have a positive sum, but it is '
                         f'{sums.min():.6g}: subtract its background, not more, or pass another.')
    phases = np.array([_sums_of_phases(image, unit.steps) for image in unit.images])
    spread = np.max(np.ptp(phases, axis=1) / phases.mean(axis=1))
    return {'sum': float(sums.mean()), 'peak': float(unit.images.max()),
            'integral': float(sums.mean() / n_samples), 'phase_spread': float(spread),
            'outside': _share_outside(unit.images.mean(axis=0), unit.steps, unit.origin)}


def _sums_of_phases(image, steps):
    """Return the sums of the pixels for each sub-pixel phase, (n_phases,)."""
    return np.ravel(phase_sums(image, steps)) if max(steps) > 1 else np.array([image.sum()])


def _of_function(unit):
    """Return sum, peak, integral, phase_spread and outside of a model that is a function."""
    integral = 1.0 if _is_known_to_be_total(unit.model) else _integrate(unit)
    spread = _spread_of_function(unit)
    return {'sum': float(integral), 'peak': unit.peak, 'integral': float(integral),
            'phase_spread': spread, 'outside': 0.0}


def _integrate(unit):
    """Return the integral of a function over the plane."""
    step, inside = _STEP * unit.fwhm, np.nan
    for _ in range(_N_HALVINGS + 1):
        previous, (inside, outside) = inside, _sum_on_grid(unit, step)
        if abs(inside / previous - 1.0) < _PRECISION:
            break
        step /= 2.0
    if np.isnan(outside):
        raise ValueError(f'The light of a PSF must be finite, but the wings of '
                         f'{type(unit.model).__name__} do not fall steeply enough: pass one that '
                         'ends, such as an image.')
    if not inside > _LEAST_INTEGRAL * unit.peak * unit.fwhm**2:
        raise ValueError(f'A PSF must have a positive integral, but that of '
                         f'{type(unit.model).__name__} is {inside:.6g}: correct its parameters.')
    return inside / (1.0 - outside)


def _sum_on_grid(unit, step):
    """Return the integral within a square around the star, and the share outside of it."""
    half = round(_REACH * unit.fwhm / step)
    offsets = step * np.arange(-half, half + 1)
    with np.errstate(all='ignore'):
        values = np.nan_to_num(unit(*np.meshgrid(offsets, offsets)))
    outside = _share_outside(values, (1.0 / step, 1.0 / step), (half, half))
    return values.sum() * step**2, outside


def _spread_of_function(unit):
    """Return by how much the sum of the pixels depends on where in a pixel the star is."""
    if unit.fwhm > _SMOOTH:
        return 0.0
    pixels = np.arange(-np.ceil(_REACH / 2 * unit.fwhm), np.ceil(_REACH / 2 * unit.fwhm) + 1)
    phases = np.arange(_N_PHASES) / _N_PHASES
    x, y = (grid[np.newaxis] for grid in np.meshgrid(pixels, pixels))
    x_0, y_0 = (grid.reshape(-1, 1, 1) for grid in np.meshgrid(phases, phases))
    with np.errstate(all='ignore'):
        sums = np.nan_to_num(unit(x, y, x_0, y_0)).sum(axis=(1, 2))
    return float(np.ptp(sums) / sums.mean())


def _share_outside(image, steps, origin):
    """Return the share of the light beyond an image, if its wings go on as a power law.

    NaN where they do not fall steeply enough to hold a finite amount.
    """
    ny, nx = image.shape
    x, y = np.meshgrid((np.arange(nx) - origin[0]) / steps[0],
                       (np.arange(ny) - origin[1]) / steps[1])
    left, right, bottom, top = edges = (
        (origin[0] + 0.5) / steps[0], (nx - 0.5 - origin[0]) / steps[0],
        (origin[1] + 0.5) / steps[1], (ny - 0.5 - origin[1]) / steps[1])
    if min(edges) <= 0:
        return np.nan
    radius, level = _profile(np.hypot(x, y), image, min(edges))
    if not len(level) or level[-1] <= 0:
        return 0.0
    good = level > 0
    inside = image.sum() / np.prod(steps)
    if good.sum() < 3:
        return np.nan
    slope, constant = np.polyfit(np.log(radius[good]), np.log(level[good]), 1)
    if -slope < _LEAST_SLOPE:
        # What is so faint that only its noise shows does not matter.
        faint = level[good].max() * (2.0 * min(edges))**2 < 1e-3 * inside
        return 0.0 if faint else np.nan
    angle = np.arange(_N_ANGLES) * (2.0 * np.pi / _N_ANGLES)
    cosine, sine = np.cos(angle), np.sin(angle)
    with np.errstate(divide='ignore'):
        edge = np.minimum(np.where(cosine > 0, right, left) / np.abs(cosine),
                          np.where(sine > 0, top, bottom) / np.abs(sine))
    nearest = min(edges)
    level = np.exp(constant + slope * np.log(nearest))
    beyond = (level * nearest**2 * np.mean((edge / nearest)**(2.0 + slope))
              * 2.0 * np.pi / (-slope - 2.0))
    return float(beyond / (inside + beyond))


def _profile(radius, image, largest):
    """Return mean radii and levels of annuli in the outer part of an image."""
    edges = np.geomspace(_INNER * largest, largest, _N_ANNULI + 1)
    places = np.digitize(radius.ravel(), edges) - 1
    used = (places >= 0) & (places < _N_ANNULI)
    counts, radii, levels = (np.bincount(places[used], weights, _N_ANNULI) for weights in (
        np.ones(used.sum()), radius.ravel()[used], image.ravel()[used]))
    filled = counts > 0
    return radii[filled] / counts[filled], levels[filled] / counts[filled]


def _normalized_table(model):
    """Return a `TabulatedPRF` with the mean of its phases at 1."""
    names = model.param_names
    values = {name: getattr(model, name).quantity if getattr(model, name).unit is not None
              else getattr(model, name).value for name in names}
    return TabulatedPRF(
        model.data, model.spacing, origin=model.origin, fill_value=model.fill_value,
        normalize='mean', clip_negative=model.clip_negative, name=model.name,
        fixed=dict(model.fixed), bounds=dict(model.bounds), **values)


def _normalized_images(unit):
    """Return images (n, ny, nx) whose sums are the samples per pixel."""
    return unit.images * (np.prod(unit.steps) / unit.images.sum(axis=(1, 2), keepdims=True))


def _normalized_photutils(model, unit):
    """Return an ImagePSF or GriddedPSFModel with each image divided by its own sum."""
    images = _normalized_images(unit)
    names = ('flux', 'x_0', 'y_0')
    values = {name: getattr(model, name).quantity if getattr(model, name).unit is not None
              else getattr(model, name).value for name in names}
    if model.data.ndim == 2:
        scaled = type(model)(images[0], origin=model.origin, oversampling=unit.steps[::-1],
                             fill_value=model.fill_value, name=model.name, **values)
    else:
        meta = dict(model.meta) | {'grid_xypos': model.grid_xypos,
                                   'oversampling': unit.steps[::-1]}
        scaled = type(model)(NDData(images, meta=meta), fill_value=model.fill_value, **values)
        scaled.name = model.name
    for name in names:
        scaled.fixed[name], scaled.bounds[name] = model.fixed[name], model.bounds[name]
    return scaled


def _area(psf, oversampling):
    """Return the total flux of a star over its height at the peak, in pixels."""
    unit = UnitPSF(_as_model(psf, oversampling))
    return _measure(unit)['integral'] / unit.peak


def _times(values, factor):
    """Return numbers or quantities times a factor."""
    if hasattr(values, 'unit'):
        return values * factor
    values = as_float_array(values, 'What is converted') * factor
    return float(values) if values.ndim == 0 else values


def _percent(share):
    """Return a share in words."""
    return 'less than 0.01 %' if share < 1e-4 else f'{100 * share:.2g} %'
