"""The type that holds what nobody may read in a log, and a process that leaves its memory to nobody."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Collection
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")

_PR_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """No core dump of this process is written, and no other process of its user looks into its memory.

    For processes of our own only: it holds for the whole process, and not for the programs that it starts.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A dump that goes to a program, as systemd has it, does not ask for the limit.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def hide_arguments(secrets: Collection[str]) -> None:
    """Lists of processes show asterisks where these stand among this process's arguments; on Linux only.

    Before `keep_memory_private`, after which the process does not learn any more where its arguments are.

    Args:
        secrets: whole arguments, or what stands behind the first equals sign of one.
    """
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return
    # The program's name, in parentheses, is the second field, and may have spaces; arg_start is the 48th.
    start, end = map(int, stat.read_bytes().rpartition(b")")[2].split()[45:47])
    wanted = {os.fsencode(secret) for secret in secrets}
    at = start
    for argument in ctypes.string_at(start, end - start).split(b"\0"):
        for found in (argument, argument.partition(b"=")[2]):
            if found and found in wanted:
                ctypes.memset(at + len(argument) - len(found), ord("*"), len(found))
        at += len(argument) + 1


class Secret(Generic[T]):
    """A value that shows itself to nobody who does not ask for it by name.

    Passwords, config drives, user data and tokens are held in it. `str`, `repr` and `format` give asterisks; pickling and
    JSON encoding fail; `reveal` gives the value, and stands only where it goes to the wire or to its owner's eyes.
    """

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value = value

    def reveal(self) -> T:
        """The value itself."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(******)"

    def __str__(self) -> str:
        return "******"

    def __format__(self, _spec: str) -> str:
        return "******"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self.reveal() == other.reveal())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: it goes to the wire and to nothing else")
