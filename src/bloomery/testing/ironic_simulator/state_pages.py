"""The pages that ask for a change of state: provisioning, power, console, boot mode, management.

Source: ironic api/controllers/v1/node.py (39.0).
"""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping
from typing import Any

from bloomery.testing.http_simulator import Response
from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    bad_request,
    conflict,
    in_maintenance,
    no_such_page,
    node_locked,
    not_acceptable,
    not_found,
    state_refused,
    unsupported,
)
from bloomery.testing.ironic_simulator.pages import Call, Pages
from bloomery.testing.ironic_simulator.records import (
    ALLOCATED_PORT,
    Record,
    is_graphical,
    to_boolean,
    to_integer,
    translate_state,
)

_BASE64 = frozenset(string.ascii_letters + string.digits + "+/=\n\r\t ")
_STEP_INTERFACES = ("vendor", "power", "management", "firmware", "deploy", "bios", "raid")
_DEPLOY_STEP_KEYS = frozenset({"interface", "step", "args", "priority"})
_STEP_KEYS = frozenset({"interface", "step", "args", "order", "execute_on_child_nodes", "limit_child_node_execution"})
_VERB_SINCE: Mapping[str, int] = {
    "manage": 4,
    "provide": 4,
    "inspect": 6,
    "abort": 13,
    "clean": 15,
    "adopt": 17,
    "rescue": 38,
    "unrescue": 38,
    "deploy": 73,
    "undeploy": 73,
    "unhold": 85,
    "service": 87,
}


