"""What a machine boots when it is switched on, found out as its firmware would: drive, network, disk.

From the network it boots what Ironic left for its MAC addresses on the boot server (an iPXE script); from the drive,
the ISO in it. Either may hold the deploy agent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests

from bloomery.lab.images import AGENT_VOLUME

_VOLUME_IDENTIFIER = slice(16 * 2048 + 40, 16 * 2048 + 72)
AGENT_PARAMETER = "ipa-api-url"
"""The kernel parameter by which an agent finds Ironic; a kernel that gets it belongs to an agent's ramdisk."""


class Running(StrEnum):
    """What a machine executes."""

    NOTHING = "nothing"
    AGENT = "agent"
    RESCUE = "rescue"
    DISK = "disk"
    ISO = "iso"
    RAMDISK = "ramdisk"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Boot:
    """What was booted, and what its kernel was told."""

    running: Running
    kernel_parameters: Mapping[str, str] = field(default_factory=dict)


def choose(system: Mapping[str, Any], *, mac_addresses: Sequence[str], has_image: bool, boot_server_url: str) -> Boot:
    """What a machine boots whose BMC describes it like this; the disk if nothing else is there."""
    boot = None
    match system.get("boot_device"):
        case "Cd":
            boot = _from_drive(system)
        case "Pxe":
            boot = _from_network(mac_addresses, boot_server_url)
    return boot or Boot(Running.DISK if has_image else Running.NOTHING)


def _from_drive(system: Mapping[str, Any]) -> Boot | None:
    medium = ((system.get("boot_image") or {}).get("Cd") or [None])[0]
    if not medium:
        return None
    return Boot(Running.AGENT if _volume_of(Path(medium)) == AGENT_VOLUME else Running.ISO)


def _volume_of(iso: Path) -> str:
    """The volume identifier of an ISO image, or nothing if it is none."""
    try:
        with iso.open("rb") as image:
            head = image.read(_VOLUME_IDENTIFIER.stop)
    except OSError:
        return ""
    return head[_VOLUME_IDENTIFIER].decode("ascii", "replace").strip()


def _from_network(mac_addresses: Sequence[str], boot_server_url: str) -> Boot | None:
    for mac_address in mac_addresses:
        try:
            reply = requests.get(f"{boot_server_url}/pxelinux.cfg/{mac_address.replace(':', '-')}", timeout=10)
        except requests.RequestException:
            return None
        if reply.ok:
            return read_ipxe_script(reply.text)
    return None


def read_ipxe_script(script: str) -> Boot | None:
    """What an iPXE script of Ironic's boots: the block that its first `goto` leads to; None leaves it to the disk."""
    start = re.search(r"^goto (\S+)", script, re.MULTILINE)
    block = re.search(rf"^:{re.escape(start[1])}\n(.*?)(?=^:|\Z)", script, re.MULTILINE | re.DOTALL) if start else None
    if not start or not block:
        return None
    kernel = re.search(r"^kernel (.*?)(?: \|\| .*)?$", block[1], re.MULTILINE)
    if kernel:
        words = (word.partition("=") for word in kernel[1].split())
        parameters = {name: value for name, _, value in words}
        return Boot(Running.AGENT if AGENT_PARAMETER in parameters else Running.RAMDISK, parameters)
    if start[1] == "boot_iscsi":
        return Boot(Running.VOLUME)
    return Boot(Running.ISO) if re.search(r"^sanboot http", block[1], re.MULTILINE) else None
