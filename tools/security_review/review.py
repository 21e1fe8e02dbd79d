"""The review: every check and both scanners over every file, each finding with its weakness, its place and its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import accepted, failures, flows, scanners
from .accepted import Accepted
from .cwe import PILLARS, Weakness, pillar_of
from .source import Check, Source

CHECKS: tuple[Check, ...] = (*failures.CHECKS, *flows.CHECKS)
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}


@dataclass(frozen=True, order=True)
class Finding:
    """Something to object to, or that has its reason.

    Attributes:
        path: the file, from where the review was made.
        line: its line.
        rule: the check's name, or the rule's as ruff calls it.
        tools: who found it: `review` for the checks here, `ruff`, `bandit`.
        cwe: the weakness.
        where: the function or class.
        reason: why it is one.
        accepted: the written reason for which it stays; None for an open finding.
    """

    path: str
    line: int
    rule: str
    tools: tuple[str, ...]
    cwe: int
    where: str
    reason: str
    accepted: str | None = None

    @property
    def pillar(self) -> Weakness:
        """The pillar that the weakness belongs to."""
        return pillar_of(self.cwe)


@dataclass(frozen=True)
class Review:
    """What came out.

    Attributes:
        findings: all of them, those that are accepted included.
        files: how many files were read.
        lines: how many lines they have.
        unread: files that could not be parsed, each with the reason.
        unused: accepted entries about what is not found any more.
    """

    findings: tuple[Finding, ...]
    files: int
    lines: int
    unread: tuple[str, ...]
    unused: tuple[Accepted, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that have no written reason."""
        return tuple(finding for finding in self.findings if finding.accepted is None)

    def of(self, pillar: Weakness) -> tuple[Finding, ...]:
        """The findings under the pillar."""
        return tuple(finding for finding in self.findings if finding.pillar is pillar)


def looked_for(pillar: Weakness) -> tuple[str, ...]:
    """What is looked for under the pillar: our checks in words, then the scanners' rules by number."""
    ours = [check.looks_for for check in CHECKS if any(pillar_of(cwe) is pillar for cwe in check.cwes)]
    rules = sorted(rule for rule, cwe in scanners.CWE_OF.items() if pillar_of(cwe) is pillar)
    return (*ours, *([f"bandit's and ruff's {', '.join(rules)}"] if rules else []))


def python_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Every Python file at or under the paths; folders that hold what others made are passed over."""
    for path in paths:
        if path.is_file():
            yield path
            continue
        for file in sorted(path.rglob("*.py")):
            below = file.relative_to(path).parts[:-1]
            if not any(part in _PASSED_OVER or part.startswith(".") for part in below):
                yield file


def review(
    paths: Sequence[Path], *, base: Path, reasons: Sequence[Accepted] = (), with_scanners: bool = True
) -> Review:
    """The paths, reviewed.

    Args:
        paths: files and folders.
        base: where the findings' paths, and those of `reasons`, start.
        reasons: what stays, and why, besides what stands in the files.
        with_scanners: False leaves bandit and ruff out.

    Raises:
        ScannerFailed: bandit or ruff is not there, or failed.
        LookupError: a scanner names a weakness that has no row in our table.
    """
    sources: dict[Path, Source] = {}
    unread: list[str] = []
    files = [file.resolve() for file in python_files(paths)]
    for file in files:
        try:
            sources[file] = Source.parse(file, file.read_text())
        except (SyntaxError, UnicodeDecodeError) as problem:
            unread.append(f"{_from(base, file)}: {problem}")
    used: set[Accepted] = set()
    findings: list[Finding] = []
    for (file, line, rule, cwe), (tools, reason) in sorted(_found(sources, with_scanners=with_scanners).items()):
        source = sources[file]
        path, where = _from(base, file), source.where(line)
        entry = next((entry for entry in reasons if entry.covers(rule, path, where)), None)
        if entry is not None:
            used.add(entry)
        beside = accepted.reason_beside(source, line, rule)
        stays = beside or (entry.reason if entry is not None else None)
        findings.append(Finding(path, line, rule, tools, cwe, where, reason, stays))
    return Review(
        findings=tuple(findings),
        files=len(files),
        lines=sum(source.text.count("\n") for source in sources.values()),
        unread=tuple(unread),
        unused=tuple(entry for entry in reasons if entry not in used),
    )


def _found(
    sources: dict[Path, Source], *, with_scanners: bool
) -> dict[tuple[Path, int, str, int], tuple[tuple[str, ...], str]]:
    """Everything found: by file, line, rule and weakness, who found it and why it is one."""
    found: dict[tuple[Path, int, str, int], tuple[tuple[str, ...], str]] = {}
    for file, source in sources.items():
        for check in CHECKS:
            for spot in check.find(source):
                found.setdefault((file, spot.line, check.name, spot.cwe), (("review",), spot.reason))
    if with_scanners and sources:
        for seen in (*scanners.bandit(list(sources)), *scanners.ruff(list(sources))):
            key = (seen.path.resolve(), seen.line, seen.rule, seen.cwe)
            tools, reason = found.get(key, ((), seen.reason))
            found[key] = (tuple(dict.fromkeys([*tools, seen.tool])), reason)
    return found


def _from(base: Path, file: Path) -> str:
    base = base.resolve()
    return file.relative_to(base).as_posix() if file.is_relative_to(base) else file.as_posix()


__all__ = ["CHECKS", "PILLARS", "Finding", "Review", "looked_for", "python_files", "review"]
