"""Recover: what another process left half done is finished, or undone, from what Ironic and Neutron show alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bloomery.deadline import Deadline
from bloomery.errors import BloomeryError
from bloomery.ironic import Node
from bloomery.ironic.models import MARK
from bloomery.operations import deploy, rebuild, vifs, volumes
from bloomery.operations.run import Options, Run, Services, as_mapping, is_managed_by
from bloomery.states import MAY_BE_UPDATED, Provision

log = logging.getLogger(__name__)


def recover_all(
    services: Services, options: Options, *, older_than_s: float
) -> Iterator[tuple[str, BloomeryError | None]]:
    """Whatever processes of ours left half done is finished or undone.

    Args:
        services: what to work on.
        options: time, progress, cancellation, for each node.
        older_than_s: what was begun more recently is left alone: its process may still be at it.

    Yields:
        The name of each node, or the UUID of each allocation, that was seen to, and what went wrong there.
    """
    ironic = services.ironic.within(Deadline(options.timeout_s, patience=services.patience))
    nodes = list(ironic.nodes())
    marked = {node.instance_uuid for node in nodes if node.mark is not None}
    for node in nodes:
        if is_managed_by(services.manager, node.any_mark) and is_older(node.any_mark or {}, older_than_s):
            yield node.label, _problem_of(recover, services, node, options)
    for allocation in ironic.allocations():
        mark = as_mapping(allocation.extra.get(MARK))
        if mark and allocation.uuid not in marked and is_older(mark, older_than_s):
            yield allocation.uuid, _problem_of(deploy.abandon, services, allocation, options)


def is_older(mark: Mapping[str, Any], seconds: float) -> bool:
    """Whether what the mark tells of was begun longer ago; a mark that cannot be read is."""
    try:
        since = datetime.fromisoformat(str(mark.get("since")))
        return (datetime.now(UTC) - since).total_seconds() >= seconds
    except (ValueError, TypeError):
        return True


def _problem_of(work: Any, *args: Any) -> BloomeryError | None:
    try:
        work(*args)
    except BloomeryError as problem:
        return problem
    return None


def recover(services: Services, node: Node, options: Options) -> Node:
    """The node runs its instance, or is clean and free; whatever our mark on it says was under way.

    A node without our mark is left alone. One whose mark is of a former instance loses what that left.

    Raises:
        BloomeryError: what was under way ended in failure, and was undone as far as the error says.
    """
    if node.any_mark is None:
        return node
    if node.mark is None:
        return sweep(services, node, options)
    if node.mark.get("operation") == "rebuild":
        return _tidy(services, rebuild.resume(services, node, options), options)
    if node.mark.get("operation") == "deploy" and node.state is not Provision.ACTIVE:
        return _tidy(services, deploy.resume(services, node, options), options)
    return _tidy(services, node, options)


def is_leftover(node: Node) -> bool:
    """Whether the node carries nothing but our mark of a former instance, and lets go of it now."""
    return node.any_mark is not None and node.instance_uuid is None and node.state in MAY_BE_UPDATED


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
    return run.ironic.update(
        node,
        [{"op": "remove", "path": f"/extra/{MARK}"}],
        is_so=lambda now: now.any_mark != former,
        doing=f"taking our mark from node {node.label}",
    )


def _tidy(services: Services, node: Node, options: Options) -> Node:
    """What was created for a running instance and never plugged is deleted; the mark names what there is."""
    if node.mark is None or node.state is not Provision.ACTIVE:
        return node
    run = Run("tidy", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    run.commit()
    plugged = set(run.ironic.vifs(node.uuid))
    vifs.delete_created(run, node.mark, only=lambda vif_id: vif_id not in plugged)
    there = {target.uuid for target in run.ironic.volume_targets(node.uuid)} if volumes.marked(node.mark) else set()
    mark = {
        **node.mark,
        "vifs": {vif_id: kind for vif_id, kind in vifs.marked(node.mark).items() if vif_id in plugged},
        "volumes": {uuid: volume for uuid, volume in volumes.marked(node.mark).items() if uuid in there},
    }
    if mark == node.mark:
        return node
    return run.ironic.update(
        node,
        [{"op": "add", "path": f"/extra/{MARK}", "value": mark}],
        is_so=lambda now: now.mark == mark,
        doing=f"correcting our mark on node {node.label}",
    )
