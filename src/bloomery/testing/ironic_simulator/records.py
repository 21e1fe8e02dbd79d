"""What a played Ironic knows: its records, their fields, and how the API shows and checks them.

Source: ironic objects/*.py, api/controllers/v1/{node,port,portgroup,allocation,volume_*}.py, versions.py (39.0).
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import ApiError, bad_request, conflict, not_acceptable

Record = dict[str, Any]

MAX_MINOR = 115
"""The newest API version that Ironic 39 speaks is 1.115."""

MASK = "******"

INTERFACES = (
    "bios",
    "boot",
    "console",
    "deploy",
    "firmware",
    "inspect",
    "management",
    "network",
    "power",
    "raid",
    "rescue",
    "storage",
    "vendor",
)

NODE_DEFAULTS: Mapping[str, Any] = {
    "automated_clean": None,
    "boot_mode": None,
    "clean_step": {},
    "conductor_group": "",
    "console_enabled": False,
    "disable_power_off": False,
    "deploy_step": {},
    "description": None,
    "driver": "redfish",
    "driver_info": {},
    "driver_internal_info": {},
    "extra": {},
    "fault": None,
    "health": None,
    "inspection_finished_at": None,
    "inspection_started_at": None,
    "instance_info": {},
    "instance_name": None,
    "instance_uuid": None,
    "last_error": None,
    "lessee": None,
    "maintenance": False,
    "maintenance_reason": None,
    "name": None,
    "network_data": {},
    "owner": None,
    "parent_node": None,
    "power_state": None,
    "properties": {},
    "protected": False,
    "protected_reason": None,
    "provision_state": machine.ENROLL,
    "provision_updated_at": None,
    "raid_config": {},
    "reservation": None,
    "resource_class": None,
    "retired": False,
    "retired_reason": None,
    "secure_boot": None,
    "service_step": {},
    "shard": None,
    "target_power_state": None,
    "target_provision_state": None,
    "target_raid_config": {},
    "traits": [],
    "allocation_uuid": None,
    "chassis_uuid": None,
}

_FAKE = dict.fromkeys(INTERFACES, "fake") | {"network": "flat", "storage": "noop"}
_REDFISH = {
    "bios": "redfish",
    "boot": "redfish-virtual-media",
    "console": "ipmitool-socat",
    "deploy": "direct",
    "firmware": "redfish",
    "inspect": "agent",
    "management": "redfish",
    "network": "flat",
    "power": "redfish",
    "raid": "agent",
    "rescue": "agent",
    "storage": "noop",
    "vendor": "redfish",
}
HARDWARE_TYPES: Mapping[str, Mapping[str, str]] = {"fake-hardware": _FAKE, "redfish": _REDFISH}
"""The drivers that are enabled, with the default of each interface."""

NODE_FIELD_SINCE: Mapping[str, int] = {
    "driver_internal_info": 3,
    "name": 5,
    "inspection_finished_at": 6,
    "inspection_started_at": 6,
    "clean_step": 7,
    "raid_config": 12,
    "target_raid_config": 12,
    "network_interface": 20,
    "resource_class": 21,
    **{f"{name}_interface": 31 for name in ("boot", "console", "deploy", "inspect", "management", "power", "raid")},
    "vendor_interface": 31,
    "storage_interface": 33,
    "traits": 37,
    "rescue_interface": 38,
    "bios_interface": 40,
    "fault": 42,
    "deploy_step": 44,
    "conductor_group": 46,
    "automated_clean": 47,
    "protected": 48,
    "protected_reason": 48,
    "conductor": 49,
    "owner": 50,
    "description": 51,
    "allocation_uuid": 52,
    "events": 54,
    "retired": 61,
    "retired_reason": 61,
    "lessee": 65,
    "network_data": 66,
    "boot_mode": 75,
    "secure_boot": 75,
    "shard": 82,
    "parent_node": 83,
    "firmware_interface": 86,
    "service_step": 87,
    "disable_power_off": 95,
    "instance_name": 104,
    "health": 109,
}
"""The minor API version that brought a field."""

NODE_FIELDS = frozenset(NODE_DEFAULTS) | {f"{name}_interface" for name in INTERFACES} | {"uuid", "conductor"}
"""What `fields=` may name for one node; `created_at` and `updated_at` are shown with everything only."""

NODE_LIST_FIELDS = NODE_FIELDS - {"allocation_uuid", "chassis_uuid", "conductor"}
"""Ironic 39 answers 500 to a list that asks for one of those three."""

UNSORTABLE = frozenset(
    {
        "properties",
        "driver_info",
        "extra",
        "instance_info",
        "driver_internal_info",
        "clean_step",
        "deploy_step",
        "raid_config",
        "target_raid_config",
        "traits",
        "network_data",
        "service_step",
    }
)

PATCHABLE_NODE_FIELDS = (
    "automated_clean",
    "bios_interface",
    "boot_interface",
    "chassis_uuid",
    "conductor_group",
    "console_interface",
    "deploy_interface",
    "description",
    "disable_power_off",
    "driver",
    "driver_info",
    "extra",
    "inspect_interface",
    "instance_info",
    "instance_name",
    "instance_uuid",
    "lessee",
    "maintenance",
    "management_interface",
    "name",
    "network_data",
    "network_interface",
    "owner",
    "power_interface",
    "properties",
    "protected",
    "protected_reason",
    "raid_interface",
    "rescue_interface",
    "resource_class",
    "retired",
    "retired_reason",
    "shard",
    "storage_interface",
    "vendor_interface",
    "parent_node",
    "firmware_interface",
)
CREATABLE_NODE_FIELDS = (frozenset(PATCHABLE_NODE_FIELDS) - {"protected", "protected_reason"}) | {
    "uuid",
    "boot_mode",
    "console_enabled",
    "secure_boot",
}
RESERVED_NODE_NAMES = ("maintenance", "management", "states", "vendor_passthru", "detail", "validate")

_OBJECTS = frozenset({"driver_info", "extra", "instance_info", "network_data", "properties", "local_link_connection"})
_BOOLEANS = frozenset(
    {
        "automated_clean",
        "console_enabled",
        "disable_power_off",
        "maintenance",
        "protected",
        "retired",
        "secure_boot",
        "pxe_enabled",
        "is_smartnic",
        "standalone_ports_supported",
        "available_for_dynamic_portgroup",
    }
)
_NULLABLE_BOOLEANS = frozenset({"automated_clean", "secure_boot"})
_UUIDS = frozenset({"uuid", "instance_uuid", "chassis_uuid", "node_uuid", "portgroup_uuid"})
_LISTS = frozenset({"candidate_nodes", "traits"})
_INTEGERS = frozenset({"boot_index"})
_LONGEST: Mapping[str, int] = {"resource_class": 80, "description": 4096, "instance_name": 255, "physical_network": 64}


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of record apart from nodes: its words, its fields, and which API version brought them."""

    name: str
    collection: str
    path: str
    defaults: Mapping[str, Any]
    brief: tuple[str, ...]
    required: tuple[str, ...] = ()
    patchable: tuple[str, ...] = ()
    hidden: frozenset[str] = frozenset()
    since: Mapping[str, int] = field(default_factory=dict)
    unsortable: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """What `fields=` may name."""
        return (frozenset(self.defaults) - self.hidden) | {"uuid", "created_at", "updated_at", "links"}


