"""Steps, and how they are run and undone. Knows nothing of what the steps do.

An operation is a tuple of steps, each declared with its undo. `run` does them in order. When one fails, the undo of every
step that was *started* is called in reverse, the failing one's included: a call can take effect and its reply be lost, so
a step that failed may have done its deed. All undos are called even if one of them fails; what could not be undone is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bloomery.errors import BloomeryError, RollbackIncomplete
from bloomery.plain import logger

log = logger(__name__)

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step(Generic[R]):
    """A part of an operation that is done as a whole and undone as a whole.

    Attributes:
        name: what is done, in the imperative: "attach VIFs".
        do: does it. Finding it done already is success.
        undo: takes it back. Copes with "never happened" and with having been called before, and touches nothing that the
            step would not have made. None for a step that changes nothing.
    """

    name: str
    do: Callable[[R], None]
    undo: Callable[[R], None] | None = None


class Observer:
    """Is told what the engine does; made to be overridden. What it raises counts as raised by the step or undo.

    Attributes:
        undo_times: how often each undo is called; more than once shows that it may be.
    """

    undo_times: int = 1

    def begins(self, step: str, index: int, total: int) -> None:
        """A step is about to be done; the first has index 0."""

    def ended(self, step: str) -> None:
        """The step has done its deed."""

    def unwinding(self, failure: BaseException) -> None:
        """The undos are about to be called."""

    def undoing(self, step: str) -> None:
        """An undo is about to be called."""

    def undone(self, step: str) -> None:
        """The undo has done its deed."""


def run(
    operation: str, steps: Sequence[Step[R]], context: R, observer: Observer, *, undo_on_failure: bool = True
) -> None:
    """Every step is done; or, where one failed, every step that was started is undone and the failure raised.

    Args:
        operation: the operation's name, for errors.
        steps: what to do, in order.
        context: handed to each step; what steps tell one another stands in it.
        observer: is told of everything.
        undo_on_failure: False leaves a failed operation as it is, for somebody to look at.

    Raises:
        RollbackIncomplete: a step failed (the cause), and so did an undo.
        Exception: whatever the failing step raised.
    """
    started: list[Step[R]] = []
    for index, step in enumerate(steps):
        started.append(step)
        try:
            observer.begins(step.name, index, len(steps))
            step.do(context)
            observer.ended(step.name)
        except (Exception, KeyboardInterrupt) as failure:
            if isinstance(failure, BloomeryError):
                failure.located(operation=operation, step=step.name, node_uuid=None)
            if undo_on_failure:
                log.warning("%s: %s failed (%s); undoing", operation, step.name, failure)
                observer.unwinding(failure)
                unwind(operation, started, context, observer, failure)
            raise


def unwind(
    operation: str, started: Sequence[Step[R]], context: R, observer: Observer, failure: BaseException | None
) -> None:
    """Every started step is undone, the last one first.

    Raises:
        RollbackIncomplete: one or more undos failed; the others were called all the same.
    """
    left: list[str] = []
    for step in reversed(started):
        if step.undo is None:
            continue
        try:
            observer.undoing(step.name)
            for _ in range(observer.undo_times):
                step.undo(context)
            observer.undone(step.name)
        except Exception as problem:  # noqa: BLE001  the other undos must be called, whatever became of this one
            log.warning("%s: could not undo %s: %s", operation, step.name, problem)
            left.append(f"{step.name}: {problem}")
    if left:
        raise RollbackIncomplete(
            f"{operation} failed and could not be undone wholly",
            reason="; ".join([f"first {failure}" if failure else "", *left]).lstrip("; "),
            left=tuple(left),
            operation=operation,
        ) from failure


def for_each(work: Callable[[T], None], things: Iterable[T]) -> None:
    """The work was tried on every one of the things, also on those behind one that failed.

    Raises:
        BloomeryError: the first failure; the others are its notes.
    """
    failures: list[BloomeryError] = []
    for thing in things:
        try:
            work(thing)
        except BloomeryError as failure:
            failures.append(failure)
    if failures:
        first, *others = failures
        for other in others:
            first.add_note(f"and: {other}")
        raise first
