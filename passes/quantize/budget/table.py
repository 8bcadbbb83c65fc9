"""The table of the report: for every weight its type, bytes and error, and what a type of fewer bits would change."""

from __future__ import annotations

from collections.abc import Sequence

from ...manager.context import Context
from ...manager.layer_rows import Cell, LayerRow
from ...manager.units import show_size
from ..plan import Plan
from .knapsack import Option
from .losses import Losses

BY = "quantize-insert, types"


def add_row(ctx: Context, plans: Sequence[Plan], losses: Losses, options: Sequence[Option], pick: int) -> None:
    """A row for the weight of `plans`, of which the one at `pick` was taken; one more stands for float."""
    first, is_float = plans[0], pick == len(plans)
    cells: dict[str, Cell] = {
        "type": "float" if is_float else type_of(plans[pick]),
        "bytes": options[pick].cost,
        "of": first.tensor.nbytes,
        "layer's error": 0.0 if is_float else losses.layer[pick] ** 0.5,
        "outputs'": options[pick].loss ** 0.5,
        "why": _why(plans, losses, options, pick),
    }
    ctx.layers.append(LayerRow(BY, f"{first.graph.label}/{first.value.name}", cells))


def type_of(plan: Plan) -> str:
    """For people."""
    block = "" if plan.grid.block is None else f" in blocks of {plan.grid.block.size}"
    return plan.grid.alphabet.name + block


def _why(plans: Sequence[Plan], losses: Losses, options: Sequence[Option], pick: int) -> str:
    unseen = "" if losses.is_seen else "the data never reach it; "
    smaller = [i for i in range(len(plans)) if options[i].cost < options[pick].cost]
    if not smaller:
        return f"{unseen}nothing is smaller"
    next_ = max(smaller, key=lambda i: options[i].cost)
    saved = show_size(options[pick].cost - options[next_].cost)
    return f"{unseen}{type_of(plans[next_])} would save {saved} and err by {options[next_].loss ** 0.5:.2g}"
