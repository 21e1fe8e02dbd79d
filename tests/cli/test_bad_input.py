"""Bad input gets one clear message and an exit code, and changes nothing anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from cli.simulated_cloud import CHECKSUM, IMAGE, Cloud

DEPLOY = ("deploy", "web-9", *IMAGE)
ON_NODE = (*DEPLOY, "--node", "node-0")
URL = "http://127.0.0.1/images/x.raw"
OTHER = "6728ab4e-27dc-457b-b5d2-d6958180b839"


def nothing(_cloud: Cloud) -> None:
    """The cloud is as it is."""


def with_node(**fields: object) -> Callable[[Cloud], None]:
    """A cloud whose first node has these fields."""
    return lambda cloud: cloud.ironic.set("node-0", **fields)


def two_instances(cloud: Cloud) -> None:
    for number in (1, 2):
        cloud.ironic.set(
            f"node-{number}", instance_uuid=OTHER[:-1] + str(number), provision_state="active",
            instance_info={"display_name": "twin"},
        )  # fmt: skip


def two_networks(cloud: Cloud) -> None:
    cloud.neutron.add_network("private", cidrs=["203.0.113.0/24"])


def split_bond(cloud: Cloud) -> None:
    """`node-0` is a node with a bond whose members are on different physical networks."""
    cloud.ironic.set("node-0", name="old-node-0")
    cloud.ironic.add_node(name="node-0", resource_class="small", bonded=True)
    first, _ = cloud.ironic.ports("node-0")
    snapshot = cloud.ironic.snapshot()
    snapshot.ports[first["uuid"]]["physical_network"] = "elsewhere"
    cloud.ironic.restore(snapshot)


def bond(cloud: Cloud) -> str:
    return str(cloud.ironic.portgroups("node-0")[0]["uuid"])


CASES: dict[str, tuple[Callable[[Cloud], None], tuple[str, ...], int, str]] = {
    "unknown instance": (nothing, ("show", "nobody"), 3, "there is no instance 'nobody'"),
    "unknown instance by UUID": (nothing, ("destroy", OTHER), 3, f"there is no instance {OTHER}"),
    "node without instance": (nothing, ("power", "off", "node-0"), 3, "node node-0 carries no instance"),
    "ambiguous instance": (two_instances, ("show", "twin"), 4, "2 instances are named 'twin'"),
    "unknown node": (nothing, (*DEPLOY, "--node", "nowhere"), 3, "there is no node 'nowhere'"),
    "unknown console node": (nothing, ("console", "nowhere"), 3, "there is no node 'nowhere'"),
    "unknown network": (nothing, (*ON_NODE, "--network", "dmz"), 3, "there is no network 'dmz'"),
    "ambiguous network": (two_networks, (*ON_NODE, "--network", "private"), 4, "2 networks are named 'private'"),
    "unknown subnet": (nothing, (*ON_NODE, "--subnet", "dmz"), 3, "there is no subnet 'dmz'"),
    "unknown VIF": (nothing, (*ON_NODE, "--vif", "dmz"), 3, "there is no VIF 'dmz'"),
    "image by name without Glance": (nothing, ("deploy", "a", "--image", "debian", "--node", "node-0"), 11, "no Glance"),
    "maintenance": (
        with_node(maintenance=True, maintenance_reason="disk"), ON_NODE, 4, "it is in maintenance (disk)",
    ),
    "retired": (with_node(retired=True, retired_reason="old"), ON_NODE, 4, "it is retired (old)"),
    "protected": (with_node(protected=True), ON_NODE, 4, "it is protected"),
    "claimed": (with_node(instance_uuid=OTHER), ON_NODE, 4, f"it carries instance {OTHER}"),
    "not available": (with_node(provision_state="manageable"), ON_NODE, 4, "its provision state is manageable"),
    "no such class": (nothing, (*DEPLOY, "--resource-class", "huge"), 10, "their classes are small (3)"),
    "no such capability": (
        nothing, (*DEPLOY, "--resource-class", "small", "--capability", "raid=1"), 10, "capability raid that leaves none",
    ),
    "neither node nor class": (nothing, DEPLOY, 2, "neither a node nor a resource class"),
    "nothing to boot": (nothing, ("deploy", "a", "--node", "node-0"), 2, "nothing to boot from"),
    "missing checksum": (nothing, ("deploy", "a", "--image", URL, "--node", "node-0"), 2, "has no checksum"),
    "wrong checksum": (
        nothing, ("deploy", "a", "--image", URL, "--checksum", "abc", "--node", "node-0"), 2, "is no checksum",
    ),
    "no URL": (
        nothing, ("deploy", "a", "--image", "http:///x", "--checksum", CHECKSUM, "--node", "node-0"), 2, "has no host",
    ),
    "kernel alone": (nothing, ("deploy", "a", "--image", URL, "--kernel", "http://x/k", "--node", "node-0"), 2, "alone"),
    "ISO and image": (nothing, (*ON_NODE, "--iso", "http://127.0.0.1/x.iso"), 2, "--iso goes with no other"),
    "trait": (nothing, (*ON_NODE, "--trait", "gpu!"), 2, "'gpu!' is no trait"),
    "address": (nothing, (*ON_NODE, "--network", "private", "--ip", "192.0.2.999"), 2, "is no address"),
    "address elsewhere": (nothing, (*ON_NODE, "--network", "private", "--ip", "10.0.0.1"), 2, "is not on network private"),
    "MAC of no NIC": (
        nothing, (*ON_NODE, "--nic", "network=private,on=52:54:00:ff:ff:ff"), 2, "no NIC '52:54:00:ff:ff:ff'",
    ),
    "size": (nothing, (*ON_NODE, "--swap-mib", "0"), 2, "swap size 0 is not allowed"),
    "size that is no number": (nothing, (*ON_NODE, "--root-gib", "ten"), 2, "--root-gib"),
    "sizes of a whole disk": (nothing, (*ON_NODE, "--root-gib", "10"), 2, "takes no sizes of partitions"),
    "name": (nothing, ("deploy", "web_1", *IMAGE, "--node", "node-0"), 2, "is no instance name"),
    "two VIFs on one NIC": (
        nothing, (*ON_NODE, "--nic", "network=private,on=a", "--nic", "network=storage,on=a"), 2, "two VIFs",
    ),
    "more VIFs than NICs": (
        nothing, (*ON_NODE, *("--network", "private") * 3), 2, "cannot take 3 VIFs",
    ),
    "SSH key": (nothing, (*ON_NODE, "--ssh-key", "/nowhere/key.pub"), 2, "cannot be read"),
    "user data": (nothing, (*ON_NODE, "--user-data", "/nowhere/user-data"), 2, "cannot be read"),
    "root device hint": (nothing, (*ON_NODE, "--root-device", "colour=red"), 2, "is no root device hint"),
    "column": (nothing, ("list", "-c", "colour"), 2, "there is no column 'colour'"),
    "timeout": (nothing, (*ON_NODE, "--timeout", "0"), 2, "--timeout"),
    "unknown command": (nothing, ("deplyo",), 2, "deplyo"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_message_and_changes_nothing(cloud: Cloud, case: str) -> None:
    prepare, arguments, code, said = CASES[case]
    prepare(cloud)
    before = cloud.everything()
    result = cloud.run(*arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert said in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert cloud.everything() == before


def test_user_data_over_the_limit_changes_nothing(cloud: Cloud, tmp_path: Path) -> None:
    user_data = tmp_path / "user-data"
    with user_data.open("wb") as file:
        file.truncate(65 * 2**20)
    before = cloud.everything()
    result = cloud.run(*ON_NODE, "--user-data", str(user_data))
    assert result.code == 2
    assert "user data" in result.err
    assert cloud.everything() == before


def test_a_config_drive_that_does_not_fit_changes_nothing(cloud: Cloud, tmp_path: Path) -> None:
    content = tmp_path / "content"
    with content.open("wb") as file:
        file.truncate(66 * 2**20)
    before = cloud.everything()
    result = cloud.run(*ON_NODE, "--file", f"/var/lib/blob={content}")
    assert result.code == 2
    assert cloud.everything() == before


@pytest.mark.parametrize("where", [("--node", "node-0"), ("--resource-class", "small", "--candidate", "node-0")])
def test_a_nic_that_is_in_a_bond_is_refused_with_the_bond_named(cloud: Cloud, where: tuple[str, ...]) -> None:
    cloud.ironic.set("node-0", name="old-node-0")
    cloud.ironic.add_node(name="node-0", resource_class="small", bonded=True)
    group = bond(cloud)
    member = next(port for port in cloud.ironic.ports("node-0") if port["portgroup_uuid"] is not None)
    before = cloud.everything()
    result = cloud.run("deploy", "web-1", *IMAGE, *where, "--nic", f"network=private,on={member['address'].upper()}")
    assert result.code != 0
    assert (f"is in bond {group}" if "--node" in where else "is in a bond") in " ".join(result.err.split())
    assert cloud.everything() == before


def test_a_bond_whose_members_are_on_other_networks_is_refused(cloud: Cloud) -> None:
    split_bond(cloud)
    before = cloud.everything()
    result = cloud.run(*ON_NODE, "--nic", f"network=private,on={bond(cloud)}")
    assert result.code == 2
    assert "its members are on different physical networks" in result.err
    assert cloud.everything() == before


def test_a_locked_node_is_waited_for_and_then_named(cloud: Cloud) -> None:
    with cloud.ironic.hold_lock("node-0", host="another-conductor"):
        before = cloud.everything()
        result = cloud.run(*ON_NODE, "--timeout", "3")
        assert cloud.everything() == before
    assert result.code in (4, 8)
    assert "another-conductor" in result.err


def test_a_vif_of_another_machine_is_refused(cloud: Cloud) -> None:
    network = next(iter(cloud.neutron.ports()), None)
    assert network is None
    taken = cloud.neutron.add_port(cloud.neutron.add_network("third"), device_id=OTHER, name="taken")
    before = cloud.everything()
    result = cloud.run(*ON_NODE, "--vif", taken)
    assert result.code == 4
    assert f"belongs to device {OTHER}" in result.err
    assert cloud.everything() == before


def test_an_ironic_that_is_not_there_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud.ironic.unreachable():
        result = cloud.run("list")
    assert result.code == 6
    assert "Ironic cannot be reached" in result.err
    assert "bloomery doctor" in result.err


def test_an_ironic_that_does_not_let_us_in_is_named(cloud: Cloud) -> None:
    def refuse(_request: RecordedRequest) -> Fault:
        return Fault(FaultKind.STATUS, status=401, message="who are you?")

    cloud.ironic.on_request = refuse
    result = cloud.run("list")
    assert result.code == 5
    assert "credentials" in result.err


def test_an_ironic_that_is_too_old_is_named(cloud: Cloud) -> None:
    with IronicSimulator(max_version="1.72") as old:
        result = cloud.run("--os-baremetal-endpoint-override", old.url, "list")
    assert result.code == 11
    assert "1.81" in result.err


def test_an_unknown_cloud_is_named(cloud: Cloud) -> None:
    result = cloud.run("--os-cloud", "nowhere", "list")
    assert result.code == 2
    assert "nowhere" in result.err
    assert "--os-cloud" in result.err


def test_a_bug_of_ours_shows_no_traceback(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.library.Bloomery.instances", lambda _self: json.loads("{"))
    result = cloud.run("list")
    assert result.code == 1
    assert "Bloomery has a bug here" in result.err
    assert "Traceback" not in result.err
