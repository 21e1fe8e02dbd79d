"""Placement in one process: `python -m nova_site.placement_server FOLDER PORT`; the folder has its configuration."""

from __future__ import annotations

import os
import sys
import warnings

from bloomery.lab.neutron_server import OneAtATime


def main() -> None:
    """Placement answers until the process is killed."""
    _, folder, port = sys.argv
    del sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = folder
    from cheroot.wsgi import Server
    from placement.wsgi import init_application

    # SQLite takes one writer at a time, and refuses a reader who becomes one after another.
    Server(("127.0.0.1", int(port)), OneAtATime(init_application()), numthreads=4).safe_start()


if __name__ == "__main__":
    main()
