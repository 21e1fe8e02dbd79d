"""The command: `python -m tools.security_review PATH…`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .accepted import BadReason, read
from .report import FORMATS
from .review import review
from .scanners import ScannerFailed


def main(arguments: Sequence[str]) -> int:
    """The review is written; 0 where nothing is open, 1 where something is, 2 where there is no review."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.security_review",
        description="Reviews Python files under the ten pillars of CWE. Ends with 1 where a finding has no written reason.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with all below it")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="of the report (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write it, instead of here")
    parser.add_argument("--accepted", type=Path, metavar="FILE", help="written reasons for findings that stay (TOML)")
    options = parser.parse_args(arguments)
    try:
        if missing := [path for path in options.paths if not path.exists()]:
            raise FileNotFoundError(f"there is no {missing[0]}")
        reasons = read(options.accepted) if options.accepted else ()
        result = review(options.paths, base=Path.cwd(), reasons=reasons)
    except (BadReason, ScannerFailed, OSError) as problem:
        print(f"security_review: {problem}", file=sys.stderr)
        return 2
    text = FORMATS[options.format](result)
    if options.output:
        options.output.write_text(text)
    else:
        sys.stdout.write(text)
    return 1 if result.open or result.unread or result.unused else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
