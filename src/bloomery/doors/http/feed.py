"""The stream of events: read from the log once for all who listen, and again for whoever comes back after a break."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
from anyio import to_thread

from bloomery.doors.http.access import Principal
from bloomery.doors.http.problems import StoreUnavailable
from bloomery.doors.http.store import Row, Store, wants
from bloomery.doors.http.views import event_row
from bloomery.plain import logger

log = logger(__name__)

KEPT = 5000
"""So many of the last events are in memory, for those who listen."""
READ_AT_ONCE = 500
LOOK_EVERY_S = 0.5
"""How often the log is read for what other replicas wrote; our own is read at once."""
HEARTBEAT_S = 15.0
GROUP = 32
"""So many listeners are roused at a time."""
RETRY_MS = 2000
"""How long a browser waits before it comes back."""


@dataclass(slots=True)
class _Kept:
    """An event in memory, and how it looks on the wire to those who may see all of it."""

    number: int
    kind: str
    owner: str | None
    lessee: str | None
    node_uuid: str | None
    instance_uuid: str | None
    operation_id: str | None
    row: Row
    frame: bytes | None = None

    def frame_for(self, principal: Principal) -> bytes:
        """The event as that caller may see it."""
        if not principal.sees_all:
            return _frame(self.number, self.kind, event_row(self.row, principal))
        if self.frame is None:
            self.frame = _frame(self.number, self.kind, event_row(self.row, principal))
        return self.frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who listens, and for what.

    Attributes:
        principal: who; he hears of what he may see.
        kinds: of these kinds only; none means all.
        node: of this node only, by UUID.
        instance: of this instance only.
        operation: of this operation only.
    """

    principal: Principal
    kinds: Collection[str] = ()
    node: str | None = None
    instance: str | None = None
    operation: str | None = None

    def hears(self, event: _Kept) -> bool:
        """Whether the event is for him."""
        return (
            (self.principal.sees_all or self.principal.project_id in (event.owner, event.lessee))
            and wants(self.kinds, event.kind)
            and self.node in (None, event.node_uuid)
            and self.instance in (None, event.instance_uuid)
            and self.operation in (None, event.operation_id)
        )


@dataclass(eq=False)
class _Group:
    """Listeners that are roused together."""

    size: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Feed:
    """What has happened, for any number of listeners.

    Args:
        store: the log.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.last = 0
        self.failure: StoreUnavailable | None = None
        self._kept: list[_Kept] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: list[_Group] = []
        self._thread = threading.Thread(target=self._read, name="bloomery-feed", daemon=True)

    def start(self) -> None:
        """What happens from now on is heard."""
        self._loop = asyncio.get_running_loop()
        _, self.last = self.store.first_and_last_event()
        self._thread.start()

    def stop(self) -> None:
        """Every stream ends."""
        self._stopping.set()
        self._wake.set()
        self._rouse_all()

    def wake(self) -> None:
        """Something was written."""
        self._wake.set()

    def _read(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            try:
                while found := self.store.events(after=self.last, limit=READ_AT_ONCE):
                    # Another list, so that whoever reads the one before is not disturbed.
                    self._kept = [*self._kept, *map(_kept, found)][-KEPT:]
                    self.last = found[-1]["number"]
                    self._rouse_all()
                    if len(found) < READ_AT_ONCE:
                        break
            except StoreUnavailable as problem:
                self._stands(problem)
                self._stopping.wait(LOOK_EVERY_S)
            else:
                self._stands(None)

    def _stands(self, failure: StoreUnavailable | None) -> None:
        """The log can be read, or cannot; whoever listens is told when that changes."""
        before, self.failure = self.failure, failure
        if (before is None) == (failure is None):
            return
        if failure is not None:
            log.warning("events cannot be read: %s", failure)
        else:
            log.info("events can be read again")
        self._rouse_all()

    def _rouse_all(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rouse)

    def _rouse(self, first: int = 0) -> None:
        """Group by group: between two, the loop sees to requests, which would wait for all five hundred listeners otherwise."""
        if first < len(self._groups):
            group = self._groups[first]
            news, group.news = group.news, asyncio.Event()
            news.set()
            asyncio.get_running_loop().call_soon(self._rouse, first + 1)

    @contextmanager
    def _in_a_group(self) -> Iterator[_Group]:
        """Within the block a listener is roused with the others of that group."""
        group = next((one for one in self._groups if one.size < GROUP), None)
        if group is None:
            group = _Group()
            self._groups.append(group)
        group.size += 1
        try:
            yield group
        finally:
            group.size -= 1

    async def stream(self, listener: Listener, after: int | None) -> AsyncIterator[bytes]:
        """Server-sent events for the listener, all after that number, without end; None begins now.

        Whoever comes back with the number of the last event that he has got misses none. If some of those that followed have
        been forgotten meanwhile, the first event is `gap`, and he had better read everything anew. While the log cannot be
        read there are no events: `log` says when that begins and ends.
        """
        with self._in_a_group() as group:
            async for frame in self._stream(listener, after, group):
                yield frame

    async def _stream(self, listener: Listener, after: int | None, group: _Group) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        at = self.last if after is None else after
        if after is None:
            # A browser that loses the connection before anything happens has a number to come back with.
            yield _frame(at, "hello", {"last": at})
        is_known = after is None
        is_away = False
        while not self._stopping.is_set():
            news = group.news
            if is_away != (self.failure is not None):
                is_away = not is_away
                yield _frame(at, "log", {"away": is_away})
            try:
                if not is_known:
                    first, last = await to_thread.run_sync(self.store.first_and_last_event)
                    is_known = True
                    if at > last or first > at + 1:
                        yield _frame(last, "gap", {"after": at, "first": first, "last": last})
                        at = last if at > last else first - 1
                found = self._after(at)
                if found is None:
                    found = await self._before_memory(at)
            except StoreUnavailable:
                # The thread that reads says so, and when it can be read again.
                found = self._after(at) or []
            if found:
                at = found[-1].number
                frames = [event.frame_for(listener.principal) for event in found if listener.hears(event)]
                if frames:
                    yield b"".join(frames)
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await news.wait()
            except TimeoutError:
                yield f": {at}\n\n".encode()

    def _after(self, number: int) -> list[_Kept] | None:
        """The events after that number, as far as memory goes; None if it does not go back so far."""
        if number >= self.last:
            return []
        kept = self._kept
        if not kept or kept[0].number > number + 1:
            return None
        return kept[bisect_right(kept, number, key=lambda event: event.number) :]

    async def _before_memory(self, number: int) -> list[_Kept]:
        rows = await to_thread.run_sync(lambda: self.store.events(after=number, limit=READ_AT_ONCE))
        return [_kept(row) for row in rows]


def _kept(row: Row) -> _Kept:
    return _Kept(
        row["number"],
        row["kind"],
        row["owner"],
        row["lessee"],
        row["node_uuid"],
        row["instance_uuid"],
        row["operation_id"],
        row,
    )


def _frame(number: int, kind: str, data: object) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
