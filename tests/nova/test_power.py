"""Power, where Nova compares it all the time, as it does on a real site every ten minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_site.cloud import Cloud
from nova_site.site import NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.usefixtures("compared")]

SYNC = "_sync_power_states"


@pytest.fixture(scope="module")
def compared(nova_cloud: Cloud, driver: str) -> Iterator[None]:
    """Nova compares power states every other second.

    Only servers with a BMC are for these tests: fake hardware does not go on when it is deployed, and Nova would stop them.
    """
    nova_cloud.kill_compute()
    nova_cloud.start_compute(driver, options={"DEFAULT": {"sync_power_state_interval": 2}})
    yield
    nova_cloud.kill_compute()
    nova_cloud.start_compute(driver)


def test_power_follows_the_user_and_nova_does_not_fight_it(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE"), ("os-stop", "SHUTOFF")):
        nova.act(server, action)
        nova.wait_for(server, status)
        nova.agree(server)
    nova.wait_for_rounds(SYNC, 2)
    nova.agree(server)
    assert nova.server(server)["status"] == "SHUTOFF"
    nova.act(server, "os-start")
    nova.wait_for(server, "ACTIVE")
    for kind in ("SOFT", "HARD"):
        boots = nova.site.machine(node.name)["boots"]
        nova.act(server, "reboot", {"type": kind})
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
        assert nova.site.machine(node.name)["boots"] == boots + 1
    nova.wait_for_rounds(SYNC)
    nova.agree(server)
    assert [event for event in nova.events(server) if "force" in event] == []


def test_power_changed_behind_novas_back_is_known_to_nova(nova: NovaSite, server: str) -> None:
    node = nova.node(server)
    nova.ironic.power(node, "power off", until="power off")
    nova.wait_for(server, "SHUTOFF")
    nova.agree(server)
    nova.act(server, "os-start")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_rebuild_and_a_rescue_are_not_taken_for_power_changes(nova: NovaSite, server: str) -> None:
    nova.act(server, "rebuild", {"imageRef": nova.server(server)["image"]["id"]}, version="2.92")
    nova.wait_for(server, "ACTIVE")
    nova.act(server, "rescue", {"adminPass": "Passw0rd-for-rescue"})
    nova.wait_for(server, "RESCUE")
    nova.wait_for_rounds(SYNC)
    nova.agree(server)
    nova.act(server, "unrescue")
    nova.wait_for(server, "ACTIVE")
    nova.wait_for_rounds(SYNC)
    nova.agree(server)
    assert [event for event in nova.events(server) if "force" in event] == []
