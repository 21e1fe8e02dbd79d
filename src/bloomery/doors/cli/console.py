"""`console`: the serial console in the terminal, or the address of any console."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape, fields_of, note, print_fields
from bloomery.doors.cli.terminal import attach, attach_to, is_attachable, is_terminal
from bloomery.doors.http.client import ServiceClient
from bloomery.doors.http.console_client import Line
from bloomery.errors import ConsoleFailed
from bloomery.plain import visible

app = typer.Typer()


@app.command()
def console(
    ctx: typer.Context,
    node: o.MachineArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Start it anew, or stop it, also if somebody is on it; through a service, take over the typing.",
        ),
    ] = False,
    only_url: Annotated[bool, typer.Option("--url", help="Start it and show its address only.")] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Stop it.")] = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Open a node's serial console in this terminal; `~.` at the beginning of a line leaves it.

    Through a service several may be on it, one of whom types.

    Of a console that no terminal can show, and where there is no terminal, the address is shown.
    """
    api = api_of(ctx)
    if isinstance(api, ServiceClient) and not disable and not only_url and is_terminal():
        _through_service(api, node, force=force)
        return
    if disable:
        api.disable_console(node, force=force)
        note(f"{node}: the console is stopped")
        return
    was_running = api.console_runs(node)
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


def _through_service(api: ServiceClient, node: str, *, force: bool) -> None:
    """The user was on the console that the service holds, beside whoever else is there."""
    was_running = api.console_runs(node)
    if not was_running:
        api.enable_console(node)
    told: list[str] = []

    def on_line(line: Line) -> None:
        said = _said_of(line)
        if said is not None and told[-1:] != [said]:
            told.append(said)
            # The terminal is raw: a new line does not begin at its left edge by itself.
            note(f"\r\n[{visible(said)}]\r")

    note(f"console of {node}; ~. at the beginning of a line leaves it")
    with api.on_console(node, on_line) as console:
        if force:
            console.take_over()
        left = attach_to(console.pipe)
        line = console.line
    others = len(line.viewers) - 1 if line is not None else 0
    if not left:
        reason = line.reason if line is not None else None
        raise ConsoleFailed(f"the console of {node} has ended", reason=reason)
    if not was_running and not others:
        api.disable_console(node, force=True)


def _said_of(line: Line) -> str | None:
    """What somebody on it wants to know of the others; None if there is nothing to say yet."""
    if line.standing == "connecting":
        return line.reason
    if line.standing != "open":
        return None
    others = len(line.viewers) - 1
    beside = f", beside {others} who watch{'es' if others == 1 else ''}" if others else ""
    if line.is_yours:
        return f"you type{beside}"
    return f"{line.who_types or 'nobody'} types; you watch, and --force takes over the typing"
