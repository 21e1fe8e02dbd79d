"""A lab comes up in one piece, and leaves nothing behind however it ends."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from bloomery import lab

pytestmark = pytest.mark.lab

SMALL = lab.Options(nodes=1, network=False)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(state: Path) -> list[psutil.Process]:
    """Everything that runs for that lab: its folder is in each command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(state) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def listens(url: str | None) -> bool:
    port = urlsplit(url or "").port
    assert port
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "lab"


def test_after_down_no_process_and_no_port_is_left(state: Path) -> None:
    it = lab.up(SMALL, state)
    urls = [it.ironic_url, it.images_url, it.bmc_url, it.agent_url]
    assert len(processes_of(state)) >= len(urls)
    assert all(listens(url) for url in urls)
    assert lab.down(state)
    assert not processes_of(state)
    assert not any(listens(url) for url in urls)
    assert not lab.status(state).has_supervisor
    assert not it.cloud_config.exists()
    assert not lab.down(state)


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_lab_comes_up(state: Path) -> None:
    it = lab.up(SMALL, state)
    os.kill(it.supervisor_pid, signal.SIGKILL)
    os.waitpid(it.supervisor_pid, 0)
    wait_for(lambda: not processes_of(state))
    assert not lab.status(state).is_up
    lab.up(SMALL, state)
    assert lab.status(state).is_well
    lab.down(state)


def test_a_second_lab_in_the_same_folder_is_refused_with_the_place_of_the_first(state: Path) -> None:
    it = lab.up(SMALL, state)
    with pytest.raises(lab.LabError, match="up already") as refused:
        lab.up(SMALL, state)
    assert str(state) in refused.value.message
    assert it.ironic_url in refused.value.message
    assert lab.status(state).is_well
    lab.down(state)


def test_a_service_that_ends_is_seen_in_the_status_with_its_last_words(state: Path) -> None:
    lab.up(SMALL, state)
    victim = next(service for service in lab.status(state).services if service.name == "images")
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: not lab.status(state).is_well)
    ended = [service for service in lab.status(state).services if not service.is_running]
    assert [(service.name, service.exit_code) for service in ended] == [("images", -signal.SIGKILL)]
    assert any("SHA256SUMS" in line for line in ended[0].last_lines)
    lab.down(state)


def test_an_interrupted_up_leaves_nothing_running(state: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "bloomery.doors.cli.lab", "up", "--no-network", "--state", str(state)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stderr
    for line in command.stderr:
        if "ironic" in line:
            break
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=30)
    assert command.returncode == 130
    assert not processes_of(state)
    assert not lab.status(state).has_supervisor


def test_a_killed_up_leaves_nothing_running(state: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "bloomery.doors.cli.lab", "up", "--no-network", "--state", str(state)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stderr
    for line in command.stderr:
        if "ironic" in line:
            break
    command.kill()
    command.communicate(timeout=30)
    wait_for(lambda: not processes_of(state))


def test_a_lab_for_a_block_ends_with_the_block(state: Path) -> None:
    with lab.running(SMALL, state):
        assert lab.status(state).is_well
    assert not processes_of(state)


def test_nobody_else_can_read_the_labs_folder(state: Path) -> None:
    with lab.running(SMALL, state) as it:
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        records = [path for path in (state / "machines").iterdir() if path.stem == it.nodes[0].uuid]
        assert records
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in [*records, it.cloud_config])
        assert all(stat.S_IMODE(service.log.stat().st_mode) == 0o600 for service in lab.status(state).services)


def test_a_folder_with_other_things_in_it_is_left_alone(state: Path) -> None:
    state.mkdir()
    (state / "letter").write_text("dear")
    with pytest.raises(lab.LabError, match="not a lab"):
        lab.up(SMALL, state)
    assert (state / "letter").read_text() == "dear"


@pytest.mark.parametrize(
    ("option", "value"), [("nodes", 0), ("nodes", 5001), ("deploy_seconds", -1), ("power_seconds", (2.0, 1.0))]
)
def test_options_that_make_no_lab_are_refused(option: str, value: object) -> None:
    with pytest.raises(lab.LabError):
        lab.Options(**{option: value})  # type: ignore[arg-type]


def test_the_log_of_a_service_that_is_not_there_is_answered_with_those_that_are(state: Path) -> None:
    with lab.running(SMALL, state):
        assert lab.log_of("ironic", state).stat().st_size
        with pytest.raises(lab.LabError, match="agent, bmc, images, ironic"):
            lab.log_of("keystone", state)
