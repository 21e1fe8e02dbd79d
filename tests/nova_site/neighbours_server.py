"""The message bus and the stand-ins for Keystone and Cinder in one process: `python -m nova_site.neighbours_server SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cheroot.wsgi import Server

from nova_site import exchange, neighbours


def main() -> None:
    """All of them answer until the process is killed."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    exchange.serve(settings["bus_port"], settings["bus_key"])
    application = neighbours.application(
        neighbours.Identity(settings["endpoints"]), neighbours.Volumes(settings["image_ids"])
    )
    Server(("127.0.0.1", settings["neighbours_port"]), application, numthreads=10, request_queue_size=50).safe_start()


if __name__ == "__main__":
    main()
