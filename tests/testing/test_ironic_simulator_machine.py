"""The simulator's tables are the installed Ironic's."""

from __future__ import annotations

import pytest

from bloomery.testing.ironic_simulator import machine, records

real_machine = pytest.importorskip("ironic.common.state_machine").machine
real_states = pytest.importorskip("ironic.common.states")
real_versions = pytest.importorskip("ironic.api.controllers.v1.versions")
real_utils = pytest.importorskip("ironic.api.controllers.v1.utils")
real_node = pytest.importorskip("ironic.api.controllers.v1.node")


def test_every_state_of_the_machine_is_known_and_no_other() -> None:
    assert set(real_machine.states) == machine.ALL_STATES


def test_every_event_leads_where_ironic_says() -> None:
    real: dict[str, dict[str, str]] = {}
    for state in real_machine.states:
        for event in {*real_states.VERBS.values(), "rebuild", "done", "fail", "wait", "resume", "hold"}:
            copied = real_machine.copy()
            copied.initialize(state)
            if copied.is_actionable_event(event):
                copied.process_event(event)
                real.setdefault(state, {})[event] = copied.current_state
    assert {state: dict(events) for state, events in machine.TRANSITIONS.items()} == real


def test_stable_states_and_targets_are_those_of_ironic() -> None:
    for state in real_machine.states:
        copied = real_machine.copy()
        copied.initialize(state)
        assert copied.is_stable(state) == (state in machine.STABLE_STATES)
        assert copied.target_state == machine.TARGETS.get(state)


def test_verbs_and_groups_of_states_are_those_of_ironic() -> None:
    assert dict(machine.VERBS) == real_states.VERBS
    assert set(real_states.UNSTABLE_STATES) == machine.UNSTABLE_STATES
    assert set(real_states.UPDATE_ALLOWED_STATES) == machine.UPDATE_ALLOWED_STATES
    assert set(real_states.FAILURE_STATES) == machine.FAILURE_STATES
    assert set(real_states.STUCK_STATES_TREATED_AS_FAIL) == machine.STUCK_STATES
    assert real_states.DELETE_ALLOWED_STATES == machine.DELETE_ALLOWED_STATES


def test_the_newest_api_version_and_each_fields_first_are_those_of_ironic() -> None:
    assert real_versions.max_version_string() == f"1.{records.MAX_MINOR}"
    assert dict(records.NODE_FIELD_SINCE) == real_utils.VERSIONED_FIELDS


def test_the_fields_that_a_patch_may_name_are_those_of_ironic() -> None:
    assert list(records.PATCHABLE_NODE_FIELDS) == real_node.PATCH_ALLOWED_FIELDS


def test_the_fields_that_a_read_may_name_are_those_of_ironic() -> None:
    real = set(real_node._get_fields_for_node_query())
    assert real | {"uuid", "allocation_uuid", "chassis_uuid", "conductor"} == records.NODE_FIELDS
