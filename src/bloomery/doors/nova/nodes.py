"""Which nodes are this compute service's, and what Nova is told of each. Over the fleet: nothing is looked up by scanning."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from nova import context as nova_context
from nova import exception, objects, servicegroup, utils
from nova.compute import power_state
from nova.objects import fields as obj_fields
from oslo_concurrency import lockutils
from tooz import hashring

from bloomery.deadline import Deadline
from bloomery.doors.nova.config import CONF, Connection, options, quick_timeout_s
from bloomery.doors.nova.serving import Serving
from bloomery.errors import BloomeryError, NodeNotFound, ServiceUnavailable
from bloomery.fleet import Fleet, Outline, Wanted, why_not
from bloomery.ironic import Feature, Ironic, Node
from bloomery.operations import recover
from bloomery.operations.run import NOVA, as_mapping, is_managed_by
from bloomery.plain import logger
from bloomery.states import Power

log = logger(__name__)

HYPERVISOR_TYPE = "ironic"
"""Nova treats compute nodes of this type as nodes of Ironic's, in many places."""
HYPERVISOR_VERSION = 1
PARTITIONS = 2**5
"""Of the hash ring, for each compute service; services of one deployment must agree on it."""

POWER_STATES: Mapping[str | None, int] = {
    None: power_state.NOSTATE,
    Power.ON: power_state.RUNNING,
    Power.OFF: power_state.SHUTDOWN,
}
TPM_TRAITS = {"1.2": "COMPUTE_SECURITY_TPM_1_2", "2.0": "COMPUTE_SECURITY_TPM_2_0"}
BOOT_MODE_TRAITS = {"uefi": "COMPUTE_FIRMWARE_UEFI", "bios": "COMPUTE_FIRMWARE_BIOS"}
SECURE_BOOT_TRAIT = "COMPUTE_SECURITY_UEFI_SECURE_BOOT"


def power_state_of(node: Node | Outline | None) -> int:
    """The node's power as Nova counts it; not known where there is no node."""
    return power_state.NOSTATE if node is None else POWER_STATES.get(node.power_state, power_state.NOSTATE)


def lock_of(node_uuid: str) -> Any:
    """Within it nobody else of this service claims the node or sweeps it."""
    return lockutils.lock(f"bloomery-{node_uuid}")


# Whose


@dataclass
class Scope:
    """Which nodes may be this service's at all: `[ironic]` shard and conductor_group.

    Attributes:
        conductor_group: None means any.
        shard: None means any.
        instance_uuids: this service's instances, whose nodes are its own wherever they have been moved to.
    """

    conductor_group: str | None
    shard: str | None
    instance_uuids: set[str] = field(default_factory=set)

    @classmethod
    def of_conf(cls) -> Scope:
        """As nova.conf says now: the conductor group may be changed while the service runs."""
        return cls(CONF.ironic.conductor_group, CONF.ironic.shard or None)

    @property
    def filters(self) -> dict[str, str | bool]:
        """The same for Ironic."""
        wanted = {"conductor_group": self.conductor_group, "shard": self.shard}
        return {name: value for name, value in wanted.items() if value is not None}

    def has(self, node: Node) -> bool:
        """Whether the node is within it."""
        if node.instance_uuid in self.instance_uuids:
            return True
        return (
            self.conductor_group is None or (node.conductor_group or "").lower() == self.conductor_group.lower()
        ) and (self.shard is None or node.shard == self.shard)


def peers(scope: Scope, servicegroup_api: Any) -> set[str]:
    """The live compute services that share the nodes of the scope, this one among them, in lower case.

    Raises:
        InvalidPeerList: nova.conf names the peers of a conductor group, and not this service.
    """
    only: set[str] | None = None
    if scope.shard:
        only = {CONF.host.lower()}
    elif scope.conductor_group is not None:
        only = {host.lower() for host in CONF.ironic.peer_list}
        if CONF.host.lower() not in only:
            log.error("[ironic]peer_list does not name this compute service (%s)", CONF.host)
            raise exception.InvalidPeerList(host=CONF.host)
    services = objects.ServiceList.get_all_computes_by_hv_type(nova_context.get_admin_context(), HYPERVISOR_TYPE)
    alive = {
        service.host.lower()
        for service in services
        if (only is None or service.host.lower() in only) and servicegroup_api.service_is_up(service)
    }
    return alive | {CONF.host.lower()}


