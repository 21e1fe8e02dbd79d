"""The life of a server of a real Nova on a machine that really boots; each test goes on where the one before it has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bloomery.lab import glance
from bloomery.lab.ironic import CACHE_VARIABLE
from bloomery.lab.vm.disks import holds, is_blank
from bloomery.lab.vm.login import Login, SerialLine
from nova_site import cloud
from nova_site.drivers import OURS
from nova_site.neighbours import project_id
from nova_site.site import NovaSite
from vm.machines import BOOT_S, PASSWORD, Machines

NAME, NODE, ADDRESS = "web-2", "node-0", "10.20.5.20"
MARKER = "the former server was here"
RESCUE_PASSWORD = "Passw0rd-for-rescue"

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def nova(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NovaSite]:
    """Nova with the lab's machines as its nodes, and the user's key."""
    folder = tmp_path_factory.mktemp("nova")
    with cloud.running(machines.lab, folder, cache=Path(os.environ[CACHE_VARIABLE])) as it:
        site = NovaSite(it, folder)
        site.wait_s = 2 * BOOT_S
        public_key = (machines.folder / "key.pub").read_text().strip()
        site.call("POST", "os-keypairs", {"keypair": {"name": "key", "type": "ssh", "public_key": public_key}})
        site.add_flavor("vm", "BAREMETAL_VM", root_gib=4)
        # A system under emulation takes its time to end, too.
        it.start_compute(OURS, options={"DEFAULT": {"shutdown_timeout": 600}})
        site.wait_until_schedulable()
        yield site
        site.close()


@pytest.fixture(scope="module")
def port(nova: NovaSite) -> str:
    """The user's port, on a network without DHCP, so that Nova tells the instance its address; returns its id."""
    neutron = f"{nova.lab.neutron_url}/v2.0"
    mine = {"project_id": project_id("demo")}
    body = {"network": {"name": "machines", **mine}}
    network = requests.post(f"{neutron}/networks", json=body, timeout=60).json()["network"]["id"]
    subnet = {"name": "machines", "network_id": network, "ip_version": 4, "cidr": "10.20.0.0/16", "enable_dhcp": False}
    requests.post(f"{neutron}/subnets", json={"subnet": {**subnet, **mine}}, timeout=60).raise_for_status()
    wanted = {"name": "mine", "network_id": network, "fixed_ips": [{"ip_address": ADDRESS}], **mine}
    number: str = requests.post(f"{neutron}/ports", json={"port": wanted}, timeout=60).json()["port"]["id"]
    return number


@pytest.fixture(scope="module")
def server(nova: NovaSite, machines: Machines, port: str) -> str:
    """A server that was built on the machine; returns its id."""
    return nova.built(
        NAME,
        flavor="vm",
        image="debian",
        networks=[{"port": port}],
        config_drive=True,
        key_name="key",
        user_data=nova.encoded((machines.folder / "user-data").read_text()),
        hypervisor_hostname=machines.lab.node(NODE).uuid,
        user="admin",
    )


def login(machines: Machines) -> Login:
    return machines.login(NODE, ADDRESS)


def boot_id(machines: Machines) -> str:
    return login(machines).run("cat /proc/sys/kernel/random/boot_id")


def test_a_server_comes_up_with_its_name_key_user_data_address_and_bond(
    nova: NovaSite, machines: Machines, server: str
) -> None:
    nova.agree(server)
    inside = login(machines)
    assert inside.run("hostname") == NAME
    assert inside.run("cat /etc/lab-image") == "debian"
    assert inside.run("cat /var/lib/lab/user-data") == "ran"
    bonds = inside.run("cat /sys/class/net/bonding_masters").split()
    assert len(bonds) == 1
    (bond,) = json.loads(inside.run(f"ip -j address show {bonds[0]}"))
    assert [each["local"] for each in bond["addr_info"] if each["family"] == "inet"] == [ADDRESS]
    root = "lsblk -dno SERIAL /dev/$(lsblk -no PKNAME $(findmnt -no SOURCE /))"
    assert inside.run(root).strip() == "LAB-0-B"
    assert is_blank(machines.disk(NODE, 0))


