"""Every command, option and exit code has help and stands in docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bloomery.doors.cli.app import app
from bloomery.doors.cli.exit_codes import EXIT_CODES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
_OF_TYPER = {"--help", "-h", "--install-completion", "--show-completion"}


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every command below this one, and itself, by its words."""
    yield " ".join(words), command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


EVERY = dict(commands(typer.main.get_command(app), ("bloomery",)))


SHARED = PAGE.split("\n## Options that several commands have\n")[1].split("\n## ")[0]


def section_of(command: str) -> str:
    """The part of the page under the command's own heading."""
    parts = [part for part in PAGE.split("\n#") if part.lstrip("#").split("\n")[0].strip() == f"`{command}`"]
    assert len(parts) == 1, f"docs/cli.md has {len(parts)} sections with the heading `{command}`"
    return parts[0]


@pytest.mark.parametrize("command", EVERY)
def test_a_command_is_documented_with_all_its_options(command: str) -> None:
    assert EVERY[command].help
    section = section_of(command) + SHARED
    for parameter in EVERY[command].params:
        names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name not in _OF_TYPER]
        if not names:
            continue
        assert parameter.help, f"{command}: {names[0]} has no help"
        if parameter.param_type_name == "argument":
            assert parameter.metavar or parameter.name
            continue
        for name in names:
            assert f"`{name}`" in section or f"`{name} " in section, f"docs/cli.md: {command} lacks {name}"


@pytest.mark.parametrize("error", sorted(EXIT_CODES, key=str))
def test_an_exit_code_is_documented_with_its_errors(error: type[Exception]) -> None:
    code = EXIT_CODES[error]  # type: ignore[index]
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {code} ")]
    assert len(rows) == 1, f"docs/cli.md has {len(rows)} rows for exit code {code}"
    assert f"`{error.__name__}`" in rows[0]
