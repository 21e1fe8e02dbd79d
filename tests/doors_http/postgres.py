"""A PostgreSQL of its own for a test, where this machine has one: on loopback, its files in a folder, gone at the end,
and killed with the process that started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from bloomery.lab.service import die_with_parent

START_TIMEOUT_S = 60


def programs() -> Path | None:
    """The folder with PostgreSQL's programs, the newest if there are several; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb is not None else None


NEEDED = pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL on this machine")


@contextmanager
def running() -> Iterator[str]:
    """The URL of a PostgreSQL that runs within the block, without a database's name."""
    with server() as it:
        yield it.url


@contextmanager
def server() -> Iterator[Server]:
    """A PostgreSQL that runs within the block, and can be away in between."""
    with tempfile.TemporaryDirectory(prefix="bloomery-postgres-") as folder:
        Path(folder).chmod(0o755)
        it = Server(Path(folder) / "data")
        it.set_up()
        try:
            it.start()
            yield it
        finally:
            it.stop()


def fresh(url: str) -> str:
    """The URL of an empty database there."""
    name = f"log_{uuid4().hex}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{url}/{name}"


class Server:
    """A PostgreSQL on a port of its own.

    Args:
        data: where its files are to be.
    """

    def __init__(self, data: Path) -> None:
        home = programs()
        assert home is not None
        self._home, self._data = home, data
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql://bloomery@127.0.0.1:{self._port}"

    def _started(self) -> dict[str, Any]:
        whose: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL does not run as root; whom it runs as has to be able to get here.
            user = pwd.getpwnam("postgres" if _is_user("postgres") else "nobody")
            os.chown(self._data, user.pw_uid, user.pw_gid)
            whose = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        return {
            "cwd": self._data,
            "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"},
            # Python calls this after it has changed the user, which would undo it.
            "preexec_fn": die_with_parent,
            **whose,
        }

    def set_up(self) -> None:
        """Its files are there."""
        self._data.mkdir()
        initdb = [
            str(self._home / "initdb"),
            "-D",
            str(self._data),
            "-U",
            "bloomery",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ]
        subprocess.run(initdb, check=True, capture_output=True, **self._started())

    def start(self) -> None:
        """It answers."""
        options = {
            "listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": "", "fsync": "off",
            "logging_collector": "off",
        }  # fmt: skip
        command = [str(self._home / "postgres"), "-D", str(self._data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **self._started(),
        )
        said: list[str] = []
        is_ready = threading.Event()
        self._listener = threading.Thread(target=_listen, args=(self._process, said, is_ready), daemon=True)
        self._listener.start()
        assert is_ready.wait(START_TIMEOUT_S), "".join(said)
        assert self._process.poll() is None, "".join(said)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block it accepts connections and what is sent, and answers nothing: as on a machine that hangs."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.suspend()
        stopped = [server]
        try:
            for child in server.children(recursive=True):
                child.suspend()
                stopped.append(child)
            yield
        finally:
            for process in stopped:
                process.resume()

    def stop(self) -> None:
        """It is away at once, as after a crash; what was committed is there again when it starts."""
        if self._process is None or self._listener is None:
            return
        self._process.send_signal(signal.SIGQUIT)  # its immediate shutdown
        self._process.wait()
        self._listener.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = self._listener = None


def _listen(server: subprocess.Popen[str], said: list[str], is_ready: threading.Event) -> None:
    """What the server says is kept; the event is set when it says that it is ready, or nothing any more."""
    assert server.stderr is not None
    for line in server.stderr:
        said.append(line)
        if "ready to accept connections" in line:
            is_ready.set()
    is_ready.set()


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
