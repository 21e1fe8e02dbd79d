"""Consoles over WebSockets: several watch, one types, nobody is thrown out, and nobody comes in who may not."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bloomery.doors.http import answers
from bloomery.doors.http.consoles import Scrollback
from bloomery.doors.http.edge import CREDENTIAL_PREFIX
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.screens import stream_of
from bloomery.doors.http.settings import Auth
from doors_http.http_site import TIMEOUT_S, Caller, Site, cloud, served
from doors_http.serial_machine import Machine, console_site
from doors_http.vnc_screen import VERSION, VncScreen, vnc_screen

PROTOCOL = Subprotocol("bloomery.console")


@dataclass
class Screen:
    """Somebody on a console: what he sees, and how he is told the line stands."""

    socket: ClientConnection
    seen: bytes = b""
    standing: dict[str, Any] = field(default_factory=dict)
    lost: int = 0

    def take(self) -> None:
        """One message more has come."""
        message = self.socket.recv(timeout=TIMEOUT_S)
        if isinstance(message, bytes):
            self.seen += message
            return
        told = json.loads(message)
        if "lost" in told:
            self.lost += told["lost"]
        else:
            self.standing = told

    def sees(self, wanted: bytes) -> None:
        """It has come."""
        while wanted not in self.seen:
            self.take()

    def is_told(self, **wanted: Any) -> None:
        """The line stands like this."""
        while any(self.standing.get(name) != value for name, value in wanted.items()):
            self.take()

    def is_closed(self) -> None:
        """Nothing more comes."""
        try:
            while True:
                self.take()
        except ConnectionClosed:
            return

    @property
    def number(self) -> int:
        """Which of the viewers he is."""
        return int(self.standing["you"])

    def wants(self, what: str) -> None:
        """He asks for that."""
        self.socket.send(json.dumps({"do": what}))


@pytest.fixture
def consoled(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    """The same, with an instance whose console runs."""
    with console_site(machine, tmp_path) as site:
        site.deployed()
        site.done("POST", "/v1/instances/web-1/console", {})
        yield site


def address(site: Caller, instance: str = "web-1") -> str:
    """Where its console is as a WebSocket."""
    return f"ws{site.url.removeprefix('http')}/v1/instances/{instance}/console/stream"


@contextmanager
def on_console(site: Caller, instance: str = "web-1", **options: Any) -> Iterator[Screen]:
    """Somebody is on the console."""
    options.setdefault("subprotocols", [PROTOCOL])
    with connect(address(site, instance), open_timeout=TIMEOUT_S, proxy=None, **options) as connection:
        yield Screen(connection)


def test_what_the_machine_says_is_seen_and_what_is_typed_reaches_it(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        assert screen.socket.subprotocol == PROTOCOL
        machine.accept()
        machine.says(b"login: ")
        screen.sees(b"login: ")
        screen.is_told(standing="open")
        screen.socket.send(b"root\r\x03\x00\xff")
        machine.hears(b"root\r\x03\x00\xff")


def test_several_watch_one_types_and_who_takes_over_throws_nobody_out(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as first, on_console(consoled) as second:
        machine.accept()
        first.is_told(standing="open")
        second.is_told(standing="open")
        typist, watcher = (first, second) if first.standing["typist"] == first.number else (second, first)
        assert watcher.standing["typist"] == typist.number
        watcher.socket.send(b"not heard")
        watcher.wants("type")
        typist.is_told(typist=watcher.number)
        typist.socket.send(b"not heard either")
        watcher.is_told(typist=watcher.number)
        watcher.socket.send(b"heard")
        machine.hears(b"heard")
        machine.says(b"to both")
        for screen in (first, second):
            screen.sees(b"to both")
            assert len(screen.standing["viewers"]) == 2
        watcher.wants("watch")
        typist.is_told(typist=None)


def test_what_is_not_understood_on_a_console_changes_nothing(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        machine.accept()
        screen.is_told(standing="open")
        for nonsense in ("[" * 5000, "{}", '{"do": "leave"}', '{"do": ["type"]}', "\x00"):
            screen.socket.send(nonsense)
        screen.socket.send(b"still here")
        machine.hears(b"still here")


def test_who_comes_later_sees_what_was_said_before(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as first:
        machine.accept()
        machine.says(b"booting\r\n")
        first.sees(b"booting")
        with on_console(consoled) as second:
            second.sees(b"booting")
            assert len(second.standing.get("viewers", [1, 2])) == 2
        first.is_told(viewers=[{"number": first.number, "name": "anonymous"}])


def test_who_loads_the_page_anew_finds_the_line_as_he_left_it(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        machine.accept()
        machine.says(b"said once\r\n")
        screen.sees(b"said once")
    with on_console(consoled) as screen:
        screen.sees(b"said once")


def test_a_machine_that_says_more_than_is_kept_leaves_the_end_of_it_and_how_much_is_lost() -> None:
    said = Scrollback(most=10)
    for number in range(100):
        said.add(bytes([number]))
        assert said.end == number + 1
        assert said.end - said.begin <= 10
    assert said.after(0, 100) == (90, bytes(range(90, 100)))
    assert said.after(95, 3) == (0, bytes(range(95, 98)))
    assert said.after(100, 3) == (0, b"")


def test_a_flood_reaches_its_viewers_and_what_could_not_be_kept_is_counted(consoled: Site, machine: Machine) -> None:
    flood = bytes(range(256)) * 4096
    with on_console(consoled) as screen:
        machine.accept()
        sender = threading.Thread(target=machine.says, args=(flood + b"the end",), daemon=True)
        sender.start()
        screen.sees(b"the end")
        sender.join(TIMEOUT_S)
        assert len(screen.seen) + screen.lost == len(flood) + len(b"the end")


def test_a_line_that_breaks_is_opened_again_and_nobody_loses_his_place(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        machine.accept()
        machine.says(b"before ")
        screen.sees(b"before ")
        machine.hangs_up()
        screen.is_told(standing="connecting")
        machine.accept()
        machine.says(b"after")
        screen.sees(b"before after")
        screen.is_told(standing="open", typist=screen.number)


def test_a_console_that_is_stopped_ends_for_everybody_with_the_reason(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as first, on_console(consoled) as second:
        machine.accept()
        first.is_told(standing="open")
        consoled.done("DELETE", "/v1/instances/web-1/console?force=true")
        for screen in (first, second):
            screen.is_told(standing="ended", reason="the console was stopped")
            screen.is_closed()


def test_a_destroyed_instance_takes_its_console_and_what_was_said_on_it_along(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        machine.accept()
        machine.says(b"secret of the first tenant")
        screen.sees(b"secret")
        consoled.done("DELETE", "/v1/instances/web-1?wait_for_cleaning=true")
        screen.is_told(standing="ended")
        screen.is_closed()
    machine.hangs_up()
    consoled.deployed("web-2")
    consoled.done("POST", "/v1/instances/web-2/console", {})
    with on_console(consoled, "web-2") as screen:
        machine.accept()
        machine.says(b"hello")
        screen.sees(b"hello")
        assert b"secret" not in screen.seen


def test_a_console_that_does_not_run_is_said_not_to(machine: Machine, tmp_path: Path) -> None:
    with console_site(machine, tmp_path) as site:
        site.deployed()
        for instance, reason in (
            ("web-1", "no console runs; start it first"),
            ("web-9", "there is no instance 'web-9'"),
        ):
            with on_console(site, instance) as screen:
                screen.is_told(standing="ended", reason=reason)
                screen.is_closed()


def asked_where(site: Site) -> int:
    """How often Ironic was asked for a console."""
    return sum(one.method == "GET" and one.path.endswith("/states/console") for one in site.ironic.requests)


def test_ironic_is_not_asked_again_where_a_console_is_while_somebody_is_on_it(consoled: Site, machine: Machine) -> None:
    with on_console(consoled) as screen:
        machine.accept()
        screen.is_told(standing="open")
        before = asked_where(consoled)
        shown = consoled.get("/v1/instances/web-1/console")
        assert (shown["kind"], shown["in_use"]) == ("socat", True)
        assert asked_where(consoled) == before


def test_ironic_is_not_asked_anew_where_a_console_is_that_was_just_started(consoled: Site, machine: Machine) -> None:
    before = asked_where(consoled)
    assert consoled.get("/v1/instances/web-1/console")["kind"] == "socat"
    with on_console(consoled) as screen:
        machine.accept()
        screen.is_told(standing="open")
        assert asked_where(consoled) == before
        machine.hangs_up()
        machine.accept()
        screen.is_told(standing="open")
    # A session that hangs is ended by the question.
    assert asked_where(consoled) == before + 1


def test_a_console_that_others_started_anew_elsewhere_is_looked_for_anew(consoled: Site, machine: Machine) -> None:
    with closing(Machine()) as other:
        was = consoled.ironic.node("node-0")["driver_info"]
        consoled.ironic.set("node-0", driver_info={**was, "ipmi_terminal_port": other.port})
        with on_console(consoled) as screen:
            other.accept()
            other.says(b"here")
            screen.sees(b"here")


def test_without_a_websocket_it_is_said_what_it_takes(consoled: Site) -> None:
    problem = consoled.problem(426, "GET", "/v1/instances/web-1/console/stream")
    assert problem["title"] == "UpgradeRequired"


# Screens


@pytest.fixture
def screened(tmp_path: Path) -> Iterator[tuple[Site, VncScreen]]:
    """A service, and an instance whose machine has a screen, which Ironic shows."""
    with vnc_screen() as screen, cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="node-0", resource_class="small", console_interface="redfish-graphical")
        ironic.bmc("node-0").screen_url = screen.url
        with served(ironic, neutron, tmp_path) as site:
            site.deployed()
            site.done("POST", "/v1/instances/web-1/console", {})
            yield site, screen


def on_screen(site: Caller, **options: Any) -> ClientConnection:
    """Somebody at the screen."""
    where = address(site).replace("/stream", "/screen")
    options.setdefault("subprotocols", [PROTOCOL])
    viewer: ClientConnection = connect(where, open_timeout=TIMEOUT_S, proxy=None, **options)
    return viewer


def test_a_screen_is_passed_on_both_ways_until_the_console_is_stopped(screened: tuple[Site, VncScreen]) -> None:
    site, screen = screened
    with on_screen(site) as viewer:
        assert viewer.recv(timeout=TIMEOUT_S) == VERSION
        viewer.send(VERSION)
        assert viewer.recv(timeout=TIMEOUT_S) == b"\x01\x01"
        assert screen.paths == [f"/websockify?node={site.get('/v1/instances/web-1')['node_uuid']}"]
        site.done("DELETE", "/v1/instances/web-1/console?force=true")
        with pytest.raises(ConnectionClosed) as closed:
            viewer.recv(timeout=TIMEOUT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "the console was stopped"


def test_a_screen_that_breaks_off_is_said_to_have(screened: tuple[Site, VncScreen]) -> None:
    site, screen = screened
    with on_screen(site) as viewer:
        assert viewer.recv(timeout=TIMEOUT_S) == VERSION
        screen.breaks_off()
        with pytest.raises(ConnectionClosed) as closed:
            viewer.recv(timeout=TIMEOUT_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "the console was interrupted"


def why_closed(site: Caller) -> str:
    """Why somebody sees no screen."""
    with on_screen(site) as viewer, pytest.raises(ConnectionClosed) as closed:
        viewer.recv(timeout=TIMEOUT_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.reason


def test_a_screen_that_cannot_be_reached_is_said_to_be(screened: tuple[Site, VncScreen]) -> None:
    site, screen = screened
    site.ironic.bmc("node-0").screen_url = screen.url.replace("127.0.0.1", "127.0.0.2")
    assert why_closed(site).startswith("the graphical console cannot be reached")


def test_a_serial_console_is_no_screen(consoled: Site) -> None:
    assert why_closed(consoled) == "Ironic does not say where this console can be seen"


@pytest.mark.parametrize(
    ("url", "stream"),
    [
        (
            "http://10.0.0.1:6090/vnc_lite.html?path=websockify%3Fnode%3Da%26token%3Db",
            "ws://10.0.0.1:6090/websockify?node=a&token=b",
        ),
        ("https://vnc.example.org/x/vnc_lite.html?path=/w%3Ft%3D1", "wss://vnc.example.org/w?t=1"),
        ("tcp://10.0.0.1:10000", None),
        ("http://10.0.0.1:6090/vnc_lite.html", None),
        ("http://[x/?path=y", None),
        ("file:///etc/passwd?path=y", None),
    ],
)
def test_the_websocket_behind_a_screens_page_is_found(url: str, stream: str | None) -> None:
    if stream is None:
        with pytest.raises(Refusal):
            stream_of(url)
    else:
        assert stream_of(url) == stream


# Who may


USERS = {
    "root": ("admin", None),
    "alice": ("member", "a" * 32),
    "bob": ("member", "b" * 32),
    "rita": ("reader", "a" * 32),
}


def guards(folder: Path) -> dict[str, Any]:
    """The settings of a service with these users."""
    users, roles = folder / "users", folder / "roles"
    users.write_text("".join(f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}\n" for name in USERS))
    roles.write_text("".join(f"{name}: {role} {project or ''}\n" for name, (role, project) in USERS.items()))
    return {"auth": Auth.BASIC, "users": users, "roles": roles}


def now_is(folder: Path, name: str, role: str | None) -> None:
    """That user has another role from now on; None: he is no user."""
    lines = [line for line in (folder / "roles").read_text().splitlines() if not line.startswith(f"{name}:")]
    if role is not None:
        lines.append(f"{name}: {role} {USERS[name][1] or ''}")
    (folder / "roles").write_text("\n".join(lines))


@pytest.fixture
def guarded(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    """A service with users, and an instance of Alice's project whose console runs."""
    with console_site(machine, tmp_path, **guards(tmp_path)) as site:
        site.headers = {"Authorization": basic("root")}
        site.ironic.set("node-0", lessee="a" * 32)
        site.deployed()
        site.done("POST", "/v1/instances/web-1/console", {})
        yield site


