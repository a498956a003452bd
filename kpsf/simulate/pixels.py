# Licensed under a 3-clause BSD style license - see LICENSE
"""Simulated target pixel files whose truth is known."""

import operator
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Table

from .._files import write_whole
from .._validation import require_finite, require_not_negative
from ..models import EllipticalGaussianPSF, position_names, total_flux_name
from ..tpf.missions import MISSIONS

__all__ = ['simulate_tpf', 'tabby_like_dips']

SECONDS_PER_DAY = 86400.0
COLLECTED, OPTIMAL = 1, 2
TRUTH_COMMENTS = {'TIME': '[d] as in the pixel table', 'CADENCENO': 'cadence number',
                  'X': '[pixel] column in the stamp, per star',
                  'Y': '[pixel] row in the stamp, per star',
                  'FLUX': '[e-/s] total flux, per star', 'BACKGROUND': '[e-/s] per pixel'}
# Depth, centre, rise and fall of dips like those of KIC 8462852, times as fractions of the series:
# shallow and symmetric, deep with a slow start and a sudden end, then a blend of several.
TABBY_DIPS = [(0.005, 0.12, 0.012, 0.012), (0.16, 0.42, 0.055, 0.014), (0.03, 0.68, 0.010, 0.030),
              (0.21, 0.78, 0.020, 0.012), (0.08, 0.84, 0.010, 0.025)]


class _Observation(NamedTuple):
    """How a mission takes one cadence, and numbers that its files carry."""

    frame_exposure: float
    frame_readout: float
    n_frames: int
    n_reads: int
    read_noise: float
    gain: float
    background: float
    flux: float
    zero_magnitude_flux: float
    fwhm: float
    first_time: float
    first_cadence: int
    pixel_scale: float
    sky: tuple
    mode: str

    @property
    def exposure(self):
        """Live time in seconds."""
        return self.frame_exposure * self.n_reads

    @property
    def length(self):
        """Time from one cadence to the next in days."""
        return (self.frame_exposure + self.frame_readout) * self.n_frames / SECONDS_PER_DAY


# Typical values from files of the archive; magnitudes by Kp = 12 at 2.141e5 e-/s and T = 10 at
# 1.5e4 e-/s. TESS drops two of ten 2-s frames on board, but not in 20-s data.
_KEPLER = _Observation(6.01980290327, 0.518948526144, 270, 270, 90.0, 110.0, 300.0, 2.0e5,
                       2.141e5 * 10**4.8, 1.6, 735.3636727, 30657, 3.98,
                       (290.667, 44.5), 'long cadence')
_TESS = _Observation(1.98, 0.02, 60, 48, 9.0, 5.2, 85.0, 1.5e4, 1.5e4 * 10**4, 1.9,
                     1325.2952598, 70444, 20.3, (90.0, -66.5), '')
OBSERVATIONS = {
    ('Kepler', False): _KEPLER,
    ('Kepler', True): _KEPLER._replace(n_frames=9, n_reads=9, first_cadence=908240,
                                       mode='short cadence'),
    ('TESS', False): _TESS,
    ('TESS', True): _TESS._replace(n_frames=10, n_reads=10, first_cadence=422664),
}
for _is_fast in (False, True):
    OBSERVATIONS['K2', _is_fast] = OBSERVATIONS['Kepler', _is_fast]._replace(
        first_time=2144.1029053, first_cadence=OBSERVATIONS['Kepler', _is_fast].first_cadence,
        sky=(336.66, -11.1))


def tabby_like_dips(time):
    """Return a light curve with the asymmetric dips of a star like KIC 8462852.

    Parameters
    ----------
    time : ndarray, shape (n_cadences,)
        Times in any unit; the dips, up to 21 % deep, are spread over them.

    Returns
    -------
    ndarray, shape (n_cadences,)
        Relative flux, 1 outside dips.

    References
    ----------
    .. [1] Boyajian, T. S. et al. 2016, MNRAS, 457, 3988.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf.simulate import tabby_like_dips
    >>> print(f'{tabby_like_dips(np.arange(1500)).min():.3f}')
    0.790
    """
    time = np.asarray(time, dtype=float)
    phase = (time - time.min()) / max(np.ptp(time), np.finfo(float).tiny)
    relative = np.ones_like(phase)
    for depth, centre, rise, fall in TABBY_DIPS:
        width = np.where(phase < centre, rise, fall)
        relative *= 1.0 - depth * np.exp(-0.5 * ((phase - centre) / width) ** 2)
    return relative


