"""Network data made of VIFs: what Neutron says of each, and the port or port group of the node that it is on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bloomery.config_drive import checks
from bloomery.config_drive.network_data import (
    DEFAULT_MTU,
    BondLink,
    BondMode,
    Link,
    Network,
    NetworkData,
    NetworkType,
    PhysicalLink,
    Route,
    VlanLink,
)
from bloomery.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class NicPort:
    """A port of the node: one network card.

    Args:
        address: its MAC address.
    """

    address: str

    def __post_init__(self) -> None:
        """The address is a MAC address."""
        object.__setattr__(self, "address", checks.mac(self.address, "the address of a port"))

    @property
    def macs(self) -> tuple[str, ...]:
        """The card's MAC address."""
        return (self.address,)


@dataclass(frozen=True, slots=True, kw_only=True)
class NicPortGroup:
    """A port group of the node, as Ironic holds it: several network cards that are one bond.

    Args:
        members: MAC addresses of its ports.
        mode: a bonding mode. None takes active-backup, as Ironic does.
        properties: bonding options, with or without `bond_` before them.
        address: the bond's MAC address. None takes the first member's, as Linux does.
    """

    members: tuple[str, ...]
    mode: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None

    def __post_init__(self) -> None:
        """There are members, and each address is a MAC address."""
        members = tuple(checks.mac(member, "the address of a port group's member") for member in self.members)
        if not members:
            raise InvalidRequest(
                f"port group {self.address or 'without an address'} has no members",
                reason="a bond without members cannot carry a VIF",
                advice="Put the node's ports into the port group, or plug the VIF into a port",
            )
        object.__setattr__(self, "members", members)
        if self.address is not None:
            object.__setattr__(self, "address", checks.mac(self.address, "the address of a port group"))

    @property
    def macs(self) -> tuple[str, ...]:
        """The members' MAC addresses."""
        return self.members


Nic = NicPort | NicPortGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedIp:
    """An address of a VIF, with what its subnet says; the names are Neutron's.

    Args:
        host_routes: the subnet's, besides the default route by `gateway_ip`.
        ipv6_address_mode: slaac, dhcpv6-stateful, dhcpv6-stateless, or None.
    """

    ip_address: str
    cidr: str
    gateway_ip: str | None = None
    enable_dhcp: bool = False
    ipv6_address_mode: str | None = None
    host_routes: tuple[Route, ...] = ()
    dns_nameservers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """The address lies in the subnet, and routes are of its IP version."""
        subnet = checks.ip_network(self.cidr, "the CIDR of a subnet")
        address = checks.ip_address(self.ip_address, "the fixed IP")
        if address not in subnet:
            raise InvalidRequest(
                f"fixed IP {address} is not in {subnet}",
                advice="Give an address of the subnet, or the subnet of the address",
            )
        for route in self._routes():
            if checks.ip_network(route.destination).version != subnet.version:
                raise InvalidRequest(
                    f"gateway {route.gateway} is no gateway for {subnet}",
                    reason="one is IPv4, the other IPv6",
                    advice="Give routes of the subnet's IP version",
                )

    @property
    def interface(self) -> str:
        """The address with its prefix."""
        return f"{checks.ip_address(self.ip_address)}/{checks.ip_network(self.cidr).prefixlen}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes of the subnet. A default route among the host routes stands for the gateway's."""
        return tuple(self._routes())

    def _routes(self) -> Iterator[Route]:
        if self.gateway_ip and not any(route.is_default for route in self.host_routes):
            gateway = checks.ip_address(self.gateway_ip, "the gateway of a subnet")
            yield Route("0.0.0.0/0" if gateway.version == 4 else "::/0", str(gateway))
        yield from self.host_routes

    @property
    def type(self) -> NetworkType:
        """How Neutron hands the address out.

        A subnet of IPv6 without an address mode is served by no agent of Neutron's, whatever its DHCP flag says.
        """
        if checks.ip_network(self.cidr).version == 4:
            return NetworkType.IPV4_DHCP if self.enable_dhcp else NetworkType.IPV4
        if not self.enable_dhcp or self.ipv6_address_mode is None:
            return NetworkType.IPV6
        return NetworkType.IPV6_DHCP if self.ipv6_address_mode == "dhcpv6-stateful" else NetworkType.IPV6_SLAAC


@dataclass(frozen=True, slots=True, kw_only=True)
class VifOnNic:
    """A VIF, and the network card or bond that it is plugged into.

    Args:
        mac: the VIF's own; a VLAN's interface gets it. The others have their card's.
        vlan_id: of a trunk's sub-port. None means untagged.
    """

    vif_id: str
    network_id: str
    mac: str
    nic: Nic
    mtu: int = DEFAULT_MTU
    vlan_id: int | None = None
    fixed_ips: tuple[FixedIp, ...] = ()

    def __post_init__(self) -> None:
        """The values are what they say."""
        checks.line(self.vif_id, "the id of a VIF")
        checks.line(self.network_id, f"the network of VIF {self.vif_id}")
        checks.mtu(self.mtu, f"the MTU of VIF {self.vif_id}")
        if self.vlan_id is not None:
            checks.vlan_id(self.vlan_id, f"the VLAN id of VIF {self.vif_id}")
        object.__setattr__(self, "mac", checks.mac(self.mac, f"the MAC address of VIF {self.vif_id}"))


