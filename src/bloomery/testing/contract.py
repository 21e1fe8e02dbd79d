"""What the gateway to Ironic promises, as checks that any Ironic can be put to: a simulator, a lab, yours.

Each check keeps to one promise and needs a bench: an Ironic and a node of it that may be played with. `CONTRACT` has them
all; with pytest, for one:

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.name)
    def test_my_ironic_keeps_the_contract(check, make_bench):
        check(make_bench)

A check fails by raising: `ContractBroken` for a promise that is not kept, or whatever the gateway should not have raised.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bloomery.deadline import Deadline
from bloomery.errors import (
    BloomeryError,
    InterfaceFailed,
    InvalidRequest,
    NodeClaimed,
    NodeNotFound,
    NodeTakenAway,
    NodeUnavailable,
)
from bloomery.ironic import Allocation, Ironic, Node, VolumeTarget
from bloomery.ironic.models import FLEET_FIELDS, GUARD, MARK, WATCH_FIELDS
from bloomery.neutron import Neutron
from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.secret import Secret
from bloomery.states import ON_TEAR_DOWN, WHILE_DEPLOYING, Meaning, Power, Provision, TearDown
from bloomery.watch import Watch

T = TypeVar("T")

NOBODY = "00000000-0000-4000-8000-000000000000"
"""A UUID that nothing has."""
_CHANGED = "contract"
"""What checks change in a node's `extra`."""


class ContractBroken(AssertionError):
    """A promise is not kept."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """What a check works on.

    Attributes:
        ironic: a gateway that nobody else uses.
        node_uuid: a node that nobody else uses: available, powered off, with two NICs, no bond and no console, and with a
            resource class.
        instance_info: what its Ironic can deploy.
        neutron: None leaves out the checks that plug VIFs.
        network_id: a network on which VIFs may be created.
        wait_s: how long any change of the node may take.
        vif_ids: the VIFs that were created for the check.
        allocation_uuids: the allocations that were created for the check.
    """

    ironic: Ironic
    node_uuid: str
    instance_info: Mapping[str, object]
    neutron: Neutron | None = None
    network_id: str | None = None
    wait_s: float = 60.0
    vif_ids: list[str] = field(default_factory=list)
    allocation_uuids: list[str] = field(default_factory=list)

    @property
    def node(self) -> Node:
        """The node as it is now."""
        return self.ironic.node(self.node_uuid)

    def forgetful(self, *, replies: int = 0, requests: int = 0) -> Ironic:
        """The same Ironic; of the writes that are sent to it the first get lost, on their way there or back."""
        lossy = _LossyTransport(self.ironic.transport, replies=replies, requests=requests)
        return Ironic(lossy, self.ironic.features, self.ironic.deadline)

    def claimed(self, instance_uuid: str | None = None) -> Node:
        """The node, claimed for an instance."""
        instance_uuid = instance_uuid or str(uuid.uuid4())
        return self.ironic.claim(self.node, instance_uuid, {"instance_uuid": instance_uuid})

    def deployed(self, node: Node | None = None) -> Node:
        """The node, active."""
        node = self.ready(node or self.claimed())
        self.ironic.provision(node, "active")
        return self.active()

    def ready(self, node: Node) -> Node:
        """The node, with an image to deploy, and with a VIF where there is a network: Ironic's `flat` asks for one."""
        if self.neutron is not None and not self.ironic.vifs(self.node_uuid):
            self.ironic.attach_vif(self.node_uuid, self.vif())
        wanted = {**node.instance_info, **self.instance_info}
        patch: list[dict[str, object]] = [{"op": "add", "path": "/instance_info", "value": wanted}]
        return self.ironic.update(
            node,
            patch,
            is_so=lambda now: self.instance_info.items() <= now.instance_info.items(),
            doing="giving it an image",
        )

    def active(self) -> Node:
        """The node, once it has been deployed."""
        node, meaning = Watch(self.ironic, shortest_s=0.05).wait_for_state(
            self.node, WHILE_DEPLOYING, deadline=Deadline(self.wait_s), doing="deploying"
        )
        _holds(meaning is Meaning.DONE, f"the deploy ends in {node.provision_state!r}: {node.last_error}")
        return self.node

    def vif(self) -> str:
        """A VIF that is plugged nowhere."""
        if self.neutron is None or self.network_id is None:
            raise ContractBroken("the bench has no network")
        name = f"contract-{uuid.uuid4()}"
        port = self.neutron.create_port(instance_uuid=NOBODY, name=name, network_id=self.network_id)
        self.vif_ids.append(port.id)
        return port.id

    def allocate(
        self, *, ironic: Ironic | None = None, name: str | None = None, allocation_uuid: str | None = None
    ) -> Allocation:
        """An allocation of the node; it may take a moment until it has it."""
        allocation_uuid = allocation_uuid or str(uuid.uuid4())
        self.allocation_uuids.append(allocation_uuid)
        return (ironic or self.ironic).allocate(
            allocation_uuid,
            resource_class=str(self.node.resource_class),
            candidate_nodes=[self.node_uuid],
            name=name,
        )

    def allocated(self) -> Allocation:
        """An allocation that has the node."""
        made = self.allocate()

        def done() -> Allocation | None:
            now = self.ironic.allocation(made.uuid)
            _holds(now is not None and now.state != "error", f"the allocation fails: {now}")
            return now if now is not None and now.state == "active" else None

        return self.once(done, "allocating")

    def volume(
        self, *, ironic: Ironic | None = None, target_uuid: str | None = None, boot_index: int = 0
    ) -> VolumeTarget:
        """A volume of the node."""
        return (ironic or self.ironic).add_volume_target(
            self.node_uuid,
            target_uuid=target_uuid or str(uuid.uuid4()),
            volume_id=str(uuid.uuid4()),
            volume_type="iscsi",
            boot_index=boot_index,
            properties=Secret[Mapping[str, object]]({"target_iqn": "iqn.2026-01.org.example:volume"}),
            extra={MARK: {"instance_uuid": NOBODY}},
        )

    def powered(self, power: Power) -> Node:
        """The node, once it is in that power state and Ironic has nothing more to do with it."""

        def done() -> Node | None:
            now = self.node
            is_quiet = now.target_power_state is None and now.reservation is None
            return now if is_quiet and now.power_state == power else None

        return self.once(done, f"waiting for {power.value!r}")

    def once(self, look: Callable[[], T | None], doing: str) -> T:
        """What the look gives, as soon as it gives something."""
        return Watch(self.ironic, shortest_s=0.05, longest_s=0.5).poll(
            look, deadline=Deadline(self.wait_s), doing=doing
        )

    def put_back(self) -> None:
        """The node is available, off and free, and nothing that the check has made is left."""
        if ON_TEAR_DOWN[self.node.state] is TearDown.ASK:
            self.ironic.provision(self.node, "deleted")
        self.once(lambda: self.node if self._is_at_rest(self.node) else None, "waiting for the node to be available")
        for vif_id in self.ironic.vifs(self.node_uuid):
            self.ironic.detach_vif(self.node_uuid, vif_id)
        if self.node.power_state != Power.OFF:
            self.ironic.set_power(self.node_uuid, Power.OFF)
            self.powered(Power.OFF)
        for target in self.ironic.volume_targets(self.node_uuid):
            self.ironic.remove_volume_target(self.node_uuid, target.uuid)
        for allocation_uuid in self.allocation_uuids:
            self.ironic.delete_allocation(allocation_uuid)
        if self.node.instance_uuid is not None:
            self.ironic.release(self.node, self.node.instance_uuid)
        if _CHANGED in self.node.extra:
            self.ironic.update(
                self.node,
                [{"op": "remove", "path": f"/extra/{_CHANGED}"}],
                is_so=lambda now: _CHANGED not in now.extra,
                doing="putting it back",
            )
        if self.neutron is not None:
            for vif_id in self.vif_ids:
                self.neutron.delete_port(vif_id)

    @staticmethod
    def _is_at_rest(node: Node) -> bool:
        return node.state is Provision.AVAILABLE and node.reservation is None and node.target_power_state is None


