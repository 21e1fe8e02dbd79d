"""The images of machines that really boot, built from Debian's packages and, for the deploy agent, from PyPI's.

    build(progress=print)["debian"]

Built once and kept: the folder's name is a hash of everything that goes in, so another recipe is another folder. Only
packages are downloaded. As root or, where user namespaces allow it, as anybody.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bloomery.lab.errors import LabError
from bloomery.lab.service import stand_back, tail
from bloomery.lab.sums import Sums
from bloomery.lab.vm import programs

MIB = 1024 * 1024
RECIPE = Path(__file__).parent / "recipe"
SUITE = "bookworm"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Images that are built together.

    Attributes:
        files: the file of each image.
        packages: Debian's packages that they are made from.
    """

    name: str
    files: Mapping[str, str]
    packages: tuple[str, ...]

    @property
    def recipe(self) -> Path:
        """The folder with everything else that they are made from."""
        return RECIPE / self.name


AGENT = _Part(
    name="agent",
    files={"agent-kernel": "agent-kernel", "agent-ramdisk": "agent-ramdisk"},
    packages=(
        *("linux-image-cloud-amd64", "kmod", "udev", "busybox", "python3-minimal", "libpython3.11-stdlib", "iproute2"),
        *("gdisk", "parted", "dosfstools", "e2fsprogs", "efibootmgr", "dmidecode", "hdparm", "pciutils", "psmisc"),
        *("mdadm", "dropbear-bin", "ca-certificates", "lshw", "passwd", "fdisk", "sudo"),
    ),
)
"""The deploy agent's kernel and ramdisk."""

INSTANCE = _Part(
    name="instance",
    files={
        "boot-loader": "boot-loader.img",
        "debian": "debian.raw",
        "debian-2": "debian-2.raw",
        "debian-partition": "debian.ext4",
        "debian-partition-2": "debian-2.ext4",
    },
    packages=(
        *("linux-image-cloud-amd64", "systemd-sysv", "dbus", "udev", "cloud-init", "openssh-server"),
        *("grub-efi-amd64-bin", "grub2-common", "ifupdown", "ifenslave", "isc-dhcp-client", "iproute2"),
        *("iputils-ping", "sudo", "cloud-guest-utils", "e2fsprogs", "gdisk", "fdisk", "python3-minimal"),
        *("netbase", "procps"),
    ),
)
"""Two instances, which differ in the name in their `/etc/lab-image`, each as the image of a whole disk and of one partition;
and the EFI system partition of the media that boot the agent."""

PARTITIONS = frozenset({"debian-partition", "debian-partition-2"})
"""Those that are images of one partition."""
PARTS = (AGENT, INSTANCE)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_BOOT_PARTITION_MIB = 16
_SUMS = "sums.json"
_MADE_BY = 1
"""Counted up when the code below makes other images of the same recipe."""


def default_cache() -> Path:
    """The folder that keeps the images: `$BLOOMERY_LAB_CACHE`, else the user's cache."""
    shared = os.environ.get("BLOOMERY_LAB_CACHE")
    base = Path(shared) if shared else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bloomery"
    return base.absolute() / "vm-images"


def fingerprint(part: _Part) -> str:
    """What the folder of these images is called after: a hash over everything that they are made from."""
    inputs = [repr((_MADE_BY, SUITE, part, _LEFT_OUT)).encode()]
    for path in sorted(part.recipe.iterdir()):
        inputs += [path.name.encode(), path.read_bytes()]
    return hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]


def find(cache: Path | None = None) -> dict[str, tuple[Path, Sums]] | None:
    """The file of each image, and its sums, if they are built."""
    folders = {part.name: _folder(cache or default_cache(), part) for part in PARTS}
    if not all(folder.is_dir() for folder in folders.values()):
        return None
    found = {}
    for part in PARTS:
        sums = json.loads((folders[part.name] / _SUMS).read_text())
        for name, file_name in part.files.items():
            found[name] = folders[part.name] / file_name, Sums(**sums[file_name])
    return found


def build(
    cache: Path | None = None, *, again: bool = False, progress: Callable[[str], None] = lambda _: None
) -> dict[str, tuple[Path, Sums]]:
    """The images are there, built now if they were not; returns the file of each, and its sums.

    Args:
        cache: the folder that keeps them; None is `default_cache()`.
        again: build them in any case, from the newest packages.
        progress: called with what is being done.

    Raises:
        LabError: something that building needs is missing, or it failed; says where the log is.
    """
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache, progress):
        for part, make in ((AGENT, _build_agent), (INSTANCE, _build_instance)):
            folder = _folder(cache, part)
            if folder.is_dir() and not again:
                continue
            programs.install({**programs.TO_RUN, **programs.TO_BUILD}, progress=progress)
            log = cache / f"{part.name}.log"
            with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as draft, log.open("wb") as output:
                work, ready = Path(draft), Path(draft) / "ready"
                ready.mkdir()
                make(work, ready, _Runner(output.fileno(), log), progress)
                sums = {name: asdict(Sums.of(ready / name)) for name in part.files.values()}
                (ready / _SUMS).write_text(json.dumps(sums))
                shutil.rmtree(folder, ignore_errors=True)
                # Moved in one piece: a folder of that name is complete.
                ready.rename(folder)
            for old in cache.glob(f"{part.name}-*"):
                if old != folder:
                    shutil.rmtree(old)
    built = find(cache)
    if built is None:
        raise AssertionError("what was built is found")
    return built


