"""A short soak: some lives, with faults and kills on both sides, after which nothing is left. `make soak` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_nothing_is_left_of_some_lives_with_faults_and_kills() -> None:
    seed = os.environ["BLOOMERY_SEED"]
    options = ["--lives", "60", "--nodes", "12", "--minutes", "2", "--workers", "1", "--at-once", "5", "--seed", seed]
    pace = ["--worker-kills", "3", "6", "--cloud-kills", "8", "16"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "soak.py"), *options, *pace], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "left, double, or wrong  nothing" in run.stdout
