"""What Nova's own driver lacks, and this one does."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nova.conf
import pycdlib
import pytest
from nova import exception, objects
from nova.api.metadata import base as metadata
from nova.compute import power_state, task_states, vm_states
from oslo_db.exception import DBConnectionError

from bloomery.deadline import LeftUnderWay
from bloomery.doors.nova import hooks
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.clock import HandClock
from doors_nova.deaths import Death, Killed, followed, left_behind
from doors_nova.nova_world import HOST, NovaWorld, a_nova_world

CONF = nova.conf.CONF


@pytest.fixture(autouse=True)
def options_of_conf() -> Iterator[None]:
    """What a test changes in nova.conf is as it was, afterwards."""
    yield
    if "enforce_session_timeout" in CONF.consoleauth:
        CONF.clear_override("enforce_session_timeout", group="consoleauth")
    CONF.clear_override("console_idle_timeout", group="bloomery")


def writes(world: NovaWorld, path: str) -> list[RecordedRequest]:
    return [request for request in world.ironic.requests if request.is_write and path in request.path]


# Hooks

HOOKS = """
def storage_network(network_data, *, instance, node):
    network_data["networks"].append({"id": "storage", "link": network_data["links"][0]["id"], "node": node.name})
    return network_data


def banner(user_data, *, instance, node):
    return b"# " + instance.display_name.encode() + b"\\n" + (user_data or b"")


def rack(meta_data, *, instance, node):
    return {**meta_data, "rack": node.name}


def asset(meta_data, *, instance, node):
    return {**meta_data, "asset": meta_data["rack"] + "-7"}


def refusing(meta_data, *, instance, node):
    raise LookupError("the inventory does not know " + node.name)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Has a site's package installed, whose entry points are these: `group name` -> function."""

    def installed(entries: dict[str, str]) -> None:
        described = tmp_path / "our_site-1.0.dist-info"
        described.mkdir()
        (tmp_path / "our_site_hooks.py").write_text(HOOKS)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: our-site\nVersion: 1.0\n")
        lines = []
        for where, function in entries.items():
            group, name = where.split()
            lines += [f"[bloomery.nova.{group}]", f"{name} = our_site_hooks:{function}"]
        (described / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(tmp_path)
        hooks._hooks.cache_clear()

    yield installed
    sys.modules.pop("our_site_hooks", None)
    hooks._hooks.cache_clear()


def test_an_installed_sites_hooks_change_what_a_server_is_told(
    world: NovaWorld, install: Callable[[dict[str, str]], None]
) -> None:
    install({"network_data storage": "storage_network", "user_data banner": "banner", "meta_data rack": "rack"})
    instance, network_info = world.instance(), world.network_info()
    instance.config_drive = "True"
    instance.user_data = base64.b64encode(b"#!/bin/sh\n").decode()
    world.spawn(instance, network_info)
    assert on_drive(world)["rack"] == "node-0"
    assert on_drive(world, "network_data.json")["networks"][-1]["node"] == "node-0"
    assert file_on_drive(world, "user_data") == b"# web-1\n#!/bin/sh\n"


def test_hooks_are_called_in_the_order_of_their_names(
    world: NovaWorld, install: Callable[[dict[str, str]], None]
) -> None:
    install({"meta_data 2-asset": "asset", "meta_data 1-rack": "rack"})
    instance = world.instance()
    instance.config_drive = "True"
    world.spawn(instance, world.network_info())
    assert on_drive(world)["asset"] == "node-0-7"


def test_what_a_hook_raises_fails_the_build_and_ironic_deploys_nothing(
    world: NovaWorld, install: Callable[[dict[str, str]], None]
) -> None:
    install({"meta_data inventory": "refusing"})
    instance = world.instance()
    instance.config_drive = "True"
    with pytest.raises(LookupError, match="does not know node-0"):
        world.spawn(instance, world.network_info())
    assert writes(world, "/states/provision") == []


# Device tags


def on_nic(world: NovaWorld) -> dict[str, str]:
    """The VIF on each NIC that has one, by MAC address."""
    return {
        port["address"]: port["internal_info"]["tenant_vif_port_id"]
        for port in world.ironic.ports(world.node)
        if port["internal_info"].get("tenant_vif_port_id")
    }


def devices(world: NovaWorld, instance: Any) -> list[dict[str, Any]]:
    """What Nova's metadata service tells of the instance's devices."""
    attributes = ["device_metadata", "metadata", "system_metadata", "flavor", "info_cache", "pci_devices"]
    now = objects.Instance.get_by_uuid(world.context, instance.uuid, expected_attrs=attributes)
    now.keypairs = instance.keypairs
    told = metadata.InstanceMetadata(now, network_info=[])
    found: list[dict[str, Any]] = json.loads(told.lookup("/openstack/latest/meta_data.json"))["devices"]
    return found


def file_on_drive(world: NovaWorld, name: str) -> bytes:
    """A file of the config drive that was sent to Ironic last."""
    asked = [request for request in writes(world, "/states/provision") if "configdrive" in (request.body or {})][-1]
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(gzip.decompress(base64.b64decode(asked.body["configdrive"]))))
    out = io.BytesIO()
    iso.get_file_from_iso_fp(out, joliet_path=f"/openstack/latest/{name}")
    iso.close()
    return out.getvalue()


