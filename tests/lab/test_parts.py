"""The lab's own parts without the lab: the ISO maker and the machines' firmware."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from pycdlib import PyCdlib

from bloomery.lab.boot import Running, choose, read_ipxe_script
from bloomery.lab.errors import LabError
from bloomery.lab.wait import until

IRONIC_OPTIONS = [
    *("-ldots", "-allow-lowercase", "-allow-multidot", "-l", "-publisher", "ironic", "-quiet", "-J", "-r"),
    *("-V", "config-2"),
]
AGENT_SCRIPT = """#!ipxe

goto deploy

:deploy
imgfree
kernel http://127.0.0.1:1/deploy_kernel selinux=0 text ipa-api-url=http://127.0.0.1:2 ipa-agent-token=abc || goto retry
initrd http://127.0.0.1:1/deploy_ramdisk || goto retry
boot

:boot_ramdisk
sanboot http://127.0.0.1:1/boot.iso

:boot_iscsi
sanboot --no-describe || goto fail

:boot_whole_disk
sanboot --no-describe || exit 0
"""


def test_a_wait_that_is_over_says_how_far_it_came() -> None:
    tries: list[None] = []

    def never() -> bool:
        tries.append(None)
        return False

    with pytest.raises(LabError) as over:
        until(never, what=lambda: f"the end of {len(tries)} tries", timeout_s=0, poll_s=0.001)
    assert over.value.message == f"the end of {len(tries)} tries did not happen within 0 s"
    assert tries
    with pytest.raises(LabError, match="the end did not happen within 0 s"):
        until(never, what="the end", timeout_s=0, poll_s=0.001)


def make_iso(folder: Path, output: Path, *options: str) -> PyCdlib:
    subprocess.run([sys.executable, "-m", "bloomery.lab.mkisofs", *options, "-o", output, folder], check=True)
    iso = PyCdlib()
    iso.open(str(output))
    return iso


def read(iso: PyCdlib, **path: str) -> bytes:
    content = io.BytesIO()
    iso.get_file_from_iso_fp(content, **path)
    return content.getvalue()


@pytest.fixture
def config_drive(tmp_path: Path) -> Path:
    latest = tmp_path / "drive" / "openstack" / "latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text("{}")
    (latest / "network_data.json").write_text('{"links": []}')
    return tmp_path / "drive"


def test_a_config_drive_is_readable_by_each_kind_of_name(config_drive: Path, tmp_path: Path) -> None:
    iso = make_iso(config_drive, tmp_path / "drive.iso", *IRONIC_OPTIONS)
    path = "/openstack/latest/network_data.json"
    # Ironic opens it by the first of these when it checks a config drive.
    assert read(iso, iso_path=f"{path};1") == read(iso, rr_path=path) == read(iso, joliet_path=path) == b'{"links": []}'
    assert iso.pvd.volume_identifier.strip() == b"config-2"
    iso.close()


def test_names_that_become_equal_in_upper_case_stay_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a-b.txt", "A_b.txt"):
        (folder / name).write_text(name)
    iso = make_iso(folder, tmp_path / "out.iso", "-r", "-J")
    for name in ("a-b.txt", "A_b.txt"):
        assert read(iso, rr_path=f"/{name}") == name.encode()
    iso.close()


def test_a_boot_image_becomes_the_isos_boot_entry(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "efiboot.img").write_bytes(b"\x00" * 4096)
    iso = make_iso(folder, tmp_path / "out.iso", "-r", "-V", "x", "-l", "-e", "efiboot.img", "-no-emul-boot")
    assert iso.eltorito_boot_catalog is not None
    iso.close()


def test_an_unknown_option_ends_the_iso_maker_with_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bloomery.lab.mkisofs", "-hfs", "-o", str(tmp_path / "x"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "-hfs" in result.stderr


@pytest.mark.parametrize(
    ("start", "running"),
    [
        ("deploy", Running.AGENT),
        ("boot_ramdisk", Running.ISO),
        ("boot_iscsi", Running.VOLUME),
        ("boot_whole_disk", None),
        ("nowhere", None),
    ],
)
def test_a_network_boot_script_starts_what_its_first_jump_leads_to(start: str, running: Running | None) -> None:
    boot = read_ipxe_script(AGENT_SCRIPT.replace("goto deploy", f"goto {start}", 1))
    assert (boot and boot.running) == running


def test_an_agent_gets_its_token_from_the_boot_script() -> None:
    boot = read_ipxe_script(AGENT_SCRIPT)
    assert boot
    assert boot.kernel_parameters["ipa-agent-token"] == "abc"
    assert boot.kernel_parameters["ipa-api-url"] == "http://127.0.0.1:2"


@pytest.mark.parametrize(("has_image", "running"), [(True, Running.DISK), (False, Running.NOTHING)])
def test_a_machine_without_medium_boots_its_disk_if_there_is_something_on_it(has_image: bool, running: Running) -> None:
    system = {"boot_device": "Cd", "boot_image": {"Cd": [None, False, False]}}
    assert choose(system, mac_addresses=[], has_image=has_image, boot_server_url="").running is running
