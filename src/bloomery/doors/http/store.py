"""The service's log: events, audit, operations, webhooks. Ironic has the truth; here is only what was done and seen.

In SQLite, one file that nobody else may read, used by one process; or in PostgreSQL, shared by replicas. What is to be
known together is written together, in one transaction.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import msgspec
from psycopg.errors import ConnectionTimeout
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Result,
    Table,
    and_,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bloomery.doors.http.problems import Refusal, StoreUnavailable
from bloomery.doors.http.tables import (
    audit,
    bring_up_to_date,
    deliveries,
    events,
    idempotency,
    leases,
    looks,
    nodes,
    notes,
    operations,
    reads,
    shown,
    versions,
    webhooks,
)
from bloomery.doors.http.timely_postgresql import SILENT, SilenceError, Timely, patient
from bloomery.errors import InvalidRequest
from bloomery.ironic import Node
from bloomery.plain import logger
from bloomery.rest.decoding import decoder
from bloomery.secret import Secret

log = logger(__name__)

Row = Mapping[str, Any]

BUSY_TIMEOUT_S = 10.0
FORGET_TIMEOUT_S = 300.0
"""What one statement may take that goes through all rows of a table."""
EXPECTED_FROM = 9
"""So many of the last operations of a kind say how long the next one will take."""
_ORDER_OF_EVENTS = 0x0B100E44
"""PostgreSQL's lock under which events are numbered: nobody sees a number while a lower one is still to come."""
_ORDER_OF_NOTES = 0x0B100E45
"""And the one under which notes are changed: what is made of what stood there is made of nothing older."""

ACTIVE = ("queued", "running")
ENDED = ("succeeded", "failed", "cancelled")

_AGING: Sequence[tuple[Table, ColumnElement[float], ColumnElement[bool]]] = (
    (events, events.c.at, true()),
    (audit, audit.c.at, true()),
    (reads, reads.c.at, true()),
    (operations, operations.c.created_at, operations.c.state.in_(ENDED)),
    (deliveries, deliveries.c.due_at, deliveries.c.state != "due"),
)
"""What is forgotten: the tables, the column with each row's age, and which rows may go."""

_PART = 5000
"""So many values are named in one statement; databases have their limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        kind: what: `node.provision_state`, `operation.started` ….
        node_uuid: at which node.
        node_name: its name.
        instance_uuid: the instance that it carries, or that it is about.
        owner: the project that owns the node.
        lessee: the project that leases it.
        operation_id: the operation of ours that it belongs to.
        actor: who asked for it.
        request_id: the request with which he did.
        data: what else there is to say, by kind.
    """

    kind: str
    node_uuid: str | None = None
    node_name: str | None = None
    instance_uuid: str | None = None
    owner: str | None = None
    lessee: str | None = None
    operation_id: str | None = None
    actor: str | None = None
    request_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


