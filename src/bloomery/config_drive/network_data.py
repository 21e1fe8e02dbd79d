"""`network_data.json`: links, the networks on them, and name servers, in OpenStack's format.

Source: the format's JSON schema, in Nova's documentation and in Ironic beside its API. Where readers differ from each
other the choices are cloud-init's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bloomery.config_drive import checks
from bloomery.errors import InvalidRequest

DEFAULT_MTU: Final = 1500
"""Every link has an MTU: Ironic takes network data with a link that has none for broken, and writes its own instead."""

_LINK_ID_CHARACTERS = 64


class BondMode(StrEnum):
    """Linux's bonding modes, in the order of their numbers."""

    BALANCE_RR = "balance-rr"
    ACTIVE_BACKUP = "active-backup"
    BALANCE_XOR = "balance-xor"
    BROADCAST = "broadcast"
    LACP = "802.3ad"
    BALANCE_TLB = "balance-tlb"
    BALANCE_ALB = "balance-alb"

    @classmethod
    def named(cls, mode: str) -> BondMode:
        """The mode of that name or number."""
        modes = list(cls)
        if mode in modes:
            return cls(mode)
        if mode.isascii() and mode.isdigit() and len(mode) == 1 and int(mode) < len(modes):
            return modes[int(mode)]
        raise InvalidRequest(f"bond mode {checks.shown(mode)} is not known", advice=f"Linux has {', '.join(modes)}")


