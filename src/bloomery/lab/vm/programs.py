"""The programs of this machine that virtual machines and their images need, and the packages of Debian that bring them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from bloomery.lab.errors import LabError

FIRMWARE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_SETTINGS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
EMULATOR = "qemu-system-x86_64"

TO_RUN: Mapping[str, str] = {EMULATOR: "qemu-system-x86", "qemu-img": "qemu-utils", str(FIRMWARE_CODE): "ovmf"}
"""What a lab of virtual machines needs: a program or a file, and its package."""

TO_BUILD: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "mkfs.fat": "dosfstools",
    "mcopy": "mtools",
    "cpio": "cpio",
    "zstd": "zstd",
}
"""What building the images needs besides."""

# Programs that only root is expected to call are not on everybody's path.
_SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def missing_packages(needed: Mapping[str, str]) -> list[str]:
    """The packages of what is needed and not there."""
    return sorted(
        {
            package
            for name, package in needed.items()
            if not (Path(name).exists() if name.startswith("/") else shutil.which(name, path=_SEARCHED))
        }
    )


def path_of(program: str) -> str:
    """Where the program lies."""
    return shutil.which(program, path=_SEARCHED) or program


def install(needed: Mapping[str, str], *, progress: Callable[[str], None], is_root: bool | None = None) -> None:
    """What is needed is on this machine; root has the missing packages installed.

    Args:
        is_root: whether we may install packages; None finds out.

    Raises:
        LabError: something is missing, and this is not root or the packages could not be had; says what to type.
    """
    missing = missing_packages(needed)
    if not missing:
        return
    command = f"apt-get install --no-install-recommends --yes {' '.join(missing)}"
    if not (os.geteuid() == 0 if is_root is None else is_root) or not shutil.which("apt-get"):
        raise LabError(f"virtual machines need programs that are not here; install them: sudo {command}")
    progress(f"installing {' '.join(missing)}")
    for words in (["apt-get", "update"], command.split()):
        result = subprocess.run(  # noqa: S603
            words,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
            raise LabError(f"`{' '.join(words)}` failed: {''.join(last)}")
