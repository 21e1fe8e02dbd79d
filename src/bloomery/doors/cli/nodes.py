"""`nodes`: the fleet, filtered, and why a node cannot be had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import api_of
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Row, Shape, SortOption, print_rows
from bloomery.doors.cli.values import pairs
from bloomery.fleet import Wanted, check_trait, why_not
from bloomery.ironic import Node

app = typer.Typer()

_COLUMNS = ("name", "state", "power_state", "resource_class", "maintenance", "traits", "instance_uuid", "uuid")
_ALL_COLUMNS = (
    "name", "uuid", "state", "target_provision_state", "since", "power_state", "resource_class", "traits",
    "capabilities", "instance_uuid", "maintenance", "maintenance_reason", "fault", "retired", "protected", "owner",
    "lessee", "conductor_group", "shard", "driver", "last_error", "health", "why_not",
)  # fmt: skip


@app.command()
def nodes(
    ctx: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", help="Only those in this provision state.", show_default=False)
    ] = None,
    maintenance: Annotated[
        bool | None,
        typer.Option(
            "--maintenance/--no-maintenance", help="Only those in maintenance, or out of it.", show_default=False
        ),
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="Only those that an instance could have now.")] = False,
    show_why_not: Annotated[
        bool,
        typer.Option(
            "--why-not",
            help="Show every node, and what keeps it from a request with the other options.",
        ),
    ] = False,
    resource_class: o.ResourceClassOption = None,
    traits: o.TraitOption = None,
    capabilities: o.CapabilityOption = None,
    candidates: o.CandidateOption = None,
    owner: o.OwnerOption = None,
    conductor_group: o.ConductorGroupOption = None,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
    sort_column: SortOption = None,
) -> None:
    """List the nodes; with --why-not, what keeps each of them from a request."""
    wanted = Wanted(
        resource_class=resource_class,
        traits=tuple(check_trait(trait) for trait in traits or ()),
        capabilities=pairs(capabilities, "--capability"),
        owner=owner,
        conductor_group=conductor_group,
        candidates=tuple(candidates or ()),
    )
    filters: dict[str, str | bool] = {}
    if state is not None:
        filters["provision_state"] = state
    if maintenance is not None:
        filters["maintenance"] = maintenance
    found = api_of(ctx).fleet(filters).nodes
    if free:
        found = [node for node in found if not why_not(node, wanted)]
    elif not show_why_not:
        found = list(_alike(found, wanted))
    rows = [_row(node, why_not(node, wanted) if show_why_not or free else None) for node in found]
    by_default = ("name", "why_not") if show_why_not else _COLUMNS
    shape = Shape.of(written_as, columns, sort_column or "name")
    print_rows(rows, shape, by_default=by_default, all_columns=_ALL_COLUMNS)


def _alike(nodes: Iterable[Node], wanted: Wanted) -> Iterable[Node]:
    """Those that meet the conditions, free or not: whatever else keeps a node from a request, keeps it from every one."""
    return (node for node in nodes if len(why_not(node, wanted)) == len(why_not(node, Wanted())))


def _row(node: Node, reasons: tuple[str, ...] | None) -> Row:
    found: Mapping[str, object] = {name: getattr(node, name, None) for name in _ALL_COLUMNS}
    return {
        **found,
        "name": node.name or node.uuid,
        "state": node.provision_state or str(node.state),
        "since": node.in_state_since,
        "traits": node.traits or [],
        "why_not": "; ".join(reasons) if reasons is not None else None,
    }
