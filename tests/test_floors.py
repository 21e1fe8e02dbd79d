"""The floors of the house hold: no import goes up, and each foreign package is imported in its own home only.

The floors themselves are in .importlinter. Here they are held against the sources, and against small houses in which
something is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOUND_HOUSE = {
    "__init__.py": "from bloomery.library import connect",
    "errors.py": "import enum",
    "engine.py": "from bloomery.errors import Conflict",
    "ironic/__init__.py": "from bloomery import engine",
    "fleet.py": "import bloomery.watch",
    "watch.py": "from bloomery.ironic import gateway",
    "operations/deploy.py": "from .. import watch",
    "library.py": "from bloomery.operations import deploy",
    "lab/__init__.py": "import cheroot\nfrom bloomery.errors import BloomeryError",
    "testing/__init__.py": "import bloomery.library",
    "doors/cli/__init__.py": "import bloomery.lab\nimport bloomery.testing",
    "doors/http/__init__.py": "import fastapi",
    "doors/nova/driver.py": "from nova.virt import driver",
}


def build(house: Path, modules: dict[str, str]) -> None:
    """The modules lie in the package `bloomery` under `house`."""
    for name, source in modules.items():
        module = house / "bloomery" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(source + "\n")
    for folder in (house / "bloomery").rglob("*/"):
        (folder / "__init__.py").touch()


def inspected(house: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the package `bloomery` under `house`."""
    command = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(house), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_import_goes_up_and_every_module_has_a_floor() -> None:
    report = inspected(ROOT / "src")
    assert report.returncode == 0, report.stdout + report.stderr


def test_a_sound_house_passes(tmp_path: Path) -> None:
    build(tmp_path, SOUND_HOUSE)
    report = inspected(tmp_path)
    assert report.returncode == 0, report.stdout + report.stderr


@pytest.mark.parametrize(
    ("module", "source", "seen"),
    [
        ("engine.py", "import bloomery.ironic", "bloomery.engine -> bloomery.ironic"),
        ("errors.py", "def late() -> None:\n    from bloomery import engine", "bloomery.errors -> bloomery.engine"),
        ("config_drive.py", "from bloomery import connect", "bloomery.config_drive -> bloomery"),
        ("watch.py", "from bloomery.operations.deploy import DEPLOY", "bloomery.watch -> bloomery.operations"),
        ("library.py", "from bloomery.doors import cli", "bloomery.library -> bloomery.doors.cli"),
        ("lab/agent.py", "import bloomery.engine", "bloomery.lab.agent -> bloomery.engine"),
        ("operations/power.py", "from bloomery import lab", "bloomery.operations.power -> bloomery.lab"),
        ("doors/http/lab.py", "from bloomery import testing", "bloomery.doors.http.lab -> bloomery.testing"),
        ("fleet.py", "from nova import objects", "bloomery.fleet -> nova"),
        ("doors/cli/serve.py", "import uvicorn", "bloomery.doors.cli.serve -> uvicorn"),
        ("states.py", "from ironic.common import states", "bloomery.states -> ironic"),
        ("helpers.py", "", "helpers"),
    ],
)
def test_an_import_that_is_out_of_place_is_found(tmp_path: Path, module: str, source: str, seen: str) -> None:
    build(tmp_path, {**SOUND_HOUSE, module: source})
    report = inspected(tmp_path)
    assert report.returncode != 0
    assert seen in report.stdout
