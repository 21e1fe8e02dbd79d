"""The table of what went wrong elsewhere is whole, and what it names is there, runs, and is about Bloomery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ENTRIES = [f"D{number}" for number in range(1, 59)] + [f"R{number}" for number in range(1, 35)]


def rows() -> dict[str, str]:
    """The last column, by entry."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    found = re.findall(r"^\| ([DR]\d+) \| [^|]+ \| ([^|]+) \|$", text, re.M)
    assert len(found) == len(dict(found)), "an entry has two rows"
    return dict(found)


ROWS = rows()


APART = ("vm", "nova_releases")
"""Folders of tests that `make test` leaves to targets of their own."""
NOT_RUN = {"skip", "skipif", "xfail", "importorskip"}


def put_off(tree: ast.Module) -> Iterator[str]:
    """The tests of a module that are not run, or need not pass."""
    of_module = any(isinstance(part, ast.Assign | ast.Expr) and NOT_RUN & words_of(part) for part in tree.body)
    for part in tree.body:
        if isinstance(part, ast.FunctionDef) and (of_module or any(NOT_RUN & words_of(d) for d in part.decorator_list)):
            yield part.name


def words_of(part: ast.AST) -> set[str]:
    """The names of attributes and functions in it."""
    named = {node.attr for node in ast.walk(part) if isinstance(node, ast.Attribute)}
    return named | {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}


def proofs() -> set[str]:
    """Every test of Bloomery's own, but those of its simulators, and every check of the contract."""
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if "simulator" not in file.name]
    tests = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    contract = (ROOT / "src" / "bloomery" / "testing" / "contract.py").read_text()
    return tests | set(re.findall(r"^def (check_\w+)", contract, re.M))


PROOFS = proofs()


def test_every_entry_has_a_row_in_order() -> None:
    assert list(ROWS) == ENTRIES


def test_what_is_named_is_run_by_make_test_and_has_to_pass() -> None:
    named = {name for row in ROWS.values() for name in re.findall(r"`(test_\w+)`", row)}
    run: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text())
        tests = {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}
        if file.relative_to(ROOT / "tests").parts[0] not in APART:
            run |= tests - set(put_off(tree))
    assert named - run == set()


def test_a_test_that_is_put_off_is_seen() -> None:
    text = "@pytest.mark.skipif(True, reason='x')\ndef test_a(): ...\n@mark.lab\ndef test_b(): ...\n"
    assert list(put_off(ast.parse(text))) == ["test_a"]
    assert list(put_off(ast.parse("pytestmark = [pytest.mark.skip]\ndef test_a(): ...\n"))) == ["test_a"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_names_what_shows_it_to_hold(entry: str) -> None:
    named = set(re.findall(r"`((?:test|check)_\w+)`", ROWS[entry]))
    assert named
    assert named <= PROOFS
