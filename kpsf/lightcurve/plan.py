# Licensed under a 3-clause BSD style license - see LICENSE
"""The options of `extract_light_curve`, checked once and turned into what the fit takes."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.modeling import Model
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import (
    as_float_array,
    no_model,
    require_choice,
    require_finite,
    require_not_negative,
)
from ..models import EllipticalGaussianPSF, TabulatedPRF, position_names, total_flux_name
from ..normalization import warn_unless_total_flux
from ..prf import KeplerPRF, TessPRF, instrument_prf, require_same_detector
from ..prf.calibration import detector_name
from ..priors import CentroidPrior

__all__ = ['FitPlan', 'plan_fit']

# How far from FLUX_BKG the constant of the series may end, as a share of it. The pipelines know
# the background much better than to ten per cent; what a Gaussian would put there beyond that is
# the wings of the star, and the light curve would scatter by a fifth more.
MAX_OFFSET = 0.1
# Of the file's background: who gives less has forgotten that it is in the pixels.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class FitPlan:
    """What is fitted to each cadence and what is known.

    Attributes
    ----------
    model : `~astropy.modeling.Model`
        The PSF.
    flux, x, y : str
        Its parameters of that meaning.
    shape_names : tuple of str
        Its other parameters.
    fixed, shared : tuple of str
        Parameters that are held, and that have one value for the series.
    position : dict
        Values of held positions by name, () or (n,).
    centroid_prior : CentroidPrior or None
        On the positions of all cadences.
    known : float or ndarray, broadcastable to (n, ny, nx)
        Known background in electrons per pixel.
    fits_background : bool
        Whether a constant is fitted besides.
    labels : dict
        The options in words, and what the PRF was made from.
    """

    model: Model
    flux: str
    x: str
    y: str
    shape_names: tuple
    fixed: tuple
    shared: tuple
    position: dict
    centroid_prior: CentroidPrior | None
    known: np.ndarray
    fits_background: bool
    labels: dict

    @property
    def free_names(self):
        """Return the names of all free parameters, the background's included."""
        names = (*self.model.param_names, *(['background'] if self.fits_background else []))
        return [name for name in names
                if name not in self.fixed and not self.model.fixed.get(name, False)]

    @property
    def n_own(self):
        """Return the number of free parameters that each cadence has of its own."""
        return sum(name not in self.shared for name in self.free_names)

    @property
    def is_tabulated(self):
        """Return whether the PSF is an image, whose shape is known."""
        return isinstance(self.model, TabulatedPRF)

    def priors(self, start, n_cadences):
        """Return the arguments of `fit_stamps` about what is known of positions.

        Parameters
        ----------
        start : dict
            Starting values of the series by name.
        n_cadences : int
        """
        if self.centroid_prior is None:
            return {}
        own = self.centroid_prior
        x, y = (start.get(name, np.nan) if centre is None else centre
                for name, centre in ((self.x, own.x), (self.y, own.y)))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError('A CentroidPrior without x and y is centred on the star in the '
                             'median image, but there it cannot be fitted: pass x and y.')
        # One centre stands for all cadences.
        x, y = (np.full(n_cadences, centre) if np.ndim(centre) == 0 else centre
                for centre in (x, y))
        prior = CentroidPrior(own.stddev, x, y)
        return {'priors': prior.as_priors(self.model, np.zeros(n_cadences), np.zeros(n_cadences))}

    def background_arguments(self, known, used):
        """Return the arguments of `fit_stamps` about the background, given its known part."""
        if not self.fits_background:
            return {'background': known}
        arguments = {'background': 'fit', 'known_background': known}
        if known.ndim and used.any():
            lowest, typical = known[used].min(), np.median(known[used])
            limit = MAX_OFFSET * max(typical, 0.0)
            if limit > 0:
                arguments['bounds'] = {'background': (-min(limit, max(lowest, 0.0)), limit)}
        return arguments


