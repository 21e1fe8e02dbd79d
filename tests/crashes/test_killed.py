"""Processes of Bloomery are killed with signal 9 in the middle of operations; another process sees to what they left.

`BLOOMERY_CRASHES=all` (`make test-crashes`) kills before, during and after every request of every operation; otherwise so
many deaths are drawn anew in each run. The seed stands in the tests' names: `BLOOMERY_SEED` draws the same again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from bloomery.testing import Fault, FaultKind, FaultRule
from crashes.killed import Death, deaths, drawn, drawn_instant, drawn_of_recovery, job, tried
from crashes.processes import Processes
from unwind.matrix import prepared
from unwind.scenarios import SCENARIOS

SEED = int(os.environ["BLOOMERY_SEED"])
ALL = "all"
CRASHES = os.environ.get("BLOOMERY_CRASHES", "24")
EACH = 12
"""How many deaths of an operation are drawn of those that are too many to be tried one by one."""

Record = Callable[[str, object], None]


def operations(share: int) -> list[str]:
    """All operations, or as many as are to be tried, in an order of this run's own."""
    every = list(SCENARIOS)
    random.Random(SEED).shuffle(every)
    return every if CRASHES == ALL else [every[number % len(every)] for number in range(int(CRASHES) // share)]


def labelled(share: int) -> list[tuple[str, str]]:
    """Those operations, each with a label that its draws begin from."""
    return [(f"seed {SEED}-{number}", name) for number, name in enumerate(operations(share))]


def named(part: str) -> str:
    return part.replace(" ", "_")


def check(processes: Processes, record: Record, cells: list[tuple[str, tuple[Death, ...]]]) -> None:
    """Each ends as it may."""
    results = [tried(processes, name, *all_deaths) for name, all_deaths in cells]
    record("ends", dict(Counter(str(end) for end, _ in results if end is not None)))
    wrong = [story for end, story in results if end is None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("label", "name"), labelled(share=2), ids=named)
def test_what_a_process_killed_at_any_request_leaves_is_finished_or_cleaned_by_another(
    label: str, name: str, processes: Processes, record_property: Record
) -> None:
    chosen = deaths(name) if CRASHES == ALL else [drawn(random.Random(label), name)]
    check(processes, record_property, [(name, (death,)) for death in chosen])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("label", "name"), labelled(share=4), ids=named)
def test_what_a_process_killed_at_any_instant_leaves_is_finished_or_cleaned_by_another(
    label: str, name: str, processes: Processes, record_property: Record
) -> None:
    draw = random.Random(f"{label}, instant")
    chosen = [drawn_instant(draw, processes, name) for _ in range(EACH if CRASHES == ALL else 1)]
    check(processes, record_property, [(name, (death,)) for death in chosen])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("label", "name"), labelled(share=4), ids=named)
def test_what_is_recovered_by_a_process_that_is_killed_itself_is_recovered_by_the_next(
    label: str, name: str, processes: Processes, record_property: Record
) -> None:
    draw = random.Random(f"{label}, twice")
    times = EACH if CRASHES == ALL else 1
    chosen = [(drawn(draw, name), drawn_of_recovery(draw), drawn_of_recovery(draw)) for _ in range(times)]
    check(processes, record_property, [(name, all_deaths) for all_deaths in chosen])


def test_a_request_that_is_under_way_when_its_process_dies_is_carried_out_all_the_same(processes: Processes) -> None:
    with prepared("power") as struck:
        fault = Fault(FaultKind.DELAY, meanwhile=processes.kill)
        struck.proxies["Ironic"].arm(FaultRule(fault=fault, method="PUT", path="/states/power$"))
        assert processes.run(job(struck, "power")).was_killed
        struck.calm()
        assert len(struck.effects().power) == 1
