"""Somebody at a virtual machine: over SSH, and on its serial line."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bloomery.lab.errors import LabError
from bloomery.lab.wait import until

_CONNECT_TIMEOUT_S = 30
_COMMAND_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A way into a machine.

    Attributes:
        port: the port of loopback that leads to the machine's SSH.
        user: as whom.
        key: the file with the private key, or None to give the password.
        password: what the user has to say where no key opens.
    """

    port: int
    user: str
    key: Path | None = None
    password: str | None = None

    def run(self, command: str) -> str:
        """What the command writes on the machine, without the last line end.

        Raises:
            LabError: nobody is let in, or the command failed there; says what was written.
        """
        answer = self._ask(command)
        if answer.returncode:
            raise LabError(
                f"`{command}` ended with {answer.returncode} on the machine: {(answer.stderr or answer.stdout).strip()}"
            )
        return answer.stdout.rstrip("\n")

    def wait(self, *, timeout_s: float) -> None:
        """The machine lets us in.

        Raises:
            LabError: it did not within the time.
        """
        until(
            lambda: self._ask("true").returncode == 0,
            what=f"a login as {self.user} at port {self.port}",
            timeout_s=timeout_s,
            poll_s=2,
        )

    def is_let_in(self) -> bool:
        """Whether the machine lets us in, now."""
        return self._ask("true").returncode == 0

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `ssh`: nothing is asked, nothing is remembered, for the machine's key is a new one each time."""
        ways = (
            ("-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "PasswordAuthentication=no")
            if self.key
            else ("-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1")
        )
        return (
            *(
                "-F",
                "none",
                "-p",
                str(self.port),
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ),
            *("-o", "LogLevel=ERROR", "-o", f"ConnectTimeout={_CONNECT_TIMEOUT_S}", *ways),
        )

    def _ask(self, command: str) -> subprocess.CompletedProcess[str]:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise LabError("nobody can log in: there is no ssh; install it: apt-get install openssh-client")
        with _said(self.password) as environment:
            try:
                return subprocess.run(  # noqa: S603
                    [ssh, *self.options, f"{self.user}@127.0.0.1", command],
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_COMMAND_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as slow:
                return subprocess.CompletedProcess(slow.cmd, 255, "", f"no answer within {_COMMAND_TIMEOUT_S:.0f} s")


@contextmanager
def _said(password: str | None) -> Iterator[dict[str, str]]:
    """The variables that have `ssh` ask a program for the password instead of a terminal."""
    if password is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="lab-login-") as folder:
        program = Path(folder) / "say"
        program.touch(mode=0o700)
        # Not in the file: programs that can be read hold no secret.
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$LAB_PASSWORD"\n')
        yield {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "LAB_PASSWORD": password, "DISPLAY": ":0"}


class SerialLine:
    """The other end of a machine's serial line, as `bloomery console` has it; one at a time."""

    def __init__(self, port: int) -> None:
        self._line = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._seen = ""

    def __enter__(self) -> "SerialLine":
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def type(self, text: str) -> None:
        """The keys were hit; the last of them is Enter."""
        self._line.sendall(text.encode() + b"\r")

    def read_until(self, text: str, *, timeout_s: float) -> str:
        """What was written since the last time, up to this text.

        Raises:
            LabError: the text was not written within the time.
        """

        def is_there() -> bool:
            self._line.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                self._seen += self._line.recv(65536).decode(errors="replace")
            return text in self._seen

        until(is_there, what=f"{text!r} on the serial line", timeout_s=timeout_s, poll_s=0)
        seen, _, self._seen = self._seen.partition(text)
        return seen + text
