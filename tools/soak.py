"""Soak: thousands of lives of instances on a played cloud, with faults and kills on both sides; at the end nothing is left.

Usage: python tools/soak.py [--lives 2000] [--nodes 50] [--minutes 30] [--faults 5] [--workers 3] [--at-once 6] [--seed N]

The cloud (Ironic, Neutron, and a proxy before each that lets requests fail) is a process that is killed and comes back
with what it knew; so are the workers, each of which lives several lives at once. Two janitors clean up, and an operator
interferes. Whatever a killed worker had running is destroyed by another. The exit code is 0 if nothing leaked, nothing
was double, none crashed, no error was other than ours, and the memory and threads of those that were not killed stayed flat.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session

import bloomery
from bloomery import (
    Bloomery,
    BloomeryError,
    DeployRequest,
    Image,
    Nic,
    Patience,
    RebuildRequest,
    Secret,
    Volume,
    Wanted,
)
from bloomery.errors import NotFound
from bloomery.janitor import Habits
from bloomery.testing import Fault, FaultKind, FaultProxy, IronicSimulator, NeutronSimulator, RecordedRequest, Timings
from bloomery.testing.http_simulator import reserved
from bloomery.watch import Watch

CLASS = "soaked"
PATIENCE = Patience(request_s=5.0, before_change_s=10.0, after_change_s=60.0, first_pause_s=0.05)
LIFE_TIMEOUT_S = 120.0
TIMINGS = Timings(deploy_s=0.1, agent_s=0.05, clean_s=0.05, tear_down_s=0.05)
KEPT_REQUESTS = 200
STARTS_WITHIN_S = 300.0
CALM_S = 180.0
"""How long the cleaning up at the end may take."""
MAY_GROW_MIB, MAY_GROW = 10.0, 0.10
"""By how much memory may differ between the middle and the end of a run: caches are filled by then."""

FAULTS: tuple[tuple[FaultKind, int], ...] = (
    (FaultKind.STATUS, 409),
    (FaultKind.STATUS, 500),
    (FaultKind.STATUS, 502),
    (FaultKind.STATUS, 503),
    (FaultKind.STATUS_AFTER, 500),
    (FaultKind.STATUS_AFTER, 502),
    (FaultKind.RESET, 0),
    (FaultKind.LOSE_REPLY, 0),
    (FaultKind.CUT_BODY, 0),
    (FaultKind.GARBAGE_BODY, 0),
    (FaultKind.DELAY_REPLY, 0),
)

# The cloud

SERVICES = ("ironic", "neutron", "ironic_proxy", "neutron_proxy")


def play_cloud(folder: Path, *, nodes: int, faults: float, seed: int) -> None:
    """The services answer on the ports that the folder names, with what they knew when they were killed last."""
    kept = folder / "cloud.pickle"
    ports: dict[str, int] = json.loads((folder / "ports.json").read_text())
    neutron = NeutronSimulator()
    ironic = IronicSimulator(neutron=neutron, timings=TIMINGS, lock_wait_s=0.1)
    if kept.exists():
        of_ironic, of_neutron = pickle.loads(kept.read_bytes())  # noqa: S301  our own, from a moment ago
        neutron.restore(of_neutron)
        ironic.restore(of_ironic)
        ironic.revive()
    else:
        neutron.add_network("private", cidrs=["10.0.0.0/16"])
        for number in range(nodes):
            ironic.add_node(f"node-{number}", resource_class=CLASS, storage_interface="external", ports=3)
    neutron.start(ports["neutron"])
    ironic.start(ports["ironic"])
    proxies = {"ironic_proxy": FaultProxy(ironic.url), "neutron_proxy": FaultProxy(neutron.url)}
    draw = random.Random(f"{seed} {time.time_ns()}" if kept.exists() else str(seed))  # noqa: S311  no secret
    quiet = folder / "no-faults"

    def strike(_request: RecordedRequest) -> Fault | None:
        if draw.random() * 100 >= faults or quiet.exists():
            return None
        kind, status = draw.choice(FAULTS)
        return Fault(kind, status=status, delay_s=0.3 if kind is FaultKind.DELAY_REPLY else 0.0)

    for name, proxy in proxies.items():
        proxy.on_request = strike
        proxy.start(ports[name])

    def die(_number: int, _frame: object) -> None:
        # As a killed process with a database: what was written is kept, at one moment; nobody is answered.
        with ironic._conductor.changed, neutron._lock:
            kept.write_bytes(pickle.dumps((ironic.snapshot(), neutron.snapshot())))
            os._exit(9)

    signal.signal(signal.SIGTERM, die)
    services = {"ironic": ironic, "neutron": neutron, **proxies}
    (folder / "up").touch()
    while True:
        time.sleep(0.5)
        for service in services.values():
            del service.requests[:-KEPT_REQUESTS]
        if ironic.crashes or neutron.crashes:
            tell(crash=repr((ironic.crashes + neutron.crashes)[0]))
            ironic.crashes.clear()
            neutron.crashes.clear()


def connected(folder: Path, *, directly: bool = False) -> Bloomery:
    """A connection to the cloud, through its proxies unless directly."""
    ports = json.loads((folder / "ports.json").read_text())
    names = ("ironic", "neutron") if directly else ("ironic_proxy", "neutron_proxy")
    baremetal, network = (f"http://127.0.0.1:{ports[name]}" for name in names)
    api = bloomery.connect(
        session=Session(auth=NoAuth()),
        endpoints={"baremetal": baremetal, "network": network},
        connections=12,
        patience=PATIENCE,
        timeout_s=60.0,
    )
    quick = Watch(api.services.ironic, shortest_s=0.1, longest_s=0.7)
    return Bloomery(replace(api.services, watch=quick))


# Lives


def live(api: Bloomery, name: str, draw: random.Random) -> str:
    """An instance is deployed, used and destroyed, and sometimes two want different things of it; says how that ended."""
    nics = (Nic(network="private"),) * draw.choice((1, 1, 2))
    volumes = (Volume(volume_id=f"{name}-data", boot_index=1, properties=Secret({})),) if draw.random() < 0.3 else ()
    image = Image.named("http://images.example.org/a.raw", checksum="sha256:" + "a" * 64)
    request = DeployRequest(name=name, image=image, wanted=Wanted(resource_class=CLASS), nics=nics, volumes=volumes)
    rivals: list[threading.Thread] = []

    def rival(work: Callable[[], object], after_s: float) -> None:
        def run() -> None:
            time.sleep(after_s)
            with errors_are_told():
                work()

        rivals.append(threading.Thread(target=run, daemon=True))
        rivals[-1].start()

    ended = "lived"
    try:
        if draw.random() < 0.08:
            rival(lambda: api.destroy(name, timeout_s=LIFE_TIMEOUT_S), draw.random())
        api.deploy(request, timeout_s=LIFE_TIMEOUT_S)
        for deed in draw.sample(DEEDS, draw.randrange(3)):
            deed(api, name)
    except BloomeryError as problem:
        ended = type(problem).__name__
    if draw.random() < 0.15:
        rival(lambda: api.destroy(name, timeout_s=LIFE_TIMEOUT_S), draw.random() / 4)
    destroy(api, name)
    for thread in rivals:
        thread.join(LIFE_TIMEOUT_S)
    return ended


def destroy(api: Bloomery, name: str, *, times: int = 4) -> None:
    """The instance is gone, unless so many attempts have failed."""
    for _ in range(times):
        try:
            api.destroy(name, wait_for_cleaning=True, timeout_s=LIFE_TIMEOUT_S)
        except NotFound:
            return
        except BloomeryError:
            time.sleep(0.2)
        else:
            return


def _rebuild(api: Bloomery, name: str) -> None:
    image = Image.named("http://images.example.org/b.raw", checksum="sha256:" + "b" * 64)
    api.rebuild(name, RebuildRequest(image=image), timeout_s=LIFE_TIMEOUT_S)


def _attach_and_detach(api: Bloomery, name: str) -> None:
    vif = api.attach_interface(name, Nic(network="private"), timeout_s=LIFE_TIMEOUT_S)
    api.detach_interface(name, vif.vif_id, timeout_s=LIFE_TIMEOUT_S)


def _rescue_and_unrescue(api: Bloomery, name: str) -> None:
    api.rescue(name, timeout_s=LIFE_TIMEOUT_S)
    api.unrescue(name, timeout_s=LIFE_TIMEOUT_S)


def _off_and_on(api: Bloomery, name: str) -> None:
    api.power_off(name, timeout_s=LIFE_TIMEOUT_S)
    api.power_on(name, timeout_s=LIFE_TIMEOUT_S)


def _reboot(api: Bloomery, name: str) -> None:
    api.reboot(name, timeout_s=LIFE_TIMEOUT_S)


DEEDS: tuple[Callable[[Bloomery, str], None], ...] = (
    _rebuild,
    _attach_and_detach,
    _rescue_and_unrescue,
    _off_and_on,
    _reboot,
)


def tell(**words: str) -> None:
    """The run was told, in one line, whoever else writes one at this moment."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def tell_bug(words: str) -> None:
    """The run was told of a bug."""
    tell(bug=words)


