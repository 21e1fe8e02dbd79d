"""Text from outside, as a log, a terminal or a tenant may have it.

Names, reasons and states come from people and services whom nobody vouches for. A line break in one forges a line of the
log; an escape sequence is an order to the terminal; a sign that turns the direction of writing shows other words than
there are.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from uuid import UUID

LONGEST_REASON = 4000
"""Characters of a reason that are kept; the longest that Ironic gives are a page of validation results."""


def visible(text: str, *, keep_lines: bool = False) -> str:
    """The text with every character spelled out that a terminal would obey instead of show.

    Those are control characters, with them the escape sequences, and the invisible ones that change the order of others.

    Args:
        text: from outside.
        keep_lines: whether it may have several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _spelled_out(character) if is_obeyed(character) and not (keep_lines and character == "\n") else character
        for character in text
    )


def is_obeyed(character: str) -> bool:
    """Whether a terminal would do something with the character instead of showing it."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelled_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def is_uuid(text: str) -> bool:
    """Whether it is a UUID, in any of the ways in which one is written."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def clipped(text: str, limit: int = LONGEST_REASON) -> str:
    """The text, or its beginning and a word on what was left out."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"


_PLACES = re.compile(
    r"\b[a-z][a-z0-9+.-]*://[^\s'\",)]+"  # URLs
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d+)?\b"  # IPv4
    r"|(?<![\w:])\[?(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?:%\w+)?\]?(?![\w:])"  # IPv6 and MAC addresses
    r"|\b[\w.+-]+@[\w.-]+"  # users at hosts
    r"|(?<![\w.])(?=[\w.-]*[a-z])[a-z0-9_-]+(?:\.[a-z0-9_-]+){2,}(?::\d+)?"  # hosts with their domain
    r"|\b[a-z0-9_-]+\.(?:com|corp|example|int|internal|intra|invalid|io|lab|lan|local|localdomain|net|org|test)\b(?::\d+)?"
    r"|\b[a-z][a-z0-9_-]*:\d{2,5}\b"  # hosts with a port
    r"|(?<![\w/.])/[\w.+-]+(?:/[\w.+-]*)+",  # files
    re.IGNORECASE,
)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_IDS = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b", re.IGNORECASE)
_NODE_NAME = re.compile(r"(?<!\bthe )(?<!\ba )(?<!\bno )(?<!\bany )\bnode [A-Za-z0-9._~…-]+")


def without_places(text: str, *, keep_lines: bool = False) -> str:
    """The text as anybody may read it: nothing in it tells where a service, a BMC or a file is, or the id of a thing."""
    if keep_lines:
        return "\n".join(without_places(line) for line in text.split("\n"))
    hidden = _PLACES.sub(lambda found: found[0] if _CLOCK.fullmatch(found[0]) else "(address)", clipped(text))
    return visible(_NODE_NAME.sub("the node", _IDS.sub("…", hidden)))


class _OneLine(logging.Filter):
    """Makes what a record is about visible, before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(value) for value in record.args)
        elif record.args:
            record.args = {name: _shown(value) for name, value in record.args.items()}
        return True


def _shown(value: object) -> object:
    return visible(str(value)) if isinstance(value, str | BaseException) else value


def logger(name: str) -> logging.Logger:
    """The logger of that name, whose records have nothing in them that a terminal obeys, and are one line each."""
    it = logging.getLogger(name)
    if not any(isinstance(known, _OneLine) for known in it.filters):
        it.addFilter(_OneLine())
    return it
