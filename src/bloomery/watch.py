"""The only place that waits. One thread looks at Ironic for everybody who waits for a node.

Few nodes are looked at one by one; many by a single list of what changed last, whatever their number. Looks come fast
where somebody has just begun or ended to wait, or a node has come into another state, and slower the longer ago that is.
Ironic may be away meanwhile: looks go on, and each waiter
bears that as long as its deadline says.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from bloomery.deadline import Clock, Deadline, SystemClock
from bloomery.errors import BloomeryError, NodeNotFound, NodeTakenAway, OperationTimedOut
from bloomery.ironic import Ironic, Node, next_marker
from bloomery.ironic.changes import News
from bloomery.ironic.models import WATCH_FIELDS
from bloomery.plain import logger
from bloomery.states import Meaning, Provision, WaitTable

log = logger(__name__)

T = TypeVar("T")

ONE_BY_ONE = 3
"""So many nodes are looked at singly; more are looked for in the list of changes."""
UNSEEN_S = 30.0
"""Nodes that the list of changes has not shown for so long are looked for further down in it, or singly."""
NARROW_PAGE, WIDE_PAGE = 20, 1000
"""How many of the newest changes a look asks for at least and at most: in between, for as many as were news the last time."""
PACE = 10
"""The pause between two looks is this fraction of the time for which nothing has stirred."""
CROWD = 50
"""For more than so many who wait the shortest pause is longer, up to twice: a look answers for all of them, and costs more."""
TOLD_S = 2.0
"""The shortest pause where we are told of changes, and do not depend on looks to see them soon."""
LOOK_TIMEOUT_S = 30.0
LINGER_S = 5.0
"""How long the thread stays when nobody waits any more."""


@dataclass(eq=False)
class _Waiter:
    """Somebody who waits for a node; looked at by the watch's thread, woken through its signal."""

    node_uuid: str
    matters: Callable[[str | None], bool]
    signal: threading.Event = field(default_factory=threading.Event)
    node: Node | None = None
    seen_at: float | None = None
    gone: NodeNotFound | None = None
    failure: BloomeryError | None = None
    failing_since: float | None = None


