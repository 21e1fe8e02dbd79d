"""Rebuild: the instance stays, with its node, VIFs and addresses, and gets another image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.engine import Step
from bloomery.errors import NodeTakenAway, NodeUnavailable, RebuildFailed
from bloomery.ironic import Node
from bloomery.ironic.models import MARK
from bloomery.operations import vifs
from bloomery.operations.deploy import config_drive, known_image
from bloomery.operations.request import Guest, Image
from bloomery.operations.run import Options, Run, Services, as_mapping, carry_out, unless_deleted
from bloomery.operations.validation import refused_by
from bloomery.secret import Secret
from bloomery.states import MAY_BE_UPDATED, WHILE_DEPLOYING, Meaning, Provision

FROM = (Provision.ACTIVE, Provision.ERROR, Provision.DEPLOY_FAIL)
"""The states from which Ironic rebuilds."""
OF_THE_IMAGE = (
    "image_source", "image_os_hash_algo", "image_os_hash_value", "image_checksum", "image_type", "kernel", "ramdisk",
    "boot_iso", "deploy_interface", "preserve_ephemeral", "image_disk_format",
)  # fmt: skip
"""What `instance_info` says of the image: all of it goes when another comes."""
OF_THE_REQUEST = ("root_gb", "swap_mb", "ephemeral_gb", "ephemeral_format", "traits", "capabilities", "root_device")
"""What it says besides of what was asked for, and loses where somebody describes the whole instance anew."""

# Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildRequest:
    """What is to become of an instance.

    Attributes:
        image: what it boots from now on; None keeps its image.
        guest: what it is told about itself; None keeps the config drive that it has.
        preserve_ephemeral: whether the data on its ephemeral partition stays.
        deploy_steps: in addition to those that Ironic takes anyway.
        instance_info: all that Ironic is to know of the instance, from whoever knows it better than this request.
    """

    image: Image | None = None
    guest: Guest | None = None
    preserve_ephemeral: bool = False
    deploy_steps: tuple[Mapping[str, object], ...] = field(default=())
    instance_info: Mapping[str, object] | None = None


class RebuildRun(Run):
    """A rebuild under way."""

    request: RebuildRequest
    image: Image | None
    before: Node
    drive: Secret[Any] | None = None

    @property
    def name(self) -> str:
        """The instance's name."""
        mark = self.before.mark or {}
        return str(
            mark.get("name") or self.before.instance_info.get("display_name") or f"instance-{self.before.uuid[:8]}"
        )


def rebuild(services: Services, node: Node, request: RebuildRequest, options: Options, *, wait: bool = True) -> Node:
    """The instance runs the image; or, without waiting, Ironic has begun to see to that.

    Raises:
        NodeUnavailable: it is in no state to be rebuilt, or Ironic refuses; its `instance_info` is what it was.
        RebuildFailed: Ironic tried and failed; the node is in `deploy failed`, and may be rebuilt again or destroyed.
    """
    run = RebuildRun("rebuild", services, options, instance_uuid=node.instance_uuid)
    run.node = run.before = node
    run.request, run.image = request, request.image
    carry_out(REBUILD if wait else REBUILD[:-1], run)
    return run.node


# Steps' bodies, in their order


def check_state(run: RebuildRun) -> None:
    """The instance can be rebuilt, and the image is there. Changes nothing."""
    if run.node.state not in FROM:
        raise NodeUnavailable(
            f"node {run.node.label} cannot be rebuilt",
            reason=f"it is in {run.node.provision_state!r}",
            advice=f"Ironic rebuilds from {', '.join(FROM)}",
            node_uuid=run.node.uuid,
        )
    run.image = known_image(run, run.image)


def build_config_drive(run: RebuildRun) -> None:
    """The new config drive, if there is to be one, is ready to be sent. Changes nothing."""
    guest = run.request.guest
    if guest is not None and guest.drive is not None:
        run.drive = guest.drive
    elif guest is not None and guest.config_drive:
        there = vifs.nics_of(run, run.node)
        drive = config_drive(run, guest, run.name, vifs.on_nics(run, there.vif_ids, there), project_id=None)
        run.drive = drive.as_payload(prefer_image=guest.as_image)


def write_instance_info(run: RebuildRun) -> None:
    """Ironic knows the new image, and nothing of the old one; the mark knows what was there, to put it back."""
    run.commit()
    before = run.node.instance_info
    after = dict(before)
    described = run.request.instance_info
    if described is not None:
        after = {key: value for key, value in before.items() if key not in (*OF_THE_IMAGE, *OF_THE_REQUEST)}
        after |= described
    elif run.image is not None:
        after = {key: value for key, value in before.items() if key not in OF_THE_IMAGE} | run.image.to_instance_info()
        if run.image.leaves_disks:
            after["deploy_interface"] = "ramdisk"
    if described is None:
        # Ironic has noted what it made of the image for the agent, and would take it for what the image is.
        after.pop("image_disk_format", None)
        after.pop("preserve_ephemeral", None)
        if run.request.preserve_ephemeral:
            after["preserve_ephemeral"] = True
    mark = {
        **(run.node.mark or {}),
        **run.mark(),
        "was": {key: value for key, value in before.items() if key in OF_THE_IMAGE or after.get(key) != value},
        "added": sorted(after.keys() - before.keys()),
        "asked_at": run.node.provision_updated_at,
    }
    _write(run, after, mark, doing=f"writing the new image into the instance_info of node {run.node.label}")


