"""Bloomery's simulators of Ironic and Neutron in a process of their own, so that their work is not counted as a client's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID, uuid5

from bloomery.testing import IronicSimulator, NeutronSimulator, Timings
from bloomery.testing.ironic_simulator.records import ALLOCATION

from .clients import Ironic

_NAMES = UUID("0f6b3c4e-8a0d-5b53-9d3e-6c6f6f6d0001")
_START_TIMEOUT_S = 300.0


class Simulated:
    """A simulated Ironic that another process plays."""

    def __init__(self, ironic: Ironic, pipe: Connection) -> None:
        self.ironic = ironic
        self._pipe = pipe

    def restore(self) -> None:
        """Everything is as it was at the start."""
        self._pipe.send("restore")
        self._pipe.recv()


@contextmanager
def simulated(*, nodes: int, in_use: bool, deploy_s: float = 0.0, can_restore: bool = True) -> Iterator[Simulated]:
    """A simulated Ironic answers within the block.

    Args:
        nodes: how many it has.
        in_use: whether each carries an instance, with its allocation; else all are free.
        deploy_s: how long a deploy takes.
        can_restore: whether it can be set back, and its nodes were changed at times of the days before; False comes up in a
            fraction of the time, with nodes that were all changed just now, and without allocations.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_play, args=(theirs, nodes, in_use, deploy_s, can_restore), daemon=True)
    process.start()
    try:
        if not ours.poll(_START_TIMEOUT_S):
            raise TimeoutError(f"the simulator did not come up within {_START_TIMEOUT_S:g} s")
        url, neutron_url = ours.recv()
        ironic = Ironic(
            words=f"the simulator, {nodes:,} nodes",
            url=url,
            neutron_url=neutron_url,
            resource_class="baremetal",
            traits=("CUSTOM_LAB",),
            network="private",
            image="http://images.example.org/a.raw",
            image_sha256="a" * 64,
        )
        yield Simulated(ironic, ours)
        ours.send("stop")
    finally:
        process.join(10)
        process.terminate()


def _play(pipe: Connection, nodes: int, in_use: bool, deploy_s: float, can_restore: bool) -> None:
    timings = Timings(deploy_s=deploy_s)
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron, timings=timings) as ironic:
        neutron.add_network("private", cidrs=["10.0.0.0/16"])
        for number in range(nodes):
            _add_node(ironic, number, in_use=in_use)
        if not can_restore:
            pipe.send((ironic.url, neutron.url))
            _next_order(pipe)
            return
        if in_use:
            _add_allocations(ironic)
        _age(ironic)
        start, wires = ironic.snapshot(), neutron.ports()
        pipe.send((ironic.url, neutron.url))
        while _next_order(pipe) == "restore":
            ironic.restore(start)
            for port in neutron.ports():
                if port not in wires:
                    neutron.delete("ports", port["id"])
            ironic.requests.clear()
            neutron.requests.clear()
            pipe.send("done")


def _next_order(pipe: Connection) -> object:
    """What the measuring process wants; where that has gone, the end."""
    try:
        return pipe.recv()
    except EOFError:
        return "stop"


def _add_node(ironic: IronicSimulator, number: int, *, in_use: bool) -> None:
    """A node with about as much to tell as a real one."""
    instance_uuid = str(uuid5(_NAMES, f"instance-{number}"))
    of_instance: dict[str, Any] = {
        "provision_state": "active",
        "power_state": "power on",
        "instance_uuid": instance_uuid,
        "allocation_uuid": instance_uuid,
        "instance_info": {
            "image_source": "http://images.example.org/a.raw",
            "image_checksum": "a" * 64,
            "root_gb": "100",
            "display_name": f"instance-{number}",
            "capabilities": {"boot_option": "local"},
            "traits": ["CUSTOM_LAB"],
        },
        "extra": {"bloomery": {"version": 1, "instance_uuid": instance_uuid, "operation": "deploy", "vifs": {}}},
    }
    ironic.add_node(
        name=f"node-{number}",
        uuid=str(uuid5(_NAMES, f"node-{number}")),
        resource_class="baremetal",
        traits=["CUSTOM_LAB", "HW_CPU_X86_VMX", "HW_CPU_X86_AVX2"],
        properties={
            "cpus": 64,
            "memory_mb": 262144,
            "local_gb": 1000,
            "cpu_arch": "x86_64",
            "capabilities": "boot_mode:uefi,secure_boot:true,boot_option:local",
        },
        driver_internal_info={
            "agent_url": "https://192.0.2.7:9999",
            "agent_version": "10.0.0",
            "is_whole_disk_image": True,
        },
        **(of_instance if in_use else {}),
    )


def _add_allocations(ironic: IronicSimulator) -> None:
    """Each instance has the allocation that Ironic would have made for it."""
    world = ironic.snapshot()
    for node in ironic.nodes():
        fields = {
            "name": node["instance_info"]["display_name"],
            "node_uuid": node["uuid"],
            "state": "active",
            "resource_class": node["resource_class"],
            "candidate_nodes": [],
            "traits": [],
        }
        world.add_record(ALLOCATION, node["instance_uuid"], fields)
    ironic.restore(world)


def _age(ironic: IronicSimulator) -> None:
    """Each node was last changed at some time of the days before, no two of them at the same."""
    world = ironic.snapshot()
    for number, node in enumerate(world.nodes.values()):
        node["updated_at"] = (datetime.now(UTC) - timedelta(minutes=number + 1)).isoformat(timespec="microseconds")
    ironic.restore(world)
