# Licensed under a 3-clause BSD style license - see LICENSE

import copy
import pickle

import numpy as np
import pytest
from astropy.modeling.models import Moffat2D
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from kpsf import EllipticalGaussianPSF, FitFlag, cstat, fit_stamps, goodness_of_fit

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
ABC = (0.7, -0.15, 0.45)
N = 12


class Generic(EllipticalGaussianPSF):
    """The same model without a kernel of its own."""


def psf(flux, x, y, a, b, c):
    """Return Gaussians by their definition, parameters (n,), result (n, ny, nx)."""
    flux, x, y, a, b, c = (np.asarray(v, float)[..., None, None] for v in (flux, x, y, a, b, c))
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def make_stamps(n=N, flux=2000.0, background=8.0, seed=3):
    rng = np.random.default_rng(seed)
    x, y = 4.2 + rng.uniform(-0.5, 0.5, n), 3.4 + rng.uniform(-0.5, 0.5, n)
    return rng.poisson(psf(np.full(n, flux), x, y, *ABC) + background).astype(float)


def fit(counts, model=None, **kwargs):
    return fit_stamps(counts, model or EllipticalGaussianPSF(1000, 4, 3.5, *ABC), n_threads=1,
                      **kwargs)


def derivatives(params):
    """Return the derivatives of a stamp by all parameters (7,), the background's last."""
    star = EllipticalGaussianPSF.fit_deriv(X.ravel(), Y.ravel(), *params[:6])
    return np.array([*star, np.ones(X.size)]).reshape(7, *SHAPE)


def assert_same_fits(fits, others, tolerance=3e-3):
    """Compare parameters in units of their errors, and the errors."""
    errors = np.where(others.errors > 0, others.errors, 1e-6)
    assert_allclose(fits.params / errors, others.params / errors, rtol=0, atol=tolerance)
    assert_allclose(fits.errors, others.errors, rtol=3 * tolerance)
    # A prior or a shared parameter leaves the deviance a slope.
    assert_allclose(fits.deviance, others.deviance, atol=2e-3)
    assert_array_equal(fits.flags, others.flags)


# What comes out

def test_results_have_one_row_for_each_stamp():
    fits = fit(make_stamps())
    assert len(fits) == N
    assert fits.param_names == ('flux', 'x_0', 'y_0', 'a', 'b', 'c', 'background')
    assert fits.params.shape == fits.errors.shape == (N, 7)
    assert fits.covariance.shape == (N, 7, 7)
    for name in ('deviance', 'edm', 'n_iter', 'converged', 'flags', 'flux_fraction', 'gof_z'):
        assert getattr(fits, name).shape == (N,)
    assert fits.converged.dtype == bool
    assert fits.flags.dtype.kind == fits.n_iter.dtype.kind == 'i'
    assert fits.params.flags.c_contiguous


def test_the_background_is_a_parameter_only_where_it_is_fitted():
    known = fit(make_stamps(), background=8.0)
    assert known.param_names == ('flux', 'x_0', 'y_0', 'a', 'b', 'c')
    assert known.params.shape == (N, 6)
    assert known.covariance.shape == (N, 6, 6)
    assert known.converged.all()


def test_the_table_has_all_columns():
    fits = fit(make_stamps())
    assert isinstance(fits.table, QTable)
    expected = [f'{name}_{kind}' for name in fits.param_names for kind in ('fit', 'err')]
    assert fits.table.colnames == [*expected, 'flux_fraction', 'cstat', 'gof_z', 'edm', 'n_iter',
                                   'converged', 'flags']
    assert len(fits.table) == N
    for j, name in enumerate(fits.param_names):
        assert_array_equal(fits.table[f'{name}_fit'], fits.params[:, j])
        assert_array_equal(fits.table[f'{name}_err'], fits.errors[:, j])
    assert_array_equal(fits.table['cstat'], fits.deviance)
    assert_array_equal(fits.table['flags'], fits.flags)


def test_repr_says_how_the_fits_went():
    counts = make_stamps()
    counts[4] = np.nan
    assert repr(fit(counts)) == ('<StampFits: 12 stamps, flux, x_0, y_0, a, b, c, background; '
                                 '11 converged, 1 flagged>')


