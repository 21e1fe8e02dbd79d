"""A lab for the tests of this folder, up once for all of them: four nodes with a BMC, four without."""

from collections.abc import Iterator

import pytest

from bloomery import lab
from lab.ironic_api import IronicApi


@pytest.fixture(scope="session")
def a_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    options = lab.Options(nodes=8, kind=lab.Kind.BOTH)
    with lab.running(options, tmp_path_factory.mktemp("lab") / "state") as it:
        yield it


@pytest.fixture
def ironic(a_lab: lab.Lab) -> Iterator[IronicApi]:
    api = IronicApi(a_lab)
    yield api
    api.close()
