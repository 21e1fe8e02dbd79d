"""What stands on a config drive is what was asked for, read back by readers that are not ours."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import time
import warnings
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import isoparser.iso
import isoparser.source
import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.config_drive import (
    IMAGE_LIMIT_BYTES,
    BondLink,
    BondMode,
    ConfigDrive,
    FixedIp,
    MetaData,
    Network,
    NetworkData,
    NetworkType,
    NicPort,
    NicPortGroup,
    PhysicalLink,
    Route,
    VifOnNic,
    VlanLink,
    host_name_from,
    network_data_from_vifs,
    user_data_from,
)
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

with warnings.catch_warnings():
    # What these import in turn uses modules that Python is about to drop, and says so.
    warnings.simplefilter("ignore")
    from ironic.api.controllers.v1 import utils as ironic_api_utils
    from ironic.conductor import configdrive_utils as ironic_config_drive
    from openstack.baremetal import configdrive as sdk_config_drive

UUID = "2f6c1bb8-7d1c-4c4e-9a5e-1f7b0c7d2a11"
MAC_1, MAC_2, MAC_3 = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
VERSIONS = ("2012-08-10", "latest")


def ssh_key(kind: str = "ssh-ed25519", *, blob_kind: str | None = None) -> str:
    """A line of a `.pub` file."""
    name = (blob_kind or kind).encode()
    blob = struct.pack(">I", len(name)) + name + struct.pack(">I", 32) + bytes(32)
    return f"{kind} {base64.b64encode(blob).decode()} smith@forge"


def meta_data(**given_values: Any) -> MetaData:
    """Metadata of an instance called web-1."""
    return MetaData(**{"uuid": UUID, "name": "web-1", **given_values})


def drive(**given_values: Any) -> ConfigDrive:
    """A config drive that holds at least metadata."""
    return ConfigDrive(**{"meta_data": meta_data(), **given_values})


def vif(name: str = "vif-1", **given_values: Any) -> VifOnNic:
    """A VIF on the first card."""
    defaults = {"vif_id": name, "network_id": "net-1", "mac": MAC_1, "nic": NicPort(MAC_1)}
    return VifOnNic(**{**defaults, **given_values})


# Readers that are not pycdlib.


class InMemory(isoparser.source.Source):  # type: ignore[misc]
    """An image in memory, for isoparser."""

    def __init__(self, image: bytes) -> None:
        super().__init__()
        self.image = image

    def _fetch(self, sector: int, count: int = 1) -> bytes:
        return self.image[sector * 2048 : (sector + count) * 2048]


def rock_ridge_files(image: bytes) -> dict[str, bytes]:
    """Content by path, as isoparser reads it through Rock Ridge."""
    found: dict[str, bytes] = {}

    def collect(folder: Any, path: str) -> None:
        for child in folder.children:
            child_path = f"{path}/{child.name.decode()}"
            if child.is_directory:
                collect(child, child_path)
            else:
                found[child_path] = child.content if child.length else b""

    collect(isoparser.iso.ISO(InMemory(image)).root, "")
    return found


def descriptor(image: bytes, kind: int) -> bytes:
    """The volume descriptor of that type."""
    sectors = (image[at : at + 2048] for at in range(16 * 2048, len(image), 2048))
    return next(sector for sector in sectors if sector[0] == kind)


def joliet_files(image: bytes) -> dict[str, bytes]:
    """Content by path, read through Joliet's own tree (ECMA-119 9.1 with names in UCS-2)."""
    supplementary = descriptor(image, 2)
    assert supplementary[88:91] == b"%/E", "Joliet level 3 announces itself so"

    def children(folder: bytes) -> Iterator[bytes]:
        extent, size = struct.unpack_from("<I", folder, 2)[0], struct.unpack_from("<I", folder, 10)[0]
        for sector in range(extent * 2048, extent * 2048 + size, 2048):
            at = sector
            while at < sector + 2048 and image[at]:
                yield image[at : at + image[at]]
                at += image[at]

    def collect(folder: bytes, path: str) -> Iterator[tuple[str, bytes]]:
        for record in children(folder):
            raw_name = record[33 : 33 + record[32]]
            if raw_name in (b"\0", b"\1"):
                continue
            child_path = f"{path}/{raw_name.decode('utf-16-be').removesuffix(';1')}"
            if record[25] & 2:
                yield from collect(record, child_path)
            else:
                extent, size = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]
                yield child_path, image[extent * 2048 : extent * 2048 + size]

    return dict(collect(supplementary[156:190], ""))


def files_on(config_drive: ConfigDrive) -> dict[str, bytes]:
    """Content by path, on which both trees of the image agree."""
    image = config_drive.as_iso()
    found = rock_ridge_files(image)
    assert joliet_files(image) == found
    return found


