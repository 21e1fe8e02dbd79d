"""The tables in the documentation say what the code says, and none is missing."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import bloomery

ROOT = Path(__file__).resolve().parent.parent.parent


def writer() -> ModuleType:
    """The module tools/doc_tables.py, which writes the tables."""
    spec = importlib.util.spec_from_file_location("doc_tables", ROOT / "tools" / "doc_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = writer()
PAGES: dict[Path, str] = WRITER.pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_what_the_code_says(page: Path) -> None:
    assert PAGES[page] == WRITER.filled(PAGES[page]), "write it with: python tools/doc_tables.py"


def test_every_table_is_on_a_page() -> None:
    asked = Counter(name for text in PAGES.values() for name in WRITER.tables_in(text))
    assert set(asked) == set(WRITER.TABLES)


def test_a_table_that_is_stale_is_written_anew() -> None:
    stale = "Before\n<!-- table: policy -->\n| old |\n<!-- end of table -->\nafter\n"
    filled = WRITER.filled(stale)
    assert filled != stale
    assert filled.startswith("Before\n<!-- table: policy -->\n\n| the request |")
    assert filled.endswith("\n<!-- end of table -->\nafter\n")
    assert WRITER.filled(filled) == filled


def test_a_table_that_nobody_writes_is_refused() -> None:
    with pytest.raises(LookupError, match="no table 'nonsense'"):
        WRITER.filled("<!-- table: nonsense -->\n<!-- end of table -->\n")


def test_every_public_name_has_its_sentence_in_the_library_page() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    reference = page.split("\n## Every name\n")[1].split("\n## ")[0]
    explained = [line.split("`")[1] for line in reference.splitlines() if line.startswith("| `")]
    assert sorted(explained) == sorted(bloomery.__all__)


def test_every_test_that_a_page_names_is_there() -> None:
    named = {name for page in (ROOT / "docs").rglob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    written = {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert named
    assert named <= written