def simulate_tpf(path, psf=None, *, mission='Kepler', fast=False, n_cadences=None,
                 shape=(11, 11), stars=None, light_curve=None, drift=None, background=None,
                 read_noise=None, quality=None, target=100000001, magnitude=None,
                 column=500, row=500, header=None, seed=None, overwrite=False):
    """Write a simulated target pixel file in the layout of the archive.

    Photons are Poisson, read noise is Gaussian, and nothing else goes wrong:
    no flat field, no quantisation, no cosmic rays. ``FLUX_BKG`` is the true
    background. The truth is in an extra table.

    Parameters
    ----------
    path : str or path-like
        File to write; compressed if the name ends in ``.gz``.
    psf : `~astropy.modeling.Model`, optional
        Two-dimensional model with a flux and a position, named ``flux``,
        ``x_0``, ``y_0`` or by its attributes ``flux_name``, ``x_name``,
        ``y_name``. It is evaluated at pixel centres: a model of the optics
        alone is not integrated over pixels here. Default: a slightly
        elongated `EllipticalGaussianPSF` of the mission's width.
    mission : {'Kepler', 'K2', 'TESS'}, optional
        Mission, which sets the layout of the file and all defaults.
    fast : bool, optional
        Short cadence (Kepler, K2) or 20 seconds (TESS) instead of long
        cadence or 2 minutes.
    n_cadences : int, optional
        Number of cadences; by default that of ``light_curve`` or ``drift``,
        else 100.
    shape : tuple of int, optional
        Shape ``(ny, nx)`` of the stamp.
    stars : `~astropy.table.Table`, mapping or array_like, shape (n_stars, 3), optional
        Columns ``flux`` (total, e-/s), ``x``, ``y`` (stamp pixels), or rows
        of these three. The first star is the target. Default: one star
        near the centre.
    light_curve : array_like, shape (n_cadences,) or (n_stars, n_cadences), optional
        Factor on the fluxes; one row applies to the target.
    drift : float or array_like, shape (n_cadences, 2), optional
        Motion ``(x, y)`` of all stars in pixels, or the amplitude of a
        typical one: a bent line, and for K2 a roll that restarts every six
        hours.
    background : float or array_like, shape (n_cadences,), optional
        Rate per pixel in e-/s.
    read_noise : float, optional
        Standard deviation per read in electrons.
    quality : array_like of int, shape (n_cadences,), optional
        Quality bits; the pixels of flagged cadences are as good as others.
    target : int, optional
        Catalogue number.
    magnitude : float, optional
        Magnitude for the header; by default that of the target's flux.
    column, row : int, optional
        Detector position of the first pixel.
    header : dict, optional
        More keywords for the primary header, for example
        ``{'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4}``.
    seed : int or `~numpy.random.Generator`, optional
        For the random numbers.
    overwrite : bool, optional
        Whether to replace an existing file.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    ValueError
        If an argument is of the wrong size or not finite, a mean rate is
        negative or the mission unknown.
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the file cannot be written.

    Notes
    -----
    The extension ``TRUTH`` has the columns TIME, CADENCENO, X, Y (stamp
    pixels), FLUX (total, e-/s; X, Y and FLUX with one entry per star) and
    BACKGROUND (e-/s per pixel); its header names the PSF (PSFMODEL) and the
    PSF's parameters (PARNAMn, PARVALn).

    ``FLUX_ERR`` is what the archive's pipelines would estimate from the
    observed electrons.

    Examples
    --------
    >>> from kpsf import read_tpf, simulate_tpf
    >>> path = simulate_tpf('star.fits', n_cadences=3, seed=1)
    >>> read_tpf(path)
    <TargetPixels KIC 100000001 (Kepler): 3 cadences of 11 x 11 pixels>
    """
    observation = _observation(mission, fast)
    shape = _stamp_shape(shape)
    truth = _truth(observation, shape, _count_cadences(n_cadences, light_curve, drift), mission,
                   stars=stars, light_curve=light_curve, drift=drift, background=background)
    n_cadences = truth['TIME'].size
    read_noise = observation.read_noise if read_noise is None else float(read_noise)
    if not read_noise >= 0:
        msg = f'read_noise must be >= 0, but found {read_noise}: pass electrons per read.'
        raise ValueError(msg)
    quality = _series(0 if quality is None else quality, n_cadences, 'quality').astype(np.int32)
    psf = _default_psf(observation) if psf is None else psf

    images = _images(psf, truth, shape)
    pixels = _expose(images.sum(axis=0), truth['BACKGROUND'], observation, read_noise,
                     np.random.default_rng(seed))
    aperture = _aperture(images, truth['BACKGROUND'], observation, read_noise)
    typical_flux = np.median(truth['FLUX'][:, 0])
    if magnitude is None and typical_flux > 0:
        magnitude = -2.5 * np.log10(typical_flux / observation.zero_magnitude_flux)
    source = {'MISSION': mission, 'ID': operator.index(target), 'MAGNITUDE': magnitude,
              'COLUMN': operator.index(column), 'ROW': operator.index(row),
              'READNOISE': read_noise, 'POSITION': truth.pop('POSITION')}
    hdulist = fits.HDUList([
        _primary_hdu(source, observation, header or {}),
        _pixel_hdu(truth, pixels, quality, source, observation),
        _aperture_hdu(aperture, source, observation),
        _truth_hdu(truth, psf, source, seed),
    ])
    path = Path(path).expanduser()
    with write_whole(path, overwrite) as temporary:
        hdulist.writeto(temporary, checksum=True)
    return path


