# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF calibration files of Kepler and TESS: images of the PRF at some detector positions."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._files import DAMAGE, damaged, header_value, open_fits
from .._validation import require_choice
from .channels import CAMERAS, CCDS, channel_to_module_output, module_output_to_channel
from .weights import (
    barycentric_weights,
    bilinear_weights,
    clamp_position,
    find_centre,
    inverse_distance_weights,
    missing_positions,
    nearest_weights,
)

__all__ = ['PRFCalibration', 'detector_name', 'join_tess_prf', 'read_kepler_prf', 'read_tess_prf']

# The first of each is the default.
INTERPOLATIONS = {
    'Kepler': {'barycentric': barycentric_weights, 'nearest': nearest_weights,
               'inverse-distance': inverse_distance_weights},
    'TESS': {'bilinear': bilinear_weights, 'nearest': nearest_weights,
             'inverse-distance': inverse_distance_weights},
}
WCS_KEYWORDS = [key.format(axis) for axis in (1, 2)
                for key in ('CRPIX{}P', 'CRVAL{}P', 'CDELT{}P')]
N_KEPLER_POSITIONS = 5
# The files of the archive put the centre 12 columns and 20 rows from that of the corners.
CENTRE_TOLERANCE = 2.0
SPACING_TOLERANCE = 1e-6
KEPLER_NAME = re.compile(r'kplr(\d\d)\.(\d)_')
# TESS: the set for sectors 4 and later says so, that for sectors 1 to 3 has only its date.
VERSION_FROM_SECTOR_4 = 'UPDATED_2.0'
DATE_FROM_SECTOR_1 = '30-Jan-2019'
DATE_FROM_SECTOR_4 = '01-May-2019'
FIRST_SECTOR_BY_NAME = {'tess2018': 1, 'tess2019': 4}


class _Image(NamedTuple):
    """One image of a file and what its header says."""

    data: np.ndarray
    origin: tuple
    position: tuple
    spacing: float


@dataclass(frozen=True, eq=False, repr=False)
class PRFCalibration:
    """Images of the PRF at some positions of one detector, as calibration files have them.

    Parameters
    ----------
    mission : {'Kepler', 'TESS'}
        Mission. The files of Kepler serve K2 as well.
    images : ndarray, shape (k, ny, nx)
        Images ``[position, y, x]`` as in the files: the share of its flux
        that a star leaves in a pixel, by the offset of the pixel's centre
        from the star.
    columns, rows : ndarray, shape (k,)
        Detector positions of the images in pixels.
    spacing : float
        Distance between samples in pixels.
    origin : tuple of float
        Index ``(x, y)`` of the sample at the star, the first one being 0.
    detector : dict
        For Kepler ``channel``, ``module`` and ``output``, for TESS
        ``camera``, ``ccd`` and ``first_sector`` (1 or 4); None for what the
        files do not tell.
    names : tuple of str
        The files.
    centre_from : {'header', 'mean of the corners', None}, optional
        Where the position of Kepler's fifth image comes from. Published
        files put it 12 columns and 20 rows beside the middle of the corners,
        where it belongs; it is then moved there.

    See Also
    --------
    read_kepler_prf, read_tess_prf : Make this from files.
    """

    mission: str
    images: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    spacing: float
    origin: tuple
    detector: dict
    names: tuple
    centre_from: str | None = None

    def __repr__(self):
        n, ny, nx = self.images.shape
        centre = '' if self.centre_from in (None, 'header') else f', centre {self.centre_from}'
        return (f'<PRFCalibration {self.mission} {detector_name(self.detector)}: {n} positions of '
                f'{ny} x {nx} samples, {round(1 / self.spacing)} per pixel{centre}>')

    def __setstate__(self, state):
        self.__dict__.update(state)
        for array in (self.images, self.columns, self.rows):
            array.flags.writeable = False

    def __deepcopy__(self, memo):
        # Nothing in it can be changed: copies of a model share it.
        return self

    @property
    def interpolations(self):
        """Names of the interpolations that suit the mission, the default first."""
        return tuple(INTERPOLATIONS[self.mission])

    def clamp(self, column, row):
        """Move a detector position into the box of the calibrated ones.

        Parameters
        ----------
        column, row : float
            Detector position in pixels.

        Returns
        -------
        column, row : float
            The nearest position in the box; unchanged inside.
        """
        return clamp_position(self.columns, self.rows, column, row)

    def weights(self, column, row, interpolate=None):
        """Return the weight of each image at a detector position.

        Parameters
        ----------
        column, row : float
            Detector position in pixels. Outside of the box of the calibrated positions
            the nearest place in it counts, however far that is: it is the
            models that refuse positions off the detector. By
            'inverse-distance' the distances are those from the position
            itself.
        interpolate : str, optional
            One of ``interpolations``.

        Returns
        -------
        ndarray, shape (k,)
            Weights, >= 0 and with the sum 1.

        Raises
        ------
        ValueError
            If the interpolation does not suit the mission.
        """
        interpolate = self.interpolations[0] if interpolate is None else interpolate
        require_choice(interpolate, self.interpolations, 'interpolate')
        function = INTERPOLATIONS[self.mission][interpolate]
        return function(self.columns, self.rows, column, row)

    def image(self, column, row, interpolate=None):
        """Mix the images for a detector position.

        Every image is scaled to the same total flux before.

        Parameters
        ----------
        column, row : float
            Detector position in pixels, as of `weights`.
        interpolate : str, optional
            One of ``interpolations``.

        Returns
        -------
        ndarray, shape (ny, nx)
            The mixture; its sum times ``spacing**2`` is 1.

        Raises
        ------
        ValueError
            If the interpolation does not suit the mission.
        """
        weights = self.weights(column, row, interpolate)
        used = np.flatnonzero(weights)
        images = self.images[used]
        scaled = weights[used] / (images.sum(axis=(1, 2)) * self.spacing**2)
        return np.tensordot(scaled, images, axes=1)


