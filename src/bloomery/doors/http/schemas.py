"""What the API takes and gives, as types: the OpenAPI document is made from them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic import Secret as Hidden

from bloomery.errors import InvalidRequest
from bloomery.fleet import Wanted
from bloomery.janitor import Kind as LeakKind
from bloomery.janitor import Leak
from bloomery.janitor import Verdict as LeakVerdict
from bloomery.operations.instances import Manager
from bloomery.operations.rebuild import RebuildRequest
from bloomery.operations.request import DeployRequest, Guest, Image, Nic, Volume
from bloomery.secret import Secret

_WITHOUT_ZERO = r"^[^\x00]*$"
"""Databases keep no zero character, and nobody is called by one."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_WITHOUT_ZERO)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=_WITHOUT_ZERO)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Given(BaseModel):
    """What a caller gives; a name that is not known is an error, and no value is guessed from another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _drop_required(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class Row(BaseModel):
    """What the service gives; with `fields` only some of it."""

    model_config = ConfigDict(json_schema_extra=_drop_required)


# Deploying


P = TypeVar("P")


def _part(name: str, make: Callable[[], P]) -> P:
    """The part of a request as the core has it; what is wrong with it is said to be wrong there."""
    try:
        return make()
    except InvalidRequest as problem:
        problem.part_of(name)
        raise


class ImageBody(Given):
    """What an instance boots. One of `source`, `iso`, or `kernel` and `ramdisk` alone."""

    source: Url | None = Field(default=None, description="A URL, or Glance's name or id.")
    checksum: Url | None = Field(
        default=None, description="Of an image at a URL: `sha256:…`, or the URL of a list such as SHA256SUMS."
    )
    kernel: Url | None = Field(
        default=None, description="URL or Glance id; of a partition image, or to be run from memory."
    )
    ramdisk: Url | None = Field(default=None, description="URL or Glance id; goes with `kernel`.")
    is_partition: bool = Field(
        default=False,
        description="Whether what is at `source`'s URL is the file system of one partition, not a whole disk.",
    )
    iso: Url | None = Field(
        default=None, description="URL of an ISO that is booted from virtual media; no disk is written."
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.iso is not None and (self.source or self.checksum or self.kernel or self.ramdisk or self.is_partition):
            raise ValueError("iso goes with no other image")
        if self.source is None and self.checksum is not None:
            raise ValueError("checksum is that of source, which is missing")
        if self.source is None and self.is_partition:
            raise ValueError("is_partition says what source is, which is missing")
        if self.iso is None and self.source is None and (self.kernel is None or self.ramdisk is None):
            raise ValueError("give source, iso, or kernel and ramdisk")
        return self

    def to_core(self) -> Image:
        """The image."""
        if self.iso is not None:
            return Image.iso(self.iso)
        if self.source is not None:
            return Image.named(
                self.source,
                checksum=self.checksum,
                kernel=self.kernel,
                ramdisk=self.ramdisk,
                is_partition=self.is_partition,
            )
        return Image.in_memory(kernel=str(self.kernel), ramdisk=str(self.ramdisk))


class WantedBody(Given):
    """What the node has to be like."""

    resource_class: Word | None = Field(default=None, description="Its resource class.")
    traits: list[Word] = Field(default=[], max_length=64, description="Traits, all of which it has.")
    capabilities: dict[str, str] = Field(default={}, description="Capabilities, all of which it has with this value.")
    owner: Word | None = Field(default=None, description="The project that owns it.")
    conductor_group: str | None = Field(default=None, max_length=255, description="The conductor group that serves it.")
    candidates: list[Word] = Field(default=[], max_length=10_000, description="Names or UUIDs; one of these nodes.")

    def to_core(self) -> Wanted:
        """What is wanted."""
        return Wanted(
            resource_class=self.resource_class,
            traits=tuple(self.traits),
            capabilities=dict(self.capabilities),
            owner=self.owner,
            conductor_group=self.conductor_group,
            candidates=tuple(self.candidates),
        )


class NicBody(Given):
    """A VIF of an instance: of exactly one of `network`, `subnet` and `vif`."""

    network: Word | None = Field(default=None, description="Name or id; a VIF is created on it.")
    subnet: Word | None = Field(default=None, description="Name or id; a VIF is created with an address of it.")
    vif: Word | None = Field(default=None, description="Name or id of a VIF (Neutron port) that exists.")
    fixed_ip: Word | None = Field(default=None, description="The address of a created VIF.")
    security_groups: list[Word] = Field(default=[], max_length=64, description="Names or ids, for a created VIF.")
    on: Word | None = Field(
        default=None, description="Name, UUID or MAC address of the NIC or bond that it is to be on."
    )

    def to_core(self) -> Nic:
        """The NIC."""
        return Nic(
            network=self.network,
            subnet=self.subnet,
            vif=self.vif,
            fixed_ip=self.fixed_ip,
            security_groups=tuple(self.security_groups),
            on=self.on,
        )


class VolumeBody(Given):
    """A remote volume of an instance."""

    volume_id: Word = Field(description="The storage's id of it.")
    volume_type: Word = Field(default="iscsi", description="`iscsi`, `fibre_channel`, `nvmeof` …")
    boot_index: int = Field(default=0, ge=0, le=1000, description="0 is what the instance boots from.")
    properties: Hidden[dict[str, Any]] = Field(
        default_factory=lambda: Hidden[dict[str, Any]]({}),
        description="How to reach it, as Ironic's volume targets have it; kept nowhere else.",
    )

    def to_core(self) -> Volume:
        """The volume."""
        return Volume(
            volume_id=self.volume_id,
            volume_type=self.volume_type,
            boot_index=self.boot_index,
            properties=Secret(self.properties.get_secret_value()),
        )


class GuestBody(Given):
    """What an instance is told about itself, on its config drive."""

    ssh_keys: list[Annotated[str, StringConstraints(max_length=16_384)]] = Field(
        default=[], max_length=64, description="Public keys, as in a `.pub` file."
    )
    user_data: SecretStr | None = Field(default=None, description="User data, as text.")
    user_data_base64: SecretStr | None = Field(default=None, description="User data, as bytes in base64.")
    gzip_user_data: bool = Field(default=False, description="Whether to compress it.")
    vendor_data: dict[str, Any] | None = Field(default=None, description="Content of `vendor_data.json`.")
    meta: dict[str, str] = Field(default={}, description="The instance's properties.")
    files: dict[str, SecretStr] = Field(default={}, description="Content, as text, by absolute path.")
    files_base64: dict[str, SecretStr] = Field(default={}, description="Content, as bytes in base64, by absolute path.")
    admin_password: SecretStr | None = Field(default=None, description="For guests that take one from here.")
    config_drive: bool = Field(default=True, description="False gives none at all.")
    as_image: bool = Field(
        default=False, description="Whether to build an image in any case, for an Ironic that cannot."
    )
    dhcp: bool = Field(default=True, description="False writes down every address, also where a subnet has DHCP.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.user_data is not None and self.user_data_base64 is not None:
            raise ValueError("give user_data or user_data_base64")
        if self.files.keys() & self.files_base64.keys():
            raise ValueError("a file is in files and in files_base64")
        for secret in (self.user_data_base64, *self.files_base64.values()):
            if secret is not None:
                _bytes_of(secret)
        return self

    def to_core(self) -> Guest:
        """What it is told."""
        user_data: str | bytes | None = self.user_data.get_secret_value() if self.user_data is not None else None
        if self.user_data_base64 is not None:
            user_data = _bytes_of(self.user_data_base64)
        files = {path: Secret(content.get_secret_value().encode()) for path, content in self.files.items()}
        files |= {path: Secret(_bytes_of(content)) for path, content in self.files_base64.items()}
        return Guest.of(
            user_data=user_data,
            gzip_user_data=self.gzip_user_data,
            ssh_keys=tuple(self.ssh_keys),
            vendor_data=self.vendor_data,
            meta=dict(self.meta),
            files=files,
            admin_password=Secret(self.admin_password.get_secret_value()) if self.admin_password is not None else None,
            config_drive=self.config_drive,
            as_image=self.as_image,
            dhcp=self.dhcp,
        )


def _bytes_of(secret: SecretStr) -> bytes:
    try:
        return base64.b64decode(secret.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a value that should be base64 is not") from None


class DeployStepBody(Given):
    """A deploy step in addition to Ironic's own."""

    interface: Word
    step: Word
    args: dict[str, Any] = {}
    priority: int = Field(ge=0, le=1_000_000)


