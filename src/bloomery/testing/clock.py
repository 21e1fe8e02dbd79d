"""Clocks for tests: time that passes as soon as somebody waits, and time that passes when the test says so."""

from __future__ import annotations

import threading


class JumpingClock:
    """A clock on which waiting takes no time: whoever waits has waited. For one thread.

    Attributes:
        now_s: what it shows.
        waits_s: how long each wait was, in order.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.waits_s: list[float] = []

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return self.now_s

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        """The time has passed, unless the signal was set before."""
        if signal.is_set():
            return True
        self.waits_s.append(timeout_s)
        self.now_s += max(0.0, timeout_s)
        return signal.is_set()


class HandClock:
    """A clock that stands still until `advance` is called. For any number of threads."""

    LOOK_S = 0.002
    """How often, in real time, somebody who waits looks at the clock: the signal that he waits for is not ours to set."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._now_s = now_s

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        with self._lock:
            return self._now_s

    def advance(self, seconds: float) -> None:
        """So many seconds have passed."""
        with self._lock:
            self._now_s += seconds

    def wait(self, signal: threading.Event, timeout_s: float) -> bool:
        """Return when the signal is set (True) or the time has passed (False)."""
        until_s = self.monotonic() + timeout_s
        while not signal.wait(self.LOOK_S):
            if self.monotonic() >= until_s:
                return signal.is_set()
        return True
