# Licensed under a 3-clause BSD style license - see LICENSE
"""`extract_light_curve`: one PSF fit per cadence of a target pixel file."""

import warnings

import astropy.units as u
import numpy as np
from astropy.io.fits import HDUList
from astropy.utils.exceptions import AstropyUserWarning

from .. import __version__
from .._validation import DEEPEST_SIGMA, below_read_noise, require_finite
from ..flags import FitFlag
from ..prf import KeplerPRF, TessPRF
from ..scenes.stars import FAR_FROM_TARGET
from ..stamps import fit_stamps
from ..tpf import TargetPixels, read_tpf
from .doubts import warn_if_constant, warn_if_saturated
from .identity import identity_of
from .plan import plan_fit
from .scene import extract_scene, scene_of
from .series import FLUX_UNIT, LightCurve
from .start import LEAST_FRACTION, UNUSABLE, median_start

__all__ = ['extract_light_curve']


def extract_light_curve(tpf, psf='gaussian', *, scene=None, shape='shared', background=None,
                        position='free', covariance=None, n_threads=None,
                        progress_bar=False):
    """Fit a PSF, or a scene of stars, to every cadence of a target pixel file.

    The likelihood is that of the pixels: Poisson with the read noise of the
    file, in electrons with the background in. Every row of the result
    converged or says in ``flags`` what was the matter.

    Parameters
    ----------
    tpf : TargetPixels, str, path-like, HDUList or lightkurve TargetPixelFile
        The pixels, or whatever `read_tpf`, which has the option ``quality``,
        reads them from. With a scene also a list of these: neighbouring
        stamps, in which each pixel counts once.
    psf : {'gaussian', 'empirical', 'prf'} or `~astropy.modeling.Model`, optional
        ``'empirical'`` learns the PSF from the series, measures and smooths
        the motion, and then fits the flux alone (`Scene` tells how):
        usually the most precise for 16 cadences and more; compare their
        `~kpsf.lightcurve.point_to_point_scatter`. ``'gaussian'`` is
        `EllipticalGaussianPSF`; ``'prf'`` the instrument's own PRF,
        `KeplerPRF.from_tpf` or `TessPRF.from_tpf`, from the files that
        ``kpsf.conf.prf_path``, the cache or the archive has. A model
        needs a total flux and a position, named ``flux``, ``x_0``, ``y_0`` or
        by its attributes ``flux_name``, ``x_name``, ``y_name``. Parameters
        that are fixed on the model stay fixed, as the shapes of PRFs and of
        most photutils models are at first.
    scene : Scene or table of stars, optional
        Stars to fit jointly, see `Scene`, which also has the options of the
        fit, or a table of them, for ``Scene(table)``.
    shape : {'shared', 'free', 'fixed'}, optional
        All parameters but flux and position have one value for the series,
        fitted jointly with the rest (the default), or one per cadence, which
        is noisier, or the values of the model. The shape of a PRF is known:
        there is nothing to share unless its ``x_scale``, ``y_scale`` (focus)
        or ``theta`` (roll) were freed.
    background : {'known', 'fit'}, float or ndarray, optional
        ``'known'``: ``FLUX_BKG`` of the file, plus one constant for the
        series that is fitted, but held within 10 % of it (``meta`` tells
        ``background_offset``, and whether it is at that limit).
        ``'fit'``: one constant >= 0 per cadence, which costs 10 to 20 % in
        scatter. Numbers are known rates in e-/s per pixel of shape
        (n_cadences,), (ny, nx) or (n_cadences, ny, nx).
        Default: ``'known'`` if the file has a background and the shape is
        not free, else ``'fit'``.
    position : {'free', 'shared'}, CentroidPrior, tuple of float or ndarray, optional
        One position per cadence (the default), the same with a prior
        (``CentroidPrior.from_tpf``; without x and y it is centred on the star
        in the median image), one for the series, or known
        positions ``(x, y)`` in stamp pixels, numbers or arrays of shape
        (n_cadences,), such as the columns ``x``, ``y`` of another light curve.
    covariance : {'sandwich', 'fisher', 'observed'}, optional
        Where the errors come from, see `fit_stamps`. ``'sandwich'``, the
        default, is right for photon noise under a wrong PSF too. In scenes
        and with ``'empirical'`` the default is ``'fisher'``, and the scatter
        that neither explains is added (``meta['noise_excess']``, relative to
        the flux).
    n_threads : int, optional
        Threads, one by default; see `fit_stamps`.
    progress_bar : bool, optional
        Whether to show one on a terminal.

    Returns
    -------
    LightCurve or SceneLightCurves
        One row per cadence that the quality mask let pass; of a scene, one
        light curve per star, with the covariances of their fluxes. Its
        ``meta['psf_residual']`` tells how wrong the PSF is, under
        ``'empirical'`` its base: what it leaves of the mean image, as a share
        of the light.

    Raises
    ------
    ValueError
        If an option is unknown or of the wrong shape, ``'known'`` is asked
        of a file without background, ``shape='free'`` of a PRF of which
        nothing is free, no cadence has as many usable pixels as the fit has
        free parameters, or the PRF belongs to another detector than the
        pixels and was not made with ``force=True``.
    TypeError
        If the PSF is no model, numbers carry a unit, or there are several
        files without a scene.
    OSError
        If a PRF file cannot be found.

    See Also
    --------
    Scene : Blended stars, and what ``'empirical'`` learns.
    kpsf.signals.signal_transfer : Whether a star's own variation is kept.
    kpsf.prf.instrument_prf : The PRF model, to free its scales or choose its files.
    fit_stamps : The fit, with bounds, priors and starting values to choose.

    Notes
    -----
    Every cadence starts at the fit of the median image, so that all end in
    the same minimum where there is more than one. That fit has two starts,
    the moments of the image and the source that `locate_source` finds next to
    the target; the one that ends at the target, or at the better likelihood,
    is taken.

    Pixels that are NaN in a cadence are left out there, and so are those
    further below zero than 8 sigma of the read noise, which no Poisson
    likelihood has (there is a warning). ``n_pixels`` and ``flux_fraction``
    then differ from those of other cadences; a cadence with too few pixels
    is a row of NaN with a flag.

    A PRF is made for one place on the detector, with ``'prf'`` that of the
    target by the header, and keeps its shape while the star moves by a
    fraction of a pixel; over a whole pixel, it changes by less than 0.001 of
    its peak. ``meta`` tells the place (``prf_column``, ``prf_row``), the
    interpolation and the files.

    Cadences that end more than 1.5 pixels from where the header has the
    target probably follow another star and have a flag; there is a warning
    if most of them do.

    Examples
    --------
    >>> from kpsf import extract_light_curve, simulate_tpf
    >>> path = simulate_tpf('star.fits', n_cadences=50, drift=0.1, seed=1)
    >>> light_curve = extract_light_curve(path)
    >>> flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    >>> print(f'{flux.mean():.0f} +- {error.mean():.0f}, scatter {flux.std():.0f} e-/s')
    200001 +- 12, scatter 12 e-/s
    """
    scene = scene_of(psf, scene, shape, background, position)
    if scene is not None:
        return extract_scene(tpf, scene, covariance or 'fisher')
    covariance = covariance or 'sandwich'
    if isinstance(tpf, (list, tuple)) and not isinstance(tpf, HDUList):
        raise TypeError('extract_light_curve needs one target pixel file, or a scene, but found '
                        f'a list of {len(tpf)}: pass scene= to fit the stars of several files '
                        'jointly, or use extract_many for a light curve of each.')
    tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
    plan = plan_fit(tpf, psf, shape, background, position)
    electrons = tpf.electrons
    used = _used_pixels(tpf, electrons)
    known = _known_where_used(plan, used)
    _require_enough_pixels(tpf, plan, used)

    init = median_start(tpf, plan, electrons, used, known)
    fits = fit_stamps(electrons, plan.model, read_variance=tpf.read_variance, mask=~used,
                      init={**init, **plan.position}, fixed=plan.fixed, shared=plan.shared,
                      covariance=covariance, n_threads=n_threads, progress_bar=progress_bar,
                      **plan.priors(init, tpf.n_cadences),
                      **plan.background_arguments(known, used))
    meta = {**identity_of(tpf), **plan.labels, 'covariance': covariance,
            'kpsf_version': __version__, **_common_shape(plan, fits), **_offset(tpf, plan, fits)}
    columns = {**_source_columns(tpf, plan, fits, used, known), **_shape_columns(plan, fits),
               **_diagnostics(tpf, plan, fits, used)}
    light_curve = LightCurve(columns, time=tpf.time, meta=meta)
    light_curve._stamp_fits, light_curve._fitted_cadences = fits, tpf.cadenceno
    warn_if_saturated(tpf)
    _warn_if_useless(tpf, plan, light_curve)
    return light_curve


