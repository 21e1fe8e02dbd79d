"""A node that was packed is unpacked as it was, and takes little room meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.ironic import Node
from bloomery.ironic.models import FLEET_FIELDS
from bloomery.ironic.packing import Packer
from bloomery.rest.failures import RequestFailure
from bloomery.rest.transport import Reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
INSTANCE = "11111111-1111-4111-8111-1111111{number:05}"


def read(**fields: Any) -> Node:
    """The node, decoded from the wire."""
    return Reply(200, json.dumps({"uuid": "n1", **fields}).encode(), {}, None).decode(Node)


def in_use(number: int) -> Node:
    """A node with an instance of ours, one of many that are alike."""
    instance_uuid = INSTANCE.format(number=number)
    return read(
        uuid=f"22222222-2222-4222-8222-2222222{number:05}",
        name=f"node-{number}",
        instance_uuid=instance_uuid,
        provision_state="active",
        power_state="power on",
        driver="redfish",
        resource_class="baremetal",
        traits=["CUSTOM_LAB", "HW_CPU_X86_VMX"],
        properties={"cpu_arch": "x86_64", "memory_mb": 262144, "capabilities": "boot_mode:uefi"},
        extra={"bloomery": {"version": 1, "instance_uuid": instance_uuid, "guard": {instance_uuid: True}}},
        instance_info={
            "display_name": f"web-{number}",
            "root_gb": "100",
            "image_source": "http://images.example/a.raw",
        },
    )


@given(
    st.dictionaries(st.sampled_from([*FLEET_FIELDS, "updated_at", "health", "shard"]), JSON),
    st.lists(st.builds(in_use, st.integers(0, 99_999)), max_size=3),
)
def test_whatever_was_packed_is_unpacked_as_it_was(fields: dict[str, Any], like: list[Node]) -> None:
    try:
        node = read(**{**fields, "uuid": "n1"})
    except RequestFailure:
        return  # nothing that Ironic's answer could be read as
    packer = Packer(like)
    assert packer.unpack(packer.pack(node)) == node


@pytest.mark.parametrize("number", [10**30, -(10**40), 2**63, 1e300])
def test_numbers_of_any_size_are_kept(number: float) -> None:
    node = read(extra={"number": number}, properties={"memory_mb": number})
    packer = Packer()
    assert packer.unpack(packer.pack(node)) == node


def test_a_node_that_is_like_the_examples_takes_a_fraction_of_what_it_takes_alone() -> None:
    alone, like = Packer(), Packer([in_use(1), read(uuid="n1", provision_state="available")])
    assert 3 * len(like.pack(in_use(7))) < len(alone.pack(in_use(7)))


def test_examples_may_be_larger_than_what_is_looked_back_to() -> None:
    large = read(extra={f"key-{number}": f"value-{number}" for number in range(2000)})
    packer = Packer([large, in_use(1)])
    for node in (large, in_use(2)):
        assert packer.unpack(packer.pack(node)) == node
