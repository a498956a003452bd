# Licensed under a 3-clause BSD style license - see LICENSE
"""The docstrings of public names: what is passed, returned and raised, shapes, units, sources."""

import ast
import builtins
import importlib
import inspect
import re
import textwrap
import tomllib
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

WHY = 'numpydoc, of the extra docs, reads docstrings'
docscrape = pytest.importorskip('numpydoc.docscrape', reason=WHY)
validation = pytest.importorskip('numpydoc.validate', reason=WHY)

ROOT = Path(__file__).parents[1]
PUBLIC_MODULES = re.findall(r'^\.\. automodapi:: (\S+)', (ROOT / 'docs/reference.rst').read_text(),
                            re.MULTILINE)

# Words of which a description must have one, by the name of what it describes.
UNITS = {
    r'(known_)?background(_err)?|counts|electrons|(psf_)?flux(_err)?|light|saturation|truth'
    r'|rate(_err)?': r'electron|e-/s|count|rate|unit|relative|share|fraction',
    r'amplitude|gain|read_noise|read_variance(_rate)?': r'electron|e-/s|unit',
    r'exposure|effective_exposure': r'second',
    r'(x|y)(_0|_err|_init|_stddev)?|columns?|rows?|fwhm|stddev|spacing|aperture_radius|xy_bounds'
    r'|known_to|position_error|pos_corr|drift|near|start|largest|centroid|(target_)?position'
    r'|median_motion': r'pixel|sample|unit',
    r'theta': r'radian',
    r'length|lengths|time': r'day|time|JD|unit',
}
# What a function that is called may raise in general, but not here.
CANNOT_HAPPEN = {
    # The place is that of a header, which was read.
    'kpsf.prf.prf_files_of': {TypeError},
    # The model is the one that was fitted.
    'kpsf.stamps.StampFits.gof_z': {TypeError, ValueError},
    # The options are those that were checked when it was made.
    'kpsf.photometry.PoissonPSFPhotometry.to_photutils': {TypeError, ValueError},
}


class Documented(NamedTuple):
    """A public class, function, method or property."""

    name: str
    value: object
    owner: type | None = None

    @property
    def function(self):
        """The function that a method or property is made of."""
        return function_of(self.value)

    @property
    def is_property(self):
        return self.owner is not None and hasattr(self.value, '__get__') and not (
            inspect.isfunction(self.value) or hasattr(self.value, '__func__'))

    @property
    def text(self):
        return inspect.getdoc(self.value)

    @property
    def sections(self):
        return docscrape.NumpyDocString(self.text)


def function_of(value):
    """Return the function behind a method of any kind or a property, else what was passed."""
    for attribute in ('__func__', 'fget', 'func'):
        value = getattr(value, attribute, value)
    return value


def find_public():
    """Yield all public classes and functions, and the methods and properties of these classes."""
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value):
                continue
            yield Documented(f'{module.__name__}.{name}', value)
            for member, own in vars(value).items() if inspect.isclass(value) else ():
                is_own = str(getattr(function_of(own), '__module__', None)).startswith('kpsf')
                if (inspect.isfunction(function_of(own)) and is_own
                        and (not member.startswith('_') or member == '__call__')):
                    yield Documented(f'{module.__name__}.{name}.{member}', own, value)


PUBLIC = list(find_public())
CLASSES = [public for public in PUBLIC if inspect.isclass(public.value)]


def each(publics):
    return pytest.mark.parametrize('public', publics, ids=lambda public: public.name)


def described(public, *sections):
    """Yield names, type and description of each entry of some sections of a docstring."""
    for section in sections:
        for entry in public.sections[section]:
            yield entry.name.split(', '), entry.type, ' '.join(entry.desc)


@pytest.fixture(scope='module')
def checks():
    """Return the codes of numpydoc's checks that pyproject.toml chooses."""
    chosen = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    chosen = set(chosen['tool']['numpydoc_validation']['checks'])
    return set(validation.ERROR_MSGS) - chosen if 'all' in chosen else chosen


@each(PUBLIC)
def test_a_docstring_passes_the_checks_of_numpydoc(public, checks):
    # Of classes, parameters may be described as attributes, see below.
    checks = checks - {'PR01'} if inspect.isclass(public.value) else checks
    errors = validation.validate(public.name)['errors']
    assert not [error for error in errors if error[0] in checks]


@each([public for public in CLASSES if {'__init__', '__new__'} & set(vars(public.value))
       and not issubclass(public.value, Enum)])
def test_a_class_describes_what_it_is_made_of(public):
    names = {name.strip('*') for entry in described(public, 'Parameters', 'Attributes')
             for name in entry[0]}
    assert set(inspect.signature(public.value).parameters) <= names


@each([public for public in PUBLIC if inspect.isclass(public.value) or not public.is_property])
def test_what_has_a_default_is_optional(public):
    described_as = {name: kind for names, kind, _ in described(public, 'Parameters')
                    for name in names}
    given = inspect.signature(public.function).parameters
    assert not [name for name, kind in described_as.items() if name in given
                and ('optional' in kind) is (given[name].default is inspect.Parameter.empty)]


@each(CLASSES)
def test_every_attribute_is_described(public):
    assert not [names for names, _, words in described(public, 'Attributes') if not words]