class _Shares:
    """Which free nodes are this service's, among those that share them: a ring of hashes tells, and its answers are kept.

    Args:
        hosts: the compute services, in lower case.
    """

    def __init__(self, hosts: set[str]) -> None:
        self.hosts = hosts
        self._ring = hashring.HashRing(hosts, partitions=PARTITIONS)
        self._is_ours: dict[str, bool] = {}

    def has(self, node_uuid: str) -> bool:
        """Whether the node is this service's."""
        is_ours = self._is_ours.get(node_uuid)
        if is_ours is None:
            is_ours = self._is_ours[node_uuid] = CONF.host.lower() in self._ring.get_nodes(node_uuid.encode())
        return is_ours


class Nodes:
    """The nodes that this compute service manages. Safe to share between threads.

    Args:
        connection: to Ironic.
        on_power_change: told of an instance whose power somebody else has changed, and whether it is on now.
    """

    def __init__(
        self, connection: Connection, on_power_change: Callable[[str, bool], None] = lambda _uuid, _is_on: None
    ) -> None:
        self.connection = connection
        self.on_power_change = on_power_change
        self.servicegroup_api = servicegroup.API()
        self.scope = Scope.of_conf()
        self.serving = Serving()
        self._fleet = Fleet(self.scope.has, packed=True)
        self._shares: _Shares | None = None
        self._managed: frozenset[str] = frozenset()
        self._was_read_at: float | None = None
        self._refreshing = threading.Lock()
        self._told: dict[str, Collection[str]] = {}
        self._our_traits: dict[str, frozenset[str]] = {}
        # The few sets of traits that there are, each once for all nodes that have it.
        self._sets_of_traits: dict[frozenset[str], frozenset[str]] = {}

    @property
    def ironic(self) -> Ironic:
        """Ironic, for something quick."""
        services = self.connection.services
        quick = Deadline(quick_timeout_s(), outage_s=quick_timeout_s(), patience=services.patience)
        return services.ironic.within(quick)

    # Refreshing

    def refresh(self) -> frozenset[str]:
        """The UUIDs of the nodes that are this service's now.

        Raises:
            BloomeryError: Ironic could not be asked; what was known stays.
            VirtDriverNotReady: it shows so few nodes that it is not believed.
        """
        with self._refreshing:
            before = {outline.uuid: outline for outline in self._fleet.outlines}
            # Whose power we may have changed ourselves is not among those that somebody else has.
            undoubted = {uuid: node for uuid, node in before.items() if not self._fleet.is_doubted(uuid)}
            self._read(before)
            context = nova_context.get_admin_context()
            # After the list of nodes, which takes long: instances that were built meanwhile are known then.
            ours = set(objects.InstanceList.get_uuids_by_host(context, CONF.host))
            self._find_missing(ours)
            shares = self._shares_of(peers(self.scope, self.servicegroup_api))
            after = self._fleet.outlines
            orphans = self._orphans(context, after, ours)
            self._managed = frozenset(
                node.uuid
                for node in after
                if (node.instance_uuid in ours)
                or (node.instance_uuid in orphans)
                or (node.instance_uuid is None and shares.has(node.uuid))
            )
            for instance_uuid, is_on in _power_changes(undoubted, after, ours):
                self.on_power_change(instance_uuid, is_on)
            for node in after:
                if node.is_marked and node.instance_uuid is None and node.uuid in self._managed:
                    self._sweep(node.uuid)
            return self._managed

    def _shares_of(self, hosts: set[str]) -> _Shares:
        """Which free nodes are whose; asked for anew only where the services that share them are others than before."""
        if self._shares is None or self._shares.hosts != hosts:
            self._shares = _Shares(hosts)
        return self._shares

    def _sweep(self, node_uuid: str) -> None:
        """The node does not show any more which server it carried last: Ironic did not let go of that while it cleaned."""
        seen = self._fleet.node(node_uuid)
        if seen is None or not (is_managed_by(NOVA, seen.any_mark) and recover.is_leftover(seen)):
            return
        with lock_of(node_uuid):
            try:
                node = self._fleet.look(self.ironic, node_uuid)
                if recover.is_leftover(node):
                    recover.sweep(self.connection.services, node, options())
                    self.doubt(node_uuid)
            except BloomeryError as problem:
                log.info("node %s is swept later: %s", node_uuid, problem)

    def _read(self, before: Mapping[str, Outline]) -> None:
        """The fleet is up to date: by what has changed, or by the whole list where that is due."""
        scope = Scope.of_conf()
        ironic = self.ironic
        if scope.shard:
            ironic.features.need(Feature.SHARDS)
        is_same = (scope.conductor_group, scope.shard) == (self.scope.conductor_group, self.scope.shard)
        now = time.monotonic()
        if is_same and self._was_read_at is not None and now - self._was_read_at < CONF.bloomery.full_list_interval:
            self._fleet.refresh(ironic)
            return
        if not is_same:
            self.scope.conductor_group, self.scope.shard = scope.conductor_group, scope.shard
        fleet = self._fleet if is_same else Fleet(self.scope.has, packed=True)
        fleet.read(ironic, self.scope.filters, accept=lambda known: _refuse_loss(before if is_same else {}, known))
        self._fleet, self._was_read_at = fleet, now
        self.serving.ask(self.connection.services)

    def _find_missing(self, ours: set[str]) -> None:
        """The nodes of our instances are known, also those that were moved to another shard or conductor group."""
        self.scope.instance_uuids = ours
        if not self.scope.filters:
            return
        missing = {uuid for uuid in ours if self._fleet.outline_of(uuid) is None}
        if not missing:
            return
        for node in self.ironic.nodes({"associated": True}, fields=("uuid", "instance_uuid")):
            if node.instance_uuid in missing:
                self._fleet.look(self.ironic, node.uuid)

    def _orphans(self, context: Any, nodes: Collection[Outline], ours: set[str]) -> set[str]:
        """The instances that this service deployed and that Nova has deleted, or never heard of."""
        strange = [node for node in nodes if node.instance_uuid is not None and node.instance_uuid not in ours]
        marked = {
            node.instance_uuid
            for node in (self._fleet.node(outline.uuid) for outline in strange)
            if node is not None and node.instance_uuid is not None and _was_deployed_here(node)
        }
        if not marked:
            return set()
        living = objects.InstanceList.get_by_filters(context, {"uuid": sorted(marked), "deleted": False})
        return marked - {instance.uuid for instance in living}

    # Asking

    def node(self, node_uuid: str) -> Node:
        """The node as it was seen last, or now where somebody has done something with it since.

        Raises:
            NodeNotFound: Ironic shows no such node.
        """
        return self.seen_lately(node_uuid) or self._fleet.look(self.ironic, node_uuid)

    def node_of(self, instance_uuid: str, *, fresh: bool = False) -> Node | None:
        """The node that carries the instance, if any does."""
        known = self._fleet.node_of(instance_uuid)
        if known is not None and not fresh and not self._fleet.is_doubted(known.uuid):
            return known
        if known is not None:
            try:
                now = self._fleet.look(self.ironic, known.uuid)
            except NodeNotFound:
                now = None
            if now is not None and now.instance_uuid == instance_uuid:
                return now
        return self.ironic.node_of(instance_uuid)

    def power_of(self, instance_uuid: str, *, fresh: bool = False) -> int:
        """The power of the node that carries the instance, as Nova counts it; not known where no node does, or Ironic is away."""
        known = self._fleet.outline_of(instance_uuid)
        if known is not None and not fresh and not self._fleet.is_doubted(known.uuid):
            return power_state_of(known)
        try:
            return power_state_of(self.node_of(instance_uuid, fresh=fresh))
        except BloomeryError as problem:
            log.warning("the power of server %s is not known: %s", instance_uuid, problem)
            return power_state_of(None)

    def seen_lately(self, node_uuid: str) -> Node | None:
        """The node as it was seen last, unless somebody has done something with it since."""
        return None if self._fleet.is_doubted(node_uuid) else self._fleet.node(node_uuid)

    def saw(self, node: Node) -> None:
        """The node is known as an operation has just left it."""
        self._fleet.saw(node)

    def doubt(self, node_uuid: str | None) -> None:
        """What is known of the node may be out of date: we have done something with it."""
        if node_uuid is not None:
            self._fleet.doubt(node_uuid)

    def exists(self, node_uuid: str) -> bool:
        """Whether Ironic has the node."""
        return self._fleet.has(node_uuid) or self._is_shown(node_uuid)

    def _is_shown(self, node_uuid: str) -> bool:
        """Whether Ironic shows the node now; that it does not is believed only when it has said so twice."""
        try:
            self.ironic.node(node_uuid, fields=("uuid",))
        except NodeNotFound:
            return False
        return True

    def is_deleted(self, node_uuid: str) -> bool:
        """Whether Ironic has it no more: not if it shows no node at all, nor while one of our instances is said to be there."""
        if self._is_shown(node_uuid):
            return False
        context = nova_context.get_admin_context()
        if objects.InstanceList.get_by_host_and_node(context, CONF.host, node_uuid):
            log.error("node %s, with an instance of ours, is not shown by Ironic; not taken for deleted", node_uuid)
            return False
        if next(iter(self.ironic.nodes(fields=("uuid",), page=1)), None) is None:
            log.error("Ironic shows no node at all; node %s is not taken for deleted", node_uuid)
            return False
        return True

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet."""
        return self._was_read_at is None

    def instance_uuids(self) -> list[str]:
        """The instances on the nodes that are ours."""
        if self.is_empty:
            self.refresh()
        managed = self._managed
        return [
            node.instance_uuid
            for node in self._fleet.outlines
            if node.instance_uuid is not None and node.uuid in managed
        ]

    # Telling Nova

    def resource(self, node: Node) -> dict[str, Any]:
        """The node for the table of compute nodes. What can be had of it is in Placement."""
        arch = node.properties.get("cpu_arch")
        return {
            "uuid": node.uuid,
            "hypervisor_hostname": node.uuid,
            "hypervisor_type": HYPERVISOR_TYPE,
            "hypervisor_version": HYPERVISOR_VERSION,
            "resource_class": node.resource_class,
            "cpu_info": None,
            "vcpus": 0,
            "vcpus_used": 0,
            "local_gb": 0,
            "local_gb_used": 0,
            "disk_available_least": 0,
            "memory_mb": 0,
            "memory_mb_used": 0,
            "supported_instances": self._supported(node, arch),
            # The uptime is not known; where a node does not say so, Nova's API asks nova-compute for it, node by node.
            "stats": {"uptime": None, "cpu_arch": arch, **_split_capabilities(node)},
            "numa_topology": None,
        }

    def _supported(self, node: Node, arch: Any) -> list[tuple[str, str, str]]:
        try:
            canonical = obj_fields.Architecture.canonicalize(arch)
        except exception.InvalidArchitectureName:
            canonical = None
        if not canonical:
            self._tell_once(node, "architecture", (f"properties.cpu_arch is {arch!r}, which is no architecture",))
            return []
        return [(canonical, obj_fields.HVType.BAREMETAL, obj_fields.VMMode.HVM)]

    def update_provider(self, provider_tree: Any, node: Node) -> None:
        """Placement is told of the node: one of its class, free or reserved, and its traits; traits of others stay."""
        its_own = node.instance_uuid if CONF.workarounds.skip_reserve_in_use_ironic_nodes else None
        taken = why_not(node, Wanted(), instance_uuid=its_own)
        unserved = self.serving.unserved(node)
        # An operation that is under way has its node locked, and that is as it should be.
        held = () if taken else self.serving.held(node)
        self._tell_once(node, "out of service", (*_out_of_service(node), *unserved, *held))
        reserved = bool(taken or unserved or held)
        known = provider_tree.data(node.uuid)
        resource_class = utils.normalize_rc_name(node.resource_class) if node.resource_class else None
        if resource_class is None:
            self._tell_once(
                node, "resource class", ("it has no resource class, so that nothing can be scheduled to it",)
            )
            inventory = {name: {**record, "reserved": record["total"]} for name, record in known.inventory.items()}
        else:
            self._tell_once(node, "resource class", ())
            inventory = {
                resource_class: {
                    "total": 1,
                    "reserved": int(reserved),
                    "min_unit": 1,
                    "max_unit": 1,
                    "step_size": 1,
                    "allocation_ratio": 1.0,
                }
            }
        provider_tree.update_inventory(node.uuid, inventory)
        ours = frozenset(traits_of(node))
        ours = self._sets_of_traits.setdefault(ours, ours)
        former = self._our_traits.get(node.uuid, frozenset())
        provider_tree.update_traits(node.uuid, (set(known.traits) - former) | ours)
        self._our_traits[self._fleet.key_of(node)] = ours

    def _tell_once(self, node: Node, about: str, reasons: Collection[str]) -> None:
        """The log says why, when that changes, and not every minute."""
        key = f"{about} {node.uuid}"
        if tuple(self._told.get(key, ())) != tuple(reasons):
            self._told[key] = tuple(reasons)
            log.warning("node %s: %s: %s", node.label, about, "; ".join(reasons) or "all is well again")


def traits_of(node: Node) -> set[str]:
    """The node's own traits, and what Ironic knows of its firmware in standard ones."""
    traits = set(node.traits or ())
    capabilities = node.capabilities
    boot_mode = node.boot_mode or capabilities.get("boot_mode")
    if boot_mode in BOOT_MODE_TRAITS:
        traits.add(BOOT_MODE_TRAITS[boot_mode])
    if node.secure_boot or capabilities.get("secure_boot", "").lower() == "true":
        traits.add(SECURE_BOOT_TRAIT)
    if capabilities.get("tpm") in TPM_TRAITS:
        traits.add(TPM_TRAITS[capabilities["tpm"]])
    return traits


