"""Serial consoles in the lab: Ironic's own code, and a machine at the other end that says something and takes typing."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Image, Lab, ipmitool, socat
from bloomery.lab.machine import Machine
from bloomery.lab.serial import System
from lab.ironic_api import WAIT_S, IronicApi

TIMEOUT_S = 60.0


class Terminal:
    """Somebody at a serial line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(TIMEOUT_S)
        self.seen = ""

    def sees(self, text: str) -> None:
        """It came, after what was seen before."""
        while text not in self.seen:
            part = self.connection.recv(4096)
            assert part, f"the line was closed; before that: {self.seen!r}"
            self.seen += part.decode()
        self.seen = self.seen.partition(text)[2]

    def types(self, text: str) -> None:
        """It went to the machine."""
        self.connection.sendall(text.encode())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that nobody has switched on."""
    return Machine(tmp_path, uuid="u-1", name="node-0", mac_addresses=[])


@pytest.fixture
def terminal(machine: Machine) -> Iterator[Terminal]:
    """Somebody on its serial line."""
    mine, its = socket.socketpair()
    with mine, its:
        serving = threading.Thread(target=machine.serial.serve, args=(its, b"hello"), daemon=True)
        serving.start()
        terminal = Terminal(mine)
        terminal.sees("hello")
        yield terminal
        mine.shutdown(socket.SHUT_RDWR)
        serving.join(TIMEOUT_S)
        assert not serving.is_alive()


def test_a_system_echoes_asks_who_one_is_and_knows_a_few_words(machine: Machine, terminal: Terminal) -> None:
    System(machine.serial, name="node-0", image="debian", metadata={"hostname": "web-1.example.org"}).boot()
    terminal.sees("\r\nweb-1 login: ")
    terminal.types("root\r")
    terminal.sees("root\r\nWelcome, root.")
    terminal.sees("root@web-1:~$ ")
    for typed, answer in (
        ("hostname\r", "web-1\r\n"),
        ("ech\x7fho hello\r", "\r\nhello\r\n"),
        ("image\r", "debian\r\n"),
        ("sudo\r", "sudo: there is no such word here"),
    ):
        terminal.types(typed)
        terminal.sees(answer)
        terminal.sees("root@web-1:~$ ")
    terminal.types("half a line\x03")
    terminal.sees("^C\r\nroot@web-1:~$ ")
    terminal.types("\x04")
    terminal.sees("web-1 login: ")
    terminal.connection.sendall(bytes(range(256)) + b"\x03")
    terminal.sees("^C")


def test_a_line_has_one_at_a_time_and_whoever_is_on_it_can_be_dropped(machine: Machine, terminal: Terminal) -> None:
    mine, its = socket.socketpair()
    with mine, its:
        assert machine.serial.serve(its, b"not sent") is False
    assert machine.serial.drop() is True
    assert terminal.connection.recv(100) == b""
    assert machine.serial.drop() is False
    machine.serial.write("into the void\n")


def test_metadata_that_cannot_be_read_leaves_the_machine_its_own_name(machine: Machine, terminal: Terminal) -> None:
    machine.write_config_drive(b"no ISO image")
    machine.run_system("debian")
    terminal.sees("node-0 login: ")


def test_the_stand_ins_take_what_ironic_calls_them_with_and_nothing_else() -> None:
    escaped = "ipmitool -H 127.0.0.1 -f a\\\\\\,b sol activate"
    argv = ["-T600", "-Lx.pid", "TCP4-LISTEN:20001,bind=127.0.0.1,reuseaddr,fork,max-children=1"]
    assert socat.parse([*argv, f'EXEC:"{escaped}",pty,stderr']) == (
        600.0,
        "x.pid",
        ("127.0.0.1", 20001),
        ["ipmitool", "-H", "127.0.0.1", "-f", "a,b", "sol", "activate"],
    )
    with pytest.raises(SystemExit, match="does not know this"):
        socat.parse([*argv, "SYSTEM:sh"])
    assert ipmitool.main(["-N", "0", "-R", "0", "-h"]) == 0
    assert ipmitool.main(["-H", "127.0.0.1", "-p", "1", "-U", "x", "power", "off"]) == 1


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_a_machine_is_logged_in_to_by_the_console_that_ironic_starts(a_lab: Lab, ironic: IronicApi) -> None:
    node = a_lab.nodes[0]
    image: Image = a_lab.images["whole-disk"]
    assert ironic.call("GET", f"nodes/{node.uuid}/validate")["console"]["result"] is True
    ironic.claim(node, image)
    ironic.attach_vif(node, "private")
    drive = {"meta_data": {"hostname": "web-1"}}
    ironic.provision(node, "active", until="active", configdrive=drive)
    console = f"nodes/{node.uuid}/states/console"

    def shown(*, enabled: bool) -> dict[str, str] | None:
        deadline = time.monotonic() + WAIT_S
        while (found := ironic.call("GET", console))["console_enabled"] is not enabled:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        info: dict[str, str] | None = found["console_info"]
        return info

    ironic.call("PUT", console, {"enabled": True})
    info = shown(enabled=True)
    assert info is not None
    assert info["type"] == "socat"
    host, _, port = info["url"].removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        terminal = Terminal(connection)
        terminal.sees("on the serial line")
        terminal.types("\r")
        terminal.sees("web-1 login: ")
        terminal.types("root\r")
        terminal.sees("root@web-1:~$ ")
        terminal.types("image\r")
        terminal.sees(image.url)
        # Asked where it is, Ironic ends the session that is on it.
        shown(enabled=True)
        while connection.recv(4096):
            pass
    ironic.call("PUT", console, {"enabled": False})
    shown(enabled=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
    ironic.provision(node, "deleted", until="available")
