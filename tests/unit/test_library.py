"""The library's own small things: connecting, options, and calls side by side. Operations have their own tests."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

import bloomery
from bloomery.errors import BloomeryError, InvalidRequest, NodeNotFound, ServiceUnavailable
from bloomery.ironic.gateway import PAGE
from bloomery.library import each
from bloomery.testing import IronicSimulator, NeutronSimulator, RecordedRequest

TIMEOUT_S = 30.0


def test_calls_are_made_side_by_side_and_answered_in_their_order() -> None:
    both = threading.Barrier(2, timeout=30.0)

    def meet(number: int) -> int:
        both.wait()
        return number

    assert each([lambda: meet(1), lambda: meet(2)], at_once=2) == [1, 2]


def test_no_more_calls_are_under_way_than_allowed() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def call() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)
        with lock:
            now[0] -= 1

    each([call] * 20, at_once=3)
    assert most[0] <= 3


def test_the_error_of_one_call_is_its_result_and_stops_no_other() -> None:
    failure = NodeNotFound("gone")

    def fail() -> int:
        raise failure

    assert each([lambda: 1, fail, lambda: 3]) == [1, failure, 3]


def test_an_error_that_is_not_ours_is_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each([fail])


def test_no_calls_have_no_results() -> None:
    assert each([]) == []


def test_a_session_and_endpoints_are_enough_to_connect() -> None:
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        ironic.add_node("n1")
        neutron.add_network("tenant")
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url, "network": neutron.url})
        assert it.node("n1").name == "n1"
        assert [network.name for network in it.networks()] == ["tenant"]
        assert it.instances() == []


def test_lists_of_the_fleet_that_ironic_takes_long_for_keep_no_power_off_waiting() -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def hold_lists(request: RecordedRequest) -> None:
        if request.query.get("limit") == str(PAGE):
            begun.release()
            go.wait(TIMEOUT_S)

    with IronicSimulator() as ironic, ThreadPoolExecutor(8) as pool:
        instance_uuid = str(uuid.uuid4())
        node_uuid = ironic.add_node("n1", power_state="power on", provision_state="active", instance_uuid=instance_uuid)
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url}, connections=4)
        ironic.on_request = hold_lists
        try:
            reads = [pool.submit(bloomery.Fleet().read, it.services.ironic) for _ in range(8)]
            for _ in range(2):
                assert begun.acquire(timeout=TIMEOUT_S)
            it.power_off(instance_uuid)
            assert ironic.node(node_uuid)["power_state"] == "power off"
            assert not any(read.done() for read in reads)
            assert not begun.acquire(blocking=False)
        finally:
            go.set()
        for read in reads:
            read.result(TIMEOUT_S)


def test_a_cloud_without_neutron_is_a_cloud() -> None:
    with IronicSimulator() as ironic:
        ironic.add_node("n1")
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url})
        assert it.node("n1").name == "n1"
        with pytest.raises(ServiceUnavailable, match="no Neutron"):
            it.networks()


def test_an_ironic_that_is_away_is_said_to_be_away() -> None:
    with IronicSimulator() as ironic:
        url = ironic.url
    with pytest.raises(ServiceUnavailable, match="Ironic cannot be reached"):
        bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": url}, timeout_s=0.3)


def test_a_cloud_that_nobody_has_written_down_is_a_bad_request() -> None:
    with pytest.raises(InvalidRequest, match="no-such-cloud"):
        bloomery.connect("no-such-cloud")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_timeout_has_to_be_some_time(timeout_s: float) -> None:
    with IronicSimulator() as ironic:
        ironic.add_node("n1", instance_uuid="11111111-1111-4111-8111-111111111111", provision_state="active")
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url})
        with pytest.raises(InvalidRequest, match="timeout"):
            it.power_on("n1", timeout_s=timeout_s)


@pytest.mark.parametrize("name", ["", " ", "no such instance", "../nodes", "\N{SNOWMAN}", "detail"])
def test_an_instance_or_node_that_is_not_there_is_said_not_to_be(name: str) -> None:
    with IronicSimulator() as ironic:
        ironic.add_node("n1")
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url})
        for call in (it.show, it.node, it.destroy, it.power_off):
            with pytest.raises(BloomeryError) as refusal:
                call(name)
            assert isinstance(refusal.value, LookupError | ValueError)


INSTANCE = "11111111-1111-4111-8111-111111111111"


@pytest.mark.parametrize("name", ["n1", "web-1", INSTANCE])
def test_a_machine_is_found_by_its_name_or_its_instances_and_no_name_is_looked_for_twice(name: str) -> None:
    with IronicSimulator() as ironic:
        info = {"display_name": "web-1"}
        ironic.add_node(
            "n1", instance_uuid=INSTANCE, provision_state="active", instance_info=info, console_enabled=True
        )
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url})
        assert it.console_runs(name)
        looked_for = [request.path for request in ironic.requests if request.path.startswith("/v1/nodes/")]
        assert len(looked_for) == len(set(looked_for))


def test_what_is_no_machine_is_said_not_to_be_one() -> None:
    with IronicSimulator() as ironic:
        it = bloomery.connect(session=Session(NoAuth()), endpoints={"baremetal": ironic.url})
        for name in ("n1", INSTANCE):
            with pytest.raises(NodeNotFound, match=r"no node .*, and no instance"):
                it.console_runs(name)
