"""The only code that talks to Ironic."""

from bloomery.ironic.features import Feature, Features
from bloomery.ironic.gateway import Ironic, next_marker
from bloomery.ironic.models import (
    Allocation,
    Conductor,
    Console,
    Node,
    Port,
    PortGroup,
    Validation,
    VolumeConnector,
    VolumeTarget,
)

__all__ = [
    "Allocation",
    "Conductor",
    "Console",
    "Feature",
    "Features",
    "Ironic",
    "Node",
    "Port",
    "PortGroup",
    "Validation",
    "VolumeConnector",
    "VolumeTarget",
    "next_marker",
]
