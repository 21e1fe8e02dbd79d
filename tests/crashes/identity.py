"""A played Keystone that gives out tokens of a short life, and counts them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from bloomery.testing import Fault, FaultKind
from bloomery.testing.http_simulator import HttpSimulator, RecordedRequest, Response


class Identity(HttpSimulator):
    """Any password is right, as long as `lets_in`.

    Args:
        uses: for how many requests a token is good; None is for any number.
        says_s: how long a token is good for by its own account.
    """

    def __init__(self, *, uses: int | None, says_s: float) -> None:
        super().__init__()
        self.uses = uses
        self.says_s = says_s
        self.lets_in = True
        self.given = 0
        self._left: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def answer(self, request: RecordedRequest) -> Response:
        """A new token, or what Keystone says of itself."""
        if request.path.rstrip("/") == "/v3":
            links = [{"rel": "self", "href": f"{self.url}/v3/"}]
            return Response(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})
        if (request.method, request.path) != ("POST", "/v3/auth/tokens"):
            return self.error(404, f"nothing is at {request.path}")
        if not self.lets_in:
            return self.error(401, "The request you have made requires authentication.")
        with self._lock:
            self.given += 1
            token = f"token-{self.given}"
            self._left[token] = self.uses
        now = datetime.now(UTC)
        body = {
            "methods": ["password"],
            "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
            "audit_ids": ["a"],
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=self.says_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "catalog": [],
            "roles": [],
        }
        return Response(201, {"token": body}, {"X-Subject-Token": token})

    def refusal(self, request: RecordedRequest) -> Fault | None:
        """What a service answers to a request whose token is not good, or not any more; for a proxy's `on_request`."""
        token = request.headers.get("x-auth-token", "")
        with self._lock:
            if token in self._left:
                left = self._left[token]
                if left is None:
                    return None
                if left > 0:
                    self._left[token] = left - 1
                    return None
        return Fault(FaultKind.STATUS, status=401, message="The request you have made requires authentication.")

    def revoke(self) -> None:
        """No token that was given out is good any more."""
        with self._lock:
            self._left.clear()
