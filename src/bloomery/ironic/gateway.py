"""Everything that Bloomery asks of Ironic, a method each; and for each that changes something, how to see that it did.

A reply is not the truth, the node is: when a request that changes something fails in a way that leaves its effect open,
the method reads back and decides by what it finds. 409 is never read as anything else than "look": the node may be locked,
taken by somebody else, or already as it was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from bloomery.deadline import Deadline
from bloomery.errors import (
    InterfaceFailed,
    InvalidRequest,
    NodeClaimed,
    NodeLocked,
    NodeNotFound,
    NodeTakenAway,
    NodeUnavailable,
    OperationTimedOut,
    RequestRefused,
    ServiceTooOld,
    ServiceUnavailable,
)
from bloomery.ironic.features import FLOOR, NEWEST, Feature, Features, dotted
from bloomery.ironic.models import (
    FLEET_FIELDS,
    MARK,
    NODE_FIELDS,
    WATCH_FIELDS,
    Allocation,
    Conductor,
    Console,
    Driver,
    FirmwareComponent,
    HistoryEvent,
    Node,
    Port,
    PortGroup,
    Validation,
    Vif,
    VolumeConnector,
    VolumeTarget,
)
from bloomery.rest.failures import Failure, Kind, RequestFailure
from bloomery.rest.gate import LONGEST_PAUSE_S
from bloomery.rest.pages import every_page
from bloomery.rest.pages import next_marker as marker_after
from bloomery.rest.retries import certainly, translated
from bloomery.rest.transport import Reply, Transport
from bloomery.secret import Secret
from bloomery.states import MAY_BE_UPDATED, TAKEN_UP, Power, Provision

T = TypeVar("T")
P = TypeVar("P", bound="_Page")

PAGE = 1000
"""Nodes per page of a list; Ironic's own limit unless its operator chose another."""

SPURIOUS_CONFLICTS = 6
"""409 so often in a row, from a node that nobody holds, is meant."""

_MAY_HAVE_ARRIVED = frozenset({Failure.LOST, Failure.GARBLED, Failure.BROKEN})
"""After these nobody knows; 409, 429, 503 and 4xx are Ironic's own word that it has not done it."""

_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,255}")
_RESERVED_NAMES = frozenset({"detail", "maintenance", "management", "states", "validate", "vendor_passthru"})

