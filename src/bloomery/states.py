"""Ironic's provision and power states, and what each of them means for somebody who waits.

Every wait has a table from provision state to `Meaning`, and tearing down has one from provision state to what is done
about a node that is found there. The tables are whole: a test holds them to the states that the installed Ironic knows.
A state that Ironic adds later reads as `Provision.UNKNOWN`, which always means: wait, and say so.

Source: ironic common/states.py and common/state_machine.py (39.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum, auto
from types import MappingProxyType


class Provision(StrEnum):
    """Provision states; the values are what Ironic writes."""

    ENROLL = "enroll"
    VERIFYING = "verifying"
    MANAGEABLE = "manageable"
    AVAILABLE = "available"
    DEPLOYING = "deploying"
    DEPLOY_WAIT = "wait call-back"
    DEPLOY_HOLD = "deploy hold"
    DEPLOY_DONE = "deploy complete"
    DEPLOY_FAIL = "deploy failed"
    ACTIVE = "active"
    REBUILD = "rebuild"
    DELETING = "deleting"
    DELETED = "deleted"
    CLEANING = "cleaning"
    CLEAN_WAIT = "clean wait"
    CLEAN_HOLD = "clean hold"
    CLEAN_FAIL = "clean failed"
    ERROR = "error"
    INSPECTING = "inspecting"
    INSPECT_WAIT = "inspect wait"
    INSPECT_FAIL = "inspect failed"
    ADOPTING = "adopting"
    ADOPT_FAIL = "adopt failed"
    RESCUE = "rescue"
    RESCUING = "rescuing"
    RESCUE_WAIT = "rescue wait"
    RESCUE_FAIL = "rescue failed"
    UNRESCUING = "unrescuing"
    UNRESCUE_FAIL = "unrescue failed"
    SERVICING = "servicing"
    SERVICE_WAIT = "service wait"
    SERVICE_HOLD = "service hold"
    SERVICE_FAIL = "service failed"
    UNKNOWN = "(a state that this Bloomery does not know)"

    @classmethod
    def of(cls, wire: str | None) -> Provision:
        """The state that Ironic means; `UNKNOWN` for one that we have never heard of."""
        try:
            return cls(wire or cls.AVAILABLE)
        except ValueError:
            return cls.UNKNOWN


GAVE_UP = frozenset(
    {
        Provision.DEPLOY_FAIL, Provision.CLEAN_FAIL, Provision.ERROR, Provision.INSPECT_FAIL, Provision.ADOPT_FAIL,
        Provision.RESCUE_FAIL, Provision.UNRESCUE_FAIL, Provision.SERVICE_FAIL,
    }
)  # fmt: skip
"""States in which Ironic leaves a node for somebody to see to."""


class Power(StrEnum):
    """Power states and power targets; the values are what Ironic writes."""

    ON = "power on"
    OFF = "power off"
    REBOOT = "rebooting"
    SOFT_REBOOT = "soft rebooting"
    SOFT_OFF = "soft power off"
    ERROR = "error"


class Meaning(Enum):
    """What a provision state means for a wait."""

    DONE = auto()
    """What was waited for is there."""
    WAIT = auto()
    """It is on its way."""
    FAILED = auto()
    """Ironic gave up; `last_error` says why."""
    TAKEN_AWAY = auto()
    """Somebody wants something else of the node."""


WaitTable = Mapping[Provision, Meaning]


def _table(
    *, done: Iterable[Provision], wait: Iterable[Provision], failed: Iterable[Provision] = ()
) -> Mapping[Provision, Meaning]:
    """A table in which every state that is not named means that the node was taken away."""
    table = dict.fromkeys(Provision, Meaning.TAKEN_AWAY)
    for states, meaning in ((done, Meaning.DONE), (wait, Meaning.WAIT), (failed, Meaning.FAILED)):
        table.update(dict.fromkeys(states, meaning))
    table[Provision.UNKNOWN] = Meaning.WAIT
    return MappingProxyType(table)


_P = Provision
_CLEANING = (_P.CLEANING, _P.CLEAN_WAIT, _P.CLEAN_HOLD)
_FREE = (_P.AVAILABLE, _P.MANAGEABLE, _P.ENROLL, _P.VERIFYING, _P.INSPECTING, _P.INSPECT_WAIT, _P.INSPECT_FAIL)

WHILE_DEPLOYING: WaitTable = _table(
    done=[_P.ACTIVE],
    wait=[_P.DEPLOYING, _P.DEPLOY_WAIT, _P.DEPLOY_HOLD, _P.DEPLOY_DONE, _P.REBUILD],
    failed=[_P.DEPLOY_FAIL, _P.ERROR],
)

WHILE_TEARING_DOWN: WaitTable = _table(
    done=[*_FREE, *_CLEANING, _P.CLEAN_FAIL],
    wait=[_P.DELETING, _P.DELETED],
    failed=[_P.ERROR],
)

WHILE_CLEANING: WaitTable = _table(
    done=_FREE,
    wait=[*_CLEANING, _P.DELETING, _P.DELETED],
    failed=[_P.CLEAN_FAIL, _P.ERROR],
)

WHILE_RESCUING: WaitTable = _table(
    done=[_P.RESCUE],
    wait=[_P.RESCUING, _P.RESCUE_WAIT],
    failed=[_P.RESCUE_FAIL, _P.ERROR],
)

WHILE_UNRESCUING: WaitTable = _table(
    done=[_P.ACTIVE],
    wait=[_P.UNRESCUING],
    failed=[_P.UNRESCUE_FAIL, _P.ERROR],
)

WHILE_SETTLING: WaitTable = _table(
    done=[
        state
        for state in Provision
        if state
        not in {
            _P.VERIFYING, _P.DEPLOYING, _P.DEPLOY_DONE, _P.REBUILD, _P.DELETING, _P.DELETED, _P.CLEANING, _P.INSPECTING,
            _P.ADOPTING, _P.RESCUING, _P.UNRESCUING, _P.SERVICING,
        }
    ],
    wait=[
        _P.VERIFYING, _P.DEPLOYING, _P.DEPLOY_DONE, _P.REBUILD, _P.DELETING, _P.DELETED, _P.CLEANING, _P.INSPECTING,
        _P.ADOPTING, _P.RESCUING, _P.UNRESCUING, _P.SERVICING,
    ],
)  # fmt: skip
"""For whoever waits until Ironic's conductor has let go of the node, whatever comes of it."""

