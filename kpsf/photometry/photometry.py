# Licensed under a 3-clause BSD style license - see LICENSE
"""`PoissonPSFPhotometry`: photutils' PSF photometry at the speed of arrays."""

import warnings
from copy import deepcopy
from functools import partial
from itertools import count

import numpy as np
from astropy.modeling import Model
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from .. import __version__
from .._validation import as_box, no_model, require_number, require_positive_integer
from ..fitting import PoissonLikelihoodFitter
from ..normalization import warn_unless_total_flux
from ..stamps.arguments import check_model
from ..stamps.boxes import Boxes
from .fit import fit_sources
from .image import read_image, warn_unless_counts
from .options import (
    check_background,
    check_callable,
    check_prior,
    check_xy_bounds,
    refuse_others,
)
from .results import assemble_results
from .settings import Settings
from .sources import (
    ModelNames,
    ask_finder,
    locate_stars,
    read_sources,
    with_aperture_fluxes,
)

__all__ = ['PoissonPSFPhotometry']

_NUMBERS = count()


class PoissonPSFPhotometry:
    """PSF photometry of an image by Poisson maximum likelihood, all stars at once.

    It is called as `photutils.psf.PSFPhotometry` is, takes the same tables
    and returns the same one. Isolated stars are fitted in one batch, a
    hundred times faster; groups jointly, with one background for each and
    no pixel counted twice, so that the errors of blended stars are their
    scatter.

    Parameters
    ----------
    psf_model : `~astropy.modeling.Model`
        The PSF of one star, with parameters ``x_0``, ``y_0`` and ``flux``, or
        attributes ``x_name``, ``y_name`` and ``flux_name`` that say which
        they are. It is proportional to its flux. Parameters that are not
        fixed are fitted. photutils' Gaussian PSFs, its integrated Gaussians
        unless they are turned, its image and gridded PSFs, and kpsf's
        models have kernels of their own; others are about five times
        slower.
    fit_shape : int or (int, int)
        Height and width of the box around each star that is fitted, odd.
    finder : callable, optional
        ``finder(data, mask=mask)`` returns a table of positions, as
        photutils' star finders do; asked where there are no ``init_params``.
        By default `~kpsf.locate_source` finds all stars above 5 standard
        deviations.
    grouper : callable, optional
        ``grouper(x, y)`` returns the number of each star's group, as
        `photutils.psf.SourceGrouper` does. A column ``group_id`` of
        ``init_params`` has precedence.
    background : 'fit', 'error', float, array_like, shape (ny, nx), or callable, optional
        ``'fit'``: the data contain their background; one constant >= 0 is
        fitted for each star or group. Otherwise what was subtracted from the
        data, in their unit: a number, an image, or a function of x and y.
        It is put back for the likelihood. ``'error'``: it follows from
        ``error``, which must then be the standard deviation of the background
        alone, and not of the star.
    centroid_prior : `~kpsf.CentroidPrior` or float, optional
        Gaussian prior on the positions; a number is its standard deviation
        in pixels, around the starting values. Errors are posterior errors
        then.
    aperture_radius : float, optional
        Radius in pixels of the aperture from which starting fluxes come
        where ``init_params`` has none. By default they come from a linear
        fit of the PSF, which neighbours disturb less.
    xy_bounds : float or (float, float), optional
        Largest distance in pixels along x and y from the starting position.
        By default a star stays within its box: beyond, there is nothing that
        would lead back. One that was found by default stays within a FWHM of
        where it was found: beyond, it would be another star.
    gain : float, optional
        Electrons per unit of the data; for rates, the exposure time. Default:
        1, with a warning if the unit of the data is neither electrons, photons
        nor counts.
    read_noise : float, optional
        Standard deviation of the read noise in electrons.
    progress_bar : bool, optional
        Show bars of the fits on a terminal.
    n_threads : int, optional
        Threads; one by default.

    Attributes
    ----------
    results : `~astropy.table.QTable` or None
        What the last call returned.
    finder_results : `~astropy.table.Table` or None
        What was found in the last call.

    Raises
    ------
    TypeError
        If the model is no model, or an option of the wrong type.
    ValueError
        If the model has no position and flux, or an option is out of range.

    See Also
    --------
    photutils.psf.PSFPhotometry : The same by least squares.
    kpsf.PoissonLikelihoodFitter : The same likelihood inside of photutils.

    Notes
    -----
    Besides the columns of photutils, the table has ``cstat``, the C-statistic
    of the fit that a star was in, ``gof_z``, its distance from the expectation
    in standard deviations (see `~kpsf.goodness_of_fit`), and
    ``background_fit`` with ``background_err``, NaN where the background is
    known. ``reduced_chi2`` judges the residuals by the given error, and is NaN
    without one.

    A column ``local_bkg`` of ``init_params`` is a background that the data
    still contain; a group has the mean of its stars.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf import PoissonPSFPhotometry
    >>> psf = CircularGaussianPRF(fwhm=2.0)
    >>> y, x = np.mgrid[:31, :31]
    >>> mean = psf.evaluate(x, y, 900.0, 14.8, 15.3, 2.0) + 4.0
    >>> counts = np.random.default_rng(1).poisson(mean)
    >>> phot = PoissonPSFPhotometry(psf, (11, 11))
    >>> table = phot(counts, init_params=QTable({'x': [15.0], 'y': [15.0]}))
    >>> flux, error, sky = table['flux_fit', 'flux_err', 'background_fit'][0]
    >>> print(f'{flux:.0f} +- {error:.0f} on {sky:.1f}')
    897 +- 31 on 3.6
    """

    @refuse_others
    def __init__(self, psf_model, fit_shape, *, finder=None, grouper=None, background='fit',
                 centroid_prior=None, aperture_radius=None, xy_bounds=None, gain=None,
                 read_noise=0.0, progress_bar=False, n_threads=None):
        if not isinstance(psf_model, Model) or len(psf_model) != 1:
            remedy = 'for example photutils.psf.CircularGaussianPRF(fwhm=2)'
            found = (f'it is a set of {len(psf_model)}: pass one, {remedy}.'
                     if isinstance(psf_model, Model) else no_model(psf_model, remedy))
            raise TypeError(f'psf_model must be one astropy model, but {found}')
        self.psf_model, self.fit_shape = psf_model, as_box(fit_shape)
        self.finder, self.grouper = (
            check_callable(value, name)
            for value, name in ((finder, 'finder'), (grouper, 'grouper')))
        in_electrons = 'pass it in electrons'
        self.gain = 1.0 if gain is None else require_number(
            gain, 'gain', f'{in_electrons} per unit of the data', positive=True)
        self._gain_is_assumed = gain is None
        self.read_noise = require_number(read_noise, 'read_noise', in_electrons)
        self.background = check_background(background)
        self.centroid_prior = check_prior(centroid_prior)
        self.aperture_radius = aperture_radius if aperture_radius is None else require_number(
            aperture_radius, 'aperture_radius', 'pass pixels', positive=True)
        self.xy_bounds = check_xy_bounds(xy_bounds)
        self.progress_bar = bool(progress_bar)
        self.n_threads = n_threads if n_threads is None else require_positive_integer(
            n_threads, 'n_threads')
        check_model(psf_model)
        ModelNames.of(psf_model)
        warn_unless_total_flux(psf_model)
        self.results = self.finder_results = None

    def __repr__(self):
        """Show the options; an array by its shape."""
        options = ', '.join(f'{name}={value}' for name, value in self._options().items())
        return f'{type(self).__name__}({options})'

    def __call__(self, data, *, mask=None, error=None, init_params=None):
        """Fit the stars of an image.

        Parameters
        ----------
        data : array_like, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, shape (ny, nx)
            The image, of counts or rates. Pixels that are not finite do not
            count, with a warning. NDData bring their mask and uncertainty.
        mask : array_like of bool, shape (ny, nx), optional
            True for pixels to leave out: saturated ones, for example.
        error : array_like or `~astropy.units.Quantity`, shape (ny, nx), optional
            Standard deviations of the data. They do not change the fit, but
            ``reduced_chi2`` is of them.
        init_params : `~astropy.table.Table`, optional
            Starting values in the columns that photutils knows: positions
            (``x``, ``x_init``, ``x_centroid``, ...), and if they are known
            fluxes, ``group_id``, ``local_bkg``, ``id``.

        Returns
        -------
        `~astropy.table.QTable` or None
            One row per star, in their order; None if none were found.
            photutils' flags tell of stars that could not be fitted.

        Raises
        ------
        TypeError
            If data are not real numbers or the table is none.
        ValueError
            If shapes or units do not match, data are negative with the
            background put back, errors in the boxes are not positive, or
            positions are missing.
        """
        self.results = self.finder_results = None
        image = read_image(data, mask, error, self.background, self.gain, self.read_noise)
        settings = self._settings()
        find = (partial(locate_stars, settings=settings) if self.finder is None else
                partial(ask_finder, self.finder))
        sources, self.finder_results = read_sources(
            init_params, self.psf_model, self._names, image, find, self.grouper)
        if sources is None:
            return None
        if self.finder is None and self.finder_results is not None:
            settings = self._settings(reach=max(self.finder_results.meta['fwhm'], 1.0))
        x, y = (sources.params[:, self._names.params.index(name)]
                for name in (self._names.x, self._names.y))
        boxes = Boxes.around(x, y, self.fit_shape, image.data.shape)
        if self.aperture_radius is not None and self._names.flux not in sources.given:
            sources = with_aperture_fluxes(sources, self._names, image, boxes,
                                           self.aperture_radius, settings.fits_background)
        found = fit_sources(image, sources, boxes, settings)
        results = assemble_results(sources, boxes, image, settings, found)
        results.meta.update(_versions(), psf_class=type(self).__name__, **self._options())
        if self._gain_is_assumed and self.gain == 1.0:
            warn_unless_counts(image.unit)
        if np.any(results['flags'] & 8):
            warnings.warn('One or more fit(s) may not have converged. Please check the "flags" '
                          'column in the output table.', AstropyUserWarning)
        self.results = results
        return results

    def decode_flags(self, **kwargs):
        """Spell out the flags of the last results.

        Parameters
        ----------
        **kwargs : dict, optional
            Passed to `photutils.psf.decode_psf_flags`.

        Returns
        -------
        list of list of str
            Names of the flags of each star.

        Raises
        ------
        ValueError
            If there are no results.
        """
        from photutils.psf import decode_psf_flags
        return decode_psf_flags(self._require_results()['flags'], **kwargs)

    def results_to_init_params(self, *, remove_invalid=True, reset_ids=True):
        """Return the fitted values as a table of starting values.

        Parameters
        ----------
        remove_invalid : bool, optional
            Whether to leave out stars that were not fitted.
        reset_ids : bool, optional
            Whether to count the rest from 1 again.

        Returns
        -------
        `~astropy.table.QTable`
            Columns ``id``, ``x_init``, ``y_init``, ``flux_init``, ...

        Raises
        ------
        ValueError
            If there are no results.
        """
        return self._fitted_values({column: f'{column}_init'
                                    for column in self._names.columns.values()},
                                   remove_invalid, reset_ids)

    def results_to_model_params(self, *, remove_invalid=True, reset_ids=True):
        """Return the fitted values by the names that the parameters have in the model.

        Parameters
        ----------
        remove_invalid : bool, optional
            Whether to leave out stars that were not fitted.
        reset_ids : bool, optional
            Whether to count the rest from 1 again.

        Returns
        -------
        `~astropy.table.QTable`
            Columns ``id``, ``x_0``, ``y_0``, ``flux``, ...

        Raises
        ------
        ValueError
            If there are no results.
        """
        return self._fitted_values({column: name for name, column in self._names.columns.items()},
                                   remove_invalid, reset_ids)

    def make_model_image(self, shape, *, psf_shape=None, include_local_bkg=False):
        """Draw the fitted stars.

        Parameters
        ----------
        shape : (int, int)
            Shape of the image.
        psf_shape : int or (int, int), optional
            Size of the box in which each star is drawn. Default: the bounding
            box of the model, where it has one.
        include_local_bkg : bool, optional
            Whether to add the background around each star, the fitted one
            included; where boxes overlap it is added more than once, as in
            photutils.

        Returns
        -------
        ndarray or `~astropy.units.Quantity`, shape ``shape``
            The stars, in the unit of the data.

        Raises
        ------
        ValueError
            If there are no results, or neither ``psf_shape`` nor a bounding box.
        """
        from photutils.datasets import make_model_image
        params = self._fitted_values({column: name
                                      for name, column in self._names.columns.items()}, True, True)
        if include_local_bkg:
            results = self.results
            level = results['local_bkg'] + np.nan_to_num(results['background_fit'])
            params['local_bkg'] = np.nan_to_num(level[self._are_fitted()])
        return make_model_image(shape, self.psf_model, params, model_shape=psf_shape,
                                x_name=self._names.x, y_name=self._names.y)

    def make_residual_image(self, data, *, psf_shape=None, include_local_bkg=False):
        """Subtract the fitted stars from an image.

        Parameters
        ----------
        data : array_like, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, shape (ny, nx)
            The image that was fitted.
        psf_shape : int or (int, int), optional
            As for `make_model_image`.
        include_local_bkg : bool, optional
            As for `make_model_image`.

        Returns
        -------
        ndarray, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, shape (ny, nx)
            What is left, of the type of the data and in their unit.

        Raises
        ------
        ValueError
            As for `make_model_image`.
        """
        if isinstance(data, NDData):
            residual = deepcopy(data)
            values = data.data if data.unit is None else data.data << data.unit
            left = self.make_residual_image(values, psf_shape=psf_shape,
                                            include_local_bkg=include_local_bkg)
            residual.data[:] = getattr(left, 'value', left)
            return residual
        data = np.asanyarray(data)
        return data - self.make_model_image(data.shape, psf_shape=psf_shape,
                                            include_local_bkg=include_local_bkg)

    def to_photutils(self, **kwargs):
        """Return the same photometry by photutils, with the fitter of kpsf.

        Parameters
        ----------
        **kwargs : dict, optional
            Further options of `photutils.psf.PSFPhotometry`.

        Returns
        -------
        `~photutils.psf.PSFPhotometry`
            It fits star by star, and needs fluxes in ``init_params`` or an
            ``aperture_radius``. Its copy of the PSF model has a class of its
            own: photutils 3.0 confuses grouped fits of two models of one class.
        """
        from photutils.psf import PSFPhotometry
        fitter = PoissonLikelihoodFitter(background=self.background, gain=self.gain,
                                         read_noise=self.read_noise, priors=self.centroid_prior)
        options = {'finder': self.finder, 'grouper': self.grouper, 'xy_bounds': self.xy_bounds,
                   'aperture_radius': self.aperture_radius, 'progress_bar': self.progress_bar}
        return PSFPhotometry(_of_own_class(self.psf_model), self.fit_shape, fitter=fitter,
                             **options | kwargs)

    @property
    def _names(self):
        """Return the `ModelNames`; what is fixed may change between calls."""
        return ModelNames.of(self.psf_model)

    def _settings(self, reach=np.inf):
        """Return the `Settings` of fits that stay within ``reach`` of their start by default."""
        fits_background = isinstance(self.background, str) and self.background == 'fit'
        xy_bounds = tuple(min(0.5 * size, reach) if given is None else given for given, size
                          in zip(self.xy_bounds or (None, None), self.fit_shape[::-1]))
        return Settings(
            model=self.psf_model, names=self._names,
            fits_background=fits_background, gain=self.gain, read_noise=self.read_noise,
            prior=self.centroid_prior, xy_bounds=xy_bounds,
            n_threads=self.n_threads, progress_bar=self.progress_bar)

    def _options(self):
        """Return the options in words, by name."""
        names = ('psf_model', 'fit_shape', 'finder', 'grouper', 'background', 'centroid_prior',
                 'aperture_radius', 'xy_bounds', 'gain', 'read_noise')
        return {name: f'<array of shape {value.shape}>' if isinstance(value, np.ndarray)
                and value.ndim else repr(value)
                for name, value in ((name, getattr(self, name)) for name in names)}

    def _require_results(self):
        """Return the results; raise if there are none."""
        if self.results is None:
            raise ValueError('Results are needed, but there are none yet: call the photometry '
                             'with an image first.')
        return self.results

    def _are_fitted(self):
        """Say which stars have finite fitted values, (n,)."""
        results = self._require_results()
        return np.logical_and.reduce([np.isfinite(results[f'{column}_fit'])
                                      for column in self._names.columns.values()])

    def _fitted_values(self, names, remove_invalid, reset_ids):
        """Return the columns ``*_fit`` under other names, by what tables call them."""
        results, table = self._require_results(), QTable()
        table['id'] = results['id']
        for column, name in names.items():
            table[name] = results[f'{column}_fit']
        if remove_invalid:
            table = table[self._are_fitted()]
            if reset_ids:
                table['id'] = np.arange(1, len(table) + 1)
        return table


def _of_own_class(model):
    """Return a copy of a model whose class no other model has."""
    own, kind = deepcopy(model), type(model)
    # photutils knows classes by their module and name.
    module = f'{kind.__module__}.{next(_NUMBERS)}'
    own.__class__ = type(kind.__name__, (kind,), {'__module__': module})
    return own


def _versions():
    """Return the versions of what took part."""
    import astropy
    import photutils
    return {'version': {'kpsf': __version__, 'photutils': photutils.__version__,
                        'astropy': astropy.__version__, 'numpy': np.__version__}}
