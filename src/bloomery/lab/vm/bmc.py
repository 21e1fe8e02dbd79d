"""The BMCs of the virtual machines: sushy-tools' own emulator, before machines that are QEMU's.

What a BMC is asked over Redfish is done to the machine: power is a process that runs, the power button is ACPI's, a
medium in the drive is a file in QEMU's, an interrupt is one. Beside Redfish it answers below `/lab` to what one would do
with one's hands: where a machine's lines are (`GET /lab/machines`), a cable to one of its ports
(`POST /lab/machines/<uuid>/forward`), and a machine that hangs when it is switched on (`PUT /lab/machines/<uuid>/stuck`).

`python -m bloomery.lab.vm.bmc --fake --config FILE …`: the emulator's own command line.
"""

import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

from bloomery.lab.service import Service
from bloomery.lab.vm.qemu import Hardware, Machine, Refused
from bloomery.lab.wait import answers


def prepare(folder: Path, *, port: int, machines: tuple[Hardware, ...]) -> Service:
    """The BMCs of these machines, ready to be started; the machines stand there, switched off."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    for hardware in machines:
        hardware.create()
    settings = {
        "SUSHY_EMULATOR_STATE_DIR": str(folder),
        "SUSHY_EMULATOR_VMEDIA_DEVICES": {"Cd": {"Name": "Virtual CD", "MediaTypes": ["CD", "DVD"]}},
        "LAB_MACHINES": [_as_values(hardware) for hardware in machines],
    }
    config = folder / "emulator.conf"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return Service(
        name="bmc",
        argv=(
            *(sys.executable, "-m", "bloomery.lab.vm.bmc", "--fake"),
            *("--interface", "127.0.0.1", "--port", str(port), "--config", str(config)),
        ),
        environment={"TMPDIR": str(temporary)},
        is_ready=partial(answers, f"http://127.0.0.1:{port}/redfish/v1/Systems"),
    )


def _as_values(hardware: Hardware) -> dict[str, Any]:
    values = {name: getattr(hardware, name) for name in Hardware.__dataclass_fields__}
    return {**values, "folder": str(hardware.folder)}


class _System:
    """What a BMC remembers of its machine."""

    def __init__(self, hardware: Hardware) -> None:
        self.lock = threading.RLock()
        self.machine = Machine(hardware, on_end=self._on_end)
        self.boot_device = "Hdd"
        self.boot_mode = "UEFI"
        self.secure_boot = False
        self.medium: Path | None = None
        self.http_boot_uri: str | None = None
        self.is_stuck = False
        self.comes_back = False

    def switch_on(self) -> None:
        with self.lock:
            self.comes_back = False
            if not self.machine.is_on:
                # It hangs once: without power it comes to itself.
                is_stuck, self.is_stuck = self.is_stuck, False
                self.machine.switch_on(boot_from=self.boot_device, medium=self.medium, is_stuck=is_stuck)

    def cut_power(self) -> None:
        with self.lock:
            self.comes_back = False
            self.machine.cut_power()

    def _on_end(self) -> None:
        with self.lock:
            if self.comes_back:
                self.switch_on()

    def set_power(self, state: str) -> None:
        with self.lock:
            match state:
                case "On" | "ForceOn":
                    self.switch_on()
                case "ForceOff":
                    self.cut_power()
                case "ForceRestart" | "PowerCycle":
                    self.cut_power()
                    self.switch_on()
                case "GracefulShutdown" | "PushPowerButton" if self.machine.is_on:
                    self.machine.press_power_button()
                case "PushPowerButton" | "GracefulRestart" if not self.machine.is_on:
                    self.switch_on()
                case "GracefulRestart":
                    self.comes_back = True
                    self.machine.press_power_button()
                case "GracefulShutdown":
                    pass
                case "Nmi":
                    self.machine.interrupt()
                case _:
                    raise error.NotSupportedError(f"Power state {state} is not supported")


class VirtualMachines(AbstractSystemsDriver):  # type: ignore[misc]
    """The emulator's systems, each of them a machine of QEMU's."""

    _systems: dict[str, _System]
    _request = threading.local()

    @classmethod
    def initialize(cls, config: dict[str, Any], logger: Any) -> type["VirtualMachines"]:
        cls._logger = logger
        machines = [Hardware.from_json(values) for values in config["LAB_MACHINES"]]
        cls._systems = {hardware.uuid: _System(hardware) for hardware in machines}
        return cls

    def system(self, identity: str) -> _System:
        """The system of that UUID; asked by its name, the client is sent there."""
        if identity in self._systems:
            return self._systems[identity]
        for uuid, system in self._systems.items():
            if system.machine.hardware.name == identity:
                raise error.AliasAccessError(uuid)
        raise error.NotFound(f"there is no machine {identity}")

    @property
    def driver(self) -> str:
        return "<qemu>"

    @property
    def systems(self) -> list[str]:
        return list(self._systems)

    def uuid(self, identity: str) -> str:
        return self.system(identity).machine.hardware.uuid

    def name(self, identity: str) -> str:
        return self.system(identity).machine.hardware.name

    def get_power_state(self, identity: str) -> str:
        return "On" if self.system(identity).machine.is_on else "Off"

    def set_power_state(self, identity: str, state: str) -> None:
        try:
            self.system(identity).set_power(state)
        except Refused as refused:
            raise error.FishyError(refused.message) from refused

    def get_boot_device(self, identity: str) -> str:
        return self.system(identity).boot_device

    def set_boot_device(self, identity: str, boot_source: str) -> None:
        system = self.system(identity)
        uri, self._request.http_boot_uri = getattr(self._request, "http_boot_uri", None), None
        with system.lock:
            if system.http_boot_uri and not uri:
                # A medium that HTTP boot has put into the drive has nobody else who takes it out.
                emulator.app.vmedia.eject_image(system.machine.hardware.uuid, "Cd")
                self.set_boot_image(identity, "Cd")
            system.http_boot_uri, system.boot_device = uri, boot_source

    def get_boot_mode(self, identity: str) -> str:
        return self.system(identity).boot_mode

    def set_boot_mode(self, identity: str, boot_mode: str) -> None:
        if boot_mode != "UEFI":
            raise error.NotSupportedError(f"these machines boot by UEFI only, not {boot_mode}")
        self.system(identity).boot_mode = boot_mode

    def get_secure_boot(self, identity: str) -> bool:
        return self.system(identity).secure_boot

    def set_secure_boot(self, identity: str, secure: bool) -> None:  # noqa: ARG002
        if secure:
            raise error.NotSupportedError("these machines have no secure boot")

    def get_boot_image(self, identity: str, device: str) -> tuple[str | None, bool, bool]:
        medium = self.system(identity).medium if device == "Cd" else None
        return (str(medium) if medium else None, True, medium is not None)

    def set_boot_image(
        self,
        identity: str,
        device: str,
        boot_image: str | None = None,
        write_protected: bool = True,  # noqa: ARG002
    ) -> None:
        if device != "Cd":
            raise error.NotSupportedError(f"these machines have no drive for {device}")
        system = self.system(identity)
        with system.lock:
            system.medium = Path(boot_image) if boot_image else None
            try:
                system.machine.insert(system.medium)
            except Refused as refused:
                raise error.FishyError(refused.message) from refused

    def get_http_boot_uri(self, identity: str) -> str | None:
        return self.system(identity).http_boot_uri

    def set_http_boot_uri(self, uri: str | None) -> None:
        """Kept for the boot device that the same request sets next: only that says of which machine the URI is."""
        self._request.http_boot_uri = uri

    def get_nics(self, identity: str) -> list[dict[str, str]]:
        return [{"id": mac, "mac": mac} for mac in self.system(identity).machine.hardware.mac_addresses]


# The emulator is an application of Flask, and is added to by its own means.
flask = emulator.flask


def machines() -> Any:
    """Every machine: its power, what it boots, and where its lines are."""
    systems = emulator.app.systems
    rows = []
    for uuid in systems.systems:
        system = systems.system(uuid)
        rows.append(
            {
                **_as_values(system.machine.hardware),
                "power": systems.get_power_state(uuid),
                "boot_device": system.boot_device,
                "medium": str(system.medium) if system.medium else None,
                "is_stuck": system.is_stuck,
            }
        )
    return flask.jsonify(machines=rows)


def forward(identity: str) -> Any:
    """A port of loopback leads to `port` of `address` on the machine until its power goes."""
    wanted = flask.request.get_json()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        candidate = free.getsockname()[1]
    try:
        port = emulator.app.systems.system(identity).machine.forward(
            str(wanted["address"]), int(wanted["port"]), from_port=candidate
        )
    except Refused as refused:
        return flask.jsonify(error=refused.message), 409
    return flask.jsonify(port=port)


def stuck(identity: str) -> Any:
    """The machine hangs in its firmware the next time that it is switched on, or does not."""
    emulator.app.systems.system(identity).is_stuck = bool(flask.request.get_json()["is_stuck"])
    return flask.jsonify({})


def main() -> None:
    """The emulator serves until the process is killed."""
    emulator.fakedriver.FakeDriver = VirtualMachines
    emulator.app.add_url_rule("/lab/machines", view_func=machines, methods=["GET"])
    emulator.app.add_url_rule("/lab/machines/<identity>/forward", view_func=forward, methods=["POST"])
    emulator.app.add_url_rule("/lab/machines/<identity>/stuck", view_func=stuck, methods=["PUT"])
    sys.exit(emulator.main())


if __name__ == "__main__":
    main()
