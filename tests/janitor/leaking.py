"""Worlds in which something is left, and what a world looks like as a whole."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from bloomery import Secret
from bloomery.neutron.models import DEVICE_OWNER, description_of_ours
from bloomery.operations.liveness import this_process
from bloomery.testing.gateways import ironic_at
from unwind.scenarios import World

GONE = "6728ab4e-27dc-457b-b5d2-d6958180b839"
OTHER = "0c9f3a56-4d1f-4f0d-9d2d-6a0c6f1f4b77"


def process_that_ended() -> str:
    """A process of this machine that is there no more, as a mark has it."""
    program = "from bloomery.operations.liveness import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def in_minutes(minutes: float) -> str:
    """A moment, as a mark has it."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def a_mark(instance_uuid: str = GONE, **more: Any) -> dict[str, Any]:
    """A mark whose operation was over an hour ago."""
    return {
        "version": 1,
        "instance_uuid": instance_uuid,
        "guard": {instance_uuid: True},
        "operation": "deploy",
        "since": in_minutes(-120),
        "until": in_minutes(-60),
        "by": "another-host",
        "name": "web-1",
        "vifs": {},
        "volumes": {},
        **more,
    }


def still_alive() -> dict[str, Any]:
    """What a mark says that this very process has written just now."""
    return {"since": in_minutes(0), "until": in_minutes(60), "process": this_process()}


def our_vif(world: World, *, instance_uuid: str = GONE, node: str | None = None, **more: Any) -> str:
    """A VIF that we created for the instance, on that node (by default the world's)."""
    network = str(world.neutron.ports()[0]["network_id"])
    return world.neutron.add_port(
        network,
        name="stray",
        device_id=instance_uuid,
        device_owner=DEVICE_OWNER,
        **{"description": description_of_ours(node or world.node), **more},
    )


def a_target(world: World, *, mark: dict[str, Any] | None, volume_id: str = "left") -> str:
    """A volume target on the world's node."""
    target_uuid = str(uuid4())
    ironic_at(world.ironic.url).add_volume_target(
        world.node,
        target_uuid=target_uuid,
        volume_id=volume_id,
        volume_type="iscsi",
        boot_index=7,
        properties=Secret({}),
        extra={} if mark is None else {"bloomery": mark},
    )
    return target_uuid


def an_allocation(world: World, *, resource_class: str = "nobody-has-it", mark: dict[str, Any] | None = None) -> str:
    """An allocation that Ironic has settled."""
    ironic = ironic_at(world.ironic.url)
    uuid = str(uuid4())
    extra = {"bloomery": {**(mark if mark is not None else a_mark()), "instance_uuid": uuid}} if mark != {} else {}
    ironic.allocate(uuid, resource_class=resource_class, extra=extra)
    while next(one for one in world.ironic.allocations() if one["uuid"] == uuid)["state"] == "allocating":
        pass
    return uuid


def everything(world: World) -> Any:
    """All that the services know, without moments."""
    per_node = {
        node["uuid"]: (node, world.ironic.vifs(node["uuid"]), world.ironic.volume_targets(node["uuid"]))
        for node in world.ironic.nodes()
    }
    return per_node, world.ironic.allocations(), world.neutron.ports()
