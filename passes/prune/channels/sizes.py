"""What a cut saves: MACs and bytes of a model as functions of how many elements stay on each axis.

The MACs of a linear layer are proportional to the size of its weight, whatever its operator; so are its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....ir import Model, Value
from ....ir.analysis.cost import cost, node_macs
from ....ir.analysis.coupling import Axis, Group
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.shapes import Shapes, infer_shapes
from ...manager.context import Feed

Gone = NDArray[np.bool_]
OTHER_DIM = 64
"""What stands for a size that is not known when MACs are compared, of axes but the first, where no data say it."""
HIDDEN = 0.05
"""Share of the MACs that the report may miss and still be what goals go by."""


@dataclass(frozen=True)
class Weight:
    """A constant: its cost when nothing is cut, and the group of each of its axes (-1: none)."""

    value: Value
    cost: float
    axes: tuple[tuple[int, Axis], ...]


class Meter:
    """The share of the cost (`macs` or `bytes`) of a model that stays."""

    def __init__(self, model: Model, groups: Sequence[Group], kind: str, feed: Feed | None) -> None:
        self.groups = groups
        costs, self.total = _macs(model, feed) if kind == "macs" else _bytes(model)
        owner = {axis: number for number, group in enumerate(groups) for axis in group.constants}
        self.weights: list[Weight] = []
        self.of_group: dict[int, list[int]] = {}
        for value, price in costs.items():
            assert value.const is not None
            axes = [Axis(value, axis) for axis in range(len(value.const.shape))]
            mine = tuple((owner[axis], axis) for axis in axes if axis in owner)
            for number, _ in mine:
                self.of_group.setdefault(number, []).append(len(self.weights))
            self.weights.append(Weight(value, price, mine))

    def cost(self, gone: Sequence[Gone], only: Sequence[int] | None = None) -> float:
        """The cost of all weights (or of those numbered `only`) when the units `gone` are cut."""
        chosen = self.weights if only is None else [self.weights[number] for number in dict.fromkeys(only)]
        return sum(weight.cost * self._share(weight, gone) for weight in chosen)

    def fixed(self) -> float:
        """The cost that no cut changes."""
        return self.total - sum(weight.cost for weight in self.weights)

    def share(self, gone: Sequence[Gone]) -> float:
        """The share of the whole that stays."""
        return (self.fixed() + self.cost(gone)) / self.total if self.total else 1.0

    def saved(self, gone: list[Gone], group: int, units: Gone) -> float:
        """What cutting `units` of one group would save beyond `gone`."""
        only = self.of_group.get(group, [])
        before = self.cost(gone, only)
        old, gone[group] = gone[group], gone[group] | units
        after = self.cost(gone, only)
        gone[group] = old
        return before - after

    def _share(self, weight: Weight, gone: Sequence[Gone]) -> float:
        share = 1.0
        for number, axis in weight.axes:
            if gone[number].any():
                share *= 1 - float(gone[number][self.groups[number].units[axis]].mean())
        return share


def total(model: Model, kind: str, feed: Feed | None) -> float:
    """The cost of a whole model, in `macs` (at the shapes of `feed`) or `bytes`."""
    return (_macs(model, feed) if kind == "macs" else _bytes(model))[1]


def given_total(model: Model, kind: str, feed: Feed | None) -> float:
    """The cost of a model as it was given: where shapes that the file computes hide a few MACs from the report, what
    the report counts, so that a goal is met by its numbers too."""
    whole = total(model, kind, feed)
    reported = float(cost(model, _pins(model, feed)).macs) if kind == "macs" else whole
    return min(whole, reported) if reported >= (1 - HIDDEN) * whole else whole


def shapes_at(model: Model, feed: Feed | None) -> Shapes:
    """All shapes, at the sizes of `feed`, or at usual ones."""
    return known_shapes(model, infer_shapes(model, _pins(model, feed)))


def _pins(model: Model, feed: Feed | None) -> dict[str, tuple[int, ...]]:
    pins = {}
    for value in model.graph.inputs:
        fed = None if feed is None else feed.get(value.name)
        if fed is not None:
            pins[value.name] = tuple(np.shape(fed))
        elif value.type is not None and value.type.HasField("tensor_type"):
            dims = value.type.tensor_type.shape.dim
            pins[value.name] = tuple(
                d.dim_value if d.dim_value > 0 else OTHER_DIM if i else 1 for i, d in enumerate(dims)
            )
    return pins


def _macs(model: Model, feed: Feed | None) -> tuple[dict[Value, float], float]:
    shapes = shapes_at(model, feed)
    costs: dict[Value, float] = {}
    total = 0.0
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            macs = node_macs(node, shapes) or 0
            total += macs
            weights = [value for value in node.inputs if value is not None and value.const is not None]
            if macs and weights:
                widest = max(weights, key=lambda value: value.const.size if value.const is not None else 0)
                costs[widest] = costs.get(widest, 0) + macs
    return costs, total


def _bytes(model: Model) -> tuple[dict[Value, float], float]:
    costs = {
        value: float(value.const.nbytes)
        for graph in model.walk_graphs()
        for value in graph.values()
        if value.const is not None
    }
    return costs, sum(costs.values())
