"""Ironic's notifications in the service, over a real driver of oslo.messaging: heard at once, and not needed."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bloomery.bus import BusAddress, messaging
from bloomery.doors.http.server import server_for
from bloomery.doors.http.settings import Settings
from bloomery.errors import InvalidRequest
from bloomery.testing import Timings
from doors_http import rabbitmq
from doors_http.http_site import DEPLOY, Site, cloud, connected, served
from doors_http.test_away import gauges
from doors_http.test_killed import at

pytestmark = pytest.mark.timeout(120)

NEVER_S = 3600.0
"""So seldom is Ironic asked in these tests that what is seen was seen because of a notification."""
BUS = "kombu+memory:////"


class Notifier:
    """Sends notifications as Ironic does.

    Args:
        url: where to; without it, kombu's transport within the process.
    """

    def __init__(self, url: str = BUS) -> None:
        self.url = url
        self.topic = f"ironic_versioned_notifications-{uuid4()}"
        oslo_messaging, cfg = messaging()
        self._transport = oslo_messaging.get_notification_transport(cfg.ConfigOpts(), url=url)
        self._transport._driver._default_exchange = "ironic"
        self._notifier = oslo_messaging.Notifier(
            self._transport, publisher_id="ironic-conductor.lab", driver="messagingv2", topics=[self.topic]
        )

    @property
    def address(self) -> BusAddress:
        """Where they are."""
        return BusAddress.of(self.url, pool="bloomery-serve-test", topic=self.topic)

    def tells(self, node: Any) -> None:
        """The node has changed."""
        data = {"uuid": node["uuid"], "provision_state": node["provision_state"]}
        self._notifier.info({}, "baremetal.node.provision_set.success", {"ironic_object.data": data})

    def close(self) -> None:
        """It sends nothing any more."""
        self._transport.cleanup()


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    notifier = Notifier()
    yield notifier
    notifier.close()


@contextmanager
def listening(folder: Path, address: BusAddress, **settings: Any) -> Iterator[Site]:
    """A service that was told of the bus."""
    with cloud() as (ironic, neutron), served(ironic, neutron, folder, bus=address, **settings) as site:
        site.wait_for(lambda: len(site.get("/v1/events?kind=node.appeared")["events"]) == 3)
        yield site


def test_what_ironic_notifies_is_an_event_without_waiting_for_the_next_look(tmp_path: Path, notifier: Notifier) -> None:
    with listening(tmp_path, notifier.address, refresh_s=NEVER_S) as site:
        site.wait_for(lambda: site.get("/v1")["bus"] is True)
        assert gauges(site.ask("GET", "/metrics").text)["bloomery_bus_listening"] == 1
        with site.listening("?kind=node.owner") as events:
            assert next(events)["event"] == "hello"
            for owner in ("first", "second"):
                site.ironic.set("node-1", owner=owner)
                notifier.tells(site.ironic.node("node-1"))
                assert next(events)["data"]["data"]["now"] == owner


def test_many_notifications_are_few_looks(tmp_path: Path, notifier: Notifier) -> None:
    with listening(tmp_path, notifier.address, refresh_s=NEVER_S) as site:
        site.wait_for(lambda: site.get("/v1")["bus"] is True)
        before = len(site.ironic.requests)
        site.ironic.set("node-1", owner="somebody")
        for _ in range(100):
            notifier.tells(site.ironic.node("node-1"))
        site.wait_for(lambda: site.get("/v1/nodes/node-1")["owner"] == "somebody")
        asked = [one for one in site.ironic.requests[before:] if one.path.startswith("/v1/nodes")]
        assert len(asked) < 50


def test_an_operation_hears_what_it_waits_for(tmp_path: Path, notifier: Notifier) -> None:
    with listening(tmp_path, notifier.address) as site:
        site.wait_for(lambda: site.get("/v1")["bus"] is True)
        watch = site.server.service.api.services.watch
        site.ironic.timings = Timings(agent_s=5.0)
        operation = site.begun("POST", "/v1/instances", DEPLOY)
        site.wait_for(lambda: at(site, operation, "wait for active"))
        watch.shortest_s = watch.longest_s = NEVER_S

        def has_ended() -> bool:
            for node in site.ironic.nodes():
                notifier.tells(node)
            return site.get(f"/v1/operations/{operation['id']}")["ended_at"] is not None

        site.wait_for(has_ended)
        assert site.ended(operation)["state"] == "succeeded"


def test_without_its_bus_the_service_sees_everything_all_the_same_and_says_so(tmp_path: Path) -> None:
    nowhere = BusAddress.of("rabbit://guest:guest@127.0.0.1:1/", pool="p")
    with listening(tmp_path, nowhere, refresh_s=0.1) as site:
        assert site.get("/v1")["bus"] is False
        assert gauges(site.ask("GET", "/metrics").text)["bloomery_bus_listening"] == 0
        site.ironic.set("node-1", owner="somebody")
        site.wait_for(lambda: site.get("/v1/nodes/node-1")["owner"] == "somebody")


@rabbitmq.NEEDED
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_bus_that_goes_away_is_said_to_be_away_and_heard_again_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "oslo.messaging")
    with rabbitmq.running(tmp_path / "bus") as broker, ExitStack() as stack:
        notifier = Notifier(broker.url)
        stack.callback(notifier.close)
        site = stack.enter_context(listening(tmp_path, notifier.address, refresh_s=NEVER_S))
        site.timeout_s = rabbitmq.START_S
        for owner in ("first", "second"):
            site.wait_for(lambda: site.get("/v1")["bus"] is True)
            site.ironic.set("node-1", owner=owner)
            notifier.tells(site.ironic.node("node-1"))
            site.wait_for(lambda owner=owner: site.get("/v1/nodes/node-1")["owner"] == owner)  # type: ignore[misc]
            if owner == "first":
                broker.kill()
                site.wait_for(lambda: site.get("/v1")["bus"] is False)
                assert gauges(site.ask("GET", "/metrics").text)["bloomery_bus_listening"] == 0
                broker.start()
    gc.collect()  # the client leaves sockets behind that the broker has closed


def test_an_address_that_is_none_ends_the_start_without_its_password(tmp_path: Path) -> None:
    address = BusAddress.of("carrier-pigeon://user:geheim@host/", pool="p")
    settings = Settings(port=0, state=tmp_path / "state", bus=address)
    with cloud() as (ironic, neutron), pytest.raises(InvalidRequest, match="address of the message bus") as refused:
        server_for(lambda: connected(ironic, neutron), settings)
    assert "geheim" not in str(refused.value)
