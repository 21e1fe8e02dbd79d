"""The process that owns the lab: it starts the services, enrols the nodes, watches, and ends everything.

Started by `manager.up`, which passes it the lab's lock (held as long as the lab lives), and two pipes: what it writes to
its output is progress, and the end of its input means that whoever asked for the lab is gone.

`python -m bloomery.lab.supervisor STATE OPTIONS LEASH`: LEASH is `until-up`, or `always` for a lab that ends with its
caller.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil
import yaml

from bloomery.lab import agent, bmc, images, ironic, neutron
from bloomery.lab.enrol import enrol, plan
from bloomery.lab.errors import LabError
from bloomery.lab.model import Kind, Lab, LabNode, Options, read_options
from bloomery.lab.service import RunningService, Service, start, stop, tail
from bloomery.lab.status import LAB_FILE, SERVICES_FILE, write_services
from bloomery.lab.vm import bmc as vm_bmc
from bloomery.lab.vm import images as vm_images
from bloomery.lab.vm.qemu import Hardware
from bloomery.lab.wait import answers, until

_ATTEMPTS = 3
_GRACE_S = 1.0
_PARTS = ("images", "agent", "bmc", "ironic", "neutron", "companion")
# Enrolment takes some ten calls per node, one after another in Ironic.
_ENROL_TIMEOUT_S, _ENROL_TIMEOUT_PER_NODE_S = 60.0, 2.0
_START_TIMEOUT_S = 90.0
# Enough to find an early error below what a service says after it.
_START_LINES = 300


class _PortTaken(Exception):
    """Somebody else took a port between our choice and the service's start."""


