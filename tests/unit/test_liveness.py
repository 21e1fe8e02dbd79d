"""Whether somebody may still be at work is told from a mark; what is not certain counts as yes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from bloomery.operations import liveness
from bloomery.operations.liveness import is_at_work, this_process, why_over

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(**delta: float) -> str:
    return (NOW + timedelta(**delta)).isoformat()


def test_a_process_of_this_machine_that_has_ended_is_seen_to_have() -> None:
    program = "from bloomery.operations.liveness import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert why_over({"process": ended, "by": "here", "until": at(hours=1)}, now=NOW) == "its process on here has ended"


def test_this_process_has_not_ended_but_its_time_may_be_over() -> None:
    assert why_over({"process": this_process(), "until": at(hours=1)}, now=NOW) is None
    assert "11:00" in str(why_over({"process": this_process(), "until": at(hours=-1)}, now=NOW))


def test_a_number_that_was_used_again_is_another_process() -> None:
    machine, pid, started = str(this_process()).split("/")
    assert why_over({"process": f"{machine}/{pid}/{int(started) - 1}"}, now=NOW) is not None


@pytest.mark.parametrize("process", [None, "", 7, "x", "a/b/c", "//", "elsewhere/1/2", ["a"], "elsewhere/9999999/1/1"])
def test_of_a_process_elsewhere_nothing_is_known(process: object) -> None:
    assert why_over({"process": process, "until": at(hours=1)}, now=NOW) is None


def test_clocks_may_differ_by_some_minutes() -> None:
    assert why_over({"until": at(minutes=-4)}, now=NOW) is None
    assert why_over({"until": at(minutes=-6)}, now=NOW) is not None


def test_a_mark_of_an_older_version_is_respected_for_hours() -> None:
    assert why_over({"since": at(hours=-5)}, now=NOW) is None
    assert why_over({"since": at(hours=-7)}, now=NOW) is not None


@pytest.mark.parametrize("mark", [{}, {"until": "soon"}, {"until": 7, "since": None}, {"since": "x"}])
def test_a_mark_that_cannot_be_read_proves_nothing(mark: dict[str, object]) -> None:
    assert why_over(mark, now=NOW) is None


def test_a_mark_does_not_say_which_machine_it_is() -> None:
    boot_id = liveness._BOOT_ID.read_text().strip()
    assert boot_id not in str(this_process())


def test_another_process_of_this_machine_is_at_work_while_it_runs_and_has_time_left() -> None:
    program = "from bloomery.operations.liveness import this_process; print(this_process(), flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        mark = {"process": other.stdout.readline().strip(), "until": at(hours=1)}
        assert is_at_work(mark, now=NOW)
        assert not is_at_work(mark, now=NOW + timedelta(hours=2))
        other.stdin.write("\n")
    assert not is_at_work(mark, now=NOW)
    assert not is_at_work({**mark, "process": this_process()}, now=NOW)
