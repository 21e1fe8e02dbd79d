"""The gateway keeps its contract, in front of the simulator and in front of a real Ironic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery.lab import Kind, Lab
from bloomery.testing import IronicSimulator, NeutronSimulator, contract
from bloomery.testing.contract import CONTRACT, Bench, Check, Make
from bloomery.testing.gateways import ironic_at, neutron_at

WAIT_S = 90.0


@pytest.fixture
def simulated() -> Iterator[Make]:
    """A simulated Ironic and Neutron, with a node to play with and two that are only there."""
    with NeutronSimulator() as neutron, IronicSimulator(neutron=neutron) as ironic:
        network_id = neutron.add_network("tenant")
        for name in ("first", "last"):
            ironic.add_node(name)
        node_uuid = ironic.add_node("n1", console_interface="no-console")

        def make() -> Bench:
            return Bench(
                ironic=ironic_at(ironic.url),
                node_uuid=node_uuid,
                instance_info={"image_source": "http://127.0.0.1/image", "image_checksum": "0" * 32},
                neutron=neutron_at(neutron.url),
                network_id=network_id,
            )

        yield make


@pytest.fixture(scope="module")
def real(lab: Lab) -> Iterator[Make]:
    """The lab's Ironic and Neutron, with a node of fake hardware to play with."""
    node = next(node for node in lab.nodes if node.kind is Kind.FAKE and not node.has_port_group)
    image = lab.images["whole-disk"]

    def change_console(change: dict[str, object]) -> None:
        ironic = ironic_at(lab.ironic_url)
        patch = [{"path": "/console_interface", **change}]
        ironic.update(ironic.node(node.uuid), patch, is_so=lambda _node: False, doing="changing its console")

    def make() -> Bench:
        return Bench(
            ironic=ironic_at(lab.ironic_url),
            node_uuid=node.uuid,
            instance_info={
                "image_source": image.url,
                "image_os_hash_algo": "sha256",
                "image_os_hash_value": image.sha256,
                "image_type": "whole-disk",
            },
            neutron=neutron_at(str(lab.neutron_url)),
            network_id=lab.networks["tenant"]["private"],
            wait_s=WAIT_S,
        )

    change_console({"op": "add", "value": "no-console"})
    yield make
    change_console({"op": "remove"})


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.name)
def test_the_simulator_keeps_the_contract(check: Check, simulated: Make) -> None:
    check(simulated)


@pytest.mark.lab
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.name)
def test_a_real_ironic_keeps_the_contract(check: Check, real: Make) -> None:
    check(real)


def test_every_check_that_is_written_is_in_the_contract() -> None:
    written = {name.removeprefix("check_") for name in vars(contract) if name.startswith("check_")}
    assert written == {check.name for check in CONTRACT}
    assert len(CONTRACT) == len(written)
