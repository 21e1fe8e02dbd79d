"""A compute service before played services, with the driver of one's choice: ours, or Nova's own for comparison.

Whatever the driver is asked goes through `Watched`, which notes what was called and what came out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import nova.conf
from keystoneauth1.session import Session
from nova import exception, utils
from nova.virt.ironic import driver as upstream

from bloomery.deadline import Patience
from bloomery.doors.nova.config import Connection
from bloomery.doors.nova.driver import IronicDriver
from bloomery.library import connect
from bloomery.operations.run import NOVA, Services
from bloomery.testing import FaultProxy, IronicSimulator, NeutronSimulator
from bloomery.watch import Watch
from doors_nova.nova_world import HOST, NovaWorld
from unwind.matrix import CALM, Tokens
from unwind.scenarios import FAST

CONF = nova.conf.CONF
ENOUGH_S = 40
"""What any operation of ours may take here."""

DESTROYED = (exception.InstanceTerminationFailure,)
UNPLUGGED = (exception.VirtualInterfaceUnplugException,)
NO_CONSOLE = (exception.ConsoleTypeUnavailable,)
NOT_READY = (exception.VirtDriverNotReady,)

RAISES: Mapping[str, tuple[type[Exception], ...]] = {
    "init_host": (),
    "cleanup_host": (),
    "process_instances_at_startup": (),
    "get_available_nodes": NOT_READY,
    "get_nodenames_by_uuid": NOT_READY,
    "node_is_available": NOT_READY,
    "is_node_deleted": NOT_READY,
    "list_instance_uuids": NOT_READY,
    "list_instances": NOT_READY,
    "get_num_instances": NOT_READY,
    "instance_exists": NOT_READY,
    "get_info": (),
    "get_available_resource": (exception.NovaException,),
    "update_provider_tree": (exception.NovaException,),
    "get_diagnostics": (exception.NovaException,),
    "get_instance_diagnostics": (exception.NovaException,),
    "get_console_output": (exception.NovaException,),
    "get_volume_connector": (exception.NovaException,),
    "prepare_for_spawn": (exception.ComputeResourcesUnavailable, exception.InstanceDeployFailure),
    "prepare_networks_before_block_device_mapping": (exception.VirtualInterfacePlugException,),
    "spawn": (exception.InstanceDeployFailure, exception.BuildAbortException, exception.ValidationError),
    "rebuild": (exception.InstanceDeployFailure, exception.BuildAbortException, exception.ValidationError),
    "clean_networks_preparation": UNPLUGGED,
    "unplug_vifs": UNPLUGGED,
    "failed_spawn_cleanup": DESTROYED,
    "destroy": DESTROYED,
    "power_on": (exception.InstancePowerOnFailure,),
    "power_off": (exception.InstancePowerOffFailure,),
    "reboot": (exception.InstanceRebootFailure,),
    "power_update_event": (),
    "trigger_crash_dump": (exception.NovaException,),
    "rescue": (exception.InstanceRescueFailure,),
    "unrescue": (exception.InstanceUnRescueFailure,),
    "attach_interface": (exception.VirtualInterfacePlugException,),
    "detach_interface": (exception.InterfaceDetachFailed,),
    "attach_volume": (exception.VolumeAttachFailed,),
    "detach_volume": (exception.VolumeDetachFailed,),
    "get_serial_console": NO_CONSOLE,
    "get_vnc_console": NO_CONSOLE,
}
"""What Nova's manager expects of each method when the instance exists and something fails; it takes anything else badly."""

LENIENTLY: Mapping[str, tuple[type[Exception], ...]] = {"unplug_vifs": (Exception,)}
"""Where the manager swallows whatever comes out."""


@dataclass
class Noted:
    """Which methods were called, and what came out of them that should not have."""

    called: set[str] = field(default_factory=set)
    escaped: list[str] = field(default_factory=list)


class Watched:
    """A driver of which it is known which methods were called, and what came out of them that should not have.

    Args:
        driver: the driver.
        noted: where both are noted, from one start of the service to the next.
        exactly: whether the kind of a NovaException counts; if not, any of them is well.
    """

    def __init__(self, driver: Any, noted: Noted, *, exactly: bool) -> None:
        self.driver = driver
        self.noted = noted
        self.exactly = exactly

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.driver, name)
        if name.startswith("_") or not inspect.ismethod(value):
            return value

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.noted.called.add(name)
            try:
                return value(*args, **kwargs)
            except Exception as problem:
                expected = RAISES.get(name, ()) if self.exactly else LENIENTLY.get(name, (exception.NovaException,))
                if not isinstance(problem, expected):
                    self.noted.escaped.append(
                        f"{name} raised {type(problem).__module__}.{type(problem).__name__}: {problem}"
                    )
                raise

        return watched


