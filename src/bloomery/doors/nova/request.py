"""What Nova hands over, in our words: `instance_info`, VIFs, volumes, the config drive, the connector for storage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import nova.conf
from nova.api.metadata import base as metadata
from nova.virt import configdrive, netutils
from nova.virt import driver as virt_driver

from bloomery.config_drive import packed_image
from bloomery.doors.nova import hooks
from bloomery.ironic import Node, Port, PortGroup, VolumeConnector
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Guest, Image, Nic, Volume
from bloomery.operations.run import Belongings
from bloomery.plain import logger
from bloomery.secret import Secret

CONF = nova.conf.CONF
log = logger(__name__)

# instance_info


def instance_info(
    instance: Any,
    image_meta: Any,
    about: Any,
    node: Node,
    *,
    from_volume: bool,
    preserve_ephemeral: bool | None = None,
) -> dict[str, object]:
    """What Ironic is told of the instance: the keys, and the spelling of the values, that Nova's own driver writes.

    Args:
        instance: Nova's instance.
        image_meta: Nova's image.
        about: what `get_instance_driver_metadata` tells of them.
        node: the node.
        from_volume: whether the machine boots from a volume, so that no image is written to its disk.
        preserve_ephemeral: for a rebuild.
    """
    flavor = instance.flavor
    info: dict[str, object] = {} if from_volume else {"image_source": image_meta.id}
    info |= {
        "root_gb": str(flavor.root_gb),
        "swap_mb": str(flavor.swap),
        "display_name": instance.display_name,
        "vcpus": str(flavor.vcpus),
        "nova_host_id": instance.host,
        "memory_mb": str(flavor.memory_mb),
        "local_gb": str(node.properties.get("local_gb", 0)),
        "project_id": str(about.owner.projectid),
        "project_name": str(about.owner.projectname),
        "user_id": str(about.owner.userid),
        "user_name": str(about.owner.username),
        "flavor_name": str(about.flavor.name),
        "fixed_ips": str(about.network_info.fixed_ips() if about.network_info else []),
        "floating_ips": str(about.network_info.floating_ips() if about.network_info else []),
    }
    if flavor.ephemeral_gb:
        info["ephemeral_gb"] = str(flavor.ephemeral_gb)
        if CONF.default_ephemeral_format:
            info["ephemeral_format"] = CONF.default_ephemeral_format
    if preserve_ephemeral is not None:
        info["preserve_ephemeral"] = str(preserve_ephemeral)
    capabilities = capabilities_of(flavor.extra_specs)
    if capabilities:
        info["capabilities"] = json.dumps(capabilities)
    traits = [*traits_of(flavor.extra_specs), *(image_meta.properties.get("traits_required", []) or [])]
    if traits:
        info["traits"] = traits
    return info


def capabilities_of(extra_specs: Mapping[str, str]) -> dict[str, str]:
    """The flavor's `capabilities:KEY=VALUE`."""
    split = ((key.partition(":"), value) for key, value in (extra_specs or {}).items())
    return {key: value for (prefix, _, key), value in split if prefix == "capabilities" and key}


def traits_of(extra_specs: Mapping[str, str]) -> list[str]:
    """The flavor's `trait:NAME=required`, of whatever numbered group."""
    split = ((key.partition(":"), value) for key, value in (extra_specs or {}).items())
    return [key for (prefix, _, key), value in split if prefix.startswith("trait") and key and value == "required"]


# VIFs and volumes


def vif_ids(network_info: Iterable[Any] | None) -> list[str]:
    """Neutron's ids of the VIFs, in their order."""
    return [str(vif["id"]) for vif in network_info or ()]


def nics(network_info: Iterable[Any] | None, on: Mapping[str, str] | None = None) -> tuple[Nic, ...]:
    """The VIFs, which exist and are Nova's to delete; and of some the NIC or bond that each has to be on."""
    return tuple(Nic(vif=vif_id, on=(on or {}).get(vif_id)) for vif_id in vif_ids(network_info))


