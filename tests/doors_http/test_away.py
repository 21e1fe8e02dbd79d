"""Ironic is away when the service starts: what was known is shown with its age, and what would change something says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bloomery import errors
from bloomery.doors.http.server import server_for
from bloomery.doors.http.settings import Settings
from bloomery.errors import AccessDenied
from bloomery.ironic import Node
from bloomery.library import Bloomery
from bloomery.testing import Fault, FaultKind, IronicSimulator, NeutronSimulator, Timings
from doors_http.http_site import DEPLOY, TIMEOUT_S, Site, cloud, connected, running, served
from doors_http.test_killed import at, process, provisions


def gauges(text: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


@contextmanager
def impatient(ironic: IronicSimulator, neutron: NeutronSimulator, folder: Path, **settings: Any) -> Iterator[Site]:
    """A service that does not wait long for an Ironic that is not there."""
    with running(lambda: connected(ironic, neutron, timeout_s=0.2), folder, **settings) as (url, server):
        yield Site(url, ironic=ironic, neutron=neutron, server=server)


def test_a_start_while_ironic_is_away_shows_what_the_one_before_saw(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with served(ironic, neutron, tmp_path) as site:
            site.deployed()
            nodes, instances = site.get("/v1/nodes"), site.get("/v1/instances")
        with (
            ironic.unreachable(),
            impatient(ironic, neutron, tmp_path) as site,
        ):
            assert (site.get("/v1/nodes"), site.get("/v1/instances")) == (nodes, instances)
            for path in ("/v1/nodes", "/v1/instances", "/v1/fleet", "/v1/nodes/node-0", "/v1/instances/web-1"):
                assert float(site.ask("GET", path).headers["Bloomery-Stale"]) >= 0
            about = site.get("/v1")
            assert about["ironic_api"] is None
            assert about["stale_s"] >= 0
            assert "cannot be reached" in about["stale_reason"]
            assert site.ask("GET", "/readyz").status_code == 200
            assert gauges(site.ask("GET", "/metrics").text)["bloomery_ironic_up"] == 0
            for method, path, body in (
                ("POST", "/v1/instances", {**DEPLOY, "name": "web-2"}),
                ("DELETE", "/v1/instances/web-1", None),
                ("POST", "/v1/instances/web-1/power", {"target": "off"}),
                ("GET", "/v1/nodes/node-0/validation", None),
                ("GET", "/v1/nodes/unknown", None),
                ("GET", "/v1/instances/unknown", None),
            ):
                problem = site.problem(503, method, path, body)
                assert (problem["title"], problem["retryable"]) == ("ServiceUnavailable", True)
            assert {one["kind"] for one in site.get("/v1/operations")["operations"]} == {"deploy"}
            ironic.accept_connections()
            site.wait_for(lambda: site.get("/v1")["ironic_api"] is not None)
            site.wait_for(lambda: "Bloomery-Stale" not in site.ask("GET", "/v1/nodes").headers)
            site.done("DELETE", "/v1/instances/web-1")


def test_a_first_start_while_ironic_is_away_says_that_nothing_is_known(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.refuse_connections()
        with impatient(ironic, neutron, tmp_path) as site:
            for path in ("/v1/nodes", "/v1/instances", "/v1/fleet", "/v1/why-not", "/v1/nodes/node-0"):
                assert site.problem(503, "GET", path)["title"] == "ServiceUnavailable"
            assert site.get("/v1")["stale_s"] is None
            assert site.ask("GET", "/readyz").status_code == 503
            assert gauges(site.ask("GET", "/metrics").text)["bloomery_ironic_up"] == 0
            ironic.accept_connections()
            site.wait_for(lambda: site.ask("GET", "/readyz").status_code == 200)
            assert len(site.get("/v1/nodes")["nodes"]) == 3


def test_an_ironic_that_says_nothing_is_away_like_one_that_is_not_there(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.on_request = lambda _request: Fault(FaultKind.DELAY, delay_s=TIMEOUT_S)
        with impatient(ironic, neutron, tmp_path) as site:
            assert site.get("/v1")["ironic_api"] is None
            assert site.problem(503, "GET", "/v1/nodes")["retryable"]
            assert site.problem(503, "POST", "/v1/instances", DEPLOY)["retryable"]
            ironic.on_request = None
            site.wait_for(lambda: site.ask("GET", "/readyz").status_code == 200)


def test_what_waiting_does_not_mend_ends_the_start(tmp_path: Path) -> None:
    def connect() -> Bloomery:
        raise AccessDenied("Ironic does not let us in")

    with pytest.raises(errors.AccessDenied):
        server_for(connect, Settings(port=0, state=tmp_path / "state"))


def test_an_operation_that_was_left_waits_for_ironic_and_is_followed_to_its_end(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.timings = Timings(agent_s=1.0)
        with process(ironic, neutron, tmp_path) as (caller, service):
            operation = caller.begun("POST", "/v1/instances", DEPLOY)
            caller.wait_for(lambda: at(caller, operation, "wait for active"))
            service.kill()
            service.wait()
        ironic.refuse_connections()
        with impatient(ironic, neutron, tmp_path, lease_s=0.5) as site:
            site.wait_for(lambda: site.server.service.workers.under_way == 1)
            assert site.get(f"/v1/operations/{operation['id']}")["state"] == "running"
            ironic.accept_connections()
            assert site.ended(operation)["state"] == "succeeded"
        assert provisions(ironic, "active") == 1


def test_what_is_kept_follows_the_fleet(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path) as site:
        service = site.server.service
        site.wait_for(lambda: len(service.store.last_view()[1]) == 3)
        ironic.set("node-1", owner="somebody")
        site.wait_for(lambda: site.get("/v1/nodes/node-1")["owner"] == "somebody")
        service.following.stop()
        service._write_view()
        as_of, nodes = service.store.last_view()
        assert (as_of, sorted(nodes, key=_uuid)) == (
            service.following.view.as_of,
            sorted(service.following.view.nodes, key=_uuid),
        )


def _uuid(node: Node) -> str:
    return node.uuid
