"""The demo: the whole life of an instance on a real Ironic, here, by the command lines that a user would type.

`python -m bloomery.doors.cli.demo [--keep]` is what `make demo` runs; with `--serve` somebody plays it
himself, in the web page. After each command line those who know are asked
whether it did what it says (`demo_proof`); the first answer that is another than it has to be ends the demo with an error.
The lab ends with the demo, however that ends, unless it is to be kept.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import requests
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bloomery import lab
from bloomery.doors.cli import demo_proof as proof
from bloomery.doors.cli.demo_proof import Finding, Witnesses
from bloomery.doors.cli.exit_codes import CANCELLED
from bloomery.doors.cli.lab import service_in
from bloomery.lab.service import die_with_parent

LAB = lab.Options(nodes=3)
DEPLOY_S = 6
"""How long an image is written for somebody who watches."""
NAME = "web-1"
USER_DATA = b"#cloud-config\npackages: [nginx]\n"

Ask = Callable[[Witnesses], Iterable[Finding]]


class DemoFailed(Exception):
    """A command failed, or did not do what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One command line of the demo.

    Attributes:
        title: what happens, in a word or two.
        sentence: what is to be seen.
        command: the command line, as a user would type it.
        ask: what those who know are asked afterwards.
    """

    title: str
    sentence: str
    command: str
    ask: Ask = lambda _witnesses: ()


def scenes(it: lab.Lab, folder: Path, ssh_key: str) -> tuple[Scene, ...]:
    """The demo's scenes, in their order; each begins where the one before it has ended.

    Args:
        it: the lab.
        folder: where the files lie that the command lines name.
        ssh_key: the public key that is in one of them.
    """
    first, second = it.images["whole-disk"], it.images["whole-disk-2"]
    checksums = f"{it.images_url}/SHA256SUMS"
    home: list[str] = []

    def node(witnesses: Witnesses) -> str:
        if not home:
            carrying = witnesses.node_with_instance()
            home.extend((carrying["uuid"], carrying["instance_uuid"]))
        return home[0]

    def deployed(witnesses: Witnesses) -> Iterator[Finding]:
        yield from proof.of_node(witnesses, node(witnesses))
        yield from proof.of_vifs(witnesses, node(witnesses), ["private", "storage"])
        yield from proof.of_disk(witnesses, node(witnesses), first)
        yield from proof.of_config_drive(
            witnesses, node(witnesses), name=NAME, ssh_key=ssh_key, user_data=USER_DATA, networks=2
        )

    def runs(witnesses: Witnesses, *, what: str, state: str) -> Iterator[Finding]:
        yield from proof.of_node(witnesses, node(witnesses), state=state)
        yield Finding(
            asked="machine", about="runs", said=str(witnesses.machine(node(witnesses))["running"]), wanted=what
        )

    def rebuilt(witnesses: Witnesses) -> Iterator[Finding]:
        yield from proof.of_node(witnesses, node(witnesses))
        yield from proof.of_disk(witnesses, node(witnesses), second)

    def wired(witnesses: Witnesses, *, networks: list[str]) -> Iterator[Finding]:
        yield from proof.of_vifs(witnesses, node(witnesses), networks)

    def gone(witnesses: Witnesses) -> Iterator[Finding]:
        yield from proof.of_cleanliness(witnesses, node(witnesses), home[1])

    return (
        Scene(
            title="look around",
            sentence="Three machines, switched off and free.",
            command="bloomery nodes -c name -c state -c power_state -c resource_class -c traits",
        ),
        Scene(
            title="deploy",
            sentence="Ironic picks a machine of the class, wires it to two networks, writes the image and boots it.",
            command=(
                f"bloomery deploy {NAME} --resource-class baremetal \\\n"
                f"    --image {first.url} \\\n"
                f"    --checksum {checksums} \\\n"
                f"    --network private --network storage \\\n"
                f"    --ssh-key {as_typed(folder / 'key.pub')} --user-data {as_typed(folder / 'user-data')}"
            ),
            ask=deployed,
        ),
        Scene(
            title="show",
            sentence="The same, or any part of it, for programs to read.",
            command=f"bloomery show {NAME} -f yaml -c state -c power_state -c vifs",
        ),
        Scene(
            title="reboot",
            sentence="Off and on again; done when the power has really come back.",
            command=f"bloomery reboot {NAME}",
            ask=partial(runs, what="disk", state="active"),
        ),
        Scene(
            title="rescue",
            sentence="The machine boots a rescue system; the password that opens it is shown once, here, and kept nowhere.",
            command=f"bloomery rescue {NAME}",
            ask=partial(runs, what="rescue", state="rescue"),
        ),
        Scene(
            title="unrescue",
            sentence="Back to its own system.",
            command=f"bloomery unrescue {NAME}",
            ask=partial(runs, what="disk", state="active"),
        ),
        Scene(
            title="rebuild",
            sentence="Another image on the same machine; addresses stay.",
            command=(
                f"bloomery rebuild {NAME} -c name -c image -c state -c power_state \\\n"
                f"    --image {second.url} \\\n"
                f"    --checksum {checksums}"
            ),
            ask=rebuilt,
        ),
        Scene(
            title="detach",
            sentence="While it runs, the storage network is unplugged; its VIF was made by us, so it goes.",
            command=f"bloomery detach {NAME} {NAME}-1",
            ask=partial(wired, networks=["private"]),
        ),
        Scene(
            title="attach",
            sentence="Another network takes its place, with an IPv4 and an IPv6 address.",
            command=f"bloomery attach {NAME} --network dual",
            ask=partial(wired, networks=["dual", "private"]),
        ),
        Scene(
            title="destroy",
            sentence="The instance goes, the machine is cleaned, and is free for the next.",
            command=f"bloomery destroy {NAME} --wait-for-cleaning --yes",
            ask=gone,
        ),
    )


def as_typed(path: Path) -> str:
    """The path as somebody in this folder would type it."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


