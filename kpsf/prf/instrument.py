# Licensed under a 3-clause BSD style license - see LICENSE
"""`KeplerPRF` and `TessPRF`: the instruments' own PRF at a place on the detector."""

import os

import numpy as np

from .._validation import unpack_pair
from ..tpf import TargetPixels, read_tpf
from .calibration import detector_name, join_tess_prf, read_kepler_prf, read_tess_prf
from .channels import OUTPUTS, module_output_to_channel
from .detector import find_place, require_on_detector
from .files import kepler_prf_file, prf_files_of, tess_prf_files
from .model import DetectorPRF
from .weights import find_centre

__all__ = ['KeplerPRF', 'TessPRF', 'instrument_prf']


class KeplerPRF(DetectorPRF):
    """PRF of Kepler and K2 at a place on a channel.

    The calibration has images at the four corners and at the centre of the
    channel. Between them, they are interpolated linearly in the four
    triangles of two corners and the centre; beyond them, the nearest place
    between them counts.

    Parameters
    ----------
    calibration : PRFCalibration
        What `kpsf.prf.read_kepler_prf` returns. `from_file`, `from_tpf` and
        `from_archive` read it for you.
    column, row : float or `~astropy.units.Quantity`
        Place on the detector, columns 0 to 1131 and rows 0 to 1069 as in
        target pixel files. It sets the shape alone, not the position.
    interpolate : {'barycentric', 'nearest', 'inverse-distance'}, optional
        How to interpolate between the positions; other than the first only
        for comparison with old work.
    normalize : {'phase', 'mean', None}, optional
        As for `TabulatedPRF`.
    clip_negative : bool, optional
        Whether to set samples below zero to zero before normalising.
    flux : float, optional
        Total flux in the support, in the unit of the data.
    x_0, y_0 : float, optional
        Position of the star in pixels of the stamp.
    x_scale, y_scale : float, optional
        Factors on the widths along x and y (focus), fixed unless freed.
    theta : float or `~astropy.units.Quantity`, optional
        Angle of rotation (roll) in radians, counterclockwise, fixed unless
        freed.
    **kwargs : dict, optional
        Passed to `~astropy.modeling.Model`, for example ``name``, ``fixed``,
        ``bounds``.

    Raises
    ------
    TypeError
        If the calibration or the place are of another kind, or if an option
        is passed that the calibration tells: origin, spacing, fill_value.
    ValueError
        If the calibration is of another mission, the position off the
        detector or an option unknown.

    See Also
    --------
    DetectorPRF : `~DetectorPRF.from_tpf`, `~DetectorPRF.at` and the attributes.
    TessPRF : The same for TESS.
    TabulatedPRF : The same for any image.

    References
    ----------
    .. [1] Bryson, S. T. et al. 2010, ApJ, 713, L97.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import KeplerPRF
    >>> from kpsf.simulate import simulate_kepler_prf
    >>> path = simulate_kepler_prf('kplr07.4_2011265_prf.fits', channel=20)
    >>> prf = KeplerPRF.from_file(path, column=300, row=700, flux=1000.0, x_0=5.2, y_0=4.9)
    >>> prf.detector
    {'channel': 20, 'module': 7, 'output': 4}
    >>> y, x = np.mgrid[:11, :11]
    >>> print(f'{prf(x, y).sum():.3f}')
    1000.000
    >>> corner = prf.at(column=12, row=20)
    >>> print(corner(5, 5) < prf(5, 5))
    True
    """

    _mission = 'Kepler'

    @classmethod
    def from_file(cls, path, column=None, row=None, **kwargs):
        """Make the model from a calibration file.

        Parameters
        ----------
        path : str or path-like
            File of a channel, for example ``kplr07.4_2011265_prf.fits``.
        column, row : float or `~astropy.units.Quantity`, optional
            Place on the detector in pixels, both or neither; by default the
            centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If the file is bad or the position off the detector.
        OSError
            If the file cannot be opened.
        """
        place = find_place(cls._mission, column, row)
        return cls._at_place(read_kepler_prf(path), place, kwargs)

    @classmethod
    def from_files(cls, paths, column=None, row=None, **kwargs):
        """Make the model from a list of one calibration file.

        A channel has a single file; `from_file` does the same.

        Parameters
        ----------
        paths : list of str or path-like
            One file.
        column, row : float or `~astropy.units.Quantity`, optional
            Place on the detector in pixels, both or neither; by default the
            centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If there are more files, one is bad or the position is off the
            detector.
        OSError
            If the file cannot be opened.
        """
        return cls.from_file(_only_one(paths), column, row, **kwargs)

    @classmethod
    def from_archive(cls, detector, column=None, row=None, **kwargs):
        """Make the model from the file of the archive.

        It is looked for in the folders of ``kpsf.conf.prf_path``, then in
        the cache, then downloaded.

        Parameters
        ----------
        detector : int or tuple of int
            Channel, 1 to 84, or ``(module, output)``.
        column, row : float or `~astropy.units.Quantity`, optional
            Place on the detector in pixels, both or neither; by default the
            centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If there is no such channel or the position is off the detector.
        OSError
            If the file is nowhere to be found.

        Examples
        --------
        >>> from kpsf import KeplerPRF
        >>> prf = KeplerPRF.from_archive((7, 4), 300, 700)  # doctest: +SKIP
        """
        is_pair = np.ndim(detector) > 0
        hint = ''
        if not is_pair and isinstance(column, int) and column in OUTPUTS:
            hint = f', or pass ({detector}, {column}) for this module and output'
        place = find_place(cls._mission, column, row, hint)
        channel = detector
        if is_pair:
            channel = module_output_to_channel(*unpack_pair(detector, 'Module and output'))
        return cls._at_place(cls._find([kepler_prf_file(channel)]), place, kwargs)

    @classmethod
    def _at_place(cls, calibration, place, kwargs):
        """Return the model at a place, None standing for that of the centre."""
        if place is None:
            centre = find_centre(calibration.columns, calibration.rows)
            place = calibration.columns[centre], calibration.rows[centre]
        return cls(calibration, *place, **kwargs)

    @staticmethod
    def _join(calibrations):
        """Return the calibration that is in the file of a channel."""
        return calibrations[0]

    @staticmethod
    def _read(paths):
        """Return the calibration in a file, or in a list of one."""
        return read_kepler_prf(_only_one(paths))

    @classmethod
    def _read_folder(cls, folder, tpf):
        """Return the calibration for pixels from a folder."""
        file, = prf_files_of(tpf)
        path = file.find_in(folder)
        if path is None:
            msg = (f'The PRF of {detector_name(file.detector)} needs {file.name}, but it is '
                   f'neither in the folder {folder} nor where the archive has it below: pass the '
                   'file, or another folder.')
            raise FileNotFoundError(msg)
        return read_kepler_prf(path)


