"""Every operation x every request that it makes x every fault: a cell each. `tried` says what is wrong with one."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from keystoneauth1.plugin import BaseAuthPlugin

from bloomery import BloomeryError, Patience
from bloomery.errors import RollbackIncomplete
from bloomery.testing import Fault, FaultKind, FaultProxy, FaultRule, IronicSimulator, Lasting
from unwind.scenarios import FAST, SCENARIOS, World, a_world
from unwind.test_unwind import ASKED_AGAIN, LEAVES_NO_TRACE, comparable, settle

REQUEST_S = 0.4
"""What one request may take where the fault is that it takes longer."""
CALM = Patience(request_s=60.0, before_change_s=3.0, after_change_s=15.0, first_pause_s=0.02)
"""Where it is another fault. A machine that is busy with other things takes its time: nothing that it delays is given up, and
sent again while it may still be carried out, as a failing deploy of some milliseconds would be."""
HASTE = replace(CALM, request_s=REQUEST_S)
LATE_S = REQUEST_S + 0.1
LATE = "deed too late"
"""The request is carried out when its client has given it up, and has perhaps sent another."""
SLOWER = replace(FAST, deploy_s=0.4, rescue_s=0.4)
"""Where requests come late: what takes minutes in real life is still under way then."""

Strikes = Callable[[int], FaultRule]


def _status(status: int, kind: FaultKind = FaultKind.STATUS) -> Strikes:
    return lambda nth: FaultRule(fault=Fault(kind, status=status), nth=nth)


def _kind(kind: FaultKind, *, delay_s: float = 0.0, body: str = "") -> Strikes:
    return lambda nth: FaultRule(fault=Fault(kind, delay_s=delay_s, body=body), nth=nth)


def _lasting(fault: Lasting, lasts_s: float | None = None) -> Strikes:
    return lambda nth: FaultRule(fault=fault, lasts_s=lasts_s, nth=nth)


FAULTS: dict[str, Strikes] = {
    "locked for a while": _lasting(Lasting.LOCK, 0.25),
    "409": _status(409),
    "429": _status(429),
    "500": _status(500),
    "502": _status(502),
    "503": _status(503),
    "404 once": _status(404),
    "500 after the deed": _status(500, FaultKind.STATUS_AFTER),
    "502 after the deed": _status(502, FaultKind.STATUS_AFTER),
    "token expires": _lasting(Lasting.TOKEN_EXPIRED),
    "refused for a while": _kind(FaultKind.REFUSE, delay_s=0.1),
    "reset before": _kind(FaultKind.RESET),
    "reply lost": _kind(FaultKind.LOSE_REPLY),
    LATE: _kind(FaultKind.DELAY, delay_s=LATE_S),
    "reply too late": _kind(FaultKind.DELAY_REPLY, delay_s=LATE_S),
    "silence": _kind(FaultKind.SILENCE),
    "slow": _kind(FaultKind.TRICKLE, delay_s=0.004),
    "body cut": _kind(FaultKind.CUT_BODY),
    "no JSON": _kind(FaultKind.GARBAGE_BODY),
    "a list": _kind(FaultKind.OTHER_SHAPE, body='["another", "shape"]'),
    "another object": _kind(FaultKind.OTHER_SHAPE, body='{"another": "shape"}'),
}
"""By name; each, for a number, is the rule that strikes the request of that number."""

TAKE_LONG = {LATE, "reply too late", "silence", "slow"}
"""The faults that a client is to lose its patience over."""
LOCK = "locked for a while"
SURVIVED = {LOCK, "409", "429", "500", "502", "503", "reset before", "refused for a while", "token expires"}
"""Faults that an operation has to survive: nobody is to hear of them. Others may be told, if nothing is left behind."""


class Tokens(BaseAuthPlugin):  # type: ignore[misc]  # keystoneauth has no types
    """Credentials with which one gets a new token whenever the last one has expired."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 1

    def get_token(self, session: Any, **kwargs: Any) -> str:  # noqa: ARG002  (keystoneauth's)
        return f"token-{self.number}"

    def invalidate(self) -> bool:
        self.number += 1
        return True


