"""Two nova-computes with a shard each: machines with a BMC are in one, fake hardware is in the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from bloomery.lab import Kind
from nova_site.cloud import HOST, Cloud
from nova_site.site import NovaSite, Refused

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.usefixtures("two_shards")]

SECOND = "compute-2"
SHARDS = {Kind.REDFISH: "racks", Kind.FAKE: "lab"}


@pytest.fixture(scope="module")
def two_shards(nova_cloud: Cloud, driver: str) -> Iterator[None]:
    """Each of two nova-computes has the nodes of its shard."""
    site = NovaSite(nova_cloud, nova_cloud.folder)
    try:
        site.drop_shared_server()
        site.clear()
        for node in nova_cloud.lab.nodes:
            site.site.patch(node.uuid, shard=SHARDS[node.kind])
        nova_cloud.kill_compute()
        nova_cloud.start_compute(driver, options={"ironic": {"shard": SHARDS[Kind.REDFISH]}})
        nova_cloud.start_compute(driver, host=SECOND, options={"ironic": {"shard": SHARDS[Kind.FAKE]}})
        site.wait_for_hosts({node.uuid: host_of(node.kind) for node in nova_cloud.lab.nodes})
        yield
        site.drop_shared_server()
        site.clear()
        nova_cloud.kill_compute(SECOND)
        nova_cloud.kill_compute()
        for node in nova_cloud.lab.nodes:
            site.site.patch(node.uuid, shard=None)
        nova_cloud.start_compute(driver)
        site.forget(SECOND)
        site.wait_for_hosts({node.uuid: HOST for node in nova_cloud.lab.nodes})
    finally:
        site.close()


def host_of(kind: Kind) -> str:
    """The nova-compute that has the nodes of that kind."""
    return HOST if kind is Kind.REDFISH else SECOND


def test_a_server_is_run_by_the_nova_compute_of_its_nodes_shard(nova: NovaSite, server: str) -> None:
    other = nova.built(flavor="bm-fake")
    for each in (server, other):
        nova.agree(each)
        assert nova.host(each) == host_of(nova.node(each).kind)


def test_a_node_with_a_server_stays_with_its_nova_compute_when_it_is_moved_to_another_shard(nova: NovaSite) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    before = nova.compute_nodes()
    with nova.patched(node, "shard", SHARDS[Kind.REDFISH], before=SHARDS[Kind.FAKE]):
        for host in (HOST, SECOND):
            nova.wait_for_rounds("update_available_resource", 2, host=host)
        assert nova.compute_nodes() == before
        assert nova.is_reserved(node)
        nova.act(server, "reboot", {"type": "HARD"})
        nova.wait_for(server, "ACTIVE")
        nova.agree(server)
        with nova.without_compute(is_killed=True, host=SECOND):
            pass
        nova.act(server, "os-stop")
        nova.wait_for(server, "SHUTOFF")
        nova.agree(server)
        assert nova.compute_nodes() == before
        nova.delete(server)
        nova.assert_gone(server, node)
        nova.wait_for_hosts({**before, node.uuid: HOST})
    nova.wait_for_hosts(before)


def test_an_evacuation_is_refused_and_the_server_stays_where_it_is(nova: NovaSite) -> None:
    server = nova.built(flavor="bm-fake")
    node = nova.node(server)
    with nova.without_compute(is_killed=True, host=SECOND), nova.forced_down(SECOND):
        with suppress(Refused):
            nova.act(server, "evacuate", {}, user="admin")
        nova.wait(lambda: nova.server(server)["OS-EXT-STS:task_state"] is None, lambda: "the evacuation has failed")
        assert nova.node(server) == node
        assert nova.state(node) == "active"
    nova.wait_for_rounds("update_available_resource", host=SECOND)
    assert nova.host(server) == SECOND
    if nova.server(server)["status"] == "ERROR":
        nova.act(server, "os-resetState", {"state": "active"}, user="admin")
    nova.agree(server)
