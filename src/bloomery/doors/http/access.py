"""Who may do what: callers, their roles, and what each of them may see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Any

from bloomery.ironic import Node

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\],]+", re.IGNORECASE)
_LIKE_ADDRESS = re.compile(r"\[?([0-9a-f:.]{3,}[0-9a-f:])(%\w+)?\]?", re.IGNORECASE)
HIDDEN = "(hidden)"


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    READER = 1
    """See."""
    MEMBER = 2
    """Change."""
    ADMIN = 3
    """Everything, the service's own settings included."""

    @classmethod
    def named(cls, name: str) -> Role | None:
        """The role of that name, if there is one."""
        return cls.__members__.get(name.upper())

    @property
    def word(self) -> str:
        """As it is written."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who called.

    Attributes:
        name: who, for logs and people.
        role: what he may do.
        project_id: within which project; None is the whole of it.
        user_id: Keystone's id of him.
    """

    name: str
    role: Role
    project_id: str | None = None
    user_id: str | None = None

    @property
    def sees_all(self) -> bool:
        """Whether everything is his to see, and not just what belongs to a project."""
        return self.project_id is None

    def sees(self, node: Node) -> bool:
        """Whether the node is one of those that he may see: his project owns or leases it."""
        return self.sees_all or self.project_id in (node.owner, node.lessee)

    def shown(self, value: Any) -> Any:
        """The value as he may see it: addresses of BMCs and services stand in errors, and are operators' only."""
        if self.sees_all:
            return value
        if isinstance(value, str):
            return without_addresses(value)
        if isinstance(value, dict):
            return {name: self.shown(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.shown(part) for part in value]
        return value


NOBODY = Principal(name="anonymous", role=Role.ADMIN)
"""Whoever calls a service that asks nobody who he is."""


def without_addresses(text: str) -> str:
    """The text with every URL and every IP address hidden."""
    return _LIKE_ADDRESS.sub(_hidden_if_address, _URL.sub(HIDDEN, text))


def _hidden_if_address(found: re.Match[str]) -> str:
    words, port = found[1], ""
    if words.count(":") == 1:
        words, _, port = words.partition(":")
    try:
        ip_address(words)
    except ValueError:
        return found[0]
    return f"{HIDDEN}:{port}" if port else HIDDEN
