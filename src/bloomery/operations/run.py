"""What every operation works with: the services, the deadline, the node, and somebody who wants to know how far it is."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from bloomery import engine
from bloomery.deadline import USUAL, Cancellation, Deadline, Patience, utc_now
from bloomery.engine import Observer, Step
from bloomery.errors import (
    BloomeryError,
    NodeNotFound,
    NodeTakenAway,
    NotSupported,
    OperationCancelled,
    OperationFailed,
)
from bloomery.glance import Glance
from bloomery.ironic import Ironic, Node
from bloomery.ironic.models import GUARD
from bloomery.neutron import Neutron
from bloomery.operations.lines import Lines
from bloomery.operations.liveness import this_process
from bloomery.plain import logger
from bloomery.states import Meaning, WaitTable
from bloomery.watch import Watch

log = logger(__name__)

UNDO_TIMEOUT_S = 1800.0
"""How long the undoing of a failed operation may take."""
REASON_S = 120.0
"""How long Ironic may take to switch a machine off on which something has failed."""
LONGEST_S = 30 * 86400.0
"""What a mark says of an operation that may take longer, or for ever."""
BLOOMERY, NOVA = "bloomery", "nova"
"""Whom an instance belongs to, as the mark says; without a word it is Bloomery's own."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation has got.

    Attributes:
        operation: its name: "deploy".
        step: what is being done: "wait for active".
        index: which step that is, from 1.
        total: of how many.
        elapsed_s: since the operation began.
        node_uuid: the node, once it is known.
        node_name: its name.
        instance_uuid: the instance.
        state: the node's provision state.
        detail: what Ironic is doing: its own step.
        fraction: how much of the operation is done, 0 to 1, as far as that can be told.
        undoing: whether the operation has failed and is being undone.
    """

    operation: str
    step: str
    index: int
    total: int
    elapsed_s: float
    node_uuid: str | None = None
    node_name: str | None = None
    instance_uuid: str | None = None
    state: str | None = None
    detail: str | None = None
    fraction: float = 0.0
    undoing: bool = False


OnProgress = Callable[[Progress], None]


def ignore(_progress: Progress) -> None:
    """For whoever does not want to know."""


@dataclass(frozen=True, slots=True)
class Services:
    """What operations work on.

    Attributes:
        ironic: Ironic.
        watch: waits for nodes.
        neutron: None where the cloud has none.
        neutron_to_ask: for questions alone, where Neutron's ports are somebody else's to change, as under Nova. None means
            that `neutron` is asked.
        glance: None where the cloud has none.
        patience: how long they are borne when they do not answer.
        host: who we are, for the mark on the node.
        wall_clock: tells the date and time that marks on nodes bear, and what marks are compared with; nothing else.
        manager: for whom we work, for the mark: what Nova deployed is left to Nova, and the other way round.
        lines: where serial consoles are, as Ironic said once.
        observer: is told of every step and undo, before anybody else; tests break operations with it.
    """

    ironic: Ironic
    watch: Watch
    neutron: Neutron | None = None
    neutron_to_ask: Neutron | None = None
    glance: Glance | None = None
    patience: Patience = USUAL
    host: str = field(default_factory=socket.gethostname)
    wall_clock: Callable[[], datetime] = utc_now
    manager: str = BLOOMERY
    lines: Lines = field(default_factory=Lines)
    observer: Observer = field(default_factory=Observer)

    def asking(self, timeout_s: float) -> Deadline:
        """A deadline for whoever changes nothing."""
        return Deadline(timeout_s, outage_s=self.patience.before_change_s, patience=self.patience)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an operation is carried out, whatever it does.

    Attributes:
        timeout_s: seconds that it may take; undoing comes on top.
        cancellation: how its caller may stop it.
        on_progress: is told how far it has got; called in the thread that called the operation.
        undo_timeout_s: seconds that undoing may take.
        patience_s: how long a service that does not answer is borne while nothing has been changed yet; None means as
            long as the services' patience says.
    """

    timeout_s: float = 3600.0
    cancellation: Cancellation = field(default_factory=Cancellation)
    on_progress: OnProgress = ignore
    undo_timeout_s: float = UNDO_TIMEOUT_S
    patience_s: float | None = None


@dataclass(frozen=True, slots=True)
class Belongings:
    """What belongs to the instance by its caller's word, besides what our mark on the node says.

    Attributes:
        vif_ids: to be unplugged.
        volume_ids: whose targets are to be removed.
    """

    vif_ids: frozenset[str] = frozenset()
    volume_ids: frozenset[str] = frozenset()


