# Licensed under a 3-clause BSD style license - see LICENSE
"""`signal_transfer`: how much of a star's variation a light curve keeps."""

import sys
import warnings
from io import StringIO

import astropy.units as u
import numpy as np
from astropy.table import QTable
from astropy.utils.console import ProgressBar
from astropy.utils.exceptions import AstropyUserWarning

from .. import __version__
from ..lightcurve import LightCurve, extract_light_curve
from ..tpf import TargetPixels, read_tpf
from .inject import inject_signal
from .light import good_cadences, pick_star, star_light
from .signal import Signal, default_signals
from .times import cadence_length, days_after_first

__all__ = ['LARGEST_LOSS', 'N_SIGMA', 'TOLERANCE', 'signal_transfer']

# How far from 1 a transfer may be: this, or as many standard errors of the depth.
TOLERANCE = 0.02
N_SIGMA = 2.0
# Share of a signal that may fall on cadences that it made worthless.
LARGEST_LOSS = 0.1
# Fewest good cadences; a depth, a level and a scatter are measured in them.
LEAST_CADENCES = 5


def signal_transfer(tpf, signals=None, *, star=None, light=None, seed=None, progress_bar=False,
                    **options):
    """Put signals into the pixels of a star, and see how much of them is found.

    Whatever a light curve learns from the data or smooths may take a star's
    variation for something else. Here the star's own light is scaled in the
    pixels, one signal at a time, and everything is done once more.

    Parameters
    ----------
    tpf : TargetPixels, str, path-like, HDUList or lightkurve TargetPixelFile
        The pixels, or whatever `~kpsf.read_tpf` reads them from.
    signals : Signal or sequence of Signal, optional
        What to put in. Default: `default_signals`, 20 to 40 dips and
        sinusoids of an hour to ten days and 0.01 to 10 per cent, as far as
        the series is long enough.
    star : int or str, optional
        Which star of a scene, as its light curves are indexed; the first by
        default. Not for the light curve of one star.
    light : LightCurve or SceneLightCurves, optional
        Another fit of the same pixels that tells which light is the star's,
        such as that of a scene with a PSF that is known. Default: the fit
        that is checked, which cannot know where it is wrong about that.
    seed : int or `~numpy.random.Generator`, optional
        For the photon noise of light that is added. By default none is
        added, so that both light curves have the same noise, and what they
        differ by is the signal.
    progress_bar : bool, optional
        Whether to show one on a terminal.
    **options : dict, optional
        For `~kpsf.extract_light_curve`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per signal: ``kind``, ``depth``, ``length`` (duration or
        period), ``time`` (middle or zero, after the first cadence);
        ``transfer``, the recovered depth over the one put in, and its error
        ``transfer_err``; ``sigma``, the error of that depth in a light curve
        of this noise (by ``flux_err``); ``lost``, the share of the signal in
        cadences that it made flagged; and ``passed``: whether the transfer is
        within 2 per cent of 1, or the depth within 2 sigma, and not more than
        a tenth is lost. ``meta`` has the target, of a scene the name of the
        ``star``, the options, the number of cadences and, as ``left_out``,
        what the series cannot tell.

    Raises
    ------
    ValueError
        If the series cannot tell any signal or one of those given, fewer
        than five cadences are good, ``star`` is given for the light curve
        of one star, or ``light`` is of other cadences; and what
        `~kpsf.extract_light_curve` raises.
    TypeError
        If ``signals`` are none.
    KeyError, IndexError
        If there is no such star.

    See Also
    --------
    kpsf.plotting.plot_signal_transfer : The result as a figure.

    Notes
    -----
    The depth is fitted by weighted least squares to the difference of the
    two light curves, beside a constant, and is relative to the flux of the
    light curve. Light of other stars in that flux dilutes a signal, and the
    transfer is as much below 1.

    What is scaled is the mean image without background, which follows the
    motion of the image and the star's own variation, not the model of the
    PSF, which in real pixels is not exact. A second peak of a fifth of the
    star's or more in the image is taken for another star, as are the others
    of a scene, and each pixel is split between them as their PSFs are. With
    the PSF of the scene itself, a pair that this PSF splits wrongly may pass:
    the transfer tells what becomes of the light that the fit takes for the
    star's. ``light`` asks about the light that another fit does.

    The pixels keep the noise that they had: slightly too much in a dip,
    and, without ``seed``, slightly too little where light is added: for a
    signal of 10 per cent, 5 per cent.

    Examples
    --------
    >>> from kpsf import signal_transfer, simulate_tpf
    >>> from kpsf.signals import Signal
    >>> path = simulate_tpf('star.fits', n_cadences=100, drift=0.1, seed=1)
    >>> table = signal_transfer(path, Signal('dip', 0.01, 0.5))
    >>> print(f'{table["transfer"][0]:.2f}', table['passed'][0])
    1.00 True
    """
    tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
    signals, left_out = _signals(tpf, signals)
    curves = extract_light_curve(tpf, **options)
    before = pick_star(curves, star)
    good = good_cadences(before)
    _require_good(tpf, good)
    shapes = [signal.relative_flux(tpf.time) - 1.0 for signal in signals]
    _require_traces(signals, shapes, good)
    if light is not None:
        _require_same_cadences(tpf, pick_star(light, star))
    light = star_light(tpf, curves if light is None else light, star)
    rows = []
    rng = None if seed is None else np.random.default_rng(seed)
    with ProgressBar(len(signals), file=sys.stderr if progress_bar else StringIO()) as bar:
        for signal, shape in zip(signals, shapes):
            pixels = inject_signal(tpf, 1.0 + shape, light.pixels, seed=rng)
            after = _extract_again(pixels, star, options)
            rows.append(_measure(signal, shape * light.flux, before, after, good))
            bar.update()
    name = None if isinstance(curves, LightCurve) else before.meta.get('star', star)
    meta = {'target': tpf.target, 'mission': tpf.mission, 'n_cadences': tpf.n_cadences,
            'n_good': int(good.sum()), 'left_out': list(left_out), 'kpsf_version': __version__,
            **({} if name is None else {'star': name}),
            'options': {name: _in_words(value) for name, value in options.items()}}
    return _table(signals, rows, tpf, meta)


