"""What Ironic tells, as small typed structs decoded straight from the wire. Names are those of its API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from bloomery.states import Power, Provision

MARK = "bloomery"
"""The key of `extra` under which a node and an allocation carry what we need to know about them."""
GUARD = "guard"
"""The key of the mark under which the instance's UUID is a key again: a change that needs it there fails where it is not."""

_UUID = re.compile(r"[0-9A-Fa-f-]{1,36}")
_REDACTED = ("** Value Redacted", "** Redacted")
_DEPTH_OF_MARK = 20
"""What we write is five deep; what is deeper than this is not ours, and may be meant to break who walks through it."""


class CurrentStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """The deploy, clean or service step that a node is at; empty when there is none."""

    interface: str | None = None
    step: str | None = None
    priority: int | None = None


class InternalInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of `driver_internal_info` that tells how far a node has got."""

    deploy_steps: list[CurrentStep] | None = None
    deploy_step_index: int | None = None
    clean_steps: list[CurrentStep] | None = None
    clean_step_index: int | None = None
    service_steps: list[CurrentStep] | None = None
    service_step_index: int | None = None
    vnc_host: str | None = None
    vnc_port: int | str | None = None
    allocated_ipmi_terminal_port: int | str | None = None


class DriverInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of `driver_info` that tells where a serial console is."""

    ipmi_terminal_port: int | str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node, as far as it was asked for: fields that were not are None or empty."""

    uuid: str
    name: str | None = None
    instance_uuid: str | None = None
    instance_name: str | None = None
    provision_state: str | None = None
    target_provision_state: str | None = None
    provision_updated_at: str | None = None
    power_state: str | None = None
    target_power_state: str | None = None
    last_error: str | None = None
    maintenance: bool = False
    maintenance_reason: str | None = None
    fault: str | None = None
    health: str | None = None
    reservation: str | None = None
    retired: bool | None = None
    retired_reason: str | None = None
    protected: bool | None = None
    protected_reason: str | None = None
    driver: str | None = None
    resource_class: str | None = None
    traits: list[str] | None = None
    properties: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    instance_info: dict[str, Any] = {}
    driver_info: DriverInfo = DriverInfo()
    driver_internal_info: InternalInfo = InternalInfo()
    deploy_step: CurrentStep | None = None
    clean_step: CurrentStep | None = None
    service_step: CurrentStep | None = None
    owner: str | None = None
    lessee: str | None = None
    conductor: str | None = None
    conductor_group: str | None = None
    shard: str | None = None
    boot_mode: str | None = None
    secure_boot: bool | None = None
    console_enabled: bool | None = None
    network_interface: str | None = None
    deploy_interface: str | None = None
    storage_interface: str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    def __post_init__(self) -> None:
        # To whom may not see them Ironic writes so in place of what is there, be it something or nothing.
        if self.last_error is not None and self.last_error.startswith(_REDACTED):
            force_setattr(self, "last_error", None)
        if self.reservation is not None and self.reservation.startswith(_REDACTED):
            force_setattr(self, "reservation", None)

    @property
    def state(self) -> Provision:
        """The provision state; Ironic's null is `available`."""
        return Provision.of(self.provision_state)

    @property
    def is_on(self) -> bool:
        """Whether Ironic says that it is powered on."""
        return self.power_state == Power.ON

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.name or self.uuid

    @property
    def mark(self) -> dict[str, Any] | None:
        """What we wrote on it, if it is about the instance that it carries now."""
        mark = self.any_mark
        return (
            mark
            if mark is not None and self.instance_uuid and mark.get("instance_uuid") == self.instance_uuid
            else None
        )

    @property
    def any_mark(self) -> dict[str, Any] | None:
        """What we wrote on it, be it about this instance or a former one."""
        mark = self.extra.get(MARK)
        return mark if isinstance(mark, dict) and not _is_deeper(mark, _DEPTH_OF_MARK) else None

    @property
    def guards(self) -> list[dict[str, object]]:
        """The beginning of a patch that Ironic is to refuse, whole, once the node carries another mark than now, or none.

        Ironic has no conditional change. But it refuses a patch that replaces what is not there.
        """
        mark = self.any_mark or {}
        instance_uuid = mark.get("instance_uuid")
        guard = mark.get(GUARD)
        if not isinstance(guard, dict) or not isinstance(instance_uuid, str) or instance_uuid not in guard:
            return []  # an older mark
        if not _UUID.fullmatch(instance_uuid):
            return []  # not ours, and part of a path
        return [{"op": "replace", "path": f"/extra/{MARK}/{GUARD}/{instance_uuid}", "value": True}]

    @property
    def capabilities(self) -> dict[str, str]:
        """`properties.capabilities`, taken apart: "boot_mode:uefi,raid:1" is {"boot_mode": "uefi", "raid": "1"}."""
        text = self.properties.get("capabilities")
        if isinstance(text, Mapping):
            return {str(name): str(value) for name, value in text.items()}
        pairs = (part.split(":", 1) for part in str(text or "").split(",") if ":" in part)
        return {name.strip(): value.strip() for name, value in pairs}

    @property
    def changed_at(self) -> datetime | None:
        """When Ironic last wrote it."""
        return _moment(self.updated_at or self.created_at)

    @property
    def in_state_since(self) -> datetime | None:
        """When it came into its provision state."""
        return _moment(self.provision_updated_at)

    @property
    def step_now(self) -> tuple[str, int | None, int | None] | None:
        """The step that Ironic is at: its name, which one it is (from 1), and of how many; None where there is none."""
        info = self.driver_internal_info
        for now, steps, index in (
            (self.deploy_step, info.deploy_steps, info.deploy_step_index),
            (self.clean_step, info.clean_steps, info.clean_step_index),
            (self.service_step, info.service_steps, info.service_step_index),
        ):
            if now is not None and now.step:
                if steps and index is not None:
                    return now.step, index + 1, len(steps)
                return now.step, None, len(steps) if steps else None
        return None


