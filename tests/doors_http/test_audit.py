"""The audit of reads: written together and a moment later, and none lost while the log cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.doors.http import audit
from bloomery.doors.http.audit import Audit
from bloomery.doors.http.problems import StoreUnavailable
from bloomery.doors.http.store import Store


def call(number: int) -> dict[str, Any]:
    return {
        "actor": "alice", "project_id": None, "address": "192.0.2.1", "method": "GET", "path": f"/v1/nodes/{number}",
        "status": 200, "request_id": f"req-{number}", "took_s": 0.001,
    }  # fmt: skip


def paths(store: Store) -> list[str]:
    return [row["path"] for row in reversed(store.calls(limit=100, of_reads=True))]


def test_what_was_noted_is_written_in_order_at_the_latest_when_it_ends(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    noted = Audit(store)
    noted.start()
    for number in range(30):
        noted.read(call(number))
    noted.stop()
    assert paths(store) == [f"/v1/nodes/{number}" for number in range(30)]
    store.close()


class Locked(Store):
    """A log that somebody else holds for a while."""

    is_locked = True

    def note_reads(self, calls: Any) -> None:
        if self.is_locked:
            raise StoreUnavailable("database is locked")
        super().note_reads(calls)


def test_reads_wait_for_a_log_that_cannot_be_written_and_the_oldest_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MOST_WAITING", 5)
    store = Locked(tmp_path / "state")
    noted = Audit(store)
    for number in range(4):
        noted.read(call(number))
    with pytest.raises(StoreUnavailable):
        noted._write_some()
    for number in range(4, 7):
        noted.read(call(number))
    store.is_locked = False
    noted.start()
    noted.stop()
    assert paths(store) == [f"/v1/nodes/{number}" for number in range(2, 7)]
    store.close()
