"""The life of an instance by the command, and what each command says and changes."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.simulated_cloud import IMAGE, Cloud

SMALL = ("--resource-class", "small", "--network", "private")


def node_of(cloud: Cloud, name: str) -> Any:
    """Ironic's record of the node that carries the instance."""
    found = [node for node in cloud.ironic.nodes() if node["extra"].get("bloomery", {}).get("name") == name]
    assert len(found) == 1
    return found[0]


def test_deploy_shows_the_instance_that_runs(cloud: Cloud) -> None:
    out = cloud.ok("deploy", "web-1", *IMAGE, "--resource-class", "small", "--network", "private", "-f", "json")
    shown = json.loads(out)
    assert (shown["name"], shown["state"], shown["power_state"]) == ("web-1", "active", "power on")
    (vif,) = shown["vifs"]
    assert vif["network"] == "private"
    assert vif["addresses"] == ["192.0.2.2"]
    assert cloud.ironic.vifs(shown["node_uuid"]) == [vif["vif_id"]]


def test_deploy_passes_on_what_its_options_say(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8JNqxNWKGnv3rXnSm8s2jBL2xTJkZ1i4r1mZ0sGm3G me\n"
    )
    (tmp_path / "user-data").write_text("#cloud-config\n{}\n")
    (tmp_path / "vendor.yaml").write_text("a: 1\n")
    (tmp_path / "motd").write_text("hello\n")
    cloud.ironic.set("node-1", traits=["CUSTOM_GPU"])
    cloud.ok(
        "deploy", "web-1", *IMAGE,
        *("--resource-class", "small", "--trait", "CUSTOM_GPU", "--candidate", "node-1", "--candidate", "node-2"),
        *("--nic", "network=private,ip=192.0.2.10,security-group=web", "--network", "storage"),
        *("--ssh-key", str(tmp_path / "key.pub"), "--user-data", str(tmp_path / "user-data"), "--gzip-user-data"),
        *("--meta", "role=web", "--vendor-data", str(tmp_path / "vendor.yaml")),
        *("--file", f"/etc/motd={tmp_path / 'motd'}"),
        *("--root-device", "serial=S1", "--instance-capability", "boot_mode=uefi"),
    )  # fmt: skip
    node = node_of(cloud, "web-1")
    assert node["name"] == "node-1"
    assert node["instance_info"]["root_device"] == {"serial": "S1"}
    assert node["instance_info"]["capabilities"] == {"boot_mode": "uefi"}
    assert node["instance_info"]["traits"] == ["CUSTOM_GPU"]
    addresses = [address["ip_address"] for port in cloud.neutron.ports() for address in port["fixed_ips"]]
    assert "192.0.2.10" in addresses
    assert len(cloud.ironic.vifs("node-1")) == 2


def test_several_instances_are_deployed_at_once_and_listed(cloud: Cloud) -> None:
    result = cloud.run("deploy", "web", *IMAGE, *SMALL, "--count", "3", "--at-once", "2")
    assert result.code == 0, result.err
    assert cloud.ok("list", "-f", "value", "-c", "name", "--sort-column", "name").split() == ["web-1", "web-2", "web-3"]


def test_of_several_instances_one_that_fails_does_not_keep_the_others(cloud: Cloud) -> None:
    result = cloud.run("deploy", "web", *IMAGE, *SMALL, "--count", "4", "--at-once", "1")
    assert result.code == 10
    assert "error: web-4: no node fits" in result.err
    assert "3 of 4 done" in result.err
    assert len(cloud.ok("list", "-f", "value").splitlines()) == 3


@pytest.mark.parametrize(
    "shared", [("--node", "node-0"), ("--nic", "vif=x"), ("--network", "private", "--ip", "192.0.2.9")]
)
def test_several_instances_share_nothing_that_only_one_can_have(cloud: Cloud, shared: tuple[str, ...]) -> None:
    result = cloud.run("deploy", "a", "b", *IMAGE, "--resource-class", "small", *shared)
    assert result.code == 2
    assert "several instances cannot share" in result.err


