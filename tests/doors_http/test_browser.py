"""The web page in a real Chromium, in front of the lab's real Ironic: what somebody does with it, and what he sees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml
from playwright.sync_api import Browser, expect

import bloomery
from bloomery.lab import Lab
from bloomery.lab.ironic import OWN_NETWORKS
from doors_http.browser import Window, chromium, needs_chromium
from doors_http.http_site import TIMEOUT_S, running
from lab.ironic_api import IronicApi

pytestmark = [
    pytest.mark.lab,
    needs_chromium,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Support for InfluxDB"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    with chromium() as it:
        yield it


@pytest.fixture(scope="module")
def url(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service in front of the lab, which offers its images."""
    folder = tmp_path_factory.mktemp("service")
    rows = [
        {"name": name, "source": lab.images[name].url, "checksum": f"sha256:{lab.images[name].sha256}"}
        for name in ("whole-disk", "whole-disk-2")
    ]
    rows.append(
        {"name": "broken", "source": lab.images["whole-disk"].url + "?broken", "checksum": f"sha256:{'0' * 64}"}
    )
    images = folder / "images.yaml"
    images.write_text(yaml.safe_dump(rows))
    settings: dict[str, Any] = {"refresh_s": 0.5, "images": images, "janitor": True, "ironic_networks": OWN_NETWORKS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OS_CLIENT_CONFIG_FILE", str(lab.cloud_config))
        with running(lambda: bloomery.connect(lab.cloud), folder, **settings) as (address, _):
            yield address


@pytest.fixture
def window(browser: Browser, url: str) -> Iterator[Window]:
    """A window on it."""
    window = Window(browser, url)
    yield window
    window.close()


def deploy(window: Window, lab: Lab, name: str, *, node: str, image: str) -> None:
    """The form is filled in and sent; what comes of it is shown."""
    window.go("deploy")
    page = window.page
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Image", exact=True).fill(lab.images[image].url if image in lab.images else image)
    page.get_by_label("Node", exact=True).fill(node)
    page.get_by_label("private", exact=True).check()
    window.reads("1 node fits")
    expect(page.get_by_label("Command", exact=True)).to_contain_text(f"bloomery deploy {name}")
    expect(page.get_by_label("JSON", exact=True)).to_contain_text(f'"name": "{name}"')
    window.is_pictured("deploy")
    window.press("Deploy", within="form")


def test_an_instance_lives_in_the_page_from_the_form_to_its_end(
    window: Window, browser: Browser, url: str, lab: Lab
) -> None:
    page = window.page
    window.go("")
    window.reads("The fleet")
    deploy(window, lab, "web-1", node="node-0", image="whole-disk")

    window.reads("Progress")
    window.reads(re.compile(r"step \d+ of \d+"))
    window.is_pictured("progress")
    window.badge("succeeded")
    window.is_pictured("operation")
    page.locator("main").get_by_role("link", name="web-1").first.click()
    window.badge("active")
    window.reads("private")
    window.reads("default")
    window.reads("It has none.")
    window.is_pictured("instance")

    page.get_by_role("link", name="Console", exact=True).click()
    # Ironic starts a console again that ran with the node's last instance.
    start = page.get_by_role("button", name="Start the console")
    is_open = page.locator(".head .badge").get_by_text("open")
    expect(start.or_(is_open)).to_be_visible()
    if start.is_visible():
        start.click()
    window.badge("open")
    terminal = page.locator(".xterm")
    terminal.click()
    page.keyboard.press("Enter")
    expect(terminal).to_contain_text("web-1 login:")
    page.keyboard.type("me\nhostname\n")
    expect(terminal).to_contain_text("me@web-1:~$ hostname")

    other = Window(browser, url)
    other.page.goto(page.url)
    other.badge("open")
    screen = other.page.locator(".xterm")
    expect(screen).to_contain_text("me@web-1:~$ hostname")
    other.reads("anonymous types. You watch.")
    other.press("Take over typing")
    window.reads("anonymous types. You watch.")
    screen.click()
    other.page.keyboard.type("echo taken over\n")
    expect(terminal).to_contain_text("echo taken over")
    window.is_pictured("console")
    other.close()

    page.keyboard.press("Shift+Escape")
    window.go(f"instances/{page.url.rpartition('/instances/')[2].partition('/')[0]}")
    window.press("Reboot …")
    window.confirm("Reboot")
    window.reads(re.compile("reboot succeeded"))
    window.press("Attach an interface …")
    page.get_by_role("dialog").get_by_label("Network").select_option("storage")
    window.confirm("Attach")
    window.reads("storage")
    window.press("Rebuild …")
    page.get_by_role("dialog").get_by_label("Image").fill(lab.images["whole-disk-2"].url)
    window.confirm("Rebuild", typed="web-1")
    window.reads(re.compile("rebuild succeeded"))
    window.reads("whole-disk-2")
    window.go("service")
    window.reads("/v1/instances")
    window.is_pictured("service")
    for view, text in (
        ("", "Done lately"),
        ("instances", "web-1"),
        ("nodes", "node-5"),
        ("operations", "Done"),
        ("events", "node-0"),
    ):
        window.go(view)
        window.reads(text)
        window.is_pictured(view or "fleet")
    page.goto(f"{url}/#/nodes/{lab.node('node-0').uuid}")
    window.reads("It runs")
    window.reads("node-0-nic0")
    window.is_pictured("node")

    window.go("instances")
    page.get_by_role("option").filter(has_text="web-1").click()
    window.press("Destroy …")
    page.get_by_role("dialog").get_by_role("button", name="Destroy").click()
    window.reads("what is typed is not “web-1”", within="dialog")
    window.is_fit_for_everybody()
    window.confirm("Destroy", typed="web-1")
    window.badge("succeeded")


def test_a_deploy_that_fails_says_why_and_leaves_nothing(window: Window, lab: Lab) -> None:
    source = lab.images["whole-disk"].url + "?broken"
    deploy(window, lab, "web-2", node="node-1", image=source)
    window.badge("failed")
    window.reads("does not match its checksum")
    window.is_pictured("failed")
    window.go("instances")
    expect(window.page.get_by_role("option").filter(has_text="web-2")).to_have_count(0)
    window.go(f"nodes/{lab.node('node-1').uuid}")
    window.reads(re.compile("deploy failed"))


GROUP = "only-ssh"


@pytest.fixture
def open_to_volumes(lab: Lab) -> Iterator[str]:
    """The name of a node that takes volumes; and there is a security group to be had."""
    ironic = IronicApi(lab)
    node = lab.node("node-2")

    def store(interface: str) -> None:
        change = {"op": "replace", "path": "/storage_interface", "value": interface}
        ironic.call("PATCH", f"nodes/{node.uuid}", [change])

    groups = f"{lab.neutron_url}/v2.0/security-groups"
    made = requests.post(groups, json={"security_group": {"name": GROUP}}, timeout=TIMEOUT_S)
    assert made.ok, made.text
    store("external")
    yield node.name
    ironic.wait(node, "available")
    store("noop")
    requests.delete(f"{groups}/{made.json()['security_group']['id']}", timeout=TIMEOUT_S).raise_for_status()
    ironic.close()


def test_an_instance_is_rescued_dumped_shielded_and_given_a_volume_in_the_page(
    window: Window, lab: Lab, open_to_volumes: str
) -> None:
    page = window.page
    dialogue = page.get_by_role("dialog")
    deploy(window, lab, "web-3", node=open_to_volumes, image="whole-disk")
    window.badge("succeeded")
    page.locator("main").get_by_role("link", name="web-3").first.click()
    window.badge("active")

    window.press("Rescue …")
    expect(dialogue).to_contain_text("what runs on it stops")
    dialogue.get_by_role("button", name="Rescue", exact=True).click()
    expect(dialogue).to_contain_text("It is shown here, and never again")
    assert len(dialogue.locator("pre").inner_text()) >= 12
    window.is_fit_for_everybody()
    window.confirm("I have it")
    window.badge("rescue")
    window.press("Unrescue …")
    window.confirm("Unrescue")
    window.reads(re.compile("unrescue succeeded"))
    window.badge("active")

    window.press("Crash dump …")
    expect(dialogue).to_contain_text("what is not on its disks yet is lost")
    window.confirm("Crash dump")
    window.reads(re.compile("crash dump succeeded"))

    window.press("Add a security group …")
    dialogue.get_by_label("Security group").fill(GROUP)
    window.confirm("Add")
    chips = page.locator(".chips")
    expect(chips).to_contain_text(GROUP)
    page.get_by_role("button", name=re.compile(f"Take {GROUP} from")).click()
    window.confirm("Take it")
    expect(chips).not_to_contain_text(GROUP)

    expect(page.get_by_role("button", name="Attach a volume …")).to_be_disabled()
    window.press("Power off …")
    dialogue.get_by_label("Let its system shut down first").uncheck()
    window.confirm("Power off")
    window.reads(re.compile("power off", re.IGNORECASE))
    attach = page.get_by_role("button", name="Attach a volume …")
    expect(attach).to_be_enabled()
    attach.click()
    dialogue.get_by_label("Volume").fill("data-1")
    dialogue.get_by_label("Boot index").fill("1")
    dialogue.get_by_label("How to reach it").fill("{")
    dialogue.get_by_role("button", name="Attach", exact=True).click()
    window.reads("how to reach it is no JSON", within="dialog")
    dialogue.get_by_label("How to reach it").fill(
        '{"target_iqn": "iqn.2026-11.test:a", "target_portal": "127.0.0.1:3260"}'
    )
    window.confirm("Attach")
    page.get_by_role("button", name="Detach data-1").click()
    expect(dialogue).to_contain_text("What is on the volume stays")
    window.confirm("Detach")
    expect(page.get_by_role("button", name="Detach data-1")).to_have_count(0)
    window.press("Power on …")
    window.confirm("Power on")
    expect(page.get_by_role("button", name="Power off …")).to_be_enabled()
    window.is_fit_for_everybody()
    window.press("Destroy …")
    window.confirm("Destroy", typed="web-3")
    window.badge("succeeded")
