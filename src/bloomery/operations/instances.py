"""Instances: found by whatever a user calls them, described, checked, and taken over from others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bloomery.engine import Step
from bloomery.errors import AmbiguousName, Conflict, InstanceNotFound, NodeNotFound, NodeTakenAway, NodeUnavailable
from bloomery.fleet import Fleet
from bloomery.ironic import Allocation, Ironic, Node
from bloomery.ironic.models import MARK
from bloomery.operations import vifs
from bloomery.operations.run import (
    BLOOMERY,
    NOVA,
    Options,
    Run,
    Services,
    as_mapping,
    carry_out,
    is_managed_by,
    unless_deleted,
)
from bloomery.operations.validation import refused_by
from bloomery.operations.vifs import CREATED, GIVEN, PluggedVif
from bloomery.plain import is_uuid
from bloomery.states import Power, Provision

METALSMITH_CREATED, METALSMITH_ATTACHED = "metalsmith_created_ports", "metalsmith_attached_ports"


class Manager(StrEnum):
    """Who deployed an instance."""

    BLOOMERY = "bloomery"
    NOVA = "nova"
    METALSMITH = "metalsmith"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance and the node that it runs on.

    Attributes:
        uuid: the instance's.
        name: its host name.
        node_uuid: the node.
        node_name: that node's name.
        state: the node's provision state.
        power_state: the node's power.
        target_power_state: where its power is going.
        image: what it boots: a URL or Glance id; None if from a volume.
        resource_class: the node's.
        manager: who deployed it.
        step: what Ironic is doing with it.
        since: when it came into its state.
        last_error: what went wrong last.
        maintenance: whether an operator has the node in maintenance.
        maintenance_reason: why.
        health: the hardware's; None where the API does not tell.
        boot_mode: `uefi` or `bios`.
        secure_boot: whether it is on.
        console_enabled: whether a console runs.
        vifs: its VIFs; None where they were not asked for.
    """

    uuid: str
    name: str
    node_uuid: str
    node_name: str | None
    state: str
    power_state: str | None
    target_power_state: str | None
    image: str | None
    resource_class: str | None
    manager: Manager
    step: str | None
    since: datetime | None
    last_error: str | None
    maintenance: bool
    maintenance_reason: str | None
    health: str | None
    boot_mode: str | None
    secure_boot: bool | None
    console_enabled: bool | None
    vifs: tuple[PluggedVif, ...] | None = None


def manager_of(node: Node) -> Manager:
    """Who deployed the instance on the node, by the traces that each leaves."""
    if node.mark is not None:
        return Manager.NOVA if is_managed_by(NOVA, node.mark) else Manager.BLOOMERY
    if METALSMITH_CREATED in node.extra or METALSMITH_ATTACHED in node.extra:
        return Manager.METALSMITH
    if "nova_host_id" in node.instance_info:
        return Manager.NOVA
    return Manager.OTHER


def instance_on(node: Node, plugged: Iterable[PluggedVif] | None = None) -> Instance:
    """The instance on the node, which must carry one."""
    mark = node.mark or {}
    info = node.instance_info
    step = node.step_now
    name = mark.get("name") or info.get("display_name") or node.instance_name or node.name or node.instance_uuid
    image = info.get("image_source") or info.get("boot_iso") or info.get("kernel")
    return Instance(
        uuid=str(node.instance_uuid),
        name=str(name),
        node_uuid=node.uuid,
        node_name=node.name,
        state=node.provision_state or Provision.AVAILABLE,
        power_state=node.power_state,
        target_power_state=node.target_power_state,
        image=str(image) if image else None,
        resource_class=node.resource_class,
        manager=manager_of(node),
        step=step[0] if step is not None else None,
        since=node.in_state_since,
        last_error=node.last_error,
        maintenance=node.maintenance,
        maintenance_reason=node.maintenance_reason,
        health=node.health,
        boot_mode=node.boot_mode,
        secure_boot=node.secure_boot,
        console_enabled=node.console_enabled,
        vifs=tuple(plugged) if plugged is not None else None,
    )


# Finding


def find_node(ironic: Ironic, name_or_uuid: str) -> Node:
    """The node of that name or UUID.

    Raises:
        NodeNotFound: there is none.
    """
    node = ironic.find_node(name_or_uuid)
    if node is None:
        raise NodeNotFound(f"there is no node {name_or_uuid!r}")
    return node


def find(ironic: Ironic, name_or_uuid: str) -> Node:
    """The node that carries the instance, which is named by its UUID or name, or by its node's.

    Raises:
        InstanceNotFound: no node carries it.
        AmbiguousName: several instances answer to the name.
    """
    if not is_uuid(name_or_uuid):
        return _find_by_name(ironic, name_or_uuid, ironic.find_node(name_or_uuid))
    found = ironic.node_of(name_or_uuid) or ironic.find_node(name_or_uuid)
    if found is None:
        raise InstanceNotFound(f"there is no instance {name_or_uuid}")
    return _with_instance(found)