class DeployBody(Given):
    """An instance that is wanted."""

    image: ImageBody | None = Field(default=None, description="What it boots; without one, a volume with boot index 0.")
    name: Word | None = Field(default=None, description="A host name, unique among instances.")
    node: Word | None = Field(default=None, description="Name or UUID of the node; without one, Ironic chooses.")
    wanted: WantedBody = Field(default=WantedBody(), description="What the node has to be like.")
    nics: list[NicBody] = Field(default=[], max_length=64, description="Its VIFs, in order.")
    volumes: list[VolumeBody] = Field(default=[], max_length=64, description="Its remote volumes.")
    guest: GuestBody = Field(default=GuestBody(), description="What it is told about itself.")
    root_gib: int | None = Field(
        default=None, gt=0, le=1_000_000, description="Size of the root partition of a partition image."
    )
    swap_mib: int | None = Field(default=None, gt=0, le=1_000_000_000, description="Size of a swap partition.")
    ephemeral_gib: int | None = Field(default=None, gt=0, le=1_000_000, description="Size of an ephemeral partition.")
    ephemeral_format: Word | None = Field(default=None, description="Its file system.")
    instance_capabilities: dict[str, str] = Field(
        default={}, description="What the deploy has to do: `boot_mode`, `secure_boot` …"
    )
    root_device: dict[str, str] = Field(default={}, description="Which disk is the root disk: Ironic's hints.")
    deploy_steps: list[DeployStepBody] = Field(
        default=[], max_length=64, description="In addition to those that Ironic takes anyway."
    )
    keep_failed: bool = Field(default=False, description="Leaves a failed deploy as it is, for somebody to look at.")
    timeout_s: Seconds = Field(default=3600.0, description="What it may take; undoing comes on top.")

    def to_core(self, *, instance_uuid: str | None, owner: str | None) -> DeployRequest:
        """The request.

        Raises:
            InvalidRequest: a value is no such thing, or two of them do not go together.
        """
        return DeployRequest(
            image=_part("image", self.image.to_core) if self.image is not None else None,
            name=self.name,
            node=self.node,
            wanted=_part("wanted", self.wanted.to_core),
            nics=tuple(_part(f"nics.{number}", nic.to_core) for number, nic in enumerate(self.nics)),
            volumes=tuple(_part(f"volumes.{number}", volume.to_core) for number, volume in enumerate(self.volumes)),
            guest=_part("guest", self.guest.to_core),
            root_gib=self.root_gib,
            swap_mib=self.swap_mib,
            ephemeral_gib=self.ephemeral_gib,
            ephemeral_format=self.ephemeral_format,
            instance_capabilities=dict(self.instance_capabilities),
            root_device=dict(self.root_device),
            deploy_steps=tuple(step.model_dump() for step in self.deploy_steps),
            owner=owner if owner is not None else self.wanted.owner,
            instance_uuid=instance_uuid,
        )