@pytest.mark.parametrize('model', [EllipticalGaussianPSF(1, 4, 3, *ABC), Moffat2D(99, 4, 3, 2, 3)])
def test_results_survive_pickling_and_copying(model):
    fits = fit(make_stamps(), model)
    for other in (pickle.loads(pickle.dumps(fits)), copy.deepcopy(fits)):
        assert_array_equal(other.params, fits.params)
        assert_array_equal(other.covariance, fits.covariance)
        assert_array_equal(other.gof_z, fits.gof_z)
        assert_array_equal(other.model_images(3), fits.model_images(3))
        assert repr(other) == repr(fits)


@pytest.mark.parametrize('kwargs', [
    {}, {'fixed': ('a', 'c')}, {'fixed': 'flux'}, {'background': 8.0, 'fixed': ('x_0', 'b')},
    {'shared': ('x_0', 'b')}, {'fixed': 'y_0', 'shared': ('flux', 'background')}])
def test_the_covariance_has_the_rows_of_the_parameters(kwargs):
    fits = fit(make_stamps(), **kwargs)
    covariance = fits.covariance
    assert_array_equal(covariance, covariance.transpose(0, 2, 1))
    held = [fits.param_names.index(name) for name in np.atleast_1d(kwargs.get('fixed', []))]
    assert not covariance[:, held].any()
    assert not fits.errors[:, held].any()
    moving = [j for j in range(len(fits.param_names)) if j not in held]
    assert_array_equal(fits.errors ** 2 > 0, np.isin(range(len(fits.param_names)), moving)[None]
                       .repeat(N, axis=0))
    assert_allclose(fits.errors ** 2, np.einsum('nii->ni', covariance), rtol=1e-14)
    if 'shared' not in kwargs:
        own = covariance[:, moving][:, :, moving]
        scale = 1 / fits.errors[:, moving]
        expected = np.linalg.inv(information_of(fits)[:, moving][:, :, moving])
        assert_allclose(own * scale[:, None] * scale[:, :, None],
                        expected * scale[:, None] * scale[:, :, None], atol=1e-6)


def information_of(fits):
    """Return the Fisher matrix (n, p, p) of Gaussian fits by complex steps."""
    params = fits.params.T
    if len(params) == 6:
        params = np.vstack([params, np.full(len(fits), 8.0)])
    derivatives = []
    for unit in np.eye(7)[:len(fits.param_names)]:
        shifted = params + 1e-20j * unit[:, None]
        psf_complex = complex_psf(*shifted[:6])
        derivatives.append((psf_complex + shifted[6][:, None, None]).imag / 1e-20)
    mean = psf(*params[:6]) + params[6][:, None, None]
    return np.einsum('inyx,jnyx,nyx->nij', derivatives, derivatives, 1 / mean)


def complex_psf(*params):
    flux, x, y, a, b, c = (v[:, None, None] for v in params)
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def test_model_images_are_the_whole_mean():
    known = np.random.default_rng(1).uniform(0, 20, (N, *SHAPE))
    counts = make_stamps() + np.random.default_rng(2).poisson(known)
    fits = fit(counts, known_background=known, read_variance=4.0)
    expected = psf(*fits.params.T[:6]) + fits.params[:, 6, None, None] + known
    assert_allclose(fits.model_images(), expected, rtol=1e-10)
    assert_allclose(fits.model_images(3), expected[3], rtol=1e-10)
    assert_allclose(fits.model_images(-1), expected[-1], rtol=1e-10)
    assert_allclose(fits.model_images(slice(2, 9, 3)), expected[2:9:3], rtol=1e-10)
    assert_allclose(fits.model_images([5, 0, 5]), expected[[5, 0, 5]], rtol=1e-10)
    chosen = np.arange(N) % 5 == 0
    assert_allclose(fits.model_images(chosen), expected[chosen], rtol=1e-10)
    with pytest.raises(IndexError):
        fits.model_images(N)


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_model_images_have_as_many_electrons_as_the_data(model):
    # The condition of maximum likelihood for flux and background together.
    counts = make_stamps()
    fits = fit(counts, model(1000, 4, 3.5, *ABC))
    assert (fits.params[:, 6] > 0).all()
    assert_allclose(fits.model_images().sum(axis=(1, 2)), counts.sum(axis=(1, 2)), rtol=1e-5)