PORT = Kind(
    name="Port",
    collection="ports",
    path="ports",
    defaults={
        "address": None,
        "extra": {},
        "internal_info": {},
        "is_smartnic": False,
        "local_link_connection": {},
        "physical_network": None,
        "pxe_enabled": True,
        "node_uuid": None,
        "name": None,
        "description": None,
        "vendor": None,
        "category": None,
        "available_for_dynamic_portgroup": True,
        "portgroup_uuid": None,
    },
    brief=("uuid", "address"),
    required=("address",),
    patchable=(
        "address",
        "extra",
        "is_smartnic",
        "local_link_connection",
        "node_ident",
        "node_uuid",
        "physical_network",
        "portgroup_uuid",
        "pxe_enabled",
        "name",
        "description",
        "vendor",
        "category",
        "available_for_dynamic_portgroup",
    ),
    since={
        "internal_info": 18,
        "pxe_enabled": 19,
        "local_link_connection": 19,
        "portgroup_uuid": 24,
        "physical_network": 34,
        "is_smartnic": 53,
        "name": 88,
        "description": 97,
        "vendor": 100,
        "category": 101,
        "available_for_dynamic_portgroup": 111,
    },
    unsortable=frozenset({"extra", "internal_info", "local_link_connection"}),
)
PORTGROUP = Kind(
    name="Portgroup",
    collection="portgroups",
    path="portgroups",
    defaults={
        "address": None,
        "extra": {},
        "internal_info": {},
        "mode": "active-backup",
        "name": None,
        "properties": {},
        "standalone_ports_supported": True,
        "node_uuid": None,
        "physical_network": None,
        "category": None,
        "dynamic_portgroup": False,
    },
    brief=("uuid", "address", "name"),
    patchable=(
        "address",
        "extra",
        "mode",
        "name",
        "node_uuid",
        "properties",
        "standalone_ports_supported",
        "physical_network",
        "category",
    ),
    since={"mode": 26, "properties": 26, "physical_network": 102, "category": 103, "dynamic_portgroup": 111},
    unsortable=frozenset({"extra", "internal_info", "properties"}),
)
VOLUME_TARGET = Kind(
    name="Volume target",
    collection="targets",
    path="volume/targets",
    defaults={
        "boot_index": None,
        "extra": {},
        "properties": {},
        "volume_id": None,
        "volume_type": None,
        "node_uuid": None,
    },
    brief=("uuid", "node_uuid", "volume_type", "boot_index", "volume_id"),
    required=("boot_index", "node_uuid", "volume_id", "volume_type"),
    patchable=("boot_index", "extra", "node_uuid", "properties", "volume_id", "volume_type"),
    unsortable=frozenset({"extra", "properties"}),
)
VOLUME_CONNECTOR = Kind(
    name="Volume connector",
    collection="connectors",
    path="volume/connectors",
    defaults={"connector_id": None, "extra": {}, "type": None, "node_uuid": None},
    brief=("uuid", "node_uuid", "type", "connector_id"),
    required=("connector_id", "node_uuid", "type"),
    patchable=("connector_id", "extra", "node_uuid", "type"),
    unsortable=frozenset({"extra"}),
)
ALLOCATION = Kind(
    name="Allocation",
    collection="allocations",
    path="allocations",
    defaults={
        "candidate_nodes": [],
        "extra": {},
        "last_error": None,
        "name": None,
        "owner": None,
        "resource_class": None,
        "state": "allocating",
        "traits": [],
        "node_uuid": None,
    },
    brief=(),
    patchable=("name", "extra"),
    since={"owner": 60},
    unsortable=frozenset({"extra", "candidate_nodes", "traits"}),
)
KINDS = (PORT, PORTGROUP, VOLUME_TARGET, VOLUME_CONNECTOR, ALLOCATION)


