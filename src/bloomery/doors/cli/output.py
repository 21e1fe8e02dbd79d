"""What goes to the user: tables, JSON, YAML and plain values; and nothing that his terminal would take for a command."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
import yaml
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bloomery.errors import InvalidRequest
from bloomery.plain import is_obeyed, visible

Row = Mapping[str, object]

_GAP = 2
_UNBOUNDED = 10_000
_STYLES = {
    "active": "green",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "error": "red",
    "deploy failed": "red",
    "clean failed": "red",
    "rescue failed": "red",
    "unrescue failed": "red",
    "service failed": "red",
}
_COLOURED = ("state", "verdict")


# How it is wanted


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    VALUE = "value"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="How the result is written.", rich_help_panel="Output")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", "-c", help="Only this column; may be repeated.", show_default=False, rich_help_panel="Output"
    ),
]
SortOption = Annotated[
    str | None,
    typer.Option(
        "--sort-column", help="The column to sort by; -NAME for descending.", show_default=False,
        rich_help_panel="Output",
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """How a result is wanted.

    Attributes:
        format: table, JSON ….
        columns: only these; empty means those that the command has by default, and in JSON and YAML all.
        sort_column: what to sort by.
    """

    format: Format = Format.TABLE
    columns: tuple[str, ...] = ()
    sort_column: str | None = None

    @classmethod
    def of(cls, written_as: Format, columns: Sequence[str] | None = None, sort_column: str | None = None) -> Shape:
        """As the options have it."""
        return cls(written_as, tuple(columns or ()), sort_column)


def note(text: str) -> None:
    """The user was told something that is not a result."""
    typer.echo(visible(text, keep_lines=True), err=True)


# Results


def print_rows(rows: Iterable[Row], shape: Shape, *, by_default: Sequence[str], all_columns: Sequence[str]) -> None:
    """The rows are on stdout.

    Args:
        rows: values by column.
        shape: how they are wanted.
        by_default: the columns of a table, the most important first: on a terminal, those that do not fit are left out.
        all_columns: every column that there is.

    Raises:
        InvalidRequest: there is no such column.
    """
    chosen = [_column(name, all_columns) for name in shape.columns]
    found = [{key: _plain(value) for key, value in row.items()} for row in rows]
    if shape.sort_column is not None:
        descending = shape.sort_column.startswith("-")
        key = _column(shape.sort_column.removeprefix("-"), all_columns)
        found.sort(key=lambda row: _sortable(row.get(key)), reverse=descending)
    match shape.format:
        case Format.JSON | Format.YAML:
            columns = chosen or list(all_columns)
            _print_data([{name: row.get(name) for name in columns} for row in found], shape.format)
        case Format.VALUE:
            for row in found:
                typer.echo(" ".join(_one_line(row.get(name)) for name in chosen or by_default))
        case Format.TABLE:
            _print_table(found, chosen or list(by_default), may_leave_out=not chosen)


def print_fields(row: Row, shape: Shape) -> None:
    """The values of one thing are on stdout.

    Raises:
        InvalidRequest: it has no such field.
    """
    plain = {key: _plain(value) for key, value in row.items()}
    chosen = [_column(name, list(plain)) for name in shape.columns] or list(plain)
    match shape.format:
        case Format.JSON | Format.YAML:
            _print_data({name: plain[name] for name in chosen}, shape.format)
        case Format.VALUE:
            for name in chosen:
                typer.echo(_one_line(plain[name]))
        case Format.TABLE:
            table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
            table.add_column(style="bold", no_wrap=True)
            table.add_column(overflow="fold")
            for name in chosen:
                lines = _lines(plain[name])
                table.add_row(name.replace("_", " "), Text("\n".join(lines), style=_style(name, lines[0])))
            _print(_stdout(), table)


def _print(console: Console, table: Table) -> None:
    """The table is on stdout, without the blanks that fill its last column."""
    with console.capture() as written:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in written.get().splitlines()), color=True)


def _stdout() -> Console:
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def _print_data(data: object, written_as: Format) -> None:
    if written_as is Format.JSON:
        text = json.dumps(data, indent=2, ensure_ascii=False)
        # Such a character can only be within a string, where JSON has its own spelling for it.
        text = "".join(json.dumps(char)[1:-1] if is_obeyed(char) and char != "\n" else char for char in text)
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False)
        if any(is_obeyed(character) and character != "\n" for character in text):
            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False, default_flow_style=False)
    typer.echo(text.rstrip("\n"))


def _print_table(rows: Sequence[Row], columns: list[str], *, may_leave_out: bool) -> None:
    console = _stdout()
    cells = [[_one_line(row.get(name)) for name in columns] for row in rows]
    widths = [
        max(cell_len(name), *(cell_len(line[index]) for line in cells)) if cells else cell_len(name)
        for index, name in enumerate(columns)
    ]
    shown: list[int] = []
    room = console.width + _GAP
    for index, width in enumerate(widths):
        if not may_leave_out or not shown or width + _GAP <= room:
            shown.append(index)
            room -= width + _GAP
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in shown:
        table.add_column(columns[index].replace("_", " ").upper(), overflow="fold")
    for line in cells:
        table.add_row(*(Text(line[index], style=_style(columns[index], line[index])) for index in shown))
    _print(console, table)
    left_out = [name for index, name in enumerate(columns) if index not in shown]
    if left_out:
        note(f"(no room for {', '.join(left_out)}; -c NAME or -f json shows them)")


def _column(name: str, columns: Sequence[str]) -> str:
    wanted = name.lower().replace(" ", "_").replace("-", "_")
    if wanted not in columns:
        raise InvalidRequest(f"there is no column {name!r}", advice=f"There are {', '.join(columns)}")
    return wanted


# Values


def fields_of(thing: object) -> dict[str, object]:
    """The fields of a dataclass, by name; nested ones as they are."""
    if not dataclasses.is_dataclass(thing):
        raise TypeError(f"{thing!r} is no dataclass")
    return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}


def _plain(value: object) -> object:
    """The value as JSON and YAML can carry it."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(part) for part in value]
        case _ if dataclasses.is_dataclass(value):
            return {key: _plain(part) for key, part in fields_of(value).items()}
        case _:
            return str(value)


def _one_line(value: object) -> str:
    return ", ".join(_lines(value))


def _lines(value: object) -> list[str]:
    """The value as a person reads it, an item a line."""
    match value:
        case None:
            return [""]
        case bool():
            return ["yes" if value else "no"]
        case list():
            return [_item(part) for part in value] or [""]
        case Mapping():
            return [f"{visible(str(key))}={_item(part)}" for key, part in value.items()] or [""]
        case _:
            return [visible(str(value))]


def _item(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{visible(str(key))}={_item(part)}" for key, part in value.items() if part not in (None, []))
    if isinstance(value, list):
        return ",".join(_item(part) for part in value)
    return _one_line(value)


def _sortable(value: object) -> tuple[int, float, str]:
    if isinstance(value, bool | int | float):
        return 0, float(value), ""
    return 1, 0.0, _one_line(value)


def _style(column: str, text: str) -> str:
    return _STYLES.get(text, "") if column in _COLOURED else ""
