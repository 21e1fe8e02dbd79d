"""The HTTP API of a played Ironic: limits, versions, routes, and the pages at the root.

Source: ironic api/controllers/{root,base}.py, v1/__init__.py and api/middleware (39.0).
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from bloomery.testing.http_simulator import RecordedRequest, Response
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    bad_request,
    method_not_allowed,
    no_such_page,
    node_not_found,
    not_found,
)
from bloomery.testing.ironic_simulator.node_pages import NodePages
from bloomery.testing.ironic_simulator.pages import Call
from bloomery.testing.ironic_simulator.record_pages import RecordPages
from bloomery.testing.ironic_simulator.records import (
    ALLOCATION,
    HARDWARE_TYPES,
    PORT,
    PORTGROUP,
    VOLUME_CONNECTOR,
    VOLUME_TARGET,
    Record,
    is_logical_name,
    is_uuid,
    links,
)
from bloomery.testing.ironic_simulator.state_pages import StatePages

_VERSION_HEADER = "X-OpenStack-Ironic-API-Version"
_MIN_HEADER = "X-OpenStack-Ironic-API-Minimum-Version"
_MAX_HEADER = "X-OpenStack-Ironic-API-Maximum-Version"
_REQUEST_ID_HEADER = "OpenStack-Request-Id"
_MAX_BODY_BYTES = 1024 * 1024
_MAX_PROVISION_BODY_BYTES = 64 * 1024 * 1024
_MAX_BODY_DEPTH = 25


class Api(NodePages, StatePages, RecordPages):
    """Answers requests; the caller holds the conductor's condition."""

    def answer(self, request: RecordedRequest) -> Response:
        """What Ironic answers."""
        headers = {_MIN_HEADER: "1.1", _MAX_HEADER: f"1.{self.max_minor}", _REQUEST_ID_HEADER: f"req-{uuid4()}"}
        try:
            self._check_size(request)
            minor = self._negotiate(request)
            headers[_VERSION_HEADER] = f"1.{minor}"
            parts = tuple(part for part in request.path.split("/") if part)
            response = self._route(Call(request, minor, parts))
        except ApiError as error:
            body = error.body
            if error.status == 413 or (error.status == 400 and error.message.startswith("Request body")):
                body = {"faultcode": "Client", "faultstring": error.message}
            return Response(error.status, body, headers)
        return Response(response.status, response.body, {**headers, **response.headers})

    def _check_size(self, request: RecordedRequest) -> None:
        limit = _MAX_PROVISION_BODY_BYTES if request.path.endswith("/states/provision") else _MAX_BODY_BYTES
        if len(request.raw_body) > limit:
            raise ApiError(413, "Request body is too large. Please contact the service administrator.")
        if _depth(request.raw_body) > _MAX_BODY_DEPTH:
            raise bad_request("Request body JSON is nested too deeply. Please contact the service administrator.")

    def _negotiate(self, request: RecordedRequest) -> int:
        wanted = request.headers.get(_VERSION_HEADER.lower()) or "1.1"
        for entry in request.headers.get("openstack-api-version", "").split(","):
            service, _, version = entry.strip().partition(" ")
            if service == "baremetal":
                wanted = version.strip()
        if wanted.lower() == "latest":
            return self.max_minor
        try:
            major, minor = (int(number) for number in wanted.split("."))
        except ValueError:
            raise ApiError(406, f"Invalid value for {_VERSION_HEADER} header", from_framework=True) from None
        known = f"[1.1, 1.{self.max_minor}]"
        if major != 1:
            raise ApiError(
                406,
                f"Mutually exclusive versions requested. Version {wanted} requested but not supported by this "
                f"service. The supported version range is: {known}.",
                from_framework=True,
            )
        if not 1 <= minor <= self.max_minor:
            raise ApiError(
                406,
                f"Version {wanted} was requested but the minor version is not supported by this service. "
                f"The supported version range is: {known}.",
                from_framework=True,
            )
        return minor

    def _route(self, call: Call) -> Response:
        match call.parts:
            case ():
                return self._get(call, self._root)
            case ("v1",):
                return self._get(call, self._v1)
            case ("v1", "nodes", *rest):
                return self._route_nodes(call, rest)
            case ("v1", "ports", *rest):
                return self._route_kind(call, PORT, rest)
            case ("v1", "portgroups", group_uuid, "ports"):
                call.since(24)
                if group_uuid not in self.world.portgroups:
                    raise not_found(f"Portgroup {group_uuid} could not be found.")
                return self._get(call, lambda call: self._list(call, PORT, portgroup_uuid=group_uuid))
            case ("v1", "portgroups", *rest):
                call.since(23)
                return self._route_kind(call, PORTGROUP, rest)
            case ("v1", "allocations", *rest):
                if call.minor < 52:
                    raise ApiError(404 if call.method == "GET" else 405, "The API version does not allow allocations")
                return self._route_kind(call, ALLOCATION, rest)
            case ("v1", "volume", "targets", *rest):
                call.since(32)
                return self._route_kind(call, VOLUME_TARGET, rest)
            case ("v1", "volume", "connectors", *rest):
                call.since(32)
                return self._route_kind(call, VOLUME_CONNECTOR, rest)
            case ("v1", "volume"):
                call.since(32)
                return self._get(call, lambda _: Response(200, self._volume_links("volume")))
            case ("v1", "conductors", *rest):
                call.since(49)
                return self._get(call, lambda call: self._conductors(call, rest))
            case ("v1", "drivers", *rest):
                return self._get(call, lambda call: self._drivers(call, rest))
            case ("v1", "shards"):
                call.since(82)
                return self._get(call, self._shards)
            case ("v1", "chassis"):
                return self._get(call, lambda _: Response(200, {"chassis": []}))
        raise no_such_page()

    def _get(self, call: Call, answer: Callable[[Call], Response]) -> Response:
        if call.method != "GET":
            raise method_not_allowed()
        return answer(call)

    def _route_nodes(self, call: Call, rest: list[str]) -> Response:
        match call.method, rest:
            case "GET", []:
                return self._list_nodes(call)
            case "GET", ["detail"]:
                return self._list_nodes(call, is_detail=True)
            case "GET", ["validate"]:
                return self._validate(self._node(call.argument("node") or call.argument("node_uuid") or ""))
            case "POST", []:
                return self._create_node(call)
            case (("PATCH" | "DELETE"), []):
                raise bad_request("Missing mandatory parameter: node_ident")
            case _, []:
                raise method_not_allowed()
        if not (is_logical_name(rest[0]) or is_uuid(rest[0])):
            raise ApiError(400, f"Expected UUID or name for node: {rest[0]}", from_framework=True)
        match call.method, rest[1:]:
            case "GET", []:
                return self._show_node(call, rest[0])
            case "PATCH", []:
                return self._patch_node(call, rest[0])
            case "DELETE", []:
                return self._delete_node(self._node(rest[0]))
            case _, []:
                raise method_not_allowed()
        return self._route_node(call, rest[0], rest[1:])

    def _route_node(self, call: Call, ident: str, rest: list[str]) -> Response:
        match call.method, rest:
            case _, ["portgroups" | "vifs" | "allocation" | "history" | "inventory" as page, *_]:
                call.since({"portgroups": 24, "vifs": 28, "allocation": 52, "history": 78, "inventory": 81}[page])
        match call.method, rest:
            case "GET", ["states"]:
                return self._states(call, self._node(ident))
            case "PUT", ["states", "provision"]:
                return self._provision(call, ident)
            case "PUT", ["states", "power"]:
                return self._power(call, ident)
            case (("GET" | "PUT"), ["states", "console"]):
                return self._console(call, ident)
            case "PUT", ["states", "boot_mode" | "secure_boot" as setting]:
                return self._boot_mode(call, ident, setting)
            case "GET", ["validate"]:
                return self._validate(self._node(ident))
            case (("PUT" | "DELETE"), ["maintenance"]):
                return self._maintenance(call, self._node(ident))
            case _, ["vifs", *vif_ids]:
                return self._vifs(call, self._node(ident), vif_ids)
            case _, ["traits", *traits]:
                return self._traits(call, ident, traits)
            case _, ["management", *rest_of_management]:
                return self._management(call, self._node(ident), rest_of_management)
            case "GET", ["ports"]:
                node = self._node(ident)
                return self._list(call, PORT, node_uuid=node["uuid"])
            case "GET", ["portgroups"]:
                node = self._node(ident)
                return self._list(call, PORTGROUP, node_uuid=node["uuid"])
            case "GET", ["volume"]:
                return Response(200, self._volume_links(f"nodes/{self._node(ident)['uuid']}/volume"))
            case "GET", ["volume", "targets" | "connectors" as what]:
                if ident not in self.world.nodes:
                    raise node_not_found(ident)
                return self._list(call, VOLUME_TARGET if what == "targets" else VOLUME_CONNECTOR, node_uuid=ident)
            case (("GET" | "DELETE"), ["allocation"]):
                return self._allocation_of(call, ident)
            case "GET", ["inventory"]:
                return self._inventory(self._node(ident))
            case "GET", ["history"]:
                return self._history(call, self._node(ident))
            case "GET", ["history", event_uuid]:
                return self._history_event(call, self._node(ident), event_uuid)
            case "GET", ["children"]:
                node = self._node(ident)
                children = [n["uuid"] for n in self.world.nodes.values() if n["parent_node"] == node["uuid"]]
                link = {"href": f"{self._url()}/v1/nodes?parent_node={node['uuid']}", "rel": "children"}
                return Response(200, {"children": children, "links": link})
            case "GET", ["bios" | "firmware" as empty]:
                self._node(ident)
                return Response(200, {empty: []})
        if rest[0] in ("states", "vifs", "ports", "maintenance", "traits", "volume", "history", "portgroups"):
            raise method_not_allowed()
        if call.method == "GET" and len(rest) == 1:
            self._node(ident)
            raise bad_request(f"Field {rest[0]} is not a valid field.")
        raise no_such_page()

    def _version(self) -> Record:
        return {
            "id": "v1",
            "links": [{"href": f"{self._url()}/v1/", "rel": "self"}],
            "status": "CURRENT",
            "min_version": "1.1",
            "version": f"1.{self.max_minor}",
        }

    def _root(self, _: Call) -> Response:
        return Response(
            200,
            {
                "name": "OpenStack Ironic API",
                "description": "A simulator that speaks the API of OpenStack Ironic.",
                "default_version": self._version(),
                "versions": [self._version()],
            },
        )

    def _v1(self, call: Call) -> Response:
        since = {
            "chassis": 1,
            "nodes": 1,
            "ports": 1,
            "drivers": 1,
            "portgroups": 23,
            "volume": 32,
            "conductors": 49,
            "allocations": 52,
            "shards": 82,
        }
        return Response(
            200,
            {
                "id": "v1",
                "links": [{"href": f"{self._url()}/v1/", "rel": "self"}],
                "media_types": {"base": "application/json", "type": "application/vnd.openstack.ironic.v1+json"},
                "version": self._version(),
                **{name: links(self._url(), f"{name}/") for name, minor in since.items() if call.minor >= minor},
            },
        )

    def _conductors(self, call: Call, rest: list[str]) -> Response:
        host = self.conductor.host
        whole = {
            "created_at": "2026-01-01T00:00:00+00:00",
            "updated_at": self.world.now(),
            "hostname": host,
            "conductor_group": "",
            "drivers": sorted(HARDWARE_TYPES),
            "links": links(self._url(), f"conductors/{host}"),
            "alive": True,
        }
        if rest:
            if rest != [host]:
                raise not_found(f"Conductor {rest[0]} could not be found.")
            return Response(200, whole)
        brief = {key: whole[key] for key in ("hostname", "conductor_group", "links", "alive")}
        return Response(200, {"conductors": [whole if call.flag("detail") else brief]})

    def _drivers(self, call: Call, rest: list[str]) -> Response:
        def driver(name: str, *, is_detailed: bool) -> Record:
            shown: Record = {
                "name": name,
                "hosts": [self.conductor.host],
                "links": links(self._url(), f"drivers/{name}"),
                "properties": links(self._url(), f"drivers/{name}/properties"),
                "type": "dynamic",
            }
            for interface, default in HARDWARE_TYPES[name].items() if is_detailed else ():
                shown[f"default_{interface}_interface"] = default
                shown[f"enabled_{interface}_interfaces"] = [default]
            return shown

        if rest:
            if rest[0] not in HARDWARE_TYPES:
                raise not_found(f"Could not find the following driver(s) or hardware type(s): {rest[0]}.")
            if rest[1:] == ["properties"]:
                return Response(200, {})
            return Response(200, driver(rest[0], is_detailed=True))
        is_detailed = bool(call.flag("detail"))
        return Response(200, {"drivers": [driver(name, is_detailed=is_detailed) for name in HARDWARE_TYPES]})

    def _shards(self, _: Call) -> Response:
        counts: dict[str, int] = {}
        for node in self.world.nodes.values():
            counts[str(node["shard"])] = counts.get(str(node["shard"]), 0) + 1
        return Response(200, {"shards": [{"name": name, "count": count} for name, count in counts.items()]})

    def _volume_links(self, path: str) -> Record:
        return {
            "links": links(self._url(), f"{path}/"),
            "connectors": links(self._url(), f"{path}/connectors"),
            "targets": links(self._url(), f"{path}/targets"),
        }


def _depth(raw_body: bytes) -> int:
    """How deep arrays and objects are nested, by counting brackets outside strings."""
    depth = deepest = 0
    in_string = is_escaped = False
    for byte in raw_body if max(raw_body.count(b"{") + raw_body.count(b"["), 0) > _MAX_BODY_DEPTH else b"":
        if in_string:
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