def test_the_rescue_system_answers_to_the_password_and_the_server_comes_back(
    nova: NovaSite, machines: Machines, server: str
) -> None:
    with machines.left_on_when_rescued(NODE):
        nova.act(server, "rescue", {"adminPass": RESCUE_PASSWORD})
        nova.wait_for(server, "RESCUE")
        rescue = Login(port=machines.hardware(NODE)["ssh_port"], user="rescue", password=RESCUE_PASSWORD)
        rescue.wait(timeout_s=BOOT_S)
        assert rescue.run("test -e /etc/lab-image || echo another system") == "another system"
        nova.act(server, "unrescue")
        nova.wait_for(server, "ACTIVE")
    assert login(machines).run("cat /etc/lab-image") == "debian"


def test_the_serial_console_that_nova_gives_is_read_and_typed_into(nova: NovaSite, server: str) -> None:
    _, line_port = nova.console(server, "serial")
    with SerialLine(line_port) as line:
        line.type("")
        line.read_until("login: ", timeout_s=BOOT_S)
        line.type("debian")
        line.read_until("Password: ", timeout_s=BOOT_S)
        line.type(PASSWORD)
        line.read_until("$ ", timeout_s=BOOT_S)
        line.type("echo typed-$((20 + 22))")
        line.read_until("typed-42", timeout_s=BOOT_S)
        line.type("exit")


def test_an_interrupt_reaches_the_kernel(nova: NovaSite, machines: Machines, server: str) -> None:
    nova.act(server, "trigger_crash_dump")
    said = login(machines).run("for try in $(seq 60); do sudo dmesg | grep -i 'NMI received' && break; sleep 1; done")
    assert "NMI received" in said
    nova.wait_for(server, "ACTIVE")


def test_a_soft_reboot_presses_the_power_button_and_a_hard_one_does_not(
    nova: NovaSite, machines: Machines, server: str
) -> None:
    said_before = "sudo journalctl -b -1 -u systemd-logind -o cat"
    for kind, is_pressed in (("SOFT", True), ("HARD", False)):
        before = boot_id(machines)
        nova.act(server, "reboot", {"type": kind})
        nova.wait_for(server, "ACTIVE")
        assert boot_id(machines) != before
        said = login(machines).run(said_before)
        assert "seat0" in said
        assert ("Power key pressed" in said) is is_pressed


def test_an_interface_is_detached_and_attached(nova: NovaSite, machines: Machines, server: str, port: str) -> None:
    nova.call("DELETE", f"servers/{server}/os-interface/{port}")
    nova.wait(lambda: nova.ports(server) == [], lambda: "the port is gone")
    nova.call("POST", f"servers/{server}/os-interface", {"interfaceAttachment": {"port_id": port}})
    nova.agree(server)
    assert nova.ironic.vifs(machines.lab.node(NODE)) == [port]
    assert login(machines).run("hostname") == NAME


def test_a_rebuild_changes_the_system(nova: NovaSite, machines: Machines, server: str) -> None:
    nova.act(server, "rebuild", {"imageRef": glance.image_id("debian-2")})
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    inside = login(machines)
    assert (inside.run("cat /etc/lab-image"), inside.run("hostname")) == ("debian-2", NAME)


def test_after_a_delete_nothing_of_the_server_is_on_any_disk(nova: NovaSite, machines: Machines, server: str) -> None:
    login(machines).run(f"echo {MARKER} | sudo tee /var/tmp/marker; sync")
    assert holds(machines.disk(NODE, 1), MARKER.encode())
    nova.delete(server)
    nova.assert_gone(server, machines.lab.node(NODE))
    assert machines.hardware(NODE)["power"] == "Off"
    assert all(is_blank(machines.disk(NODE, number)) for number in (0, 1))
