"""`IronicSimulator`: the played Ironic with its HTTP API, its conductor, and what a test may ask and order."""

from __future__ import annotations

import copy
import itertools
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from bloomery.testing.http_simulator import HttpSimulator, RecordedRequest, Response
from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.api import Api
from bloomery.testing.ironic_simulator.conductor import Conductor
from bloomery.testing.ironic_simulator.errors import ApiError
from bloomery.testing.ironic_simulator.records import MAX_MINOR, PORT, PORTGROUP, Record
from bloomery.testing.ironic_simulator.vifs import Vifs
from bloomery.testing.ironic_simulator.world import Bmc, Timings, World
from bloomery.testing.neutron_simulator import NeutronSimulator

Work = Literal[
    "deploy", "rebuild", "tear_down", "power", "rescue", "unrescue", "clean", "service", "inspect", "verify", "adopt",
    "console",
]  # fmt: skip
"""The kinds of a conductor's work that can be made to fail."""

_OTHER_HOST = "another-conductor"
_WAIT_TIMEOUT_S = 10.0


class IronicSimulator(HttpSimulator):
    """An Ironic to test against, over real HTTP, in this process.

        with IronicSimulator() as ironic:
            node_uuid = ironic.add_node(name="n1", resource_class="small")
            ...  # talk to ironic.url
            ironic.wait_for(node_uuid, "active")

    `neutron` links it to a simulated Neutron, as VIFs need it. `max_version` plays an older Ironic. `lock_wait_s` is how
    long a request waits for a locked node (the real one: three attempts, a second apart). `max_workers` bounds the work
    under way at once; beyond it requests are answered 503. `max_limit` is how many things a page of a list has at most.
    """

    def __init__(
        self,
        *,
        neutron: NeutronSimulator | None = None,
        timings: Timings | None = None,
        max_version: str = f"1.{MAX_MINOR}",
        automated_clean: bool = True,
        lock_wait_s: float = 0.0,
        max_workers: int | None = None,
        max_limit: int = 1000,
        host: str = "simulated-conductor",
    ) -> None:
        super().__init__()
        self._world = World()
        self._vifs = Vifs(neutron)
        self._conductor = Conductor(self._world, self._vifs, timings=timings or Timings(), host=host)
        self._conductor.automated_clean = automated_clean
        self._conductor.lock_wait_s = lock_wait_s
        self._conductor.max_workers = max_workers
        self._conductor.max_limit = max_limit
        self._conductor.crashes = self.crashes
        max_minor = int(max_version.partition(".")[2])
        self._api = Api(self._world, self._conductor, self._vifs, url=lambda: self.url, max_minor=max_minor)
        self._macs = itertools.count(1)

    @property
    def timings(self) -> Timings:
        """How long work takes; may be replaced at any time, for work that begins later."""
        return self._conductor.timings

    @timings.setter
    def timings(self, timings: Timings) -> None:
        self._conductor.timings = timings

    # HTTP ------------------------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> None:
        """The service answers, and work gets done."""
        self._conductor.start()
        super().start(port)

    def stop(self) -> None:
        """Nothing of the service is left."""
        super().stop()
        self._conductor.stop()

    def answer(self, request: RecordedRequest) -> Response:
        """What Ironic answers."""
        with self._conductor.changed:
            return self._api.answer(request)

    def error(self, status: int, message: str) -> Response:
        """An error in Ironic's words."""
        return Response(status, ApiError(status, message).body)

    # What a test may ask ---------------------------------------------------------------------------------------------

    def node(self, node: str) -> Record:
        """A copy of the node's record, with nothing masked; by UUID or name."""
        with self._conductor.changed:
            return copy.deepcopy(self._find(node))

    def nodes(self) -> list[Record]:
        """Copies of all nodes' records."""
        with self._conductor.changed:
            return copy.deepcopy(list(self._world.nodes.values()))

    def ports(self, node: str) -> list[Record]:
        """Copies of the node's ports."""
        with self._conductor.changed:
            return copy.deepcopy(self._world.of_node(PORT, self._find(node)["uuid"]))

    def portgroups(self, node: str) -> list[Record]:
        """Copies of the node's port groups."""
        with self._conductor.changed:
            return copy.deepcopy(self._world.of_node(PORTGROUP, self._find(node)["uuid"]))

    def volume_targets(self, node: str) -> list[Record]:
        """Copies of the node's volume targets, with nothing masked."""
        with self._conductor.changed:
            node_uuid = self._find(node)["uuid"]
            return [copy.deepcopy(t) for t in self._world.targets.values() if t["node_uuid"] == node_uuid]

    def allocations(self) -> list[Record]:
        """Copies of all allocations."""
        with self._conductor.changed:
            return copy.deepcopy(list(self._world.allocations.values()))

    def vifs(self, node: str) -> list[str]:
        """The VIFs that are attached to the node."""
        with self._conductor.changed:
            return self._vifs.of(self._world, self._find(node)["uuid"])

    def bmc(self, node: str) -> Bmc:
        """The machine itself; what is changed here, Ironic does not know until it looks."""
        with self._conductor.changed:
            return self._world.bmcs[self._find(node)["uuid"]]

    def wait_for(self, node: str, *states: str, quiet: bool = True, timeout_s: float = _WAIT_TIMEOUT_S) -> Record:
        """The node's record, once it is in one of the states and, if `quiet`, unlocked and with no power target."""
        deadline_s = time.monotonic() + timeout_s
        with self._conductor.changed:
            while True:
                record = self._find(node)
                is_quiet = not record["reservation"] and not record["target_power_state"]
                if record["provision_state"] in states and (is_quiet or not quiet):
                    return copy.deepcopy(record)
                if (left_s := deadline_s - time.monotonic()) <= 0:
                    raise TimeoutError(
                        f"node {node} is {record['provision_state']}, not {' or '.join(states)}, after {timeout_s} s; "
                        f"last_error: {record['last_error']}"
                    )
                self._conductor.changed.wait(left_s)

    # What a test may set ---------------------------------------------------------------------------------------------

    def add_node(
        self,
        name: str | None = None,
        *,
        ports: int = 2,
        bonded: bool = False,
        physical_network: str | None = None,
        **fields: Any,
    ) -> str:
        """A node exists, by default available, powered off, of hardware type redfish; returns its UUID.

        It has `ports` ports; with `bonded` the first two are in a port group. `fields` are the node's, named as in the
        API.
        """
        with self._conductor.changed:
            node_uuid = fields.pop("uuid", None) or str(uuid.uuid4())
            defaults: Record = {
                "name": name,
                "provision_state": machine.AVAILABLE,
                "power_state": machine.POWER_OFF,
                "driver_info": {"redfish_address": "https://192.0.2.1", "redfish_password": "a-bmc-password"},
                "resource_class": "baremetal",
                "properties": {"cpus": 4, "memory_mb": 8192, "local_gb": 100, "cpu_arch": "x86_64"},
                "provision_updated_at": self._world.now(),
            }
            node = self._world.add_node(node_uuid, {**defaults, **fields})
            state = node["provision_state"]
            if "target_provision_state" not in fields:
                node["target_provision_state"] = machine.TARGETS.get(state)
            self._world.touch(node)
            group_uuid = None
            if bonded:
                group = {"node_uuid": node_uuid, "address": self._next_mac()}
                group_uuid = self._world.add_record(PORTGROUP, str(uuid.uuid4()), group)["uuid"]
            for index in range(ports):
                port = {
                    "node_uuid": node_uuid,
                    "address": self._next_mac(),
                    "portgroup_uuid": group_uuid if index < 2 else None,
                    "physical_network": physical_network,
                    "local_link_connection": {
                        "switch_id": "00:00:5e:00:53:01",
                        "port_id": f"eth{index}",
                        "switch_info": "sw1",
                    },
                }
                self._world.add_record(PORT, str(uuid.uuid4()), port)
            self._conductor.changed.notify_all()
            return node_uuid

    def set(self, node: str, **fields: Any) -> None:
        """The node's record has the values, past every rule of the API; the machine itself is as it was."""
        with self._conductor.changed:
            self._conductor.save(self._find(node), **copy.deepcopy(fields))

    @contextmanager
    def hold_lock(self, node: str, *, host: str = _OTHER_HOST) -> Iterator[None]:
        """Within the block, another conductor holds the node's lock."""
        with self._conductor.changed:
            record = self._find(node)
            self._conductor.changed.wait_for(lambda: not record["reservation"], timeout=_WAIT_TIMEOUT_S)
            self._conductor.save(record, reservation=host)
        try:
            yield
        finally:
            with self._conductor.changed:
                if record["reservation"] == host:
                    self._conductor.save(record, reservation=None)

    def fail_next(self, node: str, work: Work, reason: str = "out of luck", *, step: str | None = None) -> None:
        """The node's next work of this kind fails; a deploy at the named deploy step, or at its first."""
        with self._conductor.changed:
            self._world.failures[self._find(node)["uuid"], work] = (reason, step)

    def stick(self, node: str, state: str) -> None:
        """The conductor dies once the node is in the state: it stays there, locked if it was, until `revive`."""
        with self._conductor.changed:
            record = self._find(node)
            self._world.sticky.add((record["uuid"], state))
            if record["provision_state"] == state:
                self._conductor.drop_jobs(record["uuid"])

    def revive(self) -> None:
        """A dead conductor is back: nothing sticks any more, and what was under way when it died counts as failed."""
        with self._conductor.changed:
            self._world.sticky.clear()
            self._conductor.revive(self._world.nodes.values())

    def time_out(self, node: str) -> None:
        """The agent that the node waits for never called: its deploy, cleaning, rescue and so on has failed."""
        with self._conductor.changed:
            self._conductor.time_out(self._find(node))

    def unplug_bmc(self, node: str, *, is_unplugged: bool = True) -> None:
        """The node's management controller cannot be reached, or can be reached again."""
        with self._conductor.changed:
            self._world.bmcs[self._find(node)["uuid"]].is_reachable = not is_unplugged

    def snapshot(self) -> Any:
        """Everything that this Ironic knows and has under way, for `restore`."""
        with self._conductor.changed:
            world = copy.deepcopy(self._world)
            for job in world.jobs:
                job.due_s -= time.monotonic()
            return world

    def restore(self, snapshot: Any) -> None:
        """It knows, and has under way, what it did when the snapshot was taken."""
        with self._conductor.changed:
            world = copy.deepcopy(snapshot)
            for job in world.jobs:
                job.due_s += time.monotonic()
            for name in World.__slots__:
                setattr(self._world, name, getattr(world, name))
            self._conductor.changed.notify_all()

    def _find(self, ident: str) -> Record:
        nodes: Mapping[str, Record] = self._world.nodes
        if ident in nodes:
            return nodes[ident]
        for node in nodes.values():
            if node["name"] == ident:
                return node
        raise LookupError(f"the simulator has no node {ident}")

    def _next_mac(self) -> str:
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in next(self._macs).to_bytes(3, "big"))
