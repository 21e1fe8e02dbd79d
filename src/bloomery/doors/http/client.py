"""The Python client of a service: what `bloomery.connect` gives, over HTTP instead of straight on Ironic.

    from bloomery.doors.http.client import connect
    cloud = connect("https://bloomery.example.org", token="…")
    cloud.deploy(…)

It is used like the library, and raises its errors. What takes long goes on in the service if this process dies.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, NoReturn, cast
from urllib.parse import quote, urlsplit
from uuid import uuid4

import requests
import urllib3

from bloomery import errors
from bloomery.checkup import Check, Verdict
from bloomery.deadline import Cancellation, Deadline
from bloomery.doors.http import console_client
from bloomery.errors import (
    AccessDenied,
    BloomeryError,
    InvalidRequest,
    NotSupported,
    RequestRefused,
    ServiceUnavailable,
)
from bloomery.fleet import Fleet
from bloomery.ironic import Ironic, Node, Port, PortGroup, Validation, VolumeTarget
from bloomery.ironic.models import MARK, FirmwareComponent, HistoryEvent
from bloomery.janitor import Kind as LeakKind
from bloomery.janitor import Leak, Outcome, Survey
from bloomery.janitor import Verdict as LeakVerdict
from bloomery.library import DEPLOY_TIMEOUT_S, POWER_TIMEOUT_S, QUICK_TIMEOUT_S, Bloomery
from bloomery.neutron import Network, SecurityGroup
from bloomery.operations.instances import Instance, Manager
from bloomery.operations.lines import ConsoleAddress
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Guest, Image, Nic, Volume
from bloomery.operations.rescue import new_password
from bloomery.operations.run import OnProgress, Progress, Services, ignore
from bloomery.operations.vifs import PluggedVif
from bloomery.operations.volumes import Connector
from bloomery.rehearsal import RehearsalOver, RehearsedCall
from bloomery.secret import Secret

ANSWER_TIMEOUT_S = 60.0
ATTEMPTS = 5
"""How often a request is sent to a service that does not answer: none does anything twice, because each has a key."""
FIRST_LOOK_S, LONGEST_PAUSE_S = 0.2, 2.0
"""Between two looks at an operation."""
PAGE = 1000


def connect(
    url: str,
    *,
    user: str | None = None,
    password: Secret[str] | None = None,
    token: Secret[str] | None = None,
    verify: bool | str = True,
) -> ServiceClient:
    """A connection to a service.

    Args:
        url: its address.
        user: for a service that takes names and passwords.
        password: his.
        token: for one that takes Keystone's tokens.
        verify: whether to check its certificate, or the file with the certificates to trust.

    Raises:
        InvalidRequest: the address is none.
        AccessDenied, ServiceUnavailable: it cannot be had.
    """
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise InvalidRequest(f"{url!r} is no address of a service", reason=str(problem)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{url!r} is no address of a service", advice="http://127.0.0.1:8780 would be one")
    if parts.username is not None:
        raise InvalidRequest(
            "the service's address has a password in it",
            reason="addresses are shown and logged",
            advice="Set BLOOMERY_SERVICE_USER and BLOOMERY_SERVICE_PASSWORD instead",
        )
    session = requests.Session()
    session.verify = verify
    # Credentials for this host come from the caller, and from no file of his that names it.
    session.trust_env = False
    session.headers["User-Agent"] = "bloomery"
    if user is not None:
        secret = password.reveal() if password is not None else ""
        session.auth = requests.auth.HTTPBasicAuth(user.encode(), secret.encode())
    if token is not None:
        session.headers["X-Auth-Token"] = token.reveal()
    client = ServiceClient(url.rstrip("/"), session)
    try:
        client.about()
    except BloomeryError:
        session.close()
        raise
    # From here on it is known to be there, and one that is being restarted is waited for; a certificate does not get better.
    again = urllib3.Retry(
        total=ATTEMPTS,
        other=0,
        backoff_factor=0.3,
        status_forcelist=(503,),
        allowed_methods=None,
        raise_on_status=False,
    )
    session.close()  # the connection that the adapter before this one has
    session.mount(f"{parts.scheme}://", requests.adapters.HTTPAdapter(max_retries=again))
    return client


class ServiceClient(Bloomery):
    """Instances, as a service sees them. What only a straight connection to Ironic can do says so."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self._session = session

    @property
    def services(self) -> Services:  # type: ignore[override]
        """There are none: the service has them.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(
            "a service does not offer this", advice="Work on Ironic itself, without --service, where you may"
        )

    def close(self) -> None:
        """No connection to the service is open any more."""
        self._session.close()  # review: it sends nothing; what is open is let go

    # HTTP

    def _ask(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """The answer.

        Raises:
            BloomeryError: the service's problem, as the library would have raised it.
        """
        headers = {"Idempotency-Key": str(uuid4())} if method in ("POST", "DELETE") else {}
        try:
            answer = self._session.request(
                method,
                self.url + path,
                json=body,
                params=query,
                headers=headers,
                timeout=ANSWER_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as problem:
            raise ServiceUnavailable(
                f"the service at {self.url} is not trusted", reason=str(problem), advice="Name its CA with --os-cacert"
            ) from None
        except requests.RequestException as problem:
            raise ServiceUnavailable(
                f"the service at {self.url} cannot be reached",
                reason=str(problem),
                advice="`bloomery serve` starts one; --service or BLOOMERY_SERVICE names it",
            ) from None
        if answer.status_code >= 300:
            _raise_problem(answer, self.url)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise errors.UnexpectedReply(f"{self.url} answers, but not as a service of Bloomery does") from None

    def _pages(self, path: str, key: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        page = self._ask("GET", path, query={"limit": PAGE, **(query or {})})
        while True:
            yield from page[key]
            if page["next"] is None:
                return
            page = self._ask("GET", page["next"])

    def _of(self, instance: str, rest: str = "") -> str:
        return f"/v1/instances/{quote(instance, safe='')}{rest}"

    def _carry_out(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        *,
        timeout_s: float,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
        wait: bool = True,
    ) -> dict[str, Any]:
        """The operation, once it has gone well; without `wait`, once it has come to its last step, which is a wait.

        Raises:
            BloomeryError: why it failed.
        """
        operation = self._ask(method, path, body, query)
        deadline = Deadline(timeout_s + ANSWER_TIMEOUT_S, cancellation=cancellation)
        pause_s = FIRST_LOOK_S
        told: tuple[Any, ...] | None = None
        while operation["ended_at"] is None:
            progress = operation["progress"]
            if progress is not None:
                on_progress(_progress(operation))
                if not wait and progress["index"] == progress["total"]:
                    return dict(operation)
            try:
                deadline.pause(pause_s, f"following operation {operation['id']}")
            except errors.OperationCancelled:
                self._ask("POST", f"/v1/operations/{operation['id']}/cancel")
                # It undoes what it began, for which it has time of its own.
                deadline = Deadline(DEPLOY_TIMEOUT_S)
            now = (progress or {}).get("step"), (progress or {}).get("state"), (progress or {}).get("detail")
            pause_s = FIRST_LOOK_S if now != told else min(pause_s * 1.3, LONGEST_PAUSE_S)
            told = now
            operation = self._ask("GET", f"/v1/operations/{operation['id']}")
        if operation["problem"] is not None:
            raise _error_of(operation["problem"])
        return dict(operation)

    # Instances

    def about(self) -> dict[str, Any]:
        """What the service says of itself, and of its caller."""
        found = self._ask("GET", "/v1")
        if not isinstance(found, dict) or "ironic_api" not in found:
            raise errors.UnexpectedReply(f"{self.url} answers, but not as a service of Bloomery does")
        return found

    def deploy(
        self,
        request: DeployRequest,
        *,
        keep_failed: bool = False,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Instance:
        """As the library's."""
        body = {**deploy_body(request), "keep_failed": keep_failed, "timeout_s": timeout_s}
        done = self._carry_out(
            "POST",
            "/v1/instances",
            body,
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
            wait=wait,
        )
        return self.show(str(done["instance_uuid"]))

    def destroy(
        self,
        instance: str,
        *,
        wait_for_cleaning: bool = False,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """As the library's."""
        query = {"wait_for_cleaning": str(wait_for_cleaning).lower(), "timeout_s": timeout_s}
        self._carry_out(
            "DELETE",
            self._of(instance),
            query=query,
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
        )

    def rebuild(
        self,
        instance: str,
        request: RebuildRequest | None = None,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Instance:
        """As the library's."""
        body = {**rebuild_body(request or RebuildRequest()), "timeout_s": timeout_s}
        self._carry_out(
            "POST",
            self._of(instance, "/rebuild"),
            body,
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
            wait=wait,
        )
        return self.show(instance)

    def rescue(
        self,
        instance: str,
        password: Secret[str] | None = None,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Secret[str]:
        """As the library's."""
        password = password or new_password()
        self._carry_out(
            "POST",
            self._of(instance, "/rescue"),
            {"password": password.reveal(), "timeout_s": timeout_s},
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
            wait=wait,
        )
        return password

    def unrescue(
        self,
        instance: str,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """As the library's."""
        self._carry_out(
            "POST",
            self._of(instance, "/unrescue"),
            {"timeout_s": timeout_s},
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
            wait=wait,
        )

    @contextmanager
    def rehearsal(self) -> Iterator[tuple[Bloomery, Sequence[RehearsedCall]]]:
        """As the library's."""
        calls: list[RehearsedCall] = []
        with suppress(RehearsalOver):
            yield _Rehearsing(self.url, self._session, calls), calls

    def checkup(self) -> list[Check]:
        """As the library's, of the service's cloud."""
        rows = self._ask("GET", "/v1/checkup")["checks"]
        return [Check(**{**row, "verdict": Verdict(row["verdict"])}) for row in rows]

    def leaks(self) -> Survey:
        """As the library's, of the service's cloud."""
        found = self._ask("GET", "/v1/leaks")
        return Survey(leaks=tuple(map(_leak, found["leaks"])), blind=tuple(found["blind"]))

    def mend(self, leak: Leak) -> Outcome:
        """As the library's."""
        done = self._ask("POST", "/v1/leaks/mend", asdict(leak))
        problem = _error_of(done["problem"]) if done["problem"] is not None else None
        return Outcome(leak, done["is_gone"], problem)

    def recover(
        self,
        *,
        older_than_s: float = 600.0,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> list[tuple[str, BloomeryError | None]]:
        """As the library's, of the service's cloud."""
        done = self._carry_out(
            "POST",
            "/v1/recover",
            {"older_than_s": older_than_s, "timeout_s": timeout_s},
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
        )
        return [
            (row["node"], _error_of(row["problem"]) if row["problem"] is not None else None)
            for row in done["result"]["nodes"]
        ]

    def adopt(self, instance: str, *, name: str | None = None, timeout_s: float = QUICK_TIMEOUT_S) -> Instance:
        """As the library's."""
        self._carry_out("POST", self._of(instance, "/adopt"), {"name": name}, timeout_s=timeout_s)
        return self.show(instance)

    def show(self, instance: str) -> Instance:
        """As the library's."""
        return _instance(self._ask("GET", self._of(instance)))

    def instances(self) -> list[Instance]:
        """As the library's."""
        return [_instance(row) for row in self._pages("/v1/instances", "instances")]

    def problems(self, instance: str) -> list[str]:
        """As the library's."""
        return list(self._ask("GET", self._of(instance, "/problems"))["problems"])

    # Power

    def _power(
        self,
        instance: str,
        target: str,
        soft_s: float | None,
        timeout_s: float,
        cancellation: Cancellation | None,
        on_progress: OnProgress,
    ) -> None:
        self._carry_out(
            "POST",
            self._of(instance, "/power"),
            {"target": target, "soft_s": soft_s, "timeout_s": timeout_s},
            timeout_s=timeout_s,
            cancellation=cancellation,
            on_progress=on_progress,
        )

    def power_on(
        self,
        instance: str,
        *,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """As the library's."""
        self._power(instance, "on", None, timeout_s, cancellation, on_progress)

    def power_off(
        self,
        instance: str,
        *,
        soft_s: float | None = None,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """As the library's."""
        self._power(instance, "off", soft_s, timeout_s, cancellation, on_progress)

    def reboot(
        self,
        instance: str,
        *,
        soft_s: float | None = None,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """As the library's."""
        self._power(instance, "reboot", soft_s, timeout_s, cancellation, on_progress)

    # Interfaces

    def interfaces(self, instance: str) -> list[PluggedVif]:
        """As the library's."""
        return [_vif(row) for row in self._ask("GET", self._of(instance, "/interfaces"))["interfaces"]]

    def attach_interface(self, instance: str, nic: Nic, *, timeout_s: float = POWER_TIMEOUT_S) -> PluggedVif:
        """As the library's."""
        done = self._carry_out("POST", self._of(instance, "/interfaces"), _nic_body(nic), timeout_s=timeout_s)
        return _vif(done["result"])

    def detach_interface(self, instance: str, vif: str, *, timeout_s: float = POWER_TIMEOUT_S) -> None:
        """As the library's."""
        self._carry_out("DELETE", self._of(instance, f"/interfaces/{quote(vif, safe='')}"), timeout_s=timeout_s)

    def security_groups(self, instance: str) -> list[tuple[PluggedVif, list[SecurityGroup]]]:
        """As the library's."""
        rows = self._ask("GET", self._of(instance, "/security-groups"))["vifs"]
        vifs = {vif.vif_id: vif for vif in self.interfaces(instance)}
        return [
            (
                vifs.get(row["vif_id"], PluggedVif(vif_id=row["vif_id"], name=row["name"])),
                [SecurityGroup(id=group["id"], name=group["name"]) for group in row["groups"]],
            )
            for row in rows
        ]

    def add_security_group(self, instance: str, group: str, *, vif: str | None = None) -> None:
        """As the library's."""
        body = {"group": group, "vif": vif}
        self._carry_out("POST", self._of(instance, "/security-groups"), body, timeout_s=QUICK_TIMEOUT_S)

    def remove_security_group(self, instance: str, group: str, *, vif: str | None = None) -> None:
        """As the library's."""
        path = self._of(instance, f"/security-groups/{quote(group, safe='')}")
        self._carry_out("DELETE", path, query={"vif": vif} if vif is not None else None, timeout_s=QUICK_TIMEOUT_S)

    # Volumes

    def volume_connector(self, node: str) -> Connector:
        """As the library's."""
        row = self._ask("GET", f"/v1/nodes/{quote(self._node_of(node), safe='')}/connector")
        tuples = {name: tuple(row[name]) for name in ("initiators", "wwpns", "wwnns", "nqns")}
        return Connector(host=row["host"], ip=row["ip"], **tuples)

    def volume_targets(self, node: str) -> list[VolumeTarget]:
        """As the library's, of a node that carries an instance."""
        return [VolumeTarget(**row) for row in self._ask("GET", self._of(node, "/volumes"))["volumes"]]

    def attach_volume(self, instance: str, volume: Volume) -> VolumeTarget:
        """As the library's."""
        done = self._carry_out("POST", self._of(instance, "/volumes"), _volume_body(volume), timeout_s=POWER_TIMEOUT_S)
        return next(target for target in self.volume_targets(instance) if target.uuid == done["result"]["uuid"])

    def detach_volume(self, instance: str, volume_id: str) -> None:
        """As the library's."""
        path = self._of(instance, f"/volumes/{quote(volume_id, safe='')}")
        self._carry_out("DELETE", path, timeout_s=POWER_TIMEOUT_S)

    # Consoles and the rest

    def enable_console(self, node: str, *, force: bool = False) -> ConsoleAddress:
        """As the library's, of a node that carries an instance."""
        self._carry_out("POST", self._of(node, "/console"), {"force": force}, timeout_s=POWER_TIMEOUT_S)
        found = self.console(node)
        if found is None:
            raise errors.ConsoleFailed(f"the console of {node} has ended again")
        return found

    def console_runs(self, node: str) -> bool:
        """As the library's, of a node that carries an instance."""
        return bool(self._ask("GET", self._of(node), query={"fields": "console_enabled"})["console_enabled"])

    def console(self, node: str) -> ConsoleAddress | None:
        """As the library's, of a node that carries an instance."""
        row = self._ask("GET", self._of(node, "/console"))
        return ConsoleAddress(kind=row["kind"] or "unknown", url=row["url"] or "") if row["enabled"] else None

    @contextmanager
    def on_console(
        self, node: str, on_line: Callable[[console_client.Line], None] = lambda _line: None
    ) -> Iterator[console_client.ServedConsole]:
        """A place, until the end of the block, on the serial console of a node that carries an instance and whose console runs.

        Others may be there, too: one types at a time, at first whoever came first.

        Args:
            node: the instance, or its node.
            on_line: told, in a thread of its own, who is there and who types, whenever that changes.

        Raises:
            NotSupported: the package for WebSockets is not installed.
            AccessDenied: these credentials may not be there.
            ConsoleFailed: it cannot be reached.
        """
        url = f"ws{self.url.removeprefix('http')}{self._of(node, '/console/stream')}"
        # review: nothing is sent; its headers are those by which every request of this session says who it is from
        shown = self._session.prepare_request(requests.Request("GET", self.url)).headers
        headers = {name: shown[name] for name in ("Authorization", "X-Auth-Token") if name in shown}
        verify = self._session.verify if isinstance(self._session.verify, str) else self._session.verify is not False
        # review: it translates what may fail itself
        with console_client.opened(url, headers, verify=verify, on_line=on_line) as console:
            yield console

    def disable_console(self, node: str, *, force: bool = False) -> None:
        """As the library's, of a node that carries an instance."""
        query = {"force": str(force).lower()}
        self._carry_out("DELETE", self._of(node, "/console"), query=query, timeout_s=POWER_TIMEOUT_S)

    def crash_dump(self, instance: str) -> None:
        """As the library's."""
        self._carry_out("POST", self._of(instance, "/crash-dump"), {}, timeout_s=QUICK_TIMEOUT_S)

    # Nodes and networks

    def fleet(self, filters: Mapping[str, str | bool] | None = None) -> Fleet:
        """As the library's; of Ironic's filters, those by state, maintenance and class."""
        names = {"provision_state": "state", "maintenance": "maintenance", "resource_class": "resource_class"}
        query: dict[str, str] = {}
        for name, value in (filters or {}).items():
            if name not in names:
                raise NotSupported(
                    f"a service does not filter nodes by {name}", advice=f"It does by {', '.join(names)}"
                )
            query[names[name]] = str(value).lower() if isinstance(value, bool) else value
        nodes = [_node(row) for row in self._pages("/v1/nodes", "nodes", query)]
        fleet = Fleet()
        fleet.read(cast(Ironic, _Listed(nodes)))
        return fleet

    def node(self, node: str) -> Node:
        """As the library's, as far as a service shows it."""
        return _node(self._ask("GET", f"/v1/nodes/{quote(node, safe='')}"))

    def _node_of(self, name: str) -> str:
        """The UUID of the node, which may be named by its instance."""
        try:
            return self.node(name).uuid
        except errors.NodeNotFound:
            return self.show(name).node_uuid

    def validate_node(self, node: str) -> dict[str, Validation]:
        """As the library's."""
        rows = self._ask("GET", f"/v1/nodes/{quote(node, safe='')}/validation")["interfaces"]
        return {name: Validation(result=row["result"], reason=row["reason"]) for name, row in rows.items()}

    def nics(self, node: str) -> tuple[list[PortGroup], list[Port]]:
        """Not offered in this form.

        Raises:
            NotSupported: always.
        """
        raise NotSupported("a service shows NICs in a form of its own", advice=f"GET {self.url}/v1/nodes/{node}/nics")

    def inventory(self, node: str) -> dict[str, Any] | None:
        """As the library's."""
        found: dict[str, Any] | None = self._ask("GET", f"/v1/nodes/{quote(node, safe='')}/inventory")["inventory"]
        return found

    def firmware(self, node: str) -> list[FirmwareComponent]:
        """As the library's."""
        rows = self._ask("GET", f"/v1/nodes/{quote(node, safe='')}/firmware")["firmware"]
        return [FirmwareComponent(**row) for row in rows]

    def history(self, node: str) -> list[HistoryEvent]:
        """As the library's."""
        rows = self._ask("GET", f"/v1/nodes/{quote(node, safe='')}/history")["history"]
        return [
            HistoryEvent(
                uuid="",
                created_at=row["at"],
                severity=row["severity"],
                event=row["event"],
                event_type=row["event_type"],
                user=row["user"],
            )
            for row in rows
        ]

    def networks(self) -> list[Network]:
        """As the library's."""
        return [Network(**row) for row in self._ask("GET", "/v1/networks")["networks"]]


class _Rehearsing(ServiceClient):
    """The same service, asked what it would do."""

    def __init__(self, url: str, session: requests.Session, calls: list[RehearsedCall]) -> None:
        super().__init__(url, session)
        self._calls = calls

    def _carry_out(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        *,
        timeout_s: float,  # noqa: ARG002
        cancellation: Cancellation | None = None,  # noqa: ARG002
        on_progress: OnProgress = ignore,  # noqa: ARG002
        wait: bool = True,  # noqa: ARG002
    ) -> dict[str, Any]:
        if not path.startswith("/v1/instances"):
            raise NotSupported("a service does not rehearse this")
        said = self._ask(method, path, body, {**(query or {}), "dry_run": "true"})
        self._calls += [RehearsedCall(**row) for row in said["calls"]]
        raise RehearsalOver


class _Listed:
    """Nodes that have been read, for a fleet to read."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    def newest_changes(self, *, limit: int, marker: str | None = None) -> list[Node]:  # noqa: ARG002
        return []

    def nodes(self, _filters: Mapping[str, str | bool] | None = None) -> Iterator[Node]:
        return iter(self._nodes)


# Requests as the service takes them


def deploy_body(request: DeployRequest) -> dict[str, Any]:
    """The request, as JSON.

    Raises:
        NotSupported: it has what does not go over HTTP.
    """
    if request.instance_uuid is not None or request.instance_info is not None:
        raise NotSupported("a service chooses the instance's UUID and instance_info itself", advice="Leave them out")
    wanted = request.wanted
    found = {
        "image": _image_body(request.image),
        "name": request.name,
        "node": request.node,
        "wanted": {
            "resource_class": wanted.resource_class,
            "traits": list(wanted.traits),
            "capabilities": dict(wanted.capabilities),
            "owner": request.owner or wanted.owner,
            "conductor_group": wanted.conductor_group,
            "candidates": list(wanted.candidates),
        },
        "nics": [_nic_body(nic) for nic in request.nics],
        "volumes": [_volume_body(volume) for volume in request.volumes],
        "guest": _guest_body(request.guest),
        "root_gib": request.root_gib,
        "swap_mib": request.swap_mib,
        "ephemeral_gib": request.ephemeral_gib,
        "ephemeral_format": request.ephemeral_format,
        "instance_capabilities": dict(request.instance_capabilities),
        "root_device": {name: str(value) for name, value in request.root_device.items()},
        "deploy_steps": [dict(step) for step in request.deploy_steps],
    }
    return {name: value for name, value in found.items() if value is not None}


def rebuild_body(request: RebuildRequest) -> dict[str, Any]:
    """The request, as JSON.

    Raises:
        NotSupported: it has what does not go over HTTP.
    """
    if request.instance_info is not None:
        raise NotSupported("a service chooses instance_info itself", advice="Leave it out")
    return {
        "image": _image_body(request.image),
        "guest": _guest_body(request.guest) if request.guest is not None else None,
        "preserve_ephemeral": request.preserve_ephemeral,
        "deploy_steps": [dict(step) for step in request.deploy_steps],
    }


def _image_body(image: Image | None) -> dict[str, Any] | None:
    if image is None:
        return None
    if image.is_iso:
        return {"iso": image.source}
    checksum = f"{image.hash_algo}:{image.hash_value}" if image.hash_value is not None else image.checksum_url
    found: dict[str, Any] = {
        "source": image.source,
        "checksum": checksum,
        "kernel": image.kernel,
        "ramdisk": image.ramdisk,
    }
    if image.is_partition and image.kernel is None:
        found["is_partition"] = True
    return {name: value for name, value in found.items() if value is not None}


def _nic_body(nic: Nic) -> dict[str, Any]:
    return {**asdict(nic), "security_groups": list(nic.security_groups)}


def _volume_body(volume: Volume) -> dict[str, Any]:
    return {
        "volume_id": volume.volume_id,
        "volume_type": volume.volume_type,
        "boot_index": volume.boot_index,
        "properties": dict(volume.properties.reveal()),
    }


def _guest_body(guest: Guest) -> dict[str, Any]:
    if guest.drive is not None:
        raise NotSupported("a service builds config drives itself", advice="Give what is to be on it")
    user_data = guest.user_data.reveal() if guest.user_data is not None else None
    return {
        "ssh_keys": list(guest.ssh_keys),
        "user_data_base64": _base64(user_data) if user_data is not None else None,
        "vendor_data": dict(guest.vendor_data) if guest.vendor_data is not None else None,
        "meta": dict(guest.meta),
        "files_base64": {path: _base64(content.reveal()) for path, content in guest.files.items()},
        "admin_password": guest.admin_password.reveal() if guest.admin_password is not None else None,
        "config_drive": guest.config_drive,
        "as_image": guest.as_image,
        "dhcp": guest.dhcp,
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# Answers as the library gives them


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _instance(row: Mapping[str, Any]) -> Instance:
    known = {name: row[name] for name in Instance.__dataclass_fields__ if name in row}
    vifs = tuple(_vif(vif) for vif in row["vifs"]) if row["vifs"] is not None else None
    return Instance(**{**known, "since": _moment(row["since"]), "manager": Manager(row["manager"]), "vifs": vifs})


def _vif(row: Mapping[str, Any]) -> PluggedVif:
    tuples = {"addresses": tuple(row["addresses"]), "security_groups": tuple(row["security_groups"])}
    return PluggedVif(**{**row, **tuples})


def _node(row: Mapping[str, Any]) -> Node:
    is_ours = row["manager"] == Manager.BLOOMERY
    mark = {"instance_uuid": row["instance_uuid"], "name": row["instance_name"]}
    same = {name: row[name] for name in _SAME}
    return Node(
        **same,
        provision_state=row["state"],
        target_provision_state=row["target_state"],
        provision_updated_at=row["since"],
        properties={
            "capabilities": row["capabilities"],
            "cpu_arch": row["cpu_arch"],
            "cpus": row["cpus"],
            "memory_mb": row["memory_mib"],
            "local_gb": row["local_gib"],
        },
        extra={MARK: mark} if is_ours else {},
        instance_info={"display_name": row["instance_name"]} if row["instance_name"] is not None else {},
    )


_SAME = (
    "uuid", "name", "instance_uuid", "power_state", "target_power_state", "last_error", "maintenance", "maintenance_reason",
    "fault", "health", "reservation", "retired", "retired_reason", "protected", "driver", "resource_class", "traits",
    "owner", "lessee", "conductor_group", "shard", "boot_mode", "secure_boot",
)  # fmt: skip


def _leak(row: Mapping[str, Any]) -> Leak:
    return Leak(**{**row, "kind": LeakKind(row["kind"]), "verdict": LeakVerdict(row["verdict"])})


def _progress(operation: Mapping[str, Any]) -> Progress:
    progress = operation["progress"]
    return Progress(
        operation=operation["kind"],
        step=progress["step"],
        index=progress["index"],
        total=progress["total"],
        elapsed_s=operation["elapsed_s"] or 0.0,
        node_uuid=operation["node_uuid"],
        node_name=operation["node_name"],
        instance_uuid=operation["instance_uuid"],
        state=progress["state"],
        detail=progress["detail"],
        fraction=progress["fraction"],
        undoing=progress["undoing"],
    )


# Problems as the library's errors


def _raise_problem(answer: requests.Response, url: str) -> NoReturn:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("detail"), str):
        raise errors.UnexpectedReply(
            f"{url} answered {answer.status_code}, and not as a service of Bloomery does",
            request_id=answer.headers.get("X-OpenStack-Request-ID"),
        )
    raise _error_of(problem)


def _error_of(problem: Mapping[str, Any]) -> BloomeryError:
    """The error that the library would have raised, whose name is the problem's title."""
    kind = getattr(errors, str(problem.get("title")), None)
    status = problem.get("status")
    where = {
        "advice": problem.get("advice"),
        "node_uuid": problem.get("node_uuid"),
        "operation": problem.get("operation"),
        "step": problem.get("step"),
        "request_id": problem.get("request_id"),
    }
    message = str(problem["detail"])
    if kind is errors.NoNodeFits:
        refusals = {node: tuple(reasons) for node, reasons in (problem.get("refusals") or {}).items()}
        return errors.NoNodeFits(message, refusals=refusals, **where)
    if kind is errors.RollbackIncomplete:
        return errors.RollbackIncomplete(message, left=tuple(problem.get("left") or ()), **where)
    if isinstance(kind, type) and issubclass(kind, BloomeryError) and kind is not RequestRefused:
        return kind(message, **where)
    match status:
        case 401 | 403:
            return AccessDenied(message, **where)
        case 404:
            return errors.NotFound(message, **where)
        case 409 | 412:
            return errors.Conflict(message, **where)
        case 422:
            return InvalidRequest(message, **where)
        case 429 | 503:
            return ServiceUnavailable(message, **where)
        case _:
            return RequestRefused(message, status=status if isinstance(status, int) else None, **where)
