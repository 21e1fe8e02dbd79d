"""nova-compute is killed while something is under way; when it is back, that is finished, or has failed with a reason.

What Ironic had taken up by then goes on. What it had not is an error, because the request, with its secrets, died with the
process; then the node is as it was before.
"""

from __future__ import annotations

import pytest

from bloomery.lab import glance
from nova_site import moments
from nova_site.cloud import HOST
from nova_site.interrupter import Moment
from nova_site.site import BEFORE_REIMAGING, NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PASSWORD = {"adminPass": "Passw0rd-for-rescue"}


def test_a_deploy_goes_on_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.create()
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


@pytest.mark.parametrize(
    "moment",
    [moments.CLAIMED, moments.WIRED, moments.DESCRIBED, moments.ASKING_TO_DEPLOY],
    ids=str,
)
def test_a_deploy_that_ironic_had_not_taken_up_is_an_error_and_the_node_free(nova: NovaSite, moment: Moment) -> None:
    with nova.killed_at(moment):
        server = nova.create(flavor="bm-fake")
    assert "taken it up" in nova.wait_for_fault(server)
    nova.wait(lambda: all(not nova.not_free(node) for node in nova.lab.nodes), lambda: "every node is free")
    nova.delete(server)
    nova.assert_gone(server)


def test_a_deploy_that_ended_while_nova_compute_was_dead_is_a_server(nova: NovaSite) -> None:
    with nova.killed_at(moments.ASKED_TO_DEPLOY):
        server = nova.create(flavor="bm-fake")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_deploy_that_an_operator_ended_while_nova_compute_was_down_is_an_error_with_a_reason(nova: NovaSite) -> None:
    server = nova.create()
    node = nova.wait_until_midway(server)
    with nova.without_compute(is_killed=True):
        tear_down = ("PUT", f"nodes/{node.uuid}/states/provision", {"target": "deleted"})
        nova.wait(lambda: nova.ironic.request(*tear_down).ok, lambda: "Ironic tears down")
        nova.wait(lambda: nova.node_of(server) is None, lambda: "the node is free")
    nova.wait_for_fault(server)
    nova.delete(server)
    nova.assert_gone(server, node)


