"""The states and their tables are whole, and agree with the Ironic that is installed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection

import pytest
from ironic.common import states as ironic_states
from ironic.common.state_machine import machine

from bloomery.states import (
    MAY_BE_UPDATED,
    ON_LEFT_BEHIND,
    ON_TEAR_DOWN,
    TAKEN_UP,
    WAITS,
    WHILE_CLEANING,
    WHILE_DEPLOYING,
    WHILE_SETTLING,
    WHILE_TEARING_DOWN,
    LeftBehind,
    Meaning,
    Power,
    Provision,
    TearDown,
    WaitTable,
)

TRANSITIONS: dict[str, dict[str, str]] = defaultdict(dict)
for start, event, end in machine:
    TRANSITIONS[start][event] = end
ASKED_FOR = {*ironic_states.VERBS.values(), "rebuild"}
# Ironic's conductor uses two of the verbs by itself, too: after a tear-down, and after the cleaning of a retired node.
BY_ITSELF = {event for events in TRANSITIONS.values() for event in events} - ASKED_FOR | {"clean", "manage"}
KNOWN = frozenset(Provision) - {Provision.UNKNOWN}
# What Ironic writes as a target or nowhere, and yet has a constant for.
NEVER_ENTERED = {Provision.DEPLOY_DONE, Provision.REBUILD, Provision.DELETED}
IN_THE_MACHINE = KNOWN - NEVER_ENTERED
CONDUCTOR_WORKS = {
    *(Provision(state) for state in ironic_states.UNSTABLE_STATES),
} - {
    Provision.DEPLOY_WAIT, Provision.CLEAN_WAIT, Provision.INSPECT_WAIT, Provision.RESCUE_WAIT, Provision.SERVICE_WAIT,
}  # fmt: skip


def test_every_provision_state_that_ironic_knows_has_a_name_here() -> None:
    assert {state.value for state in IN_THE_MACHINE} == set(machine.states) == set(TRANSITIONS)


def test_every_state_that_ironic_names_elsewhere_is_known_here() -> None:
    named = {*ironic_states.ALL_STATES, *ironic_states.UNSTABLE_STATES, *ironic_states.FAILURE_STATES}
    named |= {ironic_states.DEPLOYDONE, ironic_states.DELETED, ironic_states.REBUILD}
    assert named <= {state.value for state in KNOWN}
    assert NEVER_ENTERED.isdisjoint(Provision(state) for state in machine.states)


def test_every_power_state_that_ironic_knows_has_a_name_here() -> None:
    ours = {power.value for power in Power}
    assert ours == {
        ironic_states.POWER_ON,
        ironic_states.POWER_OFF,
        ironic_states.REBOOT,
        ironic_states.SOFT_REBOOT,
        ironic_states.SOFT_POWER_OFF,
        ironic_states.ERROR,
    }


def test_null_is_available_and_a_state_of_the_future_is_unknown() -> None:
    assert Provision.of(None) is Provision.AVAILABLE
    assert Provision.of("wait call-back") is Provision.DEPLOY_WAIT
    assert Provision.of("teleporting") is Provision.UNKNOWN


@pytest.mark.parametrize("table", WAITS.values(), ids=WAITS)
def test_every_wait_says_what_every_state_means(table: WaitTable) -> None:
    assert set(table) == set(Provision)
    assert table[Provision.UNKNOWN] is Meaning.WAIT
    assert Meaning.DONE in table.values()


@pytest.mark.parametrize("table", WAITS.values(), ids=WAITS)
def test_no_wait_waits_in_a_state_that_ironic_leaves_only_when_told_to(table: WaitTable) -> None:
    # In a hold the operator has said that it is to wait, and tells it when to go on.
    holds = {Provision.DEPLOY_HOLD, Provision.CLEAN_HOLD, Provision.SERVICE_HOLD}
    at_rest = {state for state in IN_THE_MACHINE - holds if not _moves_by_itself(state)}
    assert [state for state in at_rest if table[state] is Meaning.WAIT] == []


@pytest.mark.parametrize(
    ("table", "begin", "done"),
    [
        (WHILE_DEPLOYING, "deploying", "active"),
        (WHILE_TEARING_DOWN, "deleting", "cleaning"),
        (WHILE_CLEANING, "cleaning", "available"),
        (WAITS["rescuing"], "rescuing", "rescue"),
        (WAITS["unrescuing"], "unrescuing", "active"),
    ],
)
def test_every_way_that_ironic_goes_by_itself_ends_the_wait(table: WaitTable, begin: str, done: str) -> None:
    reached = led_to(begin, through={state for state in IN_THE_MACHINE if table[state] is Meaning.WAIT})
    assert Provision(done) in reached
    assert Meaning.TAKEN_AWAY not in {table[state] for state in reached}
    assert table[Provision(done)] is Meaning.DONE


def test_settling_waits_in_just_the_states_in_which_a_conductor_works_on_the_node() -> None:
    waits = {state for state in IN_THE_MACHINE if WHILE_SETTLING[state] is Meaning.WAIT}
    assert waits == CONDUCTOR_WORKS


def test_tearing_down_has_something_to_do_in_every_state() -> None:
    assert set(ON_TEAR_DOWN) == set(Provision)
    assert ON_TEAR_DOWN[Provision.UNKNOWN] is TearDown.ASK


@pytest.mark.parametrize("state", sorted(IN_THE_MACHINE))
def test_tearing_down_asks_ironic_only_for_what_it_grants_there(state: Provision) -> None:
    verbs = {"delete", "abort"} & set(TRANSITIONS[state.value])
    match ON_TEAR_DOWN[state]:
        case TearDown.ASK:
            assert "delete" in verbs
        case TearDown.ABORT:
            assert "delete" not in verbs
            assert "abort" in verbs
        case TearDown.SETTLE | TearDown.UNDER_WAY:
            assert verbs == set()
            assert _moves_by_itself(state)
        case TearDown.FREE:
            assert "delete" not in verbs


def test_no_state_in_which_an_instance_may_run_counts_as_free() -> None:
    free = {state for state in IN_THE_MACHINE if ON_TEAR_DOWN[state] is TearDown.FREE}
    may_run = {Provision(state) for state in machine.states if "delete" in TRANSITIONS[state]}
    assert free & may_run == set()


def test_a_node_may_be_updated_where_ironic_says_so() -> None:
    at_rest = {Provision(state) for state in ironic_states.STABLE_STATES}
    allowed = {Provision.of(state) for state in ironic_states.UPDATE_ALLOWED_STATES} - {Provision.UNKNOWN}
    # Since API 1.39 a node that is being inspected takes no change.
    assert (at_rest | allowed) - {Provision.INSPECTING} == MAY_BE_UPDATED


def test_what_is_waited_for_is_told_by_one_name_only() -> None:
    assert len(WAITS) == len({id(table) for table in WAITS.values()})
    for (_, one), (_, other) in itertools.combinations(WAITS.items(), 2):
        assert one != other


@pytest.mark.parametrize("verb", TAKEN_UP)
def test_wherever_a_verb_leads_to_counts_as_taken_up(verb: str) -> None:
    event = ironic_states.VERBS.get(verb, verb)
    at_once = {events[event] for events in TRANSITIONS.values() if event in events}
    assert at_once
    unstable = {Provision(state) for state in machine.states if not machine.is_stable(state)}
    reached = set().union(*(led_to(state, through=unstable) for state in at_once))
    assert at_once <= {state.value for state in TAKEN_UP[verb]}
    if verb != "abort":
        assert reached <= TAKEN_UP[verb]


def test_what_was_left_behind_is_followed_only_while_ironic_deploys_it() -> None:
    assert set(ON_LEFT_BEHIND) == set(Provision)
    followed = {state for state in IN_THE_MACHINE if ON_LEFT_BEHIND[state] is LeftBehind.FOLLOW}
    assert followed == {state for state in IN_THE_MACHINE if WHILE_DEPLOYING[state] is Meaning.WAIT}
    taken_back = {state for state in IN_THE_MACHINE if ON_LEFT_BEHIND[state] is LeftBehind.TAKE_BACK}
    assert Provision.ACTIVE not in taken_back
    assert Provision.RESCUE not in taken_back


def led_to(begin: str, *, through: Collection[Provision]) -> set[Provision]:
    """The states that Ironic reaches by itself from one, going on only from those named."""
    reached = new = {Provision(begin)}
    while new:
        new = {
            Provision(end)
            for state in new & set(through)
            for event, end in TRANSITIONS[state.value].items()
            if event in BY_ITSELF
        } - reached
        reached = reached | new
    return reached


def _moves_by_itself(state: Provision) -> bool:
    """Whether Ironic goes on from there without being asked: by an event that is no verb of its API."""
    return bool(set(TRANSITIONS[state.value]) - ASKED_FOR)
