"""Where the messages of Nova's services wait: one exchange, reached over XML-RPC.

That is HTTP, which every Python of every release speaks as its process does: with native threads or with eventlet's.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.client import ServerProxy
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

# How long one call to the exchange may wait there: a listener that is to stop notices within this time.
_TURN_S = 1.0


@dataclass(frozen=True)
class Envelope:
    """A message on its way, with the name under which its reply is awaited."""

    context: str
    message: str
    reply_to: str | None


@dataclass(frozen=True)
class Listener:
    """Somebody who takes messages of a topic, or of that server within it."""

    topic: str
    server: str


class Exchange:
    """Messages that wait for whoever takes them; queues outlive their listeners, as a broker's do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._queues: dict[tuple[str, str | None], deque[Envelope]] = defaultdict(deque)
        self._listeners: dict[int, Listener] = {}
        self._replies: dict[str, queue.SimpleQueue[str]] = {}

    def listen(self, topic: str, server: str) -> int:
        """Messages of that topic and server come to this listener alone; an earlier one gets no more."""
        with self._changed:
            self._drop(topic, server)
            number = next(self._numbers)
            self._listeners[number] = Listener(topic, server)
            self._changed.notify_all()
            return number

    def leave(self, number: int) -> None:
        """The listener takes nothing any more."""
        with self._changed:
            self._listeners.pop(number, None)
            self._changed.notify_all()

    def drop_server(self, server: str) -> None:
        """No listener of that server takes anything any more: its process is gone."""
        with self._changed:
            for number, listener in list(self._listeners.items()):
                if listener.server == server:
                    del self._listeners[number]
            self._changed.notify_all()

    def _drop(self, topic: str, server: str) -> None:
        for number, listener in list(self._listeners.items()):
            if listener == Listener(topic, server):
                del self._listeners[number]

    def send(self, topic: str, server: str | None, is_fanout: bool, content: dict[str, Any]) -> None:
        """The message waits for its listener or, as a fanout, for each one that there is."""
        envelope = Envelope(**content)
        with self._changed:
            if envelope.reply_to:
                self._replies[envelope.reply_to] = queue.SimpleQueue()
            servers: list[str | None] = [server]
            if is_fanout:
                servers = [listener.server for listener in self._listeners.values() if listener.topic == topic]
            for each in servers:
                self._queues[topic, each].append(envelope)
            self._changed.notify_all()

    def take(self, number: int) -> Envelope | None:
        """The next message for the listener; None if none came for a while."""
        with self._changed:
            deadline = time.monotonic() + _TURN_S
            while (listener := self._listeners.get(number)) is not None:
                for key in ((listener.topic, listener.server), (listener.topic, None)):
                    if self._queues[key]:
                        return self._queues[key].popleft()
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
        # It was dropped; it need not ask again soon.
        return None

    def reply(self, reply_to: str, answer: str) -> None:
        """Whoever waits for the reply has it."""
        waiting = self._replies.get(reply_to)
        if waiting is not None:
            waiting.put(answer)

    def await_reply(self, reply_to: str, timeout_s: float) -> str | None:
        """The reply; None if it did not come within the time."""
        try:
            return self._replies[reply_to].get(timeout=timeout_s)
        except queue.Empty:
            return None
        finally:
            self._replies.pop(reply_to, None)


class _Server(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True
    request_queue_size = 50


def serve(port: int, key: str) -> None:
    """The exchange answers on that port to whoever knows the key, in threads of this process."""
    exchange = Exchange()

    class Handler(SimpleXMLRPCRequestHandler):
        protocol_version = "HTTP/1.1"
        rpc_paths = (f"/{key}",)

    server = _Server(("127.0.0.1", port), Handler, logRequests=False, allow_none=True)
    server.register_instance(exchange)
    threading.Thread(target=server.serve_forever, daemon=True, name="bus").start()


class Client:
    """The exchange behind that port; each thread has a connection of its own."""

    def __init__(self, port: int, key: str) -> None:
        self._url = f"http://127.0.0.1:{port}/{key}"
        self._local = threading.local()

    @property
    def _exchange(self) -> Any:
        if not hasattr(self._local, "proxy"):
            self._local.proxy = ServerProxy(self._url, allow_none=True)
        return self._local.proxy

    def close(self) -> None:
        """This thread's connection is closed; those of other threads end with them."""
        if hasattr(self._local, "proxy"):
            self._local.proxy("close")()

    def listen(self, topic: str, server: str) -> int:
        """Messages of that topic and server come to this listener alone; an earlier one gets no more."""
        return int(self._exchange.listen(topic, server))

    def leave(self, number: int) -> None:
        """The listener takes nothing any more."""
        self._exchange.leave(number)

    def drop_server(self, server: str) -> None:
        """No listener of that server takes anything any more: its process is gone."""
        self._exchange.drop_server(server)

    def send(self, topic: str, server: str | None, *, is_fanout: bool, envelope: Envelope) -> None:
        """The message waits for its listener or, as a fanout, for each one that there is."""
        self._exchange.send(topic, server, is_fanout, envelope)

    def take(self, number: int) -> Envelope | None:
        """The next message for the listener; None if none came for a while."""
        taken = self._exchange.take(number)
        return None if taken is None else Envelope(**taken)

    def reply(self, reply_to: str, answer: str) -> None:
        """Whoever waits for the reply has it."""
        self._exchange.reply(reply_to, answer)

    def await_reply(self, reply_to: str, timeout_s: float) -> str | None:
        """The reply; None if it did not come within the time."""
        reply: str | None = self._exchange.await_reply(reply_to, timeout_s)
        return reply
