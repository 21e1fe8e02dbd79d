"""Every error has its exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery.doors.cli.exit_codes import EXIT_CODES, OK
from bloomery.errors import BloomeryError


def tree(kind: type[BloomeryError]) -> Iterator[type[BloomeryError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("bloomery."):  # tests have errors of their own
            yield from tree(child)


@pytest.mark.parametrize("kind", sorted({*tree(BloomeryError)}, key=str))
def test_every_error_has_a_row_and_none_ends_well(kind: type[BloomeryError]) -> None:
    assert EXIT_CODES[kind] != OK
