"""A hundred and fifty servers at once, built and destroyed through Nova's drivers: how many come through, and what is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests

from bloomery import lab
from bloomery.lab.wait import until

from .compute import BLOOMERY, TUNED, UPSTREAM, Compute, computes
from .measuring import Figure

SERVERS = 150
DEPLOY_S = 20
_SETTLE_TIMEOUT_S = 900.0
_PAGE = 1000


@dataclass
class _Values:
    """What was measured of one driver, a value for each repetition."""

    built: list[float] = field(default_factory=list)
    destroyed: list[float] = field(default_factory=list)
    per_build: list[float] = field(default_factory=list)
    per_destroy: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)
    ironic_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(*, repetitions: int, servers: int = SERVERS) -> list[Figure]:
    """So many servers are built at once, and then destroyed at once, by each driver in turn on the same Ironic."""
    sides = (BLOOMERY, UPSTREAM, TUNED)
    found = {side: _Values() for side in sides}
    with (
        _site(servers) as site,
        computes(sides, ironic_url=site.ironic_url, neutron_url=site.neutron_url, instances={}) as drivers,
    ):
        for _ in range(repetitions):
            for side, driver in drivers.items():
                site.settle()
                _round(site, driver, found[side])
                for failure in found[side].failures[:3]:
                    print(f"  {side}: {failure[:300]}", flush=True)
    where = f"a real Ironic and Neutron, {servers} nodes, each deploy {DEPLOY_S} s"
    what = f"{servers} servers at once through Nova"
    rows: list[tuple[str, str, str]] = [
        ("built", f"{what}: built", "servers"),
        ("destroyed", f"{what}: destroyed, of those built", "servers"),
        ("per_build", f"{what}: requests to Ironic for each build, its share of the waiting included", "requests"),
        ("per_destroy", f"{what}: requests to Ironic for each destroy, its share of the waiting included", "requests"),
        ("late_s", f"{what}: from `active` in Ironic to the driver's return, the median of them", "s"),
        ("own_s", f"{what}: the driver's processor time for a server, built and destroyed", "s"),
        ("ironic_s", f"{what}: Ironic's processor time for a server, built and destroyed", "s"),
    ]
    return [
        Figure(what=words, where=where, unit=unit, values={side: getattr(found[side], name) for side in sides})
        for name, words, unit in rows
    ]


@dataclass(frozen=True)
class _Site:
    ironic_url: str
    neutron_url: str
    ironic: psutil.Process
    wires: Mapping[str, Mapping[str, Any]]

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes, as far as it matters here."""
        query = "fields=uuid,provision_state,provision_updated_at,instance_uuid,maintenance&limit=1000"
        return list(_asked(f"{self.ironic_url}/v1/nodes?{query}")["nodes"])

    def settle(self) -> None:
        """All nodes are free; those that a driver has left in use are torn down here."""
        for node in self.nodes():
            if node["provision_state"] not in ("available", "cleaning", "clean wait", "deleting"):
                _tear_down(self.ironic_url, node["uuid"])
        for node in self.nodes():
            if node["provision_state"] == "available" and node["instance_uuid"]:
                _forget(self.ironic_url, node["uuid"])
        free = lambda: all(n["provision_state"] == "available" and not n["instance_uuid"] for n in self.nodes())  # noqa: E731
        until(free, what="the end of all cleaning", timeout_s=_SETTLE_TIMEOUT_S, poll_s=2.0)

    @property
    def processor_s(self) -> float:
        """The processor time that Ironic has used since its start."""
        times = self.ironic.cpu_times()
        return float(times.user + times.system)


def _round(site: _Site, driver: Compute, values: _Values) -> None:
    before_s = site.processor_s
    built = driver.ask("spawn_all", site.wires)
    nodes = {node["uuid"]: node for node in site.nodes()}
    late = [
        returned - datetime.fromisoformat(nodes[node_uuid]["provision_updated_at"]).timestamp()
        for node_uuid, returned in built["returned"].items()
        if nodes[node_uuid]["provision_state"] == "active" and node_uuid not in built["failed"]
    ]
    count = len(site.wires)
    destroyed = driver.ask("destroy_all")
    done = count - len(built["failures"])
    values.built.append(done)
    values.destroyed.append(len(destroyed["nodes"]) - len(destroyed["failures"]))
    values.per_build.append(built["requests"] / count)
    values.per_destroy.append(destroyed["requests"] / max(1, len(destroyed["nodes"])))
    values.late_s.append(median(late) if late else float("nan"))
    values.own_s.append((built["processor_s"] + destroyed["processor_s"]) / count)
    values.ironic_s.append((site.processor_s - before_s) / count)
    values.failures = [*built["failures"], *destroyed["failures"]]


@contextmanager
def _site(servers: int) -> Iterator[_Site]:
    """A lab of fake nodes is up within the block, and for each node there is a port in Neutron."""
    options = lab.Options(nodes=servers, kind=lab.Kind.FAKE, deploy_seconds=DEPLOY_S)
    with tempfile.TemporaryDirectory() as folder, lab.running(options, Path(folder, "lab")) as it:
        supervisor = psutil.Process(it.supervisor_pid)
        (process,) = [child for child in supervisor.children() if "bloomery.lab.conductor" in child.cmdline()]
        neutron_url = str(it.neutron_url)
        network = it.networks["tenant"]["private"]
        ports = _ports(neutron_url, network, [node.uuid for node in it.nodes])
        yield _Site(it.ironic_url, neutron_url, process, ports)


def _ports(neutron_url: str, network: str, node_uuids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for node_uuid in node_uuids:
        body = {"port": {"network_id": network, "name": "server", "binding:vnic_type": "baremetal"}}
        reply = requests.post(f"{neutron_url}/v2.0/ports", json=body, timeout=60)
        reply.raise_for_status()
        found[node_uuid] = reply.json()["port"]
    return found


_NEWEST = {"X-OpenStack-Ironic-API-Version": "1.95"}


def _asked(url: str) -> Any:
    reply = requests.get(url, headers=_NEWEST, timeout=60)
    reply.raise_for_status()
    return reply.json()


def _tear_down(ironic_url: str, node_uuid: str) -> None:
    """Ironic tears the node down, as soon as it has a worker for that."""

    def is_taken_up() -> bool:
        url = f"{ironic_url}/v1/nodes/{node_uuid}/states/provision"
        return requests.put(url, json={"target": "deleted"}, headers=_NEWEST, timeout=60).status_code != 503

    until(is_taken_up, what=f"the tear-down of node {node_uuid}", timeout_s=_SETTLE_TIMEOUT_S, poll_s=1.0)


def _forget(ironic_url: str, node_uuid: str) -> None:
    patch = [{"op": "remove", "path": "/instance_uuid"}]
    requests.patch(f"{ironic_url}/v1/nodes/{node_uuid}", json=patch, headers=_NEWEST, timeout=60)