def find_machine(ironic: Ironic, name_or_uuid: str) -> Node:
    """The node of that name or UUID, or the node that carries that instance; the former where there are both.

    Raises:
        NodeNotFound: there is neither.
        AmbiguousName: there is no such node, and several instances answer to the name.
    """
    node = ironic.find_node(name_or_uuid)
    if node is None and is_uuid(name_or_uuid):
        node = ironic.node_of(name_or_uuid)
    elif node is None:
        try:
            node = _find_by_name(ironic, name_or_uuid, None)
        except InstanceNotFound:
            node = None
    if node is None:
        raise NodeNotFound(f"there is no node {name_or_uuid!r}, and no instance")
    return node


def _find_by_name(ironic: Ironic, name: str, named: Node | None) -> Node:
    """The node that carries the instance of that name; `named` is the node of that name, if there is one."""
    found: dict[str, Node] = {}
    if named is not None and named.instance_uuid is not None:
        found[named.uuid] = named
    allocation = ironic.allocation(name)
    if allocation is not None and allocation.node_uuid is not None and allocation.node_uuid not in found:
        found[allocation.node_uuid] = ironic.node(allocation.node_uuid)
    if not found:
        # Neither a node nor an allocation: a name that only marks and instance_info know, which Ironic cannot look up.
        fleet = Fleet()
        fleet.read(ironic, {"associated": True})
        found = {node.uuid: node for node in fleet.nodes if name == instance_on(node).name}
    if len(found) > 1:
        listed = ", ".join(f"{node.instance_uuid} on node {node.label}" for node in found.values())
        raise AmbiguousName(f"{len(found)} instances are named {name!r}", reason=listed)
    if found:
        return _with_instance(ironic.node(next(iter(found))))
    if named is None:
        raise InstanceNotFound(f"there is no instance {name!r}")
    return _with_instance(named)


def find_to_destroy(ironic: Ironic, name_or_uuid: str) -> tuple[Node | None, str | None]:
    """The node that carries the instance, or carried it last and still has our mark; and the instance's UUID.

    The node is None where all that there is of the instance is its allocation. The UUID is None where a node is named that has
    nothing of an instance: there is nothing left to destroy.

    Raises:
        InstanceNotFound: nothing is left of such an instance.
        Conflict: somebody else deployed it, or it is protected.
    """
    try:
        node = find(ironic, name_or_uuid)
    except InstanceNotFound:
        named = ironic.find_node(name_or_uuid)
        if named is not None and named.any_mark is None:
            return named, None
        left = [named] if named is not None else [node for node in ironic.nodes() if _once_carried(node, name_or_uuid)]
        if left:
            return left[0], str((left[0].any_mark or {}).get("instance_uuid"))
        claim = _our_claim(ironic, name_or_uuid)
        if claim is None:
            raise
        return None, claim.uuid
    is_claim_only = node.mark is None and node.state is Provision.AVAILABLE
    if not is_claim_only or _our_claim(ironic, str(node.instance_uuid)) is None:
        must_be_ours(node, "destroy")
    must_not_be_protected(node, "destroy")
    return node, str(node.instance_uuid)


def _our_claim(ironic: Ironic, name_or_uuid: str) -> Allocation | None:
    """The allocation of that name or UUID, if its mark is ours: a deploy has it before it marks the node."""
    allocation = ironic.allocation(name_or_uuid)
    mark = as_mapping(allocation.extra.get(MARK)) if allocation is not None else {}
    return allocation if mark and is_managed_by(BLOOMERY, mark) else None


def _once_carried(node: Node, name_or_uuid: str) -> bool:
    """Whether our mark on the node is of an instance that was called so and that the node does not carry any more."""
    mark = node.any_mark
    if mark is None or node.mark is not None or not is_managed_by(BLOOMERY, mark):
        return False
    return name_or_uuid in (mark.get("instance_uuid"), mark.get("name"))


def _with_instance(node: Node) -> Node:
    if node.instance_uuid is None:
        raise InstanceNotFound(
            f"node {node.label} carries no instance", reason=f"it is in {node.provision_state!r}", node_uuid=node.uuid
        )
    return node


def must_be_ours(node: Node, verb: str) -> None:
    """Only what carries our mark is changed for good.

    Raises:
        Conflict: somebody else deployed the instance.
    """
    if is_managed_by(NOVA, node.mark):
        raise Conflict(
            f"instance {node.instance_uuid} is Nova's",
            reason="behind its back it would go on showing it",
            advice=f"To {verb} it, ask Nova",
            node_uuid=node.uuid,
        )
    if node.mark is None:
        raise Conflict(
            f"instance {node.instance_uuid} was not deployed by Bloomery",
            reason=f"{manager_of(node)} did, as far as node {node.label} shows",
            advice=f"To {verb} it all the same, take it over first: `bloomery adopt {node.label}`",
            node_uuid=node.uuid,
        )


