"""The fleet kept fresh: what a refresh takes after a few changes, against reading it all again."""

from __future__ import annotations

import time

from bloomery.fleet import Fleet
from bloomery.ironic.changes import OVERLAP

from .clients import OURS, Clients
from .measuring import Cost, Figure, cost_of, figures_of

CHANGES = 5
_AGAIN = "reading it all again"


def measure(clients: Clients, *, repetitions: int) -> list[Figure]:
    """A few nodes change; then one fleet is refreshed, and another read anew."""
    ironic = clients.bloomery.services.ironic
    fresh, again = Fleet(), Fleet()
    fresh.read(ironic)
    found: dict[str, list[Cost]] = {OURS: [], _AGAIN: []}
    for repetition in range(repetitions + 1):
        # A refresh reads once more what changed shortly before the last change that it knows: one repetition's, not two.
        time.sleep(2 * OVERLAP.total_seconds())
        changed = fresh.nodes[repetition * CHANGES : (repetition + 1) * CHANGES]
        for node in changed:
            ironic.update(
                node,
                [{"op": "add", "path": "/extra/benchmark", "value": repetition}],
                is_so=lambda now, value=repetition: now.extra.get("benchmark") == value,  # type: ignore[misc]
                doing="changing a node",
            )
        refreshed, read = cost_of(lambda: fresh.refresh(ironic)), cost_of(lambda: again.read(ironic))
        for node in changed:
            for fleet in (fresh, again):
                seen = fleet.node(node.uuid)
                if seen is None or seen.extra.get("benchmark") != repetition:
                    raise AssertionError(f"a change of node {node.label} was not seen")
        if repetition:
            found[OURS].append(refreshed)
            found[_AGAIN].append(read)
    what = f"see {CHANGES} changes in a fleet of {len(fresh):,}"
    return figures_of(what, clients.ironic.words, found, remark="`Fleet.refresh` against `Fleet.read`")