def _split_capabilities(node: Node) -> dict[str, str]:
    """`properties.capabilities` for the scheduler's ComputeCapabilitiesFilter; what is no "key:value" is left out."""
    pairs = (part.split(":") for part in str(node.properties.get("capabilities") or "").split(","))
    return {pair[0].strip(): pair[1] for pair in pairs if len(pair) == 2 and pair[0] and pair[1]}


def _out_of_service(node: Node) -> tuple[str, ...]:
    """Why nobody can have the node, apart from what passes: an instance on it, or something that Ironic does with it."""
    return why_not(msgspec.structs.replace(node, instance_uuid=None, provision_state="available"), Wanted())


def _was_deployed_here(node: Node) -> bool:
    mark = as_mapping(node.mark)
    if is_managed_by(NOVA, mark):
        return bool(mark.get("by") == CONF.host)
    return bool(node.mark is None and node.instance_info.get("nova_host_id") == CONF.host)


def _refuse_loss(before: Mapping[str, Outline], known: Collection[str]) -> None:
    """So many nodes at once have not been deleted: the credentials see less than they did.

    Raises:
        ServiceUnavailable: says how many.
    """
    lost = before.keys() - set(known)
    if len(lost) > 1 and len(lost) * 100 > CONF.bloomery.node_loss_limit * len(before):
        raise ServiceUnavailable(
            f"Ironic does not show {len(lost)} of {len(before)} nodes any more",
            reason="the service user may have lost its roles",
            advice="If they were deleted, set [bloomery]node_loss_limit to 100 or restart nova-compute",
        )


def _power_changes(
    before: Mapping[str, Outline], after: Collection[Outline], ours: set[str]
) -> Iterator[tuple[str, bool]]:
    """Our instances whose power has changed, and to what; not those where a change is under way."""
    for node in after:
        was = before.get(node.uuid)
        if was is None or was is node or node.instance_uuid not in ours or was.instance_uuid != node.instance_uuid:
            continue
        if node.target_power_state is None and {was.power_state, node.power_state} == {Power.ON, Power.OFF}:
            yield str(node.instance_uuid), node.power_state == Power.ON
