"""`/v1/instances`: what runs where, and everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request
from pydantic import SecretStr
from starlette.responses import Response

from bloomery.deadline import Cancellation
from bloomery.doors.http import schemas as s
from bloomery.doors.http.access import Principal
from bloomery.doors.http.answers import (
    READS,
    READS_NODE,
    USUAL,
    WRITES,
    Admin,
    Fields,
    IdempotencyKey,
    IfMatch,
    Limit,
    Marker,
    Member,
    Reader,
    TheService,
    answer,
    answer_of_view,
    check_if_match,
    chosen,
    fingerprint_of,
    next_page,
    page_of,
)
from bloomery.doors.http.bounds import check_image, deploy_within, group_within, nic_within, refuse_steps
from bloomery.doors.http.context import request_id_now
from bloomery.doors.http.following import View
from bloomery.doors.http.service import Service
from bloomery.doors.http.store import Row
from bloomery.doors.http.verbs import VERBS, Order, Way
from bloomery.doors.http.views import instance_row, operation_row
from bloomery.errors import InstanceNotFound, NotSupported, ServiceUnavailable
from bloomery.ironic import Node
from bloomery.library import Bloomery
from bloomery.operations.instances import Instance, Manager, find_to_destroy
from bloomery.operations.rescue import new_password
from bloomery.operations.run import ignore
from bloomery.plain import logger

log = logger(__name__)

router = APIRouter(prefix="/v1/instances", tags=["instances"])


async def _note_dry_run(
    request: Request,
    dry_run: Annotated[
        bool, Query(description="Change nothing, and answer with what would be sent to Ironic and Neutron.")
    ] = False,
) -> None:
    request.state.dry_run = dry_run


class AskedBefore(Exception):
    """The same request came with the same key before, and has led to an operation.

    Args:
        row: the operation.
        caller: who asks.
    """

    def __init__(self, row: Row, caller: Principal) -> None:
        super().__init__(row["id"])
        self.row = row
        self.caller = caller


def look_at_key(request: Request, service: TheService, caller: Member, idempotency_key: IdempotencyKey = None) -> None:
    """Return if the request is new by its key.

    Looked at before anything else: what the request was about may be gone since, as an instance that it had destroyed is, or
    not be as it was, because the request has changed it.

    Raises:
        AskedBefore: it is not.
        Refusal: another request came with that key.
    """
    if idempotency_key is not None:
        before = service.store.led_to(caller.key_holder, idempotency_key, fingerprint_of(request, caller))
        if before is not None:
            raise AskedBefore(before, caller)


def answer_again(request: Request, asked: AskedBefore) -> Response:
    """202, and the operation as it stands now."""
    return _accepted(request, asked.row, asked.caller, is_new=False)


CHANGES: dict[str, Any] = {
    "status_code": 202,
    "response_model": s.OperationRow,
    "responses": {**WRITES, 200: {"model": s.Rehearsal, "description": "With `dry_run`: what would be done."}},
    "dependencies": [Depends(_note_dry_run), Depends(look_at_key)],
}
"""What is said of every route that begins an operation."""

Name = Annotated[
    str, s.Field(min_length=1, max_length=255, description="UUID or name of the instance, or of its node.")
]
_FIELDS = tuple(s.InstanceRow.model_fields)


def find(service: Service, caller: Principal, name: str, *, afresh: bool = False) -> tuple[Instance, Node]:
    """The instance of that UUID or name, or on that node, if it is the caller's to see.

    Args:
        service: where to look.
        caller: who looks.
        name: what he calls it.
        afresh: whether Ironic is asked whose it is now, instead of trusting the last look.

    Raises:
        InstanceNotFound: there is none, or it is not his.
        AmbiguousName: there are several.
        ServiceUnavailable: there is none that was known when Ironic was last seen.
    """
    following = service.following
    found = following.seen().instance_by.get(name)
    if found is None:
        if following.failure is not None:
            raise following.failure.with_traceback(None)
        instance = service.api.show(name)
        following.look(instance.node_uuid)
        found = following.view.instance_by.get(instance.uuid)
    elif afresh and not caller.sees_all:
        following.look(found[1].uuid)
        found = following.view.instance_by.get(found[0].uuid)
    if found is None or not caller.sees(found[1]):
        raise InstanceNotFound(
            f"there is no instance {name!r}", advice="GET /v1/instances lists those that you may see"
        )
    return found


def shown(service: Service, caller: Principal, name: str) -> tuple[dict[str, Any], bool]:
    """The instance with its VIFs as Ironic and Neutron show it now; as it was last seen, while they cannot be asked.

    Returns:
        Its row, and whether it is as it was last seen.
    """
    instance, node = find(service, caller, name)
    if service.following.failure is None:
        try:
            return instance_row(service.api.show(instance.uuid), node, caller), False
        except ServiceUnavailable as problem:
            log.info("showing %s as it was last seen: %s", instance.uuid, problem)
    return instance_row(instance, node, caller), True


def begin(
    request: Request,
    service: Service,
    caller: Principal,
    order: Order,
    *,
    key: str | None,
    node: Node | None,
    name: str | None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """202, and the operation that was accepted, or that the key led to before; 200 and its rehearsal, if that is wanted.

    Raises:
        ServiceUnavailable: there is no connection to Ironic yet; nothing is accepted.
    """
    api = service.api
    if getattr(request.state, "dry_run", False):
        return answer(request, {"calls": _rehearsed(api, order, caller)})
    row, is_new = service.workers.accept(
        order.verb,
        order,
        principal=caller,
        request_id=request_id_now(),
        key=key,
        fingerprint=fingerprint_of(request, caller),
        node=node,
        name=name,
    )
    return _accepted(request, row, caller, is_new=is_new, extra=extra)


def _accepted(
    request: Request, row: Row, caller: Principal, *, is_new: bool, extra: Mapping[str, Any] | None = None
) -> Response:
    headers = {"Location": f"/v1/operations/{row['id']}"}
    if not is_new:
        headers["Idempotency-Replayed"] = "true"
    more = dict(extra or {}) if is_new else {}
    return answer(request, {**operation_row(row, caller), **more}, status=202, headers=headers, is_view=True)


def _rehearsed(api: Bloomery, order: Order, caller: Principal) -> list[dict[str, Any]]:
    """What the operation would send, as far as it goes without waiting."""
    if not VERBS[order.verb].is_rehearsed:
        raise NotSupported(f"there is no rehearsal of {order.verb!r}", advice="Leave dry_run out, or give false")
    with api.rehearsal() as (dry, calls):
        VERBS[order.verb].call(dry, order, Way(cancellation=Cancellation(), on_progress=ignore))
    return [{**asdict(call), "body": caller.shown(call.body)} for call in calls]


def ask(
    request: Request,
    service: Service,
    caller: Principal,
    verb: str,
    name: str,
    body: s.Given,
    *,
    key: str | None,
    if_match: str | None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """The same for an instance that is there."""
    instance, node = find(service, caller, name, afresh=True)
    if if_match is not None:
        check_if_match(if_match, shown(service, caller, instance.uuid)[0])
    owner = caller.project_id
    order = Order(verb=verb, body=body, instance=instance.uuid, owner=owner)
    return begin(request, service, caller, order, key=key, node=node, name=instance.name, extra=extra)


# Seen


@router.get("", response_model=s.InstanceList, responses=READS)
async def list_instances(
    request: Request,
    caller: Reader,
    state: Annotated[list[str] | None, Query(description="Only those in one of these provision states.")] = None,
    manager: Annotated[list[Manager] | None, Query(description="Only those that one of these deployed.")] = None,
    resource_class: Annotated[
        list[str] | None, Query(description="Only those on nodes of one of these classes.")
    ] = None,
    power_state: Annotated[str | None, Query(description="Only those with this power state.")] = None,
    name: Annotated[str | None, Query(description="Only those with this in their name.")] = None,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """List the instances, by name: those of others, such as Nova's, too."""

    def say(view: View) -> dict[str, Any]:
        found = view.instances
        filters = (state, manager, resource_class, power_state, name)
        if not caller.sees_all or any(one is not None for one in filters):
            found = tuple(
                pair
                for pair in found
                if caller.sees(pair[1])
                and (not state or pair[0].state in state)
                and (not manager or pair[0].manager in manager)
                and (not resource_class or pair[0].resource_class in resource_class)
                and power_state in (None, pair[0].power_state)
                and (name is None or name.lower() in pair[0].name.lower())
            )
        page, following = page_of(found, lambda pair: (pair[0].name, pair[0].uuid), marker, limit)
        rows = chosen((instance_row(instance, node, caller) for instance, node in page), fields, _FIELDS)
        return {"instances": rows, "next": next_page(request, following)}

    return answer_of_view(request, caller, say)