def _folder(cache: Path, part: _Part) -> Path:
    return cache / f"{part.name}-{fingerprint(part)}"


@contextmanager
def _alone(cache: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Nobody else builds into the cache within the block."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build of the images")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Runner:
    """Runs a program with its output in the log."""

    def __init__(self, output: int, log: Path) -> None:
        self._output = output
        self._log = log

    def __call__(self, *words: str | Path) -> None:
        result = subprocess.run(  # noqa: S603
            [programs.path_of(str(words[0])), *map(str, words[1:])],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=stand_back,
            check=False,
        )
        if result.returncode:
            last = " ".join(line.strip() for line in tail(self._log, lines=6))
            raise LabError(f"{words[0]} failed while the images were built: {last} (see {self._log})")


def _build_agent(work: Path, ready: Path, run: _Runner, progress: Callable[[str], None]) -> None:
    progress("fetching ironic-python-agent")
    recipe = work / "recipe"
    shutil.copytree(AGENT.recipe, recipe)
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"),
        *("--target", recipe / "site", "--no-compile", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", "3.11"),
        *(word for tag in _TAGS for word in ("--platform", tag)),
        *("--requirement", AGENT.recipe / "requirements.txt"),
    )
    progress("building the deploy agent's ramdisk from Debian's packages")
    _bootstrap(run, AGENT.packages, recipe, out=work / "out")
    for name in ("kernel", "ramdisk"):
        (work / "out" / name).rename(ready / AGENT.files[f"agent-{name}"])


# Debian 12 has glibc 2.36.
_TAGS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def _build_instance(work: Path, ready: Path, run: _Runner, progress: Callable[[str], None]) -> None:
    progress("building the instances' images from Debian's packages")
    out = work / "out"
    _bootstrap(run, INSTANCE.packages, INSTANCE.recipe, out=out)
    _write_boot_partition(run, ready / INSTANCE.files["boot-loader"], out / "medium.efi")
    _write_boot_partition(run, work / "disk-loader.img", out / "disk.efi")
    for name in ("debian", "debian-2"):
        root = out / f"{name}.ext4"
        _write_disk(run, ready / INSTANCE.files[name], boot=work / "disk-loader.img", root=root)
        root.rename(ready / f"{name}.ext4")


def _bootstrap(run: _Runner, packages: Sequence[str], recipe: Path, *, out: Path) -> None:
    """A tree with these packages was made and finished; `out` holds what it was finished into."""
    out.mkdir()
    # As root it mounts what the machine has (/dev/shm, /proc) into its tree. In namespaces of their own these mounts, and all its
    # processes, end with it, however it ends: nobody who then clears the tree away reaches through it.
    # The tree stands in the draft, too; for an ordinary user it is made under another user's number, who may not go there.
    apart = (
        ("env", f"TMPDIR={out.parent}", "unshare", "--mount", "--pid", "--fork", "--kill-child")
        if os.geteuid() == 0
        else ()
    )
    run(
        *apart,
        *("mmdebstrap", "--variant=minbase", "--format=null", f"--include={','.join(packages)}"),
        '--aptopt=Apt::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        # The kernel's own initial ramdisk has the modules of a virtual machine only.
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"',
        '--essential-hook=printf "MODULES=list\\nCOMPRESS=zstd\\n" >"$1/etc/initramfs-tools/conf.d/lab"',
        f'--essential-hook=printf "{_INSTANCE_MODULES}" >"$1/etc/initramfs-tools/modules"',
        '--customize-hook=mkdir "$1/.recipe"',
        f"--customize-hook=sync-in {recipe} /.recipe",
        '--customize-hook=sh "$1/.recipe/finish" "$1"',
        f"--customize-hook=sync-out /.out {out}",
        *(SUITE, "-"),
    )


_INSTANCE_MODULES = "virtio_pci\\nvirtio_scsi\\nsd_mod\\nvirtio_blk\\nvirtio_net\\next4\\n"


def _write_boot_partition(run: _Runner, image: Path, loader: Path) -> None:
    """An EFI system partition that boots this loader."""
    with image.open("wb") as file:
        file.truncate(_BOOT_PARTITION_MIB * MIB)
    run("mkfs.fat", "-n", "LAB-BOOT", image)
    run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", image, loader, "::/EFI/BOOT/BOOTX64.EFI")


def _write_disk(run: _Runner, image: Path, *, boot: Path, root: Path) -> None:
    """The image of a disk with a GUID partition table: the EFI system partition, and the root's file system."""
    boot_mib, root_mib = _BOOT_PARTITION_MIB, -(-root.stat().st_size // MIB)
    with image.open("wb") as file:
        file.truncate((1 + boot_mib + root_mib + 1) * MIB)
    script = root.with_suffix(".table")
    script.write_text(f"label: gpt\nstart=1MiB, size={boot_mib}MiB, type=U\nsize={root_mib}MiB, type=L\n")
    run("sh", "-c", 'exec "$0" --quiet "$1" <"$2"', programs.path_of("sfdisk"), image, script)
    for part, at_mib in ((boot, 1), (root, 1 + boot_mib)):
        run("dd", f"if={part}", f"of={image}", "bs=1M", f"seek={at_mib}", "conv=notrunc,sparse", "status=none")
