"""Deploy: a node runs the instance that was asked for; or, if that cannot be, it is as it was found."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from msgspec import structs

from bloomery.config_drive import ConfigDrive, MetaData, VifOnNic, network_data_from_vifs
from bloomery.deadline import Deadline
from bloomery.engine import Step
from bloomery.errors import (
    AllocationFailed,
    BloomeryError,
    CleanFailed,
    DeployFailed,
    InvalidRequest,
    NodeClaimed,
    NodeNotFound,
    NodeTakenAway,
    NodeUnavailable,
    NoNodeFits,
    NotSupported,
    OperationTimedOut,
    ValidationFailed,
)
from bloomery.fleet import Wanted, what_there_is, why_not
from bloomery.ironic import Allocation, Node
from bloomery.ironic.models import MARK
from bloomery.operations import console, tear_down, vifs, volumes
from bloomery.operations.instances import Instance, instance_on
from bloomery.operations.request import DeployRequest, Guest, Image, Volume
from bloomery.operations.run import Options, Run, Services, as_mapping, carry_out, take_back
from bloomery.operations.validation import refused_by
from bloomery.operations.vifs import GIVEN, PlannedVif
from bloomery.plain import logger
from bloomery.secret import Secret
from bloomery.states import ON_LEFT_BEHIND, WHILE_CLEANING, WHILE_DEPLOYING, LeftBehind, Provision

log = logger(__name__)

CLAIM_TIMEOUT_S = 60.0
"""How long a node that somebody else has locked is waited for before it is anybody's: then another may do better."""
ENOUGH_CANDIDATES = 3
"""How many nodes Ironic is given to choose from where each had to be looked at."""
MARK_TIMEOUT_S = 20.0
"""How long the undoing of a deploy waits for cleaning, just to take our mark from the node."""
KEPT = (Provision.DEPLOY_FAIL, Provision.ERROR)
"""Where a failed deploy stays that its user asked to keep."""

# Request


class DeployRun(Run):
    """A deploy under way."""

    def __init__(self, services: Services, options: Options, request: DeployRequest) -> None:
        super().__init__("deploy", services, options, instance_uuid=request.instance_uuid or str(uuid4()))
        self.request = request
        self.name = request.name or f"instance-{str(self.instance_uuid)[:8]}"
        self.image = request.image
        self.candidates: list[Node] = []
        self.plan: list[PlannedVif] = []
        self.vifs: list[tuple[PlannedVif, str]] = []
        self.nics: vifs.Nics | None = None
        self.targets: dict[str, Volume] = volumes.numbered(request.volumes)
        self.drive: Secret[Any] | None = None
        self.keep_failed = False
        self.vifs_are_known = True
        self.claim_timeout_s = CLAIM_TIMEOUT_S

    def mark(self, **more: object) -> dict[str, object]:
        """What is written on the node; all that an undo in another process needs to know."""
        given = {vif.vif_id: GIVEN for vif in self.plan if vif.vif_id is not None}
        return super().mark(
            name=self.name,
            **({"vifs": given} if self.vifs_are_known else {}),
            volumes={uuid: volume.volume_id for uuid, volume in self.targets.items()},
            **({"keep_failed": True} if self.keep_failed else {}),
            **more,
        )


def deploy(
    services: Services, request: DeployRequest, options: Options, *, keep_failed: bool = False, wait: bool = True
) -> Instance:
    """A node runs the instance.

    Args:
        services: what to work on.
        request: what is wanted.
        options: time, progress, cancellation.
        keep_failed: True leaves a failed deploy as it is, for somebody to look at; `destroy` cleans up after it.
        wait: False returns as soon as Ironic has taken the deploy up.

    Returns:
        The instance, active unless it was not waited for.

    Raises:
        RequestError, Conflict: the request cannot be met; nothing was changed.
        ValidationFailed, DeployFailed: Ironic said no; the node is as it was, or on its way there through cleaning.
        OperationTimedOut, OperationCancelled: likewise.
        RollbackIncomplete: what was begun could not be undone; says what is left.
    """
    run = DeployRun(services, options, request)
    run.keep_failed = keep_failed
    carry_out(DEPLOY if wait else DEPLOY[:-1], run, undo_on_failure=not keep_failed)
    node = run.ironic.node(run.node.uuid)
    return instance_on(node, vifs.describe(run, node, run.nics) if run.nics is not None else ())


