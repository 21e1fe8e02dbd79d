"""The service in front of the lab's real Ironic and Neutron: a whole life, and the command that brings both up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import bloomery
from bloomery.lab import Lab
from bloomery.lab.ironic import OWN_NETWORKS
from doors_http.http_site import Caller, running

pytestmark = pytest.mark.lab


@pytest.mark.filterwarnings("ignore:Support for InfluxDB")
def test_a_whole_life_of_an_instance_on_a_real_ironic(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(lab.cloud_config))
    image = lab.images["whole-disk"]
    settings = {"refresh_s": 0.5, "ironic_networks": OWN_NETWORKS}
    with running(lambda: bloomery.connect(lab.cloud), tmp_path, **settings) as (url, _):
        caller = Caller(url, timeout_s=240.0)
        offered = [network["name"] for network in caller.get("/v1/networks")["networks"]]
        assert offered == sorted(lab.networks["tenant"])
        assert [node["name"] for node in caller.get("/v1/nodes")["nodes"]] == [node.name for node in lab.nodes]
        body = {
            "name": "web-1",
            "image": {"source": image.url, "checksum": f"{lab.images_url}/SHA256SUMS"},
            "wanted": {"resource_class": lab.nodes[0].resource_class, "candidates": [lab.nodes[0].name]},
            "nics": [{"network": "private"}],
            "guest": {"user_data": "#!/bin/sh\ntrue\n"},
        }
        with caller.listening("?kind=node.provision_state") as events:
            deployed = caller.done("POST", "/v1/instances", body)
            seen = []
            for event in events:
                if event["event"] == "node.provision_state":
                    seen.append(event["data"]["data"]["now"])
                    if seen[-1] == "active":
                        break
        assert deployed["progress"]["index"] == deployed["progress"]["total"]
        instance = caller.get("/v1/instances/web-1")
        assert (instance["state"], instance["power_state"]) == ("active", "power on")
        assert instance["vifs"][0]["addresses"]
        assert caller.get("/v1/nodes/node-0/validation")["interfaces"]["power"]["result"]
        assert [nic["vif_id"] for nic in caller.get("/v1/nodes/node-0/nics")["nics"] if nic["vif_id"]] == [
            instance["vifs"][0]["vif_id"]
        ]
        assert "driver_info" not in str(caller.get("/v1/nodes/node-0"))
        caller.done("POST", "/v1/instances/web-1/power", {"target": "off"})
        caller.done("POST", "/v1/instances/web-1/power", {"target": "on"})
        caller.done("DELETE", "/v1/instances/web-1")
        assert caller.get("/v1/instances")["instances"] == []
        caller.wait_for(lambda: caller.get("/v1/nodes/node-0")["state"] == "available")
        assert "Ironic" in caller.ask("GET", "/metrics").text


def test_a_lab_with_a_service_comes_up_and_goes_down_by_one_command_each(tmp_path: Path) -> None:
    state = tmp_path / "lab"
    command = [sys.executable, "-m", "bloomery.doors.cli.app", "lab"]
    environment = {**os.environ, "BLOOMERY_LAB": str(state), "COLUMNS": "200"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    try:
        shown = run("up", "--nodes", "1", "--kind", "fake", "--no-network", "--serve")
        url = next(word for line in shown.splitlines() if line.split()[:1] == ["service"] for word in line.split()[1:])
        assert [node["name"] for node in requests.get(f"{url}/v1/nodes", timeout=20).json()["nodes"]] == ["node-0"]
    finally:
        run("down")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz", timeout=5)