Make = Callable[[], Bench]
"""Gives a bench whose node is as `Bench` says; of another check nothing is left on it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, and how it is put to the test. Call it with a maker of benches.

    Attributes:
        promise: puts a bench to the test.
        needs_network: whether the bench needs a Neutron.
    """

    promise: Callable[[Bench], None]
    needs_network: bool = False

    @property
    def name(self) -> str:
        """The promise in one line."""
        return self.promise.__name__.removeprefix("check_")

    def __call__(self, make: Make) -> None:
        """Raise if the promise is not kept; the node is put back in either case."""
        bench = make()
        try:
            self.promise(bench)
        finally:
            bench.put_back()


class _LossyTransport(Detour):
    """Goes the way of another transport, and loses the first of its writes, or of their replies."""

    def __init__(self, way: Transport, *, replies: int, requests: int) -> None:
        super().__init__(way)
        self._replies = replies
        self._requests = requests

    def passed(self, request: Request) -> Reply:
        """As the other transport, but for what gets lost."""
        if request.is_write and self._requests > 0:
            self._requests -= 1
            raise RequestFailure(Failure.LOST, "the request was lost, for the contract's sake")
        reply = self.sent(request)
        if request.is_write and self._replies > 0:
            self._replies -= 1
            raise RequestFailure(Failure.LOST, "the reply was lost, for the contract's sake")
        return reply


def _holds(fact: bool, otherwise: str) -> None:
    if not fact:
        raise ContractBroken(otherwise)


