"""Crash dump: a non-maskable interrupt makes the machine's kernel write one, if it is set up to."""

from __future__ import annotations

from bloomery.engine import Step
from bloomery.errors import NodeUnavailable
from bloomery.ironic import Node
from bloomery.operations.run import Options, Run, Services, carry_out
from bloomery.states import Provision


def crash_dump(services: Services, node: Node, options: Options) -> None:
    """The machine has got a non-maskable interrupt.

    Raises:
        NodeUnavailable: it is off, or its management interface cannot.
        ServiceUnavailable: the reply was lost; whether the interrupt was sent, nobody can tell, so it is not repeated.
    """
    run = Run("crash dump", services, options, instance_uuid=node.instance_uuid)
    run.node = node
    carry_out(CRASH_DUMP, run)


def check_running(run: Run) -> None:
    """There is a system that could write a dump. Changes nothing."""
    if not run.node.is_on or run.node.state not in (Provision.ACTIVE, Provision.RESCUE):
        raise NodeUnavailable(
            f"node {run.node.label} runs no system that could write a dump",
            reason=f"it is in {run.node.provision_state!r}, {run.node.power_state}",
            node_uuid=run.node.uuid,
        )


def inject_nmi(run: Run) -> None:
    """The BMC was asked, and took it."""
    run.commit()
    run.ironic.inject_nmi(run.node.uuid)


CRASH_DUMP: tuple[Step[Run], ...] = (
    Step("check state", check_running),
    Step("inject NMI", inject_nmi),
)
