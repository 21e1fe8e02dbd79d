"""Consoles for Nova's proxies. One that runs is left to whoever is on it: Nova asks for its address again and again.

Nobody says when he is done with one. What nova-compute has started is stopped when nobody has asked for it in a while. That
it was nova-compute, and not an operator, is kept with the server in Nova's database, so that the next nova-compute knows.
"""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

from nova import context as nova_context
from nova import objects
from nova.console import type as console_type

from bloomery.deadline import Clock, Deadline, SystemClock
from bloomery.doors.nova.config import CONF, options, quick_timeout_s
from bloomery.doors.nova.errors import NOVA_IS_AWAY
from bloomery.errors import BloomeryError, ConsoleFailed
from bloomery.ironic import Node
from bloomery.operations import console
from bloomery.operations.run import Services
from bloomery.plain import logger

log = logger(__name__)

NOTE, STARTED = "bloomery_console", "started"
"""What the server's `system_metadata` has while a console of its runs that nova-compute has started."""


def idle_timeout_s() -> float:
    """After how long nobody can be on a console, or is taken to be; 0 means never."""
    # Nova has the option since 2025.1.
    if getattr(CONF.consoleauth, "enforce_session_timeout", False):
        return float(CONF.consoleauth.token_ttl)
    return float(CONF.bloomery.console_idle_timeout)


class Consoles:
    """The consoles that nova-compute has started, and when each was asked for last. Safe to share between threads.

    One without a note at its server was started by somebody else, or by Nova's own driver, and is left alone.
    """

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self._lock = threading.Lock()
        self._asked_for: dict[str, tuple[str, float]] = {}
        self._knows_earlier = False

    def serial(self, services: Services, instance: Any, node: Node) -> Any:
        """Where nova-serialproxy finds the console, which runs.

        Raises:
            NodeUnavailable, ConsoleFailed: there is none, or none that the proxy could use.
        """
        self._asked(instance, node)
        return _serial(services, node)

    def vnc(self, services: Services, instance: Any, node: Node) -> Any:
        """Where nova-novncproxy finds the console, which runs: behind Ironic's own proxy, whose address Ironic gives to users.

        Raises:
            NodeUnavailable, ConsoleFailed: there is none.
        """
        self._asked(instance, node)
        return _vnc(services, node)

    def _asked(self, instance: Any, node: Node) -> None:
        """Somebody wants the server's console, now; the node as it was before."""
        if not node.console_enabled:
            # Before it runs: a note without a console does no harm, a console without a note would run for ever.
            _note(instance, runs=True)
        elif NOTE not in instance.system_metadata:
            return
        with self._lock:
            self._asked_for[node.uuid] = (instance.uuid, self.clock.monotonic())

    def stop_idle(self, services: Services) -> None:
        """Those that nobody has asked for lately do not run, unless their node carries another instance by now."""
        idle_s, now = idle_timeout_s(), self.clock.monotonic()
        self._know_earlier()
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
                    _forget(instance_uuid)
            except BloomeryError as problem:
                log.warning("the console of node %s could not be stopped: %s", node_uuid, problem)

    def stop_for_good(self, services: Services, instance: Any, node: Node) -> None:
        """The console that was started for the server does not outlive it, as far as that can be had.

        Ironic stops a console with the tear-down and starts it again with the next deploy: for whoever has the node then.
        """
        if not node.console_enabled or node.instance_uuid != instance.uuid:
            return
        with self._lock:
            self._asked_for.pop(node.uuid, None)
        try:
            if NOTE in instance.system_metadata:
                console.disable(services, node, options(CONF.ironic.serial_console_state_timeout or None), force=True)
        except (BloomeryError, *NOVA_IS_AWAY) as problem:
            log.warning("the console of node %s could not be stopped: %s", node.label, problem)

    def _know_earlier(self) -> None:
        """Those that an earlier nova-compute of this host has started count as asked for now, the first time."""
        if self._knows_earlier:
            return
        wanted = {"host": CONF.host, "deleted": False, "system_metadata": {NOTE: STARTED}}
        try:
            noted = objects.InstanceList.get_by_filters(nova_context.get_admin_context(), wanted, expected_attrs=[])
        except NOVA_IS_AWAY as problem:
            log.info("which consoles an earlier nova-compute has started is looked for later: %s", problem)
            return
        self._knows_earlier = True
        with self._lock:
            for instance in noted:
                self._asked_for.setdefault(instance.node, (instance.uuid, self.clock.monotonic()))


def _forget(instance_uuid: str) -> None:
    """The server's console was stopped."""
    try:
        attributes = ["system_metadata"]
        context = nova_context.get_admin_context()
        _note(objects.Instance.get_by_uuid(context, instance_uuid, expected_attrs=attributes), runs=False)
    except NOVA_IS_AWAY as problem:
        log.info("server %s: that its console was stopped is not noted: %s", instance_uuid, problem)


def _note(instance: Any, *, runs: bool) -> None:
    """The server says whether a console of its runs that nova-compute has started."""
    if runs:
        instance.system_metadata[NOTE] = STARTED
    else:
        instance.system_metadata.pop(NOTE, None)
    instance.save()


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
