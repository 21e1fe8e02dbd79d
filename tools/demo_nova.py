"""The demo of Nova's driver: the life of a server in a whole real Nova, by the command lines that its user would type.

`python tools/demo_nova.py [--keep]` is what `make demo-nova` runs. Nova's API, scheduler, conductor and nova-compute, and
Placement, run beside the lab's Ironic and Neutron; `compute_driver` is `bloomery.IronicDriver`. What becomes of a command is
followed in Nova and in Ironic; then those who know are asked whether it is so. Everything ends with the demo, however that ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import requests
import typer
import yaml
from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bloomery import lab
from bloomery.doors.cli import demo_proof as proof
from bloomery.doors.cli.demo import DemoFailed, Scene, Stage
from bloomery.doors.cli.demo_proof import Finding, Witnesses
from bloomery.doors.cli.exit_codes import CANCELLED
from nova_site import cloud
from nova_site.cloud import Cloud
from nova_site.drivers import OURS
from nova_site.site import NovaSite, Refused

STATE = Path(__file__).resolve().parent.parent / ".demo-nova"
LAB = lab.Options(nodes=2, deploy_seconds=3)
NAME = "web-1"
FLAVOR = "metal"
USER_DATA = "#cloud-config\npackages: [nginx]\n"
LOOK_S = 0.2
SCENE_TIMEOUT_S = 600.0
POWER = {1: "running", 4: "shut down"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The server as Nova and Ironic have it now."""

    status: str
    task: str
    progress: int
    node: str
    step: str
    is_marked: bool

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way; a node's mark goes with nova-compute's first look after the cleaning."""
        if self.status == "gone":
            return self.node == "available" and not self.is_marked
        return not self.task and self.status != "BUILD" and self.node in ("active", "rescue")


class Server:
    """The demo's one server, followed where it is known."""

    def __init__(self, nova: NovaSite) -> None:
        self.nova = nova
        self.id = ""
        self.node: lab.LabNode | None = None

    def look(self) -> Moment | None:
        """The server now; None before there is one."""
        if not self.id:
            rows = self.nova.call("GET", "servers")["servers"]
            if not rows:
                return None
            self.id = rows[0]["id"]
        self.node = self.node or self.nova.node_of(self.id)
        state, step, is_marked = "", "", False
        if self.node is not None:
            row = self.nova.ironic.node(self.node)
            state, is_marked = row["provision_state"], bool(row["extra"])
            running = row["deploy_step"] or row["clean_step"] or {}
            step = f"{running['interface']}.{running['step']}" if running else ""
        try:
            shown = self.nova.server(self.id)
        except Refused as refused:
            if refused.status != 404:
                raise
            return Moment(status="gone", task="", progress=0, node=state, step=step, is_marked=is_marked)
        if shown["status"] == "ERROR":
            raise DemoFailed(f"the server is in error: {shown.get('fault', {}).get('message')}")
        return Moment(
            status=shown["status"],
            task=shown["OS-EXT-STS:task_state"] or "",
            progress=shown.get("progress", 0),
            node=state,
            step=step,
            is_marked=is_marked,
        )


class NovaStage(Stage):
    """Where the demo is shown: a command line is over when what it began is over."""

    def __init__(self, console: Console, environment: dict[str, str], server: Server) -> None:
        super().__init__(console, environment, keep=False)
        self._server = server

    def _run(self, command: str) -> None:
        super()._run(command)
        self._follow()

    def _follow(self) -> None:
        started, last = time.monotonic(), None
        with self._console.status("", spinner="dots") as spinner:
            while True:
                now = self._server.look()
                after_s = time.monotonic() - started
                if now is None or (last is None and now.is_settled):
                    return
                # The percentage moves too often for a line of its own.
                if last is None or (now.status, now.task, now.node, now.step) != last:
                    self._console.print(_line(after_s, now), soft_wrap=True)
                    last = (now.status, now.task, now.node, now.step)
                if now.is_settled:
                    return
                if after_s > SCENE_TIMEOUT_S:
                    raise DemoFailed(f"after {after_s:.0f} s it still is {now}")
                spinner.update(_bar(now.progress) if now.status in ("BUILD", "REBUILD") else "")
                time.sleep(LOOK_S)


def _line(after_s: float, now: Moment) -> Text:
    ironic = f"Ironic: {now.node} {now.step}".rstrip() if now.node else ""
    percent = f"{now.progress:3} %" if now.status in ("BUILD", "REBUILD") and now.node else "     "
    return Text.assemble(
        (f"{after_s:6.1f} s  ", "dim"),
        (f"{now.status:<12}", "bold"),
        f"{now.task:<22}{percent}  ",
        (ironic, "cyan"),
    )


def _bar(percent: int) -> str:
    filled = percent * 40 // 100
    return f"progress  {'━' * filled}{'╌' * (40 - filled)} {percent:3} %"


