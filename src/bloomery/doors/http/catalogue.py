"""What a deploy can name besides nodes, images and networks; and what the service says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from bloomery import __version__
from bloomery.doors.http import schemas as s
from bloomery.doors.http.access import Principal
from bloomery.doors.http.answers import READS, Reader, TheService, answer, answers
from bloomery.doors.http.bounds import is_offered, may_see_image
from bloomery.doors.http.problems import Refusal, StoreUnavailable
from bloomery.doors.http.service import Service
from bloomery.ironic.features import dotted

router = APIRouter(tags=["service"])


@router.get("/v1", response_model=s.About, responses=answers())
async def about(request: Request, service: TheService, caller: Reader) -> Response:
    """What this service is, how it stands, and who you are to it."""
    following = service.following
    failure = following.failure
    api = service.api if service.cloud.is_there else None
    shown = {
        "version": __version__,
        "ironic_api": dotted(api.features.version) if api is not None else None,
        "has_neutron": api is not None and api.services.neutron is not None,
        "has_glance": api is not None and api.services.glance is not None,
        "auth": service.settings.auth.value,
        "me": {"name": caller.name, "role": caller.role.word, "project_id": caller.project_id},
        "stale_s": following.stale_s,
        "stale_reason": caller.shown(str(failure)) if failure is not None else None,
        "bus": service.bus.is_listening.is_set() if service.bus is not None else None,
        "log_reason": _seen_by(caller, service.feed.failure),
        "last_event": service.feed.last,
    }
    return answer(request, shown)


def _seen_by(caller: Principal, failure: StoreUnavailable | None) -> str | None:
    if failure is None:
        return None
    return failure.detail if caller.sees_all else failure.told_users


@router.get("/v1/networks", response_model=s.NetworkList, responses=READS)
def list_networks(request: Request, service: TheService, caller: Reader) -> Response:
    """The networks that an instance of yours can be on."""
    if service.api.services.neutron is None:
        return answer(request, {"networks": []})
    found = sorted(service.api.networks(), key=lambda network: (network.name, network.id))
    rows = [
        {name: getattr(network, name) for name in s.NetworkRow.model_fields}
        for network in found
        if is_offered(service, caller, network)
    ]
    return answer(request, {"networks": rows})


@router.get("/v1/images", response_model=s.ImageList, responses=READS)
def list_images(request: Request, service: TheService, caller: Reader) -> Response:
    """Images: of the service's catalogue, of Glance, and those that instances boot."""
    rows: dict[str, dict[str, Any]] = {}
    for row in (*_of_catalogue(service), *_of_glance(service, caller), *_of_instances(service, caller)):
        rows.setdefault(row["source"], row)
    return answer(request, {"images": list(rows.values())})


_EMPTY = {"checksum": None, "kernel": None, "ramdisk": None, "is_partition": False}


def _of_catalogue(service: Service) -> Iterator[dict[str, Any]]:
    for row in service.catalogue:
        yield {**_EMPTY, **row, "origin": "catalogue"}


def _of_glance(service: Service, caller: Principal) -> Iterator[dict[str, Any]]:
    for image in service.api.images():
        if may_see_image(caller, image):
            yield {**_EMPTY, "source": image.id, "name": image.name or image.id, "origin": "glance"}


def _of_instances(service: Service, caller: Principal) -> Iterator[dict[str, Any]]:
    for instance, node in service.following.view.instances:
        info = node.instance_info
        source = info.get("image_source")
        if not caller.sees(node) or not isinstance(source, str):
            continue
        value, algo = info.get("image_os_hash_value"), info.get("image_os_hash_algo")
        checksum = f"{algo}:{value}" if "://" in source and value and algo else info.get("image_checksum")
        yield {
            "source": source,
            "name": source.rpartition("/")[2] or instance.name,
            "checksum": str(checksum) if checksum else None,
            "kernel": _text(info.get("kernel")),
            "ramdisk": _text(info.get("ramdisk")),
            "is_partition": info.get("image_type") == "partition",
            "origin": "instances",
        }


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


# Health and numbers, outside /v1


@router.get("/healthz", response_class=PlainTextResponse, include_in_schema=False)
async def healthz() -> PlainTextResponse:
    """The process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", response_class=PlainTextResponse, include_in_schema=False)
def readyz(service: TheService) -> PlainTextResponse:
    """The service can be used: its log can be read, and it has seen the fleet."""
    try:
        service.store.first_and_last_event()
    except StoreUnavailable as problem:
        return PlainTextResponse(f"{problem.told_users}\n", status_code=503)
    if not service.following.view.as_of:
        return PlainTextResponse("Ironic has not been seen yet\n", status_code=503)
    return PlainTextResponse("ready\n")


@router.get("/metrics", response_class=PlainTextResponse, include_in_schema=False)
def metrics(request: Request, service: TheService) -> PlainTextResponse:
    """Numbers for Prometheus."""
    principal = request.scope["state"].get("principal")
    if principal is not None and not principal.sees_all:
        raise Refusal(403, "Forbidden", "the whole fleet's numbers are for those who may see all of it")
    return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
