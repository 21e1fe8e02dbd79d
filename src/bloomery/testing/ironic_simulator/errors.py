"""Ironic's refusals, with its status codes and its wording.

Source: ironic common/exception.py and api/method.py (39.0).
"""

from __future__ import annotations

import json
from http.client import responses as reason_phrases
from typing import Any


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, *, from_framework: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.from_framework = from_framework

    @property
    def body(self) -> dict[str, Any]:
        """The body as Ironic sends it: JSON within JSON."""
        if self.from_framework:
            fault = {"code": self.status, "title": reason_phrases[self.status], "description": self.message}
        else:
            fault = {
                "faultcode": "Client" if 400 <= self.status < 500 else "Server",
                "faultstring": self.message,
                "debuginfo": None,
            }
        return {"error_message": json.dumps(fault)}


class WorkFailed(Exception):
    """A conductor's work on a node ended badly, for a reason that goes into `last_error`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def conflict(message: str) -> ApiError:
    return ApiError(409, message)


def not_acceptable(message: str = "Request not acceptable.") -> ApiError:
    return ApiError(406, message)


def not_found(message: str = "Resource could not be found.") -> ApiError:
    return ApiError(404, message)


def no_such_page() -> ApiError:
    return ApiError(404, "", from_framework=True)


def method_not_allowed() -> ApiError:
    return ApiError(405, "", from_framework=True)


def node_not_found(ident: str, *, status: int = 404) -> ApiError:
    return ApiError(status, f"Node {ident} could not be found.")


def node_locked(node_uuid: str, host: str) -> ApiError:
    return conflict(
        f"Node {node_uuid} is locked by host {host}, please retry after the current operation is completed."
    )


def state_refused(action: str, node: str, state: str | None) -> ApiError:
    return bad_request(
        f'The requested action "{action}" can not be performed on node "{node}" while it is in state "{state}".'
    )


def in_maintenance(operation: str, node_uuid: str) -> ApiError:
    return bad_request(
        f"The {operation} operation can't be performed on node {node_uuid} because it's in maintenance mode."
    )


def is_retired(operation: str, node_uuid: str) -> ApiError:
    return bad_request(f"The {operation} operation can't be performed on node {node_uuid} because it is retired.")


def is_protected(node_uuid: str) -> ApiError:
    return ApiError(403, f"Node {node_uuid} is protected and cannot be undeployed, rebuilt or deleted")


def is_associated(node_uuid: str, instance_uuid: str) -> ApiError:
    return conflict(f"Node {node_uuid} is associated with instance {instance_uuid}.")


def no_free_worker() -> ApiError:
    return ApiError(503, "Requested action cannot be performed due to lack of free conductor workers.")


def unsupported(driver: str, extension: str) -> ApiError:
    return bad_request(f"Driver {driver} does not support {extension} (disabled or not implemented).")
