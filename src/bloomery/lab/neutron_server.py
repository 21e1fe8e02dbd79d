"""Neutron's API in one process: `python -m bloomery.lab.neutron_server FOLDER PORT`.

The folder has the configuration, and gets the database. The tables are made from Neutron's models at the first start, because
its migrations do not run on SQLite; beyond the imports, which the server needs anyhow, that takes a tenth of a second.

SIGTERM keeps its default action, which ends the process at once: SQLite finishes or forgets a transaction by itself.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CONFIGURATION = Path("neutron.conf")
DATABASE = Path("neutron.sqlite")
THREADS = 8
IDLE_TIMEOUT_S = 300
"""How long a kept connection may be silent: longer than any client of the lab keeps one."""

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class OneAtATime:
    """A WSGI application that answers one request after the other.

    Neutron reads before it writes within one transaction, and SQLite refuses to let such a reader write once another
    connection has written: no waiting helps. One request at a time never comes to that, and costs little, for Neutron's
    time is Python's.
    """

    def __init__(self, application: WsgiApplication) -> None:
        self._application = application
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with self._turn:
            answer = self._application(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()


def create_tables(path: Path) -> None:
    """The database exists, with Neutron's tables and the rows that its migrations would have put into them."""
    from neutron.db.migration.models import head
    from neutron.db.models.securitygroup_default_rules import SecurityGroupDefaultRule
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{unfinished}")
    with engine.connect() as connection:
        # Write-ahead logging is a property of the file; the other holds for this connection.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
        head.get_metadata().create_all(connection)
        with Session(connection) as session:
            for ethertype in ("IPv4", "IPv6"):
                every_group = {"ethertype": ethertype, "used_in_default_sg": True, "used_in_non_default_sg": True}
                default_group = {**every_group, "used_in_non_default_sg": False, "remote_group_id": "PARENT"}
                session.add(SecurityGroupDefaultRule(direction="egress", **every_group))
                session.add(SecurityGroupDefaultRule(direction="ingress", **default_group))
            session.commit()
        connection.commit()
    engine.dispose()
    unfinished.rename(path)


def serve(port: int) -> None:
    """Neutron answers on 127.0.0.1 until the process is ended; its files are those of the current folder."""
    if not DATABASE.exists():
        create_tables(DATABASE)
    os.environ |= {"OS_NEUTRON_CONFIG_DIR": ".", "OS_NEUTRON_CONFIG_FILES": CONFIGURATION.name}
    from cheroot.wsgi import Server
    from neutron.wsgi.api import application

    server = Server(
        ("127.0.0.1", port),
        OneAtATime(application),
        numthreads=THREADS,
        max=THREADS,
        request_queue_size=128,
        timeout=IDLE_TIMEOUT_S,
    )
    server.start()


def main() -> None:
    """Neutron serves the folder named first on the port named second."""
    _, folder, port = sys.argv
    # Neutron reads the command line as its own.
    del sys.argv[1:]
    # They are about the inside of Neutron's dependencies, and would open every log.
    warnings.simplefilter("ignore")
    os.chdir(folder)
    serve(int(port))


if __name__ == "__main__":
    main()
