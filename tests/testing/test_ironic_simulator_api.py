"""The simulated Ironic's API: versions, lists, patches, records, allocations, refusals."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bloomery.testing import KNOWN_DIFFERENCES, IronicSimulator, Timings
from testing.simulated_api import Api, changes, fault


def _eventually(ask: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    for _ in range(2000):
        answer = ask()
        if wanted(answer):
            return answer
    raise AssertionError(f"never as wanted: {answer}")


def _settled(api: Api, ident: str) -> Any:
    return _eventually(lambda: api.get(f"/v1/allocations/{ident}"), lambda found: found["state"] != "allocating")


@pytest.mark.parametrize(
    ("version", "status"), [("1.1", 200), ("1.115", 200), ("latest", 200), ("1.116", 406), ("2.0", 406), ("x", 406)]
)
def test_a_version_is_spoken_or_refused_with_the_range(api: Api, version: str, status: int) -> None:
    response = api.ask("GET", "/v1/nodes", headers={"X-OpenStack-Ironic-API-Version": version})
    assert response.status_code == status
    assert response.headers["X-OpenStack-Ironic-API-Minimum-Version"] == "1.1"
    assert response.headers["X-OpenStack-Ironic-API-Maximum-Version"] == "1.115"
    assert ("X-OpenStack-Ironic-API-Version" in response.headers) == (status == 200)


def test_the_general_version_header_counts_first(api: Api) -> None:
    response = api.ask("GET", "/v1/nodes", headers={"OpenStack-API-Version": "compute 2.1, baremetal 1.50"})
    assert response.headers["X-OpenStack-Ironic-API-Version"] == "1.50"


def test_an_old_ironic_hides_what_it_does_not_know() -> None:
    with IronicSimulator(max_version="1.81") as ironic, Api(ironic.url, version="latest") as api:
        node = ironic.add_node()
        shown = api.get(f"/v1/nodes/{node}")
        assert {"shard", "service_step", "health", "instance_name"}.isdisjoint(shown)
        assert api.get("/")["default_version"]["version"] == "1.81"
        assert api.ask("GET", "/v1/nodes?fields=shard").status_code == 406
        assert api.ask("PATCH", f"/v1/nodes/{node}", changes(shard="a")).status_code == 406
        assert api.ask("GET", "/v1/nodes", headers={"X-OpenStack-Ironic-API-Version": "1.82"}).status_code == 406


def test_an_error_is_json_within_json(api: Api) -> None:
    response = api.ask("GET", "/v1/nodes/nobody")
    assert response.status_code == 404
    assert json.loads(response.json()["error_message"]) == {
        "faultcode": "Client",
        "faultstring": "Node nobody could not be found.",
        "debuginfo": None,
    }
    assert json.loads(api.ask("GET", "/v1/nowhere").json()["error_message"])["code"] == 404


def test_lists_are_paged_and_followed_by_next(ironic: IronicSimulator, api: Api) -> None:
    wanted = [ironic.add_node(f"n{index}") for index in range(5)]
    page = api.get("/v1/nodes?limit=2&fields=uuid")
    found = [node["uuid"] for node in page["nodes"]]
    while "next" in page:
        page = api.get(page["next"].removeprefix(ironic.url))
        found += [node["uuid"] for node in page["nodes"]]
    assert found == wanted


def test_the_newest_changes_come_first_when_asked(ironic: IronicSimulator, api: Api) -> None:
    nodes = [ironic.add_node(f"n{index}") for index in range(3)]
    before = ironic.node(nodes[1])["updated_at"]
    api.patch(f"/v1/nodes/{nodes[1]}", extra={"a": 1})
    newest = api.get("/v1/nodes?sort_key=updated_at&sort_dir=desc&limit=1&detail=true")["nodes"][0]
    assert newest["uuid"] == nodes[1]
    assert newest["updated_at"] > before


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("provision_state=active", ["b"]),
        ("associated=true", ["b"]),
        ("associated=false", ["a", "c"]),
        ("maintenance=true", ["c"]),
        ("resource_class=big", ["a"]),
        ("conductor_group=g", ["a"]),
        ("shard=s1,s2", ["a", "b"]),
        ("sharded=false", ["c"]),
        ("owner=o", ["a"]),
        ("lessee=o", ["b"]),
        ("project=o", ["a", "b"]),
        ("retired=true", ["c"]),
        ("fault=power failure", ["c"]),
        ("driver=fake-hardware", ["c"]),
        ("instance_uuid=00000000-0000-4000-8000-000000000001", ["b"]),
        ("instance_name=web", ["b"]),
        ("description_contains=rack", ["a"]),
    ],
)
def test_nodes_are_filtered(ironic: IronicSimulator, api: Api, query: str, names: list[str]) -> None:
    ironic.add_node("a", resource_class="big", conductor_group="g", shard="s1", owner="o", description="in rack 4")
    ironic.add_node(
        "b",
        provision_state="active",
        instance_uuid="00000000-0000-4000-8000-000000000001",
        instance_name="web",
        shard="s2",
        lessee="o",
    )
    ironic.add_node("c", maintenance=True, retired=True, fault="power failure", driver="fake-hardware")
    assert [node["name"] for node in api.get(f"/v1/nodes?{query}")["nodes"]] == names


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("fields=nothing", 500),
        ("fields=allocation_uuid", 500),
        ("fields=updated_at", 400),
        ("bogus=1", 400),
        ("limit=0", 400),
        ("limit=x", 400),
        ("sort_key=nothing", 400),
        ("sort_key=extra", 400),
        ("sort_dir=up", 400),
        ("provision_state=nothing", 400),
        ("marker=x", 400),
        ("marker=00000000-0000-4000-8000-000000000001", 404),
        ("associated=maybe", 400),
        ("detail=true&fields=uuid", 400),
        ("fault=x", 400),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_as_ironic_refuses_it(
    ironic: IronicSimulator, api: Api, query: str, status: int
) -> None:
    ironic.add_node()
    assert api.ask("GET", f"/v1/nodes?{query}").status_code == status


def test_fields_of_one_node_are_those_asked_for(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node("n1")
    shown = api.get("/v1/nodes/n1?fields=uuid,allocation_uuid,conductor")
    del shown["links"]
    assert shown == {"uuid": node, "allocation_uuid": None, "conductor": "simulated-conductor"}
    assert fault(api.ask("GET", "/v1/nodes/n1?fields=updated_at")) == "Field updated_at is not a valid field."


def test_secrets_are_masked(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(
        driver_info={
            "redfish_address": "a",
            "redfish_password": "p",
            "snmp_auth_key": "k",
            "nested": {"password": "p"},
        },
        instance_info={"configdrive": {"meta_data": {}}, "image_url": "http://temp", "display_name": "x"},
    )
    shown = api.get(f"/v1/nodes/{node}")
    assert shown["driver_info"] == {
        "redfish_address": "a",
        "redfish_password": "******",
        "snmp_auth_key": "******",
        "nested": {"password": "******"},
    }
    assert shown["instance_info"] == {"configdrive": "******", "image_url": "******", "display_name": "x"}


def test_a_patch_adds_replaces_and_removes(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(extra={"a": 1, "b": {"c": 2}}, description="old")
    patch = [
        {"op": "add", "path": "/extra/d", "value": [1]},
        {"op": "add", "path": "/extra/d/-", "value": 2},
        {"op": "replace", "path": "/extra/b/c", "value": 3},
        {"op": "remove", "path": "/extra/a"},
        {"op": "remove", "path": "/description"},
    ]
    assert api.ask("PATCH", f"/v1/nodes/{node}", patch).status_code == 200
    record = ironic.node(node)
    assert record["extra"] == {"b": {"c": 3}, "d": [1, 2]}
    assert record["description"] is None


@pytest.mark.parametrize(
    ("patch", "status", "words"),
    [
        ([{"op": "add", "path": "/provision_state", "value": "x"}], 400, "Cannot patch /provision_state"),
        ([{"op": "test", "path": "/extra", "value": 1}], 400, "'test' is not one of"),
        ([{"op": "remove", "path": "/extra/none"}], 400, "can't remove a non-existent object 'none'"),
        ([{"op": "replace", "path": "/extra/a/b", "value": 1}], 400, "member 'a' not found in {}"),
        ([{"op": "add", "path": "/instance_uuid", "value": "x"}], 400, "Expected UUID for instance_uuid: x"),
        ([{"op": "replace", "path": "/extra", "value": 5}], 400, "5 is not of type 'object', 'null'"),
        ([{"op": "replace", "path": "/resource_class", "value": 5}], 400, "5 is not of type 'string', 'null'"),
        ([{"op": "remove", "path": "/driver"}], 400, "'driver' is a required property"),
        ([{"op": "add", "path": "/name", "value": "states"}], 400, "reserved"),
        ([{"op": "add", "path": "/extra/a~1b", "value": 1}], 400, "does not match"),
        ({"a": 1}, 400, "is not of type 'array'"),
        ([{"op": "add", "path": "/retired", "value": True}], 409, "can not have 'retired' set"),
        ([{"op": "add", "path": "/protected", "value": True}], 409, "can only be made protected"),
        ([{"op": "add", "path": "/maintenance", "value": "perhaps"}], 400, "Unrecognized value"),
    ],
)
def test_a_bad_patch_changes_nothing(ironic: IronicSimulator, api: Api, patch: object, status: int, words: str) -> None:
    node = ironic.add_node()
    before = ironic.node(node)
    response = api.ask("PATCH", f"/v1/nodes/{node}", patch)
    assert response.status_code == status
    assert words in fault(response)
    assert ironic.node(node) == before


def test_a_claimed_node_is_not_given_away(ironic: IronicSimulator, api: Api) -> None:
    first, second = ironic.add_node(), ironic.add_node()
    instance_uuid = api.claim(first)
    again = api.ask("PATCH", f"/v1/nodes/{first}", changes(instance_uuid=str(uuid.uuid4())))
    assert (again.status_code, fault(again)) == (
        409,
        f"Node {first} is associated with instance {instance_uuid}.",
    )
    assert api.ask("PATCH", f"/v1/nodes/{first}", changes(instance_uuid=instance_uuid)).status_code == 200
    elsewhere = api.ask("PATCH", f"/v1/nodes/{second}", changes(instance_uuid=instance_uuid))
    assert (elsewhere.status_code, "already associated with a node" in fault(elsewhere)) == (409, True)


def test_one_of_many_claims_at_once_wins(ironic: IronicSimulator) -> None:
    node = ironic.add_node()

    def claim(_: int) -> int:
        with Api(ironic.url) as api:
            return api.ask("PATCH", f"/v1/nodes/{node}", changes(instance_uuid=str(uuid.uuid4()))).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [200] + [409] * 7


def test_resource_class_and_interfaces_of_a_deployed_node_stay(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="active")
    assert api.ask("PATCH", f"/v1/nodes/{node}", changes(resource_class="other")).status_code == 409
    assert api.ask("PATCH", f"/v1/nodes/{node}", changes(deploy_interface="ramdisk")).status_code == 409
    ironic.set(node, maintenance=True)
    assert api.ask("PATCH", f"/v1/nodes/{node}", changes(deploy_interface="ramdisk")).status_code == 200


def test_display_name_becomes_the_instance_name(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.claim(node, display_name="web")
    assert ironic.node(node)["instance_name"] == "web"


def test_bodies_have_limits(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="active")
    big = {"op": "add", "path": "/extra/big", "value": "x" * (1 << 20)}
    assert api.ask("PATCH", f"/v1/nodes/{node}", [big]).status_code == 413
    deep: Any = 1
    for _ in range(30):
        deep = {"a": deep}
    assert api.ask("PATCH", f"/v1/nodes/{node}", [{**big, "value": deep}]).status_code == 400
    drive = {"target": "deleted", "configdrive": "a" * (2 << 20)}
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", drive)
    assert (response.status_code, "config drive is only supported" in fault(response)) == (400, True)


@pytest.mark.parametrize("config_drive", ["$$$", {"foo": 1}, {"meta_data": []}, 5])
def test_a_config_drive_that_is_none_is_refused(ironic: IronicSimulator, api: Api, config_drive: object) -> None:
    node = ironic.add_node()
    api.claim(node)
    body = {"target": "active", "configdrive": config_drive}
    assert api.ask("PUT", f"/v1/nodes/{node}/states/provision", body).status_code == 400


def test_traits_are_set_added_and_removed(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    before = ironic.node(node)["updated_at"]
    api.put(f"/v1/nodes/{node}/traits", {"traits": ["HW_CPU_X86_VMX", "CUSTOM_B"]})
    api.put(f"/v1/nodes/{node}/traits/CUSTOM_A")
    api.delete(f"/v1/nodes/{node}/traits/CUSTOM_B")
    assert api.get(f"/v1/nodes/{node}/traits") == {"traits": ["CUSTOM_A", "HW_CPU_X86_VMX"]}
    assert ironic.node(node)["updated_at"] > before
    assert api.ask("DELETE", f"/v1/nodes/{node}/traits/CUSTOM_Z").status_code == 404
    assert api.ask("PUT", f"/v1/nodes/{node}/traits/bad").status_code == 400


def test_a_node_is_deleted_with_what_hangs_on_it(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(bonded=True)
    ironic.set(node, instance_uuid=str(uuid.uuid4()))
    assert api.ask("DELETE", f"/v1/nodes/{node}").status_code == 409
    ironic.set(node, instance_uuid=None)
    api.delete(f"/v1/nodes/{node}")
    assert api.get("/v1/ports") == {"ports": []}
    assert api.get("/v1/portgroups") == {"portgroups": []}


def test_ports_are_created_listed_changed_and_deleted(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node("n1", ports=0)
    port = api.post("/v1/ports", {"node_uuid": node, "address": "52:54:00:AA:00:01"})["uuid"]
    assert api.get("/v1/nodes/n1/ports")["ports"][0]["address"] == "52:54:00:aa:00:01"
    assert len(api.get("/v1/ports?node=n1&detail=true&address=52:54:00:aa:00:01")["ports"]) == 1
    assert api.get("/v1/ports/detail?node=n1")["ports"][0]["node_uuid"] == node
    assert api.ask("POST", "/v1/ports", {"node_uuid": node, "address": "52:54:00:aa:00:01"}).status_code == 409
    assert api.ask("POST", "/v1/ports", {"node_uuid": node, "address": "zz"}).status_code == 400
    api.patch(f"/v1/ports/{port}", extra={"a": 1})
    assert api.ask("PATCH", f"/v1/ports/{port}", changes(pxe_enabled=False)).status_code == 409
    ironic.set(node, provision_state="manageable")
    assert api.patch(f"/v1/ports/{port}", pxe_enabled=False)["pxe_enabled"] is False
    api.delete(f"/v1/ports/{port}")
    assert ironic.ports(node) == []


def test_a_port_group_with_ports_is_not_deleted(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(bonded=True)
    group = ironic.portgroups(node)[0]["uuid"]
    assert len(api.get(f"/v1/portgroups/{group}/ports")["ports"]) == 2
    assert api.ask("DELETE", f"/v1/portgroups/{group}").status_code == 400


def test_volume_targets_need_the_machine_off(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    wish = {"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0}
    target = api.post("/v1/volume/targets", {**wish, "properties": {"auth_password": "p"}})
    assert target["properties"] == {"auth_password": "******"}
    assert ironic.volume_targets(node)[0]["properties"] == {"auth_password": "p"}
    assert api.ask("POST", "/v1/volume/targets", wish).status_code == 409
    assert len(api.get(f"/v1/volume/targets?node={node}")["targets"]) == 1
    api.patch(f"/v1/volume/targets/{target['uuid']}", volume_id="w")
    ironic.set(node, power_state="power on")
    for method, body in (("PATCH", changes(volume_id="x")), ("DELETE", None)):
        response = api.ask(method, f"/v1/volume/targets/{target['uuid']}", body)
        assert (response.status_code, "power on" in fault(response)) == (400, True)
    ironic.set(node, power_state="power off")
    api.delete(f"/v1/volume/targets/{target['uuid']}")


def test_volume_connectors_are_unique(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    wish = {"node_uuid": node, "type": "iqn", "connector_id": "iqn.x"}
    api.post("/v1/volume/connectors", wish)
    assert api.ask("POST", "/v1/volume/connectors", wish).status_code == 409
    assert api.get(f"/v1/nodes/{node}/volume/connectors")["connectors"][0]["connector_id"] == "iqn.x"


def test_an_allocation_finds_a_node_by_class_traits_and_candidates(ironic: IronicSimulator, api: Api) -> None:
    ironic.add_node("a", traits=["CUSTOM_A"])
    node = ironic.add_node("b", traits=["CUSTOM_A", "CUSTOM_B"])
    wish = {"resource_class": "baremetal", "name": "x", "traits": ["CUSTOM_B"], "candidate_nodes": ["a", "b"]}
    made = api.post("/v1/allocations", wish)
    assert (made["state"], made["node_uuid"]) == ("allocating", None)
    settled = _settled(api, "x")
    assert (settled["state"], settled["node_uuid"]) == ("active", node)
    record = ironic.node(node)
    assert (record["instance_uuid"], record["allocation_uuid"]) == (made["uuid"], made["uuid"])
    assert record["instance_info"]["traits"] == ["CUSTOM_B"]
    assert api.get(f"/v1/nodes/{node}/allocation")["name"] == "x"
    api.delete("/v1/allocations/x")
    assert (ironic.node(node)["instance_uuid"], ironic.node(node)["allocation_uuid"]) == (None, None)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"resource_class": "none"}, "no available nodes match the resource class none"),
        (
            {"resource_class": "baremetal", "traits": ["CUSTOM_Q"]},
            "no suitable nodes have the requested traits CUSTOM_Q",
        ),
        ({"resource_class": "none", "candidate_nodes": ["n1"]}, "none of the requested nodes are available"),
    ],
)
def test_an_allocation_that_finds_nothing_says_why(
    ironic: IronicSimulator, api: Api, wish: dict[str, Any], words: str
) -> None:
    ironic.add_node("n1")
    api.post("/v1/allocations", {**wish, "name": "x"})
    settled = _settled(api, "x")
    assert settled["state"] == "error"
    assert words in settled["last_error"]


def test_an_allocation_passes_over_locked_nodes(ironic: IronicSimulator, api: Api) -> None:
    locked, free = ironic.add_node(), ironic.add_node()
    with ironic.hold_lock(locked):
        api.post("/v1/allocations", {"resource_class": "baremetal", "name": "x"})
        assert _settled(api, "x")["node_uuid"] == free
        api.post("/v1/allocations", {"resource_class": "baremetal", "name": "y"})
        assert "could not reserve any of 1 suitable nodes" in _settled(api, "y")["last_error"]


def test_an_allocation_of_an_active_node_stays(ironic: IronicSimulator, api: Api) -> None:
    instance_uuid = str(uuid.uuid4())
    node = ironic.add_node("n1", provision_state="active", instance_uuid=instance_uuid)
    made = api.post("/v1/allocations", {"node": "n1", "name": "x"})
    assert (made["uuid"], made["state"], made["node_uuid"]) == (instance_uuid, "active", node)
    assert api.ask("DELETE", "/v1/allocations/x").status_code == 409
    assert api.ask("PATCH", "/v1/nodes/n1", changes(instance_uuid=None)).status_code == 409
    assert api.patch("/v1/allocations/x", name="y", extra={"a": 1})["extra"] == {"a": 1}
    ironic.set("n1", maintenance=True)
    api.delete("/v1/allocations/y")
    assert ironic.node("n1")["instance_uuid"] is None


def test_removing_the_instance_uuid_removes_the_allocation(ironic: IronicSimulator, api: Api) -> None:
    ironic.add_node("n1")
    api.post("/v1/allocations", {"resource_class": "baremetal", "name": "x"})
    _settled(api, "x")
    api.patch("/v1/nodes/n1", instance_uuid=None)
    assert api.ask("GET", "/v1/allocations/x").status_code == 404


def test_an_allocation_that_makes_no_sense_is_refused(ironic: IronicSimulator, api: Api) -> None:
    ironic.add_node("n1")
    for wish in (
        {},
        {"resource_class": "x", "candidate_nodes": ["nobody"]},
        {"resource_class": "x", "traits": ["bad"]},
        {"resource_class": "x", "name": "a/b"},
        {"resource_class": "x", "bogus": 1},
    ):
        assert api.ask("POST", "/v1/allocations", wish).status_code == 400
    old = {"X-OpenStack-Ironic-API-Version": "1.51"}
    assert api.ask("GET", "/v1/allocations", headers=old).status_code == 404
    assert api.ask("POST", "/v1/allocations", {}, headers=old).status_code == 405


def test_conductors_drivers_and_shards_are_told(ironic: IronicSimulator, api: Api) -> None:
    ironic.add_node(shard="s1")
    assert api.get("/v1/conductors")["conductors"][0]["alive"] is True
    assert {driver["name"] for driver in api.get("/v1/drivers")["drivers"]} == {"redfish", "fake-hardware"}
    assert api.get("/v1/drivers/redfish")["default_deploy_interface"] == "direct"
    assert api.get("/v1/shards") == {"shards": [{"name": "s1", "count": 1}]}
    assert "allocations" in api.get("/v1")


def test_thousands_of_nodes_are_listed_page_by_page(ironic: IronicSimulator, api: Api) -> None:
    for index in range(2500):
        ironic.add_node(f"n{index}", ports=0)
    page = api.get("/v1/nodes?fields=uuid,name,provision_state")
    seen = len(page["nodes"])
    assert seen == 1000
    while "next" in page:
        page = api.get(page["next"].removeprefix(ironic.url))
        seen += len(page["nodes"])
    assert seen == 2500


def test_many_deploys_at_once_all_come_to_an_end() -> None:
    with IronicSimulator(timings=Timings(deploy_s=0.1)) as ironic, Api(ironic.url) as api:
        nodes = [ironic.add_node() for _ in range(60)]
        for node in nodes:
            api.claim(node)
            api.provision(node, "active")
        for node in nodes:
            ironic.wait_for(node, "active")


def test_each_known_difference_has_a_name_and_a_sentence() -> None:
    assert len({difference.name for difference in KNOWN_DIFFERENCES}) == len(KNOWN_DIFFERENCES)
    assert all(difference.sentence.endswith(".") for difference in KNOWN_DIFFERENCES)
