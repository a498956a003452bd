# Licensed under a 3-clause BSD style license - see LICENSE
"""How many electrons one unit of an image is, from options or the header, and never guessed."""

import re
from dataclasses import dataclass

import astropy.units as u

from .._files import header_value

__all__ = ['EXPOSURE_KEYWORDS', 'GAIN_KEYWORDS', 'READ_NOISE_KEYWORDS', 'Electrons',
           'find_electrons', 'unit_of']

GAIN_KEYWORDS = ('GAIN', 'EGAIN', 'CCDGAIN', 'ATODGAIN')
READ_NOISE_KEYWORDS = ('RDNOISE', 'READNOIS', 'READNOISE')
EXPOSURE_KEYWORDS = ('EXPTIME', 'EXPOSURE', 'XPOSURE')
# Spellings of BUNIT. A count may be a photon or a digital number: only a gain tells.
ELECTRONS = dict.fromkeys(('e', 'e-', 'electron', 'electrons', 'photoelectron', 'photoelectrons'),
                          u.electron) | dict.fromkeys(('ph', 'photon', 'photons'), u.ph)
COUNTS = dict.fromkeys(('ct', 'cts', 'count', 'counts'), u.ct) | dict.fromkeys(
    ('adu', 'adus', 'dn'), u.adu)
PER_SECOND = re.compile(r'(/s(ec(onds?)?)?|[.*]?s(ec)?-1)$')


@dataclass(frozen=True)
class Electrons:
    """What turns an image into electrons.

    Attributes
    ----------
    gain : float
        Electrons per unit of the data, the exposure included.
    read_noise : float
        Standard deviation in electrons.
    origin : str
        Both in words, and where they come from.
    """

    gain: float
    read_noise: float
    origin: str


def find_electrons(header, gain=None, read_noise=None, exposure=None):
    """Find gain and read noise of an image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
    gain, read_noise, exposure : float, optional
        What the user says; it has precedence over the header.

    Returns
    -------
    Electrons

    Raises
    ------
    ValueError
        If the header does not tell, or contradicts itself.
    """
    name = _bunit(header)
    unit, is_rate = _parse(name)
    gain, words = _find_gain(header, gain, name, unit)
    if is_rate or exposure is not None:
        if name and unit is not None and not is_rate:
            raise ValueError(f'--exposure is for an image of rates, but BUNIT is {name}: leave it '
                             'out.')
        seconds, origin = (exposure, '--exposure') if exposure is not None else _from_header(
            header, EXPOSURE_KEYWORDS, f'The exposure of an image in {name}',
            'pass it in seconds as --exposure')
        gain, words = gain * seconds, f'{words} x exposure {seconds:g} s ({origin})'
    if read_noise is not None:
        origin = '--read-noise'
    else:
        read_noise, origin = _from_header(header, READ_NOISE_KEYWORDS, 'The read noise',
                                          'pass it in electrons as --read-noise', default=0.0)
    return Electrons(gain, read_noise, f'{words}, read noise {read_noise:g} e- ({origin})')


def unit_of(header):
    """Return the unit of an image, None if BUNIT is missing or unknown."""
    name = _bunit(header)
    unit, is_rate = _parse(name)
    if unit is not None:
        return unit / u.s if is_rate else unit
    unit = u.Unit(name, parse_strict='silent') if name else None
    return None if isinstance(unit, u.UnrecognizedUnit) else unit


def _bunit(header):
    """Return BUNIT, empty where there is none."""
    return header_value(header, 'BUNIT', str) or ''


def _parse(name):
    """Return the unit that a BUNIT counts in, None if it does not, and whether per second."""
    text = re.sub(r'\s+|\*\*|\^|[()]', '', name.lower()).replace('cps', 'count/s')
    text = re.sub(r'/pix(el)?$', '', text)
    base = PER_SECOND.sub('', text)
    return (ELECTRONS | COUNTS).get(base), base != text


def _find_gain(header, gain, name, unit):
    """Return electrons per unit of the data, or per its second, and words on it."""
    if gain is None and unit in ELECTRONS.values():
        gain, origin = 1.0, f'BUNIT {name}'
    elif gain is not None:
        origin = '--gain'
    elif name and unit is None:
        raise ValueError(f'The gain of an image in {name} is needed: pass the electrons per unit '
                         'of the data as --gain.')
    else:
        what = f'The gain of an image in {name}' if name else 'The gain of an image without BUNIT'
        gain, origin = _from_header(
            header, GAIN_KEYWORDS, what,
            'pass the electrons per unit of the data as --gain, 1 for counted photons')
    return gain, f'gain {gain:g} e- per {name or "unit of the data"} ({origin})'


def _from_header(header, keywords, what, remedy, default=None):
    """Return the value that all keywords agree on, and the first of them that has it."""
    found = {key: header_value(header, key, float) for key in keywords}
    lowest = 0.0 if default is not None else 1e-300
    found = {key: value for key, value in found.items() if value is not None and value >= lowest}
    if len(set(found.values())) > 1:
        listed = ' and '.join(f'{key} = {value:g}' for key, value in found.items())
        raise ValueError(f'{what} must be one number, but the header has {listed}: {remedy}.')
    if found:
        key = next(iter(found))
        return found[key], f'header {key}'
    if default is None:
        raise ValueError(f'{what} is needed, but the header has none of {", ".join(keywords)}: '
                         f'{remedy}.')
    return default, 'not in the header'