# Steps' bodies, in their order


def find_candidates(run: DeployRun) -> None:
    """The node that was named can be had, or some nodes fit. Changes nothing."""
    wanted = run.request.wanted
    if run.has_node and not why_not(run.node, wanted, instance_uuid=run.instance_uuid):
        run.candidates = [run.node]  # as it was seen lately; the claim looks whether it is so yet
        return
    if run.request.node is not None:
        run.node = _named_node(run, run.request.node, wanted)
        run.candidates = [run.node]
        return
    filters: dict[str, str | bool] = {"provision_state": "available", "maintenance": False}
    if wanted.resource_class is not None:
        filters["resource_class"] = wanted.resource_class
    run.candidates = [node for node in run.ironic.nodes(filters) if not why_not(node, wanted)]
    if not run.candidates:
        raise no_node_fits(run, wanted)


def _named_node(run: DeployRun, name: str, wanted: Wanted) -> Node:
    node = run.ironic.find_node(name)
    if node is None:
        raise NodeNotFound(f"there is no node {name!r}")
    _must_be_had(node, wanted, run.instance_uuid)
    return node


def _must_be_had(node: Node, wanted: Wanted, instance_uuid: str | None) -> None:
    refusals = why_not(node, wanted, instance_uuid=instance_uuid)
    if not refusals:
        return
    claimed = node.instance_uuid is not None and node.instance_uuid != instance_uuid
    raise (NodeClaimed if claimed else NodeUnavailable)(
        f"node {node.label} cannot be had",
        reason="; ".join(refusals),
        advice="`bloomery nodes` shows which nodes are free",
        node_uuid=node.uuid,
    )


def no_node_fits(run: Run, wanted: Wanted) -> NoNodeFits:
    """The error that says, of each node, why it cannot be had, and what there is instead."""
    nodes = list(run.ironic.nodes())
    refusals = {node.label: why_not(node, wanted) for node in nodes}
    asked = [f"resource class {wanted.resource_class}" if wanted.resource_class else ""]
    asked += [f"trait {trait}" for trait in wanted.traits]
    asked += [f"capability {name}:{value}" for name, value in wanted.capabilities.items()]
    return NoNodeFits(
        f"no node fits {', '.join(part for part in asked if part) or 'the request'}",
        reason=what_there_is(nodes, wanted),
        advice=_emptied_by(nodes, wanted),
        refusals=refusals,
    )


def _emptied_by(nodes: Sequence[Node], wanted: Wanted) -> str | None:
    """Which condition, taken after those before it, left no node."""
    left = list(nodes)
    conditions = [("the resource class", Wanted(resource_class=wanted.resource_class))]
    conditions += [(f"trait {trait}", Wanted(traits=(trait,))) for trait in wanted.traits]
    conditions += [
        (f"capability {name}", Wanted(capabilities={name: value})) for name, value in wanted.capabilities.items()
    ]
    conditions += [
        ("the owner", Wanted(owner=wanted.owner)),
        ("the conductor group", Wanted(conductor_group=wanted.conductor_group)),
        ("the list of candidates", Wanted(candidates=wanted.candidates)),
    ]
    available = {node.uuid for node in nodes if not why_not(node, Wanted())}
    for words, condition in conditions:
        fits = [node for node in left if not _without_availability(node, condition)]
        if left and not fits:
            return f"It is {words} that leaves none of {len(left)}"
        left = fits
    if left and not any(node.uuid in available for node in left):
        return f"{len(left)} would fit, but none of them is free"
    return None


def _without_availability(node: Node, condition: Wanted) -> bool:
    return len(why_not(node, condition)) > len(why_not(node, Wanted()))


def check_request(run: DeployRun) -> None:
    """Everything that the request names is there and can be had. Changes nothing."""
    run.image = known_image(run, run.image)
    if run.request.node is not None and run.request.name is not None:
        _refuse_taken_name(run, run.request.name)
    run.plan = vifs.plan(run, run.request.nics)
    if run.has_node:
        run.plan = vifs.place(run, run.request.nics, run.plan)
    elif vifs.must_look(run.request.nics):
        run.candidates = _with_room(run)
    if run.request.guest.config_drive:
        _drive(run, ()).as_payload()  # what does not fit is said before anything is changed


