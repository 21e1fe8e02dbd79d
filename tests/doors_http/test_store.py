"""The service's log: written whole or not at all, by one or by many, brought up to date, and not without end."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from bloomery.doors.http.problems import Refusal, StoreUnavailable
from bloomery.doors.http.store import Event, Row, Store
from bloomery.doors.http.tables import MIGRATIONS, bring_up_to_date
from bloomery.errors import InvalidRequest
from bloomery.ironic import Node
from bloomery.secret import Secret
from doors_http import postgres
from doors_http.http_site import DEPLOY, Site


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=postgres.NEEDED)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty log, in each of the databases."""
    database = None
    if request.param == "postgresql":
        database = Secret(request.getfixturevalue("database"))
    store = Store(tmp_path / "state", database)
    yield store
    store.close()


def operation(**more: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "kind": "deploy", "state": "queued", "instance_uuid": str(uuid4()), "actor": "alice",
        "arguments": {}, "has_secrets": False, "steps": [], "cancelling": False, "holder": "a", **more,
    }  # fmt: skip


def accept(
    store: Store, *, key: str | None = None, fingerprint: bytes = b"x", lease_s: float = 60.0, **more: Any
) -> tuple[Row, bool]:
    return store.accept(
        operation(**more),
        Event(kind="operation.accepted"),
        lease_s=lease_s,
        caller="alice",
        key=key,
        fingerprint=fingerprint,
    )


def test_an_operation_and_its_event_are_written_together_or_not_at_all(store: Store) -> None:
    first, _ = accept(store)
    with pytest.raises(IntegrityError):
        # Another of the same id cannot be; and so its event is not, either.
        accept(store, id=first["id"])
    assert len(store.events(limit=10)) == 1


