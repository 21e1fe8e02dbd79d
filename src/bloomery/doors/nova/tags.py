"""Device tags: which NIC a tag asks for, and what the metadata tells of the devices that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nova import context as nova_context
from nova import objects
from nova.virt import driver as virt_driver

from bloomery.ironic import Ironic, Node, Port, PortGroup
from bloomery.operations.run import as_mapping


def tags_of(instance: Any) -> dict[str, str]:
    """The tags of the instance's VIFs, by VIF."""
    found = objects.VirtualInterfaceList.get_by_instance_uuid(nova_context.get_admin_context(), instance.uuid)
    return {str(vif.uuid): str(vif.tag) for vif in found if vif.tag}


def named_nics(
    tags: Mapping[str, str], node: Node, ports: Sequence[Port], port_groups: Sequence[PortGroup]
) -> dict[str, str]:
    """Of each VIF whose tag names a NIC or bond of the node: its name. Any other tag is only told to the guest.

    No two of Ironic's ports have the same name, whatever their nodes. So a name may begin with that of its node:
    `rack1-u7-storage` on node `rack1-u7` is what the tag `storage` means.
    """
    names = {port.name for port in ports} | {group.name for group in port_groups}
    meant = {vif_id: (f"{node.name}-{tag}", tag) for vif_id, tag in tags.items()}
    found = {vif_id: next((name for name in both if name in names), None) for vif_id, both in meant.items()}
    return {vif_id: name for vif_id, name in found.items() if name is not None}


def tell(
    instance: Any,
    tagged: Mapping[str, str],
    node: Node,
    ironic: Ironic,
    ports: Sequence[Port],
    port_groups: Sequence[PortGroup],
    block_device_info: Mapping[str, Any] | None = None,
) -> None:
    """Nova's metadata service and the next config drive tell of the devices that have a tag, as they are now.

    Args:
        instance: Nova's instance.
        tagged: the tags, by VIF.
        node: its node.
        ironic: knows where inspection found a NIC on the PCI bus.
        ports: the node's NICs, with the VIFs that are on them.
        port_groups: likewise its bonds.
        block_device_info: Nova's, with the volumes. None keeps what is told of them.
    """
    nics: list[Port | PortGroup] = [*port_groups, *ports]
    on = {nic.address: tagged[nic.vif_id] for nic in nics if nic.address and nic.vif_id and nic.vif_id in tagged}
    addresses = _pci_addresses(ironic.inventory(node.uuid)) if on else {}
    before = instance.device_metadata.devices if instance.device_metadata is not None else []
    if block_device_info is None:
        volumes = [device for device in before if isinstance(device, objects.DiskMetadata)]
    else:
        volumes = _volumes(block_device_info)
    devices = [_nic(mac, tag, addresses.get(mac.lower())) for mac, tag in on.items()] + volumes
    if devices or before:
        instance.device_metadata = objects.InstanceDeviceMetadata(devices=devices) if devices else None
        instance.save()


def _nic(mac: str, tag: str, pci_address: str | None) -> Any:
    told = objects.NetworkInterfaceMetadata(mac=mac, tags=[tag], vf_trusted=False)
    if pci_address is not None:
        told.bus = objects.PCIDeviceBus(address=pci_address)
    return told


def _volumes(block_device_info: Mapping[str, Any] | None) -> list[Any]:
    devices = virt_driver.block_device_info_get_mapping(block_device_info)
    return [
        objects.DiskMetadata(serial=str(device.volume_id), tags=[device._bdm_obj.tag])
        for device in devices
        if device.is_volume and device._bdm_obj.tag
    ]


def _pci_addresses(hardware: Mapping[str, Any] | None) -> dict[str, str]:
    """Where inspection found each NIC on the PCI bus, by MAC address."""
    found = as_mapping(as_mapping(hardware).get("inventory")).get("interfaces") or ()
    return {
        str(nic["mac_address"]).lower(): str(nic["pci_address"])
        for nic in map(as_mapping, found)
        if nic.get("mac_address") and nic.get("pci_address")
    }