# What is done to an instance


class Timed(Given):
    """Something that takes long."""

    timeout_s: Seconds = Field(default=3600.0, description="What it may take.")


class DestroyBody(Timed):
    """The instance is to go."""

    wait_for_cleaning: bool = Field(default=False, description="Whether it ends only when the node is clean and free.")


class RebuildBody(Timed):
    """What is to become of an instance."""

    image: ImageBody | None = Field(
        default=None, description="What it boots from now on; without one, what it boots now."
    )
    guest: GuestBody | None = Field(
        default=None, description="What it is told; without that, it keeps its config drive."
    )
    preserve_ephemeral: bool = Field(default=False, description="Whether the data on its ephemeral partition stays.")
    deploy_steps: list[DeployStepBody] = Field(
        default=[], max_length=64, description="In addition to those that Ironic takes anyway."
    )

    def to_core(self) -> RebuildRequest:
        """The request."""
        return RebuildRequest(
            image=_part("image", self.image.to_core) if self.image is not None else None,
            guest=_part("guest", self.guest.to_core) if self.guest is not None else None,
            preserve_ephemeral=self.preserve_ephemeral,
            deploy_steps=tuple(step.model_dump() for step in self.deploy_steps),
        )


class RescueBody(Timed):
    """The machine is to run the rescue ramdisk."""

    password: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="What opens it; without one, one is made and given back once.",
    )


