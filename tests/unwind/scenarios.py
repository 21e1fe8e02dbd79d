"""For each operation: a world in which it makes sense, how it is called, and what a world looks like to a tenant.

The tests that break operations walk `SCENARIOS`; a test holds it to the registry of operations, so that a new operation,
or a new step of one, is broken everywhere the day that it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from keystoneauth1.noauth import NoAuth
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session

from bloomery import (
    Bloomery,
    DeployRequest,
    Guest,
    Image,
    Nic,
    Patience,
    RebuildRequest,
    Secret,
    Volume,
    Wanted,
    connect,
)
from bloomery.deadline import USUAL
from bloomery.engine import Observer
from bloomery.errors import BloomeryError
from bloomery.operations import deploy, interfaces, tear_down
from bloomery.operations.run import Options
from bloomery.testing import IronicSimulator, NeutronSimulator, Timings
from bloomery.watch import Watch

CHECKSUM = "a" * 64
OF_THE_MOMENT = ("guard", "since", "until", "by", "process")
"""What a mark says of who wrote it and when, which differs from one time to the next."""
IN_PIECES = "3c3bd2b1-8b0e-4f5e-9d33-0d7a8f3b6a10"
FAST = Timings(
    verify_s=0.002,
    power_s=0.002,
    deploy_s=0.01,
    agent_s=0.004,
    tear_down_s=0.005,
    clean_s=0.01,
    rescue_s=0.005,
    unrescue_s=0.005,
)


@dataclass
class World:
    """An Ironic and a Neutron, with a node, networks, and somebody else's things that nobody may touch."""

    ironic: IronicSimulator
    neutron: NeutronSimulator
    node: str
    given_vif: str
    web: str

    def api(
        self,
        observer: Observer | None = None,
        *,
        endpoints: Mapping[str, str] | None = None,
        auth: BaseAuthPlugin | None = None,
        patience: Patience = USUAL,
    ) -> Bloomery:
        """A new process's connection; what it does is told to the observer."""
        api = connect(
            session=Session(auth=auth or NoAuth()),
            endpoints=endpoints or {"baremetal": self.ironic.url, "network": self.neutron.url},
            patience=patience,
        )
        quick = Watch(api.services.ironic, shortest_s=0.004, longest_s=0.02)
        return Bloomery(replace(api.services, watch=quick, observer=observer or Observer()))

    def seen(self) -> dict[str, Any]:
        """All that matters of the world, without times and without ids that Neutron and Ironic make up."""
        node = self.ironic.node(self.node)
        mark = {key: value for key, value in node["extra"].get("bloomery", {}).items() if key not in OF_THE_MOMENT}
        return {
            "node": {
                name: node[name]
                for name in (
                    "instance_uuid",
                    "provision_state",
                    "power_state",
                    "instance_info",
                    "console_enabled",
                    "maintenance",
                )
            },
            "mark": mark,
            "vifs": sorted(self.ironic.vifs(self.node)),
            "ports": sorted((port["id"], sorted(port["security_groups"])) for port in self.neutron.ports()),
            "volumes": sorted(target["volume_id"] for target in self.ironic.volume_targets(self.node)),
            "allocations": sorted(allocation["uuid"] for allocation in self.ironic.allocations()),
        }


@contextmanager
def a_world(*, timings: Timings = FAST) -> Iterator[World]:
    """A world with one free node that has everything."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        ironic.timings = timings
        private = neutron.add_network("private", cidrs=["10.0.0.0/24"])
        neutron.add_network("storage", cidrs=["10.9.0.0/24"])
        given = neutron.add_port(private, name="given")
        web = neutron.create("security_groups", {"name": "web"})["id"]
        node = ironic.add_node(
            name="node-0",
            ports=4,
            resource_class="baremetal",
            traits=["CUSTOM_LAB"],
            storage_interface="external",
            console_interface="ipmitool-socat",
        )
        yield World(ironic, neutron, node, given, str(web))


def a_request(world: World, **changes: Any) -> DeployRequest:
    """An instance with everything that a deploy can be asked for."""
    request = DeployRequest(
        name="web-1",
        image=Image.named("http://images.example.org/a.raw", checksum=CHECKSUM),
        wanted=Wanted(resource_class="baremetal", traits=("CUSTOM_LAB",)),
        nics=(Nic(network="private"), Nic(vif=world.given_vif), Nic(network="storage", fixed_ip="10.9.0.77")),
        volumes=(Volume(volume_id="data", boot_index=1, properties=Secret({"auth_password": "chap"})),),
        guest=Guest.of(user_data="#!/bin/sh\n"),
    )
    return replace(request, **changes)


def deployed(world: World) -> None:
    """The instance runs."""
    world.api().deploy(a_request(world), timeout_s=60)


def deployed_off(world: World) -> None:
    """The instance exists, and is powered off."""
    deployed(world)
    world.api().power_off("web-1")


def deployed_off_without_volume(world: World) -> None:
    """The instance exists without its volume, and is powered off."""
    world.api().deploy(a_request(world, volumes=()), timeout_s=60)
    world.api().power_off("web-1")


def rescued(world: World) -> None:
    """The instance is in rescue mode."""
    deployed(world)
    world.api().rescue("web-1", timeout_s=60)


def without_mark(world: World) -> None:
    """The instance runs, and was deployed by somebody else."""
    deployed(world)
    world.ironic.set(world.node, extra={})


def with_console(world: World) -> None:
    """The instance runs, and so does its console."""
    deployed(world)
    world.api().enable_console("node-0")


def nothing(_world: World) -> None:
    """The node is free."""


@dataclass(frozen=True)
class Scenario:
    """An operation in a world.

    Attributes:
        prepare: makes the world.
        call: calls the operation.
        goes_back: whether a failure leaves the world as it was found; if not, calling it again finishes it.
        no_return_after: the step whose effect no undo can take back, because Ironic overwrites disks from there on.
    """

    prepare: Callable[[World], None]
    call: Callable[[Bloomery, World], Any]
    goes_back: bool = True
    no_return_after: str | None = None


def _rebuild(api: Bloomery, _world: World) -> None:
    image = Image.named("http://images.example.org/b.raw", checksum="b" * 64)
    api.rebuild("web-1", RebuildRequest(image=image, guest=Guest.of(user_data="#!/bin/true\n")), timeout_s=60)


def _deploy_in_pieces(api: Bloomery, world: World) -> None:
    """The pieces as Nova's manager has them done, which destroys what they have begun when one fails."""
    options = Options(timeout_s=60, undo_timeout_s=60)
    nics = (Nic(vif=world.given_vif),)
    request = a_request(world, node=world.node, nics=nics, instance_uuid=IN_PIECES, instance_info={"image_source": "x"})
    try:
        node = deploy.claim(api.services, request, options)
        node = deploy.plug(api.services, node, request, options)
        deploy.spawn(api.services, node, request, options)
    except BloomeryError:
        left = api.services.ironic.node(world.node)
        tear_down.destroy(api.services, left, IN_PIECES, options, wait_for_cleaning=True)
        raise


