"""Consoles: started, found, stopped. One that is in use is not taken from its user unless that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.engine import Step
from bloomery.errors import AccessDenied, ConsoleFailed, ConsoleInUse, NodeUnavailable, NotSupported
from bloomery.ironic import Console, Node
from bloomery.ironic.models import MARK
from bloomery.operations.lines import ConsoleAddress
from bloomery.operations.run import (
    BLOOMERY,
    Options,
    Run,
    Services,
    as_mapping,
    carry_out,
    is_managed_by,
    unless_deleted,
)
from bloomery.plain import logger

log = logger(__name__)

NOTE = "console"
"""What the mark has while a console of the instance's runs that we have started: Ironic would start it for the next one, too."""
IDLE_LOOKS = 3
"""So many looks in a row that find nobody at a console, and it not as wanted, show that nobody will be."""

# Request


class ConsoleRun(Run):
    """A console being started.

    Attributes:
        force: whether to take it from whoever uses it.
        was: as it was found.
        was_noted: whether the mark said that we had started it.
        known: where it is, if Ironic need not be asked for that.
    """

    force: bool
    was: Console = Console(console_enabled=False)
    was_noted = False
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


def end(run: Run, mark: Mapping[str, Any] | None) -> None:
    """The console does not outlive the instance of the mark, if that says that we have started it.

    Ironic stops a console with the tear-down and starts it again with the next deploy, for whoever has the node then. One that
    cannot be stopped keeps no node from being freed.
    """
    if not (run.node.console_enabled and is_noted(mark)):
        return
    try:
        _switch(run, enabled=False)
    except (AccessDenied, ConsoleFailed, NodeUnavailable, NotSupported) as problem:
        log.warning("the console of node %s could not be stopped: %s", run.node.label, problem)


def kept(node: Node) -> dict[str, object]:
    """What the next mark on the node says of a console that was started for the instance before, and still runs."""
    return {NOTE: True} if node.console_enabled and is_noted(node.any_mark) else {}


def is_noted(mark: Mapping[str, Any] | None) -> bool:
    """Whether the mark says that we have started a console for its instance."""
    return bool(as_mapping(mark).get(NOTE))


# Steps' bodies


def look(run: ConsoleRun) -> None:
    """How it stands is known. Changes nothing, and throws nobody out.

    One that does not run can be asked for without harm (see `lines`), and then Ironic says whether the node has one.
    """
    run.was_noted = is_noted(run.node.mark)
    run.known = None if run.force else run.services.lines.address(run.ironic, run.node.uuid)
    runs = run.known is not None or run.node.console_enabled
    run.was = Console(console_enabled=True) if runs else run.ironic.console(run.node.uuid)


def stop_if_forced(run: ConsoleRun) -> None:
    """If it ran and is to be taken from its user, it does not run."""
    if run.was.console_enabled and run.force:
        run.commit()
        _switch(run, enabled=False)


def note(run: ConsoleRun) -> None:
    """If it is for an instance of ours, the mark says that we start it. Before it runs: a note without a console does no harm."""
    run.commit()
    if not run.was.console_enabled:
        _set_noted(run, noted=True)


@unless_deleted
def restore_note(run: ConsoleRun) -> None:
    """The mark says of it what it said before."""
    run.node = run.ironic.node(run.node.uuid)
    _set_noted(run, noted=run.was_noted)


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


def forget(run: ConsoleRun) -> None:
    """The mark does not say that it runs."""
    run.commit()
    _set_noted(run, noted=False)


def _set_noted(run: Run, *, noted: bool) -> None:
    """The mark, where it is for an instance of ours, says so or says it not."""
    mark = run.node.mark
    if mark is None or not is_managed_by(BLOOMERY, mark) or (NOTE in mark) is noted:
        return
    path = f"/extra/{MARK}/{NOTE}"
    run.node = run.ironic.update(
        run.node,
        [{"op": "add", "path": path, "value": True} if noted else {"op": "remove", "path": path}],
        is_so=lambda now: (NOTE in (now.mark or {})) is noted,
        doing=f"noting whether node {run.node.label} has a console of ours",
    )


def _switch(run: Run, *, enabled: bool) -> None:
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
    Step("note console", note, undo=restore_note),
    Step("start console", start, undo=restore),
)

DISABLE: tuple[Step[ConsoleRun], ...] = (
    Step("look at console", look),
    Step("stop console", stop, undo=restore),
    Step("forget console", forget, undo=restore_note),
)
