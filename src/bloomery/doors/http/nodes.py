"""`/v1/nodes` and what is asked of all of them: the fleet at a glance, and why nodes do not fit a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bloomery.doors.http import schemas as s
from bloomery.doors.http.access import Principal
from bloomery.doors.http.answers import (
    READS,
    USUAL,
    Fields,
    Limit,
    Marker,
    Reader,
    TheService,
    answer,
    answer_of_view,
    chosen,
    next_page,
    page_of,
)
from bloomery.doors.http.following import View
from bloomery.doors.http.service import Service
from bloomery.doors.http.views import nic_rows, node_row
from bloomery.errors import NodeNotFound
from bloomery.fleet import Wanted, check_trait, troubles, why_not
from bloomery.ironic import Node

router = APIRouter(prefix="/v1", tags=["nodes"])

Name = Annotated[str, s.Field(min_length=1, max_length=255, description="Name or UUID of the node.")]
_FIELDS = tuple(s.NodeRow.model_fields)
_ANY = Wanted()
IN_TROUBLE = 100


def find(service: Service, caller: Principal, name: str) -> Node:
    """The node of that name or UUID, if it is the caller's to see.

    Raises:
        NodeNotFound: there is none, or it is not his.
        ServiceUnavailable: there is none that was known when Ironic was last seen.
    """
    following = service.following
    found = following.seen().node_by.get(name)
    if found is None:
        if following.failure is not None:
            raise following.failure.with_traceback(None)
        following.look(service.api.node(name).uuid)
        found = following.view.node_by.get(name)
    if found is None or not caller.sees(found):
        raise NodeNotFound(f"there is no node {name!r}", advice="GET /v1/nodes lists those that you may see")
    return found


@router.get("/nodes", response_model=s.NodeList, responses=READS)
async def list_nodes(
    request: Request,
    caller: Reader,
    q: Annotated[
        str | None,
        Query(
            max_length=255,
            description="Only those with this in name, state, class, a trait, owner, lessee or instance.",
        ),
    ] = None,
    state: Annotated[list[str] | None, Query(description="Only those in one of these provision states.")] = None,
    resource_class: Annotated[list[str] | None, Query(description="Only those of one of these classes.")] = None,
    trait: Annotated[list[str] | None, Query(description="Only those with all of these traits.")] = None,
    power_state: Annotated[str | None, Query(description="Only those with this power state.")] = None,
    maintenance: Annotated[bool | None, Query(description="Only those in maintenance, or out of it.")] = None,
    free: Annotated[bool | None, Query(description="Only those that could take an instance now, or could not.")] = None,
    used: Annotated[bool | None, Query(description="Only those that carry an instance, or do not.")] = None,
    trouble: Annotated[bool | None, Query(description="Only those that need a hand, or do not.")] = None,
    limit: Limit = USUAL,
    marker: Marker = None,
    fields: Fields = None,
) -> Response:
    """List the nodes, by name."""

    def fits(node: Node) -> bool:
        return (
            caller.sees(node)
            and (not q or _has(node, q.lower()))
            and (not state or (node.provision_state or "available") in state)
            and (not resource_class or node.resource_class in resource_class)
            and (not trait or set(trait) <= set(node.traits or ()))
            and power_state in (None, node.power_state)
            and maintenance in (None, node.maintenance)
            and (free is None or free is not bool(why_not(node, _ANY)))
            and (used is None or used is (node.instance_uuid is not None))
            and (trouble is None or trouble is bool(troubles(node)))
        )

    def say(view: View) -> dict[str, Any]:
        filters = (q, state, resource_class, trait, power_state, maintenance, free, used, trouble)
        is_all = caller.sees_all and all(one is None for one in filters)
        found = view.nodes if is_all else tuple(filter(fits, view.nodes))
        page, following = page_of(found, lambda node: (node.label, node.uuid), marker, limit)
        rows = chosen((node_row(node, caller) for node in page), fields, _FIELDS)
        return {"nodes": rows, "next": next_page(request, following)}

    return answer_of_view(request, caller, say)


def _has(node: Node, text: str) -> bool:
    mark = node.mark or {}
    words: Iterable[object] = (
        node.name,
        node.uuid,
        node.provision_state or "available",
        node.resource_class,
        node.owner,
        node.lessee,
        node.instance_uuid,
        node.instance_name,
        mark.get("name"),
        node.instance_info.get("display_name"),
        *(node.traits or ()),
    )
    return any(text in str(word).lower() for word in words if word is not None)


@router.get("/nodes/{node}", response_model=s.NodeRow, responses=READS)
def show_node(request: Request, service: TheService, caller: Reader, node: Name, fields: Fields = None) -> Response:
    """Show a node."""
    row = node_row(find(service, caller, node), caller)
    return answer(request, chosen([row], fields, _FIELDS)[0], is_view=True)


@router.get("/nodes/{node}/validation", response_model=s.NodeValidation, responses=READS)
def validate_node(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """What each of the node's interfaces says."""
    verdicts = service.api.validate_node(find(service, caller, node).uuid)
    rows = {
        name: {"result": verdict.result, "reason": caller.shown(verdict.reason)} for name, verdict in verdicts.items()
    }
    return answer(request, {"interfaces": rows})


