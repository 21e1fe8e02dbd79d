"""`doctor` says what is there, what is not, and what to do; and finds what is left of instances that are gone."""

from __future__ import annotations

import json
import signal

import pytest

from bloomery.testing import Fault, FaultKind, IronicSimulator, RecordedRequest
from cli.simulated_cloud import IMAGE, Cloud, on_terminal

GONE = "6728ab4e-27dc-457b-b5d2-d6958180b839"


def checks(cloud: Cloud, *arguments: str) -> tuple[int, dict[str, str]]:
    result = cloud.run(*arguments, "doctor", "-f", "json")
    return result.code, {check["check"]: check["verdict"] for check in json.loads(result.out)}


def test_where_all_is_well_every_check_is_ok(cloud: Cloud) -> None:
    code, found = checks(cloud)
    assert code == 0
    assert set(found.values()) == {"ok"}
    assert list(found) == ["endpoint", "API version", "access", "conductors", "drivers", "images", "networks"]


def test_the_checks_are_read_by_people(cloud: Cloud) -> None:
    cloud.ironic.set("node-0", resource_class=None)
    cloud.ironic.set("node-1", provision_state="clean failed", maintenance=True)
    out = cloud.ok("doctor")
    assert "warn  nodes         without resource class: node-0" in out
    assert "in a failed state: node-1" in out
    assert "→ " in out


def test_an_ironic_that_is_not_there_fails_the_check(cloud: Cloud) -> None:
    with cloud.ironic.unreachable():
        assert checks(cloud) == (1, {"endpoint": "fail"})


def test_an_ironic_that_is_too_old_fails_the_check(cloud: Cloud) -> None:
    with IronicSimulator(max_version="1.72") as old:
        assert checks(cloud, "--os-baremetal-endpoint-override", old.url) == (1, {"API version": "fail"})


def test_what_an_older_ironic_lacks_is_said(cloud: Cloud) -> None:
    with IronicSimulator(max_version="1.81") as old:
        result = cloud.run("--os-baremetal-endpoint-override", old.url, "doctor")
    assert "without nodes grouped into shards" in result.out


def test_credentials_that_do_not_suffice_fail_the_check(cloud: Cloud) -> None:
    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=403) if request.path == "/v1/nodes" else None

    cloud.ironic.on_request = refuse
    assert checks(cloud)[1]["access"] == "fail"


def test_what_these_credentials_may_not_see_is_a_warning(cloud: Cloud) -> None:
    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=403) if request.path == "/v1/conductors" else None

    cloud.ironic.on_request = refuse
    code, found = checks(cloud)
    assert (code, found["conductors"]) == (0, "warn")


def test_a_cloud_without_neutron_is_a_warning(cloud: Cloud) -> None:
    config = cloud.folder / "clouds.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(keepends=True) if "network" not in line))
    code, found = checks(cloud)
    assert (code, found["networks"]) == (0, "warn")


def test_a_cloud_that_does_not_exist_fails_the_check(cloud: Cloud) -> None:
    assert checks(cloud, "--os-cloud", "nowhere") == (1, {"cloud": "fail"})


def test_what_is_left_of_an_instance_is_found_and_removed(cloud: Cloud) -> None:
    cloud.deployed("web-1", "--candidate", "node-0")
    cloud.ironic.set("node-2", extra={"bloomery": {"instance_uuid": GONE, "operation": "deploy"}})
    network = cloud.neutron.add_network("third")
    stray = cloud.neutron.add_port(
        network, device_id=GONE, device_owner="baremetal:none", description="created by bloomery", name="stray"
    )
    others = cloud.neutron.add_port(network, device_id=GONE, device_owner="baremetal:none", name="not ours")
    found = cloud.run("doctor", "--leaks", "-f", "json")
    assert found.code == 1
    shown = {(leak["kind"], leak["name"], leak["verdict"]) for leak in json.loads(found.out)}
    assert shown == {("VIF", "stray", "left"), ("mark", GONE, "left")}
    before = cloud.neutron.ports(device_id=GONE)
    assert len(before) == 2
    cloud.ok("doctor", "--leaks", "--fix")
    assert cloud.neutron.port(stray) is None
    assert cloud.neutron.port(others) is not None
    assert cloud.ironic.node("node-2")["extra"] == {}
    assert len(cloud.neutron.ports(device_owner="baremetal:none")) == 2, "the instance that runs keeps its VIF"
    assert cloud.run("doctor", "--leaks").code == 0


