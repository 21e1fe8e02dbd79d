"""The tables of the service's log, and how an older log becomes one of today's.

Times are seconds since 1970. What is a list or a mapping stands as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)

from bloomery.errors import InvalidRequest

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what is called just INTEGER


def _numbered(name: str, *columns: Column[Any] | Index) -> Table:
    """A table whose rows are numbered in the order in which they came; no number comes twice, even after deletions."""
    number: Column[int] = Column("number", _NUMBER, primary_key=True, autoincrement=True)
    return Table(name, metadata, number, *columns, sqlite_autoincrement=True)


versions = Table(
    "bloomery_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), nullable=False),
)
"""The version of these tables; and a random key under which requests are told apart without being kept."""

events = _numbered(
    "events",
    Column("at", Float, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("node_uuid", String(64)),
    Column("node_name", String(255)),
    Column("instance_uuid", String(64)),
    Column("owner", String(255)),
    Column("lessee", String(255)),
    Column("operation_id", String(64)),
    Column("actor", String(255)),
    Column("request_id", String(64)),
    Column("data", JSON, nullable=False),
    Index("events_of_node", "node_uuid", "number"),
    Index("events_of_instance", "instance_uuid", "number"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("uuid", String(64), primary_key=True),
    Column("seen", JSON, nullable=False),
)
"""Of each node, what the last event told of it: what has changed since is news, also after a restart."""

shown = Table(
    "shown",
    metadata,
    Column("uuid", String(64), primary_key=True),
    Column("node", Text, nullable=False),
)
"""Each node as Ironic showed it last, for a start while Ironic is away."""

looks = Table("looks", metadata, Column("as_of", Float, primary_key=True, autoincrement=False))
"""When Ironic showed them: one row, or none."""

operations = _numbered(
    "operations",
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("instance_uuid", String(64)),
    Column("instance_name", String(255)),
    Column("node_uuid", String(64)),
    Column("node_name", String(255)),
    Column("resource_class", String(255)),
    Column("owner", String(255)),
    Column("lessee", String(255)),
    Column("actor", String(255), nullable=False),
    Column("project_id", String(255)),
    Column("request_id", String(64)),
    Column("arguments", JSON, nullable=False),
    Column("has_secrets", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("expected_s", Float),
    Column("progress", JSON),
    Column("steps", JSON, nullable=False),
    Column("result", JSON),
    Column("problem", JSON),
    Column("cancelling", Boolean, nullable=False),
    Column("holder", String(255)),
    Column("held_until", Float, nullable=False),
    Index("operations_by_state", "state", "held_until"),
    Index("operations_of_instance", "instance_uuid", "number"),
    Index("operations_of_kind", "kind", "resource_class", "ended_at"),
)

idempotency = Table(
    "idempotency_keys",
    metadata,
    Column("caller", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("operation_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
)


def _calls(name: str) -> Table:
    return _numbered(
        name,
        Column("at", Float, nullable=False),
        Column("actor", String(255), nullable=False),
        Column("project_id", String(255)),
        Column("address", String(64)),
        Column("method", String(16), nullable=False),
        Column("path", Text, nullable=False),
        Column("status", Integer, nullable=False),
        Column("request_id", String(64), nullable=False),
        Column("took_s", Float, nullable=False),
    )


audit = _calls("audit")
"""Calls that were to change something, and those that were turned away."""

reads = _calls("reads")
"""All other calls: apart, so that their number does not drive out the former."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("kinds", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
)

deliveries = _numbered(
    "deliveries",
    Column("webhook_id", String(64), nullable=False),
    Column("event", JSON, nullable=False),
    Column("event_number", _NUMBER, nullable=False),
    Column("state", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("status", Integer),
    Column("reason", Text),
    Index("deliveries_due", "state", "due_at"),
    Index("deliveries_of_webhook", "webhook_id", "number"),
    Index("deliveries_due_of_webhook", "webhook_id", "state", "due_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("until", Float, nullable=False),
)
"""What only one replica does at a time, and which one does it."""

notes = Table(
    "notes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
"""What all replicas have to know, by its name."""

Migration = Callable[[Connection], None]


def _keep_views(connection: Connection) -> None:
    metadata.create_all(connection, tables=[shown, looks])


def _keep_reads(connection: Connection) -> None:
    metadata.create_all(connection, tables=[reads])


def _keep_notes(connection: Connection) -> None:
    metadata.create_all(connection, tables=[notes])


def _find_due_of_webhook(connection: Connection) -> None:
    (index,) = (one for one in deliveries.indexes if one.name == "deliveries_due_of_webhook")
    index.create(connection)


MIGRATIONS: Sequence[Migration] = (_keep_views, _keep_reads, _keep_notes, _find_due_of_webhook)
"""What makes tables of version 1 those of version 2, and so on. New logs get today's tables at once."""


def bring_up_to_date(connection: Connection, key: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """The tables are today's, and nothing in them is lost.

    Args:
        connection: within a transaction, in which nobody else does the same.
        key: what a new log takes for its key.
        migrations: the way there.

    Raises:
        InvalidRequest: a newer Bloomery made them.
    """
    newest = 1 + len(migrations)
    if not inspect(connection).has_table(versions.name):
        metadata.create_all(connection)
        connection.execute(versions.insert().values(version=newest, key=key))
        return
    version = connection.execute(select(versions.c.version)).scalar_one()
    if version > newest:
        raise InvalidRequest(
            f"the service's log is of version {version}",
            reason=f"this Bloomery knows versions up to {newest}",
            advice="Run the newer Bloomery that made it, or give this one a log of its own with --state",
        )
    for migration in migrations[version - 1 :]:
        migration(connection)
    connection.execute(versions.update().values(version=newest))
