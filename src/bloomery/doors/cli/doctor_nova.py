"""`doctor --nova`: whether a nova-compute can change to Bloomery's driver: its options, its Ironic, and whose each node is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

import msgspec
import typer
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1.adapter import Adapter

from bloomery.checkup import (
    Check,
    Verdict,
    access,
    conductors,
    failed,
    listed,
    many,
    not_connected,
    tried,
    version,
)
from bloomery.doors.cli.checks import print_checks
from bloomery.doors.cli.exit_codes import NOT_WELL
from bloomery.doors.cli.nova_conf import NovaConf, adapter_of_environment
from bloomery.doors.cli.output import Shape, fields_of, note, print_rows
from bloomery.doors.cli.running import report
from bloomery.errors import BloomeryError, NodeUnavailable
from bloomery.fleet import Wanted, why_not
from bloomery.ironic import Feature, Ironic, Node
from bloomery.ironic.models import FLEET_FIELDS
from bloomery.library import QUICK_TIMEOUT_S, Bloomery
from bloomery.operations import leftovers, tear_down
from bloomery.operations.instances import Manager, manager_of
from bloomery.operations.leftovers import Leftovers
from bloomery.operations.run import Belongings, Options
from bloomery.states import WHILE_DEPLOYING, WHILE_RESCUING, WHILE_TEARING_DOWN, WHILE_UNRESCUING, Meaning, Provision

OURS, NOVAS = "bloomery.IronicDriver", "ironic.IronicDriver"
OLDEST_NOVA, NEWEST_NOVA = 31, 34
NOT_USED: Mapping[str, str] = {
    "status_code_retries": "whether a request is repeated depends on what it does",
    "status_code_retry_delay": "whether a request is repeated depends on what it does",
    "retriable_status_codes": "whether a request is repeated depends on what it does",
    "connect_retries": "whether a request is repeated depends on what it does",
    "connect_retry_delay": "whether a request is repeated depends on what it does",
    "timeout": "each request has a time of its own",
    "version": "the newest API that both sides know is spoken",
    "min_version": "the newest API that both sides know is spoken",
    "max_version": "the newest API that both sides know is spoken",
}
"""Options of `[ironic]` that Bloomery does not use, and why."""
UNDER_WAY = frozenset(
    state
    for table in (WHILE_DEPLOYING, WHILE_TEARING_DOWN, WHILE_RESCUING, WHILE_UNRESCUING)
    for state, meaning in table.items()
    if meaning is Meaning.WAIT and state is not Provision.UNKNOWN
)
"""States of a node on which a server is being built, rescued or deleted."""
PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A node, and what becomes of it.

    Attributes:
        node: its name.
        uuid: its UUID.
        state: its provision state.
        instance_uuid: what it carries.
        manager: who deployed that.
        host: the compute service that it belongs to.
        with_bloomery: what it is to this compute service after the change.
    """

    node: str
    uuid: str
    state: str | None
    instance_uuid: str | None
    manager: str | None
    host: str | None
    with_bloomery: str


def examine(files: Sequence[Path], shape: Shape, *, show_nodes: bool, fix: bool, yes: bool) -> None:
    """The checks of the nova.conf are on stdout; with `fix`, what is left on free nodes was shown, and is gone.

    Raises:
        typer.Exit: a check has failed, or something could not be removed.
        InvalidRequest: the files cannot be read.
    """
    found = Examination(NovaConf(files))
    checks = list(found.checks())
    if found.api is None:
        print_checks(checks, shape)
        raise typer.Exit(NOT_WELL)
    if show_nodes:
        every = tuple(Row.__dataclass_fields__)
        shown = ("node", "state", "instance_uuid", "manager", "host", "with_bloomery")
        print_rows(map(fields_of, found.rows()), shape, by_default=shown, all_columns=every)
        return
    if not fix:
        print_checks(checks, shape)
        return
    _fix(found.api, found.left, found.claims, yes=yes)


def _fix(
    api: Bloomery, left: Sequence[tuple[Node, Leftovers]], claims: Sequence[tuple[Node, Belongings]], *, yes: bool
) -> None:
    removals = [
        *((node, what.words, partial(_clear, api, node, what)) for node, what in left),
        *((node, _words(node, brought), partial(_take_claim, api, node, brought)) for node, brought in claims),
    ]
    for node, words, _ in removals:
        note(f"{node.label}: {words}")
    if not removals:
        note("nothing is left on free nodes")
        return
    if not yes:
        kind = "node" if claims else "free node"
        typer.confirm(f"Remove this from {many(len(removals), kind)}?", abort=True, err=True)
    is_well = True
    for node, _, remove in removals:
        try:
            remove()
        except BloomeryError as problem:
            report(problem, label=node.label)
            is_well = False
    if not is_well:
        raise typer.Exit(NOT_WELL)
    note("removed")


