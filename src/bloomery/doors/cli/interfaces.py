"""`attach`, `detach` and `security-group`."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.output import (
    ColumnOption,
    Format,
    FormatOption,
    Shape,
    SortOption,
    fields_of,
    note,
    print_fields,
    print_rows,
)
from bloomery.doors.cli.values import nics_from

app = typer.Typer()
security_group = typer.Typer(no_args_is_help=True)
app.add_typer(security_group, name="security-group", help="Security groups of an instance's VIFs.")

VifOfInstanceOption = Annotated[
    str | None,
    typer.Option("--vif", help="Only this VIF: id, name, MAC address or an address.", show_default=False),
]
GroupArgument = Annotated[
    str, typer.Argument(metavar="GROUP", help="Name or id of the security group.", show_default=False)
]


@app.command()
def attach(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    nics: o.NicOption = None,
    networks: o.NetworkOption = None,
    subnets: o.SubnetOption = None,
    vifs: o.VifOption = None,
    ip: o.IpOption = None,
    security_groups: o.SecurityGroupOption = None,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Plug a VIF into an instance."""
    wanted = nics_from(nics=nics, networks=networks, subnets=subnets, vifs=vifs, ip=ip, security_groups=security_groups)
    if len(wanted) != 1:
        raise typer.BadParameter("give one of --nic, --network, --subnet and --vif, once")
    plugged = api_of(ctx).attach_interface(instance, wanted[0])
    print_fields(fields_of(plugged), Shape.of(written_as, columns))


@app.command()
def detach(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    vif: Annotated[
        str,
        typer.Argument(metavar="VIF", help="Its id, name, MAC address or one of its addresses.", show_default=False),
    ],
) -> None:
    """Unplug a VIF from an instance; one that we created is deleted."""
    api_of(ctx).detach_interface(instance, vif)
    note(f"{instance}: {vif} is unplugged")


@security_group.command(name="list")
def list_groups(
    ctx: typer.Context,
    instance: o.InstanceArgument,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
    sort_column: SortOption = None,
) -> None:
    """List the security groups of an instance's VIFs."""
    rows = [
        {"vif": vif.name or vif.vif_id, "addresses": vif.addresses, "security_group": group.name, "id": group.id}
        for vif, groups in api_of(ctx).security_groups(instance)
        for group in groups
    ]
    every = ("vif", "security_group", "addresses", "id")
    print_rows(rows, Shape.of(written_as, columns, sort_column), by_default=every, all_columns=every)


@security_group.command(name="add")
def add_group(
    ctx: typer.Context, instance: o.InstanceArgument, group: GroupArgument, vif: VifOfInstanceOption = None
) -> None:
    """Give an instance's VIFs a security group."""
    api_of(ctx).add_security_group(instance, group, vif=vif)
    note(f"{instance}: {vif or 'every VIF'} has security group {group}")


@security_group.command(name="remove")
def remove_group(
    ctx: typer.Context, instance: o.InstanceArgument, group: GroupArgument, vif: VifOfInstanceOption = None
) -> None:
    """Take a security group from an instance's VIFs."""
    api_of(ctx).remove_security_group(instance, group, vif=vif)
    note(f"{instance}: {vif or 'no VIF'} {'has not' if vif else 'has'} security group {group}")
