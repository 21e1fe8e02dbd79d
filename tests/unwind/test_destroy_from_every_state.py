"""Destroy ends with a node that is free and clean, whatever state it is found in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bloomery import Progress
from bloomery.errors import BloomeryError, CleanFailed, InstanceNotFound, NodeTakenAway, TearDownFailed
from bloomery.states import Provision
from unwind.scenarios import FAST, World, a_request, a_world, deployed

SLOW = replace(FAST, deploy_s=0.6, agent_s=0.6, tear_down_s=0.3, clean_s=0.3, rescue_s=0.6, unrescue_s=0.6)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def put(state: Provision, *, target: str | None = None) -> Callable[[World], None]:
    """The instance's node is in the state, as Ironic's database would say; the conductor has let go of it."""

    def prepare(world: World) -> None:
        deployed(world)
        world.ironic.set(world.node, provision_state=state.value, target_provision_state=target)

    return prepare


def on_the_way(start: Callable[[World], None], state: Provision) -> Callable[[World], None]:
    """The conductor is just bringing the node through the state."""

    def prepare(world: World) -> None:
        world.ironic.timings = SLOW
        thread = threading.Thread(target=start, args=(world,), daemon=True)
        thread.start()
        world.ironic.wait_for(world.node, state.value, quiet=False)

    return prepare


def begin_deploy(world: World) -> None:
    world.api().deploy(a_request(world), timeout_s=60, wait=False)


def begin_rescue(world: World) -> None:
    world.ironic.timings = FAST
    deployed(world)
    world.ironic.timings = SLOW
    world.api().rescue("web-1", wait=False)


def begin_unrescue(world: World) -> None:
    world.ironic.timings = FAST
    deployed(world)
    world.api().rescue("web-1", timeout_s=60)
    world.ironic.timings = SLOW
    world.api().unrescue("web-1", wait=False)


def begin_service(world: World) -> None:
    world.ironic.timings = FAST
    deployed(world)
    world.ironic.timings = SLOW
    api = world.api()
    steps = [{"interface": "deploy", "step": "burn_in"}]
    api.services.ironic.transport.request(
        "PUT", f"/nodes/{world.node}/states/provision", body={"target": "service", "service_steps": steps}, timeout_s=10
    )


def begin_destroy(world: World) -> None:
    world.ironic.timings = FAST
    deployed(world)
    world.ironic.timings = SLOW
    world.api().services.ironic.transport.request(
        "PUT", f"/nodes/{world.node}/states/provision", body={"target": "deleted"}, timeout_s=10
    )


FROM: dict[Provision, Callable[[World], None]] = {
    Provision.ACTIVE: deployed,
    Provision.DEPLOYING: on_the_way(begin_deploy, Provision.DEPLOYING),
    Provision.DEPLOY_WAIT: on_the_way(begin_deploy, Provision.DEPLOY_WAIT),
    Provision.DEPLOY_HOLD: put(Provision.DEPLOY_HOLD, target="active"),
    Provision.DEPLOY_FAIL: put(Provision.DEPLOY_FAIL, target="active"),
    Provision.DELETING: on_the_way(begin_destroy, Provision.DELETING),
    Provision.CLEANING: on_the_way(begin_destroy, Provision.CLEANING),
    Provision.CLEAN_WAIT: on_the_way(begin_destroy, Provision.CLEAN_WAIT),
    Provision.ERROR: put(Provision.ERROR, target="available"),
    Provision.RESCUE: put(Provision.RESCUE),
    Provision.RESCUING: on_the_way(begin_rescue, Provision.RESCUING),
    Provision.RESCUE_WAIT: on_the_way(begin_rescue, Provision.RESCUE_WAIT),
    Provision.RESCUE_FAIL: put(Provision.RESCUE_FAIL, target="rescue"),
    Provision.UNRESCUING: on_the_way(begin_unrescue, Provision.UNRESCUING),
    Provision.UNRESCUE_FAIL: put(Provision.UNRESCUE_FAIL, target="active"),
    Provision.SERVICING: on_the_way(begin_service, Provision.SERVICING),
    Provision.SERVICE_WAIT: on_the_way(begin_service, Provision.SERVICE_WAIT),
    Provision.SERVICE_HOLD: put(Provision.SERVICE_HOLD, target="active"),
    Provision.SERVICE_FAIL: put(Provision.SERVICE_FAIL, target="active"),
}
NEVER_WITH_AN_INSTANCE = {
    Provision.ENROLL, Provision.VERIFYING, Provision.MANAGEABLE, Provision.AVAILABLE, Provision.INSPECTING,
    Provision.INSPECT_WAIT, Provision.INSPECT_FAIL, Provision.ADOPTING, Provision.ADOPT_FAIL, Provision.CLEAN_HOLD,
    Provision.CLEAN_FAIL, Provision.DEPLOY_DONE, Provision.REBUILD, Provision.DELETED, Provision.UNKNOWN,
}  # fmt: skip
"""States of free nodes, or of no node at all: `destroy` finds nothing to tear down there, only leftovers."""


def is_free(world: World) -> bool:
    seen = world.seen()
    node = seen["node"]
    return (
        node["instance_uuid"] is None
        and node["instance_info"] == {}
        and seen["mark"] == {}
        and seen["vifs"] == []
        and seen["volumes"] == []
        and seen["allocations"] == []
        and [port for port, _ in seen["ports"]] == [world.given_vif]
    )


def test_every_state_is_accounted_for() -> None:
    assert FROM.keys() | NEVER_WITH_AN_INSTANCE == set(Provision)


@pytest.mark.parametrize("state", FROM, ids=str)
def test_destroy_frees_the_node_from_every_state(state: Provision, world: World) -> None:
    FROM[state](world)
    world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=30)
    assert world.ironic.node(world.node)["provision_state"] == "available"
    assert is_free(world)


@pytest.mark.parametrize(
    "state", [Provision.CLEAN_FAIL, Provision.MANAGEABLE, Provision.INSPECT_FAIL, Provision.ADOPT_FAIL], ids=str
)
def test_destroy_clears_leftovers_of_a_node_that_is_free(state: Provision, world: World) -> None:
    deployed(world)
    world.ironic.set(world.node, provision_state=state.value, target_provision_state=None)
    world.api().destroy("node-0", timeout_s=30)
    assert is_free(world)
    assert world.ironic.node(world.node)["provision_state"] == state.value


def test_destroy_twice_in_a_row_is_fine(world: World) -> None:
    deployed(world)
    world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=30)
    world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=30)
    assert is_free(world)


def test_two_processes_that_destroy_at_once_are_fine(world: World) -> None:
    deployed(world)
    world.ironic.timings = replace(FAST, tear_down_s=0.2)
    failures: list[BaseException] = []

    def destroy() -> None:
        try:
            world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=30)
        except Exception as failure:  # noqa: BLE001  whatever it is, the test has to hear of it
            failures.append(failure)

    threads = [threading.Thread(target=destroy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [failure for failure in failures if not isinstance(failure, InstanceNotFound)]
    assert is_free(world)


def test_a_state_that_nobody_knows_is_torn_down_like_a_deployed_one(world: World) -> None:
    deployed(world)
    world.ironic.set(world.node, provision_state="polishing", target_provision_state=None)
    done = threading.Event()

    def polish_on() -> None:
        # The simulator, as Ironic would, refuses `deleted` from a state that its machine does not know.
        while not done.wait(0.01):
            if any(r.method == "PUT" and r.path.endswith("/states/provision") for r in world.ironic.requests[-5:]):
                world.ironic.set(world.node, provision_state="active", target_provision_state=None)
                return

    thread = threading.Thread(target=polish_on)
    thread.start()
    try:
        world.api().destroy("node-0", wait_for_cleaning=True, timeout_s=30)
    finally:
        done.set()
        thread.join()
    assert is_free(world)


def test_a_tear_down_that_fails_says_why_and_can_be_repeated(world: World) -> None:
    deployed(world)
    world.ironic.fail_next(world.node, "tear_down", "the switch does not answer")
    with pytest.raises(TearDownFailed, match="the switch does not answer"):
        world.api().destroy("web-1", timeout_s=30)
    assert world.ironic.node(world.node)["provision_state"] == "error"
    world.api().destroy("web-1", wait_for_cleaning=True, timeout_s=30)
    assert is_free(world)


def test_destroy_leaves_a_node_alone_that_carries_another_instance_by_now(world: World) -> None:
    deployed(world)
    api = world.api()
    node = api.node("node-0")
    other = "11111111-2222-4333-8444-555555555555"
    world.ironic.set(world.node, instance_uuid=other)
    with pytest.raises((NodeTakenAway, Exception)) as refusal:
        api.destroy("node-0", timeout_s=30)
    assert other in str(refusal.value)
    assert world.ironic.node(world.node)["provision_state"] == "active"
    assert node.instance_uuid != other


def test_an_instance_goes_although_the_cleaning_of_its_node_fails(world: World) -> None:
    deployed(world)
    world.ironic.fail_next(world.node, "clean", "a disk does not answer")
    with pytest.raises(CleanFailed, match="a disk does not answer"):
        world.api().destroy("web-1", wait_for_cleaning=True, timeout_s=30)
    assert is_free(world)
    assert world.ironic.node(world.node)["provision_state"] == "clean failed"


def test_a_node_that_is_deleted_while_it_is_deployed_leaves_nothing_behind(world: World) -> None:
    world.ironic.timings = SLOW
    failures: list[BaseException] = []

    def deploy() -> None:
        try:
            world.api().deploy(a_request(world), timeout_s=30)
        except BloomeryError as failure:
            failures.append(failure)

    thread = threading.Thread(target=deploy)
    thread.start()
    world.ironic.wait_for(world.node, "wait call-back", quiet=False)
    send = world.api().services.ironic.transport.request
    send("PUT", f"/nodes/{world.node}/maintenance", body={"reason": "sold"}, timeout_s=10)
    send("DELETE", f"/nodes/{world.node}", timeout_s=10)
    thread.join()
    assert isinstance(failures[0], NodeTakenAway), failures
    assert [port["id"] for port in world.neutron.ports()] == [world.given_vif]


def test_who_cannot_be_told_of_progress_does_not_keep_the_undos_from_being_called(world: World) -> None:
    def gone(_progress: Progress) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError):
        world.api().deploy(a_request(world), timeout_s=30, on_progress=gone)
    assert is_free(world)
