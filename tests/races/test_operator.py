"""An operator acts in the middle of an operation: he gets what he asked for, and its user a plain reason.

`BLOOMERY_RACES=all` (`make test-races`) tries every operation x every request x every deed; otherwise so many are drawn
anew in each run. The seed stands in the tests' names.
"""

from __future__ import annotations

import os
import random

import pytest

from bloomery import BloomeryError
from bloomery.errors import RollbackIncomplete
from bloomery.janitor import Kind, Verdict
from races.together import DEEDS, FIELDS, Deed, Meeting, Operator, deletes, meeting, plain, scenario_alone
from races.together import takes_the_instance_away as takes_away
from races.together import undeploys as undeploys_it
from unwind.scenarios import SCENARIOS
from unwind.test_unwind import ASKED_AGAIN, comparable

SEED = int(os.environ["BLOOMERY_SEED"])
ALL = "all"
RACES = os.environ.get("BLOOMERY_RACES", "40")

Row = tuple[str, Deed]


def rows() -> list[Row]:
    """Every operation with every deed, in an order of this run's own."""
    every = [(name, deed) for name in SCENARIOS for deed in DEEDS]
    random.Random(SEED).shuffle(every)
    return every


def sample() -> list[tuple[int, Row]]:
    """As many rows as there are to be cells, numbered."""
    every = rows()
    wanted = len(every) if RACES == ALL else int(RACES)
    return [(number, every[number % len(every)]) for number in range(wanted)]


def named(part: object) -> str:
    if isinstance(part, tuple):
        return f"{part[0]}_operator_{part[1].__name__}".replace(" ", "_")
    return f"seed_{SEED}-{part}"


@pytest.mark.timeout(1800)  # a whole row
@pytest.mark.parametrize(("number", "row"), sample(), ids=named)
def test_an_operator_in_the_middle_gets_what_he_asked_for(number: int, row: Row) -> None:
    name, deed = row
    count = scenario_alone(name).requests
    drawn = random.Random(f"{SEED} {number}").randint(1, count)
    failures = [
        f"{name}, operator {deed.__name__} before request {nth}: {wrong}"
        for nth in (range(1, count + 1) if RACES == ALL else [drawn])
        if (wrong := tried(name, deed, nth)) is not None
    ]
    assert not failures, "\n".join(failures)


def tried(name: str, deed: Deed, nth: int) -> str | None:
    """What is wrong after an operator has acted before the nth request; None if nothing is."""
    scenario = SCENARIOS[name]
    with meeting(scenario.prepare) as met:
        operator = Operator(met.world)
        done: list[bool] = []
        met.at(nth, lambda: done.append(deed(operator)))
        problem: BloomeryError | None = None
        try:
            scenario.call(met.api(), met.world)
        except BloomeryError as raised:
            problem = raised
        met.settle()
        operator.close()
        return _what_is_wrong(name, deed, met, problem, was_taken=done == [True])


def _what_is_wrong(
    name: str, deed: Deed, met: Meeting, problem: BloomeryError | None, *, was_taken: bool
) -> str | None:
    if problem is not None and not plain(problem):
        return f"no plain reason: {problem!r}"
    if isinstance(problem, RollbackIncomplete):
        return f"it could not be undone: {problem}"
    if (
        problem is None
        and was_taken
        and deed in (undeploys_it, deletes)
        and not name.startswith("destroy")
        and _was_to_stay(met)
    ):
        return "it said that it succeeded, on a node that is gone"
    api = met.world.api()
    passed = api.recover(older_than_s=0, timeout_s=60)
    met.settle()
    failed = [str(trouble) for _, trouble in passed if trouble is not None]
    failed += [str(mended.problem) for mended in map(api.mend, api.leaks().leaks) if mended.problem is not None]
    if failed:
        return f"the background pass failed: {failed} (raised {problem!r})"
    wrong = _not_as_asked(deed, met) if was_taken else None
    return wrong or _left(name, deed, met, problem, was_taken=was_taken)


