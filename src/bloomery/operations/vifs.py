"""The VIFs of an instance: planned, created, plugged, unplugged, deleted, and described. Parts of several operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from bloomery.config_drive import FixedIp as DriveFixedIp
from bloomery.config_drive import NicPort, NicPortGroup, Route, VifOnNic
from bloomery.engine import for_each
from bloomery.errors import InterfaceFailed, InvalidRequest, NetworkNotFound, NodeUnavailable, NotFound, VifInUse
from bloomery.ironic import Node, Port, PortGroup
from bloomery.neutron import NeutronPort, Subnet
from bloomery.neutron.models import UNBOUND
from bloomery.operations.request import Nic
from bloomery.operations.run import Run, as_mapping, unless_deleted

GIVEN, CREATED = "given", "created"
"""What the mark says of a VIF: it was handed to us and is only unplugged, or we created it and delete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVif:
    """A VIF that is to be plugged.

    Attributes:
        words: what a person calls it.
        vif_id: Neutron's port, if it exists.
        network_id: where it is.
        fixed_ips: what Neutron is asked for, where it is to be created.
        security_group_ids: None leaves the project's default.
        port_uuid: the NIC that it has to be on.
        port_group_uuid: the bond that it has to be on.
    """

    words: str
    vif_id: str | None
    network_id: str
    fixed_ips: tuple[Mapping[str, str], ...] = ()
    security_group_ids: tuple[str, ...] | None = None
    port_uuid: str | None = None
    port_group_uuid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedVif:
    """A VIF that is plugged into an instance's node.

    Attributes:
        vif_id: Neutron's port.
        name: its name; None where Neutron was not asked, or does not show it.
        network_id: where it is.
        network: that network's name.
        mac: its MAC address, which is the NIC's.
        addresses: its fixed IPs.
        security_groups: ids.
        on: name, or MAC address, of the NIC or bond that it is on.
        is_bond: whether that is a bond.
        created: whether we created it, and so delete it with the instance.
        is_bound: whether Neutron has bound it.
    """

    vif_id: str
    name: str | None = None
    network_id: str | None = None
    network: str | None = None
    mac: str | None = None
    addresses: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    on: str | None = None
    is_bond: bool = False
    created: bool = False
    is_bound: bool | None = None


@dataclass(frozen=True, slots=True)
class Nics:
    """What a node has to plug VIFs into, and what is plugged there, as Ironic showed it.

    Attributes:
        ports: its NICs.
        groups: its bonds; where only a look for VIFs was wanted, those alone that have members.
    """

    ports: Sequence[Port]
    groups: Sequence[PortGroup]

    @property
    def vif_ids(self) -> list[str]:
        """What is plugged."""
        plugged = [port.vif_id for port in self.ports] + [group.vif_id for group in self.groups]
        return [vif_id for vif_id in plugged if vif_id is not None]


def nics_of(run: Run, node: Node) -> Nics:
    """The node's NICs and bonds."""
    return Nics(run.ironic.ports(node.uuid), run.ironic.port_groups(node.uuid))


def _with_vifs(run: Run) -> Nics:
    """The node's NICs, and the bonds that they are in, which a node mostly has none of."""
    ports = run.ironic.ports(run.node.uuid)
    has_bonds = any(port.portgroup_uuid is not None for port in ports)
    return Nics(ports, run.ironic.port_groups(run.node.uuid) if has_bonds else ())


def plan(run: Run, nics: Sequence[Nic]) -> list[PlannedVif]:
    """What each NIC of the request means in Neutron. Changes nothing.

    Raises:
        RequestError, Conflict: a network, subnet, VIF or security group is not there, or cannot be had.
    """
    return [_planned(run, nic) for nic in nics]


