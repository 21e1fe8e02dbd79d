"""The lab's images as Glance would show them, without the lab."""

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from bloomery.lab import glance, images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images.create(tmp_path, base_url="http://127.0.0.1:1")
    return tmp_path


def test_an_image_has_the_hash_of_its_content(folder: Path) -> None:
    number = glance.image_id("whole-disk")
    row = answer(folder, f"/glance/v2/images/{number}")
    path = glance.answer(folder, f"/glance{row['file']}")
    assert isinstance(path, Path)
    content = path.read_bytes()
    assert (row["id"], row["name"], row["size"], row["status"]) == (number, "whole-disk", len(content), "active")
    assert (row["os_hash_algo"], row["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())


def test_images_are_found_by_name(folder: Path) -> None:
    (row,) = answer(folder, "/glance/v2/images?name=partition")["images"]
    assert row["id"] == glance.image_id("partition")
    assert (row["kernel_id"], row["ramdisk_id"]) == (glance.image_id("kernel"), glance.image_id("ramdisk"))
    assert len(answer(folder, "/glance/v2/images")["images"]) > 1


def test_the_schema_names_what_every_image_has(folder: Path) -> None:
    schema = answer(folder, "/glance/v2/schemas/image")
    assert {"id", "name", "status", "size"} <= set(schema["properties"])
    assert "kernel_id" not in schema["properties"]


def test_an_unknown_image_is_404(folder: Path) -> None:
    for path in ("/glance/v2/images/none", "/glance/v2/images/none/file", "/glance/v1"):
        found = glance.answer(folder, path)
        assert not isinstance(found, Path)
        assert found[0] is HTTPStatus.NOT_FOUND


def answer(folder: Path, path: str) -> dict[str, Any]:
    found = glance.answer(folder, path)
    assert not isinstance(found, Path)
    assert found[0] is HTTPStatus.OK
    value: dict[str, Any] = found[1]
    return value