def test_the_deviance_and_the_goodness_are_those_of_the_model_images():
    counts = make_stamps()
    fits = fit(counts)
    images = fits.model_images()
    assert_allclose(fits.deviance, cstat(counts, images, axis=(1, 2)), rtol=1e-9)
    expected = goodness_of_fit(counts, images, 7, axis=(1, 2))
    assert_allclose(fits.gof_z, expected.z, rtol=1e-6)


def test_the_goodness_at_few_counts_is_that_of_the_model_images_and_their_derivatives():
    counts = make_stamps(background=0.5)
    fits = fit(counts)
    assert (fits.errors > 0).all()
    jacobian = np.array([derivatives(row) for row in fits.params]).transpose(1, 0, 2, 3)
    expected = goodness_of_fit(counts, fits.model_images(), 7, axis=(1, 2), jacobian=jacobian)
    assert_allclose(fits.gof_z, expected.z, rtol=1e-6)


def test_parameters_at_a_bound_are_not_free_for_the_goodness():
    counts = make_stamps(background=0.01, n=40)
    fits = fit(counts, fixed='b')
    at_bound = fits.params[:, 6] == 0
    assert 5 < at_bound.sum() < 35
    for row, free in zip(range(40), np.where(at_bound, 5, 6), strict=True):
        fitted = [0, 1, 2, 3, 5, 6][:free]
        expected = goodness_of_fit(counts[row], fits.model_images(row), free,
                                   jacobian=derivatives(fits.params[row])[fitted])
        assert_allclose(fits.gof_z[row], expected.z, rtol=1e-6)


def test_the_flux_fraction_is_the_share_of_the_psf_in_the_stamp():
    counts = make_stamps()
    mask = np.zeros(SHAPE, bool)
    mask[3, 4] = True
    for kwargs, used in (({}, 1.0), ({'mask': mask}, ~mask)):
        for model in (EllipticalGaussianPSF, Generic):
            fits = fit(counts, model(1000, 4, 3.5, *ABC), **kwargs)
            shares = psf(np.ones(N), *fits.params.T[1:6]) * used
            assert_allclose(fits.flux_fraction, shares.sum(axis=(1, 2)), rtol=1e-9)
    assert (fits.flux_fraction < 0.95).all()


def test_a_star_at_the_border_has_half_of_its_flux_in_the_stamp():
    counts = np.random.default_rng(1).poisson(
        psf(np.full(20, 2e4), np.full(20, -0.5), np.full(20, 3.5), *ABC) + 8).astype(float)
    fits = fit(counts, fixed=('a', 'b', 'c'))
    assert fits.converged.all()
    assert_allclose(fits.flux_fraction, 0.5, atol=0.05)
    assert np.abs((fits.params[:, 0] - 2e4) / fits.errors[:, 0]).max() < 4


# What goes in

def test_stamps_are_fitted_one_by_one():
    counts = make_stamps()
    together = fit(counts)
    for row in (0, 5, N - 1):
        alone = fit(counts[[row]])
        assert_allclose(alone.params[0], together.params[row], rtol=1e-8)
        assert_allclose(alone.covariance[0], together.covariance[row], rtol=1e-6, atol=1e-12)


def test_order_chunks_and_threads_do_not_matter(monkeypatch):
    counts = make_stamps(300)
    counts[[7, 150]] = np.nan
    together = fit(counts)
    order = np.random.default_rng(1).permutation(300)
    shuffled = fit(counts[order])
    assert_allclose(shuffled.params, together.params[order], rtol=1e-6)
    assert_array_equal(shuffled.n_iter, together.n_iter[order])
    assert_array_equal(shuffled.flags, together.flags[order])
    monkeypatch.setattr('kpsf.stamps.kernels._CHUNK', 41)
    for n_threads in (1, 3):
        chunks = fit_stamps(counts, EllipticalGaussianPSF(), n_threads=n_threads)
        assert_allclose(chunks.params, together.params, rtol=1e-6)
        assert_array_equal(chunks.n_iter, together.n_iter)
        assert_allclose(chunks.gof_z, together.gof_z, rtol=1e-5)


