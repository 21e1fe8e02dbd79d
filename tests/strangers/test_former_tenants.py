"""Nothing that somebody else had on a node reaches its next instance, and nothing of somebody else's is taken away for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from bloomery import Bloomery, DeployRequest, Guest, Nic, Secret
from bloomery.errors import BloomeryError, NodeUnavailable, RollbackIncomplete
from bloomery.ironic.models import MARK
from bloomery.operations import deploy, tear_down
from bloomery.operations.run import Options
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.gateways import ironic_at
from live.site import Site
from unwind.scenarios import World, a_request, a_world

FORMER = "9d3a1c52-5f0e-4d8b-9a37-2f1f6f1f0a01"
ANOTHER = "7e1b6a40-02f5-4c8e-a0cb-5a0b8b1a9d55"
NEXT = "3c3bd2b1-8b0e-4f5e-9d33-0d7a8f3b6a10"
LEFT_IN_INSTANCE_INFO: dict[str, Any] = {
    "configdrive": "of another tenant",
    "image_source": "http://images.example.org/theirs.raw",
    "image_checksum": "b" * 32,
    "image_os_hash_algo": "sha512",
    "image_os_hash_value": "b" * 128,
    "image_type": "partition",
    "image_url": "http://images.example.org/signed?secret=1",
    "kernel": "old",
    "ramdisk": "old",
    "root_gb": 3,
    "ephemeral_gb": 7,
    "swap_mb": 9,
    "capabilities": {"boot_option": "netboot"},
    "traits": ["CUSTOM_THEIRS"],
    "display_name": "theirs",
    "nova_host_id": "their-compute",
    "tenant_id": "theirs",
}


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def whole(world: World, request: DeployRequest) -> None:
    """As the library and the command deploy."""
    world.api().deploy(request, timeout_s=60)


def in_pieces(world: World, request: DeployRequest) -> None:
    """As Nova's driver deploys, which destroys what it has begun when a piece fails."""
    services, how = world.api().services, Options(timeout_s=60, undo_timeout_s=60)
    try:
        node = deploy.claim(services, request, how)
        deploy.spawn(services, deploy.plug(services, node, request, how), request, how)
    except BloomeryError:
        left = services.ironic.node(world.node)
        tear_down.destroy(services, left, NEXT, how, wait_for_cleaning=True)
        raise


Deploy = Callable[[World, DeployRequest], None]
both = pytest.mark.parametrize("deploys", [whole, in_pieces])


def the_next(world: World) -> DeployRequest:
    """A plain instance, with a VIF that its user gives."""
    return a_request(
        world, node=world.node, instance_uuid=NEXT, nics=(Nic(vif=world.given_vif),), volumes=(),
        guest=Guest(config_drive=False),
    )  # fmt: skip


def a_vif(world: World, name: str) -> str:
    """Another VIF on the same network as the given one."""
    (network,) = {port["network_id"] for port in world.neutron.ports() if port["id"] == world.given_vif}
    return world.neutron.add_port(network, name=name)


@both
def test_instance_info_has_what_the_next_instance_needs_and_nothing_else(world: World, deploys: Deploy) -> None:
    deploys(world, the_next(world))
    clean = world.ironic.node(world.node)["instance_info"]
    world.api().destroy(NEXT, wait_for_cleaning=True, timeout_s=60)
    world.ironic.set(world.node, instance_info=LEFT_IN_INSTANCE_INFO)
    deploys(world, the_next(world))
    assert world.ironic.node(world.node)["instance_info"] == clean


@both
def test_a_strangers_vif_is_refused_and_left(world: World, deploys: Deploy) -> None:
    left = a_vif(world, "left")
    ironic_at(world.ironic.url).attach_vif(world.node, left)
    with pytest.raises(NodeUnavailable, match=left) as refused:
        deploys(world, the_next(world))
    assert world.ironic.vifs(world.node) == [left]
    assert world.ironic.node(world.node)["instance_uuid"] is None
    assert left not in refused.value.told_users


@both
def test_a_vif_that_a_former_instance_of_ours_left_is_unplugged(world: World, deploys: Deploy) -> None:
    left = a_vif(world, "left")
    ironic_at(world.ironic.url).attach_vif(world.node, left)
    world.ironic.set(world.node, extra={MARK: {"version": 1, "instance_uuid": FORMER, "vifs": {left: "given"}}})
    deploys(world, the_next(world))
    assert world.ironic.vifs(world.node) == [world.given_vif]


