"""What goes wrong on a real site: failing deploys, deletes that cannot wait, nova-compute dying, power changed by others."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from bloomery.lab import Kind
from nova_site.site import NovaSite

pytestmark = pytest.mark.lab


def test_a_deploy_that_fails_goes_to_another_node(nova: NovaSite) -> None:
    free = [node for node in nova.lab.nodes if node.resource_class == "baremetal" and not nova.not_free(node)]
    with ExitStack() as broken:
        for node in free:
            broken.enter_context(nova.broken(node))
        server = nova.create()
        nova.wait(lambda: nova.node_of(server) is not None, lambda: "a node was chosen")
        first = nova.node(server)
        for node in free:
            if node != first:
                nova.repair(node)
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
        assert nova.node(server) != first
        nova.wait(lambda: not nova.not_free(first), lambda: f"{nova.not_free(first)}")


def test_a_deploy_that_fails_with_no_other_node_ends_in_error_and_leaves_the_node_free(nova: NovaSite) -> None:
    nova.drop_shared_server()
    nova.clear()
    gpu = next(node for node in nova.lab.nodes if "CUSTOM_GPU" in node.traits and node.kind is Kind.REDFISH)
    with nova.broken(gpu):
        server = nova.create(flavor="bm-gpu")
        row = nova.wait_for(server, "ERROR")
        assert row["fault"]["message"]
        nova.assert_gone(server, gpu)
        nova.delete_failed(server)
        nova.assert_gone(server, gpu)


def test_a_server_is_deleted_while_it_is_being_deployed(nova: NovaSite) -> None:
    server = nova.create()
    node = nova.wait_until_midway(server)
    nova.delete(server)
    nova.assert_gone(server, node)


def test_a_server_that_is_deleted_twice_is_deleted_once(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    nova.call("DELETE", f"servers/{server}")
    nova.delete_failed(server)
    nova.wait_gone(server)
    nova.assert_gone(server, node)


def test_a_deploy_goes_on_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.create()
    nova.wait_until_midway(server)
    with nova.without_compute(is_killed=True):
        pass
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_server_deleted_while_nova_compute_was_down_is_torn_down_when_it_is_back(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    with nova.without_compute():
        nova.call("DELETE", f"servers/{server}")
    nova.wait_gone(server)
    nova.assert_gone(server, node)


def test_power_changed_behind_novas_back_is_known_to_nova(nova: NovaSite) -> None:
    server = nova.built()
    with nova.compute_with(sync_power_state_interval=2):
        nova.ironic.power(nova.node(server), "power off", until="power off")
        nova.wait_for(server, "SHUTOFF")
        nova.agree(server)


def test_nova_does_not_fight_the_user_over_the_power(nova: NovaSite) -> None:
    server = nova.built()
    with nova.compute_with(sync_power_state_interval=2):
        for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE"), ("os-stop", "SHUTOFF")):
            nova.act(server, action)
            nova.wait_for(server, status)
            nova.agree(server)
        nova.wait_for_power_syncs(2)
        nova.agree(server)
        assert nova.server(server)["status"] == "SHUTOFF"
        assert [event for event in nova.events(server) if "force" in event] == []
