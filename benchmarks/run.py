"""`python -m benchmarks.run`: Bloomery beside openstacksdk, metalsmith and Nova's own driver, on the same Ironic in the same run.

Writes `benchmarks/results/<date>.md` and `.json`, and the tables of docs/performance.md. Takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bloomery import lab
from bloomery.deadline import Deadline

from . import config_drive, deploys, listing, memory, nova_fleet, refresh, report, servers
from .clients import Clients, Ironic
from .measuring import Figure
from .simulated import simulated

LAB_NODES = 200
SIMULATED_NODES = (1_000, 10_000)
NOVA_NODES = (2_000, 10_000)
DEPLOY_S = 10.0
COMPARED = ("bloomery", "openstacksdk", "metalsmith", "keystoneauth1", "msgspec", "ironic", "neutron", "nova")


def main() -> None:
    """The results of this machine are written."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement (default: %(default)s)")
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="leave the others out, and write nothing")
    parser.add_argument("--keep", action="store_true", help="with --only: write, and keep the others' newest figures")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for name in arguments.only or MEASUREMENTS:
        print(f"{name} …", flush=True)
        figures += MEASUREMENTS[name](arguments.repetitions)
    results: report.Results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "repetitions": arguments.repetitions,
        "machine": _machine(),
        "versions": {name: version(name) for name in COMPARED},
        "figures": [asdict(figure) for figure in figures],
    }
    if arguments.only and arguments.keep:
        results = report.merged(report.newest(), results)
    print(report.text(results))
    if not arguments.only or arguments.keep:
        for file in report.write(results):
            print(f"written: {file.relative_to(report.ROOT)}")
        report.PAGE.write_text(report.filled(report.PAGE.read_text(), results))


def _config_drive(repetitions: int) -> list[Figure]:
    return config_drive.measure(repetitions=repetitions)


def _lab(repetitions: int) -> list[Figure]:
    with _running_lab() as ironic:
        clients = Clients.of(ironic)
        figures = deploys.one(clients, repetitions=repetitions)
        _allocate_the_rest(clients)
        return [
            *figures,
            *listing.nodes(clients, repetitions=repetitions),
            *listing.instances(clients, repetitions=repetitions),
            *refresh.measure(clients, repetitions=repetitions),
        ]


def _simulated_deploys(repetitions: int) -> list[Figure]:
    with simulated(nodes=2 * deploys.AT_ONCE, in_use=False, deploy_s=DEPLOY_S) as it:
        return deploys.many(Clients.of(it.ironic), repetitions=repetitions, restore=it.restore, deploy_s=DEPLOY_S)


def _simulated_fleets(repetitions: int) -> list[Figure]:
    figures: list[Figure] = []
    for nodes in SIMULATED_NODES:
        with simulated(nodes=nodes, in_use=True) as it:
            clients = Clients.of(it.ironic)
            figures += listing.nodes(clients, repetitions=repetitions)
            figures += refresh.measure(clients, repetitions=repetitions)
            if nodes == min(SIMULATED_NODES):  # more of them take long, and tell the same
                figures += listing.instances(clients, repetitions=repetitions)
                figures += memory.measure(clients, repetitions=repetitions)
    return figures


def _nova_fleet(repetitions: int) -> list[Figure]:
    return [figure for nodes in NOVA_NODES for figure in nova_fleet.measure(repetitions=repetitions, nodes=nodes)]


def _nova_servers(repetitions: int) -> list[Figure]:
    # Ten minutes each on two cores: more than once only where nothing else is measured.
    return servers.measure(repetitions=1 if repetitions <= 5 else repetitions // 5)


MEASUREMENTS: dict[str, Callable[[int], list[Figure]]] = {
    "config-drive": _config_drive,
    "lab": _lab,
    "deploys": _simulated_deploys,
    "fleets": _simulated_fleets,
    "nova-fleet": _nova_fleet,
    "nova-servers": _nova_servers,
}


@contextmanager
def _running_lab() -> Iterator[Ironic]:
    """A lab of fake nodes is up within the block."""
    options = lab.Options(nodes=LAB_NODES, kind=lab.Kind.FAKE)
    with tempfile.TemporaryDirectory() as folder, lab.running(options, Path(folder, "lab")) as it:
        image = it.images["whole-disk"]
        yield Ironic(
            words=f"the lab's Ironic, {LAB_NODES} nodes",
            url=it.ironic_url,
            neutron_url=str(it.neutron_url),
            resource_class=it.nodes[0].resource_class,
            traits=("CUSTOM_GPU",),
            network="private",
            image=image.url,
            image_sha256=image.sha256,
        )


def _allocate_the_rest(clients: Clients) -> None:
    """Every node carries an instance: a list of instances is as long as one of nodes."""
    for node in clients.bloomery.fleet({"associated": False}).nodes:
        clients.sdk.baremetal.create_allocation(
            name=f"instance-on-{node.name}", resource_class=node.resource_class, candidate_nodes=[node.uuid]
        )
    clients.bloomery.services.watch.poll(
        lambda: None if any(clients.bloomery.services.ironic.nodes({"associated": False})) else True,
        deadline=Deadline(120.0),
        doing="waiting for allocations",
    )


def _machine() -> dict[str, object]:
    """What matters of this machine, and nothing that names it."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


if __name__ == "__main__":
    main()
