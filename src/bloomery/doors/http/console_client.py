"""A serial console through a service, for programs: a socket with the machine behind it, and who else is there."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bloomery.errors import AccessDenied, ConsoleFailed, NotSupported

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

PROTOCOL = "bloomery.console"
OPEN_TIMEOUT_S = 15.0
MESSAGE_LIMIT_BYTES = 1024 * 1024
_READ_BYTES = 16 * 1024
_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a console stands.

    Attributes:
        standing: `connecting`, `open` or `ended`.
        reason: why it has ended.
        viewers: who is on it, by number.
        you: which of them this is.
        typist: which of them types, if one does.
    """

    standing: str
    reason: str | None
    viewers: Mapping[int, str]
    you: int
    typist: int | None

    @property
    def is_yours(self) -> bool:
        """Whether what is written here reaches the machine."""
        return self.typist == self.you

    @property
    def who_types(self) -> str | None:
        """The name of whoever types."""
        return self.viewers.get(self.typist) if self.typist is not None else None


@dataclass(eq=False)
class ServedConsole:
    """Somebody's place on a console that a service holds.

    Attributes:
        pipe: what the machine says can be read here, and what is written is typed; closed by the other side when it is over.
        on_line: told, in a thread of its own, how the line stands, whenever that changes.
        line: how it stood last; None before that was said.
    """

    connection: ClientConnection
    on_line: Callable[[Line], None]
    line: Line | None = None
    _ours: socket.socket = field(init=False)
    pipe: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.pipe, self._ours = socket.socketpair()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._down, self._up)]
        for thread in self._threads:
            thread.start()

    def take_over(self) -> None:
        """What is written here reaches the machine from now on; whoever typed before watches."""
        self.connection.send(json.dumps({"do": "type"}))

    def close(self) -> None:
        """Nobody is here any more."""
        with suppress(OSError):
            self.pipe.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        for thread in self._threads:
            thread.join(OPEN_TIMEOUT_S)
        self._ours.close()
        self.pipe.close()

    def _down(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for message in self.connection:
                if isinstance(message, bytes):
                    self._ours.sendall(message)
                else:
                    self._told(json.loads(message))
        except (ConnectionClosed, OSError, ValueError):
            pass  # the other side of the pair sees that it is over
        finally:
            with suppress(OSError):
                self._ours.shutdown(socket.SHUT_RDWR)

    def _told(self, said: Mapping[str, object]) -> None:
        if "lost" in said:
            self._ours.sendall(f"\r\n[{said['lost']} bytes came too fast and are lost]\r\n".encode())
            return
        viewers = said["viewers"] if isinstance(said["viewers"], list) else []
        you, typist = said["you"], said["typist"]
        self.line = Line(
            standing=str(said["standing"]),
            reason=str(said["reason"]) if said["reason"] else None,
            viewers={int(viewer["number"]): str(viewer["name"]) for viewer in viewers},
            you=you if isinstance(you, int) else 0,
            typist=typist if isinstance(typist, int) else None,
        )
        self.on_line(self.line)

    def _up(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed, OSError):
            while typed := self._ours.recv(_READ_BYTES):
                self.connection.send(typed)


@contextmanager
def opened(
    url: str, headers: Mapping[str, str], *, verify: bool | str, on_line: Callable[[Line], None]
) -> Iterator[ServedConsole]:
    """Somebody is on the console until the end of the block.

    Args:
        url: where it is, as a WebSocket.
        headers: that say who he is.
        verify: whether to check the service's certificate, or the file with the certificates to trust.
        on_line: told how the line stands.

    Raises:
        NotSupported: the package for WebSockets is not installed.
        AccessDenied: he may not.
        ConsoleFailed: it cannot be reached.
    """
    try:
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol
    except ModuleNotFoundError as missing:
        raise NotSupported(
            "consoles through a service need a package that is not installed",
            reason=f"there is no {missing.name}",
            advice="`pip install 'bloomery[http]'` installs it; the page of the service has consoles, too",
        ) from None
    trust = _trust(verify) if url.startswith("wss:") else None
    try:
        connection = connect(
            url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers=dict(headers),
            open_timeout=OPEN_TIMEOUT_S,
            max_size=MESSAGE_LIMIT_BYTES,
            ssl=trust,
            proxy=None,
        )
    except InvalidStatus as refused:
        status = refused.response.status_code
        if status in _REFUSED:
            raise AccessDenied("the service does not let us on this console", reason=f"it answered {status}") from None
        raise ConsoleFailed("the service gives no console", reason=f"it answered {status}") from None
    except (OSError, WebSocketException) as problem:
        raise ConsoleFailed("the service's console cannot be reached", reason=str(problem)) from None
    console = ServedConsole(connection, on_line)
    try:
        yield console
    finally:
        console.close()


def _trust(verify: bool | str) -> ssl.SSLContext:
    trust = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust
