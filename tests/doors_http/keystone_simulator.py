"""As much of Keystone as it takes to validate a token: its service's own token, and what is known of others'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from bloomery.testing.http_simulator import HttpSimulator, RecordedRequest, Response


class KeystoneSimulator(HttpSimulator):
    """Tokens, given out by `token` and validated over HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens: dict[str, dict[str, Any]] = {}

    def token(
        self, *, roles: Sequence[str], project: str | None = None, system: bool = False, is_expired: bool = False
    ) -> str:
        """A token of the user alice."""
        token_id = uuid4().hex
        now = datetime.now(UTC)
        expires_at = now - timedelta(hours=1) if is_expired else now + timedelta(hours=1)
        domain = {"id": "default", "name": "Default"}
        token: dict[str, Any] = {
            "methods": ["password"],
            "user": {"id": uuid4().hex, "name": "alice", "domain": domain, "password_expires_at": None},
            "audit_ids": [uuid4().hex[:22]],
            "expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%S.000000Z}",
            "issued_at": f"{now:%Y-%m-%dT%H:%M:%S.000000Z}",
            "roles": [{"id": role, "name": role} for role in roles],
        }
        endpoint = {"id": uuid4().hex, "region": "RegionOne", "region_id": "RegionOne", "url": f"{self.url}/v3"}
        endpoints = [{**endpoint, "interface": interface} for interface in ("public", "internal", "admin")]
        token["catalog"] = [{"type": "identity", "name": "keystone", "id": uuid4().hex, "endpoints": endpoints}]
        if project is not None:
            token["project"] = {"id": project, "name": f"project-{project[:4]}", "domain": domain}
        if system:
            token["system"] = {"all": True}
        self._tokens[token_id] = token
        return token_id

    def answer(self, request: RecordedRequest) -> Response:
        """What Keystone says."""
        match (request.method, request.path.rstrip("/")):
            case ("GET", "" | "/v3"):
                links = [{"rel": "self", "href": f"{self.url}/v3/"}]
                version = {"id": "v3.14", "status": "stable", "links": links, "media-types": []}
                if request.path.rstrip("/"):
                    return Response(200, {"version": version})
                return Response(300, {"versions": {"values": [version]}})
            case ("POST", "/v3/auth/tokens"):
                token_id = self.token(roles=["service"], project=uuid4().hex)
                return Response(201, {"token": self._tokens[token_id]}, {"X-Subject-Token": token_id})
            case ("GET", "/v3/auth/tokens"):
                found = self._tokens.get(request.headers.get("x-subject-token", ""))
                if found is None:
                    return self.error(404, "no such token")
                return Response(200, {"token": found})
        return self.error(404, f"nothing is at {request.path}")