def _planned(run: Run, nic: Nic) -> PlannedVif:
    neutron = run.neutron
    if nic.vif is not None:
        port = neutron.port(nic.vif)
        refuse_vif_of_others(run, port)
        return PlannedVif(words=nic.words, vif_id=port.id, network_id=port.network_id)
    groups = tuple(neutron.security_group(group).id for group in nic.security_groups) or None
    if nic.subnet is not None:
        subnet = neutron.subnet(nic.subnet)
        address = {"subnet_id": subnet.id}
        if nic.fixed_ip is not None:
            _subnet_with(nic.fixed_ip, [subnet], nic.words)
            address["ip_address"] = nic.fixed_ip
        return PlannedVif(
            words=nic.words,
            vif_id=None,
            network_id=subnet.network_id,
            fixed_ips=(address,),
            security_group_ids=groups,
        )
    network = neutron.network(str(nic.network))
    addresses: tuple[Mapping[str, str], ...] = ()
    if nic.fixed_ip is not None:
        subnet = _subnet_with(nic.fixed_ip, neutron.subnets_of(network.id), nic.words)
        addresses = ({"subnet_id": subnet.id, "ip_address": nic.fixed_ip},)
    return PlannedVif(
        words=nic.words, vif_id=None, network_id=network.id, fixed_ips=addresses, security_group_ids=groups
    )


def _subnet_with(address: str, subnets: Sequence[Subnet], words: str) -> Subnet:
    for subnet in subnets:
        if ip_address(address) in ip_network(subnet.cidr):
            return subnet
    raise InvalidRequest(
        f"fixed IP {address} is not on {words}",
        reason=f"its subnets are {', '.join(subnet.cidr for subnet in subnets) or 'none at all'}",
        advice="Give an address of one of them",
    )


def refuse_vif_of_others(run: Run, port: NeutronPort) -> None:
    """A VIF that is plugged elsewhere, or belongs to another machine, is refused, not stolen.

    Raises:
        VifInUse: says who has it.
    """
    here = run.node.uuid if run.has_node else None
    if port.device_id and port.device_id != run.instance_uuid:
        raise VifInUse(f"VIF {port.label} belongs to device {port.device_id}", advice="Give a VIF that is free")
    if port.is_bound and port.host_id != here:
        raise VifInUse(
            f"VIF {port.label} is plugged into {port.host_id}", advice="Unplug it there first, or give another"
        )


def refuse_vifs_of_others(run: Run, vif_ids: Sequence[str]) -> None:
    """None of these VIFs, which exist, is plugged elsewhere or belongs to another machine. One request for all of them.

    Raises:
        VifInUse: says who has it.
        NetworkNotFound: Neutron does not know one of them.
    """
    neutron = run.neutron_to_ask
    if neutron is None or not vif_ids:
        return
    there = {port.id: port for port in neutron.ports(vif_ids)}
    for vif_id in vif_ids:
        if vif_id not in there:
            raise NetworkNotFound(
                f"there is no VIF {vif_id}", advice="It was deleted, or these credentials do not see it"
            )
        refuse_vif_of_others(run, there[vif_id])


def place(run: Run, nics: Sequence[Nic], planned: Sequence[PlannedVif]) -> list[PlannedVif]:
    """The plan with the NICs and bonds of the node that the request names. Changes nothing.

    A single VIF that may be on any NIC is Ironic's to place, and to refuse.

    Raises:
        InvalidRequest: the node has no such NIC, one that is in a bond, too few of them, or a bond that cannot carry a VIF.
    """
    if not must_look(nics):
        return list(planned)
    there = nics_of(run, run.node)
    ports, groups = there.ports, there.groups
    placed = [_placed(run.node, nic, vif, ports, groups) for nic, vif in zip(nics, planned, strict=True)]
    named = [uuid for vif in placed for uuid in (vif.port_uuid, vif.port_group_uuid) if uuid is not None]
    if len(named) > len(set(named)):
        raise InvalidRequest("two VIFs are to be on the same NIC", advice="Name another NIC for one of them")
    if len(nics) > room_on(ports, groups):
        raise InvalidRequest(
            f"node {run.node.label} cannot take {len(nics)} VIFs",
            reason=words_for_room(ports, groups),
            advice="Ask for fewer VIFs, or for another node",
        )
    return placed


def must_look(nics: Sequence[Nic]) -> bool:
    """Whether it depends on a node's NICs if it can take these VIFs."""
    return len(nics) > 1 or any(nic.on is not None for nic in nics)


