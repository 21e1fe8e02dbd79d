"""What a check of `doctor` found, how it is shown, and the checks of Ironic that are made whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import typer

from bloomery.doors.cli.exit_codes import NOT_WELL
from bloomery.doors.cli.output import Format, Shape, fields_of, print_rows
from bloomery.errors import AccessDenied, BloomeryError, ServiceTooOld, ServiceUnavailable
from bloomery.ironic import Feature, Ironic, Node
from bloomery.ironic.features import dotted
from bloomery.plain import visible

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
_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def print_checks(checks: Sequence[Check], shape: Shape) -> None:
    """The checks are on stdout.

    Raises:
        typer.Exit: with NOT_WELL, if one has failed.
    """
    if shape.format is Format.TABLE and not shape.columns:
        for check in checks:
            _print_check(check)
    else:
        print_rows(map(fields_of, checks), shape, by_default=_COLUMNS, all_columns=_COLUMNS)
    if any(check.verdict is Verdict.FAIL for check in checks):
        raise typer.Exit(NOT_WELL)


def _print_check(check: Check) -> None:
    typer.secho(f"{check.verdict:4}", fg=_COLOURS[check.verdict], nl=False)
    typer.echo(f"  {check.check:13} {visible(check.found)}")
    if check.advice:
        typer.echo(f"      {'':13} → {visible(check.advice)}")


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