def test_no_wait_returns_when_ironic_has_taken_it_up(cloud: Cloud) -> None:
    cloud.ironic.stick("node-0", "wait call-back")
    result = cloud.run("deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private", "--no-wait", "-f", "json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["state"] in ("deploying", "wait call-back")


def test_an_instance_is_used_and_destroyed_by_the_command(cloud: Cloud) -> None:
    cloud.deployed("web-1", "--network", "storage")
    node = node_of(cloud, "web-1")["name"]
    cloud.ok("power", "off", "web-1", "--soft", "5")
    assert cloud.ironic.bmc(node).power == "power off"
    cloud.ok("power", "on", "web-1")
    assert cloud.ironic.bmc(node).power == "power on"
    cloud.ok("reboot", "web-1")
    assert cloud.ok("power", "status", "web-1", "-f", "value") == "web-1 power on \n"
    cloud.ok("crash-dump", "web-1", "--yes")
    assert cloud.ironic.bmc(node).interrupts == 1
    cloud.ok("rebuild", "web-1", "--image", "http://127.0.0.1/y.raw", "--checksum", "b" * 64)
    assert cloud.ironic.node(node)["instance_info"]["image_source"] == "http://127.0.0.1/y.raw"
    assert cloud.run("validate", "web-1").code == 0
    cloud.ok("destroy", "web-1", "--wait-for-cleaning")
    assert cloud.ironic.node(node)["provision_state"] == "available"
    assert cloud.ironic.vifs(node) == []
    assert cloud.neutron.ports() == []
    assert cloud.run("destroy", "web-1").code == 3


def test_interfaces_are_attached_and_detached(cloud: Cloud) -> None:
    cloud.deployed()
    plugged = json.loads(cloud.ok("attach", "web-1", "--network", "storage", "-f", "json"))
    assert plugged["network"] == "storage"
    cloud.ok("detach", "web-1", plugged["name"])
    assert len(cloud.neutron.ports()) == 1
    assert cloud.run("attach", "web-1", "--network", "a", "--network", "b").code == 2


def test_security_groups_are_given_listed_and_taken(cloud: Cloud) -> None:
    cloud.deployed()
    cloud.ok("security-group", "add", "web-1", "web")
    rows = yaml.safe_load(cloud.ok("security-group", "list", "web-1", "-f", "yaml"))
    assert {row["security_group"] for row in rows} == {"default", "web"}
    cloud.ok("security-group", "remove", "web-1", "web", "--vif", "192.0.2.2")
    assert "web\n" not in cloud.ok("security-group", "list", "web-1", "-f", "value", "-c", "security_group")


def test_volumes_are_attached_listed_and_detached(cloud: Cloud) -> None:
    cloud.ironic.set("node-0", storage_interface="external")
    cloud.ok("deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private")
    assert cloud.run("volume", "attach", "web-1", "vol-1").code == 4
    cloud.ok("power", "off", "web-1")
    cloud.ok("volume", "attach", "web-1", "vol-1", "--property", "target_lun=1")
    assert cloud.ok("volume", "list", "node-0", "-f", "value", "-c", "volume_id") == "vol-1\n"
    cloud.ok("volume", "detach", "web-1", "vol-1")
    assert cloud.ironic.volume_targets("node-0") == []
    assert cloud.run("volume", "connector", "node-0").code == 4


def test_the_rescue_password_is_on_stdout_once_and_nowhere_else(cloud: Cloud) -> None:
    cloud.deployed()
    result = cloud.run("rescue", "web-1")
    assert result.code == 0
    password = result.out.strip()
    assert len(password) >= 16
    assert password not in result.err
    node = node_of(cloud, "web-1")
    assert node["provision_state"] == "rescue"
    cloud.ok("unrescue", "web-1")


def test_a_rescue_password_that_was_given_is_not_shown_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.deployed()
    (tmp_path / "password").write_text("a-marked-secret\nanother line\n")
    process = cloud.start("--debug", "rescue", "web-1", "--password-file", str(tmp_path / "password"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "PUT" in err
    assert "a-marked-secret" not in out + err
    sent = [request.body for request in cloud.ironic.requests if request.path.endswith("/states/provision")]
    assert any(body.get("rescue_password") == "a-marked-secret" for body in sent)


def test_a_command_that_has_ended_logs_no_more(cloud: Cloud) -> None:
    assert "GET" in cloud.run("--debug", "list").err
    assert logging.getLogger("bloomery").handlers == []


def test_the_console_is_started_shown_and_stopped(cloud: Cloud) -> None:
    address = json.loads(cloud.ok("console", "node-0", "--url", "-f", "json"))
    assert address["url"].startswith("tcp://")
    assert cloud.run("console", "node-0", "--disable").code == 4
    cloud.ok("console", "node-0", "--disable", "--force")


def test_a_console_is_found_by_the_name_of_the_instance_too(cloud: Cloud) -> None:
    cloud.deployed()
    node = next(node["uuid"] for node in cloud.ironic.nodes() if node["instance_uuid"])
    assert json.loads(cloud.ok("console", "web-1", "--url", "-f", "json"))["url"].startswith("tcp://")
    assert cloud.ironic.node(node)["console_enabled"]
    cloud.ok("console", "web-1", "--disable", "--force")
    assert not cloud.ironic.node(node)["console_enabled"]
    nobody = cloud.run("console", "web-2", "--url")
    assert (nobody.code, "web-2" in nobody.err) == (3, True)


def test_an_instance_of_somebody_elses_is_adopted_before_it_is_destroyed(cloud: Cloud) -> None:
    cloud.ironic.set(
        "node-0",
        instance_uuid="6728ab4e-27dc-457b-b5d2-d6958180b839",
        provision_state="active",
        power_state="power on",
        instance_info={"display_name": "theirs", "nova_host_id": "compute-1"},
    )
    refused = cloud.run("destroy", "theirs")
    assert refused.code == 4
    assert "bloomery adopt" in refused.err
    cloud.ok("adopt", "theirs", "--name", "ours")
    assert cloud.ok("list", "--manager", "bloomery", "-f", "value", "-c", "name") == "ours\n"
    cloud.ok("destroy", "ours")


def test_show_says_what_there_is_and_leaves_out_the_rest(cloud: Cloud) -> None:
    cloud.deployed()
    out = cloud.ok("show", "web-1")
    assert "private: 192.0.2.2" in out
    assert "last error" not in out
    assert cloud.ok("show", "web-1", "-f", "value", "-c", "state") == "active\n"


def test_list_is_filtered(cloud: Cloud) -> None:
    cloud.deployed("web-1")
    cloud.deployed("db-1")
    assert cloud.ok("list", "--name", "web", "-f", "value", "-c", "name") == "web-1\n"
    assert cloud.ok("list", "--state", "rescue", "-f", "value") == ""
    assert cloud.ok("list", "--resource-class", "big", "-f", "json") == "[]\n"


def test_nodes_are_filtered_and_say_why_they_cannot_be_had(cloud: Cloud) -> None:
    cloud.ironic.add_node(
        name="broken", resource_class="small", maintenance=True, maintenance_reason="\x1b]0;title\x07"
    )
    cloud.ironic.set("node-2", traits=["CUSTOM_GPU"])
    assert cloud.ok("nodes", "--trait", "CUSTOM_GPU", "-f", "value", "-c", "name") == "node-2\n"
    assert cloud.ok("nodes", "--maintenance", "-f", "value", "-c", "name") == "broken\n"
    free = cloud.ok("nodes", "--free", "-f", "value", "-c", "name").split()
    assert free == ["node-0", "node-1", "node-2"]
    out = cloud.ok("nodes", "--why-not", "--trait", "CUSTOM_GPU")
    assert "it is in maintenance" in out
    assert "\x1b" not in out
    assert "it has no trait CUSTOM_GPU" in out


def test_validate_lists_what_does_not_fit_and_ends_with_1(cloud: Cloud) -> None:
    cloud.deployed()
    cloud.ok("power", "off", "web-1")
    result = cloud.run("validate", "web-1")
    assert result.code == 1
    assert "the node's power state is 'power off'" in result.out


def test_recover_sees_to_what_was_left(cloud: Cloud) -> None:
    cloud.ironic.set(
        "node-0", extra={"bloomery": {"instance_uuid": "6728ab4e-27dc-457b-b5d2-d6958180b839", "operation": "deploy"}}
    )
    assert cloud.run("doctor", "--leaks").code == 1
    out = cloud.ok("recover", "--older-than", "0", "-f", "value", "-c", "node")
    assert out == "node-0\n"
    assert cloud.ironic.node("node-0")["extra"] == {}


def test_a_dry_run_shows_the_calls_and_changes_nothing(cloud: Cloud) -> None:
    before = cloud.everything()
    result = cloud.run(
        "deploy", "web-1", *IMAGE, "--resource-class", "small", "--network", "private", "--meta", "a=b", "--dry-run"
    )
    assert result.code == 0, result.err
    for expected in ("POST /v1/allocations", "POST /v2.0/ports", "/vifs", "/states/provision"):
        assert expected in result.out
    assert "nothing was changed" in result.err
    assert cloud.everything() == before
    rows = json.loads(
        cloud.ok(
            "deploy",
            "web-1",
            *IMAGE,
            "--node",
            "node-0",
            "--network",
            "private",
            "--no-config-drive",
            "--dry-run",
            "-f",
            "json",
        )
    )
    assert rows[-1]["method"] == "PUT"
    assert rows[-1]["body"]["target"] == "active"


def test_a_dry_run_of_what_could_not_be_done_says_so(cloud: Cloud) -> None:
    result = cloud.run("deploy", "web-1", *IMAGE, *SMALL, "--nic", "network=private,on=eth9", "--dry-run")
    assert result.code == 10
    assert "no NIC 'eth9'" in result.err


@pytest.mark.parametrize(
    "command",
    [("destroy", "web-1"), ("rebuild", "web-1"), ("reboot", "web-1"), ("power", "off", "web-1"), ("rescue", "web-1")],
)
def test_every_long_operation_can_be_rehearsed(cloud: Cloud, command: tuple[str, ...]) -> None:
    cloud.deployed()
    before = cloud.everything()
    result = cloud.run(*command, "--dry-run")
    assert result.code == 0, result.err
    assert "Ironic P" in result.out
    assert cloud.everything() == before


def test_progress_is_a_line_for_each_change_and_none_is_repeated(cloud: Cloud) -> None:
    # Long enough to be seen by a command that has to share its machine.
    cloud.ironic.timings = replace(cloud.ironic.timings, deploy_s=3.0)
    result = cloud.run("deploy", "web-1", *IMAGE, *SMALL)
    lines = [line.split("s  ", 1)[1] for line in result.err.splitlines() if "s  web-1: " in line]
    assert lines[0] == "web-1: find node"
    assert any(line.startswith("web-1: wait for active [deploying") for line in lines)
    assert len(lines) == len(set(lines))
    assert "\x1b" not in result.err
    assert "web-1: deployed in" in result.err


def test_the_second_time_the_expected_duration_is_said(cloud: Cloud) -> None:
    cloud.deployed("web-1")
    known = cloud.folder / "cache" / "bloomery" / "durations.json"
    assert known.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(known.read_text())) == ["deploy/small"]
    assert "in all)" in cloud.run("deploy", "web-2", *IMAGE, *SMALL).err
    known.write_text("{ this is no JSON")
    assert "in all)" not in cloud.run("deploy", "web-3", *IMAGE, *SMALL).err