def _observation(mission, fast):
    """Return how a mission observes."""
    if (mission, bool(fast)) not in OBSERVATIONS:
        names = ', '.join(sorted({repr(name) for name, _ in OBSERVATIONS}))
        msg = f'mission must be one of {names}, but found {mission!r}: pass one of these.'
        raise ValueError(msg)
    return OBSERVATIONS[mission, bool(fast)]


def _stamp_shape(shape):
    """Return ``(ny, nx)`` as ints."""
    try:
        ny, nx = (operator.index(size) for size in shape)
    except (TypeError, ValueError):
        ny, nx = 0, 0
    if ny < 1 or nx < 1:
        msg = f'shape must be two integers > 0, (ny, nx), but found {shape!r}: pass (11, 11).'
        raise ValueError(msg)
    return ny, nx


def _count_cadences(n_cadences, light_curve, drift):
    """Return the number of cadences that is asked for."""
    if n_cadences is None and light_curve is not None:
        n_cadences = np.shape(light_curve)[-1] if np.ndim(light_curve) else 0
    elif n_cadences is None:
        n_cadences = len(drift) if np.ndim(drift) else 100
    if operator.index(n_cadences) < 1:
        msg = f'n_cadences must be >= 1, but found {n_cadences}: ask for at least one cadence.'
        raise ValueError(msg)
    return operator.index(n_cadences)


def _truth(observation, shape, n_cadences, mission, *, stars, light_curve, drift, background):
    """Return the columns of the table TRUTH and, as POSITION, the target's undrifted place."""
    cadences = np.arange(n_cadences)
    time = observation.first_time + observation.length * cadences
    if background is None:
        background = observation.background
    flux, x, y = _stars(stars, shape, observation)
    drift = _drift(drift, time, mission)
    return {'TIME': time, 'CADENCENO': observation.first_cadence + cadences,
            'X': x + drift[:, [0]], 'Y': y + drift[:, [1]],
            'FLUX': flux * _factors(light_curve, flux.size, n_cadences),
            'BACKGROUND': _series(background, n_cadences, 'background'), 'DRIFT': drift,
            'POSITION': (float(x[0]), float(y[0]))}


