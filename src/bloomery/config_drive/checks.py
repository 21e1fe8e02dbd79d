"""What the values on a config drive have to be.

Each check returns the value in its one spelling, or raises InvalidRequest.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
import uuid
from collections.abc import Mapping
from typing import Any

from bloomery.errors import InvalidRequest

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_MTU = 68
MAX_MTU = 65535
MAX_VLAN_ID = 4094

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """The value as a message can carry it: quoted, escaped, and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def utf8(value: str, what: str) -> str:
    """The text, which UTF-8 can carry."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what} is no text",
            reason=f"character {error.start + 1} is half of a surrogate pair, which UTF-8 cannot carry",
            advice="Give text that is valid Unicode",
        ) from None
    return value


def line(value: str, what: str, *, max_length: int = 255) -> str:
    """The text, which is one line that is not empty; any Unicode but control characters."""
    utf8(value, what)
    if not value.strip():
        raise InvalidRequest(f"{what} is empty", advice="Give at least one visible character")
    if len(value) > max_length:
        raise InvalidRequest(f"{what} has {len(value)} characters", advice=f"At most {max_length} are allowed")
    for position, character in enumerate(value, start=1):
        if unicodedata.category(character) == "Cc":
            raise InvalidRequest(
                f"{what} holds a control character",
                reason=f"character {position} is {character!a}",
                advice="Leave it out",
            )
    return value


def canonical_uuid(value: str, what: str) -> str:
    """The UUID in lower case with hyphens."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidRequest(
            f"{what} {shown(value)} is no UUID", advice="One looks like 2f6c1bb8-7d1c-4c4e-9a5e-1f7b0c7d2a11"
        ) from None


def host_name(value: str) -> str:
    """The host name, which is one by RFC 1123."""
    reason = _why_no_host_name(value)
    if reason:
        raise InvalidRequest(
            f"{shown(value)} is no host name",
            reason=reason,
            advice="RFC 1123 allows labels of 1 to 63 letters, digits and inner hyphens, joined by dots, 253 characters"
            " in all; a name in another script goes in its xn-- form",
        )
    return value


def is_host_name(value: str) -> bool:
    """Whether RFC 1123 takes the value for a host name."""
    return _why_no_host_name(value) is None


def _why_no_host_name(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > 253:
        return f"it has {len(value)} characters"
    for label in value.split("."):
        if not _HOST_LABEL.fullmatch(label):
            return f"its label {shown(label)} is not allowed" if label else "it has an empty label"
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return None
    return "it is an IP address"


def mac(value: str, what: str = "MAC address") -> str:
    """The MAC address in lower case with colons."""
    spelled = value.lower().replace("-", ":")
    if not _MAC.fullmatch(spelled):
        raise InvalidRequest(
            f"{what} {shown(value)} is no MAC address",
            advice="Six pairs of hexadecimal digits are one, such as 52:54:00:12:34:56",
        )
    return spelled


def mtu(value: int, what: str = "MTU") -> int:
    """The MTU, in bytes."""
    return _number(value, what, "MTU", MIN_MTU, MAX_MTU)


def vlan_id(value: int, what: str = "VLAN id") -> int:
    """The VLAN's id."""
    return _number(value, what, "VLAN id", 1, MAX_VLAN_ID)


def _number(value: int, what: str, kind: str, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InvalidRequest(f"{what} {shown(value)} is no {kind}", advice=f"It lies between {lowest} and {highest}")
    return value


def ip_address(value: str, what: str = "address") -> IpAddress:
    """The address; IPv6 ones without a zone."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidRequest(
            f"{what} {shown(value)} is no IP address", advice="192.0.2.10 or 2001:db8::10 would be one"
        ) from None
    return _plain(address, what)


def ip_network(value: str, what: str = "CIDR") -> IpNetwork:
    """The network; bits behind the prefix are dropped."""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise InvalidRequest(
            f"{what} {shown(value)} is no CIDR", advice="192.0.2.0/24 or 2001:db8::/64 would be one"
        ) from None
    _plain(network.network_address, what)
    return network


def ip_interface(value: str, what: str = "address") -> IpInterface:
    """The address with the prefix of its network; the prefix has to be written."""
    try:
        interface = ipaddress.ip_interface(value) if "/" in value else None
    except ValueError:
        interface = None
    if interface is None:
        raise InvalidRequest(
            f"{what} {shown(value)} is no address with a prefix", advice="192.0.2.10/24 or 2001:db8::10/64 would be one"
        )
    _plain(interface.ip, what)
    return interface


def _plain(address: IpAddress, what: str) -> IpAddress:
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise InvalidRequest(
            f"{what} {shown(str(address))} cannot be used",
            reason="it is an IPv6 address with a zone, or an IPv4 address in IPv6's clothes",
            advice="Give the plain address",
        )
    return address


def json_object(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The value as JSON carries it: a copy that shares nothing with the caller's."""
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else _json_reason(error)
        raise InvalidRequest(
            f"{what} cannot be written as JSON",
            reason=reason,
            advice="Use texts, finite numbers, booleans, null, lists and mappings only",
        ) from None
    decoded: dict[str, Any] = json.loads(text)
    return decoded


def _json_reason(error: TypeError | ValueError) -> str:
    # A UnicodeEncodeError's own words would carry the whole text, which may be a secret.
    return "it holds half of a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)


def json_depth(value: object) -> int:
    """How many lists and mappings lie in each other at the deepest place."""
    deepest = 0
    pending: list[tuple[object, int]] = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, dict):
            children = list(item.values())
        elif isinstance(item, list):
            children = item
        else:
            continue
        deepest = max(deepest, depth)
        pending.extend((child, depth + 1) for child in children)
    return deepest
