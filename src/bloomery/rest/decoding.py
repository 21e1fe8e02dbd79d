"""Decoders, one for each type that is read, each made by one thread at a time."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_decoders: dict[object, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """What reads JSON as values of the type; numbers and booleans may come as strings. Safe to share between threads.

    msgspec (0.22) works out a type of structs within structs when it first meets it, and shows it to other threads when half is
    done: two that read their first answers of a kind at the same moment end the process with a segmentation fault. A
    decoder has its type worked out when it is made. So whatever is read by several threads is read by one from here.
    """
    found = _decoders.get(kind)
    if found is None:
        with _making:
            found = _decoders.get(kind)
            if found is None:
                found = _decoders[kind] = msgspec.json.Decoder(kind, strict=False)
    return found
