"""The deploy agent that runs on one machine, as Ironic knows it: it looks itself up, sends heartbeats, takes commands.

It stands in for ironic-python-agent and speaks its HTTP protocol, so that Ironic's own code deploys, cleans and rescues.
What it does to the disk is to note it down (`machine.Machine`); the image, though, is really downloaded and verified.

Source: ironic.drivers.modules.agent_client (the commands), ironic.api.controllers.v1.ramdisk (lookup and heartbeat).
"""

import base64
import gzip
import hashlib
import io
import re
import struct
import tarfile
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import requests

from bloomery.lab.boot import AGENT_PARAMETER, Running
from bloomery.lab.machine import Machine, decode_config_drive, now

AGENT_VERSION = "11.0.0"
_API_VERSION = {"X-OpenStack-Ironic-API-Version": "1.72"}
_HARDWARE_MANAGER = {"bloomery_lab": "1"}
_CHUNK_BYTES = 1024 * 1024
_HASH_BY_HEX_LENGTH = {32: "md5", 64: "sha256", 128: "sha512"}

Params = Mapping[str, Any]


class CommandStatus(StrEnum):
    """How far a command is, in the agent's words."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class CommandError(Exception):
    """A command that failed; `kind` is the name that the real agent gives such a failure."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(details)
        self.kind = kind
        self.details = details


