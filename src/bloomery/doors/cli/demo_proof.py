"""What the demo takes nobody's word for: Ironic, Neutron, the BMC and the machine are asked directly, in plain HTTP."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from pycdlib import PyCdlib

from bloomery.lab import Image, Lab

_IRONIC_VERSION = {"X-OpenStack-Ironic-API-Version": "1.99"}
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one of those asked said, beside what it had to say.

    Attributes:
        asked: who.
        about: what was asked.
        said: the answer, in words.
        wanted: what it had to be.
    """

    asked: str
    about: str
    said: str
    wanted: str

    @property
    def is_right(self) -> bool:
        """Whether the answer is what it had to be."""
        return self.said == self.wanted


class Witnesses:
    """Those who know what became of an instance, in a lab that has no other."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = requests.Session()

    def close(self) -> None:
        """Nothing is asked any more."""
        self._session.close()

    def node_with_instance(self) -> Mapping[str, Any]:
        """The only node that carries an instance, as Ironic shows it."""
        (node,) = self._ironic("nodes/detail?associated=true")["nodes"]
        return dict(node)

    def node(self, node_uuid: str) -> Mapping[str, Any]:
        """The node, as Ironic shows it."""
        return dict(self._ironic(f"nodes/{node_uuid}"))

    def vifs(self, node_uuid: str) -> list[str]:
        """The VIFs that Ironic lists on the node."""
        return [vif["id"] for vif in self._ironic(f"nodes/{node_uuid}/vifs")["vifs"]]

    def allocations(self) -> list[str]:
        """Every allocation, by UUID."""
        return [allocation["uuid"] for allocation in self._ironic("allocations")["allocations"]]

    def ports(self, **filters: str) -> list[Mapping[str, Any]]:
        """Neutron's ports that pass the filters."""
        return list(self._get(f"{self._lab.neutron_url}/v2.0/ports", params=filters)["ports"])

    def network(self, network_id: str) -> str:
        """The network's name."""
        names = {uuid: name for name, uuid in self._lab.networks["tenant"].items()}
        return str(names.get(network_id, network_id))

    def bmc_power(self, node_uuid: str) -> str:
        """The power, as the BMC says."""
        return str(self._get(f"{self._lab.bmc_url}/redfish/v1/Systems/{node_uuid}")["PowerState"])

    def machine(self, node_uuid: str) -> Mapping[str, Any]:
        """What the machine runs, and what is on its disk."""
        machines = self._get(f"{self._lab.agent_url}/machines")["machines"]
        return dict(next(machine for machine in machines if machine["uuid"] == node_uuid))

    def on_config_drive(self, node_uuid: str, name: str) -> bytes:
        """The file `openstack/latest/<name>` of the config drive that is on the machine's disk."""
        drive, content = PyCdlib(), io.BytesIO()
        drive.open(str(self._lab.state / "machines" / f"{node_uuid}.config-drive"))
        try:
            drive.get_file_from_iso_fp(content, rr_path=f"/openstack/latest/{name}")
        finally:
            drive.close()
        return content.getvalue()

    def _ironic(self, path: str) -> Any:
        return self._get(f"{self._lab.ironic_url}/v1/{path}", headers=_IRONIC_VERSION)

    def _get(
        self, url: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Any:
        reply = self._session.get(url, headers=headers, params=params, timeout=_TIMEOUT_S)
        reply.raise_for_status()
        return reply.json()


def of_node(witnesses: Witnesses, node_uuid: str, *, state: str = "active") -> Iterator[Finding]:
    """Ironic has the node in that state, powered on; so has the BMC."""
    node = witnesses.node(node_uuid)
    yield Finding(asked="Ironic", about="provision state", said=str(node["provision_state"]), wanted=state)
    yield Finding(asked="Ironic", about="power state", said=str(node["power_state"]), wanted="power on")
    yield Finding(asked="BMC", about="power", said=witnesses.bmc_power(node_uuid), wanted="On")


def of_vifs(witnesses: Witnesses, node_uuid: str, networks: list[str]) -> Iterator[Finding]:
    """On each of the networks Neutron has a port that is the instance's, on one of the node's NICs, and in service."""
    node, plugged = witnesses.node(node_uuid), witnesses.vifs(node_uuid)
    macs = witnesses.machine(node_uuid)["mac_addresses"]
    yield Finding(asked="Ironic", about="VIFs plugged", said=str(len(plugged)), wanted=str(len(networks)))
    ports = {witnesses.network(port["network_id"]): port for port in witnesses.ports(device_id=node["instance_uuid"])}
    wanted = "bound, on a NIC of the node"
    for network in sorted(ports.keys() | set(networks)):
        said = "no port"
        if network in ports:
            port = ports[network]
            is_bound = port["status"] == "ACTIVE" and port["binding:vif_type"] not in ("unbound", "binding_failed")
            is_here = port["id"] in plugged and port["mac_address"] in macs
            said = f"{'bound' if is_bound else 'not bound'}, {'on a NIC of the node' if is_here else 'elsewhere'}"
        yield Finding(asked="Neutron", about=f"port on {network}", said=said, wanted=wanted)


def of_disk(witnesses: Witnesses, node_uuid: str, image: Image) -> Iterator[Finding]:
    """The machine runs what is on its disk, and that is the image, bit by bit."""
    machine = witnesses.machine(node_uuid)
    yield Finding(asked="machine", about="runs", said=str(machine["running"]), wanted="disk")
    yield Finding(
        asked="machine", about="SHA256 of the disk", said=_short(machine["image_sha256"]), wanted=_short(image.sha256)
    )


def of_config_drive(
    witnesses: Witnesses, node_uuid: str, *, name: str, ssh_key: str, user_data: bytes, networks: int
) -> Iterator[Finding]:
    """The config drive on the machine's disk holds what the instance was to be told."""
    meta_data = json.loads(witnesses.on_config_drive(node_uuid, "meta_data.json"))
    network_data = json.loads(witnesses.on_config_drive(node_uuid, "network_data.json"))
    told = {
        "name": (str(meta_data["name"]), name),
        "SSH keys": (_these(ssh_key in meta_data["public_keys"].values()), "those given"),
        "user data": (_these(witnesses.on_config_drive(node_uuid, "user_data") == user_data), "those given"),
        "networks": (str(len({network["network_id"] for network in network_data["networks"]})), str(networks)),
    }
    for about, (said, wanted) in told.items():
        yield Finding(asked="config drive", about=about, said=said, wanted=wanted)


def of_cleanliness(witnesses: Witnesses, node_uuid: str, instance_uuid: str) -> Iterator[Finding]:
    """Nothing of the instance is left: on the node, in Neutron, at the BMC, on the disk."""
    node, machine = witnesses.node(node_uuid), witnesses.machine(node_uuid)
    plugged = witnesses.vifs(node_uuid)
    ports = {port["id"] for port in witnesses.ports(device_id=instance_uuid)}
    ports |= {port["id"] for port in witnesses.ports(**{"binding:host_id": node_uuid})}
    for asked, about, left, wanted in (
        ("Ironic", "provision state", node["provision_state"], "available"),
        ("Ironic", "instance_uuid", node["instance_uuid"], "none"),
        ("Ironic", "instance_info", node["instance_info"], "none"),
        ("Ironic", "extra", node["extra"], "none"),
        ("Ironic", "last_error", node["last_error"], "none"),
        ("Ironic", "VIFs plugged", plugged, "none"),
        ("Ironic", "allocations", witnesses.allocations(), "none"),
        ("Neutron", "ports of the instance", ports, "none"),
        ("BMC", "power", witnesses.bmc_power(node_uuid), "Off"),
        ("machine", "on the disk", machine["image_url"] or machine["config_drive_sha256"], "none"),
    ):
        yield Finding(asked=asked, about=about, said=str(left) if left else "none", wanted=wanted)


def _short(sha256: str | None) -> str:
    return f"{sha256[:16]}…" if sha256 else "none"


def _these(is_so: bool) -> str:
    return "those given" if is_so else "others"
