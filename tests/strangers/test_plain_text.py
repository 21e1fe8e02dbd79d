"""No name, reason or state from outside is an order to a terminal, or forges a line of a log."""

from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery import errors
from bloomery.doors.cli.app import main
from bloomery.errors import BloomeryError
from bloomery.plain import LONGEST_REASON, clipped, logger, visible, without_places
from bloomery.rest.failures import Failure, RequestFailure
from cli.simulated_cloud import IMAGE, Cloud

SOURCES = Path(__file__).resolve().parent.parent.parent / "src" / "bloomery"
# A title for the terminal, a colour, a character turned round, a line of a log, one that C1 begins, a bell, half a pair.
NASTY = "n\x1b]0;owned\x07\x1b[31m\u202egnirts\u2066\nWARNING forged line\r\x9b2J\u2028\x00\x7f\ud800"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BloomeryError)]


def obeyed(text: str) -> set[str]:
    """The characters in the text that a terminal would obey."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


class Kept(logging.Handler):
    """Keeps each line as a file would get it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


# Logs


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_record_is_one_line_that_no_terminal_obeys(one: str, other: str) -> None:
    log, kept = logger("bloomery.strangers"), Kept()
    log.addHandler(kept)
    try:
        log.error("%s: %r, %d", one, other, 7)
        log.error("%s", BloomeryError(one, reason=other))
        log.error("%(what)s", {"what": one})
        log.error("%s", RequestFailure(Failure.LOST, other))
    finally:
        log.removeHandler(kept)
    assert len(kept.lines) == 4
    assert not obeyed("".join(kept.lines))


def test_every_logger_is_made_so() -> None:
    # The lab's services log their own doings, and simulators those of tests.
    made_otherwise = [
        path
        for path in SOURCES.rglob("*.py")
        if re.search(r"^\w*log = logging\.getLogger\(", path.read_text(), re.M)
        and path.relative_to(SOURCES).parts[0] not in ("lab", "testing")
    ]
    assert made_otherwise == []


# Errors


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_more_than_a_line_or_obeyed(kind: type[BloomeryError]) -> None:
    problem = kind(NASTY, reason=NASTY, advice=NASTY, step=NASTY, node_uuid=NASTY, operation=NASTY)
    for text in (str(problem), problem.in_full, problem.told_users):
        assert not obeyed(text)
    assert problem.text.count(NASTY) == 3


def test_a_services_log_gives_a_terminal_no_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "ironic.log"
    log.parent.mkdir()
    log.write_bytes(NASTY.encode(errors="replace") + b"\n")
    with pytest.raises(SystemExit):
        main(["lab", "logs", "ironic", "--state", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "owned" in shown
    assert obeyed(shown) == {"\n"}


def test_reasons_are_kept_as_long_as_somebody_would_read_them() -> None:
    assert clipped("x" * LONGEST_REASON) == "x" * LONGEST_REASON
    assert len(str(BloomeryError("no", reason="x" * 10_000_000))) < LONGEST_REASON + 100


SECRETS_OF_THE_HOUSE = (
    "https://ironic.example.com:6385/v1/nodes?x=1",
    "http://[fd00::7]/redfish/v1",
    "192.0.2.7",
    "192.0.2.7:623",
    "192.0.2.0/24",
    "fe80:0:0:1::7",
    "fd00::1",
    "52:54:00:12:34:56",
    "bmc17.rack4.dc1.example.com",
    "bmc17.internal",
    "bmc17:443",
    "root@bmc17",
    "1be26c0b-03f2-4d2e-ae87-c02d7f33c781",
    "1be26c0b03f24d2eae87c02d7f33c781",
    "node rack1-u7",
    "/var/lib/ironic/images/secret.qcow2",
)


@pytest.mark.parametrize("hidden", SECRETS_OF_THE_HOUSE)
@pytest.mark.parametrize("around", ["{}", "'{}'", "no route to {}, giving up", "({}).", "at {}: timed out"])
def test_users_read_no_address_no_id_and_no_file(hidden: str, around: str) -> None:
    assert hidden.removeprefix("node ") not in without_places(around.format(hidden))


@pytest.mark.parametrize(
    "text",
    [
        "said no at 12:30:05",
        "disk is 3.5 GiB, 4.0 are needed",
        "the image's checksum is wrong: sha256 was expected",
        "no free NIC on the node; a node is needed, no node fits",
        "driver/interface mismatch, and/or none",
    ],
)
def test_users_read_the_rest_as_it_was(text: str) -> None:
    assert without_places(text) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", SECRETS_OF_THE_HOUSE)
def test_no_error_tells_its_user_where_anything_is_or_whose_it_is(kind: type[BloomeryError], hidden: str) -> None:
    problem = kind(f"it failed at {hidden}", reason=f"{hidden} said no", advice=f"Ask {hidden}", request_id="req-7")
    problem.located(operation="deploy", step=f"ask {hidden}", node_uuid=SECRETS_OF_THE_HOUSE[12])
    assert hidden.removeprefix("node ") not in problem.told_users
    assert problem.told_users.endswith("[req-7]")
    assert len(problem.told_users) > len("[req-7]")
    assert hidden in problem.in_full


OF_OTHERS = (errors.Conflict, errors.GatewayError, errors.AccessDenied, errors.NoNodeFits, errors.RollbackIncomplete)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, OF_OTHERS)])
def test_what_may_be_about_others_tells_its_user_no_name(kind: type[BloomeryError]) -> None:
    told = kind("it belongs to alice", reason="alice's own").told_users
    assert "alice" not in told or kind is errors.NodeUnavailable
    assert told