class Refused(Exception):
    """A request that the agent does not take."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True, kw_only=True)
class Command:
    """A command that Ironic gave, and what became of it."""

    name: str
    params: Params
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: CommandStatus = CommandStatus.RUNNING
    result: Any = None
    error: dict[str, Any] | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        """The command as Ironic reads it; the parameters stay here, they hold users' data."""
        return {
            "id": self.id,
            "command_name": self.name.partition(".")[2],
            "command_params": {},
            "command_status": self.status,
            "command_error": self.error,
            "command_result": self.result,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every agent of the lab knows: where Ironic, the BMCs and it itself answer, and how slow it is to be."""

    ironic_url: str
    bmc_url: str
    agent_url: str
    deploy_seconds: int
    boot_seconds: float = 0.5
    heartbeat_seconds: float = 1.0


class Ramdisk:
    """The agent on one machine, from the machine's boot to its end."""

    def __init__(self, machine: Machine, settings: Settings, kernel_parameters: Params) -> None:
        self._machine = machine
        self._ironic_url = kernel_parameters.get(AGENT_PARAMETER, settings.ironic_url)
        # A token that came with the boot is not told again by the lookup.
        self._token_at_boot = kernel_parameters.get("ipa-agent-token")
        self._settings = settings
        self._session = requests.Session()
        self._ended = threading.Event()
        self._heartbeat_due = threading.Event()
        self._lock = threading.Lock()
        self._token = ""
        self._node_uuid = ""
        self._takes_md5 = False
        self._commands: list[Command] = []
        self._started_at = now()
        self._thread = threading.Thread(target=self._live, daemon=True, name=machine.name)

    def boot(self) -> None:
        """The agent starts, and will be heard of in a moment."""
        self._thread.start()

    def end(self) -> None:
        """The agent is gone: it takes no command and sends no heartbeat."""
        self._ended.set()
        self._heartbeat_due.set()

    # --- towards Ironic

    def _live(self) -> None:
        self._ended.wait(self._settings.boot_seconds)
        while not self._ended.is_set() and not self._look_up():
            self._ended.wait(0.3)
        while not self._ended.is_set():
            self._heartbeat_due.clear()
            self._heartbeat()
            self._heartbeat_due.wait(self._settings.heartbeat_seconds)

    def _look_up(self) -> bool:
        """Whether Ironic knows this machine and let its agent in."""
        try:
            reply = self._session.get(
                f"{self._ironic_url}/v1/lookup",
                params={"addresses": ",".join(self._machine.mac_addresses)},
                headers=_API_VERSION,
                timeout=30,
            )
            reply.raise_for_status()
        except requests.RequestException as error:
            self._say(f"lookup: {error}")
            return False
        found = reply.json()
        self._token = self._token_at_boot or found["config"]["agent_token"]
        self._takes_md5 = bool(found["config"]["agent_md5_checksum_enable"])
        self._node_uuid = found["node"]["uuid"]
        self._say(f"is node {self._node_uuid}")
        return True

    def _heartbeat(self) -> None:
        try:
            self._session.post(
                f"{self._ironic_url}/v1/heartbeat/{self._node_uuid}",
                json={
                    "callback_url": f"{self._settings.agent_url}/agents/{self._machine.uuid}",
                    "agent_token": self._token,
                    "agent_version": AGENT_VERSION,
                },
                headers=_API_VERSION,
                timeout=30,
            ).raise_for_status()
        except requests.RequestException as error:
            self._say(f"heartbeat: {error}")

    # --- from Ironic

    def status(self) -> dict[str, Any]:
        """What the agent says of itself."""
        return {"started_at": self._started_at, "version": AGENT_VERSION}

    def commands(self, token: str) -> list[dict[str, Any]]:
        """All commands since the boot, the newest last."""
        self._check(token)
        return [command.as_json() for command in self._commands]

    def command(self, token: str, command_id: str) -> dict[str, Any]:
        """One command."""
        self._check(token)
        for command in self._commands:
            if command.id == command_id:
                return command.as_json()
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no command {command_id}")

    def execute(self, token: str, *, name: str, params: Params, wait: bool) -> dict[str, Any]:
        """The command was started, and has ended if it is a short one or `wait` was asked for."""
        self._check(token)
        if name not in _COMMANDS:
            raise Refused(HTTPStatus.NOT_FOUND, f"Unknown command: {name}")
        action, is_long = _COMMANDS[name]
        command = Command(name=name, params=params)
        with self._lock:
            if self._commands and self._commands[-1].status is CommandStatus.RUNNING:
                raise Refused(HTTPStatus.CONFLICT, f"Agent is busy executing {self._commands[-1].name}")
            self._commands.append(command)
        self._say(name)
        if is_long:
            threading.Thread(target=self._run, args=(command, action), daemon=True).start()
            if wait:
                command.ended.wait()
        else:
            self._run(command, action)
        return command.as_json()

    def _check(self, token: str) -> None:
        if not self._token or token != self._token:
            raise Refused(HTTPStatus.UNAUTHORIZED, "Invalid agent_token")

    def _run(self, command: Command, action: "Action") -> None:
        try:
            command.result = action(self, command.params)
            command.status = CommandStatus.SUCCEEDED
        except CommandError as error:
            self._say(f"{command.name} failed: {error.kind}")
            command.error = {
                "type": error.kind,
                "code": HTTPStatus.INTERNAL_SERVER_ERROR,
                "message": error.kind,
                "details": error.details,
            }
            command.status = CommandStatus.FAILED
        command.ended.set()
        self._heartbeat_due.set()

    def _say(self, text: str) -> None:
        print(f"{now()} {self._machine.name}: {text}", flush=True)
        self._machine.serial.write(f"deploy agent: {text}\n")

    # --- the commands

    def _get_steps(self, kind: str) -> dict[str, Any]:
        steps = [step for step in _STEPS if step.is_offered(kind, self._settings)]
        return {
            f"{kind}_steps": {"bloomery_lab": [step.as_json(kind) for step in steps]},
            "hardware_manager_version": _HARDWARE_MANAGER,
        }

    def _execute_step(self, kind: str, params: Params) -> dict[str, Any]:
        asked = params["step"]
        for step in _STEPS:
            if step.name == asked["step"] and kind in step.priorities:
                result = step.action(self, asked.get("args") or {})
                return {f"{kind}_result": result, f"{kind}_step": asked}
        raise CommandError("StepNotFound", f"this agent has no {kind} step {asked['step']}")

    def write_image(self, params: Params) -> str:
        """The image was downloaded, is what its checksum says, and is on the disk with the config drive."""
        image = params["image_info"]
        self.pause(0.7)
        algorithm, expected = self._expected_hash(image)
        digest, sha256, head, size_bytes = hashlib.new(algorithm), hashlib.sha256(), b"", 0
        url = image["urls"][0]
        try:
            with requests.get(url, stream=True, timeout=60) as reply:
                if reply.status_code != HTTPStatus.OK:
                    raise CommandError("ImageDownloadError", f"Download of {url} failed: HTTP {reply.status_code}")
                for chunk in reply.iter_content(_CHUNK_BYTES):
                    head = head or chunk[:512]
                    digest.update(chunk)
                    sha256.update(chunk)
                    size_bytes += len(chunk)
        except requests.RequestException as error:
            raise CommandError("ImageDownloadError", f"Download of {url} failed: {error}") from error
        if digest.hexdigest() != expected:
            raise CommandError(
                "ImageChecksumError",
                f"{url} does not match its checksum: {algorithm} {expected} was asked for, {digest.hexdigest()} came",
            )
        config_drive = self._config_drive(params.get("configdrive"))
        self._machine.wipe()
        is_partition = "root_mb" in image
        self._machine.change(
            image_url=url,
            image_sha256=sha256.hexdigest(),
            image_size_bytes=size_bytes,
            root_uuid=str(uuid.uuid4()) if is_partition else _disk_signature(head),
            efi_partition_uuid=str(uuid.uuid4()) if is_partition else None,
            written_at=now(),
        )
        if config_drive is not None:
            self._machine.write_config_drive(config_drive)
        return f"{url} is on the disk"

    def _expected_hash(self, image: Params) -> tuple[str, str]:
        if image.get("os_hash_algo") and image.get("os_hash_value"):
            algorithm, expected = image["os_hash_algo"], image["os_hash_value"].lower()
        else:
            checksum = image.get("checksum") or ""
            if checksum.startswith(("http://", "https://")):
                checksum = _find_checksum(checksum, image["urls"][0])
            algorithm, expected = _HASH_BY_HEX_LENGTH.get(len(checksum), ""), checksum.lower()
        if algorithm not in _HASH_BY_HEX_LENGTH.values() or (algorithm == "md5" and not self._takes_md5):
            raise CommandError("ImageChecksumError", f"no checksum that this agent takes came with {image['urls'][0]}")
        return algorithm, expected

    def _config_drive(self, source: str | None) -> bytes | None:
        if not source:
            return None
        try:
            if source.startswith(("http://", "https://")):
                reply = requests.get(source, timeout=60)
                reply.raise_for_status()
                source = reply.text
            return decode_config_drive(source)
        except (requests.RequestException, ValueError, gzip.BadGzipFile) as error:
            raise CommandError("DeploymentError", f"The config drive cannot be read: {error}") from error

    def erase(self, _params: Params) -> None:
        """Nothing is on the disk."""
        self._machine.wipe()
        self._machine.change(cleaned_at=now())

    def idle(self, params: Params) -> None:
        """Some time went by."""
        self._ended.wait(float(params.get("seconds", 0)))

    def check_disk(self, _params: Params) -> None:
        """The disk was looked at for as long as that takes."""
        self.pause(0.15)

    def pause(self, share: float) -> None:
        """A share of the time that a deploy is to take went by, unless the machine was switched off meanwhile."""
        if self._ended.wait(self._settings.deploy_seconds * share):
            raise CommandError("SystemRebootError", "the machine was switched off")

    def partition_uuids(self, _params: Params) -> dict[str, Any]:
        record = self._machine.snapshot()
        return {"root uuid": record["root_uuid"], "efi system partition uuid": record["efi_partition_uuid"]}

    def install_bootloader(self, _params: Params) -> None:
        if not self._machine.snapshot()["image_url"]:
            raise CommandError("DeviceNotFound", "there is no system on the disk that could be made to boot")

    def sync(self, _params: Params) -> None:
        """Everything is on the disk; our records are as soon as they are written."""

    def power_off(self, _params: Params) -> None:
        self._reset("GracefulShutdown")

    def reboot(self, _params: Params) -> None:
        self._reset("GracefulRestart")

    def _reset(self, reset_type: str) -> None:
        url = f"{self._settings.bmc_url}/redfish/v1/Systems/{self._machine.uuid}/Actions/ComputerSystem.Reset"
        try:
            requests.post(url, json={"ResetType": reset_type}, timeout=30).raise_for_status()
        except requests.RequestException as error:
            raise CommandError("SystemRebootError", f"The machine cannot be reset: {error}") from error

    def collect_logs(self, _params: Params) -> dict[str, str]:
        text = "\n".join(f"{command.name} {command.status}" for command in self._commands).encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            entry = tarfile.TarInfo("commands")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        return {"system_logs": base64.b64encode(archive.getvalue()).decode()}

    def finalize_rescue(self, params: Params) -> None:
        """The machine can be logged into with the rescue password; the agent has done its work."""
        self._machine.change(running=Running.RESCUE, rescue_password_hash=params["rescue_password"])
        self._machine.run_system("the rescue ramdisk")

    def lock_down(self, _params: Params) -> None:
        self.end()


def _disk_signature(head: bytes) -> str:
    (signature,) = struct.unpack_from("<I", head.ljust(512, b"\x00"), 440)
    return f"0x{signature:08x}"


def _find_checksum(checksums_url: str, image_url: str) -> str:
    """The checksum of the image in a file of the kind that `sha256sum` writes."""
    try:
        reply = requests.get(checksums_url, timeout=60)
        reply.raise_for_status()
    except requests.RequestException as error:
        raise CommandError("ImageDownloadError", f"Download of {checksums_url} failed: {error}") from error
    name = image_url.rpartition("/")[2]
    for line in reply.text.splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]+)\s+\*?(?:\./)?(\S+)", line.strip())
        if match and match[2] == name:
            return match[1]
    raise CommandError("ImageDownloadError", f"{checksums_url} has no line for {name}")


