"""The security review finds what it says that it finds, and nothing in Bloomery that has no written reason."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tools.security_review import accepted, scanners
from tools.security_review.__main__ import main
from tools.security_review.cwe import PILLARS, WEAKNESSES, pillar_of
from tools.security_review.report import as_json, markdown, sarif
from tools.security_review.review import CHECKS, Review, looked_for, review
from tools.security_review.source import Source

ROOT = Path(__file__).resolve().parent.parent.parent
REASONS = ROOT / "tools" / "security_review" / "accepted.toml"
SHAPES = Path(__file__).with_name("driver_shapes.txt")

DOOR = "from n import D, e, k\nclass X(D):\n def f(self):\n"
SHARED = "import threading\nclass C:\n def __init__(self): self.x = {}\n def a(self): self.x[1] = 2\n"
LOCKED = (
    "class C:\n def __init__(self): self.mine = Lock(); self.x = {}\n def a(self):\n  with self.mine: self.x.pop(1)\n"
)
FOUND_AND_NOT_FOUND: dict[str, list[tuple[str, str]]] = {
    "broad-except": [
        ("try: f()\nexcept Exception: pass", "try: f()\nexcept ValueError: pass"),
        ("try: f()\nexcept: x = 1", "try: f()\nexcept Exception: raise"),
        ("for i in x:\n try: f()\n except BaseException: continue", "try: f()\nexcept Exception: log.error('f')"),
        ("try: f()\nexcept Exception as e:\n if e.x: raise", "try: f()\nexcept Exception as e:\n problems.append(e)"),
        (
            "try: f()\nexcept Exception as e:\n if a: log.info(e)\n else: return",
            "try: f()\nexcept Exception as e: die(e)",
        ),
    ],
    "exception-text": [
        ("try: f()\nexcept E as e:\n if 'locked' in str(e): g()", "try: f()\nexcept E as e:\n if e.status == 409: g()"),
        ("try: f()\nexcept E as e:\n if e.args[0] == 'x': g()", "try: f()\nexcept E as e: log.info(str(e))"),
        (
            "try: f()\nexcept E as e:\n t = str(e)\n if t.startswith('x'): g()",
            "try: f()\nexcept E as e:\n t = str(e)\n raise F(t)",
        ),
        ("def f(exc):\n return type(exc).__name__ == 'Gone'", "def f(exc):\n return isinstance(exc, Gone)"),
    ],
    "conflict-as-success": [
        (
            "try: c.attach()\nexcept ConflictException: return",
            "try: c.attach()\nexcept ConflictException: raise Locked",
        ),
        ("try: c.attach()\nexcept x.Conflict: pass", "try: c.attach()\nexcept x.Conflict: look_again()"),
        ("ok = r.status_code in (200, 409)", "again = r.status_code in (409, 503)"),
    ],
    "undo-skipped": [
        ("def undo():\n remove_a()\n remove_b()", "def undo():\n with suppress(E): remove_a()\n remove_b()"),
        (
            "def cleanup(self):\n for v in self.vifs: self.c.detach(v)",
            "def look(self):\n for v in self.vifs: self.c.detach(v)",
        ),
        (
            "def cleanup(s):\n for v in s:\n  try: detach(v)\n  except NotFound: pass",
            "def cleanup(s):\n for v in s:\n  try: detach(v)\n  except Error as e: left.append(e)",
        ),
    ],
    "undo-failed-quietly": [
        (
            "def cleanup():\n try: remove()\n except E: log.warning('x')",
            "def cleanup():\n try: remove()\n except E: raise",
        ),
        ("def unplug():\n try: remove()\n except E: pass", "def unplug():\n try: remove()\n except NotFound: pass"),
    ],
    "cleanup-by-argument": [
        (
            "def unplug(node, vifs):\n for vif in vifs: detach(vif)",
            "def unplug(node):\n for vif in node.vifs: detach(vif)",
        ),
        ("def cleanup(node, vifs=None):\n unplug(node, vifs)", "def cleanup(node, vifs):\n unplug(node, vifs)"),
    ],
    "foreign-exception": [
        (f"{DOOR}  self.connection.get()", DOOR.replace("X(D)", "X") + "  self.connection.get()"),
        (f"{DOOR}  self.connection.get()", DOOR.replace("from n", "from socketserver") + "  self.connection.get()"),
        (
            f"{DOOR}  try: self.client.get()\n  except e.A: raise B",
            f"{DOOR}  try: self.client.get()\n  except (e.A, k.C): raise B",
        ),
        (
            f"{DOOR}  try: self.client.get()\n  except Exception: raise",
            f"{DOOR}  try: self.client.get()\n  except Exception as e: raise B from e",
        ),
        (
            f"{DOOR}  try: g = self.client.all()\n  except Exception: raise B\n  return list(g)",
            f"{DOOR}  try: return list(self.client.all())\n  except Exception: raise B",
        ),
    ],
    "endless-wait": [
        ("while not ready(): sleep(1)", "while not ready() and clock() < deadline: sleep(1)"),
        ("while True:\n if event.wait(2): break", "while not stopping.wait(2): look()"),
        ("FixedIntervalLoopingCall(f).start(interval=2)", "BackOffLoopingCall(f).start(interval=2, timeout=60)"),
        (
            "def f(): look()\nFixedIntervalLoopingCall(f)",
            "def f():\n if now() > deadline: raise E\nFixedIntervalLoopingCall(f)",
        ),
    ],
    "time-in-polls": [
        (
            "def f():\n if tries > 9: raise E\nFixedIntervalLoopingCall(f)",
            "def f():\n if now() > deadline: raise E\nFixedIntervalLoopingCall(f)",
        ),
    ],
    "loop-that-never-loops": [
        (
            "def f():\n for i in range(5):\n  try: g()\n  except E: return\n  return",
            "def f():\n for i in range(5):\n  try: g()\n  except E: continue\n  return",
        ),
    ],
    "no-timeout": [
        ("from urllib.request import urlopen\nurlopen(u)", "from urllib.request import urlopen\nurlopen(u, timeout=5)"),
        ("import socket\nsocket.create_connection(a)", "import socket\nsocket.create_connection(a, 5)"),
        ("utils.get_sdk_adapter('baremetal')", "utils.get_sdk_adapter('baremetal', timeout=60)"),
        (
            "from keystoneauth1.session import Session\nSession(auth, timeout=None)",
            "from keystoneauth1.session import Session\nSession(auth, **options)",
        ),
    ],
    "shared-and-walked": [
        (
            f"{SHARED} def b(self): return [y for y in self.x.values()]",
            f"{SHARED} def b(self): return list(self.x.values())",
        ),
        (
            f"{LOCKED} def b(self):\n  for y in self.x: print(y)",
            f"{LOCKED} def b(self):\n  with self.mine:\n   for y in self.x: print(y)",
        ),
    ],
    "secret-in-text": [
        ("log.debug('it is %s', password)", "log.debug('it is %s', password_length)"),
        ("raise E(f'refused: {token}')", "raise E(f'refused: {token_id}')"),
        ("text = 'x %s' % secret.reveal()", "text = secret.reveal()"),
        ("text = '{}'.format(given['admin_pass'])", "text = '{}'.format(given['name'])"),
    ],
    "fails-open": [
        (
            "try:\n f['shard'] = s()\n n = ask(**f)\nexcept E: n = ask(**f)",
            "try:\n f['shard'] = s()\n n = ask(**f)\nexcept E: raise NotReady",
        ),
        ("try: scope = ask()\nexcept E: pass", "try: scope = ask()\nexcept E: raise"),
        (
            "def is_allowed():\n try: ask()\n except E: return True",
            "def is_allowed():\n try: ask()\n except E: return False",
        ),
    ],
    "unfilled-template": [
        ("def f():\n t = _('no %(x)s')\n raise E(t)", "def f():\n t = _('no %(x)s')\n raise E(t % {'x': 1})"),
    ],
}

IN_THE_DRIVER: dict[str, str] = {
    "broad-except": "_unprovision",
    "exception-text": "spawn _unprovision",
    "conflict-as-success": "_plug_vif",
    "undo-skipped": "_cleanup_deploy _unplug_vifs",
    "undo-failed-quietly": """_remove_instance_info_from_node _cleanup_volume_target_info _unplug_vifs
        clean_networks_preparation""",
    "cleanup-by-argument": "_cleanup_deploy _unplug_vifs failed_spawn_cleanup",
    "foreign-exception": """_get_node _validate_instance_and_node _set_instance_id _add_instance_info_to_node
        _remove_instance_info_from_node _add_volume_target_info _cleanup_volume_target_info _get_node_list
        _get_network_metadata spawn _unprovision reboot power_off power_on trigger_crash_dump _plug_vif _unplug_vifs rebuild
        _get_node_console_with_reset._get_console _get_node_console_with_reset._enable_console
        _get_vnc_console._get_console _get_vnc_console._enable_console get_vnc_console get_volume_connector
        _get_vif_from_macs""",
    "endless-wait": "spawn reboot power_off power_on rebuild rescue unrescue",
    "time-in-polls": "_unprovision._wait_for_provision_state",
    "loop-that-never-loops": "_plug_vif",
    "no-timeout": "ironic_connection",
    "shared-and-walked": """list_instances list_instance_uuids get_info _refresh_cache
        _node_from_cache._sync_node_from_cache _unprovision._sync_remove_cache_entry""",
    "fails-open": "_refresh_cache is_node_deleted",
    "unfilled-template": "_add_volume_target_info",
}
"""By check, the methods of Nova's driver in which a reader found what the check is for."""
FALSE_ALARMS = {("fails-open", "_refresh_hash_ring")}
"""What the checks report in Nova's driver that is right as it is: without its list of peers it asks for all of them."""


