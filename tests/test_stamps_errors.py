# Licensed under a 3-clause BSD style license - see LICENSE

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling import custom_model
from astropy.modeling.models import Gaussian1D, Gaussian2D, Mapping
from astropy.table import Table

from kpsf import EllipticalGaussianPSF, fit_stamps

N, SHAPE = 6, (7, 8)
COUNTS = np.random.default_rng(1).poisson(
    EllipticalGaussianPSF(900, 3.4, 3.1, 0.5, 0, 0.5)(*np.mgrid[:8, :7])[..., None].T + 5.0,
    (N, *SHAPE)).astype(float)
NEGATIVE = np.where(np.arange(8) == 3, -4.0, COUNTS)
NAN = np.full(N, np.nan)


@custom_model
def star_with_background(x, y, amplitude=100.0, x_0=3.0, y_0=3.0, background=1.0):
    return amplitude * np.exp(-((x - x_0) ** 2 + (y - y_0) ** 2)) + background


def tied_model():
    model = EllipticalGaussianPSF()
    model.c.tied = lambda model: model.a
    return model


def fixed_model():
    return EllipticalGaussianPSF(fixed={'a': True})


def model_with_units():
    return EllipticalGaussianPSF(1 * u.electron, 3 * u.pix, 3 * u.pix, 0.5 / u.pix ** 2,
                                 0 / u.pix ** 2, 0.5 / u.pix ** 2)


class EndlessFile:
    """What has a flux, and an item of which is a file again, as of lightkurve's pixel files."""

    flux = COUNTS

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return EndlessFile()


COUNTS_TROUBLE = [
    (EndlessFile(), TypeError, r'array of stamps in electrons, but it is EndlessFile: pass its '
                               r'flux as a plain array.*extract_light_curve'),
    ([EndlessFile()], TypeError, r'array of stamps in electrons, but it is list: convert'),
    (SimpleNamespace(electrons=COUNTS), TypeError, r'but it is SimpleNamespace: pass its electr'),
    (COUNTS * u.electron, TypeError, r'plain array in electrons.*unit electron.*to_electrons'),
    (COUNTS * 1j, TypeError, r'real numbers.*complex128: convert'),
    (COUNTS > 5, TypeError, r'real numbers.*bool: convert'),
    (COUNTS.astype(str), TypeError, r'real numbers.*<U\d+: convert'),
    (COUNTS.astype(object), TypeError, r'real numbers.*object: convert'),
    (COUNTS[0], ValueError, r'\(n_stamps, ny, nx\).*\(7, 8\): for one stamp pass counts\[np'),
    (COUNTS[None], ValueError, r'\(n_stamps, ny, nx\).*\(1, 6, 7, 8\)'),
    (5.0, ValueError, r'\(n_stamps, ny, nx\).*\(\)'),
    (COUNTS[:0], ValueError, r'none of them 0.*\(0, 7, 8\)'),
    (COUNTS[:, :0], ValueError, r'none of them 0.*\(6, 0, 8\)'),
    (NEGATIVE, ValueError, r'>= 0, but 42 of 336 pixels are negative \(minimum -4\): add the b'),
    (COUNTS[:, :2, :3], ValueError, r'at least as many pixels as free parameters.*2 x 3 pixels '
                                    r'cannot determine 7: fix or share some of flux, x_0'),
]


@pytest.mark.parametrize(('counts', 'error', 'message'), COUNTS_TROUBLE)
def test_counts_that_cannot_be_fitted_say_why(counts, error, message):
    with pytest.raises(error, match=message):
        fit_stamps(counts, EllipticalGaussianPSF())


def test_counts_deeper_below_zero_than_read_noise_explains_are_refused():
    fit_stamps(NEGATIVE, EllipticalGaussianPSF(), read_variance=1.0)
    with pytest.raises(ValueError, match=r'negative by more than 8 sigma of the read noise '
                                         r'\(minimum -4\): add the background'):
        fit_stamps(NEGATIVE, EllipticalGaussianPSF(), read_variance=0.2)


def test_read_noise_of_one_pixel_excuses_that_pixel_only():
    variance = np.zeros(SHAPE)
    variance[:, 3] = 1.0
    fit_stamps(NEGATIVE, EllipticalGaussianPSF(), read_variance=variance)
    with pytest.raises(ValueError, match='42 of 336 pixels are negative'):
        fit_stamps(NEGATIVE, EllipticalGaussianPSF(), read_variance=variance[:, ::-1])


