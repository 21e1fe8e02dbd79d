"""Every error that Bloomery raises. Catch at the level that you can act on.

BloomeryError
├─ RequestError              fix the request; nothing was changed
│  ├─ InvalidRequest           a value is no such thing, or two of them do not go together
│  ├─ NotSupported             this Ironic, driver or interface cannot do it
│  ├─ NoNodeFits               no node meets the request; says which condition left none
│  ├─ AccessDenied             the credentials are missing, wrong, or not enough
│  └─ NotFound                 what was named is not there
│     ├─ NodeNotFound
│     ├─ InstanceNotFound
│     ├─ NetworkNotFound         a network, subnet, VIF or security group
│     └─ ImageNotFound
├─ Conflict                  somebody or something else is in the way
│  ├─ AmbiguousName            several things have that name
│  ├─ NodeClaimed              the node belongs to another instance
│  ├─ NodeLocked               Ironic is busy with the node; try again later
│  ├─ NodeUnavailable          the node is in no state for this
│  ├─ VifInUse                 the VIF is plugged elsewhere, or not ours to take
│  └─ ConsoleInUse             somebody is on the console
├─ GatewayError              talking to a service failed
│  ├─ ServiceUnavailable       it cannot be reached, or says that it is overloaded; try again later
│  ├─ ServiceTooOld            its API lacks what Bloomery cannot do without
│  ├─ RequestRefused           it refused a request that should have been right
│  └─ UnexpectedReply          it answered what no such service answers
├─ OperationFailed           Ironic tried and said no
│  ├─ ValidationFailed         the node's interfaces do not accept the request
│  ├─ AllocationFailed         Ironic found no node after all
│  ├─ DeployFailed
│  │  └─ RebuildFailed
│  ├─ TearDownFailed
│  ├─ CleanFailed
│  ├─ RescueFailed             also unrescue
│  ├─ PowerFailed              the node is not in the power state that was asked for
│  ├─ InterfaceFailed          a VIF could not be plugged or unplugged
│  └─ ConsoleFailed
├─ OperationTimedOut         the deadline passed; says which step, how long, and the last state seen
├─ OperationCancelled        the caller asked to stop
├─ NodeTakenAway             somebody moved the node on while we worked
└─ RollbackIncomplete        a human is needed: says what is left and where
"""

from __future__ import annotations

from typing import ClassVar

from bloomery.plain import clipped, visible, without_places


class BloomeryError(Exception):
    """Something that Bloomery could not do.

    Args:
        message: what happened, as a clause without a full stop.
        reason: why, as far as it is known; often Ironic's own words.
        advice: what would be right, or what to do next. None takes the class's own advice.
        node_uuid: the node that it happened to.
        operation: the operation, such as "deploy".
        step: the step of the operation, such as "attach VIFs".
        request_id: the failed request's id in the service's logs.
    """

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later with nothing changed."""

    default_advice: ClassVar[str | None] = None

    for_users: ClassVar[str | None] = "something went wrong"
    """What the instance's user is told, who is not the operator. None: what happened and why, without names and addresses,
    because that is about his own instance; words of its own where the text may be about others, or about the inside."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        advice: str | None = None,
        node_uuid: str | None = None,
        operation: str | None = None,
        step: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = None if reason is None else clipped(reason)
        self.advice = advice if advice is not None else self.default_advice
        self.node_uuid = node_uuid
        self.operation = operation
        self.step = step
        self.request_id = request_id

    @property
    def text(self) -> str:
        """What, why, and what to do; as it came from outside, which may be several lines."""
        text = self.message
        if self.reason:
            text += f": {self.reason.rstrip('.')}"
        if self.advice:
            text += f". {self.advice}"
        return text.rstrip(".")

    def __str__(self) -> str:
        return visible(self.text)

    @property
    def where(self) -> dict[str, str]:
        """Where it happened, as far as that is known."""
        known = {"node": self.node_uuid, "operation": self.operation, "step": self.step, "request": self.request_id}
        return {name: value for name, value in known.items() if value}

    @property
    def in_full(self) -> str:
        """All of it in a line, for the operator's log."""
        where = ", ".join(f"{name} {visible(value)}" for name, value in self.where.items())
        return f"{self} ({where})" if where else str(self)

    @property
    def told_users(self) -> str:
        """What the instance's user may read: what happened, at which step, and by which id an operator finds the rest."""
        if self.for_users is not None:
            text = self.for_users
        else:
            text = without_places(self.message)
            if self.reason:
                text += f": {without_places(self.reason).rstrip('.')}"
        if self.step and self.step not in text:
            text += f" (at step {without_places(self.step)!r})"
        return f"{text} [{self.request_id}]" if self.request_id else text

    def located(self, *, operation: str, step: str, node_uuid: str | None) -> None:
        """Say where it happened, unless that is known already."""
        self.operation = self.operation or operation
        self.step = self.step or step
        self.node_uuid = self.node_uuid or node_uuid


class RequestError(BloomeryError):
    """The request has to change; nothing was changed by it."""

    for_users: ClassVar[str | None] = None


