"""What administrators ask when something is not as it should be, and what would be done if it were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bloomery import errors
from bloomery.doors.http.app import bare_app
from bloomery.doors.http.client import ServiceClient, connect
from bloomery.operations.request import DeployRequest, Image, Nic
from bloomery.secret import Secret
from bloomery.testing import IronicSimulator
from doors_http.http_site import CHECKSUM, DEPLOY, Site, connected
from doors_http.test_client import command
from janitor.leaking import GONE, a_mark, in_minutes

IMAGE = Image.named("http://127.0.0.1/images/x.raw", checksum=CHECKSUM)


@pytest.fixture
def client(site: Site) -> Iterator[ServiceClient]:
    client = connect(site.url)
    yield client
    client.close()


# Rehearsals


def changes(ironic: IronicSimulator) -> int:
    return sum(request.method != "GET" for request in ironic.requests)


def test_a_deploy_that_is_only_rehearsed_says_what_it_would_send_and_sends_nothing(site: Site) -> None:
    body = {**DEPLOY, "guest": {"admin_password": "hunter2", "user_data": "hunter2"}}
    answer = site.ask("POST", "/v1/instances?dry_run=true", body)
    assert answer.status_code == 200, answer.text
    calls = answer.json()["calls"]
    assert {call["service"] for call in calls} == {"Ironic", "Neutron"}
    assert calls[-1]["path"].endswith("/states/provision")
    assert calls[-1]["body"]["target"] == "active"
    assert "hunter2" not in answer.text
    assert changes(site.ironic) == 0
    assert site.neutron.ports() == []
    assert site.get("/v1/operations")["operations"] == []


def test_what_could_not_be_begun_is_said_by_its_rehearsal(site: Site) -> None:
    body = {**DEPLOY, "wanted": {"resource_class": "large"}}
    assert site.problem(409, "POST", "/v1/instances?dry_run=true", body)["title"] == "NoNodeFits"
    site.problem(404, "DELETE", "/v1/instances/nope?dry_run=true")


REHEARSED: list[tuple[str, str, Any]] = [
    ("DELETE", "", None),
    ("POST", "/rebuild", {}),
    ("POST", "/rescue", {}),
    ("POST", "/power", {"target": "off"}),
    ("POST", "/power", {"target": "reboot"}),
]
NOT_REHEARSED: list[tuple[str, str, Any]] = [
    ("POST", "/interfaces", {"network": "storage"}),
    ("DELETE", "/interfaces/{vif}", None),
    ("POST", "/security-groups", {"group": "web"}),
    ("DELETE", "/security-groups/web", None),
    ("POST", "/volumes", {"volume_id": "v-1", "boot_index": 1}),
    ("DELETE", "/volumes/v-1", None),
    ("POST", "/console", {}),
    ("DELETE", "/console", None),
    ("POST", "/crash-dump", {}),
    ("POST", "/adopt", {}),
]


def test_nothing_of_an_instance_changes_when_that_is_only_rehearsed_or_cannot_be(site: Site) -> None:
    instance = site.deployed()
    ports, sent = site.neutron.ports(), changes(site.ironic)
    for method, path, body in (*REHEARSED, *NOT_REHEARSED):
        at = path.replace("{vif}", instance["vifs"][0]["vif_id"])
        answer = site.ask(method, f"/v1/instances/web-1{at}?dry_run=true", body)
        if (method, path, body) in REHEARSED:
            assert (answer.status_code, bool(answer.json()["calls"])) == (200, True), (method, path, answer.text)
        else:
            assert (answer.status_code, answer.json()["title"]) == (422, "NotSupported"), (method, path, answer.text)
    assert (site.neutron.ports(), changes(site.ironic)) == (ports, sent)
    assert len(site.get("/v1/operations")["operations"]) == 1


def test_every_route_that_begins_an_operation_on_an_instance_can_be_rehearsed() -> None:
    for path, methods in bare_app().openapi()["paths"].items():
        for method, said in methods.items():
            if path.startswith("/v1/instances") and "202" in said["responses"]:
                assert "dry_run" in {parameter["name"] for parameter in said["parameters"]}, (method, path)
                assert "200" in said["responses"]


def test_the_clients_rehearsal_is_the_librarys(client: ServiceClient, site: Site) -> None:
    request = DeployRequest(name="web-1", image=IMAGE, node="node-1", nics=(Nic(network="private"),))
    with connected(site.ironic, site.neutron).rehearsal() as (straight, wanted):
        straight.deploy(request)
    with client.rehearsal() as (dry, calls):
        dry.deploy(request)
    assert [(call.service, call.method, call.path) for call in calls] == [
        (call.service, call.method, call.path) for call in wanted
    ]
    with client.rehearsal() as (dry, calls), pytest.raises(errors.InstanceNotFound):
        dry.rescue("web-1", Secret("x"))
    assert calls == []


# The cloud


def test_the_checkup_is_the_librarys(client: ServiceClient, site: Site) -> None:
    found = client.checkup()
    assert found == connected(site.ironic, site.neutron).checkup()
    assert {check.check for check in found} >= {"endpoint", "API version", "access", "conductors", "networks"}


def left(site: Site) -> None:
    """A deploy was broken off by a process that is no more."""
    mark = a_mark(since=in_minutes(-60), until=in_minutes(-30))
    site.ironic.set("node-1", instance_uuid=GONE, extra={"bloomery": mark})


def test_what_is_left_is_shown_and_removed_and_that_is_an_event(client: ServiceClient, site: Site) -> None:
    left(site)
    survey = client.leaks()
    assert survey == connected(site.ironic, site.neutron).leaks()
    (leak,) = survey.ours
    outcome = client.mend(leak)
    assert (outcome.is_gone, outcome.problem) == (True, None)
    assert client.leaks().ours == ()
    assert client.mend(leak).is_gone is False
    (event,) = site.get("/v1/events?kind=leak.mended")["events"]
    assert (event["actor"], event["node_name"], event["instance_uuid"]) == ("anonymous", "node-1", GONE)


def test_what_was_left_half_done_is_undone_by_an_operation(client: ServiceClient, site: Site) -> None:
    left(site)
    assert client.recover(older_than_s=1.0) == [("node-1", None)]
    assert client.node("node-1").instance_uuid is None
    (operation,) = site.get("/v1/operations?kind=recover")["operations"]
    assert (operation["state"], operation["instance_uuid"]) == ("succeeded", None)


def test_the_command_looks_after_the_services_cloud(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLOOMERY_SERVICE", site.url)
    code, out, _ = command(monkeypatch, capsys, "doctor")
    assert code == 0, out
    assert "3 nodes" in out
    deploy = [
        "deploy",
        "web-1",
        "--node",
        "node-1",
        "--image",
        str(IMAGE.source),
        "--checksum",
        CHECKSUM,
        "--network",
        "private",
    ]
    code, out, err = command(monkeypatch, capsys, *deploy, "--dry-run")
    assert (code, "Ironic PUT" in out) == (0, True), err
    left(site)
    code, out, _ = command(monkeypatch, capsys, "doctor", "--leaks", "--fix", "--yes")
    assert (code, "node-1" in out) == (0, True)
    code, out, err = command(monkeypatch, capsys, "recover", "--older-than", "1")
    assert code == 0, err
