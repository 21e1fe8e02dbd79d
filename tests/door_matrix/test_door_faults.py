"""Requests that Nova's driver makes fail, in every way there is: the manager gets what it asked for, or an error that it knows.

`BLOOMERY_FAULT_CELLS=all` (`make test-faults`) tries every cell of the matrix; otherwise so many are drawn anew in each run.
The seed stands in the tests' names: `BLOOMERY_SEED` draws the same again.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable

import pytest
from nova.virt import driver as virt_driver

from bloomery.doors.nova.driver import IronicDriver
from door_matrix.calls import ASK_NOTHING, CALLS, NOT_UPSTREAM
from door_matrix.door_world import AS_IT_COMES, OURS, RAISES, Candidate
from door_matrix.matrix import Blow, Outcome, Promise, blows, clean_run, is_survived, plain, prepared, tried
from unwind.matrix import FAULTS

SEED = int(os.environ["BLOOMERY_SEED"])
ALL = "all"
CELLS = os.environ.get("BLOOMERY_FAULT_CELLS", "40")

OF_THE_SDK = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:openstack.*")

NOT_THERE = "404 once"

Row = tuple[str, str]

METHODS = {
    name
    for name, value in vars(IronicDriver).items()
    if inspect.isfunction(value) and hasattr(virt_driver.ComputeDriver, name) and name != "__init__"
}


def rows() -> list[Row]:
    """Every call with every fault, in an order of this run's own."""
    every = [(name, fault) for name in CALLS for fault in FAULTS]
    random.Random(SEED).shuffle(every)
    return every


def sample(share: int = 1) -> list[tuple[str, Row]]:
    """As many rows as there are to be cells, or a part of them, each with a label that its draws begin from."""
    every = rows()
    wanted = len(every) if CELLS == ALL else max(1, int(CELLS) // share)
    return [(f"seed {SEED}-{number}", every[number % len(every)]) for number in range(wanted)]


def named(part: object) -> str:
    return (" at ".join(reversed(part)) if isinstance(part, tuple) else str(part)).replace(" ", "_")


def drawn(label: str, *row: Row) -> list[Blow]:
    """One request for each row, the same whenever the test has that name."""
    draw = random.Random(label)
    return [draw.choice(blows(name, fault)) for name, fault in row]


def what_is_wrong(name: str, blow: Blow) -> str | None:
    """None if all is as it should be."""
    verdict = tried(name, blow)
    if verdict.outcome is Outcome.FAILED and is_survived(name, blow):
        return f"{name}: {blow} should have been survived"
    return verdict.wrong or None


@pytest.mark.timeout(1800)  # a whole row
@pytest.mark.parametrize(("label", "row"), sample(), ids=named)
def test_a_call_of_novas_manager_survives_the_failure_of_one_request(
    label: str, row: Row, record_property: Callable[[str, object], None]
) -> None:
    name, fault = row
    cells = blows(name, fault) if CELLS == ALL else drawn(label, row)
    failures = [wrong for blow in cells if (wrong := what_is_wrong(name, blow)) is not None]
    record_property("cells", len(cells))
    record_property("failed_cells", len(failures))
    record_property("wrong", "\n".join(failures))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(("label", "row"), sample(share=4), ids=named)
def test_a_call_of_novas_manager_survives_two_faults(
    label: str, row: Row, record_property: Callable[[str, object], None]
) -> None:
    name, fault = row
    # Two 404s in a row are no two faults: what is said twice is believed.
    others = [one for one in FAULTS if (one, fault) != (NOT_THERE, NOT_THERE)]
    another = random.Random(f"{label}, another").choice(others)
    record_property("pairs", 1)
    verdict = tried(name, *drawn(f"{label}, twice", row, (name, another)))
    record_property("wrong", verdict.wrong)
    assert not verdict.wrong, verdict.wrong


@pytest.mark.parametrize("name", CALLS)
def test_a_call_succeeds_in_a_world_that_came_back_as_it_was_prepared(name: str) -> None:
    clean_run(name)
    with prepared(name, OURS) as struck:
        assert struck.seen() == clean_run(name).untouched
        assert (
            plain(CALLS[name].call(struck.world, struck.server), struck.world, struck.server) == clean_run(name).answer
        )
    verdict = tried(name)
    assert (verdict.outcome, verdict.wrong) == (Outcome.DONE, "")


def test_a_node_is_not_taken_for_deleted_because_of_one_404() -> None:
    for blow in blows("free node deleted", "404 once"):
        assert tried("free node deleted", blow).outcome is Outcome.DONE


def test_every_method_of_the_driver_is_in_a_call_or_said_to_ask_nothing() -> None:
    called: set[str] = set()
    for name in CALLS:
        called |= clean_run(name).methods
    assert METHODS - called == set(ASK_NOTHING)


def test_every_method_of_the_driver_has_its_errors() -> None:
    assert set(RAISES) | {"plug_vifs", *ASK_NOTHING} == METHODS


@pytest.mark.parametrize("name", CALLS)
def test_every_call_asks_something(name: str) -> None:
    assert clean_run(name).requests > 0


@OF_THE_SDK
@pytest.mark.parametrize("name", ["build", "delete", "rebuild", "rescue"])
def test_novas_own_driver_does_the_same_to_the_machine_when_nothing_fails(name: str) -> None:
    own: Candidate = AS_IT_COMES
    assert name not in NOT_UPSTREAM
    assert clean_run(name, own).effects == clean_run(name).effects
    assert clean_run(name, own).answer == clean_run(name).answer


@OF_THE_SDK
def test_a_lost_reply_breaks_a_promise_of_novas_own_driver() -> None:
    """The judge can say no: this is the third of the list of that driver's defects."""
    verdicts = [tried("build", blow, candidate=AS_IT_COMES) for blow in blows("build", "reply lost", AS_IT_COMES)]
    assert Promise.ERRORS in {verdict.broken for verdict in verdicts}