class UnrescueBody(Timed):
    """The machine is to run its own system again."""


class PowerTarget(StrEnum):
    """Where a machine's power is to go."""

    ON = "on"
    OFF = "off"
    REBOOT = "reboot"


class PowerBody(Given):
    """The machine's power is to change."""

    target: PowerTarget = Field(strict=False)
    soft_s: Seconds | None = Field(
        default=None, description="Seconds that its system has to shut down by itself, before the power is cut."
    )
    timeout_s: Seconds = Field(default=600.0, description="What it may take.")


class AttachInterfaceBody(NicBody):
    """A VIF is to be on a NIC of the instance."""


class DetachInterfaceBody(Given):
    """The VIF is to be on no NIC of the instance."""

    vif: Word = Field(description="Its id, name, MAC address or one of its addresses.")


class SecurityGroupBody(Given):
    """A security group is to be, or not to be, on VIFs of the instance."""

    group: Word = Field(description="Name or id.")
    vif: Word | None = Field(default=None, description="One VIF; without one, all of them.")


class AttachVolumeBody(VolumeBody):
    """The instance, which must be off, is to have the volume from its next start on."""


class DetachVolumeBody(Given):
    """The instance, which must be off, is not to have the volume any more."""

    volume_id: Word


class ConsoleBody(Given):
    """The console is to run, or not."""

    force: bool = Field(default=False, description="Takes it from whoever uses it.")


class NoBody(Given):
    """Nothing more is to be said."""


class AdoptBody(Given):
    """The instance, whoever deployed it, is to be managed like our own."""

    name: Word | None = Field(default=None, description="What it is called from now on.")


# What is shown


class Vif(Row):
    """A VIF that is plugged into an instance's node."""

    vif_id: str = Field(description="Neutron's port.")
    name: str | None = None
    network_id: str | None = None
    network: str | None = Field(default=None, description="The network's name.")
    mac: str | None = None
    addresses: list[str] = []
    security_groups: list[str] = Field(default=[], description="Ids.")
    on: str | None = Field(default=None, description="Name, or MAC address, of the NIC or bond that it is on.")
    is_bond: bool = False
    created: bool = Field(default=False, description="Whether it was created for the instance, and goes with it.")
    is_bound: bool | None = Field(default=None, description="Whether Neutron has bound it.")


class InstanceRow(Row):
    """An instance and the node that it runs on."""

    uuid: str
    name: str = Field(description="Its host name.")
    node_uuid: str
    node_name: str | None = None
    state: str = Field(description="The node's provision state.")
    power_state: str | None = None
    target_power_state: str | None = Field(default=None, description="Where its power is going.")
    image: str | None = Field(default=None, description="What it boots: a URL or Glance id.")
    resource_class: str | None = None
    manager: Manager = Field(description="Who deployed it. What Nova deployed is Nova's to change.")
    step: str | None = Field(default=None, description="What Ironic is doing with it.")
    since: datetime | None = Field(default=None, description="When it came into its state.")
    last_error: str | None = None
    maintenance: bool = False
    maintenance_reason: str | None = None
    health: str | None = None
    boot_mode: str | None = None
    secure_boot: bool | None = None
    console_enabled: bool | None = None
    owner: str | None = Field(default=None, description="The project that owns the node.")
    lessee: str | None = Field(default=None, description="The project that leases it.")
    vifs: list[Vif] | None = Field(default=None, description="Its VIFs; not in lists, and not while Ironic is away.")


