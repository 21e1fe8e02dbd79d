"""Connections to PostgreSQL that are given up when nobody answers.

A machine that is frozen, or a server that is stopped, keeps its connections open: what watches over connections finds nothing
wrong, and whoever waits for an answer would wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg

ANSWER_TIMEOUT_S = 10.0
"""What the answer to one statement may take, unless somebody has more time."""
SILENT = "the database does not answer"
_answer_s: ContextVar[float | None] = ContextVar("bloomery_answer_s", default=None)

T = TypeVar("T")


@contextmanager
def patient(answer_s: float) -> Iterator[None]:
    """Within the block the answer to one statement may take so many seconds: those that touch every row do."""
    token = _answer_s.set(answer_s)
    try:
        yield
    finally:
        _answer_s.reset(token)


class SilenceError(psycopg.OperationalError):
    """Nobody answered in time; the connection is closed, and whether what was said took effect is not known."""


class Timely(psycopg.Connection[Any]):
    """A connection whose every wait has an end."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """What the generator comes to.

        Raises:
            SilenceError: the server did not answer in time.
        """
        ends_at = time.monotonic() + (_answer_s.get() or ANSWER_TIMEOUT_S)
        return super().wait(self._bounded(gen, ends_at), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T], ends_at: float) -> Generator[Any, Any, T]:
        # psycopg gives a generator nothing, every so often, while the server says nothing.
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and time.monotonic() > ends_at:
                    self.pgconn.finish()
                    raise SilenceError(SILENT)
                state = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
