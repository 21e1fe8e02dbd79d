"""A whole Nova around a lab: control plane, Placement and nova-compute services that come, go, and change their driver.

    with cloud.running(lab, folder) as nova:
        nova.start_compute("ironic.IronicDriver")

Every process ends with the block, or with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bloomery.lab import Lab, glance
from bloomery.lab.service import RunningService, Service, start, stop, tail
from bloomery.lab.wait import answers, until
from nova_site import exchange
from nova_site.interrupter import Interrupter

START_TIMEOUT_S = 240.0
HOST = "compute-1"
_PARTS = ("api", "placement", "neighbours", "bus")
_KEY = "lab"

Sections = Mapping[str, Mapping[str, object]]


@dataclass(kw_only=True)
class Cloud:
    """A Nova that is up, and how to reach it.

    Attributes:
        python: the interpreter of the environment that Nova is installed in, which may be another than ours.
        compute_environment: what the environment of a nova-compute that is started from now on has beside ours.
    """

    lab: Lab
    ironic: Interrupter
    folder: Path
    urls: Mapping[str, str]
    ports: Mapping[str, int]
    python: Path = Path(sys.executable)
    compute_environment: Mapping[str, str] = field(default_factory=dict)
    computes: dict[str, RunningService] = field(default_factory=dict)
    drivers: dict[str, str] = field(default_factory=dict)
    options: dict[str, Sections] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    shared_server: str | None = None

    @property
    def log(self) -> Path:
        """The folder with the output of every process."""
        return self.folder / "logs"

    def start_compute(self, driver: str, *, host: str = HOST, options: Sections | None = None) -> None:
        """A nova-compute of that name runs with the driver, and Nova's API shows it as up.

        Args:
            options: what differs from the site's nova.conf, by section.
        """
        config = self.folder / f"{host}.conf"
        changed: dict[str, dict[str, object]] = {name: dict(values) for name, values in (options or {}).items()}
        state = self.folder / host
        state.mkdir(exist_ok=True)
        changed["DEFAULT"] = {
            "host": host,
            "compute_driver": driver,
            "state_path": state,
            **changed.get("DEFAULT", {}),
        }
        config.write_text(render(changed))
        log = self.log / f"{host}.log"
        before = log.stat().st_size if log.exists() else 0
        files = ("--config-file", str(self.folder / "nova.conf"), "--config-file", str(config))
        running = start(
            Service(
                name=host,
                argv=(str(self.python), "-m", "nova_site.compute", *files),
                environment={**_environment(), **self.compute_environment},
                is_ready=lambda: b"Join ServiceGroup membership" in _since(log, before),
            ),
            logs=self.log,
        )
        self.computes[host] = running
        self.drivers[host], self.options[host] = driver, options or {}
        _await([running])

    def stop_compute(self, host: str = HOST) -> None:
        """nova-compute was asked to end, as systemd would, and has ended."""
        running = self.computes.pop(host)
        stop([running], grace_s=20)
        self._forget(host)

    def kill_compute(self, host: str = HOST) -> None:
        """nova-compute is gone without a word, as after a power failure."""
        running = self.computes.pop(host)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        self._forget(host)

    def _forget(self, host: str) -> None:
        with contextlib.closing(exchange.Client(self.ports["bus"], _KEY)) as client:
            client.drop_server(host)

    def end(self) -> None:
        """No nova-compute runs."""
        stop(list(self.computes.values()), grace_s=1)
        self.computes.clear()


@contextlib.contextmanager
def running(lab: Lab, folder: Path, *, cache: Path | None = None, python: Path | None = None) -> Iterator[Cloud]:
    """Nova's control plane is up within the block, without a nova-compute.

    nova-compute reaches Ironic by way of `Cloud.ironic`, which can hold a request.

    Args:
        folder: everything of it is there, logs included.
        cache: where databases without rows are kept for the next time; None takes the folder itself.
        python: the interpreter of the environment that Nova is installed in; None is ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    ports = dict(zip(_PARTS, _free_ports(len(_PARTS)), strict=True))
    urls = {part: f"http://127.0.0.1:{ports[part]}" for part in ("api", "placement", "neighbours")}
    with Interrupter(lab.ironic_url) as ironic:
        cloud = Cloud(
            lab=lab, ironic=ironic, folder=folder, urls=urls, ports=ports, python=python or Path(sys.executable)
        )
        services = _prepare(cloud, cache or folder / "cache")
        started: list[RunningService] = []
        try:
            started.extend(start(service, logs=cloud.log) for service in services)
            _await(started)
            yield cloud
        finally:
            cloud.end()
            stop(started, grace_s=1)


def _prepare(cloud: Cloud, cache: Path) -> list[Service]:
    folder, lab, urls = cloud.folder, cloud.lab, cloud.urls
    (folder / "nova.conf").write_text(render(_configuration(cloud)))
    (folder / "databases.conf").write_text(render(_databases(folder)))
    (folder / "placement").mkdir(exist_ok=True)
    (folder / "placement" / "placement.conf").write_text(render(_placement_configuration(folder)))
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "folder": str(folder),
                "cache": str(cache),
                "configs": [str(folder / "nova.conf"), str(folder / "databases.conf")],
                "cell1": str(uuid.uuid4()),
                "bus_port": cloud.ports["bus"],
                "bus_key": _KEY,
                "api_port": cloud.ports["api"],
                "neighbours_port": cloud.ports["neighbours"],
                "image_ids": {name: glance.image_id(name) for name in lab.images},
                "endpoints": {
                    "identity": f"{urls['neighbours']}/identity",
                    "compute": f"{urls['api']}/v2.1",
                    "placement": urls["placement"],
                    "baremetal": cloud.ironic.url,
                    "network": lab.neutron_url,
                    "image": f"{lab.images_url}{glance.PREFIX}",
                    # Cinder's client reads the version from the URL.
                    "volumev3": f"{urls['neighbours']}/volume/v3/lab",
                },
            },
            indent=2,
        )
    )
    return [
        Service(
            name="neighbours",
            argv=(sys.executable, "-m", "nova_site.neighbours_server", str(settings)),
            environment=_environment(),
            is_ready=lambda: answers(f"{urls['neighbours']}/identity/v3"),
        ),
        Service(
            name="nova",
            argv=(str(cloud.python), "-m", "nova_site.control_plane", str(settings)),
            environment=_environment(),
            is_ready=lambda: answers(f"{urls['api']}/"),
        ),
        Service(
            name="placement",
            argv=(
                *(sys.executable, "-m", "nova_site.placement_server"),
                *(str(folder / "placement"), str(cloud.ports["placement"])),
            ),
            environment=_environment(),
            is_ready=lambda: answers(f"{urls['placement']}/"),
        ),
    ]