@pytest.mark.parametrize('change', [
    lambda k: k.astype(np.float32), lambda k: k.astype(np.int16), lambda k: k.astype(np.uint64),
    lambda k: k.astype('>f4'), lambda k: k.astype('>i4'), np.asfortranarray,
    lambda k: np.repeat(k, 2, axis=2)[:, :, ::2], lambda k: k[:, ::-1].copy()[:, ::-1],
    lambda k: k.tolist(), lambda k: np.ma.array(k)],
    ids=['float32', 'int16', 'uint64', 'big-endian float', 'big-endian int', 'fortran',
         'strided', 'reversed', 'list', 'masked array without mask'])
def test_types_and_memory_layouts_do_not_matter(change):
    counts = make_stamps()
    fits, expected = fit(change(counts)), fit(counts)
    assert_allclose(fits.params, expected.params, rtol=1e-9)
    assert fits.params.dtype == np.float64


def test_the_input_is_not_changed():
    counts, known = make_stamps(), np.full((N, *SHAPE), 2.0)
    counts[2, 3, 4] = np.nan
    mask = np.zeros(counts.shape, bool)
    mask[:, 0, 0] = True
    init = {'flux': np.full(N, 1500.0), 'x_0': 4.0}
    model = EllipticalGaussianPSF(1000, 4, 3.5, *ABC)
    before = copy.deepcopy((counts, known, mask, init, model.parameters))
    fit(counts, model, known_background=known, mask=mask, init=init, read_variance=known)
    fit(counts, Generic(1000, 4, 3.5, *ABC), known_background=known, mask=mask, init=init)
    for old, new in zip(before[:3], (counts, known, mask), strict=True):
        assert_array_equal(old, new)
    assert_array_equal(before[3]['flux'], init['flux'])
    assert init.keys() == before[3].keys()
    assert_array_equal(before[4], model.parameters)


def test_read_only_input_is_welcome():
    counts = make_stamps()
    counts.setflags(write=False)
    assert fit(counts).converged.all()
    assert fit(counts, shared=('a', 'b', 'c')).converged.all()


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
@pytest.mark.parametrize('kwargs', [{}, {'fixed': ('a', 'b', 'c')}, {'background': 8.0}])
def test_masked_pixels_drop_out_as_if_the_stamp_were_smaller(model, kwargs):
    counts, model = make_stamps(), model(1000, 4, 3.5, *ABC)
    mask = np.zeros(SHAPE, bool)
    mask[:, 8], mask[7] = True, True
    small = fit(counts[:, :7, :8], model, **kwargs)
    spoilt = np.where(mask, 1e6, counts)
    masked = fit(spoilt, model, mask=mask, **kwargs)
    assert_same_fits(masked, small)
    assert_allclose(masked.gof_z, small.gof_z, atol=1e-4)
    assert_allclose(masked.flux_fraction, small.flux_fraction, rtol=1e-3)


def test_masks_nan_infinities_and_masked_arrays_are_the_same():
    counts = make_stamps()
    mask = np.random.default_rng(2).uniform(size=counts.shape) < 0.15
    expected = fit(counts, mask=mask)
    assert expected.converged.all()
    ways = [
        (np.where(mask, np.nan, counts), None), (np.where(mask, np.inf, counts), None),
        (np.where(mask, -np.inf, counts), None), (np.where(mask, -1e9, counts), mask),
        (np.where(mask, np.nan, counts), mask), (np.ma.array(counts, mask=mask), None)]
    for spoilt, given in ways:
        assert_array_equal(fit(spoilt, mask=given).params, expected.params)
    half = mask & (X > 4)
    both = fit(np.ma.array(np.where(mask & ~half, np.nan, counts), mask=half))
    assert_array_equal(both.params, expected.params)