def scenes(it: Cloud, server: Server, user_data: Path) -> tuple[Scene, ...]:
    """The demo's scenes, in their order; each begins where the one before it has ended."""
    first, second = it.lab.images["whole-disk"], it.lab.images["whole-disk-2"]

    def node() -> lab.LabNode:
        if server.node is None:
            raise DemoFailed("no node of Ironic's carries the server")
        return server.node

    def in_nova(_witnesses: Witnesses, *, status: str, power: str = "running") -> Iterator[Finding]:
        row = server.nova.server(server.id)
        yield Finding(asked="Nova", about="status", said=row["status"], wanted=status)
        yield Finding(
            asked="Nova", about="power state", said=POWER.get(row["OS-EXT-STS:power_state"], "other"), wanted=power
        )
        held = server.nova.allocations(server.id)
        names = {each.uuid: each.name for each in it.lab.nodes}
        said = ", ".join(f"{kind} of {names[provider]}" for provider, kinds in held.items() for kind in kinds)
        yield Finding(
            asked="Placement", about="allocated", said=said or "nothing", wanted=f"CUSTOM_BAREMETAL of {node().name}"
        )

    def runs(
        witnesses: Witnesses, *, status: str = "ACTIVE", state: str = "active", what: str = "disk"
    ) -> Iterator[Finding]:
        yield from in_nova(witnesses, status=status)
        yield from proof.of_node(witnesses, node().uuid, state=state)
        machine = witnesses.machine(node().uuid)
        yield Finding(asked="machine", about="runs", said=str(machine["running"]), wanted=what)

    def built(witnesses: Witnesses) -> Iterator[Finding]:
        yield from in_nova(witnesses, status="ACTIVE")
        yield from proof.of_node(witnesses, node().uuid)
        yield from proof.of_vifs(witnesses, node().uuid, ["private"])
        yield from proof.of_disk(witnesses, node().uuid, first)
        told = witnesses.on_config_drive(node().uuid, "user_data").decode()
        yield Finding(
            asked="config drive",
            about="user data",
            said="those given" if told == USER_DATA else "others",
            wanted="those given",
        )

    def rebuilt(witnesses: Witnesses) -> Iterator[Finding]:
        yield from in_nova(witnesses, status="ACTIVE")
        yield from proof.of_node(witnesses, node().uuid)
        yield from proof.of_disk(witnesses, node().uuid, second)

    def gone(witnesses: Witnesses) -> Iterator[Finding]:
        yield Finding(
            asked="Nova", about="server", said="known" if server.nova.exists(server.id) else "none", wanted="none"
        )
        held = server.nova.allocations(server.id)
        yield Finding(asked="Placement", about="allocated", said="something" if held else "nothing", wanted="nothing")
        yield from proof.of_cleanliness(witnesses, node().uuid, server.id)

    return (
        Scene(
            title="flavor",
            sentence="An operator says what can be had: a whole machine of that class.",
            command=(
                f"openstack --os-cloud admin flavor create {FLAVOR} -c name -c properties \\\n"
                "    --vcpus 8 --ram 16384 --disk 10 --property resources:CUSTOM_BAREMETAL=1 \\\n"
                "    --property resources:VCPU=0 --property resources:MEMORY_MB=0 --property resources:DISK_GB=0"
            ),
        ),
        Scene(
            title="create",
            sentence="A user asks for a server. Nova picks a machine by what Placement has, and the driver deploys it.",
            command=(
                f"openstack server create {NAME} -c name -c status \\\n"
                f"    --flavor {FLAVOR} --image whole-disk --network private \\\n"
                f"    --config-drive true --user-data {_as_typed(user_data)}"
            ),
            ask=built,
        ),
        Scene(
            title="diagnostics",
            sentence="What an operator wants to know of the machine below.",
            command=(
                f"openstack --os-cloud admin server show {NAME} --diagnostics \\\n"
                "    -c driver -c hypervisor -c state -c has_config_drive"
            ),
        ),
        Scene(
            title="console log",
            sentence="Ironic keeps no log of consoles; what it noted of the machine is shown instead.",
            command=f"openstack console log show {NAME}",
        ),
        Scene(
            title="reboot",
            sentence="Off and on again.",
            command=f"openstack server reboot --hard {NAME}",
            ask=runs,
        ),
        Scene(
            title="rebuild",
            sentence="Another image on the same machine, with the newest version of the API.",
            command=f"openstack server rebuild {NAME} -c name -c status --image whole-disk-2",
            ask=rebuilt,
        ),
        Scene(
            title="rescue",
            sentence="The machine boots a rescue system.",
            command=f"openstack server rescue {NAME}",
            ask=partial(runs, status="RESCUE", state="rescue", what="rescue"),
        ),
        Scene(
            title="unrescue",
            sentence="Back to its own system.",
            command=f"openstack server unrescue {NAME}",
            ask=runs,
        ),
        Scene(
            title="delete",
            sentence="The server goes, the machine is cleaned, and is free for the next.",
            command=f"openstack server delete {NAME}",
            ask=gone,
        ),
    )


