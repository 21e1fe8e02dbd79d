"""User data: what the instance's owner wants done at first boot, in whatever form he has it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from bloomery.config_drive import checks
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

USER_DATA_LIMIT_BYTES: Final = 64 * 2**20
"""More than this fits on no config drive."""

_GZIP_MAGIC = b"\x1f\x8b"


def user_data_from(source: str | bytes | Path | Mapping[str, Any], *, compress: bool = False) -> Secret[bytes]:
    """The bytes of the user data.

    Args:
        source: text or bytes as they are; a path, for the content of that file; a mapping, for a cloud-config.
        compress: gzip it, unless it is gzipped already. The instance has to know gzip, as cloud-init does.

    Raises:
        InvalidRequest: it cannot be read or written down, or is larger than any config drive.
    """
    match source:
        case bytes():
            data = source
        case str():
            data = checks.utf8(source, "the user data").encode()
        case Path():
            data = _content_of(source)
        case _:
            data = _cloud_config(source)
    if compress and data and not data.startswith(_GZIP_MAGIC):
        data = gzip.compress(data, mtime=0)
    return Secret(_within_limit(data, len(data), "the user data"))


def _content_of(path: Path) -> bytes:
    what = f"user data file {path}"
    try:
        with path.open("rb") as file:
            data = file.read(USER_DATA_LIMIT_BYTES + 1)
            return _within_limit(data, path.stat().st_size, what)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{what} cannot be read", reason=reason, advice="Name a file that you may read") from None


def _cloud_config(config: Mapping[str, Any]) -> bytes:
    try:
        # ASCII with escapes: written as they are, some characters (U+0085) would be read back as line breaks.
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=False)
    except (yaml.YAMLError, RecursionError) as error:
        reason = (
            "it nests too deep" if isinstance(error, RecursionError) else "it holds an object that YAML has no word for"
        )
        raise InvalidRequest(
            "the cloud-config cannot be written as YAML",
            reason=reason,
            advice="Use texts, numbers, booleans, dates, null, lists and mappings only",
        ) from None
    return f"#cloud-config\n{text}".encode()


def _within_limit(data: bytes, size_bytes: int, what: str) -> bytes:
    if max(size_bytes, len(data)) > USER_DATA_LIMIT_BYTES:
        raise InvalidRequest(
            f"{what} has {size_bytes / 2**20:.1f} MiB",
            reason=f"a config drive holds at most {USER_DATA_LIMIT_BYTES // 2**20} MiB",
            advice="Let the instance fetch large things itself at first boot",
        )
    return data