WAITS: Mapping[str, WaitTable] = MappingProxyType(
    {
        "deploying": WHILE_DEPLOYING,
        "tearing down": WHILE_TEARING_DOWN,
        "cleaning": WHILE_CLEANING,
        "rescuing": WHILE_RESCUING,
        "unrescuing": WHILE_UNRESCUING,
        "settling": WHILE_SETTLING,
    }
)
"""All of them, by what they wait for."""


class TearDown(Enum):
    """What is done about a node that is to be torn down."""

    ASK = auto()
    """Ask Ironic to tear it down."""
    ABORT = auto()
    """Ask Ironic to give up what it is doing, then look again."""
    SETTLE = auto()
    """Ironic takes no such request here: wait until it has got further, then look again."""
    UNDER_WAY = auto()
    """Ironic is tearing it down already."""
    FREE = auto()
    """No instance runs on it: only what was written and plugged has to go."""


ON_TEAR_DOWN: Mapping[Provision, TearDown] = MappingProxyType(
    {
        **dict.fromkeys(_FREE, TearDown.FREE),
        **dict.fromkeys([*_CLEANING, _P.CLEAN_FAIL], TearDown.FREE),
        **dict.fromkeys([_P.DELETING, _P.DELETED], TearDown.UNDER_WAY),
        **dict.fromkeys(
            [
                _P.ACTIVE, _P.DEPLOY_WAIT, _P.DEPLOY_FAIL, _P.ERROR, _P.RESCUE, _P.RESCUE_WAIT, _P.RESCUE_FAIL,
                _P.UNRESCUE_FAIL, _P.SERVICE_WAIT, _P.SERVICE_FAIL,
            ],
            TearDown.ASK,
        ),
        **dict.fromkeys([_P.DEPLOY_HOLD, _P.SERVICE_HOLD], TearDown.ABORT),
        **dict.fromkeys(
            [
                _P.DEPLOYING, _P.DEPLOY_DONE, _P.REBUILD, _P.RESCUING, _P.UNRESCUING, _P.SERVICING, _P.ADOPTING,
            ],
            TearDown.SETTLE,
        ),
        _P.ADOPT_FAIL: TearDown.FREE,
        _P.UNKNOWN: TearDown.ASK,
    }
)  # fmt: skip


