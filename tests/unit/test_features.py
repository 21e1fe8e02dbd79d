"""Which version of Ironic's API is spoken, and what it gives."""

from __future__ import annotations

import pytest
from ironic.common.release_mappings import RELEASE_MAPPING

from bloomery.errors import NotSupported, RequestRefused, ServiceTooOld
from bloomery.ironic import Feature, Features, Ironic
from bloomery.ironic.features import FLOOR, NEWEST, dotted
from bloomery.ironic.models import FLEET_FIELDS, NODE_FIELDS, WATCH_FIELDS
from bloomery.testing import IronicSimulator, NeutronSimulator
from bloomery.testing.gateways import ironic_at


@pytest.mark.parametrize("feature", Feature)
def test_a_feature_is_there_from_its_version_on(feature: Feature) -> None:
    major, minor = feature.since
    Features((major, minor)).need(feature)
    assert Features((major, minor + 1)).has(feature)
    with pytest.raises(NotSupported) as refusal:
        Features((major, minor - 1)).need(feature)
    for words in (feature.words, dotted(feature.since), f"{major}.{minor - 1}"):
        assert words in str(refusal.value)


def test_every_feature_came_after_the_floor_and_is_within_what_was_tried() -> None:
    assert all(FLOOR < feature.since <= NEWEST for feature in Feature)


def test_versions_are_compared_as_numbers() -> None:
    assert not Features((1, 9)).has(Feature.SHARDS)
    assert Features((1, 100)).has(Feature.SHARDS)
    assert Features((2, 0)).has(Feature.HEALTH)


def test_the_newest_version_that_we_speak_is_one_that_the_installed_ironic_speaks() -> None:
    major, _, minor = RELEASE_MAPPING["master"]["api"].partition(".")
    assert (int(major), int(minor)) >= NEWEST


@pytest.mark.parametrize(("offered", "spoken"), [("1.81", (1, 81)), ("1.95", (1, 95)), ("1.115", NEWEST)])
def test_the_newest_version_that_both_sides_know_is_spoken(offered: str, spoken: tuple[int, int]) -> None:
    with IronicSimulator(max_version=offered) as simulator:
        ironic = ironic_at(simulator.url)
        node_uuid = simulator.add_node()
        assert ironic.features.version == spoken
        ironic.node(node_uuid)
        assert simulator.requests[-1].headers["x-openstack-ironic-api-version"] == dotted(spoken)
        assert simulator.requests[-1].headers["openstack-api-version"] == f"baremetal {dotted(spoken)}"


@pytest.mark.parametrize("fields", [NODE_FIELDS, FLEET_FIELDS, WATCH_FIELDS])
@pytest.mark.parametrize("offered", ["1.81", "1.82", "1.87", "1.108", "1.115"])
def test_no_version_is_asked_for_fields_that_it_does_not_know(offered: str, fields: tuple[str, ...]) -> None:
    with IronicSimulator(max_version=offered) as simulator:
        node_uuid = simulator.add_node()
        ironic = ironic_at(simulator.url)
        assert ironic.node(node_uuid, fields=fields).uuid == node_uuid
        assert [node.uuid for node in ironic.nodes(fields=fields)] == [node_uuid]
        assert len(ironic.ports(node_uuid)) == 2


@pytest.mark.parametrize("offered", ["1.1", "1.80"])
def test_an_ironic_that_is_too_old_is_refused_with_what_is_needed(offered: str) -> None:
    with IronicSimulator(max_version=offered) as simulator, pytest.raises(ServiceTooOld) as refusal:
        ironic_at(simulator.url)
    for words in (offered, dotted(FLOOR), "Upgrade"):
        assert words in str(refusal.value)


def test_what_is_no_ironic_is_refused() -> None:
    with NeutronSimulator() as simulator, pytest.raises(RequestRefused, match="Ironic refused"):
        ironic_at(simulator.url)


def test_a_gateway_for_another_deadline_speaks_the_same_version() -> None:
    with IronicSimulator() as simulator:
        ironic = ironic_at(simulator.url)
        other = ironic.within(ironic.deadline.shorter(1.0))
        assert isinstance(other, Ironic)
        assert (other.features, other.transport) == (ironic.features, ironic.transport)
