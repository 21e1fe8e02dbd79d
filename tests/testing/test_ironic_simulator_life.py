"""The life of a node in the simulated Ironic: deployed, rebuilt, rescued, serviced, torn down, and how each goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.testing import IronicSimulator, Timings
from bloomery.testing.ironic_simulator import Work
from testing.simulated_api import IMAGE, Api, fault

SLOW = Timings(deploy_s=30, agent_s=30, tear_down_s=30, power_s=30)


def _deploy(ironic: IronicSimulator, api: Api, node: str) -> str:
    instance_uuid = api.claim(node)
    api.provision(node, "active", configdrive={"meta_data": {"name": "x"}})
    ironic.wait_for(node, "active")
    return instance_uuid


def test_a_node_is_enrolled_verified_cleaned_and_available(ironic: IronicSimulator, api: Api) -> None:
    node = api.post("/v1/nodes", {"driver": "redfish", "driver_info": {"redfish_address": "https://192.0.2.1"}})["uuid"]
    assert ironic.node(node)["provision_state"] == "enroll"
    api.provision(node, "manage")
    assert ironic.wait_for(node, "manageable")["power_state"] == "power off"
    api.provision(node, "provide")
    assert ironic.wait_for(node, "available")["last_error"] is None


def test_a_deploy_goes_through_its_states_and_steps_and_powers_on(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node("n1")
    instance_uuid = api.claim(node)
    api.provision(node, "active", configdrive="aGVsbG8=")
    assert api.get(f"/v1/nodes/{node}?fields=provision_state,target_provision_state,reservation") | {"links": 0} == {
        "provision_state": "deploying",
        "target_provision_state": "active",
        "reservation": "simulated-conductor",
        "links": 0,
    }
    waiting = ironic.wait_for(node, "wait call-back")
    assert waiting["deploy_step"]["step"] == "deploy"
    assert waiting["driver_internal_info"]["deploy_step_index"] == 0
    assert [step["step"] for step in waiting["driver_internal_info"]["deploy_steps"]][:2] == ["deploy", "write_image"]
    record = ironic.wait_for(node, "active")
    assert record["instance_uuid"] == instance_uuid
    assert record["instance_info"]["configdrive"] == "aGVsbG8="
    assert (record["power_state"], ironic.bmc(node).power) == ("power on", "power on")
    assert (record["deploy_step"], record["target_provision_state"]) == ({}, None)
    assert record["driver_internal_info"]["deploy_steps"] is None
    assert api.get(f"/v1/nodes/{node}")["instance_info"]["configdrive"] == "******"


def test_deploy_steps_of_the_request_are_run_in_their_place(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.claim(node)
    step = {"interface": "raid", "step": "apply_configuration", "args": {}, "priority": 90}
    api.provision(node, "active", deploy_steps=[step])
    steps = ironic.wait_for(node, "wait call-back")["driver_internal_info"]["deploy_steps"]
    assert [entry["step"] for entry in steps][:3] == ["deploy", "apply_configuration", "write_image"]
    ironic.wait_for(node, "active")


def test_a_deploy_without_an_image_is_refused_and_changes_nothing(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "active"})
    assert response.status_code == 400
    assert "instance_info.image_source" in fault(response)
    assert ironic.node(node)["provision_state"] == "available"
    result = api.get(f"/v1/nodes/{node}/validate")
    assert result["deploy"]["result"] is False
    assert "image_source" in result["deploy"]["reason"]
    assert result["power"] == {"result": True}


def test_traits_of_the_instance_must_be_traits_of_the_node(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(traits=["CUSTOM_A"])
    api.claim(node, traits=["CUSTOM_A", "CUSTOM_B"])
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "active"})
    assert (response.status_code, "CUSTOM_B" in fault(response)) == (400, True)


def test_tearing_down_leaves_nothing_of_the_instance(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    allocation = api.post("/v1/allocations", {"resource_class": "baremetal", "name": "a"})
    while api.get("/v1/allocations/a")["state"] == "allocating":
        pass
    api.patch(f"/v1/nodes/{node}", instance_info=dict(IMAGE))
    api.post(f"/v1/nodes/{node}/vifs", {"id": "vif-1"})
    api.post("/v1/volume/targets", {"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0})
    api.provision(node, "active")
    ironic.wait_for(node, "active")
    assert ironic.node(node)["instance_uuid"] == allocation["uuid"]
    api.provision(node, "deleted")
    record = ironic.wait_for(node, "available")
    assert (record["instance_info"], record["instance_uuid"], record["allocation_uuid"]) == ({}, None, None)
    assert (ironic.vifs(node), ironic.volume_targets(node), ironic.allocations()) == ([], [], [])
    assert (record["power_state"], record["clean_step"]) == ("power off", {})
    assert ironic.bmc(node).power == "power off"


def test_a_failed_tear_down_ends_in_error_with_the_instance_forgotten_all_the_same(
    ironic: IronicSimulator, api: Api
) -> None:
    node = ironic.add_node()
    _deploy(ironic, api, node)
    api.post(f"/v1/nodes/{node}/vifs", {"id": "vif-1"})
    ironic.unplug_bmc(node)
    api.provision(node, "deleted")
    record = ironic.wait_for(node, "error")
    assert record["last_error"].startswith("Failed to tear down: ")
    assert (record["instance_uuid"], record["instance_info"], ironic.vifs(node)) == (None, {}, [])
    assert record["target_provision_state"] is None
    assert ironic.bmc(node).power == "power on"


def test_cleaning_is_skipped_where_it_is_switched_off(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(automated_clean=False)
    _deploy(ironic, api, node)
    ironic.fail_next(node, "clean")
    api.provision(node, "deleted")
    assert ironic.wait_for(node, "available")["maintenance"] is False


def test_failed_cleaning_puts_the_node_into_maintenance(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    _deploy(ironic, api, node)
    ironic.fail_next(node, "clean", "disk is stuck")
    api.provision(node, "deleted")
    record = ironic.wait_for(node, "clean failed")
    assert (record["maintenance"], record["fault"]) == (True, "clean failure")
    assert "disk is stuck" in record["last_error"]
    api.delete(f"/v1/nodes/{node}/maintenance")
    assert (ironic.node(node)["maintenance_reason"], ironic.node(node)["fault"]) == (None, None)
    api.provision(node, "manage")
    assert ironic.wait_for(node, "manageable")["target_provision_state"] is None


def test_a_retired_node_is_manageable_after_cleaning_and_cannot_be_provided(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    _deploy(ironic, api, node)
    api.patch(f"/v1/nodes/{node}", retired=True)
    api.provision(node, "deleted")
    ironic.wait_for(node, "manageable")
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "provide"})
    assert (response.status_code, "retired" in fault(response)) == (400, True)


def test_a_rescue_removes_its_password_and_unrescue_boots_the_instance(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    _deploy(ironic, api, node)
    api.provision(node, "rescue", rescue_password="sesame")
    assert ironic.node(node)["instance_info"]["rescue_password"] == "sesame"
    assert api.get(f"/v1/nodes/{node}")["instance_info"]["rescue_password"] == "******"
    assert "rescue_password" not in ironic.wait_for(node, "rescue")["instance_info"]
    api.provision(node, "unrescue")
    assert ironic.wait_for(node, "active")["power_state"] == "power on"


def test_a_rebuild_takes_the_new_config_drive(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    instance_uuid = _deploy(ironic, api, node)
    api.provision(node, "rebuild", configdrive={"meta_data": {"name": "y"}})
    record = ironic.wait_for(node, "active")
    assert record["instance_info"]["configdrive"] == {"meta_data": {"name": "y"}}
    assert record["instance_uuid"] == instance_uuid


@pytest.mark.parametrize(
    ("work", "before", "target", "after"),
    [
        ("deploy", "available", "active", "deploy failed"),
        ("rebuild", "active", "rebuild", "deploy failed"),
        ("tear_down", "active", "deleted", "error"),
        ("rescue", "active", "rescue", "rescue failed"),
        ("unrescue", "rescue", "unrescue", "unrescue failed"),
        ("service", "active", "service", "service failed"),
        ("clean", "manageable", "clean", "clean failed"),
        ("inspect", "manageable", "inspect", "inspect failed"),
        ("adopt", "manageable", "adopt", "adopt failed"),
        ("verify", "enroll", "manage", "enroll"),
    ],
)
def test_work_that_is_to_fail_fails_with_its_reason_once(
    ironic: IronicSimulator, api: Api, work: Work, before: str, target: str, after: str
) -> None:
    node = ironic.add_node(provision_state=before, instance_info=dict(IMAGE))
    ironic.fail_next(node, work, "gremlins")
    step = {"interface": "deploy", "step": "update"}
    arguments: dict[str, dict[str, Any]] = {
        "rescue": {"rescue_password": "x"},
        "service": {"service_steps": [step]},
        "clean": {"clean_steps": [step]},
    }
    api.provision(node, target, **arguments.get(work, {}))
    record = ironic.wait_for(node, after)
    assert "gremlins" in record["last_error"]
    assert ironic._world.failures == {}
    events = api.get(f"/v1/nodes/{node}/history?detail=true")["history"]
    assert any("gremlins" in event["event"] and event["severity"] == "ERROR" for event in events)


def test_a_deploy_can_fail_at_a_named_step(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.claim(node)
    ironic.fail_next(node, "deploy", "disk full", step="write_image")
    api.provision(node, "active")
    assert ironic.wait_for(node, "deploy failed")["last_error"] == "Deploy step deploy.write_image failed: disk full."


def test_a_node_that_waits_for_its_agent_is_unlocked_and_may_be_torn_down(ironic: IronicSimulator, api: Api) -> None:
    ironic.timings = Timings(agent_s=30)
    node = ironic.add_node()
    api.claim(node)
    api.provision(node, "active")
    assert ironic.wait_for(node, "wait call-back")["reservation"] is None
    ironic.timings = Timings()
    api.provision(node, "deleted")
    ironic.wait_for(node, "available")


def test_a_waiting_deploy_can_be_aborted(ironic: IronicSimulator, api: Api) -> None:
    ironic.timings = Timings(agent_s=30)
    node = ironic.add_node()
    api.claim(node)
    api.provision(node, "active")
    ironic.wait_for(node, "wait call-back")
    api.provision(node, "abort")
    record = ironic.wait_for(node, "deploy failed")
    assert record["last_error"].startswith("By request, the deploy operation was aborted")
    assert record["instance_uuid"] is not None


def test_an_agent_that_never_calls_fails_the_deploy(ironic: IronicSimulator, api: Api) -> None:
    ironic.timings = Timings(agent_s=30)
    node = ironic.add_node()
    api.claim(node)
    api.provision(node, "active")
    ironic.wait_for(node, "wait call-back")
    ironic.time_out(node)
    record = ironic.wait_for(node, "deploy failed")
    assert record["last_error"] == f"Timeout reached while waiting for callback for node {node}"


def test_aborting_a_service_leads_back_to_active(ironic: IronicSimulator, api: Api) -> None:
    ironic.timings = Timings(agent_s=30)
    node = ironic.add_node(provision_state="active")
    api.provision(node, "service", service_steps=[{"interface": "deploy", "step": "update"}])
    ironic.wait_for(node, "service wait")
    api.provision(node, "abort")
    assert ironic.wait_for(node, "active")["last_error"] == "By request, the service operation was aborted"


def test_an_abort_waits_for_a_step_that_cannot_be_interrupted(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="clean wait", clean_step={"interface": "raid", "step": "create"})
    api.provision(node, "abort")
    assert ironic.node(node)["provision_state"] == "clean wait"
    assert ironic.node(node)["clean_step"]["abort_after"] is True


def test_an_aborted_cleaning_does_not_put_the_node_into_maintenance(ironic: IronicSimulator, api: Api) -> None:
    ironic.timings = Timings(agent_s=30)
    node = ironic.add_node(provision_state="manageable")
    api.provision(node, "provide")
    ironic.wait_for(node, "clean wait")
    api.provision(node, "abort")
    assert ironic.wait_for(node, "clean failed")["maintenance"] is False


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", [{"op": "add", "path": "/extra/a", "value": 1}]),
        ("PUT", "/states/provision", {"target": "deleted"}),
        ("PUT", "/states/power", {"target": "power off"}),
        ("PUT", "/states/console", {"enabled": True}),
        ("PUT", "/states/boot_mode", {"target": "uefi"}),
        ("POST", "/vifs", {"id": "vif-1"}),
        ("DELETE", "/vifs/vif-1", None),
        ("PUT", "/maintenance", None),
        ("DELETE", "/maintenance", None),
        ("PUT", "/management/inject_nmi", None),
        ("PUT", "/management/boot_device", {"boot_device": "pxe"}),
        ("PUT", "/traits/CUSTOM_A", None),
        ("DELETE", "/traits", None),
        ("DELETE", "", None),
    ],
)
def test_every_write_to_a_locked_node_is_refused(
    ironic: IronicSimulator, api: Api, method: str, path: str, body: object
) -> None:
    node = ironic.add_node(provision_state="active")
    before = ironic.node(node)
    with ironic.hold_lock(node):
        response = api.ask(method, f"/v1/nodes/{node}{path}", body)
        assert response.status_code == 409
        assert fault(response) == (
            f"Node {node} is locked by host another-conductor, please retry after the current operation is completed."
        )
        assert api.get(f"/v1/nodes/{node}")["provision_state"] == "active"
    after = ironic.node(node)
    assert {**after, "updated_at": 0} == {**before, "updated_at": 0}


def test_a_request_can_wait_for_the_lock() -> None:
    with IronicSimulator(lock_wait_s=10, timings=Timings(power_s=0.05)) as ironic, Api(ironic.url) as api:
        node = ironic.add_node()
        api.put(f"/v1/nodes/{node}/states/power", {"target": "power on"})
        api.patch(f"/v1/nodes/{node}", extra={"a": 1})
        assert ironic.node(node)["power_state"] == "power on"


def test_a_node_in_transition_cannot_be_updated(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="wait call-back")
    response = api.ask("PATCH", f"/v1/nodes/{node}", [{"op": "add", "path": "/extra/a", "value": 1}])
    assert response.status_code == 409
    assert fault(response) == f"Node {node} can not be updated while a state transition is in progress."


def test_a_verb_that_the_state_does_not_allow_is_a_bad_request(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "rescue", "rescue_password": "x"})
    assert response.status_code == 400
    assert 'while it is in state "available"' in fault(response)


def test_a_busy_conductor_answers_503_and_takes_nothing_up() -> None:
    with IronicSimulator(max_workers=1, timings=SLOW) as ironic, Api(ironic.url) as api:
        first, second = ironic.add_node(), ironic.add_node(provision_state="active")
        api.claim(first)
        api.provision(first, "active")
        response = api.ask("PUT", f"/v1/nodes/{second}/states/provision", {"target": "deleted"})
        assert response.status_code == 503
        assert ironic.node(second)["provision_state"] == "active"
        assert ironic.node(second)["reservation"] is None


def test_a_dead_conductor_leaves_the_node_locked_until_it_is_back(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.claim(node)
    ironic.stick(node, "deploying")
    api.provision(node, "active")
    assert api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "deleted"}).status_code == 409
    ironic.revive()
    record = ironic.wait_for(node, "deploy failed")
    assert "can't be resumed by conductor" in record["last_error"]


def test_a_protected_node_is_neither_torn_down_nor_rebuilt(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="active", instance_info=dict(IMAGE))
    api.patch(f"/v1/nodes/{node}", protected=True)
    for target in ("deleted", "rebuild"):
        assert api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": target}).status_code == 403


def test_maintenance_refuses_a_deploy_and_allows_a_tear_down(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(maintenance=True, instance_info=dict(IMAGE))
    response = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": "active"})
    assert (response.status_code, "maintenance mode" in fault(response)) == (400, True)
    ironic.set(node, provision_state="active")
    api.provision(node, "deleted")
    assert ironic.wait_for(node, "available")["maintenance"] is True


def test_power_is_changed_at_the_machine(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.put(f"/v1/nodes/{node}/states/power", {"target": "power on"})
    assert api.get(f"/v1/nodes/{node}/states")["target_power_state"] == "power on"
    assert ironic.wait_for(node, "available")["power_state"] == "power on"
    api.put(f"/v1/nodes/{node}/states/power", {"target": "rebooting"})
    ironic.wait_for(node, "available")
    api.put(f"/v1/nodes/{node}/states/power", {"target": "soft power off", "timeout": 5})
    assert ironic.wait_for(node, "available")["power_state"] == "power off"
    assert ironic.bmc(node).power_changes == ["power on", "rebooting", "soft power off"]


def test_power_that_fails_says_why(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    ironic.fail_next(node, "power", "no current")
    api.put(f"/v1/nodes/{node}/states/power", {"target": "power on"})
    record = ironic.wait_for(node, "available")
    assert record["last_error"] == "Failed to change power state to 'power on' by 'power on': no current"
    assert (record["power_state"], record["target_power_state"]) == ("power off", None)
    ironic.unplug_bmc(node)
    api.put(f"/v1/nodes/{node}/states/power", {"target": "power on"})
    assert "cannot be reached" in ironic.wait_for(node, "available")["last_error"]


def test_power_of_a_node_that_is_being_cleaned_is_left_alone(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="clean wait")
    assert api.ask("PUT", f"/v1/nodes/{node}/states/power", {"target": "power on"}).status_code == 400


def test_a_console_is_enabled_and_disabled(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    assert api.get(f"/v1/nodes/{node}/states/console") == {"console_enabled": False, "console_info": None}
    api.put(f"/v1/nodes/{node}/states/console", {"enabled": True})
    ironic.wait_for(node, "available")
    assert api.get(f"/v1/nodes/{node}/states/console")["console_info"]["url"].startswith("tcp://127.0.0.1:")
    api.put(f"/v1/nodes/{node}/states/console", {"enabled": False})
    ironic.wait_for(node, "available")
    assert api.get(f"/v1/nodes/{node}/states/console")["console_enabled"] is False
    ironic.set(node, console_interface="no-console")
    assert api.ask("PUT", f"/v1/nodes/{node}/states/console", {"enabled": True}).status_code == 400


def test_management_reaches_the_machine(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    api.put(f"/v1/nodes/{node}/management/inject_nmi")
    api.put(f"/v1/nodes/{node}/management/boot_device", {"boot_device": "pxe", "persistent": True})
    api.put(f"/v1/nodes/{node}/states/boot_mode", {"target": "uefi"})
    ironic.wait_for(node, "available")
    api.put(f"/v1/nodes/{node}/states/secure_boot", {"target": True})
    record = ironic.wait_for(node, "available")
    assert ironic.bmc(node).interrupts == 1
    assert api.get(f"/v1/nodes/{node}/management/boot_device") == {"boot_device": "pxe", "persistent": True}
    assert (record["boot_mode"], record["secure_boot"]) == ("uefi", True)


def test_inspection_and_service_and_adoption_come_to_an_end(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node(provision_state="manageable")
    assert api.ask("GET", f"/v1/nodes/{node}/inventory").status_code == 404
    api.provision(node, "inspect")
    ironic.wait_for(node, "manageable")
    assert api.get(f"/v1/nodes/{node}/inventory")["inventory"]["memory"]["physical_mb"] == 8192
    api.provision(node, "adopt")
    ironic.wait_for(node, "active")
    api.provision(node, "service", service_steps=[{"interface": "deploy", "step": "update"}])
    assert ironic.wait_for(node, "active")["service_step"] == {}


def test_a_snapshot_brings_back_everything_and_work_goes_on(ironic: IronicSimulator, api: Api) -> None:
    node = ironic.add_node()
    instance_uuid = api.claim(node)
    ironic.timings = Timings(deploy_s=0.2)
    api.provision(node, "active")
    snapshot = ironic.snapshot()
    for _ in range(2):
        ironic.wait_for(node, "active")
        api.provision(node, "deleted")
        ironic.wait_for(node, "available")
        ironic.restore(snapshot)
        assert ironic.node(node)["provision_state"] == "deploying"
        assert ironic.node(node)["instance_uuid"] == instance_uuid
    ironic.wait_for(node, "active")
