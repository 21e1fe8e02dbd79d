"""What Nova's compute manager asks of the driver, and what it does around it: a `Call` each.

They say what nova/compute/manager.py (34.0.0) does, as far as the driver can tell, and what a user does when it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nova import exception, objects
from nova.compute import power_state, task_states, vm_states
from nova.objects import external_event

from door_matrix.door_world import DoorWorld

IMAGE = "4f2d5f29-5f0c-4d8f-8d3c-6b4f2ad7c001"
OTHER_IMAGE = "4f2d5f29-5f0c-4d8f-8d3c-6b4f2ad7c002"
VOLUME = "4f2d5f29-5f0c-4d8f-8d3c-6b4f2ad7c003"
SOFT, HARD = "SOFT", "HARD"
CONNECTION = {"driver_volume_type": "iscsi", "data": {"target_iqn": "iqn.x"}, "serial": VOLUME}


@dataclass
class Server:
    """A server as Nova has it.

    Attributes:
        instance: Nova's record.
        network_info: its VIFs.
        block_device_info: its volumes.
        vif: a VIF that is there to be attached.
    """

    instance: Any
    network_info: Any
    block_device_info: Any = None
    vif: Any = None


@dataclass(frozen=True)
class Call:
    """Something that the manager does.

    Attributes:
        prepare: makes the world in which it makes sense.
        call: does it; what it returns is what Nova learns.
        again: what Nova's user does when it has failed; None where he only asks once more.
    """

    prepare: Callable[[DoorWorld], Server]
    call: Callable[[DoorWorld, Server], Any]
    again: Callable[[DoorWorld, Server], Any] | None = None


# Servers


def image(world: DoorWorld, uuid: str = IMAGE) -> Any:
    """A whole-disk image."""
    found = world.image()
    found.id = uuid
    return found


def new(world: DoorWorld, *, volume: bool = False) -> Server:
    """A server that is to be built, with two VIFs, and perhaps a second disk on a volume."""
    world.driver.init_host("compute-1")
    world.driver.get_available_nodes()
    instance = world.instance(task_state=task_states.SPAWNING)
    network_info = world.network_info(2)
    instance.info_cache = objects.InstanceInfoCache(
        world.context, instance_uuid=instance.uuid, network_info=network_info
    )
    instance.info_cache.save()
    volumes = world.volume(instance, boot_index=1) if volume else {"block_device_mapping": []}
    return Server(instance, network_info, volumes)


def beside_a_free_node(world: DoorWorld) -> Server:
    """A server that runs, and a node that Nova has put nothing on."""
    world.ironic.add_node(name="free")
    return running(world)


def new_with_volume(world: DoorWorld) -> Server:
    """The same, with the volume."""
    return new(world, volume=True)


def new_that_fails(world: DoorWorld) -> Server:
    """The same, on a node whose deploy will fail."""
    server = new(world)
    world.ironic.fail_next(world.node, "deploy")
    return server


def running(world: DoorWorld) -> Server:
    """A server that runs."""
    server = new(world, volume=True)
    _build(world, server)
    server.instance.vm_state = vm_states.ACTIVE
    server.instance.task_state = None
    server.instance.save()
    server.vif = world.vif()
    world.driver.get_available_nodes()
    return server


def stopped(world: DoorWorld) -> Server:
    """A server that is off."""
    server = running(world)
    world.driver.power_off(server.instance)
    server.instance.vm_state = vm_states.STOPPED
    server.instance.save()
    world.driver.get_available_nodes()
    return server


def with_another_volume(world: DoorWorld) -> Server:
    """A server that is off, and was given a volume."""
    server = stopped(world)
    world.driver.attach_volume(world.context, CONNECTION, server.instance, "/dev/sdc")
    return server


def rescued(world: DoorWorld) -> Server:
    """A server in rescue mode."""
    server = running(world)
    _rescue(world, server)
    server.instance.vm_state = vm_states.RESCUED
    server.instance.save()
    return server


def with_an_open_console(world: DoorWorld) -> Server:
    """A server whose serial console runs."""
    server = running(world)
    world.ironic.set(world.node, console_enabled=True)
    return server


def with_a_screen(world: DoorWorld) -> Server:
    """A server on a node with a graphical console."""
    world.ironic.set(world.node, console_interface="redfish-graphical")
    return running(world)


def _at(server: Server, task_state: str | None) -> Any:
    server.instance.task_state = task_state
    server.instance.save()
    return server.instance


# Builds


def _resources(world: DoorWorld, server: Server, *, volumes_fail: bool = False) -> None:
    """The manager's `_build_resources`, up to its `yield`."""
    driver, instance = world.driver, server.instance
    try:
        driver.prepare_for_spawn(instance)
        driver.prepare_networks_before_block_device_mapping(instance, server.network_info)
        if server.block_device_info["block_device_mapping"]:
            driver.get_volume_connector(instance)
        if volumes_fail:
            world.wait_for_latecomers()  # Cinder takes longer than any request to Ironic
            raise exception.VolumeNotFound(volume_id=VOLUME)
    except Exception as problem:
        driver.clean_networks_preparation(instance, server.network_info)
        driver.failed_spawn_cleanup(instance)
        if isinstance(problem, exception.ComputeResourcesUnavailable):
            raise
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason="volumes") from problem


