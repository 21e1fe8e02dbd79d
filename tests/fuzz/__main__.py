"""Look for an answer that our decoders cannot stand: `python -m fuzz [SECONDS]`, guided by the branches that an input takes.

The corpus that this begins with is `tests/fuzz/corpus`; what is found interesting is kept in `.cache/fuzz`, and an input
that breaks something is written there as `crash-…`. Put that into the corpus, too: the tests read it every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parent.parent.parent / ".cache" / "fuzz"

with atheris.instrument_imports(include=["bloomery", "fuzz"]):
    from fuzz.decoders import feed


def main() -> None:
    """The fuzzer has run for so long, or found something."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    FOUND.mkdir(mode=0o700, parents=True, exist_ok=True)
    how = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FOUND}/",
        "-max_len=65536",
        "-timeout=20",
        "-rss_limit_mb=1024",
    ]
    atheris.Setup([sys.argv[0], *how, str(FOUND), str(CORPUS)], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