def test_masked_negative_counts_are_no_trouble():
    fits = fit_stamps(NEGATIVE, EllipticalGaussianPSF(), mask=NEGATIVE < 0)
    assert np.isfinite(fits.params).all()


MODEL_TROUBLE = [
    (EllipticalGaussianPSF, TypeError, r'instance of an astropy model.*the class EllipticalGauss'
                                       r'ianPSF: create one.*for example'),
    (None, TypeError, r'instance of an astropy model.*NoneType'),
    (np.ones((5, 7)), TypeError, r'an image of shape \(5, 7\): make a model of it, photu'),
    ('gaussian', TypeError, r'instance of an astropy model.*str'),
    (lambda x, y: x, TypeError, r'instance of an astropy model.*function'),
    (Gaussian1D(), ValueError, r'x and y into one value.*1 inputs, 1 outputs'),
    (Mapping((0, 1)), ValueError, r'x and y into one value.*2 inputs, 2 outputs'),
    (Gaussian2D(*[[1, 2]] * 6, n_models=2), ValueError,
     r'a set of 2: pass one'),
    (tied_model(), ValueError, r'Tied parameters are not supported.*c is tied: fix or share it'),
    (star_with_background(), ValueError, r'must not be called background.*amplitude, x_0, y_0, '
                                         r'background is: rename'),
    (model_with_units(), TypeError, r'plain numbers in pixels and electrons.*flux, x_0, y_0, a, '
                                    r'b, c has a unit: strip'),
]


@pytest.mark.parametrize(('model', 'error', 'message'), MODEL_TROUBLE)
def test_models_that_cannot_be_fitted_say_why(model, error, message):
    with pytest.raises(error, match=message):
        fit_stamps(COUNTS, model)


