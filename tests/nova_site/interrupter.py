"""Ironic as nova-compute sees it: everything is passed on, and one request can be held while something happens elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bloomery.testing import FaultProxy, FaultRule, RecordedRequest
from bloomery.testing.http_simulator import Fault, FaultKind, Response

_TURN_S = 300.0
_UNUSED = Fault(FaultKind.RESET)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A moment in the talk of nova-compute with Ironic: a request, just before it reaches Ironic or just after its effect.

    Attributes:
        name: what has happened by then, or is about to.
        method: the HTTP method.
        path: a regular expression that is looked for in the path.
        is_done: whether Ironic has done it.
        where: a further condition on the request.
    """

    name: str
    method: str
    path: str
    is_done: bool = True
    where: Callable[[RecordedRequest], bool] | None = None

    def __str__(self) -> str:
        return self.name


class Held:
    """A request that is held, as soon as `wait` returns."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self._rule = FaultRule(fault=_UNUSED, method=moment.method, path=moment.path, where=moment.where)
        self._is_there = threading.Event()
        self._may_go_on = threading.Event()
        self._is_lost = False
        self.target = ""

    def wait(self) -> None:
        """The moment has come; `target` is what was asked for."""
        assert self._is_there.wait(_TURN_S), f"nova-compute never asked for what is to be {self.moment}"

    def lose(self) -> None:
        """If it has not reached Ironic by now, it never will."""
        self._is_lost = True

    def release(self) -> None:
        """It goes on."""
        self._may_go_on.set()

    def takes(self, request: RecordedRequest) -> bool:
        """Whether it is this request, the first of its kind."""
        return not self._is_there.is_set() and self._rule.matches(request)

    def hold(self, request: RecordedRequest, answer: Callable[[], Response], lost: Response) -> Response:
        """The reply, when the block has ended."""
        self.target = request.path
        reply = answer() if self.moment.is_done else None
        self._is_there.set()
        self._may_go_on.wait(_TURN_S)
        if reply is not None:
            return reply
        return lost if self._is_lost else answer()


class Interrupter(FaultProxy):
    """A proxy in front of Ironic. Within the block of `at` time stands still for one request, once it has come."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._held: Held | None = None

    def stop(self) -> None:
        if self._held is not None:
            self._held.release()
        super().stop()

    @contextmanager
    def at(self, moment: Moment) -> Iterator[Held]:
        """The first such request that comes within the block is held until the block ends."""
        held = self._held = Held(moment)
        try:
            yield held
        finally:
            self._held = None
            held.release()

    def answer(self, request: RecordedRequest) -> Response:
        held = self._held
        if held is None or not held.takes(request):
            return super().answer(request)
        lost = self.error(503, "its sender was gone")
        return held.hold(request, lambda: super(Interrupter, self).answer(request), lost)