def _clear(api: Bloomery, node: Node, what: Leftovers) -> None:
    leftovers.clear(api.services, node, what, Options(timeout_s=QUICK_TIMEOUT_S))


def _words(node: Node, brought: Belongings) -> str:
    """What is taken away with a claim."""
    return ", ".join(
        [f"claim for server {node.instance_uuid}", *(f"VIF {vif_id}" for vif_id in sorted(brought.vif_ids))]
    )


def _take_claim(api: Bloomery, node: Node, brought: Belongings) -> None:
    """The node is not claimed for the server any more, and has nothing of it.

    Raises:
        NodeUnavailable: somebody is at the node by now.
    """
    now = api.services.ironic.within(api.services.asking(QUICK_TIMEOUT_S)).node(node.uuid)
    if now.instance_uuid != node.instance_uuid or not _is_claimed_only(now):
        raise NodeUnavailable(
            f"node {now.label} is not only claimed any more",
            reason=f"it is in {now.provision_state!r}, with instance {now.instance_uuid or 'none'}",
            advice="Look again; what is on it may belong to somebody by now",
            node_uuid=now.uuid,
        )
    how = Options(timeout_s=QUICK_TIMEOUT_S)
    tear_down.destroy(api.services, now, str(now.instance_uuid), how, belongings=brought, is_fresh=True)


def _is_claimed_only(node: Node) -> bool:
    """Whether the node was never deployed for the instance that it carries, and nobody is at it."""
    without = msgspec.structs.replace(node, instance_uuid=None)
    return leftovers.is_unused(without) and leftovers.is_free(without)