def known_image(run: Run, image: Image | None) -> Image | None:
    """The image as Ironic has to be told of it: one that is no URL is Glance's, and goes by its id. Changes nothing.

    Raises:
        NotSupported: it is no URL, and the cloud has no Glance.
        ImageNotFound: Glance does not know it.
    """
    if image is None or image.source is None or image.is_url:
        return image
    if run.services.glance is None:
        raise NotSupported(
            f"image {image.source!r} is no URL",
            reason="and this cloud has no Glance that could know it",
            advice="Give a URL and a checksum",
        )
    found = run.services.glance.within(run.deadline).image(image.source)
    return Image(
        source=found.id,
        kernel=image.kernel or found.kernel_id,
        ramdisk=image.ramdisk or found.ramdisk_id,
        is_partition=image.is_partition or found.kernel_id is not None,
    )


def _with_room(run: DeployRun) -> list[Node]:
    """Some of the candidates that have the NICs of the request: Ironic does not look at that when it chooses.

    Each look costs two requests, so a few nodes that fit will do; they are drawn at random, so that many deploys at once do
    not all want the same ones.

    Raises:
        NoNodeFits: there are none.
    """
    roomy: list[Node] = []
    refusals: dict[str, tuple[str, ...]] = {}
    for node in random.sample(run.candidates, len(run.candidates)):
        refusal = vifs.why_no_room(run, node, run.request.nics)
        if refusal is None:
            roomy.append(node)
            if len(roomy) == ENOUGH_CANDIDATES:
                break
        else:
            refusals[node.label] = (refusal,)
    if not roomy:
        raise NoNodeFits(
            f"no node takes the {len(run.request.nics)} VIFs",
            reason=f"{len(run.candidates)} fit otherwise; "
            + "; ".join(f"{n}: {why}" for n, (why,) in list(refusals.items())[:3]),
            advice="Ask for fewer VIFs or other NICs, or for other nodes",
            refusals=refusals,
        )
    return roomy


def _refuse_taken_name(run: DeployRun, name: str) -> None:
    """Ironic sees to it that allocations have different names; without an allocation, we do."""
    namesake = run.ironic.allocation(name)
    if namesake is not None and namesake.uuid != run.instance_uuid:
        raise InvalidRequest(
            f"an instance is named {name!r} already",
            reason=f"allocation {namesake.uuid} on node {namesake.node_uuid}",
            advice="Choose another name, or destroy that instance first",
        )


def claim_node(run: DeployRun) -> None:
    """The node carries our instance and our mark, and nothing that is somebody else's."""
    run.commit()
    if run.request.node is not None:
        left = _left_by_former(run)

        def check(now: Node) -> None:
            _must_be_had(now, run.request.wanted, run.instance_uuid)

        short = run.services.ironic.within(run.deadline.shorter(run.claim_timeout_s))
        mark = run.mark(**console.kept(run.node))
        run.node = short.claim(run.node, str(run.instance_uuid), mark, check=check)
        check(run.node)
    else:
        run.node = _chosen(run, _allocate(run))
        left = _left_by_former(run)
        run.node = run.ironic.update(
            run.node,
            [{"op": "add", "path": f"/extra/{MARK}", "value": run.mark(**console.kept(run.node))}],
            is_so=lambda now: now.mark is not None,
            doing=f"marking node {run.node.label}",
        )
        run.plan = vifs.place(run, run.request.nics, run.plan)
    vifs.unplug_these(run, left)
    console.end(run, run.node.mark)
    if run.node.storage_interface not in (None, "noop"):
        _refuse_foreign_volumes(run)


def _left_by_former(run: DeployRun) -> list[str]:
    return vifs.left_by_former(run, [vif.vif_id for vif in run.plan if vif.vif_id is not None], run.node.any_mark)


def _allocate(run: DeployRun) -> Allocation:
    """An allocation of ours that Ironic has given a node."""
    request = run.request
    allocation = run.ironic.allocate(
        str(run.instance_uuid),
        resource_class=str(request.wanted.resource_class),
        traits=request.wanted.traits,
        candidate_nodes=[node.uuid for node in run.candidates],
        name=request.name,
        owner=request.owner,
        extra={MARK: run.mark()},
    )

    def settled() -> Allocation | None:
        now = run.ironic.allocation(allocation.uuid, was_there=True)
        if now is None:
            raise AllocationFailed("the allocation has vanished", reason="somebody deleted it")
        return now if now.state in ("active", "error") else None

    if allocation.state not in ("active", "error"):
        doing = "waiting for Ironic to choose a node"
        allocation = run.services.watch.poll(settled, deadline=run.deadline, doing=doing, at_once=False)
    if allocation.state == "error":
        raise AllocationFailed(
            "Ironic found no node", reason=allocation.last_error, advice="Others may have been faster; try again"
        )
    return allocation


