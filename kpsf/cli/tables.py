# Licensed under a 3-clause BSD style license - see LICENSE
"""Tables of stars as files: ECSV, FITS and CSV."""

import astropy
import numpy as np
from astropy.io import fits
from astropy.table import Table

from .. import __version__
from .._files import write_whole

__all__ = ['TABLE_SUFFIXES', 'versions', 'write_table']

TABLE_SUFFIXES = ('.ecsv', '.fits', '.fits.gz', '.csv')
# Keywords of FITS for the metadata, and comments on those that are short.
KEYWORDS = {
    'kpsf_version': ('PROCVER', 'version of kpsf'), 'photutils_version': ('PHOTVER', ''),
    'astropy_version': ('ASTVER', ''), 'numpy_version': ('NUMVER', ''),
    'image': ('IMAGE', ''), 'image_sha256': ('IMSHA256', ''),
    'extension': ('IMAGEEXT', 'extension of the image'), 'psf': ('PSF', ''),
    'psf_model': ('PSFMODEL', ''), 'fwhm': ('PSFFWHM', '[pixel] full width at half maximum'),
    'free_width': ('PSFFREE', 'the width was fitted'),
    'normalize': ('PSFNORM', 'the PSF image was scaled'), 'init': ('STARS', 'table of stars'),
    'near': ('NEAR', '[pixel] x and y near the first star'),
    'threshold': ('THRESH', '[sigma] of the finder'), 'gain': ('GAIN', 'electrons per unit'),
    'read_noise': ('RDNOISE', '[electron]'), 'electrons': ('ELECFROM', ''),
    'background': ('PSFBKG', 'fit, or what was subtracted'),
    'fit_shape': ('FITBOX', '[pixel] side of the boxes'),
    'groups': ('GROUPS', 'which stars were fitted jointly'),
    'centroid_prior': ('CENTPRIO', '[pixel] standard deviation'), 'mask': ('MASKFILE', ''),
    'saturation': ('SATURATE', 'pixels from here on were left out'),
}


def versions():
    """Return the versions of what takes part, by name."""
    import photutils
    return {'kpsf_version': __version__, 'photutils_version': photutils.__version__,
            'astropy_version': astropy.__version__, 'numpy_version': np.__version__}


def write_table(table, path, overwrite):
    """Write a `~astropy.table.QTable` in the format that the name asks for."""
    name = path.name.lower()
    with write_whole(path, overwrite) as temporary:
        if name.endswith('.ecsv'):
            table.write(temporary, format='ascii.ecsv')
        elif name.endswith('.csv'):
            _numbers(table).write(temporary, format='ascii.csv')
        else:
            _hdulist(table).writeto(temporary, checksum=True)


def _numbers(table):
    """Return a plain table without metadata and units."""
    return Table({name: getattr(table[name], 'value', table[name]) for name in table.colnames})


def _hdulist(table):
    """Return a table as FITS, its metadata as keywords."""
    hdu = fits.table_to_hdu(_numbers(table), name='PHOTOMETRY')
    for name in table.colnames:
        unit = getattr(table[name], 'unit', None)
        if unit is not None:
            # astropy leaves out electrons and other units that FITS does not list.
            hdu.columns[name].unit = unit.to_string()
    for key, value in table.meta.items():
        keyword, comment = KEYWORDS[key]
        if isinstance(value, str):
            # FITS headers hold ASCII alone.
            value = value.encode('ascii', 'backslashreplace').decode()
        hdu.header[keyword] = (value, comment) if len(str(value)) < 25 else value
    return fits.HDUList([fits.PrimaryHDU(), hdu])
