"""The serial line of a machine, and what sits at its other end: firmware, an agent, or a system that one can log in to.

A line keeps nothing: what a machine writes while nobody is on the line is lost, as on a real one. One at a time can be on
it, as one session at a time goes through a BMC.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_CHUNK_BYTES = 4096
_LONGEST_LINE = 200
_SEND_TIMEOUT_S = 5.0


class SerialLine:
    """Where what a machine writes comes out, and what is typed goes in; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peer: socket.socket | None = None
        self._takes: Callable[[bytes], None] = lambda _typed: None

    def leads_to(self, takes: Callable[[bytes], None]) -> None:
        """What is typed is given to this from now on."""
        self._takes = takes

    def write(self, text: str) -> None:
        """The text has gone to whoever is on the line; one who takes nothing for some seconds is thrown out."""
        with self._lock:
            if self._peer is None:
                return
            try:
                self._peer.sendall(text.replace("\n", "\r\n").encode())
            except OSError:
                self._end()

    def serve(self, peer: socket.socket, greeting: bytes) -> bool:
        """The peer was greeted and on the line until he left or was dropped; False if somebody else is on it."""
        with self._lock:
            if self._peer is not None:
                return False
            peer.settimeout(None)
            # Half of a socket's timeout is not to be had: the kernel's own bounds what is sent and not what is awaited.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_TIMEOUT_S))
            try:
                peer.sendall(greeting)
            except OSError:
                return True
            self._peer = peer
        try:
            while typed := peer.recv(_CHUNK_BYTES):
                self._takes(typed)
        except OSError:
            pass
        with self._lock:
            if self._peer is peer:
                self._peer = None
        return True

    def drop(self) -> bool:
        """Nobody is on the line; returns whether somebody was."""
        with self._lock:
            was_used = self._peer is not None
            self._end()
            return was_used

    def _end(self) -> None:
        if self._peer is not None:
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
            self._peer = None


def _timeval(seconds: float) -> bytes:
    return int(seconds).to_bytes(8, "little") + int(seconds % 1 * 1e6).to_bytes(8, "little")


class System:
    """What a machine runs from its disk, as one meets it on the serial line: it boots, asks who one is, and knows a few words.

    It stands in for an operating system as the agent's stand-in does for an agent: nothing is executed.

    Args:
        line: the machine's serial line.
        name: what the machine itself is called.
        image: what was booted.
        metadata: the metadata on its config drive.
    """

    def __init__(self, line: SerialLine, *, name: str, image: str, metadata: Mapping[str, Any]) -> None:
        self._line = line
        self._machine = name
        self._image = image
        self._metadata = metadata
        self.host_name = str(metadata.get("hostname") or metadata.get("name") or name).partition(".")[0]
        self._user: str | None = None
        self._typed = ""
        self._booted_at = time.monotonic()

    def boot(self) -> None:
        """It runs, and has said so."""
        self._line.leads_to(self.take)
        self._log(f"booting {self._image}")
        self._log(f"machine {self._machine}, console on ttyS0")
        self._log(
            f"config drive: {len(json.dumps(self._metadata))} bytes of metadata"
            if self._metadata
            else "no config drive"
        )
        self._log("the system is up")
        self._line.write(f"\n{self.host_name} login: ")

    def interrupt(self) -> None:
        """A non-maskable interrupt was noted."""
        self._log("non-maskable interrupt received: this is where a kernel would dump its memory")

    def end(self) -> None:
        """It runs no more."""
        self._log("the power goes")
        self._line.leads_to(lambda _typed: None)

    def take(self, typed: bytes) -> None:
        """What is typed is echoed, and acted upon at the end of each line."""
        for character in typed.decode(errors="replace"):
            if character in "\r\n":
                self._line.write("\n")
                line, self._typed = self._typed, ""
                self._enter(line.strip())
            elif character in "\x7f\b":
                if self._typed:
                    self._typed = self._typed[:-1]
                    self._line.write("\b \b")
            elif character in "\x03\x15":
                self._typed = ""
                self._line.write("^C\n" if character == "\x03" else "\n")
                self._ask()
            elif character == "\x04" and not self._typed:
                self._enter("exit")
            elif character.isprintable() and len(self._typed) < _LONGEST_LINE:
                self._typed += character
                self._line.write(character)

    def _ask(self) -> None:
        self._line.write(f"{self.host_name} login: " if self._user is None else f"{self._user}@{self.host_name}:~$ ")

    def _enter(self, line: str) -> None:
        if self._user is None:
            if line:
                self._user = line.split()[0]
                self._line.write(f"Welcome, {self._user}. No password is asked for here; `help` says what there is.\n")
        elif line:
            word, _, rest = line.partition(" ")
            self._line.write(self._answer(word, rest))
        self._ask()

    def _answer(self, word: str, rest: str) -> str:
        match word:
            case "help":
                return "help  echo  hostname  image  metadata  uptime  whoami  exit\n"
            case "echo":
                return f"{rest}\n"
            case "hostname":
                return f"{self.host_name}\n"
            case "image":
                return f"{self._image}\n"
            case "metadata":
                return f"{json.dumps(self._metadata, indent=2, sort_keys=True)}\n"
            case "uptime":
                return f"up for {time.monotonic() - self._booted_at:.0f} s\n"
            case "whoami":
                return f"{self._user}\n"
            case "exit" | "logout":
                self._user = None
                return "\n"
        return f"{word}: there is no such word here; `help` lists those that there are\n"

    def _log(self, text: str) -> None:
        self._line.write(f"[{time.monotonic() - self._booted_at:10.4f}] {text}\n")
