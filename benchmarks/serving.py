"""`python -m benchmarks.serving`: the HTTP service in front of ten thousand nodes, under load.

`hey`, a public load generator, asks for a page of a hundred instances two hundred times a second, while the fleet changes and
five hundred clients listen to the event stream. Writes `benchmarks/results/service/<date>.json` and the table of
docs/performance.md. Asserts no time; but every listener must have got every event, once and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests

from . import report
from .run import _machine
from .simulated import simulated

NODES = 10_000
REQUESTS_PER_S = 200
WORKERS = 20
LISTENERS = 500
CHANGES_PER_S = 5
COMPARED = ("bloomery", "fastapi", "starlette", "uvicorn", "h11", "msgspec", "SQLAlchemy")
PART = "figures of the service"
"""Of docs/performance.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What was seen while the service was asked for something.

    Attributes:
        what: what was asked, and what went on beside it.
        seconds: for how long.
        answers: how many there were.
        failures: how many of them were no 200.
        per_s: answers a second.
        p50_ms: half of them took no longer, as `hey` saw it.
        p99_ms: and 99 of a hundred.
        greatest_ms: the slowest.
        processor: what share of one processor the service took.
        rss_mib: its memory at the end.
        events: how many events there were on the stream.
        listeners: how many clients got all of them in order.
        event_p99_ms: from being written to being read by a listener, 99 of a hundred.
    """

    what: str
    seconds: float
    answers: int
    failures: int
    per_s: float
    p50_ms: float
    p99_ms: float
    greatest_ms: float
    processor: float
    rss_mib: float
    events: int | None = None
    listeners: int | None = None
    event_p99_ms: float | None = None


def main() -> None:
    """The results of this machine are written."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=NODES, help="how many there are (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    hey = shutil.which("hey")
    if hey is None:
        parser.error("there is no `hey` on this machine; Debian has it: apt-get install hey")
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated(nodes=arguments.nodes, in_use=True) as it,
        serving(it.ironic.url, it.ironic.neutron_url, Path(folder)) as (url, service),
    ):
        phases = list(measured(hey, url, it.ironic.url, service, arguments.seconds))
    results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "nodes": arguments.nodes,
        "machine": _machine(),
        "load_before": round(os.getloadavg()[1], 1),
        "versions": {name: version(name) for name in COMPARED},
        "phases": [asdict(phase) for phase in phases],
    }
    print(table(results))
    if not arguments.dry:
        file = report.RESULTS / "service" / f"{results['date']}.json"
        report.publish(results, table(results), file=file, part=PART)


def measured(hey: str, url: str, ironic: str, service: psutil.Process, seconds: float) -> Iterator[Phase]:
    """The phases, one after the other."""
    page, filtered = f"{url}/v1/instances?limit=100", f"{url}/v1/instances?limit=100&state=active&name=1"
    ask(hey, page, min(seconds, 10.0), service, what="")  # to warm up
    yield ask(hey, page, seconds, service, what="a page of 100 instances, over and over")
    with changing(ironic):
        yield ask(hey, page, seconds, service, what=f"the same, while {CHANGES_PER_S} nodes a second change")
        yield ask(hey, filtered, seconds, service, what="the same, with filters by state and name")
        with listening(url) as listeners:
            phase = ask(
                hey, page, seconds, service, what=f"the first page again, and {LISTENERS} clients on the event stream"
            )
        got = listeners()
    yield Phase(**{**asdict(phase), **got})
    yield ask(hey, page, seconds, service, what="the first page again, with nothing beside it")


def ask(hey: str, url: str, seconds: float, service: psutil.Process, *, what: str) -> Phase:
    """What `hey` and the kernel say of so many seconds."""
    before = service.cpu_times()
    said = subprocess.run(  # noqa: S603  the load generator that was found above
        [hey, "-z", f"{seconds:g}s", "-c", str(WORKERS), "-q", f"{REQUESTS_PER_S / WORKERS:g}", "-o", "csv", url],
        capture_output=True,
        text=True,
        check=True,
    )
    after = service.cpu_times()
    rows = list(csv.DictReader(said.stdout.splitlines()))
    times = sorted(float(row["response-time"]) * 1000 for row in rows)
    used = after.user + after.system - before.user - before.system
    return Phase(
        what=what,
        seconds=seconds,
        answers=len(rows),
        failures=sum(row["status-code"] != "200" for row in rows),
        per_s=round(len(rows) / seconds, 1),
        p50_ms=round(median(times), 1),
        p99_ms=round(share(times, 0.99), 1),
        greatest_ms=round(times[-1], 1),
        processor=round(used / seconds, 2),
        rss_mib=round(service.memory_info().rss / 2**20, 1),
    )


