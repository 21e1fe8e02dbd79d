"""Instances over HTTP: all that can be asked of one, and what is seen of it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute

from bloomery.doors.http import log_routes, upkeep
from bloomery.doors.http.instances import router
from bloomery.testing import Timings
from doors_http.http_site import DEPLOY, IMAGE, Site

creating = [
    route
    for route in (*log_routes.router.routes, *upkeep.router.routes)
    if isinstance(route, APIRoute) and route.path in ("/v1/webhooks", "/v1/recover")
]


def test_an_instance_lives_from_deploy_to_destroy(site: Site) -> None:
    operation = site.done("POST", "/v1/instances", DEPLOY)
    assert operation["kind"] == "deploy"
    assert operation["result"]["name"] == "web-1"
    instance = site.get("/v1/instances/web-1")
    assert (instance["state"], instance["power_state"], instance["manager"]) == ("active", "power on", "bloomery")
    assert instance["uuid"] == operation["instance_uuid"]
    assert [vif["network"] for vif in instance["vifs"]] == ["private"]
    site.done("DELETE", "/v1/instances/web-1")
    site.problem(404, "GET", f"/v1/instances/{instance['uuid']}")
    assert site.ironic.node(instance["node_uuid"])["instance_uuid"] is None
    assert site.neutron.ports() == []


def test_everything_that_a_person_calls_it_finds_the_instance(site: Site) -> None:
    instance = site.deployed()
    for name in (instance["uuid"], "web-1", instance["node_uuid"], instance["node_name"]):
        assert site.get(f"/v1/instances/{name}")["uuid"] == instance["uuid"]


def test_an_operation_tells_each_step_and_how_long_it_took(site: Site) -> None:
    operation = site.done("POST", "/v1/instances", DEPLOY)
    names = [step["name"] for step in operation["steps"]]
    assert names[-1] == "wait for active"
    assert "claim node" in names
    assert all(step["took_s"] is not None for step in operation["steps"])
    assert operation["progress"]["index"] == operation["progress"]["total"]


def test_what_it_will_take_is_what_the_last_ones_took(site: Site) -> None:
    first = site.done("POST", "/v1/instances", DEPLOY)
    assert first["expected_s"] is None
    second = site.done("POST", "/v1/instances", {**DEPLOY, "name": "web-2"})
    assert second["expected_s"] == pytest.approx(first["elapsed_s"], abs=0.11)


def test_power_is_switched_as_asked(site: Site) -> None:
    instance = site.deployed()
    for target, state in (("off", "power off"), ("on", "power on"), ("reboot", "power on")):
        operation = site.done("POST", "/v1/instances/web-1/power", {"target": target})
        assert operation["kind"] == ("reboot" if target == "reboot" else f"power {target}")
        assert site.get("/v1/instances/web-1")["power_state"] == state
        assert site.ironic.node(instance["node_uuid"])["power_state"] == state


def test_a_rebuild_keeps_the_node_and_takes_the_image(site: Site) -> None:
    before = site.deployed()
    image = {**IMAGE, "source": "http://127.0.0.1/images/y.raw"}
    site.done("POST", "/v1/instances/web-1/rebuild", {"image": image})
    after = site.get("/v1/instances/web-1")
    assert (after["node_uuid"], after["image"]) == (before["node_uuid"], image["source"])


def test_a_rescue_tells_its_password_once(site: Site) -> None:
    site.deployed()
    operation = site.begun("POST", "/v1/instances/web-1/rescue", {})
    assert operation["password"]
    assert site.ended(operation)["state"] == "succeeded"
    assert site.get(f"/v1/operations/{operation['id']}")["password"] is None
    assert site.get("/v1/instances/web-1")["state"] == "rescue"
    assert operation["password"] not in str(site.get("/v1/events?limit=1000")) + str(site.get("/v1/operations"))
    site.done("POST", "/v1/instances/web-1/unrescue", {})
    assert site.get("/v1/instances/web-1")["state"] == "active"


def test_a_password_that_was_given_is_used(site: Site) -> None:
    site.deployed()
    operation = site.begun("POST", "/v1/instances/web-1/rescue", {"password": "chosen-by-me"})
    assert operation["password"] == "chosen-by-me"
    assert site.ended(operation)["state"] == "succeeded"


def test_interfaces_come_and_go(site: Site) -> None:
    site.deployed()
    done = site.done("POST", "/v1/instances/web-1/interfaces", {"network": "storage"})
    assert [vif["network"] for vif in site.get("/v1/instances/web-1/interfaces")["interfaces"]] == [
        "private",
        "storage",
    ]
    site.done("DELETE", f"/v1/instances/web-1/interfaces/{done['result']['vif_id']}")
    assert [vif["network"] for vif in site.get("/v1/instances/web-1/interfaces")["interfaces"]] == ["private"]


def test_security_groups_come_and_go(site: Site) -> None:
    site.deployed()
    site.done("POST", "/v1/instances/web-1/security-groups", {"group": "web"})
    (vif,) = site.get("/v1/instances/web-1/security-groups")["vifs"]
    assert "web" in {group["name"] for group in vif["groups"]}
    site.done("DELETE", "/v1/instances/web-1/security-groups/web")
    (vif,) = site.get("/v1/instances/web-1/security-groups")["vifs"]
    assert "web" not in {group["name"] for group in vif["groups"]}


def test_volumes_come_and_go_while_it_is_off(site: Site) -> None:
    site.deployed()
    site.done("POST", "/v1/instances/web-1/power", {"target": "off"})
    volume = {"volume_id": "v-1", "boot_index": 1, "properties": {"auth_password": "hunter2"}}
    site.done("POST", "/v1/instances/web-1/volumes", volume)
    (found,) = site.get("/v1/instances/web-1/volumes")["volumes"]
    assert (found["volume_id"], found["boot_index"]) == ("v-1", 1)
    site.done("DELETE", "/v1/instances/web-1/volumes/v-1")
    assert site.get("/v1/instances/web-1/volumes")["volumes"] == []


def test_a_console_is_started_found_and_stopped(site: Site) -> None:
    site.deployed()
    assert site.get("/v1/instances/web-1/console") == {"enabled": False, "kind": None, "url": None, "in_use": False}
    site.done("POST", "/v1/instances/web-1/console", {})
    found = site.get("/v1/instances/web-1/console")
    assert found["enabled"]
    assert found["url"].startswith("tcp://")
    refused = site.ended(site.begun("DELETE", "/v1/instances/web-1/console"))
    assert refused["problem"]["title"] == "ConsoleInUse"
    site.done("DELETE", "/v1/instances/web-1/console?force=true")
    assert not site.get("/v1/instances/web-1/console")["enabled"]


def test_a_crash_dump_is_asked_for(site: Site) -> None:
    site.deployed()
    site.done("POST", "/v1/instances/web-1/crash-dump", {})


def test_an_instance_of_somebody_else_is_shown_and_changed_only_after_it_was_adopted(site: Site) -> None:
    uuid = str(uuid4())
    node = site.ironic.add_node(
        name="nova-node", provision_state="active", power_state="power on", instance_uuid=uuid,
        instance_info={"display_name": "novas", "nova_host_id": "compute-1"},
    )  # fmt: skip
    site.wait_for(lambda: any(one["uuid"] == uuid for one in site.get("/v1/instances")["instances"]))
    assert site.get(f"/v1/instances/{uuid}")["manager"] == "nova"
    failed = site.ended(site.begun("DELETE", f"/v1/instances/{uuid}"))
    assert failed["problem"]["title"] == "Conflict"
    site.done("POST", f"/v1/instances/{uuid}/adopt", {"name": "ours"})
    assert site.get("/v1/instances/ours")["manager"] == "bloomery"
    assert node


def test_what_does_not_fit_is_listed(site: Site) -> None:
    instance = site.deployed()
    assert site.get("/v1/instances/web-1/problems")["problems"] == []
    site.ironic.set(instance["node_uuid"], maintenance=True)
    assert "maintenance" in str(site.get("/v1/instances/web-1/problems")["problems"])


def test_user_data_in_bytes_arrives_and_is_in_no_log(site: Site, tmp_path: Path) -> None:
    secret = b"\x00\xffhunter2"
    guest = {"user_data_base64": base64.b64encode(secret).decode(), "files": {"/etc/motd": "hunter3"}}
    operation = site.done("POST", "/v1/instances", {**DEPLOY, "guest": guest})
    log = (tmp_path / "state" / "log.sqlite").read_bytes()
    wal = (tmp_path / "state" / "log.sqlite-wal").read_bytes()
    for told in (str(operation).encode(), log, wal):
        assert b"hunter3" not in told
        assert base64.b64encode(secret) not in told


def test_an_operation_that_fails_says_why_and_leaves_nothing(site: Site) -> None:
    body = {**DEPLOY, "wanted": {"resource_class": "none-such"}}
    failed = site.ended(site.begun("POST", "/v1/instances", body))
    assert failed["state"] == "failed"
    assert failed["problem"]["title"] == "NoNodeFits"
    assert "none-such" in failed["problem"]["detail"]
    assert failed["problem"]["refusals"]
    assert site.neutron.ports() == []


def test_a_cancelled_deploy_is_undone(site: Site) -> None:
    site.ironic.timings = Timings(agent_s=60.0)
    operation = site.begun("POST", "/v1/instances", DEPLOY)
    path = f"/v1/operations/{operation['id']}"
    site.wait_for(lambda: (site.get(path)["progress"] or {}).get("state") == "wait call-back")
    site.ironic.timings = Timings()
    answer = site.ask("POST", f"{path}/cancel")
    assert answer.status_code == 202
    assert answer.json()["cancelling"]
    ended = site.ended(operation)
    assert ended["state"] == "cancelled"
    assert any(step["undoing"] for step in ended["steps"])
    assert site.get("/v1/instances")["instances"] == []
    assert site.problem(409, "POST", f"{path}/cancel")["title"] == "OperationEnded"


# Seen


def test_a_list_is_filtered(site: Site) -> None:
    site.deployed("web-1")
    site.deployed("db-1")
    for query, names in (
        ("", ["db-1", "web-1"]),
        ("?name=WEB", ["web-1"]),
        ("?state=active", ["db-1", "web-1"]),
        ("?state=deploying&state=error", []),
        ("?manager=nova", []),
        ("?resource_class=small&power_state=power+on", ["db-1", "web-1"]),
    ):
        assert [one["name"] for one in site.get(f"/v1/instances{query}")["instances"]] == names


def test_pages_show_everything_once(site: Site) -> None:
    for name in ("c", "a", "b"):
        site.deployed(name)
    for path, key, expected in (
        ("/v1/instances", "instances", ["a", "b", "c"]),
        ("/v1/nodes", "nodes", ["node-0", "node-1", "node-2"]),
        ("/v1/operations", "operations", None),
        ("/v1/events", "events", None),
        ("/v1/audit", "calls", None),
    ):
        whole = site.get(f"{path}?limit=1000")[key]
        found: list[Any] = []
        where: str | None = f"{path}?limit=2"
        while where is not None:
            page = site.get(where)
            assert len(page[key]) <= 2
            found += page[key]
            where = page["next"]
        stripped = [{**one, "elapsed_s": None} if "elapsed_s" in one else one for one in found]
        assert stripped == [{**one, "elapsed_s": None} if "elapsed_s" in one else one for one in whole]
        if expected is not None:
            assert [one["name"] for one in found] == expected


def test_a_page_goes_on_where_it_was_even_if_its_last_row_has_gone(site: Site) -> None:
    for name in ("a", "b", "c"):
        site.deployed(name)
    following = site.get("/v1/instances?limit=2")["next"]
    site.done("DELETE", "/v1/instances/b")
    assert [one["name"] for one in site.get(following)["instances"]] == ["c"]


@pytest.mark.parametrize("marker", ["nonsense", "W10", "e30", "9" * 30, "-1", "é"])
def test_a_marker_that_is_none_is_refused(site: Site, marker: str) -> None:
    assert "marker" in site.problem(422, "GET", f"/v1/instances?marker={marker}")["detail"]
    assert "marker" in site.problem(422, "GET", f"/v1/operations?marker={marker}")["detail"]


def test_only_the_fields_that_are_wanted_are_given(site: Site) -> None:
    site.deployed()
    assert site.get("/v1/instances?fields=name,state")["instances"] == [{"name": "web-1", "state": "active"}]
    assert set(site.get("/v1/nodes/node-0?fields=name")) == {"name"}
    assert "colour" in site.problem(422, "GET", "/v1/instances?fields=name,colour")["detail"]


def test_of_what_the_log_has_only_the_fields_that_are_wanted_are_given(site: Site) -> None:
    operation = site.done("POST", "/v1/instances", DEPLOY)
    assert site.get(f"/v1/operations/{operation['id']}?fields=id,state") == {
        "id": operation["id"],
        "state": "succeeded",
    }
    hook = site.ask("POST", "/v1/webhooks", {"url": "http://127.0.0.1:1/", "kinds": ["operation.*"]}).json()
    site.done("DELETE", "/v1/instances/web-1")
    site.wait_for(lambda: bool(site.get("/v1/audit/reads")["calls"]))
    for path, key, field in (
        ("/v1/operations", "operations", "kind"),
        ("/v1/events", "events", "number"),
        ("/v1/audit", "calls", "path"),
        ("/v1/audit/reads", "calls", "status"),
        (f"/v1/webhooks/{hook['id']}/deliveries", "deliveries", "number"),
    ):
        rows = site.get(f"{path}?fields={field}&limit=3")[key]
        assert rows
        assert all(set(row) == {field} for row in rows)
        assert "colour" in site.problem(422, "GET", f"{path}?fields=colour")["detail"]


def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    site.deployed()
    for path in ("/v1/instances", "/v1/instances/web-1", "/v1/nodes", "/v1/networks"):
        etag = site.ask("GET", path).headers["ETag"]
        again = site.ask("GET", path, If_None_Match=etag)
        assert (again.status_code, again.content) == (304, b"")
    site.done("POST", "/v1/instances/web-1/power", {"target": "off"})
    assert site.ask("GET", "/v1/instances/web-1", If_None_Match=etag).status_code == 200


def test_a_change_that_was_asked_for_by_what_was_seen_is_refused_once_that_has_changed(site: Site) -> None:
    site.deployed()
    etag = site.ask("GET", "/v1/instances/web-1").headers["ETag"]
    site.done("POST", "/v1/instances/web-1/power", {"target": "off"}, If_Match=etag)
    assert site.problem(412, "DELETE", "/v1/instances/web-1", If_Match=etag)["title"] == "Changed"
    site.done("DELETE", "/v1/instances/web-1", If_Match="*")


# Asked twice


def test_the_same_request_with_the_same_key_is_carried_out_once(site: Site) -> None:
    first = site.begun("POST", "/v1/instances", DEPLOY, Idempotency_Key="k-1")
    answer = site.ask("POST", "/v1/instances", DEPLOY, Idempotency_Key="k-1")
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert answer.json()["id"] == first["id"]
    assert site.ended(first)["state"] == "succeeded"
    assert site.begun("POST", "/v1/instances", DEPLOY, Idempotency_Key="k-1")["id"] == first["id"]
    assert len(site.get("/v1/instances")["instances"]) == 1


def test_another_request_with_the_same_key_is_refused(site: Site) -> None:
    site.begun("POST", "/v1/instances", DEPLOY, Idempotency_Key="k-1")
    other = {**DEPLOY, "guest": {"admin_password": "another"}}
    assert site.problem(422, "POST", "/v1/instances", other, Idempotency_Key="k-1")["title"] == "IdempotencyKeyReused"


def test_a_request_that_comes_again_is_answered_whatever_the_first_one_has_changed(site: Site) -> None:
    site.deployed()
    for method, path, body in (
        ("POST", "/v1/instances/web-1/power", {"target": "off"}),
        ("DELETE", "/v1/instances/web-1", None),
    ):
        headers = {"If_Match": site.ask("GET", "/v1/instances/web-1").headers["ETag"], "Idempotency_Key": method}
        first = site.done(method, path, body, **headers)
        again = site.ask(method, path, body, **headers)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (again.json()["id"], again.json()["state"]) == (first["id"], "succeeded")
    assert site.problem(404, "DELETE", "/v1/instances/web-1", Idempotency_Key="another")["title"] == "InstanceNotFound"


def test_every_change_takes_a_key() -> None:
    for route in (*router.routes, *creating):
        assert isinstance(route, APIRoute)
        if {"POST", "DELETE"} & set(route.methods or ()):
            assert "idempotency-key" in {parameter.alias for parameter in route.dependant.header_params}, route
