"""The lab's own small waits: does a URL answer, and is a condition true yet."""

import time
from collections.abc import Callable

import requests

from bloomery.lab.errors import LabError


def answers(url: str) -> bool:
    """Whether the URL answers with anything but an error."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def until(
    condition: Callable[[], bool], *, what: str | Callable[[], str], timeout_s: float, poll_s: float = 0.1
) -> None:
    """The condition is true.

    Args:
        what: what is waited for; if called, it is called when the time is over, and can say how far it came.

    Raises:
        LabError: it was not within the time; `what` says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what if isinstance(what, str) else what()} did not happen within {timeout_s:.0f} s")
        time.sleep(poll_s)