def _chosen(run: DeployRun, allocation: Allocation) -> Node:
    """The candidate that the allocation has got, which carries the instance by now."""
    for candidate in run.candidates:
        if candidate.uuid == allocation.node_uuid:
            return structs.replace(candidate, instance_uuid=run.instance_uuid)
    return run.ironic.node(str(allocation.node_uuid))


def _refuse_foreign_volumes(run: DeployRun) -> None:
    for target in run.ironic.volume_targets(run.node.uuid):
        if target.uuid not in run.targets:
            raise NodeUnavailable(
                f"node {run.node.label} has volume {target.volume_id} of somebody else",
                reason="an instance on it would see another tenant's data",
                advice=f"See whose it is, then `baremetal volume target delete {target.uuid}`",
                node_uuid=run.node.uuid,
            )


def release_node(run: DeployRun) -> None:
    """The node, if there is one, carries neither the instance nor our mark; the allocation, if there is one, is gone.

    Raises:
        CleanFailed: all that is so, but the node's cleaning failed.
    """
    if not run.has_node:
        node = run.ironic.node_of(str(run.instance_uuid))
        if node is not None:
            run.node = node
    clean_failure = None
    if run.has_node:
        clean_failure = _wait_shortly_for_cleaning(run)
        tear_down.release_node(run)
    if run.request.node is None:
        # Unasked whether it is there: who may not see it may still delete it.
        run.ironic.delete_allocation(str(run.instance_uuid))
    if clean_failure is not None:
        raise clean_failure


def _wait_shortly_for_cleaning(run: DeployRun) -> CleanFailed | None:
    """Where cleaning takes a moment only, it is awaited, so that not even our mark is left; says if it failed."""
    patient = run.deadline
    run.deadline = patient.shorter(MARK_TIMEOUT_S)
    try:
        run.wait_for(WHILE_CLEANING, "cleaning", CleanFailed)
    except CleanFailed as failure:
        return failure
    except (OperationTimedOut, NodeTakenAway):
        log.info("node %s is still being cleaned; our mark stays on it until it is claimed again", run.node.label)
    finally:
        run.deadline = patient
    return None


def create_vifs(run: DeployRun) -> None:
    """Every VIF of the request exists in Neutron."""
    run.vifs = vifs.create(run, run.plan, run.name) if run.plan else []


def plug_vifs(run: DeployRun) -> None:
    """Every VIF of the request is on a NIC of the node."""
    if run.vifs:
        # Known to the undo even where neither the mark nor Neutron tells of them any more.
        run.belongings = replace(run.belongings, vif_ids=run.belongings.vif_ids | {vif_id for _, vif_id in run.vifs})
        run.nics = vifs.plug(run, run.vifs)


def ask_for_vifs(run: DeployRun) -> None:
    """Ironic has taken every VIF of the request."""
    run.commit()
    vifs.ask(run, run.vifs)


def add_volumes(run: DeployRun) -> None:
    """The node has every volume of the request."""
    volumes.add(run, run.targets)


def write_instance_info(run: DeployRun) -> None:
    """Ironic knows all about the instance, and nothing about a former one. Taken back by the release of the node."""
    info = run.request.to_instance_info(image=run.image, name=run.name)
    mark = _whole_mark(run)
    patch: list[dict[str, object]] = [{"op": "add", "path": "/instance_info", "value": info}]
    if run.node.mark != mark:
        patch.append({"op": "add", "path": f"/extra/{MARK}", "value": mark})
    run.node = run.ironic.update(
        run.node,
        patch,
        is_so=lambda now: now.instance_info == info and now.any_mark == mark,
        doing=f"writing the instance_info of node {run.node.label}",
    )
    _refuse_another(run)


