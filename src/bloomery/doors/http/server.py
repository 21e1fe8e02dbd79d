"""The server under the app: it listens, tells where, and ends in order when it is told to."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from bloomery.doors.http.app import create_app
from bloomery.doors.http.console_routes import MESSAGE_LIMIT_BYTES
from bloomery.doors.http.service import Service
from bloomery.doors.http.settings import Settings
from bloomery.doors.http.upstream import Connect
from bloomery.errors import InvalidRequest
from bloomery.plain import logger

log = logger(__name__)

END_TIMEOUT_S = 5
"""How long requests under way have to end."""


class Server(uvicorn.Server):
    """Uvicorn's, which lets those go who listen to the event stream before it waits for everybody to have gone.

    Args:
        config: uvicorn's.
        service: the service behind it.
        on_ready: is told the address when it can be used.
    """

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self.service = service
        self.on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """It listens, and has said where."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self.on_ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """It has ended."""
        self.service.end_streams()
        await super().shutdown(sockets=sockets)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in str(host) else host
        return f"{self.service.settings.scheme}://{shown}:{port}"


def server_for(connect: Connect, settings: Settings, on_ready: Callable[[str], None] = lambda _url: None) -> Server:
    """A server, ready to run, for the service of these settings.

    Args:
        connect: makes the connection to the cloud.
        settings: what the service is told.
        on_ready: is told the address when it can be used.

    Raises:
        InvalidRequest: it cannot be had with them.
        BloomeryError: the cloud cannot be had, and waiting for it would not help.
    """
    service = Service(connect, settings)
    options: dict[str, Any] = {}
    if settings.tls_certificate is not None:
        options = {"ssl_certfile": str(settings.tls_certificate), "ssl_keyfile": str(settings.tls_key)}
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="auto",
        ws_max_size=MESSAGE_LIMIT_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=END_TIMEOUT_S,
        h11_max_incomplete_event_size=64 * 1024,
        **options,
    )
    return Server(config, service, on_ready)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, what uvicorn has ended for does not end the process a second time: it sends itself the signal again."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(connect: Connect, settings: Settings, on_ready: Callable[[str], None]) -> None:
    """The service has run until it was told to end.

    Args:
        connect: makes the connection to the cloud.
        settings: what the service is told.
        on_ready: is told the address when it can be used.

    Raises:
        InvalidRequest: it cannot listen there, or its files are of no use.
        BloomeryError: the cloud cannot be had, and waiting for it would not help.
    """

    def ready(url: str) -> None:
        # Whatever there is now is there to stay. A look at all of it for garbage, which the interpreter takes now and then,
        # would keep everybody waiting for a fifth of a second with ten thousand nodes.
        gc.collect()
        gc.freeze()
        on_ready(url)

    server = server_for(connect, settings, ready)
    try:
        with _ended_by_signals():
            server.run()
    except SystemExit as ended:
        raise InvalidRequest(
            f"{settings.host}:{settings.port} cannot be listened on",
            reason="another process has it, or it is no address of this machine; the log has more",
            advice="Give another --port or --host",
        ) from ended
    if not server.started:
        raise InvalidRequest("the service did not start", reason="the log says why")