def nova_driver() -> Iterable[Path]:
    """Nova's own driver, where Nova is installed. It is found without being imported."""
    spec = importlib.util.find_spec("nova")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        yield Path(folder) / "virt" / "ironic" / "driver.py"


def spots(check_name: str, text: str) -> list[int]:
    """The lines to which the check objects."""
    (check,) = [check for check in CHECKS if check.name == check_name]
    found = list(check.find(Source.parse(Path("case.py"), text)))
    assert {spot.cwe for spot in found} <= set(check.cwes)
    return [spot.line for spot in found]


def reviewed(folder: Path, text: str, *, with_scanners: bool = False, reasons: str = "") -> Review:
    """The review of one file with that text."""
    (folder / "file.py").write_text(dedent(text))
    table = folder / "reasons.toml"
    table.write_text(reasons)
    return review([folder], base=folder, reasons=accepted.read(table), with_scanners=with_scanners)


@pytest.mark.parametrize(
    ("check", "bad", "good"), [(check, *pair) for check, pairs in FOUND_AND_NOT_FOUND.items() for pair in pairs]
)
def test_each_check_finds_what_is_wrong_and_passes_what_is_right(check: str, bad: str, good: str) -> None:
    assert spots(check, bad)
    assert spots(check, good) == []


def test_every_check_is_shown_to_find_and_to_pass() -> None:
    assert set(FOUND_AND_NOT_FOUND) == {check.name for check in CHECKS}


