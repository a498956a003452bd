# Licensed under a 3-clause BSD style license - see LICENSE
"""`TabulatedPRF`: an oversampled image of a star as an astropy model."""

import astropy.units as u
import numpy as np
from astropy.modeling import Fittable2DModel, Parameter
from astropy.units import Quantity

from .._kernels.spline import RAMP, SplineTable, normalize_phases, phase_sums
from .._validation import as_float_array, require_choice, require_finite
from .units import common_unit, coordinate_units, plain_offsets

__all__ = ['TabulatedPRF']

NORMALIZATIONS = ('phase', 'mean', None)
# How far the number of samples in a pixel may be from a whole one: headers round 1/9.
TOLERANCE = 1e-4


class TabulatedPRF(Fittable2DModel):
    r"""PRF given as an oversampled image.

    The image holds the share of the flux in a pixel as a function of where
    the pixel's centre lies from the star: it contains the integration over
    the pixel already, as the calibration files of Kepler and TESS and the
    ePSFs [1]_ of photutils do. It is interpolated by a cubic B-spline [2]_,
    and zero outside of its support.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        Image, finite, at least 2 x 2 samples.
    spacing : float or tuple of float
        Size of a sample in pixels, or that along ``(x, y)``, such that a
        whole number of samples fits in a pixel: 0.02 for Kepler, 1/9 for
        TESS, the inverse of what others call oversampling.
    flux : float, optional
        Total flux in the support, in the unit of the data.
    x_0, y_0 : float, optional
        Position of the star in pixels.
    x_scale, y_scale : float, optional
        Factors on the width along the axes of the image (focus): > 1 is
        wider. Fixed unless ``model.x_scale.fixed = False``, and so is the
        angle.
    theta : float or `~astropy.units.Quantity`, optional
        Angle by which the image is rotated (roll), counterclockwise;
        numbers are radians.
    origin : tuple of float, optional
        ``(x, y)`` of the star among the samples, the first at 0. Default:
        the middle of the image.
    fill_value : float, optional
        Value outside of the support, of any flux. The fast kernel needs 0.
    normalize : {'phase', 'mean', None}, optional
        ``'phase'``: the pixels of every sub-pixel phase sum to 1, as Kepler's
        and TESS's pipelines have it. ``'mean'``: they do on average.
        ``None``: the image is taken as it is, so that ``flux`` is the total
        flux only if the sum of the samples is the number of them in a pixel.
    clip_negative : bool, optional
        Whether to set samples below zero to zero before normalising.
    **kwargs : dict, optional
        Passed to `~astropy.modeling.Model`, for example ``name``, ``fixed``,
        ``bounds``.

    Raises
    ------
    TypeError
        If the image is no array of plain numbers.
    ValueError
        If it is not two-dimensional, has samples that are not finite, or its
        sum (or that of a phase) is not positive; if the spacing does not
        divide 1, or an option is unknown.

    See Also
    --------
    photutils.psf.ImagePSF : The same for photutils, by another spline.

    Notes
    -----
    .. math::

        f(x, y) = \frac{F}{s_x s_y} P(u, v), \qquad
        u = \frac{\Delta x \cos\theta + \Delta y \sin\theta}{s_x}, \quad
        v = \frac{\Delta y \cos\theta - \Delta x \sin\theta}{s_y}

    The image ends half a sample beyond the first and the last sample: N
    samples of 1/n pixel cover N/n pixels. There it fades to zero between an
    eighth of a pixel within and as much beyond, so that a star that drifts
    leaves no step where a pixel enters or leaves; what one loses, the pixel at
    the opposite edge gains. Beyond, the model is exactly zero. Scaled or
    rotated, the pixels sum to 1 on average only.

    Copies share the image and its spline, which are never changed.

    References
    ----------
    .. [1] Anderson, J. & King, I. R. 2000, PASP, 112, 1360.
    .. [2] Unser, M. 1999, IEEE Signal Processing Magazine, 16, 22.

    Examples
    --------
    A Gaussian integrated over pixels, 11 x 11 pixels at 1/50 pixel:

    >>> import numpy as np
    >>> from scipy.special import ndtr
    >>> from kpsf import TabulatedPRF
    >>> offset = (np.arange(550) - 274) / 50
    >>> profile = ndtr((offset + 0.5) / 0.7) - ndtr((offset - 0.5) / 0.7)
    >>> prf = TabulatedPRF(np.outer(profile, profile), 0.02, flux=1000.0, x_0=5.0, y_0=5.3,
    ...                    origin=(274, 274))
    >>> y, x = np.mgrid[:11, :11]
    >>> print(f'{prf(5.0, 5.0):.2f} {prf(x, y).sum():.4f}')
    255.07 1000.0000
    """

    flux = Parameter(default=1.0, description='Total flux in the support')
    x_0 = Parameter(default=0.0, description='Position of the star along the x axis')
    y_0 = Parameter(default=0.0, description='Position of the star along the y axis')
    x_scale = Parameter(default=1.0, fixed=True, description='Width relative to the image, x')
    y_scale = Parameter(default=1.0, fixed=True, description='Width relative to the image, y')
    theta = Parameter(default=0.0, fixed=True, description='Rotation of the image in radians')

    def __init__(self, data, spacing, *, flux=flux.default, x_0=x_0.default, y_0=y_0.default,
                 x_scale=x_scale.default, y_scale=y_scale.default, theta=theta.default,
                 origin=None, fill_value=0.0, normalize='phase', clip_negative=False, **kwargs):
        require_choice(normalize, NORMALIZATIONS, 'normalize')
        data = _check_image(data)
        steps = _samples_per_pixel(spacing)
        if clip_negative:
            data = np.maximum(data, 0.0)
        self._table = SplineTable(_normalized(data, steps, normalize), steps,
                                  _check_origin(origin, data.shape))
        self._fill_value = float(fill_value)
        self._normalize, self._clip_negative = normalize, bool(clip_negative)
        theta = Quantity(theta, u.rad).value
        super().__init__(flux=flux, x_0=x_0, y_0=y_0, x_scale=x_scale, y_scale=y_scale,
                         theta=theta, **kwargs)

    @classmethod
    def from_image_psf(cls, psf, *, normalize=None, **kwargs):
        """Make the model from one of photutils.

        Parameters
        ----------
        psf : `~photutils.psf.ImagePSF`
            Model whose image, oversampling, origin, fill value, parameters,
            and which of them are fixed or bounded, are taken over.
        normalize : {'phase', 'mean', None}, optional
            As for `TabulatedPRF`. None, the default, keeps the meaning of
            ``flux`` that it has in photutils.
        **kwargs : dict, optional
            Passed to `TabulatedPRF`.

        Returns
        -------
        TabulatedPRF
            A model that differs by the interpolation alone.

        Raises
        ------
        TypeError
            If ``psf`` is another model.

        Notes
        -----
        photutils' image ends at the first and the last sample, this one fades
        to zero there, and the splines differ next to these: both have the
        same values some samples further in. It does not extrapolate:
        a fill value of None becomes 0.
        """
        from photutils.psf import ImagePSF
        if not isinstance(psf, ImagePSF):
            msg = (f'from_image_psf needs a photutils.psf.ImagePSF, but found '
                   f'{type(psf).__name__}: pass the image itself to TabulatedPRF.')
            raise TypeError(msg)
        names = ('flux', 'x_0', 'y_0')
        values = {name: getattr(psf, name).quantity if getattr(psf, name).unit is not None
                  else getattr(psf, name).value for name in names}
        kwargs.setdefault('fixed', {name: psf.fixed[name] for name in names})
        kwargs.setdefault('bounds', {name: psf.bounds[name] for name in names})
        oversampling_y, oversampling_x = (int(factor) for factor in psf.oversampling)
        return cls(psf.data, (1.0 / oversampling_x, 1.0 / oversampling_y), origin=psf.origin,
                   fill_value=psf.fill_value or 0.0, normalize=normalize, **values, **kwargs)

    def to_image_psf(self):
        """Return the same PRF as a model of photutils.

        Returns
        -------
        `~photutils.psf.ImagePSF`
            With the normalised image, so that ``flux`` means the same. Its
            values differ at the edge of the image, see `from_image_psf`.

        Raises
        ------
        ValueError
            If the PRF is scaled or rotated, which that model cannot be.
        """
        from photutils.psf import ImagePSF
        if not self.is_upright:
            msg = ('to_image_psf needs x_scale = y_scale = 1 and theta = 0, but found '
                   f'{self.x_scale.value:g}, {self.y_scale.value:g} and {self.theta.value:g}: '
                   'set them, or sample the model on a grid.')
            raise ValueError(msg)
        names = ('flux', 'x_0', 'y_0')
        values = {name: getattr(self, name).quantity if getattr(self, name).unit is not None
                  else getattr(self, name).value for name in names}
        return ImagePSF(self.data.copy(), origin=self.origin, oversampling=self._table.steps[::-1],
                        fill_value=self.fill_value, name=self.name,
                        fixed={name: self.fixed[name] for name in names},
                        bounds={name: self.bounds[name] for name in names}, **values)

    @classmethod
    def read(cls, path, *, extension=None, **kwargs):
        """Read the image from a FITS file.

        Parameters
        ----------
        path : str or path-like
            A file of `write`, of `~kpsf.learning.LearnedPSF`, or a
            calibration file of Kepler or TESS.
        extension : int or str, optional
            The HDU; by default the first that has an image.
        **kwargs : dict, optional
            Passed to `TabulatedPRF`.

        Returns
        -------
        TabulatedPRF
            With spacing and origin from ``CDELTnP`` and ``CRPIXnP``.

        Raises
        ------
        ValueError
            If the file is damaged or has no such image.
        OSError
            If it cannot be opened.
        """
        from .image_files import read_image
        data, spacing, origin = read_image(path, extension)
        return cls(data, spacing, **{'origin': origin, **kwargs})

    def write(self, path, *, overwrite=False):
        """Write the image, with its spacing and origin, as a FITS file.

        The parameters are not written.

        Parameters
        ----------
        path : str or path-like
            File to write.
        overwrite : bool, optional
            Whether to replace an existing file.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        FileExistsError
            If the file exists and ``overwrite`` is False.
        OSError
            If the file cannot be written.
        """
        from .image_files import write_image
        return write_image(path, self.data, self.spacing, self.origin, overwrite=overwrite)

    def __repr__(self):
        return self._format_repr(kwargs=self._options())

    def __str__(self):
        return self._format_str(keywords=[('Image', f'{self.shape[1]} x {self.shape[0]} samples'),
                                          *self._options().items()])

    def _options(self):
        """Return what the PRF is made of besides its parameters, by name."""
        options = {'spacing': self.spacing, 'origin': self.origin, 'normalize': self.normalize,
                   'clip_negative': self.clip_negative}
        return options | ({'fill_value': self.fill_value} if self.fill_value else {})

    @property
    def data(self):
        """Normalised image, read-only, shape (ny, nx)."""
        return self._table.data

    @property
    def shape(self):
        """Shape (ny, nx) of the image in samples."""
        return self.data.shape

    @property
    def spacing(self):
        """Size of a sample along x and y in pixels."""
        return tuple(1.0 / steps for steps in self._table.steps)

    @property
    def origin(self):
        """Position (x, y) of the star among the samples, the first of which is 0."""
        return self._table.origin

    @property
    def fill_value(self):
        """Value outside of the support."""
        return self._fill_value

    @property
    def normalize(self):
        """How the image was normalised."""
        return self._normalize

    @property
    def clip_negative(self):
        """Whether samples below zero were set to zero."""
        return self._clip_negative

    @property
    def table(self):
        """Spline of the image, which the fast kernel of `~kpsf.fit_stamps` takes."""
        return self._table

    @property
    def is_upright(self):
        """Whether the image is neither scaled nor rotated."""
        return bool(np.all(self.x_scale.value == 1.0) and np.all(self.y_scale.value == 1.0)
                    and np.all(self.theta.value == 0.0))

    @property
    def bounding_box(self):
        """Rectangle around the support, scaled and rotated."""
        corners_x, corners_y = np.meshgrid(*(
            (np.array([-0.5 - origin, size - 0.5 - origin]) / steps + (-RAMP, RAMP)) * scale
            for origin, size, steps, scale in zip(
                self.origin, self.shape[::-1], self._table.steps,
                (self.x_scale.value, self.y_scale.value))))
        cosine, sine = np.cos(self.theta.value), np.sin(self.theta.value)
        sides = []
        for offsets, place in ((sine * corners_x + cosine * corners_y, self.y_0),
                               (cosine * corners_x - sine * corners_y, self.x_0)):
            unit = 1.0 if place.unit is None else place.unit
            middle = place.value if place.unit is None else place.quantity
            sides.append((middle + offsets.min() * unit, middle + offsets.max() * unit))
        return tuple(sides)

    def evaluate(self, x, y, flux, x_0, y_0, x_scale, y_scale, theta):
        """Evaluate the model.

        Parameters
        ----------
        x, y : float or ndarray, of any shape
            Coordinates in pixels.
        flux, x_0, y_0, x_scale, y_scale, theta : float or ndarray
            Parameters as for `TabulatedPRF`, broadcast against the coordinates.

        Returns
        -------
        float or ndarray, of the broadcast shape
            Flux per pixel; NaN where a scale is not positive.
        """
        u, v, _, _ = _turned(*plain_offsets(x, y, x_0, y_0), x_scale, y_scale, theta)
        profile = self._table.evaluate(u, v)[0]
        result = flux * (profile / _area(x_scale, y_scale))
        if self._fill_value:
            along_x, along_y = self._table.samples(u, v)
            outside = (self._table.fade(along_x, 0) == 0) | (self._table.fade(along_y, 1) == 0)
            fill = Quantity(self._fill_value, getattr(result, 'unit', None))
            result = np.where(outside, fill, result)
        return result

    def fit_deriv(self, x, y, flux, x_0, y_0, x_scale, y_scale, theta):
        """Evaluate the derivatives with respect to the parameters.

        Parameters
        ----------
        x, y : float or ndarray, of any shape
            Coordinates in pixels.
        flux, x_0, y_0, x_scale, y_scale, theta : float or ndarray
            Parameters as for `TabulatedPRF`, broadcast against the coordinates.

        Returns
        -------
        list of ndarray, each of the broadcast shape
            Six derivatives in the order of the parameters.
        """
        u, v, cosine, sine = _turned(x - x_0, y - y_0, x_scale, y_scale, theta)
        profile, slope_u, slope_v = self._table.evaluate(u, v, 3)
        unit_flux = profile / _area(x_scale, y_scale)
        scale = flux / _area(x_scale, y_scale)
        slope_u, slope_v = scale * slope_u, scale * slope_v
        return [unit_flux,
                sine / y_scale * slope_v - cosine / x_scale * slope_u,
                -sine / x_scale * slope_u - cosine / y_scale * slope_v,
                -(flux * unit_flux + slope_u * u) / x_scale,
                -(flux * unit_flux + slope_v * v) / y_scale,
                slope_u * v * (y_scale / x_scale) - slope_v * u * (x_scale / y_scale)]

    @property
    def input_units(self):
        """Units of the coordinates, or None."""
        return coordinate_units(self)

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        """Return the parameters' units for data in the given units."""
        unit = common_unit(inputs_unit)
        return {'flux': outputs_unit[self.outputs[0]], 'x_0': unit, 'y_0': unit}