def _was_to_stay(met: Meeting) -> bool:
    """Whether the operation ended later than the deed: what succeeded before it was told the truth."""
    return met.is_there() and met.world.ironic.node(met.world.node)["provision_state"] == "active"


def _not_as_asked(deed: Deed, met: Meeting) -> str | None:
    if deed is deletes:
        return "the node is back" if met.is_there() else None
    node = met.world.ironic.node(met.world.node)
    if deed is undeploys_it and (node["provision_state"], node["instance_uuid"]) != ("available", None):
        return f"the node is in {node['provision_state']} with instance {node['instance_uuid']}"
    if deed is takes_away and node["instance_uuid"] is not None:
        return "the node carries the instance again"
    for key, value in FIELDS.get(deed, {}).items():
        if node[key] != value:
            return f"{key} is {node[key]!r}"
    return None


def _left(name: str, deed: Deed, met: Meeting, problem: BloomeryError | None, *, was_taken: bool) -> str | None:
    """What is there that should not be, or is not there that should."""
    world = met.world
    if not met.is_there() or world.ironic.node(world.node)["instance_uuid"] is None:
        return _not_clean(met, runs_on=deed is takes_away)
    ends = [_without_asked(end, deed) for end in (scenario_alone(name).untouched, scenario_alone(name).finished)]
    now = _without_asked(comparable(world.seen(), world), deed)
    if problem is None and now != ends[1]:
        return f"it said that it succeeded, but {_difference(now, ends[1])}"
    if now not in ends and name in ASKED_AGAIN and not (was_taken and deed is deletes):
        try:
            SCENARIOS[name].call(world.api(), world)
        except BloomeryError as refused:
            return None if plain(refused) else f"no plain reason: {refused!r}"
        met.settle()
        now = _without_asked(comparable(world.seen(), world), deed)
    return None if now in ends else f"{_difference(now, ends[0])} from before; raised {problem!r}"


def _not_clean(met: Meeting, *, runs_on: bool) -> str | None:
    """What is left where there is no instance any more."""
    world = met.world
    ours = [port["name"] for port in world.neutron.ports() if port["description"].startswith("created by bloomery")]
    if not met.is_there():
        # Whoever deletes a node deletes what hangs on it; in Neutron only who worked on it can know what was made.
        return None if not world.ironic.allocations() else "an allocation is left"
    node = world.ironic.node(world.node)
    if runs_on and node["provision_state"] != "available":
        return None  # what he has taken from us runs on, and is his
    seen = world.seen()
    left = {key: seen[key] for key in ("vifs", "volumes", "allocations", "mark") if seen[key]}
    if ours or left or (node["instance_info"] and not (runs_on and _is_ironics_own(met))):
        return f"left: ports {ours}, {left}, {node['instance_info']}"
    return None if node["provision_state"] == "available" else f"the node is in {node['provision_state']}"


def _is_ironics_own(met: Meeting) -> bool:
    """Whether `instance_info` has only what Ironic wrote there for an allocation, on a node that was taken before we knew it.

    It has no mark of ours, and so is shown and left; the next deploy replaces it.
    """
    shown = [leak.kind for leak in met.world.api().leaks().leaks if leak.verdict is Verdict.FOREIGN]
    return set(met.world.ironic.node(met.world.node)["instance_info"]) == {"traits"} and shown == [Kind.INSTANCE_INFO]


def _without_asked(seen: object, deed: Deed) -> dict[str, object]:
    """What is seen, without what the operator wanted changed."""
    assert isinstance(seen, dict)
    node = {key: value for key, value in seen["node"].items() if key not in FIELDS.get(deed, {})}
    node.pop("maintenance", None)
    return {**seen, "node": node}


def _difference(now: dict[str, object], wanted: dict[str, object]) -> str:
    return "; ".join(f"{key} is {now[key]!r} and not {wanted[key]!r}" for key in wanted if now[key] != wanted[key])