def test_infinities_of_both_signs_are_left_out():
    counts = make_stamps()
    counts[0, 0, 0], counts[0, 0, 1] = np.inf, -np.inf
    fits = fit(counts)
    assert fits.converged.all()
    assert not fits.flags.any()


def test_a_mask_of_one_stamp_goes_for_all():
    counts, mask = make_stamps(), np.zeros(SHAPE, bool)
    mask[2, 2] = True
    assert_array_equal(fit(counts, mask=mask).params,
                       fit(counts, mask=np.broadcast_to(mask, counts.shape)).params)


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_a_stamp_without_data_is_a_flagged_row_of_nan(model):
    counts = make_stamps()
    counts[[0, 4, N - 1]] = np.nan
    fits = fit(counts, model(1000, 4, 3.5, *ABC))
    lost = np.isnan(counts).all(axis=(1, 2))
    assert_array_equal(fits.flags, np.where(lost, FitFlag.TOO_FEW_PIXELS, 0))
    assert not fits.converged[lost].any()
    assert not fits.n_iter[lost].any()
    for values in (fits.params, fits.errors, fits.covariance, fits.deviance, fits.edm, fits.gof_z,
                   fits.flux_fraction, fits.model_images()):
        assert np.isnan(values[lost]).all()
        assert np.isfinite(values[~lost]).all()
    assert_allclose(fits.params[~lost], fit(counts[~lost], model(1000, 4, 3.5, *ABC)).params,
                    rtol=1e-7)


@pytest.mark.parametrize('kwargs', [{}, {'shared': ('a', 'b', 'c')}, {'background': 3.0}])
def test_a_series_without_any_data_is_all_flags(kwargs):
    fits = fit(np.full((3, *SHAPE), np.nan), **kwargs)
    assert_array_equal(fits.flags, FitFlag.TOO_FEW_PIXELS)
    assert np.isnan(fits.params).all()
    assert np.isnan(fits.covariance).all()
    assert len(fits.table) == 3


def test_as_many_pixels_as_parameters_are_enough():
    counts, used = make_stamps(2), np.zeros((2, *SHAPE), bool)
    used[:, 2:5, 3:6] = True
    used[0, 2, :5], used[1, 2] = False, False                 # 7 pixels and 6
    fits = fit(counts, mask=~used)
    assert not fits.flags[0] & FitFlag.TOO_FEW_PIXELS
    assert fits.flags[1] == FitFlag.TOO_FEW_PIXELS


# What is known beforehand

def test_fixed_parameters_keep_the_value_of_the_model_or_of_init():
    model = EllipticalGaussianPSF(1000, 4.1, 3.5, *ABC)
    fits = fit(make_stamps(), model, fixed=('x_0', 'a'), init={'a': np.linspace(0.6, 0.8, N)})
    assert (fits.params[:, 1] == 4.1).all()
    assert_array_equal(fits.params[:, 3], np.linspace(0.6, 0.8, N))
    assert fits.converged.all()


def test_what_the_model_fixes_and_bounds_is_respected():
    model = EllipticalGaussianPSF(1000, 4, 3.5, *ABC, fixed={'b': True},
                                  bounds={'flux': (None, 1900.0)})
    fits = fit(make_stamps(), model)
    assert (fits.params[:, 4] == ABC[1]).all()
    assert (fits.params[:, 0] <= 1900).all()
    at_bound = fits.params[:, 0] == 1900
    assert at_bound.any()
    assert_array_equal(fits.flags == FitFlag.AT_BOUND, at_bound)
    wider = fit(make_stamps(), model, bounds={'flux': (0, 5000)})
    assert not wider.flags.any()
    assert wider.params[:, 0].max() > 1950


