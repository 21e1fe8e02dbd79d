"""An ISO 9660 image with Joliet and Rock Ridge, built in memory: the same bytes for the same files, at any time."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pycdlib

_SECTOR_BYTES = 2048
_FIRST_DESCRIPTOR = 16
_LAST_DESCRIPTOR_TYPE = 255

# 10 August 2012, UTC, the date of the format's first version.
_VOLUME_DATE = b"2012081000000000\0"
_RECORD_DATE = bytes([2012 - 1900, 8, 10, 0, 0, 0, 0])


def iso_image(files: Mapping[str, bytes], *, volume_label: str) -> bytes:
    """The image that holds these files; those with the same content share their place in it.

    Args:
        files: content by absolute path; ASCII names that Rock Ridge and Joliet both can spell.
    """
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=volume_label, app_ident_str="Bloomery", joliet=3, rock_ridge="1.09")
    # Plain ISO 9660 names keep their lower case, as mkisofs makes them for Ironic, which looks files up by these names.
    # Level 4 from the start would add a volume descriptor that some readers do not know.
    iso.interchange_level = 4
    for folder in _folders(files):
        iso.add_directory(folder, rr_name=PurePosixPath(folder).name, joliet_path=folder)
    placed: dict[bytes, str] = {}
    for path, content in files.items():
        name = PurePosixPath(path).name
        if content in placed:
            twin = f"{placed[content]};1"
            iso.add_hard_link(iso_old_path=twin, iso_new_path=f"{path};1", rr_name=name)
            iso.add_hard_link(iso_old_path=twin, joliet_new_path=path)
        else:
            iso.add_fp(io.BytesIO(content), len(content), f"{path};1", rr_name=name, joliet_path=path)
            placed[content] = path
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    with image.getbuffer() as buffer:
        _set_dates(buffer)
    return image.getvalue()


def _folders(files: Mapping[str, bytes]) -> list[str]:
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    return sorted(folders - {"/"})


def _set_dates(image: memoryview) -> None:
    """Every date in the image is the fixed one; pycdlib writes the time of day, in the machine's time zone."""
    start = _FIRST_DESCRIPTOR * _SECTOR_BYTES
    while image[start] != _LAST_DESCRIPTOR_TYPE:
        for created_modified_effective in (813, 830, 864):
            at = start + created_modified_effective
            image[at : at + len(_VOLUME_DATE)] = _VOLUME_DATE
        _set_record_dates(image, start + 156)
        start += _SECTOR_BYTES


def _set_record_dates(image: memoryview, root: int) -> None:
    pending = [root]
    while pending:
        record = pending.pop()
        image[record + 18 : record + 25] = _RECORD_DATE
        for child in _records_in(image, record):
            image[child + 18 : child + 25] = _RECORD_DATE
            _set_rock_ridge_dates(image, child)
            is_folder = image[child + 25] & 2
            is_itself_or_parent = image[child + 32] == 1 and image[child + 33] in (0, 1)
            if is_folder and not is_itself_or_parent:
                pending.append(child)


def _records_in(image: memoryview, folder: int) -> Iterator[int]:
    (extent,) = struct.unpack_from("<I", image, folder + 2)
    (size,) = struct.unpack_from("<I", image, folder + 10)
    at = extent * _SECTOR_BYTES
    end = at + size
    while at < end:
        if image[at]:
            yield at
            at += image[at]
        else:
            at += _SECTOR_BYTES - at % _SECTOR_BYTES


def _set_rock_ridge_dates(image: memoryview, record: int) -> None:
    """The dates of the record's TF entry are the fixed one. Names are short, so the entry lies in the record itself."""
    name_bytes = image[record + 32]
    at = record + 33 + name_bytes + (1 - name_bytes % 2)
    end = record + image[record]
    while at + 4 <= end and image[at + 2]:
        if bytes(image[at : at + 2]) == b"TF":
            for stamp in range(at + 5, at + image[at + 2], len(_RECORD_DATE)):
                image[stamp : stamp + len(_RECORD_DATE)] = _RECORD_DATE
        at += image[at + 2]
