"""What has gone wrong elsewhere, with strangers' things and operators' deeds, does not go wrong here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from bloomery import BloomeryError, Guest, Image, Nic, Progress, RebuildRequest, Secret, Volume
from bloomery.deadline import Cancellation, Deadline
from bloomery.engine import Observer
from bloomery.errors import (
    Conflict,
    DeployFailed,
    NetworkNotFound,
    NodeUnavailable,
    NotFound,
    NotSupported,
    OperationCancelled,
    PowerFailed,
    RescueFailed,
    RollbackIncomplete,
)
from bloomery.lab.wait import until
from bloomery.testing import Fault, FaultKind, FaultProxy, FaultRule, RecordedRequest
from bloomery.testing.gateways import ironic_at
from bloomery.testing.http_simulator import Response
from unwind.scenarios import FAST, SCENARIOS, World, a_request, a_world, deployed
from unwind.test_unwind import settle


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def strangers_volume(world: World) -> str:
    """A volume target that was made without us; returns its volume's id."""
    ironic_at(world.ironic.url).add_volume_target(
        world.node,
        target_uuid=str(uuid4()),
        volume_id="strangers",
        volume_type="iscsi",
        boot_index=7,
        properties=Secret({}),
        extra={},
    )
    return "strangers"


def test_a_vif_that_somebody_left_on_a_free_node_is_refused_and_left(world: World) -> None:
    network = str(world.neutron.ports()[0]["network_id"])
    left = world.neutron.add_port(network, name="left")
    ironic_at(world.ironic.url).attach_vif(world.node, left)
    with pytest.raises(NodeUnavailable, match=left):
        world.api().deploy(a_request(world), timeout_s=60)
    assert world.ironic.vifs(world.node) == [left]
    assert world.ironic.node(world.node)["instance_uuid"] is None


def test_a_subnet_that_these_credentials_may_not_read_is_named_and_nothing_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = world.neutron.answer

    def blind(request: RecordedRequest) -> Response:
        return Response(200, {"subnets": []}) if request.path.endswith("/subnets") else answer(request)

    before = world.seen()
    monkeypatch.setattr(world.neutron, "answer", blind)
    with pytest.raises(NetworkNotFound, match=r"there is no subnet .*, on which VIF web-1-0 has "):
        world.api().deploy(a_request(world, nics=(Nic(network="private"),), volumes=()), timeout_s=60)
    assert world.seen() == before


def test_a_vif_that_may_be_anywhere_does_not_take_the_nic_of_one_that_may_not(world: World) -> None:
    first = world.ironic.ports(world.node)[0]["address"]
    nics = (Nic(network="private"), Nic(network="storage", on=first))
    world.api().deploy(a_request(world, node="node-0", nics=nics), timeout_s=60)
    vifs = {vif.network: vif.on for vif in world.api().interfaces("web-1")}
    assert vifs["storage"] == first
    assert vifs["private"] not in (None, first)


def test_nothing_that_a_former_instance_left_in_instance_info_reaches_the_next(world: World) -> None:
    left = {"configdrive": "of another tenant", "kernel": "old", "capabilities": {"a": "b"}, "ephemeral_gb": 7}
    world.ironic.set(world.node, instance_info=left)
    world.api().deploy(a_request(world, guest=Guest(config_drive=False)), timeout_s=60)
    assert not left.keys() & world.ironic.node(world.node)["instance_info"].keys()


def test_a_volume_of_somebody_else_is_refused_by_a_deploy_and_left_by_a_destroy(world: World) -> None:
    volume = strangers_volume(world)
    with pytest.raises(NodeUnavailable, match=volume):
        world.api().deploy(a_request(world), timeout_s=60)
    assert world.seen()["volumes"] == [volume]
    assert world.ironic.node(world.node)["instance_uuid"] is None


def test_a_destroyed_instance_leaves_nothing_of_itself(world: World) -> None:
    deployed(world)
    world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=60)
    seen = world.seen()
    node = world.ironic.node(world.node)
    assert (node["instance_uuid"], node["instance_info"], node["extra"]) == (None, {}, {})
    assert (seen["vifs"], seen["volumes"], seen["allocations"]) == ([], [], [])
    assert [port["name"] for port in world.neutron.ports()] == ["given"]


