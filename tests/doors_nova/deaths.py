"""A compute service that dies, and the one that comes after it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from nova import objects

from bloomery.engine import Observer
from doors_nova.nova_world import NovaWorld


class Killed(BaseException):
    """The end of the process: nothing of it runs any more, no undo either."""


class Death(Observer):
    """Comes before the named step."""

    def __init__(self, step: str) -> None:
        self.step = step

    def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002
        if step == self.step:
            raise Killed


def left_behind(world: NovaWorld, step: str, task_state: str) -> Any:
    """A server whose compute service died before that step of its build."""
    instance, network_info = world.instance(task_state=task_state), world.network_info()
    world.driver.connection._services = replace(world.services(), observer=Death(step))
    with pytest.raises(Killed):
        world.spawn(instance, network_info)
    return instance


def followed(world: NovaWorld, instance: Any, *vm_states_wanted: str) -> Any:
    """The server, once the service that has come back has seen to it."""
    left = world.restarted().process_instances_at_startup(world.context, objects.InstanceList(objects=[instance]))
    assert list(left) == []
    for thread in threading.enumerate():
        if thread.name == f"bloomery-{instance.uuid}":
            thread.join(30)
    now = objects.Instance.get_by_uuid(world.context, instance.uuid)
    assert now.vm_state in vm_states_wanted
    assert now.task_state is None
    return now
