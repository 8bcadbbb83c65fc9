"""Rounding of the weights of units that run in integers, and of what it moves outputs by on the mean.

Where the rounding of a weight to nearest is expected to cost the outputs less than a tenth of what the rounding of the
inputs costs them, better codes would save less than a tenth, and nearest stays. The mean of what is left goes into the
bias: of the unit if it has one, of the Add behind a MatMul if that is computed in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ....ir import Value
from ...calibrate.stream import observe
from ...manager.context import Context
from ..repair.bias import PURPOSE, put
from ..repair.bias import tell as tell_bias
from ..repair.places import Place, add_behind, place_of
from ..repair.shift import Correction, Shift
from ..static.coder import Coder
from ..static.units import Unit
from .choice import Rounded, Task
from .observed import Halves, Pairs, grams, need
from .options import Rounder
from .product import Product, products
from .run import BY, RULE, tell
from .sequential import Line

BITS = 8
"""Of the levels of a weight."""
WORTH = 0.1
"""The error of a weight, as a share of that of the input, from which on rounding is looked at."""


def rounded_weights(ctx: Context, coder: Coder, units: Sequence[Unit], options: Rounder) -> None:
    """Give `coder` better codes for the weights of `units`, by inputs as they are in float; the model stays as it is.
    What is found is told by `rounded_units`."""
    work = _Work(ctx, coder, units, options)
    found = products(coder, units)
    work.find(found, work.shifts(found))


def rounded_units(ctx: Context, coder: Coder, units: Sequence[Unit], options: Rounder) -> None:
    """Give `coder` better codes for the weights of `units`, where it has none yet, and better biases, as far as
    `options` allow."""
    work = _Work(ctx, coder, units, options)
    if options.is_sequential(BITS):
        work.one_after_the_other()
    else:
        work.each_alone()


@dataclass(frozen=True)
class _Work:
    ctx: Context
    coder: Coder
    units: Sequence[Unit]
    options: Rounder

    def each_alone(self) -> None:
        """By inputs as they are in float."""
        found = products(self.coder, self.units)
        shifts = self.shifts(found)
        self.find(found, shifts)
        for product in found:
            self._tell(product)
            if self.options.corrects:
                shift = shifts.get(product)
                decoded = product.coded.decoded()
                self._correct(product, None if shift is None else shift.correction(product.weight, decoded))

    def one_after_the_other(self) -> None:
        """By inputs as they are once all before them runs in integers."""
        found = products(self.coder, self.units)
        small = {product: product.views for product in found if not self._too_large(product, Pairs)}
        others = [unit for unit in self.units if unit.weight < 0]

        def stand(done: Sequence[Product]) -> None:
            taken = {unit for product in found if product in done or product not in small for unit in product.units}
            self.coder.emit([unit for unit in self.units if unit in taken or unit in others])

        for product in found:
            if product not in small:
                product.take(self._too_large(product, Pairs))
        line = Line(self.ctx, small, stand, self.options.memory, lambda one: partial(one.coder.rounded, one.unit))
        for product, moments in line.moments():
            if isinstance(moments, str):
                product.take(moments)
                continue
            task = Task(product.weight, product.grid, product.views[0], moments)
            product.take(self._best(product, task))
            if self.options.corrects:
                new = task.decoded(product.grid.choose(product.coded.levels))
                self._correct(product, moments.correction(task.matrices, new))
        for product in found:
            self._tell(product)

    def shifts(self, found: Sequence[Product]) -> dict[Product, Shift]:
        """The moments of the inputs of products, of those that can be observed."""
        shifts = {each: Shift(each.layer, partial(each.coder.rounded, each.unit)) for each in found}
        observers: dict[Value, list[Shift]] = {}
        for shift in shifts.values():
            observers.setdefault(shift.layer.x, []).append(shift)
        blind = set(observe(self.ctx, observers, purpose=PURPOSE))
        return {product: shift for product, shift in shifts.items() if shift.layer.x not in blind}

    def find(self, found: Sequence[Product], shifts: Mapping[Product, Shift]) -> None:
        """Take better codes for those that have none yet."""
        if not self.options.rounds:
            return
        wanted = []
        for product in (each for each in found if not each.coded.found):
            reason = self._why_nearest(product, shifts)
            if reason:
                product.take(reason)
            else:
                wanted.append(product)
        moments = grams(self.ctx, [product.views for product in wanted], self.options.memory)
        for product, each in zip(self.ctx.progress.track(wanted, "rounding"), moments, strict=True):
            if isinstance(each, str):
                product.take(each)
            else:
                product.take(self._best(product, Task(product.weight, product.grid, product.views[0], each)))

    def _why_nearest(self, product: Product, shifts: Mapping[Product, Shift]) -> str:
        """Why better codes would save too little, or cannot be looked for; empty if they are to be."""
        if product not in shifts:
            return "the input of a reader cannot be observed"
        of_weight, of_input = shifts[product].errors(product.weight, product.coded.decoded())
        if of_weight < WORTH * of_input:
            return f"that is expected to cost {of_weight / of_input:.2g} of what the rounding of its input does"
        return self._too_large(product, Halves)

    def _too_large(self, product: Product, kind: type[Halves] | type[Pairs]) -> str:
        size, memory = need(product.views, kind), self.options.memory
        return f"second moments of its input would take {size} bytes, and moments={memory}" if size > memory else ""

    def _best(self, product: Product, task: Task) -> Rounded:
        return task.best(self.options.rounding, self.options.clip if product.has_room else "none")

    def _tell(self, product: Product) -> None:
        """How the codes were found, or why they are the nearest."""
        found = product.coded.found
        if isinstance(found, Rounded):
            tell(self.ctx, product.name, found)
        elif found:
            self.ctx.remarks.missed(product.name, f"rounded to nearest: {found}", rule=RULE)

    def _correct(self, product: Product, found: Correction | None) -> None:
        """Add to the bias of a product what saves on held-out samples; a remark says why not."""
        place = None if product.bias is not None else self._behind(product)
        if len(product.units) > 1 or (product.bias is None and place is None):
            why = "others share its weight" if len(product.units) > 1 else "it has none that is added to its sums"
            self.ctx.remarks.missed(product.label, f"its bias stays: {why}", rule="bias")
        elif tell_bias(self.ctx, product.label, found):
            assert found is not None
            if place is None:
                product.move(found.amounts)
            else:
                put(self.ctx, place, found, BY)

    def _behind(self, product: Product) -> Place | None:
        """The place of a MatMul with an Add behind it that is computed in float."""
        node, taken = product.unit.node, {node for unit in self.units for node in (unit.node, unit.tail)}
        shape = self.ctx.shapes().shape(node.outputs[0])
        place = place_of(node, None if shape is None else len(shape)) if node.op_type == "MatMul" else None
        behind = None if place is None else add_behind(place)
        return place if behind is not None and behind[0] not in taken else None
