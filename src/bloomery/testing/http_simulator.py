"""What the simulators share: an HTTP/1.1 server on the loopback, a record of every request, and faults on demand."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http.client import responses as reason_phrases
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_LOOPBACK = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_STOP_TIMEOUT_S = 5.0


class FaultKind(StrEnum):
    """What goes wrong with a request."""

    STATUS = "status"
    """Answer with a status; the deed is not done."""
    STATUS_AFTER = "status after"
    """Do the deed, and answer with an error status all the same."""
    RESET = "reset"
    """Reset the connection; the deed is not done."""
    LOSE_REPLY = "lose reply"
    """Do the deed, then close the connection without a word."""
    REFUSE = "refuse"
    """Reset this connection and refuse every new one, for `delay_s` or until `accept_connections`."""
    DELAY = "delay"
    """Wait for `delay_s`, then go on as usual."""
    DELAY_REPLY = "delay reply"
    """Do the deed, wait for `delay_s`, then reply."""
    CUT_BODY = "cut body"
    """Do the deed, send half of the reply's body, close the connection."""
    GARBAGE_BODY = "garbage body"
    """Do the deed, reply with its status and a body that is no JSON."""
    OTHER_SHAPE = "other shape"
    """Do the deed, reply with its status and `body`, which is JSON of another shape than anybody expects."""
    SILENCE = "silence"
    """Never answer, and do not close the connection either; the deed is not done."""
    TRICKLE = "trickle"
    """Do the deed, and reply a byte at a time, with `delay_s` between two."""

    @property
    def strikes_the_reply(self) -> bool:
        """Whether the deed is done before anything goes wrong."""
        return self in _OF_REPLIES


