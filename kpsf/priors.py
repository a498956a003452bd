# Licensed under a 3-clause BSD style license - see LICENSE
"""What is known about parameters before the fit: Gaussian priors."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.units import Quantity

from ._validation import as_float_array, require_finite, require_proper_prior

__all__ = ['CentroidPrior', 'GaussianPrior']

# Step in degrees of the derivatives of a WCS, some milliarcseconds.
STEP = 1e-6


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
        Standard deviation in the same unit, > 0.

    Raises
    ------
    TypeError
        If one of them is no number.
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
    stddev : float or pair
        Standard deviation along both axes, or along x and y, in pixels; each
        of the pair a number, or an array of shape (n_stars,).
    x, y : float or array_like, shape (n_stars,), optional
        Position in pixels on which it is centred. None: on the starting values of each
        fit, such as a catalogue's positions.

    Attributes
    ----------
    stddev : tuple
        Standard deviations along x and y in pixels, each a float or an
        ndarray of shape (n_stars,).
    x, y : ndarray, shape () or (n_stars,), or None
        The centre in pixels.

    Raises
    ------
    TypeError
        If one of them is no number.
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
        if isinstance(stddev, (tuple, list)) and len(stddev) == 2:
            # One of them may be an array, the other a number.
            stddev = np.broadcast_arrays(*(as_float_array(own, 'The stddev of a CentroidPrior')
                                           for own in stddev))
        values = as_float_array(stddev, 'The stddev of a CentroidPrior')
        if values.ndim > 2 or values.shape not in ((), (2,), (2, *values.shape[1:])):
            raise ValueError('The stddev of a CentroidPrior must be a number or a pair, but it '
                             f'has the shape {values.shape}: pass one for both axes or one each.')
        require_proper_prior(0.0, values, 'positions')
        self.stddev = tuple(own.copy() if own.ndim else float(own) for own in (
            values if values.ndim else np.broadcast_to(values, 2)))
        self.x, self.y = (_check_centre(value, name) for value, name in ((x, 'x'), (y, 'y')))

    def __repr__(self):
        """Show the options; without a centre where it is the starting values."""
        centre = ''.join(f', {name}={value.tolist()}' for name, value
                         in (('x', self.x), ('y', self.y)) if value is not None)
        stddev = tuple(np.asarray(value).tolist() for value in self.stddev)
        return f'{type(self).__name__}(stddev={stddev}{centre})'

    @classmethod
    def from_sky(cls, coord, error, wcs):
        """Make the prior from the positions of a catalogue.

        Parameters
        ----------
        coord : `~astropy.coordinates.SkyCoord`
            One star, or many.
        error : `~astropy.units.Quantity` or pair of Quantity
            Standard deviation, an angle: along both axes, or along right
            ascension (on the sky, with the cosine of the declination) and
            declination. One for all stars or one each. It holds what the
            transformation to pixels is wrong by, as well as the catalogue.
        wcs : `~astropy.wcs.WCS`
            Of the image. Its pixels need not be square.

        Returns
        -------
        CentroidPrior
            Centred on the stars in pixels, with their errors in pixels along
            x and y.

        Raises
        ------
        TypeError
            If the error is no angle.
        ValueError
            If the WCS is not celestial, a star is not in the part of the sky
            that it maps, or an error is not positive.

        Examples
        --------
        >>> import astropy.units as u
        >>> from astropy.coordinates import SkyCoord
        >>> from astropy.wcs import WCS
        >>> from kpsf import CentroidPrior
        >>> wcs = WCS(naxis=2)
        >>> wcs.wcs.ctype, wcs.wcs.cdelt = ['RA---TAN', 'DEC--TAN'], [-4 / 3600, 2 / 3600]
        >>> wcs.wcs.crval, wcs.wcs.crpix = [120.0, 10.0], [51.0, 51.0]
        >>> CentroidPrior.from_sky(SkyCoord(120.0, 10.0, unit='deg'), 0.4 * u.arcsec, wcs)
        CentroidPrior(stddev=(0.1, 0.2), x=50.0, y=50.0)
        """
        x, y, stddev = _sky_to_pixels(coord, error, wcs)
        return cls(stddev, x=x, y=y)

    @classmethod
    def from_tpf(cls, tpf, stddev=0.1):
        """Make the prior from the header and the motion in a target pixel file.

        Parameters
        ----------
        tpf : TargetPixels
            What `read_tpf` returned.
        stddev : float or pair of float, optional
            How well the file knows the position, in pixels. Of the stars of
            Kepler that kpsf was tried on, the file has isolated ones within 0.1
            pixels, but blended ones up to 0.5 off.

        Returns
        -------
        CentroidPrior
            One position per cadence, in pixels of the stamp: that of the
            target in the header, moved by ``POS_CORR`` where there is one.

        Raises
        ------
        TypeError
            If ``tpf`` is something else, or ``stddev`` no number.
        ValueError
            If the file does not tell where the target is, or ``stddev`` is
            not finite and positive.
        """
        if not hasattr(tpf, 'expected_positions'):
            raise TypeError('TargetPixels are needed, but it is '
                            f'{type(tpf).__name__}: pass what read_tpf returned.')
        if tpf.meta.get('target_position_from') == 'centre of the stamp':
            raise ValueError(f'A header with the position of the target is needed, but that of '
                             f'{tpf.target} has none: pass CentroidPrior(stddev, x, y).')
        x, y = (np.asarray(place, dtype=float) for place in tpf.expected_positions())
        return cls(stddev, x=x, y=y)

    @classmethod
    def from_light_curve(cls, light_curve, stddev=None):
        """Make the prior from the positions in other cadences.

        Parameters
        ----------
        light_curve : LightCurve
            Of the same star in the same pixels.
        stddev : float or pair of float, optional
            Standard deviation in pixels. By default the robust scatter of the
            fitted positions along each axis.

        Returns
        -------
        CentroidPrior
            Centred on the median position of the cadences without a flag.

        Raises
        ------
        TypeError
            If ``light_curve`` is something else, or ``stddev`` no number.
        ValueError
            If fewer than three cadences have a position and no flag, or
            ``stddev`` is not finite and positive.

        Notes
        -----
        Of the cadences that it was made from it is no independent knowledge:
        use it for others, or for fainter stars.
        """
        try:
            columns = [light_curve[name] for name in ('x', 'y', 'flags')]
        except (KeyError, TypeError, IndexError):
            raise TypeError('A light curve with the columns x, y and flags is needed, but it is '
                            f'{type(light_curve).__name__}: pass what extract_light_curve '
                            'returned.') from None
        places = np.array([np.ma.filled(np.ma.masked_array(
            getattr(column, 'value', column), dtype=float), np.nan) for column in columns[:2]])
        good = np.isfinite(places).all(axis=0) & (np.asarray(light_curve['flags']) == 0)
        if good.sum() < 3:
            raise ValueError('Positions of at least 3 cadences without flags are needed, but '
                             f'there are {good.sum()}: pass CentroidPrior(stddev, x, y).')
        x, y = np.median(places[:, good], axis=1)
        if stddev is None:
            away = np.abs(places[:, good] - [[x], [y]])
            # Positions that were held do not scatter, and are not known without error.
            stddev = np.maximum(1.4826 * np.median(away, axis=1), 1e-3)
        return cls(stddev, x=x, y=y)

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
            of shape (n_stars,), the standard deviations numbers or of that
            shape, as `~kpsf.fit_stamps` takes it.

        Raises
        ------
        ValueError
            If the model has no position, or the prior not one per star.
        """
        names = self.names_of(model)
        starts = (np.atleast_1d(np.asarray(value, dtype=float)) for value in (x, y))
        return {name: (_centre(own, start), _width(stddev, start)) for name, own, start, stddev
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


def _width(own, start):
    """Return the standard deviation of each star's prior, () or of the shape of ``start``."""
    if np.ndim(own) == 0:
        return own
    if own.size != start.size:
        raise ValueError(f'The stddev of a CentroidPrior must be a number or one per star, but '
                         f'there are {own.size} for {start.size}: pass as many.')
    return own.reshape(start.shape)


def _sky_to_pixels(coord, error, wcs):
    """Return x, y and the standard deviations along them, (2,) or (2, n), of places in the sky."""
    if not isinstance(coord, SkyCoord):
        raise TypeError(f'Positions must be a SkyCoord, but they are {type(coord).__name__}: make '
                        'one of them.')
    if not getattr(wcs, 'has_celestial', False):
        raise ValueError(f'A celestial WCS is needed, but this one {_axes_of(wcs)}: pass that of '
                         'the image.')
    celestial = wcs.celestial
    x, y = (np.asarray(place, dtype=float) for place in celestial.world_to_pixel(coord))
    if not np.all(np.isfinite(x) & np.isfinite(y)):
        raise ValueError(f'Every star must be in the part of the sky that the WCS maps, but '
                         f'{np.size(x) - np.count_nonzero(np.isfinite(x + y))} of {np.size(x)} '
                         'are not: leave them out.')
    pair = error if isinstance(error, (tuple, list)) else (error, error)
    if len(pair) != 2 or not all(isinstance(each, Quantity) and each.unit.is_equivalent(u.deg)
                                 for each in pair):
        raise TypeError(f'The error of a position must be an angle or a pair of angles, but it is '
                        f'{error!r}: pass for example 0.1 * u.arcsec.')
    try:
        errors = np.array(np.broadcast_arrays(*(each.to_value(u.deg) for each in pair), x)[:2])
    except ValueError:
        raise ValueError(f'The error of positions must be one or one per star, {np.size(x)}, but '
                         f'there are {np.size(pair[0])}: pass as many.') from None
    if errors.shape[1:] != x.shape:
        raise ValueError(f'The error of positions must be one or one per star, {np.size(x)}, but '
                         f'there are {errors[0].size}: pass as many.')
    require_proper_prior(0.0, errors, 'positions in the sky')
    # Differences, as a distorted WCS has no other derivative. In ICRS, whatever the axes are.
    here = coord.icrs
    steps = [(STEP * u.deg, 0.0 * u.deg), (0.0 * u.deg, STEP * u.deg)]
    away = np.array([celestial.world_to_pixel(here.spherical_offsets_by(*step)) for step in steps])
    slopes = (away - np.array([x, y])) / STEP
    return x, y, np.sqrt(np.sum(slopes**2 * errors[:, np.newaxis]**2, axis=0))


def _axes_of(wcs):
    """Return in words what a WCS is of."""
    names = getattr(wcs, 'axis_type_names', None)
    return f'is a {type(wcs).__name__}' if names is None else (
        f'has the axes {", ".join(names) or "of none"}')