def test_with_everything_fixed_nothing_is_fitted():
    fits = fit(make_stamps(), fixed=('flux', 'x_0', 'y_0', 'a', 'b', 'c'), background=8.0)
    assert (fits.params == [1000, 4, 3.5, *ABC]).all()
    assert fits.converged.all()
    assert not fits.covariance.any()
    expected = psf(*np.array([[1000, 4, 3.5, *ABC]]).T) + 8
    assert_allclose(fits.deviance, cstat(make_stamps(), expected, axis=(1, 2)), rtol=1e-9)


@pytest.mark.parametrize('as_table', [False, True])
def test_starting_values_may_be_given(as_table):
    counts = make_stamps()
    near = {'flux': np.full(N, 1700.0), 'x_0': np.full(N, 4.4), 'y_0': np.full(N, 3.2),
            'background': np.full(N, 12.0)}
    fits = fit(counts, init=Table(near) if as_table else near)
    assert_same_fits(fits, fit(counts))
    # One evaluation stays near the start.
    first = fit(counts, init=Table(near) if as_table else near, max_iter=1,
                fixed=('a', 'b', 'c'))
    free = fit(counts, max_iter=1, fixed=('a', 'b', 'c'))
    assert np.abs(first.params[:, 1] - free.params[:, 1]).max() > 0.01


def test_bounds_may_be_one_per_stamp():
    lower = np.where(np.arange(N) % 2, 4.5, -10.0)
    fits = fit(make_stamps(), bounds={'x_0': (lower, None)})
    assert fits.converged.all()
    assert (fits.params[:, 1] >= lower).all()
    at_bound = fits.params[:, 1] == lower
    assert at_bound.any()
    assert_array_equal(fits.flags == FitFlag.AT_BOUND, at_bound)
    assert not fits.errors[at_bound, 1].any()


def test_priors_may_be_one_per_stamp():
    free = fit(make_stamps())
    centre = free.params[:, 1] + 0.1
    stddev = np.where(np.arange(N) % 2, 1e-4, 1e4)
    fits = fit(make_stamps(), priors={'x_0': (centre, stddev)})
    assert fits.converged.all()
    assert_allclose(fits.params[1::2, 1], centre[1::2], atol=1e-3)
    assert_allclose(fits.params[::2, 1], free.params[::2, 1], atol=1e-3)
    assert_allclose(fits.errors[1::2, 1], 1e-4, rtol=1e-3)


def test_a_background_bounded_on_one_side_keeps_the_other_at_zero():
    counts = make_stamps(background=0.01, n=40)
    fits = fit(counts, bounds={'background': (None, 50.0)})
    assert_array_equal(fits.params, fit(counts).params)
    assert fits.params[:, 6].min() == 0


def test_a_known_background_of_any_shape_gives_the_same_fit():
    counts = make_stamps()
    number, image, cube = (fit(counts, background=np.full(shape, 8.0))
                           for shape in ((), SHAPE, (N, *SHAPE)))
    for other in (image, cube):
        assert_allclose(other.params, number.params, rtol=1e-8)
    offset = fit(counts, known_background=8.0)
    plain = fit(counts)
    assert_allclose(offset.params[:, 6] + 8, plain.params[:, 6], atol=1e-3)
    assert (offset.params[:, 6] < 0).any()


def test_a_masked_pixel_does_not_limit_a_negative_background():
    known = np.full(SHAPE, 100.0)
    known[0, 0] = 0.0
    counts = make_stamps(background=80.0)
    counts[:, 0, 0] = np.nan
    fits = fit(counts, known_background=known)
    assert not fits.flags.any()
    assert_allclose(fits.params[:, 6], -20, atol=6)


def test_the_fit_does_not_care_which_way_is_up():
    counts = make_stamps()
    fits = fit(counts)
    turned = fit(counts.transpose(0, 2, 1))
    order = [0, 2, 1, 5, 4, 3, 6]
    assert np.abs((turned.params[:, order] - fits.params) / fits.errors).max() < 3e-3
    mirrored = fit(counts[:, :, ::-1])
    expected = fits.params * [1, -1, 1, 1, -1, 1, 1] + [0, SHAPE[1] - 1, 0, 0, 0, 0, 0]
    assert np.abs((mirrored.params - expected) / fits.errors).max() < 3e-3


# Flags

