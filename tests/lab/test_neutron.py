"""The lab's Neutron, asked over HTTP in the ways of Ironic and of the operations."""

import signal
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from bloomery.lab import neutron as lab_neutron
from bloomery.lab.errors import LabError
from bloomery.lab.neutron import PHYSICAL_NETWORK, SWITCHES, LabNetworks
from bloomery.lab.neutron_server import CONFIGURATION
from bloomery.lab.service import RunningService, start, stop
from bloomery.lab.wait import until
from bloomery.testing.gateways import neutron_at

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Neutron:
    """A running Neutron and what the lab has in it."""

    endpoint: str
    networks: LabNetworks
    log: Path
    session: requests.Session

    def call(self, method: str, path: str, body: object = None, *, status: int | None = None) -> Any:
        reply = self.session.request(method, f"{self.endpoint}/v2.0/{path}", json=body, timeout=60)
        if status is None:
            assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        else:
            assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    def new_port(self, network: str = "private", **attributes: object) -> dict[str, Any]:
        body = {"port": {"network_id": self.networks.tenant[network], **attributes}}
        created: dict[str, Any] = self.call("POST", "ports", body)["port"]
        return created

    def update_port(self, port: dict[str, Any], **attributes: object) -> dict[str, Any]:
        updated: dict[str, Any] = self.call("PUT", f"ports/{port['id']}", {"port": attributes})["port"]
        return updated

    def port(self, port: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"ports/{port['id']}")["port"]
        return found

    def ids(self, query: str) -> set[str]:
        return {port["id"] for port in self.call("GET", f"ports?{query}")["ports"]}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number: int = listener.getsockname()[1]
        return number


def started(state: Path, *, port: int) -> RunningService:
    (state / "logs").mkdir(exist_ok=True)
    service = lab_neutron.prepare(state, port=port)
    running = start(service, logs=state / "logs")
    until(lambda: running.has_ended() or service.is_ready(), what="Neutron's start", timeout_s=START_TIMEOUT_S)
    assert not running.has_ended(), running.log.read_text()
    return running


@pytest.fixture(scope="module")
def neutron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neutron]:
    # A path with the characters that configuration files and database addresses give a meaning to.
    state = tmp_path_factory.mktemp("a $state; 100%")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    running = started(state, port=port)
    try:
        with requests.Session() as session:
            yield Neutron(endpoint, lab_neutron.networks(endpoint), running.log, session)
    finally:
        stop([running], grace_s=5)


def test_a_list_that_neutron_cuts_into_pages_is_read_to_its_end(tmp_path: Path) -> None:
    port = free_port()
    service = lab_neutron.prepare(tmp_path, port=port)
    configuration = tmp_path / "neutron" / CONFIGURATION
    configuration.write_text(configuration.read_text().replace("[DEFAULT]\n", "[DEFAULT]\npagination_max_limit = 2\n"))
    (tmp_path / "logs").mkdir()
    running = start(service, logs=tmp_path / "logs")
    try:
        until(lambda: running.has_ended() or service.is_ready(), what="Neutron's start", timeout_s=START_TIMEOUT_S)
        endpoint = f"http://127.0.0.1:{port}"
        networks = lab_neutron.networks(endpoint)
        gateway = neutron_at(endpoint)
        instance = str(uuid.uuid4())
        made = {
            gateway.create_port(instance_uuid=instance, name=f"eth{number}", network_id=networks.tenant["private"]).id
            for number in range(5)
        }
        with requests.Session() as session:
            first = session.get(f"{endpoint}/v2.0/ports?device_id={instance}", timeout=60).json()
        assert len(first["ports"]) == 2, "it cuts nothing"
        assert {port.id for port in gateway.ports_of(instance)} == {port.id for port in gateway.our_ports()} == made
        assert {port.id for port in gateway.ports(sorted(made))} == made
        assert {network.id for network in gateway.networks()} >= set(networks.tenant.values())
        assert len(gateway.subnets_of(networks.tenant["dual"])) == 2
    finally:
        stop([running], grace_s=5)


def mac_address() -> str:
    number = uuid.uuid4().hex
    return f"52:54:00:{number[:2]}:{number[2:4]}:{number[4:6]}"


def link_information(*ports: str) -> dict[str, Any]:
    links = [switch.link(port) for switch, port in zip(SWITCHES, ports, strict=False)]
    return {"local_link_information": links, "physical_network": PHYSICAL_NETWORK}


def test_the_lab_has_its_networks_and_security_groups(neutron: Neutron) -> None:
    networks = neutron.networks
    assert len({networks.provisioning, networks.cleaning, networks.rescuing, *networks.tenant.values()}) == 8
    assert set(networks.tenant) == {"private", "dual", "dual-static", "storage", "public"}
    assert set(networks.security_groups) == {lab_neutron.DEFAULT_SECURITY_GROUP, "web"}


