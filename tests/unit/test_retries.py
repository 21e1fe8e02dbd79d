"""A request is sent until its effect is certain: the policy's table, the deadline, the outage, and the reading back."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from bloomery.deadline import USUAL, Cancellation, Deadline
from bloomery.errors import (
    AccessDenied,
    BloomeryError,
    NodeClaimed,
    OperationCancelled,
    OperationTimedOut,
    RequestRefused,
    ServiceTooOld,
    ServiceUnavailable,
    UnexpectedReply,
)
from bloomery.rest.failures import POLICY, Decision, Failure, Kind, RequestFailure, Rule
from bloomery.rest.gate import LONGEST_PAUSE_S
from bloomery.rest.retries import LEAST_REQUEST_S, certainly
from bloomery.testing.clock import JumpingClock

EVERY_RULE = [
    pytest.param(failure, kind, POLICY[failure][kind], id=f"{failure.name} of a {kind.name}")
    for failure, kind in itertools.product(Failure, Kind)
]
AS_ERROR = {
    Failure.UNSENT: ServiceUnavailable,
    Failure.UNREACHED: ServiceUnavailable,
    Failure.UNTRUSTED: UnexpectedReply,
    Failure.LOST: ServiceUnavailable,
    Failure.GARBLED: UnexpectedReply,
    Failure.CONFLICT: RequestRefused,
    Failure.OVERLOADED: ServiceUnavailable,
    Failure.BROKEN: ServiceUnavailable,
    Failure.UNAUTHORISED: AccessDenied,
    Failure.FORBIDDEN: AccessDenied,
    Failure.MISSING: RequestRefused,
    Failure.UNACCEPTABLE: ServiceTooOld,
    Failure.ABSENT: ServiceUnavailable,
    Failure.REJECTED: RequestRefused,
}


class Service:
    """Fails as often as it is told to, and then answers; counts."""

    def __init__(self, *failures: Failure, always: Failure | None = None) -> None:
        self._failures: Iterator[Failure] = itertools.chain(failures, itertools.repeat(always) if always else ())
        self.sent = 0
        self.allowed_s: list[float] = []
        self.read_back_of: list[RequestFailure] = []

    def send(self, timeout_s: float) -> str:
        self.sent += 1
        self.allowed_s.append(timeout_s)
        failure = next(self._failures, None)
        if failure is not None:
            raise RequestFailure(failure, "out of luck", status=418, request_id="req-1")
        return "answer"

    def not_done(self, failed: RequestFailure) -> str | None:
        self.read_back_of.append(failed)
        return None


def ask(
    service: Service,
    kind: Kind = Kind.READ,
    *,
    deadline: Deadline | None = None,
    read_back: Callable[[RequestFailure], str | None] | None = None,
) -> str:
    return certainly(
        "Ironic",
        "claiming node n1",
        service.send,
        deadline=deadline or Deadline(3600.0, clock=JumpingClock()),
        kind=kind,
        read_back=(read_back or service.not_done) if kind is Kind.WRITE else None,
    )


def test_the_policy_has_a_rule_for_every_failure_of_every_kind_of_request() -> None:
    assert set(POLICY) == set(Failure)
    assert all(set(rules) == set(Kind) for rules in POLICY.values())


def test_no_rule_reads_back_what_changes_nothing() -> None:
    for kind in (Kind.READ, Kind.LOOK_UP):
        assert Decision.READ_BACK not in {POLICY[failure][kind].decision for failure in Failure}


def test_no_write_that_may_have_taken_effect_is_sent_again_unread() -> None:
    never_arrived = {Failure.UNSENT, Failure.UNREACHED, Failure.UNAUTHORISED}
    again = {failure for failure in Failure if POLICY[failure][Kind.WRITE].decision is Decision.AGAIN}
    assert again == never_arrived


@pytest.mark.parametrize("kind", Kind)
def test_a_request_that_is_answered_is_sent_once(kind: Kind) -> None:
    service = Service()
    assert ask(service, kind) == "answer"
    assert service.sent == 1


@pytest.mark.parametrize(("failure", "kind", "rule"), EVERY_RULE)
def test_after_one_failure_the_request_is_sent_again_or_given_up_as_the_policy_says(
    failure: Failure, kind: Kind, rule: Rule
) -> None:
    service = Service(failure)
    if rule.decision is Decision.GIVE_UP or rule.at_most == 1:
        with pytest.raises(AS_ERROR[failure]):
            ask(service, kind)
        assert service.sent == 1
    else:
        assert ask(service, kind) == "answer"
        assert service.sent == 2
    assert len(service.read_back_of) == (rule.decision is Decision.READ_BACK)


@pytest.mark.parametrize(("failure", "kind", "rule"), EVERY_RULE)
def test_a_failure_that_stays_ends_in_the_error_that_says_so(failure: Failure, kind: Kind, rule: Rule) -> None:
    service = Service(always=failure)
    with pytest.raises(AS_ERROR[failure]) as raised:
        ask(service, kind)
    assert raised.value.request_id == "req-1"
    assert "out of luck" in str(raised.value)
    assert "claiming node n1" in str(raised.value)
    if rule.decision is Decision.GIVE_UP:
        assert service.sent == 1
    elif rule.at_most is not None:
        assert service.sent == rule.at_most
    else:
        assert service.sent > 100


@pytest.mark.parametrize("failure", [f for f in Failure if POLICY[f][Kind.WRITE].decision is Decision.READ_BACK])
def test_a_write_that_is_found_done_is_done(failure: Failure) -> None:
    service = Service(always=failure)
    assert ask(service, Kind.WRITE, read_back=lambda _failed: "it is there") == "it is there"
    assert service.sent == 1


def test_what_reads_back_may_end_it_with_an_error_of_its_own() -> None:
    def taken(_failed: RequestFailure) -> str | None:
        raise NodeClaimed("it is another's")

    service = Service(always=Failure.CONFLICT)
    with pytest.raises(NodeClaimed):
        ask(service, Kind.WRITE, read_back=taken)
    assert service.sent == 1


def test_what_reads_back_is_told_what_failed_and_how_often() -> None:
    service = Service(Failure.CONFLICT, Failure.LOST, Failure.CONFLICT)
    ask(service, Kind.WRITE)
    assert [(failed.failure, failed.times) for failed in service.read_back_of] == [
        (Failure.CONFLICT, 1),
        (Failure.LOST, 1),
        (Failure.CONFLICT, 2),
    ]


def test_what_reads_back_may_begin_the_count_anew() -> None:
    service = Service(*[Failure.CONFLICT] * 4)
    seen: list[int] = []

    def known_reason(failed: RequestFailure) -> str | None:
        seen.append(failed.times)
        if len(seen) == 2:
            failed.times = 0
        return None

    ask(service, Kind.WRITE, read_back=known_reason)
    assert seen == [1, 2, 1, 2]


def test_refusals_keep_the_status() -> None:
    with pytest.raises(RequestRefused) as raised:
        ask(Service(Failure.REJECTED))
    assert raised.value.status == 418


# Time


def test_pauses_grow_are_jittered_and_stay_in_bounds() -> None:
    clock = JumpingClock()
    ask(Service(*[Failure.CONFLICT] * 40), Kind.WRITE, deadline=Deadline(3600.0, clock=clock))
    mean_s = USUAL.first_pause_s
    for waited_s in clock.waits_s:
        assert 0.5 * mean_s < waited_s < 1.5 * mean_s
        mean_s = min(2 * mean_s, LONGEST_PAUSE_S / 1.4)
    assert max(clock.waits_s) <= LONGEST_PAUSE_S
    long_ones = clock.waits_s[-20:]
    assert len(set(long_ones)) > 1


def test_nobody_pauses_before_the_first_request_or_after_the_answer() -> None:
    clock = JumpingClock()
    ask(Service(), deadline=Deadline(60.0, clock=clock))
    assert clock.waits_s == []


@pytest.mark.parametrize("timeout_s", [1.0, 20.0, 300.0])
@pytest.mark.parametrize("failure", [Failure.UNREACHED, Failure.CONFLICT])
def test_nothing_is_sent_after_the_deadline_and_no_pause_outlasts_it(timeout_s: float, failure: Failure) -> None:
    clock = JumpingClock()
    deadline = Deadline(timeout_s, clock=clock)
    with pytest.raises(BloomeryError):
        ask(Service(always=failure), deadline=deadline)
    assert deadline.elapsed_s <= timeout_s


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    clock, service = JumpingClock(), Service()
    deadline = Deadline(5.0, clock=clock)
    clock.now_s += 5.0
    with pytest.raises(OperationTimedOut):
        ask(service, deadline=deadline)
    assert service.sent == 0


def test_a_deadline_that_passes_while_an_outage_is_still_borne_is_a_timeout_that_says_so() -> None:
    deadline = Deadline(100.0, outage_s=900.0, clock=JumpingClock())
    with pytest.raises(OperationTimedOut, match=r"not finished within 100 s.*Ironic cannot be reached.*out of luck"):
        ask(Service(always=Failure.UNREACHED), deadline=deadline)
    assert deadline.remaining_s <= LONGEST_PAUSE_S


class OversleepingClock(JumpingClock):
    """A clock of a machine so busy that whoever waits wakes up much too late."""

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        return super().wait(signal, timeout_s + 3600.0)


def test_a_deadline_that_passes_in_the_pause_after_a_failure_says_what_failed() -> None:
    deadline = Deadline(100.0, clock=OversleepingClock())
    with pytest.raises(OperationTimedOut, match=r"not finished within 100 s.*Ironic cannot be reached.*out of luck"):
        ask(Service(always=Failure.UNREACHED), deadline=deadline)


def test_a_service_that_never_answers_is_unavailable_where_nothing_else_is_said_of_outages() -> None:
    deadline = Deadline(15.0, clock=JumpingClock())
    with pytest.raises(ServiceUnavailable, match="Ironic cannot be reached"):
        ask(Service(always=Failure.UNREACHED), deadline=deadline)
    assert deadline.remaining_s <= LONGEST_PAUSE_S


def test_an_outage_that_is_shorter_than_borne_is_not_noticed() -> None:
    deadline = Deadline(3600.0, outage_s=60.0, clock=JumpingClock())
    assert ask(Service(*[Failure.UNREACHED] * 9), deadline=deadline) == "answer"


def test_an_outage_that_is_longer_than_borne_ends_it_before_the_deadline() -> None:
    deadline = Deadline(3600.0, outage_s=60.0, clock=JumpingClock())
    with pytest.raises(ServiceUnavailable, match="Ironic cannot be reached"):
        ask(Service(always=Failure.UNREACHED), deadline=deadline)
    assert deadline.elapsed_s <= 60.0


def test_an_outage_that_is_not_borne_at_all_ends_it_with_the_first_failure() -> None:
    service = Service(always=Failure.LOST)
    with pytest.raises(ServiceUnavailable):
        ask(service, deadline=Deadline(3600.0, outage_s=0.0, clock=JumpingClock()))
    assert service.sent == 1


def test_a_conflict_is_no_outage_and_is_waited_through_until_the_deadline() -> None:
    service = Service(*[Failure.CONFLICT] * 50)
    deadline = Deadline(3600.0, outage_s=1.0, clock=JumpingClock())
    assert ask(service, Kind.WRITE, deadline=deadline) == "answer"
    deadline = Deadline(100.0, outage_s=1.0, clock=JumpingClock())
    with pytest.raises(RequestRefused):
        ask(Service(always=Failure.CONFLICT), Kind.WRITE, deadline=deadline)
    assert deadline.remaining_s <= LONGEST_PAUSE_S


def test_an_outage_begins_anew_after_a_conflict() -> None:
    service = Service(*[Failure.CONFLICT] * 20, Failure.UNREACHED, *[Failure.CONFLICT] * 20, Failure.UNREACHED)
    assert ask(service, Kind.WRITE, deadline=Deadline(3600.0, outage_s=10.0, clock=JumpingClock())) == "answer"


def test_a_request_may_take_what_an_outage_may_but_a_slow_service_is_not_away() -> None:
    service = Service()
    ask(service, deadline=Deadline(3600.0, outage_s=40.0, clock=JumpingClock()))
    ask(service, deadline=Deadline(3600.0, outage_s=0.0, clock=JumpingClock()))
    ask(service, deadline=Deadline(2.0, clock=JumpingClock()))
    assert service.allowed_s == [40.0, LEAST_REQUEST_S, 2.0]


def test_a_cancellation_ends_the_pause_and_the_attempts() -> None:
    cancellation = Cancellation()
    service = Service(always=Failure.UNREACHED)

    def send(timeout_s: float) -> str:
        if service.sent == 3:
            cancellation.cancel()
        return service.send(timeout_s)

    deadline = Deadline(3600.0, cancellation=cancellation, clock=JumpingClock())
    with pytest.raises(OperationCancelled, match="cancelled while claiming node n1"):
        certainly("Ironic", "claiming node n1", send, deadline=deadline)
    assert service.sent == 4


def test_every_further_attempt_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bloomery"):
        ask(Service(Failure.UNREACHED))
        ask(Service(Failure.LOST), Kind.WRITE, read_back=lambda _failed: "done")
    assert "claiming node n1: out of luck; again" in caplog.text
    assert "and yet it is done" in caplog.text
