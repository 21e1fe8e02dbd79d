"""Nova's driver and Ironic's notifications: what is told ends a build at once, and nothing depends on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bloomery.doors.nova.config import Connection, listen
from bloomery.watch import Watch
from doors_nova.nova_world import CONF, NovaWorld
from notifying import NotifyingIronic, payload

WAIT_S = 30.0
AN_HOUR_S = 3600.0


@pytest.fixture
def notifying() -> Iterator[NotifyingIronic]:
    """nova.conf names the bus, and the topic of this test alone."""
    ironic = NotifyingIronic()
    for name, value in {"notification_url": ironic.url, "notification_topic": ironic.topic}.items():
        CONF.set_override(name, value, group="bloomery")
    yield ironic
    for name in ("notification_url", "notification_topic"):
        CONF.clear_override(name, group="bloomery")
    ironic.close()


def test_a_build_ends_when_ironic_tells_that_the_node_is_active(world: NovaWorld, notifying: NotifyingIronic) -> None:
    found = world.services()
    # Without being told it would look again in an hour.
    watch = Watch(found.ironic, shortest_s=AN_HOUR_S, longest_s=AN_HOUR_S)
    world.driver.connection = world.driver.nodes.connection = Connection(lambda: replace(found, watch=watch))
    bus = listen(watch)
    assert bus is not None
    try:
        assert bus.is_listening.wait(WAIT_S)
        is_built = threading.Event()

        def tell() -> None:
            while not is_built.wait(0.05):
                state = world.seen(world.node)["provision_state"]
                notifying.send("baremetal.node.provision_set.end", payload(world.node, state))

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            world.spawn(world.instance(), world.network_info())
        finally:
            is_built.set()
            teller.join()
    finally:
        bus.close()
    assert world.seen(world.node)["provision_state"] == "active"


def test_a_nova_conf_that_names_no_bus_listens_to_none(world: NovaWorld) -> None:
    assert listen(world.services().watch) is None


def test_a_bus_that_is_away_keeps_no_server_from_being_built(world: NovaWorld, notifying: NotifyingIronic) -> None:
    CONF.set_override("notification_url", "rabbit://nobody:nothing@127.0.0.1:1/", group="bloomery")
    found = world.services()
    world.driver.connection = world.driver.nodes.connection = Connection(lambda: found)
    bus = listen(found.watch)
    assert bus is not None
    try:
        world.spawn(world.instance(), world.network_info())
    finally:
        bus.close(timeout_s=0.1)
    assert world.seen(world.node)["provision_state"] == "active"