def _whole_mark(run: DeployRun) -> dict[str, Any]:
    """The mark, with the VIFs and volumes that may not have been known when the node was claimed."""
    mark = run.node.mark or run.mark()
    given = {vif_id: GIVEN for vif, vif_id in run.vifs if vif.vif_id is not None}
    return {
        **mark,
        "vifs": given | vifs.marked(mark),
        "volumes": {uuid: volume.volume_id for uuid, volume in run.targets.items()},
    }


def validate_node(run: DeployRun) -> None:
    """Every interface that the deploy goes through accepts it."""
    refusals = [f"{name}: {reason}" for name, reason in refused_by(run).items()]
    if run.node.network_interface in ("flat", "neutron") and run.node.deploy_interface != "fake" and not run.vifs:
        # Ironic finds this valid, and fails minutes later, with nothing to wire.
        refusals.append(f"network: {run.node.network_interface} needs at least one VIF")
    if refusals:
        raise ValidationFailed(
            f"node {run.node.label} does not accept the request", reason="; ".join(refusals), node_uuid=run.node.uuid
        )


def build_config_drive(run: DeployRun) -> None:
    """The config drive is ready to be sent."""
    guest = run.request.guest
    if guest.drive is not None:
        run.drive = guest.drive
    elif guest.config_drive:
        vif_ids = [vif_id for _, vif_id in run.vifs]
        on_nics = vifs.on_nics(run, vif_ids, run.nics) if run.nics is not None else []
        run.drive = _drive(run, on_nics).as_payload(prefer_image=guest.as_image)


def _drive(run: DeployRun, on_nics: Sequence[VifOnNic]) -> ConfigDrive:
    return config_drive(run, run.request.guest, run.name, on_nics, project_id=run.request.owner)


def config_drive(
    run: Run, guest: Guest, name: str, on_nics: Sequence[VifOnNic], *, project_id: str | None
) -> ConfigDrive:
    """The config drive of the instance, with network data for these VIFs."""
    network_data = network_data_from_vifs(on_nics, dhcp=guest.dhcp) if on_nics else None
    return ConfigDrive(
        meta_data=MetaData(
            uuid=str(run.instance_uuid),
            name=name,
            public_keys={f"key{number}": key for number, key in enumerate(guest.ssh_keys)},
            project_id=project_id,
            admin_pass=guest.admin_password,
            meta=guest.meta,
        ),
        user_data=guest.user_data,
        network_data=network_data,
        vendor_data=guest.vendor_data,
        content=guest.files,
    )


def request_deploy(run: DeployRun) -> None:
    """Ironic deploys the node."""
    noted = _whole_mark(run)

    def check(now: Node) -> None:
        # Somebody may have destroyed the instance while we prepared it or waited, and another may have the node by now.
        run.node = now
        _refuse_another(run)
        _note_again(run, noted)

    steps = run.request.deploy_steps
    run.asked_as = run.ironic.provision(run.node, "active", config_drive=run.drive, deploy_steps=steps, check=check)
    run.has_deployed = True


def _note_again(run: DeployRun, noted: Mapping[str, Any]) -> None:
    """The mark names what we noted in it, also where our claim's own request, given up and repeated, was carried out late.

    That writes the mark of the claim over the present one, which has come to name VIFs and volumes since.
    """
    mark = run.node.mark
    parts = ("vifs", "volumes")
    if mark is not None and any(noted[part].items() - as_mapping(mark.get(part)).items() for part in parts):
        whole = {**mark, **{part: noted[part] for part in parts if noted[part]}}
        _note(run, whole, doing=f"noting the VIFs and volumes of node {run.node.label} once more")


def await_active(run: DeployRun) -> None:
    """The node is active, and ours."""
    noted = _whole_mark(run)
    node = run.wait_for(WHILE_DEPLOYING, "deploying", DeployFailed)
    if node.instance_uuid != run.instance_uuid:
        raise NodeTakenAway(
            f"node {node.label} is active, but carries instance {node.instance_uuid or 'none'}", node_uuid=node.uuid
        )
    _note_again(run, noted)


Undo = Callable[[Run], None]


def _if_node(undo: Undo) -> Undo:
    """The undo, for a run that may have failed before it had a node."""

    @functools.wraps(undo)
    def with_node(run: Run) -> None:
        if run.has_node:
            undo(run)

    return with_node


