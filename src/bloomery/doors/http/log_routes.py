"""What the log has: operations, events and their stream, the audit, webhooks and their deliveries."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from bloomery.doors.http import answers
from bloomery.doors.http import schemas as s
from bloomery.doors.http.access import Principal
from bloomery.doors.http.answers import (
    READS,
    USUAL,
    Admin,
    Fields,
    IdempotencyKey,
    Limit,
    Marker,
    Member,
    Order,
    Reader,
    TheService,
    answer,
    chosen,
    fingerprint_of,
    next_page,
    number_in,
)
from bloomery.doors.http.feed import Listener
from bloomery.doors.http.hooks import check_url
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.service import Service
from bloomery.doors.http.store import Row
from bloomery.doors.http.views import call_row, delivery_row, event_row, operation_row, webhook_row
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

router = APIRouter(prefix="/v1")

_FIELDS = tuple(s.OperationRow.model_fields)
_OF_EVENT, _OF_CALL = tuple(s.EventRow.model_fields), tuple(s.CallRow.model_fields)
_OF_DELIVERY = tuple(s.DeliveryRow.model_fields)
Id = Annotated[str, s.Field(min_length=1, max_length=64)]
Kinds = Annotated[
    list[str] | None, Query(max_length=64, description="Only events of these kinds; `node.*` is all that begin so.")
]


# Operations


@router.get("/operations", response_model=s.OperationList, responses=READS, tags=["operations"])
def list_operations(
    request: Request,
    service: TheService,
    caller: Reader,
    state: Annotated[list[s.OperationState] | None, Query(description="Only those that stand so.")] = None,
    kind: Annotated[str | None, Query(max_length=64, description="Only those of this kind.")] = None,
    instance: Annotated[
        str | None, Query(max_length=255, description="Only those on this instance: UUID or name.")
    ] = None,
    node: Annotated[str | None, Query(max_length=255, description="Only those on this node: UUID or name.")] = None,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """List the operations, the newest first."""
    found = service.store.operations(
        before=number_in(marker),
        limit=limit + 1,
        states=[one.value for one in state or ()],
        kind=kind,
        instance=instance,
        node=node,
        project_id=caller.project_id,
    )
    rows = chosen((operation_row(service.workers.live(row), caller) for row in found[:limit]), fields, _FIELDS)
    return answer(request, {"operations": rows, "next": _next(request, found, limit)})


def _next(request: Request, found: Sequence[Row], limit: int) -> str | None:
    return next_page(request, found[limit - 1]["number"]) if len(found) > limit else None


def find(service: Service, caller: Principal, operation_id: str) -> Row:
    """The operation, if it is the caller's to see.

    Raises:
        Refusal: there is none.
    """
    row = service.store.operation(operation_id)
    if row is None or not (caller.sees_all or caller.project_id in (row["project_id"], row["owner"], row["lessee"])):
        raise Refusal(
            404, "OperationNotFound", f"there is no operation {operation_id!r}", advice="GET /v1/operations lists them"
        )
    return service.workers.live(row)


@router.get("/operations/{operation_id}", response_model=s.OperationRow, responses=READS, tags=["operations"])
def show_operation(
    request: Request, service: TheService, caller: Reader, operation_id: Id, fields: Fields = None
) -> Response:
    """How far an operation is, or how it ended."""
    row = operation_row(find(service, caller, operation_id), caller)
    return answer(request, chosen([row], fields, _FIELDS)[0])


@router.post(
    "/operations/{operation_id}/cancel",
    status_code=202,
    response_model=s.OperationRow,
    responses=answers.answers(404, 409, 415),
    tags=["operations"],
)
def cancel(request: Request, service: TheService, caller: Member, operation_id: Id) -> Response:
    """Stop an operation at its next wait, and undo what it began."""
    service.workers.cancel(find(service, caller, operation_id))
    return answer(request, operation_row(find(service, caller, operation_id), caller), status=202)


# Events


@router.get("/events", response_model=s.EventList, responses=READS, tags=["events"])
def list_events(
    request: Request,
    service: TheService,
    caller: Reader,
    kind: Kinds = None,
    node: Annotated[str | None, Query(max_length=255, description="Only those of this node: UUID or name.")] = None,
    instance: Annotated[str | None, Query(max_length=64, description="Only those of this instance: UUID.")] = None,
    operation: Annotated[str | None, Query(max_length=64, description="Only those of this operation.")] = None,
    since: Annotated[datetime | None, Query(description="Only those that happened then or later.")] = None,
    until: Annotated[datetime | None, Query(description="Only those that happened then or before.")] = None,
    order: Annotated[Order, Query(description="Which comes first.")] = "oldest",
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """List what happened: to nodes, whoever caused it, and to operations."""
    found = service.store.events(
        after=number_in(marker) or 0,
        limit=limit + 1,
        kinds=kind or (),
        node=node,
        instance=instance,
        operation=operation,
        since=_seconds(since),
        until=_seconds(until),
        project_id=caller.project_id,
        newest_first=order == "newest",
    )
    rows = chosen((event_row(row, caller) for row in found[:limit]), fields, _OF_EVENT)
    return answer(request, {"events": rows, "next": _next(request, found, limit)})


def _seconds(moment: datetime | None) -> float | None:
    """The moment as the log has it; one without a zone is taken for the service's own.

    Raises:
        InvalidRequest: in that zone there is no such moment.
    """
    try:
        return moment.timestamp() if moment is not None else None
    except (OverflowError, ValueError, OSError):
        raise InvalidRequest(
            f"{moment} is no time here", advice="Give it with its zone: 2026-01-31T12:00:00Z"
        ) from None


@router.get(
    "/events/stream",
    response_class=StreamingResponse,
    responses={**answers.answers(), 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    tags=["events"],
)
async def stream_events(
    request: Request,
    service: TheService,
    caller: Reader,
    kind: Kinds = None,
    node: Annotated[str | None, Query(max_length=64, description="Only those of this node: UUID.")] = None,
    instance: Annotated[str | None, Query(max_length=64, description="Only those of this instance: UUID.")] = None,
    operation: Annotated[str | None, Query(max_length=64, description="Only those of this operation.")] = None,
    after: Annotated[
        str | None, Query(max_length=20, description="The number of an event: all after it, then what happens.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=20, description="The same, as browsers send it when they come back.")
    ] = None,
) -> StreamingResponse:
    """Events as they happen, as server-sent events; whoever comes back with the last id that he got misses none."""
    given = last_event_id if last_event_id is not None else after
    begin = number_in(given)
    listener = Listener(principal=caller, kinds=kind or (), node=node, instance=instance, operation=operation)

    async def frames() -> AsyncIterator[bytes]:
        looked_at = time.monotonic()
        with service.metrics.streams.track_inprogress():
            async for frame in service.feed.stream(listener, begin):
                # There is a frame at every heartbeat at least.
                if time.monotonic() - looked_at > answers.BELIEVED_S:
                    if await answers.still_known(request.scope) != caller:
                        return  # whoever he is now may come back, and goes on after the last event that he got
                    looked_at = time.monotonic()
                yield frame

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)


# Audit


@router.get("/audit", response_model=s.CallList, responses=READS, tags=["audit"])
def list_calls(
    request: Request,
    service: TheService,
    caller: Admin,  # noqa: ARG001  the dependency is what is wanted of it
    actor: Annotated[str | None, Query(max_length=255, description="Only this one's.")] = None,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """Who called what, the newest first: all that was to change something, and all that was turned away."""
    return _calls(request, service, actor, limit, marker, fields, of_reads=False)


@router.get("/audit/reads", response_model=s.CallList, responses=READS, tags=["audit"])
def list_reads(
    request: Request,
    service: TheService,
    caller: Admin,  # noqa: ARG001
    actor: Annotated[str | None, Query(max_length=255, description="Only this one's.")] = None,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """Who read what, the newest first; it is written within some seconds."""
    return _calls(request, service, actor, limit, marker, fields, of_reads=True)


def _calls(
    request: Request,
    service: Service,
    actor: str | None,
    limit: int,
    marker: str | None,
    fields: str | None,
    *,
    of_reads: bool,
) -> Response:
    found = service.store.calls(before=number_in(marker), limit=limit + 1, actor=actor, of_reads=of_reads)
    rows = chosen(map(call_row, found[:limit]), fields, _OF_CALL)
    return answer(request, {"calls": rows, "next": _next(request, found, limit)})


# Webhooks


@router.get("/webhooks", response_model=s.WebhookList, responses=READS, tags=["webhooks"])
def list_webhooks(request: Request, service: TheService, caller: Admin) -> Response:  # noqa: ARG001
    """Who is told."""
    return answer(request, {"webhooks": [webhook_row(row) for row in service.store.webhooks()]})


@router.post(
    "/webhooks", status_code=201, response_model=s.WebhookRow, responses=answers.answers(409, 415), tags=["webhooks"]
)
def add_webhook(
    request: Request, service: TheService, caller: Admin, body: s.WebhookBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Tell somebody what happens from now on. The secret that it is signed with is in this answer, and nowhere else."""
    check_url(body.url)
    secret = body.secret.get_secret_value() if body.secret is not None else secrets.token_urlsafe(32)
    row, is_new = service.store.add_webhook(
        url=body.url,
        secret=Secret(secret),
        kinds=body.kinds,
        created_by=caller.name,
        caller=caller.key_holder,
        key=idempotency_key,
        fingerprint=fingerprint_of(request, caller),
    )
    headers = {"Location": f"/v1/webhooks/{row['id']}"}
    if not is_new:
        headers["Idempotency-Replayed"] = "true"
    return answer(request, webhook_row(row, secret=row["secret"]), status=201, headers=headers)


