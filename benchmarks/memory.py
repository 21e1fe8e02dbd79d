"""Memory: what a node takes that is held, once read."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

from bloomery.fleet import Fleet
from bloomery.ironic.models import FLEET_FIELDS

from .clients import OURS, SDK, Clients
from .measuring import Figure


def measure(clients: Clients, *, repetitions: int) -> list[Figure]:
    """A fleet with its indexes, and a list of openstacksdk's nodes with the same fields."""
    ironic, sdk = clients.bloomery.services.ironic, clients.sdk

    def fleet() -> Fleet:
        it = Fleet()
        it.read(ironic)
        return it

    sides: dict[str, Callable[[], Fleet | list[object]]] = {
        OURS: fleet,
        SDK: lambda: list(sdk.baremetal.nodes(fields=FLEET_FIELDS)),
    }
    held = {side: [_held_bytes(read) for _ in range(repetitions + 1)][1:] for side, read in sides.items()}
    return [
        Figure(
            what="hold a node",
            where=clients.ironic.words,
            unit="bytes",
            values=held,
            remark="what Python has allocated and not freed, by node",
        )
    ]


def _held_bytes(read: Callable[[], Fleet | list[object]]) -> float:
    """What Python's allocator gave out for what was read, by node."""
    gc.collect()
    tracemalloc.start()
    try:
        nodes = read()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(nodes)
    finally:
        tracemalloc.stop()