def deployed_beside_a_vif(world: World) -> None:
    """The instance runs, and somebody has made another VIF for it."""
    deployed(world)
    (network,) = {port["network_id"] for port in world.neutron.ports() if port["id"] == world.given_vif}
    world.neutron.add_port(network, name="spare")


def _attach_given(api: Bloomery, world: World) -> None:
    (spare,) = [port["id"] for port in world.neutron.ports() if port["name"] == "spare"]
    interfaces.plug_given(api.services, api.node("node-0"), spare, Options(timeout_s=60))


SCENARIOS: dict[str, Scenario] = {
    "claim, then the rest": Scenario(nothing, _deploy_in_pieces),
    "plug, after the claim": Scenario(nothing, _deploy_in_pieces),
    "spawn, after claim and plugging": Scenario(nothing, _deploy_in_pieces),
    "attach given interface": Scenario(deployed_beside_a_vif, _attach_given),
    "deploy": Scenario(nothing, lambda api, world: api.deploy(a_request(world), timeout_s=60)),
    "deploy to a named node": Scenario(
        nothing, lambda api, world: api.deploy(a_request(world, node="node-0"), timeout_s=60)
    ),
    "destroy": Scenario(
        deployed, lambda api, _world: api.destroy("node-0", wait_for_cleaning=True, timeout_s=60), goes_back=False
    ),
    "destroy with its console": Scenario(
        with_console, lambda api, _world: api.destroy("node-0", wait_for_cleaning=True, timeout_s=60), goes_back=False
    ),
    "rebuild": Scenario(deployed, _rebuild, no_return_after="request rebuild"),
    "rescue": Scenario(deployed, lambda api, _world: api.rescue("web-1", Secret("open sesame"), timeout_s=60)),
    "unrescue": Scenario(rescued, lambda api, _world: api.unrescue("web-1", timeout_s=60), goes_back=False),
    "power": Scenario(deployed, lambda api, _world: api.power_off("web-1", soft_s=1, timeout_s=60), goes_back=False),
    "power on": Scenario(deployed_off, lambda api, _world: api.power_on("web-1", timeout_s=60), goes_back=False),
    "power by reboot": Scenario(deployed, lambda api, _world: api.reboot("web-1", timeout_s=60), goes_back=False),
    "power by soft reboot": Scenario(deployed, lambda api, _world: api.reboot("web-1", soft_s=1, timeout_s=60)),
    "attach interface": Scenario(
        deployed, lambda api, _world: api.attach_interface("web-1", Nic(network="private", security_groups=("web",)))
    ),
    "detach interface": Scenario(
        deployed, lambda api, _world: api.detach_interface("web-1", "web-1-0"), goes_back=False
    ),
    "change security group": Scenario(deployed, lambda api, _world: api.add_security_group("web-1", "web")),
    "attach volume": Scenario(
        deployed_off_without_volume,
        lambda api, _world: api.attach_volume("web-1", Volume(volume_id="more", boot_index=2)),
    ),
    "detach volume": Scenario(deployed_off, lambda api, _world: api.detach_volume("web-1", "data"), goes_back=False),
    "enable console": Scenario(deployed, lambda api, _world: api.enable_console("node-0")),
    "disable console": Scenario(with_console, lambda api, _world: api.disable_console("node-0", force=True)),
    "crash dump": Scenario(deployed, lambda api, _world: api.crash_dump("web-1"), goes_back=False),
    "adopt": Scenario(without_mark, lambda api, _world: api.adopt("web-1")),
}
"""By name; a name may have more words than its operation's, for another way through the same steps."""
