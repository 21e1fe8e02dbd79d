"""A PostgreSQL of its own for a test, where this machine has one: on loopback, its files in a folder, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

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
    with tempfile.TemporaryDirectory(prefix="bloomery-postgres-") as folder:
        Path(folder).chmod(0o755)
        with _running_in(Path(folder) / "data") as url:
            yield url


def fresh(url: str) -> str:
    """The URL of an empty database there."""
    name = f"log_{uuid4().hex}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{url}/{name}"


@contextmanager
def _running_in(data: Path) -> Iterator[str]:
    home = programs()
    assert home is not None
    data.mkdir()
    become: list[str] = []
    if os.geteuid() == 0:
        # PostgreSQL does not run as root; whom it runs as has to be able to get here.
        user = pwd.getpwnam("postgres" if _is_user("postgres") else "nobody")
        os.chown(data, user.pw_uid, user.pw_gid)
        become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*become, str(home / program), *arguments], cwd=data, env=environment, check=True, capture_output=True
        )

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run("initdb", "-D", str(data), "-U", "bloomery", "-A", "trust", "-N", "-E", "UTF8")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
    log = str(data / "server.log")
    run("pg_ctl", "-D", str(data), "-w", "-t", str(START_TIMEOUT_S), "-l", log, "-o", options, "start")
    try:
        yield f"postgresql://bloomery@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
