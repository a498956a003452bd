# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF files in the archive: their names, and where they are found."""

import operator
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from .._configuration import conf
from .._files import open_fits
from .calibration import detector_name, read_kepler_prf, read_tess_prf
from .download import ArchiveError, download, find_cached, keep_in_cache

__all__ = ['PRFFile', 'channel_to_module_output', 'find_kepler_prf', 'find_local', 'find_prf',
           'find_tess_prf', 'kepler_prf_file', 'kepler_prf_name', 'module_output_to_channel',
           'prf_files_of', 'require_local_folders', 'tess_prf_files', 'tess_prf_names']

# The modules at the corners of the focal plane hold the fine guidance sensors, channels 85 to 88.
MODULES = (*range(2, 5), *range(6, 21), *range(22, 25))
OUTPUTS = range(1, 5)
CHANNELS = range(1, len(MODULES) * len(OUTPUTS) + 1)
CAMERAS = CCDS = range(1, 5)
SECTORS = range(1, sys.maxsize)
TESS_COLUMNS = (45, 557, 1069, 1580, 2092)
TESS_ROWS = (1, 513, 1025, 1536, 2048)
N_TESS_IMAGES = 2

# By the first sector that a set is for: the times in its file names, each with the last CCD,
# counted over the cameras, that has it.
TESS_STAMPS = {1: {'2018243163600': 7, '2018243163601': 16},
               4: {'2019107181900': 1, '2019107181901': 9, '2019107181902': 16}}


@dataclass(frozen=True)
class PRFFile:
    """A PRF file as the archive has it.

    Parameters
    ----------
    places : tuple of str
        Paths below the address of the archive. The file is at the first one,
        or else at another.
    detector : dict
        What `PRFCalibration` must say that the file is of.
    arguments : str
        Arguments with which ``kpsf fetch-prf`` fetches the file.
    position : tuple of int, optional
        Column and row of the image in a TESS file.
    """

    places: tuple
    detector: dict
    arguments: str
    position: tuple | None = None

    @property
    def name(self):
        """Name of the file without folders."""
        return PurePosixPath(self.places[0]).name

    def find_in(self, folder):
        """Find the file in a folder that is laid out like the archive, or like a part of it.

        Parameters
        ----------
        folder : Path
            The folder. The layout may begin at any level, so that the file
            itself may lie in it.

        Returns
        -------
        Path or None
            The file, unread.
        """
        parts = PurePosixPath(self.places[0]).parts
        candidates = [Path(folder, *parts[level:]) for level in range(len(parts))]
        there = [path for path in candidates if path.is_file()]
        if not there and self.position is not None:
            there = [path for candidate in candidates for path in self._of_other_times(candidate)]
        return there[0] if there else None

    def _of_other_times(self, path):
        """Return the files of the same set whose names differ in time alone, the latest first."""
        time, _, rest = path.name.removeprefix('tess').partition('-')
        alike = re.compile(rf'tess(\d{{{len(time)}}})-{re.escape(rest)}')
        foreign = {stamp for first_sector, stamps in TESS_STAMPS.items() for stamp in stamps
                   if first_sector != self.detector['first_sector']}
        matches = filter(None, (alike.fullmatch(found.name)
                                for found in path.parent.glob(f'tess*-{rest}')))
        names = [match[0] for match in matches if match[1] not in foreign]
        return [path.with_name(name) for name in sorted(names, reverse=True)]

    def check(self, path):
        """Read a file and raise ValueError unless it is this one, whole and good.

        Parameters
        ----------
        path : Path
            The file, under any name.

        Raises
        ------
        ValueError
            If it is damaged, of another kind or of another detector.
        OSError
            If it cannot be opened.
        """
        if self.position is None:
            calibration = read_kepler_prf(path, str(path))
        else:
            calibration = _read_whole_tess_file(path)
        found = calibration.detector
        if any(found[key] not in (None, value) for key, value in self.detector.items()):
            msg = (f'{path} must be of {detector_name(self.detector)}, but its header says '
                   f'{detector_name(found)}: put the right file there.')
            raise ValueError(msg)
        position = calibration.columns[0], calibration.rows[0]
        if self.position is not None and position != self.position:
            msg = (f'{path} must be of column {self.position[0]}, row {self.position[1]}, but its '
                   f'header says {position[0]:g}, {position[1]:g}: put the right file there.')
            raise ValueError(msg)


