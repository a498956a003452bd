# Licensed under a 3-clause BSD style license - see LICENSE
"""The elliptical Gaussian PSF and its two descriptions: a quadratic form, widths and an angle."""

import astropy.units as u
import numpy as np
from astropy.modeling import Fittable2DModel, Parameter
from astropy.units import Quantity

from .units import common_unit, coordinate_units, plain_offsets

__all__ = ['EllipticalGaussianPSF', 'precision_to_stddev', 'stddev_to_precision']

SIGMA_TO_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


def stddev_to_precision(x_stddev, y_stddev, theta):
    """Turn the axes of an elliptical Gaussian into its quadratic form.

    The quadratic form is ``a dx**2 + 2 b dx dy + c dy**2``, the negative
    exponent of the Gaussian. Note the factor 2 on ``b``.

    Parameters
    ----------
    x_stddev, y_stddev : float or ndarray, of shapes that broadcast
        Standard deviations along the rotated x and y axes, in pixels.
    theta : float or ndarray, of a shape that broadcasts with theirs
        Rotation angle in radians, counterclockwise from the +x axis.

    Returns
    -------
    a, b, c : float or ndarray, of the broadcast shape
        Coefficients of the quadratic form in 1/pixel**2.

    See Also
    --------
    precision_to_stddev : The inverse.
    """
    along = 0.5 / np.square(x_stddev)
    across = 0.5 / np.square(y_stddev)
    cosine, sine = np.cos(theta), np.sin(theta)
    a = along * cosine**2 + across * sine**2
    b = (along - across) * sine * cosine
    c = along * sine**2 + across * cosine**2
    return a, b, c


def precision_to_stddev(a, b, c):
    """Turn the quadratic form of an elliptical Gaussian into its axes.

    An ellipse has four descriptions by two widths and an angle; the one
    with ``-pi/4 < theta <= pi/4`` is returned, so that ``x_stddev`` belongs
    to the axis nearer to x. A round shape has ``theta = 0``.

    Parameters
    ----------
    a, b, c : float or ndarray, of shapes that broadcast
        Coefficients of ``a dx**2 + 2 b dx dy + c dy**2`` in 1/pixel**2.

    Returns
    -------
    x_stddev, y_stddev : float or ndarray, of the broadcast shape
        Standard deviations along the rotated axes in pixels; NaN where the
        form is not positive definite.
    theta : float or ndarray, of the broadcast shape
        Rotation angle in radians, counterclockwise from the +x axis.

    See Also
    --------
    stddev_to_precision : The inverse.
    """
    a, determinant = _reject_indefinite(a, b, c)
    # (a - c, 2 b) is half the difference of the inverse variances times
    # (cos 2 theta, sin 2 theta); the sign makes cos 2 theta >= 0.
    sign = np.where((a > c) | ((a == c) & (b >= 0)), 1.0, -1.0)
    theta = 0.5 * np.arctan2(sign * 2.0 * b, sign * (a - c))
    larger = a + c + np.hypot(a - c, 2.0 * b)
    # The product of both is 4 times the determinant: no cancellation for
    # elongated shapes.
    smaller = 4.0 * determinant / larger
    x_stddev = 1.0 / np.sqrt(np.where(sign > 0, larger, smaller))
    y_stddev = 1.0 / np.sqrt(np.where(sign > 0, smaller, larger))
    return x_stddev, y_stddev, theta


def _reject_indefinite(a, b, c):
    """Return ``a`` and ``a c - b**2``, NaN where the form is not positive definite.

    A fitter that steps outside then sees NaN, which it rejects, and never a
    finite value or an overflow warning.
    """
    with np.errstate(over='ignore', invalid='ignore'):
        determinant = a * c - b * b
    definite = (determinant > 0) & (a > 0)
    if np.all(definite):
        return a, determinant
    return np.where(definite, a, np.nan), np.where(definite, determinant, np.nan)


def _strip_units(x, y, x_0, y_0, a, b, c):
    """Return offsets and quadratic form as plain arrays in the unit of ``x_0``."""
    unit = x_0.unit
    return (*plain_offsets(x, y, x_0, y_0),
            *(Quantity(value).to_value(unit**-2) for value in (a, b, c)))