_OF_REPLIES = frozenset(
    {
        FaultKind.STATUS_AFTER,
        FaultKind.LOSE_REPLY,
        FaultKind.DELAY_REPLY,
        FaultKind.CUT_BODY,
        FaultKind.GARBAGE_BODY,
        FaultKind.OTHER_SHAPE,
        FaultKind.TRICKLE,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as a hook orders it for one request.

    `meanwhile` is called while the client waits: before the deed, or after it where it is the reply that suffers. It may
    kill the client.
    """

    kind: FaultKind
    status: int = 503
    delay_s: float = 0.0
    message: str = "a fault that the test ordered"
    body: str = '["another", "shape"]'
    meanwhile: Callable[[], None] | None = None


@dataclass(slots=True)
class RecordedRequest:
    """A request as it came in; `status` is None until it was answered, and stays None if no answer was sent.

    `path` is decoded; `target` is path and query as they were sent.
    """

    method: str
    path: str
    query: Mapping[str, str]
    query_lists: Mapping[str, list[str]]
    headers: Mapping[str, str] = field(repr=False)
    raw_body: bytes = field(repr=False)
    at_s: float
    status: int | None = None
    target: str = ""

    @property
    def body(self) -> Any:
        """The body read as JSON; None if there is none."""
        return json.loads(self.raw_body) if self.raw_body else None

    @property
    def is_write(self) -> bool:
        """Whether the request asks for a change."""
        return self.method not in ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body` is sent as JSON, or as it is if it is bytes; nothing is sent for None."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


OnRequest = Callable[[RecordedRequest], Fault | None]


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, simulator: HttpSimulator) -> None:
        self.simulator = simulator
        super().__init__((_LOOPBACK, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the base class calls it)
        """A client that went away is no news; anything else is for the test that owns the simulator."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError | ValueError):
            self.simulator.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.simulator._connected(self.connection)

    def finish(self) -> None:
        try:
            with suppress(OSError):
                super().finish()
        finally:
            self.server.simulator._disconnected(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        """Say nothing: `requests` is the log."""

    def _serve(self) -> None:
        simulator = self.server.simulator
        split = urlsplit(self.path)
        query_lists = parse_qs(split.query, keep_blank_values=True)
        request = RecordedRequest(
            method=self.command,
            path=unquote(split.path),
            query={key: ",".join(values) for key, values in query_lists.items()},
            query_lists=query_lists,
            headers={key.lower(): value for key, value in self.headers.items()},
            raw_body=self._read_body(),
            at_s=time.monotonic(),
            target=self.path,
        )
        simulator.requests.append(request)
        with simulator._at_work():
            fault = simulator.fault_for(request)
            if fault is None:
                self._send(request, simulator.answer(request))
            else:
                self._serve_faulty(request, fault)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Every method is served alike; `http.server` looks for `do_` and the method's name."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve_faulty(self, request: RecordedRequest, fault: Fault) -> None:
        simulator = self.server.simulator
        if fault.meanwhile and not fault.kind.strikes_the_reply:
            fault.meanwhile()
        if fault.kind is FaultKind.REFUSE:
            simulator.refuse_connections()
            if fault.delay_s:
                later = threading.Timer(fault.delay_s, simulator.accept_connections)
                later.daemon = True
                later.start()
            self._reset()
            return
        if fault.kind is FaultKind.SILENCE:
            self._wait_for_the_end()
            return
        if fault.kind not in (FaultKind.DELAY_REPLY, FaultKind.TRICKLE) and fault.delay_s:
            simulator._stopping.wait(fault.delay_s)
        if fault.kind is FaultKind.RESET:
            self._reset()
            return
        if fault.kind is FaultKind.STATUS:
            self._send(request, simulator.error(fault.status, fault.message))
            return
        response = simulator.answer(request)
        if fault.meanwhile and fault.kind.strikes_the_reply:
            fault.meanwhile()
        match fault.kind:
            case FaultKind.STATUS_AFTER:
                self._send(request, simulator.error(fault.status, fault.message))
            case FaultKind.LOSE_REPLY:
                self.close_connection = True
            case FaultKind.CUT_BODY:
                head, body = self._encode(response)
                self.wfile.write(head + body[: len(body) // 2])
                self.close_connection = True
            case FaultKind.GARBAGE_BODY:
                self._send(request, replace(response, body=b"<html>this is no JSON</html>"))
            case FaultKind.OTHER_SHAPE:
                self._send(request, replace(response, body=fault.body.encode()))
            case FaultKind.TRICKLE:
                head, body = self._encode(response)
                self._trickle(head + body, fault.delay_s)
            case _:
                if fault.kind is FaultKind.DELAY_REPLY:
                    simulator._stopping.wait(fault.delay_s)
                self._send(request, response)

    def _read_body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, request: RecordedRequest, response: Response) -> None:
        head, body = self._encode(response)
        request.status = response.status
        self.wfile.write(head + (b"" if request.method == "HEAD" else body))

    def _trickle(self, content: bytes, pause_s: float) -> None:
        for byte in content:
            self.wfile.write(bytes((byte,)))
            if self.server.simulator._stopping.wait(pause_s):
                break
        self.close_connection = True

    def _wait_for_the_end(self) -> None:
        """The client has gone, or the simulator stops."""
        self.connection.settimeout(None)
        with suppress(OSError):
            while self.connection.recv(1 << 16):
                pass
        self.close_connection = True

    def _encode(self, response: Response) -> tuple[bytes, bytes]:
        body = response.body
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Length": str(len(body))}
        if body:
            headers["Content-Type"] = "application/json"
        headers |= response.headers
        lines = [f"HTTP/1.1 {response.status} {reason_phrases.get(response.status, '')}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body

    def _reset(self) -> None:
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            # The reply's writer keeps the socket open: only closing the descriptor itself sends the reset.
            socket.close(self.connection.detach())
        self.close_connection = True


def reserved(port: int = 0) -> socket.socket:
    """A socket by which the port on the loopback, or a free one, stays ours while nobody listens on it.

    Whoever connects is refused, and the system gives the port to nobody else; a simulator may listen on it all the same.
    """
    it = socket.socket()
    try:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        it.bind((_LOOPBACK, port))
    except OSError:
        it.close()
        raise
    return it


class HttpSimulator:
    """A service that is played over real HTTP, in this process.

    Use it as a context manager, or call `start` and `stop`. `requests` records what came in, `on_request` may order a
    `Fault` for each request, and `crashes` holds the errors of the simulator's own code (always empty, one hopes).
    """

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.on_request: OnRequest | None = None
        self.crashes: list[BaseException] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._reservation: socket.socket | None = None
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._connections_changed = threading.Condition()
        self._busy = 0
        self._door = threading.Lock()

    @property
    def url(self) -> str:
        """The address of the service's root, without a slash at the end."""
        return f"http://{_LOOPBACK}:{self._port}"

    def start(self, port: int = 0) -> None:
        """The service answers on the loopback, on a free port unless one is named."""
        self._stopping.clear()
        self._reservation = reserved(port)
        self._port = self._reservation.getsockname()[1]
        self.accept_connections()

    def stop(self) -> None:
        """Nothing of the service is left: no thread, no socket."""
        self._stopping.set()
        self.refuse_connections()
        if self._reservation is not None:
            self._reservation.close()
        with self._connections_changed:
            self._connections_changed.wait_for(lambda: not self._connections, timeout=_STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.crashes and error is None:
            raise RuntimeError(f"{type(self).__name__} has a bug of its own") from self.crashes[0]

    def refuse_connections(self) -> None:
        """Every open connection is closed and every new one refused, until `accept_connections`."""
        with self._door:
            if self._server is not None and self._thread is not None:
                self._server.shutdown()
                self._thread.join()
                self._server.socket.close()
                self._server = self._thread = None
        with self._connections_changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def accept_connections(self) -> None:
        """Connections are accepted (again), on the same port as before."""
        with self._door:
            if self._server is not None or self._stopping.is_set():
                return
            self._server = _Server(self._port, self)
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.02,), name=type(self).__name__, daemon=True
            )
            self._thread.start()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Within the block, connections are refused."""
        self.refuse_connections()
        try:
            yield
        finally:
            self.accept_connections()

    def fault_for(self, request: RecordedRequest) -> Fault | None:
        """What goes wrong with the request, if anything."""
        return self.on_request(request) if self.on_request else None

    def answer(self, request: RecordedRequest) -> Response:
        """The service's answer to a request, and its deed."""
        return self.error(404, f"nothing is at {request.path}")

    def error(self, status: int, message: str) -> Response:
        """An error in the words of the service."""
        return Response(status, {"error": message})

    def wait_until_idle(self, timeout_s: float = 30.0) -> None:
        """No request is being dealt with; not even one whose client has gone away meanwhile.

        Raises:
            TimeoutError: there still is one.
        """
        with self._connections_changed:
            if not self._connections_changed.wait_for(lambda: self._busy == 0, timeout=timeout_s):
                raise TimeoutError(f"{self._busy} requests are still being dealt with after {timeout_s:g} s")

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._connections_changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._connections_changed:
                self._busy -= 1
                self._connections_changed.notify_all()

    def _connected(self, connection: socket.socket) -> None:
        with self._connections_changed:
            self._connections.add(connection)

    def _disconnected(self, connection: socket.socket) -> None:
        with self._connections_changed:
            self._connections.discard(connection)
            self._connections_changed.notify_all()
