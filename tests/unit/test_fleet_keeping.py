"""The fleet knows what it was shown last, and nothing that it was shown late undoes what it learned meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from bloomery.errors import ServiceUnavailable
from bloomery.fleet import Fleet
from bloomery.ironic import Ironic
from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from bloomery.testing.gateways import ironic_at

INSTANCE = "6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"


@pytest.fixture
def simulator() -> Iterator[IronicSimulator]:
    with IronicSimulator() as played:
        played.add_node(name="a")
        played.add_node(name="b", conductor_group="elsewhere")
        yield played


@pytest.fixture
def ironic(simulator: IronicSimulator) -> Ironic:
    return ironic_at(simulator.url)


def uuid_of(simulator: IronicSimulator, name: str) -> str:
    return str(simulator.node(name)["uuid"])


def test_only_what_belongs_to_it_is_known(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet = Fleet(lambda node: not node.conductor_group)
    fleet.read(ironic)
    assert [node.name for node in fleet.nodes] == ["a"]
    simulator.set("a", conductor_group="elsewhere")
    simulator.set("b", conductor_group="")
    fleet.refresh(ironic)
    assert [node.name for node in fleet.nodes] == ["b"]


def test_a_list_that_is_not_accepted_changes_nothing(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet = Fleet()
    fleet.read(ironic)
    simulator.add_node(name="c")

    def refuse(_known: object) -> None:
        raise ServiceUnavailable("not believed")

    with pytest.raises(ServiceUnavailable):
        fleet.read(ironic, accept=refuse)
    assert {node.name for node in fleet.nodes} == {"a", "b"}


def test_a_look_is_known_and_takes_the_doubt(simulator: IronicSimulator, ironic: Ironic) -> None:
    fleet = Fleet()
    fleet.read(ironic)
    node = uuid_of(simulator, "a")
    simulator.set("a", instance_uuid=INSTANCE)
    fleet.doubt(node)
    assert fleet.is_doubted(node)
    assert fleet.look(ironic, node).instance_uuid == INSTANCE
    assert not fleet.is_doubted(node)
    found = fleet.node_of(INSTANCE)
    assert found is not None
    assert found.uuid == node


@pytest.mark.parametrize("reads", ["read", "refresh"])
def test_what_was_learned_during_a_read_is_not_undone_by_it(
    simulator: IronicSimulator, ironic: Ironic, reads: str
) -> None:
    fleet = Fleet()
    fleet.read(ironic)
    node = uuid_of(simulator, "a")
    simulator.set("a", instance_uuid=INSTANCE)

    def slowly(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.DELAY_REPLY, delay_s=0.5) if request.path.endswith("/nodes") else None

    simulator.on_request = slowly
    reading = Thread(target=getattr(fleet, reads), args=(ironic,))
    before = len(simulator.requests)
    reading.start()
    while len(simulator.requests) == before:
        reading.join(0.01)
    simulator.set("a", instance_uuid=None)
    fleet.look(ironic, node)
    fleet.doubt(node)
    reading.join()
    assert fleet.node_of(INSTANCE) is None
    assert fleet.is_doubted(node)
