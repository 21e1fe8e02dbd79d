"""Neutron for the lab: its files, the service that serves them, and the networks that nodes and instances use.

The server is Neutron's own WSGI application in one process (`neutron_server`), without a broker, an identity service or
agents. networking-generic-switch binds bare-metal ports to two switches that exist by name only.
"""

import configparser
import importlib.metadata
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from bloomery.lab.errors import LabError
from bloomery.lab.neutron_server import CONFIGURATION, DATABASE
from bloomery.lab.service import Service
from bloomery.lab.wait import answers

PHYSICAL_NETWORK = "physnet1"
"""The one fabric of the lab: what the networks lie on, and the `physical_network` of Ironic's ports."""

DEFAULT_SECURITY_GROUP = "default"
"""The group that Neutron gives to a port that names none."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the fabric, by the name and the address under which Neutron knows it."""

    name: str
    mac_address: str

    def link(self, port_id: str) -> dict[str, str]:
        """What Ironic's port has as `local_link_connection` when its cable ends in this port of the switch."""
        return {"switch_id": self.mac_address, "switch_info": self.name, "port_id": port_id}


SWITCHES = (Switch("rack-a", "02:b1:00:00:0a:00"), Switch("rack-b", "02:b1:00:00:0b:00"))
"""Both switches reach every network, so a port group may have a link in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNetworks:
    """The uuids of what the lab has in Neutron.

    Attributes:
        provisioning: the network that a node is on while it is deployed.
        cleaning: the network that a node is on while it is cleaned.
        rescuing: the network that a node is on while it is rescued.
        tenant: the networks for instances, by name.
        security_groups: the security groups, by name.
    """

    provisioning: str
    cleaning: str
    rescuing: str
    tenant: Mapping[str, str]
    security_groups: Mapping[str, str]


def prepare(state: Path, *, port: int) -> Service:
    """Neutron's files are in place under the state folder, and the returned service serves them once it is started.

    Args:
        state: the lab's folder; Neutron's part is `neutron` in it, and what it holds already is kept.
        port: the TCP port on 127.0.0.1.

    Raises:
        LabError: Neutron is not installed.
    """
    folder = state / "neutron"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_configuration(folder / CONFIGURATION)
    (folder / "policy.yaml").write_text(_POLICY, encoding="utf-8")
    return Service(
        name="neutron",
        argv=(sys.executable, "-m", "bloomery.lab.neutron_server", str(folder.resolve()), str(port)),
        # Not the list of versions, which answers without the database and the policies.
        is_ready=partial(answers, f"http://127.0.0.1:{port}/v2.0/networks?fields=id"),
    )


def networks(endpoint: str) -> LabNetworks:
    """The lab's networks, subnets and security groups exist; those that existed already are as they were.

    Args:
        endpoint: Neutron's address, such as `http://127.0.0.1:9696`.

    Raises:
        LabError: Neutron is not reached, or refuses what the lab needs.
    """
    with requests.Session() as session:
        neutron = _Neutron(endpoint, session)
        uuids = neutron.create_missing("network", _NETWORKS)
        neutron.create_missing("subnet", [{**subnet, "network_id": uuids[network]} for network, subnet in _SUBNETS])
        security_groups = neutron.create_missing("security_group", [{"name": "web"}])
        neutron.open_web_ports(security_groups["web"])
    return LabNetworks(
        provisioning=uuids["provisioning"],
        cleaning=uuids["cleaning"],
        rescuing=uuids["rescuing"],
        tenant={name: uuids[name] for name in _TENANT_NETWORKS},
        security_groups=security_groups,
    )


# What the lab has

_VLAN = {"provider:network_type": "vlan", "provider:physical_network": PHYSICAL_NETWORK}
_FLAT = {"provider:network_type": "flat", "provider:physical_network": PHYSICAL_NETWORK}

_NETWORKS: list[dict[str, Any]] = [
    {"name": "provisioning", "mtu": 1500, **_VLAN},
    {"name": "cleaning", "mtu": 1500, **_VLAN},
    {"name": "rescuing", "mtu": 1500, **_VLAN},
    {"name": "private", "mtu": 1500, **_VLAN},
    {"name": "dual", "mtu": 1500, **_VLAN},
    {"name": "dual-static", "mtu": 1500, **_VLAN},
    {"name": "storage", "mtu": 9000, **_VLAN},
    {"name": "public", "mtu": 1500, "shared": True, "router:external": True, **_FLAT},
]
_TENANT_NETWORKS = ("private", "dual", "dual-static", "storage", "public")

_DNS_SERVERS = ["192.0.2.53"]
_DNS_SERVERS_IPV6 = ["2001:db8::53"]

# A lab of ten thousand nodes has that many ports on one network: hence subnets of 65,000 addresses.
_SUBNETS: list[tuple[str, dict[str, Any]]] = [
    ("provisioning", {"name": "provisioning-ipv4", "ip_version": 4, "cidr": "10.10.0.0/16"}),
    ("cleaning", {"name": "cleaning-ipv4", "ip_version": 4, "cidr": "10.11.0.0/16"}),
    ("rescuing", {"name": "rescuing-ipv4", "ip_version": 4, "cidr": "10.12.0.0/16"}),
    (
        "private",
        {
            "name": "private-ipv4",
            "ip_version": 4,
            "cidr": "10.20.0.0/16",
            "dns_nameservers": _DNS_SERVERS,
            "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "10.20.0.2"}],
            "allocation_pools": [{"start": "10.20.1.0", "end": "10.20.255.254"}],
        },
    ),
    ("dual", {"name": "dual-ipv4", "ip_version": 4, "cidr": "10.30.0.0/16", "dns_nameservers": _DNS_SERVERS}),
    (
        "dual",
        {
            "name": "dual-ipv6",
            "ip_version": 6,
            "cidr": "fd00:30::/64",
            "ipv6_ra_mode": "slaac",
            "ipv6_address_mode": "slaac",
            "dns_nameservers": _DNS_SERVERS_IPV6,
        },
    ),
    (
        "dual-static",
        {
            "name": "dual-static-ipv4",
            "ip_version": 4,
            "cidr": "10.31.0.0/16",
            "enable_dhcp": False,
            "dns_nameservers": _DNS_SERVERS,
        },
    ),
    (
        "dual-static",
        {
            "name": "dual-static-ipv6",
            "ip_version": 6,
            "cidr": "fd00:31::/64",
            "enable_dhcp": False,
            "dns_nameservers": _DNS_SERVERS_IPV6,
        },
    ),
    (
        "storage",
        {"name": "storage-ipv4", "ip_version": 4, "cidr": "10.40.0.0/16", "enable_dhcp": False, "gateway_ip": None},
    ),
    (
        "public",
        {
            "name": "public-ipv4",
            "ip_version": 4,
            "cidr": "203.0.113.0/24",
            "enable_dhcp": False,
            "dns_nameservers": _DNS_SERVERS,
        },
    ),
]

_WEB_PORTS = (80, 443)


class _Neutron:
    """As much of Neutron's API as the lab's networks need."""

    def __init__(self, endpoint: str, session: requests.Session) -> None:
        self._endpoint = endpoint
        self._session = session

    def create_missing(self, kind: str, wanted: list[dict[str, Any]]) -> dict[str, str]:
        """Everything wanted of this kind exists; returns the uuid of each thing of the kind by its name."""
        path = f"{kind.replace('_', '-')}s"
        uuids = {row["name"]: row["id"] for row in self._call("GET", f"{path}?fields=id&fields=name")[f"{kind}s"]}
        for thing in wanted:
            if thing["name"] not in uuids:
                created = self._call("POST", path, {kind: thing})[kind]
                uuids[created["name"]] = created["id"]
        return uuids

    def open_web_ports(self, group: str) -> None:
        """The security group lets HTTP and HTTPS in."""
        rules = self._call("GET", f"security-group-rules?security_group_id={group}")["security_group_rules"]
        open_ports = {rule["port_range_min"] for rule in rules if rule["direction"] == "ingress"}
        for port in _WEB_PORTS:
            if port not in open_ports:
                rule = {
                    "security_group_id": group,
                    "direction": "ingress",
                    "ethertype": "IPv4",
                    "protocol": "tcp",
                    "port_range_min": port,
                    "port_range_max": port,
                }
                self._call("POST", "security-group-rules", {"security_group_rule": rule})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        try:
            reply = self._session.request(method, f"{self._endpoint}/v2.0/{path}", json=body, timeout=60)
        except requests.RequestException as problem:
            raise LabError(f"the lab's Neutron at {self._endpoint} does not answer: {problem}") from problem
        if not reply.ok:
            raise LabError(f"Neutron refused {method} {path} of the lab's networks: {reply.status_code} {reply.text}")
        return reply.json()


# How it is set up


# Messages that say nothing about the lab: of deprecated options, of parts loaded twice or not used here, of switches
# without a lock service, and of the binding that Ironic asks for before it says where the cable ends.
_LOG_LEVELS = (
    "sqlalchemy=WARN",
    "stevedore=CRITICAL",
    "oslo_config=ERROR",
    "oslo_policy=ERROR",
    "oslo_messaging=WARN",
    "neutron.plugins.ml2.managers=CRITICAL",
    "neutron.api.extensions=CRITICAL",
    "neutron.quota.resource_registry=ERROR",
    "neutron.services.revisions.revision_plugin=ERROR",
    "networking_generic_switch.devices.netmiko_devices=ERROR",
    "networking_generic_switch.devices.netmiko_devices.fake=INFO",
)


# Only a service may bind a port to a switch, and without an identity service nobody has that role: Neutron takes whoever
# comes without credentials, Ironic among them, for an administrator.
_POLICY = """\
"service_api": "role:service or role:admin"
"""


def _write_configuration(path: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.read_dict(_configuration())
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def _configuration() -> dict[str, dict[str, str]]:
    """Neutron's options; relative names are within the folder of the configuration, where the server runs."""
    return {
        "DEFAULT": {
            "auth_strategy": "noauth",
            "core_plugin": "ml2",
            "service_plugins": "trunk",
            # oslo.config reads a dollar sign as the name of another option.
            "api_paste_config": str(_api_paste()).replace("$", "$$"),
            "state_path": ".",
            "transport_url": "fake://",
            "dhcp_agent_notification": "false",
            "notify_nova_on_port_status_changes": "false",
            "notify_nova_on_port_data_changes": "false",
            "global_physnet_mtu": "9000",
            "default_log_levels": ",".join(_LOG_LEVELS),
        },
        "database": {
            "connection": f"sqlite:///{DATABASE}?timeout=60",
            # The lab's Neutron is thrown away: its data survive a crash of the process, not one of the machine.
            "sqlite_synchronous": "false",
        },
        "ml2": {
            "type_drivers": "flat,vlan",
            "project_network_types": "vlan",
            "mechanism_drivers": "genericswitch",
            "extension_drivers": "port_security",
        },
        "ml2_type_flat": {"flat_networks": PHYSICAL_NETWORK},
        "ml2_type_vlan": {"network_vlan_ranges": f"{PHYSICAL_NETWORK}:100:3999"},
        "securitygroup": {"enable_security_group": "true"},
        "quotas": dict.fromkeys(
            (
                "default_quota",
                "quota_network",
                "quota_subnet",
                "quota_port",
                "quota_security_group",
                "quota_security_group_rule",
            ),
            "-1",
        ),
        "oslo_concurrency": {"lock_path": "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
        **{
            f"genericswitch:{switch.name}": {
                "device_type": "netmiko_fake",
                "ip": "127.0.0.1",
                "username": "lab",
                "ngs_mac_address": switch.mac_address,
                "ngs_physical_networks": PHYSICAL_NETWORK,
            }
            for switch in SWITCHES
        },
    }


def _api_paste() -> Path:
    """The file with Neutron's own chain of middleware, wherever its installation put it."""
    try:
        files = importlib.metadata.files("neutron") or []
    except importlib.metadata.PackageNotFoundError as problem:
        raise LabError("the lab needs Neutron, which is not installed: pip install 'bloomery[lab]'") from problem
    for file in files:
        if file.name == "api-paste.ini":
            return Path(str(file.locate())).resolve()
    raise LabError("the installed Neutron has no api-paste.ini: install it from its wheel, pip install 'bloomery[lab]'")
