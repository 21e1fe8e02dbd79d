"""Everything that Bloomery asks of Neutron, a method each; and for each that changes something, how to see that it did."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from bloomery.deadline import Deadline
from bloomery.errors import AmbiguousName, InterfaceFailed, NetworkNotFound
from bloomery.neutron.models import DEVICE_OWNER, Network, NeutronPort, SecurityGroup, Subnet, description_of_ours
from bloomery.rest.failures import Failure, Kind, RequestFailure
from bloomery.rest.pages import every_page
from bloomery.rest.retries import certainly
from bloomery.rest.transport import Reply, Transport

T = TypeVar("T")
P = TypeVar("P", bound="_Page")


class _Link(msgspec.Struct, frozen=True):
    rel: str = ""


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list: Neutron cuts lists where its operator has set `pagination_max_limit`."""

    rows: Sequence[Network | Subnet | NeutronPort | SecurityGroup]
    links: list[_Link] = []

    @property
    def last_if_more(self) -> str | None:
        """The last thing on it, if more may follow."""
        return self.rows[-1].id if self.rows and any(link.rel == "next" for link in self.links) else None


class _Networks(_Page, frozen=True):
    rows: list[Network] = msgspec.field(name="networks")
    links: list[_Link] = msgspec.field(name="networks_links", default_factory=list)


class _Subnets(_Page, frozen=True):
    rows: list[Subnet] = msgspec.field(name="subnets")
    links: list[_Link] = msgspec.field(name="subnets_links", default_factory=list)


class _Ports(_Page, frozen=True):
    rows: list[NeutronPort] = msgspec.field(name="ports")
    links: list[_Link] = msgspec.field(name="ports_links", default_factory=list)


class _Port(msgspec.Struct, frozen=True):
    port: NeutronPort


class _Groups(_Page, frozen=True):
    rows: list[SecurityGroup] = msgspec.field(name="security_groups")
    links: list[_Link] = msgspec.field(name="security_groups_links", default_factory=list)


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

    def _pages(self, path: str, kind: type[P], *, doing: str, query: Mapping[str, Any] | None = None) -> Iterator[P]:
        """A list's pages, to its end; whatever links Neutron gives, only the same list is asked for."""

        def read(marker: str | None) -> P:
            asked = dict(query or {}) if marker is None else {**(query or {}), "marker": marker}
            return certainly(
                "Neutron",
                doing,
                lambda s: self.transport.request("GET", path, query=asked or None, timeout_s=s).decode(kind),
                deadline=self.deadline,
                kind=Kind.LOOK_UP,
            )

        return every_page(read, lambda page: page.last_if_more, what=f"Neutron gave a list of {path.strip('/')}")

    def _networks(self, query: Mapping[str, Any] | None, *, doing: str) -> list[Network]:
        return [row for page in self._pages("/networks", _Networks, doing=doing, query=query) for row in page.rows]

    def _subnets(self, query: Mapping[str, Any], *, doing: str) -> list[Subnet]:
        return [row for page in self._pages("/subnets", _Subnets, doing=doing, query=query) for row in page.rows]

    def _ports(self, query: Mapping[str, Any], *, doing: str) -> list[NeutronPort]:
        return [row for page in self._pages("/ports", _Ports, doing=doing, query=query) for row in page.rows]

    def _groups(self, query: Mapping[str, Any], *, doing: str) -> list[SecurityGroup]:
        pages = self._pages("/security-groups", _Groups, doing=doing, query=query)
        return [row for page in pages for row in page.rows]

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
        found = self._networks(_by(name_or_id), doing=doing)
        return _only(found, "network", name_or_id)

    def networks(self, ids: Collection[str] | None = None) -> list[Network]:
        """The networks of these ids, or every one that these credentials may see."""
        if ids is not None and not ids:
            return []
        query = None if ids is None else {"id": sorted(ids)}
        return self._networks(query, doing="listing networks")

    def subnet(self, name_or_id: str) -> Subnet:
        """The subnet of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        doing = f"looking for subnet {name_or_id}"
        found = self._subnets(_by(name_or_id), doing=doing)
        return _only(found, "subnet", name_or_id)

    def subnets_of(self, network_id: str) -> list[Subnet]:
        """The network's subnets."""
        return self._subnets({"network_id": network_id}, doing=f"reading the subnets of network {network_id}")

    def subnets(self, ids: Sequence[str]) -> list[Subnet]:
        """The subnets of these ids, in one request."""
        if not ids:
            return []
        return self._subnets({"id": sorted(set(ids))}, doing="reading subnets")

    def port(self, name_or_id: str) -> NeutronPort:
        """The VIF of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        found = self._ports(_by(name_or_id), doing=f"looking for VIF {name_or_id}")
        return _only(found, "VIF", name_or_id)

    def ports(self, ids: Sequence[str]) -> list[NeutronPort]:
        """The VIFs of these ids, in one request; those that do not exist are left out."""
        if not ids:
            return []
        return self._ports({"id": sorted(set(ids))}, doing="reading VIFs")

    def ports_of(self, instance_uuid: str) -> list[NeutronPort]:
        """The VIFs that say they belong to the instance."""
        return self._ports({"device_id": instance_uuid}, doing=f"looking for the VIFs of instance {instance_uuid}")

    def our_ports(self) -> list[NeutronPort]:
        """Every VIF that we created, for whichever instance."""
        return [port for port in self.baremetal_ports() if port.is_ours]

    def baremetal_ports(self) -> list[NeutronPort]:
        """Every VIF of a bare-metal instance or of Ironic's own networks, whoever created it."""
        doing = "looking for VIFs of bare-metal instances"
        return self._ports({"device_owner": DEVICE_OWNER}, doing=doing)

    def security_group(self, name_or_id: str) -> SecurityGroup:
        """The security group of that name or id.

        Raises:
            NetworkNotFound: there is none.
            AmbiguousName: there are several.
        """
        doing = f"looking for security group {name_or_id}"
        found = self._groups(_by(name_or_id), doing=doing)
        return _only(found, "security group", name_or_id)

    def security_groups(self, ids: Sequence[str]) -> list[SecurityGroup]:
        """The security groups of these ids, in one request."""
        if not ids:
            return []
        query = {"id": sorted(set(ids))}
        return self._groups(query, doing="reading security groups")

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
