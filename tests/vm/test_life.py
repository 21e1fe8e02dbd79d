"""The life of an instance on a machine that really boots; each test goes on where the one before it has ended."""

from __future__ import annotations

import json
import re

import pytest

from bloomery.lab.vm.disks import holds, is_blank
from bloomery.lab.vm.login import Login
from vm.machines import ADDRESS, BOOT_S, PASSWORD, Machines, Terminal

NAME, NODE = "web-1", "node-0"
MARKER = "the former tenant was here"

pytestmark = pytest.mark.timeout(7200)


def boot_id(login: Login) -> str:
    return login.run("cat /proc/sys/kernel/random/boot_id")


def said_before_the_reboot(login: Login) -> str:
    """What the service that watches the power button wrote before the machine went down."""
    said = login.run("sudo journalctl -b -1 -u systemd-logind -o cat")
    assert "seat0" in said, said
    return said


def ephemeral(login: Login) -> str:
    """What is in the file on the ephemeral partition."""
    return login.run("sudo mount -L ephemeral0 /mnt && cat /mnt/data 2>/dev/null || echo nothing; sudo umount /mnt")


def test_an_instance_has_what_it_was_deployed_with(machines: Machines) -> None:
    said = machines.deploy(NAME, NODE, "debian-partition", "--root-gib", "2", "--ephemeral-gib", "1")
    assert "write_image" in said
    login = machines.login(NODE)
    assert login.run("hostname") == NAME
    assert login.run("cat /etc/lab-image") == "debian"
    assert login.run("cat /var/lib/lab/user-data") == "ran"
    (bond,) = json.loads(login.run("ip -j address show bond0"))
    assert [each["local"] for each in bond["addr_info"] if each["family"] == "inet"] == [ADDRESS]
    nics = login.run("cat /sys/class/net/bond0/bonding/slaves").split()
    own = {login.run(f"cat /sys/class/net/{nic}/bonding_slave/perm_hwaddr") for nic in nics}
    assert own == set(machines.lab.node(NODE).mac_addresses)


def test_the_disk_of_the_hint_is_written_and_the_other_is_untouched(machines: Machines) -> None:
    root = "lsblk -dno SERIAL /dev/$(lsblk -no PKNAME $(findmnt -no SOURCE /))"
    assert machines.login(NODE).run(root).strip() == "LAB-0-B"
    assert is_blank(machines.disk(NODE, 0))


def test_the_serial_console_is_read_and_typed_into(machines: Machines) -> None:
    with Terminal(machines, NAME) as terminal:
        terminal.until("console of web-1")
        terminal.type("\r")
        terminal.until("login: ", nudge="\r")
        terminal.type("debian\r")
        terminal.until("Password: ")
        terminal.type(f"{PASSWORD}\r")
        terminal.until("$ ")
        terminal.type("echo typed-$((20 + 22))\r")
        terminal.until("typed-42")
        terminal.type("exit\r")
        terminal.until("login: ")
        terminal.type("\r~.")
        assert terminal.process.wait(60) == 0


def test_the_service_has_the_same_console_for_its_page(machines: Machines) -> None:
    with machines.served() as url, Terminal(machines, NAME, "--service", url) as terminal:
        terminal.until("login: ", nudge="\r")
        terminal.type("nobody-of-that-name\r")
        terminal.until("Password: ")
        terminal.type("\r~.")
        assert terminal.process.wait(60) == 0


def test_an_interrupt_is_logged_by_the_kernel(machines: Machines) -> None:
    login = machines.login(NODE)
    assert "NMI" not in login.run("sudo dmesg | grep -i 'NMI received' || true")
    machines.run("crash-dump", NAME, "--yes")
    assert "NMI received" in login.run(
        "for try in $(seq 60); do sudo dmesg | grep -i 'NMI received' && break; sleep 1; done"
    )