def sdk_files(description: dict[str, Any]) -> dict[str, bytes]:
    """Content by path of what Ironic makes of a config drive in JSON, by the SDK's code that Ironic calls for it."""
    user_data = description.get("user_data")
    with sdk_config_drive.populate_directory(
        description["meta_data"],
        user_data=user_data.encode() if user_data else None,
        network_data=description.get("network_data"),
        vendor_data=description.get("vendor_data"),
    ) as folder:
        return {f"/{path.relative_to(folder)}": path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


NETWORK_SCHEMA = json.loads(package_files("ironic").joinpath("api/controllers/v1/network-data-schema.json").read_text())


def validated(data: NetworkData) -> dict[str, Any]:
    """The network data as JSON gives it back, valid by the format's schema."""
    document: dict[str, Any] = json.loads(json.dumps(data.to_dict()))
    jsonschema.Draft7Validator(NETWORK_SCHEMA).validate(document)
    return document


# Layout.


def test_every_file_stands_in_both_versions_where_openstack_puts_it() -> None:
    found = files_on(
        drive(
            user_data=Secret(b"#!/bin/sh\n"),
            network_data=network_data_from_vifs([vif()]),
            vendor_data={"a": 1},
            vendor_data2={"b": 2},
            content={"/etc/motd": Secret(b"hello")},
        )
    )
    names = ("meta_data.json", "network_data.json", "user_data", "vendor_data.json", "vendor_data2.json")
    expected = {f"/openstack/{version}/{name}" for version in VERSIONS for name in names}
    assert found.keys() == expected | {"/openstack/content/0000"}
    assert found["/openstack/content/0000"] == b"hello"
    for version in VERSIONS:
        assert found[f"/openstack/{version}/user_data"] == b"#!/bin/sh\n"
        assert json.loads(found[f"/openstack/{version}/vendor_data.json"]) == {"a": 1}
        assert json.loads(found[f"/openstack/{version}/vendor_data2.json"]) == {"b": 2}


def test_what_is_not_given_is_not_on_the_drive() -> None:
    assert files_on(drive()).keys() == {f"/openstack/{version}/meta_data.json" for version in VERSIONS}


def test_the_volume_is_labelled_config_2() -> None:
    image = drive().as_iso()
    assert descriptor(image, 1)[40:72].decode().rstrip() == "config-2"
    assert descriptor(image, 2)[40:72].decode("utf-16-be").rstrip() == "config-2"


def test_the_same_drive_has_the_same_bytes_in_another_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    config_drive = drive(user_data=Secret(b"x" * 5000), content={"/a": Secret(b"1"), "/b": Secret(b"2")})
    images = set()
    for zone in ("UTC", "Asia/Kathmandu", "XYZ+11"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        images.add(config_drive.as_iso())
    monkeypatch.undo()
    time.tzset()
    assert len(images) == 1
    assert time.strftime("%Y").encode() not in images.pop()[16 * 2048 : 19 * 2048]


def test_the_metadata_hold_all_that_was_given_under_novas_names() -> None:
    config_drive = drive(
        meta_data=meta_data(
            uuid=UUID.upper(),
            name="Web № 1",
            hostname="web-1.example.org",
            public_keys={"smith": ssh_key() + "\r\n"},
            project_id="forge",
            availability_zone="north",
            launch_index=3,
            admin_pass=Secret("geheim"),
            meta={"rôle": "wêb\n2"},
            extra={"devices": [{"type": "nic"}]},
        ),
        content={"/etc/grüße.txt": Secret(b"a"), "/b": Secret(b"")},
    )
    assert json.loads(files_on(config_drive)["/openstack/latest/meta_data.json"]) == {
        "uuid": UUID,
        "name": "Web № 1",
        "hostname": "web-1.example.org",
        "public_keys": {"smith": ssh_key()},
        "keys": [{"name": "smith", "type": "ssh", "data": ssh_key()}],
        "project_id": "forge",
        "availability_zone": "north",
        "launch_index": 3,
        "admin_pass": "geheim",
        "meta": {"rôle": "wêb\n2"},
        "devices": [{"type": "nic"}],
        "files": [
            {"path": "/etc/grüße.txt", "content_path": "/content/0000"},
            {"path": "/b", "content_path": "/content/0001"},
        ],
    }


# The two forms for Ironic.


def test_ironic_makes_the_same_files_of_the_json_as_stand_in_the_image() -> None:
    config_drive = drive(
        meta_data=meta_data(name="Schmied ⚒", public_keys={"smith": ssh_key()}),
        user_data=user_data_from("#cloud-config\nmotd: grüß Gott\r\n"),
        network_data=network_data_from_vifs([vif()]),
        vendor_data2={"forge": {"a": [1, None]}},
    )
    description = config_drive.as_json()
    assert description is not None
    assert sdk_files(json.loads(json.dumps(description))) == files_on(config_drive)


@pytest.mark.parametrize(
    "config_drive",
    [
        drive(user_data=Secret(b"\xff\x00")),
        drive(user_data=user_data_from("text", compress=True)),
        drive(content={"/a": Secret(b"a")}),
        drive(vendor_data={"a": 1}),
        drive(vendor_data2=json.loads("[" * 30 + "]" * 30) and {"deep": json.loads("[" * 30 + "]" * 30)}),
        drive(user_data=Secret(b"x" * (IMAGE_LIMIT_BYTES // 2))),
    ],
    ids=["binary", "gzip", "files", "vendor_data.json", "deep", "large"],
)
def test_what_ironic_cannot_build_from_json_goes_as_an_image(config_drive: ConfigDrive) -> None:
    assert config_drive.image_reason
    assert config_drive.as_json() is None
    payload = config_drive.as_payload().reveal()
    assert isinstance(payload, str)
    assert gzip.decompress(base64.b64decode(payload)) == config_drive.as_iso()


def test_what_ironic_can_build_goes_as_json_unless_an_image_is_preferred() -> None:
    config_drive = drive(user_data=Secret(b"text"))
    assert config_drive.as_payload().reveal() == {"meta_data": meta_data().to_dict(), "user_data": "text"}
    assert isinstance(config_drive.as_payload(prefer_image=True).reveal(), str)


def test_json_that_is_over_the_limit_goes_as_an_image_if_that_fits() -> None:
    config_drive = drive(user_data=Secret("ü".encode() * 100_000))
    assert isinstance(config_drive.as_payload(body_limit_bytes=256 * 1024).reveal(), str)


def test_ironic_finds_nothing_to_mend_in_our_network_data() -> None:
    ironic_config_drive.CONF([], project="ironic", default_config_files=[])
    bond = NicPortGroup(members=(MAC_1, MAC_2))
    data = network_data_from_vifs([vif(nic=bond), vif("vif-2", nic=bond, vlan_id=7, mtu=9000)])
    assert not ironic_config_drive.is_invalid_network_metadata(data.to_dict())
    image = drive(network_data=data).as_payload(prefer_image=True).reveal()
    task = SimpleNamespace(node=SimpleNamespace(uuid=UUID, instance_uuid=UUID))
    assert ironic_config_drive.check_and_patch_configdrive(task, image) is image


@pytest.mark.filterwarnings("ignore")
def test_ironics_api_accepts_both_forms() -> None:
    config_drive = drive(network_data=network_data_from_vifs([vif()]), user_data=Secret(b"a"), vendor_data2={"a": 1})
    description, image = config_drive.as_payload().reveal(), config_drive.as_payload(prefer_image=True).reveal()
    jsonschema.validate(description, ironic_api_utils._CONFIG_DRIVE_SCHEMA)
    assert isinstance(image, str)
    assert set(image) <= ironic_api_utils._B64_ALPHABET


def test_a_drive_over_the_agents_limit_is_refused_with_its_largest_part_named() -> None:
    with pytest.raises(InvalidRequest, match=r"image has 64\.1 MiB.*64\.0 MiB.*file /etc/big with 64\.0 MiB"):
        drive(content={"/etc/big": Secret(bytes(IMAGE_LIMIT_BYTES))}).as_payload()


def test_a_drive_over_the_apis_limit_is_refused_with_its_largest_part_named() -> None:
    noise = gzip.compress(b"".join(struct.pack(">Q", number * 0x9E3779B97F4A7C15 % 2**64) for number in range(50_000)))
    with pytest.raises(InvalidRequest, match=r"max_json_body_size_provision.*user data with 0\.\d MiB"):
        drive(user_data=Secret(noise)).as_payload(body_limit_bytes=256 * 1024)


def test_secrets_are_in_no_representation_of_the_drive() -> None:
    config_drive = drive(
        meta_data=meta_data(admin_pass=Secret("hush-1"), meta={"token": "hush-2"}, extra={"key": "hush-3"}),
        user_data=Secret(b"hush-4"),
        vendor_data={"chpasswd": "hush-5"},
        vendor_data2={"chpasswd": "hush-6"},
        content={"/etc/key": Secret(b"hush-7")},
    )
    assert "hush" not in repr(config_drive)
    assert "hush" not in repr(config_drive.as_payload())


# User data.


def test_user_data_are_text_bytes_a_file_or_a_cloud_config(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_bytes(b"\x00\xff")
    assert user_data_from("grüß").reveal() == "grüß".encode()
    assert user_data_from(b"\xff").reveal() == b"\xff"
    assert user_data_from(file).reveal() == b"\x00\xff"
    config = user_data_from({"users": ["default", {"name": "jörg"}], "runcmd": [["true"]]}).reveal()
    assert config.startswith(b"#cloud-config\n")
    assert yaml.safe_load(config) == {"users": ["default", {"name": "jörg"}], "runcmd": [["true"]]}


def test_gzip_is_applied_once() -> None:
    packed = user_data_from("text", compress=True)
    assert gzip.decompress(packed.reveal()) == b"text"
    assert user_data_from(packed.reveal(), compress=True) == packed


def test_empty_user_data_are_none() -> None:
    assert drive(user_data=user_data_from("", compress=True)).user_data is None


def test_user_data_that_cannot_be_had_are_refused(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(IMAGE_LIMIT_BYTES + 1)
    for source in (tmp_path / "missing", tmp_path, large, Path("nul\0"), "\ud800", {"a": object()}, {"a": {1j}}):
        with pytest.raises(InvalidRequest):
            user_data_from(source)


# Network data.


def test_no_vifs_make_a_drive_without_network_data() -> None:
    data = network_data_from_vifs([])
    assert validated(data) == {"links": [], "networks": [], "services": []}
    config_drive = drive(network_data=data)
    assert "network_data" not in (config_drive.as_json() or {})
    assert not any("network_data" in path for path in files_on(config_drive))


def test_a_vif_with_a_static_address_gives_link_network_routes_and_name_servers() -> None:
    fixed_ip = FixedIp(
        ip_address="192.0.2.10",
        cidr="192.0.2.0/24",
        gateway_ip="192.0.2.1",
        host_routes=(Route("198.51.100.0/24", "192.0.2.254"),),
        dns_nameservers=("192.0.2.53",),
    )
    assert validated(network_data_from_vifs([vif(mac=MAC_2, mtu=1450, fixed_ips=(fixed_ip,))])) == {
        "links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": MAC_1, "mtu": 1450, "vif_id": "vif-1"}],
        "networks": [
            {
                "id": "network0",
                "type": "ipv4",
                "link": "nic0",
                "network_id": "net-1",
                "ip_address": "192.0.2.10",
                "netmask": "255.255.255.0",
                "routes": [
                    {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"},
                    {"network": "198.51.100.0", "netmask": "255.255.255.0", "gateway": "192.0.2.254"},
                ],
                "services": [{"type": "dns", "address": "192.0.2.53"}],
            }
        ],
        "services": [{"type": "dns", "address": "192.0.2.53"}],
    }


@pytest.mark.parametrize(
    ("version", "enable_dhcp", "mode", "expected"),
    [
        (4, False, None, "ipv4"),
        (4, True, None, "ipv4_dhcp"),
        (6, False, None, "ipv6"),
        (6, True, None, "ipv6"),
        (6, True, "slaac", "ipv6_slaac"),
        (6, True, "dhcpv6-stateless", "ipv6_slaac"),
        (6, True, "dhcpv6-stateful", "ipv6_dhcp"),
    ],
)
def test_an_address_is_handed_out_as_its_subnet_says(
    version: int, enable_dhcp: bool, mode: str | None, expected: str
) -> None:
    address, cidr = ("192.0.2.10", "192.0.2.0/24") if version == 4 else ("2001:db8::10", "2001:db8::/64")
    fixed_ip = FixedIp(ip_address=address, cidr=cidr, enable_dhcp=enable_dhcp, ipv6_address_mode=mode)
    [network] = validated(network_data_from_vifs([vif(fixed_ips=(fixed_ip,))]))["networks"]
    assert network["type"] == expected
    assert ("ip_address" in network) == (expected in ("ipv4", "ipv6"))
    [network] = validated(network_data_from_vifs([vif(fixed_ips=(fixed_ip,))], dhcp=False))["networks"]
    assert (network["type"], network["ip_address"]) == (f"ipv{version}", address)


def test_a_second_address_beside_dhcp_is_written_down() -> None:
    addresses = tuple(
        FixedIp(ip_address=f"192.0.2.{number}", cidr="192.0.2.0/24", enable_dhcp=True) for number in (10, 11)
    )
    networks = validated(network_data_from_vifs([vif(fixed_ips=addresses)]))["networks"]
    assert [network["type"] for network in networks] == ["ipv4_dhcp", "ipv4"]
    assert networks[1]["ip_address"] == "192.0.2.11"


def test_a_default_route_of_the_subnet_replaces_the_gateways() -> None:
    fixed_ip = FixedIp(
        ip_address="192.0.2.10",
        cidr="192.0.2.0/24",
        gateway_ip="192.0.2.1",
        host_routes=(Route("0.0.0.0/0", "192.0.2.2"),),
    )
    assert fixed_ip.routes == (Route("0.0.0.0/0", "192.0.2.2"),)


def test_a_route_to_one_address_has_its_full_mask_although_the_schema_knows_none() -> None:
    route = Route("192.0.2.5/32", "198.51.100.1").to_dict()
    assert route == {"network": "192.0.2.5", "netmask": "255.255.255.255", "gateway": "198.51.100.1"}
    pattern = NETWORK_SCHEMA["definitions"]["l3_ipv4_netmask"]["pattern"]
    assert not re.search(pattern, route["netmask"]), "the schema has learnt it: let the property tests use it"


@pytest.mark.parametrize("prefix", ["", "bond_"])
def test_a_port_group_becomes_a_bond_of_its_members(prefix: str) -> None:
    nic = NicPortGroup(
        members=(MAC_2.upper(), MAC_3.replace(":", "-")),
        mode="4",
        properties={f"{prefix}miimon": "100", f"{prefix}xmit_hash_policy": "layer3+4", "mode": "balance-rr"},
    )
    assert validated(network_data_from_vifs([vif(nic=nic, mtu=9000)]))["links"] == [
        {"id": "nic0", "type": "phy", "ethernet_mac_address": MAC_2, "mtu": 9000},
        {"id": "nic1", "type": "phy", "ethernet_mac_address": MAC_3, "mtu": 9000},
        {
            "id": "bond0",
            "type": "bond",
            "ethernet_mac_address": MAC_2,
            "bond_mode": "802.3ad",
            "bond_links": ["nic0", "nic1"],
            "bond_miimon": "100",
            "bond_xmit_hash_policy": "layer3+4",
            "mtu": 9000,
            "vif_id": "vif-1",
        },
    ]


def test_a_port_group_without_a_mode_is_active_backup_with_its_own_address() -> None:
    nic = NicPortGroup(members=(MAC_2,), address=MAC_1)
    bond = validated(network_data_from_vifs([vif(nic=nic)]))["links"][-1]
    assert (bond["bond_mode"], bond["ethernet_mac_address"]) == ("active-backup", MAC_1)


def test_sub_ports_become_vlans_on_a_link_that_lets_their_frames_through() -> None:
    nic = NicPortGroup(members=(MAC_1, MAC_2))
    fixed_ip = FixedIp(ip_address="2001:db8::10", cidr="2001:db8::/64")
    tagged = vif("vif-2", nic=nic, vlan_id=42, mtu=9000, mac=MAC_3, network_id="net-2", fixed_ips=(fixed_ip,))
    data = validated(network_data_from_vifs([tagged, vif(nic=nic)]))
    assert [link["mtu"] for link in data["links"]] == [9000, 9000, 9000, 9000]
    assert data["links"][2]["vif_id"] == "vif-1"
    assert data["links"][3] == {
        "id": "bond0.42",
        "type": "vlan",
        "vlan_mac_address": MAC_3,
        "vlan_id": 42,
        "vlan_link": "bond0",
        "mtu": 9000,
        "vif_id": "vif-2",
    }
    assert [network["link"] for network in data["networks"]] == ["bond0.42"]


def test_every_link_has_an_mtu_because_ironic_rewrites_network_data_without() -> None:
    nic = NicPortGroup(members=(MAC_1, MAC_2))
    links = network_data_from_vifs([vif(nic=nic), vif("vif-2", nic=nic, vlan_id=5)]).to_dict()["links"]
    assert all(link["mtu"] == 1500 for link in links)


CARD = PhysicalLink(id="eth0", mac_address=MAC_1)
CARD_2 = PhysicalLink(id="eth1", mac_address=MAC_2)


def bond_of(*members: str, name: str = "bond0", options: dict[str, Any] | None = None) -> BondLink:
    """A bond of these links."""
    return BondLink(id=name, mac_address=MAC_1, mode=BondMode.LACP, members=members, options=options or {})


def vlan_on(link: str, name: str = "vlan0") -> VlanLink:
    """VLAN 7 on that link."""
    return VlanLink(id=name, mac_address=MAC_1, vlan_id=7, link=link)


def network_on(link: str, **given_values: Any) -> Network:
    """A network with DHCP on that link."""
    return Network(**{"id": "n0", "link": link, "network_id": "net", "type": NetworkType.IPV4_DHCP, **given_values})


@pytest.mark.parametrize(
    ("links", "networks", "words"),
    [
        ((CARD, CARD), (), "link eth0 more than once"),
        ((CARD,), (network_on("eth0"), network_on("eth0")), "network n0 more than once"),
        ((CARD,), (network_on("eth9"),), "there is no such link"),
        ((bond_of("eth0"),), (), "there is no such link"),
        ((CARD, vlan_on("eth0"), bond_of("vlan0")), (), "not a physical link"),
        ((CARD, bond_of("eth0"), bond_of("eth0", name="bond1")), (), "member eth0 more than once"),
        ((vlan_on("eth0"),), (), "there is no such link"),
        ((CARD, vlan_on("eth0"), vlan_on("vlan0", "vlan1")), (), "not a physical link or bond"),
        ((CARD, vlan_on("eth0"), vlan_on("eth0", "vlan1")), (), "VLAN 7 on link eth0 more than once"),
    ],
)
def test_links_and_networks_that_do_not_go_together_are_refused(
    links: tuple[Any, ...], networks: tuple[Network, ...], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        NetworkData(links=links, networks=networks)


def test_a_bond_and_a_vlan_on_it_are_accepted() -> None:
    links = (CARD, CARD_2, bond_of("eth0", "eth1", options={"bond_miimon": 100, "lacp_rate": "fast"}), vlan_on("bond0"))
    bond = validated(NetworkData(links=links, networks=(network_on("vlan0"),)))["links"][2]
    assert (bond["bond_miimon"], bond["bond_lacp_rate"]) == (100, "fast")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: bond_of(), "no members"),
        (lambda: bond_of("a", "a"), "more than once"),
        (lambda: bond_of("a", options={"mode": "1"}), "field of its own"),
        (lambda: bond_of("a", options={"x": object()}), "JSON"),
        (lambda: BondMode.named("best"), "bond mode 'best' is not known"),
        (lambda: BondMode.named("7"), "not known"),
        (lambda: NicPortGroup(members=()), "no members"),
        (lambda: NicPort("52:54:00"), "no MAC address"),
        (lambda: PhysicalLink(id="", mac_address=MAC_1), "empty"),
        (lambda: PhysicalLink(id="a\n", mac_address=MAC_1), "control character"),
        (lambda: PhysicalLink(id="a", mac_address=MAC_1, mtu=67), "no MTU"),
        (lambda: PhysicalLink(id="a", mac_address=MAC_1, mtu=True), "no MTU"),
        (lambda: VlanLink(id="a", mac_address=MAC_1, vlan_id=4095, link="b"), "no VLAN id"),
        (lambda: vif(vlan_id=0), "no VLAN id"),
        (lambda: vif(mtu=70000), "no MTU"),
        (lambda: network_on("a", type=NetworkType.IPV4), "has no address"),
        (lambda: network_on("a", address="192.0.2.1/24"), "has an address"),
        (lambda: network_on("a", type=NetworkType.IPV4, address="192.0.2.1"), "no address with a prefix"),
        (lambda: network_on("a", type=NetworkType.IPV4, address="2001:db8::1/64"), "is IPv4, but"),
        (lambda: network_on("a", routes=(Route("::/0", "fe80::1"),)), "is IPv4, but"),
        (lambda: network_on("a", dns=("dns.example.org",)), "no IP address"),
        (lambda: Route("10.0.0.0/40", "10.0.0.1"), "no CIDR"),
        (lambda: Route("10.0.0.0/8", "fe80::1"), "is not reached by"),
        (lambda: Route("::/0", "fe80::1%eth0"), "with a zone"),
        (lambda: FixedIp(ip_address="192.0.2.1", cidr="198.51.100.0/24"), "is not in"),
        (lambda: FixedIp(ip_address="192.0.2.1", cidr="192.0.2.0/24", gateway_ip="fe80::1"), "no gateway for"),
        (lambda: FixedIp(ip_address="300.0.2.1", cidr="192.0.2.0/24"), "no IP address"),
        (lambda: network_data_from_vifs([vif(), vif("vif-2")]), "both untagged on network card"),
        (lambda: network_data_from_vifs([vif(vlan_id=4), vif("vif-2", vlan_id=4)]), "both on VLAN 4"),
        (lambda: network_data_from_vifs([vif(), vif("vif-2", nic=NicPortGroup(members=(MAC_1, MAC_2)))]), "two bonds"),
        (lambda: network_data_from_vifs([vif(nic=NicPortGroup(members=(MAC_1, MAC_1)))]), "two bonds"),
    ],
)
def test_network_input_that_is_no_such_thing_is_refused(build: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        build()


# Metadata.


@pytest.mark.parametrize(
    ("given_values", "words"),
    [
        ({"uuid": "web"}, "no UUID"),
        ({"name": " "}, "empty"),
        ({"name": "a\x07b"}, "control character"),
        ({"name": "x" * 256}, "256 characters"),
        ({"name": "\ud800"}, "surrogate"),
        ({"hostname": "web_1"}, "label 'web_1' is not allowed"),
        ({"hostname": "-web"}, "is no host name"),
        ({"hostname": "web..org"}, "empty label"),
        ({"hostname": "schmied-ö"}, "xn--"),
        ({"hostname": "192.0.2.1"}, "IP address"),
        ({"hostname": "x" * 64}, "is no host name"),
        ({"hostname": "x." * 127 + "y"}, "255 characters"),
        ({"hostname": "web\n"}, "is no host name"),
        ({"public_keys": {"": ssh_key()}}, "empty"),
        ({"public_keys": {"k": "ssh-ed25519"}}, "no second word"),
        ({"public_keys": {"k": "ssh-ed25519 AAAA!"}}, "not base64"),
        ({"public_keys": {"k": "ssh-ed25519 AAAA"}}, "cut short"),
        ({"public_keys": {"k": ssh_key("ssh-rsa", blob_kind="ssh-ed25519")}}, "not the type"),
        ({"public_keys": {"k": f"{ssh_key()}\n{ssh_key()}"}}, "control character"),
        ({"public_keys": {"k": "-----BEGIN OPENSSH PRIVATE KEY-----\nhush"}}, "is a private key"),
        ({"launch_index": -1}, "launch index"),
        ({"admin_pass": Secret("hush\ud800")}, "surrogate"),
        ({"meta": {"": "a"}}, "empty"),
        ({"meta": {"a": "\udfff"}}, "surrogate"),
        ({"extra": {"files": []}}, "field"),
        ({"extra": {"a": float("nan")}}, "JSON"),
        ({"extra": {"a": "\ud800"}}, "surrogate"),
    ],
)
def test_metadata_that_are_no_such_thing_are_refused_and_no_secret_is_in_the_message(
    given_values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        meta_data(**given_values)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "etc/motd", "/etc/", "/etc/\0motd", "/\ud800", "/" + "x" * 4096])
def test_a_file_without_an_absolute_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        drive(content={path: Secret(b"")})


def test_vendor_data_that_nest_without_end_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidRequest, match="vendor_data cannot be written as JSON"):
        drive(vendor_data=endless)


@pytest.mark.parametrize(
    ("name", "host_name"),
    [
        ("Web-1.example.org", "Web-1.example.org"),
        ("My Web_Server №1!", "my-web-server-no1"),
        ("Café 7", "cafe-7"),
        ("鍛冶屋", f"instance-{UUID}"),
        ("10.0.0.1", "10-0-0-1"),
        ("-" * 10 + "x" * 100, "x" * 63),
    ],
)
def test_a_host_name_is_made_of_the_name(name: str, host_name: str) -> None:
    assert host_name_from(name, UUID) == host_name
    assert meta_data(name=name).hostname == host_name


# Properties.

MACS = st.integers(0, 2**48 - 1).map(lambda number: ":".join(f"{number:012x}"[at : at + 2] for at in range(0, 12, 2)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=80).filter(str.strip)


@st.composite
def fixed_ips(draw: st.DrawFn) -> FixedIp:
    """An address in its subnet, of either version, with everything that a subnet can have.

    Prefixes of 32 in IPv4 are left out: the schema knows no such mask, and has a test of its own.
    """
    version = draw(st.sampled_from([4, 6]))
    addresses = st.ip_addresses(v=4 if version == 4 else 6).filter(
        lambda address: getattr(address, "ipv4_mapped", None) is None
    )
    address, prefix = draw(addresses), draw(st.integers(0, 31 if version == 4 else 128))
    routes = st.builds(
        lambda to, length, gateway: Route(f"{to}/{length}", str(gateway)),
        addresses,
        st.integers(8, 31 if version == 4 else 128),
        addresses,
    )
    return FixedIp(
        ip_address=str(address),
        cidr=f"{address}/{prefix}",
        gateway_ip=draw(st.none() | addresses.map(str)),
        enable_dhcp=draw(st.booleans()),
        ipv6_address_mode=draw(st.sampled_from([None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless"])),
        host_routes=tuple(draw(st.lists(routes, max_size=3))),
        dns_nameservers=tuple(draw(st.lists(addresses.map(str), max_size=3))),
    )


@st.composite
def vif_lists(draw: st.DrawFn) -> list[VifOnNic]:
    """VIFs on cards and bonds of their own, each with VLANs."""
    vifs: list[VifOnNic] = []
    macs = iter(draw(st.lists(MACS, min_size=12, max_size=12, unique=True)))
    for _ in range(draw(st.integers(0, 4))):
        members = tuple(next(macs) for _ in range(draw(st.integers(1, 3))))
        nic: NicPort | NicPortGroup = NicPort(members[0])
        if draw(st.booleans()):
            nic = NicPortGroup(
                members=members,
                mode=draw(st.none() | st.sampled_from(list(BondMode))),
                properties=draw(st.dictionaries(NAMES.map(lambda name: f"x{name}"), JSON, max_size=3)),
                address=draw(st.none() | MACS),
            )
        vlan_ids = draw(st.lists(st.none() | st.integers(1, 4094), min_size=1, max_size=3, unique=True))
        vifs += [
            VifOnNic(
                vif_id=f"vif-{len(vifs) + number}",
                network_id=draw(NAMES),
                mac=draw(MACS),
                nic=nic,
                mtu=draw(st.integers(68, 65535)),
                vlan_id=vlan_id,
                fixed_ips=tuple(draw(st.lists(fixed_ips(), max_size=3))),
            )
            for number, vlan_id in enumerate(vlan_ids)
        ]
    return vifs


@given(vifs=vif_lists(), dhcp=st.booleans())
@settings(deadline=None)
def test_network_data_of_any_vifs_are_valid_by_the_schema(vifs: list[VifOnNic], dhcp: bool) -> None:
    document = validated(network_data_from_vifs(vifs, dhcp=dhcp))
    assert {link["vif_id"] for link in document["links"] if "vif_id" in link} == {one.vif_id for one in vifs}
    assert len(document["networks"]) == sum(len(one.fixed_ips) for one in vifs)
    carried = {link["id"]: link["mtu"] for link in document["links"]}
    assert all(carried[link["vlan_link"]] >= link["mtu"] for link in document["links"] if link["type"] == "vlan")


@given(
    user_data=st.binary(max_size=9000),
    content=st.dictionaries(NAMES.map(lambda name: f"/{name.rstrip('/')}x"), st.binary(max_size=5000), max_size=60),
    vendor_data=st.dictionaries(st.text(), JSON, max_size=3),
    meta=st.dictionaries(NAMES, st.text(), max_size=3),
    name=NAMES,
)
@settings(deadline=None)
def test_any_content_is_read_back_from_the_image_as_it_was(
    user_data: bytes, content: dict[str, bytes], vendor_data: dict[str, Any], meta: dict[str, str], name: str
) -> None:
    config_drive = drive(
        meta_data=meta_data(name=name, meta=meta),
        user_data=Secret(user_data),
        vendor_data=vendor_data,
        content={path: Secret(data) for path, data in content.items()},
    )
    found = files_on(config_drive)
    for version in VERSIONS:
        assert found.get(f"/openstack/{version}/user_data", b"") == user_data
        assert json.loads(found.get(f"/openstack/{version}/vendor_data.json", b"{}")) == vendor_data
        described = json.loads(found[f"/openstack/{version}/meta_data.json"])
        assert (described["name"], described.get("meta", {})) == (name, meta)
        injected = {file["path"]: found[f"/openstack{file['content_path']}"] for file in described.get("files", [])}
        assert injected == content


@given(user_data=st.text(), name=NAMES, vendor_data2=st.dictionaries(st.text(), JSON, max_size=3), vifs=vif_lists())
@settings(deadline=None)
def test_any_text_reaches_the_instance_alike_as_json_and_as_image(
    user_data: str, name: str, vendor_data2: dict[str, Any], vifs: list[VifOnNic]
) -> None:
    config_drive = drive(
        meta_data=meta_data(name=name),
        user_data=user_data_from(user_data),
        network_data=network_data_from_vifs(vifs),
        vendor_data2=vendor_data2,
    )
    description = config_drive.as_json()
    if description is not None:
        assert sdk_files(json.loads(json.dumps(description))) == files_on(config_drive)
    else:
        assert config_drive.image_reason


@given(config=st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=5))
def test_any_cloud_config_is_read_back_from_its_yaml(config: dict[str, Any]) -> None:
    assert (yaml.safe_load(user_data_from(config).reveal()) or {}) == config


@given(text=st.text(st.characters()))
def test_no_text_at_all_makes_anything_but_a_value_or_a_refusal(text: str) -> None:
    builders: list[Any] = [
        lambda: meta_data(name=text),
        lambda: meta_data(hostname=text),
        lambda: meta_data(uuid=text),
        lambda: meta_data(public_keys={"k": text}),
        lambda: meta_data(public_keys={text: ssh_key()}),
        lambda: meta_data(meta={text: text}),
        lambda: meta_data(extra={text: text}),
        lambda: meta_data(admin_pass=Secret(text)),
        lambda: NicPort(text),
        lambda: Route(text, text),
        lambda: FixedIp(ip_address="192.0.2.1", cidr=text),
        lambda: NetworkData(dns=(text,)),
        lambda: BondMode.named(text),
        lambda: user_data_from(text),
        lambda: user_data_from({text: text}),
        lambda: drive(content={f"/{text}": Secret(b"")}).as_iso(),
        lambda: drive(meta_data=meta_data(name=text)).as_payload(),
    ]
    for build in builders:
        try:
            build()
        except InvalidRequest:
            continue


@given(text=st.text(st.characters(codec="ascii"), max_size=80) | st.from_regex(r"[a-zA-Z0-9.-]{1,260}", fullmatch=True))
def test_host_names_are_those_of_rfc_1123(text: str) -> None:
    labels = text.split(".")
    is_one = (
        len(text) <= 253
        and all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label, re.ASCII) for label in labels)
        and not (len(labels) == 4 and all(label.isdecimal() and int(label) <= 255 for label in labels))
    )
    if is_one:
        assert meta_data(hostname=text).hostname == text
    elif len(labels) != 4:
        with pytest.raises(InvalidRequest):
            meta_data(hostname=text)
