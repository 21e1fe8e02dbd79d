"""The process that plays the machines behind the BMCs, and the deploy agent on those that boot it.

The BMCs tell it what happens to them (`PUT /bmc`). A machine that is powered on boots (`boot.choose`): the deploy agent
(`ramdisk.Ramdisk`) if Ironic arranged that, else what was written to its disk. `GET /machines` shows them all;
`/agents/<uuid>/v1/…` is the agent's own API on the machine, as Ironic calls it.

`python -m bloomery.lab.agent --help` names the options; it serves until it is killed.
"""

import argparse
import json
import sys
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bloomery.lab import boot
from bloomery.lab.boot import Running
from bloomery.lab.machine import Machine
from bloomery.lab.model import LabNode, Options
from bloomery.lab.ramdisk import Ramdisk, Refused, Settings
from bloomery.lab.serial import SerialLine
from bloomery.lab.service import Service
from bloomery.lab.wait import answers


def prepare(
    folder: Path,
    *,
    port: int,
    nodes: tuple[LabNode, ...],
    options: Options,
    ironic_url: str,
    bmc_url: str,
    boot_server_url: str,
) -> Service:
    """The machines of these nodes, ready to be started; their records will be in the folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    machines = folder / "machines"
    machines.write_text(
        json.dumps([{"uuid": node.uuid, "name": node.name, "mac_addresses": node.mac_addresses} for node in nodes])
    )
    return Service(
        name="agent",
        argv=(
            *(sys.executable, "-m", "bloomery.lab.agent", "--port", str(port), "--ironic-url", ironic_url),
            *("--bmc-url", bmc_url, "--folder", str(folder), "--machines", str(machines)),
            *("--boot-server-url", boot_server_url),
            *("--deploy-seconds", str(options.deploy_seconds)),
        ),
        is_ready=partial(answers, f"http://127.0.0.1:{port}/machines"),
    )


class Machines:
    """All machines of the lab, and the agents that run on some."""

    def __init__(
        self, folder: Path, descriptions: list[dict[str, Any]], settings: Settings, boot_server_url: str
    ) -> None:
        self._settings = settings
        self._boot_server_url = boot_server_url
        self._machines = {values["uuid"]: Machine(folder, **values) for values in descriptions}
        self._ramdisks: dict[str, Ramdisk] = {}
        self._lock = threading.Lock()

    def show(self) -> list[dict[str, Any]]:
        """Every machine's record."""
        return [machine.snapshot() for machine in self._machines.values()]

    def observe(self, system: dict[str, Any]) -> None:
        """The machine is as its BMC says: it booted if it was switched on, and stopped if it was switched off."""
        machine = self._machines[system["uuid"]]
        with self._lock:
            machine.interrupt(system.get("interrupts", 0))
            if system["power_state"] == machine.power:
                return
            ramdisk = self._ramdisks.pop(machine.uuid, None)
            if ramdisk:
                ramdisk.end()
            if system["power_state"] == "Off":
                machine.power_off()
                return
            booted = boot.choose(
                system,
                mac_addresses=machine.mac_addresses,
                has_image=machine.has_image,
                boot_server_url=self._boot_server_url,
            )
            machine.power_on(booted.running)
            if booted.running is Running.AGENT:
                self._ramdisks[machine.uuid] = Ramdisk(machine, self._settings, booted.kernel_parameters)
                self._ramdisks[machine.uuid].boot()

    def serial(self, machine_uuid: str) -> SerialLine | None:
        """The serial line of the machine, if there is such a machine."""
        machine = self._machines.get(machine_uuid)
        return machine.serial if machine is not None else None

    def ramdisk(self, machine_uuid: str) -> Ramdisk | None:
        """The agent that runs on the machine, if one does."""
        return self._ramdisks.get(machine_uuid)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, machines: Machines, *args: Any) -> None:
        self._machines = machines
        super().__init__(*args)

    def do_PUT(self) -> None:
        self._machines.observe(self._body())
        self._answer(HTTPStatus.OK, {})

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/machines":
            self._answer(HTTPStatus.OK, {"machines": self._machines.show()})
        elif self.headers.get("Upgrade") == "serial":
            self._serve_serial_line()
        else:
            self._call_agent(None)

    def do_DELETE(self) -> None:
        line = self._serial_line()
        self.send_response(HTTPStatus.NO_CONTENT if line is not None and line.drop() else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serial_line(self) -> SerialLine | None:
        match urlsplit(self.path).path.strip("/").split("/"):
            case ["machines", machine_uuid, "serial"]:
                return self._machines.serial(machine_uuid)
        return None

    def _serve_serial_line(self) -> None:
        """The connection is the machine's serial line from now on, until either side ends it."""
        self.close_connection = True
        line = self._serial_line()
        if line is None:
            self._answer(HTTPStatus.NOT_FOUND, {"faultstring": f"there is nothing at {self.path}"})
            return
        is_free = line.serve(self.connection, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: serial\r\n\r\n")
        if not is_free:
            self._answer(HTTPStatus.CONFLICT, {"faultstring": "somebody is on the serial line"})

    def do_POST(self) -> None:
        self._call_agent(self._body())

    def _call_agent(self, body: dict[str, Any] | None) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        token = query.get("agent_token", "")
        try:
            match url.path.strip("/").split("/"):
                case ["agents", machine_uuid, "v1", *rest]:
                    ramdisk = self._machines.ramdisk(machine_uuid)
                    if not ramdisk:
                        # As from a machine that is off: nobody answers.
                        self.close_connection = True
                        return
                case _:
                    raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {url.path}")
            match rest:
                case ["status"] if body is None:
                    self._answer(HTTPStatus.OK, ramdisk.status())
                case ["commands"] if body is None:
                    self._answer(HTTPStatus.OK, {"commands": ramdisk.commands(token)})
                case ["commands"] if body is not None:
                    wait = query.get("wait") == "true"
                    self._answer(
                        HTTPStatus.OK, ramdisk.execute(token, name=body["name"], params=body["params"], wait=wait)
                    )
                case ["commands", command_id] if body is None:
                    self._answer(HTTPStatus.OK, ramdisk.command(token, command_id))
                case _:
                    raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {url.path}")
        except Refused as refused:
            self._answer(refused.status, {"faultstring": refused.message})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: HTTPStatus, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Requests are not logged: their addresses hold the agents' tokens."""


def main() -> None:
    """The machines live until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ironic-url", required=True)
    parser.add_argument("--bmc-url", required=True)
    parser.add_argument("--boot-server-url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--machines", type=Path, required=True)
    parser.add_argument("--deploy-seconds", type=int, default=0)
    arguments = parser.parse_args()
    settings = Settings(
        ironic_url=arguments.ironic_url,
        bmc_url=arguments.bmc_url,
        agent_url=f"http://127.0.0.1:{arguments.port}",
        deploy_seconds=arguments.deploy_seconds,
    )
    descriptions = json.loads(arguments.machines.read_text())
    machines = Machines(arguments.folder, descriptions, settings, arguments.boot_server_url)
    ThreadingHTTPServer(("127.0.0.1", arguments.port), partial(_Handler, machines)).serve_forever()


if __name__ == "__main__":
    main()