def test_a_rebuild_goes_on_when_nova_compute_was_killed(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2")}, version=BEFORE_REIMAGING)
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk-2"].sha256


def test_a_rebuild_of_a_server_in_error_goes_on_when_nova_compute_was_killed(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    there = nova.site.machine(node.name)["image_sha256"]
    image = next(name for name in ("whole-disk", "whole-disk-2") if nova.lab.images[name].sha256 != there)
    nova.act(server, "os-resetState", {"state": "error"}, user="admin")
    nova.act(server, "rebuild", {"imageRef": glance.image_id(image)}, version=BEFORE_REIMAGING)
    nova.wait_until_midway(server)
    nova.restart_compute()
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images[image].sha256


@pytest.mark.parametrize("moment", [moments.DESCRIBED, moments.ASKING_TO_REBUILD], ids=str)
def test_a_rebuild_that_ironic_had_not_taken_up_is_an_error_and_can_be_repeated(nova: NovaSite, moment: Moment) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    before = nova.ironic.node(node)["instance_info"]
    rebuild = {"imageRef": glance.image_id("whole-disk-2")}
    with nova.killed_at(moment):
        nova.act(server, "rebuild", rebuild, version=BEFORE_REIMAGING)
    assert "taken it up" in nova.wait_for_fault(server)
    assert (nova.state(node), nova.ironic.node(node)["instance_info"]) == ("active", before)
    nova.act(server, "rebuild", rebuild, version=BEFORE_REIMAGING)
    nova.wait(lambda: nova.server(server)["status"] != "ERROR", lambda: "the rebuild began")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.ironic.node(node)["instance_info"]["image_source"] == rebuild["imageRef"]


def test_a_rebuild_that_ended_while_nova_compute_was_dead_has_the_new_image(nova: NovaSite) -> None:
    server = nova.built(flavor="bm-fake")
    image = glance.image_id("whole-disk-2")
    with nova.killed_at(moments.ASKED_TO_REBUILD):
        nova.act(server, "rebuild", {"imageRef": image}, version=BEFORE_REIMAGING)
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.ironic.node(nova.node(server))["instance_info"]["image_source"] == image


def test_a_rescue_and_an_unrescue_go_on_when_nova_compute_was_killed(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    nova.act(server, "rescue", PASSWORD)
    nova.wait(lambda: nova.state(node).startswith("resc"), lambda: "Ironic rescues")
    nova.restart_compute()
    nova.wait_for(server, "RESCUE")
    nova.agree(server)
    with nova.killed_at(moments.ASKED_TO_UNRESCUE):
        nova.act(server, "unrescue")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


@pytest.mark.parametrize("action", ["rescue", "unrescue"])
def test_a_rescue_or_unrescue_that_ironic_had_not_taken_up_is_an_error_with_a_reason(
    nova: NovaSite, action: str
) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    if action == "unrescue":
        nova.act(server, "rescue", PASSWORD)
        nova.wait_for(server, "RESCUE")
    before = nova.state(node)
    asking = {"rescue": moments.ASKING_TO_RESCUE, "unrescue": moments.ASKING_TO_UNRESCUE}[action]
    with nova.killed_at(asking):
        nova.act(server, action, PASSWORD if action == "rescue" else None)
    nova.wait_for_fault(server)
    assert nova.state(node) == before


def test_a_console_that_was_open_when_nova_compute_was_killed_is_stopped_when_nobody_asks_for_it(
    nova: NovaSite,
) -> None:
    server = nova.built(flavor="bm-equipped")
    node = nova.node(server)
    nova.console(server, "novnc")
    assert nova.ironic.node(node)["console_enabled"] is True
    with nova.compute_with(bloomery={"console_idle_timeout": 1}):
        nova.wait(lambda: not nova.ironic.node(node)["console_enabled"], lambda: "the console was stopped")
    nova.agree(server)


def test_a_delete_is_finished_when_nova_compute_was_killed(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    nova.call("DELETE", f"servers/{server}")
    nova.wait(lambda: nova.state(node) != "active", lambda: "Ironic tears down")
    nova.restart_compute()
    nova.wait_gone(server)
    nova.assert_gone(server, node)


@pytest.mark.parametrize("moment", [moments.ASKING_TO_TEAR_DOWN, moments.ASKED_TO_TEAR_DOWN], ids=str)
def test_a_delete_is_finished_wherever_nova_compute_was_killed(nova: NovaSite, moment: Moment) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    with nova.killed_at(moment):
        nova.call("DELETE", f"servers/{server}")
    nova.wait_gone(server)
    nova.assert_gone(server, node)


def test_a_delete_that_was_asked_for_while_nova_compute_was_down_is_done_when_it_is_back(nova: NovaSite) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    with nova.without_compute(is_killed=True):
        nova.call("DELETE", f"servers/{server}")
    nova.wait_gone(server)
    nova.assert_gone(server, node)


def test_a_server_deleted_while_nova_compute_was_down_is_reaped_and_its_node_reserved_until_then(
    nova: NovaSite,
) -> None:
    server = nova.built()
    node = nova.node(server)
    with nova.without_compute():
        # Nova's API deletes by itself what a nova-compute that it takes for dead has; else it leaves a message.
        with nova.forced_down(HOST):
            nova.delete(server)
        nova.cloud.options[HOST] = {"DEFAULT": {"running_deleted_instance_action": "noop"}}
    nova.cloud.options[HOST] = {}
    nova.wait_for_rounds("update_available_resource", 2)
    assert (nova.state(node), nova.site.bmc_power(node.name)) == ("active", "On")
    assert nova.is_reserved(node)
    assert nova.holders(node) == []
    nova.restart_compute()
    nova.assert_gone(server, node)
