"""Recover: what another process left half done is finished, or undone, from what Ironic and Neutron show alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from bloomery.deadline import Deadline
from bloomery.errors import BloomeryError, DeployFailed, RebuildFailed
from bloomery.ironic import Node
from bloomery.ironic.models import MARK
from bloomery.operations import console, deploy, rebuild, rescue, tear_down, vifs, volumes
from bloomery.operations.liveness import is_at_work
from bloomery.operations.run import Options, Run, Services, as_mapping, is_managed_by
from bloomery.plain import logger
from bloomery.states import MAY_BE_UPDATED, ON_TEAR_DOWN, WHILE_DEPLOYING, Meaning, Provision, TearDown

log = logger(__name__)

_ON_THE_WAY = {Provision.AVAILABLE} | {state for state, means in WHILE_DEPLOYING.items() if means is Meaning.WAIT}
"""Where a node that carries an instance is being deployed, by whoever wrote the mark."""


def recover_all(
    services: Services, options: Options, *, older_than_s: float
) -> Iterator[tuple[str, BloomeryError | None]]:
    """Whatever processes of ours left half done is finished or undone.

    Args:
        services: what to work on.
        options: time, progress, cancellation, for each node.
        older_than_s: what was begun more recently is left alone: its process may still be at it. A process of this machine that
            is seen to be at a deploy is not disturbed, however long ago it seems to have begun.

    Yields:
        The name of each node, or the UUID of each allocation, that was seen to, and what went wrong there.
    """
    ironic = services.ironic.within(Deadline(options.timeout_s, patience=services.patience))
    nodes = list(ironic.nodes())
    now = services.wall_clock()
    marked = {node.instance_uuid for node in nodes if node.mark is not None}
    for node in nodes:
        mark = as_mapping(node.any_mark)
        is_being_deployed = node.mark is not None and node.state in _ON_THE_WAY and is_at_work(mark, now=now)
        is_ours = is_managed_by(services.manager, node.any_mark)
        if is_ours and is_older(mark, older_than_s, now=now) and not is_being_deployed:
            yield node.label, _problem_of(recover, services, node, options, older_than_s=older_than_s)
    for allocation in ironic.allocations():
        mark = as_mapping(allocation.extra.get(MARK))
        is_left = is_older(mark, older_than_s, now=now) and not is_at_work(mark, now=now)
        if mark and allocation.uuid not in marked and is_left:
            yield allocation.uuid, _problem_of(deploy.abandon, services, allocation, options)


def is_older(mark: Mapping[str, Any], seconds: float, *, now: datetime) -> bool:
    """Whether what the mark tells of was begun longer ago; a mark that cannot be read is.

    One from the future, whose writer's clock went ahead of ours, counts as written just now.
    """
    try:
        since = datetime.fromisoformat(str(mark.get("since")))
        return max(0.0, (now - since).total_seconds()) >= seconds
    except (ValueError, TypeError):
        return True


def _problem_of(work: Any, *args: Any, **more: Any) -> BloomeryError | None:
    try:
        work(*args, **more)
    except BloomeryError as problem:
        return problem
    return None


def recover(services: Services, node: Node, options: Options, *, older_than_s: float = 0.0) -> Node:
    """The node runs its instance, or is clean and free; whatever our mark on it says was under way.

    A node without our mark is left alone. One whose mark is of a former instance loses what that left.

    Args:
        services: what to work on.
        node: the node.
        options: time, progress, cancellation.
        older_than_s: a VIF that was created more recently, and is not plugged, may be about to be.

    Raises:
        BloomeryError: what was under way ended in failure, and was undone as far as the error says.
    """
    if node.any_mark is None:
        return node
    if node.mark is None:
        former = str(as_mapping(node.any_mark).get("instance_uuid"))
        if node.instance_uuid is None and ON_TEAR_DOWN[node.state] is not TearDown.FREE:
            # Ironic has failed to tear it down, and taken the instance from it all the same: the machine may still run.
            return tear_down.destroy(services, node, former, options)
        return sweep(services, node, options)
    if node.mark.get("operation") == "rebuild":
        return _tidy(services, rebuild.resume(services, node, options), options, older_than_s)
    if node.mark.get("operation") == "deploy" and node.state is not Provision.ACTIVE:
        return _tidy(services, deploy.resume(services, node, options), options, older_than_s)
    return _tidy(services, node, options, older_than_s)


def finish(services: Services, operation: str, instance_uuid: str, options: Options) -> Node | None:
    """What another process began to do with the instance is done, or undone, by what Ironic shows of it.

    Args:
        services: what to work on.
        operation: `deploy`, `rebuild`, `rescue` or `unrescue`.
        instance_uuid: the instance.
        options: time, progress, cancellation.

    Returns:
        The node, where that operation has come to its end; None if no node carries the instance and nothing is left of it.

    Raises:
        OperationFailed: it ended in failure, was undone, or cannot be told from one that never began.
    """
    ironic = services.ironic.within(services.asking(options.timeout_s))
    node = ironic.node_of(instance_uuid)
    if node is None or node.mark is None:
        allocation = ironic.allocation(instance_uuid)
        if allocation is not None:
            deploy.abandon(services, allocation, options)
            node = ironic.node_of(instance_uuid)
    if node is None:
        for left in [one for one in ironic.nodes() if (one.any_mark or {}).get("instance_uuid") == instance_uuid]:
            recover(services, left, options)
        return None
    if operation == "rescue":
        return rescue.resume(services, node, options)
    if operation == "unrescue":
        return rescue.resume_unrescue(services, node, options)
    if operation == "rebuild" and (node.mark or {}).get("operation") != "rebuild":
        raise RebuildFailed(
            f"the rebuild of node {node.label} was broken off",
            reason="nothing on the node tells whether Ironic had taken it up",
            advice="Look at what the instance boots, and rebuild it once more where that is not as wanted",
            node_uuid=node.uuid,
        )
    node = recover(services, node, options)
    if node.state is not Provision.ACTIVE:
        raise DeployFailed(
            f"the {operation} of node {node.label} was broken off, and has been undone",
            reason="the process that asked for it ended before Ironic had taken it up",
            node_uuid=node.uuid,
        )
    return node


def is_leftover(node: Node) -> bool:
    """Whether the node carries nothing but our mark of a former instance, and lets go of it now.

    Ironic takes the instance from a node although it failed to tear it down. Then the machine may still run it, and the mark
    is all that says whose it is: whoever destroys it again needs that.
    """
    is_without_instance = node.any_mark is not None and node.instance_uuid is None
    return is_without_instance and node.state in MAY_BE_UPDATED and ON_TEAR_DOWN[node.state] is TearDown.FREE


def sweep(services: Services, node: Node, options: Options) -> Node:
    """Nothing is left on the node, or in Neutron, of the former instance that the mark names."""
    former = node.any_mark or {}
    run = Run("sweep", services, options, instance_uuid=str(former.get("instance_uuid")))
    run.node = node
    run.commit()
    if run.ironic.node_of(str(run.instance_uuid)) is None:
        vifs.unplug(run, vifs.ours(run, former))
        vifs.delete_created(run, former)
        volumes.remove(run, former)
    if node.state not in MAY_BE_UPDATED:
        log.info("node %s is in %r: our mark stays until it is free", node.label, node.provision_state)
        return node
    if node.instance_uuid is None:
        console.end(run, former)
        return run.ironic.release(node, str(run.instance_uuid))
    return run.ironic.update(
        node,
        [*node.guards, {"op": "remove", "path": f"/extra/{MARK}"}],
        is_so=lambda now: now.any_mark != former,
        doing=f"taking our mark from node {node.label}",
    )


def _tidy(services: Services, node: Node, options: Options, older_than_s: float) -> Node:
    """What was created for a running instance and never plugged is deleted; the mark names what there is."""
    if node.mark is None or node.state is not Provision.ACTIVE:
        return node
    run = Run("tidy", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    run.commit()
    plugged = set(run.ironic.vifs(node.uuid))
    plugged |= _recent_vifs(run, older_than_s)
    vifs.delete_created(run, node.mark, only=lambda vif_id: vif_id not in plugged)
    there = {target.uuid for target in run.ironic.volume_targets(node.uuid)} if volumes.marked(node.mark) else set()
    mark = {
        **node.mark,
        "vifs": {vif_id: kind for vif_id, kind in vifs.marked(node.mark).items() if vif_id in plugged},
        "volumes": {uuid: volume for uuid, volume in volumes.marked(node.mark).items() if uuid in there},
    }
    if not node.console_enabled:
        mark.pop(console.NOTE, None)
    if mark == node.mark:
        return node
    return run.ironic.update(
        node,
        [{"op": "add", "path": f"/extra/{MARK}", "value": mark}],
        is_so=lambda now: now.mark == mark,
        doing=f"correcting our mark on node {node.label}",
    )


def _recent_vifs(run: Run, seconds: float) -> set[str]:
    """The VIFs of the instance that were created so recently that somebody may be about to plug them."""
    if not run.has_neutron or seconds <= 0:
        return set()
    since = run.services.wall_clock() - timedelta(seconds=seconds)
    return {port.id for port in run.neutron.ports_of(str(run.instance_uuid)) if (port.made_at or since) > since}