@contextmanager
def errors_are_told(to: Callable[[str], None] = tell_bug) -> Iterator[None]:
    """Our errors are fine, within this block; any other is told, and counts as a failure of the run."""
    try:
        yield
    except BloomeryError:
        pass
    except Exception as bug:  # noqa: BLE001  that there is none is what the run is to show
        to(f"{type(bug).__name__}: {bug}")


def work(folder: Path, *, prefix: str, at_once: int, seed: int) -> None:
    """One life after the other, several at once, until the folder says that it is enough."""
    api = connected(folder)
    enough = folder / "enough"
    numbers = iter(range(1_000_000))
    lock = threading.Lock()
    tell(ready=prefix)

    def lives() -> None:
        while not enough.exists():
            with lock:
                name = f"{prefix}-{next(numbers)}"
            with errors_are_told():
                draw = random.Random(f"{seed} {name}")  # noqa: S311  no secret
                tell(life=name, ended=live(api, name, draw))

    with ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(lives) for _ in range(at_once)]:
            future.result()


def clean(folder: Path) -> None:
    """A janitor works until it is killed."""
    api = connected(folder)
    tell(ready="janitor")
    with api.janitor(Habits(every_s=1.0, requests_per_s=60.0, at_once=2, repair_timeout_s=60.0)):
        while True:
            time.sleep(3600)


