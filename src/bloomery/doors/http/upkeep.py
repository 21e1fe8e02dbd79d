"""`/v1/checkup`, `/v1/leaks`, `/v1/janitor`, `/v1/recover`: what administrators ask when something is not as it should be."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bloomery.doors.http import schemas as s
from bloomery.doors.http.answers import READS, WRITES, Admin, IdempotencyKey, TheService, answer, answers
from bloomery.doors.http.cleaning import leak_event
from bloomery.doors.http.context import request_id_now
from bloomery.doors.http.instances import begin, look_at_key
from bloomery.doors.http.problems import problem_of, shown_problem
from bloomery.doors.http.verbs import Order
from bloomery.doors.http.views import janitor_row

router = APIRouter(prefix="/v1", tags=["upkeep"])


@router.get("/checkup", response_model=s.CheckList, responses=READS)
def check(request: Request, service: TheService, caller: Admin) -> Response:  # noqa: ARG001
    """Is everything there that an instance needs: API version, access, conductors, drivers, images, networks and nodes."""
    return answer(request, {"checks": [asdict(one) for one in service.api.checkup()]})


@router.get("/leaks", response_model=s.LeakList, responses=READS)
def list_leaks(request: Request, service: TheService, caller: Admin) -> Response:  # noqa: ARG001
    """What seems to be left of instances and operations that are gone, and what proves it."""
    survey = service.api.leaks()
    return answer(request, {"leaks": [asdict(leak) for leak in survey.leaks], "blind": list(survey.blind)})


@router.post("/leaks/mend", response_model=s.MendOutcome, responses=answers(404, 409, 415))
def mend(request: Request, service: TheService, caller: Admin, body: s.LeakBody) -> Response:
    """Remove what is left, as `GET /v1/leaks` showed it, if what is read now proves that it is; else nothing is changed."""
    leak = body.to_core()
    outcome = service.api.mend(leak)
    if outcome.is_gone:
        service.store.tell(leak_event(leak, actor=caller.name, request_id=request_id_now()))
    problem = shown_problem(problem_of(outcome.problem), caller) if outcome.problem is not None else None
    return answer(request, {"is_gone": outcome.is_gone, "problem": problem})


@router.get("/janitor", response_model=s.JanitorRow, responses=READS)
def show_janitor(request: Request, service: TheService, caller: Admin) -> Response:  # noqa: ARG001
    """Whether what is left of instances and operations is cleaned in the background, and what the last look came to."""
    return answer(request, janitor_row(service.cleaning.shown()))


@router.post("/janitor", response_model=s.JanitorRow, responses=answers(409, 415))
def tell_janitor(request: Request, service: TheService, caller: Admin, body: s.JanitorBody) -> Response:
    """Pause the janitor, let it go on, or have it look now; every replica heeds it within some seconds."""
    service.cleaning.wish(body.do, actor=caller.name)
    return answer(request, janitor_row(service.cleaning.shown()))


@router.post(
    "/recover",
    status_code=202,
    response_model=s.OperationRow,
    responses=WRITES,
    dependencies=[Depends(look_at_key)],
)
def recover(
    request: Request, service: TheService, caller: Admin, body: s.RecoverBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Finish or undo what processes of Bloomery have left half done; the operation's result names each node."""
    order = Order(verb="recover", body=body, instance=None)
    return begin(request, service, caller, order, key=idempotency_key, node=None, name=None)
