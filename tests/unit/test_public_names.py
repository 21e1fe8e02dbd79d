"""What the package offers is what it says it offers, and each of it is explained."""

from __future__ import annotations

import inspect
import types

import pytest

import bloomery

DEFINED = {name for name in bloomery.__all__ if name != "__version__"}


def test_every_name_that_is_there_is_listed_and_every_name_that_is_listed_is_there() -> None:
    there = {
        name
        for name, value in vars(bloomery).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert there == DEFINED
    assert bloomery.__all__ == sorted(bloomery.__all__)
    assert len(set(bloomery.__all__)) == len(bloomery.__all__)


@pytest.mark.parametrize("name", sorted(DEFINED))
def test_every_name_is_explained(name: str) -> None:
    text = inspect.getdoc(getattr(bloomery, name))
    assert text
    assert text.splitlines()[0].rstrip().endswith((".", ":"))


def public_methods() -> list[tuple[str, str]]:
    return [
        (name, member)
        for name in sorted(DEFINED)
        if inspect.isclass(getattr(bloomery, name))
        for member, value in vars(getattr(bloomery, name)).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod))
    ]


@pytest.mark.parametrize(("name", "member"), public_methods())
def test_every_method_is_explained_and_annotated(name: str, member: str) -> None:
    attribute = inspect.getattr_static(getattr(bloomery, name), member)
    assert inspect.getdoc(attribute)
    function = getattr(attribute, "fget", None) or getattr(attribute, "__func__", attribute)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    parameters = list(signature.parameters.values())[1:]
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)


@pytest.mark.parametrize(("name", "member"), public_methods())
def test_switches_are_given_by_name(name: str, member: str) -> None:
    attribute = inspect.getattr_static(getattr(bloomery, name), member)
    function = getattr(attribute, "fget", None) or getattr(attribute, "__func__", attribute)
    for parameter in inspect.signature(function).parameters.values():
        if isinstance(parameter.default, bool):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert bloomery.__version__ == version("bloomery")
