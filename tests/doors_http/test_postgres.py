"""The PostgreSQL of the tests: nothing is left of it, however the tests end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from doors_http import postgres
from doors_http.http_site import TIMEOUT_S

RUN = """
import sys
from doors_http import postgres
with postgres.running() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@postgres.NEEDED
def test_it_dies_with_the_process_that_started_it_when_that_is_killed() -> None:
    tests = Path(__file__).resolve().parents[1]
    # Its files stay behind; the user that it runs as does not get into pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="bloomery-killed-") as folder:
        Path(folder).chmod(0o755)
        environment = {**os.environ, "PYTHONPATH": str(tests), "TMPDIR": folder}
        with subprocess.Popen(
            [sys.executable, "-c", RUN], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as owner:
            assert owner.stdout is not None
            address = urlsplit(owner.stdout.readline().strip())
            assert address.port is not None
            assert _listens(address.port)
            owner.kill()
        waiting = threading.Event()
        for _ in range(int(TIMEOUT_S / 0.05)):
            if not _listens(address.port):
                return
            waiting.wait(0.05)
        raise AssertionError("it still listens")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