# The stage


class Stage:
    """Where the demo is shown: sentences, command lines, what the commands themselves write, and findings."""

    def __init__(self, console: Console, environment: dict[str, str], *, keep: bool) -> None:
        self._console = console
        self._environment = environment
        self._keep = keep
        self.took_s: dict[str, float] = {}

    def play(self, scene: Scene, witnesses: Witnesses) -> None:
        """The scene was shown, and everybody asked found it right.

        Raises:
            DemoFailed: the command failed, or somebody found it wrong.
        """
        self._console.print()
        self._console.rule(Text(scene.title, "bold"), align="left", style="dim")
        self._console.print(Text(scene.sentence, "italic"))
        self._console.print(Text.assemble(("$ ", "green"), (scene.command, "bold")), soft_wrap=True)
        started = time.monotonic()
        self._run(scene.command)
        self.took_s[scene.title] = time.monotonic() - started
        findings = list(scene.ask(witnesses))
        self._show(findings)
        wrong = [finding for finding in findings if not finding.is_right]
        if wrong:
            raise DemoFailed(
                f"after {scene.title}, "
                + "; ".join(f"{it.asked} has {it.said!r} as {it.about}, and not {it.wanted!r}" for it in wrong)
            )

    def _run(self, command: str) -> None:
        words = shlex.split(command.replace("\\\n", ""))
        # A command that is interrupted asks what to do with what it has begun, if there is somebody to be asked. Here there
        # is only where its lab outlives it.
        keys = None if self._keep else subprocess.DEVNULL
        with subprocess.Popen(  # noqa: S603
            words, stdin=keys, env=self._environment, preexec_fn=die_with_parent
        ) as process:
            try:
                exit_code = process.wait()
            except KeyboardInterrupt:
                if not self._keep:
                    process.kill()
                    self._console.show_cursor()
                process.wait()
                raise
        if exit_code:
            raise DemoFailed(f"`{words[0]} {words[1]}` ended with exit code {exit_code}")

    def _show(self, findings: Iterable[Finding]) -> None:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for finding in findings:
            mark, said = ("✓", Text(finding.said)) if finding.is_right else ("✗", Text(finding.said, "red"))
            table.add_row(
                Text(mark, "green" if finding.is_right else "red"), Text(finding.asked, "cyan"), finding.about, said
            )
        if table.row_count:
            self._console.print(Text("Is that so? Those who know are asked directly:", "italic"))
            self._console.print(table)

    def summary(self) -> Table:
        """How long everything took."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column()
        table.add_column(justify="right")
        for title, took_s in self.took_s.items():
            table.add_row(title, f"{took_s:.1f} s")
        return table


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up, and say what to try next.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show nothing, but have the web page served for whoever wants to try it.")
    ] = False,
) -> None:
    """Deploy, use and destroy an instance on a real Ironic, on this machine."""
    console = Console(highlight=False)
    options = lab.Options(nodes=4, deploy_seconds=DEPLOY_S, companion=service_in(lab.default_state())) if serve else LAB
    # Whoever ends us politely gets what Ctrl-C gets.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            it = stack.enter_context(a_lab(console, options, keep=keep))
            up_s = time.monotonic() - started
            if serve:
                _say_what_the_page_can(console, it, keep=keep)
                if not keep:
                    signal.pause()
                return
            _play(console, it, up_s, keep=keep)
            if not keep:
                console.print("Taking the lab down.")
    except (DemoFailed, lab.LabError, requests.RequestException) as failure:
        console.print(Text.assemble(("error: ", "bold red"), str(failure)), soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted; " + ("`bloomery lab down` takes the lab down" if keep else "the lab is down"))
        raise typer.Exit(CANCELLED) from None
    if keep:
        _say_what_to_try(console, it)
    else:
        console.print(f"Nothing is left running. That was the demo, in {time.monotonic() - started:.0f} s.")


@contextmanager
def a_lab(console: Console, wanted: lab.Options, *, keep: bool) -> Iterator[lab.Lab]:
    """A lab is up; one that is not kept ends with the block, or with this process."""
    machines = "virtual machines that really boot" if wanted.kind is lab.Kind.VM else "virtual BMCs"
    console.print(
        Text(f"A real Ironic with {machines}, a Neutron and an image server, on this machine only.", "italic")
    )
    deploying = f" --deploy-seconds {wanted.deploy_seconds}" if wanted.deploy_seconds else ""
    kind = f" --kind {wanted.kind}" if wanted.kind is not LAB.kind else ""
    words = f"bloomery lab up --nodes {wanted.nodes}{kind}{deploying}{' --serve' if wanted.companion else ''}"
    console.print(Text.assemble(("$ ", "green"), (words, "bold")))
    with console.status("preparing", spinner="dots") as spinner:

        def show(doing: str) -> None:
            spinner.update(doing)
            if not console.is_terminal:
                console.print(f"    {doing}")

        with ExitStack() as stack:
            it = lab.up(wanted, progress=show) if keep else stack.enter_context(lab.running(wanted, progress=show))
            spinner.stop()
            yield it


def _play(console: Console, it: lab.Lab, up_s: float, *, keep: bool) -> None:
    console.print(f"up after {up_s:.1f} s; its clouds.yaml is all that a client needs")
    exported = f"OS_CLIENT_CONFIG_FILE={as_typed(it.cloud_config)} OS_CLOUD={it.cloud}"
    console.print(Text.assemble(("$ ", "green"), (f"export {exported}", "bold")), soft_wrap=True)
    folder = it.state / "demo"
    ssh_key = _write_files(folder)
    stage = Stage(console, environment_of(it), keep=keep)
    stage.took_s["lab up"] = up_s
    with closing(Witnesses(it)) as witnesses:
        for scene in scenes(it, folder, ssh_key):
            stage.play(scene, witnesses)
    console.print()
    console.rule(Text("how long it took", "bold"), align="left", style="dim")
    console.print(stage.summary())


def environment_of(it: lab.Lab) -> dict[str, str]:
    """The variables with which a command line means the lab."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_CLIENT_CONFIG_FILE": str(it.cloud_config),
        "OS_CLOUD": it.cloud,
        # The command of this installation, whatever else is installed.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _write_files(folder: Path) -> str:
    """The folder holds user data and a public SSH key, which is returned; nobody has the private half."""
    folder.mkdir(mode=0o700, exist_ok=True)
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    ssh_key = f"{key.decode()} demo"
    (folder / "key.pub").write_text(f"{ssh_key}\n")
    (folder / "user-data").write_bytes(USER_DATA)
    return ssh_key