def test_a_soft_reboot_presses_the_power_button(machines: Machines) -> None:
    before = boot_id(machines.login(NODE))
    machines.run("reboot", NAME, "--soft", "600", "--timeout", str(BOOT_S))
    login = machines.login(NODE)
    assert boot_id(login) != before
    assert "Power key pressed" in said_before_the_reboot(login)


def test_a_hard_reboot_asks_nobody(machines: Machines) -> None:
    before = boot_id(machines.login(NODE))
    machines.run("reboot", NAME)
    login = machines.login(NODE)
    assert boot_id(login) != before
    assert "Power key pressed" not in said_before_the_reboot(login)


def test_an_interface_is_detached_and_attached(machines: Machines) -> None:
    uuid = machines.lab.node(NODE).uuid
    (vif,) = machines.ironic.call("GET", f"nodes/{uuid}/vifs")["vifs"]
    machines.run("detach", NAME, vif["id"])
    assert machines.ironic.call("GET", f"nodes/{uuid}/vifs")["vifs"] == []
    machines.run("attach", NAME, "--network", "private", "--ip", ADDRESS)
    assert len(machines.ironic.call("GET", f"nodes/{uuid}/vifs")["vifs"]) == 1
    assert machines.login(NODE).run("hostname") == NAME


def test_the_rescue_system_answers_to_the_password_and_the_instance_comes_back(machines: Machines) -> None:
    (machines.folder / "password").write_text("a-rescue-password\n")
    with machines.left_on_when_rescued(NODE):
        machines.run("rescue", NAME, "--password-file", "password", "--timeout", str(2 * BOOT_S))
        hardware = machines.hardware(NODE)
        rescue = Login(port=hardware["ssh_port"], user="rescue", password="a-rescue-password")
        rescue.wait(timeout_s=BOOT_S)
        # The instance's disk is there, and is not what runs.
        assert "lab-root" in rescue.run("lsblk -no LABEL")
        assert rescue.run("test -e /etc/lab-image || echo another system") == "another system"
        assert not Login(port=hardware["ssh_port"], user="rescue", password="another").is_let_in()
        machines.run("unrescue", NAME, "--timeout", str(2 * BOOT_S))
    assert machines.login(NODE).run("cat /etc/lab-image") == "debian"


def test_a_rebuild_changes_the_system_and_keeps_the_ephemeral_data_if_asked_to(machines: Machines) -> None:
    login = machines.login(NODE)
    login.run("sudo mount -L ephemeral0 /mnt && echo kept | sudo tee /mnt/data && sudo umount /mnt && sync")
    machines.run(
        *("rebuild", NAME, *machines.image("debian-partition-2"), "--preserve-ephemeral"),
        *("--timeout", str(2 * BOOT_S)),
    )
    login = machines.login(NODE)
    assert login.run("cat /etc/lab-image") == "debian-2"
    assert ephemeral(login) == "kept"


def test_a_rebuild_that_keeps_nothing_leaves_an_empty_ephemeral_partition(machines: Machines) -> None:
    machines.run("rebuild", NAME, *machines.image("debian-partition"), "--timeout", str(2 * BOOT_S))
    login = machines.login(NODE)
    assert login.run("cat /etc/lab-image") == "debian"
    assert ephemeral(login) == "nothing"


def test_after_destroy_nothing_of_the_tenant_is_on_any_disk(machines: Machines) -> None:
    login = machines.login(NODE)
    login.run(f"for place in /root /var/tmp; do echo {MARKER} | sudo tee $place/marker; done; sync")
    assert holds(machines.disk(NODE, 1), MARKER.encode())
    said = machines.run("destroy", NAME, "--wait-for-cleaning", "--yes", "--timeout", str(2 * BOOT_S))
    assert re.search("erase_devices", said)
    assert machines.hardware(NODE)["power"] == "Off"
    assert not any(holds(machines.disk(NODE, number), MARKER.encode()) for number in (0, 1))
    assert all(is_blank(machines.disk(NODE, number)) for number in (0, 1))
