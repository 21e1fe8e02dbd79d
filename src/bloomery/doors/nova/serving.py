"""Why a node cannot be had with which nothing is wrong: no conductor serves it, or one does not let go of it."""

from __future__ import annotations

import threading

from bloomery.deadline import Clock, Deadline, SystemClock
from bloomery.doors.nova.config import CONF
from bloomery.errors import BloomeryError
from bloomery.ironic import Conductor, Node
from bloomery.operations.run import Services
from bloomery.plain import logger

log = logger(__name__)

ASK_FOR_S = 10.0
"""How long Ironic is asked for its conductors, at most: the nodes do not wait for it."""


class Serving:
    """Which conductors are alive, and which locks have lasted. Safe to share between threads."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self._lock = threading.Lock()
        self._alive: tuple[Conductor, ...] = ()
        self._held_since: dict[str, tuple[str, float]] = {}

    def ask(self, services: Services) -> None:
        """It is known which conductors are alive; where Ironic does not say so, nothing is said against any node."""
        try:
            there = services.ironic.within(Deadline(ASK_FOR_S)).conductors()
        except BloomeryError as problem:
            log.info("which conductors are alive is not known: %s", problem)
            there = []
        # None at all means an Ironic that writes no heartbeats, as on SQLite, or one that serves nobody in any case.
        self._alive = tuple(conductor for conductor in there if conductor.alive)

    def unserved(self, node: Node) -> tuple[str, ...]:
        """A clause, if no conductor that is alive serves the node."""
        alive, group = self._alive, node.conductor_group or ""
        if not alive or any(_serves(conductor, group, node.driver) for conductor in alive):
            return ()
        return (
            f"no conductor is alive that serves driver {node.driver} in conductor group {group or '(the default)'}",
        )

    def held(self, node: Node) -> tuple[str, ...]:
        """A clause, if a conductor has the node locked for longer than a build would wait for it."""
        with self._lock:
            if node.reservation is None:
                self._held_since.pop(node.uuid, None)
                return ()
            now = self.clock.monotonic()
            holder, since = self._held_since.setdefault(node.uuid, (node.reservation, now))
            if holder != node.reservation:
                self._held_since[node.uuid] = (node.reservation, now)
                return ()
        if now - since < CONF.bloomery.claim_timeout:
            return ()
        return (f"it is locked by {holder}, for longer than a build waits",)


def _serves(conductor: Conductor, group: str, driver: str | None) -> bool:
    is_of_group = (conductor.conductor_group or "").lower() == group.lower()
    return is_of_group and (not conductor.drivers or driver in conductor.drivers)
