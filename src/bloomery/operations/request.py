"""What a user asks for: the image, the NICs, the volumes and the node of an instance. Wrong values do not get past here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bloomery.config_drive import Payload, user_data_from
from bloomery.config_drive.checks import canonical_uuid, line, shown
from bloomery.config_drive.meta_data import ssh_public_key
from bloomery.errors import InvalidRequest
from bloomery.fleet import Wanted, check_trait
from bloomery.plain import is_uuid
from bloomery.secret import Secret

_HASHES = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_URL_SCHEMES = ("http", "https", "file", "oci")
_INSTANCE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ROOT_DEVICE_HINTS = frozenset(
    {
        "model", "vendor", "serial", "size", "wwn", "wwn_with_extension", "wwn_vendor_extension", "name", "rotational", "hctl",
        "by_path",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the instance boots. Made by one of the class methods, which say what each kind needs.

    Attributes:
        source: Glance's id or name, or a URL; None for kernel and ramdisk alone.
        hash_algo: the checksum's algorithm; None with a `checksum_url`.
        hash_value: the checksum, in hexadecimal.
        checksum_url: where a list of checksums lies, of which Ironic takes that of the image.
        kernel: of a partition image or a ramdisk.
        ramdisk: of a partition image or a ramdisk.
        is_iso: the source is an ISO that is booted from virtual media, and stays there.
        is_partition: the source is a file system, not a whole disk.
    """

    source: str | None = None
    hash_algo: str | None = None
    hash_value: str | None = None
    checksum_url: str | None = None
    kernel: str | None = None
    ramdisk: str | None = None
    is_iso: bool = False
    is_partition: bool = False

    @classmethod
    def named(
        cls,
        source: str,
        *,
        checksum: str | None = None,
        kernel: str | None = None,
        ramdisk: str | None = None,
        is_partition: bool = False,
    ) -> Image:
        """The image at a URL, or Glance's image of that id or name.

        Args:
            source: http, https, file or oci URL; or Glance's id or name.
            checksum: `sha256:…`, the bare hexadecimal value, or the URL of a list of checksums. A URL needs it.
            kernel: URL or Glance id.
            ramdisk: URL or Glance id.
            is_partition: whether what is at the URL is the file system of one partition, and not a whole disk. One with
                kernel and ramdisk is in any case; of its own images Glance knows it.

        Raises:
            InvalidRequest: the checksum is missing or is none, or the URL is none that Ironic takes.
        """
        if (kernel is None) != (ramdisk is None):
            raise InvalidRequest(
                f"image {source!r} has a {'kernel' if kernel else 'ramdisk'} alone",
                advice="A partition image needs both; a whole-disk image neither",
            )
        image = cls(source=source, kernel=kernel, ramdisk=ramdisk, is_partition=is_partition or kernel is not None)
        if not image.is_url:
            line(source, "image")
            if is_partition:
                raise InvalidRequest(
                    f"image {source!r} cannot be said to be that of a partition",
                    field="is_partition",
                    reason="Glance has it, in the image's property img_type",
                    advice="Leave it out",
                )
            if checksum is not None:
                raise InvalidRequest(
                    f"image {source!r} takes no checksum",
                    field="checksum",
                    reason="Glance has it",
                    advice="Leave it out",
                )
            return image
        _check_url(source, "image")
        if checksum is None:
            if source.startswith("oci:"):
                return image
            raise InvalidRequest(
                f"image {source} has no checksum",
                field="checksum",
                reason="without it Ironic writes nothing to a disk",
                advice="Give sha256:<64 hexadecimal digits>, or the URL of a list such as SHA256SUMS",
            )
        if "://" in checksum:
            _check_url(checksum, "the checksum's URL")
            return replace(image, checksum_url=checksum)
        algo, value = _checksum(checksum)
        return replace(image, hash_algo=algo, hash_value=value)

    @classmethod
    def iso(cls, url: str) -> Image:
        """An ISO that the machine boots from virtual media; nothing is written to its disks."""
        _check_url(url, "ISO")
        return cls(source=url, is_iso=True)

    @classmethod
    def in_memory(cls, *, kernel: str, ramdisk: str) -> Image:
        """A kernel and a ramdisk that the machine runs from memory; nothing is written to its disks."""
        return cls(kernel=kernel, ramdisk=ramdisk)

    @property
    def is_url(self) -> bool:
        """Whether the source is a URL; if not, it is Glance's."""
        scheme, colon, _ = (self.source or "").partition(":")
        return bool(colon) and scheme.lower() in _URL_SCHEMES

    @property
    def leaves_disks(self) -> bool:
        """Whether nothing is written to the machine's disks."""
        return self.is_iso or self.source is None

    def to_instance_info(self) -> dict[str, object]:
        """What Ironic reads of it."""
        if self.is_iso:
            return {"boot_iso": self.source}
        info: dict[str, object] = {
            "image_source": self.source,
            "image_os_hash_algo": self.hash_algo,
            "image_os_hash_value": self.hash_value,
            "image_checksum": self.checksum_url,
            "kernel": self.kernel,
            "ramdisk": self.ramdisk,
        }
        if self.is_url:
            info["image_type"] = "partition" if self.is_partition else "whole-disk"
        return {key: value for key, value in info.items() if value is not None}


