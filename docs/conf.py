# Licensed under a 3-clause BSD style license - see LICENSE
"""Settings of the documentation, on top of those that astropy's packages share."""

import re
from datetime import UTC, datetime

from sphinx_astropy.conf.v3 import *  # noqa: F401, F403
from sphinx_astropy.conf.v3 import exclude_patterns, extensions, intersphinx_mapping
from sphinx_gallery import notebook

import kpsf

project = 'kpsf'
author = 'The kpsf developers'
copyright = f'{datetime.now(UTC).year}, {author}'
release = kpsf.__version__
version = '.'.join(release.split('.')[:2])

extensions += ['myst_parser', 'sphinx_gallery.gen_gallery']
source_suffix = {'.rst': 'restructuredtext', '.md': 'markdown'}
nitpicky = True

intersphinx_mapping.pop('pythonloc', None)
intersphinx_mapping.pop('astropy.org', None)
intersphinx_mapping.pop('h5py', None)
intersphinx_mapping['photutils'] = ('https://photutils.readthedocs.io/en/stable/', None)
intersphinx_mapping['distributed'] = ('https://distributed.dask.org/en/stable/', None)

automodapi_toctreedirnm = 'generated/api'
numpydoc_xref_param_type = False

plot_formats = [('png', 140)]
plot_html_show_source_link = False
plot_html_show_formats = False

# The tutorials are scripts in docs/tutorials, which run while their pages are made.
sphinx_gallery_conf = {
    'examples_dirs': 'tutorials',
    'gallery_dirs': 'gallery',
    'filename_pattern': r'\.py$',
    'within_subsection_order': 'FileNameSortKey',
    'doc_module': ('kpsf',),
    'reference_url': {'kpsf': None},
    'backreferences_dir': None,
    'plot_gallery': 'True',
    'remove_config_comments': True,
    'download_all_examples': False,
    'write_computation_times': False,
    'show_signature': False,
    'show_memory': False,
    'min_reported_time': 1e9,
    'image_srcset': ['2x'],
    'notebook_images': True,
}
exclude_patterns += ['tutorials', '_build']

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
PAGES_ALONE = ('index', 'install', 'limits', 'comparison', 'changelog', 'citation')
html_sidebars = {page: [] for page in PAGES_ALONE}
html_title = f'kpsf {release}'

# What is not looked up when the inventories of other projects cannot be had.
OTHERS = 'astropy|distributed|enum|matplotlib|numpy|pathlib|photutils|scipy'


gallery_markdown = notebook.rst2md


def plain_markdown(text, *args, **kwargs):
    """Turn the text of a tutorial into Markdown, in which a link of Sphinx is only a name.

    sphinx-gallery leaves ``:doc:`` and references to code as they are.
    """
    text = re.sub(r':doc:`/([\w/]+)`', r'"\1" in the documentation', text)
    text = re.sub(r'`~[\w.]*?(\w+)`', r'``\1``', text)
    text = re.sub(r'`([\w.]+) <[\w.]+>`(?!_)', r'``\1``', text)
    return gallery_markdown(text, *args, **kwargs)


notebook.rst2md = plain_markdown


def places_of(target, class_name):
    """Yield the names under which `kpsf.NAME`, `NAME` or a class's own `member` may be found."""
    target = target.removeprefix('kpsf.')
    name, _, member = target.partition('.')
    if name not in kpsf.__all__:
        name, member = class_name, target
    if name not in kpsf.__all__:
        return
    yield f'kpsf.{target}'
    # Where the reference has it, which may be another place than where it is defined.
    yield f'kpsf.{kpsf._MODULE_OF[name]}.{target}'
    named = getattr(kpsf, name)
    for owner in getattr(named, '__mro__', ()) if member else [named]:
        # The pages name packages: kpsf.prf, not kpsf.prf.instrument.
        package = '.'.join(owner.__module__.split('.')[:2])
        yield '.'.join(filter(None, [package, owner.__name__, member]))


def link_public_name(app, env, node, contnode):
    """Link public names, which pages know only by the module that defines them, and by base class.

    Without this, `~kpsf.fit_stamps` and `KeplerPRF.from_tpf` are no links.
    """
    if node.get('refdomain') != 'py':
        return None
    python = env.domains.python_domain
    links = (python.resolve_xref(env, node['refdoc'], app.builder, 'obj', place, node, contnode)
             for place in places_of(node['reftarget'], node.get('py:class')))
    return next(filter(None, links), None)


def check_own_names_offline(app, config):
    """Without inventories, let dead references fail the build all the same if they are ours."""
    if config.disable_intersphinx:
        config.nitpick_ignore_regex = [('py:.*', rf'({OTHERS})\..*')]


def setup(app):
    """Connect the functions above."""
    app.connect('missing-reference', link_public_name)
    app.connect('config-inited', check_own_names_offline)
