"""Bare-metal nodes of OpenStack Ironic, turned into running instances.

>>> import bloomery
>>> callable(bloomery.connect)
True
"""

from bloomery.bus import Bus, BusAddress
from bloomery.config_drive import user_data_from
from bloomery.deadline import Cancellation, Patience
from bloomery.errors import BloomeryError
from bloomery.fleet import Fleet, Wanted
from bloomery.library import Bloomery, connect, each
from bloomery.operations.instances import Instance, Manager
from bloomery.operations.lines import ConsoleAddress
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Guest, Image, Nic, Volume
from bloomery.operations.run import Progress
from bloomery.operations.vifs import PluggedVif
from bloomery.operations.volumes import Connector
from bloomery.secret import Secret

__version__ = "0.1.0"

__all__ = [
    "Bloomery",
    "BloomeryError",
    "Bus",
    "BusAddress",
    "Cancellation",
    "Connector",
    "ConsoleAddress",
    "DeployRequest",
    "Fleet",
    "Guest",
    "Image",
    "Instance",
    "Manager",
    "Nic",
    "Patience",
    "PluggedVif",
    "Progress",
    "RebuildRequest",
    "Secret",
    "Volume",
    "Wanted",
    "__version__",
    "connect",
    "each",
    "user_data_from",
]
