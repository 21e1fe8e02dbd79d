"""The tables in docs/ that say what the code says: steps, states, errors, policy, and the simulator's differences.

A page marks their places; what stands between the marks is written by this program, the rest by hand:

    <!-- table: steps deploy -->
    <!-- end of table -->

`python tools/doc_tables.py` writes them all; with `--check` it names the pages that are not up to date, and fails.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bloomery import errors
from bloomery.doors.cli.exit_codes import EXIT_CODES
from bloomery.errors import BloomeryError
from bloomery.ironic.features import FLOOR, NEWEST, Feature, dotted
from bloomery.janitor import RULES
from bloomery.operations import REGISTRY
from bloomery.rest.failures import POLICY, Decision, Failure, Kind, Rule
from bloomery.states import (
    MAY_BE_UPDATED,
    ON_LEFT_BEHIND,
    ON_TEAR_DOWN,
    TAKEN_UP,
    WAITS,
    LeftBehind,
    Meaning,
    Provision,
    TearDown,
)
from bloomery.testing import KNOWN_DIFFERENCES
from bloomery.testing.contract import CONTRACT

DOCS = Path(__file__).resolve().parent.parent / "docs"
PLACE = re.compile(r"^<!-- table: (?P<name>[^\n]+?) -->\n.*?^<!-- end of table -->$", re.MULTILINE | re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# Operations


def steps(operation: str) -> str:
    """The operation's steps, what is true after each, and after its undo."""
    return table(
        ["", "step", "afterwards", "undo: afterwards"],
        [
            [str(number), step.name, promise_of(step.do), promise_of(step.undo) if step.undo is not None else ""]
            for number, step in enumerate(REGISTRY[operation], 1)
        ],
    )


def promise_of(body: Callable[..., object]) -> str:
    """The first line of the docstring; of a guard around another body, that of the body."""
    written = inspect.getdoc(body)
    if written is None:
        guarded = [inner for inner in inspect.getclosurevars(body).nonlocals.values() if callable(inner)]
        return promise_of(guarded[0]) if guarded else ""
    return written.splitlines()[0]


# States

_MEANINGS = {
    Meaning.DONE: "**done**",
    Meaning.WAIT: "wait",
    Meaning.FAILED: "**failed**",
    Meaning.TAKEN_AWAY: "–",
}
_TEAR_DOWN = {
    TearDown.ASK: "ask for tear-down",
    TearDown.ABORT: "abort, then look again",
    TearDown.SETTLE: "wait, then look again",
    TearDown.UNDER_WAY: "wait for its end",
    TearDown.FREE: "nothing runs: clear up",
}
_LEFT_BEHIND = {
    LeftBehind.FOLLOW: "follow it",
    LeftBehind.TAKE_BACK: "take it back",
    LeftBehind.LEAVE: "leave it",
}


def waits() -> str:
    """What each provision state means for each wait."""
    return table(
        ["state", *WAITS],
        [[_state(state), *(_MEANINGS[meaning[state]] for meaning in WAITS.values())] for state in Provision],
    )


def tear_down() -> str:
    """What is done about a node in each state that is to be torn down, or that a dead process has left."""
    return table(
        ["state", "to be torn down", "deploy left by a dead process", "fields may be changed"],
        [
            [
                _state(state),
                _TEAR_DOWN[ON_TEAR_DOWN[state]],
                _LEFT_BEHIND[ON_LEFT_BEHIND[state]],
                "yes" if state in MAY_BE_UPDATED else "",
            ]
            for state in Provision
        ],
    )


def taken_up() -> str:
    """Of each verb, the states that show that Ironic has taken it up."""
    return table(
        ["verb", "it was taken up if the node has changed and is in"],
        [
            [f"`{verb}`", ", ".join(_state(state) for state in Provision if state in there)]
            for verb, there in TAKEN_UP.items()
        ],
    )


def _state(state: Provision) -> str:
    return "*any other*" if state is Provision.UNKNOWN else f"`{state}`"


# Errors


def error_tree() -> str:
    """Every error: what it means, what to do, whether trying again may help, and how the command ends."""
    return table(
        ["error", "meaning", "advice of its own", "again?", "exit code"],
        [
            [
                "&emsp;" * depth + f"`{kind.__name__}`",
                promise_of(kind),
                kind.default_advice or "",
                "yes" if kind.retryable else "",
                str(EXIT_CODES[kind]),
            ]
            for depth, kind in _tree(BloomeryError)
        ],
    )


