"""What Neutron tells, as small typed structs decoded straight from the wire. Names are those of its API."""

from __future__ import annotations

from datetime import datetime

import msgspec

DEVICE_OWNER = "baremetal:none"
"""What a VIF of a bare-metal instance says of its owner, as Nova and Ironic write it."""

OURS = "created by bloomery"
"""The description of a VIF that we created: by it, and by its `device_id`, it is found and deleted whatever happens to us."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network."""

    id: str
    name: str = ""
    mtu: int | None = None
    subnets: list[str] = []
    status: str | None = None
    shared: bool = False


class HostRoute(msgspec.Struct, frozen=True):
    """A route that a subnet tells its hosts."""

    destination: str
    nexthop: str


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet."""

    id: str
    network_id: str
    cidr: str
    name: str = ""
    ip_version: int = 4
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    ipv6_address_mode: str | None = None
    dns_nameservers: list[str] = []
    host_routes: list[HostRoute] = []


class FixedIp(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a VIF."""

    subnet_id: str
    ip_address: str


class SubPort(msgspec.Struct, frozen=True, kw_only=True):
    """A VIF that rides on another as a VLAN."""

    port_id: str
    segmentation_id: int
    segmentation_type: str = "vlan"
    mac_address: str | None = None


class Trunk(msgspec.Struct, frozen=True, kw_only=True):
    """What rides on a VIF."""

    trunk_id: str
    sub_ports: list[SubPort] = []


class NeutronPort(
    msgspec.Struct, frozen=True, kw_only=True, rename={"host_id": "binding:host_id", "vif_type": "binding:vif_type"}
):
    """A VIF."""

    id: str
    network_id: str
    name: str = ""
    description: str = ""
    mac_address: str | None = None
    status: str | None = None
    device_id: str = ""
    device_owner: str = ""
    fixed_ips: list[FixedIp] = []
    security_groups: list[str] = []
    project_id: str | None = None
    created_at: datetime | None = None
    host_id: str | None = None
    vif_type: str | None = None
    trunk_details: Trunk | None = None

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.name or self.id

    def was_created_for(self, instance_uuid: str) -> bool:
        """Whether we created it for that instance, and so may delete it."""
        return self.device_id == instance_uuid and self.description.startswith(OURS)


class SecurityGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A security group."""

    id: str
    name: str = ""
    description: str = ""
    project_id: str | None = None
