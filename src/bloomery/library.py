"""The library: connect to a cloud, and do with its instances what there is to do. Every door goes through here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.session import Session

from bloomery.bus import Bus
from bloomery.checkup import Check, checkup
from bloomery.deadline import USUAL, Cancellation, Deadline, Patience
from bloomery.errors import BloomeryError, InvalidRequest, ServiceUnavailable
from bloomery.fleet import Fleet, Wanted, why_not
from bloomery.glance import Glance, GlanceImage
from bloomery.ironic import Features, Ironic, Node, Port, PortGroup, Validation, VolumeTarget
from bloomery.ironic.models import FirmwareComponent, HistoryEvent
from bloomery.janitor import Habits, Janitor, Leak, Outcome, Pass, Survey, look, mend
from bloomery.neutron import Network, Neutron, SecurityGroup
from bloomery.operations import (
    console,
    crash_dump,
    deploy,
    instances,
    interfaces,
    power,
    rebuild,
    recover,
    rescue,
    tear_down,
    volumes,
)
from bloomery.operations.instances import Instance, instance_on
from bloomery.operations.lines import ConsoleAddress
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Nic, Volume
from bloomery.operations.run import OnProgress, Options, Services, ignore
from bloomery.operations.vifs import PluggedVif
from bloomery.operations.volumes import Connector
from bloomery.rehearsal import RehearsedCall, rehearsed
from bloomery.rest.transport import Transport
from bloomery.secret import Secret
from bloomery.watch import Watch

QUICK_TIMEOUT_S = 120.0
"""What a call may take that only asks, or changes something at once."""
DEPLOY_TIMEOUT_S = 3600.0
POWER_TIMEOUT_S = 600.0
IDENTITY_TIMEOUT_S = 60.0

T = TypeVar("T")


def connect(
    cloud: str | None = None,
    *,
    session: Session | None = None,
    endpoints: Mapping[str, str] | None = None,
    region: str | None = None,
    interface: str | None = None,
    options: Any = None,
    connections: int = 6,
    timeout_s: float = 15.0,
    patience: Patience = USUAL,
) -> Bloomery:
    """A connection to Ironic, and to Neutron and Glance where the cloud has them.

    Args:
        cloud: a cloud's name in clouds.yaml; None takes `OS_CLOUD` or the `OS_*` variables, as the openstack command does.
        session: a keystoneauth session instead of a cloud.
        endpoints: with a session: addresses by service type (`baremetal`, `network`, `image`), instead of the catalogue's.
        region: with a session: the region.
        interface: with a session: `public`, `internal` or `admin`.
        options: parsed command-line options in openstacksdk's form, which override the cloud's.
        connections: how many requests may be under way at Ironic at once.
        timeout_s: how long to wait for Ironic's first answer.
        patience: how long services are borne that do not answer.

    Raises:
        InvalidRequest: there is no such cloud, or its settings do not make sense.
        AccessDenied, ServiceUnavailable, ServiceTooOld: Ironic cannot be had.
    """
    adapters = (
        _adapters_of_session(session, endpoints or {}, region, interface)
        if session is not None
        else _adapters_of_cloud(cloud, options)
    )
    return Bloomery.over(adapters, connections=connections, timeout_s=timeout_s, patience=patience)


@dataclass(frozen=True, slots=True)
class Adapters:
    """How each service is spoken to; None where the cloud has none."""

    baremetal: Adapter
    network: Adapter | None
    image: Adapter | None


def _adapters_of_session(
    session: Session, endpoints: Mapping[str, str], region: str | None, interface: str | None
) -> Adapters:
    def adapter(service: str) -> Adapter:
        return Adapter(
            session,
            service_type=service,
            region_name=region,
            interface=interface,
            endpoint_override=endpoints.get(service),
        )

    def if_there(service: str) -> Adapter | None:
        if endpoints and service not in endpoints:
            return None
        return adapter(service)

    return Adapters(adapter("baremetal"), if_there("network"), if_there("image"))


def _adapters_of_cloud(cloud: str | None, options: Any) -> Adapters:
    # Imported here: it takes most of a second, which `bloomery --help` need not spend.
    from openstack import exceptions as sdk_exceptions
    from openstack.config import OpenStackConfig

    try:
        region = OpenStackConfig().get_one(cloud=cloud, argparse=options)
        session = region.get_session()
        # Without it a token would be waited for without end, where the identity service accepts and does not answer.
        session.timeout = session.timeout or IDENTITY_TIMEOUT_S
    except (sdk_exceptions.SDKException, ksa_exceptions.ClientException, OSError) as problem:
        raise InvalidRequest(
            f"cloud {cloud!r} cannot be used" if cloud else "no cloud can be used",
            reason=str(problem),
            advice="Name a cloud of clouds.yaml with --os-cloud or OS_CLOUD, or set the OS_* variables",
        ) from problem
    except TypeError as problem:  # keystoneauth's answer to a credential that the auth type does not know
        raise InvalidRequest(
            f"cloud {cloud!r} cannot be used" if cloud else "no cloud can be used",
            reason=str(problem),
            advice="Leave out what its auth type does not take: a token or password where it asks for none",
        ) from problem

    def adapter(service: str) -> Adapter:
        return Adapter(
            session,
            service_type=service,
            region_name=region.get_region_name(service),
            interface=region.get_interface(service),
            endpoint_override=region.get_endpoint(service),
        )

    without_catalogue = region.config.get("auth_type") in ("none", "http_basic", "admin_token", None)

    def if_there(service: str) -> Adapter | None:
        # With the auth type none, openstacksdk gives Ironic's address for every service that has none of its own.
        if without_catalogue and region.get_endpoint(service) in (None, region.get_auth_args().get("endpoint")):
            return None
        return adapter(service) if region.has_service(service) else None

    baremetal = adapter("baremetal")
    if without_catalogue and baremetal.endpoint_override is None:
        baremetal.endpoint_override = region.get_auth_args().get("endpoint")
    return Adapters(baremetal, if_there("network"), if_there("image"))


class Bloomery:
    """Instances on the bare-metal nodes of one cloud. Safe to share between threads.

    Each method that takes long has `timeout_s`, `cancellation` and `on_progress`. Instances are named by UUID, name, or
    their node's name or UUID.
    """

    def __init__(self, services: Services) -> None:
        self.services = services

    @classmethod
    def over(cls, adapters: Adapters, *, connections: int, timeout_s: float, patience: Patience = USUAL) -> Bloomery:
        """A connection over keystoneauth adapters."""
        # Twice, so that what is said of a service that does not answer is that, and not that time is over.
        deadline = Deadline(2 * timeout_s, outage_s=timeout_s, patience=patience)
        transport = Transport(adapters.baremetal, service="Ironic", version_path="/v1", connections=connections)
        # Each call sets a deadline of its own; whatever does not is borne as long as a quick question is.
        standing = Deadline(math.inf, outage_s=timeout_s, patience=patience)
        ironic = Ironic.connect(transport, deadline).within(standing)
        neutron = glance = None
        if adapters.network is not None and _is_there(adapters.network):
            neutron = Neutron(Transport(adapters.network, service="Neutron", version_path="/v2.0"), standing)
        if adapters.image is not None and _is_there(adapters.image):
            glance = Glance(Transport(adapters.image, service="Glance", version_path="/v2"), standing)
        return cls(Services(ironic=ironic, watch=Watch(ironic), neutron=neutron, glance=glance, patience=patience))

    @property
    def features(self) -> Features:
        """What this Ironic offers."""
        return self.services.ironic.features

    def listen_to(self, bus: Bus) -> None:
        """Whoever waits for a node sees what Ironic notifies of it at once, as long as the bus is listened to.

        Args:
            bus: Ironic's message bus; to be started and closed by its owner, and good for several connections.
        """
        watch = self.services.watch
        bus.tell(watch.heard)

    def _ironic(self, timeout_s: float = QUICK_TIMEOUT_S) -> Ironic:
        return self.services.ironic.within(self.services.asking(timeout_s))

    def _neutron(self) -> Neutron:
        if self.services.neutron is None:
            raise ServiceUnavailable("this cloud has no Neutron")
        return self.services.neutron.within(self.services.asking(QUICK_TIMEOUT_S))

    @contextmanager
    def rehearsal(self) -> Iterator[tuple[Bloomery, Sequence[RehearsedCall]]]:
        """A Bloomery that changes nothing, and the calls that it would have made.

        The operation that is called within the block ends where it would begin to wait, and the block with it.
        """
        with rehearsed(self.services) as (services, calls):
            yield Bloomery(services), calls

    # Instances

    def deploy(
        self,
        request: DeployRequest,
        *,
        keep_failed: bool = False,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Instance:
        """The instance runs on a node.

        Args:
            request: what is wanted.
            keep_failed: leaves a failed deploy as it is, for somebody to look at.
            wait: False returns as soon as Ironic has taken the deploy up; `recover` sees to one that fails later.
            timeout_s: seconds that it may take; undoing comes on top.
            cancellation: stops it, and undoes what was begun.
            on_progress: is told how far it has got.

        Raises:
            RequestError, Conflict: the request cannot be met; nothing was changed.
            ValidationFailed, DeployFailed: Ironic said no; the node is as it was, or on its way there.
            OperationTimedOut, OperationCancelled: likewise.
            RollbackIncomplete: says what is left.
        """
        options = _options(timeout_s, cancellation, on_progress)
        return deploy.deploy(self.services, request, options, keep_failed=keep_failed, wait=wait)

    def destroy(
        self,
        instance: str,
        *,
        wait_for_cleaning: bool = False,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """The instance is gone, and all that was made for it; VIFs that were handed to us are unplugged only.

        Args:
            instance: which; UUID, name, or its node.
            wait_for_cleaning: False returns as soon as Ironic has torn the node down and cleans it.
            timeout_s: seconds that it may take.
            cancellation: stops the waiting; the tear-down itself goes on in Ironic.
            on_progress: is told how far it has got.

        Raises:
            InstanceNotFound: there is none, and nothing is left of one. A node that carries none is no error.
            TearDownFailed, CleanFailed: says why.
        """
        options = _options(timeout_s, cancellation, on_progress)
        node, instance_uuid = instances.find_to_destroy(self._ironic(), instance)
        if instance_uuid is None:
            return
        if node is None:
            tear_down.drop_claim(self.services, instance_uuid, options)
        else:
            tear_down.destroy(self.services, node, instance_uuid, options, wait_for_cleaning=wait_for_cleaning)

    def rebuild(
        self,
        instance: str,
        request: RebuildRequest | None = None,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Instance:
        """The instance, on the same node and with the same VIFs, runs the image.

        With `wait=False` it returns as soon as Ironic has taken it up.

        Raises:
            NodeUnavailable: it cannot be rebuilt, or Ironic refuses; nothing was changed.
            RebuildFailed: Ironic tried and failed.
        """
        node = self._instance(instance)
        instances.must_be_ours(node, "rebuild")
        instances.must_not_be_protected(node, "rebuild")
        options = _options(timeout_s, cancellation, on_progress)
        node = rebuild.rebuild(self.services, node, request or RebuildRequest(), options, wait=wait)
        return self.show(str(node.instance_uuid))

    def rescue(
        self,
        instance: str,
        password: Secret[str] | None = None,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Secret[str]:
        """The machine runs the rescue ramdisk.

        Returns:
            The password that opens it. It is kept nowhere: whoever called has it, and nobody else.

        Raises:
            NodeUnavailable: it is in no state to be rescued.
            RescueFailed: it did not come up, and went back to its own system.
        """
        node = self._instance(instance)
        password = password or rescue.new_password()
        rescue.rescue(self.services, node, password, _options(timeout_s, cancellation, on_progress), wait=wait)
        return password

    def unrescue(
        self,
        instance: str,
        *,
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """The machine runs its own system again.

        Raises:
            NodeUnavailable: it is not in rescue.
            RescueFailed: it did not come up.
        """
        node = self._instance(instance)
        rescue.unrescue(self.services, node, _options(timeout_s, cancellation, on_progress), wait=wait)

    def adopt(self, instance: str, *, name: str | None = None, timeout_s: float = QUICK_TIMEOUT_S) -> Instance:
        """The instance, whoever deployed it, can be managed like our own.

        Raises:
            NodeUnavailable: it does not run.
        """
        node = self._instance(instance)
        if node.mark is None:
            node = instances.adopt(self.services, node, _options(timeout_s), name=name)
        return self.show(str(node.instance_uuid))

    def recover(
        self,
        *,
        older_than_s: float = 600.0,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> list[tuple[str, BloomeryError | None]]:
        """Whatever processes of ours have left half done is finished or undone.

        Args:
            older_than_s: what was begun more recently is left alone: its process may still be at it.
            timeout_s: seconds that each node may take.
            cancellation: stops it.
            on_progress: is told how far it has got.

        Returns:
            Each node, by name, that was seen to, and what went wrong there.
        """
        options = _options(timeout_s, cancellation, on_progress)
        return list(recover.recover_all(self.services, options, older_than_s=older_than_s))

    def checkup(self) -> list[Check]:
        """Is everything there that an instance needs, and what to do where it is not. Changes nothing."""
        return list(checkup(self.services))

    def leaks(self) -> Survey:
        """What seems to be left of instances and operations that are gone, and what proves it. Changes nothing."""
        return look(self.services)

    def mend(self, leak: Leak) -> Outcome:
        """The leak is gone, if what is read now proves it; otherwise nothing was changed."""
        return mend(self.services, leak)

    def janitor(
        self,
        habits: Habits | None = None,
        *,
        on_pass: Callable[[Pass], None] = lambda _done: None,
        may_look: Callable[[], bool] = lambda: True,
    ) -> Janitor:
        """A janitor for this cloud: `start` it, or use it as a context manager.

        Args:
            habits: how often it looks, and how fast it works; None means as `Habits` has them.
            on_pass: told of every pass, in the janitor's thread.
            may_look: asked before each look whether this one may; for whoever has several, of which one is to look.
        """
        return Janitor(self.services, habits or Habits(), on_pass, may_look)

    def finish(
        self,
        operation: str,
        instance_uuid: str,
        *,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> Instance | None:
        """What another process began to do with the instance, and did not live to see the end of, is done or undone.

        Args:
            operation: `deploy`, `rebuild`, `rescue` or `unrescue`.
            instance_uuid: the instance.
            timeout_s: seconds that it may take.
            cancellation: stops it.
            on_progress: is told how far it has got.

        Returns:
            The instance, where the operation came to its end; None if nothing is left of it.

        Raises:
            OperationFailed: it ended in failure, or was undone.
        """
        options = _options(timeout_s, cancellation, on_progress)
        node = recover.finish(self.services, operation, instance_uuid, options)
        return self.show(instance_uuid) if node is not None and node.instance_uuid == instance_uuid else None

    def show(self, instance: str) -> Instance:
        """The instance, with its VIFs and their addresses.

        Raises:
            InstanceNotFound: there is none.
            AmbiguousName: several answer to that name.
        """
        node = self._instance(instance)
        return instance_on(node, interfaces.interfaces(self.services, node, _options(QUICK_TIMEOUT_S)))

    def instances(self) -> list[Instance]:
        """Every instance, without VIFs."""
        nodes = self._ironic().nodes({"associated": True})
        return sorted((instance_on(node) for node in nodes), key=lambda instance: instance.name)

    def problems(self, instance: str) -> list[str]:
        """What does not fit between the instance and its node; empty if they belong together."""
        return instances.problems(self.services, self._instance(instance), _options(QUICK_TIMEOUT_S))

    # Power

    def power_on(
        self,
        instance: str,
        *,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """The machine is powered on.

        Raises:
            PowerFailed: it is not; says why.
        """
        power.power_on(self.services, self._instance(instance), _options(timeout_s, cancellation, on_progress))

    def power_off(
        self,
        instance: str,
        *,
        soft_s: float | None = None,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """The machine is powered off; with `soft_s`, its system has so many seconds to shut down by itself.

        Raises:
            PowerFailed: it is not; says why.
        """
        options = _options(timeout_s, cancellation, on_progress)
        power.power_off(self.services, self._instance(instance), options, soft_s=soft_s)

    def reboot(
        self,
        instance: str,
        *,
        soft_s: float | None = None,
        timeout_s: float = POWER_TIMEOUT_S,
        cancellation: Cancellation | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """The machine was restarted and is on; with `soft_s`, its system has so many seconds to shut down by itself.

        Raises:
            PowerFailed: it was not; says why.
        """
        options = _options(timeout_s, cancellation, on_progress)
        power.reboot(self.services, self._instance(instance), options, soft_s=soft_s)

    # Interfaces

    def interfaces(self, instance: str) -> list[PluggedVif]:
        """The VIFs of the instance."""
        return interfaces.interfaces(self.services, self._instance(instance), _options(QUICK_TIMEOUT_S))

    def attach_interface(self, instance: str, nic: Nic, *, timeout_s: float = POWER_TIMEOUT_S) -> PluggedVif:
        """The VIF is on a NIC of the instance.

        Raises:
            RequestError, Conflict: it cannot be had.
            InterfaceFailed: Ironic refuses it.
        """
        node = self._instance(instance)
        instances.must_be_ours(node, "change")
        return interfaces.attach(self.services, node, nic, _options(timeout_s))

    def detach_interface(self, instance: str, vif: str, *, timeout_s: float = POWER_TIMEOUT_S) -> None:
        """The VIF, named by id, name, MAC or address, is on no NIC of the instance; deleted, if we created it.

        Raises:
            NetworkNotFound: the instance has no such VIF.
            InterfaceFailed: Ironic does not let it go.
        """
        node = self._instance(instance)
        instances.must_be_ours(node, "change")
        interfaces.detach(self.services, node, vif, _options(timeout_s))

    def security_groups(self, instance: str) -> list[tuple[PluggedVif, list[SecurityGroup]]]:
        """Of each VIF of the instance: its security groups."""
        return interfaces.security_groups(self.services, self._instance(instance), _options(QUICK_TIMEOUT_S))

    def add_security_group(self, instance: str, group: str, *, vif: str | None = None) -> None:
        """The VIFs of the instance, or the one named, have the security group."""
        node = self._instance(instance)
        interfaces.change_security_group(self.services, node, group, _options(QUICK_TIMEOUT_S), add=True, vif=vif)

    def remove_security_group(self, instance: str, group: str, *, vif: str | None = None) -> None:
        """The VIFs of the instance, or the one named, do not have the security group."""
        node = self._instance(instance)
        interfaces.change_security_group(self.services, node, group, _options(QUICK_TIMEOUT_S), add=False, vif=vif)

    # Volumes

    def volume_connector(self, node: str) -> Connector:
        """How the storage is to know the machine."""
        return volumes.connector(self.services, self._node(node), _options(QUICK_TIMEOUT_S))

    def volume_targets(self, node: str) -> list[VolumeTarget]:
        """The volumes of the node."""
        ironic = self._ironic()
        return ironic.volume_targets(instances.find_node(ironic, node).uuid)

    def attach_volume(self, instance: str, volume: Volume) -> VolumeTarget:
        """The instance, which must be off, has the volume from its next start on."""
        node = self._instance(instance)
        instances.must_be_ours(node, "change")
        return volumes.attach(self.services, node, volume, _options(POWER_TIMEOUT_S))

    def detach_volume(self, instance: str, volume_id: str) -> None:
        """The instance, which must be off, does not have the volume any more."""
        node = self._instance(instance)
        instances.must_be_ours(node, "change")
        volumes.detach(self.services, node, volume_id, _options(POWER_TIMEOUT_S))

    # Consoles and the rest

    def enable_console(self, node: str, *, force: bool = False) -> ConsoleAddress:
        """The console runs; says where. One that runs already is left to its user, unless forced.

        Args:
            node: its name or UUID, or that of the instance on it.
            force: take it from whoever is on it.
        """
        return console.enable(self.services, self._machine(node), _options(POWER_TIMEOUT_S), force=force)

    def console_runs(self, node: str) -> bool:
        """Whether the console of the node, or of the node of an instance, runs. Throws nobody out."""
        return bool(self._machine(node).console_enabled)

    def console(self, node: str) -> ConsoleAddress | None:
        """Where the console of the node, or of the node of an instance, is, if it runs.

        With Ironic 39.0.0, whoever is on a serial one may be thrown out by the question.
        """
        return console.address(self.services, self._machine(node), _options(QUICK_TIMEOUT_S))

    def disable_console(self, node: str, *, force: bool = False) -> None:
        """The console of the node, or of an instance's node, does not run. One that runs is left to its user, unless forced."""
        console.disable(self.services, self._machine(node), _options(POWER_TIMEOUT_S), force=force)

    def crash_dump(self, instance: str) -> None:
        """The machine has got a non-maskable interrupt, which makes its kernel write a dump, if it is set up to."""
        crash_dump.crash_dump(self.services, self._instance(instance), _options(QUICK_TIMEOUT_S))

    # Nodes and networks

    def fleet(self, filters: Mapping[str, str | bool] | None = None) -> Fleet:
        """All nodes that pass Ironic's own filters."""
        fleet = Fleet()
        fleet.read(self._ironic(), filters)
        return fleet

    def node(self, node: str) -> Node:
        """The node of that name or UUID.

        Raises:
            NodeNotFound: there is none.
        """
        return self._node(node)

    def validate_node(self, node: str) -> dict[str, Validation]:
        """What each of the node's interfaces says."""
        ironic = self._ironic()
        return ironic.validation(instances.find_node(ironic, node).uuid)

    def nics(self, node: str) -> tuple[list[PortGroup], list[Port]]:
        """The bonds and the NICs of the node, each with the VIF on it."""
        ironic = self._ironic()
        node_uuid = instances.find_node(ironic, node).uuid
        return ironic.port_groups(node_uuid), ironic.ports(node_uuid)

    def inventory(self, node: str) -> dict[str, Any] | None:
        """The node's hardware, as inspection found it; None where no inspection has."""
        ironic = self._ironic()
        return ironic.inventory(instances.find_node(ironic, node).uuid)

    def history(self, node: str) -> list[HistoryEvent]:
        """What Ironic itself noted about the node, mostly errors."""
        ironic = self._ironic()
        return ironic.history(instances.find_node(ironic, node).uuid)

    def firmware(self, node: str) -> list[FirmwareComponent]:
        """The firmware of the node's parts, as far as Ironic has noted it.

        Raises:
            NotSupported: this Ironic has no word for it.
        """
        ironic = self._ironic()
        return ironic.firmware(instances.find_node(ironic, node).uuid)

    def why_not(self, wanted: Wanted) -> dict[str, tuple[str, ...]]:
        """Of each node, by name: the conditions that it does not meet; empty for those that fit."""
        return {node.label: why_not(node, wanted) for node in self.fleet().nodes}

    def networks(self) -> list[Network]:
        """The networks that these credentials may see."""
        return self._neutron().networks()

    def images(self) -> list[GlanceImage]:
        """The images that Glance shows and that can be used; none where the cloud has no Glance."""
        if self.services.glance is None:
            return []
        return self.services.glance.within(self.services.asking(QUICK_TIMEOUT_S)).images()

    def _instance(self, name_or_uuid: str) -> Node:
        return instances.find(self._ironic(), name_or_uuid)

    def _machine(self, name_or_uuid: str) -> Node:
        """The node of that name or UUID, or the node of that instance; the former where there are both."""
        return instances.find_machine(self._ironic(), name_or_uuid)

    def _node(self, name_or_uuid: str) -> Node:
        return instances.find_node(self._ironic(), name_or_uuid)


def each(calls: Iterable[Callable[[], T]], *, at_once: int = 4) -> list[T | BloomeryError]:
    """Every call is made, so many at a time; with each, in their order, its result or its error."""

    def outcome(future: Future[T]) -> T | BloomeryError:
        problem = future.exception()
        if isinstance(problem, BloomeryError):
            return problem
        return future.result()

    with ThreadPoolExecutor(max_workers=max(1, at_once), thread_name_prefix="bloomery") as pool:
        futures = [pool.submit(call) for call in calls]
        return [outcome(future) for future in futures]


def _options(timeout_s: float, cancellation: Cancellation | None = None, on_progress: OnProgress = ignore) -> Options:
    if timeout_s <= 0:
        raise InvalidRequest(f"a timeout of {timeout_s:g} s is not allowed", advice="Give seconds above 0")
    return Options(timeout_s=timeout_s, cancellation=cancellation or Cancellation(), on_progress=on_progress)


def _is_there(adapter: Adapter) -> bool:
    """Whether the cloud has the service at all."""
    if adapter.endpoint_override is not None:
        return True
    try:
        return adapter.get_endpoint() is not None
    except ksa_exceptions.ClientException:
        return False
