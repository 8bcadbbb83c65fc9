"""Parts of a Concat that have the parameters of the whole.

A Concat whose parts have parameters of their own rounds them a second time, to steps of the whole, which are the
greatest of all. A part that nobody else reads loses nothing by these steps from the start: it is rounded once, and the
target copies bytes. What reaches the Concat through movers, each the only reader, is such a part as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....ir import Value
from .units import Unit


def only_joined(units: Sequence[Unit]) -> dict[Value, Value]:
    """What only a Concat reads, perhaps through movers, with what the Concat makes."""
    makers = {value: unit for unit in units for value in unit.outputs}
    found: dict[Value, Value] = {}
    for unit in units:
        if unit.node.is_op("Concat"):
            for value in unit.activations:
                start = _start(value, makers)
                if start is not None:
                    found[start] = unit.outputs[0]
    return found


def _start(value: Value, makers: Mapping[Value, Unit]) -> Value | None:
    """Where what is read has its parameters from; None if somebody else reads it on the way."""
    while len(value.uses) == 1:
        maker = makers.get(value)
        if maker is None or not maker.is_mover:
            return value
        if len(maker.outputs) > 1:
            return None
        value = maker.inputs[0][1]
    return None