class InstanceList(BaseModel):
    """Instances, by name."""

    instances: list[InstanceRow]
    next: str | None = Field(default=None, description="Where the next page is; null on the last one.")


class NodeRow(Row):
    """A node, without anything that leads to its BMC."""

    uuid: str
    name: str | None = None
    state: str = Field(description="The provision state.")
    target_state: str | None = None
    since: datetime | None = Field(default=None, description="When it came into its state.")
    power_state: str | None = None
    target_power_state: str | None = None
    resource_class: str | None = None
    traits: list[str] = []
    capabilities: dict[str, str] = {}
    cpu_arch: str | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    local_gib: int | None = None
    instance_uuid: str | None = None
    instance_name: str | None = None
    manager: Manager | None = Field(default=None, description="Who deployed the instance.")
    maintenance: bool = False
    maintenance_reason: str | None = None
    fault: str | None = None
    health: str | None = None
    retired: bool | None = None
    retired_reason: str | None = None
    protected: bool | None = None
    reservation: str | None = Field(
        default=None, description="The conductor that is busy with it; to those who see everything."
    )
    last_error: str | None = None
    step: str | None = Field(default=None, description="What Ironic is doing with it.")
    step_number: int | None = None
    step_count: int | None = None
    owner: str | None = None
    lessee: str | None = None
    conductor_group: str | None = None
    shard: str | None = None
    driver: str | None = None
    boot_mode: str | None = None
    secure_boot: bool | None = None
    why_not: list[str] = Field(
        default=[], description="What keeps it from taking an instance now; empty if it is free."
    )


class NodeList(BaseModel):
    """Nodes, by name."""

    nodes: list[NodeRow]
    next: str | None = Field(default=None, description="Where the next page is; null on the last one.")


class ValidationRow(BaseModel):
    """What one of a node's interfaces says."""

    result: bool | None = Field(default=None, description="Null: the node has no such interface.")
    reason: str | None = None


class NodeValidation(BaseModel):
    """What each of a node's interfaces says."""

    interfaces: dict[str, ValidationRow]


class NicRow(BaseModel):
    """A NIC, or a bond of NICs, and the VIF on it."""

    uuid: str
    name: str | None = None
    mac: str | None = None
    is_bond: bool = False
    bond: str | None = Field(default=None, description="The UUID of the bond that it is part of.")
    pxe_enabled: bool | None = None
    physical_network: str | None = None
    vif_id: str | None = None


class NicList(BaseModel):
    """The NICs of a node, bonds first."""

    nics: list[NicRow]


class Inventory(BaseModel):
    """The hardware, as inspection found it; null where no inspection has."""

    inventory: dict[str, Any] | None = None


class HistoryRow(BaseModel):
    """What Ironic itself noted about a node."""

    at: str | None = None
    severity: str | None = None
    event_type: str | None = None
    event: str | None = None
    user: str | None = None


class History(BaseModel):
    """What Ironic itself noted about a node, the newest first."""

    history: list[HistoryRow]


class FirmwareRow(BaseModel):
    """The firmware of a part of a node."""

    component: str = Field(description="`bios`, `bmc`, `nic:…`.")
    initial_version: str | None = None
    current_version: str | None = None
    last_version_flashed: str | None = None
    updated_at: str | None = None


class FirmwareList(BaseModel):
    """The firmware of a node's parts."""

    firmware: list[FirmwareRow]


class ConnectorView(BaseModel):
    """How the storage is to know a machine."""

    host: str = Field(description="The node.")
    ip: str | None = Field(default=None, description="Its address on the storage's network.")
    initiators: list[str] = Field(default=[], description="iSCSI names.")
    wwpns: list[str] = Field(default=[], description="Fibre Channel ports.")
    wwnns: list[str] = Field(default=[], description="Fibre Channel nodes.")
    nqns: list[str] = Field(default=[], description="NVMe names.")
    multipath: bool = False


class WhyNotRow(BaseModel):
    """What keeps a node from a request."""

    uuid: str
    name: str
    reasons: list[str] = Field(description="The conditions that it does not meet; empty if it fits.")


