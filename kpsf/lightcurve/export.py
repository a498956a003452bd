# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as objects of lightkurve, which is imported only here and only when used."""

from astropy.time import Time

from ..tpf.missions import reference_date

__all__ = ['to_lightkurve']

# Name of the class and of the time format in lightkurve, and the metadata that it asks for.
KEPLER = 'KeplerLightCurve', 'bkjd', ('quarter', 'campaign', 'channel', 'module', 'output')
FORMS = {'Kepler': KEPLER, 'K2': KEPLER,
         'TESS': ('TessLightCurve', 'btjd', ('sector', 'camera', 'ccd'))}
GENERIC = 'LightCurve', 'jd', ()
# Name in lightkurve by that in a `LightCurve`.
COLUMNS = {'flux': 'flux', 'flux_err': 'flux_err', 'column': 'centroid_col',
           'row': 'centroid_row', 'x_err': 'centroid_col_err', 'y_err': 'centroid_row_err',
           'cadenceno': 'cadenceno', 'quality': 'quality', 'flags': 'psf_flags',
           'background': 'psf_bkg', 'background_err': 'psf_bkg_err', 'cstat': 'psf_cstat'}
META = {'target_id': 'TARGETID', 'target': 'LABEL', 'mission': 'MISSION', 'ra': 'RA',
        'dec': 'DEC', 'filename': 'FILENAME', 'quality_mask': 'QUALITY_BITMASK'}


def to_lightkurve(light_curve):
    """Return a `LightCurve` as the class of lightkurve for its mission."""
    lightkurve = _import_lightkurve()
    meta = light_curve.meta
    mission = meta.get('mission')
    class_name, time_format, keys = FORMS.get(mission, GENERIC)
    time, day = light_curve['time'].tdb, reference_date(mission)
    # lightkurve reads these as attributes: what is unknown has to be there too.
    known = {key: meta.get(name) for name, key in META.items()}
    known |= {name.upper(): meta.get(name) for name in keys}
    known |= {'AUTHOR': 'kpsf', 'FLUX_ORIGIN': 'psf_flux', 'PSFMODEL': meta.get('psf'),
              'PROCVER': meta.get('kpsf_version')}
    if 'star' in meta:
        known['LABEL'] = meta['star']
    columns = {name: light_curve[own].copy() for own, name in COLUMNS.items()
               if own in light_curve.colnames}
    made = getattr(lightkurve, class_name)(
        time=Time(time.jd1 - day, time.jd2, format=time_format, scale='tdb'), data=columns)
    made.meta.update(known)
    return made


def _import_lightkurve():
    """Import lightkurve, or say how to get it."""
    try:
        import lightkurve
    except ImportError as error:
        raise ImportError('to_lightkurve needs the package lightkurve, but it cannot be imported '
                          f'({error}): pip install lightkurve.') from error
    return lightkurve
