"""The web page in a real Chromium, in front of simulators: what the lab cannot show, such as ten thousand nodes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from playwright.sync_api import Browser, expect

from bloomery.doors.http import answers, feed, timely_postgresql
from bloomery.doors.http.settings import Auth
from bloomery.secret import Secret
from doors_http import postgres
from doors_http.browser import Window, chromium, needs_chromium
from doors_http.http_site import Site, cloud, connected, running, served
from doors_http.serial_machine import Machine, console_site
from doors_http.test_cleaning import SELDOM, is_clean, left
from doors_http.test_events import LOOPBACK, receiving
from doors_http.vnc_screen import vnc_screen

pytestmark = [needs_chromium, pytest.mark.timeout(600)]
MANY = 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    with chromium() as it:
        yield it


def test_what_comes_from_outside_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    reason = "<img src=x onerror=alert(1)>"
    with cloud() as (ironic, neutron):
        ironic.add_node(name="broken", maintenance=True, maintenance_reason=reason)
        with served(ironic, neutron, tmp_path) as site:
            window = Window(browser, site.url)
            window.go("")
            window.reads(reason)
            expect(window.page.locator(".tile").first).to_have_text("4nodes")
            assert window.page.locator("img[src=x]").count() == 0
            window.close()


def test_a_connection_that_is_lost_is_said_and_what_happened_meanwhile_is_caught_up(
    browser: Browser, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with cloud() as (ironic, neutron):
        with running(lambda: connected(ironic, neutron), tmp_path, port=port) as (url, _):
            window = Window(browser, url)
            window.go("nodes")
            window.reads("live", within="header")
            window.reads("node-2")
        window.reads("not live", within="header")
        expect(window.page.locator("#banner")).to_contain_text("The connection to the service is lost")
        window.is_fit_for_everybody()
        ironic.set("node-2", maintenance=True)
        with running(lambda: connected(ironic, neutron), tmp_path, port=port):
            expect(window.page.locator("#link")).to_have_text("live")
            expect(window.page.get_by_role("option").filter(has_text="node-2")).to_contain_text("maintenance")
            expect(window.page.locator("#banner")).to_be_hidden()
            window.complaints.clear()  # a browser notes each answer that did not come
            window.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Site, Machine]]:
    """A service that asks for a password, and an instance whose console runs."""
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'secret word', bcrypt.gensalt(4)).decode()}\n")
    machine = Machine()
    try:
        with console_site(machine, tmp_path, auth=Auth.BASIC, users=users) as site:
            site.headers = {"Authorization": "Basic YWxpY2U6c2VjcmV0IHdvcmQ="}
            site.deployed()
            site.done("POST", "/v1/instances/web-1/console", {})
            yield site, machine
    finally:
        machine.close()


def test_who_signs_in_is_let_in_to_the_console_too_and_his_password_is_in_no_address(
    browser: Browser, guarded: tuple[Site, Machine]
) -> None:
    site, machine = guarded
    window = Window(browser, site.url)
    addresses: list[str] = []
    window.page.on("request", lambda request: addresses.append(request.url))
    window.page.on("websocket", lambda stream: addresses.append(stream.url))
    window.go(f"instances/{site.get('/v1/instances/web-1')['uuid']}/console")
    dialogue = window.page.get_by_role("dialog")
    dialogue.get_by_label("Name").fill("alice")
    dialogue.get_by_label("Password").fill("secret word")
    window.is_fit_for_everybody()
    dialogue.get_by_role("button", name="Sign in").click()
    machine.accept()
    machine.says(b"\x1b[38;2;255;100;0mlogin\x1b[0m: ")
    terminal = window.page.locator(".xterm")
    expect(terminal).to_contain_text("login: ")
    terminal.click()
    window.page.keyboard.type("me\n")
    machine.hears(b"me\r")
    machine.hangs_up()
    site.done("DELETE", "/v1/instances/web-1/console?force=true")
    window.reads("It has ended: the console was stopped.")
    assert any("/console/stream" in one for one in addresses)
    assert not any("secret" in one or "YWxp" in one for one in addresses)
    window.close()


def test_who_is_known_no_more_is_asked_who_he_is_and_catches_up(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BELIEVED_S", 0.2)
    monkeypatch.setattr(feed, "HEARTBEAT_S", 0.05)
    users = tmp_path / "users"

    def has_password(password: str) -> None:
        users.write_text(f"alice:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")

    has_password("first word")
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, auth=Auth.BASIC, users=users) as site:
        window = Window(browser, site.url)
        dialogue = window.page.get_by_role("dialog")
        banner = window.page.locator("#banner")

        def signs_in(password: str) -> None:
            dialogue.get_by_label("Name").fill("alice")
            dialogue.get_by_label("Password").fill(password)
            dialogue.get_by_role("button", name="Sign in").click()

        window.go("nodes")
        signs_in("first word")
        expect(window.page.locator("#link")).to_have_text("live")
        window.reads("node-2")
        has_password("second word")
        expect(banner).to_contain_text("The service does not know you any more")
        expect(dialogue).to_have_count(1)
        ironic.set("node-2", maintenance=True)
        signs_in("second word")
        expect(window.page.locator("#link")).to_have_text("live")
        expect(banner).to_be_hidden()
        expect(window.page.get_by_role("option").filter(has_text="node-2")).to_contain_text("maintenance")
        window.close()


def test_a_screen_is_seen_and_keys_reach_it(browser: Browser, tmp_path: Path) -> None:
    with vnc_screen() as screen, cloud(nodes=0) as (ironic, neutron):
        ironic.add_node(name="node-0", resource_class="small", console_interface="redfish-graphical")
        ironic.bmc("node-0").screen_url = screen.url
        with served(ironic, neutron, tmp_path) as site:
            uuid = site.deployed()["uuid"]
            window = Window(browser, site.url)
            window.go(f"instances/{uuid}/console")
            window.uses_screen(screen)
            window.is_fit_for_everybody()
            window.page.keyboard.press("Shift+Escape")
            expect(window.page.locator("h1 a")).to_be_focused()
            window.go("")
            window.close()


@postgres.NEEDED
def test_a_log_that_hangs_is_said_and_the_fleet_is_shown_all_the_same(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timely_postgresql, "ANSWER_TIMEOUT_S", 1.0)
    with postgres.server() as database, cloud() as (ironic, neutron):
        log = {"database": Secret(postgres.fresh(database.url) + "?connect_timeout=2")}
        with served(ironic, neutron, tmp_path, **log) as site:
            window = Window(browser, site.url)
            window.go("nodes")
            window.reads("node-2")
            with database.frozen():
                expect(window.page.locator("#banner")).to_contain_text("the database does not answer")
                ironic.set("node-2", name="renamed")
                window.page.reload()
                window.reads("renamed")
                expect(window.page.locator("#banner")).to_contain_text("Nothing new can be begun")
                window.is_fit_for_everybody()
            expect(window.page.locator("#banner")).to_be_hidden()
            window.close()


def test_ten_thousand_nodes_are_listed_searched_and_opened_by_keyboard_with_few_rows_in_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    with cloud(nodes=0) as (ironic, neutron):
        for number in range(MANY):
            ironic.add_node(
                name=f"rack-{number // 100}-{number % 100}", traits=["CUSTOM_GPU"] if number == 7777 else []
            )
        with served(ironic, neutron, tmp_path, refresh_s=5.0) as site:
            window = Window(browser, site.url)
            page = window.page
            window.go("nodes")
            window.reads("10,000 nodes")
            assert 0 < page.get_by_role("option").count() < 100
            page.keyboard.press("/")
            page.keyboard.type("custom_gpu")
            window.reads("1 of 10,000 nodes")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
            window.reads("rack-77-77")
            expect(page.locator("h1")).to_have_text("rack-77-77")
            page.keyboard.press("Escape")
            page.get_by_role("listbox").focus()
            page.keyboard.press("End")
            window.reads("rack-99-99")
            window.is_fit_for_everybody()
            window.close()


def test_somebody_is_told_of_events_and_told_again_what_he_missed(browser: Browser, tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        cloud() as (ironic, neutron),
        served(ironic, neutron, tmp_path, webhook_networks=LOOPBACK) as site,
    ):
        window = Window(browser, site.url)
        dialogue = window.page.get_by_role("dialog")
        window.go("service")
        window.reads("Nobody is told of events.")
        window.press("Tell somebody …")
        dialogue.get_by_label("Address").fill("ftp://hooks.example/")
        dialogue.get_by_label("Events").fill("node.maintenance")
        dialogue.get_by_role("button", name="Add").click()
        dialogue.get_by_role("alert").wait_for()
        dialogue.get_by_label("Address").fill(receiver.url)
        dialogue.get_by_role("button", name="Add").click()
        expect(dialogue).to_contain_text("Events are signed with it")
        window.is_fit_for_everybody()
        dialogue.get_by_role("button", name="I have it").click()
        receiver.statuses.append(500)
        ironic.set("node-1", maintenance=True)
        site.wait_for(lambda: len(receiver.got) == 2)
        window.page.get_by_role("link", name=receiver.url).click()
        window.reads("delivered")
        window.press("Send 1 again")
        window.confirm("Send again")
        site.wait_for(lambda: len(receiver.got) == 3)
        numbers = [headers["Bloomery-Delivery"] for headers, _ in receiver.got]
        assert len(set(numbers)) == 1
        assert len({body for _, body in receiver.got}) == 1
        window.is_fit_for_everybody()
        window.go("service")
        window.press(f"Remove {receiver.url}")
        window.confirm("Remove")
        window.reads("Nobody is told of events.")
        window.close()


def test_the_janitor_is_seen_at_its_work_paused_and_let_go_on(browser: Browser, tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path, **SELDOM) as site:
        ironic.set("node-2", instance_uuid="0c9f3a56-4d1f-4f0d-9d2d-6a0c6f1f4b77")
        left(ironic)
        window = Window(browser, site.url)
        window.go("service")
        window.press("Look now")
        window.reads("1 of 1")
        assert is_clean(ironic)
        window.reads("somebody has claimed the node")
        expect(window.page.get_by_text("1 certainly left, 1 not ours")).to_be_visible()
        window.is_pictured("janitor")
        window.press("Pause")
        window.reads("paused")
        expect(window.page.get_by_role("button", name="Look now")).to_have_count(0)
        window.press("Let it go on")
        expect(window.page.get_by_role("button", name="Look now")).to_be_visible()
        window.go("events")
        window.reads("what was left is cleaned")
        window.go("")
        window.reads("1 leftover").click()
        window.reads("somebody has claimed the node")
        window.close()


def test_a_service_without_a_janitor_says_so_in_the_page(browser: Browser, tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path) as site:
        window = Window(browser, site.url)
        window.go("service")
        window.reads("This service was started without it.")
        expect(window.page.get_by_role("button", name="Pause")).to_have_count(0)
        window.close()


def test_an_instance_of_a_class_is_had_without_naming_node_or_class(browser: Browser, tmp_path: Path) -> None:
    with cloud() as (ironic, neutron), served(ironic, neutron, tmp_path) as site:
        ironic.add_node(name="large-0", resource_class="large")
        site.wait_for(lambda: len(site.get("/v1/nodes")["nodes"]) == 4)
        window = Window(browser, site.url)
        window.go("deploy")
        page = window.page
        expect(page.get_by_label("Resource class")).to_have_value("small")
        window.reads("3 nodes fit")
        page.get_by_label("Node", exact=True).fill("large-0")
        expect(page.get_by_label("Resource class")).to_have_value("")
        window.reads("1 node fits")
        page.get_by_label("Node", exact=True).fill("")
        expect(page.get_by_label("Resource class")).to_have_value("small")
        page.get_by_label("Name", exact=True).fill("web-1")
        page.get_by_label("Image", exact=True).fill("http://127.0.0.1/x.raw")
        page.get_by_label("Checksum", exact=True).fill("sha256:" + "a" * 64)
        page.get_by_label("private", exact=True).check()
        window.press("Deploy", within="form")
        window.badge("succeeded")
        window.close()
