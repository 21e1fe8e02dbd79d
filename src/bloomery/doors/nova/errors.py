"""Our errors as Nova's. What a tenant reads in a server's fault has no address and no node in it; the log has all of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from keystoneauth1 import exceptions as ksa_exceptions
from nova import exception

from bloomery import errors
from bloomery.errors import BloomeryError

log = logging.getLogger(__name__)

NovaError = Callable[[str], Exception]

TABLE: Mapping[type[BloomeryError], type[Exception]] = MappingProxyType(
    {
        errors.BloomeryError: exception.NovaException,
        errors.RequestError: exception.Invalid,
        errors.InvalidRequest: exception.Invalid,
        errors.NotSupported: exception.NotSupported,
        errors.NoNodeFits: exception.ComputeResourcesUnavailable,
        errors.AccessDenied: exception.VirtDriverNotReady,
        errors.NotFound: exception.NotFound,
        errors.NodeNotFound: exception.ComputeHostNotFound,
        errors.InstanceNotFound: exception.InstanceNotFound,
        errors.NetworkNotFound: exception.PortNotFound,
        errors.ImageNotFound: exception.ImageNotFound,
        errors.Conflict: exception.InstanceInvalidState,
        errors.AmbiguousName: exception.Invalid,
        errors.NodeClaimed: exception.ComputeResourcesUnavailable,
        errors.NodeLocked: exception.InstanceInvalidState,
        errors.NodeUnavailable: exception.InstanceInvalidState,
        errors.VifInUse: exception.PortInUse,
        errors.ConsoleInUse: exception.ConsoleTypeUnavailable,
        errors.GatewayError: exception.VirtDriverNotReady,
        errors.ServiceUnavailable: exception.VirtDriverNotReady,
        errors.ServiceTooOld: exception.VirtDriverNotReady,
        errors.RequestRefused: exception.NovaException,
        errors.UnexpectedReply: exception.VirtDriverNotReady,
        errors.OperationFailed: exception.NovaException,
        errors.ValidationFailed: exception.ValidationError,
        errors.AllocationFailed: exception.ComputeResourcesUnavailable,
        errors.DeployFailed: exception.InstanceDeployFailure,
        errors.RebuildFailed: exception.InstanceDeployFailure,
        errors.TearDownFailed: exception.InstanceTerminationFailure,
        errors.CleanFailed: exception.InstanceTerminationFailure,
        errors.RescueFailed: exception.InstanceRescueFailure,
        errors.PowerFailed: exception.InstancePowerOnFailure,
        errors.InterfaceFailed: exception.VirtualInterfacePlugException,
        errors.ConsoleFailed: exception.ConsoleTypeUnavailable,
        errors.OperationTimedOut: exception.NovaException,
        errors.OperationCancelled: exception.NovaException,
        errors.NodeTakenAway: exception.InstanceInvalidState,
        errors.RollbackIncomplete: exception.NovaException,
    }
)
"""What each of our errors is to Nova where the call does not say it more closely."""

IMAGE_REFUSED = "image is not valid for use"
"""Ironic's words for an image that no node can be deployed with: its reason comes as a sentence only."""

_ADDRESSES = re.compile(
    r"\b[a-z][a-z0-9+.-]*://[^\s'\",)]+"  # URLs
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # IPv4
    r"|(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])",  # IPv6 and MAC addresses
    re.IGNORECASE,
)
_NODE_NAME = re.compile(r"(?<!\bthe )(?<!\ba )(?<!\bno )(?<!\bany )\bnode [A-Za-z0-9._~…-]+")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)


def without_addresses(text: str) -> str:
    """The text as anybody may read it: nothing in it tells where a service, a BMC or a node is."""
    return _UUID.sub("…", _ADDRESSES.sub("(address)", text))


def words_of(problem: BloomeryError) -> str:
    """What happened, for a tenant: Ironic's reason, at which step, and by which id an operator finds it in the logs."""
    text = _NODE_NAME.sub("the node", without_addresses(problem.message))
    if problem.reason:
        text += f": {without_addresses(problem.reason).rstrip('.')}"
    if problem.step and problem.step not in text:
        text += f" (at step {problem.step!r})"
    if problem.request_id:
        text += f" [{problem.request_id}]"
    return text


@contextmanager
def nova_errors(
    failing: NovaError | None = None, *, also: Mapping[type[BloomeryError], NovaError] | None = None
) -> Iterator[None]:
    """Within the block an error of ours becomes one of Nova's, with ours as its cause.

    Args:
        failing: what any error of ours is here. None takes it from the table.
        also: exceptions from that, by kind of error.
    """
    try:
        yield
    except BloomeryError as problem:
        log.warning("%s", problem)
        for kind in type(problem).__mro__:
            if also is not None and kind in also:
                raise also[kind](words_of(problem)) from problem
        raise (failing or nova_error_of(problem))(words_of(problem)) from problem
    except ksa_exceptions.ClientException as problem:
        log.warning("[ironic] cannot be used: %s", problem)
        raise (failing or exception.VirtDriverNotReady)(without_addresses(str(problem))) from problem


def nova_error_of(problem: BloomeryError) -> type[Exception]:
    """The row of the table: the error's own, or that of the nearest class above it."""
    return next(TABLE[kind] for kind in type(problem).__mro__ if kind in TABLE)
