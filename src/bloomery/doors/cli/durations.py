"""How long operations took here, so that a progress bar can say how long the next one will take."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

KEPT = 9
"""How many of the last durations of a kind count."""


def default_path() -> Path:
    """The file in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "bloomery" / "durations.json"


class Durations:
    """How long successful operations took, by kind and resource class. A file that cannot be read counts as empty.

    Args:
        path: the file; None takes that in the user's cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def expected_s(self, operation: str, resource_class: str | None) -> float | None:
        """What the next one will probably take; None if there was none yet."""
        known = self._read().get(_key(operation, resource_class))
        return median(known) if known else None

    def note(self, operation: str, resource_class: str | None, seconds: float) -> None:
        """The duration counts from now on, if the file can be written; nothing depends on it."""
        known = self._read()
        key = _key(operation, resource_class)
        known[key] = [*known.get(key, []), round(seconds, 1)][-KEPT:]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file of its own for each writer, readable by its owner only, and in place at once.
            descriptor, draft = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        except OSError:
            return
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(known, file)
            os.replace(draft, self.path)
        except OSError:
            # On a disk that is full each deploy would leave one otherwise.
            with suppress(OSError):
                os.unlink(draft)

    def _read(self) -> dict[str, list[float]]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, Mapping):
            return {}
        return {
            str(key): [float(number) for number in numbers if isinstance(number, int | float)]
            for key, numbers in found.items()
            if isinstance(numbers, list)
        }


def _key(operation: str, resource_class: str | None) -> str:
    return f"{operation}/{resource_class or ''}"
