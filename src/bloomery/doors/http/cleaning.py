"""The janitor, as a service has it: in the background, in one replica at a time, switched on and off for all of them."""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from bloomery.doors.http.access import NOBODY
from bloomery.doors.http.metrics import Metrics
from bloomery.doors.http.problems import Refusal, StoreUnavailable, problem_of, shown_problem
from bloomery.doors.http.settings import Settings
from bloomery.doors.http.store import Event, Store
from bloomery.doors.http.upstream import Cloud
from bloomery.janitor import Habits, Janitor, Leak, Outcome, Pass, Verdict
from bloomery.plain import logger

log = logger(__name__)

ACTOR = "janitor"
"""Who asked for what the janitor did, as events have it."""
SHOWN = 200
"""So many leaks of a look are shown; their numbers are told in any case."""
WISH, LAST = "janitor.wish", "janitor.last"
"""The notes in the log: what administrators want of it, and what the last look came to."""


def leak_event(leak: Leak, *, actor: str, request_id: str | None = None) -> Event:
    """What tells that a leak is gone."""
    return Event(
        kind="leak.mended",
        node_uuid=leak.node_uuid,
        node_name=leak.node,
        instance_uuid=leak.instance_uuid,
        actor=actor,
        request_id=request_id,
        data={"kind": leak.kind.value, "name": leak.name, "reason": leak.reason},
    )


class Cleaning:
    """One janitor for all replicas: whichever leads has it, and what is wanted of it stands in the log.

    Args:
        cloud: what to keep clean; the first look waits until it is there.
        store: has what is wanted, what the last look came to, and an event for each leak that is gone.
        metrics: count its looks.
        settings: whether there is one, and its habits.
        may_look: whether this replica is the one that looks.
    """

    def __init__(
        self, cloud: Cloud, store: Store, metrics: Metrics, settings: Settings, *, may_look: Callable[[], bool]
    ) -> None:
        self.cloud = cloud
        self.store = store
        self.metrics = metrics
        self.is_wanted = settings.janitor
        self.habits = Habits(every_s=settings.janitor_every_s, requests_per_s=settings.janitor_requests_per_s)
        # What another process has left half done is for whoever takes its operations over, and he comes after the lease.
        self.first_after_s = 2 * settings.lease_s
        self._may_look = may_look
        self._janitor: Janitor | None = None
        self._looked_for = 0.0
        self._began_at = 0.0
        self._untold: list[Event] = []
        self._telling = threading.Lock()

    def heed(self) -> None:
        """What is wanted is done from now on. Called after each look at the fleet that went well, by one thread.

        Raises:
            StoreUnavailable: what is wanted cannot be read, or what was done not be told.
        """
        if not self.is_wanted:
            return
        wish = self._wish()
        if self._janitor is None:
            self._looked_for = wish.get("look_at", 0.0)
            self._janitor = self.cloud.api.janitor(self.habits, on_pass=self._done, may_look=self._may_begin)
            self._janitor.start(after_s=self.first_after_s)
        if wish.get("is_paused", False) and not self._janitor.is_paused:
            self._janitor.pause()
        elif self._janitor.is_paused and not wish.get("is_paused", False):
            self._janitor.go_on()
        if wish.get("look_at", 0.0) > self._looked_for:
            self._looked_for = wish["look_at"]
            self._janitor.look_now()
        self._tell()
        self.metrics.janitor_works.set(0 if self._janitor.is_paused else 1)

    @property
    def is_at_work(self) -> bool:
        """Whether it was started, paused or not."""
        return self._janitor is not None

    def stop(self) -> None:
        """It sends no request any more."""
        if self._janitor is not None:
            self._janitor.stop()

    def shown(self) -> dict[str, Any]:
        """What administrators are told of it.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        wish = self._wish()
        is_paused = bool(wish.get("is_paused", False))
        return {
            "state": "off" if not self.is_wanted else "paused" if is_paused else "on",
            "changed_by": wish.get("by"),
            "changed_at": wish.get("at"),
            "every_s": self.habits.every_s,
            "requests_per_s": self.habits.requests_per_s,
            "last": self.store.note(LAST),
        }

    def wish(self, what: str, *, actor: str) -> None:
        """All replicas do so within some seconds: `pause`, `go on`, or `look`.

        Raises:
            Refusal: this service was started without a janitor, or it is paused and should look.
            StoreUnavailable: the log cannot be written; nothing has changed.
        """
        if not self.is_wanted:
            raise Refusal(
                409, "JanitorOff", "this service was started without a janitor",
                advice="Start it without --no-janitor; `GET /v1/leaks` shows what is left in any case",
            )  # fmt: skip

        def change(before: Mapping[str, Any], now: float) -> Mapping[str, Any]:
            if what == "look":
                if before.get("is_paused", False):
                    raise Refusal(409, "JanitorPaused", "the janitor is paused", advice="Let it go on first")
                return {**before, "look_at": now}
            return {**before, "is_paused": what == "pause", "by": actor, "at": now}

        self.store.change_note(WISH, change)

    def _wish(self) -> Mapping[str, Any]:
        return self.store.note(WISH) or {}

    def _may_begin(self) -> bool:
        try:
            may = self._may_look() and not self._wish().get("is_paused", False)
        except StoreUnavailable as problem:
            log.warning("the janitor does not look, because the log cannot be used: %s", problem)
            return False
        if may:
            self._began_at = time.monotonic()
        return may

    def _done(self, done: Pass) -> None:
        """A look is over; in the janitor's thread."""
        survey = done.survey
        found = Tally(leak.verdict.value for leak in survey.leaks) if survey is not None else Tally[str]()
        gone = [outcome.leak for outcome in done.outcomes if outcome.is_gone]
        self.metrics.looked(None if survey is None else found, [leak.kind.value for leak in gone])
        self._untold += [leak_event(leak, actor=ACTOR) for leak in gone]
        last = {
            "took_s": round(time.monotonic() - self._began_at, 3),
            "found": {verdict.value: found[verdict.value] for verdict in Verdict},
            "mended": len(gone),
            "leaks": [_as_row(leak) for leak in _still_there(done)[:SHOWN]],
            "blind": list(survey.blind) if survey is not None else [],
            "problem": shown_problem(problem_of(done.problem), NOBODY) if done.problem is not None else None,
        }
        try:
            self.store.change_note(LAST, lambda _before, now: {**last, "at": now})
            self._tell()
        except StoreUnavailable as problem:
            log.warning("what the janitor did cannot be noted yet: %s", problem)

    def _tell(self) -> None:
        """What it has cleaned is told, by now also if it could not be told at once."""
        with self._telling:
            told = list(self._untold)
            if told:
                self.store.tell(*told)
                del self._untold[: len(told)]


def _still_there(done: Pass) -> list[Leak]:
    """What a person may want to see: what it came to nothing with first, then what nothing proves, then others'."""
    outcomes: dict[Leak, Outcome] = {outcome.leak: outcome for outcome in done.outcomes}
    there = []
    for leak in done.survey.leaks if done.survey is not None else ():
        outcome = outcomes.get(leak)
        if outcome is not None and outcome.is_gone:
            continue
        why = outcome.problem if outcome is not None else None
        there.append(leak if why is None else replace(leak, reason=f"{leak.reason}; it could not be cleaned: {why}"))
    order = (Verdict.LEFT, Verdict.UNPROVEN, Verdict.FOREIGN)
    return sorted(there, key=lambda leak: order.index(leak.verdict))


def _as_row(leak: Leak) -> dict[str, Any]:
    return {**asdict(leak), "kind": leak.kind.value, "verdict": leak.verdict.value}
