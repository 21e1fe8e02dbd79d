"""nova-compute as its own command starts it, over the bus: `python -m nova_site.compute --config-file …`."""

# ruff: noqa: E402
from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")
sys.argv[0] = "nova-compute"

from nova.cmd import compute

from nova_site import bus


def concurrency() -> str:
    """What this process has in place of threads, or threads: as Nova's command has decided by now."""
    patcher = sys.modules.get("eventlet.patcher")
    return "eventlet" if patcher is not None and patcher.is_monkey_patched("thread") else "threads"


if __name__ == "__main__":
    print(f"nova-compute of Nova {compute.version.version_string()} runs under {concurrency()}", flush=True)
    bus.install()
    compute.main()