def test_many_that_come_at_once_with_one_key_lead_to_one_operation(store: Store) -> None:
    results: list[tuple[Row, bool]] = []
    threads = [threading.Thread(target=lambda: results.append(accept(store, key="k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row["id"] for row, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1
    with pytest.raises(Refusal):
        accept(store, key="k", fingerprint=b"y")


def test_a_fleet_of_forty_thousand_nodes_is_noted_at_once_and_forgotten_at_once(store: Store) -> None:
    seen: dict[str, dict[str, Any]] = {str(number): {} for number in range(40_000)}
    store.saw(seen, [Event(kind="node.appeared", node_uuid=str(number)) for number in range(3000)])
    assert store.seen_nodes() == seen
    assert [event["node_uuid"] for event in store.events(limit=3000)] == list(seen)[:3000]
    store.saw(dict.fromkeys(seen), [])
    assert store.seen_nodes() == {}


def test_what_ironic_showed_last_is_kept_with_its_time(store: Store) -> None:
    assert store.last_view() == (0.0, [])
    one, two = Node(uuid="1", name="one", traits=["CUSTOM_A"], extra={"k": [1]}), Node(uuid="2")
    store.keep_view(5.0, {"1": one, "2": two}, whole=True)
    assert store.last_view() == (5.0, [one, two])
    store.keep_view(6.0, {"1": None, "2": Node(uuid="2", owner="p")}, whole=False)
    assert store.last_view() == (6.0, [Node(uuid="2", owner="p")])
    store.keep_view(7.0, {"1": one}, whole=True)
    assert store.last_view() == (7.0, [one])


def test_an_abandoned_operation_goes_to_one_taker_only(store: Store) -> None:
    for _ in range(20):
        accept(store, lease_s=-1.0)
    held, _ = accept(store, lease_s=60.0)
    taken: list[tuple[str, str]] = []

    def take(holder: str) -> None:
        while rows := store.take_over(holder, 60.0, limit=3):
            taken.extend((row["id"], holder) for row in rows)

    threads = [threading.Thread(target=take, args=(f"replica-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len({operation_id for operation_id, _ in taken}) == 20
    assert held["id"] not in {operation_id for operation_id, _ in taken}


def test_nobody_takes_over_what_he_carries_out_himself_when_the_clock_is_set(store: Store) -> None:
    row, _ = accept(store, lease_s=-3600.0)
    assert store.take_over("a", 60.0, but=[row["id"]], limit=10) == []
    assert [taken["id"] for taken in store.take_over("b", 60.0, limit=10)] == [row["id"]]


def test_whoever_lost_an_operation_writes_nothing_of_it_any_more(store: Store) -> None:
    row, _ = accept(store, lease_s=-1.0)
    (taken,) = store.take_over("b", 60.0, limit=1)
    assert taken["id"] == row["id"]
    assert not store.set_operation(row["id"], "a", {"state": "failed"}, Event(kind="operation.failed"))
    assert store.set_operation(row["id"], "b", {"state": "succeeded"}, Event(kind="operation.succeeded"))
    assert [event["kind"] for event in store.events(limit=10)] == ["operation.accepted", "operation.succeeded"]
    assert store.hold([row["id"]], "a", 60.0) == []


def test_one_leads_until_he_lets_go_or_is_not_heard_of(store: Store) -> None:
    assert store.lead("events", "a", 60.0)
    assert not store.lead("events", "b", 60.0)
    assert store.lead("events", "a", 60.0)
    store.let_go("a")
    assert store.lead("events", "b", -1.0)
    assert store.lead("events", "a", 60.0)


def test_nobody_sees_a_number_while_a_lower_one_is_still_to_come(store: Store) -> None:
    stopping = threading.Event()

    def write() -> None:
        while not stopping.is_set():
            store.tell(*(Event(kind="node.step") for _ in range(3)))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 300:
        seen += [event["number"] for event in store.events(after=seen[-1] if seen else 0, limit=50)]
    stopping.set()
    for thread in threads:
        thread.join()
    assert seen == [event["number"] for event in store.events(limit=len(seen))]


def test_what_is_old_or_too_much_is_forgotten_and_what_is_under_way_is_not(store: Store) -> None:
    running, _ = accept(store)
    for _ in range(20):
        row, _ = accept(store, key=str(uuid4()))
        store.set_operation(row["id"], "a", {"state": "succeeded"})
    store.forget(older_than_s=3600, more_than=5, larger_than=LARGE)
    assert len(store.events(limit=100)) == 5
    assert {row["id"] for row in store.operations(limit=100, states=["queued"])} == {running["id"]}
    assert len(store.operations(limit=100)) == 6
    store.forget(older_than_s=-1, more_than=5, larger_than=LARGE)
    assert store.events(limit=100) == []
    assert [row["id"] for row in store.operations(limit=100)] == [running["id"]]


LARGE = 2**40


def test_what_is_too_large_together_loses_its_oldest_rows_and_what_is_under_way_stays(store: Store) -> None:
    running, _ = accept(store)
    empty = store.size()
    for number in range(300):
        store.tell(*(Event(kind="node.step", data={"text": f"{number} " + "x" * 500}) for _ in range(4)))
    assert store.size() > empty + 500_000
    _, last = store.first_and_last_event()
    store.forget(older_than_s=3600, more_than=10**6, larger_than=empty + 200_000)
    assert store.size() <= empty + 200_000
    first, now_last = store.first_and_last_event()
    assert now_last == last
    assert 100 < last - first < 1000
    store.forget(older_than_s=3600, more_than=10**6, larger_than=0)
    assert [row["id"] for row in store.operations(limit=100)] == [running["id"]]


def test_how_long_it_will_take_is_what_it_took_on_nodes_of_that_class_else_on_any(store: Store) -> None:
    assert store.expected_s("deploy", "small") is None
    for resource_class, took_s in (("small", 100.0), ("small", 120.0), ("small", 500.0), ("large", 900.0)):
        row, _ = accept(store, resource_class=resource_class)
        store.set_operation(row["id"], "a", {"state": "succeeded", "started_at": 1.0, "ended_at": 1.0 + took_s})
    failed, _ = accept(store, resource_class="small")
    store.set_operation(failed["id"], "a", {"state": "failed", "started_at": 1.0, "ended_at": 2.0})
    assert store.expected_s("deploy", "small") == 120.0
    assert store.expected_s("deploy", "large") == 900.0
    assert store.expected_s("deploy", "unheard-of") == 310.0
    assert store.expected_s("rebuild", "small") is None


def test_an_older_log_is_brought_up_to_date_with_all_that_is_in_it(store: Store) -> None:
    store.tell(Event(kind="node.step"))

    def colour(connection: Connection) -> None:
        connection.execute(text("alter table events add column colour varchar(8)"))

    with store.writing() as connection:
        try:
            bring_up_to_date(connection, "k", migrations=(*MIGRATIONS, colour))
            bring_up_to_date(connection, "k", migrations=(*MIGRATIONS, colour))
            assert connection.execute(text("select kind, colour from events")).all() == [("node.step", None)]  # type: ignore[comparison-overlap]
            with pytest.raises(InvalidRequest, match="newer"):
                bring_up_to_date(connection, "k", migrations=())
        finally:
            connection.rollback()


def test_the_file_is_its_owners_and_one_processs_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.tell(Event(kind="node.step"))
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    with pytest.raises(InvalidRequest, match="another service"):
        Store(tmp_path / "state")
    store.close()
    Store(tmp_path / "state").close()


def test_a_database_that_is_not_there_is_said_not_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as problem:
        Store(tmp_path, Secret("postgresql://u:hunter2@127.0.0.1:1/x"))
    assert "hunter2" not in str(problem.value.detail)


def full(store: Store) -> None:
    """The log cannot grow any more, as on a full disk."""
    with store.writing() as connection:
        pages = connection.execute(text("pragma page_count")).scalar_one()

    def bound(connection: Any, *_: object) -> None:
        connection.execute(f"pragma max_page_count = {pages}")

    event.listen(store._engine, "checkout", bound)


def test_on_a_full_disk_nothing_is_begun_reads_go_on_and_it_is_said_so(site: Site) -> None:
    site.deployed()
    full(site.server.service.store)
    before = site.ironic.snapshot()
    problem = None
    for number in range(200):
        answer = site.ask(
            "POST", "/v1/instances", {**DEPLOY, "name": f"n-{number}", "guest": {"meta": {"k": "x" * 9000}}}
        )
        if answer.status_code != 202:
            problem = answer.json()
            break
    assert problem is not None
    assert (problem["status"], problem["title"]) == (503, "StoreUnavailable")
    assert "full" in problem["detail"]
    assert [one["name"] for one in site.get("/v1/instances?name=web-1")["instances"]] == ["web-1"]
    assert before