class Supervisor:
    """A lab from its first service to its last."""

    def __init__(self, state: Path, options: Options) -> None:
        self._state = state
        self._options = options
        self._running: list[RunningService] = []

    def bring_up(self) -> Lab:
        """Everything runs, and the nodes are available."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._bring_up()
            except _PortTaken as taken:
                self.end()
                if attempt == _ATTEMPTS:
                    raise LabError(f"a port was taken by another program {_ATTEMPTS} times: {taken}") from taken
        raise AssertionError("unreachable")

    def watch(self) -> None:
        """Never returns: services that end are noted, and seen in the lab's status."""
        write_services(self._state, self._running)
        known = -1
        while True:
            ended = sum(running.has_ended() for running in self._running)
            if ended != known:
                write_services(self._state, self._running)
                known = ended
            time.sleep(0.5)

    def end(self) -> None:
        """No process of the lab is left."""
        stop(self._running, grace_s=_GRACE_S)
        self._running = []
        # What the preparations started.
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _bring_up(self) -> Lab:
        state, options = self._state, self._options
        _clear(state)
        ports = dict(zip(_PARTS, _free_ports(len(_PARTS)), strict=True))
        urls = {part: f"http://127.0.0.1:{port}" for part, port in ports.items()}
        neutron_url = urls["neutron"] if options.network else None
        nodes = plan(options)
        redfish_nodes = nodes[: options.redfish_nodes]
        images_folder = state / "images"

        _say("preparing")
        built = vm_images.find() if options.kind is Kind.VM else None
        lab_images = images.create(images_folder, base_url=urls["images"], built=built)
        machines = _machines(nodes, state / "machines") if options.kind is Kind.VM else ()
        with ThreadPoolExecutor(len(_PARTS)) as pool:
            preparing = [
                pool.submit(images.prepare, images_folder, port=ports["images"]),
                pool.submit(
                    ironic.prepare,
                    state,
                    port=ports["ironic"],
                    options=options,
                    images_folder=images_folder,
                    images_url=urls["images"],
                    neutron_url=neutron_url,
                ),
            ]
            if machines:
                preparing.append(pool.submit(vm_bmc.prepare, state / "bmc", port=ports["bmc"], machines=machines))
            elif redfish_nodes:
                preparing.append(
                    pool.submit(
                        agent.prepare,
                        state / "machines",
                        port=ports["agent"],
                        nodes=redfish_nodes,
                        options=options,
                        ironic_url=urls["ironic"],
                        bmc_url=urls["bmc"],
                        boot_server_url=f"{urls['images']}/{images.IRONIC_SUBFOLDER}",
                    )
                )
                preparing.append(
                    pool.submit(
                        bmc.prepare,
                        state / "bmc",
                        port=ports["bmc"],
                        nodes=redfish_nodes,
                        options=options,
                        listener_url=f"{urls['agent']}/bmc",
                    )
                )
            if options.network:
                preparing.append(pool.submit(neutron.prepare, state, port=ports["neutron"]))
            self._start(preparing)
        self._await_ready()
        networks = neutron.networks(neutron_url) if neutron_url else None
        _say(f"enrolling {len(nodes)} node{'s' if len(nodes) > 1 else ''}")
        enrol(
            nodes,
            ironic_url=urls["ironic"],
            bmc_url=urls["bmc"],
            serial_port=ports["agent"],
            images=lab_images,
            networks=networks,
            timeout_s=_ENROL_TIMEOUT_S + _ENROL_TIMEOUT_PER_NODE_S * len(nodes),
            machines={hardware.uuid: hardware for hardware in machines},
        )
        lab = Lab(
            state=state,
            options=options,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            supervisor_pid=os.getpid(),
            ironic_url=urls["ironic"],
            images_url=urls["images"],
            bmc_url=urls["bmc"] if redfish_nodes else None,
            agent_url=urls["agent"] if redfish_nodes and not machines else None,
            neutron_url=neutron_url,
            companion_url=urls["companion"] if options.companion else None,
            networks=asdict(networks) if networks else {},
            images=lab_images,
            nodes=nodes,
        )
        _write_cloud_config(lab)
        _write_catalogue(lab)
        if options.companion:
            _say("starting companion")
            self._running.append(start(_companion(lab, ports["companion"]), logs=state / "logs"))
            self._await_ready()
        write_services(state, self._running)
        draft = state / f"{LAB_FILE}.new"
        draft.write_text(lab.to_json())
        draft.rename(state / LAB_FILE)
        return lab

    def _start(self, preparing: list[Future[Service]]) -> None:
        # Here in the main thread: the kernel ends a service when the *thread* that started it ends.
        for prepared in as_completed(preparing):
            service = prepared.result()
            _say(f"starting {service.name}")
            self._running.append(start(service, logs=self._state / "logs"))

    def _await_ready(self) -> None:
        waiting = list(self._running)

        def all_answer() -> bool:
            for running in waiting:
                _must_not_end(running)
            waiting[:] = [running for running in waiting if not running.service.is_ready()]
            return not waiting

        until(
            all_answer,
            what=lambda: f"an answer of {waiting[0].name} (see {waiting[0].log})",
            timeout_s=_START_TIMEOUT_S,
        )


def _must_not_end(running: RunningService) -> None:
    """It runs, and got its port.

    Raises:
        _PortTaken: another program has its port by now.
        LabError: it has ended.
    """
    last = tail(running.log, lines=_START_LINES)
    # Ironic stays, without its API, when it cannot have its port.
    if any("address already in use" in line.lower() for line in last):
        raise _PortTaken(running.name)
    if running.has_ended():
        raise LabError(f"{running.name} ended at once: {''.join(last[-1:])} (see {running.log})")


def _machines(nodes: tuple[LabNode, ...], folder: Path) -> tuple[Hardware, ...]:
    """What the virtual machines of these nodes are made of."""
    ports = iter(_free_ports(3 * len(nodes)))
    return tuple(
        Hardware(
            uuid=node.uuid,
            name=node.name,
            mac_addresses=node.mac_addresses,
            disks=tuple(f"LAB-{number}-{disk}" for disk in "AB"),
            folder=folder / node.name,
            serial_port=next(ports),
            agent_port=next(ports),
            ssh_port=next(ports),
        )
        for number, node in enumerate(nodes)
    )


