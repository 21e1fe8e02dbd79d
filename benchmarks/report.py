"""What a run gives to read: its results as JSON and as tables, and the tables of the documentation's page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
PLACE = re.compile(r"^<!-- figures -->\n.*?^<!-- end of figures -->$", re.MULTILINE | re.DOTALL)

Results = Mapping[str, Any]
"""A run's results, as they stand in its JSON file."""


def write(results: Results, folder: Path = RESULTS) -> list[Path]:
    """The results are in the folder, as JSON and as text, under their date; returns the files."""
    folder.mkdir(exist_ok=True)
    files = {
        folder / f"{results['date']}.json": json.dumps(results, indent=1) + "\n",
        folder / f"{results['date']}.md": f"# Benchmarks of {results['date']}\n\n{text(results)}\n",
    }
    for file, content in files.items():
        file.write_text(content)
    return list(files)


def publish(results: Results, shown: str, *, file: Path, part: str, page: Path = PAGE) -> None:
    """The results of a benchmark of its own are in the file, as JSON, and the page shows them.

    Args:
        results: what was measured.
        shown: the same in Markdown.
        file: where they are to be kept.
        part: the page's part for them: between `<!-- PART -->` and `<!-- end of PART -->`.
        page: the page.

    Raises:
        ValueError: the page has no such part.
    """
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no part {part!r}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    page.write_text(f"{head}{begin}\n\n{shown}\n\n{end}{tail}")


def newest(folder: Path = RESULTS) -> Results:
    """The results of the newest run that was kept."""
    read: Results = json.loads(max(folder.glob("*.json")).read_text())
    return read


def merged(former: Results, now: Results) -> Results:
    """The results of now, and of the former ones those figures that were not measured again."""
    measured = {(figure["what"], figure["where"]) for figure in now["figures"]}
    kept = [figure for figure in former["figures"] if (figure["what"], figure["where"]) not in measured]
    return {**now, "figures": [*kept, *now["figures"]]}


def filled(page: str, results: Results) -> str:
    """The page with the results in their place."""
    return PLACE.sub(lambda _: f"<!-- figures -->\n\n{text(results)}\n\n<!-- end of figures -->", page)


def text(results: Results) -> str:
    """The results in Markdown."""
    machine, versions = results["machine"], results["versions"]
    parts = [
        f"{results['date']}, {results['repetitions']} repetitions of each, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        _table(
            ["what", "on", "Bloomery", "the other", "the other ÷ Bloomery"],
            (row for figure in results["figures"] for row in _rows(figure)),
        ),
        *(_parts(figure) for figure in results["figures"] if figure["parts"]),
    ]
    return "\n\n".join(parts)


def _rows(figure: Mapping[str, Any]) -> Iterable[list[str]]:
    (_, mine), *others = figure["values"].items()
    for side, theirs in others:
        times = [other / own for own, other in zip(mine, theirs, strict=True)]
        what = figure["what"] + (f" ({figure['remark']})" if figure["remark"] else "")
        values = [_spread(mine, figure["unit"]), f"{side}: {_spread(theirs, figure['unit'])}"]
        yield [what, figure["where"] or "–", *values, _spread(times, "")]


def _parts(figure: Mapping[str, Any]) -> str:
    """Of what the values of a figure are made, a line for each side."""
    lines = [
        f"- {side}: " + ", ".join(f"{name} {count:g}" for name, count in parts.items())
        for side, parts in figure["parts"].items()
    ]
    return f"On {figure['where']}, {figure['what']}:\n\n" + "\n".join(lines)


def _spread(values: Sequence[float], unit: str) -> str:
    """The median, and from what to what it goes if it is not always the same."""
    scale, words = _unit(unit, median(values))
    middle, least, greatest = (_shown(value * scale) for value in (median(values), min(values), max(values)))
    return f"{middle}{words}" + ("" if least == greatest else f" ({least}–{greatest})")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(unit: str, value: float) -> tuple[float, str]:
    if unit == "s":
        return (1000, " ms") if value < 1 else (1, " s")
    if unit == "bytes":
        return 1 / 1024, " KiB"
    return 1, ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