class StatePages(Pages):
    """What is under `states` and `management` of a node."""

    def _states(self, call: Call, node: Record) -> Response:
        names = [
            "console_enabled",
            "last_error",
            "power_state",
            "provision_state",
            "target_power_state",
            "target_provision_state",
            "provision_updated_at",
        ]
        names += ["raid_config", "target_raid_config"] if call.minor >= 12 else []
        names += ["boot_mode", "secure_boot"] if call.minor >= 75 else []
        shown = {name: copy.deepcopy(node[name]) for name in names}
        translate_state(shown, call.minor)
        return Response(200, shown)

    def _provision(self, call: Call, ident: str) -> Response:
        given = call.arguments(
            {
                "target",
                "configdrive",
                "clean_steps",
                "deploy_steps",
                "rescue_password",
                "disable_ramdisk",
                "service_steps",
                "runbook",
            }
        )
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = str(given["target"])
        config_drive = given.get("configdrive")
        if not isinstance(config_drive, dict | str | None):
            raise bad_request(
                f"Expected types <class 'NoneType'>, <class 'dict'>, <class 'str'> for configdrive: {config_drive}"
            )
        node = self._node(ident)
        if call.minor < _VERB_SINCE.get(target, 0):
            raise not_acceptable()
        if target in ("active", "rebuild") and node["maintenance"]:
            raise in_maintenance("provisioning", node["uuid"])
        if machine.next_state(node["provision_state"], machine.VERBS.get(target, target)) is None:
            if node["reservation"]:
                raise node_locked(node["uuid"], node["reservation"])
            raise state_refused(target, node["uuid"], node["provision_state"])
        self._check_provision_arguments(target, given, call.minor)
        if target == "abort" and node["provision_state"] == machine.DEPLOY_WAIT and call.minor < 110:
            raise not_acceptable()
        if target == "abort" and node["provision_state"] == machine.INSPECT_WAIT and call.minor < 41:
            raise not_acceptable()
        self._order(node, target, given)
        return self._accepted(f"{ident}/states")

    def _check_provision_arguments(self, target: str, given: Record, minor: int) -> None:
        config_drive = given.get("configdrive")
        if config_drive:
            allowed = ["active"] + (["rebuild"] if minor >= 35 else [])
            if target not in allowed:
                raise bad_request(
                    "Adding a config drive is only supported when setting provision state to " + ", ".join(allowed)
                )
            _check_config_drive(config_drive, minor)
        for name, verbs in (
            ("clean_steps", ("clean",)),
            ("deploy_steps", ("active", "deploy", "rebuild")),
            ("rescue_password", ("rescue",)),
            ("service_steps", ("service",)),
        ):
            if given.get(name) and target not in verbs:
                raise bad_request(f'"{name}" is only valid when setting target provision state to {" or ".join(verbs)}')
        if given.get("deploy_steps") and minor < 69:
            raise not_acceptable()

    def _order(self, node: Record, target: str, given: Record) -> None:
        """The conductor is asked for what the target means."""
        match target:
            case "active" | "deploy" | "rebuild":
                steps = _check_steps(given.get("deploy_steps") or [], "deploy", _DEPLOY_STEP_KEYS, _DEPLOY_STEP_KEYS)
                self.conductor.deploy(
                    node,
                    configdrive=copy.deepcopy(given.get("configdrive")),
                    steps=steps,
                    is_rebuild=target == "rebuild",
                )
            case "deleted" | "undeploy":
                self.conductor.tear_down(node)
            case "rescue":
                password = given.get("rescue_password")
                if not (isinstance(password, str) and password.strip()):
                    raise bad_request(
                        'A non-empty "rescue_password" is required when setting target provision state to rescue'
                    )
                self.conductor.rescue(node, password)
            case "unrescue":
                self.conductor.unrescue(node)
            case "inspect":
                self.conductor.inspect(node)
            case "clean" | "service":
                steps = given.get(f"{target}_steps") or []
                if not steps:
                    raise bad_request(f'"{target}_steps" is required when setting target provision state to {target}')
                steps = _check_steps(steps, target, _STEP_KEYS, frozenset({"interface", "step"}))
                (self.conductor.clean if target == "clean" else self.conductor.service)(node, steps)
            case "manage" | "provide" | "abort" | "adopt" | "unhold":
                self.conductor.act(node, target)
            case _:
                raise bad_request(f'The requested action "{target}" could not be understood.')

    def _power(self, call: Call, ident: str) -> Response:
        given = call.arguments({"target", "timeout"})
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = given["target"]
        timeout_s = to_integer("timeout", given["timeout"]) if given.get("timeout") is not None else None
        node = self._node(ident)
        if (target in (machine.SOFT_REBOOT, machine.SOFT_POWER_OFF) or timeout_s) and call.minor < 27:
            raise not_acceptable()
        if timeout_s is not None and timeout_s < 1:
            raise bad_request("timeout has to be positive integer")
        if target not in machine.POWER_TARGETS:
            raise state_refused(target, ident, node["power_state"])
        if node["provision_state"] in (machine.CLEANING, machine.CLEAN_WAIT):
            raise state_refused(target, ident, node["provision_state"])
        if target in (machine.POWER_OFF, machine.SOFT_POWER_OFF) and node["disable_power_off"]:
            raise conflict(f"Failed to set node power state to {target}.")
        self.conductor.change_power(node, target)
        return self._accepted(f"{ident}/states")

    def _console(self, call: Call, ident: str) -> Response:
        node = self._node(ident)
        if call.method == "GET":
            if not node["console_enabled"]:
                return Response(200, {"console_enabled": False, "console_info": None})
            allocated = node["driver_internal_info"].get(ALLOCATED_PORT, 10000 + node["id"])
            port = node["driver_info"].get("ipmi_terminal_port") or allocated
            info = {"type": "socat", "url": f"tcp://127.0.0.1:{port}"}
            if is_graphical(node):
                info = {
                    "type": "vnc",
                    "url": f"{self.world.bmcs[node['uuid']].screen_url}?path=websockify%3Fnode%3D{node['uuid']}",
                }
            return Response(200, {"console_enabled": True, "console_info": info})
        given = call.arguments({"enabled"})
        if "enabled" not in given:
            raise bad_request("Missing mandatory parameter: enabled")
        self.conductor.change_console(node, is_enabled=to_boolean("enabled", given["enabled"]))
        return self._accepted(f"{ident}/states/console")

    def _boot_mode(self, call: Call, ident: str, what: str) -> Response:
        given = call.arguments({"target"})
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = given["target"] if what == "boot_mode" else to_boolean("target", given["target"])
        node = self._node(ident)
        if call.minor < 76:
            raise not_found("This endpoint is supported starting with the API version 1.76")
        if what == "boot_mode" and target not in ("bios", "uefi"):
            raise bad_request(f"Invalid boot mode {target} requested for node. Allowed boot modes are: bios, uefi")
        if node["provision_state"] in machine.UNSTABLE_STATES:
            raise conflict(
                f"Node is in {node['provision_state']} state. Since node is transitioning, the boot mode will not be "
                "set as this may interfere with ongoing changes and result in erroneous modification. "
                "Try again later."
            )
        self.conductor.change_boot_mode(node, **{what: target})
        return self._accepted(f"{ident}/states")

    def _management(self, call: Call, node: Record, rest: list[str]) -> Response:
        bmc = self.world.bmcs[node["uuid"]]
        match call.method, rest:
            case "PUT", ["inject_nmi"]:
                if call.minor < 29:
                    raise not_found()
                self.conductor.lock(node)
                if node["management_interface"] == "fake":
                    raise unsupported(node["driver"], "inject_nmi")
                if not bmc.is_reachable:
                    raise ApiError(500, f"Redfish exception occurred. Error: node {node['uuid']} cannot be reached")
                bmc.interrupts += 1
                return Response(204)
            case "GET", ["boot_device"]:
                self.conductor.lock(node)
                return Response(200, {"boot_device": bmc.boot_device, "persistent": bmc.is_boot_device_persistent})
            case "GET", ["boot_device", "supported"]:
                return Response(200, {"supported_boot_devices": ["pxe", "disk", "cdrom", "bios"]})
            case "PUT", ["boot_device"]:
                given = call.arguments({"boot_device", "persistent"})
                if "boot_device" not in given:
                    raise bad_request("Missing mandatory parameter: boot_device")
                self.conductor.lock(node)
                if given["boot_device"] not in ("pxe", "disk", "cdrom", "bios"):
                    raise bad_request(f"Invalid boot device {given['boot_device']} specified.")
                bmc.boot_device = given["boot_device"]
                bmc.is_boot_device_persistent = to_boolean("persistent", given.get("persistent", False))
                return Response(204)
        raise no_such_page()


