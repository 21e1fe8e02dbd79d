"""The tests of crashes say how many they have tried, and how those ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from crashes.processes import Processes
from crashes.processes import processes as started


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Processes of Bloomery that can be killed."""
    with started() as it:
        yield it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Totals over all processes of the tests, where any of these has run."""
    ends: dict[str, Counter[str]] = {"ends": Counter(), "lab_ends": Counter(), "lab_deeds": Counter()}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name in ends and isinstance(value, dict):
                        ends[name].update(value)
    for name, what in (
        ("ends", "processes killed"),
        ("lab_ends", "in the lab, operations struck"),
        ("lab_deeds", "of them"),
    ):
        if ends[name]:
            counts = ", ".join(f"{count} {end}" for end, count in sorted(ends[name].items()))
            terminalreporter.write_line(f"crashes: {ends[name].total()} {what}: {counts}")
