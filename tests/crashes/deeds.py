"""What a user does to a node of the lab: what comes before, the deed, and what it looks like when it is done, or was not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bloomery import Bloomery, DeployRequest, Image, Nic, RebuildRequest, Secret, Volume, Wanted
from bloomery.lab import Kind, LabNode
from live.site import Site

TIMEOUT_S = 600.0
PASSWORD = Secret("open sesame")
IMAGE, OTHER_IMAGE = "whole-disk", "whole-disk-2"
GROUP = "web"
VOLUME_ID = "data"
_REACHED_BY = {"target_iqn": "iqn.2026-11.test:a", "target_portal": "127.0.0.1:3260"}
VOLUME = Volume(volume_id=VOLUME_ID, boot_index=1, properties=Secret(_REACHED_BY))


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
        fits: whether it can be done to such a node.
    """

    prepare: Callable[[Bloomery, Site, LabNode], object]
    do: Callable[[Bloomery, Site, LabNode], object]
    is_done: Callable[[Site, LabNode], bool]
    was_not: Callable[[Site, LabNode], bool]
    words: Callable[[Site, LabNode], Sequence[str]]
    again: bool = False
    is_as_told: Callable[[Site, LabNode], bool] | None = None
    fits: Callable[[LabNode], bool] = lambda _node: True

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


