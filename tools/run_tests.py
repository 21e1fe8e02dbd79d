"""Run all tests in three parts, each in processes of its own, and the sum of them as the last line.

Usage: python tools/run_tests.py [PYTEST ARGUMENT ...]

Most tests run real services, several at once, on a machine that others may be using. So where no more than a few fail, they
are tried once more, by themselves and with the same seed: what fails then has failed, and what passes is named as unsteady,
which is to be looked into, too.

Nova and Ironic each register their options with the one table that oslo.config has in a process, under names that collide, so
that no process can import both. Some tests hold our lists to the installed Ironic's, others run the installed Nova; and some
have a whole Nova around a lab for each worker.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_NOVA = ["tests/doors_nova", "tests/door_matrix"]
WITH_NOVA = ["tests/nova", "-n", "2"]
"""A worker has ten services of the lab and Nova beside it: on a small machine more workers make it no faster."""
APART = ["tests/nova_releases", "tests/vm"]
"""What needs older releases' environments, or virtual machines, has targets of its own: `make test-matrix`, `make test-vm`."""
TESTS_FAILED = 1
"""pytest's exit code for that; others say that it did not come so far."""
FEW = 3
"""Where more fail, it was not for want of time."""
PARTS = (["tests", *(f"--ignore={folder}" for folder in [*APART, *OF_NOVA, WITH_NOVA[0]])], OF_NOVA, WITH_NOVA)


def run(arguments: list[str]) -> tuple[int, dict[str, int]]:
    """pytest's exit code, and its counts by what they count; its output goes through as it comes."""
    command = [sys.executable, "-m", "pytest", *arguments]
    counts: dict[str, int] = {}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if re.search(r" in [0-9.]+s", line):
                counts = {
                    what: int(number) for number, what in re.findall(r"([0-9]+) ([a-z]+)", line.rpartition(" in ")[0])
                }
    return process.returncode, counts


def failed_in(cache: Path) -> list[str]:
    """The tests that failed in the run that kept its notes there."""
    notes = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(notes.read_text())) if notes.exists() else []


def carried_out(arguments: list[str], part: list[str]) -> tuple[int, dict[str, int], list[str]]:
    """A part's exit code and counts, and which tests passed only when they were tried by themselves."""
    with tempfile.TemporaryDirectory() as folder:
        keeping = ["-o", f"cache_dir={folder}"]
        code, counts = run([*arguments, *part, *keeping])
        failed = failed_in(Path(folder))
        if code != TESTS_FAILED or not 0 < len(failed) <= FEW:
            return code, counts, []
        print(f"once more, by themselves: {' '.join(failed)}", flush=True)
        only = ["--last-failed", "--last-failed-no-failures", "none"]
        again, found = run([*arguments, *part, *keeping, *only, "-n", "0"])
        unsteady = sorted({*failed} - {*failed_in(Path(folder))}) if again in (0, TESTS_FAILED) else []
    for what in ("failed", "error", "errors"):
        counts.pop(what, None)
    counts["passed"] = counts.get("passed", 0) + found.get("passed", 0)
    return again, counts | {what: found[what] for what in ("failed", "error", "errors") if what in found}, unsteady


def main(arguments: list[str]) -> int:
    """The worst exit code of the parts; the counts of all of them on the last line."""
    # What draws something draws the same when it is tried once more.
    os.environ.setdefault("BLOOMERY_SEED", str(random.SystemRandom().randrange(1_000_000)))
    # What a part says for itself comes last, and holds.
    results = [carried_out(arguments, part) for part in PARTS]
    total: dict[str, int] = {}
    for _, counts, unsteady in results:
        for what, number in counts.items():
            total[what] = total.get(what, 0) + number
        for name in unsteady:
            print(f"unsteady: {name} failed beside others, and passed by itself")
    failed = total.get("failed", 0) + total.get("error", 0) + total.get("errors", 0)
    line = f"{total.get('passed', 0)} passed, {failed} failed"
    print(line + (f", {total['skipped']} skipped" if "skipped" in total else ""))
    return max(code for code, *_ in results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
