# Licensed under a 3-clause BSD style license - see LICENSE
"""`KeplerPRF` and `TessPRF`: the instruments' own PRF at a place on the detector."""

import os

import numpy as np

from .._validation import unpack_pair
from ..models import TabulatedPRF
from ..tpf import TargetPixels, read_tpf
from .archive import (
    find_prf,
    kepler_prf_file,
    module_output_to_channel,
    prf_files_of,
    tess_prf_files,
)
from .calibration import detector_name, read_kepler_prf, read_tess_prf
from .detector import (
    require_calibration,
    require_mission,
    require_on_detector,
    require_same_detector,
    warn_if_far,
)
from .weights import find_centre

__all__ = ['KeplerPRF', 'TessPRF', 'instrument_prf']


class _DetectorPRF(TabulatedPRF):
    """What the PRFs of Kepler and TESS have in common."""

    _mission = None

    def __init__(self, calibration, column, row, *, interpolate=None, normalize='phase',
                 clip_negative=False, flux=1.0, x_0=0.0, y_0=0.0, x_scale=1.0, y_scale=1.0,
                 theta=0.0, **kwargs):
        require_calibration(calibration, self._mission)
        self._calibration = calibration
        self._column, self._row = require_on_detector(self._mission, column, row)
        warn_if_far(calibration, self._column, self._row)
        self._interpolate = calibration.interpolations[0] if interpolate is None else interpolate
        self._is_forced = False
        super().__init__(calibration.image(column, row, self._interpolate), calibration.spacing,
                         origin=calibration.origin, normalize=normalize,
                         clip_negative=clip_negative, flux=flux, x_0=x_0, y_0=y_0,
                         x_scale=x_scale, y_scale=y_scale, theta=theta, **kwargs)

    @classmethod
    def from_image_psf(cls, psf, **kwargs):
        """Not possible: an image alone does not know the detector.

        Parameters
        ----------
        psf : `~photutils.psf.ImagePSF`
            Model.
        **kwargs : dict, optional
            Options of `TabulatedPRF`.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(f'{cls.__name__} needs calibration files, but found a '
                        f'{type(psf).__name__}: use TabulatedPRF.from_image_psf.')

    @classmethod
    def from_tpf(cls, tpf, path=None, force=False, **kwargs):
        """Make the model for the target of a target pixel file.

        Parameters
        ----------
        tpf : TargetPixels, str, path-like or what else `read_tpf` reads
            Pixels: they tell the detector, the place on it, and where the
            star is in the stamp.
        path : str, path-like or list of these, optional
            Calibration file or files. Default: those of the detector from
            the folders in ``kpsf.conf.prf_path``, from the cache or from the
            archive.
        force : bool, optional
            Whether to take files of another detector all the same.
        **kwargs : dict, optional
            More arguments of the model, for example ``flux``.

        Returns
        -------
        KeplerPRF or TessPRF
            The model, with ``x_0, y_0`` at the position that the header
            predicts, in pixels of the stamp.

        Raises
        ------
        ValueError
            If the calibration belongs to another detector than the pixels,
            the pixels do not say to which they belong, or a file is bad.
        OSError
            If a file cannot be opened or found.
        """
        tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
        require_mission(cls._mission, tpf)
        x_0, y_0 = tpf.target_position
        column, row = require_on_detector(cls._mission, tpf.column + x_0, tpf.row + y_0)
        calibration = cls._find(prf_files_of(tpf)) if path is None else cls._read(path)
        kwargs = {'x_0': x_0, 'y_0': y_0, **kwargs}
        model = cls(calibration, column, row, **kwargs)
        model._is_forced = bool(force)
        require_same_detector(model, tpf)
        return model

    @classmethod
    def _find(cls, files):
        """Return the calibration in files of the archive, each a `PRFFile`."""
        paths = [find_prf(file) for file in files]
        # In the cache, files have lost their names.
        names = [path if path.name.startswith(('kplr', 'tess')) else file.name
                 for path, file in zip(paths, files)]
        return cls._read(paths, names=names)

    def at(self, column, row):
        """Return the same model for another place on the detector.

        Parameters
        ----------
        column, row : float
            Detector position.

        Returns
        -------
        KeplerPRF or TessPRF
            A new model with the same calibration, options and parameters;
            ``x_0, y_0`` too are as they were.

        Raises
        ------
        ValueError
            If the position is off the detector.
        """
        there = type(self)(self.calibration, column, row, interpolate=self.interpolate,
                           normalize=self.normalize, clip_negative=self.clip_negative)
        model = self.copy()
        model._table, model._column, model._row = there._table, there._column, there._row
        return model

    def _options(self):
        """Return what the PRF is made of besides its parameters, by name."""
        options = {'detector': detector_name(self.detector), 'column': round(self.column, 3),
                   'row': round(self.row, 3), 'interpolate': self.interpolate,
                   'normalize': self.normalize, 'clip_negative': self.clip_negative}
        clamped = self.calibration.clamp(self.column, self.row)
        if clamped != (self.column, self.row):
            options['clamped_to'] = clamped
        return options | ({'is_forced': True} if self.is_forced else {})

    @property
    def calibration(self):
        """Images and positions, as `PRFCalibration`."""
        return self._calibration

    @property
    def column(self):
        """Detector column for which the PRF is."""
        return self._column

    @property
    def row(self):
        """Detector row for which the PRF is."""
        return self._row

    @property
    def interpolate(self):
        """How the PRF was interpolated between the calibrated positions."""
        return self._interpolate

    @property
    def detector(self):
        """Identity of the detector, a dict."""
        return dict(self.calibration.detector)

    @property
    def is_forced(self):
        """Whether the PRF may be used for pixels of another detector."""
        return self._is_forced


class KeplerPRF(_DetectorPRF):
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
    column, row : float
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
        Total flux in the support.
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
    ValueError
        If the calibration is of another mission, the position off the
        detector or an option unknown.

    See Also
    --------
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
        column, row : float, optional
            Place on the detector; by default the centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        ValueError
            If the file is bad or the position off the detector.
        OSError
            If the file cannot be opened.
        """
        return cls._at_position(cls._read(path), column, row, kwargs)

    @classmethod
    def from_files(cls, paths, column=None, row=None, **kwargs):
        """Make the model from a list of one calibration file.

        A channel has a single file; `from_file` does the same.

        Parameters
        ----------
        paths : list of str or path-like
            One file.
        column, row : float, optional
            Place on the detector; by default the centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        ValueError
            If there are more files, one is bad or the position is off the
            detector.
        OSError
            If the file cannot be opened.
        """
        return cls.from_file(paths, column, row, **kwargs)

    @classmethod
    def from_archive(cls, detector, column=None, row=None, **kwargs):
        """Make the model from the file of the archive.

        It is looked for in the folders of ``kpsf.conf.prf_path``, then in
        the cache, then downloaded.

        Parameters
        ----------
        detector : int or tuple of int
            Channel, 1 to 84, or ``(module, output)``.
        column, row : float, optional
            Place on the detector; by default the centre of the channel.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        KeplerPRF
            The model.

        Raises
        ------
        ValueError
            If there is no such channel or the position is off the detector.
        OSError
            If the file is nowhere to be found.

        Examples
        --------
        >>> from kpsf import KeplerPRF
        >>> prf = KeplerPRF.from_archive((7, 4), 300, 700)  # doctest: +SKIP
        """
        channel = detector
        if np.ndim(detector):
            channel = module_output_to_channel(*unpack_pair(detector, 'Module and output'))
        return cls._at_position(cls._find([kepler_prf_file(channel)]), column, row, kwargs)

    @classmethod
    def _at_position(cls, calibration, column, row, kwargs):
        """Return the model at a position, None standing for that of the centre."""
        centre = find_centre(calibration.columns, calibration.rows)
        column = calibration.columns[centre] if column is None else column
        row = calibration.rows[centre] if row is None else row
        return cls(calibration, column, row, **kwargs)

    @staticmethod
    def _read(paths, names=(None,)):
        """Return the calibration in a file, or in a list of one."""
        if not isinstance(paths, (str, os.PathLike)):
            paths = list(paths)
            if len(paths) != 1:
                msg = ('KeplerPRF needs one calibration file, that of the channel, but found '
                       f'{len(paths)}: pass one of them.')
                raise ValueError(msg)
            paths = paths[0]
        return read_kepler_prf(paths, name=names[0])


