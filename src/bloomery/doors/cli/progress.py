"""Progress shown: a live line with a bar for each instance on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from bloomery.doors.cli.output import note
from bloomery.operations.run import Progress
from bloomery.plain import visible


class Display:
    """Shows how far the instances are; this one shows nothing. Its methods may be called from any thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def show(self, label: str, progress: Progress, expected_s: float | None) -> None:
        """The instance of that label is so far."""

    def ended(self, label: str, words: str) -> None:
        """The instance of that label is done with."""

    def pause(self) -> None:
        """The terminal is free for a question."""

    def go_on(self) -> None:
        """The display has the terminal again."""


class PlainLines(Display):
    """A line for each change of step or state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, object] = {}

    def show(self, label: str, progress: Progress, expected_s: float | None) -> None:
        """A line, if this is news."""
        news = (progress.step, progress.state, progress.detail, progress.undoing)
        with self._lock:
            if self._shown.get(label) == news:
                return
            first = label not in self._shown
            self._shown[label] = news
            line = f"{progress.elapsed_s:7.1f} s  {label}: {_words(progress)}"
            if first and expected_s is not None:
                line += f" (about {clock(expected_s)} in all)"
            note(visible(line))

    def ended(self, label: str, words: str) -> None:
        """A line."""
        with self._lock:
            note(visible(f"           {label}: {words}"))


class LiveLines(Display):
    """A line with a bar for each instance, drawn again and again, and one that stays when it is done with."""

    def __init__(self, console: Console | None = None) -> None:
        self._lock = threading.Lock()
        self._console = console or Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=24)),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn(
                "{task.fields[words]}",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            _Elapsed(),
            console=self._console,
            expand=True,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def show(self, label: str, progress: Progress, expected_s: float | None) -> None:
        """The bar is where it belongs."""
        with self._lock:
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(visible(label), total=1.0, words="", expected_s=None)
            self._bars.update(
                self._tasks[label],
                completed=progress.fraction,
                words=visible(_few_words(progress)),
                expected_s=expected_s,
            )

    def ended(self, label: str, words: str) -> None:
        """The bar is gone, and a line says what became of it."""
        with self._lock:
            task = self._tasks.pop(label, None)
            if task is not None:
                self._bars.remove_task(task)
        self._console.print(Text(visible(f"{label}: {words}")), soft_wrap=True)

    def pause(self) -> None:
        """The bars are off the screen."""
        self._bars.stop()

    def go_on(self) -> None:
        """The bars are back."""
        self._bars.start()


class _Elapsed(ProgressColumn):
    """How long it has taken, of how long it takes as a rule."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The column's text."""
        text = clock(task.elapsed or 0.0)
        expected_s = task.fields["expected_s"]
        return Text(f"{text} of ~{clock(expected_s)}" if expected_s else text)


def display_for_stderr(*, plain: bool = False) -> Display:
    """Live lines if stderr is a terminal that can have them, plain ones otherwise."""
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    return PlainLines() if plain or not console.is_terminal or console.is_dumb_terminal else LiveLines(console)


def clock(seconds: float) -> str:
    """The time as `1:05` or `2:00:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _words(progress: Progress) -> str:
    step = f"undoing: {progress.step}" if progress.undoing else progress.step
    where = ", ".join(part for part in (progress.state, progress.detail) if part)
    return f"{step} [{where}]" if where else step


def _few_words(progress: Progress) -> str:
    """What fits beside a bar: Ironic's own step, where it is at one."""
    if progress.detail is None:
        return _words(progress)
    return ("undoing: " if progress.undoing else "") + f"{progress.detail}, {progress.state}"
