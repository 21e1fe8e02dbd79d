"""Option values taken apart: `k=v`, NICs, volumes, files. What they mean is the library's; here is only how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bloomery.errors import InvalidRequest
from bloomery.operations.request import Nic, Volume
from bloomery.secret import Secret

_NIC_KEYS = {"network": "network", "subnet": "subnet", "vif": "vif", "ip": "fixed_ip", "on": "on"}


def pairs(texts: Iterable[str] | None, option: str) -> dict[str, str]:
    """The `k=v` values of an option.

    Raises:
        InvalidRequest: one is no such thing, or a key comes twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidRequest(f"{option} {text!r} is no KEY=VALUE", advice=f"{option} colour=blue would be one")
        if key.strip() in found:
            raise InvalidRequest(f"{option} gives {key.strip()!r} twice", advice="Give each key once")
        found[key.strip()] = value
    return found


def nic_from(text: str) -> Nic:
    """The NIC that `--nic network=private,ip=192.0.2.10,on=bond0,security-group=web` describes.

    Raises:
        InvalidRequest: it describes none.
    """
    values: dict[str, str] = {}
    groups: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise InvalidRequest(f"--nic {text!r} has {part!r}, which is no KEY=VALUE", advice=_NIC_EXAMPLE)
        if key == "security-group":
            groups.append(value)
        elif key not in _NIC_KEYS:
            raise InvalidRequest(f"--nic {text!r} has the unknown key {key!r}", advice=_NIC_EXAMPLE)
        elif _NIC_KEYS[key] in values:
            raise InvalidRequest(f"--nic {text!r} has {key!r} twice", advice=_NIC_EXAMPLE)
        else:
            values[_NIC_KEYS[key]] = value
    return Nic(**values, security_groups=tuple(groups))


_NIC_EXAMPLE = "network=private,ip=192.0.2.10,on=bond0,security-group=web would be one; also subnet= and vif="


def nics_from(
    *,
    nics: Sequence[str] | None,
    networks: Sequence[str] | None,
    subnets: Sequence[str] | None,
    vifs: Sequence[str] | None,
    ip: str | None,
    security_groups: Sequence[str] | None,
) -> tuple[Nic, ...]:
    """The NICs of all options: those of `--nic` first, then the short forms.

    Raises:
        InvalidRequest: one is none, or the options do not go together.
    """
    short = [("network", name) for name in networks or ()] + [("subnet", name) for name in subnets or ()]
    if ip is not None and len(short) != 1:
        raise InvalidRequest(
            f"--ip {ip} goes with exactly one --network or --subnet",
            reason=f"there are {len(short)}",
            advice="--nic network=private,ip=192.0.2.10 gives each NIC its own",
        )
    if security_groups and not short:
        raise InvalidRequest(
            "--security-group goes with --network or --subnet",
            reason="a VIF that exists has its own",
            advice="`bloomery security-group add` changes them once it is plugged",
        )
    groups = tuple(security_groups or ())
    created = [Nic(**{kind: name}, fixed_ip=ip, security_groups=groups) for kind, name in short]
    return (*map(nic_from, nics or ()), *created, *(Nic(vif=name) for name in vifs or ()))


def volume_from(text: str) -> Volume:
    """The volume that `--volume ID,type=iscsi,boot-index=0,target_iqn=…` describes.

    Keys other than `type`, `boot-index` and `properties`, which names a JSON file, are properties of the target.

    Raises:
        InvalidRequest: it describes none.
    """
    volume_id, *parts = text.split(",")
    values = pairs(parts, f"--volume {volume_id},")
    return volume_of(
        volume_id,
        volume_type=values.pop("type", "iscsi"),
        boot_index=whole_number(values.pop("boot-index", "0"), "boot-index"),
        properties_file=Path(values.pop("properties")) if "properties" in values else None,
        properties=values,
    )


def volume_of(
    volume_id: str,
    *,
    volume_type: str,
    boot_index: int,
    properties_file: Path | None,
    properties: Mapping[str, str],
) -> Volume:
    """The volume with the properties of the file, and those that are given one by one."""
    from_file = json_or_yaml_in(properties_file, "the volume's properties") if properties_file is not None else {}
    return Volume(
        volume_id=volume_id,
        volume_type=volume_type,
        boot_index=boot_index,
        properties=Secret[Mapping[str, object]]({**from_file, **properties}),
    )


def whole_number(text: str, what: str) -> int:
    """The number.

    Raises:
        InvalidRequest: it is none.
    """
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise InvalidRequest(f"{what} {text!r} is no whole number")
    return int(text)


def deploy_steps_from(texts: Iterable[str] | None) -> tuple[Mapping[str, object], ...]:
    """The deploy steps: each a JSON object, a list of them, or `@FILE` with either.

    Raises:
        InvalidRequest: it is no such thing.
    """
    steps: list[Mapping[str, object]] = []
    for text in texts or ():
        source = bytes_in(Path(text[1:]), "deploy steps").decode(errors="replace") if text.startswith("@") else text
        try:
            found = json.loads(source)
        except ValueError as problem:
            raise InvalidRequest("--deploy-step is no JSON", reason=str(problem), advice=_STEP_EXAMPLE) from None
        for step in found if isinstance(found, list) else [found]:
            if not isinstance(step, dict) or not {"interface", "step", "priority"} <= step.keys():
                raise InvalidRequest("--deploy-step is no deploy step", advice=_STEP_EXAMPLE)
            steps.append({"args": {}, **step})
    return tuple(steps)


_STEP_EXAMPLE = """{"interface": "bios", "step": "apply_configuration", "args": {}, "priority": 150} would be one"""


# Files


def bytes_in(path: Path, what: str) -> bytes:
    """The content of the file.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InvalidRequest(
            f"the file {path} with {what} cannot be read",
            reason=problem.strerror,
            advice="Name a file that you may read",
        ) from None


def json_or_yaml_in(path: Path, what: str) -> dict[str, Any]:
    """The mapping in the file, which is JSON or YAML.

    Raises:
        InvalidRequest: it cannot be read, or is none.
    """
    try:
        found = yaml.safe_load(bytes_in(path, what))
    except (yaml.YAMLError, UnicodeDecodeError):
        # What the parser says would quote the file, which may hold secrets.
        raise InvalidRequest(f"the file {path} with {what} is neither JSON nor YAML") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"the file {path} with {what} holds no mapping")
    return found


def ssh_keys_in(paths: Iterable[Path] | None) -> tuple[str, ...]:
    """The public keys of the files, one a line.

    Raises:
        InvalidRequest: a file cannot be read, or holds none.
    """
    keys: list[str] = []
    for path in paths or ():
        content = bytes_in(path, "SSH keys")
        if b"PRIVATE KEY" in content:
            raise InvalidRequest(
                f"{path} holds a private key", reason="which must not leave this machine", advice=f"Give {path}.pub"
            )
        lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise InvalidRequest(f"{path} holds no SSH key")
        keys += found
    return tuple(keys)


def files_from(texts: Iterable[str] | None) -> dict[str, Secret[bytes]]:
    """Content by the path that it gets in the guest, from `/etc/motd=motd.txt`.

    Raises:
        InvalidRequest: a file cannot be read.
    """
    return {
        guest_path: Secret(bytes_in(Path(local_path), f"the content of {guest_path}"))
        for guest_path, local_path in pairs(texts, "--file").items()
    }