class InvalidRequest(RequestError, ValueError):
    """A value is no such thing, or two of them do not go together.

    Attributes:
        field: which value, as the request names it: `name`, `image.checksum`, `nics.0.fixed_ip`; None where that is not
            one value of a request.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        advice: str | None = None,
        node_uuid: str | None = None,
        operation: str | None = None,
        step: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message,
            reason=reason,
            advice=advice,
            node_uuid=node_uuid,
            operation=operation,
            step=step,
            request_id=request_id,
        )
        self.field = field

    def part_of(self, name: str) -> None:
        """The value is one of that part of the request."""
        self.field = name if self.field is None else f"{name}.{self.field}"


class NotSupported(RequestError):
    """This Ironic, driver or interface cannot do it."""


class NoNodeFits(RequestError):
    """No node meets the request.

    Attributes:
        refusals: of each node looked at, by name: the conditions that it does not meet.
    """

    for_users: ClassVar[str | None] = "no node fits the request"

    def __init__(
        self, message: str, *, refusals: dict[str, tuple[str, ...]] | None = None, **where: str | None
    ) -> None:
        super().__init__(message, **where)
        self.refusals = refusals or {}


class AccessDenied(RequestError):
    """The credentials are missing, wrong, or not enough."""

    for_users: ClassVar[str | None] = "the service that looks after the machines does not let us in"

    default_advice = "Check the cloud's credentials and roles; `bloomery doctor` says which of them work"


class NotFound(RequestError, LookupError):
    """What was named is not there."""


class NodeNotFound(NotFound):
    """Ironic shows no such node."""

    default_advice = "`bloomery nodes` lists the nodes that these credentials may see"


class InstanceNotFound(NotFound):
    """No node carries such an instance."""

    default_advice = "`bloomery list` lists the instances that these credentials may see"


class NetworkNotFound(NotFound):
    """Neutron shows no such network, subnet, VIF or security group."""


class ImageNotFound(NotFound):
    """There is no such image."""


class Conflict(BloomeryError):
    """Somebody or something else is in the way."""

    for_users: ClassVar[str | None] = "something else is in the way"


class AmbiguousName(Conflict):
    """Several things have that name."""

    for_users: ClassVar[str | None] = "several things have that name"

    default_advice = "Give the UUID instead"


class NodeClaimed(Conflict):
    """The node belongs to another instance."""

    for_users: ClassVar[str | None] = "the node belongs to another instance"


class NodeLocked(Conflict):
    """Ironic is busy with the node."""

    for_users: ClassVar[str | None] = "the machine is busy; try again later"

    retryable = True
    default_advice = "Try again when Ironic has finished what it does with the node"


class NodeUnavailable(Conflict):
    """The node is in no state for this."""

    for_users: ClassVar[str | None] = None


class VifInUse(Conflict):
    """The VIF is plugged elsewhere, or is not ours to take."""

    for_users: ClassVar[str | None] = "the port is in use elsewhere"


class ConsoleInUse(Conflict):
    """Somebody is on the console."""

    for_users: ClassVar[str | None] = "somebody is on the console"


class GatewayError(BloomeryError):
    """Talking to a service failed."""

    for_users: ClassVar[str | None] = "the service that looks after the machines cannot be used now"


class ServiceUnavailable(GatewayError):
    """The service cannot be reached, or says that it is overloaded."""

    retryable = True
    default_advice = "`bloomery doctor` checks the endpoints"


class ServiceTooOld(GatewayError):
    """The service's API lacks what Bloomery cannot do without."""


class RequestRefused(GatewayError):
    """The service refused a request.

    Attributes:
        status: the HTTP status of the answer.
    """

    def __init__(self, message: str, *, status: int | None = None, **where: str | None) -> None:
        super().__init__(message, **where)
        self.status = status


class UnexpectedReply(GatewayError):
    """The service answered what no such service answers."""

    default_advice = "Check that the endpoint is the service itself and not something in front of it"


class OperationFailed(BloomeryError):
    """Ironic tried and said no."""

    for_users: ClassVar[str | None] = None


class ValidationFailed(OperationFailed):
    """The node's interfaces do not accept the request."""


class AllocationFailed(OperationFailed):
    """Ironic found no node after all."""

    retryable = True


class DeployFailed(OperationFailed):
    """The deploy ended elsewhere than in `active`."""


class RebuildFailed(DeployFailed):
    """The rebuild ended elsewhere than in `active`."""


class TearDownFailed(OperationFailed):
    """Ironic could not tear the node down."""


class CleanFailed(OperationFailed):
    """The node is free of its instance, but its cleaning failed."""


class RescueFailed(OperationFailed):
    """The node did not come into, or out of, rescue mode."""


class PowerFailed(OperationFailed):
    """The node is not in the power state that was asked for."""


class InterfaceFailed(OperationFailed):
    """A VIF could not be plugged or unplugged."""


class ConsoleFailed(OperationFailed):
    """The console did not come up, or cannot be reached."""


class OperationTimedOut(BloomeryError):
    """The deadline passed."""

    for_users: ClassVar[str | None] = None

    retryable = True


class OperationCancelled(BloomeryError):
    """The caller asked to stop."""

    for_users: ClassVar[str | None] = None


class NodeTakenAway(BloomeryError):
    """Somebody moved the node on while we worked; it is left as he wants it."""

    for_users: ClassVar[str | None] = "the machine was taken away meanwhile"


class RollbackIncomplete(BloomeryError):
    """What was begun could not be undone.

    Attributes:
        left: what is left, a sentence each.
    """

    for_users: ClassVar[str | None] = "it failed, and an operator has to clean up after it"

    default_advice = "`bloomery doctor --leaks` lists what is left; `bloomery destroy` tries again"

    def __init__(self, message: str, *, left: tuple[str, ...] = (), **where: str | None) -> None:
        super().__init__(message, **where)
        self.left = left
