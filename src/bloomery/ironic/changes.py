"""What is new in Ironic's list of changes, newest first, against what was read of it before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from bloomery.ironic.models import Node

OVERLAP = timedelta(seconds=2)
"""A change may show up under a time that was seen before: some databases round times to seconds, and a transaction that
began earlier may end later."""


class News:
    """Tells what has changed since the last time. Not for several threads at once.

    Attributes:
        lately: how many nodes were new the last time, those included that were read once more to be sure.
    """

    def __init__(self) -> None:
        self.lately = 0
        self._latest: datetime | None = None
        self._latest_seen_at = 0.0
        # Whether all is known that was changed at the time of the latest change, or shortly before.
        self._is_settled = False

    @property
    def is_first(self) -> bool:
        """Whether nothing has been read yet, so that everything is new."""
        return self._latest is None

    def has(self, node: Node) -> bool:
        """Whether the node may have changed since."""
        if self._latest is None or node.changed_at is None:
            return True
        return node.changed_at > (self._latest if self._is_settled else self._latest - OVERLAP)

    def begin(self, newest: Iterable[Node], asked_at: float) -> None:
        """Everything is known that had changed when the newest changes were asked for, but for the newest of all.

        Args:
            newest: the first of the list of changes.
            asked_at: when it was asked for, by a clock that never goes back.
        """
        self._latest = next((node.changed_at for node in newest), None)
        self._latest_seen_at, self._is_settled, self.lately = asked_at, False, 1

    def took(self, nodes: Iterable[Node], *, began_at: float, ended_at: float) -> None:
        """What was new is known now.

        Args:
            nodes: what was new.
            began_at: when reading began.
            ended_at: when it had ended, by the same clock.
        """
        changes = [node.changed_at for node in nodes if node.changed_at is not None]
        latest = max(changes, default=self._latest)
        if self._latest is not None and latest is not None:
            latest = max(latest, self._latest)
        if latest != self._latest:
            self._latest, self._latest_seen_at = latest, ended_at
        self._is_settled = began_at - self._latest_seen_at > OVERLAP.total_seconds()
        self.lately = len(changes)
