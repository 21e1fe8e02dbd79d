"""The clients that are compared, each with a session of its own on the same Ironic, and a count of what each sends."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import requests
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session, TCPKeepAliveAdapter
from metalsmith import Provisioner  # type: ignore[import-untyped]
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from bloomery import Bloomery, connect

OURS, SDK, METALSMITH = "bloomery", "openstacksdk", "metalsmith"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_phase: ContextVar[str | None] = ContextVar("phase", default=None)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that went out.

    Attributes:
        phase: what its client was doing; None in threads that nobody named.
        service: whom it went to.
        words: its method and path, with UUIDs left out.
    """

    phase: str | None
    service: str
    words: str


class Wire:
    """Every request that a session sends, as it leaves the process."""

    def __init__(self, session: Session, urls: Mapping[str, str]) -> None:
        self.sent: list[Sent] = []
        for service, url in urls.items():
            session.session.mount(url, _CountingAdapter(self.sent, service))

    def clear(self) -> None:
        """Nothing was sent yet."""
        self.sent.clear()


class _CountingAdapter(TCPKeepAliveAdapter):  # type: ignore[misc]  # keystoneauth1 is untyped
    """Sends a request, and notes it."""

    def __init__(self, sent: list[Sent], service: str) -> None:
        super().__init__()
        self._sent = sent
        self._service = service
        self._lock = threading.Lock()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The answer; a repetition below this would not be counted, and there is none."""
        with self._lock:
            self._sent.append(Sent(_phase.get(), self._service, f"{request.method} {_pattern(request.path_url)}"))
        response: requests.Response = super().send(request, *args, **kwargs)
        return response


def _pattern(path: str) -> str:
    return _UUID.sub("…", path.split("?")[0])


@contextmanager
def phase(name: str) -> Iterator[None]:
    """What this thread sends within the block belongs to the phase."""
    token = _phase.set(name)
    try:
        yield
    finally:
        _phase.reset(token)


def set_phase(name: str | None) -> None:
    """What this thread sends from here on belongs to the phase."""
    _phase.set(name)


@dataclass(frozen=True)
class Ironic:
    """Where an Ironic and its Neutron answer, and what a deploy there asks for.

    Attributes:
        words: what a reader has to know of it.
        url: Ironic's address.
        neutron_url: Neutron's.
        resource_class: of its nodes.
        traits: of nodes without a bond: metalsmith 2.5 fails on those that have one.
        network: a network for VIFs.
        image: an image's address.
        image_sha256: its checksum.
    """

    words: str
    url: str
    neutron_url: str
    resource_class: str
    traits: tuple[str, ...]
    network: str
    image: str
    image_sha256: str

    @property
    def urls(self) -> dict[str, str]:
        """The addresses, by service."""
        return {"Ironic": self.url, "Neutron": self.neutron_url}


@dataclass(frozen=True)
class Clients:
    """The clients of one Ironic, connected, and the wire of each.

    openstacksdk and metalsmith, which is built on it, share a session.
    """

    ironic: Ironic
    bloomery: Bloomery
    sdk: Connection
    metalsmith: Provisioner
    wires: Mapping[str, Wire] = field(repr=False)

    @classmethod
    def of(cls, ironic: Ironic) -> Clients:
        """Clients that have found their services and agreed on versions; what that took is counted nowhere."""
        session = Session(auth=NoAuth())
        ours = connect(session=session, endpoints={"baremetal": ironic.url, "network": ironic.neutron_url})
        region = OpenStackConfig(load_yaml_config=False, load_envvars=False).get_one(
            auth_type="none",
            auth={"endpoint": ironic.url},
            baremetal_endpoint_override=ironic.url,
            network_endpoint_override=ironic.neutron_url,
            baremetal_api_version="1",
            network_api_version="2",
            interface="public",
        )
        provisioner = Provisioner(cloud_region=region)
        connection = provisioner.connection
        list(connection.baremetal.nodes(limit=1, paginated=False))
        list(connection.network.networks())
        list(ours.services.ironic.nodes({"associated": True, "provision_state": "enroll"}))
        ours.networks()
        theirs = Wire(connection.session, ironic.urls)
        return cls(ironic, ours, connection, provisioner, {OURS: Wire(session, ironic.urls), METALSMITH: theirs})
