"""Instances listed, shown, destroyed, checked, taken over, recovered."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of, invocation_of
from bloomery.doors.cli.dry_run import rehearse
from bloomery.doors.cli.exit_codes import NOT_WELL, exit_code_of
from bloomery.doors.cli.output import (
    ColumnOption,
    Format,
    FormatOption,
    Row,
    Shape,
    SortOption,
    fields_of,
    note,
    print_fields,
    print_rows,
)
from bloomery.doors.cli.running import Task, carry_out
from bloomery.errors import BloomeryError
from bloomery.library import Bloomery
from bloomery.operations.instances import Instance, Manager
from bloomery.operations.run import OnProgress
from bloomery.plain import visible

app = typer.Typer()

_COLUMNS = ("name", "state", "power_state", "node_name", "uuid", "since", "manager")
_ALL_COLUMNS = tuple(name for name in Instance.__dataclass_fields__ if name != "vifs")
_IN_SHOW = (
    "name", "uuid", "state", "step", "since", "power_state", "target_power_state", "node_name", "node_uuid",
    "resource_class", "image", "manager", "last_error", "maintenance", "maintenance_reason", "health", "boot_mode",
    "secure_boot", "console_enabled", "vifs",
)  # fmt: skip


def print_instances(instances: Iterable[Instance], shape: Shape) -> None:
    """One instance is on stdout with all its fields, several a row each."""
    found = list(instances)
    if len(found) == 1:
        print_fields(_fields(found[0], shape), shape)
    else:
        print_rows(map(fields_of, found), shape, by_default=_COLUMNS, all_columns=_ALL_COLUMNS)


def _fields(instance: Instance, shape: Shape) -> Row:
    fields = fields_of(instance)
    row = {name: fields[name] for name in _IN_SHOW}
    if shape.format in (Format.JSON, Format.YAML) or shape.columns:
        return row
    # For people: what there is nothing to say of is left out, and VIFs are a line each.
    row = {name: value for name, value in row.items() if value not in (None, ())}
    if instance.vifs is not None:
        row["vifs"] = [_vif_words(fields_of(vif)) for vif in instance.vifs] or ["none"]
    return row


def _vif_words(vif: Row) -> str:
    where = f"{vif['network'] or vif['network_id'] or 'unknown network'}"
    addresses = vif["addresses"]
    found = ", ".join(str(address) for address in addresses) if isinstance(addresses, tuple) else ""
    on = f" on {'bond ' if vif['is_bond'] else ''}{vif['on']}" if vif["on"] else ""
    bound = " (not bound)" if vif["is_bound"] is False else ""
    return f"{where}: {found or 'no address'}, {vif['mac'] or 'no MAC'}{on}{bound} [{vif['name'] or vif['vif_id']}]"


@app.command(name="list")
def list_instances(
    ctx: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", help="Only those in this provision state.", show_default=False)
    ] = None,
    manager: Annotated[
        Manager | None, typer.Option("--manager", help="Only those that this one deployed.", show_default=False)
    ] = None,
    resource_class: Annotated[
        str | None, typer.Option("--resource-class", help="Only those on nodes of this class.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Only those with this in their name.", show_default=False)
    ] = None,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
    sort_column: SortOption = None,
) -> None:
    """List the instances."""
    rows = [
        fields_of(instance)
        for instance in api_of(ctx).instances()
        if state in (None, instance.state)
        and manager in (None, instance.manager)
        and resource_class in (None, instance.resource_class)
        and (name is None or name in instance.name)
    ]
    shape = Shape.of(written_as, columns, sort_column)
    print_rows(rows, shape, by_default=_COLUMNS, all_columns=_ALL_COLUMNS)


@app.command()
def show(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Show an instance with its node, image, VIFs and addresses, power, progress and last error."""
    print_instances([api_of(ctx).show(instance)], Shape.of(written_as, columns))


@app.command()
def destroy(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    wait_for_cleaning: Annotated[
        bool, typer.Option("--wait-for-cleaning", help="Wait until the node is clean and free.")
    ] = False,
    yes: o.YesOption = False,
    at_once: o.AtOnceOption = o.AT_ONCE,
    timeout: o.LongTimeoutOption = o.LONG_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Destroy instances, from whatever state they are in; VIFs that we created go, others are only unplugged."""
    invocation = invocation_of(ctx)

    def call(instance: str, api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        api.destroy(
            instance,
            wait_for_cleaning=wait_for_cleaning,
            timeout_s=timeout,
            cancellation=cancellation,
            on_progress=on_progress,
        )

    if dry_run:
        rehearse(invocation.api, {name: partial(call, name) for name in instances}, Shape())
        return
    confirm(f"Destroy {', '.join(instances)} and all data on it?", yes=yes)
    tasks = [Task(label=name, call=partial(call, name, invocation.api), done="destroyed") for name in instances]
    carry_out(invocation, tasks, at_once=at_once)


def confirm(question: str, *, yes: bool) -> None:
    """The user agreed, or nobody is there to be asked.

    Raises:
        typer.Abort: he did not.
    """
    if not yes and sys.stdin.isatty():
        typer.confirm(visible(question), abort=True, err=True)


@app.command()
def validate(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    written_as: FormatOption = Format.TABLE,
) -> None:
    """Check that an instance and its node belong together; exit code 1 if something does not fit."""
    problems = api_of(ctx).problems(instance)
    if problems or written_as is not Format.TABLE:
        rows = [{"problem": problem} for problem in problems]
        print_rows(rows, Shape.of(written_as), by_default=["problem"], all_columns=["problem"])
    if problems:
        raise typer.Exit(NOT_WELL)
    note(f"{instance} and its node belong together")


@app.command()
def adopt(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called from now on.", show_default=False)
    ] = None,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Take over an instance that somebody else deployed, such as Nova or metalsmith."""
    print_instances([api_of(ctx).adopt(instance, name=name)], Shape.of(written_as, columns))


@app.command()
def recover(
    ctx: typer.Context,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than", metavar="SECONDS", min=0,
            help="Leave alone what was begun more recently: its process may still be at it.",
        ),
    ] = 600,
    timeout: o.LongTimeoutOption = o.LONG_S,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
    sort_column: SortOption = None,
) -> None:  # fmt: skip
    """Finish or undo what processes of ours have left half done."""
    invocation = invocation_of(ctx)

    def call(cancellation: Cancellation, on_progress: OnProgress) -> list[tuple[str, BloomeryError | None]]:
        return invocation.api.recover(
            older_than_s=older_than, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress
        )

    (seen_to,) = carry_out(invocation, [Task(label="recover", call=call, done="all seen to", counts=False)])
    rows = [{"node": node, "problem": str(problem) if problem is not None else None} for node, problem in seen_to]
    every = ("node", "problem")
    print_rows(rows, Shape.of(written_as, columns, sort_column), by_default=every, all_columns=every)
    failed = [exit_code_of(problem) for _, problem in seen_to if problem is not None]
    if failed:
        raise typer.Exit(failed[0])
