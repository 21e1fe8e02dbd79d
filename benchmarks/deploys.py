"""Requests: how many a deploy takes, and how many the waiting for fifty of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from metalsmith.instance_config import GenericConfig  # type: ignore[import-untyped]
from metalsmith.sources import HttpWholeDiskImage  # type: ignore[import-untyped]

from bloomery import Bloomery, DeployRequest, Guest, Image, Nic, Wanted
from bloomery.engine import Observer

from .clients import METALSMITH, OURS, Clients, Sent, phase, set_phase
from .measuring import Figure

AT_ONCE = 50
TIMEOUT_S = 600
USER_DATA = "#!/bin/sh\ntrue\n"
WAITING = "wait"
"""The phase of the requests that only look whether a deploy has ended."""
_LAST_STEP = "wait for active"
_SHOW = "show the instance"


class _Phases(Observer):
    """Each step of an operation is a phase of the thread that carries it out."""

    def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002
        set_phase(step)

    def ended(self, step: str) -> None:
        set_phase(_SHOW if step == _LAST_STEP else None)


def ours(clients: Clients, name: str) -> None:
    """Bloomery deploys an instance with one VIF and user data, and waits for it."""
    ironic = clients.ironic
    api = Bloomery(replace(clients.bloomery.services, observer=_Phases()))
    request = DeployRequest(
        name=name,
        image=Image.named(ironic.image, checksum=f"sha256:{ironic.image_sha256}"),
        wanted=Wanted(resource_class=ironic.resource_class, traits=ironic.traits),
        nics=(Nic(network=ironic.network),),
        guest=Guest.of(user_data=USER_DATA),
    )
    with phase("start"):
        api.deploy(request, timeout_s=TIMEOUT_S)


def theirs(clients: Clients, name: str) -> None:
    """metalsmith deploys an instance like it, and waits for it."""
    ironic, provisioner = clients.ironic, clients.metalsmith
    with phase("reserve_node"):
        node = provisioner.reserve_node(ironic.resource_class, traits=list(ironic.traits), hostname=name)
    with phase("provision_node"):
        instance = provisioner.provision_node(
            node,
            HttpWholeDiskImage(ironic.image, checksum=ironic.image_sha256),
            nics=[{"network": ironic.network}],
            config=GenericConfig(user_data=USER_DATA),
            hostname=name,
        )
    with phase(WAITING):
        provisioner.wait_for_provisioning([instance.node], timeout=TIMEOUT_S)


SIDES: Mapping[str, Callable[[Clients, str], None]] = {OURS: ours, METALSMITH: theirs}


def one(clients: Clients, *, repetitions: int) -> list[Figure]:
    """The requests of one deploy, without those of the wait, which depend on how long it takes."""
    sent = {side: [_sent(clients, side, f"{side}-{number}") for number in range(repetitions)] for side in SIDES}
    return [
        Figure(
            what=f"deploy one instance with a VIF and a config drive: requests to {service} but for the wait",
            where=clients.ironic.words,
            unit="requests",
            values={side: [len(_asking(requests, service)) for requests in runs] for side, runs in sent.items()},
            parts={
                side: dict(Counter(str(request.phase) for request in _asking(runs[-1], service)))
                for side, runs in sent.items()
            },
        )
        for service in clients.ironic.urls
    ]


def many(clients: Clients, *, repetitions: int, restore: Callable[[], None], deploy_s: float) -> list[Figure]:
    """Fifty deploys at once, a thread each: the requests that wait, all requests, and how long it takes."""
    waiting: dict[str, list[float]] = {side: [] for side in SIDES}
    whole: dict[str, list[float]] = {side: [] for side in SIDES}
    wall: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repetitions):
        for side, deploy in SIDES.items():
            restore()
            wire = clients.wires[side]
            wire.clear()
            began_at = time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda number, deploy=deploy: deploy(clients, f"many-{number}"), range(AT_ONCE)))
            wall[side].append(time.perf_counter() - began_at)
            waiting[side].append(len([sent for sent in wire.sent if _waits(sent)]))
            whole[side].append(len(wire.sent))
    where = f"{clients.ironic.words}, each deploy {deploy_s:g} s"
    what = f"{AT_ONCE} deploys at once, a thread each"
    return [
        Figure(what=f"{what}: requests that wait", where=where, unit="requests", values=waiting),
        Figure(what=f"{what}: all requests", where=where, unit="requests", values=whole),
        Figure(what=what, where=where, unit="s", values=wall),
    ]


def _sent(clients: Clients, side: str, name: str) -> list[Sent]:
    """What one deploy sent."""
    wire = clients.wires[side]
    wire.clear()
    SIDES[side](clients, name)
    return list(wire.sent)


def _asking(requests: list[Sent], service: str) -> list[Sent]:
    return [sent for sent in requests if sent.service == service and not _waits(sent)]


def _waits(sent: Sent) -> bool:
    # Bloomery's watch looks from a thread of its own, which has no phase.
    return sent.phase in (WAITING, None)