class WhyNot(BaseModel):
    """Which nodes fit a request, and why the others do not."""

    fitting: int = Field(description="So many nodes could be had now.")
    total: int = Field(description="Of so many.")
    nodes: list[WhyNotRow] = Field(description="Those that fit first; as many as `limit` says.")


class FleetView(BaseModel):
    """The fleet at a glance."""

    nodes: int
    instances: int
    free: int = Field(description="Nodes that could take an instance now.")
    by_state: dict[str, int]
    by_power: dict[str, int]
    by_class: dict[str, int]
    by_health: dict[str, int]
    by_manager: dict[str, int] = Field(description="Instances, by who deployed them.")
    in_trouble: list[WhyNotRow] = Field(description="Nodes that need a hand, and why; a hundred at most.")
    under_way: int = Field(description="Operations under way.")


class ConsoleView(BaseModel):
    """A console."""

    enabled: bool
    kind: str | None = Field(default=None, description="`socat`, `vnc` …")
    url: str | None = Field(default=None, description="Where Ironic's conductor offers it; for administrators only.")
    in_use: bool = Field(default=False, description="Whether somebody is on it through this service.")


class VifGroups(BaseModel):
    """A VIF and its security groups."""

    vif_id: str
    name: str | None = None
    groups: list[SecurityGroupRow]


class SecurityGroupRow(BaseModel):
    """A security group."""

    id: str
    name: str = ""


class VifGroupsList(BaseModel):
    """The security groups of each VIF of an instance."""

    vifs: list[VifGroups]


class VolumeRow(BaseModel):
    """A remote volume of an instance."""

    uuid: str = Field(description="Of Ironic's volume target.")
    volume_id: str
    volume_type: str
    boot_index: int


class VolumeList(BaseModel):
    """The remote volumes of an instance."""

    volumes: list[VolumeRow]


class VifList(BaseModel):
    """The VIFs of an instance."""

    interfaces: list[Vif]


class ProblemList(BaseModel):
    """What does not fit between an instance and its node; empty if they belong together."""

    problems: list[str]


class NetworkRow(BaseModel):
    """A network of Neutron's."""

    id: str
    name: str = ""
    mtu: int | None = None
    subnets: list[str] = []
    status: str | None = None
    shared: bool = False


class NetworkList(BaseModel):
    """The networks that the service may see."""

    networks: list[NetworkRow]


class ImageRow(BaseModel):
    """An image that can be deployed."""

    source: str = Field(description="What to give as `image.source`.")
    name: str
    checksum: str | None = Field(default=None, description="What to give as `image.checksum`.")
    kernel: str | None = None
    ramdisk: str | None = None
    is_partition: bool = Field(default=False, description="What to give as `image.is_partition`.")
    origin: Literal["glance", "catalogue", "instances"] = Field(
        description="Who knows it: Glance, the service's catalogue, or an instance that boots it."
    )


class ImageList(BaseModel):
    """Images that can be deployed."""

    images: list[ImageRow]


# Operations and events


