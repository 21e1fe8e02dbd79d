"""The life of a server, through Nova's API: after each thing that a user does, all sides agree."""

from __future__ import annotations

import json
import socket

import pytest

from bloomery.lab import Kind, glance
from nova_site.site import BEFORE_REIMAGING, MICROVERSION, SSH_KEY, USER_DATA, WAIT_S, NovaSite, Refused

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def test_a_server_is_created_deleted_and_its_disk_wiped(nova: NovaSite) -> None:
    for node in nova.lab.nodes:
        nova.site.patch(node.uuid, automated_clean=True)
    try:
        server = nova.built()
        nova.agree(server)
        node = nova.node(server)
        info = nova.ironic.node(node)["instance_info"]
        assert (info["image_source"], info["display_name"]) == (glance.image_id("whole-disk"), "web-1")
        assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk"].sha256
        nova.delete(server)
        nova.assert_gone(server, node)
    finally:
        for node in nova.lab.nodes:
            nova.site.patch(node.uuid, automated_clean=False)


def test_a_server_gets_its_config_drive_user_data_key_and_metadata(nova: NovaSite, server: str) -> None:
    nova.agree(server)
    node = nova.node(server)
    drive = nova.site.config_drive(node.name)
    meta_data = json.loads(drive["/openstack/latest/meta_data.json"])
    assert (meta_data["uuid"], meta_data["name"], meta_data["meta"]) == (server, "shared", {"role": "web"})
    assert meta_data["public_keys"] == {"key": SSH_KEY}
    assert drive["/openstack/latest/user_data"].decode() == USER_DATA
    network_data = json.loads(drive["/openstack/latest/network_data.json"])
    assert {link["ethernet_mac_address"] for link in network_data["links"]} == set(node.mac_addresses)
    storage = next(port for port in nova.ports(server) if port["net_id"] == nova.lab.networks["tenant"]["storage"])
    assert storage["fixed_ips"][0]["ip_address"] in {each.get("ip_address") for each in network_data["networks"]}


def test_two_servers_at_once_get_a_node_each(nova: NovaSite) -> None:
    nova.create("pair", flavor="bm-fake", min_count=2, max_count=2)
    servers = [row["id"] for row in nova.call("GET", "servers?name=pair")["servers"]]
    assert len(servers) == 2
    for server in servers:
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
    assert len({nova.node(server).uuid for server in servers}) == 2


def test_a_port_that_a_user_brought_stays_his(nova: NovaSite) -> None:
    port = nova.port("private", name="mine")
    server = nova.built(networks=[{"port": port}])
    nova.agree(server)
    assert [row["port_id"] for row in nova.ports(server)] == [port]
    node = nova.node(server)
    nova.delete(server)
    nova.assert_gone(server, node)
    (left,) = nova.site.ports(id=port)
    assert (left["device_id"], left["binding:host_id"]) == ("", "")
    nova.delete_port(port)


def test_a_server_without_networks_runs(nova: NovaSite) -> None:
    server = nova.built(networks="none", flavor="bm-fake")
    nova.agree(server)
    assert nova.ports(server) == []


def test_a_rebuild_installs_the_new_image_and_keeps_the_rest(nova: NovaSite, server: str) -> None:
    node, ports = nova.node(server), {port["port_id"] for port in nova.ports(server)}
    nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2"), "metadata": {"role": "db"}})
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.node(server) == node
    assert {port["port_id"] for port in nova.ports(server)} == ports
    assert nova.site.machine(node.name)["image_sha256"] == nova.lab.images["whole-disk-2"].sha256
    assert nova.ironic.node(node)["instance_info"]["image_source"] == glance.image_id("whole-disk-2")
    meta_data = json.loads(nova.site.config_drive(node.name)["/openstack/latest/meta_data.json"])
    assert meta_data["meta"] == {"role": "db"}


@pytest.mark.parametrize("version", [BEFORE_REIMAGING, MICROVERSION])
def test_a_server_in_error_is_rebuilt(nova: NovaSite, server: str, version: str) -> None:
    nova.act(server, "os-resetState", {"state": "error"}, user="admin")
    nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk")}, version=version)
    nova.wait(lambda: nova.server(server)["status"] != "ERROR", lambda: "the rebuild began")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.site.machine(nova.node(server).name)["image_sha256"] == nova.lab.images["whole-disk"].sha256


@pytest.mark.parametrize("version", [BEFORE_REIMAGING, MICROVERSION])
def test_a_rebuild_tells_ironic_whether_to_keep_the_ephemeral_partition(nova: NovaSite, version: str) -> None:
    server = nova.built(flavor="bm-ephemeral", image="partition")
    info = nova.ironic.node(nova.node(server))["instance_info"]
    assert (info["ephemeral_gb"], info.get("preserve_ephemeral")) == ("5", None)
    for is_kept in (True, False):
        rebuild = {"imageRef": glance.image_id("partition"), "preserve_ephemeral": is_kept}
        nova.act(server, "rebuild", rebuild, version=version)
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
        info = nova.ironic.node(nova.node(server))["instance_info"]
        assert (info["ephemeral_gb"], info["preserve_ephemeral"]) == ("5", str(is_kept))


