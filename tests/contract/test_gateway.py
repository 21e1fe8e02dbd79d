"""The gateway keeps its contract, in front of the simulator and in front of a real Ironic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bloomery import lab
from bloomery.testing import IronicSimulator, NeutronSimulator
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
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """The lab's Ironic and Neutron, with a node of fake hardware to play with and one that is only there."""
    options = lab.Options(nodes=2, kind=lab.Kind.FAKE)
    with lab.running(options, tmp_path_factory.mktemp("contract") / "state") as it:
        node = next(node for node in it.nodes if not node.has_port_group)
        image = it.images["whole-disk"]

        def make() -> Bench:
            ironic = ironic_at(it.ironic_url)
            ironic.update(
                ironic.node(node.uuid),
                [{"op": "add", "path": "/console_interface", "value": "no-console"}],
                is_so=lambda _node: True,
                doing="taking its console away",
            )
            return Bench(
                ironic=ironic,
                node_uuid=node.uuid,
                instance_info={
                    "image_source": image.url,
                    "image_os_hash_algo": "sha256",
                    "image_os_hash_value": image.sha256,
                    "image_type": "whole-disk",
                },
                neutron=neutron_at(str(it.neutron_url)),
                network_id=it.networks["tenant"]["private"],
                wait_s=WAIT_S,
            )

        yield make


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.name)
def test_the_simulator_keeps_the_contract(check: Check, simulated: Make) -> None:
    check(simulated)


@pytest.mark.lab
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.name)
def test_a_real_ironic_keeps_the_contract(check: Check, real: Make) -> None:
    check(real)


def test_every_check_that_is_written_is_in_the_contract() -> None:
    from bloomery.testing import contract

    written = {name.removeprefix("check_") for name in vars(contract) if name.startswith("check_")}
    assert written == {check.name for check in CONTRACT}
    assert len(CONTRACT) == len(written)
