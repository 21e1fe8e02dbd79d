"""Every command of the tutorial, typed in one after another, does what it should, on a lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery import lab

ROOT = Path(__file__).resolve().parent.parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"


def commands() -> list[str]:
    """What the tutorial shows behind a prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The folder of the tutorial's lab, which is down afterwards."""
    yield tmp_path / ".lab"
    lab.down(tmp_path / ".lab")


@pytest.mark.lab
def test_the_tutorial_can_be_followed_from_its_first_command_to_its_last(tmp_path: Path, state: Path) -> None:
    script = commands()
    assert script[0] == "bloomery lab up"
    assert script[-1] == "bloomery lab down"
    result = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("OS_", "BLOOMERY_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "node-1" in result.stdout
    assert "web-1: deployed in" in result.stderr
    assert "web-1 and its node belong together" in result.stderr
    assert "web-1: destroyed in" in result.stderr
    assert "nothing is left of instances that are gone" in result.stderr
    assert not lab.status(state).has_supervisor


@pytest.mark.lab
# openstacksdk 4 says so whenever it reads a cloud, of something that nobody asked for.
@pytest.mark.filterwarnings("ignore:Support for InfluxDB:PendingDeprecationWarning")
def test_the_example_of_a_lab_in_a_test_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    (example,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "testing.md", "exec"), names)  # noqa: S102  the example is ours
    test = names["test_on_a_real_ironic"]
    assert callable(test)
    test(tmp_path, monkeypatch)
    assert not lab.status(tmp_path / "lab").has_supervisor
