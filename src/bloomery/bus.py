"""Ironic's notifications on its message bus, as a hint to whoever waits: look at this node now.

Nothing rests on them. What is lost, late, double or wrong on the bus costs nothing but time, because what a node is like
is only ever read from Ironic; without a bus it is looked for as often as without notifications.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.errors import InvalidRequest
from bloomery.plain import logger
from bloomery.secret import Secret

log = logger(__name__)

TOPIC, EXCHANGE = "ironic_versioned_notifications", "ironic"
"""Ironic's own defaults: `[DEFAULT]versioned_notifications_topics` and `control_exchange`."""
ENDS = ("end", "success", "error")
"""Of what an event tells. `start` is left out: nobody waits for a beginning."""
LOOK_EVERY_S = 2.0
"""How often it is looked at whether the connection stands."""
RETRY_S = 30.0
"""The pause before a bus that could not be listened to is tried again; one that is lost afterwards comes back by itself."""

Heard = Callable[[str, str | None], None]
"""Is told the UUID of a node, and the provision state that it is said to be in. Has to return soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAddress:
    """Where Ironic's notifications are.

    Attributes:
        url: as oslo.messaging takes it: `rabbit://user:password@host:5672/`.
        pool: the queue that gets a copy of each notification; who shares one shares the notifications, too, so that each
            process that is to hear all of them needs its own. Empty takes Ironic's own queue.
        topic: Ironic's `[DEFAULT]versioned_notifications_topics`.
        exchange: Ironic's `control_exchange`.
    """

    url: Secret[str]
    pool: str
    topic: str = TOPIC
    exchange: str = EXCHANGE

    @classmethod
    def of(cls, url: str, *, pool: str, topic: str = TOPIC, exchange: str = EXCHANGE) -> BusAddress:
        """The same of a plain URL."""
        return cls(url=Secret(url), pool=pool, topic=topic, exchange=exchange)


def messaging() -> tuple[Any, Any]:
    """oslo.messaging, and oslo.config's `cfg`, set to work with threads unless this process has chosen otherwise.

    Raises:
        InvalidRequest: they are not installed.
    """
    try:
        with warnings.catch_warnings():
            # What these libraries have against each other, eventlet foremost, which they import where it is installed.
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):  # older ones of oslo.service do not ask
                from oslo_service import backend

                if backend.get_backend_type() is None:
                    backend.init_backend(backend.BackendType.THREADING)
            import oslo_messaging
            from oslo_config import cfg
    except ImportError as missing:
        raise InvalidRequest(
            "the message bus cannot be listened to",
            reason=str(missing),
            advice="Install Bloomery with its extra `bus`: pip install 'bloomery[bus]'",
        ) from missing
    return oslo_messaging, cfg


class Bus:
    """Listens to Ironic's notifications, in threads of its own, from `start` until `close`. Safe to share between threads.

    Args:
        address: where they are.
        conf: oslo's configuration, whose `[oslo_messaging_rabbit]` holds for the connection; None means its defaults.

    Raises:
        InvalidRequest: oslo.messaging is not installed.
    """

    def __init__(self, address: BusAddress, *, conf: Any = None) -> None:
        oslo_messaging, cfg = messaging()
        self._messaging = oslo_messaging
        self._conf = conf if conf is not None else cfg.ConfigOpts()
        self.address = address
        self._listeners: tuple[Heard, ...] = ()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_listening = threading.Event()

    def tell(self, heard: Heard) -> None:
        """From now on it is told of every change, too; `Watch.heard` is one that can be."""
        with self._lock:
            self._listeners = (*self._listeners, heard)

    def start(self) -> None:
        """Begin to listen. Returns at once, whether the bus is there or not; one that is away is tried again.

        Raises:
            InvalidRequest: the address is none.
        """
        try:
            transport = self._messaging.get_notification_transport(self._conf, url=self.address.url.reveal())
        except self._messaging.MessagingException as problem:
            # In its own words there may be the password.
            raise InvalidRequest(
                "the address of the message bus is none",
                reason=type(problem).__name__,
                advice="rabbit://user:password@host/",
            ) from None
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, args=(transport,), name="bloomery-bus", daemon=True
                )
                self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Listen no more. Waits so long at most for what is under way."""
        self._ended.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _listen(self, transport: Any) -> None:
        target = self._messaging.Target(topic=self.address.topic, exchange=self.address.exchange)
        while not self._ended.is_set():
            try:
                server = self._messaging.get_notification_listener(
                    transport, [target], [_Endpoint(self._told)], pool=self.address.pool or None
                )
                server.start()
            except Exception as problem:  # noqa: BLE001  whatever a driver raises: without the bus everything works, too
                log.warning("the message bus cannot be listened to: %s; again in %d s", type(problem).__name__, RETRY_S)
                self._ended.wait(RETRY_S)
                continue
            log.info("listening to Ironic's notifications")
            self.is_listening.set()
            while not self._ended.wait(LOOK_EVERY_S):
                self._stands(_is_connected(server))
            self.is_listening.clear()
            server.stop()
            server.wait()
        transport.cleanup()

    def _stands(self, is_there: bool) -> None:
        if is_there and not self.is_listening.is_set():
            log.info("listening to Ironic's notifications again")
            self.is_listening.set()
        elif not is_there and self.is_listening.is_set():
            log.warning("the message bus is away; it is listened to again when it is back")
            self.is_listening.clear()

    def _told(self, event_type: object, payload: object) -> None:
        change = change_of(event_type, payload)
        if change is not None:
            for heard in self._listeners:
                heard(*change)


def _is_connected(server: Any) -> bool:
    """Whether the listener's connection stands, as far as that can be told.

    A driver of oslo.messaging makes one that was lost anew by itself, and tells nobody of either: kombu's own object knows.
    """
    found = server
    for name in ("listener", "_poll_style_listener", "conn", "connection", "connection"):
        found = getattr(found, name, None)
    return bool(getattr(found, "connected", True))


def change_of(event_type: object, payload: object) -> tuple[str, str | None] | None:
    """The node that a notification is about, and the provision state that it says; None if it tells of no change.

    Args:
        event_type: `baremetal.node.provision_set.success`, say.
        payload: the versioned object, as it comes over the wire; may be anything.
    """
    words = event_type.split(".") if isinstance(event_type, str) else []
    if words[:2] != ["baremetal", "node"] or words[-1] not in ENDS:
        return None
    data = payload.get("ironic_object.data") if isinstance(payload, Mapping) else None
    node_uuid = data.get("uuid") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(node_uuid, str):
        return None
    state = data.get("provision_state")
    return node_uuid, state if isinstance(state, str) else None


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What oslo.messaging calls: a method for each level that Ironic sends at."""

    told: Callable[[object, object], None]

    def info(self, _context: Any, _publisher: Any, event_type: Any, payload: Any, _metadata: Any) -> None:
        """A notification of that level."""
        self.told(event_type, payload)

    warn = error = critical = debug = info
