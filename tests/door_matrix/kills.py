"""A nova-compute that dies at a request, and the one that starts after it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from keystoneauth1.session import Session
from nova import exception, objects
from nova.compute import power_state, task_states, vm_states

from door_matrix.calls import CALLS, HARD, Server, destroy, reboot, start, stop
from door_matrix.door_world import OURS, DoorWorld
from door_matrix.matrix import LIMIT_S, Struck, clean_run, prepared
from unwind.matrix import Tokens, difference, second_effect

CHANGES = (
    "build",
    "build with a volume",
    "build whose deploy fails",
    "build whose volumes fail",
    "delete",
    "rebuild",
    "rescue",
    "unrescue",
    "start",
    "stop",
    "stop softly",
    "reboot",
    "reboot softly",
    "crash dump",
    "attach interface",
    "detach interface",
    "attach volume",
    "detach volume",
    "serial console",
    "graphical console",
)
"""The calls that change something."""


class MortalSession(Session):  # type: ignore[misc]  # keystoneauth has no types
    """Credentials and connections of a process that can be killed.

    Attributes:
        dies_at: at its request of this number; None never.
        after: after it was answered.
        is_dead: nothing can be asked any more.
    """

    def __init__(self) -> None:
        super().__init__(auth=Tokens())
        self.dies_at: int | None = None
        self.after = False
        self.is_dead = threading.Event()
        self._asked = 0
        self._lock = threading.Lock()

    def dies(self, nth: int, *, after: bool) -> None:
        """The process dies at the request of that number from now on."""
        self._asked, self.dies_at, self.after = 0, nth, after

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """As keystoneauth's, while the process lives."""
        with self._lock:
            self._asked += 1
            is_last = self._asked == self.dies_at
            if self.is_dead.is_set() or (is_last and not self.after):
                self.is_dead.set()
                raise SystemExit  # of the thread; nobody else is told
        reply = super().request(*args, **kwargs)
        if is_last:
            reply.content  # noqa: B018  it has all arrived
            self.is_dead.set()
            raise SystemExit
        return reply


def killed(name: str, nth: int, *, after: bool) -> str | None:
    """What is wrong in the end, if nova-compute is killed at that request and another one starts; None if nothing is."""
    clean = clean_run(name)
    with prepared(name, OURS, session=MortalSession()) as struck:
        session: Any = struck.world.session
        session.dies(nth, after=after)
        struck.attempt(CALLS[name].call, until=session.is_dead)
        session.is_dead.set()
        struck.calm()
        place = f"{name}, killed {'after' if after else 'before'} request {nth}"
        struck.world.session = Session(auth=Tokens())
        try:
            start_over(struck.world, struck.server)
        except exception.NovaException as problem:
            return f"{place}: nova-compute does not start: {problem!r}"
        struck.calm()
        struck.background_pass()
        asked = 1
        if struck.seen() not in (clean.untouched, clean.finished):
            asked = 2
            struck.attempt(user_goes_on(name, struck))
            struck.calm()
            struck.background_pass()
        if struck.world.noted.escaped:
            return f"{place}: {struck.world.noted.escaped}"
        now = struck.seen()
        if now not in (clean.untouched, clean.finished):
            return f"{place}: it was left as it should not be: {difference(now, clean.untouched)} from before"
        extra = second_effect(struck.effects(), clean.effects, times=asked)
        return f"{place}: {extra}" if extra else None


def user_goes_on(name: str, struck: Struck) -> Any:
    """He deletes a server that is in error and was never there; otherwise he asks again."""
    return destroy if struck.server.instance.launched_at is None and name.startswith("build") else CALLS[name].call


def start_over(world: DoorWorld, server: Server) -> None:
    """A nova-compute starts: the manager's `init_host` and `_init_instance`."""
    driver = world.restarted()
    driver.init_host("compute-1")
    with suppress(exception.VirtDriverNotReady):
        driver.get_nodenames_by_uuid()
    if server.instance.deleted:
        return
    server.instance.refresh()
    here = [server.instance] if server.instance.host is not None else []
    listed = objects.InstanceList(world.context, objects=here)
    left = driver.process_instances_at_startup(world.context, listed)
    for thread in threading.enumerate():
        if thread.name == f"bloomery-{server.instance.uuid}":
            thread.join(LIMIT_S)
    for _ in left:
        _init_instance(world, server)


def _init_instance(world: DoorWorld, server: Server) -> None:
    instance = server.instance
    if instance.vm_state == vm_states.BUILDING or instance.task_state in (
        task_states.SPAWNING,
        task_states.REBUILDING,
        task_states.REBUILD_SPAWNING,
    ):
        instance.vm_state, instance.task_state = vm_states.ERROR, None
        instance.save()
    elif instance.task_state == task_states.DELETING:
        destroy(world, server)
    elif instance.task_state in (task_states.REBOOT_STARTED, task_states.REBOOT_STARTED_HARD):
        if world.driver.get_info(instance, use_cache=False).state != power_state.RUNNING:
            reboot(HARD)(world, server)
    elif instance.task_state == task_states.POWERING_OFF:
        stop(0)(world, server)
    elif instance.task_state == task_states.POWERING_ON:
        start(world, server)
