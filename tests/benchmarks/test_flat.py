"""A process holds no more after many operations than after some: what each of them took is given back."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.flat import NODES, measure
from benchmarks.simulated import simulated

OPERATIONS, SAMPLES = 240, 4
MOST_BYTES = 200
"""For each operation: less than anything that could be kept of one."""


def test_what_a_process_holds_does_not_grow_with_what_it_has_done() -> None:
    # A process of its own: this one may keep what other tests began in it, and what pytest takes of its log.
    with (
        simulated(nodes=NODES, in_use=False) as it,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
    ):
        found = process.submit(
            measure, it.ironic.url, str(it.ironic.neutron_url), operations=OPERATIONS, samples=SAMPLES
        ).result()
    assert [sample.operations for sample in found] == [60, 120, 180, 240]
    # The first half fills what is filled once: pools, caches, tables of words.
    half, end = found[1], found[-1]
    assert (end.allocated_bytes - half.allocated_bytes) / (end.operations - half.operations) <= MOST_BYTES, found
