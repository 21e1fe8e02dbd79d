"""A real lab for the tests that want one, up once for all of them and down at the end, whatever happens."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Kind, Lab, Options, running

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # what is tried with an older Nova, in an environment of its own, does without
    settings = None  # type: ignore[assignment,misc]

# Many labs come up in these tests; what takes each of them long to make is made once for all.
os.environ.setdefault("BLOOMERY_LAB_CACHE", str(Path(__file__).parent.parent / ".cache" / "lab"))
# Chosen here, where the process that starts the workers comes by first: all of them have to draw the same tests.
os.environ.setdefault("BLOOMERY_SEED", str(random.SystemRandom().randrange(1_000_000)))
# How long an example takes, or the making of one, says how busy the machine is, and nothing else.
if settings is not None:
    settings.register_profile("bloomery", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("bloomery")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Six nodes: `node-0` to `node-2` with a BMC, the others of fake hardware; `node-2` has a bond."""
    with running(Options(nodes=6, kind=Kind.BOTH), tmp_path_factory.mktemp("lab") / "state") as it:
        yield it


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A cell of a fault matrix that failed is named at once: a whole matrix takes long, and may be broken off."""
    wrong = dict(report.user_properties).get("wrong")
    if report.when == "call" and isinstance(wrong, str) and wrong:
        sys.stderr.write(f"\n{report.nodeid}\n{wrong}\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cells of the fault matrices were tried, over all processes, where any was."""
    totals = {"cells": 0, "failed_cells": 0, "pairs": 0}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name in totals and isinstance(value, int):
                        totals[name] += value
    if totals["cells"] or totals["pairs"]:
        terminalreporter.write_line(
            f"fault matrix: {totals['cells']} cells and {totals['pairs']} pairs tried"
            f", {totals['failed_cells']} cells failed"
        )