def _tree(kind: type[BloomeryError], depth: int = 0) -> Iterator[tuple[int, type[BloomeryError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


# Requests

_DECISIONS = {Decision.AGAIN: "again", Decision.READ_BACK: "read back", Decision.GIVE_UP: "give up"}
_FAILURES = {
    Failure.UNSENT: "never left: all connections are in use",
    Failure.UNREACHED: "never arrived: refused, no route, no TLS",
    Failure.UNTRUSTED: "never arrived: the certificate is refused",
    Failure.LOST: "may have arrived: connection reset, no answer in time",
    Failure.GARBLED: "answered, but the answer cannot be read",
    Failure.CONFLICT: "409",
    Failure.OVERLOADED: "429, 503",
    Failure.BROKEN: "500, 502, 504",
    Failure.UNAUTHORISED: "401, after a fresh token",
    Failure.FORBIDDEN: "403",
    Failure.MISSING: "404",
    Failure.UNACCEPTABLE: "406",
    Failure.ABSENT: "no such service in the cloud",
    Failure.REJECTED: "any other 4xx",
}
_KINDS = {Kind.READ: "a read", Kind.LOOK_UP: "a look-up", Kind.WRITE: "a write"}


def policy() -> str:
    """Which failure of which kind of request is tried again, read back, or final."""
    return table(
        ["the request", *_KINDS.values()],
        [[_FAILURES[failure], *(_rule(rules[kind]) for kind in _KINDS)] for failure, rules in POLICY.items()],
    )


def _rule(rule: Rule) -> str:
    words = _DECISIONS[rule.decision]
    if rule.at_most is None:
        return words
    return f"{words}, then believed" if rule.at_most == 1 else f"{words}; believed when met {rule.at_most} times"


def features() -> str:
    """What needs a newer Ironic than the oldest that will do."""
    return table(
        ["what", "API version"],
        [
            ["what Bloomery cannot do without", dotted(FLOOR)],
            *([feature.words, dotted(feature.since)] for feature in Feature),
            ["the newest version that is spoken", dotted(NEWEST)],
        ],
    )


# Tests


def contract() -> str:
    """What the gateway promises in front of any Ironic."""
    return "\n".join(f"- {check.name.replace('_', ' ')}" for check in CONTRACT)


def differences() -> str:
    """In what the simulator differs from the real Ironic."""
    return table(["where", "how"], [[difference.name, difference.sentence] for difference in KNOWN_DIFFERENCES])


# Leaks


def leaks() -> str:
    """What the janitor looks for, what proves it, and what is done."""
    return table(
        ["kind", "what is looked for", "what must be so, read anew", "what is done"],
        [[rule.kind.value, rule.what, rule.proof, rule.deed or "shown only"] for rule in RULES],
    )


TABLES: Mapping[str, Callable[[], str]] = {
    **{f"steps {operation}": partial(steps, operation) for operation in REGISTRY},
    "waits": waits,
    "tear down": tear_down,
    "taken up": taken_up,
    "errors": error_tree,
    "policy": policy,
    "features": features,
    "leaks": leaks,
    "contract": contract,
    "differences": differences,
}
"""Every table, by the name that a page calls it by."""


def filled(text: str) -> str:
    """The page with all its tables as they should be.

    Raises:
        LookupError: it asks for a table that there is not.
    """

    def fill(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in TABLES:
            raise LookupError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        return f"<!-- table: {name} -->\n\n{TABLES[name]()}\n\n<!-- end of table -->"

    return PLACE.sub(fill, text)


def tables_in(text: str) -> list[str]:
    """The names of the tables that the page asks for."""
    return [place["name"] for place in PLACE.finditer(text)]


def pages() -> dict[Path, str]:
    """Every page that asks for a table, with its text."""
    texts = {page: page.read_text() for page in sorted(DOCS.rglob("*.md"))}
    return {page: text for page, text in texts.items() if tables_in(text)}


def main(arguments: Sequence[str]) -> int:
    """The tables were written; or, to be checked, were up to date if this returns 0."""
    stale = {page: filled(text) for page, text in pages().items() if filled(text) != text}
    for page, text in stale.items():
        print(page.relative_to(DOCS.parent))
        if "--check" not in arguments:
            page.write_text(text)
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