def room_on(ports: Sequence[Port], groups: Sequence[PortGroup], *, taken: Iterable[str] = ()) -> int:
    """How many VIFs these NICs and bonds take: each NIC in no bond takes one, and each bond that has members.

    A bond one of whose members has a VIF of its own is none: Ironic then takes each of its members for a NIC.

    Args:
        ports: the node's NICs.
        groups: its bonds.
        taken: the NICs that have VIFs.
    """
    split = {port.portgroup_uuid for port in ports if port.portgroup_uuid is not None and port.uuid in set(taken)}
    bonded = {port.portgroup_uuid for port in ports} - split
    alone = [port for port in ports if port.portgroup_uuid is None or port.portgroup_uuid in split]
    return len(alone) + len([group for group in groups if group.uuid in bonded])


def why_no_room(run: Run, node: Node, nics: Sequence[Nic]) -> str | None:
    """Why the node cannot take these NICs of a request, before any of them is planned; None if it can."""
    there = nics_of(run, node)
    ports, groups = there.ports, there.groups
    names = {name for group in groups for name in (group.uuid, group.name, group.address)}
    names |= {name for port in ports for name in (port.uuid, port.name, port.address)}
    missing = [nic.on for nic in nics if nic.on is not None and not {nic.on, nic.on.lower()} & names]
    if missing:
        return f"it has no NIC {missing[0]!r}"
    bonded = [nic.on for nic in nics for port in ports if port.portgroup_uuid is not None and _is_named(port, nic.on)]
    if bonded:
        return f"its NIC {bonded[0]!r} is in a bond"
    return None if len(nics) <= room_on(ports, groups) else words_for_room(ports, groups)


def words_for_room(ports: Sequence[Port], groups: Sequence[PortGroup]) -> str:
    """What takes VIFs on a node, for a user who wanted more."""
    bonded = sum(port.portgroup_uuid is not None for port in ports)
    words = f"it has {len(ports)} NICs and {len(groups)} bonds"
    return f"{words}, and the {bonded} NICs in bonds take no VIFs of their own" if bonded else words


def _placed(node: Node, nic: Nic, vif: PlannedVif, ports: Sequence[Port], groups: Sequence[PortGroup]) -> PlannedVif:
    if nic.on is None:
        return vif
    for group in groups:
        if nic.on in (group.uuid, group.name, group.address):
            _check_bond(group, ports)
            return _replace(vif, port_group_uuid=group.uuid)
    for port in ports:
        if _is_named(port, nic.on):
            _refuse_member(port, nic.on, groups)
            return _replace(vif, port_uuid=port.uuid)
    there = [group.name or group.uuid for group in groups] + [port.name or port.address for port in ports]
    raise InvalidRequest(
        f"node {node.label} has no NIC {nic.on!r}",
        reason=f"it has {', '.join(there) or 'none'}",
        advice="Name one of them",
    )


def _is_named(port: Port, on: str | None) -> bool:
    return on is not None and (on == port.name or on.lower() in (port.uuid, port.name, port.address.lower()))


def _refuse_member(port: Port, on: str, groups: Sequence[PortGroup]) -> None:
    """A NIC that is in a bond is refused: Ironic says of it only that there are not enough free NICs."""
    if port.portgroup_uuid is not None:
        bond = next((group.name for group in groups if group.uuid == port.portgroup_uuid and group.name), None)
        raise InvalidRequest(
            f"NIC {on!r} takes no VIF of its own",
            reason=f"it is in bond {bond or port.portgroup_uuid}",
            advice="Name the bond, or a NIC that is in none",
        )


def _check_bond(group: PortGroup, ports: Iterable[Port]) -> None:
    members = [port for port in ports if port.portgroup_uuid == group.uuid]
    if not members:
        raise InvalidRequest(f"bond {group.name or group.uuid} has no members", advice="Choose another NIC")
    wires = {port.physical_network for port in members}
    if len(wires) > 1:
        listed = ", ".join(f"{port.name or port.address} on {port.physical_network or 'none'}" for port in members)
        raise InvalidRequest(
            f"bond {group.name or group.uuid} cannot carry a VIF",
            reason=f"its members are on different physical networks: {listed}",
            advice="Correct the members' physical_network, or choose another NIC",
        )


def _replace(vif: PlannedVif, *, port_uuid: str | None = None, port_group_uuid: str | None = None) -> PlannedVif:
    return PlannedVif(
        words=vif.words,
        vif_id=vif.vif_id,
        network_id=vif.network_id,
        fixed_ips=vif.fixed_ips,
        security_group_ids=vif.security_group_ids,
        port_uuid=port_uuid,
        port_group_uuid=port_group_uuid,
    )