def _signals(tpf, signals):
    """Return the signals as a tuple, and what was left out."""
    if signals is None:
        signals = default_signals(tpf)
        if not signals:
            days = days_after_first(tpf.time)
            raise ValueError(f'The default signals need a series of at least 6 cadences that '
                             f'lasts 3 hours, but that of {tpf.target} has {tpf.n_cadences} '
                             f'cadences over {24 * (days[-1] + cadence_length(days)):.2g} h: pass '
                             'signals=.')
        return signals, signals.left_out
    listed = (signals,) if isinstance(signals, Signal) else tuple(signals)
    wrong = [signal for signal in listed if not isinstance(signal, Signal)]
    if wrong:
        raise TypeError(f'signals must be Signal objects, but one is {wrong[0]!r}: pass, for '
                        "example, Signal('dip', 0.01, 0.25).")
    if not listed:
        raise ValueError('At least one signal is needed, but signals is empty: leave it out for '
                         'the default ones.')
    return listed, getattr(signals, 'left_out', ())


def _require_good(tpf, good):
    """Raise unless the light curve has good cadences."""
    if good.sum() < LEAST_CADENCES:
        raise ValueError(f'Signals need at least {LEAST_CADENCES} cadences with a good fit, but '
                         f'{good.sum()} of {len(good)} of {tpf.target} have no flags: if stars '
                         'blend here, fit them jointly, with scene= or --stars find; else see '
                         'which flags the light curve has.')


def _require_traces(signals, shapes, good):
    """Raise unless every signal changes some good cadences and not all alike."""
    for signal, shape in zip(signals, shapes):
        if np.ptp(shape[good]) < 0.1 * signal.depth:
            raise ValueError(f'A signal must change the flux between good cadences, but a '
                             f'{signal} at {signal.time} does not: choose another time or '
                             'length.')


def _require_same_cadences(tpf, curve):
    """Raise unless a light curve has the cadences of the pixels."""
    if not np.array_equal(curve['cadenceno'], tpf.cadenceno):
        raise ValueError(f'light must be a fit of the same pixels, {tpf.n_cadences} cadences of '
                         f'{tpf.target}, but it has {len(curve)} cadences of '
                         f'{curve.meta.get("target")}: pass what extract_light_curve made of '
                         'these pixels.')


def _extract_again(pixels, star, options):
    """Return the light curve of changed pixels; its warnings have been given before."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        return pick_star(extract_light_curve(pixels, **options), star)


def _measure(signal, change, before, after, good):
    """Return transfer, its error, the error of the depth, the share lost, and the verdict."""
    kept = good & good_cadences(after)
    lost = 1.0 - np.sum(change[kept]**2) / np.sum(change[good]**2)
    if kept.sum() < LEAST_CADENCES or np.ptp(change[kept]) == 0:
        return np.nan, np.nan, np.nan, lost, False
    error = before['flux_err'].value[kept]
    difference = (after['flux'].value - before['flux'].value)[kept]
    # Per error, so that the covariance is that of the light curve's own noise.
    design = np.stack([change[kept], np.full(kept.sum(), change[kept].std())], axis=1)
    design /= error[:, np.newaxis]
    covariance = np.linalg.inv(design.T @ design)
    coefficients = covariance @ design.T @ (difference / error)
    residual = difference / error - design @ coefficients
    spread = np.sqrt(np.sum(residual**2) / (kept.sum() - 2))
    transfer, relative_sigma = coefficients[0], np.sqrt(covariance[0, 0])
    is_near = abs(transfer - 1.0) < max(TOLERANCE, N_SIGMA * relative_sigma)
    return (transfer, spread * relative_sigma, signal.depth * relative_sigma, lost,
            bool(is_near and lost <= LARGEST_LOSS))


def _table(signals, rows, tpf, meta):
    """Return the result as a table."""
    days = days_after_first(tpf.time)
    table = QTable(meta=meta)
    table['kind'] = [signal.kind for signal in signals]
    table['depth'] = [signal.depth for signal in signals]
    table['length'] = [signal.length for signal in signals] * u.day
    table['time'] = [signal._start(tpf.time, days) for signal in signals] * u.day
    for name, values in zip(('transfer', 'transfer_err', 'sigma', 'lost', 'passed'), zip(*rows)):
        table[name] = values
    return table


def _in_words(value):
    """Return the value of an option, in one line."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    return f'array of shape {value.shape}' if isinstance(value, np.ndarray) else (
        f'{type(value).__name__}')