def test_what_nothing_proves_is_shown_with_a_reason_and_advice_and_kept(cloud: Cloud) -> None:
    network = cloud.neutron.add_network("third")
    words = f"created by bloomery for node {GONE}"
    stray = cloud.neutron.add_port(
        network, device_id=GONE, device_owner="baremetal:none", description=words, name="stray"
    )
    out = cloud.run("doctor", "--leaks", "--fix")
    assert (out.code, cloud.neutron.port(stray) is not None) == (1, True)
    assert "unproven" in out.out
    assert "nothing proves" in out.err
    assert f"openstack port delete {stray}" in cloud.run("doctor", "--leaks", "-c", "name", "-c", "advice").out


def test_what_is_somebody_elses_is_shown_and_does_not_count(cloud: Cloud) -> None:
    cloud.ironic.set("node-1", instance_uuid=GONE)
    found = cloud.run("doctor", "--leaks", "--fix", "-f", "json")
    assert found.code == 0
    assert [(leak["kind"], leak["name"], leak["verdict"]) for leak in json.loads(found.out)] == [
        ("claim", "node-1", "not ours")
    ]
    assert cloud.ironic.node("node-1")["instance_uuid"] == GONE


def test_nothing_is_removed_when_the_user_says_no(cloud: Cloud) -> None:
    cloud.ironic.set("node-2", extra={"bloomery": {"instance_uuid": GONE, "operation": "deploy"}})
    with on_terminal(cloud, "doctor", "--leaks", "--fix") as terminal:
        terminal.await_text("Remove the 1 that are certainly left? [y/N]")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert cloud.ironic.node("node-2")["extra"] != {}


def test_a_list_that_these_credentials_may_not_see_is_said(cloud: Cloud) -> None:
    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=403) if request.path == "/v1/volume/targets" else None

    cloud.ironic.on_request = refuse
    assert "could not look at volume targets" in cloud.run("doctor", "--leaks").err


def test_the_janitor_cleans_once_and_says_what(cloud: Cloud) -> None:
    cloud.ironic.set("node-2", extra={"bloomery": {"instance_uuid": GONE, "operation": "deploy", "name": "web-7"}})
    out = cloud.ok("janitor", "--once", "--requests-per-second", "1000")
    assert out == "cleaned mark web-7 on node-2: the node is in 'available' and carries no instance\n"
    assert cloud.ironic.node("node-2")["extra"] == {}
    assert cloud.ok("janitor", "--once", "--requests-per-second", "1000") == ""


def test_the_janitor_says_why_it_could_not_look(cloud: Cloud) -> None:
    cloud.ironic.on_request = lambda request: (
        Fault(FaultKind.STATUS, status=403) if request.path == "/v1/nodes" else None
    )
    assert cloud.run("janitor", "--once").code == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_janitor_works_until_it_is_told_to_end(cloud: Cloud, number: signal.Signals) -> None:
    with on_terminal(cloud, "janitor", "--every", "1", "--requests-per-second", "1000") as terminal:
        terminal.await_text("looking every 1 s")
        cloud.ironic.set("node-2", extra={"bloomery": {"instance_uuid": GONE, "name": "web-7"}})
        terminal.await_text("cleaned mark web-7")
        terminal.process.send_signal(number)
        assert terminal.end() == 0
        assert "stopped" in terminal.seen


def test_fix_goes_with_leaks(cloud: Cloud) -> None:
    assert cloud.run("doctor", "--fix").code == 2


@pytest.mark.parametrize("written_as", ["table", "json", "yaml", "value"])
def test_a_deploy_shows_in_every_format(cloud: Cloud, written_as: str) -> None:
    out = cloud.ok("deploy", "web-1", *IMAGE, "--node", "node-0", "--network", "private", "-f", written_as)
    assert "web-1" in out
    assert "active" in out