def _check_config_drive(config_drive: dict[str, Any] | str, minor: int) -> None:
    if isinstance(config_drive, str):
        if "://" not in config_drive and not set(config_drive) <= _BASE64:
            raise bad_request("Invalid configdrive format: it is neither a JSON, nor a URL, nor a base64 string")
        return
    types: dict[str, type | tuple[type, ...]] = {
        "meta_data": dict,
        "network_data": dict,
        "user_data": (dict, list, str, type(None)),
        "vendor_data": dict,
    }
    for name, value in config_drive.items():
        if name not in types:
            raise bad_request(
                f"Invalid configdrive format: Additional properties are not allowed ('{name}' was unexpected)"
            )
        if not isinstance(value, types[name]):
            raise bad_request(f"Invalid configdrive format: {value!r} is not of type 'object'")
    if minor < 56:
        raise bad_request("Providing a JSON object for configdrive is only supported starting with API version 1.56")
    if "vendor_data" in config_drive and minor < 59:
        raise bad_request("Providing vendor_data in configdrive is only supported starting with API version 1.59")


def _check_steps(steps: Any, what: str, allowed: frozenset[str], required: frozenset[str]) -> list[Record]:
    """The steps, if each has what a step needs."""
    if not isinstance(steps, list):
        raise bad_request(f"Invalid {what}_steps: {steps!r} is not of type 'array'")
    for step in steps:
        if not isinstance(step, dict):
            raise bad_request(f"Invalid {what}_steps: {step!r} is not of type 'object'")
        if missing := sorted(required - set(step)):
            raise bad_request(f"Invalid {what}_steps: {missing[0]!r} is a required property")
        if unknown := sorted(set(step) - allowed):
            raise bad_request(
                f"Invalid {what}_steps: Additional properties are not allowed ({unknown[0]!r} was unexpected)"
            )
        if step["interface"] not in _STEP_INTERFACES:
            raise bad_request(f"Invalid {what}_steps: {step['interface']!r} is not one of {list(_STEP_INTERFACES)}")
    return copy.deepcopy(steps)
