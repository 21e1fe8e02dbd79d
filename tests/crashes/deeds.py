"""What a user does to a node of the lab: what comes before, the deed, and what it looks like when it is done, or was not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bloomery import Bloomery, DeployRequest, Image, Nic, RebuildRequest, Secret, Wanted
from bloomery.lab import Kind, LabNode
from live.site import Site

TIMEOUT_S = 600.0
PASSWORD = Secret("open sesame")
IMAGE, OTHER_IMAGE = "whole-disk", "whole-disk-2"


@dataclass(frozen=True)
class Deed:
    """Something that is done to one node.

    Attributes:
        prepare: does what has to have been done before.
        do: does it, and returns when it is done.
        is_done: whether it has been done, and nothing is left to do.
        was_not: whether all is as it was before.
        words: the command line for it, but for the global options.
        again: whether half of it may be left for its user to ask again, because it is no claim on anything.
        is_as_told: whether what success promises is so, before a background pass has done the rest.
    """

    prepare: Callable[[Bloomery, Site, LabNode], object]
    do: Callable[[Bloomery, Site, LabNode], object]
    is_done: Callable[[Site, LabNode], bool]
    was_not: Callable[[Site, LabNode], bool]
    words: Callable[[Site, LabNode], Sequence[str]]
    again: bool = False
    is_as_told: Callable[[Site, LabNode], bool] | None = None

    def is_true(self, site: Site, node: LabNode) -> bool:
        """Whether the node is as somebody may expect who was told that it has been done."""
        return (self.is_as_told or self.is_done)(site, node)


def name_of(node: LabNode) -> str:
    """What the node's instance is called."""
    return f"web-{node.name.partition('-')[2]}"


# What is done


def _nothing(_api: Bloomery, _site: Site, _node: LabNode) -> None:
    pass


def _request(site: Site, name: str, **more: Any) -> DeployRequest:
    return site.request(name, nics=(Nic(network="private"),), **more)


def _deploy(api: Bloomery, site: Site, node: LabNode) -> None:
    api.deploy(_request(site, name_of(node), node=node.name), timeout_s=TIMEOUT_S)


def _deploy_by_allocation(api: Bloomery, site: Site, node: LabNode) -> None:
    wanted = Wanted(resource_class=node.resource_class, candidates=(node.uuid,))
    api.deploy(_request(site, name_of(node), wanted=wanted), timeout_s=TIMEOUT_S)


