"""A real Keystone says who callers are: users, projects, roles and tokens as operators make them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from keystoneauth1.identity.v3 import ApplicationCredential
from keystoneauth1.session import Session

from bloomery import errors
from bloomery.doors.http.client import connect
from bloomery.doors.http.settings import Auth
from bloomery.secret import Secret
from doors_http import real_keystone
from doors_http.http_site import DEPLOY, Caller, Site, cloud, served
from doors_http.real_keystone import Keystone

pytestmark = pytest.mark.timeout(600)
PASSWORD = "a word that nobody knows"
SERVICE = "of-the-service"


@dataclass
class Town:
    """A service that asks a Keystone who its callers are, and those callers."""

    keystone: Keystone
    site: Site
    projects: dict[str, str]

    def token(self, name: str, **scope: str) -> str:
        """That user's token, for one of the projects or the system."""
        return str(self.keystone.as_user(name, PASSWORD, **scope).get_token())

    def caller(self, name: str, **scope: str) -> Caller:
        """That user, with such a token."""
        return self.site.as_caller(X_Auth_Token=self.token(name, **scope))


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    with real_keystone.running(tmp_path_factory.mktemp("keystone")) as keystone:
        yield keystone


@pytest.fixture(scope="module")
def projects(keystone: Keystone) -> dict[str, str]:
    """Users with their roles, by project: `ours` has alice and a reader, `theirs` has bob, `operators` has an administrator."""
    admin = keystone.administrator()
    made = {
        name: str(keystone.made(admin, "project", name=name, domain_id="default")["id"])
        for name in ("ours", "theirs", "operators", "service")
    }
    roles = {row["name"]: row["id"] for row in admin.get(f"{keystone.url}/roles").json()["roles"]}
    roles["dancer"] = keystone.made(admin, "role", name="dancer")["id"]
    for name, password, role, where in (
        ("alice", PASSWORD, "member", f"projects/{made['ours']}"),
        ("reader", PASSWORD, "reader", f"projects/{made['ours']}"),
        ("bob", PASSWORD, "member", f"projects/{made['theirs']}"),
        ("boss", PASSWORD, "admin", f"projects/{made['ours']}"),
        ("operator", PASSWORD, "admin", f"projects/{made['operators']}"),
        ("stranger", PASSWORD, "dancer", f"projects/{made['ours']}"),
        ("root", PASSWORD, "admin", "system"),
        ("auditor", PASSWORD, "reader", "system"),
        ("bloomery", SERVICE, "service", f"projects/{made['service']}"),
    ):
        user = keystone.made(admin, "user", name=name, password=password, domain_id="default")
        admin.put(f"{keystone.url}/{where}/users/{user['id']}/roles/{roles[role]}")
    return made


@pytest.fixture(scope="module")
def town(keystone: Keystone, projects: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("service")
    config = folder / "keystone.conf"
    config.write_text(
        "[keystone_authtoken]\n"
        f"www_authenticate_uri = {keystone.url}\nauth_url = {keystone.url}\nauth_type = password\n"
        f"username = bloomery\npassword = {SERVICE}\nproject_name = service\n"
        "user_domain_id = default\nproject_domain_id = default\n"
        "service_token_roles_required = true\nservice_type = identity\ntoken_cache_time = -1\n"
    )
    with cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="ours", resource_class="small", owner=projects["ours"])
        ironic.add_node(name="theirs", resource_class="small", owner=projects["theirs"])
        settings = {"auth": Auth.KEYSTONE, "keystone": config, "admin_projects": (projects["operators"],)}
        with served(ironic, neutron, folder, **settings) as site:
            yield Town(keystone, site, projects)


