"""One request to one service: a bounded pool of connections, a deadline for the whole of it, and failures by kind."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import requests
import urllib3
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1.adapter import Adapter

from bloomery.plain import logger
from bloomery.rest.decoding import decoder
from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.gate import Gate
from bloomery.rest.timely import LEAST_TIMEOUT_S, latest_end, make_timely, whole_answers_by

log = logger(__name__)

T = TypeVar("T")

Query = Mapping[str, str | int | list[str]]
"""The query string's parameters."""

CONNECT_TIMEOUT_S = 10.0
_PIECE_BYTES = 1 << 16
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
REPLY_LIMIT_BYTES = 256 * 1024 * 1024
"""A reply larger than this is not what we asked for: a thousand nodes in full detail are some 20 MiB."""
REFUSAL_LIMIT_BYTES = 1024 * 1024
"""Of a refusal no more than this is read, for its words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered.

    Attributes:
        status: the HTTP status, 200 to 299.
        body: the body, whole.
        headers: the headers, names in lower case.
        request_id: the request's id in the service's logs.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    request_id: str | None

    def decode(self, kind: type[T]) -> T:
        """The body as a value of the given type.

        Raises:
            RequestFailure: GARBLED, if it is no such thing.
        """
        try:
            return decoder(kind).decode(self.body)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as problem:
            raise RequestFailure(
                Failure.GARBLED,
                f"the answer cannot be read ({problem})",
                status=self.status,
                request_id=self.request_id,
            ) from problem


class Transport:
    """Sends requests to one service.

    Safe to share between threads. At most `connections` requests are under way at once, and of those at most half may be
    long lists, so that a list of the fleet never keeps a power-off waiting.

    Args:
        adapter: a keystoneauth adapter, with its session, service type, region, interface and endpoint override.
        service: the service's name, for messages: "Ironic".
        version_path: the path under which its API lives, such as "/v1".
        headers: sent with every request.
        connections: how many requests may be under way at once.
        reply_limit_bytes: what no reply is larger than.

    Attributes:
        gate: before requests for which the service may have no room, one for all who use it.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        service: str,
        version_path: str,
        headers: Mapping[str, str] | None = None,
        connections: int = 6,
        reply_limit_bytes: int = REPLY_LIMIT_BYTES,
    ) -> None:
        self.adapter = adapter
        self.service = service
        self.version_path = version_path
        self.headers: dict[str, str] = dict(headers or {})
        self.reply_limit_bytes = reply_limit_bytes
        self._any = threading.BoundedSemaphore(connections)
        self._bulk = threading.BoundedSemaphore(max(1, connections // 2))
        self.gate = Gate()
        self._root: str | None = None
        for way in getattr(getattr(adapter.session, "session", None), "adapters", {}).values():
            make_timely(way)
        if not self.is_verified:
            log.warning("the certificate of %s is not checked: whoever answers gets what is sent", service)

    @property
    def is_verified(self) -> bool:
        """Whether the service has to prove who it is, where it is spoken to over TLS."""
        return getattr(self.adapter.session, "verify", True) is not False

    @property
    def root(self) -> str:
        """The service's address without the version path.

        Raises:
            RequestFailure: the catalogue has no such service, or the identity service cannot be asked.
        """
        if self._root is None:
            endpoint = self._authenticated(self.adapter.get_endpoint)
            if not endpoint:
                raise RequestFailure(Failure.ABSENT, f"the cloud has no endpoint for {self.service}")
            self._root = str(endpoint).rstrip("/").removesuffix(self.version_path).rstrip("/")
        return self._root

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
        bulk: bool = False,
    ) -> Reply:
        """Send one request and read its answer, within so many seconds after a connection for it was free.

        Within `whole_answers_by`, all of it is over by then, however long a connection had to be waited for.

        Args:
            method: the HTTP method.
            path: the path after the version path, from "/"; None of its parts comes unescaped from outside.
            body: what is sent as JSON.
            query: the query string's parameters.
            headers: in addition to those that every request has.
            timeout_s: for the whole of it, until the last byte of the answer; and as long at most for the connection.
            bulk: whether this is a long list.

        Raises:
            RequestFailure: it failed, or was answered with a status of 400 or more.
        """
        url = f"{self.root}{self.version_path}{path}"
        # A request that had to wait for others must not have less time for that: it would be broken off half done.
        free_by = min(time.monotonic() + timeout_s, latest_end())
        if bulk:
            with _place(self._bulk, free_by), _place(self._any, free_by):
                return self._send(method, url, body, query, headers, timeout_s)
        with _place(self._any, free_by):
            return self._send(method, url, body, query, headers, timeout_s)

    def _send(
        self,
        method: str,
        url: str,
        body: object,
        query: Query | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Reply:
        started = time.monotonic()
        ends_at = min(started + timeout_s, latest_end())
        timeout_s = max(ends_at - started, LEAST_TIMEOUT_S)
        with whole_answers_by(ends_at), _only_the_last_is_open() as answers:
            response = self._authenticated(
                self.adapter.session.request,
                url,
                method,
                json=body,
                params=query,
                headers={"Accept": "application/json", **self.headers, **(headers or {})},
                auth=self.adapter.auth,
                user_agent="bloomery",
                raise_exc=False,
                connect_retries=0,
                status_code_retries=0,
                redirect=False,
                # keystoneauth would write request bodies, and with them passwords and config drives, to its debug log.
                log=False,
                stream=True,
                hooks={"response": lambda answer, **_: answers.append(answer)},
                timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
            )
        with response:
            is_refused = response.status_code >= 300
            limit_bytes = REFUSAL_LIMIT_BYTES if is_refused else self.reply_limit_bytes
            content = _read(response, ends_at, limit_bytes, all_or_nothing=is_refused)
        log.debug(
            "%s %s -> %s in %.0f ms", method, response.url, response.status_code, (time.monotonic() - started) * 1e3
        )
        request_id = _request_id(response.headers)
        if is_refused:
            raise RequestFailure(
                _failure_of(response.status_code),
                words_of(content) or f"HTTP status {response.status_code}",
                status=response.status_code,
                request_id=request_id,
            )
        names = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, content, names, request_id)

    def _authenticated(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call keystoneauth, and say in our words what it could not do."""
        try:
            return call(*args, **kwargs)
        except ksa_exceptions.ConnectionError as problem:
            in_vain = any(isinstance(cause, _NO_ANSWER) for cause in _chain(problem))
            raise RequestFailure(_kind_of_break(problem), _innermost(problem), may_arrive_yet=in_vain) from problem
        except (ksa_exceptions.Unauthorized, ksa_exceptions.AuthorizationFailure) as problem:
            raise RequestFailure(
                Failure.UNAUTHORISED, f"the identity service refuses the credentials ({problem})"
            ) from problem
        except (ksa_exceptions.MissingAuthPlugin, ksa_exceptions.AuthPluginException) as problem:
            raise RequestFailure(Failure.UNAUTHORISED, f"no usable credentials ({problem})", status=401) from problem
        except (ksa_exceptions.CatalogException, ksa_exceptions.DiscoveryFailure) as problem:
            raise RequestFailure(
                Failure.ABSENT, f"the cloud has no endpoint for {self.service} ({problem})"
            ) from problem
        except ksa_exceptions.HttpError as problem:
            raise RequestFailure(
                _failure_of(problem.http_status or 500),
                f"the identity service answered: {problem}",
                status=problem.http_status,
            ) from problem
        except (
            ksa_exceptions.ClientException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as problem:
            raise RequestFailure(Failure.LOST, _innermost(problem)) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as `Transport.request` takes it."""

    method: str
    path: str
    body: object = field(default=None, repr=False)
    query: Query | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    timeout_s: float
    bulk: bool = False

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


class Detour(Transport):
    """Another transport, with something done to each of its requests: what, a subclass says in `passed`.

    The connections, their bounds, the address and the headers stay the other's.

    Args:
        real: the other.
    """

    def __init__(self, real: Transport) -> None:
        # Not the base's own: there are no connections of this one to be bounded, nor is there anything to warn of twice.
        self.real = real
        self.adapter = real.adapter
        self.service = real.service
        self.version_path = real.version_path
        self.headers = real.headers
        self.gate = real.gate

    @property
    def root(self) -> str:
        """As the other's."""
        return self.real.root

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
        bulk: bool = False,
    ) -> Reply:
        """As the other, with what is done on the way."""
        return self.passed(
            Request(method=method, path=path, body=body, query=query, headers=headers, timeout_s=timeout_s, bulk=bulk)
        )

    def passed(self, request: Request) -> Reply:
        """The answer to a request.

        Raises:
            RequestFailure: as `Transport.request`.
        """
        return self.sent(request)

    def sent(self, request: Request) -> Reply:
        """The other's answer to it.

        Raises:
            RequestFailure: as `Transport.request`.
        """
        return self.real.request(
            request.method,
            request.path,
            body=request.body,
            query=request.query,
            headers=request.headers,
            timeout_s=request.timeout_s,
            bulk=request.bulk,
        )


@contextmanager
def _place(places: threading.Semaphore, ends_at: float) -> Iterator[None]:
    """Within the block one of the places is ours."""
    if not places.acquire(timeout=max(0.0, ends_at - time.monotonic())):
        raise RequestFailure(Failure.UNSENT, "all connections were in use until the deadline")
    try:
        yield
    finally:
        places.release()


def _request_id(headers: Mapping[str, str]) -> str | None:
    """By what the request is found in the service's logs; not what could not be that."""
    found = headers.get("X-OpenStack-Request-Id") or headers.get("Openstack-Request-Id") or ""
    return found if _REQUEST_ID.fullmatch(found) else None


@contextmanager
def _only_the_last_is_open() -> Iterator[list[requests.Response]]:
    """Of the answers that came within the block, the last is open, or none if the block fails.

    keystoneauth sends a request again when its token was refused, and forgets the refusal, whose connection would stay
    open until it is collected as garbage.
    """
    answers: list[requests.Response] = []
    try:
        yield answers
    except BaseException:
        for answer in answers:
            answer.close()
        raise
    for answer in answers[:-1]:
        answer.close()


def _read(response: requests.Response, ends_at: float, limit_bytes: int, *, all_or_nothing: bool = False) -> bytes:
    """The body, if it comes whole, in time, and in bounds; or, where that will do, none."""
    parts: list[bytes] = []
    size = 0
    try:
        for part in _pieces(response):
            parts.append(part)
            size += len(part)
            if size > limit_bytes and all_or_nothing:
                return b""
            if size > limit_bytes:
                raise RequestFailure(Failure.GARBLED, f"the answer is larger than {limit_bytes} bytes")
            if time.monotonic() > ends_at:
                raise RequestFailure(Failure.LOST, "the answer did not come whole in time")
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as problem:
        if time.monotonic() > ends_at:
            raise RequestFailure(Failure.LOST, "the answer did not come whole in time") from problem
        raise RequestFailure(Failure.GARBLED, f"the answer broke off ({_innermost(problem)})") from problem
    return b"".join(parts)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes: `iter_content` would wait until a piece is full, for ever where a byte comes now and then."""
    read1 = getattr(response.raw, "read1", None)  # not in urllib3 1
    if read1 is None:
        return iter(response.iter_content(_PIECE_BYTES))
    return iter(lambda: read1(_PIECE_BYTES, decode_content=True), b"")


def _failure_of(status: int) -> Failure:
    named = {
        401: Failure.UNAUTHORISED,
        403: Failure.FORBIDDEN,
        404: Failure.MISSING,
        406: Failure.UNACCEPTABLE,
        409: Failure.CONFLICT,
        429: Failure.OVERLOADED,
        503: Failure.OVERLOADED,
    }
    if status in named:
        return named[status]
    if status < 400:
        return Failure.GARBLED  # a redirect: services that we speak to do not send any
    return Failure.BROKEN if status >= 500 else Failure.REJECTED


def _kind_of_break(problem: BaseException) -> Failure:
    """Whether a connection broke before the request was sent, told by the types in the chain of causes."""
    chain = _chain(problem)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return Failure.UNTRUSTED
    before = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        requests.exceptions.ConnectTimeout,
        ConnectionRefusedError,
    )
    # Failures of TLS that are not about the certificate may come after the request, too.
    return Failure.UNREACHED if any(isinstance(cause, before) for cause in chain) else Failure.LOST


_NO_ANSWER = (urllib3.exceptions.ReadTimeoutError, requests.exceptions.ReadTimeout)


def _chain(problem: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in chain:
            chain.append(cause)
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return chain


def _innermost(problem: BaseException) -> str:
    """What the operating system said, without the wrapping of three libraries."""
    for cause in reversed(_chain(problem)):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return str(_chain(problem)[-1]) or type(problem).__name__


def words_of(content: bytes) -> str:
    """The message in an error's body, as Ironic and Neutron wrap it; of other bodies the first line."""
    try:
        decoded = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    for _ in range(4):
        if isinstance(decoded, dict):
            keys = ("error_message", "faultstring", "NeutronError", "message", "error", "detail", "title")
            decoded = next((decoded[key] for key in keys if decoded.get(key)), "")
        elif isinstance(decoded, str) and decoded.startswith("{"):
            try:
                decoded = json.loads(decoded)
            except (ValueError, RecursionError):
                break
        else:
            break
    return decoded.strip() if isinstance(decoded, str) else ""
