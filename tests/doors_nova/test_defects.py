"""What breaks in Nova's own driver, and what holds here instead; the numbers are those of the list of its defects."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import nova.conf
import pycdlib
import pytest
from nova import exception, objects
from nova.compute import power_state, task_states, vm_states
from nova.virt.ironic import patcher

from bloomery.deadline import Patience
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.http_simulator import HttpSimulator
from doors_nova.deaths import Death, Killed, followed, left_behind
from doors_nova.nova_world import HOST, NovaWorld, a_nova_world

CONF = nova.conf.CONF
FAULTS = [
    Fault(FaultKind.STATUS, status=503),
    Fault(FaultKind.STATUS, status=502),
    Fault(FaultKind.RESET),
    Fault(FaultKind.STATUS, status=409),
]


class Trouble:
    """The first requests that match fail, so many of them."""

    def __init__(self, simulator: HttpSimulator, fault: Fault, method: str, path: str, times: int = 1) -> None:
        self.fault, self.method, self.path, self.left = fault, method, path, times
        self.struck = 0
        self._lock = threading.Lock()
        simulator.on_request = self

    def __call__(self, request: RecordedRequest) -> Fault | None:
        with self._lock:
            if request.method != self.method or self.path not in request.path or self.left == 0:
                return None
            self.left -= 1
            self.struck += 1
            return self.fault


def named(fault: Fault) -> str:
    return f"{fault.kind}_{fault.status}".replace(" ", "_")


def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is repeated for long."""
    monkeypatch.setattr("bloomery.doors.nova.config.LEAST_QUICK_S", 0.3)
    CONF.set_override("api_max_retries", 0, group="ironic")
    for name in ("deploy_timeout", "power_timeout", "rescue_timeout", "tear_down_timeout", "claim_timeout"):
        CONF.set_override(name, 1, group="bloomery")


@pytest.fixture(autouse=True)
def options_of_conf() -> Iterator[None]:
    """What a test changes in nova.conf is as it was, afterwards."""
    yield
    for name in ("api_max_retries", "conductor_group", "peer_list", "shard"):
        CONF.clear_override(name, group="ironic")
    for name in ("deploy_timeout", "power_timeout", "rescue_timeout", "tear_down_timeout", "claim_timeout"):
        CONF.clear_override(name, group="bloomery")
    CONF.clear_override("full_list_interval", group="bloomery")


@pytest.mark.parametrize("fault", FAULTS, ids=named)
@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/nodes/"), ("POST", "/vifs"), ("PUT", "/states/provision"), ("GET", "/nodes")]
)
def test_d01_a_build_survives_failures_of_every_kind_of_call(
    world: NovaWorld, fault: Fault, method: str, path: str
) -> None:
    trouble = Trouble(world.ironic, fault, method, path, times=2)
    world.running()
    assert trouble.struck == 2
    assert world.seen()["provision_state"] == "active"


@pytest.mark.parametrize("path", ["/states/provision", "/vifs", "/nodes/"])
def test_d03_a_lost_reply_is_read_back(world: NovaWorld, path: str) -> None:
    methods = {"/states/provision": "PUT", "/vifs": "POST", "/nodes/": "PATCH"}
    trouble = Trouble(world.ironic, Fault(FaultKind.LOSE_REPLY), methods[path], path)
    world.running()
    assert trouble.struck == 1
    assert world.seen()["provision_state"] == "active"


def test_d04_the_power_state_is_not_known_while_ironic_is_away(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, _ = world.running()
    in_a_hurry(monkeypatch)
    world.ironic.on_request = lambda _request: Fault(FaultKind.STATUS, status=503)
    assert world.driver.get_info(instance, use_cache=False).state == power_state.NOSTATE


def test_d05_an_instance_that_nova_has_deleted_is_listed_and_its_provider_is_reserved(world: NovaWorld) -> None:
    instance, network_info = world.running()
    instance.destroy()
    driver = world.restarted()
    assert world.node in driver.get_available_nodes()
    assert driver.list_instance_uuids() == [instance.uuid]
    assert world.provider().data(world.node).inventory["CUSTOM_BAREMETAL"]["reserved"] == 1
    driver.destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None


def test_d05_an_instance_of_somebody_else_is_not_ours(world: NovaWorld) -> None:
    foreign = world.ironic.add_node(
        name="foreign", provision_state="active", instance_uuid="6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"
    )
    assert foreign not in world.driver.get_available_nodes()
    assert world.driver.list_instance_uuids() == []


def test_d06_a_failed_tear_down_is_told_and_can_be_repeated(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.fail_next(world.node, "tear_down", "the switch at 192.0.2.9 does not answer")
    with pytest.raises(exception.InstanceTerminationFailure, match="does not answer") as raised:
        world.driver.destroy(world.context, instance, network_info)
    assert "192.0.2.9" not in str(raised.value)
    assert world.seen()["provision_state"] == "error"
    # Nova refreshes its view of the nodes all the time; that must not make anybody forget whose the node is.
    world.driver.get_available_nodes()
    world.driver.destroy(world.context, instance, network_info)
    world.ironic.wait_for(world.node, "available")


def rebuild(world: NovaWorld, instance: Any, network_info: Any, image: Any = None, **how: Any) -> None:
    instance.task_state = task_states.REBUILDING
    instance.save()
    world.driver.rebuild(
        world.context,
        instance,
        image or world.image(),
        [],
        None,
        {},
        objects.BlockDeviceMappingList(objects=[]),
        None,
        None,
        network_info=network_info,
        **how,
    )


def test_d07_a_server_with_an_image_is_rebuilt_whatever_the_api_version_asks(world: NovaWorld) -> None:
    instance, network_info = world.running()
    image = world.image()
    rebuild(world, instance, network_info, image, reimage_boot_volume=True)
    node = world.seen()
    assert node["provision_state"] == "active"
    assert node["instance_info"]["image_source"] == image.id
    assert instance.task_state == task_states.REBUILD_SPAWNING


def test_d07_a_server_on_a_volume_keeps_its_state_when_a_rebuild_is_refused(world: NovaWorld) -> None:
    instance, network_info = world.running()
    instance.image_ref = ""
    with pytest.raises(exception.InstanceFaultRollback):
        rebuild(world, instance, network_info, reimage_boot_volume=True)


def test_d08_a_node_with_a_vif_of_somebody_else_is_not_used(world: NovaWorld) -> None:
    leaked = world.vif()
    world.ironic.set(world.node, instance_uuid=None)
    world.driver.services.ironic.attach_vif(world.node, leaked["id"])
    with pytest.raises(exception.ComputeResourcesUnavailable):
        world.driver.prepare_for_spawn(world.instance())
    assert world.seen()["instance_uuid"] is None


def test_d08_a_node_is_not_free_while_a_vif_is_left(world: NovaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    monkeypatch.setattr("bloomery.operations.deploy.MARK_TIMEOUT_S", 0.2)
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=400), "DELETE", "/vifs", times=9)
    with pytest.raises(exception.NovaException):
        world.driver.failed_spawn_cleanup(instance)
    assert world.seen()["instance_uuid"] == instance.uuid
    world.ironic.on_request = None
    world.driver.destroy(world.context, instance, network_info)
    assert world.seen()["instance_uuid"] is None
    assert world.ironic.vifs(world.node) == []


def test_d09_a_locked_node_is_not_reported_as_plugged(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=409), "POST", "/vifs", times=2)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    assert world.ironic.vifs(world.node) == [network_info[0]["id"]]


