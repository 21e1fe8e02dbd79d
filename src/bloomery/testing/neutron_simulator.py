"""A Neutron to test against: networks, subnets, ports and security groups over real HTTP.

Addresses are given out once, MAC addresses are unique on their network, and what is in use is not deleted.
"""

from __future__ import annotations

import copy
import ipaddress
import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bloomery.testing.http_simulator import HttpSimulator, RecordedRequest, Response

Resource = dict[str, Any]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

PROJECT_ID = "simulated-project"
_UNPLUGGED = ("unbound", "binding_failed")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_AUTO_MODES = ("slaac", "dhcpv6-stateless")


class NeutronError(Exception):
    """An answer other than success: the status, and the name and words that Neutron gives it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


def _not_found(singular: str, resource_id: str) -> NeutronError:
    match singular:
        case "security_group":
            return NeutronError(404, "SecurityGroupNotFound", f"Security group {resource_id} does not exist")
        case "security_group_rule":
            return NeutronError(404, "SecurityGroupRuleNotFound", f"Security group rule {resource_id} does not exist")
    kind = singular.title().replace("_", "")
    return NeutronError(404, f"{kind}NotFound", f"{kind} {resource_id} could not be found.")


def _bad(message: str, kind: str = "HTTPBadRequest") -> NeutronError:
    return NeutronError(400, kind, message)


_COMMON_FIELDS: Mapping[str, Any] = {"name": "", "description": "", "tags": []}
_NETWORK_FIELDS: Mapping[str, Any] = {
    **_COMMON_FIELDS,
    "admin_state_up": True,
    "mtu": 1500,
    "status": "ACTIVE",
    "subnets": [],
    "shared": False,
    "router:external": False,
    "port_security_enabled": True,
    "provider:network_type": "flat",
    "provider:physical_network": None,
    "provider:segmentation_id": None,
}
_SUBNET_FIELDS: Mapping[str, Any] = {
    **_COMMON_FIELDS,
    "network_id": None,
    "cidr": None,
    "ip_version": 4,
    "gateway_ip": None,
    "enable_dhcp": True,
    "allocation_pools": [],
    "dns_nameservers": [],
    "host_routes": [],
    "ipv6_address_mode": None,
    "ipv6_ra_mode": None,
    "subnetpool_id": None,
    "segment_id": None,
}
_PORT_FIELDS: Mapping[str, Any] = {
    **_COMMON_FIELDS,
    "network_id": None,
    "mac_address": None,
    "admin_state_up": True,
    "status": "DOWN",
    "device_id": "",
    "device_owner": "",
    "fixed_ips": [],
    "allowed_address_pairs": [],
    "extra_dhcp_opts": [],
    "security_groups": [],
    "port_security_enabled": True,
    "binding:vnic_type": "normal",
    "binding:profile": {},
    "binding:host_id": "",
    "binding:vif_type": "unbound",
    "binding:vif_details": {},
}
_GROUP_FIELDS: Mapping[str, Any] = {
    **_COMMON_FIELDS,
    "security_group_rules": [],
    "stateful": True,
    "shared": False,
}
_RULE_FIELDS: Mapping[str, Any] = {
    "security_group_id": None,
    "direction": None,
    "ethertype": "IPv4",
    "protocol": None,
    "port_range_min": None,
    "port_range_max": None,
    "remote_ip_prefix": None,
    "remote_group_id": None,
    "description": "",
}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "networks": _NETWORK_FIELDS,
    "subnets": _SUBNET_FIELDS,
    "ports": _PORT_FIELDS,
    "security_groups": _GROUP_FIELDS,
    "security_group_rules": _RULE_FIELDS,
}
_READ_ONLY = frozenset({"status", "subnets", "binding:vif_type", "binding:vif_details", "security_group_rules"})
_FIXED_AFTER_CREATION = frozenset({"network_id", "cidr", "ip_version", "security_group_id", "project_id", "tenant_id"})


class NeutronSimulator(HttpSimulator):
    """Neutron's API version 2.0, as far as Bloomery and Ironic use it.

    `quotas` limits how many of a kind there may be (`{"port": 3}`); with `binding_fails` every binding of a port ends
    as `binding_failed`, as it does where no mechanism driver feels responsible. `max_limit` cuts every list into pages of
    so many, as `pagination_max_limit` does.
    """

    def __init__(
        self,
        *,
        quotas: Mapping[str, int] | None = None,
        binding_fails: bool = False,
        max_limit: int | None = None,
    ) -> None:
        super().__init__()
        self.max_limit = max_limit
        self.quotas = dict(quotas or {})
        self.binding_fails = binding_fails
        self._lock = threading.RLock()
        self._tables: dict[str, dict[str, Resource]] = {kind: {} for kind in _FIELDS}
        self._mac_numbers = itertools.count(1)

    # What a test may ask and set -------------------------------------------------------------------------------------

    def add_network(self, name: str = "tenant", *, cidrs: Iterable[str] = ("10.1.0.0/24",), **fields: Any) -> str:
        """A network with one subnet for each CIDR exists; returns its id."""
        network: Resource = self.create("networks", {"name": name, **fields})
        for cidr in cidrs:
            version = ipaddress.ip_network(cidr).version
            self.create("subnets", {"network_id": network["id"], "cidr": cidr, "ip_version": version})
        return str(network["id"])

    def add_port(self, network_id: str, **fields: Any) -> str:
        """A port on the network exists; returns its id."""
        return str(self.create("ports", {"network_id": network_id, **fields})["id"])

    def port(self, port_id: str) -> Resource | None:
        """A copy of the port; None if there is none."""
        return self.find("ports", port_id)

    def ports(self, **filters: Any) -> list[Resource]:
        """Copies of the ports whose fields have these values."""
        with self._lock:
            return [
                copy.deepcopy(port)
                for port in self._tables["ports"].values()
                if all(port.get(key) == value for key, value in filters.items())
            ]

    def find(self, kind: str, resource_id: str) -> Resource | None:
        """A copy of any resource; None if there is none."""
        with self._lock:
            return copy.deepcopy(self._tables[kind].get(resource_id))

    def snapshot(self) -> Any:
        """Everything that this Neutron knows, for `restore`."""
        with self._lock:
            return copy.deepcopy(self._tables)

    def restore(self, snapshot: Any) -> None:
        """What it knows is what it knew when the snapshot was taken."""
        with self._lock:
            self._tables = copy.deepcopy(snapshot)

    # The deeds, which the API and a linked Ironic share --------------------------------------------------------------

    def create(self, kind: str, wanted: Mapping[str, Any]) -> Resource:
        """A resource is created; returns a copy of it."""
        with self._lock:
            known = _FIELDS[kind]
            if unknown := sorted(set(wanted) - set(known) - {"project_id", "tenant_id"}):
                raise _bad(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
            if forbidden := sorted(set(wanted) & _READ_ONLY):
                raise _bad(f"Attribute '{forbidden[0]}' not allowed in POST")
            singular = kind.removesuffix("s")
            if len(self._tables[kind]) >= self.quotas.get(singular, 1_000_000):
                raise NeutronError(409, "OverQuota", f"Quota exceeded for resources: ['{singular}'].")
            project_id = wanted.get("project_id") or wanted.get("tenant_id") or PROJECT_ID
            now = _now()
            resource: Resource = {
                "id": str(uuid.uuid4()),
                **copy.deepcopy(dict(known)),
                **copy.deepcopy(dict(wanted)),
                "project_id": project_id,
                "tenant_id": project_id,
                "created_at": now,
                "updated_at": now,
                "revision_number": 1,
            }
            prepare: Callable[[Resource], None] = getattr(self, f"_prepare_{kind}", lambda _: None)
            prepare(resource)
            self._tables[kind][resource["id"]] = resource
            if kind == "security_groups":
                self._add_egress_rules(resource)
            return self._show(kind, resource)

    def update(self, kind: str, resource_id: str, changes: Mapping[str, Any]) -> Resource:
        """The resource has the new values; returns a copy of it."""
        with self._lock:
            resource = self._get(kind, resource_id)
            if unknown := sorted(set(changes) - set(_FIELDS[kind])):
                raise _bad(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
            if forbidden := sorted(set(changes) & (_READ_ONLY | _FIXED_AFTER_CREATION)):
                raise _bad(f"Cannot update read-only attribute {forbidden[0]}")
            updated = {**resource, **copy.deepcopy(dict(changes))}
            if kind == "ports":
                self._check_port_update(resource, updated, changes)
            elif kind == "subnets":
                self._check_pools(updated)
            updated["updated_at"] = _now()
            updated["revision_number"] += 1
            self._tables[kind][resource_id] = updated
            return self._show(kind, updated)

    def delete(self, kind: str, resource_id: str) -> None:
        """The resource is gone."""
        with self._lock:
            resource = self._get(kind, resource_id)
            self._check_unused(kind, resource)
            if kind == "networks":
                for subnet_id in [s["id"] for s in self._tables["subnets"].values() if s["network_id"] == resource_id]:
                    del self._tables["subnets"][subnet_id]
            del self._tables[kind][resource_id]

    def physical_networks_of(self, port_id: str) -> set[str]:
        """The physical networks that the port's network is on."""
        with self._lock:
            network = self._tables["networks"][self._get("ports", port_id)["network_id"]]
            name = network["provider:physical_network"]
            return {name} if name else set()

    def _check_unused(self, kind: str, resource: Resource) -> None:
        used: Iterator[Resource]
        ports = self._tables["ports"].values()
        resource_id = resource["id"]
        if kind == "networks" and any(port["network_id"] == resource_id for port in ports):
            raise NeutronError(
                409,
                "NetworkInUse",
                f"Unable to complete operation on network {resource_id}. "
                "There are one or more ports still in use on the network.",
            )
        used = (port for port in ports if any(ip["subnet_id"] == resource_id for ip in port["fixed_ips"]))
        if kind == "subnets" and (user := next(used, None)):
            raise NeutronError(
                409,
                "SubnetInUse",
                f"Unable to complete operation on subnet {resource_id}: One or more ports have an IP allocation "
                f"from this subnet: {user['id']}.",
            )
        if kind == "security_groups":
            if any(resource_id in port["security_groups"] for port in ports):
                raise NeutronError(409, "SecurityGroupInUse", f"Security Group {resource_id} in use.")
            for rule_id in [
                rule["id"]
                for rule in self._tables["security_group_rules"].values()
                if rule["security_group_id"] == resource_id
            ]:
                del self._tables["security_group_rules"][rule_id]

    def _get(self, kind: str, resource_id: str) -> Resource:
        try:
            return self._tables[kind][resource_id]
        except KeyError:
            raise _not_found(kind.removesuffix("s"), resource_id) from None

    def _show(self, kind: str, resource: Resource) -> Resource:
        shown = copy.deepcopy(resource)
        if kind == "networks":
            shown["subnets"] = [s["id"] for s in self._tables["subnets"].values() if s["network_id"] == shown["id"]]
        elif kind == "security_groups":
            rules = self._tables["security_group_rules"].values()
            shown["security_group_rules"] = [
                copy.deepcopy(rule) for rule in rules if rule["security_group_id"] == shown["id"]
            ]
        return shown

    # Subnets and addresses -------------------------------------------------------------------------------------------

    def _prepare_subnets(self, subnet: Resource) -> None:
        self._get("networks", str(subnet["network_id"]))
        try:
            network = ipaddress.ip_network(str(subnet["cidr"]))
        except ValueError:
            raise _bad(f"Invalid input for cidr. Reason: '{subnet['cidr']}' is not a valid IP subnet.") from None
        if network.version != subnet["ip_version"]:
            raise _bad(f"ip_version {subnet['ip_version']} does not match cidr {network}", "InvalidInput")
        for other in self._tables["subnets"].values():
            if other["network_id"] == subnet["network_id"] and network.overlaps(ipaddress.ip_network(other["cidr"])):
                raise _bad(
                    f"Requested subnet with cidr: {network} for network: {subnet['network_id']} "
                    "overlaps with another subnet.",
                    "InvalidInput",
                )
        first, last = network[1], network[-2] if network.version == 4 else network[-1]
        if subnet["gateway_ip"] is None:
            subnet["gateway_ip"] = str(first)
        if not subnet["allocation_pools"]:
            start = first + 1 if subnet["gateway_ip"] == str(first) else first
            subnet["allocation_pools"] = [{"start": str(start), "end": str(last)}]
        self._check_pools(subnet)

    def _check_pools(self, subnet: Resource) -> None:
        network = ipaddress.ip_network(subnet["cidr"])
        for pool in subnet["allocation_pools"]:
            try:
                inside = ipaddress.ip_address(pool["start"]) in network and ipaddress.ip_address(pool["end"]) in network
            except ValueError:
                raise _bad(f"The allocation pool {pool} is not valid.", "InvalidAllocationPool") from None
            if not inside:
                raise _bad(
                    f"The allocation pool {pool['start']}-{pool['end']} spans beyond the subnet cidr {network}.",
                    "OutOfBoundsAllocationPool",
                )

    def _subnets_of(self, network_id: str) -> list[Resource]:
        return [subnet for subnet in self._tables["subnets"].values() if subnet["network_id"] == network_id]

    def _taken(self, network_id: str, *, except_port: str) -> set[str]:
        return {
            ip["ip_address"]
            for port in self._tables["ports"].values()
            if port["network_id"] == network_id and port["id"] != except_port
            for ip in port["fixed_ips"]
        }

    def _assign_addresses(self, port: Resource, requested: list[Mapping[str, Any]] | None) -> list[Resource]:
        """The port's fixed IPs: those asked for, or one of each IP version that the network has."""
        network_id = port["network_id"]
        subnets = self._subnets_of(network_id)
        taken = self._taken(network_id, except_port=port["id"])
        if requested is None:
            return self._assign_one_of_each_version(port, subnets, taken)
        assigned: list[Resource] = []
        for wish in requested:
            subnet = self._subnet_for(wish, subnets, network_id)
            address = wish.get("ip_address")
            if address is None:
                address = self._free_address(subnet, port["mac_address"], taken)
                if address is None:
                    raise _exhausted(network_id)
            elif address in taken:
                raise NeutronError(
                    409, "IpAddressAlreadyAllocated", f"IP address {address} already allocated in subnet {subnet['id']}"
                )
            taken.add(address)
            assigned.append({"subnet_id": subnet["id"], "ip_address": address})
        return assigned

    def _assign_one_of_each_version(self, port: Resource, subnets: list[Resource], taken: set[str]) -> list[Resource]:
        assigned = []
        for version in (4, 6):
            candidates = [subnet for subnet in subnets if subnet["ip_version"] == version]
            for subnet in candidates:
                if address := self._free_address(subnet, port["mac_address"], taken):
                    assigned.append({"subnet_id": subnet["id"], "ip_address": address})
                    break
            else:
                if candidates:
                    raise _exhausted(port["network_id"])
        return assigned

    def _subnet_for(self, wish: Mapping[str, Any], subnets: list[Resource], network_id: str) -> Resource:
        address = wish.get("ip_address")
        parsed = _parse_address(address) if address is not None else None
        if subnet_id := wish.get("subnet_id"):
            subnet = self._get("subnets", subnet_id)
            if subnet["network_id"] != network_id:
                raise _bad(
                    f"Failed to create port on network {network_id}, because fixed_ips included invalid subnet "
                    f"{subnet_id}",
                    "InvalidInput",
                )
            if parsed is not None and parsed not in ipaddress.ip_network(subnet["cidr"]):
                raise _bad(f"IP address {address} is not a valid IP for the specified subnet.", "InvalidIpForSubnet")
            return subnet
        if parsed is None:
            raise _bad("IP allocation requires subnet_id or ip_address", "InvalidInput")
        for subnet in subnets:
            if parsed in ipaddress.ip_network(subnet["cidr"]):
                return subnet
        raise _bad(
            f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
            "InvalidIpForNetwork",
        )

    def _free_address(self, subnet: Resource, mac_address: str, taken: set[str]) -> str | None:
        if subnet["ipv6_address_mode"] in _AUTO_MODES:
            return str(_eui64(ipaddress.ip_network(subnet["cidr"]), mac_address))
        for pool in subnet["allocation_pools"]:
            address, end = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
            while int(address) <= int(end):
                if str(address) not in taken:
                    return str(address)
                address += 1
        return None

    # Ports -----------------------------------------------------------------------------------------------------------

    def _prepare_ports(self, port: Resource) -> None:
        self._get("networks", str(port["network_id"]))
        port["mac_address"] = self._free_mac(port, port["mac_address"])
        wanted = port["fixed_ips"]
        port["fixed_ips"] = self._assign_addresses(port, wanted or None)
        self._fill_security_groups(port)
        self._bind(port)

    def _fill_security_groups(self, port: Resource) -> None:
        if not port["port_security_enabled"]:
            port["security_groups"] = []
        elif not port["security_groups"]:
            port["security_groups"] = [self._default_group(port["project_id"])["id"]]
        for group_id in port["security_groups"]:
            self._get("security_groups", group_id)

    def _check_port_update(self, port: Resource, updated: Resource, changes: Mapping[str, Any]) -> None:
        if "mac_address" in changes:
            wanted = changes["mac_address"]
            if wanted is not None and wanted != port["mac_address"] and port["binding:vif_type"] not in _UNPLUGGED:
                raise NeutronError(
                    409,
                    "PortBound",
                    f"Unable to complete operation on port {port['id']}, port is already bound, port type: "
                    f"{port['binding:vif_type']}, old_mac {port['mac_address']}, new_mac {wanted}.",
                )
            updated["mac_address"] = self._free_mac(port, wanted)
        if "fixed_ips" in changes:
            updated["fixed_ips"] = self._assign_addresses(updated, changes["fixed_ips"])
        if updated["security_groups"] is None:
            updated["security_groups"] = []
        for group_id in updated["security_groups"]:
            self._get("security_groups", group_id)
        if updated["binding:profile"] is None:
            updated["binding:profile"] = {}
        self._bind(updated)

    def _bind(self, port: Resource) -> None:
        bound = "binding_failed" if self.binding_fails else "other"
        vif_type = bound if port["binding:host_id"] else "unbound"
        port["binding:vif_type"] = vif_type
        port["status"] = "ACTIVE" if vif_type == "other" else "DOWN"

    def _free_mac(self, port: Resource, wanted: str | None) -> str:
        taken = {
            other["mac_address"]
            for other in self._tables["ports"].values()
            if other["network_id"] == port["network_id"] and other["id"] != port["id"]
        }
        if wanted is not None:
            wanted = wanted.lower()
            if not _MAC.fullmatch(wanted):
                raise _bad(f"Invalid input for mac_address. Reason: '{wanted}' is not a valid MAC address.")
            if wanted in taken:
                raise NeutronError(
                    409,
                    "MacAddressInUse",
                    f"Unable to complete operation for network {port['network_id']}. "
                    f"The mac address {wanted} is in use.",
                )
            return wanted
        return next(mac for mac in self._generated_macs() if mac not in taken)

    def _generated_macs(self) -> Iterator[str]:
        for number in self._mac_numbers:
            yield "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(3, "big"))

    # Security groups -------------------------------------------------------------------------------------------------

    def _default_group(self, project_id: str) -> Resource:
        for group in self._tables["security_groups"].values():
            if group["name"] == "default" and group["project_id"] == project_id:
                return group
        return self.create(
            "security_groups",
            {"name": "default", "description": "Default security group", "project_id": project_id},
        )

    def _add_egress_rules(self, group: Resource) -> None:
        for ethertype in ("IPv4", "IPv6"):
            self.create(
                "security_group_rules",
                {"security_group_id": group["id"], "direction": "egress", "ethertype": ethertype},
            )

    def _prepare_security_group_rules(self, rule: Resource) -> None:
        self._get("security_groups", str(rule["security_group_id"]))
        if rule["direction"] not in ("ingress", "egress"):
            raise _bad(f"Invalid input for direction. Reason: '{rule['direction']}' is not in ['ingress', 'egress'].")

    # The API ---------------------------------------------------------------------------------------------------------

    def answer(self, request: RecordedRequest) -> Response:
        """What Neutron answers."""
        try:
            with self._lock:
                return self._route(request)
        except NeutronError as error:
            return _error_response(error)
        except ValueError as error:
            return _error_response(_bad(str(error)))

    def error(self, status: int, message: str) -> Response:
        """An error in Neutron's words."""
        return _error_response(NeutronError(status, "HTTPError", message))

    def _route(self, request: RecordedRequest) -> Response:
        parts = [part for part in request.path.split("/") if part]
        match parts:
            case []:
                link = {"rel": "self", "href": f"{self.url}/v2.0/"}
                return Response(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})
            case ["v2.0"]:
                links = [{"rel": "self", "href": f"{self.url}/v2.0/{_dashed(kind)}"} for kind in _FIELDS]
                resources = [
                    {"name": kind.removesuffix("s"), "collection": kind, "links": [link]}
                    for kind, link in zip(_FIELDS, links, strict=True)
                ]
                return Response(200, {"resources": resources})
            case ["v2.0", "extensions"]:
                aliases = ("provider", "binding", "security-group", "port-security", "standard-attr-tag", "quotas")
                return Response(200, {"extensions": [{"alias": alias, "name": alias} for alias in aliases]})
            case ["v2.0", "quotas", *_]:
                return Response(200, {"quota": {kind.removesuffix("s"): -1 for kind in _FIELDS} | self.quotas})
            case ["v2.0", collection, *rest] if collection.replace("-", "_") in _FIELDS:
                return self._resource_route(request, collection.replace("-", "_"), rest)
        return Response(404, {"message": "The resource could not be found.", "code": "404 Not Found", "title": ""})

    def _resource_route(self, request: RecordedRequest, kind: str, rest: list[str]) -> Response:
        singular = kind.removesuffix("s")
        match request.method, rest:
            case "GET", []:
                return self._list(request, kind)
            case "POST", []:
                body = self._body(request)
                if kind in body:
                    made = [self.create(kind, wanted) for wanted in body[kind]]
                    return Response(201, {kind: made})
                return Response(201, {singular: self.create(kind, _unwrap(body, singular))})
            case "GET", [resource_id]:
                shown = self._show(kind, self._get(kind, resource_id))
                return Response(200, {singular: _only(shown, request.query_lists.get("fields"))})
            case "PUT", [resource_id]:
                return Response(200, {singular: self.update(kind, resource_id, _unwrap(self._body(request), singular))})
            case "DELETE", [resource_id]:
                self.delete(kind, resource_id)
                return Response(204)
            case _, [resource_id, "tags", *tag]:
                return self._tags(request, self._get(kind, resource_id), tag)
        return Response(405, {"NeutronError": {"type": "HTTPMethodNotAllowed", "message": "", "detail": ""}})

    def _body(self, request: RecordedRequest) -> Resource:
        body = request.body
        if not isinstance(body, dict):
            raise _bad("Malformed request body")
        return body

    def _tags(self, request: RecordedRequest, resource: Resource, rest: list[str]) -> Response:
        tags: list[str] = resource["tags"]
        match request.method, rest:
            case "GET", []:
                return Response(200, {"tags": tags})
            case "PUT", []:
                resource["tags"] = sorted(set(self._body(request)["tags"]))
                return Response(200, {"tags": resource["tags"]})
            case "DELETE", []:
                resource["tags"] = []
                return Response(204)
            case "PUT", [tag]:
                resource["tags"] = sorted({*tags, tag})
                return Response(201)
            case (("GET" | "DELETE"), [tag]):
                if tag not in tags:
                    raise NeutronError(404, "TagNotFound", f"Tag {tag} could not be found.")
                if request.method == "DELETE":
                    tags.remove(tag)
                return Response(204)
        raise NeutronError(405, "HTTPMethodNotAllowed", "")

    def _list(self, request: RecordedRequest, kind: str) -> Response:
        query = dict(request.query_lists)
        fields = query.pop("fields", None)
        limit = int(query.pop("limit", ["0"])[0])
        if self.max_limit is not None:
            limit = min(limit or self.max_limit, self.max_limit)
        marker = query.pop("marker", [""])[0]
        sort_keys = query.pop("sort_key", [])
        sort_directions = query.pop("sort_dir", [])
        query.pop("page_reverse", None)
        if kind == "security_groups":
            self._default_group(PROJECT_ID)
        found = [self._show(kind, resource) for resource in self._tables[kind].values()]
        found = [resource for resource in found if _matches(resource, query)]
        for index, key in reversed(list(enumerate(sort_keys))):
            descending = sort_directions[index : index + 1] == ["desc"]
            found.sort(key=lambda resource: str(resource.get(key)), reverse=descending)
        if marker:
            self._get(kind, marker)
            found = found[[resource["id"] for resource in found].index(marker) + 1 :]
        answer: Resource = {}
        if limit and len(found) >= limit:  # Neutron links on from a full page, whether or not anything follows
            found = found[:limit]
            others = [(key, value) for key, values in query.items() for value in values]
            others += [("limit", str(limit)), ("marker", found[-1]["id"])]
            query_text = "&".join(f"{key}={value}" for key, value in others)
            link = {"rel": "next", "href": f"{self.url}/v2.0/{_dashed(kind)}?{query_text}"}
            answer[f"{kind}_links"] = [link]
        answer[kind] = [_only(resource, fields) for resource in found]
        return Response(200, answer)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dashed(kind: str) -> str:
    return kind.replace("_", "-")