@unless_deleted
def restore_instance_info(run: RebuildRun) -> None:
    """If Ironic never took the rebuild up, `instance_info` is what it was."""
    run.node = node = run.ironic.node(run.node.uuid)
    mark = node.mark or {}
    if "asked_at" not in mark or mark["asked_at"] != node.provision_updated_at or node.state not in MAY_BE_UPDATED:
        return
    gone = (*OF_THE_IMAGE, *(mark.get("added") or ()))
    kept = {key: value for key, value in node.instance_info.items() if key not in gone}
    before = kept | dict(as_mapping(mark.get("was")))
    old_mark = run.before.mark if run.before.mark is not None and "asked_at" not in run.before.mark else None
    plain = {key: value for key, value in mark.items() if key not in ("was", "added", "asked_at")}
    _write(run, before, old_mark or {**plain, "operation": "deploy"}, doing=f"restoring node {node.label}")


def _write(run: RebuildRun, info: Mapping[str, Any], mark: Mapping[str, Any], *, doing: str) -> None:
    node = run.node
    patch: list[dict[str, object]] = []
    keys = [key for key in {**node.instance_info, **info} if node.instance_info.get(key) != info.get(key)]
    for key in keys:
        if key in info and info[key] != node.instance_info.get(key):
            # What is replaced has to be there: Ironic refuses this on a node that it has torn down meanwhile.
            op = "replace" if key in node.instance_info else "add"
            patch.append({"op": op, "path": f"/instance_info/{key}", "value": info[key]})
        elif key in node.instance_info and key not in info:
            patch.append({"op": "remove", "path": f"/instance_info/{key}"})
    patch.append({"op": "add", "path": f"/extra/{MARK}", "value": dict(mark)})

    def is_so(now: Node) -> bool:
        return now.mark == mark and all(now.instance_info.get(key) == info.get(key) for key in keys)

    run.node = run.ironic.update(node, patch, is_so=is_so, doing=doing)


def validate_node(run: RebuildRun) -> None:
    """Every interface that the rebuild goes through accepts it."""
    refusals = [f"{name}: {reason}" for name, reason in refused_by(run).items()]
    if refusals:
        raise NodeUnavailable(
            f"node {run.node.label} does not accept the rebuild", reason="; ".join(refusals), node_uuid=run.node.uuid
        )


def request_rebuild(run: RebuildRun) -> None:
    """Ironic rebuilds the node."""
    steps = run.request.deploy_steps
    run.asked_as = run.ironic.provision(run.node, "rebuild", config_drive=run.drive, deploy_steps=steps)


def await_active(run: RebuildRun) -> None:
    """The node is active, and still ours."""
    node = run.wait_for(WHILE_DEPLOYING, "rebuilding", RebuildFailed)
    if node.instance_uuid != run.instance_uuid:
        raise NodeTakenAway(f"node {node.label} is active, but not with our instance", node_uuid=node.uuid)


REBUILD: tuple[Step[RebuildRun], ...] = (
    Step("check state", check_state),
    Step("build config drive", build_config_drive),
    Step("write instance_info", write_instance_info, undo=restore_instance_info),
    Step("validate node", validate_node),
    Step("request rebuild", request_rebuild),
    Step("wait for active", await_active),
)

# For a process that finds a rebuild which another has left


def resume(services: Services, node: Node, options: Options) -> Node:
    """A rebuild that another process began is brought to its end, or was never taken up and is undone.

    Raises:
        RebuildFailed: it ended in failure.
    """
    run = RebuildRun("rebuild", services, options, instance_uuid=node.instance_uuid)
    run.node = run.before = node
    run.request, run.image = RebuildRequest(), None
    run.commit()
    if WHILE_DEPLOYING[node.state] is Meaning.WAIT:
        await_active(run)
    restore_instance_info(run)
    return run.node


def resume_or_fail(services: Services, node: Node, options: Options) -> Node:
    """The same of an instance that is to run the new image: any other end is an error.

    Raises:
        RebuildFailed: it ended in failure, or Ironic never took it up.
    """
    asked = as_mapping(node.mark).get("asked_at", node.provision_updated_at)
    # Whoever asked for what is under way, and be it without a mark of ours, Ironic has taken it up.
    is_under_way = WHILE_DEPLOYING[node.state] is Meaning.WAIT
    if asked == node.provision_updated_at and not is_under_way:
        resume(services, node, options)
        raise RebuildFailed(
            f"the rebuild of node {node.label} was broken off",
            reason="the process that asked for it ended before Ironic had taken it up",
            advice="Ask for it again",
            node_uuid=node.uuid,
        )
    return resume(services, node, options)
