"""Measuring: what a call costs, side by side with another that does the same, and what came of it."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call cost.

    Attributes:
        wall_s: how long it took.
        processor_s: the processor time of this process and of programs that it ran, but of no server's.
    """

    wall_s: float
    processor_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity, measured on every side in the same run.

    Attributes:
        what: what was measured.
        where: which Ironic it was measured on; empty where none had a part in it.
        unit: of the values: `s`, `requests`, `bytes`.
        values: of each side, by name, one for each repetition. The first side is ours.
        remark: what has to be known to read it.
        parts: of what a side's value is made, where that is known: by side, by part.
    """

    what: str
    where: str
    unit: str
    values: Mapping[str, Sequence[float]]
    remark: str = ""
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The side that the others are compared with."""
        return next(iter(self.values))

    def times(self, side: str) -> list[float]:
        """How many times ours the side takes, repetition by repetition."""
        return [theirs / ours for theirs, ours in zip(self.values[side], self.values[self.ours], strict=True)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several values of the same thing: their median, the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of the values."""
        return cls(statistics.median(values), min(values), max(values))


def costs(sides: Mapping[str, Call], *, repetitions: int, calls: int = 1) -> dict[str, list[Cost]]:
    """Of each side the cost of each repetition.

    Each is called once before, unmeasured, so that connections stand and modules are loaded; then they take turns, so that a
    machine that gets slower meanwhile is slow for all of them.

    Args:
        sides: the calls, by name.
        repetitions: how often each is measured.
        calls: how often each is called for one measurement, of which the cost is then the mean: for what takes little.
    """
    found: dict[str, list[Cost]] = {side: [] for side in sides}
    for repetition in range(repetitions + 1):
        for side, call in sides.items():
            cost = cost_of(call, calls=calls)
            if repetition:
                found[side].append(cost)
    return found


def cost_of(call: Call, *, calls: int = 1) -> Cost:
    """What the call cost, the mean of so many of them. Garbage of earlier calls is collected before."""
    gc.collect()
    processor_s, wall_s = _processor_s(), time.perf_counter()
    for _ in range(calls):
        call()
    return Cost((time.perf_counter() - wall_s) / calls, (_processor_s() - processor_s) / calls)


def figures_of(what: str, where: str, found: Mapping[str, Sequence[Cost]], *, remark: str = "") -> list[Figure]:
    """The costs as two figures: the time that it took, and the client's own work."""
    wall = {side: [cost.wall_s for cost in costs] for side, costs in found.items()}
    own = {side: [cost.processor_s for cost in costs] for side, costs in found.items()}
    return [
        Figure(what=what, where=where, unit="s", values=wall, remark=remark),
        Figure(what=f"{what}: the client's processor time", where=where, unit="s", values=own),
    ]


def _processor_s() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)
