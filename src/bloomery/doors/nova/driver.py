"""Nova's driver: each method translates, calls the core, and translates what the core says. No rule lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast

from nova import context as nova_context
from nova import exception, objects
from nova.compute import power_state, task_states, vm_states
from nova.compute import utils as compute_utils
from nova.objects import external_event
from nova.virt import driver as virt_driver
from nova.virt import event as virt_event
from nova.virt import hardware

from bloomery import errors
from bloomery.doors.nova import consoles, diagnostics, request, startup, tags
from bloomery.doors.nova.config import CONF, Connection, leave_all, options
from bloomery.doors.nova.errors import IMAGE_REFUSED, nova_errors
from bloomery.doors.nova.following import Follower
from bloomery.doors.nova.nodes import Nodes, lock_of
from bloomery.ironic import Node
from bloomery.operations import (
    crash_dump,
    deploy,
    interfaces,
    power,
    rebuild,
    rescue,
    tear_down,
    volumes,
)
from bloomery.operations.run import Services
from bloomery.operations.vifs import Nics
from bloomery.plain import logger
from bloomery.secret import Secret

log = logger(__name__)


class IronicDriver(virt_driver.ComputeDriver):
    """Bare-metal nodes of Ironic as Nova's servers."""

    # What Nova's own driver says, and device tags; the scheduler and the API depend on it.
    capabilities: ClassVar[dict[str, bool]] = {
        "has_imagecache": False,
        "supports_evacuate": False,
        "supports_migrate_to_same_host": False,
        "supports_attach_interface": True,
        "supports_device_tagging": True,
        "supports_tagged_attach_interface": True,
        "supports_multiattach": False,
        "supports_trusted_certs": False,
        "supports_pcpus": False,
        "supports_accelerators": False,
        "supports_remote_managed_ports": False,
        "supports_address_space_passthrough": False,
        "supports_address_space_emulated": False,
        "supports_stateless_firmware": False,
        "supports_virtio_fs": False,
        "supports_mem_backing_file": False,
        "supports_image_type_aki": False,
        "supports_image_type_ami": True,
        "supports_image_type_ari": False,
        "supports_image_type_iso": False,
        "supports_image_type_qcow2": True,
        "supports_image_type_raw": True,
        "supports_image_type_vdi": False,
        "supports_image_type_vhd": False,
        "supports_image_type_vhdx": False,
        "supports_image_type_vmdk": False,
        "supports_image_type_ploop": False,
    }
    rebalances_nodes = True

    def __init__(self, virtapi: Any, read_only: bool = False, *, connection: Connection | None = None) -> None:  # noqa: ARG002
        super().__init__(virtapi)
        self.connection = connection or Connection()
        self.nodes = Nodes(self.connection, self._tell_of_power)
        self.consoles = consoles.Consoles()
        self.interrupted = startup.Interrupted(self.nodes)

    # The service

    def init_host(self, host: str) -> None:  # noqa: ARG002
        """The nodes are known, or Ironic is away and they will be later."""
        try:
            self.get_available_nodes()
        except exception.VirtDriverNotReady:
            log.warning("Ironic cannot be had yet")
        if not hasattr(virt_driver.ComputeDriver, "process_instances_at_startup"):
            self.interrupted.take_up_of_host()

    def cleanup_host(self, host: str) -> None:  # noqa: ARG002
        """Nobody waits any more, as the service is about to end, but for builds: Nova would take their node from them."""
        leave_all()

    def process_instances_at_startup(self, context: Any, instances: Any) -> Any:
        """What was under way when the service stopped is followed to its end; Nova is given the other instances."""
        return self.interrupted.take_up(context, instances)

    @property
    def services(self) -> Services:
        """What operations work on."""
        return self.connection.services

    # Nodes

    def get_available_nodes(self, refresh: bool = False) -> list[str]:  # noqa: ARG002
        """The UUIDs of the nodes that are this service's. On the way unused consoles are stopped, and servers taken up again."""
        with nova_errors(exception.VirtDriverNotReady):
            managed = list(self.nodes.refresh())
            self.consoles.stop_idle(self.services)
            self.interrupted.take_up_rest()
            return managed

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:  # noqa: ARG002
        """The same, and no more, for Nova asks for them while it starts; a node's name is its UUID."""
        with nova_errors(exception.VirtDriverNotReady):
            return {node_uuid: node_uuid for node_uuid in self.nodes.refresh()}

    def node_is_available(self, nodename: str) -> bool:
        """Whether Ironic has the node."""
        with nova_errors(exception.VirtDriverNotReady):
            return self.nodes.exists(nodename)

    def is_node_deleted(self, nodename: str) -> bool:
        """Whether Ironic has it no more, as far as it can be believed."""
        with nova_errors(exception.VirtDriverNotReady):
            return self.nodes.is_deleted(nodename)

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """The node for the table of compute nodes."""
        with nova_errors():
            return self.nodes.resource(self.nodes.node(nodename))

    def get_host_uptime(self) -> None:
        """None: a machine has no hypervisor, and Ironic does not know since when its system runs."""

    def update_provider_tree(self, provider_tree: Any, nodename: str, allocations: Any = None) -> None:  # noqa: ARG002
        """Placement is told of the node."""
        with nova_errors():
            self.nodes.update_provider(provider_tree, self.nodes.node(nodename))

    # Instances

    def list_instance_uuids(self) -> list[str]:
        """The instances on our nodes, also those that Nova has deleted meanwhile."""
        with nova_errors(exception.VirtDriverNotReady):
            return self.nodes.instance_uuids()

    def list_instances(self) -> list[str]:
        """Their names."""
        context = nova_context.get_admin_context(read_deleted="yes")
        found = objects.InstanceList.get_by_filters(context, {"uuid": self.list_instance_uuids()})
        return [instance.name for instance in found]

    def get_num_instances(self) -> int:
        """How many they are."""
        return len(self.list_instance_uuids())

    def instance_exists(self, instance: Any) -> bool:
        """Whether a node carries the instance."""
        with nova_errors(exception.VirtDriverNotReady):
            return self.nodes.node_of(instance.uuid, fresh=True) is not None

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        """The instance's power state; not known while Ironic is away."""
        return hardware.InstanceInfo(state=self.nodes.power_of(instance.uuid, fresh=not use_cache))

    def get_diagnostics(self, instance: Any) -> dict[str, Any]:
        """What Ironic knows of the machine."""
        with nova_errors():
            return diagnostics.plain(self.services, self._node(instance))

    def get_instance_diagnostics(self, instance: Any) -> Any:
        """The same in Nova's form."""
        with nova_errors():
            return diagnostics.of_instance(self.services, self._node(instance), instance)

    # Deploy and tear down

    def prepare_for_spawn(self, instance: Any) -> None:
        """The node carries the instance; or another node has to be found.

        Within the time of a deploy: where many are built at once, they wait for connections and for each other.
        """
        if not instance.node:
            raise exception.NovaException(f"no node was chosen for server {instance.uuid}")
        elsewhere = (errors.Conflict, errors.NotFound, errors.OperationTimedOut, errors.NodeTakenAway)
        also = dict.fromkeys(elsewhere, exception.ComputeResourcesUnavailable)
        with nova_errors(exception.InstanceDeployFailure, also=also), self._changing(instance), lock_of(instance.node):
            wanted, how = request.claim_request(instance), options(CONF.bloomery.deploy_timeout)
            seen, claim_s = self.nodes.seen_lately(instance.node), float(CONF.bloomery.claim_timeout)
            node = deploy.claim(self.services, wanted, how, seen=seen, claim_timeout_s=claim_s)
        self.nodes.saw(node)

    def prepare_networks_before_block_device_mapping(self, instance: Any, network_info: Any) -> None:
        """The instance's VIFs are plugged, within the time of a deploy: where many are built at once they wait for each other."""
        with nova_errors(exception.VirtualInterfacePlugException), self._changing(instance):
            claimed = self._claimed(instance)
            on = self._nics_by_tag(claimed, tags.tags_of(instance)) if network_info else {}
            wanted = request.plug_request(instance, network_info, on)
            node = deploy.plug(self.services, claimed, wanted, options(CONF.bloomery.deploy_timeout))
        self.nodes.saw(node)

    def clean_networks_preparation(self, instance: Any, network_info: Any) -> None:
        """None of them is plugged."""
        self.unplug_vifs(instance, network_info)

    def failed_spawn_cleanup(self, instance: Any) -> None:
        """Nothing of the instance is on its node."""
        self.destroy(None, instance, None)

    def spawn(
        self,
        context: Any,  # noqa: ARG002
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,  # noqa: ARG002
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,  # noqa: ARG002
    ) -> None:
        """The instance runs on its node."""
        follower = Follower(instance)
        how = follower.options()
        with _deploy_errors(), self._changing(instance):
            node = self._claimed(instance)
            nics = deploy.plugged(self.services, node, request.vif_ids(network_info), how)
            info = self._instance_info(instance, image_meta, network_info, node, block_device_info)
            guest = self._guest(instance, node, nics, network_info, injected_files, admin_password, block_device_info)
            request.default_ephemeral_device(instance)
            wanted = request.spawn_request(instance, info, guest, network_info, block_device_info)
            running = deploy.spawn(self.services, node, wanted, how)
            if not power_on:
                power.power_off(self.services, running, options(CONF.bloomery.power_timeout))

    def rebuild(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,  # noqa: ARG002
        bdms: Any,
        detach_block_devices: Any,  # noqa: ARG002
        attach_block_devices: Any,  # noqa: ARG002
        network_info: Any = None,
        evacuate: bool = False,  # noqa: ARG002
        block_device_info: Any = None,
        preserve_ephemeral: bool = False,
        accel_uuids: Any = None,  # noqa: ARG002
        reimage_boot_volume: bool = False,
    ) -> None:
        """The instance runs the image, on the same node."""
        # API 2.93 asks for this of every server; only one that boots from a volume has one.
        if reimage_boot_volume and compute_utils.is_volume_backed_instance(context, instance, bdms):
            refusal = exception.NovaException("Bare-metal servers that boot from a volume cannot be rebuilt.")
            raise exception.InstanceFaultRollback(inner_exception=refusal)
        instance.task_state = task_states.REBUILD_SPAWNING
        instance.save(expected_task_state=[task_states.REBUILDING])
        follower = Follower(instance)
        how = follower.options(leavable=True)
        with _deploy_errors(), self._changing(instance) as node:
            info = self._instance_info(
                instance, image_meta, network_info, node(), block_device_info, preserve_ephemeral=preserve_ephemeral
            )
            ironic = self.nodes.ironic
            nics = Nics(ironic.ports(node().uuid), ironic.port_groups(node().uuid))
            guest = self._guest(instance, node(), nics, network_info, injected_files, admin_password, block_device_info)
            rebuild.rebuild(self.services, node(), request.rebuild_request(info, guest), how)

    def destroy(
        self,
        context: Any,  # noqa: ARG002
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,  # noqa: ARG002
        destroy_secrets: bool = True,  # noqa: ARG002
    ) -> None:
        """The instance is gone, and all that was plugged, added and written for it; its node is being cleaned, or free."""
        belongings = request.belongings(network_info, block_device_info)
        with nova_errors(exception.InstanceTerminationFailure), self._changing(instance):
            node = self._find(instance) or self._last_node(instance)
            if node is None:
                log.info("no node carries server %s", instance.uuid)
                return
            self.nodes.doubt(node.uuid)
            self.consoles.stop_for_good(self.services, instance, node)
            how = options(CONF.bloomery.tear_down_timeout, leavable=True)
            tear_down.destroy(self.services, node, instance.uuid, how, belongings=belongings, is_fresh=True)

    # Power

    def power_on(
        self,
        context: Any,  # noqa: ARG002
        instance: Any,
        network_info: Any,  # noqa: ARG002
        block_device_info: Any = None,  # noqa: ARG002
        accel_info: Any = None,  # noqa: ARG002
        share_info: Any = None,  # noqa: ARG002
    ) -> None:
        """The machine is on."""
        with _instance_errors(exception.InstancePowerOnFailure), self._changing(instance) as node:
            power.power_on(self.services, node(), options(CONF.bloomery.power_timeout, leavable=True))

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:  # noqa: ARG002
        """The machine is off; its system was asked first, if there is time for that."""
        with _instance_errors(exception.InstancePowerOffFailure), self._changing(instance) as node:
            how = options(CONF.bloomery.power_timeout + timeout, leavable=True)
            power.power_off(self.services, node(), how, soft_s=timeout or None)

    def reboot(
        self,
        context: Any,  # noqa: ARG002
        instance: Any,
        network_info: Any,  # noqa: ARG002
        reboot_type: str,
        block_device_info: Any = None,  # noqa: ARG002
        bad_volumes_callback: Any = None,  # noqa: ARG002
        accel_info: Any = None,  # noqa: ARG002
        share_info: Any = None,  # noqa: ARG002
    ) -> None:
        """The machine was restarted; softly, if that is wanted and works."""
        soft_s = float(CONF.shutdown_timeout or 60) if reboot_type == "SOFT" else None
        with _instance_errors(exception.InstanceRebootFailure), self._changing(instance) as node:
            how = options(CONF.bloomery.power_timeout + (soft_s or 0), leavable=True)
            power.reboot(self.services, node(), how, soft_s=soft_s)

    def power_update_event(self, instance: Any, target_power_state: str) -> None:
        """Nova's record shows the power that Ironic says it has changed to, if Ironic still says so."""
        states = {
            external_event.POWER_ON: (power_state.RUNNING, vm_states.ACTIVE, task_states.POWERING_ON),
            external_event.POWER_OFF: (power_state.SHUTDOWN, vm_states.STOPPED, task_states.POWERING_OFF),
        }
        if target_power_state not in states:
            raise exception.InvalidInput(reason=f"{target_power_state!r} is no power state")
        now, vm_state, expected = states[target_power_state]
        self.nodes.doubt(instance.node)
        if self.get_info(instance, use_cache=False).state not in (now, power_state.NOSTATE):
            log.warning("server %s: %s is out of date and left out", instance.uuid, target_power_state)
            return
        instance.power_state, instance.vm_state, instance.task_state = now, vm_state, None
        instance.save(expected_task_state=expected)

    def _tell_of_power(self, instance_uuid: str, is_on: bool) -> None:
        transition = virt_event.EVENT_LIFECYCLE_STARTED if is_on else virt_event.EVENT_LIFECYCLE_STOPPED
        self.emit_event(virt_event.LifecycleEvent(instance_uuid, transition))

    def trigger_crash_dump(self, instance: Any) -> None:
        """The machine has got a non-maskable interrupt."""
        with _instance_errors(exception.NovaException), self._changing(instance) as node:
            crash_dump.crash_dump(self.services, node(), options())

    # Rescue

    def rescue(
        self,
        context: Any,  # noqa: ARG002
        instance: Any,
        network_info: Any,  # noqa: ARG002
        image_meta: Any,  # noqa: ARG002
        rescue_password: str,
        block_device_info: Any,  # noqa: ARG002
        share_info: Any,  # noqa: ARG002
    ) -> None:
        """The machine runs Ironic's rescue ramdisk."""
        with nova_errors(exception.InstanceRescueFailure), self._changing(instance) as node:
            how = options(CONF.bloomery.rescue_timeout, leavable=True)
            rescue.rescue(self.services, node(), Secret(rescue_password), how)

    def unrescue(self, context: Any, instance: Any) -> None:  # noqa: ARG002
        """The machine runs its own system again."""
        with nova_errors(exception.InstanceUnRescueFailure), self._changing(instance) as node:
            rescue.unrescue(self.services, node(), options(CONF.bloomery.rescue_timeout, leavable=True))

    # Networks

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        """Nothing: Ironic has them plugged as long as the instance lives; at a start Nova asks for each of them."""

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        """None of the VIFs is plugged into the instance's node."""
        with nova_errors(exception.VirtualInterfaceUnplugException), self._changing(instance):
            node = self._find(instance) or self._last_node(instance)
            if node is not None:
                how = options(CONF.bloomery.tear_down_timeout)
                interfaces.unplug_all(self.services, node, instance.uuid, request.vif_ids(network_info), how)

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:  # noqa: ARG002
        """The VIF is plugged into the running instance."""
        with _instance_errors(exception.VirtualInterfacePlugException), self._changing(instance) as node:
            vif_id, tagged = str(vif["id"]), tags.tags_of(instance)
            on = self._nics_by_tag(node(), tagged).get(vif_id)
            interfaces.plug_given(self.services, node(), vif_id, options(), on=on)
            self._tell_of_devices(instance, node(), tagged)

    def detach_interface(self, context: Any, instance: Any, vif: Any) -> None:  # noqa: ARG002
        """The VIF is not plugged into the instance."""
        with nova_errors(exception.InterfaceDetachFailed), self._changing(instance) as node:
            interfaces.unplug_all(self.services, node(), instance.uuid, [str(vif["id"])], options())
            self._tell_of_devices(instance, node(), tags.tags_of(instance))

    def network_binding_host_id(self, context: Any, instance: Any) -> None:  # noqa: ARG002
        """None: Ironic binds the VIFs when the tenant may be wired, and not before."""
        return

    def manages_network_binding_host_id(self) -> bool:
        """Whether Nova has to keep its hands off the bindings."""
        return True

    # Volumes

    def get_volume_connector(self, instance: Any) -> dict[str, Any]:
        """How the storage is to know the machine."""
        with nova_errors():
            node, ironic = self.nodes.node(instance.node), self.nodes.ironic
            return request.connector(
                instance,
                node,
                ironic.volume_connectors(node.uuid),
                ironic.ports(node.uuid),
                ironic.port_groups(node.uuid),
            )

    def attach_volume(
        self,
        context: Any,  # noqa: ARG002
        connection_info: Any,
        instance: Any,
        mountpoint: Any,  # noqa: ARG002
        disk_bus: Any = None,  # noqa: ARG002
        device_type: Any = None,  # noqa: ARG002
        encryption: Any = None,  # noqa: ARG002
    ) -> None:
        """The machine, which is off, has the volume from its next start on."""
        volume_id = request.volume_id_of(connection_info)
        with nova_errors(exception.VolumeAttachFailed), self._changing(instance) as node:
            taken = [target.boot_index for target in self.nodes.ironic.volume_targets(node().uuid)]
            volume = request.volume(volume_id, connection_info, max(taken, default=0) + 1)
            volumes.attach(self.services, node(), volume, options(CONF.bloomery.power_timeout))

    def detach_volume(
        self,
        context: Any,  # noqa: ARG002
        connection_info: Any,
        instance: Any,
        mountpoint: Any,  # noqa: ARG002
        encryption: Any = None,  # noqa: ARG002
    ) -> None:
        """The machine, which is off, does not have the volume."""
        volume_id = request.volume_id_of(connection_info)
        with nova_errors(exception.VolumeDetachFailed), self._changing(instance) as node:
            volumes.detach(self.services, node(), volume_id, options(CONF.bloomery.power_timeout))

    # Consoles

    def get_serial_console(self, context: Any, instance: Any) -> Any:  # noqa: ARG002
        """Where the serial console is; whoever is on it stays on it."""
        with nova_errors(exception.ConsoleTypeUnavailable):
            return self.consoles.serial(self.services, instance, self._node(instance))

    def get_vnc_console(self, context: Any, instance: Any) -> Any:  # noqa: ARG002
        """Where the graphical console is."""
        with nova_errors(exception.ConsoleTypeUnavailable):
            return self.consoles.vnc(self.services, instance, self._node(instance))

    def get_console_output(self, context: Any, instance: Any) -> bytes:  # noqa: ARG002
        """What Ironic noted of the machine: it keeps no log of consoles."""
        with nova_errors():
            return diagnostics.log_of(self.services, self._node(instance))

    # Parts

    def _find(self, instance: Any) -> Node | None:
        """The node that carries the instance, as it is now."""
        ironic = self.nodes.ironic
        named = ironic.find_node(instance.node) if instance.node else None
        if named is not None and named.instance_uuid == instance.uuid:
            return named
        return ironic.node_of(instance.uuid)

    def _claimed(self, instance: Any) -> Node:
        """The node that carries the instance, as the claim left it if nobody has done anything with it since."""
        node = self.nodes.node_of(instance.uuid)
        if node is None:
            raise errors.InstanceNotFound(f"no node carries server {instance.uuid}")
        return node

    def _last_node(self, instance: Any) -> Node | None:
        """The node that Nova says carries the instance, if it carries none by now: something of it may be left there."""
        named = self.nodes.ironic.find_node(instance.node) if instance.node else None
        return named if named is not None and named.instance_uuid is None else None

    def _node(self, instance: Any) -> Node:
        found = self._find(instance)
        if found is None:
            raise errors.InstanceNotFound(f"no node carries server {instance.uuid}")
        return found

    @contextmanager
    def _changing(self, instance: Any) -> Iterator[Callable[[], Node]]:
        """Within the block something is done with the instance's node; afterwards nobody believes what was known of it."""
        found: list[Node] = []

        def node() -> Node:
            if not found:
                found.append(self._node(instance))
            return found[0]

        try:
            yield node
        finally:
            self.nodes.doubt(found[0].uuid if found else instance.node)

    def _instance_info(
        self,
        instance: Any,
        image_meta: Any,
        network_info: Any,
        node: Node,
        block_device_info: Any,
        *,
        preserve_ephemeral: bool | None = None,
    ) -> dict[str, object]:
        return request.instance_info(
            instance,
            image_meta,
            self.get_instance_driver_metadata(instance, network_info),
            node,
            from_volume=request.boots_from_volume(block_device_info),
            preserve_ephemeral=preserve_ephemeral,
        )

    def _nics_by_tag(self, node: Node, tagged: Mapping[str, str]) -> dict[str, str]:
        """The NICs and bonds that tags name, by VIF."""
        if not tagged:
            return {}
        ironic = self.nodes.ironic
        return tags.named_nics(tagged, node, ironic.ports(node.uuid), ironic.port_groups(node.uuid))

    def _tell_of_devices(self, instance: Any, node: Node, tagged: Mapping[str, str]) -> None:
        """Nova's metadata service tells of the devices that have a tag, as they are now."""
        if tagged or instance.device_metadata is not None:
            ironic = self.nodes.ironic
            tags.tell(instance, tagged, node, ironic, ironic.ports(node.uuid), ironic.port_groups(node.uuid))

    def _guest(
        self,
        instance: Any,
        node: Node,
        nics: Nics,
        network_info: Any,
        injected_files: Any,
        admin_password: str | None,
        block_device_info: Any,
    ) -> Any:
        tags.tell(instance, tags.tags_of(instance), node, self.nodes.ironic, nics.ports, nics.groups, block_device_info)
        return request.guest(
            instance,
            node,
            nics.ports,
            nics.groups,
            network_info,
            injected_files=injected_files,
            admin_password=admin_password,
        )


def _instance_errors(kind: type[Exception]) -> Any:
    """Any error is of this kind; but that no node carries the instance is Nova's own way of saying so."""
    return nova_errors(kind, also={errors.InstanceNotFound: exception.InstanceNotFound})


@contextmanager
def _deploy_errors() -> Iterator[None]:
    """What fails a deploy; what would fail it on every other node as well ends it."""

    def failed(text: str) -> Exception:
        kind = exception.BuildAbortException if IMAGE_REFUSED in text else exception.InstanceDeployFailure
        return cast(Exception, kind(text))

    also = {errors.ValidationFailed: exception.ValidationError, errors.InvalidRequest: exception.BuildAbortException}
    try:
        with nova_errors(failed, also=also):
            yield
    except NotImplementedError as problem:
        # To Nova this would mean that the driver has no such method, and that it may destroy and deploy by itself.
        raise exception.InstanceDeployFailure(str(problem)) from problem
