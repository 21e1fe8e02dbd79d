"""Requests of an operation fail, in every way there is: the operation ends well all the same, or leaves nothing behind.

`BLOOMERY_FAULT_CELLS=all` (`make test-faults`) tries every cell of the matrix; otherwise so many are drawn anew in each run.
The seed stands in the tests' names: `BLOOMERY_SEED` draws the same again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from unwind.matrix import FAULTS, blows, clean_run, drawn, tried
from unwind.scenarios import SCENARIOS, a_world
from unwind.test_unwind import comparable

SEED = int(os.environ["BLOOMERY_SEED"])
ALL = "all"
CELLS = os.environ.get("BLOOMERY_FAULT_CELLS", "60")

AT_ONCE = 3
"""How many cells of a row are tried at the same time: most of a cell's time is waiting."""

Row = tuple[str, str]


def rows() -> list[Row]:
    """Every operation with every fault, in an order of this run's own."""
    every = [(name, fault) for name in SCENARIOS for fault in FAULTS]
    random.Random(SEED).shuffle(every)
    return every


def sample() -> list[tuple[str, Row]]:
    """As many rows as there are to be cells, each with a number that its draws begin from."""
    every = rows()
    wanted = len(every) if CELLS == ALL else int(CELLS)
    return [(f"seed {SEED}-{number}", every[number % len(every)]) for number in range(wanted)]


def draw_of(label: str) -> random.Random:
    """The draws of one test, the same whenever it has that name."""
    return random.Random(label)


def named(part: object) -> str:
    return (" at ".join(reversed(part)) if isinstance(part, tuple) else str(part)).replace(" ", "_")


@pytest.mark.timeout(1800)  # a whole row
@pytest.mark.parametrize(("label", "row"), sample(), ids=named)
def test_an_operation_survives_the_failure_of_one_request(
    label: str, row: Row, record_property: Callable[[str, object], None]
) -> None:
    name, fault = row
    cells = blows(name, fault) if CELLS == ALL else [drawn(draw_of(label), name, fault)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [wrong for wrong in pool.map(partial(tried, name), cells) if wrong is not None]
    record_property("cells", len(cells))
    record_property("failed_cells", len(failures))
    record_property("wrong", "\n".join(failures))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(("label", "row"), sample()[: None if CELLS == ALL else max(1, int(CELLS) // 4)], ids=named)
def test_an_operation_survives_two_faults(label: str, row: Row, record_property: Callable[[str, object], None]) -> None:
    name, fault = row
    draw = draw_of(f"{label}, twice")
    record_property("pairs", 1)
    wrong = tried(name, drawn(draw, name, fault), drawn(draw, name, draw.choice(list(FAULTS))))
    record_property("wrong", wrong or "")
    assert wrong is None, wrong


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_proxy_changes_nothing(name: str) -> None:
    run = clean_run(name)
    with a_world() as world:
        SCENARIOS[name].prepare(world)
        SCENARIOS[name].call(world.api(), world)
        assert comparable(world.seen(), world) == run.finished
    assert run.requests["Ironic"] > 0


def test_the_world_is_the_same_from_run_to_run() -> None:
    with a_world() as first, a_world() as second:
        assert comparable(first.seen(), first) == comparable(second.seen(), second)
