"""What can be asked of an instance: per verb, what its request holds, which call of the library does it, and how one goes
on that a process left half done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr
from pydantic import Secret as Hidden

from bloomery.deadline import Cancellation
from bloomery.doors.http import schemas as s
from bloomery.doors.http.problems import broken_off, problem_of
from bloomery.errors import NotFound
from bloomery.library import Bloomery
from bloomery.operations.instances import Instance
from bloomery.operations.run import OnProgress
from bloomery.secret import Secret
from bloomery.states import Power


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Something that is to be done.

    Attributes:
        verb: what.
        body: the request.
        instance: the UUID of the instance; None where it is about none.
        owner: the project that it is done for; None is nobody in particular.
    """

    verb: str
    body: s.Given
    instance: str | None
    owner: str | None = None

    @property
    def named(self) -> str:
        """The UUID of the instance, for verbs that are about one."""
        if self.instance is None:
            raise TypeError(f"{self.verb} is about an instance")
        return self.instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the library is to go about it."""

    cancellation: Cancellation
    on_progress: OnProgress

    def timed(self, order: Order) -> dict[str, Any]:
        """What every long call of the library takes."""
        return {
            "timeout_s": getattr(order.body, "timeout_s"),  # noqa: B009  bodies of these verbs have it
            "cancellation": self.cancellation,
            "on_progress": self.on_progress,
        }


B = TypeVar("B", bound=s.Given)

Result = dict[str, Any] | None
Call = Callable[[Bloomery, Order, Way], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One of the things that can be asked.

    Attributes:
        body: what its request holds.
        call: does it.
        go_on: does the rest of one that was begun by a process that is no more; None where that cannot be told from what
            Ironic shows, so that the answer is "look".
        needs_instance: whether the instance has to be there before.
        is_rehearsed: whether it can be asked what it would do.
    """

    body: type[s.Given]
    call: Call
    go_on: Call | None
    needs_instance: bool = True
    is_rehearsed: bool = False


def _result(instance: Instance | None) -> Result:
    if instance is None:
        return None
    return {
        "instance_uuid": instance.uuid,
        "name": instance.name,
        "node_uuid": instance.node_uuid,
        "node_name": instance.node_name,
        "state": instance.state,
    }


def _deploy(api: Bloomery, order: Order, way: Way) -> Result:
    body = _as(s.DeployBody, order)
    request = body.to_core(instance_uuid=order.named, owner=order.owner)
    return _result(api.deploy(request, keep_failed=body.keep_failed, **way.timed(order)))


def _finish(api: Bloomery, order: Order, way: Way) -> Result:
    return _result(api.finish(order.verb, order.named, **way.timed(order)))


def _destroy(api: Bloomery, order: Order, way: Way) -> Result:
    body = _as(s.DestroyBody, order)
    api.destroy(order.named, wait_for_cleaning=body.wait_for_cleaning, **way.timed(order))
    return None


def _destroy_rest(api: Bloomery, order: Order, way: Way) -> Result:
    try:
        return _destroy(api, order, way)
    except NotFound:
        return None  # it was there when it was asked for, and is gone: that is what was wanted


def _rebuild(api: Bloomery, order: Order, way: Way) -> Result:
    return _result(api.rebuild(order.named, _as(s.RebuildBody, order).to_core(), **way.timed(order)))


def _rescue(api: Bloomery, order: Order, way: Way) -> Result:
    password = _as(s.RescueBody, order).password
    secret = Secret(password.get_secret_value()) if password is not None else None
    api.rescue(order.named, secret, **way.timed(order))
    return None


def _unrescue(api: Bloomery, order: Order, way: Way) -> Result:
    api.unrescue(order.named, **way.timed(order))
    return None


def _power(api: Bloomery, order: Order, way: Way) -> Result:
    body = _as(s.PowerBody, order)
    match body.target:
        case s.PowerTarget.ON:
            api.power_on(order.named, **way.timed(order))
        case s.PowerTarget.OFF:
            api.power_off(order.named, soft_s=body.soft_s, **way.timed(order))
        case s.PowerTarget.REBOOT:
            api.reboot(order.named, soft_s=body.soft_s, **way.timed(order))
    return None


def _reboot_rest(api: Bloomery, order: Order, way: Way) -> Result:
    """A machine that was shut down for it is on again; of one that is on, nobody can tell whether it has been restarted."""
    now = api.show(order.named)
    if Power.OFF.value not in (now.power_state, now.target_power_state):
        raise broken_off("whether the machine has been restarted cannot be told")
    api.power_on(order.named, **way.timed(order))
    return None


def _attach_interface(api: Bloomery, order: Order, _way: Way) -> Result:
    return asdict(api.attach_interface(order.named, _as(s.AttachInterfaceBody, order).to_core()))


def _detach_interface(api: Bloomery, order: Order, _way: Way) -> Result:
    api.detach_interface(order.named, _as(s.DetachInterfaceBody, order).vif)
    return None


def _add_security_group(api: Bloomery, order: Order, _way: Way) -> Result:
    body = _as(s.SecurityGroupBody, order)
    api.add_security_group(order.named, body.group, vif=body.vif)
    return None


