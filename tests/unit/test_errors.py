"""The errors are the tree that is drawn, say what happened and what to do, and know where it was."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from bloomery import errors
from bloomery.errors import BloomeryError, NoNodeFits, RequestRefused, RollbackIncomplete

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BloomeryError) and kind.__module__ == errors.__name__
}
LEAF = re.compile(r"^(?P<indent>[│ ├└─]*)(?P<name>[A-Z]\w+)")


def drawn() -> dict[str, str | None]:
    """Each class of the tree in the module's docstring, with the one above it."""
    above: dict[int, str] = {}
    tree: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines()[2:]:
        found = LEAF.match(line)
        if found is None:
            continue
        depth = len(found["indent"]) // 3
        tree[found["name"]] = above.get(depth - 1)
        above[depth] = found["name"]
    return tree


def test_the_tree_that_is_drawn_is_the_tree_of_the_classes() -> None:
    def parent(kind: type) -> str | None:
        return next((base.__name__ for base in kind.__bases__ if base.__name__ in CLASSES), None)

    assert drawn() == {name: parent(kind) for name, kind in CLASSES.items()}


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_error_says_in_its_docstring_what_it_is(kind: type[BloomeryError]) -> None:
    assert kind.__doc__ is not None
    assert (kind.__doc__.splitlines()[0]).endswith(".")


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_error_can_be_raised_with_a_message_alone_and_pickled(kind: type[BloomeryError]) -> None:
    error = pickle.loads(pickle.dumps(kind("no luck", node_uuid="n1", step="attach VIFs")))  # noqa: S301
    assert type(error) is kind
    assert (error.message, error.node_uuid, error.step) == ("no luck", "n1", "attach VIFs")


def test_only_what_may_pass_by_itself_is_retryable() -> None:
    retryable = {name for name, kind in CLASSES.items() if kind.retryable}
    assert retryable == {"NodeLocked", "ServiceUnavailable", "AllocationFailed", "OperationTimedOut"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "it broke"),
        ({"reason": "a worm was in it"}, "it broke: a worm was in it"),
        ({"reason": "a worm was in it."}, "it broke: a worm was in it"),
        ({"advice": "Mend it"}, "it broke. Mend it"),
        ({"reason": "a worm was in it.", "advice": "Mend it."}, "it broke: a worm was in it. Mend it"),
    ],
)
def test_the_text_is_what_then_why_then_what_to_do(arguments: dict[str, str], text: str) -> None:
    assert str(BloomeryError("it broke", **arguments)) == text


def test_a_class_has_advice_of_its_own_unless_other_advice_is_given() -> None:
    assert "try again" in str(errors.NodeLocked("busy")).lower()
    assert str(errors.NodeLocked("busy", advice="Wait")) == "busy. Wait"
    assert str(errors.NodeLocked("busy", advice="")) == "busy"


def test_an_error_is_located_once_and_keeps_what_it_knew() -> None:
    error = BloomeryError("it broke", step="claim node")
    error.located(operation="deploy", step="attach VIFs", node_uuid="n1")
    error.located(operation="destroy", step="release node", node_uuid="n2")
    assert (error.operation, error.step, error.node_uuid) == ("deploy", "claim node", "n1")


def test_errors_with_details_keep_them() -> None:
    assert NoNodeFits("none", refusals={"n1": ("it is retired",)}).refusals == {"n1": ("it is retired",)}
    assert NoNodeFits("none").refusals == {}
    assert RequestRefused("no", status=418).status == 418
    assert RollbackIncomplete("stuck", left=("attach VIFs: no",)).left == ("attach VIFs: no",)


def test_bad_values_and_missing_things_are_also_pythons_own_kinds_of_error() -> None:
    assert issubclass(errors.InvalidRequest, ValueError)
    assert issubclass(errors.NodeNotFound, LookupError)
