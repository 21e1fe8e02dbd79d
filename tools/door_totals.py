"""Count what becomes of the calls of Nova's manager when requests fail: with our driver, and with Nova's own.

Usage: python -m tools.door_totals [--cells N] [--seed N] [--jobs N] [--write]

For each fault so many cells are drawn for each driver, from the calls that both of them answer; 0 takes every cell. What
comes out is a table in Markdown; with --write it replaces the one in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
PLACE = re.compile(r"^<!-- drivers -->\n.*?^<!-- end of drivers -->$", re.MULTILINE | re.DOTALL)
UPSTREAM_LIMIT_S = 25.0
"""Without a timeout Nova's own driver waits for ever; nothing else takes it so long here."""

Cell = tuple[str, str, str, int]
"""Candidate, call, fault, the number of the request."""
Result = tuple[str, str, str, str]
"""Candidate, fault, outcome, the promise that was broken. Where one was broken, the log says how."""


def prepare(clean_runs: Mapping[tuple[str, str], Any] | None = None) -> None:
    """This process can run cells: Nova has a database, and what is known of clean runs is known here, too."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from nova.network import security_group_api

    from doors_nova import nova_world

    security_group_api.get_instance_security_groups = lambda *_args, **_kwargs: []
    nova_world.database(Path(tempfile.mkdtemp(prefix="bloomery-totals-")))
    from door_matrix import matrix

    matrix.clean_runs.update(clean_runs or {})


def cells(candidate: str, fault: str) -> list[Cell]:
    """The fault at every request of every call that both drivers answer."""
    from door_matrix import matrix
    from door_matrix.calls import CALLS, NOT_UPSTREAM

    return [
        (candidate, name, fault, blow.nth)
        for name in CALLS
        if name not in NOT_UPSTREAM
        for blow in matrix.blows(name, fault, candidates()[candidate])
    ]


def run(cell: Cell) -> Result:
    """How the cell went."""
    from door_matrix import matrix

    candidate, name, fault, nth = cell
    driver = candidates()[candidate]
    limit_s = matrix.LIMIT_S if driver.exactly else UPSTREAM_LIMIT_S
    verdict = matrix.tried(name, matrix.Blow(nth, fault), candidate=driver, limit_s=limit_s)
    if verdict.wrong:
        print(f"{candidate}: {verdict.wrong}", file=sys.stderr, flush=True)
    return candidate, fault, verdict.outcome, verdict.broken or ""


def candidates() -> dict[str, Any]:
    """The drivers, by name, in the order of the tables' columns."""
    from door_matrix import door_world

    return {it.name: it for it in (door_world.OURS, door_world.AS_IT_COMES, door_world.AT_ITS_BEST)}


def tables(results: Iterable[Result], *, seed: int, total: int) -> str:
    """What the page shows."""
    from door_matrix.matrix import Outcome, Promise
    from unwind.matrix import FAULTS

    names = list(candidates())
    counts = Counter((candidate, fault, outcome) for candidate, fault, outcome, _ in results)
    broken = Counter((candidate, promise) for candidate, _, _, promise in results)
    ways = tuple(Outcome)

    def row(title: str, numbers: Iterable[int | str]) -> str:
        return f"| {title} | " + " | ".join(str(number) for number in numbers) + " |"

    def of(candidate: str, fault: str) -> str:
        return " / ".join(str(counts[candidate, fault, way]) for way in ways)

    def sums(candidate: str) -> str:
        return " / ".join(str(sum(counts[candidate, fault, way] for fault in FAULTS)) for way in ways)

    heads = row("", names)
    line = "| --- |" + " ---: |" * len(names)
    faults = [row(fault, (of(candidate, fault) for candidate in names)) for fault in FAULTS]
    promises = [row(promise, (broken[candidate, promise] for candidate in names)) for promise in Promise]
    drawn = f"{total} cells, drawn with seed {seed}" if seed >= 0 else f"all {total} cells"
    return "\n".join(
        [
            f"nova {version('nova')}, openstacksdk {version('openstacksdk')}; {drawn}.",
            "Done / failed in order / likewise, but with an error that Nova does not know / another promise broken:",
            "",
            heads,
            line,
            *faults,
            row("**in all**", (f"**{sums(candidate)}**" for candidate in names)),
            "",
            "Which promise was broken:",
            "",
            heads,
            line,
            *promises,
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """The tables are printed, or in the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cells", type=int, default=30, help="how many for each fault and driver; 0 is all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(arguments)
    prepare()
    from door_matrix import matrix
    from unwind.matrix import FAULTS

    draw = random.Random(given.seed)  # noqa: S311  no secret
    chosen: list[Cell] = []
    for candidate in candidates():
        for fault in FAULTS:
            every = cells(candidate, fault)
            chosen += draw.sample(every, min(given.cells, len(every))) if given.cells else every
    draw.shuffle(chosen)
    print(f"seed {given.seed}: {len(chosen)} cells", file=sys.stderr, flush=True)
    results: list[Result] = []
    with multiprocessing.get_context("spawn").Pool(
        given.jobs, initializer=prepare, initargs=(matrix.clean_runs,)
    ) as pool:
        for number, result in enumerate(pool.imap_unordered(run, chosen), 1):
            results.append(result)
            if number % 100 == 0:
                print(f"{number} of {len(chosen)}", file=sys.stderr, flush=True)
    text = tables(results, seed=given.seed if given.cells else -1, total=len(results))
    if given.write:
        page = PAGE.read_text()
        PAGE.write_text(PLACE.sub(lambda _: f"<!-- drivers -->\n\n{text}\n\n<!-- end of drivers -->", page))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
