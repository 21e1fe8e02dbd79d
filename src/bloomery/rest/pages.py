"""Lists that services give in pages: read to their end, or given up where they have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from bloomery.errors import UnexpectedReply

P = TypeVar("P")

MOST_PAGES = 10_000
"""A list that goes on after so many pages has no end: Ironic has never had ten million nodes."""


def next_marker(marker: str, asked: set[str], *, what: str) -> str:
    """What the next page begins after; it is added to the markers that were asked for.

    Args:
        marker: the last thing on the page before it.
        asked: the markers so far.
        what: whose list of what it is, for the error: "Ironic gave a list of nodes".

    Raises:
        UnexpectedReply: the list goes round in circles, or has no end.
    """
    if marker in asked or len(asked) >= MOST_PAGES:
        raise UnexpectedReply(f"{what} that has no end", reason=f"{len(asked)} pages were read")
    asked.add(marker)
    return marker


def every_page(read: Callable[[str | None], P], last_if_more: Callable[[P], str | None], *, what: str) -> Iterator[P]:
    """The pages of a list, one after the other.

    Args:
        read: asks for the page that begins after a marker; None asks for the first.
        last_if_more: the last thing on a page if more may follow; None if it was the last page.
        what: as for `next_marker`.

    Raises:
        UnexpectedReply: the list goes round in circles, or has no end.
    """
    asked: set[str] = set()
    marker: str | None = None
    while True:
        page = read(marker)
        yield page
        last = last_if_more(page)
        if last is None:
            return
        marker = next_marker(last, asked, what=what)
