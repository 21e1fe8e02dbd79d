"""The janitor works in a thread of its own, at a bounded rate, and stops when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bloomery.errors import InvalidRequest, OperationCancelled
from bloomery.janitor import Habits, Pace, Pass
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.clock import JumpingClock
from janitor.leaking import everything
from janitor.test_rules import a_left_mark, a_plugged_vif, broken_off
from unwind.scenarios import World, a_world

FAST = Habits(every_s=0.01, requests_per_s=10_000)
TIMEOUT_S = 60.0


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


class Passes:
    """What a janitor has told, to be waited for."""

    def __init__(self) -> None:
        self.done: list[Pass] = []
        self._news = threading.Condition()

    def __call__(self, done: Pass) -> None:
        with self._news:
            self.done.append(done)
            self._news.notify_all()

    def await_more(self, count: int = 1) -> None:
        """So many more passes than now have ended."""
        with self._news:
            wanted = len(self.done) + count
            assert self._news.wait_for(lambda: len(self.done) >= wanted, TIMEOUT_S)


def test_it_cleans_what_comes_while_it_works(world: World) -> None:
    passes = Passes()
    with world.api().janitor(FAST, on_pass=passes) as janitor:
        passes.await_more()
        broken_off(world)
        passes.await_more(3)
        assert world.ironic.node(world.node)["extra"] == {"theirs": 1}
    assert janitor.mended >= 1
    assert all(outcome.problem is None for done in passes.done for outcome in done.outcomes)


def test_an_outage_is_told_and_the_next_pass_goes_on(world: World) -> None:
    passes = Passes()
    patience = replace(FAST.patience, before_change_s=0.1, first_pause_s=0.01)
    with world.api().janitor(replace(FAST, patience=patience), on_pass=passes):
        with world.ironic.unreachable():
            passes.await_more(2)
            assert passes.done[-1].problem is not None
        a_left_mark(world)
        passes.await_more(3)
    assert world.ironic.node(world.node)["extra"] == {"theirs": 1}


def test_no_request_is_sent_once_it_is_stopped(world: World) -> None:
    broken_off(world)
    reached, stopped = threading.Event(), threading.Event()

    def hold(request: RecordedRequest) -> None:
        if request.is_write and not reached.is_set():
            reached.set()
            stopped.wait(TIMEOUT_S)

    world.ironic.on_request = hold
    janitor = world.api().janitor(FAST)
    janitor.start()
    assert reached.wait(TIMEOUT_S)
    janitor.stop(timeout_s=0.0)
    sent = len(world.ironic.requests), len(world.neutron.requests)
    stopped.set()
    janitor.stop(timeout_s=TIMEOUT_S)
    assert janitor._thread is not None
    assert not janitor._thread.is_alive()
    assert (len(world.ironic.requests), len(world.neutron.requests)) == sent
    world.ironic.on_request = None
    world.api().janitor(FAST).work_once()
    assert world.ironic.node(world.node)["instance_uuid"] is None, "what was broken off is found again"


def test_no_request_is_sent_while_it_is_paused(world: World) -> None:
    passes = Passes()
    with world.api().janitor(FAST, on_pass=passes) as janitor:
        passes.await_more()
        janitor.pause()
        assert janitor.is_paused
        world.ironic.wait_until_idle()
        sent = len(world.ironic.requests)
        a_left_mark(world)
        before = everything(world)
        assert len(world.ironic.requests) - sent <= 2, "the test's own, and one that was on its way"
        assert everything(world) == before
        janitor.go_on()
        passes.await_more(3)
    assert world.ironic.node(world.node)["extra"] == {"theirs": 1}


def test_it_stops_while_it_is_paused_and_while_it_waits(world: World) -> None:
    for pause in (True, False):
        janitor = world.api().janitor(replace(FAST, every_s=3600))
        janitor.start()
        if pause:
            janitor.pause()
        janitor.stop(timeout_s=TIMEOUT_S)
        assert janitor._thread is not None
        assert not janitor._thread.is_alive()


def test_a_look_can_be_had_before_its_time(world: World) -> None:
    passes = Passes()
    with world.api().janitor(replace(FAST, every_s=3600), on_pass=passes) as janitor:
        passes.await_more()
        a_plugged_vif(world)
        janitor.look_now()
        passes.await_more()
    assert [port["name"] for port in world.neutron.ports()] == ["given"]


def test_several_repairs_may_be_under_way(world: World) -> None:
    nodes = [world.ironic.add_node(name=f"more-{number}") for number in range(6)]
    for node in nodes:
        world.ironic.set(node, extra={"bloomery": {"instance_uuid": node, "name": node}})
    done = world.api().janitor(replace(FAST, at_once=3)).work_once()
    assert done.mended == 6
    assert all(world.ironic.node(node)["extra"] == {} for node in nodes)


def test_requests_come_at_a_bounded_rate() -> None:
    clock = JumpingClock()
    pace = Pace(4.0, clock)
    began = clock.monotonic()
    for _ in range(41):
        pace.step()
    assert clock.monotonic() - began == pytest.approx(10.0)
    clock.now_s += 100
    pace.step()
    pace.step()
    assert clock.monotonic() - began == pytest.approx(110.25), "time without requests is not saved up"


def test_a_closed_pace_lets_nothing_pass() -> None:
    pace = Pace(1000.0)
    pace.hold()
    pace.close()
    with pytest.raises(OperationCancelled):
        pace.step()


def test_every_request_of_the_janitor_is_counted(world: World) -> None:
    broken_off(world)
    janitor = world.api().janitor(FAST)
    steps = 0
    step = janitor._pace.step

    def count() -> None:
        nonlocal steps
        steps += 1
        step()

    sent = len(world.ironic.requests) + len(world.neutron.requests)
    janitor._pace.step = count  # type: ignore[method-assign]
    janitor.work_once()
    assert len(world.ironic.requests) + len(world.neutron.requests) - sent == steps


def test_a_failed_repair_is_told_and_tried_again(world: World) -> None:
    a_plugged_vif(world)

    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=403) if request.method == "DELETE" else None

    world.neutron.on_request = refuse
    janitor = world.api().janitor(FAST)
    (outcome,) = janitor.work_once().outcomes
    assert not outcome.is_gone
    assert outcome.problem is not None
    world.neutron.on_request = None
    assert janitor.work_once().mended == 1


@pytest.mark.parametrize("habit", ["every_s", "requests_per_s", "at_once", "repair_timeout_s"])
def test_impossible_habits_are_refused_by_name(habit: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{habit} 0"):
        Habits(**{habit: 0})  # type: ignore[arg-type]


def test_a_janitor_is_started_once(world: World) -> None:
    with world.api().janitor(FAST) as janitor, pytest.raises(InvalidRequest, match="started before"):
        janitor.start()


def test_it_does_not_look_while_it_may_not(world: World) -> None:
    passes = Passes()
    asked = threading.Event()
    allowed: list[bool] = []

    def may_look() -> bool:
        if len(allowed) < 3:
            allowed.append(False)
            return False
        asked.set()
        return True

    before = len(world.ironic.requests)
    with world.api().janitor(FAST, on_pass=passes, may_look=may_look):
        assert asked.wait(TIMEOUT_S)
        passes.await_more()
    assert allowed == [False] * 3
    assert len(world.ironic.requests) > before


def test_a_bug_in_one_look_does_not_end_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    passes = Passes()
    bugs: list[Pass] = []

    def on_pass(done: Pass) -> None:
        if not bugs:
            bugs.append(done)
            raise ZeroDivisionError("a bug of whoever was told")
        passes(done)

    with world.api().janitor(FAST, on_pass=on_pass):
        passes.await_more(2)
    assert "met a bug" in caplog.text


def test_its_first_look_may_be_put_off_and_had_earlier_all_the_same(world: World) -> None:
    passes = Passes()
    janitor = world.api().janitor(FAST, on_pass=passes)
    janitor.start(after_s=TIMEOUT_S * 60)
    try:
        assert passes.done == []
        janitor.look_now()
        passes.await_more()
    finally:
        janitor.stop()
