"""The whole state of a played Ironic, as plain data that can be copied: records, machines, work under way, faults to come."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import WorkFailed
from bloomery.testing.ironic_simulator.records import (
    ALLOCATION,
    HARDWARE_TYPES,
    INTERFACES,
    KINDS,
    NODE_DEFAULTS,
    PORT,
    PORTGROUP,
    VOLUME_CONNECTOR,
    VOLUME_TARGET,
    Kind,
    Record,
)

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a conductor's work takes, in seconds."""

    verify_s: float = 0.01
    power_s: float = 0.01
    deploy_s: float = 0.05
    """All deploy steps together, without the waits for the agent."""
    agent_s: float = 0.02
    """Each wait for the agent's call: in `wait call-back`, `clean wait`, `rescue wait` and their like."""
    tear_down_s: float = 0.02
    clean_s: float = 0.02
    rescue_s: float = 0.02
    unrescue_s: float = 0.02
    inspect_s: float = 0.02
    adopt_s: float = 0.02
    service_s: float = 0.02
    console_s: float = 0.0
    allocate_s: float = 0.01


@dataclass(slots=True)
class Bmc:
    """The machine itself, as its management controller sees it; Ironic's record of it may be wrong."""

    power: str = machine.POWER_OFF
    is_reachable: bool = True
    boot_device: str | None = None
    is_boot_device_persistent: bool = False
    boot_mode: str | None = None
    secure_boot: bool | None = None
    screen_url: str = "http://127.0.0.1:6090/vnc_lite.html"
    """Where Ironic's proxy shows what is on its screen, if the node has a graphical console."""
    interrupts: int = 0
    """How many non-maskable interrupts the machine got."""
    power_changes: list[str] = field(default_factory=list)
    """Every power action that the machine carried out."""

    def check(self) -> None:
        """The controller answers."""
        if not self.is_reachable:
            raise WorkFailed("the BMC cannot be reached")

    def set_power(self, action: str) -> None:
        """The action is carried out."""
        self.check()
        self.power = machine.POWER_OFF if action in (machine.POWER_OFF, machine.SOFT_POWER_OFF) else machine.POWER_ON
        self.power_changes.append(action)


@dataclass(slots=True)
class Stage:
    """A piece of a conductor's work: what is done, and how long after the piece before it."""

    action: str
    delay_s: float = 0.0
    argument: Any = None


@dataclass(slots=True, eq=False)
class Job:
    """A conductor's work on one node (or allocation); it holds the node's lock except while it waits for the agent."""

    work: str
    subject: str
    stages: deque[Stage]
    due_s: float = 0.0
    holds_lock: bool = True
    initial_state: str = ""
    is_manual: bool = False


@dataclass(slots=True)
class World:
    """Everything that a played Ironic knows and has under way."""

    nodes: dict[str, Record] = field(default_factory=dict)
    ports: dict[str, Record] = field(default_factory=dict)
    portgroups: dict[str, Record] = field(default_factory=dict)
    targets: dict[str, Record] = field(default_factory=dict)
    connectors: dict[str, Record] = field(default_factory=dict)
    allocations: dict[str, Record] = field(default_factory=dict)
    history: dict[str, list[Record]] = field(default_factory=dict)
    inventories: dict[str, Record] = field(default_factory=dict)
    bmcs: dict[str, Bmc] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    failures: dict[tuple[str, str], tuple[str, str | None]] = field(default_factory=dict)
    """(node, work) → (reason, deploy step at which it strikes)."""
    sticky: set[tuple[str, str]] = field(default_factory=set)
    """(node, state) at which the conductor dies."""
    last_id: int = 0
    last_moment: datetime = _LONG_AGO

    def table(self, kind: Kind) -> dict[str, Record]:
        """The records of a kind, by UUID."""
        tables: dict[str, dict[str, Record]] = {
            PORT.collection: self.ports,
            PORTGROUP.collection: self.portgroups,
            VOLUME_TARGET.collection: self.targets,
            VOLUME_CONNECTOR.collection: self.connectors,
            ALLOCATION.collection: self.allocations,
        }
        return tables[kind.collection]

    def _next_id(self) -> int:
        """A number that no record has had."""
        self.last_id += 1
        return self.last_id

    def now(self) -> str:
        """The time, later than any that was given out before."""
        moment = datetime.now(UTC)
        if moment <= self.last_moment:
            moment = self.last_moment + timedelta(microseconds=1)
        self.last_moment = moment
        return moment.isoformat(timespec="microseconds")

    def touch(self, record: Record) -> None:
        """The record counts as changed now."""
        record["updated_at"] = self.now()

    def add_node(self, node_uuid: str, fields: Mapping[str, Any]) -> Record:
        """The node and its machine exist, with Ironic's defaults for what is not named."""
        given = {name: value for name, value in fields.items() if value is not None}
        interfaces = HARDWARE_TYPES[given.get("driver", NODE_DEFAULTS["driver"])]
        node: Record = {
            "id": self._next_id(),
            "uuid": node_uuid,
            "created_at": self.now(),
            "updated_at": None,
            **copy.deepcopy(dict(NODE_DEFAULTS)),
            **{f"{name}_interface": interfaces[name] for name in INTERFACES},
            **copy.deepcopy(given),
        }
        self.nodes[node_uuid] = node
        self.bmcs[node_uuid] = Bmc(power=node["power_state"] or machine.POWER_OFF)
        return node

    def add_record(self, kind: Kind, record_uuid: str, fields: Mapping[str, Any]) -> Record:
        """The record exists, with Ironic's defaults for what is not named."""
        record: Record = {
            "id": self._next_id(),
            "uuid": record_uuid,
            "created_at": self.now(),
            "updated_at": None,
            **copy.deepcopy(dict(kind.defaults)),
            **{name: copy.deepcopy(value) for name, value in fields.items() if value is not None},
        }
        self.table(kind)[record_uuid] = record
        return record

    def of_node(self, kind: Kind, node_uuid: str) -> list[Record]:
        """The records of a kind that belong to the node, oldest first."""
        return [record for record in self.table(kind).values() if record["node_uuid"] == node_uuid]

    def forget_node(self, node_uuid: str) -> None:
        """The node is gone, and all that hung on it."""
        del self.nodes[node_uuid]
        for kind in KINDS:
            table = self.table(kind)
            for record in self.of_node(kind, node_uuid):
                del table[record["uuid"]]
        for by_node in (self.history, self.inventories, self.bmcs):
            by_node.pop(node_uuid, None)
        self.jobs = [job for job in self.jobs if job.subject != node_uuid]
