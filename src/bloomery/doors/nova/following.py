"""What Nova sees while a node is deployed: the server's progress; and what ends it: the server's deletion."""

from __future__ import annotations

import time
from typing import Any

from nova import exception
from nova.compute import task_states, vm_states

from bloomery.deadline import Cancellation
from bloomery.doors.nova.config import CONF, options
from bloomery.doors.nova.errors import NOVA_IS_AWAY
from bloomery.operations.run import Options, Progress
from bloomery.plain import logger

log = logger(__name__)

LOOK_EVERY_S = 5.0
"""How often the server is looked at, and its progress written, at most."""


class Follower:
    """Follows a deploy or rebuild on behalf of a server: `on_progress` is called with every look at the node.

    Args:
        instance: Nova's instance.
        is_given_up_by_error: whether it was given up if it is found in ERROR, and not only if it is being deleted.
    """

    def __init__(self, instance: Any, *, is_given_up_by_error: bool = True) -> None:
        self.instance = instance
        self.is_given_up_by_error = is_given_up_by_error
        self.cancellation = Cancellation()
        self._looked_at = time.monotonic()
        self._told = 0

    def options(self, *, leavable: bool = False) -> Options:
        """How the deploy or rebuild is carried out, with somebody who follows it."""
        return options(
            CONF.bloomery.deploy_timeout,
            cancellation=self.cancellation,
            on_progress=self.on_progress,
            leavable=leavable,
        )

    def on_progress(self, progress: Progress) -> None:
        """The server shows how far it is; if a user has deleted it meanwhile, the operation is told to stop."""
        now = time.monotonic()
        if progress.undoing or now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            self.instance.refresh()
            if self._is_given_up():
                log.info("server %s is being deleted; its deploy is stopped", self.instance.uuid)
                self.cancellation.cancel()
                return
            percent = round(progress.fraction * 100)
            if percent != self._told:
                self.instance.progress = self._told = percent
                self.instance.save()
        except exception.InstanceNotFound:
            self.cancellation.cancel()
        except NOVA_IS_AWAY as problem:
            # Nova's database or bus is away for a while: the deploy is none of its business.
            log.info("could not look at server %s: %s", self.instance.uuid, problem)

    def _is_given_up(self) -> bool:
        if self.instance.task_state == task_states.REBUILD_SPAWNING:
            return False
        in_vain = (vm_states.ERROR, vm_states.DELETED) if self.is_given_up_by_error else (vm_states.DELETED,)
        return self.instance.task_state == task_states.DELETING or self.instance.vm_state in in_vain
