"""Gateways to services that ask for no credentials: simulators, labs."""

from __future__ import annotations

from keystoneauth1.adapter import Adapter
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery.deadline import Deadline
from bloomery.ironic import Ironic
from bloomery.neutron import Neutron
from bloomery.rest.transport import Transport

PATIENCE_S = 60.0


def transport_to(url: str, *, service: str, version_path: str, connections: int = 6) -> Transport:
    """A transport to the service at that address.

    Args:
        url: the service's root, without its version path.
        service: its name, for messages: "Ironic".
        version_path: the path under which its API lives, such as "/v1".
        connections: how many requests may be under way at once.
    """
    adapter = Adapter(Session(NoAuth()), endpoint_override=url)
    return Transport(adapter, service=service, version_path=version_path, connections=connections)


def ironic_at(url: str, *, deadline: Deadline | None = None, connections: int = 6) -> Ironic:
    """A gateway to the Ironic at that address; without a deadline of yours its methods may take a minute in all.

    Raises:
        GatewayError: there is no Ironic that we can do with.
    """
    transport = transport_to(url, service="Ironic", version_path="/v1", connections=connections)
    return Ironic.connect(transport, deadline or Deadline(PATIENCE_S))


def neutron_at(url: str, *, deadline: Deadline | None = None) -> Neutron:
    """A gateway to the Neutron at that address; without a deadline of yours its methods may take a minute in all."""
    return Neutron(transport_to(url, service="Neutron", version_path="/v2.0"), deadline or Deadline(PATIENCE_S))
