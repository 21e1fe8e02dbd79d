"""A service of its own for each test, over simulators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from doors_http import postgres
from doors_http.http_site import Site, cloud, served
from doors_http.serial_machine import machine

__all__ = ["machine"]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL."""
    with postgres.running() as url:
        yield url


@pytest.fixture
def database(postgresql: str) -> str:
    """An empty database in it."""
    return postgres.fresh(postgresql)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A service that asks nobody who he is, and three free nodes."""
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path) as site:
        yield site
