"""The proxy passes everything on as it comes, strikes what its rules say, and records both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import requests
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

from bloomery import DeployRequest, Image, Nic, connect
from bloomery.lab import Lab
from bloomery.testing import Fault, FaultKind, FaultProxy, FaultRule, IronicSimulator, Lasting
from testing.simulated_api import Api, fault

MARK = [{"op": "add", "path": "/extra/a", "value": 1}]


@pytest.fixture
def proxy(ironic: IronicSimulator) -> Iterator[FaultProxy]:
    with FaultProxy(ironic.url) as between:
        yield between


@pytest.fixture
def through(proxy: FaultProxy) -> Iterator[Api]:
    with Api(proxy.url) as api:
        yield api


def struck(kind: FaultKind, **more: float | int | str) -> FaultRule:
    """A rule that strikes the first request."""
    return FaultRule(fault=Fault(kind, **more))  # type: ignore[arg-type]  # each has its own type


def test_without_rules_everything_is_passed_on_as_it_comes(
    ironic: IronicSimulator, proxy: FaultProxy, api: Api, through: Api
) -> None:
    node = ironic.add_node("a b")
    answered = through.ask("PATCH", f"/v1/nodes/{node}", MARK)
    assert (answered.status_code, ironic.node(node)["extra"]) == (200, {"a": 1})
    query = "/v1/nodes?fields=uuid,name&instance_uuid=%7B1%7D"
    assert through.ask("GET", query).content == api.ask("GET", query).content
    assert [sent.target for sent in ironic.requests] == [f"/v1/nodes/{node}", query, query]
    assert [(sent.method, sent.status) for sent in proxy.requests] == [("PATCH", 200), ("GET", 400)]
    kept = ("X-OpenStack-Ironic-API-Maximum-Version", "Content-Type")
    assert {name: answered.headers[name] for name in kept} == {
        name: value for name, value in api.ask("GET", f"/v1/nodes/{node}").headers.items() if name in kept
    }


@pytest.mark.parametrize("kind", [FaultKind.DELAY, FaultKind.RESET, FaultKind.LOSE_REPLY, FaultKind.DELAY_REPLY])
def test_what_is_to_happen_meanwhile_happens_before_the_deed_or_between_deed_and_reply(
    ironic: IronicSimulator, proxy: FaultProxy, through: Api, kind: FaultKind
) -> None:
    node = ironic.add_node("a")
    seen: list[object] = []
    look = Fault(kind, meanwhile=lambda: seen.append(ironic.node(node)["extra"]))
    proxy.arm(FaultRule(fault=look))
    with contextlib.suppress(requests.ConnectionError):
        through.ask("PATCH", f"/v1/nodes/{node}", MARK)
    assert seen == [{"a": 1} if kind.strikes_the_reply else {}]
    assert ironic.node(node)["extra"] == ({} if kind is FaultKind.RESET else {"a": 1})


def test_refusals_of_the_service_are_passed_on(through: Api) -> None:
    refused = through.ask("GET", "/v1/nodes/nobody")
    assert refused.status_code == 404
    assert "nobody" in fault(refused)


def test_links_in_the_answers_lead_back_to_the_proxy(ironic: IronicSimulator, proxy: FaultProxy, through: Api) -> None:
    through.get("/v1/nodes")
    assert ironic.requests[-1].headers["host"] == proxy.url.removeprefix("http://")


def test_a_service_under_a_path_is_reached(ironic: IronicSimulator) -> None:
    with FaultProxy(f"{ironic.url}/v1/") as between, Api(between.url) as through:
        assert through.get("/nodes") == {"nodes": []}


def test_a_service_that_is_away_is_a_bad_gateway(ironic: IronicSimulator, through: Api) -> None:
    with ironic.unreachable():
        assert through.ask("GET", "/v1/nodes").status_code == 502
    assert through.get("/v1/nodes") == {"nodes": []}


def test_a_rule_strikes_the_request_that_it_names_as_often_as_it_says(
    ironic: IronicSimulator, proxy: FaultProxy, through: Api
) -> None:
    node = ironic.add_node()
    rule = FaultRule(fault=Fault(FaultKind.STATUS, status=500), method="GET", path="/vifs$", nth=2, times=2)
    proxy.arm(rule)
    through.get(f"/v1/nodes/{node}")
    statuses = [through.ask("GET", f"/v1/nodes/{node}/vifs").status_code for _ in range(5)]
    assert statuses == [200, 500, 500, 200, 200]
    assert [(strike.rule, strike.request.status) for strike in proxy.struck] == [(rule, 500)] * 2


def test_a_rule_without_number_strikes_all_that_follow_until_there_are_other_rules(
    proxy: FaultProxy, through: Api
) -> None:
    proxy.arm(
        FaultRule(fault=Fault(FaultKind.STATUS, status=429), times=None, where=lambda sent: "limit" in sent.query)
    )
    assert [through.ask("GET", f"/v1/nodes{query}").status_code for query in ("", "?limit=1", "?limit=2")] == [
        200,
        429,
        429,
    ]
    proxy.arm()
    assert (proxy.rules, proxy.struck) == ([], [])
    assert through.ask("GET", "/v1/nodes?limit=1").status_code == 200


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503])
def test_a_status_is_answered_without_the_deed(
    ironic: IronicSimulator, proxy: FaultProxy, through: Api, status: int
) -> None:
    node = ironic.add_node()
    proxy.arm(struck(FaultKind.STATUS, status=status))
    assert through.ask("PATCH", f"/v1/nodes/{node}", MARK).status_code == status
    assert ironic.requests == []


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.LOSE_REPLY, FaultKind.CUT_BODY])
def test_a_connection_that_breaks_says_nothing_of_the_deed(
    ironic: IronicSimulator, proxy: FaultProxy, through: Api, kind: FaultKind
) -> None:
    node = ironic.add_node()
    proxy.arm(struck(kind))
    with pytest.raises(requests.RequestException):
        through.ask("PATCH", f"/v1/nodes/{node}", MARK)
    assert ironic.node(node)["extra"] == ({} if kind is FaultKind.RESET else {"a": 1})


def test_a_refusing_proxy_refuses_for_a_while(proxy: FaultProxy, through: Api) -> None:
    proxy.arm(struck(FaultKind.REFUSE))
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            through.ask("GET", "/v1/nodes")
    proxy.accept_connections()
    assert through.get("/v1/nodes") == {"nodes": []}


@pytest.mark.parametrize("kind", [FaultKind.DELAY, FaultKind.DELAY_REPLY])
def test_a_deed_may_be_done_after_its_client_has_gone(
    ironic: IronicSimulator, proxy: FaultProxy, kind: FaultKind
) -> None:
    node = ironic.add_node()
    proxy.arm(struck(kind, delay_s=0.2))
    headers = {"X-OpenStack-Ironic-API-Version": "1.81"}
    with pytest.raises(requests.ReadTimeout):
        requests.patch(f"{proxy.url}/v1/nodes/{node}", json=MARK, headers=headers, timeout=0.05)
    proxy.wait_until_idle()
    assert ironic.node(node)["extra"] == {"a": 1}


def test_silence_ends_when_the_client_goes(ironic: IronicSimulator, proxy: FaultProxy) -> None:
    proxy.arm(struck(FaultKind.SILENCE))
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{proxy.url}/v1/nodes", timeout=0.05)
    proxy.wait_until_idle()
    assert ironic.requests == []


def test_a_proxy_that_is_stopped_ends_its_silence(proxy: FaultProxy) -> None:
    with FaultProxy(proxy.url, struck(FaultKind.SILENCE)) as silent:
        silent.on_request = lambda _: None
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{silent.url}/v1/nodes", timeout=0.05)
    assert silent.requests[0].status is None


def test_a_slow_answer_comes_byte_by_byte_and_whole(proxy: FaultProxy, through: Api) -> None:
    proxy.arm(struck(FaultKind.TRICKLE, delay_s=0.0001))
    assert through.get("/v1/nodes") == {"nodes": []}


def test_an_answer_may_be_no_json_or_json_of_another_shape(proxy: FaultProxy, through: Api) -> None:
    proxy.arm(struck(FaultKind.GARBAGE_BODY))
    with pytest.raises(requests.JSONDecodeError):
        through.get("/v1/nodes")
    proxy.arm(struck(FaultKind.OTHER_SHAPE, body='{"nodes": 7}'))
    assert through.get("/v1/nodes") == {"nodes": 7}


def test_a_lock_refuses_changes_as_ironic_does_and_lets_reads_pass(
    ironic: IronicSimulator, proxy: FaultProxy, through: Api
) -> None:
    node = ironic.add_node()
    proxy.arm(FaultRule(fault=Lasting.LOCK, path=node))
    for _ in range(3):
        refused = through.ask("PATCH", f"/v1/nodes/{node}", MARK)
        assert refused.status_code == 409
        assert "locked" in fault(refused)
        assert through.get(f"/v1/nodes/{node}")["extra"] == {}
    assert len(proxy.struck) == 1


def test_a_lock_is_over_after_its_time(ironic: IronicSimulator, proxy: FaultProxy, through: Api) -> None:
    node = ironic.add_node()
    proxy.arm(FaultRule(fault=Lasting.LOCK, lasts_s=0.05))
    statuses = [through.ask("PATCH", f"/v1/nodes/{node}", MARK).status_code]
    while statuses[-1] == 409:
        statuses.append(through.ask("PATCH", f"/v1/nodes/{node}", MARK).status_code)
    assert statuses[-1] == 200
    assert len(statuses) > 1


def test_a_token_that_has_expired_is_refused_until_there_is_another(proxy: FaultProxy, through: Api) -> None:
    proxy.arm(FaultRule(fault=Lasting.TOKEN_EXPIRED, nth=2))
    tokens = ["old", "old", "old", "new", "old"]
    statuses = [through.ask("GET", "/v1/nodes", headers={"X-Auth-Token": token}).status_code for token in tokens]
    assert statuses == [200, 401, 401, 200, 401]


def test_without_tokens_one_request_is_refused(proxy: FaultProxy, through: Api) -> None:
    proxy.arm(FaultRule(fault=Lasting.TOKEN_EXPIRED))
    assert [through.ask("GET", "/v1/nodes").status_code for _ in range(3)] == [401, 200, 200]


@pytest.mark.lab
def test_a_deploy_on_a_real_ironic_survives_what_the_proxy_does_to_it(lab: Lab) -> None:
    rules = (
        FaultRule(fault=Fault(FaultKind.LOSE_REPLY), method="PATCH"),
        FaultRule(fault=Fault(FaultKind.STATUS, status=503), method="POST", path="/vifs$"),
        FaultRule(fault=Fault(FaultKind.LOSE_REPLY), method="PUT", path="/states/provision$"),
        FaultRule(fault=Fault(FaultKind.STATUS, status=502), method="GET", path="/nodes/[^/]+$", nth=2),
        FaultRule(fault=Fault(FaultKind.CUT_BODY), method="GET", path="/nodes/[^/]+$", nth=4),
    )
    assert lab.neutron_url is not None
    with FaultProxy(lab.ironic_url, *rules) as proxy:
        cloud = connect(session=Session(auth=NoAuth()), endpoints={"baremetal": proxy.url, "network": lab.neutron_url})
        image = lab.images["whole-disk"]
        request = DeployRequest(
            name="struck",
            image=Image.named(image.url, checksum=image.sha256),
            node="node-4",
            nics=(Nic(network="private"),),
        )
        try:
            assert cloud.deploy(request, timeout_s=240).state == "active"
            asked = [sent for sent in proxy.requests if sent.path.endswith("/states/provision")]
            # How often the node is looked at depends on how fast it is; what changes something is sent once in any case.
            assert {strike.rule for strike in proxy.struck} >= set(rules[:3])
            assert len(asked) == 1
        finally:
            proxy.arm()
            cloud.destroy("node-4", wait_for_cleaning=True, timeout_s=240)
