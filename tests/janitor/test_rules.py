"""What is ours and certainly left is cleaned; everything else is left as it is, to the last field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bloomery.janitor import RULES, Kind, Leak, Survey, Verdict
from bloomery.testing import Fault, FaultKind, RecordedRequest
from bloomery.testing.gateways import ironic_at
from janitor.leaking import (
    GONE,
    OTHER,
    a_mark,
    a_target,
    an_allocation,
    everything,
    in_minutes,
    our_vif,
    process_that_ended,
    still_alive,
)
from unwind.scenarios import World, a_request, a_world, deployed
from unwind.test_unwind import settle

Prepare = Callable[[World], object]


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def found(world: World) -> Survey:
    return world.api().leaks()


def cleaned(world: World) -> list[Leak]:
    """What a pass of the janitor has cleaned."""
    api = world.api()
    outcomes = [api.mend(leak) for leak in api.leaks().leaks]
    assert [outcome.problem for outcome in outcomes if outcome.problem is not None] == []
    if any(outcome.is_gone for outcome in outcomes):
        settle(world)
    return [outcome.leak for outcome in outcomes if outcome.is_gone]


# What is left is cleaned


def broken_off(world: World) -> None:
    vif = our_vif(world)
    target = a_target(world, mark={"instance_uuid": GONE})
    world.ironic.set(
        world.node,
        instance_uuid=GONE,
        instance_info={"image_source": "x"},
        extra={"bloomery": a_mark(volumes={target: "left"}), "theirs": 1},
    )
    ironic_at(world.ironic.url).attach_vif(world.node, vif)


def broken_off_by_a_process_of_this_machine(world: World) -> None:
    mark = a_mark(since=in_minutes(-1), until=in_minutes(60), process=process_that_ended())
    world.ironic.set(world.node, instance_uuid=GONE, extra={"bloomery": mark, "theirs": 1})


def failed(world: World) -> None:
    deployed(world)
    (instance,) = world.api().instances()
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], "process": process_that_ended()}
    world.ironic.set(world.node, provision_state="deploy failed", extra={"bloomery": mark, "theirs": 1})
    assert mark["instance_uuid"] == instance.uuid


def a_left_mark(world: World) -> None:
    vif = our_vif(world)
    target = a_target(world, mark={"instance_uuid": GONE})
    mark = a_mark(vifs={vif: "created"}, volumes={target: "left"})
    world.ironic.set(world.node, extra={"bloomery": mark, "theirs": 1})


def an_allocation_without_a_node(world: World) -> None:
    world.ironic.set(world.node, extra={"theirs": 1})
    an_allocation(world)


def an_allocation_whose_node_was_never_marked(world: World) -> None:
    world.ironic.set(world.node, extra={"theirs": 1})
    an_allocation(world, resource_class="baremetal")
    assert world.ironic.node(world.node)["instance_uuid"] is not None


def a_vif(world: World) -> None:
    world.ironic.set(world.node, extra={"theirs": 1})
    our_vif(world)


def a_plugged_vif(world: World) -> None:
    world.ironic.set(world.node, extra={"theirs": 1})
    ironic_at(world.ironic.url).attach_vif(world.node, our_vif(world))


def a_volume(world: World) -> None:
    world.ironic.set(world.node, extra={"theirs": 1})
    a_target(world, mark={"instance_uuid": GONE})


LEFT: dict[str, tuple[Prepare, Kind]] = {
    "a deploy that was broken off": (broken_off, Kind.OPERATION),
    "a deploy whose process has ended": (broken_off_by_a_process_of_this_machine, Kind.OPERATION),
    "a deploy that failed with nobody there": (failed, Kind.OPERATION),
    "a mark": (a_left_mark, Kind.MARK),
    "an allocation without a node": (an_allocation_without_a_node, Kind.ALLOCATION),
    "an allocation before its node was marked": (an_allocation_whose_node_was_never_marked, Kind.ALLOCATION),
    "a VIF": (a_vif, Kind.VIF),
    "a VIF that is still plugged": (a_plugged_vif, Kind.VIF),
    "a volume target": (a_volume, Kind.VOLUME),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_certainly_left_is_shown_with_its_reason_and_cleaned(name: str, world: World) -> None:
    prepare, kind = LEFT[name]
    prepare(world)
    leaks = found(world).leaks
    assert kind in {leak.kind for leak in leaks if leak.verdict is Verdict.LEFT}
    assert all(leak.reason for leak in leaks)
    assert kind in {leak.kind for leak in cleaned(world)}
    node = world.ironic.node(world.node)
    assert (node["instance_uuid"], node["provision_state"], node["instance_info"]) == (None, "available", {})
    assert node["extra"] == {"theirs": 1}
    assert [port["name"] for port in world.neutron.ports()] == ["given"]
    seen = world.seen()
    assert (seen["vifs"], seen["volumes"], seen["allocations"]) == ([], [], [])
    assert found(world).leaks == ()
    assert cleaned(world) == []


def test_every_rule_that_mends_has_a_test() -> None:
    assert {kind for _, kind in LEFT.values()} == {rule.kind for rule in RULES if rule.mend is not None}
    assert all(rule.proof and rule.deed for rule in RULES if rule.mend is not None)


def test_a_rebuild_that_was_never_taken_up_is_put_back(world: World) -> None:
    deployed(world)
    node = world.ironic.node(world.node)
    was = node["instance_info"]["image_source"]
    mark = {
        **node["extra"]["bloomery"],
        "operation": "rebuild",
        "process": process_that_ended(),
        "was": {"image_source": was},
        "asked_at": node["provision_updated_at"],
    }
    info = {**node["instance_info"], "image_source": "http://images.example.org/b.raw"}
    world.ironic.set(world.node, instance_info=info, extra={"bloomery": mark})
    assert [leak.kind for leak in cleaned(world)] == [Kind.OPERATION]
    after = world.ironic.node(world.node)
    assert (after["instance_info"]["image_source"], after["provision_state"]) == (was, "active")


# What is not certain, or not ours, is not touched


def a_deploy_under_way_elsewhere(world: World) -> None:
    broken_off(world)
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], "until": in_minutes(60)}
    world.ironic.set(world.node, extra={"bloomery": mark})


def a_deploy_under_way_here(world: World) -> None:
    broken_off(world)
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], **still_alive()}
    world.ironic.set(world.node, extra={"bloomery": mark})


def clocks_that_differ(world: World) -> None:
    broken_off(world)
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], "until": in_minutes(-4)}
    world.ironic.set(world.node, extra={"bloomery": mark})


def a_mark_that_says_nothing_of_its_time(world: World) -> None:
    world.ironic.set(world.node, instance_uuid=GONE, extra={"bloomery": {"instance_uuid": GONE}})


def an_instance(world: World) -> None:
    deployed(world)
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], "until": in_minutes(-60)}
    world.ironic.set(world.node, extra={"bloomery": mark})


def an_instance_of_novas(world: World) -> None:
    broken_off(world)
    world.ironic.set(world.node, extra={"bloomery": a_mark(manager="nova")})


def a_mark_of_novas(world: World) -> None:
    world.ironic.set(world.node, extra={"bloomery": a_mark(manager="nova")})


def a_volume_of_novas(world: World) -> None:
    a_target(world, mark={"instance_uuid": GONE, "manager": "nova"})


def kept_on_purpose(world: World) -> None:
    extra = {"bloomery": a_mark(keep_failed=True)}
    world.ironic.set(world.node, instance_uuid=GONE, provision_state="deploy failed", extra=extra)


def a_locked_node(world: World) -> None:
    broken_off(world)
    world.ironic.set(world.node, reservation="conductor-1")


def a_node_that_is_torn_down(world: World) -> None:
    world.ironic.set(world.node, instance_uuid=GONE, provision_state="deleting", extra={"bloomery": a_mark()})


def a_vif_on_a_node_that_is_cleaned(world: World) -> None:
    our_vif(world)
    world.ironic.set(world.node, provision_state="clean wait")


def an_allocation_under_way(world: World) -> None:
    an_allocation(world, mark=a_mark(until=in_minutes(60)))


def a_user_took_the_vif_over(world: World) -> None:
    vif = our_vif(world)
    world.neutron.update("ports", vif, {"device_id": "", "device_owner": "compute:nova", "description": "mine now"})


QUIET: dict[str, Prepare] = {
    part.__name__.replace("_", " "): part
    for part in (
        a_deploy_under_way_elsewhere,
        a_deploy_under_way_here,
        clocks_that_differ,
        a_mark_that_says_nothing_of_its_time,
        an_instance,
        an_instance_of_novas,
        a_mark_of_novas,
        a_volume_of_novas,
        kept_on_purpose,
        a_locked_node,
        a_node_that_is_torn_down,
        a_vif_on_a_node_that_is_cleaned,
        an_allocation_under_way,
        a_user_took_the_vif_over,
    )
}


@pytest.mark.parametrize("name", QUIET)
def test_what_may_be_in_use_is_not_even_shown(name: str, world: World) -> None:
    QUIET[name](world)
    before = everything(world)
    assert [leak for leak in found(world).leaks if leak.verdict is not Verdict.FOREIGN] == []
    assert cleaned(world) == []
    assert everything(world) == before


def an_operators_rebuild_that_failed(world: World) -> None:
    world.ironic.set(
        world.node,
        instance_uuid=GONE,
        provision_state="deploy failed",
        provision_updated_at=in_minutes(-5),
        extra={"bloomery": a_mark(until=in_minutes(-600))},
    )


def an_active_node_without_its_instance(world: World) -> None:
    deployed(world)
    world.ironic.set(world.node, instance_uuid=None)


def a_vif_whose_node_was_deleted(world: World) -> None:
    our_vif(world, node=OTHER)


def a_vif_that_names_no_node(world: World) -> None:
    our_vif(world, description="created by bloomery")


def a_vif_on_a_node_with_another_instance(world: World) -> None:
    world.ironic.set(world.node, instance_uuid=OTHER)
    ironic_at(world.ironic.url).attach_vif(world.node, our_vif(world))


def a_vif_that_is_bound_elsewhere(world: World) -> None:
    vif = our_vif(world)
    elsewhere = world.ironic.add_node(name="elsewhere", resource_class="other")
    ironic_at(world.ironic.url).attach_vif(elsewhere, vif)
    world.neutron.update("ports", vif, {"binding:host_id": elsewhere})


def a_volume_under_another_instance(world: World) -> None:
    a_target(world, mark={"instance_uuid": GONE})
    world.ironic.set(world.node, instance_uuid=OTHER)


def a_volume_on_a_node_that_is_on(world: World) -> None:
    a_target(world, mark={"instance_uuid": GONE})
    world.ironic.set(world.node, power_state="power on")


def an_allocation_whose_node_runs_unmarked(world: World) -> None:
    an_allocation(world, resource_class="baremetal")
    world.ironic.set(world.node, provision_state="active")


UNPROVEN: dict[str, Prepare] = {
    part.__name__.replace("_", " "): part
    for part in (
        an_operators_rebuild_that_failed,
        an_active_node_without_its_instance,
        a_vif_whose_node_was_deleted,
        a_vif_that_names_no_node,
        a_vif_on_a_node_with_another_instance,
        a_vif_that_is_bound_elsewhere,
        a_volume_under_another_instance,
        a_volume_on_a_node_that_is_on,
        an_allocation_whose_node_runs_unmarked,
    )
}


@pytest.mark.parametrize("name", UNPROVEN)
def test_what_nothing_proves_is_shown_with_advice_and_not_touched(name: str, world: World) -> None:
    UNPROVEN[name](world)
    before = everything(world)
    shown = found(world).ours
    assert shown
    assert {leak.verdict for leak in shown} == {Verdict.UNPROVEN}
    assert all(leak.reason and leak.advice for leak in shown)
    assert cleaned(world) == []
    assert everything(world) == before


def a_claim_of_somebody(world: World) -> None:
    world.ironic.set(world.node, instance_uuid=OTHER)


def a_vif_of_somebody(world: World) -> None:
    ironic_at(world.ironic.url).attach_vif(world.node, world.given_vif)


def a_volume_of_somebody(world: World) -> None:
    a_target(world, mark=None)


def instance_info_of_somebody(world: World) -> None:
    world.ironic.set(world.node, instance_info={"configdrive": "secret"})


def made_hours_ago(world: World, vif: str) -> str:
    world.neutron._tables["ports"][vif]["created_at"] = in_minutes(-180)
    return vif


def a_port_of_a_killed_ironic(world: World) -> None:
    made_hours_ago(world, our_vif(world, instance_uuid=world.node, description=""))


def a_port_for_an_instance_that_is_gone(world: World) -> None:
    made_hours_ago(world, our_vif(world, description=""))


FOREIGN: dict[str, tuple[Prepare, Kind]] = {
    "a claim": (a_claim_of_somebody, Kind.CLAIM),
    "a VIF": (a_vif_of_somebody, Kind.VIF),
    "a port of Ironic's": (a_port_of_a_killed_ironic, Kind.VIF),
    "a port": (a_port_for_an_instance_that_is_gone, Kind.VIF),
    "a volume": (a_volume_of_somebody, Kind.VOLUME),
    "instance_info": (instance_info_of_somebody, Kind.INSTANCE_INFO),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_is_shown_and_never_touched(name: str, world: World) -> None:
    prepare, kind = FOREIGN[name]
    prepare(world)
    before = everything(world)
    survey = found(world)
    assert [(leak.kind, leak.verdict) for leak in survey.leaks] == [(kind, Verdict.FOREIGN)]
    assert survey.ours == ()
    assert "secret" not in str(survey)
    assert cleaned(world) == []
    assert everything(world) == before


def a_port_that_was_just_made(world: World) -> None:
    our_vif(world, instance_uuid=world.node, description="")


def a_port_while_ironic_cleans(world: World) -> None:
    a_port_of_a_killed_ironic(world)
    world.ironic.set(world.node, provision_state="clean wait")


def a_port_while_ironic_holds_the_node(world: World) -> None:
    a_port_of_a_killed_ironic(world)
    world.ironic.set(world.node, reservation="conductor-1")


def a_port_that_is_plugged(world: World) -> None:
    vif = made_hours_ago(world, our_vif(world, instance_uuid=OTHER, description=""))
    elsewhere = world.ironic.add_node(name="elsewhere", resource_class="other")
    ironic_at(world.ironic.url).attach_vif(elsewhere, vif)
    world.ironic.set(elsewhere, provision_state="active", instance_uuid=OTHER)


def a_port_that_is_for_nothing(world: World) -> None:
    made_hours_ago(world, our_vif(world, instance_uuid="", description=""))


@pytest.mark.parametrize(
    "prepare",
    [
        a_port_that_was_just_made,
        a_port_while_ironic_cleans,
        a_port_while_ironic_holds_the_node,
        a_port_that_is_plugged,
        a_port_that_is_for_nothing,
    ],
    ids=lambda prepare: prepare.__name__,
)
def test_a_port_of_somebody_that_may_be_in_use_is_not_even_shown(prepare: Prepare, world: World) -> None:
    prepare(world)
    assert found(world).leaks == ()


def test_every_rule_that_only_shows_has_a_test() -> None:
    assert {kind for _, kind in FOREIGN.values()} == {rule.kind for rule in RULES if rule.mend is None}


# Losing sight of nodes deletes nothing


def all_kinds(world: World) -> None:
    """An instance that runs, with a VIF of its own; its mark's time is over."""
    an_instance(world)