def detector_name(detector):
    """Say in words which detector a calibration belongs to.

    Parameters
    ----------
    detector : dict
        As of `PRFCalibration`.

    Returns
    -------
    str
        For example 'channel 20 (7.4)' or 'camera 4 CCD 1 from sector 1'.
    """
    known = {name: '?' if value is None else value for name, value in detector.items()}
    if 'channel' in known:
        return f'channel {known["channel"]} ({known["module"]}.{known["output"]})'
    return (f'camera {known["camera"]} CCD {known["ccd"]} from sector '
            f'{known["first_sector"]}')


def read_kepler_prf(path, name=None):
    """Read a Kepler PRF calibration file.

    Positions, sampling and the star's position among the samples are taken
    from the header of every extension.

    Parameters
    ----------
    path : str or path-like
        The file, of one channel, with five images.
    name : str, optional
        What to call the file in messages, and where to look for module and
        output if its header does not tell; by default the name in ``path``.

    Returns
    -------
    PRFCalibration
        The images and their positions.

    Raises
    ------
    ValueError
        If the file is damaged, no PRF file of Kepler or its contents
        contradict each other.
    OSError
        If the file cannot be opened.

    Notes
    -----
    The images are at the four corners of the channel and at its centre. The
    position that published files give for the centre is not the middle of
    the corners; unless it is within 2 pixels of it, the middle is used and
    ``centre_from`` of the result says so.

    Examples
    --------
    >>> from kpsf.prf import read_kepler_prf
    >>> from kpsf.simulate import simulate_kepler_prf
    >>> path = simulate_kepler_prf('kplr07.4_2011265_prf.fits', channel=20)
    >>> calibration = read_kepler_prf(path)
    >>> calibration
    <PRFCalibration Kepler channel 20 (7.4): 5 positions of 550 x 550 samples, 50 per pixel,
    centre mean of the corners>
    >>> print(calibration.origin, calibration.weights(12, 20))
    (274.0, 274.0) [1. 0. 0. 0. 0.]
    """
    name = str(path if name is None else name)
    with open_fits(path, 'A Kepler PRF file') as hdulist:
        extensions = [hdu for hdu in hdulist[1:] if hdu.is_image]
        if len(extensions) != N_KEPLER_POSITIONS or len(hdulist) != N_KEPLER_POSITIONS + 1:
            msg = (f'A Kepler PRF file must have {N_KEPLER_POSITIONS} extensions, all of them '
                   f'images, but {name} has {len(hdulist) - 1}, of which {len(extensions)} are '
                   'images: pass a whole file such as kplr07.4_2011265_prf.fits.')
            raise ValueError(msg)
        images = [_read_image(hdu, f'extension {number} of {name}', name)
                  for number, hdu in enumerate(extensions, start=1)]
        detector = _kepler_detector(hdulist[0].header, name)
    _require_one_layout([(image.data.shape, image.spacing, image.origin) for image in images],
                        [f'extension {number} of {name}' for number in range(1, 6)])
    columns, rows, centre_from = _kepler_positions(images, name)
    return _calibration('Kepler', np.array([image.data for image in images]), columns, rows,
                        images[0], detector, (name,), centre_from)