class Examination:
    """What is seen of a nova-compute, from its configuration on.

    Attributes:
        api: Ironic; None where it cannot be had.
        nodes: all that these credentials see.
        left: what is left on free nodes of this service.
        claims: nodes that are claimed for servers of this service which Nova does not know, and what came with the claims.
    """

    def __init__(self, conf: NovaConf) -> None:
        self.conf = conf
        self.api: Bloomery | None = None
        self.nodes: list[Node] = []
        self.left: list[tuple[Node, Leftovers]] = []
        self.claims: list[tuple[Node, Belongings]] = []
        self._in_scope: set[str] = set()

    def checks(self) -> Iterator[Check]:
        """Every check, in the order in which one rests on the other."""
        yield Check(
            check="nova.conf",
            verdict=Verdict.OK,
            found=f"{', '.join(map(str, self.conf.files))}, of compute service {self.conf.host}",
        )
        yield _driver(self.conf)
        yield _nova_here()
        yield from _options(self.conf)
        yield from _scope(self.conf)
        try:
            self.api = self.conf.connect()
        except BloomeryError as problem:
            yield not_connected("[ironic]", problem, setting="`[ironic] endpoint_override`")
            return
        ironic = self.api.services.ironic.within(self.api.services.asking(QUICK_TIMEOUT_S))
        yield Check(check="endpoint", verdict=Verdict.OK, found=f"Ironic at {ironic.transport.root}")
        yield version(ironic)
        try:
            self.nodes = list(ironic.nodes(fields=(*FLEET_FIELDS, "storage_interface")))
            yield access(self.nodes)
            yield from self._find_scope(ironic)
        except BloomeryError as problem:
            yield failed("access", problem)
            return
        yield from tried("conductors", lambda: conductors(ironic, self.nodes))
        yield from self._nodes()
        yield from self._servers(ironic)
        yield from self._leftovers(ironic)

    # Whose

    def _find_scope(self, ironic: Ironic) -> Iterator[Check]:
        """Which nodes can be this service's at all: Ironic says so by its own filters."""
        shard, group = self.conf.of("ironic", "shard"), self.conf.of("ironic", "conductor_group")
        filters = {name: value for name, value in (("shard", shard), ("conductor_group", group)) if value is not None}
        if shard is not None and not ironic.features.has(Feature.SHARDS):
            yield Check(
                check="shard",
                verdict=Verdict.FAIL,
                found=f"this Ironic cannot filter by shard {shard!r}, so that no node would be managed",
                advice="Upgrade Ironic to 2023.1 or newer, or take `shard` from [ironic]",
            )
            return
        self._in_scope = {node.uuid for node in ironic.nodes(filters, fields=("uuid",))}
        if not filters:
            return
        words = " and ".join(f"{name} {value!r}" for name, value in filters.items())
        groups = sorted({node.conductor_group or "(the default)" for node in self.nodes})
        yield Check(
            check="scope",
            verdict=Verdict.OK if self._in_scope else Verdict.WARN,
            found=f"{many(len(self._in_scope), 'node')} of {len(self.nodes)} in {words}",
            advice=None
            if self._in_scope
            else f"Set it on the nodes, or correct [ironic]; there are the conductor groups {listed(groups)}",
        )

    def _is_in_scope(self, node: Node) -> bool:
        return node.uuid in self._in_scope

    def _is_taken_over(self, node: Node) -> bool:
        """Whether the node carries a server of this compute service: it stays its own, whatever its shard or group."""
        return manager_of(node) is Manager.NOVA and host_of(node) == self.conf.host

    def rows(self) -> Iterator[Row]:
        """Each node that this compute service may have to do with, and each with an instance."""
        for node in self.nodes:
            if node.instance_uuid is None and not self._is_in_scope(node):
                continue
            yield Row(
                node=node.label,
                uuid=node.uuid,
                state=node.provision_state,
                instance_uuid=node.instance_uuid,
                manager=manager_of(node) if node.instance_uuid else None,
                host=host_of(node),
                with_bloomery=self._fate(node),
            )

    def _fate(self, node: Node) -> str:
        if node.instance_uuid is None:
            refusals = why_not(node, Wanted())
            return f"reserved: {'; '.join(refusals)}" if refusals else "free to be scheduled to"
        if self._is_taken_over(node):
            return "taken over with its server"
        if manager_of(node) is Manager.NOVA:
            return f"of compute service {host_of(node) or '(unknown)'}"
        return "left alone"

    def _nodes(self) -> Iterator[Check]:
        ours = [node for node in self.nodes if node.instance_uuid and self._is_taken_over(node)]
        others = Counter(
            f"of compute service {host_of(node) or '(unknown)'}"
            if manager_of(node) is Manager.NOVA
            else f"of manager {manager_of(node)}"
            for node in self.nodes
            if node.instance_uuid and not self._is_taken_over(node)
        )
        free = [node for node in self.nodes if node.instance_uuid is None and self._is_in_scope(node)]
        left_alone = "; ".join(f"{number} {words}" for words, number in sorted(others.items()))
        yield Check(
            check="nodes",
            verdict=Verdict.OK,
            found=f"{many(len(ours), 'server')} of {self.conf.host} to take over, {len(free)} nodes without an instance"
            + (f"; left alone: {left_alone}" if left_alone else ""),
            advice="`--nodes` shows each",
        )
        unknown = [node.label for node in self.nodes if node.instance_uuid and manager_of(node) is Manager.OTHER]
        yield from _matter(
            f"with an instance that nothing on the node says whose it is: {listed(unknown)}",
            unknown,
            "They are left alone; if one is a server of yours, look for its UUID in Nova",
        )
        at_work = [node.label for node in self.nodes if self._concerns_us(node) and node.state in UNDER_WAY]
        yield from _matter(
            f"with something under way: {listed(at_work)}",
            at_work,
            "Wait until it is done before you restart nova-compute; a server that is not done then is followed to its end",
        )
        classless = [node.label for node in self.nodes if self._is_in_scope(node) and node.resource_class is None]
        yield from _matter(
            f"without resource class: {listed(classless)}",
            classless,
            "`baremetal node set --resource-class` gives them one; without it nothing can be scheduled to them",
        )

    def _concerns_us(self, node: Node) -> bool:
        return self._is_taken_over(node) if node.instance_uuid else self._is_in_scope(node)

    # Servers

    def _servers(self, ironic: Ironic) -> Iterator[Check]:
        """Whether each instance that is to be taken over is a server of Nova's. A request for each claim that is not."""
        carried = [node for node in self.nodes if node.instance_uuid and self._is_taken_over(node)]
        if not carried:
            return
        try:
            living = _living_servers(self.conf)
        except CannotTell as reason:
            yield Check(
                check="servers",
                verdict=Verdict.WARN,
                found=f"cannot tell whether Nova knows the {many(len(carried), 'server')}: {reason}",
                advice="Give [service_user] an admin's role, or OS_* variables of an admin",
            )
            return
        unknown = [node for node in carried if node.instance_uuid not in living]
        gone = [f"{node.label} ({node.instance_uuid})" for node in unknown if not _is_claimed_only(node)]
        for node in filter(_is_claimed_only, unknown):
            try:
                brought = Belongings(vif_ids=frozenset(ironic.vifs(node.uuid)))
            except BloomeryError as problem:
                yield Check(check="claims", verdict=Verdict.WARN, found=f"{node.label}: cannot tell: {problem}")
                continue
            self.claims.append((node, brought))
            yield Check(
                check="claims",
                verdict=Verdict.WARN,
                found=f"{node.label} is claimed for server {node.instance_uuid}, which Nova does not know, and not deployed",
                advice="`--fix` takes the claim from it, with what was plugged and written for it, after asking",
            )
        if not unknown:
            yield Check(check="servers", verdict=Verdict.OK, found=f"Nova knows all {len(carried)}")
        yield from _matter(
            f"Nova does not know the servers on {listed(gone)}",
            gone,
            "Bloomery lists them to Nova, whose `running_deleted_instance_action` then reaps them; "
            "what is not to be reaped has to lose its `instance_uuid` first",
            check="servers",
        )

    # Leftovers

    def _leftovers(self, ironic: Ironic) -> Iterator[Check]:
        """What free nodes have of instances that are gone. One request or two for each of them."""
        for node in self.nodes:
            if not self._is_in_scope(node):
                continue
            try:
                what = leftovers.leftovers_of(ironic, node)
            except BloomeryError as problem:
                yield Check(check="leftovers", verdict=Verdict.WARN, found=f"{node.label}: cannot tell: {problem}")
                continue
            if what.foreign_volume_ids:
                yield Check(
                    check="foreign volumes",
                    verdict=Verdict.WARN,
                    found=f"{node.label} is free, and has volume {', volume '.join(what.foreign_volume_ids)}",
                    advice="Nothing says whose it is, so `--fix` leaves it, and Bloomery builds no server on the node; "
                    "`baremetal volume target delete`, if nobody needs it",
                )
            if what:
                self.left.append((node, what))
                yield Check(
                    check="leftovers",
                    verdict=Verdict.WARN,
                    found=f"{node.label} is free, and has {what.words}",
                    advice="`--fix` removes it, after asking; Bloomery builds no server on a node with a VIF of another",
                )
        if not self.left:
            yield Check(check="leftovers", verdict=Verdict.OK, found="nothing is left on free nodes")


