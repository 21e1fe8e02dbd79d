"""A real lab for the tests that want one, up once for all of them and down at the end, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery.lab import Kind, Lab, Options, running


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Six nodes: `node-0` to `node-2` with a BMC, the others of fake hardware; `node-2` has a bond."""
    with running(Options(nodes=6, kind=Kind.BOTH), tmp_path_factory.mktemp("lab") / "state") as it:
        yield it