def hidden(world: World, status: int = 404) -> Callable[[RecordedRequest], Fault | None]:
    """The node is out of sight of these credentials: in no list, and not to be had by itself."""

    def strike(request: RecordedRequest) -> Fault | None:
        if request.path == "/v1/nodes":
            return Fault(FaultKind.OTHER_SHAPE, body='{"nodes": []}')
        if request.path.startswith(f"/v1/nodes/{world.node}"):
            return Fault(FaultKind.STATUS, status=status)
        return None

    return strike


@pytest.mark.parametrize("status", [404, 403])
@pytest.mark.parametrize("prepare", [an_instance, broken_off, a_left_mark, a_vif, a_volume], ids=lambda f: f.__name__)
def test_what_belongs_to_a_node_out_of_sight_is_not_touched(prepare: Prepare, status: int, world: World) -> None:
    prepare(world)
    before = everything(world)
    api = world.api()
    world.ironic.on_request = hidden(world, status)
    survey = api.leaks()
    assert all(leak.verdict is Verdict.UNPROVEN for leak in survey.leaks)
    assert not any(api.mend(leak).is_gone for leak in survey.leaks)
    assert everything(world) == before


@pytest.mark.parametrize("prepare", [broken_off, a_left_mark, a_vif, a_plugged_vif, a_volume], ids=lambda f: f.__name__)
def test_what_is_out_of_sight_by_the_time_of_the_deed_is_not_touched(prepare: Prepare, world: World) -> None:
    prepare(world)
    before = everything(world)
    api = world.api()
    leaks = api.leaks().leaks
    assert leaks
    world.ironic.on_request = hidden(world)
    assert not any(api.mend(leak).is_gone for leak in leaks)
    assert everything(world) == before


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/volume/targets", "volume targets"), ("/v1/allocations", "allocations"), ("/v1/ports", "NICs")],
)
def test_what_these_credentials_may_not_list_is_said_and_the_rest_found(path: str, kind: str, world: World) -> None:
    a_left_mark(world)

    def refuse(request: RecordedRequest) -> Fault | None:
        return Fault(FaultKind.STATUS, status=403) if request.path == path else None

    world.ironic.on_request = refuse
    survey = found(world)
    assert [sentence.split(":")[0] for sentence in survey.blind] == [kind]
    assert Kind.MARK in {leak.kind for leak in survey.leaks}