@dataclass(frozen=True, order=True)
class Blow:
    """One request that fails: at which service, which one of the operation's, and how."""

    service: str
    nth: int
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at {self.service}'s request {self.nth}"


@dataclass(frozen=True)
class Effects:
    """What was done to the machine, not what Ironic says of it."""

    power: tuple[str, ...]
    interrupts: int
    provisioned: tuple[str, ...]

    def since(self, before: Effects) -> Effects:
        """What came on top of that."""
        return Effects(
            power=self.power[len(before.power) :],
            interrupts=self.interrupts - before.interrupts,
            provisioned=self.provisioned[len(before.provisioned) :],
        )


def effects_of(ironic: IronicSimulator, node: str) -> Effects:
    """What was ever done to the node."""
    bmc = ironic.bmc(node)
    provisioned = [
        str(request.body["target"])
        for request in list(ironic.requests)
        if request.path.endswith("/states/provision") and request.status == 202
    ]
    return Effects(tuple(bmc.power_changes), bmc.interrupts, tuple(provisioned))


@dataclass(frozen=True)
class CleanRun:
    """An operation of which nothing fails: the worlds before and after it, what it did, how many requests it made.

    `writes` has the numbers of those requests that change something.
    """

    untouched: dict[str, object]
    finished: dict[str, object]
    effects: Effects
    requests: dict[str, int]
    writes: dict[str, list[int]]


def patience_with(blows: Iterable[Any]) -> Patience:
    """What suits a client that these blows strike, each of which has a `fault`."""
    return HASTE if any(blow.fault in TAKE_LONG for blow in blows) else CALM


class Struck:
    """A world whose services are reached through proxies."""

    def __init__(self, world: World, proxies: dict[str, FaultProxy], patience: Patience) -> None:
        self.world = world
        self.proxies = proxies
        self.patience = patience
        self._before = effects_of(world.ironic, world.node)

    def call(self, name: str) -> None:
        """The operation is called by a new process, through the proxies."""
        api = self.world.api(
            endpoints={"baremetal": self.proxies["Ironic"].url, "network": self.proxies["Neutron"].url},
            auth=Tokens(),
            patience=self.patience,
        )
        SCENARIOS[name].call(api, self.world)

    def calm(self) -> None:
        """Nothing fails any more, every request has come to its end, and Ironic to rest."""
        for proxy in self.proxies.values():
            proxy.arm()
            proxy.accept_connections()
            proxy.wait_until_idle()
        settle(self.world)

    def seen(self) -> dict[str, object]:
        """The world, comparable to others."""
        return comparable(self.world.seen(), self.world)

    def effects(self) -> Effects:
        """What was done since the world was prepared."""
        return effects_of(self.world.ironic, self.world.node).since(self._before)


@contextmanager
def prepared(name: str, patience: Patience = CALM) -> Iterator[Struck]:
    """A world in which the operation makes sense, with a proxy before each service, and clients of that patience."""
    with a_world() as world:
        SCENARIOS[name].prepare(world)
        with FaultProxy(world.ironic.url) as ironic, FaultProxy(world.neutron.url) as neutron:
            yield Struck(world, {"Ironic": ironic, "Neutron": neutron}, patience)


@functools.cache
def clean_run(name: str) -> CleanRun:
    """The operation when nothing fails."""
    with prepared(name) as struck:
        untouched = struck.seen()
        struck.call(name)
        struck.calm()
        return CleanRun(
            untouched,
            struck.seen(),
            struck.effects(),
            {service: len(proxy.requests) for service, proxy in struck.proxies.items()},
            {
                service: [number for number, request in enumerate(proxy.requests, 1) if request.is_write]
                for service, proxy in struck.proxies.items()
            },
        )


def blows(name: str, fault: str) -> list[Blow]:
    """The fault at every request of the operation."""
    return [
        Blow(service, nth, fault)
        for service, count in clean_run(name).requests.items()
        if service == "Ironic" or fault != LOCK  # Neutron locks nothing; its 409 means that something is in use
        for nth in range(1, count + 1)
    ]