class Watch:
    """Waits for nodes on behalf of any number of threads.

    Args:
        ironic: where to look.
        shortest_s: between two looks where something stirs.
        longest_s: between two looks where nothing does.
        clock: None means the machine's own.
    """

    def __init__(
        self, ironic: Ironic, *, shortest_s: float = 0.3, longest_s: float = 4.0, clock: Clock | None = None
    ) -> None:
        self.ironic = ironic
        self.shortest_s = shortest_s
        self.longest_s = longest_s
        self.clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._roused = threading.Event()
        self._has_newcomers = False
        self._heard: set[str] = set()
        self._is_told = False
        self._thread: threading.Thread | None = None
        self._news = News()
        self._stirred_at = 0.0

    def wait(
        self,
        node_uuid: str,
        judge: Callable[[Node], Meaning],
        *,
        deadline: Deadline,
        doing: str,
        on_look: Callable[[Node], None] = lambda _node: None,
        matters: Callable[[str | None], bool] = lambda _provision_state: True,
    ) -> tuple[Node, Meaning]:
        """Return the node as soon as the judge says anything else than WAIT.

        Args:
            node_uuid: the node.
            judge: says what a look at the node means; called in the caller's thread.
            deadline: when to give up, how long to bear that Ironic is away, and who may cancel.
            doing: what is waited for, as a participle, for messages.
            on_look: told of every look, in the caller's thread.
            matters: whether the node is worth a look when it is said to have come into that provision state; called in
                the thread of whoever says so.

        Returns:
            The node as it was seen last, and what that means.

        Raises:
            OperationTimedOut: the deadline passed; says the last state seen.
            OperationCancelled: the caller asked to stop.
            NodeTakenAway: the node was deleted.
            ServiceUnavailable: Ironic was away for longer than the deadline bears.
        """
        waiter = _Waiter(node_uuid, matters)
        last: Node | None = None
        with deadline.cancellation.rouses(waiter.signal):
            self._join(waiter)
            try:
                while True:
                    deadline.clock.wait(waiter.signal, deadline.remaining_s)
                    waiter.signal.clear()
                    if waiter.gone is not None:
                        raise NodeTakenAway(f"node {node_uuid} was deleted", node_uuid=node_uuid) from waiter.gone
                    last = waiter.node or last
                    if last is not None:
                        on_look(last)
                        meaning = judge(last)
                        if meaning is not Meaning.WAIT:
                            return last, meaning
                    failure, since = waiter.failure, waiter.failing_since
                    if failure is not None and since is not None and self.clock.monotonic() - since > deadline.outage_s:
                        raise failure
                    try:
                        deadline.check(doing)
                    except OperationTimedOut as late:
                        late.reason = _last_seen(late.reason, last, failure)
                        late.node_uuid = node_uuid
                        raise
            finally:
                self._leave(waiter)

    def wait_for_state(
        self,
        node: Node,
        table: WaitTable,
        *,
        deadline: Deadline,
        doing: str,
        on_look: Callable[[Node], None] = lambda _node: None,
    ) -> tuple[Node, Meaning]:
        """Return the node as soon as the table says anything else than WAIT of its provision state.

        A node that has come to carry another instance was taken away, whatever its state. A state that we do not know
        is waited through, with a warning.

        Raises:
            As `wait`.
        """
        warned: set[str | None] = set()

        def judge(now: Node) -> Meaning:
            if node.instance_uuid is not None and now.instance_uuid not in (None, node.instance_uuid):
                return Meaning.TAKEN_AWAY
            if now.state is Provision.UNKNOWN and now.provision_state not in warned:
                warned.add(now.provision_state)
                log.warning("node %s is in state %r, which is not known here; waiting", now.label, now.provision_state)
            return table[now.state]

        def ends_it(provision_state: str | None) -> bool:
            return table[Provision.of(provision_state)] is not Meaning.WAIT

        return self.wait(node.uuid, judge, deadline=deadline, doing=doing, on_look=on_look, matters=ends_it)

    def heard(self, node_uuid: str, provision_state: str | None) -> None:
        """Somebody says that the node has come into that state: it is looked at now, if anybody waits for that.

        No more than a hint: what is not said, or said wrongly, is found by the next look.
        """
        with self._lock:
            if any(waiter.node_uuid == node_uuid and waiter.matters(provision_state) for waiter in self._waiters):
                self._is_told = True
                self._heard.add(node_uuid)
                self._roused.set()

    def poll(self, look: Callable[[], T | None], *, deadline: Deadline, doing: str, at_once: bool = True) -> T:
        """Return what the look gives as soon as it gives something. For what is no node: allocations, consoles.

        Args:
            look: gives None as long as there is nothing.
            deadline: when to give up.
            doing: what is waited for, as a participle, for messages.
            at_once: False where it would be in vain to look before a moment has passed.

        Raises:
            OperationTimedOut: the deadline passed.
            OperationCancelled: the caller asked to stop.
        """
        pause_s = self.shortest_s / 2
        if not at_once:
            deadline.pause(pause_s, doing)
        while (seen := look()) is None:
            deadline.pause(pause_s, doing)
            pause_s = min(pause_s * 1.5, self.longest_s)
        return seen

    # The thread

    def _join(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)
            self._stirred_at = self.clock.monotonic()
            self._has_newcomers = True
            self._roused.set()
            if self._thread is None or not self._thread.is_alive():
                # Nobody has waited for a while: what has changed since then is news to nobody.
                self._news = News()
                self._thread = threading.Thread(target=self._look_out, name="bloomery-watch", daemon=True)
                self._thread.start()

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.remove(waiter)
            # Where one wait has ended, others are likely to end soon.
            self._stirred_at = self.clock.monotonic()

    def _look_out(self) -> None:
        looked_at, pause_s = -math.inf, 0.0
        while True:
            with self._lock:
                self._roused.clear()
                waiters, has_newcomers, heard = list(self._waiters), self._has_newcomers, self._heard
                self._has_newcomers, self._heard = False, set()
            if not waiters:
                self.clock.wait(self._roused, LINGER_S)
                with self._lock:
                    if not self._waiters:
                        self._thread = None
                        return
                continue
            shortest_s = self.shortest_s * min(max(1.0, len(waiters) / CROWD), 2.0)
            if has_newcomers:
                # Who comes together is looked for together.
                pause_s = min(pause_s, shortest_s)
            if len(heard) > ONE_BY_ONE or self.clock.monotonic() >= looked_at + pause_s:
                if self._look(waiters, heard):
                    self._stirred_at = self.clock.monotonic()
                looked_at = self.clock.monotonic()
                shortest_s = max(shortest_s, min(TOLD_S, self.longest_s) if self._is_told else 0.0)
                pause_s = min(max((looked_at - self._stirred_at) / PACE, shortest_s), self.longest_s)
                left_s = pause_s
            else:
                if heard:
                    self._look([waiter for waiter in waiters if waiter.node_uuid in heard], heard)
                left_s = looked_at + pause_s - self.clock.monotonic()
            self.clock.wait(self._roused, left_s)

    def _look(self, waiters: list[_Waiter], heard: set[str]) -> bool:
        """Look once for all of them; whether any node has come into another state since the last time.

        Many of them have to be all who wait: what the list of changes has shown once, it is not asked for again.
        """
        now = self.clock.monotonic()
        ironic = self.ironic.within(
            Deadline(LOOK_TIMEOUT_S, outage_s=0.0, clock=self.clock, patience=self.ironic.deadline.patience)
        )
        wanted = {waiter.node_uuid for waiter in waiters}
        unlooked = set(wanted)
        seen: dict[str, Node | NodeNotFound] = {}
        failure: BloomeryError | None = None
        try:
            if len(wanted) > ONE_BY_ONE:
                newcomers = {waiter.node_uuid for waiter in waiters if waiter.seen_at is None}
                at_rest = {w.node_uuid for w in waiters if w.seen_at is not None and now - w.seen_at > UNSEEN_S}
                seen |= self._changes(ironic, wanted, newcomers, at_rest)
                unlooked = (newcomers | at_rest) - seen.keys()
            for node_uuid in sorted(unlooked):
                try:
                    seen[node_uuid] = ironic.node(node_uuid, fields=WATCH_FIELDS)
                except NodeNotFound as gone:
                    seen[node_uuid] = gone
                unlooked.remove(node_uuid)
        except BloomeryError as problem:
            log.info("could not look at %d of %d nodes: %s", len(unlooked), len(wanted), problem)
            failure = problem
        moved = False
        for waiter in waiters:
            found = seen.get(waiter.node_uuid)
            if isinstance(found, NodeNotFound):
                waiter.gone = found
            elif found is not None:
                moved = moved or waiter.node is None or _changed(waiter.node, found)
                if waiter.node is not None and found.uuid not in heard and waiter.matters(found.provision_state):
                    self._is_told = False  # it has come to where it was waited for, and nobody said so
                waiter.node, waiter.seen_at = found, now
            if waiter.node_uuid in unlooked:
                waiter.failure = failure
                waiter.failing_since = waiter.failing_since if waiter.failing_since is not None else now
            else:
                waiter.failure = waiter.failing_since = None
            if found is not None or waiter.failure is not None:
                waiter.signal.set()
        return moved

    def _changes(
        self, ironic: Ironic, wanted: set[str], newcomers: set[str], at_rest: set[str]
    ) -> dict[str, Node | NodeNotFound]:
        """Those of the wanted nodes that have changed since the last time, and others that are on the same pages.

        The list is read until it comes to changes that were seen before; and on, where many are not on it that have to be
        seen, as far down as they should be. Newcomers mostly have changed just now, and those that are at rest long ago.
        """
        began_at = self.clock.monotonic()
        found: dict[str, Node | NodeNotFound] = {}
        news: list[Node] = []
        rows = 0
        marker = None
        asked: set[str] = set()
        limit = max(NARROW_PAGE, self._news.lately + len(newcomers) + 2)
        if len(at_rest) > ONE_BY_ONE:
            limit = max(limit, 2 * len(wanted))
        while True:
            limit = min(limit, WIDE_PAGE)
            nodes = ironic.newest_changes(limit=limit, marker=marker)
            rows += len(nodes)
            new = [node for node in nodes if self._news.has(node)]
            news += new
            found |= {node.uuid: node for node in nodes if node.uuid in wanted}
            if len(nodes) < limit or len(found) == len(wanted):
                break
            is_enough = len((newcomers | at_rest) - found.keys()) <= ONE_BY_ONE or rows >= 2 * len(wanted)
            # At the end of the list are the nodes that were never changed.
            is_through = self._news.is_first or len(new) < len(nodes) or nodes[-1].changed_at is None
            if is_enough and is_through:
                break
            marker = next_marker(nodes, asked)
            limit = max(limit, 2 * len(wanted) - rows)
        # Only now: what is on a page that could not be read has to come again.
        self._news.took(news, began_at=began_at, ended_at=self.clock.monotonic())
        return found


def _changed(before: Node, now: Node) -> bool:
    return (before.provision_state, before.power_state, before.target_power_state) != (
        now.provision_state,
        now.power_state,
        now.target_power_state,
    )


def _last_seen(reason: str | None, node: Node | None, failure: BloomeryError | None) -> str:
    if failure is not None:
        return f"{reason}; {failure}"
    if node is None:
        return f"{reason}; the node was never seen"
    words = f"{reason}; the node was last seen in {node.provision_state!r}"
    if node.step_now is not None:
        words += f", at step {node.step_now[0]!r}"
    return words + (f"; Ironic says: {node.last_error}" if node.last_error else "")
