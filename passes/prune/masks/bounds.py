"""The local bounds of masks: from the weights that are there before and after, whatever chose and adjusted them.

For y = x W + b: abs(dy_j) <= sum_i abs(dW_ij) max abs(x_i) + abs(db_j), dW the weights that went and the changes of
those that stay. States of recurrent layers are bounded by their activations, so that two of them differ by at most
twice the bound. Rows of a table move by no more than the most that one of its elements does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....ir.analysis.linear import Linear
from ...manager.bounds import LocalBound
from .layers import RECURRENT, Table
from .patterns import Array

BY = "prune"


def of_weights(layer: Linear, before: Array, after: Array) -> Iterator[LocalBound]:
    """The bound on what a layer gives, from its weight of before and after."""
    change = np.abs(after.astype(np.float64) - before.astype(np.float64))
    graph = layer.node.graph
    label, y = "" if graph is None else graph.label, layer.node.outputs[0].name
    if isinstance(layer, Table):
        yield LocalBound(BY, label, y, "table", 0, change.max(axis=1), layer.weight.name)
        return
    if layer.op_type in RECURRENT:
        for state in layer.node.outputs:
            if state.name:
                yield LocalBound(BY, label, state.name, "state", 0, np.array([2.0]), layer.weight.name)
        return
    sums = layer.matrices(change).sum(axis=1)
    if layer.op_type == "ConvTranspose":
        sums = sums.reshape(layer.groups, layer.shape[1], -1).sum(axis=2)
    factor = abs(layer.node.attr("alpha", 1.0)) if layer.op_type == "Gemm" else 1.0
    yield LocalBound(BY, label, y, "linear", _axis(layer), factor * sums.reshape(-1), layer.weight.name)


def of_bias(layer: Linear, before: Array, after: Array) -> LocalBound:
    """What a change of the bias adds."""
    graph = layer.node.graph
    change = np.abs(after.astype(np.float64) - before.astype(np.float64)).reshape(-1)
    factor = abs(layer.node.attr("beta", 1.0)) if layer.op_type == "Gemm" else 1.0
    label, y = "" if graph is None else graph.label, layer.node.outputs[0].name
    return LocalBound(BY, label, y, "absolute", _axis(layer), factor * change)


def _axis(layer: Linear) -> int:
    """Along which axis of y the outputs run."""
    if layer.kernel:
        return 1
    if layer.op_type == "Gemm":
        return layer.slot
    return -1 if layer.slot else -2
