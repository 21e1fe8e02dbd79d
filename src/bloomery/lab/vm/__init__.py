"""Machines that really boot: virtual ones under QEMU, a Redfish BMC before each, and the images that they run."""

CONSOLE_INTERFACE = "bloomery-lab"
"""The name by which Ironic's configuration and nodes ask for the console interface of these machines (`console`)."""

CONSOLE_ADDRESS = "lab_serial_console"
"""The property of a node's `driver_info` with the address of its serial line, such as `tcp://127.0.0.1:40123`."""
