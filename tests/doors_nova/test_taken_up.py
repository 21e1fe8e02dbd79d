"""What was under way when nova-compute stopped, where it is not as simple as that it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from nova import exception, objects
from nova.compute import power_state, task_states, vm_states
from nova.virt import driver as virt_driver
from oslo_db.exception import DBConnectionError

from doors_nova.deaths import Death, Killed, followed, left_behind
from doors_nova.nova_world import CONF, HOST, NovaWorld

NOBODY = objects.BlockDeviceMappingList(objects=[])


def now(world: NovaWorld, instance: Any) -> Any:
    """The server as Nova has it."""
    return objects.Instance.get_by_uuid(world.context, instance.uuid)


def joined(instance: Any) -> None:
    """Nobody follows the server any more."""
    for thread in threading.enumerate():
        if thread.name == f"bloomery-{instance.uuid}":
            thread.join(30)


def broken_off(world: NovaWorld, step: str, vm_state: str, *, stuck_in: str | None = None) -> tuple[Any, str]:
    """A server in that state whose compute service died before that step of its rebuild; and the image it was to have."""
    instance, network_info = world.running()
    if vm_state == vm_states.STOPPED:
        world.driver.power_off(instance)
    instance.vm_state, instance.task_state = vm_state, task_states.REBUILDING
    instance.save()
    world.driver.connection._services = replace(world.services(), observer=Death(step))
    if stuck_in is not None:
        world.ironic.stick(world.node, stuck_in)
    image = world.image()
    with pytest.raises(Killed):
        world.driver.rebuild(
            *(world.context, instance, image, [], None, {}, NOBODY, None, None), network_info=network_info
        )
    return instance, image.id


def test_a_rebuild_of_a_server_in_error_goes_on_when_the_service_comes_back(world: NovaWorld) -> None:
    instance, image = broken_off(world, "wait for active", vm_states.ERROR)
    followed(world, instance, vm_states.ACTIVE)
    assert world.seen()["instance_info"]["image_source"] == image


def test_a_rebuild_of_a_stopped_server_ends_with_the_server_stopped_as_nova_ends_it(world: NovaWorld) -> None:
    instance, image = broken_off(world, "wait for active", vm_states.STOPPED)
    assert followed(world, instance, vm_states.STOPPED).power_state == power_state.SHUTDOWN
    assert world.seen()["instance_info"]["image_source"] == image
    assert world.seen()["power_state"] == "power off"


@pytest.fixture
def looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a server looks at it each time that he hears of its node."""
    monkeypatch.setattr("bloomery.doors.nova.following.LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("looked_at_often")
def test_a_rescue_of_a_server_in_error_goes_on_when_the_service_comes_back(world: NovaWorld) -> None:
    instance, network_info = world.running()
    instance.vm_state, instance.task_state = vm_states.ERROR, task_states.RESCUING
    instance.save()
    world.driver.connection._services = replace(world.services(), observer=Death("wait for rescue"))
    world.ironic.timings = replace(world.ironic.timings, rescue_s=0.3)
    with pytest.raises(Killed):
        world.driver.rescue(world.context, instance, network_info, None, "open sesame", None, None)
    followed(world, instance, vm_states.RESCUED)


def of_an_older_nova(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nova does not ask the driver what was under way (before 2026.2)."""
    if hasattr(virt_driver.ComputeDriver, "process_instances_at_startup"):
        monkeypatch.delattr(virt_driver.ComputeDriver, "process_instances_at_startup")


def start_of_an_older_nova(world: NovaWorld, instance: Any, *, until: Callable[[], object] = lambda: None) -> None:
    """The manager's `init_host`: it calls what was being built or rebuilt failed, and then looks at the nodes."""
    driver = world.restarted()
    driver.init_host(HOST)
    driver.get_nodenames_by_uuid()
    read = now(world, instance)
    assert (read.vm_state, read.task_state) == (instance.vm_state, instance.task_state), (
        "too early: Nova is to see it so"
    )
    read.vm_state, read.task_state = vm_states.ERROR, None
    read.save()
    driver.get_available_nodes()
    until()
    joined(instance)


@pytest.mark.usefixtures("looked_at_often")
@pytest.mark.parametrize("what", ["build", "rebuild"])
def test_an_older_nova_that_has_called_it_failed_is_told_better(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    of_an_older_nova(monkeypatch)
    if what == "build":
        world.ironic.stick(world.node, "wait call-back")
        instance = left_behind(world, "wait for active", task_states.SPAWNING)
    else:
        instance, _ = broken_off(world, "wait for active", vm_states.ACTIVE, stuck_in="wait call-back")
    world.ironic.wait_for(world.node, "wait call-back", quiet=False)

    def looked_at_and_active() -> None:
        looks, enough = count(1), threading.Event()
        world.ironic.on_request = lambda _request: enough.set() if next(looks) == 5 else None
        assert enough.wait(30), "nobody looks at the node"
        world.ironic.set(world.node, provision_state="active", target_provision_state=None, reservation=None)

    start_of_an_older_nova(world, instance, until=looked_at_and_active)
    told = now(world, instance)
    assert (told.vm_state, told.task_state) == (vm_states.ACTIVE, None)
    assert world.seen()["provision_state"] == "active"


def test_an_older_nova_has_a_server_in_error_with_the_reason_where_nothing_came_of_it(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_an_older_nova(monkeypatch)
    instance = left_behind(world, "validate node", task_states.SPAWNING)
    start_of_an_older_nova(world, instance)
    assert now(world, instance).vm_state == vm_states.ERROR
    (fault,) = objects.InstanceFaultList.get_by_instance_uuids(world.context, [instance.uuid])
    assert "before Ironic had taken it up" in fault.message
    assert (world.seen()["provision_state"], world.seen()["instance_uuid"]) == ("available", None)


# Ironic is away, too


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No question is repeated for long."""
    monkeypatch.setattr("bloomery.doors.nova.config.LEAST_QUICK_S", 0.3)
    CONF.set_override("api_max_retries", 0, group="ironic")
    yield
    CONF.clear_override("api_max_retries", group="ironic")


def started_without_ironic(world: NovaWorld, *instances: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
    """nova-compute starts while Ironic is away, which is back when it looks at the nodes next; nothing was left to Nova."""
    services, driver = world.services(), world.restarted()
    driver.connection._services = services
    with world.ironic.unreachable():
        driver.init_host(HOST)
        left = driver.process_instances_at_startup(world.context, objects.InstanceList(objects=list(instances)))
        assert list(left) == []
        # Nova looks at the nodes every minute.
        with pytest.raises(exception.VirtDriverNotReady):
            driver.get_available_nodes()
    meanwhile()
    # What cannot be written, as where many write at once, is written after the next look.
    for _ in range(2):
        driver.get_available_nodes()
        for instance in instances:
            joined(instance)


@pytest.mark.usefixtures("impatient")
def test_what_was_under_way_is_followed_though_ironic_was_away_when_the_service_came_back(world: NovaWorld) -> None:
    built = left_behind(world, "wait for active", task_states.SPAWNING)
    world.node = world.ironic.add_node(name="another", ports=1, storage_interface="external")
    never = left_behind(world, "validate node", task_states.SPAWNING)
    world.node = world.ironic.add_node(name="third", ports=1)
    nowhere = world.instance(task_state=task_states.SPAWNING)
    started_without_ironic(world, built, never, nowhere)
    states = {what.uuid: (now(world, what).vm_state, now(world, what).task_state) for what in (built, never, nowhere)}
    failed = (vm_states.ERROR, None)
    assert states == {built.uuid: (vm_states.ACTIVE, None), never.uuid: failed, nowhere.uuid: failed}
    faults = objects.InstanceFaultList.get_by_instance_uuids(world.context, list(states))
    reasons = {fault.instance_uuid: fault.message for fault in faults}
    assert reasons.keys() == {never.uuid, nowhere.uuid}, reasons
    assert "before Ironic had taken it up" in reasons[never.uuid]
    assert "no node carries it any more" in reasons[nowhere.uuid]


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_deleted_before_ironic_is_back_is_not_brought_to_life(world: NovaWorld) -> None:
    gone = left_behind(world, "wait for active", task_states.SPAWNING)
    world.ironic.wait_for(world.node, "active")
    started_without_ironic(world, gone, meanwhile=lambda: now(world, gone).destroy())
    with pytest.raises(exception.InstanceNotFound):
        now(world, gone)


def test_a_server_whose_end_cannot_be_written_is_looked_at_once_more(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = left_behind(world, "wait for active", task_states.SPAWNING)
    save, asked = objects.Instance.save, []

    def away(record: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(record.vm_state)
        if len(asked) == 1:
            raise DBConnectionError("the database is away")
        return save(record, *arguments, **more)

    driver = world.restarted()
    with monkeypatch.context() as within:
        within.setattr(objects.Instance, "save", away)
        driver.process_instances_at_startup(world.context, objects.InstanceList(objects=[instance]))
        joined(instance)
        assert now(world, instance).vm_state == vm_states.BUILDING
        driver.get_available_nodes()
        joined(instance)
    assert (now(world, instance).vm_state, now(world, instance).task_state) == (vm_states.ACTIVE, None)
    assert set(asked) == {vm_states.ACTIVE}


# Deleted before


@pytest.mark.usefixtures("looked_at_often")
def test_a_server_that_was_being_deleted_while_it_was_built_is_in_error_with_no_node_and_can_be_deleted_again(
    world: NovaWorld,
) -> None:
    world.ironic.stick(world.node, "wait call-back")
    instance = left_behind(world, "wait for active", task_states.SPAWNING)
    instance.task_state = task_states.DELETING
    instance.save()
    followed(world, instance, vm_states.ERROR)
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None


# Begun by Nova's own driver


def of_novas_own_driver(world: NovaWorld) -> None:
    """Nothing of ours is on the node: Nova's own driver does its work."""
    world.ironic.set(world.node, extra={})


@pytest.mark.parametrize("what", ["build", "rebuild"])
def test_what_novas_own_driver_had_under_way_when_the_driver_was_changed_is_followed(
    world: NovaWorld, what: str
) -> None:
    if what == "build":
        instance = left_behind(world, "wait for active", task_states.SPAWNING)
    else:
        instance, _ = broken_off(world, "request rebuild", vm_states.ACTIVE)
    of_novas_own_driver(world)
    world.ironic.timings = replace(world.ironic.timings, deploy_s=0.5)
    if what == "rebuild":
        services = world.services()
        services.ironic.provision(services.ironic.node(world.node), "rebuild")
    followed(world, instance, vm_states.ACTIVE)
    assert world.seen()["provision_state"] == "active"
