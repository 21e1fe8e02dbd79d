"""What the routes share: their caller, the age of what they show, pages, fields, and ETags."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import Depends, Header, Query, Request
from starlette.responses import Response
from starlette.types import Scope

from bloomery.doors.http.access import Principal, Role
from bloomery.doors.http.context import principal_of
from bloomery.doors.http.following import View, after
from bloomery.doors.http.problems import Problem, Refusal
from bloomery.doors.http.service import Service
from bloomery.errors import InvalidRequest

MOST = 1000
USUAL = 100
MEDIA_TYPE = "application/json"


def service_of(request: Request) -> Service:
    """The service behind the routes."""
    service: Service = request.app.state.service
    return service


# Dependencies are coroutines: FastAPI would run each in a thread of its own otherwise, which costs more than what they do.


async def _the_service(request: Request) -> Service:
    return service_of(request)


def _caller(least: Role) -> Callable[[Request], Awaitable[Principal]]:
    async def caller(request: Request) -> Principal:
        return _at_least(least, request)

    return caller


def _at_least(least: Role, request: Request) -> Principal:
    principal = principal_of(request)
    if principal is None:
        raise AssertionError("the edge lets nobody in unseen")
    if principal.role < least:
        raise Refusal(
            403,
            "Forbidden",
            f"{principal.name} is {principal.role.word} here, and this is for {least.word}s",
            advice="Ask an administrator of the service for that role",
        )
    return principal


async def _overall(request: Request) -> Principal:
    principal = _at_least(Role.ADMIN, request)
    if not principal.sees_all:
        raise Refusal(403, "Forbidden", "this is for administrators of the whole service")
    return principal


TheService = Annotated[Service, Depends(_the_service)]
Reader = Annotated[Principal, Depends(_caller(Role.READER))]
Member = Annotated[Principal, Depends(_caller(Role.MEMBER))]
Admin = Annotated[Principal, Depends(_overall)]
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many of them at most.")]
Marker = Annotated[
    str | None, Query(max_length=2000, description="Where the page begins: from the `next` of the one before.")
]
Fields = Annotated[
    str | None,
    Query(max_length=2000, description="Which fields are wanted, with commas between them; all if not given."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the caller; the same request with the same key is carried out once, and answered alike.",
    ),
]
IfMatch = Annotated[
    str | None, Header(max_length=200, description="An ETag; the request is refused if the instance has changed since.")
]

BELIEVED_S = 60.0
"""So long somebody who stays, on a console or the event stream, is taken for who he was."""


async def still_known(scope: Scope) -> Principal | None:
    """Who shows now what the request showed; None: nobody who may use this service any more.

    While that cannot be told, because Keystone is away, he is who he was.
    """
    known: Callable[[], Awaitable[Principal]] = scope["state"]["known"]
    try:
        return await known()
    except Refusal as refusal:
        was: Principal = scope["state"]["principal"]
        return None if refusal.status in (401, 403) else was


_PROBLEM = {
    "model": Problem,
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_WORDS = {
    400: "The request cannot be read.",
    401: "The caller is not known.",
    403: "The caller may not do this.",
    404: "What was named is not there, or not the caller's to see.",
    409: "Somebody or something else is in the way.",
    412: "It has changed since.",
    413: "The request is too large.",
    415: "The body is not JSON.",
    421: "This service is not called so.",
    422: "The request has to change.",
    426: "It is a WebSocket.",
    429: "Too many requests.",
    500: "The service has a bug, or what was begun could not be undone.",
    502: "Ironic or Neutron answered what they should not.",
    503: "Ironic, Neutron or the log cannot be used now.",
    504: "The time was over.",
}
_ALWAYS = (400, 401, 403, 413, 421, 422, 429, 500, 502, 503, 504)


def answers(*more: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for the document."""
    return {status: {**_PROBLEM, "description": _WORDS[status]} for status in sorted({*_ALWAYS, *more})}


_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It has not changed since."}}
READS = {**answers(404), **_NOT_MODIFIED}
READS_NODE = {**answers(404, 409), **_NOT_MODIFIED}
WRITES = answers(404, 409, 412, 415)


def answer(
    request: Request,
    value: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    is_view: bool = False,
) -> Response:
    """The value as JSON, with its ETag; nothing but 304 to whoever has it already.

    Args:
        request: which is answered.
        value: what is said.
        status: the HTTP status.
        headers: more of them.
        is_view: whether it is of the fleet as it was seen last, whose age is told then.
    """
    content = msgspec.json.encode(value)
    more = dict(headers or {})
    if is_view:
        more |= _age(request)
    if request.method == "GET" and status == 200:
        return _tagged(request, content, etag_of(content), more)
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=more)


