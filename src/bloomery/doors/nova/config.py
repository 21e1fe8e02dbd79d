"""What nova.conf says: `[ironic]` as Nova has it, and `[bloomery]` with what Nova has no option for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import nova.conf
from nova import utils
from oslo_config import cfg

from bloomery.deadline import Cancellation
from bloomery.library import Adapters, Bloomery
from bloomery.operations.run import NOVA, OnProgress, Options, Services, ignore

CONF = nova.conf.CONF

LEAST_QUICK_S = 15.0
"""What a quick call may take, even where `[ironic]` says that nothing is to be repeated."""

GROUP = cfg.OptGroup("bloomery", title="Options of Bloomery's driver, in addition to those of [ironic]")
OPTIONS = [
    cfg.IntOpt("deploy_timeout", default=7200, min=1, help="Seconds that a deploy or a rebuild may take."),
    cfg.IntOpt("tear_down_timeout", default=3600, min=1, help="Seconds that tearing a node down may take."),
    cfg.IntOpt("rescue_timeout", default=3600, min=1, help="Seconds that a rescue or unrescue may take."),
    cfg.IntOpt("power_timeout", default=600, min=1, help="Seconds that changing the power of a node may take."),
    cfg.IntOpt("claim_timeout", default=60, min=1, help="Seconds that a locked node is waited for before another is."),
    cfg.IntOpt("connections", default=6, min=1, help="Requests that may be under way at Ironic at once."),
    cfg.IntOpt(
        "full_list_interval",
        default=300,
        min=0,
        help="Seconds after which every node is read again; in between only what has changed is. Nodes that were deleted, "
        "and traits, which Ironic does not count as a change of their node, are seen then. 0 always reads them all.",
    ),
    cfg.IntOpt(
        "node_loss_limit",
        default=50,
        min=1,
        max=100,
        help="Percentage of the known nodes: if more than that have vanished at once, Ironic is not believed, as where the "
        "service user has lost its roles. 100 believes everything.",
    ),
]

CONF.register_group(GROUP)
CONF.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options, for oslo's generator of sample configurations."""
    return [(GROUP, OPTIONS)]


def quick_timeout_s() -> float:
    """Seconds that a call may be repeated which asks only, or changes something at once: what `[ironic]` says of retries."""
    return max(LEAST_QUICK_S, float(CONF.ironic.api_max_retries * CONF.ironic.api_retry_interval))


def options(
    timeout_s: float | None = None, *, cancellation: Cancellation | None = None, on_progress: OnProgress = ignore
) -> Options:
    """How an operation is carried out; without a time of its own, as a quick one."""
    return Options(
        timeout_s=timeout_s or quick_timeout_s(),
        cancellation=cancellation or Cancellation(),
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
    # Neutron is Nova's to talk to: what is to be plugged is in the calls.
    api = Bloomery.over(
        Adapters(baremetal=adapter, network=None, image=None), connections=CONF.bloomery.connections, timeout_s=15.0
    )
    found = api.services
    return Services(ironic=found.ironic, watch=found.watch, host=CONF.host, manager=NOVA)