def volumes(block_device_info: Mapping[str, Any] | None) -> tuple[Volume, ...]:
    """The volumes that the instance has from its first start on; those that Nova gives no boot index come last."""
    devices = _volume_devices(block_device_info)
    after = count(1 + max((index for device in devices if (index := _boot_index(device)) is not None), default=0))
    return tuple(
        volume(
            str(device.volume_id),
            json.loads(device._bdm_obj.connection_info or "{}"),
            next(after) if (index := _boot_index(device)) is None else index,
        )
        for device in devices
    )


def volume(volume_id: str, connection_info: Mapping[str, Any], boot_index: int) -> Volume:
    """A volume as Cinder describes the way to it."""
    return Volume(
        volume_id=volume_id,
        volume_type=str(connection_info.get("driver_volume_type") or "iscsi"),
        boot_index=boot_index,
        properties=Secret(dict(connection_info.get("data") or {})),
    )


def volume_id_of(connection_info: Mapping[str, Any]) -> str:
    """Cinder's id of the volume that it describes the way to."""
    return str(connection_info.get("serial") or connection_info.get("data", {}).get("volume_id"))


def _volume_devices(block_device_info: Mapping[str, Any] | None) -> list[Any]:
    return [device for device in virt_driver.block_device_info_get_mapping(block_device_info) if device.is_volume]


def _boot_index(device: Any) -> int | None:
    index = device._bdm_obj.boot_index
    return None if index is None or index < 0 else int(index)


def boots_from_volume(block_device_info: Mapping[str, Any] | None) -> bool:
    """Whether one of the volumes is the root disk."""
    return any(_boot_index(device) == 0 for device in _volume_devices(block_device_info))


def belongings(network_info: Iterable[Any] | None, block_device_info: Mapping[str, Any] | None) -> Belongings:
    """What Nova says belongs to the instance."""
    return Belongings(
        vif_ids=frozenset(vif_ids(network_info)),
        volume_ids=frozenset(str(device.volume_id) for device in _volume_devices(block_device_info)),
    )


# Requests


def claim_request(instance: Any) -> DeployRequest:
    """What is known of the instance when its node is claimed: nothing but which node."""
    return DeployRequest(
        image=Image(source="unknown"),
        node=instance.node,
        instance_uuid=instance.uuid,
        guest=Guest(config_drive=False),
    )


def plug_request(instance: Any, network_info: Iterable[Any] | None, on: Mapping[str, str]) -> DeployRequest:
    """The instance with its VIFs, and the NICs that some of them have to be on."""
    return DeployRequest(
        image=Image(source="unknown"),
        node=instance.node,
        instance_uuid=instance.uuid,
        nics=nics(network_info, on),
        guest=Guest(config_drive=False),
    )


def spawn_request(
    instance: Any,
    info: Mapping[str, object],
    guest: Guest,
    network_info: Iterable[Any] | None,
    block_device_info: Mapping[str, Any] | None,
) -> DeployRequest:
    """The whole instance."""
    return DeployRequest(
        image=Image(source="unknown"),
        node=instance.node,
        instance_uuid=instance.uuid,
        nics=nics(network_info),
        volumes=volumes(block_device_info),
        guest=guest,
        instance_info=info,
    )


def rebuild_request(info: Mapping[str, object], guest: Guest) -> RebuildRequest:
    """The instance as it is to be."""
    return RebuildRequest(instance_info=info, guest=guest if guest.drive is not None else None)


# Config drive