# Between the look and the deed


def taken_by_another(world: World) -> None:
    world.ironic.set(world.node, instance_uuid=OTHER, extra={"bloomery": a_mark(OTHER, until=in_minutes(60))})


def taken_up_again(world: World) -> None:
    extra = {"bloomery": {**world.ironic.node(world.node)["extra"].get("bloomery", a_mark()), **still_alive()}}
    world.ironic.set(world.node, instance_uuid=GONE, extra=extra)


def begun_to_be_cleaned(world: World) -> None:
    world.ironic.set(world.node, provision_state="cleaning")


def deployed_after_all(world: World) -> None:
    world.ironic.set(world.node, provision_state="active", instance_uuid=GONE)


CHANGES = (taken_by_another, taken_up_again, begun_to_be_cleaned, deployed_after_all)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("prepare", [broken_off, a_left_mark, a_plugged_vif, a_volume], ids=lambda f: f.__name__)
def test_a_deed_follows_from_what_is_read_right_before_it(prepare: Prepare, change: Prepare, world: World) -> None:
    prepare(world)
    api = world.api()
    leaks = [leak for leak in api.leaks().leaks if leak.verdict is Verdict.LEFT]
    assert leaks
    change(world)
    before = everything(world)
    for leak in leaks:
        outcome = api.mend(leak)
        if outcome.is_gone:
            # The VIF alone is proved by another instance on its node as well, where it is not plugged.
            assert (leak.kind, change) == (Kind.VIF, taken_by_another)
            assert leak.id not in before[0][world.node][1]
            return
    assert everything(world) == before


