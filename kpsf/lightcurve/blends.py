# Licensed under a 3-clause BSD style license - see LICENSE
"""`SceneLightCurves`: the light curves of stars that were fitted together."""

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits

from .._files import DAMAGE, damaged, header_value, open_fits, write_whole
from .._validation import as_float_array
from ..tpf.missions import MISSIONS
from .columns import EXTENSION, light_curve_hdu, read_light_curve_hdu
from .files import SCENE_CREATOR, known_mission
from .keywords import in_ascii, primary_header, read_keywords, write_keywords
from .series import LightCurve

__all__ = ['SceneLightCurves']

SUFFIXES = ('.fits', '.fits.gz')
COVARIANCE = 'COVARIANCE'
MOST_NAMES = 5


class SceneLightCurves:
    """Light curves of stars that were fitted together, with the covariances of their fluxes.

    The fluxes of blended stars are not independent: what one gains another
    loses. A sequence of one `LightCurve` per star; ``scene[0]`` and
    ``scene['Gaia DR3 42']`` are light curves as any other.

    Parameters
    ----------
    light_curves : sequence of LightCurve
        One per star, all of the same cadences.
    covariance : ndarray or `~astropy.units.Quantity`, shape (n_cadences, n_stars, n_stars)
        Covariances of the fluxes in (e-/s)**2; NaN where there was no fit.
    names : sequence of str
        Names of the stars, each once.
    meta : dict, optional
        What is to be said about all of them. A FITS file keeps what a light
        curve has keywords for.

    Raises
    ------
    TypeError
        If one of the light curves is something else, or a name no string.
    ValueError
        If there is no star, numbers or cadences differ, names are empty or
        occur twice, or the covariance has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import extract_light_curve, simulate_tpf
    >>> from kpsf.lightcurve import SceneLightCurves
    >>> star = extract_light_curve(simulate_tpf('star.fits', n_cadences=5, seed=1))
    >>> variance = star['flux_err'].value ** 2
    >>> covariance = variance[:, None, None] * np.array([[1.0, -0.3], [-0.3, 1.0]])
    >>> scene = SceneLightCurves([star, star.copy()], covariance, ['target', 'neighbour'])
    >>> scene
    <SceneLightCurves KIC 100000001: 2 stars (target, neighbour), 5 cadences>
    >>> print(f'{scene.correlation()[0, 0, 1]:.2f}')
    -0.30
    """

    _scene_fit = None

    def __init__(self, light_curves, covariance, names, meta=None):
        self._light_curves = tuple(light_curves)
        self._names = (names,) if isinstance(names, str) else tuple(names)
        _require_light_curves(self._light_curves)
        _require_names(self._names, len(self._light_curves))
        if isinstance(covariance, u.Quantity):
            covariance = covariance.to_value((u.electron / u.s) ** 2)
        self._covariance = as_float_array(covariance, 'covariance')
        self.meta = dict(meta or {})
        shape = (len(self._light_curves[0]), len(self), len(self))
        if self._covariance.shape != shape:
            raise ValueError(f'covariance must have the shape {shape}, (n_cadences, n_stars, '
                             f'n_stars), but it is {self._covariance.shape}: reshape it.')

    def __repr__(self):
        first = self._light_curves[0]
        names = ', '.join(self.names[:MOST_NAMES]) + (', ...' if len(self) > MOST_NAMES else '')
        target = self.meta.get('target') or first.meta.get('target')
        stars = f'{len(self)} star{"s" if len(self) > 1 else ""} ({names})'
        return (f'<{type(self).__name__}{f" {target}" if target else ""}: {stars}, '
                f'{len(first)} cadences>')

    def __len__(self):
        return len(self._light_curves)

    def __iter__(self):
        return iter(self._light_curves)

    def __getitem__(self, star):
        if isinstance(star, str):
            if star not in self.names:
                raise KeyError(f'A star must have one of the names {", ".join(self.names)}, but '
                               f'it is {star!r}: choose one of these.')
            return self._light_curves[self.names.index(star)]
        if not isinstance(star, (int, np.integer)) or isinstance(star, bool):
            raise TypeError('A star is chosen by its number or its name, but found '
                            f'{type(star).__name__}: pass one star, or select cadences of '
                            'its light curve.')
        if not -len(self) <= star < len(self):
            raise IndexError(f'A star must have a number below {len(self)}, but it is {star}: '
                             'count from 0.')
        return self._light_curves[star]

    @property
    def names(self):
        """Names of the stars, in their order."""
        return self._names

    @property
    def covariance(self):
        """Covariances of the fluxes in (e-/s)**2, shape (n_cadences, n_stars, n_stars)."""
        return self._covariance

    @property
    def flux(self):
        """Fluxes in e-/s, a `~astropy.units.Quantity` of shape (n_cadences, n_stars)."""
        return self._column('flux')

    @property
    def flux_err(self):
        """Standard deviations of the fluxes in e-/s, a Quantity of shape (n_cadences, n_stars)."""
        return self._column('flux_err')

    @property
    def scene_fit(self):
        """Fit of all pixels, and these, as `LightCurve.scene_fit` describes them.

        Only what `extract_light_curve` returned has them, not what was read
        from a file. `~kpsf.plotting.plot_scene` draws them.

        Raises
        ------
        ValueError
            If they are not there.
        """
        if self._scene_fit is None:
            raise ValueError('The fit of a scene must be there, but only the light curves that '
                             'extract_light_curve returned have it, not those of a file: keep '
                             'these, or extract them again.')
        return self._scene_fit

    def correlation(self):
        """Tell how the fluxes of the stars depend on each other.

        Returns
        -------
        ndarray, shape (n_cadences, n_stars, n_stars)
            Between -1 and 1, ones on the diagonal; NaN where a variance is
            unknown or zero.
        """
        variance = np.diagonal(self._covariance, axis1=1, axis2=2)
        sigma = np.sqrt(np.where(variance > 0, variance, np.nan))
        return self._covariance / (sigma[:, :, np.newaxis] * sigma[:, np.newaxis, :])

    def write(self, path, overwrite=False):
        """Write one FITS file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            A name that ends in ``.fits`` or ``.fits.gz``.
        overwrite : bool, optional
            Whether to replace an existing file.

        Raises
        ------
        ValueError
            If the ending is another, or the light curves are of different
            missions.
        FileExistsError
            If the file exists and ``overwrite`` is False.
        OSError
            If the file cannot be written.

        Notes
        -----
        Every star has an extension ``LIGHTCURVE`` in the layout of
        `LightCurve.write`, with ``EXTVER`` counting from 1, its name as
        ``STARNAME`` and its metadata; the extension ``COVARIANCE`` is an
        image. ``lightkurve.read(path)`` opens the first star;
        ``scene[1].write(path)`` writes a file of one.
        """
        _require_suffix(path)
        hdulist = self._hdulist()
        with write_whole(path, overwrite) as temporary:
            hdulist.writeto(temporary, checksum=True)

    @classmethod
    def read(cls, path):
        """Read what `write` wrote.

        Parameters
        ----------
        path : str or path-like
            A FITS file.

        Returns
        -------
        SceneLightCurves
            Each light curve has its name as ``meta['star']``.

        Raises
        ------
        ValueError
            If the file has no light curves of several stars or is damaged.
        OSError
            If the file cannot be opened.
        """
        def require_own(header):
            if (header_value(header, 'CREATOR', str) != SCENE_CREATOR
                    or header_value(header, 'MISSION', str) not in MISSIONS):
                raise ValueError('A file of light curves of several stars is needed, but '
                                 f'{path} is another FITS file: use LightCurve.read for one of '
                                 'a single star.')

        with open_fits(path, 'A file of light curves of several stars', require_own) as hdulist:
            header = hdulist[0].header
            mission = header_value(header, 'MISSION', str)
            try:
                light_curves, names = _read_stars(hdulist, mission)
                covariance = hdulist[COVARIANCE].data.astype(np.float64)
            except (AttributeError, KeyError, *DAMAGE) as error:
                raise damaged(path, error) from error
            return cls(light_curves, covariance, names, read_keywords(header, mission))

    def _column(self, name):
        """Return a column of all stars, a Quantity (n_cadences, n_stars)."""
        return u.Quantity([light_curve[name] for light_curve in self]).T

    def _hdulist(self):
        """Return the stars as extensions of one file."""
        missions = {known_mission(light_curve) for light_curve in self}
        if len(missions) > 1:
            raise ValueError('The light curves of one file must be of one mission, but they are '
                             f'of {", ".join(sorted(missions))}: write each by itself.')
        mission = missions.pop()
        primary = fits.PrimaryHDU(header=primary_header(mission, SCENE_CREATOR, len(self) + 1))
        write_keywords(primary.header, {**self.meta, 'mission': mission}, mission)
        primary.header['NSTARS'] = (len(self), 'stars in the fit')
        hdulist = fits.HDUList([primary])
        for number, (name, light_curve) in enumerate(zip(self.names, self), start=1):
            hdu = light_curve_hdu(light_curve, mission)
            write_keywords(hdu.header, {**light_curve.meta, 'mission': mission}, mission)
            hdu.ver = number
            hdu.header['STARNAME'] = in_ascii(name)
            hdulist.append(hdu)
        image = fits.ImageHDU(self.covariance, name=COVARIANCE)
        image.header['BUNIT'] = ('(e-/s)**2', 'of PSF_FLUX; axes: star, star, cadence')
        hdulist.append(image)
        return hdulist


