"""The config drive: what an instance is told about itself, as the bytes or the JSON that Ironic takes.

Pure: metadata in, bytes or JSON out. Nothing here talks to a service, starts a program or writes a file.

- `MetaData`, `NetworkData` and `user_data_from` describe and check the parts;
- `ConfigDrive` lays them out and gives the payload for Ironic;
- `network_data_from_vifs` makes the network data from VIFs on ports and port groups.
"""

from bloomery.config_drive.drive import (
    IMAGE_LIMIT_BYTES,
    PROVISION_BODY_LIMIT_BYTES,
    VOLUME_LABEL,
    ConfigDrive,
    Payload,
    packed_image,
)
from bloomery.config_drive.meta_data import MetaData, host_name_from
from bloomery.config_drive.network_data import (
    BondLink,
    BondMode,
    Link,
    Network,
    NetworkData,
    NetworkType,
    PhysicalLink,
    Route,
    VlanLink,
)
from bloomery.config_drive.user_data import user_data_from
from bloomery.config_drive.vifs import FixedIp, NicPort, NicPortGroup, VifOnNic, network_data_from_vifs

__all__ = [
    "IMAGE_LIMIT_BYTES",
    "PROVISION_BODY_LIMIT_BYTES",
    "VOLUME_LABEL",
    "BondLink",
    "BondMode",
    "ConfigDrive",
    "FixedIp",
    "Link",
    "MetaData",
    "Network",
    "NetworkData",
    "NetworkType",
    "NicPort",
    "NicPortGroup",
    "Payload",
    "PhysicalLink",
    "Route",
    "VifOnNic",
    "VlanLink",
    "host_name_from",
    "network_data_from_vifs",
    "packed_image",
    "user_data_from",
]
