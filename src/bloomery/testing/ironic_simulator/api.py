"""The HTTP API of a played Ironic: every route, what it checks before the conductor hears of it, and its answer.

Source: ironic api/controllers/v1/*.py (39.0).
"""

from __future__ import annotations

import copy
import json
import string
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.testing.http_simulator import RecordedRequest, Response
from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.conductor import Conductor
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    bad_request,
    conflict,
    in_maintenance,
    is_associated,
    is_protected,
    method_not_allowed,
    no_such_page,
    node_locked,
    node_not_found,
    not_acceptable,
    not_found,
    state_refused,
    unsupported,
)
from bloomery.testing.ironic_simulator.records import (
    ALLOCATION,
    CREATABLE_NODE_FIELDS,
    HARDWARE_TYPES,
    INTERFACES,
    MAX_MINOR,
    NODE_DEFAULTS,
    NODE_FIELD_SINCE,
    NODE_FIELDS,
    NODE_LIST_FIELDS,
    PATCHABLE_NODE_FIELDS,
    PORT,
    PORTGROUP,
    UNSORTABLE,
    VOLUME_CONNECTOR,
    VOLUME_TARGET,
    Kind,
    Record,
    apply_patch,
    check_fields,
    check_mac,
    check_node_name,
    check_patch,
    check_trait,
    check_unique,
    check_version,
    is_logical_name,
    is_uuid,
    links,
    patched_values,
    show,
    show_node,
    to_boolean,
    to_integer,
    translate_state,
)
from bloomery.testing.ironic_simulator.vifs import Vifs
from bloomery.testing.ironic_simulator.world import Bmc, World

_VERSION_HEADER = "X-OpenStack-Ironic-API-Version"
_MIN_HEADER = "X-OpenStack-Ironic-API-Minimum-Version"
_MAX_HEADER = "X-OpenStack-Ironic-API-Maximum-Version"
_MAX_LIMIT = 1000
_MAX_BODY_BYTES = 1024 * 1024
_MAX_PROVISION_BODY_BYTES = 64 * 1024 * 1024
_MAX_BODY_DEPTH = 25

_BRIEF_NODE_FIELDS = ("instance_uuid", "maintenance", "power_state", "provision_state", "uuid", "name")
_FAULTS = ("power failure", "clean failure", "rescue abort failure", "service failure")
_PAGE_ARGUMENTS = frozenset({"limit", "marker", "sort_key", "sort_dir"})
_NODE_FILTERS: Mapping[str, int] = {
    "chassis_uuid": 0,
    "instance_uuid": 0,
    "associated": 0,
    "maintenance": 0,
    "retired": 0,
    "provision_state": 9,
    "driver": 16,
    "resource_class": 21,
    "fault": 42,
    "conductor_group": 46,
    "conductor": 49,
    "owner": 50,
    "description_contains": 0,
    "lessee": 65,
    "project": 0,
    "shard": 82,
    "sharded": 82,
    "include_children": 83,
    "parent_node": 83,
    "instance_name": 104,
}
"""What a list of nodes may be filtered by, and since which minor version."""

