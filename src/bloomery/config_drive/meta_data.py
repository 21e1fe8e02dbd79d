"""`meta_data.json`: who the instance is, and who may log in."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.config_drive import checks
from bloomery.errors import InvalidRequest
from bloomery.secret import Secret

_OWN_KEYS = frozenset(
    {
        "uuid",
        "name",
        "hostname",
        "launch_index",
        "availability_zone",
        "project_id",
        "public_keys",
        "keys",
        "meta",
        "files",
        "admin_pass",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaData:
    """What the instance is told of itself, under the names that Nova gives it.

    Args:
        uuid: the instance's.
        name: for people; any Unicode.
        hostname: by RFC 1123. None makes one of the name.
        public_keys: SSH public keys by their names, each one line as in a `.pub` file.
        admin_pass: the administrator's password, for guests that take one from here.
        meta: the instance's properties.
        extra: further keys of `meta_data.json`, for guests that look for them.

    Raises:
        InvalidRequest: a value is no such thing.
    """

    uuid: str
    name: str
    hostname: str | None = None
    public_keys: Mapping[str, str] = field(default_factory=dict)
    project_id: str | None = None
    availability_zone: str | None = None
    launch_index: int = 0
    admin_pass: Secret[str] | None = None
    meta: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Every value is what it says, and a host name is there."""
        uuid = checks.canonical_uuid(self.uuid, "the instance's UUID")
        checks.line(self.name, "the instance's name")
        hostname = host_name_from(self.name, uuid) if self.hostname is None else checks.host_name(self.hostname)
        keys = {
            checks.line(name, "the name of an SSH key"): ssh_public_key(key, name)
            for name, key in self.public_keys.items()
        }
        for what, text in (("the project id", self.project_id), ("the availability zone", self.availability_zone)):
            if text is not None:
                checks.line(text, what)
        if isinstance(self.launch_index, bool) or self.launch_index < 0:
            raise InvalidRequest(f"launch index {self.launch_index} is not allowed", advice="It counts from 0")
        if self.admin_pass is not None:
            checks.utf8(self.admin_pass.reveal(), "the administrator's password")
        for key, value in self.meta.items():
            checks.line(key, "the name of an instance property")
            checks.utf8(value, f"instance property {checks.shown(key)}")
        extra = checks.json_object(self.extra, "extra metadata")
        taken = sorted(_OWN_KEYS & extra.keys())
        if taken:
            raise InvalidRequest(
                f"extra metadata must not hold {', '.join(taken)}",
                reason="these have fields of their own",
                advice="Use the fields",
            )
        for name, checked in (
            ("uuid", uuid),
            ("hostname", hostname),
            ("public_keys", keys),
            ("meta", dict(self.meta)),
            ("extra", extra),
        ):
            object.__setattr__(self, name, checked)

    def to_dict(self, files: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The content of `meta_data.json`. What is not known is left out.

        Args:
            files: of each injected file, its path in the instance and its path on the drive below `openstack`.
        """
        data: dict[str, Any] = {
            "uuid": self.uuid,
            "name": self.name,
            "hostname": self.hostname,
            "launch_index": self.launch_index,
            "availability_zone": self.availability_zone,
            "project_id": self.project_id,
        }
        data = {key: value for key, value in data.items() if value is not None}
        if self.public_keys:
            data["public_keys"] = dict(self.public_keys)
            data["keys"] = [{"name": name, "type": "ssh", "data": key} for name, key in self.public_keys.items()]
        if self.meta:
            data["meta"] = dict(self.meta)
        if files:
            data["files"] = [{"path": path, "content_path": content_path} for path, content_path in files.items()]
        if self.admin_pass is not None:
            data["admin_pass"] = self.admin_pass.reveal()
        return {**data, **self.extra}


def host_name_from(name: str, uuid: str) -> str:
    """The name itself if it is a host name, else one made of its letters and digits, else one made of the UUID."""
    if checks.is_host_name(name):
        return name
    latin = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    label = re.sub(r"[^a-z0-9]+", "-", latin.lower()).strip("-")[:63].strip("-")
    return label or f"instance-{uuid}"


def ssh_public_key(key: str, name: str) -> str:
    """The key as one line, which holds what its type says.

    Args:
        key: type, base64 and an optional comment, as in a `.pub` file.
        name: the key's name, for the message.
    """
    what = f"SSH key {checks.shown(name)}"
    if "PRIVATE KEY" in key:
        raise InvalidRequest(
            f"{what} is a private key",
            advice="Give the public one, from the file whose name ends in .pub; keep this one secret",
        )
    text = checks.line(key.strip(), what, max_length=16384)
    kind, _, rest = text.partition(" ")
    encoded = rest.split(maxsplit=1)
    reason = "it has no second word" if not encoded else _why_no_key(kind, encoded[0])
    if reason:
        raise InvalidRequest(
            f"{what} is no SSH public key",
            reason=reason,
            advice="One line is expected, as in a .pub file: the type, such as ssh-ed25519, and the key in base64",
        )
    return text


def _why_no_key(kind: str, encoded: str) -> str | None:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return "its second word is not base64"
    length = int.from_bytes(blob[:4], "big")
    if len(blob) <= 4 + length or not length:
        return "it is cut short"
    if blob[4 : 4 + length] != kind.encode():
        return "the type that it starts with is not the type of the key behind it"
    return None
