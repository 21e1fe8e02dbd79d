"""Lists: every node with the same fields, and every instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bloomery.ironic.models import FLEET_FIELDS

from .clients import METALSMITH, OURS, SDK, Clients
from .measuring import Figure, costs, figures_of


def nodes(clients: Clients, *, repetitions: int) -> list[Figure]:
    """Every node is read, with the fields that Bloomery asks for."""
    ironic, sdk = clients.bloomery.services.ironic, clients.sdk
    sides: dict[str, Callable[[], list[Any]]] = {
        OURS: lambda: list(ironic.nodes()),
        SDK: lambda: list(sdk.baremetal.nodes(fields=FLEET_FIELDS)),
    }
    count = {side: len(call()) for side, call in sides.items()}
    if len(set(count.values())) != 1:
        raise AssertionError(f"the lists are not of the same length: {count}")
    found = costs(sides, repetitions=repetitions)
    return figures_of(f"list {count[OURS]:,} nodes", clients.ironic.words, found)


def instances(clients: Clients, *, repetitions: int) -> list[Figure]:
    """Every instance is read, as each of the two libraries shows a list of them."""
    sides: dict[str, Callable[[], list[Any]]] = {
        OURS: clients.bloomery.instances,
        METALSMITH: clients.metalsmith.list_instances,
    }
    count = {side: len(call()) for side, call in sides.items()}
    if len(set(count.values())) != 1:
        raise AssertionError(f"the lists are not of the same length: {count}")
    found = costs(sides, repetitions=repetitions)
    remark = "metalsmith asks for every field, and for the allocations, where it keeps names"
    return figures_of(f"list {count[OURS]:,} instances", clients.ironic.words, found, remark=remark)
