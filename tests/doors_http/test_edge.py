"""What every request passes: ids, headers, limits, foreign pages and foreign names."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import requests

from bloomery.doors.http.edge import HEADERS, Rates, origin_of
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.settings import Auth, Settings
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret
from doors_http import postgres
from doors_http.http_site import DEPLOY, Site, cloud, served


def test_a_request_keeps_its_id_through_to_ironic(site: Site) -> None:
    given = "req-00000000-1111-2222-3333-444444444444"
    operation = site.begun("POST", "/v1/instances", DEPLOY, X_OpenStack_Request_ID=given)
    assert site.ended(operation)["request_id"] == given
    sent = {
        request.headers.get("x-openstack-request-id") for request in site.ironic.requests if request.method == "PATCH"
    }
    assert sent == {given}


def test_an_id_that_is_none_of_openstacks_is_replaced(site: Site) -> None:
    answer = site.ask("GET", "/v1", X_OpenStack_Request_ID='x"; drop')
    assert answer.headers["X-OpenStack-Request-ID"].startswith("req-")
    assert "drop" not in answer.headers["X-OpenStack-Request-ID"]


@pytest.mark.parametrize("path", ["/v1", "/v1/nope", "/v1/instances", "/healthz", "/metrics", "/v1/openapi.json"])
def test_every_answer_has_the_security_headers(site: Site, path: str) -> None:
    answer = site.ask("GET", path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "server" not in {name.lower() for name in answer.headers}


def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, body_limit_bytes=10_000) as site:
        assert site.problem(413, "POST", "/v1/instances", {**DEPLOY, "name": "x" * 20_000})["title"] == "TooLarge"


def test_a_body_without_a_length_is_read_up_to_the_limit_only(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, body_limit_bytes=10_000) as site:
        parts = (b" " * 1000 for _ in range(100))
        answer = requests.post(
            f"{site.url}/v1/instances", data=parts, headers={"Content-Type": "application/json"}, timeout=10
        )
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_foreign_form_can_send_is_refused(site: Site, media_type: str) -> None:
    answer = requests.post(f"{site.url}/v1/instances", data=b"{}", headers={"Content-Type": media_type}, timeout=10)
    assert (answer.status_code, answer.json()["title"]) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_somebody_else_changes_nothing(site: Site, headers: dict[str, str]) -> None:
    assert site.problem(403, "POST", "/v1/instances", DEPLOY, **headers)["title"] == "ForeignOrigin"
    assert site.problem(403, "DELETE", "/v1/instances/x", **headers)["title"] == "ForeignOrigin"
    assert site.get("/v1/operations")["operations"] == []


def test_the_services_own_page_may_ask(site: Site) -> None:
    site.begun("POST", "/v1/instances", DEPLOY, Origin=site.url)


def test_a_foreign_name_that_leads_here_is_not_answered(site: Site) -> None:
    assert site.problem(421, "GET", "/v1/nodes", Host="evil.example:80")["title"] == "WrongHost"


def test_a_name_that_the_service_was_given_is_answered(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, hosts=("bloomery.example",)) as site:
        assert site.ask("GET", "/v1", Host="bloomery.example").status_code == 200


def test_nobody_may_ask_without_end(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, rate_per_s=0.001, burst=5) as site:
        answers = [site.ask("GET", "/v1") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) > 0


def test_a_bucket_fills_again_with_time_and_never_over_its_rim() -> None:
    now = [0.0]
    rates = Rates(2, 3, now=lambda: now[0])
    for _ in range(3):
        rates.check("a")
    with pytest.raises(Refusal):
        rates.check("a")
    rates.check("b")
    now[0] = 0.5
    rates.check("a")
    with pytest.raises(Refusal):
        rates.check("a")
    now[0] = 100.0
    for _ in range(3):
        rates.check("a")
    with pytest.raises(Refusal):
        rates.check("a")


@pytest.mark.parametrize(
    ("client", "forwarded_for", "origin"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["192.0.2.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("198.51.100.4", ["192.0.2.7"], "198.51.100.4"),
        ("unknown", ["192.0.2.7"], "unknown"),
    ],
)
def test_where_a_request_comes_from_is_what_the_last_proxy_of_ours_says(
    client: str, forwarded_for: list[str], origin: str
) -> None:
    assert origin_of(client, forwarded_for, [ip_network("10.0.0.0/8")]) == origin


@pytest.mark.parametrize(("proxies", "address"), [((ip_network("127.0.0.0/8"),), "192.0.2.7"), ((), "127.0.0.1")])
def test_only_a_proxy_of_ours_is_believed_for_whom_it_asks(
    tmp_path: Path, proxies: tuple[Any, ...], address: str
) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, proxies=proxies) as site:
        site.ask("DELETE", "/v1/instances/nobodys", X_Forwarded_For="203.0.113.9, 192.0.2.7")
        site.wait_for(lambda: bool(site.get("/v1/audit")["calls"]))
        assert [call["address"] for call in site.get("/v1/audit")["calls"]] == [address]


def test_behind_a_proxy_one_who_asks_without_end_is_alone_in_having_to_wait(tmp_path: Path) -> None:
    limits = {"proxies": (ip_network("127.0.0.0/8"),), "rate_per_s": 0.001, "burst": 2}
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, **limits) as site:
        statuses = [site.ask("GET", "/v1", X_Forwarded_For="192.0.2.7").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert site.ask("GET", "/v1", X_Forwarded_For="192.0.2.8").status_code == 200


def test_methods_that_somebody_makes_up_are_one_in_the_metrics_and_cut_short_in_the_audit(site: Site) -> None:
    made_up = [f"{'VERY' * 10}{number}" for number in range(3)]
    for method in made_up:
        assert site.ask(method, "/v1/nodes").status_code == 405
    text = site.ask("GET", "/metrics").text
    assert 'method="other"' in text
    assert "VERY" not in text
    site.wait_for(lambda: len(site.get("/v1/audit")["calls"]) == len(made_up))
    assert {call["method"] for call in site.get("/v1/audit")["calls"]} == {"VERYVERYVERYVERY"}


@postgres.NEEDED
def test_a_zero_character_is_refused_and_keeps_no_call_out_of_the_audit(tmp_path: Path, database: str) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, database=Secret(database)) as site:
        for path in ("/v1/nodes/a%00b", "/v1/operations?kind=%00", "/v1/events?node=a%00b"):
            assert "zero character" in site.problem(400, "GET", path)["detail"]
        site.problem(400, "DELETE", "/v1/instances/a%00b")
        wanted = {**DEPLOY, "wanted": {"resource_class": "a\0b"}}
        assert site.problem(422, "POST", "/v1/instances", wanted)["errors"][0]["where"] == "body.wanted.resource_class"
        last = site.ask("GET", "/v1/nodes").headers["X-OpenStack-Request-ID"]
        site.wait_for(lambda: last in {call["request_id"] for call in site.get("/v1/audit/reads?limit=1000")["calls"]})
        paths = {call["path"] for call in site.get("/v1/audit/reads?limit=1000")["calls"]}
        assert "/v1/nodes/a\ufffdb" in paths
        assert "/v1/instances/a\ufffdb" in {call["path"] for call in site.get("/v1/audit")["calls"]}


def test_a_request_of_another_protocol_does_not_end_the_service(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        connection.recv(1000)
    assert site.get("/v1")["version"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"host": "0.0.0.0"}, "without authentication"),
        ({"host": "bloomery.example"}, "without authentication"),
        ({"auth": Auth.BASIC}, "--users"),
        ({"auth": Auth.KEYSTONE}, "--keystone-config"),
        ({"tls_certificate": Path("x.pem")}, "certificate"),
        ({"images": Path("there-is-no-such-file")}, "cannot be read"),
        ({"database": Secret("mysql://u:hunter2@host/x")}, "no database"),
        ({"refresh_s": 0}, "refresh_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=wrong) as refusal:
        Settings(**given)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_authentication(host: str) -> None:
    assert Settings(host=host).auth is Auth.NONE