@contextmanager
def _refused(kind: type[BloomeryError]) -> Iterator[None]:
    """The block ends with an error of just this kind, which says something."""
    try:
        yield
    except kind as refusal:
        _holds(bool(refusal.message), f"{type(refusal).__name__} says nothing")
    else:
        raise ContractBroken(f"no {kind.__name__} was raised")


def _extra(value: str) -> list[dict[str, object]]:
    return [{"op": "add", "path": f"/extra/{_CHANGED}", "value": value}]


def _has_extra(value: str) -> Callable[[Node], bool]:
    return lambda node: node.extra.get(_CHANGED) == value


# Reading


def check_a_node_that_is_not_there_is_not_found(bench: Bench) -> None:
    with _refused(NodeNotFound):
        bench.ironic.node(NOBODY)


def check_looking_for_what_is_not_there_finds_none(bench: Bench) -> None:
    for name in (
        NOBODY,
        "no-such-node",
        "no such node",
        "no/such/node",
        "nö",
        "?",
        "detail",
        "validate",
        ".",
        "..",
        "",
    ):
        _holds(bench.ironic.find_node(name) is None, f"a node is found by {name!r}")
        _holds(bench.ironic.allocation(name) is None, f"an allocation is found by {name!r}")
    _holds(bench.ironic.node_of(NOBODY) is None, "a node is found by an instance that nobody has")


def check_a_node_is_found_by_name_and_by_uuid(bench: Bench) -> None:
    name = bench.node.name
    _holds(bench.ironic.find_node(bench.node_uuid) == bench.node, "it is not found by its UUID")
    _holds(name is None or bench.ironic.find_node(name) == bench.node, "it is not found by its name")


def check_a_read_gives_the_fields_that_were_asked_for(bench: Bench) -> None:
    few = bench.ironic.node(bench.node_uuid, fields=("uuid", "provision_state"))
    _holds((few.uuid, few.state) == (bench.node_uuid, Provision.AVAILABLE), f"the fields do not come: {few}")
    _holds(few.resource_class is None, "a field comes that was not asked for")
    whole = bench.ironic.node(bench.node_uuid, whole=True)
    _holds(whole.changed_at is not None, "the whole node has no time of its last change")


def check_every_field_that_bloomery_asks_for_is_known(bench: Bench) -> None:
    for fields in (WATCH_FIELDS, FLEET_FIELDS):
        _holds(bench.ironic.node(bench.node_uuid, fields=fields).uuid == bench.node_uuid, "it is another node")


def check_nodes_come_page_by_page_each_once(bench: Bench) -> None:
    at_once = [node.uuid for node in bench.ironic.nodes()]
    singly = [node.uuid for node in bench.ironic.nodes(page=1)]
    _holds(bench.node_uuid in at_once, "the node is not in the list")
    _holds(len(set(singly)) == len(singly), "a node comes twice")
    _holds(set(singly) == set(at_once), "the pages have other nodes than the whole list")


def check_lists_keep_to_their_filters(bench: Bench) -> None:
    free = {node.uuid for node in bench.ironic.nodes({"associated": False})}
    bench.claimed()
    taken = {node.uuid for node in bench.ironic.nodes({"associated": True})}
    _holds(bench.node_uuid in free and bench.node_uuid in taken, "`associated` is not what it says")
    available = list(bench.ironic.nodes({"provision_state": "available"}))
    _holds({node.state for node in available} == {Provision.AVAILABLE}, "`provision_state` is not what it says")


def check_the_node_of_an_instance_is_found(bench: Bench) -> None:
    node = bench.claimed()
    found = bench.ironic.node_of(str(node.instance_uuid))
    _holds(found is not None and found.uuid == bench.node_uuid, f"another is found: {found}")


def check_a_node_tells_its_nics_and_bonds(bench: Bench) -> None:
    ports = bench.ironic.ports(bench.node_uuid)
    _holds(len({port.address for port in ports}) == 2, f"the NICs are {ports}")
    _holds({port.node_uuid for port in ports} == {bench.node_uuid}, "a NIC is another node's")
    _holds({port.vif_id for port in ports} == {None}, "a VIF is plugged in")
    _holds(bench.ironic.port_groups(bench.node_uuid) == [], "the node has a bond")
    _holds(bench.ironic.vifs(bench.node_uuid) == [], "the node has VIFs")


def check_a_node_tells_its_volumes_and_connectors(bench: Bench) -> None:
    _holds(bench.ironic.volume_targets(bench.node_uuid) == [], "the node has volumes")
    _holds(bench.ironic.volume_connectors(bench.node_uuid) == [], "the node has volume connectors")


def check_validation_says_yes_or_no_of_each_interface(bench: Bench) -> None:
    found = bench.ironic.validation(bench.node_uuid)
    _holds({"power", "deploy", "boot", "management"} <= found.keys(), f"interfaces are missing: {sorted(found)}")
    _holds(found["power"].result is True, f"power says {found['power']}")
    _holds(all(one.result in (True, None) or one.reason for one in found.values()), "a refusal has no reason")


