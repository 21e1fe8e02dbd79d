"""The bounds of a project: the service's own credentials reach further than those of a caller who acts for one.

Nodes, networks, VIFs, security groups and images that a request of his names are looked up among those that are his, and go on
by their ids, so that a name cannot come to mean another's in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bloomery.doors.http import schemas as s
from bloomery.doors.http.access import Principal
from bloomery.doors.http.problems import Refusal
from bloomery.doors.http.service import Service
from bloomery.errors import (
    AmbiguousName,
    ImageNotFound,
    InvalidRequest,
    NetworkNotFound,
    NodeNotFound,
    NoNodeFits,
)
from bloomery.glance import GlanceImage
from bloomery.library import QUICK_TIMEOUT_S
from bloomery.neutron import Network, Neutron

_VISIBLE_TO_ALL = ("public", "community", None)

N = TypeVar("N", bound=s.NicBody)


def deploy_within(service: Service, caller: Principal, body: s.DeployBody) -> s.DeployBody:
    """The request, for what is the caller's only.

    Raises:
        NodeNotFound, NetworkNotFound, ImageNotFound: he names what is not.
        NoNodeFits: none of the nodes that he asks for is his.
        Refusal: it is for administrators.
    """
    view = service.following.seen()
    theirs = {node.uuid: node for node in view.nodes if caller.sees(node)}
    if body.node is not None:
        named = view.node_by.get(body.node)
        if named is None or named.uuid not in theirs:
            raise NodeNotFound(f"there is no node {body.node!r}", advice="GET /v1/nodes lists those that you may see")
    given = set(body.wanted.candidates)
    candidates = [uuid for uuid, node in theirs.items() if not given or {uuid, node.name} & given]
    if not candidates:
        raise NoNodeFits("no node fits", reason="none of those that were asked for is owned or leased by your project")
    refuse_steps(body.deploy_steps)
    check_image(service, caller, body.image)
    wanted = body.wanted.model_copy(update={"candidates": candidates if body.node is None else []})
    nics = [nic_within(service, caller, nic) for nic in body.nics]
    return body.model_copy(update={"wanted": wanted, "nics": nics})


def refuse_steps(steps: Sequence[s.DeployStepBody]) -> None:
    """Nobody but an administrator changes firmware, RAID or BIOS settings by a deploy step.

    Raises:
        Refusal: there are some.
    """
    if steps:
        raise Refusal(403, "Forbidden", "deploy steps are for administrators", advice="Leave deploy_steps out")


def may_see_image(caller: Principal, image: GlanceImage) -> bool:
    """Whether the image is for everybody, or his project's own."""
    return caller.sees_all or image.visibility in _VISIBLE_TO_ALL or image.owner == caller.project_id


def check_image(service: Service, caller: Principal, image: s.ImageBody | None) -> None:
    """The image is one that the caller could have had without this service.

    Raises:
        InvalidRequest: it is a file of the conductor's.
        ImageNotFound: Glance has it, and not for him.
    """
    for source in (image.source, image.kernel, image.ramdisk, image.iso) if image is not None else ():
        if source is None or source.lower().startswith(("http:", "https:", "oci:")):
            continue
        if "://" in source or source.lower().startswith("file:"):
            raise InvalidRequest(
                f"image {source!r} is not for you", advice="Give an http, https or oci URL, or Glance's id"
            )
        glance = service.api.services.glance
        if glance is None:
            continue
        found = glance.within(service.api.services.asking(QUICK_TIMEOUT_S)).image(source)
        if not may_see_image(caller, found):
            raise ImageNotFound(f"there is no image {source!r}", advice="GET /v1/images lists those that you may use")


def is_offered(service: Service, caller: Principal, network: Network) -> bool:
    """Whether the network is for everybody, or his project's own, and not for nodes that Ironic has in hand."""
    own = service.settings.ironic_networks
    if network.id in own or network.name in own:
        return False
    return caller.sees_all or network.shared or network.project_id == caller.project_id


def nic_within(service: Service, caller: Principal, nic: N) -> N:
    """The NIC, with its network, subnet or VIF, and security groups, by id.

    Raises:
        NetworkNotFound: one of them is not the caller's.
        AmbiguousName: several of his are called so.
    """
    neutron = _neutron(service)
    if neutron is None:
        return nic
    named: dict[str, object] = {}
    if nic.network is not None:
        named["network"] = _network(service, caller, neutron, nic.network).id
    elif nic.subnet is not None:
        subnet = neutron.subnet(nic.subnet)
        _network(service, caller, neutron, subnet.network_id)
        named["subnet"] = subnet.id
    elif nic.vif is not None:
        port = neutron.port(nic.vif)
        if port.project_id != caller.project_id:
            raise NetworkNotFound(f"there is no VIF {nic.vif!r} of your project")
        named["vif"] = port.id
    if nic.security_groups:
        named["security_groups"] = [group_within(service, caller, group) for group in nic.security_groups]
    return nic.model_copy(update=named)


def _network(service: Service, caller: Principal, neutron: Neutron, name_or_id: str) -> Network:
    theirs = [network for network in neutron.networks() if is_offered(service, caller, network)]
    found = [network for network in theirs if name_or_id in (network.id, network.name)]
    if not found:
        raise NetworkNotFound(
            f"there is no network {name_or_id!r}", advice="GET /v1/networks lists those that you may use"
        )
    if len(found) > 1:
        raise AmbiguousName(f"{len(found)} networks are named {name_or_id!r}")
    return found[0]


def group_within(service: Service, caller: Principal, name_or_id: str) -> str:
    """The id of the caller's security group of that name or id.

    Raises:
        NetworkNotFound: it is not his.
    """
    neutron = _neutron(service)
    if neutron is None:
        return name_or_id
    group = neutron.security_group(name_or_id)
    if group.project_id != caller.project_id:
        raise NetworkNotFound(f"there is no security group {name_or_id!r} of your project")
    return group.id


def _neutron(service: Service) -> Neutron | None:
    services = service.api.services
    return services.neutron.within(services.asking(QUICK_TIMEOUT_S)) if services.neutron is not None else None
