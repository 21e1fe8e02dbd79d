"""A RabbitMQ of the test's own, which goes away and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
EPMD = shutil.which("epmd")
START_S = 120.0

NEEDED = pytest.mark.skipif(
    SERVER is None or EPMD is None, reason="there is no RabbitMQ: install Debian's package `rabbitmq-server`"
)


@dataclass
class Broker:
    """The broker."""

    folder: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """It can be used."""
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [str(SERVER)], env=self.environment, cwd=self.folder, stdout=out, stderr=out, start_new_session=True
            )
        waiting = threading.Event()
        for _ in range(int(START_S / 0.1)):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, (self.folder / "out").read_text()[-2000:]
            waiting.wait(0.1)
        raise AssertionError("RabbitMQ did not start")

    def kill(self) -> None:
        """It is gone, without a word."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """A RabbitMQ on loopback, until the end of the block."""
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        port, distribution, names = (one.getsockname()[1] for one in free)
    folder.mkdir()
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"bloomery-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    # In the foreground, and ours to end: Erlang would leave one of its own behind.
    epmd = subprocess.Popen([str(EPMD)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    broker = Broker(folder, port, environment)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
        epmd.kill()
        epmd.wait()
