"""Results fit the terminal, are read by machines, and hold nothing that a terminal would obey."""

from __future__ import annotations

import json
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bloomery.doors.cli.output import Format, Row, Shape, print_fields, print_rows
from bloomery.errors import InvalidRequest
from bloomery.plain import visible

NASTY = "a\x1b[31mred\x07\u202egnirts\x9b\u2028end\x7f"
COLUMNS = ("name", "state", "uuid", "note")
ROWS: list[Row] = [
    {"name": "web-2", "state": "active", "uuid": "6728ab4e-27dc-457b-b5d2-d6958180b839", "note": None},
    {"name": "web-10", "state": "deploy failed", "uuid": "f30e7e13-33f5-4de8-92e2-6e95e4dbfae2", "note": NASTY},
]


def obeyed(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


def printed(capsys: pytest.CaptureFixture[str], shape: Shape) -> str:
    capsys.readouterr()
    print_rows(ROWS, shape, by_default=COLUMNS, all_columns=COLUMNS)
    return capsys.readouterr().out


@given(st.text())
def test_nothing_that_a_terminal_obeys_passes(text: str) -> None:
    assert not obeyed(visible(text))
    assert "\n" not in visible(text)
    assert visible(text, keep_lines=True).count("\n") == text.count("\n")


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_plain_text_passes_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("written_as", list(Format))
def test_no_format_lets_control_characters_through(written_as: Format, capsys: pytest.CaptureFixture[str]) -> None:
    assert not obeyed(printed(capsys, Shape(written_as)))


def test_json_gives_back_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, Shape(Format.JSON))) == ROWS


def test_yaml_gives_back_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(printed(capsys, Shape(Format.YAML))) == ROWS


def test_values_are_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Shape(Format.VALUE, ("state", "name")))
    assert out == "active web-2\ndeploy failed web-10\n"


def test_columns_are_those_that_were_asked_for_in_that_order(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Shape(Format.TABLE, ("STATE", "name")))
    assert out.splitlines()[0].split() == ["STATE", "NAME"]


def test_rows_are_sorted_by_the_column_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    up = printed(capsys, Shape(Format.VALUE, ("name",), "state"))
    down = printed(capsys, Shape(Format.VALUE, ("name",), "-state"))
    assert up.split() == ["web-2", "web-10"]
    assert down.split() == ["web-10", "web-2"]


def test_an_unknown_column_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"there is no column 'colour'.*name, state, uuid, note"):
        printed(capsys, Shape(Format.TABLE, ("colour",)))


def test_a_table_on_a_terminal_fits_it_and_says_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "62")
    print_rows(ROWS, Shape(), by_default=COLUMNS, all_columns=COLUMNS)
    out, err = capsys.readouterr()
    plain = out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "6728ab4e-27dc-457b-b5d2-d6958180b839" in plain
    assert all(len(line) <= 62 for line in plain.splitlines())
    assert "NOTE" not in plain
    assert "no room for note" in err


def test_a_table_that_is_no_terminals_is_whole_and_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Shape())
    assert "\x1b" not in out
    assert "NOTE" in out
    assert len(out.splitlines()) == 3


def test_fields_of_one_thing_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"name": "web-1", "power_state": "power on", "vifs": ["one", "two"]}, Shape())
    assert [line.split(None, 1)[0] for line in capsys.readouterr().out.splitlines()] == ["name", "power", "vifs", "two"]
