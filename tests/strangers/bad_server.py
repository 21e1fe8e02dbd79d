"""A small server that does whatever its test wants of it, for the ways in which no service should behave."""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from keystoneauth1.adapter import Adapter
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.transport import Transport

LONG_S = 30.0
TLS_HANDSHAKE = b"\x16"


class Wire:
    """One connection, as the server sees it."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self.stopping = stopping

    def read(self) -> Request | None:
        """The next request; None at the end of the connection."""
        if self._file.peek(1)[:1] == TLS_HANDSHAKE:
            return None
        line = self._file.readline().decode()
        if " " not in line:
            return None
        method, target, _ = line.split(" ", 2)
        headers: dict[str, str] = {}
        while (header := self._file.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Request(method, target, headers, self._file.read(int(headers.get("content-length", 0))))

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        names = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        self.write(f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body)

    def reset(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self._connection.close()


class Request:
    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


Behaviour = Callable[[Wire, Request], None]


class Server:
    """Answers every request as its behaviour does."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour: Behaviour = lambda wire, _request: wire.answer()
        self.requests: list[Request] = []
        self.connections = 0
        self.stopping = threading.Event()
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                server.connections += 1
                with suppress(OSError, ValueError):
                    wire = Wire(
                        tls.wrap_socket(self.request, server_side=True) if tls else self.request, server.stopping
                    )
                    while (request := wire.read()) is not None:
                        server.requests.append(request)
                        server.behaviour(wire, request)
                    wire.close()

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    def stop(self) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


def self_signed(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate that its own owner has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2999, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def transport_to(url: str, *, session: Session | None = None, **arguments: Any) -> Transport:
    adapter = Adapter(session or Session(), auth=NoAuth(), endpoint_override=url)
    return Transport(adapter, service="Ironic", version_path="/v1", **arguments)


@contextmanager
def failing(failure: Failure) -> Iterator[pytest.ExceptionInfo[RequestFailure]]:
    with pytest.raises(RequestFailure) as raised:
        yield raised
    assert raised.value.failure is failure, raised.value.reason
    assert raised.value.reason


def wait_until(fact: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(3000):
        if fact():
            return
        tick.wait(0.005)
    raise AssertionError("it never came true")
