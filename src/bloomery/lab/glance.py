"""The lab's images as Glance would show them: enough of its API for Ironic, Nova and clients to read and download them.

What it answers is written as files when the lab comes up (`create`), and handed out by the image server below `PREFIX`.
"""

import json
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bloomery.lab.sums import Sums

PREFIX = "/glance"
CATALOG = "glance.json"

_NAMESPACE = uuid.UUID("0b3a7f5e-6c0d-5b7e-8f1a-2d9c41e7a0c4")
_RAW = (".raw", ".ext4", ".img")
_GIVEN = ("kernel_id", "ramdisk_id")
_CREATED_AT = "2026-01-01T00:00:00Z"


def image_id(name: str) -> str:
    """Under which id Glance has the lab's image of that name; the same in every lab."""
    return str(uuid.uuid5(_NAMESPACE, name))


def create(folder: Path, images: Mapping[str, tuple[Path, Sums]]) -> None:
    """The folder with the images holds what Glance says of each."""
    rows = [_row(name, path, sums) for name, (path, sums) in images.items()]
    (folder / CATALOG).write_text(json.dumps(rows, indent=2))


def _row(name: str, path: Path, sums: Sums) -> dict[str, Any]:
    number = image_id(name)
    row: dict[str, Any] = {
        "id": number,
        "name": name,
        "status": "active",
        "visibility": "public",
        "owner": "lab",
        "protected": False,
        "os_hidden": False,
        "tags": [],
        "disk_format": "raw" if path.suffix in _RAW else "iso" if path.suffix == ".iso" else path.stem[:3],
        "container_format": "bare",
        "size": path.stat().st_size,
        "virtual_size": None,
        "min_disk": 0,
        "min_ram": 0,
        "checksum": sums.md5,
        "os_hash_algo": "sha512",
        "os_hash_value": sums.sha512,
        "created_at": _CREATED_AT,
        "updated_at": _CREATED_AT,
        "self": f"/v2/images/{number}",
        "file": f"/v2/images/{number}/file",
        "schema": "/v2/schemas/image",
        "_path": path.name,
    }
    if path.suffix not in (*_RAW, ".iso"):
        row |= {"disk_format": "aki" if name.endswith("kernel") else "ari"}
        row |= {"container_format": row["disk_format"]}
    if name == "partition":
        row |= {"kernel_id": image_id("kernel"), "ramdisk_id": image_id("ramdisk")}
    return row


def answer(folder: Path, url: str) -> tuple[HTTPStatus, Any] | Path:
    """What Glance answers to a GET of that URL: a status with a JSON body, or the file with an image's content."""
    parts = urlsplit(url)
    rows = {row["id"]: row for row in json.loads((folder / CATALOG).read_text())}
    match parts.path.removeprefix(PREFIX).strip("/").split("/"):
        case [""] | ["versions"]:
            links = [{"rel": "self", "href": f"{PREFIX}/v2/"}]
            return HTTPStatus.OK, {"versions": [{"id": "v2.9", "status": "CURRENT", "links": links}]}
        case ["v2", "schemas", name]:
            # Whatever is not named here is a property that somebody gave to the image.
            named = {each: {"is_base": True} for row in rows.values() for each in _public(row) if each not in _GIVEN}
            return HTTPStatus.OK, {"name": name, "properties": named, "additionalProperties": {"type": "string"}}
        case ["v2", "images"]:
            wanted = parse_qs(parts.query).get("name")
            found = [_public(row) for row in rows.values() if wanted is None or row["name"] in wanted]
            return HTTPStatus.OK, {"images": found, "schema": "/v2/schemas/images"}
        case ["v2", "images", number] if number in rows:
            return HTTPStatus.OK, _public(rows[number])
        case ["v2", "images", number, "file"] if number in rows:
            return folder / str(rows[number]["_path"])
        case ["v2", "images", number, "members"] if number in rows:
            return HTTPStatus.OK, {"members": []}
    return HTTPStatus.NOT_FOUND, {"message": f"No image found for {parts.path}"}


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("_")}
