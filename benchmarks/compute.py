"""A process with one of Nova's drivers in it, as a nova-compute would have it, that measures what it is told to.

Each driver has a process of its own: its memory and its processor time are then nobody else's. Around it are Nova's own objects
and a database of Nova's with the instances; no other service of Nova's runs.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .measuring import Cost, cost_of

# Nova's objects are made where the driver's tests make them.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

BLOOMERY, UPSTREAM, TUNED = "bloomery", "nova", "nova, tuned"
"""Our driver; Nova's with the options that it comes with; and Nova's with the options of `TUNING`."""
TUNING: Mapping[str, object] = {
    "api_retry_interval": 1,
    "connect_retries": 60,
    "connect_retry_delay": 1.0,
    "status_code_retries": 60,
    "status_code_retry_delay": 1.0,
}
"""Options of `[ironic]` that do Nova's own driver good where much is asked at once: it looks twice as often, and repeats more."""
HOST = "compute-1"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Compute:
    """A driver in a process of its own."""

    def __init__(self, side: str, pipe: Connection) -> None:
        self.side = side
        self._pipe = pipe

    def ask(self, order: str, *arguments: Any) -> Any:
        """What the process gives for the order: the name of a method of `_Service`."""
        self.begin(order, *arguments)
        return self.end()

    def begin(self, order: str, *arguments: Any) -> None:
        """The process works on the order."""
        self._pipe.send((order, arguments))

    def end(self) -> Any:
        """What came of it."""
        went_well, result = self._pipe.recv()
        if not went_well:
            raise RuntimeError(f"{self.side}: {result}")
        return result


@contextmanager
def computes(
    sides: Sequence[str], *, ironic_url: str, neutron_url: str | None, instances: Mapping[str, str]
) -> Iterator[dict[str, Compute]]:
    """Within the block each of the drivers is there, connected to Ironic.

    Args:
        sides: of `BLOOMERY`, `UPSTREAM` and `TUNED`.
        ironic_url: Ironic.
        neutron_url: Neutron, of which our driver asks whose a VIF is.
        instances: those that Nova knows, each with its node.
    """
    context = multiprocessing.get_context("spawn")
    found: dict[str, Compute] = {}
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number, side in enumerate(sides):
                ours, theirs = context.Pipe()
                place = Path(folder, str(number))
                place.mkdir()
                arguments = (theirs, side, ironic_url, neutron_url, place, dict(instances))
                process = context.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                processes.append(process)
                theirs.close()
                found[side] = Compute(side, ours)
            for compute in found.values():
                compute.end()
            yield found
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _serve(
    pipe: Connection, side: str, ironic_url: str, neutron_url: str | None, folder: Path, instances: dict[str, str]
) -> None:
    try:
        service = _Service(side, ironic_url, neutron_url, folder, instances)
    except Exception:  # noqa: BLE001  whatever it is, the other process raises it
        pipe.send((False, traceback.format_exc()))
        return
    pipe.send((True, None))
    while True:
        try:
            order, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(service, order)(*arguments)))
        except Exception:  # noqa: BLE001  likewise
            pipe.send((False, traceback.format_exc()))


