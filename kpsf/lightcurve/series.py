# Licensed under a 3-clause BSD style license - see LICENSE
"""`LightCurve`: fluxes and positions of a star over time."""

import astropy.units as u
import numpy as np
from astropy.timeseries import TimeSeries

from .._validation import as_float_array
from ..scenes.noise import scatter
from .export import to_lightkurve
from .files import read_light_curve, write_light_curve

__all__ = ['FLUX_UNIT', 'LightCurve', 'point_to_point_scatter']

FLUX_UNIT = u.electron / u.s


class LightCurve(TimeSeries):
    """Fluxes and positions of a star over time, made by `extract_light_curve`.

    A `~astropy.timeseries.TimeSeries` with one row per cadence. Rows in
    which something was noticed have ``flags`` above 0; the values are kept
    as they are, and are NaN where nothing could be fitted. To go on with
    good rows only: ``light_curve[light_curve['flags'] == 0]``.

    Parameters
    ----------
    data, time, **kwargs : optional
        As for `~astropy.timeseries.TimeSeries`.

    Notes
    -----
    The columns are

    - ``time``: `~astropy.time.Time`, barycentric (TDB); ``.jd`` is BJD.
    - ``flux``, ``flux_err``: total flux over the plane in electron / s.
    - ``x``, ``y``, ``x_err``, ``y_err``: position in pixels of the stamp, of
      which the first has its centre at (0, 0) and lies on the detector at
      ``meta['column']``, ``meta['row']``.
    - ``column``, ``row``: position on the detector in pixels, ``x`` and
      ``y`` from that first pixel; their errors are those of ``x``, ``y``.
      Files of old versions lack them.
    - ``background``, ``background_err``: mean of one pixel in electron / s,
      the known part included; the error is that of the fitted part.
    - ``psf_<name>``, ``psf_<name>_err``: further parameters of the PSF, if
      each cadence has its own; otherwise ``meta['psf_parameters']`` and
      ``meta['psf_parameter_errors']`` hold them.
    - ``cstat``, ``gof_z``: C-statistic, and its distance from what is
      expected in standard deviations. For bright stars the best Gaussian is
      off by thousands to millions; then only changes with time mean something.
    - ``flux_fraction``: share of the PSF on the pixels of the fit.
    - ``n_pixels``: number of pixels in the fit.
    - ``converged``: bool.
    - ``cadenceno``, ``quality``: as in the file.
    - ``flags``: see `~kpsf.flags.FitFlag` and `~kpsf.decode_flags`.

    ``meta`` tells what the light curve is of and how it was made, and

    - ``noise_excess``: scatter that photons and read noise do not explain,
      relative to the flux; part of ``flux_err``. Of scenes and
      ``psf='empirical'``.
    - ``error_over_scatter``: median of ``flux_err`` over the scatter from
      one cadence to the next; 1 is right. Of these, too.
    - ``background_offset``, ``background_offset_err``: constant beside
      ``FLUX_BKG`` in electron / s, with ``background='known'``, and whether
      it is at its limit, ``background_offset_at_limit``. Of fits of one star.

    :doc:`/user_guide/light_curves` has them all in a table.
    """

    _stamp_fits = None
    _scene_fit = None
    _fitted_cadences = None
    _star_share = None

    @property
    def stamp_fits(self):
        """`~kpsf.StampFits` behind the rows, with all covariances and model images.

        Only what `extract_light_curve` returns has them, not its parts and
        copies, nor what was read from a file.

        Raises
        ------
        ValueError
            If they are not there.
        """
        return self._kept(self._stamp_fits, 'fits of all pixels')

    @property
    def scene_fit(self):
        """``SceneFit`` and ``ScenePixels`` behind the rows: the fit, and all of its pixels.

        Only what `extract_light_curve` returns with ``psf='empirical'`` has
        them, as for `stamp_fits`. `~kpsf.plotting.plot_scene` draws them.

        The fit has ``mean``, the model of the pixels in e-/s, ``variance`` and
        ``used``, each of shape (n_cadences, n_pixels), and ``shift``, the motion
        in pixels, shape (n_cadences, 2); the pixels have ``x``, ``y``, shape
        (n_pixels,), and ``rate`` in e-/s, shape (n_cadences, n_pixels).

        Raises
        ------
        ValueError
            If they are not there.
        """
        return self._kept(self._scene_fit, 'fit of a scene')

    def _kept(self, fits, name):
        """Return what is behind the rows, if these are all of them."""
        if fits is None or not np.array_equal(self['cadenceno'], self._fitted_cadences):
            msg = (f'The {name} must be there, but only the light curve that '
                   'extract_light_curve returned has what was fitted for it, not its parts, '
                   'copies or files: keep that one, or extract it again.')
            raise ValueError(msg)
        return fits

    def to_lightkurve(self):
        """Make the object of lightkurve for the mission.

        Returns
        -------
        lightkurve.KeplerLightCurve, lightkurve.TessLightCurve or lightkurve.LightCurve
            All rows, with copies of the columns, in lightkurve's time format
            (``bkjd``, ``btjd``; without a mission ``jd``). ``centroid_col``,
            ``centroid_row`` are detector pixels; ``psf_flags`` are the
            ``flags``; the metadata are under lightkurve's names.

        Raises
        ------
        ImportError
            If lightkurve is not installed.

        Notes
        -----
        lightkurve does not know ``flags``: select the good rows first, or by
        ``psf_flags`` afterwards.

        Examples
        --------
        >>> good = light_curve[light_curve['flags'] == 0]  # doctest: +SKIP
        >>> good.to_lightkurve().flatten().to_periodogram()  # doctest: +SKIP
        """
        return to_lightkurve(self)

    @property
    def star_share(self):
        """Share of the star in the light of each pixel of its stamp, ndarray of shape (ny, nx).

        None for the light curve of one star that was fitted alone; of a
        scene, what `extract_light_curve` returned has it, not what was read
        from a file.
        """
        return self._star_share

    def write(self, path, overwrite=False, format=None, **kwargs):
        """Write a FITS, ECSV or CSV file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            The ending chooses the format. ``.fits``, ``.fits.gz``: a light
            curve in the layout of the Kepler and TESS archives, which
            ``lightkurve.read(path)`` and ``TimeSeries.read(path,
            format='kepler.fits')`` open. ``.ecsv``: a text table with units
            and metadata. ``.csv``: numbers alone, the times as BJD.
        overwrite : bool, optional
            Whether to replace an existing file.
        format : str, optional
            One of astropy's formats, which then writes the table as it is.
        **kwargs : dict, optional
            For that format.

        Raises
        ------
        ValueError
            If the ending is another.
        FileExistsError
            If the file exists and ``overwrite`` is False.
        OSError
            If the file cannot be written.

        Notes
        -----
        The FITS table has the names of the archives and of PyKE's
        ``kepprfphot``: ``TIME`` (days from ``BJDREFI``), ``CADENCENO``,
        ``PSF_FLUX``, ``PSF_BKG``, ``PSF_CENTR1`` and ``PSF_CENTR2`` (detector
        column and row), each with its ``_ERR``, ``CHI2`` (here the
        C-statistic), ``SAP_QUALITY`` (for TESS ``QUALITY``); further
        ``STAMP_X``, ``STAMP_Y``, ``PSF_FLAGS`` and the other columns in
        capital letters. ``FLUX``, ``FLUX_ERR`` are copies of ``PSF_FLUX``,
        ``PSF_FLUX_ERR``: without them ``lightkurve.read(path)`` looks for the
        pipeline's ``PDCSAP_FLUX``. It labels the flux so all the same;
        ``lightkurve.read(path, flux_column='psf_flux')`` labels it right, and
        so does `to_lightkurve`, which has the positions too.

        The header tells how the fluxes were made: version, PSF, noise,
        options, and the SHA-256 of the target pixel file (``TPFSHA``).
        Keywords are ASCII. Metadata that have no keyword are in ECSV alone.
        `astropy.table.QTable` of a light curve writes every other format of
        astropy.
        """
        if format is None and not kwargs:
            write_light_curve(self, path, overwrite)
        else:
            super().write(path, format=format, overwrite=overwrite, **kwargs)

    @classmethod
    def read(cls, path):
        """Read what `write` wrote as FITS or ECSV.

        Parameters
        ----------
        path : str or path-like
            A file that ends in ``.fits``, ``.fits.gz`` or ``.ecsv``. Light
            curves of other origin: `astropy.timeseries.TimeSeries.read`.

        Returns
        -------
        LightCurve
            With the units, the metadata and, up to the rounding of the text
            in ECSV, the numbers of the original.

        Raises
        ------
        ValueError
            If the file is no light curve of kpsf or is damaged.
        OSError
            If the file cannot be opened.
        """
        time, table = read_light_curve(path)
        return cls(table, time=time)


