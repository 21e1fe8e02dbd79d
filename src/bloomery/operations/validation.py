"""What a node's interfaces say to what is asked of them. Part of deploy and rebuild, and of the look at an instance."""

from __future__ import annotations

from bloomery.operations.run import Run

MUST_VALIDATE = ("boot", "deploy", "management", "network", "power", "storage")
"""The interfaces that a deploy goes through."""


def refused_by(run: Run) -> dict[str, str | None]:
    """The interfaces that a deploy goes through and that do not accept what `instance_info` asks for; of each, why."""
    said = run.ironic.validation(run.node.uuid)
    return {name: said[name].reason for name in MUST_VALIDATE if name in said and said[name].result is False}