MAY_BE_UPDATED = frozenset(
    {
        _P.ENROLL, _P.VERIFYING, _P.MANAGEABLE, _P.AVAILABLE, _P.ACTIVE, _P.ERROR, _P.RESCUE, _P.DEPLOY_FAIL, _P.CLEAN_FAIL,
        _P.INSPECT_FAIL, _P.INSPECT_WAIT, _P.ADOPT_FAIL, _P.RESCUE_FAIL, _P.UNRESCUE_FAIL, _P.SERVICE_HOLD, _P.SERVICE_FAIL,
    }
)  # fmt: skip
"""States in which Ironic lets a node's fields be changed; elsewhere a PATCH is answered 409 until it has moved on."""


_DEPLOYED = frozenset(
    {_P.DEPLOYING, _P.DEPLOY_WAIT, _P.DEPLOY_HOLD, _P.DEPLOY_DONE, _P.DEPLOY_FAIL, _P.REBUILD, _P.ACTIVE}
)
_TORN_DOWN = frozenset({_P.DELETING, _P.DELETED, *_CLEANING, _P.CLEAN_FAIL, *_FREE, _P.ERROR})

TAKEN_UP: Mapping[str, frozenset[Provision]] = MappingProxyType(
    {
        "active": _DEPLOYED,
        "rebuild": _DEPLOYED,
        "deleted": _TORN_DOWN,
        "rescue": frozenset({_P.RESCUING, _P.RESCUE_WAIT, _P.RESCUE, _P.RESCUE_FAIL}),
        "unrescue": frozenset({_P.UNRESCUING, _P.UNRESCUE_FAIL, _P.ACTIVE}),
        "abort": frozenset({_P.DEPLOY_FAIL, _P.RESCUE_FAIL, _P.SERVICE_FAIL, _P.INSPECT_FAIL, _P.ACTIVE, *_TORN_DOWN}),
    }
)
"""Of each verb: the states in which a node can be found, changed, after Ironic has taken the request up."""


class LeftBehind(Enum):
    """What is done about a node on which a process of ours began a deploy, and died."""

    FOLLOW = auto()
    """Ironic has taken it up: see what comes of it."""
    TAKE_BACK = auto()
    """It was never taken up, or has failed, or is being torn down: undo what was begun."""
    LEAVE = auto()
    """The instance ran, and somebody does something with it."""


ON_LEFT_BEHIND: Mapping[Provision, LeftBehind] = MappingProxyType(
    {
        **dict.fromkeys(Provision, LeftBehind.LEAVE),
        **dict.fromkeys([*_FREE, *_CLEANING, _P.CLEAN_FAIL, _P.DELETING, _P.DELETED], LeftBehind.TAKE_BACK),
        **dict.fromkeys([_P.DEPLOY_FAIL, _P.ERROR], LeftBehind.TAKE_BACK),
        **dict.fromkeys([_P.DEPLOYING, _P.DEPLOY_WAIT, _P.DEPLOY_HOLD, _P.DEPLOY_DONE], LeftBehind.FOLLOW),
    }
)
