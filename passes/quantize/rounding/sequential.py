"""Layers one after the other: each sees what those before it, quantized, make of the samples.

Layers go by depth, in groups whose moments fit. For a group the model is brought to what it will be once all before it
is done, is run beside the model as it was, and is taken back: of the samples, the moments of the inputs are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ....ir import Model, Node, Value, clone_model
from ....ir.analysis.shapes import Shapes, infer_shapes
from ...calibrate.refit import Refit
from ...calibrate.stream import PairObserver, observe_pairs
from ...manager.context import Context
from ..repair.shift import RoundTrip
from .observed import Pairs, in_groups
from .order import depths
from .seen import Grams, Seen
from .view import View

T = TypeVar("T")


@dataclass(frozen=True)
class Line(Generic[T]):
    """Weights of `ctx.model` in the order in which they are rounded, with the views of their readers.

    `stand(done)` brings the model to what it will be once `done` are quantized.
    """

    ctx: Context
    views: Mapping[T, Sequence[View]]
    stand: Callable[[Sequence[T]], None]
    memory: int
    rounded: Callable[[T], RoundTrip | None] = lambda item: None
    """What quantizes the input of a weight's readers."""

    def moments(self) -> Iterator[tuple[T, Grams | str]]:
        """For each weight, in order, the moments of its inputs, or why there are none. Each is to be rounded before the
        next is asked for."""
        copies: dict[Value, Value] = {}
        original = clone_model(self.ctx.model, copies)
        shapes = infer_shapes(original)
        done: list[T] = []
        for group in self.ctx.progress.track(list(self._groups()), "rounding"):
            pairs = self._observed(original, shapes, copies, done, group)
            for item in group:
                yield item, _moments([pairs.get(_key(view)) for view in self.views[item]])
            done += group

    def _groups(self) -> Iterator[list[T]]:
        """Those of one depth, in groups whose moments fit. A weight of several readers goes by the first of them."""
        nodes = {view.layer.node for views in self.views.values() for view in views}
        found = depths(self.ctx.model, nodes)
        levels: dict[int, list[T]] = {}
        for item, views in self.views.items():
            levels.setdefault(min(found[view.layer.node] for view in views), []).append(item)
        for _, level in sorted(levels.items()):
            sizes: list[dict[object, int]] = [
                {_key(view): Pairs.nbytes_for(view.layer) for view in self.views[item]} for item in level
            ]
            yield from in_groups(level, sizes, self.memory)

    def _observed(
        self,
        original: Model,
        shapes: Shapes,
        copies: Mapping[Value, Value],
        done: Sequence[T],
        group: Sequence[T],
    ) -> dict[object, Pairs]:
        """The moments of the inputs of a group, by reader, of those that can be observed."""
        views = {_key(view): view for item in group for view in self.views[item]}
        pairs = {_key(view): Pairs(view.layer, self.rounded(item)) for item in group for view in self.views[item]}
        before = self.ctx.checkpoint()
        self.stand(done)
        observers: dict[tuple[Value, Value], list[PairObserver]] = {}
        where: dict[tuple[Value, Value], list[object]] = {}
        for key, view in views.items():
            now = view.layer.node.inputs[1 - view.layer.slot]
            assert now is not None
            both = copies[view.layer.x], now
            observers.setdefault(both, []).append(pairs[key])
            where.setdefault(both, []).append(key)
        blind = observe_pairs(self.ctx, original, observers, purpose="rounding", shapes=shapes)
        self.ctx.rollback(before)
        unseen = {key for both in blind for key in where[both]}
        return {key: each for key, each in pairs.items() if key not in unseen}


def _key(view: View) -> tuple[Node | Value, int]:
    """The same for layers whose inputs have the same moments."""
    layer = view.layer
    return (layer.x, 1) if layer.op_type == "MatMul" and layer.slot == 1 else (layer.node, layer.slot)


def _moments(found: Sequence[Pairs | None]) -> Grams | str:
    known = [pairs for pairs in found if pairs is not None]
    if len(known) < len(found):
        return "the input of a reader cannot be observed"
    fit, held = [pairs.fit for pairs in known], [pairs.held for pairs in known]
    if not all(any(one.count for one in each) for each in (fit, held)):
        return "it takes two samples at least that reach a reader"
    was = sum(pairs.was.second for pairs in known) / sum(one.count for one in held)
    return Grams(_seen(fit), _seen(held), np.asarray(was))


def _seen(found: Sequence[Refit]) -> Seen:
    count = sum(one.count for one in found)
    sums = ([getattr(one, name) for one in found] for name in ("second", "cross", "first_new", "first_old"))
    return Seen(*(np.asarray(sum(each) / count) for each in sums))
