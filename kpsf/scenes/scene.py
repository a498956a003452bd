# Licensed under a 3-clause BSD style license - see LICENSE
"""`Scene`: stars that share a PSF, a background and a motion."""

import operator
from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model

from .._validation import no_model, require_choice, require_number

__all__ = ['Scene']

BACKGROUNDS = ('known', 'fit', 'plane')
MOTIONS = ('data', 'pos_corr', 'both', 'none')
FIELDS = ('shift', 'scale', 'roll')


@dataclass(frozen=True, eq=False)
class Scene:
    """Stars that are fitted together: one PSF, one background, one motion.

    Pass it to `~kpsf.extract_light_curve`, which fits all fluxes jointly in
    every cadence.

    Parameters
    ----------
    stars : `~astropy.table.Table`, mapping, `~astropy.coordinates.SkyCoord` or None, optional
        One row per star with ``x`` and ``y`` (pixels of the first stamp),
        ``column`` and ``row`` (detector) or ``ra`` and ``dec`` (degrees,
        through the WCS of the file); also, if known, ``flux`` (total, e-/s,
        a starting value) and ``name``. `find_stars` and `query_gaia` make
        such tables. None: the target is the one star with a light curve;
        what `find_stars` finds besides it, and has a peak of its own in the
        mean image, is taken to be constant. Nearer stars need a table.
    psf : {'empirical', 'gaussian', 'prf'} or `~astropy.modeling.Model`, optional
        A model, such as `kpsf.learning.learn_psf` makes, may have any
        normalisation; what is free of the shape of an analytic one is fitted
        to the mean image. ``'prf'`` is the instrument's. ``'gaussian'`` is
        fitted to the mean image. ``'empirical'`` is learned from the series:
        the mean image, shared among the stars in proportion to what
        ``base`` puts into each pixel, its change with the motion, and as
        many shape modes as predict cadences that were left out.
    base : {'gaussian', 'prf'} or `~astropy.modeling.Model`, optional
        The PSF behind ``'empirical'``, by default the Gaussian: it counts
        where stars overlap, and tells what of their light is off the pixels.
    background : {'known', 'fit', 'plane'}, optional
        ``'known'``: the file's. ``'fit'``: one constant per cadence, besides.
        ``'plane'``: with a slope. Default: known, where the file knows it.
    motion : {'both', 'data', 'pos_corr', 'none'}, optional
        Where the shift of the stars is taken from: measured in the pixels,
        ``POS_CORR`` of the file, or both, weighted by how well they agree.
        Default: both, or the data alone where the file has no motion.
    smooth : bool, optional
        Whether a motion that is measured is smoothed [1]_, as far as its noise
        asks, but not over jumps. False takes each cadence by itself, which
        costs precision where stars blend.
    fields : tuple of str, optional
        What the motion consists of: ``'shift'``, and, for stars far apart,
        ``'scale'`` and ``'roll'``.
    position_error : float, optional
        How well places of stars relative to each other are known, in pixels;
        they are refined in the mean image within that. 0 holds them.
    n_modes : int, optional
        Shape modes of ``'empirical'``; by default what the data support.
    roll : bool, optional
        Whether to divide each flux by a polynomial of the place of its star
        [2]_, which is fitted together with a smooth curve of time. Default: for
        K2, where the stars move by more than 0.3 pixels.
    cosmic_rays : bool, optional
        Whether to leave out pixels that are too high in a single cadence.

    Raises
    ------
    ValueError
        If an option is none of those above.
    TypeError
        If a PSF is no model.

    See Also
    --------
    kpsf.extract_light_curve : Fits it.
    kpsf.signals.signal_transfer : Whether a star's variation survives.

    References
    ----------
    .. [1] Eilers, P. H. C. 2003, Analytical Chemistry, 75, 3631.
    .. [2] Vanderburg, A. & Johnson, J. A. 2014, PASP, 126, 948.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import Scene, extract_light_curve, simulate_tpf
    >>> dip = np.ones((2, 60))
    >>> dip[1, 25:35] = 0.5
    >>> path = simulate_tpf('blend.fits', stars=[(2e5, 5.0, 5.0), (4e4, 6.2, 5.3)],
    ...                     light_curve=dip, seed=1)
    >>> scene = Scene({'name': ['A', 'B'], 'x': [5.0, 6.2], 'y': [5.0, 5.3]}, psf='gaussian')
    >>> curves = extract_light_curve(path, scene=scene)
    >>> flux = curves['B']['flux'].value
    >>> print(f'{flux[25:35].mean() / flux[:25].mean():.3f}')
    0.500
    """

    stars: object = None
    psf: object = 'empirical'
    base: object = 'gaussian'
    background: str | None = None
    motion: str | None = None
    smooth: bool = True
    fields: tuple = ('shift',)
    position_error: float = 0.1
    n_modes: int | None = None
    roll: bool | None = None
    cosmic_rays: bool = True

    def __post_init__(self):
        self._require_psf('psf', ('empirical', 'gaussian', 'prf'))
        self._require_psf('base', ('gaussian', 'prf'))
        for name, choices in (('background', BACKGROUNDS), ('motion', MOTIONS)):
            value = getattr(self, name)
            if value is not None:
                require_choice(value if isinstance(value, str) else repr(value), choices, name)
        object.__setattr__(self, 'fields', _in_order(self.fields))
        require_number(self.position_error, 'position_error', 'pass pixels')
        if self.n_modes is not None and _as_integer(self.n_modes) < 0:
            raise ValueError(f'n_modes must be a whole number >= 0, but it is {self.n_modes!r}: '
                             'pass a number of modes, or None.')

    def _require_psf(self, name, choices):
        """Raise unless a PSF is one of the choices or a model."""
        psf = getattr(self, name)
        if isinstance(psf, Model):
            return
        if not isinstance(psf, str):
            raise TypeError(f'{name} must be one of {", ".join(map(repr, choices))} or an '
                            f'instance of an astropy model, but {no_model(psf, "pass one")}')
        require_choice(psf, choices, name)

    @property
    def is_empirical(self):
        """Whether the images of the stars are learned from the series."""
        return isinstance(self.psf, str) and self.psf == 'empirical'


def _in_order(fields):
    """Return the fields of a motion, the shift, which none does without, first."""
    fields = (fields,) if isinstance(fields, str) or not np.iterable(fields) else tuple(fields)
    for name in fields:
        require_choice(name, FIELDS, 'fields')
    if 'shift' not in fields:
        raise ValueError(f"fields must contain 'shift', but they are {fields}: add it, or pass "
                         "motion='none'.")
    return tuple(name for name in FIELDS if name in fields)


def _as_integer(value):
    """Return a whole number, -1 for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return -1
