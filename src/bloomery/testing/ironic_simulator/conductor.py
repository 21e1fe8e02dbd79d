"""The played conductor: it takes a node's lock, works through stages, and moves the node through its states.

Source: ironic conductor/{manager,deployments,cleaning,allocations,servicing,utils,task_manager}.py (39.0).
"""

from __future__ import annotations

import copy
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import (
    ApiError,
    WorkFailed,
    bad_request,
    conflict,
    in_maintenance,
    is_protected,
    is_retired,
    no_free_worker,
    node_locked,
    state_refused,
    unsupported,
)
from bloomery.testing.ironic_simulator.records import ALLOCATED_PORT, INTERFACES, VOLUME_TARGET, Record, is_graphical
from bloomery.testing.ironic_simulator.vifs import Vifs
from bloomery.testing.ironic_simulator.world import Job, Stage, Timings, World

_RETRY_S = 0.005
_ALLOCATION_ATTEMPTS = 3

_AGENT_STEPS = (
    ("deploy", 100),
    ("write_image", 80),
    ("prepare_instance_boot", 60),
    ("tear_down_agent", 40),
    ("switch_to_tenant_network", 30),
    ("boot_instance", 20),
)
_STEPS_THAT_WAIT_FOR_THE_AGENT = frozenset({"deploy", "write_image"})
_CORE_STEPS = frozenset(name for name, _ in _AGENT_STEPS)
_CLEAN_STEPS: tuple[Record, ...] = (
    {"interface": "deploy", "step": "erase_devices_metadata", "priority": 10, "abortable": True, "args": {}},
)
_WORK_OF_WAIT = {
    machine.DEPLOY_WAIT: "deploy",
    machine.DEPLOY_HOLD: "deploy",
    machine.CLEAN_WAIT: "clean",
    machine.CLEAN_HOLD: "clean",
    machine.SERVICE_WAIT: "service",
    machine.SERVICE_HOLD: "service",
}
"""Which work's steps a node waits for."""
_WAITED_FOR = {
    machine.DEPLOY_WAIT: "callback for",
    machine.CLEAN_WAIT: "the cleaning of",
    machine.RESCUE_WAIT: "rescue ramdisk callback for",
    machine.INSPECT_WAIT: "the inspection of",
    machine.SERVICE_WAIT: "the servicing of",
}
_FAIL_WORDS = {
    "tear_down": "Failed to tear down: {}",
    "rescue": "Failed to rescue: {}",
    "unrescue": "Failed to unrescue: {}",
}


