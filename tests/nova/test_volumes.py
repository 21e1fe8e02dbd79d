"""Servers that boot from a volume, or are given one: Cinder, Nova and Ironic say the same of it."""

from __future__ import annotations

import pytest

from bloomery.lab import glance
from nova_site.site import BEFORE_REIMAGING, MICROVERSION, NovaSite, Refused

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def test_a_volume_backed_server_has_its_volume_as_a_target_in_ironic(nova: NovaSite) -> None:
    server, volume = from_volume(nova)
    node = nova.node(server)
    assert nova.volume_targets(node) == [volume]
    assert "image_source" not in nova.ironic.node(node)["instance_info"]
    nova.delete(server)
    nova.assert_gone(server, node)


@pytest.mark.parametrize("version", [BEFORE_REIMAGING, MICROVERSION])
def test_a_rebuild_of_a_volume_backed_server_is_refused_and_the_server_stays(nova: NovaSite, version: str) -> None:
    server, volume = from_volume(nova)
    node = nova.node(server)
    before = nova.ironic.node(node)["instance_info"]
    if version == BEFORE_REIMAGING:
        with pytest.raises(Refused, match="volume-backed"):
            nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2")}, version=version)
        nova.agree(server)
    else:
        nova.act(server, "rebuild", {"imageRef": glance.image_id("whole-disk-2")}, version=version)
        nova.wait_for(server, "ACTIVE")
        # Nova, not its driver, takes the allocation away whenever a rebuild fails; the reservation keeps others away.
        (difference,) = nova.differences(server)
        assert difference.startswith("Placement's allocation: {} is not")
        assert nova.is_reserved(node)
    assert nova.volume_targets(node) == [volume]
    assert nova.ironic.node(node)["instance_info"] == before
    nova.delete(server)
    nova.assert_gone(server, node)


def test_a_volume_comes_and_goes_while_the_server_is_stopped(nova: NovaSite) -> None:
    server, boot = from_volume(nova)
    node = nova.node(server)
    nova.act(server, "os-stop")
    nova.wait_for(server, "SHUTOFF")
    volume = nova.volume()
    nova.call("POST", f"servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
    nova.wait(lambda: len(nova.volume_targets(node)) == 2, lambda: f"Ironic has {volume}")
    nova.agree(server)
    assert nova.volume_targets(node) == sorted([boot, volume])
    nova.call("DELETE", f"servers/{server}/os-volume_attachments/{volume}")
    nova.wait(lambda: nova.volume_targets(node) == [boot], lambda: f"Ironic has lost {volume}")
    nova.agree(server)
    nova.act(server, "os-start")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def test_a_volume_for_a_running_server_is_a_clean_refusal(nova: NovaSite, server: str) -> None:
    volume = nova.volume()
    nova.call("POST", f"servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
    nova.wait(lambda: nova.server(server)["os-extended-volumes:volumes_attached"] == [], lambda: "it was refused")
    nova.agree(server)


def from_volume(nova: NovaSite) -> tuple[str, str]:
    """A server that runs from a new volume, and the volume."""
    volume = nova.volume()
    mapping = {"uuid": volume, "boot_index": 0, "source_type": "volume", "destination_type": "volume"}
    server = nova.built(image=None, flavor="bm-equipped", block_device_mapping_v2=[mapping])
    nova.agree(server)
    return server, volume