def _say_what_to_try(console: Console, it: lab.Lab) -> None:
    image = it.images["whole-disk"]
    several = (
        "bloomery deploy db --count 3 --resource-class baremetal --network private \\\n"
        f"    --image {image.url} --checksum sha256:{image.sha256}"
    )
    suggestions = (
        (
            "where the commands are, and which cloud is meant",
            f"export PATH={as_typed(Path(sys.executable).parent)}:$PATH",
        ),
        ("", f"export OS_CLIENT_CONFIG_FILE={as_typed(it.cloud_config)} OS_CLOUD={it.cloud}"),
        ("three instances at once; Ctrl-C half-way, and nothing is left of them", several),
        ("why a machine cannot be had", "bloomery nodes --why-not --resource-class baremetal --trait CUSTOM_GPU"),
        ("what would be called, and nothing changed", "bloomery destroy db-1 --dry-run"),
        ("what Ironic itself says", f"curl -s {it.ironic_url}/v1/nodes"),
        ("what Ironic does meanwhile", "bloomery lab logs ironic --follow"),
        ("and in the end", "bloomery lab down"),
    )
    console.print()
    console.rule(Text("the lab is still up: what to try next", "bold"), align="left", style="dim")
    for why, command in suggestions:
        if why:
            console.print(Text(f"# {why}", "dim"))
        console.print(command, soft_wrap=True, markup=False)


def _say_what_the_page_can(console: Console, it: lab.Lab, *, keep: bool) -> None:
    console.print()
    console.rule(Text("the page", "bold"), align="left", style="dim")
    console.print(
        Text.assemble("Open ", (f"{it.companion_url}/", "bold underline"), " in a browser on this machine. Then:")
    )
    for number, (what, how) in enumerate(
        (
            (
                "deploy",
                "Deploy, at the top: take an image from the list, tick the network private, press Deploy, and watch",
            ),
            (
                "its console",
                "its name leads to it; Console, Start the console; press Enter there, give any name, try help",
            ),
            ("destroy", "Destroy, on the instance; its name has to be typed, because nothing of it is left afterwards"),
        ),
        1,
    ):
        console.print(Text.assemble((f"  {number}. {what}", "bold"), f": {how}"), soft_wrap=True)
    console.print(Text("`bloomery lab down` takes it all down" if keep else "Ctrl-C takes it all down", "italic"))


def main() -> None:
    """The demo was shown."""
    typer.run(demo)


if __name__ == "__main__":
    main()
