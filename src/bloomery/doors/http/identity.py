"""How callers show who they are: not at all, by name and password, or by a token of Keystone's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import bcrypt
from keystoneauth1 import exceptions as ksa_exceptions

from bloomery.doors.http.access import NOBODY, Principal, Role
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.settings import Auth, Settings
from bloomery.errors import InvalidRequest
from bloomery.plain import logger

log = logger(__name__)

REMEMBERED_S = 300.0
"""How long a password that was right need not be checked again: bcrypt is slow on purpose."""
FAILURES, FAILURES_WITHIN_S = 10, 60.0
"""After so many wrong passwords within so long an address has to wait."""
_NOBODYS_HASH = bcrypt.hashpw(b"nobody has this password", bcrypt.gensalt(10))


class Identity(Protocol):
    """Says who somebody is. May block."""

    def principal(self, headers: Mapping[str, str], address: str) -> Principal:
        """Who sent these headers.

        Args:
            headers: names in lower case.
            address: where they come from.

        Raises:
            Refusal: nobody who may use this service.
        """
        ...


def identity_of(settings: Settings) -> Identity:
    """What the settings say.

    Raises:
        InvalidRequest: a file that they name is none of its kind.
    """
    match settings.auth:
        case Auth.NONE:
            return Anybody()
        case Auth.BASIC:
            return Passwords(_given(settings.users), settings.roles)
        case Auth.KEYSTONE:
            return Tokens(_given(settings.keystone), settings.admin_projects)


def _given(file: Path | None) -> Path:
    if file is None:
        raise AssertionError("the settings are checked")
    return file


class Anybody:
    """Everybody is the administrator of a service that only this machine reaches."""

    def principal(self, headers: Mapping[str, str], address: str) -> Principal:  # noqa: ARG002
        """Nobody in particular."""
        return NOBODY


# HTTP basic


class Passwords:
    """Names and bcrypt hashes in a file as Ironic has it, `name:$2y$…` a line; read again when it changes.

    Args:
        users: the file.
        roles: a file with lines `name: role [project]`; None makes every user an administrator.
    """

    def __init__(self, users: Path, roles: Path | None) -> None:
        self._users = _File(users, _hashes)
        self._roles = _File(roles, _roles) if roles is not None else None
        self._users.content()
        if self._roles is not None:
            self._roles.content()
        self._right: dict[bytes, float] = {}
        self._wrong: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def principal(self, headers: Mapping[str, str], address: str) -> Principal:
        """Whose name and password they hold."""
        name, password = _name_and_password(headers.get("authorization"))
        self._check_patience(address)
        known = self._users.content().get(name)
        if not self._is_right(known or _NOBODYS_HASH, password) or known is None:
            with self._lock:
                self._wrong.setdefault(address, []).append(time.monotonic())
            raise _unauthorised("the name or the password is wrong")
        if self._roles is None:
            return Principal(name=name, role=Role.ADMIN)
        role, project_id = self._roles.content().get(name, (None, None))
        if role is None:
            raise Refusal(403, "Forbidden", f"{name} has no role", advice="Give one in the file with roles")
        return Principal(name=name, role=role, project_id=project_id)

    def _is_right(self, known: bytes, password: bytes) -> bool:
        # bcrypt takes 72 bytes and no zero; what is longer is nobody's password.
        if len(password) > 72 or b"\0" in password:
            return False
        tag = hashlib.sha256(known + b"\0" + password).digest()
        now = time.monotonic()
        with self._lock:
            if self._right.get(tag, -REMEMBERED_S) > now - REMEMBERED_S:
                return True
        if not bcrypt.checkpw(password, known):
            return False
        with self._lock:
            self._right = {one: at for one, at in self._right.items() if at > now - REMEMBERED_S} | {tag: now}
        return True

    def _check_patience(self, address: str) -> None:
        since = time.monotonic() - FAILURES_WITHIN_S
        with self._lock:
            recent = {one: [at for at in times if at > since] for one, times in self._wrong.items()}
            self._wrong = {one: times for one, times in recent.items() if times}
            if len(self._wrong.get(address, ())) >= FAILURES:
                raise Refusal(
                    429,
                    "TooManyFailures",
                    "too many wrong passwords came from here",
                    advice="Wait a minute",
                    headers={"Retry-After": str(int(FAILURES_WITHIN_S))},
                )


def _name_and_password(header: str | None) -> tuple[str, bytes]:
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "basic":
        raise _unauthorised("the request has no name and password")
    try:
        name, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        decoded = name.decode()
    except (binascii.Error, ValueError):
        raise _unauthorised("the name and password cannot be read") from None
    if not colon:
        raise _unauthorised("the name and password cannot be read")
    return decoded, password


def _unauthorised(detail: str) -> Refusal:
    return Refusal(
        401,
        "Unauthorized",
        detail,
        advice="Send a name and a password of this service (HTTP basic)",
        headers={"WWW-Authenticate": 'Basic realm="Bloomery", charset="UTF-8"'},
    )


class _File:
    """A file whose content is read again when it changes. One that has become unreadable counts as it was."""

    def __init__(self, path: Path, parse: Callable[[Path, Iterable[str]], Mapping[str, Any]]) -> None:
        self.path = path
        self._parse = parse
        self._stamp: tuple[int, int] | None = None
        self._content: Mapping[str, Any] = {}

    def content(self) -> Mapping[str, Any]:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._content = self._parse(self.path, self.path.read_text().splitlines())
                self._stamp = stamp
        except (OSError, UnicodeDecodeError, InvalidRequest):
            if self._stamp is None:
                raise
        return self._content


def _hashes(path: Path, lines: Iterable[str]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, known = line.strip().partition(":")
        if not name or not known.startswith(("$2y$", "$2b$", "$2a$")):
            raise InvalidRequest(
                f"line {number} of {path} is no user",
                reason="it is not a name, a colon and a bcrypt hash",
                advice="`htpasswd -nbB NAME PASSWORD` writes such a line",
            )
        found[name] = known.encode()
    return found


def _roles(path: Path, lines: Iterable[str]) -> Mapping[str, tuple[Role, str | None]]:
    found: dict[str, tuple[Role, str | None]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        words = rest.split()
        role = Role.named(words[0]) if words else None
        if not name.strip() or role is None or len(words) > 2:
            raise InvalidRequest(
                f"line {number} of {path} gives no role",
                advice="`alice: member 1b9f3c…` would be one: name, admin, member or reader, and the project",
            )
        found[name.strip()] = role, words[1] if len(words) > 1 else None
    return found


# Keystone


class Tokens:
    """Tokens that keystonemiddleware finds valid, as every OpenStack service does.

    Args:
        config: an oslo.config file with a section `[keystone_authtoken]`.
        admin_projects: ids of projects whose administrators administer the whole service.
    """

    def __init__(self, config: Path, admin_projects: Iterable[str]) -> None:
        # Imported here: it takes a second, which a service without Keystone need not spend.
        from keystonemiddleware.auth_token import AuthProtocol

        self._admin_projects = frozenset(admin_projects)
        options = {
            "oslo_config_project": "bloomery",
            "oslo_config_config": None,
            "oslo_config_file": str(config),
            "delay_auth_decision": False,
        }
        self._middleware = AuthProtocol(_note_identity, options)

    def principal(self, headers: Mapping[str, str], address: str) -> Principal:
        """Whose token they hold."""
        token = headers.get("x-auth-token")
        if not token:
            raise _no_token("the request has no token")
        said: dict[str, Any] = {}
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "bloomery",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": address,
            "HTTP_X_AUTH_TOKEN": token,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            _SAID: said,
        }
        status: list[str] = []
        try:
            list(self._middleware(environment, lambda line, _headers, _info=None: status.append(line)))
        except ksa_exceptions.ClientException as problem:
            # What is wrong is between this service and Keystone: its address, its catalogue, the service's own password.
            log.error("Keystone cannot be asked: %s", problem)
            status = ["503"]
        if "roles" not in said:
            if status and status[0].startswith("503"):
                raise Refusal(
                    503,
                    "KeystoneUnavailable",
                    "Keystone cannot be asked",
                    advice="Try again",
                    headers={"Retry-After": "5"},
                )
            raise _no_token("the token is not valid, or not any more")
        return self._principal_of(said)

    def _principal_of(self, said: Mapping[str, Any]) -> Principal:
        roles = {name.strip().lower() for name in said["roles"].split(",")}
        name = said["user"] or said["user_id"] or "unknown"
        is_of_all = said["system"] == "all" or said["project_id"] in self._admin_projects
        if "admin" in roles and is_of_all:
            return Principal(name=name, user_id=said["user_id"], role=Role.ADMIN)
        role = Role.MEMBER if roles & {"admin", "manager", "member"} else Role.READER if "reader" in roles else None
        if said["system"] == "all" and role is not None:
            return Principal(name=name, user_id=said["user_id"], role=role)
        if role is None or said["project_id"] is None:
            raise Refusal(
                403,
                "Forbidden",
                f"{name} has none of the roles admin, member and reader, in a project or for the system",
                advice="Ask for a token with one of them",
            )
        return Principal(name=name, user_id=said["user_id"], role=role, project_id=said["project_id"])


_SAID = "bloomery.said"


def _note_identity(environment: Mapping[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """The application behind the middleware, which only notes what that has found."""
    environment[_SAID].update(
        roles=environment.get("HTTP_X_ROLES", ""),
        user=environment.get("HTTP_X_USER_NAME"),
        user_id=environment.get("HTTP_X_USER_ID"),
        project_id=environment.get("HTTP_X_PROJECT_ID"),
        system=environment.get("HTTP_OPENSTACK_SYSTEM_SCOPE"),
    )
    start_response("204 No Content", [])
    return []


def _no_token(detail: str) -> Refusal:
    return Refusal(
        401,
        "Unauthorized",
        detail,
        advice="Send a token of Keystone's in X-Auth-Token; `openstack token issue` gives one",
        headers={"WWW-Authenticate": "Keystone"},
    )
