"""The edge of the service: every request passes here first, whatever route it takes, and every answer last.

Here a request gets its id and its caller, and is turned away if it is too large, too frequent, or from a page of somebody else's.
There are no cookies, and what changes something is JSON: a page of another site can make a browser send neither unasked.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bloomery.doors.http.access import NOBODY, Principal
from bloomery.doors.http.context import new_request_id, on_behalf_of
from bloomery.doors.http.identity import Anybody
from bloomery.doors.http.problems import MEDIA_TYPE, Refusal, StoreUnavailable, of_a_bug, shown_refusal
from bloomery.doors.http.service import Service
from bloomery.doors.http.settings import Auth, is_loopback
from bloomery.plain import logger

log = logger(__name__)
audit_log = logger("bloomery.audit")

SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE", "WEBSOCKET")
LONGEST_METHOD = 16
GUARDED = ("/v1", "/metrics")
"""Where nobody gets without saying who he is. The rest is the page, which holds nothing, and the two health checks."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
CREDENTIALS = ("authorization", "x-auth-token")
CREDENTIAL_PREFIX = "bloomery.credential."
STRICT_TRANSPORT = "max-age=31536000"


class Edge:
    """The middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service
        self.settings = service.settings
        self.rates = Rates(self.settings.rate_per_s, self.settings.burst)
        self._checking = CapacityLimiter(16)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its first byte to its answer's last."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = new_request_id(headers.get("x-openstack-request-id"))
        state = scope.setdefault("state", {})
        answered = _Answered(send, request_id, is_encrypted=self.settings.scheme == "https")
        started = time.monotonic()
        state["address"] = self._address_of(scope, headers)

        async def known() -> Principal:
            return await self._known(state["address"], headers)

        state["known"] = known
        with on_behalf_of(request_id):
            try:
                self._turn_away(scope, headers)
                state["principal"] = await self._principal(scope, headers)
                body = _Body(receive, self.settings.body_limit_bytes)
                state["body"] = body
                await self.app(scope, body, answered)
            except Refusal as refusal:
                await answered.refuse(refusal)
            except Exception:
                # The last frame before the server: its caller gets an id, under which the log has the rest.
                log.exception("%s %s met a bug", scope["method"], scope["path"])
                await answered.problem(of_a_bug())
            finally:
                await self._note(scope, answered, request_id, time.monotonic() - started)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, from its handshake to its end.

        What holds for requests that change something holds for its handshake: browsers let any page begin one.
        """
        headers = Headers(scope=scope)
        request_id = new_request_id(headers.get("x-openstack-request-id"))
        state = scope.setdefault("state", {})
        scope["method"] = "WEBSOCKET"
        answered = _Handshake(send, request_id)
        started = time.monotonic()
        shown = with_credential(headers, scope.get("subprotocols", ()))
        state["address"] = self._address_of(scope, headers)

        async def known() -> Principal:
            return await self._known(state["address"], shown)

        with on_behalf_of(request_id):
            try:
                self._check_rate(scope)
                self._check_host(headers)
                _check_address(scope)
                self._check_origin(headers)
                if not scope["path"].startswith(GUARDED):
                    raise Refusal(404, "NotFound", "there is no WebSocket at this path")
                state["principal"] = await self._principal(scope, shown)
                state["known"] = known
                await self._note(scope, answered, request_id, time.monotonic() - started)
                await self.app(scope, receive, answered)
            except Refusal as refusal:
                await answered.refuse(refusal)
                await self._note(scope, answered, request_id, time.monotonic() - started)
            except Exception:
                # The last frame before the server, as with requests.
                log.exception("the WebSocket %s met a bug", scope["path"])
                await answered.fail()

    def _address_of(self, scope: Scope, headers: Headers) -> str:
        client = scope.get("client")
        connected = str(client[0]) if client else "unknown"
        return origin_of(connected, headers.getlist("x-forwarded-for"), self.settings.proxies)

    def _turn_away(self, scope: Scope, headers: Headers) -> None:
        """Raise for what is refused whoever asks."""
        self._check_rate(scope)
        self._check_host(headers)
        _check_address(scope)
        if scope["method"] not in SAFE:
            self._check_origin(headers)
            has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            if has_body and media_type != "application/json":
                raise Refusal(
                    415,
                    "UnsupportedMediaType",
                    f"the body is {media_type or 'of no type'}",
                    advice="Send JSON, as application/json",
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.settings.body_limit_bytes:
            raise _too_large(self.settings.body_limit_bytes)

    def _check_rate(self, scope: Scope) -> None:
        """So many requests come from one address, whoever it turns out to be: each may cost a password's check."""
        if self._is_guarded(scope) and not isinstance(self.service.identity, Anybody):
            self.rates.check(f"address {scope['state']['address']}")

    def _is_guarded(self, scope: Scope) -> bool:
        is_open = scope["path"] == "/metrics" and self.settings.open_metrics
        return scope["path"].startswith(GUARDED) and not is_open

    def _check_host(self, headers: Headers) -> None:
        if self.settings.auth is Auth.NONE:
            # A name that leads here, given by somebody else's DNS, would let his page in.
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(host) and host not in self.settings.hosts:
                raise Refusal(
                    421,
                    "WrongHost",
                    f"this service is not called {host!r}",
                    advice="Use 127.0.0.1 or localhost, or --name",
                )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:
            is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        else:
            parts = urlsplit(origin)
            is_foreign = parts.netloc != headers.get("host") and (parts.hostname or "") not in self.settings.hosts
        if is_foreign:
            raise Refusal(
                403,
                "ForeignOrigin",
                f"the request comes from a page of {origin or 'another site'}",
                advice="Only this service's own page may ask in a browser",
            )

    async def _principal(self, scope: Scope, headers: Mapping[str, str]) -> Principal | None:
        if not self._is_guarded(scope):
            return None
        address = scope["state"]["address"]
        found = await self._known(address, headers)
        self.rates.check(f"caller {found.user_id or found.name} {address if found is NOBODY else ''}")
        return found

    async def _known(self, address: str, headers: Mapping[str, str]) -> Principal:
        """Who shows these headers.

        Raises:
            Refusal: nobody who may use this service.
        """
        identity = self.service.identity
        if isinstance(identity, Anybody):
            return NOBODY
        known = {name: value for name, value in headers.items() if name in CREDENTIALS}
        return await to_thread.run_sync(identity.principal, known, address, limiter=self._checking)

    async def _note(self, scope: Scope, answered: _Answered | _Handshake, request_id: str, took_s: float) -> None:
        """The call is counted, logged, and in the audit."""
        route = getattr(scope.get("route"), "path", "none")
        status = answered.status or 0
        # Anything may be called a method, and each label is a number that is kept.
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.service.metrics.request(method, route, status, took_s)
        principal = scope.get("state", {}).get("principal")
        call = {
            "actor": principal.name if principal is not None else "unknown",
            "project_id": principal.project_id if principal is not None else None,
            "address": scope["state"]["address"],
            "method": scope["method"][:LONGEST_METHOD],
            "path": scope["path"][:2000].replace("\0", "\ufffd"),
            "status": status,
            "request_id": request_id,
            "took_s": round(took_s, 4),
        }
        audit_log.info("%(method)s %(path)s %(status)s", call, extra={"call": call})
        if not scope["path"].startswith(GUARDED):
            return
        if scope["method"] in SAFE and status not in (401, 403, 429):
            self.service.audit.read(call)
            return
        try:
            await to_thread.run_sync(self.service.audit.change, call)
        except StoreUnavailable as problem:
            log.warning("a call is in no audit but this: %s (%s)", call, problem)


def with_credential(headers: Headers, subprotocols: Iterable[str]) -> dict[str, str]:
    """The headers, and the one that stands among the subprotocols, where a browser has to put it."""
    found = dict(headers.items())
    for word in subprotocols:
        if not word.startswith(CREDENTIAL_PREFIX):
            continue
        encoded = word.removeprefix(CREDENTIAL_PREFIX)
        with contextlib.suppress(ValueError):
            decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            name, colon, value = decoded.partition(":")
            if colon and name.lower() in CREDENTIALS:
                found[name.lower()] = value.strip()
    return found


def _check_address(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise Refusal(400, "InvalidRequest", "there is a zero character in the address", advice="Leave it out")


def origin_of(client: str, forwarded_for: Iterable[str], proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """The address that a request comes from: what the nearest proxy of ours says that is none itself.

    Args:
        client: who has connected.
        forwarded_for: the values of `X-Forwarded-For`; whatever stands there before the last word of a proxy of ours, anybody
            may have written.
        proxies: where proxies of ours are.
    """
    words = [word.strip() for value in forwarded_for for word in value.split(",")]
    found = client
    while _is_in(found, proxies) and words:
        try:
            found = str(ip_address(words.pop()))
        except ValueError:
            break
    return found


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        at = ip_address(address)
    except ValueError:
        return False
    return any(at.version == network.version and at in network for network in networks)


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(413, "TooLarge", f"the request is larger than {limit_bytes} bytes", advice="Send less")


class _Body:
    """What is received, up to the limit; and a digest of it."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._size = 0
        self._hash = hashlib.sha256()

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            part = message.get("body", b"")
            self._size += len(part)
            self._hash.update(part)
            if self._size > self._limit_bytes:
                raise HTTPException(413, f"the request is larger than {self._limit_bytes} bytes")
        return message

    @property
    def digest(self) -> bytes:
        """The digest of all that came."""
        return self._hash.digest()


class _Answered:
    """What is sent, with the headers that every answer has."""

    def __init__(self, send: Send, request_id: str, *, is_encrypted: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._is_encrypted = is_encrypted
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._is_encrypted:
                headers["Strict-Transport-Security"] = STRICT_TRANSPORT
            headers.setdefault("Cache-Control", "no-store")
            headers["X-OpenStack-Request-ID"] = self._request_id
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """The refusal is the answer."""
        await self.problem(shown_refusal(refusal, None), **refusal.headers)

    async def problem(self, problem: dict[str, Any], **headers: str) -> None:
        """The problem is the answer, if there is none yet."""
        if self.status is not None:
            return
        content = json.dumps(problem).encode()
        lines = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(content)), **headers}
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self({"type": "http.response.start", "status": problem["status"], "headers": encoded})
        await self({"type": "http.response.body", "body": content})


class _Handshake:
    """What is sent on a WebSocket; whoever is refused is told as by any other answer.

    Its status is the handshake's, which succeeds unless somebody says otherwise.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 101

    async def __call__(self, message: Message) -> None:
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """There is no WebSocket; the refusal is the answer."""
        self.status = refusal.status
        content = json.dumps(shown_refusal(refusal, None)).encode()
        lines = {
            **HEADERS,
            **refusal.headers,
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(content)),
            "X-OpenStack-Request-ID": self._request_id,
        }
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self({"type": "websocket.http.response.start", "status": refusal.status, "headers": encoded})
        await self({"type": "websocket.http.response.body", "body": content})

    async def fail(self) -> None:
        """It is closed, for a reason that only the log has."""
        self.status = 500
        with contextlib.suppress(RuntimeError):
            await self._send({"type": "websocket.close", "code": 1011})


class Rates:
    """So many requests for each caller: a bucket that fills steadily and is emptied by one each.

    Args:
        per_s: how fast it fills.
        burst: how much it holds.
    """

    KEPT = 10_000
    """So many callers are remembered; whoever was quiet for longest is forgotten, and starts with a full bucket."""

    def __init__(self, per_s: float, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.per_s = per_s
        self.burst = burst
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def check(self, caller: str) -> None:
        """One more request is the caller's.

        Raises:
            Refusal: he has had too many.
        """
        now = self._now()
        with self._lock:
            left, at = self._buckets.pop(caller, (float(self.burst), now))
            left = min(self.burst, left + (now - at) * self.per_s)
            self._buckets[caller] = (left - 1 if left >= 1 else left, now)
            if len(self._buckets) > self.KEPT:
                del self._buckets[next(iter(self._buckets))]
        if left < 1:
            wait_s = max(1, round((1 - left) / self.per_s))
            raise Refusal(
                429,
                "TooManyRequests",
                f"more than {self.per_s:g} requests a second came from this caller",
                advice=f"Wait {wait_s} s; the event stream tells of changes without asking",
                headers={"Retry-After": str(wait_s)},
            )
