"""Options that several commands have, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.doors.cli.values import bytes_in, files_from, json_or_yaml_in, pairs, ssh_keys_in
from bloomery.library import DEPLOY_TIMEOUT_S, POWER_TIMEOUT_S
from bloomery.operations.request import Guest, Image
from bloomery.secret import Secret

InstanceArgument = Annotated[
    str, typer.Argument(metavar="INSTANCE", help="UUID or name of the instance, or of its node.", show_default=False)
]
InstancesArgument = Annotated[
    list[str],
    typer.Argument(metavar="INSTANCE...", help="UUIDs or names of instances, or of their nodes.", show_default=False),
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name or UUID of the node.", show_default=False)
]  # fmt: skip

MachineArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name or UUID of the node, or of the instance on it.", show_default=False)
]

LongTimeoutOption = Annotated[
    float, typer.Option("--timeout", help="Seconds that it may take; undoing comes on top.", min=1)
]
AtOnceOption = Annotated[int, typer.Option("--at-once", help="How many instances are worked on at a time.", min=1)]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or only until Ironic has taken it up.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be called, and change nothing.")]
SoftOption = Annotated[
    float | None,
    typer.Option(
        "--soft",
        metavar="SECONDS",
        help="Let the system shut down by itself for so long, then cut the power.",
        min=1,
        show_default=False,
    ),
]

# Where the machine is to be

ResourceClassOption = Annotated[
    str | None, typer.Option("--resource-class", help="The node's resource class.", show_default=False)
]
TraitOption = Annotated[
    list[str] | None,
    typer.Option("--trait", help="A trait that the node has; may be repeated.", show_default=False),
]
CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--capability", metavar="K=V", help="A capability that the node has; may be repeated.", show_default=False
    ),
]
CandidateOption = Annotated[
    list[str] | None,
    typer.Option("--candidate", metavar="NODE", help="One of these nodes; may be repeated.", show_default=False),
]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", metavar="PROJECT", help="The project that owns the node.", show_default=False)
]
ConductorGroupOption = Annotated[
    str | None, typer.Option("--conductor-group", help="The conductor group that serves the node.", show_default=False)
]

# NICs

_NICS = "NICs"
NicOption = Annotated[
    list[str] | None,
    typer.Option(
        "--nic",
        metavar="K=V,...",
        help="A NIC: network=, subnet= or vif=, and ip=, on= (NIC or bond), security-group=; may be repeated.",
        show_default=False,
        rich_help_panel=_NICS,
    ),
]
NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        "--network", help="A NIC on this network; may be repeated.", show_default=False, rich_help_panel=_NICS
    ),
]
SubnetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subnet", help="A NIC with an address of this subnet; may be repeated.", show_default=False,
        rich_help_panel=_NICS,
    ),
]  # fmt: skip
VifOption = Annotated[
    list[str] | None,
    typer.Option(
        "--vif", help="A NIC for this VIF (Neutron port) that exists; may be repeated.", show_default=False,
        rich_help_panel=_NICS,
    ),
]  # fmt: skip
IpOption = Annotated[
    str | None,
    typer.Option(
        "--ip", help="The fixed IP of the only --network or --subnet.", show_default=False, rich_help_panel=_NICS
    ),
]
SecurityGroupOption = Annotated[
    list[str] | None,
    typer.Option(
        "--security-group", help="For the VIFs of --network and --subnet; may be repeated.", show_default=False,
        rich_help_panel=_NICS,
    ),
]  # fmt: skip

# Image

_IMAGE = "Image"
ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image", help="URL, or Glance's name or id.", show_default=False, rich_help_panel=_IMAGE
    ),
]  # fmt: skip
ChecksumOption = Annotated[
    str | None,
    typer.Option(
        "--checksum",
        help="Of an image at a URL: sha256:..., or the URL of a list such as SHA256SUMS.",
        show_default=False,
        rich_help_panel=_IMAGE,
    ),
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        "--kernel", help="URL or Glance id; of a partition image, or to be run from memory without --image.",
        show_default=False, rich_help_panel=_IMAGE,
    ),
]  # fmt: skip
RamdiskOption = Annotated[
    str | None,
    typer.Option("--ramdisk", help="URL or Glance id; goes with --kernel.", show_default=False, rich_help_panel=_IMAGE),
]
PartitionImageOption = Annotated[
    bool,
    typer.Option(
        "--partition-image",
        help="What is at --image's URL is the file system of one partition, not a whole disk.",
        rich_help_panel=_IMAGE,
    ),
]
IsoOption = Annotated[
    str | None,
    typer.Option(
        "--iso", metavar="URL", help="An ISO to boot from virtual media; no disk is written.", show_default=False,
        rich_help_panel=_IMAGE,
    ),
]  # fmt: skip
DeployStepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--deploy-step",
        metavar="JSON",
        help="A deploy step in addition to Ironic's own, or @FILE with a list of them; may be repeated.",
        show_default=False,
        rich_help_panel=_IMAGE,
    ),
]

# What the instance is told

_GUEST = "Config drive"
SshKeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--ssh-key", metavar="FILE", help="Public keys, one a line; may be repeated.", show_default=False,
        rich_help_panel=_GUEST,
    ),
]  # fmt: skip
UserDataOption = Annotated[
    Path | None,
    typer.Option("--user-data", metavar="FILE", help="User data.", show_default=False, rich_help_panel=_GUEST),
]
GzipOption = Annotated[
    bool, typer.Option("--gzip-user-data", help="Compress the user data.", rich_help_panel=_GUEST)
]  # fmt: skip
MetaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--meta", metavar="K=V", help="A property of the instance; may be repeated.", show_default=False,
        rich_help_panel=_GUEST,
    ),
]  # fmt: skip
FileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        metavar="GUESTPATH=FILE",
        help="A file for the instance; may be repeated.",
        show_default=False,
        rich_help_panel=_GUEST,
    ),
]
VendorDataOption = Annotated[
    Path | None,
    typer.Option(
        "--vendor-data", metavar="FILE", help="JSON or YAML for vendor_data.json.", show_default=False,
        rich_help_panel=_GUEST,
    ),
]  # fmt: skip
AdminPasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--admin-password-file",
        metavar="FILE",
        help="Its first line is the admin password that the instance is told.",
        show_default=False,
        rich_help_panel=_GUEST,
    ),
]
NoConfigDriveOption = Annotated[
    bool, typer.Option("--no-config-drive", help="Give no config drive at all.", rich_help_panel=_GUEST)
]
ConfigDriveImageOption = Annotated[
    bool,
    typer.Option(
        "--config-drive-image", help="Build the config drive here, for an Ironic that cannot.", rich_help_panel=_GUEST
    ),
]
StaticOption = Annotated[
    bool,
    typer.Option(
        "--static-addresses", help="Write down every address, also where a subnet has DHCP.", rich_help_panel=_GUEST
    ),
]

LONG_S = DEPLOY_TIMEOUT_S
POWER_S = POWER_TIMEOUT_S
AT_ONCE = 4


def image_of(
    image: str | None,
    checksum: str | None,
    kernel: str | None,
    ramdisk: str | None,
    iso: str | None,
    *,
    is_partition: bool,
) -> Image | None:
    """The image that the options mean; None if they name none.

    Raises:
        typer.BadParameter: they do not go together.
        InvalidRequest: one of them is no such thing.
    """
    if iso is not None:
        if image or checksum or kernel or ramdisk or is_partition:
            raise typer.BadParameter("--iso goes with no other image; leave out the others")
        return Image.iso(iso)
    if image is not None:
        return Image.named(image, checksum=checksum, kernel=kernel, ramdisk=ramdisk, is_partition=is_partition)
    if is_partition:
        raise typer.BadParameter("--partition-image says what --image is, which is missing")
    if checksum is not None:
        raise typer.BadParameter("--checksum is that of --image, which is missing")
    if (kernel is None) != (ramdisk is None):
        raise typer.BadParameter("--kernel and --ramdisk go together")
    return Image.in_memory(kernel=kernel, ramdisk=ramdisk) if kernel is not None and ramdisk is not None else None


def guest_of(
    *,
    ssh_keys: list[Path] | None,
    user_data: Path | None,
    gzip_user_data: bool,
    meta: list[str] | None,
    files: list[str] | None,
    vendor_data: Path | None,
    admin_password: Path | None,
    no_config_drive: bool,
    as_image: bool,
    static: bool,
) -> Guest:
    """What the instance is told, from the options and the files that they name.

    Raises:
        InvalidRequest: a file cannot be read, or is no such thing.
    """
    return Guest.of(
        ssh_keys=ssh_keys_in(ssh_keys),
        user_data=user_data,
        gzip_user_data=gzip_user_data,
        meta=pairs(meta, "--meta"),
        files=files_from(files),
        vendor_data=json_or_yaml_in(vendor_data, "vendor data") if vendor_data is not None else None,
        admin_password=password_in(admin_password) if admin_password is not None else None,
        config_drive=not no_config_drive,
        as_image=as_image,
        dhcp=not static,
    )


def password_in(path: Path) -> Secret[str]:
    """The first line of the file; `-` is stdin.

    Raises:
        InvalidRequest: it cannot be read.
    """
    if str(path) == "-":
        return Secret(typer.get_text_stream("stdin").readline().rstrip("\r\n"))
    return Secret(bytes_in(path, "the password").decode(errors="replace").split("\n", 1)[0].rstrip("\r"))