@pytest.mark.parametrize(
    ("name", "scope", "role", "nodes"),
    [
        ("alice", {"project_name": "ours"}, "member", ["ours"]),
        ("reader", {"project_name": "ours"}, "reader", ["ours"]),
        ("bob", {"project_name": "theirs"}, "member", ["theirs"]),
        ("boss", {"project_name": "ours"}, "member", ["ours"]),
        ("operator", {"project_name": "operators"}, "admin", ["ours", "theirs"]),
        ("root", {"system_scope": "all"}, "admin", ["ours", "theirs"]),
        ("auditor", {"system_scope": "all"}, "reader", ["ours", "theirs"]),
    ],
)
def test_a_user_has_the_role_and_sees_the_nodes_of_his_token(
    town: Town, name: str, scope: dict[str, str], role: str, nodes: list[str]
) -> None:
    somebody = town.caller(name, **scope)
    me = somebody.get("/v1")["me"]
    assert (me["name"], me["role"]) == (name, role)
    assert me["project_id"] == (
        town.projects[scope["project_name"]] if role != "admin" and "project_name" in scope else None
    )
    assert [node["name"] for node in somebody.get("/v1/nodes")["nodes"]] == nodes


def test_a_member_deploys_in_his_project_and_a_reader_and_a_stranger_do_not(town: Town) -> None:
    alice = town.caller("alice", project_name="ours")
    instance = alice.deployed("web-1")
    assert (instance["node_name"], instance["owner"]) == ("ours", town.projects["ours"])
    reader = town.caller("reader", project_name="ours")
    assert reader.get("/v1/instances/web-1")["uuid"] == instance["uuid"]
    reader.problem(403, "DELETE", "/v1/instances/web-1")
    town.caller("bob", project_name="theirs").problem(404, "DELETE", "/v1/instances/web-1")
    town.caller("stranger", project_name="ours").problem(403, "GET", "/v1/instances")
    alice.done("DELETE", "/v1/instances/web-1")


def test_a_token_that_was_revoked_is_none(town: Town) -> None:
    alice = town.keystone.as_user("alice", PASSWORD, project_name="ours")
    token = str(alice.get_token())
    somebody = town.site.as_caller(X_Auth_Token=token)
    somebody.get("/v1/nodes")
    alice.delete(f"{town.keystone.url}/auth/tokens", headers={"X-Subject-Token": token})
    somebody.problem(401, "GET", "/v1/nodes")
    town.site.problem(401, "GET", "/v1/nodes", X_Auth_Token=token[:-8] + "AAAAAAAA")


def test_an_application_credential_serves_as_well(town: Town) -> None:
    keystone = town.keystone
    alice = keystone.as_user("alice", PASSWORD, project_name="ours")
    path = f"users/{alice.get_user_id()}/application_credentials"
    made = keystone.made(alice, "application_credential", path, name="for-scripts")
    script = Session(auth=ApplicationCredential(keystone.url, made["secret"], application_credential_id=made["id"]))
    somebody = town.site.as_caller(X_Auth_Token=str(script.get_token()))
    assert somebody.get("/v1")["me"]["role"] == "member"
    assert [node["name"] for node in somebody.get("/v1/nodes")["nodes"]] == ["ours"]


def test_the_client_says_who_it_is_by_its_token(town: Town) -> None:
    client = connect(town.site.url, token=Secret(town.token("bob", project_name="theirs")))
    assert [node.name for node in client.fleet().nodes] == ["theirs"]
    client.close()
    with pytest.raises(errors.AccessDenied):
        connect(town.site.url, token=Secret("none"))


def test_while_keystone_is_away_nobody_gets_in_it_is_said_why_and_afterwards_it_goes_on(town: Town) -> None:
    alice = town.caller("alice", project_name="ours")
    town.keystone.stop()
    try:
        problem = alice.problem(503, "POST", "/v1/instances", DEPLOY)
        assert problem["retryable"]
        assert "Keystone" in problem["detail"]
    finally:
        town.keystone.start()
    alice.wait_for(lambda: alice.ask("GET", "/v1/nodes").status_code == 200)
