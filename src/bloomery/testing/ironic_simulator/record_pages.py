"""The pages about ports, port groups, volumes and allocations.

Source: ironic api/controllers/v1/{port,portgroup,volume_target,volume_connector,allocation}.py (39.0).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from bloomery.testing.http_simulator import Response
from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    bad_request,
    conflict,
    is_associated,
    method_not_allowed,
    not_acceptable,
    not_found,
    state_refused,
)
from bloomery.testing.ironic_simulator.pages import ALWAYS_SORTABLE, PAGE_ARGUMENTS, Call, Pages
from bloomery.testing.ironic_simulator.records import (
    ALLOCATION,
    PORT,
    PORTGROUP,
    VOLUME_CONNECTOR,
    VOLUME_TARGET,
    Kind,
    Record,
    apply_patch,
    check_fields,
    check_mac,
    check_patch,
    check_trait,
    check_unique,
    check_version,
    is_logical_name,
    show,
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


class RecordPages(Pages):
    """Lists and records of every kind but nodes."""

    def _route_kind(self, call: Call, kind: Kind, rest: list[str]) -> Response:
        match call.method, rest:
            case "GET", []:
                return self._list(call, kind)
            case "GET", ["detail"] if kind in (PORT, PORTGROUP):
                return self._list(call, kind, is_detail=True)
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

    def _list(self, call: Call, kind: Kind, *, is_detail: bool = False, **only: str) -> Response:
        allowed = {*PAGE_ARGUMENTS, "fields", "detail", "node", "node_uuid", "owner", "shard"}
        allowed |= {
            PORT.name: {"address", "portgroup", "description_contains", "conductor_groups"},
            PORTGROUP.name: {"address", "conductor_groups"},
            ALLOCATION.name: {"resource_class", "state"},
        }.get(kind.name, set())
        call.check_query(allowed)
        fields = self._wanted_fields(call, kind.brief) if kind.brief and not is_detail else call.words("fields")
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
            call, found, kind.path, fields, kind.fields | ALWAYS_SORTABLE, kind.unsortable, kind.name
        )
        answer: Record = {kind.collection: [show(kind, record, self._url(), call.minor, fields) for record in page]}
        if following:
            answer["next"] = following
        return Response(200, answer)

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
        return self.world.add_record(kind, record_uuid, fields)

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
        allocation = self.world.add_record(ALLOCATION, allocation_uuid, fields)
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

    def _allocation_of(self, call: Call, ident: str) -> Response:
        node = self._node(ident)
        allocation = self.world.allocations.get(node["allocation_uuid"] or "")
        if allocation is None:
            raise not_found(f"Allocation for node {ident} was not found")
        if call.method == "DELETE":
            return self._delete(ALLOCATION, allocation)
        return Response(200, show(ALLOCATION, allocation, self._url(), call.minor, call.words("fields")))

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
