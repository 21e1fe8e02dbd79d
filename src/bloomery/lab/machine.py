"""A machine of the lab as one would see it in the rack: its power, what it booted, and what is on its disk.

The record survives the agent: it is kept as `<folder>/<uuid>.json`, readable by its owner only, with the config drive
beside it.
"""

import base64
import binascii
import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pycdlib import PyCdlib
from pycdlib.pycdlibexception import PyCdlibException

from bloomery.lab.boot import Running
from bloomery.lab.serial import SerialLine, System


@dataclass(slots=True)
class Record:
    """What is known of a machine; an ISO timestamp says when something happened."""

    uuid: str
    name: str
    mac_addresses: list[str]
    power: str = "Off"
    running: Running = Running.NOTHING
    interrupts: int = 0
    image_url: str | None = None
    image_sha256: str | None = None
    image_size_bytes: int | None = None
    root_uuid: str | None = None
    efi_partition_uuid: str | None = None
    written_at: str | None = None
    config_drive_sha256: str | None = None
    config_drive_size_bytes: int | None = None
    cleaned_at: str | None = None
    rescue_password_hash: str | None = None
    boots: int = 0


def now() -> str:
    """The time, as the records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def decode_config_drive(text: str) -> bytes:
    """The config drive's image; Ironic sends it compressed and as base64, but takes it uncompressed too."""
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the config drive is not base64: {error}") from error
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


class Machine:
    """One machine; its methods may be called from any thread."""

    def __init__(self, folder: Path, *, uuid: str, name: str, mac_addresses: list[str]) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._record = Record(uuid=uuid, name=name, mac_addresses=mac_addresses)
        self.serial = SerialLine()
        self._system: System | None = None
        self._save()

    @property
    def uuid(self) -> str:
        return self._record.uuid

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def mac_addresses(self) -> list[str]:
        return self._record.mac_addresses

    @property
    def has_image(self) -> bool:
        """Whether there is something on the disk that it could boot."""
        return self._record.image_url is not None

    @property
    def power(self) -> str:
        return self._record.power

    def snapshot(self) -> dict[str, Any]:
        """The record as it is now."""
        with self._lock:
            return asdict(self._record)

    def change(self, **values: Any) -> None:
        """The record has these values, on disk too."""
        with self._lock:
            for name, value in values.items():
                setattr(self._record, name, value)
            self._save()

    def power_off(self) -> None:
        """The machine is off and runs nothing."""
        self._end_system()
        self.change(power="Off", running=Running.NOTHING)

    def power_on(self, running: Running) -> None:
        """The machine is on, and booted that."""
        self._end_system()
        self.change(power="On", running=running, boots=self._record.boots + 1, rescue_password_hash=None)
        if running is Running.NOTHING:
            self.serial.write("\nnothing to boot was found\n")
        elif running is not Running.AGENT:
            self.run_system(self._record.image_url or running.value)

    def run_system(self, image: str) -> None:
        """A system can be met on the serial line."""
        self._end_system()
        self._system = System(self.serial, name=self.name, image=image, metadata=self._metadata())
        self._system.boot()

    def interrupt(self, count: int) -> None:
        """So many non-maskable interrupts have come in all."""
        if count != self._record.interrupts:
            self.change(interrupts=count)
            if self._system is not None:
                self._system.interrupt()

    def _end_system(self) -> None:
        if self._system is not None:
            self._system.end()
            self._system = None

    def write_config_drive(self, content: bytes) -> None:
        """The config drive is on the disk."""
        path = self._config_drive
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
        self.change(config_drive_sha256=hashlib.sha256(content).hexdigest(), config_drive_size_bytes=len(content))

    def _metadata(self) -> Mapping[str, Any]:
        """What the config drive says of the instance; nothing if there is none, or none that can be read."""
        image, found = PyCdlib(), io.BytesIO()
        try:
            with self._config_drive.open("rb") as drive:
                image.open_fp(drive)
                try:
                    image.get_file_from_iso_fp(found, joliet_path="/openstack/latest/meta_data.json")
                finally:
                    image.close()
            metadata = json.loads(found.getvalue())
        except (OSError, ValueError, PyCdlibException):
            return {}
        return metadata if isinstance(metadata, dict) else {}

    def wipe(self) -> None:
        """Nothing is on the disk."""
        self._config_drive.unlink(missing_ok=True)
        blank = Record(uuid="", name="", mac_addresses=[])
        self.change(
            **{
                name: getattr(blank, name)
                for name in (
                    *("image_url", "image_sha256", "image_size_bytes", "root_uuid", "efi_partition_uuid", "written_at"),
                    *("config_drive_sha256", "config_drive_size_bytes"),
                )
            }
        )

    @property
    def _config_drive(self) -> Path:
        return self._folder / f"{self.uuid}.config-drive"

    def _save(self) -> None:
        # Replaced in one piece: readers never see half a record.
        path = self._folder / f"{self.uuid}.json"
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self._record), indent=2))
        os.replace(draft, path)
