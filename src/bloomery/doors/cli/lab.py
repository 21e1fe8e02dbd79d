"""`bloomery lab`: a real Ironic on this machine, up and down by one command each."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bloomery import lab
from bloomery.lab.ironic import OWN_NETWORKS
from bloomery.lab.service import tail
from bloomery.lab.vm import images as vm_images
from bloomery.plain import visible

app = typer.Typer(
    name="lab",
    help="A real Ironic with virtual BMCs, Neutron and an image server, on this machine only.",
    no_args_is_help=True,
)

_FAILED, _NOT_UP, _INTERRUPTED = 1, 3, 130

StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Folder that holds the lab. Default: $BLOOMERY_LAB, else ./.lab.", show_default=False),
]


@app.command()
def up(
    nodes: Annotated[int, typer.Option(help="How many nodes.", min=1)] = 4,
    kind: Annotated[lab.Kind, typer.Option(help="What drives the nodes.")] = lab.Kind.REDFISH,
    deploy_seconds: Annotated[int, typer.Option(help="How long writing an image takes.", min=0)] = 0,
    network: Annotated[bool, typer.Option(help="With Neutron, or without.")] = True,
    serve: Annotated[
        bool, typer.Option("--serve", help="With `bloomery serve` in front, until the lab goes down.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Bring a lab up; it stays until `down`."""
    console, started = Console(stderr=True, highlight=False), time.monotonic()
    with _plain_errors(console):
        companion = service_in(state or lab.default_state()) if serve else ()
        options = lab.Options(
            nodes=nodes, kind=kind, deploy_seconds=deploy_seconds, network=network, companion=companion
        )
        with console.status("starting") as spinner:

            def show(doing: str) -> None:
                spinner.update(doing)
                if not console.is_terminal:
                    console.print(f"{time.monotonic() - started:5.1f} s  {doing}")

            it = lab.up(options, state, progress=show)
    console.print(f"[green]up[/] after {time.monotonic() - started:.1f} s, in {escape(str(it.state))}")
    _show(it)


def service_in(state: Path) -> tuple[str, ...]:
    """The command line of a service whose log lies with the lab, and that offers the lab's images and networks."""
    folder = state.absolute()
    command = (sys.executable, "-m", "bloomery.doors.cli.app", "serve")
    return (
        *command,
        "--port",
        "{port}",
        "--state",
        str(folder / "service"),
        "--images",
        str(folder / "catalogue.yaml"),
        *(word for network in OWN_NETWORKS for word in ("--ironic-network", network)),
    )


@app.command("build-images")
def build_images(
    again: Annotated[bool, typer.Option("--again", help="Also if they are there: from the newest packages.")] = False,
) -> None:
    """Build the images of machines that really boot, once; `up --kind vm` does it too. Prints where they are."""
    console, started = Console(stderr=True, highlight=False), time.monotonic()
    with _plain_errors(console), console.status("looking") as spinner:

        def show(doing: str) -> None:
            spinner.update(doing)
            if not console.is_terminal:
                console.print(f"{time.monotonic() - started:5.1f} s  {doing}")

        files = vm_images.build(again=again, progress=show)
    for name, (path, _) in files.items():
        typer.echo(f"{name}\t{path}")


@app.command()
def down(state: StateOption = None) -> None:
    """Take the lab down; its logs stay in its folder."""
    console = Console(stderr=True, highlight=False)
    with _plain_errors(console):
        was_up = lab.down(state)
    console.print("down" if was_up else f"no lab is up in {escape(str(state or lab.default_state()))}")


@app.command()
def status(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is up, and the last words of a service that ended. Exit code 3: no lab is up; 1: it is not well."""
    console = Console(highlight=False)
    found = lab.status(state)
    if as_json:
        console.print_json(json.dumps(asdict(found), default=str))
    elif found.lab is None:
        coming = "coming up" if found.has_supervisor else "down"
        console.print(f"the lab in {escape(str(found.state))} is {coming}")
    else:
        _show(found.lab)
        for service in found.services:
            if not service.is_running:
                console.print(
                    f"[red]{service.name} ended[/] (exit code {service.exit_code}); {escape(str(service.log))}:"
                )
                console.print(*(f"  {escape(visible(line))}" for line in service.last_lines), sep="\n", soft_wrap=True)
    if not found.is_up:
        raise typer.Exit(_NOT_UP)
    if not found.is_well:
        raise typer.Exit(_FAILED)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="ironic, neutron, bmc, agent or images.")],
    state: StateOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the lab ends or Ctrl-C.")] = False,
) -> None:
    """Show a service's log; what a terminal would obey in it is spelled out."""
    with _plain_errors(Console(stderr=True, highlight=False)):
        path = lab.log_of(service, state)
        with path.open(errors="replace") as log:
            if lines:
                typer.echo(visible("\n".join(tail(path, lines=lines)), keep_lines=True))
            log.seek(0, 2)
            while follow:
                text = log.read()
                if text:
                    typer.echo(visible(text, keep_lines=True), nl=False)
                elif not lab.status(state).has_supervisor:
                    break
                else:
                    time.sleep(0.2)


@app.command()
def forward(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    address: Annotated[str, typer.Argument(help="An address that the machine has on its NICs.")],
    port: Annotated[int, typer.Argument(help="The port there.", min=1, max=65535)] = 22,
    state: StateOption = None,
) -> None:
    """Lead a port of this machine's loopback to a virtual machine; prints which. It lasts until that is switched off."""
    with _plain_errors(Console(stderr=True, highlight=False)):
        typer.echo(lab.forward(node, address, port, state))


def main() -> None:
    """The command line was carried out."""
    app()


def _show(it: lab.Lab) -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, url in (
        ("Ironic", it.ironic_url),
        ("Neutron", it.neutron_url),
        ("images", it.images_url),
        ("BMCs", it.bmc_url),
        ("machines", it.agent_url and f"{it.agent_url}/machines"),
        ("service", it.companion_url),
    ):
        if url:
            table.add_row(name, url)
    for kind in lab.Kind:
        names = [node.name for node in it.nodes if node.kind is kind]
        if names:
            table.add_row(f"{kind} nodes", names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}")
    console.print(table)
    console.print(f"export OS_CLIENT_CONFIG_FILE={escape(str(it.cloud_config))} OS_CLOUD={it.cloud}", soft_wrap=True)


@contextmanager
def _plain_errors(console: Console) -> Iterator[None]:
    try:
        yield
    except lab.LabError as error:
        _fail(console, error.message, _FAILED)
    except KeyboardInterrupt:
        _fail(console, "interrupted", _INTERRUPTED)


def _fail(console: Console, message: str, exit_code: int) -> NoReturn:
    console.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    main()