class EllipticalGaussianPSF(Fittable2DModel):
    r"""Elliptical Gaussian PSF in the coefficients of its exponent.

    Unlike widths and an angle, the coefficients ``a``, ``b``, ``c`` are
    regular for round shapes, so that a fit may start round and end round.
    The model is sampled at pixel centres; its integral over the plane is
    ``flux``.

    Parameters
    ----------
    flux : float, optional
        Total flux over the plane, in the unit of the data.
    x_0, y_0 : float, optional
        Position of the peak in pixels.
    a, b, c : float, optional
        Coefficients of the exponent in 1/pixel**2. They must be positive
        definite: ``a > 0`` and ``a * c > b**2``. `from_stddev` makes them
        from widths and an angle. They are free in a fit; set for example
        ``model.a.fixed = True`` to keep the shape.
    bbox_factor : float, optional
        Half-size of the bounding box in standard deviations.
    **kwargs : dict, optional
        Passed to `~astropy.modeling.Model`, for example ``name``, ``fixed``,
        ``bounds``.

    Raises
    ------
    ValueError
        If the shape is not positive definite. Assigning such a shape to an
        existing model does not raise, because fitters do so between steps:
        the model is then NaN everywhere.

    See Also
    --------
    photutils.psf.GaussianPSF : The same profile by its widths and angle.

    Notes
    -----
    .. math::

        f(x, y) = F \, \frac{\sqrt{a c - b^2}}{\pi}
                  \exp\left(-a\,\Delta x^2 - 2 b\,\Delta x\,\Delta y
                            - c\,\Delta y^2\right)

    with :math:`\Delta x = x - x_0`, :math:`\Delta y = y - y_0`. The 2 in
    front of ``b`` is absent in the definition that
    `~photutils.psf.GaussianPSF` and `~astropy.modeling.models.Gaussian2D`
    give for their ``b``. How well its parameters can be measured is in [1]_.

    References
    ----------
    .. [1] Condon, J. J. 1997, PASP, 109, 166.

    Examples
    --------
    >>> from kpsf import EllipticalGaussianPSF
    >>> psf = EllipticalGaussianPSF.from_stddev(1000.0, 5.0, 4.0, 1.2, 0.8, 0.3)
    >>> print(f'{psf(5.0, 4.0):.3f} {psf.fwhm:.3f} {psf.theta:.3f}')
    165.786 2.307 0.300
    """

    flux = Parameter(default=1.0, description='Total flux over the plane')
    x_0 = Parameter(default=0.0, description='Position of the peak along the x axis')
    y_0 = Parameter(default=0.0, description='Position of the peak along the y axis')
    a = Parameter(default=0.5, description='Coefficient of dx**2')
    b = Parameter(default=0.0, description='Half the coefficient of dx * dy')
    c = Parameter(default=0.5, description='Coefficient of dy**2')

    def __init__(self, flux=flux.default, x_0=x_0.default, y_0=y_0.default, a=a.default,
                 b=b.default, c=c.default, *, bbox_factor=5.5, **kwargs):
        super().__init__(flux=flux, x_0=x_0, y_0=y_0, a=a, b=b, c=c, **kwargs)
        self.bbox_factor = bbox_factor
        a, b, c, _ = self._precision()
        if not np.all(np.isfinite(_reject_indefinite(a, b, c))):
            msg = (f'{type(self).__name__} needs a positive definite shape, a > 0 and '
                   f'a * c > b**2, but found a={a}, b={b}, c={c}: correct these, or make '
                   f'the model from widths with {type(self).__name__}.from_stddev.')
            raise ValueError(msg)

    @classmethod
    def from_stddev(cls, flux, x_0, y_0, x_stddev, y_stddev, theta=0.0, **kwargs):
        """Make the model from the widths and the angle of its axes.

        Parameters
        ----------
        flux : float or `~astropy.units.Quantity`
            Total flux over the plane, in the unit of the data.
        x_0, y_0 : float or `~astropy.units.Quantity`
            Position of the peak in pixels.
        x_stddev, y_stddev : float or `~astropy.units.Quantity`
            Standard deviations along the rotated x and y axes in pixels,
            > 0. A FWHM is 2.3548 times the standard deviation.
        theta : float or `~astropy.units.Quantity`, optional
            Rotation angle, counterclockwise from the +x axis; floats are in
            radians as in `~astropy.modeling.models.Gaussian2D` (photutils
            takes degrees).
        **kwargs : dict, optional
            Passed to `EllipticalGaussianPSF`.

        Returns
        -------
        EllipticalGaussianPSF
            The model.

        Raises
        ------
        ValueError
            If a width is not finite and positive or the angle not finite.
        """
        unit = x_stddev.unit if isinstance(x_stddev, Quantity) else u.dimensionless_unscaled
        widths = [Quantity(width).to_value(unit) for width in (x_stddev, y_stddev)]
        angle = Quantity(theta, u.rad).value
        if not all(np.all(np.isfinite(width) & (width > 0)) for width in widths):
            msg = ('The standard deviations of a Gaussian PSF must be finite and > 0, but '
                   f'found x_stddev={x_stddev}, y_stddev={y_stddev}: give the widths along '
                   'the rotated axes in pixels.')
            raise ValueError(msg)
        if not np.all(np.isfinite(angle)):
            msg = (f'The angle of a Gaussian PSF must be finite, but found theta={theta}: '
                   'give it in radians or as an angular Quantity.')
            raise ValueError(msg)
        shape = stddev_to_precision(*widths, angle)
        if isinstance(x_stddev, Quantity):
            shape = [Quantity(value, unit**-2) for value in shape]
        return cls(flux, x_0, y_0, *shape, **kwargs)

    @property
    def x_stddev(self):
        """Standard deviation along the rotated x axis (along ``theta``) in pixels."""
        return self._stddev()[0]

    @property
    def y_stddev(self):
        """Standard deviation along the rotated y axis in pixels."""
        return self._stddev()[1]

    @property
    def theta(self):
        """Angle of the rotated x axis in radians, counterclockwise from +x.

        Between -pi/4 and pi/4: a shape made with an angle outside comes back
        with its axes exchanged.
        """
        return self._stddev()[2]

    @property
    def fwhm(self):
        """Full width at half maximum in pixels, the geometric mean of both axes."""
        x_stddev, y_stddev, _ = self._stddev()
        return SIGMA_TO_FWHM * np.sqrt(x_stddev * y_stddev)

    @property
    def bounding_box(self):
        """Rectangle around the ellipse of ``bbox_factor`` standard deviations."""
        a, b, c, unit = self._precision()
        _, determinant = _reject_indefinite(a, b, c)
        half = [self.bbox_factor * np.sqrt(0.5 * value / determinant) for value in (c, a)]
        if unit is not None:
            half = [value * unit**-0.5 for value in half]
        x_0, y_0 = (parameter.value if parameter.unit is None else parameter.quantity
                    for parameter in (self.x_0, self.y_0))
        return ((y_0 - half[1], y_0 + half[1]), (x_0 - half[0], x_0 + half[0]))

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0, a, b, c):
        """Evaluate the model.

        Parameters
        ----------
        x, y : float or ndarray, of any shape
            Coordinates in pixels.
        flux, x_0, y_0, a, b, c : float or ndarray
            Parameters as for `EllipticalGaussianPSF`, broadcast against the coordinates.

        Returns
        -------
        float or ndarray, of the broadcast shape
            Flux per pixel; NaN where the shape is not positive definite.
        """
        if isinstance(x_0, Quantity):
            dx, dy, a, b, c = _strip_units(x, y, x_0, y_0, a, b, c)
        else:
            dx, dy = x - x_0, y - y_0
        a, determinant = _reject_indefinite(a, b, c)
        profile = np.exp(-dx * (a * dx + 2.0 * b * dy) - c * dy * dy)
        return flux * (np.sqrt(determinant) / np.pi * profile)

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0, a, b, c):
        """Evaluate the derivatives with respect to the parameters.

        Parameters
        ----------
        x, y : float or ndarray, of any shape
            Coordinates in pixels.
        flux, x_0, y_0, a, b, c : float or ndarray
            Parameters as for `EllipticalGaussianPSF`, broadcast against the coordinates.

        Returns
        -------
        list of ndarray, each of the broadcast shape
            Six derivatives in the order of the parameters, finite also at
            ``flux = 0``.
        """
        dx, dy = x - x_0, y - y_0
        a, determinant = _reject_indefinite(a, b, c)
        half_x, half_y = a * dx + b * dy, b * dx + c * dy
        unit_flux = np.sqrt(determinant) / np.pi * np.exp(-dx * half_x - dy * half_y)
        model = flux * unit_flux
        return [unit_flux,
                model * 2.0 * half_x,
                model * 2.0 * half_y,
                model * (0.5 * c / determinant - dx * dx),
                model * (-b / determinant - 2.0 * dx * dy),
                model * (0.5 * a / determinant - dy * dy)]

    @property
    def input_units(self):
        """Units of the coordinates, or None."""
        return coordinate_units(self)

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        """Return the parameters' units for data in the given units."""
        unit = common_unit(inputs_unit)
        return {'flux': outputs_unit[self.outputs[0]], 'x_0': unit, 'y_0': unit,
                'a': unit**-2, 'b': unit**-2, 'c': unit**-2}

    def _precision(self):
        """Return ``a, b, c`` as plain values and their common unit or None."""
        unit = self.a.unit
        if unit is None:
            return self.a.value, self.b.value, self.c.value, None
        values = (parameter.quantity.to_value(unit) for parameter in (self.a, self.b, self.c))
        return *values, unit

    def _stddev(self):
        """Return widths and angle, the widths with the unit of the model."""
        a, b, c, unit = self._precision()
        x_stddev, y_stddev, theta = precision_to_stddev(a, b, c)
        if unit is not None:
            x_stddev, y_stddev = x_stddev * unit**-0.5, y_stddev * unit**-0.5
        return x_stddev, y_stddev, theta
