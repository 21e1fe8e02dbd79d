"""What stands in for Keystone and Cinder: a WSGI application with as much of each as Nova and its clients ask for.

Any password is right. A token carries who it was made for, so that nothing is kept of it.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

_ROLES = {
    "admin": ("admin", "manager", "member", "reader"),
    "nova": ("admin", "service", "manager", "member", "reader"),
}
_USER_ROLES = ("member", "reader")
_FOREVER = "2099-01-01T00:00:00.000000Z"
_EPOCH = "2026-01-01T00:00:00.000000Z"
_NAMESPACE = uuid.UUID("1c6e1d7a-11a5-5a0e-8a1e-2f6ad1ab62a0")

Answer = tuple[HTTPStatus, Any, dict[str, str]]


def project_id(name: str) -> str:
    """The id of the project of that name."""
    return uuid.uuid5(_NAMESPACE, name).hex


class Identity:
    """Keystone, as far as tokens and the catalog go."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [
                    {"id": kind, "interface": interface, "region": "lab", "region_id": "lab", "url": url}
                    for interface in ("public", "internal", "admin")
                ],
            }
            for kind, url in endpoints.items()
        ]

    def answer(self, method: str, path: list[str], headers: Mapping[str, str], body: Any) -> Answer:
        match (method, path):
            case ("GET", ["v3"] | [""]):
                links = [{"rel": "self", "href": headers["base_url"]}]
                version = {"id": "v3.14", "status": "stable", "links": links, "updated": _EPOCH, "media-types": []}
                return HTTPStatus.OK, {"version": version}, {}
            case ("POST", ["v3", "auth", "tokens"]):
                auth = body["auth"]
                user = auth["identity"].get("password", {}).get("user", {"name": "alice"})
                project = auth.get("scope", {}).get("project", {"name": "demo"})
                who = {"user": user.get("name") or user["id"], "project": project.get("name") or project["id"]}
                text = base64.urlsafe_b64encode(json.dumps(who).encode()).decode()
                # Placement without Keystone reads the user from what stands before the colon.
                token = f"{'admin' if 'admin' in _ROLES.get(who['user'], ()) else who['user']}:{text}"
                return HTTPStatus.CREATED, self._token(token), {"X-Subject-Token": token}
            case ("GET", ["v3", "auth", "tokens"]):
                return HTTPStatus.OK, self._token(headers["x-subject-token"]), {}
        return _missing(path)

    def _token(self, token: str) -> dict[str, Any]:
        who = json.loads(base64.urlsafe_b64decode(token.partition(":")[2]))
        domain = {"id": "default", "name": "Default"}
        return {
            "token": {
                "methods": ["password"],
                "user": {"id": who["user"], "name": who["user"], "domain": domain, "password_expires_at": None},
                "project": {"id": project_id(who["project"]), "name": who["project"], "domain": domain},
                "roles": [{"id": role, "name": role} for role in _ROLES.get(who["user"], _USER_ROLES)],
                "catalog": self._catalog,
                "expires_at": _FOREVER,
                "issued_at": _EPOCH,
                "audit_ids": ["lab"],
                "is_domain": False,
            }
        }


