"""Recover: what another process left half done is finished, or undone, from the node alone."""

from __future__ import annotations

import logging

from bloomery.ironic import Node
from bloomery.ironic.models import MARK
from bloomery.operations import deploy, rebuild, vifs, volumes
from bloomery.operations.run import Options, Run, Services
from bloomery.states import MAY_BE_UPDATED

log = logging.getLogger(__name__)


def recover(services: Services, node: Node, options: Options) -> Node:
    """The node runs its instance, or is clean and free; whatever our mark on it says was under way.

    A node without our mark is left alone. One whose mark is of a former instance loses what that left.

    Raises:
        BloomeryError: what was under way ended in failure, and was undone as far as the error says.
    """
    if node.any_mark is None:
        return node
    if node.mark is None:
        return _sweep(services, node, options)
    match node.mark.get("operation"):
        case "deploy":
            return deploy.resume(services, node, options)
        case "rebuild":
            return rebuild.resume(services, node, options)
        case _:
            return node


def _sweep(services: Services, node: Node, options: Options) -> Node:
    """Nothing is left on the node, or in Neutron, of the former instance that the mark names."""
    former = node.any_mark or {}
    run = Run("sweep", services, options, instance_uuid=str(former.get("instance_uuid")))
    run.node = node
    run.commit()
    elsewhere = run.ironic.node_of(str(run.instance_uuid))
    if elsewhere is None:
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
