"""Ten thousand nodes in a nova-compute: what it takes to look at them, to tell the power of a server, and to hold them."""

from __future__ import annotations

from collections.abc import Callable

from .compute import BLOOMERY, UPSTREAM, Compute, computes
from .measuring import Cost, Figure, figures_of
from .real import RealIronic, real_ironic

CHANGED = 20
ASKED = 400
"""For so many servers `get_info` is asked at a time: Nova's driver looks through all nodes for each."""
_SETTLING_LOOKS = 3


def measure(*, repetitions: int, nodes: int) -> list[Figure]:
    """Our driver beside Nova's, on the same Ironic, by turns. Nova's has no option that would change any of this."""
    figures: list[Figure] = []
    with (
        real_ironic(nodes) as ironic,
        computes((BLOOMERY, UPSTREAM), ironic_url=ironic.url, neutron_url=None, instances=ironic.instances) as drivers,
    ):
        where = f"a real Ironic, {nodes:,} nodes, {len(ironic.instances):,} of them with a server"
        ours, theirs = drivers[BLOOMERY], drivers[UPSTREAM]
        costs: dict[str, list[Cost]] = {"full": [], "still": [], "changed": [], UPSTREAM: []}
        work: dict[str, list[float]] = {"still": [], "full": [], UPSTREAM: []}
        asked: dict[str, list[float]] = {BLOOMERY: [], UPSTREAM: []}
        held: dict[str, list[float]] = {BLOOMERY: [], UPSTREAM: []}
        ours.ask("full")
        theirs.ask("full")
        for _ in range(repetitions):
            spent = _spent(ironic, lambda: _cost(costs["full"], ours, "full", nodes))
            work["full"].append(spent)
            for _ in range(_SETTLING_LOOKS):
                ours.ask("refresh")
            work["still"].append(_spent(ironic, lambda: _cost(costs["still"], ours, "refresh", nodes)))
            ironic.touch(ironic.node_uuids[:CHANGED])
            _cost(costs["changed"], ours, "refresh", nodes)
            work[UPSTREAM].append(_spent(ironic, lambda: _cost(costs[UPSTREAM], theirs, "refresh", nodes)))
            some = list(ironic.instances)[:: max(1, len(ironic.instances) // ASKED)]
            for side, driver in drivers.items():
                asked[side].append(driver.ask("get_info", some))
        for side, driver in drivers.items():
            held[side] = [driver.ask("held")] * repetitions  # the same each time, and tracing takes long
    for name, words in (
        ("still", "look at all nodes, none of which has changed"),
        ("changed", f"look at all nodes, {CHANGED} of which have changed"),
        ("full", "look at all nodes for the first time"),
    ):
        figures += figures_of(words, where, {BLOOMERY: costs[name], UPSTREAM: costs[UPSTREAM]})
    figures += [
        Figure(
            what=f"look at all nodes, {words}: Ironic's processor time",
            where=where,
            unit="s",
            values={BLOOMERY: work[name], UPSTREAM: work[UPSTREAM]},
        )
        for name, words in (("still", "none of which has changed"), ("full", "for the first time"))
    ]
    figures.append(Figure(what="tell the power of a server (`get_info`)", where=where, unit="s", values=asked))
    figures.append(Figure(what="hold a node in nova-compute", where=where, unit="bytes", values=held))
    return figures


def _cost(into: list[Cost], driver: Compute, order: str, nodes: int) -> None:
    cost, found, _requests = driver.ask(order)
    if found != nodes:
        raise AssertionError(f"{driver.side} found {found} of {nodes} nodes")
    into.append(cost)


def _spent(ironic: RealIronic, look: Callable[[], None]) -> float:
    """Ironic's processor time for it."""
    before = ironic.processor_s
    look()
    return ironic.processor_s - before
