"""Everything that Bloomery asks of Neutron, a method each; and for each that changes something, how to see that it did."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from bloomery.deadline import Deadline
from bloomery.errors import AmbiguousName, InterfaceFailed, NetworkNotFound
from bloomery.neutron.models import DEVICE_OWNER, Network, NeutronPort, SecurityGroup, Subnet, description_of_ours
from bloomery.rest.failures import Failure, Kind, RequestFailure
from bloomery.rest.retries import certainly
from bloomery.rest.transport import Reply, Transport

T = TypeVar("T")


class _Networks(msgspec.Struct, frozen=True):
    networks: list[Network]


class _Subnets(msgspec.Struct, frozen=True):
    subnets: list[Subnet]


class _Ports(msgspec.Struct, frozen=True):
    ports: list[NeutronPort]


class _Port(msgspec.Struct, frozen=True):
    port: NeutronPort


class _Groups(msgspec.Struct, frozen=True):
    security_groups: list[SecurityGroup]


class Neutron:
    """Neutron, as far as Bloomery needs it. Cheap to copy for another deadline; safe to share between threads.

    Args:
        transport: sends the requests.
        deadline: until when its methods may take.
    """

    def __init__(self, transport: Transport, deadline: Deadline) -> None:
        self.transport = transport
        self.deadline = deadline

    def within(self, deadline: Deadline) -> Neutron:
        """The same Neutron, for work that has another deadline."""
        return Neutron(self.transport, deadline)

    def _read(self, path: str, kind: type[T], *, doing: str, query: Mapping[str, Any] | None = None) -> T:
        return certainly(
            "Neutron",
            doing,
            lambda s: self.transport.request("GET", path, query=query, timeout_s=s).decode(kind),
            deadline=self.deadline,
            kind=Kind.LOOK_UP,
        )

    def _write(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        read_back: Callable[[RequestFailure], T | None],
        result: Callable[[Reply], T],
        body: object = None,
    ) -> T:
        return certainly(
            "Neutron",
            doing,
            lambda s: result(self.transport.request(method, path, body=body, timeout_s=s)),
            deadline=self.deadline,
            kind=Kind.WRITE,
            read_back=read_back,
        )

    # Finding

    def network(self, name_or_id: str) -> Network:
        """The network of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        doing = f"looking for network {name_or_id}"
        found = self._read("/networks", _Networks, doing=doing, query=_by(name_or_id)).networks
        return _only(found, "network", name_or_id)

    def networks(self, ids: Collection[str] | None = None) -> list[Network]:
        """The networks of these ids, or every one that these credentials may see."""
        if ids is not None and not ids:
            return []
        query = None if ids is None else {"id": sorted(ids)}
        return self._read("/networks", _Networks, doing="listing networks", query=query).networks

    def subnet(self, name_or_id: str) -> Subnet:
        """The subnet of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        doing = f"looking for subnet {name_or_id}"
        found = self._read("/subnets", _Subnets, doing=doing, query=_by(name_or_id)).subnets
        return _only(found, "subnet", name_or_id)

    def subnets_of(self, network_id: str) -> list[Subnet]:
        """The network's subnets."""
        query = {"network_id": network_id}
        return self._read(
            "/subnets", _Subnets, doing=f"reading the subnets of network {network_id}", query=query
        ).subnets

    def subnets(self, ids: Sequence[str]) -> list[Subnet]:
        """The subnets of these ids, in one request."""
        if not ids:
            return []
        return self._read("/subnets", _Subnets, doing="reading subnets", query={"id": sorted(set(ids))}).subnets

    def port(self, name_or_id: str) -> NeutronPort:
        """The VIF of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        found = self._read("/ports", _Ports, doing=f"looking for VIF {name_or_id}", query=_by(name_or_id)).ports
        return _only(found, "VIF", name_or_id)

    def ports(self, ids: Sequence[str]) -> list[NeutronPort]:
        """The VIFs of these ids, in one request; those that do not exist are left out."""
        if not ids:
            return []
        return self._read("/ports", _Ports, doing="reading VIFs", query={"id": sorted(set(ids))}).ports

    def ports_of(self, instance_uuid: str) -> list[NeutronPort]:
        """The VIFs that say they belong to the instance."""
        query = {"device_id": instance_uuid}
        return self._read(
            "/ports", _Ports, doing=f"looking for the VIFs of instance {instance_uuid}", query=query
        ).ports

    def our_ports(self) -> list[NeutronPort]:
        """Every VIF that we created, for whichever instance."""
        doing = "looking for VIFs that we created"
        found = self._read("/ports", _Ports, doing=doing, query={"device_owner": DEVICE_OWNER}).ports
        return [port for port in found if port.is_ours]

    def security_group(self, name_or_id: str) -> SecurityGroup:
        """The security group of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        doing = f"looking for security group {name_or_id}"
        found = self._read("/security-groups", _Groups, doing=doing, query=_by(name_or_id)).security_groups
        return _only(found, "security group", name_or_id)

    def security_groups(self, ids: Sequence[str]) -> list[SecurityGroup]:
        """The security groups of these ids, in one request."""
        if not ids:
            return []
        query = {"id": sorted(set(ids))}
        return self._read("/security-groups", _Groups, doing="reading security groups", query=query).security_groups

    # Changing

    def create_port(
        self,
        *,
        instance_uuid: str,
        name: str,
        network_id: str,
        node_uuid: str | None = None,
        fixed_ips: Sequence[Mapping[str, str]] = (),
        security_group_ids: Sequence[str] | None = None,
    ) -> NeutronPort:
        """A VIF of this name is there for the instance, and says that we created it.

        Args:
            instance_uuid: the instance.
            node_uuid: the node that carries the instance: where to look when the instance is gone.
            name: unique among the instance's VIFs; by it a VIF whose reply was lost is found again.
            network_id: the network.
            fixed_ips: `subnet_id`, `ip_address` or both of each address; none lets Neutron choose.
            security_group_ids: None leaves the project's default.

        Raises:
            InterfaceFailed: Neutron refuses it: no address left, address in use, over quota.
        """
        body: dict[str, object] = {
            "name": name,
            "network_id": network_id,
            "device_id": instance_uuid,
            "device_owner": DEVICE_OWNER,
            "description": description_of_ours(node_uuid),
            "admin_state_up": True,
            "binding:vnic_type": "baremetal",
        }
        if fixed_ips:
            body["fixed_ips"] = [dict(address) for address in fixed_ips]
        if security_group_ids is not None:
            body["security_groups"] = list(security_group_ids)

        def read_back(problem: RequestFailure) -> NeutronPort | None:
            for port in self.ports_of(instance_uuid):
                if port.name == name and port.network_id == network_id and port.was_created_for(instance_uuid):
                    return port
            if problem.failure in (Failure.REJECTED, Failure.CONFLICT, Failure.MISSING):
                raise InterfaceFailed(
                    f"Neutron creates no VIF {name!r} on network {network_id}",
                    reason=problem.reason,
                    request_id=problem.request_id,
                )
            return None

        return self._write(
            "POST",
            "/ports",
            doing=f"creating VIF {name}",
            read_back=read_back,
            result=lambda reply: reply.decode(_Port).port,
            body={"port": body},
        )

    def delete_port(self, port_id: str) -> None:
        """The VIF is not there."""

        def read_back(_problem: RequestFailure) -> bool | None:
            return True if not self.ports([port_id]) else None

        path = f"/ports/{quote(port_id, safe='')}"
        self._write("DELETE", path, doing=f"deleting VIF {port_id}", read_back=read_back, result=lambda _reply: True)

    def set_security_groups(self, port_id: str, security_group_ids: Sequence[str]) -> NeutronPort:
        """The VIF has just these security groups.

        Raises:
            InterfaceFailed: Neutron refuses them.
        """

        def read_back(problem: RequestFailure) -> NeutronPort | None:
            there = self.port(port_id)
            if set(there.security_groups) == set(security_group_ids):
                return there
            if problem.failure in (Failure.REJECTED, Failure.CONFLICT, Failure.MISSING):
                raise InterfaceFailed(
                    f"Neutron does not change the security groups of VIF {port_id}",
                    reason=problem.reason,
                    request_id=problem.request_id,
                )
            return None

        return self._write(
            "PUT",
            f"/ports/{quote(port_id, safe='')}",
            doing=f"setting the security groups of VIF {port_id}",
            read_back=read_back,
            result=lambda reply: reply.decode(_Port).port,
            body={"port": {"security_groups": list(security_group_ids)}},
        )


F = TypeVar("F", Network, Subnet, NeutronPort, SecurityGroup)


def _only(found: list[F], kind: str, wanted: str) -> F:
    if not found:
        raise NetworkNotFound(
            f"there is no {kind} {wanted!r}", advice=f"`openstack {_COMMANDS[kind]} list` lists what there is"
        )
    if len(found) > 1:
        ids = ", ".join(sorted(one.id for one in found))
        raise AmbiguousName(f"{len(found)} {kind}s are named {wanted!r}", reason=f"their ids are {ids}")
    return found[0]


_COMMANDS = {"network": "network", "subnet": "subnet", "VIF": "port", "security group": "security group"}


def _by(name_or_id: str) -> dict[str, str]:
    """The filter that finds it: ids are UUIDs; whatever is none is a name."""
    try:
        return {"id": str(UUID(name_or_id))}
    except ValueError:
        return {"name": name_or_id}
