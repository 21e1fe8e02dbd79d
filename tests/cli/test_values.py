"""Option values are taken apart, or refused with an example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.doors.cli.values import (
    deploy_steps_from,
    files_from,
    json_or_yaml_in,
    nic_from,
    nics_from,
    pairs,
    ssh_keys_in,
    volume_from,
)
from bloomery.errors import InvalidRequest
from bloomery.operations.request import Nic

NOTHING = {"nics": None, "networks": None, "subnets": None, "vifs": None, "ip": None, "security_groups": None}


def test_a_nic_is_described_in_one_option() -> None:
    nic = nic_from("network=private,ip=192.0.2.10,on=bond0,security-group=web,security-group=ssh")
    assert nic == Nic(network="private", fixed_ip="192.0.2.10", on="bond0", security_groups=("web", "ssh"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("private", "no KEY=VALUE"),
        ("net=private", "unknown key 'net'"),
        ("network=a,network=b", "'network' twice"),
        ("network=a,subnet=b", "network and subnet"),
        ("ip=192.0.2.1", "neither network, subnet nor vif"),
        ("network=a,ip=192.0.2.300", "no address"),
    ],
)
def test_a_nic_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        nic_from(text)


def test_nics_come_in_the_order_of_the_options() -> None:
    given = {**NOTHING, "nics": ["vif=a"], "networks": ["b"], "subnets": ["c"], "vifs": ["d"]}
    assert [nic.words for nic in nics_from(**given)] == ["vif a", "network b", "subnet c", "vif d"]  # type: ignore[arg-type]


def test_one_ip_is_not_for_two_networks() -> None:
    with pytest.raises(InvalidRequest, match="exactly one"):
        nics_from(**{**NOTHING, "networks": ["a", "b"], "ip": "192.0.2.1"})  # type: ignore[arg-type]


def test_a_vif_that_exists_takes_no_security_groups() -> None:
    with pytest.raises(InvalidRequest, match="--security-group goes with"):
        nics_from(**{**NOTHING, "vifs": ["a"], "security_groups": ["web"]})  # type: ignore[arg-type]


def test_a_value_may_hold_an_equals_sign() -> None:
    assert pairs(["a=b=c"], "--meta") == {"a": "b=c"}


@pytest.mark.parametrize("texts", [["a"], ["=b"], ["a=1", "a=2"]])
def test_pairs_that_are_none_are_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="--meta"):
        pairs(texts, "--meta")


def test_a_volume_takes_its_properties_from_the_option_and_a_file(tmp_path: Path) -> None:
    secrets = tmp_path / "chap.json"
    secrets.write_text(json.dumps({"auth_password": "a-chap-secret"}))
    volume = volume_from(f"vol-1,type=iscsi,boot-index=0,target_lun=1,properties={secrets}")
    assert (volume.volume_id, volume.volume_type, volume.boot_index) == ("vol-1", "iscsi", 0)
    assert volume.properties.reveal() == {"auth_password": "a-chap-secret", "target_lun": "1"}
    assert "a-chap-secret" not in repr(volume)


def test_a_boot_index_is_a_number() -> None:
    with pytest.raises(InvalidRequest, match="boot-index 'first' is no whole number"):
        volume_from("vol-1,boot-index=first")


def test_deploy_steps_are_json_or_a_file_of_it(tmp_path: Path) -> None:
    step = {"interface": "bios", "step": "apply", "priority": 150}
    file = tmp_path / "steps.json"
    file.write_text(json.dumps([step, {**step, "args": {"a": 1}}]))
    found = deploy_steps_from([json.dumps(step), f"@{file}"])
    assert [one["args"] for one in found] == [{}, {}, {"a": 1}]


@pytest.mark.parametrize("text", ["{", "[1]", '{"interface": "bios"}', "@/nowhere/steps.json"])
def test_a_deploy_step_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        deploy_steps_from([text])


def test_ssh_keys_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "keys.pub"
    file.write_text("# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n")
    assert ssh_keys_in([file]) == ("ssh-ed25519 AAAA me", "ssh-rsa BBBB you")


def test_a_private_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nvery-secret\n")
    with pytest.raises(InvalidRequest, match="private key") as refusal:
        ssh_keys_in([file])
    assert "very-secret" not in str(refusal.value)


def test_a_file_for_the_guest_is_read_and_kept_secret(tmp_path: Path) -> None:
    file = tmp_path / "motd"
    file.write_bytes(b"hello")
    assert files_from([f"/etc/motd={file}"])["/etc/motd"].reveal() == b"hello"


@pytest.mark.parametrize("content", ["- a\n- b\n", "{", "just text"])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "vendor.json"
    file.write_text(content)
    with pytest.raises(InvalidRequest, match="vendor data"):
        json_or_yaml_in(file, "vendor data")
