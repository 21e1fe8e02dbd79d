"""What Nova sees of the driver: where it is found, its methods, its capabilities, its errors."""

from __future__ import annotations

import ast
import inspect
import zipfile
from pathlib import Path
from typing import Any

import nova.exception
import pytest
from hatchling.builders.wheel import WheelBuilder
from nova.virt import driver as virt_driver
from nova.virt.ironic import driver as upstream
from oslo_utils import importutils

from bloomery import errors
from bloomery.doors.nova.driver import IronicDriver
from bloomery.doors.nova.errors import TABLE, nova_error_of, nova_errors
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


def test_capabilities_are_those_of_novas_own_driver_and_device_tags() -> None:
    tags = {"supports_device_tagging": True, "supports_tagged_attach_interface": True}
    assert IronicDriver.capabilities == upstream.IronicDriver.capabilities | tags
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


@pytest.mark.parametrize("kind", KINDS)
def test_d49_a_fault_is_what_users_may_read_and_the_log_has_all_of_it(
    kind: type[BloomeryError], caplog: pytest.LogCaptureFixture
) -> None:
    problem = kind("it went wrong on node rack1-u7", reason="BMC 192.0.2.7 of 1be26c0b-03f2-4d2e-ae87-c02d7f33c781")
    problem.request_id = "req-1"
    with pytest.raises(nova.exception.NovaException) as raised, nova_errors():
        raise problem
    assert problem.told_users in str(raised.value)
    for hidden in ("rack1-u7", "192.0.2.7", "1be26c0b"):
        assert hidden not in str(raised.value)
        assert hidden in caplog.text
    assert "[req-1]" in str(raised.value)


def parts_of(kind: type[ast.AST], tree: ast.AST) -> list[Any]:
    return [part for part in ast.walk(tree) if isinstance(part, kind)]


MODULES = sorted((ROOT / "src/bloomery/doors/nova").glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.stem))
def test_nothing_here_waits_repeats_or_branches_on_a_provision_state(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert not [loop.lineno for loop in parts_of(ast.While, tree)]
    named = {name.id for name in parts_of(ast.Name, tree)} | {name.attr for name in parts_of(ast.Attribute, tree)}
    assert not named & {"Provision", "sleep", "loopingcall", "poll"}
    tests = [part.test for kind in (ast.If, ast.IfExp) for part in parts_of(kind, tree)]
    tests += [part.subject for part in parts_of(ast.Match, tree)]
    asked = [part.attr for test in tests for part in parts_of(ast.Attribute, test)]
    assert not {"provision_state", "target_provision_state"} & set(asked)
    # `InstanceInfo.state`, which the driver compares with an event of Ironic's, is Nova's power state.
    assert asked.count("state") == (1 if module.stem == "driver" else 0)
    for loop in parts_of(ast.For, tree):
        # Whoever tries again goes on after an error, and through the same thing.
        counted = isinstance(loop.iter, ast.Call) and getattr(loop.iter.func, "id", "") in ("range", "count", "repeat")
        assert not (counted and parts_of(ast.Try, loop)), loop.lineno


def test_the_driver_is_read_in_one_sitting() -> None:
    assert len((ROOT / "src/bloomery/doors/nova/driver.py").read_text().splitlines()) <= 600
