"""The config drive as a whole: its layout, and the two forms in which Ironic takes it."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bloomery.config_drive import checks
from bloomery.config_drive.iso import iso_image
from bloomery.config_drive.meta_data import MetaData
from bloomery.config_drive.network_data import NetworkData
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

Payload = dict[str, Any] | str
"""What Ironic takes as `configdrive`: a description of the drive (API 1.56), or an image, gzipped, in base64."""

VOLUME_LABEL: Final = "config-2"

VERSIONS: Final = ("2012-08-10", "latest")
"""The folders, which hold the same files: some readers look for dated versions first. Ironic writes these two."""

IMAGE_LIMIT_BYTES: Final = 64 * 2**20
"""Ironic's deploy agent writes no larger image to a node's disk."""

PROVISION_BODY_LIMIT_BYTES: Final = 64 * 2**20
"""Ironic's default for `[api] max_json_body_size_provision`, since 37.0."""

_REST_OF_BODY_BYTES = 64 * 2**10
"""Room for what the provision request carries besides the config drive: target, deploy steps."""

_JSON_DEPTH_LIMIT = 20
"""Ironic takes bodies 25 deep by default (`[api] max_json_body_depth`); the payload lies some levels down."""

_ISO_OVERHEAD_BYTES = 2**20
"""More than an image needs besides its files' content."""

