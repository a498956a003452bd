# Licensed under a 3-clause BSD style license - see LICENSE
"""What is known about parameters before the fit: Gaussian priors."""

from dataclasses import dataclass

import numpy as np

from ._validation import as_float_array, require_finite, require_proper_prior

__all__ = ['CentroidPrior', 'GaussianPrior']


@dataclass(frozen=True)
class GaussianPrior:
    """A Gaussian prior on one parameter.

    It counts as one more measurement of the parameter. Give it to a fitter
    by the name of the parameter, or to the model itself as astropy's
    ``Parameter.prior``, where every `~kpsf.PoissonLikelihoodFitter` finds it.
    It unpacks like the pair ``(mean, stddev)``.

    Parameters
    ----------
    mean : float
        Mean, in the unit that the parameter has during the fit.
    stddev : float
        Standard deviation, > 0.

    Raises
    ------
    ValueError
        If the mean is not finite, or the standard deviation not finite and
        positive.

    Examples
    --------
    >>> from astropy.modeling.models import Gaussian1D
    >>> from kpsf.priors import GaussianPrior
    >>> line = Gaussian1D(amplitude=4.0, mean=24.0, stddev=3.0)
    >>> line.mean.prior = GaussianPrior(24.5, 0.2)
    >>> mean, stddev = line.mean.prior
    >>> print(mean, stddev)
    24.5 0.2
    """

    mean: float
    stddev: float

    def __post_init__(self):
        """Check both numbers."""
        for name in ('mean', 'stddev'):
            value = as_float_array(getattr(self, name), f'The {name} of a prior')
            if value.ndim:
                raise ValueError(f'The {name} of a prior must be one number, but it has the shape '
                                 f'{value.shape}: pass one prior per parameter.')
            object.__setattr__(self, name, float(value))
        require_proper_prior(self.mean, self.stddev, 'a parameter')

    def __iter__(self):
        """Unpack like a pair."""
        return iter((self.mean, self.stddev))


class CentroidPrior:
    """A Gaussian prior on the position of a star.

    For faint stars. A position that is free follows the noise to where it
    happens to be highest, and the flux comes out too high: by a third at a
    signal-to-noise ratio below 2. A prior as wide as the star's position is
    really uncertain removes most of that. The errors are then those of the
    posterior: what the prior and the pixels tell together.

    Parameters
    ----------
    stddev : float or pair of float
        Standard deviation along both axes, or along x and y, in pixels.
    x, y : float or array_like, shape (n_stars,), optional
        Position on which it is centred. None: on the starting values of each
        fit, such as a catalogue's positions.

    Attributes
    ----------
    stddev : tuple of float
        Standard deviations along x and y.
    x, y : ndarray or None
        The centre.

    Raises
    ------
    ValueError
        If a standard deviation is not finite and positive, or a position
        not finite.

    Examples
    --------
    With ``PoissonLikelihoodFitter(priors=CentroidPrior(0.1))``, every fit in
    photutils has it around its own starting values. Of many stars at once:

    >>> from astropy.modeling.models import Gaussian2D
    >>> from kpsf import CentroidPrior
    >>> prior = CentroidPrior((0.1, 0.2))
    >>> prior
    CentroidPrior(stddev=(0.1, 0.2))
    >>> mean, stddev = prior.as_priors(Gaussian2D(), x=[3.0, 7.5], y=[4.0, 2.5])['y_mean']
    >>> print(mean, stddev)
    [4.  2.5] 0.2
    """

    def __init__(self, stddev, x=None, y=None):
        values = as_float_array(stddev, 'The stddev of a CentroidPrior')
        if values.shape not in ((), (2,)):
            raise ValueError('The stddev of a CentroidPrior must be a number or a pair, but it '
                             f'has the shape {values.shape}: pass one for both axes or one each.')
        require_proper_prior(0.0, values, 'positions')
        self.stddev = tuple(map(float, np.broadcast_to(values, 2)))
        self.x, self.y = (_check_centre(value, name) for value, name in ((x, 'x'), (y, 'y')))

    def __repr__(self):
        """Show the options; without a centre where it is the starting values."""
        centre = ''.join(f', {name}={value.tolist()}' for name, value
                         in (('x', self.x), ('y', self.y)) if value is not None)
        return f'{type(self).__name__}(stddev={self.stddev}{centre})'

    @staticmethod
    def names_of(model):
        """Find the parameters that are the position of a model.

        Parameters
        ----------
        model : `~astropy.modeling.Model`
            Model of one star.

        Returns
        -------
        tuple of str
            Names of x and y.

        Raises
        ------
        ValueError
            If the model has no position.
        """
        # Not at the top: the fitter is loaded before astropy has the base classes of models.
        from .models.names import position_names
        names = position_names(model)
        if None in names:
            raise ValueError('A CentroidPrior needs a model with a position, x_0 and y_0 or what '
                             'its x_name and y_name say, but the parameters are '
                             f'{", ".join(model.param_names)}: pass priors by name.')
        return names

    def as_priors(self, model, x, y):
        """Return the priors of stars by the names of their positions.

        Parameters
        ----------
        model : `~astropy.modeling.Model`
            Model of one star.
        x, y : array_like, shape (n_stars,)
            Starting values of their positions in pixels.

        Returns
        -------
        dict
            ``{name: (mean, stddev)}`` for the parameters of x and y, the means
            of shape (n_stars,), as `~kpsf.fit_stamps` takes it.

        Raises
        ------
        ValueError
            If the model has no position, or the prior not one per star.
        """
        names = self.names_of(model)
        starts = (np.atleast_1d(np.asarray(value, dtype=float)) for value in (x, y))
        return {name: (_centre(own, start), stddev) for name, own, start, stddev
                in zip(names, (self.x, self.y), starts, self.stddev, strict=True)}


def _check_centre(value, name):
    """Return a coordinate of the centre as an array () or (n_stars,), None if there is none."""
    if value is None:
        return None
    value = as_float_array(value, f'{name} of a CentroidPrior')
    if value.ndim > 1:
        raise ValueError(f'{name} of a CentroidPrior must be a number or one per star, but it has '
                         f'the shape {value.shape}: pass a one-dimensional array.')
    require_finite(value, f'{name} of a CentroidPrior', 'pass None to use the starting values')
    return value.copy()


def _centre(own, start):
    """Return the coordinate on which each star's prior is centred, of the shape of ``start``."""
    if own is None:
        return start
    if own.size != start.size:
        raise ValueError(f'The centre of a CentroidPrior must have one position per star, but it '
                         f'has {own.size} for {start.size}: pass as many, or none to centre it on '
                         'the starting values.')
    return own.reshape(start.shape)