def test_a_verdict_that_is_not_ours_to_give_is_not_obeyed(world: World) -> None:
    a_volume_of_somebody(world)
    (leak,) = found(world).leaks
    before = everything(world)
    assert not world.api().mend(replace(leak, verdict=Verdict.LEFT)).is_gone
    assert everything(world) == before


def test_a_free_node_is_deployed_after_the_janitor_was_there(world: World) -> None:
    broken_off(world)
    cleaned(world)
    assert world.api().deploy(a_request(world), timeout_s=60).state == "active"


def test_a_recent_vif_of_a_running_instance_is_left_to_whoever_attaches_it(world: World) -> None:
    deployed(world)
    (instance,) = world.api().instances()
    vif = our_vif(world, instance_uuid=instance.uuid)
    world.api().recover(older_than_s=0.0001)
    assert world.neutron.port(vif) is None, "it is not recent by that measure"
    vif = our_vif(world, instance_uuid=instance.uuid)
    mark = {**world.ironic.node(world.node)["extra"]["bloomery"], "since": in_minutes(-60)}
    world.ironic.set(world.node, extra={"bloomery": mark})
    world.api().recover(older_than_s=600)
    assert world.neutron.port(vif) is not None


def test_a_vif_that_was_created_long_ago_and_never_plugged_is_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(world)
    (instance,) = world.api().instances()
    vif = our_vif(world, instance_uuid=instance.uuid)
    assert found(world).leaks == ()
    with world.neutron._lock:
        made_hours_ago(world, vif)
    (leak,) = found(world).leaks
    assert (leak.kind, leak.verdict, leak.id) == (Kind.VIF, Verdict.UNPROVEN, vif)