class NetworkType(StrEnum):
    """How an interface comes by its address."""

    IPV4 = "ipv4"
    IPV4_DHCP = "ipv4_dhcp"
    IPV6 = "ipv6"
    IPV6_DHCP = "ipv6_dhcp"
    IPV6_SLAAC = "ipv6_slaac"

    @property
    def is_static(self) -> bool:
        """Whether the address is written down."""
        return self in (NetworkType.IPV4, NetworkType.IPV6)

    @property
    def ip_version(self) -> int:
        """4 or 6."""
        return 4 if self in (NetworkType.IPV4, NetworkType.IPV4_DHCP) else 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalLink:
    """A network card of the node.

    Args:
        id: what networks, bonds and VLANs call it.
        mac_address: the card's own, by which the instance finds it.
        mtu: in bytes.
        vif_id: the VIF plugged into it.
    """

    id: str
    mac_address: str
    mtu: int = DEFAULT_MTU
    vif_id: str | None = None

    def __post_init__(self) -> None:
        """The values are what they say."""
        _check_link(self)

    def to_dict(self) -> dict[str, Any]:
        """The link as the format spells it."""
        return {"id": self.id, "type": "phy", "ethernet_mac_address": self.mac_address, **_mtu_and_vif(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BondLink:
    """Several network cards as one.

    Args:
        members: ids of its physical links.
        options: Linux's bonding options, such as `miimon`; with or without `bond_` before them.
    """

    id: str
    mac_address: str
    mode: BondMode
    members: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    mtu: int = DEFAULT_MTU
    vif_id: str | None = None

    def __post_init__(self) -> None:
        """The values are what they say; there are members, and each once."""
        _check_link(self)
        if not self.members:
            raise InvalidRequest(f"bond {self.id} has no members", advice="Give it at least one network card")
        _refuse_twins(self.members, f"bond {self.id} has member")
        options = {
            checks.line(name, "the name of a bond option").removeprefix("bond_"): value
            for name, value in checks.json_object(self.options, f"the options of bond {self.id}").items()
        }
        own = sorted(options.keys() & {"mode", "links"})
        if own:
            raise InvalidRequest(
                f"bond {self.id} has {own[0]} among its options",
                reason="that has a field of its own",
                advice="Set it there",
            )
        object.__setattr__(self, "options", options)

    def to_dict(self) -> dict[str, Any]:
        """The link as the format spells it."""
        return {
            "id": self.id,
            "type": "bond",
            "ethernet_mac_address": self.mac_address,
            "bond_mode": self.mode.value,
            "bond_links": list(self.members),
            **{f"bond_{name}": value for name, value in self.options.items()},
            **_mtu_and_vif(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanLink:
    """A VLAN on a network card or bond.

    Args:
        link: id of the link that carries it.
    """

    id: str
    mac_address: str
    vlan_id: int
    link: str
    mtu: int = DEFAULT_MTU
    vif_id: str | None = None

    def __post_init__(self) -> None:
        """The values are what they say."""
        _check_link(self)
        checks.vlan_id(self.vlan_id, f"the VLAN id of link {self.id}")

    def to_dict(self) -> dict[str, Any]:
        """The link as the format spells it."""
        return {
            "id": self.id,
            "type": "vlan",
            "vlan_mac_address": self.mac_address,
            "vlan_id": self.vlan_id,
            "vlan_link": self.link,
            **_mtu_and_vif(self),
        }


Link = PhysicalLink | BondLink | VlanLink


def _check_link(link: Link) -> None:
    checks.line(link.id, "a link's id", max_length=_LINK_ID_CHARACTERS)
    checks.mtu(link.mtu, f"the MTU of link {link.id}")
    if link.vif_id is not None:
        checks.line(link.vif_id, f"the VIF of link {link.id}")
    object.__setattr__(link, "mac_address", checks.mac(link.mac_address, f"the MAC address of link {link.id}"))


def _mtu_and_vif(link: Link) -> dict[str, Any]:
    return {"mtu": link.mtu} | ({"vif_id": link.vif_id} if link.vif_id is not None else {})


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a network.

    Args:
        destination: a CIDR; 0.0.0.0/0 and ::/0 are the default routes.
        gateway: the next hop.
    """

    destination: str
    gateway: str

    def __post_init__(self) -> None:
        """Both are of the same IP version, and in their one spelling."""
        network = checks.ip_network(self.destination, "the destination of a route")
        gateway = checks.ip_address(self.gateway, f"the gateway to {network}")
        if network.version != gateway.version:
            raise InvalidRequest(
                f"{network} is not reached by {gateway}",
                reason=f"one is IPv{network.version}, the other IPv{gateway.version}",
                advice="Give a destination and a gateway of the same IP version",
            )
        object.__setattr__(self, "destination", str(network))
        object.__setattr__(self, "gateway", str(gateway))

    @property
    def is_default(self) -> bool:
        """Whether it leads everywhere."""
        return checks.ip_network(self.destination).prefixlen == 0

    def to_dict(self) -> dict[str, str]:
        """The route as the format spells it."""
        network = checks.ip_network(self.destination)
        return {"network": str(network.network_address), "netmask": str(network.netmask), "gateway": self.gateway}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An address on a link, or the way in which the link gets one.

    Args:
        link: id of the link.
        network_id: Neutron's, or a name.
        address: with the prefix, such as 192.0.2.10/24; for a static address only.
        dns: addresses of name servers.
    """

    id: str
    link: str
    network_id: str
    type: NetworkType
    address: str | None = None
    routes: tuple[Route, ...] = ()
    dns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Address, routes and type go together."""
        checks.line(self.id, "a network's id")
        checks.line(self.network_id, f"the network id of {self.id}")
        object.__setattr__(self, "dns", _name_servers(self.dns))
        if self.type.is_static != (self.address is not None):
            raise InvalidRequest(
                f"network {self.id} of type {self.type.value} has {'no' if self.type.is_static else 'an'} address",
                advice="A static network needs one; a network with DHCP or SLAAC takes none",
            )
        versions = {checks.ip_network(route.destination).version for route in self.routes}
        if self.address is not None:
            interface = checks.ip_interface(self.address, f"the address on network {self.id}")
            versions.add(interface.version)
            object.__setattr__(self, "address", str(interface))
        if versions - {self.type.ip_version}:
            raise InvalidRequest(
                f"network {self.id} is IPv{self.type.ip_version}, but its address or a route is not",
                advice="Describe IPv4 and IPv6 as two networks on one link",
            )

    def to_dict(self) -> dict[str, Any]:
        """The network as the format spells it."""
        data: dict[str, Any] = {
            "id": self.id,
            "type": self.type.value,
            "link": self.link,
            "network_id": self.network_id,
        }
        if self.address is not None:
            interface = checks.ip_interface(self.address)
            data |= {"ip_address": str(interface.ip), "netmask": str(interface.netmask)}
        if self.routes or self.type.is_static:
            data["routes"] = [route.to_dict() for route in self.routes]
        if self.dns:
            data["services"] = _dns_services(self.dns)
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkData:
    """All links and networks of an instance; none of either is fine.

    Args:
        dns: addresses of name servers for the whole instance.

    Raises:
        InvalidRequest: an id is there twice, or names what is not there.
    """

    links: tuple[Link, ...] = ()
    networks: tuple[Network, ...] = ()
    dns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Every id is there once, and whatever is named exists and can be what it is named as."""
        object.__setattr__(self, "dns", _name_servers(self.dns))
        _refuse_twins([link.id for link in self.links], "there is link")
        _refuse_twins([network.id for network in self.networks], "there is network")
        links = {link.id: link for link in self.links}
        bonds = [link for link in self.links if isinstance(link, BondLink)]
        _refuse_twins([member for bond in bonds for member in bond.members], "in the bonds there is member")
        for bond in bonds:
            for member in bond.members:
                if not isinstance(links.get(member), PhysicalLink):
                    raise _not_there(f"member {member} of bond {bond.id}", "a physical link", member in links)
        vlans = [link for link in self.links if isinstance(link, VlanLink)]
        for vlan in vlans:
            if not isinstance(links.get(vlan.link), PhysicalLink | BondLink):
                raise _not_there(f"link {vlan.link} of VLAN {vlan.id}", "a physical link or bond", vlan.link in links)
        _refuse_twins([f"{vlan.vlan_id} on link {vlan.link}" for vlan in vlans], "there is VLAN")
        for network in self.networks:
            if network.link not in links:
                raise _not_there(f"link {network.link} of network {network.id}", "a link", False)

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.links or self.networks or self.dns)

    def to_dict(self) -> dict[str, Any]:
        """The content of `network_data.json`."""
        return {
            "links": [link.to_dict() for link in self.links],
            "networks": [network.to_dict() for network in self.networks],
            "services": _dns_services(self.dns),
        }


def _name_servers(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(checks.ip_address(address, "name server")) for address in addresses))


def _dns_services(addresses: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"type": "dns", "address": address} for address in addresses]


def _refuse_twins(names: list[str] | tuple[str, ...], sentence: str) -> None:
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise InvalidRequest(f"{sentence} {twins[0]} more than once", advice="Each may be there once")


def _not_there(what: str, kind: str, exists: bool) -> InvalidRequest:
    reason = f"it is not {kind}" if exists else "there is no such link"
    return InvalidRequest(f"{what} does not fit", reason=reason, advice=f"Name the id of {kind} that is described too")