def host_of(node: Node) -> str | None:
    """The compute service that a server of Nova's belongs to, as its node says."""
    mark = node.mark or {}
    host = mark.get("by") or node.instance_info.get("nova_host_id")
    return str(host) if host and node.instance_uuid and manager_of(node) is Manager.NOVA else None


def _matter(found: str, names: Sequence[str], advice: str, *, check: str = "nodes") -> Iterator[Check]:
    if names:
        yield Check(check=check, verdict=Verdict.WARN, found=found, advice=advice)


# The configuration


def _driver(conf: NovaConf) -> Check:
    driver = conf.of("DEFAULT", "compute_driver")
    if driver == OURS:
        return Check(check="driver", verdict=Verdict.OK, found=f"compute_driver is {OURS}")
    if driver == NOVAS:
        return Check(
            check="driver",
            verdict=Verdict.OK,
            found=f"compute_driver is {NOVAS}, Nova's own",
            advice=f"To change over: compute_driver = {OURS}",
        )
    return Check(
        check="driver",
        verdict=Verdict.FAIL,
        found=f"compute_driver is {driver or 'not set'}",
        advice=f"Give the nova.conf of a nova-compute for bare metal: it has {NOVAS} or {OURS}",
    )


def _nova_here() -> Check:
    """Whether Nova is in this environment, and finds the driver there. Nova is not imported for that."""
    spec = util.find_spec("nova")
    if spec is None or not spec.submodule_search_locations:
        return Check(
            check="Nova",
            verdict=Verdict.WARN,
            found="Nova is not in this Python environment, so that it is not seen whether it finds the driver",
            advice="Run this with nova-compute's own Python",
        )
    release = metadata.version("nova")
    places = [Path(place, "virt", "bloomery", "__init__.py") for place in spec.submodule_search_locations]
    if not any(place.exists() for place in places):
        return Check(
            check="Nova",
            verdict=Verdict.FAIL,
            found=f"Nova {release} is here, and {places[0]} is not",
            advice="Install Bloomery's wheel into this environment",
        )
    is_tried = OLDEST_NOVA <= int(release.split(".")[0]) <= NEWEST_NOVA
    return Check(
        check="Nova",
        verdict=Verdict.OK if is_tried else Verdict.WARN,
        found=f"Nova {release} is here, and finds the driver",
        advice=None if is_tried else f"Bloomery is made for Nova {OLDEST_NOVA} to {NEWEST_NOVA}",
    )


