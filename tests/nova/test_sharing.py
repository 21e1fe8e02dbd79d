"""Two nova-computes share the nodes, one with our driver and one with Nova's own: a site that changes over host by host."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import count

import pytest

from bloomery.lab import LabNode
from nova_site.cloud import HOST, Cloud
from nova_site.drivers import OURS, UPSTREAM
from nova_site.site import NovaSite

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports eventlet, which says that it is deprecated
    from tooz import hashring

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.parametrize("driver", [OURS], indirect=True)]

_PARTITIONS = 2**5
"""As Nova's own driver divides the nodes among services."""


def divided(nodes: Sequence[LabNode], *hosts: str) -> dict[str, str]:
    """The service of each node, by the ring of these."""
    ring = hashring.HashRing(hosts, partitions=_PARTITIONS)
    return {node.uuid: host for node in nodes for host in ring.get_nodes(node.uuid.encode())}


@pytest.fixture
def other(nova: NovaSite, nova_cloud: Cloud) -> Iterator[str]:
    """A second nova-compute, with Nova's own driver, under a name by which either of the two gets some nodes."""
    nova.drop_shared_server()
    nova.clear()
    names = (f"compute-{number}" for number in count(2))
    name = next(name for name in names if len({*divided(nova.lab.nodes, HOST, name).values()}) == 2)
    nova_cloud.start_compute(UPSTREAM, host=name)
    try:
        yield name
    finally:
        nova.clear()
        nova_cloud.kill_compute(name)
        nova.forget(name)
        nova.wait_for_hosts({node.uuid: HOST for node in nova.lab.nodes})


def on(nova: NovaSite, node: LabNode) -> str:
    """A server that runs on the node."""
    flavor = "bm-fake" if node.resource_class.endswith("fake") else "bm"
    return nova.built(f"on-{node.name}", flavor=flavor, user="admin", hypervisor_hostname=node.uuid)


def test_services_of_both_drivers_have_some_nodes_each_and_no_node_twice(nova: NovaSite, other: str) -> None:
    shared = divided(nova.lab.nodes, HOST, other)
    nova.wait_for_hosts(shared)
    for host in (HOST, other):
        node = next(node for node in nova.lab.nodes if shared[node.uuid] == host)
        server = on(nova, node)
        nova.agree(server)
        assert nova.host(server) == host
    for host in (HOST, other):
        nova.wait_for_rounds("update_available_resource", 2, host=host)
    assert nova.compute_nodes() == shared


def test_the_free_nodes_of_a_dead_service_are_taken_over_and_its_server_waits_for_it(
    nova: NovaSite, other: str
) -> None:
    shared = divided(nova.lab.nodes, HOST, other)
    nova.wait_for_hosts(shared)
    node = next(node for node in nova.lab.nodes if shared[node.uuid] == other)
    server = on(nova, node)
    with nova.without_compute(is_killed=True, host=other), nova.forced_down(other):
        nova.wait_for_hosts({**divided(nova.lab.nodes, HOST), node.uuid: other})
        nova.wait_for_rounds("update_available_resource", 2)
        assert nova.state(node) == "active"
    nova.wait_for_hosts(shared)
    nova.agree(server)
    nova.delete(server)
    nova.assert_gone(server, node)
