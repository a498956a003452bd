# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF files of the archive: their names, what is in them, and which ones pixels need."""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .._files import open_fits
from .calibration import detector_name, read_kepler_prf, read_tess_prf
from .channels import (
    CCDS,
    channel_to_module_output,
    module_output_to_channel,
    tess_detector,
)
from .detector import find_place

__all__ = ['PRFFile', 'kepler_prf_file', 'prf_files_of', 'tess_prf_files']

TESS_COLUMNS = (45, 557, 1069, 1580, 2092)
TESS_ROWS = (1, 513, 1025, 1536, 2048)
N_TESS_IMAGES = 2

# By the first sector that a set is for: the times in its file names, each with the last CCD,
# counted over the cameras, that has it.
TESS_TIMES = {1: {'2018243163600': 7, '2018243163601': 16},
              4: {'2019107181900': 1, '2019107181901': 9, '2019107181902': 16}}


@dataclass(frozen=True)
class PRFFile:
    """A PRF file as the archive has it.

    Parameters
    ----------
    locations : tuple of str
        Paths below the address of the archive, with forward slashes. The file
        is at the first one, or else at another.
    detector : dict
        What `PRFCalibration` must say that the file is of.
    arguments : str
        Arguments with which ``kpsf fetch-prf`` fetches the file.
    position : tuple of int, optional
        Column and row of the image in a TESS file, in pixels.
    """

    locations: tuple
    detector: dict
    arguments: str
    position: tuple | None = None

    @property
    def name(self):
        """Name of the file without folders."""
        return PurePosixPath(self.locations[0]).name

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
        parts = PurePosixPath(self.locations[0]).parts
        candidates = [Path(folder, *parts[level:]) for level in range(len(parts))]
        there = [path for path in candidates if path.is_file()]
        if not there and self.position is not None:
            there = [path for candidate in candidates for path in self._of_other_times(candidate)]
        return there[0] if there else None

    def _of_other_times(self, path):
        """Return the files of the same set whose names differ in time alone, the latest first."""
        time, _, rest = path.name.removeprefix('tess').partition('-')
        alike = re.compile(rf'tess(\d{{{len(time)}}})-{re.escape(rest)}')
        foreign = {other for first_sector, times in TESS_TIMES.items() for other in times
                   if first_sector != self.detector['first_sector']}
        matches = filter(None, (alike.fullmatch(found.name)
                                for found in path.parent.glob(f'tess*-{rest}')))
        names = [match[0] for match in matches if match[1] not in foreign]
        return [path.with_name(name) for name in sorted(names, reverse=True)]

    def read(self, path, name=None):
        """Read a file and raise ValueError unless it is this one, whole and good.

        Parameters
        ----------
        path : Path
            The file, under any name.
        name : str, optional
            What to call it in the calibration; by default ``path``. Errors
            name ``path`` in any case.

        Returns
        -------
        PRFCalibration
            What is in it.

        Raises
        ------
        ValueError
            If it is damaged, of another kind or of another detector.
        OSError
            If it cannot be opened.
        """
        calibration = (read_kepler_prf(path) if self.position is None
                       else _read_whole_tess_file(path))
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
        if name is None:
            return calibration
        # A file that lost its name may have lost what only the name told.
        known = {key: self.detector[key] if value is None else value
                 for key, value in found.items()}
        return replace(calibration, detector=known, names=(name,))


def _read_whole_tess_file(path):
    """Return the calibration in a TESS file that has all that such a file has."""
    with open_fits(path, 'A TESS PRF file') as hdulist:
        if len(hdulist) < N_TESS_IMAGES:
            # Nothing else tells that a transfer ended between the images.
            msg = (f'A TESS PRF file must have the PRF and its uncertainties, but {path} ends '
                   'after the first image: download it again.')
            raise ValueError(msg)
    return read_tess_prf([path])


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
    detector = {'channel': int(channel), 'module': module, 'output': output}
    return PRFFile((f'kepler/fpc/prf/kplr{module:02d}.{output}_2011265_prf.fits',), detector,
                   f'--channel {detector["channel"]}')


def tess_prf_files(camera, ccd, sector, column=None, row=None):
    """Describe TESS PRF files.

    Parameters
    ----------
    camera, ccd : int
        Camera and CCD, 1 to 4.
    sector : int
        Sector; one set of files is for sectors 1 to 3, another for those
        since.
    column, row : float, optional
        Place on the detector in pixels. With it only the files between which
        it lies: four, but two on a line of the grid or beyond its edge, and
        one on a node.

    Returns
    -------
    list of PRFFile
        The files, by row and then column.

    Raises
    ------
    TypeError
        If the place is not given in numbers or pixels.
    ValueError
        If there is no such camera, CCD, sector or place on it.
    """
    detector = tess_detector(camera, ccd, sector)
    camera, ccd, first_sector = detector.values()
    folder = f'tess/models/prf_fitsfiles/start_s{first_sector:04d}/cam{camera}_ccd{ccd}'
    arguments = f'--camera {camera} --ccd {ccd} --sector {int(sector)}'
    files = []
    for grid_row, grid_column in _grid_positions(column, row):
        rest = f'{camera}-{ccd}-row{grid_row:04d}-col{grid_column:04d}.fits'
        locations = tuple(f'{folder}/tess{time}-prf-{rest}' for time in _times(**detector))
        files.append(PRFFile(locations, detector, arguments, (grid_column, grid_row)))
    return files


def _times(camera, ccd, first_sector):
    """Return the times in the names of a set of files, that of the CCD first."""
    number = len(CCDS) * (camera - 1) + ccd
    times = TESS_TIMES[first_sector]
    expected = next(time for time, last in times.items() if number <= last)
    return [expected, *(time for time in times if time != expected)]


def _grid_positions(column, row):
    """Yield row and column of each TESS file around a position, or of all."""
    place = find_place('TESS', column, row)
    if place is None:
        rows, columns = TESS_ROWS, TESS_COLUMNS
    else:
        columns, rows = _around(TESS_COLUMNS, place[0]), _around(TESS_ROWS, place[1])
    return ((grid_row, grid_column) for grid_row in rows for grid_column in columns)


def _around(nodes, value):
    """Return the two nodes between which a value lies, or the one on which it does."""
    lower = max((node for node in nodes if node <= value), default=nodes[0])
    upper = min((node for node in nodes if node >= value), default=nodes[-1])
    return sorted({lower, upper})


def prf_files_of(tpf, *, whole=False):
    """Describe the PRF files that the target of a target pixel file needs.

    Parameters
    ----------
    tpf : TargetPixels
        The pixels.
    whole : bool, optional
        Whether to describe all files of a CCD of TESS, not only those around
        the target.

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
        return tess_prf_files(*detector, *(() if whole else (tpf.column + x, tpf.row + y)))
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