def on_drive(world: NovaWorld, name: str = "meta_data.json") -> Any:
    """What that file of it says."""
    return json.loads(file_on_drive(world, name))


def test_a_tag_that_is_the_name_of_a_nic_puts_the_vif_there(world: NovaWorld) -> None:
    _, second, third = world.name_nics("left", "right", "top")
    instance, network_info = world.instance(), world.network_info(2)
    world.tag(instance, network_info[0], "top")
    world.tag(instance, network_info[1], "right")
    world.spawn(instance, network_info)
    assert on_nic(world) == {third: network_info[0]["id"], second: network_info[1]["id"]}


def test_a_tag_means_the_nic_that_bears_the_name_of_its_node_before_it(world: NovaWorld) -> None:
    _, second, _ = world.name_nics("storage", "node-0-storage")
    instance, network_info = world.instance(), world.network_info()
    world.tag(instance, network_info[0], "storage")
    world.spawn(instance, network_info)
    assert on_nic(world) == {second: network_info[0]["id"]}


def test_a_vif_without_a_tag_does_not_take_the_nic_that_a_tag_names(world: NovaWorld) -> None:
    first, *_ = world.name_nics("left")
    instance, network_info = world.instance(), world.network_info(2)
    world.tag(instance, network_info[1], "left")
    world.spawn(instance, network_info)
    assert on_nic(world)[first] == network_info[1]["id"]
    assert len(on_nic(world)) == 2


def test_a_tag_that_is_the_name_of_a_bond_puts_the_vif_there(world: NovaWorld) -> None:
    world.node = world.ironic.add_node(name="bonded", ports=3, bonded=True)
    (group,) = world.ironic.portgroups(world.node)
    world.driver.services.ironic.transport.request(
        "PATCH", f"/portgroups/{group['uuid']}", body=[{"op": "add", "path": "/name", "value": "bond0"}], timeout_s=10
    )
    instance, network_info = world.instance(), world.network_info(2)
    world.tag(instance, network_info[1], "bond0")
    world.spawn(instance, network_info)
    (group,) = world.ironic.portgroups(world.node)
    assert group["internal_info"]["tenant_vif_port_id"] == network_info[1]["id"]


