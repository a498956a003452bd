# Licensed under a 3-clause BSD style license - see LICENSE
"""README, documentation and tutorials: their links, commands and code, and what the pages list."""

import ast
import doctest
import inspect
import os
import pkgutil
import re
import shlex
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from photutils.psf import CircularGaussianPRF

import kpsf
from kpsf import cli, simulate_kepler_prf, simulate_tpf
from kpsf.tpf.read import META_KEYWORDS

ROOT = Path(__file__).parents[1]
BUILT = ('generated', 'gallery', '_build')
MARKDOWN = sorted(ROOT.glob('*.md')) + sorted(ROOT.glob('benchmarks/*.md'))
PAGES = [path for pattern in ('docs/**/*.rst', 'docs/tutorials/*.py') for path in
         sorted(ROOT.glob(pattern)) if not set(BUILT) & set(path.relative_to(ROOT).parts)]
README = ROOT / 'README.md'
BEFORE_COMMANDS = {'do', 'then', 'srun', 'time', '$'}
SHELL = {'', 'bash', 'sh', 'shell', 'console', 'text'}
# Users meet what is public in it as a part of kpsf.guidance.
NOT_ON_A_PAGE = {'normalization'}


def page(path):
    """Return the text of a page; of a tutorial, its docstring and comments."""
    text = path.read_text()
    if path.suffix == '.py':
        comments = re.findall(r'^#(?: |$)(.*)$', text, re.MULTILINE)
        text = '\n'.join([ast.get_docstring(ast.parse(text)), *comments])
    return text


def code_blocks(path):
    """Yield language and text of the blocks of code in a page."""
    text = page(path)
    if path.suffix == '.md':
        yield from re.findall(r'^```(\w*)\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
        return
    start = re.compile(r'^( *)(?:\.\. (?:code-block|code|sourcecode)::\s*(\w*)|(?!\.\. )\S.*::)$',
                       re.MULTILINE)
    for found in start.finditer(text):
        rest = text[found.end():].lstrip('\n')
        lines = []
        for line in rest.splitlines():
            if line.strip() and not line.startswith(found[1] + ' '):
                break
            lines.append(line)
        yield found[2] or '', textwrap.dedent('\n'.join(lines))


def commands(path):
    """Yield the commands of shells in the blocks of a page, as lists of words."""
    for language, text in code_blocks(path):
        if language not in SHELL:
            continue
        for line in re.sub(r'\\\n\s*', '', text).splitlines():
            if language in ('console', 'text') and not line.startswith('$ '):
                continue
            if re.search(r'\b(kpsf|python|pip) ', line):
                yield from split_commands(line.removeprefix('$ '))


def split_commands(line):
    """Yield the commands of a line, without redirections and what is set for them."""
    words = shlex.shlex(line, posix=True, punctuation_chars='();<>|&')
    words.whitespace_split = True
    command, before = [], ''
    for word in [*words, ';']:
        if set(word) <= set('();|&'):
            if command:
                yield command
            command = []
        elif not (set(word) <= set('<>') or set(before) & set('<>')
                  or (not command and (word in BEFORE_COMMANDS or re.match(r'\w+=', word)))):
            command.append(word)
        before = word


ALL = [*MARKDOWN, *PAGES]
each_page = pytest.mark.parametrize('path', ALL, ids=lambda path: str(path.relative_to(ROOT)))


def headings(path):
    """Return the anchors of the headings of a Markdown file."""
    titles = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('path', MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(path):
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r'`[^`]*`', '', text)
    broken = []
    for target in re.findall(r'\]\(\s*<?([^)\s>]+)', text) + re.findall(r'src="([^"]+)"', text):
        name, _, anchor = target.partition('#')
        other = path.parent / name if name else path
        if re.match(r'[a-z]+:', target):
            continue
        if not other.exists() or (anchor and other.suffix == '.md' and
                                  anchor not in headings(other)):
            broken.append(target)
    assert not broken


@each_page
def test_files_of_the_source_that_are_named_exist(path):
    text = page(path)
    names = set(re.findall(r'`((?:kpsf|tests|docs|benchmarks|\.ci)/[\w./-]*)`', text))
    if path.is_relative_to(ROOT / 'benchmarks'):
        names |= {f'benchmarks/{name}' for name in re.findall(r'`(\w+\.py)`', text)}
    assert not {name for name in names if not set(BUILT) & set(name.split('/'))
                and not (ROOT / name).exists() and not (ROOT / f'{name}.py').exists()}


@each_page
def test_commands_of_kpsf_are_accepted(path):
    parser = cli.main.__globals__['_parser']()
    for command in commands(path):
        if command[0] == 'kpsf':
            try:
                parser.parse_args(command[1:])
            except SystemExit as end:
                assert not end.code, f'kpsf refuses {shlex.join(command)}'


@each_page
def test_options_that_are_named_exist(path):
    parser = cli.main.__globals__['_parser']()
    subcommands = next(action.choices for action in parser._actions if action.choices)
    for text in re.findall(r'``?kpsf ([^`]*)`', page(path)):
        name, *words = shlex.split(text)
        if name not in ('--help', '--version'):
            known = subcommands[name]._option_string_actions
            options = {word.partition('=')[0] for word in words if word.startswith('-')}
            assert options <= {*known, '-'}, f'kpsf {text}'


@each_page
def test_scripts_and_extras_in_commands_exist(path):
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project'][
        'optional-dependencies']
    for command in commands(path):
        if command[0] == 'python' and '/' in command[1]:
            script = (ROOT / command[1]).read_text()
            assert not [word for word in command[2:] if word.startswith('--')
                        and word.partition('=')[0] not in script]
        if 'install' in command:
            named = re.findall(r'(?:\.|kpsf)\[([\w,-]+)\]', ' '.join(command))
            assert {extra for names in named for extra in names.split(',')} <= set(extras)