@pytest.mark.parametrize("fault", [400, 409])
def test_d09_a_vif_that_ironic_refuses_is_a_failure(world: NovaWorld, fault: int) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=fault), "POST", "/vifs", times=99)
    with pytest.raises(exception.VirtualInterfacePlugException):
        world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    assert world.ironic.vifs(world.node) == []


def test_d10_a_failed_power_action_is_a_failure(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.fail_next(world.node, "power", "the BMC is asleep")
    with pytest.raises(exception.InstancePowerOffFailure, match="the BMC is asleep"):
        world.driver.power_off(instance)
    world.driver.power_off(instance)
    world.ironic.fail_next(world.node, "power", "the BMC is asleep")
    with pytest.raises(exception.InstancePowerOnFailure):
        world.driver.power_on(world.context, instance, network_info)
    world.ironic.fail_next(world.node, "power", "the BMC is asleep")
    with pytest.raises(exception.InstanceRebootFailure):
        world.driver.reboot(world.context, instance, network_info, "HARD")


def test_d10_a_soft_reboot_that_fails_becomes_a_hard_one(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.fail_next(world.node, "power", "no ACPI")
    world.driver.reboot(world.context, instance, network_info, "SOFT")
    assert world.ironic.bmc(world.node).power_changes[-1] == "rebooting"


@pytest.mark.parametrize(
    "state",
    [
        *("active", "deploying", "wait call-back", "deploy failed", "rescue", "rescue failed", "unrescue failed"),
        *("service failed", "error"),
    ],
)
def test_d11_a_server_is_deleted_whatever_its_node_is_at(world: NovaWorld, state: str) -> None:
    instance, network_info = world.running()
    if state == "deploying":
        world.ironic.stick(world.node, "wait call-back")
    if state in ("deploying", "wait call-back"):
        world.driver.services.ironic.provision(world.driver.services.ironic.node(world.node), "rebuild")
    else:
        world.ironic.set(world.node, provision_state=state)
    world.driver.destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None


def test_d12_a_node_with_our_instance_is_never_taken_for_deleted(world: NovaWorld) -> None:
    world.running()
    world.ironic.add_node(name="another")
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=404), "GET", f"/nodes/{world.node}", times=99)
    assert not world.driver.is_node_deleted(world.node)


def test_d12_a_node_that_is_really_gone_is_told_so(world: NovaWorld) -> None:
    assert world.driver.is_node_deleted("8f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11")
    assert not world.driver.is_node_deleted(world.node)


