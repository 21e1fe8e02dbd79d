"""What Nova's own Ironic driver once had wrong, at our door: of R1 to R34 those that are this door's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import nova.conf
import pytest
from nova import exception, objects, servicegroup
from nova.compute import power_state
from nova.virt import driver as virt_driver

from bloomery.doors.nova.config import Connection
from bloomery.doors.nova.driver import IronicDriver
from bloomery.doors.nova.nodes import Scope, peers
from bloomery.errors import ServiceUnavailable
from bloomery.operations.run import Services
from doors_nova.nova_world import HOST, NovaWorld

CONF = nova.conf.CONF
SOMEBODY = "6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    """What a test says in nova.conf holds for it alone."""
    yield
    for name in ("shard", "conductor_group", "peer_list"):
        CONF.clear_override(name, group="ironic")


def asked(world: NovaWorld) -> int:
    """How many requests Ironic has had."""
    return len(world.ironic.requests)


@pytest.mark.parametrize("do", ["power_off", "power_on", "reboot"])
def test_r1_r2_the_power_after_an_action_is_the_machines_and_not_the_former_one(world: NovaWorld, do: str) -> None:
    instance, network_info = world.running()
    world.driver.get_available_nodes()
    if do == "power_off":
        world.driver.power_off(instance)
    elif do == "power_on":
        world.driver.power_off(instance)
        world.driver.power_on(world.context, instance, network_info)
    else:
        world.driver.reboot(world.context, instance, network_info, "HARD")
    wanted = power_state.SHUTDOWN if do == "power_off" else power_state.RUNNING
    assert world.driver.get_info(instance).state == wanted
    assert world.driver.get_info(instance, use_cache=False).state == wanted


@pytest.mark.parametrize(
    "fields",
    [{"provision_state": "cleaning"}, {"provision_state": "active", "instance_uuid": SOMEBODY}, {"maintenance": True}],
    ids=["cleaning", "in use", "maintenance"],
)
def test_r6_a_node_that_nobody_can_have_is_reserved_in_placement(world: NovaWorld, fields: dict[str, Any]) -> None:
    node = world.ironic.add_node(name="another", **{"resource_class": "baremetal", **fields})
    (inventory,) = world.provider(node).data(node).inventory.values()
    assert (inventory["total"], inventory["reserved"]) == (1, 1)


def test_r17_counting_instances_asks_ironic_nothing_for_each(world: NovaWorld) -> None:
    world.running()
    world.driver.get_available_nodes()
    before = asked(world)
    assert world.driver.get_num_instances() == 1
    assert asked(world) == before


def test_r18_a_hosts_name_in_capitals_is_the_same_host(world: NovaWorld) -> None:
    world.add_service(HOST.upper())
    world.add_service("Compute-2")
    world.add_service("Compute-3", is_up=False)
    assert peers(Scope(None, None), servicegroup.API()) == {HOST, "compute-2"}
    CONF.set_override("peer_list", [HOST.upper(), "COMPUTE-2"], group="ironic")
    assert peers(Scope("racks", None), servicegroup.API()) == {HOST, "compute-2"}


def test_r19_instances_are_read_after_the_nodes(world: NovaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = objects.InstanceList.get_uuids_by_host

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(asked(world))
        return read(*args, **kwargs)

    monkeypatch.setattr(objects.InstanceList, "get_uuids_by_host", noted)
    world.driver.get_available_nodes()
    assert seen == [asked(world)]


def test_r20_a_node_that_another_service_has_by_now_is_not_deleted(world: NovaWorld) -> None:
    world.driver.get_available_nodes()
    world.ironic.set(world.node, conductor_group="elsewhere")
    CONF.set_override("conductor_group", "here", group="ironic")
    CONF.set_override("peer_list", [HOST], group="ironic")
    driver = world.restarted()
    assert world.node not in driver.get_available_nodes()
    assert not driver.is_node_deleted(world.node)


def test_r21_a_node_that_comes_back_has_the_uuid_that_it_had(world: NovaWorld) -> None:
    first = world.driver.get_available_resource(world.node)
    world.ironic.set(world.node, maintenance=True)
    world.driver.nodes.doubt(world.node)
    away = world.driver.get_available_resource(world.node)
    world.ironic.set(world.node, maintenance=False)
    back = world.restarted().get_available_resource(world.node)
    assert first["uuid"] == away["uuid"] == back["uuid"] == first["hypervisor_hostname"] == world.node
    assert world.driver.get_nodenames_by_uuid() == {world.node: world.node}


def test_r22_every_node_has_a_provider_of_its_own(world: NovaWorld) -> None:
    # Nova deletes a service's providers node by node: a node's name and its provider's UUID have to be one.
    world.ironic.add_node(name="another")
    for name in world.driver.get_available_nodes():
        assert world.provider(name).data(name).uuid == name


def test_r23_a_service_without_ironic_starts_and_is_not_ready() -> None:
    def away() -> Services:
        raise ServiceUnavailable("Ironic cannot be reached")

    driver = IronicDriver(None, connection=Connection(away))
    driver.init_host(HOST)
    with pytest.raises(exception.VirtDriverNotReady):
        driver.list_instance_uuids()


def test_r24_a_service_without_nodes_says_nothing(world: NovaWorld, caplog: pytest.LogCaptureFixture) -> None:
    CONF.set_override("shard", "empty", group="ironic")
    driver = world.restarted()
    for _ in range(3):
        assert driver.get_available_nodes() == []
        assert driver.list_instance_uuids() == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_r25_plugging_what_is_plugged_asks_ironic_nothing(world: NovaWorld) -> None:
    instance, network_info = world.running()
    before = asked(world)
    for _ in range(3):
        world.driver.plug_vifs(instance, network_info)
    assert asked(world) == before


def test_r26_nova_keeps_its_hands_off_the_bindings(world: NovaWorld) -> None:
    instance, _ = world.running()
    assert world.driver.manages_network_binding_host_id()
    world.driver.network_binding_host_id(world.context, instance)
    assert world.ironic.vifs(world.node)


def test_r29_telling_placement_of_a_node_asks_for_that_node_only(world: NovaWorld) -> None:
    for number in range(5):
        world.ironic.add_node(name=f"more-{number}")
    world.driver.get_available_nodes()
    before = asked(world)
    world.provider()
    assert asked(world) == before


def test_r32_traits_that_nova_itself_has_set_stay(world: NovaWorld) -> None:
    tree = world.provider()
    tree.update_traits(world.node, {*tree.data(world.node).traits, "COMPUTE_STATUS_DISABLED"})
    for _ in range(2):
        world.driver.update_provider_tree(tree, world.node)
    assert "COMPUTE_STATUS_DISABLED" in tree.data(world.node).traits


def test_r33_a_shard_is_one_services_and_the_nodes_outside_are_not(world: NovaWorld) -> None:
    inside = world.ironic.add_node(name="inside", shard="rack-1")
    CONF.set_override("shard", "rack-1", group="ironic")
    assert world.restarted().get_available_nodes() == [inside]
    world.add_service(HOST)
    world.add_service("compute-2")
    assert peers(Scope(None, "rack-1"), servicegroup.API()) == {HOST}


def test_r34_the_image_types_are_those_that_ironic_writes(world: NovaWorld) -> None:
    traits = virt_driver.ComputeDriver.capabilities_as_traits(world.driver)
    assert {name for name, is_there in traits.items() if is_there and name.startswith("COMPUTE_IMAGE_TYPE")} == {
        "COMPUTE_IMAGE_TYPE_AMI",
        "COMPUTE_IMAGE_TYPE_QCOW2",
        "COMPUTE_IMAGE_TYPE_RAW",
    }