@each_page
def test_code_that_is_not_run_calls_what_there_is(path):
    for language, text in code_blocks(path):
        if language in ('python', 'py') and '>>>' not in text:
            tree = ast.parse(text)
            known = dict(imported_from_kpsf(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    check_keywords(known.get(node.func.id), node)


def imported_from_kpsf(tree):
    """Yield names and values of what code imports from kpsf; raise if it is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition('.')[0] == 'kpsf':
            module = import_module(node.module)
            for alias in node.names:
                yield alias.asname or alias.name, getattr(module, alias.name)


def check_keywords(called, node):
    """Raise if a call passes an argument that does not exist."""
    if called is not None:
        parameters = inspect.signature(called).parameters
        if inspect.Parameter.VAR_KEYWORD not in {each.kind for each in parameters.values()}:
            assert {keyword.arg for keyword in node.keywords} - {None} <= set(parameters)


@pytest.mark.parametrize('path', [path for path in PAGES if path.suffix == '.rst'],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_of_a_page_are_run(path):
    text = path.read_text()
    assert 'doctest-skip' not in text
    examples = doctest.DocTestParser().get_examples(text)
    if examples:
        skipped = [example for example in examples if example.options.get(doctest.SKIP)]
        assert len(skipped) < len(examples) / 2
        settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['pytest']
        left_out = settings['ini_options']['norecursedirs']
        assert not [folder for folder in left_out if path.is_relative_to(ROOT / folder)]


def test_every_public_module_is_on_the_page_of_the_reference():
    modules = {info.name for info in pkgutil.iter_modules(kpsf.__path__)}
    public = {name for name in modules if not name.startswith('_')} - NOT_ON_A_PAGE
    text = (ROOT / 'docs/reference.rst').read_text()
    listed = re.findall(r'^\.\. automodapi:: kpsf\.(\S+)\n((?: +:.*\n)*)', text, re.MULTILINE)
    assert {name for name, _ in listed} == public
    for name, options in listed:
        module = import_module(f'kpsf.{name}')
        # Of itself, the page has functions and classes only.
        if not all(callable(getattr(module, public)) for public in module.__all__):
            assert ':include-all-objects:' in options
        assert not re.search(':(skip|no-main-docstr)', options)


def test_every_public_name_is_on_the_page_of_the_reference():
    text = (ROOT / 'docs/reference.rst').read_text()
    on_page = set(re.findall(r'^\.\. data:: (\w+)$', text, re.MULTILINE))
    for module in re.findall(r'^\.\. automodapi:: (\S+)', text, re.MULTILINE):
        on_page |= set(import_module(module).__all__)
    assert set(kpsf.__all__) <= on_page


# The README is run.


def write_pixels(names):
    """Simulate the target pixel files among some names, a star for each pattern."""
    for name in (name.replace('*', 'kplr001') for name in names):
        mission = {'kplr': 'Kepler', 'ktwo': 'K2', 'tess': 'TESS'}.get(name[:4])
        if mission and '.fits' in name and not os.path.exists(name):
            simulate_tpf(name, mission=mission, n_cadences=20, seed=1, drift=0.1,
                         stars=[[2e5, 5.2, 4.8], [3e4, 6.6, 5.6]],
                         header={'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4})


def write_image(command):
    """Simulate the image, the image of the PSF and the table of stars that a command names."""
    column, row = 20, 25
    if '--near' in command:
        column, row = map(float, command[command.index('--near') + 1:][:2])
    psf = CircularGaussianPRF(fwhm=2.0)
    stars = QTable({'x': [column, 9.8], 'y': [row, 10.2], 'flux': [9000.0, 4000.0]})
    y, x = np.mgrid[:int(row) + 15, :int(column) + 15]
    mean = 4.0 + sum(psf.evaluate(x, y, star['flux'], star['x'], star['y'], 2.0)
                     for star in stars)
    step = 1.0
    for name, value in zip(command, command[1:]):
        if name == '--oversampling':
            step = 1 / int(value)
    y, x = np.mgrid[-20:21, -20:21] * step
    for name in {name for name in command if re.fullmatch(r'\w+\.(fits|csv)', name)}:
        if name.endswith('.csv'):
            stars.write(name)
        elif 'psf' in name:
            header = fits.Header({'OVERSAMP': round(1 / step)})
            fits.PrimaryHDU(psf(x, y), header).writeto(name)
        elif name != command[-1]:
            header = fits.Header({'BUNIT': 'electron'})
            fits.PrimaryHDU(np.random.default_rng(1).poisson(mean), header).writeto(name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder, where there is a PRF file and no network is needed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'prf').mkdir()
    simulate_kepler_prf(tmp_path / 'prf' / 'kplr07.4_2011265_prf.fits', channel=20)
    with kpsf.conf.set_temp('prf_path', [str(tmp_path / 'prf')]):
        yield tmp_path


def readme_commands():
    """Return the commands of kpsf in the README, without those that need a network or are slow."""
    found = [command for command in commands(README) if command[0] == 'kpsf']
    return [command for command in found
            if command[1] not in ('demo', 'fetch-prf') and 'gaia' not in command]


@pytest.mark.parametrize('command', readme_commands(), ids=shlex.join)
def test_a_command_of_the_readme_runs(command, here, capsys):
    write_pixels(command)
    if command[1] in ('photometry', 'advise'):
        write_image(command)
    words = []
    for before, word in zip(command, command[1:]):
        words.extend(sorted(map(str, Path().glob(word))) if '*' in word else
                     ['1'] if before == '--workers' else [word])
    assert cli.main(words) == 0, capsys.readouterr().err


def test_the_python_code_of_the_readme_runs(here, capsys):
    names = {}
    for language, code in code_blocks(README):
        if language == 'python':
            write_pixels(re.findall(r"'([^']*)'", code))
            if 'lightkurve()' in code:
                pytest.importorskip('lightkurve')
            exec(compile(code, 'README.md', 'exec'), names)
    assert 'flux' in capsys.readouterr().out


def test_the_checks_see_commands_and_blocks(tmp_path):
    path = tmp_path / 'page.rst'
    path.write_text(textwrap.dedent("""
        Text::

            kpsf demo && kpsf advise a.fits \\
                --near 1 2 > out

        .. code-block:: text

            kpsf says
            $ N=1 kpsf lightcurve *.fits  # it's one

        kpsf needs
        """))
    assert list(commands(path)) == [
        ['kpsf', 'demo'], ['kpsf', 'advise', 'a.fits', '--near', '1', '2'],
        ['kpsf', 'lightcurve', '*.fits']]


@pytest.mark.parametrize('options', [{}, {'psf': 'empirical'}, {'psf': 'prf'}])
def test_the_page_on_light_curves_names_every_column_and_what_meta_has(tmp_path, options):
    simulate_kepler_prf(tmp_path / 'kplr07.4_2011265_prf.fits', channel=20)
    path = simulate_tpf(tmp_path / 'star.fits', n_cadences=3, seed=1,
                        header={'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4})
    with kpsf.conf.set_temp('prf_path', [str(tmp_path)]):
        found = kpsf.extract_light_curve(path, **options)
    page = (ROOT / 'docs' / 'user_guide' / 'light_curves.rst').read_text()
    of_header = {'target_id', 'magnitude', *(name for name, *_ in META_KEYWORDS)}
    for name in {*found.colnames, *found.meta} - of_header:
        assert f'``{name}``' in page or name.startswith('prf_')