def _check_url(url: str, what: str) -> None:
    line(url, what, max_length=4096)
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise InvalidRequest(
            f"{what} {shown(url)} is no URL",
            reason=str(problem),
            advice="https://images.example.org/x.raw would be one",
        ) from None
    if parts.scheme not in _URL_SCHEMES:
        raise InvalidRequest(f"{what} {url!r} is no URL that Ironic takes", advice=f"Use {', '.join(_URL_SCHEMES)}")
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise InvalidRequest(
            f"{what} {url!r} has no absolute path", advice="file:///var/lib/images/x.raw would have one"
        )
    if parts.scheme in ("http", "https") and not parts.netloc:
        raise InvalidRequest(f"{what} {url!r} has no host", advice="https://images.example.org/x.raw would have one")


def _checksum(text: str) -> tuple[str, str]:
    algo, _, value = text.rpartition(":")
    value = value.lower()
    if not algo:
        algo = next((name for name, length in _HASHES.items() if length == len(value)), "")
    is_hexadecimal = bool(re.fullmatch(r"[0-9a-f]+", value))
    if algo.lower() not in _HASHES or not is_hexadecimal or len(value) != _HASHES[algo.lower()]:
        raise InvalidRequest(
            f"{shown(text)} is no checksum",
            field="checksum",
            reason="it is not the length of any hash that Ironic knows" if is_hexadecimal else "it is not hexadecimal",
            advice="sha256: and 64 hexadecimal digits would be one",
        )
    return algo.lower(), value


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A VIF of the instance. Exactly one of network, subnet and vif says where it comes from.

    Attributes:
        network: name or id; a VIF is created on it.
        subnet: name or id; a VIF is created with an address of it.
        vif: name or id of a VIF that exists, and stays when the instance goes.
        fixed_ip: the address of a created VIF. None lets Neutron choose.
        security_groups: names or ids for a created VIF. Empty leaves the project's default.
        on: name, UUID or MAC address of the NIC, or name or UUID of the bond, that it is to be on. None lets Ironic choose.
    """

    network: str | None = None
    subnet: str | None = None
    vif: str | None = None
    fixed_ip: str | None = None
    security_groups: tuple[str, ...] = ()
    on: str | None = None

    def __post_init__(self) -> None:
        """Exactly one source, and an address that is one."""
        sources = [name for name in ("network", "subnet", "vif") if getattr(self, name) is not None]
        if len(sources) != 1:
            raise InvalidRequest(
                f"a NIC has {' and '.join(sources) or 'neither network, subnet nor vif'}",
                advice="Give exactly one of them",
            )
        for name in ("network", "subnet", "vif", "on"):
            if getattr(self, name) is not None:
                line(getattr(self, name), f"the {name} of a NIC")
        if self.vif is not None and (self.fixed_ip is not None or self.security_groups):
            raise InvalidRequest(
                f"VIF {self.vif!r} exists already",
                field="vif",
                reason="its address and security groups are its own",
                advice="Leave them out, or give a network instead of the VIF",
            )
        if self.fixed_ip is not None:
            try:
                ip_address(self.fixed_ip)
            except ValueError:
                raise InvalidRequest(
                    f"fixed IP {shown(self.fixed_ip)} is no address",
                    field="fixed_ip",
                    advice="192.0.2.10 or 2001:db8::10 would be one",
                ) from None

    @property
    def words(self) -> str:
        """What a person calls it."""
        for name in ("network", "subnet", "vif"):
            value = getattr(self, name)
            if value is not None:
                return f"{name} {value}"
        return "NIC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A remote volume of the instance.

    Attributes:
        volume_id: the storage's id of it.
        volume_type: `iscsi`, `fibre_channel`, `nvmeof` ….
        boot_index: 0 is what the instance boots from.
        properties: how to reach it, as Ironic's volume targets have it; may hold CHAP secrets.
    """

    volume_id: str
    volume_type: str = "iscsi"
    boot_index: int = 0
    properties: Secret[Mapping[str, object]] = field(default_factory=lambda: Secret[Mapping[str, object]]({}))

    def __post_init__(self) -> None:
        """The values are what they say."""
        line(self.volume_id, "volume")
        line(self.volume_type, f"the type of volume {self.volume_id}")
        if self.boot_index < 0:
            raise InvalidRequest(
                f"boot index {self.boot_index} is not allowed", field="boot_index", advice="It counts from 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What the instance is told about itself, on its config drive.

    Attributes:
        ssh_keys: public keys, one line each as in a `.pub` file.
        user_data: text, bytes, the path of a file, or a mapping for a cloud-config.
        gzip_user_data: whether to compress it.
        vendor_data: content of `vendor_data.json`.
        meta: the instance's properties.
        files: content by absolute path, written by the guest's cloud-init where it does that.
        admin_password: for guests that take one from here.
        config_drive: False gives none at all.
        as_image: whether to build an image in any case, for an Ironic that has no program for it.
        dhcp: False writes down every address, also where a subnet has DHCP.
        drive: a config drive that is built already, instead of one made of the rest.
    """

    ssh_keys: tuple[str, ...] = ()
    user_data: Secret[bytes] | None = None
    vendor_data: Mapping[str, Any] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Secret[bytes]] = field(default_factory=dict)
    admin_password: Secret[str] | None = None
    config_drive: bool = True
    as_image: bool = False
    dhcp: bool = True
    drive: Secret[Payload] | None = None

    def __post_init__(self) -> None:
        """Keys are keys."""
        for number, key in enumerate(self.ssh_keys):
            ssh_public_key(key, f"key{number}")

    @classmethod
    def of(
        cls,
        *,
        user_data: str | bytes | Path | Mapping[str, Any] | None = None,
        gzip_user_data: bool = False,
        **rest: Any,
    ) -> Guest:
        """What the instance is told, with user data in any form."""
        if user_data is not None:
            rest["user_data"] = user_data_from(user_data, compress=gzip_user_data)
        return cls(**rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """An instance that is wanted.

    Attributes:
        image: what it boots; None boots from a volume.
        name: a host name, unique among instances. None makes one of the instance's UUID.
        node: name or UUID of the node; None lets Ironic choose one that is as `wanted`.
        wanted: what the node has to be like.
        nics: its VIFs, in order.
        volumes: its remote volumes.
        guest: what it is told about itself.
        root_gib: size of the root partition of a partition image.
        swap_mib: size of a swap partition.
        ephemeral_gib: size of an ephemeral partition.
        ephemeral_format: its file system.
        instance_capabilities: what the deploy has to do: `boot_mode`, `secure_boot`, `disk_label` ….
        root_device: which disk is the root disk: Ironic's hints, such as `{"serial": "…"}`.
        deploy_steps: in addition to those that Ironic takes anyway; API 1.69.
        owner: the project that the allocation belongs to.
        instance_uuid: None makes one.
        instance_info: all that Ironic is to know of the instance, from whoever knows it better than this request.
    """

    image: Image | None
    name: str | None = None
    node: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    nics: tuple[Nic, ...] = ()
    volumes: tuple[Volume, ...] = ()
    guest: Guest = field(default_factory=Guest)
    root_gib: int | None = None
    swap_mib: int | None = None
    ephemeral_gib: int | None = None
    ephemeral_format: str | None = None
    instance_capabilities: Mapping[str, str] = field(default_factory=dict)
    root_device: Mapping[str, object] = field(default_factory=dict)
    deploy_steps: tuple[Mapping[str, object], ...] = ()
    owner: str | None = None
    instance_uuid: str | None = None
    instance_info: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        """The values go together."""
        if self.name is not None and not _INSTANCE_NAME.fullmatch(self.name):
            raise InvalidRequest(
                f"{shown(self.name)} is no instance name",
                field="name",
                reason="it becomes the host name",
                advice="Use letters, digits, '-' and '.', 253 at most, beginning and ending with a letter or digit",
            )
        if self.name is not None and is_uuid(self.name):
            raise InvalidRequest(
                f"{self.name!r} is a UUID",
                field="name",
                reason="a name must not be taken for one",
                advice="Choose a name",
            )
        if self.instance_uuid is not None:
            canonical_uuid(self.instance_uuid, "the instance's UUID")
        if self.node is None and self.wanted.resource_class is None:
            raise InvalidRequest(
                "the request names neither a node nor a resource class",
                field="wanted.resource_class",
                advice="Give one of them; `bloomery nodes` shows both",
            )
        if self.image is None and not any(volume.boot_index == 0 for volume in self.volumes):
            raise InvalidRequest(
                "there is nothing to boot from", field="image", advice="Give an image, or a volume with boot index 0"
            )
        indexes = [volume.boot_index for volume in self.volumes]
        if len(set(indexes)) != len(indexes):
            raise InvalidRequest("two volumes have the same boot index", field="volumes", advice="Give each its own")
        for trait in self.wanted.traits:
            check_trait(trait)
        self._check_sizes()
        given = [nic.vif for nic in self.nics if nic.vif is not None]
        if len(set(given)) != len(given):
            raise InvalidRequest("a VIF is named twice", field="nics", advice="Name each VIF once")
        on = [nic.on for nic in self.nics if nic.on is not None]
        if len(set(on)) != len(on):
            raise InvalidRequest(
                "two VIFs are to be on one NIC", field="nics", advice="Give each VIF its own NIC, or let Ironic choose"
            )
        for hint in self.root_device:
            if hint not in _ROOT_DEVICE_HINTS:
                raise InvalidRequest(
                    f"{shown(hint)} is no root device hint",
                    field="root_device",
                    advice=f"Ironic knows {', '.join(sorted(_ROOT_DEVICE_HINTS))}",
                )

    def _check_sizes(self) -> None:
        for what, name in (
            ("root size", "root_gib"),
            ("swap size", "swap_mib"),
            ("ephemeral size", "ephemeral_gib"),
        ):
            size = getattr(self, name)
            if size is not None and size <= 0:
                raise InvalidRequest(
                    f"{what} {size} is not allowed", field=name, advice="Give a whole number above 0, or leave it out"
                )
        partitions = any(size is not None for size in (self.root_gib, self.swap_mib, self.ephemeral_gib))
        if partitions and self.image is not None and self.image.is_url and not self.image.is_partition:
            raise InvalidRequest(
                "a whole-disk image takes no sizes of partitions",
                field="image",
                reason="it brings its own partition table",
                advice="Leave the sizes out, or give a partition image and say that it is one",
            )

    def to_instance_info(self, *, image: Image | None, name: str) -> dict[str, object]:
        """All that Ironic reads of the instance, and nothing that is left from another."""
        if self.instance_info is not None:
            return dict(self.instance_info)
        info: dict[str, object] = {"display_name": name}
        if image is not None:
            info |= image.to_instance_info()
        sizes = {
            "root_gb": self.root_gib,
            "swap_mb": self.swap_mib,
            "ephemeral_gb": self.ephemeral_gib,
            "ephemeral_format": self.ephemeral_format,
        }
        info |= {key: value for key, value in sizes.items() if value is not None}
        if self.wanted.traits:
            info["traits"] = list(self.wanted.traits)
        capabilities = {**self.wanted.capabilities, **self.instance_capabilities}
        if capabilities:
            info["capabilities"] = capabilities
        if self.root_device:
            info["root_device"] = dict(self.root_device)
        if image is not None and image.leaves_disks:
            info["deploy_interface"] = "ramdisk"
        return info
