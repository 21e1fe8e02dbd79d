"""What nobody may read is in no log, at any level, in no output and in no file: marked secrets go through every operation."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery import Bloomery, BloomeryError, Guest, Nic, RebuildRequest, Secret, Volume
from bloomery.ironic import Node
from live.site import Site

pytestmark = pytest.mark.lab

MARK = "s3cr3t"
RESCUE, ADMIN, USER, OTHER_USER, CHAP, FILE = (
    f"{MARK}-of-{what}" for what in ("rescue", "admin", "user-data", "rebuild", "chap", "file")
)
NODE = "node-3"


def _in_base64(text: str, shift: int) -> str:
    """What base64 makes of the text wherever so many bytes, modulo three, stand before it."""
    whole = base64.b64encode(b" " * shift + text.encode()).decode()
    return whole[(8 * shift + 5) // 6 : 8 * (shift + len(text)) // 6]


def traces(text: str) -> list[str]:
    """The lines in which a secret can be read, plain or as base64."""
    shapes = {MARK, *(_in_base64(MARK, shift) for shift in range(3))}
    return [line for line in text.splitlines() if any(shape in line for shape in shapes)]


@pytest.fixture
def everything_logged() -> Iterator[list[str]]:
    """All that any logger says, at its most talkative."""
    said: list[str] = []

    class Keep(logging.Handler):
        """Keeps every record as text, and as what it was made of."""

        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{record.name}: {record.getMessage()} {record.args!r} {record.exc_text or ''}")
            if record.exc_info and record.exc_info[1] is not None:
                said.append(repr(record.exc_info[1]))

    handler, root = Keep(level=0), logging.getLogger()
    loggers = [
        root,
        *(logging.getLogger(name) for name in [*logging.root.manager.loggerDict, "keystoneauth", "urllib3"]),
    ]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield said
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def node_with_storage(site: Site) -> Iterator[Node]:
    """A node that takes volumes."""
    uuid = site.node(NODE).uuid
    site.await_quiet(NODE)
    site.patch(uuid, storage_interface="external")
    yield site.api().node(NODE)
    site.clear()
    site.await_quiet(NODE)
    site.patch(uuid, storage_interface="noop")


def volume(number: int) -> Volume:
    properties = {"target_iqn": "iqn.2026-11.test:a", "target_portal": "127.0.0.1:3260", "auth_password": CHAP}
    return Volume(volume_id=f"data-{number}", boot_index=number, properties=Secret(properties))


def use_everything(site: Site, api: Bloomery) -> Iterator[object]:
    """Every operation that a secret goes through, and what they return."""
    guest = Guest.of(
        user_data=f"#!/bin/sh\necho {USER}\n", admin_password=Secret(ADMIN), files={"/etc/key": Secret(FILE.encode())}
    )
    request = site.request("web-1", node=NODE, nics=(Nic(network="private"),), volumes=(volume(1),), guest=guest)
    yield request
    with api.rehearsal() as (rehearsal, calls):
        rehearsal.deploy(request)
        yield calls
    yield api.deploy(request)
    yield api.rescue("web-1", Secret(RESCUE))
    api.unrescue("web-1")
    yield api.rebuild("web-1", RebuildRequest(guest=Guest.of(user_data=OTHER_USER)))
    api.power_off("web-1")
    yield api.attach_volume("web-1", volume(2))
    yield api.volume_targets(NODE)
    api.detach_volume("web-1", "data-2")
    yield api.instances()
    yield api.fleet().nodes
    with pytest.raises(BloomeryError) as failed:
        api.rescue("web-9", Secret(RESCUE))
    yield failed.value
    api.destroy("web-1", wait_for_cleaning=True)


def test_no_secret_is_logged_at_any_level_or_shown_by_a_result(
    site: Site, node_with_storage: Node, everything_logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    # Sessions of openstacksdk and keystoneauth are made after logging is on, as in a program that debugs.
    shown = [repr(result) for result in use_everything(site, site.api())]
    assert any("urllib3" in line for line in everything_logged)
    assert any("bloomery" in line for line in everything_logged)
    assert traces("\n".join(everything_logged)) == []
    assert traces("\n".join(shown)) == []
    out, err = capfd.readouterr()
    assert traces(out + err) == []


def test_no_secret_is_in_what_the_command_shows_with_debug_or_in_a_file_it_leaves(
    site: Site, node_with_storage: Node
) -> None:
    given = site.folder / "given"
    given.mkdir()

    def file(name: str, content: str) -> str:
        return site.file(f"given/{name}", content)

    properties = json.dumps(
        {"target_iqn": "iqn.2026-11.test:a", "target_portal": "127.0.0.1:3260", "auth_password": CHAP}
    )
    guest = (
        *("--user-data", file("user-data", f"#!/bin/sh\necho {USER}\n")),
        *("--admin-password-file", file("admin", ADMIN), "--file", f"/etc/key={file('key', FILE)}"),
    )
    deploy = (
        *("deploy", "web-1", "--node", NODE, *site.image_options(), "--network", "private", *guest),
        *("--volume", f"data,boot-index=1,properties={file('volume.json', properties)}"),
    )
    answers = [
        site.run("--debug", *words, exit_code=exit_code)
        for words, exit_code in (
            ((*deploy, "--dry-run"), 0),
            ((*deploy, "--network", "nowhere"), 3),
            (deploy, 0),
            (("rescue", "web-1", "--password-file", file("rescue", RESCUE)), 0),
            (("unrescue", "web-1"), 0),
            (("rebuild", "web-1", "--user-data", file("other", OTHER_USER)), 0),
            (("volume", "list", NODE, "-f", "json"), 0),
            (("show", "web-1", "-f", "json"), 0),
            (("nodes", "-f", "yaml"), 0),
            (("destroy", "web-1", "--wait-for-cleaning"), 0),
        )
    ]
    assert all(answer.err for answer in answers[:5])
    assert traces("\n".join(answer.out + answer.err for answer in answers)) == []
    assert traces("\n".join(_texts(site.folder, without=given))) == []


def _texts(folder: Path, *, without: Path) -> Iterator[str]:
    """The content of every file below the folder."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(without):
            yield path.read_text(errors="replace")


def test_traces_are_found_where_there_are_some() -> None:
    hidden = base64.b64encode(f"x{USER}".encode()).decode()
    assert len(traces(f"nothing\n{RESCUE}\n{hidden}\n{base64.b64encode(CHAP.encode()).decode()}")) == 3
