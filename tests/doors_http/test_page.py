"""The web page: what it may do, what it asks for, and that it is served. What it does in a browser is beside this."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from bloomery.doors.cli.app import app as command_line
from bloomery.doors.http import schemas as s
from bloomery.doors.http.app import PAGE, bare_app
from bloomery.doors.http.edge import HEADERS
from doors_http.http_site import Site

FILES = sorted(str(file.relative_to(PAGE)) for file in PAGE.rglob("*") if file.is_file())
OURS = [name for name in FILES if not name.startswith("vendor/")]
SCRIPTS = [name for name in OURS if name.endswith(".js")]
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def text_of(name: str) -> str:
    """The file's text."""
    return (PAGE / name).read_text()


def test_every_file_is_served_with_its_type_and_the_security_headers(site: Site) -> None:
    for name in FILES:
        if name not in OURS and Path(name).suffix not in TYPES:
            continue  # licences and authors, which no browser asks for
        answer = site.ask("GET", f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["Content-Type"].partition(";")[0] == TYPES[Path(name).suffix], name
        assert {header: answer.headers.get(header) for header in HEADERS} == HEADERS, name
    assert site.ask("GET", "/").text == text_of("index.html")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert {name: rules[name] for name in ("script-src", "style-src", "connect-src")} == dict.fromkeys(
        ("script-src", "style-src", "connect-src"), "'self'"
    )


class _Markup(HTMLParser):
    """What stands in the page that the policy would not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        inline = [name for name in given if name == "style" or name.startswith("on")]
        addresses = [value for name in ("src", "href") if (value := given.get(name)) and "//" in value]
        if inline or addresses or tag == "style" or (tag == "script" and "src" not in given):
            self.refused.append(self.get_starttag_text() or tag)


def test_the_page_has_nothing_that_the_policy_refuses() -> None:
    markup = _Markup()
    markup.feed(text_of("index.html"))
    assert markup.refused == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_that_comes_from_outside_can_become_markup_or_code(name: str) -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\b"
    ways += r"|new Function|javascript:|setHTMLUnsafe"
    assert re.findall(ways, text_of(name)) == []


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith((".js", ".css"))])
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    # An address with an ellipsis is an example of one.
    assert re.findall(r"https?://(?!…)|url\(|@import", text_of(name)) == []


def test_the_page_asks_only_for_what_the_document_has() -> None:
    paths = bare_app().openapi()["paths"]
    asked = {route for name in SCRIPTS for route in re.findall(r'"([A-Z]+ /v1[^"]*)"', text_of(name))}
    assert asked, "no request was found"
    known = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert asked - known == set()
    hidden = {name for name in SCRIPTS if re.search(r"(?<![A-Z] )/v1", text_of(name))}
    assert hidden == set(), "a path that stands otherwise is not seen by this test"


def test_every_script_is_used_and_every_import_is_there() -> None:
    used, left = set[Path](), [PAGE / "app.js"]
    while left:
        script = left.pop()
        used.add(script)
        found = {(script.parent / name).resolve() for name in re.findall(r'from ?"([^"]+)"', script.read_text())}
        left.extend(found - used)
    found = {str(script.relative_to(PAGE)) for script in used}
    assert found <= set(FILES)
    assert {name for name in found if not name.startswith("vendor/")} == set(SCRIPTS)


def test_what_is_not_ours_has_its_licence_and_its_reason_beside_it() -> None:
    told = (Path(__file__).parents[2] / "docs" / "design" / "dependencies.md").read_text()
    folders = list((PAGE / "vendor").iterdir())
    assert folders
    for folder in folders:
        assert list(folder.glob("LICENSE*")), folder.name
        assert f"`page/vendor/{folder.name}`" in told


def test_the_form_has_every_option_of_the_command_and_every_field_of_the_body() -> None:
    text = text_of("views/deploy_fields.js")
    offered = set(re.findall(r'"(--[a-z-]+)"', text))
    command = typer.main.get_command(command_line).commands["deploy"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    # Several at once, how the result is written, and what --nic says as well.
    elsewhere = {"--count", "--at-once", "--wait", "--dry-run", "--format", "--column"}
    elsewhere |= {"--subnet", "--vif", "--ip", "--security-group"}
    assert offered == options - elsewhere
    fields = set(re.findall(r'where: "([a-z_.]+)"', text)) - {"networks"}
    parts: dict[str, type[BaseModel]] = {"image": s.ImageBody, "wanted": s.WantedBody, "guest": s.GuestBody}
    asked = set(s.DeployBody.model_fields) - parts.keys()
    asked |= {f"{name}.{part}" for name, body in parts.items() for part in body.model_fields}
    assert fields == asked - {"guest.user_data_base64", "guest.files_base64"}