_EQUAL_FILTERS = (
    "provision_state",
    "instance_uuid",
    "chassis_uuid",
    "driver",
    "resource_class",
    "fault",
    "conductor_group",
    "owner",
    "lessee",
    "instance_name",
)
_STATES_FOR_NEW_INTERFACES = (
    machine.ENROLL,
    machine.INSPECTING,
    machine.INSPECT_WAIT,
    machine.MANAGEABLE,
    machine.AVAILABLE,
)
_STATES_FOR_NEW_CONNECTIVITY = _STATES_FOR_NEW_INTERFACES[:-1]
_CONNECTIVITY = ("portgroup_uuid", "pxe_enabled", "local_link_connection", "physical_network")
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/=\n\r\t ")
_STEP_INTERFACES = ("vendor", "power", "management", "firmware", "deploy", "bios", "raid")
_ALWAYS_SORTABLE = frozenset({"id", "created_at", "updated_at"})
_HISTORY_FIELDS = frozenset({"id", "uuid", "created_at", "severity", "event_type", "event", "conductor", "user"})
_DEPLOY_STEP_KEYS = frozenset({"interface", "step", "args", "priority"})
_STEP_KEYS = frozenset({"interface", "step", "args", "order", "execute_on_child_nodes", "limit_child_node_execution"})
_VERB_SINCE: Mapping[str, int] = {
    "manage": 4,
    "provide": 4,
    "inspect": 6,
    "abort": 13,
    "clean": 15,
    "adopt": 17,
    "rescue": 38,
    "unrescue": 38,
    "deploy": 73,
    "undeploy": 73,
    "unhold": 85,
    "service": 87,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read: its path in parts, its API version, its arguments."""

    request: RecordedRequest
    minor: int
    parts: tuple[str, ...]

    @property
    def method(self) -> str:
        return self.request.method

    def argument(self, name: str) -> str | None:
        """An argument of the query."""
        return self.request.query.get(name)

    def flag(self, name: str) -> bool | None:
        """A boolean argument of the query; None if it is not there."""
        value = self.argument(name)
        return None if value is None else to_boolean(name, value)

    def words(self, name: str) -> list[str] | None:
        """An argument that is a list separated by commas."""
        value = self.argument(name)
        if value is None:
            return None
        return list(dict.fromkeys(word.strip().lower() for word in value.split(",") if word.strip()))

    def body(self) -> Any:
        """The body read as JSON; an empty object if there is none."""
        try:
            return self.request.body if self.request.raw_body else {}
        except json.JSONDecodeError as error:
            raise ApiError(500, str(error)) from None

    def arguments(self, allowed: Iterable[str]) -> Record:
        """What body and query say together, for a call that takes its arguments from both."""
        body = self.body()
        given = {**self.request.query, **(body if isinstance(body, dict) else {})}
        if unknown := [name for name in given if name not in set(allowed)]:
            raise bad_request(f"Unexpected arguments: {', '.join(unknown)}")
        return given

    def check_query(self, allowed: Iterable[str]) -> None:
        """Nothing else is asked for than what the call knows."""
        if unknown := [name for name in self.request.query if name not in set(allowed)]:
            raise bad_request(f"Unexpected arguments: {', '.join(unknown)}")

    def since(self, minor: int) -> None:
        """The page exists in this API version."""
        if self.minor < minor:
            raise no_such_page()


class Api:
    """Answers requests; the caller holds the conductor's condition."""

    def __init__(
        self, world: World, conductor: Conductor, vifs: Vifs, *, url: Callable[[], str], max_minor: int
    ) -> None:
        self.world = world
        self.conductor = conductor
        self.vifs = vifs
        self.max_minor = min(max_minor, MAX_MINOR)
        self._url = url

    def answer(self, request: RecordedRequest) -> Response:
        """What Ironic answers."""
        headers = {_MIN_HEADER: "1.1", _MAX_HEADER: f"1.{self.max_minor}"}
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

    # Routes ----------------------------------------------------------------------------------------------------------

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

    # The roots -------------------------------------------------------------------------------------------------------

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

    # Lists -----------------------------------------------------------------------------------------------------------

    def _page(
        self,
        call: Call,
        found: list[Record],
        path: str,
        fields: list[str] | None,
        sortable: frozenset[str],
        unsortable: frozenset[str],
        what: str,
    ) -> tuple[list[Record], str | None]:
        """The records of the wanted page, and the address of the next one."""
        limit = to_integer("limit", call.argument("limit")) if call.argument("limit") is not None else _MAX_LIMIT
        if limit <= 0:
            raise bad_request("Limit must be positive")
        limit = min(limit, _MAX_LIMIT)
        sort_key = call.argument("sort_key") or "id"
        sort_dir = call.argument("sort_dir") or "asc"
        if sort_dir not in ("asc", "desc"):
            raise bad_request(f"Invalid sort direction: {sort_dir}. Acceptable values are 'asc' or 'desc'")
        if sort_key in unsortable:
            raise bad_request(f"The sort_key value {sort_key} is an invalid field for sorting")
        if sort_key not in sortable:
            raise bad_request(f'The sort_key value "{sort_key}" is an invalid field for sorting')
        marker = call.argument("marker")
        if marker is not None and not is_uuid(marker):
            raise bad_request(f"Expected UUID for marker: {marker}")

        def order(record: Record) -> tuple[bool, Any, int]:
            value = record[sort_key]
            return value is not None, value if value is not None else "", record["id"]

        ordered = sorted(found, key=order, reverse=sort_dir == "desc")
        if marker is not None:
            uuids = [record["uuid"] for record in ordered]
            if marker not in uuids:
                raise not_found(f"{what} {marker} could not be found.")
            ordered = ordered[uuids.index(marker) + 1 :]
        page = ordered[:limit]
        if len(page) < limit:
            return page, None
        arguments = {"sort_key": sort_key, "sort_dir": sort_dir}
        arguments |= {name: "True" for name in ("associated", "maintenance", "retired", "detail") if call.flag(name)}
        if fields is not None:
            arguments["fields"] = ",".join(fields)
        arguments |= {"limit": str(limit), "marker": page[-1]["uuid"]}
        return page, f"{self._url()}/v1/{path}?" + "&".join(f"{key}={value}" for key, value in arguments.items())

    def _wanted_fields(self, call: Call, brief: tuple[str, ...]) -> list[str] | None:
        """The fields to show: those asked for, all for `detail`, else the brief ones."""
        fields, is_detailed = call.words("fields"), call.flag("detail")
        if fields is not None and is_detailed:
            raise bad_request(
                "Can't fetch a subset of fields with 'detail' set"
                if call.parts[1] == "volume"
                else "Can not specify ?detail=True and fields in the same request."
            )
        if fields is not None:
            return fields
        return None if is_detailed else list(brief)

    def _list_nodes(self, call: Call, *, is_detail: bool = False) -> Response:
        call.check_query({*_NODE_FILTERS, *_PAGE_ARGUMENTS, "fields", "detail"})
        fields = None if is_detail else self._wanted_fields(call, _BRIEF_NODE_FIELDS)
        check_version([*(call.words("fields") or ()), call.argument("sort_key") or ""], NODE_FIELD_SINCE, call.minor)
        found = self._filter_nodes(call)
        unknown = [name for name in fields or () if name not in NODE_LIST_FIELDS | {"updated_at", "created_at"}]
        if unknown:
            raise ApiError(500, f"type object 'Node' has no attribute '{unknown[0]}'")
        what = "nodes/detail" if is_detail else "nodes"
        page, following = self._page(call, found, what, fields, NODE_LIST_FIELDS | _ALWAYS_SORTABLE, UNSORTABLE, "Node")
        if page and (unknown := [name for name in fields or () if name not in NODE_FIELDS]):
            raise bad_request(f"Field {unknown[0]} is not a valid field.")
        answer: Record = {"nodes": [self._shown_node(node, call, fields) for node in page]}
        if following and call.argument("instance_uuid") is None:
            answer["next"] = following
        return Response(200, answer)

    def _filter_nodes(self, call: Call) -> list[Record]:
        for name, since in _NODE_FILTERS.items():
            if call.argument(name) is not None and call.minor < since:
                raise not_acceptable(f"Request not acceptable. The minimal required API version should be 1.{since}")
        state = call.argument("provision_state")
        if state is not None and state not in machine.ALL_STATES:
            raise bad_request(f'Provision state "{state}" is not valid')
        fault = call.argument("fault")
        if fault is not None and fault not in _FAULTS:
            raise bad_request(f'Unrecognized fault "{fault}" is specified, allowed faults are {_FAULTS}')
        for name in ("instance_uuid", "chassis_uuid"):
            if call.argument(name) is not None and not is_uuid(call.argument(name)):
                raise bad_request(f"Expected UUID for {name}: {call.argument(name)}")
        tests: list[Callable[[Record], bool]] = []
        equal = {name: wanted for name in _EQUAL_FILTERS if (wanted := call.argument(name)) is not None}
        flags = {name: flag for name in ("maintenance", "retired") if (flag := call.flag(name)) is not None}
        tests.append(lambda node: all(node[name] == wanted for name, wanted in (equal | flags).items()))
        if (wants_instance := call.flag("associated")) is not None:
            tests.append(lambda node: (node["instance_uuid"] is not None) is wants_instance)
        if (is_sharded := call.flag("sharded")) is not None:
            tests.append(lambda node: (node["shard"] is not None) is is_sharded)
        if (shards := call.words("shard")) is not None:
            tests.append(lambda node: node["shard"] in shards)
        if (project := call.argument("project")) is not None:
            tests.append(lambda node: project in (node["owner"], node["lessee"]))
        if (words := call.argument("description_contains")) is not None:
            tests.append(lambda node: words in (node["description"] or ""))
        if (host := call.argument("conductor")) is not None:
            tests.append(lambda _: host == self.conductor.host)
        if not call.flag("include_children"):
            parent = call.argument("parent_node")
            tests.append(lambda node: node["parent_node"] == parent)
        return [node for node in self.world.nodes.values() if all(test(node) for test in tests)]

    def _list(self, call: Call, kind: Kind, **only: str) -> Response:
        allowed = {*_PAGE_ARGUMENTS, "fields", "detail", "node", "node_uuid", "owner", "shard"}
        allowed |= {
            PORT.name: {"address", "portgroup", "description_contains", "conductor_groups"},
            PORTGROUP.name: {"address", "conductor_groups"},
            ALLOCATION.name: {"resource_class", "state"},
        }.get(kind.name, set())
        call.check_query(allowed)
        fields = self._wanted_fields(call, kind.brief) if kind.brief else call.words("fields")
        check_version(fields or (), kind.since, call.minor)
        if call.argument("owner") is not None and call.minor < 60:
            raise not_acceptable()
        found = [
            record
            for record in self.world.table(kind).values()
            if all(record[name] == value for name, value in only.items())
        ]
        if kind is ALLOCATION and call.argument("node") and call.argument("state"):
            raise ApiError(500, 'Entity namespace for "nodes" has no property "state"')
        if ident := call.argument("node") or call.argument("node_uuid"):
            node = self._node(ident, status=400 if kind is ALLOCATION else 404)
            found = [record for record in found if record["node_uuid"] == node["uuid"]]
        if (ident := call.argument("portgroup")) is not None:
            group = self._find(PORTGROUP, ident)
            found = [record for record in found if record["portgroup_uuid"] == group["uuid"]]
        if (address := call.argument("address")) is not None:
            found = [record for record in found if record["address"] == check_mac(address)]
        for name in ("resource_class", "state", "owner"):
            if (wanted := call.argument(name)) is not None and name in kind.defaults:
                found = [record for record in found if record[name] == wanted]
        if (shards := call.words("shard")) is not None:
            found = [r for r in found if self.world.nodes[r["node_uuid"]]["shard"] in shards]
        page, following = self._page(
            call, found, kind.path, fields, kind.fields | _ALWAYS_SORTABLE, kind.unsortable, kind.name
        )
        answer: Record = {kind.collection: [show(kind, record, self._url(), call.minor, fields) for record in page]}
        if following:
            answer["next"] = following
        return Response(200, answer)

    # Nodes -----------------------------------------------------------------------------------------------------------

    def _node(self, ident: str, *, status: int = 404) -> Record:
        if is_uuid(ident):
            node = self.world.nodes.get(str(uuid.UUID(ident)))
        else:
            if not is_logical_name(ident):
                raise bad_request(f"Expected a logical name or UUID but received {ident}.")
            node = next((node for node in self.world.nodes.values() if node["name"] == ident), None)
        if node is None:
            raise node_not_found(ident, status=status)
        return node

    def _shown_node(self, node: Record, call: Call, fields: list[str] | None) -> Record:
        return show_node(node, self._url(), call.minor, fields, self.conductor.host)

    def _show_node(self, call: Call, ident: str) -> Response:
        call.check_query({"fields"})
        fields = call.words("fields")
        node = self._node(ident)
        check_version(fields or (), NODE_FIELD_SINCE, call.minor)
        if unknown := [name for name in fields or () if name not in NODE_FIELDS]:
            raise bad_request(f"Field {unknown[0]} is not a valid field.")
        return Response(200, self._shown_node(node, call, fields))

    def _create_node(self, call: Call) -> Response:
        body = call.body()
        fields = check_fields(" for node", body, CREATABLE_NODE_FIELDS, ["driver"])
        check_version([name for name, value in fields.items() if value not in (None, "")], NODE_FIELD_SINCE, call.minor)
        if fields["driver"] not in HARDWARE_TYPES:
            raise bad_request(
                f"No valid host was found. Reason: No conductor service registered which supports driver "
                f'{fields["driver"]} for conductor group "{fields.get("conductor_group") or ""}". '
                "Ensure the driver is valid and enabled."
            )
        if fields.get("name") is not None:
            check_node_name(fields["name"], "Cannot create node with invalid name ")
        node_uuid = fields.pop("uuid", None) or str(uuid.uuid4())
        if node_uuid in self.world.nodes:
            raise conflict(f"A node with UUID {node_uuid} already exists.")
        self._check_unique_node_fields(fields, node_uuid)
        if call.minor < 11:
            fields["provision_state"] = machine.AVAILABLE
        node = new_node(self.world, node_uuid, fields)
        headers = {"Location": f"{self._url()}/v1/nodes/{node_uuid}"}
        return Response(201, self._shown_node(node, call, None), headers)

    def _check_unique_node_fields(self, fields: Mapping[str, Any], node_uuid: str) -> None:
        nodes = self.world.nodes.values()
        name, instance_uuid = fields.get("name"), fields.get("instance_uuid")
        check_unique(nodes, "name", name, f"A node with name {name} already exists.", except_uuid=node_uuid)
        check_unique(
            nodes,
            "instance_uuid",
            instance_uuid,
            f"Instance {instance_uuid} is already associated with a node, it cannot be associated with this other "
            f"node {node_uuid}",
            except_uuid=node_uuid,
        )

    def _patch_node(self, call: Call, ident: str) -> Response:
        patch = check_patch(call.body(), PATCHABLE_NODE_FIELDS)
        check_version(
            [change["path"][1:] for change in patch if change["op"] != "remove"], NODE_FIELD_SINCE, call.minor
        )
        node = self._node(ident)
        self._check_may_update(node, patch, ident, call.minor)
        for name in patched_values(patch, "name"):
            check_node_name(name, f"Node {ident}: Cannot change name to invalid name ")
        patched = apply_patch({name: node[name] for name in PATCHABLE_NODE_FIELDS}, patch)
        if "driver" not in patched:
            raise bad_request("Schema error for patch: 'driver' is a required property")
        wanted = {name: patched.get(name) for name in PATCHABLE_NODE_FIELDS}
        wanted = check_fields(" for patch", wanted, PATCHABLE_NODE_FIELDS)
        wanted["conductor_group"] = (wanted["conductor_group"] or "").lower()
        changes = {name: value for name, value in wanted.items() if value != node[name]}
        self._complete_changes(node, changes, wanted)
        if call.argument("reset_interfaces") is not None and "driver" not in changes:
            raise bad_request("The reset_interfaces parameter can only be used when changing the node's driver.")
        self._update_node(node, changes, wanted)
        return Response(200, self._shown_node(node, call, None))

    def _check_may_update(self, node: Record, patch: list[Record], ident: str, minor: int) -> None:
        if node["maintenance"] and patch == [{"op": "remove", "path": "/instance_uuid"}]:
            return
        state = node["provision_state"]
        if node["target_provision_state"] and state not in machine.UPDATE_ALLOWED_STATES:
            raise conflict(f"Node {ident} can not be updated while a state transition is in progress.")
        if state == machine.INSPECTING and minor >= 39:
            raise conflict(f'Cannot update node "{node["uuid"]}" while it is in state "{state}".')
        if patched_values(patch, "owner"):
            allocation = self.world.allocations.get(node["allocation_uuid"] or "")
            if allocation and allocation["owner"] is not None:
                raise conflict(
                    f'Cannot update owner of node "{node["uuid"]}" while it is allocated to an allocation with an '
                    " owner."
                )

    def _complete_changes(self, node: Record, changes: Record, wanted: Record) -> None:
        """What Ironic adds to a change of its own accord."""
        display_name = wanted["instance_info"].get("display_name")
        if "instance_info" in changes and not wanted["instance_name"] and display_name:
            changes["instance_name"] = display_name
        if "maintenance" in changes and not changes["maintenance"]:
            changes |= {"maintenance_reason": None, "fault": None}
        for flag in ("protected", "retired"):
            if flag in changes and not changes[flag]:
                changes[f"{flag}_reason"] = None
            elif changes.get(f"{flag}_reason") and not wanted[flag]:
                raise bad_request(f"The {flag}_reason field can only be set when {flag} is True")
        state = node["provision_state"]
        if changes.get("protected") and state not in (machine.ACTIVE, machine.RESCUE):
            raise conflict(
                f"Node {node['uuid']} can only be made protected in provision states 'active' or 'rescue', the "
                f"current state is '{state}'"
            )
        if changes.get("retired") and state == machine.AVAILABLE:
            raise conflict(
                f"Node {node['uuid']} can not have 'retired' set in provision state 'available', the current state "
                f"is '{state}'"
            )

    def _update_node(self, node: Record, changes: Record, wanted: Record) -> None:
        state, node_uuid = node["provision_state"], node["uuid"]
        refusal = (
            f"Node {node_uuid} can not have {{}} updated unless it is in one of allowed "
            f"({', '.join(_STATES_FOR_NEW_INTERFACES)}) states{{}}. Current state is '{state}'."
        )
        may_change = state in _STATES_FOR_NEW_INTERFACES
        for interface in (name for name in changes if name.endswith("_interface")):
            if not (may_change or node["maintenance"]):
                raise conflict(refusal.format(interface, " or in maintenance mode"))
        if "driver" in changes and wanted["driver"] not in HARDWARE_TYPES:
            raise bad_request(
                f"No valid host was found. Reason: No conductor service registered which supports driver "
                f'{wanted["driver"]} for conductor group "{wanted["conductor_group"]}". '
                "Ensure the driver is valid and enabled."
            )
        self.conductor.lock(node)
        if changes.get("instance_uuid") and node["instance_uuid"]:
            raise is_associated(node_uuid, node["instance_uuid"])
        if "resource_class" in changes and node["resource_class"] and not may_change:
            raise conflict(refusal.format("resource_class", ""))
        is_released = "instance_uuid" in changes and not changes["instance_uuid"]
        if is_released and node["allocation_uuid"]:
            if not (may_change or node["maintenance"]):
                raise conflict(
                    f"Node {node_uuid} with an allocation can not have instance_uuid removed unless it is in one of "
                    f"allowed ({', '.join(_STATES_FOR_NEW_INTERFACES)}) states or in maintenance mode. "
                    f"Current state is '{state}'."
                )
            self.conductor.release(self.world.allocations[node["allocation_uuid"]])
        self._check_unique_node_fields(changes, node_uuid)
        self.conductor.save(node, **changes)

    def _delete_node(self, node: Record) -> Response:
        self.conductor.lock(node)
        node_uuid, state = node["uuid"], node["provision_state"]
        if not node["maintenance"] and node["instance_uuid"]:
            raise is_associated(node_uuid, node["instance_uuid"])
        if node["protected"]:
            raise is_protected(node_uuid)
        allowed = (*machine.DELETE_ALLOWED_STATES, machine.AVAILABLE)
        if not node["maintenance"] and state not in allowed:
            raise conflict(
                f'Can not delete node "{node_uuid}" while it is in provision state "{state}". Valid provision states '
                f'to perform deletion are: "{allowed}", or set the node into maintenance mode'
            )
        self.world.forget_node(node_uuid)
        self.conductor.changed.notify_all()
        return Response(204)

    # States ----------------------------------------------------------------------------------------------------------

    def _states(self, call: Call, node: Record) -> Response:
        names = [
            "console_enabled",
            "last_error",
            "power_state",
            "provision_state",
            "target_power_state",
            "target_provision_state",
            "provision_updated_at",
        ]
        names += ["raid_config", "target_raid_config"] if call.minor >= 12 else []
        names += ["boot_mode", "secure_boot"] if call.minor >= 75 else []
        shown = {name: copy.deepcopy(node[name]) for name in names}
        translate_state(shown, call.minor)
        return Response(200, shown)

    def _accepted(self, path: str) -> Response:
        return Response(202, None, {"Location": f"{self._url()}/v1/nodes/{path}"})

    def _provision(self, call: Call, ident: str) -> Response:
        given = call.arguments(
            {
                "target",
                "configdrive",
                "clean_steps",
                "deploy_steps",
                "rescue_password",
                "disable_ramdisk",
                "service_steps",
                "runbook",
            }
        )
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = str(given["target"])
        config_drive = given.get("configdrive")
        if not isinstance(config_drive, dict | str | None):
            raise bad_request(
                f"Expected types <class 'NoneType'>, <class 'dict'>, <class 'str'> for configdrive: {config_drive}"
            )
        node = self._node(ident)
        if call.minor < _VERB_SINCE.get(target, 0):
            raise not_acceptable()
        if target in ("active", "rebuild") and node["maintenance"]:
            raise in_maintenance("provisioning", node["uuid"])
        if machine.next_state(node["provision_state"], machine.VERBS.get(target, target)) is None:
            if node["reservation"]:
                raise node_locked(node["uuid"], node["reservation"])
            raise state_refused(target, node["uuid"], node["provision_state"])
        self._check_provision_arguments(target, given, call.minor)
        if target == "abort" and node["provision_state"] == machine.DEPLOY_WAIT and call.minor < 110:
            raise not_acceptable()
        if target == "abort" and node["provision_state"] == machine.INSPECT_WAIT and call.minor < 41:
            raise not_acceptable()
        self._order(node, target, given)
        return self._accepted(f"{ident}/states")

    def _check_provision_arguments(self, target: str, given: Record, minor: int) -> None:
        config_drive = given.get("configdrive")
        if config_drive:
            allowed = ["active"] + (["rebuild"] if minor >= 35 else [])
            if target not in allowed:
                raise bad_request(
                    "Adding a config drive is only supported when setting provision state to " + ", ".join(allowed)
                )
            _check_config_drive(config_drive, minor)
        for name, verbs in (
            ("clean_steps", ("clean",)),
            ("deploy_steps", ("active", "deploy", "rebuild")),
            ("rescue_password", ("rescue",)),
            ("service_steps", ("service",)),
        ):
            if given.get(name) and target not in verbs:
                raise bad_request(f'"{name}" is only valid when setting target provision state to {" or ".join(verbs)}')
        if given.get("deploy_steps") and minor < 69:
            raise not_acceptable()

    def _order(self, node: Record, target: str, given: Record) -> None:
        """The conductor is asked for what the target means."""
        match target:
            case "active" | "deploy" | "rebuild":
                steps = _check_steps(given.get("deploy_steps") or [], "deploy", _DEPLOY_STEP_KEYS, _DEPLOY_STEP_KEYS)
                self.conductor.deploy(
                    node,
                    configdrive=copy.deepcopy(given.get("configdrive")),
                    steps=steps,
                    is_rebuild=target == "rebuild",
                )
            case "deleted" | "undeploy":
                self.conductor.tear_down(node)
            case "rescue":
                password = given.get("rescue_password")
                if not (isinstance(password, str) and password.strip()):
                    raise bad_request(
                        'A non-empty "rescue_password" is required when setting target provision state to rescue'
                    )
                self.conductor.rescue(node, password)
            case "unrescue":
                self.conductor.unrescue(node)
            case "inspect":
                self.conductor.inspect(node)
            case "clean" | "service":
                steps = given.get(f"{target}_steps") or []
                if not steps:
                    raise bad_request(f'"{target}_steps" is required when setting target provision state to {target}')
                steps = _check_steps(steps, target, _STEP_KEYS, frozenset({"interface", "step"}))
                (self.conductor.clean if target == "clean" else self.conductor.service)(node, steps)
            case "manage" | "provide" | "abort" | "adopt" | "unhold":
                self.conductor.act(node, target)
            case _:
                raise bad_request(f'The requested action "{target}" could not be understood.')

    def _power(self, call: Call, ident: str) -> Response:
        given = call.arguments({"target", "timeout"})
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = given["target"]
        timeout_s = to_integer("timeout", given["timeout"]) if given.get("timeout") is not None else None
        node = self._node(ident)
        if (target in (machine.SOFT_REBOOT, machine.SOFT_POWER_OFF) or timeout_s) and call.minor < 27:
            raise not_acceptable()
        if timeout_s is not None and timeout_s < 1:
            raise bad_request("timeout has to be positive integer")
        if target not in machine.POWER_TARGETS:
            raise state_refused(target, ident, node["power_state"])
        if node["provision_state"] in (machine.CLEANING, machine.CLEAN_WAIT):
            raise state_refused(target, ident, node["provision_state"])
        if target in (machine.POWER_OFF, machine.SOFT_POWER_OFF) and node["disable_power_off"]:
            raise conflict(f"Failed to set node power state to {target}.")
        self.conductor.change_power(node, target)
        return self._accepted(f"{ident}/states")

    def _console(self, call: Call, ident: str) -> Response:
        node = self._node(ident)
        if call.method == "GET":
            if not node["console_enabled"]:
                return Response(200, {"console_enabled": False, "console_info": None})
            info = {"type": "socat", "url": f"tcp://127.0.0.1:{10000 + node['id']}"}
            return Response(200, {"console_enabled": True, "console_info": info})
        given = call.arguments({"enabled"})
        if "enabled" not in given:
            raise bad_request("Missing mandatory parameter: enabled")
        self.conductor.change_console(node, is_enabled=to_boolean("enabled", given["enabled"]))
        return self._accepted(f"{ident}/states/console")

    def _boot_mode(self, call: Call, ident: str, what: str) -> Response:
        given = call.arguments({"target"})
        if "target" not in given:
            raise bad_request("Missing mandatory parameter: target")
        target = given["target"] if what == "boot_mode" else to_boolean("target", given["target"])
        node = self._node(ident)
        if call.minor < 76:
            raise not_found("This endpoint is supported starting with the API version 1.76")
        if what == "boot_mode" and target not in ("bios", "uefi"):
            raise bad_request(f"Invalid boot mode {target} requested for node. Allowed boot modes are: bios, uefi")
        if node["provision_state"] in machine.UNSTABLE_STATES:
            raise conflict(
                f"Node is in {node['provision_state']} state. Since node is transitioning, the boot mode will not be "
                "set as this may interfere with ongoing changes and result in erroneous modification. "
                "Try again later."
            )
        self.conductor.change_boot_mode(node, **{what: target})
        return self._accepted(f"{ident}/states")

    def _validate(self, node: Record) -> Response:
        return Response(
            200,
            {
                name: {"result": problem is None} | ({"reason": problem} if problem else {})
                for name, problem in self.conductor.validate(node).items()
            },
        )

    # What hangs on a node --------------------------------------------------------------------------------------------

    def _maintenance(self, call: Call, node: Record) -> Response:
        given = call.arguments({"reason"})
        self.conductor.lock(node)
        if call.method == "PUT":
            self.conductor.save(node, maintenance=True, maintenance_reason=given.get("reason"))
        else:
            self.conductor.save(node, maintenance=False, maintenance_reason=None, fault=None)
        return Response(202)

    def _vifs(self, call: Call, node: Record, vif_ids: list[str]) -> Response:
        match call.method, vif_ids:
            case "GET", []:
                return Response(200, {"vifs": [{"id": vif_id} for vif_id in self.vifs.of(self.world, node["uuid"])]})
            case "POST", []:
                wish = call.body()
                if not isinstance(wish, dict) or "id" not in wish:
                    raise bad_request("Schema error for vif: 'id' is a required property")
                if not (is_logical_name(wish["id"]) or is_uuid(wish["id"])):
                    raise bad_request(f"Expected UUID or name for id: {wish['id']}")
                if call.minor >= 67 and "port_uuid" in wish and "portgroup_uuid" in wish:
                    raise bad_request("Cannot specify both port_uuid and portgroup_uuid")
                self._change_vif(node, "attach", wish["id"], lambda: self.vifs.attach(self.world, node, wish))
                return Response(204)
            case "DELETE", [vif_id]:
                self._change_vif(node, "detach", vif_id, lambda: self.vifs.detach(self.world, node, vif_id))
                return Response(204)
        raise method_not_allowed()

    def _change_vif(self, node: Record, verb: str, vif_id: str, change: Callable[[], None]) -> None:
        self.conductor.lock(node)
        try:
            change()
        except ApiError as error:
            middle = ("to", ".") if verb == "attach" else ("from", ",")
            message = f"Failed to {verb} VIF {vif_id} {middle[0]} node {node['uuid']}{middle[1]} Error: {error.message}"
            node["last_error"] = message
            self.conductor.record(node, message, node["provision_state"])
            raise
        finally:
            self.world.touch(node)

    def _traits(self, call: Call, ident: str, rest: list[str]) -> Response:
        if call.minor < 37:
            raise no_such_page()
        node = self._node(ident)
        match call.method, rest:
            case "GET", []:
                return Response(200, {"traits": list(node["traits"])})
            case "PUT", [trait]:
                check_trait(trait, " for trait")
                if call.body():
                    raise bad_request("No body should be provided when adding a trait")
                self.conductor.lock(node)
                self.conductor.save(node, traits=sorted({*node["traits"], trait}))
                return Response(204, None, {"Location": f"{self._url()}/v1/nodes/{ident}/traits/{trait}"})
            case "PUT", []:
                body = call.body()
                if not isinstance(body, dict) or "traits" not in body:
                    raise bad_request(
                        "A single node trait may be added via PUT /v1/nodes/<node identifier>/traits/<trait> with no "
                        "body, or all node traits may be replaced via PUT /v1/nodes/<node identifier>/traits with "
                        "the list of traits specified in the request body."
                    )
                traits = sorted({check_trait(trait, " for body") for trait in body["traits"]})
                self.conductor.lock(node)
                self.conductor.save(node, traits=traits)
                return Response(204)
            case "DELETE", []:
                self.conductor.lock(node)
                self.conductor.save(node, traits=[])
                return Response(204)
            case "DELETE", [trait]:
                self.conductor.lock(node)
                if trait not in node["traits"]:
                    raise not_found(f"Node {node['uuid']} doesn't have a trait '{trait}'")
                self.conductor.save(node, traits=[other for other in node["traits"] if other != trait])
                return Response(204)
        raise method_not_allowed()

    def _management(self, call: Call, node: Record, rest: list[str]) -> Response:
        bmc = self.world.bmcs[node["uuid"]]
        match call.method, rest:
            case "PUT", ["inject_nmi"]:
                if call.minor < 29:
                    raise not_found()
                self.conductor.lock(node)
                if node["management_interface"] == "fake":
                    raise unsupported(node["driver"], "inject_nmi")
                if not bmc.is_reachable:
                    raise ApiError(500, f"Redfish exception occurred. Error: node {node['uuid']} cannot be reached")
                bmc.interrupts += 1
                return Response(204)
            case "GET", ["boot_device"]:
                self.conductor.lock(node)
                return Response(200, {"boot_device": bmc.boot_device, "persistent": bmc.is_boot_device_persistent})
            case "GET", ["boot_device", "supported"]:
                return Response(200, {"supported_boot_devices": ["pxe", "disk", "cdrom", "bios"]})
            case "PUT", ["boot_device"]:
                given = call.arguments({"boot_device", "persistent"})
                if "boot_device" not in given:
                    raise bad_request("Missing mandatory parameter: boot_device")
                self.conductor.lock(node)
                if given["boot_device"] not in ("pxe", "disk", "cdrom", "bios"):
                    raise bad_request(f"Invalid boot device {given['boot_device']} specified.")
                bmc.boot_device = given["boot_device"]
                bmc.is_boot_device_persistent = to_boolean("persistent", given.get("persistent", False))
                return Response(204)
        raise no_such_page()

    def _inventory(self, node: Record) -> Response:
        inventory = self.world.inventories.get(node["uuid"])
        if inventory is None:
            raise not_found(f"Node inventory record for node {node['id']} could not be found.")
        return Response(200, copy.deepcopy(inventory))

    def _shown_event(self, call: Call, node: Record, event: Record, *, is_detailed: bool) -> Record:
        names = ["uuid", "created_at", "severity", "event"]
        if is_detailed:
            names += ["event_type", "conductor", "user"]
            names += ["project"] if call.minor >= 113 else []
            names += ["state", "target_provision_state", "duration_seconds"] if call.minor >= 115 else []
        shown = {name: event[name] for name in names}
        if not is_detailed and len(shown["event"]) > 255:
            shown["event"] = shown["event"][:251] + "..."
        href = f"{self._url()}/v1/nodes/{node['uuid']}/history/{event['uuid']}"
        return {**shown, "links": [{"href": href, "rel": "self"}]}

    def _history(self, call: Call, node: Record) -> Response:
        call.check_query({*_PAGE_ARGUMENTS, "detail"})
        events = [{**event, "id": index} for index, event in enumerate(self.world.history.get(node["uuid"], []))]
        path = f"nodes/{node['uuid']}/history"
        page, following = self._page(call, events, path, None, _HISTORY_FIELDS, frozenset(), "Node history")
        is_detailed = bool(call.flag("detail"))
        answer: Record = {"history": [self._shown_event(call, node, e, is_detailed=is_detailed) for e in page]}
        if following:
            answer["next"] = following
        return Response(200, answer)

    def _history_event(self, call: Call, node: Record, event_uuid: str) -> Response:
        for event in self.world.history.get(node["uuid"], []):
            if event["uuid"] == event_uuid:
                return Response(200, self._shown_event(call, node, event, is_detailed=True))
        raise not_found(f"Node history record {event_uuid} could not be found.")

    def _allocation_of(self, call: Call, ident: str) -> Response:
        node = self._node(ident)
        allocation = self.world.allocations.get(node["allocation_uuid"] or "")
        if allocation is None:
            raise not_found(f"Allocation for node {ident} was not found")
        if call.method == "DELETE":
            return self._delete(ALLOCATION, allocation)
        return Response(200, show(ALLOCATION, allocation, self._url(), call.minor, call.words("fields")))

    # Ports, port groups, volumes, allocations ------------------------------------------------------------------------

    def _find(self, kind: Kind, ident: str, *, status: int = 404) -> Record:
        table = self.world.table(kind)
        record = table.get(ident)
        if record is None and "name" in kind.defaults and not is_uuid(ident):
            if not is_logical_name(ident):
                raise bad_request(f"Expected a logical name or UUID but received {ident}.")
            record = next((record for record in table.values() if record["name"] == ident), None)
        if record is None:
            raise ApiError(status, f"{kind.name} {ident} could not be found.")
        return record

    def _route_kind(self, call: Call, kind: Kind, rest: list[str]) -> Response:
        match call.method, rest:
            case "GET", []:
                return self._list(call, kind)
            case "POST", []:
                record = self._create_allocation(call) if kind is ALLOCATION else self._create(call, kind)
                headers = {"Location": f"{self._url()}/v1/{kind.path}/{record['uuid']}"}
                return Response(201, show(kind, record, self._url(), call.minor, None), headers)
            case "GET", [ident]:
                fields = call.words("fields")
                check_version(fields or (), kind.since, call.minor)
                return Response(200, show(kind, self._find(kind, ident), self._url(), call.minor, fields))
            case "PATCH", [ident]:
                record = self._patch(call, kind, ident)
                return Response(200, show(kind, record, self._url(), call.minor, None))
            case "DELETE", [ident]:
                return self._delete(kind, self._find(kind, ident))
        raise method_not_allowed()

    def _create(self, call: Call, kind: Kind) -> Record:
        word = {PORT: "port", PORTGROUP: "portgroup", VOLUME_TARGET: "target", VOLUME_CONNECTOR: "connector"}[kind]
        fields = check_fields(f" for {word}", call.body(), {*kind.patchable, "uuid"}, kind.required)
        check_version(fields, kind.since, call.minor)
        ident = fields.pop("node_ident", None) or fields.get("node_uuid")
        if ident is None:
            raise bad_request(f"Schema error for {word}: 'node_uuid' is a required property")
        if kind in (VOLUME_TARGET, VOLUME_CONNECTOR) and ident not in self.world.nodes:
            raise bad_request(f"Invalid input for field/attribute node_uuid. Value: '{ident}'. ")
        node = self._node(ident, status=400)
        fields["node_uuid"] = node["uuid"]
        record_uuid = fields.pop("uuid", None) or str(uuid.uuid4())
        if record_uuid in self.world.table(kind):
            raise conflict(f"A {kind.name.lower()} with UUID {record_uuid} already exists.")
        self._check_record(kind, fields, record_uuid)
        return new_record(self.world, kind, record_uuid, fields)

    def _check_record(self, kind: Kind, fields: Mapping[str, Any], record_uuid: str) -> None:
        """Nothing about the record contradicts another one."""
        records = list(self.world.table(kind).values())
        if kind is PORT:
            address = fields.get("address")
            check_unique(
                records,
                "address",
                address,
                f"A port with MAC address {address} already exists.",
                except_uuid=record_uuid,
            )
            group_uuid = fields.get("portgroup_uuid")
            if group_uuid:
                group = self._find(PORTGROUP, group_uuid, status=400)
                if group["node_uuid"] != fields["node_uuid"]:
                    raise bad_request("Port can not be added to a portgroup belonging to a different node.")
                if not group["standalone_ports_supported"] and fields.get("pxe_enabled"):
                    raise conflict(
                        f"Port group {group_uuid} doesn't support standalone ports. This port cannot be created as a "
                        "member of that portgroup as the port's 'pxe_enabled' field was set to True."
                    )
        elif kind is VOLUME_TARGET:
            boot_index = fields["boot_index"]
            if any(
                other["node_uuid"] == fields["node_uuid"]
                and other["boot_index"] == boot_index
                and other["uuid"] != record_uuid
                for other in records
            ):
                raise conflict(f"A volume target with boot index '{boot_index}' for the same node already exists.")
        elif kind is VOLUME_CONNECTOR and any(
            (other["type"], other["connector_id"]) == (fields["type"], fields["connector_id"])
            and other["uuid"] != record_uuid
            for other in records
        ):
            raise conflict(
                f"A volume connector with type {fields['type']} and connector ID {fields['connector_id']} "
                "already exists."
            )
        if name := fields.get("name"):
            message = (
                f"An allocation with name {name} already exists."
                if kind is ALLOCATION
                else f"A {kind.name.lower()} with name {name} already exists."
            )
            check_unique(records, "name", name, message, except_uuid=record_uuid)

    def _patch(self, call: Call, kind: Kind, ident: str) -> Record:
        if kind is ALLOCATION and call.minor < 57:
            raise ApiError(405, "The API version does not allow updating allocations")
        patch = check_patch(call.body(), kind.patchable)
        check_version([change["path"].split("/")[1] for change in patch], kind.since, call.minor)
        record = self._find(kind, ident)
        known = [name for name in kind.patchable if name in record]
        patched = apply_patch({name: record[name] for name in known}, patch)
        wanted = {name: patched[name] if name in patched else kind.defaults[name] for name in known}
        wanted = check_fields(" for patch", wanted, kind.patchable, kind.required)
        changes = {name: value for name, value in wanted.items() if value != record[name]}
        self._check_record(kind, {**record, **wanted}, record["uuid"])
        if kind is ALLOCATION:
            if wanted["name"] and not is_logical_name(wanted["name"]):
                raise bad_request(f"Cannot update allocation with invalid name '{wanted['name']}'")
        else:
            node = self.world.nodes[record["node_uuid"]]
            self.conductor.lock(node)
            self._check_may_change(kind, record, node, changes)
        record |= changes
        self.world.touch(record)
        return record

    def _check_may_change(self, kind: Kind, record: Record, node: Record, changes: Record) -> None:
        if kind in (VOLUME_TARGET, VOLUME_CONNECTOR):
            if node["power_state"] != machine.POWER_OFF:
                raise state_refused(f"{kind.name.lower()} update", node["uuid"], node["power_state"])
            return
        if "address" in changes:
            is_used = node["provision_state"] == machine.ACTIVE or node["instance_uuid"]
            if kind is PORT and is_used and not node["maintenance"]:
                raise conflict(
                    f"Cannot update hardware address for port {record['uuid']} as node {node['uuid']} is active or "
                    "has instance UUID assigned"
                )
            self.vifs.move_mac(record, changes["address"])
        may_rewire = node["provision_state"] in _STATES_FOR_NEW_CONNECTIVITY or node["maintenance"]
        if kind is PORT and not may_rewire and any(name in changes for name in _CONNECTIVITY):
            raise conflict(
                f"Port {record['uuid']} can not have any connectivity attributes "
                f"(portgroup_id, pxe_enabled, local_link_connection, physical_network) updated unless node "
                f"{node['uuid']} is in a {', '.join(_STATES_FOR_NEW_CONNECTIVITY)} state or in maintenance mode. "
                f"The current state is {node['provision_state']}."
            )

    def _delete(self, kind: Kind, record: Record) -> Response:
        if kind is ALLOCATION:
            self._delete_allocation(record)
            return Response(204)
        node = self.world.nodes[record["node_uuid"]]
        self.conductor.lock(node)
        if kind in (VOLUME_TARGET, VOLUME_CONNECTOR):
            is_out_of_use = node["provision_state"] in machine.DELETE_ALLOWED_STATES
            if not is_out_of_use and node["power_state"] != machine.POWER_OFF:
                raise state_refused(f"{kind.name.lower()} deletion", node["uuid"], node["power_state"])
        elif kind is PORT:
            vif = self.vifs.current(record)
            if vif and not node["maintenance"]:
                raise conflict(f"Cannot delete the port {record['uuid']} as it is bound to VIF {vif} for use.")
        elif any(port["portgroup_uuid"] == record["uuid"] for port in self.world.ports.values()):
            raise bad_request(f"Cannot complete the requested action because portgroup {record['id']} contains ports.")
        del self.world.table(kind)[record["uuid"]]
        return Response(204)

    def _create_allocation(self, call: Call) -> Record:
        allowed = {"uuid", "name", "resource_class", "traits", "candidate_nodes", "owner", "extra"}
        allowed |= {"node"} if call.minor >= 58 else set()
        body = call.body()
        wanted_uuid = body.pop("uuid", None) if isinstance(body, dict) else None
        fields = check_fields("", body, allowed)
        check_version(fields, ALLOCATION.since, call.minor)
        for trait in fields.get("traits") or ():
            check_trait(trait, "")
        if fields.get("name") and not is_logical_name(fields["name"]):
            raise bad_request(f"Cannot create allocation with invalid name '{fields['name']}'")
        node = self._node(fields["node"], status=400) if fields.get("node") else None
        fields.pop("node", None)
        if not fields.get("resource_class"):
            if node is None:
                raise bad_request("The resource_class field is mandatory when not backfilling")
            fields["resource_class"] = node["resource_class"]
        fields["candidate_nodes"] = self._candidate_uuids(fields.get("candidate_nodes") or [])
        default_uuid = (node and node["instance_uuid"]) or str(uuid.uuid4())
        allocation_uuid = wanted_uuid or default_uuid
        if allocation_uuid in self.world.allocations:
            raise conflict(f"An allocation with UUID {allocation_uuid} already exists.")
        self._check_record(ALLOCATION, fields, allocation_uuid)
        allocation = new_record(self.world, ALLOCATION, allocation_uuid, fields)
        if node is None:
            self.conductor.allocate(allocation)
        else:
            self._backfill(allocation, node)
        return allocation

    def _candidate_uuids(self, idents: list[str]) -> list[str]:
        found, missing = [], []
        for ident in idents:
            try:
                found.append(str(self._node(ident)["uuid"]))
            except ApiError:
                missing.append(ident)
        if missing:
            raise bad_request(f"Nodes cannot be found: {', '.join(missing)}")
        return found

    def _backfill(self, allocation: Record, node: Record) -> None:
        self.conductor.lock(node)
        problems = []
        if node["provision_state"] != machine.ACTIVE:
            problems.append(f'Node must be in the "active" state, but the current state is "{node["provision_state"]}"')
        if node["resource_class"] != allocation["resource_class"]:
            problems.append(
                f"Resource class {node['resource_class']} does not match the requested resource class "
                f"{allocation['resource_class']}"
            )
        if not set(allocation["traits"]) <= set(node["traits"]):
            problems.append(
                f"List of traits {node['traits']} does not match the requested traits {allocation['traits']}"
            )
        if allocation["candidate_nodes"] and node["uuid"] not in allocation["candidate_nodes"]:
            problems.append(
                f"Candidate nodes must be empty or contain the target node, but got {allocation['candidate_nodes']}"
            )
        error: ApiError | None = None
        if problems:
            message = (
                f"Failed to process allocation {allocation['uuid']}: Cannot backfill an allocation for node "
                f"{node['uuid']}: {'; '.join(problems)}."
            )
            error = ApiError(500, message)
        elif node["instance_uuid"] not in (None, allocation["uuid"]):
            error = is_associated(node["uuid"], node["instance_uuid"])
        if error is not None:
            allocation |= {"state": "error", "last_error": error.message, "updated_at": self.world.now()}
            raise error
        self.conductor.assign(allocation, node)

    def _delete_allocation(self, allocation: Record) -> None:
        node = self.world.nodes.get(allocation["node_uuid"] or "")
        if node is not None:
            self.conductor.lock(node)
            state = node["provision_state"]
            words = f"Cannot remove allocation {allocation['uuid']} for node {node['uuid']}, because the node is"
            if not node["maintenance"]:
                if node["target_provision_state"] and state not in machine.UPDATE_ALLOWED_STATES:
                    raise conflict(
                        f"{words} in state {state} where updates are not allowed (and maintenance mode is off)"
                    )
                if state == machine.ACTIVE:
                    raise conflict(f"{words} active (and maintenance mode is off)")
        self.conductor.release(allocation)


def new_node(world: World, node_uuid: str, fields: Mapping[str, Any]) -> Record:
    """The node exists, with Ironic's defaults for what is not named."""
    given = {name: value for name, value in fields.items() if value is not None}
    defaults = HARDWARE_TYPES[given.get("driver", NODE_DEFAULTS["driver"])]
    node: Record = {
        "id": world.next_id(),
        "uuid": node_uuid,
        "created_at": world.now(),
        "updated_at": None,
        **copy.deepcopy(dict(NODE_DEFAULTS)),
        **{f"{name}_interface": defaults[name] for name in INTERFACES},
        **copy.deepcopy(given),
    }
    world.nodes[node_uuid] = node
    world.bmcs[node_uuid] = Bmc(power=node["power_state"] or machine.POWER_OFF)
    return node


def new_record(world: World, kind: Kind, record_uuid: str, fields: Mapping[str, Any]) -> Record:
    """The record exists, with Ironic's defaults for what is not named."""
    record: Record = {
        "id": world.next_id(),
        "uuid": record_uuid,
        "created_at": world.now(),
        "updated_at": None,
        **copy.deepcopy(dict(kind.defaults)),
        **{name: copy.deepcopy(value) for name, value in fields.items() if value is not None},
    }
    world.table(kind)[record_uuid] = record
    return record


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


def _check_config_drive(config_drive: dict[str, Any] | str, minor: int) -> None:
    if isinstance(config_drive, str):
        if "://" not in config_drive and not set(config_drive) <= _BASE64:
            raise bad_request("Invalid configdrive format: it is neither a JSON, nor a URL, nor a base64 string")
        return
    types: dict[str, type | tuple[type, ...]] = {
        "meta_data": dict,
        "network_data": dict,
        "user_data": (dict, list, str, type(None)),
        "vendor_data": dict,
    }
    for name, value in config_drive.items():
        if name not in types:
            raise bad_request(
                f"Invalid configdrive format: Additional properties are not allowed ('{name}' was unexpected)"
            )
        if not isinstance(value, types[name]):
            raise bad_request(f"Invalid configdrive format: {value!r} is not of type 'object'")
    if minor < 56:
        raise bad_request("Providing a JSON object for configdrive is only supported starting with API version 1.56")
    if "vendor_data" in config_drive and minor < 59:
        raise bad_request("Providing vendor_data in configdrive is only supported starting with API version 1.59")


def _check_steps(steps: Any, what: str, allowed: frozenset[str], required: frozenset[str]) -> list[Record]:
    """The steps, if each has what a step needs."""
    if not isinstance(steps, list):
        raise bad_request(f"Invalid {what}_steps: {steps!r} is not of type 'array'")
    for step in steps:
        if not isinstance(step, dict):
            raise bad_request(f"Invalid {what}_steps: {step!r} is not of type 'object'")
        if missing := sorted(required - set(step)):
            raise bad_request(f"Invalid {what}_steps: {missing[0]!r} is a required property")
        if unknown := sorted(set(step) - allowed):
            raise bad_request(
                f"Invalid {what}_steps: Additional properties are not allowed ({unknown[0]!r} was unexpected)"
            )
        if step["interface"] not in _STEP_INTERFACES:
            raise bad_request(f"Invalid {what}_steps: {step['interface']!r} is not one of {list(_STEP_INTERFACES)}")
    return copy.deepcopy(steps)
