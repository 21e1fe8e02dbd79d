"""`volume`: how the storage is to know a machine, and the remote volumes that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.output import (
    ColumnOption,
    Format,
    FormatOption,
    Row,
    Shape,
    SortOption,
    fields_of,
    note,
    print_fields,
    print_rows,
)
from bloomery.doors.cli.values import pairs, volume_of
from bloomery.ironic import VolumeTarget

app = typer.Typer()
volume = typer.Typer(no_args_is_help=True)
app.add_typer(volume, name="volume", help="Remote volumes of machines.")

_COLUMNS = ("volume_id", "volume_type", "boot_index", "uuid")


def _row(target: VolumeTarget) -> Row:
    return {name: getattr(target, name) for name in _COLUMNS}


@volume.command()
def connector(
    ctx: typer.Context,
    node: o.NodeArgument,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Show what a storage has to be told of a machine: address, iqn, wwpn, wwnn, nqn."""
    found = api_of(ctx).volume_connector(node)
    print_fields({**fields_of(found), "multipath": found.multipath}, Shape.of(written_as, columns))


@volume.command(name="list")
def list_volumes(
    ctx: typer.Context,
    node: o.NodeArgument,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
    sort_column: SortOption = None,
) -> None:
    """List the remote volumes of a machine."""
    rows = [_row(target) for target in api_of(ctx).volume_targets(node)]
    shape = Shape.of(written_as, columns, sort_column)
    print_rows(rows, shape, by_default=_COLUMNS, all_columns=_COLUMNS)


@volume.command()
def attach(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    volume_id: Annotated[
        str, typer.Argument(metavar="VOLUME", help="The storage's id of the volume.", show_default=False)
    ],
    volume_type: Annotated[str, typer.Option("--type", help="iscsi, fibre_channel, nvmeof ....")] = "iscsi",
    boot_index: Annotated[int, typer.Option("--boot-index", help="0 is what the machine boots from.", min=0)] = 1,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="K=V",
            help="How to reach it, such as target_iqn=...; may be repeated.",
            show_default=False,
        ),
    ] = None,
    properties_file: Annotated[
        Path | None,
        typer.Option(
            "--properties",
            metavar="FILE",
            help="The same as JSON or YAML; the place for secrets.",
            show_default=False,
        ),
    ] = None,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Give an instance, which must be off, a volume from its next start on."""
    wanted = volume_of(
        volume_id,
        volume_type=volume_type,
        boot_index=boot_index,
        properties_file=properties_file,
        properties=pairs(properties, "--property"),
    )
    print_fields(_row(api_of(ctx).attach_volume(instance, wanted)), Shape.of(written_as, columns))


@volume.command()
def detach(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    volume_id: Annotated[
        str, typer.Argument(metavar="VOLUME", help="The volume, or the UUID of its target.", show_default=False)
    ],
) -> None:
    """Take a volume from an instance, which must be off."""
    api_of(ctx).detach_volume(instance, volume_id)
    note(f"{instance}: volume {volume_id} is removed")
