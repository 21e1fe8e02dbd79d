"""Processes that each carry out one call of Bloomery, forked from one that has imported everything already.

`python -m crashes.forked` reads a job per line and says when its process has begun and how it has ended; a line that is
`kill` kills it meanwhile. So a process costs a hundredth of a second instead of one, and is yet all of a process's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import requests

from bloomery import Bloomery, BloomeryError, Patience
from bloomery.testing import IronicSimulator, NeutronSimulator
from unwind.matrix import CALM, Tokens
from unwind.scenarios import SCENARIOS, World

RECOVER = "recover"
KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process is to do: the operation of a scenario, or `recover`.

    Attributes:
        call: the scenario's name, or `recover`.
        ironic: where Ironic is for this process.
        neutron: where Neutron is for it.
        unbroken_neutron: where Neutron answers always: for what is the scenario's and not Bloomery's.
        node: the world's node.
        given_vif: the world's VIF that is handed over.
        web: the world's security group.
        older_than_s: what a `recover` leaves alone.
        clock: a file with the seconds by which this process's wall clock goes ahead; looked into at each look at the clock.
    """

    call: str
    ironic: str
    neutron: str
    unbroken_neutron: str
    node: str
    given_vif: str
    web: str
    older_than_s: float = 0.0
    clock: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a process has ended.

    Attributes:
        was_killed: by a signal, before it came to its end.
        problem: our error; None if it succeeded, or was killed.
        bug: the traceback of any other error.
    """

    was_killed: bool
    problem: str | None = None
    bug: str | None = None


def carry_out(job: Job, patience: Patience) -> None:
    """The job is done."""
    api = _world(job).api(auth=Tokens(), patience=patience)
    if job.clock is not None:
        api = _by_another_clock(api, Path(job.clock))
    if job.call == RECOVER:
        for _, problem in api.recover(older_than_s=job.older_than_s, timeout_s=60):
            if problem is not None:
                raise problem
    else:
        SCENARIOS[job.call].call(api, _world(job))


def _by_another_clock(api: Bloomery, ahead: Path) -> Bloomery:
    """The wall clock goes wrong by what the file says, for Bloomery and for whatever else looks at `time.time`."""
    true_time = time.time
    time.time = lambda: true_time() + float(ahead.read_text())
    return Bloomery(replace(api.services, wall_clock=lambda: datetime.fromtimestamp(time.time(), UTC)))


def _world(job: Job) -> World:
    """What a process can know of the world: where its services are, and some names."""

    def ports() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = requests.get(f"{job.unbroken_neutron}/v2.0/ports", timeout=30).json()["ports"]
        return found

    return World(
        ironic=cast(IronicSimulator, SimpleNamespace(url=job.ironic)),
        neutron=cast(NeutronSimulator, SimpleNamespace(url=job.neutron, ports=ports)),
        node=job.node,
        given_vif=job.given_vif,
        web=job.web,
    )


def _child(job: Job, pipe: int) -> NoReturn:
    """The process ends when the job does; what became of it is in the pipe."""
    outcome = Outcome(was_killed=False)
    try:
        carry_out(job, CALM)
    except BloomeryError as problem:
        outcome = Outcome(was_killed=False, problem=repr(problem))
    except BaseException:  # noqa: BLE001  whatever it is, the test is to show it
        outcome = Outcome(was_killed=False, bug=traceback.format_exc())
    os.write(pipe, json.dumps(asdict(outcome)).encode())
    os._exit(0)


class _Forker:
    """Carries out one job after another, each in a process of its own."""

    def __init__(self) -> None:
        self._lines = selectors.DefaultSelector()
        self._lines.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._read = b""

    def serve(self) -> None:
        """Until the input ends."""
        while (line := self._line()) is not None:
            if line != KILL:
                self._say(asdict(self._fork(Job(**json.loads(line)))))

    def _fork(self, job: Job) -> Outcome:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            _child(job, write_end)
        os.close(write_end)
        self._lines.register(read_end, selectors.EVENT_READ)
        try:
            self._await_end(pid, read_end)
            answer = b"".join(iter(lambda: os.read(read_end, 1 << 16), b""))
        finally:
            self._lines.unregister(read_end)
            os.close(read_end)
            os.waitpid(pid, 0)
        return Outcome(**json.loads(answer)) if answer else Outcome(was_killed=True)

    def _await_end(self, pid: int, read_end: int) -> None:
        """The process has said how it ended, or is dead: then its end of the pipe is closed."""
        while True:
            ready = [key.fd for key, _ in self._lines.select()]
            if read_end in ready:
                return
            if self._line() in (KILL, None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _line(self) -> str | None:
        while b"\n" not in self._read:
            more = os.read(sys.stdin.fileno(), 1 << 16)
            if not more:
                return None
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def _say(self, words: dict[str, Any]) -> None:
        os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    print(flush=True)  # everything is imported
    _Forker().serve()