def read_tess_prf(paths, names=None):
    """Read TESS PRF calibration files of one CCD.

    Parameters
    ----------
    paths : str, path-like or list of these
        Files of one camera, CCD and range of sectors: all nodes of a
        rectangular grid of positions, of the whole CCD or of a part, also
        one alone. A folder stands for the PRF files in it.
    names : list of str, optional
        What to call the files in messages, and where to look for the range
        of sectors if a header does not tell; by default the names in
        ``paths``.

    Returns
    -------
    PRFCalibration
        The images and their positions.

    Raises
    ------
    ValueError
        If a file is damaged or no PRF file of TESS, or the files do not
        belong together.
    OSError
        If a file cannot be opened.

    Examples
    --------
    >>> from kpsf.prf import read_tess_prf
    >>> from kpsf.simulate import simulate_tess_prf
    >>> paths = simulate_tess_prf('prf', camera=4, ccd=1, sector=1)
    >>> read_tess_prf(paths)
    <PRFCalibration TESS camera 4 CCD 1 from sector 1: 25 positions of 117 x 117 samples,
    9 per pixel>
    """
    paths = _tess_paths(paths)
    names = tuple(str(name) for name in (paths if names is None else names))
    if len(names) != len(paths):
        msg = (f'names must have one entry for each of the {len(paths)} files, but has '
               f'{len(names)}: pass as many names as paths.')
        raise ValueError(msg)
    return join_tess_prf([_read_tess_file(path, name) for path, name in zip(paths, names)])


def join_tess_prf(parts):
    """Join calibrations of some positions on a TESS CCD.

    Parameters
    ----------
    parts : list of PRFCalibration
        At least one, as `read_tess_prf` reads them.

    Returns
    -------
    PRFCalibration
        All of the positions.

    Raises
    ------
    ValueError
        If they do not belong together.
    """
    names = tuple(name for part in parts for name in part.names)
    _require_one_layout([(part.images.shape[1:], part.spacing, part.origin) for part in parts],
                        [part.names[0] for part in parts])
    detector = parts[0].detector
    for part in parts:
        if part.detector != detector:
            msg = ('The PRF files of TESS must belong to one camera, CCD and range of sectors, '
                   f'but {names[0]} is of {detector_name(detector)} and {part.names[0]} of '
                   f'{detector_name(part.detector)}: pass only files of one of them.')
            raise ValueError(msg)
    images, columns, rows = (np.concatenate([getattr(part, name) for part in parts])
                             for name in ('images', 'columns', 'rows'))
    _require_grid(columns, rows, names)
    return _calibration('TESS', images, columns, rows, parts[0], detector, names)


def _calibration(mission, images, columns, rows, layout, detector, names, centre_from=None):
    """Return the calibration with arrays that nobody can change; ``layout`` has the sampling."""
    arrays = [images, columns, rows]
    for array in arrays:
        array.flags.writeable = False
    return PRFCalibration(mission, *arrays, layout.spacing, layout.origin, detector, names,
                          centre_from)


