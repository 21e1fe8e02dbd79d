"""A review as Markdown for people, as JSON for programs, and as SARIF for what shows findings beside code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .cwe import PILLARS, WEAKNESSES, Weakness
from .review import CHECKS, Finding, Review, looked_for

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_CWE_PAGE = "https://cwe.mitre.org/data/definitions/{}.html"


def markdown(review: Review) -> str:
    """The review to read: by pillar what was found, what stays and why, and what was looked for."""
    stay = len(review.findings) - len(review.open)
    counts = f"{len(review.open)} open findings, {stay} with a written reason"
    parts = ["# Security review", f"{review.files} files, {review.lines} lines: {counts}."]
    for pillar in PILLARS:
        parts += [f"## {pillar}: {pillar.name}", *_section(review, pillar)]
    if review.unread:
        parts += ["## Not read", *(f"- {line}" for line in review.unread)]
    if review.unused:
        parts += ["## Reasons for what is not found any more"]
        parts += [f"- `{entry.rule}` at `{entry.path}`, `{entry.where}`: {entry.reason}" for entry in review.unused]
    return "\n\n".join(parts) + "\n"


def _section(review: Review, pillar: Weakness) -> list[str]:
    found = review.of(pillar)
    lines = []
    if here := [finding for finding in found if finding.accepted is None]:
        lines.append(_table(["place", "in", "weakness", "rule", "why"], [[*_row(one), one.reason] for one in here]))
    if stays := [finding for finding in found if finding.accepted is not None]:
        lines.append("With a written reason:")
        lines.append(
            _table(
                ["place", "in", "weakness", "rule", "why it stays"], [[*_row(one), one.accepted or ""] for one in stays]
            )
        )
    sought = "; ".join(looked_for(pillar))
    if not sought:
        return [*lines, "No rule looks here."]
    return [*lines, f"{'Looked for' if found else 'Looked for, and not found'}: {sought}."]


def _row(finding: Finding) -> list[str]:
    tools = "" if finding.tools == ("review",) else f" ({', '.join(finding.tools)})"
    where = f"`{finding.where}`" if finding.where else ""
    return [f"{finding.path}:{finding.line}", where, f"CWE-{finding.cwe}", finding.rule + tools]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def as_json(review: Review) -> str:
    """The review as one JSON object, with the pillars in their order."""
    pillars = [
        {
            "cwe": pillar.number,
            "name": pillar.name,
            "looked_for": looked_for(pillar),
            "findings": [
                {
                    "file": finding.path,
                    "line": finding.line,
                    "where": finding.where,
                    "cwe": finding.cwe,
                    "weakness": WEAKNESSES[finding.cwe].name,
                    "rule": finding.rule,
                    "tools": finding.tools,
                    "reason": finding.reason,
                    "accepted": finding.accepted,
                }
                for finding in review.of(pillar)
            ],
        }
        for pillar in PILLARS
    ]
    counts = {"files": review.files, "lines": review.lines, "open": len(review.open), "all": len(review.findings)}
    return json.dumps({**counts, "unread": review.unread, "pillars": pillars}, indent=2) + "\n"


def sarif(review: Review) -> str:
    """The review in SARIF 2.1.0; what has its reason is suppressed with it."""
    words = {check.name: check.looks_for for check in CHECKS}
    weaknesses = {finding.rule: finding.cwe for finding in review.findings}
    rules = [
        {
            "id": rule,
            "shortDescription": {"text": words.get(rule, WEAKNESSES[cwe].name)},
            "helpUri": _CWE_PAGE.format(cwe),
            "properties": {"tags": ["security", f"external/cwe/cwe-{cwe}"]},
        }
        for rule, cwe in sorted(weaknesses.items())
    ]
    driver = {"name": "security_review", "rules": rules}
    notes = [{"level": "error", "message": {"text": line}} for line in review.unread]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not review.unread, "toolExecutionNotifications": notes}],
        "results": [_result(finding) for finding in review.findings],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(finding: Finding) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": {"uri": finding.path},
        "region": {"startLine": finding.line},
    }
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": "warning",
        "message": {"text": f"{finding.reason} (CWE-{finding.cwe})"},
        "locations": [{"physicalLocation": place}],
        "properties": {"cwe": finding.cwe, "pillar": finding.pillar.number, "tools": list(finding.tools)},
    }
    if finding.where:
        result["locations"][0]["logicalLocations"] = [{"fullyQualifiedName": finding.where}]
    if finding.accepted is not None:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.accepted}]
    return result


FORMATS: dict[str, Callable[[Review], str]] = {"markdown": markdown, "json": as_json, "sarif": sarif}
