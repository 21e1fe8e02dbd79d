"""What is on a machine's disk, read from outside: the file that it is."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path


def is_blank(disk: Path) -> bool:
    """Whether there is not one bit on the disk."""
    return not any(any(block) for block in _blocks(disk))


def holds(disk: Path, what: bytes) -> bool:
    """Whether these bytes are anywhere on the disk."""
    with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, end in _written(file.fileno()):
            if content.find(what, max(0, start - len(what)), end) >= 0:
                return True
    return False


def _blocks(disk: Path) -> Iterator[bytes]:
    with disk.open("rb") as file:
        for start, end in _written(file.fileno()):
            for offset in range(start, end, 1 << 20):
                yield os.pread(file.fileno(), min(1 << 20, end - offset), offset)


def _written(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where the file has content; what lies between was never written, or was given back, and reads as zeros."""
    size, end = os.fstat(descriptor).st_size, 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            # Nothing more is there.
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