def must_not_be_protected(node: Node, verb: str) -> None:
    """An operator's protection is respected before anything is changed.

    Raises:
        NodeUnavailable: the node is protected; says why.
    """
    if node.protected:
        raise NodeUnavailable(
            f"node {node.label} is protected",
            reason=node.protected_reason,
            advice=f"To {verb} it all the same, take that away first: `baremetal node unset --protected {node.label}`",
            node_uuid=node.uuid,
        )


# Checking


def problems(services: Services, node: Node, options: Options) -> list[str]:
    """What does not fit between the instance and its node, a sentence each; empty if they belong together."""
    run = Run("validate", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    plugged = vifs.describe(run, node)
    return [
        *_problems_of_node(node),
        *_problems_of_vifs(run, node, plugged),
        *(f"{name} interface: {reason}" for name, reason in refused_by(run).items()),
    ]


def _problems_of_vifs(run: Run, node: Node, plugged: Sequence[PluggedVif]) -> Iterable[str]:
    if node.mark is not None:
        known = vifs.ours(run, node.mark)
        for vif_id in known.keys() - {vif.vif_id for vif in plugged}:
            yield f"VIF {vif_id} belongs to the instance, but is not plugged"
        for vif_id in {vif.vif_id for vif in plugged} - known.keys():
            yield f"VIF {vif_id} is plugged, but not by Bloomery"
    for vif in plugged:
        if run.has_neutron and vif.network_id is None:
            yield f"VIF {vif.vif_id} is plugged, but Neutron does not know it"
        elif vif.is_bound is False:
            yield f"VIF {vif.name or vif.vif_id} is plugged, but Neutron has not bound it"


def _problems_of_node(node: Node) -> Iterable[str]:
    if node.any_mark is not None and node.mark is None:
        yield f"the node carries our mark for instance {node.any_mark.get('instance_uuid')}, but not that instance"
    if node.state is not Provision.ACTIVE:
        yield f"the node is in {node.provision_state!r}"
    if node.power_state != Power.ON:
        yield f"the node's power state is {node.power_state!r}"
    if node.maintenance:
        yield f"the node is in maintenance ({node.maintenance_reason or 'no reason given'})"
    if node.fault:
        yield f"the node has a fault ({node.fault})"
    if node.health is not None and node.health.lower() not in ("ok", "unknown"):
        yield f"the hardware's health is {node.health}"
    if node.last_error:
        yield f"the last error was: {node.last_error}"


# Taking over


class AdoptRun(Run):
    """An instance being taken over."""

    name: str
    vifs: Mapping[str, str]


def adopt(services: Services, node: Node, options: Options, *, name: str | None = None) -> Node:
    """The instance, whoever deployed it, carries our mark and can be managed like our own.

    Args:
        services: what to work on.
        node: the node that carries it.
        options: time, progress, cancellation.
        name: what it is called from now on; None keeps its name.

    Raises:
        NodeUnavailable: it does not run.
    """
    run = AdoptRun("adopt", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    run.name = name or instance_on(node).name
    carry_out(ADOPT, run)
    return run.node


def look_around(run: AdoptRun) -> None:
    """What belongs to the instance is known. Changes nothing."""
    if run.node.state not in (Provision.ACTIVE, Provision.RESCUE, Provision.DEPLOY_FAIL, Provision.ERROR):
        raise NodeUnavailable(
            f"the instance on node {run.node.label} cannot be taken over",
            reason=f"the node is in {run.node.provision_state!r}",
            advice="Wait until Ironic has done with it",
            node_uuid=run.node.uuid,
        )
    created = set(_listed(run.node.extra.get(METALSMITH_CREATED)))
    run.vifs = {vif_id: CREATED if vif_id in created else GIVEN for vif_id in run.ironic.vifs(run.node.uuid)}


def _listed(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list | tuple) else []


def put_mark(run: AdoptRun) -> None:
    """The node carries our mark."""
    run.commit()
    mark = run.mark(name=run.name, vifs=dict(run.vifs), volumes={})
    run.node = run.ironic.update(
        run.node,
        [{"op": "add", "path": f"/extra/{MARK}", "value": mark}],
        is_so=lambda now: now.mark is not None,
        doing=f"marking node {run.node.label}",
    )
    if run.node.mark is None:
        raise NodeTakenAway(
            f"somebody took the instance from node {run.node.label} while it was taken over",
            reason=f"the node is in {run.node.provision_state!r}",
            node_uuid=run.node.uuid,
        )


@unless_deleted
def take_mark(run: AdoptRun) -> None:
    """The node does not carry our mark."""
    run.node = run.ironic.node(run.node.uuid)
    if as_mapping(run.node.any_mark).get("instance_uuid") == run.instance_uuid:
        run.node = run.ironic.update(
            run.node,
            [{"op": "remove", "path": f"/extra/{MARK}"}],
            is_so=lambda now: now.any_mark is None,
            doing=f"taking our mark from node {run.node.label}",
        )


ADOPT: tuple[Step[AdoptRun], ...] = (
    Step("look around", look_around),
    Step("mark node", put_mark, undo=take_mark),
)