def _is_deeper(value: object, depth: int) -> bool:
    """Whether more than so many values are within one another."""
    layer = [value]
    for _ in range(depth):
        layer = [part for one in layer for part in _parts(one)]
    return bool(layer)


def _parts(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _moment(text: str | None) -> datetime | None:
    """The time, unless it is none, or one from before or after anything that can be reckoned with."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1970 <= moment.year < 9000:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class PortInternal(msgspec.Struct, frozen=True):
    """The part of a port's `internal_info` that names the VIF on it."""

    tenant_vif_port_id: str | None = None


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC."""

    uuid: str
    address: str
    node_uuid: str | None = None
    name: str | None = None
    portgroup_uuid: str | None = None
    pxe_enabled: bool | None = None
    physical_network: str | None = None
    local_link_connection: dict[str, Any] = {}
    internal_info: PortInternal = PortInternal()
    extra: dict[str, Any] = {}

    @property
    def vif_id(self) -> str | None:
        """The VIF that is plugged into it."""
        return self.internal_info.tenant_vif_port_id


class PortGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A bond of NICs."""

    uuid: str
    name: str | None = None
    address: str | None = None
    node_uuid: str | None = None
    mode: str | None = None
    properties: dict[str, Any] = {}
    standalone_ports_supported: bool = True
    internal_info: PortInternal = PortInternal()

    @property
    def vif_id(self) -> str | None:
        """The VIF that is plugged into it."""
        return self.internal_info.tenant_vif_port_id


class Vif(msgspec.Struct, frozen=True):
    """A VIF that a node's network interface knows of."""

    id: str


class Validation(msgspec.Struct, frozen=True):
    """What one of a node's interfaces says to the deploy that is asked for. None: the node has no such interface."""

    result: bool | None = None
    reason: str | None = None


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on a node that Ironic chose."""

    uuid: str
    state: str | None = None
    name: str | None = None
    node_uuid: str | None = None
    last_error: str | None = None
    resource_class: str | None = None
    extra: dict[str, Any] = {}


class VolumeConnector(msgspec.Struct, frozen=True, kw_only=True):
    """How a node reaches storage: by ip, iqn, mac, wwnn, wwpn or port."""

    uuid: str
    type: str
    connector_id: str
    node_uuid: str | None = None


class VolumeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A remote volume that a node is to boot from or to have."""

    uuid: str
    volume_id: str
    volume_type: str
    boot_index: int
    node_uuid: str | None = None
    extra: dict[str, Any] = {}


class ConsoleInfo(msgspec.Struct, frozen=True):
    """Where a console listens."""

    type: str | None = None
    url: str | None = None


class Console(msgspec.Struct, frozen=True):
    """A node's console."""

    console_enabled: bool
    console_info: ConsoleInfo | None = None


class Conductor(msgspec.Struct, frozen=True, kw_only=True):
    """A process of Ironic's that works on nodes."""

    hostname: str
    alive: bool = False
    conductor_group: str | None = None
    drivers: list[str] = []


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """A hardware type that some conductor serves."""

    name: str
    hosts: list[str] = []


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What Ironic itself noted about a node."""

    uuid: str
    created_at: str | None = None
    severity: str | None = None
    event: str | None = None
    event_type: str | None = None
    conductor: str | None = None
    user: str | None = None


class FirmwareComponent(msgspec.Struct, frozen=True, kw_only=True):
    """The firmware of a part of a node, such as its BIOS or BMC."""

    component: str
    initial_version: str | None = None
    current_version: str | None = None
    last_version_flashed: str | None = None
    updated_at: str | None = None


NODE_FIELDS: tuple[str, ...] = (
    "uuid", "name", "instance_uuid", "provision_state", "target_provision_state",
    "provision_updated_at", "power_state", "target_power_state", "last_error", "maintenance", "maintenance_reason", "fault",
    "reservation", "retired", "retired_reason", "protected", "protected_reason", "driver", "resource_class", "traits",
    "properties", "extra", "instance_info", "driver_internal_info", "deploy_step", "clean_step", "owner", "lessee",
    "conductor_group", "boot_mode", "secure_boot", "console_enabled", "network_interface", "deploy_interface",
    "storage_interface",
)  # fmt: skip
"""What an operation asks of the node that it works on."""

FLEET_FIELDS: tuple[str, ...] = (
    "uuid", "name", "instance_uuid", "provision_state", "target_provision_state", "provision_updated_at", "power_state",
    "target_power_state", "last_error", "maintenance", "maintenance_reason", "fault", "reservation", "retired",
    "retired_reason", "protected", "driver", "resource_class", "traits", "properties", "extra", "instance_info",
    "driver_internal_info", "deploy_step", "clean_step", "owner", "lessee", "conductor_group", "boot_mode", "secure_boot",
    "console_enabled",
)  # fmt: skip
"""What is asked of every node of a list."""

WATCH_FIELDS: tuple[str, ...] = (
    "uuid", "name", "instance_uuid", "provision_state", "target_provision_state", "provision_updated_at", "power_state",
    "target_power_state", "last_error", "maintenance", "maintenance_reason", "reservation", "driver_internal_info",
    "deploy_step", "clean_step", "extra",
)  # fmt: skip
"""What is asked of a node that somebody waits for."""