class _Service:
    """What the process does."""

    def __init__(
        self, side: str, ironic_url: str, neutron_url: str | None, folder: Path, instances: dict[str, str]
    ) -> None:
        import logging

        from nova import monkey_patch

        monkey_patch.patch(backend="threading")  # as nova-compute begins

        import nova.conf
        import requests.adapters
        from nova import config as nova_config
        from nova import context as nova_context
        from nova import objects
        from nova.db.main import api as main_db
        from nova.db.main import models
        from nova.network import security_group_api
        from nova.virt.ironic import driver as upstream

        from bloomery.doors.nova.driver import IronicDriver

        conf = nova.conf.CONF
        nova_config.parse_args(["nova-compute"], default_config_files=[], configure_db=False, init_rpc=False)
        logging.disable(logging.ERROR)
        settings: dict[tuple[str | None, str], object] = {
            ("database", "connection"): f"sqlite:///{folder / 'nova.sqlite'}?timeout=300",
            ("database", "sqlite_synchronous"): False,
            (None, "host"): HOST,
            (None, "force_config_drive"): True,
            (None, "mkisofs_cmd"): str(folder / "mkisofs"),
            (None, "tempdir"): str(folder),
            ("ironic", "auth_type"): "none",
            ("ironic", "endpoint_override"): ironic_url,
        }
        if neutron_url is not None:
            settings |= {("neutron", "auth_type"): "none", ("neutron", "endpoint_override"): neutron_url}
        if side == TUNED:
            settings |= {("ironic", name): value for name, value in TUNING.items()}
        from keystoneauth1 import loading

        for group in ("ironic", "neutron"):
            conf.register_opts(loading.get_auth_plugin_conf_options("none"), group=group)
        for (section, name), value in settings.items():
            conf.set_override(name, value, group=section)
        _write_mkisofs(folder / "mkisofs")
        objects.register_all()
        main_db.configure(conf)
        models.BASE.metadata.create_all(main_db.get_engine())
        # What a user's security groups are is asked of Neutron, by the metadata service's code; no part of any driver.
        security_group_api.get_instance_security_groups = lambda *_args, **_kwargs: []
        self.context = nova_context.RequestContext("user", "project", is_admin=True)
        self.sent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._count(requests.adapters.HTTPAdapter, ironic_url)
        self._make: Any = IronicDriver if side == BLOOMERY else upstream.IronicDriver
        self._add_rows(main_db.get_engine(), models, instances)
        self.driver = self._make(None)
        self.found: dict[str, Any] = {}

    def _count(self, adapter: Any, ironic_url: str) -> None:
        """Every request to Ironic is counted where it leaves the process, those too that do not arrive."""
        send = adapter.send

        def counting(its: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            if request.url.startswith(ironic_url):
                with self._lock:
                    path = request.url.removeprefix(ironic_url).partition("?")[0]
                    self.sent[f"{request.method} {_UUID.sub('-', path)}"] += 1
            return send(its, request, *args, **kwargs)

        adapter.send = counting

    def _add_rows(self, engine: Any, models: Any, instances: dict[str, str]) -> None:
        """Nova's database has the instances, with as much of each as a list of them shows."""
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = [
            {
                "uuid": instance_uuid,
                "host": HOST,
                "node": node_uuid,
                "deleted": 0,
                "created_at": now,
                "vm_state": "active",
                "project_id": "project",
                "user_id": "user",
            }
            for instance_uuid, node_uuid in instances.items()
        ]
        if rows:
            with engine.begin() as connection:
                connection.execute(models.Instance.__table__.insert(), rows)

    # The fleet

    def refresh(self) -> tuple[Cost, int, int]:
        """What one look at all nodes costs, as Nova's resource tracker asks for it each minute; how many nodes; requests."""
        self.sent.clear()
        nodes: list[list[str]] = []
        cost = cost_of(lambda: nodes.append(self.driver.get_available_nodes()))
        return cost, len(nodes[0]), self.sent.total()

    def full(self) -> tuple[Cost, int, int]:
        """The same of a driver that knows nothing yet."""
        self.driver = self._make(None)
        _ = self.driver.nodes.ironic if hasattr(self.driver, "nodes") else self.driver.ironic_connection
        return self.refresh()

    def get_info(self, instance_uuids: Sequence[str]) -> float:
        """The mean time, in seconds, to tell the power of one of the instances, each asked for once."""
        from nova import objects

        instances = [objects.Instance(uuid=instance_uuid) for instance_uuid in instance_uuids]
        began = time.process_time()
        for instance in instances:
            self.driver.get_info(instance)
        return (time.process_time() - began) / len(instances)

    def held(self) -> float:
        """The bytes that Python has given out for the driver with its nodes, by node."""
        import gc

        self.full()  # modules are loaded, and caches filled that are not the nodes'
        self.driver = self._make(None)
        gc.collect()
        tracemalloc.start()
        try:
            nodes = len(self.driver.get_available_nodes())
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / nodes
        finally:
            tracemalloc.stop()

    # Servers

    def spawn_all(self, wires: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """A server is built on each node, all at once, a thread each; what became of them.

        Args:
            wires: for each node, a Neutron port as its API shows it.
        """
        from nova.network import model

        import nova_objects

        made = {node_uuid: self._instance(node_uuid) for node_uuid in wires}
        vifs = {node_uuid: model.NetworkInfo([nova_objects.vif(port)]) for node_uuid, port in wires.items()}
        self.driver.get_available_nodes()

        def build(node_uuid: str) -> str:
            instance, network_info = made[node_uuid], vifs[node_uuid]
            try:
                self.driver.prepare_for_spawn(instance)
                self.driver.prepare_networks_before_block_device_mapping(instance, network_info)
                image = nova_objects.image()
                self.driver.spawn(self.context, instance, image, [], None, {}, network_info=network_info)
            except Exception as problem:  # noqa: BLE001  every failure is counted
                return f"{type(problem).__name__}: {problem}"
            finally:
                returned[node_uuid] = time.time()
            return ""

        returned: dict[str, float] = {}
        result = self._at_once(build, list(wires))
        self.found = {node: (made[node], vifs[node]) for node in wires if node not in result["failed"]}
        return result | {"returned": returned}

    def destroy_all(self) -> dict[str, Any]:
        """The servers that were built are destroyed, all at once."""

        def destroy(node_uuid: str) -> str:
            instance, network_info = self.found[node_uuid]
            try:
                self.driver.destroy(self.context, instance, network_info)
            except Exception as problem:  # noqa: BLE001  every failure is counted
                return f"{type(problem).__name__}: {problem}"
            return ""

        return self._at_once(destroy, list(self.found))

    def _at_once(self, work: Any, nodes: list[str]) -> dict[str, Any]:
        self.sent.clear()
        began = time.perf_counter()
        cost = os.times()
        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            outcomes = list(pool.map(work, nodes))
        spent = os.times()
        return {
            "wall_s": time.perf_counter() - began,
            "processor_s": spent.user + spent.system - cost.user - cost.system,
            "requests": self.sent.total(),
            "asked": dict(self.sent),
            "nodes": nodes,
            "failures": [outcome for outcome in outcomes if outcome],
            "failed": [node for node, outcome in zip(nodes, outcomes, strict=True) if outcome],
        }

    def _instance(self, node_uuid: str) -> Any:
        import nova_objects

        specs = {"resources:CUSTOM_BAREMETAL_FAKE": "1"}
        return nova_objects.instance(self.context, node=node_uuid, host=HOST, extra_specs=specs, config_drive="True")


def _write_mkisofs(program: Path) -> None:
    """A mkisofs that gives the same small image each time, in next to no time: what is left is the driver's own work."""
    folder, image = program.with_suffix(".files"), program.with_suffix(".iso")
    folder.mkdir()
    (folder / "meta_data.json").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "bloomery.lab.mkisofs",
        "-J",
        "-r",
        "-V",
        "config-2",
        "-o",
        str(image),
        str(folder),
    ]
    subprocess.run(command, check=True)  # noqa: S603
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nexec cp "{image}" "$2"\n')
    program.chmod(0o700)
