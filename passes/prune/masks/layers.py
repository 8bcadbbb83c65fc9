"""What can be masked beside the linear layers: the recurrence of LSTM, GRU and RNN, and tables that Gather reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ....ir import Model, Node, Value
from ....ir.analysis.linear import Linear, linear_of
from .patterns import Array

RECURRENT = ("LSTM", "GRU", "RNN")
STATES = 5
"""The input of recurrent layers that holds the states before the first step."""


@dataclass(frozen=True)
class Recurrence(Linear):
    """The matrices that states meet. For those of the step before each stand all that the layer gives; where it does
    not give all, those that it starts from, or the last ones."""

    def all_rows(self, x: Array) -> Array:
        """The rows of states `[steps, directions, batch, hidden]`, or of one step."""
        states = x if x.ndim == 4 else x[None]
        return states.swapaxes(0, 1).reshape(self.groups, -1, self.k)


@dataclass(frozen=True)
class Table(Linear):
    """Rows by their numbers: the matrix that one-hot vectors meet."""

    def matrices(self, weight: Array) -> Array:
        """One, which is the table."""
        return weight[None]

    def weight_of(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        return np.asarray(matrices[0])


def maskable_layers(model: Model, *, tables: bool) -> Iterator[Linear]:
    """All of the main graph and its bodies, in order; of tables those of rank 2 that are read by rows."""
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            found = (linear_of(node), _recurrence_of(node), _table_of(node) if tables else None)
            yield from (layer for layer in found if layer is not None)


def _recurrence_of(node: Node) -> Recurrence | None:
    first = linear_of(node)
    weight = node.input(2)
    if first is None or node.op_type not in RECURRENT or weight is None or weight.const is None:
        return None
    states = _states(node)
    shape = weight.const.shape
    return None if states is None else Recurrence(node, 2, states, weight, shape, shape[0], shape[2], shape[1], None)


def _states(node: Node) -> Value | None:
    """All states, if something reads them; else those at the start, if they are computed; else the last ones."""
    every, *others = node.outputs
    start = node.input(STATES)
    if every.name and not every.is_dead:
        return every
    if start is not None and start.const is None:
        return start
    return others[0] if others and others[0].name else None


def _table_of(node: Node) -> Table | None:
    if not node.is_op("Gather") or node.attr("axis", 0) or any(each.ref for each in node.attributes.values()):
        return None
    weight, places = node.input(0), node.input(1)
    if weight is None or places is None or weight.const is None or len(weight.const.shape) != 2:
        return None
    return Table(node, 0, places, weight, weight.const.shape, 1, *weight.const.shape, None)
