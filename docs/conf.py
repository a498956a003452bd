# Licensed under a 3-clause BSD style license - see LICENSE
"""Settings of the documentation, on top of those that astropy's packages share."""

from datetime import UTC, datetime

from sphinx_astropy.conf.v3 import *  # noqa: F401, F403
from sphinx_astropy.conf.v3 import extensions, intersphinx_mapping

import kpsf

project = 'kpsf'
author = 'The kpsf developers'
copyright = f'{datetime.now(UTC).year}, {author}'
release = kpsf.__version__
version = '.'.join(release.split('.')[:2])

extensions += ['myst_parser']
source_suffix = {'.rst': 'restructuredtext', '.md': 'markdown'}
nitpicky = True

intersphinx_mapping.pop('pythonloc', None)
intersphinx_mapping.pop('astropy.org', None)
intersphinx_mapping.pop('h5py', None)
intersphinx_mapping['photutils'] = ('https://photutils.readthedocs.io/en/stable/', None)

automodapi_toctreedirnm = 'generated/api'
numpydoc_xref_param_type = False

plot_formats = [('png', 140)]
plot_html_show_source_link = False
plot_html_show_formats = False

# Not astropy's own theme: its banner and logo say that a package belongs to the project.
html_theme = 'pydata_sphinx_theme'
html_theme_options = {
    'collapse_navigation': True,
    'navigation_depth': 2,
    # Room for code instead of a second sidebar.
    'secondary_sidebar_items': [],
    'use_edit_page_button': False,
}
# A page without pages below it needs no list of them.
html_sidebars = {page: [] for page in ('index', 'install', 'development', 'changelog')}
html_title = f'kpsf {release}'
