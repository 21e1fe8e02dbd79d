"""A lab with two virtual machines, up once for all tests here: one boots over virtual media, with a bond, one by HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery import lab
from vm.machines import Machines


@pytest.fixture(scope="session")
def vm_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    if "BLOOMERY_VM_LAB" in os.environ:
        # One that is up already, with a user whom its instances know: to run some of the tests again without the others.
        it = lab.status(Path(os.environ["BLOOMERY_VM_LAB"])).lab
        assert it is not None
        yield it
        return
    options = lab.Options(nodes=2, kind=lab.Kind.VM)
    with lab.running(options, tmp_path_factory.mktemp("vm") / "state", progress=print) as it:
        yield it


@pytest.fixture(scope="session")
def machines(vm_lab: lab.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = vm_lab.state / "user" if "BLOOMERY_VM_LAB" in os.environ else tmp_path_factory.mktemp("user")
    it = Machines(vm_lab, folder)
    yield it
    it.close()
