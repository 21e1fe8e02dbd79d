"""A screen: RFB 3.8 without authentication, in one colour; behind a WebSocket, as Ironic's proxy has them, or bare."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

WIDTH, HEIGHT = 320, 200
COLOUR = (200, 80, 20)
VERSION = b"RFB 003.008\n"
# 32 bits, of which 24 are colour, little endian, true colour, eight bits each, red lowest as browsers have it.
_FORMAT = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)
_SIZES = {0: 20, 3: 10, 4: 8, 5: 6}
"""How long the messages of a viewer are: pixel format, update request, key, pointer."""


class _Gone(Exception):
    """The viewer has left."""


class _Stream:
    """What is said to a viewer, and his bytes, however they were cut into messages."""

    def __init__(self, connection: ServerConnection | socket.socket) -> None:
        self._connection = connection
        self._kept = b""

    def read(self, size: int) -> bytes:
        while len(self._kept) < size:
            self._kept += self._heard()
        read, self._kept = self._kept[:size], self._kept[size:]
        return read

    def _heard(self) -> bytes:
        try:
            if isinstance(self._connection, socket.socket):
                message: bytes | str = self._connection.recv(4096)
            else:
                message = self._connection.recv()
        except (ConnectionClosed, OSError):
            raise _Gone from None
        if not message:
            raise _Gone
        assert isinstance(message, bytes)
        return message

    def send(self, said: bytes) -> None:
        try:
            if isinstance(self._connection, socket.socket):
                self._connection.sendall(said)
            else:
                self._connection.send(said)
        except (ConnectionClosed, OSError):
            raise _Gone from None


@dataclass
class VncScreen:
    """What the screen was asked.

    Attributes:
        url: where noVNC's page would be.
        paths: which addresses were asked for.
        keys: the keys that were pressed, as X11 numbers them.
        pressed: is set when one was.
        viewer: who came last, behind a WebSocket.
    """

    url: str = ""
    paths: list[str] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    pressed: threading.Event = field(default_factory=threading.Event)
    viewer: ServerConnection | None = None

    def breaks_off(self) -> None:
        """The viewer's connection is cut, without a word."""
        assert self.viewer is not None
        self.viewer.socket.shutdown(socket.SHUT_RDWR)

    def serve(self, connection: ServerConnection) -> None:
        """One viewer behind a WebSocket, until he leaves."""
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.viewer = connection
        self._show(_Stream(connection))

    def serve_bare(self, connection: socket.socket) -> None:
        """One viewer, until he leaves."""
        with connection:
            self._show(_Stream(connection))

    def _show(self, stream: _Stream) -> None:
        with suppress(_Gone):
            stream.send(VERSION)
            assert stream.read(len(VERSION)) == VERSION
            stream.send(b"\x01\x01")
            assert stream.read(1) == b"\x01"
            stream.send(struct.pack(">I", 0))
            stream.read(1)
            name = b"a machine"
            stream.send(struct.pack(">HH", WIDTH, HEIGHT) + _FORMAT + struct.pack(">I", len(name)) + name)
            while True:
                self._answer(stream)

    def _answer(self, stream: _Stream) -> None:
        (kind,) = stream.read(1)
        if kind == 2:  # encodings
            (count,) = struct.unpack(">xH", stream.read(3))
            stream.read(4 * count)
            return
        if kind == 6:  # clipboard
            (size,) = struct.unpack(">xxxI", stream.read(7))
            stream.read(size)
            return
        said = stream.read(_SIZES[kind] - 1)
        if kind == 4 and said[0]:
            self.keys.append(struct.unpack(">I", said[3:])[0])
            self.pressed.set()
        if kind == 3 and not said[0]:
            pixels = bytes((*COLOUR, 0)) * (WIDTH * HEIGHT)
            stream.send(struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0) + pixels)


@contextmanager
def vnc_screen() -> Iterator[VncScreen]:
    """A screen, until the end of the block."""
    screen = VncScreen()
    with serve(screen.serve, "127.0.0.1", 0, subprotocols=[Subprotocol("binary")], compression=None) as server:
        screen.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/vnc_lite.html"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield screen
        finally:
            server.shutdown()


@contextmanager
def bare_screen() -> Iterator[tuple[VncScreen, int]]:
    """A screen on a TCP port of loopback, and that port, until the end of the block."""
    screen = VncScreen()
    viewers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    viewer, _ = server.accept()
                    viewers.append(viewer)
                    threading.Thread(target=screen.serve_bare, args=(viewer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield screen, int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for viewer in viewers:
                viewer.close()
