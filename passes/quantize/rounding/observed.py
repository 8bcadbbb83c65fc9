"""Second moments of the inputs of layers, of two sets of samples: one to fit, one to judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ....ir import Value
from ....ir.analysis.linear import Linear
from ...calibrate.moments import ROWS as MOST
from ...calibrate.moments import Moments
from ...calibrate.refit import Refit
from ...calibrate.stream import observe
from ...manager.context import Context
from ..repair.shift import RoundTrip
from .lattice import Float64
from .seen import Grams, Seen
from .view import Array, View

T = TypeVar("T")
ROWS = 2048
"""Rows of one sample that are taken at most, if that is four times as many as they are long."""
HELD_OUT = 4
"""One sample of so many is held out."""


class Halves:
    """An observer of the input of one layer: every fourth sample, from the second on, goes to `held`, the others to
    `fit`. Inside loops the first axis of what is observed are the iterations."""

    def __init__(self, layer: Linear) -> None:
        self.fit, self.held = Moments(layer, _rows(layer)), Moments(layer, _rows(layer))
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


class Pairs:
    """An observer of what the input of one layer was and is: as `Halves`, of both, with E[x'x] of what was held out."""

    def __init__(self, layer: Linear, rounded: RoundTrip | None = None) -> None:
        """`rounded` quantizes the input as it is."""
        self.fit, self.held = (Refit(layer, layer, _rows(layer)) for _ in range(2))
        self.was = Moments(layer, _rows(layer))
        self._rounded = rounded
        self._is_stacked = _is_in_a_loop(layer.x)
        self._seen = 0

    @staticmethod
    def nbytes_for(layer: Linear) -> int:
        """Bytes that all take."""
        return 2 * Refit.nbytes_for(layer, layer) + Moments.nbytes_for(layer)

    def update(self, before: Array, after: Array) -> None:
        """Take one sample into account."""
        is_held = self._seen % HELD_OUT == 1
        after = after if self._rounded is None else self._rounded(after)
        self._seen += 1
        for old, new in zip(before, after, strict=True) if self._is_stacked else ((before, after),):
            (self.held if is_held else self.fit).update(old, new)
            if is_held:
                self.was.update(old)


def grams(ctx: Context, wanted: Sequence[Sequence[View]], memory: int) -> Iterator[Grams | str]:
    """For the readers of every weight (of one weight or more) their second moments, in order, or why there are none.

    The samples are walked through as often as `memory`, the bytes of moments held at a time, makes necessary.
    """
    sizes = [{_key(view.layer): Halves.nbytes_for(view.layer) for view in readers} for readers in wanted]
    for batch in in_groups(wanted, sizes, memory):
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


def in_groups(items: Sequence[T], sizes: Sequence[Mapping[object, int]], memory: int) -> Iterator[list[T]]:
    """Items in order, in groups whose moments fit; `sizes` are the bytes of each by what is observed, which is held
    once for all that ask for it."""
    group: list[T] = []
    held: set[object] = set()
    room = memory
    for item, new in zip(items, sizes, strict=True):
        need = sum(size for key, size in new.items() if key not in held)
        if group and need > room:
            yield group
            group, held, room, need = [], set(), memory, sum(new.values())
        group.append(item)
        held |= new.keys()
        room -= need
    if group:
        yield group


def need(readers: Sequence[View], kind: type[Halves] | type[Pairs]) -> int:
    """Bytes of the moments of the readers of one weight."""
    return sum({_key(view.layer): kind.nbytes_for(view.layer) for view in readers}.values())


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
    judged = Seen.same(_mean(held, "second"), _mean(held, "first"))
    return Grams(Seen.same(_mean(fit, "second"), _mean(fit, "first")), judged, judged.now)


def _mean(moments: Sequence[Moments | Refit], of: str) -> Float64:
    return np.asarray(sum(getattr(one, of) for one in moments) / sum(one.count for one in moments), np.float64)


def _rows(layer: Linear) -> int:
    """Rows of one sample that are enough."""
    return min(MOST, max(ROWS, 4 * layer.k))


def _is_in_a_loop(value: Value) -> bool:
    graph = value.graph
    while graph is not None and graph.parent is not None:
        if not graph.parent.is_op("If"):
            return True
        graph = graph.parent.graph
    return False
