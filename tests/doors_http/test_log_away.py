"""The log cannot be written for a while: it is said so, nothing is begun, and nothing of what is under way is lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from bloomery.doors.http import store, timely_postgresql
from bloomery.secret import Secret
from bloomery.testing import Timings
from doors_http import postgres
from doors_http.http_site import DEPLOY, Site, cloud, served
from doors_http.test_killed import at, provisions

LARGE = {**DEPLOY, "wanted": {"resource_class": "none-is-of-it"}, "guest": {"meta": {"k": "x" * 20_000}}}
"""A deploy that takes room in the log, and leads to nothing."""


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """Another process has the log's file for itself."""
    file = site.server.service.settings.state / "log.sqlite"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    try:
        yield
    finally:
        other.execute("rollback")
        other.close()


@contextmanager
def full(site: Site) -> Iterator[None]:
    """The log cannot grow, as on a full disk."""
    engine = site.server.service.store._engine
    with engine.connect() as connection:
        pages = connection.execute(text("pragma page_count")).scalar_one()
    bounded = f"pragma max_page_count = {pages}"

    def bound(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(bounded)

    event.listen(engine, "checkout", bound)
    try:
        _fill(site)
        yield
    finally:
        bounded = "pragma max_page_count = 1073741823"


def _fill(site: Site) -> None:
    """What room there was in the file's pages is used up."""
    for number in range(1000):
        if site.ask("POST", "/v1/instances", {**LARGE, "name": f"n-{number}"}).status_code == 503:
            return
    raise AssertionError("the log has no end")


@pytest.fixture
def impatient_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.1)
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path) as site:
        yield site


@pytest.mark.parametrize(("unwritable", "word"), [(locked, "locked"), (full, "full")])
def test_nothing_is_begun_and_what_is_under_way_ends_and_is_told(
    impatient_site: Site, unwritable: Callable[[Site], AbstractContextManager[None]], word: str
) -> None:
    site = impatient_site
    site.ironic.timings = Timings(agent_s=1.0)
    operation = site.begun("POST", "/v1/instances", DEPLOY)
    site.wait_for(lambda: at(site, operation, "wait for active"))
    with unwritable(site):
        problem = site.problem(503, "POST", "/v1/instances", {**LARGE, "name": "web-2"})
        assert (problem["title"], word in problem["detail"]) == ("StoreUnavailable", True)
        assert "Nothing was begun" in problem["advice"]
        site.wait_for(lambda: any(node["provision_state"] == "active" for node in site.ironic.nodes()))
        assert [one["name"] for one in site.get("/v1/instances?name=web-1")["instances"]] == ["web-1"]
    ended = site.ended(operation)
    assert (ended["state"], ended["problem"]) == ("succeeded", None)
    kinds = [one["kind"] for one in site.get(f"/v1/events?limit=1000&operation={operation['id']}")["events"]]
    assert kinds.count("operation.succeeded") == 1
    site.wait_for(lambda: "active" in str(site.get("/v1/events?limit=1000&kind=node.provision_state")))
    assert "web-2" not in str(site.get("/v1/instances"))


def kinds_of(site: Site, operation: Any) -> list[str]:
    """What was told of the operation."""
    return [one["kind"] for one in site.get(f"/v1/events?limit=1000&operation={operation['id']}")["events"]]


def states_of(site: Site) -> list[str]:
    """How the instances stand."""
    return [one["state"] for one in site.get("/v1/instances")["instances"]]


@postgres.NEEDED
def test_a_postgresql_that_is_away_holds_up_what_is_new_and_nothing_of_what_is_under_way_is_lost(
    tmp_path: Path,
) -> None:
    with postgres.server() as database, cloud(nodes=4) as (ironic, neutron):
        log = {"database": Secret(postgres.fresh(database.url)), "lease_s": 2.0}
        with (
            served(ironic, neutron, tmp_path / "a", **log) as first,
            served(ironic, neutron, tmp_path / "b", **log) as second,
        ):
            ironic.timings = Timings(agent_s=1.0)
            deploys = [first.begun("POST", "/v1/instances", {**DEPLOY, "name": f"web-{n}"}) for n in range(2)]
            deploys.append(second.begun("POST", "/v1/instances", {**DEPLOY, "name": "web-2"}))
            first.wait_for(lambda: all(at(first, one, "wait for active") for one in deploys))
            database.stop()
            for site in (first, second):
                problem = site.problem(503, "POST", "/v1/instances", {**DEPLOY, "name": "web-3"})
                assert (problem["title"], problem["retryable"]) == ("StoreUnavailable", True)
                assert "Nothing was begun" in problem["advice"]
                assert site.ask("GET", "/readyz").status_code == 503
            # What Ironic shows is told all the same, as it changes.
            first.wait_for(lambda: sum(node["provision_state"] == "active" for node in ironic.nodes()) == 3)
            first.wait_for(lambda: all(states_of(site) == ["active"] * 3 for site in (first, second)))
            ironic.set("node-0", maintenance=True, maintenance_reason="while nobody wrote")
            database.start()
            for one in deploys:
                ended = second.ended(one)
                assert (ended["state"], ended["problem"]) == ("succeeded", None)
                told = kinds_of(first, one)
                assert (told.count("operation.succeeded"), told.count("operation.accepted")) == (1, 1), told
            first.wait_for(lambda: "while nobody wrote" in str(first.get("/v1/events?kind=node.maintenance")))
            states = first.get("/v1/events?limit=1000&kind=node.provision_state")["events"]
            assert len([one for one in states if one["data"]["now"] == "active"]) == 3
            assert "web-3" not in str(first.get("/v1/operations"))
            first.done("DELETE", "/v1/instances/web-0")
        assert provisions(ironic, "active") == 3


