"""`deploy` and `rebuild`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from bloomery.deadline import Cancellation
from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import invocation_of
from bloomery.doors.cli.dry_run import rehearse
from bloomery.doors.cli.instances import print_instances
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape
from bloomery.doors.cli.running import Task, carry_out
from bloomery.doors.cli.values import deploy_steps_from, nics_from, pairs, volume_from
from bloomery.errors import InvalidRequest
from bloomery.fleet import Wanted
from bloomery.library import Bloomery
from bloomery.operations.instances import Instance
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest
from bloomery.operations.run import OnProgress

app = typer.Typer()

_DISK = "Disks"


@app.command()
def deploy(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="What the instance is called; several names, several instances."),
    ] = None,
    image: o.ImageOption = None,
    checksum: o.ChecksumOption = None,
    kernel: o.KernelOption = None,
    ramdisk: o.RamdiskOption = None,
    is_partition: o.PartitionImageOption = False,
    iso: o.IsoOption = None,
    deploy_steps: o.DeployStepOption = None,
    node: Annotated[
        str | None, typer.Option("--node", help="Name or UUID of the node; else Ironic chooses.", show_default=False)
    ] = None,
    resource_class: o.ResourceClassOption = None,
    traits: o.TraitOption = None,
    capabilities: o.CapabilityOption = None,
    candidates: o.CandidateOption = None,
    owner: o.OwnerOption = None,
    conductor_group: o.ConductorGroupOption = None,
    nics: o.NicOption = None,
    networks: o.NetworkOption = None,
    subnets: o.SubnetOption = None,
    vifs: o.VifOption = None,
    ip: o.IpOption = None,
    security_groups: o.SecurityGroupOption = None,
    ssh_keys: o.SshKeyOption = None,
    user_data: o.UserDataOption = None,
    gzip_user_data: o.GzipOption = False,
    meta: o.MetaOption = None,
    files: o.FileOption = None,
    vendor_data: o.VendorDataOption = None,
    admin_password: o.AdminPasswordOption = None,
    no_config_drive: o.NoConfigDriveOption = False,
    config_drive_image: o.ConfigDriveImageOption = False,
    static_addresses: o.StaticOption = False,
    root_gib: Annotated[
        int | None,
        typer.Option(
            "--root-gib", help="GiB for the root partition of a partition image.", show_default=False, rich_help_panel=_DISK
        ),
    ] = None,
    swap_mib: Annotated[
        int | None, typer.Option("--swap-mib", help="MiB for a swap partition.", show_default=False, rich_help_panel=_DISK)
    ] = None,
    ephemeral_gib: Annotated[
        int | None,
        typer.Option("--ephemeral-gib", help="GiB for an ephemeral partition.", show_default=False, rich_help_panel=_DISK),
    ] = None,
    ephemeral_format: Annotated[
        str | None,
        typer.Option("--ephemeral-format", help="Its file system.", show_default=False, rich_help_panel=_DISK),
    ] = None,
    root_device: Annotated[
        list[str] | None,
        typer.Option(
            "--root-device", metavar="K=V", help="A hint at the root disk, such as serial=...; may be repeated.",
            show_default=False, rich_help_panel=_DISK,
        ),
    ] = None,
    volumes: Annotated[
        list[str] | None,
        typer.Option(
            "--volume",
            metavar="ID,K=V,...",
            help="A remote volume: type=, boot-index=, properties=FILE, and properties of the target; may be repeated.",
            show_default=False,
            rich_help_panel=_DISK,
        ),
    ] = None,
    instance_capabilities: Annotated[
        list[str] | None,
        typer.Option(
            "--instance-capability", metavar="K=V",
            help="What the deploy has to do, such as boot_mode=uefi; may be repeated.", show_default=False,
        ),
    ] = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Leave a failed deploy as it is, to be looked at.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", help="So many instances, named NAME-1 to NAME-N.", min=1, show_default=False)
    ] = None,
    at_once: o.AtOnceOption = o.AT_ONCE,
    wait: o.WaitOption = True,
    timeout: o.LongTimeoutOption = o.LONG_S,
    dry_run: o.DryRunOption = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:  # fmt: skip
    """Deploy an instance on a node that is named or found; if that fails, the node is as it was."""
    wanted = Wanted(
        resource_class=resource_class,
        traits=tuple(traits or ()),
        capabilities=pairs(capabilities, "--capability"),
        owner=owner,
        conductor_group=conductor_group,
        candidates=tuple(candidates or ()),
    )
    given: dict[str, Any] = {
        "image": o.image_of(image, checksum, kernel, ramdisk, iso, is_partition=is_partition),
        "node": node,
        "wanted": wanted,
        "nics": nics_from(
            nics=nics, networks=networks, subnets=subnets, vifs=vifs, ip=ip, security_groups=security_groups
        ),
        "volumes": tuple(volume_from(text) for text in volumes or ()),
        "guest": o.guest_of(
            ssh_keys=ssh_keys,
            user_data=user_data,
            gzip_user_data=gzip_user_data,
            meta=meta,
            files=files,
            vendor_data=vendor_data,
            admin_password=admin_password,
            no_config_drive=no_config_drive,
            as_image=config_drive_image,
            static=static_addresses,
        ),
        "root_gib": root_gib,
        "swap_mib": swap_mib,
        "ephemeral_gib": ephemeral_gib,
        "ephemeral_format": ephemeral_format,
        "instance_capabilities": pairs(instance_capabilities, "--instance-capability"),
        "root_device": pairs(root_device, "--root-device"),
        "deploy_steps": deploy_steps_from(deploy_steps),
        "owner": owner,
    }
    requests = [DeployRequest(name=name, **given) for name in _names(names, count)]
    if len(requests) > 1:
        _refuse_sharing(requests[0])

    def call(
        request: DeployRequest, api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress
    ) -> Instance:
        return api.deploy(
            request,
            keep_failed=keep_failed,
            wait=wait,
            timeout_s=timeout,
            cancellation=cancellation,
            on_progress=on_progress,
        )

    calls = [partial(call, request) for request in requests]
    labels = [request.name or f"instance {number}" for number, request in enumerate(requests, 1)]
    _do(
        ctx,
        labels,
        calls,
        done="deployed" if wait else "taken up by Ironic",
        dry_run=dry_run,
        at_once=at_once,
        counts=wait,
        resource_class=resource_class,
        shape=Shape.of(written_as, columns),
    )


def _names(names: list[str] | None, count: int | None) -> Sequence[str | None]:
    if count is None:
        return names or [None]
    if names is not None and len(names) > 1:
        raise InvalidRequest("--count goes with one name", advice="Give one name, or leave --count out")
    return [f"{names[0]}-{number}" for number in range(1, count + 1)] if names else [None] * count


def _refuse_sharing(request: DeployRequest) -> None:
    """What only one instance can have is not given to several."""
    shared = {
        "--node": request.node is not None,
        "a VIF": any(nic.vif is not None for nic in request.nics),
        "a fixed IP": any(nic.fixed_ip is not None for nic in request.nics),
        "--volume": bool(request.volumes),
    }
    for what, is_there in shared.items():
        if is_there:
            raise InvalidRequest(f"several instances cannot share {what}", advice="Deploy them one by one")


@app.command()
def rebuild(
    ctx: typer.Context,
    instances: o.InstancesArgument,
    image: o.ImageOption = None,
    checksum: o.ChecksumOption = None,
    kernel: o.KernelOption = None,
    ramdisk: o.RamdiskOption = None,
    is_partition: o.PartitionImageOption = False,
    iso: o.IsoOption = None,
    deploy_steps: o.DeployStepOption = None,
    preserve_ephemeral: Annotated[
        bool, typer.Option("--preserve-ephemeral", help="Keep the data on the ephemeral partition.")
    ] = False,
    new_config_drive: Annotated[
        bool,
        typer.Option(
            "--new-config-drive", help="Give a new config drive even if nothing else asks for one.",
            rich_help_panel="Config drive",
        ),
    ] = False,
    ssh_keys: o.SshKeyOption = None,
    user_data: o.UserDataOption = None,
    gzip_user_data: o.GzipOption = False,
    meta: o.MetaOption = None,
    files: o.FileOption = None,
    vendor_data: o.VendorDataOption = None,
    admin_password: o.AdminPasswordOption = None,
    config_drive_image: o.ConfigDriveImageOption = False,
    static_addresses: o.StaticOption = False,
    at_once: o.AtOnceOption = o.AT_ONCE,
    wait: o.WaitOption = True,
    timeout: o.LongTimeoutOption = o.LONG_S,
    dry_run: o.DryRunOption = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:  # fmt: skip
    """Write the image anew, or another one; node, VIFs and addresses stay. Without options all is as it was deployed."""
    guest = o.guest_of(
        ssh_keys=ssh_keys,
        user_data=user_data,
        gzip_user_data=gzip_user_data,
        meta=meta,
        files=files,
        vendor_data=vendor_data,
        admin_password=admin_password,
        no_config_drive=False,
        as_image=config_drive_image,
        static=static_addresses,
    )
    tells_something = any((ssh_keys, user_data, meta, files, vendor_data, admin_password, new_config_drive))
    request = RebuildRequest(
        image=o.image_of(image, checksum, kernel, ramdisk, iso, is_partition=is_partition),
        guest=guest if tells_something else None,
        preserve_ephemeral=preserve_ephemeral,
        deploy_steps=deploy_steps_from(deploy_steps),
    )

    def call(instance: str, api: Bloomery, cancellation: Cancellation | None, on_progress: OnProgress) -> Instance:
        return api.rebuild(
            instance, request, wait=wait, timeout_s=timeout, cancellation=cancellation, on_progress=on_progress
        )

    _do(
        ctx,
        instances,
        [partial(call, instance) for instance in instances],
        done="rebuilt" if wait else "taken up by Ironic",
        dry_run=dry_run,
        at_once=at_once,
        counts=wait,
        resource_class=None,
        shape=Shape.of(written_as, columns),
    )


_Call = Callable[[Bloomery, Cancellation | None, OnProgress], Instance]


def _do(
    ctx: typer.Context,
    labels: Sequence[str],
    calls: Sequence[_Call],
    *,
    done: str,
    dry_run: bool,
    at_once: int,
    counts: bool,
    resource_class: str | None,
    shape: Shape,
) -> None:
    """The calls are made, or rehearsed, and the instances shown."""
    invocation = invocation_of(ctx)
    api = invocation.api
    if dry_run:
        rehearse(api, dict(zip(labels, calls, strict=True)), shape)
        return
    tasks = [
        Task(label=label, call=partial(call, api), done=done, resource_class=resource_class, counts=counts)
        for label, call in zip(labels, calls, strict=True)
    ]
    print_instances(carry_out(invocation, tasks, at_once=at_once), shape)