def test_asking_for_the_networks_again_finds_them(neutron: Neutron) -> None:
    rules = neutron.call("GET", "security-group-rules")
    assert lab_neutron.networks(neutron.endpoint) == neutron.networks
    assert len(neutron.call("GET", "networks")["networks"]) == 8
    assert neutron.call("GET", "security-group-rules") == rules


def test_the_networks_differ_in_what_a_config_drive_must_say(neutron: Neutron) -> None:
    by_name = {row["name"]: row for row in neutron.call("GET", "networks")["networks"]}
    subnets = {row["name"]: row for row in neutron.call("GET", "subnets")["subnets"]}
    assert {name: by_name[name]["mtu"] for name in ("private", "storage")} == {"private": 1500, "storage": 9000}
    assert by_name["storage"]["provider:network_type"] == "vlan"
    assert by_name["public"]["shared"] is True
    assert by_name["public"]["provider:network_type"] == "flat"
    assert subnets["private-ipv4"]["enable_dhcp"] is True
    assert subnets["private-ipv4"]["dns_nameservers"]
    assert subnets["private-ipv4"]["host_routes"]
    assert subnets["dual-ipv6"]["ipv6_address_mode"] == "slaac"
    assert subnets["dual-static-ipv6"]["ipv6_address_mode"] is None
    assert subnets["storage-ipv4"]["gateway_ip"] is None


def test_the_default_security_group_has_the_rules_of_every_cloud(neutron: Neutron) -> None:
    group = neutron.networks.security_groups[lab_neutron.DEFAULT_SECURITY_GROUP]
    rules = neutron.call("GET", f"security-group-rules?security_group_id={group}")["security_group_rules"]
    assert Counter((rule["direction"], rule["ethertype"], rule["remote_group_id"]) for rule in rules) == {
        ("egress", "IPv4", None): 1,
        ("egress", "IPv6", None): 1,
        ("ingress", "IPv4", group): 1,
        ("ingress", "IPv6", group): 1,
    }


def test_a_port_is_bound_once_its_cable_is_known(neutron: Neutron) -> None:
    node_uuid = str(uuid.uuid4())
    port = neutron.new_port()
    # As Ironic's attach does, before it knows the NIC's cable.
    seeded = neutron.update_port(
        port, **{"binding:vnic_type": "baremetal", "binding:host_id": node_uuid, "binding:profile": {}}
    )
    assert seeded["binding:vif_type"] == "binding_failed"
    mac = mac_address()
    # A port that is bound may not change its MAC address; one whose binding failed may.
    neutron.update_port(
        port, **{"mac_address": mac, "binding:host_id": node_uuid, "binding:profile": link_information("Ethernet1")}
    )
    bound = neutron.port(port)
    assert bound["binding:vif_type"] == "other"
    assert bound["status"] == "ACTIVE"
    assert bound["mac_address"] == mac
    assert neutron.ids(f"binding:host_id={node_uuid}") == {port["id"]}


def test_a_port_is_bound_to_both_switches_of_a_port_group(neutron: Neutron) -> None:
    profile = {
        **link_information("Ethernet7", "Ethernet7"),
        "local_group_information": {
            "id": str(uuid.uuid4()),
            "name": "bond0",
            "bond_mode": "802.3ad",
            "bond_properties": {},
        },
    }
    port = neutron.new_port("storage", **{"binding:vnic_type": "baremetal"})
    neutron.update_port(port, **{"binding:host_id": str(uuid.uuid4()), "binding:profile": profile})
    bound = neutron.port(port)
    assert (bound["binding:vif_type"], bound["status"]) == ("other", "ACTIVE")
    assert bound["binding:profile"] == profile


def test_a_port_on_an_unknown_switch_is_not_bound(neutron: Neutron) -> None:
    links = [{"switch_id": "02:00:00:00:00:99", "switch_info": "elsewhere", "port_id": "Ethernet1"}]
    port = neutron.new_port(**{"binding:vnic_type": "baremetal"})
    bound = neutron.update_port(
        port, **{"binding:host_id": str(uuid.uuid4()), "binding:profile": {"local_link_information": links}}
    )
    assert bound["binding:vif_type"] == "binding_failed"


def test_an_unbound_port_is_as_it_was_but_for_its_mac_address(neutron: Neutron) -> None:
    port = neutron.new_port(**{"binding:vnic_type": "baremetal"})
    mac = mac_address()
    neutron.update_port(
        port,
        **{"mac_address": mac, "binding:host_id": str(uuid.uuid4()), "binding:profile": link_information("Ethernet2")},
    )
    neutron.update_port(port, **{"binding:host_id": "", "binding:profile": {}})
    neutron.update_port(port, mac_address=None)
    unbound = neutron.port(port)
    assert (unbound["binding:vif_type"], unbound["status"]) == ("unbound", "DOWN")
    assert unbound["mac_address"] != mac
    assert unbound["fixed_ips"] == port["fixed_ips"]


