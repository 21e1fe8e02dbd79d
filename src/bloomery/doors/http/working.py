"""Operations: accepted into the log first, then carried out by threads of this process, or by another replica's if it dies.

An operation has one holder at a time, who says every few seconds that he is still there. One whose holder has not been heard
of goes to whoever asks first, and goes on from what Ironic shows: the core's journal is on the node, not here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from bloomery.deadline import Cancellation
from bloomery.doors.http.access import Principal
from bloomery.doors.http.context import on_behalf_of
from bloomery.doors.http.following import Following
from bloomery.doors.http.metrics import Metrics
from bloomery.doors.http.problems import (
    FOR_USERS,
    Refusal,
    StoreUnavailable,
    broken_off,
    of_a_bug,
    problem_of,
    refusal_of,
)
from bloomery.doors.http.store import ACTIVE, Event, Row, Store
from bloomery.doors.http.upstream import Cloud
from bloomery.doors.http.verbs import VERBS, Order, Way, kept
from bloomery.errors import BloomeryError, NoNodeFits, OperationCancelled
from bloomery.ironic import Node
from bloomery.operations.run import Progress
from bloomery.plain import logger

log = logger(__name__)

PROGRESS_EVERY_S = 2.0
"""How often the log learns how far an operation is, within a step."""
STORE_AGAIN_S = 1.0
"""Between two attempts to write the end of an operation into a log that cannot be written."""
TAKEN_AT_ONCE = 20
_WHY = "GET /v1/why-not says what keeps each of them from such a request"


@dataclass(eq=False)
class _Job:
    """An operation that this process carries out."""

    id: str
    order: Order
    row: Row
    is_taken_over: bool = False
    is_begun: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation)
    began_at: float = 0.0
    progress: Progress | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    written_at: float = 0.0
    taken_at: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))

    def now(self) -> float:
        """The time, by a clock that goes on evenly since this process has the operation: nobody sets it in between."""
        wall, steady = self.taken_at
        return wall + time.monotonic() - steady


class Workers:
    """Those who carry operations out.

    Args:
        cloud: what with.
        store: the log.
        following: shows what became of a node.
        metrics: counts.
        holder: who we are among the replicas.
        at_once: so many operations at a time.
        lease_s: another replica takes over what was not heard of for so long.
    """

    def __init__(
        self,
        cloud: Cloud,
        store: Store,
        following: Following,
        metrics: Metrics,
        *,
        holder: str,
        at_once: int,
        lease_s: float,
    ) -> None:
        self.cloud = cloud
        self.store = store
        self.following = following
        self.metrics = metrics
        self.holder = holder
        self.at_once = at_once
        self.lease_s = lease_s
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._jobs: dict[str, _Job] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._idle = 0
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="bloomery-keeper", daemon=True)

    def start(self) -> None:
        """Operations are carried out from now on, those first that others left."""
        self._keeper.start()

    def stop(self) -> None:
        """Nothing new is begun. What is under way goes on until the process ends, and afterwards elsewhere."""
        self._stopping.set()
        self.following.rouse()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            for _ in self._threads:
                self._queue.put(None)

    @property
    def under_way(self) -> int:
        """So many operations this process has, waiting ones included."""
        return len(self._jobs)

    @property
    def is_taking_over(self) -> bool:
        """Whether it is at an operation that another process left."""
        return any(job.is_taken_over for job in list(self._jobs.values()))

    def accept(
        self,
        verb: str,
        order: Order,
        *,
        principal: Principal,
        request_id: str | None,
        key: str | None,
        fingerprint: bytes,
        node: Node | None,
        name: str | None,
    ) -> tuple[Row, bool]:
        """The operation is in the log, and will be carried out whatever becomes of this process.

        Args:
            verb: what is to be done.
            order: the whole of it.
            principal: who asked.
            request_id: with which request.
            key: its idempotency key.
            fingerprint: what the request says.
            node: the instance's node, if there is one already.
            name: what the instance is called.

        Returns:
            Its row, and whether it is new: with a key that came before, it is what that led to.

        Raises:
            Refusal: another request came with that key, or the log cannot be written; nothing was begun.
        """
        arguments, has_secrets = kept(order.body)
        wanted_class = arguments.get("wanted", {}).get("resource_class") if verb == "deploy" else None
        resource_class = node.resource_class if node is not None else wanted_class
        operation_id = str(uuid4())
        where = {
            "instance_uuid": order.instance,
            "node_uuid": node.uuid if node is not None else None,
            "node_name": node.name if node is not None else None,
            "owner": node.owner if node is not None else order.owner,
            "lessee": node.lessee if node is not None else None,
        }
        operation: dict[str, Any] = {
            **where,
            "id": operation_id,
            "kind": verb,
            "state": "queued",
            "instance_name": name,
            "resource_class": resource_class,
            "actor": principal.name,
            "project_id": principal.project_id,
            "request_id": request_id,
            "arguments": arguments,
            "has_secrets": has_secrets,
            "steps": [],
            "cancelling": False,
            "expected_s": self.store.expected_s(verb, resource_class),
            "holder": self.holder,
        }
        happened = Event(
            kind="operation.accepted",
            **where,
            operation_id=operation_id,
            actor=principal.name,
            request_id=request_id,
            data={"kind": verb, "instance_name": name},
        )
        caller = principal.key_holder
        row, is_new = self.store.accept(
            operation, happened, lease_s=self.lease_s, caller=caller, key=key, fingerprint=fingerprint
        )
        if is_new:
            self._add(_Job(str(row["id"]), order, row))
        return row, is_new

    def live(self, row: Row) -> Row:
        """The operation's row, with what this process knows of its progress and the log does not yet."""
        job = self._jobs.get(row["id"])
        if job is None or job.progress is None or row["state"] not in ACTIVE:
            return row
        return {**row, "progress": _progress_of(job.progress), "steps": list(job.steps), **job.known}

    def cancel(self, row: Row) -> None:
        """The operation ends soon, and what it began is undone.

        Raises:
            Refusal: it has ended.
        """
        if row["state"] not in ACTIVE:
            raise Refusal(
                409, "OperationEnded", f"the operation has {row['state']}", advice="What has ended cannot be cancelled"
            )
        self.store.ask_to_cancel(row["id"])
        job = self._jobs.get(row["id"])
        if job is not None:
            job.cancellation.cancel()

    # Threads

    def _add(self, job: _Job) -> None:
        with self._lock:
            self._jobs[job.id] = job
            self._queue.put(job)
            if self._idle < self._queue.qsize() and len(self._threads) < self.at_once:
                thread = threading.Thread(target=self._work, name=f"bloomery-work-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._queue.get()
            with self._lock:
                self._idle -= 1
            if job is None or self._stopping.is_set():
                return
            try:
                with on_behalf_of(job.row["request_id"]):
                    self._carry_out(job)
            finally:
                self._jobs.pop(job.id, None)

    def _keep(self) -> None:
        """What is ours stays ours, what is to be cancelled is, and what others left is taken over."""
        while True:
            try:
                mine = list(self._jobs)
                if mine:
                    for operation_id, is_cancelled in self.store.hold(mine, self.holder, self.lease_s):
                        job = self._jobs.get(operation_id)
                        if is_cancelled and job is not None and not job.cancellation.is_cancelled:
                            job.cancellation.cancel()
                for row in self.store.take_over(self.holder, self.lease_s, but=list(self._jobs), limit=TAKEN_AT_ONCE):
                    self._take(row)
            except StoreUnavailable as problem:
                log.warning("operations cannot be held: %s", problem)
            if self._stopping.wait(self.lease_s / 4):
                return

    def _take(self, row: Row) -> None:
        """An operation that another process left is ours to bring to its end."""
        verb = VERBS[row["kind"]]
        log.info("taking over %s %s, which %s left", row["kind"], row["id"], row["state"])
        try:
            body = verb.body.model_validate(row["arguments"], strict=False)
        except ValidationError:
            # A request whose secrets were not kept may not be whole without them; only its time is needed to go on.
            body = verb.body.model_construct(**row["arguments"])
        order = Order(verb=row["kind"], body=body, instance=row["instance_uuid"], owner=row["project_id"])
        is_begun = row["state"] == "running"
        job = _Job(row["id"], order, row, is_taken_over=True, is_begun=is_begun, steps=list(row["steps"]))
        if row["cancelling"]:
            job.cancellation.cancel()
        self._add(job)

    # One operation

    def _carry_out(self, job: _Job) -> None:
        if job.is_taken_over and not self.following.wait_for_ironic(self._stopping.is_set):
            return  # whoever has it next goes on from what Ironic shows then
        verb = VERBS[job.order.verb]
        job.began_at = job.now() if job.row["started_at"] is None else job.row["started_at"]
        call = verb.go_on if job.is_begun else verb.call
        started = self._written(
            lambda: self.store.set_operation(
                job.id,
                self.holder,
                {"state": "running", "started_at": job.began_at},
                self._event(job, "operation.taken over" if job.is_begun else "operation.started"),
            )
        )
        if not started:
            return
        state, result, problem = "succeeded", None, None
        try:
            if job.cancellation.is_cancelled and not job.is_begun:
                raise OperationCancelled("cancelled before it began")
            if job.row["has_secrets"] and job.is_taken_over and not job.is_begun:
                raise broken_off("its request held secrets, which are not kept")
            if call is None:
                raise broken_off("whether it had been carried out cannot be told")
            way = Way(cancellation=job.cancellation, on_progress=lambda progress: self._progressed(job, progress))
            with self.metrics.operation(job.order.verb):
                result = call(self.cloud.api, job.order, way)
        except OperationCancelled as cancelled:
            state, problem = "cancelled", problem_of(cancelled)
        except NoNodeFits as failure:
            # Which nodes there are, and what is on them, is not for whoever acts for one project.
            told = failure if job.row["project_id"] is None else NoNodeFits("no node of the project fits", advice=_WHY)
            state, problem = "failed", problem_of(told)
        except BloomeryError as failure:
            state, problem = "failed", problem_of(failure)
            if failure.node_uuid is not None:
                job.known.setdefault("node_uuid", failure.node_uuid)
        except Refusal as refusal:
            state, problem = "failed", refusal_of(refusal)
        except Exception:
            # The last frame of a door's thread: the operation's asker is told, and the thread goes on to the next one.
            log.exception("%s %s met a bug", job.order.verb, job.id)
            state, problem = "failed", of_a_bug()
        self._end(job, state, result, problem)

    def _end(self, job: _Job, state: str, result: Mapping[str, Any] | None, problem: dict[str, Any] | None) -> None:
        ended_at = job.now()
        self._close_step(job, ended_at)
        node_uuid = job.known.get("node_uuid") or job.row["node_uuid"] or (result or {}).get("node_uuid")
        if node_uuid is not None:
            self._look(str(node_uuid))
            node = self.following.fleet.node(str(node_uuid))
            if node is not None:
                job.known |= {
                    "node_uuid": node.uuid,
                    "node_name": node.name,
                    "owner": node.owner,
                    "lessee": node.lessee,
                    "resource_class": node.resource_class,
                }
        took_s = round(ended_at - job.began_at, 3)
        values = {
            **job.known,
            "state": state,
            "ended_at": ended_at,
            "result": dict(result) if result is not None else None,
            "problem": problem,
            "steps": job.steps,
        }
        data: dict[str, Any] = {"took_s": took_s}
        if problem is not None:
            names = ("title", "detail", "advice", FOR_USERS)
            data |= {name: problem[name] for name in names if name in problem}
        self.metrics.ended(job.order.verb, state, took_s)
        event = self._event(job, f"operation.{state}", **data)
        self._written(lambda: self.store.set_operation(job.id, self.holder, values, event))

    def _look(self, node_uuid: str) -> None:
        """What is shown from now on is what the operation led to."""
        try:
            self.following.look(node_uuid)
        except BloomeryError as problem:
            log.info("node %s could not be looked at: %s", node_uuid, problem)
        except StoreUnavailable:
            log.info("what node %s shows could not be noted", node_uuid)

    def _written(self, write: Callable[[], bool]) -> bool:
        """The log has it, however long that takes; False if the operation is not ours any more, or the service ends."""
        # review: the end of the service ends it; what a machine has come to must not go unsaid because a disk is full
        while True:
            try:
                return write()
            except StoreUnavailable as problem:
                log.warning("the log cannot be written: %s; trying again", problem)
            if self._stopping.wait(STORE_AGAIN_S):
                return False

    def _progressed(self, job: _Job, progress: Progress) -> None:
        now = job.now()
        at_step = (progress.step, progress.undoing)
        is_new = job.progress is None or at_step != (job.progress.step, job.progress.undoing)
        if is_new:
            self._close_step(job, now)
            job.steps = [*job.steps, {"name": progress.step, "undoing": progress.undoing, "began_at": now}]
        job.progress = progress
        if progress.node_uuid is not None and "node_uuid" not in job.known:
            job.known |= {"node_uuid": progress.node_uuid, "node_name": progress.node_name}
            node = self.following.fleet.node(progress.node_uuid)
            if node is not None:
                job.known |= {"owner": node.owner, "lessee": node.lessee, "resource_class": node.resource_class}
        if not is_new and now - job.written_at < PROGRESS_EVERY_S:
            return
        job.written_at = now
        values = {**job.known, "progress": _progress_of(progress), "steps": job.steps}
        told = [self._event(job, "operation.step", **_progress_of(progress))] if is_new else []
        try:
            self.store.set_operation(job.id, self.holder, values, *told)
        except StoreUnavailable as problem:
            # The machine matters more than the log of it: the operation goes on, and its end is written when it can be.
            log.warning("progress cannot be noted: %s", problem)

    def _close_step(self, job: _Job, now: float) -> None:
        if job.steps and "took_s" not in job.steps[-1]:
            last = job.steps[-1]
            took_s = round(now - last["began_at"], 3)
            job.steps = [*job.steps[:-1], {**last, "took_s": took_s}]
            step = f"undo {last['name']}" if last["undoing"] else last["name"]
            self.metrics.step(job.order.verb, step, took_s)

    def _event(self, job: _Job, kind: str, **data: Any) -> Event:
        row = {**job.row, **job.known}
        return Event(
            kind=kind,
            node_uuid=row["node_uuid"],
            node_name=row["node_name"],
            instance_uuid=row["instance_uuid"],
            owner=row["owner"],
            lessee=row["lessee"],
            operation_id=job.id,
            actor=row["actor"],
            request_id=row["request_id"],
            data={"kind": job.order.verb, "instance_name": row["instance_name"], **data},
        )


def _progress_of(progress: Progress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "index": progress.index,
        "total": progress.total,
        "fraction": round(progress.fraction, 3),
        "state": progress.state,
        "detail": progress.detail,
        "undoing": progress.undoing,
    }