@settings(deadline=None)
@given(st.text())
def test_whatever_is_told_users_is_plain(text: str) -> None:
    assert not obeyed(without_places(text))


def test_hiding_takes_no_longer_for_what_was_made_to_take_long() -> None:
    for part in ("a.", "a-", ":", "1.", "/a", "a:", "x@", "0" * 8 + "-", "node "):
        without_places(part * 2000)


# The command


def nasty_world(cloud: Cloud) -> None:
    """Everything that others may have written is nasty; the instance `web-1` runs on one node, two are free or broken."""
    cloud.deployed("web-1")
    nasty = NASTY.replace("\ud800", "")  # which no JSON has
    for node in cloud.ironic.nodes():
        more: dict[str, Any] = {} if node["instance_uuid"] else {"name": f"{nasty}{node['uuid'][:4]}"}
        cloud.ironic.set(
            node["uuid"],
            last_error=nasty,
            maintenance_reason=nasty,
            fault=nasty,
            owner=nasty,
            lessee=nasty,
            description=nasty,
            conductor_group=nasty,
            properties={"capabilities": f"{nasty}:{nasty}", nasty: nasty},
            traits=[nasty],
            **more,
        )
    cloud.neutron.add_network(nasty, cidrs=["203.0.113.0/24"])


COMMANDS = (
    ("list",),
    ("show", "web-1"),
    ("nodes",),
    ("nodes", "--all"),
    ("doctor",),
    ("validate", "node-0"),
    ("deploy", "x", *IMAGE, "--resource-class", "none-such"),
    ("deploy", "x", *IMAGE, "--resource-class", "small", "--trait", "CUSTOM_X"),
    ("deploy", "x", *IMAGE, "--resource-class", "small", "--network", NASTY[:-1].replace("\x00", "")),
    ("deploy", "x", *IMAGE, "--node", "node-0"),
    ("deploy", "web-2", *IMAGE, "--resource-class", "small", "--network", "private", "--dry-run"),
    ("interface", "list", "web-1"),
    ("destroy", "web-1"),
    ("recover",),
)


@pytest.mark.parametrize("how", [(), ("--debug",), ("--verbose",)])
def test_nothing_that_the_command_writes_is_obeyed_by_a_terminal(cloud: Cloud, how: tuple[str, ...]) -> None:
    nasty_world(cloud)
    shown = ""
    for words in COMMANDS:
        formats = ("table", "json", "yaml", "value") if words[0] in ("list", "show", "nodes") else (None,)
        for written_as in formats:
            result = cloud.run(*how, *words, *(("-f", written_as) if written_as else ()))
            out = result.out + result.err
            # Its own colours are the command's to give, where there is a terminal; here there is none.
            assert not obeyed(out) - {"\n"}, (words, written_as, out)
            shown += out
    assert visible(NASTY)[:20] in shown
