"""Interfaces of a deployed instance: VIFs plugged and unplugged, and their security groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bloomery.engine import Step
from bloomery.errors import InterfaceFailed, NetworkNotFound, NodeTakenAway, NodeUnavailable, VifInUse
from bloomery.ironic import Node
from bloomery.ironic.models import MARK
from bloomery.neutron import NeutronPort, SecurityGroup
from bloomery.operations import vifs
from bloomery.operations.request import Nic
from bloomery.operations.run import Options, Run, Services, carry_out, unless_deleted
from bloomery.operations.vifs import CREATED, GIVEN, PlannedVif, PluggedVif
from bloomery.states import Provision

# Request


class AttachRun(Run):
    """A VIF being plugged."""

    nic: Nic
    name: str
    planned: PlannedVif
    vif_id: str | None = None
    created_name: str | None = None


class DetachRun(Run):
    """A VIF being unplugged."""

    vif: str
    vif_id: str
    created: bool


def interfaces(services: Services, node: Node, options: Options) -> list[PluggedVif]:
    """The VIFs of the instance."""
    run = Run("list interfaces", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    return vifs.describe(run, node)


def attach(services: Services, node: Node, nic: Nic, options: Options) -> PluggedVif:
    """The VIF is on a NIC of the instance.

    Raises:
        RequestError, Conflict: it cannot be had; nothing was changed.
        InterfaceFailed: Ironic refuses it; what was created for it is gone.
    """
    run = AttachRun("attach interface", services, options, instance_uuid=node.instance_uuid)
    run.node, run.nic = node, nic
    run.name = str((node.mark or {}).get("name") or f"instance-{str(node.instance_uuid)[:8]}")
    carry_out(ATTACH, run)
    plugged = next((vif for vif in vifs.describe(run, run.node) if vif.vif_id == run.vif_id), None)
    if plugged is None:
        raise NodeTakenAway(
            f"VIF {run.vif_id} was plugged into node {node.label}, and is not any more",
            reason="somebody has unplugged it, or taken the node away",
            node_uuid=node.uuid,
        )
    return plugged


def detach(services: Services, node: Node, vif: str, options: Options) -> None:
    """The VIF is on no NIC of the instance; if we created it, it is deleted.

    Args:
        services: what to work on.
        node: the instance's node.
        vif: the VIF's id, name, MAC address or one of its addresses.
        options: time, progress, cancellation.

    Raises:
        NetworkNotFound: the instance has no such VIF.
        InterfaceFailed: Ironic does not let it go.
    """
    run = DetachRun("detach interface", services, options, instance_uuid=node.instance_uuid)
    run.node, run.vif = node, vif
    carry_out(DETACH, run)


def plug_given(services: Services, node: Node, vif_id: str, options: Options, *, on: str | None = None) -> None:
    """The VIF, which exists and is its caller's to delete, is on a NIC of the instance. Finding it there is fine.

    Args:
        services: what to work on.
        node: the instance's node.
        vif_id: Neutron's port.
        options: time, progress, cancellation.
        on: the NIC or bond that it has to be on; None lets Ironic choose.

    Raises:
        VifInUse: it is plugged elsewhere, or another machine's.
        InvalidRequest: the node has no such NIC.
        NodeUnavailable: the node is in no state for it.
        InterfaceFailed: Ironic refuses it.
    """
    run = AttachRun("attach interface", services, options, instance_uuid=node.instance_uuid)
    run.node, run.vif_id, run.nic = node, vif_id, Nic(vif=vif_id, on=on)
    run.planned = PlannedVif(words=run.nic.words, vif_id=vif_id, network_id="")
    if vif_id not in run.ironic.vifs(node.uuid):
        carry_out(ATTACH_GIVEN, run)


def unplug_all(services: Services, node: Node, instance_uuid: str, vif_ids: Iterable[str], options: Options) -> None:
    """None of these VIFs is on a NIC of the node. A node that carries somebody else's instance is left alone.

    Raises:
        InterfaceFailed: Ironic does not let one go.
    """
    run = DetachRun("detach interface", services, options, instance_uuid=instance_uuid)
    run.node = run.ironic.node(node.uuid)
    wanted = set(vif_ids)
    if not wanted or run.node.instance_uuid not in (None, instance_uuid):
        return
    run.commit()
    vifs.unplug(run, wanted)
    left = wanted & set(run.ironic.vifs(node.uuid))
    if left:
        raise InterfaceFailed(f"VIF {', '.join(left)} is still plugged, although Ironic let it go", node_uuid=node.uuid)
    _set_marked(run, {vif: kind for vif, kind in vifs.marked(run.node.mark).items() if vif not in wanted})


# Steps' bodies of attach, in their order


def check_active(run: Run) -> None:
    """The instance runs. Changes nothing."""
    run.node = run.ironic.node(run.node.uuid)
    if run.node.instance_uuid != run.instance_uuid:
        raise NodeTakenAway(f"node {run.node.label} carries another instance by now", node_uuid=run.node.uuid)
    if run.node.state is not Provision.ACTIVE:
        raise NodeUnavailable(
            f"the interfaces of node {run.node.label} cannot be changed",
            reason=f"it is in {run.node.provision_state!r}",
            advice="Wait until it is active",
            node_uuid=run.node.uuid,
        )


def check_given(run: AttachRun) -> None:
    """The VIF is nobody else's, and can be on the NIC that it has to be on. Changes nothing."""
    vifs.refuse_vifs_of_others(run, [str(run.vif_id)])
    if run.nic.on is not None:
        (run.planned,) = vifs.place(run, [run.nic], [run.planned])
    run.commit()