def _remove_security_group(api: Bloomery, order: Order, _way: Way) -> Result:
    body = _as(s.SecurityGroupBody, order)
    api.remove_security_group(order.named, body.group, vif=body.vif)
    return None


def _attach_volume(api: Bloomery, order: Order, _way: Way) -> Result:
    target = api.attach_volume(order.named, _as(s.AttachVolumeBody, order).to_core())
    return {"uuid": target.uuid, "volume_id": target.volume_id}


def _detach_volume(api: Bloomery, order: Order, _way: Way) -> Result:
    api.detach_volume(order.named, _as(s.DetachVolumeBody, order).volume_id)
    return None


def _node_of(api: Bloomery, order: Order) -> str:
    return api.show(order.named).node_uuid


def _enable_console(api: Bloomery, order: Order, _way: Way) -> Result:
    return {"kind": api.enable_console(_node_of(api, order), force=_as(s.ConsoleBody, order).force).kind}


def _disable_console(api: Bloomery, order: Order, _way: Way) -> Result:
    api.disable_console(_node_of(api, order), force=_as(s.ConsoleBody, order).force)
    return None


def _crash_dump(api: Bloomery, order: Order, _way: Way) -> Result:
    api.crash_dump(order.named)
    return None


def _adopt(api: Bloomery, order: Order, _way: Way) -> Result:
    return _result(api.adopt(order.named, name=_as(s.AdoptBody, order).name))


def _recover(api: Bloomery, order: Order, way: Way) -> Result:
    older_than_s = _as(s.RecoverBody, order).older_than_s
    seen_to = api.recover(older_than_s=older_than_s, **way.timed(order))
    return {"nodes": [{"node": node, "problem": problem_of(problem) if problem else None} for node, problem in seen_to]}


VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "deploy": Verb(body=s.DeployBody, call=_deploy, go_on=_finish, needs_instance=False, is_rehearsed=True),
        "destroy": Verb(body=s.DestroyBody, call=_destroy, go_on=_destroy_rest, is_rehearsed=True),
        "rebuild": Verb(body=s.RebuildBody, call=_rebuild, go_on=_finish, is_rehearsed=True),
        "rescue": Verb(body=s.RescueBody, call=_rescue, go_on=_finish, is_rehearsed=True),
        "unrescue": Verb(body=s.UnrescueBody, call=_unrescue, go_on=_finish, is_rehearsed=True),
        "power on": Verb(body=s.PowerBody, call=_power, go_on=_power, is_rehearsed=True),
        "power off": Verb(body=s.PowerBody, call=_power, go_on=_power, is_rehearsed=True),
        # A second reboot would hit a machine that starts.
        "reboot": Verb(body=s.PowerBody, call=_power, go_on=_reboot_rest, is_rehearsed=True),
        # A second VIF would be created.
        "attach interface": Verb(body=s.AttachInterfaceBody, call=_attach_interface, go_on=None),
        "detach interface": Verb(body=s.DetachInterfaceBody, call=_detach_interface, go_on=None),
        "add security group": Verb(body=s.SecurityGroupBody, call=_add_security_group, go_on=_add_security_group),
        "remove security group": Verb(
            body=s.SecurityGroupBody, call=_remove_security_group, go_on=_remove_security_group
        ),
        "attach volume": Verb(body=s.AttachVolumeBody, call=_attach_volume, go_on=None),
        "detach volume": Verb(body=s.DetachVolumeBody, call=_detach_volume, go_on=None),
        "enable console": Verb(body=s.ConsoleBody, call=_enable_console, go_on=None),
        "disable console": Verb(body=s.ConsoleBody, call=_disable_console, go_on=None),
        "crash dump": Verb(body=s.NoBody, call=_crash_dump, go_on=None),
        "recover": Verb(body=s.RecoverBody, call=_recover, go_on=_recover, needs_instance=False),
        "adopt": Verb(body=s.AdoptBody, call=_adopt, go_on=_adopt),
    }
)
"""Every verb, by its name."""


def _as(kind: type[B], order: Order) -> B:
    if not isinstance(order.body, kind):
        raise TypeError(f"{order.verb} has a {type(order.body).__name__}")
    return order.body


# Requests in the log


def kept(body: BaseModel) -> tuple[dict[str, Any], bool]:
    """What the log keeps of a request, which is everything but secrets; and whether it has any."""
    found, has_secrets = _without_secrets({name: getattr(body, name) for name in body.model_fields_set})
    return found, has_secrets


def _without_secrets(value: Any) -> tuple[Any, bool]:
    if isinstance(value, SecretStr | Hidden):
        return None, bool(value.get_secret_value())
    if isinstance(value, BaseModel):
        return kept(value)
    if isinstance(value, Mapping):
        parts = {name: _without_secrets(part) for name, part in value.items()}
        return {
            name: part for name, (part, _) in parts.items() if not isinstance(value[name], SecretStr | Hidden)
        }, any(secret for _, secret in parts.values())
    if isinstance(value, list):
        listed = [_without_secrets(part) for part in value]
        return [part for part, _ in listed], any(secret for _, secret in listed)
    return value, False
