"""A lab, the command on it, and what the parts of the lab themselves say: plain HTTP, nothing of Bloomery in between."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session
from pycdlib import PyCdlib

from bloomery import Bloomery, DeployRequest, Image, connect
from bloomery.lab import Image as LabImage
from bloomery.lab import Lab, LabNode
from bloomery.lab.ironic import CLEANING, PROVISIONING, RESCUING
from lab.ironic_api import IronicApi, bmc_power, machine

WAIT_S = 90.0

_COMMAND = Path(sys.executable).with_name("bloomery")
_OF_NODE = (
    *("name", "instance_uuid", "instance_info", "extra", "provision_state", "power_state", "maintenance", "traits"),
    *("resource_class", "retired", "protected", "console_enabled", "properties", "driver_info", "last_error"),
)


@dataclass(frozen=True)
class Answer:
    """What a command line gave."""

    exit_code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """What it wrote, which was to be JSON."""
        return json.loads(self.out)


class Site:
    """The lab and a user's folder on this machine."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.ironic = IronicApi(lab)
        self.image = lab.images["whole-disk"]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OS_", "BLOOMERY_"))},
            "OS_CLIENT_CONFIG_FILE": str(lab.cloud_config),
            "OS_CLOUD": lab.cloud,
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "120",
        }

    def close(self) -> None:
        self.ironic.close()

    # The command

    def run(self, *words: str, exit_code: int = 0, environment: Mapping[str, str] | None = None) -> Answer:
        """The command line was carried out, and ended with that exit code."""
        done = subprocess.run(
            [str(_COMMAND), *words],
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == exit_code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "--debug" in words or "Traceback" not in done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command line is being carried out."""
        return subprocess.Popen(
            [str(_COMMAND), *words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def image_options(self, image: LabImage | None = None) -> tuple[str, ...]:
        chosen = image or self.image
        return ("--image", chosen.url, "--checksum", f"sha256:{chosen.sha256}")

    def deploy(self, name: str, node: str, *more: str) -> dict[str, Any]:
        """The instance runs on the node; returns what the command says of it."""
        row: dict[str, Any] = self.run("deploy", name, "--node", node, *self.image_options(), *more, "-f", "json").value
        return row

    def file(self, name: str, content: str | bytes) -> str:
        """A file of the user's; returns its path."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    # The library

    def api(self) -> Bloomery:
        """A new process's connection."""
        endpoints = {"baremetal": self.lab.ironic_url, "network": str(self.lab.neutron_url)}
        return connect(session=Session(auth=NoAuth()), endpoints=endpoints)

    def request(self, name: str, **more: Any) -> DeployRequest:
        return DeployRequest(
            name=name, image=Image.named(self.image.url, checksum=f"sha256:{self.image.sha256}"), **more
        )

    # What there is

    def node(self, name: str) -> LabNode:
        return self.lab.node(name)

    def row(self, name: str) -> dict[str, Any]:
        """The node, as Ironic shows it."""
        return self.ironic.node(self.node(name))

    def ports(self, **filters: str) -> list[dict[str, Any]]:
        """Neutron's ports that pass the filters."""
        reply = requests.get(f"{self.lab.neutron_url}/v2.0/ports", params=filters, timeout=30)
        found: list[dict[str, Any]] = reply.json()["ports"]
        return found

    def instances_ports(self, **filters: str) -> list[dict[str, Any]]:
        """Those of them that are on no network of Ironic's own, where it makes ports for its agent.

        These bear the instance's UUID too, and an Ironic that is killed before it has bound one never finds it again.
        """
        reply = requests.get(f"{self.lab.neutron_url}/v2.0/networks", timeout=30)
        own = {row["id"] for row in reply.json()["networks"] if row["name"] in (PROVISIONING, CLEANING, RESCUING)}
        return [port for port in self.ports(**filters) if port["network_id"] not in own]

    def bmc_power(self, name: str) -> str:
        return bmc_power(self.lab, self.node(name))

    def machine(self, name: str) -> dict[str, Any]:
        return machine(self.lab, self.node(name))

    def config_drive(self, name: str) -> dict[str, bytes]:
        """The files of the config drive on the machine's disk, by path."""
        record = self.machine(name)
        path = self.lab.state / "machines" / f"{self.node(name).uuid}.config-drive"
        content = path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["config_drive_sha256"]
        drive, found = PyCdlib(), {}
        drive.open_fp(io.BytesIO(content))
        for folder, _, files in drive.walk(rr_path="/"):
            for file in files:
                out = io.BytesIO()
                drive.get_file_from_iso_fp(out, rr_path=f"{folder.rstrip('/')}/{file}")
                found[f"{folder.rstrip('/')}/{file}"] = out.getvalue()
        drive.close()
        return found

    def seen(self) -> dict[str, Any]:
        """All that a command could have changed, without what changes by itself."""
        self.await_quiet()
        rows = self.ironic.call("GET", "nodes/detail")["nodes"]
        return {
            "nodes": {row["uuid"]: {name: row[name] for name in _OF_NODE} for row in rows},
            "NICs": {
                row["uuid"]: (row["internal_info"], row["extra"])
                for kind in ("ports", "portgroups")
                for row in self.ironic.call("GET", f"{kind}/detail")[kind]
            },
            "allocations": self.ironic.call("GET", "allocations")["allocations"],
            "volumes": self.ironic.call("GET", "volume/targets?detail=true")["targets"],
            # The agent's own ports come and go with cleaning; whatever has no device is a user's.
            "ports": {
                port["id"]: {
                    name: value for name, value in port.items() if name not in ("updated_at", "revision_number")
                }
                for port in self.ports()
            },
        }

    # Waiting and tidying

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """The condition is true."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
            time.sleep(0.1)

    def wait_for(self, name: str, *states: str) -> None:
        """The node is in one of the provision states."""
        self.wait(lambda: self.row(name)["provision_state"] in states, f"{name} in {' or '.join(states)}")

    def await_quiet(self, *names: str) -> None:
        """Ironic does nothing with the nodes, or with any node."""
        for node in self.lab.nodes:
            if not names or node.name in names:
                self.wait_for(node.name, "available", "active", "manageable")

    def assert_free(self, name: str) -> None:
        """Ironic has nothing of an instance on the node, nor Neutron for it; it may be being cleaned until then."""
        self.ironic.wait(self.node(name), "available")
        row = self.row(name)
        assert (row["instance_uuid"], row["instance_info"], row["extra"]) == (None, {}, {})
        assert self.ironic.vifs(self.node(name)) == []
        assert self.ports(**{"binding:host_id": row["uuid"]}) == []
        assert self.ironic.call("GET", "allocations")["allocations"] == []

    def clear(self) -> None:
        """Nothing is left of this test but nodes that are being cleaned."""
        self.unlock()
        for row in self.ironic.call("GET", "nodes/detail")["nodes"]:
            if row["maintenance"]:
                self.ironic.call("DELETE", f"nodes/{row['uuid']}/maintenance")
            if row["protected"] or row["retired"]:
                self.patch(row["uuid"], protected=False, retired=False)
            if row["provision_state"] == "manageable":
                self.ironic.call("PUT", f"nodes/{row['uuid']}/states/provision", {"target": "provide"})
        left = [row["uuid"] for row in self.ironic.call("GET", "nodes?associated=true")["nodes"]]
        if left:
            self.run("destroy", *left)

    def lock(self, name: str) -> None:
        """The node is locked, as by a conductor that is busy with it."""
        self._reserve("somebody", "uuid = ?", self.node(name).uuid)

    def unlock(self) -> None:
        """No node is locked by `lock` any more."""
        self._reserve(None, "reservation = ?", "somebody")

    def _reserve(self, by: str | None, where: str, value: str) -> None:
        # In Ironic's own database: nothing in its API keeps a node locked for as long as a test wants.
        with contextlib.closing(sqlite3.connect(self.lab.state / "ironic" / "ironic.sqlite", timeout=30)) as database:
            database.execute(f"UPDATE nodes SET reservation = ? WHERE {where}", (by, value))  # noqa: S608
            database.commit()

    def patch(self, uuid: str, **values: object) -> None:
        """The node has these values."""
        body = [{"op": "add", "path": f"/{name}", "value": value} for name, value in values.items()]
        self.ironic.call("PATCH", f"nodes/{uuid}", body)


def end(process: subprocess.Popen[str], *, by: signal.Signals | None = None) -> Answer:
    """The process has ended, of itself or by the signal."""
    if by is not None:
        process.send_signal(by)
    out, err = process.communicate(timeout=WAIT_S)
    return Answer(process.returncode, out, err)