Patch = list[dict[str, object]]
ReadBack = Callable[[RequestFailure], "T | None"]


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list. Ironic gives `next` only where more follows; its own maximum may be below the limit asked for."""

    rows: Sequence[Node | Port | PortGroup | VolumeConnector | VolumeTarget | Allocation]
    next: str | None = None

    @property
    def last_if_more(self) -> str | None:
        """The last thing on it, if more follows."""
        return self.rows[-1].uuid if self.next is not None and self.rows else None


class _Nodes(_Page, frozen=True):
    rows: list[Node] = msgspec.field(name="nodes")


class _Ports(_Page, frozen=True):
    rows: list[Port] = msgspec.field(name="ports")


class _PortGroups(_Page, frozen=True):
    rows: list[PortGroup] = msgspec.field(name="portgroups")


class _Vifs(msgspec.Struct, frozen=True):
    vifs: list[Vif]


class _Connectors(_Page, frozen=True):
    rows: list[VolumeConnector] = msgspec.field(name="connectors")


class _Targets(_Page, frozen=True):
    rows: list[VolumeTarget] = msgspec.field(name="targets")


class _Allocations(_Page, frozen=True):
    rows: list[Allocation] = msgspec.field(name="allocations")


class _Conductors(msgspec.Struct, frozen=True):
    conductors: list[Conductor]


class _Drivers(msgspec.Struct, frozen=True):
    drivers: list[Driver]


class _History(msgspec.Struct, frozen=True):
    history: list[HistoryEvent]


class _Firmware(msgspec.Struct, frozen=True):
    firmware: list[FirmwareComponent]


class Ironic:
    """Ironic, as far as Bloomery needs it. Cheap to copy for another deadline; safe to share between threads.

    Args:
        transport: sends the requests.
        features: what this Ironic offers.
        deadline: until when its methods may take.
    """

    def __init__(self, transport: Transport, features: Features, deadline: Deadline) -> None:
        self.transport = transport
        self.features = features
        self.deadline = deadline

    @classmethod
    def connect(cls, transport: Transport, deadline: Deadline) -> Ironic:
        """A gateway that speaks the newest version which both sides know.

        Raises:
            ServiceTooOld: this Ironic knows nothing that we can do with.
            GatewayError: it cannot be reached, or does not let us in.
        """
        doing = "asking for its version"
        try:
            reply = certainly("Ironic", doing, lambda s: transport.request("GET", "", timeout_s=s), deadline=deadline)
        except OperationTimedOut as problem:
            # Nothing was to be done but to reach it: that it was not is the news, and how long that was tried is none.
            failed = problem.__cause__
            if isinstance(failed, RequestFailure):
                raise translated("Ironic", doing, failed) from problem
            raise ServiceUnavailable(f"Ironic cannot be reached, {doing}", reason=problem.message) from problem
        newest = _version(reply.headers.get("x-openstack-ironic-api-maximum-version"))
        oldest = _version(reply.headers.get("x-openstack-ironic-api-minimum-version"))
        if newest is None:
            raise ServiceTooOld(
                f"{transport.root} is no Ironic", reason="its answer has no API version", advice="Check the endpoint"
            )
        spoken = min(newest, NEWEST)
        if spoken < FLOOR or (oldest is not None and oldest > spoken):
            raise ServiceTooOld(
                f"this Ironic speaks API {dotted(oldest or newest)} to {dotted(newest)}",
                reason=f"Bloomery needs {dotted(FLOOR)} or newer",
                advice="Upgrade Ironic to 2023.1 or newer",
            )
        for name in ("X-OpenStack-Ironic-API-Version", "OpenStack-API-Version"):
            transport.headers[name] = dotted(spoken) if name.startswith("X-") else f"baremetal {dotted(spoken)}"
        return cls(transport, Features(spoken), deadline)

    def within(self, deadline: Deadline) -> Ironic:
        """The same Ironic, for work that has another deadline."""
        return Ironic(self.transport, self.features, deadline)

    # Requests

    def _read(
        self,
        path: str,
        kind: type[T],
        *,
        doing: str,
        query: Mapping[str, Any] | None = None,
        bulk: bool = False,
        may_be_missing: bool = False,
    ) -> T:
        """What is at the path. Unless it may be missing, 404 means that the node is, and is believed the second time."""
        try:
            return certainly(
                "Ironic",
                doing,
                lambda s: self.transport.request("GET", path, query=query, timeout_s=s, bulk=bulk).decode(kind),
                deadline=self.deadline,
                kind=Kind.LOOK_UP if may_be_missing else Kind.READ,
            )
        except RequestRefused as refusal:
            if refusal.status != 404 or may_be_missing:
                raise
            raise NodeNotFound(
                f"the node is not there, {doing}", reason=refusal.reason, request_id=refusal.request_id
            ) from refusal

    def _pages(
        self,
        path: str,
        kind: type[P],
        *,
        of: str,
        doing: str,
        query: Mapping[str, Any] | None = None,
        bulk: bool = False,
    ) -> Iterator[P]:
        """A list's pages, to its end."""

        def read(marker: str | None) -> P:
            after = {} if marker is None else {"marker": marker}
            return self._read(path, kind, doing=doing, query={**(query or {}), **after} or None, bulk=bulk)

        return every_page(read, lambda page: page.last_if_more, what=f"Ironic gave a list of {of}")

    def _look_up(
        self, path: str, kind: type[T], *, doing: str, query: Mapping[str, Any] | None = None, was_there: bool = False
    ) -> T | None:
        try:
            return self._read(path, kind, doing=doing, query=query, may_be_missing=not was_there)
        except RequestRefused as refusal:
            # 400: a name that Ironic could never have given, such as one with a space in it.
            if refusal.status in (404, 400):
                return None
            raise

    def _write(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        read_back: ReadBack[T],
        result: Callable[[Reply], T],
        body: object = None,
        query: Mapping[str, Any] | None = None,
        takes_worker: bool = False,
        at_turn: Callable[[], None] | None = None,
    ) -> T:
        """The change is made, or found made. One that takes a worker of a conductor waits until there is one."""

        def send(timeout_s: float) -> T:
            wire = _revealed(body)
            return result(self.transport.request(method, path, body=wire, query=query, timeout_s=timeout_s))

        gate = self.transport.gate if takes_worker else None
        return certainly(
            "Ironic",
            doing,
            send,
            deadline=self.deadline,
            kind=Kind.WRITE,
            read_back=read_back,
            gate=gate,
            at_turn=at_turn,
        )

    # Nodes, read

    def node(self, node_uuid: str, *, fields: Sequence[str] = NODE_FIELDS, whole: bool = False) -> Node:
        """The node.

        Args:
            node_uuid: its UUID.
            fields: what is asked for; `updated_at` cannot be among them.
            whole: everything that Ironic has, `updated_at` included.

        Raises:
            NodeNotFound: Ironic shows no such node, and was asked twice.
        """
        query = None if whole else {"fields": ",".join(self._known(fields))}
        try:
            return self._read(f"/nodes/{_part(node_uuid)}", Node, doing=f"reading node {node_uuid}", query=query)
        except NodeNotFound as missing:
            missing.node_uuid = node_uuid
            raise

    def find_node(self, name_or_uuid: str, *, fields: Sequence[str] = NODE_FIELDS) -> Node | None:
        """The node of that name or UUID, if Ironic shows one."""
        if not _may_be_a_name(name_or_uuid):
            return None
        return self._look_up(
            f"/nodes/{_part(name_or_uuid)}",
            Node,
            doing=f"looking for node {name_or_uuid}",
            query={"fields": ",".join(self._known(fields))},
        )

    def node_of(self, instance_uuid: str, *, fields: Sequence[str] = NODE_FIELDS) -> Node | None:
        """The node that carries the instance, if Ironic shows one."""
        nodes = self._read(
            "/nodes",
            _Nodes,
            doing=f"looking for instance {instance_uuid}",
            query={"instance_uuid": instance_uuid, "fields": ",".join(self._known(fields))},
        ).rows
        # A filter that got lost on the way would give every node there is.
        return next((node for node in nodes if node.instance_uuid == instance_uuid), None)

    def nodes(
        self,
        filters: Mapping[str, str | bool] | None = None,
        *,
        fields: Sequence[str] = FLEET_FIELDS,
        page: int = PAGE,
    ) -> Iterator[Node]:
        """Every node that passes the filters, page by page.

        Args:
            filters: Ironic's own: `associated`, `provision_state`, `resource_class`, `maintenance`, `owner`, `shard` ….
            fields: what is asked for.
            page: how many nodes a request asks for.
        """
        query: dict[str, Any] = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in (filters or {}).items()
        }
        query |= {"fields": ",".join(self._known(fields)), "limit": page}
        for answer in self._pages("/nodes", _Nodes, of="nodes", doing="listing nodes", query=query, bulk=True):
            yield from answer.rows

    def newest_changes(self, *, limit: int, marker: str | None = None) -> list[Node]:
        """The nodes that were changed last, the very last one first, with everything that Ironic has of them."""
        query: dict[str, Any] = {"detail": "true", "sort_key": "updated_at", "sort_dir": "desc", "limit": limit}
        if marker is not None:
            query["marker"] = marker
        return self._read("/nodes", _Nodes, doing="asking what has changed", query=query).rows

    def ports(self, node_uuid: str) -> list[Port]:
        """The node's NICs."""
        fields = "uuid,address,node_uuid,portgroup_uuid,pxe_enabled,physical_network,internal_info,extra"
        if self.features.has(Feature.PORT_NAMES):
            fields += ",name"
        query = {"node": node_uuid, "fields": fields}
        doing = f"reading the NICs of node {node_uuid}"
        pages = self._pages("/ports", _Ports, of="NICs", doing=doing, query=query)
        return _of_node(node_uuid, [port for page in pages for port in page.rows])

    def every_port(self) -> Iterator[Port]:
        """The NICs of all nodes, page by page, with what is plugged into them."""
        query: dict[str, Any] = {"fields": "uuid,address,node_uuid,internal_info", "limit": PAGE}
        for page in self._pages("/ports", _Ports, of="NICs", doing="listing NICs", query=query, bulk=True):
            yield from page.rows

    def port_groups(self, node_uuid: str) -> list[PortGroup]:
        """The node's bonds."""
        fields = "uuid,name,address,node_uuid,mode,properties,standalone_ports_supported,internal_info"
        query = {"node": node_uuid, "fields": fields}
        doing = f"reading the bonds of node {node_uuid}"
        pages = self._pages("/portgroups", _PortGroups, of="bonds", doing=doing, query=query)
        return _of_node(node_uuid, [group for page in pages for group in page.rows])

    def vifs(self, node_uuid: str) -> list[str]:
        """The VIFs that are plugged into the node."""
        answer = self._read(f"/nodes/{_part(node_uuid)}/vifs", _Vifs, doing=f"reading the VIFs of node {node_uuid}")
        return [vif.id for vif in answer.vifs]

    def validation(self, node_uuid: str) -> dict[str, Validation]:
        """What each of the node's interfaces says to the deploy that its `instance_info` describes."""
        return self._read(
            f"/nodes/{_part(node_uuid)}/validate", dict[str, Validation], doing=f"validating node {node_uuid}"
        )

    def inventory(self, node_uuid: str) -> dict[str, Any] | None:
        """The hardware, as inspection found it; None where no inspection has."""
        return self._look_up(
            f"/nodes/{_part(node_uuid)}/inventory", dict[str, Any], doing=f"reading the inventory of node {node_uuid}"
        )

    def history(self, node_uuid: str) -> list[HistoryEvent]:
        """What Ironic itself noted about the node, mostly errors."""
        return self._read(
            f"/nodes/{_part(node_uuid)}/history", _History, doing=f"reading the history of node {node_uuid}"
        ).history

    def firmware(self, node_uuid: str) -> list[FirmwareComponent]:
        """The firmware of the node's parts, as far as its firmware interface has noted it.

        Raises:
            NotSupported: this Ironic has no word for it.
        """
        self.features.need(Feature.FIRMWARE)
        return self._read(
            f"/nodes/{_part(node_uuid)}/firmware", _Firmware, doing=f"reading the firmware of node {node_uuid}"
        ).firmware

    def conductors(self) -> list[Conductor]:
        """Ironic's conductors, alive or not."""
        return self._read("/conductors", _Conductors, doing="listing conductors", query={"detail": "true"}).conductors

    def drivers(self) -> list[Driver]:
        """The hardware types that Ironic serves."""
        return self._read("/drivers", _Drivers, doing="listing drivers").drivers

    # Nodes, changed

    def update(self, node: Node, patch: Patch, *, is_so: Callable[[Node], bool], doing: str) -> Node:
        """The node's fields are changed, and `is_so` holds of it.

        Waits while Ironic is busy with the node and takes no change. A node that carries our mark is changed only while it
        carries that of the same instance: the guard in the mark sees to that, within the same request.

        Args:
            node: the node as it was last seen.
            patch: a JSON patch.
            is_so: whether a node shows the wanted change; by this a lost reply is judged.
            doing: what the change is, for messages.

        Raises:
            NodeTakenAway: the node has lost our mark, or come to carry another instance or none, meanwhile.
            NodeLocked: Ironic was busy with it until the deadline.
        """

        guards = node.guards if node.mark is not None else []

        def read_back(problem: RequestFailure) -> Node | None:
            now = self.node(node.uuid)
            if is_so(now):
                return now
            is_refused = problem.failure is Failure.REJECTED
            theirs = (node.instance_uuid,) if is_refused else (node.instance_uuid, None)
            if node.instance_uuid is not None and now.instance_uuid not in theirs:
                raise _taken_away(now, doing)
            if guards and guards != now.guards:
                raise _taken_away(now, doing)
            self._blocked_or_raise(now, problem, doing)
            return None

        return self._write(
            "PATCH",
            f"/nodes/{_part(node.uuid)}",
            doing=doing,
            read_back=read_back,
            result=lambda reply: reply.decode(Node),
            body=[*guards, *patch],
        )

    def claim(
        self,
        node: Node,
        instance_uuid: str,
        mark: Mapping[str, object],
        *,
        check: Callable[[Node], None] = lambda _now: None,
    ) -> Node:
        """The node carries the instance and our mark.

        Args:
            node: the node as it was last seen.
            instance_uuid: the instance.
            mark: the mark.
            check: is shown the node where it does not let itself be claimed at once; raises if it is not worth waiting for.

        Raises:
            NodeClaimed: it carries another instance.
        """
        doing = f"claiming node {node.label}"

        def read_back(problem: RequestFailure) -> Node | None:
            now = self.node(node.uuid)
            if now.instance_uuid == instance_uuid and now.mark is not None:
                return now
            if now.instance_uuid not in (None, instance_uuid):
                raise NodeClaimed(
                    f"node {now.label} belongs to instance {now.instance_uuid}",
                    advice="Choose another node, or none and let Ironic choose",
                    node_uuid=node.uuid,
                )
            check(now)
            self._blocked_or_raise(now, problem, doing)
            return None

        return self._write(
            "PATCH",
            f"/nodes/{_part(node.uuid)}",
            doing=doing,
            read_back=read_back,
            result=lambda reply: reply.decode(Node),
            body=[
                {"op": "add", "path": "/instance_uuid", "value": instance_uuid},
                {"op": "add", "path": f"/extra/{MARK}", "value": dict(mark)},
            ],
        )

    def release(self, node: Node, instance_uuid: str, *, is_fresh: bool = False) -> Node:
        """The node carries neither the instance nor what we wrote for it. One change, so that it is never half free.

        A node that carries another instance is left alone, also if it came to carry it just now: the patch is guarded.

        Args:
            node: the node.
            instance_uuid: the instance.
            is_fresh: whether the node was looked at just now, with all fields, and need not be again.
        """

        def ours_is_gone(now: Node) -> bool:
            others = now.instance_uuid not in (None, instance_uuid)
            mark = now.any_mark
            return others or (
                now.instance_uuid is None and (mark is None or mark.get("instance_uuid") != instance_uuid)
            )

        while True:
            now = node if is_fresh else self.node(node.uuid)
            is_fresh = False
            if ours_is_gone(now):
                return now
            patch: Patch = now.guards if now.mark is None else []
            if now.instance_uuid is None and now.instance_info and now.state is not Provision.ACTIVE:
                patch.append({"op": "add", "path": "/instance_info", "value": {}})
            if now.any_mark is not None:
                patch.append({"op": "remove", "path": f"/extra/{MARK}"})
            if now.instance_uuid == instance_uuid:
                if now.instance_info:
                    patch.append({"op": "add", "path": "/instance_info", "value": {}})
                patch.append({"op": "remove", "path": "/instance_uuid"})
            try:
                return self.update(now, patch, is_so=ours_is_gone, doing=f"releasing node {node.label}")
            except NodeTakenAway:
                continue
            except RequestRefused as refusal:
                # 400 where a field of the patch has gone since we looked: look again. Anything else is meant.
                if refusal.status != 400 or self.node(node.uuid) == now:
                    raise

    def provision(
        self,
        node: Node,
        target: str,
        *,
        config_drive: Secret[Any] | None = None,
        deploy_steps: Sequence[Mapping[str, object]] | None = None,
        rescue_password: Secret[str] | None = None,
        check: Callable[[Node], None] | None = None,
    ) -> str | None:
        """Ironic has taken up the request to bring the node to the target.

        Args:
            node: the node as it was last seen: what has changed against it tells whether a lost request was taken up.
            target: Ironic's verb: `active`, `rebuild`, `deleted`, `rescue`, `unrescue` or `abort`.
            config_drive: JSON for Ironic to build one of, or one that is built, in base64 of gzip.
            deploy_steps: in addition to those that Ironic takes anyway.
            rescue_password: for `rescue`.
            check: is shown the node as it is right before the request is sent, which may be long after it was last seen;
                raises if it must not be sent. None sends it without another look, unless it had to wait for its turn.

        Returns:
            The request's id in Ironic's log; None where its reply was lost.

        Raises:
            NodeTakenAway: the node carries another instance.
            NodeUnavailable: the request does not fit the node's state.
            RequestRefused: Ironic refuses it for another reason.
        """
        body: dict[str, object] = {"target": target}
        if config_drive is not None:
            body["configdrive"] = config_drive
        if deploy_steps:
            body["deploy_steps"] = [dict(step) for step in deploy_steps]
        if rescue_password is not None:
            body["rescue_password"] = rescue_password
        doing = f"asking Ironic to bring node {node.label} to {target!r}"
        before = node
        asked_as: str | None = None

        def taken_up(reply: Reply) -> bool:
            nonlocal asked_as
            asked_as = reply.request_id
            return True

        def look() -> None:
            nonlocal before
            before = self.node(node.uuid)
            if check is not None:
                check(before)

        def read_back(problem: RequestFailure) -> bool | None:
            now = self.node(node.uuid, fields=WATCH_FIELDS)
            if before.instance_uuid is not None and now.instance_uuid not in (before.instance_uuid, None):
                raise _taken_away(now, doing)
            # It may have moved on by itself, without our request: only where ours leads to counts.
            if _progress_of(now) != _progress_of(before) and now.state in TAKEN_UP[target]:
                return True
            self._blocked_or_raise(now, problem, doing)
            if problem.failure is Failure.REJECTED and problem.status == 400:
                raise NodeUnavailable(
                    f"Ironic does not take node {node.label} from {now.provision_state!r} to {target!r}",
                    reason=problem.reason,
                    node_uuid=node.uuid,
                    request_id=problem.request_id,
                )
            return None

        self._write(
            "PUT",
            f"/nodes/{_part(node.uuid)}/states/provision",
            doing=doing,
            read_back=read_back,
            result=taken_up,
            body=body,
            takes_worker=True,
            at_turn=look if check is not None else None,
        )
        return asked_as

    def set_power(
        self, node_uuid: str, target: Power, *, timeout_s: float | None = None, is_last: bool = True
    ) -> str | None:
        """Ironic has taken up the request to change the node's power.

        Args:
            node_uuid: the node.
            target: ON, OFF, SOFT_OFF or REBOOT.
            timeout_s: how long Ironic itself waits for the change.
            is_last: whether it does no harm if Ironic carries it out once more, later: no other change follows it.

        Returns:
            The request's id in Ironic's log; None where its reply was lost.

        Raises:
            NodeUnavailable: the node's state or its power interface does not allow it.
            ServiceUnavailable: what must not be done twice was not answered in time, and may be carried out or not.
        """
        before = self.node(node_uuid, whole=True)
        doing = f"asking Ironic for {target.value!r} of node {before.label}"
        body: dict[str, object] = {"target": target.value}
        asked_as: str | None = None

        def taken_up(reply: Reply) -> bool:
            nonlocal asked_as
            asked_as = reply.request_id
            return True

        if timeout_s is not None:
            body["timeout"] = max(1, round(timeout_s))
        wanted = {Power.ON: Power.ON, Power.OFF: Power.OFF, Power.SOFT_OFF: Power.OFF}.get(target)

        def read_back(problem: RequestFailure) -> bool | None:
            now = self.node(node_uuid, whole=True)
            may_be_ours = problem.failure in _MAY_HAVE_ARRIVED
            if may_be_ours and now.target_power_state is not None:
                # Only one power action can be under way; if it is not ours we wait for it, and the check after it tells.
                return True if before.target_power_state is None else None
            is_at_rest = now.target_power_state is None and now.last_error is None
            if wanted is not None and now.power_state == wanted and is_at_rest:
                return True
            has_moved = now.updated_at != before.updated_at and now.reservation is None
            if may_be_ours and wanted is None and has_moved and is_at_rest:
                return True  # it has come and gone: a reboot leaves no other trace
            if (wanted is None or not is_last) and problem.may_arrive_yet:
                # Sent again, it could be the second: the first may be carried out whenever Ironic gets to it.
                raise translated("Ironic", f"{doing}; it may be carried out yet", problem) from problem
            self._blocked_or_raise(now, problem, doing)
            if problem.failure is Failure.REJECTED:
                raise NodeUnavailable(
                    f"node {now.label} takes no {target.value!r}",
                    reason=problem.reason,
                    node_uuid=node_uuid,
                    request_id=problem.request_id,
                )
            return None

        self._write(
            "PUT",
            f"/nodes/{_part(node_uuid)}/states/power",
            doing=doing,
            read_back=read_back,
            result=taken_up,
            body=body,
            takes_worker=True,
        )
        return asked_as

    def inject_nmi(self, node_uuid: str) -> None:
        """The node's BMC was asked for a non-maskable interrupt. Sent again only when the first never arrived.

        Raises:
            NodeUnavailable: the node's management interface cannot, or its state does not allow it.
        """
        doing = f"sending an NMI to node {node_uuid}"

        def read_back(problem: RequestFailure) -> bool | None:
            now = self.node(node_uuid, fields=WATCH_FIELDS)
            if problem.failure in _MAY_HAVE_ARRIVED:
                # Nothing on the node shows an NMI, and a second one could hit the kernel while it writes its dump.
                raise translated("Ironic", doing, problem) from problem
            self._blocked_or_raise(now, problem, doing)
            if problem.failure is Failure.REJECTED:
                raise NodeUnavailable(
                    f"node {now.label} takes no NMI",
                    reason=problem.reason,
                    node_uuid=node_uuid,
                    request_id=problem.request_id,
                )
            return None

        self._write(
            "PUT",
            f"/nodes/{_part(node_uuid)}/management/inject_nmi",
            doing=doing,
            read_back=read_back,
            result=lambda _reply: True,
            body={},
        )

    def _blocked_or_raise(self, now: Node, problem: RequestFailure, doing: str) -> None:
        """Return if it is worth sending the request again; raise if the node says that it never will be taken."""
        if problem.failure is not Failure.CONFLICT:
            return
        where = {"reason": problem.reason, "node_uuid": now.uuid, "request_id": problem.request_id}
        if now.reservation is None and now.state in MAY_BE_UPDATED:
            # Nobody holds the node now. A lock that has just gone explains a few such answers in a row, not many.
            if problem.times >= SPURIOUS_CONFLICTS:
                raise NodeUnavailable(f"Ironic refuses, {doing}", **where)
            return
        problem.times = 0
        if self.deadline.remaining_s <= LONGEST_PAUSE_S:
            holder = f"{now.reservation} " if now.reservation else ""
            raise NodeLocked(f"Ironic is busy with node {now.label} ({holder}{now.provision_state}), {doing}", **where)

    def _look_whether_blocked(self, node_uuid: str, problem: RequestFailure, doing: str) -> None:
        """As `_blocked_or_raise`, for those who have not looked at the node."""
        if problem.failure is Failure.CONFLICT:
            self._blocked_or_raise(self.node(node_uuid, fields=WATCH_FIELDS), problem, doing)

    def _known(self, fields: Sequence[str]) -> list[str]:
        known = list(fields)
        if self.features.has(Feature.HEALTH) and fields is not WATCH_FIELDS:
            known.append("health")
        if self.features.has(Feature.SERVICE):
            known.append("service_step")
        if self.features.has(Feature.SHARDS) and fields is FLEET_FIELDS:
            known.append("shard")
        return known

    # VIFs

    def attach_vif(
        self, node_uuid: str, vif_id: str, *, port_uuid: str | None = None, port_group_uuid: str | None = None
    ) -> None:
        """The node's VIFs list this one.

        Args:
            node_uuid: the node.
            vif_id: Neutron's port.
            port_uuid: the NIC that it has to be on; None lets Ironic choose.
            port_group_uuid: the bond that it has to be on.

        Raises:
            InterfaceFailed: Ironic refuses it: no free NIC, no such VIF, or no VIFs at all with this network interface.
        """
        doing = f"plugging VIF {vif_id} into node {node_uuid}"
        body: dict[str, object] = {"id": vif_id}
        if port_uuid is not None:
            body["port_uuid"] = port_uuid
        if port_group_uuid is not None:
            body["portgroup_uuid"] = port_group_uuid

        def read_back(problem: RequestFailure) -> bool | None:
            if vif_id in self.vifs(node_uuid):
                return True
            self._vif_refused(node_uuid, problem, f"VIF {vif_id} could not be plugged")
            return None

        path = f"/nodes/{_part(node_uuid)}/vifs"
        self._write("POST", path, doing=doing, read_back=read_back, result=lambda _reply: True, body=body)

    def detach_vif(self, node_uuid: str, vif_id: str) -> None:
        """The node's VIFs do not list this one.

        Raises:
            InterfaceFailed: Ironic refuses to let it go.
        """
        doing = f"unplugging VIF {vif_id} from node {node_uuid}"

        def read_back(problem: RequestFailure) -> bool | None:
            if vif_id not in self.vifs(node_uuid):
                return True
            self._vif_refused(node_uuid, problem, f"VIF {vif_id} could not be unplugged")
            return None

        path = f"/nodes/{_part(node_uuid)}/vifs/{_part(vif_id)}"
        self._write("DELETE", path, doing=doing, read_back=read_back, result=lambda _reply: True)

    def _vif_refused(self, node_uuid: str, problem: RequestFailure, message: str) -> None:
        if problem.failure in (Failure.REJECTED, Failure.MISSING):
            raise InterfaceFailed(message, reason=problem.reason, node_uuid=node_uuid, request_id=problem.request_id)
        self._look_whether_blocked(node_uuid, problem, message)

    # Allocations

    def allocation(self, name_or_uuid: str, *, was_there: bool = False) -> Allocation | None:
        """The allocation of that name or UUID, if Ironic shows one; of one that was there, one 404 is not believed."""
        if not _may_be_a_name(name_or_uuid):
            return None
        path = f"/allocations/{_part(name_or_uuid)}"
        return self._look_up(path, Allocation, doing=f"looking for allocation {name_or_uuid}", was_there=was_there)

    def allocations(self) -> list[Allocation]:
        """Every allocation that these credentials may see."""
        pages = self._pages("/allocations", _Allocations, of="allocations", doing="listing allocations", bulk=True)
        return [allocation for page in pages for allocation in page.rows]

    def allocate(
        self,
        allocation_uuid: str,
        *,
        resource_class: str,
        traits: Iterable[str] = (),
        candidate_nodes: Sequence[str] | None = None,
        name: str | None = None,
        owner: str | None = None,
        extra: Mapping[str, object] | None = None,
        node: str | None = None,
    ) -> Allocation:
        """An allocation with this UUID is there; Ironic chooses the node behind our back, or takes the one given.

        Raises:
            InvalidRequest: the name is taken, or a value is no such thing.
        """
        body: dict[str, object] = {"uuid": allocation_uuid, "resource_class": resource_class, "traits": list(traits)}
        optional = {"candidate_nodes": candidate_nodes, "name": name, "owner": owner, "extra": extra, "node": node}
        body |= {key: value for key, value in optional.items() if value is not None}
        doing = f"asking Ironic for a node of class {resource_class}"

        def read_back(problem: RequestFailure) -> Allocation | None:
            there = self.allocation(allocation_uuid)
            if there is not None:
                return there
            if problem.failure is Failure.CONFLICT and name is not None:
                namesake = self.allocation(name)
                if namesake is not None:
                    raise InvalidRequest(
                        f"an instance is named {name!r} already",
                        reason=f"allocation {namesake.uuid} on node {namesake.node_uuid}",
                        advice="Choose another name, or destroy that instance first",
                    )
            return None

        return self._write(
            "POST",
            "/allocations",
            doing=doing,
            read_back=read_back,
            result=lambda reply: reply.decode(Allocation),
            body=body,
        )

    def delete_allocation(self, allocation_uuid: str) -> None:
        """The allocation is gone, and with it the claim on its node.

        Raises:
            NodeUnavailable: its node is deployed; tearing that down removes the allocation.
        """
        doing = f"deleting allocation {allocation_uuid}"

        def read_back(problem: RequestFailure) -> bool | None:
            there = self.allocation(allocation_uuid)
            if there is None:
                return True
            if problem.failure is Failure.CONFLICT and there.node_uuid is not None:
                holder = self.node(there.node_uuid, fields=WATCH_FIELDS)
                if holder.state is Provision.ACTIVE and holder.reservation is None:
                    raise NodeUnavailable(
                        f"allocation {allocation_uuid} cannot be deleted",
                        reason=problem.reason,
                        node_uuid=holder.uuid,
                        request_id=problem.request_id,
                    )
                self._blocked_or_raise(holder, problem, doing)
            return None

        path = f"/allocations/{_part(allocation_uuid)}"
        self._write("DELETE", path, doing=doing, read_back=read_back, result=lambda _reply: True)

    # Volumes

    def volume_connectors(self, node_uuid: str) -> list[VolumeConnector]:
        """How the node reaches storage."""
        query = {"node": node_uuid, "detail": "true"}
        doing = f"reading the volume connectors of node {node_uuid}"
        pages = self._pages("/volume/connectors", _Connectors, of="volume connectors", doing=doing, query=query)
        return _of_node(node_uuid, [connector for page in pages for connector in page.rows])

    def volume_targets(self, node_uuid: str) -> list[VolumeTarget]:
        """The volumes that the node has."""
        query = {"node": node_uuid, "detail": "true"}
        doing = f"reading the volume targets of node {node_uuid}"
        return _of_node(node_uuid, self._volume_targets(query, doing=doing))

    def every_volume_target(self) -> list[VolumeTarget]:
        """The volumes of all nodes."""
        return self._volume_targets({"detail": "true"}, doing="listing volume targets", bulk=True)

    def _volume_targets(self, query: Mapping[str, Any], *, doing: str, bulk: bool = False) -> list[VolumeTarget]:
        pages = self._pages("/volume/targets", _Targets, of="volume targets", doing=doing, query=query, bulk=bulk)
        return [target for page in pages for target in page.rows]

    def add_volume_target(
        self,
        node_uuid: str,
        *,
        target_uuid: str,
        volume_id: str,
        volume_type: str,
        boot_index: int,
        properties: Secret[Mapping[str, object]],
        extra: Mapping[str, object],
    ) -> VolumeTarget:
        """The node has this volume.

        Args:
            node_uuid: the node.
            target_uuid: chosen by us, so that a lost reply leaves nothing that we cannot find.
            volume_id: the volume.
            volume_type: `iscsi`, `fibre_channel` ….
            boot_index: 0 is what the node boots from.
            properties: how to reach it; may hold CHAP secrets.
            extra: our mark.

        Raises:
            NodeUnavailable: the node has another volume at that boot index, or takes none now.
        """
        doing = f"adding volume {volume_id} to node {node_uuid}"

        def read_back(problem: RequestFailure) -> VolumeTarget | None:
            targets = self.volume_targets(node_uuid)
            for target in targets:
                if target.uuid == target_uuid:
                    return target
            holder = next((target for target in targets if target.boot_index == boot_index), None)
            if problem.failure is Failure.REJECTED or (problem.failure is Failure.CONFLICT and holder is not None):
                raise NodeUnavailable(
                    f"volume {volume_id} cannot be added to node {node_uuid}",
                    reason=f"boot index {boot_index} is that of volume {holder.volume_id}"
                    if holder
                    else problem.reason,
                    node_uuid=node_uuid,
                    request_id=problem.request_id,
                )
            return None

        return self._write(
            "POST",
            "/volume/targets",
            doing=doing,
            read_back=read_back,
            result=lambda reply: reply.decode(VolumeTarget),
            body={
                "uuid": target_uuid,
                "node_uuid": node_uuid,
                "volume_id": volume_id,
                "volume_type": volume_type,
                "boot_index": boot_index,
                "properties": properties,
                "extra": dict(extra),
            },
        )

    def remove_volume_target(self, node_uuid: str, target_uuid: str) -> None:
        """The volume target is gone.

        Raises:
            NodeUnavailable: the node has to be powered off first.
        """
        doing = f"removing volume target {target_uuid} from node {node_uuid}"

        def read_back(problem: RequestFailure) -> bool | None:
            if all(target.uuid != target_uuid for target in self.volume_targets(node_uuid)):
                return True
            if problem.failure is Failure.REJECTED:
                raise NodeUnavailable(
                    f"volume target {target_uuid} cannot be removed",
                    reason=problem.reason,
                    node_uuid=node_uuid,
                    request_id=problem.request_id,
                )
            self._look_whether_blocked(node_uuid, problem, doing)
            return None

        path = f"/volume/targets/{_part(target_uuid)}"
        self._write("DELETE", path, doing=doing, read_back=read_back, result=lambda _reply: True)

    # Consoles

    def console(self, node_uuid: str) -> Console:
        """The node's console, as it is now.

        Raises:
            NodeNotFound: there is no such node.
            NodeUnavailable: the node has none. Some versions of Ironic say that only when it is to be started.
        """
        path = f"/nodes/{_part(node_uuid)}/states/console"
        try:
            return self._read(path, Console, doing=f"asking for the console of node {node_uuid}", may_be_missing=True)
        except RequestRefused as refusal:
            if refusal.status == 404:
                self.node(node_uuid, fields=("uuid",))  # which says so, if it is the node that is not there
            raise NodeUnavailable(
                f"node {node_uuid} has no console",
                reason=refusal.reason,
                advice="Give the node a console interface (`baremetal node set --console-interface`)",
                node_uuid=node_uuid,
                request_id=refusal.request_id,
            ) from refusal

    def set_console(self, node_uuid: str, *, enabled: bool) -> None:
        """Ironic has taken up the request to start or stop the console.

        Raises:
            NodeUnavailable: the node has none.
        """
        doing = f"{'starting' if enabled else 'stopping'} the console of node {node_uuid}"

        def read_back(problem: RequestFailure) -> bool | None:
            if self.console(node_uuid).console_enabled == enabled:
                return True
            if problem.failure is Failure.REJECTED:
                raise NodeUnavailable(f"failed {doing}", reason=problem.reason, node_uuid=node_uuid)
            self._look_whether_blocked(node_uuid, problem, doing)
            return None

        self._write(
            "PUT",
            f"/nodes/{_part(node_uuid)}/states/console",
            doing=doing,
            read_back=read_back,
            result=lambda _reply: True,
            query={"enabled": str(enabled).lower()},
            takes_worker=True,
        )


