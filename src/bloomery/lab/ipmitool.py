"""The program `ipmitool`, as far as Ironic calls it for serial consoles, for machines that have none.

`python ipmitool.py -H HOST -p PORT -U MACHINE … sol activate|deactivate`: the lab's machines have their serial lines behind
one HTTP server, where a machine is known by its UUID. It stands alone, so that it starts at once and takes little memory.
"""

import os
import selectors
import socket
import sys
import termios
import tty

_CHUNK_BYTES = 4096
_TIMEOUT_S = 10.0
_WITH_VALUE = ("-I", "-H", "-L", "-p", "-U", "-f", "-R", "-N", "-C", "-y")


def parse(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options that have a value, and the words after them."""
    options: dict[str, str] = {}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word in _WITH_VALUE:
            options[word] = next(rest, "")
        elif not word.startswith("-"):
            words.append(word)
    return options, words


def ask(options: dict[str, str], method: str) -> tuple[socket.socket, int]:
    """The connection on which the machine's server was asked about the serial line, and the status that it answered."""
    host, port = options["-H"], int(options["-p"])
    connection = socket.create_connection((host, port), timeout=_TIMEOUT_S)
    lines = (
        f"{method} /machines/{options['-U']}/serial HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: serial",
    )
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    # Byte by byte: what comes after the head is the machine's.
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise OSError("the machine's server hung up")
        head += byte
    connection.settimeout(None)
    return connection, int(head.split(b" ", 2)[1])


def relay(connection: socket.socket) -> None:
    """Keys went to the machine and what it wrote came here, until one of both ended."""
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    if os.isatty(keys):
        tty.setraw(keys, termios.TCSANOW)
    with selectors.DefaultSelector() as selector:
        selector.register(keys, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for ready, _ in selector.select():
                read = os.read(keys, _CHUNK_BYTES) if ready.fd == keys else connection.recv(_CHUNK_BYTES)
                if not read:
                    return
                if ready.fd == keys:
                    connection.sendall(read)
                else:
                    os.write(screen, read)


def main(argv: list[str]) -> int:
    """The exit code."""
    if "-h" in argv:
        return 0  # Ironic tries options so
    options, words = parse(argv)
    if words not in (["sol", "activate"], ["sol", "deactivate"]) or not {"-H", "-p", "-U"} <= options.keys():
        print(f"ipmitool: the lab's stand-in does not know this: {' '.join(words)}", file=sys.stderr)
        return 1
    try:
        if words == ["sol", "deactivate"]:
            connection, status = ask(options, "DELETE")
            connection.close()
            return 0 if status == 204 else 1
        connection, status = ask(options, "GET")
        if status != 101:
            print("\r\nsomebody else is on the serial line\r", file=sys.stderr)
            return 1
        print("\r\n[on the serial line]\r", flush=True)
        relay(connection)
    except OSError as problem:
        print(f"\r\nipmitool: {problem}\r", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
