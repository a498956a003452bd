# Licensed under a 3-clause BSD style license - see LICENSE
"""The comparison with other packages: proofs that exist, and one table on the page and in README.

What others do is checked by hand, and said on the page; what can be looked up here is.
"""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'comparison.rst').read_text(encoding='utf-8')
README = (ROOT / 'README.md').read_text(encoding='utf-8')
HEADING = 'How it compares'
# On the page: ``test_name`` and ``test_other`` (``test_file.py``).
NAMED_TEST = re.compile(r'``(test_\w+(?:\.py)?)``')
DOCUMENT = re.compile(r':doc:`([\w/]+)`')


def page_table():
    """Return the cells of each row of the page's table."""
    block = PAGE.split('.. list-table::', 1)[1].split('\n\n', 2)[1]
    rows = re.split(r'^   \* -', block, flags=re.MULTILINE)[1:]
    return [[cell.strip() for cell in re.split(r'^     -', row, flags=re.MULTILINE)]
            for row in rows]


def readme_table():
    """Return the cells of each row of the README's table, in the words of the page."""
    section = README.split(f'\n## {HEADING}\n', 1)[1].split('\n## ', 1)[0]
    rows = [line.strip('|').split('|') for line in section.splitlines() if line.startswith('|')]
    return [[in_words(cell) for cell in row] for row in rows if set(''.join(row)) - set('-: ')]


def in_words(cell):
    """Return a cell without its link, and with words for signs."""
    text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', cell).strip()
    return {'✓': 'yes', '–': 'no'}.get(text, text)


def proofs():
    """Return what the page says behind each line of its table, by the name of the line."""
    section = PAGE.split('What is behind each line\n', 1)[1].split('\nHow this was checked\n')[0]
    return dict(re.findall(r'^(\S.*)\n((?:    .*\n)+)', section, flags=re.MULTILINE))


def named_tests(text):
    """Return pairs of file and test in a text, where the file follows its tests."""
    pairs, waiting = [], []
    for name in NAMED_TEST.findall(text):
        if name.endswith('.py'):
            pairs += [(name, test) for test in waiting]
            waiting = []
        else:
            waiting.append(name)
    assert not waiting, f'The page names no file for {waiting}.'
    return pairs


def functions_in(path):
    """Return the names of all functions in a file."""
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.FunctionDef)}


LINES = [row[0] for row in page_table()[1:]]


def test_the_table_has_lines_of_five_packages():
    table = page_table()
    assert [name.split()[0] for name in table[0][1:]] == [
        'kpsf', 'photutils', 'lightkurve', 'psfmachine', 'lkprf']
    assert 14 <= len(LINES) == len(set(LINES)) <= 20
    assert all(len(row) == 6 and all(row[1:]) for row in table)


def test_every_line_has_its_proof_and_every_proof_its_line():
    assert list(proofs()) == LINES


@pytest.mark.parametrize('line', LINES)
def test_what_is_behind_a_line_exists(line):
    text, verdict = proofs()[line], dict(row[:2] for row in page_table())[line]
    documents, tests = DOCUMENT.findall(text), named_tests(text)
    assert documents
    assert all((ROOT / 'docs' / f'{name}.rst').is_file() for name in documents)
    assert bool(tests) is (verdict != 'no')
    for file, test in tests:
        assert test in functions_in(ROOT / 'tests' / file)


def test_names_of_photutils_and_astropy_exist():
    names = set(re.findall(r'`~((?:photutils|astropy)[\w.]+)`', PAGE))
    assert len(names) > 10
    for name in names:
        module, _, attribute = name.rpartition('.')
        assert hasattr(importlib.import_module(module), attribute)


def test_the_requirements_are_those_of_the_page():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    required = {name.name: name for name in map(Requirement, project['dependencies'])}
    assert not required['numpy'].specifier.contains('1.26.4')
    assert required['numpy'].specifier.contains('2.0.0')
    assert 'photutils' in required
    assert ('It is alpha' in PAGE.replace('\n', ' ')) is (
        'Development Status :: 3 - Alpha' in project['classifiers'])


def test_the_readme_has_the_verdicts_of_the_page():
    on_page = {row[0]: row for row in page_table()}
    in_readme = readme_table()
    assert 1 < len(in_readme) <= 15
    assert in_readme == [on_page[row[0]] for row in in_readme]
    # Those of the page in its order, and the versions on top.
    assert [row[0] for row in in_readme] == [
        name for name in on_page if name in {row[0] for row in in_readme}]
    assert in_readme[0][0] == ''


def test_the_links_of_the_readme_lead_to_files():
    section = README.split(f'\n## {HEADING}\n', 1)[1].split('\n## ', 1)[0]
    links = re.findall(r'\]\((?!https?:)([^)#]+)', section)
    assert 'docs/comparison.rst' in links
    assert all((ROOT / link).is_file() for link in links)
