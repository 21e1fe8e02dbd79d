"""Nova's database once for all tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Nova's libraries have their own deprecations
    from nova.network import security_group_api

    from doors_nova import nova_world


@pytest.fixture(scope="session", autouse=True)
def database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nova's database."""
    nova_world.database(tmp_path_factory.mktemp("nova"))


@pytest.fixture(autouse=True)
def _no_security_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nova asks Neutron for them when it writes the metadata; there is none that it could ask."""
    monkeypatch.setattr(security_group_api, "get_instance_security_groups", lambda *_args, **_kwargs: [])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nova's own use of SQLAlchemy is none of our warnings."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:oslo_.*|nova.*"))
