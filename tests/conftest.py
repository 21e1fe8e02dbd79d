"""A real lab for the tests that want one, up once for all of them and down at the end, whatever happens."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Kind, Lab, Options, running

try:
    from hypothesis import settings
except ModuleNotFoundError:  # what is tried with an older Nova, in an environment of its own, does without
    settings = None  # type: ignore[assignment,misc]

# Many labs come up in these tests; what takes each of them long to make is made once for all.
os.environ.setdefault("BLOOMERY_LAB_CACHE", str(Path(__file__).parent.parent / ".cache" / "lab"))
# Chosen here, where the process that starts the workers comes by first: all of them have to draw the same tests.
os.environ.setdefault("BLOOMERY_SEED", str(random.SystemRandom().randrange(1_000_000)))
# How long an example takes says how busy the machine is, and nothing else.
if settings is not None:
    settings.register_profile("bloomery", deadline=None)
    settings.load_profile("bloomery")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Six nodes: `node-0` to `node-2` with a BMC, the others of fake hardware; `node-2` has a bond."""
    with running(Options(nodes=6, kind=Kind.BOTH), tmp_path_factory.mktemp("lab") / "state") as it:
        yield it