class Volumes:
    """Cinder, as far as an instance's volumes go; each is an iSCSI target that nobody connects to."""

    def __init__(self, image_ids: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._image_ids = image_ids
        self._volumes: dict[str, dict[str, Any]] = {}
        self._attachments: dict[str, dict[str, Any]] = {}

    def answer(self, method: str, path: list[str], body: Any) -> Answer:
        with self._lock:
            return self._answer(method, path, body)

    def _answer(self, method: str, path: list[str], body: Any) -> Answer:
        match (method, path):
            case ("GET", ["v3"] | [""]):
                version = {"id": "v3.0", "status": "CURRENT", "version": "3.71", "min_version": "3.0", "links": []}
                return HTTPStatus.OK, {"versions": [version]}, {}
            case ("POST", ["v3", _, "volumes"]):
                return HTTPStatus.ACCEPTED, {"volume": self._create(body["volume"])}, {}
            case ("GET", ["v3", _, "volumes", number]) if number in self._volumes:
                return HTTPStatus.OK, {"volume": self._shown(number)}, {}
            case ("DELETE", ["v3", _, "volumes", number]) if number in self._volumes:
                del self._volumes[number]
                return HTTPStatus.ACCEPTED, None, {}
            case ("POST", ["v3", _, "volumes", number, "action"]) if number in self._volumes:
                return HTTPStatus.ACCEPTED, None, {}
            case ("GET", ["v3", _, "attachments"]):
                return HTTPStatus.OK, {"attachments": list(self._attachments.values())}, {}
            case ("GET", ["v3", _, "attachments", number]) if number in self._attachments:
                return HTTPStatus.OK, {"attachment": self._attachments[number]}, {}
            case ("POST", ["v3", _, "attachments"]):
                wanted = body["attachment"]
                number = str(uuid.uuid4())
                self._attachments[number] = {
                    "id": number,
                    "volume_id": wanted["volume_uuid"],
                    "instance": wanted["instance_uuid"],
                    "status": "reserved",
                    "attach_mode": "rw",
                    "attached_at": "",
                    "detached_at": "",
                    "connection_info": {},
                }
                self._connect(number, wanted.get("connector"))
                return HTTPStatus.OK, {"attachment": self._attachments[number]}, {}
            case ("PUT", ["v3", _, "attachments", number]) if number in self._attachments:
                self._connect(number, body["attachment"]["connector"])
                return HTTPStatus.OK, {"attachment": self._attachments[number]}, {}
            case ("POST", ["v3", _, "attachments", number, "action"]) if number in self._attachments:
                self._attachments[number]["status"] = "attached"
                return HTTPStatus.NO_CONTENT, None, {}
            case ("DELETE", ["v3", _, "attachments", number]) if number in self._attachments:
                del self._attachments[number]
                return HTTPStatus.OK, {"attachments": []}, {}
        return _missing(path)

    def _create(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        number = str(uuid.uuid4())
        image = wanted.get("imageRef")
        self._volumes[number] = {
            "id": number,
            "name": wanted.get("name"),
            "description": None,
            "user_id": "alice",
            "size": wanted["size"],
            "availability_zone": "nova",
            "bootable": "true" if image else "false",
            "encrypted": False,
            "multiattach": False,
            "metadata": {},
            "shared_targets": False,
            "service_uuid": None,
            "volume_type": "lab",
            "snapshot_id": None,
            "created_at": _EPOCH,
            **(
                {"volume_image_metadata": {"image_id": image, "container_format": "bare", "disk_format": "raw"}}
                if image
                else {}
            ),
        }
        return self._shown(number)

    def _connect(self, number: str, connector: Mapping[str, Any] | None) -> None:
        if not connector:
            return
        attachment = self._attachments[number]
        attachment["status"] = "attaching"
        attachment["connection_info"] = {
            "driver_volume_type": "iscsi",
            "volume_id": attachment["volume_id"],
            "attachment_id": number,
            "target_discovered": False,
            "target_portal": "192.0.2.10:3260",
            "target_iqn": f"iqn.2010-10.org.openstack:volume-{attachment['volume_id']}",
            "target_lun": 1,
            "auth_method": "CHAP",
            "auth_username": "lab",
            "auth_password": "not-a-secret",
            "access_mode": "rw",
            "encrypted": False,
        }

    def _shown(self, number: str) -> dict[str, Any]:
        attached = [row for row in self._attachments.values() if row["volume_id"] == number]
        return {
            **self._volumes[number],
            "status": {"reserved": "reserved", "attaching": "attaching", "attached": "in-use"}[attached[0]["status"]]
            if attached
            else "available",
            "attachments": [
                {"attachment_id": row["id"], "server_id": row["instance"], "volume_id": number, "device": "/dev/sda"}
                for row in attached
            ],
        }


def _missing(path: list[str]) -> Answer:
    return HTTPStatus.NOT_FOUND, {"error": {"code": 404, "message": f"there is no {'/'.join(path)}"}}, {}


def application(identity: Identity, volumes: Volumes) -> Callable[..., Iterable[bytes]]:
    """Both, below `/identity` and `/volume`."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        part, _, rest = environ["PATH_INFO"].strip("/").partition("/")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(length)) if length else None
        headers = {
            "x-subject-token": environ.get("HTTP_X_SUBJECT_TOKEN", ""),
            "base_url": f"http://{environ['HTTP_HOST']}/identity/v3/",
        }
        path = rest.strip("/").split("/")
        method = environ["REQUEST_METHOD"]
        match part:
            case "identity":
                status, value, more = identity.answer(method, path, headers, body)
            case "volume":
                status, value, more = volumes.answer(method, path, body)
            case _:
                status, value, more = _missing([part])
        content = b"" if value is None else json.dumps(value).encode()
        start_response(
            f"{status.value} {status.phrase}",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(content))),
                # Cinder's and Keystone's clients ask for these.
                ("OpenStack-API-Version", "volume 3.71"),
                ("Vary", "X-Auth-Token"),
                *more.items(),
            ],
        )
        return [content]

    return answer
