"""Rounding of the weights of units that run in integers, and of what it moves outputs by on the mean.

Where the rounding of a weight to nearest is expected to cost the outputs less than a tenth of what the rounding of the
inputs costs them, better codes would save less than a tenth, and nearest stays. The mean of what is left goes into the
bias: of the unit if it has one, of the Add behind a MatMul if that is computed in float.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from ....ir import Node, Value
from ...calibrate.stream import observe
from ...manager.context import Context
from ..levels import Grid
from ..repair.bias import PURPOSE, put
from ..repair.bias import tell as tell_bias
from ..repair.places import Place, add_behind, place_of
from ..repair.shift import Shift
from ..static.coder import Coder
from ..static.units import Unit
from .choice import Task
from .observed import Grams, grams, need
from .options import Rounder
from .product import Product, products
from .run import BY, RULE, tell

WORTH = 0.1
"""The error of a weight, as a share of that of the input, from which on rounding is looked at."""


def rounded_units(
    ctx: Context, coder: Coder, units: Sequence[Unit], options: Rounder | None, *, corrects: bool
) -> None:
    """Give `coder` better codes for the weights of `units` where `options` allow them, and biases if it `corrects`."""
    found = products(coder, units)
    shifts = _shifts(ctx, found)
    grids = {product: product.grid for product in found}
    if options is not None:
        grids |= _rounded(ctx, [product for product in found if _is_worth(ctx, product, shifts, options)], options)
    taken = {node for unit in units for node in (unit.node, unit.tail) if node is not None}
    for product, grid in grids.items():
        product.take(grid)
        if corrects:
            _correct(ctx, product, shifts.get(product), taken)


def _shifts(ctx: Context, found: Sequence[Product]) -> dict[Product, Shift]:
    """The moments of the inputs of products, of those that can be observed."""
    shifts = {each: Shift(each.layer, partial(each.coder.rounded, each.unit)) for each in found}
    observers: dict[Value, list[Shift]] = {}
    for shift in shifts.values():
        observers.setdefault(shift.layer.x, []).append(shift)
    blind = set(observe(ctx, observers, purpose=PURPOSE))
    return {product: shift for product, shift in shifts.items() if shift.layer.x not in blind}


def _is_worth(ctx: Context, product: Product, shifts: dict[Product, Shift], options: Rounder) -> bool:
    """Whether better codes could save enough, and can be looked for; a remark says why not."""
    reason = ""
    size = need(product.views)
    if product not in shifts:
        reason = "the input of a reader cannot be observed"
    elif size > options.memory:
        reason = f"second moments of its input would take {size} bytes, and moments={options.memory}"
    else:
        of_weight, of_input = shifts[product].errors(product.weight, product.coded.decoded())
        if of_weight < WORTH * of_input:
            reason = f"that is expected to cost {of_weight / of_input:.2g} of what the rounding of its input does"
    if reason:
        ctx.remarks.missed(product.name, f"rounded to nearest: {reason}", rule=RULE)
    return not reason


def _rounded(ctx: Context, wanted: Sequence[Product], options: Rounder) -> dict[Product, Grid]:
    found = {}
    moments = grams(ctx, [product.views for product in wanted], options.memory)
    for product, each in zip(ctx.progress.track(list(wanted), "rounding"), moments, strict=True):
        if isinstance(each, str):
            ctx.remarks.missed(product.name, f"rounded to nearest: {each}", rule=RULE)
        else:
            found[product] = _best(ctx, product, each, options)
    return found


def _best(ctx: Context, product: Product, moments: Grams, options: Rounder) -> Grid:
    task = Task(product.weight, product.grid, product.views[0], moments.fit, moments.held)
    best = task.best(options.rounding, options.clip if product.has_room else "none")
    tell(ctx, product.name, best)
    return best.grid


def _correct(ctx: Context, product: Product, shift: Shift | None, taken: Collection[Node]) -> None:
    """Add to the bias of a product what saves on held-out samples; a remark says why not."""
    place = None if product.bias is not None else _behind(ctx, product, taken)
    if len(product.units) > 1 or (product.bias is None and place is None):
        why = "others share its weight" if len(product.units) > 1 else "it has none that is added to its sums"
        ctx.remarks.missed(product.label, f"its bias stays: {why}", rule="bias")
        return
    found = None if shift is None else shift.correction(product.weight, product.coded.decoded())
    if not tell_bias(ctx, product.label, found):
        return
    assert found is not None
    if place is None:
        product.move(found.amounts)
    else:
        put(ctx, place, found, BY)


def _behind(ctx: Context, product: Product, taken: Collection[Node]) -> Place | None:
    """The place of a MatMul with an Add behind it that is computed in float."""
    node = product.unit.node
    shape = ctx.shapes().shape(node.outputs[0])
    place = place_of(node, None if shape is None else len(shape)) if node.op_type == "MatMul" else None
    behind = None if place is None else add_behind(place)
    return place if behind is not None and behind[0] not in taken else None