def network_data_from_vifs(vifs: Iterable[VifOnNic], *, dhcp: bool = True) -> NetworkData:
    """The network data of an instance that has these VIFs. Without VIFs it is empty.

    Links get short ids (`nic0`, `bond0`, `bond0.42`), because some readers use them as interface names.

    Args:
        dhcp: False writes every address down, also where a subnet has DHCP or SLAAC.

    Raises:
        InvalidRequest: two VIFs are on one card and VLAN, or a card is in two bonds or in a bond and alone.
    """
    by_nic: dict[tuple[str, ...], list[VifOnNic]] = {}
    owner: dict[str, tuple[str, ...]] = {}
    for vif in vifs:
        macs = tuple(sorted(vif.nic.macs))
        for mac in macs:
            if owner.setdefault(mac, macs) != macs or len(set(macs)) != len(macs):
                raise InvalidRequest(
                    f"VIF {vif.vif_id} cannot be on network card {mac}",
                    reason="the card is in two bonds, or in a bond and used alone",
                    advice="Plug the VIF into the port group, or take the port out of it",
                )
        _refuse_same_vlan(vif, by_nic.setdefault(macs, []))
        by_nic[macs].append(vif)

    links: list[Link] = []
    link_of: dict[str, str] = {}
    card_ids = (f"nic{number}" for number in count())
    bond_ids = (f"bond{number}" for number in count())
    for riders in by_nic.values():
        for link in _links(riders, card_ids, bond_ids):
            links.append(link)
            if link.vif_id is not None:
                link_of[link.vif_id] = link.id

    placed = [vif for riders in by_nic.values() for vif in riders]
    networks: list[Network] = []
    for vif in placed:
        networks += _networks(vif, link_of[vif.vif_id], first_number=len(networks), dhcp=dhcp)
    dns = tuple(address for vif in placed for fixed_ip in vif.fixed_ips for address in fixed_ip.dns_nameservers)
    return NetworkData(links=tuple(links), networks=tuple(networks), dns=dns)


def _refuse_same_vlan(vif: VifOnNic, others: list[VifOnNic]) -> None:
    for other in others:
        if other.vlan_id == vif.vlan_id:
            place = "untagged" if vif.vlan_id is None else f"on VLAN {vif.vlan_id}"
            raise InvalidRequest(
                f"VIFs {other.vif_id} and {vif.vif_id} are both {place} on network card {', '.join(vif.nic.macs)}",
                reason="a card carries one VIF untagged, and one on each VLAN",
                advice="Plug one of them into another port, or make it a trunk's sub-port on a VLAN of its own",
            )


def _links(riders: list[VifOnNic], card_ids: Iterator[str], bond_ids: Iterator[str]) -> Iterator[Link]:
    """The links of one card or bond: cards first, then the bond, then VLANs, each after what it stands on."""
    nic = riders[0].nic
    # What carries VLANs must let their largest frame through.
    mtu = max(vif.mtu for vif in riders)
    untagged = next((vif.vif_id for vif in riders if vif.vlan_id is None), None)
    if isinstance(nic, NicPort):
        base: Link = PhysicalLink(id=next(card_ids), mac_address=nic.address, mtu=mtu, vif_id=untagged)
    else:
        cards = [PhysicalLink(id=next(card_ids), mac_address=mac, mtu=mtu) for mac in nic.members]
        yield from cards
        base = BondLink(
            id=next(bond_ids),
            mac_address=nic.address or nic.members[0],
            mode=BondMode.named(nic.mode or BondMode.ACTIVE_BACKUP),
            members=tuple(card.id for card in cards),
            options=_bond_options(nic.properties),
            mtu=mtu,
            vif_id=untagged,
        )
    yield base
    for vif in riders:
        if vif.vlan_id is not None:
            yield VlanLink(
                id=f"{base.id}.{vif.vlan_id}",
                mac_address=vif.mac,
                vlan_id=vif.vlan_id,
                link=base.id,
                mtu=vif.mtu,
                vif_id=vif.vif_id,
            )


def _bond_options(properties: Mapping[str, Any]) -> dict[str, Any]:
    # Ironic keeps the mode and the members beside the properties; copies among the properties may be out of date.
    beside = {"mode", "links", "bond_mode", "bond_links"}
    return {name: value for name, value in properties.items() if name not in beside}


def _networks(vif: VifOnNic, link: str, *, first_number: int, dhcp: bool) -> list[Network]:
    """A network for each fixed IP. DHCP gives a link one address per IP version; any further one is written down."""
    networks: list[Network] = []
    automatic: set[int] = set()
    for number, fixed_ip in enumerate(vif.fixed_ips, start=first_number):
        static = NetworkType.IPV4 if fixed_ip.type.ip_version == 4 else NetworkType.IPV6
        kind = fixed_ip.type if dhcp and fixed_ip.type.ip_version not in automatic else static
        if not kind.is_static:
            automatic.add(kind.ip_version)
        networks.append(
            Network(
                id=f"network{number}",
                link=link,
                network_id=vif.network_id,
                type=kind,
                address=fixed_ip.interface if kind.is_static else None,
                routes=fixed_ip.routes if kind.is_static else (),
                dns=fixed_ip.dns_nameservers,
            )
        )
    return networks