class OperationState(StrEnum):
    """How an operation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ProgressView(BaseModel):
    """How far an operation has got."""

    step: str = Field(description="What is being done: `wait for active`.")
    index: int = Field(description="Which step that is, from 1.")
    total: int = Field(description="Of how many.")
    fraction: float = Field(description="How much is done, 0 to 1, as far as that can be told.")
    state: str | None = Field(default=None, description="The node's provision state.")
    detail: str | None = Field(default=None, description="What Ironic is doing: its own step.")
    undoing: bool = Field(default=False, description="Whether it has failed and is being undone.")


class StepView(BaseModel):
    """A step of an operation, and when it was done."""

    name: str
    undoing: bool = False
    began_at: datetime
    took_s: float | None = Field(default=None, description="Null while it is being done.")


class OperationRow(Row):
    """Something that takes long, from the moment it was accepted."""

    id: str
    kind: str = Field(description="`deploy`, `destroy`, `rebuild` …")
    state: OperationState
    instance_uuid: str | None = None
    instance_name: str | None = None
    node_uuid: str | None = None
    node_name: str | None = None
    resource_class: str | None = None
    actor: str = Field(description="Who asked for it.")
    request_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    elapsed_s: float | None = Field(default=None, description="Since it began; in the end, what it took.")
    expected_s: float | None = Field(
        default=None, description="What it will probably take, by what the last ones took here."
    )
    cancelling: bool = Field(default=False, description="Whether somebody asked to stop it.")
    progress: ProgressView | None = None
    steps: list[StepView] = []
    result: dict[str, Any] | None = Field(default=None, description="What came of it.")
    problem: dict[str, Any] | None = Field(default=None, description="Why it failed, as a problem (RFC 9457).")
    password: str | None = Field(
        default=None, description="A rescue's: in the answer to the request that asked for it, and nowhere else."
    )


class OperationList(BaseModel):
    """Operations, the newest first."""

    operations: list[OperationRow]
    next: str | None = Field(default=None, description="Where the next page is; null on the last one.")


class EventRow(Row):
    """Something that happened."""

    number: int = Field(description="Events are numbered in their order; the stream's ids are these.")
    at: datetime
    kind: str = Field(description="`node.provision_state`, `operation.started` …")
    node_uuid: str | None = None
    node_name: str | None = None
    instance_uuid: str | None = None
    operation_id: str | None = None
    actor: str | None = Field(default=None, description="Who asked for it, if it was one of our callers.")
    request_id: str | None = None
    data: dict[str, Any] = Field(description="What else there is to say, by kind.")


class EventList(BaseModel):
    """Events."""

    events: list[EventRow]
    next: str | None = Field(default=None, description="Where the next page is; null where there is nothing more yet.")


class CallRow(Row):
    """A call of this service."""

    number: int
    at: datetime
    actor: str
    project_id: str | None = None
    address: str | None = None
    method: str
    path: str
    status: int
    request_id: str
    took_s: float


class CallList(BaseModel):
    """The audit, the newest call first."""

    calls: list[CallRow]
    next: str | None = Field(default=None, description="Where the next page is; null on the last one.")


class WebhookBody(Given):
    """Somebody who wants to be told."""

    url: Url = Field(description="https or http; where events are posted to.")
    secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        max_length=255,
        description="What they are signed with; without one, one is made and given back once.",
    )
    kinds: list[Word] = Field(
        default=[], max_length=64, description="Which events; `node.*` are all that begin so; none means all."
    )


class WebhookRow(BaseModel):
    """Somebody who is told."""

    id: str
    url: str
    kinds: list[str]
    created_at: datetime
    created_by: str
    secret: str | None = Field(default=None, description="In the answer to the request that made it, and nowhere else.")


class WebhookList(BaseModel):
    """Those who are told."""

    webhooks: list[WebhookRow]


class DeliveryRow(Row):
    """An event on its way to a webhook."""

    number: int
    event_number: int
    kind: str
    state: Literal["due", "delivered", "failed"]
    attempts: int
    due_at: datetime = Field(description="When it was, or will be, tried.")
    ended_at: datetime | None = None
    status: int | None = Field(default=None, description="What the receiver answered last.")
    reason: str | None = Field(default=None, description="Why the last attempt failed.")


class DeliveryList(BaseModel):
    """The deliveries of a webhook, the newest first."""

    deliveries: list[DeliveryRow]
    next: str | None = Field(default=None, description="Where the next page is; null on the last one.")


class Me(BaseModel):
    """Who you are to this service."""

    name: str
    role: Literal["reader", "member", "admin"]
    project_id: str | None = Field(default=None, description="Null: everything is yours to see.")


class RehearsedCallRow(BaseModel):
    """A request that would have changed something."""

    service: str = Field(description="`Ironic` or `Neutron`.")
    method: str
    path: str = Field(description="With the version, as that service knows it.")
    body: Any = Field(default=None, description="What would have been sent; secrets are hidden.")


class Rehearsal(BaseModel):
    """What an operation would do, up to where it would wait."""

    calls: list[RehearsedCallRow]


class CheckRow(BaseModel):
    """One thing looked at."""

    check: str = Field(description="What.")
    verdict: Literal["ok", "warn", "fail"] = Field(description="How it is.")
    found: str = Field(description="What was seen.")
    advice: str | None = Field(default=None, description="What to do, where something is to be done.")


class CheckList(BaseModel):
    """Everything looked at."""

    checks: list[CheckRow]


class LeakBody(Given):
    """Something that seems to be left of an instance or operation that is gone, as `GET /v1/leaks` has it."""

    kind: LeakKind = Field(description="Of which sort.", strict=False)
    verdict: LeakVerdict = Field(description="What may be done about it.", strict=False)
    name: str = Field(max_length=255, description="What a person calls it.")
    id: Word = Field(description="Its UUID; of what stands on a node, the node's.")
    node: str | None = Field(default=None, max_length=255, description="The node that it is on, by name.")
    node_uuid: str | None = Field(default=None, max_length=64, description="That node.")
    instance_uuid: str | None = Field(default=None, max_length=64, description="The instance.")
    reason: str = Field(default="", max_length=4096, description="What proves it, or why nothing does.")
    advice: str | None = Field(default=None, max_length=4096, description="What a person can do.")

    def to_core(self) -> Leak:
        """The leak."""
        return Leak(**self.model_dump())


class LeakList(BaseModel):
    """What seems to be left."""

    leaks: list[LeakBody]
    blind: list[str] = Field(description="What could not be looked at, a clause each.")


class MendOutcome(BaseModel):
    """What became of it."""

    is_gone: bool = Field(description="Whether it is there no more.")
    problem: dict[str, Any] | None = Field(
        default=None, description="What went wrong; null if nothing did, or if it was left alone for want of proof."
    )


class JanitorBody(Given):
    """What the janitor is to do."""

    do: Literal["pause", "go on", "look"]


class LookRow(BaseModel):
    """What a look of the janitor came to."""

    at: datetime = Field(description="When it was over.")
    took_s: float = Field(description="With what was cleaned.")
    found: dict[LeakVerdict, int] = Field(description="How many there were, by what may be done about them.")
    mended: int = Field(description="How many of those that were certainly left are gone.")
    leaks: list[LeakBody] = Field(description="The first 200 that are still there.")
    blind: list[str] = Field(description="What could not be looked at, a clause each.")
    problem: dict[str, Any] | None = Field(description="Why nothing could be looked at.")


class JanitorRow(BaseModel):
    """The janitor, which looks for what is left of instances and operations, and cleans what certainly is."""

    state: Literal["on", "paused", "off"] = Field(description="`off`: the service was started without it.")
    changed_by: str | None = Field(description="Who paused it, or let it go on, last.")
    changed_at: datetime | None = Field(description="When.")
    every_s: float = Field(description="Seconds from one look to the next.")
    requests_per_s: float = Field(description="What it asks of Ironic and Neutron at most.")
    last: LookRow | None = Field(description="Its last look, whichever replica's.")


class RecoverBody(Timed):
    """What was left half done is to be finished or undone."""

    older_than_s: float = Field(
        default=600.0,
        ge=0,
        le=31_536_000,
        allow_inf_nan=False,
        description="What was begun more recently is left alone: its process may still be at it.",
    )


class About(BaseModel):
    """What this service is and how it stands."""

    version: str = Field(description="Bloomery's.")
    ironic_api: str | None = Field(
        description="The API version that is spoken with Ironic; null until Ironic has answered once."
    )
    has_neutron: bool = Field(description="Whether there is a Neutron; false until Ironic has answered once.")
    has_glance: bool = Field(description="Whether there is a Glance; false until Ironic has answered once.")
    auth: Literal["none", "basic", "keystone"]
    me: Me
    stale_s: float | None = Field(default=None, description="How old what is shown is, while Ironic is away.")
    stale_reason: str | None = Field(default=None, description="Why Ironic cannot be asked.")
    bus: bool | None = Field(
        default=None,
        description="Whether Ironic's notifications are listened to; null where the service was told of none.",
    )
    log_reason: str | None = Field(
        default=None, description="Why the service's log cannot be read, while it cannot: then nothing new is begun."
    )
    last_event: int = Field(description="The number of the newest event: where a stream would begin.")


VifGroups.model_rebuild()