OfNode = TypeVar("OfNode", Port, PortGroup, VolumeConnector, VolumeTarget)


def _of_node(node_uuid: str, found: Iterable[OfNode]) -> list[OfNode]:
    """Those that are the node's own: what is done with them must not hit another's, should the filter get lost on the way."""
    return [one for one in found if one.node_uuid in (None, node_uuid)]


def next_marker(page: Sequence[Node], asked: set[str]) -> str:
    """The node after which the next page begins; it is added to those that were asked for.

    Raises:
        UnexpectedReply: the list goes round in circles, or has no end.
    """
    return marker_after(page[-1].uuid, asked, what="Ironic gave a list of nodes")


def _progress_of(node: Node) -> tuple[str | None, str | None, str | None]:
    return node.provision_state, node.target_provision_state, node.provision_updated_at


def _taken_away(now: Node, doing: str) -> NodeTakenAway:
    return NodeTakenAway(
        f"node {now.label} has come to carry instance {now.instance_uuid or 'none'}, {doing}", node_uuid=now.uuid
    )


def _may_be_a_name(text: str) -> bool:
    """Whether Ironic could have given that name; others would lead to another page of its API than a node's."""
    return bool(_NAME.fullmatch(text)) and text not in _RESERVED_NAMES


def _part(text: str) -> str:
    """A name or UUID from outside as one part of a path."""
    return quote(text, safe="")


def _version(text: str | None) -> tuple[int, int] | None:
    major, _, minor = (text or "").partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _revealed(value: object) -> object:
    """The value as it goes to the wire."""
    if isinstance(value, Secret):
        return _revealed(value.reveal())
    if isinstance(value, Mapping):
        return {key: _revealed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_revealed(part) for part in value]
    return value