class TessPRF(DetectorPRF):
    """PRF of TESS at a place on a CCD.

    The calibration has images on a grid of 5 x 5 positions, a file each.
    Between them, they are interpolated bilinearly; beyond them, the nearest
    place between them counts. Of a part of the grid this is true too: for
    a place elsewhere read the files around it.

    Parameters
    ----------
    calibration : PRFCalibration
        What `kpsf.prf.read_tess_prf` returns. `from_files`, `from_tpf` and
        `from_archive` read it for you.
    column, row : float or `~astropy.units.Quantity`
        Place on the detector, columns 1 to 2136 and rows 1 to 2078 as in
        target pixel files, the leading 44 virtual columns counted. It sets
        the shape alone, not the position.
    interpolate : {'bilinear', 'nearest', 'inverse-distance'}, optional
        How to interpolate between the positions; other than the first only
        for comparison with old work.
    normalize : {'phase', 'mean', None}, optional
        As for `TabulatedPRF`.
    clip_negative : bool, optional
        Whether to set samples below zero to zero before normalising.
    flux : float, optional
        Total flux in the support, in the unit of the data.
    x_0, y_0 : float, optional
        Position of the star in pixels of the stamp.
    x_scale, y_scale : float, optional
        Factors on the widths along x and y (focus), fixed unless freed.
    theta : float or `~astropy.units.Quantity`, optional
        Angle of rotation (roll) in radians, counterclockwise, fixed unless
        freed.
    **kwargs : dict, optional
        Passed to `~astropy.modeling.Model`, for example ``name``, ``fixed``,
        ``bounds``.

    Raises
    ------
    TypeError
        If the calibration or the place are of another kind, or if an option
        is passed that the calibration tells: origin, spacing, fill_value.
    ValueError
        If the calibration is of another mission, the position off the
        detector or an option unknown.

    See Also
    --------
    DetectorPRF : `~DetectorPRF.from_tpf`, `~DetectorPRF.at` and the attributes.
    KeplerPRF : The same for Kepler.
    TabulatedPRF : The same for any image.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import TessPRF
    >>> from kpsf.simulate import simulate_tess_prf
    >>> paths = simulate_tess_prf('prf', camera=4, ccd=1, sector=1)
    >>> prf = TessPRF.from_files(paths, 300, 700, flux=1000.0, x_0=6.2, y_0=5.9)
    >>> prf.detector
    {'camera': 4, 'ccd': 1, 'first_sector': 1}
    >>> y, x = np.mgrid[:13, :13]
    >>> print(f'{prf(x, y).sum():.3f}')
    1000.000
    """

    _mission = 'TESS'

    @classmethod
    def from_file(cls, path, column=None, row=None, **kwargs):
        """Make the model from one calibration file, without interpolation.

        Parameters
        ----------
        path : str or path-like
            File of one position.
        column, row : float or `~astropy.units.Quantity`, optional
            Place on the detector in pixels, both or neither; by default that
            of the file.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If the file is bad or the position off the detector.
        OSError
            If the file cannot be opened.
        """
        place = find_place(cls._mission, column, row)
        calibration = read_tess_prf([path])
        place = (calibration.columns[0], calibration.rows[0]) if place is None else place
        return cls(calibration, *place, **kwargs)

    @classmethod
    def from_files(cls, paths, column, row, **kwargs):
        """Make the model from the calibration files of several positions.

        Parameters
        ----------
        paths : list of str or path-like, str or path-like
            Files of one CCD and range of sectors, in any order: all 25, or
            any full rectangle of positions such as the four around the
            place. A folder stands for all PRF files in it.
        column, row : float or `~astropy.units.Quantity`
            Place on the detector in pixels.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If a file is bad, they do not belong together or the position is
            off the detector.
        OSError
            If a file cannot be opened.
        """
        return cls(cls._read(paths), column, row, **kwargs)

    @classmethod
    def from_archive(cls, detector, column, row, **kwargs):
        """Make the model from the files of the archive.

        The four around the place are looked for in the folders of
        ``kpsf.conf.prf_path``, then in the cache, then downloaded.

        Parameters
        ----------
        detector : tuple of int
            Camera, CCD and sector.
        column, row : float or `~astropy.units.Quantity`
            Place on the detector in pixels.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If there is no such detector or the position is off it.
        OSError
            If a file is nowhere to be found.

        Examples
        --------
        >>> from kpsf import TessPRF
        >>> prf = TessPRF.from_archive((4, 1, 1), 300, 700)  # doctest: +SKIP
        """
        if np.shape(detector) != (3,):
            msg = (f'The detector of TESS must be camera, CCD and sector, but found {detector!r}: '
                   'pass for example (4, 1, 1).')
            raise ValueError(msg)
        column, row = require_on_detector(cls._mission, column, row)
        calibration = cls._find(tess_prf_files(*detector, column, row))
        return cls(calibration, column, row, **kwargs)

    @staticmethod
    def _join(calibrations):
        """Return the calibration of all positions."""
        return join_tess_prf(calibrations)

    @staticmethod
    def _read(paths):
        """Return the calibration in a list of files, in one file or in a folder."""
        return read_tess_prf(paths)

    @classmethod
    def _read_folder(cls, folder, tpf):
        """Return the calibration for pixels from a folder, of the whole CCD if it has that."""
        for whole in (True, False):
            try:
                files = prf_files_of(tpf, whole=whole)
            except ValueError:
                # The pixels do not tell the detector; the files of the folder will do.
                break
            paths = [file.find_in(folder) for file in files]
            if None not in paths:
                return cls._read(paths)
        return cls._read(folder)


