"""Every call of Nova's manager x every request that it makes x every fault: a cell each. `tried` says how one went."""

from __future__ import annotations

import copy
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

from keystoneauth1.session import Session
from nova import exception, objects
from nova.compute import power_state

from bloomery.deadline import Patience
from bloomery.testing import FaultProxy
from door_matrix.calls import CALLS, Server
from door_matrix.door_world import OURS, Candidate, DoorWorld, a_door_world
from doors_nova import nova_world
from unwind.matrix import (
    CALM,
    FAULTS,
    LATE,
    SLOWER,
    SURVIVED,
    Effects,
    difference,
    effects_of,
    patience_with,
    second_effect,
)

LIMIT_S = 60.0
"""Whoever has not come back by then waits for ever."""
NOTHING_KNOWN = {repr(int(power_state.NOSTATE)), repr([])}
"""Answers that say that Ironic could not be asked: a power state, nodes."""
LEAVES_NO_TRACE = ("crash dump", "reboot", "reboot softly")
MAY_HAVE_ARRIVED = ("reset before", "refused for a while", "500", "502")
RESTS = ("active", "available", "rescue", "deploy failed", "error", "rescue failed", "clean failed")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Outcome(StrEnum):
    """How a cell went."""

    DONE = "done"
    """The call succeeded, and the machine says so."""
    FAILED = "failed"
    """It failed with an error that Nova knows, and the machine is as before or as wanted, if needs be after asking again."""
    FOREIGN = "foreign"
    """Likewise, but what came out of a method was nothing that Nova knows."""
    BROKEN = "broken"
    """Another promise was broken."""

    @property
    def is_well(self) -> bool:
        """Whether every promise was kept."""
        return self in (Outcome.DONE, Outcome.FAILED)


class Promise(StrEnum):
    """What is promised for every cell."""

    ENDS = "it ends"
    ERRORS = "nothing but Nova's own exceptions comes out"
    TRUTH = "what it said is so"
    ORDER = "after a failure the node is as before, as wanted, or free"
    ONCE = "nothing is done to the machine twice"


@dataclass(frozen=True)
class Verdict:
    """How a cell went; which promise was broken, if one was, and how."""

    outcome: Outcome
    broken: Promise | None = None
    wrong: str = ""


@dataclass(frozen=True, order=True)
class Blow:
    """One request of the call that fails, and how."""

    nth: int
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at request {self.nth}"


@dataclass(frozen=True)
class CleanRun:
    """A call of which nothing fails: the worlds before and after it, what it did and told, how many requests it made."""

    untouched: dict[str, object]
    finished: dict[str, object]
    effects: Effects
    answer: object
    requests: int
    methods: frozenset[str]


@dataclass
class Attempt:
    """What became of a call that was watched.

    Attributes:
        answer: what it returned.
        problem: what it raised.
        is_endless: whether it was given up.
    """

    answer: object = None
    problem: BaseException | None = None
    is_endless: bool = False


