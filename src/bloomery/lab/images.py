"""The lab's images: small files made once, and the HTTP server that hands them out.

`python -m bloomery.lab.images PORT FOLDER` serves a folder on loopback until it is killed; the images are there as plain
files, and as Glance would show them.
"""

import io
import json
import random
import struct
import sys
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pycdlib import PyCdlib

from bloomery.lab import glance
from bloomery.lab.model import Image
from bloomery.lab.service import Service
from bloomery.lab.sums import Sums
from bloomery.lab.vm.images import PARTITIONS
from bloomery.lab.wait import answers

MIB = 1024 * 1024
AGENT_VOLUME = "LAB-AGENT"
"""Volume identifier of the ISO that holds the deploy agent; a machine that boots it runs the agent."""

# What Ironic publishes itself (images given as file:// URLs) goes below the image server's folder.
IRONIC_SUBFOLDER = "ironic"

_FILES = {
    "whole-disk": "whole-disk.raw",
    "whole-disk-2": "whole-disk-2.raw",
    "partition": "partition.raw",
    "kernel": "kernel",
    "ramdisk": "ramdisk",
    "boot-iso": "boot.iso",
    "agent-iso": "agent.iso",
}


def create(folder: Path, *, base_url: str, built: Mapping[str, tuple[Path, Sums]] | None = None) -> dict[str, Image]:
    """The folder holds every image and their SHA256SUMS; the same bytes each time.

    Args:
        built: images that were built elsewhere, by name, with their sums; they are led to, not copied.
    """
    (folder / IRONIC_SUBFOLDER).mkdir(parents=True, exist_ok=True)
    contents = {
        "whole-disk": _whole_disk(disk_signature=0x10AB0001, size_bytes=4 * MIB),
        "whole-disk-2": _whole_disk(disk_signature=0x10AB0002, size_bytes=6 * MIB),
        "partition": _file_system(size_bytes=3 * MIB),
        "kernel": _noise("kernel", MIB),
        "ramdisk": _noise("ramdisk", 2 * MIB),
        "boot-iso": _iso("LAB-LIVE"),
        "agent-iso": _iso(AGENT_VOLUME),
    }
    files: dict[str, tuple[Path, Sums]] = {}
    for name, content in contents.items():
        path = folder / _FILES[name]
        path.write_bytes(content)
        files[name] = path, Sums.of(path)
    for name, (built_path, sums_of_it) in (built or {}).items():
        path = folder / built_path.name
        path.symlink_to(built_path)
        files[name] = path, sums_of_it
    images = {
        name: Image(
            url=f"{base_url}/{path.name}",
            sha256=it.sha256,
            size_bytes=path.stat().st_size,
            is_partition=name in ("partition", *PARTITIONS),
        )
        for name, (path, it) in files.items()
    }
    sums = "".join(f"{image.sha256}  {image.url.rpartition('/')[2]}\n" for image in images.values())
    (folder / "SHA256SUMS").write_text(sums)
    glance.create(folder, files)
    return images


def prepare(folder: Path, *, port: int) -> Service:
    """The image server for that folder, ready to be started."""
    return Service(
        name="images",
        argv=(sys.executable, "-m", "bloomery.lab.images", str(port), str(folder)),
        is_ready=partial(answers, f"http://127.0.0.1:{port}/SHA256SUMS"),
    )


def _noise(seed: str, size_bytes: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)  # noqa: S311


def _whole_disk(*, disk_signature: int, size_bytes: int) -> bytes:
    """A disk image with a master boot record: one bootable Linux partition from the first MiB on."""
    sectors = size_bytes // 512
    partition = struct.pack("<B3sB3sII", 0x80, b"\x20\x21\x00", 0x83, b"\xfe\xff\xff", 2048, sectors - 2048)
    record = b"\x00" * 440 + struct.pack("<IH", disk_signature, 0) + partition.ljust(64, b"\x00") + b"\x55\xaa"
    return record + b"\x00" * (MIB - len(record)) + _noise(f"disk {disk_signature}", size_bytes - MIB)


def _file_system(*, size_bytes: int) -> bytes:
    """An image of one partition, with the signature of an ext file system where tools look for it."""
    content = bytearray(_noise("file system", size_bytes))
    content[:1024] = b"\x00" * 1024
    content[1024 + 56 : 1024 + 58] = b"\x53\xef"
    return bytes(content)


def _iso(volume: str) -> bytes:
    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=volume)
    text = f"{volume}\n".encode()
    iso.add_fp(io.BytesIO(text), len(text), "/README.;1", rr_name="readme", joliet_path="/readme")
    content = io.BytesIO()
    iso.write_fp(content)
    iso.close()
    return content.getvalue()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # A machine whose loopback is another one asks through a proxy, by the whole address; the proxy is this server.
        own = f"http://127.0.0.1:{self.connection.getsockname()[1]}/"
        self.path = f"/{self.path.removeprefix(own)}" if self.path.startswith(own) else self.path
        if not self.path.startswith(glance.PREFIX):
            super().do_GET()
            return
        answer = glance.answer(Path(self.directory), self.path)
        if isinstance(answer, Path):
            self.path = f"/{answer.name}"
            super().do_GET()
            return
        status, value = answer
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """The folder is served until the process is killed."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=folder)).serve_forever()


if __name__ == "__main__":
    main()
