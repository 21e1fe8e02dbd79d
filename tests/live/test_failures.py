"""Deploys that fail, are interrupted, killed, or meet one another: the node runs its instance, or is as it was."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from live.site import Site, end

pytestmark = pytest.mark.lab

MIDWAY = ("deploying", "wait call-back")
"""The provision states of a node that Ironic has begun to deploy."""


def test_a_wrong_checksum_fails_with_ironics_reason_and_leaves_the_node_free(site: Site) -> None:
    site.await_quiet("node-0")
    answer = site.run(
        *("deploy", "web-1", "--node", "node-0", "--network", "private"),
        *("--image", site.image.url, "--checksum", f"sha256:{'0' * 64}"),
        exit_code=7,
    )
    assert "error: deploy failed on node node-0" in answer.err
    assert "checksum" in answer.err.lower()
    site.assert_free("node-0")
    assert site.bmc_power("node-0") == "Off"


def test_an_instance_is_destroyed_while_it_is_being_deployed(site: Site) -> None:
    site.await_quiet("node-1")
    with site.start("deploy", "web-1", "--node", "node-1", *site.image_options(), "--network", "private") as deploy:
        site.wait_for("node-1", *MIDWAY)
        site.run("destroy", "web-1", "--wait-for-cleaning")
        answer = end(deploy)
    # 0 where Ironic brought the deploy to its end before it took the tear-down: then it ran, for a moment.
    assert answer.exit_code in (0, 4, 7, 9), answer.err
    site.assert_free("node-1")


def test_ctrl_c_during_a_deploy_leaves_the_node_as_it_was(site: Site) -> None:
    site.await_quiet("node-0")
    with site.start("deploy", "web-1", "--node", "node-0", *site.image_options(), "--network", "private") as deploy:
        site.wait_for("node-0", *MIDWAY)
        answer = end(deploy, by=signal.SIGINT)
    assert answer.exit_code == 130, answer.err
    assert "undone" in answer.err
    assert "could not be undone" not in answer.err
    site.assert_free("node-0")


def test_a_killed_deploy_is_finished_by_recover(site: Site) -> None:
    site.await_quiet("node-1")
    with site.start("deploy", "web-1", "--node", "node-1", *site.image_options(), "--network", "private") as deploy:
        site.wait_for("node-1", *MIDWAY)
        end(deploy, by=signal.SIGKILL)
    site.run("recover", "--older-than", "0")
    row = site.row("node-1")
    assert row["provision_state"] == "active"
    assert site.run("show", "web-1", "-f", "json").value["uuid"] == row["instance_uuid"]
    assert site.run("validate", "web-1", "-f", "json").value == []


def test_an_operator_who_undeploys_a_node_in_the_middle_gets_it_free_and_the_user_a_reason(site: Site) -> None:
    uuid = site.node("node-0").uuid
    for _ in range(5):
        site.await_quiet("node-0")
        with site.start("deploy", "web-1", "--node", "node-0", *site.image_options(), "--network", "private") as deploy:
            site.wait_for("node-0", "wait call-back")
            site.ironic.call("PUT", f"nodes/{uuid}/states/provision", {"target": "deleted"})
            answer = end(deploy)
        if answer.exit_code:
            break
        # The node was active before the operator's request had come.
        site.clear()
    assert answer.exit_code in (4, 7), answer.err
    assert "node-0" in answer.err
    assert "could not be undone" not in answer.err
    site.run("janitor", "--once", "--requests-per-second", "100")
    site.assert_free("node-0")


def test_an_operator_who_renames_a_node_in_the_middle_disturbs_nobody(site: Site) -> None:
    site.await_quiet("node-1")
    uuid = site.node("node-1").uuid
    with site.start("deploy", "web-1", "--node", "node-1", *site.image_options(), "--network", "private") as deploy:
        site.wait(lambda: site.row("node-1")["instance_uuid"] is not None, "a claim")
        site.patch(uuid, name="renamed", description="mine")
        answer = end(deploy)
    try:
        assert answer.exit_code == 0, answer.err
        row = site.ironic.call("GET", f"nodes/{uuid}")
        assert (row["name"], row["description"], row["provision_state"]) == ("renamed", "mine", "active")
        site.run("destroy", "web-1", "--wait-for-cleaning")
    finally:
        site.patch(uuid, name="node-1", description="")
    site.assert_free("node-1")


def test_what_a_killed_deploy_has_left_is_cleaned_by_the_janitor(site: Site) -> None:
    site.await_quiet("node-0")
    with site.start("deploy", "web-1", "--node", "node-0", *site.image_options(), "--network", "private") as deploy:
        site.wait(lambda: site.row("node-0")["instance_uuid"] is not None, "a claim")
        end(deploy, by=signal.SIGKILL)
    cleaned = site.run("janitor", "--once", "--requests-per-second", "100").out
    state = site.row("node-0")["provision_state"]
    if state == "available":  # unless Ironic had taken it up already: then there is nothing to clean until that ends
        assert "cleaned operation web-1 on node-0: a deploy that was broken off" in cleaned
    else:
        site.run("destroy", "web-1", "--wait-for-cleaning")
    site.assert_free("node-0")
    assert site.run("doctor", "--leaks", "-f", "json").value == []


def test_what_an_operators_undeploy_leaves_is_cleaned_by_the_janitor(site: Site) -> None:
    site.await_quiet("node-1")
    site.deploy("web-1", "node-1", "--network", "private")
    site.ironic.call("PUT", f"nodes/{site.node('node-1').uuid}/states/provision", {"target": "deleted"})
    site.wait_for("node-1", "available")
    (left,) = [leak for leak in site.run("doctor", "--leaks", "-f", "json", exit_code=1).value if leak["kind"] == "VIF"]
    assert left["verdict"] == "left"
    site.run("janitor", "--once", "--requests-per-second", "100")
    assert site.ports(device_id=left["instance_uuid"]) == []
    site.assert_free("node-1")
    assert site.run("doctor", "--leaks", "-f", "json").value == []


def test_a_deploy_killed_before_ironic_took_it_up_is_undone_by_recover(site: Site) -> None:
    site.await_quiet("node-3")
    with site.start("deploy", "web-1", "--node", "node-3", *site.image_options(), "--network", "private") as deploy:
        site.wait(lambda: site.row("node-3")["instance_uuid"] is not None, "node-3 is claimed")
        end(deploy, by=signal.SIGKILL)
    site.run("recover", "--older-than", "0")
    if site.row("node-3")["provision_state"] == "active":
        # It was faster than we were; that is well, too.
        site.run("destroy", "web-1", "--wait-for-cleaning")
    site.assert_free("node-3")


def test_of_two_deploys_to_the_same_node_exactly_one_wins(site: Site) -> None:
    site.await_quiet("node-3")
    words = ("--node", "node-3", *site.image_options(), "--network", "private")
    processes = {name: site.start("deploy", name, *words, "-f", "json") for name in ("web-1", "web-2")}
    answers = {name: end(process) for name, process in processes.items()}
    codes = sorted(answer.exit_code for answer in answers.values())
    assert codes == [0, 4], [answer.err for answer in answers.values()]
    winner = next(name for name, answer in answers.items() if answer.exit_code == 0)
    loser = next(answer for answer in answers.values() if answer.exit_code == 4)
    assert json.loads(answers[winner].out)["node_name"] == "node-3"
    (error,) = [line for line in loser.err.splitlines() if line.startswith("error: ")]
    assert "node-3" in error
    lost = "web-1" if winner == "web-2" else "web-2"
    assert site.ports(name=f"{lost}-0") == []
    assert [row["name"] for row in site.run("list", "-f", "json").value] == [winner]
    assert len(site.ports(name=f"{winner}-0")) == 1


def test_four_deploys_at_once_share_three_nodes_without_stepping_on_each_other(site: Site) -> None:
    site.await_quiet()
    names = [f"db-{number}" for number in range(1, 5)]
    answer = site.run(
        *("deploy", "db", "--count", "4", "--at-once", "4", "--resource-class", "baremetal.fake"),
        *(*site.image_options(), "--network", "private"),
        exit_code=7,
    )
    assert "3 of 4 done" in answer.err
    running = {row["name"]: row for row in site.run("list", "-f", "json").value}
    assert len(running) == 3
    assert running.keys() < set(names)
    assert {row["node_name"] for row in running.values()} == {"node-3", "node-4", "node-5"}
    for name, row in running.items():
        assert [port["name"] for port in site.ports(device_id=row["uuid"])] == [f"{name}-0"]
    (lost,) = set(names) - running.keys()
    assert site.ports(name=f"{lost}-0") == []
    assert {row["uuid"] for row in site.ironic.call("GET", "allocations")["allocations"]} == {
        row["uuid"] for row in running.values()
    }


@pytest.fixture
def by_virtual_media(site: Site) -> Iterator[str]:
    """A node that boots its agent over virtual media, for as long as the test takes."""
    node, iso = site.lab.node("node-1"), site.lab.images["agent-iso"].url
    site.await_quiet(node.name)
    isos = {f"/driver_info/{use}_iso": iso for use in ("deploy", "rescue")}
    way = [{"op": "replace", "path": "/boot_interface", "value": "redfish-virtual-media"}]
    site.ironic.call(
        "PATCH", f"nodes/{node.uuid}", way + [{"op": "add", "path": path, "value": url} for path, url in isos.items()]
    )
    yield node.name
    site.clear()
    site.await_quiet(node.name)
    before = [{"op": "replace", "path": "/boot_interface", "value": node.boot_interface}]
    added = ("/driver_info/fast_track", *isos)
    present = site.ironic.node(node)["driver_info"]
    before += [{"op": "remove", "path": path} for path in added if path.removeprefix("/driver_info/") in present]
    site.ironic.call("PATCH", f"nodes/{node.uuid}", before)


def test_a_rescue_that_ironic_switches_off_fails_and_one_that_it_leaves_on_does_not(
    site: Site, by_virtual_media: str
) -> None:
    name, node = by_virtual_media, site.lab.node(by_virtual_media)
    site.run("deploy", "web-1", "--node", name, *site.image_options(), "--network", "private")
    answer = site.run("rescue", "web-1", exit_code=7)
    assert "has switched it off" in answer.err
    assert "fast_track" in answer.err
    assert (site.row(name)["provision_state"], site.machine(name)["running"]) == ("active", "disk")

    patch = [{"op": "add", "path": "/driver_info/fast_track", "value": True}]
    site.ironic.call("PATCH", f"nodes/{node.uuid}", patch)
    site.run("rescue", "web-1")
    assert (site.bmc_power(name), site.machine(name)["running"]) == ("On", "rescue")
    site.run("unrescue", "web-1")
    assert site.machine(name)["running"] == "disk"