# The run


@dataclass
class Process:
    """One of the processes of the run, and what it has said."""

    role: str
    name: str
    popen: subprocess.Popen[str]
    said: list[dict[str, str]] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            try:
                self.said.append(json.loads(line))
            except ValueError:
                self.said.append({"bug": line.strip()})

    @property
    def is_ready(self) -> bool:
        """Whether it has begun to work."""
        return any("ready" in word for word in list(self.said))

    def sample(self) -> None:
        """Its memory and threads, as they are now, are noted, once it has begun to work."""
        if not self.is_ready:
            return
        try:
            process = psutil.Process(self.popen.pid)
            self.rss_mib.append(process.memory_info().rss / 2**20)
            self.threads.append(process.num_threads())
        except psutil.Error:
            return

    def end(self, number: int = signal.SIGKILL) -> None:
        """It has ended, by this signal."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        self.popen.wait(30)

    def growth(self) -> tuple[float, float, int, int] | None:
        """Memory, then threads, each in the middle third and in the last; None if it was looked at too seldom."""
        third = len(self.rss_mib) // 3
        if third < 3:
            return None
        middle, last = slice(third, 2 * third), slice(2 * third, None)
        return (
            statistics.median(self.rss_mib[middle]),
            statistics.median(self.rss_mib[last]),
            max(self.threads[middle]),
            max(self.threads[last]),
        )

    @property
    def is_flat(self) -> bool:
        """Whether it did not grow."""
        grown = self.growth()
        if grown is None:
            return True
        before, after, threads_before, threads_after = grown
        return after - before <= max(MAY_GROW_MIB, MAY_GROW * before) and threads_after <= threads_before + 3


class Soak:
    """The whole run."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.draw = random.Random(options.seed)  # noqa: S311  no secret
        self.processes: list[Process] = []
        self.ended: list[Process] = []
        self.kills: Counter[str] = Counter()
        self.violations: list[str] = []
        self.deeds = 0
        self._is_over = threading.Event()
        self._generation = 0
        # While the cloud is down somebody else could be given its ports.
        self._ports = {name: reserved() for name in SERVICES}
        ports = {name: held.getsockname()[1] for name, held in self._ports.items()}
        (folder / "ports.json").write_text(json.dumps(ports))

    def start(self, role: str, name: str, *more: str) -> Process:
        command = [sys.executable, __file__, "--role", role, "--folder", str(self.folder), *more]
        command += ["--seed", str(self.options.seed), "--nodes", str(self.options.nodes)]
        command += ["--faults", str(self.options.faults), "--at-once", str(self.options.at_once)]
        log = (self.folder / f"{role}.log").open("a")
        with log:
            popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        process = Process(role, name, popen)
        self.processes.append(process)
        return process

    def start_cloud(self) -> None:
        (self.folder / "up").unlink(missing_ok=True)
        cloud = self.start("cloud", "cloud")
        while not (self.folder / "up").exists():
            if cloud.popen.poll() is not None:
                raise RuntimeError(f"the cloud does not come up: {(self.folder / 'cloud.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def start_worker(self, *, survives: bool = False) -> None:
        self._generation += 1
        name = f"{'survivor' if survives else 'w'}{self._generation}"
        self.start("survivor" if survives else "worker", name, "--prefix", name)

    def lives(self) -> list[str]:
        """How each life that came to an end did."""
        return [word["ended"] for process in (*self.processes, *self.ended) for word in process.said if "life" in word]

    def kill(self, process: Process, number: int = signal.SIGKILL) -> None:
        self._must_not_have_crashed(process)
        process.end(number)
        self.processes.remove(process)
        self.ended.append(process)
        self.kills[process.role] += 1

    def _must_not_have_crashed(self, process: Process) -> None:
        # Workers come to an end of their own when it is enough; whoever else does has crashed.
        is_done = process.popen.poll() == 0 and process.role in ("worker", "survivor")
        if process in self.processes and process.popen.poll() is not None and not is_done:
            self.violations.append(f"{process.name} ended by itself, with exit code {process.popen.returncode}")

    def run(self) -> None:
        """All lives were lived, or the time is over, and everything is cleaned up as far as it can be."""
        options = self.options
        self.start_cloud()
        for number in range(2):
            self.start("janitor", f"janitor-{number + 1}")
        self.start_worker(survives=True)
        for _ in range(options.workers):
            self.start_worker()
        self._wait_until_ready()
        began = time.monotonic()
        kill_at, cloud_at = began + options.worker_kills[0], began + options.cloud_kills[0]
        deed_at, look_at = began + 3.0, began + 1.0
        sample_every_s = max(0.5, options.minutes * 60 / 300)
        reaper = threading.Thread(target=self._reap, daemon=True)
        reaper.start()
        while len(self.lives()) < options.lives and time.monotonic() - began < options.minutes * 60:
            time.sleep(0.1)
            now = time.monotonic()
            if now >= kill_at:
                kill_at = now + self.draw.uniform(*options.worker_kills)
                at_work = [one for one in self.processes if one.role == "worker" and one.said]
                if at_work:
                    self.kill(self.draw.choice(at_work))
                    self.start_worker()
            if now >= cloud_at:
                cloud_at = now + self.draw.uniform(*options.cloud_kills)
                self.kill(next(one for one in self.processes if one.role == "cloud"), signal.SIGTERM)
                time.sleep(self.draw.uniform(0.2, 2.0))
                self.start_cloud()
            if now >= deed_at:
                deed_at = now + self.draw.uniform(1.0, 4.0)
                self._interfere()
            if now >= look_at:
                look_at = now + sample_every_s
                self._look()
        (self.folder / "enough").touch()
        (self.folder / "no-faults").touch()
        for process in [one for one in self.processes if one.role in ("worker", "survivor")]:
            try:
                process.popen.wait(LIFE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.violations.append(f"{process.name} does not come to an end")
                self.kill(process)
            self._must_not_have_crashed(process)
        self._calm_down()
        self._is_over.set()
        reaper.join(LIFE_TIMEOUT_S)

    def _wait_until_ready(self) -> None:
        """All have begun to work: on a busy machine their start takes longer than some runs."""
        ends_at = time.monotonic() + STARTS_WITHIN_S
        while waited_for := [one.name for one in self.processes if one.role != "cloud" and not one.is_ready]:
            if time.monotonic() > ends_at:
                raise RuntimeError(f"{', '.join(waited_for)} did not begin to work within {STARTS_WITHIN_S:g} s")
            time.sleep(0.05)

    def _reap(self) -> None:
        """What killed workers had running is destroyed, all the time."""
        while not self._is_over.wait(1.0):
            with errors_are_told(self.violations.append):
                api = connected(self.folder)
                dead = {process.name for process in self.ended}
                left = [one.name for one in api.instances() if one.name.rpartition("-")[0] in dead]
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(partial(destroy, api, times=1), left))

    def _interfere(self) -> None:
        """An operator does something with some node, and mends what has failed, as operators do."""
        with errors_are_told(self.violations.append):
            ironic = connected(self.folder, directly=True).services.ironic
            nodes = list(ironic.nodes())
            for node in nodes:
                if node.provision_state == "clean failed":
                    if node.maintenance:
                        ironic.transport.request("DELETE", f"/nodes/{node.uuid}/maintenance", timeout_s=5)
                    self._ask(ironic, node.uuid, "manage")
                elif node.provision_state == "manageable":
                    self._ask(ironic, node.uuid, "provide")
            used = [node for node in nodes if node.provision_state == "active"]
            if used and self.draw.random() < 0.2:
                self.deeds += 1
                self._ask(ironic, self.draw.choice(used).uuid, "deleted")

    @staticmethod
    def _ask(ironic: Any, node_uuid: str, target: str) -> None:
        try:
            body = {"target": target}
            ironic.transport.request("PUT", f"/nodes/{node_uuid}/states/provision", body=body, timeout_s=5)
        except Exception as refusal:  # noqa: BLE001  an operator shrugs, and tries again later
            print(f"operator: {refusal}", file=sys.stderr) if "--debug" in sys.argv else None

    def _look(self) -> None:
        """Memory and threads are noted, and that nothing is double."""
        for process in self.processes:
            process.sample()
        with errors_are_told(self.violations.append):
            ironic = connected(self.folder, directly=True).services.ironic
            carried = Counter(node.instance_uuid for node in ironic.nodes() if node.instance_uuid is not None)
            plugged = Counter(nic.vif_id for nic in ironic.every_port() if nic.vif_id is not None)
            for what, counted in (("instance", carried), ("VIF", plugged)):
                self.violations += [f"{what} {one} is there twice" for one, times in counted.items() if times > 1]

    def _calm_down(self) -> None:
        """Whatever is there is destroyed or cleaned, or the time for it is over; what is left is a violation."""
        ends_at = time.monotonic() + CALM_S
        api = connected(self.folder, directly=True)
        left = self.left(api)
        while left and time.monotonic() < ends_at:
            self._interfere()
            for instance in api.instances():
                if instance.manager == "bloomery":
                    destroy(api, instance.uuid, times=1)
            time.sleep(1.0)
            left = self.left(api)
        self.violations += left
        for process in list(self.processes):
            if process.role not in ("worker", "survivor"):
                self._must_not_have_crashed(process)
            process.end()

    @staticmethod
    def left(api: Bloomery) -> list[str]:
        """What is there that should not be, on a cloud on which nobody has anything."""
        ironic, neutron = api.services.ironic, api.services.neutron
        found = []
        for node in ironic.nodes():
            parts = {
                "state": node.provision_state if node.provision_state != "available" else None,
                "instance": node.instance_uuid,
                "instance_info": sorted(node.instance_info),
                "mark": node.any_mark,
            }
            wrong = {name: value for name, value in parts.items() if value}
            if wrong:
                found.append(f"node {node.label}: {wrong}")
        found += [f"VIF {nic.vif_id} is plugged" for nic in ironic.every_port() if nic.vif_id is not None]
        found += [f"allocation {one.name or one.uuid}" for one in ironic.allocations()]
        found += [f"volume target {target.volume_id}" for target in ironic.every_volume_target()]
        found += [f"Neutron port {port.label}" for port in neutron.our_ports()] if neutron is not None else []
        return found

    def report(self) -> bool:
        """The table is on stdout; says whether all is well."""
        everybody = [*self.processes, *self.ended]
        lives = Counter(self.lives())
        self.violations += [word["bug"] for one in everybody for word in one.said if "bug" in word]
        self.violations += [
            f"the simulator: {word['crash']}" for one in everybody for word in one.said if "crash" in word
        ]
        if not lives:
            self.violations.append("no life came to its end")
        steady = [one for one in everybody if one.role in ("janitor", "survivor")]
        rows = [
            ("seed", str(self.options.seed)),
            ("lives", f"{sum(lives.values())} on {self.options.nodes} nodes"),
            ("ended", ", ".join(f"{count} {words}" for words, count in lives.most_common())),
            ("requests that failed", f"{self.options.faults:g} %"),
            ("kills", ", ".join(f"{count} of a {role}" for role, count in sorted(self.kills.items())) or "none"),
            ("operator's undeploys", str(self.deeds)),
        ]
        for one in steady:
            grown = one.growth()
            if grown is not None:
                before, after, threads_before, threads_after = grown
                words = f"{before:.0f} → {after:.0f} MiB, {threads_before} → {threads_after} threads"
                rows.append((one.name, words + ("" if one.is_flat else ": not flat")))
        self.violations += [f"{one.name} grows" for one in steady if not one.is_flat]
        rows.append(("left, double, or wrong", str(len(self.violations)) if self.violations else "nothing"))
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"{name:{width}}  {value}")
        for violation in self.violations[:20]:
            print(f"  {violation}")
        return not self.violations


