# Licensed under a 3-clause BSD style license - see LICENSE
"""`Signal`, what a star may do, and `default_signals`, those that a series can tell."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.time import Time

from .._validation import require_choice, require_number
from .times import cadence_length, days_after_first, length_in_words

__all__ = ['Signal', 'SignalGrid', 'default_signals']

KINDS = ('dip', 'sinusoid')
DEPTHS = (1e-4, 1e-3, 1e-2, 1e-1)
LENGTHS = tuple(hours / 24.0 for hours in (1.0, 6.0, 24.0, 72.0, 240.0))
# Share of a dip's duration for which it has its full depth.
FLAT_PART = 0.6
# Points in a cadence over which a signal is averaged, as an exposure does.
N_POINTS = 11
# Shortest dip and period in cadences; longest ones as shares of the series. What is longer cannot
# be told from a trend, so that its depth would be a matter of the baseline.
SHORTEST = {'dip': 2.0, 'sinusoid': 4.0}
LONGEST = {'dip': 1 / 3, 'sinusoid': 1 / 1.5}
LIMITS_IN_WORDS = {'dip': ('two cadences', 'a third of the series'),
                   'sinusoid': ('four cadences', 'two thirds of the series')}
# Cadences of other instruments are of 30 minutes to the rounding of their times.
ROUNDING = 1e-3
# Share of the cadences of the best place for a dip that another place may have.
AS_GOOD = 0.98


@dataclass(frozen=True)
class Signal:
    """A variation of a star's brightness, relative to what it is without.

    Parameters
    ----------
    kind : {'dip', 'sinusoid'}
        A dip is a trapezoid that is flat for 60 % of its duration.
    depth : float
        Depth of the dip or amplitude of the sinusoid, as a fraction of the
        flux: above 0, a dip at most 1, a sinusoid below 1.
    length : float or `~astropy.units.Quantity`
        Duration of the dip from first to last contact, or period of the
        sinusoid, in days.
    time : float, `~astropy.units.Quantity` or `~astropy.time.Time`, optional
        Middle of the dip, or a time at which the sinusoid rises through 0,
        in days after the first cadence or as a time. Default: the middle of
        the series for dips, the first cadence for sinusoids.

    Raises
    ------
    ValueError
        If the kind is unknown, the depth or the length out of range, or the
        time not finite.
    TypeError
        If a number is none, or has a unit that is not a time.

    Examples
    --------
    >>> import astropy.units as u
    >>> from kpsf.signals import Signal
    >>> signal = Signal('dip', 0.01, 6 * u.h)
    >>> print(f'{signal.length:.2f} d')
    0.25 d
    """

    kind: str
    depth: float
    length: float
    time: float | Time | None = None

    def __post_init__(self):
        require_choice(self.kind, KINDS, 'kind')
        depth = require_number(self.depth, 'depth', 'pass a fraction of the flux', positive=True)
        if depth > 1 or (depth == 1 and self.kind == 'sinusoid'):
            raise ValueError(f'depth must be {"below" if self.kind == "sinusoid" else "at most"} '
                             f'1, but it is {depth:g}: pass a fraction of the flux, not per cent.')
        length = require_number(_days(self.length, 'length'), 'length', 'pass days', positive=True)
        object.__setattr__(self, 'depth', depth)
        object.__setattr__(self, 'length', length)
        if self.time is not None and not isinstance(self.time, Time):
            time = float(_days(self.time, 'time'))
            if not np.isfinite(time):
                raise ValueError(f'time must be finite, but it is {time}: pass days after the '
                                 'first cadence.')
            object.__setattr__(self, 'time', time)

    def __str__(self):
        """Name the signal in a few words."""
        return f'{self.kind} of {100 * self.depth:g} % and {length_in_words(self.length)}'

    def relative_flux(self, time):
        """Tell the flux at some times, relative to that without the signal.

        Parameters
        ----------
        time : `~astropy.time.Time`, shape (n_cadences,)
            Times in order. The signal is averaged over each cadence, whose
            length is the median of their differences.

        Returns
        -------
        ndarray, shape (n_cadences,)
            1 where nothing happens.
        """
        days = days_after_first(time)
        cadence = cadence_length(days)
        points = days[:, np.newaxis] + cadence * ((np.arange(N_POINTS) + 0.5) / N_POINTS - 0.5)
        since = (points - self._start(time, days)) / self.length
        if self.kind == 'sinusoid':
            return 1.0 + self.depth * np.sin(2.0 * np.pi * since).mean(axis=1)
        inside = np.clip((1.0 - 2.0 * np.abs(since)) / (1.0 - FLAT_PART), 0.0, 1.0)
        return 1.0 - self.depth * inside.mean(axis=1)

    def _start(self, time, days):
        """Return the time of the signal in days after the first cadence."""
        if isinstance(self.time, Time):
            return float((self.time - time[0]).to_value(u.day))
        if self.time is None:
            return 0.5 * days[-1] if self.kind == 'dip' else 0.0
        return self.time


class SignalGrid(tuple):
    """Signals of many lengths and depths, a tuple of `Signal`.

    Attributes
    ----------
    left_out : tuple of str
        Sentences about the lengths that the series cannot tell.
    """

    left_out = ()


def default_signals(tpf, *, depths=DEPTHS, lengths=LENGTHS):
    """Choose dips and sinusoids that a series of cadences can tell.

    Dips last at least two cadences and at most a third of the series;
    sinusoids have a period of at least four cadences and at most two thirds
    of the series. Each dip is where no cadence is missing, near the middle.

    Parameters
    ----------
    tpf : TargetPixels
        The pixels whose times count.
    depths : sequence of float, optional
        Fractions of the flux. Default: 0.01, 0.1, 1 and 10 per cent.
    lengths : sequence of float or `~astropy.units.Quantity`, optional
        Durations and periods in days. Default: 1 and 6 hours, 1, 3 and 10
        days.

    Returns
    -------
    SignalGrid
        The signals, a tuple; its ``left_out`` says which lengths are not
        among them, and why.

    Raises
    ------
    ValueError
        If a depth is out of range.
    TypeError
        If a length has a unit that is not a time.

    Examples
    --------
    >>> from kpsf import read_tpf, simulate_tpf
    >>> from kpsf.signals import default_signals
    >>> tpf = read_tpf(simulate_tpf('star.fits', n_cadences=150, seed=1))
    >>> signals = default_signals(tpf)
    >>> print(f'{len(signals)} signals, the first is a {signals[0]}')
    20 signals, the first is a dip of 0.01 % and 1 h
    >>> print(signals.left_out[0])
    dips of 3 d: longer than a third of the series (1.02 d)
    """
    days = days_after_first(tpf.time)
    cadence = cadence_length(days)
    signals, left_out = [], []
    for kind in KINDS:
        limits = SHORTEST[kind] * cadence, LONGEST[kind] * (days[-1] + cadence)
        for length in (float(_days(length, 'lengths')) for length in lengths):
            words = f'{kind}s of {length_in_words(length)}'
            shortest, longest = LIMITS_IN_WORDS[kind]
            if length < limits[0] * (1.0 - ROUNDING):
                left_out.append(f'{words}: shorter than {shortest} '
                                f'({length_in_words(limits[0])})')
            elif length > limits[1] * (1.0 + ROUNDING):
                left_out.append(f'{words}: longer than {longest} ({length_in_words(limits[1])})')
            else:
                time = _best_middle(days, length) if kind == 'dip' else 0.0
                signals += [Signal(kind, depth, length, time) for depth in depths]
    grid = SignalGrid(signals)
    grid.left_out = tuple(left_out)
    return grid


def _best_middle(days, length):
    """Return a time near the middle of the series around which no cadence is missing."""
    inside = days[(days >= 0.5 * length) & (days <= days[-1] - 0.5 * length)]
    middles = inside if inside.size else days
    first, last = (np.searchsorted(days, middles + half) for half in (-0.5 * length, 0.5 * length))
    full = middles[last - first >= AS_GOOD * np.max(last - first)]
    return float(full[np.argmin(np.abs(full - 0.5 * days[-1]))])


def _days(value, name):
    """Return a number or a Quantity in days."""
    if not hasattr(value, 'unit'):
        return value
    try:
        return value.to_value(u.day)
    except u.UnitConversionError:
        raise TypeError(f'{name} must be a time, but it has the unit {value.unit}: pass days or '
                        'a Quantity such as 6 * u.h.') from None
