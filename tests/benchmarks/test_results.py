"""What the documentation says of performance is what the newest results say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def reporter() -> ModuleType:
    """The module benchmarks/report.py, which writes results and tables."""
    spec = importlib.util.spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT = reporter()


def test_the_page_has_the_figures_of_the_newest_results() -> None:
    page = REPORT.PAGE.read_text()
    assert REPORT.filled(page, REPORT.newest()) == page


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    results = REPORT.newest()
    written = REPORT.write(results, tmp_path)
    assert [file.name for file in written] == [f"{results['date']}.json", f"{results['date']}.md"]
    assert REPORT.newest(tmp_path) == results


def test_a_benchmark_of_its_own_fills_its_part_of_the_page_and_no_other(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "results" / "one.json"
    page.write_text("before\n<!-- x -->\n\nold\n\n<!-- end of x -->\nafter\n")
    REPORT.publish({"a": 1}, "new", file=file, part="x", page=page)
    assert page.read_text() == "before\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nafter\n"
    assert json.loads(file.read_text()) == {"a": 1}
    with pytest.raises(ValueError, match="no part 'y'"):
        REPORT.publish({}, "new", file=file, part="y", page=page)
    for part in ("figures of the service", "memory of the service"):
        assert REPORT.PAGE.read_text().count(f"<!-- {part} -->") == 1


def test_what_was_not_measured_again_is_kept() -> None:
    figure = {"what": "ask", "where": "here", "remark": "", "unit": "requests", "values": {"a": [1]}, "parts": {}}
    former = {**REPORT.newest(), "figures": [figure, {**figure, "what": "list"}], "date": "2000-01-01"}
    now = {**former, "figures": [{**figure, "values": {"a": [2]}}], "date": "2000-01-02"}
    merged = REPORT.merged(former, now)
    assert merged["date"] == "2000-01-02"
    assert {found["what"]: found["values"]["a"] for found in merged["figures"]} == {"list": [1], "ask": [2]}


def test_what_is_always_the_same_has_no_spread() -> None:
    figure = {"what": "ask", "where": "", "remark": "", "unit": "requests", "values": {"a": [2, 2, 2], "b": [3, 4, 5]}}
    table = REPORT.text({**REPORT.newest(), "figures": [{**figure, "parts": {}}]})
    assert "| ask | – | 2 | b: 4 (3–5) | 2 (1.5–2.5) |" in table


def test_every_measurement_has_its_place_in_the_page() -> None:
    page = REPORT.PAGE.read_text()
    named = set(re.findall(r"`(\w+\.py)`", page))
    machinery = {"run.py", "report.py", "measuring.py", "clients.py", "simulated.py", "real.py", "compute.py"}
    assert {file.name for file in (ROOT / "benchmarks").glob("*.py")} - machinery == named - machinery
