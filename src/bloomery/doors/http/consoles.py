"""Consoles in the page: one connection to each machine's serial line, and any number of people on it, one of whom types.

Ironic lets one connection through to a serial line, and a machine says nothing twice. So this service holds that
connection, keeps the last of what was said for whoever comes later, and says to everybody who else is there and who types.
Nobody is thrown out by anybody else: who takes over the typing leaves the one before him watching.

Everything here belongs to the event loop. What waits for Ironic or the log runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread

from bloomery.doors.http.access import Principal
from bloomery.doors.http.following import Following
from bloomery.doors.http.problems import Refusal, StoreUnavailable
from bloomery.doors.http.store import Store
from bloomery.doors.http.upstream import Cloud
from bloomery.errors import BloomeryError
from bloomery.operations.lines import ConsoleAddress
from bloomery.plain import logger

log = logger(__name__)

KEPT_BYTES = 256 * 1024
"""So much of what a machine said is kept for whoever comes later, or cannot read so fast."""
LINGER_S = 30.0
"""So long is the line held after the last one has left, so that who loads the page anew finds what was said."""
LOOK_EVERY_S = 1.0
"""How often it is looked at whether the console is still the instance's, and on."""
LEASE_S = 15.0
CONNECT_TIMEOUT_S = 10.0
MOST_VIEWERS = 64
_READ_BYTES = 16 * 1024
_SERIAL = "tcp"


class Standing(StrEnum):
    """How a line stands."""

    CONNECTING = "connecting"
    OPEN = "open"
    ENDED = "ended"