@pytest.mark.parametrize("file", [SHAPES, *nova_driver()], ids=lambda file: file.stem)
def test_in_novas_driver_the_checks_find_what_readers_found_and_one_false_alarm(file: Path) -> None:
    source = Source.parse(file, file.read_text())
    there = {source.where(function.lineno).removeprefix("IronicDriver.") for function in source.functions}
    known = {(check, where) for check, methods in IN_THE_DRIVER.items() for where in methods.split() if where in there}
    places = [
        (check.name, source.where(spot.line).removeprefix("IronicDriver."))
        for check in CHECKS
        for spot in check.find(source)
    ]
    found = set(places)
    assert known <= found
    assert found - known == FALSE_ALARMS
    if file != SHAPES:
        counts = f"report {len(places)} places in {len({where for _, where in places})} of its functions"
        assert counts in " ".join((ROOT / "docs" / "security.md").read_text().split())


def test_bloomery_has_no_finding_without_a_written_reason_and_no_reason_without_a_finding() -> None:
    result = review([ROOT / "src"], base=ROOT, reasons=accepted.read(REASONS))
    assert [f"{finding.path}:{finding.line} {finding.rule} {finding.reason}" for finding in result.open] == []
    assert result.unused == ()
    assert result.unread == ()
    assert result.files > 100


# Pillars


def test_every_weakness_belongs_to_one_of_the_ten_pillars() -> None:
    assert sorted(pillar.number for pillar in PILLARS) == [284, 435, 664, 682, 691, 693, 697, 703, 707, 710]
    assert {pillar_of(number) for number in WEAKNESSES} == set(PILLARS)