def drawn(draw: random.Random, name: str, fault: str) -> Blow:
    """The fault at one of the operation's requests."""
    return draw.choice(blows(name, fault))


def tried(name: str, *all_blows: Blow) -> str | None:
    """The operation is called while these requests fail; says what is wrong then, or None if all is as it should be.

    After it nothing fails any more; a background pass and, where only its user can finish an operation, his asking again
    may follow.
    """
    clean = clean_run(name)
    with prepared(name, patience_with(all_blows)) as struck:
        if any(blow.fault == LATE for blow in all_blows):
            struck.world.ironic.timings = SLOWER
        for service, proxy in struck.proxies.items():
            proxy.arm(*(FAULTS[blow.fault](blow.nth) for blow in all_blows if blow.service == service))
        problem: BloomeryError | None = None
        try:
            struck.call(name)
        except BloomeryError as raised:
            problem = raised
        hit = [strike.request for proxy in struck.proxies.values() for strike in proxy.struck]
        struck.calm()
        wrong = _what_is_wrong(name, struck, clean, problem, all_blows)
        if wrong is None:
            return None
        places = ", ".join(f"{request.method} {request.target[:90]}" for request in hit) or "nothing"
        return f"{name}, {' and '.join(str(blow) for blow in all_blows)} (struck {places}): {wrong}; raised {problem!r}"


def _what_is_wrong(
    name: str, struck: Struck, clean: CleanRun, problem: BloomeryError | None, all_blows: Sequence[Blow]
) -> str | None:
    ends = (clean.untouched, clean.finished)
    if problem is None:
        if any(blow.fault == LATE for blow in all_blows) and struck.seen() != clean.finished:
            _background_pass(struck)  # nobody could know of what came afterwards
        if struck.seen() != clean.finished:
            return f"it said that it succeeded, but {difference(struck.seen(), clean.finished)}"
        return second_effect(struck.effects(), clean.effects, times=1)
    if len(all_blows) == 1 and name not in LEAVES_NO_TRACE and _is_survived(all_blows[0]):
        return "it should have survived that"
    if len(all_blows) == 1 and isinstance(problem, RollbackIncomplete):
        return "it could not be undone"
    if struck.seen() not in ends:
        left = _background_pass(struck)
        if left:
            return f"the background pass failed: {left}"
    asked = 1
    if struck.seen() not in ends and name in ASKED_AGAIN:
        asked = 2
        SCENARIOS[name].call(struck.world.api(), struck.world)
        settle(struck.world)
    now = struck.seen()
    if now not in ends:
        return f"it was left as it should not be: {difference(now, clean.untouched)} from before"
    return second_effect(struck.effects(), clean.effects, times=asked)


def _background_pass(struck: Struck) -> list[BloomeryError]:
    """What another process recovers, and what went wrong with that."""
    passed = struck.world.api().recover(older_than_s=0, timeout_s=60)
    settle(struck.world)
    return [problem for _, problem in passed if problem is not None]


def _is_survived(blow: Blow) -> bool:
    return blow.fault in SURVIVED and (blow.service == "Ironic" or blow.fault != "409")


def second_effect(done: Effects, wanted: Effects, *, times: int) -> str | None:
    """What was done to the machine more often than it was asked for; what takes a failed operation back is not counted."""
    for verb in ("active", "rebuild", "rescue"):
        if done.provisioned.count(verb) > times * wanted.provisioned.count(verb):
            return f"Ironic was brought to {verb!r} {done.provisioned.count(verb)} times"
    if done.interrupts > times * wanted.interrupts:
        return f"the machine got {done.interrupts} interrupts"
    if times == 1 and done.provisioned == wanted.provisioned:
        extra = Counter(done.power) - Counter(wanted.power)
        if extra:
            return f"the machine's power was changed once more: {dict(extra)}"
    return None


def difference(now: dict[str, object], wanted: dict[str, object]) -> str:
    parts = {key: (now[key], wanted[key]) for key in wanted if now.get(key) != wanted[key]}
    return "; ".join(f"{key} is {is_!r} and not {should!r}" for key, (is_, should) in parts.items())
