"""A service that answers without end, in drops or in circles holds us no longer than its time, and fills no memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from bloomery.deadline import Deadline
from bloomery.errors import BloomeryError, UnexpectedReply
from bloomery.fleet import Fleet
from bloomery.ironic import Features, Ironic
from bloomery.ironic.features import NEWEST
from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.transport import REFUSAL_LIMIT_BYTES
from strangers.bad_server import LONG_S, Request, Server, Wire, failing, transport_to

BORNE_S = 0.3
LATE_S = 20.0
"""What even a busy machine needs no longer for; a server of these tests would hold a client for ever."""


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.stop()


def in_drops(head: bytes) -> Callable[[Wire, Request], None]:
    """The head at once, and then a byte now and then."""

    def answer(wire: Wire, _request: Request) -> None:
        wire.write(head)
        while not wire.stopping.wait(0.02):
            wire.write(b"x")

    return answer


def again_and_again(part: bytes) -> Callable[[Wire, Request], None]:
    """The same part, without end."""

    def answer(wire: Wire, _request: Request) -> None:
        while not wire.stopping.wait(0.005):
            wire.write(part)

    return answer


@pytest.mark.parametrize(
    "behaviour",
    [
        in_drops(b""),
        in_drops(b"HTTP/1.1 200 "),
        in_drops(b"HTTP/1.1 200 OK\r\nX-"),
        in_drops(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B: "),
        in_drops(b"HTTP/1.1 409 Conflict\r\nContent-Length: 100000\r\n\r\n"),
        in_drops(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000\r\n"),
        again_and_again(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["status line", "reason", "header name", "header value", "refusal", "chunk", "to be continued"],
)
def test_an_answer_that_comes_in_drops_is_given_up_when_its_time_is_over(
    server: Server, behaviour: Callable[[Wire, Request], None]
) -> None:
    server.behaviour = behaviour
    transport, started = transport_to(server.url), time.monotonic()
    with failing(Failure.LOST):
        transport.request("GET", "/nodes", timeout_s=BORNE_S)
    assert time.monotonic() - started < LATE_S


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 200_000 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nTransfer-Encoding: nonsense\r\n\r\n\x00",
        b"HTTP/9.9 999 ?\r\n\r\n",
        b"\x00" * 1000,
    ],
    ids=["many headers", "a long header", "a long reason", "odd lengths", "another HTTP", "no text"],
)
def test_headers_without_measure_are_a_failure_like_any_other(server: Server, head: bytes) -> None:
    def answer(wire: Wire, _request: Request) -> None:
        wire.write(head + b"\r\n{}")
        wire.close()

    server.behaviour = answer
    with pytest.raises(RequestFailure):
        transport_to(server.url).request("GET", "/nodes", timeout_s=LONG_S).decode(list[int])


def test_other_users_of_the_session_are_not_hurried(server: Server) -> None:
    def slowly(wire: Wire, _request: Request) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":
            wire.write(bytes([byte]))
            wire.stopping.wait(0.01)

    transport = transport_to(server.url)
    server.behaviour = slowly
    # Its time is for each byte, as requests has it: 40 bytes in 0.4 seconds.
    assert transport.adapter.session.get(server.url, timeout=0.2, authenticated=False).text == "{}"


def test_of_a_long_refusal_the_status_counts_and_the_words_do_not(server: Server) -> None:
    body = json.dumps({"error_message": "x" * (REFUSAL_LIMIT_BYTES + 1)}).encode()
    server.behaviour = lambda wire, _request: wire.answer(409, body)
    with failing(Failure.CONFLICT) as raised:
        transport_to(server.url).request("PUT", "/nodes", timeout_s=LONG_S)
    assert raised.value.reason == "HTTP status 409"


def test_the_words_of_a_refusal_are_cut_to_what_somebody_would_read(server: Server) -> None:
    server.behaviour = lambda wire, _request: wire.answer(409, json.dumps({"error_message": "x" * 100_000}).encode())
    with failing(Failure.CONFLICT) as raised:
        transport_to(server.url).request("PUT", "/nodes", timeout_s=LONG_S)
    assert len(raised.value.reason) < 5000


@pytest.mark.parametrize("value", ["req-1 <script>", "x" * 1000, "http://10.0.0.1/secret", "\x1b[31m", ""])
def test_what_could_be_no_requests_id_is_none(server: Server, value: str) -> None:
    server.behaviour = lambda wire, _request: wire.answer(409, X_OpenStack_Request_Id=value)
    with failing(Failure.CONFLICT) as raised:
        transport_to(server.url).request("PUT", "/nodes", timeout_s=LONG_S)
    assert raised.value.request_id is None


# Lists


def gateway(server: Server) -> Ironic:
    return Ironic(transport_to(server.url), Features(NEWEST), Deadline(LATE_S))


def in_circles(*names: str) -> Callable[[Wire, Request], None]:
    """Pages that always say that more follows, and after the last begin anew; nothing has changed since never."""
    turn = iter(range(1_000_000))

    def answer(wire: Wire, _request: Request) -> None:
        name = names[next(turn) % len(names)]
        rows = [{"uuid": f"{name}-{number}", "updated_at": None} for number in range(1000)]
        wire.answer(body=json.dumps({"nodes": rows, "next": "http://elsewhere/v1/nodes?marker=x"}).encode())

    return answer


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_list_that_goes_round_in_circles_is_left(server: Server, names: tuple[str, ...]) -> None:
    server.behaviour = in_circles(*names)
    with pytest.raises(UnexpectedReply, match="has no end"):
        list(gateway(server).nodes())
    assert len(server.requests) == len(names) + 1
    assert all(request.target.startswith("/v1/nodes?") for request in server.requests)


def test_news_that_go_round_in_circles_are_left(server: Server) -> None:
    fleet = Fleet()
    server.behaviour = in_circles("a", "b")
    with pytest.raises(BloomeryError, match="has no end"):
        fleet.refresh(gateway(server))
    assert len(fleet) == 0
