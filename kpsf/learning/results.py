# Licensed under a 3-clause BSD style license - see LICENSE
"""`LearnedPSF`: a PRF that was learned from stamps, and what is known of the learning."""

from dataclasses import dataclass

from astropy.table import Table

from .. import __version__
from ..models import TabulatedPRF
from ..prf.writing import write_kepler_prf, write_tess_prf

__all__ = ['LearnedPSF']


@dataclass(frozen=True, eq=False, repr=False)
class LearnedPSF:
    """PRF learned from stamps, made by `learn_psf`.

    Parameters
    ----------
    model : TabulatedPRF
        The PRF, of flux 1 at (0, 0).
    start : TabulatedPRF
        What it was learned from: it is as this one where the pixels tell
        nothing, and so is its zero point.
    residual, start_residual : float
        Sum of the absolute residuals, as share of the light in all pixels
        that were used, of the PRF and of the start.
    n_stars, n_images : int
        Number of stars, and of mean images that were fitted.
    iterations : int
        How many times the image was solved for.
    converged : bool
        Whether the last time changed it by less than 3e-4 of its peak.
    evidence : float
        Logarithm of the evidence, to compare what was learned with other
        oversamplings from the same pixels.
    smoothness, floor : float
        Precision of the bends of the relative corrections, and the share of
        the flux to which the model is right, as chosen by the evidence.
    table : `~astropy.table.Table`
        One row per star and stamp: ``star``, ``tpf`` (numbers from 0), ``x``,
        ``y`` (stamp pixels), ``column``, ``row`` (detector), ``flux`` in
        e-/s, ``n_images``, ``is_fitted`` (not if the star is beside the
        stamp), and ``residual``, the share left in the whole stamp.
    mission : {'Kepler', 'K2', 'TESS'}
        Mission.
    detector : dict
        Channel, module and output, or camera, ccd and first sector; None for
        what the files do not tell.
    files : tuple of str
        Names of the files.

    See Also
    --------
    learn_psf : Makes this from target pixel files.
    """

    model: TabulatedPRF
    start: TabulatedPRF
    residual: float
    start_residual: float
    n_stars: int
    n_images: int
    iterations: int
    converged: bool
    evidence: float
    smoothness: float
    floor: float
    table: Table
    mission: str
    detector: dict
    files: tuple

    def __repr__(self):
        end = '' if self.converged else ', not converged'
        return (f'<LearnedPSF {self.mission}: {self.n_stars} stars in {self.n_images} images, '
                f'{self.oversampling} samples per pixel, residual {self.residual:.1%} '
                f'(start {self.start_residual:.1%}){end}>')

    @property
    def oversampling(self):
        """Samples per pixel."""
        return round(1.0 / self.model.spacing[0])

    def save(self, path, *, overwrite=False):
        """Write the PRF as a calibration file of its mission.

        `~kpsf.KeplerPRF.from_file` and `~kpsf.TessPRF.from_file` read it,
        and so does ``TabulatedPRF.read``. A file of Kepler has the same
        image at all five positions.

        Parameters
        ----------
        path : str or path-like
            File to write.
        overwrite : bool, optional
            Whether to replace an existing file.

        Returns
        -------
        pathlib.Path
            The file that was written.

        Raises
        ------
        ValueError
            If the target pixel files did not tell the detector:
            ``model.write`` writes the image without one.
        FileExistsError
            If the file exists and ``overwrite`` is False.
        OSError
            If the file cannot be written.
        """
        cards = {'CREATOR': (f'kpsf {__version__}', 'learn_psf'),
                 'NSTARS': (self.n_stars, 'stars that it was learned from'),
                 'NIMAGES': (self.n_images, 'mean images of them'),
                 'OVERSAMP': (self.oversampling, 'samples per pixel'),
                 'NITER': (self.iterations, 'iterations'),
                 'CONVERGD': (self.converged, 'whether these were enough'),
                 'RESIDUAL': (round(self.residual, 6), 'sum |data - model| / sum data'),
                 'NFILES': (len(self.files), 'target pixel files')}
        # As many as have keywords of eight characters.
        cards.update({f'INFIL{n:03d}': (name, '') for n, name
                      in enumerate(self.files[:999], start=1)})
        if self.mission != 'TESS':
            return write_kepler_prf(path, self.model, self.detector, cards=cards,
                                    overwrite=overwrite)
        inside = self.table['is_fitted']
        place = tuple(float(self.table[name][inside].mean()) for name in ('column', 'row'))
        return write_tess_prf(path, self.model, self.detector, place, cards=cards,
                              overwrite=overwrite)
