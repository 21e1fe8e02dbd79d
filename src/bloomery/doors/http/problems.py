"""Errors as HTTP says them: problem details (RFC 9457). One table has a row for every class of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from bloomery import errors
from bloomery.doors.http.access import NOBODY, Principal
from bloomery.doors.http.context import principal_of, request_id_now
from bloomery.errors import BloomeryError
from bloomery.plain import logger, without_places

log = logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_PASSING = (429, 503)


class Refusal(Exception):
    """What the service itself says no to, before anything of ours is asked.

    Args:
        status: the HTTP status.
        title: what is wrong, of a kind.
        detail: what is wrong here, as a clause without a full stop.
        advice: what would be right.
        headers: sent with the answer.
        told_users: in place of the detail, for all but those who may see everything; None: they may know that.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        advice: str | None = None,
        headers: Mapping[str, str] | None = None,
        told_users: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.advice = advice
        self.headers = dict(headers or {})
        self.told_users = told_users

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later with nothing changed."""
        return self.status in _PASSING


class StoreUnavailable(Refusal):
    """The service's log cannot be written or read, so that nothing is begun: a full disk, a database that is away.

    Args:
        reason: why.
        is_open: whether what was to be written may be there all the same: nobody answered when it was committed.
        advice: what to do, where it is not to be asked again.
    """

    def __init__(self, reason: str, *, is_open: bool = False, advice: str | None = None) -> None:
        super().__init__(
            503,
            "StoreUnavailable",
            f"the service's log cannot be used: {reason}",
            advice=advice or "Nothing was begun. Free the disk, or bring the database back, and ask again",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            # Databases name their machines.
            told_users="the service's log cannot be used",
        )
        self.is_open = is_open


STATUSES: Mapping[type[BloomeryError], int] = MappingProxyType(
    {
        BloomeryError: 500,
        errors.RequestError: 422,
        errors.InvalidRequest: 422,
        errors.NotSupported: 422,
        errors.NoNodeFits: 409,
        # Ironic does not let the service in; its caller can do nothing about that.
        errors.AccessDenied: 502,
        errors.NotFound: 404,
        errors.NodeNotFound: 404,
        errors.InstanceNotFound: 404,
        errors.NetworkNotFound: 404,
        errors.ImageNotFound: 404,
        errors.Conflict: 409,
        errors.AmbiguousName: 409,
        errors.NodeClaimed: 409,
        errors.NodeLocked: 409,
        errors.NodeUnavailable: 409,
        errors.VifInUse: 409,
        errors.ConsoleInUse: 409,
        errors.GatewayError: 502,
        errors.ServiceUnavailable: 503,
        errors.ServiceTooOld: 502,
        errors.RequestRefused: 502,
        errors.UnexpectedReply: 502,
        errors.OperationFailed: 502,
        errors.ValidationFailed: 409,
        errors.AllocationFailed: 409,
        errors.DeployFailed: 502,
        errors.RebuildFailed: 502,
        errors.TearDownFailed: 502,
        errors.CleanFailed: 502,
        errors.RescueFailed: 502,
        errors.PowerFailed: 502,
        errors.InterfaceFailed: 502,
        errors.ConsoleFailed: 502,
        errors.OperationTimedOut: 504,
        errors.OperationCancelled: 409,
        errors.NodeTakenAway: 409,
        errors.RollbackIncomplete: 500,
    }
)
"""A row for each class, so that a new one is not forgotten: a test walks the tree."""


class Problem(BaseModel):
    """What went wrong, and what to do next (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`urn:bloomery:problem:` and the kind of problem.")
    title: str = Field(description="The kind of problem: `NodeLocked`, `InvalidRequest` …")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened here, and why, as far as that is known.")
    advice: str | None = Field(default=None, description="What would be right, or what to do next.")
    retryable: bool = Field(
        default=False, description="Whether the same request may succeed later with nothing changed."
    )
    request_id: str | None = Field(
        default=None, description="This request's id, in the service's logs and in Ironic's."
    )
    node_uuid: str | None = Field(default=None, description="The node that it happened to.")
    operation: str | None = Field(default=None, description="The operation that failed.")
    step: str | None = Field(default=None, description="The step of it that failed.")
    refusals: dict[str, list[str]] | None = Field(
        default=None, description="Of each node that was looked at, by name: the conditions that it does not meet."
    )
    left: list[str] | None = Field(default=None, description="What could not be undone, a sentence each.")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Each value that is wrong: where, and why.")


def status_of(error: BloomeryError) -> int:
    """The HTTP status that tells of the error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem_of(error: BloomeryError) -> dict[str, Any]:
    """The error as a problem, as the log keeps it; `shown_problem` makes of it what somebody may see."""
    detail = error.message + (f": {error.reason.rstrip('.')}" if error.reason else "")
    found: dict[str, Any] = {
        **_head(status_of(error), type(error).__name__, detail, error.advice),
        "retryable": error.retryable,
        "node_uuid": error.node_uuid,
        "operation": error.operation,
        "step": error.step,
    }
    if isinstance(error, errors.NoNodeFits) and error.refusals:
        found["refusals"] = {node: list(reasons) for node, reasons in error.refusals.items()}
    if isinstance(error, errors.RollbackIncomplete):
        found["left"] = list(error.left)
    if isinstance(error, errors.InvalidRequest) and error.field is not None:
        found["errors"] = [{"where": f"body.{error.field}", "why": detail}]
    found[FOR_USERS] = _told_users(error, detail)
    return {name: value for name, value in found.items() if value is not None}


FOR_USERS = "for_users"
"""Where a problem, as the log keeps it, has what whoever acts for one project is told in place of its detail."""


def _told_users(error: BloomeryError, detail: str) -> str:
    if isinstance(error, errors.RequestError) and not isinstance(error, errors.NoNodeFits):
        return detail  # it is about what he asked for, in words made here
    if isinstance(error, errors.NotFound):
        return without_places(error.message)
    return error.told_users


def shown_problem(problem: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """The problem as the principal may see it: who acts for one project is told nothing of places, others and the inside."""
    found = {name: value for name, value in problem.items() if name != FOR_USERS}
    if principal.sees_all:
        return found
    found["detail"] = problem.get(FOR_USERS) or without_places(str(problem["detail"]))
    for name in ("advice", "left", "refusals"):
        if name in found:
            found[name] = principal.shown(found[name])
    return found


def _head(status: int, title: str, detail: str, advice: str | None) -> dict[str, Any]:
    return {
        "type": f"urn:bloomery:problem:{title}",
        "title": title,
        "status": status,
        "detail": detail,
        "advice": advice,
        "request_id": request_id_now(),
    }


def refusal_of(refusal: Refusal) -> dict[str, Any]:
    """The refusal as a problem, as the log keeps it; `shown_refusal` makes of it what somebody may see."""
    found = _head(refusal.status, refusal.title, refusal.detail, refusal.advice)
    found |= {"retryable": refusal.retryable or None, FOR_USERS: refusal.told_users}
    return {name: value for name, value in found.items() if value is not None}


def shown_refusal(refusal: Refusal, principal: Principal | None) -> dict[str, Any]:
    """The refusal as the principal, or whoever has not said who he is, may see it."""
    found = refusal_of(refusal)
    told_users = found.pop(FOR_USERS, None)
    if told_users is not None and (principal is None or not principal.sees_all):
        found["detail"] = told_users
    return found


def _answer(problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem, status_code=problem["status"], media_type=MEDIA_TYPE, headers=dict(headers or {}))


_FRAMEWORKS = {
    404: ("NotFound", "nothing is at this path"),
    405: ("MethodNotAllowed", "this path does not take this method"),
}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Every error leaves the app as a problem.

    Args:
        app: the app.
        routes: its routes, which say what a path takes.
    """

    @app.exception_handler(BloomeryError)
    def of_ours(request: Request, error: BloomeryError) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else {}
        return _answer(shown_problem(problem_of(error), principal_of(request) or NOBODY), headers)

    @app.exception_handler(Refusal)
    def of_the_service(request: Request, refusal: Refusal) -> JSONResponse:
        return _answer(shown_refusal(refusal, principal_of(request) or NOBODY), refusal.headers)

    @app.exception_handler(RequestValidationError)
    def of_values(_request: Request, error: RequestValidationError) -> JSONResponse:
        # What was given is not repeated: it may be a password in the wrong place.
        wrong = [{"where": ".".join(map(str, found["loc"])), "why": found["msg"]} for found in error.errors()]
        listed = "; ".join(f"{found['where']}: {found['why']}" for found in wrong)
        problem = refusal_of(Refusal(422, "InvalidRequest", f"the request is not as it should be: {listed}"))
        return _answer({**problem, "errors": wrong})

    @app.exception_handler(HTTPException)
    def of_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        title, detail = _FRAMEWORKS.get(error.status_code, ("HttpError", str(error.detail)))
        problem = refusal_of(
            Refusal(error.status_code, title, detail, advice="GET /v1/openapi.json lists what there is")
        )
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods_of(request.url.path, routes)))
        return _answer(problem, headers)


def _methods_of(path: str, routes: Sequence[BaseRoute]) -> set[str]:
    """Every method that the path takes, whichever of our functions takes it."""
    matching = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return {method for route in matching for method in route.methods or ()}


def of_a_bug() -> dict[str, Any]:
    """The problem of an error that nobody foresaw; what it was is in the log, under the request's id."""
    return refusal_of(
        Refusal(
            500,
            "Bug",
            "the service has a bug here",
            advice="Its log has the rest, under this request's id; please report it",
        )
    )


def broken_off(reason: str) -> Refusal:
    """The process that was at it ended, and what became of it cannot be told."""
    return Refusal(
        500,
        "BrokenOff",
        f"the process that was to do it ended: {reason}",
        advice="Look at the instance, and ask again where it is not as wanted",
    )
