# Licensed under a 3-clause BSD style license - see LICENSE
"""What a table of results tells of the photometry that it comes from."""

import re
from dataclasses import dataclass

import numpy as np
from astropy.nddata import NDData
from astropy.table import Row

from .._validation import as_box

__all__ = ['Told']

# The class whose tables have gain and noise in ``meta``.
OURS = 'PoissonPSFPhotometry'


@dataclass(frozen=True)
class Told:
    """What a row of results and the table around it tell, beside the fit itself.

    Attributes
    ----------
    start : (float, float) or None
        Where the fit began, in the middle of its box.
    shape : (ny, nx) or None
        Of that box.
    gain, read_noise : float
        Electrons per unit of the data, and electrons.
    subtracted : float or None
        Background that was subtracted from the data before, where it is one number.
    local_bkg : float
        Further background around the star, which was subtracted or added.
    unit : `~astropy.units.UnitBase` or None
        Of the data.
    """

    start: tuple | None = None
    shape: tuple | None = None
    gain: float = 1.0
    read_noise: float = 0.0
    subtracted: float | None = None
    local_bkg: float = 0.0
    unit: object = None

    @classmethod
    def by(cls, row):
        """Return what a row tells; its table, where it has one, by photutils' names."""
        names, meta = (row.colnames, row.table.meta) if isinstance(row, Row) else (list(row), {})
        # FITS writes names in capitals.
        meta = {str(name).lower(): value for name, value in meta.items()}
        start = tuple(_number(row[name]) if name in names else np.nan
                      for name in ('x_init', 'y_init'))
        told = {'start': start if np.isfinite(start).all() else None,
                'shape': _box(meta.get('fit_shape')),
                'unit': getattr(row['flux_fit'], 'unit', None) if 'flux_fit' in names else None}
        if meta.get('psf_class') == OURS:
            told |= {'gain': _number(meta.get('gain', 1.0), 1.0),
                     'read_noise': _number(meta.get('read_noise', 0.0), 0.0),
                     'subtracted': _level(meta.get('background'), told['unit'])}
            if 'local_bkg' in names:
                told['local_bkg'] = _number(row['local_bkg'], 0.0)
        return cls(**told)

    def electrons(self, data, background, read_variance):
        """Return data, background and read variance in electrons.

        What was subtracted is put back, unless a background is given, which is one that the
        data contain.
        """
        data = self._in_electrons(data)
        if background is not None:
            background = self._in_electrons(background)
        elif self.subtracted is not None:
            data = data + self.gain * self.subtracted
            background = max(self.gain * (self.subtracted + self.local_bkg), 0.0)
        return data, background, (self.read_noise**2 if read_variance is None else read_variance)

    def _in_electrons(self, values):
        """Return values in the unit of the data as electrons."""
        if isinstance(values, NDData) and (self.unit is not None or self.gain != 1.0
                                           or self.subtracted is not None):
            masked = np.ma.masked_array(
                values.data, False if values.mask is None else values.mask)
            values = masked if values.unit is None else masked << values.unit
        unit = getattr(values, 'unit', None)
        if self.unit is not None and unit is not None:
            values = values.value * unit.to(self.unit)
        return values if self.gain == 1.0 else self.gain * np.ma.asanyarray(values)


def _number(value, default=np.nan):
    """Return a number that may be text or have a unit, and another for what is none."""
    try:
        number = float(getattr(value, 'value', value))
    except (TypeError, ValueError):
        return default
    return number if np.isfinite(number) else default


def _level(text, unit):
    """Return the background that a table names, None unless it is a number in the data's unit."""
    found = re.fullmatch(r'(?:<Quantity |np\.\w+\(|array\()?([-+.e\d]+)( .*)?[>)]?', str(text))
    if found is None:
        return None
    own = (found[2] or '').rstrip('>').strip()
    return _number(found[1], None) if own in ('', str(unit)) else None


def _box(value):
    """Return height and width of a box, as photutils or kpsf write it, None if it is none."""
    if value is None:
        return None
    try:
        numbers = [int(number) for number in re.findall(r'(?<![\w.])\d+', str(value))]
        return as_box(numbers if len(numbers) == 2 else numbers[0], least=3)
    except (IndexError, TypeError, ValueError):
        return None