def _stars(stars, shape, observation):
    """Return fluxes, x and y, each (n_stars,)."""
    if stars is None:
        ny, nx = shape
        stars = [(observation.flux, (nx - 1) / 2 - 0.15, (ny - 1) / 2 + 0.2)]
    if isinstance(stars, (Mapping, Table)):
        columns = [np.atleast_1d(np.asarray(stars[name], float)) for name in ('flux', 'x', 'y')]
    else:
        rows = np.atleast_2d(np.asarray(stars, float))
        columns = rows.T if rows.ndim == 2 and rows.shape[1] == 3 else [rows]
    if len(columns) != 3 or len({column.shape for column in columns}) != 1 or not columns[0].size:
        msg = ('stars must be rows of flux, x and y or a table with these columns, but the shape '
               f'is {np.shape(stars)}: pass [(flux, x, y), ...].')
        raise ValueError(msg)
    require_finite(np.concatenate(columns), 'stars', 'leave out stars without flux or position')
    require_not_negative(columns[0], 'Fluxes of stars', 'pass fluxes in e-/s')
    return columns


def _factors(light_curve, n_stars, n_cadences):
    """Return the relative flux of each star (n_cadences, n_stars)."""
    factors = np.ones((n_cadences, n_stars))
    if light_curve is None:
        return factors
    curves = np.atleast_2d(np.asarray(light_curve, float))
    if curves.shape not in ((1, n_cadences), (n_stars, n_cadences)):
        msg = (f'light_curve must have the shape ({n_cadences},) or ({n_stars}, {n_cadences}), '
               f'but has {np.shape(light_curve)}: pass one factor per cadence, for the target '
               'or for every star.')
        raise ValueError(msg)
    require_finite(curves, 'light_curve', 'pass a relative flux for every cadence')
    require_not_negative(curves, 'light_curve', 'pass factors, 1 where nothing happens')
    factors[:, :len(curves)] = curves.T
    return factors


def _drift(drift, time, mission):
    """Return the motion of the stars in pixels (n_cadences, 2)."""
    shape = (time.size, 2)
    drift = np.asarray(0.0 if drift is None else drift, dtype=float)
    if drift.shape not in ((), shape):
        msg = (f'drift must be an amplitude or have the shape {shape}, but has {drift.shape}: '
               'pass (x, y) in pixels for every cadence.')
        raise ValueError(msg)
    require_finite(drift, 'drift', 'pass pixels')
    if drift.shape == shape:
        return drift
    since_start = time - time[0]
    if mission == 'K2':
        # The thrusters undo the roll every six hours.
        phase = 2.0 * (since_start / 0.25 % 1.0) - 1.0
        return drift * np.stack([phase, 0.5 * phase], axis=1)
    phase = 2.0 * since_start / max(since_start[-1], np.finfo(float).tiny) - 1.0
    return drift * np.stack([phase, phase**2 - 0.5], axis=1)


def _series(values, n_cadences, name):
    """Return one finite value >= 0 per cadence (n_cadences,)."""
    values = np.asarray(values, dtype=float)
    if values.shape not in ((), (n_cadences,)):
        msg = (f'{name} must be a number or have the shape ({n_cadences},), but has '
               f'{values.shape}: pass one value per cadence.')
        raise ValueError(msg)
    require_finite(values, name, 'pass a value for every cadence')
    require_not_negative(values, name, 'pass values >= 0')
    return np.broadcast_to(values, n_cadences).copy()


def _default_psf(observation):
    """Return a slightly elongated Gaussian of the mission's width."""
    stddev = observation.fwhm / 2.3548
    return EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.1 * stddev, stddev / 1.1, 0.4)


