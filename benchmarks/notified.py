"""How long after a node is active its deploy has seen it, with Ironic's notifications and without, on the same Ironic.

Needs a message bus, such as a RabbitMQ, and so is no part of `make bench`: `python -m benchmarks.notified rabbit://…`.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from statistics import median

from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery import Bloomery, Bus, BusAddress, DeployRequest, Image, connect, lab
from bloomery.deadline import Deadline
from bloomery.engine import Observer
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.watch import Watch

from . import report
from .measuring import Figure

TOLD, LOOKING = "bloomery", "bloomery, without notifications"
DEPLOY_S = 20
WAIT_S = 600.0


def measure(url: str, *, waiting: int, repetitions: int) -> list[Figure]:
    """So many nodes are deployed at once, with notifications and without, in turn."""
    late: dict[str, list[float]] = {TOLD: [], LOOKING: []}
    asked: dict[str, list[float]] = {TOLD: [], LOOKING: []}
    options = lab.Options(
        nodes=waiting, kind=lab.Kind.FAKE, deploy_seconds=DEPLOY_S, network=False, notifications_url=url
    )
    with tempfile.TemporaryDirectory() as folder, lab.running(options, Path(folder, "lab")) as it:
        endpoints = {"baremetal": it.ironic_url}
        for _ in range(repetitions):
            for side in late:
                api = connect(session=Session(auth=NoAuth()), endpoints=endpoints)
                bus = Bus(BusAddress.of(url, pool="bloomery-benchmark"))
                counting = _Counting(api.services.ironic.transport)
                ironic = type(api.services.ironic)(counting, api.features, api.services.ironic.deadline)
                seen = _Seen()
                api = Bloomery(replace(api.services, ironic=ironic, watch=Watch(ironic), observer=seen))
                if side == TOLD:
                    api.listen_to(bus)
                    bus.start()
                    if not bus.is_listening.wait(WAIT_S):
                        raise RuntimeError("the bus does not answer")
                _deploy_all(api, [node.uuid for node in it.nodes], it.images["whole-disk"])
                bus.close()
                late[side].append(median(seen.late_s(api)))
                asked[side].append(counting.count / waiting)
                _destroy_all(api)
    where = f"a real Ironic, {waiting} nodes, each deploy {DEPLOY_S} s"
    what = f"{waiting} deploys at once"
    return [
        Figure(
            what=f"{what}: from `active` in Ironic to its being seen, the median", where=where, unit="s", values=late
        ),
        Figure(what=f"{what}: requests to Ironic for each", where=where, unit="requests", values=asked),
    ]


class _Counting(Detour):
    """Counts requests."""

    def __init__(self, real: Transport) -> None:
        super().__init__(real)
        self._lock = threading.Lock()
        self.count = 0

    def passed(self, request: Request) -> Reply:
        with self._lock:
            self.count += 1
        return self.sent(request)


class _Seen(Observer):
    """Notes when waits ended."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def ended(self, step: str) -> None:
        if step == "wait for active":
            self._at[threading.current_thread().name] = time.time()

    def late_s(self, api: Bloomery) -> list[float]:
        """Of each deploy, how long after the node was active its wait ended."""
        nodes = {node.uuid: node for node in api.services.ironic.nodes()}
        return [
            at - datetime.fromisoformat(str(nodes[node_uuid].provision_updated_at)).timestamp()
            for node_uuid, at in self._at.items()
        ]


def _deploy_all(api: Bloomery, node_uuids: list[str], image: lab.Image) -> None:
    def deploy(node_uuid: str) -> None:
        threading.current_thread().name = node_uuid
        request = DeployRequest(
            image=Image.named(image.url, checksum=image.sha256), node=node_uuid, name=f"on-{node_uuid}"
        )
        api.deploy(request, timeout_s=WAIT_S)

    with ThreadPoolExecutor(len(node_uuids)) as pool:
        for future in [pool.submit(deploy, node_uuid) for node_uuid in node_uuids]:
            future.result()


def _destroy_all(api: Bloomery) -> None:
    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(api.destroy, instance.uuid) for instance in api.instances()]:
            future.result()
    ironic = api.services.ironic
    api.services.watch.poll(
        lambda: None if any(node.provision_state != "available" for node in ironic.nodes()) else True,
        deadline=Deadline(WAIT_S),
        doing="waiting for cleaning",
    )


def main() -> None:
    """The figures are printed and, if wanted, kept with the newest others."""
    parser = argparse.ArgumentParser(prog="benchmarks.notified", description=__doc__)
    parser.add_argument("url", help="the bus, as oslo.messaging takes it")
    parser.add_argument("--waiting", type=int, default=100, help="how many deploys at once (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each side (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="put the figures to the newest that are kept")
    arguments = parser.parse_args()
    figures = measure(arguments.url, waiting=arguments.waiting, repetitions=arguments.repetitions)
    for figure in figures:
        print(figure.what, {side: [round(value, 3) for value in values] for side, values in figure.values.items()})
    if arguments.keep:
        former = report.newest()
        results = report.merged(former, {**former, "figures": [asdict(figure) for figure in figures]})
        report.write(results)
        report.PAGE.write_text(report.filled(report.PAGE.read_text(), results))


if __name__ == "__main__":
    main()