def test_an_autoconfigured_ipv6_address_follows_the_mac_address(neutron: Neutron) -> None:
    port = neutron.new_port("dual", mac_address="52:54:00:00:00:01")
    addresses = {address["ip_address"] for address in port["fixed_ips"]}
    assert "fd00:30::5054:ff:fe00:1" in addresses
    moved = neutron.update_port(port, mac_address="52:54:00:00:00:02")
    assert "fd00:30::5054:ff:fe00:2" in {address["ip_address"] for address in moved["fixed_ips"]}


def test_two_ports_of_one_network_cannot_have_the_same_mac_address(neutron: Neutron) -> None:
    mac = mac_address()
    neutron.new_port(mac_address=mac)
    body = {"port": {"network_id": neutron.networks.tenant["private"], "mac_address": mac}}
    neutron.call("POST", "ports", body, status=409)


def test_a_fixed_ip_is_given_once(neutron: Neutron) -> None:
    fixed_ips = [{"ip_address": "10.20.0.77"}]
    port = neutron.new_port(fixed_ips=fixed_ips)
    assert [address["ip_address"] for address in port["fixed_ips"]] == ["10.20.0.77"]
    body = {"port": {"network_id": neutron.networks.tenant["private"], "fixed_ips": fixed_ips}}
    neutron.call("POST", "ports", body, status=409)


def test_a_port_has_the_default_security_group_until_it_is_given_others(neutron: Neutron) -> None:
    groups = neutron.networks.security_groups
    port = neutron.new_port()
    assert port["security_groups"] == [groups["default"]]
    assert neutron.update_port(port, security_groups=[groups["web"]])["security_groups"] == [groups["web"]]
    assert neutron.update_port(port, security_groups=[])["security_groups"] == []


def test_ports_are_found_by_device_description_and_tag(neutron: Neutron) -> None:
    device_id = str(uuid.uuid4())
    port = neutron.new_port()
    neutron.update_port(port, device_id=device_id, device_owner="baremetal:none", description=f"of {device_id}")
    neutron.call("PUT", f"ports/{port['id']}/tags", {"tags": [f"bloomery-{device_id}", "lab"]})
    neutron.new_port()
    assert neutron.ids(f"device_id={device_id}") == {port["id"]}
    assert neutron.ids(f"description=of {device_id}") == {port["id"]}
    assert neutron.ids(f"tags=bloomery-{device_id},lab") == {port["id"]}
    neutron.call("DELETE", f"ports/{port['id']}/tags/lab")
    assert neutron.port(port)["tags"] == [f"bloomery-{device_id}"]


def test_a_deleted_port_is_gone(neutron: Neutron) -> None:
    port = neutron.new_port(**{"binding:vnic_type": "baremetal"})
    neutron.update_port(
        port, **{"binding:host_id": str(uuid.uuid4()), "binding:profile": link_information("Ethernet3")}
    )
    neutron.call("DELETE", f"ports/{port['id']}", status=204)
    neutron.call("DELETE", f"ports/{port['id']}", status=404)


def test_ten_clients_at_once_are_all_served(neutron: Neutron) -> None:
    def life_of_ports(_: int) -> None:
        with requests.Session() as session:
            client = Neutron(neutron.endpoint, neutron.networks, neutron.log, session)
            for number in range(3):
                port = client.new_port(**{"binding:vnic_type": "baremetal"})
                client.update_port(
                    port,
                    **{
                        "binding:host_id": str(uuid.uuid4()),
                        "binding:profile": link_information(f"Ethernet{number}"),
                        "mac_address": mac_address(),
                    },
                )
                assert client.port(port)["status"] == "ACTIVE"
                client.call("DELETE", f"ports/{port['id']}")

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(life_of_ports, range(10))) == [None] * 10


def test_the_log_complains_of_nothing_but_what_was_wrong(neutron: Neutron) -> None:
    port = neutron.new_port(**{"binding:vnic_type": "baremetal"})
    neutron.update_port(
        port, **{"binding:host_id": str(uuid.uuid4()), "binding:profile": link_information("Ethernet4")}
    )
    text = neutron.log.read_text()
    assert "database is locked" not in text
    assert "Traceback" not in text
    complaints = [line for line in text.splitlines() if " WARNING " in line or " ERROR " in line]
    assert [line for line in complaints if "elsewhere" not in line] == []


def test_networks_of_an_absent_neutron_are_a_lab_error() -> None:
    with pytest.raises(LabError, match="does not answer"):
        lab_neutron.networks(f"http://127.0.0.1:{free_port()}")


def test_it_ends_when_asked_and_comes_back_with_what_it_had(tmp_path: Path) -> None:
    port = free_port()
    first = started(tmp_path, port=port)
    made = lab_neutron.networks(f"http://127.0.0.1:{port}")
    stop([first], grace_s=5)
    assert first.process.returncode == -signal.SIGTERM
    second = started(tmp_path, port=port)
    try:
        assert lab_neutron.networks(f"http://127.0.0.1:{port}") == made
    finally:
        stop([second], grace_s=5)
