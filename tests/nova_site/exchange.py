"""Where the messages of Nova's services wait: one exchange in the control plane's process, reached over a local socket."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from typing import Any

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

    def send(self, topic: str, server: str | None, is_fanout: bool, envelope: Envelope) -> None:
        """The message waits for its listener or, as a fanout, for each one that there is."""
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


class _Manager(BaseManager):
    pass


_EXCHANGE = Exchange()
_Manager.register("exchange", callable=lambda: _EXCHANGE)


def serve(port: int, key: str) -> None:
    """The exchange answers on that port, in a thread of this process."""
    server = _Manager(("127.0.0.1", port), authkey=key.encode()).get_server()
    threading.Thread(target=server.serve_forever, daemon=True, name="bus").start()


def connect(port: int, key: str) -> Any:
    """The exchange behind that port."""
    manager = _Manager(("127.0.0.1", port), authkey=key.encode())
    manager.connect()
    return manager.exchange()  # type: ignore[attr-defined]
