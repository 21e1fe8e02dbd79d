"""A machine with a serial line, and a service in front of an Ironic that says where that is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from doors_http.http_site import TIMEOUT_S, Site, cloud, served


@dataclass
class Machine:
    """What listens where Ironic says that the console is; one connection at a time, as socat has it."""

    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    line: socket.socket | None = None

    @property
    def port(self) -> int:
        """Where."""
        return int(self.server.getsockname()[1])

    def accept(self) -> None:
        """Somebody is on the line."""
        self.server.settimeout(TIMEOUT_S)
        self.line, _ = self.server.accept()
        self.line.settimeout(TIMEOUT_S)

    def says(self, text: bytes) -> None:
        """It goes out on the line."""
        assert self.line is not None
        self.line.sendall(text)

    def hears(self, wanted: bytes) -> None:
        """This, and nothing else, was typed."""
        assert self.line is not None
        heard = b""
        while len(heard) < len(wanted):
            part = self.line.recv(len(wanted) - len(heard))
            assert part, "the line was closed"
            heard += part
        assert heard == wanted

    def hangs_up(self) -> None:
        """The line is closed from this side."""
        assert self.line is not None
        self.line.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self.server.close()
        if self.line is not None:
            self.line.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with a serial line."""
    machine = Machine()
    yield machine
    machine.close()


@contextmanager
def console_site(machine: Machine, folder: Path, **settings: Any) -> Iterator[Site]:
    """A service whose only node has its console where the machine is."""
    with cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="node-0", resource_class="small", console_interface="ipmitool-socat")
        driver_info = {**ironic.node("node-0")["driver_info"], "ipmi_terminal_port": machine.port}
        ironic.set("node-0", driver_info=driver_info)
        with served(ironic, neutron, folder, **settings) as site:
            yield site
