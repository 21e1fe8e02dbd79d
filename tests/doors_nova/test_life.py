"""The life of a server, as Nova's manager calls the driver."""

from __future__ import annotations

import pytest
from nova import exception, objects
from nova.compute import task_states
from oslo_db.exception import DBConnectionError
from sqlalchemy.exc import OperationalError

from doors_nova.nova_world import NovaWorld


def test_a_server_is_built_and_destroyed_and_nothing_is_left(world: NovaWorld) -> None:
    instance, network_info = world.running()
    node = world.seen()
    assert node["provision_state"] == "active"
    assert node["instance_uuid"] == instance.uuid
    assert world.ironic.vifs(world.node) == [network_info[0]["id"]]
    world.driver.destroy(world.context, instance, network_info)
    node = world.ironic.wait_for(world.node, "available")
    assert node["instance_uuid"] is None
    assert node["instance_info"] == {}
    world.driver.get_available_nodes()
    assert "bloomery" not in world.seen()["extra"]
    assert world.ironic.vifs(world.node) == []
    assert [port["id"] for port in world.neutron.ports()] == [network_info[0]["id"]]


def test_what_ironic_knows_of_a_machine_can_be_asked_for(world: NovaWorld) -> None:
    instance, _ = world.running()
    told = world.driver.get_instance_diagnostics(instance)
    assert isinstance(told, objects.Diagnostics)
    assert (told.driver, told.state) == ("ironic", "running")
    assert world.driver.get_diagnostics(instance)["power_state"] == "power on"
    told_of_the_console = world.driver.get_console_output(world.context, instance)
    assert told_of_the_console.startswith(b"Ironic keeps no log of this machine's console.")
    assert b"provision state: active" in told_of_the_console


def test_diagnostics_are_the_hardware_as_inspection_found_it_with_health_and_power(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.ironic._world.inventories[world.node] = {
        "inventory": {
            "cpu": {"count": 3, "architecture": "x86_64"},
            "memory": {"physical_mb": 65536},
            "interfaces": [{"mac_address": "52:54:00:00:00:01"}, {"mac_address": "52:54:00:00:00:02"}],
            "disks": [{"name": "/dev/sda", "size": 480103981056, "model": "SSD", "serial": "hidden"}],
        },
        "plugin_data": {},
    }
    world.ironic.set(world.node, health="WARNING", boot_mode="uefi", secure_boot=True)
    plain = world.driver.get_diagnostics(instance)
    assert plain == {
        "power_state": "power on",
        "provision_state": "active",
        "maintenance": False,
        "health": "WARNING",
        "boot_mode": "uefi",
        "secure_boot": True,
        "cpus": 3,
        "memory_mb": 65536,
        "nics": ["52:54:00:00:00:01", "52:54:00:00:00:02"],
        "disks": [{"name": "/dev/sda", "size": 480103981056, "model": "SSD"}],
    }
    told = world.driver.get_instance_diagnostics(instance)
    assert (told.num_cpus, told.num_nics, told.num_disks, told.memory_details.maximum) == (3, 2, 1, 65536)
    assert [nic.mac_address for nic in told.nic_details] == plain["nics"]
    assert (told.state, told.hypervisor, told.config_drive) == ("running", "redfish", bool(instance.config_drive))


def test_a_volume_comes_to_a_stopped_server_and_goes_again(world: NovaWorld) -> None:
    instance, _ = world.running()
    info = {"driver_volume_type": "iscsi", "data": {"target_iqn": "iqn.x"}, "serial": "volume-1"}
    with pytest.raises(exception.VolumeAttachFailed):
        world.driver.attach_volume(world.context, info, instance, "/dev/sdb")
    world.driver.power_off(instance)
    world.driver.attach_volume(world.context, info, instance, "/dev/sdb")
    assert [target["volume_id"] for target in world.ironic.volume_targets(world.node)] == ["volume-1"]
    world.driver.detach_volume(world.context, info, instance, "/dev/sdb")
    assert world.ironic.volume_targets(world.node) == []


def test_a_volume_is_refused_where_the_storage_interface_takes_none(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.driver.power_off(instance)
    world.ironic.set(world.node, storage_interface="noop")
    info = {"driver_volume_type": "iscsi", "data": {"target_iqn": "iqn.x"}, "serial": "volume-1"}
    with pytest.raises(exception.VolumeAttachFailed, match="storage"):
        world.driver.attach_volume(world.context, info, instance, "/dev/sdb")
    assert world.ironic.volume_targets(world.node) == []


def test_progress_is_shown_and_a_deleted_server_stops_its_deploy(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloomery.doors.nova.following.LOOK_EVERY_S", 0.0)
    instance, network_info = world.instance(), world.network_info()
    world.spawn(instance, network_info)
    assert objects.Instance.get_by_uuid(world.context, instance.uuid).progress > 0
    world.driver.destroy(world.context, instance, network_info)
    world.ironic.wait_for(world.node, "available")
    other, network_info = world.instance(task_state=task_states.DELETING), world.network_info()
    with pytest.raises(exception.InstanceDeployFailure, match="cancelled"):
        world.spawn(other, network_info)
    assert world.ironic.wait_for(world.node, "available", "cleaning")["provision_state"] != "active"


@pytest.mark.parametrize(
    "problem",
    [DBConnectionError("the database is away"), OperationalError("UPDATE instances", {}, Exception("locked"))],
    ids=["of oslo.db", "of SQLAlchemy"],
)
def test_a_server_is_built_although_its_progress_cannot_be_written(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    asked = []

    def away(instance: objects.Instance, *_: object, **__: object) -> None:
        asked.append(instance.uuid)
        raise problem

    monkeypatch.setattr("bloomery.doors.nova.following.LOOK_EVERY_S", 0.0)
    instance, network_info = world.instance(), world.network_info()
    with monkeypatch.context() as within:
        within.setattr(objects.Instance, "refresh", away)
        world.spawn(instance, network_info)
    assert asked
    assert world.ironic.wait_for(world.node, "active")["instance_uuid"] == instance.uuid