DEPLOY: tuple[Step[DeployRun], ...] = (
    Step("find node", find_candidates),
    Step("check request", check_request),
    Step("claim node", claim_node, undo=release_node),
    Step("create VIFs", create_vifs, undo=tear_down.delete_our_ports),
    Step("plug VIFs", plug_vifs, undo=_if_node(tear_down.unplug_our_vifs)),
    Step("add volume targets", add_volumes, undo=_if_node(tear_down.remove_our_volumes)),
    Step("write instance_info", write_instance_info),  # cleared by the release of the node, in the same change
    Step("validate node", validate_node),
    Step("build config drive", build_config_drive),
    Step("request deploy", request_deploy, undo=_if_node(tear_down.tear_down_node)),
    Step("wait for active", await_active),
)

# In three pieces, for a caller who has to do something of his own in between, and who undoes by `tear_down.destroy`


def check_vifs(run: DeployRun) -> None:
    """The VIFs are nobody else's, and those that have to be on a certain NIC of the node can be. Changes nothing."""
    vifs.refuse_vifs_of_others(run, [vif_id for _, vif_id in run.vifs])
    if any(nic.on is not None for nic in run.request.nics):
        run.plan = vifs.place(run, run.request.nics, run.plan)
        run.vifs = [(vif, str(vif.vif_id)) for vif in run.plan]


def note_volumes(run: DeployRun) -> None:
    """The mark names the VIFs, and the volume targets before they exist."""
    run.commit()
    if run.targets:
        _note(run, _whole_mark(run), doing=f"noting the volumes of node {run.node.label}")


def _note(run: DeployRun, mark: Mapping[str, Any], *, doing: str) -> None:
    """The node carries that mark, and is still ours."""
    run.node = run.ironic.update(
        run.node,
        [{"op": "add", "path": f"/extra/{MARK}", "value": mark}],
        is_so=lambda now: now.any_mark == mark,
        doing=doing,
    )
    _refuse_another(run)


def _refuse_another(run: DeployRun) -> None:
    if run.node.instance_uuid != run.instance_uuid:
        raise NodeTakenAway(
            f"node {run.node.label} does not carry our instance any more",
            reason=f"it carries {run.node.instance_uuid or 'none'}",
            node_uuid=run.node.uuid,
        )


CLAIM = tuple(step for step in DEPLOY if step.name in ("find node", "claim node"))
PLUG: tuple[Step[DeployRun], ...] = (
    Step("check VIFs", check_vifs),
    Step("plug VIFs", ask_for_vifs, undo=tear_down.unplug_our_vifs),
)
SPAWN: tuple[Step[DeployRun], ...] = (
    Step("note volumes", note_volumes),
    *DEPLOY[DEPLOY.index(next(step for step in DEPLOY if step.name == "add volume targets")) :],
)


def claim(
    services: Services,
    request: DeployRequest,
    options: Options,
    *,
    seen: Node | None = None,
    claim_timeout_s: float = CLAIM_TIMEOUT_S,
) -> Node:
    """The node of the request carries the instance and our mark, and no VIF.

    Args:
        services: what to work on.
        request: names the node and the instance; VIFs and volumes may become known later.
        options: time, progress, cancellation.
        seen: the node as it was seen lately, which saves a look.
        claim_timeout_s: how long Ironic is asked for it, where it is locked, say; all else has the time of the options.

    Raises:
        Conflict: somebody else has it, or it cannot be had.
    """
    run = DeployRun(services, options, request)
    run.vifs_are_known, run.claim_timeout_s = False, claim_timeout_s
    if seen is not None:
        run.node = seen
    carry_out(CLAIM, run)
    return run.node


def plug(services: Services, node: Node, request: DeployRequest, options: Options) -> Node:
    """Ironic has taken the VIFs of the request, which exist, for the node that was claimed; `plugged` looks whether they are.

    Raises:
        VifInUse: one is plugged elsewhere, or another machine's; none is plugged.
        InvalidRequest: the node has no NIC that the request names.
        InterfaceFailed: Ironic refuses one; none is plugged.
    """
    run = _claimed(services, node, request, options)
    if run.vifs:
        carry_out(PLUG, run)
    return run.node


