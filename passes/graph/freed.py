"""What the file loses with uses of a value."""

from __future__ import annotations

from collections.abc import Iterable

from ...ir import Node, Use, Value
from ...ir.proto import initializer_size, node_size


def freed_bytes(value: Value, uses: Iterable[Use]) -> int:
    """Bytes that the file loses when these uses of a value are no more, with what only it was computed from."""
    gone, lost = set(uses), set[Node]()

    def unread(value: Value) -> bool:
        return not value.pinned and all(use in gone or use.user in lost for use in value.uses)

    def free(value: Value) -> int:
        producer = value.producer
        if producer is None:
            tensor = value.tensor
            return 0 if tensor is None or value.is_input else initializer_size(tensor, value.name)
        if producer in lost or not all(unread(output) for output in producer.outputs):
            return 0
        lost.add(producer)
        reads = dict.fromkeys(read for read in producer.inputs if read is not None)
        return node_size(producer) + sum(free(read) for read in reads if unread(read))

    return free(value) if unread(value) else 0
