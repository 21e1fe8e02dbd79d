"""What `doctor` found, as it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from bloomery.checkup import Check, Verdict
from bloomery.doors.cli.exit_codes import NOT_WELL
from bloomery.doors.cli.output import Format, Shape, fields_of, print_rows
from bloomery.plain import visible

_COLUMNS = ("check", "verdict", "found", "advice")
_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def print_checks(checks: Sequence[Check], shape: Shape) -> None:
    """The checks are on stdout.

    Raises:
        typer.Exit: with NOT_WELL, if one has failed.
    """
    if shape.format is Format.TABLE and not shape.columns:
        for check in checks:
            _print_check(check)
    else:
        print_rows(map(fields_of, checks), shape, by_default=_COLUMNS, all_columns=_COLUMNS)
    if any(check.verdict is Verdict.FAIL for check in checks):
        raise typer.Exit(NOT_WELL)


def _print_check(check: Check) -> None:
    typer.secho(f"{check.verdict:4}", fg=_COLOURS[check.verdict], nl=False)
    typer.echo(f"  {check.check:13} {visible(check.found)}")
    if check.advice:
        typer.echo(f"      {'':13} → {visible(check.advice)}")