def test_no_fit_is_both_unconverged_and_unflagged():
    counts = np.concatenate([make_stamps(200, flux=f, background=b, seed=int(f))
                             for f, b in ((20, 0.01), (20, 5), (1e4, 0), (0, 1), (0, 0))])
    for max_iter in (1, 4, 100):
        for model in (EllipticalGaussianPSF(1000, 4, 3.5, *ABC), Generic(1000, 4, 3.5, *ABC)):
            fits = fit(counts, model, max_iter=max_iter)
            assert_array_equal(fits.converged, fits.flags & FitFlag.NOT_CONVERGED == 0)
            assert_array_equal(fits.converged, (fits.edm < 1e-6) & np.isfinite(fits.deviance))
            assert not np.isnan(fits.params).any()
            assert (fits.n_iter <= max(max_iter, 2)).all()


def test_a_fit_that_was_stopped_says_so():
    fits = fit(make_stamps(), max_iter=1, init={'x_0': 6.0})
    assert not fits.converged.any()
    assert (fits.flags & FitFlag.NOT_CONVERGED).all()


def test_a_flux_below_zero_is_flagged():
    counts = np.random.default_rng(4).poisson(20.0, (200, *SHAPE)).astype(float)
    fits = fit(counts, fixed=('x_0', 'y_0', 'a', 'b', 'c'))
    assert fits.converged.all()
    below = fits.params[:, 0] <= 0
    assert 70 < below.sum() < 130
    assert_array_equal(fits.flags & FitFlag.FLUX_NOT_POSITIVE > 0, below)
    assert np.abs(np.mean(fits.params[:, 0] / fits.errors[:, 0])) < 0.25


def test_a_position_outside_the_stamp_is_flagged():
    counts = make_stamps()
    fits = fit(counts, fixed=('y_0', 'a', 'b', 'c'), bounds={'x_0': (8.6, 12)})
    assert (fits.flags & FitFlag.CENTROID_OUTSIDE).all()
    inside = fit(counts, fixed=('y_0', 'a', 'b', 'c'), bounds={'x_0': (8.4, 8.45)})
    assert not (inside.flags & FitFlag.CENTROID_OUTSIDE).any()
    assert (inside.flags & FitFlag.AT_BOUND).all()


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_empty_stamps_are_flagged_and_have_a_finite_goodness(model):
    counts = make_stamps()
    counts[3] = 0
    fits = fit(counts, model(1000, 4, 3.5, *ABC))
    assert fits.flags[3]
    assert not np.delete(fits.flags, 3).any()
    assert np.isnan(fits.gof_z[3]) or abs(fits.gof_z[3]) < 10
    assert abs(fits.params[3, 0]) < 1e-3
    assert np.delete(fits.gof_z, 3).max() < 5


# How it is run

def test_a_progress_bar_is_shown_and_changes_nothing(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, file):
            self.total, self.done = total, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self):
            self.done += 1

    monkeypatch.setattr('kpsf.stamps.threads.ProgressBar', Bar)
    monkeypatch.setattr('kpsf.stamps.kernels._CHUNK', 5)
    counts = make_stamps()
    quiet = fit(counts)
    assert not bars
    fits = fit(counts, progress_bar=True)
    assert bars
    assert all(bar.done == bar.total == 3 for bar in bars)
    assert_array_equal(fits.params, quiet.params)


def test_a_progress_bar_works_without_a_terminal():
    assert fit(make_stamps(), progress_bar=True).converged.all()


def test_threads_are_used_when_asked_for(monkeypatch):
    seen = []
    from kpsf.stamps import threads

    class Pool(threads.ThreadPoolExecutor):
        def __init__(self, n):
            seen.append(n)
            super().__init__(n)

    monkeypatch.setattr(threads, 'ThreadPoolExecutor', Pool)
    counts = make_stamps()
    alone = fit_stamps(counts, EllipticalGaussianPSF())
    assert not seen
    together = fit_stamps(counts, EllipticalGaussianPSF(), n_threads=3)
    assert_allclose(together.params, alone.params, rtol=1e-6)
    assert set(seen) == {3}
