"""How cost grows: with the fleet, from a hundred nodes to a hundred thousand, and with those who wait, from one to a thousand.

On the simulator: a real Ironic takes more for the same rows, and a hundred thousand nodes in one are seldom to be had. Writes
its table and its plot: `python -m benchmarks.growth`, some minutes.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery import connect
from bloomery.deadline import Cancellation, Deadline
from bloomery.errors import OperationCancelled
from bloomery.fleet import Fleet
from bloomery.ironic import Ironic
from bloomery.ironic.changes import OVERLAP
from bloomery.rest.transport import Detour, Reply, Request
from bloomery.states import Meaning
from bloomery.testing.clock import HandClock, JumpingClock
from bloomery.watch import Watch

from . import report
from .measuring import Cost, cost_of
from .plot import Line, Panel, svg
from .simulated import simulated

NODES = (100, 1_000, 10_000, 100_000)
WAITING = (1, 10, 100, 1_000)
CHANGES = 20
TEN_MINUTES_S = 600.0
RESULTS = report.RESULTS / "growth"
PLOT = report.ROOT / "docs" / "assets" / "growth.svg"
PLACE = re.compile(r"^<!-- growth -->\n.*?^<!-- end of growth -->$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class FleetCosts:
    """What a fleet of that many nodes costs, held packed.

    Attributes:
        nodes: how many.
        full: reading them all.
        still: a refresh after which nothing is new.
        changed: a refresh that sees `CHANGES` changes.
        requests: of each of the three.
        bytes_each: what Python has allocated and not freed, by node.
    """

    nodes: int
    full: Cost
    still: Cost
    changed: Cost
    requests: tuple[int, int, int]
    bytes_each: float


@dataclass(frozen=True, slots=True)
class WaitingCosts:
    """What ten minutes of waiting cost, in which nothing happens.

    Attributes:
        waiting: how many wait, each for a node of its own.
        requests: that they send together.
        processor_s: of the process that waits.
    """

    waiting: int
    requests: int
    processor_s: float


class _Counting(Detour):
    """Counts what is sent."""

    count = 0

    def passed(self, request: Request) -> Reply:
        self.count += 1
        return self.sent(request)


class _TenMinutes(JumpingClock):
    """The clock of a watch, on which waiting takes no time until ten minutes have passed; then it stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.has_passed = threading.Event(), threading.Event()
        self._ends_s = self.now_s + TEN_MINUTES_S

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        """As the clock says."""
        if not self.go.is_set():
            return self.go.wait()
        if self.now_s >= self._ends_s:
            self.has_passed.set()
            return signal.wait(1.0)
        signal.clear()
        return super().wait(signal, timeout_s)


def fleet_costs(nodes: int) -> FleetCosts:
    """Measured once, on a simulator of that many nodes."""
    with simulated(nodes=nodes, in_use=True, can_restore=False) as it:
        counting, ironic = _counted(it.ironic.url)
        clock = HandClock()
        fleet = Fleet(packed=True, clock=clock)
        marks = [counting.count]

        def measured(work: object) -> Cost:
            cost = cost_of(work)  # type: ignore[arg-type]
            marks.append(counting.count)
            return cost

        full = measured(lambda: fleet.read(ironic))
        for _ in range(3):
            clock.advance(2 * OVERLAP.total_seconds())
            fleet.refresh(ironic)
        marks.append(counting.count)
        still = measured(lambda: fleet.refresh(ironic))
        for node in fleet.nodes[:CHANGES]:
            ironic.update(
                node,
                [{"op": "add", "path": "/extra/benchmark", "value": 1}],
                is_so=lambda now: now.extra.get("benchmark") == 1,
                doing="changing a node",
            )
        marks.append(counting.count)
        changed = measured(lambda: fleet.refresh(ironic))
        if sum(node.extra.get("benchmark") == 1 for node in fleet.nodes) != min(CHANGES, nodes):
            raise AssertionError("a change was not seen")
        sent = [after - before for before, after in pairwise(marks)]
        return FleetCosts(nodes, full, still, changed, (sent[0], sent[2], sent[4]), _held(ironic))


def _held(ironic: Ironic) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        fleet = Fleet(packed=True)
        fleet.read(ironic)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(fleet)
    finally:
        tracemalloc.stop()


