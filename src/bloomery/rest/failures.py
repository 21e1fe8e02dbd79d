"""How a request can fail, and what is done about it. The policy is the table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from bloomery.plain import clipped, visible


class Failure(Enum):
    """How a single request failed."""

    UNSENT = auto()
    """It never left: all connections were in use by others."""
    UNREACHED = auto()
    """It never arrived: connection refused, no route, no such name, no TLS."""
    UNTRUSTED = auto()
    """It never arrived: nobody we trust vouches for who is there."""
    LOST = auto()
    """It may have arrived and taken effect: connection reset, no answer in time."""
    GARBLED = auto()
    """It was answered, and the answer cannot be read: cut short, no JSON, JSON of another shape."""
    CONFLICT = auto()
    """409: locked, taken by somebody else, or done already."""
    OVERLOADED = auto()
    """429 or 503: no free worker, or nobody behind the balancer."""
    BROKEN = auto()
    """500, 502, 504: anything may have happened."""
    UNAUTHORISED = auto()
    """401, after a fresh token was tried."""
    FORBIDDEN = auto()
    """403."""
    MISSING = auto()
    """404."""
    UNACCEPTABLE = auto()
    """406: the API version is out of the service's range."""
    ABSENT = auto()
    """The cloud has no such service, as far as its catalogue or settings tell."""
    REJECTED = auto()
    """Any other 4xx: the request is not right, or not right for the present state."""


class Kind(Enum):
    """What a request does to the service."""

    READ = auto()
    """Nothing; and what it asks for should be there."""
    LOOK_UP = auto()
    """Nothing; and what it asks for may not be there."""
    WRITE = auto()
    """Changes something, and whether it did can be read back."""


class Decision(Enum):
    """What is done about a failed request."""

    AGAIN = auto()
    """Send it again, after a pause."""
    READ_BACK = auto()
    """See whether it took effect, and decide by that."""
    GIVE_UP = auto()
    """Say so."""


class RequestFailure(Exception):
    """A single request failed. Stays within the gateways: `bloomery.errors` has what leaves them.

    Attributes:
        failure: how.
        status: the HTTP status, where there was one.
        reason: the service's words, or the network's.
        request_id: the request's id in the service's logs.
        may_arrive_yet: whether the request may be waiting somewhere, to take effect after all: nobody answered in time.
        times: how often this kind of failure was met, this time included. Whoever reads back sets it to 0 where the reason
            is known and will pass, so that only failures without such a reason add up.
    """

    def __init__(
        self,
        failure: Failure,
        reason: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        may_arrive_yet: bool = False,
    ) -> None:
        super().__init__(visible(reason))
        self.failure = failure
        self.status = status
        self.reason = clipped(reason)
        self.request_id = request_id
        self.may_arrive_yet = may_arrive_yet
        self.times = 1

    @property
    def is_no_room(self) -> bool:
        """Whether the service itself says that it has no room now. Without a request id nobody but a balancer has spoken."""
        return self.failure is Failure.OVERLOADED and (self.status == 429 or self.request_id is not None)

    @property
    def is_answer(self) -> bool:
        """Whether the service has looked at the request, and refuses it as it is."""
        return self.failure in (Failure.CONFLICT, Failure.MISSING, Failure.REJECTED)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done about a failure, and how often in a row it is met before it is believed (None: until the deadline)."""

    decision: Decision
    at_most: int | None = None


_F = Failure
_AGAIN, _READ_BACK, _GIVE_UP = (Rule(decision) for decision in Decision)
_ONCE_MORE, _FEW = Rule(Decision.AGAIN, 2), Rule(Decision.AGAIN, 4)
_READ_BACK_FEW = Rule(Decision.READ_BACK, 7)

POLICY: Mapping[Failure, Mapping[Kind, Rule]] = MappingProxyType(
    {
        failure: MappingProxyType(dict(zip(Kind, rules, strict=True)))
        for failure, rules in {
            #                 a read       a look-up    a write
            _F.UNSENT:       (_AGAIN,     _AGAIN,     _AGAIN),
            _F.UNREACHED:    (_AGAIN,     _AGAIN,     _AGAIN),
            # Who is there does not change by asking; and what is sent may be what somebody in between waits for.
            _F.UNTRUSTED:    (_GIVE_UP,   _GIVE_UP,   _GIVE_UP),
            _F.LOST:         (_AGAIN,     _AGAIN,     _READ_BACK),
            _F.GARBLED:      (_FEW,       _FEW,       _READ_BACK_FEW),
            _F.CONFLICT:     (_AGAIN,     _AGAIN,     _READ_BACK),
            _F.OVERLOADED:   (_AGAIN,     _AGAIN,     _READ_BACK),
            # Between the attempts of a write the service has answered a read: it is up, and means its 500.
            _F.BROKEN:       (_AGAIN,     _AGAIN,     _READ_BACK_FEW),
            _F.UNAUTHORISED: (_ONCE_MORE, _ONCE_MORE, _ONCE_MORE),
            _F.FORBIDDEN:    (_GIVE_UP,   _GIVE_UP,   _GIVE_UP),
            # A replica that lags, or a balancer that restarts, answers 404 for what is there.
            _F.MISSING:      (_ONCE_MORE, _GIVE_UP,   Rule(Decision.READ_BACK, 2)),
            _F.UNACCEPTABLE: (_GIVE_UP,   _GIVE_UP,   _GIVE_UP),
            _F.ABSENT:       (_GIVE_UP,   _GIVE_UP,   _GIVE_UP),
            _F.REJECTED:     (_GIVE_UP,   _GIVE_UP,   Rule(Decision.READ_BACK, 1)),
        }.items()
    }
)  # fmt: skip
"""The policy: which failure x which kind of request -> what is done."""
