# Licensed under a 3-clause BSD style license - see LICENSE
"""Settings of the package, as astropy keeps them: in a file, or for a session."""

from astropy import config

__all__ = ['Conf', 'conf']


class _ConfigItem(config.ConfigItem):
    """A setting in the file ``kpsf.cfg`` in the configuration folder of kpsf."""

    # astropy takes the file from this name; without it the settings would be among its own.
    rootname = 'kpsf'


class Conf(config.ConfigNamespace):
    """Settings of kpsf.

    ``conf.prf_path = ['/data/prf']`` holds for the session; what is appended
    to the list afterwards is lost. ``conf.set_temp('prf_path', [...])`` holds
    for a with-statement, and a line ``prf_path = /data/prf`` in the file
    ``kpsf.cfg`` for good. That file is in the folder which
    ``astropy.config.get_config_dir('kpsf')`` returns.

    Examples
    --------
    >>> from kpsf import conf
    >>> with conf.set_temp('prf_path', ['/data/prf']):
    ...     print(conf.prf_path)
    ['/data/prf']
    """

    rootname = 'kpsf'

    # Without module= the settings would be in a section of the file that is named after this
    # private module.
    archive_url = _ConfigItem(
        'https://archive.stsci.edu/missions',
        'Address below which the archive has the PRF files of Kepler and TESS.',
        module='kpsf')
    prf_path = _ConfigItem(
        [],
        'Folders with PRF files that are searched before anything is downloaded. A folder may '
        "begin at any level of the archive's layout, and a single one needs no list.",
        # A single folder in the file, without a comma behind it, is no list for configobj.
        cfgtype='force_list', module='kpsf')


conf = Conf()
