# Licensed under a 3-clause BSD style license - see LICENSE
"""The table of results and its flags, as photutils has them."""

import numpy as np

__all__ = ['FLAGS', 'assemble_results']

# photutils' bits, see `photutils.psf.decode_psf_flags`.
FLAGS = {'n_pixels_fit_partial': 1, 'outside_bounds': 2, 'negative_flux': 4, 'no_convergence': 8,
         'no_covariance': 16, 'near_bound': 32, 'no_overlap': 64, 'fully_masked': 128,
         'too_few_pixels': 256, 'non_finite_position': 512, 'non_finite_flux': 1024,
         'non_finite_localbkg': 2048}
# Distance in pixels from a limit of the position at which photutils takes it for reached.
_NEAR = 0.01


def assemble_results(sources, boxes, image, settings, found):
    """Return the table of results.

    Parameters
    ----------
    sources : Sources
    boxes : Boxes
    image : Image
    settings : Settings
    found : Found

    Returns
    -------
    `~astropy.table.QTable`
        The columns of photutils' table, and ``cstat``, ``gof_z``,
        ``background_fit`` and ``background_err``.
    """
    table, names = sources.table.copy(), settings.names
    table.add_column(sources.group_size, name='group_size', index=2)
    for ending, values in (('fit', found.params), ('err', found.errors)):
        for name, column in names.columns.items():
            own = values[:, names.params.index(name)]
            table[f'{column}_{ending}'] = image.with_unit(own) if column == 'flux' else own
    flux = found.params[:, names.params.index(names.flux)]
    table['n_pixels_fit'] = found.n_pixels
    with np.errstate(divide='ignore', invalid='ignore'):
        no_flux = flux == 0
        table['qfit'] = np.where(no_flux, np.nan, found.abs_residual / flux)
        table['cfit'] = np.where(no_flux, np.nan, found.centre_residual / flux)
        table['reduced_chi2'] = found.chi2 / (found.n_pixels - len(names.free))
    table['cstat'], table['gof_z'] = found.cstat, found.gof_z
    # NaN where it is known: that has been taken into account.
    table['background_fit'] = image.with_unit(found.background)
    table['background_err'] = image.with_unit(found.background_err)
    table['flags'] = _flags(sources, boxes, image, settings, found)
    return table


def _flags(sources, boxes, image, settings, found):
    """Return the sums of flags, (n,)."""
    names, (height, width) = settings.names, image.data.shape
    x, y, flux = (found.params[:, names.params.index(name)]
                  for name in (names.x, names.y, names.flux))
    local_bkg = np.asarray(getattr(sources.table['local_bkg'], 'value',
                                   sources.table['local_bkg']))
    was_fitted = np.isfinite(x) & np.isfinite(y)
    pixels = found.n_pixels
    conditions = {
        'n_pixels_fit_partial': pixels < np.prod(boxes.shape),
        'outside_bounds': (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5),
        'negative_flux': flux <= 0,
        'no_convergence': was_fitted & ~found.converged,
        'no_covariance': ~found.has_covariance,
        'near_bound': found.at_bound | _is_near_bound(sources, settings, found),
        'no_overlap': ~boxes.overlaps & np.isfinite(sources.params[:, [
            names.params.index(names.x), names.params.index(names.y)]]).all(axis=1)
        & _has_flux(sources, names),
        'fully_masked': boxes.overlaps & (pixels == 0) & _has_flux(sources, names),
        'too_few_pixels': (pixels > 0) & ~was_fitted & _has_flux(sources, names),
        'non_finite_position': ~was_fitted,
        'non_finite_flux': ~np.isfinite(flux),
        'non_finite_localbkg': ~np.isfinite(local_bkg)}
    return sum(FLAGS[name] * condition.astype(int) for name, condition in conditions.items())


def _has_flux(sources, names):
    """Say whose starting flux can be used, (n,): the given one, or one that is measured."""
    given = sources.params[:, names.params.index(names.flux)]
    return np.isfinite(given) | (names.flux not in sources.given)


def _is_near_bound(sources, settings, found):
    """Say which positions are close to a limit that ``xy_bounds`` set, (n,)."""
    near = np.zeros(len(sources), dtype=bool)
    lower, upper = settings.bounds(sources.params)
    for name in (settings.names.x, settings.names.y):
        if name in settings.names.free:
            j = settings.names.params.index(name)
            near |= np.minimum(found.params[:, j] - lower[:, j],
                               upper[:, j] - found.params[:, j]) <= _NEAR
    return near