_PATH_CHARACTERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDrive:
    """What an instance finds on its config drive.

    Args:
        user_data: see `user_data_from`. Empty is the same as None.
        network_data: empty is the same as None: no file is written, and the instance falls back to its own default, which
            for most images is DHCP, instead of configuring nothing.
        vendor_data: content of `vendor_data.json`.
        vendor_data2: content of `vendor_data2.json`, which is where Ironic's own `vendor_data` goes.
        content: files to put into the instance: content by absolute path, any Unicode.

    Raises:
        InvalidRequest: a value is no such thing.
    """

    meta_data: MetaData
    user_data: Secret[bytes] | None = None
    network_data: NetworkData | None = None
    vendor_data: Mapping[str, Any] | None = field(default=None, repr=False)
    vendor_data2: Mapping[str, Any] | None = field(default=None, repr=False)
    content: Mapping[str, Secret[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Paths are absolute, vendor data is JSON, and what is empty is None."""
        for path in self.content:
            what = f"the path {checks.shown(path)} of an injected file"
            checks.line(path, what, max_length=_PATH_CHARACTERS)
            if not path.startswith("/") or path.endswith("/"):
                raise InvalidRequest(f"{what} is no file's absolute path", advice="/etc/motd would be one")
        object.__setattr__(self, "content", dict(self.content))
        for name in ("vendor_data", "vendor_data2"):
            data = getattr(self, name)
            object.__setattr__(self, name, checks.json_object(data, name) if data else None)
        if self.user_data is not None and not self.user_data.reveal():
            object.__setattr__(self, "user_data", None)
        if self.network_data is not None and self.network_data.is_empty:
            object.__setattr__(self, "network_data", None)

    @property
    def image_reason(self) -> str | None:
        """Why Ironic cannot build this drive from JSON and has to be given an image; None if it can."""
        if self.content:
            return "files are injected"
        if self.vendor_data is not None:
            return "Ironic writes vendor_data2.json, but no vendor_data.json"
        if self.user_data is not None and _text(self.user_data.reveal()) is None:
            return "the user data is binary"
        if checks.json_depth(self._json()) > _JSON_DEPTH_LIMIT:
            return "the metadata or vendor data nests deeper than Ironic's API takes it"
        # Ironic's image holds every file once for each version.
        if len(VERSIONS) * sum(map(len, self._version_files().values())) + _ISO_OVERHEAD_BYTES > IMAGE_LIMIT_BYTES:
            return "the image that Ironic would build is larger than its deploy agent takes"
        return None

    def as_json(self) -> dict[str, Any] | None:
        """What Ironic builds this drive from (API 1.56, vendor data 1.59); None where that needs an image.

        Ironic runs mkisofs or the like for it on the conductor.
        """
        return None if self.image_reason else self._json()

    def as_iso(self) -> bytes:
        """The drive as an ISO 9660 image with Joliet and Rock Ridge, labelled `config-2`.

        Raises:
            InvalidRequest: it is larger than Ironic's deploy agent takes.
        """
        version_files = self._version_files()
        files = {f"/openstack/{version}/{name}": data for version in VERSIONS for name, data in version_files.items()}
        files |= {
            f"/openstack{content_path}": self.content[path].reveal()
            for path, content_path in self._content_paths().items()
        }
        self._refuse_large_image(sum(map(len, set(files.values()))))
        image = iso_image(files, volume_label=VOLUME_LABEL)
        self._refuse_large_image(len(image))
        return image

    def as_payload(
        self, *, body_limit_bytes: int = PROVISION_BODY_LIMIT_BYTES, prefer_image: bool = False
    ) -> Secret[Payload]:
        """What goes to Ironic as `configdrive`: JSON where that is enough and fits, else an image, gzipped, in base64.

        Args:
            body_limit_bytes: the largest body that Ironic's API takes for a provision request.
            prefer_image: give an image even so, for a conductor that has no program to build one.

        Raises:
            InvalidRequest: neither form is within Ironic's limits.
        """
        room = body_limit_bytes - _REST_OF_BODY_BYTES
        description = None if prefer_image else self.as_json()
        if description is not None and len(json.dumps(description)) <= room:
            return Secret[Payload](description)
        image = base64.b64encode(gzip.compress(self.as_iso(), mtime=0)).decode()
        self._refuse_large(
            len(image),
            room,
            form="its packed image",
            limit="Ironic's API leaves for it ([api] max_json_body_size_provision)",
        )
        return Secret[Payload](image)

    def _json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"meta_data": self.meta_data.to_dict(self._content_paths())}
        if self.network_data is not None:
            data["network_data"] = self.network_data.to_dict()
        if self.user_data is not None:
            data["user_data"] = _text(self.user_data.reveal())
        if self.vendor_data2 is not None:
            data["vendor_data"] = dict(self.vendor_data2)
        return data

    def _version_files(self) -> dict[str, bytes]:
        """Content by name of the files that each version's folder holds."""
        files = {"meta_data.json": _encoded(self.meta_data.to_dict(self._content_paths()))}
        if self.network_data is not None:
            files["network_data.json"] = _encoded(self.network_data.to_dict())
        if self.user_data is not None:
            files["user_data"] = self.user_data.reveal()
        if self.vendor_data is not None:
            files["vendor_data.json"] = _encoded(self.vendor_data)
        if self.vendor_data2 is not None:
            files["vendor_data2.json"] = _encoded(self.vendor_data2)
        return files

    def _content_paths(self) -> dict[str, str]:
        """Of each injected file, by its path in the instance: its path on the drive below `openstack`."""
        return {path: f"/content/{number:04}" for number, path in enumerate(self.content)}

    def _refuse_large_image(self, size_bytes: int) -> None:
        self._refuse_large(
            size_bytes, IMAGE_LIMIT_BYTES, form="its image", limit="Ironic's deploy agent writes at most"
        )

    def _refuse_large(self, size_bytes: int, limit_bytes: int, *, form: str, limit: str) -> None:
        if size_bytes <= limit_bytes:
            return
        parts = {
            name.removesuffix(".json").replace("_", " "): len(data) for name, data in self._version_files().items()
        }
        parts |= {f"file {path}": len(data.reveal()) for path, data in self.content.items()}
        largest = max(parts, key=lambda part: parts[part])
        raise InvalidRequest(
            "the config drive does not fit",
            reason=f"{form} has {_mebibytes(size_bytes)}, and {limit} {_mebibytes(limit_bytes)}; "
            f"its largest part is the {largest} with {_mebibytes(parts[largest])}",
            advice="Make it smaller, or let the instance fetch it at first boot",
        )


def packed_image(files: Mapping[str, bytes], *, body_limit_bytes: int = PROVISION_BODY_LIMIT_BYTES) -> Secret[Payload]:
    """A drive of these files, whoever laid them out, as Ironic takes it: an image, gzipped, in base64.

    Args:
        files: content by absolute path on the drive.
        body_limit_bytes: the largest body that Ironic's API takes for a provision request.

    Raises:
        InvalidRequest: it is not within Ironic's limits.
    """
    image = iso_image(files, volume_label=VOLUME_LABEL)
    packed = base64.b64encode(gzip.compress(image, mtime=0)).decode()
    for size_bytes, limit_bytes, form in (
        (len(image), IMAGE_LIMIT_BYTES, "its image"),
        (len(packed), body_limit_bytes - _REST_OF_BODY_BYTES, "its packed image"),
    ):
        if size_bytes > limit_bytes:
            raise InvalidRequest(
                "the config drive does not fit",
                reason=f"{form} has {_mebibytes(size_bytes)}, and Ironic takes {_mebibytes(limit_bytes)}",
                advice="Make it smaller, or let the instance fetch what it needs at first boot",
            )
    return Secret[Payload](packed)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _encoded(data: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(data)).encode()


def _mebibytes(size_bytes: int) -> str:
    """The size, rounded up, so that what is over a limit looks so."""
    return f"{math.ceil(size_bytes / 2**20 * 10) / 10:.1f} MiB"
