"""The demo with a machine that really boots: what is shown is seen from inside it.

`python -m bloomery.doors.cli.demo_vm [--keep]` is what `make demo-vm` runs. The machine is virtual, everything between
Bloomery and its login prompt is real: Ironic, its deploy agent, the image, cloud-init. What a scene claims is asked on the
machine itself, over SSH; the first answer that is another than it has to be ends the demo with an error.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated

import requests
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console
from rich.text import Text

from bloomery import lab
from bloomery.doors.cli.demo import DemoFailed, Scene, Stage, a_lab, as_typed, environment_of
from bloomery.doors.cli.demo_proof import Finding, Witnesses
from bloomery.doors.cli.exit_codes import CANCELLED
from bloomery.lab.vm.disks import holds, is_blank
from bloomery.lab.vm.login import Login

LAB = lab.Options(nodes=1, kind=lab.Kind.VM)
NAME = "web-1"
ADDRESS = "10.20.5.10"
MARKER = "the former tenant was here"
BOOT_TIMEOUT_S = 1200.0
"""Under emulation, on a machine that has other things to do, a system takes minutes to come up."""
SHUT_DOWN_S = 600
"""And to go down."""


class Inside:
    """The instance, asked on the machine itself."""

    def __init__(self, it: lab.Lab, folder: Path) -> None:
        self.lab = it
        self.key = folder / "key"
        self.disks = [it.state / "machines" / it.nodes[0].name / f"disk-{number}.raw" for number in (0, 1)]

    def login(self) -> Login:
        """A way in, once the system has come up."""
        port = lab.forward(self.lab.nodes[0].name, ADDRESS, 22, self.lab.state)
        login = Login(port=port, user="debian", key=self.key)
        login.wait(timeout_s=BOOT_TIMEOUT_S)
        # Whoever is let in early finds a system that is still being set up.
        login.run("cloud-init status --wait >/dev/null || true")
        return login

    def says(self, about: str, command: str, wanted: str, login: Login) -> Finding:
        """What the machine says, beside what it has to."""
        return Finding(asked="inside", about=about, said=login.run(command).strip(), wanted=wanted)


def of_instance(inside: Inside, image: str) -> Iterator[Finding]:
    """The instance is what was asked for, seen from inside and on its disks."""
    login = inside.login()
    macs = inside.lab.nodes[0].mac_addresses
    bond = json.loads(login.run("ip -j address show bond0"))[0]
    yield inside.says("image", "cat /etc/lab-image", image, login)
    yield inside.says("host name", "hostname", NAME, login)
    yield inside.says("user data", "cat /var/lib/lab/user-data", "ran", login)
    addresses = [each["local"] for each in bond["addr_info"] if each["family"] == "inet"]
    yield Finding(asked="inside", about="address of bond0", said=", ".join(addresses), wanted=ADDRESS)
    members = login.run("cat /sys/class/net/bond0/bonding/slaves").split()
    own = [login.run(f"cat /sys/class/net/{shlex.quote(nic)}/bonding_slave/perm_hwaddr") for nic in sorted(members)]
    yield Finding(asked="inside", about="NICs in bond0", said=", ".join(sorted(own)), wanted=", ".join(sorted(macs)))
    yield inside.says("mode of bond0", "cut -d' ' -f1 /sys/class/net/bond0/bonding/mode", "active-backup", login)
    disk = "lsblk -dno SERIAL /dev/$(lsblk -no PKNAME $(findmnt -no SOURCE /))"
    yield inside.says("disk with the system", disk, "LAB-0-B", login)
    said = "untouched" if is_blank(inside.disks[0]) else "written to"
    yield Finding(asked="disk", about="LAB-0-A", said=said, wanted="untouched")


def play(console: Console, it: lab.Lab, *, keep: bool) -> Stage:
    """Every scene was shown and found right; returns the stage with the times."""
    folder = it.state / "demo"
    key = _write_files(folder)
    stage = Stage(console, environment_of(it), keep=keep)
    inside = Inside(it, folder)
    first, second = it.images["debian"], it.images["debian-2"]
    checksums = f"{it.images_url}/SHA256SUMS"

    def ssh() -> str:
        login = inside.login()
        return shlex.join(["ssh", *login.options, f"{login.user}@127.0.0.1"])

    with closing(Witnesses(it)) as witnesses:

        def show(title: str, sentence: str, command: str, ask: Callable[[], Iterable[Finding]]) -> None:
            stage.play(Scene(title=title, sentence=sentence, command=command, ask=lambda _witnesses: ask()), witnesses)

        show(
            "deploy",
            "Ironic picks a machine of the class and boots the deploy agent on it, which writes the image; then the machine "
            "boots that.",
            f"bloomery deploy {NAME} --resource-class baremetal.vm \\\n"
            f"    --image {first.url} \\\n"
            f"    --checksum {checksums} \\\n"
            f"    --network private --ip {ADDRESS} --static-addresses --root-device serial=LAB-0-B \\\n"
            f"    --ssh-key {as_typed(key)} --user-data {as_typed(folder / 'user-data')}",
            partial(of_instance, inside, "debian"),
        )
        node = witnesses.node_with_instance()
        home, instance_uuid = str(node["uuid"]), str(node["instance_uuid"])
        console.print(Text("The way in is a port of loopback: `bloomery lab forward` opens it.", "italic"))
        show(
            "log in",
            "With the key, as anybody would.",
            f"{ssh()} 'uptime; ip -brief address; lsblk -o NAME,SIZE,SERIAL'",
            lambda: (),
        )
        boot = inside.login().run("cat /proc/sys/kernel/random/boot_id")
        show(
            "reboot",
            "The power button is pressed; the system notices, ends in peace and comes up again.",
            f"bloomery reboot {NAME} --soft {SHUT_DOWN_S} --timeout {BOOT_TIMEOUT_S:.0f}",
            lambda: _rebooted(inside, boot),
        )
        show(
            "rebuild",
            "Another image on the same machine; name, key and address stay.",
            f"bloomery rebuild {NAME} -c name -c image -c state -c power_state \\\n"
            f"    --image {second.url} \\\n"
            f"    --checksum {checksums}",
            lambda: _rebuilt(inside),
        )
        show(
            "destroy",
            "The instance goes; the agent comes once more and writes over every byte of every disk.",
            f"bloomery destroy {NAME} --wait-for-cleaning --yes",
            lambda: _gone(witnesses, inside, home, instance_uuid),
        )
    return stage


def _rebuilt(inside: Inside) -> Iterator[Finding]:
    """The instance has the other image; and something is on the disk now that the next tenant must not find."""
    yield from of_instance(inside, "debian-2")
    inside.login().run(f"echo {MARKER} | sudo tee /etc/marker; sync")
    said = "there" if holds(inside.disks[1], MARKER.encode()) else "not there"
    yield Finding(asked="disk", about="marker on LAB-0-B", said=said, wanted="there")


def _rebooted(inside: Inside, boot: str) -> Iterator[Finding]:
    login = inside.login()
    now = login.run("cat /proc/sys/kernel/random/boot_id")
    yield Finding(asked="inside", about="boot", said="the same" if now == boot else "another", wanted="another")
    pressed = "sudo journalctl -b -1 -u systemd-logind -o cat | grep -c 'Power key pressed' || true"
    yield inside.says("power button", f"[ $({pressed}) -gt 0 ] && echo pressed || echo not pressed", "pressed", login)


def _gone(witnesses: Witnesses, inside: Inside, node_uuid: str, instance_uuid: str) -> Iterator[Finding]:
    node = witnesses.node(node_uuid)
    for asked, about, left, wanted in (
        ("Ironic", "provision state", node["provision_state"], "available"),
        ("Ironic", "instance_uuid", node["instance_uuid"], "none"),
        ("Ironic", "VIFs plugged", witnesses.vifs(node_uuid), "none"),
        ("Neutron", "ports of the instance", witnesses.ports(device_id=instance_uuid), "none"),
        ("BMC", "power", witnesses.bmc_power(node_uuid), "Off"),
    ):
        yield Finding(asked=asked, about=about, said=str(left) if left else "none", wanted=wanted)
    for disk in inside.disks:
        said = "there" if holds(disk, MARKER.encode()) else "nowhere"
        yield Finding(asked="disk", about=f"marker on {disk.name}", said=said, wanted="nowhere")


def _write_files(folder: Path) -> Path:
    """The folder holds user data and a key pair; returns the file with the public half."""
    folder.mkdir(mode=0o700, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "key.pub").write_text(f"{public} demo\n")
    (folder / "user-data").write_text(
        "#cloud-config\n"
        "runcmd:\n"
        "  - [sh, -c, 'mkdir -p /var/lib/lab && echo ran >/var/lib/lab/user-data']\n"
        # What the system says while it goes down is to be read when it is up again.
        "  - [sh, -c, 'mkdir -p /var/log/journal && journalctl --flush']\n"
    )
    return folder / "key.pub"


def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up.")] = False) -> None:
    """Deploy, use and destroy an instance on a machine that really boots, here."""
    console = Console(highlight=False)
    # Whoever ends us politely gets what Ctrl-C gets.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            it = stack.enter_context(a_lab(console, LAB, keep=keep))
            up_s = time.monotonic() - started
            stage = play(console, it, keep=keep)
            stage.took_s = {"lab up": up_s, **stage.took_s}
            console.print()
            console.print(stage.summary())
    except (DemoFailed, lab.LabError, requests.RequestException) as failure:
        console.print(Text.assemble(("error: ", "bold red"), str(failure)), soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted; " + ("`bloomery lab down` takes the lab down" if keep else "the lab is down"))
        raise typer.Exit(CANCELLED) from None
    left = "The lab is still up; `bloomery lab down` takes it down." if keep else "Nothing is left running."
    console.print(f"{left} That was the demo, in {time.monotonic() - started:.0f} s.")


def main() -> None:
    """The demo was shown."""
    os.umask(0o077)
    typer.run(demo)


if __name__ == "__main__":
    main()
