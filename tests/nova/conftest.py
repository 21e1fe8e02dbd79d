"""A whole Nova on the lab, up once for all tests here; the driver of its nova-compute changes between groups of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery.lab import Lab
from nova_site import cloud
from nova_site.cloud import HOST, Cloud
from nova_site.drivers import CHOSEN, UPSTREAM, UPSTREAM_FAILS
from nova_site.site import NovaSite


@pytest.fixture(scope="session")
def nova_cloud(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Nova's control plane, with the flavors that tests use."""
    folder = tmp_path_factory.mktemp("nova")
    with cloud.running(lab, folder) as it:
        site = NovaSite(it, folder)
        try:
            site.prepare()
            yield it
            it.end()
            site.restore()
        finally:
            site.close()


@pytest.fixture(scope="session", params=CHOSEN)
def driver(nova_cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """The `compute_driver` of the nova-compute that runs."""
    name: str = request.param
    nova_cloud.start_compute(name)
    yield name
    if nova_cloud.computes:
        nova_cloud.stop_compute()


@pytest.fixture
def nova(nova_cloud: Cloud, driver: str, request: pytest.FixtureRequest) -> Iterator[NovaSite]:
    """The site with every node free and known to Placement, before and after the test."""
    test = request.node.originalname
    if driver == UPSTREAM and test in UPSTREAM_FAILS:
        request.applymarker(pytest.mark.xfail(reason=UPSTREAM_FAILS[test], strict=True))
    site = NovaSite(nova_cloud, nova_cloud.folder)
    try:
        site.wait_until_schedulable()
        yield site
    finally:
        if nova_cloud.computes and nova_cloud.drivers[HOST] != driver:
            nova_cloud.stop_compute()
        if not nova_cloud.computes:
            nova_cloud.start_compute(driver)
        site.clear()
        site.close()


@pytest.fixture
def server(nova: NovaSite) -> str:
    """A server that runs; the test leaves it running, or it is replaced."""
    return nova.shared_server()