def create(run: Run, planned: Sequence[PlannedVif], name: str, *, first: int = 0) -> list[tuple[PlannedVif, str]]:
    """Every planned VIF exists; with each, Neutron's id of it.

    Args:
        run: the operation.
        planned: what is wanted.
        name: the instance's name, from which the VIFs get theirs.
        first: the number in the first VIF's name.
    """
    created: list[tuple[PlannedVif, str]] = []
    for number, vif in enumerate(planned, first):
        vif_id = vif.vif_id
        if vif_id is None:
            port = run.neutron.create_port(
                instance_uuid=str(run.instance_uuid),
                name=f"{name}-{number}",
                network_id=vif.network_id,
                node_uuid=run.node.uuid,
                fixed_ips=vif.fixed_ips,
                security_group_ids=vif.security_group_ids,
            )
            vif_id = port.id
        created.append((vif, vif_id))
    return created


def _may_be_anywhere(placed: tuple[PlannedVif, str]) -> bool:
    return placed[0].port_uuid is None and placed[0].port_group_uuid is None


def plug(run: Run, vifs: Sequence[tuple[PlannedVif, str]]) -> Nics:
    """Ironic shows every one of the VIFs on a NIC; says on which. Those with a NIC of their own come before the others.

    Raises:
        InterfaceFailed: Ironic refuses one, or takes it and does not show it.
    """
    ask(run, vifs)
    return must_be_on(run, {vif_id: f"the VIF on {vif.words}" for vif, vif_id in vifs})


def ask(run: Run, vifs: Sequence[tuple[PlannedVif, str]]) -> None:
    """Ironic has taken every one of the VIFs.

    Raises:
        InterfaceFailed: it refuses one.
    """
    for vif, vif_id in sorted(vifs, key=_may_be_anywhere):
        run.ironic.attach_vif(run.node.uuid, vif_id, port_uuid=vif.port_uuid, port_group_uuid=vif.port_group_uuid)


def must_be_on(run: Run, vifs: Mapping[str, str]) -> Nics:
    """The node's NICs and bonds, which have all of the VIFs.

    Args:
        run: the operation.
        vifs: their ids, and what a person calls them.

    Raises:
        InterfaceFailed: one of them is on no NIC.
    """
    if not vifs:
        return Nics((), ())
    nics = _with_vifs(run)
    plugged = set(nics.vif_ids)
    for vif_id, words in vifs.items():
        if vif_id not in plugged:
            raise InterfaceFailed(
                f"{words} is not plugged, although Ironic took it",
                reason=f"node {run.node.label} has the network interface {run.node.network_interface!r}",
                advice="VIFs need `flat` or `neutron`",
                node_uuid=run.node.uuid,
            )
    return nics


def marked(mark: Mapping[str, Any] | None) -> dict[str, str]:
    """The VIFs that the mark names, and whether each was given or created."""
    return {str(vif): str(kind) for vif, kind in as_mapping(as_mapping(mark).get("vifs")).items()}


def on_node(run: Run, mark: Mapping[str, Any] | None) -> dict[str, str]:
    """The VIFs that the mark names; or, where it was written before they were known, all that are on the node by now.

    The claim has seen to it that there was none before.
    """
    if mark is None or "vifs" in mark or run.node.instance_uuid != mark.get("instance_uuid"):
        return marked(mark)
    return dict.fromkeys(run.ironic.vifs(run.node.uuid), GIVEN)


def ours(run: Run, mark: Mapping[str, Any] | None) -> dict[str, str]:
    """Every VIF that is ours to unplug: those that belong to the mark, and those that Neutron says we created."""
    known = on_node(run, mark)
    if run.has_neutron and run.instance_uuid is not None:
        known |= {
            port.id: CREATED
            for port in run.neutron.ports_of(run.instance_uuid)
            if port.was_created_for(run.instance_uuid)
        }
    return known


