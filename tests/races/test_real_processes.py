"""Two processes, each its own program, at the same nodes at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.testing import IronicSimulator, NeutronSimulator

IMAGE = ("--image", "http://127.0.0.1/images/x.raw", "--checksum", f"sha256:{'a' * 64}")
TIMEOUT_S = 120.0


class Cloud:
    """Simulators with one free node, and the command on them."""

    def __init__(self, ironic: IronicSimulator, neutron: NeutronSimulator, folder: Path) -> None:
        self.ironic = ironic
        self.neutron = neutron
        config = folder / "clouds.yaml"
        config.write_text(
            "clouds:\n  simulated:\n    auth_type: none\n"
            f"    baremetal_endpoint_override: {ironic.url}\n    network_endpoint_override: {neutron.url}\n"
        )
        self.environment = {
            **os.environ,
            "OS_CLIENT_CONFIG_FILE": str(config),
            "OS_CLOUD": "simulated",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bloomery.doors.cli.app", *words]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def together(self, *commands: tuple[str, ...]) -> list[int]:
        """The exit codes of commands that are started at one moment."""
        running = [self.start(*words) for words in commands]
        codes = []
        for process in running:
            out, err = process.communicate(timeout=TIMEOUT_S)
            assert "Traceback" not in out + err, err
            codes.append(process.returncode)
        return codes

    def ok(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        return out

    def assert_clean(self) -> None:
        """Nothing of any instance is there."""
        self.ok("janitor", "--once", "--requests-per-second", "1000")
        for node in self.ironic.nodes():
            row = (node["provision_state"], node["instance_uuid"], node["instance_info"], node["extra"])
            assert row == ("available", None, {}, {})
            assert self.ironic.vifs(node["uuid"]) == []
        assert (self.ironic.allocations(), self.neutron.ports()) == ([], [])


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        neutron.add_network("private", cidrs=["192.0.2.0/24"])
        ironic.add_node(name="node-0", resource_class="small")
        yield Cloud(ironic, neutron, tmp_path)


def deploy(name: str) -> tuple[str, ...]:
    return ("deploy", name, *IMAGE, "--resource-class", "small", "--network", "private")


def test_of_two_that_deploy_to_the_last_node_one_gets_it(cloud: Cloud) -> None:
    codes = cloud.together(deploy("web-1"), deploy("web-2"))
    assert sorted(code == 0 for code in codes) == [False, True]
    (instance,) = json.loads(cloud.ok("list", "-f", "json"))
    assert (instance["name"], instance["state"]) == (("web-1", "web-2")[codes.index(0)], "active")
    assert len(cloud.neutron.ports()) == 1
    cloud.ok("destroy", instance["name"], "--yes", "--wait-for-cleaning")
    cloud.assert_clean()


def test_an_instance_may_be_destroyed_by_two_at_once(cloud: Cloud) -> None:
    cloud.ok(*deploy("web-1"))
    destroy = ("destroy", "web-1", "--yes", "--wait-for-cleaning")
    codes = cloud.together(destroy, destroy)
    assert 0 in codes
    assert set(codes) <= {0, 3, 4}, "it may be gone when the second looks for it"
    cloud.assert_clean()


def test_two_janitors_clean_what_is_left_once(cloud: Cloud) -> None:
    cloud.ironic.set("node-0", extra={"bloomery": {"instance_uuid": "6728ab4e-27dc-457b-b5d2-d6958180b839"}})
    once = ("janitor", "--once", "--requests-per-second", "1000")
    assert cloud.together(once, once) == [0, 0]
    cloud.assert_clean()
