"""What everything that is done for one request can ask: its id, and who sent it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from starlette.requests import Request

from bloomery.doors.http.access import Principal

_request_id: ContextVar[str | None] = ContextVar("bloomery_request_id", default=None)

_GIVEN = re.compile(r"req-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_request_id(given: str | None) -> str:
    """The id that the caller gave, if it is of OpenStack's form; else a new one."""
    return given if given is not None and _GIVEN.fullmatch(given) else f"req-{uuid4()}"


def request_id_now() -> str | None:
    """The id of the request on whose behalf this is called."""
    return _request_id.get()


@contextmanager
def on_behalf_of(request_id: str | None) -> Iterator[None]:
    """Within the block, everything is done for that request: Ironic's log shows its id, too."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def principal_of(request: Request) -> Principal | None:
    """Who sent the request; None before that is known."""
    found = request.scope.get("state", {}).get("principal")
    return found if isinstance(found, Principal) else None