def _build(world: DoorWorld, server: Server, *, volumes_fail: bool = False) -> None:
    """The manager's `_build_and_run_instance`."""
    instance = _at(server, task_states.SPAWNING)
    _resources(world, server, volumes_fail=volumes_fail)
    try:
        world.driver.spawn(
            world.context,
            instance,
            image(world),
            [],
            "secret",
            {},
            network_info=server.network_info,
            block_device_info=server.block_device_info,
        )
    except Exception as problem:
        try:
            world.driver.destroy(world.context, instance, server.network_info, server.block_device_info)
        except Exception as another:
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=str(problem)) from another
        raise


def build(world: DoorWorld, server: Server, *, volumes_fail: bool = False) -> str:
    """The manager's `_do_build_and_run_instance`: what has failed is nobody's any more, and in error."""
    try:
        _build(world, server, volumes_fail=volumes_fail)
    except Exception:
        with suppress(Exception):  # the manager's own way
            world.driver.unplug_vifs(server.instance, server.network_info)
        server.instance.host = server.instance.node = server.instance.compute_id = None
        server.instance.vm_state, server.instance.task_state = vm_states.ERROR, None
        server.instance.save()
        raise
    server.instance.vm_state, server.instance.task_state = vm_states.ACTIVE, None
    server.instance.save()
    return f"power {_power(world, server)}"


def build_that_fails(world: DoorWorld, server: Server) -> str:
    """The node does not take the image."""
    try:
        build(world, server)
    except exception.InstanceDeployFailure as problem:
        return type(problem).__name__
    return "built"


def build_without_volumes(world: DoorWorld, server: Server) -> str:
    """Cinder has not got the volumes."""
    try:
        build(world, server, volumes_fail=True)
    except exception.BuildAbortException as problem:
        if isinstance(problem.__cause__, exception.VolumeNotFound):
            return "VolumeNotFound"
        raise
    return "built"


def forget(world: DoorWorld, server: Server) -> None:
    """The user deletes a server that has no host: Nova does so without asking any nova-compute."""
    if not server.instance.deleted:
        server.instance.destroy()


def _power(world: DoorWorld, server: Server) -> int:
    try:
        return int(world.driver.get_info(server.instance, use_cache=False).state)
    except exception.InstanceNotFound:
        return int(power_state.NOSTATE)


# The others


def destroy(world: DoorWorld, server: Server) -> None:
    """The manager's `_delete_instance`."""
    world.driver.destroy(
        world.context, _at(server, task_states.DELETING), server.network_info, server.block_device_info
    )
    server.instance.destroy()


