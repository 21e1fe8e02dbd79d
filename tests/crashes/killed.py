"""A process of Bloomery is killed in the middle of an operation, and another one sees to what it left."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bloomery.testing import Fault, FaultKind, FaultRule
from crashes.forked import RECOVER, Job, Outcome
from crashes.processes import Processes
from unwind.matrix import Struck, clean_run, difference, prepared, second_effect
from unwind.test_unwind import ASKED_AGAIN


class Moment(StrEnum):
    """When a process dies, seen from one of its requests."""

    BEFORE = "before"
    """The request never arrives."""
    DURING = "during"
    """The request is under way, and is carried out when nobody is there any more."""
    AFTER = "after"
    """The deed is done, and nobody hears of it."""


_KINDS = {Moment.BEFORE: FaultKind.RESET, Moment.DURING: FaultKind.DELAY, Moment.AFTER: FaultKind.LOSE_REPLY}


@dataclass(frozen=True, slots=True)
class AtRequest:
    """Death at one of the operation's requests."""

    service: str
    nth: int
    moment: Moment

    def __str__(self) -> str:
        return f"killed {self.moment} {self.service}'s request {self.nth}"


@dataclass(frozen=True, slots=True)
class AtInstant:
    """Death after so many seconds, wherever that may be."""

    after_s: float

    def __str__(self) -> str:
        return f"killed after {self.after_s:.4f} s"


Death = AtRequest | AtInstant


class End(StrEnum):
    """What has become of an operation whose process was killed, in the order in which it is looked for."""

    UNSCATHED = "was not hit"
    """It was done before the blow fell."""
    AS_BEFORE = "as before"
    FINISHED = "finished by Ironic"
    TAKEN_BACK = "taken back by recover"
    RECOVERED = "finished by recover"
    ASKED_AGAIN = "finished when asked again"


def deaths(name: str) -> list[AtRequest]:
    """Before, during and after every request of the operation."""
    return [
        AtRequest(service, nth, moment)
        for service, count in clean_run(name).requests.items()
        for nth in range(1, count + 1)
        for moment in Moment
    ]


def drawn(draw: random.Random, name: str) -> AtRequest:
    """Death at one of the operation's requests that change something, or at the next: there most is at stake."""
    writes = clean_run(name).writes
    return draw.choice([death for death in deaths(name) if {death.nth, death.nth - 1} & {*writes[death.service]}])


def drawn_write(draw: random.Random, name: str) -> AtRequest:
    """Death before one of the operation's requests that change something; they are the same in each run."""
    writes = clean_run(name).writes
    return draw.choice(
        [AtRequest(service, nth, Moment.BEFORE) for service, all_nth in writes.items() for nth in all_nth]
    )


def drawn_of_recovery(draw: random.Random) -> AtRequest:
    """Death at one of the requests that a recovery may make; it may be over before."""
    service, most = draw.choice([("Ironic", 16), ("Ironic", 16), ("Neutron", 6)])
    return AtRequest(service, draw.randint(1, most), draw.choice(list(Moment)))


def drawn_instant(draw: random.Random, processes: Processes, name: str) -> AtInstant:
    """Death while the operation is at work."""
    return AtInstant(draw.uniform(0, _duration_s(processes, name)))


_DURATIONS_S: dict[str, float] = {}


def _duration_s(processes: Processes, name: str) -> float:
    """How long the operation takes in a process of its own."""
    if name not in _DURATIONS_S:
        with prepared(name) as struck:
            began_s = time.monotonic()
            processes.run(job(struck, name))
            _DURATIONS_S[name] = time.monotonic() - began_s
    return _DURATIONS_S[name]


def tried(processes: Processes, name: str, death: Death, *of_recovery: Death) -> tuple[End | None, str]:
    """The operation's process dies so; those that recover it die so; then one lives. Returns how it ended.

    None stands for an end that should not be, and comes with what is wrong.
    """
    clean = clean_run(name)
    with prepared(name) as struck:
        story = [f"{name}, {death}"]
        outcome = _die(processes, struck, name, death)
        story.append(_struck(struck, outcome))
        struck.calm()
        end = End.AS_BEFORE if struck.seen() == clean.untouched else End.FINISHED
        if not outcome.was_killed:
            if outcome.problem is not None:
                return None, f"{story}: it was not killed, and failed"
            end = End.UNSCATHED
        for another in of_recovery:
            story.append(f"recover, {another}: {_struck(struck, _die(processes, struck, RECOVER, another))}")
            struck.calm()
        ends = (clean.untouched, clean.finished)
        if of_recovery or struck.seen() not in ends:
            recovered = processes.run(job(struck, RECOVER))
            struck.calm()
            if recovered.problem is not None:
                return None, f"{story}: recover failed: {recovered.problem}"
            end = End.TAKEN_BACK if struck.seen() == clean.untouched else End.RECOVERED
        times = 1
        if struck.seen() not in ends and name in ASKED_AGAIN:
            again = processes.run(job(struck, name))
            struck.calm()
            if again.problem is not None:
                return None, f"{story}: asked again, it failed: {again.problem}"
            times, end = 2, End.ASKED_AGAIN
        if struck.seen() not in ends:
            return None, f"{story}: it was left as it should not be: {difference(struck.seen(), clean.untouched)}"
        twice = second_effect(struck.effects(), clean.effects, times=times)
        return (None, f"{story}: {twice}") if twice else (end, str(story))


def job(struck: Struck, call: str, **more: Any) -> Job:
    """That call, through the proxies."""
    world = struck.world
    return Job(
        call=call,
        ironic=struck.proxies["Ironic"].url,
        neutron=struck.proxies["Neutron"].url,
        unbroken_neutron=world.neutron.url,
        node=world.node,
        given_vif=world.given_vif,
        web=world.web,
        **more,
    )


def _die(processes: Processes, struck: Struck, call: str, death: Death) -> Outcome:
    """The call's process has died so, unless it was done before."""
    if isinstance(death, AtRequest):
        fault = Fault(_KINDS[death.moment], meanwhile=processes.kill)
        struck.proxies[death.service].arm(FaultRule(fault=fault, nth=death.nth))
        return processes.run(job(struck, call))
    bell = threading.Timer(death.after_s, processes.kill)
    bell.start()
    try:
        return processes.run(job(struck, call))
    finally:
        bell.cancel()
        bell.join()


def _struck(struck: Struck, outcome: Outcome) -> str:
    hit = [strike.request for proxy in struck.proxies.values() for strike in proxy.struck]
    where = ", ".join(f"{request.method} {request.target[:90]}" for request in hit)
    return f"{'killed' if outcome.was_killed else f'ended with {outcome.problem}'} at {where or 'no request'}"