ARGUMENT_TROUBLE = [
    # mask
    ({'mask': np.zeros(SHAPE)}, ValueError,
     r'boolean with the shape \(7, 8\) or \(6, 7, 8\).*float64 of shape \(7, 8\): convert'),
    ({'mask': np.zeros((8, 7), bool)}, ValueError, r'boolean with the shape.*bool of shape \(8'),
    ({'mask': True}, ValueError, r'boolean with the shape.*bool of shape \(\)'),
    # backgrounds
    ({'background': 'median'}, ValueError, r"'fit', a number or an array.*'median': pass 'fit'"),
    ({'background': -0.5}, ValueError, r'known background must be >= 0.*-0.5\): pass the backg'),
    ({'background': np.full(SHAPE, -2.0)}, ValueError, r'known background must be >= 0.*-2'),
    ({'background': np.nan}, ValueError, r'background must be finite, but 1 of 1.*: mask pixels'),
    ({'background': None}, ValueError, r'background must be finite'),
    ({'background': np.ones((8, 7))}, ValueError,
     r'background must be a number or have the shape \(7, 8\) or \(6, 7, 8\).*\(8, 7\): reshape'),
    ({'background': np.ones(N)}, ValueError, r'background must be a number or have.*\(6,\)'),
    ({'background': [[1, 2], [3]]}, TypeError, r'background must be an array of numbers.*list: '),
    ({'background': 2.0, 'known_background': 3.0}, ValueError,
     r"known_background goes with background='fit'.*: add the two"),
    ({'known_background': np.full((N, *SHAPE), np.inf)}, ValueError,
     r'known_background must be finite, but 336 of 336'),
    ({'known_background': np.ones(3)}, ValueError, r'known_background must be a number or have'),
    ({'background': EndlessFile()}, TypeError,
     r'background must be an array of numbers, but it is EndlessFile: pass its flux'),
    ({'known_background': 'fit'}, TypeError, r'known_background must be an array of numbers.*str'),
    ({'known_background': np.ma.masked_equal(np.ones(SHAPE), 1.0)}, TypeError,
     r'known_background must be a plain array, but 56 of 56 pixels are masked'),
    # read noise
    ({'read_variance': -1.0}, ValueError, r'read_variance must be >= 0.*-1\): pass the square'),
    ({'read_variance': np.nan}, ValueError, r'read_variance must be finite'),
    ({'read_variance': np.ones((2, *SHAPE))}, ValueError, r'read_variance must be a number or'),
    # names
    ({'fixed': ('x0',)}, ValueError, r'fixed must name parameters among flux, x_0, y_0, a, b, c, '
                                     r'background, but it names x0: correct the spelling'),
    ({'shared': 'shape'}, ValueError, r'shared must name parameters.*names shape'),
    ({'bounds': {'sigma': (0, 1)}}, ValueError, r'bounds must name parameters.*names sigma'),
    ({'priors': {'X_0': (0, 1)}}, ValueError, r'priors must name parameters.*names X_0'),
    ({'init': {'y': 3.0}}, ValueError, r'init must name parameters.*names y'),
    ({'init': Table({'flux_x': NAN})}, ValueError, r'init must name parameters.*names flux_x'),
    ({'fixed': (1,)}, TypeError, r'fixed must hold parameter names.*\(1,\): pass a tuple'),
    ({'shared': (None, 'a')}, TypeError, r'shared must hold parameter names'),
    ({'fixed': 'background'}, ValueError, r"cannot be fixed while background='fit': pass its val"),
    ({'background': 5.0, 'fixed': 'background'}, ValueError, r'fixed must name.*names background'),
    ({'background': 5.0, 'priors': {'background': (5, 1)}}, ValueError, r'priors must name param'),
    ({'fixed': ('a', 'b'), 'shared': ('b', 'a')}, ValueError,
     r'either fixed or shared, but a, b is both: leave it out'),
    ({'model': fixed_model(), 'shared': 'a'}, ValueError,
     r'either fixed or shared, but a is both.*set model.fixed to False'),
    # bounds
    ({'bounds': [('x_0', (0, 1))]}, TypeError,
     r'bounds must be a dict of pairs by parameter name.*list: pass, for example'),
    ({'bounds': {'x_0': 3.0}}, TypeError,
     r'bounds \(lower, upper\) of x_0 must be a pair.*3.0: pass two values'),
    ({'bounds': {'x_0': None}}, TypeError, r'bounds \(lower, upper\) of x_0 must be a pair'),
    ({'bounds': {'x_0': (1, 2, 3)}}, TypeError, r'of x_0 must be a pair.*\(1, 2, 3\)'),
    ({'bounds': {'x_0': (3, 3)}}, ValueError,
     r'lower bound of x_0 must be below the upper.*3.0 and 3.0: widen them, or fix'),
    ({'bounds': {'x_0': (4, 3)}}, ValueError, r'lower bound of x_0 must be below the upper'),
    ({'bounds': {'x_0': (np.nan, 3)}}, ValueError, r'lower bound of x_0 must be below the upper'),
    ({'bounds': {'x_0': (np.arange(N), 5)}}, ValueError, r'lower bound of x_0 must be below'),
    ({'bounds': {'x_0': (np.zeros(2), 5)}}, ValueError,
     r'The lower bound of x_0 must be a number or one per stamp, \(6,\).*\(2,\): reshape'),
    ({'bounds': {'x_0': (0, np.ones((N, 1)))}}, ValueError, r'upper bound of x_0.*\(6, 1\)'),
    ({'bounds': {'x_0': ('left', 5)}}, TypeError, r'lower bound of x_0 must be an array of numb'),
    ({'bounds': {'background': (-1, 5)}}, ValueError,
     r'background must be bounded at 0 or above, where the mean stays positive.*-1: raise it'),
    ({'bounds': {'background': (-11, 5)}, 'known_background': 10.0}, ValueError,
     r'background must be bounded at -10 or above.*-11'),
    ({'bounds': {'a': (np.zeros(N), 5)}, 'shared': 'a'}, ValueError,
     r'bounds of a must be two numbers, since it is shared.*: pass one pair'),
    # priors
    ({'priors': 'flat'}, TypeError, r'priors must be a dict of pairs.*str'),
    ({'priors': {'x_0': 3.0}}, TypeError, r'prior \(mean, stddev\) of x_0 must be a pair.*3.0'),
    ({'priors': {'x_0': (3.0, 0.0)}}, ValueError,
     r'finite mean and a finite stddev > 0, but it is \(3.0, 0.0\): leave the parameter out'),
    ({'priors': {'x_0': (3.0, -1.0)}}, ValueError, r'finite stddev > 0'),
    ({'priors': {'x_0': (3.0, np.inf)}}, ValueError, r'finite stddev > 0'),
    ({'priors': {'x_0': (np.nan, 1.0)}}, ValueError, r'prior of x_0 must have a finite mean'),
    ({'priors': {'x_0': (NAN, 1.0)}}, ValueError, r'prior of x_0 must have a finite mean'),
    ({'priors': {'x_0': (np.ones(4), 1.0)}}, ValueError, r'prior mean of x_0 must be a number or'),
    ({'priors': {'x_0': (1.0, np.ones(4))}}, ValueError, r'prior stddev of x_0 must be a number'),
    ({'priors': {'b': (0, np.ones(N))}, 'shared': 'b'}, ValueError,
     r'priors of b must be two numbers, since it is shared'),
    # starting values
    ({'init': np.ones(7)}, TypeError, r'init must be a dict or a table of values.*ndarray'),
    ({'init': 5.0}, TypeError, r'init must be a dict or a table.*float: pass, for example'),
    ({'init': {'flux': NAN}}, ValueError, r'init of flux must be finite, but 6 of 6.*: leave the'),
    ({'init': {'flux': np.inf}}, ValueError, r'init of flux must be finite, but 1 of 1'),
    ({'init': {'flux': np.ones(5)}}, ValueError, r'init of flux must be a number or one per stam'),
    ({'init': {'flux': 'bright'}}, TypeError, r'init of flux must be an array of numbers.*str'),
    ({'init': {'a': 1.0, 'b': 5.0, 'c': 1.0}}, ValueError,
     r'shape must be positive definite.*6 of 6 starting values are not \(the first has a=1, b=5, '
     r'c=1\): change init, bounds or the model'),
    ({'bounds': {'a': (-3.0, -1.0)}}, ValueError, r'shape must be positive definite.*a=-1'),
    # the rest
    ({'covariance': 'hessian'}, ValueError,
     r"covariance must be one of 'fisher', 'observed', 'sandwich', but it is 'hessian'"),
    ({'covariance': None}, ValueError, r'covariance must be one of'),
    ({'max_iter': 0}, ValueError, r'max_iter must be a whole number of at least 1, but it is 0'),
    ({'max_iter': 2.5}, ValueError, r'max_iter must be a whole number.*2.5'),
    ({'n_threads': -1}, ValueError, r'n_threads must be a whole number of at least 1.*-1'),
    ({'n_threads': 'all'}, ValueError, r"n_threads must be a whole number.*'all'"),
]


