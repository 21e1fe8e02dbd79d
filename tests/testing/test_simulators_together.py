"""VIFs: which port of the node they go to, and what Neutron is told when."""

from __future__ import annotations

from bloomery.testing import IronicSimulator, NeutronSimulator
from testing.simulated_api import Api, fault


def _attach(api: Api, node: str, vif_id: str, **wish: str) -> None:
    api.post(f"/v1/nodes/{node}/vifs", {"id": vif_id, **wish})


def test_an_attached_vif_has_the_ports_mac_and_the_nodes_host(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node()
    vif_id = neutron.add_port(neutron.add_network())
    _attach(wired_api, node, vif_id)
    port = neutron.port(vif_id) or {}
    assert port["mac_address"] == wired.ports(node)[0]["address"]
    assert (port["binding:host_id"], port["binding:vnic_type"]) == (node, "baremetal")
    assert wired_api.get(f"/v1/nodes/{node}/vifs") == {"vifs": [{"id": vif_id}]}


def test_a_detached_vif_is_bound_nowhere(wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator) -> None:
    node = wired.add_node()
    vif_id = neutron.add_port(neutron.add_network())
    _attach(wired_api, node, vif_id)
    wired_api.delete(f"/v1/nodes/{node}/vifs/{vif_id}")
    port = neutron.port(vif_id) or {}
    assert (port["binding:host_id"], wired.vifs(node)) == ("", [])
    assert port["mac_address"] != wired.ports(node)[0]["address"]
    response = wired_api.ask("DELETE", f"/v1/nodes/{node}/vifs/{vif_id}")
    assert (response.status_code, "not attached" in fault(response)) == (400, True)


def test_a_vif_that_neutron_does_not_know_is_refused(wired: IronicSimulator, wired_api: Api) -> None:
    node = wired.add_node()
    response = wired_api.ask("POST", f"/v1/nodes/{node}/vifs", {"id": "00000000-0000-4000-8000-000000000001"})
    assert (response.status_code, fault(response)) == (
        400,
        "Neutron port 00000000-0000-4000-8000-000000000001 was not found",
    )
    assert "Failed to attach VIF" in wired.node(node)["last_error"]


def test_a_vif_is_attached_once_and_to_a_free_port_only(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node(ports=1)
    network = neutron.add_network()
    first, second = neutron.add_port(network), neutron.add_port(network)
    _attach(wired_api, node, first)
    again = wired_api.ask("POST", f"/v1/nodes/{node}/vifs", {"id": first})
    assert (again.status_code, "already attached" in fault(again)) == (409, True)
    full = wired_api.ask("POST", f"/v1/nodes/{node}/vifs", {"id": second})
    assert (full.status_code, "not enough free physical ports" in fault(full)) == (400, True)


def test_a_vif_goes_to_the_port_that_was_chosen(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node(ports=3, bonded=True)
    network = neutron.add_network()
    group, ports = wired.portgroups(node)[0], wired.ports(node)
    on_group, on_port = neutron.add_port(network), neutron.add_port(network)
    _attach(wired_api, node, on_port, port_uuid=ports[2]["uuid"])
    _attach(wired_api, node, on_group, portgroup_uuid=group["uuid"])
    assert (neutron.port(on_port) or {})["mac_address"] == ports[2]["address"]
    assert (neutron.port(on_group) or {})["mac_address"] == group["address"]
    both = {"id": on_port, "port_uuid": "a", "portgroup_uuid": "b"}
    assert wired_api.ask("POST", f"/v1/nodes/{node}/vifs", both).status_code == 400


def test_a_vif_goes_to_a_port_group_first_and_to_its_physical_network_only(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node(ports=3, bonded=True)
    vif_id = neutron.add_port(neutron.add_network())
    _attach(wired_api, node, vif_id)
    assert wired.portgroups(node)[0]["internal_info"] == {"tenant_vif_port_id": vif_id}
    elsewhere = wired.add_node(physical_network="physnet2")
    other = neutron.add_port(neutron.add_network(cidrs=["10.2.0.0/24"], **{"provider:physical_network": "physnet1"}))
    assert wired_api.ask("POST", f"/v1/nodes/{elsewhere}/vifs", {"id": other}).status_code == 400


def test_a_deploy_binds_and_a_tear_down_unbinds(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node()
    vif_id = neutron.add_port(neutron.add_network())
    wired_api.claim(node)
    _attach(wired_api, node, vif_id)
    wired_api.provision(node, "active")
    wired.wait_for(node, "active")
    assert (neutron.port(vif_id) or {})["status"] == "ACTIVE"
    assert (neutron.port(vif_id) or {})["mac_address"] == wired.ports(node)[0]["address"]
    wired_api.provision(node, "deleted")
    wired.wait_for(node, "available")
    port = neutron.port(vif_id) or {}
    assert (port["binding:host_id"], port["status"], wired.vifs(node)) == ("", "DOWN", [])


def test_a_deploy_without_a_vif_fails_on_a_flat_network(wired: IronicSimulator, wired_api: Api) -> None:
    node = wired.add_node()
    wired_api.claim(node)
    wired_api.provision(node, "active")
    record = wired.wait_for(node, "deploy failed")
    assert record["last_error"] == f"Failed to prepare to deploy: Failed to bind any flat network ports for node {node}"


def test_a_deploy_fails_if_neutrons_port_is_gone(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node()
    vif_id = neutron.add_port(neutron.add_network())
    wired_api.claim(node)
    _attach(wired_api, node, vif_id)
    neutron.delete("ports", vif_id)
    wired_api.provision(node, "active")
    assert f"No Port found for {vif_id}" in wired.wait_for(node, "deploy failed")["last_error"]


def test_a_failed_tear_down_leaves_neutrons_port_bound(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node()
    vif_id = neutron.add_port(neutron.add_network())
    wired_api.claim(node)
    _attach(wired_api, node, vif_id)
    wired_api.provision(node, "active")
    wired.wait_for(node, "active")
    wired.unplug_bmc(node)
    wired_api.provision(node, "deleted")
    wired.wait_for(node, "error")
    assert wired.vifs(node) == []
    assert (neutron.port(vif_id) or {})["binding:host_id"] == node


def test_the_neutron_interface_tells_the_switch_ports(
    wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator
) -> None:
    node = wired.add_node(network_interface="neutron", provision_state="active", bonded=True)
    vif_id = neutron.add_port(neutron.add_network())
    _attach(wired_api, node, vif_id)
    profile = (neutron.port(vif_id) or {})["binding:profile"]
    assert [link["port_id"] for link in profile["local_link_information"]] == ["eth0", "eth1"]


def test_the_noop_interface_takes_every_vif_and_remembers_none(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(network_interface="noop")
    _attach(api, node, "vif-1")
    assert api.get(f"/v1/nodes/{node}/vifs") == {"vifs": []}
    api.delete(f"/v1/nodes/{node}/vifs/vif-1")


def test_a_port_in_use_is_not_deleted(wired: IronicSimulator, wired_api: Api, neutron: NeutronSimulator) -> None:
    node = wired.add_node(ports=1)
    _attach(wired_api, node, neutron.add_port(neutron.add_network()))
    assert wired_api.ask("DELETE", f"/v1/ports/{wired.ports(node)[0]['uuid']}").status_code == 409
