"""Ironic's own command `ironic` (API and conductor), kept in one process.

Four things differ from the installed command, and none changes what Ironic answers of other nodes:

- it does not fork: the second interpreter costs seconds and a hundred megabytes, and would outlive a killed parent;
- the key derivation that Ironic 39.0.0 runs before every Redfish call (600,000 rounds, a quarter of a second of CPU)
  is remembered per input: same input, same result;
- transactions that write follow each other: SQLite refuses ("database is locked") one that began before another ended,
  where the databases that Ironic is run on for real wait;
- nodes with a Redfish BMC may have the console interface of the lab's virtual machines (`vm.console`).
"""

import contextlib
import functools
import hashlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ironic.command import singleprocess
from ironic.common import service as ironic_service
from ironic.db.sqlalchemy import api as database
from ironic.drivers.redfish import RedfishHardware

from bloomery.lab.vm.console import SerialLine


def main() -> None:
    """Ironic serves until it is told to end."""
    hashlib.pbkdf2_hmac = functools.cache(hashlib.pbkdf2_hmac)  # type: ignore[assignment]
    launcher = ironic_service.process_launcher

    def launcher_without_fork(**settings: Any) -> Any:
        return launcher(**{**settings, "no_fork": True})

    session_for_write = database._session_for_write
    # Sessions are nested within a thread.
    writing = threading.RLock()

    @contextlib.contextmanager
    def session_for_write_alone() -> Iterator[Any]:
        with writing, session_for_write() as session:
            yield session

    consoles = RedfishHardware.supported_console_interfaces
    RedfishHardware.supported_console_interfaces = property(lambda hardware: [*consoles.fget(hardware), SerialLine])
    ironic_service.process_launcher = launcher_without_fork
    database._session_for_write = session_for_write_alone
    singleprocess.main()


if __name__ == "__main__":
    sys.argv[0] = "ironic"
    main()
