"""The moments at which nova-compute is stopped in its tracks: what it says to Ironic, in the order of a server's life."""

from __future__ import annotations

from collections.abc import Callable

from bloomery.testing import RecordedRequest
from nova_site.interrupter import Moment


def _writes(path: str) -> Callable[[RecordedRequest], bool]:
    return lambda request: any(each["path"].startswith(path) and "value" in each for each in request.body)


def _wants(target: str) -> Callable[[RecordedRequest], bool]:
    return lambda request: bool(request.body["target"] == target)


def _provision(name: str, target: str, *, is_done: bool) -> Moment:
    return Moment(name=name, method="PUT", path="/states/provision$", is_done=is_done, where=_wants(target))


_NODE = r"/nodes/[^/]+$"

CLAIMING = Moment(name="claiming", method="PATCH", path=_NODE, is_done=False, where=_writes("/instance_uuid"))
CLAIMED = Moment(name="claimed", method="PATCH", path=_NODE, where=_writes("/instance_uuid"))
WIRED = Moment(name="wired", method="POST", path="/vifs$")
DESCRIBED = Moment(name="described", method="PATCH", path=_NODE, where=_writes("/instance_info"))
ASKING_TO_DEPLOY = _provision("asking to deploy", "active", is_done=False)
ASKED_TO_DEPLOY = _provision("asked to deploy", "active", is_done=True)
ASKING_TO_REBUILD = _provision("asking to rebuild", "rebuild", is_done=False)
ASKED_TO_REBUILD = _provision("asked to rebuild", "rebuild", is_done=True)
ASKING_TO_RESCUE = _provision("asking to rescue", "rescue", is_done=False)
ASKED_TO_RESCUE = _provision("asked to rescue", "rescue", is_done=True)
ASKING_TO_UNRESCUE = _provision("asking to unrescue", "unrescue", is_done=False)
ASKED_TO_UNRESCUE = _provision("asked to unrescue", "unrescue", is_done=True)
ASKING_TO_TEAR_DOWN = _provision("asking to tear down", "deleted", is_done=False)
ASKED_TO_TEAR_DOWN = _provision("asked to tear down", "deleted", is_done=True)
