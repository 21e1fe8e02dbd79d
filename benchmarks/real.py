"""A real Ironic with as many nodes of fake hardware as are wanted, in a process of its own whose work can be told.

One node is enrolled as an operator would; the others are copies of its rows, because Ironic's API takes an hour for ten
thousand of them. No round of power states disturbs what is measured: with ten thousand nodes one never ends.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

import psutil

from bloomery.lab import Kind, Options, ironic, service
from bloomery.lab.enrol import enrol, plan
from bloomery.lab.images import IRONIC_SUBFOLDER
from bloomery.lab.wait import until

_NAMES = UUID("0f6b3c4e-8a0d-5b53-9d3e-6c6f6f6d0002")
_QUIET = "\n[conductor]\nsync_power_state_interval = 0\n"
_START_TIMEOUT_S = 120.0
IN_USE = 4
"""Of every ten nodes so many carry an instance."""


@dataclass(frozen=True)
class RealIronic:
    """An Ironic that answers.

    Attributes:
        url: where.
        process: its process.
        database: its SQLite file.
        node_uuids: its nodes.
        instances: the node of each instance.
    """

    url: str
    process: psutil.Process
    database: Path
    node_uuids: tuple[str, ...]
    instances: dict[str, str]

    @property
    def processor_s(self) -> float:
        """The processor time that it has used since its start."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def touch(self, node_uuids: Sequence[str]) -> None:
        """The nodes were changed just now, in a way that only `extra` and the time show."""
        with closing(sqlite3.connect(self.database, timeout=60)) as database, database:
            for node_uuid in node_uuids:
                now = datetime.now(UTC).replace(tzinfo=None)
                database.execute(
                    "update nodes set extra = ?, updated_at = ? where uuid = ?",
                    (json.dumps({"touched": now.isoformat()}), _stored(now), node_uuid),
                )


@contextmanager
def real_ironic(nodes: int) -> Iterator[RealIronic]:
    """An Ironic with so many nodes answers within the block; four of ten carry an instance."""
    options = Options(nodes=1, kind=Kind.FAKE, network=False)
    with tempfile.TemporaryDirectory() as folder, closing(socket.create_server(("127.0.0.1", 0))) as place:
        state, port = Path(folder), place.getsockname()[1]
        for name in ("logs", f"images/{IRONIC_SUBFOLDER}"):
            (state / name).mkdir(parents=True)
        prepared = ironic.prepare(
            state,
            port=port,
            options=options,
            images_folder=state / "images",
            images_url="http://127.0.0.1:1",
            neutron_url=None,
        )
        with (state / "ironic" / "ironic.conf").open("a") as settings:
            settings.write(_QUIET)
        place.close()
        running = service.start(prepared, logs=state / "logs")
        try:
            until(prepared.is_ready, what="the start of Ironic", timeout_s=_START_TIMEOUT_S)
            url = f"http://127.0.0.1:{port}"
            enrol(
                plan(options),
                ironic_url=url,
                bmc_url=None,
                images={},
                networks=None,
                serial_port=None,
                timeout_s=_START_TIMEOUT_S,
            )
            database = state / "ironic" / "ironic.sqlite"
            uuids, instances = _fill(database, nodes)
            yield RealIronic(url, psutil.Process(running.process.pid), database, uuids, instances)
        except BaseException:
            print("\n".join(service.tail(running.log, lines=30)))
            raise
        finally:
            service.stop([running], grace_s=1.0)


def _fill(file: Path, nodes: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The database has so many nodes, all like its first; no two were changed at the same moment."""
    began = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=nodes + 10)
    with closing(sqlite3.connect(file, timeout=60)) as database, database:
        database.row_factory = sqlite3.Row
        template = dict(database.execute("select * from nodes").fetchone())
        traits = [dict(row) for row in database.execute("select * from node_traits")]
        first_id = template.pop("id")
        uuids = [template["uuid"], *(str(uuid5(_NAMES, f"node-{number}")) for number in range(1, nodes))]
        instances: dict[str, str] = {}
        for number, node_uuid in enumerate(uuids):
            row = template | {"uuid": node_uuid, "name": f"node-{number}"}
            row["updated_at"] = row["provision_updated_at"] = _stored(began + timedelta(minutes=number))
            if number % 10 < IN_USE:
                instance_uuid = str(uuid5(_NAMES, f"instance-{number}"))
                instances[instance_uuid] = node_uuid
                row |= _in_use(instance_uuid, number)
            if number == 0:
                _update(database, row, first_id)
                continue
            node_id = _insert(database, "nodes", row)
            for trait in traits:
                _insert(database, "node_traits", trait | {"node_id": node_id})
    return tuple(uuids), instances


def _in_use(instance_uuid: str, number: int) -> dict[str, object]:
    """What a deployed node has to tell besides."""
    info = {
        "image_source": f"{uuid5(_NAMES, 'image')}",
        "root_gb": "100",
        "swap_mb": "0",
        "ephemeral_gb": "0",
        "local_gb": "1000",
        "memory_mb": "262144",
        "vcpus": "64",
        "display_name": f"instance-{number}",
        "nova_host_id": "compute-1",
        "capabilities": {"boot_option": "local"},
        "traits": ["CUSTOM_LAB"],
    }
    return {
        "instance_uuid": instance_uuid,
        "instance_info": json.dumps(info),
        "provision_state": "active",
        "power_state": "power on",
    }


def _insert(database: sqlite3.Connection, table: str, row: dict[str, object]) -> int | None:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join("?" for _ in row)
    # review: table and columns are the database's own words
    return database.execute(f"insert into {table} ({names}) values ({places})", list(row.values())).lastrowid  # noqa: S608


def _update(database: sqlite3.Connection, row: dict[str, object], row_id: int) -> None:
    values = ", ".join(f'"{name}" = ?' for name in row)
    database.execute(f"update nodes set {values} where id = ?", [*row.values(), row_id])  # noqa: S608


def _stored(moment: datetime) -> str:
    """As SQLAlchemy writes times into SQLite."""
    return moment.isoformat(sep=" ", timespec="microseconds")
