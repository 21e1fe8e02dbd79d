"""A cloud of simulators for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.testing import IronicSimulator, NeutronSimulator
from cli.simulated_cloud import Cloud


def pytest_itemcollected(item: pytest.Item) -> None:
    """openstacksdk warns of what it will drop itself, whenever it is imported."""
    item.add_marker(pytest.mark.filterwarnings("ignore:Support for InfluxDB"))


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cloud]:
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        neutron.add_network("private", cidrs=["192.0.2.0/24"])
        neutron.add_network("storage", cidrs=["198.51.100.0/24", "2001:db8::/64"])
        neutron.create("security_groups", {"name": "web"})
        for number in range(3):
            ironic.add_node(name=f"node-{number}", resource_class="small")
        config = tmp_path / "clouds.yaml"
        config.write_text(
            "clouds:\n  simulated:\n    auth_type: none\n"
            f"    baremetal_endpoint_override: {ironic.url}\n    network_endpoint_override: {neutron.url}\n"
        )
        environment = {
            "OS_CLIENT_CONFIG_FILE": str(config),
            "OS_CLOUD": "simulated",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "BLOOMERY_LAB": str(tmp_path / "no-lab"),
            "COLUMNS": "80",
            "TERM": "xterm",
        }
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Cloud(ironic, neutron, tmp_path, capsys, environment)
