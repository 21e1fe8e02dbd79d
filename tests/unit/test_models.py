"""What Ironic tells is read as it is meant, and what nobody should tell does no harm."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.ironic import Node, Port, PortGroup
from bloomery.ironic.models import FLEET_FIELDS, MARK, NODE_FIELDS, WATCH_FIELDS, Console
from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.transport import Reply
from bloomery.states import Provision

INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(**fields: Any) -> Node:
    """The node, decoded from the wire."""
    return Reply(200, json.dumps({"uuid": "n1", **fields}).encode(), {}, None).decode(Node)


def test_a_node_of_which_only_the_uuid_was_asked_for_is_a_node() -> None:
    node = read()
    assert (node.uuid, node.label, node.state, node.is_on, node.mark) == ("n1", "n1", Provision.AVAILABLE, False, None)
    assert (node.changed_at, node.in_state_since, node.step_now, node.capabilities) == (None, None, None, {})


def test_fields_that_we_do_not_know_are_passed_over() -> None:
    assert read(teleporter={"is": "new"}, links=[]).uuid == "n1"


def test_every_field_that_is_asked_for_has_a_place() -> None:
    places = {field.name for field in msgspec.structs.fields(Node)}
    assert {*NODE_FIELDS, *FLEET_FIELDS, *WATCH_FIELDS, "health", "service_step", "shard"} <= places
    for fields in (NODE_FIELDS, FLEET_FIELDS, WATCH_FIELDS):
        assert len(set(fields)) == len(fields)


def test_times_that_cannot_be_selected_are_not_asked_for() -> None:
    assert {"updated_at", "created_at"}.isdisjoint({*NODE_FIELDS, *FLEET_FIELDS, *WATCH_FIELDS})


def test_a_person_calls_a_node_by_its_name() -> None:
    assert read(name="rack-7").label == "rack-7"
    assert read(name="").label == "n1"


@pytest.mark.parametrize("field", ["last_error", "reservation"])
def test_what_ironic_hides_from_us_is_not_taken_for_what_is_there(field: str) -> None:
    for said in ("** Value Redacted - Requires baremetal:node:get permission. **", "** Redacted - requires more **"):
        assert getattr(read(**{field: said}), field) is None
    assert getattr(read(**{field: "no route to 192.0.2.7"}), field) == "no route to 192.0.2.7"


# Marks


def test_our_mark_is_about_the_instance_that_the_node_carries() -> None:
    mark = {"instance_uuid": INSTANCE, "version": 1}
    assert read(instance_uuid=INSTANCE, extra={MARK: mark}).mark == mark


@pytest.mark.parametrize("instance_uuid", [None, OTHER])
def test_a_mark_about_a_former_instance_is_a_mark_but_not_of_this_one(instance_uuid: str | None) -> None:
    node = read(instance_uuid=instance_uuid, extra={MARK: {"instance_uuid": INSTANCE}})
    assert node.mark is None
    assert node.any_mark == {"instance_uuid": INSTANCE}


@pytest.mark.parametrize("mark", [{}, {"instance_uuid": None}, {"instance_uuid": [INSTANCE]}])
def test_a_mark_about_nobody_is_not_about_a_node_without_instance(mark: dict[str, Any]) -> None:
    assert read(instance_uuid=None, extra={MARK: mark}).mark is None
    assert read(instance_uuid=INSTANCE, extra={MARK: mark}).mark is None


@given(JSON)
def test_whatever_somebody_wrote_as_our_mark_does_no_harm(written: Any) -> None:
    node = read(instance_uuid=INSTANCE, extra={MARK: written})
    assert node.any_mark is None or isinstance(node.any_mark, dict)
    assert node.mark is None or node.mark["instance_uuid"] == INSTANCE


# Capabilities


@pytest.mark.parametrize(
    ("text", "capabilities"),
    [
        ("boot_mode:uefi,raid:1", {"boot_mode": "uefi", "raid": "1"}),
        (" boot_mode : uefi , raid:1 ", {"boot_mode": "uefi", "raid": "1"}),
        ("url:http://x:80", {"url": "http://x:80"}),
        ("boot_mode:", {"boot_mode": ""}),
        ("nonsense,boot_mode:uefi,,", {"boot_mode": "uefi"}),
        ("", {}),
        (None, {}),
        (17, {}),
        ({"boot_mode": "uefi", "raid": 1}, {"boot_mode": "uefi", "raid": "1"}),
    ],
)
def test_capabilities_are_taken_apart(text: object, capabilities: dict[str, str]) -> None:
    assert read(properties={"capabilities": text}).capabilities == capabilities


@given(JSON)
def test_whatever_somebody_wrote_as_capabilities_does_no_harm(written: Any) -> None:
    for name, value in read(properties={"capabilities": written}).capabilities.items():
        assert (type(name), type(value)) == (str, str)


# Steps


def test_the_step_that_ironic_is_at_is_told_with_its_number() -> None:
    steps = [{"interface": "deploy", "step": name, "priority": 1} for name in ("deploy", "write_image", "boot")]
    node = read(
        deploy_step=steps[1], driver_internal_info={"deploy_steps": steps, "deploy_step_index": 1, "agent_url": "x"}
    )
    assert node.step_now == ("write_image", 2, 3)


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"deploy_step": {}}, None),
        ({"deploy_step": {"step": None}}, None),
        ({"deploy_step": {"step": "boot"}}, ("boot", None, None)),
        ({"deploy_step": {"step": "boot"}, "driver_internal_info": {"deploy_steps": None}}, ("boot", None, None)),
        ({"clean_step": {"step": "erase", "priority": 10}}, ("erase", None, None)),
        ({"service_step": {"step": "flash"}}, ("flash", None, None)),
        (
            {"clean_step": {"step": "erase"}, "driver_internal_info": {"clean_steps": [{"step": "erase"}]}},
            ("erase", None, 1),
        ),
    ],
)
def test_a_step_is_told_as_far_as_it_is_known(fields: dict[str, Any], step: object) -> None:
    assert read(**fields).step_now == step


# Times


def test_times_have_a_zone_and_keep_their_microseconds() -> None:
    node = read(created_at="2026-01-02T03:04:05+00:00", provision_updated_at="2026-01-02T03:04:05Z")
    assert node.changed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) == node.in_state_since
    changed = read(created_at="2026-01-02T03:04:05+00:00", updated_at="2026-01-02T03:04:05.000001+00:00").changed_at
    assert changed is not None
    assert changed - datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) == timedelta(microseconds=1)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-40T00:00:00"])
def test_a_time_that_is_none_is_no_time(text: str) -> None:
    assert read(updated_at=text).changed_at is None


def test_a_time_without_zone_can_be_compared_with_those_that_have_one() -> None:
    naive = read(updated_at="2026-01-02T03:04:05").changed_at
    aware = read(updated_at="2026-01-02T03:04:06+00:00").changed_at
    assert naive is not None
    assert aware is not None
    assert naive < aware


# Other things


def test_the_vif_of_a_nic_and_of_a_bond_is_told() -> None:
    wire = {"uuid": "p1", "address": "52:54:00:00:00:01", "internal_info": {"tenant_vif_port_id": "v1", "other": 1}}
    reply = Reply(200, json.dumps(wire).encode(), {}, None)
    assert (reply.decode(Port).vif_id, reply.decode(PortGroup).vif_id) == ("v1", "v1")
    bare = Reply(200, b'{"uuid": "p1", "address": "52:54:00:00:00:01"}', {}, None).decode(Port)
    assert bare.vif_id is None


def test_an_answer_that_does_not_say_whether_the_console_runs_makes_no_sense() -> None:
    with pytest.raises(RequestFailure):
        Reply(200, b'{"another": "shape"}', {}, None).decode(Console)


def test_a_console_that_is_not_enabled_has_no_address() -> None:
    console = Reply(200, b'{"console_enabled": false, "console_info": null}', {}, None).decode(Console)
    assert (console.console_enabled, console.console_info) == (False, None)


@given(st.dictionaries(st.sampled_from([*NODE_FIELDS, "updated_at", "health"]), JSON), JSON)
def test_whatever_comes_is_a_node_or_cannot_be_read(fields: dict[str, Any], uuid: Any) -> None:
    try:
        node = read(**{**fields, "uuid": uuid})
    except RequestFailure as failure:
        assert failure.failure is Failure.GARBLED  # noqa: PT017
        return
    assert isinstance(node.uuid, str)
    _ = (node.label, node.state, node.is_on, node.mark, node.capabilities, node.changed_at, node.step_now)
