"""The driver with each release of Nova that it is for, each in an environment of its own: what `make test-matrix` runs.

Usage: python tools/release_matrix.py [--jobs N] [RELEASE ...]

An environment is made of `requirements/nova-RELEASE.txt`: that Nova with what there was in its time, and Bloomery. In it run the
driver's own tests, and those of waiting and of connections under eventlet. Then that release's API, scheduler, conductor and
nova-compute run from it around a lab of this environment, and a server lives its life. Everything is below `.matrix/`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from nova_releases.matrix import OF_THE_DRIVER, ROOT, SERIES, STATE, UNDER_EVENTLET, folder_of, lock_of, python_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of what is tried with a release."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]


def stages(release: str, jobs: int) -> tuple[Stage, ...]:
    """What is tried with the release, the quickest to fail first."""
    python, tests = str(python_of(release)), str(ROOT / "tests")
    common = ("-q", "-p", "no:cacheprovider", f"--basetemp={STATE / f'run-{release}'}")
    return (
        Stage(
            name="the driver's own tests",
            argv=(python, "-m", "pytest", *common, "-n", str(jobs), "--dist", "loadfile", OF_THE_DRIVER),
            environment={},
        ),
        Stage(
            name="waits and connections under eventlet",
            argv=(
                *(python, "-m", "nova_releases.under_eventlet", *common),
                *UNDER_EVENTLET,
            ),
            environment={"PYTHONPATH": tests},
        ),
        Stage(
            name="a whole Nova around the lab",
            argv=(sys.executable, "-m", "pytest", *common, "tests/nova_releases"),
            environment={"BLOOMERY_NOVA_RELEASE": release},
        ),
    )


def prepare(release: str) -> None:
    """The release's environment has what its lock says, and Bloomery as it is here."""
    if not python_of(release).exists():
        subprocess.run([ROOT / "tools" / "venv.sh", folder_of(release), sys.executable], check=True)
    lock = lock_of(release).relative_to(ROOT)
    subprocess.run([python_of(release), ROOT / "tools" / "install.py", "--lock", lock], check=True)


def main(arguments: list[str]) -> int:
    """1 if anything failed with any release; a line for each part in the end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("releases", metavar="RELEASE", nargs="*", help=f"of {', '.join(SERIES)}; all, if none is named")
    parser.add_argument("--jobs", type=int, default=2, help="how many tests of the driver run at once")
    chosen = parser.parse_args(arguments)
    if unknown := sorted({*chosen.releases} - {*SERIES}):
        parser.error(f"no release is {', '.join(unknown)}; there are: {', '.join(SERIES)}")
    rows: list[tuple[str, str, bool, float]] = []
    for release in chosen.releases or SERIES:
        title = f"Nova {release} ({SERIES[release]})"
        print(f"== {title}: its environment", flush=True)
        prepare(release)
        for stage in stages(release, chosen.jobs):
            print(f"== {title}: {stage.name}", flush=True)
            started = time.monotonic()
            ended = subprocess.run(stage.argv, cwd=ROOT, env={**os.environ, **stage.environment}, check=False)
            rows.append((title, stage.name, ended.returncode == 0, time.monotonic() - started))
    print()
    for title, name, is_good, took_s in rows:
        print(f"{title}   {name:<38} {'passed' if is_good else 'FAILED'} {took_s:6.0f} s")
    return 0 if all(is_good for _, _, is_good, _ in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as failure:
        sys.exit(f"release_matrix: {failure}")
