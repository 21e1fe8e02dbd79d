"""One virtual machine: QEMU's process, the line over which it is told what to do, and its disks.

It is emulated where KVM does not work, and runs on user-mode networking: both NICs are plugged into one hub, whose other
end is this machine's loopback. No root, no bridge, nothing that outlives the process.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from bloomery.lab.errors import LabError
from bloomery.lab.service import stand_back, tail
from bloomery.lab.vm.programs import EMULATOR, FIRMWARE_CODE, FIRMWARE_SETTINGS

MIB = 1024 * 1024
DISKS_MIB = (512, 4608)
"""The second is what an instance is written to: the deploy agent wants four gigabytes. Images are too large for the first."""
MEMORY_MIB = 1536

HOST_ADDRESS = "10.20.0.1"
"""Where a machine reaches the loopback of the machine that it runs on; the gateway of the lab's network `private`."""
AGENT_ADDRESS = "10.20.0.16"
"""What the deploy agent gets by DHCP: the first address that is given away, to the NIC that asks first."""
AGENT_PORT = 9999
_NETWORK = "10.20.0.0/16"
_DNS_ADDRESS = "10.20.0.3"
_REPLY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a machine is made of.

    Attributes:
        folder: where its disks and the settings of its firmware lie.
        disks: the serial number of each disk, in their order; the sizes are `DISKS_MIB`.
        serial_port: the port of loopback on which its serial line is.
        agent_port: the port of loopback that leads to the deploy agent on it.
        ssh_port: the port of loopback that leads to port 22 of the system that the agent came with.
    """

    uuid: str
    name: str
    mac_addresses: tuple[str, ...]
    disks: tuple[str, ...]
    folder: Path
    serial_port: int
    agent_port: int
    ssh_port: int

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The hardware as it was written as JSON."""
        tuples = {name: tuple(values[name]) for name in ("mac_addresses", "disks")}
        return cls(**{**values, **tuples, "folder": Path(values["folder"])})

    def disk(self, number: int) -> Path:
        """The file that is the disk of that number."""
        return self.folder / f"disk-{number}.raw"

    @property
    def console_log(self) -> Path:
        """Everything that the machine has written to its serial line."""
        return self.folder / "console.log"

    def create(self) -> None:
        """The machine stands there, as delivered: empty disks, and a firmware that nobody has touched."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, size_mib in enumerate(DISKS_MIB[: len(self.disks)]):
            with self.disk(number).open("wb") as disk:
                disk.truncate(size_mib * MIB)
        shutil.copyfile(FIRMWARE_SETTINGS, self._firmware_settings)
        self.console_log.touch(mode=0o600)

    @property
    def _firmware_settings(self) -> Path:
        return self.folder / "firmware.fd"

    def command(self, *, boot_from: str, medium: Path | None, is_stuck: bool, control: int) -> list[str]:
        """QEMU's command line.

        Args:
            boot_from: `Cd`, `Pxe` or `Hdd`: what its firmware tries first.
            medium: what is in its drive.
            is_stuck: its processor does nothing, as if it hung in its firmware.
            control: the descriptor of our side's end of the line over which it is controlled.
        """
        first = {"Cd": ",bootindex=0"}.get(boot_from, "")
        line = f"host=127.0.0.1,port={self.serial_port},server=on,wait=off"
        inserted = (f"format=raw,file={medium}",) if medium else ()
        accelerator = "kvm" if has_kvm() else "tcg,thread=multi"
        words = [
            *(EMULATOR, "-nodefaults", "-no-user-config", "-display", "none", "-name", self.name, "-uuid", self.uuid),
            *("-machine", "q35", "-accel", accelerator, "-cpu", "host" if has_kvm() else "max,la57=off"),
            *("-smp", "2", "-m", str(MEMORY_MIB), "-device", "virtio-rng-pci"),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE_CODE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={self._firmware_settings}"),
            *("-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"),
            *("-chardev", f"socket,id=serial,{line},logfile={self.console_log},logappend=on"),
            *("-serial", "chardev:serial"),
            *("-device", "virtio-scsi-pci,id=scsi"),
            *("-drive", ",".join(("if=none,id=cd,media=cdrom,readonly=on", *inserted))),
            *("-device", f"scsi-cd,id=drive,drive=cd{first}"),
        ]
        for number, serial in enumerate(self.disks):
            # What is cleaned with zeros takes no room in the file. Caches are as a process that is killed leaves them: written.
            options = "format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap"
            words += ["-drive", f"if=none,id=disk{number},file={self.disk(number)},{options}"]
            words += ["-device", f"scsi-hd,drive=disk{number},serial={serial},bootindex={10 + number}"]
        words += [
            "-netdev",
            ",".join((f"user,id=host,net={_NETWORK},host={HOST_ADDRESS},dns={_DNS_ADDRESS}", *self._forwards)),
        ]
        words += ["-netdev", "hubport,hubid=0,id=uplink,netdev=host"]
        for number, mac_address in enumerate(self.mac_addresses):
            index = f",bootindex={number}" if boot_from == "Pxe" else ""
            words += ["-netdev", f"hubport,hubid=0,id=hub{number}"]
            words += ["-device", f"virtio-net-pci,id=nic{number},netdev=hub{number},mac={mac_address},romfile={index}"]
        return [*words, *(["-S"] if is_stuck else [])]

    @property
    def _forwards(self) -> tuple[str, ...]:
        return (
            f"dhcpstart={AGENT_ADDRESS}",
            f"hostfwd=tcp:127.0.0.1:{self.agent_port}-{AGENT_ADDRESS}:{AGENT_PORT}",
            f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-{AGENT_ADDRESS}:22",
        )


@cache
def has_kvm() -> bool:
    """Whether KVM works here; that `/dev/kvm` is there is not enough."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        asked = subprocess.run(  # noqa: S603
            [
                *(EMULATOR, "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-display", "none"),
                *("-m", "64", "-S", "-qmp", "stdio"),
            ],
            input='{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n',
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


