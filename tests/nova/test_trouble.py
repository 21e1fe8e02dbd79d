"""What goes wrong on a real site: failing deploys, deletes that cannot wait, power changed by others."""

from __future__ import annotations

import uuid
from contextlib import ExitStack

import pytest

from bloomery.lab import Kind, glance
from nova_site.cloud import HOST
from nova_site.moments import CLAIMING
from nova_site.site import BEFORE_REIMAGING, NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


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
        nova.wait_for_fault(server)
        nova.assert_gone(server, gpu)
        nova.delete_failed(server)
        nova.assert_gone(server, gpu)


def test_a_node_that_somebody_else_was_faster_to_claim_is_left_and_another_one_taken(nova: NovaSite) -> None:
    with nova.cloud.ironic.at(CLAIMING) as claim:
        server = nova.create(flavor="bm-fake")
        claim.wait()
        taken = next(node for node in nova.lab.nodes if claim.target.endswith(node.uuid))
        nova.site.patch(taken.uuid, instance_uuid=str(uuid.uuid4()))
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.node(server) != taken
    nova.ironic.call("PATCH", f"nodes/{taken.uuid}", [{"op": "remove", "path": "/instance_uuid"}])


def test_a_failed_cleaning_keeps_the_node_from_everybody_but_the_server_is_gone(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    nova.site.patch(node.uuid, automated_clean=True)
    try:
        with nova.broken(node):
            nova.delete(server)
            nova.wait(lambda: nova.state(node) == "clean failed", lambda: f"clean failed, not {nova.state(node)}")
        nova.assert_gone(server)
        nova.wait(lambda: nova.is_reserved(node), lambda: f"{node.name} is offered to nobody")
        row = nova.ironic.node(node)
        assert (row["instance_uuid"], row["instance_info"]) == (None, {})
        nova.put_back(node)
    finally:
        nova.site.patch(node.uuid, automated_clean=False)


def test_a_failed_tear_down_is_an_error_with_a_reason_and_can_be_repeated(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    system = f"/redfish/v1/Systems/{node.uuid}"
    with nova.patched(node, "driver_info/redfish_system_id", "/redfish/v1/Systems/nowhere", before=system):
        nova.call("DELETE", f"servers/{server}")
        nova.wait_for_fault(server)
    assert nova.site.bmc_power(node.name) == "On"
    assert nova.allocations(server), "the node is still the server's"
    nova.delete(server)
    nova.assert_gone(server, node)


def test_a_rebuild_that_fails_says_why_and_more_of_it_to_the_operator_and_can_be_repeated(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    rebuild = {"imageRef": glance.image_id("whole-disk-2")}
    with nova.broken(node):
        nova.act(server, "rebuild", rebuild, version=BEFORE_REIMAGING)
        nova.wait_for_fault(server)
    assert nova.state(node) == "deploy failed"
    reason = "Got HTTP code 404"
    assert reason in nova.ironic.node(node)["last_error"]
    shown, detailed = (
        nova.call("GET", f"servers/{server}", user=user)["server"]["fault"] for user in ("alice", "admin")
    )
    assert reason in shown["message"]
    assert reason in detailed["details"]
    assert node.name in detailed["details"]
    assert (node.name in shown["message"], "details" in shown) == (False, False)
    nova.act(server, "rebuild", rebuild, version=BEFORE_REIMAGING)
    nova.wait(lambda: nova.server(server)["status"] != "ERROR", lambda: "the rebuild began")
    nova.wait_for(server, "ACTIVE")
    # Nova, not its driver, takes the allocation away whenever a rebuild fails; the reservation keeps others away.
    (difference,) = nova.differences(server)
    assert difference.startswith("Placement's allocation: {} is not")
    assert nova.is_reserved(node)
    nova.delete(server)
    nova.assert_gone(server, node)


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


def test_the_progress_of_a_server_moves_while_it_builds(nova: NovaSite) -> None:
    server = nova.create()
    seen: list[int] = []

    def is_active() -> bool:
        row = nova.server(server)
        seen.append(row.get("progress", 0))
        return bool(row["status"] == "ACTIVE")

    nova.wait(is_active, lambda: "ACTIVE")
    assert any(0 < progress < 100 for progress in seen), seen
    assert seen == sorted(seen)


def test_a_node_in_maintenance_is_reserved_and_gets_no_server(nova: NovaSite) -> None:
    nodes = [node for node in nova.lab.nodes if node.resource_class == "baremetal.fake"]
    for node in nodes:
        nova.ironic.call("PUT", f"nodes/{node.uuid}/maintenance", {"reason": "a fan"})
    for node in nodes:
        nova.wait(
            lambda node=node: nova.inventories(node)["CUSTOM_BAREMETAL_FAKE"]["reserved"] == 1,  # type: ignore[misc]
            lambda: "reserved",
        )
    server = nova.create(flavor="bm-fake")
    assert "No valid host" in nova.wait_for(server, "ERROR")["fault"]["message"]
    nova.delete_failed(server)
    for node in nodes:
        nova.ironic.call("DELETE", f"nodes/{node.uuid}/maintenance")
    nova.wait_until_schedulable()


def test_an_operator_is_shown_every_node_and_nova_compute_has_nothing_to_complain_of(nova: NovaSite) -> None:
    log = nova.cloud.log / f"{HOST}.log"
    before = log.stat().st_size
    shown = nova.call("GET", "os-hypervisors/detail", user="admin")["hypervisors"]
    assert {row["hypervisor_hostname"]: row["uptime"] for row in shown} == {node.uuid: None for node in nova.lab.nodes}
    # Before 2.88 the uptime was asked for by itself.
    node = shown[0]["id"]
    assert (
        nova.call("GET", f"os-hypervisors/{node}/uptime", user="admin", version="2.87")["hypervisor"]["uptime"] is None
    )
    with log.open() as file:
        file.seek(before)
        assert "Traceback" not in file.read()


def test_a_power_change_behind_novas_back_is_told_to_a_nova_that_never_compares(nova: NovaSite, server: str) -> None:
    # `sync_power_state_interval` is off for all but tests/nova/test_power.py.
    node = nova.node(server)
    nova.ironic.power(node, "power off", until="power off")
    nova.wait_for(server, "SHUTOFF")
    nova.agree(server)
    nova.act(server, "os-start")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_diagnostics_and_the_console_log_are_answered(nova: NovaSite, server: str) -> None:
    diagnostics = nova.call("GET", f"servers/{server}/diagnostics", user="admin")
    assert (diagnostics["driver"], diagnostics["state"]) == ("ironic", "running")
    told = nova.act(server, "os-getConsoleOutput", {})["output"]
    assert told.startswith("Ironic keeps no log of this machine's console.")
    assert "provision state: active" in told
    nova.agree(server)
