"""What the driver asks of Ironic, and what it holds of each node: counts that must not grow unseen."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from nova import exception, objects
from nova.compute import provider_tree

from bloomery.doors.nova.config import Connection
from bloomery.testing import Fault, FaultKind
from bloomery.watch import Watch
from doors_nova.nova_world import CONF, HOST, NovaWorld, a_nova_world
from sizes import deep_size
from unwind.scenarios import FAST

MOST_REQUESTS = 8
"""For a server with one VIF and a config drive, without those that wait."""

MOST_BYTES = 1000
"""Of memory for each node that is held, whether it carries a server or not: all that is known of it, and its place in indexes."""


def test_a_build_asks_ironic_for_little(world: NovaWorld) -> None:
    world.ironic.set(world.node, storage_interface="noop")
    world.driver.get_available_nodes()
    instance, network_info = world.instance(), world.network_info()
    asked: list[str] = []
    world.ironic.on_request = lambda request: asked.append(f"{request.method} {request.path}")
    world.spawn(instance, network_info)
    world.ironic.on_request = None
    waiting = asked.index(f"PUT /v1/nodes/{world.node}/states/provision") + 1
    assert waiting <= MOST_REQUESTS, asked[:waiting]
    assert set(asked[waiting:]) <= {f"GET /v1/nodes/{world.node}", "GET /v1/nodes"}, asked[waiting:]


def fill(world: NovaWorld, count: int) -> list[str]:
    """So many nodes, each with a server of ours; returns them."""
    nodes = []
    for number in range(count):
        instance_uuid = str(uuid.uuid4())
        nodes.append(
            world.ironic.add_node(
                f"rack-{number}",
                ports=0,
                provision_state="active",
                power_state="power on",
                instance_uuid=instance_uuid,
                traits=["CUSTOM_LAB", "HW_CPU_X86_VMX", "HW_CPU_X86_AVX2"],
                properties={"cpus": 64, "memory_mb": 262144, "cpu_arch": "x86_64", "capabilities": "boot_mode:uefi"},
                extra={
                    "bloomery": {
                        "version": 1,
                        "operation": "deploy",
                        "manager": "nova",
                        "by": HOST,
                        "instance_uuid": instance_uuid,
                        "guard": {instance_uuid: True},
                        "name": f"web-{number}",
                        "vifs": {str(uuid.uuid4()): "given"},
                    }
                },
                instance_info={
                    "image_source": str(uuid.uuid4()),
                    "root_gb": "100",
                    "display_name": f"web-{number}",
                    "nova_host_id": HOST,
                },
            )
        )
        objects.Instance(
            world.context, uuid=instance_uuid, host=HOST, node=nodes[-1], compute_id=1, vm_state="active"
        ).create()
    return nodes


def test_a_node_takes_little_memory_while_it_is_held(world: NovaWorld) -> None:
    nodes = fill(world, 200)
    world.driver.get_available_nodes()
    tree = provider_tree.ProviderTree()
    for node_uuid in nodes:
        tree.new_root(node_uuid, node_uuid, generation=1)
        world.driver.update_provider_tree(tree, node_uuid)
    fleet, held = world.driver.nodes._fleet, world.driver.nodes
    size = deep_size(
        fleet._outlines, fleet._by_instance, fleet._learned, fleet._doubted, held._managed, held._our_traits, held._told
    )
    assert size / len(nodes) <= MOST_BYTES
    before = size
    for node_uuid in nodes[:50]:
        world.ironic.set(node_uuid, maintenance=True)
    world.driver.get_available_nodes()
    for node_uuid in nodes[:50]:
        world.ironic.set(node_uuid, maintenance=False)
    world.driver.get_available_nodes()
    for node_uuid in nodes:
        world.driver.update_provider_tree(tree, node_uuid)
    after = deep_size(
        fleet._outlines, fleet._by_instance, fleet._learned, fleet._doubted, held._managed, held._our_traits
    )
    assert after / len(nodes) <= MOST_BYTES, (before, after)


def test_a_look_at_all_nodes_is_one_request_where_little_has_changed_and_telling_of_them_is_none(
    world: NovaWorld,
) -> None:
    nodes = fill(world, 30)
    world.driver.get_available_nodes()
    world.driver.get_available_nodes()
    world.ironic.requests.clear()
    assert set(world.driver.get_available_nodes()) >= set(nodes)
    assert len(world.ironic.requests) == 1
    servers = objects.InstanceList.get_by_host(world.context, HOST)
    assert len(servers) == 30
    for server in servers:
        assert world.driver.get_info(server).state == 1
    assert len(world.ironic.requests) == 1


MOST_REQUESTS_IN_A_CROWD = {"build": 9, "destroy": 8}
"""For each of many servers that are built or destroyed at once by an Ironic that is busy, its share of the waiting included."""
PER_REFUSAL = 2
"""Besides: what Ironic has no worker for is asked for once more, after another look at the node."""
SERVERS, WORKERS = 40, 4
"""So many servers at once, and so many deploys or tear-downs that Ironic takes at a time."""


@pytest.fixture
def small_ironic(world: NovaWorld) -> Iterator[NovaWorld]:
    """A world with an Ironic that has few workers, watched as it is in a nova-compute."""
    with a_nova_world(max_workers=WORKERS) as small:
        small.ironic.timings = replace(FAST, deploy_s=0.05, tear_down_s=0.05, clean_s=0.05)
        for number in range(SERVERS):
            small.ironic.add_node(name=f"rack-{number}", ports=1)
        found = small.services()
        small.driver.connection = small.driver.nodes.connection = Connection(
            lambda: replace(found, watch=Watch(found.ironic))
        )
        yield small


def all_at_once(work: Callable[[Any, Any], None], servers: list[tuple[Any, Any]]) -> None:
    with ThreadPoolExecutor(len(servers)) as pool:
        for future in [pool.submit(work, *server) for server in servers]:
            future.result()


def test_many_servers_at_once_are_all_built_and_destroyed_by_an_ironic_of_few_workers_with_few_requests_each(
    small_ironic: NovaWorld,
) -> None:
    world = small_ironic
    nodes = [node["uuid"] for node in world.ironic.nodes() if node["name"].startswith("rack-")]
    for node in nodes:
        world.ironic.set(node, storage_interface="noop")
    world.driver.get_available_nodes()
    servers = [(world.instance(node=node), world.network_info()) for node in nodes]
    world.ironic.requests.clear()
    all_at_once(world.spawn, servers)
    assert Counter(world.seen(node)["provision_state"] for node in nodes) == {"active": SERVERS}
    built = list(world.ironic.requests)
    assert len([r for r in built if r.status == 503]) <= SERVERS, Counter(r.status for r in built)
    world.ironic.requests.clear()
    all_at_once(lambda instance, vifs: world.driver.destroy(world.context, instance, vifs), servers)
    assert {world.seen(node)["instance_uuid"] for node in nodes} == {None}
    destroyed = list(world.ironic.requests)
    assert len([r for r in destroyed if r.status == 503]) <= SERVERS, Counter(r.status for r in destroyed)
    for what, requests in {"build": built, "destroy": destroyed}.items():
        refusals = len([request for request in requests if request.status == 503])
        share = (len(requests) - PER_REFUSAL * refusals) / SERVERS
        assert share <= MOST_REQUESTS_IN_A_CROWD[what], Counter((r.method, r.status) for r in requests)


def test_plugging_may_take_as_long_as_a_deploy_because_many_servers_that_are_built_at_once_wait_for_each_other(
    world: NovaWorld,
) -> None:
    CONF.set_override("deploy_timeout", 2, group="bloomery")
    try:
        instance, network_info = world.instance(), world.network_info()
        world.driver.prepare_for_spawn(instance)
        world.ironic.on_request = lambda request: (
            Fault(FaultKind.STATUS, status=502) if request.method == "POST" else None
        )
        with pytest.raises(exception.VirtualInterfacePlugException, match="not finished within 2 s"):
            world.driver.prepare_networks_before_block_device_mapping(instance, network_info)
    finally:
        CONF.clear_override("deploy_timeout", group="bloomery")


def test_a_destroy_looks_at_the_node_once_before_it_asks_for_the_tear_down(world: NovaWorld) -> None:
    instance, network_info = world.running()
    world.ironic.requests.clear()
    world.driver.destroy(world.context, instance, network_info)
    asked = [f"{request.method} {request.path}" for request in world.ironic.requests]
    assert asked[:2] == [f"GET /v1/nodes/{world.node}", f"PUT /v1/nodes/{world.node}/states/provision"]