@router.get("/{instance}", response_model=s.InstanceRow, responses=READS_NODE)
def show_instance(
    request: Request, service: TheService, caller: Reader, instance: Name, fields: Fields = None
) -> Response:
    """Show an instance with its VIFs and their addresses."""
    row, is_view = shown(service, caller, instance)
    return answer(request, chosen([row], fields, _FIELDS)[0], is_view=is_view)


@router.get("/{instance}/problems", response_model=s.ProblemList, responses=READS_NODE)
def list_problems(request: Request, service: TheService, caller: Reader, instance: Name) -> Response:
    """What does not fit between the instance and its node."""
    found, _ = find(service, caller, instance)
    return answer(request, {"problems": caller.shown(service.api.problems(found.uuid))})


@router.get("/{instance}/interfaces", response_model=s.VifList, responses=READS_NODE)
def list_interfaces(request: Request, service: TheService, caller: Reader, instance: Name) -> Response:
    """The VIFs of the instance."""
    found, _ = find(service, caller, instance)
    return answer(request, {"interfaces": [asdict(vif) for vif in service.api.interfaces(found.uuid)]})


@router.get("/{instance}/security-groups", response_model=s.VifGroupsList, responses=READS_NODE)
def list_security_groups(request: Request, service: TheService, caller: Reader, instance: Name) -> Response:
    """The security groups of each VIF of the instance."""
    found, _ = find(service, caller, instance)
    rows = [
        {
            "vif_id": vif.vif_id,
            "name": vif.name,
            "groups": [{"id": group.id, "name": group.name} for group in groups],
        }
        for vif, groups in service.api.security_groups(found.uuid)
    ]
    return answer(request, {"vifs": rows})