def check_traits_that_the_node_lacks_fail_the_validation(bench: Bench) -> None:
    node = bench.ready(bench.claimed())
    wanted = ["CUSTOM_THAT_NO_NODE_HAS"]
    bench.ironic.update(
        node,
        [{"op": "add", "path": "/instance_info/traits", "value": wanted}],
        is_so=lambda now: now.instance_info.get("traits") == wanted,
        doing="asking for a trait",
    )
    deploy = bench.ironic.validation(bench.node_uuid)["deploy"]
    _holds(deploy.result is False and "CUSTOM_THAT_NO_NODE_HAS" in str(deploy.reason), f"deploy says {deploy}")


def check_a_conductor_is_alive_and_serves_the_nodes_driver(bench: Bench) -> None:
    driver = bench.node.driver
    _holds(any(conductor.alive for conductor in bench.ironic.conductors()), "no conductor is alive")
    _holds(driver in {one.name for one in bench.ironic.drivers() if one.hosts}, f"nobody serves {driver}")


def check_inventory_and_history_are_empty_or_well_formed(bench: Bench) -> None:
    inventory = bench.ironic.inventory(bench.node_uuid)
    _holds(inventory is None or bool(inventory), "an inventory is there and empty")
    _holds(all(event.uuid for event in bench.ironic.history(bench.node_uuid)), "an event has no UUID")
    _holds(all(part.component for part in bench.ironic.firmware(bench.node_uuid)), "a part has no name")


# Claim and release


def check_a_claim_puts_instance_and_mark_on_the_node(bench: Bench) -> None:
    node = bench.claimed()
    now = bench.node
    _holds(now.instance_uuid == node.instance_uuid and now.mark == node.mark != None, f"the node has {now}")  # noqa: E711


def check_a_node_that_lost_our_mark_is_not_changed_for_our_instance(bench: Bench) -> None:
    instance_uuid = str(uuid.uuid4())
    mark = {"instance_uuid": instance_uuid, GUARD: {instance_uuid: True}}
    claimed = bench.ironic.claim(bench.node, instance_uuid, mark)
    marked: list[dict[str, object]] = [{"op": "add", "path": f"/extra/{MARK}", "value": {"of": "somebody else"}}]
    bench.ironic.update(Node(uuid=claimed.uuid), marked, is_so=lambda now: now.mark is None, doing="marking it anew")
    with _refused(NodeTakenAway):
        bench.ironic.update(claimed, _extra("late"), is_so=_has_extra("late"), doing="changing it too late")
    _holds(_CHANGED not in bench.node.extra, "it was changed all the same")


def check_claiming_twice_for_one_instance_is_success(bench: Bench) -> None:
    first = bench.claimed()
    again = bench.claimed(first.instance_uuid)
    _holds(again.instance_uuid == first.instance_uuid and again.mark is not None, "the second claim changed the first")


def check_claim_refuses_a_node_held_by_another(bench: Bench) -> None:
    first = bench.claimed()
    with _refused(NodeClaimed):
        bench.claimed()
    _holds(bench.node.instance_uuid == first.instance_uuid, "the holder has lost it")
    _holds(bench.node.mark == first.mark, "the holder's mark is another")


def check_a_claim_whose_reply_was_lost_is_made(bench: Bench) -> None:
    instance_uuid = str(uuid.uuid4())
    node = bench.forgetful(replies=1).claim(bench.node, instance_uuid, {"instance_uuid": instance_uuid})
    _holds(node.instance_uuid == bench.node.instance_uuid == instance_uuid, "it is not")


def check_a_claim_that_was_lost_is_sent_again(bench: Bench) -> None:
    instance_uuid = str(uuid.uuid4())
    node = bench.forgetful(requests=2).claim(bench.node, instance_uuid, {"instance_uuid": instance_uuid})
    _holds(node.instance_uuid == bench.node.instance_uuid == instance_uuid, "it is not")


def check_a_release_clears_claim_instance_info_and_mark_in_one_change(bench: Bench) -> None:
    node = bench.ready(bench.claimed())
    counting = _CountingTransport(bench.ironic.transport)
    gateway = Ironic(counting, bench.ironic.features, bench.ironic.deadline)
    freed = gateway.release(node, str(node.instance_uuid))
    _holds(counting.writes == 1, f"it took {counting.writes} changes")
    for now in (freed, bench.node):
        _holds((now.instance_uuid, now.instance_info, now.any_mark) == (None, {}, None), f"something is left: {now}")


def check_releasing_twice_is_success(bench: Bench) -> None:
    node = bench.claimed()
    bench.ironic.release(node, str(node.instance_uuid))
    bench.ironic.release(node, str(node.instance_uuid))
    _holds(bench.node.instance_uuid is None, "it is not free")


