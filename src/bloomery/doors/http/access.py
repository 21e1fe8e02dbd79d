"""Who may do what: callers, their roles, and what each of them may see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bloomery.ironic import Node
from bloomery.plain import without_places

_ID = re.compile(r"(req-)?([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})")


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

    @property
    def key_holder(self) -> str:
        """Whose idempotency keys his are."""
        return self.user_id or self.name

    def sees(self, node: Node) -> bool:
        """Whether the node is one of those that he may see: his project owns or leases it."""
        return self.sees_all or self.project_id in (node.owner, node.lessee)

    def shown(self, value: Any) -> Any:
        """The value as he may see it: texts of Ironic's have addresses and names in them that are operators' only.

        An id alone is no text: where it stands, it is that of something of his.
        """
        if self.sees_all:
            return value
        if isinstance(value, str):
            return value if _ID.fullmatch(value) else without_places(value)
        if isinstance(value, dict):
            return {name: self.shown(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.shown(part) for part in value]
        return value


NOBODY = Principal(name="anonymous", role=Role.ADMIN)
"""Whoever calls a service that asks nobody who he is."""
