"""Every operation is broken at every step, before and after its effect, by a failure and by a kill."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest

from bloomery.engine import Observer
from bloomery.errors import NodeUnavailable, NotFound, OperationFailed
from bloomery.operations import REGISTRY
from unwind.scenarios import SCENARIOS, Scenario, World, a_world


class Broken(OperationFailed):
    """The failure that a test has put there."""


class Killed(BaseException):
    """The end of the process: nothing of it runs any more, no undo either."""


class Breaker(Observer):
    """Raises at one step, before it does anything or after its effect."""

    def __init__(self, step: str, *, after: bool, failure: BaseException, undo_times: int = 1) -> None:
        self.step = step
        self.after = after
        self.failure = failure
        self.undo_times = undo_times
        self.has_struck = False

    def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002
        if step == self.step and not self.after:
            self.has_struck = True
            raise self.failure

    def ended(self, step: str) -> None:
        if step == self.step and self.after:
            self.has_struck = True
            raise self.failure


def operation_of(scenario: str) -> str:
    """The operation whose steps the scenario goes through."""
    return max((name for name in REGISTRY if scenario.startswith(name)), key=len)


Cell = tuple[str, str, bool]


def cells() -> list[Cell]:
    """Every step of every scenario, before and after its effect."""
    return [
        (name, step.name, after)
        for name in SCENARIOS
        for step in REGISTRY[operation_of(name)]
        for after in (False, True)
    ]


def goes_back(cell: Cell) -> bool:
    """Whether a failure there leaves the world as it was found."""
    name, step, after = cell
    scenario = SCENARIOS[name]
    if not scenario.goes_back or scenario.no_return_after is None:
        return scenario.goes_back
    steps = [one.name for one in REGISTRY[operation_of(name)]]
    return (steps.index(step), after) < (steps.index(scenario.no_return_after), True)


def named(cell: Cell) -> str:
    return f"{cell[0]}: {'after' if cell[2] else 'before'} {cell[1]}".replace(" ", "_")


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def prepared(scenario: Scenario, world: World) -> dict[str, object]:
    scenario.prepare(world)
    return world.seen()


def test_every_operation_has_a_scenario() -> None:
    assert {operation_of(name) for name in SCENARIOS} == set(REGISTRY)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_operation_succeeds_when_nothing_breaks_it(name: str, world: World) -> None:
    scenario = SCENARIOS[name]
    before = prepared(scenario, world)
    scenario.call(world.api(), world)
    assert world.seen() != before or name in LEAVES_NO_TRACE


@pytest.mark.parametrize("cell", [cell for cell in cells() if goes_back(cell)], ids=named)
def test_a_failure_at_any_step_leaves_the_world_as_found(cell: Cell, world: World) -> None:
    name, step, after = cell
    before = prepared(SCENARIOS[name], world)
    breaker = Breaker(step, after=after, failure=Broken("broken by the test"))
    with pytest.raises(Broken) as raised:
        SCENARIOS[name].call(world.api(breaker), world)
    assert raised.value.step == step
    assert world.seen() == before


@pytest.mark.parametrize("cell", [cell for cell in cells() if goes_back(cell) and cell[2]], ids=named)
def test_every_undo_may_be_run_twice(cell: Cell, world: World) -> None:
    name, step, _after = cell
    before = prepared(SCENARIOS[name], world)
    breaker = Breaker(step, after=True, failure=Broken("broken by the test"), undo_times=2)
    with pytest.raises(Broken):
        SCENARIOS[name].call(world.api(breaker), world)
    assert world.seen() == before


@pytest.mark.parametrize("cell", [cell for cell in cells() if not goes_back(cell)], ids=named)
def test_what_does_not_go_back_is_finished_by_calling_it_again(cell: Cell, world: World) -> None:
    name, step, after = cell
    scenario = SCENARIOS[name]
    _, wanted = ends_of(name)
    scenario.prepare(world)
    breaker = Breaker(step, after=after, failure=Broken("broken by the test"))
    with pytest.raises(Broken):
        scenario.call(world.api(breaker), world)
    settle(world)
    with contextlib.suppress(NotFound, NodeUnavailable):  # it may have been done, and then there is nothing to do it to
        scenario.call(world.api(), world)
    assert comparable(world.seen(), world) == wanted


@pytest.mark.parametrize("cell", cells(), ids=named)
def test_a_fresh_process_finishes_or_cleans_what_a_killed_one_left(cell: Cell, world: World) -> None:
    name, step, after = cell
    scenario = SCENARIOS[name]
    untouched, finished = ends_of(name)
    scenario.prepare(world)
    with pytest.raises(Killed):
        scenario.call(world.api(Breaker(step, after=after, failure=Killed())), world)
    settle(world)
    problems = [problem for _, problem in world.api().recover(older_than_s=0, timeout_s=60) if problem is not None]
    assert not problems
    settle(world)
    now = comparable(world.seen(), world)
    if now not in (untouched, finished):
        scenario.call(world.api(), world)  # half of a change that only its user can finish: he does so by asking again
        now = comparable(world.seen(), world)
        assert name in ASKED_AGAIN, f"{now} is neither {untouched} nor {finished}"
    assert now in (untouched, finished)


@functools.cache
def ends_of(name: str) -> tuple[dict[str, object], dict[str, object]]:
    """What the scenario's world is like before the operation, and after it."""
    scenario = SCENARIOS[name]
    with a_world() as world:
        scenario.prepare(world)
        untouched = comparable(world.seen(), world)
        scenario.call(world.api(), world)
        return untouched, comparable(world.seen(), world)


ASKED_AGAIN = {
    "change security group",
    "power",
    "power on",
    "power by reboot",
    "power by soft reboot",
    "unrescue",
    "destroy with its console",
    "rescue",
    "enable console",
    "disable console",
    "adopt",
    "detach volume",
}
"""What is no claim on anything, so that nothing has to be cleaned: a user who finds it half done asks again."""

LEAVES_NO_TRACE = {"crash dump", "power by reboot", "power by soft reboot"}
"""What cannot be seen on the node afterwards."""


def settle(world: World) -> None:
    """Ironic has ended what it was asked for before the kill."""
    world.ironic.wait_for(world.node, "active", "available", "rescue", "deploy failed", "error", timeout_s=30)


def comparable(seen: dict[str, object], world: World) -> dict[str, object]:
    """What is seen, with ids that differ from world to world replaced by what they stand for."""
    names = {port["id"]: port["name"] or "?" for port in world.neutron.ports()}
    node = dict(seen["node"])  # type: ignore[call-overload]
    node["instance_uuid"] = node["instance_uuid"] is not None
    node["instance_info"] = {**node["instance_info"], "configdrive": "configdrive" in node["instance_info"]}
    mark = dict(seen["mark"])  # type: ignore[call-overload]
    mark.pop("asked_at", None)
    mark.pop("was", None)
    mark.pop("instance_uuid", None)
    mark["vifs"] = sorted((names.get(vif, "gone"), kind) for vif, kind in mark.get("vifs", {}).items())
    mark["volumes"] = sorted(mark.get("volumes", {}).values())
    mark.pop("operation", None)
    groups = {group["id"]: group["name"] for group in world.neutron.snapshot()["security_groups"].values()}
    return {
        **seen,
        "node": node,
        "mark": mark,
        "vifs": sorted(names.get(vif, "gone") for vif in world.ironic.vifs(world.node)),
        "ports": sorted(
            (port["name"], sorted(groups.get(group, "?") for group in port["security_groups"]))
            for port in world.neutron.ports()
        ),
        "allocations": len(world.ironic.allocations()),
    }
