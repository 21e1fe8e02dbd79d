"""Ironic's console interface for the lab's virtual machines: their serial line is a port of loopback already."""

from typing import Any

from ironic.common import exception
from ironic.drivers import base

from bloomery.lab.vm import CONSOLE_ADDRESS as ADDRESS


class SerialLine(base.ConsoleInterface):  # type: ignore[misc]
    """The console is where the machine's serial line is; there is nothing to start, and nothing to stop."""

    def get_properties(self) -> dict[str, str]:
        return {ADDRESS: "Address of the serial line. Required."}

    def validate(self, task: Any) -> None:
        if not task.node.driver_info.get(ADDRESS):
            raise exception.MissingParameterValue(f"driver_info lacks {ADDRESS}")

    def start_console(self, task: Any) -> None:
        self.validate(task)

    def stop_console(self, task: Any) -> None:
        """Whoever is on the line stays there."""

    def get_console(self, task: Any) -> dict[str, str]:
        return {"type": "socat", "url": task.node.driver_info[ADDRESS]}
