"""The file may not grow: what rewrites save is counted, and one that costs more than was saved so far is declined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....ir import Graph, Node, Tensor, Value
from ....ir.proto import constant_size, initializer_size, node_size

_LONGER_NAME = 3
"""Letters that a fresh name is longer, as a rule at most, than the one that it is made of."""


class Room:
    """Counts bytes saved in the file of a model."""

    def __init__(self) -> None:
        self.spare = 0

    def refuses(self, cost: int, values: Iterable[Value], nodes: Sequence[Node]) -> str:
        """Why a rewrite of `nodes` that costs so many bytes is declined; empty if it is not."""
        if cost <= self.spare:
            return ""
        shared = [value.name for value in values if not is_released(value, nodes)]
        why = f" since {', '.join(shared)} has other readers" if shared else ""
        return f"the file would grow by {cost - self.spare} bytes{why}"


def is_released(value: Value, nodes: Sequence[Node]) -> bool:
    """Whether a constant goes with the nodes that read it."""
    return not value.pinned and not value.is_input and value.is_read_only_by(nodes)


def released_bytes(values: Iterable[Value | None], nodes: Sequence[Node]) -> int:
    """Bytes of the constants that only `nodes` read."""
    size = 0
    for value in dict.fromkeys(values):
        if value is not None and value.const is not None and is_released(value, nodes):
            producer = value.producer
            size += initializer_size(value.const, value.name) if producer is None else node_size(producer)
    return size


def added_bytes(tensor: Tensor, name: str, graph: Graph, *, named_anew: bool) -> int:
    """Bytes, at most, of a new constant; `named_anew` if the name that it is made of is not free."""
    longer = name + "_" * _LONGER_NAME * named_anew
    return constant_size(tensor.dtype, tensor.shape, longer, graph, as_node=graph.is_function)