class Store:
    """The log. Safe to share between threads.

    Args:
        folder: where the SQLite file lies.
        database: another database instead.
        on_events: is told when events have been written.
    """

    def __init__(
        self, folder: Path, database: Secret[str] | None = None, *, on_events: Callable[[], None] = lambda: None
    ) -> None:
        self.on_events = on_events
        self._lock_file: int | None = None
        self._writing = threading.Lock()
        self._hangs = False
        self._probing = threading.Lock()
        if database is None:
            self._lock_file = _only_process_in(folder)
            self._engine = _sqlite(f"sqlite:///{folder / 'log.sqlite'}")
        elif database.reveal().startswith("sqlite"):
            self._engine = _sqlite(database.reveal())
        else:
            self._engine = _postgresql(_with_driver(database.reveal()))
        self.is_shared = self._engine.dialect.name == "postgresql"
        with self.writing() as connection:
            if self.is_shared:
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ORDER_OF_EVENTS})
            bring_up_to_date(connection, secrets.token_hex(32))
            self._key = str(connection.execute(select(versions.c.key)).scalar_one()).encode()

    def close(self) -> None:
        """Nothing of it is open any more."""
        self._engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # Transactions

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reads.

        Raises:
            StoreUnavailable: the database cannot be had.
        """
        with self._answering(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; all of it is written, or nothing.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        with self._answering():
            if self.is_sqlite:
                # SQLite has one writer; waiting for it here is fair and costs no polling.
                with self._writing, self._engine.begin() as connection:
                    yield connection
                return
            with self._engine.connect() as connection, connection.begin() as transaction:
                yield connection
                try:
                    if transaction.is_active:
                        transaction.commit()
                except (SQLAlchemyError, OSError) as problem:
                    raise StoreUnavailable(_words(problem), is_open=True) from problem

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What the database cannot do within the block is told in our words.

        While it accepts what is sent and answers nothing, one thread at a time waits for it: for the others it is away.
        """
        is_probing = self._hangs and self._probing.acquire(blocking=False)
        if self._hangs and not is_probing:
            raise StoreUnavailable(SILENT)
        try:
            yield
            self._hangs = False
        except IntegrityError:
            raise
        except (StoreUnavailable, SQLAlchemyError, OSError) as problem:
            self._hangs = _is_silence(problem)
            if isinstance(problem, StoreUnavailable):
                raise
            raise StoreUnavailable(_words(problem)) from problem
        finally:
            if is_probing:
                self._probing.release()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is this process's own file."""
        return self._engine.dialect.name == "sqlite"

    def now(self, connection: Connection) -> float:
        """The time by which replicas go, their database's, because their own clocks may differ; to the microsecond, as shown."""
        if self.is_sqlite:
            return round(time.time(), 6)
        return round(float(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one()), 6)

    # Events

    def record(self, connection: Connection, happened: Sequence[Event]) -> None:
        """The events are in the log, and on their way to the webhooks that want them."""
        if not happened:
            return
        if self.is_shared:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ORDER_OF_EVENTS})
        at = self.now(connection)
        hooks = connection.execute(select(webhooks.c.id, webhooks.c.kinds)).all()
        rows = [{**asdict(one), "at": at} for one in happened]
        in_order = insert(events).returning(events.c.number, sort_by_parameter_order=True)
        numbers = connection.execute(in_order, rows).scalars().all()
        due = [
            {
                "webhook_id": hook.id,
                "event": {"number": number, **row},
                "event_number": number,
                "state": "due",
                "attempts": 0,
                "due_at": at,
            }
            for number, row in zip(numbers, rows, strict=True)
            for hook in hooks
            if wants(hook.kinds, row["kind"])
        ]
        if due:
            connection.execute(insert(deliveries), due)

    def tell(self, *happened: Event) -> None:
        """The events are in the log."""
        with self.writing() as connection:
            self.record(connection, happened)
        self.on_events()

    def events(
        self,
        *,
        after: int = 0,
        limit: int,
        kinds: Collection[str] = (),
        node: str | None = None,
        instance: str | None = None,
        operation: str | None = None,
        since: float | None = None,
        until: float | None = None,
        project_id: str | None = None,
        newest_first: bool = False,
    ) -> list[Row]:
        """Events after that number, in their order.

        Args:
            after: the number; with `newest_first` the events before it, or the last ones if it is 0.
            limit: so many at most.
            kinds: of these kinds; `node.*` is all that begin with `node.`.
            node: of the node with this UUID or name.
            instance: of this instance.
            operation: of this operation.
            since: not older than this.
            until: not younger than this.
            project_id: of nodes that this project owns or leases.
            newest_first: the other way round.
        """
        where: list[ColumnElement[bool]] = []
        if newest_first and after:
            where.append(events.c.number < after)
        elif after:
            where.append(events.c.number > after)
        if kinds:
            where.append(or_(*(_of_kind(kind) for kind in kinds)))
        if node is not None:
            where.append(or_(events.c.node_uuid == node, events.c.node_name == node))
        if instance is not None:
            where.append(events.c.instance_uuid == instance)
        if operation is not None:
            where.append(events.c.operation_id == operation)
        if since is not None:
            where.append(events.c.at >= since)
        if until is not None:
            where.append(events.c.at <= until)
        if project_id is not None:
            where.append(or_(events.c.owner == project_id, events.c.lessee == project_id))
        order = events.c.number.desc() if newest_first else events.c.number
        with self.reading() as connection:
            return _rows(connection.execute(select(events).where(*where).order_by(order).limit(limit)))

    def first_and_last_event(self) -> tuple[int, int]:
        """The numbers of the oldest and the newest event that there are; 0 and 0 if there is none."""
        with self.reading() as connection:
            first, last = connection.execute(select(func.min(events.c.number), func.max(events.c.number))).one()
            return first or 0, last or 0

    # What was last told of each node

    def seen_nodes(self) -> dict[str, dict[str, Any]]:
        """Of each node: what the last events told of it."""
        with self.reading() as connection:
            return {row.uuid: row.seen for row in connection.execute(select(nodes))}

    def saw(self, seen: Mapping[str, Mapping[str, Any] | None], happened: Sequence[Event]) -> None:
        """The events are in the log, and what was seen of the nodes, None for those that are gone, with them."""
        with self.writing() as connection:
            self.record(connection, happened)
            _replace(
                connection,
                nodes,
                {uuid: {"seen": dict(now)} if now is not None else None for uuid, now in seen.items()},
            )
        if happened:
            self.on_events()

    # What Ironic showed last

    def keep_view(self, as_of: float, changed: Mapping[str, Node | None], *, whole: bool) -> None:
        """The nodes are kept as Ironic showed them.

        Args:
            as_of: when it showed them all, in seconds since 1970.
            changed: those that have changed since they were kept, by UUID; None: gone.
            whole: whether these are all nodes, and whatever else was kept is no more.
        """
        rows = {
            uuid: {"node": msgspec.json.encode(node).decode()} if node is not None else None
            for uuid, node in changed.items()
        }
        with self.writing() as connection:
            if whole:
                connection.execute(delete(shown))
            _replace(connection, shown, rows)
            connection.execute(delete(looks))
            connection.execute(insert(looks).values(as_of=as_of))

    def last_view(self) -> tuple[float, list[Node]]:
        """When Ironic was last seen, in seconds since 1970, and the nodes as it showed them then; 0 if it never was."""
        with self.reading() as connection:
            as_of = connection.execute(select(looks.c.as_of)).scalar()
            kept = connection.execute(select(shown.c.node)).scalars().all() if as_of else []
        return float(as_of or 0.0), [decoder(Node).decode(text) for text in kept]

    # Operations

    def accept(
        self,
        operation: Mapping[str, Any],
        happened: Event,
        *,
        lease_s: float,
        caller: str,
        key: str | None,
        fingerprint: bytes,
    ) -> tuple[Row, bool]:
        """The operation is in the log and will be carried out; or, with a key that came before, the one that it led to.

        Args:
            operation: its row.
            happened: what is told of it.
            lease_s: so long it is its holder's.
            caller: whose key it is.
            key: the idempotency key.
            fingerprint: what the request says, to tell another request under the same key.

        Returns:
            The operation, and whether it is a new one.

        Raises:
            Refusal: another request came with that key.
            StoreUnavailable: nothing is begun.
        """
        try:
            with self.writing() as connection:
                at = self.now(connection)
                self._keep_key(connection, caller, key, fingerprint, operation["id"], at)
                connection.execute(
                    insert(operations).values({**operation, "created_at": at, "held_until": at + lease_s})
                )
                self.record(connection, [happened])
                row = _rows(connection.execute(select(operations).where(operations.c.id == operation["id"])))[0]
        except IntegrityError:
            before = self.led_to(caller, key, fingerprint) if key is not None else None
            if before is None:
                raise
            return before, False
        except StoreUnavailable as problem:
            if not problem.is_open:
                raise
            row, is_ours = self._written_after_all(operation["id"], at + lease_s, lease_s)
            self.on_events()
            return row, is_ours
        self.on_events()
        return row, True

    def _written_after_all(self, operation_id: str, held_until: float, lease_s: float) -> tuple[Row, bool]:
        """The operation, of which it was not heard whether it was written; and whether it is still to be begun.

        Raises:
            StoreUnavailable: it was not; or that cannot be told now.
        """
        try:
            with self.writing() as connection:
                # Whoever writes an event has this lock until it is written or is not.
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ORDER_OF_EVENTS})
                # It took long: by now somebody may have taken it over.
                ours = and_(operations.c.id == operation_id, operations.c.held_until == held_until)
                later = self.now(connection) + lease_s
                kept = connection.execute(update(operations).where(ours).values(held_until=later)).rowcount
                row = _row(connection.execute(select(operations).where(operations.c.id == operation_id)))
        except StoreUnavailable as problem:
            raise StoreUnavailable(
                "nobody answered when the operation was written",
                is_open=True,
                advice=f"It may be begun all the same: see GET /v1/operations/{operation_id} when the database is back. "
                "To ask again with the same idempotency key begins nothing twice",
            ) from problem
        if row is None:
            raise StoreUnavailable("the operation was not written")
        return row, bool(kept)

    def led_to(self, caller: str, key: str, fingerprint: bytes) -> Row | None:
        """The operation that the request led to when it came before with that key; None if it did not.

        Args:
            caller: whose key it is.
            key: the idempotency key.
            fingerprint: what the request says.

        Raises:
            Refusal: another request came with that key.
            StoreUnavailable: that cannot be told now.
        """
        with self.reading() as connection:
            made = self._made_with(connection, caller, key, fingerprint)
            return _row(connection.execute(select(operations).where(operations.c.id == made)))

    def _made_with(self, connection: Connection, caller: str, key: str, fingerprint: bytes) -> str | None:
        """The id of what the request made when it came before with that key."""
        before = connection.execute(
            select(idempotency).where(idempotency.c.caller == caller, idempotency.c.key == key)
        ).one_or_none()
        if before is None:
            return None
        if not hmac.compare_digest(before.digest, self._digest(fingerprint)):
            raise Refusal(
                422,
                "IdempotencyKeyReused",
                f"the idempotency key {key!r} was used for another request",
                advice="Give each request a key of its own, and the same one only to ask for the very same again",
            )
        return str(before.operation_id)

    def _keep_key(
        self, connection: Connection, caller: str, key: str | None, fingerprint: bytes, made: str, at: float
    ) -> None:
        """The key, if there is one, stands for what the request has made.

        Raises:
            IntegrityError: it was used before.
        """
        if key is not None:
            row = {"caller": caller, "key": key, "digest": self._digest(fingerprint), "operation_id": made, "at": at}
            connection.execute(insert(idempotency).values(row))

    def _digest(self, fingerprint: bytes) -> str:
        return hmac.digest(self._key, fingerprint, hashlib.sha256).hex()

    def operation(self, operation_id: str) -> Row | None:
        """The operation, if there is one."""
        with self.reading() as connection:
            found = connection.execute(select(operations).where(operations.c.id == operation_id))
            return _row(found)

    def operations(
        self,
        *,
        before: int | None = None,
        limit: int,
        states: Collection[str] = (),
        kind: str | None = None,
        instance: str | None = None,
        node: str | None = None,
        project_id: str | None = None,
    ) -> list[Row]:
        """Operations, the newest first."""
        where: list[ColumnElement[bool]] = []
        if before is not None:
            where.append(operations.c.number < before)
        if states:
            where.append(operations.c.state.in_(list(states)))
        if kind is not None:
            where.append(operations.c.kind == kind)
        if instance is not None:
            where.append(or_(operations.c.instance_uuid == instance, operations.c.instance_name == instance))
        if node is not None:
            where.append(or_(operations.c.node_uuid == node, operations.c.node_name == node))
        if project_id is not None:
            where.append(
                or_(
                    operations.c.project_id == project_id,
                    operations.c.owner == project_id,
                    operations.c.lessee == project_id,
                )
            )
        wanted = select(operations).where(*where).order_by(operations.c.number.desc()).limit(limit)
        with self.reading() as connection:
            return _rows(connection.execute(wanted))

    def set_operation(self, operation_id: str, holder: str, values: Mapping[str, Any], *happened: Event) -> bool:
        """The operation's row says so, and the events are told, if it is still the holder's to carry out."""
        with self.writing() as connection:
            changed = connection.execute(
                update(operations)
                # What has ended has: who did not hear that it was written writes it again.
                .where(operations.c.id == operation_id, operations.c.holder == holder, operations.c.state.in_(ACTIVE))
                .values(dict(values))
            )
            if changed.rowcount:
                self.record(connection, happened)
        if changed.rowcount and happened:
            self.on_events()
        return bool(changed.rowcount)

    def hold(self, operation_ids: Collection[str], holder: str, lease_s: float) -> list[tuple[str, bool]]:
        """The operations stay the holder's for so long.

        Returns:
            Of those that are his, the id, and whether somebody wants it cancelled.
        """
        with self.writing() as connection:
            until = self.now(connection) + lease_s
            where = and_(operations.c.id.in_(list(operation_ids)), operations.c.holder == holder)
            connection.execute(update(operations).where(where).values(held_until=until))
            found = connection.execute(select(operations.c.id, operations.c.cancelling).where(where))
            return [(row.id, row.cancelling) for row in found]

    def take_over(self, holder: str, lease_s: float, *, but: Collection[str] = (), limit: int) -> list[Row]:
        """Operations that nobody carries out any more are the holder's from now on; each goes to one replica only.

        Args:
            holder: who takes them.
            lease_s: for so long.
            but: those that he carries out himself, whatever the clock says of when he was heard of last.
            limit: so many at most.
        """
        taken: list[Row] = []
        with self.writing() as connection:
            now = self.now(connection)
            abandoned = and_(
                operations.c.state.in_(ACTIVE), operations.c.held_until < now, operations.c.id.not_in(list(but))
            )
            for row in connection.execute(
                select(operations.c.id, operations.c.held_until).where(abandoned).limit(limit)
            ).all():
                won = connection.execute(
                    update(operations)
                    .where(operations.c.id == row.id, abandoned)
                    .values(holder=holder, held_until=now + lease_s)
                )
                if won.rowcount:
                    found = connection.execute(select(operations).where(operations.c.id == row.id))
                    taken += _rows(found)
        return taken

    def ask_to_cancel(self, operation_id: str) -> None:
        """Whoever carries the operation out will find that it is to be cancelled."""
        with self.writing() as connection:
            connection.execute(
                update(operations)
                .where(operations.c.id == operation_id, operations.c.state.in_(ACTIVE))
                .values(cancelling=True)
            )

    def expected_s(self, kind: str, resource_class: str | None) -> float | None:
        """What an operation of this kind will probably take: the median of the last ones that went well on nodes of this
        class, else on any; None if there was none."""
        took = operations.c.ended_at - operations.c.started_at
        went_well = (operations.c.kind == kind, operations.c.state == "succeeded")
        like = [(operations.c.resource_class == resource_class,)] if resource_class is not None else []
        with self.reading() as connection:
            for more in (*like, ()):
                wanted = select(took).where(*went_well, *more).order_by(operations.c.ended_at.desc())
                known = [float(seconds) for seconds in connection.execute(wanted.limit(EXPECTED_FROM)).scalars()]
                if known:
                    return round(median(known), 1)
        return None

    # Audit

    def note_call(self, call: Mapping[str, Any]) -> None:
        """The call is in the audit."""
        with self.writing() as connection:
            connection.execute(insert(audit).values({**call, "at": self.now(connection)}))

    def note_reads(self, calls: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
        """The calls, each with the seconds since it was answered, are in the audit of reads."""
        with self.writing() as connection:
            now = self.now(connection)
            connection.execute(insert(reads), [{**call, "at": round(now - since_s, 6)} for since_s, call in calls])

    def calls(
        self, *, before: int | None = None, limit: int, actor: str | None = None, of_reads: bool = False
    ) -> list[Row]:
        """The calls in the audit, or in that of reads, the newest first."""
        table = reads if of_reads else audit
        where: list[ColumnElement[bool]] = []
        if before is not None:
            where.append(table.c.number < before)
        if actor is not None:
            where.append(table.c.actor == actor)
        with self.reading() as connection:
            wanted = select(table).where(*where).order_by(table.c.number.desc()).limit(limit)
            return _rows(connection.execute(wanted))

    # Webhooks

    def add_webhook(
        self,
        *,
        url: str,
        secret: Secret[str],
        kinds: Sequence[str],
        created_by: str,
        caller: str,
        key: str | None,
        fingerprint: bytes,
    ) -> tuple[Row, bool]:
        """The webhook gets what happens from now on; or, with a key that came before, the one that it led to.

        Args:
            url: where events are posted to.
            secret: what they are signed with.
            kinds: which; none are all.
            created_by: who wants it.
            caller: whose key it is.
            key: the idempotency key.
            fingerprint: what the request says, to tell another request under the same key.

        Returns:
            Its row, `secret` included, and whether it is a new one.

        Raises:
            Refusal: another request came with that key, or what it made is gone.
            StoreUnavailable: there is none.
        """
        webhook_id = str(uuid4())
        row: dict[str, Any] = {"id": webhook_id, "url": url, "secret": secret.reveal(), "kinds": list(kinds)}
        row["created_by"] = created_by
        try:
            with self.writing() as connection:
                at = row["created_at"] = self.now(connection)
                self._keep_key(connection, caller, key, fingerprint, webhook_id, at)
                connection.execute(insert(webhooks).values(row))
        except IntegrityError:
            if key is None:
                raise
            return self._webhook_made_with(caller, key, fingerprint), False
        return row, True

    def _webhook_made_with(self, caller: str, key: str, fingerprint: bytes) -> Row:
        with self.reading() as connection:
            made = self._made_with(connection, caller, key, fingerprint)
            row = _row(connection.execute(select(webhooks).where(webhooks.c.id == made)))
        if row is None:
            raise Refusal(
                409, "WebhookGone", "what this request made has been removed since", advice="Ask with another key"
            )
        return row

    def webhooks(self) -> list[Row]:
        """All of them, the oldest first."""
        with self.reading() as connection:
            return _rows(connection.execute(select(webhooks).order_by(webhooks.c.created_at)))

    def webhook(self, webhook_id: str) -> Row | None:
        """The webhook, if there is one."""
        with self.reading() as connection:
            return _row(connection.execute(select(webhooks).where(webhooks.c.id == webhook_id)))

    def remove_webhook(self, webhook_id: str) -> None:
        """It gets nothing any more, and its deliveries are forgotten."""
        with self.writing() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    def deliveries(self, webhook_id: str, *, before: int | None = None, limit: int) -> list[Row]:
        """The webhook's deliveries, the newest first."""
        where = [deliveries.c.webhook_id == webhook_id]
        if before is not None:
            where.append(deliveries.c.number < before)
        with self.reading() as connection:
            wanted = select(deliveries).where(*where).order_by(deliveries.c.number.desc()).limit(limit)
            return _rows(connection.execute(wanted))

    def deliver_again(self, webhook_id: str, number: int) -> Row | None:
        """The delivery is due once more; None if there is no such one."""
        with self.writing() as connection:
            where = and_(deliveries.c.webhook_id == webhook_id, deliveries.c.number == number)
            again = {"state": "due", "attempts": 0, "due_at": self.now(connection), "ended_at": None}
            connection.execute(update(deliveries).where(where).values(again))
            return _row(connection.execute(select(deliveries).where(where)))

    def due_webhooks(self) -> list[Row]:
        """The webhooks that something may be sent to now.

        While one cannot be reached, or has no time (429, 5xx), nothing else is sent to it before it is tried again.
        """
        mine = and_(deliveries.c.webhook_id == webhooks.c.id, deliveries.c.state == "due")
        has_no_time = or_(deliveries.c.status.is_(None), deliveries.c.status == 429, deliveries.c.status >= 500)
        with self.reading() as connection:
            now = self.now(connection)
            is_due = exists().where(mine, deliveries.c.due_at <= now)
            is_left_alone = exists().where(mine, deliveries.c.due_at > now, deliveries.c.attempts > 0, has_no_time)
            return _rows(connection.execute(select(webhooks).where(is_due, not_(is_left_alone))))

    def due_deliveries(self, webhook_id: str, *, limit: int) -> list[Row]:
        """The webhook's deliveries whose time has come, in the order of their events."""
        with self.reading() as connection:
            wanted = (
                select(deliveries)
                .where(
                    deliveries.c.webhook_id == webhook_id,
                    deliveries.c.state == "due",
                    deliveries.c.due_at <= self.now(connection),
                )
                .order_by(deliveries.c.number)
                .limit(limit)
            )
            return _rows(connection.execute(wanted))

    def set_delivery(self, number: int, values: Mapping[str, Any], *, due_in_s: float | None = None) -> None:
        """The delivery's row says so; with `due_in_s`, it is tried again after so long, else it has ended."""
        with self.writing() as connection:
            now = self.now(connection)
            when = {"due_at": now + due_in_s} if due_in_s is not None else {"ended_at": now}
            connection.execute(update(deliveries).where(deliveries.c.number == number).values({**values, **when}))

    # Replicas and age

    def note(self, name: str) -> Row | None:
        """What stands under that name, if anything does."""
        with self.reading() as connection:
            found = connection.execute(select(notes.c.value).where(notes.c.name == name)).scalar()
            return found if isinstance(found, dict) else None

    def change_note(self, name: str, change: Callable[[Row, float], Row]) -> None:
        """Under that name stands what `change` makes, now, of what stood there; nobody else changes it meanwhile."""
        with self.writing() as connection:
            if self.is_shared:
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ORDER_OF_NOTES})
            before = connection.execute(select(notes.c.value).where(notes.c.name == name)).scalar()
            value = dict(change(before or {}, self.now(connection)))
            if before is None:
                connection.execute(insert(notes).values(name=name, value=value))
            else:
                connection.execute(update(notes).where(notes.c.name == name).values(value=value))

    def lead(self, name: str, holder: str, lease_s: float) -> bool:
        """Whether the holder is the one who does it, for so long from now."""
        with self.writing() as connection:
            now = self.now(connection)
            mine = or_(leases.c.holder == holder, leases.c.until < now)
            values = {"holder": holder, "until": now + lease_s}
            if connection.execute(update(leases).where(leases.c.name == name, mine).values(values)).rowcount:
                return True
            if connection.execute(select(leases.c.name).where(leases.c.name == name)).first() is not None:
                return False
        try:
            with self.writing() as connection:
                connection.execute(insert(leases).values(name=name, **values))
        except IntegrityError:
            return False
        return True

    def let_go(self, holder: str) -> None:
        """Whatever the holder led, another may lead at once."""
        with self.writing() as connection:
            connection.execute(delete(leases).where(leases.c.holder == holder))

    def forget(self, *, older_than_s: float, more_than: int, larger_than: int) -> int:
        """What is older, and what there is more of, is gone; operations under way and deliveries that are due stay.

        Args:
            older_than_s: seconds.
            more_than: rows of each kind.
            larger_than: bytes of all of it; the oldest tenth of everything goes until it is no larger.

        Returns:
            How many rows are gone.

        Raises:
            StoreUnavailable: the database cannot be had.
        """
        if self._hangs:
            # Others find out when it answers again, and sooner.
            raise StoreUnavailable(SILENT)
        with patient(FORGET_TIMEOUT_S):
            gone = self._forget_old(older_than_s, more_than)
            while self.size() > larger_than:
                went = self._forget_a_tenth()
                gone += went
                if not went:
                    log.warning("the log is larger than wanted, and nothing in it may go")
                    break
        return gone

    def size(self) -> int:
        """How many bytes the rows of the log take, room that was freed not counted."""
        with self.reading() as connection:
            if self.is_sqlite:
                pages, free, each = (
                    int(connection.execute(text(f"pragma {name}")).scalar_one())
                    for name in ("page_count", "freelist_count", "page_size")
                )
                return (pages - free) * each
            sizes = [
                connection.execute(select(func.sum(func.pg_column_size(text(table.name)))).select_from(table)).scalar()
                for table, *_ in _AGING
            ]
            return sum(int(size or 0) for size in sizes)

    def _forget_a_tenth(self) -> int:
        gone = 0
        with self.writing() as connection:
            for table, _, may_go in _AGING:
                first, last = connection.execute(
                    select(func.min(table.c.number), func.max(table.c.number)).where(may_go)
                ).one()
                if first is not None:
                    until = first + (last - first) // 10
                    gone += connection.execute(delete(table).where(may_go, table.c.number <= until)).rowcount
            self._forget_keys(connection)
        return gone

    def _forget_old(self, older_than_s: float, more_than: int) -> int:
        gone = 0
        with self.writing() as connection:
            oldest = self.now(connection) - older_than_s
            connection.execute(delete(idempotency).where(idempotency.c.at < oldest))
            for table, at, may_go in _AGING:
                last_kept = connection.execute(
                    select(table.c.number).order_by(table.c.number.desc()).offset(more_than).limit(1)
                ).scalar()
                is_old = or_(at < oldest, table.c.number <= last_kept) if last_kept is not None else at < oldest
                gone += connection.execute(delete(table).where(may_go, is_old)).rowcount
            self._forget_keys(connection)
        return gone

    def _forget_keys(self, connection: Connection) -> None:
        """Whoever comes with a key whose operation or webhook is no more, asks anew."""
        known = select(operations.c.id).union(select(webhooks.c.id))
        connection.execute(delete(idempotency).where(idempotency.c.operation_id.not_in(known)))


