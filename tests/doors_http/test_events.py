"""Events: every change is told once, in order, and nobody who comes back has missed one."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bloomery.doors.http import hooks
from bloomery.doors.http.following import changes
from bloomery.doors.http.hooks import ForbiddenAddress, check_url, is_forbidden, signature
from bloomery.doors.http.store import wants
from bloomery.errors import InvalidRequest
from bloomery.ironic import Node
from doors_http.http_site import DEPLOY, TIMEOUT_S, Site, cloud, served

LOOPBACK = (ip_network("127.0.0.0/8"),)


def kinds(site: Site, query: str = "") -> list[str]:
    return [event["kind"] for event in site.get(f"/v1/events?limit=1000{query}")["events"]]


def test_what_others_do_to_a_node_is_told(site: Site) -> None:
    last = site.get("/v1")["last_event"]
    site.ironic.set("node-1", maintenance=True, maintenance_reason="new fan", owner="p-1")
    site.wait_for(lambda: "node.owner" in kinds(site))
    told = site.get(f"/v1/events?marker={last}&node=node-1")["events"]
    by_kind = {event["kind"]: event["data"] for event in told}
    assert by_kind["node.maintenance"] == {"was": False, "now": True, "reason": "new fan"}
    assert by_kind["node.owner"] == {"was": None, "now": "p-1"}


def test_a_node_that_comes_or_goes_is_told(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, read_all_s=0.2) as site:
        ironic.add_node(name="new", resource_class="small")
        site.wait_for(lambda: "node.appeared" in kinds(site, "&node=new"))
        site.ironic.snapshot()


def test_a_whole_deploy_is_told_in_order_with_who_and_by_which_request(site: Site) -> None:
    operation = site.done("POST", "/v1/instances", DEPLOY)
    events = site.get(f"/v1/events?limit=1000&operation={operation['id']}")["events"]
    assert [event["kind"] for event in events][:2] == ["operation.accepted", "operation.started"]
    assert events[-1]["kind"] == "operation.succeeded"
    assert {event["request_id"] for event in events} == {operation["request_id"]}
    assert {event["actor"] for event in events} == {"anonymous"}
    numbers = [event["number"] for event in events]
    assert numbers == sorted(set(numbers))
    of_node = site.get(f"/v1/events?limit=1000&instance={operation['instance_uuid']}&kind=node.*")["events"]
    assert any(event["data"].get("now") == "active" for event in of_node)


def test_events_are_filtered_by_kind_time_and_order(site: Site) -> None:
    site.deployed()
    every = site.get("/v1/events?limit=1000")["events"]
    newest = site.get("/v1/events?limit=1000&order=newest")["events"]
    assert [event for event in newest if event["number"] <= every[-1]["number"]] == every[::-1]
    assert set(kinds(site, "&kind=operation.succeeded")) == {"operation.succeeded"}
    assert all(kind.startswith("node.") for kind in kinds(site, "&kind=node.*"))
    middle = every[len(every) // 2]["at"]
    later = site.get(f"/v1/events?limit=1000&since={middle.replace('+', '%2B')}")["events"]
    assert [event for event in later if event["number"] <= every[-1]["number"]] == [
        event for event in every if event["at"] >= middle
    ]
    page = site.get("/v1/events?limit=3&order=newest")
    following = site.get(page["next"])["events"]
    assert [event["number"] for event in following] == [page["events"][-1]["number"] - step for step in (1, 2, 3)]


@pytest.mark.parametrize(("name", "moment"), [("since", "9999-12-31T23:59:59"), ("until", "0001-01-01T00:00:00")])
def test_a_time_that_is_none_is_refused_and_not_left_out(site: Site, name: str, moment: str) -> None:
    assert site.get("/v1/events")["events"]
    answer = site.ask("GET", f"/v1/events?{name}={moment}")
    # Whether there is such a moment depends on the zone; what is never right is to answer with all events.
    assert answer.status_code == 422 or answer.json()["events"] == []
    assert site.get(f"/v1/events?{name}={moment}Z")["events"] == []


def test_the_stream_tells_what_happens_as_it_does(site: Site) -> None:
    with site.listening("?kind=operation.*") as events:
        assert next(events)["event"] == "hello"
        operation = site.begun("POST", "/v1/instances", DEPLOY)
        heard = []
        for event in events:
            heard.append(event)
            if event["event"] == "operation.succeeded":
                break
    assert {event["data"]["operation_id"] for event in heard} == {operation["id"]}
    assert heard[-1]["data"] == site.get(f"/v1/events?marker={int(heard[-1]['id']) - 1}&limit=1")["events"][0]


def test_whoever_comes_back_with_his_last_id_has_missed_nothing(site: Site) -> None:
    with site.listening() as events:
        last = next(events)["id"]
    site.deployed()
    target = str(site.get("/v1")["last_event"])
    got: list[str] = []
    while last != target:
        # The connection breaks after each few events.
        with site.listening(Last_Event_ID=last) as events:
            for _ in range(4):
                last = next(events)["id"]
                got.append(last)
                if last == target:
                    break
    everything = [str(event["number"]) for event in site.get("/v1/events?limit=1000")["events"]]
    assert got == everything[everything.index(got[0]) : everything.index(target) + 1]


def test_what_was_forgotten_meanwhile_is_said_to_be(site: Site) -> None:
    site.deployed()
    store = site.server.service.store
    store.forget(older_than_s=1e9, more_than=5, larger_than=2**40)
    first, last = store.first_and_last_event()
    assert first > 1
    with site.listening(Last_Event_ID="1") as events:
        gap = next(events)
        assert (gap["event"], gap["data"]["first"]) == ("gap", first)
        assert next(events)["id"] == str(first)
    with site.listening(Last_Event_ID=str(last + 1000)) as events:
        assert next(events)["event"] == "gap"


def test_the_stream_ends_when_the_service_does(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with served(ironic, neutron, tmp_path) as site:
            context = site.listening()
            events = context.__enter__()
            next(events)
        assert list(events) == []
        context.__exit__(None, None, None)


def test_what_happened_while_the_service_was_down_is_told_when_it_is_up_again(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with served(ironic, neutron, tmp_path) as site:
            site.wait_for(lambda: "node.appeared" in kinds(site))
            last = site.get("/v1")["last_event"]
        ironic.set("node-2", maintenance=True, maintenance_reason="meanwhile")
        with served(ironic, neutron, tmp_path) as site:
            site.wait_for(lambda: site.get("/v1")["last_event"] > last)
            (event,) = site.get(f"/v1/events?marker={last}")["events"]
            assert (event["kind"], event["node_name"]) == ("node.maintenance", "node-2")


def test_while_ironic_is_away_what_was_seen_last_is_shown_with_its_age(site: Site) -> None:
    site.deployed()
    with site.ironic.unreachable():
        site.wait_for(lambda: site.get("/v1")["stale_s"] is not None)
        for path in ("/v1/instances", "/v1/instances/web-1", "/v1/nodes", "/v1/nodes/node-0", "/v1/fleet"):
            answer = site.ask("GET", path)
            assert answer.status_code == 200
            assert float(answer.headers["Bloomery-Stale"]) >= 0
        assert "ironic.away" in kinds(site)
        problem = site.problem(503, "GET", "/v1/instances/unknown")
        assert problem["retryable"]
    site.wait_for(lambda: site.get("/v1")["stale_s"] is None)
    assert "Bloomery-Stale" not in site.ask("GET", "/v1/instances").headers
    site.wait_for(lambda: "ironic.back" in kinds(site))


def test_a_state_that_was_left_says_how_long_it_lasted() -> None:
    def seen(state: str, since: str) -> dict[str, Any]:
        return {
            **dict.fromkeys(("power_state", "maintenance", "fault", "health", "last_error", "instance_uuid"), None),
            **dict.fromkeys(("owner", "lessee", "retired", "protected", "target_provision_state", "step"), None),
            "provision_state": state, "since": since, "maintenance_reason": None,
        }  # fmt: skip

    node = Node(uuid="n", provision_state="active")
    before, now = seen("deploying", "2026-01-01T00:00:00+00:00"), seen("active", "2026-01-01T00:05:30+00:00")
    (event,) = changes(node, before, now)
    assert (event.kind, event.data["took_s"]) == ("node.provision_state", 330.0)


@pytest.mark.parametrize(
    ("wanted", "kind", "is_wanted"),
    [
        ((), "node.step", True),
        (("node.*",), "node.step", True),
        (("node.*",), "nodes.step", False),
        (("node.step",), "node.steps", False),
        (("operation.*", "node.step"), "node.step", True),
    ],
)
def test_kinds_are_told_apart(wanted: tuple[str, ...], kind: str, is_wanted: bool) -> None:
    assert wants(wanted, kind) is is_wanted


# Webhooks


class Receiver:
    """Somebody who is told, and may not like it."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answers = threading.Event()
        """Set, what comes is answered."""
        self.answers.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                assert receiver.answers.wait(TIMEOUT_S)
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?x=1"


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@pytest.fixture
def hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A service that may post to loopback, and tries again soon."""
    monkeypatch.setattr(hooks, "FIRST_PAUSE_S", 0.05)
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, webhook_networks=LOOPBACK) as site:
        yield site


def test_a_webhook_gets_what_it_wants_in_order_and_signed(hooked: Site) -> None:
    with receiving() as receiver:
        made = hooked.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["operation.*"]})
        assert made.status_code == 201
        secret = made.json()["secret"]
        operation = hooked.done("POST", "/v1/instances", DEPLOY)
        hooked.wait_for(lambda: any(b"operation.succeeded" in body for _, body in receiver.got))
        bodies = [json.loads(body) for _, body in receiver.got]
        assert [body["number"] for body in bodies] == sorted(body["number"] for body in bodies)
        assert {body["operation_id"] for body in bodies} == {operation["id"]}
        for headers, body in receiver.got:
            at, _, mac = headers["Bloomery-Signature"].removeprefix("t=").partition(",v1=")
            assert abs(int(at) - time.time()) < 60
            assert hmac.compare_digest(
                mac, hmac.digest(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hex()
            )
        path = f"/v1/webhooks/{made.json()['id']}"
        assert hooked.get(path)["secret"] is None
        assert secret not in str(hooked.get("/v1/webhooks"))
        hooked.wait_for(
            lambda: {row["state"] for row in hooked.get(f"{path}/deliveries")["deliveries"]} == {"delivered"}
        )


def test_a_delivery_that_is_not_taken_is_tried_again_and_the_log_says_why(hooked: Site) -> None:
    with receiving() as receiver:
        receiver.statuses = [500, 302]
        hook = hooked.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["operation.succeeded"]}).json()
        hooked.deployed()
        path = f"/v1/webhooks/{hook['id']}/deliveries"
        hooked.wait_for(lambda: [row["state"] for row in hooked.get(path)["deliveries"]] == ["delivered"])
        (row,) = hooked.get(path)["deliveries"]
        assert row["attempts"] == 3
        assert len({headers["Bloomery-Delivery"] for headers, _ in receiver.got}) == 1
        again = hooked.ask("POST", f"{path}/{row['number']}/replay", None)
        assert again.status_code == 202
        hooked.wait_for(lambda: len(receiver.got) == 4)
        assert receiver.got[0][1] == receiver.got[3][1]
        assert hooked.ask("DELETE", f"/v1/webhooks/{hook['id']}").status_code == 204
        hooked.problem(404, "GET", path)


def numbers(receiver: Receiver) -> list[int]:
    """The deliveries that it was offered, in their order."""
    return [int(headers["Bloomery-Delivery"]) for headers, _ in receiver.got]


def owned(site: Site, *owners: str) -> None:
    """So many events, one for each."""
    for owner in owners:
        site.ironic.set("node-1", owner=owner)
        site.wait_for(lambda owner=owner: site.get("/v1/nodes/node-1")["owner"] == owner)  # type: ignore[misc]


def test_what_happens_while_a_receiver_has_no_time_waits_and_comes_in_order(
    hooked: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "FIRST_PAUSE_S", 0.5)
    with receiving() as receiver:
        receiver.statuses = [503, 429]
        hooked.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["node.owner"]})
        owned(hooked, "a")
        hooked.wait_for(lambda: len(receiver.got) == 1)
        owned(hooked, "b", "c")
        hooked.wait_for(lambda: len(receiver.got) == 5)
        first = numbers(receiver)[0]
        assert numbers(receiver) == [first, first, first, first + 1, first + 2]


def test_an_event_that_a_receiver_refuses_keeps_no_other_from_it(hooked: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "FIRST_PAUSE_S", 1.5)
    with receiving() as receiver:
        receiver.statuses = [400]
        hook = hooked.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["node.owner"]}).json()
        receiver.answers.clear()
        owned(hooked, "a", "b", "c")
        receiver.answers.set()
        path = f"/v1/webhooks/{hook['id']}/deliveries"
        hooked.wait_for(lambda: [row["state"] for row in hooked.get(path)["deliveries"]] == ["delivered"] * 3)
        first = min(numbers(receiver))
        assert numbers(receiver) == [first, first + 1, first + 2, first]


def test_a_receiver_that_takes_its_time_keeps_no_other_waiting(hooked: Site) -> None:
    with receiving() as slow, receiving() as quick:
        slow.answers.clear()
        for receiver in (slow, quick):
            hooked.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["node.owner"]})
        owned(hooked, "a")
        hooked.wait_for(lambda: len(slow.got) == len(quick.got) == 1)
        owned(hooked, "b", "c")
        hooked.wait_for(lambda: len(quick.got) == 3)
        assert len(slow.got) == 1
        slow.answers.set()
        hooked.wait_for(lambda: len(slow.got) == 3)


def test_a_receiver_that_says_something_now_and_then_is_waited_for_no_longer_than_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hooks, "ATTEMPT_S", 0.5)
    is_over = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not is_over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            with pytest.raises(TimeoutError, match=r"longer than 0\.5 s"):
                hooks.post(
                    f"http://127.0.0.1:{server.getsockname()[1]}/", "s", b"{}", number=1, kind="k", allowed=LOOPBACK
                )
        finally:
            is_over.set()
            thread.join()


def test_a_webhook_that_is_asked_for_twice_with_one_key_is_one_and_its_secret_is_not_lost(site: Site) -> None:
    wanted = {"url": "https://hooks.example.org/", "kinds": ["node.*"]}
    first, again = (site.ask("POST", "/v1/webhooks", wanted, Idempotency_Key="k-1") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert first.json() == again.json()
    assert len(site.get("/v1/webhooks")["webhooks"]) == 1
    another = {**wanted, "kinds": []}
    assert site.problem(422, "POST", "/v1/webhooks", another, Idempotency_Key="k-1")["title"] == "IdempotencyKeyReused"
    site.server.service.store.forget(older_than_s=1e9, more_than=1000, larger_than=2**40)
    assert site.ask("POST", "/v1/webhooks", wanted, Idempotency_Key="k-1").json() == first.json()
    site.ask("DELETE", f"/v1/webhooks/{first.json()['id']}")
    assert site.problem(409, "POST", "/v1/webhooks", wanted, Idempotency_Key="k-1")["title"] == "WebhookGone"


def test_a_webhook_to_this_machine_is_not_sent_unless_that_is_allowed(site: Site) -> None:
    with receiving() as receiver:
        hook = site.ask("POST", "/v1/webhooks", {"url": receiver.url, "kinds": ["operation.*"]}).json()
        site.deployed()
        path = f"/v1/webhooks/{hook['id']}/deliveries"
        site.wait_for(lambda: any(row["reason"] for row in site.get(path)["deliveries"]))
        assert "must not be sent to" in next(row["reason"] for row in site.get(path)["deliveries"] if row["reason"])
        assert receiver.got == []


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:169.254.169.254", True),
        ("2002:7f00:1::1", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("224.0.0.1", True),
        ("10.0.0.5", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_that_are_no_machine_of_its_own_are_told(address: str, forbidden: bool) -> None:
    assert is_forbidden(address, ()) is forbidden
    assert not is_forbidden("127.0.0.1", LOOPBACK)


def test_a_name_is_judged_by_where_it_leads() -> None:
    with receiving() as receiver, pytest.raises(ForbiddenAddress):
        hooks.post(
            receiver.url.replace("127.0.0.1", "localhost"), "secret", b"{}", number=1, kind="node.step", allowed=()
        )


@pytest.mark.parametrize(
    "url",
    ["ftp://x/y", "http://", "https://user:pass@host/x", "http://host:99999/", "javascript:alert(1)", "http://a b/"],
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url)


def test_a_signature_is_of_time_and_body() -> None:
    assert signature("s" * 16, 1, b"x") != signature("s" * 16, 2, b"x")
    assert signature("s" * 16, 1, b"x") != signature("s" * 16, 1, b"y")


# Metrics


def test_metrics_are_such_as_prometheus_reads_and_the_dashboard_asks_for(site: Site) -> None:
    site.deployed()
    families = {family.name: family for family in text_string_to_metric_families(site.ask("GET", "/metrics").text)}
    samples = {sample.name for family in families.values() for sample in family.samples}
    dashboard = (Path(__file__).resolve().parents[2] / "docs" / "assets" / "grafana.json").read_text()
    asked = set(re.findall(r"bloomery_\w+", " ".join(re.findall(r'"expr": "(.*?)"', dashboard))))
    # What is counted by something that has not happened yet is not there yet.
    assert asked - samples == {
        "bloomery_webhook_deliveries_total",
        "bloomery_janitor_looks_total",
        "bloomery_janitor_leaks",
    }
    steps = {s.labels["step"] for s in families["bloomery_step_seconds"].samples}
    assert {"claim node", "wait for active"} <= steps
    states = {s.labels["state"]: s.value for s in families["bloomery_nodes_by_state"].samples}
    assert states == {"active": 1.0, "available": 2.0}
    assert any(s.labels.get("kind") == "deploy" and s.value == 1 for s in families["bloomery_operations"].samples)
    assert any(s.labels["service"] == "Ironic" for s in families["bloomery_upstream_seconds"].samples)