def _read_stars(hdulist, mission):
    """Return the light curves of all stars and their names."""
    light_curves, names = [], []
    for hdu in hdulist:
        if hdu.name == EXTENSION:
            time, table = read_light_curve_hdu(hdu, mission)
            table.meta.update(read_keywords(hdu.header, mission))
            light_curves.append(LightCurve(table, time=time))
            names.append(hdu.header['STARNAME'])
    return light_curves, names


def _require_suffix(path):
    """Raise unless a name has the ending of a FITS file."""
    if not Path(path).name.lower().endswith(SUFFIXES):
        raise ValueError('The name of a file with the light curves of several stars must end in '
                         f'{" or ".join(SUFFIXES)}, but it is {Path(path).name!r}: choose one '
                         'of these, or write each light curve by itself.')


def _require_light_curves(light_curves):
    """Raise unless these are light curves of the same cadences."""
    strange = [value for value in light_curves if not isinstance(value, LightCurve)]
    if strange:
        raise TypeError('SceneLightCurves needs one LightCurve per star, but found '
                        f'{type(strange[0]).__name__}: pass a list of light curves.')
    if not light_curves:
        raise ValueError('SceneLightCurves needs at least one star, but found no light curve: '
                         'pass a list of light curves.')
    first = light_curves[0]
    for number, light_curve in enumerate(light_curves):
        if not np.array_equal(light_curve['cadenceno'], first['cadenceno']):
            raise ValueError('The light curves of a scene must be of the same cadences, but '
                             f'number {number} with {len(light_curve)} differs from the first '
                             f'with {len(first)}: select those in common.')


def _require_names(names, n_stars):
    """Raise unless there is one name per star, each once."""
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f'The names of stars must be strings, but they are {list(names)!r}: '
                        'convert them.')
    if len(names) != n_stars:
        raise ValueError(f'Every star needs a name, but there are {len(names)} names and '
                         f'{n_stars} light curves: pass one name per light curve.')
    if len(set(names)) < n_stars or '' in {name.strip() for name in names}:
        raise ValueError('The names of stars must be different and not empty, but they are '
                         f'{list(names)!r}: rename some.')