def _webhook(service: Service, webhook_id: str) -> Row:
    row = service.store.webhook(webhook_id)
    if row is None:
        raise Refusal(
            404, "WebhookNotFound", f"there is no webhook {webhook_id!r}", advice="GET /v1/webhooks lists them"
        )
    return row


@router.get("/webhooks/{webhook_id}", response_model=s.WebhookRow, responses=READS, tags=["webhooks"])
def show_webhook(request: Request, service: TheService, caller: Admin, webhook_id: Id) -> Response:  # noqa: ARG001
    """Show who is told."""
    return answer(request, webhook_row(_webhook(service, webhook_id)))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=answers.answers(404, 415), tags=["webhooks"])
def remove_webhook(service: TheService, caller: Admin, webhook_id: Id) -> Response:  # noqa: ARG001
    """Tell him no more."""
    _webhook(service, webhook_id)
    service.store.remove_webhook(webhook_id)
    return Response(status_code=204)


@router.get("/webhooks/{webhook_id}/deliveries", response_model=s.DeliveryList, responses=READS, tags=["webhooks"])
def list_deliveries(
    request: Request,
    service: TheService,
    caller: Admin,  # noqa: ARG001
    webhook_id: Id,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """What was sent to him, the newest first, with his answers."""
    _webhook(service, webhook_id)
    found = service.store.deliveries(webhook_id, before=number_in(marker), limit=limit + 1)
    rows = chosen(map(delivery_row, found[:limit]), fields, _OF_DELIVERY)
    return answer(request, {"deliveries": rows, "next": _next(request, found, limit)})


@router.post(
    "/webhooks/{webhook_id}/deliveries/{number}/replay",
    status_code=202,
    response_model=s.DeliveryRow,
    responses=answers.answers(404, 415),
    tags=["webhooks"],
)
def replay(
    request: Request,
    service: TheService,
    caller: Admin,  # noqa: ARG001
    webhook_id: Id,
    number: Annotated[int, s.Field(ge=1, lt=2**63)],
) -> Response:
    """Send it once more."""
    _webhook(service, webhook_id)
    row = service.store.deliver_again(webhook_id, number)
    if row is None:
        raise Refusal(404, "DeliveryNotFound", f"there is no delivery {number} to this webhook")
    service.sender.wake()
    return answer(request, delivery_row(row), status=202)
