"""What is secret stays in our memory, on the wire to whom we trust, and in files of its owner alone."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from bloomery import connect
from bloomery.deadline import Deadline
from bloomery.doors.cli.app import app
from bloomery.doors.cli.cloud import SECRET_OPTIONS
from bloomery.errors import BloomeryError, UnexpectedReply
from bloomery.ironic import Ironic
from bloomery.rest.failures import Failure
from bloomery.testing import RecordedRequest
from cli.simulated_cloud import IMAGE, Cloud
from strangers.bad_server import LONG_S, Server, failing, self_signed, transport_to

MARKED = "swordfish-7f3a"
PATIENCE_S = 20.0


# TLS


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Server]:
    """A server with TLS for which nobody vouches."""
    it = Server(tls=self_signed(tmp_path))
    yield it
    it.stop()


def https(server: Server) -> str:
    return server.url.replace("http:", "https:")


def test_a_service_that_nobody_vouches_for_is_an_error_at_once_that_says_what_to_do(stranger: Server) -> None:
    started = time.monotonic()
    with pytest.raises(UnexpectedReply, match="certificate") as raised:
        Ironic.connect(transport_to(https(stranger)), Deadline(600.0, outage_s=300.0))
    assert time.monotonic() - started < PATIENCE_S
    assert not raised.value.retryable
    assert "--os-cacert" in str(raised.value)
    assert (stranger.connections, stranger.requests) == (1, [])


def test_no_password_goes_to_an_identity_service_that_nobody_vouches_for(stranger: Server) -> None:
    auth = Password(
        auth_url=https(stranger) + "/v3", username="ada", password=MARKED, project_name="p",
        user_domain_id="default", project_domain_id="default",
    )  # fmt: skip
    with pytest.raises(BloomeryError, match="certificate"):
        connect(session=Session(auth), timeout_s=PATIENCE_S)
    assert stranger.requests == []


def test_a_certificate_for_another_host_is_refused(stranger: Server, tmp_path: Path) -> None:
    transport = transport_to(https(stranger).replace("127.0.0.1", "localhost"))
    transport.adapter.session.verify = str(tmp_path / "server.pem")
    with failing(Failure.UNTRUSTED):
        transport.request("PUT", "/nodes", body={"rescue_password": MARKED}, timeout_s=LONG_S)
    assert stranger.requests == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_who_asks_for_no_checks_is_told_each_time_and_gets_none(
    stranger: Server, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(verify=False)
    for _ in range(2):
        caplog.clear()
        transport = transport_to(https(stranger), session=session)
        assert not transport.is_verified
        assert "not checked" in caplog.text
        assert transport.request("GET", "/nodes", timeout_s=LONG_S).status == 200


def test_who_asks_for_nothing_gets_checks_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert transport_to("https://127.0.0.1:1").is_verified
    assert caplog.text == ""


def test_the_command_says_each_time_that_it_checks_no_certificate(cloud: Cloud) -> None:
    for _ in range(2):
        assert "certificates are not checked" in cloud.run("--insecure", "nodes").err
    assert "certificates" not in cloud.run("nodes").err


# Memory

_PROGRAM = """
import ctypes, resource, sys
from bloomery.doors.cli.app import main
sys.argv = ["bloomery", "--version"]
try:
    main()
except SystemExit:
    pass
print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_the_command_leaves_no_core_dump_and_lets_nobody_look_in() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "0 (0, 0)"


def test_a_program_that_uses_the_library_keeps_its_own_ways() -> None:
    program = "import ctypes, bloomery; print(ctypes.CDLL(None).prctl(3))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "1"


# The list of processes

DEPLOY = (*IMAGE, "--resource-class", "small", "--network", "private")


