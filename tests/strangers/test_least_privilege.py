"""The rights that `docs/security.md` names are enough for the life of an instance, and each of them is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bloomery import Bloomery, BloomeryError, DeployRequest, Guest, Image, Nic, RebuildRequest, Secret, Volume, Wanted
from bloomery.engine import Observer
from bloomery.errors import AllocationFailed, ConsoleFailed, NodeUnavailable, NotFound
from nova_site.neighbours import project_id
from strangers import rights
from strangers.guarded_site import PROJECT, GuardedSite, guarded_site

pytestmark = pytest.mark.timeout(900)
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "security.md"
IMAGE = Image.named("http://127.0.0.1:1/x.raw", checksum="sha256:" + "a" * 64)
NETWORK, OTHER_NETWORK = "private", "storage"
NAME = "web-1"
VOLUME = Volume(
    volume_id="data", boot_index=1, properties=Secret({"target_iqn": "iqn.x:a", "target_portal": "127.0.0.1:3260"})
)
Deed = Callable[[Bloomery], Any]


@pytest.fixture(scope="module")
def a_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedSite]:
    with guarded_site(tmp_path_factory.mktemp("guarded") / "state") as it:
        yield it


@pytest.fixture
def site(a_site: GuardedSite) -> Iterator[GuardedSite]:
    """The site, without instances before and after the test."""
    yield a_site
    allow(a_site)
    api = a_site.api()
    for instance in api.instances():
        api.destroy(instance.uuid, wait_for_cleaning=True)
    a_site.await_nothing()


def allow(site: GuardedSite, *, but: str | None = None) -> None:
    """The user may do what the page names, but for one thing."""
    for service in ("ironic", "neutron"):
        site.allow(service, rights.of(service) - {but})


def deploy(api: Bloomery, *, nics: Sequence[Nic] = (Nic(network=NETWORK),), **more: Any) -> Any:
    return api.deploy(DeployRequest(name=NAME, image=IMAGE, nics=tuple(nics), **more), timeout_s=300)


def deploy_here(site: GuardedSite) -> Deed:
    return lambda api: deploy(api, node=site.nodes[0])


def deploy_anywhere(api: Bloomery) -> Any:
    return deploy(api, wanted=Wanted(resource_class="baremetal.fake"))


def detach_second_interface(api: Bloomery) -> None:
    api.detach_interface(NAME, f"{NAME}-1")


def detach_last_interface(api: Bloomery) -> None:
    api.detach_interface(NAME, api.interfaces(NAME)[-1].vif_id)


def enable_console(api: Bloomery) -> None:
    # Ironic has started it by then; fake hardware does not say where it is, so it is stopped again.
    with pytest.raises(ConsoleFailed, match="does not say where"):
        api.enable_console(api.show(NAME).node_uuid)


def interrupt(api: Bloomery) -> None:
    # Who may not do it is told so; who may, that fake hardware has no such thing.
    with pytest.raises(NodeUnavailable, match="inject_nmi"):
        api.crash_dump(NAME)


LIFE: Sequence[Deed] = (
    lambda api: api.show(NAME),
    lambda api: api.instances(),
    lambda api: api.attach_interface(NAME, Nic(network=OTHER_NETWORK)),
    detach_last_interface,
    lambda api: api.add_security_group(NAME, "web"),
    lambda api: api.remove_security_group(NAME, "web"),
    lambda api: api.power_off(NAME),
    lambda api: api.attach_volume(NAME, VOLUME),
    lambda api: api.detach_volume(NAME, VOLUME.volume_id),
    lambda api: api.power_on(NAME),
    lambda api: api.reboot(NAME),
    lambda api: api.rescue(NAME, Secret("correct horse")),
    lambda api: api.unrescue(NAME),
    lambda api: api.rebuild(NAME, RebuildRequest(image=IMAGE, guest=Guest.of(user_data="#!/bin/sh\n"))),
    enable_console,
    interrupt,
    lambda api: list(api.recover()),
    lambda api: api.destroy(NAME, wait_for_cleaning=True),
)


def test_the_page_names_these_rights() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ((?:`[\w:]+`(?:, )?)+) \|$", PAGE.read_text(), re.M)
    named = {what: frozenset(re.findall(r"`([\w:]+)`", cell)) for what, cell in rows}
    assert {what: named[what] for what in rights.RIGHTS} == dict(rights.RIGHTS)


@pytest.mark.lab
@pytest.mark.parametrize("deed", ["here", "anywhere"])
def test_the_rights_that_are_named_are_enough_for_the_life_of_an_instance(site: GuardedSite, deed: str) -> None:
    allow(site)
    api = site.api()
    (deploy_here(site) if deed == "here" else deploy_anywhere)(api)
    for do in LIFE if deed == "here" else LIFE[-1:]:
        do(api)
    site.await_nothing()


@dataclass(frozen=True)
class Need:
    """Rights without any one of which a deed fails.

    Attributes:
        rights: those.
        deed: what is done.
        before: what has been done then, with all rights.
        after: what takes the deed back, with all rights.
    """

    rights: frozenset[str]
    deed: Callable[[GuardedSite], Deed]
    before: Sequence[Deed] = ()
    after: Sequence[Deed] = ()


def always(deed: Deed) -> Callable[[GuardedSite], Deed]:
    return lambda _site: deed


def deploy_a_vif_of_his_own(site: GuardedSite) -> Deed:
    def deed(api: Bloomery) -> Any:
        network = site.ask("neutron", f"/v2.0/networks?name={NETWORK}")["networks"][0]
        body = {"port": {"network_id": network["id"], "project_id": project_id(PROJECT), "name": "his-own"}}
        ports = f"{site.urls['neutron']}/v2.0/ports"
        own = site.session("admin").post(ports, json=body).json()["port"]
        try:
            return deploy(api, node=site.nodes[0], nics=(Nic(vif=own["id"]),))
        finally:
            site.session("admin").delete(f"{ports}/{own['id']}")

    return deed


def deploy_where_others_are_faster(site: GuardedSite) -> Deed:
    """Somebody takes every node right before Ironic is asked for one, so that an allocation stays which has none."""

    class Others(Observer):
        def begins(self, step: str, index: int, total: int) -> None:  # noqa: ARG002  the engine's
            if step == "claim node":
                for uuid in site.nodes:
                    site.change(uuid, {"op": "add", "path": "/instance_uuid", "value": str(uuid4())})

    def deed(api: Bloomery) -> None:
        try:
            deploy_anywhere(Bloomery(replace(api.services, observer=Others())))
        except AllocationFailed:
            pass  # it was given up, as it should be
        finally:
            for uuid in site.nodes:
                site.change(uuid, {"op": "remove", "path": "/instance_uuid"})

    return deed


A_LIFE_BEGINS: Mapping[str, Need] = {
    "deploy": Need(
        rights.RIGHTS["deploy, destroy"] - {"baremetal:node:vif:detach", "delete_port", "get_port"}, deploy_here
    ),
    "deploy with a VIF of one's own": Need(frozenset({"get_port"}), deploy_a_vif_of_his_own),
    "deploy anywhere": Need(
        frozenset({"baremetal:node:list_all", "baremetal:allocation:create", "baremetal:allocation:get"}),
        always(deploy_anywhere),
    ),
    "give up an allocation": Need(frozenset({"baremetal:allocation:delete"}), deploy_where_others_are_faster),
}
"""What is done to a free node."""

OFF: Sequence[Deed] = (lambda api: api.power_off(NAME),)
ON: Sequence[Deed] = (lambda api: api.power_on(NAME),)
ATTACH: Sequence[Deed] = (lambda api: api.attach_interface(NAME, Nic(network=OTHER_NETWORK)),)
WITH_VOLUME: Sequence[Deed] = (*OFF, lambda api: api.attach_volume(NAME, VOLUME))

A_LIFE_GOES_ON: Mapping[str, Need] = {
    "show": Need(rights.RIGHTS["list, show, nodes"], always(lambda api: api.show(NAME))),
    "rebuild with a config drive": Need(
        rights.RIGHTS["rebuild with a config drive"],
        always(lambda api: api.rebuild(NAME, RebuildRequest(image=IMAGE, guest=Guest.of(user_data="#!/bin/sh\n")))),
    ),
    "rebuild": Need(
        frozenset({"baremetal:node:set_provision_state"}),
        always(lambda api: api.rebuild(NAME, RebuildRequest(image=IMAGE))),
    ),
    "power off": Need(frozenset({"baremetal:node:set_power_state"}), always(OFF[0]), after=ON),
    "attach": Need(
        rights.RIGHTS["interfaces"] - {"baremetal:node:vif:detach", "delete_port", "get_port", "get_subnet"},
        always(ATTACH[0]),
        after=(detach_second_interface,),
    ),
    "detach": Need(
        frozenset({"baremetal:node:vif:detach", "delete_port"}), always(detach_second_interface), before=ATTACH
    ),
    "change a security group": Need(
        rights.RIGHTS["security groups"],
        always(lambda api: api.add_security_group(NAME, "web")),
        after=(lambda api: api.remove_security_group(NAME, "web"),),
    ),
    "attach a volume": Need(
        frozenset({"baremetal:volume:create"}),
        always(WITH_VOLUME[1]),
        before=OFF,
        after=(lambda api: api.detach_volume(NAME, VOLUME.volume_id), *ON),
    ),
    "detach a volume": Need(
        frozenset({"baremetal:volume:delete", "baremetal:volume:list_all"}),
        always(lambda api: api.detach_volume(NAME, VOLUME.volume_id)),
        before=WITH_VOLUME,
        after=ON,
    ),
    "open a console": Need(rights.RIGHTS["console"], always(enable_console)),
    "interrupt": Need(rights.RIGHTS["crash dump"], always(interrupt)),
    "recover": Need(rights.RIGHTS["recover, doctor --leaks"], always(lambda api: list(api.recover()))),
}
"""What is done to an instance that runs."""


def test_every_right_that_is_named_is_shown_to_be_needed() -> None:
    shown = [need.rights for need in (*A_LIFE_BEGINS.values(), *A_LIFE_GOES_ON.values())]
    assert frozenset().union(*shown) == rights.ALL


MAY_LEAVE = frozenset(
    {
        "baremetal:allocation:delete",
        "baremetal:allocation:get",
        "baremetal:node:vif:list",
        "delete_port",
        "get_port",
        "get_subnet",
    }
)
"""Rights to read or to undo: where one is withheld in the middle, what was begun may stay, and the error names it."""


@pytest.mark.lab
@pytest.mark.parametrize("name", A_LIFE_BEGINS)
def test_no_life_begins_without_any_one_of_its_rights(site: GuardedSite, name: str) -> None:
    need = A_LIFE_BEGINS[name]
    needless = []
    for right in sorted(need.rights):
        allow(site, but=right)
        is_needless = not is_refused(site, need.deed(site))
        needless += [right] if is_needless else []
        left = site.remains()
        assert is_needless or right in MAY_LEAVE or left == [], right
        if left:
            allow(site)
            clear(site)
    allow(site)
    assert needless == []
    need.deed(site)(site.api())


@pytest.mark.lab
def test_no_life_goes_on_without_any_one_of_its_rights_and_is_left_alone(site: GuardedSite) -> None:
    allow(site)
    deploy_here(site)(site.api())
    needless = []
    for name, need in A_LIFE_GOES_ON.items():
        for deed in need.before:
            deed(site.api())
        before = seen(site)
        for right in sorted(need.rights):
            allow(site, but=right)
            if not is_refused(site, need.deed(site)):
                needless.append(f"{name}: {right}")
            elif right not in MAY_LEAVE:
                assert seen(site) == before, f"{name}: {right}"
        allow(site)
        # With all of them it is done: what was refused was refused for want of that one right.
        for deed in (need.deed(site), *need.after):
            deed(site.api())
    assert needless == []


def clear(site: GuardedSite) -> None:
    """Nothing is left of the instance, whatever state it is in."""
    api = site.api()
    with suppress(NotFound):
        api.destroy(NAME, wait_for_cleaning=True)
    for _ in api.recover(older_than_s=0):
        pass
    site.await_nothing()


def is_refused(site: GuardedSite, deed: Deed) -> bool:
    """Whether the deed ends in an error of ours."""
    try:
        deed(site.api())
    except BloomeryError:
        return True
    return False


def seen(site: GuardedSite) -> Any:
    """What of the instance its user would notice a change of."""
    row = site.ask("ironic", f"/v1/nodes/{site.nodes[0]}")
    ports = site.ask("neutron", "/v2.0/ports?device_owner=baremetal:none")["ports"]
    return (
        {name: row[name] for name in ("instance_uuid", "provision_state", "power_state", "instance_info", "lessee")},
        site.plugged(),
        sorted((port["id"], *sorted(port["security_groups"])) for port in ports),
    )
