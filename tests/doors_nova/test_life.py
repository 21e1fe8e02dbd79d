"""The life of a server, as Nova's manager calls the driver."""

from __future__ import annotations

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
