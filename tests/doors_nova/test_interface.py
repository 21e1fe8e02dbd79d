"""What Nova sees of the driver: where it is found, its methods, its capabilities, its errors."""

from __future__ import annotations

import ast
import inspect
import zipfile
from pathlib import Path

import nova.exception
import pytest
from hatchling.builders.wheel import WheelBuilder
from nova.virt import driver as virt_driver
from nova.virt.ironic import driver as upstream
from oslo_utils import importutils

from bloomery import errors
from bloomery.doors.nova.driver import IronicDriver
from bloomery.doors.nova.errors import TABLE, nova_error_of, nova_errors, without_addresses, words_of
from bloomery.errors import BloomeryError

ROOT = Path(__file__).resolve().parents[2]
KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, BloomeryError) and kind.__module__ == errors.__name__
]
METHODS = [
    name
    for name, value in vars(IronicDriver).items()
    if inspect.isfunction(value) and hasattr(virt_driver.ComputeDriver, name)
]


def parameters(function: object) -> list[tuple[str, object]]:
    return [
        (parameter.name, parameter.default)
        for parameter in inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "__init__"])
def test_every_method_has_the_signature_that_nova_calls(name: str) -> None:
    assert parameters(getattr(IronicDriver, name)) == parameters(getattr(virt_driver.ComputeDriver, name))


def test_every_method_of_novas_own_driver_is_there() -> None:
    own = {name for name, value in vars(upstream.IronicDriver).items() if inspect.isfunction(value) and name[0] != "_"}
    assert own - set(METHODS) == set()


def test_capabilities_are_those_of_novas_own_driver() -> None:
    assert IronicDriver.capabilities == upstream.IronicDriver.capabilities
    assert IronicDriver.rebalances_nodes is upstream.IronicDriver.rebalances_nodes


def test_nova_finds_the_driver_under_its_name() -> None:
    assert importutils.import_class("nova.virt.bloomery.IronicDriver") is IronicDriver


def test_the_wheel_puts_the_driver_where_nova_looks_and_touches_nothing_else_of_nova(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(built).namelist()
    assert [name for name in names if name.startswith("nova/")] == ["nova/virt/bloomery/__init__.py"]
    assert "bloomery/doors/nova/driver.py" in names


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_ours_has_a_row(kind: type[BloomeryError]) -> None:
    assert kind in TABLE
    problem = kind("it went wrong")
    assert issubclass(nova_error_of(problem), nova.exception.NovaException)
    with pytest.raises(nova.exception.NovaException) as raised, nova_errors():
        raise problem
    assert raised.value.__cause__ is problem


def test_d49_a_fault_shows_no_address_and_no_node() -> None:
    text = (
        "502 for url: http://10.0.0.1:6385/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c781?x=1, BMC 192.0.2.7:623 at "
        "fe80:0:0:1::7 of 1be26c0b-03f2-4d2e-ae87-c02d7f33c781 said no at 12:30:05"
    )
    shown = without_addresses(text)
    for hidden in ("10.0.0.1", "192.0.2.7", "fe80", "1be26c0b", "http"):
        assert hidden not in shown
    assert "said no at 12:30:05" in shown


def test_d49_a_fault_names_no_node_but_the_step_and_the_request() -> None:
    problem = errors.DeployFailed(
        "deploy failed on node rack1-u7", reason="no disk", step="wait for active", request_id="req-1"
    )
    assert words_of(problem) == "deploy failed on the node: no disk (at step 'wait for active') [req-1]"
    assert words_of(errors.NodeUnavailable("the node is busy")) == "the node is busy"


def test_nothing_here_waits_repeats_or_branches_on_a_provision_state() -> None:
    for module in (ROOT / "src/bloomery/doors/nova").glob("*.py"):
        tree = ast.parse(module.read_text())
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.While)], module.name
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not named & {"Provision", "sleep", "loopingcall"}, module.name
        tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
        asked = {part.attr for test in tests for part in ast.walk(test) if isinstance(part, ast.Attribute)}
        assert "provision_state" not in asked, module.name
