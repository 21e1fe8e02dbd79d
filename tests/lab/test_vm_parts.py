"""The parts of a lab of virtual machines that need no virtual machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import requests

from bloomery import lab
from bloomery.lab import images as lab_images
from bloomery.lab.enrol import plan
from bloomery.lab.sums import Sums
from bloomery.lab.vm import images as vm_images
from bloomery.lab.vm import programs
from bloomery.lab.vm.disks import holds, is_blank
from bloomery.lab.vm.qemu import AGENT_ADDRESS, AGENT_PORT, Hardware, Machine, Refused

MIB = 1024 * 1024


def hardware(folder: Path) -> Hardware:
    return Hardware(
        uuid="0b3a7f5e-6c0d-5b7e-8f1a-2d9c41e7a0c4",
        name="node-0",
        mac_addresses=("52:54:00:00:00:01", "52:54:00:00:00:02"),
        disks=("LAB-0-A", "LAB-0-B"),
        folder=folder,
        serial_port=4001,
        agent_port=4002,
        ssh_port=4003,
    )


def command(folder: Path, *, boot_from: str = "Hdd", medium: Path | None = None, is_stuck: bool = False) -> list[str]:
    return hardware(folder).command(boot_from=boot_from, medium=medium, is_stuck=is_stuck, control=9)


# The machines


@pytest.mark.parametrize(("boot_from", "is_first"), [("Cd", True), ("Hdd", False), ("Pxe", False)])
def test_the_drive_comes_first_only_when_the_bmc_says_so(tmp_path: Path, boot_from: str, is_first: bool) -> None:
    (drive,) = [word for word in command(tmp_path, boot_from=boot_from) if word.startswith("scsi-cd")]
    assert ("bootindex=0" in drive) == is_first


def test_a_machine_is_reached_on_loopback_only(tmp_path: Path) -> None:
    words = command(tmp_path)
    (network,) = [word for word in words if word.startswith("user,")]
    assert f"hostfwd=tcp:127.0.0.1:4002-{AGENT_ADDRESS}:{AGENT_PORT}" in network
    assert f"hostfwd=tcp:127.0.0.1:4003-{AGENT_ADDRESS}:22" in network
    (serial,) = [word for word in words if word.startswith("socket,id=serial")]
    assert "host=127.0.0.1,port=4001" in serial


def test_both_nics_end_in_one_hub_with_the_addresses_that_ironic_knows(tmp_path: Path) -> None:
    words = command(tmp_path)
    nics = [word for word in words if word.startswith("virtio-net-pci")]
    assert [f"mac={mac}" in nic for mac, nic in zip(hardware(tmp_path).mac_addresses, nics, strict=True)] == [
        True,
        True,
    ]
    assert [word for word in words if word.startswith("hubport")] == [
        "hubport,hubid=0,id=uplink,netdev=host",
        "hubport,hubid=0,id=hub0",
        "hubport,hubid=0,id=hub1",
    ]


def test_each_disk_has_the_serial_number_that_a_root_device_hint_names(tmp_path: Path) -> None:
    disks = [word for word in command(tmp_path) if word.startswith("scsi-hd")]
    assert ["serial=LAB-0-A" in disks[0], "serial=LAB-0-B" in disks[1]] == [True, True]


def test_a_machine_that_hangs_in_its_firmware_has_power_and_does_nothing(tmp_path: Path) -> None:
    assert "-S" in command(tmp_path, is_stuck=True)
    assert "-S" not in command(tmp_path)


def test_a_machine_that_is_off_takes_no_interrupt_and_no_cable(tmp_path: Path) -> None:
    machine = Machine(hardware(tmp_path))
    assert not machine.is_on
    with pytest.raises(Refused, match="node-0 is switched off"):
        machine.interrupt()
    with pytest.raises(Refused, match="node-0 is switched off"):
        machine.forward("10.20.5.10", 22, from_port=4004)


def test_hardware_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    it = hardware(tmp_path)
    written = {name: getattr(it, name) for name in Hardware.__dataclass_fields__} | {"folder": str(it.folder)}
    assert Hardware.from_json({**written, "disks": list(it.disks), "mac_addresses": list(it.mac_addresses)}) == it


def test_of_two_virtual_machines_one_boots_over_virtual_media_with_a_port_group_and_one_by_http() -> None:
    first, second = plan(lab.Options(nodes=2, kind=lab.Kind.VM))
    assert (first.boot_interface, first.has_port_group) == ("redfish-virtual-media", True)
    assert (second.boot_interface, second.has_port_group) == ("redfish-https", False)
    assert {first.resource_class, second.resource_class} == {"baremetal.vm"}


def test_more_virtual_machines_than_a_machine_carries_are_refused() -> None:
    with pytest.raises(lab.LabError, match="1 to 8 virtual machines, not 9"):
        lab.Options(nodes=9, kind=lab.Kind.VM)


def test_a_time_to_call_back_that_is_none_is_refused() -> None:
    with pytest.raises(lab.LabError, match="1 second or more to call back, not 0"):
        lab.Options(call_back_seconds=0)


def test_an_image_says_whether_it_is_one_of_a_partition(tmp_path: Path) -> None:
    built = {}
    for name in ("debian", "debian-partition-2"):
        file = tmp_path / name
        file.write_text(name)
        built[name] = file, Sums.of(file)
    made = lab_images.create(tmp_path / "images", base_url="http://127.0.0.1:1", built=built)
    assert {name for name, image in made.items() if image.is_partition} == {"partition", "debian-partition-2"}


# Their disks


def test_a_disk_is_blank_until_something_is_written_anywhere_on_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    assert is_blank(disk)
    with disk.open("r+b") as file:
        file.seek(40 * MIB)
        file.write(b"\0" * 4096)
    assert is_blank(disk)
    with disk.open("r+b") as file:
        file.seek(63 * MIB)
        file.write(b"\1")
    assert not is_blank(disk)


def test_what_is_on_a_disk_is_found_where_it_crosses_blocks_too(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(16 * MIB)
        file.seek(8 * MIB - 4)
        file.write(b"the marker")
    assert holds(disk, b"the marker")
    assert not holds(disk, b"another marker")


# Their images


def test_a_changed_recipe_makes_other_images_and_an_equal_one_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {part.name: vm_images.fingerprint(part) for part in vm_images.PARTS}
    recipe = tmp_path / "recipe"
    shutil.copytree(vm_images.RECIPE, recipe)
    monkeypatch.setattr(vm_images, "RECIPE", recipe)
    assert {part.name: vm_images.fingerprint(part) for part in vm_images.PARTS} == before
    with (recipe / "agent" / "init").open("a") as script:
        script.write("# another line\n")
    after = {part.name: vm_images.fingerprint(part) for part in vm_images.PARTS}
    assert after["agent"] != before["agent"]
    assert after["instance"] == before["instance"]


def test_images_that_are_not_all_built_are_not_found(tmp_path: Path) -> None:
    assert vm_images.find(tmp_path) is None
    (tmp_path / f"agent-{vm_images.fingerprint(vm_images.AGENT)}").mkdir()
    assert vm_images.find(tmp_path) is None


def test_what_the_agent_needs_is_pinned_by_version_and_hash() -> None:
    lines = (vm_images.AGENT.recipe / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert any(pin.startswith("ironic-python-agent==") for pin in pins)
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_whoever_may_not_install_packages_is_told_what_to_type() -> None:
    needed = {"no-such-program-anywhere": "a-package", "/no/such/file": "another-package"}
    with pytest.raises(
        lab.LabError, match=r"sudo apt-get install --no-install-recommends --yes a-package another-package$"
    ):
        programs.install(needed, progress=print, is_root=False)


def test_nothing_is_installed_where_everything_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    programs.install({"sh": "dash", "/etc/passwd": "base-passwd"}, progress=print, is_root=True)
    assert capsys.readouterr().out == ""


def test_the_sums_of_a_file_are_those_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    sums = Sums.of(path)
    assert sums.md5 == "900150983cd24fb0d6963f7d28e17f72"
    assert sums.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sums.sha512.startswith("ddaf35a193617abacc417349ae204131")


@pytest.mark.lab
def test_the_image_server_answers_a_machine_that_asks_by_the_whole_address(a_lab: lab.Lab) -> None:
    image = a_lab.images["partition"]
    through_itself = requests.get(image.url, proxies={"http": a_lab.images_url}, timeout=30)
    assert through_itself.content == requests.get(image.url, timeout=30).content
    elsewhere = requests.get("http://192.0.2.1/partition.raw", proxies={"http": a_lab.images_url}, timeout=30)
    assert elsewhere.status_code == 404


@pytest.mark.lab
def test_a_cable_to_a_machine_of_a_lab_without_virtual_machines_is_refused(a_lab: lab.Lab) -> None:
    with pytest.raises(lab.LabError, match="no lab with virtual machines is up"):
        lab.forward("node-0", "10.20.5.10", 22, a_lab.state)
