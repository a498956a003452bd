# Licensed under a 3-clause BSD style license - see LICENSE
"""The package as a whole: public names, entry points, metadata, and what a build contains."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

import kpsf

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / 'kpsf').rglob('*.py'))
LICENSE_LINE = '# Licensed under a 3-clause BSD style license - see LICENSE'


@pytest.fixture(scope='module')
def project():
    """Return the metadata that pyproject.toml gives to the package."""
    return tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def run_python(code):
    """Run code in a fresh interpreter outside the source tree that takes warnings as errors."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, '-W', 'error', '-c', code], capture_output=True,
                          text=True, env=environment, check=False)


def public_names(path):
    """Return the `__all__` that a source file assigns, or None."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__':
            return ast.literal_eval(node.value)
    return None


def relative(path):
    return str(path.relative_to(ROOT))


def test_the_tests_run_on_this_source_tree():
    assert Path(kpsf.__file__) == ROOT / 'kpsf' / '__init__.py'


@pytest.mark.parametrize('name', kpsf.__all__)
def test_every_public_name_is_public_in_its_module_and_documented(name):
    value = getattr(kpsf, name)
    module = importlib.import_module(f'kpsf.{kpsf._MODULE_OF[name]}')
    assert value is getattr(module, name)
    assert name in module.__all__
    assert value.__doc__.strip()


def test_public_names_are_listed_before_they_are_loaded():
    result = run_python('import kpsf; print(*dir(kpsf))')
    assert set(kpsf.__all__) <= set(result.stdout.split()), result.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'kpsf' has no attribute 'fit_everything'"):
        kpsf.fit_everything  # noqa: B018


@pytest.mark.parametrize('path', MODULES, ids=relative)
def test_every_module_names_its_license_and_says_what_it_is(path):
    source = path.read_text()
    assert source.startswith(LICENSE_LINE + '\n')
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize('path', [path for path in MODULES if not path.name.startswith('__')],
                         ids=relative)
def test_every_module_says_what_is_public(path):
    names = public_names(path)
    assert names
    defined = ast.parse(path.read_text())
    known = {node.name for node in defined.body if hasattr(node, 'name')}
    known |= {target.id for node in defined.body if isinstance(node, ast.Assign)
              for target in node.targets if isinstance(target, ast.Name)}
    assert set(names) <= known


@pytest.mark.parametrize('first', ['kpsf', 'kpsf.fitting', 'astropy.modeling.fitting'])
def test_astropy_finds_the_fitter_whichever_is_imported_first(first):
    if not metadata.entry_points(group='astropy.modeling', name='PoissonLikelihoodFitter'):
        pytest.skip('kpsf is not installed, so astropy cannot know it')
    result = run_python(
        f'import {first}\n'
        'from astropy.modeling import fitting\n'
        'from kpsf.fitting import PoissonLikelihoodFitter\n'
        'assert fitting.PoissonLikelihoodFitter is PoissonLikelihoodFitter')
    assert result.returncode == 0, result.stderr


def test_the_command_and_the_fitter_are_entry_points(project):
    assert project['scripts'] == {'kpsf': 'kpsf.cli:main'}
    assert project['entry-points'] == {
        'astropy.modeling': {'PoissonLikelihoodFitter': 'kpsf.fitting:PoissonLikelihoodFitter'}}


def test_the_entry_points_exist(project):
    for targets in (project['scripts'], *project['entry-points'].values()):
        for target in targets.values():
            assert callable(metadata.EntryPoint('', target, '').load())


def test_every_folder_of_modules_is_a_package_or_a_build_would_leave_it_out():
    assert all((path.parent / '__init__.py').is_file() for path in MODULES)


def test_the_version_can_be_read_without_importing():
    tree = ast.parse((ROOT / 'kpsf' / '__init__.py').read_text())
    values = [node.value.value for node in tree.body if isinstance(node, ast.Assign)
              and node.targets[0].id == '__version__']
    assert values == [kpsf.__version__] == [str(Version(kpsf.__version__))]


def test_changes_and_citation_are_about_this_version():
    version = Version(kpsf.__version__).base_version
    headings = [line for line in (ROOT / 'CHANGES.md').read_text().splitlines()
                if line.startswith('## ')]
    assert headings[0].split()[1] == version
    assert f'\nversion: {kpsf.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
