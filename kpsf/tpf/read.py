# Licensed under a 3-clause BSD style license - see LICENSE
"""Target pixel files: Kepler, K2 and TESS pixels as electrons with their noise."""

import hashlib
import os
import warnings
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.utils.exceptions import AstropyUserWarning, AstropyWarning
from astropy.wcs import WCS, InconsistentAxisTypesError

from .._files import DAMAGE, damaged, header_value, open_fits
from ..noise import fit_pixel_noise
from .missions import MISSIONS
from .pixels import MAX_POSITION_CORRECTION, TargetPixels

__all__ = ['META_KEYWORDS', 'read_tpf']

META_KEYWORDS = [
    ('object', 'OBJECT', str), ('obsmode', 'OBSMODE', str),
    ('ra', 'RA_OBJ', float), ('dec', 'DEC_OBJ', float),
    ('channel', 'CHANNEL', int), ('module', 'MODULE', int), ('output', 'OUTPUT', int),
    ('quarter', 'QUARTER', int), ('campaign', 'CAMPAIGN', int), ('sector', 'SECTOR', int),
    ('camera', 'CAMERA', int), ('ccd', 'CCD', int), ('data_release', 'DATA_REL', int),
    ('background_subtracted', 'BACKAPP', bool), ('frame_exposure', 'INT_TIME', float),
    ('cadence_length', 'TIMEDEL', float),
]
# For simulated files, whose headers say no more than the observing mode.
KEPLER_FRAME = 6.01980290327
KEPLER_FRAMES = {'long cadence': 270, 'short cadence': 9}
RATE_UNITS = ('', 'e-/s', 'e/s', 'electron/s', 'electrons/s', 'electrons-1', 'electron.s-1')

# Last CCD column of each TESS output, whose read noises differ.
TESS_OUTPUTS = {'A': 556, 'B': 1068, 'C': 1580, 'D': 2092}

COLLECTED = 1
N_SIGMA_NEGATIVE = 5.0
SECONDS_PER_DAY = 86400.0


def read_tpf(path, quality='default'):
    """Read a Kepler, K2 or TESS target pixel file.

    Long and short cadence, 2 minutes and 20 seconds, cutouts of full-frame
    images in the same layout, early file formats and compressed files all
    give the same `TargetPixels`.

    Parameters
    ----------
    path : str, path-like, `~astropy.io.fits.HDUList` or lightkurve TargetPixelFile
        The file. Of a lightkurve object the whole file is read: its own
        quality selection does not apply.
    quality : {'none', 'default', 'hard', 'hardest'} or int, optional
        Cadences to drop: a name for the field's usual set of bits, or the
        bits themselves. Cadences without a time are always dropped.

    Returns
    -------
    TargetPixels
        The pixels and all that belongs to them.

    Raises
    ------
    ValueError
        If the file is no target pixel file or is damaged, if ``quality`` is
        unknown or rejects all cadences.
    OSError
        If the file cannot be opened.
    TypeError
        If ``path`` or ``quality`` is of the wrong type.

    Notes
    -----
    The electrons are ``(FLUX + FLUX_BKG) * exposure / slope`` with the slope
    of `NoiseModel`. The exposure is ``INT_TIME * NUM_FRM`` for Kepler and
    K2, ``INT_TIME * NREADOUT`` for TESS, where on-board cosmic-ray rejection
    discards part of the frames.

    Kepler target pixel files of version 4 and older give times in UTC although
    their headers say TDB [1]_; 66.184 s (from cadence 57140 on, 67.184 s) is
    added to them and ``meta['time_offset']`` says so.

    A background of zero everywhere, as cutouts have it, is no knowledge of
    the background: ``has_background`` is then False.

    References
    ----------
    .. [1] Statement on Kepler Timing Error,
       https://archive.stsci.edu/kepler/timing_error.html

    Examples
    --------
    >>> from kpsf import read_tpf, simulate_tpf
    >>> path = simulate_tpf('star.fits', n_cadences=50, seed=1)
    >>> tpf = read_tpf(path)
    >>> tpf
    <TargetPixels KIC 100000001 (Kepler): 50 cadences of 11 x 11 pixels>
    >>> tpf.electrons.shape
    (50, 11, 11)
    """
    with _open(path) as (hdulist, name):
        return _read(_PixelFile(hdulist, name), quality, _checksum(path))


