"""A wrong value gets no further than the request: the message names it, and says what would be right."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery import DeployRequest, Guest, Image, Nic, Secret, Volume, Wanted
from bloomery.errors import InvalidRequest

SHA256 = "a" * 64
URL = "https://images.example.org/x.raw"
IMAGE = Image.named(URL, checksum=SHA256)
NETWORK_ID = "11111111-1111-4111-8111-111111111111"
KEY = (
    "ssh-ed25519 "
    + base64.b64encode(struct.pack(">I11sI32s", 11, b"ssh-ed25519", 32, bytes(range(32)))).decode()
    + " ada"
)


def request(**arguments: Any) -> DeployRequest:
    return DeployRequest(**{"image": IMAGE, "wanted": Wanted(resource_class="small"), **arguments})


def refused(make: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        make()
    return refusal.value


# What is right


def test_an_image_and_a_resource_class_are_enough() -> None:
    assert request().image is IMAGE


def test_a_node_needs_no_resource_class_and_a_boot_volume_no_image() -> None:
    assert request(wanted=Wanted(), node="n1").node == "n1"
    assert request(image=None, volumes=(Volume(volume_id="v1"),)).image is None


def test_a_request_with_everything_is_accepted() -> None:
    wanted = Wanted(resource_class="small", traits=("CUSTOM_GPU",), capabilities={"boot_mode": "uefi"}, owner="p")
    everything = request(
        image=Image.named(URL, checksum=f"sha256:{SHA256}", kernel="k", ramdisk="r"),
        name="web-1.example.org",
        wanted=wanted,
        nics=(
            Nic(network="n", fixed_ip="192.0.2.10", security_groups=("web",), on="52:54:00:00:00:01"),
            Nic(vif="v", on="eth1"),
            Nic(subnet="s", fixed_ip="2001:db8::10"),
        ),
        volumes=(Volume(volume_id="v1", boot_index=1, properties=Secret({"auth_password": "x"})),),
        guest=Guest.of(ssh_keys=(KEY,), user_data="#!/bin/sh\n", meta={"role": "web"}),
        root_gib=10,
        swap_mib=512,
        ephemeral_gib=20,
        ephemeral_format="ext4",
        instance_capabilities={"secure_boot": "true"},
        root_device={"serial": "abc"},
        deploy_steps=({"interface": "bios", "step": "apply", "priority": 95, "args": {}},),
        instance_uuid=NETWORK_ID,
    )
    assert everything.to_instance_info(image=everything.image, name="web-1") == {
        "display_name": "web-1",
        "image_source": URL,
        "image_os_hash_algo": "sha256",
        "image_os_hash_value": SHA256,
        "image_type": "partition",
        "kernel": "k",
        "ramdisk": "r",
        "root_gb": 10,
        "swap_mb": 512,
        "ephemeral_gb": 20,
        "ephemeral_format": "ext4",
        "traits": ["CUSTOM_GPU"],
        "capabilities": {"boot_mode": "uefi", "secure_boot": "true"},
        "root_device": {"serial": "abc"},
    }


@pytest.mark.parametrize(
    ("image", "info"),
    [
        (
            IMAGE,
            {
                "image_source": URL,
                "image_os_hash_algo": "sha256",
                "image_os_hash_value": SHA256,
                "image_type": "whole-disk",
            },
        ),
        (
            Image.named(URL, checksum="https://images.example.org/SHA256SUMS"),
            {
                "image_source": URL,
                "image_checksum": "https://images.example.org/SHA256SUMS",
                "image_type": "whole-disk",
            },
        ),
        (
            Image.named(URL, checksum=SHA256, is_partition=True),
            {
                "image_source": URL,
                "image_os_hash_algo": "sha256",
                "image_os_hash_value": SHA256,
                "image_type": "partition",
            },
        ),
        (Image.named("debian-13"), {"image_source": "debian-13"}),
        (
            Image.named("oci://registry.example.org/x"),
            {"image_source": "oci://registry.example.org/x", "image_type": "whole-disk"},
        ),
        (Image.iso(URL), {"boot_iso": URL, "deploy_interface": "ramdisk"}),
        (Image.in_memory(kernel="k", ramdisk="r"), {"kernel": "k", "ramdisk": "r", "deploy_interface": "ramdisk"}),
    ],
)
def test_ironic_is_told_what_the_kind_of_image_needs_and_no_more(image: Image, info: dict[str, object]) -> None:
    assert request(image=image).to_instance_info(image=image, name="n") == {"display_name": "n", **info}


@pytest.mark.parametrize(
    ("checksum", "algorithm"),
    [
        ("a" * 32, "md5"),
        ("a" * 40, "sha1"),
        ("A" * 64, "sha256"),
        ("sha512:" + "0" * 128, "sha512"),
        ("SHA384:" + "b" * 96, "sha384"),
    ],
)
def test_a_checksum_tells_its_algorithm_by_its_prefix_or_its_length(checksum: str, algorithm: str) -> None:
    image = Image.named(URL, checksum=checksum)
    assert image.hash_algo == algorithm
    assert image.hash_value == checksum.rpartition(":")[2].lower()


# What is wrong: what is done, what the message names, what the advice offers

WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "a URL without checksum": (lambda: Image.named(URL), URL, "SHA256SUMS"),
    "a checksum that is not hexadecimal": (lambda: Image.named(URL, checksum="z" * 64), "zzz", "64 hexadecimal"),
    "a checksum of no length": (lambda: Image.named(URL, checksum="abc"), "abc", "64 hexadecimal"),
    "a checksum of the wrong length": (lambda: Image.named(URL, checksum="sha256:" + "a" * 63), "aaa", "64"),
    "a checksum of no algorithm": (lambda: Image.named(URL, checksum="crc32:" + "a" * 64), "crc32", "sha256:"),
    "an empty checksum": (lambda: Image.named(URL, checksum=""), "''", "sha256:"),
    "a checksum where Glance has it": (lambda: Image.named("debian", checksum=SHA256), "debian", "Leave it out"),
    "a checksum's URL that is none": (lambda: Image.named(URL, checksum="ftp://x/y"), "ftp://x/y", "https"),
    "a file URL with a relative path": (lambda: Image.named("file://x/y", checksum=SHA256), "file://x/y", "file:///"),
    "a URL without host": (lambda: Image.named("http:///x", checksum=SHA256), "http:///x", "https://"),
    "a URL with a broken host": (lambda: Image.named("http://[::1/x", checksum=SHA256), "http://[::1/x", "https://"),
    "an ISO that is no URL": (lambda: Image.iso("debian.iso"), "debian.iso", "https"),
    "an image with an empty name": (lambda: Image.named(""), "image", "visible character"),
    "an image's name with a line break": (lambda: Image.named("a\nb"), "image", "Leave it out"),
    "a partition image where Glance knows it": (
        lambda: Image.named("debian", is_partition=True),
        "debian",
        "Leave it out",
    ),
    "a kernel alone": (lambda: Image.named(URL, checksum=SHA256, kernel="k"), "kernel", "both"),
    "a ramdisk alone": (lambda: Image.named("debian", ramdisk="r"), "ramdisk", "both"),
    "a NIC from nowhere": (lambda: Nic(), "network, subnet nor vif", "exactly one"),
    "a NIC from two places": (lambda: Nic(network="n", vif="v"), "network and vif", "exactly one"),
    "a NIC on an empty network": (lambda: Nic(network=" "), "the network of a NIC", "visible character"),
    "a NIC on nothing": (lambda: Nic(network="n", on=""), "the on of a NIC", "visible character"),
    "an address that is none": (lambda: Nic(network="n", fixed_ip="192.0.2.300"), "192.0.2.300", "192.0.2.10"),
    "an address with a prefix": (lambda: Nic(network="n", fixed_ip="192.0.2.1/24"), "192.0.2.1/24", "2001:db8::10"),
    "an address for a VIF that exists": (lambda: Nic(vif="v1", fixed_ip="192.0.2.1"), "v1", "network instead"),
    "security groups for a VIF that exists": (lambda: Nic(vif="v1", security_groups=("a",)), "v1", "Leave them out"),
    "a volume without id": (lambda: Volume(volume_id=""), "volume", "visible character"),
    "a boot index below zero": (lambda: Volume(volume_id="v1", boot_index=-1), "-1", "from 0"),
    "a private key": (lambda: Guest(ssh_keys=("-----BEGIN OPENSSH PRIVATE KEY-----",)), "private key", "public"),
    "a key that is none": (lambda: Guest(ssh_keys=("ssh-rsa",)), "SSH", ".pub"),
    "user data that is not there": (lambda: Guest.of(user_data=Path("/no/such/file")), "/no/such/file", "may read"),
    "user data that is too large": (lambda: Guest.of(user_data=bytes(70 * 2**20)), "70.0 MiB", "first boot"),
    "a name that is no host name": (lambda: request(name="my web"), "my web", "letters"),
    "a name that begins with a hyphen": (lambda: request(name="-web"), "-web", "beginning"),
    "an empty name": (lambda: request(name=""), "''", "letters"),
    "a name that is too long": (lambda: request(name="a" * 254), "aaa", "253"),
    "a name that is a UUID": (lambda: request(name=NETWORK_ID), NETWORK_ID, "Choose a name"),
    "a UUID that is none": (lambda: request(instance_uuid="17"), "17", "looks like"),
    "neither node nor class": (
        lambda: request(wanted=Wanted()),
        "neither a node nor a resource class",
        "bloomery nodes",
    ),
    "nothing to boot from": (lambda: request(image=None), "nothing to boot", "boot index 0"),
    "only data volumes": (lambda: request(image=None, volumes=(Volume(volume_id="v", boot_index=1),)), "nothing", "0"),
    "two volumes at one index": (
        lambda: request(volumes=(Volume(volume_id="v1"), Volume(volume_id="v2"))),
        "same boot index",
        "its own",
    ),
    "a trait that is none": (lambda: request(wanted=Wanted(resource_class="s", traits=("gpu",))), "gpu", "CUSTOM_GPU"),
    "a root of no size": (lambda: request(root_gib=0), "root size 0", "above 0"),
    "a negative swap": (lambda: request(swap_mib=-1), "swap size -1", "above 0"),
    "a negative ephemeral partition": (lambda: request(ephemeral_gib=-5), "ephemeral size -5", "above 0"),
    "partitions of a whole-disk image": (lambda: request(root_gib=10), "whole-disk", "say that it is one"),
    "a VIF twice": (lambda: request(nics=(Nic(vif="v1"), Nic(vif="v1"))), "VIF is named twice", "once"),
    "two VIFs and one NIC": (
        lambda: request(nics=(Nic(network="n", on="eth0"), Nic(network="m", on="eth0"))),
        "two VIFs are to be on one NIC",
        "its own NIC",
    ),
    "a root device hint that is none": (lambda: request(root_device={"colour": "red"}), "colour", "serial"),
}


@pytest.mark.parametrize(("make", "named", "offered"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_and_what_would_be_right_is_offered(
    make: Callable[[], object], named: str, offered: str
) -> None:
    refusal = refused(make)
    assert named in refusal.message
    assert offered in str(refusal.advice)
    assert "\n" not in str(refusal)


def test_two_nics_may_be_named_alike_if_nobody_says_where_they_are_to_be() -> None:
    assert len(request(nics=(Nic(network="n"), Nic(network="n"))).nics) == 2


def test_a_private_key_is_not_repeated_in_the_message() -> None:
    secret = "b3BlbnNzaC1rZXk"
    refusal = refused(lambda: Guest(ssh_keys=(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}",)))
    assert secret not in str(refusal)


def test_no_secret_of_a_request_is_in_what_it_shows() -> None:
    shown = repr(
        request(
            volumes=(Volume(volume_id="v", boot_index=1, properties=Secret({"auth_password": "swordfish"})),),
            guest=Guest.of(
                user_data="swordfish", admin_password=Secret("swordfish"), files={"/a": Secret(b"swordfish")}
            ),
        )
    )
    assert "swordfish" not in shown


@given(st.text(), st.none() | st.text())
def test_no_text_breaks_an_image(source: str, checksum: str | None) -> None:
    _made_or_refused(lambda: Image.named(source, checksum=checksum))
    _made_or_refused(lambda: Image.iso(source))


@given(st.sampled_from(["http://", "https://", "file://", "oci://"]), st.text())
def test_no_text_breaks_a_url(scheme: str, rest: str) -> None:
    _made_or_refused(lambda: Image.named(scheme + rest, checksum=SHA256))


@given(st.text(), st.text())
def test_no_text_breaks_a_nic(network: str, address: str) -> None:
    _made_or_refused(lambda: Nic(network=network, fixed_ip=address, on=address))


@given(st.text(), st.text())
def test_no_text_breaks_a_request(name: str, instance_uuid: str) -> None:
    _made_or_refused(lambda: request(name=name, instance_uuid=instance_uuid))
    _made_or_refused(lambda: request(root_device={name: instance_uuid}))


@given(st.text())
def test_no_text_breaks_a_key(key: str) -> None:
    _made_or_refused(lambda: Guest(ssh_keys=(key,)))


def _made_or_refused(make: Callable[[], object]) -> None:
    try:
        make()
    except InvalidRequest as refusal:
        assert refusal.message  # noqa: PT017
        assert "\n" not in str(refusal)  # noqa: PT017