@pytest.mark.parametrize(
    "words",
    [
        ("--os-password", MARKED, f"--os-application-credential-secret={MARKED}", "nodes"),
        ("nodes", "--os-password", MARKED, "--debug"),
        ("rescue", "web-1", "--password-file", "secret"),
        ("deploy", "web-2", *DEPLOY, "--admin-password-file", "secret", "--user-data", "secret"),
    ],
    ids=lambda words: next(word for word in words if word.startswith("--")),
)
def test_no_secret_stands_in_the_list_of_processes_while_a_command_is_at_work(
    cloud: Cloud, words: tuple[str, ...], tmp_path: Path
) -> None:
    cloud.deployed("web-1")
    (tmp_path / "secret").write_text(MARKED)
    listed: list[str] = []
    started = threading.Event()

    def look(_request: RecordedRequest) -> None:
        started.wait(PATIENCE_S)
        ours = psutil.Process(command.pid)
        listed.extend(" ".join(process.cmdline()) for process in [ours, *ours.children(recursive=True)])

    cloud.ironic.on_request = look
    command = cloud.start(*words, cwd=tmp_path)
    started.set()
    _, err = command.communicate(timeout=PATIENCE_S * 3)
    assert command.returncode == 0, err
    assert listed
    assert all(words[0] in line for line in listed), "nobody was listed"
    assert not [line for line in listed if MARKED in line]


def test_every_option_that_takes_a_secret_takes_a_file_with_it_or_is_hidden() -> None:
    def options_of(command: Any) -> Iterator[str]:
        for parameter in command.params:
            if not getattr(parameter, "is_flag", True):
                yield from parameter.opts
        for below in getattr(command, "commands", {}).values():
            yield from options_of(below)

    every = set(options_of(typer.main.get_command(app)))
    assert every >= SECRET_OPTIONS
    telling = {name for name in every if re.search("password|secret|token", name)}
    assert {name for name in telling - SECRET_OPTIONS if not name.endswith("-file")} == set()


# Files


def open_to_others(folder: Path) -> list[str]:
    """What is in the folder that others than its owner may read or write, the folder itself included."""
    return [
        f"{path} {stat.filemode(path.lstat().st_mode)}"
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


def test_what_the_command_keeps_is_its_users_whatever_the_shell_thinks_of_it(cloud: Cloud) -> None:
    before = os.umask(0)
    try:
        cloud.deployed("web-1")
    finally:
        os.umask(before)
    (kept,) = [path for path in (cloud.folder / "cache").iterdir() if path.is_dir()]
    assert list(kept.iterdir())
    assert open_to_others(kept) == []


_LAB = """
import os, pathlib, stat, sys
os.umask(0)
from bloomery import lab
folder = pathlib.Path(sys.argv[1])
with lab.running(lab.Options(nodes=1, network=False), folder):
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink() and path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            if path.lstat().st_mode & 0o077:
                print(path, stat.filemode(path.lstat().st_mode))
    print("looked")
"""


@pytest.mark.lab
def test_what_a_lab_keeps_is_its_users_whatever_the_shell_thinks_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_LAB), str(tmp_path / "state")],
        capture_output=True, text=True, check=True, timeout=280,
    )  # fmt: skip
    *found, last = done.stdout.splitlines()
    assert last == "looked"
    # What Ironic hands out to machines that boot it opens itself; the folders above are shut.
    assert [line for line in found if "/images/ironic/" not in line] == []


# BMC


@pytest.mark.parametrize("command", [("nodes", "-f", "json"), ("validate", "node-0"), ("doctor",), ("show", "web-1")])
def test_a_bmc_that_ironic_does_not_mask_is_shown_and_logged_by_nobody_of_ours(
    cloud: Cloud, command: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    cloud.deployed("web-1")
    for node in cloud.ironic.nodes():
        cloud.ironic.set(node["uuid"], driver_info={"redfish_password": MARKED, "redfish_address": f"http://{MARKED}/"})
    with caplog.at_level(logging.DEBUG):
        result = cloud.run("--debug", *command)
    assert result.out + result.err
    assert MARKED not in result.out + result.err + caplog.text
