"""Who may do what: passwords, tokens, roles, and the bounds of a project."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import bcrypt
import pytest
import requests
from fastapi.routing import APIRoute

from bloomery.doors.http import answers, catalogue, feed, instances, log_routes, nodes, upkeep
from bloomery.doors.http.access import Principal, Role
from bloomery.doors.http.identity import FAILURES, Passwords
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.settings import Auth
from bloomery.errors import InvalidRequest
from doors_http.http_site import DEPLOY, IMAGE, Caller, Site, cloud, served
from doors_http.keystone_simulator import KeystoneSimulator

OURS, THEIRS = "11111111111111111111111111111111", "22222222222222222222222222222222"


def basic(name: str, password: str | None = None) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password or name + '-password'}".encode()).decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file with users as Ironic has it, and one with their roles."""
    folder = tmp_path_factory.mktemp("users")
    names = ("alice", "bob", "rita", "root", "auditor", "nobody")
    users, roles = folder / "htpasswd", folder / "roles"
    users.write_text(
        "# Ironic's\n"
        + "".join(
            f"{name}:{bcrypt.hashpw(f'{name}-password'.encode(), bcrypt.gensalt(4)).decode()}\n" for name in names
        )
    )
    roles.write_text(
        f"alice: member {OURS}\nbob: member {THEIRS}\nrita: reader {OURS}\nroot: admin\nauditor: reader\n# nobody has none\n"
    )
    return {"users": users, "roles": roles}


