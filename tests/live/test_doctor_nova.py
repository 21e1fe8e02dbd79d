"""`doctor --nova` on the real Ironic: it shows what is there, and removes what is left on a free node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from live.site import Site

pytestmark = pytest.mark.lab

NODE, TAKEN = "node-3", "node-4"


@pytest.fixture
def left(site: Site) -> Iterator[str]:
    """A VIF of somebody who is gone."""
    ports = f"{site.lab.neutron_url}/v2.0/ports"
    body = {"port": {"network_id": site.lab.networks["tenant"]["private"], "name": "left"}}
    vif_id: str = requests.post(ports, json=body, timeout=30).json()["port"]["id"]
    yield vif_id
    requests.delete(f"{ports}/{vif_id}", timeout=30).raise_for_status()


def test_a_nova_conf_is_checked_and_a_free_node_loses_what_was_left_on_it(site: Site, left: str) -> None:
    conf = site.folder / "nova.conf"
    conf.write_text(
        "[DEFAULT]\ncompute_driver = ironic.IronicDriver\nhost = compute-1\n"
        f"[ironic]\nauth_type = none\nendpoint_override = {site.lab.ironic_url}\n"
    )
    site.ironic.call("POST", f"nodes/{site.node(NODE).uuid}/vifs", {"id": left})
    site.patch(site.node(NODE).uuid, instance_info={"display_name": "gone"})
    site.deploy("web-1", TAKEN, "--network", "private")
    kept = site.ironic.call("GET", f"nodes/{site.node(TAKEN).uuid}/vifs")

    checks = site.run("doctor", "--nova", str(conf), "-f", "json").value
    assert [row["verdict"] for row in checks if row["verdict"] == "fail"] == []
    (found,) = [row["found"] for row in checks if row["check"] == "leftovers"]
    assert found == f"{NODE} is free, and has VIF {left}, instance_info (display_name)"
    rows = site.run("doctor", "--nova", str(conf), "--nodes", "-f", "json").value
    assert {row["node"]: row["with_bloomery"] for row in rows}[TAKEN] == "left alone"

    site.run("doctor", "--nova", str(conf), "--fix", "--yes")
    assert site.ironic.call("GET", f"nodes/{site.node(NODE).uuid}/vifs")["vifs"] == []
    assert site.ironic.call("GET", f"nodes/{site.node(NODE).uuid}")["instance_info"] == {}
    assert site.ironic.call("GET", f"nodes/{site.node(TAKEN).uuid}/vifs") == kept
