"""The virtual machines of a lab as a user, and somebody in the rack, meets them."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bloomery import lab
from bloomery.lab.vm.login import Login
from bloomery.lab.wait import answers, until
from lab.ironic_api import IronicApi

BOOT_S = 1800.0
ADDRESS = "10.20.5.10"
PASSWORD = "a-console-password"

_COMMAND = Path(sys.executable).with_name("bloomery")


class Machines:
    """The lab, a user's folder, and the ways to the machines."""

    def __init__(self, it: lab.Lab, folder: Path) -> None:
        self.lab = it
        self.folder = folder
        self.ironic = IronicApi(it)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "OS_CLIENT_CONFIG_FILE": str(it.cloud_config),
            "OS_CLOUD": it.cloud,
            "HOME": str(folder),
        }
        folder.mkdir(exist_ok=True)
        if not (folder / "key").exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
        (folder / "user-data").write_text(
            "#cloud-config\n"
            "runcmd:\n"
            "  - [sh, -c, 'mkdir -p /var/lib/lab && echo ran >/var/lib/lab/user-data']\n"
            # What the system says while it goes down is to be read when it is up again.
            "  - [sh, -c, 'mkdir -p /var/log/journal && journalctl --flush']\n"
            f"chpasswd: {{expire: false, users: [{{name: debian, password: {PASSWORD}, type: text}}]}}\n"
        )

    def close(self) -> None:
        self.ironic.close()

    def run(self, *words: str, exit_code: int = 0) -> str:
        """The command line ended with that exit code; returns what it wrote, both ways."""
        done = subprocess.run(
            [str(_COMMAND), *words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout
        return done.stdout

    def deploy(self, name: str, node: str, image: str, *more: str, address: str = ADDRESS, exit_code: int = 0) -> str:
        """The instance was deployed on the node, with the user's key and user data."""
        return self.run(
            *("deploy", name, "--node", node, *self.image(image), "--network", "private", "--ip", address),
            *("--static-addresses", "--ssh-key", "key.pub", "--user-data", "user-data", "--timeout", str(2 * BOOT_S)),
            *more,
            exit_code=exit_code,
        )

    def image(self, name: str) -> tuple[str, ...]:
        """The options that name the image."""
        image = self.lab.images[name]
        kind = ("--partition-image",) if image.is_partition else ()
        return ("--image", image.url, "--checksum", f"{self.lab.images_url}/SHA256SUMS", *kind)

    def login(self, node: str, address: str = ADDRESS) -> Login:
        """A way into the instance, once it has come up."""
        port = lab.forward(node, address, 22, self.lab.state)
        login = Login(port=port, user="debian", key=self.folder / "key")
        login.wait(timeout_s=BOOT_S)
        login.run("cloud-init status --wait >/dev/null || true")
        return login

    def disk(self, node: str, number: int) -> Path:
        """The file that is the node's disk."""
        return self.lab.state / "machines" / node / f"disk-{number}.raw"

    def hardware(self, node: str) -> dict[str, Any]:
        """What the BMC says of the machine, beside Redfish."""
        rows = requests.get(f"{self.lab.bmc_url}/lab/machines", timeout=30).json()["machines"]
        return next(row for row in rows if row["name"] == node)

    def console_log(self, node: str) -> str:
        """Everything that the machine has written to its serial line."""
        return (self.lab.state / "machines" / node / "console.log").read_text(errors="replace")

    def pull_the_plug(self, node: str) -> None:
        """The machine has no power; nobody but the BMC knows."""
        url = f"{self.lab.bmc_url}/redfish/v1/Systems/{self.lab.node(node).uuid}/Actions/ComputerSystem.Reset"
        requests.post(url, json={"ResetType": "ForceOff"}, timeout=60).raise_for_status()

    @contextmanager
    def left_on_when_rescued(self, node: str) -> Iterator[None]:
        """Within the block Ironic does not take the medium out of the machine, and with it its power, once it is rescued."""
        path = f"nodes/{self.lab.node(node).uuid}"
        self.ironic.call("PATCH", path, [{"op": "add", "path": "/driver_info/fast_track", "value": True}])
        try:
            yield
        finally:
            self.ironic.call("PATCH", path, [{"op": "remove", "path": "/driver_info/fast_track"}])

    @contextmanager
    def hanging_in_firmware(self, node: str) -> Iterator[None]:
        """Within the block the machine does nothing when it is switched on."""
        url = f"{self.lab.bmc_url}/lab/machines/{self.lab.node(node).uuid}/stuck"
        requests.put(url, json={"is_stuck": True}, timeout=30).raise_for_status()
        try:
            yield
        finally:
            requests.put(url, json={"is_stuck": False}, timeout=30).raise_for_status()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Within the block `bloomery serve` works on the lab; gives its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with (self.folder / "serve.log").open("ab") as log:
            service = subprocess.Popen(
                [str(_COMMAND), "serve", "--port", str(port), "--state", str(self.folder / "service"), "--no-janitor"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: answers(f"{url}/healthz"), what="an answer of the service", timeout_s=120)
            yield url
        finally:
            service.terminate()
            service.wait()

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command line runs; its output is to be read by the caller."""
        return subprocess.Popen(
            [str(_COMMAND), *words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class Terminal:
    """A user before `bloomery console`."""

    def __init__(self, machines: Machines, instance: str, *options: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [str(_COMMAND), *options, "console", instance],
            env={**machines.environment, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        """The keys were hit."""
        os.write(self._ours, text.encode())

    def until(self, text: str, *, timeout_s: float = BOOT_S, nudge: str = "") -> str:
        """What was written up to this text; `nudge` is typed each half minute that it does not come."""
        nudged = time.monotonic()

        def is_there() -> bool:
            nonlocal nudged
            if nudge and time.monotonic() > nudged + 30:
                self.type(nudge)
                nudged = time.monotonic()
            if select.select([self._ours], [], [], 0.2)[0]:
                self.seen += os.read(self._ours, 65536).decode(errors="replace")
            return text in self.seen

        until(is_there, what=f"{text!r} on the console", timeout_s=timeout_s, poll_s=0)
        seen, _, self.seen = self.seen.partition(text)
        return seen + text