def _replace(connection: Connection, table: Table, rows: Mapping[str, Mapping[str, Any] | None]) -> None:
    """The table has these rows, by UUID, in place of those of the same UUID; None: no row."""
    # review: bounded by what was given, in parts that every database takes
    uuids = list(rows)
    for begin in range(0, len(uuids), _PART):
        part = uuids[begin : begin + _PART]
        connection.execute(delete(table).where(table.c.uuid.in_(part)))
        new = [{"uuid": uuid, **row} for uuid in part if (row := rows[uuid]) is not None]
        if new:
            connection.execute(insert(table), new)


def _rows(result: Result[Any]) -> list[Row]:
    return [dict(row) for row in result.mappings()]


def _row(result: Result[Any]) -> Row | None:
    rows = _rows(result)
    return rows[0] if rows else None


def wants(kinds: Iterable[str], kind: str) -> bool:
    """Whether one of the kinds, `node.*` being all that begin with `node.`, is that kind; no kinds are all of them."""
    wanted = list(kinds)
    return not wanted or any(
        kind.startswith(one.removesuffix("*")) if one.endswith(".*") else kind == one for one in wanted
    )


def _of_kind(kind: str) -> ColumnElement[bool]:
    if kind.endswith(".*"):
        return events.c.kind.startswith(kind.removesuffix("*"), autoescape=True)
    return events.c.kind == kind


