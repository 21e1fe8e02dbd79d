"""What is asked of Neutron is found by name or id, made once, and deleted, whatever becomes of a single request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bloomery.deadline import Deadline
from bloomery.errors import AmbiguousName, BloomeryError, InterfaceFailed, NetworkNotFound, ServiceUnavailable
from bloomery.neutron import Neutron
from bloomery.neutron.models import DEVICE_OWNER, NeutronPort
from bloomery.testing import Fault, FaultKind, NeutronSimulator, RecordedRequest
from bloomery.testing.clock import JumpingClock
from bloomery.testing.gateways import neutron_at

INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
NOBODY = "00000000-0000-4000-8000-000000000000"
FAULTS = {
    "a reset before the deed": Fault(FaultKind.RESET),
    "429 before the deed": Fault(FaultKind.STATUS, 429),
    "500 before the deed": Fault(FaultKind.STATUS, 500),
    "503 before the deed": Fault(FaultKind.STATUS, 503),
    "409 after the deed": Fault(FaultKind.STATUS_AFTER, 409),
    "500 after the deed": Fault(FaultKind.STATUS_AFTER, 500),
    "a reply that is lost": Fault(FaultKind.LOSE_REPLY),
}


@pytest.fixture
def simulator() -> Iterator[NeutronSimulator]:
    with NeutronSimulator() as it:
        yield it


@pytest.fixture
def neutron(simulator: NeutronSimulator) -> Neutron:
    return neutron_at(simulator.url, deadline=Deadline(3600.0, clock=JumpingClock()))


@pytest.fixture
def network_id(simulator: NeutronSimulator) -> str:
    return simulator.add_network("tenant")


def first_write(fault: Fault) -> Callable[[RecordedRequest], Fault | None]:
    left = [fault]
    return lambda request: left.pop() if left and request.is_write else None


def made(neutron: Neutron, network_id: str, name: str = "eth0") -> NeutronPort:
    return neutron.create_port(instance_uuid=INSTANCE, name=name, network_id=network_id)


def test_things_are_found_by_name_and_by_id(simulator: NeutronSimulator, neutron: Neutron, network_id: str) -> None:
    assert neutron.network("tenant") == neutron.network(network_id)
    assert [network.id for network in neutron.networks()] == [network_id]
    subnet = neutron.subnets_of(network_id)[0]
    assert subnet.cidr == "10.1.0.0/24"
    assert neutron.subnet(subnet.id) == subnet == neutron.subnets([subnet.id])[0]
    port_id = simulator.add_port(network_id, name="given")
    assert neutron.port("given").id == port_id
    group = neutron.security_group("default")
    assert neutron.security_groups([group.id]) == [group]


def test_what_is_not_there_is_named_with_the_command_that_lists_it(neutron: Neutron) -> None:
    for find in (neutron.network, neutron.subnet, neutron.port, neutron.security_group):
        for wanted in ("no such thing", NOBODY):
            with pytest.raises(NetworkNotFound, match=f"{wanted}.*openstack .* list"):
                find(wanted)


def test_what_several_are_named_like_is_ambiguous(
    simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    other = simulator.add_network("tenant")
    with pytest.raises(AmbiguousName) as refusal:
        neutron.network("tenant")
    assert network_id in str(refusal.value)
    assert other in str(refusal.value)


def test_nothing_is_asked_where_no_id_is_given(simulator: NeutronSimulator, neutron: Neutron) -> None:
    assert (neutron.ports([]), neutron.subnets([]), neutron.security_groups([])) == ([], [], [])
    assert simulator.requests == []


def test_many_are_asked_for_at_once(simulator: NeutronSimulator, neutron: Neutron, network_id: str) -> None:
    ids = [simulator.add_port(network_id) for _ in range(10)]
    assert {port.id for port in neutron.ports([*ids, *ids, NOBODY])} == set(ids)
    assert len(simulator.requests) == 1


def test_lists_that_neutron_cuts_into_pages_are_read_to_their_end(
    simulator: NeutronSimulator, neutron: Neutron
) -> None:
    networks = [simulator.add_network(f"n{number}", cidrs=["10.1.0.0/24", "10.2.0.0/24"]) for number in range(5)]
    vifs = {made(neutron, networks[0], name=f"eth{number}").id for number in range(4)}
    theirs = {simulator.add_port(networks[1], device_id=OTHER) for _ in range(3)}
    groups = {str(simulator.create("security_groups", {"name": f"g{number}"})["id"]) for number in range(4)}
    for simulator.max_limit in (1, 2, 3, 4, 100):
        assert [network.id for network in neutron.networks()] == networks
        assert len(neutron.subnets_of(networks[1])) == 2
        assert {port.id for port in neutron.our_ports()} == {port.id for port in neutron.ports_of(INSTANCE)} == vifs
        assert {port.id for port in neutron.ports([*theirs, *vifs])} == {*theirs, *vifs}
        assert {group.id for group in neutron.security_groups([*groups])} == groups


def test_a_page_begins_after_the_last_thing_on_the_page_before_whatever_neutrons_link_says(
    simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    vifs = [made(neutron, network_id, name=f"eth{number}").id for number in range(3)]
    simulator.max_limit = 2
    simulator.requests.clear()
    assert [port.id for port in neutron.our_ports()] == vifs
    assert [request.target for request in simulator.requests] == [
        "/v2.0/ports?device_owner=baremetal%3Anone",
        f"/v2.0/ports?device_owner=baremetal%3Anone&marker={vifs[1]}",
    ]


def test_a_vif_that_we_made_says_so_and_is_found_by_that(
    simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    simulator.add_port(network_id, device_id=INSTANCE)
    port = made(neutron, network_id)
    assert port.was_created_for(INSTANCE)
    assert not port.was_created_for(OTHER)
    assert (port.device_owner, len(port.fixed_ips)) == (DEVICE_OWNER, 1)
    assert [ours.id for ours in neutron.our_ports()] == [port.id]
    assert len(neutron.ports_of(INSTANCE)) == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_vif_is_made_once_whatever_becomes_of_its_request(
    fault: Fault, simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    simulator.on_request = first_write(fault)
    port = made(neutron, network_id)
    assert [there["id"] for there in simulator.ports()] == [port.id]


def test_a_vif_of_that_name_that_somebody_else_made_is_not_taken_for_ours(
    simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    theirs = simulator.add_port(network_id, name="eth0", device_id=INSTANCE)
    simulator.on_request = first_write(Fault(FaultKind.RESET))
    assert made(neutron, network_id).id != theirs


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_vif_is_deleted_whatever_becomes_of_its_request_and_twice_is_fine(
    fault: Fault, simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    port = made(neutron, network_id)
    simulator.on_request = first_write(fault)
    for _ in range(2):
        neutron.delete_port(port.id)
    assert simulator.ports() == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_security_groups_are_set_whatever_becomes_of_the_request(
    fault: Fault, simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    port = made(neutron, network_id)
    simulator.on_request = first_write(fault)
    assert neutron.set_security_groups(port.id, []).security_groups == []


@pytest.mark.parametrize(
    "fixed_ips",
    [[{"ip_address": "203.0.113.1"}], [{"ip_address": "10.1.0.50"}], [{"subnet_id": NOBODY}]],
    ids=["of another network", "in use", "of no subnet"],
)
def test_an_address_that_cannot_be_had_is_refused_with_neutrons_reason(
    fixed_ips: list[dict[str, str]], simulator: NeutronSimulator, neutron: Neutron, network_id: str
) -> None:
    holder = simulator.add_port(network_id, fixed_ips=[{"ip_address": "10.1.0.50"}])
    with pytest.raises(InterfaceFailed) as refusal:
        neutron.create_port(instance_uuid=INSTANCE, name="eth0", network_id=network_id, fixed_ips=fixed_ips)
    assert refusal.value.reason
    assert [port["id"] for port in simulator.ports()] == [holder]


def test_a_quota_that_is_used_up_is_said_to_be(network_id: str) -> None:
    with NeutronSimulator(quotas={"port": 1}) as simulator:
        neutron = neutron_at(simulator.url)
        tenant = simulator.add_network("tenant")
        made(neutron, tenant)
        with pytest.raises(InterfaceFailed, match=r"(?i)quota"):
            made(neutron, tenant, "eth1")


def test_a_security_group_that_is_not_there_is_refused(neutron: Neutron, network_id: str) -> None:
    port = made(neutron, network_id)
    with pytest.raises(InterfaceFailed):
        neutron.set_security_groups(port.id, [NOBODY])


def test_a_neutron_that_is_away_is_said_to_be(simulator: NeutronSimulator, network_id: str) -> None:
    neutron = neutron_at(simulator.url, deadline=Deadline(3600.0, outage_s=30.0, clock=JumpingClock()))
    with simulator.unreachable():
        for call in (lambda: neutron.network("tenant"), lambda: made(neutron, network_id)):
            with pytest.raises(ServiceUnavailable, match="Neutron cannot be reached"):
                call()


def test_no_name_breaks_a_search(neutron: Neutron) -> None:
    for name in ("", "a b", "a&b=c", "ü", "x" * 300, "../ports"):
        with pytest.raises(BloomeryError):
            neutron.network(name)