def test_a_rescued_server_runs_the_agent_and_comes_back(nova: NovaSite, server: str) -> None:
    nova.act(server, "rescue", {"adminPass": "Passw0rd-for-rescue"})
    nova.wait_for(server, "RESCUE")
    nova.agree(server)
    nova.act(server, "unrescue")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_interfaces_come_and_go(nova: NovaSite, server: str) -> None:
    networks = nova.lab.networks["tenant"]
    (old,) = [port["port_id"] for port in nova.ports(server) if port["net_id"] == networks["storage"]]
    nova.call("DELETE", f"servers/{server}/os-interface/{old}")
    nova.wait(lambda: len(nova.ports(server)) == 1, lambda: "the port is gone")
    nova.agree(server)
    assert nova.site.ports(id=old) == []
    network = {"net_id": networks["storage"]}
    attached = nova.call("POST", f"servers/{server}/os-interface", {"interfaceAttachment": network})
    new = attached["interfaceAttachment"]["port_id"]
    nova.agree(server)
    assert new in {row["port_id"] for row in nova.ports(server)}


def test_an_interface_that_finds_no_free_nic_is_a_clean_refusal(nova: NovaSite, server: str) -> None:
    before = {row["port_id"] for row in nova.ports(server)}
    network = {"net_id": nova.lab.networks["tenant"]["dual"]}
    with pytest.raises(Refused) as refused:
        nova.call("POST", f"servers/{server}/os-interface", {"interfaceAttachment": network})
    assert "Unexpected API Error" not in str(refused.value)
    assert {row["port_id"] for row in nova.ports(server)} == before
    nova.agree(server)


def test_a_crash_dump_reaches_the_machine(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    before = nova.site.machine(node.name)["interrupts"]
    nova.act(server, "trigger_crash_dump")
    nova.wait(lambda: nova.site.machine(node.name)["interrupts"] == before + 1, lambda: "the machine was interrupted")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


@pytest.mark.parametrize("kind", ["serial", "novnc"])
def test_a_node_without_a_console_is_a_clean_refusal(nova: NovaSite, kind: str) -> None:
    node = next(node for node in nova.lab.nodes if node.kind is Kind.FAKE and node != nova.equipped)
    server = nova.built(flavor="bm-fake", user="admin", hypervisor_hostname=node.uuid)
    with pytest.raises(Refused) as refused:
        nova.console(server, kind)
    assert refused.value.status in (400, 409)
    nova.agree(server)


def test_a_console_that_is_asked_for_again_stays_open(nova: NovaSite) -> None:
    server = nova.built(flavor="bm-equipped")
    node = nova.node(server)
    assert nova.console(server, "novnc") == nova.console(server, "novnc")
    row = nova.ironic.node(node)
    assert row["console_enabled"] is True
    switched = [each for each in nova.cloud.ironic.requests if each.path.endswith("/states/console") and each.is_write]
    assert len(switched) == 1
    nova.agree(server)
    nova.delete(server)
    nova.assert_gone(server, node)
    assert nova.ironic.node(node)["console_enabled"] is False


def test_whoever_is_on_a_serial_console_stays_on_it_when_another_asks_for_it(nova: NovaSite) -> None:
    server = nova.built()
    node = nova.node(server)
    where = nova.console(server, "serial")
    with socket.create_connection(where, timeout=WAIT_S) as line:
        typed_and_echoed(line, b"one")
        assert nova.console(server, "serial") == where
        typed_and_echoed(line, b"two")
    nova.agree(server)
    nova.delete(server)
    nova.assert_gone(server, node)
    assert nova.ironic.node(node)["console_enabled"] is False


def typed_and_echoed(line: socket.socket, word: bytes) -> None:
    """Who is on the line has typed the word, and its machine has shown it to him."""
    line.sendall(word)
    shown = b""
    while word not in shown:
        part = line.recv(4096)
        assert part, f"the line was closed, after {shown!r}"
        shown += part


@pytest.mark.parametrize(("kind", "flavor"), [("serial", "bm-equipped"), ("novnc", "bm")])
def test_a_console_of_a_node_that_has_another_kind_is_a_clean_refusal(nova: NovaSite, kind: str, flavor: str) -> None:
    server = nova.built(flavor=flavor)
    with pytest.raises(Refused) as refused:
        nova.console(server, kind)
    assert refused.value.status in (400, 409)
    nova.agree(server)
