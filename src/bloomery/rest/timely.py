"""Answers that come whole in time, or not at all: status line, headers and body together.

A socket's own timeout is for each byte anew, so that a server which sends one now and then holds its client for ever.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

LEAST_TIMEOUT_S = 0.05
"""What a request may take at least: none at all would be an error of another kind."""

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


@contextmanager
def whole_answers_by(ends_at: float) -> Iterator[None]:
    """Within the block every answer has to come whole until then, by the monotonic clock, on the connections made timely."""
    before = _ends_at.set(ends_at)
    try:
        yield
    finally:
        _ends_at.reset(before)


def make_timely(adapter: object) -> None:
    """The connections of this adapter of requests keep to `whole_answers_by`; outside of it they are as they were.

    Those through a proxy are left as they are: the proxy's own limits hold there.
    """
    if isinstance(adapter, HTTPAdapter) and type(adapter.poolmanager) is urllib3.PoolManager:
        pools = adapter.poolmanager.pool_classes_by_scheme
        if pools["http"] is HTTPConnectionPool and pools["https"] is HTTPSConnectionPool:
            adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
            adapter.poolmanager.clear()


def latest_end() -> float:
    """When every answer has to have come whole, by the monotonic clock; never, outside of `whole_answers_by`."""
    ends_at = _ends_at.get()
    return math.inf if ends_at is None else ends_at


class _Source(io.RawIOBase):
    """What a socket gives until a moment; after that, a timeout."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, ends_at: float) -> None:
        self._raw = raw
        self._sock = sock
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer did not come whole in time")
        self._sock.settimeout(left_s)
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        ends_at = _ends_at.get()
        if ends_at is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Source(raw, sock, ends_at))


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
