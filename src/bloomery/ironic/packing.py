"""Nodes packed to a fraction of their size: the nodes of a fleet are alike, and each is kept as what differs from an example."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec

from bloomery.ironic.models import Node
from bloomery.rest.decoding import decoder

_WINDOW_BITS = -12
"""Four KiB, which hold two examples; a larger window would have to be cleared for each node."""
_MEMORY_LEVEL = 4
_LEVEL = 1

_encoder = msgspec.json.Encoder()
_decoder = decoder(Node)


class Packer:
    """Packs nodes, and unpacks what it has packed. Safe to share between threads.

    Args:
        like: examples of the nodes; the nearer they are, the less is left of each node. None of them may be necessary.
    """

    def __init__(self, like: Iterable[Node] = ()) -> None:
        examples = b"".join(_encoder.encode(node) for node in _examples(like))
        self._example = examples[-(1 << -_WINDOW_BITS) :]
        # Copied for each node: to make one anew takes longer than to pack a node with it.
        self._start = zlib.compressobj(
            _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, self._example
        )

    def pack(self, node: Node) -> bytes:
        """All that is known of the node."""
        packing = self._start.copy()
        return packing.compress(_encoder.encode(node)) + packing.flush()

    def unpack(self, packed: bytes) -> Node:
        """The node that was packed here."""
        return _decoder.decode(zlib.decompressobj(_WINDOW_BITS, self._example).decompress(packed))


def _examples(nodes: Iterable[Node]) -> Iterable[Node]:
    """A free node and one that carries an instance, if there are such."""
    found: dict[bool, Node] = {}
    for node in nodes:
        found.setdefault(node.instance_uuid is not None, node)
    return found.values()
