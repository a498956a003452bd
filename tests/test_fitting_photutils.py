# Licensed under a 3-clause BSD style license - see LICENSE
"""The fitter inside photutils: single stars, groups, iterations, and the building of a PSF."""

import contextlib

import numpy as np
import pytest
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose
from photutils.detection import DAOStarFinder
from photutils.psf import (
    CircularGaussianPRF,
    EPSFBuilder,
    IterativePSFPhotometry,
    PSFPhotometry,
    SourceGrouper,
    extract_stars,
)

from kpsf import PoissonLikelihoodFitter

BACKGROUND = 2.0
SHAPE = (61, 63)
# photutils' flags.
NOT_CONVERGED, NO_COVARIANCE = 8, 16


class FixedPRF(CircularGaussianPRF):
    """A PRF of which nothing is free."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in self.param_names:
            getattr(self, name).fixed = True


class FluxOnlyPRF(CircularGaussianPRF):
    """A PRF with a name of its own: photutils 3.0 keeps what is fixed in a group by the name."""


def make_sky(seed=3, shape=SHAPE):
    """Return an image in counts, background in, and the table of its stars."""
    rng = np.random.default_rng(seed)
    stars = QTable({'x': [12.3, 15.0, 40.2, 48.1], 'y': [11.8, 12.6, 45.0, 15.2],
                    'flux': [2000.0, 1500.0, 1200.0, 800.0]})
    y, x = np.mgrid[:shape[0], :shape[1]]
    mean = BACKGROUND + sum(CircularGaussianPRF(flux=star['flux'], x_0=star['x'], y_0=star['y'],
                                                fwhm=2.4)(x, y) for star in stars)
    return rng.poisson(mean).astype(float), stars


def nudged(stars):
    """Return starting values beside the truth."""
    init = stars.copy()
    init['x'] += 0.1
    init['y'] -= 0.15
    init['flux'] *= 0.8
    return init


def assert_right(table, stars):
    """Check fluxes and positions at five of their errors."""
    assert len(table) == len(stars)
    for name in ('flux', 'x', 'y'):
        assert np.all(np.abs(table[f'{name}_fit'] - stars[name]) < 5 * table[f'{name}_err'])
    assert not table['flags'].any()


@pytest.mark.parametrize('background', [
    BACKGROUND, np.full(SHAPE, BACKGROUND), lambda x, y: BACKGROUND + 0.0 * x, 'fit', 'error'],
    ids=['number', 'map', 'function', 'fit', 'error'])
@pytest.mark.parametrize('grouper', [None, SourceGrouper(5.0)], ids=['alone', 'grouped'])
def test_photutils_measures_stars_with_every_kind_of_background(background, grouper):
    data, stars = make_sky()
    if not grouper:
        data, stars = make_sky()[0], stars[2:]
    is_fitted = isinstance(background, str) and background == 'fit'
    photometry = PSFPhotometry(CircularGaussianPRF(fwhm=2.4), (11, 11), grouper=grouper,
                               fitter=PoissonLikelihoodFitter(background=background))
    table = photometry(data - (0.0 if is_fitted else BACKGROUND), init_params=nudged(stars),
                       error=np.full(SHAPE, np.sqrt(BACKGROUND)))
    assert_right(table, stars)


def test_bounds_around_a_start_are_respected_alone_and_at_their_edge():
    data, stars = make_sky()
    init = stars[2:].copy()
    init['x'] += 0.5
    fitter = PoissonLikelihoodFitter(background='fit')
    photometry = PSFPhotometry(CircularGaussianPRF(fwhm=2.4), (11, 11), fitter=fitter,
                               xy_bounds=0.2)
    table = photometry(data, init_params=init)
    assert_allclose(table['x_fit'], init['x'] - 0.2)
    assert_allclose(table['x_err'], 0.0)
    assert np.all(table['flux_err'] > 0)
    assert np.all(table['flags'] == 32)


@pytest.mark.parametrize('background', [BACKGROUND, 'fit'])
@pytest.mark.parametrize('grouper', [None, SourceGrouper(5.0)], ids=['alone', 'grouped'])
def test_nothing_free_is_compared_and_not_fitted(background, grouper):
    data, stars = make_sky()
    fitter = PoissonLikelihoodFitter(background=background)
    psf = FixedPRF(fwhm=2.4)
    photometry = PSFPhotometry(psf, (11, 11), fitter=fitter, grouper=grouper)
    # photutils has no table for it: it fails after the fits, at columns that are not there.
    with contextlib.suppress(IndexError):
        photometry(data - (0.0 if background == 'fit' else BACKGROUND), init_params=stars)
    assert len(fitter.history) == (3 if grouper else 4)
    assert all(record['success'] and record['cstat'] > 0 for record in fitter.history)
    if background == 'fit':
        assert all(record['background_err'] > 0 for record in fitter.history)


def test_data_below_zero_stop_with_advice_before_a_table_is_made():
    data, stars = make_sky()
    photometry = PSFPhotometry(CircularGaussianPRF(fwhm=2.4), (11, 11),
                               fitter=PoissonLikelihoodFitter())
    with pytest.raises(ValueError, match='negative.*pass the background that was subtracted as'):
        photometry(data - BACKGROUND, init_params=stars)


def test_degenerate_parameters_are_flagged_as_without_covariance():
    # Two stars at one place in one group: only the sum of their fluxes is known.
    data, stars = make_sky()
    init = stars[[2, 2]]
    init['group_id'] = 1
    psf = FluxOnlyPRF(fwhm=2.4)
    psf.x_0.fixed = psf.y_0.fixed = True
    photometry = PSFPhotometry(psf, (11, 11), fitter=PoissonLikelihoodFitter(background='fit'))
    table = photometry(data, init_params=init)
    assert np.all(table['flags'] & NO_COVARIANCE)
    assert np.isnan(table['flux_err']).all()


def test_fits_that_did_not_converge_are_flagged():
    data, stars = make_sky()
    photometry = PSFPhotometry(CircularGaussianPRF(fwhm=2.4), (11, 11), fitter_maxiters=1,
                               fitter=PoissonLikelihoodFitter(background='fit'))
    with pytest.warns(AstropyUserWarning, match='may not have converged'):
        table = photometry(data, init_params=nudged(stars[2:]))
    assert np.all(table['flags'] & NOT_CONVERGED)


@pytest.mark.parametrize('mode', ['new', 'all'])
def test_stars_are_found_and_measured_by_iteration(mode):
    # The mode 'new' fits residuals. They are no counts: it works where the background hides that.
    stars = QTable({'x': [15.0, 20.6, 40.2], 'y': [12.0, 12.6, 45.0],
                    'flux': [9000.0, 2500.0, 5000.0]})
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    mean = 150.0 + sum(CircularGaussianPRF(flux=star['flux'], x_0=star['x'], y_0=star['y'],
                                           fwhm=3.5)(x, y) for star in stars)
    data = np.random.default_rng(4).poisson(mean).astype(float)
    fitter = PoissonLikelihoodFitter(background=150.0)
    photometry = IterativePSFPhotometry(
        CircularGaussianPRF(fwhm=3.5), (7, 7), sub_shape=(21, 21), aperture_radius=4, mode=mode,
        finder=DAOStarFinder(threshold=80, fwhm=3.5, min_separation=7),
        grouper=SourceGrouper(8.0), fitter=fitter)
    table = photometry(data - 150.0)
    table.sort('x_fit')
    assert set(table['iter_detected']) == {1, 2}
    assert len(table) == len(stars)
    assert_allclose(table['flux_fit'], stars['flux'], rtol=0.25)
    assert not (table['flags'] & (NOT_CONVERGED | NO_COVARIANCE)).any()


class Spy(PoissonLikelihoodFitter):
    """A fitter that remembers how it was called, and with what result."""

    calls = ()

    def __call__(self, model, x, y, z=None, weights=None, maxiter=100, **kwargs):
        fitted = super().__call__(model, x, y, z, weights=weights, maxiter=maxiter, **kwargs)
        self.calls = (*self.calls, (np.asarray(z), weights, kwargs, self.fit_info))
        return fitted


@pytest.fixture(name='cutouts')
def fixture_cutouts():
    """Return cutouts of 25 stars on no background, one of them with a NaN pixel."""
    places = np.stack(np.meshgrid(15 + 25 * np.arange(5), 15 + 25 * np.arange(5)), -1)
    rng = np.random.default_rng(11)
    places = places.reshape(-1, 2) + rng.uniform(-0.5, 0.5, (25, 2))
    y, x = np.mgrid[:130, :130]
    mean = sum(CircularGaussianPRF(flux=20000.0, x_0=place[0], y_0=place[1], fwhm=2.6)(x, y)
               for place in places)
    data = rng.poisson(mean).astype(float)
    bad = np.zeros(data.shape, dtype=bool)
    bad[round(places[3, 1]) + 2, round(places[3, 0])] = True
    data[bad] = np.nan
    stars = QTable({'x': places[:, 0], 'y': places[:, 1]})
    with pytest.warns(AstropyUserWarning, match='invalid data that will be masked'):
        return extract_stars(NDData(data, mask=bad), stars, size=15)


def test_photutils_builds_a_psf_with_it(cutouts):
    spy = Spy()
    builder = EPSFBuilder(oversampling=2, maxiters=4, progress_bar=False, fitter=spy)
    epsf, stars = builder(cutouts)
    assert_allclose(epsf.data.sum(), 4.0, rtol=0.01)
    fluxes = np.array([star.flux for star in stars.all_stars])
    assert_allclose(np.median(fluxes), 20000.0, rtol=0.02)
    assert not any(star._excluded_from_fit for star in stars.all_stars)
    # What photutils does there: two dimensions, weights, no inplace; NaN without weight.
    assert all(data.ndim == 2 and data.shape == weights.shape and 'inplace' not in kwargs
               for data, weights, kwargs, _ in spy.calls)
    masked = [call for call in spy.calls if np.isnan(call[0]).any()]
    assert masked
    assert all((weights[np.isnan(data)] == 0).all() and info.ierr == 1
               for data, weights, _, info in masked)


def test_stars_that_fail_are_left_out_of_the_psf(cutouts):
    class Failing(PoissonLikelihoodFitter):
        """A fitter that fails for the star with a NaN pixel."""

        def __call__(self, model, x, y, z=None, weights=None, maxiter=100, **kwargs):
            fitted = super().__call__(model, x, y, z, weights=weights, maxiter=maxiter, **kwargs)
            if np.isnan(z).any():
                self.fit_info.ierr = 5
            return fitted

    builder = EPSFBuilder(oversampling=2, maxiters=6, progress_bar=False, fitter=Failing())
    with pytest.warns(match='has been excluded from ePSF fitting'):
        _, stars = builder(cutouts)
    assert [star._excluded_from_fit for star in stars.all_stars].count(True) == 1