def main() -> int:
    """The exit code of the run, or of one of its processes."""
    parser = argparse.ArgumentParser(description="Lives of instances, with faults and kills.")
    parser.add_argument("--lives", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--faults", type=float, default=5.0, help="per cent of requests that fail")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=6, help="lives per worker")
    parser.add_argument(
        "--worker-kills", type=float, nargs=2, default=(4.0, 12.0), help="seconds between two, at random"
    )
    parser.add_argument(
        "--cloud-kills", type=float, nargs=2, default=(20.0, 60.0), help="seconds between two, at random"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--role", choices=("run", "cloud", "worker", "survivor", "janitor"), default="run")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--prefix", default="w")
    options = parser.parse_args()
    match options.role:
        case "cloud":
            play_cloud(options.folder, nodes=options.nodes, faults=options.faults, seed=options.seed)
        case "worker" | "survivor":
            work(options.folder, prefix=options.prefix, at_once=options.at_once, seed=options.seed)
        case "janitor":
            clean(options.folder)
        case _:
            print(f"seed {options.seed}", flush=True)
            with tempfile.TemporaryDirectory(prefix="bloomery-soak-") as folder:
                soak = Soak(Path(folder), options)
                try:
                    soak.run()
                finally:
                    for process in soak.processes:
                        process.end()
                return 0 if soak.report() else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
