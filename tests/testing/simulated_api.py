"""A plain HTTP client for the simulators' tests: it says what it is told to and hides nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import requests

IMAGE = {"image_source": "http://127.0.0.1/image", "image_checksum": "0" * 32}


class Api:
    """Requests to one simulator over one kept-alive connection."""

    def __init__(self, url: str, *, version: str = "1.115") -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["X-OpenStack-Ironic-API-Version"] = version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """The answer, whatever it is."""
        return self._session.request(method, self._url + path, json=body, headers=headers, timeout=10)

    def get(self, path: str) -> Any:
        """The body of a successful answer."""
        return self._ok(self.ask("GET", path))

    def post(self, path: str, body: Any) -> Any:
        return self._ok(self.ask("POST", path, body))

    def put(self, path: str, body: Any = None) -> Any:
        return self._ok(self.ask("PUT", path, body))

    def patch(self, path: str, **values: Any) -> Any:
        """The record with the fields replaced; a None removes one."""
        return self._ok(self.ask("PATCH", path, changes(**values)))

    def delete(self, path: str) -> Any:
        return self._ok(self.ask("DELETE", path))

    def provision(self, node: str, target: str, **arguments: Any) -> None:
        self.put(f"/v1/nodes/{node}/states/provision", {"target": target, **arguments})

    def claim(self, node: str, **instance_info: Any) -> str:
        """The node is an instance's, with an image to deploy; returns the instance's UUID."""
        instance_uuid = str(uuid.uuid4())
        self.patch(f"/v1/nodes/{node}", instance_uuid=instance_uuid, instance_info={**IMAGE, **instance_info})
        return instance_uuid

    def _ok(self, response: requests.Response) -> Any:
        assert response.ok, f"{response.request.method} {response.url}: {response.status_code} {response.text}"
        return response.json() if response.content else None


def changes(**values: Any) -> list[dict[str, Any]]:
    """A JSON patch that gives the fields these values."""
    return [
        {"op": "remove", "path": f"/{name}"} if value is None else {"op": "replace", "path": f"/{name}", "value": value}
        for name, value in values.items()
    ]


def fault(response: requests.Response) -> str:
    """What a refusal says."""
    outer = response.json()["error_message"]
    inner = json.loads(outer)
    return str(inner.get("faultstring", inner.get("description")))