Action = Callable[[Ramdisk, Params], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that the agent can do as a step of cleaning, deploying or servicing; priority 0 is only on request."""

    name: str
    action: Action
    priorities: Mapping[str, int]
    only_in_slow_labs: bool = False

    def is_offered(self, kind: str, settings: Settings) -> bool:
        return kind in self.priorities and (settings.deploy_seconds > 0 or not self.only_in_slow_labs)

    def as_json(self, kind: str) -> dict[str, Any]:
        return {
            "step": self.name,
            "interface": "deploy",
            "priority": self.priorities[kind],
            "reboot_requested": False,
            "abortable": True,
        }


_STEPS = (
    Step(name="check_disk", action=Ramdisk.check_disk, priorities={"deploy": 95}, only_in_slow_labs=True),
    Step(name="write_image", action=Ramdisk.write_image, priorities={"deploy": 0}),
    Step(name="verify_disk", action=Ramdisk.check_disk, priorities={"deploy": 70}, only_in_slow_labs=True),
    Step(name="erase_devices_metadata", action=Ramdisk.erase, priorities={"clean": 99, "deploy": 0}),
    Step(name="erase_devices", action=Ramdisk.erase, priorities={"clean": 10}),
    Step(name="burnin_cpu", action=Ramdisk.idle, priorities={"clean": 0, "deploy": 0, "service": 0}),
)

# The action, and whether it may take long: then the reply comes before the end.
_COMMANDS: Mapping[str, tuple[Action, bool]] = {
    "clean.get_clean_steps": (lambda ramdisk, _: ramdisk._get_steps("clean"), False),
    "clean.execute_clean_step": (lambda ramdisk, params: ramdisk._execute_step("clean", params), True),
    "deploy.get_deploy_steps": (lambda ramdisk, _: ramdisk._get_steps("deploy"), False),
    "deploy.execute_deploy_step": (lambda ramdisk, params: ramdisk._execute_step("deploy", params), True),
    "service.get_service_steps": (lambda ramdisk, _: ramdisk._get_steps("service"), False),
    "service.execute_service_step": (lambda ramdisk, params: ramdisk._execute_step("service", params), True),
    "standby.get_partition_uuids": (Ramdisk.partition_uuids, False),
    "standby.sync": (Ramdisk.sync, False),
    "standby.power_off": (Ramdisk.power_off, True),
    "standby.run_image": (Ramdisk.reboot, True),
    "image.install_bootloader": (Ramdisk.install_bootloader, True),
    "log.collect_system_logs": (Ramdisk.collect_logs, False),
    "rescue.finalize_rescue": (Ramdisk.finalize_rescue, False),
    "system.lockdown": (Ramdisk.lock_down, False),
}