def _read_image(hdu, source, name):
    """Return the image in an HDU; ``source`` says in errors where that is."""
    keywords = _require_keywords(hdu.header, WCS_KEYWORDS, float, source)
    try:
        data = None if hdu.data is None else np.array(hdu.data, dtype=float)
    except DAMAGE as error:
        raise damaged(name, error) from error
    _require_image(data, source)
    origin = keywords['CRPIX1P'] - 1.0, keywords['CRPIX2P'] - 1.0
    if not all(0 <= position <= size - 1
               for position, size in zip(origin, data.shape[::-1])):
        msg = (f'The star must be in the image, but CRPIX1P and CRPIX2P in {source} are '
               f'{keywords["CRPIX1P"]:g} and {keywords["CRPIX2P"]:g}, and the image has '
               f'{data.shape[1]} x {data.shape[0]} samples: download the file again.')
        raise ValueError(msg)
    return _Image(data, origin, (keywords['CRVAL1P'], keywords['CRVAL2P']),
                  _spacing(keywords, source))


def _require_keywords(header, keys, kind, source):
    """Return header values by their keywords; raise if some have none."""
    values = {key: header_value(header, key, kind) for key in keys}
    missing = [key for key, value in values.items() if value is None]
    if missing:
        msg = (f'A PRF file needs the keywords {", ".join(keys)}, but {source} lacks '
               f'{", ".join(missing)}: pass the file as it was published.')
        raise ValueError(msg)
    return values


def _require_image(data, source):
    """Raise unless an array is a finite image with flux."""
    if data is None or data.ndim != 2:
        found = 'no data' if data is None else f'{data.ndim} axes'
        msg = (f'A PRF needs an image with two axes, but {source} has {found}: pass the file as '
               'it was published.')
        raise ValueError(msg)
    n_bad = data.size - np.count_nonzero(np.isfinite(data))
    if n_bad:
        msg = (f'A PRF image must be finite, but {n_bad} of {data.size} values in {source} are '
               'NaN or infinite: pass the file as it was published.')
        raise ValueError(msg)
    if not data.sum() > 0:
        msg = (f'A PRF image needs a sum > 0, but that of {source} is {data.sum():g}: pass the '
               'file as it was published.')
        raise ValueError(msg)


def _spacing(keywords, source):
    """Return the distance between samples, of which a whole number make a pixel."""
    spacing, other = keywords['CDELT1P'], keywords['CDELT2P']
    n_samples = round(1.0 / spacing) if spacing > 0 else 0
    if n_samples < 1 or any(abs(value * n_samples - 1.0) > SPACING_TOLERANCE
                            for value in (spacing, other)):
        msg = (f'The samples of a PRF must divide a pixel evenly, but CDELT1P and CDELT2P in '
               f'{source} are {spacing:g} and {other:g}: pass a file with the same whole number '
               'of samples per pixel along both axes.')
        raise ValueError(msg)
    # Published as 0.111111111111111.
    return 1.0 / n_samples


def _require_one_layout(layouts, sources):
    """Raise unless the shape, spacing and origin of all images are the same."""
    for source, layout in zip(sources, layouts):
        for what, first, value in zip(('shape', 'spacing', 'origin'), layouts[0], layout):
            if value != first:
                msg = ('The images of a PRF must have one shape, spacing and origin, but the '
                       f'{what} is {first} in {sources[0]} and {value} in {source}: pass '
                       'files that belong together.')
                raise ValueError(msg)


def _kepler_positions(images, name):
    """Return the columns and rows (5,) of the images, and where the centre's comes from."""
    columns, rows = np.array([image.position for image in images]).T
    try:
        centre = find_centre(columns, rows)
    except ValueError as error:
        msg = (f'A Kepler PRF file needs images at four corners and a centre, but {name} has '
               'others by its CRVAL1P and CRVAL2P: pass the file as it was published.')
        raise ValueError(msg) from error
    corners = np.arange(N_KEPLER_POSITIONS) != centre
    middle = columns[corners].mean(), rows[corners].mean()
    if np.hypot(columns[centre] - middle[0], rows[centre] - middle[1]) <= CENTRE_TOLERANCE:
        return columns, rows, 'header'
    columns[centre], rows[centre] = middle
    return columns, rows, 'mean of the corners'