def check_a_release_leaves_another_instance_alone(bench: Bench) -> None:
    node = bench.claimed()
    bench.ironic.release(node, NOBODY)
    _holds(bench.node.instance_uuid == node.instance_uuid and bench.node.mark == node.mark, "the holder has lost it")


def check_a_release_whose_reply_was_lost_is_done(bench: Bench) -> None:
    node = bench.claimed()
    freed = bench.forgetful(replies=1).release(node, str(node.instance_uuid))
    _holds(freed.instance_uuid is None and bench.node.instance_uuid is None, "it is not free")


# Updates


def check_an_update_changes_the_node(bench: Bench) -> None:
    node = bench.claimed()
    now = bench.ironic.update(node, _extra("new"), is_so=_has_extra("new"), doing="changing it")
    _holds(_has_extra("new")(now) and _has_extra("new")(bench.node), "the change is not there")


def check_an_update_whose_reply_was_lost_is_made(bench: Bench) -> None:
    node = bench.claimed()
    now = bench.forgetful(replies=1).update(node, _extra("lost"), is_so=_has_extra("lost"), doing="changing it")
    _holds(_has_extra("lost")(now), "the change is not there")


def check_an_update_that_was_lost_is_sent_again(bench: Bench) -> None:
    node = bench.claimed()
    now = bench.forgetful(requests=1).update(node, _extra("sent"), is_so=_has_extra("sent"), doing="changing it")
    _holds(_has_extra("sent")(now), "the change is not there")


def check_an_update_that_was_lost_is_not_sent_to_another_instance(bench: Bench) -> None:
    before = bench.claimed()
    bench.ironic.release(before, str(before.instance_uuid))
    bench.claimed()
    with _refused(NodeTakenAway):
        bench.forgetful(requests=1).update(before, _extra("late"), is_so=_has_extra("late"), doing="changing it")
    _holds(not _has_extra("late")(bench.node), "the change was made all the same")


# VIFs


def check_an_attached_vif_is_listed_and_on_a_nic(bench: Bench) -> None:
    vif_id = bench.vif()
    bench.ironic.attach_vif(bench.node_uuid, vif_id)
    _holds(bench.ironic.vifs(bench.node_uuid) == [vif_id], "it is not listed")
    _holds(vif_id in {port.vif_id for port in bench.ironic.ports(bench.node_uuid)}, "it is on no NIC")


def check_a_vif_is_on_the_nic_that_was_chosen(bench: Bench) -> None:
    last = bench.ironic.ports(bench.node_uuid)[-1]
    vif_id = bench.vif()
    bench.ironic.attach_vif(bench.node_uuid, vif_id, port_uuid=last.uuid)
    holder = next(port for port in bench.ironic.ports(bench.node_uuid) if port.vif_id == vif_id)
    _holds(holder.uuid == last.uuid, "it is on another NIC")


def check_attaching_a_vif_twice_is_success(bench: Bench) -> None:
    vif_id = bench.vif()
    for _ in range(2):
        bench.ironic.attach_vif(bench.node_uuid, vif_id)
    _holds(bench.ironic.vifs(bench.node_uuid) == [vif_id], "it is not listed once")


def check_a_vif_whose_reply_was_lost_is_attached_once(bench: Bench) -> None:
    vif_id = bench.vif()
    bench.forgetful(replies=1).attach_vif(bench.node_uuid, vif_id)
    _holds(bench.ironic.vifs(bench.node_uuid) == [vif_id], "it is not listed once")


def check_a_detached_vif_is_not_listed_and_detaching_twice_is_success(bench: Bench) -> None:
    vif_id = bench.vif()
    bench.ironic.attach_vif(bench.node_uuid, vif_id)
    for _ in range(2):
        bench.ironic.detach_vif(bench.node_uuid, vif_id)
    _holds(bench.ironic.vifs(bench.node_uuid) == [], "it is listed")


def check_a_vif_whose_reply_was_lost_is_detached(bench: Bench) -> None:
    vif_id = bench.vif()
    bench.ironic.attach_vif(bench.node_uuid, vif_id)
    bench.forgetful(replies=1).detach_vif(bench.node_uuid, vif_id)
    _holds(bench.ironic.vifs(bench.node_uuid) == [], "it is listed")


def check_an_unknown_vif_is_refused(bench: Bench) -> None:
    with _refused(InterfaceFailed):
        bench.ironic.attach_vif(bench.node_uuid, NOBODY)
    _holds(bench.ironic.vifs(bench.node_uuid) == [], "it is listed")


def check_a_vif_more_than_there_are_nics_is_refused(bench: Bench) -> None:
    for _ in range(2):
        bench.ironic.attach_vif(bench.node_uuid, bench.vif())
    one_too_many = bench.vif()
    with _refused(InterfaceFailed):
        bench.ironic.attach_vif(bench.node_uuid, one_too_many)
    _holds(len(bench.ironic.vifs(bench.node_uuid)) == 2, "two are not listed")


