"""Which version of Ironic's API gives what. No version number stands anywhere else.

Source: ironic's web API version history; PEERS of the project for what each brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bloomery.errors import NotSupported

FLOOR = (1, 81)
"""Below this, Bloomery does not start: allocations, config drives as JSON, deploy steps and history are all there at 1.81."""

NEWEST = (1, 115)
"""The newest version that Bloomery was tried with; a newer Ironic is spoken to in this one."""


class Feature(Enum):
    """What Ironic may or may not offer: since when, and in plain words."""

    SHARDS = (1, 82), "nodes grouped into shards"
    UNHOLD = (1, 85), "the unhold verb"
    FIRMWARE = (1, 86), "firmware components"
    SERVICE = (1, 87), "servicing of active nodes"
    PORT_NAMES = (1, 88), "names of ports"
    INSTANCE_NAME = (1, 104), "an instance's name on its node"
    HEALTH = (1, 109), "the hardware's health"
    ABORT_DEPLOY = (1, 110), "stopping a deploy that waits for its ramdisk"

    @property
    def since(self) -> tuple[int, int]:
        """The API version that brought it."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What it is."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Features:
    """What the Ironic that we speak to offers.

    Attributes:
        version: the API version that is spoken: the newest that both sides know.
    """

    version: tuple[int, int]

    def has(self, feature: Feature) -> bool:
        """Whether it is there."""
        return self.version >= feature.since

    def need(self, feature: Feature) -> None:
        """Raise if it is not there.

        Raises:
            NotSupported: says what is missing, and since when Ironic has it.
        """
        if not self.has(feature):
            raise NotSupported(
                f"this Ironic has no {feature.words}",
                reason=f"it speaks API {dotted(self.version)}, which came with {dotted(feature.since)}",
            )


def dotted(version: tuple[int, int]) -> str:
    """The version as Ironic writes it."""
    return f"{version[0]}.{version[1]}"