def rebuild(world: DoorWorld, server: Server) -> str:
    """The manager's `_do_rebuild_instance`, for compute API 2.92: with 2.93 Nova's own driver refuses every rebuild."""
    try:
        world.driver.rebuild(
            world.context,
            _at(server, task_states.REBUILDING),
            image(world, OTHER_IMAGE),
            [],
            "secret",
            {},
            [],
            None,
            None,
            network_info=server.network_info,
            block_device_info=server.block_device_info,
        )
    except Exception:
        server.instance.vm_state = vm_states.ERROR
        _at(server, None)
        raise
    server.instance.vm_state = vm_states.ACTIVE
    _at(server, None)
    return f"power {_power(world, server)}"


def _rescue(world: DoorWorld, server: Server) -> None:
    instance = _at(server, task_states.RESCUING)
    world.driver.rescue(world.context, instance, server.network_info, None, "open sesame", None, None)
    _at(server, None)


def _unrescue(world: DoorWorld, server: Server) -> None:
    world.driver.unrescue(world.context, _at(server, task_states.UNRESCUING))
    server.instance.vm_state = vm_states.ACTIVE
    _at(server, None)


def _attach_interface(world: DoorWorld, server: Server) -> None:
    instance = _at(server, None)
    world.driver.attach_interface(world.context, instance, image(world), server.vif)


def _detach_interface(world: DoorWorld, server: Server) -> None:
    world.driver.detach_interface(world.context, server.instance, server.network_info[1])


def _power_event(world: DoorWorld, server: Server) -> str:
    server.instance.power_state = power_state.NOSTATE
    world.driver.power_update_event(_at(server, task_states.POWERING_ON), external_event.POWER_ON)
    return f"{server.instance.power_state} {server.instance.vm_state}"


def reboot(kind: str) -> Callable[[DoorWorld, Server], None]:
    """The manager's `_reboot_instance`."""

    def rebooting(world: DoorWorld, server: Server) -> None:
        state = task_states.REBOOT_STARTED if kind == SOFT else task_states.REBOOT_STARTED_HARD
        instance = _at(server, state)
        _power(world, server)
        world.driver.reboot(world.context, instance, server.network_info, kind)
        _at(server, None)

    return rebooting


def stop(timeout_s: int) -> Callable[[DoorWorld, Server], None]:
    """The manager's `stop_instance`."""

    def stopping(world: DoorWorld, server: Server) -> None:
        world.driver.power_off(_at(server, task_states.POWERING_OFF), timeout_s, 10)
        _at(server, None)

    return stopping


def start(world: DoorWorld, server: Server) -> None:
    """The manager's `start_instance`."""
    world.driver.power_on(world.context, _at(server, task_states.POWERING_ON), server.network_info)
    _at(server, None)


def _restart(world: DoorWorld, server: Server) -> list[str]:
    """The service ends; another one starts: the manager's `init_host` and its first look around."""
    world.driver.cleanup_host("compute-1")
    driver = world.restarted()
    driver.init_host("compute-1")
    try:
        nodes = list(driver.get_nodenames_by_uuid())
    except exception.VirtDriverNotReady:
        nodes = []  # the manager goes on, and looks again later
    driver.process_instances_at_startup(world.context, objects.InstanceList(world.context, objects=[server.instance]))
    driver.plug_vifs(server.instance, server.network_info)
    return nodes


def _inventory(world: DoorWorld, server: Server) -> Any:
    """The resource tracker's look at a node."""
    found = world.restarted().get_available_resource(world.node)
    told = world.provider().data(world.node)
    return found["resource_class"], found["hypervisor_type"], told.inventory, sorted(told.traits)


def _diagnostics(world: DoorWorld, server: Server) -> Any:
    driver = world.driver
    return driver.get_diagnostics(server.instance), driver.get_instance_diagnostics(server.instance).state


def _asked(method: Callable[[Any, DoorWorld, Server], Any]) -> Call:
    """A question, while a server runs."""
    return Call(running, lambda world, server: method(world.driver, world, server))


