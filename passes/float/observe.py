"""What rounding to 16 bits would take from the values of a model, on the sample data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import ExecutionError
from ...ir import Value
from ..calibrate.ranges import Array
from ..calibrate.stream import observe
from ..manager.context import Context
from ..quantize.layout import MOVERS
from .formats import Format, Toll
from .signatures import FLOAT

HEADROOM = 2.0
"""So many times what was seen must fit."""
MOVING = frozenset(MOVERS) - {"Cast"} | {"Gather", "GatherElements", "GatherND", "Pad", "DepthToSpace", "SpaceToDepth"}
"""Operators that compute nothing."""
UNREACHED = "is reached by no sample"


@dataclass
class Seen:
    """Observes one value: what rounding takes from it, and its largest finite number."""

    toll: Toll
    largest: float = 0.0

    def update(self, array: Array) -> None:
        """Take note of a sample."""
        self.toll.update(array)
        sizes = np.abs(array)
        self.largest = max(self.largest, float(sizes.max(initial=0.0, where=np.isfinite(sizes))))

    def harm(self) -> str:
        """Why the value must stay in float32; empty if it need not."""
        toll, name = self.toll, self.toll.format.name
        if not toll.count:
            return UNREACHED
        if self.largest * HEADROOM > toll.format.largest:
            return f"reached {self.largest:.3g}, and {name} ends at {toll.format.largest:g}"
        if toll.is_coarse:
            return f"is too small for {name}: most of its bits would be lost"
        if toll.is_chosen and toll.changed:
            return f"counts something, and {name} has too few digits for it"
        return ""


@dataclass
class Observed:
    """The values of a model on the sample data; of what was not observed nothing is known."""

    seen: Mapping[Value, Seen] = field(default_factory=dict)
    is_blind: bool = True
    """Whether there were no data."""

    def harm(self, value: Value) -> str:
        """Why a value must stay in float32; empty if it need not, or if there were no data.

        What cannot be observed itself but only moves other values, or selects one of them, is judged by those.
        """
        if self.is_blind or value.const is not None:
            return ""
        found = self.seen.get(value)
        if found is not None:
            return found.harm()
        node = value.producer
        if node is None or (node.bodies and not node.is_op("If")):
            return "cannot be observed"
        if node.is_op("If"):
            harms = [self.harm(body.outputs[node.outputs.index(value)]) for body in node.bodies]
            reached = [one for one in harms if one != UNREACHED]
            return next(filter(None, reached), "") if reached else UNREACHED
        if not node.is_op(*MOVING):
            return "cannot be observed"
        reads = node.inputs if node.is_op("Concat") else node.inputs[:1]
        return next((problem for read in reads if read is not None and (problem := self.harm(read))), "")


def observed(ctx: Context, format: Format) -> Observed:
    """Run the model on the sample data, if there are any, and look at every value of float32 outside functions.

    An executor that runs the model may still fail where values of loops are asked for: then those are not observed.
    """
    if ctx.samples is None:
        return Observed()
    try:
        seen = _observe(ctx, format, [value for graph in ctx.model.graph.walk_graphs() for value in graph.values()])
    except ExecutionError:
        seen = _observe(ctx, format, list(ctx.model.graph.values()))
    for feed in ctx.feeds():
        for value in ctx.model.graph.inputs:
            array = feed.get(value.name, None if value.tensor is None else value.tensor.numpy())
            if array is not None and ctx.shapes().dtype(value) == FLOAT:
                seen.setdefault(value, Seen(Toll(format))).update(np.asarray(array))
    return Observed(seen, is_blind=False)


def _observe(ctx: Context, format: Format, values: Sequence[Value]) -> dict[Value, Seen]:
    """The values that a node of the graph computes, or a body is given."""
    dtype, given = ctx.shapes().dtype, set(ctx.model.graph.inputs)
    wanted = [value for value in values if value.const is None and value not in given and dtype(value) == FLOAT]
    seen = {value: Seen(Toll(format)) for value in wanted}
    for missing in observe(ctx, {value: [one] for value, one in seen.items()}, purpose="float{compute}"):
        del seen[missing]
    return seen
