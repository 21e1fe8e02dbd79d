"""The table "Row by row" in docs/nova.md; and what Nova's own driver does that no other of these tests holds."""

from __future__ import annotations

import ast
import logging
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nova.conf
import pytest
import requests
from nova import exception, objects
from nova.compute import task_states
from nova.virt import driver as virt_driver
from nova.virt.ironic import driver as upstream

from bloomery.doors.nova.driver import IronicDriver
from bloomery.doors.nova.request import network_data
from bloomery.ironic import Port
from doors_nova.nova_world import HOST, NovaWorld, a_nova_world

CONF = nova.conf.CONF
HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[1] / "docs" / "nova.md").read_text()
TABLE = PAGE.split("\n## Row by row\n")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| Nova's driver"))
]
NAMED = {name for row in ROWS for name in re.findall(r"`(?:\[\w+\] )?(\w+)", row[0])}


# The table


def test_every_row_says_what_becomes_of_it_and_which_test_holds_that() -> None:
    tests = {
        part.name
        for module in HERE.glob("test_*.py")
        for part in ast.parse(module.read_text()).body
        if isinstance(part, ast.FunctionDef)
    }
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert row[2].strip("`") in tests, row


def test_the_table_has_every_method_of_either_driver() -> None:
    methods = {
        name
        for kind in (upstream.IronicDriver, IronicDriver)
        for name, value in vars(kind).items()
        if not name.startswith("_") and callable(value) and hasattr(virt_driver.ComputeDriver, name)
    }
    assert methods - NAMED == set()


def test_the_table_has_every_capability_of_either_driver() -> None:
    assert (upstream.IronicDriver.capabilities.keys() | IronicDriver.capabilities.keys()) - NAMED == set()


def test_the_page_has_every_option_of_ours_and_of_novas_driver_for_ironic() -> None:
    from nova.conf import ironic

    from bloomery.doors.nova.options import OPTIONS

    assert {option.name for option in ironic.ironic_options} - NAMED == set()
    assert [option.name for option in OPTIONS if f"| `{option.name}` | {option.default} |" not in PAGE] == []


# What no other test holds


@pytest.mark.parametrize(
    "properties",
    [
        {"cpu_arch": "x86_64", "capabilities": "boot_mode:uefi,raid:1,odd,:x"},
        {"cpu_arch": "arm64"},
        {"cpu_arch": "abacus"},
        {},
    ],
)
def test_the_compute_node_is_what_novas_own_driver_makes_of_it(world: NovaWorld, properties: dict[str, Any]) -> None:
    world.ironic.set(world.node, properties=properties, resource_class="bm")
    seen = SimpleNamespace(id=world.node, properties=properties, resource_class="bm")
    theirs = upstream.IronicDriver._node_resource(upstream.IronicDriver(None), seen)
    ours = world.driver.get_available_resource(world.node)
    # With it Nova's API shows the node without a question to nova-compute, which has no answer.
    assert ours["stats"].pop("uptime") is None
    assert {**ours, "supported_instances": list(ours["supported_instances"])} == theirs


def test_an_uptime_is_not_known_and_nova_compute_is_not_asked_for_it(world: NovaWorld) -> None:
    stored = objects.ComputeNode(world.context, stats=world.driver.get_available_resource(world.node)["stats"])
    # Nova's API asks nova-compute for the uptime of every node whose record does not have it.
    assert "uptime" in stored.stats
    assert stored.stats["uptime"] is None
    # Before API 2.88 it asks all the same.
    world.driver.get_host_uptime()


def test_a_node_or_a_server_is_there_or_it_is_not(world: NovaWorld) -> None:
    instance, _ = world.running()
    elsewhere = world.instance()
    assert [world.driver.instance_exists(one) for one in (instance, elsewhere)] == [True, False]
    later = world.ironic.add_node(name="later")
    for node in (world.node, later):
        assert world.driver.node_is_available(node)
        assert not world.driver.is_node_deleted(node)
    assert not world.driver.node_is_available("8f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11")


