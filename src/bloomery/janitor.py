"""The janitor: what is left of instances and operations that are gone is found; and cleaned, where that is certain.

`RULES` is the whole of it: what is looked for, what proves that it is left, what is done about it. Lists only say where to
look. A deed follows from what was read anew right before it, never from what a list did not show: whoever sees less than
there is, cleans less. What has no mark of ours is shown and not touched, and what Nova deployed is Nova's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from bloomery.deadline import Clock, Deadline, Patience, SystemClock, utc_now
from bloomery.errors import BloomeryError, InvalidRequest, NotSupported, OperationCancelled
from bloomery.ironic import Allocation, Ironic, Node, VolumeTarget
from bloomery.ironic.models import MARK, Port
from bloomery.neutron import Neutron, NeutronPort
from bloomery.operations import deploy, leftovers, recover, vifs
from bloomery.operations.liveness import SKEW, why_over
from bloomery.operations.run import Options, Services, as_mapping, is_managed_by
from bloomery.plain import logger
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.states import MAY_BE_UPDATED, ON_LEFT_BEHIND, LeftBehind, Provision
from bloomery.watch import Watch

log = logger(__name__)

T = TypeVar("T")

REPAIR_TIMEOUT_S = 600.0
"""What one repair may take; what it has not done by then is found again."""
PATIENCE = Patience(before_change_s=5.0, after_change_s=60.0)
"""A janitor comes again: it need not outlast an outage."""
ATTACHING = timedelta(hours=2)
"""A VIF that was created for an instance that runs, and is plugged nowhere after so long, is none that is being attached."""
_HELD = frozenset({Provision.ACTIVE, Provision.RESCUE, Provision.RESCUE_FAIL, Provision.UNRESCUE_FAIL})
"""Where a machine runs what somebody deployed."""

_RESTING = frozenset({Provision.ACTIVE, Provision.AVAILABLE, Provision.MANAGEABLE})
"""Where Ironic has its machine on no network of its own."""

# What is found


class Kind(StrEnum):
    """What sort of thing is left."""

    OPERATION = "operation"
    MARK = "mark"
    ALLOCATION = "allocation"
    VIF = "VIF"
    VOLUME = "volume target"
    CLAIM = "claim"
    INSTANCE_INFO = "instance_info"


class Verdict(StrEnum):
    """What may be done about it."""

    LEFT = "left"
    """It is ours and certainly left: it is cleaned."""
    UNPROVEN = "unproven"
    """It is ours and looks as if it were left, but nothing proves it: it is shown."""
    FOREIGN = "not ours"
    """Somebody else's: it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that seems to be left of an instance or operation that is gone.

    Attributes:
        kind: of which sort.
        verdict: what may be done about it.
        name: what a person calls it.
        id: its UUID; of what stands on a node, the node's.
        node: the name of the node that it is on, or was made for; None where that is not known.
        node_uuid: that node.
        instance_uuid: the instance.
        reason: what proves it, or why nothing does.
        advice: what a person can do where the janitor does nothing.
    """

    kind: Kind
    verdict: Verdict
    name: str
    id: str
    node: str | None
    node_uuid: str | None
    instance_uuid: str | None
    reason: str
    advice: str | None = None

    @classmethod
    def of_others(
        cls, kind: Kind, name: str, uuid: str, node: Node | None, instance_uuid: str | None, *, reason: str, advice: str
    ) -> Leak:
        """Something that is somebody else's: on the node, or for it, where that is known."""
        return cls(
            kind=kind,
            verdict=Verdict.FOREIGN,
            name=name,
            id=uuid,
            node=node.label if node is not None else None,
            node_uuid=node.uuid if node is not None else None,
            instance_uuid=instance_uuid,
            reason=reason,
            advice=advice,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a leak.

    Attributes:
        leak: as it was found.
        is_gone: whether it is there no more.
        problem: what went wrong; None if nothing did, or if it was left alone for want of proof.
    """

    leak: Leak
    is_gone: bool
    problem: BloomeryError | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at everything has shown.

    Attributes:
        leaks: what was found.
        blind: what could not be looked at, a sentence each.
    """

    leaks: tuple[Leak, ...]
    blind: tuple[str, ...]

    @property
    def ours(self) -> tuple[Leak, ...]:
        """What is, or may be, left of ours."""
        return tuple(leak for leak in self.leaks if leak.verdict is not Verdict.FOREIGN)


@dataclass(frozen=True)
class Lists:
    """What the services' lists show. A thing that is not in them may be there all the same.

    Attributes:
        manager: for whom we clean.
        nodes: by UUID.
        allocations: all of them.
        targets: all volume targets.
        ports: every VIF that we created.
        other_ports: every other one of bare-metal instances, and of Ironic's own networks.
        plugged: the NICs into which a VIF is plugged.
    """

    manager: str
    nodes: Mapping[str, Node]
    allocations: Sequence[Allocation] = ()
    targets: Sequence[VolumeTarget] = ()
    ports: Sequence[NeutronPort] = ()
    other_ports: Sequence[NeutronPort] = ()
    plugged: Sequence[Port] = ()

    @functools.cached_property
    def carriers(self) -> Mapping[str, Node]:
        """By instance: the node that carries it."""
        return {node.instance_uuid: node for node in self.nodes.values() if node.instance_uuid is not None}

    @functools.cached_property
    def witnesses(self) -> Mapping[str, Node]:
        """By instance: a node that says by our mark that it carried it, and does so no more."""
        marked = ((node, node.any_mark) for node in self.nodes.values() if node.mark is None)
        return {str(mark.get("instance_uuid")): node for node, mark in marked if mark is not None}


# Judging: of what a list shows, and again of what was read right before a deed


def _judge_node(node: Node, manager: str) -> Leak | None:
    """An operation on the node that was broken off, or a mark of an instance that is gone."""
    mark = node.any_mark
    if node.reservation is not None or not is_managed_by(manager, mark) or mark is None:
        return None
    leak = Leak(
        kind=Kind.OPERATION if node.mark is not None else Kind.MARK,
        verdict=Verdict.LEFT,
        name=str(mark.get("name") or mark.get("instance_uuid")),
        id=node.uuid,
        node=node.label,
        node_uuid=node.uuid,
        instance_uuid=str(mark.get("instance_uuid")),
        reason="",
    )
    return _judge_operation(node, mark, leak) if node.mark is not None else _judge_mark(node, leak)


def _judge_operation(node: Node, mark: Mapping[str, Any], leak: Leak) -> Leak | None:
    over = why_over(mark)
    if over is None or node.state not in MAY_BE_UPDATED:
        return None
    if mark.get("operation") == "rebuild" and "asked_at" in mark and mark["asked_at"] == node.provision_updated_at:
        return replace(leak, reason=f"a rebuild that Ironic never took up: {over}")
    is_kept = bool(mark.get("keep_failed")) and node.state in deploy.KEPT
    if mark.get("operation") != "deploy" or is_kept or ON_LEFT_BEHIND[node.state] is not LeftBehind.TAKE_BACK:
        return None
    words = f"a deploy that was broken off in {node.state.value!r}: {over}"
    if node.state in deploy.KEPT and _came_later(node, mark):
        return replace(
            leak,
            verdict=Verdict.UNPROVEN,
            reason=f"{words}; but it came into that state afterwards, by what somebody else did",
            advice=f"`bloomery rebuild {node.label}` or `bloomery destroy {node.label}`",
        )
    return replace(leak, reason=words)


def _came_later(node: Node, mark: Mapping[str, Any]) -> bool:
    """Whether the node came into its state after the operation was over, so that it cannot have failed by it."""
    try:
        until = datetime.fromisoformat(str(mark.get("until")))
    except ValueError:
        return True
    return node.in_state_since is None or node.in_state_since > until + SKEW


def _judge_mark(node: Node, leak: Leak) -> Leak | None:
    if node.instance_uuid is not None or node.state not in MAY_BE_UPDATED:
        return None  # the next claim replaces it, or Ironic is not done yet
    if node.state in _HELD:
        return replace(
            leak,
            verdict=Verdict.UNPROVEN,
            reason=f"the node is in {node.state.value!r} and runs what we deployed; somebody took the instance from it",
            advice=f"`bloomery destroy {node.label}` if nobody needs it",
        )
    return replace(leak, reason=f"the node is in {node.state.value!r} and carries no instance")


def _judge_allocation(allocation: Allocation, node: Node | None, manager: str) -> Leak | None:
    """A claim that no node shows, and that nobody works on."""
    mark = as_mapping(allocation.extra.get(MARK))
    over = why_over(mark)
    if not mark or not is_managed_by(manager, mark) or over is None:
        return None
    if node is not None and node.instance_uuid == allocation.uuid and node.mark is not None:
        return None
    leak = Leak(
        kind=Kind.ALLOCATION,
        verdict=Verdict.LEFT,
        name=allocation.name or allocation.uuid,
        id=allocation.uuid,
        node=node.label if node is not None else None,
        node_uuid=node.uuid if node is not None else allocation.node_uuid,
        instance_uuid=allocation.uuid,
        reason=f"no node was found for it: {over}",
    )
    if allocation.node_uuid is None:
        return leak
    if node is not None and node.instance_uuid == allocation.uuid and node.state is Provision.AVAILABLE:
        return replace(leak, reason=f"its node was never deployed, nor even marked: {over}")
    why = "its node is not shown to these credentials" if node is None else f"node {node.label} says otherwise"
    advice = f"See what its node is for, then `baremetal allocation delete {allocation.uuid}`"
    return replace(leak, verdict=Verdict.UNPROVEN, reason=f"{why}; {over}", advice=advice)


def _judge_port(port: NeutronPort, carrier: Node | None, node: Node | None, *, is_plugged: bool) -> Leak | None:
    """A VIF that we created for an instance which its node does not carry any more.

    Args:
        port: the VIF.
        carrier: the node that carries its instance.
        node: the node that it was created for; None where that is not known, or not shown to us.
        is_plugged: whether it is plugged into the carrier or the node.
    """
    leak = Leak(
        kind=Kind.VIF,
        verdict=Verdict.UNPROVEN,
        name=port.label,
        id=port.id,
        node=node.label if node is not None else None,
        node_uuid=node.uuid if node is not None else port.created_for_node or port.host_id or None,
        instance_uuid=port.device_id,
        reason="",
        advice=f"`openstack port delete {port.id}` if nobody needs it",
    )
    if carrier is not None:
        if is_plugged or not _is_old(port) or carrier.state is not Provision.ACTIVE:
            return None
        return replace(
            leak,
            node=carrier.label,
            node_uuid=carrier.uuid,
            reason=f"its instance runs on node {carrier.label}, and it is plugged into no NIC of that",
            advice="`bloomery detach` it, or `bloomery recover` if an attach was broken off",
        )
    if node is None:
        return replace(leak, reason="no node that these credentials see carries its instance, nor says that it did")
    if node.state not in MAY_BE_UPDATED or node.reservation is not None:
        return None  # Ironic, or somebody, is still at it
    if node.instance_uuid is None and node.state in _HELD:
        return replace(
            leak, reason=f"node {node.label} carries no instance, and is in {node.state.value!r} all the same"
        )
    if port.is_bound and port.host_id != node.uuid:
        return replace(leak, reason=f"its instance is gone, but it is plugged into {port.host_id}")
    if node.instance_uuid is not None and is_plugged:
        return replace(
            leak,
            reason=f"its instance is gone, but it is plugged into node {node.label}, which carries another",
            advice=f"`baremetal node vif detach {node.uuid} {port.id}`, then `openstack port delete {port.id}`",
        )
    carries = f"instance {node.instance_uuid}" if node.instance_uuid is not None else "no instance"
    return replace(
        leak, verdict=Verdict.LEFT, advice=None, reason=f"it was created for node {node.label}, which carries {carries}"
    )


def _is_old(port: NeutronPort) -> bool:
    """Whether it has been there for longer than any attaching takes."""
    return port.made_at is not None and utc_now() - port.made_at > ATTACHING


def _judge_target(target: VolumeTarget, node: Node | None, manager: str) -> Leak | None:
    """A volume target of an instance that its node does not carry any more; or somebody else's on a free node."""
    mark = as_mapping(target.extra.get(MARK))
    instance_uuid = str(mark.get("instance_uuid")) if mark else None
    delete = f"`baremetal volume target delete {target.uuid}`"
    leak = Leak(
        kind=Kind.VOLUME,
        verdict=Verdict.UNPROVEN,
        name=target.volume_id,
        id=target.uuid,
        node=node.label if node is not None else None,
        node_uuid=node.uuid if node is not None else target.node_uuid,
        instance_uuid=instance_uuid,
        reason="",
        advice=f"{delete} if nobody needs it",
    )
    if leftovers.is_foreign(target):
        if node is None or not leftovers.is_unused(node):
            return None
        reason = "it is on a free node, which we refuse to deploy with it"
        return replace(leak, verdict=Verdict.FOREIGN, reason=reason, advice=f"See whose it is, then {delete}")
    if not is_managed_by(manager, mark):
        return None
    if node is None:
        return replace(leak, reason="its node is not shown to these credentials")
    if node.instance_uuid == instance_uuid or as_mapping(node.any_mark).get("instance_uuid") == instance_uuid:
        return None  # the instance's own, or the mark's, which takes it along
    if node.state not in MAY_BE_UPDATED or node.reservation is not None:
        return None
    if node.instance_uuid is not None or node.state in _HELD:
        by_now = f"carries instance {node.instance_uuid}" if node.instance_uuid else f"is in {node.state.value!r}"
        return replace(leak, reason=f"node {node.label} {by_now}")
    if node.is_on:
        return replace(leak, reason="its node is powered on, and Ironic removes volumes only from one that is off")
    return replace(
        leak, verdict=Verdict.LEFT, advice=None, reason=f"node {node.label} carries no instance, and this was another's"
    )


# Finding


def _broken_off(lists: Lists) -> Iterator[Leak]:
    yield from _judged(lists, Kind.OPERATION)


def _left_marks(lists: Lists) -> Iterator[Leak]:
    yield from _judged(lists, Kind.MARK)


def _judged(lists: Lists, kind: Kind) -> Iterator[Leak]:
    for node in lists.nodes.values():
        leak = _judge_node(node, lists.manager)
        if leak is not None and leak.kind is kind:
            yield leak


def _left_allocations(lists: Lists) -> Iterator[Leak]:
    for allocation in lists.allocations:
        node = lists.nodes.get(allocation.node_uuid or "") or lists.carriers.get(allocation.uuid)
        leak = _judge_allocation(allocation, node, lists.manager)
        if leak is not None:
            yield leak


def _left_vifs(lists: Lists) -> Iterator[Leak]:
    plugged = {nic.vif_id for nic in lists.plugged}
    for port in lists.ports:
        node = lists.nodes.get(port.created_for_node or port.host_id or "") or lists.witnesses.get(port.device_id)
        leak = _judge_port(port, lists.carriers.get(port.device_id), node, is_plugged=port.id in plugged)
        if leak is not None:
            yield leak


def _left_targets(lists: Lists) -> Iterator[Leak]:
    for target in lists.targets:
        leak = _judge_target(target, lists.nodes.get(target.node_uuid or ""), lists.manager)
        if leak is not None and leak.verdict is not Verdict.FOREIGN:
            yield leak


def _foreign_claims(lists: Lists) -> Iterator[Leak]:
    ours = {allocation.uuid for allocation in lists.allocations if as_mapping(allocation.extra.get(MARK))}
    for node in lists.nodes.values():
        is_claimed = node.state is Provision.AVAILABLE and node.instance_uuid is not None
        if is_claimed and node.mark is None and node.instance_uuid not in ours:
            yield Leak.of_others(
                Kind.CLAIM,
                node.label,
                node.uuid,
                node,
                node.instance_uuid,
                reason="somebody has claimed the node, and nothing is deployed on it (yet)",
                advice=f"If it stays so: see whose it is, then `baremetal node unset --instance-uuid {node.uuid}`",
            )


def _foreign_vifs(lists: Lists) -> Iterator[Leak]:
    ours = {port.id for port in lists.ports}
    for nic in lists.plugged:
        node = lists.nodes.get(nic.node_uuid or "")
        if node is None or not leftovers.is_unused(node):
            continue
        if nic.vif_id is None or nic.vif_id in ours or nic.vif_id in vifs.marked(node.any_mark):
            continue
        yield Leak.of_others(
            Kind.VIF,
            nic.vif_id,
            nic.vif_id,
            node,
            None,
            reason="it is plugged into a free node, which we refuse to deploy with it",
            advice=f"See whose it is, then `baremetal node vif detach {node.uuid} {nic.vif_id}`",
        )


def _foreign_ports(lists: Lists) -> Iterator[Leak]:
    plugged = {nic.vif_id for nic in lists.plugged}
    for port in lists.other_ports:
        if not port.device_id or port.is_bound or port.id in plugged or not _is_old(port):
            continue
        # Ironic gives the ports that it makes for its agent the UUID of the instance, or that of a node without one.
        node = lists.nodes.get(port.device_id) or lists.carriers.get(port.device_id)
        if node is not None and (node.state not in _RESTING or node.reservation is not None):
            continue
        whose = (
            f"it is for node {node.label}"
            if node is not None
            else "no node that these credentials see is what it is for"
        )
        yield Leak.of_others(
            Kind.VIF,
            port.label,
            port.id,
            node,
            port.device_id if node is None or node.uuid != port.device_id else None,
            reason=f"{whose}, and it is plugged into nothing; an Ironic that was killed may have left it",
            advice=f"See whose it is, then `openstack port delete {port.id}`",
        )


def _foreign_targets(lists: Lists) -> Iterator[Leak]:
    for target in lists.targets:
        leak = _judge_target(target, lists.nodes.get(target.node_uuid or ""), lists.manager)
        if leak is not None and leak.verdict is Verdict.FOREIGN:
            yield leak


def _foreign_instance_info(lists: Lists) -> Iterator[Leak]:
    for node in lists.nodes.values():
        if leftovers.is_unused(node) and node.any_mark is None and node.instance_info:
            yield Leak.of_others(
                Kind.INSTANCE_INFO,
                node.label,
                node.uuid,
                node,
                None,
                reason=f"a free node has {', '.join(sorted(node.instance_info))}; the next deploy replaces that",
                advice=f"`baremetal node set --instance-info '{{}}' {node.uuid}`, if it tells too much",
            )


# Mending: each reads anew, judges again, and does its deed only if that says so


@dataclass(frozen=True, slots=True)
class Hand:
    """What a repair works with."""

    services: Services
    options: Options
    deadline: Deadline

    @property
    def ironic(self) -> Ironic:
        """Ironic, within the repair's time."""
        return self.services.ironic.within(self.deadline)

    @property
    def neutron(self) -> Neutron:
        """Neutron, within the repair's time.

        Raises:
            NotSupported: the cloud has none.
        """
        if self.services.neutron is None:
            raise NotSupported("this cloud has no Neutron")
        return self.services.neutron.within(self.deadline)


def _mend_node(hand: Hand, leak: Leak) -> bool:
    node = hand.ironic.find_node(leak.id)
    if node is None or not _is_certain(_judge_node(node, hand.services.manager), leak):
        return False
    recover.recover(hand.services, node, hand.options, older_than_s=ATTACHING.total_seconds())
    return True


def _mend_allocation(hand: Hand, leak: Leak) -> bool:
    allocation = hand.ironic.allocation(leak.id)
    if allocation is None:
        return False
    node = hand.ironic.find_node(allocation.node_uuid) if allocation.node_uuid else hand.ironic.node_of(allocation.uuid)
    if not _is_certain(_judge_allocation(allocation, node, hand.services.manager), leak):
        return False
    deploy.abandon(hand.services, allocation, hand.options)
    return True


def _mend_port(hand: Hand, leak: Leak) -> bool:
    port = next(iter(hand.neutron.ports([leak.id])), None)
    if port is None or not port.was_created_for(str(leak.instance_uuid)):
        return False
    carrier = hand.ironic.node_of(port.device_id)
    node_uuid = port.created_for_node or port.host_id or leak.node_uuid
    node = hand.ironic.find_node(node_uuid) if node_uuid else None
    if node is not None and not port.created_for_node and not _is_witness(node, port):
        node = None
    is_plugged = node is not None and port.id in hand.ironic.vifs(node.uuid)
    if node is None or not _is_certain(_judge_port(port, carrier, node, is_plugged=is_plugged), leak):
        return False
    if is_plugged:
        hand.ironic.detach_vif(node.uuid, port.id)
    hand.neutron.delete_port(port.id)
    return True


def _is_witness(node: Node, port: NeutronPort) -> bool:
    """Whether the node itself, or Neutron's binding, tells that the VIF's instance was there."""
    return port.host_id == node.uuid or as_mapping(node.any_mark).get("instance_uuid") == port.device_id


def _mend_target(hand: Hand, leak: Leak) -> bool:
    node = hand.ironic.find_node(leak.node_uuid) if leak.node_uuid else None
    there = hand.ironic.volume_targets(node.uuid) if node is not None else []
    target = next((target for target in there if target.uuid == leak.id), None)
    if node is None or target is None or not _is_certain(_judge_target(target, node, hand.services.manager), leak):
        return False
    hand.ironic.remove_volume_target(node.uuid, target.uuid)
    return True


def _is_certain(now: Leak | None, leak: Leak) -> bool:
    """Whether what was read anew proves the same as the list did."""
    if now is not None and now.verdict is Verdict.LEFT and now.instance_uuid == leak.instance_uuid:
        return True
    log.info("%s %s is left alone: %s", leak.kind, leak.name, now.reason if now is not None else "it is no leak now")
    return False


# The rules


@dataclass(frozen=True, slots=True)
class Rule:
    """One sort of thing that is left behind.

    Attributes:
        kind: which.
        what: what is looked for.
        proof: what has to be so, read anew, before anything is done.
        deed: what is done then; None: it is shown only.
        find: finds it in the lists.
        mend: reads anew, and does the deed if that is the proof; says whether it did. None: it is shown only.
    """

    kind: Kind
    what: str
    proof: str
    deed: str | None
    find: Callable[[Lists], Iterator[Leak]]
    mend: Callable[[Hand, Leak], bool] | None = None


RULES: tuple[Rule, ...] = (
    Rule(
        Kind.OPERATION,
        "a node that carries our instance, and whose deploy or rebuild was broken off",
        "its process has ended, or its time is over; Ironic does nothing with the node, and never took the request up or failed",
        "what was begun is undone, as `bloomery recover` does it",
        _broken_off,
        _mend_node,
    ),
    Rule(
        Kind.MARK,
        "our mark on a node that does not carry its instance any more",
        "the node carries no instance, runs nothing, and may be changed",
        "VIFs and volumes that the mark names go, then the mark",
        _left_marks,
        _mend_node,
    ),
    Rule(
        Kind.ALLOCATION,
        "an allocation of ours that no node shows",
        "its process has ended, or its time is over; and it has no node, or one that was never deployed",
        "the node is released, and the allocation deleted",
        _left_allocations,
        _mend_allocation,
    ),
    Rule(
        Kind.VIF,
        "a VIF that we created for an instance that is gone",
        "the node that it was created for is shown, carries another instance or none, and no node carries the VIF's",
        "it is unplugged from that node if that is free, and deleted",
        _left_vifs,
        _mend_port,
    ),
    Rule(
        Kind.VOLUME,
        "a volume target that we added for an instance that is gone",
        "its node carries no instance, and is off",
        "it is deleted",
        _left_targets,
        _mend_target,
    ),
    Rule(Kind.CLAIM, "a claim on an available node without our mark", "", None, _foreign_claims),
    Rule(Kind.VIF, "a VIF on a free node that we did not create, nor our mark names", "", None, _foreign_vifs),
    Rule(
        Kind.VIF,
        "a port of bare metal that we did not create, and that has been plugged into nothing for hours",
        "",
        None,
        _foreign_ports,
    ),
    Rule(Kind.VOLUME, "a volume target on a free node without our mark", "", None, _foreign_targets),
    Rule(Kind.INSTANCE_INFO, "`instance_info` on a free node without our mark", "", None, _foreign_instance_info),
)
"""What is looked for, in the order in which it is mended: what an operation or a mark takes along needs no repair of its own."""

_MENDS = MappingProxyType({rule.kind: rule.mend for rule in RULES if rule.mend is not None})


def look(services: Services, *, timeout_s: float = REPAIR_TIMEOUT_S) -> Survey:
    """What is left, as far as these credentials show it. Changes nothing.

    Raises:
        BloomeryError: the nodes cannot be listed.
    """
    deadline = services.asking(timeout_s)
    ironic = services.ironic.within(deadline)
    neutron = services.neutron.within(deadline) if services.neutron is not None else None
    blind: list[str] = []

    def seen(what: str, read: Callable[[], Iterable[T]]) -> list[T]:
        try:
            return list(read())
        except OperationCancelled:
            raise
        except BloomeryError as problem:
            blind.append(f"{what}: {problem}")
            return []

    # Nodes last: an instance is on its node before anything is made for it, so nothing of one that comes now seems left.
    ports = seen("VIFs", neutron.baremetal_ports) if neutron is not None else []
    targets = seen("volume targets", ironic.every_volume_target)
    allocations = seen("allocations", ironic.allocations)
    plugged = seen("NICs", lambda: (nic for nic in ironic.every_port() if nic.vif_id is not None))
    nodes = {node.uuid: node for node in ironic.nodes()}
    ours, others = [port for port in ports if port.is_ours], [port for port in ports if not port.is_ours]
    lists = Lists(services.manager, nodes, allocations, targets, ours, others, plugged)
    found = [leak for rule in RULES for leak in rule.find(lists)]
    return Survey(tuple(found), tuple(blind))


def mend(services: Services, leak: Leak, *, timeout_s: float = REPAIR_TIMEOUT_S) -> Outcome:
    """The leak is gone, if what is read now still proves it; otherwise nothing was changed."""
    mending = _MENDS.get(leak.kind)
    if leak.verdict is not Verdict.LEFT or mending is None:
        return Outcome(leak, is_gone=False)
    options = Options(timeout_s=timeout_s, undo_timeout_s=timeout_s)
    deadline = Deadline(timeout_s, outage_s=services.patience.before_change_s, patience=services.patience)
    try:
        return Outcome(leak, is_gone=mending(Hand(services, options, deadline), leak))
    except BloomeryError as problem:
        return Outcome(leak, is_gone=False, problem=problem)


# In the background


class Pace:
    """Lets so many requests pass in a second, none while it is held, and none at all once it is closed.

    Args:
        per_s: how many.
        clock: None means the machine's own.
    """

    def __init__(self, per_s: float, clock: Clock | None = None) -> None:
        self.interval_s = 1.0 / per_s
        self.clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._next_at = self.clock.monotonic()
        self._closed = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()

    def step(self) -> None:
        """Return when the next request may be sent.

        Raises:
            OperationCancelled: none may any more.
        """
        with self._lock:
            now = self.clock.monotonic()
            mine = max(now, self._next_at)
            self._next_at = mine + self.interval_s
        if mine > now:
            self.clock.wait(self._closed, mine - now)
        self._flowing.wait()
        if self._closed.is_set():
            raise OperationCancelled("the janitor was stopped")

    def hold(self) -> None:
        """No request passes until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Requests pass again."""
        self._flowing.set()

    def close(self) -> None:
        """No request passes any more; whoever waits is told."""
        self._closed.set()
        self._flowing.set()

    @property
    def is_held(self) -> bool:
        """Whether requests wait."""
        return not self._flowing.is_set()

    @property
    def closed(self) -> threading.Event:
        """Set once it is closed."""
        return self._closed


class _Paced(Detour):
    """A transport whose requests wait for their turn."""

    def __init__(self, real: Transport, pace: Pace) -> None:
        super().__init__(real)
        self.pace = pace

    def passed(self, request: Request) -> Reply:
        self.pace.step()
        return self.sent(request)


def paced(services: Services, pace: Pace) -> Services:
    """The same services; every request to them waits for its turn."""
    ironic = Ironic(_Paced(services.ironic.transport, pace), services.ironic.features, services.ironic.deadline)
    neutron = services.neutron
    if neutron is not None:
        neutron = Neutron(_Paced(neutron.transport, pace), neutron.deadline)
    watch = Watch(ironic, shortest_s=services.watch.shortest_s, longest_s=services.watch.longest_s)
    return replace(services, ironic=ironic, neutron=neutron, watch=watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a janitor works.

    Attributes:
        every_s: seconds from one look to the next.
        requests_per_s: what it asks of the services at most.
        at_once: how many repairs are under way at a time.
        repair_timeout_s: what one repair may take.
        patience: how long services are borne that do not answer.
    """

    every_s: float = 300.0
    requests_per_s: float = 5.0
    at_once: int = 1
    repair_timeout_s: float = REPAIR_TIMEOUT_S
    patience: Patience = PATIENCE

    def __post_init__(self) -> None:
        for name in ("every_s", "requests_per_s", "at_once", "repair_timeout_s"):
            if getattr(self, name) <= 0:
                raise InvalidRequest(
                    f"a janitor with {name} {getattr(self, name):g} is not possible", advice="Give more than 0"
                )


@dataclass(frozen=True, slots=True)
class Pass:
    """What one look, and the repairs after it, came to.

    Attributes:
        survey: what was found; None if even the nodes could not be listed.
        outcomes: what became of what was certainly left.
        problem: why nothing could be looked at.
    """

    survey: Survey | None
    outcomes: tuple[Outcome, ...] = ()
    problem: BloomeryError | None = None

    @property
    def mended(self) -> int:
        """How many leaks are gone."""
        return sum(outcome.is_gone for outcome in self.outcomes)


@dataclass(eq=False)
class Janitor:
    """Looks for leaks again and again, in a thread of its own, and mends what is certain.

    Args:
        services: what to keep clean.
        habits: how it works.
        on_pass: told of every pass, in the janitor's thread.
        may_look: asked before each look of its thread whether it may; for whoever has several, of which one is to look.
    """

    services: Services
    habits: Habits = field(default_factory=Habits)
    on_pass: Callable[[Pass], None] = lambda _done: None
    may_look: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self._pace = Pace(self.habits.requests_per_s)
        patient = replace(self.services, patience=self.habits.patience)
        self._paced = paced(patient, self._pace)
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self.passes = 0
        self.mended = 0
        self.last: Pass | None = None

    def start(self, *, after_s: float = 0.0) -> None:
        """It works, from now on, in its own thread.

        Args:
            after_s: so many seconds before its first look, if none is wanted earlier.

        Raises:
            InvalidRequest: it was started before.
        """
        if self._thread is not None:
            raise InvalidRequest("this janitor was started before", advice="Make another")
        self._thread = threading.Thread(target=self._work, args=(after_s,), name="bloomery-janitor", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """It sends no request until `go_on`; one that is under way comes to its end."""
        self._pace.hold()

    def go_on(self) -> None:
        """It works again."""
        self._pace.flow()

    @property
    def is_paused(self) -> bool:
        """Whether it waits to be told to go on."""
        return self._pace.is_held

    def look_now(self) -> None:
        """The next look does not wait for its time."""
        self._wanted.set()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """It sends no request any more, from this moment on. A repair that is broken off is found again."""
        self._pace.close()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def __enter__(self) -> Janitor:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def work_once(self) -> Pass:
        """Everything was looked at, and what is certainly left was mended.

        Raises:
            OperationCancelled: it was stopped.
        """
        try:
            survey = look(self._paced, timeout_s=self.habits.repair_timeout_s)
        except OperationCancelled:
            raise
        except BloomeryError as problem:
            return self._done(Pass(None, problem=problem))
        certain = [leak for leak in survey.leaks if leak.verdict is Verdict.LEFT]
        with ThreadPoolExecutor(self.habits.at_once, thread_name_prefix="bloomery-janitor") as pool:
            outcomes = tuple(pool.map(self._mend, certain))
        if self._pace.closed.is_set():
            raise OperationCancelled("the janitor was stopped")
        return self._done(Pass(survey, outcomes))

    def _mend(self, leak: Leak) -> Outcome:
        outcome = mend(self._paced, leak, timeout_s=self.habits.repair_timeout_s)
        if outcome.is_gone:
            log.warning("%s %s is cleaned: %s", leak.kind, leak.name, leak.reason)
        elif outcome.problem is not None:
            log.warning("%s %s could not be cleaned: %s", leak.kind, leak.name, outcome.problem)
        return outcome

    def _done(self, done: Pass) -> Pass:
        self.passes += 1
        self.mended += done.mended
        self.last = done
        self.on_pass(done)
        return done

    def _work(self, after_s: float) -> None:
        self._rest(after_s)
        while not self._pace.closed.is_set():
            try:
                done = self.work_once() if self.may_look() else None
            except OperationCancelled:
                return
            except Exception:
                # The last frame of a thread that works for weeks: whatever one look met, the next may go well.
                log.exception("a look of the janitor met a bug")
            else:
                if done is not None and done.problem is not None:
                    log.warning("the janitor could not look: %s", done.problem)
            self._rest(self.habits.every_s)

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._pace.clock.wait(self._wanted, seconds)
        self._wanted.clear()
