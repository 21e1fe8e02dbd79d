"""What Ironic knows of a server's machine: its hardware as inspection found it, its health, what was noted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import objects
from nova.compute import power_state

from bloomery.deadline import Deadline
from bloomery.doors.nova.config import quick_timeout_s
from bloomery.doors.nova.nodes import power_state_of
from bloomery.ironic import Ironic, Node
from bloomery.operations.run import Services, as_mapping
from bloomery.plain import without_places


def _ironic(services: Services) -> Ironic:
    return services.ironic.within(Deadline(quick_timeout_s(), patience=services.patience))


def _hardware(services: Services, node: Node) -> Mapping[str, Any]:
    return as_mapping((_ironic(services).inventory(node.uuid) or {}).get("inventory"))


def plain(services: Services, node: Node) -> dict[str, Any]:
    """The diagnostics of API versions before 2.48: whatever there is, by name."""
    hardware = _hardware(services, node)
    return {
        "power_state": node.power_state,
        "provision_state": node.provision_state,
        "maintenance": node.maintenance,
        "health": node.health,
        "boot_mode": node.boot_mode,
        "secure_boot": node.secure_boot,
        "cpus": as_mapping(hardware.get("cpu")).get("count"),
        "memory_mb": as_mapping(hardware.get("memory")).get("physical_mb"),
        "nics": [nic.get("mac_address") for nic in _records(hardware, "interfaces")],
        "disks": [{key: disk.get(key) for key in ("name", "size", "model")} for disk in _records(hardware, "disks")],
    }


def of_instance(services: Services, node: Node, instance: Any) -> Any:
    """The same in the form that Nova has for every driver."""
    hardware = _hardware(services, node)
    memory = objects.MemoryDiagnostics(maximum=as_mapping(hardware.get("memory")).get("physical_mb"), used=None)
    told = objects.Diagnostics(
        state=power_state.STATE_MAP[power_state_of(node)],
        driver="ironic",
        hypervisor=node.driver,
        hypervisor_os=None,
        uptime=None,
        config_drive=bool(instance.config_drive),
        memory_details=memory,
        cpu_details=[],
        nic_details=[],
        disk_details=[],
        num_cpus=0,
        num_nics=0,
        num_disks=0,
    )
    for _ in range(int(as_mapping(hardware.get("cpu")).get("count") or 0)):
        told.add_cpu()
    for nic in _records(hardware, "interfaces"):
        told.add_nic(mac_address=nic.get("mac_address"))
    for _ in _records(hardware, "disks"):
        told.add_disk()
    return told


def log_of(services: Services, node: Node) -> bytes:
    """What was noted of the machine, for whoever asks for the log of its console."""
    lines = ["Ironic keeps no log of this machine's console. What it noted of the machine:", ""]
    lines += [
        f"provision state: {node.provision_state}",
        f"power state: {node.power_state}",
        *([f"health: {node.health}"] if node.health else []),
        *([f"maintenance: {node.maintenance_reason or 'no reason given'}"] if node.maintenance else []),
        *([f"last error: {node.last_error}"] if node.last_error else []),
    ]
    lines += [
        f"{event.created_at} {event.severity or ''} {event.event or ''}".rstrip()
        for event in _ironic(services).history(node.uuid)
    ]
    return without_places("\n".join(lines) + "\n", keep_lines=True).encode()


def _records(hardware: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    return [as_mapping(record) for record in hardware.get(what) or ()]
