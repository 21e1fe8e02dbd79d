"""Every decoder of an answer from outside, and what is done with what it gives: the one place that a fuzzer has to know.

An input is a byte that chooses the decoder, and the body of the answer. Whatever it is, the outcome is a value of ours, whose
properties can be asked, or `RequestFailure`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bloomery.fleet import Wanted, what_there_is, why_not
from bloomery.glance import GlanceImage
from bloomery.glance import _Images as Images
from bloomery.ironic import gateway as ironic
from bloomery.ironic.changes import News
from bloomery.ironic.models import Allocation, Console, Node, Port, PortGroup, Validation, VolumeTarget
from bloomery.neutron import gateway as neutron
from bloomery.neutron.models import NeutronPort
from bloomery.operations import recover, vifs, volumes
from bloomery.operations.console import _address_of as address_of
from bloomery.operations.instances import instance_on
from bloomery.plain import LONGEST_REASON, without_places
from bloomery.rest.failures import Failure, RequestFailure
from bloomery.rest.transport import Reply, words_of

Look = Callable[[Any], object]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _at_node(node: Node) -> None:
    """Everything that is read from a node."""
    assert isinstance(node.uuid, str)
    str((node.label, node.state, node.is_on, node.step_now, node.capabilities, node.in_state_since))
    if node.changed_at is not None:
        # Lists of changes are read a little further back than the newest change.
        news = News()
        news.begin([node], 0.0)
        news.has(node)
    wanted = Wanted(resource_class="x", traits=("CUSTOM_X",), capabilities={"a": "b"}, owner="o", candidates=("n",))
    str(why_not(node, wanted) + why_not(node, Wanted()))
    what_there_is([node], wanted)
    mark = node.any_mark
    assert mark is None or isinstance(mark, dict)
    ironic._revealed([mark, node.guards])
    vifs.marked(mark)
    volumes.marked(mark)
    recover.is_older(mark or {}, 60.0, now=NOW)
    instance_on(node)
    without_places(node.last_error or "")


def _at_vif(port: NeutronPort) -> None:
    str((port.label, port.was_created_for("i"), port.created_at))


def _at_each(what: str, look: Look) -> Look:
    def at_each(page: Any) -> None:
        for one in getattr(page, what):
            look(one)

    return at_each


def _nothing(_value: Any) -> None:
    pass


@dataclass(frozen=True)
class Decoder:
    """One kind of answer.

    Attributes:
        kind: its type.
        look: reads everything of it.
    """

    kind: Any
    look: Look = _nothing


DECODERS: tuple[Decoder, ...] = (
    Decoder(Node, _at_node),
    Decoder(ironic._Nodes, _at_each("rows", _at_node)),
    Decoder(Port, lambda port: str(port.vif_id)),
    Decoder(ironic._Ports, _at_each("rows", lambda port: str(port.vif_id))),
    Decoder(PortGroup, lambda group: str(group.vif_id)),
    Decoder(ironic._PortGroups, _at_each("rows", lambda group: str(group.vif_id))),
    Decoder(ironic._Vifs, _at_each("vifs", lambda vif: vif.id.lower())),
    Decoder(dict[str, Validation], lambda said: [f"{name}{one.result}{one.reason}" for name, one in said.items()]),
    Decoder(dict[str, Any]),
    Decoder(Allocation, lambda allocation: recover.is_older(allocation.extra, 60.0, now=NOW)),
    Decoder(ironic._Allocations, _at_each("rows", lambda one: recover.is_older(one.extra, 60.0, now=NOW))),
    Decoder(VolumeTarget),
    Decoder(ironic._Targets, _at_each("rows", lambda target: target.volume_id.lower())),
    Decoder(ironic._Connectors, _at_each("rows", lambda connector: connector.connector_id.lower())),
    Decoder(Console, address_of),
    Decoder(ironic._Conductors, _at_each("conductors", lambda conductor: conductor.hostname.lower())),
    Decoder(ironic._Drivers, _at_each("drivers", lambda driver: driver.name.lower())),
    Decoder(ironic._History, _at_each("history", lambda event: str(event.event))),
    Decoder(neutron._Networks, _at_each("rows", lambda network: str(network.mtu))),
    Decoder(neutron._Subnets, _at_each("rows", lambda subnet: subnet.cidr.lower())),
    Decoder(neutron._Ports, _at_each("rows", _at_vif)),
    Decoder(neutron._Port, lambda answer: _at_vif(answer.port)),
    Decoder(neutron._Groups, _at_each("rows", lambda group: group.id.lower())),
    Decoder(GlanceImage, lambda image: image.id.lower()),
    Decoder(Images, _at_each("images", lambda image: image.id.lower())),
    Decoder(ironic._Firmware, _at_each("firmware", lambda part: part.component.lower())),
)
"""All of them; the number of one, as an input has it, is its place here."""


def read(decoder: Decoder, body: bytes) -> bool:
    """The answer was read, or refused as one that makes no sense; says whether it was read."""
    assert isinstance(words_of(body), str)
    refusal = value = None
    try:
        value = Reply(200, body, {}, None).decode(decoder.kind)
    except RequestFailure as failure:
        refusal = failure
    if refusal is not None:
        assert refusal.failure is Failure.GARBLED
        assert len(refusal.reason) < LONGEST_REASON + 100
        return False
    decoder.look(value)
    return True


def feed(data: bytes) -> None:
    """An input of the fuzzer was read, one way or the other."""
    if data:
        read(DECODERS[data[0] % len(DECODERS)], data[1:])