def unplug(run: Run, vif_ids: Iterable[str]) -> None:
    """Ironic lists none of these VIFs on the node. Those that it did not list are left alone.

    Raises:
        InterfaceFailed: Ironic does not let one go; the others are gone.
    """
    wanted = set(vif_ids)
    if not wanted:
        return
    unplug_these(run, [vif_id for vif_id in run.ironic.vifs(run.node.uuid) if vif_id in wanted])


def unplug_these(run: Run, plugged: Iterable[str]) -> None:
    """Ironic lists none of these VIFs on the node, which it listed a moment ago.

    Raises:
        InterfaceFailed: Ironic does not let one go; the others are gone.
    """
    for_each(lambda vif_id: run.ironic.detach_vif(run.node.uuid, vif_id), plugged)


def delete_created(
    run: Run, mark: Mapping[str, Any] | None = None, *, only: Callable[[str], bool] = lambda _vif_id: True
) -> None:
    """None of the VIFs that we created for the instance is there.

    Args:
        run: the operation.
        mark: names VIFs that were created for the instance, by us or by whom we took it over from.
        only: which of them, by id.
    """
    if not run.has_neutron or run.instance_uuid is None:
        return
    created = [vif_id for vif_id, kind in ours(run, mark).items() if kind == CREATED and only(vif_id)]
    for_each(lambda vif_id: run.neutron.delete_port(vif_id), created)
    if created and run.has_node:
        # Another may have plugged one after we looked. Without its port nobody could tell any more whose it was.
        unless_deleted(lambda again: unplug(again, created))(run)


def left_by_former(run: Run, expected: Iterable[str], former: Mapping[str, Any] | None) -> list[str]:
    """The VIFs that a former instance of ours has left on the node, which has no others but the expected ones.

    Args:
        run: the operation.
        expected: the VIFs that may be there already.
        former: our mark as it was before the claim.

    Raises:
        NodeUnavailable: it has a VIF of somebody else's.
    """
    there = set(run.ironic.vifs(run.node.uuid)) - set(expected)
    for vif_id in there - marked(former).keys():
        raise NodeUnavailable(
            f"node {run.node.label} has VIF {vif_id} of somebody else",
            reason="an instance on it would be wired to another tenant's network",
            advice=f"See whose it is, then `baremetal node vif detach {run.node.uuid} {vif_id}`",
            node_uuid=run.node.uuid,
        )
    return sorted(there)


def describe(run: Run, node: Node, nics: Nics | None = None) -> list[PluggedVif]:
    """The VIFs on the node, with what Ironic and Neutron tell of them.

    Args:
        run: the operation.
        node: the node.
        nics: its NICs and bonds, where they were just read.
    """
    if nics is None:
        try:
            nics = nics_of(run, node)
        except NotFound:
            return []
    on: dict[str, tuple[str, bool]] = {}
    for port in nics.ports:
        if port.vif_id is not None:
            on[port.vif_id] = (port.name or port.address, False)
    for group in nics.groups:
        if group.vif_id is not None:
            on[group.vif_id] = (group.name or group.address or group.uuid, True)
    if not on:
        return []
    ports = {port.id: port for port in run.neutron.ports(list(on))} if run.has_neutron else {}
    on_networks = {port.network_id for port in ports.values()}
    names = {network.id: network.name for network in run.neutron.networks(on_networks)} if ports else {}
    kinds = marked(node.mark)
    if node.instance_uuid is not None:
        kinds |= {port.id: CREATED for port in ports.values() if port.was_created_for(node.instance_uuid)}
    return [_described(vif_id, ports.get(vif_id), place, names, kinds.get(vif_id)) for vif_id, place in on.items()]


def unplugged(run: Run, node: Node, plugged: Iterable[PluggedVif]) -> list[PluggedVif]:
    """The VIFs that belong to the instance and are on no NIC: what a detach that was broken off has left."""
    if not run.has_neutron:
        return []
    kinds = ours(run, node.mark)
    ports = run.neutron.ports(list(kinds.keys() - {vif.vif_id for vif in plugged}))
    return [_described(port.id, port, None, {}, kinds[port.id]) for port in ports]


