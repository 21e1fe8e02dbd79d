"""Ironic's provision state machine as tables: which verb leads from which state where.

Written out here a second time, apart from `bloomery.states`, so that a mistake there does not hide in its own mirror;
a test holds both to the installed Ironic.

Source: ironic common/states.py and common/state_machine.py (39.0).
"""

from __future__ import annotations

from collections.abc import Mapping

ENROLL = "enroll"
VERIFYING = "verifying"
MANAGEABLE = "manageable"
AVAILABLE = "available"
ACTIVE = "active"
DEPLOYING = "deploying"
DEPLOY_WAIT = "wait call-back"
DEPLOY_HOLD = "deploy hold"
DEPLOY_FAIL = "deploy failed"
DELETING = "deleting"
ERROR = "error"
CLEANING = "cleaning"
CLEAN_WAIT = "clean wait"
CLEAN_HOLD = "clean hold"
CLEAN_FAIL = "clean failed"
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

POWER_ON = "power on"
POWER_OFF = "power off"
REBOOT = "rebooting"
SOFT_REBOOT = "soft rebooting"
SOFT_POWER_OFF = "soft power off"
POWER_TARGETS = (POWER_ON, POWER_OFF, REBOOT, SOFT_REBOOT, SOFT_POWER_OFF)

STABLE_STATES = frozenset({ENROLL, MANAGEABLE, AVAILABLE, ACTIVE, ERROR, RESCUE})
UNSTABLE_STATES = frozenset(
    {
        DEPLOYING,
        DEPLOY_WAIT,
        CLEANING,
        CLEAN_WAIT,
        VERIFYING,
        DELETING,
        INSPECTING,
        INSPECT_WAIT,
        ADOPTING,
        RESCUING,
        RESCUE_WAIT,
        UNRESCUING,
        SERVICING,
        SERVICE_WAIT,
    }
)
UPDATE_ALLOWED_STATES = frozenset(
    {
        DEPLOY_FAIL,
        INSPECTING,
        INSPECT_FAIL,
        INSPECT_WAIT,
        CLEAN_FAIL,
        ERROR,
        VERIFYING,
        ADOPT_FAIL,
        RESCUE_FAIL,
        UNRESCUE_FAIL,
        "service",
        SERVICE_HOLD,
        SERVICE_FAIL,
    }
)
DELETE_ALLOWED_STATES = (MANAGEABLE, ENROLL, ADOPT_FAIL)
FAILURE_STATES = frozenset(
    {DEPLOY_FAIL, CLEAN_FAIL, INSPECT_FAIL, RESCUE_FAIL, UNRESCUE_FAIL, ADOPT_FAIL, SERVICE_FAIL}
)
STUCK_STATES = frozenset(
    {DEPLOYING, CLEANING, VERIFYING, INSPECTING, ADOPTING, RESCUING, UNRESCUING, DELETING, SERVICING}
)
"""States that a conductor, when it comes back after its death, moves to failure."""

TARGETS: Mapping[str, str] = {
    VERIFYING: MANAGEABLE,
    **dict.fromkeys((DEPLOYING, DEPLOY_WAIT, DEPLOY_FAIL, DEPLOY_HOLD), ACTIVE),
    **dict.fromkeys((CLEANING, CLEAN_WAIT, CLEAN_FAIL, CLEAN_HOLD, DELETING), AVAILABLE),
    **dict.fromkeys((INSPECTING, INSPECT_FAIL, INSPECT_WAIT), MANAGEABLE),
    **dict.fromkeys((ADOPTING, ADOPT_FAIL), ACTIVE),
    **dict.fromkeys((RESCUING, RESCUE_WAIT, RESCUE_FAIL), RESCUE),
    **dict.fromkeys((UNRESCUING, UNRESCUE_FAIL), ACTIVE),
    **dict.fromkeys((SERVICING, SERVICE_WAIT, SERVICE_FAIL, SERVICE_HOLD), ACTIVE),
}
"""Where a node in an unstable state is on its way to."""

ALL_STATES = STABLE_STATES | frozenset(TARGETS)

