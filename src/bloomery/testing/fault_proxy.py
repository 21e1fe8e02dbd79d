"""A proxy that records what is said to a service, and lets go wrong what it is told to.

It stands between Bloomery (or any other client) and a real or played Ironic, Neutron or Glance: give it the service's
address, and the client the proxy's. Everything is passed on as it comes, but for the requests that a `FaultRule` strikes.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import urllib3

from bloomery.testing.http_simulator import Fault, FaultKind, HttpSimulator, RecordedRequest, Response

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)
_UPSTREAM_TIMEOUT_S = 300.0
_BALANCERS = frozenset({502, 503, 504})
"""Statuses that a balancer gives, in HTML, when nobody behind it answers."""


class Lasting(StrEnum):
    """What begins with the request that a rule strikes, and outlasts it. A single request's faults are `Fault`'s."""

    LOCK = "lock"
    """Every request that would change something is answered 409, in Ironic's words, as if the node were locked."""
    TOKEN_EXPIRED = "token expired"  # noqa: S105  a kind of fault
    """Every request with the token of the struck one is answered 401. Without tokens, the struck one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """Which requests go wrong, and how.

    Attributes:
        fault: what goes wrong: with a request, or from it on.
        method: the HTTP method; None stands for any.
        path: a regular expression that is looked for in the decoded path.
        where: a further condition; None is none.
        nth: the first request that is struck, of those that match, from 1.
        times: how many of them are struck in a row; None stands for all that follow.
        lasts_s: how long a `Lasting` fault lasts; None stands for ever.
    """

    fault: Fault | Lasting
    method: str | None = None
    path: str = ""
    where: Callable[[RecordedRequest], bool] | None = None
    nth: int = 1
    times: int | None = 1
    lasts_s: float | None = None

    def matches(self, request: RecordedRequest) -> bool:
        """Whether the request is one of those that the rule is about."""
        return (
            self.method in (None, request.method)
            and re.search(self.path, request.path) is not None
            and (self.where is None or self.where(request))
        )


@dataclass(frozen=True, slots=True)
class Strike:
    """A rule has struck a request."""

    rule: FaultRule
    request: RecordedRequest


class _Armed:
    """A rule with what it has met so far."""

    def __init__(self, rule: FaultRule) -> None:
        self.rule = rule
        self.met = 0
        self.began_s: float | None = None
        self.token: str | None = None

    def strikes(self, request: RecordedRequest) -> bool:
        """Whether it is this request that the rule strikes; counts it."""
        if not self.rule.matches(request):
            return False
        self.met += 1
        since = self.met - self.rule.nth
        return since >= 0 and (self.rule.times is None or since < self.rule.times)

    def begin(self, request: RecordedRequest) -> None:
        """What lasts begins with this request."""
        if self.began_s is None:
            self.began_s = time.monotonic()
            self.token = request.headers.get("x-auth-token")

    def affects(self, request: RecordedRequest) -> bool:
        """Whether what has begun is still there, and stands in this request's way."""
        if self.began_s is None:
            return False
        lasts_s = self.rule.lasts_s
        if lasts_s is not None and time.monotonic() - self.began_s > lasts_s:
            return False
        if self.rule.fault is Lasting.LOCK:
            return request.is_write
        return self.token is not None and request.headers.get("x-auth-token") == self.token


class FaultProxy(HttpSimulator):
    """A reverse proxy on the loopback, with faults on demand.

    Use it as a context manager, or call `start` and `stop`. `url` is where clients are to go; `requests` records what came,
    with the status that was answered; `struck` which rule has struck which request. `on_request` is asked where no rule
    strikes.

    Args:
        upstream: the service's address, as a client would be given it.
        rules: what goes wrong. The first that strikes a request decides.
    """

    def __init__(self, upstream: str, *rules: FaultRule) -> None:
        super().__init__()
        split = urllib3.util.parse_url(upstream)
        self._prefix = (split.path or "").rstrip("/")
        # Kept-alive connections are opened as they are needed: at most one per connection of a client is in use.
        self._upstream = urllib3.connection_from_url(upstream, maxsize=16, block=False, timeout=_UPSTREAM_TIMEOUT_S)
        self._guard = threading.Lock()
        self._armed: list[_Armed] = []
        self.struck: list[Strike] = []
        self.arm(*rules)

    @property
    def rules(self) -> list[FaultRule]:
        """The rules that hold now."""
        return [armed.rule for armed in self._armed]

    def arm(self, *rules: FaultRule) -> None:
        """These rules hold, and no others; what former ones began is over, and their strikes are forgotten."""
        with self._guard:
            self._armed = [_Armed(rule) for rule in rules]
            self.struck = []

    def stop(self) -> None:
        """Nothing of the proxy is left: no thread, no socket."""
        super().stop()
        self._upstream.close()

    def fault_for(self, request: RecordedRequest) -> Fault | None:
        """What goes wrong with the request, by the rules or by `on_request`."""
        with self._guard:
            lasting: Fault | None = None
            for armed in self._armed:
                if armed.strikes(request):
                    self.struck.append(Strike(armed.rule, request))
                    if isinstance(armed.rule.fault, Fault):
                        return armed.rule.fault
                    armed.begin(request)
                    if armed.rule.fault is Lasting.TOKEN_EXPIRED:
                        return _EXPIRED
                if lasting is None and armed.affects(request):
                    lasting = _LOCKED if armed.rule.fault is Lasting.LOCK else _EXPIRED
        return lasting or super().fault_for(request)

    def answer(self, request: RecordedRequest) -> Response:
        """The service's answer, as it gave it; 502 if it gave none."""
        # `Host` is the proxy's: links in the answers then lead back here.
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        try:
            reply = self._upstream.urlopen(
                request.method,
                self._prefix + request.target,
                body=request.raw_body or None,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as problem:
            return self.error(502, f"the service behind the proxy does not answer: {problem}")
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP_BY_HOP}
        return Response(reply.status, reply.data, kept)

    def error(self, status: int, message: str) -> Response:
        """An error in Ironic's words, or in a balancer's."""
        if status in _BALANCERS:
            page = f"<html><body><h1>{status}</h1>{message}</body></html>"
            return Response(status, page.encode(), {"Content-Type": "text/html"})
        fault = {"faultcode": "Server" if status >= 500 else "Client", "faultstring": message, "debuginfo": None}
        return Response(status, {"error_message": json.dumps(fault)})


_LOCKED = Fault(
    FaultKind.STATUS,
    status=409,
    message="Node is locked by host conductor-1, please retry after the current operation is completed.",
)
_EXPIRED = Fault(FaultKind.STATUS, status=401, message="The request you have made requires authentication.")
