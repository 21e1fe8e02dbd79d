"""A node's whole life on the lab's Ironic, in plain HTTP; power is asked of the BMC, the disk of the machine."""

import hashlib

import pytest
import requests

from bloomery.lab import Image, Lab
from lab.ironic_api import IronicApi, bmc_power, machine

pytestmark = pytest.mark.lab

META_DATA = {"name": "instance-1", "uuid": "51ba4a1e-4d5c-4b0e-a2fc-6f5a2b8cf19f"}


def test_a_node_with_a_bmc_is_deployed_used_and_cleaned(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-0")
    first, second = a_lab.images["whole-disk"], a_lab.images["whole-disk-2"]
    ironic.claim(node, first)
    port = ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="active", configdrive={"meta_data": META_DATA, "user_data": "#!/bin/sh\n"})
    deployed = machine(a_lab, node)
    assert bmc_power(a_lab, node) == "On"
    assert (deployed["running"], deployed["image_sha256"]) == ("disk", first.sha256)
    drive = (a_lab.state / "machines" / f"{node.uuid}.config-drive").read_bytes()
    assert hashlib.sha256(drive).hexdigest() == deployed["config_drive_sha256"]
    assert b"config-2" in drive
    vif = ironic.vif(port["id"])
    assert vif["mac_address"] in node.mac_addresses
    assert (vif["status"], vif["binding:vnic_type"]) == ("ACTIVE", "baremetal")

    ironic.power(node, "power off", until="power off")
    assert (bmc_power(a_lab, node), machine(a_lab, node)["running"]) == ("Off", "nothing")
    ironic.power(node, "power on", until="power on")
    boots = machine(a_lab, node)["boots"]
    ironic.power(node, "rebooting", until="power on")
    ironic.power(node, "soft rebooting", until="power on")
    assert machine(a_lab, node)["boots"] == boots + 2

    ironic.provision(node, "rescue", until="rescue", rescue_password="swordfish")
    rescued = machine(a_lab, node)
    assert (bmc_power(a_lab, node), rescued["running"]) == ("On", "rescue")
    assert rescued["rescue_password_hash"].startswith("$5$")
    ironic.provision(node, "unrescue", until="active")
    assert (bmc_power(a_lab, node), machine(a_lab, node)["running"]) == ("On", "disk")

    body = [{"op": "replace", "path": "/instance_info", "value": ironic.instance_info(second)}]
    ironic.call("PATCH", f"nodes/{node.uuid}", body)
    ironic.provision(node, "rebuild", until="active")
    assert machine(a_lab, node)["image_sha256"] == second.sha256

    row = ironic.provision(node, "deleted", until="available")
    assert row["instance_uuid"] is None
    assert row["instance_info"] == {}
    assert ironic.vifs(node) == []
    cleaned = machine(a_lab, node)
    assert (bmc_power(a_lab, node), cleaned["image_url"], cleaned["config_drive_sha256"]) == ("Off", None, None)
    assert cleaned["cleaned_at"] > deployed["written_at"]


def test_a_node_of_fake_hardware_is_deployed_rescued_rebuilt_and_destroyed(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-4")
    ironic.claim(node, a_lab.images["whole-disk"])
    port = ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="active")
    assert ironic.vifs(node) == [port["id"]]
    ironic.power(node, "power on", until="power on")
    ironic.provision(node, "rescue", until="rescue", rescue_password="swordfish")
    ironic.provision(node, "unrescue", until="active")
    ironic.provision(node, "rebuild", until="active")
    row = ironic.provision(node, "deleted", until="available")
    assert (row["instance_uuid"], row["instance_info"]) == (None, {})


def test_a_partition_image_gets_a_boot_loader(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-1")
    images = a_lab.images
    ironic.claim(
        node,
        images["partition"],
        image_type="partition",
        kernel=images["kernel"].url,
        ramdisk=images["ramdisk"].url,
        root_gb=10,
    )
    ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="active")
    deployed = machine(a_lab, node)
    assert deployed["running"] == "disk"
    assert deployed["image_sha256"] == images["partition"].sha256
    assert deployed["root_uuid"]
    assert deployed["efi_partition_uuid"]
    ironic.provision(node, "deleted", until="available")


