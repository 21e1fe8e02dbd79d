"""What nova.conf says: `[ironic]` as Nova has it, and `[bloomery]` with what Nova has no option for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import nova.conf
from nova import utils
from oslo_config import cfg

from bloomery.bus import Bus, BusAddress
from bloomery.deadline import Cancellation
from bloomery.doors.nova.options import GROUP, OPTIONS
from bloomery.library import Adapters, Bloomery
from bloomery.operations.run import NOVA, OnProgress, Options, Services, ignore
from bloomery.plain import logger
from bloomery.watch import Watch

CONF = nova.conf.CONF
log = logger(__name__)

LEAST_QUICK_S = 15.0
"""What a quick call may take, even where `[ironic]` says that nothing is to be repeated."""

CONF.register_group(GROUP)
CONF.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options, for oslo's generator of sample configurations."""
    return [(GROUP, OPTIONS)]


def quick_timeout_s() -> float:
    """Seconds that a call may be repeated which asks only, or changes something at once: what `[ironic]` says of retries."""
    return max(LEAST_QUICK_S, float(CONF.ironic.api_max_retries * CONF.ironic.api_retry_interval))


_LEAVABLE: weakref.WeakSet[Cancellation] = weakref.WeakSet()
"""Of the operations that are under way: those that the end of the service cuts short."""
_LEAVABLE_LOCK = threading.Lock()


def leave_all() -> None:
    """Nobody waits any more for what a service that starts takes up again; what is under way stays as it is."""
    with _LEAVABLE_LOCK:
        for cancellation in _LEAVABLE:
            cancellation.leave()


def options(
    timeout_s: float | None = None,
    *,
    cancellation: Cancellation | None = None,
    on_progress: OnProgress = ignore,
    leavable: bool = False,
) -> Options:
    """How an operation is carried out; without a time of its own, as a quick one.

    Args:
        timeout_s: None means as a quick one.
        cancellation: how its caller may stop it.
        on_progress: is told how far it has got.
        leavable: whether the end of the service cuts it short, because the next start takes it up again.
    """
    cancellation = cancellation or Cancellation()
    if leavable:
        with _LEAVABLE_LOCK:
            _LEAVABLE.add(cancellation)
    return Options(
        timeout_s=timeout_s or quick_timeout_s(),
        cancellation=cancellation,
        on_progress=on_progress,
        undo_timeout_s=float(CONF.bloomery.tear_down_timeout),
        patience_s=quick_timeout_s(),
    )


class Connection:
    """Ironic, connected to when it is first needed. Safe to share between threads.

    Args:
        connect: makes the services; None takes `[ironic]` of nova.conf.
    """

    def __init__(self, connect: Callable[[], Services] | None = None) -> None:
        self._connect = connect or services_of_conf
        self._lock = threading.Lock()
        self._services: Services | None = None

    @property
    def services(self) -> Services:
        """What operations work on.

        Raises:
            GatewayError: Ironic cannot be had now; the next call tries again.
        """
        with self._lock:
            if self._services is None:
                self._services = self._connect()
            return self._services


def services_of_conf() -> Services:
    """Ironic as `[ironic]` describes it, for this compute service."""
    # review: the transport gives each request its own timeout
    adapter: Any = utils.get_ksa_adapter("baremetal")
    # Neutron's ports are Nova's to change, and what is to be plugged is in the calls: it is only asked whose a VIF is.
    has_network = CONF.neutron.get("auth_type") or CONF.neutron.auth_section or CONF.neutron.endpoint_override
    # review: the transport gives each request its own timeout
    network: Any = utils.get_ksa_adapter("network") if has_network else None
    adapters = Adapters(baremetal=adapter, network=network, image=None)
    found = Bloomery.over(adapters, connections=CONF.bloomery.connections, timeout_s=15.0).services
    if found.neutron is None:
        log.warning("there is no Neutron in [neutron]: whether a VIF is plugged into another node is not looked at")
    listen(found.watch)
    return Services(ironic=found.ironic, watch=found.watch, neutron_to_ask=found.neutron, host=CONF.host, manager=NOVA)


def listen(watch: Watch) -> Bus | None:
    """The watch hears what Ironic notifies, from now on, if nova.conf says where; whether the bus is there or not."""
    url = CONF.bloomery.notification_url
    if not url:
        return None
    pool = CONF.bloomery.notification_pool
    address = BusAddress.of(
        url,
        pool=f"bloomery-nova-{CONF.host}" if pool is None else pool,
        topic=CONF.bloomery.notification_topic,
        exchange=CONF.bloomery.notification_exchange,
    )
    bus = Bus(address, conf=CONF)
    bus.tell(watch.heard)
    bus.start()
    return bus
