"""The service: all that lives as long as it does, started and stopped in order."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import yaml

from bloomery.bus import Bus
from bloomery.doors.http.audit import Audit
from bloomery.doors.http.cleaning import Cleaning
from bloomery.doors.http.consoles import Consoles
from bloomery.doors.http.feed import Feed
from bloomery.doors.http.following import Following, View
from bloomery.doors.http.hooks import Sender
from bloomery.doors.http.identity import Identity, identity_of
from bloomery.doors.http.metrics import Metrics
from bloomery.doors.http.problems import StoreUnavailable
from bloomery.doors.http.settings import Settings
from bloomery.doors.http.store import Event, Store
from bloomery.doors.http.upstream import Cloud, Connect
from bloomery.doors.http.working import Workers
from bloomery.errors import BloomeryError, InvalidRequest
from bloomery.ironic import Node
from bloomery.library import Bloomery
from bloomery.plain import logger

log = logger(__name__)

FORGET_EVERY_S = 600.0
DAY_S = 86_400.0
FIRST_LOOK_S = 20.0
"""How long a start waits for Ironic to show its nodes; it goes on without, from what it last knew."""
KEEP_VIEW_EVERY_S = 20.0
"""How often what Ironic shows is kept for a start while Ironic is away."""


class Service:
    """Everything behind the routes.

    Args:
        connect: makes the connection to the cloud. If Ironic cannot be had now, it is called again until it can.
        settings: what it was told.

    Raises:
        InvalidRequest: a file that the settings name is none of its kind, its folder is another's, or the bus has no such
            address.
        BloomeryError: there is no connection, and waiting gives none: what the cloud is called by has to change.
    """

    def __init__(self, connect: Connect, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.cloud = Cloud(connect, self.metrics)
        self._away: BloomeryError | None = None
        try:
            self.cloud.connect()
        except BloomeryError as problem:
            if not problem.retryable:
                raise
            # It refuses connections, or accepts them and says nothing: either passes.
            log.warning("starting without Ironic: %s", problem)
            self._away = problem
        self.identity: Identity = identity_of(settings)
        self.catalogue = _catalogue(settings)
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
        self.store = Store(settings.state, settings.database, on_events=self._written)
        self.following = Following(
            self.cloud,
            refresh_s=settings.refresh_s,
            read_all_s=settings.read_all_s,
            on_news=self._news,
            on_look=self._looked,
        )
        self.workers = Workers(
            self.cloud,
            self.store,
            self.following,
            self.metrics,
            holder=self.holder,
            at_once=settings.at_once,
            lease_s=settings.lease_s,
        )
        self.cleaning = Cleaning(self.cloud, self.store, self.metrics, settings, may_look=self._may_clean)
        self.audit = Audit(self.store)
        self.feed = Feed(self.store)
        self.consoles = Consoles(self.cloud, self.following, self.store, holder=self.holder)
        self.sender = Sender(self.store, self.metrics, holder=self.holder, allowed=settings.webhook_networks)
        self.metrics.show_fleet(
            lambda: self.following.view.nodes,
            lambda: self.following.failure is None,
            lambda: self.following.stale_s,
            lambda: None if self.bus is None else self.bus.is_listening.is_set(),
        )
        self._kept: dict[str, Node] = {}
        self._kept_at = -math.inf
        self._leads_until = 0.0
        self._was_leading = False
        self._stopping = threading.Event()
        self.bus = Bus(settings.bus) if settings.bus is not None else None
        if self.bus is not None:
            self.bus.tell(self._heard)
            self.bus.start()
        self._keeper = threading.Thread(target=self._forget, name="bloomery-forget", daemon=True)

    @property
    def api(self) -> Bloomery:
        """The connection to the cloud.

        Raises:
            ServiceUnavailable: it could not be made yet.
        """
        return self.cloud.api

    def start(self) -> None:
        """Ironic has been asked once, and everything is at work. Called in the event loop's thread."""
        self.feed.start()
        if self._away is not None:
            as_of, nodes = self.store.last_view()
            self.following.show_former(View.of(nodes, as_of) if as_of else View(), self._away)
        # First who tells, then what was told: in between, nobody else does.
        self._was_leading = self._leads()
        self.following.start(self.store.seen_nodes())
        if self._away is None:
            self.following.wait_for_look(FIRST_LOOK_S)
        self.workers.start()
        self.sender.start()
        self.audit.start()
        self._keeper.start()

    def _heard(self, node_uuid: str, provision_state: str | None) -> None:
        """Ironic notifies that the node has changed: whoever waits for it looks now, and so do we."""
        if self.cloud.is_there:
            self.cloud.api.services.watch.heard(node_uuid, provision_state)
        self.following.heard(node_uuid, provision_state)

    def end_streams(self) -> None:
        """Whoever listens to the stream, or is on a console, is let go, so that the server can end."""
        self.feed.stop()
        self.consoles.end()

    def stop(self) -> None:
        """Nothing new is begun; what is under way another replica, or the next start, may go on with at once."""
        self._stopping.set()
        if self.bus is not None:
            self.bus.close()
        self.feed.stop()
        self.sender.stop()
        self.audit.stop()
        self.workers.stop()
        self.following.stop()
        self.cleaning.stop()
        try:
            if self.following.failure is None and self._was_leading:
                self._write_view()
            self.store.let_go(self.holder)
        except StoreUnavailable as problem:
            log.warning("leases run out by themselves: %s", problem)
        self.store.close()

    def _written(self) -> None:
        self.feed.wake()
        self.sender.wake()

    def _news(self, seen: Mapping[str, Mapping[str, Any] | None], happened: Sequence[Event]) -> bool:
        """The news is in the log, if it is ours to write it there."""
        try:
            if not self._leads():
                return False
            if not self._was_leading:
                # What the replica before us told already is no news.
                self._was_leading = True
                self.following.retell(self.store.seen_nodes())
                self.following.wake()
                return False
            self.store.saw(seen, happened)
        except StoreUnavailable as problem:
            if problem.is_open:
                # It may stand there all the same; what does is read again before anything is told.
                self._was_leading = False
            log.warning("what has changed cannot be noted yet: %s", problem)
            return False
        return True

    def _leads(self) -> bool:
        """Whether this replica writes what happens to nodes."""
        now = time.monotonic()
        if now < self._leads_until:
            return True
        lease_s = max(self.settings.lease_s, 3 * self.settings.refresh_s)
        if not self.store.lead("events", self.holder, lease_s):
            self._was_leading = False
            return False
        self._leads_until = now + lease_s / 3
        return True

    def _may_clean(self) -> bool:
        return self._leads() and not self.workers.is_taking_over

    def _looked(self) -> None:
        """Ironic has shown what it has."""
        self._keep_view()
        try:
            self.cleaning.heed()
        except StoreUnavailable as problem:
            log.warning("what is wanted of the janitor cannot be read: %s", problem)

    def _keep_view(self) -> None:
        """What Ironic shows is kept now and then, so that whoever starts while it is away has something to show."""
        now = time.monotonic()
        if now - self._kept_at < KEEP_VIEW_EVERY_S:
            return
        try:
            if self._leads():
                self._write_view()
                self._kept_at = now
        except StoreUnavailable as problem:
            log.warning("what Ironic shows cannot be kept: %s", problem)

    def _write_view(self) -> None:
        view = self.following.view
        now = {node.uuid: node for node in view.nodes}
        new = {uuid: node for uuid, node in now.items() if self._kept.get(uuid) is not node}
        gone = self._kept.keys() - now.keys()
        self.store.keep_view(view.as_of, {**new, **dict.fromkeys(gone)}, whole=not self._kept)
        self._kept = now

    def _forget(self) -> None:
        while not self._stopping.wait(FORGET_EVERY_S):
            try:
                self.store.forget(
                    older_than_s=self.settings.keep_days * DAY_S,
                    more_than=self.settings.keep_rows,
                    larger_than=self.settings.keep_mib * 2**20,
                )
            except StoreUnavailable as problem:
                log.warning("old events cannot be forgotten: %s", problem)


def _catalogue(settings: Settings) -> list[dict[str, str | bool]]:
    """The images that the settings' file offers.

    Raises:
        InvalidRequest: it is no such file.
    """
    if settings.images is None:
        return []
    try:
        found = yaml.safe_load(settings.images.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise InvalidRequest(f"the file {settings.images} cannot be read", reason=str(problem)) from None
    kinds = {"name": str, "source": str, "checksum": str, "kernel": str, "ramdisk": str, "is_partition": bool}
    rows: list[dict[str, str | bool]] = []
    for row in found if isinstance(found, list) else [None]:
        if (
            not isinstance(row, dict)
            or not {"name", "source"} <= row.keys() <= kinds.keys()
            or not all(isinstance(value, kinds[name]) for name, value in row.items())
        ):
            raise InvalidRequest(
                f"the file {settings.images} is no list of images",
                advice="`- {name: debian-13, source: https://…/debian-13.raw, checksum: https://…/SHA256SUMS}` would be an entry",
            )
        rows.append(row)
    return rows
