"""From Nova's own driver to ours and back, with servers running: one line of nova.conf changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bloomery.lab import glance
from nova_site.drivers import OURS, UPSTREAM
from nova_site.site import NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.parametrize("driver", [OURS], indirect=True)]


def test_servers_of_either_driver_live_on_under_the_other(nova: NovaSite) -> None:
    nova.change_driver(UPSTREAM)
    theirs = nova.built("theirs")
    compute_nodes = nova.compute_nodes()

    nova.change_driver(OURS)
    assert nova.compute_nodes() == compute_nodes
    nova.agree(theirs)
    use(nova, theirs)
    nova.act(theirs, "rebuild", {"imageRef": glance.image_id("whole-disk-2")})
    nova.wait_for(theirs, "ACTIVE")
    nova.agree(theirs)
    ours = nova.built("ours")

    nova.change_driver(UPSTREAM)
    assert nova.compute_nodes() == compute_nodes
    nova.agree(theirs)
    nova.agree(ours)
    use(nova, ours)
    node_of_ours, node_of_theirs = nova.node(ours), nova.node(theirs)
    nova.delete(ours)

    nova.change_driver(OURS)
    nova.delete(theirs)
    nova.assert_gone(ours, node_of_ours)
    nova.assert_gone(theirs, node_of_theirs)


def test_ironic_and_the_machine_are_told_the_same_by_both_drivers(nova: NovaSite) -> None:
    told = {}
    for driver in (OURS, UPSTREAM):
        nova.change_driver(driver)
        server = nova.built("same", config_drive=True, metadata={"role": "web"})
        told[driver] = what_was_told(nova, server)
        node = nova.node(server)
        nova.delete(server)
        nova.wait(lambda node=node: nova.ironic.node(node)["provision_state"] == "available", lambda: "free again")  # type: ignore[misc]
    assert told[OURS] == told[UPSTREAM]


def use(nova: NovaSite, server: str) -> None:
    """The server was stopped and started."""
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        nova.act(server, action)
        nova.wait_for(server, status)
        nova.agree(server)


def what_was_told(nova: NovaSite, server: str) -> dict[str, Any]:
    """What the driver said of the server, without what differs from one server to the next."""
    node = nova.node(server)
    drive = {path: content for path, content in nova.site.config_drive(node.name).items() if "latest" in path}
    meta_data = json.loads(drive["/openstack/latest/meta_data.json"])
    network_data = json.loads(drive["/openstack/latest/network_data.json"])
    provider = nova.inventories(node)
    return {
        "instance_info": {
            name: "set" if name in ("fixed_ips", "image_url", "configdrive") else value
            for name, value in nova.ironic.node(node)["instance_info"].items()
        },
        "paths": sorted(drive),
        "meta_data": {**meta_data, **dict.fromkeys(("uuid", "random_seed", "admin_pass"), "set")},
        "links": [sorted(link) for link in network_data["links"]],
        "networks": [sorted(network) for network in network_data["networks"]],
        "inventory": {name: row["total"] for name, row in provider.items()},
        "traits": nova.traits(node) & {"CUSTOM_LAB", "CUSTOM_GPU"},
    }
