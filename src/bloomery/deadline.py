"""Time as a parameter: how long an operation may take, and how its caller stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from bloomery.errors import OperationCancelled, OperationTimedOut


class Clock(Protocol):
    """What tells the time and lets it pass."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        """Return when the signal is set (True) or the time has passed (False)."""
        ...


class SystemClock:
    """The machine's own time. Steps of the wall clock do not touch it."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        """Return when the signal is set (True) or the time has passed (False)."""
        return signal.wait(max(timeout_s, 0.0))


class LeftUnderWay(BaseException):
    """The process is about to end: whoever waits goes, and what was begun stays as it is, for whoever takes it up again.

    No `Exception`, so that nobody undoes or reports on the way, as nobody does when a process is killed.
    """


def utc_now() -> datetime:
    """The date and time by the machine's wall clock, which may be set at any moment: for records, and never for waiting."""
    return datetime.now(UTC)


class Cancellation:
    """A caller's way to stop an operation: it ends at its next wait, and what was begun is undone.

    Attributes:
        signal: set when somebody asked to stop.
        is_left: whether what was begun is to stay as it is instead.
    """

    def __init__(self) -> None:
        self.signal = threading.Event()
        self.is_left = False
        self._listeners: list[threading.Event] = []

    def cancel(self) -> None:
        """Ask the operation to stop."""
        self.signal.set()
        for listener in list(self._listeners):
            listener.set()

    def leave(self) -> None:
        """Ask the operation to go as if its process had ended: nothing is undone. An undo that is under way goes on."""
        self.is_left = True
        self.cancel()

    @contextmanager
    def rouses(self, listener: threading.Event) -> Iterator[None]:
        """Within this block a cancellation sets the listener, too, so that whoever waits for it wakes up."""
        self._listeners.append(listener)
        try:
            if self.is_cancelled:
                listener.set()
            yield
        finally:
            self._listeners.remove(listener)

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked."""
        return self.signal.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long services are borne that do not answer.

    Attributes:
        request_s: what one request may take, to the last byte of its answer.
        before_change_s: how long an outage is borne while nothing has been changed yet.
        after_change_s: how long it is borne afterwards: going on when the service is back is better than undoing.
        first_pause_s: the mean pause before a request that failed is sent again; the next ones are longer.
    """

    request_s: float = 60.0
    before_change_s: float = 12.0
    after_change_s: float = 900.0
    first_pause_s: float = 0.25


USUAL = Patience()
"""What suits services that are in use by many."""


class Deadline:
    """The moment at which an operation has to be over, and the cancellation that may end it before.

    Args:
        timeout_s: seconds from now.
        outage_s: how long a service that does not answer is borne at a stretch, within the deadline.
        cancellation: None means that nobody cancels.
        clock: None means the machine's own.
        patience: what single requests may take, and the pauses between them; `outage_s` stands for its outages.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        outage_s: float | None = None,
        cancellation: Cancellation | None = None,
        clock: Clock | None = None,
        patience: Patience = USUAL,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.patience = patience
        self.timeout_s = timeout_s
        self.outage_s = timeout_s if outage_s is None else outage_s
        self.cancellation = cancellation or Cancellation()
        self.started_at = self.clock.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic() - self.started_at

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; never below zero."""
        return max(0.0, self.timeout_s - self.elapsed_s)

    def shorter(self, timeout_s: float) -> Deadline:
        """A deadline within this one, at most so many seconds away."""
        return self._within(min(timeout_s, self.remaining_s), self.outage_s)

    def impatient(self, outage_s: float) -> Deadline:
        """The same deadline for a part of the work that need not outlast an outage: nothing is begun yet."""
        return self._within(self.remaining_s, min(outage_s, self.outage_s))

    def _within(self, timeout_s: float, outage_s: float) -> Deadline:
        return Deadline(
            timeout_s, outage_s=outage_s, cancellation=self.cancellation, clock=self.clock, patience=self.patience
        )

    def check(self, doing: str) -> None:
        """Raise if the time is over or the caller has cancelled.

        Raises:
            OperationCancelled: the caller asked to stop.
            OperationTimedOut: the deadline has passed.
            LeftUnderWay: the process is about to end.
        """
        if self.cancellation.is_left:
            raise LeftUnderWay(doing)
        if self.cancellation.is_cancelled:
            raise OperationCancelled(f"cancelled while {doing}")
        if self.remaining_s <= 0:
            raise OperationTimedOut(f"not finished within {self.timeout_s:g} s", reason=f"still {doing}")

    def pause(self, seconds: float, doing: str) -> None:
        """Let so many seconds pass, or fewer where the deadline is nearer; end at once on a cancellation.

        Raises:
            OperationCancelled: the caller asked to stop.
            OperationTimedOut: the deadline has passed.
        """
        self.check(doing)
        self.clock.wait(self.cancellation.signal, min(seconds, self.remaining_s))
        self.check(doing)
