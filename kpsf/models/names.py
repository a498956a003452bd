# Licensed under a 3-clause BSD style license - see LICENSE
"""What the parameters of any 2-D model mean: position, total flux, scale."""

__all__ = ['position_names', 'scale_name', 'total_flux_name']


def position_names(model):
    """Find the parameters that are the position of a 2-D model.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        A model; its attributes ``x_name`` and ``y_name`` are asked first, as
        in photutils.

    Returns
    -------
    tuple of str or None
        Names of x and y; None where there is none.
    """
    return (_first_known(model, 'x_name', ('x_0', 'x_mean')),
            _first_known(model, 'y_name', ('y_0', 'y_mean')))


def total_flux_name(model):
    """Find the parameter that is the integral of a 2-D model.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        A model; its attribute ``flux_name`` is asked first, as in photutils.

    Returns
    -------
    str or None
        Name of the flux. The amplitude of a model that does not say so
        itself is a peak, not a total.
    """
    return _first_known(model, 'flux_name', ('flux',))


def scale_name(model):
    """Find the parameter on which a 2-D model depends linearly.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        A model.

    Returns
    -------
    str or None
        Name of the flux or of the amplitude.
    """
    return total_flux_name(model) or _first_known(model, 'flux_name', ('amplitude',))


def _first_known(model, attribute, candidates):
    """Return the parameter that ``attribute`` names, else the first candidate, else None."""
    name = getattr(model, attribute, None)
    if name in model.param_names:
        return name
    return next((name for name in candidates if name in model.param_names), None)
