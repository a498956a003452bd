# Licensed under a 3-clause BSD style license - see LICENSE
"""`DetectorPRF`: the PRF at a place on a detector, whatever the instrument."""

import os
from pathlib import Path

from ..models import TabulatedPRF
from ..tpf import TargetPixels, read_tpf
from .archive import find_prf
from .calibration import detector_name
from .detector import (
    require_calibration,
    require_mission,
    require_on_detector,
    require_same_detector,
    warn_if_far,
)
from .files import prf_files_of

__all__ = ['DetectorPRF']


class DetectorPRF(TabulatedPRF):
    """PRF at a place on a detector: what `KeplerPRF` and `TessPRF` have in common.

    It is no model of its own: make one of these two. Both have `from_tpf`,
    `at` and the attributes below.

    Parameters
    ----------
    calibration : PRFCalibration
        Images of the PRF at some positions of the detector.
    column, row : float or `~astropy.units.Quantity`
        Place on the detector in pixels, for which the images are interpolated.
    interpolate : str, optional
        How to interpolate, one of ``calibration.interpolations``.
    normalize, clip_negative, flux, x_0, y_0, x_scale, y_scale, theta : optional
        As for `TabulatedPRF`.
    **kwargs : dict, optional
        Passed to `~astropy.modeling.Model`.

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
    KeplerPRF, TessPRF : The PRFs of the missions.
    """

    _mission = None

    def __init__(self, calibration, column, row, *, interpolate=None, normalize='phase',
                 clip_negative=False, flux=1.0, x_0=0.0, y_0=0.0, x_scale=1.0, y_scale=1.0,
                 theta=0.0, **kwargs):
        require_calibration(calibration, self._mission)
        _refuse(kwargs, ('origin', 'spacing', 'fill_value'), 'come from the calibration',
                'use TabulatedPRF for an image of your own')
        self._calibration = calibration
        self._column, self._row = require_on_detector(self._mission, column, row)
        warn_if_far(calibration, self._column, self._row)
        self._interpolate = calibration.interpolations[0] if interpolate is None else interpolate
        self._is_forced = False
        image = calibration.image(self._column, self._row, self._interpolate)
        super().__init__(image, calibration.spacing,
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
    def read(cls, path, **kwargs):
        """Not possible: a place on the detector is needed.

        Parameters
        ----------
        path : str or path-like
            File.
        **kwargs : dict, optional
            Options of `TabulatedPRF`.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(f'{cls.__name__} needs a place on the detector, but {path} alone was '
                        f'passed: use {cls.__name__}.from_file, or TabulatedPRF.read for the '
                        'image alone.')

    @classmethod
    def from_tpf(cls, tpf, path=None, *, force=False, **kwargs):
        """Make the model for the target of a target pixel file.

        Parameters
        ----------
        tpf : TargetPixels, str, path-like or what else `read_tpf` reads
            Pixels: they tell the detector, the place on it, and where the
            star is in the stamp.
        path : str, path-like or list of these, optional
            Calibration file or files, or a folder: one that is laid out like
            the archive, like a part of it, or that holds the files. Default:
            those of the detector from the folders in ``kpsf.conf.prf_path``,
            from the cache or from the archive.
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
        TypeError
            If ``tpf`` is nothing that `read_tpf` reads, or an argument is of
            the wrong type or is what the pixels tell: ``column``, ``row``.
        ValueError
            If the calibration belongs to another detector than the pixels,
            the pixels do not say to which they belong, or a file is bad.
        OSError
            If a file cannot be opened or found.
        """
        _refuse(kwargs, ('column', 'row'), 'come from the pixels',
                'use at(column, row) of the model for another place')
        tpf = tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf)
        require_mission(cls._mission, tpf)
        x_0, y_0 = tpf.target_position
        column, row = require_on_detector(cls._mission, tpf.column + x_0, tpf.row + y_0)
        if path is None:
            calibration = cls._find(prf_files_of(tpf))
        elif isinstance(path, (str, os.PathLike)) and Path(path).expanduser().is_dir():
            calibration = cls._read_folder(Path(path).expanduser(), tpf)
        else:
            calibration = cls._read(path)
        kwargs = {'x_0': x_0, 'y_0': y_0, **kwargs}
        model = cls(calibration, column, row, **kwargs)
        model._is_forced = bool(force)
        require_same_detector(model, tpf)
        return model

    @classmethod
    def _find(cls, files):
        """Return the calibration in files of the archive, each a `PRFFile`."""
        return cls._join([find_prf(file).calibration for file in files])

    def at(self, column, row):
        """Return the same model for another place on the detector.

        Parameters
        ----------
        column, row : float or `~astropy.units.Quantity`
            Place on the detector in pixels.

        Returns
        -------
        KeplerPRF or TessPRF
            A new model with the same calibration, options and parameters;
            ``x_0, y_0`` too are as they were.

        Raises
        ------
        TypeError
            If the place is not given in numbers or pixels.
        ValueError
            If it is off the detector.
        """
        column, row = require_on_detector(self._mission, column, row)
        warn_if_far(self.calibration, column, row)
        model = self.copy()
        model._table, model._column, model._row = self._make_table(column, row), column, row
        return model

    def _make_table(self, column, row):
        """Return the spline of the PRF at a place."""
        calibration = self.calibration
        image = calibration.image(column, row, self.interpolate)
        return TabulatedPRF(image, calibration.spacing, origin=calibration.origin,
                            normalize=self.normalize, clip_negative=self.clip_negative).table

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
        """Detector column for which the PRF is, in pixels."""
        return self._column

    @property
    def row(self):
        """Detector row for which the PRF is, in pixels."""
        return self._row

    @property
    def interpolate(self):
        """How the PRF was interpolated between the calibrated positions."""
        return self._interpolate

    @property
    def detector(self):
        """Identity of the detector, a dict as that of `PRFCalibration`."""
        return dict(self.calibration.detector)

    @property
    def is_forced(self):
        """Whether the PRF may be used for pixels of another detector."""
        return self._is_forced


def _refuse(kwargs, names, reason, advice):
    """Raise if options are among the arguments that something else tells."""
    refused = [name for name in names if name in kwargs]
    if refused:
        msg = f'{" and ".join(refused)} {reason} and cannot be passed: {advice}.'
        raise TypeError(msg)