def test_any_other_tag_leaves_the_choice_to_ironic_and_is_told_to_the_server(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info(2)
    instance.config_drive = "True"
    world.tag(instance, network_info[0], "database")
    world.spawn(instance, network_info)
    (mac,) = [mac for mac, vif_id in on_nic(world).items() if vif_id == network_info[0]["id"]]
    told = {"type": "nic", "bus": "none", "address": "none", "mac": mac, "tags": ["database"], "vf_trusted": False}
    assert on_drive(world)["devices"] == [told]
    assert devices(world, instance) == [told]


def test_a_tagged_nic_is_told_with_its_place_on_the_bus_where_inspection_found_that(world: NovaWorld) -> None:
    first, *_ = world.name_nics("left")
    found = {"interfaces": [{"mac_address": first.upper(), "pci_address": "0000:3b:00.0"}]}
    world.ironic._world.inventories[world.node] = {"inventory": found, "plugin_data": {}}
    instance, network_info = world.instance(), world.network_info()
    world.tag(instance, network_info[0], "left")
    world.spawn(instance, network_info)
    (told,) = devices(world, instance)
    assert (told["bus"], told["address"], told["mac"]) == ("pci", "0000:3b:00.0", first)


def test_a_tagged_volume_is_told_by_its_id(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info()
    block_device_info = world.volume(instance)
    device = block_device_info["block_device_mapping"][0]
    device._bdm_obj.tag = "root"
    world.spawn(instance, network_info, block_device_info)
    (told,) = devices(world, instance)
    assert (told["type"], told["serial"], told["tags"]) == ("disk", device.volume_id, ["root"])


def test_a_server_without_tags_is_told_of_no_devices_and_costs_no_request(world: NovaWorld) -> None:
    instance, _ = world.running()
    assert devices(world, instance) == []
    assert not [request for request in world.ironic.requests if "inventory" in request.path]


def test_an_interface_that_is_attached_with_a_tag_is_told_until_it_is_detached(world: NovaWorld) -> None:
    *_, third = world.name_nics("left", "right", "top")
    instance, _ = world.running()
    vif = world.vif()
    world.tag(instance, vif, "top")
    world.driver.attach_interface(world.context, instance, None, vif)
    assert on_nic(world)[third] == vif["id"]
    assert [told["tags"] for told in devices(world, instance)] == [["top"]]
    world.driver.detach_interface(world.context, instance, vif)
    assert devices(world, instance) == []


def test_a_nic_that_is_taken_or_named_twice_is_refused_and_nothing_is_plugged(world: NovaWorld) -> None:
    world.name_nics("left")
    instance, network_info = world.instance(), world.network_info(2)
    for vif in network_info:
        world.tag(instance, vif, "left")
    world.driver.prepare_for_spawn(instance)
    with pytest.raises(exception.VirtualInterfacePlugException):
        world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    assert world.ironic.vifs(world.node) == []


# Whose a VIF is


def elsewhere(world: NovaWorld, vif: Any, **fields: Any) -> None:
    world.neutron.update("ports", vif["id"], fields)
    (port,) = world.neutron.ports(id=vif["id"])
    assert port.items() >= fields.items()


OTHERS: dict[str, dict[str, Any]] = {
    "another machine's": {"device_id": "6f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"},
    "bound to another node": {"binding:host_id": "8f1c0b1e-8a9c-4f2e-8c6a-2d8f8b1d9c11"},
}


@pytest.mark.parametrize("whose", OTHERS)
def test_d50_a_vif_of_others_is_not_stolen(world: NovaWorld, whose: str) -> None:
    instance, network_info = world.instance(), world.network_info(2)
    elsewhere(world, network_info[1], **OTHERS[whose])
    world.driver.prepare_for_spawn(instance)
    with pytest.raises(exception.VirtualInterfacePlugException):
        world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    assert writes(world, "/vifs") == []


@pytest.mark.parametrize("whose", OTHERS)
def test_d50_a_vif_of_others_is_not_attached(world: NovaWorld, whose: str) -> None:
    instance, _ = world.running()
    vif, before = world.vif(), len(writes(world, "/vifs"))
    elsewhere(world, vif, **OTHERS[whose])
    with pytest.raises(exception.VirtualInterfacePlugException):
        world.driver.attach_interface(world.context, instance, None, vif)
    assert len(writes(world, "/vifs")) == before


def test_d50_all_vifs_cost_one_request_to_neutron(world: NovaWorld) -> None:
    instance, network_info = world.instance(), world.network_info(3)
    world.driver.prepare_for_spawn(instance)
    before = len(world.neutron.requests)
    world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    asked = [request.query_lists for request in world.neutron.requests[before:] if request.path.endswith("/ports")]
    assert [len(query.get("id", ())) for query in asked] == [3]


def test_d50_where_nova_conf_has_no_neutron_nobody_is_asked(world: NovaWorld) -> None:
    world.driver.connection._services = replace(world.services(), neutron_to_ask=None)
    world.running()
    assert world.seen()["provision_state"] == "active"


# Consoles


def console_of(world: NovaWorld) -> bool:
    return bool(world.seen()["console_enabled"])


def test_d43_a_console_that_nobody_asks_for_any_more_is_stopped(world: NovaWorld) -> None:
    clock = world.driver.consoles.clock = HandClock()
    instance, _ = world.running()
    world.driver.get_serial_console(world.context, instance)
    clock.advance(CONF.bloomery.console_idle_timeout - 1)
    world.driver.get_serial_console(world.context, instance)
    clock.advance(CONF.bloomery.console_idle_timeout - 1)
    world.driver.get_available_nodes()
    assert console_of(world)
    clock.advance(1)
    world.driver.get_available_nodes()
    assert not console_of(world)


@pytest.mark.skipif("enforce_session_timeout" not in CONF.consoleauth, reason="this Nova ends no sessions")
def test_d43_where_sessions_end_with_their_token_a_console_is_stopped_then(world: NovaWorld) -> None:
    CONF.set_override("enforce_session_timeout", True, group="consoleauth")
    clock = world.driver.consoles.clock = HandClock()
    instance, _ = world.running()
    world.driver.get_serial_console(world.context, instance)
    clock.advance(CONF.consoleauth.token_ttl)
    world.driver.get_available_nodes()
    assert not console_of(world)


def test_d43_a_console_that_has_no_timeout_is_left_alone(world: NovaWorld) -> None:
    clock = world.driver.consoles.clock = HandClock()
    instance, _ = world.running()
    CONF.set_override("console_idle_timeout", 0, group="bloomery")
    world.driver.get_serial_console(world.context, instance)
    clock.advance(10**6)
    world.driver.get_available_nodes()
    assert console_of(world)


@pytest.mark.parametrize("asked_again", [False, True], ids=["nobody asks", "somebody asks"])
def test_d43_a_console_that_an_operator_has_started_is_left_alone(world: NovaWorld, asked_again: bool) -> None:
    clock = world.driver.consoles.clock = HandClock()
    instance, _ = world.running()
    world.ironic.set(world.node, console_enabled=True)
    if asked_again:
        world.driver.get_serial_console(world.context, instance)
    for driver in (world.driver, world.restarted()):
        driver.consoles.clock = clock
        driver.get_available_nodes()
        clock.advance(10**6)
        driver.get_available_nodes()
        assert console_of(world)


@pytest.mark.parametrize("asked_again", [False, True], ids=["nobody asks", "somebody asks"])
def test_d43_a_console_that_an_earlier_nova_compute_has_started_is_stopped_in_its_time(
    world: NovaWorld, asked_again: bool
) -> None:
    instance, _ = world.running()
    world.driver.get_serial_console(world.context, instance)
    clock = world.restarted().consoles.clock = HandClock()
    world.driver.get_available_nodes()
    clock.advance(CONF.bloomery.console_idle_timeout - 1)
    if asked_again:
        now = objects.Instance.get_by_uuid(world.context, instance.uuid)
        world.driver.get_serial_console(world.context, now)
    clock.advance(1)
    world.driver.get_available_nodes()
    assert console_of(world) is asked_again
    clock.advance(CONF.bloomery.console_idle_timeout - 1)
    world.driver.get_available_nodes()
    assert not console_of(world)


def test_d43_a_console_that_was_stopped_and_then_started_by_an_operator_is_left_alone(world: NovaWorld) -> None:
    clock = world.driver.consoles.clock = HandClock()
    instance, _ = world.running()
    world.driver.get_serial_console(world.context, instance)
    clock.advance(CONF.bloomery.console_idle_timeout)
    world.driver.get_available_nodes()
    assert not console_of(world)
    world.ironic.set(world.node, console_enabled=True)
    clock = world.restarted().consoles.clock = HandClock()
    for _ in range(2):
        world.driver.get_available_nodes()
        clock.advance(10**6)
    assert console_of(world)


def test_d43_novas_database_is_asked_once_for_consoles_that_run_and_again_if_it_was_away(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, _ = world.running()
    world.driver.get_serial_console(world.context, instance)
    every, asked = objects.InstanceList.get_by_filters, []

    def counted(context: Any, filters: dict[str, Any], **more: Any) -> Any:
        if "system_metadata" in filters:
            asked.append(filters)
            if len(asked) == 1:
                raise DBConnectionError("the database is away")
        return every(context, filters, **more)

    monkeypatch.setattr(objects.InstanceList, "get_by_filters", counted)
    clock = world.restarted().consoles.clock = HandClock()
    for _ in range(3):
        assert world.driver.get_available_nodes() == [world.node]
    assert len(asked) == 2
    clock.advance(CONF.bloomery.console_idle_timeout)
    world.driver.get_available_nodes()
    assert not console_of(world)


@pytest.mark.parametrize("goes_wrong", [False, True], ids=["", "Ironic cannot stop it"])
def test_d43_a_console_that_was_started_for_a_server_ends_with_it_and_does_not_keep_it_from_its_end(
    world: NovaWorld, goes_wrong: bool
) -> None:
    instance, network_info = world.running()
    world.driver.get_serial_console(world.context, instance)
    if goes_wrong:
        world.ironic.fail_next(world.node, "console", "socat does not end")
    world.restarted().destroy(world.context, instance, network_info)
    # Ironic would start a console that is still enabled again for the next server.
    assert world.ironic.wait_for(world.node, "available")["console_enabled"] is goes_wrong


def test_d43_a_console_that_an_operator_has_started_outlives_a_server_as_ironic_wants_it(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.set(world.node, console_enabled=True)
    world.driver.get_serial_console(world.context, instance)
    world.driver.destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["console_enabled"] is True


def test_d43_a_console_of_the_next_server_on_the_node_is_not_stopped(world: NovaWorld) -> None:
    clock = world.driver.consoles.clock = HandClock()
    instance, network_info = world.running()
    world.driver.get_serial_console(world.context, instance)
    world.driver.destroy(world.context, instance, network_info)
    world.ironic.wait_for(world.node, "available")
    world.running()
    world.ironic.set(world.node, console_enabled=True)
    clock.advance(CONF.bloomery.console_idle_timeout)
    world.driver.get_available_nodes()
    assert console_of(world)


# The end of the service, and its start


def under_way(world: NovaWorld, state: str, call: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    """The call, in a thread, while its node stays in the state; and what it ends with."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as problem:  # noqa: BLE001  what the test is about is none of `Exception`
            ended.append(problem)

    world.ironic.stick(world.node, state)
    thread = threading.Thread(target=run)
    thread.start()
    world.ironic.wait_for(world.node, state, quiet=False)
    return thread, ended


def test_d14_when_the_service_is_asked_to_stop_waits_are_cut_short_and_taken_up_at_the_next_start(
    world: NovaWorld,
) -> None:
    instance, network_info = world.running(task_state=None)
    instance.task_state = task_states.RESCUING
    instance.save()
    thread, ended = under_way(
        world,
        "rescue wait",
        lambda: world.driver.rescue(world.context, instance, network_info, None, "open sesame", None, None),
    )
    before = len(writes(world, "/states/provision"))
    world.driver.cleanup_host(HOST)
    thread.join(30)
    assert [type(problem) for problem in ended] == [LeftUnderWay]
    assert len(writes(world, "/states/provision")) == before, "nothing is undone"
    assert world.seen()["provision_state"] == "rescue wait"
    world.ironic.revive()
    world.ironic.set(world.node, provision_state="rescue", target_provision_state=None)
    followed(world, instance, vm_states.RESCUED)


def test_d14_a_tear_down_is_cut_short_too_and_asked_for_again_it_waits_for_the_same(world: NovaWorld) -> None:
    instance, network_info = world.running()
    thread, ended = under_way(world, "deleting", lambda: world.driver.destroy(world.context, instance, network_info))
    world.driver.cleanup_host(HOST)
    thread.join(30)
    assert [type(problem) for problem in ended] == [LeftUnderWay]
    asked = len(writes(world, "/states/provision"))
    world.ironic.revive()
    world.restarted().destroy(world.context, instance, network_info)
    assert world.ironic.wait_for(world.node, "available")["instance_uuid"] is None
    assert len(writes(world, "/states/provision")) >= asked


def test_d14_a_build_is_not_cut_short_for_nova_would_take_its_node_from_it(world: NovaWorld) -> None:
    instance, network_info = world.instance(task_state=task_states.SPAWNING), world.network_info()
    thread, ended = under_way(world, "wait call-back", lambda: world.spawn(instance, network_info))
    world.driver.cleanup_host(HOST)
    thread.join(0.2)
    assert thread.is_alive()
    world.ironic.set(world.node, provision_state="active", target_provision_state=None)
    thread.join(30)
    assert ended == []


@pytest.mark.parametrize(
    ("verb", "step", "task_state", "end"),
    [
        ("rescue", "wait for rescue", task_states.RESCUING, vm_states.RESCUED),
        ("unrescue", "wait for active", task_states.UNRESCUING, vm_states.ACTIVE),
    ],
)
def test_d30_a_rescue_or_unrescue_goes_on_when_the_service_comes_back(
    world: NovaWorld, verb: str, step: str, task_state: str, end: str
) -> None:
    instance = broken_off(world, verb, step, task_state)
    now = followed(world, instance, end)
    assert now.power_state == power_state.RUNNING


@pytest.mark.parametrize(
    ("verb", "task_state"), [("rescue", task_states.RESCUING), ("unrescue", task_states.UNRESCUING)]
)
def test_d30_a_rescue_or_unrescue_that_failed_meanwhile_ends_in_error_with_the_reason(
    world: NovaWorld, verb: str, task_state: str
) -> None:
    step = "wait for rescue" if verb == "rescue" else "wait for active"
    instance = broken_off(world, verb, step, task_state, fails="no rescue ramdisk")
    world.ironic.wait_for(world.node, f"{verb} failed")
    followed(world, instance, vm_states.ERROR)
    (fault,) = objects.InstanceFaultList.get_by_instance_uuids(world.context, [instance.uuid])
    assert "no rescue ramdisk" in fault.message


@pytest.mark.parametrize(
    ("verb", "step", "task_state"),
    [
        ("rescue", "request rescue", task_states.RESCUING),
        ("unrescue", "request unrescue", task_states.UNRESCUING),
    ],
)
def test_d30_a_rescue_or_unrescue_that_ironic_never_heard_of_ends_in_error(
    world: NovaWorld, verb: str, step: str, task_state: str
) -> None:
    instance = broken_off(world, verb, step, task_state)
    followed(world, instance, vm_states.ERROR)


def broken_off(world: NovaWorld, verb: str, step: str, task_state: str, *, fails: str | None = None) -> Any:
    """A server whose compute service died before that step of its rescue or unrescue."""
    instance, network_info = world.running()
    password = "open sesame"
    if verb == "unrescue":
        world.driver.rescue(world.context, instance, network_info, None, password, None, None)
        instance.vm_state = vm_states.RESCUED
    instance.task_state = task_state
    instance.save()
    if fails is not None:
        world.ironic.fail_next(world.node, verb, fails)  # type: ignore[arg-type]
    world.driver.connection._services = replace(world.services(), observer=Death(step))
    calls: dict[str, Callable[[], None]] = {
        "rescue": lambda: world.driver.rescue(world.context, instance, network_info, None, password, None, None),
        "unrescue": lambda: world.driver.unrescue(world.context, instance),
    }
    with pytest.raises(Killed):
        calls[verb]()
    return instance


# What operators see


def test_d49_operators_find_node_and_step_where_users_read_the_reason_only(world: NovaWorld) -> None:
    world.ironic.fail_next(world.node, "deploy", "the disk is gone")
    instance = left_behind(world, "wait for active", task_states.SPAWNING)
    world.ironic.wait_for(world.node, "deploy failed")
    followed(world, instance, vm_states.ERROR)
    (fault,) = objects.InstanceFaultList.get_by_instance_uuids(world.context, [instance.uuid])
    assert "the disk is gone" in fault.message
    assert "node-0" not in fault.message
    assert "node-0" in fault.details


def test_a_fault_has_ironics_reason_the_step_and_the_id_of_the_request(world: NovaWorld) -> None:
    world.ironic.fail_next(world.node, "deploy", "the disk is gone")
    with pytest.raises(exception.InstanceDeployFailure, match="the disk is gone") as raised:
        world.spawn(world.instance(), world.network_info())
    assert "at step 'wait for active'" in str(raised.value)
    assert re.search(r"\[req-[0-9a-f-]+\]", str(raised.value))
    world.ironic.wait_for(world.node, "available")
    instance, _ = world.running()
    world.ironic.fail_next(world.node, "power", "the BMC is asleep")
    with pytest.raises(exception.InstancePowerOffFailure, match=r"the BMC is asleep.*\[req-[0-9a-f-]+\]"):
        world.driver.power_off(instance)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"maintenance": True, "maintenance_reason": "new disks"}, "new disks"),
        ({"retired": True, "retired_reason": "too old"}, "too old"),
        ({"fault": "power failure"}, "power failure"),
        ({"health": "CRITICAL"}, "critical health"),
        ({"protected": True}, "it is protected"),
        ({"power_state": None}, "power state"),
    ],
)
def test_why_a_node_is_out_of_service_is_said_once_and_placement_has_it_reserved(
    world: NovaWorld, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], words: str
) -> None:
    caplog.set_level(logging.WARNING)
    world.ironic.set(world.node, **fields)
    for _ in range(3):
        assert world.provider().data(world.node).inventory["CUSTOM_BAREMETAL"]["reserved"] == 1
    said = [record.getMessage() for record in caplog.records if "out of service" in record.getMessage()]
    assert len(said) == 1
    assert words in said[0]


def out_of_service(world: NovaWorld, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of nodes that are out of service, or no longer."""
    return [record.getMessage() for record in caplog.records if "out of service" in record.getMessage()]


def reserved(world: NovaWorld) -> int:
    world.driver.get_available_nodes()
    count: int = world.provider().data(world.node).inventory["CUSTOM_BAREMETAL"]["reserved"]
    return count


def test_no_node_vanishes_because_a_page_of_the_list_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.doors.nova.config.LEAST_QUICK_S", 0.3)
    CONF.set_override("api_max_retries", 0, group="ironic")
    CONF.set_override("full_list_interval", 0, group="bloomery")
    try:
        with a_nova_world(max_limit=2) as world:
            nodes = {world.node, *(world.ironic.add_node(name=f"more-{number}") for number in range(4))}
            assert set(world.driver.get_available_nodes()) == nodes
            asked: list[str] = []

            def second_page_fails(request: RecordedRequest) -> Fault | None:
                if "marker" not in request.query:
                    return None
                asked.append(request.target)
                return Fault(FaultKind.STATUS, status=503)

            world.ironic.on_request = second_page_fails
            with pytest.raises(exception.VirtDriverNotReady):
                world.driver.get_available_nodes()
            assert asked
            world.ironic.on_request = None
            assert not any(world.driver.is_node_deleted(node) for node in nodes)
            assert all(world.driver.node_is_available(node) for node in nodes)
            assert set(world.driver.get_available_nodes()) == nodes
    finally:
        CONF.clear_override("api_max_retries", group="ironic")
        CONF.clear_override("full_list_interval", group="bloomery")


def test_a_node_that_no_living_conductor_serves_is_reserved_and_the_log_says_so_once(
    world: NovaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    assert reserved(world) == 0
    # The simulator's conductor says that it is of the default group.
    world.ironic.set(world.node, conductor_group="rack-9")
    assert [reserved(world) for _ in range(3)] == [1, 1, 1]
    world.ironic.set(world.node, conductor_group="")
    assert reserved(world) == 0
    first, last = out_of_service(world, caplog)
    assert "no conductor is alive that serves driver" in first
    assert "rack-9" in first
    assert "all is well again" in last


@pytest.mark.parametrize("told", ["nothing", "no conductor", "none that is alive"])
def test_where_ironic_tells_of_no_living_conductor_no_node_is_held_to_be_unserved(
    world: NovaWorld, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    world.ironic.set(world.node, conductor_group="rack-9")
    monkeypatch.setattr("bloomery.doors.nova.serving.ASK_FOR_S", 0.3)
    asked: list[str] = []

    def answer(request: RecordedRequest) -> Fault | None:
        if not request.path.endswith("/conductors"):
            return None
        asked.append(request.path)
        dead = [{"hostname": "conductor-1", "alive": False, "conductor_group": "", "drivers": ["redfish"]}]
        bodies: dict[str, object] = {"no conductor": [], "none that is alive": dead}
        if told == "nothing":
            return Fault(FaultKind.STATUS, status=403)
        return Fault(FaultKind.OTHER_SHAPE, body=json.dumps({"conductors": bodies[told]}))

    world.ironic.on_request = answer
    assert reserved(world) == 0
    assert asked


def test_a_free_node_that_stays_locked_is_reserved_and_one_that_is_locked_for_a_moment_is_not(
    world: NovaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    clock = world.driver.nodes.serving.clock = HandClock()
    world.ironic.set(world.node, reservation="conductor-1")
    assert reserved(world) == 0
    clock.advance(CONF.bloomery.claim_timeout - 1)
    assert reserved(world) == 0
    clock.advance(1)
    assert [reserved(world) for _ in range(2)] == [1, 1]
    # Another operation, a moment after the first.
    world.ironic.set(world.node, reservation="conductor-2")
    assert reserved(world) == 0
    clock.advance(CONF.bloomery.claim_timeout)
    assert reserved(world) == 1
    world.ironic.set(world.node, reservation=None)
    assert reserved(world) == 0
    assert ["locked by" in line for line in out_of_service(world, caplog)] == [True, False, True, False]


def test_an_operation_that_has_its_node_locked_is_not_said_to_put_it_out_of_service(
    world: NovaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    instance, _ = world.running()
    clock = world.driver.nodes.serving.clock = HandClock()
    world.ironic.set(world.node, reservation="conductor-1")
    for _ in range(2):
        assert reserved(world) == 1
        clock.advance(10 * CONF.bloomery.claim_timeout)
    assert world.seen()["instance_uuid"] == instance.uuid
    assert out_of_service(world, caplog) == []


@pytest.mark.parametrize(
    ("fields", "traits"),
    [
        ({"boot_mode": "uefi"}, {"COMPUTE_FIRMWARE_UEFI"}),
        ({"boot_mode": "bios"}, {"COMPUTE_FIRMWARE_BIOS"}),
        ({"boot_mode": "uefi", "secure_boot": True}, {"COMPUTE_FIRMWARE_UEFI", "COMPUTE_SECURITY_UEFI_SECURE_BOOT"}),
        (
            {"properties": {"capabilities": "boot_mode:bios,tpm:1.2"}},
            {"COMPUTE_FIRMWARE_BIOS", "COMPUTE_SECURITY_TPM_1_2"},
        ),
        ({"properties": {"capabilities": "secure_boot:true"}}, {"COMPUTE_SECURITY_UEFI_SECURE_BOOT"}),
        ({"properties": {"capabilities": "tpm:2.0"}}, {"COMPUTE_SECURITY_TPM_2_0"}),
        ({"properties": {"capabilities": "boot_mode:open,secure_boot:false,tpm:9"}}, set()),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_the_firmware_of_a_machine_is_told_to_placement_and_taken_back_when_it_changes(
    world: NovaWorld, fields: dict[str, Any], traits: set[str]
) -> None:
    world.ironic.set(world.node, **{"boot_mode": None, "secure_boot": None, "properties": {}, **fields})
    tree = world.provider()
    told = {
        trait for trait in tree.data(world.node).traits if trait.startswith(("COMPUTE_FIRMWARE", "COMPUTE_SECURITY"))
    }
    assert told == traits
    world.ironic.set(world.node, boot_mode=None, secure_boot=None, properties={})
    world.driver.nodes.doubt(world.node)
    world.driver.update_provider_tree(tree, world.node)
    assert not traits & tree.data(world.node).traits


@pytest.mark.parametrize("trait", ["OWNER_NOVA", "COMPUTE_STATUS_DISABLED", "CUSTOM_OF_AN_OPERATOR"])
def test_r32_traits_that_others_have_set_survive(world: NovaWorld, trait: str) -> None:
    tree = world.provider()
    tree.update_traits(world.node, {*tree.data(world.node).traits, trait})
    world.driver.update_provider_tree(tree, world.node)
    assert trait in tree.data(world.node).traits


def test_the_log_of_the_console_is_what_ironic_noted_and_names_no_address(world: NovaWorld) -> None:
    world.ironic.fail_next(world.node, "deploy", "the BMC at 192.0.2.9 is gone")
    instance, network_info = world.instance(), world.network_info()
    with pytest.raises(exception.InstanceDeployFailure):
        world.spawn(instance, network_info)
    world.ironic.wait_for(world.node, "available")
    running, _ = world.running()
    text = world.driver.get_console_output(world.context, running).decode()
    assert "provision state: active" in text
    assert "is gone" in text
    assert "192.0.2.9" not in text
