"""Which VIF is on which port of a node, and what a linked Neutron is told about it.

Source: ironic drivers/modules/network/{common,flat,neutron}.py and common/neutron.py (39.0).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bloomery.testing.ironic_simulator import machine
from bloomery.testing.ironic_simulator.errors import ApiError, WorkFailed, bad_request, conflict
from bloomery.testing.ironic_simulator.records import PORT, PORTGROUP, Record
from bloomery.testing.ironic_simulator.world import World
from bloomery.testing.neutron_simulator import NeutronError, NeutronSimulator

_VIF = "tenant_vif_port_id"
_UNBOUND = {"binding:host_id": "", "binding:profile": {}}


class Vifs:
    """The network interface of the nodes: `flat`, `neutron`, or `noop`, which remembers nothing."""

    def __init__(self, neutron: NeutronSimulator | None) -> None:
        self._neutron = neutron

    def of(self, world: World, node_uuid: str) -> list[str]:
        """The VIFs that are attached to the node: those on ports, then those on port groups."""
        holders = world.of_node(PORT, node_uuid) + world.of_node(PORTGROUP, node_uuid)
        return [holder["internal_info"][_VIF] for holder in holders if _VIF in holder["internal_info"]]

    def attach(self, world: World, node: Record, wish: Record) -> None:
        """The VIF is on a port or port group of the node."""
        if node["network_interface"] == "noop":
            return
        vif_id = wish["id"]
        physical_networks = self._physical_networks(vif_id)
        holder = self._free_holder(world, node, wish, physical_networks)
        if holder["address"] and self._neutron:
            self._set_mac(vif_id, holder["address"])
        holder["internal_info"][_VIF] = vif_id
        world.touch(holder)
        if not self._neutron:
            return
        if node["provision_state"] == machine.ACTIVE:
            self._plug(world, node, holder)
        else:
            self._seed_host(node, vif_id)

    def detach(self, world: World, node: Record, vif_id: str) -> None:
        """The VIF is not on the node any more."""
        if node["network_interface"] == "noop":
            return
        for holder in world.of_node(PORTGROUP, node["uuid"]) + world.of_node(PORT, node["uuid"]):
            if holder["internal_info"].get(_VIF) == vif_id:
                del holder["internal_info"][_VIF]
                holder["extra"].pop("vif_port_id", None)
                world.touch(holder)
                break
        else:
            raise bad_request(
                f"Unable to detach VIF {vif_id} from node {node['uuid']} because it is not attached to it."
            )
        if node["provision_state"] in (machine.ACTIVE, machine.DELETING, machine.AVAILABLE):
            self._unbind(vif_id)

    def detach_all(self, world: World, node: Record) -> None:
        """No VIF is on the node."""
        for vif_id in self.of(world, node["uuid"]):
            self.detach(world, node, vif_id)

    def wire(self, world: World, node: Record) -> None:
        """Every VIF of the node is bound to it; a conductor's work fails if there is none."""
        if node["network_interface"] == "noop" or not self._neutron:
            return
        holders = world.of_node(PORT, node["uuid"]) + world.of_node(PORTGROUP, node["uuid"])
        used = [holder for holder in holders if _VIF in holder["internal_info"]]
        if not used:
            raise WorkFailed(
                f"Failed to bind any flat network ports for node {node['uuid']}"
                if node["network_interface"] == "flat"
                else f"No neutron ports or portgroups are associated with node {node['uuid']}"
            )
        for holder in used:
            try:
                self._plug(world, node, holder)
            except ApiError as error:
                raise WorkFailed(error.message) from error

    def unwire(self, world: World, node: Record) -> None:
        """No VIF of the node is bound; they stay attached."""
        if node["network_interface"] == "noop":
            return
        for vif_id in self.of(world, node["uuid"]):
            try:
                self._unbind(vif_id)
            except ApiError as error:
                raise WorkFailed(error.message) from error

    def move_mac(self, holder: Record, address: str | None) -> None:
        """The VIF on a port or port group has the MAC address that the port got."""
        vif_id = holder["internal_info"].get(_VIF)
        if vif_id and address and self._neutron:
            try:
                self._set_mac(vif_id, address)
            except ApiError:
                raise ApiError(500, f"Update MAC address on port: {vif_id} failed.") from None

    def current(self, holder: Record) -> str | None:
        """The VIF on a port or port group."""
        vif_id: str | None = holder["internal_info"].get(_VIF)
        return vif_id

    def _physical_networks(self, vif_id: str) -> set[str]:
        if not self._neutron:
            return set()
        try:
            return self._neutron.physical_networks_of(vif_id)
        except NeutronError:
            raise bad_request(f"Neutron port {vif_id} was not found") from None

    def _free_holder(self, world: World, node: Record, wish: Record, physical_networks: set[str]) -> Record:
        """The best free port or port group for the VIF: its physical network first, then groups, then PXE."""
        vif_id, port_uuid, group_uuid = wish["id"], wish.get("port_uuid"), wish.get("portgroup_uuid")
        free: list[Record] = []
        members: dict[str | None, list[Record]] = defaultdict(list)
        split_groups: set[str | None] = set()
        for port in world.of_node(PORT, node["uuid"]):
            if port_uuid and port_uuid != port["uuid"]:
                continue
            if node["network_interface"] == "neutron" and not port["local_link_connection"]:
                continue
            if self._is_taken(port, vif_id, "Port"):
                split_groups.add(port["portgroup_uuid"])
                continue
            if physical_networks and port["physical_network"] not in {None, *physical_networks}:
                continue
            if port["portgroup_uuid"] is None and not group_uuid:
                free.append(port)
            else:
                members[port["portgroup_uuid"]].append(port)
        for group in world.of_node(PORTGROUP, node["uuid"]) if not port_uuid else ():
            if (group_uuid and group_uuid != group["uuid"]) or self._is_taken(group, vif_id, "Portgroup"):
                continue
            if group["uuid"] in split_groups:
                if not group_uuid:
                    free.extend(members[group["uuid"]])
            elif members[group["uuid"]]:
                free.append(group)
        if not free:
            raise bad_request(f"Unable to attach VIF {vif_id}, not enough free physical ports.")

        def preference(holder: Record) -> tuple[bool, bool, bool]:
            is_group = "mode" in holder
            network = members[holder["uuid"]][0]["physical_network"] if is_group else holder["physical_network"]
            return network in physical_networks, is_group, True if is_group else holder["pxe_enabled"]

        return max(free, key=preference)

    def _is_taken(self, holder: Record, vif_id: str, kind: str) -> bool:
        attached = holder["internal_info"].get(_VIF)
        if attached == vif_id:
            raise conflict(
                f"Unable to attach VIF because VIF {vif_id} is already attached to Ironic {kind} {holder['uuid']}"
            )
        return attached is not None

    def _update(self, vif_id: str, **changes: Any) -> None:
        if self._neutron is None:
            return
        try:
            self._neutron.update("ports", vif_id, changes)
        except NeutronError as error:
            if error.status == 404:
                raise ApiError(500, f"No Port found for {vif_id}") from None
            raise ApiError(500, error.message) from None

    def _set_mac(self, vif_id: str, address: str) -> None:
        port = self._neutron.port(vif_id) if self._neutron else None
        if port is None:
            return
        try:
            if port["binding:host_id"]:
                self._unbind(vif_id)
            self._update(vif_id, mac_address=address)
            if port["binding:host_id"]:
                self._update(
                    vif_id,
                    **{"binding:host_id": port["binding:host_id"], "binding:profile": port["binding:profile"]},
                )
        except ApiError:
            raise ApiError(
                500,
                f"Unable to attach VIF {vif_id} because Ironic can not update Neutron port {vif_id} MAC address to "
                f"match physical MAC address {address}",
            ) from None

    def _seed_host(self, node: Record, vif_id: str) -> None:
        port = self._neutron.port(vif_id) if self._neutron else None
        if port and port["binding:host_id"]:
            self._unbind(vif_id)
        self._update(
            vif_id,
            **{"binding:vnic_type": "baremetal", "binding:host_id": node["uuid"], "binding:profile": {}},
        )

    def _plug(self, world: World, node: Record, holder: Record) -> None:
        vif_id = holder["internal_info"][_VIF]
        changes: dict[str, Any] = {"binding:host_id": node["uuid"], "binding:vnic_type": "baremetal"}
        if node["network_interface"] == "neutron":
            members = [p for p in world.of_node(PORT, node["uuid"]) if p["portgroup_uuid"] == holder["uuid"]]
            changes["binding:profile"] = {
                "local_link_information": [port["local_link_connection"] for port in members or [holder]]
            }
        port = self._neutron.port(vif_id) if self._neutron else None
        if holder["address"] and port and port["mac_address"] != holder["address"]:
            self._unbind(vif_id)
            changes["mac_address"] = holder["address"]
        try:
            self._update(vif_id, **changes)
        except ApiError as error:
            words = (
                "Unable to set binding:host_id for neutron port"
                if node["network_interface"] == "flat"
                else "Could not add public network VIF"
            )
            raise ApiError(500, f"{words} {vif_id}. Error: {error.message}") from None

    def _unbind(self, vif_id: str) -> None:
        """The Neutron port is bound nowhere and has a MAC address of its own again; one that is gone is no matter."""
        if self._neutron is None or self._neutron.port(vif_id) is None:
            return
        self._update(vif_id, **_UNBOUND)
        self._update(vif_id, mac_address=None)
