"""`rescue` and `unrescue`. The password is on stdout once, and nowhere else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import invocation_of
from bloomery.doors.cli.dry_run import rehearse
from bloomery.doors.cli.output import Shape, note
from bloomery.doors.cli.running import Task, carry_out
from bloomery.library import Bloomery
from bloomery.operations.run import OnProgress
from bloomery.secret import Secret

app = typer.Typer()


@app.command()
def rescue(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            help="Its first line is the password; - is stdin. Else one is made.",
            show_default=False,
        ),
    ] = None,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for the password on the terminal.")] = False,
    wait: o.WaitOption = True,
    timeout: o.LongTimeoutOption = o.LONG_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Start the rescue ramdisk; the password that opens it is shown once, on stdout, unless you gave it."""
    invocation = invocation_of(ctx)
    password = _given_password(password_file, ask=ask_password)

    def call(api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress) -> Secret[str]:
        return api.rescue(
            instance, password, wait=wait, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress
        )

    if dry_run:
        rehearse(invocation.api, {instance: call}, Shape())
        return
    done = "in rescue" if wait else "taken up by Ironic"
    task = Task(label=instance, call=partial(call, invocation.api), done=done, counts=wait)
    (used,) = carry_out(invocation, [task])
    if password is None:
        note("the rescue password, which is kept nowhere else:")
        try:
            typer.echo(used.reveal())
        except OSError:
            note(
                f"it could not be written, and nobody has it: `bloomery unrescue {instance}`, and another rescue gives another"
            )
            raise


def _given_password(file: Path | None, *, ask: bool) -> Secret[str] | None:
    if file is not None and ask:
        raise typer.BadParameter("--password-file and --ask-password do not go together")
    if file is not None:
        return o.password_in(file)
    if ask:
        return Secret(str(typer.prompt("Rescue password", hide_input=True, confirmation_prompt=True, err=True)))
    return None


@app.command()
def unrescue(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    at_once: o.AtOnceOption = o.AT_ONCE,
    wait: o.WaitOption = True,
    timeout: o.LongTimeoutOption = o.LONG_S,
    dry_run: o.DryRunOption = False,
) -> None:
    """Bring machines in rescue back to their own systems."""
    invocation = invocation_of(ctx)

    def call(instance: str, api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress) -> None:
        api.unrescue(instance, wait=wait, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress)

    if dry_run:
        rehearse(invocation.api, {name: partial(call, name) for name in instances}, Shape())
        return
    done = "out of rescue" if wait else "taken up by Ironic"
    tasks = [Task(label=name, call=partial(call, name, invocation.api), done=done, counts=wait) for name in instances]
    carry_out(invocation, tasks, at_once=at_once)
