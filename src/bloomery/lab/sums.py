"""What is known of a file by its content: the checksums that Ironic, Glance and users ask for."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The checksums of a file, in hexadecimal digits."""

    md5: str
    sha256: str
    sha512: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The sums of the file; it is read once."""
        hashes = {
            "md5": hashlib.md5(usedforsecurity=False),
            "sha256": hashlib.sha256(),
            "sha512": hashlib.sha512(),
        }
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                for each in hashes.values():
                    each.update(block)
        return cls(**{name: each.hexdigest() for name, each in hashes.items()})
