"""Every error has its status, and every refusal says what would be right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery import errors
from bloomery.doors.http.access import NOBODY, Principal, Role
from bloomery.doors.http.problems import (
    STATUSES,
    Refusal,
    StoreUnavailable,
    problem_of,
    shown_problem,
    shown_refusal,
    status_of,
)
from bloomery.errors import BloomeryError
from doors_http.http_site import DEPLOY, Site


def tree(kind: type[BloomeryError]) -> Iterator[type[BloomeryError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("bloomery."):  # tests have errors of their own
            yield from tree(child)


@pytest.mark.parametrize("kind", sorted({*tree(BloomeryError)}, key=str))
def test_every_error_has_a_status_that_is_one_of_failure(kind: type[BloomeryError]) -> None:
    assert 400 <= STATUSES[kind] <= 599


def test_an_error_that_may_pass_is_told_from_one_that_will_not() -> None:
    assert problem_of(errors.NodeLocked("locked"))["retryable"]
    assert not problem_of(errors.InvalidRequest("wrong"))["retryable"]
    assert status_of(errors.NodeLocked("locked")) == 409


def test_a_problem_says_what_where_and_what_would_be_right() -> None:
    problem = problem_of(
        errors.DeployFailed(
            "deploy failed", reason="no route", advice="Look", node_uuid="n", operation="deploy", step="s"
        )
    )
    assert problem["title"] == "DeployFailed"
    assert problem["detail"] == "deploy failed: no route"
    assert (problem["advice"], problem["node_uuid"], problem["step"]) == ("Look", "n", "s")


def test_what_is_left_and_why_nodes_do_not_fit_is_in_the_problem() -> None:
    assert problem_of(errors.RollbackIncomplete("left", left=("a VIF",)))["left"] == ["a VIF"]
    problem = problem_of(errors.NoNodeFits("none", refusals={"node-1": ("it is in maintenance",)}))
    assert problem["refusals"] == {"node-1": ["it is in maintenance"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redfish at https://10.1.2.3/redfish/v1 failed", "redfish at (address) failed"),
        ("no answer from 10.1.2.3:443 in time", "no answer from (address) in time"),
        ("bmc-7.oob.example.org is down", "(address) is down"),
        ("step deploy.write_image failed: checksum", "step deploy.write_image failed: checksum"),
        ("at 12:30:45 the agent was lost", "at 12:30:45 the agent was lost"),
        ("req-00000000-1111-2222-3333-444444444444", "req-00000000-1111-2222-3333-444444444444"),
        ("00000000-1111-2222-3333-444444444444", "00000000-1111-2222-3333-444444444444"),
        ("it carries 00000000-1111-2222-3333-444444444444", "it carries …"),
    ],
)
def test_places_are_hidden_from_tenants_and_nothing_else_is(text: str, shown: str) -> None:
    assert MEMBER.shown({"detail": [text]}) == {"detail": [shown]}
    assert Principal(name="a", role=Role.ADMIN).shown(text) == text


@pytest.mark.parametrize("kind", sorted({*tree(BloomeryError)}, key=str))
def test_of_no_error_does_a_tenant_learn_where_anything_is(kind: type[BloomeryError]) -> None:
    inside = "conductor-3.example.org said https://198.51.100.7/redfish failed"
    problem = shown_problem(problem_of(kind("it failed", reason=inside, advice=f"Look at {inside}")), MEMBER)
    if not issubclass(kind, errors.RequestError) or kind is errors.NoNodeFits:  # those are about what he asked for
        assert "198.51.100.7" not in problem["detail"]
        assert "conductor-3" not in problem["detail"]
    assert "198.51.100.7" not in str(problem.get("advice"))
    assert "for_users" not in problem


def test_whoever_sees_everything_is_told_everything_and_a_tenant_his_part() -> None:
    problem = problem_of(errors.NodeClaimed("node node-7 carries instance 00000000-1111-2222-3333-444444444444"))
    assert "node-7" in shown_problem(problem, NOBODY)["detail"]
    assert shown_problem(problem, MEMBER)["detail"] == "the node belongs to another instance"
    assert "for_users" not in shown_problem(problem, NOBODY)


MEMBER = Principal(name="m", role=Role.MEMBER, project_id="p")


def test_what_is_not_there_answers_404_with_what_to_do(site: Site) -> None:
    assert site.problem(404, "GET", "/v1/instances/nope")["title"] == "InstanceNotFound"
    assert site.problem(404, "GET", "/v1/nodes/nope")["title"] == "NodeNotFound"
    assert site.problem(404, "GET", "/v1/operations/nope")["advice"]
    assert site.problem(404, "GET", "/v1/webhooks/nope")["advice"]
    assert site.problem(404, "GET", "/v1/nope")["title"] == "NotFound"


def test_a_method_that_a_path_does_not_take_answers_405_and_names_those_it_does(site: Site) -> None:
    answer = site.ask("PUT", "/v1/instances")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"]


def test_a_wrong_value_is_named_and_not_repeated(site: Site) -> None:
    body = {**DEPLOY, "guest": {"admin_password": ["hunter2"]}, "colour": "blue"}
    problem = site.problem(422, "POST", "/v1/instances", body)
    assert {error["where"] for error in problem["errors"]} == {"body.guest.admin_password", "body.colour"}
    assert "hunter2" not in str(problem)
    assert site.get("/v1/operations")["operations"] == []


def test_values_that_do_not_go_together_are_refused_before_anything_is_accepted(site: Site) -> None:
    good, bad = {"network": "private"}, {"network": "a", "vif": "b"}
    for body, word, where in (
        ({**DEPLOY, "wanted": {}}, "neither a node nor a resource class", "wanted.resource_class"),
        ({**DEPLOY, "image": {"source": "http://127.0.0.1/x.raw"}}, "no checksum", "image.checksum"),
        ({**DEPLOY, "nics": [good, bad]}, "network and vif", "nics.1"),
        ({**DEPLOY, "nics": [good, {**good, "fixed_ip": "x"}]}, "no address", "nics.1.fixed_ip"),
        ({**DEPLOY, "name": "not a host name"}, "instance name", "name"),
        ({**DEPLOY, "image": None}, "boot from", "image"),
        ({**DEPLOY, "root_gib": 10}, "whole-disk image", "image"),
        ({**DEPLOY, "guest": {"ssh_keys": ["no key"]}}, "key", "guest"),
    ):
        problem = site.problem(422, "POST", "/v1/instances", body)
        assert word in problem["detail"]
        assert problem["errors"] == [{"where": f"body.{where}", "why": problem["detail"]}]
    assert site.get("/v1/operations")["operations"] == []


def test_a_body_that_is_no_json_is_refused_as_such(site: Site) -> None:
    import requests

    answer = requests.post(
        f"{site.url}/v1/instances", data=b'{"name": ', headers={"Content-Type": "application/json"}, timeout=10
    )
    assert answer.status_code == 422
    assert answer.json()["title"] == "InvalidRequest"


def test_what_the_service_itself_cannot_do_now_may_succeed_later_and_only_administrators_are_told_where_its_log_is() -> (
    None
):
    refusal = StoreUnavailable('connection to server at "198.51.100.9", port 5432 failed')
    alice = Principal(name="alice", role=Role.MEMBER, project_id="p")
    for principal in (None, alice):
        shown = shown_refusal(refusal, principal)
        assert (shown["retryable"], shown["title"]) == (True, "StoreUnavailable")
        assert "198.51.100.9" not in str(shown)
        assert "Nothing was begun" in shown["advice"]
    assert "198.51.100.9" in shown_refusal(refusal, NOBODY)["detail"]
    assert "retryable" not in shown_refusal(Refusal(409, "X", "it is so"), alice)