def _used_pixels(tpf, electrons):
    """Return the good pixels (n, ny, nx); leave out those far below zero, with a warning."""
    deep = tpf.good_pixels & below_read_noise(electrons, tpf.read_variance)
    if not deep.any():
        return tpf.good_pixels
    msg = (f'Electrons must be >= 0 up to read noise, but {deep.sum()} of '
           f'{tpf.good_pixels.sum()} pixels in {deep.any(axis=(1, 2)).sum()} of {len(deep)} '
           f'cadences of {tpf.target} are more than {DEEPEST_SIGMA:g} sigma below: they are left '
           'out; if a background was subtracted from all, add it back and use fit_stamps.')
    warnings.warn(msg, AstropyUserWarning)
    return tpf.good_pixels & ~deep


def _known_where_used(plan, used):
    """Return the known background in electrons, () or (n, ny, nx), zero where it is not used."""
    if np.ndim(plan.known) == 0:
        known = np.asarray(plan.known)
        require_finite(known, 'A known background', 'pass a rate')
        return known
    known = np.broadcast_to(plan.known, used.shape)
    require_finite(known[used], 'A known background', 'pass a rate for every pixel that has one')
    return np.where(used, known, 0.0)


def _require_enough_pixels(tpf, plan, used):
    """Raise if no cadence can be fitted."""
    n_pixels = used.sum(axis=(1, 2)).max()
    if n_pixels < max(plan.n_own, 1):
        msg = (f'A fit needs at least as many usable pixels as free parameters, {plan.n_own}, but '
               f'no cadence of {tpf.target} has more than {n_pixels} of {used[0].size}: pass '
               'other pixels, or hold shape or position.')
        raise ValueError(msg)


