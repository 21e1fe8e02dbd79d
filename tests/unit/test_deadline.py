"""A deadline ends an operation in time, and a cancellation ends it before."""

from __future__ import annotations

import threading

import pytest

from bloomery import engine
from bloomery.deadline import Cancellation, Deadline, LeftUnderWay, SystemClock
from bloomery.errors import OperationCancelled, OperationTimedOut
from bloomery.testing.clock import HandClock, JumpingClock


def test_time_is_counted_from_the_start_and_never_below_zero() -> None:
    clock = JumpingClock()
    deadline = Deadline(10.0, clock=clock)
    clock.now_s += 4.0
    assert (deadline.elapsed_s, deadline.remaining_s) == (4.0, 6.0)
    clock.now_s += 40.0
    assert (deadline.elapsed_s, deadline.remaining_s) == (44.0, 0.0)


def test_a_check_passes_until_the_deadline_and_fails_from_then_on() -> None:
    clock = JumpingClock()
    deadline = Deadline(10.0, clock=clock)
    clock.now_s += 9.9
    deadline.check("waiting for rain")
    clock.now_s += 0.1
    with pytest.raises(OperationTimedOut, match=r"not finished within 10 s: still waiting for rain"):
        deadline.check("waiting for rain")


def test_a_check_fails_as_soon_as_somebody_has_cancelled() -> None:
    cancellation = Cancellation()
    deadline = Deadline(10.0, cancellation=cancellation)
    deadline.check("waiting")
    cancellation.cancel()
    with pytest.raises(OperationCancelled, match="cancelled while waiting"):
        deadline.check("waiting")


def test_a_cancellation_counts_even_after_the_deadline() -> None:
    clock, cancellation = JumpingClock(), Cancellation()
    deadline = Deadline(1.0, cancellation=cancellation, clock=clock)
    cancellation.cancel()
    clock.now_s += 2.0
    with pytest.raises(OperationCancelled):
        deadline.check("waiting")


def test_a_pause_lets_its_time_pass() -> None:
    clock = JumpingClock()
    Deadline(10.0, clock=clock).pause(3.0, "waiting")
    assert clock.waits_s == [3.0]


def test_a_pause_ends_with_the_deadline() -> None:
    clock = JumpingClock()
    deadline = Deadline(10.0, clock=clock)
    with pytest.raises(OperationTimedOut):
        deadline.pause(30.0, "waiting")
    assert clock.waits_s == [10.0]


def test_a_cancellation_ends_a_pause_at_once() -> None:
    cancellation, clock = Cancellation(), HandClock()
    deadline = Deadline(3600.0, cancellation=cancellation, clock=clock)
    threading.Timer(0.01, cancellation.cancel).start()
    with pytest.raises(OperationCancelled):
        deadline.pause(3600.0, "waiting")


def test_an_outage_is_borne_until_the_deadline_unless_said_otherwise() -> None:
    assert Deadline(10.0).outage_s == 10.0
    assert Deadline(10.0, outage_s=0.0).outage_s == 0.0


def test_a_shorter_deadline_never_outlasts_the_one_it_comes_from() -> None:
    clock, cancellation = JumpingClock(), Cancellation()
    whole = Deadline(10.0, outage_s=5.0, cancellation=cancellation, clock=clock)
    clock.now_s += 7.0
    assert whole.shorter(100.0).remaining_s == 3.0
    part = whole.shorter(1.0)
    assert (part.remaining_s, part.outage_s, part.clock) == (1.0, 5.0, clock)
    cancellation.cancel()
    with pytest.raises(OperationCancelled):
        part.check("working")


def test_an_impatient_deadline_ends_at_the_same_time_and_bears_less() -> None:
    clock = JumpingClock()
    whole = Deadline(10.0, outage_s=5.0, clock=clock)
    clock.now_s += 7.0
    assert (whole.impatient(2.0).remaining_s, whole.impatient(2.0).outage_s) == (3.0, 2.0)
    assert whole.impatient(100.0).outage_s == 5.0


def test_a_cancellation_rouses_whoever_listens_and_nobody_who_has_left() -> None:
    cancellation = Cancellation()
    here, gone, late = threading.Event(), threading.Event(), threading.Event()
    with cancellation.rouses(gone):
        pass
    with cancellation.rouses(here):
        cancellation.cancel()
    with cancellation.rouses(late):
        assert late.is_set()
    assert (here.is_set(), gone.is_set(), cancellation.is_cancelled) == (True, False, True)


def test_the_systems_clock_goes_on_and_wakes_for_a_signal() -> None:
    clock, signal = SystemClock(), threading.Event()
    before = clock.monotonic()
    assert clock.wait(signal, 0.0) is False
    assert clock.wait(signal, -1.0) is False
    signal.set()
    assert clock.wait(signal, 3600.0) is True
    assert clock.monotonic() >= before


def test_whoever_is_told_to_leave_goes_and_undoes_nothing() -> None:
    cancellation = Cancellation()
    undone: list[str] = []
    deadline = Deadline(10.0, cancellation=cancellation)

    def wait(_context: None) -> None:
        cancellation.leave()
        deadline.pause(10.0, "waiting")

    steps: list[engine.Step[None]] = [engine.Step("wait", wait, undo=lambda _context: undone.append("wait"))]
    with pytest.raises(LeftUnderWay, match="waiting"):
        engine.run("test", steps, None, engine.Observer())
    assert undone == []
    assert not issubclass(LeftUnderWay, Exception), "nobody on the way up takes it for a failure"


def test_a_wait_is_woken_by_a_leave() -> None:
    cancellation = Cancellation()
    deadline = Deadline(60.0, cancellation=cancellation)
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(LeftUnderWay):
            deadline.pause(60.0, "waiting")
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    cancellation.leave()
    assert ended.wait(30.0)
    thread.join()
