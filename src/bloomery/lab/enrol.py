"""The lab's nodes: what they are, and their way into Ironic until they are available."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from bloomery.lab.errors import LabError
from bloomery.lab.model import Image, Kind, LabNode, Options
from bloomery.lab.neutron import PHYSICAL_NETWORK, SWITCHES, LabNetworks
from bloomery.lab.vm import CONSOLE_ADDRESS, CONSOLE_INTERFACE
from bloomery.lab.vm.qemu import DISKS_MIB, HOST_ADDRESS, MEMORY_MIB, Hardware
from bloomery.lab.wait import until

# Ironic's embedded server has ten worker threads and resets what comes beyond a short queue.
_CONNECTIONS = 4
_UUID_NAMESPACE = uuid.UUID("6f1c6f60-2f5a-5f0e-9d7e-6c61622e2e2e")

_SIZES: Mapping[str, dict[str, int]] = {
    "baremetal": {"cpus": 8, "memory_mb": 16384, "local_gb": 100},
    "baremetal.large": {"cpus": 64, "memory_mb": 262144, "local_gb": 1000},
    "baremetal.fake": {"cpus": 8, "memory_mb": 16384, "local_gb": 100},
    "baremetal.vm": {"cpus": 2, "memory_mb": MEMORY_MIB, "local_gb": DISKS_MIB[-1] // 1024},
}


def plan(options: Options) -> tuple[LabNode, ...]:
    """The nodes that a lab of these options has; the same each time.

    Virtual machines boot over virtual media and have a port group over their two NICs, or, every second of them, boot by
    HTTP under UEFI and have none.

    Of every four nodes the second has a GPU, the third a port group over its two NICs, and the fourth (with a BMC) is
    large and boots over virtual media. The others boot from the network: Ironic 39.0.0 switches a node with virtual
    media off as soon as it is rescued (`RedfishVirtualMediaBoot.clean_up_ramdisk`), so only they can be used then.
    """
    return tuple(_plan_one(number, options) for number in range(options.nodes))


def _plan_one(number: int, options: Options) -> LabNode:
    if options.kind is Kind.VM:
        return LabNode(
            uuid=str(uuid.uuid5(_UUID_NAMESPACE, f"node-{number}")),
            name=f"node-{number}",
            kind=Kind.VM,
            boot_interface="redfish-https" if number % 2 else "redfish-virtual-media",
            resource_class="baremetal.vm",
            traits=("CUSTOM_LAB",),
            mac_addresses=_mac_addresses(number),
            has_port_group=not number % 2,
        )
    kind = Kind.REDFISH if number < options.redfish_nodes else Kind.FAKE
    is_large = kind is Kind.REDFISH and number % 4 == 3
    return LabNode(
        uuid=str(uuid.uuid5(_UUID_NAMESPACE, f"node-{number}")),
        name=f"node-{number}",
        kind=kind,
        boot_interface=("redfish-virtual-media" if is_large else "ipxe") if kind is Kind.REDFISH else "fake",
        resource_class="baremetal.fake" if kind is Kind.FAKE else "baremetal.large" if is_large else "baremetal",
        traits=("CUSTOM_GPU", "CUSTOM_LAB") if number % 4 == 1 else ("CUSTOM_LAB",),
        mac_addresses=_mac_addresses(number),
        has_port_group=number % 4 == 2,
    )


def _mac_addresses(number: int) -> tuple[str, ...]:
    return tuple(f"52:54:00:{number >> 8:02x}:{number & 255:02x}:{nic:02x}" for nic in (1, 2))


def enrol(
    nodes: Sequence[LabNode],
    *,
    ironic_url: str,
    bmc_url: str | None,
    serial_port: int | None,
    images: Mapping[str, Image],
    networks: LabNetworks | None,
    timeout_s: float,
    machines: Mapping[str, Hardware] | None = None,
) -> None:
    """Every node is in Ironic with its ports and traits, available, and its power state is known.

    Cleaning is left out this once: the disks are new.

    Args:
        machines: of the nodes that are virtual machines, by their uuids, what they are made of.
    """
    ironic = _Ironic(ironic_url)
    hardware = machines or {}
    ironic.in_parallel(
        lambda node: _create(
            ironic,
            node,
            bmc_url=bmc_url,
            serial_port=serial_port,
            images=images,
            networks=networks,
            machine=hardware.get(node.uuid),
        ),
        nodes,
    )
    ironic.in_parallel(lambda node: ironic.set_provision_state(node, "manage"), nodes)
    ironic.wait(nodes, "provision_state", "manageable", timeout_s=timeout_s)
    # Fake hardware has no power state until it is given one, and Nova takes such a node for unusable.
    fakes = [node for node in nodes if node.kind is Kind.FAKE]
    ironic.in_parallel(
        lambda node: ironic.call("PUT", f"nodes/{node.uuid}/states/power", {"target": "power off"}), fakes
    )
    ironic.wait(nodes, "power_state", "power off", timeout_s=timeout_s)
    ironic.in_parallel(lambda node: ironic.set_provision_state(node, "provide"), nodes)
    ironic.wait(nodes, "provision_state", "available", timeout_s=timeout_s)
    # Null is the conductor's setting again; Ironic 39.0.0 answers 500 to `remove` here.
    default_cleaning = [{"op": "replace", "path": "/automated_clean", "value": None}]
    ironic.in_parallel(lambda node: ironic.call("PATCH", f"nodes/{node.uuid}", default_cleaning), nodes)


def _create(
    ironic: "_Ironic",
    node: LabNode,
    *,
    bmc_url: str | None,
    serial_port: int | None,
    images: Mapping[str, Image],
    networks: LabNetworks | None,
    machine: Hardware | None,
) -> None:
    driver_info: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    if node.kind is not Kind.FAKE:
        driver_info |= {"redfish_address": bmc_url, "redfish_system_id": f"/redfish/v1/Systems/{node.uuid}"}
        if not machine:
            # The serial line, which Redfish has no word for, goes by IPMI; there the machine is known by its UUID.
            driver_info |= {"ipmi_address": "127.0.0.1", "ipmi_port": serial_port, "ipmi_username": node.uuid}
        agent = (
            {"kernel": images["agent-kernel"].url, "ramdisk": images["agent-ramdisk"].url}
            if machine
            else {"iso": images["agent-iso"].url}
            if node.boot_interface == "redfish-virtual-media"
            else {"kernel": images["kernel"].url, "ramdisk": images["ramdisk"].url}
        )
        driver_info |= {f"{use}_{part}": url for use in ("deploy", "rescue") for part, url in agent.items()}
    if machine:
        driver_info |= _of_machine(machine, images)
        properties |= {"root_device": {"serial": machine.disks[-1]}}
    if networks:
        driver_info |= {
            "provisioning_network": networks.provisioning,
            "cleaning_network": networks.cleaning,
            "rescuing_network": networks.rescuing,
        }
    ironic.call(
        "POST",
        "nodes",
        {
            "uuid": node.uuid,
            "name": node.name,
            "driver": "fake-hardware" if node.kind is Kind.FAKE else "redfish",
            "driver_info": driver_info,
            "resource_class": node.resource_class,
            "properties": {
                **_SIZES[node.resource_class],
                "cpu_arch": "x86_64",
                "capabilities": "boot_mode:uefi",
                **properties,
            },
            "automated_clean": False,
            "boot_interface": node.boot_interface,
            **({"console_interface": "ipmitool-socat"} if node.kind is Kind.REDFISH else {}),
            **({"console_interface": CONSOLE_INTERFACE} if machine else {}),
            **({f"{name}_interface": "fake" for name in _FAKE_INTERFACES} if node.kind is Kind.FAKE else {}),
        },
    )
    ironic.call("PUT", f"nodes/{node.uuid}/traits", {"traits": list(node.traits)})
    bond = {}
    if node.has_port_group:
        bond = {"portgroup_uuid": str(uuid.uuid5(uuid.UUID(node.uuid), "bond0"))}
        ironic.call(
            "POST",
            "portgroups",
            {
                "uuid": bond["portgroup_uuid"],
                "node_uuid": node.uuid,
                "name": f"{node.name}-bond0",
                "address": node.mac_addresses[0],
                # The virtual machines' NICs end in a hub, which knows nothing of bonds.
                **(
                    {"mode": "active-backup", "properties": {"miimon": "100"}}
                    if machine
                    else {"mode": "802.3ad", "properties": {"miimon": "100", "xmit_hash_policy": "layer3+4"}}
                ),
                # The deploy agent boots from one of the NICs, before there is a bond.
                "standalone_ports_supported": True,
            },
        )
    # One NIC in each switch, as in a rack that survives the loss of one.
    for number, (mac_address, switch) in enumerate(zip(node.mac_addresses, SWITCHES, strict=True)):
        ironic.call(
            "POST",
            "ports",
            {
                "node_uuid": node.uuid,
                "name": f"{node.name}-nic{number}",
                "address": mac_address,
                "pxe_enabled": True,
                "physical_network": PHYSICAL_NETWORK,
                "local_link_connection": switch.link(f"Ethernet{node.name.removeprefix('node-')}"),
                **bond,
            },
        )


def _of_machine(machine: Hardware, images: Mapping[str, Image]) -> dict[str, Any]:
    """What Ironic has to know of a virtual machine: how to boot the agent there, and how both reach each other."""
    images_url = images["boot-loader"].url.rpartition("/")[0]
    return {
        "bootloader": images["boot-loader"].url,
        "kernel_append_params": (
            # Emulated by a busy machine, a timer ticks too late for the kernel's test of it, which ends in a panic.
            f"no_timer_check console=ttyS0,115200 ipa-advertise-host=127.0.0.1 ipa-advertise-port={machine.agent_port} "
            # Ten tries, the agent's usual, are for networks that are worse than a loopback; it takes a full disk for one, too.
            "ipa-image-download-connection-retries=1"
        ),
        # To the agent the image server's loopback is not its own; it asks for images by way of the machine below.
        "image_http_proxy": images_url.replace("127.0.0.1", HOST_ADDRESS),
        CONSOLE_ADDRESS: f"tcp://127.0.0.1:{machine.serial_port}",
    }


_FAKE_INTERFACES = ("deploy", "management", "power", "rescue")


class _Ironic:
    """As much of Ironic's API as enrolment needs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        newest = self._session.get(f"{url}/v1", timeout=30).headers["X-OpenStack-Ironic-API-Maximum-Version"]
        self._session.headers["X-OpenStack-Ironic-API-Version"] = newest

    def call(self, method: str, path: str, body: object = None) -> Any:
        reply = self._session.request(method, f"{self._url}/v1/{path}", json=body, timeout=60)
        if not reply.ok:
            raise LabError(f"Ironic refused {method} {path} of the lab's nodes: {reply.status_code} {reply.text}")
        return reply.json() if reply.content else None

    def in_parallel(self, action: Callable[[LabNode], object], nodes: Iterable[LabNode]) -> None:
        """The action was done for every node."""
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for _ in pool.map(action, nodes):
                pass

    def set_provision_state(self, node: LabNode, target: str) -> None:
        self.call("PUT", f"nodes/{node.uuid}/states/provision", {"target": target})

    def wait(self, nodes: Sequence[LabNode], attribute: str, value: str, *, timeout_s: float) -> None:
        """Every node's attribute has the value."""
        rows: dict[str, dict[str, Any]] = {}

        def waiting() -> list[LabNode]:
            return [node for node in nodes if rows[node.uuid][attribute] != value]

        def all_have_it() -> bool:
            rows.update(self._rows())
            for node in waiting():
                if rows[node.uuid]["last_error"]:
                    raise LabError(f"{node.name} did not become {value}: {rows[node.uuid]['last_error']}")
            return not waiting()

        def how_far() -> str:
            first = waiting()[0]
            return (
                f"that {len(nodes)} nodes become {value} ({len(waiting())} are not, {first.name} the first of them: it is "
                f"{rows[first.uuid][attribute]})"
            )

        until(all_have_it, what=how_far, timeout_s=timeout_s, poll_s=0.2 + len(nodes) / 1000)

    def _rows(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        marker = ""
        while True:
            page = self.call("GET", f"nodes?fields=uuid,provision_state,power_state,last_error&limit=1000{marker}")[
                "nodes"
            ]
            rows |= {row["uuid"]: row for row in page}
            if len(page) < 1000:
                return rows
            marker = f"&marker={page[-1]['uuid']}"