@pytest.fixture(scope="module")
def shared(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with users of two projects, each of which has a node and an instance on another."""
    with cloud(nodes=0) as (ironic, neutron):
        for project, name in ((OURS, "ours"), (THEIRS, "theirs")):
            for number in range(3):
                whose = {"lessee": project} if number else {"owner": project}
                ironic.add_node(f"{name}-{number}", resource_class="small", **whose)  # type: ignore[arg-type]
        ironic.add_node(name="nobodys", resource_class="small")
        with served(
            ironic, neutron, tmp_path_factory.mktemp("shared"), auth=Auth.BASIC, ironic_networks=("ironics",), **files
        ) as site:
            for name, prefix in (("alice", "ours"), ("bob", "theirs")):
                somebody = Caller(site.url, {"Authorization": basic(name)})
                somebody.done("POST", "/v1/instances", {**DEPLOY, "name": f"{prefix}-web", "node": f"{prefix}-2"})
            yield site


def caller(site: Site, name: str) -> Caller:
    return site.as_caller(Authorization=basic(name))


# Who


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer abc",
        "Basic",
        "Basic %%%",
        basic("alice", "wrong"),
        basic("mallory"),
        basic("alice", "x" * 100),
        basic("alice", "alice-password\0"),
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_whoever_does_not_show_who_he_is_gets_nothing(files: dict[str, Path], header: str | None) -> None:
    passwords = Passwords(files["users"], files["roles"])
    with pytest.raises(Refusal) as refusal:
        passwords.principal({"authorization": header} if header is not None else {}, "192.0.2.1")
    assert refusal.value.status == 401
    assert refusal.value.headers["WWW-Authenticate"].startswith("Basic")


def test_over_the_wire_it_is_401_for_every_path_of_the_api(shared: Site) -> None:
    for path in ("/v1", "/v1/nodes", "/v1/nope", "/v1/openapi.json", "/metrics", "/v1/events/stream"):
        assert shared.problem(401, "GET", path)["title"] == "Unauthorized"
    assert shared.ask("GET", "/healthz").status_code == 200


def test_somebody_who_guesses_passwords_has_to_wait_and_nobody_else_has(files: dict[str, Path]) -> None:
    passwords = Passwords(files["users"], None)
    for _ in range(FAILURES):
        with pytest.raises(Refusal):
            passwords.principal({"authorization": basic("alice", "wrong")}, "192.0.2.1")
    with pytest.raises(Refusal) as refusal:
        passwords.principal({"authorization": basic("alice")}, "192.0.2.1")
    assert refusal.value.status == 429
    assert passwords.principal({"authorization": basic("alice")}, "192.0.2.2").name == "alice"


def test_a_user_that_is_taken_out_of_the_file_is_out(files: dict[str, Path], tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(files["users"].read_text())
    passwords = Passwords(users, None)
    assert passwords.principal({"authorization": basic("alice")}, "a").role.word == "admin"
    users.write_text("")
    with pytest.raises(Refusal):
        passwords.principal({"authorization": basic("alice")}, "a")


@pytest.mark.parametrize(
    ("users", "roles"),
    [("alice", None), ("alice:secret", None), ("", "alice"), ("", "alice: king"), ("", "alice: member a b")],
)
def test_files_that_make_no_sense_are_refused_at_the_start(tmp_path: Path, users: str, roles: str | None) -> None:
    (tmp_path / "users").write_text(users)
    (tmp_path / "roles").write_text(roles or "")
    with pytest.raises(InvalidRequest, match="line 1"):
        Passwords(tmp_path / "users", tmp_path / "roles" if roles is not None else None)


def test_a_user_without_a_role_may_nothing(shared: Site) -> None:
    assert caller(shared, "nobody").problem(403, "GET", "/v1/nodes")["title"] == "Forbidden"


# What


ROUTES = [route for part in (catalogue, instances, log_routes, nodes, upkeep) for route in part.router.routes]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{sorted(route.methods)} {route.path}")
def test_every_route_of_the_api_says_who_may_take_it(route: Any) -> None:
    assert isinstance(route, APIRoute)
    if not route.path.startswith("/v1"):
        return
    guards = {answers.Reader.__metadata__[0].dependency, answers.Member.__metadata__[0].dependency}  # type: ignore[attr-defined]
    guards.add(answers.Admin.__metadata__[0].dependency)  # type: ignore[attr-defined]
    found = {dependency.call for dependency in route.dependant.dependencies} & guards
    assert len(found) == 1
    if route.methods != {"GET"}:
        assert found != {answers.Reader.__metadata__[0].dependency}, "a reader would change something"  # type: ignore[attr-defined]


def test_a_member_sees_what_his_project_owns_or_leases_and_no_more(shared: Site) -> None:
    alice = caller(shared, "alice")
    assert [node["name"] for node in alice.get("/v1/nodes")["nodes"]] == ["ours-0", "ours-1", "ours-2"]
    assert [one["name"] for one in alice.get("/v1/instances")["instances"]] == ["ours-web"]
    assert alice.get("/v1/fleet")["nodes"] == 3
    assert alice.get("/v1/why-not")["total"] == 3
    assert {one["instance_name"] for one in alice.get("/v1/operations")["operations"]} == {"ours-web"}
    seen = {event["node_name"] for event in alice.get("/v1/events?limit=1000")["events"]} - {None}
    assert seen == {"ours-0", "ours-1", "ours-2"}
    with alice.listening("?after=0") as events:
        heard = [event["data"].get("node_name") for _, event in zip(range(8), events, strict=False)]
    assert all(name is None or name.startswith("ours") for name in heard)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/instances/theirs-web", None),
        ("GET", "/v1/instances/theirs-web/console", None),
        ("GET", "/v1/instances/theirs-web/interfaces", None),
        ("GET", "/v1/instances/theirs-web/problems", None),
        ("DELETE", "/v1/instances/theirs-web", None),
        ("POST", "/v1/instances/theirs-web/power", {"target": "off"}),
        ("POST", "/v1/instances/theirs-web/rebuild", {}),
        ("POST", "/v1/instances/theirs-web/rescue", {}),
        ("POST", "/v1/instances/theirs-web/console", {}),
        ("POST", "/v1/instances/theirs-web/interfaces", {"network": "private"}),
        ("GET", "/v1/nodes/theirs-0", None),
        ("GET", "/v1/nodes/theirs-0/inventory", None),
        ("GET", "/v1/nodes/nobodys/history", None),
        ("POST", "/v1/instances", {**DEPLOY, "node": "theirs-0"}),
        ("POST", "/v1/instances", {**DEPLOY, "node": "nobodys"}),
    ],
)
def test_what_is_anothers_is_not_there(shared: Site, method: str, path: str, body: Any) -> None:
    alice, root = caller(shared, "alice"), caller(shared, "root")
    before = root.get("/v1/instances")
    assert alice.problem(404, method, path, body)["title"] in ("InstanceNotFound", "NodeNotFound")
    assert root.get("/v1/instances") == before


def test_the_same_question_is_answered_to_each_by_what_he_may_see(shared: Site) -> None:
    alice, bob, root = (caller(shared, name) for name in ("alice", "bob", "root"))
    for path in ("/v1/nodes?limit=999", "/v1/instances?limit=999", "/v1/why-not?limit=999"):
        texts = [somebody.ask("GET", path).text for somebody in (root, alice, bob, alice, root)]
        assert texts[0] == texts[4]
        assert texts[1] == texts[3]
        assert len({texts[0], texts[1], texts[2]}) == 3
        assert "theirs" not in texts[1]


def test_anothers_operation_is_neither_shown_nor_cancelled(shared: Site) -> None:
    (theirs,) = caller(shared, "bob").get("/v1/operations")["operations"]
    caller(shared, "alice").problem(404, "GET", f"/v1/operations/{theirs['id']}")
    caller(shared, "alice").problem(404, "POST", f"/v1/operations/{theirs['id']}/cancel")


def test_a_deploy_of_a_project_lands_on_its_own_nodes_only(shared: Site) -> None:
    alice = caller(shared, "alice")
    names = []
    for number in range(2):
        alice.done("POST", "/v1/instances", {**DEPLOY, "name": f"more-{number}"})
        names.append(alice.get(f"/v1/instances/more-{number}")["node_name"])
    assert sorted(names) == ["ours-0", "ours-1"]
    failed = alice.ended(alice.begun("POST", "/v1/instances", {**DEPLOY, "name": "more-3"}))
    assert failed["problem"]["title"] == "NoNodeFits"
    assert "theirs" not in str(failed)
    assert (
        alice.problem(
            409, "POST", "/v1/instances", {**DEPLOY, "wanted": {"resource_class": "small", "candidates": ["theirs-0"]}}
        )["title"]
        == "NoNodeFits"
    )
    for number in range(2):
        alice.done("DELETE", f"/v1/instances/more-{number}")


def test_a_project_uses_networks_vifs_groups_and_images_of_its_own_or_of_all(shared: Site) -> None:
    alice = caller(shared, "alice")
    neutron = shared.neutron
    neutron.add_network("ours-net", cidrs=["203.0.113.0/26"], project_id=OURS)
    theirs = neutron.add_network("theirs-net", cidrs=["203.0.113.64/26"], project_id=THEIRS)
    (subnet,) = (row["id"] for row in requests.get(f"{neutron.url}/v2.0/subnets", timeout=10).json()["subnets"]
                 if row["network_id"] == theirs)  # fmt: skip
    neutron.add_network("ironics", cidrs=["203.0.113.192/26"], shared=True)
    neutron.add_network("everybodys", cidrs=["203.0.113.128/26"], shared=True)
    port_id = neutron.add_port(theirs, name="their-vif", project_id=THEIRS)
    assert [one["name"] for one in alice.get("/v1/networks")["networks"]] == ["everybodys", "ours-net", "private"]
    refused: list[tuple[int, dict[str, Any]]] = [
        (404, {"nics": [{"network": "theirs-net"}]}),
        (404, {"nics": [{"network": theirs}]}),
        (404, {"nics": [{"network": "ironics"}]}),
        (404, {"nics": [{"subnet": subnet}]}),
        (404, {"nics": [{"vif": port_id}]}),
        (404, {"nics": [{"network": "ours-net", "security_groups": ["web"]}]}),
        (422, {"image": {"source": "file:///etc/shadow", "checksum": IMAGE["checksum"]}}),
        (403, {"deploy_steps": [{"interface": "bios", "step": "factory_reset", "priority": 1}]}),
    ]
    for status, more in refused:
        alice.problem(status, "POST", "/v1/instances", {**DEPLOY, "nics": [], "name": "bounded", **more})
    alice.problem(404, "POST", "/v1/instances/ours-web/interfaces", {"network": "theirs-net"})
    alice.problem(404, "POST", "/v1/instances/ours-web/security-groups", {"group": "web"})
    alice.done("POST", "/v1/instances/ours-web/interfaces", {"network": "ours-net"})


def test_a_reader_changes_nothing(shared: Site) -> None:
    rita = caller(shared, "rita")
    assert [one["name"] for one in rita.get("/v1/instances")["instances"]] == ["ours-web"]
    for method, path, body in (
        ("POST", "/v1/instances", DEPLOY),
        ("DELETE", "/v1/instances/ours-web", None),
        ("POST", "/v1/instances/ours-web/power", {"target": "off"}),
    ):
        assert rita.problem(403, method, path, body)["title"] == "Forbidden"


def test_a_reader_of_everything_sees_everything(shared: Site) -> None:
    auditor = caller(shared, "auditor")
    assert len(auditor.get("/v1/nodes")["nodes"]) == 7
    assert auditor.ask("GET", "/metrics").status_code == 200
    auditor.problem(403, "POST", "/v1/instances/ours-web/power", {"target": "off"})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/audit", None),
        ("GET", "/v1/webhooks", None),
        ("GET", "/v1/leaks", None),
        ("GET", "/v1/checkup", None),
        ("GET", "/v1/janitor", None),
        ("POST", "/v1/webhooks", {"url": "https://hooks.example"}),
        ("POST", "/v1/instances/ours-web/adopt", {}),
        ("GET", "/metrics", None),
    ],
)
def test_what_is_for_administrators_is_for_no_member(shared: Site, method: str, path: str, body: Any) -> None:
    caller(shared, "alice").problem(403, method, path, body)
    assert caller(shared, "root").ask(method, path, body).status_code < 300 or "adopt" in path


def test_addresses_of_bmcs_are_in_no_answer_to_a_member(shared: Site) -> None:
    error = "Redfish exception: cannot reach https://198.51.100.7/redfish/v1 (198.51.100.7)"
    reasons = ("last_error", "maintenance_reason", "retired_reason")
    wrong = {**dict.fromkeys(reasons, error), "maintenance": True, "retired": True, "reservation": "conductor-7"}
    alice, root = caller(shared, "alice"), caller(shared, "root")
    for node in ("ours-0", "ours-2"):
        shared.ironic.set(node, **wrong)
        alice.wait_for(lambda node=node: alice.get(f"/v1/nodes/{node}")["last_error"] is not None)  # type: ignore[misc]
        assert {root.get(f"/v1/nodes/{node}")[name] for name in reasons} == {error}
    assert "198.51.100.7" in root.get("/v1/instances/ours-web")["maintenance_reason"]
    for path in (
        *("/v1/nodes", "/v1/nodes/ours-0", "/v1/nodes/ours-2", "/v1/events?limit=1000", "/v1/fleet", "/v1/why-not"),
        *("/v1/instances", "/v1/instances/ours-web", "/v1/instances/ours-web/problems"),
    ):
        answer = alice.ask("GET", path)
        assert answer.status_code == 200, path
        assert "198.51.100.7" not in answer.text, path
        assert "conductor-7" not in answer.text, path
    for node in ("ours-0", "ours-2"):
        shared.ironic.set(node, **{**dict.fromkeys(wrong), "maintenance": False, "retired": False})
    for path in ("/v1/nodes", "/v1/instances", "/v1/instances/ours-web"):
        assert "driver_info" not in root.ask("GET", path).text


def test_the_audit_says_who_did_what_and_who_was_turned_away(shared: Site) -> None:
    answer = caller(shared, "alice").ask("GET", "/v1/audit")
    request_id = answer.headers["X-OpenStack-Request-ID"]
    root = caller(shared, "root")

    def told() -> dict[str, Any]:
        return {call["request_id"]: call for call in root.get("/v1/audit?limit=1000")["calls"]}

    root.wait_for(lambda: request_id in told())  # it is written when the answer has gone out
    calls = told()
    assert (calls[request_id]["actor"], calls[request_id]["status"]) == ("alice", 403)
    assert any(call["actor"] == "bob" and call["method"] == "POST" and call["status"] == 202 for call in calls.values())
    assert "password" not in str(calls)


def test_every_read_is_in_the_audit_too_and_apart_from_what_changes_something(shared: Site) -> None:
    asked = caller(shared, "rita").ask("GET", "/v1/instances?limit=7").headers["X-OpenStack-Request-ID"]
    root = caller(shared, "root")

    def reads() -> dict[str, Any]:
        return {call["request_id"]: call for call in root.get("/v1/audit/reads?actor=rita")["calls"]}

    root.wait_for(lambda: asked in reads())
    read = reads()[asked]
    assert (read["actor"], read["project_id"], read["method"], read["path"]) == ("rita", OURS, "GET", "/v1/instances")
    assert read["status"] == 200
    assert asked not in {call["request_id"] for call in root.get("/v1/audit?limit=1000")["calls"]}
    caller(shared, "alice").problem(403, "GET", "/v1/audit/reads")


@pytest.mark.parametrize("roles", ["", f"alice: reader {OURS}\n", f"alice: member {THEIRS}\n"])
def test_who_is_not_who_he_was_any_more_is_on_the_event_stream_no_more(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roles: str
) -> None:
    monkeypatch.setattr(answers, "BELIEVED_S", 0.1)
    monkeypatch.setattr(feed, "HEARTBEAT_S", 0.02)
    given = tmp_path / "roles"
    given.write_text(files["roles"].read_text())
    with (
        cloud() as (ironic, neutron),
        served(ironic, neutron, tmp_path, auth=Auth.BASIC, users=files["users"], roles=given) as site,
        caller(site, "root").listening("?kind=node.owner") as root,
        caller(site, "alice").listening("?kind=node.owner") as alice,
    ):
        for events in (root, alice):
            assert next(events)["event"] == "hello"
        ironic.set("node-1", owner=OURS)
        for events in (root, alice):
            assert next(events)["data"]["node_name"] == "node-1"
        given.write_text(roles + "root: admin\n")
        assert list(alice) == []
        ironic.set("node-2", owner=OURS)
        assert next(root)["data"]["node_name"] == "node-2"


@pytest.mark.parametrize(("status", "is_known"), [(401, False), (403, False), (429, True), (503, True)])
def test_somebody_is_who_he_was_while_nobody_can_tell(status: int, is_known: bool) -> None:
    async def known() -> Principal:
        raise Refusal(status, "Refused", "not now")

    alice = Principal(name="alice", role=Role.MEMBER, project_id=OURS)
    scope = {"state": {"known": known, "principal": alice}}
    assert asyncio.run(answers.still_known(scope)) == (alice if is_known else None)


def test_two_callers_may_use_the_same_idempotency_key(shared: Site) -> None:
    alice, bob = caller(shared, "alice"), caller(shared, "bob")
    first = alice.begun("POST", "/v1/instances/ours-web/power", {"target": "on"}, Idempotency_Key="same")
    second = bob.begun("POST", "/v1/instances/theirs-web/power", {"target": "on"}, Idempotency_Key="same")
    assert first["id"] != second["id"]
    alice.ended(first)
    bob.ended(second)


# Keystone


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeystoneSimulator]:
    with KeystoneSimulator() as keystone:
        yield keystone


@pytest.fixture(scope="module")
def with_keystone(keystone: KeystoneSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("keystone")
    config = folder / "keystone.conf"
    config.write_text(
        "[keystone_authtoken]\n"
        f"www_authenticate_uri = {keystone.url}\nauth_url = {keystone.url}\nauth_type = password\n"
        "username = bloomery\npassword = service-password\nproject_name = service\n"
        "user_domain_id = default\nproject_domain_id = default\nservice_token_roles_required = true\n"
    )
    with cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="ours", resource_class="small", owner=OURS)
        ironic.add_node(name="theirs", resource_class="small", owner=THEIRS)
        with served(ironic, neutron, folder, auth=Auth.KEYSTONE, keystone=config, admin_projects=("ad" * 16,)) as site:
            yield site


@pytest.mark.parametrize(
    ("token", "role", "nodes"),
    [
        ({"roles": ["member", "reader"], "project": OURS}, "member", ["ours"]),
        ({"roles": ["reader"], "project": THEIRS}, "reader", ["theirs"]),
        ({"roles": ["admin", "member", "reader"], "project": OURS}, "member", ["ours"]),
        ({"roles": ["admin"], "project": "ad" * 16}, "admin", ["ours", "theirs"]),
        ({"roles": ["admin"], "system": True}, "admin", ["ours", "theirs"]),
        ({"roles": ["reader"], "system": True}, "reader", ["ours", "theirs"]),
    ],
)
def test_a_token_says_who_somebody_is_and_what_is_his(
    with_keystone: Site, keystone: KeystoneSimulator, token: dict[str, Any], role: str, nodes: list[str]
) -> None:
    somebody = with_keystone.as_caller(X_Auth_Token=keystone.token(**token))
    me = somebody.get("/v1")["me"]
    assert (me["role"], me["name"]) == (role, "alice")
    assert [node["name"] for node in somebody.get("/v1/nodes")["nodes"]] == nodes


def test_a_token_that_is_none_or_has_no_role_is_refused(with_keystone: Site, keystone: KeystoneSimulator) -> None:
    with_keystone.problem(401, "GET", "/v1")
    with_keystone.problem(401, "GET", "/v1", X_Auth_Token=uuid4().hex)
    with_keystone.problem(
        401, "GET", "/v1", X_Auth_Token=keystone.token(roles=["member"], project=OURS, is_expired=True)
    )
    with_keystone.problem(403, "GET", "/v1", X_Auth_Token=keystone.token(roles=["dancer"], project=OURS))


def test_headers_that_only_the_middleware_may_write_are_not_believed(with_keystone: Site) -> None:
    forged = {"X_Roles": "admin", "X_Project_Id": OURS, "X_User_Id": "u", "X_Identity_Status": "Confirmed"}
    with_keystone.problem(401, "GET", "/v1", **forged)
    with_keystone.problem(401, "GET", "/v1", **forged, X_Auth_Token="x")


def test_a_keystone_that_is_away_is_said_to_be(with_keystone: Site, keystone: KeystoneSimulator) -> None:
    token = keystone.token(roles=["member"], project=OURS)
    with keystone.unreachable():
        assert with_keystone.problem(503, "GET", "/v1", X_Auth_Token=token)["title"] == "KeystoneUnavailable"
