"""The fleet is found by index, kept fresh by what changed, and says why a node does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.deadline import Deadline
from bloomery.errors import GatewayError, InvalidRequest
from bloomery.fleet import DELTA_PAGE, SECOND_PAGE, Fleet, Wanted, check_trait, what_there_is, why_not
from bloomery.ironic import Ironic, Node
from bloomery.ironic.changes import OVERLAP
from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from bloomery.testing.clock import HandClock
from bloomery.testing.gateways import ironic_at

INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def simulator() -> Iterator[IronicSimulator]:
    with IronicSimulator() as it:
        yield it


@pytest.fixture
def ironic(simulator: IronicSimulator) -> Ironic:
    return ironic_at(simulator.url)


def node(**fields: object) -> Node:
    """A node that is free and well."""
    return Node(
        **{  # type: ignore[arg-type]
            "uuid": "n1",
            "name": "first",
            "provision_state": "available",
            "power_state": "power off",
            "resource_class": "small",
            **fields,
        }
    )


# Why not


def test_a_free_and_healthy_node_fits_who_wants_nothing_special() -> None:
    assert why_not(node(), Wanted()) == ()
    assert why_not(node(health="OK", retired=False, protected=False, power_state="power on"), Wanted()) == ()


@pytest.mark.parametrize(
    ("fields", "wanted", "why"),
    [
        ({}, Wanted(candidates=("other", "another")), "it is not among the candidates"),
        ({}, Wanted(resource_class="large"), "its resource class is small, not large"),
        ({"resource_class": None}, Wanted(resource_class="large"), "its resource class is not set, not large"),
        ({"traits": ["HW_A"]}, Wanted(traits=("HW_A", "HW_B")), "it has no trait HW_B"),
        ({"traits": None}, Wanted(traits=("HW_A",)), "it has no trait HW_A"),
        (
            {"properties": {"capabilities": "boot_mode:bios"}},
            Wanted(capabilities={"boot_mode": "uefi"}),
            "its capability boot_mode is bios, not uefi",
        ),
        ({}, Wanted(capabilities={"raid": "1"}), "its capability raid is not set, not 1"),
        ({"owner": "a"}, Wanted(owner="b"), "its owner is a, not b"),
        ({}, Wanted(owner="b"), "its owner is not set, not b"),
        ({"conductor_group": "east"}, Wanted(conductor_group="west"), "its conductor group is east, not west"),
        ({"conductor_group": None}, Wanted(conductor_group="west"), "its conductor group is the default, not west"),
        ({"instance_uuid": INSTANCE}, Wanted(), f"it carries instance {INSTANCE}"),
        ({"instance_uuid": INSTANCE, "provision_state": "active"}, Wanted(), f"it carries instance {INSTANCE}"),
        ({"provision_state": "manageable"}, Wanted(), "its provision state is manageable"),
        ({"provision_state": "teleporting"}, Wanted(), "its provision state is teleporting"),
        ({"maintenance": True}, Wanted(), "it is in maintenance"),
        ({"maintenance": True, "maintenance_reason": "fan"}, Wanted(), "it is in maintenance (fan)"),
        ({"fault": "power failure"}, Wanted(), "it has a fault (power failure)"),
        ({"retired": True}, Wanted(), "it is retired"),
        ({"retired": True, "retired_reason": "old"}, Wanted(), "it is retired (old)"),
        ({"protected": True}, Wanted(), "it is protected"),
        ({"protected": True, "protected_reason": "mine"}, Wanted(), "it is protected (mine)"),
        ({"power_state": None}, Wanted(), "its power state is not known"),
        ({"power_state": "error"}, Wanted(), "its power state is error"),
        ({"health": "Critical"}, Wanted(), "its hardware is in critical health"),
    ],
)
def test_each_condition_that_is_not_met_is_said(fields: dict[str, object], wanted: Wanted, why: str) -> None:
    assert why_not(node(**fields), wanted) == (why,)


def test_every_condition_that_is_not_met_is_said_not_the_first_only() -> None:
    reasons = why_not(node(maintenance=True, owner="a"), Wanted(resource_class="large", owner="b"))
    assert len(reasons) == 3


def test_a_node_is_a_candidate_by_name_or_by_uuid() -> None:
    assert why_not(node(), Wanted(candidates=("first",))) == ()
    assert why_not(node(), Wanted(candidates=("n1",))) == ()


def test_the_default_conductor_group_can_be_asked_for() -> None:
    assert why_not(node(conductor_group=""), Wanted(conductor_group="")) == ()
    assert why_not(node(conductor_group=None), Wanted(conductor_group="")) == ()


def test_the_instance_that_a_node_carries_already_is_not_in_its_own_way() -> None:
    assert why_not(node(instance_uuid=INSTANCE), Wanted(), instance_uuid=INSTANCE) == ()
    assert why_not(node(instance_uuid=INSTANCE), Wanted(), instance_uuid=OTHER) != ()


def test_null_is_ironics_word_for_available() -> None:
    assert why_not(node(provision_state=None), Wanted()) == ()


# What there is


def test_who_finds_no_node_is_told_what_there_is_instead() -> None:
    nodes = [
        node(resource_class="small", traits=["HW_A"], properties={"capabilities": "boot_mode:bios"}),
        node(resource_class="small", traits=["HW_A", "HW_B"], instance_uuid=INSTANCE),
        node(resource_class="large", maintenance=True),
        node(resource_class=None, provision_state="manageable"),
    ]
    wanted = Wanted(resource_class="small", traits=("HW_C",), capabilities={"boot_mode": "uefi"})
    text = what_there_is(nodes, wanted)
    for words in (
        "4 nodes",
        "small (2), (none) (1), large (1)",
        "HW_A (2), HW_B (1)",
        "capability boot_mode is (not set) (1), bios (1)",
        "available (1), in use (1)",
    ):
        assert words in text


def test_who_sees_no_node_at_all_is_told_so() -> None:
    assert "no node at all" in what_there_is([], Wanted(resource_class="small"))


def test_who_asks_for_a_class_that_nobody_has_is_told_the_classes() -> None:
    text = what_there_is([node()], Wanted(resource_class="huge", traits=("HW_A",)))
    assert "small (1)" in text
    assert "(none of that class)" in text


# Traits


@pytest.mark.parametrize("trait", ["CUSTOM_GPU", "HW_CPU_X86_VMX", "A", "A1", "CUSTOM_" + "X" * 248])
def test_a_trait_is_a_trait(trait: str) -> None:
    assert check_trait(trait) == trait


@pytest.mark.parametrize("trait", ["", "gpu", "CUSTOM-GPU", "CUSTOM GPU", "ÄPFEL", "_", "X" * 256, "CUSTOM_GPU\n"])
def test_what_is_no_trait_is_refused_with_one_that_would_be(trait: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_trait(trait)
    assert repr(trait) in refusal.value.message
    assert "CUSTOM_GPU" in str(refusal.value.advice)


@given(st.text())
def test_no_text_breaks_the_check_of_traits(text: str) -> None:
    with suppress(InvalidRequest):
        assert check_trait(text) == text


# The fleet


def filled(simulator: IronicSimulator, ironic: Ironic, count: int = 5) -> tuple[Fleet, list[str]]:
    nodes = [simulator.add_node(f"n{index}") for index in range(count)]
    fleet = Fleet()
    fleet.read(ironic)
    return fleet, nodes


def lists(simulator: IronicSimulator) -> list[RecordedRequest]:
    return [request for request in simulator.requests if request.path == "/v1/nodes"]


def test_an_empty_fleet_knows_nothing() -> None:
    fleet = Fleet()
    assert (len(fleet), fleet.nodes, fleet.node("n1"), fleet.node_of(INSTANCE)) == (0, [], None, None)


def test_an_ironic_without_nodes_makes_an_empty_fleet(ironic: Ironic) -> None:
    fleet = Fleet()
    fleet.read(ironic)
    assert (len(fleet), fleet.refresh(ironic)) == (0, 0)


def test_nodes_are_found_by_uuid_and_by_instance(simulator: IronicSimulator, ironic: Ironic) -> None:
    carrier = simulator.add_node("carrier", instance_uuid=INSTANCE)
    fleet, nodes = filled(simulator, ironic)
    assert {found.uuid for found in fleet.nodes} == {carrier, *nodes}
    assert len(fleet) == 6
    for node_uuid in nodes:
        found = fleet.node(node_uuid)
        assert found is not None
        assert found.uuid == node_uuid
    by_instance = fleet.node_of(INSTANCE)
    assert by_instance is not None
    assert by_instance.uuid == carrier
    assert fleet.node_of(OTHER) is None
    assert fleet.node(NOBODY) is None


def test_a_fleet_may_be_a_part_of_ironics_nodes(simulator: IronicSimulator, ironic: Ironic) -> None:
    simulator.add_node(resource_class="small")
    large = simulator.add_node(resource_class="large")
    fleet = Fleet()
    fleet.read(ironic, {"resource_class": "large"})
    assert [found.uuid for found in fleet.nodes] == [large]


def test_reading_again_forgets_the_nodes_that_are_gone(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet, nodes = filled(simulator, ironic)
    ironic.transport.request("DELETE", f"/nodes/{nodes[0]}", timeout_s=30.0)
    fleet.refresh(ironic)
    fleet.read(ironic)
    assert {found.uuid for found in fleet.nodes} == set(nodes[1:])


def test_a_list_that_cannot_be_read_leaves_the_fleet_as_it_was(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet, nodes = filled(simulator, ironic)
    simulator.on_request = lambda _request: Fault(FaultKind.STATUS, 503)
    impatient = ironic.within(Deadline(30.0, outage_s=0.0))
    for read in (fleet.read, fleet.refresh):
        with pytest.raises(GatewayError):
            read(impatient)
    assert {found.uuid for found in fleet.nodes} == set(nodes)


def test_a_refresh_brings_changes_and_new_nodes(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet, nodes = filled(simulator, ironic)
    simulator.set(nodes[2], instance_uuid=INSTANCE, maintenance=True)
    new = simulator.add_node("new")
    assert fleet.refresh(ironic) >= 2
    changed = fleet.node(nodes[2])
    assert changed is not None
    assert changed.maintenance
    assert fleet.node_of(INSTANCE) == changed
    assert fleet.node(new) is not None
    assert len(fleet) == 6


def test_a_refresh_of_what_has_not_changed_brings_nothing_and_asks_once(
    simulator: IronicSimulator, ironic: Ironic
) -> None:
    fleet, _ = filled(simulator, ironic)
    fleet.refresh(ironic)
    before = len(simulator.requests)
    assert fleet.refresh(ironic) == 0
    assert len(simulator.requests) == before + 1


def changed_long_ago(simulator: IronicSimulator) -> None:
    world = simulator.snapshot()
    for record in world.nodes.values():
        record["updated_at"] = "2000-01-01T00:00:00.000000+00:00"
    simulator.restore(world)


def test_a_refresh_of_a_large_fleet_reads_only_what_changed(simulator: IronicSimulator, ironic: Ironic) -> None:
    for _ in range(3 * DELTA_PAGE):
        simulator.add_node(ports=0)
    changed_long_ago(simulator)
    newest = simulator.add_node("newest")
    fleet = Fleet()
    fleet.read(ironic)
    before = len(lists(simulator))
    simulator.set(newest, maintenance=True)
    assert fleet.refresh(ironic) == 1
    assert len(lists(simulator)) == before + 1


def test_a_refresh_reads_as_many_pages_as_there_are_changes(simulator: IronicSimulator, ironic: Ironic) -> None:
    count = 2 * DELTA_PAGE + 10
    nodes = [simulator.add_node(ports=0) for _ in range(count)]
    fleet = Fleet()
    fleet.read(ironic)
    for node_uuid in nodes:
        simulator.set(node_uuid, maintenance=True)
    assert fleet.refresh(ironic) == count
    assert all(found.maintenance for found in fleet.nodes)


def test_an_instance_that_went_to_another_node_is_found_there(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet, nodes = filled(simulator, ironic)
    simulator.set(nodes[0], instance_uuid=INSTANCE)
    fleet.refresh(ironic)
    simulator.set(nodes[0], instance_uuid=None)
    simulator.set(nodes[1], instance_uuid=INSTANCE)
    # The node that it left is the one that changed last.
    simulator.set(nodes[0], maintenance=True)
    fleet.refresh(ironic)
    found = fleet.node_of(INSTANCE)
    assert found is not None
    assert found.uuid == nodes[1]


def test_an_instance_that_is_gone_is_not_found(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet, nodes = filled(simulator, ironic)
    simulator.set(nodes[0], instance_uuid=INSTANCE)
    fleet.refresh(ironic)
    simulator.set(nodes[0], instance_uuid=None)
    fleet.refresh(ironic)
    assert fleet.node_of(INSTANCE) is None


def test_the_nodes_that_fit_are_those_that_nothing_speaks_against(simulator: IronicSimulator, ironic: Ironic) -> None:
    simulator.add_node("small", resource_class="small")
    simulator.add_node("broken", resource_class="large", maintenance=True)
    simulator.add_node("large", resource_class="large", traits=["CUSTOM_GPU"])
    fleet = Fleet()
    fleet.read(ironic)
    wanted = Wanted(resource_class="large", traits=("CUSTOM_GPU",))
    assert [found.name for found in fleet.fitting(wanted)] == ["large"]
    assert fleet.fitting(Wanted(resource_class="huge")) == []


# Packed


@pytest.mark.parametrize("packed", [False, True])
def test_a_fleet_tells_the_same_of_its_nodes_however_it_holds_them(
    packed: bool, simulator: IronicSimulator, ironic: Ironic
) -> None:
    for number in range(5):
        simulator.add_node(f"n{number}", traits=["CUSTOM_A"], extra={"number": number})
    carrier = simulator.add_node("carrier", instance_uuid=INSTANCE)
    fleet = Fleet(packed=packed)
    fleet.read(ironic)
    shown = {shown.uuid: shown for shown in ironic.nodes()}
    assert {found.uuid: found for found in fleet.nodes} == shown
    assert [fleet.node(node_uuid) for node_uuid in shown] == list(shown.values())
    assert fleet.node_of(INSTANCE) == shown[carrier]
    simulator.set(carrier, instance_uuid=None, maintenance=True)
    simulator.set("n3", instance_uuid=OTHER)
    fleet.refresh(ironic)
    assert fleet.node_of(INSTANCE) is None
    found = fleet.node_of(OTHER)
    assert found is not None
    assert (found.name, found.extra, found.traits) == ("n3", {"number": 3}, ["CUSTOM_A"])


@pytest.mark.parametrize("packed", [False, True])
def test_an_outline_tells_what_the_node_tells(packed: bool, simulator: IronicSimulator, ironic: Ironic) -> None:
    mark = {"bloomery": {"instance_uuid": INSTANCE}}
    carrier = simulator.add_node("carrier", instance_uuid=INSTANCE, extra=mark, provision_state="active")
    simulator.set(carrier, power_state="power on", target_power_state="power off")
    simulator.add_node("free")
    fleet = Fleet(packed=packed)
    fleet.read(ironic)
    fleet.refresh(ironic)
    assert len(fleet.outlines) == 2
    for outline in fleet.outlines:
        told = fleet.node(outline.uuid)
        assert told is not None
        for name in ("instance_uuid", "provision_state", "power_state", "target_power_state", "changed_at"):
            assert getattr(outline, name) == getattr(told, name), name
        assert outline.is_marked == (told.any_mark is not None)
    of_instance = fleet.outline_of(INSTANCE)
    assert of_instance is not None
    assert (of_instance.uuid, of_instance.is_marked) == (carrier, True)


def test_a_node_is_known_by_the_same_string_for_as_long_as_it_is_known(
    simulator: IronicSimulator, ironic: Ironic
) -> None:
    fleet, nodes = filled(simulator, ironic)
    before = {outline.uuid: id(outline.uuid) for outline in fleet.outlines}
    simulator.set(nodes[0], maintenance=True)
    fleet.refresh(ironic)
    fleet.look(ironic, nodes[1])
    fleet.read(ironic)
    assert {outline.uuid: id(outline.uuid) for outline in fleet.outlines} == before


# How little a refresh asks for


def limits(simulator: IronicSimulator) -> list[int]:
    return [
        int(request.query["limit"]) for request in lists(simulator) if "updated_at" in request.query.get("sort_key", "")
    ]


def test_a_refresh_of_a_fleet_at_rest_asks_for_two_nodes(simulator: IronicSimulator, ironic: Ironic) -> None:
    clock = HandClock()
    for _ in range(50):
        simulator.add_node(ports=0)
    fleet = Fleet(clock=clock)
    fleet.read(ironic)
    # Nodes may yet show up that were changed at the time of the latest change, or shortly before: once more, then no more.
    clock.advance(2 * OVERLAP.total_seconds())
    fleet.refresh(ironic)
    simulator.requests.clear()
    assert [fleet.refresh(ironic) for _ in range(3)] == [0, 0, 0]
    assert limits(simulator)[1:] == [2, 2]


def test_a_refresh_asks_for_about_as_many_nodes_as_had_changed_at_the_one_before(
    simulator: IronicSimulator, ironic: Ironic
) -> None:
    clock = HandClock()
    nodes = [simulator.add_node(ports=0) for _ in range(100)]
    changed_long_ago(simulator)
    fleet = Fleet(clock=clock)
    fleet.read(ironic)
    for _ in range(2):
        clock.advance(2 * OVERLAP.total_seconds())
        fleet.refresh(ironic)
    simulator.requests.clear()
    for node_uuid in nodes[:15]:
        simulator.set(node_uuid, maintenance=True)
    assert fleet.refresh(ironic) == 15
    for node_uuid in nodes[:15]:
        simulator.set(node_uuid, maintenance=False)
    assert fleet.refresh(ironic) == 15
    assert limits(simulator) == [2, SECOND_PAGE, 15 + 2]


def test_a_change_that_shows_up_late_is_seen(simulator: IronicSimulator, ironic: Ironic) -> None:
    clock = HandClock()
    nodes = [simulator.add_node(ports=0) for _ in range(5)]
    changed_long_ago(simulator)
    fleet = Fleet(clock=clock)
    fleet.read(ironic)
    simulator.set(nodes[0], maintenance=True)
    fleet.refresh(ironic)
    late = simulator.snapshot()
    earlier = datetime.fromisoformat(late.nodes[nodes[0]]["updated_at"]) - OVERLAP / 2
    late.nodes[nodes[1]] |= {"maintenance": True, "updated_at": earlier.isoformat(timespec="microseconds")}
    simulator.restore(late)
    clock.advance(2 * OVERLAP.total_seconds())
    assert fleet.refresh(ironic) == 1
    found = fleet.node(nodes[1])
    assert found is not None
    assert found.maintenance
