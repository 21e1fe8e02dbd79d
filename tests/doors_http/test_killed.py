"""Killed at any moment, or doubled: what was under way goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bloomery.testing import Fault, FaultKind, IronicSimulator, NeutronSimulator, RecordedRequest, Timings
from doors_http import postgres
from doors_http.http_site import DEPLOY, Caller, cloud

SERVE = """
import sys
from pathlib import Path
from bloomery.doors.http.server import serve
from bloomery.doors.http.settings import Settings
from bloomery.secret import Secret
from doors_http.http_site import connected

class Named:
    def __init__(self, url):
        self.url = url

ironic, neutron, state, database, lease_s, at_once = sys.argv[1:]
settings = Settings(
    port=0, state=Path(state), database=Secret(database) if database else None, refresh_s=0.1, lease_s=float(lease_s),
    rate_per_s=1e6, burst=1000000, at_once=int(at_once),
)
serve(lambda: connected(Named(ironic), Named(neutron)), settings, lambda url: print(url, flush=True))
"""
"""A service in a process of its own, which can be killed."""


@contextmanager
def process(
    ironic: IronicSimulator, neutron: NeutronSimulator, folder: Path, *, database: str = "", at_once: int = 8
) -> Iterator[tuple[Caller, subprocess.Popen[str]]]:
    """The service, and its process."""
    tests = Path(__file__).resolve().parents[1]
    command = [
        sys.executable,
        "-c",
        SERVE,
        ironic.url,
        neutron.url,
        str(folder / "state"),
        database,
        "1.0",
        str(at_once),
    ]
    with (folder / "log").open("a") as log:
        started = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(tests)}, text=True, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert started.stdout is not None
        url = started.stdout.readline().strip()
        assert url, (folder / "log").read_text()
        yield Caller(url), started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def provisions(ironic: IronicSimulator, target: str) -> int:
    """How often Ironic was asked to bring a node to that."""
    return sum(
        1 for request in ironic.requests
        if request.method == "PUT" and request.path.endswith("/states/provision") and request.body["target"] == target
    )  # fmt: skip


def at(caller: Caller, operation: Any, step: str) -> bool:
    return (caller.get(f"/v1/operations/{operation['id']}")["progress"] or {}).get("step") == step


def test_a_deploy_that_ironic_had_taken_up_is_followed_to_its_end(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.timings = Timings(agent_s=3.0)
        with process(ironic, neutron, tmp_path) as (caller, service):
            operation = caller.begun("POST", "/v1/instances", DEPLOY, Idempotency_Key="k")
            caller.wait_for(lambda: at(caller, operation, "wait for active"))
            service.kill()
            service.wait()
        with process(ironic, neutron, tmp_path) as (caller, _):
            ended = caller.ended(operation)
            assert ended["state"] == "succeeded", ended
            assert "operation.taken over" in str(caller.get("/v1/events?limit=1000"))
            assert caller.begun("POST", "/v1/instances", DEPLOY, Idempotency_Key="k")["id"] == operation["id"]
            assert caller.get("/v1/instances/web-1")["state"] == "active"
        assert provisions(ironic, "active") == 1


def test_a_deploy_that_ironic_had_not_taken_up_is_undone(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with process(ironic, neutron, tmp_path) as (caller, service):

            def kill_before_the_deploy(request: RecordedRequest) -> Fault | None:
                if request.method == "PUT" and request.path.endswith("/states/provision"):
                    service.kill()
                    return Fault(FaultKind.RESET)
                return None

            ironic.on_request = kill_before_the_deploy
            operation = caller.begun("POST", "/v1/instances", DEPLOY)
            service.wait()
        ironic.on_request = None
        with process(ironic, neutron, tmp_path) as (caller, _):
            ended = caller.ended(operation)
            assert ended["state"] == "failed"
            assert "broken off" in ended["problem"]["detail"]
        assert [node["instance_uuid"] for node in ironic.nodes()] == [None] * 3
        assert neutron.ports() == []


def test_a_destroy_that_was_killed_is_finished(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with process(ironic, neutron, tmp_path) as (caller, service):
            caller.deployed()
            ironic.timings = Timings(tear_down_s=2.0)
            operation = caller.begun("DELETE", "/v1/instances/web-1")
            caller.wait_for(lambda: any(node["provision_state"] == "deleting" for node in ironic.nodes()))
            service.kill()
            service.wait()
        with process(ironic, neutron, tmp_path) as (caller, _):
            assert caller.ended(operation)["state"] == "succeeded"
        assert provisions(ironic, "deleted") == 1
        assert neutron.ports() == []


def test_a_machine_that_was_shut_down_for_a_reboot_is_powered_on_by_the_next_process(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with process(ironic, neutron, tmp_path) as (caller, service):
            caller.deployed()

            def kill_before_it_is_on(request: RecordedRequest) -> Fault | None:
                if request.path.endswith("/states/power") and request.body == {"target": "power on"}:
                    service.kill()
                    return Fault(FaultKind.RESET)
                return None

            ironic.on_request = kill_before_it_is_on
            operation = caller.begun("POST", "/v1/instances/web-1/power", {"target": "reboot", "soft_s": 5})
            service.wait()
        ironic.on_request = None
        with process(ironic, neutron, tmp_path) as (caller, _):
            ended = caller.ended(operation)
            assert ended["state"] == "succeeded", ended
            assert caller.get("/v1/instances/web-1")["power_state"] == "power on"


def test_whether_a_killed_reboot_was_carried_out_is_not_guessed(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        with process(ironic, neutron, tmp_path) as (caller, service):
            caller.deployed()
            node = caller.get("/v1/instances/web-1")["node_uuid"]

            def kill_before_the_reboot(request: RecordedRequest) -> Fault | None:
                if request.path.endswith("/states/power"):
                    service.kill()
                    return Fault(FaultKind.RESET)
                return None

            ironic.on_request = kill_before_the_reboot
            before = list(ironic.bmc(node).power_changes)
            operation = caller.begun("POST", "/v1/instances/web-1/power", {"target": "reboot"})
            service.wait()
        ironic.on_request = None
        with process(ironic, neutron, tmp_path) as (caller, _):
            ended = caller.ended(operation)
            assert (ended["state"], ended["problem"]["title"]) == ("failed", "BrokenOff")
        assert ironic.bmc(node).power_changes == before


def test_what_had_not_begun_is_begun_unless_its_secrets_are_gone(tmp_path: Path) -> None:
    with cloud() as (ironic, neutron):
        ironic.timings = Timings(agent_s=3.0)
        with process(ironic, neutron, tmp_path, at_once=1) as (caller, service):
            first = caller.begun("POST", "/v1/instances", DEPLOY)
            caller.wait_for(lambda: at(caller, first, "wait for active"))
            queued = caller.begun("POST", "/v1/instances", {**DEPLOY, "name": "web-2"})
            secret = {**DEPLOY, "name": "web-3", "guest": {"admin_password": "hunter2"}}
            with_secret = caller.begun("POST", "/v1/instances", secret)
            service.kill()
            service.wait()
        ironic.timings = Timings()
        with process(ironic, neutron, tmp_path) as (caller, _):
            assert caller.ended(queued)["state"] == "succeeded"
            broken_off = caller.ended(with_secret)
            assert broken_off["state"] == "failed"
            assert broken_off["problem"]["title"] == "BrokenOff"
            assert "secrets" in broken_off["problem"]["detail"]


@postgres.NEEDED
def test_of_two_replicas_one_carries_an_operation_out_and_either_may_die(tmp_path: Path, database: str) -> None:
    with cloud(nodes=6) as (ironic, neutron):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        with (
            process(ironic, neutron, tmp_path / "a", database=database) as (first, first_process),
            process(ironic, neutron, tmp_path / "b", database=database) as (second, _),
        ):
            key = {"Idempotency_Key": "one"}
            operations = [
                first.begun("POST", "/v1/instances", DEPLOY, **key),
                second.begun("POST", "/v1/instances", DEPLOY, **key),
            ]
            assert operations[0]["id"] == operations[1]["id"]
            assert second.ended(operations[0])["state"] == "succeeded"
            assert provisions(ironic, "active") == 1
            ironic.timings = Timings(agent_s=2.0)
            more = [first.begun("POST", "/v1/instances", {**DEPLOY, "name": f"web-{n}"}) for n in range(2, 5)]
            first.wait_for(lambda: all(at(first, one, "wait for active") for one in more))
            with second.listening(Last_Event_ID="0") as events:
                first_process.kill()
                first_process.wait()
                ended = [second.ended(one) for one in more]
                assert [one["state"] for one in ended] == ["succeeded"] * 3, ended
                numbers = [int(event["id"]) for _, event in zip(range(30), events, strict=False)]
                assert numbers == sorted(set(numbers))
            assert provisions(ironic, "active") == 4
            ironic.set("node-5", maintenance=True, maintenance_reason="seen by the other")
            second.wait_for(lambda: "seen by the other" in str(second.get("/v1/events?kind=node.maintenance")))
            assert len(second.get("/v1/events?kind=node.maintenance")["events"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_end_does_so_in_order(tmp_path: Path, number: int) -> None:
    with (
        cloud() as (ironic, neutron),
        process(ironic, neutron, tmp_path) as (caller, service),
        caller.listening() as events,
    ):
        next(events)
        service.send_signal(number)
        assert service.wait(20) == 0
        # The stream has an end, before which may come what the service had seen of its nodes at its start.
        assert {event["event"] for event in events} <= {"node.appeared"}