def _unwrap(body: Resource, singular: str) -> Resource:
    try:
        wanted = body[singular]
    except KeyError:
        raise _bad(f"Unable to find '{singular}' in request body") from None
    if not isinstance(wanted, dict):
        raise _bad("Malformed request body")
    return wanted


def _only(resource: Resource, fields: list[str] | None) -> Resource:
    return {key: resource[key] for key in fields if key in resource} if fields else resource


def _matches(resource: Resource, query: Mapping[str, list[str]]) -> bool:
    return all(_matches_one(resource, key, values) for key, values in query.items())


def _matches_one(resource: Resource, key: str, values: list[str]) -> bool:
    match key:
        case "tags":
            return set(",".join(values).split(",")) <= set(resource["tags"])
        case "tags-any":
            return bool(set(",".join(values).split(",")) & set(resource["tags"]))
        case "not-tags":
            return not set(",".join(values).split(",")) <= set(resource["tags"])
        case "not-tags-any":
            return not set(",".join(values).split(",")) & set(resource["tags"])
        case "fixed_ips":
            pairs = [value.partition("=")[::2] for value in values]
            return any(all(ip.get(name) == value for name, value in pairs) for ip in resource["fixed_ips"])
        case "security_groups":
            return bool(set(values) & set(resource["security_groups"]))
        case "mac_address":
            return resource[key] in [value.lower() for value in values]
    actual = resource.get(key)
    if isinstance(actual, bool):
        return any(value.lower() in (("true", "1") if actual else ("false", "0")) for value in values)
    return ("" if actual is None else str(actual)) in values


def _parse_address(text: Any) -> IpAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise _bad(f"Invalid input for fixed_ips. Reason: '{text}' is not a valid IP address.") from None


def _eui64(network: IpNetwork, mac_address: str) -> IpAddress:
    first, second = bytes.fromhex(mac_address.replace(":", "")[:6]), bytes.fromhex(mac_address.replace(":", "")[6:])
    interface = bytes([first[0] ^ 2]) + first[1:] + b"\xff\xfe" + second
    return network[0] + int.from_bytes(interface, "big")


def _exhausted(network_id: str) -> NeutronError:
    return NeutronError(409, "IpAddressGenerationFailure", f"No more IP addresses available on network {network_id}.")


def _error_response(error: NeutronError) -> Response:
    return Response(error.status, {"NeutronError": {"type": error.kind, "message": error.message, "detail": ""}})
