"""What users and operators of Nova see and do, and what Placement, Ironic, Neutron and the BMC say of the same server."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from bloomery.lab import Kind, LabNode, glance
from live.site import Site
from nova_site.cloud import HOST, Cloud, token
from nova_site.interrupter import Moment
from nova_site.neighbours import project_id

# Long enough for a machine that has much else to do: a wait ends when its condition is true.
WAIT_S = 300.0
MICROVERSION = "2.100"
BEFORE_REIMAGING = "2.92"
"""The last version in which a rebuild says nothing of a boot volume."""
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
        self.wait_s = WAIT_S
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
        user: str = "alice",
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
        number: str = self.call("POST", "servers", {"server": body}, user=user)["server"]["id"]
        return number

    @staticmethod
    def encoded(user_data: str) -> str:
        """User data as Nova's API takes it."""
        return base64.b64encode(user_data.encode()).decode()

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

    def wait_for_end(self, server: str) -> Json:
        """Nothing is under way with the server any more: it is ACTIVE, or in ERROR."""
        row: Json = {}

        def has_ended() -> bool:
            row.update(self.server(server))
            return row["status"] in ("ACTIVE", "ERROR") and row["OS-EXT-STS:task_state"] is None

        self.wait(has_ended, lambda: f"an end, not {row['status']} and {row['OS-EXT-STS:task_state']}")
        return row

    def wait_for_fault(self, server: str) -> str:
        """The server is in ERROR, and says why; returns what it says."""
        message: str = self.wait_for(server, "ERROR").get("fault", {}).get("message", "")
        assert message, "an error without a reason"
        return message

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

    def console(self, server: str, kind: str) -> tuple[str, int]:
        """Where Nova's proxy finds the server's console of that type."""
        body = {"remote_console": {"protocol": {"novnc": "vnc"}.get(kind, kind), "type": kind}}
        url = self.call("POST", f"servers/{server}/remote-consoles", body)["remote_console"]["url"]
        (token,) = re.findall(r"token(?:=|%3D)([0-9a-f-]{36})", url)
        found = self.call("GET", f"os-console-auth-tokens/{token}", user="admin")["console"]
        return found["host"], found["port"]

    def volume(self, *, image: str = "whole-disk", size_gib: int = 10) -> str:
        """A new volume made from an image; returns its id."""
        body = {"volume": {"size": size_gib, "imageRef": glance.image_id(image)}}
        url = f"{self.cloud.urls['neighbours']}/volume/v3/lab/volumes"
        number: str = self._session.post(url, json=body, timeout=30).json()["volume"]["id"]
        return number

    def volumes_of(self, server: str | None = None) -> list[str]:
        """The volumes that Cinder says the server has, or any server."""
        url = f"{self.cloud.urls['neighbours']}/volume/v3/lab/attachments"
        rows = self._session.get(url, timeout=30).json()["attachments"]
        return sorted(row["volume_id"] for row in rows if server in (None, row["instance"]))

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

    def state(self, node: LabNode) -> str:
        """The node's provision state."""
        state: str = self.ironic.node(node)["provision_state"]
        return state

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

    def holders(self, node: LabNode) -> list[str]:
        """The servers that Placement says have the node."""
        url = f"{self.cloud.urls['placement']}/resource_providers/{node.uuid}/allocations"
        return list(self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json()["allocations"])

    def is_reserved(self, node: LabNode) -> bool:
        """Whether Placement offers the node to nobody."""
        inventory = self.inventories(node).get(_class_of(node))
        return inventory is None or inventory["reserved"] == inventory["total"]

    def traits(self, node: LabNode) -> set[str]:
        """What Placement has of the node: its traits."""
        url = f"{self.cloud.urls['placement']}/resource_providers/{node.uuid}/traits"
        return set(self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json().get("traits", ()))

    def volume_targets(self, node: LabNode) -> list[str]:
        """The volumes that Ironic would boot the node from."""
        rows = self.ironic.call("GET", f"volume/targets?detail=true&node={node.uuid}")["targets"]
        return sorted(row["volume_id"] for row in rows)

    def remove_volume_targets(self, node: LabNode) -> None:
        """Ironic has no volumes for the node, which is off."""
        for row in self.ironic.call("GET", f"volume/targets?node={node.uuid}")["targets"]:
            self.ironic.call("DELETE", f"volume/targets/{row['uuid']}")

    def hypervisor(self, node: LabNode) -> Json:
        """The node as Nova's API shows it to operators."""
        return next(row for row in self._hypervisors() if row["hypervisor_hostname"] == node.uuid)

    def _hypervisors(self) -> list[Json]:
        # Later versions ask nova-compute, which may not be there, for each node's uptime.
        rows: list[Json] = self.call("GET", "os-hypervisors/detail", user="admin", version="2.87")["hypervisors"]
        return rows

    def has_disk(self, node: LabNode) -> bool:
        """Whether something was written to the machine's disk."""
        return node.kind is Kind.REDFISH and bool(self.site.machine(node.name)["image_url"])

    # Do they agree?

    def agree(self, server: str) -> None:
        """Nova, Placement, Ironic, Neutron and the BMC say the same of the server, at the latest after a moment."""
        found: list[str] = []

        def is_agreed() -> bool:
            found[:] = self.differences(server)
            return not found

        self.wait(is_agreed, lambda: "; ".join(found))

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
        same("Nova's volumes and Cinder's", volumes, self.volumes_of(server))
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

        self.wait(is_gone, lambda: "; ".join(found))

    def _remains(self, server: str, node: LabNode | None) -> list[str]:
        found = []
        if self.allocations(server):
            found.append("Placement has an allocation")
        if holder := self.node_of(server):
            found.append(f"{holder.name} has its instance_uuid")
        if ports := self.site.ports(device_id=server):
            found.append(f"Neutron has {len(ports)} ports of it")
        if volumes := self.volumes_of(server):
            found.append(f"Cinder says it has volumes {volumes}")
        if node is not None:
            found += self.not_free(node)
        return found

    def agree_on_everything(self) -> None:
        """Of every server and every node all sides say the same; a server in ERROR can be deleted, and leaves nothing."""
        rows = self._all_servers()
        for server in (row["id"] for row in rows if row["status"] == "ERROR"):
            self.delete(server)
        living = {row["id"] for row in rows if row["status"] != "ERROR"}
        for server in living:
            self.agree(server)
        used = {self.node(server).uuid for server in living}
        free = [node for node in self.lab.nodes if node.uuid not in used]
        found: list[str] = []

        def are_free() -> bool:
            found[:] = [each for node in free for each in self.not_free(node)]
            found.extend(f"Placement has an allocation for {node.name}" for node in free if self.holders(node))
            return not found

        self.wait(are_free, lambda: "; ".join(found))
        ports = [port for port in self.site.ports() if port["device_owner"].startswith("compute:")]
        assert {port["device_id"] for port in ports} <= living, "Neutron has ports of servers that are gone"
        known = [volume for server in living for volume in self.volumes_of(server)]
        assert self.volumes_of() == sorted(known), "Cinder has attachments of servers that are gone"
        assert sorted(self.compute_nodes()) == sorted(node.uuid for node in self.lab.nodes)
        self.wait_until_schedulable()

    def _all_servers(self) -> list[Json]:
        rows: list[Json] = self.call("GET", "servers/detail?all_tenants=1", user="admin")["servers"]
        return rows

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

    def wait(self, condition: Callable[[], bool], what: Callable[[], str], *, timeout_s: float | None = None) -> None:
        """The condition is true."""
        timeout_s = timeout_s or self.wait_s
        deadline = time.monotonic() + timeout_s
        while True:
            began = time.monotonic()
            if condition():
                return
            now = time.monotonic()
            assert now < deadline, f"not within {timeout_s:.0f} s: {what()}"
            # Each look costs Nova some CPU that whatever is waited for could have: on a busy machine most of it.
            time.sleep(max(0.3, 2 * (now - began)))

    def wait_until_midway(self, server: str) -> LabNode:
        """Ironic deploys the server's node; returns the node."""

        def is_midway() -> bool:
            node = self.node_of(server)
            return node is not None and self.ironic.node(node)["provision_state"] in ("deploying", "wait call-back")

        self.wait(is_midway, lambda: f"{server} is being deployed")
        return self.node(server)

    # Setting up and tidying

    def prepare(self) -> None:
        """There are a key and flavors; one node has storage and a console; nodes are cleaned only where a test wants it.

        The flavors: `bm` and `bm-gpu` are machines with a BMC, `bm-fake` and `bm-ephemeral` are fake hardware, `bm-equipped`
        is the node with storage and a console.
        """
        self.call("POST", "os-keypairs", {"keypair": {"name": "key", "type": "ssh", "public_key": SSH_KEY}})
        for node in self.lab.nodes:
            self.site.patch(node.uuid, automated_clean=False)
        if self.equipped:
            self.site.patch(self.equipped.uuid, storage_interface="external", console_interface="fake-graphical")
            connector = {"type": "iqn", "connector_id": f"iqn.2026-01.example.lab:{self.equipped.name}"}
            self.ironic.call("POST", "volume/connectors", {"node_uuid": self.equipped.uuid, **connector})
        for name, resource_class, traits, ephemeral_gib in (
            ("bm", "BAREMETAL", (), 0),
            ("bm-gpu", "BAREMETAL", ("CUSTOM_GPU",), 0),
            ("bm-fake", "BAREMETAL_FAKE", (), 0),
            ("bm-equipped", "BAREMETAL_FAKE", ("CUSTOM_GPU",), 0),
            ("bm-ephemeral", "BAREMETAL_FAKE", (), 5),
        ):
            self.add_flavor(name, resource_class, traits, ephemeral_gib=ephemeral_gib)

    def add_flavor(
        self,
        name: str,
        resource_class: str,
        traits: tuple[str, ...] = (),
        *,
        root_gib: int = 10,
        ephemeral_gib: int = 0,
    ) -> None:
        """Nova has the flavor: one node of that custom resource class, with the traits."""
        flavor = {"name": name, "id": name, "ram": 16384, "vcpus": 8, "disk": root_gib, "swap": 0}
        flavor["OS-FLV-EXT-DATA:ephemeral"] = ephemeral_gib
        self.call("POST", "flavors", {"flavor": flavor}, user="admin")
        specs = {f"resources:CUSTOM_{resource_class}": "1", "capabilities:boot_mode": "uefi"}
        specs |= {f"resources:{kind}": "0" for kind in ("VCPU", "MEMORY_MB", "DISK_GB")}
        specs |= {f"trait:{trait}": "required" for trait in traits}
        # Later versions refuse `capabilities:boot_mode`, which operators of Ironic have used for years.
        self.call("POST", f"flavors/{name}/os-extra_specs", {"extra_specs": specs}, user="admin", version="2.85")

    @property
    def equipped(self) -> LabNode | None:
        """The node of fake hardware that has storage and a graphical console; a lab of six nodes has one."""
        fakes = (node for node in self.lab.nodes if node.kind is Kind.FAKE and "CUSTOM_GPU" in node.traits)
        return next(fakes, None)

    def wait_until_schedulable(self) -> None:
        """Nova's scheduler would find every node that has no server: what it asks is answered so that it would."""
        missing: list[str] = []

        def all_are() -> bool:
            missing[:] = self._not_schedulable()
            return not missing

        self.wait(all_are, lambda: "; ".join(missing))

    def _not_schedulable(self) -> list[str]:
        """What keeps free nodes from the scheduler: no cell is known, a service is not up, or Placement has no candidate."""
        rows = self.ironic.call("GET", "nodes?associated=true&fields=uuid")["nodes"]
        used = {row["uuid"] for row in rows}
        # Without detail: for that nova-compute would be asked for each node's uptime.
        listed = self.call("GET", "os-hypervisors", user="admin")["hypervisors"]
        known = {row["hypervisor_hostname"]: row for row in listed}
        offered = {name: self._candidates(name) for name in {_class_of(node) for node in self.lab.nodes}}
        found = []
        for node in self.lab.nodes:
            row = known.get(node.uuid)
            if node.uuid in used:
                continue
            if row is None:
                found.append(f"no cell is known to have {node.name}")
            elif (row["state"], row["status"]) != ("up", "enabled"):
                found.append(f"the service of {node.name} is {row['state']} and {row['status']}")
            elif node.uuid not in offered[_class_of(node)]:
                holders, inventories = self.holders(node), self.inventories(node)
                found.append(f"Placement does not offer {node.name}: it has {inventories} for {holders}")
        return found

    def _candidates(self, resource_class: str) -> set[str]:
        """The providers that Placement offers to a server of that class, as it does to the scheduler."""
        query = f"resources={resource_class}:1&required=!COMPUTE_STATUS_DISABLED"
        url = f"{self.cloud.urls['placement']}/allocation_candidates?{query}"
        return set(self._session.get(url, headers=_PLACEMENT_VERSION, timeout=30).json()["provider_summaries"])

    def restore(self) -> None:
        """The lab is as it was before `prepare`."""
        for node in self.lab.nodes:
            self._free(node)
        for row in self.ironic.call("GET", "volume/connectors")["connectors"]:
            self.ironic.call("DELETE", f"volume/connectors/{row['uuid']}")
        if self.equipped:
            defaults = [{"op": "remove", "path": f"/{kind}_interface"} for kind in ("storage", "console")]
            self.ironic.call("PATCH", f"nodes/{self.equipped.uuid}", defaults)
        for node in self.lab.nodes:
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
    def without_compute(self, *, is_killed: bool = False, host: str = HOST) -> Iterator[None]:
        """That nova-compute does not run within the block; afterwards it is back, as it was."""
        if is_killed:
            self.cloud.kill_compute(host)
        else:
            self.cloud.stop_compute(host)
        try:
            yield
        finally:
            self.cloud.start_compute(self.cloud.drivers[host], host=host, options=self.cloud.options[host])

    @contextmanager
    def killed_at(self, moment: Moment) -> Iterator[None]:
        """nova-compute, which is given something to do in the block, was killed at that moment, and is back."""
        with self.cloud.ironic.at(moment) as held:
            yield
            held.wait()
            self.cloud.kill_compute()
            held.lose()
        self.cloud.start_compute(self.cloud.drivers[HOST], options=self.cloud.options[HOST])

    def change_driver(self, driver: str) -> None:
        """nova-compute has that driver, by the change of one line and a restart."""
        if self.cloud.drivers[HOST] != driver:
            self.cloud.stop_compute()
            self.cloud.start_compute(driver)
        self.wait_until_schedulable()

    def compute_nodes(self) -> dict[str, str]:
        """Nova's compute nodes: the host of each by its name."""
        rows = self._hypervisors()
        return {row["hypervisor_hostname"]: row["service"]["host"] for row in rows}

    def host(self, server: str) -> str:
        """The nova-compute that runs the server."""
        host: str = self.server(server)["OS-EXT-SRV-ATTR:host"]
        return host

    def wait_for_hosts(self, hosts: Mapping[str, str]) -> None:
        """Each of the nodes is a compute node of its host."""
        self.wait(lambda: self.compute_nodes() == hosts, lambda: f"{hosts}, not {self.compute_nodes()}")

    def _service(self, host: str) -> str:
        (row,) = self.call("GET", f"os-services?binary=nova-compute&host={host}", user="admin")["services"]
        number: str = row["id"]
        return number

    def forget(self, host: str) -> None:
        """Nova has no such nova-compute any more."""
        self.call("DELETE", f"os-services/{self._service(host)}", user="admin")

    @contextmanager
    def forced_down(self, host: str) -> Iterator[None]:
        """Nova takes that nova-compute for dead within the block, without waiting."""
        service = self._service(host)
        self.call("PUT", f"os-services/{service}", {"forced_down": True}, user="admin")
        try:
            yield
        finally:
            self.call("PUT", f"os-services/{service}", {"forced_down": False}, user="admin")

    def wait_for_rounds(self, task: str, count: int = 1, *, host: str = HOST) -> None:
        """That nova-compute has done its periodic task that many times more, from beginning to end."""
        begins = f"Running periodic task ComputeManager.{task}".encode()

        def rounds() -> int:
            return (self.cloud.log / f"{host}.log").read_bytes().count(begins)

        # One that is under way does not count; and the last one has ended when the next begins.
        wanted = rounds() + count + 1
        self.wait(lambda: rounds() >= wanted, lambda: f"{count} rounds of {task}")

    @contextmanager
    def compute_with(self, *, host: str = HOST, **sections: Mapping[str, object]) -> Iterator[None]:
        """nova-compute runs with these options, by section, within the block; it was killed before and after."""
        driver, before = self.cloud.drivers[host], self.cloud.options[host]
        self.cloud.kill_compute(host)
        self.cloud.start_compute(driver, host=host, options=sections)
        try:
            yield
        finally:
            self.cloud.kill_compute(host)
            self.cloud.start_compute(driver, host=host, options=before)

    @contextmanager
    def broken(self, node: LabNode) -> Iterator[None]:
        """Deploys of the node fail within the block, or until it is repaired: its deploy kernel is not where it should be."""
        self.set_deploy_kernel(node, f"{self.lab.images_url}/missing")
        try:
            yield
        finally:
            self.repair(node)

    @contextmanager
    def patched(self, node: LabNode, path: str, value: object, *, before: object) -> Iterator[None]:
        """The node has the value there within the block, and then again what it had before."""
        self.site.patch(node.uuid, **{path: value})
        try:
            yield
        finally:
            self.site.patch(node.uuid, **{path: before})

    def put_back(self, node: LabNode) -> None:
        """The node is free, as by an operator who has repaired it."""
        self._free(node)

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
                user_data=self.encoded(USER_DATA),
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
        self._delete_servers(kept)
        for node in self.lab.nodes:
            if kept is None or self.ironic.node(node)["instance_uuid"] != kept:
                self._free(node)
        # Nova's own driver fails a deletion whose node is busy: once its node is free it goes.
        self._delete_servers(kept)
        for node in self.lab.nodes:
            self._forget_holders(node, kept)
        for port in self.site.ports():
            if port["device_owner"].startswith("compute:") and port["device_id"] != kept:
                self.delete_port(port["id"])
        if self.cloud.computes:
            self.wait_until_schedulable()

    def _delete_servers(self, kept: str | None) -> None:
        """Nova has been asked to delete every other server, and has, or has failed."""
        leaving = [row for row in self._all_servers() if row["id"] != kept]
        for row in leaving:
            with suppress(AssertionError):
                if row["OS-EXT-STS:task_state"] is not None:
                    self.act(row["id"], "os-resetState", {"state": "error"}, user="admin")
                self.call("DELETE", f"servers/{row['id']}", user="admin")
        with suppress(AssertionError):
            self.wait(lambda: not any(self.exists(row["id"]) for row in leaving), lambda: "deleted", timeout_s=40)

    def _forget_holders(self, node: LabNode, kept: str | None) -> None:
        """Placement has the node for no server that is gone, as it may after a build that died under Nova's own driver."""
        for server in self.holders(node):
            if server != kept and not self.exists(server):
                url = f"{self.cloud.urls['placement']}/allocations/{server}"
                self._session.delete(url, headers=_PLACEMENT_VERSION, timeout=30)

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
            elif state == "available" and node == self.equipped and self.volume_targets(node):
                # Nova's own driver leaves them behind.
                self.remove_volume_targets(node)
            elif state == "available" and not self.ironic.vifs(node):
                return True
            elif state == "available":
                for vif in self.ironic.vifs(node):
                    self.ironic.call("DELETE", f"nodes/{node.uuid}/vifs/{vif}")
            return False

        self.wait(is_free, lambda: f"{node.name} is free")


def _class_of(node: LabNode) -> str:
    return "CUSTOM_" + node.resource_class.upper().replace(".", "_")
