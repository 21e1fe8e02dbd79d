"""The command's cloud of simulators and the real lab, for these tests too."""

from __future__ import annotations

from cli.conftest import cloud, pytest_itemcollected
from live.conftest import site

__all__ = ["cloud", "pytest_itemcollected", "site"]