def _power_off(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.power_off(name_of(node), timeout_s=TIMEOUT_S)


def _power_on(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.power_on(name_of(node), timeout_s=TIMEOUT_S)


def _rescue(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.rescue(name_of(node), PASSWORD, timeout_s=TIMEOUT_S)


def _rebuild(api: Bloomery, site: Site, node: LabNode) -> None:
    image = site.lab.images[OTHER_IMAGE]
    request = RebuildRequest(image=Image.named(image.url, checksum=f"sha256:{image.sha256}"))
    api.rebuild(name_of(node), request, timeout_s=TIMEOUT_S)


def _after_deploy(more: Callable[[Bloomery, Site, LabNode], object]) -> Callable[[Bloomery, Site, LabNode], None]:
    def prepare(api: Bloomery, site: Site, node: LabNode) -> None:
        _deploy(api, site, node)
        more(api, site, node)

    return prepare


# What it looks like


def _is(site: Site, node: LabNode, state: str, power: str, running: str) -> bool:
    """Whether the node is in that state with our instance, and with it the machine, by its BMC's and its own account."""
    row = site.row(node.name)
    if (row["provision_state"], row["instance_info"].get("display_name")) != (state, name_of(node)):
        return False
    if node.kind is not Kind.REDFISH:
        return True
    at_bmc = {"On": "power on", "Off": "power off"}[site.bmc_power(node.name)]
    machine = site.machine(node.name)
    return (row["power_state"], row["target_power_state"], at_bmc, machine["running"]) == (power, None, power, running)


def _runs(site: Site, node: LabNode, image: str = IMAGE) -> bool:
    wanted = site.lab.images[image]
    if not _is(site, node, "active", "power on", "disk"):
        return False
    if node.kind is Kind.REDFISH and site.machine(node.name)["image_sha256"] != wanted.sha256:
        return False
    return bool(site.row(node.name)["instance_info"]["image_source"] == wanted.url)


def _runs_other(site: Site, node: LabNode) -> bool:
    return _runs(site, node, OTHER_IMAGE)


def _is_off(site: Site, node: LabNode) -> bool:
    return _is(site, node, "active", "power off", "nothing")


def _is_in_rescue(site: Site, node: LabNode) -> bool:
    if node.boot_interface == "redfish-virtual-media":
        # Ironic 39 switches such a node off when it rescues it.
        return bool(site.row(node.name)["provision_state"] == "rescue")
    return _is(site, node, "rescue", "power on", "rescue")


def is_free(site: Site, node: LabNode) -> bool:
    """Whether nothing of an instance is left; Ironic may be cleaning the node, or may have failed to."""
    row = site.row(node.name)
    return is_let_go(site, node) and (row["provision_state"] != "available" or row["extra"] == {})


def is_let_go(site: Site, node: LabNode) -> bool:
    """Whether nothing of an instance is left but our mark, which stays where Ironic begins to clean: it takes no change then."""
    row = site.row(node.name)
    return (
        row["instance_uuid"] is None
        and row["provision_state"] in ("available", "cleaning", "clean wait", "clean failed")
        and (row["provision_state"] != "available" or row["instance_info"] == {})
        and set(row["extra"]) <= {"bloomery"}
        and not [port for port in site.ports(name=f"{name_of(node)}-0") if port["device_id"]]
    )


def _has_vifs(count: int) -> Callable[[Site, LabNode], bool]:
    """The instance runs with so many VIFs, and Neutron has no others for it."""

    def has(site: Site, node: LabNode) -> bool:
        vifs = set(site.ironic.vifs(node))
        ports = {port["id"] for port in site.instances_ports(device_id=str(site.row(node.name)["instance_uuid"]))}
        return _runs(site, node) and len(vifs) == count and vifs == ports

    return has


def _words(*words: str) -> Callable[[Site, LabNode], Sequence[str]]:
    return lambda _site, node: [word.replace("NAME", name_of(node)).replace("NODE", node.name) for word in words]


def _with_image(image: str, *words: str) -> Callable[[Site, LabNode], Sequence[str]]:
    return lambda site, node: [*_words(*words)(site, node), *site.image_options(site.lab.images[image])]


DEEDS: Mapping[str, Deed] = MappingProxyType(
    {
        "deploy": Deed(
            _nothing, _deploy, _has_vifs(1), is_free,
            _with_image(IMAGE, "deploy", "NAME", "--node", "NODE", "--network", "private"),
        ),
        "deploy by allocation": Deed(
            _nothing, _deploy_by_allocation, _has_vifs(1), is_free,
            lambda site, node: [
                *("deploy", name_of(node), "--resource-class", node.resource_class, "--candidate", node.uuid),
                *("--network", "private", *site.image_options()),
            ],
        ),
        "destroy": Deed(
            _deploy, lambda api, _site, node: api.destroy(name_of(node), timeout_s=TIMEOUT_S), is_free, _has_vifs(1),
            _words("destroy", "NODE"), is_as_told=is_let_go,
        ),
        "rebuild": Deed(
            _deploy, _rebuild, _runs_other, _runs, _with_image(OTHER_IMAGE, "rebuild", "NAME"), again=True
        ),
        "rescue": Deed(_deploy, _rescue, _is_in_rescue, _runs, _words("rescue", "NAME"), again=True),
        "unrescue": Deed(
            _after_deploy(_rescue), lambda api, _site, node: api.unrescue(name_of(node), timeout_s=TIMEOUT_S),
            _runs, _is_in_rescue, _words("unrescue", "NAME"), again=True,
        ),
        "reboot": Deed(
            _deploy, lambda api, _site, node: api.reboot(name_of(node), timeout_s=TIMEOUT_S),
            _runs, _runs, _words("reboot", "NAME"), again=True,
        ),
        "power off": Deed(_deploy, _power_off, _is_off, _runs, _words("power", "off", "NAME"), again=True),
        "power on": Deed(
            _after_deploy(_power_off), _power_on, _runs, _is_off, _words("power", "on", "NAME"), again=True
        ),
        "attach": Deed(
            _deploy, lambda api, _site, node: api.attach_interface(name_of(node), Nic(network="storage")),
            _has_vifs(2), _has_vifs(1), _words("attach", "NAME", "--network", "storage"),
        ),
        "detach": Deed(
            _deploy, lambda api, _site, node: api.detach_interface(name_of(node), f"{name_of(node)}-0"),
            _has_vifs(0), _has_vifs(1), _words("detach", "NAME", "NAME-0"),
        ),
    }
)  # fmt: skip
"""By name."""


def drawn(draw: random.Random, node: LabNode) -> str:
    """Something that can be done to the node."""
    return draw.choice([name for name in DEEDS if name != "attach" or not node.has_port_group])
