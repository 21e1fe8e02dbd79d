"""Counts that must not grow unseen: the requests of a deploy, step by step, and those of the watch, whoever waits."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import Empty, Queue

import pytest
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery import Bloomery, DeployRequest, Guest, Image, Nic, Wanted, connect
from bloomery.deadline import Cancellation, Deadline
from bloomery.engine import Observer
from bloomery.errors import OperationCancelled
from bloomery.ironic import Node
from bloomery.operations.deploy import DEPLOY
from bloomery.states import Meaning
from bloomery.testing import IronicSimulator, NeutronSimulator, RecordedRequest, Timings
from bloomery.testing.clock import HandClock, JumpingClock
from bloomery.watch import LINGER_S, NARROW_PAGE, ONE_BY_ONE, Watch

MOST_REQUESTS = {
    "find node": {"Ironic": 1, "Neutron": 0},
    "check request": {"Ironic": 0, "Neutron": 1},
    # The allocation is asked for once more as long as Ironic has not chosen.
    "claim node": {"Ironic": 4, "Neutron": 0},
    "create VIFs": {"Ironic": 0, "Neutron": 1},
    "plug VIFs": {"Ironic": 2, "Neutron": 0},
    "add volume targets": {"Ironic": 0, "Neutron": 0},
    "write instance_info": {"Ironic": 1, "Neutron": 0},
    "validate node": {"Ironic": 1, "Neutron": 0},
    "build config drive": {"Ironic": 0, "Neutron": 3},
    # The node is looked at once more: a config drive must not go to one that another has by now.
    "request deploy": {"Ironic": 2, "Neutron": 0},
    "show the instance": {"Ironic": 1, "Neutron": 2},
}
"""What each step of a deploy with one VIF and a config drive asks of each service, at most, the waits left out."""

TIMEOUT_S = 30.0
LONGEST_PAUSE_S = 5.0
"""Longer than the watch ever waits for its next look."""


@pytest.fixture
def ironic() -> Iterator[IronicSimulator]:
    with IronicSimulator() as simulator:
        yield simulator


class _Marks(Observer):
    """Where, among the requests of two simulators, each step of an operation began."""

    def __init__(self, services: dict[str, list[RecordedRequest]]) -> None:
        self.services = services
        self.begins_at: dict[str, dict[str, int]] = {}

    def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002
        self.begins_at[step] = {service: len(requests) for service, requests in self.services.items()}

    def ended(self, step: str) -> None:
        if step == DEPLOY[-1].name:
            self.begins("show the instance", 0, 0)

    def of(self, step: str, service: str) -> list[str]:
        """The requests of the step, but for those that ask again whether an allocation has settled."""
        steps = list(self.begins_at)
        after = steps[steps.index(step) + 1 :]
        until = self.begins_at[after[0]][service] if after else None
        told = [_words(request) for request in self.services[service][self.begins_at[step][service] : until]]
        return [
            words for number, words in enumerate(told) if not (number and words == told[number - 1] and _polls(words))
        ]


def _words(request: RecordedRequest) -> str:
    query = "&".join(f"{name}={value}" for name, value in sorted(request.query.items()) if name != "fields")
    return f"{request.method} {request.path}" + (f"?{query}" if query else "")


def _polls(words: str) -> bool:
    return re.fullmatch(r"GET /v1/allocations/[0-9a-f-]{36}", words) is not None


@pytest.fixture(scope="module")
def deployed() -> Iterator[_Marks]:
    """An instance with one VIF and a config drive was deployed, and every request on the way noted."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron, timings=Timings(deploy_s=0.01)) as ironic:
        neutron.add_network("private")
        for number in range(5):
            ironic.add_node(name=f"node-{number}")
        api = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": ironic.url, "network": neutron.url})
        marks = _Marks({"Ironic": ironic.requests, "Neutron": neutron.requests})
        Bloomery(replace(api.services, observer=marks)).deploy(
            DeployRequest(
                name="web-1",
                image=Image.named("http://images.example.org/a.raw", checksum="a" * 64),
                wanted=Wanted(resource_class="baremetal"),
                nics=(Nic(network="private"),),
                guest=Guest.of(user_data="#!/bin/sh\n"),
            ),
            timeout_s=60,
        )
        yield marks


def test_every_step_of_a_deploy_has_its_number_of_requests() -> None:
    assert list(MOST_REQUESTS) == [*(step.name for step in DEPLOY[:-1]), "show the instance"]


@pytest.mark.parametrize("step", MOST_REQUESTS)
def test_a_step_of_a_deploy_sends_no_more_requests_than_it_has_to(step: str, deployed: _Marks) -> None:
    for service, most in MOST_REQUESTS[step].items():
        sent = deployed.of(step, service)
        assert len(sent) <= most, sent


@pytest.mark.parametrize("step", MOST_REQUESTS)
def test_no_step_of_a_deploy_asks_for_the_same_thing_twice(step: str, deployed: _Marks) -> None:
    for service in MOST_REQUESTS[step]:
        read = Counter(words for words in deployed.of(step, service) if words.startswith("GET"))
        assert [words for words, times in read.items() if times > 1] == []


