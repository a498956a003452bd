# Licensed under a 3-clause BSD style license - see LICENSE
"""Values over time, with errors and flags, as all figures of light curves show them."""

from collections import Counter

import numpy as np

from ..flags import decode_flags
from ..lightcurve import LightCurve, SceneLightCurves
from ..tpf.missions import reference_date
from .style import BLUE, GREY, VERMILLION

__all__ = ['days_of', 'draw_flagged', 'draw_series', 'limits_of', 'require_light_curve']


def require_light_curve(found, what, columns):
    """Raise unless this is one light curve with these columns."""
    if isinstance(found, SceneLightCurves):
        raise TypeError(f'{what} draws one LightCurve, but found SceneLightCurves: choose a star, '
                        f'as in curves[{found.names[0]!r}], or use plot_blends for all.')
    if not isinstance(found, LightCurve):
        raise TypeError(f'{what} draws a LightCurve, but found {type(found).__name__}: read a '
                        'file with LightCurve.read, or pass what extract_light_curve returned.')
    missing = [name for name in columns if name not in found.colnames]
    if missing:
        raise ValueError(f'{what} needs the columns {", ".join(columns)} of a light curve of '
                         f'kpsf, but {", ".join(missing)} is not there: pass what '
                         'extract_light_curve returned.')


def days_of(light_curve):
    """Return times in the mission's days (n,) and what to call them."""
    day = reference_date(light_curve.meta.get('mission'))
    time = light_curve['time'].tdb
    label = f'BJD $-$ {day:.0f}' if day else 'BJD'
    return (time.jd1 - day) + time.jd2, f'{label} (days, TDB)'


def limits_of(values, errors, margin=0.06):
    """Return the range of values and their errors, with a margin."""
    if not np.size(values):
        return 0.0, 1.0
    low, high = np.min(values - errors), np.max(values + errors)
    spread = (high - low) or abs(high) * 1e-6 or 1.0
    return low - margin * spread, high + margin * spread


def draw_series(ax, days, values, errors, flags):
    """Draw values against time, flagged ones in their own way; all (n,)."""
    fitted, flagged = np.isfinite(values), flags != 0
    good = fitted & ~flagged
    errors = np.where(np.isfinite(errors), errors, 0.0)
    size = 3.0 if len(days) > 1000 else 4.5
    ax.errorbar(days[good], values[good], errors[good], fmt='.', ms=size, color=BLUE,
                ecolor=GREY, elinewidth=0.6)
    reference = good if good.any() else _least_flagged(fitted, flags)
    low, high = limits_of(values[reference], errors[reference] * good.any())
    ax.set_ylim(low, high)
    draw_flagged(ax, days, values, flags, fitted & (low <= values) & (values <= high))
    style = {'ls': 'none', 'mfc': 'none', 'mec': VERMILLION, 'ms': 4.5, 'clip_on': False,
             'transform': ax.get_xaxis_transform()}
    with np.errstate(invalid='ignore'):
        for height, marker, beyond in ((1.0, '^', values > high), (0.0, 'v', values < low)):
            if beyond.any():
                ax.plot(days[beyond], np.full(beyond.sum(), height), marker=marker, **style)
    if not fitted.all():
        ax.plot(days[~fitted], np.full((~fitted).sum(), 0.03), marker='|',
                label=f'no fit ({(~fitted).sum()})', **{**style, 'ms': 9.0})
    ax.ticklabel_format(style='plain', useOffset=False)


def _least_flagged(fitted, flags):
    """Return which of the fitted rows (n,) have the fewest flags: the others failed worse."""
    n_flags = np.bitwise_count(flags)
    return fitted & (n_flags == n_flags.min(initial=64, where=fitted))


def draw_flagged(ax, x, y, flags, shown):
    """Draw those flagged points that are shown as circles, and say how many there are.

    Their errors mean little and may be larger than the axes.
    """
    flagged = (flags != 0) & np.isfinite(y)
    if not flagged.any():
        return
    names = Counter(name for row in decode_flags(flags[flagged]) for name in row)
    n_beyond = np.count_nonzero(flagged & ~shown)
    total = f'({flagged.sum()}{f", {n_beyond} beyond the axes" if n_beyond else ""})'
    label = (f'{next(iter(names))} {total}' if len(names) == 1 else f'flagged {total}: '
             + ', '.join(f'{name} {names[name]}' for name in sorted(names)))
    points = flagged & shown
    # As an error bar without any, it comes last in the legend.
    ax.errorbar(x[points], y[points], fmt='o', ms=4.5, mfc='none', mew=0.9, mec=VERMILLION,
                label=label)
