"""Consoles for Nova's proxies. One that runs is left to whoever is on it: Nova asks for its address again and again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from nova.console import type as console_type

from bloomery.doors.nova.config import CONF, options
from bloomery.errors import ConsoleFailed
from bloomery.ironic import Node
from bloomery.operations import console
from bloomery.operations.run import Services


def serial(services: Services, node: Node) -> Any:
    """Where nova-serialproxy finds the console.

    Raises:
        NodeUnavailable, ConsoleFailed: there is none, or none that the proxy could use.
    """
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


def vnc(services: Services, node: Node) -> Any:
    """Where nova-novncproxy finds the console: behind Ironic's own proxy, whose address Ironic gives to users.

    Raises:
        NodeUnavailable, ConsoleFailed: there is none.
    """
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
