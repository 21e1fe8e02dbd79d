"""The demo passes, without a terminal, too, and leaves nothing running; so does one that is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "assets" / "demo.svg"
TIMEOUT_S = 240


def start(folder: Path) -> subprocess.Popen[str]:
    """The demo runs, with its lab below the folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "bloomery.doors.cli.demo"],
        cwd=folder,
        env={**os.environ, "BLOOMERY_LAB": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_below(folder: Path) -> list[psutil.Process]:
    """Everything that runs for a lab in that folder, which is in each command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(folder) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.lab
def test_the_demo_passes_without_a_terminal_and_leaves_nothing_running(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        said, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, said
    assert "\x1b" not in said
    for command in ("deploy", "show", "reboot", "rescue", "unrescue", "rebuild", "attach", "detach", "destroy"):
        assert f"$ bloomery {command} web-1" in said
    assert said.count("✓") > 30
    assert "✗" not in said
    assert processes_below(tmp_path) == []


@pytest.mark.lab
def test_an_interrupted_demo_takes_its_lab_down(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "wait for active" in line:
                break
        demo.send_signal(signal.SIGTERM)
        said, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 130, said
    assert "the lab is down" in said
    assert processes_below(tmp_path) == []


def test_the_picture_of_the_demo_is_small_and_loads_nothing() -> None:
    picture = PICTURE.read_text()
    assert "bloomery&#160;deploy" in picture
    assert "@font-face" not in picture
    assert len(picture) < 100_000
    addresses = set(re.findall(r"https?://[^\s\"<&]+", picture))
    assert all(address.startswith(("http://127.0.0.1:", "http://www.w3.org/")) for address in addresses)
