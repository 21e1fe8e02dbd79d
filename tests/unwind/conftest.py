"""The tests of faults say how many cells of their matrix they have tried."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Totals over all processes, where any of those tests has run."""
    totals = {"cells": 0, "failed_cells": 0, "pairs": 0}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name in totals and isinstance(value, int):
                        totals[name] += value
    if totals["cells"]:
        terminalreporter.write_line(
            f"fault matrix: {totals['cells']} cells and {totals['pairs']} pairs tried"
            f", {totals['failed_cells']} cells failed"
        )
