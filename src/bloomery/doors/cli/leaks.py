"""What is left of instances that are gone: shown and removed by `doctor --leaks`, kept away by `janitor`."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.exit_codes import NOT_WELL, exit_code_of
from bloomery.doors.cli.instances import confirm
from bloomery.doors.cli.output import Format, Shape, fields_of, note, print_rows
from bloomery.doors.cli.running import report
from bloomery.janitor import Habits, Leak, Pass, Verdict
from bloomery.library import Bloomery
from bloomery.plain import visible

app = typer.Typer()

_COLUMNS = ("kind", "verdict", "name", "node", "reason")
_ALL_COLUMNS = tuple(Leak.__dataclass_fields__)


def look_for_leaks(api: Bloomery, shape: Shape, *, fix: bool, yes: bool) -> None:
    """What is left is on stdout, and gone if that was wanted and is certain.

    Raises:
        typer.Exit: something of ours is, or may be, left.
    """
    survey = api.leaks()
    for sentence in survey.blind:
        note(f"could not look at {sentence}")
    if survey.leaks or shape.format is not Format.TABLE:
        print_rows(map(fields_of, survey.leaks), shape, by_default=_COLUMNS, all_columns=_ALL_COLUMNS)
    certain = [leak for leak in survey.leaks if leak.verdict is Verdict.LEFT]
    if not survey.ours:
        note("nothing is left of instances that are gone")
        return
    unproven = len(survey.ours) - len(certain)
    if unproven:
        note(f"of {unproven} nothing proves that they are left; `-c name -c advice` says what a person can do")
    if not fix or not certain:
        if certain:
            note(f"`bloomery doctor --leaks --fix` removes what is certainly left: {len(certain)}")
        raise typer.Exit(NOT_WELL)
    confirm(f"Remove the {len(certain)} that are certainly left?", yes=yes)
    outcomes = [api.mend(leak) for leak in certain]
    for outcome in outcomes:
        if outcome.problem is not None:
            report(outcome.problem, label=outcome.leak.name)
    gone = sum(outcome.is_gone for outcome in outcomes)
    others = sum(not outcome.is_gone and outcome.problem is None for outcome in outcomes)
    note(f"removed: {gone}" + (f"; went with another, or not certain any more: {others}" if others else ""))
    if unproven or gone + others < len(certain):
        raise typer.Exit(NOT_WELL)


@app.command()
def janitor(
    ctx: typer.Context,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="From one look to the next.", min=1)] = 300,
    requests_per_second: Annotated[
        float,
        typer.Option("--requests-per-second", metavar="N", help="What is asked of the services at most.", min=0.1),
    ] = 5,
    at_once: Annotated[int, typer.Option("--at-once", help="How many repairs are under way at a time.", min=1)] = 1,
    once: Annotated[bool, typer.Option("--once", help="Look and mend once, then end.")] = False,
) -> None:
    """Keep the cloud clean of what is left of instances and operations that are gone, until Ctrl-C or SIGTERM.

    Only what is ours and certainly left is touched; `bloomery doctor --leaks` shows it, and the rest.
    """
    api = api_of(ctx)
    habits = Habits(every_s=every, requests_per_s=requests_per_second, at_once=at_once)
    if once:
        done = api.janitor(habits).work_once()
        _tell(done)
        if done.problem is not None:
            raise typer.Exit(exit_code_of(done.problem))
        if any(outcome.problem is not None for outcome in done.outcomes):
            raise typer.Exit(NOT_WELL)
        return
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with api.janitor(habits, on_pass=_tell):
        note(f"looking every {every:g} s, with at most {requests_per_second:g} requests a second")
        ended.wait()
    note("stopped")


def _tell(done: Pass) -> None:
    """What was cleaned is on stdout, a line each; what could not be, and why nothing was seen, on stderr."""
    if done.problem is not None:
        report(done.problem)
    for sentence in done.survey.blind if done.survey is not None else ():
        note(f"could not look at {sentence}")
    for outcome in done.outcomes:
        leak = outcome.leak
        if outcome.is_gone:
            typer.echo(visible(f"cleaned {leak.kind} {leak.name} on {leak.node or 'no node'}: {leak.reason}"))
        elif outcome.problem is not None:
            report(outcome.problem, label=f"{leak.kind} {leak.name}")