def _source_columns(tpf, plan, fits, used, known):
    """Return the columns about star and background."""
    column = {name: (fits.params[:, j], fits.errors[:, j])
              for j, name in enumerate(fits.param_names)}
    flux, flux_err = (tpf.noise.to_rate(values) * FLUX_UNIT for values in column[plan.flux])
    (x, x_err), (y, y_err) = (column[name] for name in (plan.x, plan.y))
    offset, offset_err = column.get('background', np.zeros((2, len(fits))))
    with np.errstate(invalid='ignore'):
        mean = np.broadcast_to(known, used.shape).sum(axis=(1, 2), where=used) / used.sum(
            axis=(1, 2))
    fitted = np.isfinite(fits.deviance)
    background, background_err = (
        tpf.noise.to_rate(np.where(fitted, values, np.nan)) * FLUX_UNIT
        for values in (mean + offset, offset_err))
    return {'flux': flux, 'flux_err': flux_err, 'x': x * u.pix, 'y': y * u.pix,
            'x_err': x_err * u.pix, 'y_err': y_err * u.pix,
            'column': (tpf.column + x) * u.pix, 'row': (tpf.row + y) * u.pix,
            'background': background, 'background_err': background_err}


def _own_shape_names(plan):
    """Return the parameters of the shape that each cadence has of its own."""
    return [name for name in plan.shape_names
            if name not in (*plan.fixed, *plan.shared) and not plan.model.fixed[name]]


def _shape_columns(plan, fits):
    """Return the columns of the shape, if each cadence has its own."""
    columns = {}
    for name in _own_shape_names(plan):
        j = fits.param_names.index(name)
        columns |= {f'psf_{name}': fits.params[:, j], f'psf_{name}_err': fits.errors[:, j]}
    return columns