def basic(name: str, password: str | None = None) -> str:
    """A header."""
    return f"Basic {base64.b64encode(f'{name}:{password or name}'.encode()).decode()}"


def credential(value: str, header: str = "Authorization") -> Subprotocol:
    """The header, as a browser has to send it."""
    encoded = base64.urlsafe_b64encode(f"{header}:{value}".encode()).decode().rstrip("=")
    return Subprotocol(CREDENTIAL_PREFIX + encoded)


def test_who_somebody_is_may_be_told_in_a_header_or_as_browsers_can(guarded: Site, machine: Machine) -> None:
    with (
        on_console(guarded, additional_headers={"Authorization": basic("alice")}) as first,
        on_console(guarded, subprotocols=[PROTOCOL, credential(basic("root"))]) as second,
    ):
        machine.accept()
        assert second.socket.subprotocol == PROTOCOL
        for screen in (first, second):
            screen.is_told(standing="open")
        first.wants("type")
        second.is_told(typist=first.number)
        assert [one["name"] for one in second.standing["viewers"]] == ["alice", "root"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        [credential(basic("alice", "wrong"))],
        [credential("nonsense")],
        [credential("x", "Host")],
        [Subprotocol(f"{CREDENTIAL_PREFIX}%%%")],
    ],
    ids=["nothing", "a wrong password", "nonsense", "another header", "no base64"],
)
def test_who_does_not_show_who_he_is_gets_no_console(guarded: Site, given: list[Subprotocol]) -> None:
    with pytest.raises(InvalidStatus) as refused, on_console(guarded, subprotocols=[PROTOCOL, *given]):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["title"] == "Unauthorized"