def _only_one(paths):
    """Return a path, or the one in a list."""
    if isinstance(paths, (str, os.PathLike)):
        return paths
    paths = list(paths)
    if len(paths) != 1:
        msg = ('KeplerPRF needs one calibration file, that of the channel, but found '
               f'{len(paths)}: pass one of them.')
        raise ValueError(msg)
    return paths[0]


def instrument_prf(tpf, **kwargs):
    """Make the PRF model of the instrument that took some pixels.

    Parameters
    ----------
    tpf : TargetPixels, str, path-like or what else `read_tpf` reads
        Pixels of Kepler, K2 or TESS.
    **kwargs : dict, optional
        Arguments of `KeplerPRF.from_tpf`: ``path``, ``force`` and those of
        the model.

    Returns
    -------
    KeplerPRF or TessPRF
        The model for the target, at the position in the stamp that the
        header predicts.

    Raises
    ------
    TypeError
        If ``tpf`` is nothing that `read_tpf` reads, or an argument of the
        model is of the wrong type.
    ValueError
        If the calibration belongs to another detector than the pixels, the
        pixels do not say to which they belong, or a file is bad.
    OSError
        If a file cannot be opened or found.
    """
    tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
    model = TessPRF if tpf.mission == 'TESS' else KeplerPRF
    return model.from_tpf(tpf, **kwargs)
