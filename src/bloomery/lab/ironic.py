"""The lab's Ironic: its settings, its database, and the process to start.

Ironic's own code and defaults, with three kinds of change: everything on loopback and in one folder; no authentication;
and no waiting for what a virtual machine does at once.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from bloomery.lab import ipmitool, socat
from bloomery.lab.errors import LabError
from bloomery.lab.glance import PREFIX as GLANCE
from bloomery.lab.images import IRONIC_SUBFOLDER
from bloomery.lab.model import Kind, Options
from bloomery.lab.service import Service, die_with_parent, tail
from bloomery.lab.vm import CONSOLE_INTERFACE
from bloomery.lab.vm.qemu import HOST_ADDRESS
from bloomery.lab.wait import answers

PROVISIONING, CLEANING, RESCUING = "provisioning", "cleaning", "rescuing"
OWN_NETWORKS = (PROVISIONING, CLEANING, RESCUING)
"""The networks on which Ironic has nodes in hand, and no instance is."""

_MKISOFS = """#!/bin/sh
exec '{python}' -m bloomery.lab.mkisofs "$@"
"""
# These two are started often, need nothing but Python itself, and so do without everything else.
_ALONE = """#!/bin/sh
exec '{python}' -I -S '{file}' "$@"
"""


def prepare(
    state: Path, *, port: int, options: Options, images_folder: Path, images_url: str, neutron_url: str | None
) -> Service:
    """Ironic's configuration and database are in the state folder; returns the process to start."""
    folder = state / "ironic"
    for name in (
        "bin",
        "tmp",
        "images",
        "master-images",
        "master-isos",
        "tftp",
        "tftp-master",
        "certificates",
        "deploy-logs",
        "consoles",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    programs = {"mkisofs": _MKISOFS.format(python=sys.executable)}
    for name, module in (("socat", socat), ("ipmitool", ipmitool)):
        programs[name] = _ALONE.format(python=sys.executable, file=module.__file__)
    for name, script in programs.items():
        program = folder / "bin" / name
        program.write_text(script)
        program.chmod(0o700)
    config = folder / "ironic.conf"
    config.write_text(
        _render(
            _settings(
                folder,
                port=port,
                options=options,
                images_folder=images_folder,
                images_url=images_url,
                neutron_url=neutron_url,
            )
        )
    )
    _create_database(
        folder / "ironic.sqlite",
        config=config,
        cache=Path(os.environ.get(CACHE_VARIABLE) or state / "cache"),
        log=state / "logs" / "ironic-db.log",
    )
    return service(state, port=port)


def service(state: Path, *, port: int) -> Service:
    """The process of an Ironic that is prepared in the state folder."""
    folder = state / "ironic"
    return Service(
        name="ironic",
        argv=(sys.executable, "-m", "bloomery.lab.conductor", "--config-file", str(folder / "ironic.conf")),
        environment={"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"},
        is_ready=partial(answers, f"http://127.0.0.1:{port}/v1/drivers"),
    )


def _settings(
    folder: Path, *, port: int, options: Options, images_folder: Path, images_url: str, neutron_url: str | None
) -> dict[str, dict[str, object]]:
    # Of the fake deploy's steps two wait this long (prepare and deploy), and only whole seconds are taken.
    fake_deploy_delay_s = round(options.deploy_seconds / 2)
    networks = ["neutron", "flat"] if neutron_url else ["noop"]
    settings: dict[str, dict[str, object]] = {
        "DEFAULT": {
            "auth_strategy": "noauth",
            "rpc_transport": "none",
            "host": "lab",
            "my_ip": "127.0.0.1",
            "use_stderr": True,
            "tempdir": folder / "tmp",
            "state_path": folder,
            "log_options": False,
            "force_raw_images": False,
            "enabled_hardware_types": ["redfish", "fake-hardware"],
            "enabled_bios_interfaces": ["no-bios"],
            "enabled_boot_interfaces": ["ipxe", "redfish-virtual-media", "fake"],
            "enabled_console_interfaces": ["no-console", "ipmitool-socat", "fake", "fake-graphical"],
            "enabled_deploy_interfaces": ["direct", "ramdisk", "fake"],
            "enabled_firmware_interfaces": ["no-firmware"],
            "enabled_inspect_interfaces": ["no-inspect", "redfish"],
            "enabled_management_interfaces": ["redfish", "fake", "noop"],
            "enabled_network_interfaces": [*networks, *({"noop"} - set(networks))],
            "default_network_interface": networks[0],
            "enabled_power_interfaces": ["redfish", "fake"],
            "enabled_raid_interfaces": ["no-raid"],
            "enabled_rescue_interfaces": ["agent", "fake", "no-rescue"],
            "enabled_storage_interfaces": ["noop", "external", "fake"],
            "enabled_vendor_interfaces": ["no-vendor"],
            # Defaults per hardware type would otherwise be the first that the type lists.
            "default_rescue_interface": "agent",
        },
        "oslo_concurrency": {"lock_path": folder / "tmp"},
        "database": {"connection": f"sqlite:///{folder / 'ironic.sqlite'}"},
        "api": {"host_ip": "127.0.0.1", "port": port, "public_endpoint": f"http://127.0.0.1:{port}"},
        "conductor": {
            "automated_clean": True,
            "graceful_shutdown_timeout": 1,
            # Each round asks every BMC.
            "sync_power_state_interval": 60,
            "power_state_change_timeout": 30,
            "soft_power_off_timeout": 30,
            "check_allocations_interval": 5,
            "check_rescue_state_interval": 10,
            "deploy_callback_timeout": options.call_back_timeout_s + options.deploy_seconds,
            "clean_callback_timeout": options.call_back_timeout_s,
            "rescue_callback_timeout": options.call_back_timeout_s,
            "node_locked_retry_attempts": 3,
            "file_url_allowed_paths": [images_folder],
        },
        "agent": {
            "require_tls": False,
            "certificates_path": folder / "certificates",
            "deploy_logs_local_path": folder / "deploy-logs",
            "image_download_source": "http",
            "post_deploy_get_power_state_retries": 30,
            "post_deploy_get_power_state_retry_interval": 1,
            "command_wait_interval": 1,
            "neutron_agent_poll_interval": 1,
            "neutron_agent_status_retry_interval": 1,
        },
        "deploy": {
            "http_url": f"{images_url}/{IRONIC_SUBFOLDER}",
            "http_root": images_folder / IRONIC_SUBFOLDER,
            "iso_master_path": folder / "master-isos",
            # Hands the ISO's URL to the BMC as it is, instead of a copy.
            "ramdisk_image_download_source": "http",
            "default_boot_mode": "uefi",
            "erase_devices_priority": 0,
            "erase_devices_metadata_priority": 10,
        },
        "pxe": {
            "images_path": folder / "images",
            "instance_master_path": folder / "master-images",
            "tftp_root": folder / "tftp",
            "tftp_master_path": folder / "tftp-master",
        },
        # Ironic takes the first port of the range that is free; that labs begin at different ones spares them most collisions.
        "console": {
            "terminal_pid_dir": folder / "consoles",
            "socat_address": "127.0.0.1",
            "port_range": [f"{20000 + port % 10000}:{20999 + port % 10000}"],
        },
        # So many seconds are between two words to one BMC; all machines here have one address, and bear to be asked often.
        "ipmi": {"min_command_interval": 1},
        "dhcp": {"dhcp_provider": "none"},
        "redfish": {"auth_type": "basic", "post_boot_retry_delay": 1},
        "fake": {"deploy_delay": fake_deploy_delay_s},
        "service_catalog": {"auth_type": "none", "endpoint_override": f"http://127.0.0.1:{port}"},
        "glance": {"auth_type": "none", "endpoint_override": f"{images_url}{GLANCE}"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "sensor_data": {"send_sensor_data": False},
    }
    if options.notifications_url:
        settings["DEFAULT"]["notification_level"] = "info"
        settings["oslo_messaging_notifications"] = {
            "driver": "messagingv2",
            "transport_url": options.notifications_url,
            # By default Ironic does nothing else until the bus has taken them.
            "retry": 0,
        }
    if options.kind is Kind.VM:
        _suit_virtual_machines(settings, folder, port=port)
    if neutron_url:
        settings["neutron"] = {
            "auth_type": "none",
            "endpoint_override": neutron_url,
            "provisioning_network": PROVISIONING,
            "cleaning_network": CLEANING,
            "rescuing_network": RESCUING,
        }
    return settings


def _suit_virtual_machines(settings: dict[str, dict[str, object]], folder: Path, *, port: int) -> None:
    """The settings are those for machines that boot: their agents are real, slow, and elsewhere."""
    settings["DEFAULT"] |= {
        "enabled_boot_interfaces": ["redfish-https", "redfish-virtual-media"],
        "enabled_console_interfaces": ["no-console", CONSOLE_INTERFACE],
        "enabled_hardware_types": ["redfish"],
        **{
            f"enabled_{name}_interfaces": real
            for name, real in {
                "deploy": ["direct", "ramdisk"],
                "management": ["redfish"],
                "power": ["redfish"],
                "rescue": ["agent", "no-rescue"],
                "storage": ["noop", "external"],
            }.items()
        },
    }
    settings["conductor"] |= {"power_state_change_timeout": 120, "soft_power_off_timeout": 300}
    template = folder / "grub.template"
    # Ironic's own waits five seconds for somebody to choose.
    template.write_text("linux {{ linux }} {{ kernel_params }} --\ninitrd {{ initrd }}\nboot\n")
    settings["DEFAULT"] |= {"grub_config_template": template}
    # The conductor fetches and checks the image, and makes it a raw one, which the agent writes to the disk as it comes in. On
    # its own the agent would have to hold all of it in memory.
    settings["DEFAULT"] |= {"force_raw_images": True}
    settings["agent"] |= {"image_download_source": "local"}
    # Ironic 39 keeps the agent from running what a partition image brings along, and with it from taking over its boot loader.
    settings["agent"] |= {"enable_bios_bootloader_install": True}
    settings["agent"] |= {"post_deploy_get_power_state_retries": 60, "post_deploy_get_power_state_retry_interval": 2}
    settings["deploy"] |= {
        "external_callback_url": f"http://{HOST_ADDRESS}:{port}",
        # Cleaning is real: every byte of every disk is written. Zeros, because they take no room in the disks' files.
        "erase_devices_priority": 10,
        "erase_devices_metadata_priority": 0,
        "shred_random_overwrite_iterations": 0,
        "shred_final_overwrite_with_zeros": True,
    }


def _render(settings: dict[str, dict[str, object]]) -> str:
    lines = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            lines.append(f"{name} = {','.join(map(str, value)) if isinstance(value, list) else value}")
    return "\n".join(lines) + "\n"


CACHE_VARIABLE = "BLOOMERY_LAB_CACHE"
"""Names a folder that several labs share for what each would make anew; by default each has its own, within its state."""


def _create_database(database: Path, *, config: Path, cache: Path, log: Path) -> None:
    """The database exists with every table: copied if this version of Ironic made one here before, else created."""
    cache.mkdir(parents=True, exist_ok=True)
    cached = cache / f"ironic-{importlib.metadata.version('ironic')}.sqlite"
    if not cached.exists():
        with log.open("wb") as output:
            result = subprocess.run(  # noqa: S603
                [sys.executable, "-c", _DBSYNC, "--config-file", str(config), "create_schema"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
                check=False,
            )
        if result.returncode:
            raise LabError(f"Ironic's database could not be created: {' '.join(tail(log, lines=1))} (see {log})")
        # Moved in one piece, so that an interrupted run leaves no half database for the next one.
        partial_copy = cached.with_suffix(f".{os.getpid()}")
        shutil.copyfile(database, partial_copy)
        partial_copy.rename(cached)
    else:
        shutil.copyfile(cached, database)


_DBSYNC = "import sys; from ironic.command.dbsync import main; sys.argv[0] = 'ironic-dbsync'; sys.exit(main())"
