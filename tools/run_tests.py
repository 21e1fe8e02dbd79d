"""Run all tests in three parts, each in processes of its own, and the sum of them as the last line.

Usage: python tools/run_tests.py [PYTEST ARGUMENT ...]

Nova and Ironic each register their options with the one table that oslo.config has in a process, under names that collide, so
that no process can import both. Some tests hold our lists to the installed Ironic's, others run the installed Nova; and some
have a whole Nova around a lab for each worker.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_NOVA = ["tests/doors_nova", "tests/door_matrix"]
WITH_NOVA = ["tests/nova", "-n", "2"]
"""A worker has ten services of the lab and Nova beside it: on a small machine more workers make it no faster."""
APART = ["tests/nova_releases", "tests/vm"]
"""What needs older releases' environments, or virtual machines, has targets of its own: `make test-matrix`, `make test-vm`."""
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


def main(arguments: list[str]) -> int:
    """The worst exit code of the parts; the counts of all of them on the last line."""
    # What a part says for itself comes last, and holds.
    results = [run([*arguments, *part]) for part in PARTS]
    total: dict[str, int] = {}
    for _, counts in results:
        for what, number in counts.items():
            total[what] = total.get(what, 0) + number
    failed = total.get("failed", 0) + total.get("error", 0) + total.get("errors", 0)
    line = f"{total.get('passed', 0)} passed, {failed} failed"
    print(line + (f", {total['skipped']} skipped" if "skipped" in total else ""))
    return max(code for code, _ in results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
