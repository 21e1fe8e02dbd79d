"""Have a Chromium for the tests of the web page: one that is there, else, as root on Debian and its kin, their package.

Usage: python tools/browser.py

Where none can be had this says so in a line, and the tests of the page in a browser are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")


def is_there() -> bool:
    """Whether there is a browser."""
    return any(map(shutil.which, NAMES))


def install() -> bool:
    """Whether the packages are installed now."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        if subprocess.run(["apt-get", "-qq", *command], env=environment, check=False, capture_output=True).returncode:  # noqa: S607
            return False
    return is_there()


def main() -> int:
    """0 in any case: what has no browser is skipped, and said so."""
    if is_there():
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("browser: installing Debian's chromium for the tests of the web page", flush=True)
        if install():
            return 0
    print("browser: no Chromium here; the tests of the web page in a browser are skipped (`apt-get install chromium`)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
