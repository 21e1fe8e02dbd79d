"""Is everything there that an instance needs: the checks that can be made of a cloud, and what to do about each.

Changes nothing. What is left of instances that are gone is the janitor's to find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bloomery.errors import AccessDenied, BloomeryError, ServiceTooOld, ServiceUnavailable
from bloomery.fleet import Fleet
from bloomery.ironic import Feature, Ironic, Node
from bloomery.ironic.features import dotted
from bloomery.operations.run import Services

QUICK_TIMEOUT_S = 60.0
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


def checkup(services: Services) -> Iterator[Check]:
    """Every check of a cloud whose Ironic answers, in the order in which one rests on the other."""
    ironic = services.ironic.within(services.asking(QUICK_TIMEOUT_S))
    yield Check(check="endpoint", verdict=Verdict.OK, found=f"Ironic at {ironic.transport.root}")
    yield version(ironic)
    fleet = Fleet()
    try:
        fleet.read(ironic)
    except BloomeryError as problem:
        yield failed("access", problem)
        return
    nodes = fleet.nodes
    yield access(nodes)
    yield from tried("conductors", lambda: conductors(ironic, nodes))
    yield from tried("drivers", lambda: _drivers(ironic, nodes))
    yield _images(services)
    yield from tried("networks", lambda: _networks(services))
    yield from _nodes(nodes)


def failed(check: str, problem: BloomeryError) -> Check:
    """The check failed with this error."""
    found = f"{problem.message}: {problem.reason}" if problem.reason else problem.message
    return Check(check=check, verdict=Verdict.FAIL, found=found, advice=problem.advice)


def tried(check: str, look: Callable[[], Check]) -> Iterator[Check]:
    """What was found; a look that only these credentials do not allow is no failure."""
    try:
        yield look()
    except AccessDenied as problem:
        yield Check(check=check, verdict=Verdict.WARN, found=f"these credentials may not look ({problem.reason})")
    except BloomeryError as problem:
        yield failed(check, problem)


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def many(number: int, what: str) -> str:
    """So many of them: "1 node", "2 nodes"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


# Ironic


def not_connected(check: str, problem: BloomeryError, *, setting: str) -> Check:
    """Why Ironic cannot be had.

    Args:
        check: what is to blame where it is neither Ironic nor its address.
        problem: the error.
        setting: where its address is set, apart from the catalogue.
    """
    if isinstance(problem, AccessDenied):
        return failed("access", problem)
    if isinstance(problem, ServiceTooOld):
        return failed("API version", problem)
    if isinstance(problem, ServiceUnavailable):
        return Check(
            check="endpoint",
            verdict=Verdict.FAIL,
            found=f"{problem.message}: {problem.reason}",
            advice=f"Check the address ({setting} or the catalogue), and that Ironic runs there",
        )
    return failed(check, problem)


def version(ironic: Ironic) -> Check:
    """Which API is spoken, and what it lacks."""
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


def access(nodes: list[Node]) -> Check:
    """What the credentials see."""
    if nodes:
        return Check(check="access", verdict=Verdict.OK, found=f"these credentials see {many(len(nodes), 'node')}")
    return Check(
        check="access",
        verdict=Verdict.WARN,
        found="these credentials see no node at all",
        advice="Enroll some, or ask for a role that sees them, or for nodes with your project as owner or lessee",
    )


def conductors(ironic: Ironic, nodes: list[Node]) -> Check:
    """Whether somebody serves the nodes."""
    there = ironic.conductors()
    alive = [conductor for conductor in there if conductor.alive]
    dead = [conductor.hostname for conductor in there if not conductor.alive]
    served = {conductor.conductor_group or "" for conductor in alive}
    unserved = sorted({node.conductor_group or "" for node in nodes} - served)
    if not alive and any(driver.hosts for driver in ironic.drivers()):
        # An Ironic on SQLite writes no heartbeats, so that its conductor looks dead after a minute and works all the same.
        return Check(
            check="conductors",
            verdict=Verdict.WARN,
            found=f"{len(there)}, of which none has a fresh heartbeat; yet they serve drivers",
            advice="Nothing to do on SQLite, where Ironic writes none; elsewhere see that ironic-conductor runs",
        )
    if not alive:
        return Check(
            check="conductors",
            verdict=Verdict.FAIL,
            found=f"none of {len(there)} is alive",
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
            found=f"{len(alive)} alive; not {listed(dead)}",
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
            found=f"no conductor serves {listed(missing)}, which {many(sum(needed[n] for n in missing), 'node')} need",
            advice="Add it to `enabled_hardware_types` of a conductor",
        )
    return Check(check="drivers", verdict=Verdict.OK, found=listed(sorted(served)) or "none")


def _images(services: Services) -> Check:
    if services.glance is None:
        return Check(check="images", verdict=Verdict.OK, found="no Glance here: images are given by URL and checksum")
    return Check(check="images", verdict=Verdict.OK, found="Glance is there; URLs with a checksum do as well")


def _networks(services: Services) -> Check:
    if services.neutron is None:
        return Check(
            check="networks",
            verdict=Verdict.WARN,
            found="this cloud has no Neutron: no VIFs, networks or security groups",
            advice="Deploy without NICs, or give the cloud a network endpoint (`network_endpoint_override`)",
        )
    networks = services.neutron.within(services.asking(QUICK_TIMEOUT_S)).networks()
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
