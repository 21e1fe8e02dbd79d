"""The log cannot be written for a while: it is said so, nothing is begun, and nothing of what is under way is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text

from bloomery.doors.http import store
from bloomery.testing import Timings
from doors_http.http_site import DEPLOY, Site, cloud, served
from doors_http.test_killed import at

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