class Scrollback:
    """The last of what was said, by its place in all that was ever said.

    Args:
        most: how many bytes are kept.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._kept = bytearray()
        self.begin = 0

    @property
    def end(self) -> int:
        """How much was said in all."""
        return self.begin + len(self._kept)

    def add(self, said: bytes) -> None:
        """This was said."""
        self._kept += said
        surplus = len(self._kept) - self._most
        if surplus > 0:
            del self._kept[:surplus]
            self.begin += surplus

    def after(self, place: int, most: int) -> tuple[int, bytes]:
        """What was said from that place on, at most so much; and how much in between is kept no more."""
        lost = max(0, self.begin - place)
        first = place + lost - self.begin
        return lost, bytes(self._kept[first : first + most])


@dataclass(eq=False)
class Viewer:
    """Somebody on a line.

    Attributes:
        number: tells him from others of the same name.
        principal: who he is.
        place: up to where he has got what was said.
        rouse: is set when there is something new for him.
    """

    number: int
    principal: Principal
    place: int
    rouse: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[str, Any] | None = None


class Line:
    """The serial line of one instance's machine, as long as somebody is on it.

    Args:
        instance_uuid: whose.
        node_uuid: on which node.
        consoles: what it belongs to.
    """

    def __init__(self, instance_uuid: str, node_uuid: str, consoles: Consoles) -> None:
        self.instance_uuid = instance_uuid
        self.node_uuid = node_uuid
        self.standing = Standing.CONNECTING
        self.reason: str | None = None
        self.address: ConsoleAddress | None = None
        self.said = Scrollback()
        self.viewers: list[Viewer] = []
        self.typist: Viewer | None = None
        self.was_interrupted = False
        self._consoles = consoles
        self._upstream: asyncio.StreamWriter | None = None
        self._left_at: float | None = None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    # Who is on it

    def enter(self, viewer: Viewer, *, may_type: bool) -> None:
        """He is on the line; he types, if he may and nobody else does."""
        self.viewers.append(viewer)
        self._left_at = None
        if may_type and self.typist is None:
            self.typist = viewer
        self.rouse()

    def leave(self, viewer: Viewer) -> None:
        """He is not on the line any more; if he typed, nobody does."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
        if self.typist is viewer:
            self.typist = None
        if not self.viewers:
            self._left_at = time.monotonic()
        self.rouse()

    def give_typing(self, viewer: Viewer | None) -> None:
        """He types from now on, and whoever did before watches; None: nobody types."""
        self.typist = viewer
        self.rouse()

    def rouse(self) -> None:
        """Everybody looks what is new."""
        for viewer in self.viewers:
            viewer.rouse.set()

    def shown_to(self, viewer: Viewer) -> dict[str, Any]:
        """How the line stands, as it is told to him."""
        return {
            "standing": self.standing.value,
            "reason": self.reason,
            "you": viewer.number,
            "typist": self.typist.number if self.typist is not None else None,
            "viewers": [{"number": one.number, "name": one.principal.name} for one in self.viewers],
        }

    async def type(self, viewer: Viewer, typed: bytes) -> bool:
        """What he typed has gone to the machine; False: it is not his turn, or the line is not open."""
        upstream = self._upstream
        if self.typist is not viewer or upstream is None or self.standing is not Standing.OPEN:
            return False
        try:
            upstream.write(typed)
            await upstream.drain()
        except OSError:
            return False
        return True

    # The connection

    def end(self, reason: str) -> None:
        """It is over, and everybody on it is told why."""
        if self.standing is not Standing.ENDED:
            self.standing, self.reason = Standing.ENDED, reason
            self._keeper.cancel()
            self.rouse()

    async def _keep(self) -> None:
        """The line is open until it has to end."""
        checker = asyncio.get_running_loop().create_task(self._check())
        try:
            while self.standing is not Standing.ENDED:
                try:
                    await self._read(await self._where())
                except (OSError, TimeoutError) as problem:
                    self._stand(Standing.CONNECTING, f"the console cannot be reached: {problem}")
                except BloomeryError as problem:
                    self._stand(Standing.CONNECTING, problem.message)
                else:
                    self._stand(Standing.CONNECTING, "the console was interrupted")
                self.was_interrupted = True
                await asyncio.sleep(LOOK_EVERY_S)
        except Refusal as refusal:
            self._finish(refusal.detail)
        except asyncio.CancelledError:
            self._finish("the line was closed")
        except Exception:
            # A door's task: whatever it is, the others on the line are told that it is over.
            log.exception("the console of %s met a bug", self.instance_uuid)
            self._finish("the service has a bug here; its log has more")
        finally:
            checker.cancel()
            self._consoles.forget(self)

    def _stand(self, standing: Standing, reason: str | None = None) -> None:
        if (self.standing, self.reason) != (standing, reason):
            self.standing, self.reason = standing, reason
            self.rouse()

    def _finish(self, reason: str) -> None:
        if self.standing is not Standing.ENDED:
            self._stand(Standing.ENDED, reason)

    async def _where(self) -> tuple[str, int]:
        """Where the console listens.

        Raises:
            Refusal: it is none that can be shown as text, or another replica has it.
        """
        await to_thread.run_sync(self._consoles.hold, self)
        self.address = await to_thread.run_sync(self._consoles.ask, self)
        parts = urlsplit(self.address.url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme != _SERIAL or not host or not port:
            raise Refusal(409, "NoSerialConsole", "Ironic offers no serial console here that can be shown as text")
        return host, port

    async def _read(self, address: tuple[str, int]) -> None:
        """The line was open until the other side closed it."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address)
        self._upstream = writer
        self._stand(Standing.OPEN)
        try:
            while said := await reader.read(_READ_BYTES):
                self.said.add(said)
                self.rouse()
        finally:
            self._upstream = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _check(self) -> None:
        """The line is ended as soon as it is not the instance's, or nobody has been on it for a while."""
        held_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            if reason := self._consoles.why_over(self.instance_uuid, self.node_uuid):
                self.end(reason)
            elif self._left_at is not None and now - self._left_at > LINGER_S:
                self.end("nobody was there")
            elif now - held_at > LEASE_S / 3:
                held_at = now
                try:
                    await to_thread.run_sync(self._consoles.hold, self)
                except Refusal as refusal:
                    self.end(refusal.detail)


class Consoles:
    """All lines on which somebody is.

    Args:
        cloud: where consoles are asked for.
        following: the fleet.
        store: where replicas agree on which of them holds a line.
        holder: this replica.
    """

    def __init__(self, cloud: Cloud, following: Following, store: Store, *, holder: str) -> None:
        self._cloud = cloud
        self._following = following
        self._store = store
        self._holder = holder
        self._lines: dict[str, Line] = {}
        self._numbers = count(1)

    def enter(self, instance_uuid: str, node_uuid: str, principal: Principal, *, may_type: bool) -> tuple[Line, Viewer]:
        """He is on the instance's line, and gets what was said before.

        Raises:
            Refusal: too many are on it.
        """
        line = self._lines.get(instance_uuid)
        if line is None or line.standing is Standing.ENDED:
            line = self._lines[instance_uuid] = Line(instance_uuid, node_uuid, self)
        if len(line.viewers) >= MOST_VIEWERS:
            raise Refusal(
                429, "TooManyViewers", f"{MOST_VIEWERS} are on this console already", advice="Ask one of them to leave"
            )
        viewer = Viewer(next(self._numbers), principal, line.said.begin)
        line.enter(viewer, may_type=may_type)
        return line, viewer

    def on(self, instance_uuid: str) -> ConsoleAddress | None:
        """The console that this service is on, if it is.

        To ask Ironic 39.0.0 where a serial console is ends the session on it (`IPMISocatConsole.get_console`).
        """
        line = self._lines.get(instance_uuid)
        return line.address if line is not None and line.standing is Standing.OPEN else None

    def forget(self, line: Line) -> None:
        """The line is over, and with it what was said on it."""
        if self._lines.get(line.instance_uuid) is line:
            del self._lines[line.instance_uuid]

    def end(self) -> None:
        """Every line is over. Called in the event loop's thread."""
        for line in list(self._lines.values()):
            line.end("the service is ending")

    def why_over(self, instance_uuid: str, node_uuid: str) -> str | None:
        """Why nobody may be on the console any more, if so: what comes next on that machine may be another's."""
        pair = self._following.view.instance_by.get(instance_uuid)
        if pair is None or pair[1].uuid != node_uuid:
            return "the instance is not on this machine any more"
        return None if pair[1].console_enabled else "the console was stopped"

    def hold(self, line: Line) -> None:
        """This replica is the one that is on the line.

        Raises:
            Refusal: another is.
        """
        try:
            is_ours = self._store.lead(f"console {line.node_uuid}", self._holder, LEASE_S)
        except StoreUnavailable as problem:
            log.info("who holds the console of %s cannot be agreed on now: %s", line.node_uuid, problem)
            return
        if not is_ours:
            raise Refusal(409, "ConsoleElsewhere", "another replica of this service is on this console")

    def ask(self, line: Line) -> ConsoleAddress:
        """Where Ironic offers the console. After an interruption it is asked anew, which ends a session that hangs.

        Raises:
            Refusal: it runs no more.
            BloomeryError: Ironic does not say.
        """
        if line.was_interrupted:
            self._cloud.api.services.lines.forget(line.node_uuid)
            line.was_interrupted = False
        address = self._cloud.api.console(line.node_uuid)
        if address is None:
            raise Refusal(409, "ConsoleOff", "the console was stopped")
        return address
