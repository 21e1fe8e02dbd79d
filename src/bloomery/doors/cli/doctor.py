"""`doctor`: is everything there that an instance needs, and is anything left of one that is gone; and what to do about it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from bloomery.doors.cli import options as o
from bloomery.doors.cli.cloud import Invocation, api_of, invocation_of
from bloomery.doors.cli.exit_codes import NOT_WELL
from bloomery.doors.cli.output import ColumnOption, Format, FormatOption, Shape, fields_of, note, print_rows, visible
from bloomery.doors.cli.running import report
from bloomery.errors import AccessDenied, BloomeryError, ServiceTooOld, ServiceUnavailable
from bloomery.ironic import Feature, Ironic, Node
from bloomery.ironic.features import dotted
from bloomery.library import QUICK_TIMEOUT_S, Bloomery
from bloomery.neutron import Neutron, NeutronPort
from bloomery.operations import recover
from bloomery.operations.run import Options

app = typer.Typer()

_SHOWN = 5
"""How many names a line lists."""


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at.

    Attributes:
        check: what.
        verdict: how it is.
        found: what was seen.
        advice: what to do, where something is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str | None = None


_COLUMNS = ("check", "verdict", "found", "advice")


@app.command()
def doctor(
    ctx: typer.Context,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Look for what is left of instances that are gone, instead.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="With --leaks: remove it.")] = False,
    yes: o.YesOption = False,
    written_as: FormatOption = Format.TABLE,
    columns: ColumnOption = None,
) -> None:
    """Check endpoint, API version, access, conductors, drivers, images, networks and nodes, and say what to do.

    Exit code 1 if a check fails, or with --leaks if something is left.
    """
    if fix and not leaks:
        raise typer.BadParameter("--fix goes with --leaks")
    shape = Shape.of(written_as, columns)
    if leaks:
        _look_for_leaks(api_of(ctx), shape, fix=fix, yes=yes)
        return
    checks = list(_checks(invocation_of(ctx)))
    if shape.format is Format.TABLE and not shape.columns:
        for check in checks:
            _print_check(check)
    else:
        print_rows(map(fields_of, checks), shape, by_default=_COLUMNS, all_columns=_COLUMNS)
    if any(check.verdict is Verdict.FAIL for check in checks):
        raise typer.Exit(NOT_WELL)


_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def _print_check(check: Check) -> None:
    typer.secho(f"{check.verdict:4}", fg=_COLOURS[check.verdict], nl=False)
    typer.echo(f"  {check.check:13} {visible(check.found)}")
    if check.advice:
        typer.echo(f"      {'':13} → {visible(check.advice)}")


# The checks


def _checks(invocation: Invocation) -> Iterator[Check]:
    """Every check, in the order in which one rests on the other; those that cannot be made are left out."""
    try:
        api = invocation.api
    except AccessDenied as problem:
        yield _failed("access", problem)
        return
    except ServiceTooOld as problem:
        yield _failed("API version", problem)
        return
    except ServiceUnavailable as problem:
        yield Check(
            check="endpoint",
            verdict=Verdict.FAIL,
            found=f"{problem.message}: {problem.reason}",
            advice="Check the address (`baremetal_endpoint_override` or the catalogue), and that Ironic runs there",
        )
        return
    except BloomeryError as problem:
        yield _failed("cloud", problem)
        return
    ironic = api.services.ironic.within(api.services.asking(QUICK_TIMEOUT_S))
    yield Check(check="endpoint", verdict=Verdict.OK, found=f"Ironic at {ironic.transport.root}")
    yield _version(ironic)
    try:
        nodes = api.fleet().nodes
    except BloomeryError as problem:
        yield _failed("access", problem)
        return
    yield _access(nodes)
    yield from _tried("conductors", lambda: _conductors(ironic, nodes))
    yield from _tried("drivers", lambda: _drivers(ironic, nodes))
    yield _images(api)
    yield from _tried("networks", lambda: _networks(api))
    yield from _nodes(nodes)


def _failed(check: str, problem: BloomeryError) -> Check:
    found = f"{problem.message}: {problem.reason}" if problem.reason else problem.message
    return Check(check=check, verdict=Verdict.FAIL, found=found, advice=problem.advice)


def _tried(check: str, look: Callable[[], Check]) -> Iterator[Check]:
    """What was found; a look that only these credentials do not allow is no failure."""
    try:
        yield look()
    except AccessDenied as problem:
        yield Check(check=check, verdict=Verdict.WARN, found=f"these credentials may not look ({problem.reason})")
    except BloomeryError as problem:
        yield _failed(check, problem)


def _version(ironic: Ironic) -> Check:
    missing = [feature for feature in Feature if not ironic.features.has(feature)]
    spoken = f"{dotted(ironic.features.version)} is spoken"
    if not missing:
        return Check(check="API version", verdict=Verdict.OK, found=spoken)
    return Check(
        check="API version",
        verdict=Verdict.WARN,
        found=f"{spoken}; without {', '.join(feature.words for feature in missing)}",
        advice=f"A newer Ironic has them; all of them are there from {dotted(max(f.since for f in missing))} on",
    )


def _access(nodes: list[Node]) -> Check:
    if nodes:
        return Check(check="access", verdict=Verdict.OK, found=f"these credentials see {_many(len(nodes), 'node')}")
    return Check(
        check="access",
        verdict=Verdict.WARN,
        found="these credentials see no node at all",
        advice="Enroll some, or ask for a role that sees them, or for nodes with your project as owner or lessee",
    )


def _conductors(ironic: Ironic, nodes: list[Node]) -> Check:
    conductors = ironic.conductors()
    alive = [conductor for conductor in conductors if conductor.alive]
    dead = [conductor.hostname for conductor in conductors if not conductor.alive]
    served = {conductor.conductor_group or "" for conductor in alive}
    unserved = sorted({node.conductor_group or "" for node in nodes} - served)
    if not alive and any(driver.hosts for driver in ironic.drivers()):
        # An Ironic on SQLite writes no heartbeats, so that its conductor looks dead after a minute and works all the same.
        return Check(
            check="conductors",
            verdict=Verdict.WARN,
            found=f"{len(conductors)}, of which none has a fresh heartbeat; yet they serve drivers",
            advice="Nothing to do on SQLite, where Ironic writes none; elsewhere see that ironic-conductor runs",
        )
    if not alive:
        return Check(
            check="conductors",
            verdict=Verdict.FAIL,
            found=f"none of {len(conductors)} is alive",
            advice="Start ironic-conductor, and see its log",
        )
    if unserved:
        groups = ", ".join(group or "(the default)" for group in unserved)
        return Check(
            check="conductors",
            verdict=Verdict.FAIL,
            found=f"nobody serves conductor group {groups}, which nodes are in",
            advice="Start a conductor with that `[conductor] conductor_group`, or move the nodes to another",
        )
    if dead:
        return Check(
            check="conductors",
            verdict=Verdict.WARN,
            found=f"{len(alive)} alive; not {_listed(dead)}",
            advice="Start them again; until then others do their work",
        )
    return Check(check="conductors", verdict=Verdict.OK, found=f"{len(alive)} alive")


def _drivers(ironic: Ironic, nodes: list[Node]) -> Check:
    served = {driver.name for driver in ironic.drivers() if driver.hosts}
    needed = Counter(node.driver for node in nodes if node.driver)
    missing = sorted(name for name in needed if name not in served)
    if missing:
        return Check(
            check="drivers",
            verdict=Verdict.FAIL,
            found=f"no conductor serves {_listed(missing)}, which {_many(sum(needed[n] for n in missing), 'node')} need",
            advice="Add it to `enabled_hardware_types` of a conductor",
        )
    return Check(check="drivers", verdict=Verdict.OK, found=_listed(sorted(served)) or "none")


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
    names = _listed([network.name or network.id for network in networks])
    return Check(check="networks", verdict=Verdict.OK, found=f"{_many(len(networks), 'network')}: {names}")


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
            yield Check(check="nodes", verdict=Verdict.WARN, found=f"{words}: {_listed(names)}", advice=advice)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


# Leaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that is left of an instance that is gone.

    Attributes:
        kind: `mark` or `VIF`.
        name: of the node, or of the VIF.
        id: likewise.
        instance_uuid: the instance.
    """

    kind: str
    name: str
    id: str
    instance_uuid: str


