"""`doctor`: is everything there that an instance needs, and is anything left of one that is gone; and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bloomery.checkup import Check, not_connected
from bloomery.doors.cli import doctor_nova
from bloomery.doors.cli import options as o
from bloomery.doors.cli.checks import print_checks
from bloomery.doors.cli.cloud import Invocation, api_of, invocation_of
from bloomery.doors.cli.leaks import look_for_leaks
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape
from bloomery.errors import BloomeryError

app = typer.Typer()


@app.command()
def doctor(
    ctx: typer.Context,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Look for what is left of instances that are gone, instead.")
    ] = False,
    nova: Annotated[
        list[Path] | None,
        typer.Option(
            "--nova",
            metavar="FILE",
            help="Check instead whether the nova-compute of this nova.conf can change to Bloomery's driver; may be repeated.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="With --nova: show each node, and what becomes of it, instead of the checks."),
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="With --leaks or --nova: remove what is left.")] = False,
    yes: o.YesOption = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Check endpoint, API version, access, conductors, drivers, images, networks and nodes, and say what to do.

    Exit code 1 if a check fails, or with --leaks if something is left.
    """
    if leaks and nova:
        raise typer.BadParameter("--leaks and --nova are two things")
    if fix and not (leaks or nova):
        raise typer.BadParameter("--fix goes with --leaks or --nova")
    if nodes and (fix or not nova):
        raise typer.BadParameter("--nodes goes with --nova, and without --fix")
    shape = Shape.of(written_as, columns)
    if nova:
        doctor_nova.examine(nova, shape, show_nodes=nodes, fix=fix, yes=yes)
        return
    if leaks:
        look_for_leaks(api_of(ctx), shape, fix=fix, yes=yes)
        return
    print_checks(list(_checks(invocation_of(ctx))), shape)


# The checks


def _checks(invocation: Invocation) -> Iterator[Check]:
    """Every check; those that cannot be made are left out."""
    try:
        yield from invocation.api.checkup()
    except BloomeryError as problem:
        yield not_connected("cloud", problem, setting="`baremetal_endpoint_override`")
