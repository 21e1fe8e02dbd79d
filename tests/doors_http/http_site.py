"""The service over a real socket, in front of simulators, and a caller of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

import bloomery
from bloomery.deadline import Patience
from bloomery.doors.http.server import Server, server_for
from bloomery.doors.http.settings import Settings
from bloomery.doors.http.upstream import Connect
from bloomery.testing import IronicSimulator, NeutronSimulator

TIMEOUT_S = 30.0
"""For whatever a test waits for."""
CHECKSUM = "sha256:" + "a" * 64
IMAGE = {"source": "http://127.0.0.1/images/x.raw", "checksum": CHECKSUM}
DEPLOY: dict[str, Any] = {
    "name": "web-1",
    "image": IMAGE,
    "wanted": {"resource_class": "small"},
    "nics": [{"network": "private"}],
}
IMPATIENT = Patience(request_s=5.0, before_change_s=0.5, after_change_s=20.0, first_pause_s=0.02)


@dataclass
class Caller:
    """Somebody who calls a service."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """The service's answer."""
        return requests.request(
            method,
            self.url + path,
            json=body,
            headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
            timeout=TIMEOUT_S,
        )

    def get(self, path: str, **headers: str) -> Any:
        """What a read that goes well says."""
        answer = self.ask("GET", path, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, status: int, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The problem that a request is answered with."""
        answer = self.ask(method, path, body, **headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["type"] == f"urn:bloomery:problem:{problem['title']}"
        return problem

    def begun(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The operation that a request began."""
        answer = self.ask(method, path, body, **headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/v1/operations/{answer.json()['id']}"
        return answer.json()

    def ended(self, operation: Any) -> Any:
        """The operation, once it has ended."""
        path = f"/v1/operations/{operation['id']}"
        self.wait_for(lambda: self.get(path)["ended_at"] is not None)
        return self.get(path)

    def done(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The operation that a request began, once it has gone well."""
        ended = self.ended(self.begun(method, path, body, **headers))
        assert ended["state"] == "succeeded", ended
        return ended

    def deployed(self, name: str = "web-1", **more: Any) -> Any:
        """An instance that runs."""
        self.done("POST", "/v1/instances", {**DEPLOY, "name": name, **more})
        return self.get(f"/v1/instances/{name}")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """It has become true; looked at once after each event, and now and then."""
        waiting = threading.Event()
        for _ in range(int(self.timeout_s / 0.02)):
            if condition():
                return
            waiting.wait(0.02)
        raise AssertionError("it did not become true")

    @contextmanager
    def listening(self, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The event stream, event by event."""
        with requests.get(
            f"{self.url}/v1/events/stream{query}",
            headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
            stream=True,
            timeout=TIMEOUT_S,
        ) as answer:
            assert answer.status_code == 200, answer.text
            yield frames(answer)


def frames(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    frame: dict[str, Any] = {}
    for line in answer.iter_lines(chunk_size=1):
        name, _, value = line.decode().partition(": ")
        if name == "" and frame.get("event"):
            yield frame
        if name == "":
            frame = {}
        elif name == "data":
            frame["data"] = json.loads(value)
        else:
            frame[name] = value


@dataclass
class Site(Caller):
    """A service and the simulators behind it."""

    ironic: IronicSimulator = field(kw_only=True)
    neutron: NeutronSimulator = field(kw_only=True)
    server: Server = field(kw_only=True)

    def as_caller(self, **headers: str) -> Caller:
        """Somebody else."""
        return Caller(self.url, {name.replace("_", "-"): value for name, value in headers.items()})


def connected(ironic: IronicSimulator, neutron: NeutronSimulator, *, timeout_s: float = 5.0) -> bloomery.Bloomery:
    """The library on the simulators."""
    endpoints = {"baremetal": ironic.url, "network": neutron.url}
    return bloomery.connect(
        session=Session(auth=NoAuth()), endpoints=endpoints, timeout_s=timeout_s, patience=IMPATIENT
    )


@contextmanager
def cloud(*, nodes: int = 3) -> Iterator[tuple[IronicSimulator, NeutronSimulator]]:
    """An Ironic with free nodes, and a Neutron with networks."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        neutron.add_network("private", cidrs=["192.0.2.0/24"], shared=True)
        neutron.add_network("storage", cidrs=["198.51.100.0/24"])
        neutron.create("security_groups", {"name": "web"})
        for number in range(nodes):
            ironic.add_node(
                name=f"node-{number}",
                resource_class="small",
                console_interface="ipmitool-socat",
                storage_interface="external",
            )
        yield ironic, neutron


@contextmanager
def running(connect: Connect, folder: Path, **settings: Any) -> Iterator[tuple[str, Server]]:
    """A service over such a connection, until the end of the block; its address, and itself."""
    # A janitor would mend what a test has broken to look at it.
    given = {"port": 0, "state": folder / "state", "refresh_s": 0.1, "rate_per_s": 1e6, "burst": 1_000_000, **settings}
    given.setdefault("janitor", False)
    ready = threading.Event()
    addresses: list[str] = []

    def on_ready(url: str) -> None:
        addresses.append(url)
        ready.set()

    server = server_for(connect, Settings(**given), on_ready)
    thread = threading.Thread(target=server.run, name=f"service-{uuid4()}", daemon=True)
    thread.start()
    try:
        assert ready.wait(TIMEOUT_S), "the service did not start"
        yield addresses[0], server
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "the service did not end"


@contextmanager
def served(ironic: IronicSimulator, neutron: NeutronSimulator, folder: Path, **settings: Any) -> Iterator[Site]:
    """A service in front of simulators, until the end of the block."""
    with running(lambda: connected(ironic, neutron), folder, **settings) as (url, server):
        yield Site(url, ironic=ironic, neutron=neutron, server=server)
