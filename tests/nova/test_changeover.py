"""From Nova's own driver to ours and back, with servers running: one line of nova.conf changes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bloomery.lab import LabNode, glance
from nova_site.drivers import OURS, UPSTREAM
from nova_site.site import BEFORE_REIMAGING, USER_DATA, NovaSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.parametrize("driver", [OURS], indirect=True)]

PAGE = Path(__file__).parent.parent.parent / "docs" / "nova.md"
PASSWORD = {"adminPass": "Passw0rd-for-rescue"}


def test_servers_of_either_driver_live_on_under_the_other(nova: NovaSite) -> None:
    nova.change_driver(UPSTREAM)
    theirs = nova.built("theirs")
    node_of_theirs = nova.node(theirs)
    compute_nodes = nova.compute_nodes()

    nova.change_driver(OURS)
    assert nova.compute_nodes() == compute_nodes
    nova.agree(theirs)
    stop_and_start(nova, theirs)
    rebuild(nova, theirs, "whole-disk-2")
    rescue(nova, theirs)
    unrescue(nova, theirs)
    ours = nova.built("ours")
    node_of_ours = nova.node(ours)
    rescue(nova, ours)

    nova.change_driver(UPSTREAM)
    assert nova.compute_nodes() == compute_nodes
    nova.agree(theirs)
    nova.agree(ours)
    unrescue(nova, ours)
    stop_and_start(nova, ours)
    rebuild(nova, ours, "whole-disk-2")
    rescue(nova, ours)
    rescue(nova, theirs)
    nova.delete(ours)

    nova.change_driver(OURS)
    unrescue(nova, theirs)
    nova.delete(theirs)
    nova.assert_gone(ours, node_of_ours)
    nova.assert_gone(theirs, node_of_theirs)


def test_a_server_of_novas_own_driver_can_be_destroyed_by_ours_and_the_other_way_round(nova: NovaSite) -> None:
    for builder, destroyer in ((UPSTREAM, OURS), (OURS, UPSTREAM)):
        nova.change_driver(builder)
        volume = nova.volume()
        mapping = {"uuid": volume, "boot_index": 0, "source_type": "volume", "destination_type": "volume"}
        on_volume = nova.create("from a volume", image=None, flavor="bm-equipped", block_device_mapping_v2=[mapping])
        # The other may have any node of the class: before this one, the only node that this one may have.
        nova.wait_for(on_volume, "ACTIVE")
        servers = [on_volume, nova.create("from an image", flavor="bm-fake")]
        nodes = {server: nova.node(server) for server in servers if nova.wait_for(server, "ACTIVE")}
        nova.change_driver(destroyer)
        for server, node in nodes.items():
            nova.agree(server)
            nova.delete(server)
            if destroyer == UPSTREAM:
                # It leaves them behind (D32).
                nova.wait(lambda node=node: nova.state(node) == "available", lambda: "the node is free")  # type: ignore[misc]
                nova.remove_volume_targets(node)
        # Our note on the node stays until we are back.
        nova.change_driver(OURS)
        for server, node in nodes.items():
            nova.assert_gone(server, node)


def test_both_drivers_tell_the_same_but_for_what_the_page_says(nova: NovaSite) -> None:
    # It has the node of the flavor `bm-gpu`.
    nova.drop_shared_server()
    nova.clear()
    told = {}
    for driver in (OURS, UPSTREAM):
        nova.change_driver(driver)
        told[driver] = what_is_told(nova)
    assert differences(told[UPSTREAM], told[OURS]) == documented_differences()


def stop_and_start(nova: NovaSite, server: str) -> None:
    """The server was stopped and started."""
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        nova.act(server, action)
        nova.wait_for(server, status)
        nova.agree(server)


def rebuild(nova: NovaSite, server: str, image: str) -> None:
    """The server runs the image."""
    nova.act(server, "rebuild", {"imageRef": glance.image_id(image)}, version=BEFORE_REIMAGING)
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)
    assert nova.site.machine(nova.node(server).name)["image_sha256"] == nova.lab.images[image].sha256


def rescue(nova: NovaSite, server: str) -> None:
    """The server runs the rescue ramdisk."""
    nova.act(server, "rescue", PASSWORD)
    nova.wait_for(server, "RESCUE")
    nova.agree(server)


def unrescue(nova: NovaSite, server: str) -> None:
    """It runs its own system again."""
    nova.act(server, "unrescue")
    nova.wait_for(server, "ACTIVE")
    nova.agree(server)


def what_is_told(nova: NovaSite) -> dict[str, Any]:
    """All that the driver says of nodes and of servers of each kind, without what differs from one server to the next."""
    volume = nova.volume()
    mapping = {"uuid": volume, "boot_index": 0, "source_type": "volume", "destination_type": "volume"}
    free = {f"free {node.name}": of_node(nova, node) for node in nova.lab.nodes}
    servers = {
        "rich": nova.create(
            "rich",
            flavor="bm-gpu",
            networks=("private", "storage"),
            config_drive=True,
            key_name="key",
            user_data=nova.encoded(USER_DATA),
        ),
        "volume": nova.create("volume", image=None, flavor="bm-equipped", block_device_mapping_v2=[mapping]),
    }
    for server in servers.values():
        nova.wait_for(server, "ACTIVE")
    # Only now: either of these could have had the one node that fits one of those.
    servers |= {
        "plain": nova.create("plain", config_drive=True, metadata={"role": "web"}),
        "ephemeral": nova.create("ephemeral", flavor="bm-ephemeral", image="partition"),
    }
    told: dict[str, Any] = {}
    for name, server in servers.items():
        nova.wait_for(server, "ACTIVE")
        told[name] = of_server(nova, server)
    nodes = {server: nova.node(server) for server in servers.values()}
    for server in servers.values():
        nova.delete(server)
    for server, node in nodes.items():
        nova.wait(lambda node=node: nova.state(node) == "available", lambda: "the node is free")  # type: ignore[misc]
        nova.remove_volume_targets(node)
        nova.assert_gone(server, node)
    return flat({**free, **told})


def of_node(nova: NovaSite, node: LabNode) -> dict[str, Any]:
    """What Placement and Nova's API have of the node by the driver."""
    row = nova.hypervisor(node)
    compute_node = {name: row[name] for name in ("hypervisor_type", "hypervisor_version", "hypervisor_hostname")}
    inventory = {name: dict(record) for name, record in nova.inventories(node).items()}
    traits = nova.traits(node)
    return {"compute node": compute_node, "inventory": inventory, "traits": dict.fromkeys(traits, "set")}


