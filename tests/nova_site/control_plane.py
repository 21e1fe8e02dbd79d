"""Nova's API, scheduler and conductor in one process: `python -m nova_site.control_plane SETTINGS`.

SETTINGS is a JSON file that `cloud.py` wrote. All but what touches SQLite is as Nova's own commands do it: a transaction that
writes waits for the one before, as on the databases that Nova is run on for real.
"""

# ruff: noqa: E402
from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import threading
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SETTINGS = json.loads(Path(sys.argv[1]).read_text())
# Nova reads the command line as its own.
sys.argv[1:] = [f"--config-file={config}" for config in _SETTINGS["configs"]]
warnings.simplefilter("ignore")

# First, because the release's own command says here whether eventlet takes the place of threads.
import nova.cmd.scheduler  # noqa: F401

# isort: split
from cheroot.wsgi import Server
from nova import config, context, objects, service, version
from nova.api.openstack import wsgi_app
from nova.conductor import rpcapi as conductor_rpcapi
from nova.conf import CONF
from nova.db import migration
from nova.scheduler import rpcapi as scheduler_rpcapi
from oslo_db.sqlalchemy import enginefacade
from oslo_log import log as logging
from paste import deploy

from nova_site import bus

_THREADS = 10


def one_writer_at_a_time() -> None:
    """Transactions that write follow each other, for each database file."""
    locks: dict[str, threading.RLock] = defaultdict(threading.RLock)
    scope = enginefacade._TransactionContextManager._transaction_scope

    @contextlib.contextmanager
    def alone(manager: Any, *arguments: Any) -> Iterator[Any]:
        if manager._mode is not enginefacade._WRITER:
            with scope(manager, *arguments) as resource:
                yield resource
            return
        with locks[str(manager.reader.get_engine().url)], scope(manager, *arguments) as resource:
            yield resource

    enginefacade._TransactionContextManager._transaction_scope = alone


def create_databases(folder: Path, cache: Path) -> None:
    """Nova's databases have their tables, copied from an earlier run where there was one."""
    cache.mkdir(parents=True, exist_ok=True)
    release = version.version_string()
    for name, database in (("api", "api"), ("cell1", "main")):
        cached = cache / f"nova-{release}-{name}.sqlite"
        if not cached.exists():
            migration.db_sync(database=database)
            draft = cached.with_suffix(".new")
            shutil.copyfile(folder / f"{name}.sqlite", draft)
            draft.rename(cached)
        else:
            shutil.copyfile(cached, folder / f"{name}.sqlite")
    shutil.copyfile(cache / f"nova-{release}-cell1.sqlite", folder / "cell0.sqlite")
    for path in folder.glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")


def create_cells(folder: Path) -> None:
    """The API's database knows both cells."""
    admin = context.get_admin_context()
    for name, number, url in (
        ("cell0", objects.CellMapping.CELL0_UUID, "none:///"),
        ("cell1", _SETTINGS["cell1"], CONF.transport_url),
    ):
        objects.CellMapping(
            context=admin,
            uuid=number,
            name=name,
            transport_url=url,
            database_connection=f"sqlite:///{folder / name}.sqlite?timeout=60",
        ).create()


def main() -> None:
    """Everything runs until the process is killed."""
    folder = Path(_SETTINGS["folder"])
    bus.install()
    config.parse_args(sys.argv)
    logging.setup(CONF, "nova")
    objects.register_all()
    one_writer_at_a_time()
    create_databases(folder, Path(_SETTINGS["cache"]))
    create_cells(folder)
    for binary, topic in (
        ("nova-conductor", conductor_rpcapi.RPC_TOPIC),
        ("nova-scheduler", scheduler_rpcapi.RPC_TOPIC),
    ):
        service.Service.create(binary=binary, topic=topic).start()
    serve(api(), _SETTINGS["api_port"])
    threading.Event().wait()


def api() -> Any:
    """Nova's API; its own entry point would read the configuration a second time."""
    CONF.register_opts(wsgi_app.service_opts.service_opts)
    wsgi_app._setup_service(CONF.host, "osapi_compute")
    return deploy.loadapp(f"config:{CONF.wsgi.api_paste_config}", name="osapi_compute")


def serve(application: Any, port: int) -> None:
    """The application answers on that port, in threads of this process."""
    server = Server(("127.0.0.1", port), application, numthreads=_THREADS, request_queue_size=50, timeout=60)
    server.prepare()
    threading.Thread(target=server.serve, daemon=True, name=f"port {port}").start()


if __name__ == "__main__":
    try:
        main()
    finally:
        # Nova's threads would keep the process alive without its API.
        traceback.print_exc()
        os._exit(1)
