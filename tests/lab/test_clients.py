"""The clients that operators have work on the lab by its clouds.yaml."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.lab import Lab

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (["openstack", "baremetal", "node", "list"], "name"),
        (["baremetal", "node", "list"], "name"),
        (["openstack", "network", "list"], "Name"),
    ],
)
def test_a_client_lists_what_the_lab_has(command: list[str], field: str, a_lab: Lab) -> None:
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run(
        [str(program), *command[1:], "-f", "json"],
        env={**os.environ, "OS_CLIENT_CONFIG_FILE": str(a_lab.cloud_config), "OS_CLOUD": a_lab.cloud},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    listed = {row[field] for row in json.loads(result.stdout)}
    expected = {node.name for node in a_lab.nodes} if field == "name" else set(a_lab.networks["tenant"])
    assert expected <= listed