# Showing -------------------------------------------------------------------------------------------------------------


def links(url: str, path: str) -> list[dict[str, str]]:
    """The two links that every record has."""
    return [{"href": f"{url}/v1/{path}", "rel": "self"}, {"href": f"{url}/{path}", "rel": "bookmark"}]


def show_node(node: Record, url: str, minor: int, fields: Iterable[str] | None, conductor: str | None) -> Record:
    """The node as the API shows it: secrets masked, only what was asked for, nothing newer than the version."""
    shown = {key: value for key, value in node.items() if key != "id"} | {"conductor": conductor}
    if fields is not None:
        wanted = set(fields)
        shown = {key: value for key, value in shown.items() if key in wanted}
    shown = copy.deepcopy(shown)
    if "driver_info" in shown:
        shown["driver_info"] = mask_secrets(shown["driver_info"])
        for key in ("snmp_auth_key", "snmp_priv_key"):
            if shown["driver_info"].get(key):
                shown["driver_info"][key] = MASK
    if "driver_internal_info" in shown:
        shown["driver_internal_info"] = mask_secrets(shown["driver_internal_info"])
    if "instance_info" in shown:
        shown["instance_info"] = mask_secrets(shown["instance_info"])
        for key in ("configdrive", "image_url"):
            if shown["instance_info"].get(key):
                shown["instance_info"][key] = MASK
    translate_state(shown, minor)
    shown["links"] = links(url, f"nodes/{node['uuid']}")
    if fields is None:
        for name, since in (("ports", 0), ("states", 14), ("portgroups", 24), ("volume", 32)):
            if minor >= since:
                shown[name] = links(url, f"nodes/{node['uuid']}/{name}")
    return {key: value for key, value in shown.items() if NODE_FIELD_SINCE.get(key, 0) <= minor}