def _words(problem: BaseException) -> str:
    if _is_silence(problem):
        return SILENT
    original = getattr(problem, "orig", None) or problem
    return (str(original).splitlines() or [type(original).__name__])[0]


def _is_silence(problem: BaseException) -> bool:
    """Whether nothing was answered, as opposed to something wrong."""
    original = getattr(problem.__cause__ if isinstance(problem, StoreUnavailable) else problem, "orig", None)
    return isinstance(original, SilenceError | ConnectionTimeout)


def _only_process_in(folder: Path) -> int:
    """The open file whose lock says that the folder is ours.

    Raises:
        InvalidRequest: it cannot be used, or another process does.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise InvalidRequest(
            f"the folder {folder} cannot be used", reason=problem.strerror, advice="Name another with --state"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InvalidRequest(
            f"another service uses the folder {folder}",
            advice="Stop it, name another folder with --state, or let both share a database with --database",
        ) from None
    # Made before SQLite makes it, and so readable by its owner only from the first byte on.
    os.close(os.open(folder / "log.sqlite", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return lock


def _with_driver(url: str) -> str:
    scheme, colon, rest = url.partition(":")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgresql", "postgres") else url


def _postgresql(url: str) -> Engine:
    """The engine; a database that does not answer is away in seconds, unless the URL says otherwise."""
    # A replica that stops within a transaction must not keep the others from writing.
    idle = "-c idle_in_transaction_session_timeout=30s"
    wanted = {"connect_timeout": "5", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
              "tcp_user_timeout": "15000", "options": idle}  # fmt: skip
    ours = {name: value for name, value in wanted.items() if name not in make_url(url).query}
    engine = create_engine(url, connect_args=ours, pool_pre_ping=True, pool_size=10, max_overflow=20, pool_timeout=10)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        return Timely.connect(*given, **named)

    return engine


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = on"):
            connection.execute(f"pragma {pragma}")

    return engine
