"""The stream's inside: any number of listeners, each of whom gets everything once and in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bloomery.doors.http.access import NOBODY
from bloomery.doors.http.feed import GROUP, Feed, Listener
from bloomery.doors.http.store import Event, Store
from doors_http.http_site import TIMEOUT_S

LISTENERS = 3 * GROUP + 1
EVENTS = 20


async def _listened(feed: Feed, begun: asyncio.Semaphore) -> list[int]:
    numbers: list[int] = []
    async for content in feed.stream(Listener(principal=NOBODY), after=None):
        for frame in content.decode().split("\n\n"):
            if "event: hello" in frame:
                begun.release()
            elif frame.startswith("id: "):
                numbers.append(int(frame.split("\n")[0].removeprefix("id: ")))
        if len(numbers) >= EVENTS:
            break
    return numbers


async def _all_listened(store: Store) -> list[list[int]]:
    feed = Feed(store)
    store.on_events = feed.wake
    feed.start()
    begun = asyncio.Semaphore(0)
    listeners = [asyncio.create_task(_listened(feed, begun)) for _ in range(LISTENERS)]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in listeners:
                await begun.acquire()
            for _ in range(EVENTS):
                await asyncio.to_thread(store.tell, Event(kind="node.step"))
            return await asyncio.gather(*listeners)
    finally:
        feed.stop()


def test_many_listeners_get_every_event_once_and_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    heard = asyncio.run(_all_listened(store))
    assert heard == [list(range(1, EVENTS + 1))] * LISTENERS
    store.close()
