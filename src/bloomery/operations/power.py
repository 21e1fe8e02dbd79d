"""Power: on, off, reboot. Done when Ironic says that the machine is in that state, and that nothing went wrong."""

from __future__ import annotations

from bloomery.engine import Step
from bloomery.errors import NodeUnavailable, OperationTimedOut, PowerFailed
from bloomery.ironic import Node
from bloomery.operations.run import Options, Run, Services, carry_out
from bloomery.plain import logger
from bloomery.states import Meaning, Power

log = logger(__name__)

SOFT_GRACE_S = 15.0
"""How much longer than Ironic we wait for a soft power-off, before the hard one."""

# Request


class PowerRun(Run):
    """A power action under way.

    Attributes:
        target: what Ironic is asked for.
        soft_s: how long the system of the machine may take to shut itself down; None cuts the power.
        is_done: whether asking the system was enough.
    """

    target: Power
    soft_s: float | None
    is_done: bool = False


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


def change_softly(run: PowerRun) -> None:
    """The machine's system was asked, if that was wanted, and the power is as it was wanted, or the next step sees to it."""
    if run.soft_s is None or (run.target is Power.OFF and run.node.power_state == Power.OFF):
        return
    run.commit()
    soft = {Power.OFF: Power.SOFT_OFF, Power.REBOOT: Power.SOFT_REBOOT}[run.target]
    whole = run.deadline
    run.deadline = whole.shorter(run.soft_s + SOFT_GRACE_S)
    try:
        run.ironic.set_power(run.node.uuid, soft, timeout_s=run.soft_s)
        _await_result(run)
    except (PowerFailed, NodeUnavailable, OperationTimedOut) as problem:
        whole.check("shutting down softly")
        log.info("node %s did not shut down softly (%s); now hard", run.node.label, problem)
    else:
        run.is_done = True
    finally:
        run.deadline = whole


def change_hard(run: PowerRun) -> None:
    """The power is as it was wanted."""
    if run.is_done:
        return
    run.commit()
    await_quiet(run)
    run.ironic.set_power(run.node.uuid, run.target)
    _await_result(run)


def switch_off(run: Run) -> None:
    """The machine is off. A part of operations that need it so.

    Raises:
        PowerFailed: it is not.
    """
    run.ironic.set_power(run.node.uuid, Power.OFF)
    _await(run, Power.OFF)


def _await_result(run: PowerRun) -> None:
    """Ironic has done what it was asked, and says that it went well.

    Raises:
        PowerFailed: it did not.
    """
    _await(run, Power.OFF if run.target is Power.OFF else Power.ON)


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
        )


def _quiet(node: Node) -> Meaning:
    return Meaning.WAIT if node.target_power_state is not None else Meaning.DONE


POWER: tuple[Step[PowerRun], ...] = (
    Step("wait for quiet", await_quiet),
    Step("change power softly", change_softly),
    Step("change power", change_hard),
)