def test_the_console_of_anothers_instance_is_not_there(guarded: Site) -> None:
    with on_console(guarded, additional_headers={"Authorization": basic("bob")}) as screen:
        screen.is_told(standing="ended", reason="there is no instance 'web-1'")
        screen.is_closed()


def test_a_reader_watches_and_never_types(guarded: Site, machine: Machine) -> None:
    with ExitStack() as stack:
        reader = stack.enter_context(on_console(guarded, additional_headers={"Authorization": basic("rita")}))
        machine.accept()
        machine.says(b"login: ")
        reader.sees(b"login: ")
        reader.is_told(standing="open", typist=None)
        reader.wants("type")
        reader.socket.send(b"not heard")
        member = stack.enter_context(on_console(guarded, additional_headers={"Authorization": basic("alice")}))
        member.is_told(standing="open")
        assert member.standing["typist"] == member.number
        member.socket.send(b"heard")
        machine.hears(b"heard")


def test_a_reader_gets_no_screen(guarded: Site) -> None:
    with (
        on_screen(guarded, additional_headers={"Authorization": basic("rita")}) as viewer,
        pytest.raises(ConnectionClosed) as closed,
    ):
        viewer.recv(timeout=TIMEOUT_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason.startswith("a graphical console is for members")


def test_who_may_type_no_more_watches_and_who_may_see_no_more_is_shown_out(
    guarded: Site, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BELIEVED_S", 0.1)
    with (
        on_console(guarded, additional_headers={"Authorization": basic("alice")}) as alice,
        on_console(guarded, additional_headers={"Authorization": basic("root")}) as root,
    ):
        machine.accept()
        alice.is_told(standing="open")
        root.is_told(standing="open")
        alice.wants("type")
        root.is_told(typist=alice.number)
        now_is(tmp_path, "alice", "reader")
        root.is_told(typist=None)
        alice.socket.send(b"not heard")
        now_is(tmp_path, "alice", None)
        alice.is_told(standing="ended", reason="you may not see it any more")
        alice.is_closed()
        root.is_told(viewers=[{"number": root.number, "name": "root"}])
        root.wants("type")
        root.is_told(typist=root.number)
        root.socket.send(b"heard")
        machine.hears(b"heard")


@pytest.mark.parametrize("role", ["reader", None], ids=["a reader by now", "nobody by now"])
def test_who_may_use_a_screen_no_more_is_shown_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str | None
) -> None:
    monkeypatch.setattr(answers, "BELIEVED_S", 0.1)
    with vnc_screen() as screen, cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="node-0", resource_class="small", console_interface="redfish-graphical", lessee="a" * 32)
        ironic.bmc("node-0").screen_url = screen.url
        with served(ironic, neutron, tmp_path, **guards(tmp_path)) as site:
            site.headers = {"Authorization": basic("root")}
            site.deployed()
            site.done("POST", "/v1/instances/web-1/console", {})
            with on_screen(site, additional_headers={"Authorization": basic("alice")}) as viewer:
                assert viewer.recv(timeout=TIMEOUT_S) == VERSION
                now_is(tmp_path, "alice", role)
                with pytest.raises(ConnectionClosed) as closed:
                    viewer.recv(timeout=TIMEOUT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.reason == "you may not see it any more"


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_another_sites_page_gets_no_console(consoled: Site, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, on_console(consoled, origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_a_name_that_somebody_elses_dns_gave_gets_no_console(consoled: Site) -> None:
    where = address(consoled).replace("127.0.0.1", "evil.example")
    port = int(consoled.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(InvalidStatus) as refused:
        connect(where, sock=raw, subprotocols=[PROTOCOL], proxy=None, open_timeout=TIMEOUT_S)
    assert refused.value.response.status_code == 421


def test_there_are_no_websockets_elsewhere(consoled: Site) -> None:
    for path in ("/", "/v1/events/stream"):
        where = f"ws{consoled.url.removeprefix('http')}{path}"
        with pytest.raises(InvalidStatus) as refused:
            connect(where, subprotocols=[PROTOCOL], proxy=None, open_timeout=TIMEOUT_S)
        assert refused.value.response.status_code in (403, 404)


def test_every_console_that_is_opened_or_refused_is_in_the_audit_without_a_credential(
    guarded: Site, machine: Machine
) -> None:
    with on_console(guarded, subprotocols=[PROTOCOL, credential(basic("alice"))]) as screen:
        machine.accept()
        screen.is_told(standing="open")
    with pytest.raises(InvalidStatus), on_console(guarded, subprotocols=[PROTOCOL]):
        pass

    def calls() -> list[dict[str, Any]]:
        return [call for call in guarded.get("/v1/audit")["calls"] if call["method"] == "WEBSOCKET"]

    guarded.wait_for(lambda: len(calls()) == 2)
    assert [(call["actor"], call["status"]) for call in calls()] == [("unknown", 401), ("alice", 101)]
    assert CREDENTIAL_PREFIX not in json.dumps(calls())
