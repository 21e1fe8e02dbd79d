"""The simulated Neutron gives out addresses once, finds what it is asked for, and refuses as Neutron does."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from bloomery.testing import NeutronSimulator
from testing.simulated_api import Api


def _kind(response: requests.Response) -> str:
    return str(response.json()["NeutronError"]["type"])


def _port(api: Api, **fields: Any) -> Any:
    return api.post("/v2.0/ports", {"port": fields})["port"]


def test_a_port_gets_an_address_of_each_ip_version(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network(cidrs=["10.1.0.0/24", "2001:db8::/64"])
    port = _port(neutron_api, network_id=network)
    assert [ip["ip_address"] for ip in port["fixed_ips"]] == ["10.1.0.2", "2001:db8::2"]
    assert (port["status"], port["binding:vif_type"], port["device_id"]) == ("DOWN", "unbound", "")


def test_an_address_is_not_given_out_twice(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network(cidrs=["10.1.0.0/29"])
    found = [_port(neutron_api, network_id=network)["fixed_ips"][0]["ip_address"] for _ in range(5)]
    assert found == [f"10.1.0.{last}" for last in range(2, 7)]
    exhausted = neutron_api.ask("POST", "/v2.0/ports", {"port": {"network_id": network}})
    assert (exhausted.status_code, _kind(exhausted)) == (409, "IpAddressGenerationFailure")


@pytest.mark.parametrize(
    ("address", "status", "kind"),
    [
        ("10.1.0.9", 409, "IpAddressAlreadyAllocated"),
        ("10.2.0.9", 400, "InvalidIpForNetwork"),
        ("nonsense", 400, "HTTPBadRequest"),
    ],
)
def test_a_fixed_ip_that_cannot_be_is_refused(
    neutron: NeutronSimulator, neutron_api: Api, address: str, status: int, kind: str
) -> None:
    network = neutron.add_network()
    assert _port(neutron_api, network_id=network, fixed_ips=[{"ip_address": "10.1.0.9"}])
    wish = {"port": {"network_id": network, "fixed_ips": [{"ip_address": address}]}}
    response = neutron_api.ask("POST", "/v2.0/ports", wish)
    assert (response.status_code, _kind(response)) == (status, kind)


def test_a_slaac_address_comes_from_the_mac(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network(cidrs=[])
    subnet = {"network_id": network, "cidr": "2001:db8::/64", "ip_version": 6, "ipv6_address_mode": "slaac"}
    neutron_api.post("/v2.0/subnets", {"subnet": subnet})
    port = _port(neutron_api, network_id=network, mac_address="52:54:00:00:00:01")
    assert port["fixed_ips"][0]["ip_address"] == "2001:db8::5054:ff:fe00:1"


def test_a_mac_is_used_once_on_a_network(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network()
    _port(neutron_api, network_id=network, mac_address="52:54:00:00:00:01")
    wish = {"port": {"network_id": network, "mac_address": "52:54:00:00:00:01"}}
    assert _kind(neutron_api.ask("POST", "/v2.0/ports", wish)) == "MacAddressInUse"


def test_a_bound_port_keeps_its_mac(neutron: NeutronSimulator, neutron_api: Api) -> None:
    port = neutron.add_port(neutron.add_network(), **{"binding:host_id": "host"})
    assert (neutron.port(port) or {})["status"] == "ACTIVE"
    response = neutron_api.ask("PUT", f"/v2.0/ports/{port}", {"port": {"mac_address": "52:54:00:00:00:01"}})
    assert (response.status_code, _kind(response)) == (409, "PortBound")


def test_a_binding_can_fail() -> None:
    with NeutronSimulator(binding_fails=True) as neutron:
        port = neutron.port(neutron.add_port(neutron.add_network(), **{"binding:host_id": "host"})) or {}
        assert (port["binding:vif_type"], port["status"]) == ("binding_failed", "DOWN")


def test_lists_are_filtered_by_any_field(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network, other = neutron.add_network("a"), neutron.add_network("b", cidrs=["10.2.0.0/24"])
    first = neutron.add_port(network, name="x", device_id="d", mac_address="52:54:00:00:00:01", tags=["t", "u"])
    neutron.add_port(other, name="y")
    for query in (
        "name=x",
        f"network_id={network}",
        "device_id=d",
        "mac_address=52:54:00:00:00:01",
        "tags=t,u",
        "fixed_ips=ip_address=10.1.0.2",
        f"id={first}",
        f"id={first}&id=nothing",
    ):
        assert [port["id"] for port in neutron_api.get(f"/v2.0/ports?{query}")["ports"]] == [first], query
    assert neutron_api.get("/v2.0/networks?name=b&fields=id") == {"networks": [{"id": other}]}


def test_lists_are_paged(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network()
    wanted = [neutron.add_port(network) for _ in range(5)]
    page = neutron_api.get("/v2.0/ports?limit=2")
    found = [port["id"] for port in page["ports"]]
    while "ports_links" in page:
        page = neutron_api.get(page["ports_links"][0]["href"].removeprefix(neutron.url))
        found += [port["id"] for port in page["ports"]]
    assert found == wanted


def test_what_is_in_use_is_not_deleted(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network()
    subnet = neutron_api.get(f"/v2.0/networks/{network}")["network"]["subnets"][0]
    group = neutron_api.post("/v2.0/security-groups", {"security_group": {"name": "web"}})["security_group"]["id"]
    port = neutron.add_port(network, security_groups=[group])
    for path, kind in (
        (f"networks/{network}", "NetworkInUse"),
        (f"subnets/{subnet}", "SubnetInUse"),
        (f"security-groups/{group}", "SecurityGroupInUse"),
    ):
        response = neutron_api.ask("DELETE", f"/v2.0/{path}")
        assert (response.status_code, _kind(response)) == (409, kind)
    neutron_api.delete(f"/v2.0/ports/{port}")
    neutron_api.delete(f"/v2.0/networks/{network}")
    assert neutron_api.ask("GET", f"/v2.0/subnets/{subnet}").status_code == 404


def test_a_port_has_the_default_group_unless_told_otherwise(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network()
    default = neutron_api.get("/v2.0/security-groups?name=default")["security_groups"][0]
    assert len(default["security_group_rules"]) == 2
    port = _port(neutron_api, network_id=network)
    assert port["security_groups"] == [default["id"]]
    changed = neutron_api.put(f"/v2.0/ports/{port['id']}", {"port": {"security_groups": []}})["port"]
    assert changed["security_groups"] == []
    wish = {"port": {"network_id": network, "security_groups": ["nothing"]}}
    assert _kind(neutron_api.ask("POST", "/v2.0/ports", wish)) == "SecurityGroupNotFound"


def test_tags_are_set_added_and_removed(neutron: NeutronSimulator, neutron_api: Api) -> None:
    port = neutron.add_port(neutron.add_network())
    neutron_api.put(f"/v2.0/ports/{port}/tags", {"tags": ["a", "b"]})
    neutron_api.put(f"/v2.0/ports/{port}/tags/c")
    neutron_api.delete(f"/v2.0/ports/{port}/tags/a")
    assert neutron_api.get(f"/v2.0/ports/{port}/tags") == {"tags": ["b", "c"]}
    assert neutron_api.ask("DELETE", f"/v2.0/ports/{port}/tags/a").status_code == 404


def test_a_quota_is_kept() -> None:
    with NeutronSimulator(quotas={"port": 1}) as neutron, Api(neutron.url) as api:
        network = neutron.add_network()
        _port(api, network_id=network)
        response = api.ask("POST", "/v2.0/ports", {"port": {"network_id": network}})
        assert (response.status_code, _kind(response)) == (409, "OverQuota")


def test_what_neutron_does_not_know_is_refused(neutron: NeutronSimulator, neutron_api: Api) -> None:
    network = neutron.add_network()
    missing = neutron_api.ask("GET", "/v2.0/ports/nothing")
    assert (missing.status_code, _kind(missing)) == (404, "PortNotFound")
    wishes: list[Any] = [
        {"port": {"network_id": network, "bogus": 1}},
        {"port": {"network_id": network, "status": "ACTIVE"}},
        {"prt": {}},
        [1],
    ]
    for wish in wishes:
        assert neutron_api.ask("POST", "/v2.0/ports", wish).status_code == 400
    assert neutron_api.ask("POST", "/v2.0/ports", {"port": {"network_id": "nothing"}}).status_code == 404


def test_a_snapshot_brings_everything_back(neutron: NeutronSimulator) -> None:
    port = neutron.add_port(neutron.add_network())
    snapshot = neutron.snapshot()
    neutron.delete("ports", port)
    neutron.restore(snapshot)
    assert neutron.port(port) is not None
