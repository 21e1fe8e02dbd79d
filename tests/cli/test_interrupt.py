"""Ctrl-C asks on a terminal and cleans up elsewhere; what was begun is undone, or goes on, as the user says."""

from __future__ import annotations

import signal
import threading

import pytest

from bloomery.testing import Fault, FaultKind, RecordedRequest, Timings
from cli.simulated_cloud import IMAGE, TIMEOUT_S, Cloud, on_terminal

DEPLOY = ("deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private")


@pytest.fixture
def slow(cloud: Cloud) -> Cloud:
    """A cloud in which a deploy stops at the wait for the agent until the test lets it go on."""
    cloud.ironic.stick("node-0", "wait call-back")
    return cloud


def assert_clean(cloud: Cloud) -> None:
    node = cloud.ironic.wait_for("node-0", "available")
    assert (node["instance_uuid"], node["instance_info"], node["extra"]) == (None, {}, {})
    assert cloud.ironic.vifs("node-0") == []
    assert cloud.neutron.ports() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_an_interrupted_deploy_leaves_the_node_as_it_was(
    slow: Cloud, number: signal.Signals
) -> None:
    process = slow.start(*DEPLOY)
    slow.ironic.wait_for("node-0", "wait call-back")
    process.send_signal(number)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert "what was begun is being undone" in err
    assert "cancelled" in err
    assert "Traceback" not in err
    assert_clean(slow)


def test_on_a_terminal_ctrl_c_asks_and_undoes_if_told_so(slow: Cloud) -> None:
    with on_terminal(slow, *DEPLOY) as terminal:
        slow.ironic.wait_for("node-0", "wait call-back")
        terminal.process.send_signal(signal.SIGINT)
        terminal.await_text("[u]ndo")
        terminal.type("u\n")
        assert terminal.end() == 130
    assert_clean(slow)


def test_a_second_ctrl_c_undoes_without_asking_again(slow: Cloud) -> None:
    with on_terminal(slow, *DEPLOY) as terminal:
        slow.ironic.wait_for("node-0", "wait call-back")
        terminal.process.send_signal(signal.SIGINT)
        terminal.await_text("[c]ontinue?")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    assert_clean(slow)


def test_a_deploy_that_is_continued_is_not_disturbed(cloud: Cloud) -> None:
    cloud.ironic.timings = Timings(agent_s=2.0)
    with on_terminal(cloud, *DEPLOY) as terminal:
        cloud.ironic.wait_for("node-0", "wait call-back")
        terminal.process.send_signal(signal.SIGINT)
        terminal.await_text("[c]ontinue?")
        terminal.type("what?\n")
        terminal.type("c\n")
        assert terminal.end() == 0
    assert cloud.ironic.node("node-0")["provision_state"] == "active"


def test_a_deploy_that_is_left_goes_on_in_ironic(slow: Cloud) -> None:
    with on_terminal(slow, *DEPLOY) as terminal:
        slow.ironic.wait_for("node-0", "wait call-back")
        terminal.process.send_signal(signal.SIGINT)
        terminal.await_text("[c]ontinue?")
        terminal.type("l\n")
        assert terminal.end() == 130
        assert "bloomery show" in terminal.seen
    assert slow.ironic.node("node-0")["provision_state"] == "wait call-back"
    assert len(slow.ironic.vifs("node-0")) == 1


def test_a_terminal_shows_a_live_bar_that_fits_and_the_instance_at_the_end(cloud: Cloud) -> None:
    cloud.ironic.timings = Timings(deploy_s=0.5)
    with on_terminal(cloud, *DEPLOY) as terminal:
        assert terminal.end() == 0
    assert "━" in terminal.seen
    assert "web-1: deployed in" in terminal.seen
    assert "active" in terminal.seen


def test_destroy_asks_on_a_terminal(cloud: Cloud) -> None:
    cloud.deployed()
    with on_terminal(cloud, "destroy", "web-1") as terminal:
        terminal.await_text("Destroy web-1")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert len(cloud.ok("list", "-f", "value").splitlines()) == 1


def test_ctrl_c_while_ironic_is_only_read_ends_with_130(cloud: Cloud) -> None:
    asked = threading.Event()

    def dawdle(_request: RecordedRequest) -> Fault:
        asked.set()
        return Fault(FaultKind.DELAY, delay_s=TIMEOUT_S)

    cloud.ironic.on_request = dawdle
    process = cloud.start("list")
    assert asked.wait(TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "Traceback" not in err
