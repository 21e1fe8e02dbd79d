"""Where a site adds to what its instances are told: entry points, called in the order of their names.

Each hook is a function `hook(value, *, instance, node)` that returns the value to go on with. `instance` is Nova's, `node`
Ironic's. What a hook raises fails the build.

- `bloomery.nova.network_data`: the content of `network_data.json`, a dict or None;
- `bloomery.nova.user_data`: the user data, bytes or None;
- `bloomery.nova.meta_data`: what is added to `meta_data.json`, a dict.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bloomery.ironic import Node

NETWORK_DATA, USER_DATA, META_DATA = (f"bloomery.nova.{name}" for name in ("network_data", "user_data", "meta_data"))


@cache
def _hooks(group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


def _through(group: str, value: Any, instance: Any, node: Node) -> Any:
    for entry in _hooks(group):
        value = entry.load()(value, instance=instance, node=node)
    return value


def network_data(value: dict[str, Any] | None, instance: Any, node: Node) -> dict[str, Any] | None:
    """The network data, after the site's hooks."""
    changed: dict[str, Any] | None = _through(NETWORK_DATA, value, instance, node)
    return changed


def user_data(value: bytes | None, instance: Any, node: Node) -> bytes | None:
    """The user data, after the site's hooks."""
    changed: bytes | None = _through(USER_DATA, value, instance, node)
    return changed


def meta_data(value: dict[str, Any], instance: Any, node: Node) -> dict[str, Any]:
    """What is added to the metadata, after the site's hooks."""
    changed: dict[str, Any] = _through(META_DATA, value, instance, node)
    return changed
