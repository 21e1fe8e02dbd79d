"""The OpenAPI document is whole, shipped, and kept: what it allows works, and what the service answers stands in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from bloomery.doors.http.app import bare_app
from bloomery.doors.http.schemas import DeployBody
from doors_http.http_site import Site, cloud, served

SHIPPED = Path(__file__).resolve().parents[2] / "docs" / "assets" / "openapi.json"
DOCUMENT: dict[str, Any] = bare_app().openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method of every path, and what is said of it."""
    for path, methods in DOCUMENT["paths"].items():
        for method, said in methods.items():
            yield method, path, said


EVERY = {f"{method.upper()} {path}": said for method, path, said in operations()}


def test_the_document_that_is_shipped_is_that_of_the_service() -> None:
    assert json.loads(SHIPPED.read_text()) == DOCUMENT, "write it again with tools/openapi.py"


def test_it_is_an_openapi_3_1_document() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")


@pytest.mark.parametrize("operation", EVERY)
def test_everything_is_described_with_all_its_parameters(operation: str) -> None:
    said = EVERY[operation]
    assert said["description"].endswith(".")
    for parameter in said.get("parameters", ()):
        assert parameter.get("description") or parameter["in"] == "path", parameter["name"]
    assert "401" in said["responses"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with an instance; what is asked of it need not lead anywhere."""
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path_factory.mktemp("fuzzed")) as site:
        site.deployed("x")
        yield site


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@SCHEMA.exclude(path="/v1/events/stream").parametrize()
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_that_can_be_asked_is_answered_by_a_bug_or_by_what_the_document_does_not_say(
    case: schemathesis.Case[Any], fuzzed: Site
) -> None:
    # Which values go together no schema can say, and in a query everything is text: these two would guess.
    guesses: list[Any] = [positive_data_acceptance, negative_data_rejection]
    case.call_and_validate(base_url=fuzzed.url, timeout=30, excluded_checks=guesses)


def test_the_request_in_the_documentation_is_taken_as_it_stands() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
    (body,) = re.findall(r"-d '(\{.*?\})'\n", page, re.DOTALL)
    wanted = DeployBody.model_validate_json(body).to_core(instance_uuid=None, owner=None)
    assert (wanted.name, wanted.wanted.resource_class) == ("web-1", "baremetal")
    assert wanted.guest.ssh_keys
