"""Whatever a service answers, it is read or refused in our words: every decoder, true answers, and what is made of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.decoders import DECODERS, Decoder, feed, read

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
TRUE = [path for path in CORPUS if path.name.startswith("true-")]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, 1e308, -0.0),
    *("", " ", "0", "null", "\x00", "\x1b[31m\n", "\u202e", "\U0010ffff", "x" * 70_000, "9" * 5000, "true", "1e999"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-02-30", "0001-01-01T00:00:00"),
    *([], {}, [[]], [None], {"": None}, {"uuid": []}, [{}] * 50, {"a": {"b": {"c": {"d": [[[[]]]]}}}}),
]
BYTES = (
    *(
        b"",
        b"\x00",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"Infinity",
        b"-",
        b"1e999",
        b"9" * 5000,
        b'"',
        b"{",
        b"[",
        b"nul",
    ),
    *(b'"\\ud800"', b'{"uuid": "\\ud800\\udc00", "uuid": 1}', b'{"uuid": NaN}', b"[" * 100_000, b'{"extra":' * 100_000),
    *(b'{"uuid":"n","extra":' + b'{"bloomery":' * 400 + b"1" + b"}" * 401, b'{"uuid": "\xff"}', b" " * 100_000),
)


def decoder_of(path: Path) -> tuple[Decoder, bytes]:
    data = path.read_bytes()
    return DECODERS[data[0] % len(DECODERS)], data[1:]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_the_fuzzer_has_met_is_read_or_refused(path: Path) -> None:
    feed(path.read_bytes())


@pytest.mark.parametrize("path", TRUE, ids=lambda path: path.name)
def test_a_true_answer_is_read(path: Path) -> None:
    assert read(*decoder_of(path))


def test_every_decoder_has_a_true_answer() -> None:
    assert {path.read_bytes()[0] for path in TRUE} == set(range(len(DECODERS)))


@pytest.mark.parametrize("body", BYTES, ids=range(len(BYTES)))
def test_bytes_that_are_no_answer_are_refused_by_every_decoder(body: bytes) -> None:
    for decoder in DECODERS:
        read(decoder, body)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of the value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


def changed(value: Any, at: tuple[Any, ...], change: Any) -> Any:
    """The value with something else in one place; nothing at all for a change of `...`."""
    if not at:
        return None if change is ... else change
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    if change is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = change
    return value


@pytest.mark.parametrize("path", TRUE, ids=lambda path: path.name)
def test_a_true_answer_with_one_thing_wrong_is_read_or_refused(path: Path) -> None:
    decoder, body = decoder_of(path)
    answer = json.loads(body)
    for at in places(answer):
        for change in (*ODD, ...):
            read(decoder, json.dumps(changed(answer, at, change)).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(TRUE), changes=st.lists(st.tuples(st.integers(0, 10_000), JSON), min_size=1, max_size=6))
def test_a_true_answer_with_several_things_wrong_is_read_or_refused(path: Path, changes: list[tuple[int, Any]]) -> None:
    decoder, body = decoder_of(path)
    answer = json.loads(body)
    for number, change in changes:
        ways = list(places(answer))
        answer = changed(answer, ways[number % len(ways)], change)
    read(decoder, json.dumps(answer).encode(errors="surrogatepass"))


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    feed(data)