def test_the_table_of_weaknesses_has_those_that_rules_name_and_what_is_above_them() -> None:
    named = {cwe for check in CHECKS for cwe in check.cwes} | set(scanners.CWE_OF.values())
    needed = {pillar.number for pillar in PILLARS}
    for number in named:
        above: int | None = number
        while above is not None:
            needed.add(above)
            above = WEAKNESSES[above].parent
    assert needed == set(WEAKNESSES)


def test_something_is_looked_for_under_every_pillar() -> None:
    assert [str(pillar) for pillar in PILLARS if not looked_for(pillar)] == []


# Scanners


def test_every_security_rule_of_ruff_has_its_weakness() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "ruff", "rule", "--all", "--output-format", "json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rules = {rule["code"] for rule in json.loads(listed) if rule["linter"] == "flake8-bandit"}
    assert len(rules) > 50
    assert sorted(rules - set(scanners.CWE_OF)) == []


def test_our_table_of_weaknesses_agrees_with_bandits_own(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        dedent("""\
        import os, pickle, hashlib, random, requests, subprocess, tempfile, yaml, ftplib
        assert os
        exec(os.name)
        os.chmod("x", 0o777)
        bind = "0.0.0.0"
        password = "swordfish"
        log(password="swordfish")
        requests.get("https://x", verify=False)
        pickle.loads(b"")
        hashlib.md5(b"")
        tempfile.mktemp()
        eval("1")
        random.random()
        yaml.load("x")
        subprocess.run("ls", shell=True)
        os.system("ls")
        cursor.execute("SELECT * FROM t WHERE a = '%s'" % bind)
        try: f()
        except Exception: pass
        """)
    )
    command = [sys.executable, "-m", "bandit", "--quiet", "--format", "json", str(file)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)["results"]
    theirs = {one["test_id"].replace("B", "S", 1): one["issue_cwe"]["id"] for one in found}
    assert len(theirs) >= 15
    assert {rule: scanners.CWE_OF[rule] for rule in theirs} == theirs


def test_what_both_scanners_see_is_one_finding(tmp_path: Path) -> None:
    (finding,) = reviewed(tmp_path, "import random\nrandom.random()\n", with_scanners=True).findings
    assert (finding.rule, finding.cwe, finding.line) == ("S311", 330, 2)
    assert sorted(finding.tools) == ["bandit", "ruff"]


def test_scanners_are_not_silenced_by_their_own_comments(tmp_path: Path) -> None:
    text = "import random\nrandom.random()  # noqa: S311\nrandom.random()  # nosec\n"
    assert len(reviewed(tmp_path, text, with_scanners=True).open) == 2


# Reasons

WAIT = "while not ready(): sleep(1)"


@pytest.mark.parametrize(
    "text",
    [
        f"{WAIT}  # review: the operator ends it",
        f"# review: the operator ends it\n{WAIT}",
        f"{WAIT}  # noqa: endless, nothing  # review: the operator ends it",
    ],
)
def test_a_finding_with_a_reason_beside_it_is_not_open(tmp_path: Path, text: str) -> None:
    result = reviewed(tmp_path, text)
    assert result.open == ()
    assert [finding.accepted for finding in result.findings] == ["the operator ends it"]


@pytest.mark.parametrize(
    "text",
    [
        f"{WAIT}  # review:",
        f"{WAIT}  # the operator ends it",
        f"x = 1  # review: another line\n{WAIT}",
        f"# review: too far above\n\n{WAIT}",
    ],
)
def test_what_gives_no_reason_for_the_line_leaves_the_finding_open(tmp_path: Path, text: str) -> None:
    assert len(reviewed(tmp_path, text).open) == 1


def test_words_behind_a_noqa_are_a_reason_for_its_own_rule_only(tmp_path: Path) -> None:
    text = "import random\nrandom.random()  # noqa: S311  jitter\nrandom.random()  # noqa: S105  jitter\n"
    result = reviewed(tmp_path, text, with_scanners=True)
    assert [(finding.line, finding.accepted) for finding in result.findings] == [(2, "jitter"), (3, None)]


def test_a_reason_can_stand_in_a_file_for_all_that_it_covers(tmp_path: Path) -> None:
    entry = '[[accepted]]\nrule = "endless-wait"\npath = "*.py"\nwhere = "f"\nreason = "the operator ends it"\n'
    result = reviewed(tmp_path, f"def f():\n    {WAIT}\n\ndef g():\n    {WAIT}\n", reasons=entry)
    assert [(finding.where, finding.accepted) for finding in result.findings] == [
        ("f", "the operator ends it"),
        ("g", None),
    ]