def share(ordered: Sequence[float], part: float) -> float:
    """The value that so large a part of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@contextmanager
def serving(ironic: str, neutron: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`bloomery serve`, as an operator starts it; its address and its process."""
    config = folder / "clouds.yaml"
    config.write_text(
        "clouds:\n  simulated:\n    auth_type: none\n"
        f"    baremetal_endpoint_override: {ironic}\n    network_endpoint_override: {neutron}\n"
    )
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(config), "OS_CLOUD": "simulated"}
    command = [sys.executable, "-m", "bloomery.doors.cli.app", "serve", "--port", "0", "--rate", "10000"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(  # noqa: S603  our own command
            [*command, "--state", str(folder / "state")], env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield _address(folder / "log", process), psutil.Process(process.pid)
        finally:
            process.terminate()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the service says that it listens."""
    waiting = threading.Event()
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("serving on "):
                return line.removeprefix("serving on ")
        waiting.wait(0.1)
    raise RuntimeError(f"the service ended: {log.read_text()[-2000:]}")


@contextmanager
def changing(ironic: str) -> Iterator[None]:
    """Within the block nodes change all the time, one after the other."""
    ending = threading.Event()
    with requests.Session() as session:
        session.headers["X-OpenStack-Ironic-API-Version"] = "1.81"
        rows = session.get(f"{ironic}/v1/nodes?fields=uuid&limit=1000", timeout=60).json()["nodes"]

        def change() -> None:
            for number, row in enumerate(itertools.cycle(rows)):
                if ending.wait(1 / CHANGES_PER_S):
                    return
                patch = [{"op": "add", "path": "/owner", "value": f"project-{number}"}]
                session.patch(f"{ironic}/v1/nodes/{row['uuid']}", json=patch, timeout=60).raise_for_status()

        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


@contextmanager
def listening(url: str) -> Iterator[Any]:
    """Within the block a process of its own has all listeners; what is given says afterwards what they got."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs, url), daemon=True)
    process.start()
    if ours.recv() != "all listen":
        raise RuntimeError("the listeners did not get through")
    try:
        yield ours.recv
    finally:
        ours.send("stop")


def _listen(pipe: Connection, url: str) -> None:
    pipe.send(asyncio.run(_all_listen(pipe, url)))


async def _all_listen(pipe: Connection, url: str) -> dict[str, Any]:
    heard: list[list[int]] = [[] for _ in range(LISTENERS)]
    late_ms: list[float] = []
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_one_listens(url, mine, late_ms, begun)) for mine in heard]
    for _ in tasks:
        await begun.acquire()
    pipe.send("all listen")
    await asyncio.to_thread(pipe.recv)
    last = max(mine[-1] for mine in heard)
    while not all(mine[-1] >= last for mine in heard):
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    first = max(mine[0] for mine in heard)
    return {
        "events": last - first,
        "listeners": sum(
            [number for number in mine if first < number <= last] == list(range(first + 1, last + 1)) for mine in heard
        ),
        "event_p99_ms": round(share(sorted(late_ms), 0.99), 1) if late_ms else None,
    }


async def _one_listens(url: str, heard: list[int], late_ms: list[float], begun: asyncio.Semaphore) -> None:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"GET /v1/events/stream HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    async for line in reader:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            if not heard:
                begun.release()
            heard.append(int(value))
        elif name == "data" and len(heard) > 1:
            at = datetime.fromisoformat(json.loads(value)["at"]).timestamp()
            late_ms.append((time.time() - at) * 1000)


def table(results: dict[str, Any]) -> str:
    """The results, as a page shows them."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    machine = results["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    begin = f"{results['date']}, {results['nodes']:,} nodes on the simulator, {where}; what else the machine had to do before"
    lines = [
        f"{begin}: a load of {results['load_before']:g}. {versions}.",
        "",
        "| asked for | answers a second | median | 99 % within | slowest | of one processor | memory | events |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for phase in (Phase(**row) for row in results["phases"]):
        events = (
            f"{phase.events}, each to {phase.listeners} of {LISTENERS} in order, 99 % within {phase.event_p99_ms:g} ms"
            if phase.events is not None
            else "–"
        )
        lines.append(
            f"| {phase.what} | {phase.per_s:g}{f', {phase.failures} not 200' if phase.failures else ''} | {phase.p50_ms:g} ms "
            f"| {phase.p99_ms:g} ms | {phase.greatest_ms:g} ms | {phase.processor:.0%} | {phase.rss_mib:.0f} MiB | {events} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