def plugged(services: Services, node: Node, vif_ids: Iterable[str], options: Options) -> vifs.Nics:
    """The NICs and bonds of the node, which have all of the VIFs.

    Raises:
        InterfaceFailed: one of them is on no NIC.
    """
    run = Run("deploy", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    return vifs.must_be_on(run, {vif_id: f"VIF {vif_id}" for vif_id in vif_ids})


def spawn(services: Services, node: Node, request: DeployRequest, options: Options) -> Node:
    """The node that was claimed, and has its VIFs, runs the instance; or is claimed and has its VIFs as before.

    Raises:
        ValidationFailed, DeployFailed: Ironic said no.
        OperationTimedOut, OperationCancelled: likewise.
        RollbackIncomplete: what was begun could not be undone; says what is left.
    """
    run = _claimed(services, node, request, options)
    carry_out(SPAWN, run)
    return run.node


def _claimed(services: Services, node: Node, request: DeployRequest, options: Options) -> DeployRun:
    run = DeployRun(services, options, request)
    run.node = node
    run.plan = [
        PlannedVif(words=nic.words, vif_id=nic.vif, network_id="") for nic in request.nics if nic.vif is not None
    ]
    run.vifs = [(vif, str(vif.vif_id)) for vif in run.plan]
    return run


# For a process that finds a deploy which another has left


def resume(services: Services, node: Node, options: Options, *, instance_uuid: str | None = None) -> Node:
    """A deploy that another process began is brought to its end: the node is active, or free.

    Ironic alone knows how far it came. If it has taken the deploy up, that is followed; if not, what was begun is undone,
    because the request, with its secrets, died with its process.

    Args:
        services: what to work on.
        node: the node that carries the instance.
        options: time, progress, cancellation.
        instance_uuid: the instance, for a node that a process other than Bloomery's deploys and so has no mark of ours.

    Raises:
        InvalidRequest: the node carries no instance of ours.
        DeployFailed: the deploy ended in failure, and was undone.
    """
    mark = node.mark
    if mark is None and instance_uuid is not None and node.instance_uuid == instance_uuid:
        mark = {"instance_uuid": instance_uuid}
    if mark is None:
        raise InvalidRequest(f"node {node.label} carries no instance of ours", node_uuid=node.uuid)
    run = left_behind(services, node, options, mark=mark)
    run.commit()
    match ON_LEFT_BEHIND[node.state]:
        case LeftBehind.LEAVE:
            return node
        case LeftBehind.TAKE_BACK if mark.get("keep_failed") and node.state in KEPT:
            return node
        case LeftBehind.TAKE_BACK:
            take_back(DEPLOY, run)
        case LeftBehind.FOLLOW:
            try:
                await_active(run)
            except BloomeryError:
                if not mark.get("keep_failed"):
                    take_back(DEPLOY, run)
                raise
    return run.node


def resume_or_fail(services: Services, node: Node, options: Options) -> Node:
    """The same of an instance that is to run: any other end is an error, whoever began the deploy.

    Raises:
        DeployFailed: the node is active with no instance of this kind, or free.
    """
    reason = "the process that asked for it ended before Ironic had taken it up"
    if node.state in KEPT and node.last_error:
        reason = node.last_error
    node = resume(services, node, options, instance_uuid=node.instance_uuid)
    if node.state is not Provision.ACTIVE:
        raise DeployFailed(
            f"the deploy of node {node.label} was broken off",
            reason=reason,
            node_uuid=node.uuid,
        )
    return node


def abandon(services: Services, allocation: Allocation, options: Options) -> None:
    """An allocation of ours, whose process died before it could mark a node, is gone, and its node free.

    Raises:
        RollbackIncomplete: something is left.
    """
    ironic = services.ironic.within(Deadline(options.timeout_s, patience=services.patience))
    node = ironic.node_of(allocation.uuid)
    if node is None:
        ironic.delete_allocation(allocation.uuid)
        return
    if node.state is not Provision.AVAILABLE:
        log.warning("node %s runs an instance of ours without our mark; it is left alone", node.label)
        return
    run = left_behind(services, node, options, mark=as_mapping(allocation.extra.get(MARK)))
    run.commit()
    take_back(DEPLOY, run)


def left_behind(
    services: Services, node: Node, options: Options, *, mark: Mapping[str, Any] | None = None
) -> DeployRun:
    """The run of a deploy of which only the node, with our mark, is left."""
    mark = mark or node.any_mark or {}
    request = DeployRequest(
        image=Image(source="unknown"),
        node=node.uuid,
        instance_uuid=str(mark.get("instance_uuid")),
        name=str(mark["name"]) if mark.get("name") else None,
    )
    run = DeployRun(services, options, request)
    run.node = node
    return run
