"""Graphical consoles as Ironic itself has them: its conductor starts one, its proxy lets through who has its token."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import bloomery
from bloomery import lab
from bloomery.lab import service, wait
from doors_http.browser import Window, chromium, needs_chromium
from doors_http.http_site import TIMEOUT_S, Caller, running
from doors_http.test_consoles import on_screen
from doors_http.vnc_screen import VERSION, VncScreen, bare_screen
from lab.ironic_api import IronicApi

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore:Support for InfluxDB")]

ENGINE = """#!/bin/sh
# In place of a container engine: there is one container, which always runs, and this is where its screen is.
[ "$1" = port ] && echo "127.0.0.1:{port}"
exit 0
"""
PROXY = "import sys; from ironic.command.novncproxy import main; sys.argv[0] = 'ironic-novncproxy'; sys.exit(main())"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def proxy_of(it: lab.Lab, port: int, folder: Path) -> Iterator[None]:
    """Ironic's own proxy for graphical consoles runs in front of the lab's."""
    web = folder / "web"
    web.mkdir()
    running = service.start(
        service.Service(
            name="novncproxy",
            argv=(sys.executable, "-c", PROXY, "--config-file", str(it.state / "ironic" / "ironic.conf")),
            environment={
                "OS_VNC__ENABLED": "True",
                "OS_VNC__HOST_IP": "127.0.0.1",
                "OS_VNC__PORT": str(port),
                "OS_VNC__NOVNC_WEB": str(web),
                # With `none`, which the lab has, it would look for a conductor within itself instead of reading the database.
                "OS_DEFAULT__RPC_TRANSPORT": "json-rpc",
            },
            is_ready=lambda: listens(port),
        ),
        logs=folder,
    )
    try:
        said = lambda: f"the start of Ironic's proxy: {service.tail(running.log, lines=5)}"  # noqa: E731
        wait.until(running.service.is_ready, what=said, timeout_s=120)
        yield
    finally:
        service.stop([running], grace_s=5)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Caller, VncScreen]]:
    """A service in front of a real Ironic with its proxy, an instance, and the screen of its machine."""
    folder = tmp_path_factory.mktemp("screened")
    with bare_screen() as (screen, screen_port), pytest.MonkeyPatch.context() as patch:
        engine = folder / "engine"
        engine.write_text(ENGINE.format(port=screen_port))
        engine.chmod(0o700)
        port = free_port()
        for name, value in {
            "CONTAINER_PROVIDER": "container",
            "CONTAINER_EXECUTABLE": str(engine),
            "CONSOLE_IMAGE": "none",
            "PUBLIC_URL": f"http://127.0.0.1:{port}/vnc_lite.html",
        }.items():
            patch.setenv(f"OS_VNC__{name}", value)
        options = lab.Options(nodes=1, kind=lab.Kind.FAKE, network=False)
        with lab.running(options, folder / "lab") as it, proxy_of(it, port, folder):
            operator = IronicApi(it)
            path = "/console_interface"
            operator.call("PATCH", "nodes/node-0", [{"op": "add", "path": path, "value": "fake-graphical"}])
            operator.close()
            patch.setenv("OS_CLIENT_CONFIG_FILE", str(it.cloud_config))
            with running(lambda: bloomery.connect(it.cloud), folder / "service", refresh_s=0.5) as (url, _):
                caller = Caller(url, timeout_s=120.0)
                image = {"source": it.images["whole-disk"].url, "checksum": f"{it.images_url}/SHA256SUMS"}
                caller.done("POST", "/v1/instances", {"name": "web-1", "image": image, "node": "node-0"})
                yield caller, screen


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A Chromium."""
    with chromium() as it:
        yield it


def test_ironics_own_proxy_is_passed_on_and_its_token_stays_here(screened: tuple[Caller, VncScreen]) -> None:
    caller, _ = screened
    caller.done("POST", "/v1/instances/web-1/console", {})
    shown = caller.get("/v1/instances/web-1/console")
    assert (shown["enabled"], shown["kind"]) == (True, "vnc")
    with on_screen(caller) as viewer:
        assert viewer.recv(timeout=TIMEOUT_S) == VERSION
        viewer.send(VERSION)
        assert viewer.recv(timeout=TIMEOUT_S) == b"\x01\x01"
        caller.done("DELETE", "/v1/instances/web-1/console?force=true")
        assert caller.get("/v1/instances/web-1/console")["enabled"] is False


@needs_chromium
def test_a_screen_behind_ironics_own_proxy_is_seen_in_the_page_and_keys_reach_it(
    browser: Browser, screened: tuple[Caller, VncScreen]
) -> None:
    caller, screen = screened
    uuid = caller.get("/v1/instances/web-1")["uuid"]
    window = Window(browser, caller.url)
    window.go(f"instances/{uuid}/console")
    window.uses_screen(screen)
    expect(window.page.locator("body")).not_to_contain_text("token")
    window.close()