def _images(psf, truth, shape):
    """Return the rates of every star (n_stars, n_cadences, ny, nx) in e-/s."""
    param_names = list(getattr(psf, 'param_names', ()))
    names = (total_flux_name(psf), *position_names(psf)) if param_names else (None,)
    if getattr(psf, 'n_inputs', 0) != 2 or None in names:
        msg = ('psf must be an astropy model of x and y with the parameters flux, x_0, y_0, '
               f'but found {type(psf).__name__} with {", ".join(param_names) or "none"}: pass for '
               'example an EllipticalGaussianPSF.')
        raise ValueError(msg)
    places = [param_names.index(name) for name in names]
    values = [getattr(psf, name).value for name in param_names]
    rows, columns = np.mgrid[:shape[0], :shape[1]].astype(float)
    n_cadences, n_stars = truth['FLUX'].shape
    images = np.empty((n_stars, n_cadences, *shape))
    for star, cadence in np.ndindex(n_stars, n_cadences):
        for place, name in zip(places, ('FLUX', 'X', 'Y')):
            values[place] = truth[name][cadence, star]
        images[star, cadence] = psf.evaluate(columns, rows, *values)
    require_finite(images, 'The PSF on the stamp', 'pass a model that is finite everywhere')
    return images


def _expose(stellar, background, observation, read_noise, rng):
    """Return the image columns of a file for mean rates of stars (n, ny, nx) and sky (n,)."""
    background = np.broadcast_to(background[:, None, None], stellar.shape)
    mean = (stellar + background) * observation.exposure
    require_not_negative(mean, 'Mean electrons',
                         'pass a PSF without negative wings or more background')
    read_variance = observation.n_reads * read_noise**2
    electrons = rng.poisson(mean) + rng.normal(0.0, np.sqrt(read_variance), mean.shape)
    # Pipelines know the electrons that they found, not their mean.
    variance = np.maximum(electrons, 0.0) + read_variance
    return {'FLUX': electrons / observation.exposure - background,
            'FLUX_ERR': np.sqrt(variance) / observation.exposure,
            'FLUX_BKG': background, 'FLUX_BKG_ERR': np.zeros_like(mean)}


def _aperture(images, background, observation, read_noise):
    """Return the aperture bits (ny, nx): those pixels with which the target's S/N is highest."""
    own = images[0].mean(axis=0) * observation.exposure
    total = (images.sum(axis=0).mean(axis=0) + background.mean()) * observation.exposure
    variance = total + observation.n_reads * read_noise**2
    order = np.argsort(-own / np.sqrt(np.maximum(variance, 1.0)), axis=None)
    signal, noise = np.cumsum(own.ravel()[order]), np.cumsum(variance.ravel()[order])
    n_best = np.argmax(signal / np.sqrt(np.maximum(noise, 1.0))) + 1
    aperture = np.full(own.shape, COLLECTED, np.int32)
    aperture.ravel()[order[:n_best]] |= OPTIMAL
    return aperture


def _identity(source, observation):
    """Return the keywords that all extensions share."""
    mission = MISSIONS[source['MISSION']]
    is_tess = mission.name == 'TESS'
    return {'TELESCOP': 'TESS' if is_tess else 'Kepler',
            'INSTRUME': 'TESS Photometer' if is_tess else 'Kepler Photometer',
            'OBJECT': f'{mission.catalogue} {source["ID"]}',
            mission.id_key: source['ID'],
            'RADESYS': 'ICRS', 'RA_OBJ': observation.sky[0], 'DEC_OBJ': observation.sky[1],
            'EQUINOX': 2000.0}


