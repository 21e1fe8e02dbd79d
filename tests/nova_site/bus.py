# ruff: noqa: ARG002
"""A message bus between Nova's services in different processes, as a driver of oslo.messaging.

oslo.messaging's own drivers need a broker, but for `fake://`, which stays within one process. `install` puts this driver in its
place, so that nova-compute is a process of its own that can be killed and come back. The transport URL says where the
exchange is: `fake://bus:<key>@127.0.0.1:<port>/`.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import base, impl_fake
from oslo_messaging._drivers import common as rpc_common
from oslo_serialization import jsonutils

from nova_site.exchange import Client, Envelope

_REPLY_TIMEOUT_S = 120.0


class _Incoming(base.RpcIncomingMessage):  # type: ignore[misc]
    def __init__(self, exchange: Client, envelope: Envelope) -> None:
        super().__init__(jsonutils.loads(envelope.context), jsonutils.loads(envelope.message))
        self._exchange = exchange
        self._reply_to = envelope.reply_to

    def reply(self, reply: object = None, failure: Any = None) -> None:
        if self._reply_to:
            what = {"failure": rpc_common.serialize_remote_exception(failure)} if failure else {"reply": reply}
            self._exchange.reply(self._reply_to, jsonutils.dumps(what))

    def requeue(self) -> None:
        raise RuntimeError("nothing of Nova gives a message back")

    def heartbeat(self) -> None:
        """The sender waits for its whole time, and needs no sign of life."""


class _PollListener(base.PollStyleListener):  # type: ignore[misc]
    def __init__(self, exchange: Client, topic: str, server: str) -> None:
        super().__init__()
        self._exchange = exchange
        self._number = exchange.listen(topic, server)
        self._is_stopped = threading.Event()

    @base.batch_poll_helper  # type: ignore[untyped-decorator]
    def poll(self, timeout: float | None = None) -> _Incoming | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_stopped.is_set():
            envelope = self._exchange.take(self._number)
            if envelope is not None:
                return _Incoming(self._exchange, envelope)
            if deadline is not None and time.monotonic() > deadline:
                return None
        return None

    def stop(self) -> None:
        self._is_stopped.set()
        self._exchange.leave(self._number)


class BusDriver(base.BaseDriver):  # type: ignore[misc]
    """oslo.messaging's way to the exchange."""

    def __init__(
        self, conf: Any, url: Any, default_exchange: str | None = None, allowed_remote_exmods: Any = None
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        (host,) = url.hosts
        self._exchange = Client(host.port, host.password)

    def require_features(self, requeue: bool = False) -> None:
        """Nova asks for none that is missing."""

    def send(
        self,
        target: Any,
        ctxt: Any,
        message: Any,
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        reply_to = uuid.uuid4().hex if wait_for_reply else None
        envelope = Envelope(jsonutils.dumps(ctxt), jsonutils.dumps(message), reply_to)
        self._exchange.send(target.topic, target.server, is_fanout=bool(target.fanout), envelope=envelope)
        if reply_to is None:
            return None
        answer = self._exchange.await_reply(reply_to, timeout or _REPLY_TIMEOUT_S)
        if answer is None:
            raise oslo_messaging.MessagingTimeout(f"no reply from {target.topic} {target.server or ''}")
        value = jsonutils.loads(answer)
        if "failure" in value:
            raise rpc_common.deserialize_remote_exception(value["failure"], self._allowed_remote_exmods)
        return value["reply"]

    def send_notification(self, target: Any, ctxt: Any, message: Any, version: Any, retry: Any = None) -> None:
        """Nobody listens to notifications here."""

    def listen(self, target: Any, batch_size: int, batch_timeout: float | None) -> Any:
        listener = _PollListener(self._exchange, target.topic, target.server)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def listen_for_notifications(
        self, targets_and_priorities: Any, pool: Any, batch_size: int, batch_timeout: float | None
    ) -> Any:
        raise RuntimeError("nothing of Nova listens to notifications")

    def cleanup(self) -> None:
        """Connections end with their threads."""


def install() -> None:
    """`fake://` is this bus in this process."""
    impl_fake.FakeDriver = BusDriver
