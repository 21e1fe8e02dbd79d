"""Whether whoever wrote a mark can still be at work: told from the mark alone, and only where that is certain.

A mark says which process wrote it and until when its operation, undoing included, may take. A process of this machine can
be seen to have ended. One of another machine cannot: then the time is waited for that its operation set itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bloomery.deadline import utc_now

SKEW = timedelta(minutes=5)
"""By how much the clocks of two machines are allowed to differ."""
WITHOUT_WORD = timedelta(hours=6)
"""How long a mark is respected that says nothing of its end: one of an older version."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@functools.cache
def this_machine() -> str | None:
    """What tells this machine's processes from others', containers told apart; None where the system does not say."""
    try:
        told = f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.stat().st_ino}"
    except OSError:
        return None
    # Many may read a mark: it tells whether two processes are of one machine, and not which machine that is.
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def this_process() -> str | None:
    """Which process this is, as a mark has it; None where the system does not say."""
    machine, pid = this_machine(), os.getpid()
    started = _started(pid)
    return f"{machine}/{pid}/{started}" if machine is not None and started is not None else None


def _started(pid: int) -> str | None:
    """When the process was started, in the kernel's ticks: numbers of processes are used again. None if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return fields[18] if len(fields) > 18 and state not in ("Z", "X") else None


def why_over(mark: Mapping[str, Any], *, now: datetime | None = None) -> str | None:
    """Why nobody can be at the operation any more that the mark tells of; None while somebody may be.

    Args:
        mark: of a node or an allocation.
        now: None means this moment.
    """
    now = now or utc_now()
    if _has_ended(mark.get("process")):
        return f"its process on {mark.get('by')} has ended"
    until, since = _moment(mark.get("until")), _moment(mark.get("since"))
    if until is not None:
        return f"its time was over at {until:%Y-%m-%d %H:%M} UTC" if now > until + SKEW else None
    if since is not None and now > since + WITHOUT_WORD:
        return f"it was begun at {since:%Y-%m-%d %H:%M} UTC"
    return None


def is_at_work(mark: Mapping[str, Any], *, now: datetime) -> bool:
    """Whether another process of this machine wrote the mark, runs, and has time left; whatever its clock says of the start."""
    until = _moment(mark.get("until"))
    is_in_time = until is None or now <= until + SKEW
    return is_in_time and mark.get("process") != this_process() and _runs(mark.get("process")) is True


def _has_ended(process: object) -> bool:
    """Whether the process was one of this machine's, and is not there any more."""
    return _runs(process) is False


def _runs(process: object) -> bool | None:
    """Whether the process runs; None where that cannot be told, because it is another machine's."""
    if not isinstance(process, str) or process.count("/") != 2:
        return None
    machine, pid, started = process.rsplit("/", 2)
    return _started(int(pid)) == started if machine == this_machine() and pid.isdecimal() else None


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
