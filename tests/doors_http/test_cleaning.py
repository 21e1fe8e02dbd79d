"""The service's janitor: what is certainly left goes, in one replica, as long as nobody has paused it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bloomery.secret import Secret
from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest, Timings
from doors_http import postgres
from doors_http.http_site import DEPLOY, Caller, Site, cloud, connected, running, served
from doors_http.test_killed import at, process
from janitor.leaking import GONE, a_mark, in_minutes

SELDOM: dict[str, Any] = {"janitor": True, "janitor_every_s": 3600.0, "janitor_requests_per_s": 1e6}
"""A janitor that looks only when it is told to."""
OFTEN: dict[str, Any] = {**SELDOM, "janitor_every_s": 0.05, "lease_s": 0.5}


def left(ironic: IronicSimulator, node: str = "node-1") -> None:
    """A deploy was broken off by a process that is no more."""
    mark = a_mark(since=in_minutes(-60), until=in_minutes(-30))
    ironic.set(node, instance_uuid=GONE, extra={"bloomery": mark})


def is_clean(ironic: IronicSimulator, node: str = "node-1") -> bool:
    return ironic.node(node)["instance_uuid"] is None


def told(caller: Caller, what: str) -> Any:
    """What the janitor says to that."""
    answer = caller.ask("POST", "/v1/janitor", {"do": what})
    assert answer.status_code == 200, answer.text
    return answer.json()


def looks(caller: Caller) -> float:
    """So many looks ended in this replica."""
    families = text_string_to_metric_families(caller.ask("GET", "/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "bloomery_janitor_looks_total"
    )


def works(caller: Caller) -> bool:
    """Whether this replica's janitor is not paused."""
    return "bloomery_janitor_working 1.0" in caller.ask("GET", "/metrics").text


def look(caller: Caller) -> Any:
    """One look more has ended; what it came to."""
    before = caller.get("/v1/janitor")["last"]
    told(caller, "look")
    caller.wait_for(lambda: caller.get("/v1/janitor")["last"] != before)
    return caller.get("/v1/janitor")["last"]


@pytest.fixture
def seldom(tmp_path: Path) -> Iterator[Site]:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, **SELDOM) as site:
        yield site


def test_what_is_left_goes_while_the_service_runs_and_that_is_an_event(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, **OFTEN) as site:
        site.wait_for(lambda: looks(site) >= 1)
        left(ironic)
        site.wait_for(lambda: is_clean(ironic))
        site.wait_for(lambda: bool(site.get("/v1/events?kind=leak.mended")["events"]))
        (event,) = site.get("/v1/events?kind=leak.mended")["events"]
        assert (event["actor"], event["node_name"], event["instance_uuid"]) == ("janitor", "node-1", GONE)
        text = site.ask("GET", "/metrics").text
        assert 'bloomery_janitor_mended_total{kind="operation"} 1.0' in text
        assert works(site)


def test_a_look_that_is_asked_for_is_had_at_once_and_shows_what_it_leaves_alone(seldom: Site) -> None:
    left(seldom.ironic)
    seldom.ironic.set("node-2", instance_uuid="0c9f3a56-4d1f-4f0d-9d2d-6a0c6f1f4b77")
    last = look(seldom)
    assert last["found"] == {"left": 1, "unproven": 0, "not ours": 1}
    assert (last["mended"], last["problem"], last["blind"]) == (1, None, [])
    assert [(leak["kind"], leak["node"], leak["verdict"]) for leak in last["leaks"]] == [
        ("claim", "node-2", "not ours")
    ]
    assert is_clean(seldom.ironic)


