"""The serial console in the terminal: keys go there, output comes here, and `~.` leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.doors.cli.terminal import LeaveKeys
from cli.simulated_cloud import TIMEOUT_S, Cloud, on_terminal


@pytest.mark.parametrize(
    ("typed", "passed", "leaves"),
    [
        (b"~.", b"", True),
        (b"ls\r~.", b"ls\r", True),
        (b"a~.", b"a~.", False),
        (b"~~.", b"~.", False),
        (b"~x", b"~x", False),
        (b"\x03\r~", b"\x03\r", False),
    ],
)
def test_only_tilde_and_dot_at_the_beginning_of_a_line_leave(typed: bytes, passed: bytes, leaves: bool) -> None:
    assert LeaveKeys().split(typed) == (passed, leaves)


@given(st.binary(max_size=20).filter(lambda keys: b"~" not in keys))
def test_all_other_keys_pass_as_they_are_however_they_come_in(keys: bytes) -> None:
    leave_keys = LeaveKeys()
    assert b"".join(leave_keys.split(bytes([key]))[0] for key in keys) == keys


@pytest.fixture
def machine(cloud: Cloud) -> Iterator[socket.socket]:
    """What listens where the console of `node-0` is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        yield server


def test_a_serial_console_is_opened_used_and_left(cloud: Cloud, machine: socket.socket) -> None:
    port = machine.getsockname()[1]
    program = (
        "from bloomery.doors.cli.terminal import attach; "
        f"print('left' if attach('tcp://127.0.0.1:{port}') else 'closed')"
    )
    with on_terminal(cloud, program=program) as terminal:
        connection, _ = machine.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(b"login: ")
            terminal.await_text("login: ")
            terminal.type("root\r")
            assert connection.recv(100) == b"root\r"
            terminal.type("\x03")
            assert connection.recv(100) == b"\x03"
            terminal.type("\r~.")
            terminal.await_text("left")
            assert terminal.end() == 0


def test_a_console_that_is_closed_by_the_other_side_is_left(cloud: Cloud, machine: socket.socket) -> None:
    port = machine.getsockname()[1]
    program = f"from bloomery.doors.cli.terminal import attach; print(attach('tcp://127.0.0.1:{port}'))"
    with on_terminal(cloud, program=program) as terminal:
        connection, _ = machine.accept()
        connection.close()
        terminal.await_text("False")
        assert terminal.end() == 0


def test_a_console_that_cannot_be_reached_is_named_and_stopped_again(cloud: Cloud) -> None:
    with on_terminal(cloud, "console", "node-0") as terminal:
        assert terminal.end() == 7
        assert "cannot be reached" in terminal.seen
    assert cloud.ironic.node("node-0")["console_enabled"] is False
