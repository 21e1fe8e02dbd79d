"""The machine's clock is set an hour ahead or back in the middle of an operation; only marks on nodes have to do with it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from bloomery.testing import Fault, FaultKind, FaultRule
from crashes.forked import RECOVER
from crashes.killed import drawn, job
from crashes.processes import Processes
from unwind.matrix import clean_run, prepared, second_effect
from unwind.scenarios import SCENARIOS

SEED = int(os.environ["BLOOMERY_SEED"])
EVERY = os.environ.get("BLOOMERY_CRASHES") == "all"
HOUR_S = 3600.0
USUAL_AGE_S = 600.0
"""What `recover` leaves alone, unless it is told otherwise."""


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """By how many seconds the clock is ahead."""
    ahead = tmp_path / "ahead"
    set_clock(ahead, 0.0)
    return ahead


def set_clock(clock: Path, ahead_s: float) -> None:
    draft = clock.with_suffix(".new")
    draft.write_text(str(ahead_s))
    draft.replace(clock)  # in one piece: the process may look at any moment


def operations(label: str, count: int) -> list[str]:
    every = sorted(SCENARIOS)
    return every if EVERY else random.Random(f"{SEED} {label}").sample(every, count)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
@pytest.mark.parametrize("name", operations("jump", 5))
def test_an_operation_does_not_notice_that_the_clock_is_set(
    processes: Processes, clock: Path, name: str, ahead_s: float
) -> None:
    clean = clean_run(name)
    at = drawn(random.Random(f"{SEED} {name} {ahead_s}"), name)
    with prepared(name) as struck:
        fault = Fault(FaultKind.DELAY, meanwhile=lambda: set_clock(clock, ahead_s))
        struck.proxies[at.service].arm(FaultRule(fault=fault, nth=at.nth))
        outcome = processes.run(job(struck, name, clock=str(clock)))
        struck.calm()
        assert outcome.problem is None
        assert struck.seen() == clean.finished
        assert second_effect(struck.effects(), clean.effects, times=1) is None
        assert processes.run(job(struck, RECOVER, clock=str(clock), older_than_s=USUAL_AGE_S)).problem is None
        struck.calm()
        assert struck.seen() == clean.finished


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
def test_what_a_killed_process_left_is_recovered_though_the_clock_was_set_since(
    processes: Processes, clock: Path, ahead_s: float
) -> None:
    name = "deploy"
    clean = clean_run(name)
    with prepared(name) as struck:
        plug = Fault(FaultKind.RESET, meanwhile=processes.kill)
        struck.proxies["Ironic"].arm(FaultRule(fault=plug, method="POST", path="/vifs$"))
        assert processes.run(job(struck, name, clock=str(clock))).was_killed
        struck.calm()
        left = struck.seen()
        assert left not in (clean.untouched, clean.finished)
        set_clock(clock, ahead_s)
        assert processes.run(job(struck, RECOVER, clock=str(clock), older_than_s=USUAL_AGE_S)).problem is None
        assert struck.seen() == (clean.untouched if ahead_s > 0 else left)
        # Whoever knows that the process is dead need not wait until the clock has come to where it was.
        assert processes.run(job(struck, RECOVER, clock=str(clock), older_than_s=0)).problem is None
        assert struck.seen() == clean.untouched