@dataclass(frozen=True, eq=False)
class Candidate:
    """A driver, and what nova.conf says for it.

    Attributes:
        name: what it is called in tables.
        make: makes one for a world.
        settings: of `[ironic]`.
        exactly: whether its exceptions are held to the table of methods.
    """

    name: str
    make: Callable[[DoorWorld], Any]
    settings: Mapping[str, Any]
    exactly: bool = False


@dataclass
class DoorWorld(NovaWorld):
    """A compute service whose driver reaches Ironic through a proxy."""

    proxy: FaultProxy | None = None
    candidate: Candidate | None = None
    noted: Noted = field(default_factory=Noted)
    patience: Patience = CALM
    session: Session = field(default_factory=lambda: Session(auth=Tokens()))

    @property
    def through(self) -> str:
        """Where the driver is told that Ironic is."""
        assert self.proxy is not None
        return self.proxy.url

    def wait_for_latecomers(self) -> None:
        """Time has passed: every request has arrived."""
        assert self.proxy is not None
        self.proxy.wait_until_idle()

    def services(self) -> Services:
        """What a compute service with our driver has after its start."""
        patience = replace(self.patience, before_change_s=self.patience.after_change_s)
        found = connect(
            session=self.session, endpoints={"baremetal": self.through}, patience=patience, timeout_s=15.0
        ).services
        quick = Watch(found.ironic, shortest_s=0.004, longest_s=0.02)
        return Services(ironic=found.ironic, watch=quick, patience=patience, host=HOST, manager=NOVA)

    def restarted(self) -> Any:
        """The driver of a compute service that has just started; it has asked nothing yet."""
        assert self.candidate is not None
        driver: Any = Watched(self.candidate.make(self), self.noted, exactly=self.candidate.exactly)
        self._driver = driver
        return self._driver


class Upstream(upstream.IronicDriver):  # type: ignore[misc]  # Nova has no types
    """Nova's own driver, with credentials that can expire: nova.conf has no plug-in for a played Keystone."""

    @property
    def ironic_connection(self) -> Any:
        """As its own."""
        if self._ironic_connection is None:  # type: ignore[has-type]
            self._ironic_connection = utils.get_sdk_adapter(
                "baremetal", admin=True, check_service=True, ksa_auth=Tokens()
            )
        return self._ironic_connection


def _ours(world: DoorWorld) -> Any:
    return IronicDriver(None, connection=Connection(world.services))


def _upstream(world: DoorWorld) -> Any:
    CONF.set_override("endpoint_override", world.through, group="ironic")
    return Upstream(None)


OURS = Candidate("Bloomery", _ours, {}, exactly=True)
AS_IT_COMES = Candidate("Nova's, as it comes", _upstream, {"api_retry_interval": 0})
AT_ITS_BEST = Candidate(
    "Nova's, at its best",
    _upstream,
    {
        "api_retry_interval": 0,
        "status_code_retries": 60,
        "status_code_retry_delay": 0.02,
        "connect_retries": 60,
        "connect_retry_delay": 0.02,
        "timeout": 1,
    },
)


@contextmanager
def settings_of(candidate: Candidate) -> Iterator[None]:
    """nova.conf is as the driver wants it, and as it was afterwards."""
    times = ("deploy_timeout", "tear_down_timeout", "rescue_timeout", "power_timeout", "claim_timeout")
    for name, value in candidate.settings.items():
        CONF.set_override(name, value, group="ironic")
    for name in times:
        CONF.set_override(name, ENOUGH_S, group="bloomery")
    if candidate is OURS:
        CONF.set_override("api_max_retries", 0, group="ironic")
    CONF.set_override("running_deleted_instance_action", "reap")
    try:
        yield
    finally:
        for name in (*candidate.settings, "endpoint_override", "api_max_retries"):
            CONF.clear_override(name, group="ironic")
        for name in times:
            CONF.clear_override(name, group="bloomery")
        CONF.clear_override("running_deleted_instance_action")


@contextmanager
def a_door_world(candidate: Candidate, patience: Patience = CALM) -> Iterator[tuple[DoorWorld, FaultProxy]]:
    """A world with one free node, and the proxy between its compute service and Ironic."""
    with (
        settings_of(candidate),
        NeutronSimulator() as neutron,
        IronicSimulator(neutron=neutron) as ironic,
        FaultProxy(ironic.url) as proxy,
    ):
        ironic.timings = FAST
        private = neutron.add_network("private", cidrs=["10.0.0.0/24"])
        node = ironic.add_node(
            name="node-0",
            ports=3,
            resource_class="baremetal",
            traits=["CUSTOM_LAB"],
            storage_interface="external",
            console_interface="ipmitool-socat",
        )
        yield DoorWorld(ironic, neutron, node, private, proxy=proxy, candidate=candidate, patience=patience), proxy
