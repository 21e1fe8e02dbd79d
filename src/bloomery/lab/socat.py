"""The program `socat`, as far as Ironic calls it, for machines that have none: a command's terminal behind a TCP port.

`python socat.py [-TSECONDS] -LPIDFILE TCP4-LISTEN:PORT,bind=ADDRESS,… EXEC:"COMMAND",pty,stderr`. As Ironic asks for it, one
caller at a time is served; the next waits. It stands alone, so that it starts at once and takes little memory.
"""

import contextlib
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time

_CHUNK_BYTES = 4096
_LOOK_S = 1.0


def parse(argv: list[str]) -> tuple[float, str, tuple[str, int], list[str]]:
    """The seconds of silence after which a caller goes (0: never), the lock file, where to listen, and what to execute."""
    silence_s, lock = 0.0, ""
    for word in argv:
        if word.startswith("-T"):
            silence_s = float(word[2:])
        elif word.startswith("-L"):
            lock = word[2:]
    listen = re.match(r"TCP[46]-LISTEN:(\d+),bind=\[?([^],]+)\]?,", argv[-2]) if len(argv) >= 2 else None
    execute = re.fullmatch(r'EXEC:"(.*)",pty,stderr', argv[-1]) if argv else None
    if not lock or not listen or not execute:
        raise SystemExit(f"socat: the lab's stand-in does not know this: {' '.join(argv)}")
    command = re.sub(r"\\\\\\(.)", r"\1", execute[1])
    return silence_s, lock, (listen[2], int(listen[1])), command.split(" ")


def serve(silence_s: float, where: tuple[str, int], command: list[str]) -> None:
    """Callers are served, one after the other, until whoever started this is gone."""
    parent = os.getppid()
    with socket.create_server(where) as listener:
        listener.settimeout(_LOOK_S)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                caller, _ = listener.accept()
                with caller:
                    _pass_on(caller, command, silence_s, parent)


def _pass_on(caller: socket.socket, command: list[str], silence_s: float, parent: int) -> None:
    terminal, end = os.openpty()
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, start_new_session=True)  # noqa: S603
    os.close(end)
    heard_at = time.monotonic()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(caller, selectors.EVENT_READ)
            selector.register(terminal, selectors.EVENT_READ)
            while os.getppid() == parent and (not silence_s or time.monotonic() - heard_at < silence_s):
                for ready, _ in selector.select(_LOOK_S):
                    heard_at = time.monotonic()
                    if ready.fd == terminal:
                        caller.sendall(os.read(terminal, _CHUNK_BYTES))
                    elif typed := caller.recv(_CHUNK_BYTES):
                        os.write(terminal, typed)
                    else:
                        return
    except OSError:
        pass  # the command has ended, or the caller is gone
    finally:
        os.close(terminal)
        process.terminate()
        process.wait()


def main() -> None:
    """Callers were served until the process was told to end."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    silence_s, lock, where, command = parse(sys.argv[1:])
    with open(lock, "w") as file:
        file.write(f"{os.getpid()}\n")
    try:
        serve(silence_s, where, command)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)


if __name__ == "__main__":
    main()
