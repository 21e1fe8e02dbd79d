"""nova-compute is killed before and after each request: the one that starts next finishes, or cleans, what it finds."""

from __future__ import annotations

import os
import random

import pytest

from door_matrix.calls import CALLS
from door_matrix.kills import CHANGES, killed
from door_matrix.matrix import clean_run

SEED = int(os.environ["BLOOMERY_SEED"])
ALL = "all"
CELLS = os.environ.get("BLOOMERY_FAULT_CELLS", "40")

Instant = tuple[str, bool, int]


def instants() -> list[tuple[str, bool]]:
    """Every call that changes something, killed before or after a request, in an order of this run's own."""
    every = [(name, after) for name in CHANGES for after in (False, True)]
    random.Random(SEED).shuffle(every)
    return every if CELLS == ALL else every[: max(1, int(CELLS) // 4)]


def named(part: object) -> str:
    return (
        f"{part[0]} {'after' if part[1] else 'before'} it".replace(" ", "_") if isinstance(part, tuple) else str(part)
    )


@pytest.mark.timeout(1800)
# The watch of a nova-compute that is played dead is a thread of this process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("instant", instants(), ids=named)
@pytest.mark.parametrize("seed", [SEED], ids=[f"seed {SEED}"])
def test_a_nova_compute_that_starts_finishes_or_cleans_what_a_killed_one_left(
    instant: tuple[str, bool], seed: int
) -> None:
    name, after = instant
    every = range(1, clean_run(name).requests + 1)
    chosen = every if CELLS == ALL else [random.Random(f"{seed} {name}").choice(every)]
    wrong = [said for nth in chosen if (said := killed(name, nth, after=after)) is not None]
    assert not wrong, "\n".join(wrong)


def test_every_call_is_killed_or_changes_nothing() -> None:
    for name in set(CALLS) - set(CHANGES):
        run = clean_run(name)
        assert run.untouched == run.finished
        assert not any((run.effects.power, run.effects.interrupts, run.effects.provisioned))
