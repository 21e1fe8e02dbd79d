"""Our errors as Nova's. What a tenant reads in a server's fault has no address and no node in it; the log has all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import oslo_messaging
from keystoneauth1 import exceptions as ksa_exceptions
from nova import exception
from oslo_db.exception import DBError
from sqlalchemy.exc import SQLAlchemyError

from bloomery import errors
from bloomery.errors import BloomeryError
from bloomery.plain import logger, without_places

log = logger(__name__)

NovaError = Callable[[str], Exception]

NOVA_IS_AWAY = (exception.NovaException, oslo_messaging.MessagingException, DBError, SQLAlchemyError)
"""What Nova's objects raise when its database or bus is away, or the server was deleted meanwhile."""

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
        log.warning("%s", problem.in_full)
        special = (also[kind] for kind in type(problem).__mro__ if also is not None and kind in also)
        raise _with_details(next(special, failing or nova_error_of(problem))(problem.told_users)) from problem
    except ksa_exceptions.ClientException as problem:
        log.warning("[ironic] cannot be used: %s", problem)
        raise _with_details((failing or exception.VirtDriverNotReady)(without_places(str(problem)))) from problem


def _with_details(error: Exception) -> Exception:
    """The error, of whose cause an operator reads in the fault's details: node, step, addresses. Users do not see those.

    Nova keeps details of faults with this code only.
    """
    if isinstance(error, exception.NovaException):
        error.kwargs["code"] = 500
    return error


def nova_error_of(problem: BloomeryError) -> type[Exception]:
    """The row of the table: the error's own, or that of the nearest class above it."""
    return next(TABLE[kind] for kind in type(problem).__mro__ if kind in TABLE)