# Provision states


def check_a_deploy_that_is_asked_for_ends_in_active(bench: Bench) -> None:
    node = bench.deployed()
    _holds(node.state is Provision.ACTIVE and node.mark is not None, f"it ends in {node}")


def check_a_deploy_whose_reply_was_lost_is_under_way(bench: Bench) -> None:
    node = bench.ready(bench.claimed())
    bench.forgetful(replies=1).provision(node, "active")
    bench.active()


def check_a_deploy_that_was_lost_is_asked_for_again(bench: Bench) -> None:
    node = bench.ready(bench.claimed())
    bench.forgetful(requests=1).provision(node, "active")
    bench.active()


def check_a_node_that_is_torn_down_carries_no_instance(bench: Bench) -> None:
    node = bench.deployed()
    bench.ironic.provision(node, "deleted")

    def free() -> Node | None:
        now = bench.node
        return now if now.state is Provision.AVAILABLE and now.reservation is None else None

    now = bench.once(free, "tearing down")
    _holds((now.instance_uuid, now.instance_info) == (None, {}), f"something is left: {now}")
    _holds(now.mark is None, "the mark is about an instance that is gone")


def check_a_tear_down_whose_reply_was_lost_is_under_way(bench: Bench) -> None:
    node = bench.deployed()
    bench.forgetful(replies=1).provision(node, "deleted")
    _holds(bench.node.state is not Provision.ACTIVE, "it is not")


def check_a_verb_that_does_not_fit_the_state_is_refused(bench: Bench) -> None:
    node = bench.claimed()
    for verb in ("rebuild", "unrescue", "deleted"):
        with _refused(NodeUnavailable):
            bench.ironic.provision(node, verb)
    _holds(bench.node.state is Provision.AVAILABLE, "the node has moved")


# Power


def check_power_goes_on_and_off(bench: Bench) -> None:
    for power in (Power.ON, Power.ON, Power.OFF):
        bench.ironic.set_power(bench.node_uuid, power)
        bench.powered(power)


def check_a_power_change_whose_reply_was_lost_is_under_way(bench: Bench) -> None:
    bench.forgetful(replies=1).set_power(bench.node_uuid, Power.ON)
    bench.powered(Power.ON)


def check_a_reboot_ends_powered_on(bench: Bench) -> None:
    bench.ironic.set_power(bench.node_uuid, Power.ON)
    bench.powered(Power.ON)
    bench.ironic.set_power(bench.node_uuid, Power.REBOOT)
    bench.powered(Power.ON)


# Allocations


def check_an_allocation_gets_the_node(bench: Bench) -> None:
    allocation = bench.allocated()
    _holds(allocation.node_uuid == bench.node_uuid, f"it has node {allocation.node_uuid}")
    _holds(bench.node.instance_uuid == allocation.uuid, f"the node carries {bench.node.instance_uuid}")


def check_allocating_twice_with_one_uuid_is_one_allocation(bench: Bench) -> None:
    first = bench.allocate()
    again = bench.allocate(allocation_uuid=first.uuid)
    _holds(again.uuid == first.uuid, "they are two")


def check_an_allocation_whose_reply_was_lost_is_one_allocation(bench: Bench) -> None:
    made = bench.allocate(ironic=bench.forgetful(replies=1))
    found = bench.ironic.allocation(made.uuid)
    _holds(found is not None and found.uuid == made.uuid == bench.allocation_uuids[0], f"{found} was made")


def check_an_allocation_is_found_by_name(bench: Bench) -> None:
    name = f"contract-{uuid.uuid4()}"
    made = bench.allocate(name=name)
    found = bench.ironic.allocation(name)
    _holds(found is not None and found.uuid == made.uuid, f"{found} is found")


def check_a_name_that_is_taken_is_refused(bench: Bench) -> None:
    name = f"contract-{uuid.uuid4()}"
    bench.allocate(name=name)
    with _refused(InvalidRequest):
        bench.allocate(name=name)


def check_a_deleted_allocation_frees_its_node_and_deleting_twice_is_success(bench: Bench) -> None:
    allocation = bench.allocated()
    for _ in range(2):
        bench.ironic.delete_allocation(allocation.uuid)
    _holds(bench.ironic.allocation(allocation.uuid) is None, "it is there")
    _holds(bench.node.instance_uuid is None, "the node is not free")


def check_a_deletion_whose_reply_was_lost_is_done(bench: Bench) -> None:
    allocation = bench.allocated()
    bench.forgetful(replies=1).delete_allocation(allocation.uuid)
    _holds(bench.ironic.allocation(allocation.uuid) is None, "it is there")


