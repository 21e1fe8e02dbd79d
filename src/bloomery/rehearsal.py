"""Rehearsals: an operation runs through, reads what there is, and changes nothing; what it would have sent is kept.

Requests that only read go to the services. Those that would change something are answered here, as the service would most
likely answer, and shape what later reads show. The rehearsal ends where the operation would begin to wait for a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from bloomery.deadline import Deadline
from bloomery.engine import Observer
from bloomery.ironic import Ironic, Node
from bloomery.neutron import Neutron
from bloomery.operations.run import Services
from bloomery.rest.transport import Detour, Reply, Request, Transport
from bloomery.states import Meaning
from bloomery.watch import Watch

_HIDDEN = {"configdrive", "rescue_password", "properties"}


@dataclass(frozen=True, slots=True)
class RehearsedCall:
    """A request that would have changed something.

    Attributes:
        service: "Ironic" or "Neutron".
        method: the HTTP method.
        path: with the version, as the service knows it.
        body: what would have been sent; secrets are hidden.
    """

    service: str
    method: str
    path: str
    body: Any


class RehearsalOver(BaseException):
    """The operation has come to where it would wait. No Exception, so that nothing is undone that was not done."""


@contextmanager
def rehearsed(services: Services) -> Iterator[tuple[Services, list[RehearsedCall]]]:
    """Services on which an operation changes nothing, and the list of the calls that it would have made."""
    calls: list[RehearsedCall] = []
    stage = _Stage()
    deadline = services.ironic.deadline
    transport = _IronicRehearsal(services.ironic.transport, calls, stage)
    ironic = Ironic(transport, services.ironic.features, deadline)
    neutron = services.neutron
    if neutron is not None:
        neutron = Neutron(_NeutronRehearsal(neutron.transport, calls, stage), deadline)
    try:
        watch = _RehearsalWatch(ironic)
        yield replace(services, ironic=ironic, watch=watch, neutron=neutron, observer=_NothingToUndo()), calls
    except RehearsalOver:
        return


class _NothingToUndo(Observer):
    def unwinding(self, failure: BaseException) -> None:
        """The failure ends the rehearsal: nothing was done, and the calls of an undo are not what was asked for."""
        raise failure


class _Stage:
    """What the rehearsed calls would have changed."""

    def __init__(self) -> None:
        self.patches: dict[str, list[dict[str, Any]]] = {}
        self.plugged: dict[str, list[str]] = {}
        self.unplugged: set[str] = set()
        self.allocations: dict[str, dict[str, Any]] = {}
        self.ports: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()


class _RehearsalWatch(Watch):
    def wait(
        self,
        node_uuid: str,  # noqa: ARG002
        judge: Callable[[Node], Meaning],  # noqa: ARG002
        *,
        deadline: Deadline,  # noqa: ARG002
        doing: str,  # noqa: ARG002
        on_look: Callable[[Node], None] = lambda _node: None,  # noqa: ARG002
        matters: Callable[[str | None], bool] = lambda _provision_state: True,  # noqa: ARG002
    ) -> tuple[Node, Meaning]:
        raise RehearsalOver


class _Rehearsal(Detour):
    """A transport that lets reads through, changed by the stage, and keeps everything else."""

    def __init__(self, real: Transport, calls: list[RehearsedCall], stage: _Stage) -> None:
        super().__init__(real)
        self.calls = calls
        self.stage = stage

    def passed(self, request: Request) -> Reply:
        def read(where: str, query: Mapping[str, Any] | None = None) -> Any:
            reply = self.sent(replace(request, method="GET", path=where, body=None, query=query))
            return msgspec.json.decode(reply.body)

        method, path, body = request.method, request.path, request.body
        if not request.is_write:
            return _reply(self.shown(path, dict(request.query or {}), read))
        self.calls.append(RehearsedCall(self.service, method, self.version_path + path, _shown(body)))
        return _reply(self.answered(method, path, body, read))

    def shown(self, path: str, query: dict[str, Any], read: Callable[..., Any]) -> Any:
        """What a read shows, with what the rehearsed calls would have changed."""
        return read(path, query)

    def answered(self, method: str, path: str, body: Any, read: Callable[..., Any]) -> Any:  # noqa: ARG002
        """What a service would answer to a call that changes something."""
        return {}


class _IronicRehearsal(_Rehearsal):
    def shown(self, path: str, query: dict[str, Any], read: Callable[..., Any]) -> Any:
        stage = self.stage
        match path.strip("/").split("/"):
            case ["allocations", uuid] if uuid in stage.allocations:
                return stage.allocations[uuid]
            case ["nodes", node_uuid]:
                return _patched(read(path, query), stage.patches.get(node_uuid, ()))
            case ["nodes", node_uuid, "vifs"]:
                there = [vif["id"] for vif in read(path)["vifs"]] + stage.plugged.get(node_uuid, [])
                return {"vifs": [{"id": vif_id} for vif_id in there if vif_id not in stage.unplugged]}
            case ["nodes", node_uuid, "validate"] if node_uuid in stage.patches:
                # Ironic judges the node as it is, without what would have been written for the boot and the deploy.
                return {name: verdict for name, verdict in read(path).items() if name not in ("boot", "deploy")}
            case ["ports"] if "node" in query:
                answer = read(path, query)
                self._plug(answer["ports"], str(query["node"]))
                return answer
        return read(path, query)

    def _plug(self, ports: list[dict[str, Any]], node_uuid: str) -> None:
        """The NICs show the VIFs that would be on them; which is on which, Ironic would choose."""
        waiting = [vif_id for vif_id in self.stage.plugged.get(node_uuid, ()) if vif_id not in self.stage.unplugged]
        for port in ports:
            info = port.get("internal_info") or {}
            if waiting and not info.get("tenant_vif_port_id"):
                port["internal_info"] = {**info, "tenant_vif_port_id": waiting.pop(0)}

    def answered(self, method: str, path: str, body: Any, read: Callable[..., Any]) -> Any:
        stage = self.stage
        match (method, *path.strip("/").split("/")):
            case ("PATCH", "nodes", node_uuid):
                stage.patches.setdefault(node_uuid, []).extend(body)
                return _patched(read(path), stage.patches[node_uuid])
            case ("POST", "nodes", node_uuid, "vifs"):
                stage.plugged.setdefault(node_uuid, []).append(body["id"])
            case ("DELETE", "nodes", _, "vifs", vif_id):
                stage.unplugged.add(vif_id)
            case ("POST", "allocations"):
                node_uuid = (body.get("candidate_nodes") or [body.get("node")])[0]
                stage.allocations[body["uuid"]] = {**body, "state": "active", "node_uuid": node_uuid}
                claim = {"op": "add", "path": "/instance_uuid", "value": body["uuid"]}
                stage.patches.setdefault(str(node_uuid), []).append(claim)
                return stage.allocations[body["uuid"]]
            case ("POST", "volume", "targets"):
                return {**body, "properties": {}}
        return {}


class _NeutronRehearsal(_Rehearsal):
    def shown(self, path: str, query: dict[str, Any], read: Callable[..., Any]) -> Any:
        answer = read(path, query)
        if path == "/ports":
            for port in self.stage.ports.values():
                ids = query.get("id", ())
                wanted = port["id"] in ([ids] if isinstance(ids, str) else ids) or port["device_id"] == query.get(
                    "device_id"
                )
                if wanted:
                    answer["ports"].append(port)
            answer["ports"] = [port for port in answer["ports"] if port["id"] not in self.stage.deleted]
        return answer

    def answered(self, method: str, path: str, body: Any, read: Callable[..., Any]) -> Any:
        match (method, *path.strip("/").split("/")):
            case ("POST", "ports"):
                port = dict(body["port"])
                port["id"] = str(uuid5(NAMESPACE_URL, f"rehearsal/{port['device_id']}/{port['name']}"))
                port["fixed_ips"] = []
                self.stage.ports[port["id"]] = port
                return {"port": port}
            case ("DELETE", "ports", port_id):
                self.stage.deleted.add(port_id)
            case ("PUT", "ports", port_id):
                return {"port": {**read(path)["port"], **body["port"]}}
        return {}


def _patched(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The document after a JSON patch, as far as ours use them: add and remove, at most three levels deep."""
    for change in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].strip("/").split("/")]
        place = document
        for part in way:
            place = place.setdefault(part, {}) if isinstance(place.get(part), dict | None) else {}
        if change["op"] == "remove":
            place.pop(last, None)
            if not way:
                place[last] = None
        else:
            place[last] = change["value"]
    return document


def _shown(body: Any) -> Any:
    if isinstance(body, Mapping):
        return {key: "******" if key in _HIDDEN and value else _shown(value) for key, value in body.items()}
    if isinstance(body, list):
        return [_shown(part) for part in body]
    return body


def _reply(document: Any) -> Reply:
    return Reply(200, msgspec.json.encode(document), {}, None)
