"""Install Bloomery and the named extras into this interpreter's environment, at the locked versions and hashes.

Usage: python tools/install.py [EXTRA ...]
       python tools/install.py --lock FILE

What to install is read from pyproject.toml, which version and which hash from requirements/lock.txt. The lock names beside
each package who asked for it, so the part that the extras need is cut from it, and pip installs just that, resolving
nothing. Of another lock, all is installed. A stamp in the environment makes the second run a matter of milliseconds.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
BUILD = ROOT / "requirements" / "build.in"


def canonical(requirement: str) -> str:
    """The normalised name of the distribution that a requirement asks for."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    if name is None:
        raise SystemExit(f"install: {requirement!r} is no requirement")
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def asked_for(extras: list[str]) -> set[str]:
    """The distributions that the project itself and the named extras ask for; an extra may name others of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in known]
    if unknown:
        raise SystemExit(f"install: no extra is named {', '.join(unknown)}; there are: {', '.join(known)}")
    lines = [*project["dependencies"], *(line for extra in extras for line in known[extra])]
    ours = [line for line in lines if canonical(line) == project["name"]]
    further = {extra.strip() for line in ours for extra in line[line.index("[") + 1 : line.index("]")].split(",")}
    names = {canonical(line) for line in lines if line not in ours}
    return names | asked_for(sorted(further)) if further else names


def locked(lock: Path) -> dict[str, tuple[str, set[str]]]:
    """Of each package in the lock: its entry, and the packages that ask for it."""
    entries: dict[str, tuple[str, set[str]]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", lock.read_text().strip()):
        pins = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
        parents = {
            canonical(word) for word in re.findall(r"#\s+(?:via\s+)?([A-Za-z0-9][\w.-]*)", block) if word != "via"
        }
        pins_before, parents_before = entries.get(canonical(block), ("", set()))  # one entry for each Python, at times
        entries[canonical(block)] = "\n".join([pins_before, *pins]).strip(), parents | parents_before
    return entries


def needed(names: set[str], lock: Path = LOCK) -> str:
    """The entries of the lock that these distributions need, directly or through others."""
    entries = locked(lock)
    found = set(names)
    missing = found - entries.keys()
    if missing:
        raise SystemExit(f"install: not in the lock: {', '.join(sorted(missing))}; run `make lock`")
    while more := {name for name, (_, parents) in entries.items() if parents & found} - found:
        found |= more
    return "\n".join(entries[name][0] for name in sorted(found)) + "\n"


def pip_install(*arguments: str) -> None:
    """pip has installed what it was told to, and resolved and built nothing that the lock does not name."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", *arguments], check=True)


def install(entries: str) -> None:
    """These entries of the lock are installed; pip refuses what has another hash."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as part:
        part.write(entries)
        part.flush()
        pip_install("--require-hashes", "--requirement", part.name)


def main(arguments: list[str]) -> None:
    """Install, unless the very same was installed before."""
    build_names = {canonical(line) for line in BUILD.read_text().split()}
    if arguments[:1] == ["--lock"]:
        lock = ROOT / arguments[1]
        build, wanted = needed(build_names, lock), lock.read_text()
    else:
        build, wanted = needed(build_names), needed(asked_for(arguments))
    state = hashlib.sha256(f"{build}{wanted}{ROOT}{(ROOT / 'pyproject.toml').read_text()}".encode()).hexdigest()
    stamp = Path(sys.prefix) / ".bloomery-installed"
    if stamp.exists() and state in stamp.read_text().split():
        return
    install(build)  # first, because what comes without a wheel is built with it
    install(wanted)
    pip_install("--editable", str(ROOT))
    with stamp.open("a") as file:
        file.write(state + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
