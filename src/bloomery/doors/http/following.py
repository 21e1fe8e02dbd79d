"""The fleet as Ironic shows it: read by one thread for all callers, each change told, and kept while Ironic is away."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bloomery.doors.http.store import Event
from bloomery.doors.http.upstream import Cloud
from bloomery.errors import BloomeryError, ServiceUnavailable
from bloomery.fleet import Fleet
from bloomery.ironic import Node
from bloomery.library import QUICK_TIMEOUT_S
from bloomery.operations.instances import Instance, instance_on
from bloomery.plain import logger

log = logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between looks at an Ironic that does not answer."""
SHORTEST_PAUSE_S = 0.5
"""From one look to the next, however often somebody says that something has changed; or less, if looks are more frequent."""
PAGES_BYTES = 32 * 1024 * 1024
"""So much of what was said of a view is kept, while the view is the same."""


class Pages:
    """What was said of a view, in JSON with its ETag, for whoever asks the same again. For the event loop's thread only.

    Args:
        most_bytes: what was not asked for longest goes, once there is more.
    """

    def __init__(self, most_bytes: int = PAGES_BYTES) -> None:
        self.most_bytes = most_bytes
        self._size = 0
        self._pages: OrderedDict[Hashable, tuple[bytes, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, key: Hashable, make: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """What is kept under the key, else what is made now."""
        found = self._pages.get(key)
        if found is not None:
            self._pages.move_to_end(key)
            return found
        found = make()
        self._pages[key] = found
        self._size += len(found[0])
        while self._size > self.most_bytes:
            _, (content, _) = self._pages.popitem(last=False)
            self._size -= len(content)
        return found


@dataclass(frozen=True, slots=True)
class View:
    """The fleet at a moment.

    Attributes:
        nodes: by name, then UUID.
        instances: the nodes that carry one, with it, by its name, then UUID.
        as_of: when Ironic showed it, in seconds since 1970.
        node_by: a node by UUID or name.
        instance_by: an instance by UUID, name, or its node's.
        pages: what was said of it.
    """

    nodes: tuple[Node, ...] = ()
    instances: tuple[tuple[Instance, Node], ...] = ()
    as_of: float = 0.0
    node_by: Mapping[str, Node] = field(default_factory=dict)
    instance_by: Mapping[str, tuple[Instance, Node]] = field(default_factory=dict)
    pages: Pages = field(default_factory=Pages)

    @classmethod
    def of(cls, nodes: Collection[Node], as_of: float, before: View | None = None) -> View:
        """The nodes, sorted and found by what they are called.

        Args:
            nodes: all of them.
            as_of: when Ironic showed them.
            before: an earlier view; of a node that is as it was then, the instance is not worked out again.
        """
        ordered = tuple(sorted(nodes, key=lambda node: (node.label, node.uuid)))
        known = before.instance_by if before is not None else {}
        carrying = []
        for node in ordered:
            if node.instance_uuid is not None:
                pair = known.get(node.instance_uuid)
                carrying.append(pair if pair is not None and pair[1] is node else (instance_on(node), node))
        carrying.sort(key=lambda pair: (pair[0].name, pair[0].uuid))
        node_by: dict[str, Node] = {node.uuid: node for node in ordered}
        instance_by: dict[str, tuple[Instance, Node]] = {}
        twice: set[str] = set()
        for pair in carrying:
            for name in {pair[0].name, pair[1].label, pair[1].uuid}:
                if instance_by.setdefault(name, pair) is not pair:
                    twice.add(name)
        for name in twice:
            del instance_by[name]  # the core says what is ambiguous, and between which
        instance_by |= {pair[0].uuid: pair for pair in carrying}
        node_by |= {node.name: node for node in ordered if node.name is not None}
        return cls(ordered, tuple(carrying), as_of, node_by, instance_by)


def after(ordered: Sequence[Any], key: Callable[[Any], Any], marker: Any) -> int:
    """Where what comes after the marker begins, whether or not the marker itself is still there."""
    return bisect_right(ordered, marker, key=key)


class Following:
    """One thread that keeps the view fresh and tells what has changed.

    Args:
        cloud: where to look.
        refresh_s: how often what has changed is asked for.
        read_all_s: how often everything is.
        on_news: is given the events of each look that showed something new, and what was seen of each node then (None:
            gone); says whether that was noted. What was not is news again at the next look.
        on_look: is called after each look that went well.
    """

    def __init__(
        self,
        cloud: Cloud,
        *,
        refresh_s: float,
        read_all_s: float,
        on_news: Callable[[Mapping[str, Mapping[str, Any] | None], Sequence[Event]], bool],
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.cloud = cloud
        self.on_look = on_look
        self.refresh_s = refresh_s
        self.read_all_s = read_all_s
        self.on_news = on_news
        self.fleet = Fleet()
        self.view = View()
        self.failure: BloomeryError | None = None
        self.failing_since: float | None = None
        self._told: dict[str, Mapping[str, Any]] = {}
        self._told_of: dict[str, Node] = {}
        self._telling = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._looked = threading.Condition()
        self._looks = 0
        self._read_at = -float("inf")
        self._thread = threading.Thread(target=self._follow, name="bloomery-following", daemon=True)

    def start(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """The view is kept fresh from now on; what differs from what was told before is news."""
        self._told = dict(told)
        self._thread.start()

    def show_former(self, view: View, failure: BloomeryError) -> None:
        """The view is one of earlier, because Ironic cannot be asked: why, the failure says. Before the start only."""
        self.view, self.failure, self.failing_since = view, failure, time.time()

    def retell(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """What differs from this is news, whoever told it."""
        with self._telling:
            self._told = dict(told)
            self._told_of = {}

    def stop(self) -> None:
        """Nobody looks any more."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(QUICK_TIMEOUT_S)

    def wake(self) -> None:
        """What has changed is asked for at once."""
        self._wake.set()

    def heard(self, node_uuid: str, provision_state: str | None) -> None:  # noqa: ARG002  what has changed is asked of Ironic
        """Somebody says that a node has changed: what has is asked for soon. Returns at once."""
        if self.failure is None:
            self._wake.set()

    def wait_for_look(self, timeout_s: float) -> bool:
        """Return when Ironic has been asked once more, in vain or not; False if that takes too long."""
        with self._looked:
            before = self._looks
            self._wake.set()
            return self._looked.wait_for(lambda: self._looks > before, timeout_s)

    def wait_for_ironic(self, is_over: Callable[[], bool]) -> bool:
        """Return when Ironic can be asked, or when it is over; says which."""
        with self._looked:
            # review: its caller says when it is over: at the end of the service, which rouses whoever waits here
            while self.failure is not None or not self.cloud.is_there:
                if is_over():
                    return False
                self._looked.wait(LONGEST_PAUSE_S)
        return True

    def rouse(self) -> None:
        """Whoever waits for Ironic looks whether he still has to."""
        with self._looked:
            self._looked.notify_all()

    @property
    def stale_s(self) -> float | None:
        """How old the view is, if there is one and Ironic cannot be asked; None while it can."""
        as_of = self.view.as_of
        return max(0.0, time.time() - as_of) if self.failure is not None and as_of else None

    def seen(self) -> View:
        """The view, such as it is.

        Raises:
            ServiceUnavailable: Ironic has not shown its nodes since there is a log of it.
        """
        view = self.view
        if not view.as_of:
            failure = self.failure
            raise ServiceUnavailable(
                "Ironic has not shown its nodes yet",
                reason=str(failure) if failure is not None else None,
                advice="Ask again in a moment",
            )
        return view

    def look(self, node_uuid: str) -> None:
        """The view shows the node as it is now.

        Raises:
            NodeNotFound: Ironic shows no such node.
            GatewayError: Ironic cannot be asked.
        """
        services = self.cloud.api.services
        self.fleet.look(services.ironic.within(services.asking(QUICK_TIMEOUT_S)), node_uuid)
        self._renew()

    def _follow(self) -> None:
        pause_s, looked_at = 0.0, -math.inf
        while not self._stopping.is_set():
            if self._wake.wait(pause_s):
                pause_s = min(SHORTEST_PAUSE_S, self.refresh_s)
                self._stopping.wait(looked_at + pause_s - time.monotonic())
            self._wake.clear()
            if self._stopping.is_set():
                return
            looked_at = time.monotonic()
            try:
                self._ask()
            except BloomeryError as problem:
                self._failed(problem)
                pause_s = min(max(FIRST_PAUSE_S, pause_s * 1.5), LONGEST_PAUSE_S)
            except Exception:
                # A door's thread: whatever it is, the next look may go well, and callers are told that the view is stale.
                log.exception("looking at the fleet failed")
                pause_s = LONGEST_PAUSE_S
            else:
                pause_s = self.refresh_s
            with self._looked:
                self._looks += 1
                self._looked.notify_all()

    def _ask(self) -> None:
        services = self.cloud.connect().services
        ironic = services.ironic.within(services.asking(QUICK_TIMEOUT_S))
        now = time.monotonic()
        if now - self._read_at >= self.read_all_s:
            self.fleet.read(ironic)
            self._read_at = now
        else:
            self.fleet.refresh(ironic)
        was_away, self.failure = self.failure, None
        self._renew()
        if was_away is not None:
            away_s = round(time.time() - (self.failing_since or time.time()), 1)
            self.failing_since = None
            log.info("Ironic answers again, after %g s", away_s)
            self.on_news({}, [Event(kind="ironic.back", data={"away_s": away_s})])
        self.on_look()

    def _failed(self, problem: BloomeryError) -> None:
        if self.failure is None:
            self.failing_since = time.time()
            self.failure = problem
            log.warning("Ironic cannot be asked: %s", problem)
            self.on_news({}, [Event(kind="ironic.away", data={"reason": str(problem)})])
        self.failure = problem

    def _renew(self) -> None:
        """The view is the fleet's, and what is new in it has been told."""
        with self._telling:
            found = self.fleet.nodes
            seen: dict[str, Mapping[str, Any] | None] = {}
            happened: list[Event] = []
            there = {node.uuid for node in found}
            for node in found:
                if self._told_of.get(node.uuid) is node:
                    continue  # the fleet keeps what has not changed: of ten thousand nodes few have to be compared
                now, before = _seen_of(node), self._told.get(node.uuid)
                if now != before:
                    seen[node.uuid] = now
                    happened += changes(node, before, now)
            for uuid in self._told.keys() - there:
                seen[uuid] = None
                before = self._told[uuid]
                happened.append(
                    Event(
                        kind="node.gone",
                        node_uuid=uuid,
                        node_name=before.get("name"),
                        owner=before.get("owner"),
                        lessee=before.get("lessee"),
                    )
                )
            self.view = _later(self.view, found)
            if not seen or self.on_news(seen, happened):
                for uuid, what in seen.items():
                    if what is None:
                        del self._told[uuid]
                    else:
                        self._told[uuid] = what
                self._told_of = {node.uuid: node for node in found}


def _later(view: View, found: Collection[Node]) -> View:
    """The view at a later moment: the same, unless a node has changed, come or gone."""
    known = view.node_by.get
    # The fleet reads what has just changed more than once; it is the same node then, if not the same object.
    if len(found) == len(view.nodes) and all(
        before is node or before == node for node in found for before in (known(node.uuid),)
    ):
        return replace(view, as_of=time.time())
    return View.of(found, time.time(), view)


_TOLD = (
    "provision_state", "power_state", "maintenance", "fault", "health", "last_error", "instance_uuid", "owner", "lessee",
    "retired", "protected",
)  # fmt: skip
"""Fields whose change is an event: `node.` and the name."""


def _seen_of(node: Node) -> dict[str, Any]:
    step = node.step_now
    return {
        "name": node.name,
        **{name: getattr(node, name) for name in _TOLD},
        "maintenance_reason": node.maintenance_reason,
        "target_provision_state": node.target_provision_state,
        "step": list(step) if step is not None else None,
        "since": node.provision_updated_at,
    }


def changes(node: Node, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[Event]:
    """What happened to the node between the two."""

    def happened(kind: str, **data: Any) -> Event:
        instance_uuid = node.instance_uuid or (before or {}).get("instance_uuid")
        return Event(
            kind=f"node.{kind}",
            node_uuid=node.uuid,
            node_name=node.name,
            instance_uuid=instance_uuid,
            owner=node.owner,
            lessee=node.lessee,
            data=data,
        )

    if before is None:
        yield happened("appeared", **{name: now[name] for name in _TOLD if now[name] not in (None, False)})
        return
    for name in _TOLD:
        if before.get(name) != now[name]:
            more: dict[str, Any] = {}
            if name == "provision_state":
                more = {"target": now["target_provision_state"], "since": now["since"], "last_error": now["last_error"]}
                took_s = _between(before.get("since"), now["since"])
                more |= {"took_s": took_s} if took_s is not None else {}
            elif name == "maintenance":
                more = {"reason": now["maintenance_reason"]}
            yield happened(name, was=before.get(name), now=now[name], **more)
    if before.get("step") != now["step"] and now["step"] is not None:
        name, number, of = now["step"]
        yield happened("step", step=name, number=number, of=of)


def _between(earlier: str | None, later: str | None) -> float | None:
    """Seconds between two of Ironic's times: how long the node was in the state that it left."""
    first, second = (Node(uuid="", provision_updated_at=text).in_state_since for text in (earlier, later))
    return (second - first).total_seconds() if first is not None and second is not None else None