@postgres.NEEDED
def test_a_postgresql_that_hangs_is_away_and_nothing_waits_for_it_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timely_postgresql, "ANSWER_TIMEOUT_S", 1.0)
    with postgres.server() as database, cloud(nodes=4) as (ironic, neutron):
        log = {"database": Secret(postgres.fresh(database.url) + "?connect_timeout=2")}
        with served(ironic, neutron, tmp_path / "a", **log) as site:
            ironic.timings = Timings(agent_s=1.0)
            operation = site.begun("POST", "/v1/instances", DEPLOY)
            site.wait_for(lambda: at(site, operation, "wait for active"))
            with site.listening() as stream:
                assert next(stream)["event"] == "hello"
                with database.frozen():
                    problem = site.problem(503, "POST", "/v1/instances", {**DEPLOY, "name": "web-2"})
                    assert (problem["title"], problem["retryable"]) == ("StoreUnavailable", True)
                    assert "Nothing was begun" in problem["advice"]
                    assert next(one for one in stream if one["event"] == "log")["data"] == {"away": True}
                    assert site.get("/v1")["log_reason"].endswith("the database does not answer")
                    assert site.ask("GET", "/readyz").status_code == 503
                    # What Ironic shows is told all the same, and as it changes.
                    site.wait_for(lambda: states_of(site) == ["active"])
                    ironic.set("node-0", maintenance=True, maintenance_reason="while nobody wrote")
                    site.wait_for(lambda: site.get("/v1/nodes/node-0")["maintenance"])
                assert next(one for one in stream if one["event"] == "log")["data"] == {"away": False}
                assert site.get("/v1")["log_reason"] is None
                reasons = (one["data"]["data"].get("reason") for one in stream if one["event"] == "node.maintenance")
                assert next(reasons) == "while nobody wrote"
            ended = site.ended(operation)
            assert (ended["state"], ended["problem"]) == ("succeeded", None)
            told = kinds_of(site, operation)
            assert (told.count("operation.succeeded"), told.count("operation.accepted")) == (1, 1), told
            assert [one["instance_name"] for one in site.get("/v1/operations")["operations"]] == ["web-1"]
            site.done("DELETE", "/v1/instances/web-1")
        assert provisions(ironic, "active") == 1


@postgres.NEEDED
@pytest.mark.parametrize("is_back", [True, False])
def test_an_operation_whose_writing_was_not_confirmed_is_begun_once_or_said_to_be_open(
    is_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timely_postgresql, "ANSWER_TIMEOUT_S", 2.0)
    with ExitStack() as stack:
        database = stack.enter_context(postgres.server())
        ironic, neutron = stack.enter_context(cloud())
        log = {"database": Secret(postgres.fresh(database.url) + "?connect_timeout=5"), "lease_s": 2.0}
        site = stack.enter_context(served(ironic, neutron, tmp_path / "a", **log))
        engine = site.server.service.store._engine
        frozen = ExitStack()

        def thaw() -> None:
            site.wait_for(lambda: site.server.service.store._hangs)
            frozen.close()

        def freeze_before_commit(connection: Any) -> None:
            begun = connection.exec_driver_sql("select count(*) from operations").scalar_one()
            if begun and not is_frozen.is_set():
                is_frozen.set()
                frozen.enter_context(database.frozen())
                if is_back:
                    threading.Thread(target=thaw, daemon=True).start()

        is_frozen = threading.Event()
        event.listen(engine, "commit", freeze_before_commit)
        answer = site.ask("POST", "/v1/instances", DEPLOY)
        if is_back:
            assert answer.status_code == 202, answer.text
        else:
            assert answer.status_code == 503
            assert "It may be begun all the same" in answer.json()["advice"]
        frozen.close()
        site.wait_for(lambda: site.ask("GET", "/readyz").status_code == 200)
        known = site.get("/v1/operations")["operations"]
        # The commit was sent to a server that did not hear it: it is there or not there, and whoever was told so knows.
        assert answer.status_code != 202 or len(known) == 1
        for one in known:
            assert site.ended(one)["state"] == "succeeded"
        assert provisions(ironic, "active") == len(known)