class Refused(LabError):
    """QEMU does not do what it was told to."""


class _Control:
    """QEMU's control line: one command, one answer."""

    def __init__(self, line: socket.socket) -> None:
        line.settimeout(_REPLY_TIMEOUT_S)
        self._line = line
        self._answers = line.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()
        self._next()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        with self._lock:
            try:
                self._line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                while True:
                    answer = self._next()
                    if "error" in answer:
                        raise Refused(f"QEMU refuses {command}: {answer['error']['desc']}")
                    if "return" in answer:
                        return answer["return"]
            except OSError as problem:
                raise Refused(f"QEMU does not answer to {command}: {problem}") from problem

    def _next(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise Refused("QEMU has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._answers.close()
        self._line.close()


class Machine:
    """A machine that can be switched on; its methods may be called from any thread."""

    # The kernel ends a process when the thread that started it ends, so one thread that stays starts them all.
    _starter = ThreadPoolExecutor(1, thread_name_prefix="starter")

    def __init__(self, hardware: Hardware, *, on_end: Callable[[], None] = lambda: None) -> None:
        self.hardware = hardware
        self._on_end = on_end
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: _Control | None = None
        self._forwards: dict[tuple[str, int], int] = {}

    @property
    def is_on(self) -> bool:
        """Whether the machine has power."""
        process = self._process
        return process is not None and process.poll() is None

    def switch_on(self, *, boot_from: str, medium: Path | None, is_stuck: bool = False) -> None:
        """The machine has power, and starts what its firmware finds first there."""
        with self._lock:
            if self.is_on:
                return
            ours, theirs = socket.socketpair()
            with theirs:
                words = self.hardware.command(
                    boot_from=boot_from, medium=medium, is_stuck=is_stuck, control=theirs.fileno()
                )
                log = self.hardware.folder / "qemu.log"
                self._process = self._starter.submit(_start, words, log, theirs.fileno()).result()
            self._forwards = {}
            try:
                self._control = _Control(ours)
            except Refused:
                self._process.wait()
                ours.close()
                last = " ".join(tail(log, lines=3))
                raise Refused(f"{self.hardware.name} does not start: {last} (see {log})") from None
            threading.Thread(target=self._await_end, args=(self._process, self._control), daemon=True).start()

    def _await_end(self, process: subprocess.Popen[bytes], control: _Control) -> None:
        process.wait()
        control.close()
        self._on_end()

    def cut_power(self) -> None:
        """The machine has no power, whatever it was doing."""
        with self._lock:
            if self._process:
                self._process.kill()
                self._process.wait()

    def press_power_button(self) -> None:
        """The machine's system was asked to end."""
        self._tell("system_powerdown")

    def interrupt(self) -> None:
        """The machine got a non-maskable interrupt."""
        self._tell("inject-nmi")

    def insert(self, medium: Path | None) -> None:
        """The medium is in the drive, or nothing is."""
        if not self.is_on:
            return
        if medium is None:
            self._tell("eject", id="drive", force=True)
        else:
            self._tell("blockdev-change-medium", id="drive", filename=str(medium), format="raw", force=True)

    def forward(self, address: str, port: int, *, from_port: int) -> int:
        """A port of loopback leads to this port of this address of the machine until its power goes; returns which port."""
        with self._lock:
            known = self._forwards.get((address, port))
            if known is None:
                said = self._tell(
                    "human-monitor-command",
                    **{"command-line": f"hostfwd_add host tcp:127.0.0.1:{from_port}-{address}:{port}"},
                )
                if said:
                    raise Refused(f"QEMU does not forward to {address}:{port}: {said.strip()}")
                known = self._forwards[address, port] = from_port
            return known

    def _tell(self, command: str, **arguments: Any) -> Any:
        control = self._control
        if control is None or not self.is_on:
            raise Refused(f"{self.hardware.name} is switched off")
        return control(command, **arguments)


def _start(words: Sequence[str], log: Path, control: int) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(control,),
            preexec_fn=stand_back,
        )