@pytest.mark.parametrize("is_to_run", [True, False])
def test_a_console_that_a_conductor_died_over_is_asked_for_again(world: World, is_to_run: bool) -> None:
    deployed(world)
    world.ironic.set(world.node, console_enabled=not is_to_run)
    taken_and_forgotten = FaultRule(fault=Fault(FaultKind.STATUS, status=202), method="PUT", path="/states/console")
    with FaultProxy(world.ironic.url, taken_and_forgotten) as proxy:
        api = world.api(endpoints={"baremetal": proxy.url, "network": world.neutron.url})
        if is_to_run:
            api.enable_console("node-0")
        else:
            api.disable_console("node-0", force=True)
        asked = [request.path for request in proxy.requests if request.method == "PUT"]
    assert len(asked) == 2
    assert world.ironic.node(world.node)["console_enabled"] is is_to_run


class LateClaim(Observer):
    """The request of the claim is carried out once more right before the deploy is asked for: its client had given it up."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claimed: object = None
        self.noted: object = None

    def ended(self, step: str) -> None:
        if step == "claim node":
            self.claimed = self.world.ironic.node(self.world.node)["extra"]

    def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002  (the engine's)
        if step == "request deploy":
            self.noted = self.world.ironic.node(self.world.node)["extra"]
            self.world.ironic.set(self.world.node, extra=self.claimed)


def test_a_claim_that_is_carried_out_once_more_takes_nothing_from_the_mark(world: World) -> None:
    late = LateClaim(world)
    SCENARIOS["claim, then the rest"].call(world.api(late), world)
    assert late.claimed != late.noted
    assert world.ironic.node(world.node)["extra"] == late.noted
    world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=60)
    assert (world.ironic.vifs(world.node), world.seen()["volumes"]) == ([], [])


def test_a_node_that_its_operator_undeploys_ends_the_deploy_with_a_plain_reason(world: World) -> None:
    world.ironic.timings = replace(FAST, agent_s=1.0)
    asked: list[str] = []

    def undeploy(progress: Progress) -> None:
        if progress.state == "wait call-back" and not asked:
            operator = ironic_at(world.ironic.url)
            operator.provision(operator.node(world.node), "deleted")
            asked.append(progress.state)

    with pytest.raises(BloomeryError, match="node-0"):
        world.api().deploy(a_request(world), timeout_s=60, on_progress=undeploy)
    settle(world)
    world.api().recover(older_than_s=0)
    assert asked
    assert world.ironic.node(world.node)["provision_state"] == "available"
    assert world.ironic.node(world.node)["instance_uuid"] is None
    assert [port["name"] for port in world.neutron.ports()] == ["given"]


def test_ironic_is_told_how_long_a_soft_power_off_may_take(world: World) -> None:
    deployed(world)
    world.api().power_off("web-1", soft_s=7, timeout_s=60)
    asked = [sent.body for sent in world.ironic.requests if sent.path.endswith("/states/power")]
    assert {"target": "soft power off", "timeout": 7} in asked


def test_the_reason_of_a_failure_is_waited_for_while_ironic_switches_the_machine_off(world: World) -> None:
    world.ironic.stick(world.node, "wait call-back")
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(world.api().deploy, a_request(world, node=world.node), timeout_s=60)
        world.ironic.wait_for(world.node, "wait call-back")
        before = len(world.ironic.requests)
        world.ironic.set(world.node, provision_state="deploy failed", last_error=None, reservation="conductor")
        until(lambda: len(world.ironic.requests) > before + 3, what="some looks at it", timeout_s=60)
        world.ironic.set(world.node, last_error="no space left on device", reservation=None)
        with pytest.raises(DeployFailed, match="no space left on device"):
            deploying.result(60)


def test_a_soft_reboot_is_done_when_the_machine_has_been_off(world: World) -> None:
    deployed(world)
    before = list(world.ironic.bmc(world.node).power_changes)
    world.api().reboot("web-1", soft_s=7, timeout_s=60)
    assert world.ironic.bmc(world.node).power_changes == [*before, "soft power off", "power on"]
    assert world.ironic.node(world.node)["power_state"] == "power on"


def test_a_machine_whose_system_does_not_shut_down_is_reset(world: World) -> None:
    deployed(world)
    world.ironic.fail_next(world.node, "power", "the system does not listen")
    before = list(world.ironic.bmc(world.node).power_changes)
    world.api().reboot("web-1", soft_s=7, timeout_s=60)
    assert world.ironic.bmc(world.node).power_changes == [*before, "rebooting"]


def test_a_soft_reboot_of_a_machine_that_is_off_shuts_nothing_down(world: World) -> None:
    deployed(world)
    world.api().power_off("web-1", timeout_s=60)
    before = list(world.ironic.bmc(world.node).power_changes)
    world.api().reboot("web-1", soft_s=7, timeout_s=60)
    assert world.ironic.bmc(world.node).power_changes == [*before, "rebooting"]


def test_a_soft_reboot_that_is_cancelled_while_the_machine_is_down_powers_it_on(world: World) -> None:
    deployed(world)
    cancellation = Cancellation()

    def cancel_once_it_is_off(progress: Progress) -> None:
        if progress.step == "change power":
            cancellation.cancel()

    with pytest.raises(OperationCancelled):
        world.api().reboot(
            "web-1", soft_s=7, timeout_s=60, cancellation=cancellation, on_progress=cancel_once_it_is_off
        )
    assert world.ironic.bmc(world.node).power_changes[-2:] == ["soft power off", "power on"]
    assert world.ironic.node(world.node)["power_state"] == "power on"


def test_a_rebuild_of_what_boots_from_a_volume_writes_no_image(world: World) -> None:
    boot = Volume(volume_id="root", boot_index=0, properties=Secret({}))
    world.api().deploy(a_request(world, image=None, volumes=(boot,)), timeout_s=60)
    world.api().rebuild("web-1", RebuildRequest(guest=Guest.of(user_data="#!/bin/true\n")), timeout_s=60)
    assert "image_source" not in world.ironic.node(world.node)["instance_info"]


def test_a_rebuild_with_another_image_keeps_nothing_of_the_old_one(world: World) -> None:
    old = Image.named("http://images.example.org/a.raw", checksum="a" * 64)
    world.api().deploy(
        a_request(
            world,
            image=replace(
                old, kernel="http://images.example.org/k", ramdisk="http://images.example.org/r", is_partition=True
            ),
        ),
        timeout_s=60,
    )
    new = Image.named("http://images.example.org/b.raw", checksum="b" * 64)
    world.api().rebuild("web-1", RebuildRequest(image=new), timeout_s=60)
    info = world.ironic.node(world.node)["instance_info"]
    assert (info["image_source"], info.get("image_type")) == (new.source, "whole-disk")
    assert not {"kernel", "ramdisk"} & info.keys()


@pytest.mark.parametrize("image", [None, Image.named("http://images.example.org/b.raw", checksum="b" * 64)])
def test_a_rebuild_does_not_tell_ironic_what_it_made_of_the_former_image(world: World, image: Image | None) -> None:
    deployed(world)
    info = world.ironic.node(world.node)["instance_info"]
    world.ironic.set(world.node, instance_info={**info, "image_disk_format": "raw"})
    world.api().rebuild("web-1", RebuildRequest(image=image), timeout_s=60)
    assert "image_disk_format" not in world.ironic.node(world.node)["instance_info"]


def test_a_power_action_that_failed_is_not_reported_as_done(world: World) -> None:
    deployed(world)
    world.ironic.unplug_bmc(world.node)
    with pytest.raises(PowerFailed, match="BMC cannot be reached"):
        world.api().power_off("web-1", timeout_s=60)
    assert world.ironic.bmc(world.node).power == "power on"


@pytest.mark.parametrize("state", ["error", "deploy failed"])
def test_a_rebuild_is_not_refused_because_of_the_failure_that_it_begins_from(world: World, state: str) -> None:
    deployed(world)
    world.ironic.set(world.node, provision_state=state)
    assert world.api().rebuild("web-1", timeout_s=60).state == "active"


def test_a_vif_that_cannot_be_unplugged_does_not_keep_the_others_plugged(world: World) -> None:
    def stuck(request: RecordedRequest) -> Fault | None:
        is_stuck = request.path.endswith((f"/vifs/{world.given_vif}", "/states/provision"))
        return Fault(FaultKind.STATUS, 400, message="the switch is stuck") if is_stuck else None

    world.ironic.on_request = stuck
    with pytest.raises(RollbackIncomplete, match="the switch is stuck") as raised:
        world.api().deploy(a_request(world), timeout_s=60)
    assert world.ironic.vifs(world.node) == [world.given_vif]
    world.ironic.on_request = None
    world.api().destroy(world.node, timeout_s=60)
    assert world.ironic.vifs(world.node) == []
    assert raised.value.left


@pytest.mark.parametrize("is_taken", [False, True], ids=["with its node", "without a node"])
@pytest.mark.parametrize("named_by", ["name", "UUID"])
def test_a_claim_that_could_not_be_given_up_before_its_node_was_marked_is_destroyed_as_advised(
    world: World, is_taken: bool, named_by: str
) -> None:
    def broken(request: RecordedRequest) -> Fault | None:
        if request.method == "POST" and request.path.endswith("/allocations") and is_taken:
            world.ironic.set(world.node, instance_uuid=str(uuid4()))
        is_refused = request.method == "PATCH" or (request.method == "DELETE" and "/allocations/" in request.path)
        return Fault(FaultKind.STATUS, 400, message="the database is read-only") if is_refused else None

    before = world.seen()
    world.ironic.on_request = broken
    with pytest.raises(RollbackIncomplete, match="the database is read-only") as raised:
        world.api().deploy(a_request(world), timeout_s=60)
    assert "bloomery destroy" in str(raised.value)
    (claim,) = world.ironic.allocations()
    assert world.ironic.node(world.node)["extra"] == {}
    world.ironic.on_request = None
    if is_taken:
        world.ironic.set(world.node, instance_uuid=None)
    world.api().destroy("web-1" if named_by == "name" else claim["uuid"], timeout_s=60)
    assert world.seen() == before


def test_one_404_does_not_make_a_deploy_believe_that_its_allocation_is_gone(world: World) -> None:
    missing: list[str] = []

    def once(request: RecordedRequest) -> Fault | None:
        is_ours = request.method == "GET" and request.path.rpartition("/")[2] == claim and not missing
        if is_ours:
            missing.append(request.path)
        return Fault(FaultKind.STATUS, 404) if is_ours else None

    claim = str(uuid4())
    world.ironic.timings = replace(FAST, allocate_s=0.05)
    world.ironic.on_request = once
    assert world.api().deploy(a_request(world, name=None, instance_uuid=claim), timeout_s=60).state == "active"
    assert missing


@pytest.mark.parametrize("extra", [{}, {"bloomery": {"manager": "nova", "instance_uuid": "x"}}, {"bloomery": "web-1"}])
def test_a_claim_that_somebody_else_made_is_not_destroyed(world: World, extra: dict[str, object]) -> None:
    api = world.api()
    claim = ironic_at(world.ironic.url).allocate(str(uuid4()), resource_class="baremetal", name="web-1", extra=extra)

    def has_node() -> bool | None:
        return world.ironic.node(world.node)["instance_uuid"] == claim.uuid or None

    api.services.watch.poll(has_node, deadline=Deadline(60), doing="waiting for the allocation's node")
    before = world.seen()
    with pytest.raises((Conflict, NotFound)):
        api.destroy("web-1", timeout_s=60)
    assert world.seen() == before


def test_a_rebuild_knows_images_as_a_deploy_does_and_refuses_a_name_where_no_glance_is(world: World) -> None:
    instance = world.api().deploy(a_request(world), timeout_s=60)
    before = world.seen()
    with pytest.raises(NotSupported, match="'debian' is no URL"):
        world.api().rebuild(instance.uuid, RebuildRequest(image=Image.named("debian")), timeout_s=60)
    assert world.seen() == before


def test_a_node_that_ironic_failed_to_tear_down_is_torn_down_by_recover_and_not_only_tidied(world: World) -> None:
    world.api().deploy(a_request(world), timeout_s=60)
    world.ironic.set(world.node, provision_state="error", instance_uuid=None, last_error="BMC unreachable")
    asked: list[object] = []

    def noted(request: RecordedRequest) -> None:
        if request.method == "PUT" and request.path.endswith("/states/provision"):
            asked.append(request.body["target"])

    world.ironic.on_request = noted
    assert [problem for _, problem in world.api().recover(older_than_s=0, timeout_s=60)] == [None]
    assert asked == ["deleted"]
    assert world.ironic.vifs(world.node) == []


def test_a_rescue_whose_machine_is_switched_off_has_failed_and_its_own_system_runs_again(world: World) -> None:
    deployed(world)
    told: list[Progress] = []

    def switch_off(progress: Progress) -> None:
        # As Ironic does, before it says that a node is rescued whose ramdisk came by virtual media.
        told.append(progress)
        if progress.state == "rescue wait" and not progress.undoing:
            world.ironic.bmc(world.node).power = "power off"
            world.ironic.set(world.node, power_state="power off")

    world.ironic.timings = replace(FAST, agent_s=0.1)
    with pytest.raises(RescueFailed, match="switched it off"):
        world.api().rescue("web-1", timeout_s=60, on_progress=switch_off)
    node = world.ironic.node(world.node)
    assert (node["provision_state"], node["power_state"]) == ("active", "power on")
    assert {progress.step for progress in told if progress.undoing} == {"request rescue"}


def test_a_machine_that_was_off_may_be_rescued_without_power(world: World) -> None:
    deployed(world)
    world.api().power_off("web-1")
    world.ironic.set(world.node, rescue_interface="fake")
    world.api().rescue("web-1", timeout_s=60)
    node = world.ironic.node(world.node)
    assert (node["provision_state"], node["power_state"]) == ("rescue", "power off")