def test_a_reason_for_what_is_not_found_any_more_is_reported(tmp_path: Path) -> None:
    entry = '[[accepted]]\nrule = "endless-wait"\npath = "*.py"\nreason = "the operator ends it"\n'
    result = reviewed(tmp_path, "x = 1\n", reasons=entry)
    assert [entry.reason for entry in result.unused] == ["the operator ends it"]
    assert "the operator ends it" in markdown(result)


def test_an_entry_without_reason_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "reasons.toml"
    table.write_text('[[accepted]]\nrule = "endless-wait"\npath = "*.py"\nreason = " "\n')
    with pytest.raises(accepted.BadReason, match="needs a rule, a path and a reason"):
        accepted.read(table)


# Reports

TWO_WAITS = f"def f():\n    {WAIT}\n\ndef g():\n    {WAIT}  # review: the operator ends it\n"


def test_the_markdown_has_every_pillar_with_findings_or_what_was_looked_for(tmp_path: Path) -> None:
    text = markdown(reviewed(tmp_path, TWO_WAITS))
    sections = text.split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [f"{pillar}: {pillar.name}" for pillar in PILLARS]
    (control_flow,) = [section for section in sections if section.startswith("CWE-691")]
    assert "| file.py:2 | `f` | CWE-835 | endless-wait | waits in a loop that no deadline ends |" in control_flow
    assert "| file.py:5 | `g` | CWE-835 | endless-wait | the operator ends it |" in control_flow
    assert all("Looked for, and not found: " in section for section in sections if section != control_flow)


def test_the_json_says_of_each_finding_file_line_weakness_and_reason(tmp_path: Path) -> None:
    told = json.loads(as_json(reviewed(tmp_path, TWO_WAITS)))
    assert (told["files"], told["open"], told["all"]) == (1, 1, 2)
    found: list[dict[str, Any]] = [finding for pillar in told["pillars"] for finding in pillar["findings"]]
    assert [(one["file"], one["line"], one["cwe"], one["accepted"]) for one in found] == [
        ("file.py", 2, 835, None),
        ("file.py", 5, 835, "the operator ends it"),
    ]
    assert all(one["reason"] for one in found)


def test_the_sarif_places_findings_and_suppresses_those_with_a_reason(tmp_path: Path) -> None:
    told = json.loads(sarif(reviewed(tmp_path, TWO_WAITS)))
    assert told["version"] == "2.1.0"
    (run,) = told["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["endless-wait"]
    assert "external/cwe/cwe-835" in run["tool"]["driver"]["rules"][0]["properties"]["tags"]
    still, stays = run["results"]
    place = still["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("file.py", 2)
    assert "suppressions" not in still
    assert stays["suppressions"] == [{"kind": "inSource", "justification": "the operator ends it"}]


def test_a_file_that_is_not_python_is_named_and_not_passed_over(tmp_path: Path) -> None:
    result = reviewed(tmp_path, "def f(:\n")
    assert [line.split(":")[0] for line in result.unread] == ["file.py"]
    assert "## Not read" in markdown(result)
    assert not json.loads(sarif(result))["runs"][0]["invocations"][0]["executionSuccessful"]


def test_what_others_made_below_a_folder_is_not_reviewed(tmp_path: Path) -> None:
    for folder in (".venv", "__pycache__", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "theirs.py").write_text(WAIT)
    assert reviewed(tmp_path, "x = 1\n").files == 1


def test_the_command_ends_with_1_while_something_is_open_and_with_0_when_all_has_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, told = tmp_path / "file.py", tmp_path / "report.json"
    file.write_text(WAIT)
    assert main([str(file)]) == 1
    assert "endless-wait" in capsys.readouterr().out
    file.write_text(f"{WAIT}  # review: the operator ends it")
    assert main([str(file), "--format", "json", "--output", str(told)]) == 0
    assert json.loads(told.read_text())["open"] == 0


def test_the_command_ends_with_2_where_there_is_no_review(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert "there is no" in capsys.readouterr().err


# The page


def test_the_page_has_every_pillar_with_tests_that_say_so() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    sections = {section.split(":")[0]: section for section in re.split(r"\n###? ", page)}
    assert [str(pillar) for pillar in PILLARS if not re.search(r"`test_\w+`", sections.get(str(pillar), ""))] == []