@each(PUBLIC)
def test_arrays_have_a_shape(public):
    entries = list(described(public, 'Parameters', 'Attributes', 'Returns'))
    if public.is_property:
        entries.append(([public.name], '', public.text))
    assert not [names for names, kind, words in entries
                if re.search(r'array', kind or words)
                and not re.search(r'shape|broadcast', f'{kind} {words}')]


@each(PUBLIC)
def test_what_is_physical_has_a_unit(public):
    entries = [entry for entry in described(public, 'Parameters', 'Attributes')
               if re.search(r'\bfloat\b|\bint\b|array|Quantity|Time|pair|tuple', entry[1])]
    if public.is_property:
        entries.append(([public.name.rpartition('.')[2]], '', public.text))
    lacking = {name for names, kind, words in entries for name in names
               for pattern, units in UNITS.items() if re.fullmatch(pattern, name)
               and not re.search(rf'{units}|as (for|of) `', f'{kind} {words}', re.IGNORECASE)}
    assert not lacking


@each([public for public in PUBLIC if public.owner is None and '.. math::' in public.text])
def test_a_formula_has_its_source(public):
    assert public.sections['References']


@each([public for public in PUBLIC if public.sections['References']])
def test_a_source_has_a_year_or_an_address_and_what_is_cited_is_there(public):
    sources = re.split(r'\.\. \[', '\n'.join(public.sections['References']))[1:]
    assert all(re.search(r'\b(1[89]|20)\d\d\b|https?://', source) for source in sources)
    cited = set(re.findall(r'\[(\d+)\]_', public.text))
    assert cited <= {source.partition(']')[0] for source in sources}


class Raised:
    """What a function raises, by its source and that of the functions of kpsf that it calls."""

    def __init__(self, public):
        self.found, self.seen = set(), set()
        functions = [public.function]
        if inspect.isclass(public.value):
            functions = constructors(public.value)
        for function in functions:
            self.follow(function, public.owner or public.value, frozenset())

    def follow(self, function, owner, caught):
        """Look at a function whose caller catches some exceptions."""
        if (function, caught) not in self.seen:
            self.seen.add((function, caught))
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
            for node in tree.body:
                self.visit(node, function, owner, caught)

    def visit(self, node, function, owner, caught):
        """Look at a statement or an expression and all within."""
        inside = caught
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = getattr(node.exc, 'func', node.exc)
            self.add(function.__globals__.get(getattr(raised, 'id', None))
                     or getattr(builtins, getattr(raised, 'id', ''), None), caught)
        elif isinstance(node, ast.Call):
            called = look_up(node.func, function, owner)
            for inner in constructors(called) if inspect.isclass(called) else [called]:
                if inspect.isfunction(inner) and inner.__module__.startswith('kpsf'):
                    self.follow(inner, called if inspect.isclass(called) else owner, caught)
        elif isinstance(node, ast.Try):
            inside = caught | {name.id for handler in node.handlers
                               for name in ast.walk(handler.type) if isinstance(name, ast.Name)}
        for child in ast.iter_child_nodes(node):
            is_body = isinstance(node, ast.Try) and child in node.body
            self.visit(child, function, owner, inside if is_body else caught)

    def add(self, raised, caught):
        """Note an exception, unless the caller catches it."""
        if inspect.isclass(raised) and not {kind.__name__ for kind in raised.__mro__} & caught:
            self.found.add(raised)


def constructors(kind):
    """Return the functions of kpsf's own that make an object of a class."""
    own = [cls for cls in kind.__mro__ if cls.__module__.startswith('kpsf')]
    functions = [vars(cls)[name] for cls in own for name in ('__init__', '__post_init__')
                 if name in vars(cls)]
    # Those that dataclasses write have no source.
    return [function for function in functions if function.__code__.co_filename != '<string>']


def look_up(node, function, owner):
    """Return what an expression that is called stands for, None if that is not plain."""
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ('self', 'cls'):
            return function_of(inspect.getattr_static(owner, node.attr, None))
        parent = function.__globals__.get(node.value.id)
        if inspect.isclass(parent) or inspect.ismodule(parent):
            return function_of(inspect.getattr_static(parent, node.attr, None))
    return None


@each([public for public in PUBLIC if inspect.isclass(public.value)
       or inspect.isfunction(public.function)])
def test_what_is_raised_is_described(public):
    names = {name.strip().rpartition('.')[2] for entry in public.sections['Raises']
             for name in entry.type.split(',')}
    missing = {raised.__name__ for raised in Raised(public).found
               if not {kind.__name__ for kind in raised.__mro__[:-2]} & names}
    missing -= {kind.__name__ for kind in CANNOT_HAPPEN.get(public.name, ())}
    assert not missing


def _raises_below(value):
    if value:
        raise KeyError(value)
    raise TypeError(value)


def _catches(value):
    try:
        return _raises_below(value)
    except LookupError:
        raise OSError(value) from None


def test_the_check_of_what_is_raised_sees_calls_and_handlers(monkeypatch):
    for function in (_raises_below, _catches):
        monkeypatch.setattr(function, '__module__', 'kpsf.here')
    assert Raised(Documented('below', _raises_below)).found == {KeyError, TypeError}
    assert Raised(Documented('catches', _catches)).found == {OSError, TypeError}
