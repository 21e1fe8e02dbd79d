"""Device tags, as a user gives them in a request for a server and to an interface that he attaches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nova_site.site import NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

FIRST, TAG = "first", "storage-left"
# Servers of the flavor bm-gpu are on a node whose NICs are in no bond: one that is takes no VIF of its own.


@pytest.fixture
def named(nova: NovaSite) -> Iterator[dict[str, str]]:
    """Of each node the first NIC is named for the one tag, and the last for the other; returns the last's MAC addresses."""
    # It has the node of the flavor `bm-gpu`.
    nova.drop_shared_server()
    nova.clear()
    rows = nova.ironic.call("GET", "ports?detail=true")["ports"]
    chosen = {row["node_uuid"]: row for row in rows}
    first = {row["node_uuid"]: row for row in reversed(rows)}
    for node in nova.lab.nodes:
        name = [{"op": "add", "path": "/name", "value": f"{node.name}-{TAG}"}]
        nova.ironic.call("PATCH", f"ports/{chosen[node.uuid]['uuid']}", name)
        name = [{"op": "add", "path": "/name", "value": f"{node.name}-{FIRST}"}]
        nova.ironic.call("PATCH", f"ports/{first[node.uuid]['uuid']}", name)
    yield {node_uuid: row["address"] for node_uuid, row in chosen.items()}
    for row in (*chosen.values(), *first.values()):
        nova.ironic.call("PATCH", f"ports/{row['uuid']}", [{"op": "add", "path": "/name", "value": None}])


def on_nic(nova: NovaSite, server: str) -> dict[str, str]:
    """Where each of the server's VIFs is: Ironic's NIC, by its MAC address."""
    rows: list[dict[str, Any]] = nova.ironic.call("GET", f"ports?detail=true&node={nova.node(server).uuid}")["ports"]
    return {row["internal_info"].get("tenant_vif_port_id"): row["address"] for row in rows}


def test_a_tag_that_names_a_nic_puts_the_vif_there_and_the_guest_is_told(nova: NovaSite, named: dict[str, str]) -> None:
    networks = nova.lab.networks["tenant"]
    wanted = [{"uuid": networks["storage"], "tag": "database"}, {"uuid": networks["private"], "tag": TAG}]
    server = nova.built("tagged", flavor="bm-gpu", networks=wanted, config_drive=True)
    nova.agree(server)
    node = nova.node(server)
    vifs = {row["net_id"]: row["port_id"] for row in nova.ports(server)}
    at = on_nic(nova, server)
    assert at[vifs[networks["private"]]] == named[node.uuid]
    told = json.loads(nova.site.config_drive(node.name)["/openstack/latest/meta_data.json"])["devices"]
    assert {device["mac"]: device["tags"] for device in told} == {
        at[vifs[networks["private"]]]: [TAG],
        at[vifs[networks["storage"]]]: ["database"],
    }
    nova.delete(server)
    nova.assert_gone(server, node)


def test_an_interface_is_attached_to_the_nic_that_its_tag_names(nova: NovaSite, named: dict[str, str]) -> None:
    networks = nova.lab.networks["tenant"]
    server = nova.built("tagged", flavor="bm-gpu", networks=[{"uuid": networks["storage"], "tag": FIRST}])
    nic = named[nova.node(server).uuid]
    wanted = {"net_id": networks["private"], "tag": TAG}
    nova.call("POST", f"servers/{server}/os-interface", {"interfaceAttachment": wanted})
    (vif_id,) = [row["port_id"] for row in nova.ports(server) if row["net_id"] == networks["private"]]
    assert on_nic(nova, server)[vif_id] == nic
    nova.agree(server)
