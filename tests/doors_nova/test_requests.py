"""What the driver asks of Ironic to build a server: counts that must not grow unseen."""

from __future__ import annotations

from doors_nova.nova_world import NovaWorld

MOST_REQUESTS = 8
"""For a server with one VIF and a config drive, without those that wait."""


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
