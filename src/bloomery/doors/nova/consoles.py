"""Consoles for Nova's proxies. One that runs is left to whoever is on it: Nova asks for its address again and again.

Nobody says when he is done with one. What this service has started is stopped when nobody has asked for it in a while.
"""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

from nova.console import type as console_type

from bloomery.deadline import Clock, Deadline, SystemClock
from bloomery.doors.nova.config import CONF, options, quick_timeout_s
from bloomery.errors import BloomeryError, ConsoleFailed
from bloomery.ironic import Node
from bloomery.operations import console
from bloomery.operations.run import Services
from bloomery.plain import logger

log = logger(__name__)


def idle_timeout_s() -> float:
    """After how long nobody can be on a console, or is taken to be; 0 means never."""
    # Nova has the option since 2025.1.
    if getattr(CONF.consoleauth, "enforce_session_timeout", False):
        return float(CONF.consoleauth.token_ttl)
    return float(CONF.bloomery.console_idle_timeout)


class Consoles:
    """The consoles that this service has started, and when each was asked for last. Safe to share between threads.

    One that ran before is an operator's, or of a service that has ended, and is left to the tear-down.
    """

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self._lock = threading.Lock()
        self._asked_for: dict[str, tuple[str | None, float]] = {}

    def serial(self, services: Services, node: Node) -> Any:
        """Where nova-serialproxy finds the console, which runs.

        Raises:
            NodeUnavailable, ConsoleFailed: there is none, or none that the proxy could use.
        """
        self._asked(node)
        return _serial(services, node)

    def vnc(self, services: Services, node: Node) -> Any:
        """Where nova-novncproxy finds the console, which runs: behind Ironic's own proxy, whose address Ironic gives to users.

        Raises:
            NodeUnavailable, ConsoleFailed: there is none.
        """
        self._asked(node)
        return _vnc(services, node)

    def _asked(self, node: Node) -> None:
        """Somebody wants the node's console, now; the node as it was before."""
        with self._lock:
            if not node.console_enabled or node.uuid in self._asked_for:
                self._asked_for[node.uuid] = (node.instance_uuid, self.clock.monotonic())

    def stop_idle(self, services: Services) -> None:
        """Those that nobody has asked for lately do not run, unless their node carries another instance by now."""
        idle_s, now = idle_timeout_s(), self.clock.monotonic()
        with self._lock:
            idle = {
                node_uuid: instance_uuid
                for node_uuid, (instance_uuid, asked_at) in self._asked_for.items()
                if idle_s and now - asked_at >= idle_s
            }
            for node_uuid in idle:
                del self._asked_for[node_uuid]
        for node_uuid, instance_uuid in idle.items():
            try:
                node = services.ironic.within(Deadline(quick_timeout_s())).node(node_uuid)
                if node.instance_uuid == instance_uuid:
                    console.disable(services, node, options(), force=True)
                    log.info("the console of node %s was stopped: nobody asked for it in %d s", node.label, idle_s)
            except BloomeryError as problem:
                log.warning("the console of node %s could not be stopped: %s", node_uuid, problem)


def _serial(services: Services, node: Node) -> Any:
    found = console.enable(services, node, options(CONF.ironic.serial_console_state_timeout or None))
    try:
        url = urlsplit(found.url)
        port = url.port
    except ValueError:
        raise ConsoleFailed(f"the console's address {found.url!r} is none", node_uuid=node.uuid) from None
    if found.kind != "socat" or url.scheme != "tcp" or not url.hostname or not port:
        raise ConsoleFailed(
            f"the console of node {node.label} is none for nova-serialproxy",
            reason=f"it is {found.kind} at {found.url}",
            advice="Give the node a console interface that ends in -socat",
            node_uuid=node.uuid,
        )
    return console_type.ConsoleSerial(host=url.hostname, port=port)


def _vnc(services: Services, node: Node) -> Any:
    # Nova has the option since 2026.1.
    how = options(getattr(CONF.ironic, "vnc_console_state_timeout", 60) or None)
    found = console.enable(services, node, how)
    where = services.ironic.node(node.uuid, fields=("uuid", "driver_internal_info")).driver_internal_info
    if found.kind != "vnc" or not where.vnc_host or not where.vnc_port:
        raise ConsoleFailed(
            f"the console of node {node.label} is none for nova-novncproxy",
            reason=f"it is {found.kind}",
            advice="Give the node a console interface that ends in -graphical",
            node_uuid=node.uuid,
        )
    return console_type.ConsoleVNC(host=where.vnc_host, port=int(where.vnc_port))
