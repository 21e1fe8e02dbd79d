"""Tear down: the node carries no instance any more, and nothing that was plugged, added or written for it is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.engine import Step
from bloomery.errors import BloomeryError, CleanFailed, InterfaceFailed, NodeNotFound, NodeUnavailable, TearDownFailed
from bloomery.ironic import Node
from bloomery.operations import console, vifs, volumes
from bloomery.operations.run import Belongings, Options, Run, Services, carry_out, unless_deleted
from bloomery.plain import logger
from bloomery.states import (
    MAY_BE_UPDATED,
    ON_TEAR_DOWN,
    WHILE_CLEANING,
    WHILE_SETTLING,
    WHILE_TEARING_DOWN,
    Meaning,
    Provision,
    TearDown,
)

log = logger(__name__)

# Request


class TearDownRun(Run):
    """A tear-down under way.

    Attributes:
        clean_failure: that the node's cleaning failed, told when everything else is done.
        is_fresh: whether the node was looked at just now, and need not be before the first step.
    """

    clean_failure: CleanFailed | None = None
    is_fresh = False


def destroy(
    services: Services,
    node: Node,
    instance_uuid: str,
    options: Options,
    *,
    wait_for_cleaning: bool = False,
    belongings: Belongings | None = None,
    is_fresh: bool = False,
) -> Node:
    """The instance is gone; twice in a row is fine. Nothing here is undone: each step may be repeated until it holds.

    Args:
        services: what to work on.
        node: the node that carries it, or carried it last.
        instance_uuid: the instance.
        options: time, progress, cancellation.
        wait_for_cleaning: False returns as soon as Ironic has torn the node down and cleans it.
        belongings: what belongs to the instance besides what our mark says.
        is_fresh: whether the caller has looked at the node just now, with all fields.

    Returns:
        The node.

    Raises:
        TearDownFailed: Ironic could not; says why. The node keeps our mark.
        CleanFailed: the instance is gone, but the node's cleaning failed.
    """
    run = TearDownRun("destroy", services, options, instance_uuid=instance_uuid)
    run.node = node
    run.belongings = belongings or Belongings()
    run.is_fresh = is_fresh
    steps = TEAR_DOWN if not wait_for_cleaning else TEAR_DOWN_AND_CLEAN
    carry_out(steps, run, undo_on_failure=False)
    if run.clean_failure is not None:
        raise run.clean_failure
    return run.node


def drop_claim(services: Services, instance_uuid: str, options: Options) -> None:
    """The allocation is gone, all that there is of an instance which no node carries yet.

    Raises:
        NodeUnavailable: a node has been deployed with it meanwhile.
    """
    run = Run("destroy", services, options, instance_uuid=instance_uuid)
    run.commit()
    run.ironic.delete_allocation(instance_uuid)


# Steps' bodies, shared with the undoing of a deploy


@unless_deleted
def tear_down_node(run: Run) -> None:
    """No instance runs on the node: Ironic has torn it down, from whatever state it was in, or never began to deploy it.

    A node that carries somebody else's instance by now is left alone.

    Raises:
        TearDownFailed: Ironic tried and failed; the node is in `error`.
        OperationTimedOut: Ironic did not get done with what it was doing.
    """
    run.commit()
    refused: Provision | None = None
    is_fresh = isinstance(run, TearDownRun) and run.is_fresh
    while True:
        run.deadline.check(f"tearing down node {run.node.label}")
        if not is_fresh:
            run.node = run.ironic.node(run.node.uuid)
        is_fresh = False
        is_nobodys = run.node.instance_uuid is None and run.node.any_mark is None
        is_ours = run.node.instance_uuid == run.instance_uuid or _our_mark(run) is not None
        if not is_ours and not (is_nobodys and run.has_deployed):
            return
        if run.node.instance_uuid not in (None, run.instance_uuid):
            return
        todo = ON_TEAR_DOWN[run.node.state]
        if todo is TearDown.FREE:
            return
        if todo is TearDown.ASK:
            console.end(run, _our_mark(run))
        if todo is TearDown.SETTLE or refused is run.node.state:
            _wait_until_moved(run, run.node)
            refused = None
        elif todo is TearDown.UNDER_WAY:
            run.wait_for(WHILE_TEARING_DOWN, "tearing down", TearDownFailed)
        else:
            target = "abort" if todo is TearDown.ABORT else "deleted"
            asked_from = run.node
            try:
                run.asked_as = run.ironic.provision(run.node, target)
            except NodeUnavailable:
                # It had moved on before Ironic got our request, or is in a state that takes none: look again.
                refused = asked_from.state
                continue
            if todo is TearDown.ABORT:
                _wait_until_moved(run, asked_from)
            else:
                run.wait_for(WHILE_TEARING_DOWN, "tearing down", TearDownFailed)


def _wait_until_moved(run: Run, before: Node) -> None:
    """The node is in another state than it was, or in one where Ironic has let go of it."""

    def judge(now: Node) -> Meaning:
        moved = now.provision_state != before.provision_state or now.provision_updated_at != before.provision_updated_at
        settled = WHILE_SETTLING[now.state] is Meaning.DONE and before.state is not now.state
        return Meaning.DONE if moved or settled else Meaning.WAIT

    doing = f"waiting for Ironic to get on with {before.provision_state!r}"
    run.node, _ = run.services.watch.wait(before.uuid, judge, deadline=run.deadline, doing=doing, on_look=run.on_look)


@unless_deleted
def unplug_our_vifs(run: Run) -> None:
    """None of our VIFs is plugged into the node; into one that another has by now, none that we created."""
    is_ours = run.node.instance_uuid in (None, run.instance_uuid)
    try:
        vifs.unplug(run, {*vifs.ours(run, _our_mark(run)), *(run.belongings.vif_ids if is_ours else ())})
    except BloomeryError as failure:
        run.holds_vifs = not isinstance(failure, NodeNotFound)
        raise
    run.holds_vifs = False


def delete_our_ports(run: Run) -> None:
    """None of the VIFs that we created for the instance exists.

    Raises:
        InterfaceFailed: one is still plugged; by what Neutron says of it, it is found again.
    """
    if run.holds_vifs:
        raise InterfaceFailed("VIFs are not deleted while they are plugged", node_uuid=run.node.uuid)
    vifs.delete_created(run, _our_mark(run) if run.has_node else None)


@unless_deleted
def remove_our_volumes(run: Run) -> None:
    """None of the volume targets that we added for the instance exists."""
    if run.node.instance_uuid in (None, run.instance_uuid):
        volumes.remove(run, _our_mark(run), volume_ids=run.belongings.volume_ids)


def _our_mark(run: Run) -> Mapping[str, Any] | None:
    """The mark on the node, if it is about our instance: Ironic takes the instance from the node, but not the mark."""
    mark = run.node.any_mark
    return mark if mark is not None and mark.get("instance_uuid") == run.instance_uuid else None


@unless_deleted
def release_node(run: Run) -> None:
    """The node carries neither the instance nor our mark, and is free for anybody. The last of all steps.

    Ironic takes no change of a node that it cleans. Our mark is then left on it: it names an instance that the node does
    not carry, which means nothing to anybody, and the next claim replaces it.

    Raises:
        NodeUnavailable: the node still has the instance, or a VIF of it, and must not be free.
    """
    run.node = node = run.ironic.node(run.node.uuid)
    if node.instance_uuid == run.instance_uuid:
        if ON_TEAR_DOWN[node.state] is not TearDown.FREE:
            raise NodeUnavailable(
                f"node {node.label} is not released", reason=f"it is in {node.provision_state!r}", node_uuid=node.uuid
            )
        plugged = set(run.ironic.vifs(node.uuid))
        left = plugged & {*vifs.ours(run, node.mark), *run.belongings.vif_ids} if plugged else set()
        if left:
            raise NodeUnavailable(
                f"node {node.label} is not released",
                reason=f"VIF {', '.join(left)} is still plugged",
                node_uuid=node.uuid,
            )
    elif node.state not in MAY_BE_UPDATED:
        return
    console.end(run, _our_mark(run))
    try:
        run.node = run.ironic.release(node, str(run.instance_uuid), is_fresh=True)
    except NodeUnavailable:
        if run.ironic.allocation(str(run.instance_uuid)) is None:
            raise
        # In some states (clean failed, say) Ironic takes the instance from the node only together with its allocation.
        run.ironic.delete_allocation(str(run.instance_uuid))
        run.node = run.ironic.release(node, str(run.instance_uuid))


def wait_for_cleaning(run: TearDownRun) -> None:
    """The node is clean, needs no cleaning, or its cleaning has failed, which is told at the end."""
    try:
        run.wait_for(WHILE_CLEANING, "cleaning", CleanFailed)
    except CleanFailed as failure:
        run.clean_failure = failure


TEAR_DOWN: tuple[Step[TearDownRun], ...] = (
    Step("tear down node", tear_down_node),
    Step("unplug VIFs", unplug_our_vifs),
    Step("delete VIFs", delete_our_ports),
    Step("remove volume targets", remove_our_volumes),
    Step("release node", release_node),
)

TEAR_DOWN_AND_CLEAN: tuple[Step[TearDownRun], ...] = (
    *TEAR_DOWN[:-1],
    Step("wait for cleaning", wait_for_cleaning),
    TEAR_DOWN[-1],
)
