# Licensed under a 3-clause BSD style license - see LICENSE
"""The order of the modules: each imports only from those above it in the list."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'kpsf'

LAYERS = [
    '_kernels',
    '_kernels.poisson',
    '_kernels.gaussian',
    '_kernels.moments',
    '_kernels.spline',
    '_kernels.star',
    '_kernels.tabulated',
    '_kernels.gridded',
    '_kernels.integrated',
    '_kernels.widths',
    '_kernels.profiles',
    '_kernels.broadcast',
    '_kernels.groups',
    '_kernels.linear',
    '_kernels.solver',
    '_kernels.goodness',
    '_kernels.shared',
    '_validation',
    '_files',
    '_configuration',
    'flags',
    'statistics',
    'models',
    'normalization',
    'priors',
    'noise',
    'fitting',
    'tpf',
    'prf',
    'stamps',
    'guidance',
    'scenes',
    'learning',
    'lightcurve',
    'batch',
    'signals',
    'photometry',
    'simulate',
    'plotting',
    'cli',
    '__main__',
]

PAGE = PACKAGE.parent / 'docs' / 'development' / 'layers.rst'
LOADED_BY_ASTROPY = ['', *LAYERS[: LAYERS.index('fitting') + 1]]
STRANGERS = [('models', 'fitting'), ('fitting', 'models')]


def find_modules():
    """Map the dotted name of every module below the package (without `kpsf.`) to its file."""
    modules = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        if parts[-1] == '__init__':
            parts = parts[:-1]
        modules['.'.join(parts)] = path
    return modules


MODULES = find_modules()


def layer_of(name):
    """Return the entry of the list that a module belongs to: itself, or the package it is in."""
    while name and name not in LAYERS:
        name = name.rpartition('.')[0]
    return name


def imported_names(source, name, is_package, at_import_only=False):
    """Yield the absolute dotted names that a module's source imports, `from` targets included."""
    package = ['kpsf', *filter(None, name.split('.'))]
    if not is_package:
        package.pop()
    for node in walk(ast.parse(source), at_import_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = '.'.join([*parents, *filter(None, [node.module])])
            yield from (f'{base}.{alias.name}' for alias in node.names)


def walk(tree, at_import_only):
    """Yield the nodes of a tree, without the bodies of functions if `at_import_only`."""
    for node in ast.iter_child_nodes(tree):
        if at_import_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        yield node
        yield from walk(node, at_import_only)


def imports_of(name, at_import_only=False):
    path = MODULES[name]
    is_package = path.name == '__init__.py'
    return list(imported_names(path.read_text(), name, is_package, at_import_only))


def own_layer(imported):
    """Return the layer behind an absolute import of kpsf's, or None for a dunder of the root."""
    inside = imported.removeprefix('kpsf').lstrip('.')
    return None if inside.startswith('__') else layer_of(inside)


def is_from(imported, package):
    return imported.split('.')[0] == package


def is_standard(imported):
    return imported.split('.')[0] in sys.stdlib_module_names


def breaches(name, imported_modules):
    """Return what a module may not import: of kpsf all but its own package and what is above."""
    allowed = [None, *LAYERS[: LAYERS.index(layer_of(name)) + 1]]
    return [imported for imported in imported_modules
            if is_from(imported, 'kpsf') and own_layer(imported) not in allowed]


def run_python(code):
    """Run code in a fresh interpreter that sees this source tree; return what it prints."""
    environment = {**os.environ, 'PYTHONPATH': str(PACKAGE.parent)}
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                            env=environment, cwd=PACKAGE.parent, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize('name', [name for name in MODULES if name])
def test_every_module_has_its_place_in_the_list(name):
    # A kernel has a place of its own; other packages stand in the list as a whole.
    place = name if name.startswith('_kernels') else name.split('.')[0]
    assert place in LAYERS, (
        f'kpsf.{name} has no place in the order of the modules: add it to LAYERS, below all '
        'that it imports')


def test_the_page_about_the_layers_has_them_all_in_their_order():
    named = re.findall(r'^``(\w+)/?`` {2,}', PAGE.read_text(), flags=re.MULTILINE)
    assert named == [name for name in LAYERS if '.' not in name and name != '__main__']


@pytest.mark.parametrize('name', [name for name in MODULES if layer_of(name)])
def test_a_module_imports_only_from_those_above_it(name):
    assert not breaches(name, imports_of(name))


def test_the_package_itself_imports_none_of_its_modules():
    assert not [imported for imported in imports_of('') if is_from(imported, 'kpsf')]


@pytest.mark.parametrize('name', [name for name in MODULES if name.startswith('_kernels')])
def test_kernels_import_only_numpy_scipy_the_standard_library_and_kernels(name):
    strange = [imported for imported in imports_of(name)
               if not (is_from(imported, 'numpy') or is_from(imported, 'scipy')
                       or is_standard(imported) or imported.startswith('kpsf._kernels'))]
    assert not strange


@pytest.mark.parametrize('name', [name for name in MODULES if layer_of(name) != 'plotting'])
def test_matplotlib_is_imported_only_by_plotting(name):
    assert not [imported for imported in imports_of(name) if is_from(imported, 'matplotlib')]


@pytest.mark.parametrize('name', list(MODULES))
def test_photutils_is_imported_only_when_used(name):
    imported_modules = imports_of(name, at_import_only=True)
    assert not [imported for imported in imported_modules if is_from(imported, 'photutils')]


@pytest.mark.parametrize(('name', 'stranger'), STRANGERS)
def test_models_and_fitting_do_not_know_each_other(name, stranger):
    members = [module for module in MODULES if layer_of(module) == name]
    for member in members:
        targets = [own_layer(i) for i in imports_of(member) if is_from(i, 'kpsf')]
        assert stranger not in targets


@pytest.mark.parametrize('statement', ['import kpsf', 'import astropy.modeling.fitting'])
def test_importing_loads_neither_photutils_nor_matplotlib(statement):
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    loaded = run_python(code)
    assert 'astropy.modeling.fitting' in loaded
    assert not [module for module in loaded if is_from(module, 'photutils')]
    assert not [module for module in loaded if is_from(module, 'matplotlib')]
    own = {own_layer(module) for module in loaded if is_from(module, 'kpsf')}
    assert own <= set(LOADED_BY_ASTROPY)


@pytest.mark.parametrize(('name', 'source', 'is_breach'), [
    ('stamps', 'from .tpf import read_tpf', False),
    ('tpf', 'from .stamps import fit_stamps', True),
    ('tpf', 'def read():\n    from .stamps import fit_stamps', True),
    ('tpf', 'from kpsf import stamps', True),
    ('tpf', 'from . import lightcurve', True),
    ('tpf', 'import kpsf.cli', True),
    ('tpf', 'from kpsf import read_tpf', True),
    ('cli', 'from . import __version__', False),
    ('stamps.table', 'from .results import StampFits', False),
    ('stamps.table', 'from ..lightcurve import LightCurve', True),
    ('_kernels.solver', 'from .gaussian import design', False),
    ('_kernels.gaussian', 'from .solver import solve', True),
    ('_kernels.gaussian', 'from ..statistics import cash', True),
])
def test_the_check_sees_every_way_to_import(name, source, is_breach):
    assert bool(breaches(name, imported_names(source, name, is_package=False))) is is_breach
