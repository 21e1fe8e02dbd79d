"""Which cloud is meant: options, variables, clouds.yaml and the lab; before the command or behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bloomery
from cli.simulated_cloud import Cloud


def test_options_alone_lead_to_an_ironic(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE"):
        monkeypatch.delenv(name)
    arguments = ("--os-auth-type", "none", "--os-endpoint", cloud.ironic.url)
    assert "node-0" in cloud.ok(*arguments, "nodes")
    assert "no Neutron" in cloud.ok(*arguments, "doctor")


def test_global_options_may_stand_behind_the_command(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OS_CLOUD")
    assert "node-0" in cloud.ok("nodes", "--os-cloud", "simulated")
    assert "node-0" in cloud.ok("nodes", "--os-cloud=simulated", "-f", "value")


def test_variables_alone_lead_to_an_ironic(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("OS_AUTH_TYPE", "none")
    monkeypatch.setenv("OS_ENDPOINT", cloud.ironic.url)
    assert "node-0" in cloud.ok("nodes")


def test_no_cloud_at_all_is_said_with_what_would_name_one(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OS_CLOUD")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("HOME", str(tmp_path))
    result = cloud.run("list")
    assert result.code == 2
    assert "--os-cloud" in result.err


def test_the_lab_is_named_by_an_option_and_missed_if_it_is_down(cloud: Cloud) -> None:
    result = cloud.run("--lab", "list")
    assert result.code == 2
    assert "no lab is up" in result.err
    assert "bloomery lab up" in result.err


def test_the_version_is_shown(cloud: Cloud) -> None:
    assert cloud.ok("--version") == f"{bloomery.__version__}\n"


def test_the_entry_point_is_this_command(cloud: Cloud) -> None:
    program = Path(sys.executable).with_name("bloomery")
    shown = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"{bloomery.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_every_shell(cloud: Cloud, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BLOOMERY_COMPLETE", f"source_{shell}")
    assert "bloomery" in cloud.run().out


def test_help_names_every_group_of_commands(cloud: Cloud) -> None:
    out = cloud.ok("--help")
    for command in ("deploy", "list", "power", "security-group", "volume", "lab", "doctor"):
        assert command in out
