"""Power: on, off, reboot. Done when Ironic says that the machine is in that state, and that nothing went wrong."""

from __future__ import annotations

from bloomery.engine import Step
from bloomery.errors import NodeUnavailable, OperationTimedOut, PowerFailed
from bloomery.ironic import Node
from bloomery.operations.run import Options, Run, Services, carry_out, unless_deleted
from bloomery.plain import logger
from bloomery.states import Meaning, Power

log = logger(__name__)

SOFT_GRACE_S = 15.0
"""How much longer than Ironic we wait for a soft power-off, before the hard one."""

# Request


class PowerRun(Run):
    """A power action under way.

    Attributes:
        target: what is wanted: ON, OFF or REBOOT.
        soft_s: how long the system of the machine may take to shut itself down; None cuts the power.
        was_asked: whether the system of the machine was asked to shut down.
        is_down: whether it has, and the machine is off.
    """

    target: Power
    soft_s: float | None
    was_asked: bool = False
    is_down: bool = False


def power_on(services: Services, node: Node, options: Options) -> Node:
    """The machine is powered on.

    Raises:
        PowerFailed: it is not; says why, as Ironic does.
    """
    return _carry_out("power on", services, node, Power.ON, None, options)


def power_off(services: Services, node: Node, options: Options, *, soft_s: float | None = None) -> Node:
    """The machine is powered off.

    Args:
        services: what to work on.
        node: the node.
        options: time, progress, cancellation.
        soft_s: asks its system to shut down first, and cuts the power after so many seconds. None cuts it at once.

    Raises:
        PowerFailed: it is not; says why, as Ironic does.
    """
    return _carry_out("power off", services, node, Power.OFF, soft_s, options)


def reboot(services: Services, node: Node, options: Options, *, soft_s: float | None = None) -> Node:
    """The machine was restarted and is powered on.

    Args:
        services: what to work on.
        node: the node.
        options: time, progress, cancellation.
        soft_s: lets its system shut down first, and resets the machine if that fails or takes longer. None resets at once.

    Raises:
        PowerFailed: it was not; says why, as Ironic does.
    """
    return _carry_out("reboot", services, node, Power.REBOOT, soft_s, options)


def _carry_out(
    operation: str, services: Services, node: Node, target: Power, soft_s: float | None, options: Options
) -> Node:
    run = PowerRun(operation, services, options, instance_uuid=node.instance_uuid)
    run.node, run.target, run.soft_s = node, target, soft_s
    carry_out(POWER, run)
    return run.node


# Steps' bodies, in their order


def await_quiet(run: PowerRun) -> None:
    """No power action of somebody else's is under way."""
    if run.node.target_power_state is not None:
        run.node, _ = run.services.watch.wait(
            run.node.uuid, _quiet, deadline=run.deadline, doing="waiting for a power action that is under way"
        )


def shut_down(run: PowerRun) -> None:
    """The machine's system was asked to shut down, if that was wanted, and the machine is off, or the next step sees to it.

    Of a soft reboot, too: with some BMCs Ironic's own is done before the machine has gone down, and nobody can tell later
    whether it ever did. A machine that was seen off, and then on, has been restarted.
    """
    if run.soft_s is None or run.node.power_state == Power.OFF:
        return
    run.commit()
    run.was_asked = True
    whole = run.deadline
    try:
        is_last = run.target is Power.OFF
        run.asked_as = run.ironic.set_power(run.node.uuid, Power.SOFT_OFF, timeout_s=run.soft_s, is_last=is_last)
        # Asking has all the time that there is: a node that is locked would not take the hard way either.
        run.deadline = whole.shorter(run.soft_s + SOFT_GRACE_S)
        _await(run, Power.OFF)
    except (PowerFailed, NodeUnavailable, OperationTimedOut) as problem:
        whole.check("shutting down softly")
        log.info("node %s did not shut down softly (%s); now hard", run.node.label, problem)
    else:
        run.is_down = True
    finally:
        run.deadline = whole


@unless_deleted
def bring_up(run: PowerRun) -> None:
    """A machine that was to be rebooted, and whose system was asked to shut down, does not stay off."""
    if run.target is not Power.REBOOT or not run.was_asked:
        return
    run.node = run.ironic.node(run.node.uuid)
    if run.node.instance_uuid != run.instance_uuid:
        return
    await_quiet(run)
    if run.node.power_state == Power.OFF:
        run.asked_as = run.ironic.set_power(run.node.uuid, Power.ON)
        _await(run, Power.ON)


def change_power(run: PowerRun) -> None:
    """The power is as it was wanted."""
    if run.is_down and run.target is Power.OFF:
        return
    run.commit()
    await_quiet(run)
    run.asked_as = run.ironic.set_power(run.node.uuid, Power.ON if run.is_down else run.target)
    _await(run, Power.OFF if run.target is Power.OFF else Power.ON)


def switch_off(run: Run) -> None:
    """The machine is off. A part of operations that need it so.

    Raises:
        PowerFailed: it is not.
    """
    run.asked_as = run.ironic.set_power(run.node.uuid, Power.OFF)
    _await(run, Power.OFF)


def _await(run: Run, wanted: Power) -> None:
    """The power is as it was wanted. Ironic clears the target when it fails, too, and leaves the reason."""
    run.node, _ = run.services.watch.wait(
        run.node.uuid, _quiet, deadline=run.deadline, doing=f"waiting for {wanted.value!r}", on_look=run.on_look
    )
    if run.node.power_state != wanted or run.node.last_error is not None:
        raise PowerFailed(
            f"{run.operation} of node {run.node.label} failed",
            reason=run.node.last_error or f"its power state is {run.node.power_state!r}",
            node_uuid=run.node.uuid,
            request_id=run.asked_as,
        )


def _quiet(node: Node) -> Meaning:
    return Meaning.WAIT if node.target_power_state is not None else Meaning.DONE


POWER: tuple[Step[PowerRun], ...] = (
    Step("wait for quiet", await_quiet),
    Step("shut down softly", shut_down, undo=bring_up),
    Step("change power", change_power),
)
