"""The wall clock may be set at any moment: it is looked at for records, and what else hangs on it is known."""

from __future__ import annotations

import ast
from pathlib import Path

import bloomery

WALL_CLOCK = {
    ("deadline.py", "datetime.now"): "when marks on nodes were written, and how old they are",
    ("doors/nova/startup.py", "timeutils.utcnow"): "when Nova's instance was launched, for Nova's own record",
    ("doors/http/following.py", "time.time"): "how old the view is, for whoever is shown it",
    ("doors/http/hooks.py", "time.time"): "when an event was sent to a webhook",
    ("doors/http/store.py", "time.time"): "when rows of the log were written and are due, on SQLite",
    ("doors/http/views.py", "time.time"): "how long an operation has taken so far",
    ("doors/http/working.py", "time.time"): "when operations and their steps began and ended, and were written last",
}
"""Every look at the wall clock there is, and what for. What may take how long goes by the monotonic clock."""
_LOOKS = {"now", "utcnow", "today", "time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "asctime"}
_CLOCKS = {"time", "datetime", "date", "timeutils"}


def looks_at_the_wall_clock(source: Path) -> set[str]:
    """As they are written: `time.time`."""
    found = set()
    for part in ast.walk(ast.parse(source.read_text())):
        if isinstance(part, ast.Attribute) and part.attr in _LOOKS:
            clock = ast.unparse(part.value)
            if clock.rpartition(".")[2] in _CLOCKS:
                found.add(f"{clock}.{part.attr}")
        if isinstance(part, ast.ImportFrom) and part.module in ("time", "oslo_utils.timeutils"):
            found |= {f"{part.module}.{name.name}" for name in part.names if name.name in _LOOKS}
    return found


def test_every_look_at_the_wall_clock_is_known() -> None:
    root = Path(bloomery.__file__).parent
    found = {
        (str(source.relative_to(root)), look)
        for source in root.rglob("*.py")
        # The lab and the simulators play services that tell the time.
        if source.relative_to(root).parts[0] not in ("lab", "testing")
        for look in looks_at_the_wall_clock(source)
    }
    assert found == set(WALL_CLOCK)
