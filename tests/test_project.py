"""Lists that can rot are compared with what they are about: lock, licence, changelog, targets of make, site."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from tools import run_tests

from nova_releases import matrix

ROOT = Path(__file__).resolve().parent.parent
WHOLE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = WHOLE["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PYTHONS = [f"3.{minor}" for minor in range(30) if SpecifierSet(PROJECT["requires-python"]).contains(f"3.{minor}.1")]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)

# In pieces, so that this file is not the one that breaks its own rule.
REGISTRY_HOSTS = [
    ".".join(name) for name in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("anaconda", "org")]
]
PATH_OF_A_MACHINE = re.compile("(?<![\\w.~{}-])/(?:" + "|".join(["work", "root", "tmp", "opt", "home"]) + ")/\\w")


def installer() -> ModuleType:
    """The module tools/install.py, which knows how to read the lock."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSTALL = installer()


def ours() -> Iterator[Path]:
    """Every file of the project, which is every file that .gitignore does not name."""
    ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().split())]
    for folder, below, files in os.walk(ROOT):
        below[:] = [name for name in below if not any(fnmatch(name, pattern) for pattern in ignored)]
        yield from (Path(folder, name) for name in files if not any(fnmatch(name, pattern) for pattern in ignored))


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of the project that is text, with its text."""
    for file in ours():
        content = file.read_bytes()
        if b"\0" not in content:
            yield file.relative_to(ROOT), content.decode(errors="replace")


def pages_in(nav: list[Any]) -> Iterator[str]:
    """The pages that a navigation names, at whatever depth."""
    for entry in nav:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages_in(target) if isinstance(target, list) else [target]


class Loaded(HTMLParser):
    """Collects the addresses that a browser loads by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """The address that the tag makes a browser load, if any, is among the addresses."""
        named = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}.get(tag)
        self.addresses += [value for name, value in attrs if name == named and value]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_extra_is_locked_with_hashes(extra: str) -> None:
    for entry in re.split(r"\n(?=[a-z0-9])", INSTALL.needed(INSTALL.asked_for([extra]))):
        pins = re.findall(r"^[a-z0-9][\w.\[\]-]*==", entry, re.MULTILINE)
        assert pins, entry
        assert entry.count("--hash=sha256:") >= len(pins), entry


def test_the_lock_holds_versions_that_the_project_asks_for() -> None:
    locked = dict(
        re.findall(r"^([a-z0-9][a-z0-9-]*)(?:\[[\w,]+\])?==([^\s;]+)", INSTALL.LOCK.read_text(), re.MULTILINE)
    )
    for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        asked = Requirement(line)
        if asked.name == PROJECT["name"]:
            continue
        version = locked[INSTALL.canonical(asked.name)]
        assert asked.specifier.contains(version, prereleases=True), (
            f"{line}, and the lock has {version}; run `make lock`"
        )


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda lock: lock.stem)
def test_a_lock_has_no_address_in_it_and_a_hash_for_everything(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    assert [line for line in lines if "://" in line or "index-url" in line or " @ " in line] == []
    pins = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert [lines[number] for number in pins if "--hash=sha256:" not in lines[number + 1]] == []


def test_each_release_of_nova_that_the_driver_is_for_is_locked_tried_and_named() -> None:
    (nova,) = (Requirement(line) for line in EXTRAS["nova"])
    assert [f"{major}" for major in range(100) if nova.specifier.contains(f"{major}.0.0")] == list(matrix.SERIES)
    assert list(matrix.CONCURRENCY) == list(matrix.SERIES)
    page = (ROOT / "docs" / "nova.md").read_text()
    for release, series in matrix.SERIES.items():
        assert re.search(rf"^nova=={release}\.", matrix.lock_of(release).read_text(), re.MULTILINE)
        assert f"| {release} ({series}) | " in page


def imported_by(file: Path, seen: set[Path]) -> Iterator[str]:
    """The packages that the file and the tests' own modules that it imports cannot do without."""
    if file in seen:
        return
    seen.add(file)
    for part in ast.parse(file.read_text()).body:
        named = [part.module or ""] if isinstance(part, ast.ImportFrom) else []
        named += [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
        for name in named:
            inside = (ROOT / "tests").joinpath(*name.split("."))
            if found := [each for each in (inside.with_suffix(".py"), inside / "__init__.py") if each.exists()]:
                yield from imported_by(found[0], seen)
            elif not inside.is_dir():
                yield name.partition(".")[0]


@pytest.mark.parametrize("release", matrix.SERIES)
def test_the_environment_of_a_release_of_nova_has_all_that_its_tests_import(release: str) -> None:
    files = [*(ROOT / matrix.OF_THE_DRIVER).glob("*.py"), *(ROOT / name for name in matrix.UNDER_EVENTLET)]
    files += [ROOT / "tests" / "nova_releases" / "under_eventlet.py", *(ROOT / "tests").glob("conftest.py")]
    files += (ROOT / "tests" / "unit").glob("conftest.py")
    seen: set[Path] = set()
    imported = {name for file in files for name in imported_by(file, seen)} - sys.stdlib_module_names - {"bloomery"}
    homes = packages_distributions()
    locked = set(re.findall(r"^([a-z0-9-]+)==", matrix.lock_of(release).read_text(), re.MULTILINE))
    assert {"nova", "requests"} <= imported
    assert {name for name in imported if not {INSTALL.canonical(home) for home in homes[name]} & locked} == set()


def test_no_file_names_a_package_registry() -> None:
    assert [(str(name), host) for name, text in texts() for host in REGISTRY_HOSTS if host in text] == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{name}: {line.strip()}"
        for name, text in texts()
        for line in text.splitlines()
        if PATH_OF_A_MACHINE.search(line)
    ]
    assert found == []


def test_every_target_of_make_is_explained_to_contributors() -> None:
    explained = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "README.md").read_text()
    assert [target for target in TARGETS if not re.search(rf"make {target}\b(?!-)", explained)] == []