@dataclass
class Struck:
    """A world, its server, and the proxy between driver and Ironic."""

    candidate: Candidate
    name: str
    world: DoorWorld
    proxy: FaultProxy
    server: Server = field(init=False)

    def prepare(self) -> None:
        """The world in which the call makes sense; nothing has failed yet, and nobody looks."""
        self.server = CALLS[self.name].prepare(self.world)
        self._begin()

    def kept(self) -> Kept:
        """What `restore` needs."""
        world = self.world
        return Kept(
            world.ironic.snapshot(),
            world.neutron.snapshot(),
            nova_world.database_now(),
            copy.deepcopy(self.server),
            world.node,
            world.private,
            frozenset(world.noted.called),
        )

    def restore(self, kept: Kept) -> None:
        """The world is as it was when it was prepared for another call; the compute service has just started."""
        world = self.world
        world.neutron.restore(kept.neutron)
        world.ironic.restore(kept.ironic)
        world.node, world.private = kept.node, kept.private
        world.noted.called |= kept.called
        self.server = copy.deepcopy(kept.server)
        world.driver.init_host("compute-1")
        world.driver.get_available_nodes()
        self._begin()

    def _begin(self) -> None:
        self.world.ironic.wait_for(self.world.node, *RESTS)
        self.before = effects_of(self.world.ironic, self.world.node)
        self.proxy.requests.clear()
        self.world.noted.escaped.clear()

    def attempt(
        self,
        what: Callable[[DoorWorld, Server], Any],
        limit_s: float = LIMIT_S,
        *,
        until: threading.Event | None = None,
    ) -> Attempt:
        """The call, until it ends, or is given up, or the event has come."""
        made = Attempt()

        def work() -> None:
            try:
                made.answer = plain(what(self.world, self.server), self.world, self.server)
            except BaseException as problem:  # noqa: BLE001  whatever it is, the judge wants it
                made.problem = problem

        ended = until or threading.Event()

        def working() -> None:
            work()
            ended.set()

        thread = threading.Thread(target=working, daemon=True)
        thread.start()
        made.is_endless = not ended.wait(limit_s)
        return made

    def calm(self) -> None:
        """Nothing fails any more, every request has come to its end, and Ironic to rest."""
        self.proxy.arm()
        self.proxy.accept_connections()
        self.proxy.wait_until_idle()
        self.world.ironic.wait_for(self.world.node, *RESTS, timeout_s=30)

    def background_pass(self) -> None:
        """What nova-compute does every minute: it looks at its nodes, and reaps what Nova has deleted."""
        world = self.world
        with self.escaping():
            world.driver.get_available_nodes(refresh=True)
            deleted = world.context.elevated(read_deleted="yes")
            uuids = world.driver.list_instance_uuids()
            for instance in objects.InstanceList.get_by_filters(deleted, {"uuid": uuids, "deleted": True}):
                world.driver.destroy(world.context, instance, self.server.network_info, self.server.block_device_info)
            world.ironic.wait_for(world.node, *RESTS, timeout_s=30)
            world.driver.get_available_nodes(refresh=True)

    @contextmanager
    def escaping(self) -> Iterator[None]:
        """Within the block an error is the driver's way of saying: later. Those that are foreign to Nova are noted."""
        with suppress(Exception):
            yield

    def seen(self) -> dict[str, object]:
        """All that matters of the world, without what differs from one to the next."""
        world, server = self.world, self.server
        node = world.ironic.node(world.node)
        info = dict(node["instance_info"])
        info["configdrive"] = "configdrive" in info
        mark = dict(node["extra"].get("bloomery", {}))
        names = {
            vif["id"]: f"vif-{number}" for number, vif in enumerate([*server.network_info, server.vif or {"id": ""}])
        }
        return {
            "server": node["instance_uuid"] == server.instance.uuid,
            "carries": node["instance_uuid"] is not None,
            "provision_state": node["provision_state"],
            "power_state": node["power_state"],
            "maintenance": node["maintenance"],
            "console_enabled": node["console_enabled"],
            "instance_info": plain(info, world, server),
            "mark": bool(mark),
            "marked VIFs": sorted(names.get(vif, "?") for vif in mark.get("vifs", {})),
            "VIFs": sorted(names.get(vif, "?") for vif in world.ironic.vifs(world.node)),
            "volumes": len(world.ironic.volume_targets(world.node)),
        }

    def effects(self) -> Effects:
        """What was done since the world was prepared.

        Going on hard where softly does not work is the same; and so are a reboot of a machine that is off and a power-on.
        """
        done = effects_of(self.world.ironic, self.world.node).since(self.before)
        plainly = [change.removeprefix("soft ") for change in done.power]
        for number, (former, change) in enumerate(pairwise(plainly), 1):
            if (former, change) == ("power off", "rebooting"):
                plainly[number] = "power on"
        return replace(done, power=tuple(plainly))


def plain(value: object, world: DoorWorld, server: Server) -> object:
    """The value, comparable from world to world."""
    text = repr(value).replace(world.node, "NODE").replace(server.instance.uuid, "SERVER")
    text = re.sub(r"instance-[0-9a-f]{8}", "instance-NAME", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][0-9:.]+(\+00:00)?", "TIME", text)
    return _UUID.sub("UUID", text)


@dataclass(frozen=True)
class Kept:
    """A world in which some calls make sense, as it was when it had been prepared."""

    ironic: Any
    neutron: Any
    database: nova_world.Rows
    server: Server
    node: str
    private: str
    called: frozenset[str]


kept_worlds: dict[tuple[str, str], Kept] = {}
"""Those that were prepared in this process, by driver and by what prepares them: that takes longer than most calls."""


@contextmanager
def prepared(
    name: str,
    candidate: Candidate,
    session: Session | None = None,
    *,
    anew: bool = False,
    patience: Patience = CALM,
) -> Iterator[Struck]:
    """A world in which the call makes sense; with that session between driver and proxy, if one is given.

    It is prepared once, and later comes back as it was, before a compute service that has started since; `anew` prepares
    another.
    """
    key = (candidate.name, CALLS[name].prepare.__name__)
    kept = None if anew else kept_worlds.get(key)
    if kept is None:
        nova_world.empty_database()
    else:
        nova_world.restore_database(kept.database)
    with a_door_world(candidate, patience) as (world, proxy):
        world.session = session or world.session
        struck = Struck(candidate, name, world, proxy)
        if kept is None:
            struck.prepare()
            kept_worlds[key] = struck.kept()
        else:
            struck.restore(kept)
        yield struck


clean_runs: dict[tuple[str, str], CleanRun] = {}
"""Those that were made in this process, by call and driver; another process may be handed them."""


def clean_run(name: str, candidate: Candidate = OURS) -> CleanRun:
    """The call when nothing fails.

    Raises:
        AssertionError: it fails all the same.
    """
    key = (name, candidate.name)
    if key not in clean_runs:
        clean_runs[key] = _made(name, candidate)
    return clean_runs[key]