def check_the_allocation_of_a_deployed_node_is_not_deleted(bench: Bench) -> None:
    allocation = bench.allocated()
    bench.deployed(bench.claimed(allocation.uuid))
    with _refused(NodeUnavailable):
        bench.ironic.delete_allocation(allocation.uuid)
    _holds(bench.node.instance_uuid == allocation.uuid, "the node has lost its instance")


# Volumes


def check_a_volume_that_is_added_twice_is_one_volume(bench: Bench) -> None:
    first = bench.volume()
    again = bench.volume(target_uuid=first.uuid)
    _holds(again.uuid == first.uuid, "the second is another")
    _holds([one.uuid for one in bench.ironic.volume_targets(bench.node_uuid)] == [first.uuid], "they are not one")


def check_a_volume_whose_reply_was_lost_is_one_volume(bench: Bench) -> None:
    made = bench.volume(ironic=bench.forgetful(replies=1))
    _holds([one.uuid for one in bench.ironic.volume_targets(bench.node_uuid)] == [made.uuid], "they are not one")


def check_a_boot_index_that_is_taken_is_refused(bench: Bench) -> None:
    bench.volume(boot_index=0)
    bench.volume(boot_index=1)
    with _refused(NodeUnavailable):
        bench.volume(boot_index=0)


def check_removing_a_volume_twice_is_success(bench: Bench) -> None:
    target = bench.volume()
    for _ in range(2):
        bench.ironic.remove_volume_target(bench.node_uuid, target.uuid)
    _holds(bench.ironic.volume_targets(bench.node_uuid) == [], "it is there")


def check_a_removal_whose_reply_was_lost_is_done(bench: Bench) -> None:
    target = bench.volume()
    bench.forgetful(replies=1).remove_volume_target(bench.node_uuid, target.uuid)
    _holds(bench.ironic.volume_targets(bench.node_uuid) == [], "it is there")


def check_a_volume_stays_while_the_node_is_powered_on(bench: Bench) -> None:
    target = bench.volume()
    bench.ironic.set_power(bench.node_uuid, Power.ON)
    bench.powered(Power.ON)
    with _refused(NodeUnavailable):
        bench.ironic.remove_volume_target(bench.node_uuid, target.uuid)
    _holds(len(bench.ironic.volume_targets(bench.node_uuid)) == 1, "it is gone")


# Consoles


def check_a_node_without_console_refuses_to_start_it(bench: Bench) -> None:
    _holds(not bench.ironic.console(bench.node_uuid).console_enabled, "it is there")
    with _refused(NodeUnavailable):
        bench.ironic.set_console(bench.node_uuid, enabled=True)


# Changes


def check_the_newest_changes_come_newest_first_and_page_by_page(bench: Bench) -> None:
    bench.claimed()
    whole = bench.ironic.newest_changes(limit=1000)
    times = [node.changed_at for node in whole if node.changed_at is not None]
    _holds(len(times) == len(whole), "a change has no time")
    _holds(times == sorted(times, reverse=True), "they are not in order")
    _holds(bench.node_uuid in {node.uuid for node in whole}, "the node is not among them")
    if len(whole) > 1:
        second = bench.ironic.newest_changes(limit=1, marker=whole[0].uuid)
        _holds([node.uuid for node in second] == [whole[1].uuid], "the second page does not follow the first")


def check_every_kind_of_change_moves_the_time_of_the_last_change(bench: Bench) -> None:
    last = bench.ironic.node(bench.node_uuid, whole=True).changed_at

    def moved(what: str) -> None:
        nonlocal last
        now = next(node for node in bench.ironic.newest_changes(limit=1000) if node.uuid == bench.node_uuid).changed_at
        _holds(now is not None and (last is None or now > last), f"{what} leaves it where it was")
        last = now

    node = bench.claimed()
    moved("a claim")
    node = bench.ironic.update(node, _extra("moved"), is_so=_has_extra("moved"), doing="changing it")
    moved("an update")
    bench.ironic.set_power(bench.node_uuid, Power.ON)
    bench.powered(Power.ON)
    moved("a power change")
    bench.deployed(node)
    moved("a deploy")
    bench.ironic.provision(bench.node, "deleted")
    bench.once(lambda: bench.node if bench.node.state is Provision.AVAILABLE else None, "tearing down")
    moved("a tear-down")


def check_plugging_and_unplugging_move_the_time_of_the_last_change(bench: Bench) -> None:
    vif_id = bench.vif()
    times = [bench.ironic.node(bench.node_uuid, whole=True).changed_at]
    for change in (bench.ironic.attach_vif, bench.ironic.detach_vif):
        change(bench.node_uuid, vif_id)
        times.append(bench.ironic.node(bench.node_uuid, whole=True).changed_at)
    known = [moment for moment in times if moment is not None]
    _holds(len(known) >= 2 and known == sorted(set(known)), f"it stays where it was: {times}")


