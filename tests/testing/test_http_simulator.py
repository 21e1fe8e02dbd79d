"""Requests are recorded and faults happen as ordered."""

from __future__ import annotations

import socket

import pytest
import requests

from bloomery.testing import Fault, FaultKind, IronicSimulator
from bloomery.testing.http_simulator import HttpSimulator
from testing.simulated_api import Api, fault


def test_the_port_stays_the_services_own_while_connections_are_refused() -> None:
    with HttpSimulator() as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with simulator.unreachable():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
                stranger.bind(("127.0.0.1", port))
        socket.create_connection(("127.0.0.1", port)).close()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))


def test_every_request_is_recorded_with_its_answer(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.patch(f"/v1/nodes/{node}", extra={"a": 1})
    api.ask("GET", "/v1/nodes/nobody?fields=uuid,name")
    patch, get = ironic.requests
    assert (patch.method, patch.path, patch.status, patch.is_write) == ("PATCH", f"/v1/nodes/{node}", 200, True)
    assert patch.body == [{"op": "replace", "path": "/extra", "value": {"a": 1}}]
    assert (get.status, get.query, get.is_write) == (404, {"fields": "uuid,name"}, False)
    assert patch.at_s <= get.at_s


def test_a_status_fault_answers_without_the_deed(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    ironic.on_request = lambda _: Fault(FaultKind.STATUS, status=503, message="busy")
    response = api.ask("PATCH", f"/v1/nodes/{node}", [{"op": "add", "path": "/extra/a", "value": 1}])
    assert response.status_code == 503
    assert fault(response) == "busy"
    assert ironic.node(node)["extra"] == {}


@pytest.mark.parametrize("kind", [FaultKind.LOSE_REPLY, FaultKind.CUT_BODY])
def test_a_lost_or_cut_reply_comes_after_the_deed(ironic: IronicSimulator, api: Api, kind: FaultKind) -> None:
    node = ironic.add_node()
    ironic.on_request = lambda _: Fault(kind)
    with pytest.raises(requests.RequestException):
        api.ask("PATCH", f"/v1/nodes/{node}", [{"op": "add", "path": "/extra/a", "value": 1}])
    assert ironic.node(node)["extra"] == {"a": 1}


def test_an_error_can_be_answered_after_the_deed(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    ironic.on_request = lambda _: Fault(FaultKind.STATUS_AFTER, status=500)
    response = api.ask("PATCH", f"/v1/nodes/{node}", [{"op": "add", "path": "/extra/a", "value": 1}])
    assert response.status_code == 500
    assert ironic.node(node)["extra"] == {"a": 1}


def test_a_reset_comes_before_the_deed(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    ironic.on_request = lambda _: Fault(FaultKind.RESET)
    with pytest.raises(requests.ConnectionError, match="reset"):
        api.ask("PATCH", f"/v1/nodes/{node}", [{"op": "add", "path": "/extra/a", "value": 1}])
    assert ironic.node(node)["extra"] == {}


def test_a_garbage_body_is_no_json(ironic: IronicSimulator, api: Api) -> None:
    ironic.on_request = lambda _: Fault(FaultKind.GARBAGE_BODY)
    response = api.ask("GET", "/v1/nodes")
    assert response.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_a_refusing_simulator_refuses_until_it_accepts_again(ironic: IronicSimulator, api: Api) -> None:
    ironic.on_request = lambda _: Fault(FaultKind.REFUSE)
    with pytest.raises(requests.ConnectionError):
        api.ask("GET", "/v1/nodes")
    ironic.on_request = None
    with pytest.raises(requests.ConnectionError, match="refused"):
        api.ask("GET", "/v1/nodes")
    ironic.accept_connections()
    assert api.get("/v1/nodes") == {"nodes": []}


def test_an_unreachable_simulator_is_back_after_the_block(ironic: IronicSimulator, api: Api) -> None:
    url = ironic.url
    with ironic.unreachable(), pytest.raises(requests.ConnectionError):
        api.ask("GET", "/v1/nodes")
    assert ironic.url == url
    assert api.get("/v1/nodes") == {"nodes": []}


@pytest.mark.parametrize("kind", [FaultKind.DELAY, FaultKind.DELAY_REPLY])
def test_a_delayed_request_is_answered_in_the_end(ironic: IronicSimulator, api: Api, kind: FaultKind) -> None:
    ironic.on_request = lambda _: Fault(kind, delay_s=0.01)
    assert api.get("/v1/nodes") == {"nodes": []}


def test_a_stopped_simulator_leaves_no_connection() -> None:
    ironic = IronicSimulator()
    ironic.start()
    with Api(ironic.url) as api:
        api.get("/v1/nodes")
        ironic.stop()
        with pytest.raises(requests.ConnectionError):
            api.ask("GET", "/v1/nodes")
    assert not ironic._connections
