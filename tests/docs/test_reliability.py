"""The table of what went wrong elsewhere is whole, and what it names is there and is about Bloomery."""

from __future__ import annotations

import re
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


def proofs() -> set[str]:
    """Every test of Bloomery's own, but those of its simulators, and every check of the contract."""
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if "simulator" not in file.name]
    tests = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    contract = (ROOT / "src" / "bloomery" / "testing" / "contract.py").read_text()
    return tests | set(re.findall(r"^def (check_\w+)", contract, re.M))


PROOFS = proofs()


def test_every_entry_has_a_row_in_order() -> None:
    assert list(ROWS) == ENTRIES


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_names_what_shows_it_to_hold(entry: str) -> None:
    named = set(re.findall(r"`((?:test|check)_\w+)`", ROWS[entry]))
    assert named
    assert named <= PROOFS