def waiting_costs(waiting: int) -> WaitingCosts:
    """So many wait for ten minutes, by a clock that does not."""
    with simulated(nodes=waiting, in_use=True, can_restore=False) as it:
        counting, ironic = _counted(it.ironic.url)
        nodes = [node.uuid for node in ironic.nodes()]
        clock, enough = _TenMinutes(), Cancellation()
        watch = Watch(ironic, clock=clock)

        def wait(node_uuid: str) -> None:
            deadline = Deadline(2 * TEN_MINUTES_S, cancellation=enough)
            with suppress(OperationCancelled):
                watch.wait(node_uuid, lambda _node: Meaning.WAIT, deadline=deadline, doing="waiting")

        with ThreadPoolExecutor(waiting) as pool:
            waits = [pool.submit(wait, node_uuid) for node_uuid in nodes]
            try:
                watch.poll(
                    lambda: True if len(watch._waiters) == waiting else None,
                    deadline=Deadline(TEN_MINUTES_S),
                    doing="waiting for all to wait",
                )
                before = counting.count

                def ten_minutes() -> None:
                    clock.go.set()
                    clock.has_passed.wait()

                cost = cost_of(ten_minutes)
                requests = counting.count - before
            finally:
                enough.cancel()
                clock.go.set()
            for ended in waits:
                ended.result()
        return WaitingCosts(waiting, requests, cost.processor_s)


def _counted(url: str) -> tuple[_Counting, Ironic]:
    real = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": url}).services.ironic
    counting = _Counting(real.transport)
    return counting, Ironic(counting, real.features, real.deadline)


def text(fleets: Sequence[FleetCosts], waits: Sequence[WaitingCosts], date: str) -> str:
    """The results in Markdown."""
    lines = [
        f"{date}, on the simulator.",
        "",
        "| nodes | all read: requests, time, own processor | nothing new | 20 changes | held, by node |",
        "| --- | --- | --- | --- | --- |",
    ]
    for it in fleets:
        parts = [
            f"{count:,}, {_time(cost.wall_s)}, {_time(cost.processor_s)}"
            for count, cost in zip(it.requests, (it.full, it.still, it.changed), strict=True)
        ]
        lines.append(f"| {it.nodes:,} | {' | '.join(parts)} | {it.bytes_each:,.0f} bytes |")
    lines += ["", "| waiting, ten minutes | requests of all | for each | own processor |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {it.waiting:,} | {it.requests:,} | {it.requests / it.waiting:.3g} | {_time(it.processor_s)} |"
        for it in waits
    ]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def drawn(fleets: Sequence[FleetCosts], waits: Sequence[WaitingCosts]) -> str:
    """The plot."""
    nodes = [float(it.nodes) for it in fleets]
    waiting = [float(it.waiting) for it in waits]
    return svg(
        Panel(
            "A look at the fleet: own processor time",
            "nodes",
            "ms",
            (
                Line("all read", nodes, [it.full.processor_s * 1e3 for it in fleets]),
                Line(f"{CHANGES} changes", nodes, [it.changed.processor_s * 1e3 for it in fleets]),
                Line("nothing new", nodes, [it.still.processor_s * 1e3 for it in fleets]),
            ),
        ),
        Panel(
            "Ten minutes of waiting: requests",
            "waiting",
            "requests",
            (
                Line("of all together", waiting, [float(it.requests) for it in waits]),
                Line("for each", waiting, [it.requests / it.waiting for it in waits]),
            ),
        ),
    )


def main() -> None:
    """The table and the plot are written."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--most-nodes", type=int, default=NODES[-1], help="leave larger fleets out (default: %(default)s)"
    )
    arguments = parser.parse_args()
    fleets = []
    for nodes in NODES:
        if nodes <= arguments.most_nodes:
            print(f"{nodes:,} nodes …", flush=True)
            fleets.append(fleet_costs(nodes))
    waits = []
    for waiting in WAITING:
        print(f"{waiting:,} waiting …", flush=True)
        waits.append(waiting_costs(waiting))
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    words = text(fleets, waits, date)
    print(words)
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {"date": date, "fleets": [asdict(it) for it in fleets], "waiting": [asdict(it) for it in waits]}
    Path(RESULTS, f"{date}.json").write_text(json.dumps(kept, indent=1) + "\n")
    PLOT.write_text(drawn(fleets, waits))
    page = report.PAGE.read_text()
    report.PAGE.write_text(PLACE.sub(lambda _: f"<!-- growth -->\n\n{words}\n\n<!-- end of growth -->", page))


if __name__ == "__main__":
    main()
