"""`--dry-run`: an operation rehearsed, and shown what it would have called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli.output import Format, Shape, fields_of, note, print_rows
from bloomery.library import Bloomery
from bloomery.operations.run import OnProgress, ignore
from bloomery.plain import visible
from bloomery.rehearsal import RehearsedCall

_COLUMNS = ("instance", "service", "method", "path", "body")

Call = Callable[[Bloomery, Cancellation | None, OnProgress], Any]


def rehearse(api: Bloomery, calls: Mapping[str, Call], shape: Shape) -> None:
    """What each call would send is on stdout; nothing was changed.

    Raises:
        BloomeryError: the operation would not have begun.
    """
    rows = []
    for label, call in calls.items():
        with api.rehearsal() as (dry, sent):
            call(dry, None, ignore)
        rows += [{"instance": label, **fields_of(request)} for request in sent]
        if shape.format is Format.TABLE and not shape.columns:
            _print_calls(label, sent)
    if shape.format is not Format.TABLE or shape.columns:
        print_rows(rows, shape, by_default=_COLUMNS, all_columns=_COLUMNS)
    note("nothing was changed")


def _print_calls(label: str, calls: Any) -> None:
    request: RehearsedCall
    for request in calls:
        typer.echo(visible(f"{label}: {request.service} {request.method} {request.path}"))
        if request.body is not None:
            text = json.dumps(request.body, indent=2, ensure_ascii=False, default=str)
            typer.echo(visible("\n".join(f"    {line}" for line in text.splitlines()), keep_lines=True))
