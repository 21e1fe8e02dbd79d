"""pytest under eventlet, patched as nova-compute patches itself: `python -m nova_releases.under_eventlet [ARGUMENT …]`."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eventlet says that it is deprecated
    import eventlet  # type: ignore[import-untyped]

    eventlet.monkey_patch()

import sys

import pytest

_EVENTLETS_OWN = (
    "ignore:please use dns.resolver:DeprecationWarning",
    "ignore:Exception ignored in. <eventlet:pytest.PytestUnraisableExceptionWarning",
)
"""What eventlet itself does when it looks a name up, and when a connection ends in its handshake."""


class Plugin:
    """What eventlet does by itself is no warning to us."""

    @staticmethod
    def pytest_configure(config: pytest.Config) -> None:
        for line in _EVENTLETS_OWN:
            config.addinivalue_line("filterwarnings", line)


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:], plugins=[Plugin()]))