def _made(name: str, candidate: Candidate) -> CleanRun:
    with prepared(name, candidate, anew=True) as struck:
        untouched = struck.seen()
        made = struck.attempt(CALLS[name].call)
        requests = len(struck.proxy.requests)
        if made.problem is not None:
            raise AssertionError(f"{name} fails without any fault: {made.problem!r}") from made.problem
        struck.calm()
        struck.background_pass()
        noted = struck.world.noted
        assert not noted.escaped, noted.escaped
        return CleanRun(untouched, struck.seen(), struck.effects(), made.answer, requests, frozenset(noted.called))


def blows(name: str, fault: str, candidate: Candidate = OURS) -> list[Blow]:
    """The fault at every request of the call."""
    return [Blow(nth, fault) for nth in range(1, clean_run(name, candidate).requests + 1)]


def drawn(draw: random.Random, name: str, fault: str) -> list[Blow]:
    """The fault at one of the call's requests; none if it makes none."""
    every = blows(name, fault)
    return [draw.choice(every)] if every else []


def tried(name: str, *all_blows: Blow, candidate: Candidate = OURS, limit_s: float = LIMIT_S) -> Verdict:
    """The call is made while these requests fail.

    After it nothing fails any more. A background pass follows, and where the call has failed and the world is neither as
    before nor as wanted, the user does what users do then, and another pass follows.
    """
    clean = clean_run(name, candidate)
    with prepared(name, candidate, patience=patience_with(all_blows)) as struck:
        if any(blow.fault == LATE for blow in all_blows):
            struck.world.ironic.timings = SLOWER
        struck.proxy.arm(*(FAULTS[blow.fault](blow.nth) for blow in all_blows))
        made = struck.attempt(CALLS[name].call, limit_s)
        hit = ", ".join(f"{strike.request.method} {strike.request.target[:90]}" for strike in struck.proxy.struck)
        if made.is_endless:
            struck.proxy.stop()
            wrong = f"{name}, {_words(all_blows)} (struck {hit}): it does not end"
            return Verdict(Outcome.BROKEN, Promise.ENDS, wrong)
        struck.calm()
        noted = struck.world.noted
        foreign = "; ".join(noted.escaped)
        if made.problem is not None and not isinstance(made.problem, exception.NovaException):
            foreign = foreign or "no error that Nova knows"
        verdict = _judged(struck, clean, made)
        if candidate.exactly:
            foreign = foreign or "; ".join(noted.escaped)
        if foreign and verdict.outcome.is_well:
            verdict = Verdict(Outcome.FOREIGN, Promise.ERRORS, foreign)
        if verdict.outcome.is_well:
            return verdict
        return replace(
            verdict, wrong=f"{name}, {_words(all_blows)} (struck {hit}): {verdict.wrong}; raised {made.problem!r}"
        )


def _words(all_blows: tuple[Blow, ...]) -> str:
    return " and ".join(map(str, all_blows))


def _broken(promise: Promise, wrong: str) -> Verdict:
    return Verdict(Outcome.BROKEN, promise, wrong)


def _judged(struck: Struck, clean: CleanRun, made: Attempt) -> Verdict:
    """By the machine; not by what came out."""
    struck.background_pass()
    ends = (clean.untouched, clean.finished)
    if made.problem is None:
        now = struck.seen()
        if now != clean.finished:
            return _broken(Promise.TRUTH, f"it said that it succeeded, but {difference(now, clean.finished)}")
        extra = second_effect(struck.effects(), clean.effects, times=1)
        if extra is not None:
            return _broken(Promise.ONCE, extra)
        if made.answer != clean.answer:
            return _unknown(struck, clean, made)
        return Verdict(Outcome.DONE)
    asked = 1
    if struck.seen() not in ends:
        asked = 2
        again = CALLS[struck.name].again or CALLS[struck.name].call
        struck.attempt(again)
        struck.calm()
        struck.background_pass()
    now = struck.seen()
    if now not in ends:
        return _broken(
            Promise.ORDER, f"it was left as it should not be: {difference(now, clean.untouched)} from before"
        )
    extra = second_effect(struck.effects(), clean.effects, times=asked)
    return _broken(Promise.ONCE, extra) if extra is not None else Verdict(Outcome.FAILED)


def _unknown(struck: Struck, clean: CleanRun, made: Attempt) -> Verdict:
    """Another answer than usual: it may be that nothing is known, if that is what is said, and known later."""
    later = struck.attempt(CALLS[struck.name].call)
    if made.answer in NOTHING_KNOWN and later.answer == clean.answer:
        return Verdict(Outcome.FAILED)
    return _broken(Promise.TRUTH, f"the answer was {made.answer}, and not {clean.answer}")


def is_survived(name: str, blow: Blow) -> bool:
    """Whether nobody is to hear of the fault; but what cannot be seen on the node is not repeated if it may have been done."""
    return blow.fault in SURVIVED and not (name in LEAVES_NO_TRACE and blow.fault in MAY_HAVE_ARRIVED)