def plan_vif(run: AttachRun) -> None:
    """What is to be plugged is there and can be had. Changes nothing."""
    (planned,) = vifs.plan(run, [run.nic])
    (run.planned,) = vifs.place(run, [run.nic], [planned])
    plugged = run.ironic.vifs(run.node.uuid)
    if run.planned.vif_id in plugged:
        raise VifInUse(f"VIF {run.nic.vif} is plugged into this instance already")
    ports, groups = run.ironic.ports(run.node.uuid), run.ironic.port_groups(run.node.uuid)
    taken = [port.uuid for port in ports if port.vif_id is not None]
    if len(plugged) >= vifs.room_on(ports, groups, taken=taken):
        raise NodeUnavailable(
            f"node {run.node.label} has no free NIC",
            reason=f"{vifs.words_for_room(ports, groups)}; {len(plugged)} VIFs are plugged",
        )


def create_vif(run: AttachRun) -> None:
    """The VIF exists."""
    run.commit()
    number = len(run.ironic.vifs(run.node.uuid))
    names = {port.name for port in run.neutron.ports_of(str(run.instance_uuid))}
    while f"{run.name}-{number}" in names:
        number += 1
    run.created_name = f"{run.name}-{number}"
    ((_, run.vif_id),) = vifs.create(run, [run.planned], run.name, first=number)


def delete_vif(run: AttachRun) -> None:
    """If it was to be created, it does not exist."""
    if run.planned.vif_id is None and run.created_name is not None:
        created = {port.id for port in run.neutron.ports_of(str(run.instance_uuid)) if port.name == run.created_name}
        vifs.delete_created(run, only=created.__contains__)


def note_vif(run: AttachRun) -> None:
    """The mark names the VIF, before it is plugged."""
    kind = GIVEN if run.planned.vif_id is not None else CREATED
    _set_marked(run, {**vifs.marked(run.node.mark), str(run.vif_id): kind})


@unless_deleted
def forget_vif(run: AttachRun) -> None:
    """The mark does not name the VIF."""
    run.node = run.ironic.node(run.node.uuid)
    _set_marked(run, {vif: kind for vif, kind in vifs.marked(run.node.mark).items() if vif != run.vif_id})


def plug_vif(run: AttachRun) -> None:
    """The VIF is on a NIC, and the node still the instance's."""
    vifs.plug(run, [(run.planned, str(run.vif_id))])
    run.node = run.ironic.node(run.node.uuid)
    if run.node.instance_uuid != run.instance_uuid:
        raise NodeTakenAway(
            f"node {run.node.label} does not carry the instance any more",
            reason=f"it carries {run.node.instance_uuid or 'none'}",
            node_uuid=run.node.uuid,
        )


@unless_deleted
def unplug_vif(run: AttachRun) -> None:
    """The VIF is on no NIC."""
    if run.vif_id is not None:
        vifs.unplug(run, [run.vif_id])


def _set_marked(run: Run, kinds: Mapping[str, str]) -> None:
    if run.node.mark is None or vifs.marked(run.node.mark) == kinds:
        return
    run.node = run.ironic.update(
        run.node,
        [{"op": "add", "path": f"/extra/{MARK}/vifs", "value": dict(kinds)}],
        is_so=lambda now: vifs.marked(now.mark) == kinds,
        doing=f"noting the VIFs of node {run.node.label}",
    )


# Steps' bodies of detach, in their order


def find_vif(run: DetachRun) -> None:
    """The instance has the VIF. Changes nothing."""
    plugged = vifs.describe(run, run.node)
    for vif in [*plugged, *vifs.unplugged(run, run.node, plugged)]:
        if run.vif in (vif.vif_id, vif.name, vif.mac, *vif.addresses):
            run.vif_id, run.created = vif.vif_id, vif.created
            return
    there = ", ".join(vif.name or vif.vif_id for vif in plugged) or "none"
    raise NetworkNotFound(f"instance {run.instance_uuid} has no VIF {run.vif!r}", reason=f"it has {there}")


