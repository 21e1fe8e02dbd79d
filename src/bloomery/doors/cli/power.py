"""Power: on, off, status, reboot; and the crash dump, which is a button, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import Invocation, api_of, invocation_of
from bloomery.doors.cli.dry_run import rehearse
from bloomery.doors.cli.instances import confirm
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape, note, print_rows
from bloomery.doors.cli.running import Task, carry_out
from bloomery.library import Bloomery
from bloomery.operations.run import OnProgress

app = typer.Typer()
power = typer.Typer(no_args_is_help=True)
app.add_typer(power, name="power", help="Power machines on and off.")

PowerTimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds that it may take.", min=1)]

_Call = Callable[[Bloomery, str, Cancellation | None, OnProgress], None]


def _do(invocation: Invocation, instances: list[str], call: _Call, *, done: str, at_once: int, dry_run: bool) -> None:
    api = invocation.api

    def call_for(instance: str, api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        call(api, instance, cancellation, on_progress)

    if dry_run:
        rehearse(api, {name: partial(call_for, name) for name in instances}, Shape())
        return
    tasks = [Task(label=name, call=partial(call_for, name, api), done=done) for name in instances]
    carry_out(invocation, tasks, at_once=at_once)


@power.command(name="on")
def power_on(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    at_once: o.AtOnceOption = o.AT_ONCE,
    timeout: PowerTimeoutOption = o.POWER_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Power machines on."""

    def call(api: Bloomery, instance: str, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        api.power_on(instance, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress)

    _do(invocation_of(ctx), instances, call, done="powered on", at_once=at_once, dry_run=dry_run)


@power.command(name="off")
def power_off(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    soft: o.SoftOption = None,
    at_once: o.AtOnceOption = o.AT_ONCE,
    timeout: PowerTimeoutOption = o.POWER_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Power machines off."""

    def call(api: Bloomery, instance: str, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        api.power_off(instance, soft_s=soft, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress)

    _do(invocation_of(ctx), instances, call, done="powered off", at_once=at_once, dry_run=dry_run)


@power.command(name="status")
def power_status(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Show machines' power, and where it is going."""
    api = api_of(ctx)
    found = [api.show(name) for name in instances]
    rows = [
        {"name": one.name, "power_state": one.power_state, "target_power_state": one.target_power_state}
        for one in found
    ]
    every = ("name", "power_state", "target_power_state")
    print_rows(rows, Shape.of(written_as, columns), by_default=every, all_columns=every)


@app.command()
def reboot(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    soft: o.SoftOption = None,
    at_once: o.AtOnceOption = o.AT_ONCE,
    timeout: PowerTimeoutOption = o.POWER_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Restart machines."""

    def call(api: Bloomery, instance: str, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        api.reboot(instance, soft_s=soft, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress)

    _do(invocation_of(ctx), instances, call, done="rebooted", at_once=at_once, dry_run=dry_run)


@app.command(name="crash-dump")
def crash_dump(ctx: typer.Context, instance: o.InstanceArgument, yes: o.YesOption = False) -> None:
    """Send a non-maskable interrupt, which makes the machine's kernel write a dump, if it is set up to."""
    api = api_of(ctx)
    confirm(f"Send a non-maskable interrupt to {instance}, which stops its system?", yes=yes)
    api.crash_dump(instance)
    note(f"{instance}: interrupt sent")
