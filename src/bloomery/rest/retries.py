"""A request is sent until its effect is certain, or until it is certain that it will have none."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from bloomery.deadline import Deadline
from bloomery.errors import (
    AccessDenied,
    BloomeryError,
    OperationTimedOut,
    RequestRefused,
    ServiceTooOld,
    ServiceUnavailable,
    UnexpectedReply,
)
from bloomery.plain import logger
from bloomery.rest.failures import POLICY, Decision, Failure, Kind, RequestFailure
from bloomery.rest.gate import JITTER, LONGEST_PAUSE_S, Gate
from bloomery.rest.timely import LEAST_TIMEOUT_S, whole_answers_by

log = logger(__name__)

T = TypeVar("T")

LEAST_REQUEST_S = 10.0
"""What a single request may take even where an outage is not borne for long: a busy Ironic is slow, not away."""


def certainly(
    service: str,
    doing: str,
    send: Callable[[float], T],
    *,
    deadline: Deadline,
    kind: Kind = Kind.READ,
    read_back: Callable[[RequestFailure], T | None] | None = None,
    gate: Gate | None = None,
    at_turn: Callable[[], None] | None = None,
) -> T:
    """What the request was for is so, and its answer is returned.

    Args:
        service: the service's name: "Ironic".
        doing: what is being done, as a participle: "claiming node 1be2".
        send: sends the request; is given the seconds that it may take.
        deadline: when to stop; its `outage_s` bounds an unbroken row of failures.
        kind: what the request does to the service.
        read_back: looks whether a write took effect: its result if it did, None if it did not and is to be sent again;
            raises one of our errors if it did not and never will. Must not be None for a write.
        gate: where the service may have no room for such a request: it is then no failure, and waited for until the
            deadline, together with all others that want some. Who had to wait is read back before anything is sent.
        at_turn: is called each time right before the request is sent, instead of reading back, as long as none was sent
            whose effect is open; raises if it must not be sent.

    Raises:
        BloomeryError: it cannot be done, in our words.
    """
    mean_pause_s = deadline.patience.first_pause_s
    met: Counter[Failure] = Counter()
    away_since: float | None = None
    failed: RequestFailure | None = None
    while True:
        with _saying_what_failed(service, doing, failed, deadline):
            deadline.check(doing)
        try:
            longest_s = min(max(deadline.outage_s, LEAST_REQUEST_S), deadline.patience.request_s)
            with gate.turn(deadline, doing) if gate is not None else nullcontext(False) as has_waited:
                if at_turn is not None and not met:
                    at_turn()
                elif has_waited and read_back is not None:
                    result = read_back(RequestFailure(Failure.UNSENT, "others came first"))
                    if result is not None:
                        return result
                left_s = max(LEAST_TIMEOUT_S, deadline.remaining_s)
                with whole_answers_by(time.monotonic() + left_s):
                    return send(min(left_s, longest_s))
        except RequestFailure as problem:
            failed = problem
        if gate is not None and failed.is_no_room:
            log.info("%s: %s; again when it is our turn", doing, failed.reason)
            away_since = None
            continue
        met[failed.failure] += 1
        failed.times = met[failed.failure]
        rule = POLICY[failed.failure][kind]
        if rule.decision is Decision.GIVE_UP:
            raise translated(service, doing, failed) from failed
        if rule.decision is Decision.READ_BACK and read_back is not None:
            result = read_back(failed)
            if result is not None:
                log.info("%s: the request failed (%s), and yet it is done", doing, failed.reason)
                return result
            met[failed.failure] = failed.times
        if rule.at_most is not None and failed.times >= rule.at_most:
            raise translated(service, doing, failed) from failed
        # 409 is an answer, not an outage: whoever is in the way may stay there as long as the deadline lets us wait.
        now = deadline.clock.monotonic()
        away_since = None if failed.failure is Failure.CONFLICT else now if away_since is None else away_since
        pause_s = mean_pause_s * random.uniform(*JITTER)  # noqa: S311  jitter, not a secret
        # That others use all connections says of the service no more than that it is slow.
        slow_s = deadline.patience.after_change_s if failed.failure is Failure.UNSENT else 0.0
        if away_since is not None and now + pause_s - away_since > max(deadline.outage_s, slow_s):
            raise translated(service, doing, failed) from failed
        if pause_s >= deadline.remaining_s:
            raise _late(service, doing, failed, deadline) from failed
        log.info("%s: %s; again in %.1f s", doing, failed.reason, pause_s)
        with _saying_what_failed(service, doing, failed, deadline):
            deadline.pause(pause_s, doing)
        mean_pause_s = min(2 * mean_pause_s, LONGEST_PAUSE_S / JITTER[1])


@contextmanager
def _saying_what_failed(service: str, doing: str, failed: RequestFailure | None, deadline: Deadline) -> Iterator[None]:
    """A timeout within the block says how the last request failed, if one did: that, and not the time, is the reason."""
    try:
        yield
    except OperationTimedOut:
        if failed is None:
            raise
        raise _late(service, doing, failed, deadline) from failed


def _late(service: str, doing: str, failed: RequestFailure, deadline: Deadline) -> BloomeryError:
    """The error for a failure that would have been borne for longer, had there been time."""
    error = translated(service, doing, failed)
    if isinstance(error, ServiceUnavailable):
        return OperationTimedOut(
            f"not finished within {deadline.timeout_s:g} s",
            reason=f"still {doing}; {error}",
            request_id=failed.request_id,
        )
    return error


def translated(service: str, doing: str, problem: RequestFailure) -> BloomeryError:
    """A failed request as the error that leaves the gateway. Gateways with more to say about 404 or 409 do so before."""
    message = f"{service} could not be asked while {doing}"
    where = {"reason": problem.reason, "request_id": problem.request_id}
    match problem.failure:
        case Failure.UNSENT | Failure.UNREACHED | Failure.LOST:
            return ServiceUnavailable(f"{service} cannot be reached, {doing}", **where)
        case Failure.UNTRUSTED:
            return UnexpectedReply(
                f"{service} cannot be trusted, {doing}",
                advice="Name the file with the CA that vouches for it: `cacert` in clouds.yaml, OS_CACERT or --os-cacert",
                **where,
            )
        case Failure.OVERLOADED | Failure.BROKEN:
            return ServiceUnavailable(f"{service} fails, {doing}", **where)
        case Failure.GARBLED:
            return UnexpectedReply(f"{service} gave an answer that makes no sense, {doing}", **where)
        case Failure.UNAUTHORISED | Failure.FORBIDDEN:
            return AccessDenied(f"{service} does not let us in, {doing}", **where)
        case Failure.ABSENT:
            return ServiceUnavailable(f"there is no {service} for {doing}", **where)
        case Failure.UNACCEPTABLE:
            return ServiceTooOld(f"{service} does not offer what is needed, {doing}", **where)
        case _:
            return RequestRefused(message.replace("could not be asked", "refused"), status=problem.status, **where)