def plan_fit(tpf, psf, shape, background, position):
    """Return the `FitPlan` for the options of `extract_light_curve`."""
    require_choice(shape, ('shared', 'free', 'fixed'), 'shape')
    model = _psf_model(psf, shape, tpf)
    flux, x, y = _source_names(model)
    shape_names = tuple(name for name in model.param_names if name not in (flux, x, y))
    _check_shape(model, shape, shape_names)
    prior = position if isinstance(position, CentroidPrior) else None
    position, position_label = ({}, 'prior') if prior is not None else _known_position(
        position, (x, y), tpf.n_cadences)
    known, fits_background, background_label = _known_background(tpf, background, shape)

    fixed = (*(shape_names if shape == 'fixed' else ()), *position)
    shared = (*(shape_names if shape == 'shared' else ()),
              *((x, y) if position_label == 'shared' else ()))
    shared = tuple(name for name in shared if not model.fixed[name])
    if background_label == 'known':
        shared = (*shared, 'background')
    is_held = all(model.fixed[name] for name in shape_names)
    labels = {'psf': type(model).__name__, 'shape': 'fixed' if is_held else shape,
              'background': background_label, 'position': position_label, **_prf_labels(model)}
    return FitPlan(model, flux, x, y, shape_names, fixed, shared, position, prior, known,
                   fits_background, labels)


def _check_shape(model, shape, shape_names):
    """Raise or warn if the shape should be fitted but the model holds it.

    That of a PRF image is known, so that nothing is amiss if it is held for
    the series. The models of photutils hold theirs too, but know it not.
    """
    if shape == 'fixed' or not shape_names or not all(model.fixed[name] for name in shape_names):
        return
    held = f'{", ".join(shape_names)} of {type(model).__name__} are fixed'
    if not isinstance(model, TabulatedPRF):
        msg = (f'shape={shape!r} needs a PSF with a free shape, but {held} and stay as they are: '
               f"set model.{shape_names[0]}.fixed = False, or pass shape='fixed'.")
        warnings.warn(msg, AstropyUserWarning)
    elif shape == 'free':
        msg = (f"shape='free' needs a PRF that may change from cadence to cadence, but {held}: "
               "pass shape='shared', or a model such as KeplerPRF.from_tpf(tpf) of which "
               f'model.{shape_names[0]}.fixed = False.')
        raise ValueError(msg)


def _psf_model(psf, shape, tpf):
    """Return the PSF as a model, that of the instrument for the detector of the pixels."""
    if isinstance(psf, str) and psf == 'prf':
        return instrument_prf(tpf)
    if isinstance(psf, Model):
        if isinstance(psf, (KeplerPRF, TessPRF)):
            require_same_detector(psf, tpf)
        warn_unless_total_flux(psf)
        return psf
    if not isinstance(psf, str) or psf != 'gaussian':
        remedy = 'for example EllipticalGaussianPSF() or KeplerPRF.from_tpf(tpf, path)'
        msg = ("psf must be 'gaussian', 'empirical', 'prf' or an instance of an astropy model, "
               f'but {no_model(psf, remedy)}')
        raise ValueError(msg) if isinstance(psf, str) else TypeError(msg)
    if shape == 'fixed':
        raise ValueError("shape='fixed' needs a PSF that has a shape, but psf='gaussian' has none "
                         "of its own: pass psf='prf' or, for example, "
                         'EllipticalGaussianPSF.from_stddev(1, 0, 0, 0.7, 0.6).')
    return EllipticalGaussianPSF()


def _prf_labels(model):
    """Return what ``meta`` tells about a PRF image: where it is from and how it was made."""
    if not isinstance(model, TabulatedPRF):
        return {}
    labels = {'prf_normalize': model.normalize or 'none',
              'prf_clip_negative': model.clip_negative}
    if isinstance(model, (KeplerPRF, TessPRF)):
        # Ten digits are more than is known, and a FITS header holds them.
        labels |= {'prf_detector': detector_name(model.detector),
                   'prf_column': float(f'{model.column:.10g}'),
                   'prf_row': float(f'{model.row:.10g}'), 'prf_interpolate': model.interpolate,
                   'prf_files': _files_in_use(model), 'prf_forced': model.is_forced}
    return labels


