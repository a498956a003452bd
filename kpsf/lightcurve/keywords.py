# Licensed under a 3-clause BSD style license - see LICENSE
"""The metadata of a light curve as FITS keywords: what it is of, and how it was made."""

from datetime import date

import numpy as np
from astropy.io import fits

from .._files import header_value
from ..tpf.missions import MISSIONS
from ..tpf.read import META_KEYWORDS

__all__ = ['KEYWORDS', 'in_ascii', 'primary_header', 'read_keywords', 'write_keywords']

# Name in the metadata, keyword, type and comment of what META_KEYWORDS does not have. A line here
# is all that a further entry of the metadata needs to be written and read back.
KEYWORDS = [
    ('target', 'OBJECT', str, ''), ('mission', 'MISSION', str, ''),
    ('filename', 'TPFFILE', str, 'target pixel file'),
    ('checksum', 'TPFSHA', str, ''),
    ('options_digest', 'OPTDIGES', str, 'of the options of extract_many'),
    ('quality_mask', 'QUALMASK', int, 'cadences with these QUALITY bits are not here'),
    ('column', 'COLUMN', int, 'detector column of the first pixel'),
    ('row', 'ROW', int, 'detector row of the first pixel'),
    ('exposure', 'EXPCAD', float, '[s] live time per cadence'),
    ('effective_exposure', 'EXPEFF', float, '[s] electrons in the fit per e-/s'),
    ('read_variance', 'READVAR', float, '[electron**2] of a pixel in the fit'),
    ('noise_excess', 'NEXCESS', float, 'scatter besides photon noise, relative'),
    ('error_over_scatter', 'ERRSCAT', float, 'median error over scatter'),
    ('star', 'STARNAME', str, 'star of this light curve'),
    ('star_ra', 'STARRA', float, '[deg] its right ascension'),
    ('star_dec', 'STARDEC', float, '[deg] its declination'),
    ('n_stars', 'NSTARS', int, 'stars in the fit'),
    ('psf', 'PSFMODEL', str, 'point spread function'),
    ('prf_detector', 'PRFDET', str, 'detector of the PRF'),
    ('prf_column', 'PRFCOL', float, '[pixel] detector column of the PRF'),
    ('prf_row', 'PRFROW', float, '[pixel] detector row of the PRF'),
    ('prf_interpolate', 'PRFINTER', str, 'between the calibrated places'),
    ('prf_files', 'PRFFILES', str, 'calibration files of the PRF'),
    ('prf_forced', 'PRFFORCE', bool, 'it may be of another detector'),
    ('prf_normalize', 'PRFNORM', str, 'phase, mean or none'),
    ('prf_clip_negative', 'PRFCLIP', bool, 'samples below 0 were set to 0'),
    ('shape', 'PSFSHAPE', str, 'shared, free or fixed'),
    ('psf_residual', 'PSFRESID', float, 'of the mean image, relative'),
    ('n_modes', 'NMODES', int, 'modes of the shape over time'),
    ('roll_order', 'ROLLORD', int, 'order of the polynomial of the place, 0 if none'),
    ('background', 'PSFBKG', str, 'known, fit or given'),
    ('background_offset', 'BKGOFF', float, '[e-/s] constant besides FLUX_BKG'),
    ('background_offset_err', 'BKGOFFE', float, '[e-/s] its error'),
    ('background_offset_at_limit', 'BKGOFFL', bool, 'it is at its limit'),
    ('position', 'PSFPOS', str, 'free, shared or known'),
    ('motion', 'MOTION', str, 'where the motion comes from'),
    ('cosmic_rays', 'NCOSMIC', int, 'pixels left out as cosmic rays'),
    ('covariance', 'PSFCOV', str, 'where the errors come from'),
    ('kpsf_version', 'PROCVER', str, 'version of kpsf'),
]
# A card holds 80 characters; value and comment share what name and separators leave.
CARD_ROOM = 67
VALUE_ROOM = 20


def primary_header(mission, creator, n_extensions):
    """Return what the primary header of a file begins with."""
    is_tess = mission == 'TESS'
    header = fits.Header()
    header.update({
        'ORIGIN': ('kpsf', 'package that made this file'), 'CREATOR': creator,
        'DATE': (date.today().isoformat(), 'date of this file'),
        'NEXTEND': (n_extensions, 'number of extensions'),
        'TELESCOP': ('TESS' if is_tess else 'Kepler', 'telescope'),
        'INSTRUME': ('TESS Photometer' if is_tess else 'Kepler Photometer', 'detector'),
        'MISSION': mission})
    return header


def write_keywords(header, meta, mission):
    """Put the metadata into a header."""
    for name, keyword, kind, comment in _all_keywords(mission):
        if meta.get(name) is not None:
            _set_card(header, keyword, str(meta[name]) if kind is str else meta[name], comment)
    values, errors = (meta.get(f'psf_parameter{suffix}', {}) for suffix in ('s', '_errors'))
    for number, name in enumerate(values, start=1):
        _set_card(header, f'PARNAM{number}', name, 'parameter of the PSF')
        _set_card(header, f'PARVAL{number}', values[name], '')
        if name in errors:
            _set_card(header, f'PARERR{number}', errors[name], '')


def read_keywords(header, mission):
    """Return the metadata that a header holds."""
    meta = {}
    for name, keyword, kind, _ in _all_keywords(mission):
        value = header_value(header, keyword, kind)
        if value is not None:
            meta[name] = value
    numbers = range(1, 1 + sum(key.startswith('PARNAM') for key in header))
    names = {header[f'PARNAM{number}']: number for number in numbers}
    if names:
        for name, key in (('psf_parameters', 'PARVAL'), ('psf_parameter_errors', 'PARERR')):
            meta[name] = {parameter: header[f'{key}{number}']
                          for parameter, number in names.items() if f'{key}{number}' in header}
    return meta


def in_ascii(text):
    """Return text in the printable ASCII that FITS headers hold, the rest as escapes."""
    return ''.join(letter if ' ' <= letter <= '~' else
                   letter.encode('unicode_escape').decode('ascii') for letter in text)


def _all_keywords(mission):
    """Return name in ``meta``, keyword, type and comment of all metadata."""
    mission = MISSIONS[mission]
    return [*KEYWORDS, ('target_id', mission.id_key, int, ''),
            ('magnitude', mission.magnitude_key, float, ''),
            *((*entry, '') for entry in META_KEYWORDS if entry[0] != 'object')]


def _set_card(header, keyword, value, comment):
    """Set a card, with its comment if there is room; there is no card for NaN."""
    if isinstance(value, str):
        value = in_ascii(value)
    elif not np.isfinite(value):
        return
    # Quotes and doubled quotes count.
    length = max(VALUE_ROOM, len(str(value)) + 2 + str(value).count("'"))
    header[keyword] = (value, comment) if length + len(comment) <= CARD_ROOM else value
