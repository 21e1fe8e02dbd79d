"""Decoders: what several threads read at the same moment for the first time is read, and ends no process."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from bloomery.rest.decoding import decoder

FIRST_ANSWERS = """
import sys, threading
import msgspec
from bloomery.rest.decoding import decoder

THREADS, KINDS = 8, 60

def kind(number):
    parts = [msgspec.defstruct(f"Part{number}x{n}", [(f"of{m}", int | None, None) for m in range(5)]) for n in range(10)]
    return msgspec.defstruct(f"Kind{number}", [(f"part{n}", list[part] | None, None) for n, part in enumerate(parts)])

def read(whole, together, seen):
    together.wait()
    seen.append(ANSWERED)

sys.setswitchinterval(1e-6)
for number in range(KINDS):
    whole, together, seen = kind(number), threading.Barrier(THREADS), []
    threads = [threading.Thread(target=read, args=(whole, together, seen)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.part9[0].of1 for one in seen] == [7] * THREADS
"""
ANSWER = """b'{"part9": [{"of1": 7}], "part8": null}'"""


def run(read: str) -> int:
    """The exit code of a process that reads its first answers of many kinds, each by several threads at once."""
    program = FIRST_ANSWERS.replace("ANSWERED", read)
    return subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode


def test_first_answers_of_a_kind_are_read_by_several_threads_at_once() -> None:
    assert run(f"decoder(whole).decode({ANSWER})") == 0


def test_there_is_one_decoder_for_each_kind() -> None:
    class Kind(msgspec.Struct):
        count: int

    assert decoder(Kind) is decoder(Kind)
    assert decoder(Kind).decode(b'{"count": "3"}') == Kind(3)
