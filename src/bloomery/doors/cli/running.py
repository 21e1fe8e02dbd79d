"""Operations that take long, one or many: in threads of their own, so that the main thread can hear Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import Generic, NoReturn, TypeVar

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli.cloud import Invocation
from bloomery.doors.cli.durations import Durations
from bloomery.doors.cli.exit_codes import CANCELLED, exit_code_of
from bloomery.doors.cli.output import note
from bloomery.doors.cli.progress import Display, clock, display_for_stderr
from bloomery.errors import BloomeryError, OperationCancelled
from bloomery.library import each
from bloomery.operations.run import OnProgress, Progress
from bloomery.plain import logger

log = logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[T]):
    """Something to be done to one instance.

    Attributes:
        label: what the user calls the instance.
        call: does it.
        done: what is said when it is done: "deployed".
        resource_class: of the node, if that is known beforehand.
        counts: whether its duration is one to expect of the next.
    """

    label: str
    call: Callable[[Cancellation, OnProgress], T]
    done: str
    resource_class: str | None = None
    counts: bool = True


def carry_out(invocation: Invocation, tasks: Sequence[Task[T]], *, at_once: int = 4) -> list[T]:
    """Every task is done; of those that are not, the errors are on stderr, and the command ends with their exit code."""
    results = _results(invocation, tasks, at_once)
    failures = [
        (task, result) for task, result in zip(tasks, results, strict=True) if isinstance(result, BloomeryError)
    ]
    if len(tasks) == 1 and failures:
        raise failures[0][1]
    for task, failure in failures:
        report(failure, label=task.label)
    if failures:
        note(f"{len(tasks) - len(failures)} of {len(tasks)} done")
        raise typer.Exit(exit_code_of(failures[0][1]))
    return [result for result in results if not isinstance(result, BloomeryError)]


def report(error: BloomeryError, *, label: str | None = None) -> None:
    """What went wrong is on stderr: what, why and what would be right; then where, as far as that is known."""
    known = ", ".join(f"{name} {value}" for name, value in error.where.items())
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    note((f"{label}: " if label else "") + error.text)
    if known:
        note(f"  ({known})")


def _results(invocation: Invocation, tasks: Sequence[Task[T]], at_once: int) -> list[T | BloomeryError]:
    cancellation = Cancellation()
    happenings: SimpleQueue[_Happening] = SimpleQueue()
    with (
        display_for_stderr(plain=invocation.is_debugging) as display,
        _signals_go_to(happenings),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="bloomery-all") as pool,
    ):
        follower = _Follower(invocation, display, cancellation)
        calls = [partial(follower.follow, task) for task in tasks]
        future = pool.submit(each, calls, at_once=at_once)
        future.add_done_callback(lambda _future: happenings.put(_Happening.FINISHED))
        _hear(happenings, future, display, cancellation)
        return future.result()


class _Follower:
    """Calls a task, shows how far it is, and remembers how long it took."""

    def __init__(self, invocation: Invocation, display: Display, cancellation: Cancellation) -> None:
        self.invocation = invocation
        self.display = display
        self.cancellation = cancellation
        self.durations = Durations()

    def follow(self, task: Task[T]) -> T:
        """What the task returns."""
        if self.cancellation.is_cancelled:
            raise OperationCancelled("not begun")
        started = time.monotonic()
        kind: tuple[str, str | None] | None = None
        expected_s: float | None = None

        def on_progress(progress: Progress) -> None:
            nonlocal kind, expected_s
            if kind is None and (task.resource_class is not None or progress.node_uuid is not None):
                resource_class = task.resource_class or self.invocation.resource_class_of(str(progress.node_uuid))
                kind = (progress.operation, resource_class)
                expected_s = self.durations.expected_s(*kind)
            self.display.show(task.label, progress, expected_s)

        try:
            result = task.call(self.cancellation, on_progress)
        except BloomeryError as failure:
            log.debug("%s failed", task.label, exc_info=failure)
            self.display.ended(task.label, "cancelled" if isinstance(failure, OperationCancelled) else "failed")
            raise
        took_s = time.monotonic() - started
        if kind is not None and task.counts:
            self.durations.note(*kind, took_s)
        self.display.ended(task.label, f"{task.done} in {clock(took_s)}")
        return result


# Signals


class _Happening(StrEnum):
    """What the main thread waits for."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    """Ctrl-C."""
    TOLD_TO_END = "told to end"
    """SIGTERM: nobody is there to be asked."""


@contextmanager
def _signals_go_to(happenings: SimpleQueue[_Happening]) -> Iterator[None]:
    """Within this block, Ctrl-C and SIGTERM are happenings, and interrupt nothing."""

    def hear(number: int, _frame: FrameType | None) -> None:
        happenings.put(_Happening.INTERRUPTED if number == signal.SIGINT else _Happening.TOLD_TO_END)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Answer(StrEnum):
    UNDO = "u"
    LEAVE = "l"
    CONTINUE = "c"


def _hear(
    happenings: SimpleQueue[_Happening],
    future: Future[list[T | BloomeryError]],
    display: Display,
    cancellation: Cancellation,
) -> None:
    """Everything is done, or undone; or the user chose to leave it going, and this process has ended."""
    was_warned = False
    while (happening := happenings.get()) is not _Happening.FINISHED:
        if cancellation.is_cancelled:
            if was_warned and happening is _Happening.INTERRUPTED:
                display.pause()
                _leave()
            note("still undoing; Ctrl-C once more leaves it as it is, and `bloomery recover` sees to the rest later")
            was_warned = True
            continue
        answer = _Answer.UNDO
        if happening is _Happening.INTERRUPTED and sys.stdin.isatty() and sys.stderr.isatty():
            display.pause()
            answer = _ask()
            if future.done():
                continue
            if answer is not _Answer.LEAVE:
                display.go_on()
        match answer:
            case _Answer.UNDO:
                note("cancelled: what was begun is being undone")
                cancellation.cancel()
            case _Answer.LEAVE:
                _leave()
            case _Answer.CONTINUE:
                pass


def _ask() -> _Answer:
    """What the user wants; a second Ctrl-C while he is asked means that all is undone."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            typer.echo("\n[u]ndo what was begun, [l]eave it going, or [c]ontinue? ", err=True, nl=False)
            answer = sys.stdin.readline()
            if not answer:
                return _Answer.UNDO
            for known in _Answer:
                if answer.strip().lower().startswith(known.value):
                    return known
    except KeyboardInterrupt:
        return _Answer.UNDO
    finally:
        signal.signal(signal.SIGINT, before)


def _leave() -> NoReturn:
    """This process ends now; what Ironic has taken up goes on there."""
    note("left: what Ironic has taken up goes on; `bloomery list` and `bloomery show` tell how far it is")
    note("what it had not taken up yet, `bloomery recover` finishes or undoes")
    sys.stdout.flush()
    sys.stderr.flush()
    # The operations' threads cannot be stopped from outside, and an ordinary exit would wait for them.
    os._exit(CANCELLED)