def _turned(dx, dy, x_scale, y_scale, theta):
    """Return offsets along the axes of the image, in its own pixels, and the angle's cos, sin."""
    if np.ndim(theta) == 0 and theta == 0.0:
        cosine, sine, along, across = 1.0, 0.0, dx, dy
    else:
        cosine, sine = np.cos(theta), np.sin(theta)
        along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    # A fitter may try a scale of zero; the value is NaN then.
    with np.errstate(divide='ignore', invalid='ignore'):
        u, v = np.broadcast_arrays(along / x_scale, across / y_scale)
    return u, v, cosine, sine


def _area(x_scale, y_scale):
    """Return the factor on the area; NaN where a scale is not positive."""
    return np.where((x_scale > 0) & (y_scale > 0), x_scale * y_scale, np.nan)


def _check_image(data):
    """Return the image as an array; raise unless it is one of finite numbers."""
    if hasattr(data, 'unit'):
        msg = (f'The image of a PRF must be plain numbers, but it has the unit {data.unit}: pass '
               'its values, and the unit with flux.')
        raise TypeError(msg)
    if np.iscomplexobj(data):
        msg = ('The image of a PRF must be an array of real numbers, but they are complex: pass '
               'the part that is meant.')
        raise TypeError(msg)
    data = as_float_array(data, 'The image of a PRF')
    if data.ndim != 2 or min(data.shape) < 2:
        msg = ('The image of a PRF must have the shape (ny, nx) of at least (2, 2), but it is '
               f'{data.shape}: pass one image.')
        raise ValueError(msg)
    require_finite(data, 'The image of a PRF', 'fill the gaps by interpolation before')
    return data


