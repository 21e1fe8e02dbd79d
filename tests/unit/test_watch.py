"""One place waits for everybody: few requests, no wait that outlasts its reason, and none that misses its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from bloomery.deadline import Cancellation, Deadline
from bloomery.errors import NodeTakenAway, OperationCancelled, OperationTimedOut, ServiceUnavailable
from bloomery.ironic import Ironic, Node
from bloomery.states import WHILE_DEPLOYING, Meaning
from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from bloomery.testing.clock import HandClock, JumpingClock
from bloomery.testing.gateways import ironic_at
from bloomery.watch import LINGER_S, NARROW_PAGE, TOLD_S, UNSEEN_S, Watch

LONG_S = 60.0
SHORT_S = 0.01
INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def simulator() -> Iterator[IronicSimulator]:
    with IronicSimulator() as it:
        yield it


@pytest.fixture
def ironic(simulator: IronicSimulator) -> Ironic:
    return ironic_at(simulator.url)


class Crew(ThreadPoolExecutor):
    """Threads that wait; whoever still does when a test is over is called back."""

    def __init__(self) -> None:
        super().__init__(64)
        self._cancellations: list[Cancellation] = []

    def wait(self, watch: Watch, node: str | Node, deadline: Deadline) -> Future[tuple[Node, Meaning]]:
        """One of them waits for the deploy of the node."""
        self._cancellations.append(deadline.cancellation)
        node = Node(uuid=node) if isinstance(node, str) else node
        return self.submit(watch.wait_for_state, node, WHILE_DEPLOYING, deadline=deadline, doing="deploying")

    def call_back(self) -> None:
        for cancellation in self._cancellations:
            cancellation.cancel()


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew() as it:
        yield it
        it.call_back()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class PausingClock(HandClock):
    """Stands still while the watcher looks, however long a busy machine takes for that; and tells of its pauses.

    Attributes:
        pauses_s: how long each pause was to be, in order.
    """

    LONGEST_S = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.pauses_s: list[float] = [0.0]
        self._ends_s = 0.0

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        if timeout_s <= self.LONGEST_S:  # whoever waits for the node waits for hours
            self.pauses_s.append(timeout_s)
            self._ends_s = self.monotonic() + timeout_s
        return super().wait(signal, timeout_s)

    def end_pause(self) -> None:
        """The pause is over; if one is already, no time passes."""
        self.advance(max(0.0, self._ends_s - self.monotonic()))


def quick(ironic: Ironic) -> Watch:
    return Watch(ironic, shortest_s=SHORT_S, longest_s=SHORT_S)


def deploying(simulator: IronicSimulator, **fields: object) -> str:
    """A node that is being deployed and stays so, until the test says otherwise."""
    return simulator.add_node(provision_state="wait call-back", **{"instance_uuid": None, **fields})  # type: ignore[arg-type]


def deployed(simulator: IronicSimulator, *nodes: str) -> None:
    for node in nodes:
        simulator.set(node, provision_state="active", target_provision_state=None)


def changed_long_ago(simulator: IronicSimulator, *nodes: str) -> None:
    """The first of the nodes was changed before all others."""
    world = simulator.snapshot()
    for year, node in enumerate(nodes, 1900):
        world.nodes[node]["updated_at"] = f"{year}-01-01T00:00:00.000000+00:00"
    simulator.restore(world)


def until(fact: Callable[[], bool], *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """The fact has come true."""
    tick = threading.Event()
    for _ in range(4000):
        if fact():
            return
        meanwhile()
        tick.wait(0.005)
    raise AssertionError("it never came true")


def all_seen(watch: Watch, count: int) -> bool:
    """So many wait, and each has seen its node."""
    waiters = list(watch._waiters)
    return len(waiters) == count and all(waiter.node is not None for waiter in waiters)


def lists(simulator: IronicSimulator) -> list[RecordedRequest]:
    return [request for request in simulator.requests if request.path == "/v1/nodes"]


def looks_at(simulator: IronicSimulator, node_uuid: str) -> int:
    return sum(request.path == f"/v1/nodes/{node_uuid}" for request in simulator.requests)


# What ends a wait


def test_a_node_that_is_there_already_ends_the_wait_with_the_first_look(
    simulator: IronicSimulator, ironic: Ironic
) -> None:
    node_uuid = simulator.add_node(provision_state="active")
    node, meaning = quick(ironic).wait_for_state(
        Node(uuid=node_uuid), WHILE_DEPLOYING, deadline=Deadline(LONG_S), doing="deploying"
    )
    assert (node.uuid, node.provision_state, meaning) == (node_uuid, "active", Meaning.DONE)
    assert looks_at(simulator, node_uuid) == 1


@pytest.mark.parametrize(
    ("state", "meaning"),
    [("active", Meaning.DONE), ("deploy failed", Meaning.FAILED), ("deleting", Meaning.TAKEN_AWAY)],
)
def test_a_wait_ends_when_the_node_gets_there(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, state: str, meaning: Meaning
) -> None:
    node_uuid = deploying(simulator)
    wait = crew.wait(quick(ironic), node_uuid, Deadline(LONG_S))
    until(lambda: looks_at(simulator, node_uuid) > 2)
    assert not wait.done()
    simulator.set(node_uuid, provision_state=state)
    assert wait.result()[1] is meaning


def test_every_look_is_told_in_the_thread_that_waits(simulator: IronicSimulator, ironic: Ironic) -> None:
    node_uuid = deploying(simulator)
    seen: list[tuple[str | None, int]] = []

    def on_look(node: Node) -> None:
        seen.append((node.provision_state, threading.get_ident()))
        deployed(simulator, node_uuid)

    quick(ironic).wait_for_state(
        Node(uuid=node_uuid), WHILE_DEPLOYING, deadline=Deadline(LONG_S), doing="deploying", on_look=on_look
    )
    assert next(state for state, _ in seen) == "wait call-back"
    assert [state for state, _ in seen][-1] == "active"
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_what_a_listener_raises_ends_the_wait_of_its_own_caller_only(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew
) -> None:
    def breaks(_node: Node) -> None:
        raise ZeroDivisionError

    watch = quick(ironic)
    first, second = deploying(simulator), deploying(simulator)
    other = crew.wait(watch, second, Deadline(LONG_S))
    with pytest.raises(ZeroDivisionError):
        watch.wait(first, lambda _node: Meaning.WAIT, deadline=Deadline(LONG_S), doing="waiting", on_look=breaks)
    deployed(simulator, second)
    assert other.result()[1] is Meaning.DONE


def test_a_node_that_comes_to_carry_another_instance_was_taken_away(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew
) -> None:
    node_uuid = deploying(simulator, instance_uuid=INSTANCE)
    node = Node(uuid=node_uuid, instance_uuid=INSTANCE)
    wait = crew.wait(quick(ironic), node, Deadline(LONG_S))
    until(lambda: looks_at(simulator, node_uuid) > 0)
    simulator.set(node_uuid, instance_uuid=OTHER)
    assert wait.result()[1] is Meaning.TAKEN_AWAY


def test_a_node_that_was_deleted_was_taken_away(simulator: IronicSimulator, ironic: Ironic, crew: Crew) -> None:
    node_uuid = deploying(simulator, maintenance=True)
    wait = crew.wait(quick(ironic), node_uuid, Deadline(LONG_S))
    until(lambda: looks_at(simulator, node_uuid) > 0)
    ironic.transport.request("DELETE", f"/nodes/{node_uuid}", timeout_s=LONG_S)
    with pytest.raises(NodeTakenAway, match="was deleted"):
        wait.result()


def test_a_state_that_nobody_knows_is_waited_through_with_one_warning(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    node_uuid = deploying(simulator)
    simulator.set(node_uuid, provision_state="teleporting")
    with caplog.at_level(logging.WARNING, "bloomery.watch"):
        wait = crew.wait(quick(ironic), node_uuid, Deadline(LONG_S))
        until(lambda: looks_at(simulator, node_uuid) > 4)
        assert not wait.done()
        deployed(simulator, node_uuid)
        assert wait.result()[1] is Meaning.DONE
    assert caplog.text.count("teleporting") == 1


# Deadlines, cancellations, outages


def test_a_deadline_ends_the_wait_and_tells_what_was_seen_last(simulator: IronicSimulator, ironic: Ironic) -> None:
    node_uuid = deploying(
        simulator,
        deploy_step={"interface": "deploy", "step": "write_image", "priority": 80},
        last_error="the agent is slow",
    )
    with pytest.raises(OperationTimedOut) as late:
        quick(ironic).wait_for_state(
            Node(uuid=node_uuid), WHILE_DEPLOYING, deadline=Deadline(0.2), doing="deploying node n1"
        )
    assert late.value.node_uuid == node_uuid
    for words in (
        "not finished within 0.2 s",
        "deploying node n1",
        "wait call-back",
        "write_image",
        "the agent is slow",
    ):
        assert words in str(late.value)


def test_a_cancellation_ends_the_wait_though_no_time_passes(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    node_uuid = deploying(simulator)
    cancellation = Cancellation()
    wait = crew.wait(Watch(ironic, clock=clock), node_uuid, Deadline(LONG_S, cancellation=cancellation, clock=clock))
    until(lambda: looks_at(simulator, node_uuid) > 0)
    assert not wait.done()
    cancellation.cancel()
    with pytest.raises(OperationCancelled):
        wait.result()


def test_what_was_cancelled_before_is_not_waited_for(simulator: IronicSimulator, ironic: Ironic) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(OperationCancelled):
        quick(ironic).wait_for_state(
            Node(uuid=deploying(simulator)),
            WHILE_DEPLOYING,
            deadline=Deadline(LONG_S, cancellation=cancellation),
            doing="deploying",
        )


def test_an_outage_that_is_shorter_than_borne_is_waited_through(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    node_uuid = deploying(simulator)
    with caplog.at_level(logging.INFO, "bloomery.watch"):
        wait = crew.wait(quick(ironic), node_uuid, Deadline(LONG_S, outage_s=LONG_S))
        until(lambda: looks_at(simulator, node_uuid) > 0)
        with simulator.unreachable():
            until(lambda: caplog.text.count("could not look") > 2)
            deployed(simulator, node_uuid)
        assert wait.result()[1] is Meaning.DONE


def test_an_outage_that_is_longer_than_borne_ends_the_wait_of_those_who_bear_no_more(
    simulator: IronicSimulator,
    ironic: Ironic,
    crew: Crew,
    clock: HandClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node_uuid = deploying(simulator)
    watch = Watch(ironic, clock=clock)
    with caplog.at_level(logging.INFO, "bloomery.watch"):
        patient = crew.wait(watch, node_uuid, Deadline(3600.0, outage_s=900.0, clock=clock))
        impatient = crew.wait(watch, node_uuid, Deadline(3600.0, outage_s=12.0, clock=clock))
        until(lambda: looks_at(simulator, node_uuid) > 0)
        with simulator.unreachable():
            until(impatient.done, meanwhile=lambda: clock.advance(1.0))
            assert not patient.done()
            with pytest.raises(ServiceUnavailable):
                impatient.result()
            deployed(simulator, node_uuid)
        until(patient.done, meanwhile=lambda: clock.advance(0.1))
    assert patient.result()[1] is Meaning.DONE


def test_an_outage_that_ends_is_forgotten(simulator: IronicSimulator, ironic: Ironic, crew: Crew) -> None:
    node_uuid, clock = deploying(simulator), PausingClock()
    away = threading.Event()
    simulator.on_request = lambda _request: Fault(FaultKind.STATUS, 503) if away.is_set() else None
    watch = Watch(ironic, shortest_s=3.0, longest_s=3.0, clock=clock)
    wait = crew.wait(watch, node_uuid, Deadline(3600.0, outage_s=12.0, clock=clock))

    def two_more_looks() -> None:
        seen = looks_at(simulator, node_uuid)
        until(lambda: looks_at(simulator, node_uuid) > seen + 1, meanwhile=clock.end_pause)

    for _ in range(4):
        away.set()
        two_more_looks()
        away.clear()
        two_more_looks()
    assert not wait.done()
    deployed(simulator, node_uuid)
    until(wait.done, meanwhile=lambda: clock.advance(1.0))
    assert wait.result()[1] is Meaning.DONE


def test_a_service_that_was_never_seen_is_said_to_be_away(simulator: IronicSimulator, ironic: Ironic) -> None:
    node_uuid = deploying(simulator)
    with simulator.unreachable(), pytest.raises((ServiceUnavailable, OperationTimedOut), match="cannot be reached"):
        quick(ironic).wait_for_state(Node(uuid=node_uuid), WHILE_DEPLOYING, deadline=Deadline(0.3), doing="deploying")


# Many who wait


def test_few_nodes_are_looked_at_one_by_one(simulator: IronicSimulator, ironic: Ironic, crew: Crew) -> None:
    nodes = [deploying(simulator) for _ in range(3)]
    watch = quick(ironic)
    waits = [crew.wait(watch, node, Deadline(LONG_S)) for node in nodes]
    until(lambda: all(looks_at(simulator, node) > 3 for node in nodes))
    deployed(simulator, *nodes)
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}
    assert lists(simulator) == []


def test_many_waiters_share_one_list(simulator: IronicSimulator, ironic: Ironic, crew: Crew) -> None:
    nodes = [deploying(simulator) for _ in range(40)]
    watch = quick(ironic)
    waits = [crew.wait(watch, node, Deadline(LONG_S)) for node in nodes]
    until(lambda: len(lists(simulator)) > 20)
    singly = sum(looks_at(simulator, node) for node in nodes)
    assert singly <= len(nodes)
    deployed(simulator, *nodes)
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}
    rows = [request.query["limit"] for request in lists(simulator)]
    assert max(map(int, rows)) <= 2 * len(nodes)


def test_waiters_for_one_node_share_its_looks(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    node_uuid = deploying(simulator)
    watch = Watch(ironic, clock=clock)
    waits = [crew.wait(watch, node_uuid, Deadline(LONG_S, clock=clock)) for _ in range(20)]
    until(lambda: len(watch._waiters) == 20)
    before = looks_at(simulator, node_uuid)
    until(lambda: looks_at(simulator, node_uuid) > before + 3, meanwhile=lambda: clock.advance(0.5))
    deployed(simulator, node_uuid)
    until(lambda: all(wait.done() for wait in waits), meanwhile=lambda: clock.advance(0.5))
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}
    assert lists(simulator) == []


def test_a_change_is_seen_in_a_fleet_where_much_else_changes(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew
) -> None:
    others = [simulator.add_node() for _ in range(60)]
    nodes = [deploying(simulator) for _ in range(5)]
    watch = quick(ironic)
    waits = [crew.wait(watch, node, Deadline(LONG_S)) for node in nodes]
    until(lambda: len(lists(simulator)) > 2)
    deployed(simulator, *nodes)
    for node in others:
        simulator.set(node, extra={"changed": "after it"})
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}


def test_a_node_that_was_done_before_anybody_waited_is_seen_soon_among_many(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    done = simulator.add_node(provision_state="active")
    changed_long_ago(simulator, done, *(simulator.add_node() for _ in range(60)))
    watch = Watch(ironic, clock=clock)
    others = [deploying(simulator) for _ in range(5)]
    waits = [crew.wait(watch, node, Deadline(LONG_S, clock=clock)) for node in others]
    until(lambda: len(lists(simulator)) > 0, meanwhile=lambda: clock.advance(0.1))
    late = crew.wait(watch, done, Deadline(LONG_S, clock=clock))
    before_s = clock.monotonic()
    until(late.done, meanwhile=lambda: clock.advance(0.1))
    assert late.result()[1] is Meaning.DONE
    assert clock.monotonic() - before_s < UNSEEN_S
    deployed(simulator, *others)
    until(lambda: all(wait.done() for wait in waits), meanwhile=lambda: clock.advance(0.5))


def test_a_node_that_was_deleted_is_missed_among_many_too(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    doomed = deploying(simulator, maintenance=True)
    others = [deploying(simulator) for _ in range(5)]
    watch = Watch(ironic, clock=clock)
    waits = [crew.wait(watch, node, Deadline(3600.0, clock=clock)) for node in (doomed, *others)]
    until(lambda: len(watch._waiters) == 6)
    until(lambda: all(waiter.node is not None for waiter in watch._waiters), meanwhile=lambda: clock.advance(0.5))
    ironic.transport.request("DELETE", f"/nodes/{doomed}", timeout_s=LONG_S)
    until(waits[0].done, meanwhile=lambda: clock.advance(UNSEEN_S / 10))
    with pytest.raises(NodeTakenAway):
        waits[0].result()
    deployed(simulator, *others)
    until(lambda: all(wait.done() for wait in waits), meanwhile=lambda: clock.advance(0.5))


def test_what_stood_on_a_page_that_could_not_be_read_is_not_lost(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    nodes = [deploying(simulator) for _ in range(4)]
    others = [simulator.add_node() for _ in range(60)]
    watch = Watch(ironic, clock=clock)
    waits = [crew.wait(watch, node, Deadline(3600.0, clock=clock)) for node in nodes]
    until(
        lambda: all(waiter.node is not None for waiter in watch._waiters) and len(watch._waiters) == 4,
        meanwhile=lambda: clock.advance(0.1),
    )
    broken = iter([True])
    seen_broken = threading.Event()

    def break_one_second_page(request: RecordedRequest) -> Fault | None:
        if "marker" in request.query and next(broken, False):
            seen_broken.set()
            return Fault(FaultKind.STATUS, 503)
        return None

    simulator.on_request = break_one_second_page
    deployed(simulator, *nodes)
    for node in others:
        simulator.set(node, extra={"changed": "after it"})
    until(seen_broken.is_set, meanwhile=lambda: clock.advance(0.3))
    before_s = clock.monotonic()
    until(lambda: all(wait.done() for wait in waits), meanwhile=lambda: clock.advance(0.05))
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}
    assert clock.monotonic() - before_s < UNSEEN_S


def test_a_look_at_one_node_that_fails_hides_no_change_of_another(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    nodes = [deploying(simulator) for _ in range(6)]
    watch = Watch(ironic, clock=clock)
    waits = [crew.wait(watch, node, Deadline(3600.0, clock=clock)) for node in nodes]
    until(
        lambda: all(waiter.node is not None for waiter in watch._waiters) and len(watch._waiters) == 6,
        meanwhile=lambda: clock.advance(0.1),
    )
    hidden = simulator.add_node(provision_state="active")
    changed_long_ago(simulator, hidden, *(simulator.add_node() for _ in range(60)))
    for _ in range(3):  # until all the others are no news any more
        asked = len(lists(simulator))
        until(lambda: len(lists(simulator)) > asked, meanwhile=lambda: clock.advance(1.0))  # noqa: B023  called at once
    assert lists(simulator)[-1].query["limit"] == str(NARROW_PAGE)
    simulator.on_request = lambda request: Fault(FaultKind.STATUS, 503) if hidden in request.path else None
    late = crew.wait(watch, hidden, Deadline(3600.0, clock=clock))
    until(lambda: looks_at(simulator, hidden) > 0, meanwhile=lambda: clock.advance(0.1))
    deployed(simulator, *nodes)
    before_s = clock.monotonic()
    until(lambda: all(wait.done() for wait in waits), meanwhile=lambda: clock.advance(0.05))
    assert clock.monotonic() - before_s < UNSEEN_S
    assert not late.done()
    simulator.on_request = None
    until(late.done, meanwhile=lambda: clock.advance(0.5))
    assert late.result()[1] is Meaning.DONE


# Who is told of changes


def test_a_change_that_is_heard_of_is_looked_at_at_once(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    nodes = [deploying(simulator) for _ in range(10)]
    watch = Watch(ironic, clock=clock)
    waits = [crew.wait(watch, node, Deadline(3600.0, clock=clock)) for node in nodes]
    until(lambda: all_seen(watch, 10), meanwhile=lambda: clock.advance(0.1))
    stands_s = clock.monotonic()
    for node in nodes:
        deployed(simulator, node)
        watch.heard(node, "active")
    until(lambda: all(wait.done() for wait in waits))
    assert {wait.result()[1] for wait in waits} == {Meaning.DONE}
    assert clock.monotonic() == stands_s


def test_what_is_heard_of_nodes_that_nobody_waits_for_or_of_states_that_end_no_wait_costs_nothing(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    node_uuid, other = deploying(simulator), simulator.add_node()
    watch = Watch(ironic, clock=clock)
    asked = len(simulator.requests)
    watch.heard(node_uuid, "active")
    assert len(simulator.requests) == asked
    wait = crew.wait(watch, node_uuid, Deadline(3600.0, clock=clock))
    until(lambda: all_seen(watch, 1))
    before = len(simulator.requests)
    for state in ("deploying", "wait call-back", "a state of tomorrow"):
        watch.heard(node_uuid, state)
    watch.heard(other, "active")
    deployed(simulator, node_uuid)
    watch.heard(node_uuid, "active")
    wait.result()
    assert len(simulator.requests) == before + 1


def test_what_is_heard_too_early_or_wrongly_is_only_a_look(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew, clock: HandClock
) -> None:
    node_uuid = deploying(simulator)
    watch = Watch(ironic, clock=clock)
    wait = crew.wait(watch, node_uuid, Deadline(3600.0, clock=clock))
    until(lambda: all_seen(watch, 1))
    before = looks_at(simulator, node_uuid)
    watch.heard(node_uuid, "active")
    until(lambda: looks_at(simulator, node_uuid) > before)
    assert not wait.done()
    deployed(simulator, node_uuid)
    until(wait.done, meanwhile=lambda: clock.advance(0.1))
    assert wait.result()[1] is Meaning.DONE


def test_a_change_that_nobody_told_is_found_by_the_next_look_and_looks_come_fast_again(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew
) -> None:
    told, untold, power = deploying(simulator), deploying(simulator), deploying(simulator)
    clock = PausingClock()
    watch = Watch(ironic, shortest_s=0.5, longest_s=clock.LONGEST_S, clock=clock)
    waits = [crew.wait(watch, node, Deadline(36000.0, clock=clock)) for node in (told, untold, power)]
    until(lambda: all_seen(watch, 3), meanwhile=clock.end_pause)
    deployed(simulator, told)
    watch.heard(told, "active")
    until(waits[0].done, meanwhile=clock.end_pause)
    until(lambda: clock.pauses_s[-1] == TOLD_S, meanwhile=clock.end_pause)
    deployed(simulator, untold)
    until(waits[1].done, meanwhile=clock.end_pause)
    assert waits[1].result()[1] is Meaning.DONE
    simulator.set(power, power_state="power on")
    until(lambda: clock.pauses_s[-1] == 0.5, meanwhile=clock.end_pause)
    deployed(simulator, power)
    until(waits[2].done, meanwhile=clock.end_pause)


# The thread


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bloomery-watch"]


def test_the_thread_ends_when_nobody_waits_and_another_takes_its_place(
    simulator: IronicSimulator, ironic: Ironic, clock: HandClock
) -> None:
    before = set(watchers())
    node_uuid = simulator.add_node(provision_state="active")
    watch = Watch(ironic, clock=clock)
    for _ in range(2):
        watch.wait_for_state(
            Node(uuid=node_uuid), WHILE_DEPLOYING, deadline=Deadline(LONG_S, clock=clock), doing="deploying"
        )
        assert len(set(watchers()) - before) == 1
        asked = len(simulator.requests)
        until(lambda: not set(watchers()) - before, meanwhile=lambda: clock.advance(LINGER_S))
        assert len(simulator.requests) <= asked + 1


def test_looks_come_slower_where_nothing_changes_and_fast_again_where_something_does(
    simulator: IronicSimulator, ironic: Ironic, crew: Crew
) -> None:
    node_uuid, clock = deploying(simulator), PausingClock()
    watch = Watch(ironic, shortest_s=0.5, longest_s=clock.LONGEST_S, clock=clock)
    wait = crew.wait(watch, node_uuid, Deadline(36000.0, clock=clock))

    def until_the_pause_is(pause_s: float) -> None:
        until(lambda: clock.pauses_s[-1] == pause_s, meanwhile=clock.end_pause)

    for power in ("power on", "power off"):
        until_the_pause_is(clock.LONGEST_S)
        del clock.pauses_s[:-1]
        until(lambda: len(clock.pauses_s) > 3, meanwhile=clock.end_pause)
        assert {*clock.pauses_s} == {clock.LONGEST_S}
        simulator.set(node_uuid, power_state=power)
        until_the_pause_is(0.5)
    deployed(simulator, node_uuid)
    until(wait.done, meanwhile=clock.end_pause)


# Polling


def test_polling_gives_what_is_seen_as_soon_as_something_is(ironic: Ironic) -> None:
    answers = iter([None, None, "there"])
    clock = JumpingClock()
    assert (
        Watch(ironic).poll(lambda: next(answers), deadline=Deadline(LONG_S, clock=clock), doing="allocating") == "there"
    )
    assert len(clock.waits_s) == 2


def test_polling_ends_with_the_deadline_and_slows_down(ironic: Ironic) -> None:
    clock = JumpingClock()
    watch = Watch(ironic, longest_s=2.0)
    with pytest.raises(OperationTimedOut, match="allocating"):
        watch.poll(lambda: None, deadline=Deadline(100.0, clock=clock), doing="allocating")
    assert clock.waits_s[0] < 1.0
    assert max(clock.waits_s) == 2.0