@both
def test_a_strangers_volume_is_refused_and_left(world: World, deploys: Deploy) -> None:
    ironic_at(world.ironic.url).add_volume_target(
        world.node, target_uuid=str(uuid4()), volume_id="theirs", volume_type="iscsi", boot_index=0,
        properties=Secret({}), extra={},
    )  # fmt: skip
    with pytest.raises(NodeUnavailable, match="theirs"):
        deploys(world, the_next(world))
    assert world.seen()["volumes"] == ["theirs"]
    assert world.ironic.node(world.node)["instance_uuid"] is None


# Consoles, which Ironic stops with a tear-down, and starts again with the next deploy


@both
def test_a_console_of_a_destroyed_instance_does_not_come_back_with_the_next(world: World, deploys: Deploy) -> None:
    deploys(world, the_next(world))
    api = world.api()
    api.enable_console(world.node)
    assert world.ironic.node(world.node)["extra"][MARK]["console"] is True
    api.destroy(NEXT, wait_for_cleaning=True, timeout_s=60)
    node = world.ironic.node(world.node)
    assert (node["instance_uuid"], node["extra"], node["console_enabled"]) == (None, {}, False)


@both
def test_a_console_of_an_instance_that_an_operator_undeployed_does_not_come_back_with_the_next(
    world: World, deploys: Deploy
) -> None:
    deploys(world, the_next(world))
    world.api().enable_console(world.node)
    ironic_at(world.ironic.url).provision(ironic_at(world.ironic.url).node(world.node), "deleted")
    world.ironic.wait_for(world.node, "available")
    ironic_at(world.ironic.url).detach_vif(world.node, world.given_vif)
    assert world.ironic.node(world.node)["console_enabled"] is True
    deploys(world, replace(the_next(world), instance_uuid=ANOTHER))
    assert world.ironic.node(world.node)["console_enabled"] is False


def recovered(api: Bloomery) -> None:
    """A background pass goes over the node."""
    api.recover(older_than_s=0, timeout_s=60)


def destroyed_again(api: Bloomery) -> None:
    """Its user destroys it, too."""
    api.destroy("web-1", wait_for_cleaning=True, timeout_s=60)


@pytest.mark.parametrize("done", [recovered, destroyed_again])
def test_a_console_of_an_instance_that_an_operator_undeployed_is_stopped(
    world: World, done: Callable[[Bloomery], None]
) -> None:
    whole(world, the_next(world))
    world.api().enable_console(world.node)
    ironic_at(world.ironic.url).provision(ironic_at(world.ironic.url).node(world.node), "deleted")
    world.ironic.wait_for(world.node, "available")
    done(world.api())
    node = world.ironic.node(world.node)
    assert (node["extra"], node["console_enabled"]) == ({}, False)


@both
def test_a_console_that_an_operator_started_stays_as_it_is(world: World, deploys: Deploy) -> None:
    world.ironic.set(world.node, console_enabled=True)
    deploys(world, the_next(world))
    world.api().enable_console(world.node)
    assert "console" not in world.ironic.node(world.node)["extra"][MARK]
    world.api().destroy(NEXT, wait_for_cleaning=True, timeout_s=60)
    assert world.ironic.node(world.node)["console_enabled"] is True


def test_a_console_that_was_stopped_is_ours_no_more(world: World) -> None:
    whole(world, the_next(world))
    api = world.api()
    before = world.seen()
    api.enable_console(world.node)
    api.disable_console(world.node, force=True)
    assert world.seen() == before


def test_a_console_that_does_not_stop_keeps_no_node_from_being_freed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: RecordedRequest) -> Fault | None:
        is_stop = request.method == "PUT" and request.path.endswith("/states/console")
        return Fault(FaultKind.STATUS, 403, message="not for you") if is_stop else None

    whole(world, the_next(world))
    world.api().enable_console(world.node)
    world.ironic.on_request = broken
    world.api().destroy(NEXT, wait_for_cleaning=True, timeout_s=60)
    node = world.ironic.node(world.node)
    assert (node["instance_uuid"], node["extra"], node["provision_state"]) == (None, {}, "available")
    assert "the console of node node-0 could not be stopped" in caplog.text


