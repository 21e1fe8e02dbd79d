"""One process of the lab: how it is started, and how it is ended with everything that it started itself."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that the lab wants running; its log is `<state>/logs/<name>.log`."""

    name: str
    argv: tuple[str, ...]
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service that was started, with the file that its output goes to."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def name(self) -> str:
        return self.service.name

    def has_ended(self) -> bool:
        return self.process.poll() is not None


def die_with_parent() -> None:
    """The calling process is killed by the kernel as soon as its parent is gone, however the parent ended."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


NICE = 10
"""How far what works hard behind the scenes (emulated machines, builds) stands back for whoever works at this machine."""


def stand_back() -> None:
    """The calling process dies with its parent, and leaves the processor to others first."""
    die_with_parent()
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def start(service: Service, *, logs: Path) -> RunningService:
    """The service's process runs, in a process group of its own, and will not outlive the caller."""
    log = logs / f"{service.name}.log"
    # Opened by descriptor so that the mode holds from the first byte: Ironic's and Neutron's logs name users' data.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603
            service.argv,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env={**os.environ, **service.environment},
            process_group=0,
            preexec_fn=die_with_parent,
        )
    finally:
        os.close(descriptor)
    return RunningService(service=service, process=process, log=log)


def stop(services: Sequence[RunningService], *, grace_s: float) -> None:
    """No process of these services is left: each was asked to end, and killed when the grace was over."""
    for running in services:
        _signal_group(running, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for running in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(max(0.0, deadline - time.monotonic()))
    for running in services:
        _signal_group(running, signal.SIGKILL)
        running.process.wait()


def _signal_group(running: RunningService, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal_number)


def tail(path: Path, *, lines: int) -> list[str]:
    """The last lines of a log, or none when it was never written."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 512 * lines))
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
