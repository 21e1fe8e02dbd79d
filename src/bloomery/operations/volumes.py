"""Volumes: remote disks that a node boots from or has. Also the parts of a deploy and a tear-down that deal with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

from bloomery.engine import Step, for_each
from bloomery.errors import InvalidRequest, NodeTakenAway, NodeUnavailable, NotFound
from bloomery.ironic import Node, VolumeTarget
from bloomery.ironic.models import MARK
from bloomery.operations import power
from bloomery.operations.request import Volume
from bloomery.operations.run import Options, Run, Services, as_mapping, carry_out, unless_deleted

# Parts of other operations


def numbered(volumes: Sequence[Volume]) -> dict[str, Volume]:
    """Each volume under the UUID that its target will have: chosen before the call, so that a lost reply is found."""
    return {str(uuid4()): volume for volume in volumes}


def marked(mark: Mapping[str, Any] | None) -> dict[str, str]:
    """The volume targets that the mark names, and their volumes."""
    return {str(uuid): str(volume) for uuid, volume in as_mapping(as_mapping(mark).get("volumes")).items()}


def add(run: Run, targets: Mapping[str, Volume]) -> None:
    """The node has every one of the volumes."""
    for target_uuid, volume in targets.items():
        run.ironic.add_volume_target(
            run.node.uuid,
            target_uuid=target_uuid,
            volume_id=volume.volume_id,
            volume_type=volume.volume_type,
            boot_index=volume.boot_index,
            properties=volume.properties,
            extra={MARK: {"instance_uuid": run.instance_uuid, **run.managed_by}},
        )


def remove(
    run: Run,
    mark: Mapping[str, Any] | None,
    *,
    volume_ids: Collection[str] = (),
    but: Callable[[VolumeTarget], bool] = lambda _target: False,
) -> None:
    """The node has none of the volume targets that the mark names, and none of these volumes, `but` those. Others stay.

    Ironic removes targets of a machine that is off only, so one that is on is powered off: call it where nothing runs.
    """
    ours = marked(mark)
    there = run.ironic.volume_targets(run.node.uuid) if ours or volume_ids else []
    left = [target for target in there if (target.uuid in ours or target.volume_id in volume_ids) and not but(target)]
    if left and run.ironic.node(run.node.uuid).is_on:
        power.switch_off(run)
    for_each(lambda target: run.ironic.remove_volume_target(run.node.uuid, target.uuid), left)


# Connector


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """How the storage is to know the machine.

    Attributes:
        host: the node.
        ip: its address on the storage's network.
        initiators: iSCSI names (iqn).
        wwpns: Fibre Channel ports.
        wwnns: Fibre Channel nodes.
        nqns: NVMe names.
        multipath: whether several paths are possible.
    """

    host: str
    ip: str | None
    initiators: tuple[str, ...]
    wwpns: tuple[str, ...]
    wwnns: tuple[str, ...]
    nqns: tuple[str, ...]

    @property
    def multipath(self) -> bool:
        """Whether there is more than one way to the storage."""
        return len(self.wwpns) > 1 or len(self.initiators) > 1


def connector(services: Services, node: Node, options: Options) -> Connector:
    """What the storage has to be told, from the node's volume connectors; the address from its VIFs where they lack one.

    Raises:
        NodeUnavailable: the node has no volume connector.
    """
    run = Run("connector", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    found: dict[str, list[str]] = {}
    for entry in run.ironic.volume_connectors(node.uuid):
        found.setdefault(entry.type, []).append(entry.connector_id)
    if not found:
        raise NodeUnavailable(
            f"node {node.label} has no volume connector",
            reason="the storage cannot know it",
            advice=f"`baremetal volume connector create --node {node.uuid} --type iqn --connector-id iqn.…`",
            node_uuid=node.uuid,
        )
    return Connector(
        host=node.uuid,
        ip=next(iter(found.get("ip", ())), None) or _address(run, found.get("mac", ())),
        initiators=tuple(found.get("iqn", ())),
        wwpns=tuple(found.get("wwpn", ())),
        wwnns=tuple(found.get("wwnn", ())),
        nqns=tuple(found.get("nqn", ())),
    )


def _address(run: Run, macs: Sequence[str]) -> str | None:
    """An address of the VIF on one of these NICs, or of any VIF; IPv4 before IPv6."""
    if not run.has_neutron:
        return None
    vifs = run.neutron.ports(run.ironic.vifs(run.node.uuid))
    wanted = {mac.lower() for mac in macs}
    chosen = [vif for vif in vifs if (vif.mac_address or "").lower() in wanted] or vifs
    addresses = [address.ip_address for vif in chosen for address in vif.fixed_ips]
    return min(addresses, key=lambda address: ip_address(address).version, default=None)


# Adding and removing, on a machine that is off


class VolumeRun(Run):
    """A volume being added or removed."""

    volume: Volume
    target_uuid: str


def _note_volume(run: VolumeRun) -> None:
    """The mark names the target, before it exists."""
    run.commit()
    _set_marked(run, {**marked(run.node.mark), run.target_uuid: run.volume.volume_id})


@unless_deleted
def _forget_volume(run: VolumeRun) -> None:
    """The mark does not name the target."""
    left = {uuid: volume for uuid, volume in marked(run.node.mark).items() if uuid != run.target_uuid}
    _set_marked(run, left)


def _set_marked(run: VolumeRun, volumes: Mapping[str, str]) -> None:
    run.node = run.ironic.node(run.node.uuid)
    if run.node.mark is None or marked(run.node.mark) == volumes:
        return
    run.node = run.ironic.update(
        run.node,
        [{"op": "add", "path": f"/extra/{MARK}/volumes", "value": dict(volumes)}],
        is_so=lambda now: marked(now.mark) == volumes,
        doing=f"noting the volumes of node {run.node.label}",
    )


def _add_target(run: VolumeRun) -> None:
    """The node has the volume."""
    add(run, {run.target_uuid: run.volume})


@unless_deleted
def _remove_target(run: VolumeRun) -> None:
    """The node does not have the volume."""
    if any(target.uuid == run.target_uuid for target in run.ironic.volume_targets(run.node.uuid)):
        run.ironic.remove_volume_target(run.node.uuid, run.target_uuid)


ADD_VOLUME: tuple[Step[VolumeRun], ...] = (
    Step("note volume", _note_volume, undo=_forget_volume),
    Step("add volume target", _add_target, undo=_remove_target),
)

REMOVE_VOLUME: tuple[Step[VolumeRun], ...] = (
    Step("remove volume target", _remove_target),
    Step("forget volume", _forget_volume),
)


def attach(services: Services, node: Node, volume: Volume, options: Options) -> VolumeTarget:
    """The node has the volume, from its next start on.

    Raises:
        NodeUnavailable: the node has to be off, or cannot have volumes.
    """
    if node.storage_interface in (None, "noop"):
        raise NodeUnavailable(
            f"node {node.label} cannot have volumes",
            reason=f"its storage interface is {node.storage_interface!r}",
            advice="Give it `cinder` or `external` (`baremetal node set --storage-interface`)",
            node_uuid=node.uuid,
        )
    run = VolumeRun("attach volume", services, options, instance_uuid=node.instance_uuid)
    run.node, run.volume = node, volume
    _check_off(node)
    (run.target_uuid,) = numbered([volume])
    carry_out(ADD_VOLUME, run)
    added = next((target for target in run.ironic.volume_targets(node.uuid) if target.uuid == run.target_uuid), None)
    if added is None:
        raise NodeTakenAway(
            f"volume {volume.volume_id} was added to node {node.label}, and is not there any more",
            reason="somebody has removed it, or taken the node away",
            node_uuid=node.uuid,
        )
    return added


def detach(services: Services, node: Node, volume_id: str, options: Options) -> None:
    """The node does not have the volume any more.

    Args:
        services: what to work on.
        node: the node.
        volume_id: the volume, or the UUID of its target.
        options: time, progress, cancellation.

    Raises:
        NotFound: it does not have it.
        InvalidRequest: it was not added by us.
        NodeUnavailable: the node has to be off.
    """
    run = VolumeRun("detach volume", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    known = marked(node.mark)
    there = {target.uuid: target.volume_id for target in run.ironic.volume_targets(node.uuid)}
    found = [uuid for uuid, volume in {**there, **known}.items() if volume_id in (uuid, volume)]
    if not found:
        raise NotFound(f"node {node.label} has no volume {volume_id}", node_uuid=node.uuid)
    run.target_uuid = found[0]
    if run.target_uuid not in known:
        raise InvalidRequest(
            f"volume {volume_id} of node {node.label} was not added by Bloomery",
            reason="what others have made is left alone",
            advice=f"`baremetal volume target delete {run.target_uuid}` removes it",
        )
    _check_off(node)
    carry_out(REMOVE_VOLUME, run)


def _check_off(node: Node) -> None:
    if node.is_on:
        raise NodeUnavailable(
            f"node {node.label} is powered on",
            reason="Ironic changes volumes only on a machine that is off",
            advice="`bloomery power off` it first",
            node_uuid=node.uuid,
        )
