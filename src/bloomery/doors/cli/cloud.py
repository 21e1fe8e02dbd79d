"""The cloud that a command works on: from clouds.yaml, `OS_*` variables and `--os-*` options, as the openstack command has it."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import typer

from bloomery import lab
from bloomery.errors import BloomeryError, InvalidRequest
from bloomery.library import Bloomery, connect


@dataclass(kw_only=True)
class Invocation:
    """One call of the command: what its global options say, and the connection that they lead to.

    Attributes:
        options: the `--os-*` options that were given, named as openstacksdk has them.
        use_lab: whether to work on the lab of this folder.
        is_debugging: whether a traceback is shown, and everything logged.
    """

    options: Mapping[str, str | bool] = field(default_factory=dict)
    use_lab: bool = False
    is_debugging: bool = False

    @cached_property
    def api(self) -> Bloomery:
        """The connection, made when it is first needed.

        Raises:
            BloomeryError: there is none.
        """
        if self.use_lab:
            return _connect_to_lab()
        try:
            return connect(options=Namespace(**self.options))
        except InvalidRequest as problem:
            if not self.names_cloud and lab.status().is_up:
                raise InvalidRequest(
                    problem.message,
                    reason=problem.reason,
                    advice="A lab is up here: `bloomery --lab …` works on it",
                ) from problem
            raise

    @property
    def names_cloud(self) -> bool:
        """Whether the user said which cloud he means."""
        return "os_cloud" in self.options or bool(os.environ.get("OS_CLOUD"))

    def resource_class_of(self, node_uuid: str) -> str | None:
        """The node's resource class, if it can be had."""
        try:
            return self.api.node(node_uuid).resource_class
        except BloomeryError:
            return None


def _connect_to_lab() -> Bloomery:
    here = lab.status()
    if here.lab is None:
        raise InvalidRequest(
            f"no lab is up in {here.state}", advice="`bloomery lab up` brings one up; BLOOMERY_LAB names another folder"
        )
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(here.lab.cloud_config)
    return connect(here.lab.cloud)


def invocation_of(ctx: typer.Context) -> Invocation:
    """The call that the command is part of."""
    found = ctx.find_object(Invocation)
    if found is None:
        raise AssertionError("the command runs without its root")
    return found


def api_of(ctx: typer.Context) -> Bloomery:
    """The connection that the command works with.

    Raises:
        BloomeryError: there is none.
    """
    return invocation_of(ctx).api
