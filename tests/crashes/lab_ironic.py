"""The lab's Ironic as somebody sees it who pulls its plug: killed, gone for a while, started again on the same database."""

from __future__ import annotations

import contextlib
import os
import signal
from urllib.parse import urlsplit

import psutil

from bloomery.lab import Lab, ironic, status
from bloomery.lab.service import RunningService, start, stop
from bloomery.lab.wait import until

STARTS_WITHIN_S = 120.0


class LabIronic:
    """The process of a lab's Ironic."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        (self.pid,) = [service.pid for service in status(lab.state).services if service.name == "ironic"]
        self._started: RunningService | None = None

    def kill(self) -> None:
        """It is dead, as by `kill -9`, and nobody listens where it was."""
        os.killpg(self.pid, signal.SIGKILL)
        if self._started is not None:
            self._started.process.wait()
        until(lambda: not is_alive(self.pid), what="the end of a killed Ironic", timeout_s=STARTS_WITHIN_S)

    def start(self) -> None:
        """It answers again; to be called where it was killed."""
        port = urlsplit(self._lab.ironic_url).port
        assert port is not None
        # In the main thread: the kernel ends a service when the thread that started it ends.
        self._started = start(ironic.service(self._lab.state, port=port), logs=self._lab.state / "logs")
        self.pid = self._started.process.pid
        until(self._started.service.is_ready, what="a restarted Ironic", timeout_s=STARTS_WITHIN_S)

    def end(self) -> None:
        """No process of ours is left."""
        if self._started is not None:
            stop([self._started], grace_s=0)

    def fill_disk(self) -> None:
        """Until it is killed it can write to no file any more: neither to its database nor to its log."""
        process = psutil.Process(self.pid)
        _, most = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (0, most))


def is_alive(pid: int) -> bool:
    """Whether the process still runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