def _samples_per_pixel(spacing):
    """Return the whole numbers of samples in a pixel along x and y."""
    if hasattr(spacing, 'unit') or np.asarray(spacing).dtype.kind not in 'iuf':
        msg = (f'spacing must be plain numbers in pixels, but it is {spacing!r}: pass for example '
               '0.25 for four samples per pixel.')
        raise TypeError(msg)
    pair = np.broadcast_to(spacing, (2,)) if np.shape(spacing) in ((), (2,)) else np.zeros(2)
    with np.errstate(divide='ignore', invalid='ignore'):
        samples = 1.0 / pair
        steps = np.round(samples)
        whole = np.isfinite(samples) & (steps >= 1) & (np.abs(samples / steps - 1) < TOLERANCE)
    if not whole.all():
        msg = ('spacing must be the size of a sample in pixels, or a pair (x, y), that fits a '
               f'whole number of times in 1, but it is {spacing!r}: resample the image, or pass '
               'the inverse of the oversampling, for example 0.25 for 4 samples per pixel.')
        raise ValueError(msg)
    return tuple(steps.astype(int).tolist())


def _check_origin(origin, shape):
    """Return ``(x, y)`` of the star among the samples."""
    ny, nx = shape
    if origin is None:
        return (nx - 1) / 2, (ny - 1) / 2
    origin = as_float_array(origin, 'origin')
    if origin.shape != (2,) or not np.isfinite(origin).all():
        msg = (f'origin must be two finite numbers (x, y) in samples, but it is {origin}: pass '
               'for example the place of the peak.')
        raise ValueError(msg)
    return tuple(origin.tolist())


def _normalized(data, steps, normalize):
    """Return the image normalised in one of three ways."""
    if normalize is None:
        return data
    sums = phase_sums(data, steps) if normalize == 'phase' else data.sum() / np.prod(steps)
    if not np.all(sums > 0):
        what = 'the image' if normalize == 'mean' else 'every sub-pixel phase of the image'
        msg = (f'The sum of {what} must be > 0 to be normalised, but the lowest is '
               f'{np.min(sums):.6g}: pass an image of a star without its background, or '
               'normalize=None.')
        raise ValueError(msg)
    return normalize_phases(data, steps) if normalize == 'phase' else data / sums