def unplug(run: DetachRun) -> None:
    """The VIF is on no NIC."""
    run.commit()
    vifs.unplug(run, [run.vif_id])
    if run.vif_id in run.ironic.vifs(run.node.uuid):
        raise InterfaceFailed(f"VIF {run.vif_id} is still plugged, although Ironic let it go", node_uuid=run.node.uuid)


def delete_if_created(run: DetachRun) -> None:
    """If we created the VIF, it does not exist."""
    if run.created:
        vifs.delete_created(run, {"vifs": {run.vif_id: CREATED}}, only=lambda vif_id: vif_id == run.vif_id)


def forget(run: DetachRun) -> None:
    """The mark does not name the VIF."""
    run.node = run.ironic.node(run.node.uuid)
    _set_marked(run, {vif: kind for vif, kind in vifs.marked(run.node.mark).items() if vif != run.vif_id})


ATTACH: tuple[Step[AttachRun], ...] = (
    Step("check state", check_active),
    Step("plan VIF", plan_vif),
    Step("create VIF", create_vif, undo=delete_vif),
    Step("note VIF", note_vif, undo=forget_vif),
    Step("plug VIF", plug_vif, undo=unplug_vif),
)

ATTACH_GIVEN: tuple[Step[AttachRun], ...] = (
    Step("check state", check_active),
    Step("check VIF", check_given),
    Step("note VIF", note_vif, undo=forget_vif),
    Step("plug VIF", plug_vif, undo=unplug_vif),
)

DETACH: tuple[Step[DetachRun], ...] = (
    Step("check state", check_active),
    Step("find VIF", find_vif),
    Step("unplug VIF", unplug),
    Step("delete VIF", delete_if_created),
    Step("forget VIF", forget),
)


# Security groups


def security_groups(services: Services, node: Node, options: Options) -> list[tuple[PluggedVif, list[SecurityGroup]]]:
    """Of each VIF of the instance: its security groups."""
    run = Run("show security groups", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    plugged = vifs.describe(run, node)
    wanted = [group_id for vif in plugged for group_id in vif.security_groups]
    groups = {group.id: group for group in run.neutron.security_groups(wanted)}
    return [(vif, [groups[group_id] for group_id in vif.security_groups if group_id in groups]) for vif in plugged]


class SecurityGroupRun(Run):
    """Security groups being changed.

    Attributes:
        group: the group.
        vif: the VIF; None means all of the instance.
        add: whether the VIFs get it or lose it.
        before: what each VIF had.
    """

    group: str
    vif: str | None
    add: bool
    group_id: str
    before: Sequence[NeutronPort] = ()


def change_security_group(
    services: Services, node: Node, group: str, options: Options, *, add: bool, vif: str | None = None
) -> None:
    """The VIFs of the instance have the security group, or have it not.

    Args:
        services: what to work on.
        node: the instance's node.
        group: name or id.
        options: time, progress, cancellation.
        add: True gives it to them, False takes it.
        vif: id, name, MAC address or an address of one VIF; None means all of them.

    Raises:
        NetworkNotFound: there is no such group or VIF.
        InterfaceFailed: Neutron refuses; the VIFs have what they had.
    """
    run = SecurityGroupRun("change security group", services, options, instance_uuid=node.instance_uuid)
    run.node, run.group, run.vif, run.add = node, group, vif, add
    carry_out(CHANGE_SECURITY_GROUP, run)


def find_group(run: SecurityGroupRun) -> None:
    """The group is there, and the VIFs. Changes nothing."""
    run.group_id = run.neutron.security_group(run.group).id
    plugged = vifs.describe(run, run.node)
    chosen = [vif for vif in plugged if run.vif in (None, vif.vif_id, vif.name, vif.mac, *vif.addresses)]
    if not chosen:
        there = ", ".join(vif.name or vif.vif_id for vif in plugged) or "none"
        raise NetworkNotFound(f"instance {run.instance_uuid} has no VIF {run.vif or ''!r}", reason=f"it has {there}")
    run.before = run.neutron.ports([vif.vif_id for vif in chosen])


def set_groups(run: SecurityGroupRun) -> None:
    """Every chosen VIF has the group, or has it not."""
    run.commit()
    for port in run.before:
        groups = [group for group in port.security_groups if group != run.group_id]
        if run.add:
            groups.append(run.group_id)
        if set(groups) != set(port.security_groups):
            run.neutron.set_security_groups(port.id, groups)


def restore_groups(run: SecurityGroupRun) -> None:
    """Every chosen VIF has what it had."""
    now = {port.id: set(port.security_groups) for port in run.neutron.ports([port.id for port in run.before])}
    for port in run.before:
        if port.id in now and now[port.id] != set(port.security_groups):
            run.neutron.set_security_groups(port.id, port.security_groups)


CHANGE_SECURITY_GROUP: tuple[Step[SecurityGroupRun], ...] = (
    Step("find security group", find_group),
    Step("set security groups", set_groups, undo=restore_groups),
)