TRANSITIONS: Mapping[str, Mapping[str, str]] = {
    ENROLL: {"manage": VERIFYING},
    VERIFYING: {"done": MANAGEABLE, "fail": ENROLL},
    MANAGEABLE: {"provide": CLEANING, "clean": CLEANING, "inspect": INSPECTING, "adopt": ADOPTING},
    AVAILABLE: {"deploy": DEPLOYING, "manage": MANAGEABLE},
    DEPLOYING: {"fail": DEPLOY_FAIL, "wait": DEPLOY_WAIT, "hold": DEPLOY_HOLD, "done": ACTIVE},
    DEPLOY_WAIT: {
        "hold": DEPLOY_HOLD,
        "resume": DEPLOYING,
        "fail": DEPLOY_FAIL,
        "abort": DEPLOY_FAIL,
        "delete": DELETING,
    },
    DEPLOY_HOLD: {"unhold": DEPLOY_WAIT, "abort": DEPLOY_FAIL},
    DEPLOY_FAIL: {"rebuild": DEPLOYING, "deploy": DEPLOYING, "delete": DELETING},
    ACTIVE: {"rebuild": DEPLOYING, "delete": DELETING, "rescue": RESCUING, "service": SERVICING},
    DELETING: {"fail": ERROR, "clean": CLEANING},
    ERROR: {"rebuild": DEPLOYING, "delete": DELETING},
    CLEANING: {
        "done": AVAILABLE,
        "fail": CLEAN_FAIL,
        "wait": CLEAN_WAIT,
        "hold": CLEAN_HOLD,
        "manage": MANAGEABLE,
    },
    CLEAN_WAIT: {"fail": CLEAN_FAIL, "abort": CLEAN_FAIL, "hold": CLEAN_HOLD, "resume": CLEANING},
    CLEAN_HOLD: {"abort": CLEAN_FAIL, "unhold": CLEAN_WAIT},
    CLEAN_FAIL: {"manage": MANAGEABLE},
    INSPECTING: {"done": MANAGEABLE, "fail": INSPECT_FAIL, "wait": INSPECT_WAIT},
    INSPECT_WAIT: {"done": MANAGEABLE, "fail": INSPECT_FAIL, "abort": INSPECT_FAIL, "resume": INSPECTING},
    INSPECT_FAIL: {"manage": MANAGEABLE, "inspect": INSPECTING},
    ADOPTING: {"done": ACTIVE, "fail": ADOPT_FAIL},
    ADOPT_FAIL: {"adopt": ADOPTING, "manage": MANAGEABLE},
    RESCUING: {"done": RESCUE, "wait": RESCUE_WAIT, "fail": RESCUE_FAIL},
    RESCUE_WAIT: {"resume": RESCUING, "fail": RESCUE_FAIL, "abort": RESCUE_FAIL, "delete": DELETING},
    RESCUE: {"rescue": RESCUING, "delete": DELETING, "unrescue": UNRESCUING},
    RESCUE_FAIL: {"rescue": RESCUING, "unrescue": UNRESCUING, "delete": DELETING},
    UNRESCUING: {"done": ACTIVE, "fail": UNRESCUE_FAIL},
    UNRESCUE_FAIL: {"rescue": RESCUING, "unrescue": UNRESCUING, "delete": DELETING},
    SERVICING: {"done": ACTIVE, "fail": SERVICE_FAIL, "wait": SERVICE_WAIT, "hold": SERVICE_HOLD},
    SERVICE_WAIT: {
        "hold": SERVICE_HOLD,
        "resume": SERVICING,
        "fail": SERVICE_FAIL,
        "abort": SERVICE_FAIL,
        "delete": DELETING,
    },
    SERVICE_HOLD: {"service": SERVICING, "unhold": SERVICE_WAIT, "fail": SERVICE_FAIL, "abort": SERVICE_FAIL},
    SERVICE_FAIL: {
        "service": SERVICING,
        "rescue": RESCUING,
        "wait": SERVICE_WAIT,
        "hold": SERVICE_HOLD,
        "delete": DELETING,
        "abort": ACTIVE,
    },
}
"""For each state: which event leads where."""

VERBS: Mapping[str, str] = {
    "active": "deploy",
    "deploy": "deploy",
    "deleted": "delete",
    "undeploy": "delete",
    "manage": "manage",
    "provide": "provide",
    "inspect": "inspect",
    "abort": "abort",
    "clean": "clean",
    "adopt": "adopt",
    "rescue": "rescue",
    "unrescue": "unrescue",
    "unhold": "unhold",
    "service": "service",
}
"""What a client asks for as `target`, and the event that it means; `rebuild` means itself."""


def next_state(state: str, event: str) -> str | None:
    """The state that the event leads to; None if it is not possible in this state."""
    return TRANSITIONS.get(state, {}).get(event)
