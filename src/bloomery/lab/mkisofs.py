"""The program `mkisofs`, as far as Ironic and openstacksdk call it, for machines that have none.

`python -m bloomery.lab.mkisofs [OPTION…] -o FILE FOLDER` writes the folder as an ISO 9660 image with Rock Ridge (`-r`)
and Joliet (`-J`) names. Options that it does not know end it with an error rather than a wrong image.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pycdlib import PyCdlib

_FLAGS_WITHOUT_EFFECT = ("-quiet", "-ldots", "-allow-multidot", "-l", "-no-emul-boot")
_BOOT_CATALOG = "/BOOT.CAT;1"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mkisofs", allow_abbrev=False, add_help=False)
    parser.add_argument("-o", dest="output", type=Path, required=True)
    parser.add_argument("-V", dest="volume", default="CDROM")
    parser.add_argument("-publisher", default="")
    parser.add_argument("-J", dest="joliet", action="store_true")
    parser.add_argument("-r", "-R", dest="rock_ridge", action="store_true")
    parser.add_argument("-allow-lowercase", dest="lower_case", action="store_true")
    parser.add_argument("-b", dest="bios_boot")
    parser.add_argument("-e", dest="efi_boot")
    parser.add_argument("-boot-load-size", dest="boot_load_size", type=int)
    parser.add_argument("-boot-info-table", dest="boot_info_table", action="store_true")
    parser.add_argument("folder", type=Path)
    for flag in _FLAGS_WITHOUT_EFFECT:
        parser.add_argument(flag, action="store_true", dest="_")
    return parser.parse_args(argv)


class _IsoNames:
    """Names for the ISO 9660 tree, unique in their folder; as they are if lower case is allowed, else mangled."""

    def __init__(self, *, lower_case: bool) -> None:
        self._lower_case = lower_case
        self._taken: set[PurePosixPath] = set()

    def __call__(self, parent: PurePosixPath, name: str, *, is_folder: bool) -> PurePosixPath:
        if self._lower_case:
            candidates = iter([parent / name])
        else:
            stem, _, suffix = (name, "", "") if is_folder else name.partition(".")
            stem, suffix = (re.sub(r"[^A-Z0-9_]", "_", part.upper()) for part in (stem, suffix))
            numbered = (f"{stem[: 20 - len(str(n))]}{n}" for n in itertools.count())
            candidates = (
                parent / (base if is_folder else f"{base}.{suffix[:8]}")
                for base in itertools.chain([stem[:20]], numbered)
            )
        chosen = next(path for path in candidates if path not in self._taken)
        self._taken.add(chosen)
        return chosen


def write_iso(arguments: argparse.Namespace) -> None:
    """The image is written to the output file."""
    iso = PyCdlib()
    iso.new(
        # Level 4 is the one that takes names as they are; the others want upper case.
        interchange_level=4 if arguments.lower_case else 3,
        vol_ident=arguments.volume,
        pub_ident_str=arguments.publisher,
        rock_ridge="1.09" if arguments.rock_ridge else None,
        joliet=3 if arguments.joliet else None,
    )
    names = _IsoNames(lower_case=arguments.lower_case)
    iso_paths: dict[str, PurePosixPath] = {}
    _add(iso, arguments, names, iso_paths, arguments.folder, PurePosixPath("/"), PurePosixPath("/"))
    _add_boot(iso, arguments, iso_paths)
    iso.write(str(arguments.output))
    iso.close()


def _add(
    iso: PyCdlib,
    arguments: argparse.Namespace,
    names: _IsoNames,
    iso_paths: dict[str, PurePosixPath],
    folder: Path,
    iso_parent: PurePosixPath,
    parent: PurePosixPath,
) -> None:
    for entry in sorted(folder.iterdir()):
        path = parent / entry.name
        iso_path = names(iso_parent, entry.name, is_folder=entry.is_dir())
        rock_ridge = {"rr_name": entry.name} if arguments.rock_ridge else {}
        joliet = {"joliet_path": str(path)} if arguments.joliet else {}
        if entry.is_dir():
            iso.add_directory(str(iso_path), **rock_ridge, **joliet)
            _add(iso, arguments, names, iso_paths, entry, iso_path, path)
        else:
            iso_paths[str(path)] = iso_path
            iso.add_file(str(entry), f"{iso_path};1", **rock_ridge, **joliet)


def _add_boot(iso: PyCdlib, arguments: argparse.Namespace, iso_paths: dict[str, PurePosixPath]) -> None:
    for image, is_efi in ((arguments.bios_boot, False), (arguments.efi_boot, True)):
        if image:
            iso.add_eltorito(
                f"{iso_paths[f'/{image}']};1",
                bootcatfile=_BOOT_CATALOG,
                rr_bootcatname="boot.cat" if arguments.rock_ridge else None,
                joliet_bootcatfile="/boot.cat" if arguments.joliet else None,
                boot_load_size=arguments.boot_load_size,
                boot_info_table=arguments.boot_info_table and not is_efi,
                efi=is_efi,
            )


def main() -> None:
    """The image that the command line asks for is written."""
    write_iso(_parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
