"""A real Chromium, and what somebody in front of it does."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from doors_http.vnc_screen import COLOUR, VncScreen

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE_MS = 300_000
"""For whatever is waited for: machines of the lab boot, and processors are shared."""
WIDTHS = {1280: 800, 400: 800}
expect.set_options(timeout=PATIENCE_MS)
THEMES = ("light", "dark")
PICTURES = os.environ.get("BLOOMERY_PICTURES")
"""Where pictures of the pages are left for the documentation; nowhere, if it is not said."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine: install Debian's package `chromium`"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium without windows."""
    # As root it refuses to begin with its sandbox.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A window of that browser on the service's page, and what went wrong in it.

    Args:
        browser: whose it is.
        url: the service's.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        # That a request failed is said by the page itself, in words.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def go(self, route: str) -> None:
        """That view is shown."""
        self.page.goto(f"{self.url}/#/{route}")

    def reads(self, text: str | re.Pattern[str], within: str = "main") -> Locator:
        """The text is there, or comes."""
        found = self.page.locator(within).get_by_text(text).first
        expect(found).to_be_visible(timeout=PATIENCE_MS)
        return found

    def press(self, name: str, within: str = "body") -> None:
        """The button, or link, of that name is pressed."""
        self.page.locator(within).get_by_role("button", name=name, exact=True).click()

    def confirm(self, name: str, typed: str | None = None) -> None:
        """What is asked for is confirmed, with what has to be typed for that."""
        dialogue = self.page.get_by_role("dialog")
        if typed is not None:
            dialogue.get_by_label(f"Type “{typed}” to confirm").fill(typed)
        dialogue.get_by_role("button", name=name, exact=True).click()
        expect(dialogue).to_have_count(0)

    def badge(self, state: str) -> None:
        """What is shown stands so."""
        expect(self.page.locator(".head .badge").first).to_have_text(state)

    def is_fit_for_everybody(self) -> None:
        """axe finds nothing, in either theme."""
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            violations = Axe().run(self.page).response["violations"]
            found = [(one["id"], theme, [node["html"][:200] for node in one["nodes"]]) for one in violations]
            assert found == [], found
        self.page.emulate_media(color_scheme=None)

    def is_pictured(self, name: str) -> None:
        """Pictures of it are left, in both themes and widths; it is fit for everybody, and nothing is wider than the window."""
        for width, height in WIDTHS.items():
            self.page.set_viewport_size({"width": width, "height": height})
            self.is_fit_for_everybody()
            sideways = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert sideways <= 0, f"{name} is {sideways} pixels too wide at {width}"
            for theme in THEMES if PICTURES else ():
                self.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                self.page.screenshot(path=Path(str(PICTURES)) / f"page-{name}-{theme}-{width}.png")
        self.page.emulate_media(color_scheme=None)
        self.page.set_viewport_size({"width": 1280, "height": 800})

    def uses_screen(self, screen: VncScreen) -> None:
        """The console of the instance that is shown is started; its screen is seen, and a key reaches it."""
        self.press("Start the console")
        self.badge("open")
        seen = "() => [...document.querySelector('.picture canvas').getContext('2d').getImageData(9, 9, 1, 1).data]"
        self.page.wait_for_function(f"() => ({seen})().join() === '{','.join(map(str, COLOUR))},255'")
        self.page.keyboard.press("a")
        assert screen.pressed.wait(PATIENCE_MS / 1000)
        assert screen.keys == [ord("a")]

    def close(self) -> None:
        """It is closed, and nothing went wrong in it."""
        self.page.close()
        assert self.complaints == []
