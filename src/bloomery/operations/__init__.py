"""What Bloomery does, a file per verb, each opening with its request and closing with its list of steps.

`REGISTRY` names every list: the tests that break each step of each operation, and the pages that describe them, walk it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bloomery.engine import Step
from bloomery.operations import (
    console,
    crash_dump,
    deploy,
    instances,
    interfaces,
    power,
    rebuild,
    rescue,
    tear_down,
    volumes,
)

REGISTRY: Mapping[str, tuple[Step[Any], ...]] = MappingProxyType(
    {
        "deploy": deploy.DEPLOY,
        "claim": deploy.CLAIM,
        "plug": deploy.PLUG,
        "spawn": deploy.SPAWN,
        "destroy": tear_down.TEAR_DOWN_AND_CLEAN,
        "rebuild": rebuild.REBUILD,
        "rescue": rescue.RESCUE,
        "unrescue": rescue.UNRESCUE,
        "power": power.POWER,
        "attach interface": interfaces.ATTACH,
        "attach given interface": interfaces.ATTACH_GIVEN,
        "detach interface": interfaces.DETACH,
        "change security group": interfaces.CHANGE_SECURITY_GROUP,
        "attach volume": volumes.ADD_VOLUME,
        "detach volume": volumes.REMOVE_VOLUME,
        "enable console": console.ENABLE,
        "disable console": console.DISABLE,
        "crash dump": crash_dump.CRASH_DUMP,
        "adopt": instances.ADOPT,
    }
)
"""Every operation's steps, by its name."""
