"""What Nova's own driver is asked beside ours: both have to say the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from nova import exception, servicegroup
from nova.compute import power_state
from nova.virt.ironic import driver as upstream

from bloomery.doors.nova.nodes import Scope, _Shares, peers
from bloomery.doors.nova.request import network_data
from doors_nova.nova_world import CONF, HOST, NovaWorld


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    """What a test says in nova.conf holds for it alone."""
    yield
    for name in ("conductor_group", "peer_list"):
        CONF.clear_override(name, group="ironic")


@pytest.mark.parametrize("power", ["power on", "power off", None, "error", "rebooting", "sideways"])
def test_power_is_what_novas_own_driver_makes_of_it(world: NovaWorld, power: str | None) -> None:
    instance, _ = world.running()
    world.ironic.set(world.node, power_state=power)
    wanted = upstream.map_power_state(power)
    assert world.driver.get_info(instance, use_cache=False).state == wanted
    world.driver.get_available_nodes()
    assert world.driver.get_info(instance).state == wanted
    assert (wanted == power_state.NOSTATE) is (power not in ("power on", "power off"))


@pytest.mark.parametrize("others", [[], ["compute-2"], ["Compute-2", "COMPUTE-1", "compute-3"]], ids=len)
def test_free_nodes_are_divided_among_services_as_novas_own_driver_does(world: NovaWorld, others: list[str]) -> None:
    for other in others:
        world.add_service(other)
    theirs = upstream.IronicDriver(None)
    theirs._refresh_hash_ring(world.context)
    ours = _Shares(peers(Scope(None, None), servicegroup.API()))
    nodes = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"node-{number}")) for number in range(60)]
    shared = {node for node in nodes if HOST in theirs.hash_ring.get_nodes(node.encode())}
    assert {node for node in nodes if ours.has(node)} == shared
    assert (len(shared) < len(nodes)) is bool(others)


def test_a_peer_list_that_does_not_name_this_service_is_refused_as_by_novas_own_driver(world: NovaWorld) -> None:
    CONF.set_override("conductor_group", "racks", group="ironic")
    CONF.set_override("peer_list", ["compute-2"], group="ironic")
    with pytest.raises(exception.InvalidPeerList):
        upstream._check_peer_list()
    with pytest.raises(exception.InvalidPeerList):
        world.driver.get_available_nodes()


def test_a_conductor_group_that_is_changed_while_the_service_runs_holds_from_the_next_look(world: NovaWorld) -> None:
    racked = world.ironic.add_node(name="racked", conductor_group="racks")
    CONF.set_override("peer_list", [HOST], group="ironic")
    assert set(world.driver.get_available_nodes()) == {world.node, racked}
    CONF.set_override("conductor_group", "racks", group="ironic")
    assert world.driver.get_available_nodes() == [racked]
    # Empty is the default group, and not the same as none.
    CONF.set_override("conductor_group", "", group="ironic")
    assert world.driver.get_available_nodes() == [world.node]
    CONF.clear_override("conductor_group", group="ironic")
    assert set(world.driver.get_available_nodes()) == {world.node, racked}


def with_upstreams_names(record: dict[str, Any]) -> Any:
    """One of Ironic's ports or port groups as the SDK shows it to Nova's driver."""
    return SimpleNamespace(**{**record, "id": record["uuid"], "port_group_id": record.get("portgroup_uuid")})


def test_network_data_of_bonds_and_nics_are_those_of_novas_own_driver(world: NovaWorld) -> None:
    world.node = world.ironic.add_node(name="bonded", ports=4, bonded=True)
    (group,) = world.ironic.portgroups(world.node)
    services = world.services()
    described = {"mode": "802.3ad", "properties": {"miimon": "100", "bond_xmit_hash_policy": "layer3+4"}}
    patch = [{"op": "add", "path": f"/{name}", "value": value} for name, value in described.items()]
    services.ironic.transport.request("PATCH", f"/portgroups/{group['uuid']}", body=patch, timeout_s=10)
    network_info = world.network_info(3)
    for vif in network_info[:2]:
        services.ironic.attach_vif(world.node, vif["id"])
    theirs = upstream.IronicDriver(None)
    theirs._ironic_connection = SimpleNamespace(
        ports=lambda **_: map(with_upstreams_names, world.ironic.ports(world.node)),
        port_groups=lambda **_: map(with_upstreams_names, world.ironic.portgroups(world.node)),
    )
    told = theirs._get_network_metadata(SimpleNamespace(id=world.node), network_info)
    bonds = [link for link in told["links"] if link["type"] == "bond"]
    assert [(bond["bond_mode"], bond["bond_miimon"], len(bond["bond_links"])) for bond in bonds] == [
        ("802.3ad", "100", 2)
    ]
    # The NIC, the VIF that is nowhere, and the members of the bond.
    assert [link["type"] for link in told["links"]].count("phy") == 1 + 1 + 2
    ironic = services.ironic
    assert network_data(ironic.ports(world.node), ironic.port_groups(world.node), network_info) == told
