"""The audit: every call, by whom, with which answer.

What was to change something, and what was turned away, is written before its caller can ask again. Reads are many; they are
written together, a moment later, and a log line of each has gone out before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from bloomery.doors.http.problems import StoreUnavailable
from bloomery.doors.http.store import Store
from bloomery.plain import logger

log = logger(__name__)

WRITE_EVERY_S = 1.0
MOST_WAITING = 50_000
"""So many reads wait at most for a log that cannot be written; of more, the oldest are in the lines of the log only."""
AT_ONCE = 5000


class Audit:
    """Notes calls. Safe to share between threads.

    Args:
        store: the log.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=MOST_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, name="bloomery-audit", daemon=True)

    def start(self) -> None:
        """Reads are written from now on."""
        self._thread.start()

    def stop(self) -> None:
        """All that was noted is written, if the log can be."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def change(self, call: Mapping[str, Any]) -> None:
        """The call is in the audit.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        self.store.note_call(call)

    def read(self, call: Mapping[str, Any]) -> None:
        """The call will be in the audit of reads."""
        self._reads.append((time.monotonic(), call))

    def _write(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        try:
            while self._reads:
                self._write_some()
        except StoreUnavailable as problem:
            log.warning("%d reads are in no audit yet: %s", len(self._reads), problem)

    def _write_some(self) -> None:
        waiting = [self._reads.popleft() for _ in range(min(AT_ONCE, len(self._reads)))]
        now = time.monotonic()
        try:
            self.store.note_reads([(now - at, call) for at, call in waiting])
        except StoreUnavailable:
            room = MOST_WAITING - len(self._reads)
            self._reads.extendleft(reversed(waiting[-room:] if room else []))
            raise
