"""Every example in Python that the documentation shows does what it says, on a played cloud named `lab`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from bloomery.testing import IronicSimulator, NeutronSimulator

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "\n```python\n" in page.read_text()
]


@pytest.fixture(autouse=True)
def played_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cloud `lab` of clouds.yaml is a simulated Ironic and Neutron, with nodes and networks named as in the lab."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        neutron.add_network("private", cidrs=["10.20.0.0/16"])
        neutron.add_network("storage", cidrs=["10.40.0.0/16"], mtu=9000)
        neutron.create("security_groups", {"name": "web"})
        for number in range(4):
            ironic.add_node(
                f"node-{number}",
                resource_class="baremetal.large" if number == 3 else "baremetal",
                traits=["CUSTOM_GPU", "CUSTOM_LAB"] if number == 1 else ["CUSTOM_LAB"],
                console_interface="ipmitool-socat",
                storage_interface="external",
            )
        connector = {
            "node_uuid": ironic.node("node-1")["uuid"],
            "type": "iqn",
            "connector_id": "iqn.2026-01.org.example:n1",
        }
        newest = {"X-OpenStack-Ironic-API-Version": "latest"}
        requests.post(
            f"{ironic.url}/v1/volume/connectors", json=connector, headers=newest, timeout=10
        ).raise_for_status()
        config = tmp_path / "clouds.yaml"
        cloud = {
            "auth_type": "none",
            "auth": {"endpoint": ironic.url},
            "baremetal_endpoint_override": ironic.url,
            "network_endpoint_override": neutron.url,
        }
        config.write_text(yaml.safe_dump({"clouds": {"lab": cloud}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(config))
        monkeypatch.delenv("OS_CLOUD", raising=False)
        monkeypatch.chdir(tmp_path)
        yield


# openstacksdk 4 says so whenever it reads a cloud, of something that nobody asked for.
@pytest.mark.filterwarnings("ignore:Support for InfluxDB:PendingDeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_of_a_page_runs(page: Path) -> None:
    examples = list(Sybil(parsers=[PythonCodeBlockParser()]).parse(page).examples())
    assert examples
    for example in examples:
        example.evaluate()


def test_every_page_with_examples_is_found() -> None:
    assert {"README.md", "library.md", "testing.md", "config-drive.md"} <= {page.name for page in PAGES}
