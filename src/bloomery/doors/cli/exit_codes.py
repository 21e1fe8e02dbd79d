"""Which exit code each error ends with: one table, documented in docs/cli.md."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bloomery import errors
from bloomery.errors import BloomeryError

OK = 0
NOT_WELL = 1
"""A check of `doctor` or `validate` found something, or Bloomery itself has a bug."""
CANCELLED = 130

EXIT_CODES: Mapping[type[BloomeryError], int] = MappingProxyType(
    {
        BloomeryError: 1,
        errors.RequestError: 2,
        errors.InvalidRequest: 2,
        errors.NotFound: 3,
        errors.NodeNotFound: 3,
        errors.InstanceNotFound: 3,
        errors.NetworkNotFound: 3,
        errors.ImageNotFound: 3,
        errors.Conflict: 4,
        errors.AmbiguousName: 4,
        errors.NodeClaimed: 4,
        errors.NodeLocked: 4,
        errors.NodeUnavailable: 4,
        errors.VifInUse: 4,
        errors.ConsoleInUse: 4,
        errors.NodeTakenAway: 4,
        errors.AccessDenied: 5,
        errors.GatewayError: 6,
        errors.ServiceUnavailable: 6,
        errors.RequestRefused: 6,
        errors.UnexpectedReply: 6,
        errors.OperationFailed: 7,
        errors.ValidationFailed: 7,
        errors.AllocationFailed: 7,
        errors.DeployFailed: 7,
        errors.RebuildFailed: 7,
        errors.TearDownFailed: 7,
        errors.CleanFailed: 7,
        errors.RescueFailed: 7,
        errors.PowerFailed: 7,
        errors.InterfaceFailed: 7,
        errors.ConsoleFailed: 7,
        errors.OperationTimedOut: 8,
        errors.RollbackIncomplete: 9,
        errors.NoNodeFits: 10,
        errors.NotSupported: 11,
        errors.ServiceTooOld: 11,
        errors.OperationCancelled: CANCELLED,
    }
)
"""A row for each class, so that a new one is not forgotten: a test walks the tree."""


def exit_code_of(error: BloomeryError) -> int:
    """The code that the command ends with."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
