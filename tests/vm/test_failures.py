"""What only real machines do wrong: each ends with a reason that a person understands, and the node is as it was."""

from __future__ import annotations

import hashlib

import pytest

from bloomery.lab.wait import until
from vm.machines import BOOT_S, Machines

NODE = "node-1"

pytestmark = pytest.mark.timeout(7200)


def is_free(machines: Machines) -> bool:
    node = machines.ironic.node(machines.lab.node(NODE))
    return node["provision_state"] == "available" and node["instance_uuid"] is None


@pytest.fixture(autouse=True)
def free_again(machines: Machines) -> None:
    """The node is free before each test, whatever the one before it has left to be cleaned."""
    until(lambda: is_free(machines), what="that the node is free", timeout_s=2 * BOOT_S, poll_s=2)


def assert_is_as_it_was(machines: Machines) -> None:
    """The node is free and off, with nothing of the instance but the mark: Ironic takes no change of a node that it cleans."""
    until(lambda: is_free(machines), what="that the node is free again", timeout_s=2 * BOOT_S, poll_s=2)
    node = machines.ironic.node(machines.lab.node(NODE))
    assert (node["instance_info"], node["maintenance"], node["last_error"]) == ({}, False, None)
    assert set(node["extra"]) <= {"bloomery"}
    assert machines.ironic.vifs(machines.lab.node(NODE)) == []
    assert machines.hardware(NODE)["power"] == "Off"


def test_a_wrong_checksum_is_named_as_the_reason(machines: Machines) -> None:
    wrong = hashlib.sha256(b"another image").hexdigest()
    image = machines.lab.images["debian"].url
    said = machines.run(
        *("deploy", "bad-sum", "--node", NODE, "--image", image, "--checksum", f"sha256:{wrong}"),
        *("--network", "private", "--timeout", str(2 * BOOT_S)),
        exit_code=7,
    )
    assert "checksum is invalid or does not match" in said
    assert_is_as_it_was(machines)


def test_a_disk_that_is_too_small_is_named_as_the_reason(machines: Machines) -> None:
    said = machines.deploy(
        "small-disk", NODE, "debian", "--root-device", "serial=LAB-1-A", address="10.20.5.11", exit_code=7
    )
    assert "too small" in said or "larger than" in said or "No space left" in said
    assert_is_as_it_was(machines)


def test_power_that_is_pulled_while_the_image_is_written_ends_the_deploy(machines: Machines) -> None:
    with machines.start(
        *("deploy", "unplugged", "--node", NODE, *machines.image("debian"), "--network", "private"),
        *("--timeout", "420"),
    ) as deploy:
        assert deploy.stdout is not None
        said = ""
        for line in deploy.stdout:
            said += line
            if "write_image" in line:
                break
        machines.pull_the_plug(NODE)
        said += deploy.stdout.read()
    assert deploy.returncode != 0, said
    assert_is_as_it_was(machines)


def test_a_machine_that_hangs_in_its_firmware_is_given_up_and_said_to_have_been_waited_for(machines: Machines) -> None:
    with machines.hanging_in_firmware(NODE):
        said = machines.run(
            *("deploy", "stuck", "--node", NODE, *machines.image("debian"), "--network", "private", "--timeout", "120"),
            exit_code=8,
        )
    assert "wait call-back" in said
    assert_is_as_it_was(machines)
