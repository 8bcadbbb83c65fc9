"""Second moments of the inputs of layers, of two sets of samples: one to fit, one to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Value
from ....ir.analysis.linear import Linear
from ...calibrate.moments import Moments
from ...calibrate.stream import observe
from ...manager.context import Context
from .lattice import Float64
from .view import Array, View

HELD_OUT = 4
"""One sample of so many is held out."""


class Halves:
    """An observer of the input of one layer: every fourth sample, from the second on, goes to `held`, the others to
    `fit`. Inside loops the first axis of what is observed are the iterations."""

    def __init__(self, layer: Linear) -> None:
        self.fit, self.held = Moments(layer), Moments(layer)
        self._is_stacked = _is_in_a_loop(layer.x)
        self._seen = 0

    @staticmethod
    def nbytes_for(layer: Linear) -> int:
        """Bytes that both take."""
        return 2 * Moments.nbytes_for(layer)

    def update(self, array: Array) -> None:
        """Take one sample into account."""
        moments = self.held if self._seen % HELD_OUT == 1 else self.fit
        self._seen += 1
        for one in array if self._is_stacked else (array,):
            moments.update(one)


@dataclass(frozen=True)
class Grams:
    """E[x'x] of the samples to fit and of those held out, `[groups, k, k]`, over all readers of a weight."""

    fit: Float64
    held: Float64


def grams(ctx: Context, wanted: Sequence[Sequence[View]], memory: int) -> Iterator[Grams | str]:
    """For the readers of every weight (of one weight or more) their second moments, in order, or why there are none.

    The samples are walked through as often as `memory`, the bytes of moments held at a time, makes necessary.
    """
    for batch in _batches(wanted, memory):
        known: dict[object, Halves] = {}
        for readers in batch:
            for view in readers:
                known.setdefault(_key(view.layer), Halves(view.layer))
        observers: dict[Value, list[Halves]] = {}
        for halves in known.values():
            observers.setdefault(halves.fit.layer.x, []).append(halves)
        left_out = observe(ctx, observers, purpose="rounding")
        for readers in batch:
            yield _of(readers, known, left_out)


def _batches(wanted: Sequence[Sequence[View]], memory: int) -> Iterator[list[Sequence[View]]]:
    """The weights in order, in groups whose moments fit."""
    batch: list[Sequence[View]] = []
    held: set[object] = set()
    room = memory
    for readers in wanted:
        new = {_key(view.layer): Halves.nbytes_for(view.layer) for view in readers}
        need = sum(size for key, size in new.items() if key not in held)
        if batch and need > room:
            yield batch
            batch, held, room, need = [], set(), memory, sum(new.values())
        batch.append(readers)
        held |= new.keys()
        room -= need
    if batch:
        yield batch


def need(readers: Sequence[View]) -> int:
    """Bytes of the moments of the readers of one weight."""
    return sum({_key(view.layer): Halves.nbytes_for(view.layer) for view in readers}.values())


def _key(layer: Linear) -> object:
    """The same for layers whose inputs have the same moments."""
    return layer.x if layer.op_type == "MatMul" and layer.slot == 1 else (layer.node, layer.slot)


def _of(readers: Sequence[View], known: dict[object, Halves], left_out: Sequence[Value]) -> Grams | str:
    if any(view.layer.x in left_out for view in readers):
        return "the input of a reader cannot be observed"
    found = [known[_key(view.layer)] for view in readers]
    fit, held = [halves.fit for halves in found], [halves.held for halves in found]
    if not all(any(moments.count for moments in each) for each in (fit, held)):
        return "it takes two samples at least that reach a reader"
    return Grams(_mean(fit), _mean(held))


def _mean(moments: Sequence[Moments]) -> Float64:
    return np.asarray(sum(one.second for one in moments) / sum(one.count for one in moments), np.float64)


def _is_in_a_loop(value: Value) -> bool:
    graph = value.graph
    while graph is not None and graph.parent is not None:
        if not graph.parent.is_op("If"):
            return True
        graph = graph.parent.graph
    return False
