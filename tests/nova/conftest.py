"""A whole Nova on the lab, up once for all tests here; the driver of its nova-compute changes between groups of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Lab
from bloomery.lab.ironic import CACHE_VARIABLE
from nova_site import cloud
from nova_site.cloud import HOST, Cloud
from nova_site.drivers import CHOSEN, UPSTREAM, defect_that_fails
from nova_site.site import WAIT_S, NovaSite

WAIT_FOR_A_DEFECT_S = 60.0


@pytest.fixture(scope="session")
def nova_cloud(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Nova's control plane, with the flavors that tests use."""
    folder = tmp_path_factory.mktemp("nova")
    with cloud.running(lab, folder, cache=Path(os.environ[CACHE_VARIABLE])) as it:
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
    """The `compute_driver` of the nova-compute that runs. Each has a shared server of its own."""
    name: str = request.param
    nova_cloud.start_compute(name)
    yield name
    site = NovaSite(nova_cloud, nova_cloud.folder)
    try:
        site.drop_shared_server()
        site.clear()
    finally:
        site.close()
    if nova_cloud.computes:
        nova_cloud.stop_compute()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Every scenario ends with everybody being asked; what it leaves agrees."""
    site = pyfuncitem.funcargs.get("nova")
    if isinstance(site, NovaSite) and pyfuncitem.get_closest_marker("xfail"):
        # Most of these wait for what never comes; what they begin with has come by now.
        site.wait_s = WAIT_FOR_A_DEFECT_S
    result = yield
    if isinstance(site, NovaSite):
        site.agree_on_everything()
    return result


@pytest.fixture
def nova(nova_cloud: Cloud, driver: str, request: pytest.FixtureRequest) -> Iterator[NovaSite]:
    """The site with every node free and known to Placement, before and after the test."""
    defect = defect_that_fails(request.node) if driver == UPSTREAM else None
    if defect is not None:
        request.applymarker(pytest.mark.xfail(reason=defect, strict=True))
    nova_cloud.ironic.requests.clear()
    site = NovaSite(nova_cloud, nova_cloud.folder)
    try:
        site.wait_until_schedulable()
        yield site
    finally:
        site.wait_s = WAIT_S
        if nova_cloud.computes and nova_cloud.drivers[HOST] != driver:
            nova_cloud.stop_compute()
        if not nova_cloud.computes:
            nova_cloud.start_compute(driver, options=nova_cloud.options.get(HOST))
        site.clear()
        site.close()


@pytest.fixture
def server(nova: NovaSite) -> str:
    """A server that runs; the test leaves it running, or it is replaced."""
    return nova.shared_server()
