"""Rescue and unrescue: the machine runs a rescue ramdisk, which a password opens, and then its own system again."""

from __future__ import annotations

import contextlib
import secrets

from bloomery.engine import Step
from bloomery.errors import InvalidRequest, NodeUnavailable, RescueFailed
from bloomery.ironic import Node
from bloomery.operations.run import Options, Run, Services, carry_out, unless_deleted
from bloomery.secret import Secret
from bloomery.states import WHILE_RESCUING, WHILE_SETTLING, WHILE_UNRESCUING, Meaning, Power, Provision

RESCUABLE = (Provision.ACTIVE, Provision.RESCUE_FAIL, Provision.UNRESCUE_FAIL, Provision.SERVICE_FAIL)
UNRESCUABLE = (Provision.RESCUE, Provision.RESCUE_FAIL, Provision.UNRESCUE_FAIL)

# Request


class RescueRun(Run):
    """A rescue under way.

    Attributes:
        password: what opens the rescue ramdisk.
        was_on: whether the machine had power at any look.
    """

    password: Secret[str]
    was_on: bool = False

    def on_look(self, node: Node) -> None:
        self.was_on |= node.is_on
        super().on_look(node)


class UnrescueRun(Run):
    """An unrescue under way."""


def new_password() -> Secret[str]:
    """A password that nobody guesses, and that can be typed on a console."""
    return Secret(secrets.token_urlsafe(15))


def rescue(services: Services, node: Node, password: Secret[str], options: Options, *, wait: bool = True) -> Node:
    """The machine runs the rescue ramdisk, and the password opens it. We keep the password nowhere.

    Raises:
        NodeUnavailable: the node is in no state to be rescued.
        RescueFailed: it did not come up, or was switched off as soon as it had; the node was asked to go back to its own system.
    """
    if not password.reveal():
        raise InvalidRequest("the rescue password is empty", advice="Give one, or none and have one made")
    run = RescueRun("rescue", services, options, instance_uuid=node.instance_uuid)
    run.node, run.password = node, password
    carry_out(RESCUE if wait else RESCUE[:-1], run)
    return run.node


def unrescue(services: Services, node: Node, options: Options, *, wait: bool = True) -> Node:
    """The machine runs its own system again.

    Raises:
        NodeUnavailable: the node is not in rescue.
        RescueFailed: it did not come up; may be tried again.
    """
    run = UnrescueRun("unrescue", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    carry_out(UNRESCUE if wait else UNRESCUE[:-1], run)
    return run.node


def resume(services: Services, node: Node, options: Options) -> Node:
    """A rescue that another process began is brought to its end.

    Raises:
        RescueFailed: it ended in failure, or Ironic never took it up.
    """
    run = RescueRun("rescue", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    run.commit()
    await_rescue(run)
    return run.node


def resume_unrescue(services: Services, node: Node, options: Options) -> Node:
    """The same of an unrescue.

    Raises:
        RescueFailed: it ended in failure, or Ironic never took it up.
    """
    run = UnrescueRun("unrescue", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    run.commit()
    await_unrescue(run)
    return run.node


# Steps' bodies, in their order


def check_rescuable(run: RescueRun) -> None:
    """The node is in a state from which Ironic rescues. Changes nothing."""
    _refuse_other_states(run.node, RESCUABLE, "rescued")


def request_rescue(run: RescueRun) -> None:
    """Ironic brings the node into rescue mode."""
    run.commit()
    run.asked_as = run.ironic.provision(run.node, "rescue", rescue_password=run.password)


def await_rescue(run: RescueRun) -> None:
    """The node is in rescue mode, and its machine has power.

    Where the ramdisk came by virtual media, Ironic switches the machine off to take the medium out, and says that it is
    rescued all the same.

    Source: Ironic 39.0.0, `RedfishVirtualMediaBoot.clean_up_ramdisk`, called by `AgentRescue.clean_up`.
    """
    run.was_on |= run.node.is_on
    run.wait_for(WHILE_RESCUING, "rescuing", RescueFailed)
    # Ironic's fake hardware is rescued without power.
    if run.was_on and run.node.power_state == Power.OFF:
        raise RescueFailed(
            f"Ironic says that node {run.node.label} is rescued, but has switched it off",
            reason="the rescue system is gone; Ironic does so where its ramdisk was booted by virtual media",
            advice="Let the node boot it another way (`boot_interface`), or set `fast_track` in its `driver_info`",
            node_uuid=run.node.uuid,
        )


@unless_deleted
def go_back(run: RescueRun) -> None:
    """The node is on its way to its own system again, or there; a rescue that never began is left at that.

    Raises:
        RescueFailed: it does not come back; `unrescue` or `destroy` may be tried again.
    """
    run.node = run.ironic.node(run.node.uuid)
    if run.node.instance_uuid != run.instance_uuid:
        return
    if run.node.state in (Provision.RESCUING, Provision.RESCUE_WAIT):
        _let_it_end(run)
    if run.node.state in UNRESCUABLE:
        run.ironic.provision(run.node, "unrescue")
        run.wait_for(WHILE_UNRESCUING, "unrescuing", RescueFailed)


def _let_it_end(run: RescueRun) -> None:
    """Ironic has let go of the node: a wait for the ramdisk is given up at once, anything else is let to its end."""
    if run.node.state is Provision.RESCUE_WAIT:
        with contextlib.suppress(NodeUnavailable):  # the ramdisk had called by then: it goes on, and is let to its end
            run.ironic.provision(run.node, "abort")

    def judge(now: Node) -> Meaning:
        return Meaning.WAIT if now.state is Provision.RESCUE_WAIT else WHILE_SETTLING[now.state]

    run.node, _ = run.services.watch.wait(
        run.node.uuid, judge, deadline=run.deadline, doing="giving up the rescue", on_look=run.on_look
    )


def check_unrescuable(run: UnrescueRun) -> None:
    """The node is in a state from which Ironic unrescues. Changes nothing."""
    _refuse_other_states(run.node, UNRESCUABLE, "unrescued")


def request_unrescue(run: UnrescueRun) -> None:
    """Ironic brings the node back to its own system."""
    run.commit()
    run.asked_as = run.ironic.provision(run.node, "unrescue")


def await_unrescue(run: UnrescueRun) -> None:
    """The node runs its own system."""
    run.wait_for(WHILE_UNRESCUING, "unrescuing", RescueFailed)


def _refuse_other_states(node: Node, allowed: tuple[Provision, ...], what: str) -> None:
    if node.state not in allowed:
        raise NodeUnavailable(
            f"node {node.label} cannot be {what}",
            reason=f"it is in {node.provision_state!r}",
            advice=f"It would have to be in {' or '.join(repr(state.value) for state in allowed)}",
            node_uuid=node.uuid,
        )


RESCUE: tuple[Step[RescueRun], ...] = (
    Step("check state", check_rescuable),
    Step("request rescue", request_rescue, undo=go_back),
    Step("wait for rescue", await_rescue),
)

UNRESCUE: tuple[Step[UnrescueRun], ...] = (
    Step("check state", check_unrescuable),
    Step("request unrescue", request_unrescue),
    Step("wait for active", await_unrescue),
)