def _configuration(cloud: Cloud) -> Sections:
    folder = cloud.folder
    identity = f"{cloud.urls['neighbours']}/identity/v3"
    credentials = {
        "auth_type": "password",
        "auth_url": identity,
        "username": "nova",
        "password": "any",
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": "lab",
    }
    return {
        "DEFAULT": {
            "host": "control",
            "my_ip": "127.0.0.1",
            "state_path": folder,
            "transport_url": f"fake://bus:{_KEY}@127.0.0.1:{cloud.ports['bus']}/",
            "debug": True,
            "use_stderr": True,
            "log_options": False,
            "instance_usage_audit": False,
            "rpc_response_timeout": 60,
            "periodic_fuzzy_delay": 0,
            # A nova-compute whose restart takes long on a busy machine is not dead; tests say when one is (`forced_down`).
            "service_down_time": 600,
            # Nova's view of the nodes is at most this old; a real site takes a minute.
            "update_resources_interval": 2,
            # Tests say when Nova is to compare power states.
            "sync_power_state_interval": -1,
            "heal_instance_info_cache_interval": -1,
            "shutdown_timeout": 5,
            "graceful_shutdown_timeout": 15,
            "manager_shutdown_timeout": 5,
            "running_deleted_instance_poll_interval": 3,
            # Nova's own driver makes config drives with it; Ironic's part of the lab brings one.
            "mkisofs_cmd": cloud.lab.state / "ironic" / "bin" / "mkisofs",
        },
        "wsgi": {"api_paste_config": cloud.python.parent.parent / "etc" / "nova" / "api-paste.ini"},
        "keystone_authtoken": {
            **credentials,
            "www_authenticate_uri": identity,
            "service_token_roles_required": False,
        },
        "scheduler": {"discover_hosts_in_cells_interval": 1, "workers": 1},
        "conductor": {"workers": 1},
        "placement": credentials,
        "ironic": {**credentials, "api_retry_interval": 1, "serial_console_state_timeout": 120},
        "neutron": credentials,
        "glance": credentials,
        "cinder": {**credentials, "catalog_info": "volumev3::publicURL", "os_region_name": "lab"},
        "service_user": {"send_service_user_token": False},
        "key_manager": {"backend": "nova.keymgr.conf_key_mgr.ConfKeyManager"},
        "vnc": {"enabled": True},
        "serial_console": {"enabled": True},
        "oslo_concurrency": {"lock_path": folder / "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "notifications": {"notification_format": "unversioned"},
        "filter_scheduler": {"build_failure_weight_multiplier": 0},
        "compute": {"consecutive_build_service_disable_threshold": 0},
        "quota": {"instances": -1, "cores": -1, "ram": -1},
        "upgrade_levels": {"compute": "auto"},
    }


def _databases(folder: Path) -> Sections:
    """What nova-compute must not have."""
    return {
        "api_database": {"connection": f"sqlite:///{folder}/api.sqlite?timeout=60"},
        "database": {"connection": f"sqlite:///{folder}/cell1.sqlite?timeout=60"},
    }


def _placement_configuration(folder: Path) -> Sections:
    return {
        "DEFAULT": {"debug": False, "use_stderr": True, "log_options": False},
        "api": {"auth_strategy": "noauth2"},
        "placement_database": {
            "connection": f"sqlite:///{folder}/placement.sqlite?timeout=60",
            "sync_on_startup": True,
        },
    }


def render(sections: Sections) -> str:
    """The sections as a configuration file of OpenStack."""
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {str(value).replace('$', '$$')}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    tests = str(Path(__file__).parent.parent)
    return {"PYTHONPATH": os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])}


def _await(services: list[RunningService]) -> None:
    def is_ready(running: RunningService) -> bool:
        if running.has_ended():
            raise RuntimeError(f"{running.name} ended: {' | '.join(tail(running.log, lines=20))}")
        return running.service.is_ready()

    for running in services:
        until(lambda running=running: is_ready(running), what=f"the start of {running.name}", timeout_s=START_TIMEOUT_S)  # type: ignore[misc]


def _since(log: Path, offset: int) -> bytes:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, below those that the kernel gives out by itself and that somebody might have before we start."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(15_000, 32_000), 200):
        with contextlib.suppress(OSError), socket.socket() as candidate:
            candidate.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} of 200 ports are free")


def token(url: str, *, user: str, project: str = "demo") -> str:
    """A token for that user, from the stand-in for Keystone."""
    password = {"user": {"name": user, "domain": {"id": "default"}, "password": "any"}}
    scope = {"project": {"name": project, "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
    reply = requests.post(f"{url}/identity/v3/auth/tokens", json=body, timeout=30)
    return reply.headers["X-Subject-Token"]