def test_make_alone_lists_its_targets() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    listed = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()[1:]] == TARGETS
    assert set(TARGETS) >= {"demo", "test", "lint", "types", "docs", "clean"}


def test_continuous_integration_runs_what_contributors_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_make_test_runs_every_test_but_those_that_have_a_target_of_their_own() -> None:
    tests = {f"tests/{file.relative_to(ROOT / 'tests').parts[0]}" for file in (ROOT / "tests").rglob("test_*.py")}
    first, *others = run_tests.PARTS
    assert first[0] == "tests"
    left_out = {word.removeprefix("--ignore=") for word in first[1:]}
    assert left_out <= tests
    assert left_out - {word for part in others for word in part} == {"tests/nova_releases", "tests/vm"}
    assert "tests/nova_releases" in (ROOT / "tools" / "release_matrix.py").read_text()


def test_what_fails_beside_others_is_tried_once_more_and_named(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        f"""
from pathlib import Path
def test_sound(): pass
def test_unsteady():
    been = Path({str(tmp_path)!r}, "been")
    was, _ = been.exists(), been.write_text("")
    assert was
def test_broken(): assert not Path({str(tmp_path)!r}, "broken").exists()
"""
    )
    part = [str(tmp_path), "-n", "2"]
    code, counts, unsteady = run_tests.carried_out(["-q"], part)
    assert (code, counts["passed"], "failed" in counts) == (0, 3, False)
    assert [name.rpartition("::")[2] for name in unsteady] == ["test_unsteady"]
    (tmp_path / "broken").write_text("")
    code, counts, unsteady = run_tests.carried_out(["-q"], part)
    assert (code, counts["passed"], counts["failed"], unsteady) == (1, 2, 1, [])


def test_many_failures_are_no_matter_of_time(tmp_path: Path) -> None:
    names = [f"test_{number}" for number in range(run_tests.FEW + 1)]
    (tmp_path / "test_many.py").write_text("\n".join(f"def {name}(): assert False" for name in names))
    code, counts, unsteady = run_tests.carried_out(["-q"], [str(tmp_path)])
    assert (code, counts, unsteady) == (1, {"failed": len(names)}, [])


def test_the_licence_is_here_and_is_the_one_we_name() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_changelog_has_this_version() -> None:
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_pythons_we_name_are_those_we_run_on() -> None:
    named = [line.split()[-1] for line in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", line)]
    assert named == PYTHONS


def test_make_looks_for_the_pythons_we_run_on() -> None:
    script = (ROOT / "tools" / "venv.sh").read_text()
    sought = re.search(r"for candidate in (.*); do", script)
    bounds = re.search(r"\((\d+), (\d+)\) <= sys.version_info\[:2\] < \((\d+), (\d+)\)", script)
    assert sought is not None
    assert sought[1].split() == [*(f"python{python}" for python in reversed(PYTHONS)), "python3"]
    assert bounds is not None
    assert SpecifierSet(">={}.{},<{}.{}".format(*bounds.groups())) == SpecifierSet(PROJECT["requires-python"])


def test_every_page_has_its_place_in_the_site() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages_in(nav)) == sorted(
        str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")
    )


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    loaded = Loaded()
    for page in tmp_path.rglob("*.html"):
        loaded.feed(page.read_text())
    assert [address for address in loaded.addresses if address.startswith(("http:", "https:", "//"))] == []
    assert any(address.endswith(".css") for address in loaded.addresses)


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    asked = {
        **{extra: set(lines) for extra, lines in EXTRAS.items()},
        "Always installed": set(PROJECT["dependencies"]),
        "To build": {*WHOLE["build-system"]["requires"], "editables"},
    }
    note = (ROOT / "docs" / "design" / "dependencies.md").read_text()
    explained: dict[str, set[str]] = {}
    for section in note.split("\n## ")[1:]:
        rows = re.findall(r"^\| ([\w.-]+) \| (\S.*) \|$", section, re.MULTILINE)
        explained[section.splitlines()[0].strip("`")] = {name for name, _ in rows if name not in {"package", "---"}}
    assert explained == {title: {Requirement(line).name for line in lines} for title, lines in asked.items()}