def _primary_hdu(source, observation, more):
    """Return the primary HDU."""
    mission = source['MISSION']
    hdu = fits.PrimaryHDU()
    hdu.header.update({
        'NEXTEND': 3, 'EXTNAME': 'PRIMARY', 'EXTVER': 1, 'SIMDATA': True,
        'ORIGIN': 'kpsf', 'DATE': date.today().isoformat(),
        'CREATOR': 'kpsf TargetPixel simulation', 'FILEVER': '6.1', 'TIMVERSN': 'OGIP/93-003'})
    hdu.header.update(_identity(source, observation))
    if mission == 'TESS':
        hdu.header.update({'SECTOR': 1, 'CAMERA': 4, 'CCD': 1,
                           MISSIONS[mission].magnitude_key: source['MAGNITUDE']})
    else:
        hdu.header.update({
            'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4, 'MISSION': mission,
            'OBSMODE': observation.mode,
            MISSIONS[mission].magnitude_key: source['MAGNITUDE'],
            **({'CAMPAIGN': 3} if mission == 'K2' else {'QUARTER': 8, 'SEASON': 2})})
    hdu.header.update(more)
    return hdu


def _pixel_hdu(truth, pixels, quality, source, observation):
    """Return the table of pixels, one row per cadence."""
    mission = MISSIONS[source['MISSION']]
    is_tess = mission.name == 'TESS'
    n_cadences, ny, nx = pixels['FLUX'].shape
    empty = np.full((n_cadences, ny, nx), np.nan)
    images = {'RAW_CNTS': np.full((n_cadences, ny, nx), -1), **pixels}
    if not is_tess:
        images['COSMIC_RAYS'] = empty
    columns = [fits.Column('TIME', 'D', unit=mission.time_unit, disp='D14.7',
                           array=truth['TIME']),
               fits.Column('TIMECORR', 'E', unit='d', disp='E14.7', array=np.zeros(n_cadences)),
               fits.Column('CADENCENO', 'J', disp='I10', array=truth['CADENCENO'])]
    for name, values in images.items():
        layout = {'dim': f'({nx},{ny})', 'array': values}
        if name == 'RAW_CNTS':
            layout.update(format=f'{ny * nx}J', unit='count', null=-1, disp='I8')
        else:
            layout.update(format=f'{ny * nx}E', unit='e-/s', disp='E14.7')
        columns.append(fits.Column(name, **layout))
    columns.append(fits.Column('QUALITY', 'J', disp='B16.16', array=quality))
    columns += [fits.Column(f'POS_CORR{axis + 1}', 'E', unit='pixel', disp='E14.7',
                            array=truth['DRIFT'][:, axis]) for axis in (0, 1)]
    hdu = fits.BinTableHDU.from_columns(columns, name='PIXELS' if is_tess else 'TARGETTABLES')
    hdu.header.update(_identity(source, observation))
    hdu.header.update(_exposure_keywords(truth['TIME'], source, observation))
    for number, column in enumerate(columns, start=1):
        if column.name in images:
            hdu.header.update(_column_wcs(number, source, observation))
    return hdu


def _exposure_keywords(time, source, observation):
    """Return the keywords about time, exposure and noise."""
    half = 0.5 * observation.length
    live = observation.exposure / SECONDS_PER_DAY / observation.length
    outputs = 'ABCD' if source['MISSION'] == 'TESS' else ('S',)
    noise = {f'READNOI{output}': source['READNOISE'] for output in outputs}
    gains = {f'GAIN{output}'.removesuffix('S'): observation.gain for output in outputs}
    duration = time[-1] - time[0] + observation.length
    return {'EXPOSURE': duration * live, 'TIMEREF': 'SOLARSYSTEM', 'TASSIGN': 'SPACECRAFT',
            'TIMESYS': 'TDB', 'BJDREFI': int(MISSIONS[source['MISSION']].reference_date),
            'BJDREFF': 0.0, 'TIMEUNIT': 'd', 'TELAPSE': duration, 'LIVETIME': duration * live,
            'TSTART': time[0] - half, 'TSTOP': time[-1] + half, 'DEADC': live, 'TIMEPIXR': 0.5,
            'INT_TIME': observation.frame_exposure, 'READTIME': observation.frame_readout,
            'FRAMETIM': observation.frame_exposure + observation.frame_readout,
            'NUM_FRM': observation.n_frames, 'TIMEDEL': observation.length,
            'BACKAPP': True, 'DEADAPP': True, 'VIGNAPP': True,
            'NREADOUT': observation.n_reads, **noise, **gains}


