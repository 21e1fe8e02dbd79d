"""A real Keystone of its own for a test: on loopback, in SQLite, in a process that dies with this one.

`python -m doors_http.real_keystone CONFIGURATION PORT` is that process.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from bloomery.lab.service import die_with_parent

START_TIMEOUT_S = 120
PASSWORD = "of-the-bootstrap"
READY = "keystone is ready"

CONFIGURATION = """
[database]
connection = sqlite:///{folder}/keystone.sqlite
[fernet_tokens]
key_repository = {folder}/tokens
[fernet_receipts]
key_repository = {folder}/receipts
[credential]
key_repository = {folder}/credentials
[identity]
password_hash_rounds = 4
"""


class Keystone:
    """A Keystone, and its administrator.

    Args:
        folder: where its files are.
        port: where it listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v3"
        self.configuration = folder / "keystone.conf"
        self._process: subprocess.Popen[str] | None = None

    def set_up(self) -> None:
        """It has its tables, its keys and its administrator, as an operator makes them."""
        self.configuration.write_text(CONFIGURATION.format(folder=self.folder))
        urls = [f"--bootstrap-{which}-url={self.url}" for which in ("public", "internal", "admin")]
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        manage = [str(Path(sys.executable).parent / "keystone-manage"), f"--config-file={self.configuration}"]
        for words in (
            ["db_sync"],
            ["fernet_setup", f"--keystone-user={user}", f"--keystone-group={group}"],
            ["bootstrap", f"--bootstrap-password={PASSWORD}", "--bootstrap-region-id=RegionOne", *urls],
        ):
            done = subprocess.run(
                [*manage, *words], cwd=self.folder, env=_environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-4000:]

    def start(self) -> None:
        """It answers."""
        command = [sys.executable, "-m", "doors_http.real_keystone", str(self.configuration), str(self.port)]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                env=_environment(),
                cwd=self.folder,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self._process.kill)
        watchdog.start()
        said = self._process.stdout.readline()
        watchdog.cancel()
        assert said.strip() == READY, (self.folder / "log").read_text()[-4000:]

    def stop(self) -> None:
        """Nobody answers there."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def as_user(self, name: str, password: str, **scope: str) -> Session:
        """That user, authorised for what the scope says."""
        project = {"project_domain_id": "default"} if "project_name" in scope else {}
        auth = Password(self.url, username=name, password=password, user_domain_id="default", **project, **scope)
        return Session(auth=auth)

    def administrator(self) -> Session:
        """Who may do everything."""
        return self.as_user("admin", PASSWORD, project_name="admin")

    def made(self, who: Session, kind: str, path: str | None = None, **values: Any) -> Any:
        """What Keystone has made of the values: a `project`, a `user` …"""
        return who.post(f"{self.url}/{path or kind + 's'}", json={kind: values}).json()[kind]


def _environment() -> dict[str, str]:
    tests = str(Path(__file__).resolve().parents[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**kept, "PYTHONPATH": tests, "PYTHONWARNINGS": "ignore"}


@contextmanager
def running(folder: Path) -> Iterator[Keystone]:
    """A Keystone within the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keystone = Keystone(folder, port)
    keystone.set_up()
    keystone.start()
    try:
        yield keystone
    finally:
        keystone.stop()


def _serve(configuration: Path, port: int) -> None:
    from cheroot.wsgi import Server
    from keystone.server.flask import core

    application = core.initialize_application(name="public", config_files=[str(configuration)])
    server = Server(("127.0.0.1", port), application, numthreads=4)
    server.prepare()
    print(READY, flush=True)
    server.serve()


if __name__ == "__main__":
    _, file, listens = sys.argv
    # Keystone reads the command line as its own.
    del sys.argv[1:]
    warnings.simplefilter("ignore")
    _serve(Path(file), int(listens))
