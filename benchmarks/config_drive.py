"""Config drives: 10 KB of user data and four NICs, as an image and as what Ironic makes an image of."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openstack.baremetal import configdrive as sdk_config_drive

from bloomery.config_drive import (
    ConfigDrive,
    FixedIp,
    MetaData,
    NicPort,
    VifOnNic,
    network_data_from_vifs,
    user_data_from,
)

from .clients import OURS, SDK
from .compute import UPSTREAM
from .measuring import Call, Figure, costs, figures_of

NICS = 4
CALLS = 20
"""So often each is built for one measurement, but where a program in Python does it."""
_LINE = "echo 'one line of the kind that user data is made of, some sixty bytes'\n"
USER_DATA = "#!/bin/sh\n" + _LINE * (10_000 // len(_LINE))


def measure(*, repetitions: int) -> list[Figure]:
    """The same drive is built as an image by both, as JSON by us, and by openstacksdk with a program that does nothing."""
    parts = drive().as_json()
    if parts is None:
        raise AssertionError("this drive needs no image")

    def theirs() -> str:
        built: str = sdk_config_drive.build(
            parts["meta_data"], user_data=USER_DATA.encode(), network_data=parts["network_data"]
        )
        return built

    ours = costs({OURS: lambda: drive().as_payload(prefer_image=True)}, repetitions=repetitions, calls=CALLS)
    as_json = costs({OURS: lambda: drive().as_payload()}, repetitions=repetitions, calls=CALLS)
    as_nova = costs({UPSTREAM: _as_nova(parts)}, repetitions=repetitions, calls=CALLS)
    with _mkisofs(f"#!{sys.executable}\nfrom bloomery.lab.mkisofs import main\nmain()\n"):
        with_ours = costs({SDK: theirs}, repetitions=repetitions)
    with _mkisofs(f"#!{shutil.which('sh')}\n"):
        with_nothing = costs({SDK: theirs}, repetitions=repetitions, calls=CALLS)
    return [
        *figures_of(
            "build a config drive as an image, as Nova's driver does",
            "",
            ours | as_nova,
            remark="with xorrisofs, which is written in C; what Nova spends on gathering the metadata is left out",
        ),
        *figures_of(
            "build a config drive as an image",
            "",
            ours | with_ours,
            remark="its mkisofs is the lab's, in Python: starting Python is most of it",
        ),
        *figures_of(
            "build a config drive as an image, against a mkisofs that takes no time and does nothing",
            "",
            ours | with_nothing,
            remark="the least that starting a program and its files can take; the image is empty",
        ),
        *figures_of(
            "describe a config drive, against building it",
            "",
            as_json | with_nothing,
            remark="what Bloomery sends where Ironic can build the drive itself; the other side as in the line above",
        ),
    ]


def _as_nova(parts: Mapping[str, Any]) -> Call:
    """The same files on a drive in the way of Nova's driver: written to a folder, made an image of by a program, packed."""
    import nova.conf
    from nova import config as nova_config
    from nova.virt import configdrive

    program = shutil.which("xorrisofs") or shutil.which("genisoimage")
    if program is None:
        raise RuntimeError("neither xorrisofs nor genisoimage is installed (Debian: xorriso)")
    nova_config.parse_args(["nova-compute"], default_config_files=[], configure_db=False, init_rpc=False)
    nova.conf.CONF.set_override("mkisofs_cmd", program)

    class Metadata:
        def metadata_for_config_drive(self) -> Iterator[tuple[str, bytes]]:
            yield "openstack/latest/meta_data.json", json.dumps(parts["meta_data"]).encode()
            yield "openstack/latest/network_data.json", json.dumps(parts["network_data"]).encode()
            yield "openstack/latest/user_data", USER_DATA.encode()

    def build() -> str:
        with tempfile.NamedTemporaryFile() as image:
            with configdrive.ConfigDriveBuilder(instance_md=Metadata()) as builder:
                builder.make_drive(image.name)
            return base64.b64encode(gzip.compress(Path(image.name).read_bytes())).decode()

    return build


def drive() -> ConfigDrive:
    """The drive, from the values that an operation has."""
    vifs = [
        VifOnNic(
            vif_id=f"00000000-0000-4000-8000-00000000000{number}",
            network_id=f"00000000-0000-4000-9000-00000000000{number}",
            mac=f"52:54:00:00:00:0{number}",
            nic=NicPort(f"52:54:00:00:00:0{number}"),
            mtu=1500,
            vlan_id=None,
            fixed_ips=(
                FixedIp(ip_address=f"10.{number}.0.5", cidr=f"10.{number}.0.0/24", gateway_ip=f"10.{number}.0.1"),
            ),
        )
        for number in range(NICS)
    ]
    return ConfigDrive(
        meta_data=MetaData(uuid="00000000-0000-4000-a000-000000000000", name="web-1"),
        user_data=user_data_from(USER_DATA),
        network_data=network_data_from_vifs(vifs, dhcp=False),
    )


@contextmanager
def _mkisofs(program: str) -> Iterator[None]:
    """Within the block the only program on the path is a mkisofs, and this is it."""
    before = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mkisofs")
        file.write_text(program)
        file.chmod(stat.S_IRWXU)
        os.environ["PATH"] = folder
        try:
            yield
        finally:
            os.environ["PATH"] = before