def _look_for_leaks(api: Bloomery, shape: Shape, *, fix: bool, yes: bool) -> None:
    neutron = api.services.neutron
    if neutron is not None:
        neutron = neutron.within(api.services.asking(QUICK_TIMEOUT_S))
    # VIFs first: an instance is on its node before its VIFs exist, so none of an instance that comes now is taken for left.
    ports = neutron.our_ports() if neutron is not None else []
    fleet = api.fleet()
    marked = [node for node in fleet.nodes if node.any_mark is not None and node.mark is None]
    stray = [port for port in ports if fleet.node_of(port.device_id) is None]
    leaks = [_leak_of_node(node) for node in marked] + [_leak_of_port(port) for port in stray]
    every = ("kind", "name", "id", "instance_uuid")
    if leaks or shape.format is not Format.TABLE:
        print_rows(map(fields_of, leaks), shape, by_default=every, all_columns=every)
    if not leaks:
        note("nothing is left of instances that are gone")
        return
    if not fix:
        note("`bloomery doctor --leaks --fix` removes it")
        raise typer.Exit(NOT_WELL)
    if not yes and sys.stdin.isatty():
        typer.confirm(
            "Remove them? VIFs count as left if these credentials see no node with their instance", abort=True, err=True
        )
    if not _removed(api, marked, neutron, stray):
        raise typer.Exit(NOT_WELL)
    note("removed")


def _removed(api: Bloomery, marked: list[Node], neutron: Neutron | None, stray: list[NeutronPort]) -> bool:
    """Whether everything could be removed."""
    is_well = True
    for node in marked:
        try:
            recover.recover(api.services, node, Options(timeout_s=QUICK_TIMEOUT_S))
        except BloomeryError as problem:
            report(problem, label=node.label)
            is_well = False
    for port in stray:
        try:
            if neutron is not None:
                neutron.delete_port(port.id)
        except BloomeryError as problem:
            report(problem, label=port.label)
            is_well = False
    return is_well


def _leak_of_node(node: Node) -> Leak:
    mark = node.any_mark or {}
    return Leak(kind="mark", name=node.label, id=node.uuid, instance_uuid=str(mark.get("instance_uuid")))


def _leak_of_port(port: NeutronPort) -> Leak:
    return Leak(kind="VIF", name=port.label, id=port.id, instance_uuid=port.device_id)
