"""A serial console in the terminal: keys go to the machine, what it writes goes to the screen."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bloomery.errors import ConsoleFailed

CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 4096


class LeaveKeys:
    """Recognises `~.` at the beginning of a line, by which the user leaves; `~~` there is one `~`."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._after_tilde = False

    def split(self, keys: bytes) -> tuple[bytes, bool]:
        """What of the keys goes to the machine, and whether the user leaves."""
        passed = bytearray()
        for key in keys:
            if self._after_tilde:
                self._after_tilde = False
                if key == ord("."):
                    return bytes(passed), True
                passed += b"~" if key == ord("~") else bytes([ord("~"), key])
            elif self._at_line_start and key == ord("~"):
                self._after_tilde = True
                continue
            else:
                passed.append(key)
            self._at_line_start = key in b"\r\n"
        return bytes(passed), False


def is_terminal() -> bool:
    """Whether somebody types here and sees what is written."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def is_attachable(url: str) -> bool:
    """Whether the console at this address can be opened in this terminal."""
    return urlsplit(url).scheme == "tcp" and is_terminal()


def attach(url: str) -> bool:
    """The user was on the console until he left it (True), or the other side closed it (False).

    Raises:
        ConsoleFailed: nothing can be reached there.
    """
    parts = urlsplit(url)
    try:
        connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as problem:
        raise ConsoleFailed(
            f"the console at {url} cannot be reached",
            reason=str(problem),
            advice="It may listen on the conductor only; a tunnel to it would help",
        ) from problem
    with connection:
        return attach_to(connection)


def attach_to(connection: socket.socket) -> bool:
    """The user was on what is behind the connection until he left it (True), or the other side closed it (False)."""
    connection.settimeout(None)
    with _raw_terminal():
        return _pass_on(connection)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key is handed over as it is, Ctrl-C too; afterwards the terminal is as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _pass_on(connection: socket.socket) -> bool:
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    leave_keys = LeaveKeys()
    with selectors.DefaultSelector() as selector:
        selector.register(keys, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for ready, _ in selector.select():
                try:
                    if ready.fd == keys:
                        typed = os.read(keys, _CHUNK_BYTES)
                        passed, leaves = leave_keys.split(typed)
                        connection.sendall(passed)
                        if leaves or not typed:
                            return True
                        continue
                    written = connection.recv(_CHUNK_BYTES)
                except ConnectionError:
                    return False
                if not written:
                    return False
                while written:
                    written = written[os.write(screen, written) :]