@pytest.mark.parametrize("name", ["node-1", "node-3"])
def test_an_iso_is_booted_without_touching_the_disk(name: str, a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node(name)
    ironic.claim(node, a_lab.images["boot-iso"])
    body = [
        {"op": "replace", "path": "/instance_info", "value": {"boot_iso": a_lab.images["boot-iso"].url}},
        {"op": "replace", "path": "/deploy_interface", "value": "ramdisk"},
    ]
    ironic.call("PATCH", f"nodes/{node.uuid}", body)
    ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="active")
    deployed = machine(a_lab, node)
    assert (bmc_power(a_lab, node), deployed["running"], deployed["image_url"]) == ("On", "iso", None)
    ironic.provision(node, "deleted", until="available")
    reset = [{"op": "replace", "path": "/deploy_interface", "value": "direct"}]
    ironic.call("PATCH", f"nodes/{node.uuid}", reset)


def test_an_image_with_a_wrong_checksum_fails_the_deploy_with_the_reason(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-1")
    image = a_lab.images["whole-disk"]
    wrong = Image(url=image.url, sha256="0" * 64, size_bytes=image.size_bytes)
    ironic.claim(node, wrong)
    ironic.attach_vif(node, "private")
    row = ironic.provision(node, "active", until="deploy failed")
    assert "checksum" in row["last_error"]
    assert machine(a_lab, node)["image_url"] is None
    ironic.provision(node, "deleted", until="available")


def test_a_deploy_that_is_given_up_while_the_agent_boots_leaves_a_clean_node(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-1")
    ironic.claim(node, a_lab.images["whole-disk"])
    ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="wait call-back")
    row = ironic.provision(node, "deleted", until="available")
    assert row["instance_uuid"] is None
    assert machine(a_lab, node)["image_url"] is None
    assert bmc_power(a_lab, node) == "Off"


def test_a_port_group_takes_the_vif_as_one_link(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-2")
    assert node.has_port_group
    ironic.claim(node, a_lab.images["whole-disk"])
    port = ironic.attach_vif(node, "private")
    ironic.provision(node, "active", until="active")
    group = ironic.call("GET", f"portgroups/{node.name}-bond0")
    assert group["mode"] == "802.3ad"
    assert group["internal_info"]["tenant_vif_port_id"] == port["id"]
    vif = ironic.vif(port["id"])
    assert vif["mac_address"] == group["address"]
    assert len(vif["binding:profile"]["local_link_information"]) == 2
    ironic.provision(node, "deleted", until="available")


def test_an_interrupt_reaches_the_machine(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.node("node-1")
    before = machine(a_lab, node)["interrupts"]
    ironic.call("PUT", f"nodes/{node.uuid}/management/inject_nmi", {})
    wanted = before + 1
    assert any(machine(a_lab, node)["interrupts"] == wanted for _ in range(200))


def test_images_and_checksums_are_what_the_lab_says(a_lab: Lab) -> None:
    lines = requests.get(f"{a_lab.images_url}/SHA256SUMS", timeout=30).text.splitlines()
    sums = {name: checksum for checksum, name in map(str.split, lines)}
    for image in a_lab.images.values():
        content = requests.get(image.url, timeout=30).content
        assert len(content) == image.size_bytes
        assert int(requests.head(image.url, timeout=30).headers["Content-Length"]) == image.size_bytes
        assert hashlib.sha256(content).hexdigest() == image.sha256 == sums[image.url.rpartition("/")[2]]


def test_nodes_are_enrolled_as_planned(a_lab: Lab, ironic: IronicApi) -> None:
    rows = {row["name"]: row for row in ironic.call("GET", "nodes?detail=true")["nodes"]}
    assert set(rows) == {node.name for node in a_lab.nodes}
    for node in a_lab.nodes:
        row = rows[node.name]
        assert (row["resource_class"], row["driver"]) == (
            node.resource_class,
            "redfish" if node.kind == "redfish" else "fake-hardware",
        )
        assert sorted(row["traits"]) == sorted(node.traits)
        assert row["properties"]["capabilities"] == "boot_mode:uefi"
        assert row["automated_clean"] is None
        ports = ironic.call("GET", f"ports?node_uuid={node.uuid}&detail=true")["ports"]
        assert {port["address"] for port in ports} == set(node.mac_addresses)
        assert all(port["local_link_connection"]["switch_id"] for port in ports)
        assert all(bool(port["portgroup_uuid"]) is node.has_port_group for port in ports)
