"""With each release of Nova: the life of one server, and many that are built and torn down at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bloomery.lab import glance
from nova_site.site import BEFORE_REIMAGING, NovaSite

AT_ONCE = 4

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


def test_nova_compute_runs_under_what_we_say_that_it_does(nova: NovaSite, concurrency: str, log: Path) -> None:
    started = [line for line in log.read_text().splitlines() if line.startswith("nova-compute of Nova ")]
    assert started[-1].endswith(f" runs under {concurrency}")


def test_a_server_lives_its_life(nova: NovaSite) -> None:
    server = nova.built(config_drive=True, networks=("private",))
    nova.agree(server)
    node, ports = nova.node(server), {port["port_id"] for port in nova.ports(server)}
    for action, value, status in (
        ("os-stop", None, "SHUTOFF"),
        ("os-start", None, "ACTIVE"),
        ("reboot", {"type": "HARD"}, "ACTIVE"),
        ("rebuild", {"imageRef": glance.image_id("whole-disk-2")}, "ACTIVE"),
        ("rescue", {"adminPass": "Passw0rd-for-rescue"}, "RESCUE"),
        ("unrescue", None, "ACTIVE"),
    ):
        nova.act(server, action, value)
        nova.wait_for(server, status)
        nova.agree(server)
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk-2"].sha256
    assert {port["port_id"] for port in nova.ports(server)} == ports
    assert nova.call("GET", f"servers/{server}/diagnostics", user="admin")["state"] == "running"
    nova.delete(server)
    nova.assert_gone(server, node)


def test_a_deploy_and_a_rebuild_go_on_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.create()
    node = nova.wait_until_midway(server)
    nova.restart_compute()
    # Before 2026.2 Nova calls the server failed when it starts, and is told better.
    nova.wait(lambda: nova.server(server)["status"] == "ACTIVE", lambda: f"ACTIVE, not {nova.server(server)}")
    nova.agree(server)
    nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2")}, version=BEFORE_REIMAGING)
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait(lambda: nova.server(server)["status"] == "ACTIVE", lambda: f"ACTIVE, not {nova.server(server)}")
    nova.agree(server)
    assert nova.node(server) == node
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk-2"].sha256
    nova.delete(server)
    nova.assert_gone(server, node)


def test_many_servers_are_built_and_torn_down_at_once_while_nova_compute_answers(nova: NovaSite) -> None:
    # On a machine with a BMC, for Nova asks nothing of a server that is off, as those of fake hardware are.
    first = nova.built("first", flavor="bm")
    of_kind = Counter(node.resource_class for node in nova.lab.nodes)
    rest = {"bm": of_kind["baremetal"] - 1, "bm-fake": of_kind["baremetal.fake"]}
    for flavor, count in rest.items():
        nova.create("many", flavor=flavor, min_count=count, max_count=count)
    servers = [row["id"] for row in nova.call("GET", "servers?name=many")["servers"]]
    assert len(servers) == sum(rest.values())
    # Under eventlet one wait that blocks everybody would let no second server get this far.
    nova.wait(lambda: len(under_way(nova)) >= AT_ONCE, lambda: f"only {under_way(nova)} are deployed at once")
    assert nova.call("GET", f"servers/{first}/diagnostics", user="admin")["driver"] == "ironic"
    for server in servers:
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
    nodes = {server: nova.node(server) for server in (first, *servers)}
    assert len({node.uuid for node in nodes.values()}) == len(nodes)
    for server in nodes:
        nova.call("DELETE", f"servers/{server}")
    for server, node in nodes.items():
        nova.wait_gone(server)
        nova.assert_gone(server, node)


def under_way(nova: NovaSite) -> set[str]:
    """The servers whose nodes Ironic is deploying."""
    rows = nova.ironic.call("GET", "nodes?fields=instance_uuid,provision_state")["nodes"]
    return {row["instance_uuid"] for row in rows if row["provision_state"] in ("deploying", "wait call-back")}