class _CountingTransport(Detour):
    """Goes the way of another transport, and counts the writes."""

    def __init__(self, way: Transport) -> None:
        super().__init__(way)
        self.writes = 0

    def passed(self, request: Request) -> Reply:
        """As the other transport."""
        self.writes += request.is_write
        return self.sent(request)


CONTRACT: tuple[Check, ...] = (
    Check(check_a_node_that_is_not_there_is_not_found),
    Check(check_looking_for_what_is_not_there_finds_none),
    Check(check_a_node_is_found_by_name_and_by_uuid),
    Check(check_a_read_gives_the_fields_that_were_asked_for),
    Check(check_every_field_that_bloomery_asks_for_is_known),
    Check(check_nodes_come_page_by_page_each_once),
    Check(check_lists_keep_to_their_filters),
    Check(check_the_node_of_an_instance_is_found),
    Check(check_a_node_tells_its_nics_and_bonds),
    Check(check_a_node_tells_its_volumes_and_connectors),
    Check(check_validation_says_yes_or_no_of_each_interface),
    Check(check_traits_that_the_node_lacks_fail_the_validation),
    Check(check_a_conductor_is_alive_and_serves_the_nodes_driver),
    Check(check_inventory_and_history_are_empty_or_well_formed),
    Check(check_a_claim_puts_instance_and_mark_on_the_node),
    Check(check_a_node_that_lost_our_mark_is_not_changed_for_our_instance),
    Check(check_claiming_twice_for_one_instance_is_success),
    Check(check_claim_refuses_a_node_held_by_another),
    Check(check_a_claim_whose_reply_was_lost_is_made),
    Check(check_a_claim_that_was_lost_is_sent_again),
    Check(check_a_release_clears_claim_instance_info_and_mark_in_one_change),
    Check(check_releasing_twice_is_success),
    Check(check_a_release_leaves_another_instance_alone),
    Check(check_a_release_whose_reply_was_lost_is_done),
    Check(check_an_update_changes_the_node),
    Check(check_an_update_whose_reply_was_lost_is_made),
    Check(check_an_update_that_was_lost_is_sent_again),
    Check(check_an_update_that_was_lost_is_not_sent_to_another_instance),
    Check(check_an_attached_vif_is_listed_and_on_a_nic, needs_network=True),
    Check(check_a_vif_is_on_the_nic_that_was_chosen, needs_network=True),
    Check(check_attaching_a_vif_twice_is_success, needs_network=True),
    Check(check_a_vif_whose_reply_was_lost_is_attached_once, needs_network=True),
    Check(check_a_detached_vif_is_not_listed_and_detaching_twice_is_success, needs_network=True),
    Check(check_a_vif_whose_reply_was_lost_is_detached, needs_network=True),
    Check(check_an_unknown_vif_is_refused, needs_network=True),
    Check(check_a_vif_more_than_there_are_nics_is_refused, needs_network=True),
    Check(check_a_deploy_that_is_asked_for_ends_in_active),
    Check(check_a_deploy_whose_reply_was_lost_is_under_way),
    Check(check_a_deploy_that_was_lost_is_asked_for_again),
    Check(check_a_node_that_is_torn_down_carries_no_instance),
    Check(check_a_tear_down_whose_reply_was_lost_is_under_way),
    Check(check_a_verb_that_does_not_fit_the_state_is_refused),
    Check(check_power_goes_on_and_off),
    Check(check_a_power_change_whose_reply_was_lost_is_under_way),
    Check(check_a_reboot_ends_powered_on),
    Check(check_an_allocation_gets_the_node),
    Check(check_allocating_twice_with_one_uuid_is_one_allocation),
    Check(check_an_allocation_whose_reply_was_lost_is_one_allocation),
    Check(check_an_allocation_is_found_by_name),
    Check(check_a_name_that_is_taken_is_refused),
    Check(check_a_deleted_allocation_frees_its_node_and_deleting_twice_is_success),
    Check(check_a_deletion_whose_reply_was_lost_is_done),
    Check(check_the_allocation_of_a_deployed_node_is_not_deleted),
    Check(check_a_volume_that_is_added_twice_is_one_volume),
    Check(check_a_volume_whose_reply_was_lost_is_one_volume),
    Check(check_a_boot_index_that_is_taken_is_refused),
    Check(check_removing_a_volume_twice_is_success),
    Check(check_a_removal_whose_reply_was_lost_is_done),
    Check(check_a_volume_stays_while_the_node_is_powered_on),
    Check(check_a_node_without_console_refuses_to_start_it),
    Check(check_the_newest_changes_come_newest_first_and_page_by_page),
    Check(check_every_kind_of_change_moves_the_time_of_the_last_change),
    Check(check_plugging_and_unplugging_move_the_time_of_the_last_change, needs_network=True),
)
"""Every promise. A bench without a Neutron is spared those that need a network."""