def point_to_point_scatter(flux):
    """Measure the scatter from one cadence to the next.

    Trends and outliers hardly change it, so it tells the noise of a light
    curve of a variable star too.

    Parameters
    ----------
    flux : array_like or `~astropy.units.Quantity`, shape (n_cadences,)
        Fluxes in any unit; those that are not finite are left out.

    Returns
    -------
    float
        ``1.4826 MAD(differences) / sqrt(2) / median``: a standard deviation
        relative to the flux; NaN for fewer than three cadences. The median
        absolute deviation times 1.4826 is the standard deviation of a
        Gaussian [1]_.

    Raises
    ------
    TypeError
        If the fluxes are no numbers or are masked.

    References
    ----------
    .. [1] Rousseeuw, P. J. & Croux, C. 1993, J. Am. Stat. Assoc., 88, 1273.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf.lightcurve import point_to_point_scatter
    >>> noise = np.random.default_rng(1).normal(0.0, 0.002, 3000)
    >>> print(f'{point_to_point_scatter(np.linspace(1.0, 1.2, 3000) + noise):.5f}')
    0.00184
    """
    flux = as_float_array(getattr(flux, 'value', flux), 'flux')
    flux = flux[np.isfinite(flux)]
    return float(scatter(flux) / np.median(flux)) if flux.size else np.nan