def _described(
    vif_id: str, port: NeutronPort | None, on: tuple[str, bool] | None, networks: Mapping[str, str], kind: str | None
) -> PluggedVif:
    place, is_bond = on if on is not None else (None, False)
    if port is None:
        return PluggedVif(vif_id=vif_id, on=place, is_bond=is_bond, created=kind == CREATED)
    return PluggedVif(
        vif_id=vif_id,
        name=port.name or None,
        network_id=port.network_id,
        network=networks.get(port.network_id) or None,
        mac=port.mac_address,
        addresses=tuple(address.ip_address for address in port.fixed_ips),
        security_groups=tuple(port.security_groups),
        on=place,
        is_bond=is_bond,
        created=kind == CREATED,
        is_bound=port.vif_type not in UNBOUND,
    )


def on_nics(run: Run, vif_ids: Sequence[str], there: Nics) -> list[VifOnNic]:
    """The VIFs as the network data of a config drive needs them, in the given order, trunks' sub-ports behind theirs.

    Args:
        run: the operation.
        vif_ids: which.
        there: the node's NICs and bonds, with the VIFs plugged.
    """
    if not vif_ids:
        return []
    nics = _nics(there)
    vifs = {port.id: port for port in run.neutron.ports(vif_ids)}
    riders: dict[str, list[tuple[NeutronPort, int]]] = {}
    for vif in vifs.values():
        subs = vif.trunk_details.sub_ports if vif.trunk_details is not None else []
        found = {port.id: port for port in run.neutron.ports([sub.port_id for sub in subs])}
        riders[vif.id] = [(found[sub.port_id], sub.segmentation_id) for sub in subs if sub.port_id in found]
    everything = [*vifs.values(), *(vif for subs in riders.values() for vif, _ in subs)]
    subnets = {
        subnet.id: subnet
        for subnet in run.neutron.subnets([address.subnet_id for vif in everything for address in vif.fixed_ips])
    }
    on_networks = {vif.network_id for vif in everything}
    mtus = {network.id: network.mtu for network in run.neutron.networks(on_networks)}
    placed: list[VifOnNic] = []
    for vif_id in vif_ids:
        if vif_id not in vifs or vif_id not in nics:
            raise InterfaceFailed(
                f"VIF {vif_id} is on no NIC of node {run.node.label}, although it was plugged", node_uuid=run.node.uuid
            )
        for vif, vlan_id in [(vifs[vif_id], None), *riders[vif_id]]:
            placed.append(_on_nic(vif, nics[vif_id], vlan_id, subnets, mtus))
    return placed


def _nics(there: Nics) -> dict[str, NicPort | NicPortGroup]:
    nics: dict[str, NicPort | NicPortGroup] = {
        port.vif_id: NicPort(port.address) for port in there.ports if port.vif_id is not None
    }
    for group in there.groups:
        if group.vif_id is not None:
            nics[group.vif_id] = NicPortGroup(
                members=tuple(port.address for port in there.ports if port.portgroup_uuid == group.uuid),
                mode=group.mode,
                properties=group.properties,
                address=group.address,
            )
    return nics


def _on_nic(
    vif: NeutronPort,
    nic: NicPort | NicPortGroup,
    vlan_id: int | None,
    subnets: Mapping[str, Subnet],
    mtus: Mapping[str, int | None],
) -> VifOnNic:
    addresses = []
    for address in vif.fixed_ips:
        subnet = subnets.get(address.subnet_id)
        if subnet is None:
            raise NetworkNotFound(
                f"there is no subnet {address.subnet_id}, on which VIF {vif.label} has {address.ip_address}",
                reason="it was deleted, or these credentials may not read it",
                advice="Neutron's right `get_subnet` is needed for the config drive",
            )
        addresses.append(
            DriveFixedIp(
                ip_address=address.ip_address,
                cidr=subnet.cidr,
                gateway_ip=subnet.gateway_ip,
                enable_dhcp=subnet.enable_dhcp,
                ipv6_address_mode=subnet.ipv6_address_mode,
                host_routes=tuple(Route(route.destination, route.nexthop) for route in subnet.host_routes),
                dns_nameservers=tuple(subnet.dns_nameservers),
            )
        )
    return VifOnNic(
        vif_id=vif.id,
        network_id=vif.network_id,
        mac=vif.mac_address or nic.macs[0],
        nic=nic,
        mtu=mtus.get(vif.network_id) or 1500,
        vlan_id=vlan_id,
        fixed_ips=tuple(addresses),
    )