def _column_wcs(number, source, observation):
    """Return the keywords that place the images of one column on detector and sky."""
    n, position = number, source['POSITION']
    scale = observation.pixel_scale / 3600.0
    keywords = {f'WCSN{n}P': 'PHYSICAL', f'WCAX{n}P': 2, f'WCAX{n}': 2}
    for axis, name in ((1, 'COLUMN'), (2, 'ROW')):
        keywords.update({
            f'{axis}CTY{n}P': f'RAW{"XY"[axis - 1]}', f'{axis}CUN{n}P': 'PIXEL',
            f'{axis}CRV{n}P': source[name], f'{axis}CDL{n}P': 1.0, f'{axis}CRP{n}P': 1,
            f'{axis}CTYP{n}': ('RA---TAN', 'DEC--TAN')[axis - 1], f'{axis}CUNI{n}': 'deg',
            f'{axis}CRPX{n}': position[axis - 1] + 1.0,
            f'{axis}CRVL{n}': observation.sky[axis - 1],
            f'{axis}CDLT{n}': scale * (2 * axis - 3),
            f'{axis}{axis}PC{n}': 1.0, f'{axis}{3 - axis}PC{n}': 0.0})
    return keywords


def _aperture_hdu(aperture, source, observation):
    """Return the image of the aperture."""
    if source['MISSION'] == 'TESS':
        # Which of the four outputs A (32), B (64), C (128) and D (256) reads the column.
        aperture = aperture | 32 << min(max(source['COLUMN'] - 45, 0) // 512, 3)
    hdu = fits.ImageHDU(aperture, name='APERTURE')
    hdu.header.update(_identity(source, observation))
    scale = observation.pixel_scale / 3600.0
    for axis, name in ((1, 'COLUMN'), (2, 'ROW')):
        hdu.header.update({
            f'CTYPE{axis}': ('RA---TAN', 'DEC--TAN')[axis - 1], f'CUNIT{axis}': 'deg',
            f'CRPIX{axis}': source['POSITION'][axis - 1] + 1.0,
            f'CRVAL{axis}': observation.sky[axis - 1], f'CDELT{axis}': scale * (2 * axis - 3),
            f'CTYPE{axis}P': f'RAW{"XY"[axis - 1]}', f'CUNIT{axis}P': 'PIXEL',
            f'CRPIX{axis}P': 1, f'CRVAL{axis}P': source[name], f'CDELT{axis}P': 1.0})
    hdu.header.update({'WCSNAMEP': 'PHYSICAL', 'NPIXMISS': 0,
                       'NPIXSAP': int(np.count_nonzero(aperture & OPTIMAL))})
    return hdu


def _truth_hdu(truth, psf, source, seed):
    """Return the table of what was put in."""
    n_stars = truth['FLUX'].shape[1]
    columns = [fits.Column('TIME', 'D', array=truth['TIME']),
               fits.Column('CADENCENO', 'J', array=truth['CADENCENO'])]
    columns += [fits.Column(name, f'{n_stars}D', array=truth[name]) for name in ('X', 'Y', 'FLUX')]
    columns.append(fits.Column('BACKGROUND', 'D', array=truth['BACKGROUND']))
    hdu = fits.BinTableHDU.from_columns(columns, name='TRUTH')
    # As comments, because FITS has no unit for electrons: Table.read would warn of e-/s.
    for number, column in enumerate(columns, start=1):
        hdu.header.comments[f'TTYPE{number}'] = TRUTH_COMMENTS[column.name]
    hdu.header.update({'NSTARS': n_stars, 'READNOIS': source['READNOISE'],
                       'PSFMODEL': type(psf).__name__, 'NPARAM': len(psf.param_names)})
    if isinstance(seed, (int, np.integer)):
        hdu.header['SEED'] = int(seed)
    for number, name in enumerate(psf.param_names, start=1):
        hdu.header[f'PARNAM{number}'] = name
        hdu.header[f'PARVAL{number}'] = float(np.squeeze(getattr(psf, name).value))
    return hdu
