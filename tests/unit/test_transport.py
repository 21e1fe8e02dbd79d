"""One request against a small server that does what no service should: each way to fail is told apart."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.timely import whole_answers_by
from bloomery.rest.transport import Reply, Transport
from strangers.bad_server import (
    LONG_S,
    Behaviour,
    Request,
    Server,
    Wire,
    failing,
    self_signed,
    transport_to,
    wait_until,
)

MARKED = "swordfish-7f3a"


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.stop()


# What is sent


def test_a_request_has_the_path_the_query_the_headers_and_the_body_it_was_given(server: Server) -> None:
    transport = transport_to(server.url + "/", headers={"X-Version": "1.81"})
    transport.request(
        "PUT",
        "/nodes/n1",
        body={"target": "active"},
        query={"id": ["a", "b"]},
        headers={"X-More": "1"},
        timeout_s=LONG_S,
    )
    sent = server.requests[0]
    assert (sent.method, sent.target) == ("PUT", "/v1/nodes/n1?id=a&id=b")
    assert json.loads(sent.body) == {"target": "active"}
    assert (sent.headers["x-version"], sent.headers["x-more"], sent.headers["accept"]) == (
        "1.81",
        "1",
        "application/json",
    )
    assert sent.headers["user-agent"].startswith("bloomery")


def test_an_endpoint_may_or_may_not_have_the_version_in_it(server: Server) -> None:
    for url in (server.url, server.url + "/", server.url + "/v1", server.url + "/v1/"):
        transport_to(url).request("GET", "/nodes", timeout_s=LONG_S)
    assert {request.target for request in server.requests} == {"/v1/nodes"}


def test_a_reply_has_the_status_the_body_the_headers_and_the_requests_id(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.answer(202, b'{"a": 1}', X_Odd="Yes", X_OpenStack_Request_Id="req-7")
    reply = transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S)
    assert (reply.status, reply.body, reply.headers["x-odd"], reply.request_id) == (202, b'{"a": 1}', "Yes", "req-7")


def test_connections_are_kept_and_used_again(server: Server) -> None:
    transport = transport_to(server.url)
    for _ in range(5):
        transport.request("GET", "/nodes", timeout_s=LONG_S)
    assert (len(server.requests), server.connections) == (5, 1)


# Statuses


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (301, Failure.GARBLED),
        (302, Failure.GARBLED),
        (307, Failure.GARBLED),
        (400, Failure.REJECTED),
        (401, Failure.UNAUTHORISED),
        (403, Failure.FORBIDDEN),
        (404, Failure.MISSING),
        (405, Failure.REJECTED),
        (406, Failure.UNACCEPTABLE),
        (409, Failure.CONFLICT),
        (413, Failure.REJECTED),
        (429, Failure.OVERLOADED),
        (500, Failure.BROKEN),
        (502, Failure.BROKEN),
        (503, Failure.OVERLOADED),
        (504, Failure.BROKEN),
        (599, Failure.BROKEN),
    ],
)
def test_each_status_is_a_failure_of_its_kind(server: Server, status: int, failure: Failure) -> None:
    server.behaviour = lambda wire, _request: wire.answer(
        status, b"{}", Location=server.url + "/elsewhere", X_OpenStack_Request_Id="req-7"
    )
    with failing(failure) as raised:
        transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S)
    assert (raised.value.status, raised.value.request_id) == (status, "req-7")
    assert {request.target for request in server.requests} == {"/v1/nodes"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (json.dumps({"error_message": json.dumps({"faultstring": "Node n1 is locked."})}), "Node n1 is locked."),
        (json.dumps({"error_message": {"faultstring": "Node n1 is locked."}}), "Node n1 is locked."),
        (json.dumps({"faultcode": "Client", "faultstring": "too large"}), "too large"),
        (json.dumps({"NeutronError": {"type": "X", "message": "no address left", "detail": ""}}), "no address left"),
        (json.dumps({"error": {"code": 401, "message": "who are you?", "title": "Unauthorized"}}), "who are you?"),
        (json.dumps({"message": "  spaced  "}), "spaced"),
        (json.dumps({"error_message": "{no json"}), "{no json"),
        ("<html>Bad Gateway</html>", "HTTP status 409"),
        ("", "HTTP status 409"),
        ("[]", "HTTP status 409"),
        ("null", "HTTP status 409"),
        ("17", "HTTP status 409"),
        ('{"message": 17}', "HTTP status 409"),
        ('{"message": {"message": {"message": {"message": {"message": "deep"}}}}}', "HTTP status 409"),
        ("[" * 100_000, "HTTP status 409"),
        ("\udcff", "HTTP status 409"),
    ],
    ids=range(16),
)
def test_a_refusals_reason_is_in_the_services_own_words(server: Server, body: str, words: str) -> None:
    server.behaviour = lambda wire, _request: wire.answer(409, body.encode(errors="surrogateescape"))
    with failing(Failure.CONFLICT) as raised:
        transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S)
    assert raised.value.reason == words


# The network


def test_a_port_where_nobody_listens_is_not_reached() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with failing(Failure.UNREACHED) as raised:
            transport_to(f"http://127.0.0.1:{taken.getsockname()[1]}").request("GET", "/nodes", timeout_s=LONG_S)
    assert "refused" in raised.value.reason.lower()


def test_a_host_without_an_address_is_not_reached() -> None:
    with failing(Failure.UNREACHED):
        transport_to("http://no-such-host.invalid").request("GET", "/nodes", timeout_s=LONG_S)


def test_a_server_that_nobody_vouches_for_is_not_reached(tmp_path: Path) -> None:
    server = Server(tls=self_signed(tmp_path))
    with failing(Failure.UNTRUSTED) as raised:
        transport_to(server.url.replace("http:", "https:")).request("PUT", "/nodes", body={}, timeout_s=LONG_S)
    server.stop()
    assert "certificate" in raised.value.reason
    assert server.requests == []


def test_a_server_without_tls_where_there_should_be_some_is_not_said_to_be_unreached(server: Server) -> None:
    # TLS that breaks in the middle looks the same, and there the request may have arrived.
    with failing(Failure.LOST) as raised:
        transport_to(server.url.replace("http:", "https:")).request("PUT", "/nodes", body={}, timeout_s=LONG_S)
    assert "SSL" in raised.value.reason
    assert server.requests == []


def test_a_connection_that_is_reset_may_have_done_its_deed(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.reset()
    with failing(Failure.LOST):
        transport_to(server.url).request("PUT", "/nodes", body={}, timeout_s=LONG_S)


def test_a_connection_that_is_closed_without_a_word_may_have_done_its_deed(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.close()
    with failing(Failure.LOST):
        transport_to(server.url).request("PUT", "/nodes", body={}, timeout_s=LONG_S)


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(server: Server) -> None:
    def answer_and_close(wire: Wire, _request: Request) -> None:
        wire.answer()
        wire.close()

    transport = transport_to(server.url)
    server.behaviour = answer_and_close
    for _ in range(3):
        with suppress(RequestFailure):
            transport.request("GET", "/nodes", timeout_s=LONG_S)
    server.behaviour = lambda wire, _request: wire.answer()
    with suppress(RequestFailure):
        transport.request("GET", "/nodes", timeout_s=LONG_S)
    assert transport.request("GET", "/nodes", timeout_s=LONG_S).status == 200


def test_a_server_that_says_nothing_in_time_may_have_done_its_deed(server: Server) -> None:
    server.behaviour = lambda wire, _request: (wire.stopping.wait(), None)[1]
    with failing(Failure.LOST):
        transport_to(server.url).request("PUT", "/nodes", body={}, timeout_s=0.1)


def test_an_answer_that_is_no_http_may_have_done_its_deed(server: Server) -> None:
    def talk_nonsense(wire: Wire, _request: Request) -> None:
        wire.write(b"220 mail.example.org ESMTP\r\n\r\n")
        wire.close()

    server.behaviour = talk_nonsense
    with failing(Failure.LOST):
        transport_to(server.url).request("PUT", "/nodes", body={}, timeout_s=LONG_S)


def test_a_body_that_never_ends_is_given_up_in_time(server: Server) -> None:
    def dribble(wire: Wire, _request: Request) -> None:
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not wire.stopping.wait(0.01):
            wire.write(b"x")

    server.behaviour = dribble
    with failing(Failure.LOST) as raised:
        transport_to(server.url).request("GET", "/nodes", timeout_s=0.2)
    assert "in time" in raised.value.reason


def test_chunks_that_never_end_are_given_up_in_time(server: Server) -> None:
    def dribble(wire: Wire, _request: Request) -> None:
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not wire.stopping.wait(0.01):
            wire.write(b"1\r\nx\r\n")

    server.behaviour = dribble
    with failing(Failure.LOST) as raised:
        transport_to(server.url).request("GET", "/nodes", timeout_s=0.2)
    assert "in time" in raised.value.reason


def test_a_body_that_comes_in_small_pieces_is_read_whole(server: Server) -> None:
    def in_pieces(wire: Wire, _request: Request) -> None:
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
        for _ in range(100):
            wire.write(b"abc")

    server.behaviour = in_pieces
    transport = transport_to(server.url)
    for _ in range(2):
        assert transport.request("GET", "/nodes", timeout_s=LONG_S).body == b"abc" * 100
    assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n64\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["length", "within a chunk", "between chunks"],
)
def test_a_body_that_is_cut_short_cannot_be_read(server: Server, head: bytes) -> None:
    def cut(wire: Wire, _request: Request) -> None:
        wire.write(b"HTTP/1.1 200 OK\r\n" + head)
        wire.close()

    server.behaviour = cut
    with failing(Failure.GARBLED):
        transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S)


def test_a_body_that_is_larger_than_any_answer_is_not_read_to_its_end(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.answer(body=b"x" * 200_000)
    with failing(Failure.GARBLED) as raised:
        transport_to(server.url, reply_limit_bytes=100_000).request("GET", "/nodes", timeout_s=LONG_S)
    assert "100000 bytes" in raised.value.reason
    assert (
        len(transport_to(server.url, reply_limit_bytes=200_000).request("GET", "/n", timeout_s=LONG_S).body) == 200_000
    )


def test_a_small_body_that_unpacks_to_a_large_one_is_not_unpacked_to_its_end(server: Server) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server.behaviour = lambda wire, _request: wire.answer(body=bomb, Content_Encoding="gzip")
    with failing(Failure.GARBLED):
        transport_to(server.url, reply_limit_bytes=1_000_000).request("GET", "/nodes", timeout_s=LONG_S)


def test_a_packed_body_is_unpacked(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.answer(body=gzip.compress(b"abc" * 1000), Content_Encoding="gzip")
    assert transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S).body == b"abc" * 1000


def test_a_body_that_is_not_packed_as_it_says_cannot_be_read(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.answer(body=b"no gzip at all", Content_Encoding="gzip")
    with failing(Failure.GARBLED):
        transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S)


def test_an_answer_without_body_is_empty(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    transport = transport_to(server.url)
    for _ in range(2):
        assert transport.request("DELETE", "/nodes/n1", timeout_s=LONG_S).body == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[1, 2]",
        b'{"a": "x"}',
        b'{"b": 1}',
        b"\xff\xfe",
        b'{"a": 1',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(9),
)
def test_a_body_that_is_not_what_was_expected_cannot_be_read(body: bytes) -> None:
    class Expected(msgspec.Struct):
        a: int

    with failing(Failure.GARBLED) as raised:
        Reply(200, body, {}, "req-7").decode(Expected)
    assert raised.value.request_id == "req-7"


def test_a_body_with_anything_in_it_may_not_be_nested_without_end() -> None:
    # The collector would call finalizers where there is no room on the stack for them.
    gc.disable()
    try:
        with failing(Failure.GARBLED):
            Reply(200, b'{"a":' * 100_000, {}, None).decode(dict[str, Any])
    finally:
        gc.enable()


# Many at once


def held(server: Server) -> tuple[list[int], threading.Event]:
    """The server holds every request until the event; how many it held at once, noted at each that came."""
    go, lock, now, seen = threading.Event(), threading.Lock(), [0], list[int]()

    def hold(wire: Wire, _request: Request) -> None:
        with lock:
            now[0] += 1
            seen.append(now[0])
        go.wait(LONG_S)
        with lock:
            now[0] -= 1
        wire.answer()

    server.behaviour = hold
    return seen, go


def test_no_more_requests_are_under_way_than_allowed(server: Server) -> None:
    seen, go = held(server)
    transport = transport_to(server.url, connections=3)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(transport.request, "GET", "/nodes", timeout_s=LONG_S) for _ in range(8)]
        wait_until(lambda: len(seen) == 3)
        go.set()
        assert [call.result().status for call in calls] == [200] * 8
    assert max(seen) == 3
    assert server.connections <= 3


def test_long_lists_leave_room_for_others(server: Server) -> None:
    seen, go = held(server)
    transport = transport_to(server.url, connections=4)
    with ThreadPoolExecutor(8) as pool:
        lists = [pool.submit(transport.request, "GET", "/nodes", timeout_s=LONG_S, bulk=True) for _ in range(6)]
        wait_until(lambda: len(seen) == 2)
        quick = pool.submit(transport.request, "PUT", "/power", timeout_s=LONG_S)
        wait_until(lambda: any(request.method == "PUT" for request in server.requests))
        assert len(seen) == 3
        go.set()
        assert {call.result().status for call in [*lists, quick]} == {200}


@pytest.mark.parametrize("bulk", [False, True])
def test_a_request_that_gets_no_connection_in_time_was_never_sent(server: Server, bulk: bool) -> None:
    seen, go = held(server)
    transport = transport_to(server.url, connections=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(transport.request, "GET", "/nodes", timeout_s=LONG_S, bulk=bulk)
        wait_until(lambda: len(seen) == 1)
        with failing(Failure.UNSENT):
            transport.request("GET", "/nodes", timeout_s=0.05, bulk=bulk)
        go.set()
        assert first.result().status == 200
    assert len(server.requests) == 1


def test_a_request_that_waited_for_a_connection_is_over_when_its_operation_has_to_be(server: Server) -> None:
    seen, go = held(server)
    transport = transport_to(server.url, connections=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(transport.request, "GET", "/nodes", timeout_s=LONG_S)
        wait_until(lambda: len(seen) == 1)
        with failing(Failure.UNSENT), whole_answers_by(time.monotonic() + 0.05):
            transport.request("GET", "/nodes", timeout_s=3600.0)
        go.set()
        first.result()
    server.behaviour = lambda wire, _request: (wire.stopping.wait(), None)[1]
    with failing(Failure.LOST), whole_answers_by(time.monotonic() + 0.2):
        transport.request("GET", "/nodes", timeout_s=3600.0)


def test_a_failed_request_gives_its_connection_back(server: Server) -> None:
    transport = transport_to(server.url, connections=1)
    server.behaviour = lambda wire, _request: wire.reset()
    for _ in range(3):
        with failing(Failure.LOST):
            transport.request("GET", "/nodes", timeout_s=LONG_S, bulk=True)
    server.behaviour = lambda wire, _request: wire.answer()
    assert transport.request("GET", "/nodes", timeout_s=LONG_S, bulk=True).status == 200


# Secrets and credentials


def test_no_log_at_any_level_has_what_was_sent_or_answered(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"secret": MARKED}).encode()
    transport = transport_to(server.url, headers={"X-Auth-Token": MARKED})
    with caplog.at_level(logging.DEBUG):
        for status in (200, 400, 409, 500):
            server.behaviour = lambda wire, _request, status=status: wire.answer(status, body)  # type: ignore[misc]
            with suppress(RequestFailure):
                transport.request("PUT", "/nodes", body={"configdrive": MARKED}, timeout_s=LONG_S)
        server.behaviour = lambda wire, _request: wire.reset()
        with suppress(RequestFailure):
            transport.request("PUT", "/nodes", body={"configdrive": MARKED}, timeout_s=LONG_S)
    assert "PUT" in caplog.text
    assert MARKED not in caplog.text


def password_transport(server: Server) -> Transport:
    auth = Password(
        auth_url=server.url + "/v3",
        username="ada",
        password=MARKED,
        project_name="p",
        user_domain_id="default",
        project_domain_id="default",
    )
    return Transport(Adapter(Session(auth), service_type="baremetal"), service="Ironic", version_path="/v1")


def keystone(catalogue: list[dict[str, Any]], *, status: int = 201, ironic: int = 200) -> Behaviour:
    def behave(wire: Wire, request: Request) -> None:
        if request.target == "/v3/auth/tokens":
            token = {
                "methods": ["password"],
                "user": {"id": "u", "name": "ada", "domain": {"id": "default", "name": "Default"}},
                "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}},
                "expires_at": "2999-01-01T00:00:00.000000Z",
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "catalog": catalogue,
                "roles": [],
            }
            answer = {"token": token} if status == 201 else {"error": {"message": "no", "code": status}}
            wire.answer(status, json.dumps(answer).encode(), X_Subject_Token=MARKED, Content_Type="application/json")
        elif request.target.startswith("/v1/"):
            wire.answer(ironic)
        else:
            wire.answer(404)

    return behave


def baremetal(url: str) -> list[dict[str, Any]]:
    endpoint = {"id": "e", "interface": "public", "region": "r", "region_id": "r", "url": url}
    return [{"id": "s", "type": "baremetal", "name": "ironic", "endpoints": [endpoint]}]


def test_a_service_is_found_in_the_catalogue_and_gets_the_token(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.behaviour = keystone(baremetal(server.url))
    with caplog.at_level(logging.DEBUG):
        assert password_transport(server).request("GET", "/nodes", timeout_s=LONG_S).status == 200
    assert server.requests[-1].headers["x-auth-token"] == MARKED
    assert MARKED not in caplog.text


def test_a_token_that_is_refused_is_asked_for_anew_once(server: Server) -> None:
    server.behaviour = keystone(baremetal(server.url), ironic=401)
    with failing(Failure.UNAUTHORISED) as raised:
        password_transport(server).request("GET", "/nodes", timeout_s=LONG_S)
    targets = [request.target for request in server.requests]
    assert (targets.count("/v3/auth/tokens"), targets.count("/v1/nodes")) == (2, 2)
    assert raised.value.status == 401


def test_credentials_that_are_refused_are_said_to_be_and_not_shown(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.behaviour = keystone([], status=401)
    with caplog.at_level(logging.DEBUG), failing(Failure.UNAUTHORISED) as raised:
        password_transport(server).request("GET", "/nodes", timeout_s=LONG_S)
    assert "identity service" in raised.value.reason
    assert MARKED not in caplog.text + raised.value.reason


def test_a_cloud_without_the_service_is_said_to_have_none(server: Server) -> None:
    server.behaviour = keystone([])
    with failing(Failure.ABSENT) as raised:
        password_transport(server).request("GET", "/nodes", timeout_s=LONG_S)
    assert "Ironic" in raised.value.reason


def test_an_identity_service_that_breaks_is_not_taken_for_wrong_credentials(server: Server) -> None:
    server.behaviour = keystone([], status=500)
    with failing(Failure.BROKEN) as raised:
        password_transport(server).request("GET", "/nodes", timeout_s=LONG_S)
    assert "identity service" in raised.value.reason


def test_an_identity_service_that_is_away_is_not_reached(server: Server) -> None:
    transport = password_transport(server)
    server.stop()
    with failing(Failure.UNREACHED):
        transport.request("GET", "/nodes", timeout_s=LONG_S)


def test_a_request_without_any_credentials_is_unauthorised() -> None:
    adapter = Adapter(Session(), service_type="baremetal")
    transport = Transport(adapter, service="Ironic", version_path="/v1")
    with failing(Failure.UNAUTHORISED):
        transport.request("GET", "/nodes", timeout_s=LONG_S)