def _companion(lab: Lab, port: int) -> Service:
    """The process that the options ask for; it finds the lab by the variables that clients read."""
    return Service(
        name="companion",
        argv=tuple(word.replace("{port}", str(port)) for word in lab.options.companion),
        is_ready=partial(answers, f"{lab.companion_url}/healthz"),
        environment={"OS_CLIENT_CONFIG_FILE": str(lab.cloud_config), "OS_CLOUD": lab.cloud},
    )


def _clear(state: Path) -> None:
    """Nothing of an earlier lab is left in the state folder but what may be used again."""
    for entry in state.iterdir():
        if entry.name in ("cache", "lock", "supervisor.log"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (state / "logs").mkdir(mode=0o700)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago, all different."""
    with contextlib.ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for candidate in opened:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in opened]


def _write_cloud_config(lab: Lab) -> None:
    cloud = {
        "auth_type": "none",
        "auth": {"endpoint": lab.ironic_url},
        "baremetal_endpoint_override": lab.ironic_url,
        "baremetal_api_version": "1",
        "interface": "public",
        **(
            {"network_endpoint_override": lab.neutron_url, "network_api_version": "2"}
            if lab.neutron_url
            else {"has_network": False}
        ),
    }
    lab.cloud_config.touch(mode=0o600)
    lab.cloud_config.write_text(yaml.safe_dump({"clouds": {lab.cloud: cloud}}, sort_keys=False))


def _write_catalogue(lab: Lab) -> None:
    """The images that an instance can be deployed with are in a file, as `bloomery serve --images` reads it."""
    rows: list[dict[str, str | bool]] = [
        {
            "name": name,
            "source": image.url,
            "checksum": f"sha256:{image.sha256}",
            **({"is_partition": True} if image.is_partition else {}),
        }
        for name, image in lab.images.items()
        if name.startswith(("whole-disk", "debian"))
    ]
    lab.catalogue.write_text(yaml.safe_dump(rows, sort_keys=False))


def _say(text: str) -> None:
    print(json.dumps({"doing": text}), flush=True)


class _Ending:
    """The one way out of the process, whoever takes it first: the main thread, a signal, or the end of the input."""

    def __init__(self, supervisor: Supervisor, state: Path) -> None:
        self._supervisor = supervisor
        self._state = state
        self._asked = threading.Event()
        self._lock = threading.Lock()
        # Not by an exception out of the signal handler: it could be raised, and lost, inside a finalizer.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: self._asked.set())
        threading.Thread(target=self._end_when_asked, daemon=True).start()

    def ask_when_input_ends(self, *, unless: threading.Event | None) -> None:
        """The lab ends once whoever holds the other end of our input is gone, unless the event came first."""

        def wait() -> None:
            sys.stdin.buffer.read()
            if unless is None or not unless.is_set():
                self._asked.set()

        threading.Thread(target=wait, daemon=True).start()

    def end(self, exit_code: int) -> NoReturn:
        """The lab and this process are gone."""
        # Never released: a second caller waits here until the process is gone.
        self._lock.acquire()
        self._supervisor.end()
        for name in (LAB_FILE, SERVICES_FILE, "clouds.yaml", "catalogue.yaml"):
            (self._state / name).unlink(missing_ok=True)
        sys.stderr.flush()
        # Other threads may be waiting for processes that were ended above.
        os._exit(exit_code)

    def _end_when_asked(self) -> None:
        self._asked.wait()
        self.end(0)


def main() -> None:
    """A lab came up, lived, and left no process."""
    # What the lab and its services write is its user's alone, whatever his shell thinks of it.
    os.umask(0o077)
    state, options, leash = Path(sys.argv[1]), read_options(json.loads(sys.argv[2])), sys.argv[3]
    supervisor = Supervisor(state, options)
    ending = _Ending(supervisor, state)
    is_up = threading.Event()
    ending.ask_when_input_ends(unless=None if leash == "always" else is_up)
    try:
        supervisor.bring_up()
        is_up.set()
        print(json.dumps({"up": True}), flush=True)
        supervisor.watch()
    except LabError as error:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"failed": error.message}), flush=True)
        ending.end(1)
    finally:
        # Anything else is a mistake of ours; the log has it.
        traceback.print_exc()
        ending.end(1)


if __name__ == "__main__":
    main()
