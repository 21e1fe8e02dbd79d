"""A test's end of `forked`: processes of Bloomery that are started, waited for, and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from crashes.forked import KILL, Job, Outcome

ENDS_WITHIN_S = 120.0
_TESTS = Path(__file__).parent.parent


class Processes:
    """Starts processes, one after another; each can be killed from any thread."""

    def __init__(self, forker: subprocess.Popen[bytes]) -> None:
        self._forker = forker
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._has_ended.set()

    def run(self, job: Job) -> Outcome:
        """The job's process has ended, by itself or by `kill`."""
        if self._forker.stdout is None:
            raise AssertionError("the forker's output is a pipe")
        with self._lock:
            self._has_ended.clear()
            self._say(json.dumps(asdict(job)))
        answer = self._forker.stdout.readline()
        with self._lock:
            self._has_ended.set()
        outcome = Outcome(**json.loads(answer))
        assert outcome.bug is None, outcome.bug
        return outcome

    def kill(self) -> None:
        """The process that runs, if one does, is dead, as by `kill -9`. To be called while another thread is in `run`."""
        with self._lock:
            if self._has_ended.is_set():
                return
            self._say(KILL)
        if not self._has_ended.wait(ENDS_WITHIN_S):
            raise TimeoutError(f"a killed process is still there after {ENDS_WITHIN_S:g} s")

    def _say(self, line: str) -> None:
        if self._forker.stdin is None:
            raise AssertionError("the forker's input is a pipe")
        self._forker.stdin.write(line.encode() + b"\n")
        self._forker.stdin.flush()


@contextmanager
def processes() -> Iterator[Processes]:
    """Processes can be started within the block, and are gone with it."""
    path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-m", "crashes.forked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as forker:
        if forker.stdin is None or forker.stdout is None:
            raise AssertionError("both are pipes")
        forker.stdout.readline()
        try:
            yield Processes(forker)
        finally:
            forker.stdin.close()
            forker.wait(ENDS_WITHIN_S)