def translate_state(shown: Record, minor: int) -> None:
    """A provision state that the API version does not know is shown under its old name."""
    if minor < 2 and shown.get("provision_state") == machine.AVAILABLE:
        shown["provision_state"] = None
    if minor < 39 and shown.get("provision_state") == machine.INSPECT_WAIT:
        shown["provision_state"] = machine.INSPECTING


def show(kind: Kind, record: Record, url: str, minor: int, fields: Iterable[str] | None) -> Record:
    """A record other than a node, as the API shows it."""
    shown = {key: value for key, value in record.items() if key != "id"}
    if fields is not None:
        if unknown := set(fields) - kind.fields:
            raise bad_request(f'Field(s) "{", ".join(sorted(unknown))}" are not valid')
        shown = {key: value for key, value in shown.items() if key in set(fields)}
    shown = copy.deepcopy(shown)
    if kind is VOLUME_TARGET and shown.get("properties"):
        shown["properties"] = mask_secrets(shown["properties"])
    shown["links"] = links(url, f"{kind.path}/{record['uuid']}")
    if kind is PORTGROUP and fields is None:
        shown["ports"] = links(url, f"portgroups/{record['uuid']}/ports")
    return {key: value for key, value in shown.items() if kind.since.get(key, 0) <= minor}


_SECRET_WORDS = (
    "adminpass",
    "admin_pass",
    "password",
    "auth_token",
    "new_pass",
    "secret",
    "sys_pswd",
    "token",
    "configdrive",
    "encrypted_key",
    "private_key",
    "fernetkey",
    "sslkey",
    "passphrase",
)