@router.get("/{instance}/volumes", response_model=s.VolumeList, responses=READS_NODE)
def list_volumes(request: Request, service: TheService, caller: Reader, instance: Name) -> Response:
    """The remote volumes of the instance."""
    _, node = find(service, caller, instance)
    rows = [
        {name: getattr(target, name) for name in s.VolumeRow.model_fields}
        for target in service.api.volume_targets(node.uuid)
    ]
    return answer(request, {"volumes": rows})


@router.get("/{instance}/console", response_model=s.ConsoleView, responses=READS_NODE)
def show_console(request: Request, service: TheService, caller: Reader, instance: Name) -> Response:
    """Whether a console runs, and of which kind."""
    found, node = find(service, caller, instance)
    in_use = service.consoles.on(found.uuid)
    address = in_use or service.api.console(node.uuid)
    if address is None:
        return answer(request, {"enabled": False, "kind": None, "url": None, "in_use": False})
    url = address.url if caller.sees_all else None
    shown = {"enabled": True, "kind": address.kind, "url": url, "in_use": in_use is not None}
    return answer(request, shown)


# Changed


@router.post("", **CHANGES)
def deploy(
    request: Request, service: TheService, caller: Member, body: s.DeployBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Deploy an instance on a node that is named or found; if that fails, the node is as it was."""
    instance_uuid = str(uuid4())
    owner = caller.project_id
    if not caller.sees_all:
        body = deploy_within(service, caller, body)
    body.to_core(instance_uuid=instance_uuid, owner=owner)  # says now what is wrong with it
    order = Order(verb="deploy", body=body, instance=instance_uuid, owner=owner)
    return begin(request, service, caller, order, key=idempotency_key, node=None, name=body.name)


@router.delete("/{instance}", **CHANGES)
def destroy(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    wait_for_cleaning: Annotated[
        bool, Query(description="Whether it ends only when the node is clean and free.")
    ] = False,
    timeout_s: Annotated[float, Query(gt=0, le=86_400, description="What it may take.")] = 3600.0,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Destroy the instance, and all data on it; VIFs that were created for it go, others are only unplugged."""
    body = s.DestroyBody(wait_for_cleaning=wait_for_cleaning, timeout_s=timeout_s)
    try:
        return ask(request, service, caller, "destroy", instance, body, key=idempotency_key, if_match=if_match)
    except InstanceNotFound:
        if not caller.sees_all:
            raise
        # What is left of one that a killed process tore down half-way.
        ironic = service.api.services.ironic.within(service.api.services.asking(_LOOK_S))
        node, instance_uuid = find_to_destroy(ironic, instance)
        if instance_uuid is None:
            raise
    order = Order(verb="destroy", body=body, instance=instance_uuid)
    return begin(request, service, caller, order, key=idempotency_key, node=node, name=None)


_LOOK_S = 60.0


@router.post("/{instance}/rebuild", **CHANGES)
def rebuild(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.RebuildBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Write the image anew, or another one; node, VIFs and addresses stay."""
    body.to_core()
    if not caller.sees_all:
        check_image(service, caller, body.image)
        refuse_steps(body.deploy_steps)
    return ask(request, service, caller, "rebuild", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/rescue", **CHANGES)
def rescue(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.RescueBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Boot the rescue ramdisk. The password that opens it is in this answer, and nowhere else."""
    password = body.password.get_secret_value() if body.password is not None else new_password().reveal()
    body = body.model_copy(update={"password": SecretStr(password)})
    extra = {"password": password}
    return ask(request, service, caller, "rescue", instance, body, key=idempotency_key, if_match=if_match, extra=extra)


@router.post("/{instance}/unrescue", **CHANGES)
def unrescue(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.UnrescueBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Boot the machine's own system again."""
    return ask(request, service, caller, "unrescue", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/power", **CHANGES)
def set_power(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.PowerBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Power the machine on or off, or restart it."""
    verb = {s.PowerTarget.ON: "power on", s.PowerTarget.OFF: "power off", s.PowerTarget.REBOOT: "reboot"}[body.target]
    return ask(request, service, caller, verb, instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/interfaces", **CHANGES)
def attach_interface(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.AttachInterfaceBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Plug a VIF into a NIC of the instance."""
    body.to_core()
    if not caller.sees_all:
        body = nic_within(service, caller, body)
    return ask(request, service, caller, "attach interface", instance, body, key=idempotency_key, if_match=if_match)


@router.delete("/{instance}/interfaces/{vif}", **CHANGES)
def detach_interface(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    vif: Annotated[
        str, s.Field(min_length=1, max_length=255, description="Its id, name, MAC or one of its addresses.")
    ],
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Unplug a VIF; one that was created for the instance is deleted."""
    body = s.DetachInterfaceBody(vif=vif)
    return ask(request, service, caller, "detach interface", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/security-groups", **CHANGES)
def add_security_group(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.SecurityGroupBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Put a security group on the VIFs of the instance, or on one of them."""
    if not caller.sees_all:
        body = body.model_copy(update={"group": group_within(service, caller, body.group)})
    return ask(request, service, caller, "add security group", instance, body, key=idempotency_key, if_match=if_match)


@router.delete("/{instance}/security-groups/{group}", **CHANGES)
def remove_security_group(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    group: Annotated[str, s.Field(min_length=1, max_length=255, description="Name or id.")],
    vif: Annotated[str | None, Query(min_length=1, max_length=255, description="From this VIF only.")] = None,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Take a security group from the VIFs of the instance, or from one of them."""
    body = s.SecurityGroupBody(group=group, vif=vif)
    verb = "remove security group"
    return ask(request, service, caller, verb, instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/volumes", **CHANGES)
def attach_volume(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.AttachVolumeBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Give the instance, which must be off, a volume from its next start on."""
    body.to_core()
    return ask(request, service, caller, "attach volume", instance, body, key=idempotency_key, if_match=if_match)


@router.delete("/{instance}/volumes/{volume_id}", **CHANGES)
def detach_volume(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    volume_id: Annotated[str, s.Field(min_length=1, max_length=255, description="The storage's id of it.")],
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Take a volume from the instance, which must be off."""
    body = s.DetachVolumeBody(volume_id=volume_id)
    return ask(request, service, caller, "detach volume", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/console", **CHANGES)
def enable_console(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.ConsoleBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Start the console. One that runs already is left to its user, unless forced."""
    return ask(request, service, caller, "enable console", instance, body, key=idempotency_key, if_match=if_match)


@router.delete("/{instance}/console", **CHANGES)
def disable_console(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    force: Annotated[bool, Query(description="Takes it from whoever uses it.")] = False,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Stop the console. One that runs is left to its user, unless forced."""
    body = s.ConsoleBody(force=force)
    return ask(request, service, caller, "disable console", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/crash-dump", **CHANGES)
def crash_dump(
    request: Request,
    service: TheService,
    caller: Member,
    instance: Name,
    body: s.NoBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Send a non-maskable interrupt, which makes the machine's kernel write a dump, if it is set up to."""
    return ask(request, service, caller, "crash dump", instance, body, key=idempotency_key, if_match=if_match)


@router.post("/{instance}/adopt", **CHANGES)
def adopt(
    request: Request,
    service: TheService,
    caller: Admin,
    instance: Name,
    body: s.AdoptBody,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Response:
    """Take over an instance that somebody else deployed, such as Nova or metalsmith."""
    return ask(request, service, caller, "adopt", instance, body, key=idempotency_key, if_match=if_match)