def answer_of_view(
    request: Request, caller: Principal, say: Callable[[View], Any], *, besides: Hashable = None
) -> Response:
    """What is to be said of the fleet as it was seen last, as JSON with its ETag and age.

    It is worked out once for all who ask the same and may see the same, until the fleet has changed. For routes in the event
    loop only.

    Args:
        request: which is answered; its path and query say what is asked.
        caller: who asks.
        say: what is said of the view, for this caller.
        besides: on what else that depends.
    """
    view = service_of(request).following.seen()

    def make() -> tuple[bytes, str]:
        content = msgspec.json.encode(say(view))
        return content, etag_of(content)

    key = (request.url.path, request.scope["query_string"], caller.project_id, besides)
    content, etag = view.pages.get(key, make)
    return _tagged(request, content, etag, _age(request))


def _age(request: Request) -> dict[str, str]:
    stale_s = service_of(request).following.stale_s
    return {"Age": str(round(stale_s)), "Bloomery-Stale": f"{stale_s:.0f}"} if stale_s is not None else {}


def _tagged(request: Request, content: bytes, etag: str, headers: Mapping[str, str]) -> Response:
    more = {**headers, "ETag": etag, "Cache-Control": "no-cache"}
    if etag in _listed(request.headers.get("if-none-match")):
        return Response(status_code=304, headers=more)
    return Response(content, media_type=MEDIA_TYPE, headers=more)


def etag_of(content: bytes) -> str:
    """The ETag of that content."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def _listed(header: str | None) -> set[str]:
    return {part.strip().removeprefix("W/") for part in (header or "").split(",")}


def check_if_match(header: str | None, shown: Any) -> None:
    """What the caller has seen is what there is.

    Raises:
        Refusal: it has changed since.
    """
    if header is None or header.strip() == "*":
        return
    now = etag_of(msgspec.json.encode(shown))
    if now not in _listed(header):
        raise Refusal(
            412,
            "Changed",
            "the instance has changed since it was read",
            advice="Read it again, and ask with its new ETag if that is still wanted",
        )


# Fields and pages


def chosen(rows: Iterable[dict[str, Any]], fields: str | None, known: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, with the wanted fields only.

    Raises:
        InvalidRequest: a field is not known.
    """
    if fields is None:
        return list(rows)
    wanted = [name.strip() for name in fields.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(known))
    if unknown or not wanted:
        raise InvalidRequest(
            f"there is no field {', '.join(map(repr, unknown)) or 'named'}", advice=f"There are {', '.join(known)}"
        )
    return [{name: row[name] for name in wanted} for row in rows]


def page_of(
    ordered: Sequence[Any], key: Callable[[Any], tuple[str, str]], marker: str | None, limit: int
) -> tuple[Sequence[Any], str | None]:
    """The page after the marker, and the marker of the next one.

    Raises:
        InvalidRequest: the marker is none of ours.
    """
    begin = after(ordered, key, _position(marker)) if marker is not None else 0
    page = ordered[begin : begin + limit]
    is_last = begin + limit >= len(ordered)
    return page, None if is_last or not page else _marker(key(page[-1]))


def _marker(position: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _position(marker: str) -> tuple[str, str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(marker.encode("ascii") + b"=" * (-len(marker) % 4)))
        if isinstance(found, list) and len(found) == 2 and all(isinstance(part, str) for part in found):
            return found[0], found[1]
    except (ValueError, binascii.Error, UnicodeEncodeError, RecursionError):
        pass
    raise InvalidRequest(f"{marker!r} is no marker", advice="Take it from the `next` of the page before")


def number_in(marker: str | None) -> int | None:
    """The row number that a marker of a list of rows is; 0 stands before the first of them.

    Raises:
        InvalidRequest: it is none.
    """
    if marker is None:
        return None
    if not (marker.isascii() and marker.isdecimal() and 0 <= int(marker[:19]) < 2**63 and len(marker) < 20):
        raise InvalidRequest(f"{marker!r} is no marker", advice="Take it from the `next` of the page before")
    return int(marker)


def next_page(request: Request, marker: str | int | None) -> str | None:
    """Where the next page is: the same request with that marker."""
    if marker is None:
        return None
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "marker"]
    return f"{request.url.path}?{urlencode([*given, ('marker', str(marker))])}"


def fingerprint_of(request: Request, caller: Principal) -> bytes:
    """What the request asks for, and for whom, so that another one under its idempotency key can be told from it."""
    body = request.scope["state"]["body"]
    asked = f"{request.method} {request.url.path}?{request.url.query}\n{caller.project_id or ''}\n"
    return asked.encode() + bytes(body.digest)


Order = Literal["oldest", "newest"]