class TessPRF(_DetectorPRF):
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
    column, row : float
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
        Total flux in the support.
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
    ValueError
        If the calibration is of another mission, the position off the
        detector or an option unknown.

    See Also
    --------
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
        column, row : float, optional
            Place on the detector; by default that of the file.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
        ValueError
            If the file is bad or the position off the detector.
        OSError
            If the file cannot be opened.
        """
        calibration = read_tess_prf([path])
        column = calibration.columns[0] if column is None else column
        row = calibration.rows[0] if row is None else row
        return cls(calibration, column, row, **kwargs)

    @classmethod
    def from_files(cls, paths, column, row, **kwargs):
        """Make the model from the calibration files of several positions.

        Parameters
        ----------
        paths : list of str or path-like, str or path-like
            Files of one CCD and range of sectors, in any order: all 25, or
            any full rectangle of positions such as the four around the
            place. A folder stands for all PRF files in it.
        column, row : float
            Place on the detector.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
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
        column, row : float
            Place on the detector.
        **kwargs : dict, optional
            More arguments of the model.

        Returns
        -------
        TessPRF
            The model.

        Raises
        ------
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
    def _read(paths, names=None):
        """Return the calibration in a list of files, in one file or in a folder."""
        return read_tess_prf(paths, names=names)


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
    ValueError
        If the calibration belongs to another detector than the pixels, the
        pixels do not say to which they belong, or a file is bad.
    OSError
        If a file cannot be opened or found.
    """
    tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
    model = TessPRF if tpf.mission == 'TESS' else KeplerPRF
    return model.from_tpf(tpf, **kwargs)
