"""Where a service has no room, those who want some come one at a time: the order, the pauses, and who opens the gate again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from bloomery.deadline import Cancellation, Clock, Deadline
from bloomery.errors import BloomeryError, OperationCancelled, OperationTimedOut, ServiceUnavailable
from bloomery.rest.failures import Failure, Kind, RequestFailure
from bloomery.rest.gate import JITTER, LONGEST_PAUSE_S, Gate
from bloomery.rest.retries import certainly
from bloomery.testing.clock import HandClock, JumpingClock
from strangers.bad_server import wait_until

NO_ROOM = "Requested action cannot be performed due to lack of free conductor workers"
LONG_S = 30.0


def no_room() -> RequestFailure:
    return RequestFailure(Failure.OVERLOADED, NO_ROOM, status=503, request_id="req-1")


class Service:
    """Has room for so many requests, and refuses the others; notes who came, in order."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.came: list[str] = []
        self.read_back: list[str] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def asked_by(self, who: str) -> Callable[[float], str]:
        def send(_timeout_s: float) -> str:
            with self._lock:
                self.came.append(who)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                has_room = self.room > 0
                self.room -= has_room
            with self._lock:
                self.at_once -= 1
            if not has_room:
                raise no_room()
            return who

        return send


def ask(service: Service, gate: Gate, who: str, deadline: Deadline) -> str:
    def not_done(_failed: RequestFailure) -> str | None:
        service.read_back.append(who)
        return None

    return certainly(
        "Ironic",
        "asking for a deploy",
        service.asked_by(who),
        deadline=deadline,
        kind=Kind.WRITE,
        read_back=not_done,
        gate=gate,
    )