@pytest.mark.parametrize(('arguments', 'error', 'message'), ARGUMENT_TROUBLE)
def test_arguments_that_make_no_sense_say_why(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_stamps(COUNTS, **{'model': EllipticalGaussianPSF(), **arguments})


@pytest.mark.parametrize('arguments', [
    {'fixed': 5}, {'fixed': None}, {'shared': {'a': 1}, 'bounds': {'a': 3.0}},
    {'shared': 'a', 'bounds': {'a': None}}, {'shared': 'a', 'priors': {'a': 0.5}}])
def test_nothing_comes_back_as_an_error_of_the_interpreter(arguments):
    with pytest.raises((TypeError, ValueError), match=': '):
        fit_stamps(COUNTS, EllipticalGaussianPSF(), **arguments)


def test_names_may_come_one_by_one():
    model = EllipticalGaussianPSF(900, 3.1, 3.4, 0.5, 0, 0.5)
    fits = fit_stamps(COUNTS, model, fixed=(name for name in 'abc'), shared={'x_0': None})
    assert (fits.params[:, 3:6] == [0.5, 0, 0.5]).all()
    assert not fits.errors[:, 3:6].any()
    assert (fits.params[:, 1] == fits.params[0, 1]).all()


def test_starting_values_of_stamps_without_data_need_not_be_finite():
    counts = COUNTS.copy()
    counts[2] = np.nan
    init = {'flux': np.full(N, 900.0)}
    init['flux'][2] = np.nan
    fits = fit_stamps(counts, EllipticalGaussianPSF(), init=init)
    assert np.isfinite(fits.params[[0, 1, 3, 4, 5]]).all()


def test_one_stamp_without_enough_pixels_is_no_error():
    mask = np.zeros(COUNTS.shape, bool)
    mask[3, 1:] = True
    mask[3, 0, 6:] = True                       # 6 pixels are left for 7 parameters
    fits = fit_stamps(COUNTS, EllipticalGaussianPSF(), mask=mask)
    assert np.isnan(fits.params[3]).all()
    assert np.isfinite(np.delete(fits.params, 3, axis=0)).all()
