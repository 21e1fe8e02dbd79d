"""`bloomery console` through a service: in a real terminal, beside others, with or without a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from bloomery import errors
from bloomery.doors.http import console_client
from bloomery.doors.http.client import connect
from bloomery.doors.http.settings import Auth
from bloomery.secret import Secret
from cli.simulated_cloud import Cloud, Terminal, on_terminal
from doors_http.http_site import Site
from doors_http.serial_machine import Machine, console_site
from doors_http.test_consoles import on_console
from doors_http.test_serving import certificate

PASSWORD = "secret word"


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    """A service with an instance on it."""
    with console_site(machine, tmp_path) as site:
        site.deployed()
        yield site


def at(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], **environment: str) -> Cloud:
    """Somebody whose commands go through the service."""
    return Cloud(site.ironic, site.neutron, tmp_path, capsys, {"BLOOMERY_SERVICE": site.url, **environment})


@pytest.fixture
def somebody(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cloud:
    return at(site, tmp_path, capsys)


def works(terminal: Terminal, machine: Machine) -> None:
    """What is typed reaches the machine, and what it says the terminal."""
    terminal.await_text("you type")
    machine.says(b"login: ")
    terminal.await_text("login: ")
    terminal.type("root\r\x03")
    machine.hears(b"root\r\x03")


def test_it_is_started_used_and_left_and_stopped_again(site: Site, machine: Machine, somebody: Cloud) -> None:
    with on_terminal(somebody, "console", "web-1") as terminal:
        machine.accept()
        works(terminal, machine)
        terminal.type("\r~.")
        assert terminal.end() == 0
    assert site.ironic.node("node-0")["console_enabled"] is False


def test_beside_others_one_watches_takes_over_by_force_and_leaves_it_to_them(
    site: Site, machine: Machine, somebody: Cloud
) -> None:
    site.done("POST", "/v1/instances/web-1/console", {})
    with on_console(site) as screen:
        machine.accept()
        screen.is_told(standing="open")
        with on_terminal(somebody, "console", "web-1") as watching:
            watching.await_text("anonymous types; you watch")
            machine.says(b"for all")
            watching.await_text("for all")
            watching.type("unheard\r~.")
            assert watching.end() == 0
        with on_terminal(somebody, "console", "web-1", "--force") as typing:
            typing.await_text("you type, beside 1 who watches")
            typing.type("heard\r")
            machine.hears(b"heard\r")
            typing.type("~.")
            assert typing.end() == 0
        machine.says(b"still on")
        screen.sees(b"still on")
    assert site.ironic.node("node-0")["console_enabled"] is True


def test_a_console_that_ends_says_why(site: Site, machine: Machine, somebody: Cloud) -> None:
    with on_terminal(somebody, "console", "web-1") as terminal:
        machine.accept()
        works(terminal, machine)
        site.done("DELETE", "/v1/instances/web-1/console?force=true")
        assert terminal.end() == 7
        assert "has ended" in terminal.seen


def test_with_a_password_and_over_tls_it_is_the_same(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    files = certificate(tmp_path)
    with console_site(machine, tmp_path, auth=Auth.BASIC, users=users, **files) as site:
        trusted = str(files["tls_certificate"])
        alice = {"BLOOMERY_SERVICE_USER": "alice", "BLOOMERY_SERVICE_PASSWORD": PASSWORD, "OS_CACERT": trusted}
        client = connect(site.url, user="alice", password=Secret(PASSWORD), verify=trusted)
        address = f"wss{client.url.removeprefix('https')}/v1/instances/web-1/console/stream"
        client.close()
        cloud = at(site, tmp_path, capsys, **alice)
        deploy = (
            "deploy",
            "web-1",
            "--node",
            "node-0",
            "--image",
            "http://127.0.0.1/x.raw",
            "--checksum",
            "sha256:" + "a" * 64,
        )
        with on_terminal(cloud, *deploy, "--network", "private") as terminal:
            assert terminal.end() == 0, terminal.seen
        with on_terminal(cloud, "console", "web-1") as terminal:
            machine.accept()
            works(terminal, machine)
            terminal.type("\r~.")
            assert terminal.end() == 0
        for headers, verify, kind in (
            ({}, trusted, errors.AccessDenied),
            ({"Authorization": "Basic YWxpY2U6c2VjcmV0IHdvcmQ="}, True, errors.ConsoleFailed),
        ):
            with pytest.raises(kind), console_client.opened(address, headers, verify=verify, on_line=print):
                pass


def test_where_nobody_can_type_its_address_is_shown(
    site: Site, somebody: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOOMERY_SERVICE", site.url)
    assert "tcp://" in somebody.ok("console", "web-1", "-f", "json")
