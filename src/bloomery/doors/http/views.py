"""What callers are shown of the core's objects and of the log's rows, each by what he may see."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bloomery.doors.http.access import Principal
from bloomery.doors.http.problems import FOR_USERS, shown_problem
from bloomery.doors.http.store import Row
from bloomery.fleet import Wanted, why_not
from bloomery.ironic import Node, Port, PortGroup
from bloomery.operations.instances import Instance, instance_on

_ANY = Wanted()


def moment(seconds: float | None) -> datetime | None:
    """The time, if there is one."""
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def instance_row(instance: Instance, node: Node | None, principal: Principal) -> dict[str, Any]:
    """The instance."""
    row = {name: getattr(instance, name) for name in _OF_INSTANCE}
    return {
        **row,
        # Ironic itself writes there why it put a node into maintenance, and where its BMC is with that.
        "maintenance_reason": principal.shown(instance.maintenance_reason),
        "last_error": principal.shown(instance.last_error),
        "owner": node.owner if node is not None else None,
        "lessee": node.lessee if node is not None else None,
        "vifs": [asdict(vif) for vif in instance.vifs] if instance.vifs is not None else None,
    }


_OF_INSTANCE = (
    "uuid", "name", "node_uuid", "node_name", "state", "power_state", "target_power_state", "image", "resource_class",
    "manager", "step", "since", "maintenance", "maintenance_reason", "health", "boot_mode", "secure_boot",
    "console_enabled",
)  # fmt: skip


def node_row(node: Node, principal: Principal) -> dict[str, Any]:
    """The node."""
    step = node.step_now or (None, None, None)
    instance = instance_on(node) if node.instance_uuid is not None else None
    row = {name: getattr(node, name) for name in _OF_NODE}
    return {
        **row,
        **{name: principal.shown(row[name]) for name in _IN_WORDS},
        "reservation": row["reservation"] if principal.sees_all else None,
        "state": node.provision_state or str(node.state),
        "target_state": node.target_provision_state,
        "since": node.in_state_since,
        "traits": sorted(node.traits or ()),
        "capabilities": node.capabilities,
        "cpu_arch": _text(node.properties.get("cpu_arch")),
        "cpus": _number(node.properties.get("cpus")),
        "memory_mib": _number(node.properties.get("memory_mb")),
        "local_gib": _number(node.properties.get("local_gb")),
        "instance_name": instance.name if instance is not None else None,
        "manager": instance.manager if instance is not None else None,
        "step": step[0],
        "step_number": step[1],
        "step_count": step[2],
        "why_not": principal.shown(list(why_not(node, _ANY))),
    }


_OF_NODE = (
    "uuid", "name", "power_state", "target_power_state", "resource_class", "instance_uuid", "maintenance",
    "maintenance_reason", "fault", "health", "retired", "retired_reason", "protected", "reservation", "owner", "lessee",
    "conductor_group", "shard", "driver", "boot_mode", "secure_boot", "last_error",
)  # fmt: skip

_IN_WORDS = ("maintenance_reason", "retired_reason", "last_error")
"""What Ironic or an operator wrote about the node: anything may stand there, such as where its BMC is."""


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def _number(value: object) -> int | None:
    """The number in a property, which anybody may have written."""
    try:
        return int(str(value)) if value is not None else None
    except ValueError:
        return None


def nic_rows(bonds: list[PortGroup], ports: list[Port]) -> list[dict[str, Any]]:
    """The bonds, then the NICs."""
    of_bonds = [
        {
            "uuid": bond.uuid,
            "name": bond.name,
            "mac": bond.address,
            "is_bond": True,
            "bond": None,
            "pxe_enabled": None,
            "physical_network": None,
            "vif_id": bond.vif_id,
        }
        for bond in bonds
    ]
    of_ports = [
        {
            "uuid": port.uuid,
            "name": port.name,
            "mac": port.address,
            "is_bond": False,
            "bond": port.portgroup_uuid,
            "pxe_enabled": port.pxe_enabled,
            "physical_network": port.physical_network,
            "vif_id": port.vif_id,
        }
        for port in ports
    ]
    return of_bonds + of_ports


def operation_row(row: Row, principal: Principal) -> dict[str, Any]:
    """The operation."""
    began, ended = row["started_at"], row["ended_at"]
    elapsed_s = (ended if ended is not None else time.time()) - began if began is not None else None
    return {
        **{name: row[name] for name in _OF_OPERATION},
        "created_at": moment(row["created_at"]),
        "started_at": moment(began),
        "ended_at": moment(ended),
        "elapsed_s": round(max(0.0, elapsed_s), 1) if elapsed_s is not None else None,
        "steps": [
            {
                "name": step["name"],
                "undoing": step["undoing"],
                "began_at": moment(step["began_at"]),
                "took_s": step.get("took_s"),
            }
            for step in row["steps"]
        ],
        "problem": shown_problem(row["problem"], principal) if row["problem"] is not None else None,
        # review: no password, but the place for a rescue's, which only its first answer fills
        "password": None,
    }


_OF_OPERATION = (
    "id", "kind", "state", "instance_uuid", "instance_name", "node_uuid", "node_name", "resource_class", "actor",
    "request_id", "expected_s", "cancelling", "progress", "result",
)  # fmt: skip


def event_row(row: Row, principal: Principal) -> dict[str, Any]:
    """The event."""
    data = {name: value for name, value in row["data"].items() if name != FOR_USERS}
    if not principal.sees_all:
        data = {name: value if name in _NAMES else principal.shown(value) for name, value in data.items()}
        if FOR_USERS in row["data"]:
            data["detail"] = row["data"][FOR_USERS]
    return {**{name: row[name] for name in _OF_EVENT}, "at": moment(row["at"]), "data": data}


_NAMES = ("instance_name", "kind", "title", "step", "state")
"""What an event says of what is its reader's own, or in words of a fixed list."""

_OF_EVENT = (
    "number", "kind", "node_uuid", "node_name", "instance_uuid", "operation_id", "actor", "request_id",
)  # fmt: skip


def call_row(row: Row) -> dict[str, Any]:
    """The call, as the audit has it."""
    return {**row, "at": moment(row["at"])}


def janitor_row(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The janitor, as `Cleaning.shown` tells of it."""
    last = shown["last"]
    return {
        **shown,
        "changed_at": moment(shown["changed_at"]),
        "last": {**last, "at": moment(last["at"])} if last is not None else None,
    }


def webhook_row(row: Row, *, secret: str | None = None) -> dict[str, Any]:
    """The webhook; its secret in the answer to whoever made it."""
    return {
        "id": row["id"],
        "url": row["url"],
        "kinds": row["kinds"],
        "created_at": moment(row["created_at"]),
        "created_by": row["created_by"],
        "secret": secret,
    }


def delivery_row(row: Row) -> dict[str, Any]:
    """The delivery."""
    event: Mapping[str, Any] = row["event"]
    return {
        **{name: row[name] for name in ("number", "event_number", "state", "attempts", "status", "reason")},
        "kind": event["kind"],
        "due_at": moment(row["due_at"]),
        "ended_at": moment(row["ended_at"]),
    }
