"""Graphical consoles: what Ironic's own proxy of them says and takes, passed on under this service's rights and its address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from bloomery.doors.http.problems import Refusal

KINDS = ("vnc",)
OPEN_TIMEOUT_S = 15.0
MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
"""A full picture comes in pieces, but not necessarily small ones."""


def stream_of(url: str) -> str:
    """The WebSocket behind the page on which Ironic shows a graphical console.

    Its address is that of noVNC's page, which finds the WebSocket by its parameter `path`.

    Raises:
        Refusal: it is no such address.
    """
    try:
        parts = urlsplit(url)
        (path,) = parse_qs(parts.query, strict_parsing=True)["path"]
    except (KeyError, ValueError):
        path, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not path:
        raise Refusal(409, "NoScreen", "Ironic does not say where this console can be seen")
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/{path.lstrip('/')}"


async def relay(socket: WebSocket, url: str, *ends: Callable[[], Coroutine[Any, Any, None]]) -> str:
    """What both sides sent has been passed on, until one of them left or broke off, or one of the ends has come.

    Returns:
        Why it is over.

    Raises:
        Refusal: the console cannot be reached.
    """
    try:
        upstream = await connect(
            stream_of(url),
            subprotocols=[Subprotocol("binary")],
            open_timeout=OPEN_TIMEOUT_S,
            max_size=MESSAGE_LIMIT_BYTES,
            proxy=None,
        )
    except (OSError, TimeoutError, WebSocketException) as problem:
        raise Refusal(502, "NoScreen", f"the graphical console cannot be reached ({type(problem).__name__})") from None
    async with upstream:
        tasks = [asyncio.create_task(work) for work in (_down(upstream, socket), _up(socket, upstream))]
        tasks += [asyncio.create_task(end()) for end in ends]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ConnectionClosed:
            return "the console was interrupted"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return "the console has ended"


async def _down(upstream: ClientConnection, socket: WebSocket) -> None:
    async for message in upstream:
        await socket.send_bytes(message if isinstance(message, bytes) else message.encode())


async def _up(socket: WebSocket, upstream: ClientConnection) -> None:
    # review: it ends with the browser's side, or is cancelled when the other side ends
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if said := message.get("bytes"):
            await upstream.send(said)
