"""nova-compute as its own command starts it, over the bus: `python -m nova_site.compute --config-file …`."""

# ruff: noqa: E402
from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")
sys.argv[0] = "nova-compute"

from nova.cmd import compute

from nova_site import bus

if __name__ == "__main__":
    bus.install()
    compute.main()