class Run:
    """An operation under way.

    Attributes:
        operation: its name.
        instance_uuid: the instance that it is about.
        node: the node as it was seen last.
        belongings: what belongs to the instance besides what our mark says.
        holds_vifs: whether a VIF could not be unplugged: then it has to stay, or the node would be poisoned for the next.
        has_deployed: whether Ironic has taken up a deploy of ours: then it is ours, even if the node says no more whose.
        asked_as: the id in Ironic's log of the request that it was given last, for whoever looks for why it failed.
    """

    # How much of the whole operation its wait for Ironic takes, in a progress bar.
    WAIT_SHARE = 0.9

    def __init__(self, operation: str, services: Services, options: Options, *, instance_uuid: str | None) -> None:
        self.operation = operation
        self.services = services
        self.options = options
        self.instance_uuid = instance_uuid
        self.belongings = Belongings()
        self.holds_vifs = False
        self.has_deployed = False
        self.asked_as: str | None = None
        self._node: Node | None = None
        self._whole = Deadline(
            options.timeout_s,
            outage_s=services.patience.after_change_s,
            cancellation=options.cancellation,
            patience=services.patience,
        )
        patience_s = services.patience.before_change_s if options.patience_s is None else options.patience_s
        self.deadline = self._whole.impatient(patience_s)
        self._at = Progress(operation, "", 0, 1, 0.0)
        self._is_undoing = False
        self._fraction = 0.0

    # What it works on

    @property
    def ironic(self) -> Ironic:
        """Ironic, within this operation's time."""
        return self.services.ironic.within(self.deadline)

    @property
    def neutron(self) -> Neutron:
        """Neutron, within this operation's time.

        Raises:
            NotSupported: the cloud has none.
        """
        if self.services.neutron is None:
            raise NotSupported(
                "this cloud has no Neutron",
                reason="networks, VIFs and security groups are Neutron's",
                advice="Deploy without NICs, or give the cloud a network endpoint (`network_endpoint_override`)",
            )
        return self.services.neutron.within(self.deadline)

    @property
    def neutron_to_ask(self) -> Neutron | None:
        """Neutron for questions, within this operation's time; None where there is none."""
        neutron = self.services.neutron_to_ask or self.services.neutron
        return neutron.within(self.deadline) if neutron is not None else None

    @property
    def has_neutron(self) -> bool:
        """Whether the cloud has a Neutron."""
        return self.services.neutron is not None

    @property
    def node(self) -> Node:
        """The node as it was seen last."""
        if self._node is None:
            raise AssertionError("the node is used before it is known")
        return self._node

    @node.setter
    def node(self, node: Node) -> None:
        self._node = node

    @property
    def has_node(self) -> bool:
        """Whether the node is known yet."""
        return self._node is not None

    def commit(self) -> None:
        """From here on something is changed: a service that is away is waited for, instead of giving up at once.

        An undo keeps the time of its own: the operation's may be over, or cancelled.
        """
        if not self._is_undoing:
            self.deadline = self._whole

    def begin_undo(self) -> None:
        """From here on what was begun is undone: with time of its own, and nobody cancels that."""
        self._is_undoing = True
        patience = self.services.patience
        self.deadline = Deadline(
            self.options.undo_timeout_s, outage_s=patience.after_change_s, clock=self._whole.clock, patience=patience
        )

    def mark(self, **more: object) -> dict[str, object]:
        """What is written on the node: who works on it, for which instance, at what, since when, until when at most."""
        now = self.services.wall_clock()
        longest = timedelta(seconds=min(self._whole.remaining_s + self.options.undo_timeout_s, LONGEST_S))
        return {
            "version": 1,
            "instance_uuid": self.instance_uuid,
            GUARD: {str(self.instance_uuid): True},
            "operation": self.operation,
            "since": now.isoformat(timespec="seconds"),
            "until": (now + longest).isoformat(timespec="seconds"),
            "by": self.services.host,
            "process": this_process(),
            **self.managed_by,
            **more,
        }

    @property
    def managed_by(self) -> dict[str, str]:
        """For whom we work, as marks say it: nothing means for ourselves."""
        return {"manager": self.services.manager} if self.services.manager != BLOOMERY else {}

    # Telling

    def at_step(self, step: str, index: int, total: int) -> None:
        """A step begins."""
        self._at = Progress(self.operation, step, index + 1, total, 0.0)
        before_the_wait = (1 - self.WAIT_SHARE) * index / max(1, total - 1)
        self._tell(fraction=before_the_wait)

    def at_undo(self, step: str) -> None:
        """An undo begins."""
        self._at = Progress(self.operation, step, self._at.index, self._at.total, 0.0)
        self._fraction = 0.0
        self._tell(fraction=0.0)

    def on_look(self, node: Node) -> None:
        """A look at the node, while waiting for it."""
        self.node = node
        within = node.step_now
        detail, share = None, 0.0
        if within is not None:
            name, number, of = within
            detail = f"{name} ({number} of {of})" if number and of else name
            share = (number - 1) / of if number and of else 0.0
        self._tell(fraction=(1 - self.WAIT_SHARE) + self.WAIT_SHARE * share, detail=detail)

    def _tell(self, *, fraction: float, detail: str | None = None) -> None:
        node = self._node
        self._fraction = max(self._fraction, fraction)
        progress = Progress(
            operation=self.operation,
            step=self._at.step,
            index=self._at.index,
            total=self._at.total,
            elapsed_s=self._whole.elapsed_s,
            node_uuid=node.uuid if node else None,
            node_name=node.name if node else None,
            instance_uuid=self.instance_uuid,
            state=node.provision_state if node else None,
            detail=detail,
            fraction=self._fraction,
            undoing=self._is_undoing,
        )
        try:
            self.options.on_progress(progress)
        except Exception:
            # Whoever cannot be told any more, because his terminal is gone, say, must not keep the undos from being called.
            if not self._is_undoing:
                raise
            log.warning("%s: nobody takes its progress any more", self.operation, exc_info=True)

    # Waiting

    def wait_for(self, table: WaitTable, doing: str, failure: type[OperationFailed]) -> Node:
        """The node is where the table says that it should be.

        Raises:
            OperationFailed: Ironic gave up; of the given kind, with Ironic's reason.
            NodeTakenAway: somebody wants something else of the node.
            OperationTimedOut: the deadline passed.
        """
        node, meaning = self.services.watch.wait_for_state(
            self.node, table, deadline=self.deadline, doing=doing, on_look=self.on_look
        )
        self.node = node
        if meaning is Meaning.FAILED:
            step = node.step_now
            node = self._with_its_reason(node)
            raise failure(
                f"{self.operation} failed on node {node.label}" + (f" at step {step[0]!r}" if step else ""),
                reason=node.last_error or f"the node is in {node.provision_state!r} and Ironic gives no reason",
                node_uuid=node.uuid,
                request_id=self.asked_as,
            )
        if meaning is Meaning.TAKEN_AWAY:
            raise NodeTakenAway(
                f"somebody took node {node.label} away while {doing}",
                reason=f"it is in {node.provision_state!r}, with instance {node.instance_uuid or 'none'}",
                node_uuid=node.uuid,
            )
        return node

    def _with_its_reason(self, failed: Node) -> Node:
        """The node whose work has failed, with what Ironic says of that, if it comes to say it.

        Ironic writes the reason, takes it away while it switches the machine off, and writes it again before it lets go of
        the node.

        Source: Ironic 39.0.0, `deploy_utils.set_failed_state`.
        """

        def judge(now: Node) -> Meaning:
            has_moved = now.provision_state != failed.provision_state
            return Meaning.DONE if has_moved or now.last_error is not None or now.reservation is None else Meaning.WAIT

        if judge(failed) is Meaning.DONE:
            return failed
        try:
            now, _ = self.services.watch.wait(
                failed.uuid, judge, deadline=self.deadline.shorter(REASON_S), doing="waiting for the reason"
            )
        except OperationCancelled:
            raise
        except BloomeryError as problem:
            log.info("node %s failed, and why is not to be had: %s", failed.label, problem)
            return failed
        if now.provision_state != failed.provision_state:
            return failed
        self.node = now
        return now