@both
def test_a_destroyed_instance_leaves_no_secret_in_ironic(world: World, deploys: Deploy) -> None:
    request = a_request(
        world, node=world.node, instance_uuid=NEXT, nics=(Nic(vif=world.given_vif),),
        guest=Guest.of(admin_password=Secret("correct horse")),
    )  # fmt: skip
    deploys(world, request)
    assert world.ironic.node(world.node)["instance_info"]
    world.api().destroy(NEXT, wait_for_cleaning=True, timeout_s=60)
    node = world.ironic.node(world.node)
    assert (node["instance_uuid"], node["instance_info"], node["extra"]) == (None, {}, {})
    assert world.seen()["volumes"] == []


def test_a_node_is_not_free_while_a_vif_that_we_made_is_plugged(world: World) -> None:
    def stuck(request: RecordedRequest) -> Fault | None:
        is_stuck = (request.method == "DELETE" and "/vifs/" in request.path) or request.path.endswith(
            "/states/provision"
        )
        return Fault(FaultKind.STATUS, 403, message="not for you") if is_stuck else None

    world.ironic.on_request = stuck
    with pytest.raises(RollbackIncomplete):
        world.api().deploy(a_request(world, nics=(Nic(network="private"),), instance_uuid=NEXT), timeout_s=60)
    assert world.ironic.vifs(world.node)
    assert world.ironic.node(world.node)["instance_uuid"] == NEXT
    world.ironic.on_request = None
    world.api().destroy(world.node, wait_for_cleaning=True, timeout_s=60)
    assert world.ironic.vifs(world.node) == []
    assert [port["name"] for port in world.neutron.ports()] == ["given"]


def test_an_allocation_that_we_may_not_see_is_deleted_all_the_same(world: World) -> None:
    def hidden(request: RecordedRequest) -> Fault | None:
        is_look = request.method == "GET" and "/allocations/" in request.path
        return Fault(FaultKind.STATUS, 404, message="not for you") if is_look else None

    world.ironic.on_request = hidden
    with pytest.raises(BloomeryError):
        world.api().deploy(a_request(world), timeout_s=60)
    assert world.ironic.allocations() == []
    assert world.ironic.node(world.node)["instance_uuid"] is None


# Answers about something else


def test_an_answer_about_something_else_is_not_taken_for_what_was_asked_for(world: World) -> None:
    """A proxy that loses the query makes every list that of the whole cloud."""
    other = world.ironic.add_node(name="other", ports=2, storage_interface="external")
    ironic_at(world.ironic.url).add_volume_target(
        other, target_uuid=str(uuid4()), volume_id="theirs", volume_type="iscsi", boot_index=0,
        properties=Secret({}), extra={},
    )  # fmt: skip
    ironic = ironic_at(world.ironic.url)
    read = type(ironic.transport).request

    class WithoutQuery(type(ironic.transport)):  # type: ignore[misc]
        """Loses what narrows an answer down."""

        def request(self, method: str, path: str, **more: Any) -> Any:
            query = {name: value for name, value in (more.pop("query") or {}).items() if name in ("fields", "detail")}
            return read(self, method, path, query=query, **more)

    ironic.transport.__class__ = WithoutQuery
    assert ironic.node_of(NEXT) is None
    assert ironic.volume_targets(world.node) == []
    assert [target.volume_id for target in ironic.volume_targets(other)] == ["theirs"]
    assert {port.node_uuid for port in ironic.ports(other)} == {other}


# The real thing


@pytest.mark.lab
def test_on_a_real_ironic_the_next_instance_gets_nothing_of_the_former(site: Site) -> None:
    name = "node-4"
    uuid, api = site.node(name).uuid, site.api()
    site.patch(uuid, instance_info=LEFT_IN_INSTANCE_INFO)
    left = site.ironic.attach_vif(site.node(name), "private")["id"]
    with pytest.raises(NodeUnavailable, match=left):
        api.deploy(site.request("web-1", node=name))
    assert site.ironic.vifs(site.node(name)) == [left]
    _detach(api, uuid, left)
    api.deploy(site.request("web-1", node=name, nics=(Nic(network="private"),), guest=Guest(config_drive=False)))
    info = site.row(name)["instance_info"]
    assert info["image_source"] == site.image.url
    assert not {key for key, value in LEFT_IN_INSTANCE_INFO.items() if info.get(key) == value}
    assert "configdrive" not in info
    assert "traits" not in info
    api.destroy("web-1", wait_for_cleaning=True)
    site.assert_free(name)


def _detach(api: Bloomery, node_uuid: str, vif_id: str) -> None:
    """The operator has taken his VIF away."""
    api.services.ironic.detach_vif(node_uuid, vif_id)
    assert api.services.neutron is not None
    api.services.neutron.delete_port(vif_id)
