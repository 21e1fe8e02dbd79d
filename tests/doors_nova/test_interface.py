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
from bloomery.doors.nova.errors import TABLE, nova_error_of, nova_errors
from bloomery.errors import BloomeryError
from bloomery.states import Provision

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


STATES = {str(state) for state in Provision}
WAITING = {"sleep", "wait", "poll", "loopingcall", "retry", "retrying", "tenacity", "backoff"}
READ = {"provision_state", "target_provision_state"}


def out_of_place(source: str) -> set[str]:
    """What a door must not have: something that waits, something that is tried again, a branch on a provision state."""
    tree = ast.parse(source)
    above = {below: part for part in ast.walk(tree) for below in ast.iter_child_nodes(part)}
    found = set()
    for part in ast.walk(tree):
        match part:
            case ast.While():
                found.add("a loop that waits")
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if name in WAITING:
                found.add("a wait")
            case ast.Name(id="Provision") | ast.alias(name="Provision"):
                found.add("a provision state")
            case ast.Attribute(attr="state", value=ast.Name(id="node" | "now" | "found" | "known" | "seen")):
                found.add("a provision state")
            # It may be shown, in a text or under a name; whoever decides by it has to hold it otherwise.
            case ast.Attribute(attr=name) if name in READ and not isinstance(
                above[part], ast.FormattedValue | ast.Dict
            ):
                found.add("a provision state")
            case ast.Compare(comparators=[*compared]) if STATES & constants(part.left, *compared):
                found.add("a provision state")
            case ast.MatchValue(value=ast.Constant(value=value)) if value in STATES:
                found.add("a provision state")
            case ast.Dict(keys=[*keys]) if set() < constants(*filter(None, keys)) <= STATES:
                found.add("a provision state")
            case ast.For(target=target, body=body) if any(
                isinstance(below, ast.Try) and not names_in(target) & names_in(*below.body)
                for line in body
                for below in ast.walk(line)
            ):
                # Who goes through different things names each in what may fail; who does not tries the same thing again.
                found.add("a retry")
            case ast.FunctionDef(name=name) if any(
                name in names_in(*handler.body) for handler in ast.walk(part) if isinstance(handler, ast.ExceptHandler)
            ):
                found.add("a retry")
    return found


def names_in(*parts: ast.AST) -> set[str]:
    within = [below for part in parts for below in ast.walk(part)]
    names = {below.id for below in within if isinstance(below, ast.Name)}
    return names | {below.attr for below in within if isinstance(below, ast.Attribute)}


def constants(*parts: ast.AST) -> set[object]:
    return {below.value for part in parts for below in ast.walk(part) if isinstance(below, ast.Constant)}


@pytest.mark.parametrize("module", sorted((ROOT / "src/bloomery/doors/nova").glob("*.py")), ids=lambda path: path.stem)
def test_nothing_here_waits_repeats_or_branches_on_a_provision_state(module: Path) -> None:
    assert out_of_place(module.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("while not done():\n    look()", "a loop that waits"),
        ("time.sleep(2)", "a wait"),
        ("from time import sleep as pause", "a wait"),
        ("event.wait(5)", "a wait"),
        ("timer = loopingcall.FixedIntervalLoopingCall(look)", "a wait"),
        ("if node.provision_state == wanted: act()", "a provision state"),
        ("state = node.provision_state", "a provision state"),
        ("act() if node.target_provision_state else None", "a provision state"),
        ("handler = HANDLERS[node.provision_state]", "a provision state"),
        ("if node.state in FAILED: act()", "a provision state"),
        ("from bloomery.states import Provision", "a provision state"),
        ("if asked('it') in ('active', 'deploy failed'): act()", "a provision state"),
        ("match asked('it'):\n    case 'active': act()", "a provision state"),
        ("WHAT = {'deploy failed': act}", "a provision state"),
        ("for _ in range(3):\n    try:\n        act()\n    except OSError: pass", "a retry"),
        (
            "for pause in (1, 2, 4):\n    with that:\n        try:\n            act()\n        except OSError: pass",
            "a retry",
        ),
        ("def act():\n    try:\n        do()\n    except OSError:\n        return act()", "a retry"),
        ("@retrying(3)\ndef act(): pass", "a wait"),
    ],
)
def test_what_is_out_of_place_in_a_door_is_found(source: str, what: str) -> None:
    assert out_of_place(source) == {what}


@pytest.mark.parametrize("module", sorted((ROOT / "src/bloomery/doors/nova").glob("*.py")), ids=lambda path: path.stem)
def test_d56_an_error_is_told_by_its_kind_and_never_by_its_name(module: Path) -> None:
    parts = list(ast.walk(ast.parse(module.read_text())))
    caught = {name for part in parts if isinstance(part, ast.ExceptHandler) for name in kinds_caught(part)}
    assert not caught & {"", "Exception", "BaseException"}
    assert not [part.lineno for part in parts if isinstance(part, ast.Attribute) and part.attr == "__name__"]


def kinds_caught(handler: ast.ExceptHandler) -> set[str]:
    return {""} if handler.type is None else names_in(handler.type)


def test_the_driver_is_read_in_one_sitting() -> None:
    assert len((ROOT / "src/bloomery/doors/nova/driver.py").read_text().splitlines()) <= 600
