"""What Neutron tells, as small typed structs decoded straight from the wire. Names are those of its API."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

DEVICE_OWNER = "baremetal:none"
"""What a VIF of a bare-metal instance says of its owner, as Nova and Ironic write it."""

UNBOUND = (None, "", "unbound", "binding_failed")
"""What `binding:vif_type` says of a VIF that is plugged nowhere."""

OURS = "created by bloomery"
"""How the description of a VIF begins that we created: by it, and by `device_id`, it is found whatever happens to us."""
_FOR_NODE = f"{OURS} for node "


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network."""

    id: str
    name: str = ""
    mtu: int | None = None
    subnets: list[str] = []
    status: str | None = None
    shared: bool = False
    project_id: str | None = None


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
        return self.device_id == instance_uuid and self.is_ours

    @property
    def is_ours(self) -> bool:
        """Whether we created it, for whichever instance."""
        return self.description.startswith(OURS)

    @property
    def created_for_node(self) -> str | None:
        """The node that we created it for; None where it does not say."""
        return self.description.removeprefix(_FOR_NODE) if self.description.startswith(_FOR_NODE) else None

    @property
    def made_at(self) -> datetime | None:
        """When it was created."""
        at = self.created_at
        return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at

    @property
    def is_bound(self) -> bool:
        """Whether it is, or may be, plugged into some machine."""
        return bool(self.host_id) and self.vif_type not in UNBOUND


def description_of_ours(node_uuid: str | None) -> str:
    """The description of a VIF that we create for the node."""
    return OURS if node_uuid is None else f"{_FOR_NODE}{node_uuid}"


class SecurityGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A security group."""

    id: str
    name: str = ""
    description: str = ""
    project_id: str | None = None
