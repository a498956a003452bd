# Licensed under a 3-clause BSD style license - see LICENSE
"""What limits the parameters of one fit: bounds and priors."""

from collections.abc import Mapping

import numpy as np

from .._kernels.solver import Constraints
from .._validation import require_known_names, require_proper_prior, unpack_pair
from ..priors import CentroidPrior, GaussianPrior

__all__ = ['build_constraints', 'check_priors']


def check_priors(priors):
    """Return the priors as the fitter keeps them: a `CentroidPrior`, a dict, or a list of both.

    Raises
    ------
    TypeError, ValueError
        If they are something else.
    """
    if priors is None:
        return {}
    if isinstance(priors, (list, tuple)):
        return [check_priors(some) for some in priors]
    if isinstance(priors, CentroidPrior):
        return priors
    if not isinstance(priors, Mapping):
        raise TypeError('priors must be a dict {name: (mean, stddev)}, a CentroidPrior or a list '
                        f'of these, but they are {priors!r}: pass one.')
    return {name: _check_prior(prior, name) for name, prior in priors.items()}


def _check_prior(prior, name):
    """Return the prior of a parameter as a `GaussianPrior`."""
    if isinstance(prior, GaussianPrior):
        return prior
    mean, stddev = unpack_pair(prior, f'The prior (mean, stddev) of {name}')
    require_proper_prior(mean, stddev, name)
    return GaussianPrior(mean, stddev)


def build_constraints(model, mean, group, priors, background_scale, least_background):
    """Return bounds and priors of the free parameters and, last, the background.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        The model that is fitted.
    mean : ModelMean
        Its mean counts.
    group : SourceGroup or None
        The group that the model is.
    priors : dict, CentroidPrior or list
        As `check_priors` returns them.
    background_scale : float
        Electrons per unit of the background; 0 where it is not fitted.
    least_background : float
        Lower bound of the background in electrons.

    Returns
    -------
    Constraints
    """
    names = [*mean.names, 'background'] if background_scale else mean.names
    center, precision = np.zeros((2, len(mean.names) + 1, 1))
    for name, prior in _collect(priors, model, mean, group, bool(background_scale)).items():
        if name in names:
            scale = background_scale if name == 'background' else 1.0
            index = names.index(name)
            center[index] = scale * prior.mean
            precision[index] = (scale * prior.stddev)**-2
        elif name in model.param_names and model.tied[name]:
            raise ValueError(f'A prior must be on a parameter of its own, but {name} is tied: '
                             'put the prior on the parameters that it follows.')
    lower = np.append(mean.lower, least_background)[:, np.newaxis]
    upper = np.append(mean.upper, np.inf)[:, np.newaxis]
    return Constraints(np.arange(len(names)), lower, upper, center, precision)


def _collect(priors, model, mean, group, fits_background):
    """Return the `GaussianPrior` of each parameter by name; the fitter's replace the model's."""
    given = {}
    for some in priors if isinstance(priors, list) else [priors]:
        if isinstance(some, CentroidPrior):
            named = _of_positions(some, model, mean, group)
        else:
            named = _of_names(some, model, group, fits_background)
        twice = given.keys() & named.keys()
        if twice:
            raise ValueError(f'A parameter can have one prior, but {", ".join(sorted(twice))} has '
                             'two: leave one out.')
        given |= named
    return _of_model(model, group) | given


def _of_names(priors, model, group, fits_background):
    """Return priors by the model's own names; a name of a group's PSF stands for every star."""
    known = [*model.param_names, *(['background'] if fits_background else [])]
    own = {name: prior for name, prior in priors.items() if name in known}
    others = {name: prior for name, prior in priors.items() if name not in known}
    if group is not None:
        require_known_names(others, (*group.psf.param_names, *known), 'priors')
        every = {each: prior for name, prior in others.items() for each in group.names_of(name)}
        return every | own
    require_known_names(others, known, 'priors')
    return own


def _of_model(model, group):
    """Return the priors that the parameters themselves have, if they are of kpsf."""
    found = {name: getattr(model, name).prior for name in model.param_names}
    if group is not None:
        # photutils makes the parameters of a group anew, without priors.
        inherited = {each: getattr(group.psf, name).prior for name in group.psf.param_names
                     for each in group.names_of(name)}
        found = {name: found[name] or inherited[name] for name in found}
    return {name: prior for name, prior in found.items() if isinstance(prior, GaussianPrior)}


def _of_positions(prior, model, mean, group):
    """Return the priors of the positions in a model of one star or of a group."""
    psf = model if group is None else group.psf
    names = {name: [name] if group is None else group.names_of(name) for name in psf.param_names}
    start = dict(zip(model.param_names, mean.all_starts()))
    x, y = prior.names_of(psf)
    centres = prior.as_priors(psf, *([start[each] for each in names[name]] for name in (x, y)))
    return {each: GaussianPrior(value, width) for name, (values, stddev) in centres.items()
            for each, value, width in zip(names[name], *np.broadcast_arrays(values, stddev),
                                          strict=True)}