def _kepler_detector(header, name):
    """Return the identity of a Kepler channel, by the header or else by the name of the file."""
    channel, module, output = (header_value(header, key, int)
                               for key in ('CHANNEL', 'MODULE', 'OUTPUT'))
    named = KEPLER_NAME.search(Path(name).name)
    if channel is None and None in (module, output) and named:
        module, output = (int(number) for number in named.groups())
    try:
        if channel is None and None not in (module, output):
            channel = module_output_to_channel(module, output)
        place = (module, output) if channel is None else channel_to_module_output(channel)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(place, (module, output))):
            raise ValueError(f'channel {channel} is module {place[0]}, output {place[1]}')
    except ValueError as error:
        msg = (f'The header of a PRF file must name one channel of Kepler, but that of {name} has '
               f'CHANNEL {channel}, MODULE {module}, OUTPUT {output}: download the file again.')
        raise ValueError(msg) from error
    return {'channel': channel, 'module': place[0], 'output': place[1]}


def _tess_paths(paths):
    """Return a list of files for what the caller passed."""
    if isinstance(paths, (str, os.PathLike)):
        folder = Path(paths).expanduser()
        if not folder.is_dir():
            return [paths]
        paths = sorted(folder.glob('tess*-prf-*.fits*'))
        if not paths:
            msg = (f'TESS PRF files are needed, but the folder {folder} has none named '
                   'tess*-prf-*.fits: check the folder.')
            raise FileNotFoundError(msg)
    paths = list(paths)
    if not paths:
        msg = 'TESS PRF files are needed, but the list is empty: pass at least one file.'
        raise ValueError(msg)
    return paths


def _read_tess_file(path, name):
    """Return the calibration of the one position that a TESS file is of."""
    with open_fits(path, 'A TESS PRF file') as hdulist:
        header = hdulist[0].header
        kind = header_value(header, 'DATATYPE', str)
        if kind != 'PRF' or not hdulist[0].is_image:
            found = 'no DATATYPE' if kind is None else f'DATATYPE {kind!r}'
            msg = ("A TESS PRF file must have the PRF as its first image, with DATATYPE 'PRF', "
                   f'but {name} has {found} there: pass a file such as '
                   'tess2018243163601-prf-4-1-row0001-col0045.fits.')
            raise ValueError(msg)
        image = _read_image(hdulist[0], name, name)
        keywords = _require_keywords(header, ['CAM', 'CCD'], float, name)
    if keywords['CAM'] not in CAMERAS or keywords['CCD'] not in CCDS:
        msg = (f'The header of a PRF file must name a camera and a CCD of TESS, 1 to 4, but that '
               f'of {name} has CAM {keywords["CAM"]:g}, CCD {keywords["CCD"]:g}: download the '
               'file again.')
        raise ValueError(msg)
    detector = {'camera': int(keywords['CAM']), 'ccd': int(keywords['CCD']),
                'first_sector': _first_sector(header, name)}
    column, row = image.position
    return _calibration('TESS', image.data[np.newaxis], np.array([column]), np.array([row]), image,
                        detector, (name,))


def _first_sector(header, name):
    """Return the first sector that a TESS file is for, 1 or 4, None if nothing tells."""
    if header_value(header, 'VERSION', str) == VERSION_FROM_SECTOR_4:
        return 4
    if header_value(header, 'DATE', str) == DATE_FROM_SECTOR_1:
        return 1
    return FIRST_SECTOR_BY_NAME.get(Path(name).name[:8])


def _require_grid(columns, rows, names):
    """Raise unless the positions of TESS files are each node of a grid once."""
    seen = {}
    for position, name in zip(zip(columns.tolist(), rows.tolist()), names):
        if position in seen:
            msg = ('Each TESS PRF file must have another position, but '
                   f'{seen[position]} and {name} are both at column {position[0]:g}, row '
                   f'{position[1]:g}: leave out one of them.')
            raise ValueError(msg)
        seen[position] = name
    missing = missing_positions(columns, rows)
    if missing:
        first = ', '.join(f'({column:g}, {row:g})' for column, row in missing[:4])
        more = ', ...' if len(missing) > 4 else ''
        msg = (f'TESS PRF files must fill a rectangular grid of positions, but of '
               f'{len(missing) + len(names)} nodes {len(missing)} are missing, at (column, row) '
               f'{first}{more}: pass these files too, or fewer columns and rows.')
        raise ValueError(msg)
