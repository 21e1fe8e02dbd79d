"""One request of an operation fails, in one of many ways: the operation ends well all the same, or leaves nothing behind.

Which request of which operation fails how is drawn anew in each run; the seed stands in the test's name, so that a failure
can be had again with `BLOOMERY_SEED`.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import pytest

from bloomery.errors import BloomeryError
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.http_simulator import HttpSimulator
from unwind.scenarios import SCENARIOS, a_world
from unwind.test_unwind import ASKED_AGAIN, comparable, ends_of, settle

SEED = int(os.environ["BLOOMERY_SEED"])
CELLS = int(os.environ.get("BLOOMERY_FAULT_CELLS", "60"))

FAULTS: dict[str, Callable[[], Fault]] = {
    "409": lambda: Fault(FaultKind.STATUS, status=409),
    "429": lambda: Fault(FaultKind.STATUS, status=429),
    "500": lambda: Fault(FaultKind.STATUS, status=500),
    "502": lambda: Fault(FaultKind.STATUS, status=502),
    "503": lambda: Fault(FaultKind.STATUS, status=503),
    "404 once": lambda: Fault(FaultKind.STATUS, status=404),
    "500 after the deed": lambda: Fault(FaultKind.STATUS_AFTER, status=500),
    "reset before": lambda: Fault(FaultKind.RESET),
    "reply lost": lambda: Fault(FaultKind.LOSE_REPLY),
    "refused": lambda: Fault(FaultKind.REFUSE),
    "body cut": lambda: Fault(FaultKind.CUT_BODY),
    "no JSON": lambda: Fault(FaultKind.GARBAGE_BODY),
}


AWAY_S = 0.4
"""How long a service that refuses connections does so."""


class Saboteur:
    """Lets the given request of each service's fail, and no other."""

    def __init__(self, played: HttpSimulator, number: int, fault: Fault) -> None:
        self.played = played
        self.number = number
        self.fault = fault
        self.struck: RecordedRequest | None = None
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self, request: RecordedRequest) -> Fault | None:
        with self._lock:
            self._count += 1
            if self._count - 1 != self.number:
                return None
            self.struck = request
        if self.fault.kind is FaultKind.REFUSE:
            threading.Timer(AWAY_S, self.played.accept_connections).start()
        return self.fault


def cells() -> list[tuple[str, str, float, str]]:
    """Scenario, fault, how far into the operation, and which service."""
    draw = random.Random(SEED)
    return [
        (
            draw.choice(list(SCENARIOS)),
            draw.choice(list(FAULTS)),
            draw.random(),
            draw.choice(["ironic", "ironic", "ironic", "neutron"]),
        )
        for _ in range(CELLS)
    ]


def requests_of(name: str, service: str) -> int:
    """How many requests the operation makes at the service when all goes well."""
    with a_world() as world:
        SCENARIOS[name].prepare(world)
        played = world.ironic if service == "ironic" else world.neutron
        before = len(played.requests)
        SCENARIOS[name].call(world.api(), world)
        return len(played.requests) - before


@pytest.mark.parametrize(
    "cell",
    cells(),
    ids=lambda cell: f"seed {SEED}: {cell[1]} at {cell[2]:.0%} of {cell[0]}, {cell[3]}".replace(" ", "_"),
)
def test_an_operation_survives_the_failure_of_one_request(cell: tuple[str, str, float, str]) -> None:
    name, fault, where, service = cell
    untouched, finished = ends_of(name)
    count = requests_of(name, service)
    if count == 0:
        service, count = "ironic", requests_of(name, "ironic")
    with a_world() as world:
        SCENARIOS[name].prepare(world)
        played = world.ironic if service == "ironic" else world.neutron
        saboteur = Saboteur(played, int(where * count), FAULTS[fault]())
        played.on_request = saboteur
        problem: BloomeryError | None = None
        try:
            SCENARIOS[name].call(world.api(), world)
        except BloomeryError as raised:
            problem = raised
        played.on_request = None
        settle(world)
        now = comparable(world.seen(), world)
        struck = f"{saboteur.struck.method} {saboteur.struck.path}" if saboteur.struck else "nothing"
        said = f"{fault} at {struck}: {problem!r}"
        if problem is None:
            assert now == finished, said
            return
        if now not in (untouched, finished):
            world.api().recover(older_than_s=0, timeout_s=60)
            settle(world)
            now = comparable(world.seen(), world)
        if now not in (untouched, finished) and name in ASKED_AGAIN:
            SCENARIOS[name].call(world.api(), world)
            now = comparable(world.seen(), world)
        assert now in (untouched, finished), said
        assert fault in MAY_BE_TOLD or name in LEAVES_NO_TRACE, said


LEAVES_NO_TRACE = {"crash dump"}
"""Where nothing shows whether a request took effect, and it must not be repeated: its failure is always told."""
MAY_BE_TOLD = {"404 once", "500 after the deed", "reply lost", "body cut", "no JSON", "409"}
"""Faults that an operation may report as a failure: the others it has to survive."""


def test_the_world_is_the_same_from_run_to_run() -> None:
    with a_world() as first, a_world() as second:
        assert comparable(first.seen(), first) == comparable(second.seen(), second)
