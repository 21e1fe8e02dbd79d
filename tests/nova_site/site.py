"""What users and operators of Nova see and do, and what Placement, Ironic, Neutron and the BMC say of the same server."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from bloomery.lab import Kind, LabNode, glance
from live.site import Site
from nova_site.cloud import HOST, Cloud, token
from nova_site.neighbours import project_id

# Long enough for a machine that has much else to do: a wait ends when its condition is true.
WAIT_S = 180.0
MICROVERSION = "2.100"
UNSTABLE = ("scheduling", "block_device_mapping", "networking", "spawning")
_POWER = {1: "power on", 4: "power off"}
_OF_STATUS = {"ACTIVE": "active", "SHUTOFF": "active", "RESCUE": "rescue"}
_PLACEMENT_VERSION = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.39"}

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJsb29tZXJ5LWxpdmUtdGVzdC1rZXktMzItYnl0ZXMh somebody"
USER_DATA = "#cloud-config\nhostname: größe\n"

Json = dict[str, Any]


class Refused(AssertionError):
    """Nova answered with an error."""

    def __init__(self, reply: requests.Response) -> None:
        super().__init__(f"{reply.request.method} {reply.request.url}: {reply.status_code} {reply.text[:600]}")
        self.status = reply.status_code


class NovaSite:
    """Nova's API for a user (alice) and for an operator (admin), and everything else that knows of a server."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud = cloud
        self.lab = cloud.lab
        self.site = Site(cloud.lab, folder)
        self.ironic = self.site.ironic
        self._session = requests.Session()
        self._tokens = {user: token(cloud.urls["neighbours"], user=user) for user in ("alice", "admin")}

    def close(self) -> None:
        self._session.close()
        self.site.close()

    # Nova's API

    def call(
        self, method: str, path: str, body: object = None, *, user: str = "alice", version: str = MICROVERSION
    ) -> Any:
        """What Nova answers; raises `Refused` on an error."""
        reply = self._session.request(
            method,
            f"{self.cloud.urls['api']}/v2.1/{path}",
            json=body,
            headers={"X-Auth-Token": self._tokens[user], "OpenStack-API-Version": f"compute {version}"},
            timeout=120,
        )
        if not reply.ok:
            raise Refused(reply)
        return reply.json() if reply.content else None

    def act(self, server: str, action: str, value: object = None, **more: Any) -> Any:
        """The action was accepted for the server."""
        return self.call("POST", f"servers/{server}/action", {action: value}, **more)

    def server(self, server: str) -> Json:
        """All that an operator sees of the server."""
        row: Json = self.call("GET", f"servers/{server}", user="admin")["server"]
        return row

    def create(
        self,
        name: str = "web-1",
        *,
        flavor: str = "bm",
        image: str | None = "whole-disk",
        networks: object = ("private",),
        **more: Any,
    ) -> str:
        """Nova has accepted the server; returns its id.

        Args:
            networks: names of tenant networks, ids of ports as `{"port": …}`, or `"none"`.
        """
        if not isinstance(networks, str):
            networks = [
                each if isinstance(each, Mapping) else {"uuid": self.lab.networks["tenant"][each]}
                for each in networks  # type: ignore[attr-defined]
            ]
        body = {"name": name, "flavorRef": flavor, "networks": networks, **more}
        if image is not None:
            body["imageRef"] = glance.image_id(image)
        number: str = self.call("POST", "servers", {"server": body}, user=more.pop("user", "alice"))["server"]["id"]
        return number

    def built(self, *arguments: Any, **more: Any) -> str:
        """The server that `create` makes is ACTIVE."""
        server = self.create(*arguments, **more)
        self.wait_for(server, "ACTIVE")
        return server

    def wait_for(self, server: str, status: str) -> Json:
        """The server has that status and nothing under way."""
        seen: list[object] = []

        def is_there() -> bool:
            row = self.server(server)
            now = (row["status"], row["OS-EXT-STS:task_state"])
            if not seen or seen[-1] != now:
                seen.append(now)
            if status != "ERROR" and now == ("ERROR", None):
                raise AssertionError(f"ERROR, not {status}, by way of {seen}: {row.get('fault')}")
            return now == (status, None)

        self.wait(is_there, lambda: f"{status}, by way of {seen}")
        return self.server(server)

    def delete(self, server: str) -> None:
        """The server is gone from Nova's API."""
        self.call("DELETE", f"servers/{server}")
        self.wait_gone(server)

    def exists(self, server: str) -> bool:
        """Whether Nova's API knows the server."""
        try:
            self.server(server)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    def wait_gone(self, server: str) -> None:
        """Nova's API knows the server no more."""

        def is_gone() -> bool:
            try:
                row = self.server(server)
            except Refused as refused:
                if refused.status == 404:
                    return True
                raise
            assert (row["status"], row["OS-EXT-STS:task_state"]) != ("ERROR", None), row.get("fault")
            return False

        self.wait(is_gone, lambda: f"{server} is gone")

    def ports(self, server: str) -> list[Json]:
        """The server's ports, as Nova lists them."""
        rows: list[Json] = self.call("GET", f"servers/{server}/os-interface")["interfaceAttachments"]
        return rows

    def port(self, network: str = "private", **values: object) -> str:
        """A new port of the user's; returns its id."""
        project = project_id("demo")
        body = {"port": {"network_id": self.lab.networks["tenant"][network], "project_id": project, **values}}
        reply = self._session.post(f"{self.lab.neutron_url}/v2.0/ports", json=body, timeout=30)
        number: str = reply.json()["port"]["id"]
        return number

    def delete_port(self, port: str) -> None:
        """The user has given his port up."""
        self._session.delete(f"{self.lab.neutron_url}/v2.0/ports/{port}", timeout=30)

    def volume(self, *, image: str = "whole-disk", size_gib: int = 10) -> str:
        """A new volume made from an image; returns its id."""
        body = {"volume": {"size": size_gib, "imageRef": glance.image_id(image)}}
        url = f"{self.cloud.urls['neighbours']}/volume/v3/lab/volumes"
        number: str = self._session.post(url, json=body, timeout=30).json()["volume"]["id"]
        return number

    # The other sides

    def node_of(self, server: str) -> LabNode | None:
        """The node that Ironic says the server is on."""
        rows = self.ironic.call("GET", f"nodes?instance_uuid={server}&fields=uuid,name")["nodes"]
        return self.lab.node(rows[0]["name"]) if rows else None

    def node(self, server: str) -> LabNode:
        """The node that the server is on."""
        found = self.node_of(server)
        assert found is not None, f"no node has {server}"
        return found

    def allocations(self, server: str) -> dict[str, Json]:
        """What Placement holds for the server: resources by provider."""
        url = f"{self.cloud.urls['placement']}/allocations/{server}"
        rows = self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json()["allocations"]
        return {provider: row["resources"] for provider, row in rows.items()}

    def inventories(self, node: LabNode) -> dict[str, Json]:
        """What Placement has of the node: totals and reservations by resource class."""
        url = f"{self.cloud.urls['placement']}/resource_providers/{node.uuid}/inventories"
        rows: dict[str, Json] = (
            self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json().get("inventories", {})
        )
        return rows

    def traits(self, node: LabNode) -> set[str]:
        url = f"{self.cloud.urls['placement']}/resource_providers/{node.uuid}/traits"
        return set(self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json().get("traits", ()))

    def volume_targets(self, node: LabNode) -> list[str]:
        """The volumes that Ironic would boot the node from."""
        rows = self.ironic.call("GET", f"volume/targets?detail=true&node={node.uuid}")["targets"]
        return sorted(row["volume_id"] for row in rows)

    # Do they agree?

    def agree(self, server: str) -> None:
        """Nova, Placement, Ironic, Neutron and the BMC say the same of the server, at the latest after a moment."""
        found: list[str] = []

        def is_agreed() -> bool:
            found[:] = self.differences(server)
            return not found

        self.wait(is_agreed, lambda: "; ".join(found), timeout_s=60)

    def differences(self, server: str) -> list[str]:
        """What one side says of the server and another does not."""
        row, node = self.server(server), self.node_of(server)
        if node is None:
            return ["Ironic has no node with that instance_uuid"]
        ironic = self.ironic.node(node)
        found = []

        def same(what: str, one: object, other: object) -> None:
            if one != other:
                found.append(f"{what}: {one!r} is not {other!r}")

        same("Nova's node and Ironic's", row["OS-EXT-SRV-ATTR:hypervisor_hostname"], node.uuid)
        same("provision_state", ironic["provision_state"], _OF_STATUS.get(row["status"]))
        same("Nova's power and Ironic's", _POWER.get(row["OS-EXT-STS:power_state"]), ironic["power_state"])
        is_off = row["status"] == "SHUTOFF"
        if node.kind is Kind.REDFISH:
            # Ironic's fake deploy leaves the power as it was.
            same("the status and Ironic's power", ironic["power_state"], "power off" if is_off else "power on")
        same("maintenance", ironic["maintenance"], False)
        same("the task", row["OS-EXT-STS:task_state"], None)
        same("Placement's allocation", self.allocations(server), {node.uuid: {_class_of(node): 1}})
        ports = {port["port_id"] for port in self.ports(server)}
        neutron = {port["id"]: port for port in self.site.ports(device_id=server)}
        same("Nova's ports and Ironic's VIFs", ports, set(self.ironic.vifs(node)))
        same("Nova's ports and Neutron's", ports, set(neutron))
        for port in neutron.values():
            same(f"the owner of {port['id']}", port["device_owner"], "compute:nova")
        volumes = sorted(volume["id"] for volume in row["os-extended-volumes:volumes_attached"])
        same("Nova's volumes and Ironic's targets", volumes, self.volume_targets(node))
        if node.kind is Kind.REDFISH:
            bmc, machine = self.site.bmc_power(node.name), self.site.machine(node.name)
            same("the BMC's power", bmc, "Off" if is_off else "On")
            if not is_off:
                same("what runs", machine["running"], "rescue" if row["status"] == "RESCUE" else "disk")
            if row["status"] != "RESCUE":
                for port in neutron.values():
                    same(f"where {port['id']} is bound", port["binding:host_id"], node.uuid)
                    same(f"the status of {port['id']}", port["status"], "ACTIVE")
                    same(
                        f"whether {node.name} has {port['mac_address']}",
                        port["mac_address"] in node.mac_addresses,
                        True,
                    )
        return found

    def assert_gone(self, server: str, node: LabNode | None = None) -> None:
        """Nobody knows the server any more, and its node is free, empty and wiped, at the latest after its cleaning."""
        found: list[str] = []

        def is_gone() -> bool:
            found[:] = self._remains(server, node)
            return not found

        self.wait(is_gone, lambda: "; ".join(found), timeout_s=90)

    def _remains(self, server: str, node: LabNode | None) -> list[str]:
        found = []
        if self.allocations(server):
            found.append("Placement has an allocation")
        if holder := self.node_of(server):
            found.append(f"{holder.name} has its instance_uuid")
        if ports := self.site.ports(device_id=server):
            found.append(f"Neutron has {len(ports)} ports of it")
        if node is not None:
            found += self.not_free(node)
        return found

    def not_free(self, node: LabNode) -> list[str]:
        """What keeps the node from being as new."""
        row = self.ironic.node(node)
        found = []
        if row["provision_state"] != "available" or row["reservation"]:
            found.append(f"{node.name} is {row['provision_state']}")
        found += [
            f"{node.name} has {name} {row[name]}" for name in ("instance_uuid", "instance_info", "extra") if row[name]
        ]
        if vifs := self.ironic.vifs(node):
            found.append(f"{node.name} has VIFs {vifs}")
        if targets := self.volume_targets(node):
            found.append(f"{node.name} has volume targets {targets}")
        if node.kind is Kind.REDFISH:
            if self.site.bmc_power(node.name) != "Off":
                found.append(f"{node.name} is on")
            if row["automated_clean"] is not False and self.site.machine(node.name)["image_url"]:
                found.append(f"{node.name} has an image on its disk")
        return found

    # Waiting

    def wait(self, condition: Callable[[], bool], what: Callable[[], str], *, timeout_s: float = WAIT_S) -> None:
        """The condition is true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what()}"
            time.sleep(0.2)

    def wait_until_midway(self, server: str) -> LabNode:
        """Ironic deploys the server's node; returns the node."""

        def is_midway() -> bool:
            node = self.node_of(server)
            return node is not None and self.ironic.node(node)["provision_state"] in ("deploying", "wait call-back")

        self.wait(is_midway, lambda: f"{server} is being deployed")
        return self.node(server)

    # Setting up and tidying

    def prepare(self) -> None:
        """There are a key and flavors: `bm`, `bm-gpu` and `bm-fake`; nodes are cleaned only where a test wants it."""
        self.call("POST", "os-keypairs", {"keypair": {"name": "key", "type": "ssh", "public_key": SSH_KEY}})
        for node in self.lab.nodes:
            self.site.patch(node.uuid, automated_clean=False)
        for name, resource_class, traits in (
            ("bm", "BAREMETAL", ()),
            ("bm-gpu", "BAREMETAL", ("CUSTOM_GPU",)),
            ("bm-fake", "BAREMETAL_FAKE", ()),
        ):
            flavor = {"name": name, "id": name, "ram": 16384, "vcpus": 8, "disk": 10, "swap": 0}
            self.call("POST", "flavors", {"flavor": flavor}, user="admin")
            specs = {f"resources:CUSTOM_{resource_class}": "1", "capabilities:boot_mode": "uefi"}
            specs |= {f"resources:{kind}": "0" for kind in ("VCPU", "MEMORY_MB", "DISK_GB")}
            specs |= {f"trait:{trait}": "required" for trait in traits}
            # Later versions refuse `capabilities:boot_mode`, which operators of Ironic have used for years.
            self.call("POST", f"flavors/{name}/os-extra_specs", {"extra_specs": specs}, user="admin", version="2.85")

    def wait_until_schedulable(self) -> None:
        """Placement offers every node that has no server."""
        busy: list[str] = []
        rows = self.ironic.call("GET", "nodes?associated=true&fields=uuid")["nodes"]
        used = {row["uuid"] for row in rows}

        def all_are() -> bool:
            busy[:] = [
                node.name
                for node in self.lab.nodes
                if node.uuid not in used and self.inventories(node).get(_class_of(node), {"reserved": 1})["reserved"]
            ]
            return not busy

        self.wait(all_are, lambda: f"Placement offers {', '.join(busy)}")

    def restore(self) -> None:
        """The lab is as it was before `prepare`."""
        for node in self.lab.nodes:
            self._free(node)
            self.ironic.call(
                "PATCH", f"nodes/{node.uuid}", [{"op": "replace", "path": "/automated_clean", "value": None}]
            )

    def events(self, server: str) -> list[str]:
        """What Nova did to the server, oldest first: the events of its actions."""
        actions = self.call("GET", f"servers/{server}/os-instance-actions")["instanceActions"]
        found = []
        for action in reversed(actions):
            path = f"servers/{server}/os-instance-actions/{action['request_id']}"
            found += [event["event"] for event in self.call("GET", path, user="admin")["instanceAction"]["events"]]
        return found

    def delete_failed(self, server: str) -> None:
        """The server is gone from Nova's API, or was gone already."""
        with suppress(Refused):
            self.call("DELETE", f"servers/{server}")
        self.wait(lambda: not self.exists(server), lambda: f"{server} is gone")

    def restart_compute(self) -> None:
        """nova-compute was killed and is back."""
        with self.without_compute(is_killed=True):
            pass

    @contextmanager
    def without_compute(self, *, is_killed: bool = False) -> Iterator[None]:
        """No nova-compute runs within the block; afterwards it is back, with the driver it had."""
        (driver,) = self.cloud.drivers.values()
        if is_killed:
            self.cloud.kill_compute()
        else:
            self.cloud.stop_compute()
        try:
            yield
        finally:
            self.cloud.start_compute(driver)

    def change_driver(self, driver: str) -> None:
        """nova-compute has that driver, by the change of one line and a restart."""
        if self.cloud.drivers[HOST] != driver:
            self.cloud.stop_compute()
            self.cloud.start_compute(driver)
        self.wait_until_schedulable()

    def compute_nodes(self) -> dict[str, str]:
        """Nova's compute nodes: the host of each by its name."""
        rows = self.call("GET", "os-hypervisors/detail", user="admin")["hypervisors"]
        return {row["hypervisor_hostname"]: row["service"]["host"] for row in rows}

    def wait_for_power_syncs(self, count: int) -> None:
        """Nova has compared the power states that many times more."""

        def syncs() -> int:
            log = self.cloud.log / f"{HOST}.log"
            return log.read_bytes().count(b"Running periodic task ComputeManager._sync_power_states")

        # One that is under way does not count.
        wanted = syncs() + count + 1
        self.wait(lambda: syncs() >= wanted, lambda: "power states are compared")

    @contextmanager
    def compute_with(self, **options: object) -> Iterator[None]:
        """nova-compute runs with these options of `[DEFAULT]` within the block."""
        (driver,) = self.cloud.drivers.values()
        self.cloud.stop_compute()
        self.cloud.start_compute(driver, options={"DEFAULT": options})
        try:
            yield
        finally:
            self.cloud.stop_compute()
            self.cloud.start_compute(driver)

    @contextmanager
    def broken(self, node: LabNode) -> Iterator[None]:
        """Deploys of the node fail within the block, or until it is repaired: its deploy kernel is not where it should be."""
        self.set_deploy_kernel(node, f"{self.lab.images_url}/missing")
        try:
            yield
        finally:
            self.repair(node)

    def repair(self, node: LabNode) -> None:
        """Deploys of the node work."""
        self.set_deploy_kernel(node, self.lab.images["kernel"].url)

    def set_deploy_kernel(self, node: LabNode, url: str) -> None:
        """The node would be deployed by an agent whose kernel is there."""
        self.site.patch(node.uuid, **{"driver_info/deploy_kernel": url})

    def shared_server(self) -> str:
        """A server for tests that leave it as it was: two networks, config drive, key, user data, metadata."""
        if self.cloud.shared_server is None:
            self.cloud.shared_server = self.built(
                "shared",
                config_drive=True,
                key_name="key",
                user_data=base64.b64encode(USER_DATA.encode()).decode(),
                metadata={"role": "web"},
                networks=("private", "storage"),
                # The one free node of the lab that has two NICs which are not one bond.
                flavor="bm-gpu",
            )
        return self.cloud.shared_server

    def drop_shared_server(self) -> None:
        """The next test that wants a shared server gets another one."""
        self.cloud.shared_server = None

    def clear(self) -> None:
        """No test has left anything to the next, whatever the driver did; a healthy shared server stays."""
        kept = self.cloud.shared_server
        if kept and (not self.exists(kept) or self.server(kept)["status"] != "ACTIVE" or self.differences(kept)):
            kept = self.cloud.shared_server = None
        servers = [row["id"] for row in self.call("GET", "servers?all_tenants=1", user="admin")["servers"]]
        for number in filter(lambda number: number != kept, servers):
            with suppress(AssertionError):
                self.act(number, "os-resetState", {"state": "error"}, user="admin")
                self.call("DELETE", f"servers/{number}", user="admin")
                self.wait(lambda number=number: not self.exists(number), lambda: "deleted", timeout_s=30)  # type: ignore[misc]
        for node in self.lab.nodes:
            if kept is None or self.ironic.node(node)["instance_uuid"] != kept:
                self._free(node)
        for port in self.site.ports():
            if port["device_owner"].startswith("compute:") and port["device_id"] != kept:
                self.delete_port(port["id"])
        if self.cloud.computes:
            self.wait_until_schedulable()

    def _free(self, node: LabNode) -> None:
        def is_free() -> bool:
            row = self.ironic.node(node)
            state = row["provision_state"]
            if row["maintenance"]:
                self.ironic.call("DELETE", f"nodes/{node.uuid}/maintenance")
            if state in ("active", "deploy failed", "error", "rescue", "rescue failed", "wait call-back"):
                self.ironic.request("PUT", f"nodes/{node.uuid}/states/provision", {"target": "deleted"})
            elif state == "available" and (row["instance_uuid"] or row["instance_info"] or row["extra"]):
                for vif in self.ironic.vifs(node):
                    self.ironic.call("DELETE", f"nodes/{node.uuid}/vifs/{vif}")
                self.site.patch(node.uuid, instance_uuid=None, instance_info={}, extra={})
            elif state == "clean failed":
                self.ironic.request("PUT", f"nodes/{node.uuid}/states/provision", {"target": "manage"})
            elif state == "manageable":
                self.ironic.request("PUT", f"nodes/{node.uuid}/states/provision", {"target": "provide"})
            elif state == "available" and not self.ironic.vifs(node):
                return True
            elif state == "available":
                for vif in self.ironic.vifs(node):
                    self.ironic.call("DELETE", f"nodes/{node.uuid}/vifs/{vif}")
            return False

        self.wait(is_free, lambda: f"{node.name} is free")


def _class_of(node: LabNode) -> str:
    return "CUSTOM_" + node.resource_class.upper().replace(".", "_")
