"""The whole Nova of the release that is tried, from that release's own environment, around a lab with twelve nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.lab import Kind, Lab, Options, running
from nova_releases.matrix import CONCURRENCY, environment_of, python_of
from nova_site import cloud
from nova_site.cloud import Cloud
from nova_site.drivers import OURS
from nova_site.site import NovaSite

RELEASE = os.environ.get("BLOOMERY_NOVA_RELEASE", "34")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Six nodes with a BMC, and six of fake hardware; none is deployed in an instant."""
    with running(Options(nodes=12, kind=Kind.BOTH, deploy_seconds=4), tmp_path_factory.mktemp("lab") / "state") as it:
        yield it


@pytest.fixture(scope="session")
def nova_cloud(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The release's control plane, with the flavors that tests use."""
    folder = tmp_path_factory.mktemp("nova")
    with cloud.running(lab, folder, python=python_of(RELEASE)) as it:
        site = NovaSite(it, folder)
        site.prepare()
        site.close()
        yield it


@pytest.fixture(scope="session", params=CONCURRENCY[RELEASE])
def concurrency(nova_cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the nova-compute that runs has in place of threads, or threads."""
    wanted: str = request.param
    nova_cloud.compute_environment = environment_of(RELEASE, wanted)
    nova_cloud.start_compute(OURS, options={"DEFAULT": {"max_concurrent_builds": len(nova_cloud.lab.nodes)}})
    yield wanted
    nova_cloud.stop_compute()


@pytest.fixture
def nova(nova_cloud: Cloud, concurrency: str) -> Iterator[NovaSite]:
    """The site with every node free and known to Placement, before and after the test."""
    site = NovaSite(nova_cloud, nova_cloud.folder)
    try:
        site.wait_until_schedulable()
        yield site
    finally:
        site.clear()
        site.close()


@pytest.fixture
def log(nova_cloud: Cloud) -> Path:
    """What nova-compute has written."""
    return nova_cloud.log / f"{cloud.HOST}.log"
