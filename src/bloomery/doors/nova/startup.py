"""What was under way when nova-compute stopped is followed to its end by the one that starts.

Ironic goes on meanwhile, and Nova by itself would call each of these servers failed, with a node that runs its image all the
same. Each is followed in a thread of its own, under the lock under which Nova builds and deletes it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from nova import context as nova_context
from nova import exception, objects, utils
from nova.compute import task_states, vm_states
from nova.compute import utils as compute_utils
from nova.virt import configdrive
from oslo_utils import timeutils

from bloomery.deadline import LeftUnderWay
from bloomery.doors.nova.config import CONF
from bloomery.doors.nova.errors import NOVA_IS_AWAY, nova_errors
from bloomery.doors.nova.following import Follower
from bloomery.doors.nova.nodes import Nodes
from bloomery.ironic import Node
from bloomery.operations import deploy, power, rebuild, rescue
from bloomery.operations.run import Options, Services
from bloomery.plain import logger

log = logger(__name__)

Resume = Callable[[Services, Node, Options], Node]

REBUILDING = (task_states.REBUILDING, task_states.REBUILD_BLOCK_DEVICE_MAPPING, task_states.REBUILD_SPAWNING)


def _rebuild_and_stop(services: Services, node: Node, options: Options) -> Node:
    """As Nova ends the rebuild of a server that was stopped."""
    return power.power_off(services, rebuild.resume_or_fail(services, node, options), options)


def _resume_of(instance: Any) -> tuple[Resume, str] | None:
    """How what was under way is followed, and the state of the server that it ends in; None where nothing was."""
    if instance.vm_state == vm_states.BUILDING:
        return deploy.resume_or_fail, vm_states.ACTIVE
    if instance.task_state in REBUILDING and instance.vm_state == vm_states.STOPPED:
        return _rebuild_and_stop, vm_states.STOPPED
    if instance.task_state in REBUILDING and instance.vm_state in (vm_states.ACTIVE, vm_states.ERROR):
        return rebuild.resume_or_fail, vm_states.ACTIVE
    if instance.task_state == task_states.RESCUING:
        return rescue.resume, vm_states.RESCUED
    if instance.task_state == task_states.UNRESCUING:
        return rescue.resume_unrescue, vm_states.ACTIVE
    return None


@dataclass(frozen=True)
class _Interrupted:
    """A server with something under way: how that is followed, and the state of the server that it ends in."""

    context: Any
    instance: Any
    resume: Resume
    vm_state: str


class Interrupted:
    """The servers with something under way when the service stopped. Safe to share between threads.

    While Ironic is away nobody can say what has become of them: they wait until a look at all nodes succeeds.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._lock = threading.Lock()
        self._waiting: list[_Interrupted] = []

    def take_up(self, context: Any, instances: Any) -> Any:
        """Every instance with something under way on its node is being followed, or will be; the others are returned."""
        left: list[Any] = []
        waiting: list[_Interrupted] = []
        for instance in instances:
            what = _resume_of(instance)
            if what is None:
                left.append(instance)
                continue
            one = _Interrupted(context.elevated(), instance, *what)
            # An Ironic that has just not answered is not waited for once more for each of them.
            if waiting or not self._take_up(one, or_else=left.append):
                waiting.append(one)
        if waiting:
            log.warning("Ironic cannot be had: %d servers are taken up again when it is back", len(waiting))
        self._wait_with(waiting)
        return objects.InstanceList(context, objects=left)

    def take_up_of_host(self) -> None:
        """The same for a Nova that does not ask for it: it calls these servers failed first, and they wait until it has."""
        context = nova_context.get_admin_context()
        attributes = ["info_cache", "metadata", "system_metadata", "flavor"]
        found = [
            _Interrupted(context, instance, *what)
            for instance in objects.InstanceList.get_by_host(context, CONF.host, expected_attrs=attributes)
            if (what := _resume_of(instance)) is not None
        ]
        self._wait_with(found)

    def take_up_rest(self) -> None:
        """Those that wait are being followed, or failed where no node carries them; Nova has started, and Ironic answers."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._wait_with([left for one in waiting for left in self._look_again(one)])

    def _look_again(self, one: _Interrupted) -> list[_Interrupted]:
        """The server, if it has to wait on."""
        try:
            one.instance.refresh()
            is_deleted = one.instance.task_state == task_states.DELETING
            return [] if is_deleted or self._take_up(one, or_else=_fail) else [one]
        except exception.InstanceNotFound:
            return []
        except NOVA_IS_AWAY as problem:
            log.info("server %s is taken up again later: %s", one.instance.uuid, problem)
            return [one]

    def _take_up(self, one: _Interrupted, *, or_else: Callable[[Any], None]) -> bool:
        """The server is being followed; or no node carries it, which its fault says. False where Ironic cannot be asked."""
        instance = one.instance
        try:
            with nova_errors():
                node = self.nodes.node_of(instance.uuid, fresh=True)
        except exception.NovaException:
            return False
        if node is None:
            _say_that_no_node_carries(one)
            or_else(instance)
            return True
        log.info("server %s: %s on node %s is taken up again", instance.uuid, instance.task_state, node.label)
        threading.Thread(target=self._follow, args=(one, node), name=f"bloomery-{instance.uuid}", daemon=True).start()
        return True

    def _follow(self, one: _Interrupted, node: Node) -> None:
        @utils.synchronized(one.instance.uuid)  # type: ignore[untyped-decorator]
        def to_its_end() -> None:
            with contextlib.suppress(LeftUnderWay):
                _follow(self.nodes, one, node)

        try:
            to_its_end()
        except NOVA_IS_AWAY as problem:
            log.warning("server %s: how it ended is told Nova later: %s", one.instance.uuid, problem)
            self._wait_with([one])

    def _wait_with(self, more: Collection[_Interrupted]) -> None:
        with self._lock:
            self._waiting += more


def _fail(instance: Any) -> None:
    _save(instance, vm_state=vm_states.ERROR, task_state=None)


def _say_that_no_node_carries(one: _Interrupted) -> None:
    """The server has a fault that says so: Nova sets it to ERROR without a word."""
    reason = "nova-compute stopped before the server was finished, and no node carries it any more"
    try:
        raise exception.InstanceDeployFailure(reason=reason)
    except exception.InstanceDeployFailure as problem:
        log.warning("server %s cannot be taken up again: %s", one.instance.uuid, problem)
        compute_utils.add_instance_fault_from_exc(one.context, one.instance, problem, sys.exc_info())


def _follow(nodes: Nodes, one: _Interrupted, node: Node) -> None:
    """The instance is as the operation wanted it, or in error with the reason.

    Raises:
        NovaException, or another of those that say so: Nova's database or bus is away.
    """
    instance = one.instance
    # A rebuild or rescue may begin from ERROR; and a Nova that does not ask us calls these servers failed meanwhile.
    follower = Follower(instance, is_given_up_by_error=False)
    # Who deletes it from now on waits for us; who did so before died with the service that stopped.
    was_being_deleted = instance.task_state == task_states.DELETING
    how = follower.options(leavable=True)
    try:
        with nova_errors(exception.InstanceDeployFailure):
            one.resume(nodes.connection.services, node, how)
    except exception.NovaException as problem:
        compute_utils.add_instance_fault_from_exc(one.context, instance, problem, sys.exc_info())
        if was_being_deleted or not follower.cancellation.is_cancelled:
            _fail(instance)
        return
    finally:
        nodes.doubt(node.uuid)
    if one.vm_state == vm_states.ACTIVE and instance.launched_at is None:
        configdrive.update_instance(instance)
        instance.launched_at = timeutils.utcnow()
    state = nodes.power_of(instance.uuid, fresh=True)
    _save(instance, vm_state=one.vm_state, task_state=None, power_state=state, progress=100)
    log.info("server %s: what was under way has come to its end", instance.uuid)


def _save(instance: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    try:
        instance.save()
    except exception.InstanceNotFound:
        log.info("server %s was deleted meanwhile", instance.uuid)
