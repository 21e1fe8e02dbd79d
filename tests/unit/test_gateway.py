"""Whatever becomes of a single request, each verb of the gateway ends with its deed done, and done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bloomery.deadline import Deadline, Patience
from bloomery.errors import (
    GatewayError,
    NodeLocked,
    NodeUnavailable,
    OperationTimedOut,
    ServiceUnavailable,
)
from bloomery.secret import Secret
from bloomery.states import Power
from bloomery.testing import Fault, FaultKind, IronicSimulator, NeutronSimulator, RecordedRequest
from bloomery.testing.clock import JumpingClock
from bloomery.testing.contract import Bench
from bloomery.testing.gateways import ironic_at, neutron_at

INSTANCE = "11111111-1111-4111-8111-111111111111"
TARGET = "33333333-3333-4333-8333-333333333333"


@dataclass(frozen=True)
class World:
    """Both simulators, and a bench on a node of theirs."""

    simulator: IronicSimulator
    bench: Bench

    @property
    def node_uuid(self) -> str:
        return self.bench.node_uuid

    def powered(self, *changes: str) -> None:
        """The machine has carried out just these power actions."""
        self.simulator.wait_for(self.node_uuid, "available", "active")
        assert self.simulator.bmc(self.node_uuid).power_changes == list(changes)


@pytest.fixture
def world() -> Iterator[World]:
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as simulator:
        network_id = neutron.add_network("tenant")
        bench = Bench(
            ironic=ironic_at(simulator.url, deadline=Deadline(3600.0, clock=JumpingClock())),
            node_uuid=simulator.add_node("n1"),
            instance_info={"image_source": "http://127.0.0.1/image", "image_checksum": "0" * 32},
            neutron=neutron_at(neutron.url),
            network_id=network_id,
        )
        yield World(simulator, bench)


@pytest.mark.parametrize("timeout_s", [0.0, 0.01, 0.2])
def test_an_ironic_that_cannot_be_reached_is_said_to_be_that_however_short_the_time(timeout_s: float) -> None:
    with (
        IronicSimulator() as simulator,
        simulator.unreachable(),
        pytest.raises(ServiceUnavailable, match="Ironic cannot be reached, asking for its version"),
    ):
        ironic_at(simulator.url, deadline=Deadline(timeout_s))


def test_lists_that_ironic_cuts_into_pages_are_read_to_their_end() -> None:
    with IronicSimulator(max_limit=2) as simulator:
        uuids = {simulator.add_node(f"n{number}", storage_interface="external", ports=3) for number in range(5)}
        ironic = ironic_at(simulator.url)
        one = min(uuids)
        for number in range(5):
            ironic.add_volume_target(
                one,
                target_uuid=f"{TARGET[:-1]}{number}",
                volume_id=f"v{number}",
                volume_type="iscsi",
                boot_index=number,
                properties=Secret({}),
                extra={},
            )
            ironic.allocate(f"{TARGET[:-1]}{number}", resource_class="none", name=f"a{number}")
        assert {node.uuid for node in ironic.nodes()} == uuids
        assert len({port.uuid for port in ironic.every_port()}) == 15
        assert len({port.uuid for port in ironic.ports(one)}) == 3
        for targets in (ironic.every_volume_target(), ironic.volume_targets(one)):
            assert sorted(target.volume_id for target in targets) == [f"v{number}" for number in range(5)]
        assert sorted(str(allocation.name) for allocation in ironic.allocations()) == [f"a{n}" for n in range(5)]


Deed = Callable[[World], object]
Prepared = Callable[[World], tuple[Deed, Deed]]
"""Makes the world ready; returns what does the deed, and what looks that it is done."""


def claim(world: World) -> tuple[Deed, Deed]:
    def done(world: World) -> None:
        node = world.bench.node
        assert (node.instance_uuid, node.mark) == (INSTANCE, {"instance_uuid": INSTANCE})

    return lambda world: _ignore(world.bench.claimed(INSTANCE)), done


def release(world: World) -> tuple[Deed, Deed]:
    node = world.bench.ready(world.bench.claimed(INSTANCE))

    def done(world: World) -> None:
        now = world.bench.node
        assert (now.instance_uuid, now.any_mark, now.instance_info) == (None, None, {})

    return lambda world: _ignore(world.bench.ironic.release(node, INSTANCE)), done


def update(world: World) -> tuple[Deed, Deed]:
    node = world.bench.claimed(INSTANCE)

    def deed(world: World) -> None:
        patch: list[dict[str, object]] = [{"op": "add", "path": "/extra/new", "value": 1}]
        world.bench.ironic.update(node, patch, is_so=lambda now: now.extra.get("new") == 1, doing="changing it")

    def done(world: World) -> None:
        assert world.bench.node.extra["new"] == 1

    return deed, done


def attach_vif(world: World) -> tuple[Deed, Deed]:
    vif_id = world.bench.vif()

    def done(world: World) -> None:
        assert world.simulator.vifs(world.node_uuid) == [vif_id]

    return lambda world: world.bench.ironic.attach_vif(world.node_uuid, vif_id), done


def detach_vif(world: World) -> tuple[Deed, Deed]:
    vif_id = world.bench.vif()
    world.bench.ironic.attach_vif(world.node_uuid, vif_id)

    def done(world: World) -> None:
        assert world.simulator.vifs(world.node_uuid) == []

    return lambda world: world.bench.ironic.detach_vif(world.node_uuid, vif_id), done


def deploy(world: World) -> tuple[Deed, Deed]:
    node = world.bench.ready(world.bench.claimed(INSTANCE))

    def done(world: World) -> None:
        assert world.simulator.wait_for(world.node_uuid, "active")["instance_uuid"] == INSTANCE

    return lambda world: world.bench.ironic.provision(node, "active"), done


def tear_down(world: World) -> tuple[Deed, Deed]:
    node = world.bench.deployed(world.bench.claimed(INSTANCE))

    def done(world: World) -> None:
        assert world.simulator.wait_for(world.node_uuid, "available")["instance_uuid"] is None

    return lambda world: world.bench.ironic.provision(node, "deleted"), done


def power_on(world: World) -> tuple[Deed, Deed]:
    return (
        lambda world: world.bench.ironic.set_power(world.node_uuid, Power.ON),
        lambda world: world.powered("power on"),
    )


def reboot(world: World) -> tuple[Deed, Deed]:
    def done(world: World) -> None:
        world.simulator.wait_for(world.node_uuid, "available")
        # Where Ironic says that it has not done it, it is asked again: one reboot too many is better than none.
        assert set(world.simulator.bmc(world.node_uuid).power_changes) == {"rebooting"}

    return lambda world: world.bench.ironic.set_power(world.node_uuid, Power.REBOOT), done


def allocate(world: World) -> tuple[Deed, Deed]:
    def done(world: World) -> None:
        assert [allocation["uuid"] for allocation in world.simulator.allocations()] == [TARGET]

    return lambda world: _ignore(world.bench.allocate(allocation_uuid=TARGET, name="web")), done


def delete_allocation(world: World) -> tuple[Deed, Deed]:
    world.bench.allocate(allocation_uuid=TARGET)
    world.bench.once(lambda: world.bench.node.instance_uuid, "allocating")

    def done(world: World) -> None:
        assert world.simulator.allocations() == []
        assert world.bench.node.instance_uuid is None

    return lambda world: world.bench.ironic.delete_allocation(TARGET), done


def add_volume(world: World) -> tuple[Deed, Deed]:
    def done(world: World) -> None:
        assert [target["uuid"] for target in world.simulator.volume_targets(world.node_uuid)] == [TARGET]

    return lambda world: _ignore(world.bench.volume(target_uuid=TARGET)), done


def remove_volume(world: World) -> tuple[Deed, Deed]:
    world.bench.volume(target_uuid=TARGET)

    def done(world: World) -> None:
        assert world.simulator.volume_targets(world.node_uuid) == []

    return lambda world: world.bench.ironic.remove_volume_target(world.node_uuid, TARGET), done


def start_console(world: World) -> tuple[Deed, Deed]:
    def done(world: World) -> None:
        assert world.simulator.wait_for(world.node_uuid, "available")["console_enabled"]

    return lambda world: world.bench.ironic.set_console(world.node_uuid, enabled=True), done


VERBS: tuple[Prepared, ...] = (
    claim, release, update, attach_vif, detach_vif, deploy, tear_down, power_on, reboot, allocate, delete_allocation,
    add_volume, remove_volume, start_console,
)  # fmt: skip
FAULTS = {
    "a reset before the deed": Fault(FaultKind.RESET),
    "409 before the deed": Fault(FaultKind.STATUS, 409),
    "429 before the deed": Fault(FaultKind.STATUS, 429),
    "500 before the deed": Fault(FaultKind.STATUS, 500),
    "502 before the deed": Fault(FaultKind.STATUS, 502),
    "503 before the deed": Fault(FaultKind.STATUS, 503),
    "409 after the deed": Fault(FaultKind.STATUS_AFTER, 409),
    "500 after the deed": Fault(FaultKind.STATUS_AFTER, 500),
    "503 after the deed": Fault(FaultKind.STATUS_AFTER, 503),
    "504 after the deed": Fault(FaultKind.STATUS_AFTER, 504),
    "a reply that is lost": Fault(FaultKind.LOSE_REPLY),
}
GARBLED = {
    "a reply that is cut": Fault(FaultKind.CUT_BODY),
    "a reply that is no JSON": Fault(FaultKind.GARBAGE_BODY),
}
ANSWERED_WITH_A_BODY = (claim, release, update, allocate, add_volume)


def once(fault: Fault, *, reads: bool = False) -> Callable[[RecordedRequest], Fault | None]:
    """Orders the fault for the first write, or the first read."""
    left = [fault]
    return lambda request: left.pop() if left and request.is_write is not reads else None


def by_name(verb: Prepared) -> str:
    return verb.__name__


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_a_deed_is_done_once_whatever_becomes_of_its_request(verb: Prepared, fault: Fault, world: World) -> None:
    deed, done = verb(world)
    world.simulator.on_request = once(fault)
    deed(world)
    world.simulator.on_request = None
    done(world)


@pytest.mark.parametrize("fault", GARBLED.values(), ids=GARBLED)
@pytest.mark.parametrize("verb", ANSWERED_WITH_A_BODY, ids=by_name)
def test_a_deed_whose_answer_cannot_be_read_is_done_once(verb: Prepared, fault: Fault, world: World) -> None:
    deed, done = verb(world)
    world.simulator.on_request = once(fault)
    deed(world)
    done(world)


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_a_deed_is_done_though_the_reading_back_fails_at_first(verb: Prepared, world: World) -> None:
    deed, done = verb(world)
    faults = {True: [Fault(FaultKind.LOSE_REPLY)], False: [Fault(FaultKind.STATUS, 503), Fault(FaultKind.RESET)]}
    has_failed = False

    def order(request: RecordedRequest) -> Fault | None:
        nonlocal has_failed
        has_failed = has_failed or request.is_write
        waiting = faults[request.is_write] if has_failed else []
        return waiting.pop() if waiting else None

    world.simulator.on_request = order
    deed(world)
    done(world)


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_a_deed_is_done_when_the_node_is_let_go(verb: Prepared, world: World) -> None:
    deed, done = verb(world)
    refused = 0
    with world.simulator.hold_lock(world.node_uuid):

        def order(request: RecordedRequest) -> Fault | None:
            nonlocal refused
            refused += request.is_write
            if refused == 3:
                world.simulator.set(world.node_uuid, reservation=None)
            return None

        world.simulator.on_request = order
        deed(world)
    done(world)


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_a_lock_that_goes_between_the_refusal_and_the_look_is_no_refusal(verb: Prepared, world: World) -> None:
    deed, done = verb(world)
    refused = 0

    def order(request: RecordedRequest) -> Fault | None:
        nonlocal refused
        if not request.is_write or refused == 20:
            return None
        refused += 1
        world.simulator.set(world.node_uuid, reservation="another" if refused % 4 else None)
        return Fault(FaultKind.STATUS, 409)

    world.simulator.on_request = order
    deed(world)
    world.simulator.on_request = None
    done(world)


NEEDS_THE_LOCK = tuple(verb for verb in VERBS if verb is not allocate and verb is not add_volume)


@pytest.mark.parametrize("verb", NEEDS_THE_LOCK, ids=by_name)
def test_a_node_that_stays_locked_is_said_to_be_by_whom(verb: Prepared, world: World) -> None:
    deed, _ = verb(world)
    world.bench.ironic.deadline = Deadline(60.0, clock=JumpingClock())
    with world.simulator.hold_lock(world.node_uuid, host="conductor-7"), pytest.raises(NodeLocked) as refusal:
        deed(world)
    assert refusal.value.retryable
    assert "conductor-7" in str(refusal.value)
    assert refusal.value.node_uuid == world.node_uuid


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_an_ironic_that_stays_broken_is_given_up(verb: Prepared, world: World) -> None:
    deed, _ = verb(world)
    world.simulator.on_request = lambda request: Fault(FaultKind.STATUS, 500) if request.is_write else None
    with pytest.raises(ServiceUnavailable):
        deed(world)
    assert sum(request.is_write for request in world.simulator.requests) < 50


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_an_ironic_that_is_away_is_borne_as_long_as_the_deadline_says(verb: Prepared, world: World) -> None:
    deed, _ = verb(world)
    world.bench.ironic.deadline = Deadline(3600.0, outage_s=30.0, clock=JumpingClock())
    with world.simulator.unreachable(), pytest.raises(ServiceUnavailable):
        deed(world)
    assert world.bench.ironic.deadline.elapsed_s <= 60.0


@pytest.mark.parametrize("verb", VERBS, ids=by_name)
def test_what_needs_other_credentials_is_refused_at_once(verb: Prepared, world: World) -> None:
    deed, _ = verb(world)
    before = len(world.simulator.requests)
    world.simulator.on_request = lambda request: Fault(FaultKind.STATUS, 403) if request.is_write else None
    with pytest.raises(Exception, match="does not let us in"):
        deed(world)
    assert sum(request.is_write for request in world.simulator.requests[before:]) == 1


# What is not done is not taken for done


@pytest.mark.parametrize("fault", [Fault(FaultKind.STATUS, 409), Fault(FaultKind.STATUS, 503)], ids=["409", "503"])
def test_a_reboot_that_was_refused_is_not_taken_for_done_because_somebody_else_touched_the_node(
    fault: Fault, world: World
) -> None:
    left = [fault]

    def order(request: RecordedRequest) -> Fault | None:
        if request.is_write and left:
            world.simulator.set(world.node_uuid, extra={"touched": "by somebody else"})
            return left.pop()
        return None

    world.simulator.on_request = order
    world.bench.ironic.set_power(world.node_uuid, Power.REBOOT)
    world.powered("rebooting")


def test_a_reboot_whose_reply_was_lost_is_not_done_twice(world: World) -> None:
    world.simulator.on_request = once(Fault(FaultKind.LOSE_REPLY))
    world.bench.ironic.set_power(world.node_uuid, Power.REBOOT)
    world.powered("rebooting")


def test_a_reboot_that_may_be_carried_out_yet_is_not_asked_for_again(world: World) -> None:
    patience = Patience(request_s=0.2)
    impatient = world.bench.ironic.within(Deadline(3600.0, patience=patience))
    world.simulator.on_request = once(Fault(FaultKind.DELAY, delay_s=0.4))
    with pytest.raises(ServiceUnavailable, match="may be carried out yet"):
        impatient.set_power(world.node_uuid, Power.REBOOT)
    world.simulator.wait_until_idle()
    world.powered("rebooting")


def test_a_power_change_that_was_refused_is_not_mixed_up_with_that_of_somebody_else(world: World) -> None:
    world.simulator.set(world.node_uuid, target_power_state="power off", reservation="another")
    left = [True]

    def order(request: RecordedRequest) -> Fault | None:
        if request.is_write and left:
            left.pop()
            return Fault(FaultKind.STATUS, 409)
        if request.is_write:
            world.simulator.set(world.node_uuid, target_power_state=None, reservation=None)
        return None

    world.simulator.on_request = order
    world.bench.ironic.set_power(world.node_uuid, Power.REBOOT)
    world.powered("rebooting")


def test_a_deploy_that_was_refused_is_not_taken_for_done_because_the_node_has_moved(world: World) -> None:
    node = world.bench.ready(world.bench.claimed(INSTANCE))

    def order(request: RecordedRequest) -> Fault | None:
        if request.is_write:
            world.simulator.set(world.node_uuid, provision_state="manageable")
            world.simulator.on_request = None
        return None

    world.simulator.on_request = order
    with pytest.raises(NodeUnavailable, match="manageable"):
        world.bench.ironic.provision(node, "active")


# NMI


def test_an_interrupt_reaches_the_machine_once(world: World) -> None:
    world.bench.ironic.inject_nmi(world.node_uuid)
    assert world.simulator.bmc(world.node_uuid).interrupts == 1


@pytest.mark.parametrize("fault", [FAULTS["a reply that is lost"], FAULTS["500 after the deed"]], ids=["lost", "500"])
def test_an_interrupt_that_may_have_reached_the_machine_is_not_sent_again(fault: Fault, world: World) -> None:
    world.simulator.on_request = once(fault)
    with pytest.raises(GatewayError):
        world.bench.ironic.inject_nmi(world.node_uuid)
    assert world.simulator.bmc(world.node_uuid).interrupts == 1


@pytest.mark.parametrize("fault", [FAULTS["409 before the deed"], FAULTS["503 before the deed"]], ids=["409", "503"])
def test_an_interrupt_that_ironic_did_not_take_is_sent_again(fault: Fault, world: World) -> None:
    world.simulator.on_request = once(fault)
    world.bench.ironic.inject_nmi(world.node_uuid)
    assert world.simulator.bmc(world.node_uuid).interrupts == 1


def test_a_machine_that_takes_no_interrupt_is_said_to_take_none(world: World) -> None:
    node_uuid = world.simulator.add_node(driver="fake-hardware")
    with pytest.raises(NodeUnavailable, match="takes no NMI"):
        world.bench.ironic.inject_nmi(node_uuid)


# Reading


@pytest.mark.parametrize(
    "fault",
    [*FAULTS.values(), *GARBLED.values()],
    ids=[*FAULTS, *GARBLED],
)
def test_a_read_is_repeated_until_it_is_answered(fault: Fault, world: World) -> None:
    world.simulator.on_request = once(fault, reads=True)
    assert world.bench.ironic.node(world.node_uuid).name == "n1"


def test_a_node_that_one_replica_does_not_know_yet_is_asked_for_again(world: World) -> None:
    world.simulator.on_request = once(Fault(FaultKind.STATUS, 404), reads=True)
    assert world.bench.ironic.node(world.node_uuid).name == "n1"


def test_a_list_is_read_to_its_end_though_a_page_fails(world: World) -> None:
    nodes = {world.node_uuid, *(world.simulator.add_node() for _ in range(9))}
    count = 0

    def every_third(request: RecordedRequest) -> Fault | None:
        nonlocal count
        count += 1
        return Fault(FaultKind.STATUS, 503) if count % 3 == 0 else None

    world.simulator.on_request = every_third
    assert {node.uuid for node in world.bench.ironic.nodes(page=2)} == nodes


def test_a_read_that_is_never_answered_ends_with_the_deadline(world: World) -> None:
    ironic = world.bench.ironic.within(Deadline(0.3))
    world.simulator.on_request = lambda _request: Fault(FaultKind.DELAY, delay_s=60.0)
    with pytest.raises((ServiceUnavailable, OperationTimedOut)):
        ironic.node(world.node_uuid)


def test_every_read_names_the_fields_that_it_wants(world: World) -> None:
    ironic = world.bench.ironic
    ironic.node(world.node_uuid)
    ironic.find_node("n1")
    ironic.node_of(INSTANCE)
    list(ironic.nodes())
    ironic.ports(world.node_uuid)
    ironic.port_groups(world.node_uuid)
    reads = [request for request in world.simulator.requests if not request.is_write and request.path != "/v1"]
    assert all("fields" in request.query for request in reads)


def _ignore(_result: object) -> None:
    """The deed's result is not what is tested."""
