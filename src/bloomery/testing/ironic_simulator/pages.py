"""What every page of a played Ironic's API needs: the request as read, records by name, lists by pages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bloomery.testing.http_simulator import RecordedRequest, Response
from bloomery.testing.ironic_simulator.conductor import Conductor
from bloomery.testing.ironic_simulator.errors import ApiError, bad_request, no_such_page, node_not_found, not_found
from bloomery.testing.ironic_simulator.records import (
    MAX_MINOR,
    Kind,
    Record,
    is_logical_name,
    is_uuid,
    to_boolean,
    to_integer,
)
from bloomery.testing.ironic_simulator.vifs import Vifs
from bloomery.testing.ironic_simulator.world import World

PAGE_ARGUMENTS = frozenset({"limit", "marker", "sort_key", "sort_dir"})
ALWAYS_SORTABLE = frozenset({"id", "created_at", "updated_at"})


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


class Pages:
    """The world that the pages show and the conductor that they ask; the caller holds the conductor's condition."""

    def __init__(
        self, world: World, conductor: Conductor, vifs: Vifs, *, url: Callable[[], str], max_minor: int
    ) -> None:
        self.world = world
        self.conductor = conductor
        self.vifs = vifs
        self.max_minor = min(max_minor, MAX_MINOR)
        self._url = url

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
        most = self.conductor.max_limit
        limit = to_integer("limit", call.argument("limit")) if call.argument("limit") is not None else most
        if limit <= 0:
            raise bad_request("Limit must be positive")
        limit = min(limit, most)
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

    def _accepted(self, path: str) -> Response:
        return Response(202, None, {"Location": f"{self._url()}/v1/nodes/{path}"})
