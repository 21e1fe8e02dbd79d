"""How much memory something takes, to the byte: what is reached from it, each part counted once."""

from __future__ import annotations

import gc
import sys
from types import FunctionType, ModuleType

import msgspec


def deep_size(*roots: object) -> int:
    """The bytes of the roots and of everything that they refer to, but for code: classes, functions, modules."""
    seen: dict[int, object] = {}
    waiting: list[object] = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | FunctionType | ModuleType):
            continue
        seen[id(thing)] = thing  # kept, so that no other takes its address meanwhile
        # Structs that the garbage collector passes over do not show it what they hold.
        waiting += msgspec.structs.astuple(thing) if isinstance(thing, msgspec.Struct) else gc.get_referents(thing)
    return sum(sys.getsizeof(thing) for thing in seen.values())