R = TypeVar("R", bound=Run)


class _Reporter(Observer):
    """Hands what the engine tells to the run's listeners."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.further = run.services.observer
        self.undo_times = self.further.undo_times

    def begins(self, step: str, index: int, total: int) -> None:
        self.run.at_step(step, index, total)
        self.further.begins(step, index, total)

    def ended(self, step: str) -> None:
        self.further.ended(step)

    def unwinding(self, failure: BaseException) -> None:
        self.run.begin_undo()
        self.further.unwinding(failure)

    def undoing(self, step: str) -> None:
        self.run.at_undo(step)
        self.further.undoing(step)

    def undone(self, step: str) -> None:
        self.further.undone(step)


def carry_out(steps: Sequence[Step[R]], run: R, *, undo_on_failure: bool = True) -> None:
    """Every step is done, or what was begun is undone.

    Raises:
        BloomeryError: the step's own error, or RollbackIncomplete.
    """
    try:
        engine.run(run.operation, steps, run, _Reporter(run), undo_on_failure=undo_on_failure)
    except BloomeryError as failure:
        failure.located(operation=run.operation, step="", node_uuid=run.node.uuid if run.has_node else None)
        raise


def take_back(steps: Sequence[Step[R]], run: R) -> None:
    """Everything that the steps may have done is undone. For whoever finds an operation that another process left.

    Raises:
        RollbackIncomplete: something is left.
    """
    run.begin_undo()
    engine.unwind(run.operation, steps, run, _Reporter(run), None)


def unless_deleted(work: Callable[[R], None]) -> Callable[[R], None]:
    """The work on the node; or nothing, if Ironic does not know the node any more: then nothing of it is left."""

    @functools.wraps(work)
    def guarded(run: R) -> None:
        try:
            work(run)
        except NodeNotFound:
            log.warning("node %s was deleted; there is nothing left to take back on it", run.node.label)

    return guarded


def is_managed_by(manager: str, mark: Mapping[str, Any] | None) -> bool:
    """Whether the mark is that manager's; other managers' instances are not ours to recover or destroy."""
    return mark is not None and mark.get("manager", BLOOMERY) == manager


def as_mapping(value: object) -> Mapping[str, Any]:
    """The value, if it is a mapping: marks come from outside, where anybody may have written."""
    return value if isinstance(value, Mapping) else {}