@pytest.mark.parametrize(("version", "is_enough"), [("1.80", False), ("1.81", True)])
def test_an_ironic_that_is_too_old_is_not_ready(version: str, is_enough: bool) -> None:
    with a_nova_world(max_version=version) as world:
        if is_enough:
            assert world.driver.get_available_nodes() == [world.node]
        else:
            with pytest.raises(exception.VirtDriverNotReady) as raised:
                world.driver.get_available_nodes()
            assert "Bloomery needs 1.81 or newer" in str(raised.value.__cause__)


def test_a_config_drive_that_is_larger_than_ironic_takes_ends_the_build_and_nothing_is_deployed(
    world: NovaWorld,
) -> None:
    instance = world.instance()
    instance.config_drive = "True"
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_networks_before_block_device_mapping(instance, [])
    big = [("/etc/big", random.Random(1).randbytes(50 * 2**20))]
    with pytest.raises(exception.BuildAbortException, match="MiB"):
        world.driver.spawn(world.context, instance, world.image(), big, None, {}, network_info=[])
    assert not [request for request in world.ironic.requests if request.path.endswith("/states/provision")]


def test_the_names_of_servers_cost_one_query(world: NovaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, _ = world.running()
    asked: list[object] = []
    every = objects.InstanceList.get_by_filters
    world.driver.get_available_nodes()

    def counted(*args: Any, **more: Any) -> Any:
        asked.append(args)
        return every(*args, **more)

    monkeypatch.setattr(objects.InstanceList, "get_by_filters", counted)
    assert world.driver.list_instances() == [instance.name]
    assert len(asked) == 1


def test_a_crash_dump_is_asked_of_the_bmc(world: NovaWorld) -> None:
    instance, _ = world.running()
    world.driver.trigger_crash_dump(instance)
    (asked,) = [request for request in world.ironic.requests if request.path.endswith("/inject_nmi")]
    assert (asked.method, asked.status) == ("PUT", 204)


def test_plugging_at_a_start_asks_ironic_for_nothing(world: NovaWorld) -> None:
    instance, network_info = world.running()
    before = len(world.ironic.requests)
    world.driver.plug_vifs(instance, network_info)
    assert len(world.ironic.requests) == before


def test_bindings_are_ironics(world: NovaWorld) -> None:
    instance = world.instance()
    world.driver.network_binding_host_id(world.context, instance)
    assert world.driver.manages_network_binding_host_id() is True
    assert upstream.IronicDriver.network_binding_host_id(world.driver, world.context, instance) is None


def test_a_node_in_use_is_reserved_unless_nova_conf_says_otherwise(world: NovaWorld) -> None:
    """Nova's own driver, too, reserves a node that is deployed, whatever the option says."""
    instance, network_info = world.instance(), world.network_info()
    world.driver.prepare_for_spawn(instance)
    world.driver.get_available_nodes()

    def reserved() -> int:
        count: int = world.provider().data(world.node).inventory["CUSTOM_BAREMETAL"]["reserved"]
        return count

    assert reserved() == 1
    CONF.set_override("skip_reserve_in_use_ironic_nodes", True, group="workarounds")
    try:
        assert reserved() == 0
        world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
        world.driver.spawn(world.context, instance, world.image(), [], None, {}, network_info)
        assert reserved() == 1
    finally:
        CONF.clear_override("skip_reserve_in_use_ironic_nodes", group="workarounds")


def test_the_ephemeral_partition_is_told_to_nova(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    instance.flavor.ephemeral_gb = 5
    CONF.set_override("default_ephemeral_format", "xfs")
    try:
        world.spawn(instance, network_info)
    finally:
        CONF.clear_override("default_ephemeral_format")
    assert objects.Instance.get_by_uuid(world.context, instance.uuid).default_ephemeral_device == "/dev/sda1"
    info = world.seen()["instance_info"]
    assert (info["ephemeral_gb"], info["ephemeral_format"]) == ("5", "xfs")


def test_the_volume_connector_is_that_of_novas_own_driver(world: NovaWorld) -> None:
    connectors = {"iqn": "iqn.2026-01.org.example:web", "wwpn": "0x1", "wwnn": "0x2", "ip": "192.0.2.77"}
    for kind, value in connectors.items():
        add_connector(world, kind, value)
    instance, _ = world.running()
    assert world.driver.get_volume_connector(instance) == {
        "ip": "192.0.2.77",
        "host": "192.0.2.77",
        "initiator": connectors["iqn"],
        "wwpns": ["0x1"],
        "wwnns": ["0x2"],
        "platform": "x86_64",
        "os_type": "baremetal",
        "multipath": False,
    }


def test_d18_each_thing_of_a_failed_build_is_tried_to_be_removed(world: NovaWorld) -> None:
    """What is stuck fails the clean-up, and everything else is gone; asked again, that goes, too."""
    from bloomery.testing import Fault, FaultKind, RecordedRequest

    instance, network_info = world.instance(), world.network_info(2)
    world.driver.prepare_for_spawn(instance)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    stuck = network_info[0]["id"]

    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=400) if request.method == "DELETE" and stuck in request.path else None

    world.ironic.on_request = refuse
    with pytest.raises(exception.NovaException):
        world.driver.unplug_vifs(instance, network_info)
    assert world.ironic.vifs(world.node) == [stuck]
    world.ironic.on_request = None
    world.driver.unplug_vifs(instance, network_info)
    assert world.ironic.vifs(world.node) == []


def test_r17_counting_servers_costs_no_request(world: NovaWorld) -> None:
    world.running()
    world.driver.get_available_nodes()
    before = len(world.ironic.requests)
    assert world.driver.get_num_instances() == 1
    assert len(world.ironic.requests) == before


def test_r18_a_host_in_capitals_keeps_its_nodes(world: NovaWorld) -> None:
    CONF.set_override("host", "COMPUTE-1")
    try:
        assert world.restarted().get_available_nodes() == [world.node]
    finally:
        CONF.set_override("host", HOST)


def test_r24_a_host_without_nodes_says_nothing(world: NovaWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="bloomery")
    world.ironic.set(world.node, instance_uuid="6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11", provision_state="active")
    for _ in range(2):
        assert world.driver.get_available_nodes() == []
        assert world.driver.list_instance_uuids() == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bloomery")] == []


@pytest.mark.parametrize("wanted_by", ["the request", "nova.conf", "the image", "nobody"])
def test_a_config_drive_is_made_where_the_request_or_nova_conf_or_the_image_wants_one(
    world: NovaWorld, wanted_by: str
) -> None:
    instance, network_info = world.instance(), world.network_info()
    if wanted_by == "the request":
        instance.config_drive = "True"
    if wanted_by == "the image":
        instance.system_metadata["image_img_config_drive"] = "mandatory"
    CONF.set_override("force_config_drive", wanted_by == "nova.conf")
    try:
        world.spawn(instance, network_info)
    finally:
        CONF.clear_override("force_config_drive")
    (asked,) = [each.body for each in world.ironic.requests if each.path.endswith("/states/provision")]
    assert ("configdrive" in asked) is (wanted_by != "nobody")


def test_traits_that_the_image_requires_are_told_to_ironic_with_the_flavors(world: NovaWorld) -> None:
    world.ironic.set(world.node, traits=["CUSTOM_A", "CUSTOM_B"])
    instance = world.instance(extra_specs={"trait:CUSTOM_A": "required"})
    world.spawn(instance, world.network_info(), image_meta=world.image(**{"trait:CUSTOM_B": "required"}))
    assert world.seen()["instance_info"]["traits"] == ["CUSTOM_A", "CUSTOM_B"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_rebuild_tells_ironic_whether_the_ephemeral_partition_is_kept(world: NovaWorld, is_kept: bool) -> None:
    instance, network_info = world.running()
    instance.task_state = task_states.REBUILDING
    instance.save()
    none = objects.BlockDeviceMappingList(objects=[])
    image = world.image()
    world.driver.rebuild(
        *(world.context, instance, image, [], None, {}, none, None, None),
        network_info=network_info,
        preserve_ephemeral=is_kept,
    )
    assert world.seen()["instance_info"]["preserve_ephemeral"] == str(is_kept)


@pytest.mark.parametrize("connectors", [{}, {"mac": "the second"}], ids=["none", "mac"])
def test_a_machine_without_an_ip_connector_is_known_to_storage_by_an_address_of_a_vif(
    world: NovaWorld, connectors: dict[str, str]
) -> None:
    instance, network_info = world.instance(), world.network_info(2)
    world.spawn(instance, network_info)
    instance.info_cache = objects.InstanceInfoCache(world.context, instance_uuid=instance.uuid)
    instance.info_cache.network_info = network_info
    chosen = network_info[1] if connectors else network_info[0]
    if connectors:
        nics = {
            port["internal_info"].get("tenant_vif_port_id"): port["address"] for port in world.ironic.ports(world.node)
        }
        add_connector(world, "mac", nics[chosen["id"]])
    add_connector(world, "nqn", "nqn.2026-01.org.example:web")
    (address,) = [ip["address"] for ip in chosen.fixed_ips()]
    told = world.driver.get_volume_connector(instance)
    assert (told["ip"], told["host"], told["nqn"]) == (address, address, "nqn.2026-01.org.example:web")


def add_connector(world: NovaWorld, kind: str, value: str) -> None:
    reply = requests.post(
        f"{world.ironic.url}/v1/volume/connectors",
        json={"node_uuid": world.node, "type": kind, "connector_id": value},
        headers={"X-OpenStack-Ironic-API-Version": "1.81"},
        timeout=10,
    )
    assert reply.ok, reply.text


def test_a_nic_whose_vif_is_noted_as_of_old_is_told_of_with_its_address(world: NovaWorld) -> None:
    network_info = world.network_info()
    mac = "52:54:00:12:34:56"
    nic = Port(uuid="6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11", address=mac, extra={"vif_port_id": network_info[0]["id"]})
    told = network_data([nic], [], network_info)
    assert told is not None
    assert [(link["type"], link["ethernet_mac_address"]) for link in told["links"]] == [("phy", mac)]


def test_d48_nothing_of_a_config_drive_stays_with_ironic(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    instance.config_drive = "True"
    world.spawn(instance, network_info, admin_password="correct horse")
    assert "configdrive" in world.seen()["instance_info"]
    world.driver.destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["instance_info"] == {}


def test_d54_a_node_of_no_known_architecture_is_named_once(world: NovaWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.ironic.set(world.node, properties={"cpu_arch": "abacus", "capabilities": "odd,:x"})
    for _ in range(3):
        world.driver.get_available_nodes()
        world.driver.get_available_resource(world.node)
        world.provider()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "node node-0: architecture: properties.cpu_arch is 'abacus', which is no architecture"
    ]


def test_d58_a_servers_node_is_asked_for_by_its_own_uuid(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.driver.get_available_nodes()
    world.ironic.requests.clear()
    world.driver.get_info(instance, use_cache=False)
    assert world.driver.instance_exists(instance)
    world.driver.power_off(instance)
    world.driver.power_on(world.context, instance, network_info)
    world.driver.get_serial_console(world.context, instance)
    world.driver.get_diagnostics(instance)
    world.driver.detach_interface(world.context, instance, network_info[0])
    world.driver.destroy(world.context, instance, network_info)
    assert [request.path for request in world.ironic.requests if "instance_uuid" in request.query] == []
