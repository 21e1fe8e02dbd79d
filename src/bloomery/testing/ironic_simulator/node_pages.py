"""The pages about nodes: list, create, show, patch, delete, and what hangs on a node.

Source: ironic api/controllers/v1/node.py and conductor/manager.py (39.0).
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from bloomery.testing.http_simulator import Response
from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    bad_request,
    conflict,
    is_associated,
    is_protected,
    method_not_allowed,
    no_such_page,
    not_acceptable,
    not_found,
)
from bloomery.testing.ironic_simulator.pages import ALWAYS_SORTABLE, PAGE_ARGUMENTS, Call, Pages
from bloomery.testing.ironic_simulator.records import (
    CREATABLE_NODE_FIELDS,
    HARDWARE_TYPES,
    NODE_FIELD_SINCE,
    NODE_FIELDS,
    NODE_LIST_FIELDS,
    PATCHABLE_NODE_FIELDS,
    UNSORTABLE,
    Record,
    apply_patch,
    check_fields,
    check_node_name,
    check_patch,
    check_trait,
    check_unique,
    check_version,
    is_logical_name,
    is_uuid,
    patched_values,
    show_node,
)

_BRIEF_NODE_FIELDS = ("instance_uuid", "maintenance", "power_state", "provision_state", "uuid", "name")
_FAULTS = ("power failure", "clean failure", "rescue abort failure", "service failure")
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
_HISTORY_FIELDS = frozenset({"id", "uuid", "created_at", "severity", "event_type", "event", "conductor", "user"})


class NodePages(Pages):
    """Everything under `/v1/nodes` but what asks for a change of state."""

    def _list_nodes(self, call: Call, *, is_detail: bool = False) -> Response:
        call.check_query({*_NODE_FILTERS, *PAGE_ARGUMENTS, "fields", "detail"})
        fields = None if is_detail else self._wanted_fields(call, _BRIEF_NODE_FIELDS)
        check_version([*(call.words("fields") or ()), call.argument("sort_key") or ""], NODE_FIELD_SINCE, call.minor)
        found = self._filter_nodes(call)
        unknown = [name for name in fields or () if name not in NODE_LIST_FIELDS | {"updated_at", "created_at"}]
        if unknown:
            raise ApiError(500, f"type object 'Node' has no attribute '{unknown[0]}'")
        what = "nodes/detail" if is_detail else "nodes"
        page, following = self._page(call, found, what, fields, NODE_LIST_FIELDS | ALWAYS_SORTABLE, UNSORTABLE, "Node")
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
        node = self.world.add_node(node_uuid, fields)
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

    def _maintenance(self, call: Call, node: Record) -> Response:
        given = call.arguments({"reason"})
        self.conductor.lock(node)
        if call.method == "PUT":
            self.conductor.save(node, maintenance=True, maintenance_reason=given.get("reason"))
        else:
            self.conductor.save(node, maintenance=False, maintenance_reason=None, fault=None)
        return Response(202)

    def _validate(self, node: Record) -> Response:
        return Response(
            200,
            {
                name: {"result": problem is None} | ({"reason": problem} if problem else {})
                for name, problem in self.conductor.validate(node).items()
            },
        )

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

    def _inventory(self, node: Record) -> Response:
        inventory = self.world.inventories.get(node["uuid"])
        if inventory is None:
            raise not_found(f"Node inventory record for node {node['id']} could not be found.")
        return Response(200, copy.deepcopy(inventory))

    def _history(self, call: Call, node: Record) -> Response:
        call.check_query({*PAGE_ARGUMENTS, "detail"})
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
