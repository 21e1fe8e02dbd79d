"""What a running lab says of itself: the files by which `up`, `down` and `status` know it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bloomery.lab.model import Lab
from bloomery.lab.service import RunningService, tail

LAB_FILE = "lab.json"
SERVICES_FILE = "services.json"
_TAIL_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """A service of the lab: does it run, and if not, how it ended and what it said last."""

    name: str
    pid: int
    is_running: bool
    exit_code: int | None
    log: Path
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Is there a lab, and is it well; a lab that is still coming up has a supervisor, but is not up."""

    state: Path
    has_supervisor: bool = False
    lab: Lab | None = None
    services: tuple[ServiceStatus, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.lab is not None

    @property
    def is_well(self) -> bool:
        """The lab is up with all its services."""
        return self.is_up and all(service.is_running for service in self.services)


def write_services(state: Path, running: Sequence[RunningService]) -> None:
    """The state of the services is in the lab's folder."""
    rows = [
        {
            **asdict(
                ServiceStatus(
                    name=service.name,
                    pid=service.process.pid,
                    is_running=not service.has_ended(),
                    exit_code=service.process.returncode,
                    log=service.log,
                )
            ),
            "log": str(service.log),
        }
        for service in running
    ]
    draft = state / f"{SERVICES_FILE}.new"
    draft.write_text(json.dumps(rows))
    os.replace(draft, state / SERVICES_FILE)


def read_services(state: Path) -> tuple[ServiceStatus, ...]:
    """The services as they were written last, with the last words of those that ended."""
    try:
        rows = json.loads((state / SERVICES_FILE).read_text())
    except FileNotFoundError:
        return ()
    services = []
    for row in rows:
        log = Path(row["log"])
        last_lines = () if row["is_running"] else tuple(tail(log, lines=_TAIL_LINES))
        services.append(ServiceStatus(**{**row, "log": log, "last_lines": last_lines}))
    return tuple(services)


def read_lab(state: Path) -> Lab | None:
    """The lab that is, or was, up in that folder."""
    try:
        return Lab.from_json((state / LAB_FILE).read_text())
    except FileNotFoundError:
        return None
