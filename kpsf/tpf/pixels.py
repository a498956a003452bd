# Licensed under a 3-clause BSD style license - see LICENSE
"""`TargetPixels`: the pixels of one target over time, as electrons with their noise."""

from dataclasses import dataclass

import numpy as np
from astropy.time import Time
from astropy.wcs import WCS

from ..noise import NoiseModel

__all__ = ['MAX_POSITION_CORRECTION', 'TargetPixels', 'median_image']

# Bit of the pipeline's aperture.
OPTIMAL = 2
# Further away, a correction is none.
MAX_POSITION_CORRECTION = 5.0


@dataclass(frozen=True, eq=False, repr=False)
class TargetPixels:
    """Pixels of one target over time, as `read_tpf` returns them.

    Only cadences that pass the quality mask and have a time are here. All
    rates are as in the file, none clipped or filled. Arrays are
    ``[cadence, y, x]``; positions count pixels of the stamp, the centre of
    the first one is (0, 0).

    Parameters
    ----------
    time : `~astropy.time.Time`, shape (n_cadences,)
        Mid-times at the barycentre; ``time.jd`` is BJD in TDB.
    cadenceno : ndarray of int64, shape (n_cadences,)
        Cadence numbers; for cutouts, whose files have none, the row in the
        file.
    flux : ndarray, shape (n_cadences, ny, nx)
        Calibrated rates in e-/s. The background is subtracted from them
        where ``has_background``.
    flux_err : ndarray, shape (n_cadences, ny, nx)
        Standard deviations of ``flux`` in e-/s as in the file; NaN if the
        file has none.
    background : ndarray, shape (n_cadences, ny, nx)
        Background that was subtracted, in e-/s; zero unless
        ``has_background``.
    has_background : bool
        Whether the file knows its background.
    quality : ndarray of int64, shape (n_cadences,)
        Quality bits.
    aperture : ndarray of int64, shape (ny, nx)
        Bits per pixel: 1 collected, 2 in the pipeline's aperture.
    good_pixels : ndarray of bool, shape (n_cadences, ny, nx)
        Pixels that were collected and have a finite rate and background.
    column, row : int
        Detector coordinates of the pixel ``[0, 0]``.
    target_position : tuple of float
        ``(x, y)`` of the target that the header predicts, in stamp pixels.
    pos_corr : ndarray, shape (n_cadences, 2)
        Motion ``(x, y)`` of the image in pixels, relative to its median; NaN
        where unknown or more than 5 pixels.
    has_pos_corr : bool
        Whether the file has a motion.
    mission : {'Kepler', 'K2', 'TESS'}
        Mission.
    target : str
        Catalogue name, for example ``'KIC 8462852'``.
    meta : dict
        Identifiers and header values; None for those that the file lacks.
    noise : NoiseModel
        Exposure and noise.
    wcs : `~astropy.wcs.WCS`, optional
        From the sky to stamp pixels, at the place that the header tells; None if the
        file has none.

    See Also
    --------
    read_tpf : Makes this from a file.
    """

    time: Time
    cadenceno: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    background: np.ndarray
    has_background: bool
    quality: np.ndarray
    aperture: np.ndarray
    good_pixels: np.ndarray
    column: int
    row: int
    target_position: tuple
    pos_corr: np.ndarray
    has_pos_corr: bool
    mission: str
    target: str
    meta: dict
    noise: NoiseModel
    wcs: WCS | None = None

    def __repr__(self):
        ny, nx = self.shape
        return (f'<TargetPixels {self.target} ({self.mission}): {self.n_cadences} cadences of '
                f'{ny} x {nx} pixels>')

    @property
    def n_cadences(self):
        """Number of cadences."""
        return self.flux.shape[0]

    @property
    def shape(self):
        """Shape ``(ny, nx)`` of the stamp."""
        return self.flux.shape[1:]

    @property
    def total_rate(self):
        """Rates in e-/s with the background in, float64, shape (n_cadences, ny, nx)."""
        return np.add(self.flux, self.background, dtype=np.float64)

    @property
    def electrons(self):
        """Effective electrons with the background in, shape (n_cadences, ny, nx).

        Computed anew at each use; NaN where the file is. Read noise can make
        faint pixels negative.
        """
        return self.noise.to_electrons(self.total_rate)

    @property
    def background_electrons(self):
        """Effective electrons of the known background, shape (n_cadences, ny, nx)."""
        return self.noise.to_electrons(self.background)

    @property
    def read_variance(self):
        """Variance of the read noise in effective electrons squared."""
        return self.noise.read_variance

    @property
    def pipeline_aperture(self):
        """Pixels of the pipeline's aperture, bool, shape (ny, nx)."""
        return (self.aperture & OPTIMAL) > 0

    @property
    def median_motion(self):
        """Median of the motion ``(x, y)`` from the header's positions in pixels, shape (2,).

        0 where it is unknown. Header and WCS hold at the catalogue's places;
        ``pos_corr`` is relative to its median.
        """
        offset = np.array(self.meta.get('pos_corr_median') or (0.0, 0.0))
        return np.where(np.abs(offset) <= MAX_POSITION_CORRECTION, offset, 0.0)

    def expected_positions(self):
        """Tell where the header has the target, and the motion takes it.

        Returns
        -------
        x, y : ndarray, shape (n_cadences,)
            Stamp pixels. Motion that is not known counts as none.
        """
        return tuple((self.target_position + self.median_motion
                      + np.nan_to_num(self.pos_corr)).T)

    def aperture_flux(self):
        """Sum the background-subtracted rates over the pipeline's aperture.

        Returns
        -------
        ndarray, shape (n_cadences,)
            Rate in e-/s; NaN in cadences where a pixel of the aperture is.

        Raises
        ------
        ValueError
            If the file has no pipeline aperture, as for cutouts.
        """
        inside = self.pipeline_aperture
        if not inside.any():
            msg = (f'Aperture photometry needs a pipeline aperture, but the file of {self.target} '
                   'marks no pixel as such: choose the pixels and sum flux over them.')
            raise ValueError(msg)
        return self.flux[:, inside].sum(axis=1, dtype=np.float64)


def median_image(values, used):
    """Return the median over the cadences, (ny, nx), NaN where no cadence has a usable pixel.

    Parameters
    ----------
    values : ndarray, shape (n_cadences, ny, nx)
    used : ndarray of bool, shape (n_cadences, ny, nx)
    """
    ever = used.any(axis=0)
    image = np.full(ever.shape, np.nan)
    image[ever] = np.nanmedian(np.where(used, values, np.nan)[:, ever], axis=0)
    return image
