"""What a lab is asked to be, and what it then is: the values that pass between its processes and its callers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from bloomery.lab.errors import LabError

MAX_NODES = 5000
MAX_MACHINES = 8
"""How many nodes may be virtual machines: each takes one and a half gigabytes of memory, and a processor."""


class Kind(StrEnum):
    """What drives the nodes: a Redfish BMC, Ironic's fake hardware, half of each, or the BMC of a machine that boots."""

    REDFISH = "redfish"
    FAKE = "fake"
    BOTH = "both"
    VM = "vm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the lab is asked to be.

    Args:
        deploy_seconds: how long writing an image takes, on both kinds of node; 0 is as fast as it goes.
        network: False leaves Neutron out; Ironic then accepts VIFs and keeps nothing.
        power_seconds: shortest and longest time that a BMC takes to change the power.
        call_back_seconds: how long Ironic waits for a deploy agent that was started; None is five minutes, and half an hour
            for virtual machines, which may be emulated.
        companion: the command line of a further process that lives with the lab and works on it; `{port}` in it is the
            port of loopback on which it has to answer at `/healthz`. Empty means none.
        notifications_url: a message bus, as oslo.messaging takes it, to which Ironic sends its notifications. Empty means none.
    """

    nodes: int = 4
    kind: Kind = Kind.REDFISH
    deploy_seconds: int = 0
    network: bool = True
    power_seconds: tuple[float, float] = (0.3, 0.9)
    call_back_seconds: int | None = None
    companion: tuple[str, ...] = ()
    notifications_url: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {self.nodes}")
        if self.kind is Kind.VM and self.nodes > MAX_MACHINES:
            raise LabError(f"a lab has 1 to {MAX_MACHINES} virtual machines, not {self.nodes}")
        if self.call_back_seconds is not None and self.call_back_seconds < 1:
            raise LabError(f"an agent has 1 second or more to call back, not {self.call_back_seconds}")
        if self.deploy_seconds < 0:
            raise LabError(f"the time to deploy is 0 seconds or more, not {self.deploy_seconds}")
        if not 0 < self.power_seconds[0] <= self.power_seconds[1]:
            raise LabError(f"the time of a power change goes from a shorter to a longer one, not {self.power_seconds}")

    @property
    def call_back_timeout_s(self) -> int:
        """How long Ironic waits for a deploy agent that was started."""
        return self.call_back_seconds or (1800 if self.kind is Kind.VM else 300)

    @property
    def redfish_nodes(self) -> int:
        """How many of the nodes have a BMC; they come first."""
        return {Kind.REDFISH: self.nodes, Kind.FAKE: 0, Kind.BOTH: (self.nodes + 1) // 2, Kind.VM: self.nodes}[
            self.kind
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A file that the lab's image server hands out.

    Attributes:
        is_partition: whether it holds the file system of one partition, and no partition table.
    """

    url: str
    sha256: str
    size_bytes: int
    is_partition: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNode:
    """A node as the lab enrolled it; its BMC's system has the same UUID."""

    uuid: str
    name: str
    kind: Kind
    boot_interface: str
    resource_class: str
    traits: tuple[str, ...]
    mac_addresses: tuple[str, ...]
    has_port_group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A lab that is up: where its parts answer and what it holds."""

    state: Path
    options: Options
    started_at: str
    supervisor_pid: int
    ironic_url: str
    images_url: str
    bmc_url: str | None
    agent_url: str | None
    neutron_url: str | None
    companion_url: str | None = None
    networks: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    nodes: tuple[LabNode, ...] = ()

    @property
    def cloud(self) -> str:
        """The name of the lab's cloud in its clouds.yaml."""
        return "lab"

    @property
    def cloud_config(self) -> Path:
        """The clouds.yaml that leads clients to this lab."""
        return self.state / "clouds.yaml"

    @property
    def catalogue(self) -> Path:
        """The file with its images that a service in front of it offers."""
        return self.state / "catalogue.yaml"

    def node(self, name: str) -> LabNode:
        """The node of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"the lab has no node {name}; it has {', '.join(node.name for node in self.nodes)}")

    def to_json(self) -> str:
        """The lab as text that `from_json` reads back."""
        return json.dumps(asdict(self), default=str, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The lab that `to_json` wrote."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "state": Path(values["state"]),
                "options": read_options(values["options"]),
                "images": {name: Image(**image) for name, image in values["images"].items()},
                "nodes": tuple(
                    LabNode(
                        **{
                            **node,
                            "kind": Kind(node["kind"]),
                            "traits": tuple(node["traits"]),
                            "mac_addresses": tuple(node["mac_addresses"]),
                        }
                    )
                    for node in values["nodes"]
                ),
            }
        )


def read_options(values: Mapping[str, Any]) -> Options:
    """The options that were written as JSON."""
    tuples = {name: tuple(values[name]) for name in ("power_seconds", "companion")}
    return Options(**{**values, "kind": Kind(values["kind"]), **tuples})