def _attach_volume(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.attach_volume(name_of(node), VOLUME)


def _open_console(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.enable_console(name_of(node))


def _add_group(api: Bloomery, _site: Site, node: LabNode) -> None:
    api.add_security_group(name_of(node), GROUP)


def _lose_mark(_api: Bloomery, site: Site, node: LabNode) -> None:
    """The instance is as if somebody else had deployed it."""
    site.ironic.call("PATCH", f"nodes/{node.uuid}", [{"op": "remove", "path": "/extra/bloomery"}])


_interrupts: dict[str, int] = {}
"""How many interrupts a machine had had before one was sent."""


def _count_interrupts(_api: Bloomery, site: Site, node: LabNode) -> None:
    _interrupts[node.uuid] = site.machine(node.name)["interrupts"]


def _after_deploy(more: Callable[[Bloomery, Site, LabNode], object]) -> Callable[[Bloomery, Site, LabNode], None]:
    def prepare(api: Bloomery, site: Site, node: LabNode) -> None:
        _deploy(api, site, node)
        more(api, site, node)

    return prepare


def _in_turn(*all_of: Callable[[Bloomery, Site, LabNode], object]) -> Callable[[Bloomery, Site, LabNode], None]:
    def do(api: Bloomery, site: Site, node: LabNode) -> None:
        for one in all_of:
            one(api, site, node)

    return do


# What it looks like


def _is(site: Site, node: LabNode, state: str, power: str, running: str) -> bool:
    """Whether the node is in that state with our instance, and with it the machine, by its BMC's and its own account.

    Fake hardware has neither, and runs its instance without power, until somebody switches it on.
    """
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
    return _is(site, node, "active", "power off", "nothing") and site.row(node.name)["power_state"] == "power off"


def _is_on(site: Site, node: LabNode) -> bool:
    return _runs(site, node) and site.row(node.name)["power_state"] == "power on"


def _is_in_rescue(site: Site, node: LabNode) -> bool:
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


def _has_volume(site: Site, node: LabNode) -> bool:
    """The instance is off, has the volume, and its mark says so."""
    return _is_off(site, node) and _volumes(site, node) == ([VOLUME_ID], [VOLUME_ID])


def _has_no_volume(site: Site, node: LabNode) -> bool:
    return _is_off(site, node) and _volumes(site, node) == ([], [])


def _volumes(site: Site, node: LabNode) -> tuple[list[str], list[str]]:
    """The volumes that the node has, and those that its mark names."""
    targets = site.ironic.call("GET", f"nodes/{node.uuid}/volume/targets")["targets"]
    marked = site.row(node.name)["extra"]["bloomery"]["volumes"]
    return [target["volume_id"] for target in targets], list(marked.values())


def _has_console(site: Site, node: LabNode) -> bool:
    return _runs(site, node) and bool(site.row(node.name)["console_enabled"])


def _has_no_console(site: Site, node: LabNode) -> bool:
    return _runs(site, node) and not site.row(node.name)["console_enabled"]


def _has_group(site: Site, node: LabNode) -> bool:
    return _has_vifs(1)(site, node) and site.lab.networks["security_groups"][GROUP] in _groups(site, node)


def _has_no_group(site: Site, node: LabNode) -> bool:
    return _has_vifs(1)(site, node) and site.lab.networks["security_groups"][GROUP] not in _groups(site, node)


def _groups(site: Site, node: LabNode) -> list[str]:
    (vif,) = site.ironic.vifs(node)
    groups: list[str] = site.ironic.vif(vif)["security_groups"]
    return groups


def _is_ours(site: Site, node: LabNode) -> bool:
    """Our mark of the instance is there, and names what is plugged."""
    row = site.row(node.name)
    mark = row["extra"].get("bloomery", {})
    named = (mark.get("instance_uuid"), sorted(mark.get("vifs", {})))
    return _has_vifs(1)(site, node) and named == (row["instance_uuid"], sorted(site.ironic.vifs(node)))


def _is_nobodys(site: Site, node: LabNode) -> bool:
    return _has_vifs(1)(site, node) and site.row(node.name)["extra"] == {}


def _had_interrupts(count: int) -> Callable[[Site, LabNode], bool]:
    """So many interrupts have come since they were counted."""
    return lambda site, node: (
        _runs(site, node) and site.machine(node.name)["interrupts"] - _interrupts[node.uuid] == count
    )


def _has_bmc(node: LabNode) -> bool:
    return node.kind is Kind.REDFISH


def _has_free_nic(node: LabNode) -> bool:
    return not node.has_port_group


def _can_be_rescued(node: LabNode) -> bool:
    # With virtual media Ironic 39 switches it off then, which is no rescue.
    return node.boot_interface != "redfish-virtual-media"


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
        "rescue": Deed(
            _deploy, _rescue, _is_in_rescue, _runs, _words("rescue", "NAME"), again=True, fits=_can_be_rescued
        ),
        "unrescue": Deed(
            _after_deploy(_rescue), lambda api, _site, node: api.unrescue(name_of(node), timeout_s=TIMEOUT_S),
            _runs, _is_in_rescue, _words("unrescue", "NAME"), again=True, fits=_can_be_rescued,
        ),
        "reboot": Deed(
            _deploy, lambda api, _site, node: api.reboot(name_of(node), timeout_s=TIMEOUT_S),
            _runs, _runs, _words("reboot", "NAME"), again=True,
        ),
        "power off": Deed(
            _after_deploy(_power_on), _power_off, _is_off, _is_on, _words("power", "off", "NAME"), again=True
        ),
        "power on": Deed(
            _after_deploy(_power_off), _power_on, _is_on, _is_off, _words("power", "on", "NAME"), again=True
        ),
        "attach": Deed(
            _deploy, lambda api, _site, node: api.attach_interface(name_of(node), Nic(network="storage")),
            _has_vifs(2), _has_vifs(1), _words("attach", "NAME", "--network", "storage"), fits=_has_free_nic,
        ),
        "detach": Deed(
            _deploy, lambda api, _site, node: api.detach_interface(name_of(node), f"{name_of(node)}-0"),
            _has_vifs(0), _has_vifs(1), _words("detach", "NAME", "NAME-0"),
        ),
        "attach volume": Deed(
            _after_deploy(_power_off), _attach_volume, _has_volume, _has_no_volume,
            _words(
                *("volume", "attach", "NAME", VOLUME_ID),
                *(word for name, value in _REACHED_BY.items() for word in ("--property", f"{name}={value}")),
            ),
        ),
        "detach volume": Deed(
            _after_deploy(_in_turn(_power_off, _attach_volume)),
            lambda api, _site, node: api.detach_volume(name_of(node), VOLUME_ID),
            _has_no_volume, _has_volume, _words("volume", "detach", "NAME", VOLUME_ID),
        ),
        "open console": Deed(
            _deploy, _open_console, _has_console, _has_no_console, _words("console", "NAME", "--url"), fits=_has_bmc
        ),
        "close console": Deed(
            _after_deploy(_open_console),
            lambda api, _site, node: api.disable_console(name_of(node), force=True),
            _has_no_console, _has_console, _words("console", "NAME", "--disable", "--force"), fits=_has_bmc,
        ),
        "add security group": Deed(
            _deploy, _add_group, _has_group, _has_no_group, _words("security-group", "add", "NAME", GROUP)
        ),
        "remove security group": Deed(
            _after_deploy(_add_group),
            lambda api, _site, node: api.remove_security_group(name_of(node), GROUP),
            _has_no_group, _has_group, _words("security-group", "remove", "NAME", GROUP),
        ),
        "adopt": Deed(
            _after_deploy(_lose_mark), lambda api, _site, node: api.adopt(name_of(node), timeout_s=TIMEOUT_S),
            _is_ours, _is_nobodys, _words("adopt", "NAME"),
        ),
        "crash dump": Deed(
            _after_deploy(_count_interrupts), lambda api, _site, node: api.crash_dump(name_of(node)),
            _had_interrupts(1), _had_interrupts(0), _words("crash-dump", "NAME", "--yes"), fits=_has_bmc,
        ),
    }
)  # fmt: skip
"""By name."""


def drawn(draw: random.Random, node: LabNode) -> str:
    """Something that can be done to the node."""
    return draw.choice([name for name, deed in DEEDS.items() if deed.fits(node)])
