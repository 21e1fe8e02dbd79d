"""Draws the picture of the demo that the README shows: `python tools/demo_picture.py docs/assets/demo.svg`.

The demo is run on a terminal 100 columns wide; the picture is what stands there after the deploy.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 100, 50
TITLE = "make demo"
SCENE = "deploy"
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

_CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\r|\n")


def run_on_terminal(argv: list[str], folder: str) -> str:
    """Everything that the command wrote to its terminal; it ran in the folder.

    Raises:
        SystemExit: it failed.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {name: value for name, value in os.environ.items() if name != "BLOOMERY_LAB"}
        # A first deploy, which nobody knows the duration of.
        environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_CACHE_HOME": folder}
        os.execve(argv[0], argv, environment)  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = bytearray()
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not some:
            break
        written += some
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"demo_picture: the demo failed:\n{written.decode(errors='replace')}")
    return written.decode(errors="replace")


def lines_left(written: str) -> list[str]:
    """The lines that stand on an endless screen in the end, still with their colours."""
    lines, row, position = [""], 0, 0
    for control in _CONTROL.finditer(written):
        lines[row] += written[position : control.start()]
        position = control.end()
        if control[0] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control[2] == "A":
            row = max(0, row - int(control[1] or 1))
        elif control[2] == "K":
            lines[row] = ""
        elif control[2] == "m":
            lines[row] += control[0]
    return lines


def scene_in(lines: list[str], title: str) -> list[str]:
    """The lines of the scene with that title, which stands on the left of a rule.

    Raises:
        SystemExit: there is no such scene.
    """
    plain = [Text.from_ansi(line).plain for line in lines]
    rules = [number for number, line in enumerate(plain) if re.fullmatch(r".+ ─{3,}", line.rstrip())]
    for start, end in zip(rules, [*rules[1:], len(lines)], strict=True):
        if plain[start].startswith(f"{title} "):
            while not plain[end - 1].strip():
                end -= 1
            return lines[start:end]
    raise SystemExit(f"demo_picture: the demo has no scene {title!r}")


def picture_of(lines: list[str]) -> str:
    """The lines as an SVG that loads nothing, in a font that is there."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line.rstrip()), soft_wrap=True, highlight=False)
    svg = console.export_svg(title=TITLE, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\n    \}\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", FONTS).replace("font-family: arial", f"font-family: {FONTS}")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def main(target: Path) -> None:
    """The picture is in the file."""
    with tempfile.TemporaryDirectory() as folder:
        written = run_on_terminal([sys.executable, "-m", "bloomery.doors.cli.demo"], folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(picture_of(scene_in(lines_left(written), SCENE)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