def guest(
    instance: Any,
    node: Node,
    ports: Sequence[Port],
    port_groups: Sequence[PortGroup],
    network_info: Any,
    *,
    injected_files: Any,
    admin_password: str | None,
) -> Guest:
    """What the instance is told about itself: a config drive where Nova wants one, with what Nova's own driver puts there.

    Raises:
        InvalidRequest: it is larger than Ironic takes.
    """
    if not configdrive.required_by(instance):
        return Guest(config_drive=False)
    extra = {"admin_pass": admin_password} if admin_password else {}
    told = metadata.InstanceMetadata(
        instance,
        content=injected_files,
        extra_md=hooks.meta_data(extra, instance, node),
        network_info=network_info,
        network_metadata=hooks.network_data(network_data(ports, port_groups, network_info), instance, node),
    )
    told.userdata_raw = hooks.user_data(told.userdata_raw, instance, node)
    files = {f"/{path}": _encoded(content) for path, content in told.metadata_for_config_drive()}
    return Guest(config_drive=True, drive=packed_image(files))


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def network_data(ports: Sequence[Port], port_groups: Sequence[PortGroup], network_info: Any) -> dict[str, Any] | None:
    """`network_data.json` for the NICs and bonds that Ironic has put the VIFs on: their MAC addresses, their members."""
    data: dict[str, Any] | None = netutils.get_network_metadata(network_info)
    if not data:
        return data
    on_port = {vif_id: port for port in ports if (vif_id := port.vif_id or port.extra.get("vif_port_id"))}
    on_group = {group.vif_id: group for group in port_groups if group.vif_id}
    members: list[dict[str, Any]] = []
    for link in data["links"]:
        if (group := on_group.get(link["vif_id"])) is not None:
            bonded = [port for port in ports if port.portgroup_uuid == group.uuid]
            link |= {"type": "bond", "bond_mode": group.mode, "bond_links": [port.uuid for port in bonded]}
            if group.address:
                link["ethernet_mac_address"] = group.address
            link |= {
                name if name.startswith("bond") else f"bond_{name}": value for name, value in group.properties.items()
            }
            members += [{"id": port.uuid, "type": "phy", "ethernet_mac_address": port.address} for port in bonded]
        elif (port := on_port.get(link["vif_id"])) is not None:
            link |= {"ethernet_mac_address": port.address, "type": "phy"}
    data["links"].extend(members)
    return data


# Storage


def connector(
    instance: Any,
    node: Node,
    connectors: Iterable[VolumeConnector],
    ports: Sequence[Port],
    port_groups: Sequence[PortGroup],
) -> dict[str, Any]:
    """How the storage is to know the machine, as Cinder wants it."""
    found: dict[str, list[str]] = {}
    for entry in connectors:
        found.setdefault(entry.type, []).append(entry.connector_id)
    ip = next(iter(found.get("ip", ())), None) or _address(instance, found.get("mac", ()), ports, port_groups)
    told: dict[str, Any] = {"ip": ip, "host": ip} if ip else {"host": instance.hostname}
    if "iqn" in found:
        told["initiator"] = found["iqn"][0]
    if "wwpn" in found:
        told["wwpns"] = found["wwpn"]
    if "wwnn" in found:
        told["wwnns"] = found["wwnn"]
    if "nqn" in found:
        told["nqn"] = found["nqn"][0]
    return told | {"platform": node.properties.get("cpu_arch"), "os_type": "baremetal", "multipath": False}


def _address(instance: Any, macs: Sequence[str], ports: Sequence[Port], port_groups: Sequence[PortGroup]) -> str | None:
    """An address of the VIF on one of these NICs, or of any VIF; IPv4 before IPv6."""
    wanted = {mac.lower() for mac in macs}
    nics_and_bonds: list[Port | PortGroup] = [*port_groups, *ports]
    chosen = {nic.vif_id for nic in nics_and_bonds if nic.vif_id and (nic.address or "").lower() in wanted}
    network_info = instance.get_network_info() or []
    told = [vif for vif in network_info if vif["id"] in chosen] or network_info
    addresses = sorted((ip["version"], number, ip["address"]) for number, ip in enumerate(_fixed_ips(told)))
    return addresses[0][2] if addresses else None


def _fixed_ips(network_info: Iterable[Any]) -> list[Any]:
    return [ip for vif in network_info for ip in vif.fixed_ips()]


def default_ephemeral_device(instance: Any) -> None:
    """Nova's metadata service names the ephemeral partition, if there is one, for cloud-init to find it."""
    if instance.flavor.ephemeral_gb:
        instance.default_ephemeral_device = "/dev/sda1"
        instance.save()