def _read_whole_tess_file(path):
    """Return the calibration in a TESS file that has all that such a file has."""
    with open_fits(path, 'A TESS PRF file') as hdulist:
        if len(hdulist) < N_TESS_IMAGES:
            # Nothing else tells that a transfer ended between the images.
            msg = (f'A TESS PRF file must have the PRF and its uncertainties, but {path} ends '
                   'after the first image: download it again.')
            raise ValueError(msg)
    return read_tess_prf([path], [str(path)])


def channel_to_module_output(channel):
    """Return the module and output of a Kepler channel.

    Parameters
    ----------
    channel : int
        Channel, 1 to 84.

    Returns
    -------
    module, output : int
        Module and output.

    Raises
    ------
    ValueError
        If there is no such channel.

    Examples
    --------
    >>> from kpsf.prf.archive import channel_to_module_output
    >>> channel_to_module_output(20)
    (7, 4)
    """
    number = _require_one_of(channel, CHANNELS, 'channel', '1 to 84') - 1
    return MODULES[number // len(OUTPUTS)], OUTPUTS[number % len(OUTPUTS)]


def module_output_to_channel(module, output):
    """Return the Kepler channel of a module and an output.

    Parameters
    ----------
    module : int
        Module, 2 to 24 without 5 and 21.
    output : int
        Output, 1 to 4.

    Returns
    -------
    int
        Channel.

    Raises
    ------
    ValueError
        If there is no such module or output.
    """
    module = _require_one_of(module, MODULES, 'module', '2 to 4, 6 to 20 and 22 to 24')
    output = _require_one_of(output, OUTPUTS, 'output', '1 to 4')
    return len(OUTPUTS) * MODULES.index(module) + output


def kepler_prf_name(module, output):
    """Return the path of a Kepler PRF file below the address of the archive.

    Parameters
    ----------
    module, output : int
        Module and output.

    Returns
    -------
    str
        Path with forward slashes.

    Raises
    ------
    ValueError
        If there is no such module or output.

    Examples
    --------
    >>> from kpsf.prf.archive import kepler_prf_name
    >>> kepler_prf_name(7, 4)
    'kepler/fpc/prf/kplr07.4_2011265_prf.fits'
    """
    module_output_to_channel(module, output)
    return f'kepler/fpc/prf/kplr{module:02d}.{output}_2011265_prf.fits'


def tess_prf_names(camera, ccd, sector, column=None, row=None):
    """Return the paths of TESS PRF files below the address of the archive.

    Parameters
    ----------
    camera, ccd : int
        Camera and CCD, 1 to 4.
    sector : int
        Sector; one set of files is for sectors 1 to 3, another for those
        since.
    column, row : float, optional
        Detector position. With it only the files between which it lies: four,
        but two on a line of the grid or beyond its edge, and one on a node.

    Returns
    -------
    list of str
        Paths with forward slashes.

    Raises
    ------
    ValueError
        If there is no such camera, CCD, sector or position.
    """
    return [file.places[0] for file in tess_prf_files(camera, ccd, sector, column, row)]


def kepler_prf_file(channel):
    """Describe the PRF file of a Kepler channel.

    Parameters
    ----------
    channel : int
        Channel, 1 to 84.

    Returns
    -------
    PRFFile
        The file.

    Raises
    ------
    ValueError
        If there is no such channel.
    """
    module, output = channel_to_module_output(channel)
    return PRFFile((kepler_prf_name(module, output),),
                   {'channel': int(channel), 'module': module, 'output': output},
                   f'--channel {channel}')


def tess_prf_files(camera, ccd, sector, column=None, row=None):
    """Describe TESS PRF files.

    Parameters
    ----------
    camera, ccd, sector, column, row
        As in `tess_prf_names`.

    Returns
    -------
    list of PRFFile
        The files, by row and then column.

    Raises
    ------
    ValueError
        If there is no such camera, CCD, sector or position.
    """
    camera = _require_one_of(camera, CAMERAS, 'camera', '1 to 4')
    ccd = _require_one_of(ccd, CCDS, 'ccd', '1 to 4')
    sector = _require_one_of(sector, SECTORS, 'sector', '1 and more')
    first_sector = max(first for first in TESS_STAMPS if first <= sector)
    detector = {'camera': camera, 'ccd': ccd, 'first_sector': first_sector}
    folder = f'tess/models/prf_fitsfiles/start_s{first_sector:04d}/cam{camera}_ccd{ccd}'
    files = []
    for grid_row, grid_column in _grid_positions(column, row):
        position = f'{camera}-{ccd}-row{grid_row:04d}-col{grid_column:04d}.fits'
        places = tuple(f'{folder}/tess{stamp}-prf-{position}' for stamp in _stamps(**detector))
        files.append(PRFFile(places, detector,
                             f'--camera {camera} --ccd {ccd} --sector {sector}',
                             (grid_column, grid_row)))
    return files


def _require_one_of(value, allowed, name, described):
    """Return a value as an int; raise unless it is one of those allowed."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number not in allowed:
        msg = (f'{name} must be a whole number, {described}, but it is {value!r}: take it from '
               'the header of the target pixel file.')
        raise ValueError(msg)
    return number


def _stamps(camera, ccd, first_sector):
    """Return the times in the names of a set of files, that of the CCD first."""
    number = len(CCDS) * (camera - 1) + ccd
    stamps = TESS_STAMPS[first_sector]
    expected = next(stamp for stamp, last in stamps.items() if number <= last)
    return [expected, *(stamp for stamp in stamps if stamp != expected)]


def _grid_positions(column, row):
    """Yield row and column of each TESS file around a position, or of all."""
    if column is None and row is None:
        rows, columns = TESS_ROWS, TESS_COLUMNS
    elif column is None or row is None or not np.all(np.isfinite([column, row])):
        msg = (f'column and row must be two finite numbers, but they are {column} and {row}: '
               'pass both, or neither for the files of all positions.')
        raise ValueError(msg)
    else:
        rows, columns = _around(TESS_ROWS, row), _around(TESS_COLUMNS, column)
    return ((grid_row, grid_column) for grid_row in rows for grid_column in columns)


def _around(nodes, value):
    """Return the two nodes between which a value lies, or the one on which it does."""
    lower = max((node for node in nodes if node <= value), default=nodes[0])
    upper = min((node for node in nodes if node >= value), default=nodes[-1])
    return sorted({lower, upper})


def prf_files_of(tpf):
    """Describe the PRF files that the target of a target pixel file needs.

    Parameters
    ----------
    tpf : TargetPixels
        The pixels.

    Returns
    -------
    list of PRFFile
        One for Kepler and K2; those around the target for TESS.

    Raises
    ------
    ValueError
        If the header does not tell the detector.
    """
    if tpf.mission == 'TESS':
        detector = _require_known(tpf, 'camera', 'ccd', 'sector')
        x, y = tpf.target_position
        return tess_prf_files(*detector, tpf.column + x, tpf.row + y)
    if tpf.meta.get('channel') is not None:
        return [kepler_prf_file(tpf.meta['channel'])]
    detector = _require_known(tpf, 'module', 'output')
    return [kepler_prf_file(module_output_to_channel(*detector))]


def _require_known(tpf, *names):
    """Return what the header of a target pixel file says, or raise."""
    values = [tpf.meta.get(name) for name in names]
    missing = [name.upper() for name, value in zip(names, values) if value is None]
    if missing:
        msg = (f'To find the PRF of {tpf.target}, the header of its target pixel file must have '
               f'{", ".join(names).upper()}, but it lacks {", ".join(missing)}: choose the PRF '
               'files yourself.')
        raise ValueError(msg)
    return values


def find_kepler_prf(channel):
    """Find the PRF file of a Kepler channel, or download it.

    Parameters
    ----------
    channel : int
        Channel, 1 to 84.

    Returns
    -------
    Path
        A file that was read and is good. In the cache its name is another.

    Raises
    ------
    FileNotFoundError
        If it is neither in the folders of ``kpsf.conf.prf_path`` nor in the
        cache and cannot be downloaded, or if one of the folders does not
        exist.
    ValueError
        If there is no such channel, or a file in the folders is damaged.

    See Also
    --------
    find_prf : Where the file is looked for.
    """
    return find_prf(kepler_prf_file(channel))


def find_tess_prf(camera, ccd, sector, column=None, row=None):
    """Find PRF files of a TESS CCD, or download them.

    Parameters
    ----------
    camera, ccd, sector, column, row
        As in `tess_prf_names`.

    Returns
    -------
    list of Path
        Files that were read and are good, in the order of `tess_prf_names`.
        In the cache their names are others.

    Raises
    ------
    FileNotFoundError
        If one of them is neither in the folders of ``kpsf.conf.prf_path``
        nor in the cache and cannot be downloaded, or if one of the folders
        does not exist.
    ValueError
        If there is no such camera, CCD, sector or position, or a file in the
        folders is damaged.

    See Also
    --------
    find_prf : Where the files are looked for.
    """
    return [find_prf(file) for file in tess_prf_files(camera, ccd, sector, column, row)]


def find_prf(file):
    """Find a PRF file: in local folders, in the cache, in the archive.

    The folders of ``kpsf.conf.prf_path`` are searched in their order. What
    is downloaded from ``kpsf.conf.archive_url`` enters astropy's cache for
    kpsf only after it was read as the file that it should be.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    Path
        A file that was read and is good.

    Raises
    ------
    FileNotFoundError
        If there is none and it cannot be downloaded, or if one of the
        folders does not exist.
    ValueError
        If a file in the folders is damaged.
    """
    path = find_local(file) or find_cached(file)[1]
    if path is not None:
        return path
    try:
        place, path = download(file)
    except ArchiveError as error:
        raise FileNotFoundError(_not_found(file, error)) from error
    try:
        return keep_in_cache(file, place, path)
    except OSError as error:
        warnings.warn(f'{error}; until then it is downloaded in every session.',
                      AstropyUserWarning)
        return path


def find_local(file):
    """Find a PRF file in the local folders.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    Path or None
        The file in the first folder of ``kpsf.conf.prf_path`` that has it,
        which was read and is good.

    Raises
    ------
    FileNotFoundError
        If one of the folders does not exist.
    ValueError
        If that file is damaged.
    """
    for folder in _folders():
        path = file.find_in(folder)
        if path is not None:
            file.check(path)
            return path
    return None


def require_local_folders():
    """Raise unless all folders of ``kpsf.conf.prf_path`` exist.

    Raises
    ------
    FileNotFoundError
        If one of them does not exist.
    TypeError
        If it is no name of a folder.
    """
    list(_folders())


def _folders():
    """Yield the folders of ``kpsf.conf.prf_path``, up to one that does not exist."""
    for entry in filter(None, conf.prf_path or []):
        if not isinstance(entry, (str, os.PathLike)):
            msg = (f'kpsf.conf.prf_path must list folders, but it has {entry!r}: list their '
                   'names.')
            raise TypeError(msg)
        folder = Path(entry).expanduser()
        if not folder.is_dir():
            msg = (f'kpsf.conf.prf_path must list folders, but there is no folder {folder}: '
                   'create it, or take it off the list.')
            raise FileNotFoundError(msg)
        yield folder


def _not_found(file, error):
    """Say what was missing, where it was looked for and what to do."""
    folders = ', '.join(map(str, _folders())) or 'which lists none'
    return (f'The PRF of {detector_name(file.detector)} needs {file.name}, but it is neither in '
            f'the folders of kpsf.conf.prf_path ({folders}) nor in the cache, and it cannot be '
            f'downloaded from {error.url} ({error.reason}): run `kpsf fetch-prf {file.arguments}` '
            'where there is a network, with --outdir DIR if that is another machine, and add DIR '
            'to kpsf.conf.prf_path.')
