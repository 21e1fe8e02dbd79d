"""Webhooks: events posted to whoever asked, signed, tried again while he does not take them, and each attempt in a log.

An address is checked when it is connected to, not when it is given: a name may lead elsewhere by then. Redirects are not
followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import msgspec

from bloomery.doors.http.access import NOBODY
from bloomery.doors.http.metrics import Metrics
from bloomery.doors.http.problems import StoreUnavailable
from bloomery.doors.http.store import Row, Store
from bloomery.doors.http.views import event_row
from bloomery.errors import InvalidRequest
from bloomery.plain import logger

log = logger(__name__)

LOOK_EVERY_S = 1.0
LEASE_S = 60.0
TIMEOUT_S = 10.0
"""Between two signs of life of a receiver."""
ATTEMPT_S = 20.0
"""What one attempt may take, whatever signs of life there are."""
AT_ONCE = 200
SLICE_S = 10.0
"""So long one receiver is seen to before others that wait have their turn."""
HOOKS_AT_ONCE = 8
ATTEMPTS = 15
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 3600.0
"""Between two attempts: twice as long each time. Fifteen attempts are some five hours."""
REPLY_BYTES = 65_536

Networks = Sequence[IPv4Network | IPv6Network]


def check_url(url: str) -> None:
    """The URL is one that can be posted to.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise InvalidRequest("the webhook's URL is none", reason=str(problem), advice=_EXAMPLE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise InvalidRequest("the webhook's URL is none that can be posted to", advice=_EXAMPLE)
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest(
            "the webhook's URL has a password in it",
            reason="URLs are shown and logged",
            advice="Check the signature instead",
        )


_EXAMPLE = "https://hooks.example.org/bloomery would be one"


def signature(secret: str, at: int, body: bytes) -> str:
    """What the header `Bloomery-Signature` says: the time, and an HMAC over the time and the body."""
    mac = hmac.digest(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hex()
    return f"t={at},v1={mac}"


def is_forbidden(address: str, allowed: Networks) -> bool:
    """Whether that address must not be posted to: this machine, its link, or no machine at all."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        # An IPv4 address in an IPv6 one leads to where the former does.
        found = found.ipv4_mapped or found.sixtofour or found
    if any(found.version == network.version and found in network for network in allowed):
        return False
    return found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved


class ForbiddenAddress(OSError):
    """The webhook's name leads to an address that must not be posted to."""


def _connected(host: str, port: int, allowed: Networks) -> socket.socket:
    """A connection to the host, at an address that was checked and is the one connected to."""
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if is_forbidden(str(address[0]), allowed):
            failure = ForbiddenAddress(f"{host} is at {address[0]}, which webhooks must not be sent to")
            continue
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(address)
        except OSError as problem:
            connection.close()
            failure = problem
            continue
        return connection
    raise failure


class _Plain(http.client.HTTPConnection):
    allowed: Networks = ()

    def connect(self) -> None:
        """Connected to an address that was checked."""
        self.sock = _connected(self.host, self.port, self.allowed)


class _Encrypted(http.client.HTTPSConnection):
    allowed: Networks = ()

    def connect(self) -> None:
        """Connected to an address that was checked, with a certificate for the name."""
        plain = _connected(self.host, self.port, self.allowed)
        try:
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


def post(url: str, secret: str, body: bytes, *, number: int, kind: str, allowed: Networks) -> int:
    """The receiver's status to the event.

    Raises:
        OSError, http.client.HTTPException: he cannot be reached, or must not be.
    """
    parts = urlsplit(url)
    host = str(parts.hostname)
    connection: _Plain | _Encrypted
    if parts.scheme == "https":
        connection = _Encrypted(host, parts.port or 443, timeout=TIMEOUT_S)
    else:
        connection = _Plain(host, parts.port or 80, timeout=TIMEOUT_S)
    connection.allowed = allowed
    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "bloomery",
        "Bloomery-Delivery": str(number),
        "Bloomery-Event": kind,
        "Bloomery-Signature": signature(secret, at, body),
    }
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        if connection.sock is not None:
            with suppress(OSError):
                # Not the encrypted socket's own, which is not to be used by two threads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(ATTEMPT_S, end)
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        answer.read(REPLY_BYTES)
        if is_over.is_set():
            raise TimeoutError  # to the reader it looks as if the receiver had said all
    except (OSError, http.client.HTTPException, ValueError):
        if is_over.is_set():
            raise TimeoutError(f"the receiver took longer than {ATTEMPT_S:g} s") from None
        raise
    finally:
        timer.cancel()
        connection.close()
    return answer.status


class Sender:
    """Those who see to due deliveries, in one replica at a time: one thread to each receiver, so that none waits for another.

    Args:
        store: the log.
        metrics: counts.
        holder: who we are among the replicas.
        allowed: networks that may be posted to all the same.
    """

    def __init__(self, store: Store, metrics: Metrics, *, holder: str, allowed: Networks) -> None:
        self.store = store
        self.metrics = metrics
        self.holder = holder
        self.allowed = allowed
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._leads_until = 0.0
        self._thread = threading.Thread(target=self._send, name="bloomery-hooks", daemon=True)

    def start(self) -> None:
        """What is due is sent from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Nothing more is sent."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2 * ATTEMPT_S)

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def _send(self) -> None:
        with ThreadPoolExecutor(max_workers=HOOKS_AT_ONCE, thread_name_prefix="bloomery-hook") as pool:
            while not self._stopping.is_set():
                self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()
                try:
                    if not self._leads():
                        continue
                    for hook in self.store.due_webhooks():
                        with self._lock:
                            is_new = hook["id"] not in self._busy
                            self._busy.add(hook["id"])
                        if is_new:
                            pool.submit(self._see_to, hook)
                except StoreUnavailable as problem:
                    log.warning("webhooks wait: %s", problem)
                    self._stopping.wait(LOOK_EVERY_S)

    def _leads(self) -> bool:
        """Whether this replica sends; asked anew in good time before another might."""
        now = time.monotonic()
        if now > self._leads_until - LEASE_S * 2 / 3:
            if not self.store.lead("webhooks", self.holder, LEASE_S):
                return False
            self._leads_until = now + LEASE_S
        return True

    def _see_to(self, hook: Row) -> None:
        """What was due for the webhook was sent, for a while; no other thread does the same."""
        try:
            self._send_in_order(hook)
        except StoreUnavailable as problem:
            log.warning("webhook %s waits: %s", hook["id"], problem)
        except Exception:
            # The last frame of a door's thread: the next look begins anew.
            log.exception("webhook %s met a bug", hook["id"])
        finally:
            with self._lock:
                self._busy.discard(hook["id"])
            if not self._stopping.is_set():
                self._wake.set()

    def _send_in_order(self, hook: Row) -> None:
        """Each is delivered, or its next attempt set; after one that the receiver had no time for, the others wait like it."""
        began_at = time.monotonic()
        for row in self.store.due_deliveries(hook["id"], limit=AT_ONCE):
            now = time.monotonic()
            if self._stopping.is_set() or now - began_at > SLICE_S or now > self._leads_until - ATTEMPT_S:
                return
            if not self._attempt(hook, row):
                return

    def _attempt(self, hook: Row, row: Row) -> bool:
        """The delivery was tried; says whether the receiver has time for others."""
        event = row["event"]
        body = msgspec.json.encode(event_row(event, NOBODY))
        status, reason, result = None, None, "delivered"
        try:
            status = post(
                hook["url"], hook["secret"], body, number=row["number"], kind=event["kind"], allowed=self.allowed
            )
            if not 200 <= status < 300:
                result, reason = "refused", f"the receiver answered {status}"
        except (OSError, http.client.HTTPException, ValueError) as problem:
            result, reason = "failed", str(problem) or type(problem).__name__
        self.metrics.delivered(result)
        attempts = int(row["attempts"]) + 1
        said = {"attempts": attempts, "status": status, "reason": reason}
        if reason is None:
            self.store.set_delivery(row["number"], {**said, "state": "delivered"})
            return True
        log.info("webhook %s did not take event %s: %s", row["webhook_id"], row["event_number"], reason)
        if attempts >= ATTEMPTS:
            self.store.set_delivery(row["number"], {**said, "state": "failed"})
        else:
            pause_s = float(min(FIRST_PAUSE_S * 2 ** (attempts - 1), LONGEST_PAUSE_S))
            self.store.set_delivery(row["number"], said, due_in_s=pause_s)
        return status is not None and status != 429 and status < 500
