"""What was under way when nova-compute stopped is followed to its end by the one that starts.

Ironic goes on meanwhile, and Nova by itself would call each of these servers failed, with a node that runs its image all the
same. Each is followed in a thread of its own, under the lock under which Nova builds and deletes it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from nova import context as nova_context
from nova import exception, objects, utils
from nova.compute import task_states, vm_states
from nova.compute import utils as compute_utils
from nova.virt import configdrive
from oslo_utils import timeutils

from bloomery.deadline import LeftUnderWay
from bloomery.doors.nova.config import CONF
from bloomery.doors.nova.errors import nova_errors
from bloomery.doors.nova.following import Follower
from bloomery.doors.nova.nodes import Nodes
from bloomery.ironic import Node
from bloomery.operations import deploy, rebuild, rescue
from bloomery.operations.run import Options, Services
from bloomery.plain import logger

log = logger(__name__)

Resume = Callable[[Services, Node, Options], Node]


REBUILDING = (task_states.REBUILDING, task_states.REBUILD_BLOCK_DEVICE_MAPPING, task_states.REBUILD_SPAWNING)


def _resume_of(instance: Any) -> tuple[Resume, str] | None:
    """How what was under way is followed, and the state of the server that it ends in; None where nothing was."""
    if instance.vm_state == vm_states.BUILDING:
        return deploy.resume_or_fail, vm_states.ACTIVE
    if instance.task_state in REBUILDING and instance.vm_state in (vm_states.ACTIVE, vm_states.STOPPED):
        return rebuild.resume_or_fail, vm_states.ACTIVE
    if instance.task_state == task_states.RESCUING:
        return rescue.resume, vm_states.RESCUED
    if instance.task_state == task_states.UNRESCUING:
        return rescue.resume_unrescue, vm_states.ACTIVE
    return None


def take_up(nodes: Nodes, context: Any, instances: Any) -> Any:
    """Every instance with something under way on its node is being followed; the others are returned."""
    left = []
    for instance in instances:
        resume = _resume_of(instance)
        node = _node_of(nodes, context, instance) if resume is not None else None
        if resume is None or node is None:
            left.append(instance)
            continue
        log.info("server %s: %s on node %s is taken up again", instance.uuid, instance.task_state, node.label)
        follower = (nodes, context.elevated(), instance, node, *resume)
        threading.Thread(target=_follow, args=follower, name=f"bloomery-{instance.uuid}", daemon=True).start()
    return objects.InstanceList(context, objects=left)


def take_up_of_host(nodes: Nodes) -> None:
    """The same for a Nova that does not ask for it: it has called these servers failed by the time that they are not."""
    context = nova_context.get_admin_context()
    attributes = ["info_cache", "metadata", "system_metadata", "flavor"]
    take_up(nodes, context, objects.InstanceList.get_by_host(context, CONF.host, expected_attrs=attributes))


def _node_of(nodes: Nodes, context: Any, instance: Any) -> Node | None:
    """The node to follow; None where there is none, and then the server has a fault that says so."""
    try:
        with nova_errors():
            node = nodes.node_of(instance.uuid, fresh=True)
            if node is None:
                # Nova sets the server to ERROR without a word.
                reason = "nova-compute stopped before the server was finished, and no node carries it any more"
                raise exception.InstanceDeployFailure(reason=reason)
    except exception.NovaException as problem:
        log.warning("server %s cannot be taken up again: %s", instance.uuid, problem)
        compute_utils.add_instance_fault_from_exc(context.elevated(), instance, problem, sys.exc_info())
        return None
    return node


def _follow(nodes: Nodes, context: Any, instance: Any, node: Node, resume: Resume, vm_state: str) -> None:
    """The instance is as the operation wanted it, or in error with the reason."""

    @utils.synchronized(instance.uuid)  # type: ignore[untyped-decorator]
    def to_its_end() -> None:
        with contextlib.suppress(LeftUnderWay):
            follow()

    def follow() -> None:
        follower = Follower(instance)
        how = follower.options(leavable=True)
        try:
            with nova_errors(exception.InstanceDeployFailure):
                resume(nodes.connection.services, node, how)
        except exception.NovaException as problem:
            compute_utils.add_instance_fault_from_exc(context, instance, problem, sys.exc_info())
            if not follower.cancellation.is_cancelled:
                _save(instance, vm_state=vm_states.ERROR, task_state=None)
            return
        finally:
            nodes.doubt(node.uuid)
        if vm_state == vm_states.ACTIVE and instance.launched_at is None:
            configdrive.update_instance(instance)
            instance.launched_at = timeutils.utcnow()
        state = nodes.power_of(instance.uuid, fresh=True)
        _save(instance, vm_state=vm_state, task_state=None, power_state=state, progress=100)
        log.info("server %s: what was under way has come to its end", instance.uuid)

    to_its_end()


def _save(instance: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    try:
        instance.save()
    except exception.InstanceNotFound:
        log.info("server %s was deleted meanwhile", instance.uuid)