@contextmanager
def _waited_for(ironic: IronicSimulator, nodes: list[str], clock: HandClock) -> Iterator[None]:
    """Within the block each of the nodes is waited for, by a thread of its own, and was seen once."""
    api = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": ironic.url})
    watch = Watch(api.services.ironic, clock=clock)
    seen = {node: threading.Event() for node in nodes}
    enough = Cancellation()

    def judge(node: Node) -> Meaning:
        seen[node.uuid].set()
        return Meaning.WAIT

    def wait(node: str) -> None:
        deadline = Deadline(TIMEOUT_S, cancellation=enough)
        with pytest.raises(OperationCancelled):
            watch.wait(node, judge, deadline=deadline, doing="waiting")

    with ThreadPoolExecutor(len(nodes)) as pool:
        waits = [pool.submit(wait, node) for node in nodes]
        try:
            for _ in range(round(TIMEOUT_S / 0.1)):
                if all(event.wait(0.1) for event in seen.values()):
                    break
                clock.advance(LONGEST_PAUSE_S)  # who came while the watch looked at others is looked at next time
            assert all(event.is_set() for event in seen.values())
            yield
        finally:
            enough.cancel()
        for ended in waits:
            ended.result(TIMEOUT_S)
    clock.advance(LINGER_S)


def _change_long_ago(ironic: IronicSimulator) -> None:
    """The nodes were changed last at different times, all long ago."""
    long_ago = ironic.snapshot()
    for year, record in enumerate(long_ago.nodes.values(), 1900):
        record["updated_at"] = f"{year}-01-01T00:00:00.000000+00:00"
    ironic.restore(long_ago)


@pytest.mark.parametrize("waiters", [ONE_BY_ONE + 1, 60])
def test_a_look_of_the_watch_is_one_list_whoever_waits(waiters: int, ironic: IronicSimulator) -> None:
    nodes = [ironic.add_node(name=f"node-{number}") for number in range(100)][-waiters:]
    _change_long_ago(ironic)
    clock = HandClock()
    asked: Queue[RecordedRequest] = Queue()
    with _waited_for(ironic, nodes, clock):
        ironic.on_request = asked.put
        looks: list[RecordedRequest] = []
        while len(looks) < 5:
            for node in nodes[: NARROW_PAGE // 2]:
                ironic.set(node, extra={"look": len(looks)})
            clock.advance(LONGEST_PAUSE_S)
            with suppress(Empty):  # the watch had not begun to wait; it does so now, and time goes on
                looks.append(asked.get(timeout=0.1))
        ironic.on_request = None
    looks += [asked.get_nowait() for _ in range(asked.qsize())]
    assert [_words(look) for look in looks if look.path != "/v1/nodes" or "marker" in look.query] == []


TEN_MINUTES_S = 600.0
MOST_LOOKS = 195
"""In ten minutes, whoever waits: one every four seconds, and some more in the first minute."""


class _UntilEnough(JumpingClock):
    """A clock for the watch's thread alone, on which waiting takes no time until so much has passed; then it stands still.

    Time begins to pass when everybody waits.
    """

    def __init__(self, enough_s: float) -> None:
        super().__init__()
        self.everybody_waits = threading.Event()
        self.has_passed = threading.Event()
        self._until_s = self.now_s + enough_s

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        if not self.everybody_waits.is_set():
            # The first looks: whoever comes late would make the watch look soon again.
            return self.everybody_waits.wait(TIMEOUT_S)
        if self.now_s >= self._until_s:
            self.has_passed.set()
            return signal.wait(TIMEOUT_S)
        signal.clear()
        return super().wait(signal, timeout_s)


@pytest.mark.parametrize("waiters", [10, 100])
def test_ten_minutes_of_waiting_cost_ironic_the_same_few_looks_whoever_waits(
    waiters: int, ironic: IronicSimulator
) -> None:
    nodes = [ironic.add_node(name=f"node-{number}", provision_state="deploying") for number in range(waiters)]
    _change_long_ago(ironic)
    api = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": ironic.url})
    clock = _UntilEnough(TEN_MINUTES_S)
    watch = Watch(api.services.ironic, clock=clock)
    enough = Cancellation()

    def wait(node: str) -> None:
        deadline = Deadline(3600.0, cancellation=enough)
        with pytest.raises(OperationCancelled):
            watch.wait(node, lambda _now: Meaning.WAIT, deadline=deadline, doing="waiting")

    with ThreadPoolExecutor(waiters) as pool:
        waits = [pool.submit(wait, node) for node in nodes]
        try:
            while len(watch._waiters) < waiters:
                threading.Event().wait(0.005)
            ironic.requests.clear()
            clock.everybody_waits.set()
            assert clock.has_passed.wait(2 * TIMEOUT_S)
            looks = list(ironic.requests)
        finally:
            enough.cancel()
            clock.everybody_waits.set()
        for ended in waits:
            ended.result(TIMEOUT_S)
    assert len(looks) <= MOST_LOOKS
    assert len(looks) > TEN_MINUTES_S / LONGEST_PAUSE_S
