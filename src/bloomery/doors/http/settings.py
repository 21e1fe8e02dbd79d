"""How a service is set up: everything that `bloomery serve` can be told, checked before anything listens."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from urllib.parse import urlsplit

from bloomery.bus import BusAddress
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

DEFAULT_PORT = 8780


class Auth(StrEnum):
    """How callers show who they are."""

    NONE = "none"
    """Not at all; on loopback only."""
    BASIC = "basic"
    """A name and a password of a file in Ironic's own format."""
    KEYSTONE = "keystone"
    """A token of Keystone's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a service is told.

    Attributes:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        hosts: further names under which callers may reach it, such as that of a proxy in front.
        proxies: networks of proxies in front, which say with `X-Forwarded-For` for whom they ask: that address is in the
            audit, and is held to its limits.
        state: the folder for its log, in SQLite, which nobody else may read.
        database: a database of SQLAlchemy's, `postgresql://…`, instead of that; replicas share it.
        auth: how callers show who they are.
        users: for `basic`: the file with names and bcrypt hashes.
        roles: for `basic`: a file with lines `name: role [project]`; without it each user is an administrator.
        keystone: for `keystone`: an oslo.config file with a section `[keystone_authtoken]`.
        admin_projects: for `keystone`: ids of projects whose administrators administer the whole service.
        tls_certificate: the file with the certificate, and those that lead to its root.
        tls_key: the file with its key.
        open_metrics: whether `/metrics` asks nobody who he is.
        images: a YAML file with images to offer: name, url, checksum.
        ironic_networks: names or ids of networks that Ironic itself puts nodes on, to deploy, clean, rescue and inspect them:
            nobody is offered them, and nobody but an administrator has them.
        bus: where Ironic's notifications are, upon which it is asked at once; None: nobody listens to them.
        refresh_s: how often Ironic is asked what has changed.
        read_all_s: how often it is asked for all nodes.
        at_once: how many operations are worked on at a time.
        body_limit_bytes: what no request is larger than.
        rate_per_s: so many requests a second are answered for each caller, on average.
        burst: so many at once.
        keep_days: how long events, audit and ended operations are kept.
        keep_rows: of each of them, so many at most.
        keep_mib: and together no more than that; the oldest go first.
        webhook_networks: networks of loopback, link-local or private addresses that webhooks may be sent to all the same.
        janitor: whether what is left of instances and operations is looked for and cleaned in the background.
        janitor_every_s: seconds from one such look to the next.
        janitor_requests_per_s: what it asks of the services at most.
        lease_s: an operation whose replica has not been heard of for so long is taken over by another.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    hosts: tuple[str, ...] = ()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    state: Path = Path(".bloomery")
    database: Secret[str] | None = None
    auth: Auth = Auth.NONE
    users: Path | None = None
    roles: Path | None = None
    keystone: Path | None = None
    admin_projects: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    open_metrics: bool = False
    images: Path | None = None
    ironic_networks: tuple[str, ...] = ()
    bus: BusAddress | None = None
    refresh_s: float = 2.0
    read_all_s: float = 300.0
    at_once: int = 32
    body_limit_bytes: int = 16 * 1024 * 1024
    rate_per_s: float = 100.0
    burst: int = 400
    keep_days: float = 90.0
    keep_rows: int = 1_000_000
    keep_mib: int = 4096
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = field(default=())
    janitor: bool = True
    janitor_every_s: float = 300.0
    janitor_requests_per_s: float = 5.0
    lease_s: float = 20.0

    def __post_init__(self) -> None:
        """The values go together.

        Raises:
            InvalidRequest: they do not.
        """
        if self.auth is Auth.NONE and not is_loopback(self.host):
            raise InvalidRequest(
                f"a service on {self.host} without authentication is not allowed",
                reason="whoever reaches it could destroy every instance",
                advice="Use --auth basic or --auth keystone, or listen on 127.0.0.1",
            )
        self._need(self.auth is Auth.BASIC, self.users, "--auth basic", "--users FILE")
        self._need(self.auth is Auth.KEYSTONE, self.keystone, "--auth keystone", "--keystone-config FILE")
        if self.roles is not None and self.users is None:
            raise InvalidRequest("--roles goes with --users", advice="Give both, or neither")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidRequest("a certificate and its key go together", advice="Give --tls-certificate and --tls-key")
        for file in (self.users, self.roles, self.keystone, self.tls_certificate, self.tls_key, self.images):
            if file is not None and not os.access(file, os.R_OK):
                raise InvalidRequest(f"the file {file} cannot be read", advice="Name a file that you may read")
        if self.database is not None and urlsplit(self.database.reveal()).scheme.split("+")[0] not in _DATABASES:
            raise InvalidRequest(
                "the database's URL names no database that is known here",
                advice="postgresql://user:password@host/name would be one; without it there is SQLite in --state",
            )
        for name in (
            "refresh_s",
            "read_all_s",
            "at_once",
            "body_limit_bytes",
            "rate_per_s",
            "burst",
            "keep_days",
            "keep_mib",
            "janitor_every_s",
            "janitor_requests_per_s",
            "lease_s",
        ):
            if getattr(self, name) <= 0:
                raise InvalidRequest(f"{name} {getattr(self, name)} is not allowed", advice="Give a number above 0")

    @staticmethod
    def _need(is_used: bool, file: Path | None, what: str, option: str) -> None:
        if is_used and file is None:
            raise InvalidRequest(f"{what} needs {option}", advice=f"Give {option}")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "http" if self.tls_certificate is None else "https"


_DATABASES = ("postgresql", "sqlite")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