def mask_secrets(value: Any) -> Any:
    """The value with everything hidden whose key sounds like a secret."""
    if isinstance(value, dict):
        return {
            key: MASK
            if not isinstance(inner, dict) and any(word in str(key).lower() for word in _SECRET_WORDS)
            else mask_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [mask_secrets(inner) for inner in value]
    return value


# Checking ------------------------------------------------------------------------------------------------------------

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
_LOGICAL_NAME = re.compile(r"[A-Za-z0-9\-._~]{1,255}")
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_CUSTOM_TRAIT = "^CUSTOM_[A-Z0-9_]+$"
_TRAIT = re.compile(r"(CUSTOM|COMPUTE|HW|MISC|OWNER|STORAGE)_[A-Z0-9_]+")
_POINTER = re.compile(r"(/[\w-]+)+")


def is_uuid(text: object) -> bool:
    """Whether the text reads as a UUID."""
    try:
        uuid.UUID(str(text))
    except ValueError:
        return False
    return True


def is_logical_name(text: object) -> bool:
    """Whether a node, port group or allocation may be called so."""
    return isinstance(text, str) and _LOGICAL_NAME.fullmatch(text) is not None


ALLOCATED_PORT = "allocated_ipmi_terminal_port"
"""Where `driver_internal_info` has the port of a serial console that runs, if `driver_info` does not say which it is to be."""


def is_graphical(node: Record) -> bool:
    """Whether the node's console is a screen, which Ironic shows through a VNC server of its own."""
    return str(node["console_interface"]).endswith("-graphical")


def to_boolean(name: str, value: Any) -> bool:
    """The boolean that the value means."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    accepted = ", ".join(f"'{word}'" for word in sorted(_TRUE | _FALSE))
    raise bad_request(f"Invalid {name}: Unrecognized value '{value}', acceptable values are: {accepted}")


def to_integer(name: str, value: Any) -> int:
    """The integer that the value means."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise bad_request(f"Expected an integer for {name}: {value}") from None


def check_trait(trait: Any, where: str) -> str:
    """The trait, if it is one.

    Every name with a standard prefix passes: the list of standard traits is not shipped with the simulator.
    """
    if not isinstance(trait, str) or not _TRAIT.fullmatch(trait):
        raise bad_request(
            f"Schema error{where}: {trait!r} is not valid under any of the given schemas. "
            f"Possible root cause: {trait!r} does not match {_CUSTOM_TRAIT!r}"
        )
    return trait


def check_fields(what: str, record: Mapping[str, Any], allowed: Iterable[str], required: Iterable[str] = ()) -> Record:
    """The record's values, normalized; refused if a field is unknown, missing, or of the wrong type."""
    if not isinstance(record, Mapping):
        raise bad_request(f"Schema error{what}: {record!r} is not of type 'object'")
    allowed = set(allowed)
    for name in required:
        if name not in record:
            raise bad_request(f"Schema error{what}: {name!r} is a required property")
    if unknown := [name for name in record if name not in allowed]:
        names = ", ".join(repr(name) for name in unknown)
        raise bad_request(
            f"Schema error{what}: Additional properties are not allowed "
            f"({names} {'was' if len(unknown) == 1 else 'were'} unexpected)"
        )
    return {name: _check_value(what, name, value, name in set(required)) for name, value in record.items()}


def _check_value(what: str, name: str, value: Any, required: bool) -> Any:
    if value is None and not required:
        return {} if name in _OBJECTS else ([] if name in _LISTS else _null(name))
    type_name: str
    if name in _OBJECTS or (name == "properties"):
        good, type_name = isinstance(value, dict), "object"
    elif name in _LISTS:
        good, type_name = isinstance(value, list), "array"
    elif name in _INTEGERS:
        good, type_name = isinstance(value, int) and not isinstance(value, bool), "integer"
    elif name in _BOOLEANS:
        good, type_name = isinstance(value, bool | str), "string', 'boolean"
    else:
        good, type_name = isinstance(value, str), "string"
    if not good:
        nullable = "" if required else ", 'null'"
        raise bad_request(f"Schema error{what}: {value!r} is not of type '{type_name}'{nullable}")
    if (longest := _LONGEST.get(name)) and len(value) > longest:
        raise bad_request(f"Schema error{what}: {value!r} is too long")
    if name in _BOOLEANS:
        return to_boolean(name, value)
    if name in _UUIDS and not is_uuid(value):
        raise bad_request(f"Expected UUID for {name}: {value}")
    if name == "address":
        return check_mac(value)
    return copy.deepcopy(value)


def _null(name: str) -> Any:
    return False if name in _BOOLEANS - _NULLABLE_BOOLEANS else None


def check_mac(value: str) -> str:
    """The MAC address, normalized."""
    if not _MAC.fullmatch(value.lower()):
        raise bad_request(f"Expected valid MAC address for address: {value}")
    return value.lower().replace("-", ":")


def check_node_name(name: Any, refusal: str) -> None:
    """A node may be called so."""
    if not is_logical_name(name) or is_uuid(name):
        raise bad_request(f"{refusal}'{name}'")
    if name in RESERVED_NODE_NAMES:
        raise bad_request(
            f'The word "{name}" is reserved and can not be used as a node name. '
            f"Reserved words are: {', '.join(RESERVED_NODE_NAMES)}."
        )


def check_version(names: Iterable[str], since: Mapping[str, int], minor: int) -> None:
    """None of the fields is newer than the API version."""
    if any(since.get(name, 0) > minor for name in names):
        raise not_acceptable()


def check_unique(
    records: Iterable[Record], field_name: str, value: Any, message: str, *, except_uuid: str = ""
) -> None:
    """No other record has the value."""
    if value is not None and any(other[field_name] == value and other["uuid"] != except_uuid for other in records):
        raise conflict(message)


# Patching ------------------------------------------------------------------------------------------------------------


def check_patch(patch: Any, patchable: Iterable[str]) -> list[Record]:
    """The patch is a list of add, replace and remove, each on a field that may be changed; returns it."""
    if not isinstance(patch, list):
        raise bad_request(f"Schema error for patch: {patch!r} is not of type 'array'")
    for change in patch:
        if not isinstance(change, dict):
            raise bad_request(f"Schema error for patch: {change!r} is not of type 'object'")
        for name in ("op", "path"):
            if name not in change:
                raise bad_request(f"Schema error for patch: {name!r} is a required property")
        if unknown := set(change) - {"op", "path", "value"}:
            names = ", ".join(repr(name) for name in sorted(unknown))
            raise bad_request(f"Schema error for patch: Additional properties are not allowed ({names} was unexpected)")
        if change["op"] not in ("add", "replace", "remove"):
            raise bad_request(f"Schema error for patch: {change['op']!r} is not one of ['add', 'replace', 'remove']")
        if not isinstance(change["path"], str) or not _POINTER.fullmatch(change["path"]):
            raise bad_request(f"Schema error for patch: {change['path']!r} does not match '^(/[\\\\w-]+)+$'")
    for change in patch:
        if change["path"].split("/")[1] not in set(patchable):
            raise bad_request(
                f"Cannot patch {change['path']}. Only the following can be updated: {', '.join(patchable)}"
            )
    return patch


def patched_values(patch: list[Record], name: str) -> list[Any]:
    """The values that the patch gives to a field as a whole."""
    try:
        return [change["value"] for change in patch if change["path"] == f"/{name}" and change["op"] != "remove"]
    except KeyError as error:
        raise ApiError(500, str(error)) from None


def apply_patch(record: Record, patch: list[Record]) -> Record:
    """The record with every change of the patch made; a field that was removed is missing."""
    patched = copy.deepcopy(record)
    for change in patch:
        try:
            _apply_change(patched, change)
        except (LookupError, TypeError, ValueError) as error:
            reason = error.args[0] if error.args else error
            raise bad_request(f"Couldn't apply patch '{change}'. Reason: {reason}") from None
    return patched


def _apply_change(record: Record, change: Record) -> None:
    *parents, last = change["path"].split("/")[1:]
    place: Any = record
    for name in parents:
        if isinstance(place, list):
            place = place[int(name)]
        elif isinstance(place, dict) and name in place:
            place = place[name]
        else:
            raise LookupError(f"member '{name}' not found in {place}")
    operation = change["op"]
    if isinstance(place, list):
        _change_list(place, last, change)
        return
    if not isinstance(place, dict):
        raise TypeError(f"unable to fully resolve json pointer {change['path']}, part {last}")
    if operation != "add" and last not in place:
        raise LookupError(f"can't {operation} a non-existent object '{last}'")
    if operation == "remove":
        del place[last]
    elif "value" not in change:
        raise LookupError("The operation does not contain a 'value' member")
    else:
        place[last] = copy.deepcopy(change["value"])


def _change_list(place: list[Any], last: str, change: Record) -> None:
    if change["op"] == "add":
        place.insert(len(place) if last == "-" else int(last), copy.deepcopy(change["value"]))
    elif change["op"] == "remove":
        del place[int(last)]
    else:
        place[int(last)] = copy.deepcopy(change["value"])
