"""What the driver asks of Ironic, and what it holds of each node: counts that must not grow unseen."""

from __future__ import annotations

import uuid

from nova import objects
from nova.compute import provider_tree

from doors_nova.nova_world import HOST, NovaWorld
from sizes import deep_size

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
