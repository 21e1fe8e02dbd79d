"""Two processes of ours at one node: no double claim, and nobody's work is undone by the other.

The first waits before its k-th request until the second is through; the second does not wait for the first. `BLOOMERY_RACES=all`
tries every k of every pair, otherwise some are drawn anew in each run.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bloomery import Bloomery, BloomeryError, Nic
from bloomery.deadline import Deadline
from bloomery.errors import RollbackIncomplete
from bloomery.testing.gateways import ironic_at
from janitor.leaking import a_mark, in_minutes, our_vif
from races.test_operator import ALL, RACES, SEED
from races.together import Meeting, alone, meeting, plain
from unwind.scenarios import SCENARIOS, World, a_request, deployed, nothing
from unwind.test_unwind import comparable

Call = Callable[[Bloomery, World], object]


def deploy(name: str = "web-1") -> Call:
    """An instance of that name, on the only node that fits, and without the VIF that only one can have."""
    nics = (Nic(network="private"),)
    return lambda api, world: api.deploy(a_request(world, name=name, nics=nics), timeout_s=60)


def deploy_to_the_node(name: str = "web-1") -> Call:
    nics = (Nic(network="private"),)
    return lambda api, world: api.deploy(a_request(world, name=name, node="node-0", nics=nics), timeout_s=60)


def destroy(api: Bloomery, _world: World) -> None:
    api.destroy("node-0", wait_for_cleaning=True, timeout_s=60)


def destroy_web_1(api: Bloomery, _world: World) -> None:
    api.destroy("web-1", wait_for_cleaning=True, timeout_s=60)


def recover(api: Bloomery, _world: World) -> None:
    """What a user does who knows that nobody is at work; he may be wrong."""
    for _, problem in api.recover(older_than_s=0, timeout_s=60):
        if problem is not None:
            raise problem


def recover_as_usual(api: Bloomery, _world: World) -> None:
    for _, problem in api.recover(timeout_s=60):
        if problem is not None:
            raise problem


def clean(api: Bloomery, _world: World) -> None:
    """A pass of the janitor."""
    for outcome in map(api.mend, api.leaks().leaks):
        if outcome.problem is not None:
            raise outcome.problem


def scenario(name: str) -> Call:
    return SCENARIOS[name].call


def broken_off(world: World) -> None:
    """A deploy that was broken off an hour ago, with a VIF of its own."""
    uuid = "6728ab4e-27dc-457b-b5d2-d6958180b839"
    our_vif(world, instance_uuid=uuid)
    world.ironic.set(world.node, instance_uuid=uuid, extra={"bloomery": a_mark(uuid)})


def plug_late(_api: Bloomery, world: World) -> None:
    """What a deploy does that does not know yet that its instance is being destroyed."""
    for port in world.neutron.ports(name="stray"):
        with contextlib.suppress(BloomeryError):
            ironic_at(world.ironic.url, deadline=Deadline(2.0)).attach_vif(world.node, port["id"])


def torn_down(world: World) -> None:
    """A node that Ironic has torn down behind our back, with what that leaves."""
    deployed(world)
    mark = world.ironic.node(world.node)["extra"]["bloomery"]
    node = world.api().node("node-0")
    world.api().services.ironic.provision(node, "deleted")
    world.ironic.wait_for(world.node, "available")
    world.ironic.set(world.node, extra={"bloomery": {**mark, "until": in_minutes(-60)}})


@dataclass(frozen=True)
class Pair:
    """Two calls at once.

    Attributes:
        prepare: the world before.
        first: is stopped in the middle.
        second: does all that it does meanwhile.
        name_of_second: the instance that has to run in the end, whatever the first does, if the second has deployed it.
        first_must_succeed: whether the second is to be no hindrance at all.
    """

    prepare: Callable[[World], None]
    first: Call
    second: Call
    name_of_second: str | None = None
    first_must_succeed: bool = False


PAIRS: dict[str, Pair] = {
    "two deploys for the last node": Pair(nothing, deploy(), deploy("web-2"), "web-2"),
    "two deploys to one node": Pair(nothing, deploy_to_the_node(), deploy_to_the_node("web-2"), "web-2"),
    "a deploy and its destroy": Pair(nothing, deploy(), destroy_web_1),
    "a deploy to a node and the destroy of that": Pair(nothing, deploy_to_the_node(), destroy),
    "a destroy and the next deploy": Pair(deployed, destroy, deploy("web-2"), "web-2"),
    "two destroys": Pair(deployed, destroy, destroy, first_must_succeed=True),
    "a rebuild and a destroy": Pair(deployed, scenario("rebuild"), destroy),
    "a rescue and a destroy": Pair(deployed, scenario("rescue"), destroy),
    "an attach and a destroy": Pair(deployed, scenario("attach interface"), destroy),
    "a power-off and a destroy": Pair(deployed, scenario("power"), destroy),
    "a deploy and a recover that comes too early": Pair(nothing, deploy(), recover),
    "a deploy to a node and a recover that comes too early": Pair(nothing, deploy_to_the_node(), recover),
    "a deploy and a recover": Pair(nothing, deploy(), recover_as_usual, first_must_succeed=True),
    "a deploy and a janitor": Pair(nothing, deploy(), clean, first_must_succeed=True),
    "an attach and a recover": Pair(deployed, scenario("attach interface"), recover_as_usual, first_must_succeed=True),
    "an attach and a janitor": Pair(deployed, scenario("attach interface"), clean, first_must_succeed=True),
    "a rebuild and a janitor": Pair(deployed, scenario("rebuild"), clean, first_must_succeed=True),
    "a rebuild and a recover": Pair(deployed, scenario("rebuild"), recover_as_usual, first_must_succeed=True),
    "a destroy and a janitor": Pair(deployed, destroy, clean, first_must_succeed=True),
    "a destroy and a recover": Pair(deployed, destroy, recover, first_must_succeed=True),
    "a destroy, and a VIF that is plugged late": Pair(broken_off, destroy, plug_late, first_must_succeed=True),
    "a janitor, and a VIF that is plugged late": Pair(broken_off, clean, plug_late, first_must_succeed=True),
    "two janitors": Pair(broken_off, clean, clean, first_must_succeed=True),
    "two janitors at a mark": Pair(torn_down, clean, clean, first_must_succeed=True),
    "two recovers": Pair(broken_off, recover, recover, first_must_succeed=True),
    "a janitor and a deploy": Pair(broken_off, clean, deploy_to_the_node("web-2"), "web-2", first_must_succeed=True),
    "a janitor at a mark and a deploy": Pair(torn_down, clean, deploy("web-2"), "web-2", first_must_succeed=True),
    "a recover and a deploy": Pair(torn_down, recover, deploy("web-2"), "web-2", first_must_succeed=True),
}


def sample() -> list[tuple[int, str]]:
    names = list(PAIRS)
    random.Random(SEED).shuffle(names)
    wanted = len(names) if RACES == ALL else int(RACES)
    return [(number, names[number % len(names)]) for number in range(wanted)]


def named(part: object) -> str:
    return part.replace(" ", "_") if isinstance(part, str) else f"seed_{SEED}-{part}"


@pytest.mark.timeout(1800)  # a whole pair
@pytest.mark.parametrize(("number", "name"), sample(), ids=named)
def test_two_processes_at_one_node_do_not_undo_each_others_work(number: int, name: str) -> None:
    count = alone(PAIRS[name].prepare, PAIRS[name].first).requests
    drawn = random.Random(f"{SEED} {number} of two").randint(1, count)
    failures = [
        f"{name}, before request {nth} of {count}: {wrong}"
        for nth in (range(1, count + 1) if RACES == ALL else [drawn])
        if (wrong := tried(name, nth)) is not None
    ]
    assert not failures, "\n".join(failures)


def _outcome(call: Call, api: Bloomery, world: World) -> BloomeryError | None:
    try:
        call(api, world)
    except BloomeryError as problem:
        return problem
    return None


def tried(name: str, nth: int) -> str | None:
    """What is wrong after the second has come before the first's nth request; None if nothing is."""
    pair = PAIRS[name]
    with meeting(pair.prepare) as met:
        told: list[BloomeryError | None] = []
        met.at(nth, lambda: told.append(_outcome(pair.second, met.world.api(), met.world)))
        first = _outcome(pair.first, met.api(), met.world)
        met.settle()
        if not told:
            return None  # the first looked less often this time than when it was counted
        wrong = _what_is_wrong(pair, met, first, told[0])
        return None if wrong is None else f"{wrong}; the first raised {first!r}, the second {told[0]!r}"


