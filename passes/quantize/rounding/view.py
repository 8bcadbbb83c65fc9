"""How a constant is seen as the matrices of the linear layers that read it, and which second moments belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....ir import Graph
from ....ir.analysis.linear import Linear, linear_at
from ..sites import Readers, Site

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class View:
    """A constant of `shape`, whose axes are permuted by `order` on their way to a layer, as matrices of that layer."""

    layer: Linear
    order: tuple[int, ...]

    def matrices(self, array: Array) -> Array:
        """The matrices `[groups, k, n]` of an array of the constant's shape."""
        return self.layer.matrices(array.transpose(self.order))

    def array(self, matrices: Array) -> Array:
        """The array of the constant's shape that has these matrices."""
        return np.ascontiguousarray(self.layer.weight_of(matrices).transpose(np.argsort(self.order)))

    def agrees(self, other: View, shape: tuple[int, ...]) -> bool:
        """Whether both see the same matrices in a constant of `shape`."""
        mine, theirs = self.layer, other.layer
        if (mine.groups, mine.k, mine.n) != (theirs.groups, theirs.k, theirs.n):
            return False
        places = np.arange(int(np.prod(shape))).reshape(shape)
        return np.array_equal(self.matrices(places), other.matrices(places))


def view_of(site: Site, shape: Sequence[int]) -> View | None:
    """The view of one reader of a constant of `shape`; None if it does not read all of it as matrices of a layer."""
    layout = site.layout
    if not layout.whole or layout.axes is None:
        return None
    order = tuple(axis for axis in layout.axes if axis is not None)
    if len(order) != len(layout.axes) or sorted(order) != list(range(len(shape))):
        return None
    layer = linear_at(site.node, site.slot, tuple(shape[axis] for axis in order))
    return None if layer is None else View(layer, order)


def views(readers: Readers, shape: tuple[int, ...]) -> list[View] | str:
    """How each of the readers of a constant of `shape` sees it, all in the same way; or why there is no such way."""
    for other in readers.others:
        who = "an output of a graph" if isinstance(other, Graph) else other.op_type
        return f"{who} reads it, which is no linear layer"
    found = []
    for site in readers.sites:
        view = view_of(site, shape)
        if view is None:
            return f"{site.node.op_type} reads it, and not as the matrices of a linear layer"
        found.append(view)
    return found if all(found[0].agrees(view, shape) for view in found[1:]) else "its readers see different matrices"