def _as_typed(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def clouds(it: Cloud) -> Path:
    """Nova's users have a `clouds.yaml`: `demo` for one of them, and `admin`."""

    def entry(user: str) -> dict[str, object]:
        return {
            "region_name": "lab",
            "compute_api_version": "2.100",
            "auth": {
                "auth_url": f"{it.urls['neighbours']}/identity/v3",
                "username": user,
                "password": "any",
                "project_name": "demo",
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
        }

    path = it.folder / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"demo": entry("alice"), "admin": entry("admin")}}))
    return path


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything up until Ctrl-C, and say what to try.")
    ] = False,
) -> None:
    """Create, use and delete a server of a real Nova on a real Ironic, on this machine."""
    console = Console(highlight=False)
    # Whoever ends us politely gets what Ctrl-C gets.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    shutil.rmtree(STATE, ignore_errors=True)
    try:
        with ExitStack() as stack:
            it = _up(console, stack)
            _play(console, it, time.monotonic() - started)
            if keep:
                _wait_for_the_end(console, it)
            console.print("Taking everything down.")
    except (DemoFailed, lab.LabError, requests.RequestException, RuntimeError, AssertionError) as failure:
        console.print(Text.assemble(("error: ", "bold red"), str(failure)), soft_wrap=True)
        console.print(f"Nothing is left running; logs are in {_as_typed(STATE)}.")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left running")
        raise typer.Exit(CANCELLED) from None
    console.print(
        f"Nothing is left running; logs are in {_as_typed(STATE)}. That was the demo, in {time.monotonic() - started:.0f} s."
    )


def _up(console: Console, stack: ExitStack) -> Cloud:
    """Everything runs until the stack is closed."""
    console.print(
        Text("A whole Nova and Placement beside a real Ironic with virtual BMCs and a Neutron, here only.", "italic")
    )
    with console.status("preparing", spinner="dots") as spinner:

        def show(doing: str) -> None:
            spinner.update(doing)
            if not console.is_terminal:
                console.print(f"    {doing}")

        it = stack.enter_context(lab.running(LAB, STATE / "lab", progress=show))
        show("starting Nova's API, scheduler and conductor, and Placement")
        nova = stack.enter_context(cloud.running(it, STATE / "nova"))
        show("starting nova-compute")
        nova.start_compute(OURS)
        show("waiting for Placement to have the machines")
        with closing(NovaSite(nova, STATE / "nova")) as site:
            site.wait_until_schedulable()
    return nova


def _play(console: Console, it: Cloud, up_s: float) -> None:
    console.print(f"up after {up_s:.1f} s; nova-compute has one line that is ours:")
    console.print(Text(f"compute_driver = {OURS}", "bold"))
    config = clouds(it)
    console.print(
        Text.assemble(("$ ", "green"), (f"export OS_CLIENT_CONFIG_FILE={_as_typed(config)} OS_CLOUD=demo", "bold")),
        soft_wrap=True,
    )
    user_data = STATE / "user-data"
    user_data.write_text(USER_DATA)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_CLIENT_CONFIG_FILE": str(config),
        "OS_CLOUD": "demo",
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    with closing(NovaSite(it, STATE / "nova")) as nova, closing(Witnesses(it.lab)) as witnesses:
        server = Server(nova)
        stage = NovaStage(console, environment, server)
        stage.took_s["everything up"] = up_s
        for scene in scenes(it, server, user_data):
            stage.play(scene, witnesses)
    console.print()
    console.rule(Text("how long it took", "bold"), align="left", style="dim")
    console.print(stage.summary())


def _wait_for_the_end(console: Console, it: Cloud) -> None:
    """Somebody has pressed Ctrl-C."""
    suggestions = (
        ("in another terminal: where the commands are, and which cloud is meant", ""),
        ("", f"export PATH={Path(sys.executable).parent}:$PATH"),
        ("", f"export OS_CLIENT_CONFIG_FILE={it.folder / 'clouds.yaml'} OS_CLOUD=demo"),
        (
            "another server",
            f"openstack server create db-1 --flavor {FLAVOR} --image whole-disk --network private --wait",
        ),
        ("its progress, from yet another terminal", "watch -n 1 openstack server show db-1 -c status -c progress"),
        ("what Ironic says", f"curl -s {it.lab.ironic_url}/v1/nodes"),
        (
            "what Placement says",
            f"curl -s -H 'X-Auth-Token: admin' {it.urls['placement']}/resource_providers",
        ),
        ("what nova-compute does", f"tail -f {it.log / cloud.HOST}.log"),
    )
    console.print()
    console.rule(Text("everything is still up: what to try next", "bold"), align="left", style="dim")
    for why, command in suggestions:
        if why:
            console.print(Text(f"# {why}", "dim"))
        if command:
            console.print(command, soft_wrap=True, markup=False)
    console.print(Text("Ctrl-C here takes everything down.", "italic"))
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        console.print()


if __name__ == "__main__":
    typer.run(demo)