@router.get("/nodes/{node}/nics", response_model=s.NicList, responses=READS)
def list_nics(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """The NICs and bonds of the node, and what is on them."""
    return answer(request, {"nics": nic_rows(*service.api.nics(find(service, caller, node).uuid))})


@router.get("/nodes/{node}/inventory", response_model=s.Inventory, responses=READS)
def show_inventory(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """The node's hardware, as inspection found it."""
    found = service.api.inventory(find(service, caller, node).uuid)
    inventory = (found or {}).get("inventory", found)
    if isinstance(inventory, dict):
        # Inspection finds where the BMC is, too.
        inventory = {name: part for name, part in inventory.items() if not name.startswith("bmc_")}
    return answer(request, {"inventory": inventory})


@router.get("/nodes/{node}/history", response_model=s.History, responses=READS)
def show_history(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """What Ironic itself noted about the node, mostly errors."""
    noted = sorted(
        service.api.history(find(service, caller, node).uuid), key=lambda one: one.created_at or "", reverse=True
    )
    rows = [
        {
            "at": one.created_at,
            "severity": one.severity,
            "event_type": one.event_type,
            "event": caller.shown(one.event),
            "user": one.user,
        }
        for one in noted
    ]
    return answer(request, {"history": rows})


@router.get("/nodes/{node}/firmware", response_model=s.FirmwareList, responses=READS)
def show_firmware(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """The firmware of the node's parts, as far as Ironic has noted it."""
    found = service.api.firmware(find(service, caller, node).uuid)
    rows = [{name: getattr(one, name) for name in s.FirmwareRow.model_fields} for one in found]
    return answer(request, {"firmware": rows})


@router.get("/nodes/{node}/connector", response_model=s.ConnectorView, responses=READS)
def show_connector(request: Request, service: TheService, caller: Reader, node: Name) -> Response:
    """How the storage is to know the machine."""
    connector = service.api.volume_connector(find(service, caller, node).uuid)
    return answer(request, {**asdict(connector), "multipath": connector.multipath})


# All of them


@router.get("/why-not", response_model=s.WhyNot, responses=READS)
async def explain(
    request: Request,
    caller: Reader,
    resource_class: Annotated[str | None, Query(max_length=255, description="The node's resource class.")] = None,
    trait: Annotated[list[str] | None, Query(max_length=64, description="Traits, all of which it has.")] = None,
    capability: Annotated[
        list[str] | None, Query(max_length=64, description="Capabilities, as `name:value`, all of which it has.")
    ] = None,
    owner: Annotated[str | None, Query(max_length=255, description="The project that owns it.")] = None,
    conductor_group: Annotated[str | None, Query(max_length=255, description="The group that serves it.")] = None,
    candidate: Annotated[list[str] | None, Query(description="Names or UUIDs; one of these nodes.")] = None,
    limit: Limit = USUAL,
) -> Response:
    """Which nodes a request could have now, and per node each condition that it does not meet."""
    wanted = Wanted(
        resource_class=resource_class,
        traits=tuple(check_trait(name) for name in trait or ()),
        capabilities=dict(_pair(text) for text in capability or ()),
        owner=owner,
        conductor_group=conductor_group,
        candidates=tuple(candidate or ()),
    )

    def say(view: View) -> dict[str, Any]:
        found = [(node, why_not(node, wanted)) for node in view.nodes if caller.sees(node)]
        found.sort(key=lambda pair: (len(pair[1]), pair[0].label))
        rows = [
            {"uuid": node.uuid, "name": node.label, "reasons": caller.shown(list(reasons))}
            for node, reasons in found[:limit]
        ]
        return {"fitting": sum(not reasons for _, reasons in found), "total": len(found), "nodes": rows}

    return answer_of_view(request, caller, say)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name, value


@router.get("/fleet", response_model=s.FleetView, responses=READS)
async def show_fleet(request: Request, service: TheService, caller: Reader) -> Response:
    """The fleet at a glance: counts, what needs a hand, what is under way."""
    under_way = service.workers.under_way

    def say(view: View) -> dict[str, Any]:
        nodes = [node for node in view.nodes if caller.sees(node)]
        instances = [instance for instance, node in view.instances if caller.sees(node)]
        in_trouble = [(node, reasons) for node in nodes if (reasons := troubles(node))]
        return {
            "nodes": len(nodes),
            "instances": len(instances),
            "free": sum(not why_not(node, _ANY) for node in nodes),
            "by_state": _counted(node.provision_state or "available" for node in nodes),
            "by_power": _counted(node.power_state or "unknown" for node in nodes),
            "by_class": _counted(node.resource_class or "none" for node in nodes),
            "by_health": _counted((node.health or "unknown").lower() for node in nodes),
            "by_manager": _counted(instance.manager.value for instance in instances),
            "in_trouble": [
                {"uuid": node.uuid, "name": node.label, "reasons": caller.shown(list(reasons))}
                for node, reasons in in_trouble[:IN_TROUBLE]
            ],
            "under_way": under_way,
        }

    return answer_of_view(request, caller, say, besides=under_way)


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
