"""Labs come and go here: up, down, status, logs.

A lab is one supervisor process and its state folder. The supervisor holds a lock on the folder for as long as it lives,
so a lab is up exactly as long as somebody holds that lock: no process id is trusted, and a folder that a killed
supervisor left behind is simply one whose lock is free.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import requests

from bloomery.lab.errors import LabError
from bloomery.lab.model import Kind, Lab, Options
from bloomery.lab.status import Status, read_lab, read_services
from bloomery.lab.vm import images as vm_images
from bloomery.lab.vm import programs
from bloomery.lab.wait import until

STATE_VARIABLE = "BLOOMERY_LAB"
_DOWN_TIMEOUT_S = 15.0

Progress = Callable[[str], None]


def default_state() -> Path:
    """The folder that holds the lab if none is named."""
    return Path(os.environ.get(STATE_VARIABLE) or ".lab").absolute()


def up(options: Options, state: Path | None = None, *, progress: Progress = lambda _: None) -> Lab:
    """A lab of these options is up, and stays up until `down`.

    Args:
        state: the folder that holds everything; None takes `$BLOOMERY_LAB`, else `.lab` in the current folder.
        progress: called with what is being done.

    Raises:
        LabError: a lab is up there already, or this one did not come up; then nothing of it is left running.
    """
    supervisor = _start(options, state, leash="until-up", progress=progress)
    if supervisor.stdin:
        supervisor.stdin.close()
    # The supervisor outlives us by design; Python would warn of a process that nobody waited for.
    supervisor.returncode = 0
    return _require(status(state).lab)


@contextlib.contextmanager
def running(options: Options, state: Path | None = None, *, progress: Progress = lambda _: None) -> Iterator[Lab]:
    """A lab is up within the block, and ends with it or with this process, however that ends."""
    supervisor = _start(options, state, leash="always", progress=progress)
    try:
        yield _require(status(state).lab)
    finally:
        _end(supervisor)


def down(state: Path | None = None) -> bool:
    """No lab is up in that folder; returns whether one was. Its logs stay."""
    folder = state or default_state()
    if not _is_held(folder):
        return False
    pid = _supervisor_of(folder)
    _signal(pid, signal.SIGTERM)
    try:
        until(lambda: not _is_held(folder), what="the end of the lab", timeout_s=_DOWN_TIMEOUT_S)
    except LabError:
        # Its services are killed with it by the kernel.
        _signal(pid, signal.SIGKILL)
        until(lambda: not _is_held(folder), what="the end of the lab's supervisor", timeout_s=_DOWN_TIMEOUT_S)
    with contextlib.suppress(ChildProcessError):
        # It is our own child if the same process took the lab up.
        os.waitpid(pid, 0)
    return True


def status(state: Path | None = None) -> Status:
    """What is up in that folder, and how its services are."""
    folder = state or default_state()
    if not _is_held(folder):
        return Status(state=folder)
    return Status(state=folder, has_supervisor=True, lab=read_lab(folder), services=read_services(folder))


def log_of(service: str, state: Path | None = None) -> Path:
    """The file with a service's output.

    Raises:
        LabError: there is no such log; says which there are.
    """
    folder = (state or default_state()) / "logs"
    names = sorted(path.stem for path in folder.glob("*.log"))
    if service not in names:
        there_are = f"there are: {', '.join(names)}" if names else f"there are none in {folder}; `up` makes them"
        raise LabError(f"the lab has no log of {service}; {there_are}")
    return folder / f"{service}.log"


def forward(node: str, address: str, port: int, state: Path | None = None) -> int:
    """A port of loopback leads to this port of this address of a virtual machine until it is switched off; returns which.

    Raises:
        LabError: no lab with virtual machines is up there, or it has no such node, or that is switched off.
    """
    it = status(state).lab
    if it is None or it.options.kind is not Kind.VM:
        raise LabError(f"no lab with virtual machines is up in {state or default_state()}")
    reply = requests.post(
        f"{it.bmc_url}/lab/machines/{it.node(node).uuid}/forward", json={"address": address, "port": port}, timeout=60
    )
    if not reply.ok:
        raise LabError(reply.json().get("error", reply.text))
    return int(reply.json()["port"])


def _start(options: Options, state: Path | None, *, leash: str, progress: Progress) -> subprocess.Popen[str]:
    folder = (state or default_state()).absolute()
    _check_requirements(options)
    if options.kind is Kind.VM:
        programs.install(programs.TO_RUN, progress=progress)
        vm_images.build(progress=progress)
    _make_state_folder(folder)
    with _lock(folder) as lock:
        log_file = os.open(folder / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(log_file, "w") as log:
            supervisor = subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", "bloomery.lab.supervisor"),
                    *(str(folder), json.dumps(asdict(options)), leash),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=(lock,),
                start_new_session=True,
            )
        os.pwrite(lock, str(supervisor.pid).encode(), 0)
    try:
        _follow(supervisor, folder, progress)
    except BaseException:
        _end(supervisor)
        raise
    return supervisor


def _check_requirements(options: Options) -> None:
    if sys.platform != "linux":
        raise LabError(f"the lab needs Linux, whose kernel ends its processes with it; this is {sys.platform}")
    needed = ("ironic", "sushy_tools", "psutil", *(("neutron", "cheroot") if options.network else ()))
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise LabError(f"the lab needs {', '.join(missing)}, which this Python lacks; install bloomery[lab]")


def _follow(supervisor: subprocess.Popen[str], folder: Path, progress: Progress) -> None:
    """The lab is up; what the supervisor said on the way was passed on."""
    if supervisor.stdout is None:
        raise AssertionError("the supervisor's output is a pipe")
    for line in supervisor.stdout:
        news = json.loads(line)
        if "failed" in news:
            raise LabError(news["failed"])
        if "up" in news:
            supervisor.stdout.close()
            return
        progress(news["doing"])
    raise LabError(f"the lab's supervisor ended before the lab was up (see {folder / 'supervisor.log'})")


def _end(supervisor: subprocess.Popen[str]) -> None:
    """The supervisor is gone, and with it the lab."""
    supervisor.terminate()
    try:
        supervisor.wait(_DOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe:
            pipe.close()


def _make_state_folder(folder: Path) -> None:
    marker = folder / "lock"
    if folder.exists() and not marker.exists() and any(folder.iterdir()):
        raise LabError(f"{folder} holds something that is not a lab; name a folder that is empty or does not exist")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    marker.touch(mode=0o600)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """The folder's lock is ours, as a descriptor that a child can inherit and go on holding."""
    descriptor = os.open(folder / "lock", os.O_RDWR)
    try:
        try:
            # Whoever asks for the status holds the lock for an instant, so it is worth a second try.
            until(lambda: _take(descriptor), what="the lock", timeout_s=0.5, poll_s=0.02)
        except LabError:
            lab = read_lab(folder)
            where = f"since {lab.started_at}, Ironic at {lab.ironic_url}" if lab else "still coming up"
            raise LabError(
                f"a lab is up already in {folder} ({where}); take it down first, or name another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _supervisor_of(folder: Path) -> int:
    """The process that holds the folder's lock; it wrote its name there."""
    until(lambda: bool((folder / "lock").read_text()), what="the start of the lab's supervisor", timeout_s=5)
    return int((folder / "lock").read_text())


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _require(lab: Lab | None) -> Lab:
    if lab is None:
        raise LabError("the lab was taken down as soon as it was up")
    return lab
