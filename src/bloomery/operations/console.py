"""Consoles: started, found, stopped. One that is in use is not taken from its user unless that is asked for."""

from __future__ import annotations

from bloomery.engine import Step
from bloomery.errors import ConsoleFailed, ConsoleInUse
from bloomery.ironic import Console, Node
from bloomery.operations.lines import ConsoleAddress
from bloomery.operations.run import Options, Run, Services, carry_out, unless_deleted

IDLE_LOOKS = 3
"""So many looks in a row that find nobody at a console, and it not as wanted, show that nobody will be."""

# Request


class ConsoleRun(Run):
    """A console being started.

    Attributes:
        force: whether to take it from whoever uses it.
        was: as it was found.
        known: where it is, if Ironic need not be asked for that.
    """

    force: bool
    was: Console = Console(console_enabled=False)
    known: ConsoleAddress | None = None
    address: ConsoleAddress


def enable(services: Services, node: Node, options: Options, *, force: bool = False) -> ConsoleAddress:
    """The console runs; says where.

    Args:
        services: what to work on.
        node: the node.
        options: time, progress, cancellation.
        force: starts it anew if it runs already, which throws out whoever uses it.

    Raises:
        NodeUnavailable: the node has none.
        ConsoleFailed: it does not come up.
    """
    run = ConsoleRun("enable console", services, options, instance_uuid=node.instance_uuid)
    run.node, run.force = node, force
    carry_out(ENABLE, run)
    return run.address


def address(services: Services, node: Node, options: Options) -> ConsoleAddress | None:
    """Where the console is, if it runs. Changes nothing, but whoever is on a serial one may be thrown out (see `lines`).

    Raises:
        NodeUnavailable: the node has none.
    """
    run = Run("show console", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    return services.lines.address(run.ironic, node.uuid) or _asked_for(run)


def disable(services: Services, node: Node, options: Options, *, force: bool = False) -> None:
    """The console does not run.

    Raises:
        ConsoleInUse: it runs, so that somebody may be on it, and `force` was not given.
        ConsoleFailed: it does not stop.
    """
    run = ConsoleRun("disable console", services, options, instance_uuid=node.instance_uuid)
    run.node, run.force = node, force
    carry_out(DISABLE, run)


# Steps' bodies


def look(run: ConsoleRun) -> None:
    """How it stands is known. Changes nothing, and throws nobody out.

    One that does not run can be asked for without harm (see `lines`), and then Ironic says whether the node has one.
    """
    run.known = None if run.force else run.services.lines.address(run.ironic, run.node.uuid)
    runs = run.known is not None or run.node.console_enabled
    run.was = Console(console_enabled=True) if runs else run.ironic.console(run.node.uuid)


def stop_if_forced(run: ConsoleRun) -> None:
    """If it ran and is to be taken from its user, it does not run."""
    if run.was.console_enabled and run.force:
        run.commit()
        _switch(run, enabled=False)


def start(run: ConsoleRun) -> None:
    """It runs, and its address is known."""
    run.commit()
    runs = run.was.console_enabled and not run.force
    found = run.known or (_asked_for(run) if runs else None)
    if found is None:
        _switch(run, enabled=True)
        found = _asked_for(run)
    if found is None:
        raise ConsoleFailed(
            f"the console of node {run.node.label} runs, and Ironic does not say where",
            advice="`--force` starts it anew",
            node_uuid=run.node.uuid,
        )
    run.address = found


@unless_deleted
def restore(run: ConsoleRun) -> None:
    """It runs, or runs not, as it was found."""
    if bool(run.ironic.node(run.node.uuid).console_enabled) != run.was.console_enabled:
        _switch(run, enabled=run.was.console_enabled)


def stop(run: ConsoleRun) -> None:
    """It does not run."""
    if not run.was.console_enabled:
        return
    if not run.force:
        raise ConsoleInUse(
            f"the console of node {run.node.label} is running, and somebody may be on it",
            advice="`--force` stops it all the same",
            node_uuid=run.node.uuid,
        )
    run.commit()
    _switch(run, enabled=False)


def _switch(run: ConsoleRun, *, enabled: bool) -> None:
    """The console runs, or runs not.

    Raises:
        ConsoleFailed: Ironic tried and failed; says why.
    """
    run.services.lines.forget(run.node.uuid)
    run.ironic.set_console(run.node.uuid, enabled=enabled)
    idle_looks = 0

    def settled() -> bool | None:
        nonlocal idle_looks
        node = run.ironic.node(run.node.uuid)
        if bool(node.console_enabled) == enabled:
            return True
        if node.reservation is None and node.last_error is not None:
            raise ConsoleFailed(
                f"the console of node {node.label} did not {'start' if enabled else 'stop'}",
                reason=node.last_error,
                node_uuid=node.uuid,
            )
        # Ironic keeps the node locked until it has done it: a conductor that died before has left nobody at it, and no word.
        idle_looks = idle_looks + 1 if node.reservation is None else 0
        if idle_looks >= IDLE_LOOKS:
            idle_looks = 0
            run.ironic.set_console(run.node.uuid, enabled=enabled)
        return None

    doing = f"waiting for the console to {'start' if enabled else 'stop'}"
    run.services.watch.poll(settled, deadline=run.deadline, doing=doing)


def _asked_for(run: Run) -> ConsoleAddress | None:
    """Where Ironic says that it is, if it runs."""
    found = _address_of(run.ironic.console(run.node.uuid))
    if found is not None:
        run.services.lines.learn(run.ironic, run.node.uuid, found)
    return found


def _address_of(console: Console) -> ConsoleAddress | None:
    info = console.console_info
    if not console.console_enabled or info is None or not info.url:
        return None
    return ConsoleAddress(kind=info.type or "unknown", url=info.url)


ENABLE: tuple[Step[ConsoleRun], ...] = (
    Step("look at console", look),
    Step("stop console", stop_if_forced),
    Step("start console", start, undo=restore),
)

DISABLE: tuple[Step[ConsoleRun], ...] = (
    Step("look at console", look),
    Step("stop console", stop, undo=restore),
)
