"""bandit and ruff's S rules, as findings: the same numbers, the same weaknesses, one finding where both see one thing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CWE_OF_NUMBERS = {
    20: "313-320 405-411 506",
    22: "202 310",
    78: "102 307 404 601-607 609",
    79: "308 704",
    80: "702 703",
    89: "608 610 611",
    94: "201 612 701",
    259: "105-107",
    284: "412",
    295: "323 501 507",
    319: "312 321 401 402 415 508 509",
    326: "505",
    327: "303-305 324 413 502-504",
    330: "311",
    377: "108 306",
    400: "113",
    502: "301 302 403 614 615",
    605: "104",
    703: "101 110 112",
    732: "103",
}
"""By weakness, the numbers of the rules for it; bandit writes a B before them, ruff an S."""


class ScannerFailed(Exception):
    """bandit or ruff is not installed, or did not end well."""


@dataclass(frozen=True)
class Seen:
    """What a scanner reports."""

    rule: str
    tool: str
    path: Path
    line: int
    cwe: int
    reason: str


def _numbers(spans: str) -> Iterator[str]:
    for span in spans.split():
        first, _, final = span.partition("-")
        yield from (str(number) for number in range(int(first), int(final or first) + 1))


CWE_OF: dict[str, int] = {f"S{number}": cwe for cwe, spans in _CWE_OF_NUMBERS.items() for number in _numbers(spans)}
"""The weakness that each rule looks for, by ruff's name of the rule."""


def _output(*command: str) -> Any:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    # Both end with 1 where they find something.
    if done.returncode not in {0, 1} or not done.stdout.strip():
        raise ScannerFailed(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)


def ruff(files: Sequence[Path]) -> Iterator[Seen]:
    """What ruff's S rules report, whatever the project tells ruff to pass over.

    Raises:
        ScannerFailed: ruff is not there, or failed.
    """
    options = ["--isolated", "--ignore-noqa", "--select", "S", "--output-format", "json", "--target-version", "py311"]
    for found in _output("ruff", "check", *options, "--", *map(str, files)):
        if found["code"] in CWE_OF:
            line = found["location"]["row"]
            yield Seen(found["code"], "ruff", Path(found["filename"]), line, CWE_OF[found["code"]], found["message"])


def bandit(files: Sequence[Path]) -> Iterator[Seen]:
    """What bandit reports, whatever `nosec` says.

    Raises:
        ScannerFailed: bandit is not there, or failed.
    """
    for found in _output("bandit", "--quiet", "--ignore-nosec", "--format", "json", *map(str, files))["results"]:
        rule = found["test_id"].replace("B", "S", 1)
        cwe = CWE_OF.get(rule) or found["issue_cwe"].get("id")
        if cwe is not None:
            yield Seen(rule, "bandit", Path(found["filename"]), found["line_number"], cwe, found["issue_text"])
