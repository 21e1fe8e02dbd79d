"""A simulated Ironic and Neutron for each test, linked, and a client for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery.testing import IronicSimulator, NeutronSimulator
from testing.simulated_api import Api


@pytest.fixture
def neutron() -> Iterator[NeutronSimulator]:
    with NeutronSimulator() as simulator:
        yield simulator


@pytest.fixture
def neutron_api(neutron: NeutronSimulator) -> Iterator[Api]:
    with Api(neutron.url) as api:
        yield api


@pytest.fixture
def ironic() -> Iterator[IronicSimulator]:
    with IronicSimulator() as simulator:
        yield simulator


@pytest.fixture
def api(ironic: IronicSimulator) -> Iterator[Api]:
    with Api(ironic.url) as api:
        yield api


@pytest.fixture
def wired(neutron: NeutronSimulator) -> Iterator[IronicSimulator]:
    """An Ironic that is linked to the Neutron."""
    with IronicSimulator(neutron=neutron) as simulator:
        yield simulator


@pytest.fixture
def wired_api(wired: IronicSimulator) -> Iterator[Api]:
    with Api(wired.url) as api:
        yield api