class Crowd:
    """Asks in threads of its own, all by one clock; whoever is left at the end is sent home."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.clock = HandClock()
        self.cancellations: list[Cancellation] = []

    def deadline(self, timeout_s: float = 3600.0, outage_s: float | None = None) -> Deadline:
        self.cancellations.append(Cancellation())
        return Deadline(timeout_s, outage_s=outage_s, clock=self.clock, cancellation=self.cancellations[-1])

    def ask(self, service: Service, gate: Gate, who: str, timeout_s: float = 3600.0) -> Future[str]:
        return self.pool.submit(ask, service, gate, who, self.deadline(timeout_s))


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with ThreadPoolExecutor(60) as pool:
        it = Crowd(pool)
        try:
            yield it
        finally:
            for cancellation in it.cancellations:
                cancellation.cancel()


def narrow(clock: Clock) -> Gate:
    """A gate before a service that has just refused somebody."""
    gate = Gate()
    with pytest.raises(RequestFailure), gate.turn(Deadline(LONG_S, clock=clock), "asking"):
        raise no_room()
    return gate


def until_done(clock: HandClock, asked: list[Future[str]]) -> None:
    """Time goes on until everybody has an answer."""
    for _ in range(10_000):
        if all(future.done() for future in asked):
            return
        clock.advance(0.5)
        threading.Event().wait(0.002)
    raise AssertionError("nobody ends")


def test_who_finds_room_waits_for_nobody() -> None:
    service, gate, clock = Service(room=9), Gate(), JumpingClock()
    assert [ask(service, gate, who, Deadline(60.0, clock=clock)) for who in "abc"] == ["a", "b", "c"]
    assert clock.waits_s == []
    assert not gate.is_narrow


def test_who_is_refused_waits_until_there_is_room_however_short_an_outage_is_borne() -> None:
    clock, service, gate = JumpingClock(), Service(), Gate()

    def send(timeout_s: float) -> str:
        service.room = int(len(service.came) == 40)
        return service.asked_by("a")(timeout_s)

    deadline = Deadline(3600.0, outage_s=1.0, clock=clock)
    answer = certainly(
        "Ironic", "asking", send, deadline=deadline, kind=Kind.WRITE, read_back=lambda _failed: None, gate=gate
    )
    assert answer == "a"
    assert len(service.came) == 41
    assert clock.now_s - 1000.0 > 100.0
    assert not gate.is_narrow


def test_pauses_grow_to_their_longest_while_there_is_no_room() -> None:
    clock, gate = JumpingClock(), Gate()
    with pytest.raises(OperationTimedOut, match=f"not finished within 300 s.*{NO_ROOM}"):
        ask(Service(), gate, "a", Deadline(300.0, clock=clock))
    pauses = clock.waits_s[:-1]
    assert 0.25 * JITTER[0] <= pauses[0] <= 0.25 * JITTER[1]
    assert max(pauses) <= LONGEST_PAUSE_S
    assert min(pauses[6:]) >= LONGEST_PAUSE_S / JITTER[1] * JITTER[0]


def test_many_who_find_no_room_are_refused_in_turn_and_not_each_for_himself(crowd: Crowd) -> None:
    service, gate = Service(), narrow(crowd.clock)
    asked = [crowd.ask(service, gate, str(n)) for n in range(50)]
    wait_until(lambda: len(gate._queue) == 49)
    assert service.came == []
    crowd.clock.advance(1.0)
    wait_until(lambda: len(service.came) == 1 and len(gate._queue) == 49)
    service.room = 50
    until_done(crowd.clock, asked)
    assert sorted(future.result() for future in asked) == sorted(map(str, range(50)))
    assert len(service.came) == 51
    assert service.most_at_once == 1
    assert not gate.is_narrow


def test_who_had_to_wait_looks_before_he_sends(crowd: Crowd) -> None:
    service, gate = Service(room=9), narrow(crowd.clock)
    asked = [crowd.ask(service, gate, str(n)) for n in range(5)]
    until_done(crowd.clock, asked)
    assert sorted(service.read_back) == sorted(service.came) == sorted(map(str, range(5)))
    ask(service, gate, "late", crowd.deadline())
    assert service.came[-1] == "late"
    assert "late" not in service.read_back


def test_who_finds_when_his_turn_comes_that_it_is_done_sends_nothing() -> None:
    clock = JumpingClock()
    gate, service = narrow(clock), Service(room=1)
    answer = certainly(
        "Ironic",
        "asking",
        service.asked_by("a"),
        deadline=Deadline(60.0, clock=clock),
        kind=Kind.WRITE,
        read_back=lambda _failed: "done by another",
        gate=gate,
    )
    assert (answer, service.came) == ("done by another", [])


def test_who_gives_up_before_his_turn_leaves_the_others_theirs(crowd: Crowd) -> None:
    service, gate = Service(room=9), narrow(crowd.clock)
    first = crowd.ask(service, gate, "first")
    wait_until(lambda: gate._first is not None)
    others = [crowd.ask(service, gate, str(n)) for n in range(3)]
    wait_until(lambda: len(gate._queue) == 3)
    crowd.cancellations[0].cancel()
    with pytest.raises(OperationCancelled):
        first.result(LONG_S)
    until_done(crowd.clock, others)
    assert sorted(service.came) == ["0", "1", "2"]


def test_a_turn_that_does_not_come_in_time_is_an_error_that_says_for_what_was_waited(crowd: Crowd) -> None:
    gate = narrow(crowd.clock)
    crowd.ask(Service(), gate, "first")
    wait_until(lambda: gate._first is not None)
    second = crowd.ask(Service(), gate, "second", 5.0)
    wait_until(lambda: len(gate._queue) == 1)
    crowd.clock.advance(5.0)
    with pytest.raises(OperationTimedOut, match=f"asking for a deploy.*{NO_ROOM}"):
        second.result(LONG_S)
    wait_until(lambda: len(gate._queue) == 0)


def test_a_service_that_is_away_is_not_waited_for_at_the_gate(crowd: Crowd) -> None:
    gate = narrow(crowd.clock)

    def away(_timeout_s: float) -> str:
        raise RequestFailure(Failure.UNREACHED, "refused")

    def ask_it() -> str:
        return certainly(
            "Ironic",
            "asking",
            away,
            deadline=crowd.deadline(outage_s=12.0),
            kind=Kind.WRITE,
            read_back=lambda _failed: None,
            gate=gate,
        )

    asked = [crowd.pool.submit(ask_it) for _ in range(20)]
    until_done(crowd.clock, asked)
    for future in asked:
        assert isinstance(future.exception(), ServiceUnavailable)
    assert not gate.is_narrow


def test_a_refusal_of_another_kind_lets_the_next_come_without_a_pause() -> None:
    clock, gate = JumpingClock(), Gate()
    for failure in (no_room(), RequestFailure(Failure.CONFLICT, "locked", status=409)):
        with pytest.raises(RequestFailure), gate.turn(Deadline(LONG_S, clock=clock), "asking"):
            raise failure
    assert not gate.is_narrow
    assert ask(Service(room=1), gate, "a", Deadline(60.0, clock=clock)) == "a"


@pytest.mark.parametrize(
    ("status", "request_id", "is_no_room"), [(503, "req-1", True), (503, None, False), (429, None, True)]
)
def test_only_the_services_own_word_says_that_it_has_no_room(
    status: int, request_id: str | None, is_no_room: bool
) -> None:
    failure = RequestFailure(Failure.OVERLOADED, "busy", status=status, request_id=request_id)
    assert failure.is_no_room is is_no_room


def test_an_error_in_somebodys_turn_is_his_alone() -> None:
    clock, gate = JumpingClock(), Gate()
    for failure in (no_room(), BloomeryError("the node was taken away")):
        with pytest.raises((RequestFailure, BloomeryError)), gate.turn(Deadline(LONG_S, clock=clock), "asking"):
            raise failure
    assert gate.is_narrow
    assert ask(Service(room=1), gate, "a", Deadline(60.0, clock=clock)) == "a"
    assert not gate.is_narrow
