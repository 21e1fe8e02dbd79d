"""Bad input on the real thing: one clear message, its exit code, and nothing changed at Ironic or Neutron."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from live.site import Site

pytestmark = pytest.mark.lab

OTHER = "6728ab4e-27dc-457b-b5d2-d6958180b839"
NODE = "node-4"
CHECKSUM = f"sha256:{'a' * 64}"

Prepare = Callable[[Site], None]


def nothing(_site: Site) -> None:
    """The node is free."""


def in_maintenance(site: Site) -> None:
    site.ironic.call("PUT", f"nodes/{site.node(NODE).uuid}/maintenance", {"reason": "new disks"})


def retired(site: Site) -> None:
    site.ironic.provision(site.node(NODE), "manage", until="manageable")
    site.patch(site.node(NODE).uuid, retired=True, retired_reason="too old")


def locked(site: Site) -> None:
    """Somebody is busy with the node, and stays so."""
    site.lock(NODE)


def locked_with_instance(site: Site) -> None:
    """Somebody is busy with the node of an instance, and stays so."""
    running(site)
    site.lock(NODE)


def running(site: Site) -> None:
    """Somebody's instance runs on the node."""
    site.deploy("theirs", NODE)


def protected(site: Site) -> None:
    """Somebody's instance runs on the node, which is protected."""
    running(site)
    site.patch(site.node(NODE).uuid, protected=True, protected_reason="payroll")


def deploy(*words: str) -> Callable[[Site], tuple[str, ...]]:
    """What deploys an instance, with these words in addition."""
    return lambda site: ("deploy", "web-9", *site.image_options(), *words)


def plainly(*words: str) -> Callable[[Site], tuple[str, ...]]:
    """These words."""
    return lambda _site: words


ON_NODE = ("--node", NODE)
CASES: dict[str, tuple[Prepare, Callable[[Site], tuple[str, ...]], int, str]] = {
    "node in maintenance": (in_maintenance, deploy(*ON_NODE), 4, "maintenance"),
    "node retired": (retired, deploy(*ON_NODE), 4, "too old"),
    "node locked": (locked, deploy(*ON_NODE, "--timeout", "5"), 4, "locked"),
    "locked node rebooted": (
        locked_with_instance, plainly("reboot", "theirs", "--timeout", "5"), 4, "locked",
    ),
    "node claimed": (running, deploy(*ON_NODE), 4, "cannot be had"),
    "node protected": (protected, plainly("destroy", "theirs"), 4, "protected"),
    "protected node rebuilt": (protected, plainly("rebuild", "theirs"), 4, "protected"),
    "unknown node": (nothing, deploy("--node", "nowhere"), 3, "there is no node 'nowhere'"),
    "unknown network": (nothing, deploy(*ON_NODE, "--network", "nowhere"), 3, "'nowhere'"),
    "unknown security group": (
        nothing, deploy(*ON_NODE, "--network", "private", "--security-group", "nobody"), 3, "'nobody'",
    ),
    "unknown VIF": (nothing, deploy(*ON_NODE, "--vif", OTHER), 3, OTHER),
    "unknown instance": (nothing, plainly("reboot", "nobody"), 3, "there is no instance 'nobody'"),
    "unknown image": (nothing, plainly("deploy", "web-9", *ON_NODE, "--image", "ubuntu"), 11, "Glance"),
    "no checksum": (
        nothing, plainly("deploy", "web-9", *ON_NODE, "--image", "http://127.0.0.1/x.raw"), 2, "no checksum",
    ),
    "unknown resource class": (nothing, deploy("--resource-class", "huge"), 10, "no node fits"),
    "unknown trait": (nothing, deploy("--resource-class", "baremetal", "--trait", "CUSTOM_FPGA"), 10, "CUSTOM_FPGA"),
    "too few NICs": (
        nothing, deploy(*ON_NODE, *("--network", "private") * 3), 2, f"node {NODE} cannot take 3 VIFs",
    ),
    "too few NICs in a bond": (
        nothing, deploy("--node", "node-2", *("--network", "private") * 2), 2, "node node-2 cannot take 2 VIFs",
    ),
    "unknown NIC": (nothing, deploy(*ON_NODE, "--nic", "network=private,on=eth9"), 2, "has no NIC 'eth9'"),
    "address elsewhere": (nothing, deploy(*ON_NODE, "--network", "private", "--ip", "192.0.2.7"), 2, "192.0.2.7"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_and_changes_nothing(case: str, site: Site) -> None:
    prepare, words, exit_code, message = CASES[case]
    prepare(site)
    before = site.seen()
    answer = site.run(*words(site), exit_code=exit_code)
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, answer.err
    assert message in answer.err
    assert site.seen() == before
