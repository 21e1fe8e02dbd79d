"""`bloomery`: the root of the command, its global options, and the place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import inspect
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

import bloomery
from bloomery.doors.cli import (
    console,
    deploying,
    doctor,
    instances,
    interfaces,
    lab,
    leaks,
    nodes,
    power,
    rescue,
    serve,
    volumes,
)
from bloomery.doors.cli.cloud import CLOUD_OPTIONS, Invocation, secrets_among
from bloomery.doors.cli.exit_codes import CANCELLED, NOT_WELL, exit_code_of
from bloomery.doors.cli.output import note
from bloomery.doors.cli.running import report
from bloomery.errors import BloomeryError
from bloomery.plain import visible
from bloomery.secret import hide_arguments, keep_memory_private

_CLOUD = "Cloud"
_OUTPUT_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

app = typer.Typer(
    name="bloomery",
    help="Instances on the bare-metal nodes of OpenStack Ironic.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for part in (deploying, instances, rescue, power, console, interfaces, volumes, nodes, doctor, leaks, serve):
    app.add_typer(part.app)
app.add_typer(lab.app)


def _root(ctx: typer.Context, **given: str | bool | None) -> None:
    """The invocation knows what its global options say."""
    given.pop("version")
    invocation = ctx.ensure_object(Invocation)
    is_debugging, is_verbose = bool(given.pop("debug")), bool(given.pop("verbose"))
    invocation.is_debugging = is_debugging
    invocation.use_lab = bool(given.pop("lab"))
    service = given.pop("service")
    invocation.service = str(service) if service else None
    invocation.options = {name: value for name, value in given.items() if value is not None}
    _log_to_stderr(logging.DEBUG if is_debugging else logging.INFO if is_verbose else None)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(bloomery.__version__)
        raise typer.Exit


def _parameter(name: str, kind: Any, default: bool | None, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _flag(name: str, help_text: str, *more: str) -> inspect.Parameter:
    return _parameter(name, bool, False, typer.Option(f"--{name}", *more, help=help_text))


def _cloud_option(name: str, help_text: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=help_text, show_default=False, rich_help_panel=_CLOUD)
    return _parameter(name, str | None, None, option)


# The options as a table instead of thirty parameters that nobody reads one by one; typer asks for the signature.
_root.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        _flag("lab", "Work on the lab of this folder."),
        _parameter(
            "service",
            str | None,
            None,
            typer.Option(
                "--service",
                metavar="URL",
                envvar="BLOOMERY_SERVICE",
                show_default=False,
                help="Work through a service (`bloomery serve`), instead of on Ironic.",
            ),
        ),
        _flag("verbose", "Tell what is done.", "-v"),
        _flag("debug", "Tell everything but secrets, and show tracebacks."),
        _parameter(
            "version",
            bool,
            False,
            typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
        ),
        *(_cloud_option(name, help_text) for name, help_text in CLOUD_OPTIONS.items()),
        _parameter(
            "insecure",
            bool | None,
            None,
            typer.Option(
                "--insecure/--verify",
                help="Check no certificates, or do.",
                show_default=False,
                rich_help_panel=_CLOUD,
            ),
        ),
    ]
)
app.callback()(_root)


class _Lines(logging.Formatter):
    """A line for each record, as a terminal may have it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return visible(super().format(record), keep_lines=True)


def _log_to_stderr(level: int | None) -> None:
    """What Bloomery logs from this level on is on stderr, and nothing else is."""
    logging.getLogger().handlers = [logging.NullHandler()]
    logger = logging.getLogger("bloomery")
    logger.handlers = []
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command was carried out, and this process ends with its exit code.

    Global options may stand before or behind the command, as with the openstack command.
    """
    if arguments is None:
        hide_arguments(secrets_among(sys.argv))
        keep_memory_private()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    invocation = Invocation()
    command = typer.main.get_command(app)
    given = _global_options_first(command.params, list(sys.argv[1:] if arguments is None else arguments))
    try:
        command.main(given, prog_name="bloomery", obj=invocation)
    except BloomeryError as error:
        report(error)
        if invocation.is_debugging:
            note("".join(traceback.format_exception(error)))
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(CANCELLED)
    except Exception as bug:  # noqa: BLE001  no traceback for users
        if invocation.is_debugging:
            note("".join(traceback.format_exception(bug)))
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        if isinstance(bug, OSError) and bug.errno in _OUTPUT_IS_FULL:
            note(f"what was to be shown could not be written: {bug.strerror}. What had been done before stands")
        else:
            note(f"Bloomery has a bug here: {type(bug).__name__}: {bug}. `--debug` shows where; please report it")
        sys.exit(NOT_WELL)
    finally:
        # Whoever called this may close the stream that the handler writes to, and threads that are left would log on.
        logging.getLogger("bloomery").handlers.clear()
    sys.exit(0)


def _global_options_first(parameters: Sequence[object], given: list[str]) -> list[str]:
    """The arguments, with global options taken from behind the command to its front."""
    with_value: set[str] = set()
    alone: set[str] = set()
    for parameter in parameters:
        names = [*getattr(parameter, "opts", ()), *getattr(parameter, "secondary_opts", ())]
        if not any(name.startswith("--os-") for name in names):
            # --help and completion belong to where they stand.
            names = [
                name
                for name in names
                if name in ("--lab", "--service", "--insecure", "--verify", "--debug", "--verbose", "-v")
            ]
        (alone if getattr(parameter, "is_flag", False) else with_value).update(names)
    front: list[str] = []
    rest: list[str] = []
    waiting = list(given)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            rest += ["--", *waiting]
            break
        if argument in alone or ("=" in argument and argument.partition("=")[0] in with_value):
            front.append(argument)
        elif argument in with_value:
            front += [argument, *waiting[:1]]
            del waiting[:1]
        else:
            rest.append(argument)
    return front + rest


if __name__ == "__main__":
    main()