@contextmanager
def _open(path):
    """Yield an open HDUList and the name of its file; close only what was opened here."""
    hdulist = path if isinstance(path, fits.HDUList) else getattr(path, 'hdu', None)
    if isinstance(hdulist, fits.HDUList):
        # Slices and cutouts of lightkurve have the HDUList where others have the name.
        own = getattr(path, 'path', None)
        name = own if isinstance(own, (str, os.PathLike)) else hdulist.filename()
        yield hdulist, str(name or 'the HDUList')
    elif isinstance(path, (str, os.PathLike)):
        with open_fits(path, 'A target pixel file') as hdulist:
            yield hdulist, str(path)
    else:
        msg = ('read_tpf needs a path, an open HDUList or a lightkurve TargetPixelFile, but '
               f'found {type(path).__name__}: pass one of these.')
        raise TypeError(msg)


def _checksum(path):
    """Return the SHA-256 of a file; None for an open one, which may differ from it by now."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    with open(Path(path).expanduser(), 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


class _PixelFile:
    """An open target pixel file: where its pixels are and what its headers say."""

    def __init__(self, hdulist, name):
        self.name = name
        self.hdulist = hdulist
        self.table = self._find_table()
        self.headers = [self.table.header, hdulist[0].header]
        self.mission = MISSIONS[self._find_mission()]
        try:
            self.data = self.table.data
            self.shape = self.data['FLUX'].shape[1:]
        except DAMAGE as error:
            raise damaged(name, error) from error
        self.n_rows = len(self.data)
        self._require_pixels()

    def _find_table(self):
        """Return the HDU with the pixels."""
        for hdu in self.hdulist:
            names = getattr(getattr(hdu, 'columns', None), 'names', None) or []
            if {'TIME', 'FLUX'} <= set(names):
                return hdu
        found = ', '.join(hdu.name or type(hdu).__name__ for hdu in self.hdulist)
        msg = ('read_tpf needs a table with the columns TIME and FLUX, but the extensions of '
               f'{self.name} are {found}, without such a table: pass a target pixel file.')
        raise ValueError(msg)

    def _find_mission(self):
        """Return 'Kepler', 'K2' or 'TESS'."""
        telescope = (self.keyword('TELESCOP', kind=str) or '').upper()
        if telescope == 'TESS':
            return 'TESS'
        if telescope == 'KEPLER':
            # Early Kepler files have no MISSION, simulated K2 files an empty CAMPAIGN.
            mission = self.keyword('MISSION', kind=str)
            is_k2 = 'CAMPAIGN' in self.hdulist[0].header if mission is None else mission == 'K2'
            return 'K2' if is_k2 else 'Kepler'
        msg = (f'read_tpf needs a file of Kepler, K2 or TESS, but TELESCOP of {self.name} is '
               f'{telescope!r}: pass counts of other telescopes to fit_stamps.')
        raise ValueError(msg)

    def _require_pixels(self):
        """Raise unless FLUX is images of rates."""
        unit = self.table.columns['FLUX'].unit or ''
        if len(self.shape) != 2 or 0 in self.shape:
            msg = (f'read_tpf needs images in the column FLUX, but {self.name} has entries of '
                   f'shape {self.shape}: pass a target pixel file, not a light curve.')
            raise ValueError(msg)
        if unit.replace(' ', '') not in RATE_UNITS:
            msg = (f'read_tpf needs FLUX in e-/s, but that of {self.name} is in {unit!r}: divide '
                   'it by the exposure, or pass the counts to fit_stamps.')
            raise ValueError(msg)

    def keyword(self, *keys, kind=float):
        """Return the first of some keywords that has a value, None if none has."""
        values = (header_value(header, key, kind) for key in keys for header in self.headers)
        return next((value for value in values if value is not None), None)

    def column(self, name, dtype, default):
        """Return a column (n_rows,) in native byte order, the default where there is none."""
        if name not in self.data.names:
            return np.full(self.n_rows, default, dtype)
        return self.data[name].astype(dtype)

    def cube(self, name, rows):
        """Return rows of an image column as float32, (n, ny, nx); NaN if there is none."""
        if name not in self.data.names:
            return np.full((np.count_nonzero(rows), *self.shape), np.nan, np.float32)
        if self.data[name].shape[1:] != self.shape:
            msg = (f'{name} must have the shape of FLUX, {self.shape}, but in {self.name} it is '
                   f'{self.data[name].shape[1:]}: download the file again.')
            raise ValueError(msg)
        return self.data[name][rows].astype(np.float32)

    @property
    def is_cutout(self):
        """Whether the stamp was cut from full-frame images afterwards."""
        return 'MAST' in (self.keyword('ORIGIN', kind=str) or '')

    @cached_property
    def aperture_hdu(self):
        """The image of the aperture, None if there is none of the right shape."""
        images = [hdu for hdu in self.hdulist if hdu.is_image and hdu.shape == self.shape]
        named = [hdu for hdu in images if hdu.name == 'APERTURE']
        return next(iter(named + images), None)

    def geometry_keyword(self, axis, key, physical=False):
        """Return a keyword such as 1CRV5P of the column FLUX."""
        number = self.table.columns.names.index('FLUX') + 1
        return self.keyword(f'{axis}{key}{number}' + ('P' if physical else ''))


def _read(file, quality, checksum):
    """Build TargetPixels from an open file."""
    times = file.column('TIME', np.float64, np.nan)
    keep, quality_bits, selection = _select_cadences(file, times, quality)
    flux, flux_err = file.cube('FLUX', keep), file.cube('FLUX_ERR', keep)
    background, has_background = _background(file, keep)
    aperture = _aperture(file)
    pos_corr, pos_corr_median = _motion(file, keep)
    column, row = _corner(file)
    position, position_from = _target_position(file)
    exposure, exposure_from = _exposure(file)
    offset = _time_offset(file)
    meta = {**_meta(file, column), 'checksum': checksum, **selection, 'exposure': exposure,
            'exposure_from': exposure_from, 'time_offset': float(np.median(offset[keep])),
            'pos_corr_median': pos_corr_median, 'target_position_from': position_from}
    good_pixels = np.isfinite(flux) & np.isfinite(background) & ((aperture & COLLECTED) > 0)
    noise = fit_pixel_noise(flux, background, flux_err, good_pixels, meta)
    _warn_if_negative(file, flux, background, noise)
    pixels = TargetPixels(
        time=_barycentric_time(file, times[keep], offset[keep]),
        cadenceno=_cadence_numbers(file)[keep], flux=flux, flux_err=flux_err,
        background=background, has_background=has_background, quality=quality_bits[keep],
        aperture=aperture, good_pixels=good_pixels, column=column, row=row,
        target_position=position, pos_corr=pos_corr,
        has_pos_corr=bool(np.isfinite(pos_corr).any()), mission=file.mission.name,
        target=_target(file), meta=meta, noise=noise, wcs=_celestial_wcs(file))
    for value in vars(pixels).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return pixels


def _quality_mask(quality, mission):
    """Return the bits that a quality setting stands for."""
    names = mission.quality_masks
    if isinstance(quality, str) and quality in names:
        return names[quality]
    is_integer = isinstance(quality, (int, np.integer)) and not isinstance(quality, bool)
    if is_integer and quality >= 0:
        return int(quality)
    msg = (f"quality must be one of {', '.join(map(repr, names))} or an integer >= 0 of bits, but "
           f'found {quality!r}: pass one of these.')
    raise ValueError(msg) if is_integer or isinstance(quality, str) else TypeError(msg)


def _select_cadences(file, times, quality):
    """Return which rows to keep (n,), all quality bits (n,) and what to note in ``meta``."""
    mask = _quality_mask(quality, file.mission)
    bits = file.column('QUALITY', np.int64, 0)
    rejected, timeless = (bits & mask) != 0, ~np.isfinite(times)
    keep = ~(rejected | timeless)
    n_rejected, n_timeless = (int(np.count_nonzero(drop)) for drop in (rejected, timeless))
    if not keep.any():
        msg = (f'read_tpf needs at least one cadence that passes quality={quality!r} and has a '
               f'time, but of the {times.size} cadences of {file.name} the quality flags reject '
               f"{n_rejected} and {n_timeless} have no time: pass quality='none' or other bits.")
        raise ValueError(msg)
    return keep, bits, {'quality_mask': mask, 'n_cadences_file': times.size,
                        'n_rejected': n_rejected, 'n_without_time': n_timeless}


def _background(file, keep):
    """Return the known background (n, ny, nx), zeros if none is, and whether it is known."""
    background = file.cube('FLUX_BKG', keep)
    known = np.isfinite(background)
    # Cutouts carry zeros: nothing was subtracted from them and nothing is known.
    if not (background[known] != 0).any():
        return np.zeros_like(background), False
    return background, True


def _aperture(file):
    """Return the aperture bits (ny, nx); all pixels collected if the file has none."""
    if file.aperture_hdu is None:
        return np.full(file.shape, COLLECTED, np.int64)
    try:
        return file.aperture_hdu.data.astype(np.int64)
    except DAMAGE as error:
        raise damaged(file.name, error) from error


def _motion(file, keep):
    """Return the motion relative to its median (n, 2), and the median or None if unknown."""
    names = ('POS_CORR1', 'POS_CORR2')
    values = np.stack([file.column(name, np.float64, np.nan)[keep] for name in names], axis=1)
    known = np.isfinite(values).all(axis=1)
    if not values[known].any():
        return np.full_like(values, np.nan), None
    median = np.median(values[known], axis=0)
    motion = values - median
    with np.errstate(invalid='ignore'):
        motion[~(np.abs(motion) <= MAX_POSITION_CORRECTION).all(axis=1)] = np.nan
    return motion, tuple(median.tolist())


def _corner(file):
    """Return detector column and row of the first pixel."""
    corner = []
    for axis in (1, 2):
        value = file.geometry_keyword(axis, 'CRV', physical=True)
        if value is None:
            msg = (f'read_tpf needs the detector position of the stamp, but {file.name} has no '
                   f'keyword {axis}CRV5P: column and row are counted from 0.')
            warnings.warn(msg, AstropyUserWarning)
            return 0, 0
        reference = file.geometry_keyword(axis, 'CRP', physical=True) or 1.0
        corner.append(round(value - (reference - 1.0)))
    return tuple(corner)


def _target_position(file):
    """Return the predicted position ``(x, y)`` in stamp pixels and where it comes from."""
    if file.is_cutout:
        position = _project_target(file)
        if position is not None:
            return position, 'RA_OBJ, DEC_OBJ'
    pixel = [file.geometry_keyword(axis, 'CRPX') for axis in (1, 2)]
    if None not in pixel:
        return tuple(value - 1.0 for value in pixel), '1CRPX5, 2CRPX5'
    ny, nx = file.shape
    return ((nx - 1) / 2, (ny - 1) / 2), 'centre of the stamp'


def _project_target(file):
    """Return where the header's sky position falls in a cutout, None if it does not say.

    In files of the archive the reference pixel of the WCS is the target; in
    cutouts it is the middle of the stamp.
    """
    ra, dec = file.keyword('RA_OBJ'), file.keyword('DEC_OBJ')
    wcs = _celestial_wcs(file)
    if wcs is None or ra is None or dec is None:
        return None
    position = tuple(float(value) for value in wcs.all_world2pix(ra, dec, 0))
    return position if np.isfinite(position).all() else None


def _celestial_wcs(file):
    """Return the WCS of the stamp, None if the file has none of the sky."""
    if file.aperture_hdu is None:
        return None
    with warnings.catch_warnings():
        # Keywords without a value are mended, or else there is no WCS.
        warnings.simplefilter('ignore', AstropyWarning)
        try:
            wcs = WCS(file.aperture_hdu.header)
        except (ValueError, TypeError, InconsistentAxisTypesError):
            return None
    return wcs if wcs.has_celestial else None


def _exposure(file):
    """Return the live time per cadence in seconds and the keywords it comes from."""
    n_frames = file.mission.frames_key
    candidates = [
        (f'INT_TIME * {n_frames}', ('INT_TIME', n_frames), 1.0),
        ('TIMEDEL * DEADC', ('TIMEDEL', 'DEADC'), SECONDS_PER_DAY),
    ]
    if file.is_cutout:
        # Only there it belongs to one cadence; elsewhere it is the sum over all of them.
        candidates.append(('EXPOSURE', ('EXPOSURE',), SECONDS_PER_DAY))
    for origin, keys, seconds in candidates:
        values = [file.keyword(key) for key in keys]
        if all(value is not None and value > 0 for value in values):
            return float(np.prod(values) * seconds), origin
    frames = KEPLER_FRAMES.get(file.keyword('OBSMODE', kind=str))
    if frames and file.mission.name != 'TESS':
        return KEPLER_FRAME * frames, 'OBSMODE'
    msg = (f'read_tpf needs the exposure of a cadence, but {file.name} has neither INT_TIME and '
           f'{n_frames} nor TIMEDEL and DEADC: add these keywords to its header.')
    raise ValueError(msg)


def _time_offset(file):
    """Return the seconds that turn the times of all rows into TDB, (n,)."""
    version = file.keyword('FILEVER')
    # PyKE's keptimefix, which repairs such files, leaves TIMECORR empty.
    is_repaired = np.isnan(file.column('TIMECORR', np.float64, 0.0)).all()
    if file.mission.name != 'Kepler' or version is None or version > 4 or is_repaired:
        return np.zeros(file.n_rows)
    last = 1702663 if file.keyword('NUM_FRM') == KEPLER_FRAMES['short cadence'] else 57139
    return np.where(_cadence_numbers(file) <= last, 66.184, 67.184)


def _barycentric_time(file, times, offset):
    """Return times (n,) as BJD in TDB."""
    day = file.keyword('BJDREFI')
    fraction = file.keyword('BJDREFF') or 0.0
    if day is None:
        day, fraction = file.mission.reference_date, 0.0
    return Time(np.full(times.size, day), times + fraction + offset / SECONDS_PER_DAY,
                format='jd', scale='tdb')


def _cadence_numbers(file):
    """Return the cadence numbers of all rows (n,), the row numbers where the file has none."""
    numbers = file.column('CADENCENO', np.int64, 0)
    return numbers if numbers.any() else np.arange(file.n_rows, dtype=np.int64)


def _target(file):
    """Return the name of the target."""
    number = file.keyword(file.mission.id_key, kind=int)
    if number:
        return f'{file.mission.catalogue} {number}'
    name = file.keyword('OBJECT', kind=str)
    if name:
        return name
    ra, dec = file.keyword('RA_OBJ'), file.keyword('DEC_OBJ')
    return 'unknown' if ra is None or dec is None else f'RA {ra:.5f}, Dec {dec:.5f}'


def _meta(file, column):
    """Return identifiers and detector properties, None for what the file lacks."""
    output = next((name for name, last in TESS_OUTPUTS.items() if column <= last), 'D')
    suffix = output if file.mission.name == 'TESS' else 'S'
    magnitude = file.keyword(file.mission.magnitude_key)
    known = {name: file.keyword(key, kind=kind) for name, key, kind in META_KEYWORDS}
    return {'filename': file.name, 'is_cutout': file.is_cutout, **known,
            'target_id': file.keyword(file.mission.id_key, kind=int),
            # Cutouts, being of a position, have a zero there.
            'magnitude': None if file.is_cutout and magnitude == 0 else magnitude,
            'n_reads': file.keyword('NREADOUT', 'NUM_FRM', kind=int),
            'read_noise': file.keyword(f'READNOI{suffix}'),
            'gain': file.keyword('GAIN' if suffix == 'S' else f'GAIN{suffix}')}


def _warn_if_negative(file, flux, background, noise):
    """Warn if pixels are so negative that the background cannot be in them."""
    limit = -N_SIGMA_NEGATIVE * np.sqrt(noise.read_variance_rate) - 1.0 / noise.exposure
    with np.errstate(invalid='ignore'):
        n_negative = np.count_nonzero(flux + background < limit)
    if n_negative:
        msg = (f'Pixel rates with the background in must be >= 0 up to read noise, but '
               f'{n_negative} of {flux.size} in {file.name} are below {limit:.3g} e-/s: a '
               'background was probably subtracted that FLUX_BKG does not tell; the values are '
               'kept as they are.')
        warnings.warn(msg, AstropyUserWarning)
