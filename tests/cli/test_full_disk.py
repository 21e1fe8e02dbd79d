"""The disk is full where the command writes: what it did stands, and it says plainly what could not be written."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from cli.simulated_cloud import IMAGE, TIMEOUT_S, Cloud, Result

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def onto_full_disk(cloud: Cloud, *arguments: str) -> Result:
    """The command's stdout goes to a file that takes nothing."""
    with FULL.open("w") as full:
        process = cloud.start(*arguments, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=TIMEOUT_S)
    return Result(process.returncode, "", err)


def assert_plain(result: Result) -> None:
    assert result.code == 1, result.err
    assert "No space left on device" in result.err
    assert "Traceback" not in result.err
    assert "bug" not in result.err


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "-f", "json"), ("show", "web-1"), ("nodes",), ("doctor",), ("--version",), ("--help",)],
)
def test_what_cannot_be_written_is_said_plainly(cloud: Cloud, arguments: tuple[str, ...]) -> None:
    cloud.deployed()
    assert_plain(onto_full_disk(cloud, *arguments))


def test_a_deploy_whose_result_cannot_be_written_has_been_done(cloud: Cloud) -> None:
    result = onto_full_disk(cloud, "deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private")
    assert_plain(result)
    assert "web-1: deployed" in result.err
    assert cloud.ironic.node("node-0")["provision_state"] == "active"


def test_a_rescue_whose_password_cannot_be_written_says_how_to_get_another(cloud: Cloud) -> None:
    cloud.deployed()
    result = onto_full_disk(cloud, "rescue", "web-1")
    assert_plain(result)
    assert "unrescue" in result.err


def test_a_full_cache_folder_keeps_nobody_from_deploying(cloud: Cloud) -> None:
    process = cloud.start(
        *("deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private", "-f", "json"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert cloud.ironic.node("node-0")["provision_state"] == "active"
    assert [path for path in cloud.folder.rglob("*") if path.is_file() and "durations" in path.name] == []
