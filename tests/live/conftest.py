"""The lab as a user has it: with the command, and with his own look at what became of things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Lab
from live.site import Site


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    """The lab without instances, before and after the test; a node may still be being cleaned after another test."""
    site = Site(lab, tmp_path)
    try:
        yield site
    finally:
        site.clear()
        site.close()