def _what_is_wrong(pair: Pair, met: Meeting, first: BloomeryError | None, second: BloomeryError | None) -> str | None:
    world = met.world
    for problem in (first, second):
        if problem is not None and not plain(problem):
            return f"no plain reason: {problem!r}"
        if isinstance(problem, RollbackIncomplete):
            return "it could not be undone"
    if pair.first_must_succeed and first is not None:
        return "the first was disturbed"
    running = [instance for instance in world.api().instances() if instance.state == "active"]
    if pair.name_of_second is not None:
        if second is None and [instance.name for instance in running] != [pair.name_of_second]:
            return f"the second's instance does not run, but {[instance.name for instance in running]}"
        if first is None and second is None and not pair.first_must_succeed and pair.prepare is nothing:
            return "both got the last node"
        if first is not None and second is not None:
            return "nobody got the last node"
    for instance in running:
        if world.api().problems(instance.uuid):
            return f"{instance.name} does not fit its node: {world.api().problems(instance.uuid)}"
    return _left(met)


def _left(met: Meeting) -> str | None:
    """What is there that belongs to no instance, after a background pass."""
    world = met.world
    api = world.api()
    for outcome in map(api.mend, api.leaks().leaks):
        if outcome.problem is not None:
            return f"the janitor failed: {outcome.problem}"
    failed = [str(problem) for _, problem in api.recover(older_than_s=0, timeout_s=60) if problem is not None]
    met.settle()
    if failed:
        return f"the background pass failed: {failed}"
    seen: dict[str, Any] = comparable(world.seen(), world)
    node = world.ironic.node(world.node)
    ours = {port["device_id"] for port in world.neutron.ports() if port["description"].startswith("created by")}
    if node["instance_uuid"] is None:
        left = {key: seen[key] for key in ("vifs", "volumes", "allocations") if seen[key]}
        if left or ours or node["extra"].get("bloomery") or node["instance_info"]:
            return f"left: {left}, ports of {ours}, {node['extra']}, {node['instance_info']}"
        return None if node["provision_state"] == "available" else f"the node is in {node['provision_state']}"
    mark = node["extra"].get("bloomery", {})
    if mark.get("instance_uuid") != node["instance_uuid"]:
        return f"the node's mark is {mark}, and its instance {node['instance_uuid']}"
    if ours - {node["instance_uuid"]}:
        return f"VIFs of {ours} are there, and the instance is {node['instance_uuid']}"
    if {allocation["uuid"] for allocation in world.ironic.allocations()} - {node["instance_uuid"]}:
        return "an allocation is left"
    return None