def _common_shape(plan, fits):
    """Return the parameters of the shape that all cadences have in common, by name."""
    row = np.argmax(np.isfinite(fits.deviance))
    places = {name: fits.param_names.index(name) for name in plan.shape_names
              if name not in _own_shape_names(plan)}
    if not places:
        return {}
    # Ten digits are more than is known, and a FITS header holds them.
    return {f'psf_parameter{suffix}': {name: float(f'{values[row, j]:.10g}')
                                       for name, j in places.items()
                                       if np.isfinite(values[row, j])}
            for suffix, values in (('s', fits.params), ('_errors', fits.errors))}


def _offset(tpf, plan, fits):
    """Return the constant of the series in e-/s, its error, and whether it is at its limit."""
    if plan.labels['background'] != 'known':
        return {}
    row, j = np.argmax(np.isfinite(fits.deviance)), fits.param_names.index('background')
    offset, error = tpf.noise.to_rate(fits.params[row, j]), tpf.noise.to_rate(fits.errors[row, j])
    # Ten digits are more than is known, and a FITS header holds them.
    return {'background_offset': float(f'{offset:.10g}'),
            'background_offset_err': float(f'{error:.10g}'),
            'background_offset_at_limit': bool(error == 0)}


def _diagnostics(tpf, plan, fits, used):
    """Return the columns that tell how the fits went, and those of the file."""
    x, y = (fits.params[:, fits.param_names.index(name)] for name in (plan.x, plan.y))
    far = _distance_from_target(tpf, plan, x, y) > FAR_FROM_TARGET
    flags = fits.flags | np.where(far, int(FitFlag.FAR_FROM_TARGET), 0)
    flags |= np.where(fits.flux_fraction < LEAST_FRACTION, int(FitFlag.LITTLE_FLUX_INSIDE), 0)
    return {'cstat': fits.deviance, 'gof_z': fits.gof_z, 'flux_fraction': fits.flux_fraction,
            'n_pixels': used.sum(axis=(1, 2)), 'converged': fits.converged,
            'cadenceno': tpf.cadenceno, 'quality': tpf.quality, 'flags': flags}


def _distance_from_target(tpf, plan, x, y):
    """Return how many pixels fitted positions (n,) are from the target's; 0 where unknown."""
    if plan.position or tpf.meta.get('target_position_from') == 'centre of the stamp':
        return np.zeros(len(x))
    expected = tpf.expected_positions()
    return np.hypot(x - expected[0], y - expected[1])


def _remedy(tpf, plan):
    """Say how to fit neighbours too, and how to hold what the pixels do not tell."""
    x, y = tpf.target_position
    psf = 'EllipticalGaussianPSF.from_stddev(1, 0, 0, 0.8, 0.8, 0)'
    if plan.is_tabulated:
        psf = "'prf'" if isinstance(plan.model, (KeplerPRF, TessPRF)) else 'psf'
    background = 'tpf.background' if tpf.has_background else "'fit'"
    return ('if stars blend here, fit them jointly, with scene=kpsf.scenes.find_stars(tpf) or '
            '--stars find; else hold what is known, in Python, as in extract_light_curve(tpf, '
            f"{psf}, shape='fixed', position=({x:.1f}, {y:.1f}), background={background})")


def _warn_if_useless(tpf, plan, light_curve):
    """Warn if no cadence was fitted well, or the fits follow another star."""
    usable = light_curve[(light_curve['flags'] & UNUSABLE) == 0]
    if not len(usable):
        msg = (f'The pixels should be those of one star of this PSF, but none of '
               f'{len(light_curve)} cadences of {tpf.target} has a usable fit: '
               f'{_remedy(tpf, plan)}.')
        warnings.warn(msg, AstropyUserWarning)
        return
    warn_if_constant(usable['flux'].value, tpf.target)
    if np.mean(usable['flags'] & FitFlag.FAR_FROM_TARGET > 0) > 0.5:
        x, y = (np.median(usable[name].value) for name in 'xy')
        msg = (f'The fits should end at {tpf.target}, but ({x:.1f}, {y:.1f}) is more than '
               f'{FAR_FROM_TARGET} pixels from where the header has it and probably another '
               f'star: {_remedy(tpf, plan)}.')
        warnings.warn(msg, AstropyUserWarning)
