"""Somebody does something at the k-th request of an operation: an operator, or a second process of ours."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import urllib3

from bloomery import Bloomery, BloomeryError, Patience
from bloomery.testing import FaultProxy, RecordedRequest
from unwind.scenarios import SCENARIOS, World, a_world
from unwind.test_unwind import comparable

PATIENCE = Patience(request_s=60.0, before_change_s=5.0, after_change_s=20.0, first_pause_s=0.02)
"""An operation waits for its request as long as the other one takes."""
AT_REST = (
    "active",
    "available",
    "rescue",
    "deploy failed",
    "rescue failed",
    "unrescue failed",
    "error",
    "clean failed",
)
VERSION = {"X-OpenStack-Ironic-API-Version": "1.95"}


@dataclass
class Meeting:
    """A world in which an operation goes through a proxy, where somebody may wait for its k-th request."""

    world: World
    ironic: FaultProxy
    neutron: FaultProxy
    came: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def api(self) -> Bloomery:
        """The operation's connection."""
        endpoints = {"baremetal": self.ironic.url, "network": self.neutron.url}
        return self.world.api(endpoints=endpoints, patience=PATIENCE)

    def at(self, nth: int, deed: Callable[[], None]) -> None:
        """The deed is done before the nth request of the operation, to either service, is passed on."""

        def count(_request: RecordedRequest) -> None:
            with self._lock:
                self.came += 1
                is_it = self.came == nth
            if is_it:
                deed()

        self.ironic.on_request = self.neutron.on_request = count

    def is_there(self) -> bool:
        """Whether Ironic still has the node."""
        return any(node["uuid"] == self.world.node for node in self.world.ironic.nodes())

    def settle(self) -> None:
        """Ironic has come to rest."""
        for proxy in (self.ironic, self.neutron):
            proxy.on_request = None
            proxy.wait_until_idle()
        if self.is_there():
            self.world.ironic.wait_for(self.world.node, *AT_REST, timeout_s=60)


@contextmanager
def meeting(prepare: Callable[[World], None]) -> Iterator[Meeting]:
    """A prepared world, with proxies before its services."""
    with a_world() as world:
        prepare(world)
        with FaultProxy(world.ironic.url) as ironic, FaultProxy(world.neutron.url) as neutron:
            yield Meeting(world, ironic, neutron)


@dataclass(frozen=True)
class Alone:
    """An operation that nobody disturbs: the world before and after it, and how many requests it makes."""

    untouched: Mapping[str, Any]
    finished: Mapping[str, Any]
    requests: int


def alone(prepare: Callable[[World], None], call: Callable[[Bloomery, World], object]) -> Alone:
    """What the operation does when nobody disturbs it."""
    with meeting(prepare) as met:
        untouched = comparable(met.world.seen(), met.world)
        met.at(0, lambda: None)
        call(met.api(), met.world)
        count = met.came
        met.settle()
        return Alone(untouched, comparable(met.world.seen(), met.world), count)


@functools.cache
def scenario_alone(name: str) -> Alone:
    """The same of one of the scenarios."""
    return alone(SCENARIOS[name].prepare, SCENARIOS[name].call)


# An operator's deeds, in plain HTTP


class Operator:
    """Somebody who calls Ironic as the `baremetal` command does, and tries again while the node is locked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._pool = urllib3.PoolManager(headers={**VERSION, "Content-Type": "application/json"}, retries=False)

    def close(self) -> None:
        self._pool.clear()

    def ask(self, method: str, path: str, body: object = None) -> int:
        """The status that Ironic answers."""
        content = None if body is None else json.dumps(body)
        for attempt in range(200):
            reply = self._pool.request(method, f"{self.world.ironic.url}/v1/nodes/{path}", body=content)
            is_locked = reply.status == 409 and b"locked" in reply.data
            if not is_locked or attempt == 199:
                return reply.status
            threading.Event().wait(0.01)
        raise AssertionError("not reached")

    def patch(self, field_name: str, value: object) -> bool:
        """Whether Ironic took the change."""
        change = {"op": "add", "path": f"/{field_name}", "value": value}
        return self.ask("PATCH", self.world.node, [change]) < 300


Deed = Callable[[Operator], bool]


def undeploys(operator: Operator) -> bool:
    return operator.ask("PUT", f"{operator.world.node}/states/provision", {"target": "deleted"}) < 300


def moves_to_another_shard(operator: Operator) -> bool:
    return operator.patch("shard", "elsewhere")


def moves_to_another_conductor_group(operator: Operator) -> bool:
    return operator.patch("conductor_group", "elsewhere")


def changes_the_resource_class(operator: Operator) -> bool:
    return operator.patch("resource_class", "other")


def renames(operator: Operator) -> bool:
    return operator.patch("name", "renamed")


def puts_in_maintenance(operator: Operator) -> bool:
    return operator.ask("PUT", f"{operator.world.node}/maintenance", {"reason": "mine"}) < 300


def deletes(operator: Operator) -> bool:
    return puts_in_maintenance(operator) and operator.ask("DELETE", operator.world.node) < 300


def takes_the_instance_away(operator: Operator) -> bool:
    had_one = operator.world.ironic.node(operator.world.node)["instance_uuid"] is not None
    change = [{"op": "remove", "path": "/instance_uuid"}]
    return had_one and operator.ask("PATCH", operator.world.node, change) < 300


FIELDS: Mapping[Deed, Mapping[str, object]] = {
    moves_to_another_shard: {"shard": "elsewhere"},
    moves_to_another_conductor_group: {"conductor_group": "elsewhere"},
    changes_the_resource_class: {"resource_class": "other"},
    renames: {"name": "renamed"},
    puts_in_maintenance: {"maintenance": True, "maintenance_reason": "mine"},
}
"""What the node has to show after the deeds that change fields."""
DEEDS: tuple[Deed, ...] = (undeploys, *FIELDS, deletes, takes_the_instance_away)


def plain(problem: BloomeryError) -> bool:
    """Whether the error says what happened in words for a user, and not how a program failed."""
    text = str(problem)
    return bool(text) and not any(sign in text for sign in ("Traceback", " object at 0x", "Error(", "None", "Errno"))