def test_d12_nodes_that_vanish_all_at_once_are_not_believed_to_be_gone(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        world.ironic.add_node(name=f"more-{number}")
    CONF.set_override("full_list_interval", 0, group="bloomery")
    in_a_hurry(monkeypatch)
    known = world.driver.get_available_nodes()
    assert len(known) == 4
    with a_nova_world() as empty:
        world.driver.connection._services = empty.services()
        with pytest.raises(exception.VirtDriverNotReady):
            world.driver.get_available_nodes()
    assert len(world.driver.nodes._fleet) == 4


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_d02_a_healthy_deploy_survives_failing_looks(world: NovaWorld, fault: Fault) -> None:
    world.ironic.timings = replace(world.ironic.timings, deploy_s=0.3)
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    looks = iter(range(1000))

    def trouble(request: RecordedRequest) -> Fault | None:
        is_look = request.method == "GET" and request.path.endswith(world.node)
        return fault if is_look and next(looks) % 3 else None

    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    world.ironic.on_request = trouble
    world.driver.spawn(world.context, instance, world.image(), [], None, {}, network_info=network_info)
    assert world.seen()["provision_state"] == "active"


def test_d13_an_undeploy_by_the_operator_is_a_failed_build(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    world.ironic.set(world.node, instance_uuid=None)
    with pytest.raises(exception.InstanceDeployFailure):
        world.driver.spawn(world.context, instance, world.image(), [], None, {}, network_info=network_info)


def test_d14_a_deploy_that_never_ends_is_given_up_and_undone(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.ironic.stick(world.node, "wait call-back")
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    CONF.set_override("deploy_timeout", 1, group="bloomery")
    with pytest.raises(exception.InstanceDeployFailure, match="1 s"):
        world.driver.spawn(world.context, instance, world.image(), [], None, {}, network_info=network_info)
    world.ironic.wait_for(world.node, "available")


WAITS: dict[str, tuple[str, str, type[Exception], Callable[[NovaWorld, Any, Any], Any]]] = {
    "rebuild": (
        *("deploy_timeout", "wait call-back", exception.InstanceDeployFailure),
        lambda world, one, vifs: rebuild(world, one, vifs),
    ),
    "rescue": (
        *("rescue_timeout", "rescue wait", exception.InstanceRescueFailure),
        lambda world, one, vifs: world.driver.rescue(world.context, one, vifs, None, "open sesame", None, None),
    ),
    "destroy": (
        *("tear_down_timeout", "deleting", exception.InstanceTerminationFailure),
        lambda world, one, vifs: world.driver.destroy(world.context, one, vifs),
    ),
    "power off": (
        *("power_timeout", "", exception.InstancePowerOffFailure),
        lambda world, one, _vifs: world.driver.power_off(one),
    ),
}
"""The option that bounds each, the state that does not end, what Nova gets, and the call."""


@pytest.mark.parametrize("what", WAITS)
def test_d14_what_never_ends_is_given_up_when_the_time_is_over_that_nova_conf_gives_it(
    world: NovaWorld, what: str
) -> None:
    option, state, problem, call = WAITS[what]
    instance, network_info = world.running()
    CONF.set_override(option, 2, group="bloomery")
    if state:
        world.ironic.stick(world.node, state)
    else:
        world.ironic.timings = replace(world.ironic.timings, power_s=3600.0)
    with pytest.raises(problem, match="2 s"):
        call(world, instance, network_info)


def test_d15_an_ironic_that_never_answers_is_given_up(world: NovaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = world.driver
    assert driver.get_available_nodes() == [world.node]
    in_a_hurry(monkeypatch)
    world.ironic.on_request = lambda _request: Fault(FaultKind.DELAY, delay_s=5.0)
    with pytest.raises(exception.VirtDriverNotReady):
        driver.get_available_nodes()
    world.ironic.on_request = None
    assert driver.get_available_nodes() == [world.node]


def test_d16_a_slow_tear_down_is_waited_for_and_asking_again_waits_for_the_same(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.timings = replace(world.ironic.timings, tear_down_s=0.6)
    again = threading.Thread(target=world.driver.destroy, args=(world.context, instance, network_info))
    again.start()
    world.driver.destroy(world.context, instance, network_info)
    again.join()
    world.ironic.wait_for(world.node, "available")
    asked = [request.body for request in world.ironic.requests if request.path.endswith("/states/provision")]
    assert asked.count({"target": "deleted"}) <= 2


def test_d17_a_node_that_somebody_else_got_sends_the_server_to_another(world: NovaWorld) -> None:
    world.ironic.set(world.node, instance_uuid="6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11")
    with pytest.raises(exception.ComputeResourcesUnavailable):
        world.driver.prepare_for_spawn(world.instance())


def test_d17_a_node_that_stays_locked_sends_the_server_to_another_long_before_a_deploy_would_be_over(
    world: NovaWorld,
) -> None:
    CONF.set_override("claim_timeout", 1, group="bloomery")
    world.ironic.set(world.node, reservation="somebody")
    with pytest.raises(exception.ComputeResourcesUnavailable):
        world.driver.prepare_for_spawn(world.instance())
    assert world.seen()["instance_uuid"] is None


def test_d17_a_build_whose_questions_take_longer_than_a_locked_node_is_waited_for_goes_on(world: NovaWorld) -> None:
    CONF.set_override("claim_timeout", 1, group="bloomery")
    instance = world.instance()
    slow = Trouble(world.ironic, Fault(FaultKind.DELAY, delay_s=1.2), "GET", "/vifs", times=2)
    world.driver.prepare_for_spawn(instance)
    assert (slow.struck > 0, world.seen()["instance_uuid"]) == (True, instance.uuid)


def test_d17_a_claim_that_is_made_already_is_a_success(world: NovaWorld) -> None:
    instance = world.instance()
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_for_spawn(instance)
    assert world.seen()["instance_uuid"] == instance.uuid


def test_d19_an_outage_between_the_claim_and_the_plugging_is_waited_for(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    refused: list[RecordedRequest] = []

    def back_after_three(request: RecordedRequest) -> Fault | None:
        refused.append(request)
        return Fault(FaultKind.RESET) if len(refused) <= 3 else None

    world.ironic.on_request = back_after_three
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    assert len(refused) > 3
    assert world.ironic.vifs(world.node) == [network_info[0]["id"]]


def test_d19_an_outage_that_outlasts_the_plugging_leaves_a_node_that_is_free_once_ironic_is_back(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_hurry(monkeypatch)
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    with world.ironic.unreachable():
        with pytest.raises(exception.VirtualInterfacePlugException):
            world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
        # What the manager does then, while Ironic is still away.
        with contextlib.suppress(exception.NovaException):
            world.driver.clean_networks_preparation(instance, network_info)
        with contextlib.suppress(exception.NovaException):
            world.driver.failed_spawn_cleanup(instance)
        assert world.seen()["instance_uuid"] == instance.uuid, "there was nothing to be left"
    instance.host = instance.node = instance.compute_id = None
    instance.save()
    instance.destroy()  # the user deletes what failed to be built: Nova asks no nova-compute for that
    world.driver.get_available_nodes(refresh=True)
    assert instance.uuid in world.driver.list_instance_uuids()
    world.driver.destroy(world.context, instance, network_info)  # as `running_deleted_instance_action = reap` has it
    node = world.ironic.wait_for(world.node, "available")
    assert (node["instance_uuid"], node["instance_info"], node["extra"]) == (None, {}, {})
    assert world.ironic.vifs(world.node) == []


def test_d19_a_failed_build_leaves_nothing(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.ironic.fail_next(world.node, "deploy", "no disk")
    with pytest.raises(exception.InstanceDeployFailure, match="no disk"):
        world.spawn(instance, network_info)
    world.driver.destroy(world.context, instance, network_info)
    node = world.ironic.wait_for(world.node, "available")
    assert node["instance_uuid"] is None
    assert node["instance_info"] == {}
    assert world.ironic.vifs(world.node) == []


@pytest.mark.parametrize("fault", FAULTS[:3], ids=named)
def test_d20_an_ironic_that_is_away_is_not_ready(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    in_a_hurry(monkeypatch)
    driver = world.driver
    assert driver.services is not None
    world.ironic.on_request = lambda _request: fault
    for ask in (driver.get_available_nodes, driver.get_nodenames_by_uuid, driver.list_instance_uuids):
        with pytest.raises(exception.VirtDriverNotReady):
            ask()
    with pytest.raises(exception.VirtDriverNotReady):
        driver.get_num_instances()
    driver.init_host(HOST)


def test_d21_an_interface_that_cannot_be_attached_is_an_error_of_novas(world: NovaWorld) -> None:
    instance, _ = world.running()
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=400), "POST", "/vifs", times=99)
    with pytest.raises(exception.NovaException):
        world.driver.attach_interface(world.context, instance, world.image(), world.vif())


def test_d21_an_attached_interface_is_listed_and_attaching_it_again_is_fine(world: NovaWorld) -> None:
    instance, network_info = world.running()
    vif = world.vif()
    Trouble(world.ironic, Fault(FaultKind.LOSE_REPLY), "POST", "/vifs")
    world.driver.attach_interface(world.context, instance, world.image(), vif)
    world.driver.attach_interface(world.context, instance, world.image(), vif)
    assert set(world.ironic.vifs(world.node)) == {vif["id"], network_info[0]["id"]}
    world.driver.detach_interface(world.context, instance, vif)
    world.driver.detach_interface(world.context, instance, vif)
    assert world.ironic.vifs(world.node) == [network_info[0]["id"]]


def test_d22_an_interface_that_ironic_does_not_let_go_is_a_failure(world: NovaWorld) -> None:
    instance, network_info = world.running()
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=400), "DELETE", "/vifs", times=99)
    with pytest.raises(exception.InterfaceDetachFailed):
        world.driver.detach_interface(world.context, instance, network_info[0])
    assert world.ironic.vifs(world.node) == [network_info[0]["id"]]


CALLS: dict[str, Callable[[NovaWorld, Any, Any], Any]] = {
    "get_available_nodes": lambda world, _one, _vifs: world.driver.get_available_nodes(),
    "node_is_available": lambda world, _one, _vifs: world.driver.node_is_available(
        "8f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"
    ),
    "is_node_deleted": lambda world, _one, _vifs: world.driver.is_node_deleted(world.node),
    "update_provider_tree": lambda world, _one, _vifs: world.provider(),
    "instance_exists": lambda world, one, _vifs: world.driver.instance_exists(one),
    "get_info": lambda world, one, _vifs: world.driver.get_info(one, use_cache=False),
    "prepare_for_spawn": lambda world, one, _vifs: world.driver.prepare_for_spawn(one),
    "prepare_networks": lambda world, one, vifs: world.driver.prepare_networks_before_block_device_mapping(one, vifs),
    "spawn": lambda world, one, vifs: world.driver.spawn(world.context, one, world.image(), [], None, {}, vifs),
    "rebuild": lambda world, one, vifs: rebuild(world, one, vifs),
    "destroy": lambda world, one, vifs: world.driver.destroy(world.context, one, vifs),
    "power_on": lambda world, one, vifs: world.driver.power_on(world.context, one, vifs),
    "power_off": lambda world, one, _vifs: world.driver.power_off(one, timeout=1),
    "reboot": lambda world, one, vifs: world.driver.reboot(world.context, one, vifs, "SOFT"),
    "trigger_crash_dump": lambda world, one, _vifs: world.driver.trigger_crash_dump(one),
    "rescue": lambda world, one, vifs: world.driver.rescue(world.context, one, vifs, None, "secret", None, None),
    "unrescue": lambda world, one, _vifs: world.driver.unrescue(world.context, one),
    "unplug_vifs": lambda world, one, vifs: world.driver.unplug_vifs(one, vifs),
    "attach_interface": lambda world, one, vifs: world.driver.attach_interface(world.context, one, None, vifs[0]),
    "detach_interface": lambda world, one, vifs: world.driver.detach_interface(world.context, one, vifs[0]),
    "get_volume_connector": lambda world, one, _vifs: world.driver.get_volume_connector(one),
    "attach_volume": lambda world, one, _vifs: world.driver.attach_volume(world.context, {"serial": "v"}, one, None),
    "detach_volume": lambda world, one, _vifs: world.driver.detach_volume(world.context, {"serial": "v"}, one, None),
    "get_serial_console": lambda world, one, _vifs: world.driver.get_serial_console(world.context, one),
    "get_vnc_console": lambda world, one, _vifs: world.driver.get_vnc_console(world.context, one),
    "get_console_output": lambda world, one, _vifs: world.driver.get_console_output(world.context, one),
    "get_diagnostics": lambda world, one, _vifs: world.driver.get_diagnostics(one),
    "get_instance_diagnostics": lambda world, one, _vifs: world.driver.get_instance_diagnostics(one),
}
BREAKDOWNS = {
    "500": Fault(FaultKind.STATUS, status=500),
    "503": Fault(FaultKind.STATUS, status=503),
    "404": Fault(FaultKind.STATUS, status=404),
    "409": Fault(FaultKind.STATUS, status=409),
    "reset": Fault(FaultKind.RESET),
    "garbage": Fault(FaultKind.GARBAGE_BODY),
}


@pytest.mark.parametrize("breakdown", BREAKDOWNS)
@pytest.mark.parametrize("call", CALLS)
def test_d23_whatever_ironic_does_nova_gets_its_own_errors(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch, call: str, breakdown: str
) -> None:
    instance, network_info = world.running()
    in_a_hurry(monkeypatch)
    patience = Patience(before_change_s=0.3, after_change_s=0.3, first_pause_s=0.05)
    world.driver.connection._services = replace(world.driver.connection.services, patience=patience)
    world.ironic.on_request = lambda _request: BREAKDOWNS[breakdown]
    with contextlib.suppress(exception.NovaException):
        CALLS[call](world, instance, network_info)


def test_d24_a_rebuild_of_a_server_on_a_volume_leaves_no_image(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    devices = world.volume(instance)
    world.spawn(instance, network_info, devices)
    assert "image_source" not in world.seen()["instance_info"]
    rebuild(world, instance, network_info, block_device_info=devices)
    assert "image_source" not in world.seen()["instance_info"]


def test_d25_the_next_instance_inherits_nothing(world: NovaWorld) -> None:
    leftovers = {
        "configdrive": "of another",
        "capabilities": {"a": "b"},
        "traits": ["CUSTOM_X"],
        "image_type": "partition",
    }
    world.ironic.set(world.node, instance_info=leftovers)
    world.running()
    assert not {"configdrive", "capabilities", "traits"} & world.seen()["instance_info"].keys()


def test_d25_a_rebuild_clears_what_the_new_image_has_not(world: NovaWorld) -> None:
    world.ironic.set(world.node, traits=["CUSTOM_A"])
    instance, network_info = world.instance(), world.network_info()
    world.spawn(instance, network_info, image_meta=world.image(trait={}))
    info = world.seen()["instance_info"]
    world.ironic.set(
        world.node,
        instance_info={**info, "kernel": "k", "ramdisk": "r", "traits": ["CUSTOM_A"], "image_type": "partition"},
    )
    rebuild(world, instance, network_info)
    after = world.seen()["instance_info"]
    assert not {"kernel", "ramdisk", "traits"} & after.keys()
    assert after.get("image_type") != "partition"


def test_d26_a_refused_rebuild_leaves_the_instance_info_as_it_was(world: NovaWorld) -> None:
    instance, network_info = world.running()
    before = world.seen()["instance_info"]
    Trouble(world.ironic, Fault(FaultKind.STATUS, status=400), "PUT", "/states/provision", times=9)
    with pytest.raises(exception.InstanceDeployFailure):
        rebuild(world, instance, network_info)
    assert world.seen()["instance_info"] == before


def test_d27_a_rebuild_never_says_that_it_is_not_implemented(world: NovaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, network_info = world.running()

    def lazy(*_args: object) -> None:
        raise NotImplementedError("Cannot load 'id' in the base class")

    monkeypatch.setattr(world.driver, "get_instance_driver_metadata", lazy)
    with pytest.raises(exception.InstanceDeployFailure):
        rebuild(world, instance, network_info)


def test_d28_the_cache_knows_what_the_driver_itself_has_done(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.driver.get_available_nodes()
    assert world.driver.get_info(instance).state == power_state.RUNNING
    world.driver.power_off(instance)
    assert world.driver.get_info(instance).state == power_state.SHUTDOWN
    world.driver.power_on(world.context, instance, network_info)
    assert world.driver.get_info(instance).state == power_state.RUNNING


def test_d29_without_shards_in_ironic_no_node_is_ours() -> None:
    CONF.set_override("shard", "rack-1", group="ironic")
    with a_nova_world(max_version="1.81") as world, pytest.raises(exception.VirtDriverNotReady):
        world.driver.get_available_nodes()


def test_d30_a_build_goes_on_when_the_service_comes_back(world: NovaWorld) -> None:
    instance = left_behind(world, "wait for active", task_states.SPAWNING)
    now = followed(world, instance, vm_states.ACTIVE)
    assert now.power_state == power_state.RUNNING
    assert now.launched_at is not None
    assert world.seen()["provision_state"] == "active"


@pytest.mark.parametrize("step", ["validate node", "note volumes"])
def test_d30_a_build_that_ironic_never_heard_of_is_undone_and_ends_in_error(world: NovaWorld, step: str) -> None:
    instance = left_behind(world, step, task_states.SPAWNING)
    followed(world, instance, vm_states.ERROR)
    node = world.seen()
    assert (node["provision_state"], node["instance_uuid"]) == ("available", None)
    assert world.ironic.vifs(world.node) == []


def test_d30_a_build_that_failed_meanwhile_ends_in_error_with_the_reason(world: NovaWorld) -> None:
    world.ironic.fail_next(world.node, "deploy", "the disk is gone")
    instance = left_behind(world, "wait for active", task_states.SPAWNING)
    world.ironic.wait_for(world.node, "deploy failed")
    followed(world, instance, vm_states.ERROR)
    faults = objects.InstanceFaultList.get_by_instance_uuids(world.context, [instance.uuid])
    assert "the disk is gone" in faults[0].message
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None


def test_d30_a_rebuild_goes_on_when_the_service_comes_back(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.driver.connection._services = replace(world.services(), observer=Death("wait for active"))
    image = world.image()
    with pytest.raises(Killed):
        rebuild(world, instance, network_info, image)
    followed(world, instance, vm_states.ACTIVE)
    assert world.seen()["instance_info"]["image_source"] == image.id


def test_d30_a_server_that_no_node_carries_is_left_to_nova(world: NovaWorld) -> None:
    instance = world.instance(task_state=task_states.SPAWNING)
    left = world.driver.process_instances_at_startup(world.context, objects.InstanceList(objects=[instance]))
    assert [one.uuid for one in left] == [instance.uuid]


def test_d31_volume_targets_of_others_stay(world: NovaWorld) -> None:
    other = world.ironic.add_node(name="other", storage_interface="external")
    ironic = world.driver.services.ironic
    for node, volume in ((other, "theirs"), (world.node, "the operator's")):
        ironic.add_volume_target(
            node,
            target_uuid=f"6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c1{len(volume) % 10}",
            volume_id=volume,
            volume_type="iscsi",
            boot_index=7,
            properties=_secret(),
            extra={},
        )
    instance = world.instance()
    world.ironic.set(world.node, instance_uuid=instance.uuid, instance_info={"nova_host_id": HOST})
    instance.node = None
    world.driver.destroy(world.context, instance, None)
    left = [target["volume_id"] for node in (other, world.node) for target in world.ironic.volume_targets(node)]
    assert left == ["theirs", "the operator's"]


def _secret() -> Any:
    from bloomery.secret import Secret

    return Secret({})


def test_d32_no_volume_target_of_the_instance_is_left(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    devices = world.volume(instance)
    world.spawn(instance, network_info, devices)
    assert len(world.ironic.volume_targets(world.node)) == 1
    world.driver.destroy(world.context, instance, network_info, devices)
    world.ironic.wait_for(world.node, "available")
    assert world.ironic.volume_targets(world.node) == []


def test_d33_what_is_left_on_the_last_node_of_an_instance_is_cleaned(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    world.driver.services.ironic.attach_vif(world.node, network_info[0]["id"])
    world.driver.destroy(world.context, instance, network_info)
    assert world.ironic.vifs(world.node) == []


def test_d33_a_node_that_carries_another_instance_by_now_is_left_alone(world: NovaWorld) -> None:
    former, _ = world.running()
    vif = world.vif()
    world.ironic.set(world.node, instance_uuid="6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11", extra={})
    before = world.seen()
    world.driver.destroy(world.context, former, [vif])
    assert world.seen() == before


def test_d34_many_threads_at_once_do_no_harm(world: NovaWorld) -> None:
    instance, _ = world.running()
    problems: list[BaseException] = []

    def hammer() -> None:
        try:
            for _ in range(8):
                world.driver.get_available_nodes()
                world.driver.get_info(instance)
                world.driver.list_instance_uuids()
                world.driver.nodes.doubt(world.node)
        except BaseException as problem:  # noqa: BLE001  whatever it is, the test is to show it
            problems.append(problem)

    threads = [threading.Thread(target=hammer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_d35_a_refresh_that_was_under_way_does_not_bring_back_what_is_gone(world: NovaWorld) -> None:
    instance, network_info = world.running()
    CONF.set_override("full_list_interval", 0, group="bloomery")
    driver = world.driver
    driver.get_available_nodes()
    Trouble(world.ironic, Fault(FaultKind.DELAY_REPLY, delay_s=1.0), "GET", "/v1/nodes", times=2)
    refreshing = threading.Thread(target=driver.get_available_nodes)
    refreshing.start()
    driver.destroy(world.context, instance, network_info)
    world.ironic.wait_for(world.node, "available")
    assert driver.get_info(instance).state == power_state.NOSTATE
    refreshing.join()
    assert driver.get_info(instance).state == power_state.NOSTATE
    assert world.provider().data(world.node).inventory["CUSTOM_BAREMETAL"]["reserved"] == 0


def test_d36_d37_power_states_of_many_cost_no_request(world: NovaWorld) -> None:
    servers = [world.instance() for _ in range(200)]
    for server in servers:
        world.ironic.add_node(instance_uuid=server.uuid, provision_state="active", power_state="power on", ports=0)
    world.driver.get_available_nodes()
    before = len(world.ironic.requests)
    assert {world.driver.get_info(server).state for server in servers} == {power_state.RUNNING}
    assert len(world.ironic.requests) == before


def test_d38_ironic_is_told_how_long_a_soft_power_off_may_take(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.driver.power_off(instance, timeout=3)
    asked = [request.body for request in world.ironic.requests if request.path.endswith("/states/power")]
    assert {"target": "soft power off", "timeout": 3} in asked


def test_d39_an_image_that_ironic_refuses_ends_the_build(world: NovaWorld) -> None:
    world.ironic.fail_next(world.node, "deploy", "The requested image is not valid for use.")
    with pytest.raises(exception.BuildAbortException):
        world.spawn(world.instance(), world.network_info())


def test_d40_d41_a_console_is_started_once_and_left_to_whoever_is_on_it(world: NovaWorld) -> None:
    instance, _ = world.running()
    first = world.driver.get_serial_console(world.context, instance)
    again = world.driver.get_serial_console(world.context, instance)
    assert (first.host, first.port) == (again.host, again.port)
    puts = [request for request in world.ironic.requests if request.method == "PUT" and "console" in request.path]
    assert len(puts) == 1
    world.ironic.set(world.node, console_enabled=False)
    world.driver.get_serial_console(world.context, instance)


def asked_where(world: NovaWorld) -> int:
    """How often Ironic was asked where the console is, which ends the session of whoever is on a serial one."""
    return sum(request.method == "GET" and request.path.endswith("/console") for request in world.ironic.requests)


@pytest.mark.parametrize("fixed_port", [None, 2345], ids=["Ironic chose its port", "its port is fixed"])
def test_d41_who_is_on_a_serial_console_stays_on_it_when_it_is_asked_for_again(
    world: NovaWorld, fixed_port: int | None
) -> None:
    if fixed_port is not None:
        world.ironic.set(world.node, driver_info={**world.seen()["driver_info"], "ipmi_terminal_port": fixed_port})
    instance, _ = world.running()
    first = world.driver.get_serial_console(world.context, instance)
    asked = asked_where(world)
    again = world.driver.get_serial_console(world.context, instance)
    assert (again.host, again.port) == (first.host, first.port)
    assert asked_where(world) == asked


@pytest.mark.parametrize(
    "fields",
    [
        {"driver_internal_info": {"allocated_ipmi_terminal_port": 2345}},
        {"driver_info": {"ipmi_terminal_port": 2345}},
    ],
    ids=["Ironic chose another port", "an operator chose another port"],
)
def test_d41_a_serial_console_that_has_gone_elsewhere_is_found_there(world: NovaWorld, fields: dict[str, Any]) -> None:
    instance, _ = world.running()
    first = world.driver.get_serial_console(world.context, instance)
    world.ironic.set(world.node, **fields)
    # Another machine's console may be at the former port by now.
    assert world.driver.get_serial_console(world.context, instance).port == 2345 != first.port


def test_d42_whatever_is_wrong_with_a_console_it_is_unavailable(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.ironic.fail_next(world.node, "console", "no socat")
    with pytest.raises(exception.ConsoleTypeUnavailable):
        world.driver.get_serial_console(world.context, instance)
    with pytest.raises(exception.ConsoleTypeUnavailable):
        world.driver.get_vnc_console(world.context, instance)


@pytest.mark.parametrize(
    ("kind", "interface"), [("serial", "ipmitool-socat"), ("vnc", "redfish-graphical")], ids=["serial", "vnc"]
)
def test_d42_a_console_that_does_not_start_is_waited_for_as_long_as_nova_conf_says(
    world: NovaWorld, kind: str, interface: str
) -> None:
    instance, _ = world.running()
    world.ironic.set(world.node, console_interface=interface)
    world.ironic.timings = replace(world.ironic.timings, console_s=3600.0)
    option = f"{kind}_console_state_timeout"
    if option not in CONF.ironic:
        pytest.skip("this Nova has no such option")
    CONF.set_override(option, 2, group="ironic")
    ask = {"serial": world.driver.get_serial_console, "vnc": world.driver.get_vnc_console}[kind]
    try:
        with pytest.raises(exception.ConsoleTypeUnavailable) as raised:
            ask(world.context, instance)
        assert "2 s" in str(raised.value.__cause__)
    finally:
        CONF.clear_override(option, group="ironic")


def test_d44_a_rescue_that_fails_is_told_at_once(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.fail_next(world.node, "rescue", "no rescue ramdisk")
    with pytest.raises(exception.InstanceRescueFailure, match="no rescue ramdisk"):
        world.driver.rescue(world.context, instance, network_info, None, "open sesame", None, None)
    world.driver.rescue(world.context, instance, network_info, None, "open sesame", None, None)
    assert world.seen()["provision_state"] == "rescue"
    world.driver.unrescue(world.context, instance)
    assert world.seen()["provision_state"] == "active"


def test_d45_a_node_without_a_resource_class_is_named_once_and_not_scheduled_to(
    world: NovaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.ironic.set(world.node, resource_class=None)
    assert world.provider().data(world.node).inventory == {}
    world.provider()
    assert len([record for record in caplog.records if "no resource class" in record.getMessage()]) == 1


def test_d45_a_node_that_loses_its_resource_class_keeps_its_inventory_and_all_of_it_is_reserved(
    world: NovaWorld,
) -> None:
    tree = world.provider()
    before = tree.data(world.node).inventory["CUSTOM_BAREMETAL"]
    assert (before["total"], before["reserved"]) == (1, 0)
    world.ironic.set(world.node, resource_class=None)
    world.driver.nodes.doubt(world.node)
    world.driver.update_provider_tree(tree, world.node)
    assert tree.data(world.node).inventory == {"CUSTOM_BAREMETAL": {**before, "reserved": 1}}


def test_d45_traits_of_others_stay_and_ours_come_and_go(world: NovaWorld) -> None:
    world.ironic.set(world.node, traits=["CUSTOM_OURS"], properties={"capabilities": "boot_mode:uefi,secure_boot:true"})
    tree = world.provider()
    tree.update_traits(world.node, {*tree.data(world.node).traits, "CUSTOM_THEIRS"})
    assert {"CUSTOM_OURS", "COMPUTE_FIRMWARE_UEFI", "COMPUTE_SECURITY_UEFI_SECURE_BOOT"} <= tree.data(world.node).traits
    world.ironic.set(world.node, traits=[])
    world.driver.nodes.doubt(world.node)
    world.driver.update_provider_tree(tree, world.node)
    assert "CUSTOM_THEIRS" in tree.data(world.node).traits
    assert "CUSTOM_OURS" not in tree.data(world.node).traits


def test_d46_a_node_of_our_instance_stays_ours_in_another_conductor_group(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.ironic.set(world.node, conductor_group="elsewhere")
    CONF.set_override("conductor_group", "here", group="ironic")
    CONF.set_override("peer_list", [HOST], group="ironic")
    driver = world.restarted()
    assert driver.get_available_nodes() == [world.node]
    assert driver.list_instance_uuids() == [instance.uuid]


def test_d47_no_secret_is_logged(world: NovaWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    instance, network_info = world.instance(), world.network_info()
    instance.config_drive = "True"
    world.spawn(instance, network_info, admin_password="correct horse")
    world.driver.rescue(world.context, instance, network_info, None, "open sesame", None, None)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "correct horse" not in said
    assert "open sesame" not in said


def test_d51_a_power_event_that_is_wrong_or_late_changes_nothing(world: NovaWorld) -> None:
    instance, _ = world.running()
    with pytest.raises(exception.NovaException):
        world.driver.power_update_event(instance, "POWER_SIDEWAYS")
    instance.task_state = task_states.POWERING_OFF
    instance.save()
    world.driver.power_update_event(instance, "POWER_OFF")
    assert instance.vm_state == vm_states.ACTIVE
    world.driver.power_off(instance)
    world.driver.power_update_event(instance, "POWER_OFF")
    assert instance.vm_state == vm_states.STOPPED


def test_d53_extra_specs_that_only_look_like_traits_do_no_harm(world: NovaWorld) -> None:
    specs = {"traitor": "x", "trait:CUSTOM_A": "required", "trait2:CUSTOM_B": "required", "trait:CUSTOM_C": "forbidden"}
    world.ironic.set(world.node, traits=["CUSTOM_A", "CUSTOM_B"])
    instance = world.instance(extra_specs={**specs, "capabilities:boot_mode": "uefi"})
    world.spawn(instance, world.network_info())
    info = world.seen()["instance_info"]
    assert info["traits"] == ["CUSTOM_A", "CUSTOM_B"]
    assert json.loads(info["capabilities"]) == {"boot_mode": "uefi"}


def test_instance_info_is_what_novas_own_driver_writes(world: NovaWorld) -> None:
    specs = {"trait:CUSTOM_A": "required", "capabilities:boot_mode": "uefi"}
    world.ironic.set(world.node, traits=["CUSTOM_A"])
    instance, network_info, image = world.instance(extra_specs=specs), world.network_info(), world.image()
    world.spawn(instance, network_info, image_meta=image)
    about = world.driver.get_instance_driver_metadata(instance, network_info)
    node = world.driver.services.ironic.node(world.node)
    patch = patcher.create(node).get_deploy_patch(instance, image, instance.flavor, about)
    theirs = {change["path"].removeprefix("/instance_info/"): change["value"] for change in patch}
    assert {key: value for key, value in world.seen()["instance_info"].items() if key in theirs} == theirs
    assert world.seen()["instance_info"].keys() - theirs.keys() <= {"image_type", "configdrive", "image_url"}


def test_the_config_drive_has_the_layout_of_novas_own(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    instance.config_drive = "True"
    instance.user_data = base64.b64encode(b"#!/bin/sh\n").decode()
    world.spawn(instance, network_info, admin_password="correct horse")
    (asked,) = [
        request.body
        for request in world.ironic.requests
        if request.path.endswith("/states/provision") and "configdrive" in (request.body or {})
    ]
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(gzip.decompress(base64.b64decode(asked["configdrive"]))))
    content = {}
    for path in ("meta_data.json", "network_data.json", "user_data"):
        out = io.BytesIO()
        iso.get_file_from_iso_fp(out, joliet_path=f"/openstack/latest/{path}")
        content[path] = out.getvalue()
    assert json.loads(content["meta_data.json"])["admin_pass"] == "correct horse"
    assert content["user_data"] == b"#!/bin/sh\n"
    (port,) = [port for port in world.ironic.ports(world.node) if port["internal_info"].get("tenant_vif_port_id")]
    (link,) = json.loads(content["network_data.json"])["links"]
    assert link["ethernet_mac_address"] == port["address"]
    assert link["type"] == "phy"
    iso.close()


def test_a_server_can_be_built_without_being_started(world: NovaWorld) -> None:
    instance = world.instance()
    world.spawn(instance, world.network_info(), power_on=False)
    assert world.seen()["power_state"] == "power off"


def test_an_instance_of_novas_own_driver_is_destroyed_with_its_vifs(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.set(world.node, extra={})
    world.driver.destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None
    assert world.ironic.vifs(world.node) == []


def test_the_power_that_somebody_else_changes_is_told_to_nova(world: NovaWorld) -> None:
    instance, _ = world.running()
    told: list[Any] = []
    world.driver.register_event_listener(told.append)
    world.driver.get_available_nodes()
    world.ironic.set(world.node, power_state="power off")
    world.driver.get_available_nodes()
    world.driver.get_available_nodes()
    assert [(event.get_instance_uuid(), event.get_name()) for event in told] == [(instance.uuid, "Stopped")]
