"""Ironic's API in plain HTTP, so that the lab is tested with nothing of Bloomery's core in between."""

import time
import uuid
from typing import Any

import requests

from bloomery.lab import Image, Lab, LabNode

VERSION = {"X-OpenStack-Ironic-API-Version": "1.99"}
WAIT_S = 90.0


class IronicApi:
    """Ironic as an operator with curl would use it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._session = requests.Session()
        self._session.headers.update(VERSION)

    def close(self) -> None:
        self._session.close()

    def request(self, method: str, path: str, body: object = None) -> requests.Response:
        # A locked node answers 409 for a moment.
        deadline = time.monotonic() + WAIT_S
        while True:
            reply = self._session.request(method, f"{self._lab.ironic_url}/v1/{path}", json=body, timeout=60)
            if reply.status_code not in (409, 503) or time.monotonic() > deadline:
                return reply
            time.sleep(0.2)

    def call(self, method: str, path: str, body: object = None) -> Any:
        reply = self.request(method, path, body)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def node(self, node: LabNode) -> dict[str, Any]:
        row: dict[str, Any] = self.call("GET", f"nodes/{node.uuid}")
        return row

    def claim(self, node: LabNode, image: Image, **more: object) -> str:
        """The node has an instance UUID and the image that it is to get."""
        instance_uuid = str(uuid.uuid4())
        self.call(
            "PATCH",
            f"nodes/{node.uuid}",
            [
                {"op": "add", "path": "/instance_uuid", "value": instance_uuid},
                {"op": "add", "path": "/instance_info", "value": self.instance_info(image, **more)},
            ],
        )
        return instance_uuid

    @staticmethod
    def instance_info(image: Image, **more: object) -> dict[str, object]:
        return {
            "image_source": image.url,
            "image_os_hash_algo": "sha256",
            "image_os_hash_value": image.sha256,
            "image_type": "whole-disk",
            **more,
        }

    def provision(self, node: LabNode, target: str, *, until: str, **more: object) -> dict[str, Any]:
        """The node was sent there, and is in the state."""
        self.call("PUT", f"nodes/{node.uuid}/states/provision", {"target": target, **more})
        return self.wait(node, until)

    def wait(self, node: LabNode, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while True:
            row = self.node(node)
            if row["provision_state"] == state and row["reservation"] is None:
                return row
            failed = row["provision_state"].endswith("failed") and not state.endswith("failed")
            assert not failed, f"{row['provision_state']}: {row['last_error']}"
            assert time.monotonic() < deadline, f"{row['provision_state']}, not {state}: {row['last_error']}"
            time.sleep(0.2)

    def power(self, node: LabNode, target: str, *, until: str) -> dict[str, Any]:
        self.call("PUT", f"nodes/{node.uuid}/states/power", {"target": target})
        deadline = time.monotonic() + WAIT_S
        while True:
            row = self.node(node)
            if row["power_state"] == until and row["target_power_state"] is None:
                return row
            assert time.monotonic() < deadline, f"power is {row['power_state']}: {row['last_error']}"
            time.sleep(0.2)

    def attach_vif(self, node: LabNode, network: str) -> dict[str, Any]:
        """A new port of the tenant network is attached to the node; returns the port."""
        neutron = f"{self._lab.neutron_url}/v2.0/ports"
        body = {"port": {"network_id": self._lab.networks["tenant"][network], "name": node.name}}
        reply = self._session.post(neutron, json=body, timeout=60)
        assert reply.ok, reply.text
        port: dict[str, Any] = reply.json()["port"]
        self.call("POST", f"nodes/{node.uuid}/vifs", {"id": port["id"]})
        return port

    def vif(self, port_id: str) -> dict[str, Any]:
        reply = self._session.get(f"{self._lab.neutron_url}/v2.0/ports/{port_id}", timeout=60)
        port: dict[str, Any] = reply.json()["port"]
        return port

    def vifs(self, node: LabNode) -> list[str]:
        return [vif["id"] for vif in self.call("GET", f"nodes/{node.uuid}/vifs")["vifs"]]


def bmc_power(lab: Lab, node: LabNode) -> str:
    """The power as the BMC itself says."""
    reply = requests.get(f"{lab.bmc_url}/redfish/v1/Systems/{node.uuid}", timeout=30)
    state: str = reply.json()["PowerState"]
    return state


def machine(lab: Lab, node: LabNode) -> dict[str, Any]:
    """What the machine behind the BMC does and has on its disk."""
    rows = requests.get(f"{lab.agent_url}/machines", timeout=30).json()["machines"]
    row: dict[str, Any] = next(row for row in rows if row["uuid"] == node.uuid)
    return row