def of_server(nova: NovaSite, server: str) -> dict[str, Any]:
    """What Ironic has of the server, and what the machine finds on its config drive."""
    node = nova.node(server)
    info = nova.ironic.node(node)["instance_info"]
    told: dict[str, Any] = {
        "instance_info": {name: "set" if name in CHANGING else value for name, value in info.items()},
        "Nova": {"root_device_name": nova.server(server)["OS-EXT-SRV-ATTR:root_device_name"]},
    }
    if info.get("configdrive") and nova.has_disk(node):
        drive = nova.site.config_drive(node.name)
        told["config drive"] = {path: content_of(path, content) for path, content in drive.items()}
    return told


CHANGING = ("fixed_ips", "configdrive", "image_url")
"""Of `instance_info`: what differs from one server to the next."""
_UNIQUE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|tap[0-9a-f-]{11}|52:54:00:[0-9a-f:]{8}"
    r"|\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b|\bi-[0-9a-f]{8}\b|\br-[0-9a-z]{8}\b"
)


def content_of(path: str, content: bytes) -> Any:
    """A file of the config drive, with identifiers and addresses made alike."""
    if not path.endswith(".json"):
        return content.decode()
    value = json.loads(_UNIQUE.sub("…", content.decode()))
    if isinstance(value, dict):
        value |= dict.fromkeys(value.keys() & {"random_seed", "admin_pass", "launch_index"}, "…")
    return value


def flat(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The leaves of the value, by where they are."""
    if isinstance(value, Mapping) and value:
        return {key: leaf for name, part in value.items() for key, leaf in flat(part, (*path, str(name))).items()}
    return {" → ".join(path): value}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Where the two differ: what is said of which thing, by Nova's driver and by ours."""
    found = set()
    for path in theirs.keys() | ours.keys():
        one, other = theirs.get(path, "–"), ours.get(path, "–")
        if one != other:
            # What is said of a free node is said of every one.
            found.add((path.partition(" → ")[2], str(one), str(other)))
    return found


def documented_differences() -> set[tuple[str, str, str]]:
    """The rows of the page's table."""
    text = PAGE.read_text().partition("| what is told | Nova's driver | Bloomery |\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[1:]]
    return {(what.strip("`"), theirs.strip("`"), ours.strip("`")) for what, theirs, ours in rows}
