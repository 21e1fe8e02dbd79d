"""nova-compute is killed while something is under way; when it is back, that is finished, or has failed with a reason."""

from __future__ import annotations

import pytest

from bloomery.lab import glance
from nova_site.site import NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def test_a_deploy_goes_on_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.create()
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_deploy_that_an_operator_ended_while_nova_compute_was_down_is_an_error_with_a_reason(nova: NovaSite) -> None:
    server = nova.create()
    node = nova.wait_until_midway(server)
    with nova.without_compute(is_killed=True):
        tear_down = ("PUT", f"nodes/{node.uuid}/states/provision", {"target": "deleted"})
        nova.wait(lambda: nova.ironic.request(*tear_down).ok, lambda: "Ironic tears down")
        nova.wait(lambda: nova.node_of(server) is None, lambda: "the node is free")
    row = nova.wait_for(server, "ERROR")
    assert row["fault"]["message"]
    nova.delete_failed(server)
    nova.assert_gone(server, node)


def test_a_rebuild_goes_on_when_nova_compute_was_killed(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2")}, version="2.92")
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk-2"].sha256


def test_a_rescue_goes_on_when_nova_compute_was_killed(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    nova.act(server, "rescue", {"adminPass": "Passw0rd-for-rescue"})
    nova.wait(lambda: nova.ironic.node(node)["provision_state"].startswith("resc"), lambda: "Ironic rescues")
    nova.restart_compute()
    nova.wait_for(server, "RESCUE")
    nova.agree(server)
    nova.act(server, "unrescue")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_delete_is_finished_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    nova.call("DELETE", f"servers/{server}")
    nova.wait(lambda: nova.ironic.node(node)["provision_state"] != "active", lambda: "Ironic tears down")
    nova.restart_compute()
    nova.wait_gone(server)
    nova.assert_gone(server, node)


def test_a_server_deleted_while_nova_compute_was_down_is_torn_down_when_it_is_back(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    with nova.without_compute():
        nova.call("DELETE", f"servers/{server}")
    nova.wait_gone(server)
    nova.assert_gone(server, node)
