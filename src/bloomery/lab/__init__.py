"""A real Ironic with virtual BMCs, an image server and (if wanted) a real Neutron, on this machine's loopback only.

    with lab.running(lab.Options(nodes=2), state=folder) as it:
        connect(it.cloud_config, it.cloud)

`up`, `down`, `status` and `log_of` are what `bloomery lab` does. Needs the extra `lab`.
"""

from bloomery.lab.errors import LabError
from bloomery.lab.manager import default_state, down, forward, log_of, running, status, up
from bloomery.lab.model import Image, Kind, Lab, LabNode, Options
from bloomery.lab.status import ServiceStatus, Status

__all__ = [
    "Image",
    "Kind",
    "Lab",
    "LabError",
    "LabNode",
    "Options",
    "ServiceStatus",
    "Status",
    "default_state",
    "down",
    "forward",
    "log_of",
    "running",
    "status",
    "up",
]
