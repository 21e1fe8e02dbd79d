"""The written reasons for which a finding stays.

A reason stands beside its line, or on the line above, as `# review: <reason>`; for a rule of ruff's also behind the words that
silence ruff, as `# noqa: S311  <reason>`. One for many lines stands in a file of tables:

    [[accepted]]
    rule = "S603"
    path = "src/package/*.py"
    where = "function"           # may be left out: the whole file
    reason = "The command is a list of our own making."
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from .source import Source

_REVIEW = re.compile(r"review:\s*(?P<reason>\S.*)")
_NOQA = re.compile(r"noqa:\s*(?P<rules>[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)\s+(?P<reason>\S.*)")


class BadReason(Exception):
    """The file of accepted findings has an entry that says too little."""


@dataclass(frozen=True)
class Accepted:
    """An entry of the file: what is found by the rule there, stays, and why."""

    rule: str
    path: str
    where: str
    reason: str

    def covers(self, rule: str, path: str, where: str) -> bool:
        """Whether the entry is about that finding."""
        return self.rule == rule and fnmatch(path, self.path) and fnmatch(where, self.where)


def read(file: Path) -> tuple[Accepted, ...]:
    """The entries of the file.

    Raises:
        BadReason: an entry lacks its rule, path or reason.
    """
    entries = []
    for entry in tomllib.loads(file.read_text()).get("accepted", []):
        rule, path, reason = (str(entry.get(key, "")).strip() for key in ("rule", "path", "reason"))
        if not (rule and path and reason):
            raise BadReason(f"{file}: an entry needs a rule, a path and a reason: {entry}")
        entries.append(Accepted(rule, path, str(entry.get("where", "*")), reason))
    return tuple(entries)


def reason_beside(source: Source, line: int, rule: str) -> str | None:
    """The reason that stands beside the line or right above it, if there is one."""
    for number in (line, line - 1):
        comment = source.comments.get(number, "")
        if number != line and not source.text.splitlines()[number - 1].lstrip().startswith("#"):
            continue
        if said := _REVIEW.search(comment):
            return said["reason"]
        if (silenced := _NOQA.search(comment)) and rule in re.split(r",\s*", silenced["rules"]):
            return silenced["reason"].strip("() ")
    return None
