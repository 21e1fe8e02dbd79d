"""All nodes at once: found by node or by instance without a scan, kept fresh by what changed, and asked who fits.

A full list fills the indexes; afterwards a refresh reads only the nodes that changed, which Ironic gives newest first. A
full list now and then catches what no change shows: nodes that were deleted. A fleet that is kept for long holds its nodes
packed, with an outline of each at hand (docs/design/0008-fast-and-light.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from sys import intern

import msgspec

from bloomery.deadline import Clock, SystemClock
from bloomery.errors import InvalidRequest
from bloomery.ironic import Ironic, Node, next_marker
from bloomery.ironic.changes import News
from bloomery.ironic.models import FLEET_FIELDS
from bloomery.ironic.packing import Packer
from bloomery.states import GAVE_UP, Power, Provision

SECOND_PAGE = 20
"""The first page of a refresh asks for as many nodes as had changed at the one before, and two more: each row is work for
Ironic. So many it asks for next, if all of the first had changed."""
DELTA_PAGE = 100
"""And so many at a time, if all of the second had, too."""
SAMPLE = 100
"""Among so many nodes of a list are those that are taken as examples of what the others are like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a node has to be like.

    Attributes:
        resource_class: its class. None where a node is named.
        traits: all of which it has.
        capabilities: all of which it has with this value; `<or>`-less, plain comparison.
        owner: the project that owns it.
        conductor_group: the group that serves it.
        candidates: names or UUIDs; one of them. Empty means any node.
    """

    resource_class: str | None = None
    traits: tuple[str, ...] = ()
    capabilities: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    conductor_group: str | None = None
    candidates: tuple[str, ...] = ()


def why_not(node: Node, wanted: Wanted, *, instance_uuid: str | None = None) -> tuple[str, ...]:
    """The conditions that the node does not meet, a clause each; empty if it fits.

    Args:
        node: as the fleet's list or an operation's look shows it.
        wanted: what it has to be like.
        instance_uuid: the instance that it is wanted for; a node that carries it already is not in use by another.
    """
    return (*_unlike(node, wanted), *_unavailable(node, instance_uuid))


def _unlike(node: Node, wanted: Wanted) -> Iterable[str]:
    if wanted.candidates and not {node.uuid, node.name} & set(wanted.candidates):
        yield "it is not among the candidates"
    if wanted.resource_class is not None and node.resource_class != wanted.resource_class:
        yield f"its resource class is {node.resource_class or 'not set'}, not {wanted.resource_class}"
    for trait in wanted.traits:
        if trait not in (node.traits or ()):
            yield f"it has no trait {trait}"
    for name, value in wanted.capabilities.items():
        has = node.capabilities.get(name)
        if has != value:
            yield f"its capability {name} is {has or 'not set'}, not {value}"
    if wanted.owner is not None and node.owner != wanted.owner:
        yield f"its owner is {node.owner or 'not set'}, not {wanted.owner}"
    if wanted.conductor_group is not None and (node.conductor_group or "") != wanted.conductor_group:
        yield f"its conductor group is {node.conductor_group or 'the default'}, not {wanted.conductor_group}"


def _unavailable(node: Node, instance_uuid: str | None) -> Iterable[str]:
    if node.instance_uuid is not None and node.instance_uuid != instance_uuid:
        yield f"it carries instance {node.instance_uuid}"
    elif node.state is not Provision.AVAILABLE:
        yield f"its provision state is {node.provision_state}"
    if node.maintenance:
        yield "it is in maintenance" + (f" ({node.maintenance_reason})" if node.maintenance_reason else "")
    if node.fault:
        yield f"it has a fault ({node.fault})"
    if node.retired:
        yield "it is retired" + (f" ({node.retired_reason})" if node.retired_reason else "")
    if node.protected:
        yield "it is protected" + (f" ({node.protected_reason})" if node.protected_reason else "")
    if node.power_state in (None, "error"):
        yield f"its power state is {node.power_state or 'not known'}"
    if node.health is not None and node.health.lower() == "critical":
        yield "its hardware is in critical health"


def troubles(node: Node) -> tuple[str, ...]:
    """Why somebody should see to the node, a clause each; empty if nobody need."""
    return tuple(_troubles(node))


def _troubles(node: Node) -> Iterable[str]:
    if node.state in GAVE_UP:
        yield f"its provision state is {node.provision_state}" + (f" ({node.last_error})" if node.last_error else "")
    if node.maintenance:
        yield "it is in maintenance" + (f" ({node.maintenance_reason})" if node.maintenance_reason else "")
    if node.fault:
        yield f"it has a fault ({node.fault})"
    if node.power_state == Power.ERROR:
        yield "its power state is not known"
    if node.health is not None and node.health.lower() not in ("ok", "unknown"):
        yield f"its hardware's health is {node.health}"


def what_there_is(nodes: Collection[Node], wanted: Wanted) -> str:
    """What the nodes have where the request asks for something else: a sentence for whoever found no node."""
    if not nodes:
        return "Ironic shows no node at all to these credentials"
    parts = [f"there are {len(nodes)} nodes"]
    if wanted.resource_class is not None:
        parts.append(f"their classes are {_counted(node.resource_class or '(none)' for node in nodes)}")
    like = [node for node in nodes if wanted.resource_class in (None, node.resource_class)]
    if wanted.traits and like:
        parts.append(f"their traits are {_counted(trait for node in like for trait in node.traits or ()) or 'none'}")
    for name in wanted.capabilities:
        values = _counted(node.capabilities.get(name, "(not set)") for node in like)
        parts.append(f"capability {name} is {values or '(nowhere)'}")
    parts.append(f"their states are {_counted(_standing(node) for node in like) or '(none of that class)'}")
    return "; ".join(parts)


def _standing(node: Node) -> str:
    if node.maintenance:
        return "maintenance"
    if node.instance_uuid is not None:
        return "in use"
    return node.provision_state or "available"


def _counted(values: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return ", ".join(
        f"{value} ({count})" for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


class Outline(msgspec.Struct, frozen=True, gc=False):
    """What is at hand of each node of a fleet: enough for whoever has to go through all of them.

    Attributes:
        uuid: the node's.
        instance_uuid: of the instance that it carries.
        provision_state: as Ironic names it.
        power_state: as Ironic names it.
        target_power_state: where a change of power is under way.
        changed_at: when Ironic last wrote the node, as far as that was told.
        is_marked: whether it carries a mark of ours, be it about this instance or a former one.
        held: the node itself, or what it was packed to.
    """

    uuid: str
    instance_uuid: str | None
    provision_state: str | None
    power_state: str | None
    target_power_state: str | None
    changed_at: datetime | None
    is_marked: bool
    held: Node | bytes


def _shared(word: str | None) -> str | None:
    """The word, once for all nodes: there are few states, and many nodes."""
    return None if word is None else intern(word)


class Fleet:
    """The nodes as Ironic showed them last. Safe to share between threads.

    Args:
        belongs: which nodes are of it; must say at least what the filters of a read say. None means all of them.
        packed: whether nodes are held packed: for fleets that are kept for long, of which mostly few nodes are asked for.
        clock: None means the machine's own.
    """

    def __init__(
        self, belongs: Callable[[Node], bool] | None = None, *, packed: bool = False, clock: Clock | None = None
    ) -> None:
        self._belongs = belongs or (lambda _node: True)
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._packed = packed
        self._packer: Packer | None = None
        self._making_packer = threading.Lock()
        self._outlines: dict[str, Outline] = {}
        self._by_instance: dict[str, str] = {}
        self._news = News()
        # Every change of what is known has a number, so that a long read does not undo what was learned meanwhile.
        self._moment = 0
        self._learned: dict[str, int] = {}
        self._doubted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._outlines)

    @property
    def nodes(self) -> list[Node]:
        """All of them."""
        return [self._node(outline) for outline in self.outlines]

    @property
    def outlines(self) -> list[Outline]:
        """An outline of each of them, which takes next to no time."""
        with self._lock:
            return list(self._outlines.values())

    def node(self, node_uuid: str) -> Node | None:
        """The node of that UUID."""
        outline = self._outlines.get(node_uuid)
        return None if outline is None else self._node(outline)

    def has(self, node_uuid: str) -> bool:
        """Whether there is a node of that UUID."""
        return node_uuid in self._outlines

    def key_of(self, node: Node) -> str:
        """The node's UUID, as the same string for as long as the node is known: for others' indexes."""
        known = self._outlines.get(node.uuid)
        return node.uuid if known is None else known.uuid

    def node_of(self, instance_uuid: str) -> Node | None:
        """The node that carries the instance."""
        outline = self.outline_of(instance_uuid)
        return None if outline is None else self._node(outline)

    def outline_of(self, instance_uuid: str) -> Outline | None:
        """The outline of the node that carries the instance."""
        with self._lock:
            node_uuid = self._by_instance.get(instance_uuid)
            return None if node_uuid is None else self._outlines.get(node_uuid)

    def _node(self, outline: Outline) -> Node:
        held = outline.held
        return self._packing(()).unpack(held) if isinstance(held, bytes) else held

    def _packing(self, like: Iterable[Node]) -> Packer:
        """The packer: the same for as long as the fleet is kept, because what was packed needs it."""
        with self._making_packer:
            if self._packer is None:
                self._packer = Packer(like)
            return self._packer

    def _outline(self, node: Node) -> Outline:
        return Outline(
            uuid=self.key_of(node),
            instance_uuid=node.instance_uuid,
            provision_state=_shared(node.provision_state),
            power_state=_shared(node.power_state),
            target_power_state=_shared(node.target_power_state),
            changed_at=node.changed_at,
            is_marked=node.any_mark is not None,
            held=self._packing((node,)).pack(node) if self._packed else node,
        )

    def read(
        self,
        ironic: Ironic,
        filters: Mapping[str, str | bool] | None = None,
        *,
        accept: Callable[[Collection[str]], None] = lambda _node_uuids: None,
    ) -> None:
        """Every node that passes the filters is known, and no other. Keeps what it had if a page cannot be read.

        Args:
            ironic: where to read.
            filters: Ironic's own.
            accept: is shown the UUIDs of all nodes that were read; raises if they cannot be all that there are.

        Raises:
            GatewayError: Ironic could not be asked.
        """
        with self._lock:
            began = self._moment
        # Asked before the list is read: what changes meanwhile is news to the first refresh.
        newest = ironic.newest_changes(limit=1)
        asked_at = self._clock.monotonic()
        nodes = iter(ironic.nodes(filters))
        sample = list(islice(nodes, SAMPLE))
        if sample:
            self._packing(sample)
        read = (self._outline(node) for node in chain(sample, nodes) if self._belongs(node))
        outlines = {outline.uuid: outline for outline in read}
        accept(outlines.keys())
        with self._lock:
            for node_uuid, moment in self._learned.items():
                if moment > began and node_uuid in self._outlines:
                    outlines[node_uuid] = self._outlines[node_uuid]
            self._outlines = outlines
            self._by_instance = {
                outline.instance_uuid: outline.uuid
                for outline in outlines.values()
                if outline.instance_uuid is not None
            }
            self._learned = {uuid: moment for uuid, moment in self._learned.items() if moment > began}
            self._doubted = {uuid: moment for uuid, moment in self._doubted.items() if moment > began}
            self._news.begin(newest, asked_at)

    def look(self, ironic: Ironic, node_uuid: str) -> Node:
        """The node as it is now, which is known from now on.

        Raises:
            NodeNotFound: Ironic shows no such node.
        """
        with self._lock:
            began = self._moment
        node = ironic.node(node_uuid, fields=FLEET_FIELDS)
        with self._lock:
            if self._doubted.get(node_uuid, 0) <= began:
                self._doubted.pop(node_uuid, None)
            self._moment += 1
            self._learned[node_uuid] = self._moment
            self._take(node)
        return node

    def saw(self, node: Node) -> None:
        """The node is known as an operation has just left it."""
        with self._lock:
            self._doubted.pop(node.uuid, None)
            self._moment += 1
            self._learned[node.uuid] = self._moment
            self._take(node)

    def doubt(self, node_uuid: str) -> None:
        """What is known of the node may be out of date: somebody does something with it."""
        with self._lock:
            self._moment += 1
            self._doubted[node_uuid] = self._moment

    def is_doubted(self, node_uuid: str) -> bool:
        """Whether the node has to be looked at before it is spoken of."""
        return node_uuid in self._doubted

    def _take(self, node: Node) -> None:
        now = self._outline(node) if self._belongs(node) else None
        before = self._outlines.pop(node.uuid, None)
        if before is not None and self._by_instance.get(before.instance_uuid or "") == node.uuid:
            del self._by_instance[before.instance_uuid or ""]
        if now is not None:
            self._outlines[now.uuid] = now
            if now.instance_uuid is not None:
                self._by_instance[now.instance_uuid] = now.uuid

    def refresh(self, ironic: Ironic) -> int:
        """What changed since the last refresh is known; says how many nodes that were.

        Not for a fleet that was read with filters which `belongs` does not know.

        Raises:
            GatewayError: Ironic could not be asked.
        """
        with self._lock:
            began = self._moment
        began_at = self._clock.monotonic()
        changed: list[Node] = []
        limit = min(self._news.lately + 2, DELTA_PAGE)
        marker = None
        asked: set[str] = set()
        while True:
            page = ironic.newest_changes(limit=limit, marker=marker)
            news = [node for node in page if self._news.has(node)]
            changed += news
            if len(page) < limit or len(news) < len(page):
                break
            limit = SECOND_PAGE if marker is None and limit < SECOND_PAGE else DELTA_PAGE
            marker = next_marker(page, asked)
        with self._lock:
            count = 0
            for node in reversed(changed):
                before = self._outlines.get(node.uuid)
                count += before is None or before.changed_at != node.changed_at
                if self._learned.get(node.uuid, 0) <= began:
                    self._take(node)
                if self._doubted.get(node.uuid, 0) <= began:
                    self._doubted.pop(node.uuid, None)
            self._news.took(changed, began_at=began_at, ended_at=self._clock.monotonic())
        return count

    def fitting(self, wanted: Wanted) -> list[Node]:
        """The nodes that a request of this kind could have now."""
        return [node for node in self.nodes if not why_not(node, wanted)]


def check_trait(trait: str) -> str:
    """The trait, if it is one as Ironic takes them.

    Raises:
        InvalidRequest: it is neither a standard trait's name nor a custom one.
    """
    letters = trait.replace("_", "")
    if not trait or len(trait) > 255 or not (letters.isalnum() and letters.isascii() and letters.upper() == letters):
        raise InvalidRequest(
            f"{trait!r} is no trait",
            reason="traits are upper-case letters, digits and underscores",
            advice="CUSTOM_GPU or HW_CPU_X86_VMX would be one",
        )
    return trait
