"""`python -m benchmarks.serving_memory`: what the HTTP service takes in memory, minute by minute, in front of ten thousand nodes.

Everything that can be read is asked for at random while nodes change, all of them are read anew every five minutes, and the
janitor looks. Writes `benchmarks/results/service/<date>-memory.json` and the table of docs/performance.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import requests

from . import report
from .run import _machine
from .serving import CHANGES_PER_S, NODES, changing, serving
from .simulated import simulated

CALLERS = 4
REQUESTS_PER_S = 20
PART = "memory of the service"
"""Of docs/performance.md."""
PATHS = (
    "/v1/instances?limit=100",
    "/v1/instances?limit=100&name={number}",
    "/v1/nodes?limit=100",
    "/v1/nodes?limit=100&q={number}",
    "/v1/fleet",
    "/v1/why-not?limit=50",
    "/v1/events?limit=100&order=newest",
    "/v1/operations",
    "/v1",
    "/metrics",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the service's process was at a moment.

    Attributes:
        minute: since it listens.
        requests: how many it had answered.
        rss_mib: its resident memory.
        threads: how many it had.
        files: how many files and sockets it had open.
    """

    minute: float
    requests: int
    rss_mib: float
    threads: int
    files: int


def main() -> None:
    """The results of this machine are written."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving_memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="for how long (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=NODES, help="how many there are (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    load_before = round(os.getloadavg()[1], 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated(nodes=arguments.nodes, in_use=True) as it,
        serving(it.ironic.url, it.ironic.neutron_url, Path(folder)) as (url, service),
        changing(it.ironic.url),
    ):
        samples = list(sampled(url, service, arguments.minutes))
    results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "nodes": arguments.nodes,
        "machine": _machine(),
        "load_before": load_before,
        "samples": [asdict(sample) for sample in samples],
    }
    print(table(results))
    if not arguments.dry:
        file = report.RESULTS / "service" / f"{results['date']}-memory.json"
        report.publish(results, table(results), file=file, part=PART)


def sampled(url: str, service: psutil.Process, minutes: float) -> Iterator[Sample]:
    """A sample a minute, while everything is asked for."""
    ending = threading.Event()
    answered = [0] * CALLERS

    def ask(caller: int) -> None:
        choice = random.Random(caller)  # noqa: S311  which request comes next is no secret
        with requests.Session() as session:
            while not ending.wait(CALLERS / REQUESTS_PER_S):
                path = choice.choice(PATHS).format(number=choice.randrange(1000))
                session.get(url + path, timeout=60).raise_for_status()
                answered[caller] += 1

    threads = [threading.Thread(target=ask, args=(caller,), daemon=True) for caller in range(CALLERS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        # review: it ends when the minutes are over
        while (passed_s := time.monotonic() - began) < minutes * 60:
            yield Sample(
                minute=round(passed_s / 60, 1),
                requests=sum(answered),
                rss_mib=round(service.memory_info().rss / 2**20, 1),
                threads=service.num_threads(),
                files=service.num_fds(),
            )
            ending.wait(60)
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def table(results: dict[str, Any]) -> str:
    """The results, as a page shows them: every other sample."""
    samples = [Sample(**row) for row in results["samples"]]
    machine = results["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    begin = f"{results['date']}, {results['nodes']:,} nodes on the simulator, {CHANGES_PER_S} changes a second, {where}"
    lines = [
        f"{begin}; what else the machine had to do before: a load of {results['load_before']:g}.",
        "",
        "| after | requests answered | memory | threads | open files |",
        "| --- | --- | --- | --- | --- |",
    ]
    for sample in samples[::2]:
        after = f"{sample.minute:.0f} min"
        lines.append(
            f"| {after} | {sample.requests:,} | {sample.rss_mib:.0f} MiB | {sample.threads} | {sample.files} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
