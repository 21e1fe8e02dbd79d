"""An Ironic as far as its notifications go, over a real driver of oslo.messaging within the process."""

from __future__ import annotations

import uuid

from bloomery.bus import BusAddress, messaging

NODE = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"


def payload(node_uuid: str = NODE, provision_state: str | None = "active") -> dict[str, object]:
    """As Ironic sends it, with more than we read."""
    return {
        "ironic_object.name": "NodeSetProvisionStatePayload",
        "ironic_object.namespace": "ironic",
        "ironic_object.version": "1.18",
        "ironic_object.data": {"uuid": node_uuid, "provision_state": provision_state, "event": "done", "name": "n"},
    }


class NotifyingIronic:
    """Sends notifications as Ironic does, over kombu's transport within the process."""

    def __init__(self) -> None:
        self.url = "kombu+memory:////"
        self.topic = f"ironic_versioned_notifications-{uuid.uuid4()}"
        oslo_messaging, cfg = messaging()
        conf = cfg.ConfigOpts()
        transport = oslo_messaging.get_notification_transport(conf, url=self.url)
        transport._driver._default_exchange = "ironic"
        self._notifier = oslo_messaging.Notifier(
            transport, publisher_id="ironic-conductor.lab", driver="messagingv2", topics=[self.topic]
        )
        self.transport = transport

    def address(self, pool: str = "bloomery-test") -> BusAddress:
        return BusAddress.of(self.url, pool=pool, topic=self.topic)

    def send(self, event_type: str, content: object, level: str = "info") -> None:
        getattr(self._notifier, level)({}, event_type, content)

    def close(self) -> None:
        self.transport.cleanup()
