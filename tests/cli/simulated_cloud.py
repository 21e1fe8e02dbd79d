"""A cloud of simulators, and the command run on it, in this process or in one of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bloomery.doors.cli.app import main
from bloomery.testing import IronicSimulator, NeutronSimulator

CHECKSUM = "sha256:" + "a" * 64
TIMEOUT_S = 30.0
"""For whatever a test waits for."""
IMAGE = ("--image", "http://127.0.0.1/images/x.raw", "--checksum", CHECKSUM)


@dataclass(frozen=True, slots=True)
class Result:
    """What a command ended with."""

    code: int
    out: str
    err: str


@dataclass
class Cloud:
    """The simulators, and the command on them."""

    ironic: IronicSimulator
    neutron: NeutronSimulator
    folder: Path
    capsys: pytest.CaptureFixture[str]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> Result:
        """The command ran in this process."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = self.capsys.readouterr()
        return Result(int(ended.value.code or 0), said.out, said.err)

    def ok(self, *arguments: str) -> str:
        """What a command that went well wrote on stdout."""
        result = self.run(*arguments)
        assert result.code == 0, result.err
        return result.out

    def deployed(self, name: str = "web-1", *more: str) -> str:
        """The name of an instance that runs."""
        self.ok("deploy", name, *IMAGE, "--resource-class", "small", "--network", "private", *more)
        return name

    def start(self, *arguments: str, program: str | None = None, **more: Any) -> subprocess.Popen[str]:
        """The command, or a program in Python, runs in a process of its own."""
        what = ["-m", "bloomery.doors.cli.app"] if program is None else ["-c", program]
        return subprocess.Popen(
            [sys.executable, *what, *arguments],
            env={**os.environ, **self.environment},
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )

    def everything(self) -> Any:
        """All that the services know, to be compared."""
        ironic, nodes = self.ironic, self.ironic.nodes()
        per_node = {node["uuid"]: (ironic.vifs(node["uuid"]), ironic.volume_targets(node["uuid"])) for node in nodes}
        return nodes, per_node, ironic.allocations(), self.neutron.ports()


class Terminal:
    """A command on a terminal of its own, which is read all the time."""

    def __init__(self, cloud: Cloud, *arguments: str, program: str | None = None) -> None:
        self._master, slave = pty.openpty()
        streams = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        self.process = cloud.start(*arguments, program=program, **streams)
        os.close(slave)
        self.seen = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                text = os.read(self._master, 4096)
            except OSError:
                return
            with self._news:
                self.seen += text.decode(errors="replace")
                self._news.notify_all()

    def await_text(self, text: str) -> None:
        """The command has written it."""
        with self._news:
            assert self._news.wait_for(lambda: text in self.seen, TIMEOUT_S), self.seen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        os.close(self._master)
        return code


@contextmanager
def on_terminal(cloud: Cloud, *arguments: str, program: str | None = None) -> Iterator[Terminal]:
    """The command, or a program in Python, runs on a terminal; it ends with the block."""
    terminal = Terminal(cloud, *arguments, program=program)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()
