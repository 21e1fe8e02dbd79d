"""The whole life of an instance through the command; VIFs are looked at in Neutron, power at the BMC, disks on the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bloomery.lab import Kind
from live.site import Site

pytestmark = pytest.mark.lab

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJsb29tZXJ5LWxpdmUtdGVzdC1rZXktMzItYnl0ZXMh somebody"
USER_DATA = "#cloud-config\nhostname: größe\n"


@pytest.mark.parametrize("kind", [Kind.REDFISH, Kind.FAKE])
def test_an_instance_is_deployed_used_and_destroyed(site: Site, kind: Kind) -> None:
    resource_class = {Kind.REDFISH: "baremetal", Kind.FAKE: "baremetal.fake"}[kind]
    has_machine = kind is Kind.REDFISH
    site.await_quiet()
    deployed = site.run(
        *("deploy", "web-1", "--resource-class", resource_class, "--trait", "CUSTOM_GPU", *site.image_options()),
        *("--nic", "network=private", "--nic", "network=storage,ip=10.40.7.7"),
        *("--ssh-key", site.file("key.pub", SSH_KEY), "--user-data", site.file("user-data", USER_DATA)),
        *("--meta", "role=web", "-f", "json"),
    ).value
    name, instance_uuid = deployed["node_name"], deployed["uuid"]
    node = site.node(name)
    row = site.row(name)
    assert (row["instance_uuid"], row["provision_state"]) == (instance_uuid, "active")
    ports = {port["name"]: port for port in site.ports(device_id=instance_uuid)}
    assert set(ports) == {"web-1-0", "web-1-1"}
    assert {port["id"] for port in ports.values()} == set(site.ironic.vifs(node))
    assert {port["mac_address"] for port in ports.values()} == set(node.mac_addresses)
    assert ports["web-1-1"]["fixed_ips"][0]["ip_address"] == "10.40.7.7"
    assert {vif["vif_id"] for vif in deployed["vifs"]} == {port["id"] for port in ports.values()}
    if has_machine:
        assert {(port["status"], port["binding:vnic_type"]) for port in ports.values()} == {("ACTIVE", "baremetal")}
        assert {port["binding:host_id"] for port in ports.values()} == {node.uuid}
        assert (site.bmc_power(name), site.machine(name)["running"]) == ("On", "disk")
        assert site.machine(name)["image_sha256"] == site.image.sha256
        check_config_drive(site, name, instance_uuid)

    site.run("power", "off", "web-1")
    assert site.row(name)["power_state"] == "power off"
    assert not has_machine or site.bmc_power(name) == "Off"
    site.run("power", "on", "web-1")
    assert site.row(name)["power_state"] == "power on"
    assert not has_machine or site.bmc_power(name) == "On"
    boots = site.machine(name)["boots"] if has_machine else 0
    site.run("reboot", "web-1", "--soft", "20")
    assert not has_machine or (site.machine(name)["boots"], site.bmc_power(name)) == (boots + 1, "On")

    password = site.run("rescue", "web-1").out.strip()
    assert len(password) >= 16
    assert site.row(name)["provision_state"] == "rescue"
    assert not has_machine or site.machine(name)["running"] == "rescue"
    site.run("unrescue", "web-1")
    assert not has_machine or (site.machine(name)["running"], site.bmc_power(name)) == ("disk", "On")

    second = site.lab.images["whole-disk-2"]
    site.run("rebuild", "web-1", *site.image_options(second))
    assert site.row(name)["instance_info"]["image_source"] == second.url
    assert not has_machine or site.machine(name)["image_sha256"] == second.sha256

    site.run("detach", "web-1", "10.40.7.7")
    assert [port["name"] for port in site.ports(device_id=instance_uuid)] == ["web-1-0"]
    attached = site.run("attach", "web-1", "--network", "dual", "--security-group", "web", "-f", "json").value
    (port,) = site.ports(id=attached["vif_id"])
    assert port["mac_address"] in node.mac_addresses
    assert (port["device_id"], port["binding:host_id"], port["status"]) == (instance_uuid, node.uuid, "ACTIVE")
    assert port["security_groups"] == [site.lab.networks["security_groups"]["web"]]
    assert len(port["fixed_ips"]) == 2

    site.run("destroy", "web-1", "--wait-for-cleaning")
    site.assert_free(name)
    assert site.ports(device_id=instance_uuid) == []
    assert not has_machine or (site.bmc_power(name), site.machine(name)["image_url"]) == ("Off", None)
    site.run("destroy", "web-1", exit_code=3)


def check_config_drive(site: Site, name: str, instance_uuid: str) -> None:
    drive = {path.removeprefix("/openstack/latest/"): content for path, content in site.config_drive(name).items()}
    meta_data = json.loads(drive["meta_data.json"])
    assert (meta_data["uuid"], meta_data["name"], meta_data["meta"]) == (instance_uuid, "web-1", {"role": "web"})
    assert list(meta_data["public_keys"].values()) == [SSH_KEY]
    assert drive["user_data"].decode() == USER_DATA
    network_data = json.loads(drive["network_data.json"])
    assert {link["ethernet_mac_address"] for link in network_data["links"]} == set(site.node(name).mac_addresses)
    assert "10.40.7.7" in {network.get("ip_address") for network in network_data["networks"]}


def test_a_vif_that_was_handed_over_stays_when_the_instance_goes(site: Site) -> None:
    body = {"port": {"network_id": site.lab.networks["tenant"]["private"], "name": "mine"}}
    port = site.ironic._session.post(f"{site.lab.neutron_url}/v2.0/ports", json=body, timeout=30).json()["port"]
    deployed = site.deploy("web-1", "node-3", "--vif", "mine")
    assert [vif["vif_id"] for vif in deployed["vifs"]] == [port["id"]]
    site.run("destroy", "web-1", "--wait-for-cleaning")
    (left,) = site.ports(name="mine")
    assert (left["device_id"], left["binding:host_id"], left["binding:vif_type"]) == ("", "", "unbound")
    site.ironic._session.delete(f"{site.lab.neutron_url}/v2.0/ports/{port['id']}", timeout=30)


def test_an_instance_on_a_bond_is_told_of_the_bond(site: Site) -> None:
    site.await_quiet("node-2")
    deployed = site.deploy("web-1", "node-2", "--nic", "network=private,on=node-2-bond0")
    (vif,) = deployed["vifs"]
    assert (vif["on"], vif["is_bond"], vif["is_bound"]) == ("node-2-bond0", True, True)
    (port,) = site.ports(device_id=deployed["uuid"])
    (group,) = site.ironic.call("GET", f"portgroups/detail?node={site.node('node-2').uuid}")["portgroups"]
    assert group["internal_info"]["tenant_vif_port_id"] == port["id"]
    drive = site.config_drive("node-2")
    network_data = json.loads(drive["/openstack/latest/network_data.json"])
    (bond,) = [link for link in network_data["links"] if link["type"] == "bond"]
    members = {link["id"]: link["ethernet_mac_address"] for link in network_data["links"] if link["type"] != "bond"}
    assert {members[link] for link in bond["bond_links"]} == set(site.node("node-2").mac_addresses)
    assert (bond["bond_mode"], bond["ethernet_mac_address"]) == ("802.3ad", port["mac_address"])
    assert [network["link"] for network in network_data["networks"]] == [bond["id"]]


def test_two_networks_by_class_never_end_on_a_node_with_only_a_bond(site: Site) -> None:
    site.await_quiet()
    words = ("--resource-class", "baremetal.fake", "--network", "private", "--network", "storage")
    site.patch(site.node("node-2").uuid, resource_class="baremetal.fake")
    try:
        site.run("deploy", "a", "b", "c", *words, *site.image_options())
        refused = site.run("deploy", "d", *words, *site.image_options(), exit_code=10)
        assert "error: no node takes" in refused.err
    finally:
        site.patch(site.node("node-2").uuid, resource_class="baremetal")


def test_a_clouds_yaml_elsewhere_is_all_that_the_command_needs(site: Site, tmp_path: Path) -> None:
    config = yaml.safe_load(site.lab.cloud_config.read_text())
    elsewhere = tmp_path / "elsewhere" / "my-clouds.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(yaml.safe_dump({"clouds": {"site": config["clouds"]["lab"]}}))
    cloud = {"OS_CLIENT_CONFIG_FILE": str(elsewhere), "OS_CLOUD": ""}
    listed = site.run("--os-cloud", "site", "nodes", "-f", "json", "-c", "name", environment=cloud).value
    assert [row["name"] for row in listed] == [node.name for node in site.lab.nodes]
    site.run("--os-cloud", "site", "deploy", "web-1", "--node", "node-4", *site.image_options(), environment=cloud)
    site.run("destroy", "web-1", "--os-cloud", "site", "--wait-for-cleaning", environment=cloud)
    site.assert_free("node-4")
