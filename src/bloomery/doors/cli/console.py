"""`console`: the serial console in the terminal, or the address of any console."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape, fields_of, note, print_fields
from bloomery.doors.cli.terminal import attach, is_attachable

app = typer.Typer()


@app.command()
def console(
    ctx: typer.Context,
    node: o.NodeArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Start it anew, or stop it, also if somebody is on it.")
    ] = False,
    only_url: Annotated[bool, typer.Option("--url", help="Start it and show its address only.")] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Stop it.")] = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Open a node's serial console in this terminal; `~.` at the beginning of a line leaves it.

    Of a console that no terminal can show, and where there is no terminal, the address is shown.
    """
    api = api_of(ctx)
    if disable:
        api.disable_console(node, force=force)
        note(f"{node}: the console is stopped")
        return
    was_running = api.console(node) is not None
    address = api.enable_console(node, force=force)
    if only_url or not is_attachable(address.url):
        print_fields(fields_of(address), Shape.of(written_as, columns))
        return
    note(f"console of {node}; ~. at the beginning of a line leaves it")
    try:
        left = attach(address.url)
        note("" if left else "\nthe other side closed the console; --force takes it from whoever else is on it")
    finally:
        if not was_running:
            api.disable_console(node, force=True)
