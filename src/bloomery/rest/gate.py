"""Where a service says that it has no room, those who want some come one at a time, in the order in which they came.

Ironic's conductors have so many workers, and refuse what would take one more. A hundred operations that each try again by
themselves would keep it busy with refusing. So they share a gate: it is wide open until somebody is refused, and then narrow
until nobody waits before it any more. Whoever is refused makes all wait a little longer; whoever is let in makes way for the
next at once.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bloomery.deadline import Deadline
from bloomery.errors import OperationTimedOut
from bloomery.rest.failures import RequestFailure

LONGEST_PAUSE_S = 8.0
JITTER = (0.6, 1.4)


class Gate:
    """Stands before those requests to one service for which it may have no room. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # also within what is called with it
        self._queue: deque[threading.Event] = deque()
        self._first: threading.Event | None = None
        self._is_narrow = False
        self._opens_at = 0.0
        self._mean_pause_s = 0.0
        self._refusals = 0
        self._words = ""

    @property
    def is_narrow(self) -> bool:
        """Whether the service has no room, as far as it was heard."""
        return self._is_narrow

    @contextmanager
    def turn(self, deadline: Deadline, doing: str) -> Iterator[bool]:
        """Within the block it is our turn to send; what comes of it, told by what leaves the block, holds for all others.

        Gives whether we had to wait: what was known before may be out of date.

        Raises:
            OperationCancelled: the caller asked to stop.
            OperationTimedOut: our turn did not come in time; says why.
        """
        ticket = threading.Event()
        with self._lock:
            has_to_wait = self._is_narrow
            if has_to_wait:
                self._queue.append(ticket)
                self._call_next()
        try:
            if has_to_wait:
                self._await_turn(ticket, deadline, doing)
            seen = self._refusals
            yield has_to_wait
        except RequestFailure as failed:
            if failed.is_no_room:
                self._refused(failed, deadline, seen)
            elif failed.is_answer:
                self._let_in(ticket)
            else:
                # It is not room that is wanting: whoever waits for that would wait in vain.
                self._open()
            raise
        else:
            self._let_in(ticket)
        finally:
            self._pass_on(ticket)

    def _await_turn(self, ticket: threading.Event, deadline: Deadline, doing: str) -> None:
        try:
            with deadline.cancellation.rouses(ticket):
                while True:
                    ticket.clear()
                    deadline.check(doing)
                    with self._lock:
                        is_first, is_narrow = self._first is ticket, self._is_narrow
                        left_s = self._opens_at - deadline.clock.monotonic()
                        if not is_narrow or (is_first and left_s <= 0):
                            return
                    deadline.clock.wait(ticket, min(left_s, deadline.remaining_s) if is_first else deadline.remaining_s)
        except OperationTimedOut as late:
            late.reason = f"{late.reason}; it has no room for that: {self._words}"
            raise

    def _refused(self, failed: RequestFailure, deadline: Deadline, seen: int) -> None:
        with self._lock:
            self._is_narrow = True
            self._words = failed.reason
            if seen == self._refusals:  # of those that were sent together, one refusal tells what all tell
                self._refusals += 1
                first_s = deadline.patience.first_pause_s
                self._mean_pause_s = min(max(first_s, 2 * self._mean_pause_s), LONGEST_PAUSE_S / JITTER[1])
                pause_s = self._mean_pause_s * random.uniform(*JITTER)  # noqa: S311  jitter, not a secret
                self._opens_at = deadline.clock.monotonic() + pause_s

    def _let_in(self, ticket: threading.Event) -> None:
        with self._lock:
            if self._first is ticket:
                self._opens_at, self._mean_pause_s = 0.0, 0.0
                if not self._queue:
                    self._open()

    def _open(self) -> None:
        with self._lock:
            self._is_narrow, self._mean_pause_s, self._opens_at = False, 0.0, 0.0
            for ticket in self._queue:
                ticket.set()

    def _pass_on(self, ticket: threading.Event) -> None:
        with self._lock:
            if self._first is ticket:
                self._first = None
            elif ticket in self._queue:
                self._queue.remove(ticket)
            self._call_next()

    def _call_next(self) -> None:
        with self._lock:
            if self._first is None and self._queue:
                self._first = self._queue.popleft()
                self._first.set()
