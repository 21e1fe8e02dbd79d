"""`doctor`: is everything there that an instance needs, and is anything left of one that is gone; and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bloomery.doors.cli import doctor_nova
from bloomery.doors.cli import options as o
from bloomery.doors.cli.checks import (
    Check,
    Verdict,
    access,
    conductors,
    failed,
    listed,
    many,
    not_connected,
    print_checks,
    tried,
    version,
)
from bloomery.doors.cli.cloud import Invocation, api_of, invocation_of
from bloomery.doors.cli.leaks import look_for_leaks
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape
from bloomery.errors import BloomeryError
from bloomery.ironic import Ironic, Node
from bloomery.library import QUICK_TIMEOUT_S, Bloomery

app = typer.Typer()


@app.command()
def doctor(
    ctx: typer.Context,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Look for what is left of instances that are gone, instead.")
    ] = False,
    nova: Annotated[
        list[Path] | None,
        typer.Option(
            "--nova",
            metavar="FILE",
            help="Check instead whether the nova-compute of this nova.conf can change to Bloomery's driver; may be repeated.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="With --nova: show each node, and what becomes of it, instead of the checks."),
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="With --leaks or --nova: remove what is left.")] = False,
    yes: o.YesOption = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Check endpoint, API version, access, conductors, drivers, images, networks and nodes, and say what to do.

    Exit code 1 if a check fails, or with --leaks if something is left.
    """
    if leaks and nova:
        raise typer.BadParameter("--leaks and --nova are two things")
    if fix and not (leaks or nova):
        raise typer.BadParameter("--fix goes with --leaks or --nova")
    if nodes and (fix or not nova):
        raise typer.BadParameter("--nodes goes with --nova, and without --fix")
    shape = Shape.of(written_as, columns)
    if nova:
        doctor_nova.examine(nova, shape, show_nodes=nodes, fix=fix, yes=yes)
        return
    if leaks:
        look_for_leaks(api_of(ctx), shape, fix=fix, yes=yes)
        return
    print_checks(list(_checks(invocation_of(ctx))), shape)


# The checks


def _checks(invocation: Invocation) -> Iterator[Check]:
    """Every check, in the order in which one rests on the other; those that cannot be made are left out."""
    try:
        api = invocation.api
    except BloomeryError as problem:
        yield not_connected("cloud", problem, setting="`baremetal_endpoint_override`")
        return
    ironic = api.services.ironic.within(api.services.asking(QUICK_TIMEOUT_S))
    yield Check(check="endpoint", verdict=Verdict.OK, found=f"Ironic at {ironic.transport.root}")
    yield version(ironic)
    try:
        nodes = api.fleet().nodes
    except BloomeryError as problem:
        yield failed("access", problem)
        return
    yield access(nodes)
    yield from tried("conductors", lambda: conductors(ironic, nodes))
    yield from tried("drivers", lambda: _drivers(ironic, nodes))
    yield _images(api)
    yield from tried("networks", lambda: _networks(api))
    yield from _nodes(nodes)


def _drivers(ironic: Ironic, nodes: list[Node]) -> Check:
    served = {driver.name for driver in ironic.drivers() if driver.hosts}
    needed = Counter(node.driver for node in nodes if node.driver)
    missing = sorted(name for name in needed if name not in served)
    if missing:
        return Check(
            check="drivers",
            verdict=Verdict.FAIL,
            found=f"no conductor serves {listed(missing)}, which {many(sum(needed[n] for n in missing), 'node')} need",
            advice="Add it to `enabled_hardware_types` of a conductor",
        )
    return Check(check="drivers", verdict=Verdict.OK, found=listed(sorted(served)) or "none")


def _images(api: Bloomery) -> Check:
    if api.services.glance is None:
        return Check(check="images", verdict=Verdict.OK, found="no Glance here: images are given by URL and checksum")
    return Check(check="images", verdict=Verdict.OK, found="Glance is there; URLs with a checksum do as well")


def _networks(api: Bloomery) -> Check:
    if api.services.neutron is None:
        return Check(
            check="networks",
            verdict=Verdict.WARN,
            found="this cloud has no Neutron: no VIFs, networks or security groups",
            advice="Deploy without NICs, or give the cloud a network endpoint (`network_endpoint_override`)",
        )
    networks = api.networks()
    if not networks:
        return Check(
            check="networks",
            verdict=Verdict.WARN,
            found="Neutron is there, but shows no network",
            advice="`openstack network create` makes one",
        )
    names = listed([network.name or network.id for network in networks])
    return Check(check="networks", verdict=Verdict.OK, found=f"{many(len(networks), 'network')}: {names}")


def _nodes(nodes: list[Node]) -> Iterator[Check]:
    """What is the matter with nodes, a line for each matter."""
    matters = (
        (
            "without resource class",
            lambda node: node.resource_class is None,
            "`baremetal node set --resource-class` gives them one; without it nobody can ask for them",
        ),
        (
            "in a failed state",
            lambda node: node.provision_state is not None and node.provision_state.endswith(("failed", "error")),
            "`bloomery nodes -c name -c state -c last_error` says why",
        ),
        (
            "in maintenance",
            lambda node: node.maintenance,
            "`bloomery nodes --maintenance -c name -c maintenance_reason -c fault` says why",
        ),
        (
            "without a known power state",
            lambda node: node.power_state is None,
            "Check their BMC's address and credentials",
        ),
        (
            "with a mark of an instance that is gone",
            lambda node: node.any_mark is not None and node.mark is None,
            "`bloomery doctor --leaks` shows what is left of it; a node that is being cleaned keeps the mark, harmlessly",
        ),
    )
    for words, is_so, advice in matters:
        names = [node.label for node in nodes if is_so(node)]
        if names:
            yield Check(check="nodes", verdict=Verdict.WARN, found=f"{words}: {listed(names)}", advice=advice)