def test_while_it_is_paused_it_touches_nothing_and_a_new_start_knows_that(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with served(ironic, neutron, tmp_path, **OFTEN) as site:
            site.wait_for(lambda: looks(site) >= 1)
            row = told(site, "pause")
            assert (row["state"], row["changed_by"]) == ("paused", "anonymous")
            site.wait_for(lambda: not works(site))
            left(ironic)
            assert site.problem(409, "POST", "/v1/janitor", {"do": "look"})["title"] == "JanitorPaused"
        with served(ironic, neutron, tmp_path, **OFTEN) as site:
            site.wait_for(lambda: site.server.service.cleaning.is_at_work)
            assert (site.get("/v1/janitor")["state"], works(site)) == ("paused", False)
            assert not is_clean(ironic)
            assert told(site, "go on")["state"] == "on"
            site.wait_for(lambda: is_clean(ironic))


def test_a_service_without_one_says_so(site: Site) -> None:
    left(site.ironic)
    row = site.get("/v1/janitor")
    assert (row["state"], row["last"]) == ("off", None)
    for what in ("look", "pause", "go on"):
        assert site.problem(409, "POST", "/v1/janitor", {"do": what})["title"] == "JanitorOff"
    assert not works(site)
    assert not is_clean(site.ironic)


def refused(path: str) -> Callable[[RecordedRequest], Fault | None]:
    """Whatever is asked there is refused."""
    return lambda request: Fault(FaultKind.STATUS, status=403) if request.path == path else None


def test_what_it_cannot_look_at_is_said_and_the_rest_is_cleaned(seldom: Site) -> None:
    left(seldom.ironic)
    seldom.ironic.on_request = refused("/v1/allocations")
    last = look(seldom)
    assert ("allocations" in str(last["blind"]), last["mended"]) == (True, 1)


def test_a_look_that_sees_nothing_says_why_and_the_next_goes_on(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, **OFTEN) as site:
        site.wait_for(lambda: looks(site) >= 1)
        ironic.on_request = refused("/v1/nodes")
        site.wait_for(lambda: site.get("/v1/janitor")["last"]["problem"] is not None)
        left(ironic)
        ironic.on_request = None
        site.wait_for(lambda: is_clean(ironic))
        site.wait_for(lambda: site.get("/v1/janitor")["last"]["problem"] is None)


def test_it_begins_once_ironic_is_there(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        left(ironic)
        ironic.refuse_connections()
        connect = lambda: connected(ironic, neutron, timeout_s=0.2)  # noqa: E731
        with running(connect, tmp_path, **OFTEN) as (url, server):
            site = Site(url, ironic=ironic, neutron=neutron, server=server)
            assert site.get("/v1/janitor")["state"] == "on"
            ironic.accept_connections()
            site.wait_for(lambda: is_clean(ironic))


def test_what_a_killed_service_was_at_is_brought_to_its_end_before_anything_is_cleaned(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.timings = Timings(agent_s=2.0)
        with process(ironic, neutron, tmp_path) as (caller, service):
            operation = caller.begun("POST", "/v1/instances", {**DEPLOY, "node": "node-0"})
            caller.wait_for(lambda: at(caller, operation, "wait for active"))
            service.kill()
            service.wait()
        left(ironic, "node-2")
        with served(ironic, neutron, tmp_path, **OFTEN) as site:
            site.wait_for(lambda: site.server.service.workers.is_taking_over)
            assert site.ended(operation)["state"] == "succeeded"
            site.wait_for(lambda: is_clean(ironic, "node-2"))
            site.wait_for(lambda: bool(site.get("/v1/events?kind=leak.mended")["events"]))
            ended = site.get(f"/v1/operations/{operation['id']}")["ended_at"]
            assert site.get("/v1/events?kind=leak.mended")["events"][0]["at"] > ended


@postgres.NEEDED
def test_of_two_replicas_one_looks_and_what_either_is_told_holds_for_both(tmp_path: Path, database: str) -> None:
    settings = {**OFTEN, "database": Secret(database), "lease_s": 2.0}
    with (
        cloud() as (ironic, neutron),
        served(ironic, neutron, tmp_path / "b", **settings) as second,
    ):
        with served(ironic, neutron, tmp_path / "a", **settings) as first:
            second.wait_for(lambda: looks(first) + looks(second) >= 5)
            assert min(looks(first), looks(second)) == 0
            told(second, "pause")
            second.wait_for(lambda: not works(first) and not works(second))
            left(ironic)
            told(first, "go on")
            second.wait_for(lambda: is_clean(ironic))
        left(ironic, "node-0")
        second.wait_for(lambda: is_clean(ironic, "node-0"))
