"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.secret import Secret

MARKED = "swordfish-7f3a"


@dataclass(frozen=True, slots=True)
class Holder:
    password: Secret[str]


SHOWN: dict[str, Callable[[Secret[str]], str]] = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "format": format,
    "format with a width": lambda secret: f"{secret:>40}",
    "%s": lambda secret: "%s" % secret,  # noqa: UP031
    "%r": lambda secret: "%r" % secret,  # noqa: UP031
    "str.format": lambda secret: "{0} {0!r}".format(secret),  # noqa: UP032
    "in a list": lambda secret: str([secret]),
    "in a mapping": lambda secret: repr({"password": secret}),
    "in a dataclass": lambda secret: repr(Holder(secret)),
    "pprint": lambda secret: pprint.pformat({"password": secret}),
    "in an exception": lambda secret: "".join(traceback.format_exception_only(ValueError(secret))),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_no_way_to_show_it_shows_it(show: Callable[[Secret[str]], str]) -> None:
    shown = show(Secret(MARKED))
    assert MARKED not in shown
    assert "******" in shown


@given(st.text(min_size=1))
def test_what_is_shown_does_not_depend_on_the_value(value: str) -> None:
    assert str(Secret(value)) == str(Secret("")) == "******"
    assert repr(Secret(value)) == repr(Secret(""))


def test_no_log_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("bloomery").debug("%s and %r", Secret(MARKED), {"it": Secret(MARKED)})
    assert MARKED not in caplog.text


ENCODED: dict[str, Callable[[Secret[str]], object]] = {
    "json": json.dumps,
    "msgspec": msgspec.json.encode,
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_it_is_not_encoded(encode: Callable[[Secret[str]], object]) -> None:
    with pytest.raises(TypeError) as refusal:
        encode(Secret(MARKED))
    assert MARKED not in str(refusal.value)


def test_whoever_asks_by_name_gets_the_value() -> None:
    value: dict[str, object] = {"meta_data": {}}
    assert Secret(value).reveal() is value


def test_secrets_are_equal_if_their_values_are_and_never_equal_to_a_bare_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_it_has_no_attributes_that_a_dump_would_find() -> None:
    assert not hasattr(Secret(MARKED), "__dict__")
    with pytest.raises(TypeError):
        vars(Secret(MARKED))
