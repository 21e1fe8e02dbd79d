"""`python -m benchmarks.flat`: what a process holds after many operations, beside what it held after the first of them.

Each operation is a change of power or, one in ten, a whole deploy with its tear-down, through the library, against the
simulators in a process of their own. Prints what Python has allocated and what the system says that the process takes.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery import Bloomery, DeployRequest, Guest, Image, Nic, Wanted, connect
from bloomery.watch import Watch

from .simulated import simulated

NODES = 20
SAMPLES = 5
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after so many operations.

    Attributes:
        operations: how many.
        allocated_bytes: what Python has allocated and not freed.
        resident_bytes: what the system says.
    """

    operations: int
    allocated_bytes: int
    resident_bytes: int


def measure(ironic_url: str, neutron_url: str, *, operations: int, samples: int = SAMPLES) -> list[Sample]:
    """So many operations are carried out, one after the other, and memory is looked at after equal parts of them.

    The first part is carried out once more before, so that modules are loaded, connections stand and caches are full.
    """
    api = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": ironic_url, "network": neutron_url})
    api = Bloomery(replace(api.services, watch=Watch(api.services.ironic, shortest_s=0.005, longest_s=0.05)))
    part = max(1, operations // samples)
    work = _work(api)
    for number in range(part):
        work(number)
    found = []
    tracemalloc.start()
    try:
        for number in range(operations):
            work(number)
            if (number + 1) % part == 0:
                gc.collect()
                resident = psutil.Process().memory_info().rss
                found.append(Sample(number + 1, tracemalloc.get_traced_memory()[0], resident))
    finally:
        tracemalloc.stop()
    return found


def _work(api: Bloomery) -> Callable[[int], None]:
    """An operation, by its number."""
    request = DeployRequest(
        image=Image.named("http://images.example.org/a.raw", checksum="a" * 64),
        wanted=Wanted(resource_class="baremetal"),
        nics=(Nic(network="private"),),
        guest=Guest.of(user_data="#!/bin/sh\n"),
    )
    kept = api.deploy(request, timeout_s=TIMEOUT_S)

    def work(number: int) -> None:
        if number % 10 == 9:
            made = api.deploy(request, timeout_s=TIMEOUT_S)
            api.destroy(made.uuid, wait_for_cleaning=True, timeout_s=TIMEOUT_S)
        elif number % 2:
            api.power_on(kept.uuid, timeout_s=TIMEOUT_S)
        else:
            api.power_off(kept.uuid, timeout_s=TIMEOUT_S)

    return work


def main() -> None:
    """The samples are printed."""
    parser = argparse.ArgumentParser(prog="benchmarks.flat", description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000, help="how many (default: %(default)s)")
    arguments = parser.parse_args()
    with simulated(nodes=NODES, in_use=False) as it:
        began = time.monotonic()
        found = measure(it.ironic.url, str(it.ironic.neutron_url), operations=arguments.operations)
        print(f"{arguments.operations:,} operations in {time.monotonic() - began:.0f} s")
    for sample in found:
        allocated, resident = sample.allocated_bytes / 1024, sample.resident_bytes / 2**20
        print(
            f"after {sample.operations:>9,}: {allocated:10,.1f} KiB allocated since the start, {resident:8.1f} MiB resident"
        )


if __name__ == "__main__":
    main()
