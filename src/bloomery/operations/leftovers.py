"""Leftovers: what a free node still has of an instance that is gone, whoever deployed it. Found, and cleared.

The one place that says when something on a node is left there. The janitor shows what it finds by it on lists of all nodes;
here single nodes are read, and cleared of what their operator has seen and agreed to.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.errors import NodeUnavailable
from bloomery.ironic import Ironic, Node, VolumeTarget
from bloomery.ironic.models import MARK
from bloomery.operations import vifs, volumes
from bloomery.operations.run import Options, Run, Services, as_mapping
from bloomery.states import Provision

FREE = (Provision.AVAILABLE, Provision.MANAGEABLE)
"""Where a node carries nothing, and can be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What is left on a node.

    Attributes:
        vif_ids: plugged, with no instance to use them.
        volume_ids: of volume targets that an instance was given by us.
        foreign_volume_ids: of other volume targets, which somebody may have put there to stay; shown, and never removed.
        info_keys: of `instance_info`.
    """

    vif_ids: tuple[str, ...] = ()
    volume_ids: tuple[str, ...] = ()
    foreign_volume_ids: tuple[str, ...] = ()
    info_keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything that can be removed."""
        return bool(self.vif_ids or self.volume_ids or self.info_keys)

    @property
    def words(self) -> str:
        """What a person reads of it."""
        parts = [f"VIF {vif_id}" for vif_id in self.vif_ids] + [f"volume {volume_id}" for volume_id in self.volume_ids]
        if self.info_keys:
            parts.append(f"instance_info ({', '.join(self.info_keys)})")
        return ", ".join(parts)


def is_unused(node: Node) -> bool:
    """Whether Ironic offers the node and it carries no instance: what is on it, and what describes an instance, is left.

    In other states an operator may be about to adopt what is on it.
    """
    return node.state is Provision.AVAILABLE and node.instance_uuid is None


def is_free(node: Node) -> bool:
    """Whether the node certainly carries nothing, and nobody is at it."""
    return node.state in FREE and node.instance_uuid is None and node.reservation is None and not node.maintenance


def is_foreign(target: VolumeTarget) -> bool:
    """Whether nothing says that the volume target was made for an instance by us."""
    return not as_mapping(target.extra.get(MARK))


def leftovers_of(ironic: Ironic, node: Node) -> Leftovers:
    """What is left on a free node; nothing on one that is not free, or whose state is not certain. Changes nothing.

    Args:
        ironic: Ironic.
        node: read with `storage_interface` and `reservation`.
    """
    if not is_free(node):
        return Leftovers()
    targets = ironic.volume_targets(node.uuid) if node.storage_interface not in (None, "noop") else []
    return Leftovers(
        vif_ids=tuple(ironic.vifs(node.uuid)),
        volume_ids=tuple(target.volume_id for target in targets if not is_foreign(target)),
        foreign_volume_ids=tuple(target.volume_id for target in targets if is_foreign(target)),
        info_keys=tuple(sorted(node.instance_info)) if is_unused(node) else (),
    )


def clear(services: Services, node: Node, left: Leftovers, options: Options) -> Node:
    """Nothing of what was left is on the node. A node that is not free any more is left alone.

    Raises:
        NodeUnavailable: the node is not free.
        InterfaceFailed: Ironic does not let a VIF go.
    """
    run = Run("clear leftovers", services, options, instance_uuid=None)
    run.node = run.ironic.node(node.uuid)
    if not is_free(run.node):
        raise NodeUnavailable(
            f"node {run.node.label} is not free any more",
            reason=f"it is in {run.node.provision_state!r}, with instance {run.node.instance_uuid or 'none'}",
            advice="Look again; what is on it may belong to somebody by now",
            node_uuid=run.node.uuid,
        )
    run.commit()
    vifs.unplug(run, left.vif_ids)
    volumes.remove(run, None, volume_ids=left.volume_ids, but=is_foreign)
    keys = [key for key in left.info_keys if key in run.node.instance_info]
    if keys:
        run.node = run.ironic.update(
            run.node,
            [{"op": "remove", "path": f"/instance_info/{key}"} for key in keys],
            is_so=lambda now: not set(keys) & now.instance_info.keys(),
            doing=f"clearing the instance_info of node {run.node.label}",
        )
    return run.node