def _files_in_use(prf):
    """Return the names of the calibration files of which a PRF is mixed, in one line."""
    names, calibration = prf.calibration.names, prf.calibration
    if len(names) > 1:
        weights = calibration.weights(prf.column, prf.row, prf.interpolate)
        names = [name for name, weight in zip(names, weights, strict=True) if weight > 0]
    return ', '.join(Path(name).name for name in names)


def _source_names(model):
    """Return the names of the parameters for the total flux, x and y."""
    names = total_flux_name(model), *position_names(model)
    if None in names:
        raise ValueError('psf must have a total flux and a position, named flux, x_0, y_0 or by '
                         'its attributes flux_name, x_name, y_name, but the parameters of '
                         f'{type(model).__name__} are {", ".join(model.param_names)}: pass, for '
                         'example, EllipticalGaussianPSF() or a model of photutils.psf.')
    return names


def _known_position(position, names, n_cadences):
    """Return held positions by parameter name, and what the option is called."""
    if isinstance(position, str) and position in ('free', 'shared'):
        return {}, position
    try:
        x, y = position if not isinstance(position, str) else ()
    except (TypeError, ValueError):
        raise ValueError("position must be 'free', 'shared', a CentroidPrior or a pair (x, y), "
                         f'but it is {position!r}: pass one of these.') from None
    held = {}
    for name, label, values in zip(names, 'xy', (x, y), strict=True):
        if getattr(values, 'unit', None) == u.pix:
            # A column of another light curve.
            values = values.value
        values = _plain_numbers(values, f'The known position {label}', 'stamp pixels')
        if values.shape not in ((), (n_cadences,)):
            raise ValueError(f'The known position {label} must be a number or one per cadence, '
                             f'({n_cadences},), but its shape is {values.shape}: reshape it.')
        require_finite(values, f'The known position {label}',
                       'fill the gaps, for example with the median')
        held[name] = values
    return held, 'known'


def _known_background(tpf, background, shape):
    """Return the known background in electrons, whether a constant is fitted, and a label."""
    if background is None:
        background = 'known' if tpf.has_background and shape != 'free' else 'fit'
    if isinstance(background, str):
        require_choice(background, ('known', 'fit'), 'background')
        if background == 'known' and not tpf.has_background:
            raise ValueError("background='known' needs the column FLUX_BKG, but the file of "
                             f"{tpf.target} has none with values: pass background='fit', or "
                             'numbers in e-/s per pixel.')
        known = tpf.background_electrons if background == 'known' else 0.0
        return known, True, background
    values = _plain_numbers(background, 'A known background', 'e-/s per pixel')
    shape = (tpf.n_cadences, *tpf.shape)
    if values.shape not in ((), shape[:1], shape[1:], shape):
        raise ValueError('A known background must be a number or have the shape '
                         f'{shape[:1]}, {shape[1:]} or {shape}, but its shape is {values.shape}: '
                         'reshape it.')
    if values.shape == shape[:1]:
        values = values[:, np.newaxis, np.newaxis]
    require_not_negative(values[np.isfinite(values)], 'A known background',
                         'pass the rate that is in the pixels, not what is left of it')
    _warn_if_forgotten(tpf, values)
    return tpf.noise.to_electrons(values), False, 'given'


def _warn_if_forgotten(tpf, rates):
    """Warn of a known background (e-/s) far below that of the file, which the pixels have."""
    if not (tpf.has_background and np.isfinite(rates).any()):
        return
    own, given = np.nanmedian(tpf.background), np.nanmedian(rates)
    if given < LEAST_SHARE * own:
        msg = (f'A known background should be all that is in the pixels, but the file of '
               f'{tpf.target} has {own:.4g} e-/s of it, which read_tpf adds to what is fitted, '
               f"and {given:.4g} is given: pass background='known', or the sum of both.")
        warnings.warn(msg, AstropyUserWarning)


def _plain_numbers(values, name, unit):
    """Return numbers without a unit as a float array."""
    if hasattr(values, 'unit'):
        raise TypeError(f'{name} must be plain numbers in {unit}, but it has the unit '
                        f'{values.unit}: convert it and pass the values.')
    return as_float_array(values, name)