def _asked_first(method: Callable[[Any, DoorWorld, Server], Any]) -> Call:
    """The same by a compute service that has just started, and knows nothing yet."""
    return Call(running, lambda world, server: method(world.restarted(), world, server))


def _where(console: Any) -> tuple[str, int]:
    return console.host, int(console.port)


def _info(world: DoorWorld, server: Server) -> int:
    return _power(world, server)


CALLS: dict[str, Call] = {
    "build": Call(new, build, forget),
    "build with a volume": Call(new_with_volume, build, forget),
    "build whose deploy fails": Call(new_that_fails, build_that_fails, forget),
    "build whose volumes fail": Call(new_with_volume, build_without_volumes, forget),
    "delete": Call(running, destroy),
    "rebuild": Call(running, rebuild),
    "rescue": Call(running, _rescue),
    "unrescue": Call(rescued, _unrescue),
    "start": Call(stopped, start),
    "stop": Call(running, stop(0)),
    "stop softly": Call(running, stop(5)),
    "reboot": Call(running, reboot(HARD)),
    "reboot softly": Call(running, reboot(SOFT)),
    "crash dump": _asked(lambda driver, _world, server: driver.trigger_crash_dump(server.instance)),
    "power event": Call(running, _power_event),
    "attach interface": Call(running, _attach_interface),
    "detach interface": Call(running, _detach_interface),
    "attach volume": Call(
        stopped,
        lambda world, server: world.driver.attach_volume(world.context, CONNECTION, server.instance, "/dev/sdc"),
    ),
    "detach volume": Call(
        with_another_volume,
        lambda world, server: world.driver.detach_volume(world.context, CONNECTION, server.instance, "/dev/sdc"),
    ),
    "serial console": _asked(
        lambda driver, world, server: _where(driver.get_serial_console(world.context, server.instance))
    ),
    "serial console that is open": Call(
        with_an_open_console,
        lambda world, server: _where(world.driver.get_serial_console(world.context, server.instance)),
    ),
    "graphical console": Call(
        with_a_screen,
        lambda world, server: _where(world.driver.get_vnc_console(world.context, server.instance)),
    ),
    "console log": _asked(lambda driver, world, server: driver.get_console_output(world.context, server.instance)),
    "diagnostics": Call(running, _diagnostics),
    "service restart": Call(running, _restart),
    "inventory": Call(running, _inventory),
    "power state": Call(running, _info),
    "nodes": _asked_first(lambda driver, _world, _server: driver.get_available_nodes(refresh=True)),
    "node there": _asked_first(lambda driver, world, _server: driver.node_is_available(world.node)),
    "node deleted": _asked_first(lambda driver, world, _server: driver.is_node_deleted(world.node)),
    "free node deleted": Call(
        beside_a_free_node,
        lambda world, _server: world.restarted().is_node_deleted(world.ironic.node("free")["uuid"]),
    ),
    "another node deleted": _asked_first(lambda driver, _world, _server: driver.is_node_deleted(OTHER_IMAGE)),
    "instances": _asked_first(
        lambda driver, _world, _server: [
            driver.list_instance_uuids(),
            len(driver.list_instances()),
            driver.get_num_instances(),
        ]
    ),
    "instance there": _asked(lambda driver, _world, server: driver.instance_exists(server.instance)),
    "volume connector": _asked(lambda driver, _world, server: driver.get_volume_connector(server.instance)),
}
"""By name."""

NOT_UPSTREAM = {
    "attach volume": "it has no such method",
    "detach volume": "it has no such method",
    "console log": "it has no such method",
    "diagnostics": "it has no such method",
    "serial console": "it does not start a console that is off",
}
"""The calls that Nova's own driver does not answer even if nothing fails."""

ASK_NOTHING = {
    "get_host_uptime": "it says None, always",
    "network_binding_host_id": "it says None, always",
    "manages_network_binding_host_id": "it says True, always",
}
"""The driver's methods that are in no call, and why."""
