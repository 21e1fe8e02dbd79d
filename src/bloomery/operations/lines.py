"""Where serial consoles are, as Ironic said once, for as long as what it shows of the node says that this still holds.

To ask Ironic 39.0.0 where a serial console is ends the session of whoever is on it (`IPMISocatConsole.get_console`), and takes
as long as Ironic lets pass between two words to one BMC: `[ipmi]min_command_interval`, 5 s if nobody sets it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from bloomery.errors import BloomeryError
from bloomery.ironic import Ironic
from bloomery.plain import logger

log = logger(__name__)

_FIELDS = ("uuid", "instance_uuid", "console_enabled", "conductor", "driver_info", "driver_internal_info")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """Where a console is.

    Attributes:
        kind: `socat`, `shellinabox`, `vnc` ….
        url: where it listens: `tcp://…`, `http://…`.
    """

    kind: str
    url: str


class _Line(NamedTuple):
    """A serial console that runs, as far as Ironic tells of it without a touch: while this is the same, its address is."""

    instance_uuid: str | None
    conductor: str
    port: str


class Lines:
    """What Ironic said of serial consoles. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_Line, ConsoleAddress]] = {}

    def address(self, ironic: Ironic, node_uuid: str) -> ConsoleAddress | None:
        """Where the node's console is, if that was told and still holds; None where Ironic has to be asked for it."""
        with self._lock:
            known = self._known.get(node_uuid)
        if known is None:
            return None
        if known[0] == _line(ironic, node_uuid):
            return known[1]
        self.forget(node_uuid)
        return None

    def learn(self, ironic: Ironic, node_uuid: str, address: ConsoleAddress) -> None:
        """Ironic has just said that the node's console is there; nothing is kept where it does not show enough of the node."""
        try:
            line = _line(ironic, node_uuid)
            port = urlsplit(address.url).port
        except (BloomeryError, ValueError) as problem:
            log.info("where the console of node %s is will be asked for again: %s", node_uuid, problem)
            return
        if line is not None and line.port == str(port):
            with self._lock:
                self._known[node_uuid] = line, address

    def forget(self, node_uuid: str) -> None:
        """Ironic is to be asked again."""
        with self._lock:
            self._known.pop(node_uuid, None)


def _line(ironic: Ironic, node_uuid: str) -> _Line | None:
    """How the node's serial console stands; None where it does not run, or Ironic does not tell enough of it."""
    now = ironic.node(node_uuid, fields=_FIELDS)
    port = now.driver_info.ipmi_terminal_port or now.driver_internal_info.allocated_ipmi_terminal_port
    if not now.console_enabled or now.conductor is None or port is None:
        return None
    return _Line(now.instance_uuid, now.conductor, str(port))