class Conductor:
    """Does the work of the API's requests in a thread of its own, one stage after the other.

    Every method expects that the caller holds `changed`, the condition that guards the world.
    """

    def __init__(self, world: World, vifs: Vifs, *, timings: Timings, host: str) -> None:
        self.world = world
        self.vifs = vifs
        self.timings = timings
        self.host = host
        self.automated_clean = True
        self.max_workers: int | None = None
        self.max_limit = 1000
        self.lock_wait_s = 0.0
        self.changed = threading.Condition(threading.RLock())
        self.crashes: list[BaseException] = []
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    # The thread ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Work gets done."""
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="IronicSimulator conductor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No work gets done any more."""
        with self.changed:
            self._is_stopping = True
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        with self.changed:
            while not self._is_stopping:
                job = min(self.world.jobs, key=lambda job: job.due_s, default=None)
                if job is None:
                    self.changed.wait()
                    continue
                if (wait_s := job.due_s - time.monotonic()) > 0:
                    self.changed.wait(wait_s)
                    continue
                self._run(job)
                self.changed.notify_all()

    def _run(self, job: Job) -> None:
        """The job's next stage is done, or its failure is written on the node."""
        stage = job.stages.popleft()
        action: Callable[[Job, Any], None] = getattr(self, f"_{stage.action}")
        try:
            action(job, stage.argument)
        except WorkFailed as failure:
            self._fail(job, failure.reason)
        except Exception as crash:
            self.crashes.append(crash)
            self._end(job)
            raise
        if job not in self.world.jobs:
            return
        node = self.world.nodes.get(job.subject)
        if node is not None and (node["uuid"], node["provision_state"]) in self.world.sticky:
            self.world.jobs.remove(job)
        elif job.stages:
            job.due_s = time.monotonic() + job.stages[0].delay_s
        else:
            self._end(job)

    def _end(self, job: Job) -> None:
        if job in self.world.jobs:
            self.world.jobs.remove(job)
        node = self.world.nodes.get(job.subject)
        if node is not None and job.holds_lock:
            node["reservation"] = None
            self.world.touch(node)

    # Locks and states ------------------------------------------------------------------------------------------------

    def lock(self, node: Record) -> None:
        """Nobody else holds the node's lock; waits for it as long as it is configured, then refuses."""
        if not self.changed.wait_for(lambda: not node["reservation"], timeout=self.lock_wait_s):
            raise node_locked(node["uuid"], node["reservation"])

    def save(self, node: Record, **changes: Any) -> None:
        """The node has the values."""
        node.update(changes)
        self.world.touch(node)
        self.changed.notify_all()

    def move(self, node: Record, event: str, *, target_state: str | None = None, is_working: bool = False) -> None:
        """The node is in the state that the event leads to."""
        state = machine.next_state(node["provision_state"], event)
        if state is None:
            raise state_refused(event, node["uuid"], node["provision_state"])
        before = node["provision_state"]
        is_at_rest = not is_working and state in machine.STABLE_STATES
        now = self.world.now()
        node["provision_state"] = state
        node["target_provision_state"] = None if is_at_rest else target_state or machine.TARGETS.get(state)
        node["provision_updated_at"] = now
        node["updated_at"] = now
        if state == machine.INSPECTING:
            node["inspection_started_at"], node["inspection_finished_at"] = now, None
        elif before in (machine.INSPECTING, machine.INSPECT_WAIT) and state == machine.MANAGEABLE:
            node["inspection_started_at"], node["inspection_finished_at"] = None, now
        self.changed.notify_all()

    def _begin(self, node: Record, event: str, job: Job, *, target_state: str | None = None) -> None:
        """The event is processed, the node locked, and the job taken up."""
        self.lock(node)
        before = node["provision_state"]
        if machine.next_state(before, event) is None:
            raise state_refused(event, node["uuid"], before)
        self._check_workers(node)
        self.drop_jobs(node["uuid"])
        job.initial_state = before
        self.move(node, event, target_state=target_state, is_working=True)
        self.save(node, last_error=None, reservation=self.host)
        self._take_up(job)

    def _check_workers(self, node: Record) -> None:
        busy = sum(job.holds_lock for job in self.world.jobs)
        if self.max_workers is not None and busy >= self.max_workers:
            self.save(node, last_error="No free conductor workers available")
            raise no_free_worker()

    def _take_up(self, job: Job) -> None:
        job.due_s = time.monotonic() + job.stages[0].delay_s
        self.world.jobs.append(job)
        node = self.world.nodes.get(job.subject)
        if node is not None and (node["uuid"], node["provision_state"]) in self.world.sticky:
            self.world.jobs.remove(job)
        self.changed.notify_all()

    def drop_jobs(self, node_uuid: str) -> None:
        """Nothing is under way for the node, nor waited for."""
        self.world.jobs = [job for job in self.world.jobs if job.subject != node_uuid]

    def record(self, node: Record, event: str, kind: str, *, is_error: bool = True) -> None:
        """The event is in the node's history, and an error in `last_error` too."""
        if is_error:
            node["last_error"] = event
        self.world.history.setdefault(node["uuid"], []).append(
            {
                "uuid": str(uuid.uuid4()),
                "created_at": self.world.now(),
                "severity": "ERROR" if is_error else "INFO",
                "event_type": kind,
                "event": event,
                "conductor": self.host,
                "user": None,
                "project": None,
                "state": node["provision_state"],
                "target_provision_state": node["target_provision_state"],
                "duration_seconds": 0,
            }
        )

    def _strike(self, job: Job, *, step: str | None = None) -> None:
        """The failure that was ordered for this work happens."""
        ordered = self.world.failures.get((job.subject, job.work))
        if ordered and (step is None or ordered[1] in (None, step)):
            del self.world.failures[job.subject, job.work]
            raise WorkFailed(ordered[0])

    def _fail(self, job: Job, reason: str) -> None:
        """The work's failure is written on the node, and what the real conductor then undoes is undone."""
        node = self.world.nodes[job.subject]
        job.stages.clear()
        message = _FAIL_WORDS.get(job.work, "{}").format(reason)
        match job.work:
            case "power":
                node["target_power_state"] = None
                self.record(node, message, "UNKNOWN")
            case "console":
                self.record(node, f"Error {message}", "console")
            case "tear_down":
                self.record(node, message, "unprovision")
                self.move(node, "fail")
                self._forget_instance(node)
            case "deploy" | "rebuild":
                self._fail_deploy(node, message)
            case "clean":
                self._fail_clean(node, message, job)
            case "rescue":
                self._remove_rescue_password(node)
                self.record(node, message, "rescue")
                self.move(node, "fail")
            case _:
                self.record(node, message, job.work)
                self.move(node, "fail")
        self.world.touch(node)

    # Asking for work -------------------------------------------------------------------------------------------------

    def deploy(self, node: Record, *, configdrive: Any, steps: list[Record] | None, is_rebuild: bool) -> None:
        """The node is being deployed, or deployed anew."""
        event = "rebuild" if is_rebuild else "deploy"
        self.lock(node)
        if node["maintenance"]:
            raise in_maintenance("provisioning", node["uuid"])
        if is_rebuild and node["protected"]:
            raise is_protected(node["uuid"])
        if machine.next_state(node["provision_state"], event) is None:
            raise state_refused(event, node["uuid"], node["provision_state"])
        node["instance_info"].setdefault("image_type", _image_type(node))
        node["driver_internal_info"]["is_whole_disk_image"] = node["instance_info"]["image_type"] == "whole-disk"
        problems = self.validate(node)
        for interface in ("power", "deploy"):
            if problem := problems[interface]:
                raise bad_request(f"Failed to validate deploy or power info for node {node['uuid']}: {problem}")
        plan = self._deploy_plan(node, steps or [])
        self._begin(
            node, event, Job(event, node["uuid"], deque([Stage("store_config_drive", 0.0, configdrive), *plan]))
        )

    def _deploy_plan(self, node: Record, user_steps: list[Record]) -> list[Stage]:
        for step in user_steps:
            if step["interface"] == "deploy" and step["step"] in _CORE_STEPS:
                raise bad_request(
                    f"Failed to validate deploy or power info for node {node['uuid']}: Validation of deploy steps "
                    f'from "deploy steps" argument failed.deploy step {step["step"]} on interface deploy is a core '
                    "step and cannot be overridden by user steps. It may be disabled by setting the priority to 0"
                )
        own = _AGENT_STEPS if node["deploy_interface"] == "direct" else _AGENT_STEPS[:1]
        steps: list[Record] = [
            {"interface": "deploy", "step": name, "priority": priority, "abortable": True, "argsinfo": None}
            for name, priority in own
        ]
        steps += [{**step, "priority": int(step["priority"])} for step in user_steps if int(step["priority"])]
        steps.sort(key=lambda step: -int(step["priority"]))
        piece_s = self.timings.deploy_s / (len(steps) + 1)
        plan = [Stage("prepare_deploy", piece_s, steps)]
        for index, step in enumerate(steps):
            plan.append(Stage("begin_deploy_step", 0.0, index))
            plan.append(Stage("end_deploy_step", piece_s, step))
            if node["deploy_interface"] == "direct" and step["step"] in _STEPS_THAT_WAIT_FOR_THE_AGENT:
                plan += self._wait_for_agent(machine.DEPLOY_WAIT)
        return [*plan, Stage("finish_deploy")]

    def _wait_for_agent(self, wait_state: str) -> list[Stage]:
        return [Stage("wait"), Stage("resume", self.timings.agent_s, wait_state)]

    def tear_down(self, node: Record) -> None:
        """The node is being torn down; cleaning follows."""
        self.lock(node)
        if node["protected"]:
            raise is_protected(node["uuid"])
        self._begin(
            node,
            "delete",
            Job("tear_down", node["uuid"], deque([Stage("tear_down_now", self.timings.tear_down_s)])),
        )

    def rescue(self, node: Record, password: str) -> None:
        """The node is on its way into rescue mode."""
        self.lock(node)
        if node["maintenance"]:
            raise in_maintenance("rescuing", node["uuid"])
        if node["rescue_interface"] == "no-rescue":
            refusal = unsupported(node["driver"], "rescue").message
            raise ApiError(
                500,
                f"Failed to rescue instance {node['instance_uuid']} for node {node['uuid']}: "
                f"Validation failed: {refusal}",
            )
        half_s = self.timings.rescue_s / 2
        waits = self._wait_for_agent(machine.RESCUE_WAIT) if node["rescue_interface"] == "agent" else []
        stages = deque([Stage("boot_rescue_ramdisk", half_s), *waits, Stage("finish_rescue", half_s)])
        self._begin(node, "rescue", Job("rescue", node["uuid"], stages))
        node["instance_info"] |= {"rescue_password": password, "hashed_rescue_password": f"hash of {len(password)}"}

    def unrescue(self, node: Record) -> None:
        """The node is on its way back from rescue mode."""
        self.lock(node)
        if node["maintenance"]:
            raise in_maintenance("unrescuing", node["uuid"])
        stages = deque([Stage("finish_unrescue", self.timings.unrescue_s)])
        self._begin(node, "unrescue", Job("unrescue", node["uuid"], stages))

    def clean(self, node: Record, steps: list[Record]) -> None:
        """The node is being cleaned by hand."""
        self.lock(node)
        if node["maintenance"]:
            raise in_maintenance("cleaning", node["uuid"])
        job = Job("clean", node["uuid"], deque([Stage("start_clean", 0.0, steps)]), is_manual=True)
        self._begin(node, "clean", job, target_state=machine.MANAGEABLE)

    def service(self, node: Record, steps: list[Record]) -> None:
        """The node is being serviced."""
        self.lock(node)
        if node["maintenance"]:
            raise in_maintenance("service", node["uuid"])
        piece_s = self.timings.service_s / (len(steps) + 1)
        stages = deque([Stage("start_service", piece_s, steps), *self._wait_for_agent(machine.SERVICE_WAIT)])
        for index in range(len(steps)):
            stages.append(Stage("service_step", piece_s, index))
        stages.append(Stage("finish_service"))
        self._begin(node, "service", Job("service", node["uuid"], stages), target_state=machine.ACTIVE)

    def inspect(self, node: Record) -> None:
        """The node is being inspected."""
        waits = self._wait_for_agent(machine.INSPECT_WAIT) if node["inspect_interface"] == "agent" else []
        stages = deque(
            [
                Stage("start_inspect", self.timings.inspect_s / 2),
                *waits,
                Stage("finish_inspect", self.timings.inspect_s / 2),
            ]
        )
        self._begin(node, "inspect", Job("inspect", node["uuid"], stages))

    def act(self, node: Record, action: str) -> None:
        """Does one of the actions that take no argument: manage, provide, adopt, abort, unhold."""
        self.lock(node)
        state, node_uuid = node["provision_state"], node["uuid"]
        if action == "provide" and state == machine.MANAGEABLE:
            if node["retired"]:
                raise is_retired("providing", node_uuid)
            self._begin(node, action, Job("clean", node_uuid, deque([Stage("start_clean")])))
        elif action == "manage" and state == machine.ENROLL:
            stages = deque([Stage("finish_verify", self.timings.verify_s)])
            self._begin(node, action, Job("verify", node_uuid, stages))
        elif action == "adopt":
            stages = deque([Stage("finish_adopt", self.timings.adopt_s)])
            self._begin(node, action, Job("adopt", node_uuid, stages))
        elif action == "abort":
            self._abort(node)
        elif action == "unhold" and state == machine.SERVICE_HOLD:
            self._begin(
                node,
                action,
                Job("service", node_uuid, deque([Stage("resume", 0.0, machine.SERVICE_WAIT), Stage("finish_service")])),
            )
        else:
            self.move(node, action)

    def _abort(self, node: Record) -> None:
        """The work that waits is given up; where its step cannot be interrupted, once that step is done."""
        state = node["provision_state"]
        work = _WORK_OF_WAIT.get(state)
        step = node[f"{work}_step"] if work else {}
        if step and not step.get("abortable"):
            step["abort_after"] = True
            self.world.touch(node)
            return
        self.drop_jobs(node["uuid"])
        if state == machine.SERVICE_FAIL:
            if node["maintenance"]:
                raise conflict(
                    f'Can not abort service on node "{node["uuid"]}" while it is in maintenance mode. Please remove '
                    "the node from maintenance prior to issuing the request to abort the service operation."
                )
            self.move(node, "abort")
            self._give_up(node, "service")
        elif work == "service":
            self.move(node, "fail")
            self.move(node, "abort")
            self._give_up(node, work)
        elif work:
            is_manual = node["target_provision_state"] == machine.MANAGEABLE
            self.move(node, "abort", target_state=machine.MANAGEABLE if is_manual else None)
            self._give_up(node, work)
        elif state == machine.RESCUE_WAIT:
            self._remove_rescue_password(node)
            self.move(node, "abort")
            self.record(node, "By request, the rescue operation was aborted.", "rescue", is_error=False)
        else:
            self.move(node, "abort")
            self.record(node, "Inspection was aborted by request.", "introspection")

    def _give_up(self, node: Record, work: str) -> None:
        """What the work has left on the node is cleared, and the node says why."""
        step = node[f"{work}_step"]
        where = f' during or after the completion of step "{step["interface"]}.{step["step"]}"' if step else ""
        self.save(node, last_error=f"By request, the {work} operation was aborted{where}")
        node[f"{work}_step"] = {}
        if work == "deploy":
            self._wipe_deploy_info(node)
        elif work == "clean":
            self._wipe_clean_info(node)
            self._power_off_quietly(node)

    def time_out(self, node: Record) -> None:
        """The agent that the node waits for never called."""
        node_uuid, state = node["uuid"], node["provision_state"]
        self.lock(node)
        job = next((job for job in self.world.jobs if job.subject == node_uuid), None)
        if job is None or _WAITED_FOR.get(state) is None:
            raise LookupError(f"node {node_uuid} is {state} and waits for nothing")
        self._fail(job, f"Timeout reached while waiting for {_WAITED_FOR[state]} node {node_uuid}")
        self.drop_jobs(node_uuid)

    def change_power(self, node: Record, target: str) -> None:
        """The machine is on its way to the power state."""
        self.lock(node)
        if problem := self.validate(node)["power"]:
            raise bad_request(problem)
        self._check_workers(node)
        goal = machine.POWER_OFF if target in (machine.POWER_OFF, machine.SOFT_POWER_OFF) else machine.POWER_ON
        self.save(node, target_power_state=goal, last_error=None, reservation=self.host)
        stages = deque([Stage("change_power_now", self.timings.power_s, target)])
        self._take_up(Job("power", node["uuid"], stages))

    def change_console(self, node: Record, *, is_enabled: bool) -> None:
        """The console is being started or stopped."""
        if node["console_interface"] == "no-console":
            raise unsupported(node["driver"], "console")
        if node["console_enabled"] == is_enabled:
            return
        self.lock(node)
        self.save(node, last_error=None, reservation=self.host)
        stages = deque([Stage("change_console_now", self.timings.console_s, is_enabled)])
        self._take_up(Job("console", node["uuid"], stages))

    def change_boot_mode(self, node: Record, **wanted: Any) -> None:
        """The boot mode or secure boot is being changed."""
        self.lock(node)
        self.save(node, last_error=None, reservation=self.host)
        self._take_up(Job("boot_mode", node["uuid"], deque([Stage("change_boot_mode_now", 0.0, wanted)])))

    def allocate(self, allocation: Record) -> None:
        """A node is being looked for."""
        stages = deque([Stage("allocate_now", self.timings.allocate_s, _ALLOCATION_ATTEMPTS)])
        self._take_up(Job("allocate", allocation["uuid"], stages, holds_lock=False))

    def assign(self, allocation: Record, node: Record) -> None:
        """The node is the allocation's."""
        now = self.world.now()
        allocation |= {"node_uuid": node["uuid"], "state": "active", "updated_at": now}
        self.save(
            node,
            allocation_uuid=allocation["uuid"],
            instance_uuid=allocation["uuid"],
            instance_info={**node["instance_info"], "traits": list(allocation["traits"])},
        )

    def release(self, allocation: Record) -> None:
        """The allocation is gone, and its node is nobody's."""
        del self.world.allocations[allocation["uuid"]]
        for node in self.world.nodes.values():
            if node["allocation_uuid"] == allocation["uuid"]:
                self.save(node, allocation_uuid=None, instance_uuid=None)

    def validate(self, node: Record) -> dict[str, str | None]:
        """For each interface of the node: what is wrong with it, or None."""
        found: dict[str, str | None] = dict.fromkeys(name for name in INTERFACES if name != "vendor")
        driver, info, image = node["driver"], node["driver_info"], node["instance_info"]
        if driver == "redfish" and not info.get("redfish_address"):
            found["power"] = found["management"] = (
                "Missing the following redfish properties in node's driver_info: ['redfish_address']"
            )
        if node["deploy_interface"] == "direct":
            found["deploy"] = found["boot"] = _image_problem(node)
        elif node["deploy_interface"] == "ramdisk" and not (image.get("boot_iso") or image.get("image_source")):
            found["boot"] = found["deploy"] = _missing_image(node)
        if not found["deploy"] and (missing := set(image.get("traits") or ()) - set(node["traits"])):
            found["deploy"] = (
                "Cannot specify instance traits that are not also set on the node. Node "
                f"{node['uuid']} is missing traits {', '.join(sorted(missing))}"
            )
        if node["rescue_interface"] == "agent" and not image.get("rescue_password"):
            found["rescue"] = (
                f"Node {node['uuid']} is missing 'instance_info/rescue_password'. It is required for rescuing node."
            )
        for name in ("rescue", "console", "inspect", "raid", "bios"):
            if node[f"{name}_interface"] == f"no-{name}":
                found[name] = unsupported(driver, name).message
        return found

    # Stages of the work ----------------------------------------------------------------------------------------------

    def _node(self, job: Job) -> Record:
        return self.world.nodes[job.subject]

    def _set_power(self, node: Record, action: str) -> None:
        """The machine has carried out the power action and the node's record says so."""
        bmc = self.world.bmcs[node["uuid"]]
        goal = machine.POWER_OFF if action in (machine.POWER_OFF, machine.SOFT_POWER_OFF) else machine.POWER_ON
        try:
            bmc.check()
        except WorkFailed as failure:
            raise WorkFailed(f"Failed to change power state to '{action}': {failure.reason}") from None
        is_there = bmc.power == goal and action not in (machine.REBOOT, machine.SOFT_REBOOT)
        if not is_there:
            bmc.set_power(action)
            node["driver_internal_info"]["last_power_state_change"] = self.world.now().removesuffix("+00:00")
            if node["provision_state"] not in machine.FAILURE_STATES:
                node["last_error"] = None
        self.save(node, power_state=goal, target_power_state=None)

    def _power_off_quietly(self, node: Record) -> None:
        if self.world.bmcs[node["uuid"]].is_reachable and not node["disable_power_off"]:
            self._set_power(node, machine.POWER_OFF)

    def _change_power_now(self, job: Job, action: str) -> None:
        node = self._node(job)
        goal = node["target_power_state"]
        try:
            self._strike(job)
        except WorkFailed as failure:
            raise WorkFailed(f"Failed to change power state to '{goal}' by '{action}': {failure.reason}") from None
        self._set_power(node, action)

    def _change_console_now(self, job: Job, is_enabled: bool) -> None:
        node = self._node(job)
        verb = "enabling" if is_enabled else "disabling"
        try:
            self._strike(job)
            self.world.bmcs[node["uuid"]].check()
        except WorkFailed as failure:
            raise WorkFailed(f"{verb} the console on node {node['uuid']}. Reason: {failure.reason}") from None
        if is_graphical(node):
            kept = {name: value for name, value in node["driver_internal_info"].items() if not name.startswith("vnc_")}
            where = {"vnc_host": "127.0.0.1", "vnc_port": 5900 + node["id"]} if is_enabled else {}
            node["driver_internal_info"] = kept | where
        else:
            node["driver_internal_info"].pop(ALLOCATED_PORT, None)
            if is_enabled and not node["driver_info"].get("ipmi_terminal_port"):
                node["driver_internal_info"][ALLOCATED_PORT] = 10000 + node["id"]
        self.save(node, console_enabled=is_enabled, last_error=None)

    def _change_boot_mode_now(self, job: Job, wanted: Record) -> None:
        node = self._node(job)
        bmc = self.world.bmcs[node["uuid"]]
        bmc.boot_mode = wanted.get("boot_mode", bmc.boot_mode)
        bmc.secure_boot = wanted.get("secure_boot", bmc.secure_boot)
        self.save(node, **wanted)

    def _wait(self, job: Job, _: Any) -> None:
        """The node waits for its agent, unlocked."""
        node = self._node(job)
        self.move(node, "wait", target_state=machine.MANAGEABLE if job.is_manual else None)
        self.save(node, reservation=None)
        job.holds_lock = False

    def _resume(self, job: Job, wait_state: str) -> None:
        """The agent has called: the work goes on, under the lock; a node that went elsewhere is left alone."""
        node = self._node(job)
        if node["provision_state"] != wait_state:
            job.stages.clear()
            return
        if node["reservation"]:
            job.stages.appendleft(Stage("resume", _RETRY_S, wait_state))
            return
        job.holds_lock = True
        self.save(node, reservation=self.host)
        target_state = machine.MANAGEABLE if job.is_manual else None
        self.move(node, "resume", target_state=target_state)
        work = _WORK_OF_WAIT.get(wait_state)
        if work and node[f"{work}_step"].get("abort_after"):
            job.stages.clear()
            self.move(node, "fail", target_state=target_state)
            self._give_up(node, work)

    def _store_config_drive(self, job: Job, config_drive: Any) -> None:
        node = self._node(job)
        self._wipe_deploy_info(node)
        if config_drive:
            node["instance_info"] = {**node["instance_info"], "configdrive": config_drive}
        self.world.touch(node)

    def _prepare_deploy(self, job: Job, steps: list[Record]) -> None:
        node = self._node(job)
        if node["deploy_interface"] != "fake":
            try:
                if not node["disable_power_off"]:
                    self._set_power(node, machine.POWER_OFF)
                self.vifs.unwire(self.world, node)
                self.vifs.wire(self.world, node)
            except WorkFailed as failure:
                raise WorkFailed(f"Failed to prepare to deploy: {failure.reason}") from None
        node["driver_internal_info"]["deploy_steps"] = copy.deepcopy(steps)
        self.world.touch(node)

    def _begin_deploy_step(self, job: Job, index: int) -> None:
        node = self._node(job)
        node["driver_internal_info"]["deploy_step_index"] = index
        self.save(node, deploy_step=copy.deepcopy(node["driver_internal_info"]["deploy_steps"][index]))

    def _end_deploy_step(self, job: Job, step: Record) -> None:
        node = self._node(job)
        try:
            self._strike(job, step=step["step"])
            if node["deploy_interface"] == "fake" or step["interface"] != "deploy":
                return
            match step["step"]:
                case "deploy":
                    if node["deploy_interface"] == "ramdisk":
                        self.vifs.unwire(self.world, node)
                        self.vifs.wire(self.world, node)
                    self._set_power(node, machine.REBOOT)
                case "tear_down_agent":
                    if not node["disable_power_off"]:
                        self._set_power(node, machine.POWER_OFF)
                case "switch_to_tenant_network":
                    self.vifs.unwire(self.world, node)
                    self.vifs.wire(self.world, node)
                case "boot_instance":
                    self._set_power(node, machine.POWER_ON)
        except WorkFailed as failure:
            raise WorkFailed(f"Deploy step {step['interface']}.{step['step']} failed: {failure.reason}.") from None

    def _finish_deploy(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._wipe_deploy_info(node)
        node["deploy_step"] = {}
        self.move(node, "done")

    def _fail_deploy(self, node: Record, message: str) -> None:
        self.record(node, message, machine.DEPLOYING)
        node["deploy_step"] = {}
        self._wipe_deploy_info(node)
        self.move(node, "fail")

    def _wipe_deploy_info(self, node: Record) -> None:
        info = node["driver_internal_info"]
        info["deploy_steps"] = None
        for key in ("user_deploy_steps", "deploy_step_index", "steps_validated", "image_source", "agent_url"):
            info.pop(key, None)

    def _tear_down_now(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._strike(job)
        if node["deploy_interface"] != "fake":
            if not node["disable_power_off"]:
                self._set_power(node, machine.POWER_OFF)
            for target in self.world.of_node(VOLUME_TARGET, node["uuid"]):
                del self.world.targets[target["uuid"]]
            self.vifs.unwire(self.world, node)
        self._forget_instance(node)
        self.move(node, "clean", is_working=True)
        job.work = "clean"
        job.stages.append(Stage("start_clean"))

    def _forget_instance(self, node: Record) -> None:
        """The node carries nothing of its instance; Ironic does so whether the tear down went well or not."""
        for name in ("instance", "root_uuid_or_disk_id", "is_whole_disk_image", "is_source_a_path", "deploy_boot_mode"):
            node["driver_internal_info"].pop(name, None)
        self._wipe_deploy_info(node)
        self.vifs.detach_all(self.world, node)
        self.save(node, instance_info={}, instance_uuid=None, instance_name=None)
        allocation = self.world.allocations.get(node["allocation_uuid"] or "")
        if allocation is not None:
            self.release(allocation)

    def _start_clean(self, job: Job, steps: list[Record] | None) -> None:
        node = self._node(job)
        is_enabled = self.automated_clean if node["automated_clean"] is None else node["automated_clean"]
        if not job.is_manual and not is_enabled:
            self.save(node, clean_step={})
            self.move(node, "done")
            return
        planned = steps if steps is not None else [copy.deepcopy(step) for step in _CLEAN_STEPS]
        node["driver_internal_info"]["clean_steps"] = planned
        self.record(node, f"Starting cleaning with steps={planned}", "cleaning_start", is_error=False)
        piece_s = self.timings.clean_s / (len(planned) + 1)
        if node["deploy_interface"] != "fake":
            job.stages.append(Stage("boot_clean_ramdisk", piece_s))
            job.stages.extend(self._wait_for_agent(machine.CLEAN_WAIT))
        for index in range(len(planned)):
            job.stages.append(Stage("begin_clean_step", 0.0, index))
            job.stages.append(Stage("end_clean_step", piece_s))
        job.stages.append(Stage("finish_clean"))

    def _boot_clean_ramdisk(self, job: Job, _: Any) -> None:
        node = self._node(job)
        try:
            self._set_power(node, machine.REBOOT)
        except WorkFailed as failure:
            raise WorkFailed(f"Failed to prepare node {node['uuid']} for cleaning: {failure.reason}") from None

    def _begin_clean_step(self, job: Job, index: int) -> None:
        node = self._node(job)
        node["driver_internal_info"]["clean_step_index"] = index
        self.save(node, clean_step=copy.deepcopy(node["driver_internal_info"]["clean_steps"][index]))

    def _end_clean_step(self, job: Job, _: Any) -> None:
        node = self._node(job)
        try:
            self._strike(job)
        except WorkFailed as failure:
            raise WorkFailed(f"Node {node['uuid']} failed step {node['clean_step']}: {failure.reason}") from None

    def _finish_clean(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._wipe_clean_info(node)
        if node["deploy_interface"] != "fake" and not node["disable_power_off"]:
            self._set_power(node, machine.POWER_OFF)
        self.move(node, "manage" if job.is_manual or node["retired"] else "done")

    def _fail_clean(self, node: Record, message: str, job: Job) -> None:
        self.record(node, message, machine.CLEANING)
        if node["clean_step"]:
            node["maintenance"] = True
            node["fault"] = "clean failure"
            node["maintenance_reason"] = node["maintenance_reason"] or message
        self._wipe_clean_info(node)
        self.move(node, "fail", target_state=machine.MANAGEABLE if job.is_manual else None)

    def _wipe_clean_info(self, node: Record) -> None:
        node["clean_step"] = {}
        node["driver_internal_info"]["clean_steps"] = None
        node["driver_internal_info"].pop("clean_step_index", None)

    def _boot_rescue_ramdisk(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._strike(job)
        if node["rescue_interface"] != "fake":
            self._set_power(node, machine.REBOOT)

    def _finish_rescue(self, job: Job, _: Any) -> None:
        node = self._node(job)
        if node["rescue_interface"] != "fake":
            self._remove_rescue_password(node)
            self.vifs.wire(self.world, node)
        self.move(node, "done")

    def _finish_unrescue(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._strike(job)
        self._remove_rescue_password(node)
        if node["rescue_interface"] != "fake":
            self._set_power(node, machine.REBOOT)
            self.vifs.wire(self.world, node)
        self.move(node, "done")

    def _remove_rescue_password(self, node: Record) -> None:
        node["instance_info"] = {
            key: value
            for key, value in node["instance_info"].items()
            if key not in ("rescue_password", "hashed_rescue_password")
        }

    def _start_service(self, job: Job, steps: list[Record]) -> None:
        node = self._node(job)
        node["driver_internal_info"]["service_steps"] = copy.deepcopy(steps)
        self._set_power(node, machine.REBOOT)

    def _service_step(self, job: Job, index: int) -> None:
        node = self._node(job)
        self.save(node, service_step=node["driver_internal_info"]["service_steps"][index])
        self._strike(job)

    def _finish_service(self, job: Job, _: Any) -> None:
        node = self._node(job)
        node["driver_internal_info"].pop("service_steps", None)
        node["service_step"] = {}
        self._set_power(node, machine.REBOOT)
        self.move(node, "done")

    def _start_inspect(self, job: Job, _: Any) -> None:
        node = self._node(job)
        self._strike(job)
        if node["inspect_interface"] == "agent":
            self._set_power(node, machine.REBOOT)

    def _finish_inspect(self, job: Job, _: Any) -> None:
        node = self._node(job)
        if node["inspect_interface"] == "agent":
            properties = node["properties"]
            interfaces = [
                {"name": f"eth{index}", "mac_address": port["address"]}
                for index, port in enumerate(self.world.ports.values())
                if port["node_uuid"] == node["uuid"]
            ]
            self.world.inventories[node["uuid"]] = {
                "inventory": {
                    "cpu": {"count": properties.get("cpus", 4), "architecture": properties.get("cpu_arch", "x86_64")},
                    "memory": {"physical_mb": properties.get("memory_mb", 8192)},
                    "disks": [{"name": "/dev/sda", "size": int(properties.get("local_gb", 100)) << 30}],
                    "interfaces": interfaces,
                },
                "plugin_data": {},
            }
            self._power_off_quietly(node)
        self.move(node, "done")

    def _finish_verify(self, job: Job, _: Any) -> None:
        node = self._node(job)
        bmc = self.world.bmcs[node["uuid"]]
        try:
            self._strike(job)
            bmc.check()
        except WorkFailed as failure:
            raise WorkFailed(f"Failed to get power state for node {node['uuid']}. Error: {failure.reason}") from None
        self.save(node, power_state=bmc.power)
        self.move(node, "done")

    def _finish_adopt(self, job: Job, _: Any) -> None:
        node = self._node(job)
        try:
            self._strike(job)
            self.world.bmcs[node["uuid"]].check()
        except WorkFailed as failure:
            raise WorkFailed(f"Error while attempting to adopt node {node['uuid']}: {failure.reason}.") from None
        self.move(node, "done")

    def _allocate_now(self, job: Job, attempts_left: int) -> None:
        allocation = self.world.allocations.get(job.subject)
        if allocation is None:
            return
        try:
            candidates = self._candidates(allocation)
        except WorkFailed as failure:
            self._fail_allocation(allocation, failure.reason)
            return
        for node in candidates:
            if not node["reservation"]:
                self.assign(allocation, node)
                return
        if attempts_left > 1:
            job.stages.append(Stage("allocate_now", self.timings.allocate_s, attempts_left - 1))
        else:
            self._fail_allocation(allocation, f"could not reserve any of {len(candidates)} suitable nodes")

    def _candidates(self, allocation: Record) -> list[Record]:
        nodes = [
            node
            for node in self.world.nodes.values()
            if node["resource_class"] == allocation["resource_class"]
            and node["provision_state"] == machine.AVAILABLE
            and not node["instance_uuid"]
            and node["power_state"]
            and not node["maintenance"]
            and (not allocation["candidate_nodes"] or node["uuid"] in allocation["candidate_nodes"])
            and (not allocation["owner"] or allocation["owner"] in (node["owner"], node["lessee"]))
        ]
        if not nodes:
            if allocation["candidate_nodes"]:
                raise WorkFailed(
                    "none of the requested nodes are available and match the resource class "
                    f"{allocation['resource_class']}"
                )
            raise WorkFailed(f"no available nodes match the resource class {allocation['resource_class']}")
        nodes = [node for node in nodes if set(allocation["traits"]) <= set(node["traits"])]
        if not nodes:
            raise WorkFailed(f"no suitable nodes have the requested traits {', '.join(allocation['traits'])}")
        random.shuffle(nodes)
        nodes.sort(key=lambda node: allocation["name"] is None or node["name"] != allocation["name"])
        return nodes

    def _fail_allocation(self, allocation: Record, reason: str) -> None:
        message = f"Failed to process allocation {allocation['uuid']}: {reason}."
        allocation |= {"state": "error", "node_uuid": None, "last_error": message, "updated_at": self.world.now()}
        self.changed.notify_all()

    # A conductor's death ---------------------------------------------------------------------------------------------

    def revive(self, nodes: Iterable[Record]) -> None:
        """A conductor that was dead is back: it frees its locks, and what was under way counts as failed."""
        for node in nodes:
            if node["reservation"] == self.host and not any(
                job.subject == node["uuid"] and job.holds_lock for job in self.world.jobs
            ):
                self.save(node, reservation=None)
                state = node["provision_state"]
                if state in machine.STUCK_STATES:
                    self.record(
                        node,
                        f"The {state} state can't be resumed by conductor {self.host}. Moving to fail state.",
                        "conductor",
                    )
                    self.move(node, "fail")


def _image_type(node: Record) -> str:
    image = node["instance_info"]
    return "partition" if image.get("kernel") and image.get("ramdisk") else "whole-disk"


def _missing_image(node: Record) -> str:
    return (
        f"Node {node['uuid']} failed to validate deploy image info. Some parameters were missing. "
        "Missing are: ['instance_info.image_source']"
    )


def _image_problem(node: Record) -> str | None:
    image = node["instance_info"]
    if node["storage_interface"] not in ("noop", "fake"):
        return None
    source = image.get("image_source")
    if not source:
        return _missing_image(node)
    if source.startswith(("file://", "oci://", "glance://")) or "://" not in source:
        return None
    algorithm, value = image.get("image_os_hash_algo"), image.get("image_os_hash_value")
    if bool(algorithm) != bool(value) or not (value or image.get("image_checksum")):
        return (
            'image_source\'s "image_checksum", or "image_os_hash_algo" and "image_os_hash_value" must be provided in '
            f"instance_info for node {node['uuid']}"
        )
    return None