def _options(conf: NovaConf) -> Iterator[Check]:
    for reason in conf.wrong:
        yield Check(check="options", verdict=Verdict.FAIL, found=reason, advice="nova-compute does not start with it")
    for section in ("ironic", "bloomery"):
        try:
            known = conf.known_in(section)
        except BloomeryError as problem:
            yield failed(f"[{section}]", problem)
            continue
        given = conf.given_in(section)
        unknown = sorted(given.keys() - known.keys())
        old = sorted(name for name in given.keys() & known.keys() if known[name] != name)
        unused = sorted({known[name] for name in given.keys() & known.keys()} & NOT_USED.keys())
        if section == "ironic" and "peer_list" in given:
            yield Check(
                check="[ironic]",
                verdict=Verdict.WARN,
                found="peer_list is deprecated in Nova",
                advice="Give each nova-compute a shard or conductor group of its own",
            )
        if unknown:
            yield Check(
                check=f"[{section}]",
                verdict=Verdict.WARN,
                found=f"{', '.join(unknown)}: no such option",
                advice="Nobody reads it: a slip of the pen, or from an older Nova; take it out",
            )
        for name in old:
            yield Check(
                check=f"[{section}]",
                verdict=Verdict.WARN,
                found=f"{name} is a former name",
                advice=f"It is {known[name]} now",
            )
        for name in unused if section == "ironic" else ():
            yield Check(check=f"[{section}]", verdict=Verdict.WARN, found=f"{name} is not used: {NOT_USED[name]}")
        if not unknown and not old:
            yield Check(check=f"[{section}]", verdict=Verdict.OK, found=f"{many(len(given), 'option')}, all known")
    if conf.of("DEFAULT", "config_drive_format") == "vfat":
        yield Check(
            check="options",
            verdict=Verdict.WARN,
            found="config_drive_format is vfat",
            advice="With Bloomery a config drive is always ISO 9660",
        )


def _scope(conf: NovaConf) -> Iterator[Check]:
    """What shard, conductor group and peer list say together."""
    shard, group = conf.of("ironic", "shard"), conf.of("ironic", "conductor_group")
    peers = [peer.lower() for peer in conf.of("ironic", "peer_list") or ()]
    if shard is not None and peers:
        yield Check(check="scope", verdict=Verdict.WARN, found="peer_list means nothing beside shard")
    elif group is None and peers:
        yield Check(check="scope", verdict=Verdict.WARN, found="peer_list means nothing without conductor_group")
    elif shard is None and group is not None and conf.host.lower() not in peers:
        yield Check(
            check="scope",
            verdict=Verdict.FAIL,
            found=f"peer_list, of conductor group {group!r}, does not name {conf.host}, so that no node would be managed",
            advice=f"Add {conf.host} to it; with one nova-compute it is the only one there",
        )


# Nova's API


class CannotTell(Exception):
    """Nova cannot be asked; says why."""


def _living_servers(conf: NovaConf) -> set[str]:
    """The UUIDs of all of Nova's servers.

    Raises:
        CannotTell: no credentials here may list them.
    """
    reasons = []
    for section in ("service_user", "keystone_authtoken"):
        if conf.given_in(section):
            try:
                adapter = conf.adapter(section)
                adapter.region_name = adapter.region_name or conf.of("ironic", "region_name")
                return _list_servers(adapter)
            except (BloomeryError, CannotTell) as problem:
                reasons.append(f"[{section}]: {problem}")
    if "OS_CLOUD" in os.environ or "OS_AUTH_URL" in os.environ:
        try:
            return _list_servers(adapter_of_environment("compute"))
        except (BloomeryError, CannotTell) as problem:
            reasons.append(f"OS_*: {problem}")
    raise CannotTell("; ".join(reasons) or "there are no credentials for Nova")


def _list_servers(nova: Adapter) -> set[str]:
    found: set[str] = set()
    query: dict[str, Any] = {"all_tenants": "true", "limit": PAGE}
    while True:
        try:
            reply = nova.get("/servers", params=query, raise_exc=False)
            servers = reply.json()["servers"] if reply.ok else None
        except (ksa_exceptions.ClientException, ValueError, KeyError) as problem:
            raise CannotTell(str(problem)) from problem
        if servers is None:
            # Whoever is no admin sees his own only, and must not take the others for gone.
            raise CannotTell(f"Nova's API answers {reply.status_code}")
        if not servers:
            return found
        found |= {str(server["id"]) for server in servers}
        query["marker"] = servers[-1]["id"]
