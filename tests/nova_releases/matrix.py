"""Which releases of Nova the driver is for, where `tools/release_matrix.py` installs each, and what nova-compute runs under."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".matrix"
SERIES: Mapping[str, str] = {"31": "2025.1", "32": "2025.2", "33": "2026.1", "34": "2026.2"}
OF_THE_DRIVER = "tests/doors_nova"
"""The tests that run in the environment of each release."""
UNDER_EVENTLET = tuple(
    f"tests/unit/test_{name}.py" for name in ("watch", "deadline", "retries", "fleet_keeping", "transport")
)
"""Those that run in it under its eventlet, too: of waits and of connections."""
EVENTLET, THREADS = "eventlet", "threads"
CONCURRENCY: Mapping[str, tuple[str, ...]] = {
    "31": (EVENTLET,),
    "32": (EVENTLET,),
    "33": (EVENTLET, THREADS),
    "34": (THREADS, EVENTLET),
}
"""What nova-compute of a release can run under, first what it runs under when nobody says otherwise."""


def folder_of(release: str) -> Path:
    """The environment of the release."""
    return STATE / f"nova-{release}"


def python_of(release: str) -> Path:
    """The interpreter of the release's environment."""
    return folder_of(release) / "bin" / "python"


def lock_of(release: str) -> Path:
    """The versions and hashes of the release's environment."""
    return ROOT / "requirements" / f"nova-{release}.txt"


def environment_of(release: str, concurrency: str) -> Mapping[str, str]:
    """What an operator puts into the environment of nova-compute to have it run under that: nothing, if it does so by itself."""
    if concurrency == CONCURRENCY[release][0]:
        return {}
    return {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true" if concurrency == THREADS else "false"}
