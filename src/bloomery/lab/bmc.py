"""The lab's BMCs: sushy-tools' own emulator with its fake machines, and three differences.

- A power change takes a time between two set ones (the emulator's own: 1 to 11 seconds), and happens when it is due,
  not only when somebody asks.
- A non-maskable interrupt is taken and counted; the emulator's fake machines refuse it.
- Whoever wants to know what happens to a machine (the deploy agent's stand-in) is told in the background: a listener
  that is gone does not break the BMC.

`python -m bloomery.lab.bmc --fake --config FILE …`: the emulator's own command line.
"""

import copy
import queue
import random
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import requests
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems.fakedriver import FakeDriver

from bloomery.lab.model import LabNode, Options
from bloomery.lab.service import Service
from bloomery.lab.wait import answers


def prepare(folder: Path, *, port: int, nodes: tuple[LabNode, ...], options: Options, listener_url: str) -> Service:
    """The emulator for these nodes' BMCs, ready to be started, with its settings and media in the folder."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    settings = {
        "SUSHY_EMULATOR_STATE_DIR": str(folder),
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [
            {
                "uuid": node.uuid,
                "name": node.name,
                "power_state": "Off",
                "external_notifier": True,
                "nics": [{"mac": mac_address, "ip": ""} for mac_address in node.mac_addresses],
            }
            for node in nodes
        ],
        "EXTERNAL_NOTIFICATION_URL": listener_url,
        "LAB_POWER_SECONDS": options.power_seconds,
    }
    config = folder / "emulator.conf"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return Service(
        name="bmc",
        argv=(
            *(sys.executable, "-m", "bloomery.lab.bmc", "--fake"),
            *("--interface", "127.0.0.1", "--port", str(port), "--config", str(config)),
        ),
        environment={"TMPDIR": str(temporary)},
        is_ready=partial(answers, f"http://127.0.0.1:{port}/redfish/v1/Systems"),
    )


class LabMachines(FakeDriver):  # type: ignore[misc]
    """The emulator's fake machines, with the three differences above."""

    def __init__(self) -> None:
        # The emulator reads, changes and writes back a whole machine; requests and timers do so at the same time.
        self._lock = threading.RLock()
        self._news: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._tell_listener, daemon=True).start()
        super().__init__()

    def _get(self, identity: str) -> dict[str, Any]:
        with self._lock:
            machine: dict[str, Any] = super()._get(identity)
            return machine

    def _update(self, system: str | dict[str, Any], **changes: Any) -> None:
        pending = changes.get("pending_power")
        if pending:
            shortest_s, longest_s = self._config["LAB_POWER_SECONDS"]
            delay_s = random.uniform(shortest_s, longest_s)  # noqa: S311
            pending["apply_time"] = time.time() + delay_s
            timer = threading.Timer(delay_s + 0.01, self._get, [system if isinstance(system, str) else system["uuid"]])
            timer.daemon = True
            timer.start()
        with self._lock:
            super()._update(system, **changes)

    def set_power_state(self, identity: str, state: str) -> None:
        with self._lock:
            if state == "Nmi":
                machine = self._get(identity)
                self._update(machine, interrupts=machine.get("interrupts", 0) + 1)
            else:
                super().set_power_state(identity, state)

    def set_boot_image(self, identity: str, device: str, **image: Any) -> None:
        with self._lock:
            super().set_boot_image(identity, device, **image)

    def _send_external_notification(self, system: dict[str, Any]) -> None:
        self._news.put(copy.deepcopy(system))

    def _tell_listener(self) -> None:
        session = requests.Session()
        while True:
            machine = self._news.get()
            try:
                session.put(self._config["EXTERNAL_NOTIFICATION_URL"], json=machine, timeout=10)
            except requests.RequestException as error:
                self._logger.warning("nobody was told about %s: %s", machine["name"], error)


def main() -> None:
    """The emulator serves until the process is killed."""
    emulator.fakedriver.FakeDriver = LabMachines
    sys.exit(emulator.main())


if __name__ == "__main__":
    main()
